//go:build go1.21

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
)

// The plugin counts what the sidecar cannot see: refusals, failures to ask the sidecar, and logins
// whose access token comes for the first time. It tells the sidecar by POST /hop/figures
// (docs/hop.md), which has the metrics of both. Nothing is counted on the short way of a request:
// see shortWay.
//
// A timer that fires once is armed by what is counted. Nothing else runs between requests: Traefik
// never tells a middleware that a reload has replaced it, so whatever ran on would run for ever.

const (
	reportDelay   = 5 * time.Second // from the first thing counted to the report
	figuresPause  = 600             // seconds without a report to a sidecar that has no such path
	maxPresented  = 100             // logins that wait for a report
	maxTold       = 2 * maxYoung    // logins that are remembered as reported
	maxReport     = 16 << 10        // bytes; the sidecar takes no more
	maxReported   = 12 << 10        // bytes of maxReport that logins may take
	maxLoginID    = 64              // characters
	maxClientID   = 2048            // characters; a longer one is left out
	maxCauses     = 64              // of each kind
	maxCount      = 1 << 40         // more is not counted: a sum must not overflow
	maxFiguresAns = 1 << 10         // bytes of the answer, which are not looked at
)

// afterFunc is the timer of a report. Tests set it.
var afterFunc = func(wait time.Duration, send func()) { time.AfterFunc(wait, send) }

// figures are what was counted for one tenant and not reported yet.
type figures struct {
	url string // base URL of the sidecar

	mu      sync.Mutex // never held during a report
	hop     *hopSealer // of the middleware that was made last
	counted []int64    // refusals by the places of countedAt; each is changed atomically
	// the others, and those that no report has told; nil while empty, as each map here may be
	refusals  map[string]int64
	failures  map[string]int64
	presented []presentation  // bounded by maxPresented
	more      int64           // logins that found no place there
	known     map[string]bool // logins in presented, or reported; bounded by maxTold
	armed     bool            // a timer runs, or a report is on its way
	pause     period          // no report
}

// presentation is the first sight of a login's access token.
type presentation struct {
	Login    string `json:"sid"`
	ClientID string `json:"client_id"`
}

// report is the body of POST /hop/figures.
type report struct {
	Version   int              `json:"v"`
	Refusals  map[string]int64 `json:"refusals,omitempty"`
	Failures  map[string]int64 `json:"failures,omitempty"`
	Presented []presentation   `json:"presented,omitempty"`
	More      int64            `json:"presented_more,omitempty"`
}

func newFigures(url string) *figures {
	return &figures{url: url, counted: make([]int64, len(countedAt))}
}

// causes names the errors for which a request is refused, by their texts. It is filled in init, as
// forgeable is.
var causes = map[string]string{}

// countedAt gives a place to each error that is counted without a lock, by its text: all but those
// of proofs, which most tenants do not take.
var countedAt = map[string]int{}

func init() {
	for cause, err := range map[string]error{
		"no_token": errNoToken, "repeated": errRepeated, "malformed": errMalformed, "type": errType,
		"header": errHeader, "algorithm": errAlgorithm, "issuer": errIssuer, "audience": errAudience,
		"expired": errExpired, "not_yet_valid": errNotYetValid, "subject": errSubject,
		"client": errClient, "unknown_key": errKeyUnknown, "signature": errSignature,
		"scope_required": errScope, "bearer_key": errKey, "ended": errDenied,
		"sidecar_away": errKeysUnavailable, "sign_in": errSignIn,
		"upstream_missing": errUpstreamMissing, "upstream_key": errUpstreamKey, "upstream_unreadable": errUpstreamSealed,
		"bound": errBound, "proofs_off": errProofsAreOff, "unbound": errUnbound, "only_bound": errOnlyBound, "only_proof": errOnlyProof,
		"nonce_none": dpop.ErrNoNonce, "nonce_foreign": dpop.ErrNonce, "nonce_old": dpop.ErrNonceOld, "nonce_future": dpop.ErrNonceFuture,
		"proof_none": dpop.ErrNone, "proof_repeated": dpop.ErrRepeated, "proof_size": dpop.ErrTooLong, "proof_malformed": dpop.ErrMalformed,
		"proof_type": dpop.ErrType, "proof_header": dpop.ErrHeader, "proof_algorithm": dpop.ErrAlgorithm, "proof_key": dpop.ErrKey,
		"proof_private_key": dpop.ErrPrivateKey, "proof_id": dpop.ErrID, "proof_method": dpop.ErrMethod, "proof_url": dpop.ErrURL,
		"proof_issued": dpop.ErrIssued, "proof_token": dpop.ErrToken, "proof_signature": dpop.ErrSignature,
		"proof_other_key": errOtherKey, "proof_replayed": errReplayed,
		"other_host": errMisdirected, "plain_http": errPlainHTTP, "host": errHostSyntax, "loop": errLeadsBack,
	} {
		causes[err.Error()] = cause
		if !strings.HasPrefix(cause, "proof_") {
			countedAt[err.Error()] = len(countedAt)
		}
	}
}

