// Package storetest is the suite that every store of package replay passes: the contract of
// replay.Store and of docs/replay.md, as far as a store can break it. A store that passes needs
// nothing else to be trusted as a replay guard.
//
// It promises to notice each fault of TestStoresWithFaultsAreNoticed. It does not measure speed,
// and does not say whether a store outlives the process or the machine that holds it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
)

// Idle and Login are the lives that a store is opened for here (replay.OpenStore).
const (
	Idle  = 2 * time.Hour
	Login = 3 * time.Hour
)

// Subject is a store under test.
type Subject struct {
	// Replicas are two stores over one memory, as two replicas have them. A store that only its
	// process has is there twice.
	Replicas [2]replay.Store
	// Pass lets time pass for what the store keeps.
	Pass func(time.Duration)
	// Fill leaves the store no room for anything new, until Drain. Nil: it has no bound here.
	Fill, Drain func()
	// Break keeps the store from answering, until Heal. Nil: it is always there.
	Break, Heal func()
}

// slack is what the test itself may take between two requests, besides the second that a store may
// count in.
const slack = 10 * time.Second

// Run takes a store through the suite. open is called for each row, and may return the same store
// each time: every row has keys of its own. Rows for what a Subject has nil are left out.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	has := open(t)
	for _, row := range rows {
		if row.needs != nil && !row.needs(has) {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			if err := row.run(newBench(t.Context(), open(t))); err != nil {
				t.Error(err)
			}
		})
	}
}

// bench is a Subject with keys that nobody has used.
type bench struct {
	Subject
	ctx      context.Context
	one, two replay.Store // the replicas
}

func newBench(ctx context.Context, s Subject) *bench {
	return &bench{s, ctx, s.Replicas[0], s.Replicas[1]}
}

func newKey() (k replay.Key) {
	for i := range k {
		k[i] = byte(rand.Uint32())
	}
	return k
}

// raises expects a Raise that is done.
func (b *bench) raises(s replay.Store, key replay.Key, from, to uint32, note []byte, life time.Duration) error {
	known, done, err := s.Raise(b.ctx, key, from, to, note, life)
	if err != nil || !done {
		return fmt.Errorf("raise from %d to %d: done %v, found %s, error %w", from, to, done, text(known), err)
	}
	return nil
}

// refuses expects a Raise that meets a record.
func (b *bench) refuses(s replay.Store, key replay.Key, from, to uint32, note []byte, want replay.Record) error {
	known, done, err := s.Raise(b.ctx, key, from, to, note, Idle)
	if err != nil || done || !same(known, want) {
		return fmt.Errorf("raise from %d to %d: done %v, found %s, error %v; want %s in the way", from, to, done, text(known), err, text(want))
	}
	return nil
}

// has expects what both replicas see.
func (b *bench) has(key replay.Key, want replay.Record) error {
	for i, s := range b.Replicas {
		known, err := s.Look(b.ctx, key)
		if err != nil || !same(known, want) {
			return fmt.Errorf("look at replica %d: %s, error %v; want %s", i+1, text(known), err, text(want))
		}
	}
	return nil
}

func same(a, b replay.Record) bool {
	return a.Number == b.Number && bytes.Equal(a.Note, b.Note) && (a.Note == nil) == (b.Note == nil)
}

func text(r replay.Record) string {
	switch {
	case r.Note == nil:
		return fmt.Sprintf("%d without a note", r.Number)
	case len(r.Note) > 20:
		return fmt.Sprintf("%d with a note of %d bytes", r.Number, len(r.Note))
	}
	return fmt.Sprintf("%d with %q", r.Number, r.Note)
}

func number(n uint32) replay.Record             { return replay.Record{Number: n} }
func noted(n uint32, note string) replay.Record { return replay.Record{Number: n, Note: []byte(note)} }

// firstOf returns the first failure of several attempts.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) drops(s replay.Store, key replay.Key, n uint32) error {
	if err := s.Drop(b.ctx, key, n); err != nil {
		return fmt.Errorf("drop of %d: %w", n, err)
	}
	return nil
}

