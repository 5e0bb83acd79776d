package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// redeemCode handles RFC 6749 §4.1.3. Each check of ours comes before the provider's code is used
// up, so a thief without the verifier cannot spoil it. The provider decides, last, whether this is
// the first time.
func (s *Issuer) redeemCode(ctx context.Context, t *tenant, c client, form url.Values) (tokenResponse, error) {
	var code authorizationCode
	sealedAt, err := s.openDated(sealing.KindCode, t, clientContext(c.hash()), form.Get("code"), &code)
	if err != nil {
		return tokenResponse{}, invalidGrant("the authorization code is not valid for this client, or too old").because(err)
	}
	if err := t.wasTold(code.Told); err != nil {
		return tokenResponse{}, invalidGrant(otherThanAllowed).because(err)
	}
	if code.KeyRequired && !c.proved {
		return tokenResponse{}, errKeyMissing
	}
	if err := c.holds(t, code.Thumbprint); err != nil { // RFC 9449 §10
		return tokenResponse{}, err
	}
	// OAuth 2.1 §4.1.3 no longer asks for redirect_uri here. A client that sends it must send the
	// same.
	if uri := form.Get("redirect_uri"); uri != "" && !redirecturi.Same(uri, code.RedirectURI) {
		return tokenResponse{}, invalidGrant("redirect_uri is not the one of the authorization request")
	}
	resource, err := t.narrowResource(form, code.Resource)
	if err != nil {
		return tokenResponse{}, err
	}
	if !verifyChallenge(code.Challenge, form.Get("code_verifier")) {
		return tokenResponse{}, invalidGrant("code_verifier does not match the code_challenge")
	}
	if err := s.redirectDenied(ctx, code.RedirectURI); err != nil {
		return tokenResponse{}, err
	}
	mark := code.mark(t)
	done, err := s.redeeming.turn(ctx, mark)
	if err != nil {
		return tokenResponse{}, temporarilyUnavailable("another request with this code is being answered; try again", err)
	}
	defer done()
	handBack, err := s.markCode(ctx, t, code, mark)
	if err != nil {
		return tokenResponse{}, err
	}
	var who identity
	var withheld []string
	if code.Identity != nil {
		who = *code.Identity
	} else {
		if who, withheld, err = s.redeem(ctx, t, code.Seed, string(code.UpstreamCode), false); err != nil {
			// Nothing was given for the code. It may still be good. Or it never was, and strangers
			// who invent codes would fill the guard with them.
			handBack()
			return tokenResponse{}, err
		}
		code.Scope = withoutScopes(code.Scope, withheld)
	}
	g := grant{Identity: who, Scope: code.Scope, Resource: code.Resource, Login: [16]byte(randomBytes(16)), Born: min(sealedAt.Unix(), s.Now().Unix()), KeyRequired: c.proved}
	g.bind(c)
	if c.interchangeable() {
		g.Client, _ = base64.RawURLEncoding.DecodeString(sealing.Fingerprint(c.id))
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return tokenResponse{}, err
	}
	if err := s.admitLogin(t, who, code.Scope, withheld); err != nil {
		return tokenResponse{}, err
	}
	if err := t.givesScope(g, ""); err != nil {
		return tokenResponse{}, err
	}
	next := renewal{grant: g, token: s.sealGrant(t, c, g), request: requestName(code.Challenge)}
	next.Resource = resource // of the access token only
	return s.issue(t, c, next, "", "authorization_code")
}

// verifyChallenge applies RFC 7636 §4.6 for S256, the only method. An empty verifier never matches:
// each code has a challenge.
func verifyChallenge(challenge [sha256.Size]byte, verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && len(verifier) <= 128 && strings.Trim(verifier, alphanumeric+"-._~") == "" && subtle.ConstantTimeCompare(sum[:], challenge[:]) == 1
}

// A provider's answer to a code is all that there will ever be of that login: the code is spent.
// Where no login could be made of the answer at once (the provider's keys or its userinfo could not
// be read, or the client had hung up), it is kept for as long as the client is told to try again:
// here, and for other replicas beside the guard's mark of the code. It is sealed with what only our
// own code holds.

const (
	unfinishedLife    = time.Minute
	unfinishedMaxSize = 32 << 10 // bytes of one answer; real ones have up to 10 KB
	unfinishedMaxAll  = 8 << 20

	// turnWait is how long a request waits for another one with its code: a part of the time that
	// LongestAnswer leaves. A callback that has waited in vain goes on as with exchange=token.
	turnWait = 4 * time.Second
)

// learnt is a provider.Answer, sealed.
type learnt struct {
	AccessToken  string  `cbor:"1,keyasint"`
	RefreshToken string  `cbor:"2,keyasint,omitempty"`
	IDToken      string  `cbor:"3,keyasint,omitempty"`
	Scope        *string `cbor:"4,keyasint,omitempty"`
	TokenType    string  `cbor:"5,keyasint,omitempty"`
	ExpiresIn    int64   `cbor:"6,keyasint,omitempty"`
	// Ends is when the access token does, in Unix seconds, with the label upstreamToken.
	Ends int64 `cbor:"7,keyasint,omitempty"`
}

