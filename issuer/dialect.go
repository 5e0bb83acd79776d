package issuer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// What providers do each in their own way: how they are asked for a refresh token, and how they say
// that one is worth nothing any more.

// refreshMode is what becomes of the provider's refresh token: "upstream" wants one, "session"
// wants none, "auto" takes what comes.
func (u *upstream) refreshMode(t *tenant) string {
	// Dex keeps one refresh token for each person and client, and all MCP clients share ours:
	// whoever logs in with a second one would end the first.
	if t.Refresh == "auto" && u.isDex() {
		return "session"
	}
	return t.Refresh
}

func (u *upstream) isDex() bool { return u.dialect() == dex }

// refusesForeignScopes says whether the provider ends a login that asks for a scope which it does
// not know or does not give to the client. Then its silence about scopes means that it granted all.
func (u *upstream) refusesForeignScopes() bool {
	return u.isDex() || strings.HasPrefix(u.issuer, cognitoIssuer)
}

// offlineAccess are the scopes and parameters of the authorization request that ask for a refresh
// token, or do not.
func (u *upstream) offlineAccess(t *tenant) (scopes []string, options []oauth2.AuthCodeOption) {
	const offline = "offline_access" // OpenID Connect Core §11
	scopes = slices.DeleteFunc(slices.Clone(t.upstreamScopes()), func(scope string) bool { return scope == offline })
	switch {
	case u.refreshMode(t) == "session":
	case u.issuer == googleIssuer:
		// it refuses the scope, and gives a refresh token with the first consent only
		options = []oauth2.AuthCodeOption{oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent")}
	case slices.Contains(u.scopesSupported, offline), slices.Contains(t.Scopes, offline):
		scopes = append(scopes, offline)
		if u.dialect().wantsConsent && u.knowsPrompt("consent") {
			options = append(options, oauth2.SetAuthURLParam("prompt", "consent"))
		}
	}
	return scopes, options
}

// dialect is what is known of one kind of provider: where its endpoints are, in which words it
// refuses, and what becomes of a refresh token that was used.
type dialect struct {
	name string

	// Where its endpoints are, below one address: that is how it is known. Empty: not looked at.
	auth, token, keys, device, userinfo string

	// drops offline_access where the request has no prompt=consent
	// (docs/decisions/0026-prompt-consent.md)
	wantsConsent bool
	// decodes Basic, and takes a client only by the method it is registered for, which is Basic by
	// default
	strictBasic bool
	tokenIsAud  bool // a client's assertion names the token endpoint in aud, and not the issuer

	refuses     []words // a refresh token that is worth nothing
	unsure      []words // the same, or an outage
	refusesCode []words // an authorization code that is worth nothing

	// a refresh token that comes twice ends all logins of its person at our client
	reuseEndsAll bool
	keepsOld     bool   // a refresh token that was used is taken again, though there is a new one
	unless       string // a setting of the provider's that keepsOld depends on
	endsOldAtUse bool   // so too, until the access token that came with the new one is used
}

// words is an error answer of a token endpoint (RFC 6749 §5.2).
type words struct {
	status int
	code   string // empty: the whole body is
	text   string // error_description; empty: any
}

// dialects is the one table of what providers do in their own way. Where no version is named it is
// their documentation's word, else it was measured (docs/replay.md, "By provider").
var dialects = []dialect{
	{
		name: "Dex", auth: "/auth", token: "/token", keys: "/keys", device: "/device/code",
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
	// 1.26; Forgejo is a fork. A wrong client secret is unauthorized_client too, with another text.
	{
		name: "Gitea", auth: "/login/oauth/authorize", token: "/login/oauth/access_token", keys: "/login/oauth/keys",
		refuses:     []words{{400, "unauthorized_client", "token was already used"}, {400, "unauthorized_client", "unable to parse refresh token"}},
		refusesCode: []words{{400, "unauthorized_client", "client is not authorized"}, {400, "unauthorized_client", "failed PKCE code challenge"}},
		keepsOld:    true, unless: "INVALIDATE_REFRESH_TOKENS",
	},
	{ // 5.5 with doorkeeper-openid_connect 1.8; GitLab is built on it
		name: "Doorkeeper", auth: "/oauth/authorize", token: "/oauth/token", keys: "/oauth/discovery/keys",
		endsOldAtUse: true,
	},
	{ // 9.13; Logto is built on it
		name: "oidc-provider", auth: "/auth", token: "/token", keys: "/jwks", userinfo: "/me",
		wantsConsent: true,
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
	{
		name: "Entra ID", auth: "/oauth2/v2.0/authorize", token: "/oauth2/v2.0/token", keys: "/discovery/v2.0/keys",
		keepsOld: true,
	},
}

var (
	dex   = &dialects[0]
	plain = &dialect{name: "a provider of no known kind"}
)

// dialect is the provider's.
func (u *upstream) dialect() *dialect {
	for i := range dialects {
		if dialects[i].of(u) {
			return &dialects[i]
		}
	}
	return plain
}

func (d *dialect) of(u *upstream) bool {
	base, ok := strings.CutSuffix(u.endpoint.TokenURL, d.token)
	below := func(endpoint, path string) bool {
		rest, ok := strings.CutPrefix(endpoint, base)
		return path == "" || ok && rest == path
	}
	return ok && below(u.endpoint.AuthURL, d.auth) && below(u.keysURL, d.keys) && below(u.endpoint.DeviceAuthURL, d.device) && below(u.provider.UserInfoEndpoint(), d.userinfo)
}

// endings are error codes by which providers refuse a code or a refresh token for good, with a
// status below 500; only the first is RFC 6749's.
var endings = []string{
	"invalid_grant", "invalid_token", "expired_token", "token_expired", "invalid_refresh_token", "bad_refresh_token",
	// Entra ID and others: somebody must sign in
	"interaction_required", "login_required", "consent_required", "account_selection_required", "access_denied",
}

// aboutUs are error codes that refuse this server, whatever it presents.
var aboutUs = []string{
	"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target",
	"redirect_uri_mismatch", "incorrect_client_credentials", // Google, GitHub
}

// passing are error codes of an outage, whatever the status they come with.
var passing = []string{"temporarily_unavailable", "server_error", "slow_down"}

// passingEntra are Entra ID's numbers (AADSTS…) of refusals that pass by themselves, though their
// error code does not say so.
var passingEntra = []int{50196, 90025, 90033} // request loop, request budget, directory unavailable

// passingStatuses below 500 are of a server that is busy or was asked too slowly (RFC 9110 §15.5.9,
// RFC 8470 §5.2, RFC 6585 §4).
var passingStatuses = []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}

// passes says whether an answer of a token endpoint is that of an outage: it says nothing about
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

// entraCodes are the numbers in Entra ID's answers; others have none.
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
	// probably that: a refusal in words that are not known, or that have two meanings
	doubted
	// nothing: this server is refused, or something else than the token endpoint answers
	unsaid
	away // nothing, and it passes by itself
)

// meaningOf reads an error answer. own are the provider's own words for a refusal of what was
// presented, unsure those that may be one.
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
		// A firewall's 403, a maintenance page's 404, a 401: whoever else were to present something
		// would get the same.
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

// describe says for the operator what came.
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
	if len(kind) > 40 || !mediaType.MatchString(kind) {
		kind = "no known type"
	}
	return fmt.Errorf("%w, in %s", said, kind)
}

