package issuer

import (
	"context"
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// redeem posts the upstream code, and returns who logged in, and which scopes of the label the
// provider withheld. An error of 503 is the truth: with the same code it may succeed a moment
// later, whether the code is spent by then (unfinished.go) or not.
func (s *Issuer) redeem(ctx context.Context, t *tenant, seed sealing.LoginSeed, code string, atCallback bool) (identity, []string, error) {
	up, secret, err := s.upstreamWithSecret(ctx, t)
	if err != nil {
		return identity{}, nil, err
	}
	client := ctx
	ctx, stay := outgoing.Detached(ctx) // a client that hangs up does not take a spent code with it
	defer stay()
	ctx, cancel := s.upstreamContext(withStrangersInput(ctx), t, up)
	defer cancel()
	token, until := s.recall(t, seed, code)
	if token == nil {
		known := s.standings.of(t, secret)
		if token, err = s.postCode(ctx, up.config(t, secret), code, oauth2.VerifierOption(seed.CodeVerifier())); err != nil {
			return identity{}, nil, s.codeError(t, up, known, err)
		}
		known.takesCode()
	}
	answer := learntOf(token)
	who, withheld, err := s.loginOf(ctx, t, up, seed, token)
	if err == nil && client.Err() != nil {
		err = temporarilyUnavailable("nobody waits for the answer any more", client.Err())
	}
	if err != nil {
		if asError(err).Status == http.StatusServiceUnavailable && !s.remember(t, seed, code, token) {
			// the code is spent
			err = invalidGrant("this login could not be finished; authorize again").because(err)
		}
		return identity{}, nil, err
	}
	if atCallback {
		s.rememberInCase(t, seed, code, answer, until)
	}
	return who, withheld, nil
}

// busyPauses are waited before a provider that cannot answer at the moment gets a code again: who
// brings it comes once. All fit upstreamTimeout.
var busyPauses = []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond}

// oncePause is the same, once, for its keys and its userinfo.
const oncePause = 500 * time.Millisecond

// postCode posts an upstream code. When that is not answered it is posted once more, on a new
// connection: if the provider has seen the first, nothing is lost that was not lost before. When
// the provider has not taken it, because it is busy or cannot be reached, it is posted again after
// a while.
func (s *Issuer) postCode(ctx context.Context, config *oauth2.Config, code string, option oauth2.AuthCodeOption) (*oauth2.Token, error) {
	for busy := 0; ; {
		token, err := config.Exchange(outgoing.WithSecondTry(ctx), code, option)
		pause, away := notTaken(err)
		if !away || busy == len(busyPauses) || s.Wait(ctx, max(pause, busyPauses[busy])) != nil {
			return token, err
		}
		busy++
	}
}

// notTaken says whether a provider has not done what it was asked for and may do it a little later,
// and what it says how much later: Retry-After in seconds (RFC 9110 §10.2.3), if it does.
func notTaken(err error) (time.Duration, bool) {
	var answer *oauth2.RetrieveError
	var network *net.OpError
	switch {
	case errors.As(err, &answer):
		seconds, _ := strconv.ParseUint(answer.Response.Header.Get("Retry-After"), 10, 16)
		return time.Duration(seconds) * time.Second, passes(answer)
	case errors.As(err, &network):
		return 0, network.Op == "dial" && !network.Timeout()
	}
	return 0, false
}

