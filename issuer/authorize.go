package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
)

// authorize checks an authorization request (RFC 6749 §4.1.1) and asks the person. Nobody is sent
// to the provider before consent: all clients share one client there, so the provider cannot ask
// about each of them (confused deputy).
func (s *Issuer) authorize(r *http.Request, t *tenant) (*page, error) {
	c, req, err := s.parseAuthorizationRequest(r, t)
	if err != nil {
		return nil, ofClient(c.id, err)
	}
	if t.RememberConsent == 0 {
		return s.consentPage(r, t, c, req, ""), nil
	}
	if s.mayRemember(t, c, req) {
		req.Document = c.id
	}
	kept, doubt := s.consentFor(r, t, req)
	if kept.Subject != "" && doubt == "" {
		doubt = askedAnew(r, req)
	}
	if kept.Subject == "" || doubt != "" {
		return s.consentPage(r, t, c, req, doubt), nil
	}
	return s.goUnasked(r, t, c, req, kept)
}

// askAfterAll shows the page to a person who has come from the provider without having seen it. The
// provider's word on them is dropped: they go there once more if they allow it.
func (s *Issuer) askAfterAll(r *http.Request, t *tenant, req authorizationRequest, doubt string, finished []*http.Cookie) (*page, error) {
	c, err := s.openClient(r.Context(), t, req.Document)
	if err != nil {
		return nil, ofClient(req.Document, unknownClient(req.Document, err))
	}
	if err := s.mayAsk(r.Context(), t, c, req.RedirectURI); err != nil {
		return nil, ofClient(c.id, err)
	}
	req.Consent, req.Again = consentOnce, 0
	if !s.mayRemember(t, c, req) {
		req.Document = ""
	}
	a := s.consentPage(r, t, c, req, doubt)
	a.cookies = slices.Concat(finished, t.forgotten(r, req.Client), a.cookies)
	return a, nil
}

// parseAuthorizationRequest returns a request that passed every check. Until client and redirect
// URI are proven an error is shown to the person; from then on it is sent to the client.
func (s *Issuer) parseAuthorizationRequest(r *http.Request, t *tenant) (client, authorizationRequest, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return client{}, authorizationRequest{}, invalidRequest("The application's request is not well-formed.")
	}
	for name, values := range query {
		// RFC 6749 §3.1. RFC 8707 §2 allows several resources.
		if len(values) > 1 && name != "resource" {
			return client{}, authorizationRequest{}, invalidRequest("A parameter of the application's request is repeated.")
		}
	}
	id, uri := query.Get("client_id"), query.Get("redirect_uri")
	if isDocumentURL(id) && uri != "" && redirecturi.Check(uri, nil) != nil {
		// No document can allow it, so none is fetched.
		return client{id: id}, authorizationRequest{}, errRedirectURI
	}
	if err := t.admitsDocument(id); err != nil {
		return client{id: id}, authorizationRequest{}, err
	}
	c, err := s.openClient(r.Context(), t, id)
	if err != nil {
		return c, authorizationRequest{}, unknownClient(id, err)
	}
	req := authorizationRequest{Client: c.hash(), RedirectURI: uri, KeyRequired: c.keyRequired()}
	if req.RedirectURI == "" && len(c.RedirectURIs) == 1 {
		req.RedirectURI = c.RedirectURIs[0] // RFC 6749 §3.1.2.3
	}
	if err := s.mayAsk(r.Context(), t, c, req.RedirectURI); err != nil {
		return c, req, err
	}

	redirected := func(code, description string) error {
		return &redirectedError{badRequest(code, description), req}
	}
	// CBOR cannot hold a text that is not UTF-8.
	if req.State = query.Get("state"); len(req.State) > maxState || !utf8.ValidString(req.State) {
		req.State = ""
		return c, req, redirected("invalid_request", "state is too long or not UTF-8")
	}
	for _, p := range unsupportedParameters {
		if query.Get(p.name) != "" {
			return c, req, redirected(p.code, "the parameter "+p.name+" is not supported")
		}
	}
	if mode := query.Get("response_mode"); mode != "" && mode != "query" {
		return c, req, redirected("invalid_request", "response_mode must be query")
	}
	if query.Get("response_type") != "code" {
		return c, req, redirected("unsupported_response_type", "response_type must be code")
	}
	// A missing method means plain (RFC 7636 §4.3).
	if query.Get("code_challenge_method") != "S256" {
		return c, req, redirected("invalid_request", "code_challenge_method must be S256")
	}
	challenge, err := base64.RawURLEncoding.Strict().DecodeString(query.Get("code_challenge"))
	if err != nil || len(challenge) != sha256.Size || len(query.Get("code_challenge")) != 43 {
		return c, req, redirected("invalid_request", "code_challenge must be a SHA-256 in base64url")
	}
	req.Challenge = [sha256.Size]byte(challenge)
	var ok bool
	if req.Resource, ok = t.matchResource(present(query["resource"])); !ok {
		return c, req, redirected("invalid_target", "resource is not served here")
	}
	if jkt := query.Get("dpop_jkt"); jkt != "" && t.DPoP != dpopOff {
		if req.Thumbprint = decodeThumbprint(jkt); req.Thumbprint == nil {
			return c, req, redirected("invalid_request", "dpop_jkt must be a SHA-256 thumbprint in base64url")
		}
	}
	if query.Get("prompt") == "none" { // OpenID Connect Core §3.1.2.6: consent is always asked
		return c, req, redirected("consent_required", "consent cannot be given without asking")
	}
	req.Scope = t.grantableScope(query.Get("scope"))
	req.wish(query)
	if len(req.State)+len(req.Resource)+len(req.Scope)+len(req.RedirectURI)+len(req.LoginHint)+len(req.UILocales) > maxRequest {
		return c, req, redirected("invalid_request", "state, resource, scope, redirect_uri and login_hint are too long together")
	}
	return c, req, nil
}

