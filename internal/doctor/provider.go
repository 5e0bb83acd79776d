package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// ProviderOptions say which provider is looked at, as the labels of one tenant name it.
type ProviderOptions struct {
	Client provider.Client // Tenant and Named are set here
	// Ring has the client's key and opens a sealed secret; nil: neither is needed.
	Ring    *sealing.Ring
	Getenv  func(string) string // reads env:NAME
	CA      *x509.CertPool      // authorities beside those of the system; nil: none
	Timeout time.Duration       // of one authorization request; default 10 s
	Brief   bool                // the discovery document alone
	// Login is a person who logs in; nil: nobody does.
	Login *ProviderLogin

	Found func(report.Finding) // told each line at once; may be nil
	Say   func(string)         // told what a slow step waits for; may be nil
}

// examination is one look at one provider. What the sidecar would do is asked of the sidecar's own
// code: this file asks nothing but the authorization endpoint by itself.
type examination struct {
	ProviderOptions
	*report.Report
	wire *wire
	all  *provider.Providers
	p    *provider.Provider

	listsS256 bool
}

// RunProvider looks at one provider, and without a Login logs nobody in. It sends one request for
// the discovery document, one for the keys, at most three authorization requests, whose redirects
// are followed at the provider itself, and at most two codes that nobody gave out, the second with
// a secret that nobody has.
func RunProvider(ctx context.Context, o ProviderOptions) *report.Report {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	e := &examination{ProviderOptions: o, Report: &report.Report{Subject: "the provider " + o.Client.Issuer}}
	if e.Ring == nil {
		ring, err := oneTimeRing()
		if err != nil {
			e.Unable = err.Error()
			return e.Report
		}
		e.Ring = ring
	}
	if e.Getenv == nil {
		e.Getenv = func(string) string { return "" }
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = &tls.Config{RootCAs: o.CA}
	e.wire = &wire{next: outgoing.NewTransport(base)}
	e.all = &provider.Providers{Ring: e.Ring, Transport: e.wire, Now: time.Now, Wait: outgoing.Wait, Getenv: e.Getenv, Log: slog.New(slog.DiscardHandler)}
	e.Client.Named = slog.String("tenant", "doctor")
	e.walk(ctx)
	e.say("")
	return e.Report
}

// oneTimeRing is for a client whose proof needs no master secret.
func oneTimeRing() (*sealing.Ring, error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return sealing.ParseRing(base64.StdEncoding.EncodeToString(secret))
}

// wire remembers the last answer to each address, so that a line can say what came. No line shows a
// body: only members that are named here are read.
type wire struct {
	next http.RoundTripper

	mu     sync.Mutex // guards what follows for one access
	last   map[string]*seenAnswer
	losing string // the address whose next answer gets lost; empty: none
	lost   []byte // its body
}

// lose lets the next answer of an address get lost, when it has been given.
func (w *wire) lose(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losing, _, _ = strings.Cut(address, "?")
	w.lost = nil
}

func (w *wire) wasLost() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

type seenAnswer struct {
	status int
	header http.Header
	tls    *tls.ConnectionState
	body   []byte
	at     time.Time
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a := &seenAnswer{status: resp.StatusCode, header: resp.Header, tls: resp.TLS, at: time.Now()}
	// One byte more than the sidecar reads: it has to see for itself that an answer is too long.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20+1))
	resp.Body.Close()
	if err != nil {
		body, resp.Body = nil, io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	} else {
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	a.body = body
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[string]*seenAnswer{}
	}
	address := r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
	w.last[address] = a
	if address == w.losing {
		w.losing, w.lost = "", body
		return nil, io.ErrUnexpectedEOF
	}
	return resp, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (w *wire) seen(address string) *seenAnswer {
	w.mu.Lock()
	defer w.mu.Unlock()
	address, _, _ = strings.Cut(address, "?")
	if a := w.last[address]; a != nil {
		return a
	}
	return &seenAnswer{header: http.Header{}}
}

// The functions that are marked so are as those in doctor.go.
//
//go:noinline
func (e *examination) say(text string) {
	if e.Say != nil {
		e.Say(text)
	}
}

//go:noinline
func (e *examination) found(f *report.Finding) {
	e.Add(*f)
	if e.Found != nil {
		e.say("")
		e.Found(*f)
	}
}

//go:noinline
func (e *examination) good(check, seen string) { e.found(&report.Finding{Check: check, Seen: seen}) }

//go:noinline
func (e *examination) note(check, seen, remedy, page string) {
	e.found(&report.Finding{Check: check, Seen: seen, Note: true, Remedy: remedy, Page: page})
}

// wrong is a fault that no login gets past.
//
//go:noinline
func (e *examination) wrong(check, expected, seen string, fault report.Fault, remedy, page string) {
	e.found(&report.Finding{Check: check, Expected: expected, Seen: seen, Fault: fault, Breaks: []string{report.EveryClient}, Remedy: remedy, Page: page})
}

const (
	recipesPage   = "docs/recipes.md"
	providersPage = "docs/providers.md"
	replayPage    = "docs/replay.md"
	secretsPage   = "docs/secrets.md"
	loginFails    = "docs/troubleshooting.md#the-login-fails"
)

func (e *examination) walk(ctx context.Context) {
	e.say("discovery of " + e.Client.Issuer)
	p, err := e.all.Discover(ctx, &e.Client)
	if err != nil {
		e.undiscovered(err)
		return
	}
	document := strings.TrimSuffix(e.Client.Issuer, "/") + "/.well-known/openid-configuration"
	first := p.Facts()
	if first.OpenID {
		e.good("discovery", "the document's issuer is the label's, and its endpoints can be asked")
	} else if document = first.WhoEndpoint; !e.madeUpToken(ctx, first) {
		return
	}
	e.certificate(e.wire.seen(document))
	if e.clock(e.wire.seen(document)); e.Brief {
		return
	}
	if e.p, err = e.all.Connect(ctx, &e.Client); err != nil {
		e.wrong("client authentication", "a client that can prove itself", err.Error(), report.Label, "correct clientSecret or clientAuth", secretsPage)
		e.p = p
	}
	f := e.p.Facts()
	e.kind(f)
	if f.OpenID {
		e.keys(ctx)
		e.pkce(e.wire.seen(document))
		e.authMethods(f)
		e.scopes(f)
		e.offline(f)
	} else {
		e.authMethods(f)
		e.withoutDocument(f)
	}
	e.revocation()
	e.redirectURI(ctx)
	if err != nil {
		return
	}
	e.secret(ctx, f)
	if e.Login != nil {
		e.withLogin(ctx)
	}
}

// madeUpToken asks a provider that has no discovery document whose an access token is that nobody
// gave out. It says whether something answers there.
func (e *examination) madeUpToken(ctx context.Context, f provider.Facts) bool {
	const check, expected = "userinfo", "a made-up access token is refused with 401"
	e.good("discovery", either(f.Kind == "", "none: the endpoints are those of the labels", f.Kind+" has no discovery document: its endpoints are known"))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.WhoEndpoint, nil)
	var resp *http.Response
	if err == nil {
		r.Header.Set("Authorization", "Bearer mcpbouncer-doctor-"+rand.Text())
		r.Header.Set("Accept", "application/json")
		resp, err = outgoing.NewClient(e.wire, e.Timeout).Do(r)
	}
	if err != nil {
		e.wrong(check, expected, outgoing.Redact(err).Error(), report.Provider, "see whether the provider runs, and whether its name leads to it from where the sidecar is; or correct the label "+either(f.Kind == "", "userinfoEndpoint", "providerIssuer"), loginFails)
		return false
	}
	resp.Body.Close()
	seen := fmt.Sprint(resp.StatusCode, " at ", f.WhoEndpoint)
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized:
		e.good(check, "a made-up access token is refused: "+seen)
	case status == http.StatusOK:
		e.wrong(check, expected, seen+": it looks at no token, or is a page", report.Label, "correct the label "+either(f.Kind == "", "userinfoEndpoint", "providerIssuer")+": everybody would be the same person there, or nobody", providersPage)
	case status == http.StatusForbidden || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		e.note(check, seen, "a limit of requests, or an outage: try again later", loginFails)
	default:
		e.wrong(check, expected, seen, report.Label, "correct the label "+either(f.Kind == "", "userinfoEndpoint", "providerIssuer")+": that is not the address at which the provider says whose a token is", providersPage)
	}
	return true
}

