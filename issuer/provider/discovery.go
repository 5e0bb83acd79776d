package provider

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

// document is a provider as its discovery document describes it (OpenID Connect Discovery §3). All
// tenants of the provider share it.
type document struct {
	endpoint oauth2.Endpoint
	issuer   string
	// origin is under which it is known whether the provider answers: the issuer, or where the
	// token endpoint is if a label names that. A label must not silence another tenant's provider.
	origin string
	alias  string // another name of it in iss (RFC 9207); empty: none
	people people // nil: it is an OpenID provider, and its id_tokens say who somebody is
	// Why nobody can log in there; nil if somebody can. Issuers of machines' tokens have keys and
	// nothing else.
	noLogin   error
	sendsIss  bool
	fetchedAt time.Time
	dialect   *dialect

	keysURL         string
	keys            *keySet
	algorithms      []jose.SignatureAlgorithm // of id_tokens
	userinfoURL     string                    // empty if there is none
	revocationURL   string                    // RFC 7009; empty if there is none
	scopesSupported []string

	promptsSupported            []string // OpenID Connect Prompt Create §4; most say nothing of it
	authMethods, authAlgorithms []string // of the token endpoint; empty if it does not say
}

// Lists says whether the provider names a scope among those that it supports.
func (d *document) Lists(scope string) bool { return slices.Contains(d.scopesSupported, scope) }

// discoveryMembers are the members of a discovery document that are read here, beside those that
// go-oidc reads. readable.go sees to their types.
type discoveryMembers struct {
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	SendsIss    bool     `json:"authorization_response_iss_parameter_supported"`
	JWKSURI     string   `json:"jwks_uri"`
	Revocation  string   `json:"revocation_endpoint"`
	Scopes      []string `json:"scopes_supported"`
	UserInfo    string   `json:"userinfo_endpoint"`
	Algorithms  []string `json:"id_token_signing_alg_values_supported"`
	Prompts     []string `json:"prompt_values_supported"`

	AuthAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported"`
}

// discover reads the document of the client's issuer. wanted says that there is no older one: then
// a login waits for it, and the login's client comes once.
func (all *Providers) discover(ctx context.Context, c *Client, timeout time.Duration, wanted bool) (*document, error) {
	issuer := c.Issuer
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !weburl.IsLocalHTTP(u) {
		return nil, &unusable{why: "providerIssuer must be an https URL"}
	}
	// A client that hangs up must not make discovery fail for those who wait with it.
	ctx, cancel := context.WithTimeout(outgoing.WithSecondTry(context.WithoutCancel(ctx)), timeout)
	defer cancel()
	client := all.httpClient(issuer)
	answer := &discoveryAnswer{next: client.Transport, label: cmp.Or(c.IssuerLabel, "providerIssuer")}
	client.Transport = rewritten{answer, func(_ *http.Response, body []byte) ([]byte, error) { return readableDiscovery(body), nil }}
	client.CheckRedirect = sameOriginOnly
	ask := func() (*oidc.Provider, error) { return oidc.NewProvider(oidc.ClientContext(ctx, client), issuer) }
	discovered, err := ask()
	if err != nil && wanted && answer.mayPass(err) && all.Wait(ctx, oncePause) == nil {
		discovered, err = ask()
	}
	if err != nil {
		return nil, fmt.Errorf("discovery of %s failed: %w", issuer, answer.explain(err))
	}
	var metadata discoveryMembers
	if err := discovered.Claims(&metadata); err != nil {
		return nil, fmt.Errorf("discovery of %s failed: %w", issuer, &unusable{why: "a member of its document is of another type than OpenID Connect Discovery says"})
	}
	endpoint := discovered.Endpoint()
	endpoints := map[string]string{"authorization_endpoint": endpoint.AuthURL, "token_endpoint": endpoint.TokenURL}
	if metadata.UserInfo != "" {
		endpoints["userinfo_endpoint"] = metadata.UserInfo
	}
	safe := func(raw string) bool {
		e, err := url.Parse(raw)
		return err == nil && e.Host != "" && (e.Scheme == "https" || weburl.IsLocalHTTP(e) && weburl.IsLocalHTTP(u))
	}
	fault := func(name, raw string) error {
		if safe(raw) {
			return nil
		}
		return fmt.Errorf("discovery of %s failed: %w", issuer, &unusable{why: name + " is not an https URL in its document: set the provider's own public URL, also where a proxy in front of it ends TLS"})
	}
	if err := fault("jwks_uri", metadata.JWKSURI); err != nil {
		return nil, err
	}
	var noLogin error
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		if noLogin == nil {
			noLogin = fault(name, endpoints[name])
		}
	}
	if !safe(metadata.Revocation) {
		metadata.Revocation = "" // as if there were none: it would be sent the secret
	}
	d := &document{
		endpoint: endpoint, issuer: issuer, origin: issuer, noLogin: noLogin, sendsIss: metadata.SendsIss,
		keys: all.newKeySet(issuer, metadata.JWKSURI), algorithms: readableAlgorithms(metadata.Algorithms), userinfoURL: metadata.UserInfo,
		keysURL: metadata.JWKSURI, revocationURL: metadata.Revocation, scopesSupported: metadata.Scopes, promptsSupported: metadata.Prompts,
		authMethods: metadata.AuthMethods, authAlgorithms: metadata.AuthAlgorithms,
	}
	d.dialect = dialectOf(d)
	return d, nil
}

