package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	// shortLife is the life of an access token that is given although nobody could be asked. It is
	// longer than refreshAhead, or each request in an outage would begin with a refresh.
	shortLife = 7 * time.Minute
	// refreshAhead is the most that a widely used client refreshes ahead: Claude Code 2.1 does so
	// before each request while its access token has 300 seconds or less.
	refreshAhead = 5 * time.Minute
	// refreshTimeout bounds what a refresh waits for: discovery, another replica, and the provider.
	refreshTimeout = 25 * time.Second
)

// An outcome says which refresh token and which access token a refresh gives. These are all that
// there are; whatever else happens is an error, and the client keeps what it has:
//
//	outcome         refresh token  access token
//	rotated         the next one   of full life, or of shortLife where issue says why
//	rotatedShort    the next one   of shortLife
//	unchangedShort  the same       of shortLife, while the provider's last word is young
//	refusedByRules  none           none
//
// With unchangedShort the provider's last word on the person is at most staleWindow old. With
// refusedByRules the provider has answered, and the rules do not admit the person: whoever comes
// again within replay.Grace is judged anew by the labels of that moment, without asking it again.
// This is the table of outages of docs/replay.md:
//
//	what fails                                                a refresh is
//	nothing, or our last answer was lost                      rotated
//	the provider is away, slow or busy                        unchangedShort, later 503
//	the provider refuses this server                          unchangedShort, later 500 or the end
//	the provider refuses the login in words that are unclear  unchangedShort, later the end
//	the provider has answered, and its keys, its userinfo     rotated, and short by UnreadSince,
//	or what it said cannot be read                            later 503 or the end
//	the guard is away or slow, and no check is due            rotatedShort
//	the same, and a check is due: nobody is asked             unchangedShort, later 503
//	the guard fails after the provider has answered           rotatedShort, also if it is full
//	the guard is full, and the provider was not asked         503
//	another replica is asking the provider                    503 after leaseWait
//
// A login's first tokens are rotated as well.
type outcome int

const (
	rotated outcome = iota
	rotatedShort
	unchangedShort
	refusedByRules
)

// short says whether the access token lives for shortLife only.
func (o outcome) short() bool { return o == rotatedShort || o == unchangedShort }

// renewal is how a refresh is answered.
type renewal struct {
	grant          // what the refresh token holds
	token   string // the refresh token; empty where there is none
	outcome outcome

	// These are for the log: that the answer is one that was given before, and which authorization
	// request a login began with.
	repeated bool
	request  string
}

// refresh handles RFC 6749 section 6. Between two checks, nothing moves at the provider. The replay
// guard and the provider tell the first use of a refresh token from the second (docs/replay.md).
func (s *Issuer) refresh(ctx context.Context, t *tenant, c client, form url.Values) (_ tokenResponse, err error) {
	presented := form.Get("refresh_token")
	g, err := s.openAlive(t, c, presented)
	defer func() { err = ofLogin(g, err) }()
	if err != nil {
		return tokenResponse{}, err
	}
	// A login that began without a key is bound from here on, if the client has one now.
	g.bind(c)
	resource, err := t.narrowResource(form, g.Resource)
	if err != nil {
		return tokenResponse{}, err
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return tokenResponse{}, err
	}
	// A client that got a token with which nothing can be done would refresh on and on. It
	// authorizes again where its refresh token is refused.
	if lacks := t.signInLacks(g.Identity, t.RequiredScopes...); lacks != "" {
		return tokenResponse{}, invalidGrant("this server needs a more recent sign-in, or one of another kind; authorize again").because(fmt.Errorf("%w: %s", errSignIn, lacks))
	}
	// The labels may need other claims than those that were read at the last check: then the known
	// claims cannot answer them.
	unread := !t.claimNeeds.Within(g.Identity.Needs)
	if unread && g.Identity.RefreshToken == "" {
		return tokenResponse{}, provider.ErrNeedsMore
	}
	if err := s.upstreamFault(t, g.Identity); err != nil && asError(err).Status < http.StatusInternalServerError {
		return tokenResponse{}, err
	}
	asked := form.Get("scope")
	if err := t.givesScope(g, asked); err != nil && t.breaks(g.Identity) == nil {
		return tokenResponse{}, t.scopeLost(g, err)
	}
	// From here on something moves, at the guard or the provider. A client that hangs up must not
	// lose half of it.
	ctx = context.WithoutCancel(ctx)
	due := g.Identity.RefreshToken != "" && (unread || s.checkDue(t, g))
	if due || !s.ReplayGuard.InProcess() { // nothing else waits for anybody
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
	}
	renew := s.renew
	if due {
		renew = s.renewChecked
	}
	next, err := renew(ctx, t, c, presented, g)
	if err != nil {
		return tokenResponse{}, err
	}
	// The answer may be one that another request got with the same refresh token, when it was not
	// bound yet: what that request got is for whoever holds its key. Where nothing has moved it got
	// nothing, and the refresh token that was presented stays what it is.
	if next.token != presented {
		if err := c.holds(t, next.Thumbprint); err != nil {
			return tokenResponse{}, err
		}
	}
	if due && t.breaks(next.Identity) == nil {
		if err := t.takenBack(g, next.grant); err != nil {
			return tokenResponse{}, err
		}
		// The provider may just have taken back what is asked for. Something has moved, and the
		// client needs the next refresh token. It comes with the scopes that open the door, as for
		// a scope that nobody knows.
		if len(t.RequiredScopes) > 0 && t.chosenScope(t.scopeOf(next.grant), asked) == "" {
			asked = strings.Join(t.RequiredScopes, " ")
		}
	}
	next.Resource = resource // of the access token only: the refresh token keeps what was granted
	return s.issue(t, c, next, asked, "refresh_token")
}

