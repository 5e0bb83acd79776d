package issuer

import (
	"fmt"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
)

// A cache that is full loses one entry, not all: the providers of all tenants would be asked at
// once, and all headers opened anew.
func TestAFullCacheLosesOneEntry(t *testing.T) {
	var upstreams upstreamCache
	var hops hopCache
	var said forget.Once
	var tenants lastTenants
	var known standings
	has := func(k string) bool {
		n := len(known.m)
		known.of(&tenant{ClientID: k}, "")
		return len(known.m) == n
	}
	key := func(i int) string { return fmt.Sprint("https://idp.example/", i) }
	for _, c := range []struct {
		name string
		most int
		add  func(key string)
		len  func() int
		has  func(key string) bool
	}{
		{"providers", upstreamsAtATime, func(k string) { upstreams.entry(k) }, func() int { return len(upstreams.m) }, func(k string) bool { return upstreams.m[k] != nil }},
		{"hop headers", hopCacheLimit, func(k string) { hops.put(k, openedHop{}) }, func() int { return len(hops.m) }, func(k string) bool { _, ok := hops.m[k]; return ok }},
		{"words", forget.MostSaid, func(k string) { said.First(k) }, func() int { return said.Len() }, func(k string) bool { return !said.First(k) }},
		{"standings", standingsKept, func(k string) { known.of(&tenant{ClientID: k}, "") }, func() int { return len(known.m) }, has},
		{"tenants", 2 * hopCacheLimit, func(k string) { tenants.replace(k, &tenant{}) }, func() int { return len(tenants.m) }, func(k string) bool { return tenants.m[k] != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.most {
				c.add(key(i))
			}
			if c.len() != c.most {
				t.Fatalf("%d entries, want %d", c.len(), c.most)
			}
			for range 3 { // what is there needs no room
				c.add(key(7))
			}
			if c.len() != c.most {
				t.Errorf("%d entries are left of %d by asking for one of them", c.len(), c.most)
			}
			for i := range 10 {
				c.add(key(c.most + i))
				if c.len() != c.most || !c.has(key(c.most+i)) {
					t.Errorf("%d entries after one more, want %d", c.len(), c.most)
				}
			}
		})
	}
}

// A provider keeps its document and its silence while others come and go.
func TestAnEntryOfAProviderStays(t *testing.T) {
	var c upstreamCache
	first := c.entry("https://idp.example")
	for i := range upstreamsAtATime - 1 {
		c.entry(fmt.Sprint("https://other.example/", i))
	}
	for range 100 {
		if c.entry("https://idp.example") != first {
			t.Fatal("a full cache forgets what is asked for")
		}
	}
}
