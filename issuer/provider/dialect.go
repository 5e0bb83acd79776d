package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// This file holds what each provider does in its own way. One table has everything that tells them
// apart, so a new provider is a new row.

// RefreshMode is what becomes of the provider's refresh token: "upstream" wants one, "session"
// wants none, "auto" takes what comes.
func (p *Provider) RefreshMode() string {
	if p.client.Refresh == "auto" && p.dialect.oneForAll {
		return "session"
	}
	return p.client.Refresh
}

// RefusesForeignScopes says whether the provider ends a login that asks for a scope which it does
// not know or does not give to the client. Then its silence about scopes means that it granted all.
func (p *Provider) RefusesForeignScopes() bool { return p.dialect.refusesForeignScopes }

// TakesUsedTokens says in words why a refresh token that was used may be taken again; empty if the
// provider is not known for that.
func (p *Provider) TakesUsedTokens() string {
	switch d := p.dialect; {
	case d.keepsOld && d.unless != "":
		return d.name + " takes refresh tokens that were used again, unless " + d.unless + " is on there"
	case d.keepsOld:
		return d.name + " takes refresh tokens that were used again"
	}
	return ""
}

// HasHostedDomains says whether an issuer names the domain that vouches for a person by a claim of
// its own (Person.HostedDomain). Then the domain of the e-mail address says nothing: anybody can
// open an account with an address at a company's domain, and keep it after leaving.
func HasHostedDomains(issuer string) bool {
	for i := range dialects {
		if dialects[i].hostedDomain && dialects[i].hasIssuer(issuer) {
			return true
		}
	}
	return false
}

