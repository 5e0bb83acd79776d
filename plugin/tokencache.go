//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"sync/atomic"
)

const (
	// maxYoung is half of what a tokenCache holds at most.
	maxYoung = 32768
	// maxAge is for how many seconds a generation is young. Few tokens live longer.
	maxAge = 3600
)

// tokenCache maps the SHA-256 of verified credentials (the Authorization header) to their identity.
// The key is a hash so that no token stays in memory longer than its request. knownLock guards all
// tokenCaches.
//
// Each token in it was verified by one of keys and judged by denied. When keys or denied change,
// the tokens go, so that each is judged anew. keySet and denyCache call in here with their own lock
// held; the cache never calls them.
//
// The cache has two generations. When the young one is full or an hour old, it becomes the old one,
// and the old one goes. Only tokens whose signature was right get in, so a stranger cannot push
// them out.
type tokenCache struct {
	young map[[32]byte]*identity
	old   map[[32]byte]*identity
	since int64 // Unix seconds in which young was empty
	// Unix seconds. Until nextDue no fetch is due, and the tokens are good without a look at keys
	// and deny document; unless the clock is set back to before dueFrom. See settle.
	nextDue int64
	dueFrom int64

	keys    map[string]*verifyKey // those of keySet; replaced, and never changed
	denied  *denyList             // that of denyCache
	keysDue period                // keySet needs no fetch
	denyDue period                // denyCache needs no fetch
	life    *lifetime             // of the tokens that are remembered now: see knownRequests

	held *int64 // bytes of the provider's tokens in young; changed atomically: see carryToken
}

func newTokenCache() *tokenCache {
	return &tokenCache{held: new(int64), life: &lifetime{}, young: map[[32]byte]*identity{}}
}

// addToken needs knownLock.
func addToken(c *tokenCache, hash [32]byte, id *identity) {
	turnOld(c)
	c.young[hash] = id
}

// turnOld makes the young generation the old one when it is full or an hour old. knownLock is held.
func turnOld(c *tokenCache) {
	at := now().Unix()
	if len(c.young) >= maxYoung || !during(period{from: c.since, until: c.since + maxAge}, at) {
		c.old = c.young
		c.young = map[[32]byte]*identity{}
		c.since = at
		atomic.StoreInt64(c.held, 0)
	}
}

// knows says whether credentials are remembered. They may be out of date.
func knows(c *tokenCache, credentials string) bool {
	hash := sha256.Sum256([]byte(credentials))
	knownLock.RLock()
	known := c.young[hash] != nil || c.old[hash] != nil
	knownLock.RUnlock()
	return known
}

// judges returns the key with a kid and the deny document while no fetch of either is due, and
// otherwise nothing. It is findKey and findDenyList in one.
func judges(c *tokenCache, kid string, at int64) (*verifyKey, *denyList) {
	knownLock.RLock()
	defer knownLock.RUnlock()
	if at >= c.nextDue || at < c.dueFrom {
		return nil, nil
	}
	return c.keys[kid], c.denied
}

// remember keeps the outcome of a verification, unless the key or the deny document changed
// meanwhile. It returns the identity that is remembered: requests that bring a new token at the
// same time all go on with one identity.
func remember(c *tokenCache, credentials string, id *identity, key *verifyKey, denied *denyList) *identity {
	hash := sha256.Sum256([]byte(credentials))
	knownLock.Lock()
	defer knownLock.Unlock()
	if c.keys[key.kid] != key || c.denied != denied {
		return id
	}
	other := c.young[hash]
	if other != nil && other.expires == id.expires {
		return other
	}
	id.life = c.life
	addToken(c, hash, id)
	return id
}

// useKeys takes the keys by which tokens are verified from now on. due is the time in which they
// need no fetch; it is empty after a failure. Tokens stay only if each key that could have verified
// them is still there, unchanged.
func (c *tokenCache) useKeys(keys map[string]*verifyKey, due period) {
	knownLock.Lock()
	defer knownLock.Unlock()
	for kid, key := range c.keys {
		if keys[kid] != key {
			c.forget()
			break
		}
	}
	c.keys = keys
	c.keysDue = due
	c.settle()
}

// useDenied takes the deny document by which tokens are judged from now on. due is as in useKeys.
func (c *tokenCache) useDenied(list *denyList, due period) {
	knownLock.Lock()
	defer knownLock.Unlock()
	if c.denied != list {
		c.forget()
	}
	c.denied = list
	c.denyDue = due
	c.settle()
}

// forget needs knownLock.
func (c *tokenCache) forget() {
	c.young = map[[32]byte]*identity{}
	c.old = nil
	atomic.StoreInt64(c.held, 0)
	settleLife(c.life, 0, 0)
	c.life = &lifetime{}
}

// settle finds the time in which neither keys nor deny document need a fetch; knownLock is held.
func (c *tokenCache) settle() {
	c.nextDue = c.keysDue.until
	if c.denyDue.until < c.nextDue {
		c.nextDue = c.denyDue.until
	}
	c.dueFrom = c.keysDue.from
	if c.denyDue.from > c.dueFrom {
		c.dueFrom = c.denyDue.from
	}
	settleLife(c.life, c.dueFrom, c.nextDue)
	turnOld(c) // firstSight does not look at the age
}
