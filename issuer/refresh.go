package issuer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	// shortLife is the life of an access token that is given although nobody could be asked. It is
	// longer than refreshAhead, or each request in an outage would begin with a refresh.
	shortLife = 7 * time.Minute
	// refreshAhead is the most that a widely used client refreshes ahead: Claude Code 2.1 does so
	// before each request while its access token has 300 seconds or less.
	refreshAhead = 5 * time.Minute
	// staleWindow is how long after a provider's last word on a person its silence is bridged by
	// short tokens.
	staleWindow = 2 * time.Hour
	// refreshTimeout bounds what a refresh waits for: discovery, another replica, and the provider.
	refreshTimeout = 25 * time.Second
	claimPoll      = 250 * time.Millisecond
	claimWait      = 3 * time.Second
	checksKept     = 10_000
)

// renewal is how a refresh is answered: the grant that the new refresh token holds, and its text.
type renewal struct {
	grant
	token string
	short bool // nobody could be asked: a short access token
	still bool // nothing has moved: the refresh token is the one that was presented
	// the provider was asked, and nothing else has moved: the rules do not admit the person
	barred bool
}

// refresh is RFC 6749 §6. Between two checks upstream moves nothing. Who tells the first use of a
// refresh token from the second is the replay guard's matter, and the provider's (docs/replay.md).
func (s *Issuer) refresh(ctx context.Context, t *tenant, c client, form url.Values) (tokenResponse, error) {
	presented := form.Get("refresh_token")
	g, sealedAt, err := s.openGrant(t, c, presented)
	if err != nil {
		return tokenResponse{}, invalidGrant("the refresh token is not valid for this client").because(err)
	}
	if g.KeyRequired && !c.proved {
		return tokenResponse{}, errKeyMissing
	}
	now := s.Now()
	if now.After(time.Unix(g.Born, 0).Add(s.familyLife(g))) {
		return tokenResponse{}, invalidGrant("this login is over; authorize again")
	}
	if now.After(sealedAt.Add(s.RefreshIdleTTL)) {
		return tokenResponse{}, invalidGrant("this login was not used for too long; authorize again")
	}
	resource, err := t.narrowResource(form, g.Resource)
	if err != nil {
		return tokenResponse{}, err
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return tokenResponse{}, err
	}
	// Labels that need other claims than were read at the last check: the known ones say nothing
	// about them.
	unread := !t.claimNeeds.within(g.Identity.Needs)
	if unread && g.Identity.RefreshToken == "" {
		return tokenResponse{}, rulesChanged()
	}
	if err := t.givesScope(g, form.Get("scope")); err != nil && t.breaks(g.Identity) == nil {
		return tokenResponse{}, t.scopeLost(g, err)
	}
	// From here on something moves, at the guard or the provider. A client that hangs up must not
	// lose half of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	defer cancel()
	age := now.Sub(time.Unix(g.Identity.CheckedAt, 0))
	due := g.Identity.RefreshToken != "" && (unread || t.UpstreamCheckInterval == 0 || age >= time.Duration(t.UpstreamCheckInterval)*time.Second)
	renew := s.renew
	if due {
		renew = s.renewChecked
	}
	next, err := renew(ctx, t, c, presented, g)
	if err != nil {
		return tokenResponse{}, err
	}
	asked := form.Get("scope")
	if due && t.breaks(next.Identity) == nil {
		if err := t.takenBack(g, next.grant); err != nil {
			return tokenResponse{}, err
		}
		// The provider may just have taken back what is asked for. Something has moved, and the
		// client needs the next refresh token: with it comes what opens the door, as for a name
		// that nobody knows.
		if len(t.RequiredScopes) > 0 && t.chosenScope(t.scopeOf(next.grant), asked) == "" {
			asked = strings.Join(t.RequiredScopes, " ")
		}
	}
	next.short = next.short || next.Identity.UnreadSince != 0
	next.Resource = resource // of the access token only: the refresh token keeps what was granted
	return s.issue(t, c, next, asked, "refresh_token")
}

// scopeLost is why a refresh gives no scope that is needed, or err, if another scope parameter
// would get some.
func (t *tenant) scopeLost(g grant, err error) error {
	if len(t.scopeOf(g)) == 0 { // no refresh can change that, and a new login says why
		return invalidGrant("this login gives no scope any more that this server needs; authorize again").because(err)
	}
	return err
}

