package issuer

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// ReplayGuard tells the first use of a code or a refresh token from the second. It is optional:
// without one that is left to the provider (docs/replay.md). The rules stand here, once; where the
// memory is, is a replayStore's matter.
type ReplayGuard struct {
	store replayStore
	kind  string        // for the log
	life  time.Duration // how long a family is remembered after its last step
	// how long one that has ended is: until no token of it can be good, also if one was made while
	// the store was away
	ended time.Duration
}

// A replayStore keeps one number for each key, which only rises. That is compare-and-swap with one
// round trip: a refresh token carries the number that it expects.
type replayStore interface {
	// raise sets the number of key from at most `from`, or from nothing, to `to`, and says whether
	// it did; else it returns what it found. The number is kept for life, the note beside it for
	// replayGrace, both by the store's clock: replicas' clocks differ.
	raise(ctx context.Context, key replayKey, from, to uint32, note []byte, life time.Duration) (replayRecord, bool, error)
	// look returns what stands at key.
	look(ctx context.Context, key replayKey) (replayRecord, error)
	// drop forgets key if its number is still this one.
	drop(ctx context.Context, key replayKey, number uint32) error
}

type replayKey = [16]byte

// replayRecord is what a replayStore has at a key; nothing is the zero value.
type replayRecord struct {
	number uint32
	note   []byte // nil once replayGrace is over
}

// is says whether what stands in the way of a raise is what that raise would have written. A
// request that got no answer is sent once more (package outgoing), and may then meet its own mark:
// callers' numbers and sealed answers are random, so it is nobody else's.
func (r replayRecord) is(number uint32, note []byte) bool {
	return r.number == number && bytes.Equal(r.note, note)
}

const (
	// replayGrace is how long the answer to a refresh token's first use is given again: responses
	// are lost, and processes of one client race.
	replayGrace = time.Minute
	// checkClaim is how long one replica may be the only one that asks the provider about a family.
	// It is longer than asking can take.
	checkClaim = 15 * time.Second
	// codeMark is longer than any replica accepts an upstream code: the login's cookie, a skew
	// longer and from a replica that is a skew ahead; then the code that it is wrapped in, and its
	// skew.
	codeMark = cookieLife + time.Minute + 3*sealing.Skew
	// familyEnded is the number of a family that has ended. No token carries it.
	familyEnded = math.MaxUint32
)

// errGuardFull: forgetting something to make room would be accepting its replay.
var errGuardFull = errors.New("replay guard: full")