// unfinished are the answers that this process keeps. The zero value is empty.
type unfinished struct {
	mu sync.Mutex // guards m for one access
	m  forget.Aged[replay.Key, sealedAnswer]
}

type sealedAnswer struct {
	sealed []byte
	until  time.Time
}

// put keeps an answer, and says whether there was room.
func (u *unfinished) put(code replay.Key, sealed []byte, now time.Time) bool {
	return u.putUntil(now.Add(unfinishedLife), unfinishedMaxAll, code, sealed, now)
}

// putUntil keeps an answer for no longer than until, and only while all answers take at most most
// bytes.
func (u *unfinished) putUntil(until time.Time, most int, code replay.Key, sealed []byte, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn(now)
	if u.m.Sizes()+len(sealed) > most {
		return false
	}
	u.m.Set(code, sealedAnswer{sealed, until})
	return true
}

// take returns what is kept, and keeps it no longer: of two requests with one code, one goes on.
func (u *unfinished) take(code replay.Key, now time.Time) []byte {
	sealed, _ := u.takeUntil(code, now)
	return sealed
}

// takeUntil is take, and says how long the answer would have been kept.
func (u *unfinished) takeUntil(code replay.Key, now time.Time) (sealed []byte, until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn(now)
	kept := u.m.Get(code)
	u.m.Delete(code)
	if !kept.good(now) {
		return nil, time.Time{}
	}
	return kept.sealed, kept.until
}

// has says whether something is kept, and leaves it there.
func (u *unfinished) has(code replay.Key, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn(now)
	return u.m.Get(code).good(now)
}

// good says whether an answer may still be used. One that was kept when the clock was far ahead may
// not.
func (a sealedAnswer) good(now time.Time) bool {
	return now.Before(a.until) && a.until.Sub(now) <= unfinishedLife
}

func (u *unfinished) turn(now time.Time) {
	u.m.Width, u.m.Size = unfinishedLife, func(a sealedAnswer) int { return len(a.sealed) + 100 }
	u.m.Turn(now)
}

// turns let the requests that bring one code go on one after the other. Somebody may reload the
// page, or ask again, while the provider is being asked: that request gets what the one before
// could not use, and does not present the code a second time. The zero value is ready.
type turns struct {
	mu sync.Mutex // guards m for one access
	m  map[replay.Key]*turn
}

type turn struct {
	free  chan struct{} // holds one while nobody goes on
	users int           // requests that go on or wait
}