// familyLife is how long after the login the last refresh may come. It does not slide.
func (s *Issuer) familyLife(g grant) time.Duration {
	if g.Identity.RefreshToken == "" {
		// nobody can be asked whether the person may still come in
		return min(s.SessionTTL, s.RefreshTokenTTL)
	}
	return s.RefreshTokenTTL
}

func familyKey(t *tenant, g grant) replayKey {
	return sealing.ReplayMark(t.id, "family", string(g.Family[:]))
}

// renew takes the family one step on. Nobody is asked but the guard.
func (s *Issuer) renew(ctx context.Context, t *tenant, c client, presented string, g grant) (renewal, error) {
	// Before the step: who is not admitted today keeps a refresh token that works when the rules
	// change back, unless the provider has just replaced the one in it.
	if err := s.admit(t, g.Identity); err != nil {
		return renewal{}, err
	}
	g.Generation++
	next := renewal{grant: g, token: s.sealGrant(t, c, g)}
	guard := s.ReplayGuard
	if guard == nil {
		return next, nil
	}
	v, first, err := guard.step(ctx, familyKey(t, g), g.Generation-1, sealing.SealAnswer(t.id, presented, []byte(next.token)))
	switch {
	case errors.Is(err, errGuardFull):
		s.guardFailed(t, err)
		return renewal{}, temporarilyUnavailable("this server has too many logins at the moment", err)
	case err != nil:
		// The step may have been done or not: with the new refresh token the client is right in
		// either case.
		s.guardFailed(t, err)
		s.staleAnswer(t, g, err)
		next.short = true
		return next, nil
	}
	if v == fresh {
		return next, nil
	}
	return s.notFresh(ctx, t, c, presented, g, v, first)
}

// notFresh answers a refresh token that was used before: with the answer to its first use or,
// later, with the end of the login.
func (s *Issuer) notFresh(ctx context.Context, t *tenant, c client, presented string, g grant, v verdict, first []byte) (renewal, error) {
	if v == over { // no alarm: clients that were not told come again
		return renewal{}, invalidGrant("this login was ended; authorize again")
	}
	if v == repeated {
		token, err := sealing.OpenAnswer(t.id, presented, first)
		var next grant
		if err == nil {
			next, _, err = s.openGrant(t, c, string(token))
		}
		if err == nil {
			s.counters.add(tokensRepeated)
			return renewal{grant: next, token: string(token)}, nil
		}
		// The answer was another token's of the same generation: two have the same login, as only a
		// replay makes it.
	}
	s.counters.add(familiesReused)
	s.endFamily(ctx, t, c, g, "a refresh token was presented again")
	return renewal{}, invalidGrant("this refresh token was used before, so the login is over; authorize again")
}

// endFamily makes the guard, if there is one, refuse all refresh tokens of a login that is over.
func (s *Issuer) endFamily(ctx context.Context, t *tenant, c client, g grant, because string) {
	s.loginEnded(t, c, g, because)
	s.endAtGuard(ctx, t, g)
}

// loginEnded is the operator's record of it.
func (s *Issuer) loginEnded(t *tenant, c client, g grant, because string) {
	s.Log.Warn("login ended", "because", because, t.named(), "client", sealing.Fingerprint(c.id),
		"subject", s.Ring.Pseudonym(t.id, g.Identity.Subject), "family", g.familyName(), "generation", g.Generation)
}

func (s *Issuer) endAtGuard(ctx context.Context, t *tenant, g grant) error {
	if s.ReplayGuard == nil {
		return nil
	}
	err := s.ReplayGuard.end(ctx, familyKey(t, g))
	if err != nil {
		s.guardFailed(t, err)
	}
	return err
}

func (s *Issuer) guardFailed(t *tenant, err error) {
	s.counters.add(guardFailures)
	s.Log.Error("the replay guard did not answer", t.named(), "cause", err)
}

// staleAnswer is the operator's record of an answer that nobody was asked about.
func (s *Issuer) staleAnswer(t *tenant, g grant, cause error) {
	s.counters.add(staleAnswers)
	s.Log.Warn("a short access token instead of a logout", t.named(), "family", g.familyName(),
		"provider's last word", time.Unix(g.Identity.CheckedAt, 0).UTC().Format(time.RFC3339), "cause", cause.Error())
}

