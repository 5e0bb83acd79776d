package issuer

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

func newTestGuard(t testing.TB) (*ReplayGuard, *testClock) {
	t.Helper()
	clock := &testClock{time.Unix(1790000000, 0)}
	g, err := OpenReplayGuard("memory", 14*24*time.Hour, 30*24*time.Hour, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	return g, clock
}

// The contract of docs/replay.md, for one family.
func TestWhatTheGuardSaysOfAFamily(t *testing.T) {
	type present struct {
		after      time.Duration
		generation uint32
		want       verdict
		answer     string // that the first use got
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		steps []present
	}{
		{"each token once", []present{{0, 0, fresh, ""}, {time.Hour, 1, fresh, ""}, {time.Hour, 2, fresh, ""}}},
		{"again at once", []present{{0, 0, fresh, ""}, {0, 0, repeated, "0 at 0s"}}},
		{"again and again within the grace", []present{{0, 0, fresh, ""}, {30 * time.Second, 0, repeated, "0 at 0s"}, {29 * time.Second, 0, repeated, "0 at 0s"}}},
		{"again within the grace, counted from the first use", []present{{0, 0, fresh, ""}, {59 * time.Second, 0, repeated, "0 at 0s"}, {time.Second, 0, reused, ""}}},
		{"again after two minutes", []present{{0, 0, fresh, ""}, {2 * time.Minute, 0, reused, ""}}},
		{"again after a day", []present{{0, 0, fresh, ""}, {day, 0, reused, ""}}},
		{"again after the last moment at which it would open", []present{{0, 0, fresh, ""}, {14*day + 5*time.Minute, 0, reused, ""}}},
		{"the one before the last, within the grace", []present{{0, 0, fresh, ""}, {0, 1, fresh, ""}, {0, 0, reused, ""}}},
		{"the next one within the grace of the last", []present{{0, 0, fresh, ""}, {time.Second, 1, fresh, ""}, {time.Second, 1, repeated, "1 at 1s"}}},
		{"a newer one than was ever seen: the store has lost something", []present{{0, 0, fresh, ""}, {0, 7, fresh, ""}, {0, 7, repeated, "7 at 0s"}, {0, 6, reused, ""}, {0, 8, fresh, ""}}},
		{"for the first time after the store was emptied", []present{{0, 5, fresh, ""}, {2 * time.Minute, 5, reused, ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, clock := newTestGuard(t)
			begun := clock.at
			for i, p := range c.steps {
				clock.add(p.after)
				if got, note, err := g.look(t.Context(), replayKey{1}, p.generation); got != p.want || string(note) != p.answer || err != nil {
					t.Fatalf("look %d: %v, %q, %v, want %v, %q", i, got, note, err, p.want, p.answer)
				}
				answer := string(rune('0'+p.generation)) + " at " + clock.at.Sub(begun).String()
				if got, note, err := g.step(t.Context(), replayKey{1}, p.generation, []byte(answer)); got != p.want || string(note) != p.answer || err != nil {
					t.Fatalf("step %d: %v, %q, %v, want %v, %q", i, got, note, err, p.want, p.answer)
				}
			}
		})
	}
}

func TestAFamilyThatEndedStaysSo(t *testing.T) {
	g, clock := newTestGuard(t)
	if _, _, err := g.step(t.Context(), replayKey{1}, 3, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // ending it again changes nothing
		if err := g.end(t.Context(), replayKey{1}); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []time.Duration{0, time.Minute, 14*24*time.Hour + 10*time.Minute} {
		clock.add(after)
		for _, generation := range []uint32{0, 3, 4, 5, familyEnded - 2} {
			if got, note, err := g.step(t.Context(), replayKey{1}, generation, []byte("x")); got != over || note != nil || err != nil {
				t.Errorf("after %v, generation %d: %v, %q, %v", after, generation, got, note, err)
			}
		}
	}
	if got, _, err := g.step(t.Context(), replayKey{2}, 3, []byte("x")); got != fresh || err != nil {
		t.Errorf("another family: %v, %v", got, err)
	}
}

func TestTheGuardMarksCodes(t *testing.T) {
	g, clock := newTestGuard(t)
	code := replayKey{1}
	use := func(want bool) {
		t.Helper()
		if got, err := g.firstUse(t.Context(), code, 5); got != want || err != nil {
			t.Errorf("first use: %v, %v, want %v", got, err, want)
		}
	}
	use(true)
	use(false)
	clock.add(codeMark) // the last moment at which a replica with a slow clock accepts the code
	use(false)
	code = replayKey{2}
	use(true)
	if err := g.unused(t.Context(), code, 5); err != nil {
		t.Fatal(err)
	}
	use(true)
	use(false)
}

func TestOneReplicaClaimsACheck(t *testing.T) {
	g, clock := newTestGuard(t)
	caller := uint32(0)
	claim := func(want bool) {
		t.Helper()
		caller++
		if got, err := g.claim(t.Context(), replayKey{1}, caller); got != want || err != nil {
			t.Errorf("claim: %v, %v, want %v", got, err, want)
		}
	}
	claim(true)
	claim(false)
	unclaim := func(caller uint32) {
		t.Helper()
		if err := g.unclaim(t.Context(), replayKey{1}, caller); err != nil {
			t.Fatal(err)
		}
	}
	unclaim(1)
	claim(true)
	claim(false)
	unclaim(1) // by one that was away for longer than its claim
	claim(false)
	clock.add(2 * checkClaim) // whoever had it is gone
	claim(true)
}

// Forgetting under pressure would be accepting a replay: what is full says so.
func TestAFullMemoryForgetsNothing(t *testing.T) {
	g, clock := newTestGuard(t)
	store := g.store.(*memoryStore)
	store.maxEntries, store.maxNotes = 3, 2*memoryNote{text: []byte("x")}.size()
	for i := byte(1); i <= 2; i++ {
		if _, _, err := g.step(t.Context(), replayKey{i}, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := g.step(t.Context(), replayKey{3}, 0, []byte("x")); !errors.Is(err, errGuardFull) {
		t.Errorf("too many answers: %v", err)
	}
	if first, err := g.firstUse(t.Context(), replayKey{3}, 5); !first || err != nil {
		t.Errorf("the third entry: %v, %v", first, err)
	}
	clock.add(2 * replayGrace) // the answers are gone, the families are not
	if _, err := g.firstUse(t.Context(), replayKey{4}, 5); !errors.Is(err, errGuardFull) {
		t.Errorf("too many entries: %v", err)
	}
	if v, _, err := g.step(t.Context(), replayKey{2}, 1, []byte("x")); v != fresh || err != nil {
		t.Errorf("a known family: %v, %v", v, err)
	}
	if claimed, err := g.claim(t.Context(), replayKey{9}, 7); !claimed || err != nil {
		t.Errorf("a check of a known family: %v, %v", claimed, err)
	}
	if err := g.unclaim(t.Context(), replayKey{9}, 7); err != nil {
		t.Fatal(err)
	}
	if v, _, err := g.step(t.Context(), replayKey{1}, 0, []byte("x")); v != reused || err != nil {
		t.Errorf("a replay: %v, %v", v, err)
	}
	clock.add(2 * g.life) // nothing of all this is good any more
	if first, err := g.firstUse(t.Context(), replayKey{4}, 5); !first || err != nil {
		t.Errorf("later: %v, %v", first, err)
	}
}

// By a day: the memory would be full for a day. What is remembered stays for as long as it should.
func TestAClockThatIsSetBackFillsNoMemory(t *testing.T) {
	g, clock := newTestGuard(t)
	store := g.store.(*memoryStore)
	store.maxNotes = memoryNote{text: []byte("x")}.size()
	step := func(family byte, want verdict) error {
		t.Helper()
		v, _, err := g.step(t.Context(), replayKey{family}, 0, []byte("x"))
		if err == nil && v != want {
			t.Errorf("family %d: %v, want %v", family, v, want)
		}
		return err
	}
	if err := step(1, fresh); err != nil {
		t.Fatal(err)
	}
	clock.add(-24 * time.Hour)
	if err := step(2, fresh); !errors.Is(err, errGuardFull) {
		t.Errorf("there is no room yet: %v", err)
	}
	clock.add(2 * replayGrace)
	if err := step(2, fresh); err != nil {
		t.Errorf("two minutes later: %v", err)
	}
	if err := step(1, reused); err != nil {
		t.Error(err)
	}
}

func TestNamesOfGuards(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"none", ""}, {"memory", "memory"},
	} {
		g, err := OpenReplayGuard(c.name, time.Hour, time.Hour, time.Now)
		if err != nil || (g == nil) != (c.want == "") || g != nil && g.kind != c.want {
			t.Errorf("%q: %+v, %v", c.name, g, err)
		}
	}
	for _, name := range []string{"", "Memory", "off", "memcached://host", "localhost:6379", "http://user:password@host", "\x00"} {
		if g, err := OpenReplayGuard(name, time.Hour, time.Hour, time.Now); err == nil || g != nil {
			t.Errorf("%q: %+v, %v", name, g, err)
		}
	}
}

// BenchmarkMemoryGuard is one step of a family among a million; bytes/entry is what each of them
// takes.
func BenchmarkMemoryGuard(b *testing.B) {
	g, _ := newTestGuard(b)
	store := g.store.(*memoryStore)
	const families = 1_000_000
	key := func(i uint64) (k replayKey) {
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
	for i := range uint64(families) {
		if _, done, err := store.raise(context.Background(), key(i), 0, 1, nil, g.life); !done || err != nil {
			b.Fatal(done, err)
		}
	}
	size := heap() - before
	answer := make([]byte, 400)
	i, generation := uint64(0), uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		if i++; i == 100_000 { // as many as are within the grace of each other
			i, generation = 0, generation+1
		}
		if v, _, err := g.step(context.Background(), key(i), generation, answer); v != fresh || err != nil {
			b.Fatal(v, err)
		}
	}
	b.ReportMetric(float64(size)/families, "bytes/entry")
	b.ReportMetric(float64(size)/1e6, "MB")
}
