package issuer

import (
	"fmt"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
)

// A full cache loses one entry. If it lost all, every hop header would be opened anew.
func TestFullCacheLosesOneEntry(t *testing.T) {
	var hops hopCache
	var said forget.Once
	var tenants lastTenants
	var texts prepared
	key := func(i int) string { return fmt.Sprint("https://idp.example/", i) }
	for _, c := range []struct {
		name string
		most int
		add  func(key string)
		len  func() int
		has  func(key string) bool
	}{
		{"hop headers", hopsKept, func(k string) { hops.put(k, openedHop{}) }, func() int { return len(hops.m) }, func(k string) bool { _, ok := hops.m[k]; return ok }},
		{"words", forget.MostSaid, func(k string) { said.First(k) }, func() int { return said.Len() }, func(k string) bool { return !said.First(k) }},
		{"tenants", tenantsMet, func(k string) { tenants.replace(k, &tenant{}) }, func() int { return len(tenants.m) }, func(k string) bool { return tenants.m[k] != nil }},
		{"prepared texts", preparedKept, func(k string) { texts.get(preparedName{what: k}, func() []byte { return []byte(k) }) }, func() int { return len(texts.m) },
			func(k string) bool { return string(texts.m[preparedName{what: k}]) == k }},
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
