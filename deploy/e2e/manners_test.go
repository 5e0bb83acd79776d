package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/contract"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

var (
	swarmManners = flag.String("manners", "glewlwyd", "the providers' manners that TestSwarmAtProviders runs with, one after the other: all, or some of "+strings.Join(slices.Sorted(maps.Keys(manners)), ","))
	mannerGuards = flag.String("mannerguards", "none", "and the replay guards, each with each")
)

// manner is how a provider treats its own refresh tokens, keys and refusals.
type manner struct {
	issuertest.Behaviour
	upstream contract.Upstream
	faults   []string // beside those of every run
}

const (
	losesAnswer = "provider loses an answer"
	rotatesKeys = "provider rotates its keys"
	staleKeys   = "provider rotates its keys, and its key set is old"
)

// All of them are seen in the wild; each is otherwise kind. Those with a name are known to the
// product by their endpoints.
var manners = map[string]manner{
	"rotating":        {issuertest.Behaviour{KillOnReuse: true}, contract.Ends, []string{losesAnswer}},
	"static":          {issuertest.Behaviour{Refresh: "static"}, contract.Lenient, []string{losesAnswer}},
	"half":            {issuertest.Behaviour{Refresh: "half", UserInfo: anybody}, contract.Refuses, []string{losesAnswer}},
	"old-kid":         {issuertest.Behaviour{Leeway: time.Minute, KeepKeyID: true}, contract.Refuses, []string{rotatesKeys}},
	"stale-keys":      {issuertest.Behaviour{Leeway: time.Minute}, contract.Refuses, []string{staleKeys}},
	"empty-400":       {issuertest.Behaviour{Leeway: time.Minute, RefusalEmpty: true}, contract.Refuses, nil},
	"invalid-request": {issuertest.Behaviour{Leeway: time.Minute, Refusal: "invalid_request"}, contract.Refuses, nil},
	"better-auth":     {known("better-auth 1.7"), contract.EndsAll, []string{losesAnswer}},
	"doorkeeper":      {known("Doorkeeper 5.5"), contract.Refuses, []string{losesAnswer}},
	"glewlwyd":        {known("Glewlwyd 2.7"), contract.Ends, []string{losesAnswer}},
	"lemonldap":       {known("LemonLDAP::NG 2.16"), contract.Lenient, []string{losesAnswer}},
	"gitea":           {known("Gitea 1.26"), contract.Lenient, []string{losesAnswer}},
}

// anybody is a userinfo endpoint that knows whose access token it is shown.
var anybody = map[string]any{"sub": "*"}

func known(name string) issuertest.Behaviour {
	b, ok := issuertest.Manners[name]
	if !ok {
		panic("no manners of " + name)
	}
	b.UserInfo = anybody
	return b
}

// mannered is a provider of such manners, at which each client of the swarm is a person of its own
// or, where the manners are about persons, one of two programs of a person.
type mannered struct {
	*issuertest.Provider
	mu   sync.Mutex // guards base for one access
	base issuertest.Behaviour
}

func (m *mannered) change(change func(*issuertest.Behaviour)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.base)
	m.Be(m.base)
}

// TestSwarmAtProviders is TestSwarm at providers that are not kind. People are removed there, too:
// they must be out by the next check. The clocks are right: what they may do to a check is
// TestSwarm's matter.
//
//	go test -run TestSwarmAtProviders -swarm 2m -manners rotating -mannerguards none -seed 1 .
func TestSwarmAtProviders(t *testing.T) {
	t.Parallel()
	seed := swarmSeedOf()
	names := strings.Split(*swarmManners, ",")
	if *swarmManners == "all" {
		names = slices.Sorted(maps.Keys(manners))
	}
	for _, name := range names {
		for _, guard := range strings.Split(*mannerGuards, ",") {
			t.Run(name+"/"+guard, func(t *testing.T) {
				how, known := manners[name]
				if !known {
					t.Fatalf("there are no manners %q", name)
				}
				t.Logf("the schedule is that of -swarm %s -manners %s -mannerguards %s -seed %d", *swarmLength, name, guard, seed)
				s := newMannerSwarm(t, how, guard, atProviders(newSchedule(seed, *swarmLength, swarmClients, swarmReplicas), how, seed, *swarmLength))
				s.run()
				s.check()
				s.checkLogins()
			})
		}
	}
}

// atProviders makes a schedule with right clocks, the faults of the manner, and people who are
// removed.
func atProviders(s schedule, how manner, seed uint64, length time.Duration) schedule {
	rng := rand.New(rand.NewPCG(seed, 1))
	s.faults = slices.DeleteFunc(s.faults, func(f fault) bool { return f.Do == "clock" })
	for i := range s.faults {
		s.faults[i].Skew = 0
	}
	for _, do := range how.faults {
		for at := between(rng, 2*time.Second, 5*time.Second); at < length-6*time.Second; at += between(rng, 6*time.Second, 9*time.Second) {
			s.faults = append(s.faults, fault{At: at, Do: do, For: between(rng, 500*time.Millisecond, 1500*time.Millisecond)})
		}
	}
	slices.SortStableFunc(s.faults, func(a, b fault) int { return int(a.At - b.At) })
	for _, steps := range s.clients {
		for i := range steps {
			if rng.IntN(40) == 0 {
				steps[i].Do = "is removed"
			}
		}
	}
	return s
}