// stale answers a due refresh when nobody can be asked, and nothing has moved: a short access token
// and the same refresh token, for a while. Claims that were never read are not bridged.
func (s *Issuer) stale(t *tenant, presented string, g grant, cause error) (renewal, error) {
	e := asError(cause)
	if s.Now().Sub(time.Unix(g.Identity.CheckedAt, 0)) > staleWindow || !t.claimNeeds.within(g.Identity.Needs) {
		return renewal{}, e
	}
	if e.cause != nil {
		cause = e.cause
	}
	s.staleAnswer(t, g, cause)
	return renewal{grant: g, token: presented, short: true, still: true}, nil
}

// renewChecked is renew after the provider was asked whether the person may still come in.
func (s *Issuer) renewChecked(ctx context.Context, t *tenant, c client, presented string, g grant) (renewal, error) {
	if guard := s.ReplayGuard; guard != nil {
		v, first, err := guard.look(ctx, familyKey(t, g), g.Generation)
		if err != nil {
			s.guardFailed(t, err)
			return s.stale(t, presented, g, temporarilyUnavailable("the login cannot be checked at the moment", err))
		}
		if v != fresh {
			return s.notFresh(ctx, t, c, presented, g, v, first)
		}
	}
	// What is asked with is the provider's token, so that is what requests have in common, whatever
	// wraps it.
	sum := sha256.Sum256(must(encoding.Marshal([]any{t.id[:], g.Family[:], g.Identity.RefreshToken, g.Identity.CheckedAt})))
	next, same, err := s.checks.do(ctx, s.Now, replayKey(sum[:16]), presented, func() (renewal, error) { return s.check(ctx, t, c, presented, g) })
	switch {
	case err != nil:
		return renewal{}, err
	case same && !next.barred:
		return next, nil
	case next.still:
		return renewal{grant: g, token: presented, short: true, still: true}, nil
	}
	g.Identity, g.Scope = next.Identity, next.Scope
	return s.renew(ctx, t, c, presented, g)
}

// check asks the provider, as the only one of all replicas, and takes the family one step on.
func (s *Issuer) check(ctx context.Context, t *tenant, c client, presented string, g grant) (renewal, error) {
	up, secret, err := s.upstreamWithSecret(ctx, t) // before the claim, which is short
	if err != nil {
		return s.stale(t, presented, g, err)
	}
	if s.ReplayGuard != nil {
		claim, caller := sealing.ReplayMark(t.id, "check", string(g.Family[:])), newCaller()
		v, first, err := s.claim(ctx, claim, caller, familyKey(t, g), g.Generation)
		switch {
		case errors.Is(err, errClaimed):
			return renewal{}, temporarilyUnavailable("another request of this login is being answered; try again", err)
		case err != nil:
			s.guardFailed(t, err)
			return s.stale(t, presented, g, temporarilyUnavailable("the login cannot be checked at the moment", err))
		case v != fresh:
			return s.notFresh(ctx, t, c, presented, g, v, first)
		}
		// after the step; if it fails, the claim ends by itself
		defer s.ReplayGuard.unclaim(ctx, claim, caller)
	}
	s.counters.add(upstreamChecks)
	last := g.Identity
	var withheld []string
	g.Identity, withheld, err = s.askAgain(ctx, t, up, secret, familyKey(t, g), last)
	if err != nil {
		g.Identity = last
		if errors.Is(err, errRulesChanged) {
			return renewal{}, err
		}
		if e := asError(err); e.Status < http.StatusInternalServerError {
			s.counters.add(familiesRefused)
			s.endFamily(ctx, t, c, g, fmt.Sprintf("the provider was asked about it: %v", e.cause))
			return renewal{}, err
		}
		return s.stale(t, presented, g, err)
	}
	if s.ReplayGuard == nil && !c.proved {
		s.warnOfOldTokens(t, up, last.RefreshToken == g.Identity.RefreshToken)
	}
	g.Scope = withoutScopes(g.Scope, withheld)
	// who comes again within the minute is judged anew on this, and the provider is left alone
	if t.breaks(g.Identity) != nil {
		return renewal{grant: g, barred: true}, nil
	}
	next, err := s.renew(ctx, t, c, presented, g)
	// the provider may have replaced its refresh token: losing the new one would end the login
	if errors.Is(err, errGuardFull) {
		g.Generation++
		return renewal{grant: g, token: s.sealGrant(t, c, g), short: true}, nil
	}
	return next, err
}

