package issuer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A check asks the provider whether it still refreshes a login. Of all requests with one refresh
// token of the provider one asks: in this process by flights, among replicas by a lease at the
// guard.

const (
	leasePoll   = 250 * time.Millisecond
	leaseWait   = 3 * time.Second
	flightsKept = 10_000
)

// checkDue says whether the provider's last word on a login is as old as upstreamCheckInterval. It
// is asked earlier where the MCP server would soon be left without an access token.
func (s *Issuer) checkDue(t *tenant, g grant) bool {
	age := s.Now().Sub(time.Unix(g.Identity.CheckedAt, 0))
	return t.UpstreamCheckInterval == 0 || age >= time.Duration(t.UpstreamCheckInterval)*time.Second ||
		t.handsOn(g.Identity) && g.Identity.UpstreamEnds != 0 && s.upstreamLeft(g.Identity) < max(s.AccessTokenTTL/2, refreshAhead)
}

// renewChecked is renew after the provider was asked whether the person may still come in.
func (s *Issuer) renewChecked(ctx context.Context, t *tenant, c client, presented string, g grant) (renewal, error) {
	v, first, err := s.ReplayGuard.Look(ctx, loginKey(t, g), g.Step)
	if err != nil {
		s.guardFailed(t, err)
		return s.stale(t, presented, g, temporarilyUnavailable("the login cannot be checked at the moment", err))
	}
	if v != replay.Fresh {
		return s.notFresh(ctx, t, c, presented, g, v, first)
	}
	// The question is asked with the provider's token, so requests that carry the same one share
	// it, whatever wraps it.
	sum := sha256.Sum256(must(payloadEncoding.Marshal([]any{t.id[:], g.Login[:], g.Identity.RefreshToken, g.Identity.CheckedAt})))
	next, same, err := s.inFlight.join(ctx, s.Now, replay.Key(sum[:16]), presented, func() (renewal, error) { return s.askProvider(ctx, t, c, presented, g) })
	switch {
	case err != nil:
		return renewal{}, err
	case next.outcome == refusedByRules:
		// Judged anew below, by the labels of this request.
	case same:
		return next, nil
	case next.outcome == unchangedShort:
		return renewal{grant: g, token: presented, outcome: unchangedShort}, nil
	}
	g.Identity, g.Scope = next.Identity, next.Scope
	return s.renew(ctx, t, c, presented, g)
}

// askProvider asks the provider, as the only one of all replicas, and takes the login one step on.
func (s *Issuer) askProvider(ctx context.Context, t *tenant, c client, presented string, g grant) (renewal, error) {
	up, err := s.providers.Connect(ctx, &t.provider) // before the lease, which is short
	if err != nil {
		return s.stale(t, presented, g, err)
	}
	lease, v, first, err := s.lease(ctx, sealing.ReplayMark(t.id, "check", string(g.Login[:])), loginKey(t, g), g.Step)
	switch {
	case errors.Is(err, replay.ErrLeased):
		return renewal{}, temporarilyUnavailable("another request of this login is being answered; try again", err)
	case err != nil:
		s.guardFailed(t, err)
		return s.stale(t, presented, g, temporarilyUnavailable("the login cannot be checked at the moment", err))
	case v != replay.Fresh:
		s.Metrics.Guard(v.String())
		return s.notFresh(ctx, t, c, presented, g, v, first)
	}
	// After the step; if it fails, the lease ends by itself.
	defer lease.Release(ctx)
	s.counters.add(upstreamChecks)
	last := g.Identity
	now, err := up.Refresh(ctx, loginKey(t, g), last.person())
	if err != nil {
		if errors.Is(err, provider.ErrNeedsMore) {
			return renewal{}, err
		}
		if e := asError(err); e.Status < http.StatusInternalServerError {
			s.counters.add(loginsRefused)
			s.endLogin(ctx, t, c, g, "provider", fmt.Sprintf("the provider was asked about it: %v", e.cause))
			return renewal{}, err
		}
		return s.stale(t, presented, g, err)
	}
	g.Identity = identityOf(now)
	if s.ReplayGuard == nil && !c.proved {
		s.warnOfOldTokens(t, up, last.RefreshToken == g.Identity.RefreshToken)
	}
	g.Scope = withoutScopes(g.Scope, t.withheldScopes(now.Said.Scope))
	if t.breaks(g.Identity) != nil {
		return renewal{grant: g, outcome: refusedByRules}, nil
	}
	next, err := s.renew(ctx, t, c, presented, g)
	// The provider may have replaced its refresh token: losing the new one would end the login.
	if errors.Is(err, replay.ErrFull) {
		g.Step++
		return renewal{grant: g, token: s.sealGrant(t, c, g), outcome: rotatedShort}, nil
	}
	return next, err
}

