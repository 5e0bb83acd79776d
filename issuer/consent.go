package issuer

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/navigation"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// consentPage asks the person, in a page that only this browser can answer. doubt says why a
// consent that was remembered does not count; empty: there is none.
func (s *Issuer) consentPage(r *http.Request, t *tenant, c client, req authorizationRequest, doubt string) *page {
	// Only this browser's cookie has the id: nobody can answer here what was asked elsewhere.
	id := s.newConsentID()
	host, loopback := redirecturi.Shown(req.RedirectURI)
	facts := []any{"redirect_host", host, "resource", req.Resource, "scope", req.Scope}
	if doubt != "" {
		facts = append(facts, "because", doubt)
	}
	s.record(audit.AuthorizationAsked, about{tenant: t, client: c.id, request: req.name()}, facts...)
	s.Metrics.Remember(req.Client, c.product())
	s.Metrics.Stage(t.Resource, c.product(), metrics.Authorized)
	verified, unread := "", ""
	switch {
	case !c.byDocument():
	case s.documentRead(c):
		// The document was read there, so the host speaks for the client.
		verified = weburl.HostOf(c.id)
	default:
		unread = weburl.HostOf(c.id)
	}
	name := c.Name
	if name == "" {
		name = "An application without a name"
	}
	signIn := weburl.HostOf(t.ProviderIssuer)
	if up, err := s.providers.Discover(r.Context(), &t.provider); err == nil {
		signIn = up.SignInHost()
	}
	rights, choice := t.rights(strings.Fields(req.Scope))
	req.Told = t.toldOfUpstream()
	a := &page{
		template: consentTemplate,
		data: map[string]any{
			"Client":   name,
			"Verified": verified,
			"Host":     host,
			"Loopback": loopback,
			"Private":  !weburl.IsWeb(req.RedirectURI),
			"Resource": req.Resource,
			"Rights":   rights,
			"Choice":   choice,
			"Provider": signIn,
			"Action":   t.PublicURL + "/oauth/consent",
			"Cookie":   cookieTag(id),
			"Request":  s.seal(sealing.KindConsent, t, id, req),
		},
		cookies: append(t.staleConsents(r), t.cookie(consentCookie, id, id)),
	}
	if unread != "" {
		a.data["Unread"] = unread
	}
	if t.upstream.On {
		a.data["Acts"], a.data["ActsWith"] = true, t.actsWith()
	}
	if req.Document != "" {
		a.data["Remember"] = inUnits(time.Duration(t.RememberConsent) * time.Second)
	}
	return a
}

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
	if err := t.wasTold(req.Told); err != nil {
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
	if decision != anotherAccount { // whoever answers the page decides anew what is remembered
		answered = append(answered, t.forgotten(r, req.Client)...)
	}
	switch decision {
	case "allow":
		if form.Has("choice") { // otherwise the page had nothing that could be left out
			req.Scope = t.leftTicked(req.Scope, form["scope"])
		}
		remember := req.Document != "" && form.Get("remember") == "yes"
		if req.Consent = consentOnce; remember {
			req.Consent = consentToRemember
		}
		s.record(audit.ConsentGiven, about{tenant: t, request: req.name()}, "redirect_uri", req.RedirectURI, "scope", req.Scope, "remember", remember, "remote", remoteIP(r))
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
		wishes.LoginHint, wishes.Prompt = "", wishes.Prompt+" "+up.OtherAccount(int(req.Again))
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

// A consent can be remembered by the browser that it was given in (docs/decisions/0042). It stands
// for the page where nothing has changed since, the client's own page has sent the person, and the
// same person logs in again. In doubt there is the page.

// mayRemember says whether the person may have their consent to this request remembered.
func (s *Issuer) mayRemember(t *tenant, c client, req authorizationRequest) bool {
	_, loopback := redirecturi.Shown(req.RedirectURI)
	u, err := url.Parse(req.RedirectURI)
	// A document says who runs a site. It does not say which program waits on somebody's own
	// computer, or opens a scheme of its own there (RFC 8252 §8.6).
	return t.RememberConsent > 0 && err == nil && u.Scheme == "https" && !loopback && s.documentRead(c) && s.forgetful(t) == "" &&
		len(req.State)+len(req.Resource)+len(req.Scope)+len(req.RedirectURI)+len(req.LoginHint)+len(req.UILocales)+len(c.id) <= maxRequest
}

// consentFor returns the consent to a request that the browser brings, with an empty subject if it
// brings none, and why that does not count.
func (s *Issuer) consentFor(r *http.Request, t *tenant, req authorizationRequest) (kept rememberedConsent, doubt string) {
	cookie, err := r.Cookie(t.cookieName(rememberedCookie, t.rememberedID(req.Client)))
	if err != nil || t.RememberConsent == 0 {
		return rememberedConsent{}, ""
	}
	err = s.open(sealing.KindRemembered, t, clientContext(req.Client), cookie.Value, &kept)
	if err != nil || kept.Subject == "" {
		return rememberedConsent{}, "what the browser remembers does not open, or is too old"
	}
	age, has := s.Now().Sub(time.Unix(kept.Given, 0)), strings.Fields(kept.Scope)
	switch {
	case req.Document == "":
		return kept, cmp.Or(s.forgetful(t), "the application's document could not be read now, or is not all that speaks for it")
	case age > time.Duration(t.RememberConsent)*time.Second || age < -sealing.Skew:
		return kept, "it is older than rememberConsent"
	case kept.RedirectURI != req.RedirectURI:
		return kept, "it was given for another redirect URI"
	case kept.UpstreamToken != t.toldOfUpstream():
		return kept, "the server may do something else at the provider than it was given for (label upstreamToken, or scopes beside it)"
	case kept.Resource != req.Resource:
		return kept, "it was given for another resource"
	case slices.ContainsFunc(strings.Fields(req.Scope), func(scope string) bool { return !slices.Contains(has, scope) }):
		return kept, "it was given for fewer scopes"
	}
	fingerprint, _ := base64.RawURLEncoding.DecodeString(sealing.Fingerprint(req.Document))
	if err := s.loginDenied(r.Context(), t, grant{Identity: identity{Subject: kept.Subject}, Born: kept.Given, Client: fingerprint}); err != nil {
		return kept, "the deny document ends what the person began then"
	}
	return kept, ""
}

// askedAnew says why this request must be shown, whatever is remembered: the client wants the
// person asked (OpenID Connect Core §3.1.2.1), or others than the person may have begun it.
func askedAnew(r *http.Request, req authorizationRequest) string {
	if r.URL.Query().Get("prompt") != "" {
		return "the application asks for it (prompt)"
	}
	return navigation.Doubt(r.Header, req.RedirectURI)
}

// goUnasked begins the login at the provider as after a page that was allowed.
func (s *Issuer) goUnasked(r *http.Request, t *tenant, c client, req authorizationRequest, kept rememberedConsent) (*page, error) {
	host, _ := redirecturi.Shown(req.RedirectURI)
	s.record(audit.ConsentRemembered, about{tenant: t, client: c.id, request: req.name(), subject: kept.Subject},
		"redirect_host", host, "resource", req.Resource, "scope", req.Scope, "given", time.Unix(kept.Given, 0).UTC(), "remote", remoteIP(r))
	s.Metrics.Remember(req.Client, c.product())
	s.Metrics.Stage(t.Resource, c.product(), metrics.Authorized)
	req.Consent, req.Told = consentRemembered, kept.UpstreamToken
	a, err := s.sendUpstream(r, t, req, nil)
	if err == nil {
		a.template = "" // a redirect: there is no form before it
	}
	return a, err
}

// remembered returns the cookie by which the browser remembers a consent that was given at that
// time, and takes back the oldest of others.
func (s *Issuer) remembered(r *http.Request, t *tenant, req authorizationRequest, subject string, given time.Time) []*http.Cookie {
	left := given.Add(time.Duration(t.RememberConsent) * time.Second).Sub(s.Now())
	sealed := s.seal(sealing.KindRemembered, t, clientContext(req.Client), rememberedConsent{
		RedirectURI: req.RedirectURI, Scope: req.Scope, Resource: req.Resource, Subject: subject, Given: given.Unix(),
		UpstreamToken: req.Told,
	})
	if len(sealed) > maxRememberedSize || left < time.Second {
		s.Log.Warn("a consent is not remembered: it is too long for a cookie, or the label has changed", t.named(), "characters", len(sealed), "most", maxRememberedSize)
		return nil
	}
	c := t.cookie(rememberedCookie, t.rememberedID(req.Client), sealed)
	c.MaxAge = int(left / time.Second)
	return append(t.staleRemembered(r), c)
}

// inUnits writes a duration as people say it.
func inUnits(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := d / unit.size; d%unit.size == 0 && (n > 1 || unit.size <= time.Hour) {
			if n == 1 {
				return "1 " + unit.name
			}
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return d.String()
}
