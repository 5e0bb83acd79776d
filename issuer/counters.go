package issuer

import "sync/atomic"

// A counter is something that happens rarely and that an operator wants to know of. /healthz shows
// them all, other than on Lambda; each stands for a line in the log.
type counter int

const (
	codesReused    counter = iota // codes presented again, which the guard refused
	tokensRepeated                // refresh tokens presented again within the grace
	// families that ended because a refresh token was presented again later
	familiesReused
	familiesRefused // families that the provider ended
	familiesRevoked // families that their client ended
	guardFailures   // times that the replay guard could not be asked
	upstreamChecks  // times that a provider was asked about a family
	// short access tokens given because a provider or the guard did not answer
	staleAnswers
	denyFailures // times that the deny document could not be read
	notAdmitted  // people whom a rule refused
	allCounters
)

var counterNames = [allCounters]string{
	"codes_reused", "tokens_repeated", "families_reused", "families_refused", "families_revoked",
	"guard_failures", "upstream_checks", "stale_answers", "deny_failures", "not_admitted",
}

type counters [allCounters]atomic.Int64

func (c *counters) add(n counter) { c[n].Add(1) }

// snapshot :: name → count since this process began
func (c *counters) snapshot() map[string]int64 {
	all := make(map[string]int64, allCounters)
	for n, name := range counterNames {
		all[name] = c[n].Load()
	}
	return all
}
