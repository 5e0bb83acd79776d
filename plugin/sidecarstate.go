//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"net/http"
	"sync"
)

// maxStrangers bounds the states of hosts that nobody but a request has named.
const maxStrangers = 64

// sidecarState is what the plugin has learned from the sidecar for one tenant. Each part has a lock
// of its own. keys and deny call tokens while they hold theirs, and never the other way round.
type sidecarState struct {
	url    string // base URL of the sidecar
	origin string // what keysFrom says
	id     string // of sidecarStateFor
	keys   *keySet
	deny   *denyCache
	tokens *tokenCache
	bearer *bearerKeys
	proofs *proofMemory // nil: no proofs are taken

	figures *figures

	load int64 // the load in which it was last asked for; guarded by sidecarStates
}

// sidecarStates outlive the middlewares, because Traefik makes new ones at each reload.
var sidecarStates = struct {
	sync.Mutex
	// by origin: the states of tenants that the operator has named (publicURL), and of hosts for
	// which a token was good. There are as many as the operator has; see sweepStates.
	named map[string][]*sidecarState
	// by id: those of other hosts, which strangers invent; bounded by maxStrangers
	strangers map[string]*sidecarState
}{named: map[string][]*sidecarState{}, strangers: map[string]*sidecarState{}}

func newSidecarState(origin, id, url string) *sidecarState {
	tokens := newTokenCache()
	counts := newFigures(url)
	return &sidecarState{url: url, origin: origin, id: id, tokens: tokens, bearer: newBearerKeys(), figures: counts,
		keys: &keySet{sidecar: url, tokens: tokens, figures: counts}, deny: &denyCache{sidecar: url, tokens: tokens, figures: counts}}
}

// sidecarStateFor returns the state of a tenant, and whether it is one of those that stay. origin
// identifies keys and deny document; id also identifies what tokens are verified for. named says
// that the operator has named the tenant's URL.
//
// A new state begins with the keys and the deny document of another state of its origin: a change
// of labels while the sidecar is away must not throw good keys away.
func sidecarStateFor(origin, id, url string, ttl int64, hop *hopSealer, named bool) (*sidecarState, bool) {
	load := currentLoad()
	at := now().Unix()
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	s := namedState(origin, id)
	if s != nil {
		named = true
	} else {
		s = sidecarStates.strangers[id]
		if s == nil {
			s = newSidecarState(origin, id, url)
			for _, other := range sidecarStates.named[origin] {
				s.keys.adopt(other.keys)
				s.deny.adopt(other.deny)
			}
		}
		if named {
			nameState(s)
		} else if sidecarStates.strangers[id] == nil {
			dropStranger(at)
			sidecarStates.strangers[id] = s
		}
	}
	s.load = load
	s.figures.mu.Lock()
	s.figures.hop = hop
	s.figures.mu.Unlock()
	s.keys.mu.Lock()
	s.keys.hop = hop
	s.keys.ttl = ttl
	s.keys.usedAt = at
	s.keys.mu.Unlock()
	s.deny.mu.Lock()
	s.deny.hop = hop
	s.deny.mu.Unlock()
	return s, named
}

// namedState needs sidecarStates locked.
func namedState(origin, id string) *sidecarState {
	for _, s := range sidecarStates.named[origin] {
		if s.id == id {
			return s
		}
	}
	return nil
}

// nameState needs sidecarStates locked. It has the state stay, unless another has its id.
func nameState(s *sidecarState) {
	delete(sidecarStates.strangers, s.id)
	if namedState(s.origin, s.id) == nil {
		sidecarStates.named[s.origin] = append(sidecarStates.named[s.origin], s)
	}
}

// proveState has the state of a host stay for which a token was good: nobody has one for a host
// that somebody has invented.
func proveState(s *sidecarState) {
	load := currentLoad()
	sidecarStates.Lock()
	s.load = load
	nameState(s)
	sidecarStates.Unlock()
}

// dropStranger makes room for another invented host: the one that was unused for longest goes. It
// needs sidecarStates locked.
func dropStranger(at int64) {
	if len(sidecarStates.strangers) < maxStrangers {
		return
	}
	victim := ""
	var oldest int64
	for id, s := range sidecarStates.strangers {
		s.keys.mu.RLock()
		usedAt := s.keys.usedAt
		s.keys.mu.RUnlock()
		if usedAt > at { // the clock was set back since: the state is not in use
			usedAt = 0
		}
		if victim == "" || usedAt < oldest {
			victim = id
			oldest = usedAt
		}
	}
	delete(sidecarStates.strangers, victim)
}

// recallIdentity returns who sends a request if its credentials were verified before, have not
// expired, and may still be used.
func recallIdentity(s *sidecarState, credentials []string) *identity {
	id, _ := recall(s, credentials)
	return id
}

// recall is recallIdentity. It also says whether the credentials are remembered at all.
func recall(s *sidecarState, credentials []string) (*identity, bool) {
	if len(credentials) != 1 {
		return nil, false
	}
	hash := sha256.Sum256([]byte(credentials[0]))
	c := s.tokens
	at := now().Unix()
	knownLock.RLock()
	id := c.young[hash]
	if id == nil {
		id = c.old[hash]
	}
	settled := at < c.nextDue && at >= c.dueFrom
	knownLock.RUnlock()
	if id == nil {
		return nil, false
	}
	if at >= id.expires {
		return nil, true
	}
	if !settled && !s.alive() {
		return nil, true
	}
	return id, true
}

// alive says whether remembered tokens may still be used. It starts the fetches that are due.
func (s *sidecarState) alive() bool {
	keys := s.keys.alive()
	deny := s.deny.alive()
	return keys && deny
}

// reviveIdentity is recallIdentity for credentials that are remembered, at a time when a fetch is
// overdue. It waits for that.
func reviveIdentity(t *tenant, req *http.Request, credentials []string) *identity {
	if len(credentials) != 1 || !knows(t.sidecar.tokens, credentials[0]) {
		return nil
	}
	if _, err := findDenyList(req, t); err != nil {
		return nil
	}
	return recallIdentity(t.sidecar, credentials)
}
