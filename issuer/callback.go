package issuer

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/packed"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// callback takes the provider's answer and hands the client a code. Where the person is not judged
// here (atCallback), the provider's code is not redeemed: it travels inside ours and is redeemed,
// last, when the client redeems ours. So the provider's single use of its code becomes ours, over
// all replicas, without a store.
func (s *Issuer) callback(r *http.Request, t *tenant) (*page, error) {
	if r.Method == http.MethodHead { // it would use the code up, and nobody reads the answer
		return nil, invalidRequest("This address takes the sign-in provider's answer by GET.")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalidRequest("The sign-in provider's answer is not well-formed.")
	}
	for _, values := range query {
		if len(values) > 1 {
			return nil, invalidRequest("The sign-in provider's answer is not well-formed.")
		}
	}
	// No cookie, no login: an answer that somebody else's browser began is worth nothing here.
	state := query.Get("state")
	cookie, err := r.Cookie(t.cookieName(loginCookie, state))
	if err != nil || state == "" {
		return nil, errLoginFinished
	}
	var login loginInProgress
	begun, err := s.openDated(sealing.KindFlow, t, state, cookie.Value, &login)
	if err != nil {
		return nil, badRequest("invalid_request", "This sign-in is no longer valid.").because(err)
	}
	// Who comes with a remembered consent is asked below.
	if err := t.wasTold(login.Told); err != nil && login.Consent != consentRemembered {
		return nil, badRequest("invalid_request", "This sign-in is no longer valid.").because(err)
	}
	req := login.authorizationRequest
	finished := []*http.Cookie{t.expiredCookie(loginCookie, state)}
	succeeded := finished
	if !weburl.IsWeb(req.RedirectURI) { // the browser stays on our page, which people reload
		succeeded = []*http.Cookie{t.reloadedCookie(state, cookie.Value)}
	}
	up, err := s.providers.Discover(r.Context(), &t.provider)
	if err != nil {
		return nil, err
	}
	if err := up.CheckIss(query); err != nil {
		return nil, (&Error{Status: http.StatusForbidden, Code: "access_denied", Description: "The answer came from another sign-in provider than the one asked."}).because(err)
	}
	if code := query.Get("error"); code != "" {
		e := upstreamRefusal(code)
		e.cause = provider.SaidAtCallback(query)
		return &page{next: t.errorURL(&redirectedError{e, req}), cookies: finished, refused: e}, nil
	}
	upstreamCode := query.Get("code")
	if upstreamCode == "" || len(upstreamCode) > provider.MaxValue {
		return nil, invalidRequest("The sign-in provider's answer holds no code, or one that is too long.")
	}
	code := authorizationCode{
		RedirectURI: req.RedirectURI, Challenge: req.Challenge, Scope: req.Scope, Resource: req.Resource,
		Seed: login.Seed, UpstreamCode: packed.Text(upstreamCode), KeyRequired: req.KeyRequired, Thumbprint: req.Thumbprint, Told: req.Told,
	}
	mark := codeKey(t, upstreamCode)
	done, err := s.redeeming.turn(r.Context(), mark)
	if err != nil { // another request is not done with the code; go on as with exchange=token
		return s.codeForAnybody(r, t, login, code, succeeded)
	}
	defer done()
	here, used := s.atCallback(r.Context(), t, req.Consent, mark)
	if used { // many providers end what they gave for a code that comes to them again
		return nil, errLoginFinished
	}
	s.Metrics.Stage(t.Resource, s.Metrics.ProductOf(req.Client, req.RedirectURI), metrics.Returned)
	if !weburl.IsWeb(req.RedirectURI) && s.unfinished.has(mark, s.Now()) {
		// The page was reloaded. Its cookie stays as it is, and so lives no longer than what is
		// kept.
		succeeded = nil
	}
	if here {
		who, withheld, err := s.redeem(r.Context(), t, login.Seed, upstreamCode, true)
		if err != nil {
			e := asError(err)
			if e.Status == http.StatusServiceUnavailable { // then as with exchange=token
				s.Log.Warn("the login cannot be finished while its person is here; it is left to the client's token request", t.named(), "provider", up.Issuer(), "cause", e.cause)
				s.handOn(r.Context(), mark)
				return s.codeForAnybody(r, t, login, code, succeeded)
			}
			// invalid_grant belongs to the token endpoint, not to this one (RFC 6749 §4.1.2.1).
			if e.Code == "invalid_grant" {
				e = badRequest("access_denied", e.Description).because(e.cause)
			}
			return &page{next: t.errorURL(&redirectedError{e, req}), cookies: finished, refused: e}, nil
		}
		if err := s.admitLogin(t, who, code.Scope, withheld); err != nil {
			// The person is still here: they get a page that says so, and from there the client its
			// access_denied. A program on their own machine gets that at once (decision 14).
			a := s.errorPage(r, t, &redirectedError{asError(err), req})
			a.status, a.cookies = http.StatusForbidden, finished
			s.offerAnotherAccount(r, t, req, up, err, a)
			return a, nil
		}
		if req.Consent == consentRemembered {
			kept, doubt := s.consentFor(r, t, req)
			if doubt == "" && kept.Subject != who.Subject {
				doubt = "another person has logged in, or the browser has forgotten"
			}
			if doubt != "" {
				s.unfinished.take(mark, s.Now())
				return s.askAfterAll(r, t, req, doubt, finished)
			}
		}
		if req.Consent == consentToRemember {
			succeeded = append(succeeded, s.remembered(r, t, req, who.Subject, begun)...)
		}
		if who.Upstream != nil && s.ReplayGuard != nil && s.ReplayGuard.Kind() != "memory" && s.unfinished.has(mark, s.Now()) {
			// The provider's tokens together make a URL that some systems cut off. So a guard that
			// all replicas share keeps what was learnt until the client's token request, which
			// judges it once more.
			s.handOn(r.Context(), mark)
			return s.codePage(t, req, code, succeeded), nil
		}
		code.UpstreamCode, code.Identity, code.Mark = "", &who, mark[:]
		code.Scope = withoutScopes(code.Scope, withheld)
		return s.codePage(t, req, code, succeeded), nil
	}
	// The client comes with our code in a moment.
	if warm := up.Warm(r.Context()); warm != nil && !s.OnLambda {
		s.Background(warm)
	}
	return s.codeForAnybody(r, t, login, code, succeeded)
}