// withoutDocument says what is asked of a provider that lists nothing.
func (e *examination) withoutDocument(f provider.Facts) {
	if f.Kind == "" {
		e.note("PKCE", "S256 is sent; nobody knows whether the provider looks at it", "a login shows it (--login): otherwise a stolen code is worth tokens to whoever has the client's secret", providersPage)
	} else {
		e.good("PKCE", "S256 is sent, and "+f.Kind+" looks at it")
	}
	e.good("scopes", "asked for: "+either(len(f.Asked) == 0, "none", strings.Join(f.Asked, " ")))
	switch {
	case e.p.RefreshMode() == "session":
		e.good("offline access", "not asked for: a login lives BOUNCER_SESSION_TTL, and no check ends it before")
	default:
		e.note("offline access", "a refresh token is used if one comes; otherwise an access token that never expires is asked with", "an access token that expires, without a refresh token, makes logins live BOUNCER_SESSION_TTL", replayPage)
	}
}

// undiscovered passes on what the sidecar would log, whose words name the remedy.
func (e *examination) undiscovered(err error) {
	fault, remedy, page := report.Provider, "see whether the provider runs, and whether its name leads to it from where the sidecar is", "docs/troubleshooting.md"
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, provider.ErrSetUp):
		fault, remedy, page = report.Label, "correct the label providerIssuer: it must be what the provider calls itself, to the last slash", recipesPage
	case errors.As(err, &authority):
		fault, remedy = report.Sidecar, "give the sidecar the authority's certificate in a file that SSL_CERT_FILE names; --ca FILE tries it here"
	case errors.Is(err, provider.ErrUnavailable):
		remedy = "the provider, or what stands in front of it, is out of order: see its log"
	}
	e.wrong("discovery", "the provider's document, with the issuer of the label", err.Error(), fault, remedy, page)
}