// turn waits for the other requests with this code. done must be called.
func (q *turns) turn(ctx context.Context, code replay.Key) (done func(), err error) {
	q.mu.Lock()
	mine := q.m[code]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		if q.m == nil {
			q.m = map[replay.Key]*turn{}
		}
		q.m[code] = mine
	}
	mine.users++
	q.mu.Unlock()
	leave := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(q.m, code)
		}
	}
	done = func() { mine.free <- struct{}{}; leave() }
	select {
	case <-mine.free: // nobody else has it
		return done, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	select {
	case <-mine.free:
		return done, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// redeem exchanges the provider's code, and returns who logged in, and which scopes of the label
// the provider withheld. After an error of 503 the same code may succeed a moment later, whether it
// is spent by then or not.
func (s *Issuer) redeem(ctx context.Context, t *tenant, seed sealing.LoginSeed, code string, atCallback bool) (identity, []string, error) {
	up, err := s.providers.Connect(ctx, &t.provider)
	if err != nil {
		return identity{}, nil, err
	}
	client := ctx
	ctx, stay := outgoing.Detached(ctx) // a client that hangs up does not take a spent code with it
	defer stay()
	kept, until := s.recall(t, seed, code)
	person, answer, err := up.Redeem(ctx, seed, code, kept)
	if err == nil && client.Err() != nil {
		err = temporarilyUnavailable("nobody waits for the answer any more", client.Err())
	}
	if err != nil {
		if e := asError(err); answer != nil && e.Status == http.StatusServiceUnavailable && !s.remember(t, seed, code, answer) {
			// The code is spent.
			err = invalidGrant("this login could not be finished; authorize again").because(e)
		}
		return identity{}, nil, err
	}
	if atCallback {
		s.rememberInCase(t, seed, code, answer, until)
	}
	who := identityOf(person)
	who.Unsaid = t.unsaid(up, person.Said.Scope)
	return who, s.notGranted(t, up, person.Said.Scope), nil
}

// remember keeps the answer to a code for the next request that brings it. It says whether it
// could.
func (s *Issuer) remember(t *tenant, seed sealing.LoginSeed, code string, answer *provider.Answer) bool {
	sealed := sealing.SealAnswer(t.id, answerContext(seed, code), must(payloadEncoding.Marshal(learnt(*answer))))
	if len(sealed) <= unfinishedMaxSize && s.unfinished.put(codeKey(t, code), sealed, s.Now()) {
		return true
	}
	s.Log.Warn("the provider's answer cannot be kept until the client comes again: it is too long, or there are too many at the moment; its person has to log in again", t.named(), "bytes", len(sealed))
	return false
}

// rememberInCase is remember for a login that was finished at the callback. The browser may not
// have got the answer, and come again with its cookie. Then it gets a second code, which counts as
// the same. Half of the room stays for logins that are not finished. until is the zero time or, if
// the login was finished with an answer that was kept, the end of that answer's time: a page that
// is reloaded again and again must not make the provider's word last.
func (s *Issuer) rememberInCase(t *tenant, seed sealing.LoginSeed, code string, answer *provider.Answer, until time.Time) {
	now := s.Now()
	if until.IsZero() {
		until = now.Add(unfinishedLife)
	}
	sealed := sealing.SealAnswer(t.id, answerContext(seed, code), must(payloadEncoding.Marshal(learnt(*answer))))
	if len(sealed) <= unfinishedMaxSize {
		s.unfinished.putUntil(until, unfinishedMaxAll/2, codeKey(t, code), sealed, now)
	}
}

// recall returns an answer of the provider that an earlier request got for the code, and until when
// it is kept. That request could not use it, or its own answer may be lost. nil means that nothing
// is kept.
func (s *Issuer) recall(t *tenant, seed sealing.LoginSeed, code string) (answer *provider.Answer, until time.Time) {
	key := codeKey(t, code)
	sealed, until := s.unfinished.takeUntil(key, s.Now())
	if sealed == nil {
		return nil, time.Time{}
	}
	plain, err := sealing.OpenAnswer(t.id, answerContext(seed, code), sealed)
	if err != nil { // another login's code, put into one of somebody else's: it stays there
		s.unfinished.putUntil(until, unfinishedMaxAll, key, sealed, s.Now())
		return nil, time.Time{}
	}
	var l learnt
	if payloadDecoding.Unmarshal(plain, &l) != nil {
		return nil, time.Time{}
	}
	kept := provider.Answer(l)
	return &kept, until
}

// answerContext returns the value from which the key of a kept answer is derived. The seed never
// leaves our sealed values; the code alone stood in a browser's history.
func answerContext(seed sealing.LoginSeed, code string) string { return string(seed[:]) + code }

// handOn gives the guard, for all replicas, what the callback has learnt of a code that nobody has
// marked yet.
func (s *Issuer) handOn(ctx context.Context, code replay.Key) {
	if s.ReplayGuard == nil {
		return
	}
	sealed := s.unfinished.take(code, s.Now())
	if sealed != nil && s.ReplayGuard.Leave(context.WithoutCancel(ctx), code, sealed) != nil {
		s.unfinished.put(code, sealed, s.Now())
	}
}

// handOver gives the guard, which has marked this use of the code, what this process has kept of
// it. If nothing is kept, it takes the mark back. Either way the code may come again, at any
// replica.
func (s *Issuer) handOver(ctx context.Context, code replay.Key, use replay.Use) {
	if s.ReplayGuard == nil { // what this process has kept stays here
		return
	}
	sealed := s.unfinished.take(code, s.Now())
	if sealed == nil {
		use.Undo(ctx)
		return
	}
	if use.Leave(ctx, sealed) != nil { // this replica still knows
		s.unfinished.put(code, sealed, s.Now())
		use.Undo(ctx)
	}
}

// markCode asks the guard, if there is one, whether this is the first use of the provider's code.
// If the guard does not answer, the redemption goes on where the provider still counts uses. It
// fails where the callback has redeemed the provider's code, because then nothing else counts, and
// where the guard is full. handBack is for a redemption that failed (handOver). If handBack fails
// too, the person logs in again.
func (s *Issuer) markCode(ctx context.Context, t *tenant, code authorizationCode, mark replay.Key) (handBack func(), err error) {
	use, err := s.ReplayGuard.Use(ctx, mark)
	handBack = func() { s.handOver(context.WithoutCancel(ctx), mark, use) }
	switch {
	case err != nil:
		s.guardFailed(t, err)
		if code.Identity != nil || errors.Is(err, replay.ErrFull) {
			handBack() // it may have been made, and only the answer was lost
			return nil, temporarilyUnavailable("this server cannot tell at the moment whether the code was used before; try again", err)
		}
	case !use.First:
		s.counters.add(codesReused)
		s.Metrics.Guard("code_used")
		return nil, invalidGrant("the authorization code was used before; authorize again")
	case use.Left != nil:
		s.unfinished.put(mark, use.Left, s.Now())
	}
	if s.ReplayGuard != nil && err == nil {
		s.Metrics.Guard("code_fresh")
	}
	return handBack, nil
}

// mark is the key by which the uses of the provider's code are counted.
func (code authorizationCode) mark(t *tenant) (mark replay.Key) {
	if code.Identity == nil {
		return codeKey(t, string(code.UpstreamCode))
	}
	copy(mark[:], code.Mark)
	return mark
}

func codeKey(t *tenant, upstreamCode string) replay.Key {
	return sealing.ReplayMark(t.id, "code", upstreamCode)
}
