package replay

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

// Guard has the rules: what counts as a first use, and what is answered to a second. It is safe for
// concurrent use. A nil *Guard answers that everything is a first use, and keeps nothing.
type Guard struct {
	store       Store
	kind        string
	life, ended time.Duration // see lives
}

// A request that marks or leases something chooses a number for it, so that it takes back nothing
// of another's. It leaves room above: whoever goes on where another stopped raises that one's
// number by up to maxLeap, which a code that is good for some minutes can bear two thousand times.
func newCaller() uint32 { return 1 + rand.Uint32N(loginEnded/2) }

const maxLeap = 1 << 20

// A Use is one use of a code.
type Use struct {
	First bool // nobody has used the code before, or the one before has left what it learnt
	// Left is what the one before had learnt, sealed; nil if there was none.
	Left []byte

	guard *Guard
	code  Key
	mark  uint32
}

// Use marks a code as used. Of all requests that bring it one is the first. A later one counts as
// the first, too, where an earlier one had to stop half-way and left what it had learnt: of all
// that come again one gets that. After an error the mark may have been made or not, and the
// returned Use can still be undone.
func (g *Guard) Use(ctx context.Context, code Key) (Use, error) {
	if g == nil {
		return Use{First: true}, nil
	}
	return g.useAs(ctx, code, newCaller())
}

func (g *Guard) useAs(ctx context.Context, code Key, caller uint32) (Use, error) {
	u := Use{guard: g, code: code, mark: caller}
	known, first, err := g.raise(ctx, code, 0, caller, nil, CodeLife)
	if err != nil || first || known.Note == nil {
		u.First = first
		return u, err
	}
	// As random as a caller's: of two that find the same, only one's mark stands there then.
	u.mark = known.Number + 1 + rand.Uint32N(maxLeap)
	_, u.First, err = g.raise(ctx, code, known.Number, u.mark, nil, CodeLife)
	u.Left = known.Note
	return u, err
}

// Undo takes the mark back: nothing was given for the code.
func (u Use) Undo(ctx context.Context) error {
	if u.guard == nil {
		return nil
	}
	return u.guard.drop(ctx, u.code, u.mark)
}

// Leave is for a use that has to stop half-way: the next one goes on with what it leaves, sealed,
// for Grace.
func (u Use) Leave(ctx context.Context, learnt []byte) error {
	return u.guard.leave(ctx, u.code, u.mark, u.mark, learnt)
}

// Leave leaves at a code that nobody has marked yet what the next use goes on with, sealed, for
// Grace.
func (g *Guard) Leave(ctx context.Context, code Key, learnt []byte) error {
	return g.leave(ctx, code, 0, newCaller(), learnt)
}

func (g *Guard) leave(ctx context.Context, code Key, from, to uint32, learnt []byte) error {
	if g == nil {
		return errNoGuard
	}
	_, done, err := g.raise(ctx, code, from, to, learnt, CodeLife)
	if err == nil && !done {
		err = errors.New("replay guard: another request has the code")
	}
	return err
}

// Found says what is known of a code without using it: whether an earlier use has stopped half-way
// and left what it had learnt, or else whether there was one.
func (g *Guard) Found(ctx context.Context, code Key) (left, used bool, err error) {
	if g == nil {
		return false, false, nil
	}
	known, err := g.look(ctx, code)
	return known.Note != nil, known.Note == nil && known.Number != 0, err
}

// Verdict is what the guard says of a refresh token.
type Verdict int

const (
	Fresh    Verdict = iota // the token was not used before, as far as anybody knows
	Repeated                // the token was used within Grace: the first answer holds
	Reused                  // the token was used before that
	Over                    // the token's login has ended
)

func (v Verdict) String() string {
	return [...]string{"fresh", "repeated", "reused", "over"}[v]
}

// judge compares what stands in the store with the step of the refresh token that is presented, and
// returns the first answer if it holds. A step newer than the known one means that the store lost
// what it held; the store learns it.
func judge(known Record, step uint32) (Verdict, []byte) {
	switch {
	case known.Number == loginEnded:
		return Over, nil
	case known.Number <= step:
		return Fresh, nil
	case known.Number == step+1 && known.Note != nil:
		return Repeated, known.Note
	}
	return Reused, nil
}

// Step takes a login from the step that a refresh token carries to the next one, and keeps the
// answer, which is sealed. Of several at the same time one does, and is Fresh. For a token that is
// Repeated the answer of the first use is returned.
func (g *Guard) Step(ctx context.Context, login Key, step uint32, answer []byte) (Verdict, []byte, error) {
	if g == nil {
		return Fresh, nil, nil
	}
	known, done, err := g.raise(ctx, login, step, step+1, answer, g.life)
	if err != nil || done {
		return Fresh, nil, err
	}
	v, first := judge(known, step)
	return v, first, nil
}

// Look gives the verdict of Step without recording a use.
func (g *Guard) Look(ctx context.Context, login Key, step uint32) (Verdict, []byte, error) {
	if g == nil {
		return Fresh, nil, nil
	}
	known, err := g.look(ctx, login)
	if err != nil {
		return Fresh, nil, err
	}
	v, first := judge(known, step)
	return v, first, nil
}

// End ends a login, for as long as any of its refresh tokens would be good.
func (g *Guard) End(ctx context.Context, login Key) error {
	if g == nil {
		return nil
	}
	_, _, err := g.raise(ctx, login, loginEnded-1, loginEnded, nil, g.ended)
	return err
}

// A Lease makes its holder the only one of all replicas that asks the provider about a login. It
// ends by itself after LeaseLife.
type Lease struct {
	guard  *Guard
	key    Key
	caller uint32
}

// Lease takes the lease of a key. The error is ErrLeased while another request has it.
func (g *Guard) Lease(ctx context.Context, key Key) (Lease, error) {
	if g == nil {
		return Lease{}, nil
	}
	l := Lease{guard: g, key: key, caller: newCaller()}
	_, taken, err := g.raise(ctx, key, 0, l.caller, nil, LeaseLife)
	if err != nil {
		l.Release(ctx) // it may have been taken, and only the answer was lost
		return Lease{}, err
	}
	if !taken {
		return Lease{}, ErrLeased
	}
	return l, nil
}

// Release lets the next one ask. If the lease has ended by itself, another's stays.
func (l Lease) Release(ctx context.Context) error {
	if l.guard == nil {
		return nil
	}
	return l.guard.drop(ctx, l.key, l.caller)
}

// raise, look and drop ask the store, each in a span of its own.

func (g *Guard) raise(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration) (Record, bool, error) {
	ctx, span := g.step(ctx)
	known, done, err := g.store.Raise(ctx, key, from, to, note, life)
	span.EndWith(err)
	return known, done, err
}

func (g *Guard) look(ctx context.Context, key Key) (Record, error) {
	ctx, span := g.step(ctx)
	known, err := g.store.Look(ctx, key)
	span.EndWith(err)
	return known, err
}

func (g *Guard) drop(ctx context.Context, key Key, number uint32) error {
	ctx, span := g.step(ctx)
	err := g.store.Drop(ctx, key, number)
	span.EndWith(err)
	return err
}

// step begins a span, but not for a store in this process, which nobody waits for.
func (g *Guard) step(ctx context.Context) (context.Context, *trace.Span) {
	if g.kind == "memory" {
		return ctx, nil
	}
	ctx, span := trace.Step(ctx, "replay guard")
	span.Note("mcpbouncer.store", g.kind)
	return ctx, span
}
