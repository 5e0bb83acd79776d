//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"net/http"
	"sync"
)

const maxSidecarStates = 64

// sidecarState is what the plugin has learned from the sidecar for one tenant. Each part has a lock
// of its own. keys and deny call tokens while they hold theirs, and never the other way round.
type sidecarState struct {
	url    string // base URL of the sidecar
	origin string // what keysFrom says
	keys   *keySet
	deny   *denyCache
	tokens *tokenCache
	bearer *bearerKeys

	figures *figures
}

// sidecarStates outlive the middlewares, because Traefik makes new ones at each reload.
var sidecarStates = struct {
	sync.Mutex
	byID map[string]*sidecarState // bounded by maxSidecarStates
}{byID: map[string]*sidecarState{}}

func newSidecarState(origin, url string) *sidecarState {
	tokens := newTokenCache()
	counts := newFigures(url)
	return &sidecarState{url: url, origin: origin, tokens: tokens, bearer: newBearerKeys(), figures: counts,
		keys: &keySet{sidecar: url, tokens: tokens, figures: counts}, deny: &denyCache{sidecar: url, tokens: tokens, figures: counts}}
}

// sidecarStateFor returns the state of a tenant. origin identifies keys and deny document; id also
// identifies what tokens are verified for. When there are too many states, the one that was unused
// for longest goes. States without any good token go first, because strangers choose hosts where
// publicURL is not set.
//
// A new state begins with the keys and the deny document of another state of its origin: a change
// of labels while the sidecar is away must not throw good keys away.
func sidecarStateFor(origin, id, url string, ttl int64, hop *hopSealer) *sidecarState {
	at := now().Unix()
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	s := sidecarStates.byID[id]
	if s == nil {
		s = newSidecarState(origin, url)
		for _, other := range sidecarStates.byID {
			if other.origin == origin {
				s.keys.adopt(other.keys)
				s.deny.adopt(other.deny)
			}
		}
		if len(sidecarStates.byID) >= maxSidecarStates {
			evictSidecarState(at)
		}
		sidecarStates.byID[id] = s
	}
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
	return s
}

// evictSidecarState needs sidecarStates locked.
func evictSidecarState(at int64) {
	victim := ""
	var oldest int64
	for id, s := range sidecarStates.byID {
		s.keys.mu.RLock()
		usedAt := s.keys.usedAt
		s.keys.mu.RUnlock()
		s.tokens.mu.RLock()
		proven := s.tokens.proven
		s.tokens.mu.RUnlock()
		if usedAt > at { // the clock was set back since: the state is not in use
			usedAt = 0
		}
		if !proven {
			usedAt -= maxDate
		}
		if victim == "" || usedAt < oldest {
			victim = id
			oldest = usedAt
		}
	}
	delete(sidecarStates.byID, victim)
}

// recallIdentity returns who sends a request if its credentials were verified before, have not
// expired, and may still be used. It is part of the short way of a request: see ServeHTTP.
func recallIdentity(s *sidecarState, credentials []string) *identity {
	if len(credentials) != 1 {
		return nil
	}
	hash := sha256.Sum256([]byte(credentials[0]))
	c := s.tokens
	at := now().Unix()
	c.mu.RLock()
	id := c.young[hash]
	if id == nil {
		id = c.old[hash]
	}
	settled := at < c.nextDue && at >= c.dueFrom
	c.mu.RUnlock()
	if id == nil || at >= id.expires {
		return nil
	}
	if !settled && !s.alive() {
		return nil
	}
	return id
}

// alive says whether remembered tokens may still be used. It starts the fetches that are due.
func (s *sidecarState) alive() bool {
	keys := s.keys.alive()
	deny := s.deny.alive()
	return keys && deny
}

// reviveIdentity is recallIdentity for credentials that are remembered, at a time when a fetch is
// overdue. It waits for that.
func reviveIdentity(t *tenant, req *http.Request) *identity {
	credentials := req.Header["Authorization"]
	if len(credentials) != 1 || !knows(t.sidecar.tokens, credentials[0]) {
		return nil
	}
	if _, err := findDenyList(req, t); err != nil {
		return nil
	}
	return recallIdentity(t.sidecar, credentials)
}
