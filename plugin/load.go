//go:build go1.21

package plugin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// When a middleware is loaded, the log says whether hop key and sidecar answer. Otherwise the first
// person who signs in would find out. New does not wait for it.

// checksAtLoad is false in tests that count requests to the sidecar.
var checksAtLoad = true

// loads tells one load of Traefik's configuration from the next: Traefik calls New once for each
// router, for all of them in one go, and again at each reload.
var loads = struct {
	sync.Mutex
	number int64 // of the load that is the newest
	last   int64 // Unix seconds of the last call of New
	// configurations → the load that last had them; those of the last two
	seen  map[[32]byte]int64
	sweep bool // a timer for sweepStates runs
}{seen: map[[32]byte]int64{}}

const (
	loadPause = 10              // seconds without a call of New, after which another load begins
	sweepWait = keysUsable + 60 // seconds from a load until what it left behind goes
)

// sweepLater is the timer of sweepStates. Tests set it.
var sweepLater = func(sweep func()) { time.AfterFunc(sweepWait*time.Second, sweep) }

func currentLoad() int64 {
	loads.Lock()
	defer loads.Unlock()
	return loads.number
}

// noteLoad notes that a middleware was made, and says whether its configuration is new.
func noteLoad(name string, s *settings) bool {
	load, isNew := countLoad(sha256.Sum256([]byte(strconv.Quote(name) + s.origin + s.told)))
	if s.publicURL != "" {
		id := stateID(s, s.origin)
		sidecarStates.Lock()
		state := namedState(s.origin, id)
		if state != nil {
			state.load = load
		}
		sidecarStates.Unlock()
	}
	return isNew
}

// countLoad returns the number of the load, and whether a configuration is new in it.
func countLoad(id [32]byte) (int64, bool) {
	at := now().Unix()
	loads.Lock()
	defer loads.Unlock()
	if !during(period{from: loads.last, until: loads.last + loadPause}, at) {
		beginLoad()
	}
	loads.last = at
	_, known := loads.seen[id]
	loads.seen[id] = loads.number
	return loads.number, !known
}

// beginLoad needs loads locked.
func beginLoad() {
	for other, load := range loads.seen {
		if load < loads.number {
			delete(loads.seen, other)
		}
	}
	loads.number++
	armSweep()
}

// armSweep needs loads locked.
func armSweep() {
	if !loads.sweep {
		loads.sweep = true
		sweepLater(sweepStates)
	}
}

// sweepStates drops the states that nobody has asked for since the newest load, once their keys are
// of no use: their middlewares are gone, and did not come back within an hour. It runs in a
// goroutine of the timer, in which a panic would end the Traefik process.
func sweepStates() {
	defer func() {
		if r := recover(); r != nil {
			complain("", "internal", fmt.Sprintf("internal error: %v", r))
		}
	}()
	loads.Lock()
	load := loads.number
	loads.sweep = false
	loads.Unlock()
	if sweepOlder(load, now().Unix()) {
		loads.Lock()
		armSweep()
		loads.Unlock()
	}
}

// sweepOlder says whether some states are left that a later sweep may drop.
func sweepOlder(load, at int64) bool {
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	left := false
	for origin, states := range sidecarStates.named {
		kept := []*sidecarState{}
		for _, s := range states {
			if s.load >= load || s.keys.usableAt(at) {
				left = left || s.load < load
				kept = append(kept, s)
			}
		}
		if len(kept) == 0 {
			delete(sidecarStates.named, origin)
		} else {
			sidecarStates.named[origin] = kept
		}
	}
	return left
}

// checksAtATime bounds what a load asks the sidecar at once: each question holds a connection, and
// in Yaegi some 40 KB.
const checksAtATime = 4

// checks are those of the middlewares that were loaded and not checked yet.
var checks = struct {
	sync.Mutex
	waiting []func()
	running int
}{}

// startCheck has a middleware checked, after those that came before.
func startCheck(check func()) {
	checks.Lock()
	defer checks.Unlock()
	checks.waiting = append(checks.waiting, check)
	if checks.running < checksAtATime {
		checks.running++
		go runChecks()
	}
}

// runChecks checks one middleware after the other, until none waits.
func runChecks() {
	for {
		check := nextCheck()
		if check == nil {
			return
		}
		check()
	}
}

func nextCheck() func() {
	checks.Lock()
	defer checks.Unlock()
	if len(checks.waiting) == 0 {
		checks.waiting = nil
		checks.running--
		return nil
	}
	check := checks.waiting[0]
	checks.waiting[0] = nil
	checks.waiting = checks.waiting[1:]
	return check
}

// check runs in a goroutine of its own, in which a panic would end the Traefik process.
func (b *bouncer) check() {
	defer func() {
		if r := recover(); r != nil {
			complain(b.name, "internal", fmt.Sprintf("internal error: %v", r))
		}
	}()
	if b.settings.publicURL != "" {
		t := b.tenantAt(b.settings.publicURL)
		inflight := t.sidecar.keys.greet(t.hop)
		if inflight != nil {
			inflight.wait(context.Background())
		}
		return
	}
	// Without publicURL only a request tells the tenant, so the sidecar cannot be asked in its
	// name.
	_, err := readHopKey(b.settings.hopKeyFile)
	if err != nil {
		complain(b.name, "hop key", err.Error())
		return
	}
	err = askHealth(b.settings)
	if err != nil {
		complain(b.name, "sidecar", "the sidecar "+b.settings.sidecar.String()+" does not answer (label sidecarURL): "+reason(err))
		return
	}
	log.Printf("mcpbouncer: middleware %q: the sidecar %s answers; the first request will show whether it accepts the hop key", b.name, b.settings.sidecar.String())
}

// askHealth asks for what the sidecar tells without a hop header.
func askHealth(s *settings) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.sidecar.String()+"/healthz", nil)
	if err != nil {
		return err
	}
	hop := &hopSealer{signer: s.signer}
	resp, err := hop.transport().RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Without a hop header there is nothing that only the sidecar could know, so the mark is a
	// plain one.
	if resp.StatusCode != http.StatusOK || resp.Header.Get(markHeader) != "1" {
		return fmt.Errorf("%w: what answers there is not the sidecar (%d %s)", errNotSidecar, resp.StatusCode, mediaTypeOf(resp))
	}
	return nil
}