// certificate says whether the sidecar would trust the provider without being told to.
func (e *examination) certificate(a *seenAnswer) {
	if a.tls == nil || len(a.tls.PeerCertificates) == 0 {
		return
	}
	chain, between := a.tls.PeerCertificates, x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	until := "until " + chain[0].NotAfter.UTC().Format(time.DateOnly)
	if _, err := chain[0].Verify(x509.VerifyOptions{Intermediates: between}); err != nil {
		e.note("certificate", "of an authority that this computer does not trust by itself, "+until, "the sidecar needs its certificate too: SSL_CERT_FILE", "docs/troubleshooting.md")
		return
	}
	e.good("certificate", "of an authority that this computer trusts, "+until)
}

func (e *examination) clock(a *seenAnswer) {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		e.note("clock", "the provider sends no Date", "", "")
		return
	}
	skew := a.at.Sub(date).Round(time.Second)
	if skew.Abs() > sealing.Skew {
		e.wrong("clock", "that of this computer, within "+sealing.Skew.String(), "the provider's Date is "+skew.Abs().String()+map[bool]string{true: " behind", false: " ahead"}[skew > 0], report.Provider,
			"set both clocks by NTP, and the sidecar's: id_tokens are over too early, or not good yet", loginFails)
		return
	}
	e.good("clock", skew.Abs().String()+" off")
}

// kind says which row of what is known is applied.
func (e *examination) kind(f provider.Facts) {
	switch {
	case f.Kind == "":
		e.note("kind", "of no known kind: nothing is taken for granted of it", "its behaviour at refreshes is best tried before many people use it", providersPage)
		return
	case e.p.TakesUsedTokens() != "":
		e.note("kind", f.Kind+": "+e.p.TakesUsedTokens()+", so a stolen one works on unnoticed", "turn on rotation with reuse detection there", replayPage+"#by-provider")
	case f.ReuseEndsAll:
		e.note("kind", f.Kind+": a refresh token that comes twice ends all logins of that person", "several sidecars need one replay guard that they share", replayPage+"#by-provider")
	case e.Client.Refresh == "auto" && e.p.RefreshMode() == "session":
		e.note("kind", f.Kind+": it keeps one refresh token for each person and client, so refresh=auto means session", "who is removed there stays in for BOUNCER_SESSION_TTL", replayPage+"#by-provider")
	default:
		e.good("kind", f.Kind)
	}
}