var mediaType = regexp.MustCompile(`^[a-z0-9.+-]+/[a-z0-9.+-]+$`)

// codeError maps an error of the token endpoint for an authorization code.
func (s *Issuer) codeError(t *tenant, up *upstream, st *standing, err error) *Error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return unanswered(redactUpstream(err))
	}
	cause := describe(answer)
	worthless := invalidGrant("the authorization code is no longer valid; authorize again").because(cause)
	switch meaningOf(answer, up.dialect().refusesCode, nil) {
	case refused:
		return worthless
	case away:
		return temporarilyUnavailable("the sign-in provider is not available", cause)
	case doubted:
		// A mistake of the operator's could be answered so too, but not where a code was taken
		// before.
		if st.hasAccepted() {
			s.Log.Warn("the provider refused a code in words that are not known for that; it is taken for one that was used or has expired", t.named(), "provider", up.issuer, "cause", cause)
			return worthless
		}
	}
	return notAccepted(cause)
}

// notAccepted is never relayed as what it is, invalid_client: it is about the operator's client,
// and SDKs would throw away their own.
func notAccepted(cause error) *Error {
	return serverError("the sign-in provider did not accept this server; its operator must act", cause)
}

// refreshError maps an error of the token endpoint for a refresh token. What ends a login has a
// status below 500; all else is bridged (stale).
func (s *Issuer) refreshError(up *upstream, st *standing, last identity, err error) *Error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return unanswered(redactUpstream(err))
	}
	now := s.Now()
	silence := now.Sub(time.Unix(last.CheckedAt, 0))
	ended := func(cause error) *Error {
		return invalidGrant("the sign-in provider ended this login; authorize again").because(cause)
	}
	cause := describe(answer)
	d := up.dialect()
	switch meaningOf(answer, d.refuses, d.unsure) {
	case refused:
		st.understands()
		return ended(cause)
	case away:
		return temporarilyUnavailable("the sign-in provider is not available", cause)
	case doubted:
		switch {
		case st.doubts(last.RefreshToken, now):
			return ended(fmt.Errorf("%w, and has taken another login's refresh token since it first did so", cause))
		case silence > staleWindow:
			return ended(fmt.Errorf("%w, and its last other word on this login is more than %v old", cause, staleWindow))
		}
		return temporarilyUnavailable("the sign-in provider gave no clear answer", cause)
	}
	// A wrong secret, or a firewall: nobody is logged out for it at once, also not who comes back
	// after a night. For ever it would leave clients with a login that nothing but a new one mends.
	since := st.troubled(last.RefreshToken, now)
	switch {
	case silence > staleWindow && now.Sub(since) > staleWindow:
		return ended(fmt.Errorf("%w, as it has for more than %v: see the labels clientID and clientSecret", cause, staleWindow))
	case s.OnLambda && silence > forgetfulWindow:
		// a process that has just begun does not know since when
		return ended(fmt.Errorf("%w, and its last word on this login is more than %v old: see the labels clientID and clientSecret", cause, forgetfulWindow))
	}
	return notAccepted(cause)
}

// forgetfulWindow is how long a process remembers that, and what stands for it in one that has just
// begun.
const forgetfulWindow = 24 * time.Hour