// httpClient asks one provider, which document.origin names, and follows no redirect. All of its
// requests share what is known of the provider's silence.
func (all *Providers) httpClient(origin string) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     trace.Transport{Next: limitedTransport{attentive{all.Transport, all, origin, &all.documents.entry(origin, all.Now()).silence}}, Name: spanName, Wrong: wentWrong},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limitedTransport caps what a provider can make us read: go-oidc reads bodies whole.
type limitedTransport struct{ next http.RoundTripper }

func (l limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}

// An operator whose discovery failed is told what was received, not what a library says of it, and
// what to do. Almost always the fault is in the label that names the issuer.

// unusable is why a provider that has answered, or a label, cannot be used.
type unusable struct {
	why    string
	passes bool // it is out of order; otherwise no waiting mends it
}

func (e *unusable) Error() string { return e.why }

const (
	// discoveryRedirects is how often a document may be somewhere else: one slash more is once.
	discoveryRedirects = 3
	discoveryPath      = "/.well-known/openid-configuration"
)

// sameOriginOnly follows a redirect of the discovery document within scheme, host and port. The
// provider itself says then where its document is, and go-oidc compares the issuer in it with the
// label's, to the byte. Some serve it with a slash at its end only. Another host would be asked in
// the provider's name for what is in nobody's label, which may be an address inside the operator's
// network; another scheme would give up TLS. No other request to a provider follows any redirect.
func sameOriginOnly(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > discoveryRedirects || r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || r.URL.User != nil {
		return http.ErrUseLastResponse
	}
	return nil
}

// discoveryAnswer remembers what came last. It serves one discovery, whose requests follow each
// other.
type discoveryAnswer struct {
	next  http.RoundTripper
	label string // that names the issuer

	status      int // 0: nothing came
	contentType string
	location    string // of a redirect
	size        int
	beginning   [1]byte // of the body
	broke       error   // the body did not come to its end
}

// RoundTrip is http.RoundTripper's.
func (a *discoveryAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	*a = discoveryAnswer{next: a.next, label: a.label}
	resp, err := a.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a.status = resp.StatusCode
	a.contentType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if to, err := resp.Location(); err == nil {
		to.User, to.RawQuery, to.Fragment = nil, "", "" // a login page's may hold anything
		a.location = to.String()
	}
	resp.Body = &countedBody{resp.Body, a}
	return resp, nil
}

type countedBody struct {
	io.ReadCloser
	a *discoveryAnswer
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.a.size == 0 && n > 0 {
		copy(b.a.beginning[:], p)
	}
	b.a.size += n
	if err != nil && err != io.EOF {
		b.a.broke = err
	}
	return n, err
}

// mayPass says whether discovery failed by what may pass in a moment: no answer, or that of an
// outage. Of a provider that has just kept somebody waiting nothing is expected.
func (a *discoveryAnswer) mayPass(err error) bool {
	return !errors.Is(err, errPaused) && !errors.Is(err, context.DeadlineExceeded) &&
		(a.status == 0 || a.broke != nil || a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests)
}