// The longest wishes that are carried, in bytes and seconds.
const (
	maxLoginHint = 254 // an e-mail address (RFC 5321 §4.5.3.1.3)
	maxUILocales = 100
	maxMaxAge    = 1 << 31
)

var uiLocales = lazyregexp.Regexp{Text: `^[A-Za-z0-9-]+( [A-Za-z0-9-]+)*$`}

// wish takes what the client wishes of the provider, as far as it makes a login no weaker. All of
// it is voluntary (OpenID Connect Core §3.1.2.1), so what cannot be carried is passed over.
// acr_values is not taken: a provider may sign people in by weaker means where it names them.
func (req *authorizationRequest) wish(query url.Values) {
	if hint := query.Get("login_hint"); len(hint) <= maxLoginHint && utf8.ValidString(hint) && strings.IndexFunc(hint, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		req.LoginHint = hint
	}
	if locales := query.Get("ui_locales"); len(locales) <= maxUILocales && uiLocales.Get().MatchString(locales) {
		req.UILocales = locales
	}
	prompt := strings.Fields(query.Get("prompt"))
	req.Prompt = strings.Join(slices.DeleteFunc(prompt, func(v string) bool { return v != "login" && v != "select_account" }), " ")
	if len(req.Prompt) > len("login select_account") { // one of them twice
		req.Prompt = "login select_account"
	}
	if age, err := strconv.ParseInt(query.Get("max_age"), 10, 64); err == nil && age >= 0 && age <= maxMaxAge {
		req.MaxAge = &age
	}
}

// wishes are what the provider is asked for at this login: what the client wishes, and what the
// label authenticationRules needs for the scopes that it asks for. So a client that knows nothing
// of RFC 9470 needs to ask for the scope alone.
func (t *tenant) wishes(req authorizationRequest) provider.Wishes {
	wish := provider.Wishes{LoginHint: req.LoginHint, Prompt: req.Prompt, UILocales: req.UILocales, MaxAge: req.MaxAge}
	if t.stepup == nil {
		return wish
	}
	need := t.stepup.Of(append(strings.Fields(req.Scope), t.RequiredScopes...))
	wish.ACRValues = strings.Join(need.ACRValues, " ")
	if need.MaxAge > 0 && (wish.MaxAge == nil || *wish.MaxAge > need.MaxAge) {
		wish.MaxAge = &need.MaxAge
	}
	return wish
}

// mayAsk says whether a person may be asked about this client and redirect URI.
func (s *Issuer) mayAsk(ctx context.Context, t *tenant, c client, redirectURI string) error {
	if !redirecturi.Match(c.RedirectURIs, redirectURI) {
		return errRedirectURI
	}
	if err := s.clientDenied(ctx, c.id); err != nil {
		return err
	}
	if err := t.admitsClient(c); err != nil {
		return err
	}
	return s.redirectDenied(ctx, redirectURI)
}

// unsupportedParameters carry another request, or another client, than the query does (OpenID
// Connect Core §3.1.2.6, RFC 9101 §5). Whoever ignores them grants something that was not asked.
var unsupportedParameters = []struct{ name, code string }{
	{"request", "request_not_supported"},
	{"request_uri", "request_uri_not_supported"},
	{"registration", "registration_not_supported"},
}