// offlineAccess are the scopes and parameters of the authorization request that ask for a refresh
// token, or do not.
func (p *Provider) offlineAccess() (scopes []string, options []oauth2.AuthCodeOption) {
	const offline = "offline_access" // OpenID Connect Core §11
	scopes = slices.DeleteFunc(slices.Clone(p.scopes()), func(scope string) bool { return scope == offline })
	switch {
	case p.RefreshMode() == "session":
	case p.dialect.accessType:
		options = []oauth2.AuthCodeOption{oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent")}
	case p.Lists(offline), slices.Contains(p.client.Scopes, offline):
		scopes = append(scopes, offline)
		if p.dialect.wantsConsent && p.knowsPrompt("consent") {
			options = append(options, oauth2.SetAuthURLParam("prompt", "consent"))
		}
	}
	return scopes, options
}

// dialect is what is known of one kind of provider.
type dialect struct {
	name string

	// How it is known: by its issuer, which is this one or, if this ends in a slash or a dot,
	// begins with it; or by where its endpoints are below one address. An empty field is not looked
	// at.
	issuer                              string
	auth, token, keys, device, userinfo string

	// How it is asked for a refresh token.

	// accessType: it refuses the scope offline_access, wants access_type=offline instead, and gives
	// a refresh token with the first consent only.
	accessType bool
	// wantsConsent: it drops offline_access where the request has no prompt=consent
	// (docs/decisions/0026-prompt-consent.md).
	wantsConsent bool
	// onePrompt: it takes one value of prompt, and ends a login that asks for two.
	onePrompt bool
	// noAccountList: it ends a login that asks for prompt=select_account.
	noAccountList bool
	// oneForAll: it keeps one refresh token for each person and client. All MCP clients share the
	// operator's, so a person who logs in with a second one would end the first.
	oneForAll bool

	// How the client proves itself.

	// strictBasic: it decodes Basic, and takes a client only by the method it is registered for,
	// which is Basic by default.
	strictBasic bool
	// tokenIsAud: a client's assertion names the token endpoint in aud, and not the issuer.
	tokenIsAud bool

	// What it says of scopes and people.

	// refusesForeignScopes: it ends a login that asks for a scope which it does not know.
	refusesForeignScopes bool
	bareIss              bool // it writes iss without the scheme too
	hostedDomain         bool // hd is the domain that vouches for a person
	// vouchesByEdov: it never sends email_verified. Its claim xms_edov says that the domain's owner
	// stands behind the address.
	vouchesByEdov bool

	loginHint string // the parameter that login_hint is there; empty: the same

	// hints map a claim to what keeps the provider from saying it, for the words of a refusal.
	hints map[string]string

	// In which words it refuses.

	refuses     []words // a refresh token that is worth nothing
	unsure      []words // the same, or an outage
	refusesCode []words // an authorization code that is worth nothing
	// refusesPerson: one who may not log in there as they are
	refusesPerson []words

	// What becomes of a refresh token that was used, or is revoked.

	// reuseEndsAll: one that comes twice ends all logins of its person at the operator's client.
	reuseEndsAll bool
	keepsOld     bool   // one that was used is taken again, though there is a new one
	unless       string // a setting of the provider that keepsOld depends on
	endsOldAtUse bool   // the same, until the access token that came with the new one is used
	revokesAll   bool   // a revocation ends the logins of all clients of the person
}

// words are an error answer of a token endpoint (RFC 6749 §5.2).
type words struct {
	status int
	code   string // empty: so is the whole body
	text   string // error_description; empty: any
}

// dialects is the one table of what providers do in their own way; the first row that fits counts.
// A row without a version is from the provider's documentation, a row with one was measured
// (docs/replay.md, "By provider").
var dialects = []dialect{
	{
		name: "Google", issuer: "https://accounts.google.com",
		accessType: true, bareIss: true, hostedDomain: true, revokesAll: true,
	},
	{
		name: "Amazon Cognito", issuer: "https://cognito-idp.",
		refusesForeignScopes: true,
	},
	{
		name: "Entra ID", issuer: "https://login.microsoftonline.com/",
		vouchesByEdov: true, keepsOld: true, onePrompt: true,
	},
	{
		name: "Dex", auth: "/auth", token: "/token", keys: "/keys", device: "/device/code",
		oneForAll: true, refusesForeignScopes: true,
		refuses: []words{{400, "invalid_request", ""}}, // has expired, was replaced, or used twice
		// the person is gone, or its directory is away
		unsure: []words{{500, "invalid_request", ""}},
	},
	{ // 2.7
		name: "Glewlwyd", auth: "/auth", token: "/token", keys: "/jwks", userinfo: "/userinfo",
		refuses: []words{{400, "", ""}},
	},
	{ // 2.16
		name: "LemonLDAP::NG", auth: "/oauth2/authorize", token: "/oauth2/token", keys: "/oauth2/jwks",
		wantsConsent: true,
		// has expired, or its offline session was removed
		refuses: []words{{400, "invalid_request", ""}},
	},
	{ // 1.7
		name: "better-auth", auth: "/oauth2/authorize", token: "/oauth2/token", keys: "/jwks",
		refuses:      []words{{400, "invalid_request", "user not found"}},
		reuseEndsAll: true,
	},
	gitea,
	{ // 5.5 with doorkeeper-openid_connect 1.8; GitLab is built on it
		name: "Doorkeeper", auth: "/oauth/authorize", token: "/oauth/token", keys: "/oauth/discovery/keys",
		endsOldAtUse: true,
	},
	{ // 9.13; Logto is built on it
		name: "oidc-provider", auth: "/auth", token: "/token", keys: "/jwks", userinfo: "/me",
		wantsConsent: true, noAccountList: true,
	},
	{ // 2.3
		name: "Hydra", auth: "/oauth2/auth", token: "/oauth2/token", keys: "/.well-known/jwks.json",
		strictBasic: true, tokenIsAud: true,
	},
	{ // built on Hydra's library
		name: "Authelia", auth: "/api/oidc/authorization", token: "/api/oidc/token", keys: "/jwks.json",
		strictBasic: true,
	},
	{
		name: "Keycloak", auth: "/protocol/openid-connect/auth", token: "/protocol/openid-connect/token", keys: "/protocol/openid-connect/certs",
		keepsOld: true, unless: "Revoke Refresh Token",
	},
	{ // of other clouds
		name: "Entra ID", auth: "/oauth2/v2.0/authorize", token: "/oauth2/v2.0/token", keys: "/discovery/v2.0/keys",
		keepsOld: true, onePrompt: true,
	},
}

// gitea is 1.26; Forgejo is a fork. A wrong client secret is unauthorized_client too, with another
// text.
var gitea = dialect{
	name: "Gitea", auth: "/login/oauth/authorize", token: "/login/oauth/access_token", keys: "/login/oauth/keys",
	refuses:     []words{{400, "unauthorized_client", "token was already used"}, {400, "unauthorized_client", "unable to parse refresh token"}},
	refusesCode: []words{{400, "unauthorized_client", "client is not authorized"}, {400, "unauthorized_client", "failed PKCE code challenge"}},
	keepsOld:    true, unless: "INVALIDATE_REFRESH_TOKENS",
}

// giteaByOAuth is the same for a label providerType=oauth2, which names no keys.
var giteaByOAuth = func() dialect {
	d := gitea
	d.keys, d.userinfo = "", "/login/oauth/userinfo"
	return d
}()

var plain = &dialect{name: "a provider of no known kind"}

// oauthDialectOf is dialectOf where labels name the endpoints. The other rows of the table were
// measured with OpenID Connect only.
func oauthDialectOf(d *document) *dialect {
	if giteaByOAuth.fits(d) {
		return &giteaByOAuth
	}
	return plain
}

func dialectOf(d *document) *dialect {
	for i := range dialects {
		if dialects[i].fits(d) {
			return &dialects[i]
		}
	}
	return plain
}

func (d *dialect) fits(doc *document) bool {
	if d.issuer != "" && !d.hasIssuer(doc.issuer) {
		return false
	}
	base, ok := strings.CutSuffix(doc.endpoint.TokenURL, d.token)
	below := func(endpoint, path string) bool {
		rest, ok := strings.CutPrefix(endpoint, base)
		return path == "" || ok && rest == path
	}
	return ok && below(doc.endpoint.AuthURL, d.auth) && below(doc.keysURL, d.keys) && below(doc.endpoint.DeviceAuthURL, d.device) && below(doc.userinfoURL, d.userinfo)
}

func (d *dialect) hasIssuer(issuer string) bool {
	begins := strings.HasSuffix(d.issuer, "/") || strings.HasSuffix(d.issuer, ".")
	return d.issuer != "" && (issuer == d.issuer || begins && strings.HasPrefix(issuer, d.issuer))
}

// endings are error codes by which providers refuse a code or a refresh token for good, with a
// status below 500. Only the first is from RFC 6749.
var endings = []string{
	"invalid_grant", "invalid_token", "expired_token", "token_expired", "invalid_refresh_token", "bad_refresh_token",
	// Entra ID and others: somebody must sign in.
	"interaction_required", "login_required", "consent_required", "account_selection_required", "access_denied",
}

// aboutUs are error codes that refuse this server, whatever it presents.
var aboutUs = []string{
	"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target",
	"redirect_uri_mismatch", "incorrect_client_credentials", // Google, GitHub
}

// passing are error codes of an outage, with whatever status they come.
var passing = []string{"temporarily_unavailable", "server_error", "slow_down"}

// passingEntra are Entra ID's numbers (AADSTS…) of refusals that pass by themselves, though their
// error code does not say so.
var passingEntra = []int{50196, 90025, 90033} // request loop, request budget, directory unavailable

// passingStatuses are those below 500 of a server that is busy or was asked too slowly (RFC 9110
// §15.5.9, RFC 8470 §5.2, RFC 6585 §4).
var passingStatuses = []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}

