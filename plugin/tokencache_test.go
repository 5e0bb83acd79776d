//go:build go1.21

package plugin

import "testing"

// A token of the old generation is as good as a young one, and goes with it: otherwise a person who
// was shut out would stay in for as long as the token is good.
func TestTokenCacheForgetsBothGenerations(t *testing.T) {
	key := &verifyKey{kid: "k1"}
	denied := &denyList{}
	always := period{from: 0, until: 1 << 40}
	fill := func() *tokenCache {
		c := newTokenCache()
		c.useKeys(map[string]*verifyKey{"k1": key}, always)
		c.useDenied(denied, always)
		remember(c, "old", &identity{expires: 1}, key, denied)
		c.old = c.young
		c.young = map[[32]byte]*identity{}
		remember(c, "young", &identity{expires: 1}, key, denied)
		return c
	}
	for _, c := range []struct {
		name   string
		change func(c *tokenCache)
		known  bool
	}{
		{"nothing", func(_ *tokenCache) {}, true},
		{"a key is added", func(c *tokenCache) {
			c.useKeys(map[string]*verifyKey{"k1": key, "k2": &verifyKey{kid: "k2"}}, always)
		}, true},
		{"the key changes", func(c *tokenCache) { c.useKeys(map[string]*verifyKey{"k1": &verifyKey{kid: "k1"}}, always) }, false},
		{"the key goes", func(c *tokenCache) { c.useKeys(map[string]*verifyKey{}, always) }, false},
		{"the deny document is confirmed", func(c *tokenCache) { c.useDenied(denied, always) }, true},
		{"the deny document changes", func(c *tokenCache) { c.useDenied(&denyList{}, always) }, false},
	} {
		cache := fill()
		c.change(cache)
		for _, token := range []string{"old", "young"} {
			if knows(cache, token) != c.known {
				t.Errorf("%s: the %s token is known: %t", c.name, token, !c.known)
			}
		}
	}
}

// Tokens are good without a look at keys and deny document only while neither needs a fetch, also
// when the clock is set back to before one of the two.
func TestTokenCacheIsSettledWhileNeitherIsDue(t *testing.T) {
	for _, keysFirst := range []bool{true, false} {
		c := newTokenCache()
		if keysFirst {
			c.useKeys(nil, period{from: 10, until: 100})
			c.useDenied(nil, period{from: 20, until: 50})
		} else {
			c.useDenied(nil, period{from: 20, until: 50})
			c.useKeys(nil, period{from: 10, until: 100})
		}
		if c.dueFrom != 20 || c.nextDue != 50 {
			t.Errorf("keys first, %t: settled from %d until %d", keysFirst, c.dueFrom, c.nextDue)
		}
		c.useKeys(nil, period{})
		if c.nextDue != 0 {
			t.Errorf("keys first, %t: settled until %d after a failure", keysFirst, c.nextDue)
		}
	}
}