// warnOfOldTokens tells the operator, once for each tenant, that nobody notices a stolen refresh
// token: there is no guard, and the provider takes its own again when they were used.
func (s *Issuer) warnOfOldTokens(t *tenant, up *upstream, same bool) {
	const advice = ", and there is no replay guard: a stolen refresh token works unnoticed until its login is over; see BOUNCER_REPLAY_GUARD and BOUNCER_REFRESH_TOKEN_TTL"
	d := up.dialect()
	what := "the provider keeps its refresh tokens when they are used"
	switch {
	case same:
	case d.keepsOld && d.unless != "":
		what = d.name + " takes refresh tokens that were used again, unless " + d.unless + " is on there"
	case d.keepsOld:
		what = d.name + " takes refresh tokens that were used again"
	default:
		return
	}
	if s.static.first(t.PublicURL) {
		s.Log.Warn(what+advice, t.named(), "provider", up.issuer)
	}
}

// errClaimed: another replica is asking the provider about this family.
var errClaimed = errors.New("replay guard: the check is claimed")

// claim waits until this request is the one that asks the provider, or until somebody else's answer
// is there. Two replicas must not present one refresh token: a provider that rotates would take it
// for theft.
func (s *Issuer) claim(ctx context.Context, check replayKey, caller uint32, family replayKey, generation uint32) (verdict, []byte, error) {
	for waited := time.Duration(0); ; waited += claimPoll {
		claimed, err := s.ReplayGuard.claim(ctx, check, caller)
		if err != nil {
			// it may have been made, and only the answer was lost
			s.ReplayGuard.unclaim(ctx, check, caller)
			return fresh, nil, err
		}
		// After the claim: whoever had it before has done the step by now.
		v, first, err := s.ReplayGuard.look(ctx, family, generation)
		if err == nil && v == fresh && claimed {
			return fresh, nil, nil
		}
		if claimed {
			s.ReplayGuard.unclaim(ctx, check, caller)
		}
		if err != nil || v != fresh {
			return v, first, err
		}
		if waited >= claimWait {
			return fresh, nil, errClaimed
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return fresh, nil, ctx.Err()
		}
	}
}

// checks lets requests that hold the same upstream refresh token share one question to the
// provider, and keeps the answer for replayGrace, for those that come again because the response
// was lost. It works without a guard too, in this process.
type checks struct {
	mu sync.Mutex // guards m for one access
	m  buckets[*check]
}

type check struct {
	done      chan struct{}
	presented [sha256.Size]byte // by the one who asks
	next      renewal
	err       error
	until     time.Time // zero while asking
}

// do returns what ask says, or said to another request, and whether that one presented the same.
func (c *checks) do(ctx context.Context, now func() time.Time, key replayKey, presented string, ask func() (renewal, error)) (renewal, bool, error) {
	mine := &check{done: make(chan struct{}), presented: sha256.Sum256([]byte(presented))}
	c.mu.Lock()
	c.m.width = replayGrace
	c.m.turn(now())
	if other := c.m.get(key); other != nil && (other.until.IsZero() || now().Before(other.until)) {
		c.mu.Unlock()
		select {
		case <-other.done:
			return other.next, other.presented == mine.presented, other.err
		case <-ctx.Done():
			return renewal{}, false, temporarilyUnavailable("the sign-in provider is slow", ctx.Err())
		}
	}
	if c.m.len() < checksKept {
		c.m.set(key, mine)
	}
	c.mu.Unlock()

	// for those who wait, should ask panic
	mine.err = serverError("something went wrong here", errors.New("panic"))
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		mine.until = now().Add(replayGrace)
		// The next one may find the provider well again, or the labels changed back.
		if mine.next.still || mine.err != nil && (asError(mine.err).Status >= http.StatusInternalServerError || errors.Is(mine.err, errRulesChanged)) {
			if c.m.get(key) == mine { // there may have been no room for it
				c.m.delete(key)
			}
		}
		close(mine.done)
	}()
	mine.next, mine.err = ask()
	return mine.next, true, mine.err
}