// OpenReplayGuard makes the guard that BOUNCER_REPLAY_GUARD names; it is nil for "none". It asks
// the network nothing: Check does. Idle is for how long a refresh token that is not used stays
// good, whole how long a login lasts at most.
func OpenReplayGuard(name string, idle, whole time.Duration, now func() time.Time) (*ReplayGuard, error) {
	scheme, rest, _ := strings.Cut(name, "://")
	g := &ReplayGuard{kind: scheme, life: idle + 2*sealing.Skew, ended: max(idle, whole) + 2*sealing.Skew}
	var err error
	switch {
	case name == "none":
		return nil, nil
	case name == "memory":
		g.store = newMemoryStore(g.life, g.ended, now)
	case rest != "" && (scheme == "redis" || scheme == "rediss"):
		g.store, err = newRedisStore(name)
	case rest != "" && scheme == "dynamodb":
		g.store, err = newDynamoStore(rest, os.Getenv, now, http.DefaultTransport)
	default:
		err = errors.New("must be none, memory, redis://HOST:PORT, rediss://HOST:PORT or dynamodb://TABLE")
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// ErrUnsafeStore is in the chain of Check's error when the store must not be used as it is: it
// would forget, or refuses us.
var ErrUnsafeStore = errors.New("the replay guard's store cannot be used")

// Check asks the store whether it can be used. Any other error than ErrUnsafeStore means that it
// does not answer at the moment, and a guard is made for that.
func (g *ReplayGuard) Check(ctx context.Context) error {
	if store, ok := g.store.(interface{ check(context.Context) error }); ok {
		return store.check(ctx)
	}
	return nil
}

// CloseIdleConnections is Issuer's. A nil *ReplayGuard has none.
func (g *ReplayGuard) CloseIdleConnections() {
	if g == nil {
		return
	}
	if store, ok := g.store.(interface{ CloseIdleConnections() }); ok {
		store.CloseIdleConnections()
	}
}

// Kind names the store in the log.
func (g *ReplayGuard) Kind() string {
	if g == nil {
		return "none"
	}
	return g.kind
}

// A request that marks or claims something chooses a number for it, so that it takes back nothing
// of another's. It leaves room above: who goes on where another stopped raises that one's number by
// up to maxLeap, which a code that is good for some minutes can bear two thousand times.
func newCaller() uint32 { return 1 + rand.Uint32N(familyEnded/2) }

const maxLeap = 1 << 20

// use says whether this is the first use of an upstream code of the tenant, and marks it as used.
// It is one, too, where an earlier use had to stop half-way and left what it had learnt: of all
// that come again one gets that. The mark is then the returned caller's.
func (g *ReplayGuard) use(ctx context.Context, code replayKey, caller uint32) (first bool, left []byte, mark uint32, err error) {
	known, first, err := g.store.raise(ctx, code, 0, caller, nil, codeMark)
	if err != nil || first || known.note == nil {
		return first, nil, caller, err
	}
	// As random as a caller's: of two that find the same, only one's mark stands there then.
	mark = known.number + 1 + rand.Uint32N(maxLeap)
	_, first, err = g.store.raise(ctx, code, known.number, mark, nil, codeMark)
	return first, known.note, mark, err
}

// leave is for a caller that has to stop half-way: the next one goes on with what it leaves, for
// replayGrace. from is the caller's own mark, or 0 where it has made none.
func (g *ReplayGuard) leave(ctx context.Context, code replayKey, from, caller uint32, learnt []byte) error {
	_, done, err := g.store.raise(ctx, code, from, caller, learnt, codeMark)
	if err == nil && !done {
		err = errors.New("replay guard: another request has the code")
	}
	return err
}

// found says what is known of an upstream code without using it: whether an earlier use has stopped
// half-way and left what it had learnt, or else whether there was one.
func (g *ReplayGuard) found(ctx context.Context, code replayKey) (left, used bool, err error) {
	known, err := g.store.look(ctx, code)
	return known.note != nil, known.note == nil && known.number != 0, err
}

// unused takes the caller's mark back: nothing was given for the code.
func (g *ReplayGuard) unused(ctx context.Context, code replayKey, caller uint32) error {
	return g.store.drop(ctx, code, caller)
}

// verdict is what the guard says of a refresh token.
type verdict int

const (
	fresh    verdict = iota // not used before, as far as anybody knows
	repeated                // used within the grace: the first answer holds
	reused                  // used before that
	over                    // its family has ended
)

// judge compares what stands in the store with the generation of the refresh token that is
// presented, and returns the first answer if it holds. A generation newer than the known one means
// that the store lost what it held; it learns.
func judge(known replayRecord, generation uint32) (verdict, []byte) {
	switch {
	case known.number == familyEnded:
		return over, nil
	case known.number <= generation:
		return fresh, nil
	case known.number == generation+1 && known.note != nil:
		return repeated, known.note
	}
	return reused, nil
}

// step takes a family from the generation presented to the next, with the sealed answer; of several
// at the same time one does. If it is repeated, the answer of the first is returned.
func (g *ReplayGuard) step(ctx context.Context, family replayKey, generation uint32, answer []byte) (verdict, []byte, error) {
	known, done, err := g.store.raise(ctx, family, generation, generation+1, answer, g.life)
	if err != nil || done {
		return fresh, nil, err
	}
	v, answer := judge(known, generation)
	return v, answer, nil
}

// look is step without the step.
func (g *ReplayGuard) look(ctx context.Context, family replayKey, generation uint32) (verdict, []byte, error) {
	known, err := g.store.look(ctx, family)
	if err != nil {
		return fresh, nil, err
	}
	v, answer := judge(known, generation)
	return v, answer, nil
}

// end ends a family, for as long as any of its refresh tokens would be good.
func (g *ReplayGuard) end(ctx context.Context, family replayKey) error {
	_, _, err := g.store.raise(ctx, family, familyEnded-1, familyEnded, nil, g.ended)
	return err
}

// claim makes the caller the only one of all replicas that asks the provider about a family; the
// claim ends by itself.
func (g *ReplayGuard) claim(ctx context.Context, check replayKey, caller uint32) (bool, error) {
	_, claimed, err := g.store.raise(ctx, check, 0, caller, nil, checkClaim)
	return claimed, err
}

// unclaim lets the next one ask. If the caller's claim has ended by itself, another's stays.
func (g *ReplayGuard) unclaim(ctx context.Context, check replayKey, caller uint32) error {
	return g.store.drop(ctx, check, caller)
}
