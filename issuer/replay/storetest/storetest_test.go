package storetest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
)

// clock is a time that moves when it is told to.
type clock struct {
	mu sync.Mutex // guards at for one access
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func openMemory(t *testing.T, now func() time.Time) replay.Store {
	t.Helper()
	_, store, err := replay.OpenStore("memory", Idle, Login, now)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// faulty is a store that does one thing in its own way; a nil function is left to the store below.
type faulty struct {
	replay.Store
	raise func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error)
	look  func(ctx context.Context, key replay.Key) (replay.Record, error)
	drop  func(ctx context.Context, key replay.Key, number uint32) error
}

func (f *faulty) Raise(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
	if f.raise != nil {
		return f.raise(ctx, key, from, to, note, life)
	}
	return f.Store.Raise(ctx, key, from, to, note, life)
}

func (f *faulty) Look(ctx context.Context, key replay.Key) (replay.Record, error) {
	if f.look != nil {
		return f.look(ctx, key)
	}
	return f.Store.Look(ctx, key)
}

func (f *faulty) Drop(ctx context.Context, key replay.Key, number uint32) error {
	if f.drop != nil {
		return f.drop(ctx, key, number)
	}
	return f.Store.Drop(ctx, key, number)
}

// Each fault is one that a store could have, with the row that is there for it. A row without a
// fault would test nothing.
func TestStoresWithFaultsAreNoticed(t *testing.T) {
	type raised = func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error)
	// raising is a store whose Raise is this one.
	raising := func(raise func(m replay.Store, c *clock) raised) func(*testing.T, *clock) Subject {
		return func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			f := &faulty{Store: m, raise: raise(m, c)}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}
	}
	expected := map[string]bool{} // rows
	for _, fault := range []struct {
		name    string
		subject func(t *testing.T, c *clock) Subject
		noticed string // a row
	}{
		{"each replica has a memory of its own", func(t *testing.T, c *clock) Subject {
			return Subject{Replicas: [2]replay.Store{openMemory(t, c.now), openMemory(t, c.now)}}
		}, "the first use is the first at each replica, with its answer"},
		{"a refused raise returns no answer", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, done, err := m.Raise(ctx, key, from, to, note, life)
				known.Note = nil
				return known, done, err
			}
		}), "the first use is the first at each replica, with its answer"},
		{"a refused raise returns what the caller wanted", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, done, err := m.Raise(ctx, key, from, to, note, life)
				if !done {
					known = replay.Record{Number: to, Note: note}
				}
				return known, done, err
			}
		}), "the first use is the first at each replica, with its answer"},
		{"the same number is raised again", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				return m.Raise(ctx, key, to, to, note, life)
			}
		}), "the first use is the first at each replica, with its answer"},
		{"a raise wants exactly the number before", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if known, err := m.Look(ctx, key); err != nil || known.Number != 0 && known.Number != from {
					return known, false, err
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "a number higher than what is known is taken: the store has lost something"},
		{"a raise of something that is not there is refused", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if known, err := m.Look(ctx, key); err != nil || known.Number == 0 && from > 0 {
					return known, false, err
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "a number higher than what is known is taken: the store has lost something"},
		{"a raise to the same number is refused", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if from == to {
					known, err := m.Look(ctx, key)
					return known, false, err
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "an answer is left beside a mark, and taken by the next"},
		{"a raise without an answer leaves the old one", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if known, err := m.Look(ctx, key); err == nil && note == nil {
					note = known.Note
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "an answer is left beside a mark, and taken by the next"},
		{"numbers are signed", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, err := m.Look(ctx, key)
				if err == nil && int32(known.Number) <= int32(from) {
					err = m.Drop(ctx, key, known.Number)
				}
				if err != nil {
					return known, false, err
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "numbers go up to the largest, which ends a login"},
		{"keys are cut off", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				other := key
				other[15] &^= 1
				m.Raise(ctx, other, from, to, note, life)
				other[15] |= 1
				return m.Raise(ctx, other, from, to, note, life)
			}
		}), "keys that differ in one bit are two"},
		{"answers are text", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			f := &faulty{Store: m, raise: func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if note != nil {
					note = []byte(strings.ToValidUTF8(string(note), "?"))
				}
				return m.Raise(ctx, key, from, to, note, life)
			}}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "answers come back to the byte, up to 32 KB"},
		{"long answers are cut off", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				return m.Raise(ctx, key, from, to, note[:min(len(note), 4096)], life)
			}
		}), "answers come back to the byte, up to 32 KB"},
		{"the answer is kept as long as the number", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			notes := map[replay.Key][]byte{}
			f := &faulty{Store: m}
			f.raise = func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, done, err := m.Raise(ctx, key, from, to, note, life)
				if done {
					notes[key] = note
				} else if known.Number != 0 {
					known.Note = notes[key]
				}
				return known, done, err
			}
			f.look = func(ctx context.Context, key replay.Key) (replay.Record, error) {
				known, err := m.Look(ctx, key)
				if known.Number != 0 {
					known.Note = notes[key]
				}
				return known, err
			}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "an answer is kept for the grace and no longer, the number goes on"},
		{"the number goes with the answer", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if note != nil {
					life = replay.LeaseLife
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "an answer is kept for the grace and no longer, the number goes on"},
		{"a new answer has what is left of the old one's grace", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			begun := map[replay.Key]time.Time{}
			f := &faulty{Store: m}
			f.raise = func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if _, ok := begun[key]; !ok && note != nil {
					begun[key] = c.now()
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
			f.look = func(ctx context.Context, key replay.Key) (replay.Record, error) {
				known, err := m.Look(ctx, key)
				if at, ok := begun[key]; ok && c.now().Sub(at) >= replay.Grace {
					known.Note = nil
				}
				return known, err
			}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a new answer takes the place of the old, and has a grace of its own"},
		{"a lease does not end", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				return m.Raise(ctx, key, from, to, note, max(life, replay.CodeLife))
			}
		}), "a lease ends by itself, and not before"},
		{"everything is kept for minutes", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				return m.Raise(ctx, key, from, to, note, min(life, replay.CodeLife))
			}
		}), "a code and a login are kept for all of their lives"},
		{"a life is counted from the first use", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			ends := map[replay.Key]time.Time{}
			f := &faulty{Store: m}
			f.raise = func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if known, err := m.Look(ctx, key); err == nil && known.Number == 0 {
					ends[key] = c.now().Add(life)
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
			f.look = func(ctx context.Context, key replay.Key) (replay.Record, error) {
				if at, ok := ends[key]; ok && c.now().After(at) {
					return replay.Record{}, nil
				}
				return m.Look(ctx, key)
			}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "the life begins anew with each use"},
		{"the first life stays", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			first := map[replay.Key]time.Duration{}
			f := &faulty{Store: m, raise: func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if _, ok := first[key]; !ok {
					first[key] = life
				}
				return m.Raise(ctx, key, from, to, note, first[key])
			}}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a longer life takes the place of a shorter"},
		{"what is over stands in the way until it is cleared away", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			highest := map[replay.Key]uint32{}
			f := &faulty{Store: m, raise: func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if highest[key] > from {
					known, err := m.Look(ctx, key)
					return known, false, err
				}
				highest[key] = to
				return m.Raise(ctx, key, from, to, note, life)
			}}
			f.drop = func(ctx context.Context, key replay.Key, number uint32) error {
				delete(highest, key)
				return m.Drop(ctx, key, number)
			}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "what is over is as if it had never been"},
		{"a drop leaves the answer", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			left := map[replay.Key][]byte{}
			f := &faulty{Store: m}
			f.drop = func(ctx context.Context, key replay.Key, number uint32) error {
				known, err := m.Look(ctx, key)
				if err == nil && known.Number == number {
					left[key] = known.Note
				}
				return errors.Join(err, m.Drop(ctx, key, number))
			}
			f.look = func(ctx context.Context, key replay.Key) (replay.Record, error) {
				known, err := m.Look(ctx, key)
				if known.Note == nil {
					known.Note = left[key]
				}
				return known, err
			}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a drop forgets a number and its answer"},
		{"a drop does nothing", func(t *testing.T, c *clock) Subject {
			f := &faulty{Store: openMemory(t, c.now), drop: func(context.Context, replay.Key, uint32) error { return nil }}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a drop forgets a number and its answer"},
		{"a drop drops whatever is there", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			f := &faulty{Store: m, drop: func(ctx context.Context, key replay.Key, _ uint32) error {
				known, err := m.Look(ctx, key)
				return errors.Join(err, m.Drop(ctx, key, known.Number))
			}}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a drop leaves another's number, and nothing is not an error"},
		{"a drop of nothing is an error", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			f := &faulty{Store: m, drop: func(ctx context.Context, key replay.Key, number uint32) error {
				if known, err := m.Look(ctx, key); err != nil || known.Number != number {
					return errors.New("there is no such item")
				}
				return m.Drop(ctx, key, number)
			}}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a drop leaves another's number, and nothing is not an error"},
		{"a raise reads first and writes later", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, err := m.Look(ctx, key)
				if err != nil || known.Number > from {
					return known, false, err
				}
				yield()
				if now, _ := m.Look(ctx, key); now.Number > from {
					m.Drop(ctx, key, now.Number) // this overwrites it
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "of many uses at once one is the first, and the others have its answer"},
		{"a drop reads first and deletes later", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			f := &faulty{Store: m, drop: func(ctx context.Context, key replay.Key, number uint32) error {
				known, err := m.Look(ctx, key)
				if err != nil || known.Number != number {
					return err
				}
				yield()
				known, err = m.Look(ctx, key)
				return errors.Join(err, m.Drop(ctx, key, known.Number))
			}}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "a drop at the same time as a use leaves the use"},
		{"a lease that is asked for again is given", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, done, err := m.Raise(ctx, key, from, to, note, life)
				// taken for the answer to a request that was sent twice
				if !done && note == nil && known.Note == nil && life == replay.CodeLife && from == 0 {
					return replay.Record{}, true, err
				}
				return known, done, err
			}
		}), "of many holders of a lease one has it at a time"},
		{"something stands at every key", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			f := &faulty{Store: m, look: func(ctx context.Context, key replay.Key) (replay.Record, error) {
				known, err := m.Look(ctx, key)
				known.Number = max(1, known.Number)
				return known, err
			}}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "what nobody has used is nothing"},
		{"a step is refused at another replica than the last", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			last := map[replay.Key]int{}
			replica := func(i int) replay.Store {
				return &faulty{Store: m, raise: func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
					if at, ok := last[key]; ok && at != i {
						known, err := m.Look(ctx, key)
						return known, false, err
					}
					last[key] = i
					return m.Raise(ctx, key, from, to, note, life)
				}}
			}
			return Subject{Replicas: [2]replay.Store{replica(1), replica(2)}}
		}, "a step goes on where another replica was"},
		{"the last write wins", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, err := m.Look(ctx, key)
				if err != nil || known.Number > from {
					return known, false, err
				}
				yield()
				if now, _ := m.Look(ctx, key); now.Number > 0 {
					m.Drop(ctx, key, now.Number)
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "a number never falls"},
		{"a look sees what stood there a moment ago", func(t *testing.T, c *clock) Subject {
			m := openMemory(t, c.now)
			before := map[replay.Key]replay.Record{}
			var mu sync.Mutex
			f := &faulty{Store: m}
			f.raise = func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				known, _ := m.Look(ctx, key)
				mu.Lock()
				before[key] = known
				mu.Unlock()
				return m.Raise(ctx, key, from, to, note, life)
			}
			f.look = func(ctx context.Context, key replay.Key) (replay.Record, error) {
				mu.Lock()
				defer mu.Unlock()
				old, ok := before[key]
				delete(before, key)
				if ok {
					return old, nil
				}
				return m.Look(ctx, key)
			}
			return Subject{Replicas: [2]replay.Store{f, f}}
		}, "the first use is the first at each replica, with its answer"},
		{"a request that is given up is answered with nothing", raising(func(m replay.Store, _ *clock) raised {
			return func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if ctx.Err() != nil {
					return replay.Record{}, false, nil
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
		}), "a request that is given up is never a second use of nothing"},
		{"a store that is away knows nothing", func(t *testing.T, c *clock) Subject {
			m, away := openMemory(t, c.now), false
			f := &faulty{Store: m}
			f.look = func(ctx context.Context, key replay.Key) (replay.Record, error) {
				if away {
					return replay.Record{}, nil
				}
				return m.Look(ctx, key)
			}
			f.raise = func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if away {
					return replay.Record{}, false, errors.New("away")
				}
				return m.Raise(ctx, key, from, to, note, life)
			}
			f.drop = func(ctx context.Context, key replay.Key, number uint32) error {
				if away {
					return errors.New("away")
				}
				return m.Drop(ctx, key, number)
			}
			return Subject{Replicas: [2]replay.Store{f, f}, Break: func() { away = true }, Heal: func() { away = false }}
		}, "a store that does not answer is an error, and no verdict"},
		{"a full store drops what is oldest", func(t *testing.T, c *clock) Subject {
			m, full := openMemory(t, c.now), false
			var keys []replay.Key
			f := &faulty{Store: m, raise: func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
				if full && len(keys) > 0 {
					if known, err := m.Look(ctx, keys[0]); err == nil {
						m.Drop(ctx, keys[0], known.Number)
					}
					keys = keys[1:]
				}
				keys = append(keys, key)
				return m.Raise(ctx, key, from, to, note, life)
			}}
			return Subject{Replicas: [2]replay.Store{f, f}, Fill: func() { full = true }, Drain: func() { full = false }}
		}, "a full store refuses, and forgets nothing"},
	} {
		expected[fault.noticed] = true
		t.Run(fault.name, func(t *testing.T) {
			var noticed []string
			for _, row := range rows {
				c := &clock{at: time.Unix(1790000000, 0)}
				s := fault.subject(t, c)
				s.Pass = c.pass
				var mu sync.Mutex // some faults keep a map of their own
				if !concurrent[fault.name] {
					for i, store := range s.Replicas {
						s.Replicas[i] = locked(&mu, store)
					}
				}
				if row.needs != nil && !row.needs(s) {
					continue
				}
				if row.run(newBench(t.Context(), s)) != nil {
					noticed = append(noticed, row.name)
				}
			}
			if !slices.Contains(noticed, fault.noticed) {
				t.Errorf("not noticed by %q, but by %q", fault.noticed, noticed)
			}
		})
	}
	for _, row := range rows {
		if !expected[row.name] {
			t.Errorf("no fault is noticed by %q", row.name)
		}
	}
}

// concurrent are the faults that show only when several requests come at once.
var concurrent = map[string]bool{
	"a raise reads first and writes later": true, "a drop reads first and deletes later": true, "the last write wins": true, "a lease that is asked for again is given": true,
}

// locked lets one request at a time into a store.
func locked(mu *sync.Mutex, s replay.Store) replay.Store {
	return &faulty{
		raise: func(ctx context.Context, key replay.Key, from, to uint32, note []byte, life time.Duration) (replay.Record, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return s.Raise(ctx, key, from, to, note, life)
		},
		look: func(ctx context.Context, key replay.Key) (replay.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			return s.Look(ctx, key)
		},
		drop: func(ctx context.Context, key replay.Key, number uint32) error {
			mu.Lock()
			defer mu.Unlock()
			return s.Drop(ctx, key, number)
		},
	}
}

// yield lets the others go on, as a request over a network does.
func yield() {
	for range 50 {
		runtime.Gosched()
	}
}
