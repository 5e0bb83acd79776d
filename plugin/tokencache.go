//go:build go1.21

package plugin

// maxGeneration is half of what a tokenCache holds at most.
const maxGeneration = 2048

// tokenCache maps the SHA-256 of verified credentials (the Authorization header) to their identity:
// a hash, so that no token lies in memory for longer than its request. It has two generations: when
// the young one is full, it becomes the old one, and the old one goes. Only tokens whose signature
// was right get in, so a stranger cannot push them out. The keyset it belongs to locks it.
type tokenCache struct {
	young map[[32]byte]*identity
	old   map[[32]byte]*identity
}

func newTokenCache() *tokenCache {
	return &tokenCache{young: map[[32]byte]*identity{}, old: map[[32]byte]*identity{}}
}

func addToken(c *tokenCache, hash [32]byte, id *identity) {
	if len(c.young) >= maxGeneration {
		c.old = c.young
		c.young = map[[32]byte]*identity{}
	}
	c.young[hash] = id
}
