// Package scale says what so many people need: a model of the plugin and the sidecar in their
// busiest hour, with a simulation of what cannot be multiplied (the plugin's memory of tokens, and
// queues). docs/scale.md has its tables. All inputs stand in measured.go.
package scale

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
)

// Plan is what an installation needs in its busiest hour.
type Plan struct {
	People, Tenants int

	Requests float64 // a second, through Traefik
	Traefiks int
	Known    float64       // share of requests whose token this Traefik knows
	Wait     [2]Percentile // in Traefik and in the sidecar
	Memory   float64       // bytes in each Traefik, beside its own

	Refreshes, Logins, Polls float64 // a second, at the sidecars
	Sidecars                 int

	GuardUnits, GuardReads float64 // a second
	GuardDollars           float64 // a month, DynamoDB on demand
	ProviderRequests       float64 // a second, at the token endpoint
	LogBytes               float64 // a day
}

// Percentile is how long a request waits for a processor, in microseconds.
type Percentile struct{ Half, Most float64 }

// For returns the plan of an installation in which each MCP server has so many people. checked is
// the share of refreshes at which the provider is asked.
func For(people, perTenant int, checked float64) Plan {
	n := float64(people)
	busy := busiestHour / 3600
	p := Plan{People: people, Tenants: max(1, people/perTenant), Requests: n * callsPerDay * busy}
	logins := n * loginsPerPerson
	p.Refreshes, p.Logins = logins*hoursPerDay*busy, logins/loginDays*busy
	// More Traefiks know fewer of the tokens that come, so each needs more: until it is enough.
	cost := 0.0
	for p.Traefiks = 1; ; {
		p.Known = knownShare(logins/float64(p.Tenants), callsPerDay/loginsPerPerson*busiestHour/float64(p.Traefiks))
		cost = traefikBare + pluginKnown + (1-p.Known)*pluginFirst
		need := replicas(p.Requests * cost)
		if need <= p.Traefiks {
			break
		}
		p.Traefiks = need
	}
	p.Polls = float64(p.Tenants) * float64(p.Traefiks) * (1/denyPeriod + 1/keysPeriod)
	work := p.Refreshes*(sidecarRefresh+checked*sidecarChecked) + p.Logins*(sidecarLogin+sidecarRegister) + p.Polls*sidecarPoll
	p.Sidecars = replicas(work)
	p.Wait = [2]Percentile{
		queue(p.Requests/float64(p.Traefiks), cost),
		queue((p.Refreshes+p.Logins+p.Polls)/float64(p.Sidecars), work/(p.Refreshes+p.Logins+p.Polls)),
	}
	tokens := math.Min(logins/float64(p.Tenants), tokensKept) * float64(p.Tenants)
	p.Memory = float64(p.Tenants)*tenantBytes + tokens*tokenBytes
	p.GuardUnits = p.Refreshes*(guardUnits*checked+(1-checked)*(guardUnits-2)) + p.Logins*loginUnits
	p.GuardReads = p.Refreshes * (1 + checked*(guardReads-1))
	month := workdays / busy // seconds of the busiest hour that a month is worth
	p.GuardDollars = (p.GuardUnits*writePrice + p.GuardReads*readPrice) * month / 1e6
	p.ProviderRequests = p.Refreshes*checked + p.Logins
	p.LogBytes = (p.Refreshes*refreshLine + p.Logins*loginLines) / busy
	return p
}

// SidecarMicroseconds is what the model says that so many refreshes and logins take the sidecar.
func SidecarMicroseconds(refreshes, logins int) float64 {
	return float64(refreshes)*sidecarRefresh + float64(logins)*sidecarLogin
}

// LogBytes is what the model says that they write.
func LogBytes(refreshes, logins int) float64 {
	return float64(refreshes)*refreshLine + float64(logins)*loginLines
}

// replicas is how many processes so much work needs, in microseconds a second.
func replicas(work float64) int { return max(1, int(math.Ceil(work/1e6/cores/load))) }

// knownShare simulates the plugin's memory of one tenant's tokens: two generations, of which the
// young one turns when it is full or an hour old. Each login has another token each hour, and sends
// calls in it to this Traefik.
func knownShare(logins, calls float64) float64 {
	kept := tokensKept / 2.0
	const most = 20_000 // logins that are simulated: beyond, all shrinks alike
	if shrink := logins / most; shrink > 1 {
		logins, kept = most, kept/shrink
	}
	r := rand.New(rand.NewPCG(1, 2))
	type token struct{ login, hour int }
	young, old := map[token]bool{}, map[token]bool{}
	n := max(1, int(logins))
	phases := make([]float64, n)
	for i := range phases {
		phases[i] = r.Float64()
	}
	turned, known, asked := 0.0, 0, 0
	for at := 0.0; at < 3; at += r.ExpFloat64() / (float64(n) * calls) { // in hours
		login := r.IntN(n)
		t := token{login, int(at + phases[login])}
		if at >= 1 { // the first hour fills it
			asked++
			if young[t] || old[t] {
				known++
			}
		}
		if young[t] || old[t] {
			continue
		}
		if float64(len(young)) >= kept || at-turned >= 1 {
			old, young, turned = young, map[token]bool{}, at
		}
		young[t] = true
	}
	if asked == 0 {
		return 0
	}
	return float64(known) / float64(asked)
}

// queue simulates a process with so many cores, to which requests come at random. Each takes cost
// microseconds on average, some much more.
func queue(rate, cost float64) Percentile {
	r := rand.New(rand.NewPCG(3, 4))
	free := make(times, cores)
	waits := make([]float64, 0, 100_000)
	at := 0.0
	for range cap(waits) {
		at += r.ExpFloat64() / rate * 1e6
		begin := max(at, free[0])
		free[0] = begin + r.ExpFloat64()*cost
		heap.Fix(&free, 0)
		waits = append(waits, begin-at)
	}
	slices.Sort(waits)
	return Percentile{waits[len(waits)/2], waits[len(waits)*99/100]}
}

type times []float64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(float64)) }
func (t *times) Pop() any          { panic("scale: its length never changes") }