// codeForAnybody is codePage where it is not known who logs in. That does for a person who was
// asked in this login, and for nobody else.
func (s *Issuer) codeForAnybody(r *http.Request, t *tenant, login loginInProgress, code authorizationCode, finished []*http.Cookie) (*page, error) {
	if login.Consent == consentRemembered {
		return s.askAfterAll(r, t, login.authorizationRequest, "it is not known who has logged in", []*http.Cookie{t.expiredCookie(loginCookie, login.Seed.State())})
	}
	if login.Consent == consentToRemember {
		s.Log.Warn("a consent is not remembered: it is not known in the browser who has logged in", t.named())
	}
	return s.codePage(t, login.authorizationRequest, code, finished), nil
}

// anotherAccount is the decision of a person who was refused, and has another account.
const anotherAccount = "another"

// maxAgain is how often one authorization request can go for another account.
const maxAgain = 3

// offerAnotherAccount lets a person who is not admitted choose another account at the provider,
// which would otherwise send back the same one without asking. They have given consent in this
// browser, to this request, which nobody has answered yet: so they are not asked again. The form is
// that of the consent page, with its cookie, its life and its one answer.
//
// Whoever comes back from the application instead is asked for an account as well. The cookie that
// sees to it says nothing, and can do nothing else: so it is not sealed.
func (s *Issuer) offerAnotherAccount(r *http.Request, t *tenant, req authorizationRequest, up *provider.Provider, e error, a *page) {
	if !errors.Is(e, errNotAdmitted) || up.OtherAccount(0) == "" {
		return
	}
	a.cookies = append(a.cookies, t.cookie(refusedCookie, t.refusedID(), "1"))
	if a.template == "" || req.Again >= maxAgain {
		return
	}
	req.Again++
	id := s.newConsentID()
	a.data["Advice"] = "Sign in with another account, or ask whoever runs this server to admit this one."
	if errors.As(e, new(unsentError)) {
		a.data["Advice"] = "Tell whoever runs this server the reference below. If you have another account, sign in with that."
	}
	a.data["Action"], a.data["Cookie"], a.data["Request"] = t.PublicURL+"/oauth/consent", cookieTag(id), s.seal(sealing.KindConsent, t, id, req)
	a.cookies = append(append(a.cookies, t.staleConsents(r)...), t.cookie(consentCookie, id, id))
}