// openAlive opens a refresh token and checks that its login may still go on: by its key, by the age
// of the login, and by its last use. The rules are not asked here. A login that is over comes back
// with the error, for the log.
func (s *Issuer) openAlive(t *tenant, c client, presented string) (grant, error) {
	g, sealedAt, err := s.openGrant(t, c, presented)
	if err != nil {
		return grant{}, invalidGrant("the refresh token is not valid for this client").because(err)
	}
	if g.KeyRequired && !c.proved {
		return g, errKeyMissing
	}
	// Before anything moves: a thief without the key uses nothing up, and is not taken for the
	// client that comes a second time.
	if err := c.holds(t, g.Thumbprint); err != nil {
		return g, err
	}
	now := s.Now()
	if now.After(time.Unix(g.Born, 0).Add(s.loginLife(g))) {
		return g, invalidGrant("this login is over; authorize again")
	}
	if now.After(sealedAt.Add(s.RefreshIdleTTL)) {
		return g, invalidGrant("this login was not used for too long; authorize again")
	}
	return g, nil
}

// loginLife returns how long after its beginning a login may be refreshed. It does not slide.
func (s *Issuer) loginLife(g grant) time.Duration {
	if g.Identity.RefreshToken == "" {
		// Nobody can be asked whether the person may still come in.
		return min(s.SessionTTL, s.RefreshTokenTTL)
	}
	return s.RefreshTokenTTL
}

// scopeLost returns the reason for which a refresh gives no required scope. It returns err if
// another scope parameter would get one.
func (t *tenant) scopeLost(g grant, err error) error {
	if len(t.scopeOf(g)) == 0 { // no refresh can change that, and a new login says why
		return invalidGrant("this login gives no scope any more that this server needs; authorize again").because(err)
	}
	return err
}

// loginKey returns the key under which the guard counts the refreshes of a login.
func loginKey(t *tenant, g grant) replay.Key {
	return sealing.ReplayMark(t.id, "family", string(g.Login[:]))
}

// renew takes the login one step on. It asks nobody but the guard.
func (s *Issuer) renew(ctx context.Context, t *tenant, c client, presented string, g grant) (renewal, error) {
	// Before the step: a person who is not admitted today keeps a refresh token that works when the
	// rules change back, unless the provider has just replaced the one inside.
	if err := s.admit(t, g.Identity); err != nil {
		return renewal{}, err
	}
	g.Step++
	next := renewal{grant: g, token: s.sealGrant(t, c, g)}
	if s.ReplayGuard == nil { // nobody keeps the answer, and to seal it costs a sixth of a refresh
		return next, nil
	}
	v, first, err := s.ReplayGuard.Step(ctx, loginKey(t, g), g.Step-1, sealing.SealAnswer(t.id, presented, []byte(next.token)))
	switch {
	case errors.Is(err, replay.ErrFull):
		s.guardFailed(t, err)
		return renewal{}, temporarilyUnavailable("this server has too many logins at the moment", err)
	case err != nil:
		// The guard may have done the step or not: with the new refresh token the client is right
		// in either case.
		s.guardFailed(t, err)
		s.staleAnswer(t, g, err)
		next.outcome = rotatedShort
		return next, nil
	}
	s.Metrics.Guard(v.String())
	if v == replay.Fresh {
		return next, nil
	}
	return s.notFresh(ctx, t, c, presented, g, v, first)
}

// notFresh answers a refresh token that was used before: with the answer to its first use or,
// later, with the end of the login.
func (s *Issuer) notFresh(ctx context.Context, t *tenant, c client, presented string, g grant, v replay.Verdict, first []byte) (renewal, error) {
	if v == replay.Over { // no alarm: clients that were not told come again
		return renewal{}, invalidGrant("this login was ended; authorize again")
	}
	if v == replay.Repeated {
		token, err := sealing.OpenAnswer(t.id, presented, first)
		var next grant
		if err == nil {
			next, _, err = s.openGrant(t, c, string(token))
		}
		if err == nil {
			s.counters.add(tokensRepeated)
			return renewal{grant: next, token: string(token), repeated: true}, nil
		}
		// The answer belongs to another token of the same step: two tokens carry on the same login,
		// which only a replay can bring about.
	}
	s.counters.add(loginsReused)
	s.endLogin(ctx, t, c, g, "reused", "a refresh token was presented again")
	return renewal{}, invalidGrant("this refresh token was used before, so the login is over; authorize again")
}

// endLogin makes the guard, if there is one, refuse all refresh tokens of a login that is over.
func (s *Issuer) endLogin(ctx context.Context, t *tenant, c client, g grant, cause, because string) {
	s.loginEnded(t, c, g, cause, because)
	s.endAtGuard(ctx, t, g)
}

func (s *Issuer) endAtGuard(ctx context.Context, t *tenant, g grant) error {
	err := s.ReplayGuard.End(ctx, loginKey(t, g))
	if err != nil {
		s.guardFailed(t, err)
	}
	return err
}