func (e *examination) keys(ctx context.Context) {
	e.say("keys of " + e.Client.Issuer)
	all, err := e.p.Keys(ctx)
	if err != nil {
		e.wrong("keys", "a JSON Web Key Set at jwks_uri", err.Error(), report.Provider, "let the sidecar read jwks_uri: without keys no login begins, and refreshes get short tokens for two hours", loginFails)
		return
	}
	var used []string
	for _, k := range all {
		switch {
		case k.PassedOver == "":
			used = append(used, fmt.Sprintf("%q", outgoing.PlainText(k.ID, 40)))
		case !k.Meant:
			e.note("keys", fmt.Sprintf("the key %q (%s) is passed over: %s", outgoing.PlainText(k.ID, 40), outgoing.PlainText(k.Type, 20), k.PassedOver), "an id_token that names it is refused: let the provider sign for this client by another key", loginFails)
		}
	}
	if len(used) == 0 {
		e.wrong("keys", "a key of RSA, EC or Ed25519 for signatures", fmt.Sprintf("none among %d that can be used", len(all)), report.Provider, "give the provider a key for RS256 or ES256: HS256 is refused, since the client's secret would be the key", loginFails)
		return
	}
	e.good("keys", fmt.Sprintf("%d that verify signatures: %s", len(used), strings.Join(used[:min(len(used), 5)], ", ")))
}

// pkce reads the one member that the sidecar does not look at: it sends S256 in any case.
func (e *examination) pkce(a *seenAnswer) {
	var document struct {
		Methods *[]string `json:"code_challenge_methods_supported"`
	}
	_ = json.Unmarshal(a.body, &document)
	switch {
	case document.Methods == nil:
		e.note("PKCE", "the document does not say: S256 is sent, and a provider that does not know it ignores it", "", "")
	case !slices.Contains(*document.Methods, "S256"):
		e.note("PKCE", "the document lists no S256, which is sent: "+listed(*document.Methods), "let the provider take S256, so that a stolen code is worth nothing", "")
	default:
		e.listsS256 = true
		e.good("PKCE", "S256 is listed")
	}
}

// listed shows a provider's list, bounded.
func listed(all []string) string {
	if len(all) == 0 {
		return "an empty list"
	}
	return outgoing.PlainText(strings.Join(all, " "), 200)
}

func (e *examination) authMethods(f provider.Facts) {
	if fault := e.p.AuthNote(); fault != "" {
		e.note("client authentication", strings.TrimPrefix(fault, "; "), "some providers take more than they list; the check of the client's secret shows it", "docs/access.md")
		return
	}
	seen := "the sidecar uses " + map[string]string{"basic": "client_secret_basic", "post": "client_secret_post", "none": "no secret (a public client)"}[f.AuthMethod]
	if f.AuthMethod == provider.PrivateKeyJWT {
		seen = "the sidecar uses its own key (private_key_jwt)"
	}
	if f.AuthMethod == "none" && len(f.AuthMethods) > 0 && !slices.Contains(f.AuthMethods, "none") {
		e.note("client authentication", seen+", and the provider lists "+listed(f.AuthMethods), "set clientSecret", secretsPage)
		return
	}
	if len(f.AuthMethods) > 0 {
		seen += "; the provider lists " + strings.Join(f.AuthMethods, ", ")
	}
	e.good("client authentication", seen)
}

// scopes compares what is asked for with what the provider lists, and with what the rules need.
func (e *examination) scopes(f provider.Facts) {
	var unlisted []string
	for _, scope := range e.Client.Scopes {
		if f.Scopes != nil && !slices.Contains(f.Scopes, scope) {
			unlisted = append(unlisted, scope)
		}
	}
	switch {
	case len(unlisted) > 0 && e.p.RefusesForeignScopes():
		e.note("scopes", f.Kind+" does not list "+strings.Join(unlisted, " ")+", and ends a login that asks for a scope which the client may not have", "let the client have it there, or take it out of the label scopes", "docs/access.md#what-the-provider-grants")
	case len(unlisted) > 0:
		e.note("scopes", "the provider does not list "+strings.Join(unlisted, " ")+"; it lists "+listed(f.Scopes), "it may be dropped, refused, or granted to everybody: the check of the redirect URI and a login show which", providersPage)
	case f.Scopes == nil:
		e.good("scopes", "the provider does not list its scopes")
	default:
		e.good("scopes", "all that are asked for are listed")
	}
	if e.Client.RuleNeeds.Email && !slices.Contains(e.Client.Scopes, "email") && (f.Scopes == nil || slices.Contains(f.Scopes, "email")) {
		e.wrong("claims", "the scope email, since a rule looks at the address", "the label scopes does not ask for it", report.Label, "add email to the label scopes", "docs/access.md")
	}
	if claim := e.Client.RuleNeeds.GroupsClaim; claim != "" && slices.Contains(f.Scopes, claim) && !slices.Contains(e.Client.Scopes, claim) {
		e.note("claims", "a rule looks at the claim "+claim+"; the provider lists a scope of that name, which is not asked for", "add it to the label scopes", "docs/access.md")
	}
	if (e.Client.RuleNeeds.Email || e.Client.RuleNeeds.GroupsClaim != "") && f.VouchesByEdov && e.Client.RuleNeeds.Email {
		e.note("claims", f.Kind+" sends no email_verified: an address counts only with the claim xms_edov", "add xms_edov to the application's optional claims", "docs/access.md")
	}
}