// checkedEvery is upstreamCheckInterval of the tenants wiki and world.
var checkedEvery = [2]time.Duration{2 * time.Second, 0}

func newMannerSwarm(t *testing.T, how manner, guard string, schedule schedule) *swarm {
	s := &swarm{t: t, schedule: schedule, guard: newGuardKind(t, guard), manner: &how, keys: true}
	env := map[string]string{
		"BOUNCER_ACCESS_TOKEN_TTL": "2m",
		// minutes: Options.Clocks
		"BOUNCER_KEY_ROTATION_DAYS": "1", "BOUNCER_KEY_OVERLAP_HOURS": "1",
	}
	maps.Copy(env, s.guard.env)
	labels := map[string]string{"jwksCacheTTLSeconds": "2", "refresh": "upstream", "dpop": "accept"}
	for i, name := range []string{"wiki", "world"} {
		p := &mannered{Provider: issuertest.NewProvider(t, nil), base: how.Behaviour}
		p.base.Revocation = name == "wiki" || p.base.Revocation
		p.Be(p.base)
		s.providers = append(s.providers, p)
		labels[name+"/providerIssuer"], labels[name+"/clientID"], labels[name+"/clientSecret"] = p.Issuer, p.ClientID, p.Secret
		labels[name+"/upstreamCheckInterval"] = checkedEvery[i].String()
	}
	s.w = rig.New(t, rig.Options{Replicas: swarmReplicas, Clocks: true, Sidecar: env, Labels: labels})
	s.ring = []string{s.w.Keys.Encryption}
	return s
}

// provider of a tenant of a swarm with manners.
func (s *swarm) provider(tn *rig.Tenant) *mannered {
	return s.providers[slices.Index(s.w.Tenants(), tn)]
}

// breakProvider is breakOnce for what providers do.
func (s *swarm) breakProvider(f fault, out func(contract.Part, func())) bool {
	each := func(change func(*issuertest.Behaviour)) {
		for _, p := range s.providers {
			p.change(change)
		}
	}
	switch f.Do {
	case "provider down":
		out(contract.Provider, func() {
			each(func(b *issuertest.Behaviour) { b.Status = http.StatusServiceUnavailable })
			s.pause(f.For)
			each(func(b *issuertest.Behaviour) { b.Status = 0 })
		})
	case "provider closes idle connections":
		for _, p := range s.providers {
			p.Drop()
		}
	case losesAnswer:
		out(contract.Lost, func() {
			each(func(b *issuertest.Behaviour) { b.LoseResponses = 1 })
			s.pause(f.For)
			each(func(b *issuertest.Behaviour) { b.LoseResponses = 0 })
		})
	case rotatesKeys: // not an outage: nobody may notice
		for _, p := range s.providers {
			p.RotateKeys()
		}
	case staleKeys:
		out(contract.Provider, func() {
			each(func(b *issuertest.Behaviour) { b.StaleKeys = 1 << 20 })
			for _, p := range s.providers {
				p.RotateKeys()
			}
			s.pause(f.For)
			each(func(b *issuertest.Behaviour) { b.StaleKeys = 0 })
		})
	default:
		return false
	}
	return true
}

// person returns the name as which a client of the swarm logs in.
func (s *swarm) person(i int) string {
	if s.manner.upstream == contract.EndsAll {
		i = i/4*2 + i%2 // two programs, both at one tenant
	}
	return fmt.Sprintf("person-%d", i)
}

// signedIn makes the jar that of a browser in which somebody is signed in at the provider.
func (c *swarmClient) signedIn(jar http.CookieJar) {
	issuer, err := url.Parse(c.provider(c.tn).Issuer)
	if err != nil {
		c.t.Fatal(err)
	}
	jar.SetCookies(issuer, []*http.Cookie{{Name: issuertest.PersonCookie, Value: c.who, Path: "/"}})
}

// isRemoved lets the provider end all that the person has, and goes on as a client does that is
// told nothing.
func (c *swarmClient) isRemoved() {
	every := checkedEvery[slices.Index(c.w.Tenants(), c.tn)]
	e := contract.Ending{Who: c.who, From: c.now()}
	c.provider(c.tn).EndLogins(c.who)
	e.To = c.now()
	e.By = e.To + every + 500*time.Millisecond
	c.ending(c.tn, e)
	for range 5 {
		c.waitUntil(e.By)
		if c.renew(); c.loggedOut {
			return
		}
		c.pause(retryAfter)
	}
}
