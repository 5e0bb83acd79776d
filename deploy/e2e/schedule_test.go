package e2e

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// A schedule is what the clients of TestSwarm do and what breaks meanwhile. It follows from the
// seed and from nothing else; how far the operations of different clients overlap is the machine's
// affair.
type schedule struct {
	clients  [][]step
	pageless [][]step // of the programs that show no page
	faults   []fault
}

// step is one thing that a client does, no earlier than At.
type step struct {
	At  time.Duration
	Do  string
	N   int           // how many at once
	Cut time.Duration // after how long it hangs up
}

// fault is one thing that goes wrong, no earlier than At, and for how long.
type fault struct {
	At, For time.Duration
	Do      string
	Replica int
	Skew    time.Duration // of the replica's clock from now on
}

// stepKind is something that can be done, and how often compared with others.
type stepKind struct {
	do     string
	weight int
}

// Steps and their weights. A thief with the key, if there is one, and a revocation end a family, so
// that their client begins a new one.
var stepWeights = []stepKind{
	{"refresh", 34}, {"call", 26}, {"refresh at once", 10}, {"refresh and hang up", 8}, {"refresh, and again", 8},
	{"login", 4}, {"login, and redeem at once", 3}, {"login, and redeem again", 3}, {"replay", 2}, {"revoke", 2},
	{"is robbed", 4}, {"call, and the same again", 6},
}

var pagelessWeights = []stepKind{
	{"bring", 30}, {"call", 20}, {"bring at once", 10}, {"bring and hang up", 8}, {"bring, and again", 8}, {"bring what is not for it", 8},
}

// swarmPrograms is how many programs show no page: two at each tenant.
const swarmPrograms = 4

// maxSkew is how far from the real time a clock may be: two of them are twice as far apart.
const maxSkew = time.Minute

// newSchedule makes the schedule of a run. The last faults end well before its end, so that every
// client can show that it is still logged in.
func newSchedule(seed uint64, length time.Duration, clients, replicas int) schedule {
	rng := rand.New(rand.NewPCG(seed, 0))
	var s schedule
	lives := func(rng *rand.Rand, n int, kinds []stepKind) (all [][]step) {
		for range n {
			var steps []step
			for at := between(rng, 0, time.Second); at < length-2*time.Second; at += between(rng, 200*time.Millisecond, 1200*time.Millisecond) {
				steps = append(steps, step{At: at, Do: weighted(rng, kinds), N: 2 + rng.IntN(5), Cut: between(rng, time.Millisecond, 30*time.Millisecond)})
			}
			all = append(all, steps)
		}
		return all
	}
	s.clients = lives(rng, clients, stepWeights)
	s.pageless = lives(rand.New(rand.NewPCG(seed, 2)), swarmPrograms, pagelessWeights)
	// The rare faults, once in each half minute; what is killed and how clocks go wrong fills the
	// rest.
	const round = 30 * time.Second
	for start := time.Duration(0); start < length; start += round {
		rare := []fault{
			{At: 3 * time.Second, Do: "kill the store"},
			{At: 6 * time.Second, Do: "provider down"},
			{At: 11 * time.Second, Do: "provider closes idle connections"},
			{At: 16 * time.Second, Do: "stall the store"},
			{At: 19 * time.Second, Do: "store full"},
			{At: 22 * time.Second, Do: "empty the store"},
		}
		if start == length/2/round*round { // once, in the middle: a ring has few places
			rare = append(rare, fault{At: 8 * time.Second, Do: "new master, unused"}, fault{At: 14 * time.Second, Do: "new master, used"})
		}
		for _, f := range rare {
			f.At += start + between(rng, 0, time.Second)
			f.For = between(rng, 500*time.Millisecond, 1500*time.Millisecond)
			s.faults = append(s.faults, f)
		}
	}
	for at := time.Second; at < length; at += between(rng, 500*time.Millisecond, 2500*time.Millisecond) {
		f := fault{At: at, Do: "kill", Replica: rng.IntN(replicas), For: between(rng, 0, 700*time.Millisecond), Skew: between(rng, -maxSkew, maxSkew).Round(time.Second)}
		if rng.IntN(4) == 0 {
			f.Do = "clock"
		}
		s.faults = append(s.faults, f)
	}
	s.faults = slices.DeleteFunc(s.faults, func(f fault) bool { return f.At+f.For > length-4*time.Second })
	slices.SortFunc(s.faults, func(a, b fault) int { return int(a.At - b.At) })
	return s
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

func weighted(rng *rand.Rand, kinds []stepKind) string {
	sum := 0
	for _, w := range kinds {
		sum += w.weight
	}
	n := rng.IntN(sum)
	for _, w := range kinds {
		if n -= w.weight; n < 0 {
			return w.do
		}
	}
	panic("unreachable")
}

// A seed that is printed by a failed run is worth nothing unless it makes the same run again.
func TestScheduleFollowsFromItsSeed(t *testing.T) {
	a, b, other := newSchedule(7, time.Minute, 8, 3), newSchedule(7, time.Minute, 8, 3), newSchedule(8, time.Minute, 8, 3)
	if !reflect.DeepEqual(a, b) {
		t.Error("one seed makes two schedules")
	}
	if reflect.DeepEqual(a, other) {
		t.Error("two seeds make one schedule")
	}
	// Whatever can happen does, in the short form of the run too.
	for seed := range uint64(20) {
		s, happens := newSchedule(seed, 30*time.Second, 12, 3), map[string]bool{}
		for _, step := range slices.Concat(slices.Concat(s.clients...), slices.Concat(s.pageless...)) {
			happens[step.Do] = true
		}
		for _, f := range s.faults {
			happens[f.Do] = true
		}
		for _, w := range slices.Concat(stepWeights, pagelessWeights) {
			if !happens[w.do] {
				t.Errorf("seed %d: nobody does %q", seed, w.do)
			}
		}
		for _, do := range []string{"kill", "clock", "kill the store", "provider down", "new master, unused", "new master, used", "stall the store", "store full", "empty the store"} {
			if !happens[do] {
				t.Errorf("seed %d: %q does not happen", seed, do)
			}
		}
	}
}