// offline says whether logins can be asked after.
func (e *examination) offline(f provider.Facts) {
	switch mode := e.p.RefreshMode(); {
	case mode == "session":
		e.good("offline access", "not asked for: a login lives BOUNCER_SESSION_TTL, and no check ends it before")
	case f.AsksForRefresh:
		e.good("offline access", "asked for")
	case f.Scopes != nil && mode == "upstream":
		e.note("offline access", "refresh=upstream wants a refresh token; the provider lists no offline_access, so none is asked for by name", "if it gives them for a scope only, add that to the label scopes; else let the client there have refresh tokens", replayPage)
	default:
		e.note("offline access", "not asked for by name, since the provider does not list offline_access", "a provider that gives no refresh token makes logins live BOUNCER_SESSION_TTL", replayPage)
	}
}

func (e *examination) revocation() {
	if e.p.RevokesOneLogin() {
		e.good("revocation", "the provider can end one login")
		return
	}
	e.note("revocation", "the provider cannot end one login: a sign-out ends nothing there", "set BOUNCER_REPLAY_GUARD, with which a revoked login ends here", replayPage)
}

// secret presents a code that nobody gave out. A provider that knows the client refuses the code;
// one that does not refuses the client.
func (e *examination) secret(ctx context.Context, f provider.Facts) {
	const check = "client secret"
	e.say("a made-up code at the token endpoint")
	_, _, err := e.p.Redeem(ctx, newSeed(), "doctor-"+rand.Text(), nil)
	var answer struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(e.wire.seen(f.TokenEndpoint).body, &answer)
	proof := "client_id and secret"
	switch f.AuthMethod {
	case "none":
		proof = "client_id"
	case provider.PrivateKeyJWT:
		proof = "client_id and key"
	}
	switch {
	case err == nil, errors.Is(err, provider.ErrRefused):
		e.wrong(check, "a made-up code is refused", "the provider took it: everybody is let in", report.Provider, "do not use this provider", "")
	case errors.Is(err, provider.ErrCode):
		e.looksAtClient(ctx, f, proof, err)
	case errors.Is(err, provider.ErrOurFault) && slices.Contains([]string{"invalid_client", "unauthorized_client", "incorrect_client_credentials"}, answer.Error):
		e.wrong(check, "a made-up code is refused, not the client", err.Error(), report.Label, "check clientID and clientSecret, and the way in which the client is registered there (clientAuth)", secretsPage)
	case errors.Is(err, provider.ErrOurFault):
		e.note(check, "not told apart: "+err.Error(), "the words are not those for a code that is worth nothing, so a client would hear server_error; a login shows whether the secret is right", loginFails)
	default:
		e.wrong(check, "an answer of the token endpoint", err.Error(), report.Provider, "see whether the sidecar's network reaches the token endpoint", loginFails)
	}
}

// looksAtClient presents a second code, as a client that nobody knows. Some providers look at the
// code first: then the refusal of the first says nothing of the secret.
func (e *examination) looksAtClient(ctx context.Context, f provider.Facts, proof string, refusal error) {
	const check = "client secret"
	other, all := e.Client, e.all
	switch f.AuthMethod {
	case "none":
		other.ID = "mcpbouncer-doctor-" + rand.Text()
	case provider.PrivateKeyJWT:
		ring, err := oneTimeRing()
		if err != nil {
			return
		}
		all = &provider.Providers{Ring: ring, Transport: e.wire, Now: time.Now, Wait: outgoing.Wait, Getenv: e.Getenv, Log: e.all.Log}
	default:
		other.Secret = "mcpbouncer-doctor-" + rand.Text()
	}
	p, err := all.Connect(ctx, &other)
	if err == nil {
		_, _, err = p.Redeem(ctx, newSeed(), "doctor-"+rand.Text(), nil)
	}
	if errors.Is(err, provider.ErrOurFault) {
		e.good(check, "the provider takes "+proof+", and refuses a made-up code: "+refusal.Error())
		return
	}
	e.note(check, "not told apart: a made-up code is refused in the same way from a client that nobody knows ("+refusal.Error()+")", "the provider looks at the code first: a login shows whether the secret is right", loginFails)
}