// passes says whether an answer of a token endpoint comes from an outage: it says nothing about
// what was presented.
func passes(answer *oauth2.RetrieveError) bool {
	if answer.ErrorCode == "invalid_grant" || answer.ErrorCode == "invalid_code" {
		return slices.ContainsFunc(entraCodes(answer), isPassingEntra)
	}
	status := answer.Response.StatusCode
	return status >= http.StatusInternalServerError || slices.Contains(passingStatuses, status) || slices.Contains(passing, answer.ErrorCode) ||
		slices.ContainsFunc(entraCodes(answer), isPassingEntra)
}

func isPassingEntra(code int) bool { return slices.Contains(passingEntra, code) }

// entraCodes are the numbers in Entra ID's answers. Other providers send none.
func entraCodes(answer *oauth2.RetrieveError) []int {
	var entra struct {
		Codes []int `json:"error_codes"`
	}
	json.Unmarshal(answer.Body, &entra)
	return entra.Codes
}

// meaning is what an error answer of a token endpoint says of the code or refresh token that was
// presented.
type meaning int

const (
	refused meaning = iota // it is worth nothing
	// probably worth nothing: a refusal in words that are not known, or that have two meanings
	doubted
	// nothing is said: this server is refused, or something else than the token endpoint answers
	unsaid
	away // nothing is said, and it passes by itself
)

// meaningOf reads an error answer. own are the provider's own words for a refusal of what was
// presented; unsure are words that may be one.
func meaningOf(answer *oauth2.RetrieveError, own, unsure []words) meaning {
	status, code := answer.Response.StatusCode, answer.ErrorCode
	said := func(w words) bool { return w.said(answer) }
	switch {
	case slices.ContainsFunc(own, said):
		return refused
	case slices.ContainsFunc(unsure, said):
		return doubted
	case passes(answer):
		return away
	case code == "invalid_grant", code == "invalid_code", // some say so of a used code
		status < http.StatusInternalServerError && slices.Contains(endings, code):
		return refused
	case slices.Contains(aboutUs, code), status != http.StatusBadRequest && status != http.StatusOK:
		// A firewall's 403, a maintenance page's 404, a 401: whatever was presented, the answer
		// would be the same.
		return unsaid
	case code != "", empty(answer), isJSON(answer):
		return doubted
	}
	return unsaid
}

