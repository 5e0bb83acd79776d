package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"
)

// testClock is a time that moves when it is told to.
type testClock struct{ at time.Time }

func (c *testClock) now() time.Time      { return c.at }
func (c *testClock) add(d time.Duration) { c.at = c.at.Add(d) }

func newTestGuard(t testing.TB) (*Guard, *testClock) {
	t.Helper()
	clock := &testClock{time.Unix(1790000000, 0)}
	g, err := Open("memory", 14*24*time.Hour, 30*24*time.Hour, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	return g, clock
}

// The table is the contract of docs/replay.md, for one login.
func TestReplayGuardSteps(t *testing.T) {
	type present struct {
		after      time.Duration
		generation uint32
		want       Verdict
		answer     string // that the first use got
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		steps []present
	}{
		{"each token once", []present{{0, 0, Fresh, ""}, {time.Hour, 1, Fresh, ""}, {time.Hour, 2, Fresh, ""}}},
		{"again at once", []present{{0, 0, Fresh, ""}, {0, 0, Repeated, "0 at 0s"}}},
		{"again and again within the grace", []present{{0, 0, Fresh, ""}, {30 * time.Second, 0, Repeated, "0 at 0s"}, {29 * time.Second, 0, Repeated, "0 at 0s"}}},
		{"again within the grace, counted from the first use", []present{{0, 0, Fresh, ""}, {59 * time.Second, 0, Repeated, "0 at 0s"}, {time.Second, 0, Reused, ""}}},
		{"again after two minutes", []present{{0, 0, Fresh, ""}, {2 * time.Minute, 0, Reused, ""}}},
		{"again after a day", []present{{0, 0, Fresh, ""}, {day, 0, Reused, ""}}},
		{"again after the last moment at which it would open", []present{{0, 0, Fresh, ""}, {14*day + 5*time.Minute, 0, Reused, ""}}},
		{"the one before the last, within the grace", []present{{0, 0, Fresh, ""}, {0, 1, Fresh, ""}, {0, 0, Reused, ""}}},
		{"the next one within the grace of the last", []present{{0, 0, Fresh, ""}, {time.Second, 1, Fresh, ""}, {time.Second, 1, Repeated, "1 at 1s"}}},
		{"a newer one than was ever seen: the store has lost something", []present{{0, 0, Fresh, ""}, {0, 7, Fresh, ""}, {0, 7, Repeated, "7 at 0s"}, {0, 6, Reused, ""}, {0, 8, Fresh, ""}}},
		{"for the first time after the store was emptied", []present{{0, 5, Fresh, ""}, {2 * time.Minute, 5, Reused, ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, clock := newTestGuard(t)
			begun := clock.at
			for i, p := range c.steps {
				clock.add(p.after)
				if got, note, err := g.Look(t.Context(), Key{1}, p.generation); got != p.want || string(note) != p.answer || err != nil {
					t.Fatalf("look %d: %v, %q, %v, want %v, %q", i, got, note, err, p.want, p.answer)
				}
				answer := string(rune('0'+p.generation)) + " at " + clock.at.Sub(begun).String()
				if got, note, err := g.Step(t.Context(), Key{1}, p.generation, []byte(answer)); got != p.want || string(note) != p.answer || err != nil {
					t.Fatalf("step %d: %v, %q, %v, want %v, %q", i, got, note, err, p.want, p.answer)
				}
			}
		})
	}
}

func TestReplayGuardKeepsAnEndedLoginEnded(t *testing.T) {
	g, clock := newTestGuard(t)
	if _, _, err := g.Step(t.Context(), Key{1}, 3, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // ending it again changes nothing
		if err := g.End(t.Context(), Key{1}); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []time.Duration{0, time.Minute, 14*24*time.Hour + 10*time.Minute} {
		clock.add(after)
		for _, generation := range []uint32{0, 3, 4, 5, loginEnded - 2} {
			if got, note, err := g.Step(t.Context(), Key{1}, generation, []byte("x")); got != Over || note != nil || err != nil {
				t.Errorf("after %v, generation %d: %v, %q, %v", after, generation, got, note, err)
			}
		}
	}
	if got, _, err := g.Step(t.Context(), Key{2}, 3, []byte("x")); got != Fresh || err != nil {
		t.Errorf("another login: %v, %v", got, err)
	}
}

func TestReplayGuardMarksCodes(t *testing.T) {
	g, clock := newTestGuard(t)
	code := Key{1}
	use := func(want bool) {
		t.Helper()
		if got, err := g.firstUse(t.Context(), code, 5); got != want || err != nil {
			t.Errorf("first use: %v, %v, want %v", got, err, want)
		}
	}
	use(true)
	use(false)
	clock.add(CodeLife) // the last moment at which a replica with a slow clock accepts the code
	use(false)
	code = Key{2}
	use(true)
	if err := (Use{guard: g, code: code, mark: 5}).Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	use(true)
	use(false)
}

func TestReplayGuardLeasesACheckToOneReplica(t *testing.T) {
	g, clock := newTestGuard(t)
	lease := func(want bool) Lease {
		t.Helper()
		l, got, err := g.leased(t.Context(), Key{1})
		if got != want || err != nil {
			t.Errorf("lease: %v, %v, want %v", got, err, want)
		}
		return l
	}
	release := func(l Lease) {
		t.Helper()
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first := lease(true)
	lease(false)
	release(first)
	lease(true)
	lease(false)
	release(first) // by a holder that was away for longer than its lease
	lease(false)
	clock.add(2 * LeaseLife) // whoever had it is gone
	lease(true)
}

// firstUse presents a code as a certain caller.
func (g *Guard) firstUse(ctx context.Context, code Key, caller uint32) (bool, error) {
	u, err := g.useAs(ctx, code, caller)
	return u.First, err
}

// leased is Lease, and says whether the lease was given.
func (g *Guard) leased(ctx context.Context, key Key) (Lease, bool, error) {
	l, err := g.Lease(ctx, key)
	if errors.Is(err, ErrLeased) {
		return l, false, nil
	}
	return l, err == nil, err
}

// Without a guard everything is a first use.
func TestReplayGuardThatIsNilAnswersFresh(t *testing.T) {
	g, err := Open("none", time.Hour, time.Hour, time.Now)
	if g != nil || err != nil {
		t.Fatal(g, err)
	}
	for range 2 {
		ctx := t.Context()
		use, err := g.Use(ctx, Key{1})
		if !use.First || use.Left != nil || err != nil || use.Undo(ctx) != nil || use.Leave(ctx, []byte("x")) == nil || g.Leave(ctx, Key{1}, []byte("x")) == nil {
			t.Errorf("a code: %+v, %v", use, err)
		}
		if left, used, err := g.Found(ctx, Key{1}); left || used || err != nil {
			t.Errorf("found: %v, %v, %v", left, used, err)
		}
		if v, first, err := g.Step(ctx, Key{2}, 0, []byte("x")); v != Fresh || first != nil || err != nil {
			t.Errorf("a step: %v, %q, %v", v, first, err)
		}
		if v, first, err := g.Look(ctx, Key{2}, 0); v != Fresh || first != nil || err != nil {
			t.Errorf("a look: %v, %q, %v", v, first, err)
		}
		lease, err := g.Lease(ctx, Key{3})
		if err != nil || lease.Release(ctx) != nil || g.End(ctx, Key{2}) != nil || g.Check(ctx) != nil {
			t.Errorf("a lease: %v", err)
		}
	}
	if g.Kind() != "none" || !g.Remembers(time.Hour, time.Hour) {
		t.Errorf("kind %s, remembers %v", g.Kind(), g.Remembers(time.Hour, time.Hour))
	}
	g.CloseIdleConnections()
}

// A guard that was opened for shorter lives would forget refresh tokens that are still good.
func TestReplayGuardRemembers(t *testing.T) {
	g := New("memory", nil, time.Hour, 2*time.Hour)
	for _, c := range []struct {
		idle, login time.Duration
		want        bool
	}{{time.Hour, 2 * time.Hour, true}, {time.Minute, time.Hour, true}, {time.Hour + 1, 2 * time.Hour, false}, {time.Hour, 2*time.Hour + 1, false}} {
		if got := g.Remembers(c.idle, c.login); got != c.want {
			t.Errorf("%v, %v: %v", c.idle, c.login, got)
		}
	}
}

// Forgetting under pressure would mean accepting a replay, so a full memory returns an error.
func TestReplayGuardMemoryThatIsFullForgetsNothing(t *testing.T) {
	g, clock := newTestGuard(t)
	store := g.store.(*memoryStore)
	store.maxEntries, store.maxNotes = 3, 2*memoryNote{text: []byte("x")}.size()
	for i := byte(1); i <= 2; i++ {
		if _, _, err := g.Step(t.Context(), Key{i}, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := g.Step(t.Context(), Key{3}, 0, []byte("x")); !errors.Is(err, ErrFull) {
		t.Errorf("too many answers: %v", err)
	}
	if first, err := g.firstUse(t.Context(), Key{3}, 5); !first || err != nil {
		t.Errorf("the third entry: %v, %v", first, err)
	}
	clock.add(2 * Grace) // the answers are gone, the logins are not
	if _, err := g.firstUse(t.Context(), Key{4}, 5); !errors.Is(err, ErrFull) {
		t.Errorf("too many entries: %v", err)
	}
	if v, _, err := g.Step(t.Context(), Key{2}, 1, []byte("x")); v != Fresh || err != nil {
		t.Errorf("a known login: %v, %v", v, err)
	}
	lease, err := g.Lease(t.Context(), Key{9})
	if err != nil {
		t.Errorf("a check of a known login: %v", err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, _, err := g.Step(t.Context(), Key{1}, 0, []byte("x")); v != Reused || err != nil {
		t.Errorf("a replay: %v, %v", v, err)
	}
	clock.add(2 * g.life) // nothing of all this is good any more
	if first, err := g.firstUse(t.Context(), Key{4}, 5); !first || err != nil {
		t.Errorf("later: %v, %v", first, err)
	}
}

// The clock is set back by a day, and the memory must not be full for a day. Its marks stay for as
// long as they should.
func TestReplayGuardMemoryWhenTheClockIsSetBack(t *testing.T) {
	g, clock := newTestGuard(t)
	store := g.store.(*memoryStore)
	store.maxNotes = memoryNote{text: []byte("x")}.size()
	step := func(login byte, want Verdict) error {
		t.Helper()
		v, _, err := g.Step(t.Context(), Key{login}, 0, []byte("x"))
		if err == nil && v != want {
			t.Errorf("login %d: %v, want %v", login, v, want)
		}
		return err
	}
	if err := step(1, Fresh); err != nil {
		t.Fatal(err)
	}
	clock.add(-24 * time.Hour)
	if err := step(2, Fresh); !errors.Is(err, ErrFull) {
		t.Errorf("there is no room yet: %v", err)
	}
	clock.add(2 * Grace)
	if err := step(2, Fresh); err != nil {
		t.Errorf("two minutes later: %v", err)
	}
	if err := step(1, Reused); err != nil {
		t.Error(err)
	}
}

func TestReplayGuardNames(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"none", ""}, {"memory", "memory"},
	} {
		g, err := Open(c.name, time.Hour, time.Hour, time.Now)
		if err != nil || (g == nil) != (c.want == "") || g != nil && g.kind != c.want {
			t.Errorf("%q: %+v, %v", c.name, g, err)
		}
	}
	for _, name := range []string{"", "Memory", "off", "memcached://host", "localhost:6379", "http://user:password@host", "\x00"} {
		if g, err := Open(name, time.Hour, time.Hour, time.Now); err == nil || g != nil {
			t.Errorf("%q: %+v, %v", name, g, err)
		}
	}
}

// BenchmarkMemoryGuard measures one step of a login among a million; bytes/entry is what each of
// them takes.
func BenchmarkMemoryGuard(b *testing.B) {
	g, _ := newTestGuard(b)
	store := g.store.(*memoryStore)
	const logins = 1_000_000
	key := func(i uint64) (k Key) {
		binary.BigEndian.PutUint64(k[:], i*0x9e3779b97f4a7c15)
		return k
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range uint64(logins) {
		if _, done, err := store.Raise(context.Background(), key(i), 0, 1, nil, g.life); !done || err != nil {
			b.Fatal(done, err)
		}
	}
	size := heap() - before
	answer := make([]byte, 400)
	i, generation := uint64(0), uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		if i++; i == 100_000 { // as many steps as lie within one grace
			i, generation = 0, generation+1
		}
		if v, _, err := g.Step(context.Background(), key(i), generation, answer); v != Fresh || err != nil {
			b.Fatal(v, err)
		}
	}
	b.ReportMetric(float64(size)/logins, "bytes/entry")
	b.ReportMetric(float64(size)/1e6, "MB")
}

// A request that has to stop half-way leaves what it has learnt. One of the next requests gets it,
// in each store.
func TestReplayGuardKeepsWhatACallerLeaves(t *testing.T) {
	fake := newFakeRedis(t)
	redis, err := newRedisStore("redis://" + fake.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, tables := newTable(t, 0)
	memory, err := Open("memory", time.Hour, time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*Guard{
		"memory": memory, "dynamodb": tables[0], "redis": {store: redis, kind: "redis", life: time.Hour, ended: time.Hour},
	} {
		use := func(caller uint32) (bool, string, uint32) {
			t.Helper()
			u, err := g.useAs(t.Context(), Key{9}, caller)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return u.First, string(u.Left), u.mark
		}
		if first, left, mark := use(7); !first || left != "" || mark != 7 {
			t.Errorf("%s: the first: %v, %q, %d", name, first, left, mark)
		}
		if first, left, _ := use(8); first || left != "" {
			t.Errorf("%s: the second, while the first is at it: %v, %q", name, first, left)
		}
		if err := g.leave(t.Context(), Key{9}, 7, 7, []byte("learnt")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		first, left, mark := use(3)
		if !first || left != "learnt" {
			t.Errorf("%s: the next: %v, %q", name, first, left)
		}
		if first, left, _ := use(4); first || left != "" {
			t.Errorf("%s: the one after that: %v, %q", name, first, left)
		}
		// This works again and again, whatever the caller's number.
		if err := g.leave(t.Context(), Key{9}, mark, mark, []byte("learnt")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if first, left, _ := use(2); !first || left != "learnt" {
			t.Errorf("%s: after it was left twice: %v, %q", name, first, left)
		}
		// An unmarked code can be left with an answer too, unless somebody has marked it by now.
		if err := g.leave(t.Context(), Key{9}, 0, 5, []byte("late")); err == nil {
			t.Errorf("%s: a mark was overwritten", name)
		}
	}
}

// between runs something once, after a raise that has found what an earlier caller left.
type between struct {
	Store
	then func()
}

func (b *between) Raise(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration) (Record, bool, error) {
	known, done, err := b.Store.Raise(ctx, key, from, to, note, life)
	if then := b.then; then != nil && known.Note != nil {
		b.then = nil
		then()
	}
	return known, done, err
}

// Two replicas find what was left at the same moment: one gets it, and the other does not undo that
// use.
func TestReplayGuardGivesWhatWasLeftToOneOfTwo(t *testing.T) {
	fake := newFakeRedis(t)
	redis, err := newRedisStore("redis://" + fake.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, tables := newTable(t, 0)
	for name, store := range map[string]Store{"dynamodb": tables[0].store, "redis": redis} {
		one, other := &Guard{store: store}, &between{Store: store}
		key := Key{9}
		if err := one.leave(t.Context(), key, 0, 7, []byte("learnt")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var mark uint32
		other.then = func() {
			u, err := one.Use(t.Context(), key)
			if !u.First || string(u.Left) != "learnt" || err != nil {
				t.Errorf("%s: the faster one: %+v, %v", name, u, err)
			}
			mark = u.mark
		}
		late, err := (&Guard{store: other}).Use(t.Context(), key)
		if late.First || err != nil {
			t.Errorf("%s: the slower one got it too: %+v, %v", name, late, err)
		}
		if late.mark == mark {
			t.Errorf("%s: both have the mark %d, which either would take back", name, mark)
		}
	}
}