// A row is one sentence of the contract.
type row struct {
	name  string
	needs func(Subject) bool // nil: every store
	run   func(*bench) error
}

var rows = []row{
	{"what nobody has used is nothing", nil, func(b *bench) error {
		return b.has(newKey(), replay.Record{})
	}},
	{"the first use is the first at each replica, with its answer", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 1, []byte("first"), Idle),
			b.has(key, noted(1, "first")),
			b.refuses(b.two, key, 0, 1, []byte("second"), noted(1, "first")),
			b.refuses(b.one, key, 0, 1, []byte("third"), noted(1, "first")),
			b.has(key, noted(1, "first")),
		)
	}},
	{"a step goes on where another replica was", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 1, []byte("a"), Idle),
			b.raises(b.two, key, 1, 2, []byte("b"), Idle),
			b.refuses(b.one, key, 0, 1, []byte("c"), noted(2, "b")),
			b.refuses(b.one, key, 1, 2, []byte("d"), noted(2, "b")),
			b.raises(b.one, key, 2, 3, nil, Idle),
			b.has(key, number(3)),
		)
	}},
	{"a number higher than what is known is taken: the store has lost something", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 7, 8, []byte("a"), Idle),
			b.raises(b.two, key, 40, 41, []byte("b"), Idle),
			b.refuses(b.one, key, 8, 9, []byte("c"), noted(41, "b")),
			b.has(key, noted(41, "b")),
		)
	}},
	{"an answer is left beside a mark, and taken by the next", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 900, nil, replay.CodeLife),
			b.refuses(b.two, key, 0, 5, nil, number(900)),
			b.raises(b.one, key, 900, 900, []byte("learnt"), replay.CodeLife),
			b.refuses(b.two, key, 0, 5, nil, noted(900, "learnt")),
			b.raises(b.two, key, 900, 1234, nil, replay.CodeLife),
			b.refuses(b.one, key, 900, 1000, nil, number(1234)),
			b.has(key, number(1234)),
		)
	}},
	{"numbers go up to the largest, which ends a login", nil, func(b *bench) error {
		key := newKey()
		err := firstOf(
			b.raises(b.one, key, 0, 1<<31-1, nil, Idle),
			b.raises(b.two, key, 1<<31-1, 1<<31, nil, Idle),
			b.refuses(b.one, key, 1<<31-1, 1<<31, []byte("x"), number(1<<31)),
			b.raises(b.one, key, math.MaxUint32-1, math.MaxUint32, nil, Login),
		)
		for _, from := range []uint32{0, 1, 1 << 31, math.MaxUint32 - 2} {
			err = firstOf(err, b.refuses(b.two, key, from, from+1, []byte("x"), number(math.MaxUint32)))
		}
		return firstOf(err, b.has(key, number(math.MaxUint32)))
	}},
	{"keys that differ in one bit are two", nil, func(b *bench) error {
		key := newKey()
		err := b.raises(b.one, key, 0, 5, []byte("x"), Idle)
		for bit := range 128 {
			other := key
			other[bit/8] ^= 1 << (bit % 8)
			if known, e := b.two.Look(b.ctx, other); e != nil || !same(known, replay.Record{}) {
				return fmt.Errorf("bit %d: %s, error %v", bit, text(known), e)
			}
		}
		return firstOf(err, b.raises(b.one, replay.Key{}, 0, math.MaxUint32, nil, Idle), b.drops(b.one, replay.Key{}, math.MaxUint32))
	}},
	{"answers come back to the byte, up to 32 KB", nil, func(b *bench) error {
		all := make([]byte, 32<<10)
		for i := range all {
			all[i] = byte(i ^ i>>8)
		}
		var err error
		for _, note := range [][]byte{{0}, []byte("\r\n"), []byte("\xff\xfe"), all[:256], all} {
			key := newKey()
			err = firstOf(err,
				b.raises(b.one, key, 0, 1, note, Idle),
				b.has(key, replay.Record{Number: 1, Note: note}),
				b.refuses(b.two, key, 0, 1, []byte("x"), replay.Record{Number: 1, Note: note}))
		}
		return err
	}},
	{"an answer is kept for the grace and no longer, the number goes on", nil, func(b *bench) error {
		key := newKey()
		err := firstOf(
			b.raises(b.one, key, 0, 1, []byte("x"), Idle),
			b.passes(replay.Grace-slack),
			b.has(key, noted(1, "x")),
			b.refuses(b.two, key, 0, 1, []byte("y"), noted(1, "x")),
		)
		return firstOf(err,
			b.passes(slack+time.Second),
			b.has(key, number(1)),
			b.refuses(b.two, key, 0, 1, []byte("y"), number(1)),
			b.has(key, number(1)),
		)
	}},
	{"a new answer takes the place of the old, and has a grace of its own", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 1, []byte("old"), Idle),
			b.passes(replay.Grace/2),
			b.raises(b.two, key, 1, 2, []byte("new"), Idle),
			b.passes(replay.Grace/2+time.Second),
			b.has(key, noted(2, "new")),
			b.raises(b.one, key, 2, 3, nil, Idle),
			b.has(key, number(3)),
		)
	}},
	{"a lease ends by itself, and not before", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 700, nil, replay.LeaseLife),
			b.passes(replay.LeaseLife-slack),
			b.refuses(b.two, key, 0, 5, nil, number(700)),
			b.passes(replay.LeaseLife+slack+time.Second),
			b.has(key, replay.Record{}),
			b.raises(b.two, key, 0, 6, nil, replay.LeaseLife),
			b.drops(b.one, key, 700), // by the one who had it before
			b.has(key, number(6)),
		)
	}},
	{"a code and a login are kept for all of their lives", nil, func(b *bench) error {
		code, login, ended := newKey(), newKey(), newKey()
		return firstOf(
			b.raises(b.one, code, 0, 9, nil, replay.CodeLife),
			b.raises(b.one, login, 3, 4, []byte("x"), Idle),
			b.raises(b.one, ended, math.MaxUint32-1, math.MaxUint32, nil, Login),
			b.passes(replay.CodeLife-slack),
			b.has(code, number(9)),
			b.passes(Idle-replay.CodeLife),
			b.has(login, number(4)),
			b.refuses(b.two, login, 3, 4, []byte("y"), number(4)),
			b.passes(Login-Idle),
			b.has(ended, number(math.MaxUint32)),
			b.has(code, replay.Record{}), // it is over for long
		)
	}},
	{"the life begins anew with each use", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 1, []byte("x"), Idle),
			b.passes(Idle-slack),
			b.raises(b.two, key, 1, 2, []byte("y"), Idle),
			b.passes(Idle-slack),
			b.has(key, number(2)),
			b.refuses(b.one, key, 1, 2, []byte("z"), number(2)),
		)
	}},
	{"a longer life takes the place of a shorter", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 1, nil, replay.LeaseLife),
			b.raises(b.two, key, 1, 2, nil, Idle),
			b.passes(Idle-slack),
			b.has(key, number(2)),
		)
	}},
	{"what is over is as if it had never been", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 50, nil, replay.CodeLife),
			b.passes(2*replay.CodeLife+time.Second),
			b.has(key, replay.Record{}),
			b.raises(b.two, key, 0, 3, []byte("x"), replay.CodeLife),
			b.has(key, noted(3, "x")),
		)
	}},
	{"a drop forgets a number and its answer", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.raises(b.one, key, 0, 8, []byte("x"), replay.CodeLife),
			b.drops(b.two, key, 8),
			b.has(key, replay.Record{}),
			b.raises(b.one, key, 0, 4, nil, replay.CodeLife),
			b.has(key, number(4)),
		)
	}},
	{"a drop leaves another's number, and nothing is not an error", nil, func(b *bench) error {
		key := newKey()
		return firstOf(
			b.drops(b.one, key, 8),
			b.raises(b.one, key, 0, 8, []byte("x"), replay.CodeLife),
			b.drops(b.two, key, 7), b.drops(b.two, key, 9), b.drops(b.two, key, 0),
			b.has(key, noted(8, "x")),
		)
	}},
	{"of many uses at once one is the first, and the others have its answer", nil, func(b *bench) error {
		const users, steps = 16, 12
		key := newKey()
		for step := range uint32(steps) {
			notes := make([]string, users) // of the first, as each of them has it
			errs := make([]error, users)
			var firsts atomic.Int64
			b.together(users, func(i int, s replay.Store) {
				mine := fmt.Sprintf("answer %d of %d", i, step)
				known, done, err := s.Raise(b.ctx, key, step, step+1, []byte(mine), Idle)
				switch {
				case err != nil:
					errs[i] = err
				case done:
					firsts.Add(1)
					notes[i] = mine
				case known.Number != step+1 || known.Note == nil:
					errs[i] = fmt.Errorf("another use met %s", text(known))
				default:
					notes[i] = string(known.Note)
				}
			})
			if err := errors.Join(errs...); err != nil {
				return err
			}
			if n := firsts.Load(); n != 1 {
				return fmt.Errorf("step %d: %d of %d uses were the first", step, n, users)
			}
			for _, note := range notes {
				if note != notes[0] {
					return fmt.Errorf("step %d: two uses have the answers %q and %q", step, notes[0], note)
				}
			}
		}
		return nil
	}},
	{"of many holders of a lease one has it at a time", nil, func(b *bench) error {
		const callers, rounds = 8, 20
		key := newKey()
		var holders, held, tries atomic.Int64
		errs := make([]error, callers)
		b.together(callers, func(i int, s replay.Store) {
			for range rounds {
				caller := 1 + rand.Uint32N(math.MaxUint32/2)
				tries.Add(1)
				_, done, err := s.Raise(b.ctx, key, 0, caller, nil, replay.CodeLife)
				if err != nil {
					errs[i] = err
					return
				}
				if !done {
					// by one who does not have it
					if err := s.Drop(b.ctx, key, caller); err != nil {
						errs[i] = err
					}
					continue
				}
				held.Add(1)
				if n := holders.Add(1); n != 1 {
					errs[i] = fmt.Errorf("%d have the lease", n)
				}
				// until others have tried to take it
				for until, looks := tries.Load()+2, 0; tries.Load() < until && looks < 50 && err == nil; looks++ {
					_, err = s.Look(b.ctx, key)
					runtime.Gosched()
				}
				holders.Add(-1)
				if err := errors.Join(err, s.Drop(b.ctx, key, caller)); err != nil {
					errs[i] = err
					return
				}
			}
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if held.Load() == 0 {
			return errors.New("nobody had the lease")
		}
		return b.has(key, replay.Record{})
	}},
	{"a drop at the same time as a use leaves the use", nil, func(b *bench) error {
		for i := range 20 {
			key := newKey()
			if err := b.raises(b.one, key, 0, 7, nil, replay.CodeLife); err != nil {
				return err
			}
			errs := make([]error, 4)
			b.together(len(errs), func(i int, s replay.Store) {
				if i == 0 {
					errs[i] = b.raises(s, key, 7, 9, []byte("x"), replay.CodeLife)
				} else {
					errs[i] = b.drops(s, key, 7)
				}
			})
			if err := firstOf(errors.Join(errs...), b.has(key, noted(9, "x"))); err != nil {
				return fmt.Errorf("round %d: %w", i, err)
			}
		}
		return nil
	}},
	{"a number never falls", nil, func(b *bench) error {
		const users, rounds = 8, 20
		key := newKey()
		var highest atomic.Uint32
		errs := make([]error, users)
		b.together(users, func(i int, s replay.Store) {
			for range rounds {
				seen := highest.Load()
				to := 1 + rand.Uint32N(1<<30)
				known, done, err := s.Raise(b.ctx, key, to-1, to, nil, Idle)
				switch {
				case err != nil:
					errs[i] = err
					return
				case done:
					for h := highest.Load(); to > h && !highest.CompareAndSwap(h, to); h = highest.Load() {
					}
					if to < seen {
						errs[i] = fmt.Errorf("%d was set over %d", to, seen)
					}
				case known.Number < to || known.Number < seen:
					errs[i] = fmt.Errorf("%d was refused because of %d, after %d was set", to, known.Number, seen)
				}
			}
		})
		return firstOf(errors.Join(errs...), b.has(key, number(highest.Load())))
	}},
	{"a request that is given up is never a second use of nothing", nil, func(b *bench) error {
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		key := newKey()
		known, done, err := b.one.Raise(ctx, key, 0, 1, []byte("x"), Idle)
		if err == nil && !done {
			return fmt.Errorf("no error, and not done because of %s", text(known))
		}
		other := newKey()
		if err := b.raises(b.one, other, 0, 1, []byte("y"), Idle); err != nil {
			return err
		}
		if known, err := b.two.Look(ctx, other); err == nil && !same(known, noted(1, "y")) {
			return fmt.Errorf("no error, and a look that sees %s", text(known))
		}
		return nil
	}},
	{"a store that does not answer is an error, and no verdict", func(s Subject) bool { return s.Break != nil }, func(b *bench) error {
		known, unknown := newKey(), newKey()
		if err := b.raises(b.one, known, 0, 3, nil, Idle); err != nil {
			return err
		}
		b.Break()
		var wrong []error
		for i, s := range b.Replicas {
			for _, key := range []replay.Key{known, unknown} {
				if found, done, err := s.Raise(b.ctx, key, 0, 1, []byte("x"), Idle); err == nil || done {
					wrong = append(wrong, fmt.Errorf("raise at replica %d: done %v, found %s, error %v", i+1, done, text(found), err))
				}
				if found, err := s.Look(b.ctx, key); err == nil {
					wrong = append(wrong, fmt.Errorf("look at replica %d: %s without an error", i+1, text(found)))
				}
				if err := s.Drop(b.ctx, key, 3); err == nil {
					wrong = append(wrong, fmt.Errorf("drop at replica %d: no error", i+1))
				}
			}
		}
		b.Heal()
		return errors.Join(wrong...)
	}},
	{"a full store refuses, and forgets nothing", func(s Subject) bool { return s.Fill != nil }, func(b *bench) error {
		var keys []replay.Key
		for range 20 {
			key := newKey()
			keys = append(keys, key)
			if err := b.raises(b.one, key, 0, 2, nil, Login); err != nil {
				return err
			}
		}
		b.Fill()
		var wrong []error
		for range 20 {
			if known, done, err := b.two.Raise(b.ctx, newKey(), 0, 1, []byte("x"), Idle); err == nil {
				wrong = append(wrong, fmt.Errorf("something new: done %v, found %s, without an error", done, text(known)))
			}
		}
		for _, key := range keys {
			if err := b.has(key, number(2)); err != nil {
				wrong = append(wrong, fmt.Errorf("what was known before: %w", err))
			}
			if known, done, err := b.one.Raise(b.ctx, key, 0, 1, []byte("x"), Idle); done || err == nil && !same(known, number(2)) {
				wrong = append(wrong, fmt.Errorf("a second use: done %v, found %s, error %v", done, text(known), err))
			}
		}
		b.Drain()
		return firstOf(errors.Join(wrong...), b.raises(b.one, newKey(), 0, 1, []byte("x"), Idle))
	}},
}

func (b *bench) passes(d time.Duration) error {
	b.Pass(d)
	return nil
}

// together runs f n times at once, over both replicas.
func (b *bench) together(n int, f func(i int, s replay.Store)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i, b.Replicas[i%2])
		})
	}
	close(start)
	all.Wait()
}
