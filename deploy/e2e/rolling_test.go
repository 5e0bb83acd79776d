//go:build rolling

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/contract"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var rollingGuards = flag.String("rollingguards", "none,memory,redis", "the replay guards that TestSwarmWhileVersionsAreReplaced runs with, one after the other")

// TestSwarmWhileVersionsAreReplaced sets the clients of TestSwarm on three sidecars and two
// Traefiks that go one version back and forth: in the order of docs/upgrade.md, and then in any.
// Nothing else breaks, so the contract lets no request be refused or stay unanswered.
//
//	go test -tags rolling -run WhileVersionsAreReplaced -swarm 2m -rollingguards none -seed 1 .
func TestSwarmWhileVersionsAreReplaced(t *testing.T) {
	seed := swarmSeedOf()
	for _, guard := range strings.Split(*rollingGuards, ",") {
		t.Run(guard, func(t *testing.T) {
			t.Logf("the schedule is that of -swarm %s -rollingguards %s -seed %d", *swarmLength, guard, seed)
			schedule := newSchedule(seed, *swarmLength, swarmClients, swarmReplicas)
			schedule.faults = nil
			s := newSwarmWith(t, guard, schedule, false)
			r := newRollout(s)
			var clients sync.WaitGroup
			s.begin()
			clients.Go(s.live)
			r.inOrder()
			r.inAnyOrder(rand.New(rand.NewPCG(seed, 3)), *swarmLength)
			clients.Wait()
			s.check()
			s.checkLogins()
			r.check()
		})
	}
}

// rollout is what replaces sidecars and Traefiks.
type rollout struct {
	*swarm
	before   rig.Before
	fleet    *fleet
	traefiks []*rig.Traefik
	old      []bool          // which Traefiks have the plugin before
	programs []bool          // which sidecars are those before
	was      map[string]bool // which processes were :: process → before
	replaced int
}

func newRollout(s *swarm) *rollout {
	r := &rollout{swarm: s, before: rig.BuildBefore(s.t), was: map[string]bool{}, programs: make([]bool, len(s.w.Replicas)), old: make([]bool, 2)}
	r.traefiks = []*rig.Traefik{s.w.Traefik, r.start(false)}
	r.fleet = newFleet(s.t, s.w, r.traefiks[1])
	s.w.Through(r.fleet.transport)
	for _, replica := range s.w.Replicas {
		r.was[replica.Process()] = false
	}
	return r
}

// start starts a Traefik, and returns when it guards both servers.
func (r *rollout) start(before bool) *rig.Traefik {
	config := rig.TraefikConfig{WebPort: rig.FreePort(r.t), HopKey: r.w.Keys.Hop, Docker: r.w.Docker}
	if before {
		config.PluginRoot = r.before.Root
	}
	traefik := rig.StartTraefik(r.t, r.w.Logs, config)
	for _, tn := range r.w.Tenants() {
		rig.WaitFor(r.t, "the routes", func() error { return statusIs(traefik.Web+"/"+tn.Name+"/anything", http.StatusUnauthorized) })
	}
	return traefik
}

// sidecar replaces one as a container engine does: no request comes any more, what was begun is
// finished, the next process starts, and requests come again.
func (r *rollout) sidecar(i int, before bool) {
	replica, program := r.w.Replicas[i], rig.Tool(r.t, "mcpbouncer")
	if before {
		program = r.before.Sidecar
	}
	r.w.Front.Drain(replica.Name)
	replica.Upgrade(program)
	r.was[replica.Process()] = before
	r.programs[i] = before
	r.w.Front.Drain("")
	r.done()
}

// plugin replaces a Traefik by another one, which starts before the first ends.
func (r *rollout) plugin(i int, before bool) {
	next := r.start(before)
	r.fleet.exchange(r.traefiks[i], next)
	r.traefiks[i].Terminate(r.t)
	r.traefiks[i], r.old[i] = next, before
	r.done()
}

// exchange lets one Traefik take another's place: whoever asks meets the new one from now on. It
// returns when the old one has nothing to do any more.
func (f *fleet) exchange(old, new *rig.Traefik) {
	f.t.Helper()
	gone := strings.TrimPrefix(old.Web, "http://")
	f.mu.Lock()
	f.all[slices.Index(f.all, gone)] = strings.TrimPrefix(new.Web, "http://")
	f.mu.Unlock()
	rig.WaitFor(f.t, "a Traefik to be drained", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := f.open[gone]; n > 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	})
}

// done lets clients meet this state, and looks whether it is open.
func (r *rollout) done() {
	r.replaced++
	for _, traefik := range r.traefiks {
		for _, tn := range r.w.Tenants() {
			if err := statusIs(traefik.Web+"/"+tn.Name+"/anything", http.StatusUnauthorized); err != nil {
				r.t.Errorf("%s without a token, with %v of the sidecars and %v of the plugins before: %v", tn.Name, r.programs, r.old, err)
			}
		}
	}
	r.pause(time.Second)
}

// inOrder goes back, plugins first, and forth again, sidecars first.
func (r *rollout) inOrder() {
	for i := range r.traefiks {
		r.plugin(i, true)
	}
	for i := range r.programs {
		r.sidecar(i, true)
	}
	for i := range r.programs {
		r.sidecar(i, false)
	}
	for i := range r.traefiks {
		r.plugin(i, false)
	}
}

// inAnyOrder replaces whatever comes until the clients are nearly done.
func (r *rollout) inAnyOrder(rng *rand.Rand, length time.Duration) {
	for r.now() < length-5*time.Second {
		if i := rng.IntN(len(r.programs) + len(r.old)); i < len(r.programs) {
			r.sidecar(i, !r.programs[i])
		} else {
			r.plugin(i-len(r.programs), !r.old[i-len(r.programs)])
		}
	}
}

// check looks for what the record of the answers does not show: that both versions answered, and
// that no part spoke of the other's version.
func (r *rollout) check() {
	granted := map[bool]int{}
	for _, tn := range r.w.Tenants() {
		for _, op := range r.history(tn).Ops {
			if before, known := r.was[op.Process]; known && op.Outcome == contract.Granted && op.Do == contract.Refresh {
				granted[before]++
			}
		}
	}
	r.t.Logf("%d replacements; refreshed at sidecars of before and of today: %d, %d", r.replaced, granted[true], granted[false])
	if r.replaced < 10 || granted[true] < 20 || granted[false] < 20 {
		r.t.Error("the run proves nothing")
	}
	for _, name := range r.w.Logs.Names() {
		for line := range strings.Lines(r.w.Logs.Text(name)) {
			if slices.ContainsFunc([]string{"hop header", "upgrade the sidecar first", "misconfigured", "it is not the sidecar"}, func(bad string) bool { return strings.Contains(line, bad) }) {
				r.t.Fatalf("%s: %s", name, line)
			}
		}
	}
}