// counterOf returns where refusals for an error are counted, by its text; nil: nowhere of its own.
func counterOf(f *figures, text string) *int64 {
	at, counted := countedAt[text]
	if !counted {
		return nil
	}
	return &f.counted[at]
}

// countRefusal counts a request that is not let through. Strangers cause it as often as they like,
// so only the first of a kind in each report takes the lock.
func countRefusal(f *figures, err error) {
	n := counterOf(f, err.Error())
	if n == nil {
		countCause(f, either(causes[err.Error()], "other"))
		return
	}
	if atomic.AddInt64(n, 1) == 1 {
		armFor(f)
	}
}

func armFor(f *figures) {
	f.mu.Lock()
	defer f.mu.Unlock()
	arm(f)
	if !f.armed { // a pause: the next one has to be the first again
		gather(f)
	}
}

// gather moves what countRefusal has counted to the other refusals; f.mu is held.
func gather(f *figures) {
	for text, at := range countedAt {
		if more := atomic.SwapInt64(&f.counted[at], 0); more > 0 {
			f.refusals = add(f.refusals, causes[text], more)
		}
	}
}

// countCause is countRefusal for what has no error. Causes are constants of this package and never
// a stranger's text.
func countCause(f *figures, cause string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals = add(f.refusals, cause, 1)
	arm(f)
}

// countAstray counts a request that was refused before its tenant was known. Only a public URL of
// the label is counted for: any other was chosen by a stranger.
func (b *bouncer) countAstray(cause string) {
	if b.settings.publicURL == "" || b.settings.leadsBack(b.settings.publicURL) {
		return
	}
	countCause(b.tenantAt(b.settings.publicURL).sidecar.figures, cause)
}

// countFailure counts that the sidecar was asked in vain. A report that fails is not counted: each
// would arm the next one.
func countFailure(f *figures, cause string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = add(f.failures, cause, 1)
	arm(f)
}

