package issuer

import (
	"net/http"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

var errConsentAnswered = &Error{Status: http.StatusForbidden, Code: "access_denied",
	Description: "This page was already answered, is older than 15 minutes, or was opened in another browser. Or this browser refuses cookies, which are needed here."}

// consent takes the person's answer. The login exists only from here on: the cookie that the
// callback asks for is set here and nowhere else (MCP security best practices, "confused deputy").
func (s *Issuer) consent(r *http.Request, t *tenant) (*page, error) {
	if !t.sameOrigin(r) {
		return nil, &Error{Status: http.StatusForbidden, Code: "access_denied", Description: "This form was sent from another site."}
	}
	if err := r.ParseForm(); err != nil {
		return nil, invalidRequest("The form is not well-formed.").because(err)
	}
	form := r.PostForm
	cookie, err := r.Cookie(t.cookieName(consentCookie, form.Get("cookie")))
	if err != nil {
		return nil, errConsentAnswered
	}
	id, before, _ := strings.Cut(cookie.Value, ".")
	var req authorizationRequest
	if err := s.open(sealing.KindConsent, t, id, form.Get("request"), &req); err != nil {
		return nil, badRequest("invalid_request", "This page is no longer valid.").because(err)
	}
	decision := form.Get("decision")
	if (decision == anotherAccount) != (req.Again > 0) { // a page offers the one or the other
		return nil, invalidRequest("The form has no decision.")
	}
	// Whoever has allowed must not be told now that nothing was allowed.
	if before != "" && before != decision {
		return nil, errConsentAnswered
	}
	answered := []*http.Cookie{t.answeredCookie(id, decision)}
	switch decision {
	case "allow":
		if form.Has("choice") { // otherwise the page had nothing that could be left out
			req.Scope = t.leftTicked(req.Scope, form["scope"])
		}
		s.record(audit.ConsentGiven, about{tenant: t, request: req.name()}, "redirect_uri", req.RedirectURI, "scope", req.Scope, "remote", remoteIP(r))
		return s.sendUpstream(r, t, req, answered)
	case anotherAccount: // whoever was refused had given consent to this request
		return s.sendUpstream(r, t, req, answered)
	case "deny":
		s.record(audit.ConsentDenied, about{tenant: t, request: req.name()}, "redirect_uri", req.RedirectURI, "remote", remoteIP(r))
		denied := &redirectedError{badRequest("access_denied", "the person said no"), req}
		data := map[string]any{"Title": "You denied access", "Text": "Nothing was allowed. The application is told so."}
		if _, loopback := redirecturi.Shown(req.RedirectURI); weburl.IsWeb(req.RedirectURI) && !loopback {
			// Nobody is taken to a site that they have just refused: it may be what a link to us
			// was made for (RFC 9700 §4.11.2).
			data["Stay"], data["Text"] = true, "Nothing was allowed. You can close this page, or go back and the application is told so."
		}
		return &page{template: continueTemplate, next: t.errorURL(denied), data: data, cookies: answered}, nil
	}
	return nil, invalidRequest("The form has no decision.")
}

// sameOrigin keeps other sites from pressing the button. Browsers send Sec-Fetch-Site; older ones
// at least Origin.
func (t *tenant) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == t.origin
}

// sendUpstream begins the login at the provider: state, nonce and PKCE always (RFC 9700 §2.1.1).
func (s *Issuer) sendUpstream(r *http.Request, t *tenant, req authorizationRequest, cookies []*http.Cookie) (*page, error) {
	up, err := s.providers.Discover(r.Context(), &t.provider)
	if err != nil {
		return nil, err
	}
	if err := up.KeyFault(); err != nil { // the login could not be finished
		return nil, err
	}
	// Not where the process is frozen when it has answered: the keys would come too late, or never.
	if ahead := up.KeysAhead(r.Context()); ahead != nil && !s.OnLambda {
		s.Background(ahead)
	}
	login := loginInProgress{authorizationRequest: req, Seed: sealing.LoginSeed(randomBytes(32))}
	state := login.Seed.State()
	sealed := s.seal(sealing.KindFlow, t, state, login)
	cookies = append(cookies, t.staleLogins(r)...)
	if req.Again == 0 {
		s.Metrics.Stage(t.Resource, s.Metrics.ProductOf(req.Client, req.RedirectURI), metrics.Consented)
	}
	wishes := t.wishes(req)
	if _, err := r.Cookie(t.cookieName(refusedCookie, t.refusedID())); err == nil || req.Again > 0 {
		// The provider would send back the account that was refused just now.
		wishes.LoginHint, wishes.Prompt = "", up.OtherAccount(int(req.Again))
		cookies = append(cookies, t.expiredCookie(refusedCookie, t.refusedID()))
	}
	s.Log.Debug("login begins at the provider", t.named(), "provider", t.ProviderIssuer, "again", req.Again)
	return &page{
		template: continueTemplate,
		next:     up.AuthorizationURL(login.Seed, wishes),
		data:     map[string]any{"Title": "Continue to sign in", "Text": "Your sign-in provider asks who you are."},
		cookies:  append(cookies, t.cookie(loginCookie, state, sealed)),
	}, nil
}

// callbackURL returns the URL to which the provider sends the browser back. Each tenant has its
// own, so that a login cannot come back to another tenant (RFC 9700 §4.4.2).
func (t *tenant) callbackURL() string { return t.PublicURL + "/oauth/callback" }