// explain says what came and what to do about it. Texts that a stranger could have written are
// bounded and cleaned.
func (a *discoveryAnswer) explain(err error) error {
	var mismatch *oidc.IssuerMismatchError
	if errors.As(err, &mismatch) { // OpenID Connect Discovery §4.3: they must be equal
		return &unusable{why: explainMismatch(a.label, mismatch.Provided, mismatch.Discovered)}
	}
	if a.status == 0 {
		return explainSilence(err)
	}
	if a.broke != nil {
		return &unusable{why: fmt.Sprintf("the provider's answer %d broke off after %d bytes, or took too long", a.status, a.size), passes: true}
	}
	came := fmt.Sprintf("the provider answers %d %s at %s below it", a.status, cmp.Or(outgoing.PlainText(a.contentType, 80), "without a content type"), strings.TrimPrefix(discoveryPath, "/"))
	label := "see the label " + a.label + ": "
	var remedy string
	passes := a.status == http.StatusTooManyRequests || a.status >= http.StatusInternalServerError
	switch {
	case a.status == http.StatusNotFound, a.status == http.StatusGone:
		remedy = label + "its path is not that of the issuer, as /realms/NAME or /application/o/NAME/ is"
		if a.label == "providerIssuer" {
			remedy += "; a provider without OpenID Connect, such as GitHub Enterprise Server, has no such document and needs the label providerType"
		}
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusProxyAuthRequired:
		remedy = "what stands in front of the provider must let the sidecar have this document without a login; or " + label + "the path is not the issuer's"
	case a.location != "":
		remedy = fmt.Sprintf("it redirects to %s, and a redirect is followed only within scheme, host and port of the label; %sit must be exactly what \"issuer\" in the document says, or what answers there is a login page", outgoing.PlainText(a.location, 200), label)
	case passes:
		remedy = "the provider, or what stands in front of it, is out of order; the label " + a.label + " need not be wrong"
	case a.status != http.StatusOK:
		remedy = label + "that is no answer of a discovery document"
	case a.size >= maxBody:
		remedy = label + "that is 1 MB or more, which no discovery document has"
	case a.contentType == "text/html", a.beginning[0] == '<':
		remedy = label + "that is a page, of a login or of another program, and no discovery document"
	case a.size == 0:
		remedy = label + "the document is empty"
	default:
		remedy = label + "that is not a whole discovery document"
	}
	return &unusable{why: came + ": " + remedy, passes: passes}
}

// explainMismatch says in what the label and the document differ.
func explainMismatch(label, value, document string) string {
	text := fmt.Sprintf("label %s is %q, and the provider calls itself %.300q: ", label, value, document)
	withoutScheme := func(s string) string { _, rest, _ := strings.Cut(s, "://"); return strings.TrimSuffix(rest, "/") }
	switch {
	case document == "":
		return text + "a document without \"issuer\" is no discovery document; copy the issuer from the provider's own page"
	case strings.Contains(document, "{"): // Entra ID's common and organizations
		return text + "name one directory in the label: tokens are of that one's issuer"
	case strings.TrimSuffix(value, "/") == strings.TrimSuffix(document, "/"):
		return text + "copy that into the label, to the last slash"
	case withoutScheme(value) == withoutScheme(document) && strings.HasPrefix(document, "http://"):
		return text + "tell the provider that its public URL is https; it stands behind a proxy that ends TLS, and does not know it"
	case withoutScheme(value) == withoutScheme(document):
		return text + "copy that into the label"
	}
	return text + "copy that into the label, and let the sidecar reach the provider under this name; another name that it has inside your network does not do"
}

// explainSilence is for what never got an answer.
func explainSilence(err error) error {
	var authority x509.UnknownAuthorityError
	var notTLS tls.RecordHeaderError
	switch cause := redact(err); {
	case errors.As(err, &authority):
		return fmt.Errorf("%w; if a private CA signed it, give the sidecar its certificate in a file that SSL_CERT_FILE names", cause)
	case errors.As(err, &notTLS), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; what listens there speaks no TLS", cause)
	default:
		return cause
	}
}