// loginOf makes a login of the provider's answer to a code.
func (s *Issuer) loginOf(ctx context.Context, t *tenant, up *upstream, seed sealing.LoginSeed, token *oauth2.Token) (identity, []string, error) {
	who, err := s.verifyIDToken(ctx, t, up, token)
	if err != nil {
		return identity{}, nil, err
	}
	if who.nonce == "" || subtle.ConstantTimeCompare([]byte(who.nonce), []byte(seed.Nonce())) != 1 {
		return identity{}, nil, loginRefused(errors.New("nonce of the id_token is not the one sent"))
	}
	known, err := s.learn(ctx, t, up, token, who)
	if err != nil {
		if asError(err).Status != http.StatusServiceUnavailable || t.ruleNeeds.lacks(who.claims) {
			return identity{}, nil, err
		}
		// No rule looks at what is missing. The access token is short, and the next refresh asks
		// for it.
		s.Log.Warn("what the MCP server is told of the person cannot be read at the moment; the login begins without it", t.named(), "provider", up.issuer, "cause", errors.Unwrap(err))
		known = s.identityOf(t, up, who.subject, who.claims)
		known.Needs = t.ruleNeeds.marks()
	}
	switch {
	case up.refreshMode(t) == "session":
		token.RefreshToken = "" // nothing to steal
	case token.RefreshToken == "" && up.refreshMode(t) == "upstream":
		return identity{}, nil, loginRefused(errors.New("the label refresh=upstream wants a refresh token of the provider, and it gave none: " + up.noRefreshToken(t) + "; or set refresh=session"))
	case token.RefreshToken == "":
		s.warnOfNoRefreshToken(t, up)
	}
	if len(token.RefreshToken)+known.size() > maxUpstreamValue {
		s.Log.Warn("the provider's refresh token is too long to carry, so the login lives only BOUNCER_SESSION_TTL", t.named(), "provider", up.issuer, "characters", len(token.RefreshToken))
		token.RefreshToken = ""
	}
	if token.RefreshToken == "" && up.refreshMode(t) == "upstream" {
		return identity{}, nil, loginRefused(errors.New("the label refresh=upstream wants a refresh token of the provider, and it gave one that is too long to carry: set refresh=session"))
	}
	known.RefreshToken, known.CheckedAt = packed(token.RefreshToken), s.Now().Unix()
	known.scopeSaid, known.Unsaid = scopeSaid(token), t.unsaid(up, token)
	return known, s.notGranted(t, up, token), nil
}

// askAgain refreshes upstream and returns what the provider says of the person now, as redeem does.
func (s *Issuer) askAgain(ctx context.Context, t *tenant, up *upstream, secret string, login replayKey, last identity) (identity, []string, error) {
	ctx, cancel := s.upstreamContext(ctx, t, up)
	defer cancel()
	known := s.standings.of(t, secret)
	token, err := s.postRefresh(ctx, t, up, up.config(t, secret), last)
	switch {
	case errors.Is(err, errAnswerLost):
		return identity{}, nil, invalidGrant("the sign-in provider's answer was lost; authorize again").because(err)
	case err != nil:
		return identity{}, nil, s.refreshError(up, known, last, err)
	}
	known.takes(last.RefreshToken, s.Now())
	// OpenID Connect Core §12.2: an id_token may be missing here, and userinfo answers then
	who := idToken{subject: last.Subject}
	raw, _ := token.Extra("id_token").(string)
	if raw != "" {
		who, err = s.refreshedIDToken(ctx, t, up, raw, last.Subject)
	}
	var next identity
	used := false // the new access token
	switch noNews := raw == "" && up.userinfoURL == ""; {
	case err != nil:
	case noNews && t.claimNeeds.within(last.Needs): // which takes nothing back
		next, next.UnreadSince = last, 0
	case noNews:
		err = rulesChanged()
	default:
		next, err = s.learn(ctx, t, up, token, who)
		used = err == nil && up.userinfoURL != "" && t.claimNeeds.lacks(who.claims)
	}
	checkedAt := checkedAfter(last.CheckedAt, s.Now())
	if err == nil {
		known.reads(login)
	} else {
		since := known.unreadSince(login, time.Unix(last.CheckedAt, 0), s.Now())
		if sealed := time.Unix(last.UnreadSince, 0); last.UnreadSince != 0 && sealed.Before(since) {
			since = sealed
		}
		silent := s.Now().Sub(since) > staleWindow
		if asError(err).Status != http.StatusServiceUnavailable || silent || !t.claimNeeds.within(last.Needs) {
			if silent && errors.Is(err, errUnusable) { // waiting did not mend it
				err = invalidGrant("the sign-in provider's answers about this login were not accepted; authorize again").because(errors.Unwrap(err))
			}
			return identity{}, nil, err
		}
		// The provider may have replaced its refresh token: losing the new one would end the login.
		// The next refresh asks again. Not for ever: who was taken out of a group would stay in as
		// long as userinfo fails.
		s.Log.Warn("what the provider says of the person cannot be read; the last known claims stand", t.named(), "provider", up.issuer, "cause", errors.Unwrap(err))
		next, checkedAt = last, last.CheckedAt
		next.UnreadSince = since.Unix()
	}
	next.RefreshToken, next.CheckedAt, next.Unsaid = packed(token.RefreshToken), checkedAt, last.Unsaid
	if scopeSaid(token) {
		next.Unsaid = ""
	}
	if next.RefreshToken == "" {
		next.RefreshToken = last.RefreshToken // RFC 6749 §6: none sent means the old one stays
	}
	if next.RefreshToken != last.RefreshToken && len(next.RefreshToken)+next.size() > maxUpstreamValue {
		s.Log.Warn("the provider's new refresh token is too long to carry, so the one before it stays; if the provider has ended that one, the login ends at the next check", t.named(), "provider", up.issuer, "characters", len(next.RefreshToken))
		next.RefreshToken = last.RefreshToken
	}
	if !used && next.RefreshToken != last.RefreshToken {
		s.endOldToken(ctx, t, up, token, last.Subject)
	}
	return next, t.withheldScopes(token), nil // RFC 6749 §6: saying nothing here means as before
}