// refusedID names the cookie of a tenant's refusals.
func (t *tenant) refusedID() string { return sealing.Fingerprint(t.PublicURL) }

var errLoginFinished = &Error{Status: http.StatusForbidden, Code: "access_denied",
	Description: "This sign-in was already finished, took longer than 15 minutes, or was begun in another browser."}

// atCallback decides when the provider's code is redeemed: here, while the person can still be told
// that they may not come in, or when the client redeems our code. used says that the client has
// done so already: the page was only loaded again, at a process that may have kept nothing. With
// exchange=auto it is here if a rule can refuse somebody, or a consent is remembered, and if a
// guard that has just answered will count the uses of our code: the provider cannot count them any
// more (docs/decisions/0020-exchange.md).
func (s *Issuer) atCallback(ctx context.Context, t *tenant, consent consentKind, code replay.Key) (here, used bool) {
	auto := t.Exchange == "auto"
	switch {
	case t.Exchange == "token", auto && !t.canRefuse() && consent == consentOnce:
		return false, false
	case s.ReplayGuard == nil:
		return !auto, false
	case auto && s.OnLambda && s.ReplayGuard.Kind() == "memory":
		// A function has many processes, and the memory of none of them counts for the others.
		return false, false
	}
	left, used, err := s.ReplayGuard.Found(ctx, code)
	if err != nil {
		s.guardFailed(t, err)
		return !auto, false
	}
	// With left, the person was here before and hung up: the token request gets what was learnt.
	return !left, used
}

// forgetful says why no consent can be remembered for this tenant, although the label asks for it:
// who logs in must be known while the browser is here, and something must count the uses of our
// code then (docs/decisions/0020-exchange.md).
func (s *Issuer) forgetful(t *tenant) string {
	switch {
	case t.Exchange == "token":
		return "with exchange=token nobody knows in the browser who logs in"
	case t.Exchange == "auto" && s.ReplayGuard == nil:
		return "there is no replay guard, which would count the uses of a code"
	case t.Exchange == "auto" && s.OnLambda && s.ReplayGuard.Kind() == "memory":
		return "the replay guard memory counts nothing on AWS Lambda"
	case !*s.MetadataDocuments:
		return "BOUNCER_METADATA_DOCUMENTS=false: no application is verified"
	case t.Registration == registrationCreated:
		return "registration=created lets no application with a metadata document in"
	}
	return ""
}

// codePage leads the browser to the client with a code.
func (s *Issuer) codePage(t *tenant, req authorizationRequest, code authorizationCode, finished []*http.Cookie) *page {
	exchange, a := "token", about{tenant: t, request: req.name()}
	if code.Identity != nil {
		exchange, a.subject = "callback", code.Identity.Subject
	}
	sealed := s.seal(sealing.KindCode, t, clientContext(req.Client), code)
	if code.Identity != nil && len(sealed) > maxToken {
		e := asError(upstreamTooLong(*code.Identity, "authorization_code", len(sealed)))
		return &page{next: t.errorURL(&redirectedError{e, req}), cookies: finished, refused: e}
	}
	s.record(audit.ProviderReturned, a, "exchange", exchange)
	return &page{next: t.responseURL(req, url.Values{"code": {sealed}}), cookies: finished}
}

// upstreamRefusal maps the error codes of a provider's authorization endpoint to what the client
// may hear. The texts are fixed: the provider's could hold anything.
func upstreamRefusal(code string) *Error {
	switch code {
	case "access_denied", "consent_required", "interaction_required", "login_required", "account_selection_required":
		return badRequest("access_denied", "the sign-in provider refused the login")
	case "temporarily_unavailable":
		return badRequest("temporarily_unavailable", "the sign-in provider is busy; try again")
	}
	return badRequest("server_error", "the sign-in provider could not complete the login")
}