func newSeed() (seed sealing.LoginSeed) {
	rand.Read(seed[:]) // never fails
	return seed
}

// strangersURI is registered nowhere (RFC 6761 section 6.4).
const strangersURI = "https://mcpbouncer-doctor.invalid/callback"

// firstPage is what an authorization request brings before anybody has signed in.
type firstPage struct {
	status int
	back   url.Values // of an answer that went to the redirect URI; nil if none did
	told   string     // an error that a page's address or a JSON body names
	to     string     // where a redirect goes, without its query
	behind string     // the page that redirects led to, so; empty if none did
	err    error
}

func (f firstPage) String() string {
	switch {
	case f.err != nil:
		return f.err.Error()
	case f.back != nil:
		return "an answer at the redirect URI"
	case f.told != "":
		return fmt.Sprintf("%d %s", f.status, f.told)
	case f.to != "":
		return fmt.Sprintf("%d to %s", f.status, f.to)
	}
	return fmt.Sprint(f.status)
}

func (f firstPage) refuses() bool { return f.err == nil && (f.status/100 == 4 || f.told != "") }

// like says whether two requests were treated in one way.
func (f firstPage) like(other firstPage) bool {
	// The address of a refusal's page may be made for the request.
	return f.status == other.status && f.told == other.told && (f.back == nil) == (other.back == nil) && (f.to == other.to || f.refuses())
}

// pagesFollowed bounds the redirects of one authorization request. Some providers look at the
// request behind the first of them.
const pagesFollowed = 4

// open sends one authorization request, as the browser of somebody who is not signed in. It follows
// redirects within the provider's own origin, and keeps cookies while it does.
func (e *examination) open(ctx context.Context, client provider.Client, seed sealing.LoginSeed) firstPage {
	p, err := e.all.Discover(ctx, &client) // the document is known: nobody is asked
	if err != nil {
		return firstPage{err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	browser := outgoing.NewClient(e.wire, e.Timeout)
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		return firstPage{err: err}
	}
	address, behind := p.AuthorizationURL(seed, provider.Wishes{}), ""
	for followed := 0; ; followed++ {
		page, next := e.visit(ctx, browser, address, client.RedirectURI)
		page.behind = behind
		if next == "" || followed == pagesFollowed || !sameOrigin(next, address) {
			return page
		}
		address, behind = next, page.to
	}
}

// visit loads one page. next is where it redirects to, if that is a page and not an answer.
func (e *examination) visit(ctx context.Context, browser *http.Client, address, redirectURI string) (page firstPage, next string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return firstPage{err: errors.New("authorization_endpoint is not a URL")}, ""
	}
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	resp, err := browser.Do(r)
	if err != nil {
		return firstPage{err: outgoing.Redact(err)}, ""
	}
	defer resp.Body.Close()
	page = firstPage{status: resp.StatusCode}
	if to, err := resp.Location(); err == nil {
		q := to.Query()
		if strings.HasPrefix(to.String(), redirectURI+"?") {
			page.back = q
			return page, ""
		}
		page.to = outgoing.PlainText(to.Scheme+"://"+to.Host+to.Path, 120)
		if code := q.Get("error"); code != "" {
			page.told = outgoing.SafeCode(code)
			return page, ""
		}
		return page, to.String()
	}
	var answer struct {
		Error string `json:"error"`
	}
	if body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody)); err == nil && json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		page.told = outgoing.SafeCode(answer.Error)
	}
	return page, ""
}