// stale answers a due refresh when nobody can be asked, and nothing has moved: with a short access
// token and the same refresh token, for provider.StaleWindow. Claims that were never read are not
// bridged.
func (s *Issuer) stale(t *tenant, presented string, g grant, cause error) (renewal, error) {
	e := asError(cause)
	if s.Now().Sub(time.Unix(g.Identity.CheckedAt, 0)) > provider.StaleWindow || !t.claimNeeds.Within(g.Identity.Needs) || s.upstreamFault(t, g.Identity) != nil {
		return renewal{}, e
	}
	if e.cause != nil {
		cause = e.cause
	}
	s.staleAnswer(t, g, cause)
	return renewal{grant: g, token: presented, outcome: unchangedShort}, nil
}

// warnOfOldTokens tells the operator, once for each tenant, that nobody notices a stolen refresh
// token: there is no guard, and the provider takes its own again when they were used.
func (s *Issuer) warnOfOldTokens(t *tenant, up *provider.Provider, same bool) {
	const advice = ", and there is no replay guard: a stolen refresh token works unnoticed until its login is over; see BOUNCER_REPLAY_GUARD and BOUNCER_REFRESH_TOKEN_TTL"
	what := up.TakesUsedTokens()
	if same {
		what = "the provider keeps its refresh tokens when they are used"
	}
	if what != "" && s.keepsOld.First(t.PublicURL) {
		s.Log.Warn(what+advice, t.named(), "provider", up.Issuer())
	}
}

// lease waits until this request is the one that asks the provider, or until somebody else's answer
// is there. Two replicas must not present one refresh token: a provider that rotates would take it
// for theft.
func (s *Issuer) lease(ctx context.Context, key, login replay.Key, step uint32) (replay.Lease, replay.Verdict, []byte, error) {
	for waited := time.Duration(0); ; waited += leasePoll {
		lease, err := s.ReplayGuard.Lease(ctx, key)
		leased := err == nil
		if !leased && !errors.Is(err, replay.ErrLeased) {
			return lease, replay.Fresh, nil, err
		}
		// After the lease: whoever had it before has done the step by now.
		v, first, err := s.ReplayGuard.Look(ctx, login, step)
		if err == nil && v == replay.Fresh && leased {
			return lease, v, nil, nil
		}
		if leased {
			lease.Release(ctx)
		}
		if err != nil || v != replay.Fresh {
			return lease, v, first, err
		}
		if waited >= leaseWait {
			return lease, v, nil, replay.ErrLeased
		}
		select {
		case <-time.After(leasePoll):
		case <-ctx.Done():
			return lease, v, nil, ctx.Err()
		}
	}
}

// flights let requests that hold the same refresh token of the provider share one question to it.
// They keep the answer for replay.Grace, for clients that come again because the response was lost.
// They work without a guard too, in this process.
type flights struct {
	mu sync.Mutex // guards m for one access
	m  forget.Aged[replay.Key, *flight]
}

type flight struct {
	done      chan struct{}
	presented [sha256.Size]byte // by the request that asks
	next      renewal
	err       error
	until     time.Time // zero while asking
}

// join runs ask, or returns the answer that another request got within replay.Grace or is waiting
// for. The boolean says whether the request that asked presented the same refresh token.
func (f *flights) join(ctx context.Context, now func() time.Time, key replay.Key, presented string, ask func() (renewal, error)) (renewal, bool, error) {
	mine := &flight{done: make(chan struct{}), presented: sha256.Sum256([]byte(presented))}
	f.mu.Lock()
	f.m.Width = replay.Grace
	f.m.Turn(now())
	if other := f.m.Get(key); other != nil && (other.until.IsZero() || now().Before(other.until)) {
		f.mu.Unlock()
		select {
		case <-other.done:
			return other.next, other.presented == mine.presented, other.err
		case <-ctx.Done():
			return renewal{}, false, temporarilyUnavailable("the sign-in provider is slow", ctx.Err())
		}
	}
	if f.m.Len() < flightsKept {
		f.m.Set(key, mine)
	}
	f.mu.Unlock()

	// For those who wait, should ask panic.
	mine.err = serverError("something went wrong here", errors.New("panic"))
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		mine.until = now().Add(replay.Grace)
		// The next request may find the provider well again, or the labels changed back.
		again := mine.err != nil && (asError(mine.err).Status >= http.StatusInternalServerError || errors.Is(mine.err, provider.ErrNeedsMore))
		if again || mine.next.outcome == unchangedShort {
			if f.m.Get(key) == mine { // there may have been no room for it
				f.m.Delete(key)
			}
		}
		close(mine.done)
	}()
	mine.next, mine.err = ask()
	return mine.next, true, mine.err
}