// failureOf names what a request to the sidecar ended in.
func failureOf(err error) string {
	switch {
	case errors.Is(err, errHopRefused):
		return "hop_refused"
	case errors.Is(err, errSidecarFails):
		return "sidecar_fails"
	case errors.Is(err, errNotSidecar):
		return "not_sidecar"
	case errors.Is(err, errSignatureRefused) || errors.Is(err, errNoAWSCredentials):
		return "signature"
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return "unreachable"
}

// present notes that an access token of a login was verified for the first time. More tokens of the
// same login come with each refresh, and all come again when keys or deny document change.
func present(f *figures, c *claims) {
	f.mu.Lock()
	known := f.known[c.Login]
	f.mu.Unlock()
	if !known {
		presentFirst(f, c)
	}
}

// presentFirst is present for a login that is not known to be counted.
func presentFirst(f *figures, c *claims) {
	if c.Login == "" || len(c.Login) > maxLoginID {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known[c.Login] {
		return
	}
	if len(f.presented) >= maxPresented {
		f.more = capped(f.more + 1)
		arm(f)
		return
	}
	// Any one entry goes: without all of them, each login would count again.
	for other := range f.known {
		if len(f.known) < maxTold {
			break
		}
		delete(f.known, other)
	}
	if f.known == nil {
		f.known = map[string]bool{}
	}
	f.known[c.Login] = true
	p := presentation{Login: c.Login, ClientID: c.ClientID}
	if len(p.ClientID) > maxClientID {
		p.ClientID = ""
	}
	f.presented = append(f.presented, p)
	arm(f)
}

func capped(n int64) int64 {
	if n > maxCount {
		return maxCount
	}
	return n
}

// add returns the map, which it makes when it is nil.
func add(counts map[string]int64, cause string, n int64) map[string]int64 {
	if counts == nil {
		counts = map[string]int64{}
	}
	if _, there := counts[cause]; !there && len(counts) >= maxCauses {
		cause = "other"
	}
	counts[cause] = capped(counts[cause] + n)
	return counts
}

// arm sees to it that a report is made; f.mu is held.
func arm(f *figures) {
	if f.armed || during(f.pause, now().Unix()) {
		return
	}
	f.armed = true
	afterFunc(reportDelay, func() { sendFigures(f) })
}

// sendFigures makes one report. It runs in a goroutine of the timer, in which a panic would end the
// Traefik process.
func sendFigures(f *figures) {
	hop, r := takeReport(f)
	err := errInternal
	status := 0
	defer func() {
		if p := recover(); p != nil {
			complain(hop.name, "internal", fmt.Sprintf("internal error: %v", p))
		}
		landReport(f, r, status, err)
	}()
	body, problem := json.Marshal(r)
	if problem != nil || len(body) > maxReport {
		err = fmt.Errorf("%w: the report has %d bytes: %v", errInternal, len(body), problem)
		return
	}
	got, problem := askSidecar(hop, &question{method: http.MethodPost, url: f.url + "/hop/figures", report: string(body), limit: maxFiguresAns})
	err = problem
	if got != nil {
		status = got.status
	}
}

// takeReport takes what fits into one report. The rest of the logins waits for the next.
func takeReport(f *figures) (*hopSealer, *report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gather(f)
	r := &report{Version: 1, Refusals: f.refusals, Failures: f.failures, More: f.more}
	room := maxReported
	n := 0
	for n < len(f.presented) {
		text, _ := json.Marshal(f.presented[n])
		room -= len(text) + 1
		if room < 0 {
			break
		}
		n++
	}
	r.Presented = f.presented[:n]
	f.presented = append([]presentation{}, f.presented[n:]...)
	f.refusals = nil
	f.failures = nil
	f.more = 0
	return f.hop, r
}

// landReport takes the outcome of a report. One that did not arrive is added back, and waits for
// whatever is counted next: a timer here would go on as long as the sidecar is away, which fetches
// of keys tell in the log.
func landReport(f *figures, r *report, status int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	gather(f)
	if err == nil && status >= 200 && status < 300 {
		if len(f.presented) > 0 || len(f.refusals) > 0 || len(f.failures) > 0 || f.more > 0 {
			arm(f) // what was counted meanwhile, or did not fit
		}
		return
	}
	if err == nil && status == http.StatusNotFound { // a sidecar of a version before this plugin's
		at := now().Unix()
		f.pause = period{from: at, until: at + figuresPause}
	}
	if err == nil && (status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge) {
		complain(f.hop.name, "figures", fmt.Sprintf("the sidecar does not take the plugin's figures (status %d): its log says why", status))
		return // it would not take them the next time
	}
	for cause, n := range r.Refusals {
		f.refusals = add(f.refusals, cause, n)
	}
	for cause, n := range r.Failures {
		f.failures = add(f.failures, cause, n)
	}
	f.more = capped(f.more + r.More)
	both := append(append([]presentation{}, r.Presented...), f.presented...)
	if len(both) > maxPresented {
		for _, p := range both[maxPresented:] {
			delete(f.known, p.Login) // it is reported when it comes again
		}
		both = both[:maxPresented]
	}
	f.presented = both
}