// redirectURI sends the sidecar's own authorization request, and the same with a redirect URI and a
// client_id that nobody registered: what differs between them is what the provider checks.
func (e *examination) redirectURI(ctx context.Context) {
	const check = "redirect URI"
	if e.Client.RedirectURI == "" {
		e.note(check, "not looked at", "give the tenant's by --redirect-uri: PUBLIC-URL/oauth/callback", recipesPage)
		return
	}
	e.say("an authorization request")
	seed := newSeed()
	own := e.open(ctx, e.Client, seed)
	switch {
	case own.err != nil || own.status >= http.StatusInternalServerError:
		e.wrong(check, "the provider's sign-in page", own.String(), report.Provider, "see the provider's log: people get this too", loginFails)
		return
	case own.back != nil:
		e.answered(own.back, seed)
		return
	}
	stranger, nobody := e.Client, e.Client
	stranger.RedirectURI, nobody.ID = strangersURI, "mcpbouncer-doctor-"+rand.Text()
	other := e.open(ctx, stranger, newSeed())
	if other.back != nil {
		e.wrong(check, "one that is not registered is refused", "the provider answers at any redirect URI: anybody's link can take a person's code", report.Provider, "register exact redirect URIs for the client, without wildcards", "")
		return
	}
	if !own.refuses() {
		if other.refuses() {
			e.good(check, e.Client.RedirectURI+" is registered: the sign-in page comes ("+own.String()+"), and another is refused ("+other.String()+")")
		} else if own.like(other) {
			e.note(check, "not told apart: the first page is the same for one that nobody registered ("+own.String()+")", "the provider looks later: a login shows it", loginFails)
		} else {
			e.note(check, "a page came ("+own.String()+"), and another for one that nobody registered ("+other.String()+")", "", "")
		}
		return
	}
	if own.status == http.StatusNotFound && own.behind != "" && !own.like(other) {
		e.wrong(check, "the provider's sign-in page", "404 at "+own.behind+", to which the provider sends people", report.Provider, "the request is accepted: put the provider's sign-in page there, or tell it where its page is", recipesPage)
		return
	}
	unknown := e.open(ctx, nobody, newSeed())
	switch {
	case own.like(other) && own.like(unknown):
		e.wrong(check, "the provider's sign-in page", own.String()+", as for a client_id and a redirect URI that nobody registered", report.Label,
			"register the redirect URI "+e.Client.RedirectURI+" there, to the last character, and check the label clientID", recipesPage)
	case own.like(unknown):
		e.wrong(check, "the provider's sign-in page", own.String()+", as for a client_id that nobody registered", report.Label, "check the label clientID, and that it is a client of this provider (realm, tenant, environment)", recipesPage)
	case own.like(other):
		e.wrong(check, "the provider's sign-in page", own.String()+", as for a redirect URI that nobody registered", report.Provider,
			"register the redirect URI "+e.Client.RedirectURI+" for this client, to the last character", recipesPage)
	default:
		e.wrong(check, "the provider's sign-in page", own.String(), report.Label, "the provider refuses the request itself: compare scopes and providerParameters with what the client may have", loginFails)
	}
}

// answered judges an answer that came without a page.
func (e *examination) answered(q url.Values, seed sealing.LoginSeed) {
	if q.Get("state") != seed.State() {
		e.wrong("state", "the state that was sent", "another one, or none", report.Provider, "a provider that does not send state back cannot be used: every login would be refused", "")
	}
	if err := e.p.CheckIss(q); err != nil {
		seen := "none, which its document promises"
		if q.Has("iss") {
			seen = fmt.Sprintf("%q", outgoing.PlainText(q.Get("iss"), 200))
		}
		e.wrong("iss", e.p.Issuer(), seen, report.Provider, "RFC 9207: let the provider send the issuer of its document, in every answer; the sidecar refuses the login", loginFails)
	} else if q.Has("iss") {
		e.good("iss", "the answer names the issuer")
	}
	switch code := q.Get("error"); code {
	case "":
		e.good("redirect URI", e.Client.RedirectURI+" is registered: the answer comes there")
	case "login_required", "interaction_required", "consent_required":
		e.wrong("redirect URI", "the provider's sign-in page", provider.SaidAtCallback(q).Error(), report.Label, "prompt=none in providerParameters, or a setting there, keeps everybody from signing in", recipesPage)
	default:
		remedy, fault := "the provider's log says more", report.Provider
		switch code {
		case "invalid_scope":
			remedy, fault = "let the client there have the scopes "+strings.Join(e.Client.Scopes, " ")+", or take what it may not have out of the label scopes", report.Label
		case "unauthorized_client", "unsupported_response_type":
			remedy = "let the client there use the authorization code flow"
		case "invalid_request":
			remedy = "the words say what it misses; a client that must use PAR or a signed request cannot be used"
		}
		e.wrong("authorization", "the provider's sign-in page", provider.SaidAtCallback(q).Error(), fault, remedy, loginFails)
	}
}