// checkedAfter is the time of a check, and another one than that of the check before, which may
// have been in the same second: requests that hold one provider's token of one check share a
// question (renewChecked). Checks that come much faster than one each second share some.
func checkedAfter(last int64, now time.Time) int64 {
	const ahead = 60
	return max(now.Unix(), min(last+1, now.Unix()+ahead))
}

// endOldToken uses a new access token once where the provider ends the refresh token before only
// then: a stolen older one would work on, also after its owner has revoked the newest.
func (s *Issuer) endOldToken(ctx context.Context, t *tenant, up *upstream, token *oauth2.Token, subject string) {
	if !up.dialect().endsOldAtUse {
		return
	}
	if _, err := s.userinfo(ctx, up, token, subject); err != nil && s.keepsOld.First("used access token", t.PublicURL) {
		s.Log.Warn("the provider ends a refresh token when the access token that came with the next one is used, and it cannot be used: a stolen refresh token may work on; see BOUNCER_REPLAY_GUARD",
			t.named(), "provider", up.issuer, "cause", errors.Unwrap(err))
	}
}

// errAnswerLost: the provider may have replaced its refresh token, and must not be asked again.
var errAnswerLost = errors.New("the provider's answer was lost, and to ask it again would end all logins of this person there")

// postRefresh posts an upstream refresh token. When the answer is lost it is posted once more: if
// the provider has not replaced it, or has a leeway, nothing is lost, and else the login is over
// anyway. Where the second time would end other logins too, this one is given up
// (docs/decisions/0024-what-a-provider-said.md).
func (s *Issuer) postRefresh(ctx context.Context, t *tenant, up *upstream, config *oauth2.Config, last identity) (*oauth2.Token, error) {
	ask := func(ctx context.Context) (*oauth2.Token, error) {
		// A token without an access token makes the source refresh at once.
		return config.TokenSource(ctx, &oauth2.Token{RefreshToken: string(last.RefreshToken)}).Token()
	}
	if up.dialect().reuseEndsAll {
		client := s.clientFor(t, up)
		seen := &witness{next: client.Transport}
		client.Transport = rewritten{seen, readableTokens}
		token, err := ask(oidc.ClientContext(outgoing.WithoutSecondTry(ctx), client))
		if isLost(err) && seen.sent.Load() && !seen.wasElse.Load() {
			err = errAnswerLost
		}
		return token, err
	}
	ctx = outgoing.WithSecondTry(ctx)
	token, err := ask(ctx)
	if isLost(err) && ctx.Err() == nil && outgoing.TakeSecondTry(ctx) {
		// Many still take the old one for half a minute; our client comes again after that.
		token, err = ask(ctx)
	}
	return token, err
}

// witness knows whether a request went out, and whether something else than an API has answered
// it: a page says nothing of what became of a refresh token.
type witness struct {
	next          http.RoundTripper
	sent, wasElse atomic.Bool
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			w.sent.Store(true)
		}
	}}
	resp, err := w.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err == nil {
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		w.wasElse.Store(kind != "application/json")
	}
	return resp, err
}

// isLost says that there was no answer that could be read, other than because time ran out.
func isLost(err error) bool {
	var answer *oauth2.RetrieveError
	var broken *url.Error
	return err != nil && !errors.As(err, &answer) && !(errors.As(err, &broken) && broken.Timeout())
}

// upstreamContext is for one exchange with a provider.
func (s *Issuer) upstreamContext(ctx context.Context, t *tenant, up *upstream) (context.Context, context.CancelFunc) {
	client := s.clientFor(t, up)
	client.Transport = rewritten{client.Transport, readableTokens}
	return context.WithTimeout(oidc.ClientContext(ctx, client), upstreamTimeout)
}

// loginRefused is access_denied, not invalid_grant: at invalid_grant SDKs begin a new login, which
// would end the same way.
func loginRefused(cause error) *Error {
	return badRequest("access_denied", "the sign-in provider's answer was not accepted; the server's log says why").because(cause)
}

// safeCode is an error code of a provider as it may stand in a log.
func safeCode(code string) string { return outgoing.SafeCode(code) }