func (w words) said(answer *oauth2.RetrieveError) bool {
	return answer.Response.StatusCode == w.status && answer.ErrorCode == w.code && (w.code != "" || empty(answer)) &&
		(w.text == "" || answer.ErrorDescription == w.text)
}

func empty(answer *oauth2.RetrieveError) bool { return len(bytes.TrimSpace(answer.Body)) == 0 }

func isJSON(answer *oauth2.RetrieveError) bool {
	return bytes.HasPrefix(bytes.TrimSpace(answer.Body), []byte("{"))
}

// describe says what came, for the operator's log.
func describe(answer *oauth2.RetrieveError) error {
	said := providerSaid(answer)
	if codes := entraCodes(answer); len(codes) > 0 {
		return fmt.Errorf("%w, AADSTS%d", said, codes[0])
	}
	switch {
	case answer.ErrorCode != "":
		return said
	case empty(answer):
		return fmt.Errorf("%w, with an empty body", said)
	}
	kind, _, _ := mime.ParseMediaType(answer.Response.Header.Get("Content-Type"))
	if len(kind) > 40 || !mediaType.Get().MatchString(kind) {
		kind = "no known type"
	}
	return fmt.Errorf("%w, in %s", said, kind)
}

var mediaType = lazyregexp.Regexp{Text: `^[a-z0-9.+-]+/[a-z0-9.+-]+$`}

// codeError says what an error of the token endpoint means for an authorization code.
func (p *Provider) codeError(st *standing, err error) error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return unanswered(redact(err))
	}
	cause := describe(answer)
	if slices.ContainsFunc(p.dialect.refusesPerson, func(w words) bool { return w.said(answer) }) {
		return loginRefused(cause)
	}
	switch meaningOf(answer, p.dialect.refusesCode, nil) {
	case refused:
		return because(ErrCode, cause)
	case away:
		return because(ErrUnavailable, cause)
	case doubted:
		// A mistake of the operator could be answered in this way too, but not where a code was
		// taken before.
		if st.hasAccepted() {
			p.all.Log.Warn("the provider refused a code in words that are not known for that; it is taken for one that was used or has expired", p.client.Named, "provider", p.issuer, "cause", cause)
			return because(ErrCode, cause)
		}
	}
	return because(ErrOurFault, cause)
}

// refreshError says what an error of the token endpoint means for a refresh token.
func (p *Provider) refreshError(st *standing, last Person, err error) error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return unanswered(redact(err))
	}
	now := p.all.Now()
	silence := now.Sub(time.Unix(last.CheckedAt, 0))
	cause := describe(answer)
	switch meaningOf(answer, p.dialect.refuses, p.dialect.unsure) {
	case refused:
		st.understands()
		return because(ErrEnded, cause)
	case away:
		return because(ErrUnavailable, cause)
	case doubted:
		switch {
		case st.doubts(last.RefreshToken, now):
			return because(ErrEnded, fmt.Errorf("%w, and has taken another login's refresh token since it first did so", cause))
		case silence > StaleWindow:
			return because(ErrEnded, fmt.Errorf("%w, and its last other word on this login is more than %v old", cause, StaleWindow))
		}
		return because(ErrUnclear, cause)
	}
	// A wrong secret, or a firewall: it logs nobody out at once, not even somebody who comes back
	// after a night. If it never did, clients would keep a login that nothing but a new one mends.
	since := st.troubled(last.RefreshToken, now)
	switch {
	case silence > StaleWindow && now.Sub(since) > StaleWindow:
		return because(ErrEnded, fmt.Errorf("%w, as it has for more than %v: see the labels clientID and clientSecret", cause, StaleWindow))
	case p.all.OnLambda && silence > forgetfulWindow:
		// A process that has just begun does not know since when.
		return because(ErrEnded, fmt.Errorf("%w, and its last word on this login is more than %v old: see the labels clientID and clientSecret", cause, forgetfulWindow))
	}
	return because(ErrOurFault, cause)
}

// forgetfulWindow is how long a process remembers since when it is refused. A process that has just
// begun waits for as long in its place.
const forgetfulWindow = 24 * time.Hour
