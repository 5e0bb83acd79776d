package provider

import (
	"fmt"
	"testing"
)

// A full cache loses one entry. If it lost all, the providers of all tenants would be asked at
// once.
func TestProviderCacheThatIsFullLosesOneEntry(t *testing.T) {
	var documents documentCache
	var known standings
	has := func(k string) bool {
		n := len(known.m)
		known.of(&Client{ID: k}, "")
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
		{"providers", documentsKept, func(k string) { documents.entry(k) }, func() int { return len(documents.m) }, func(k string) bool { return documents.m[k] != nil }},
		{"standings", standingsKept, func(k string) { known.of(&Client{ID: k}, "") }, func() int { return len(known.m) }, has},
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

// The cache keeps a provider's document and silence while other providers come and go.
func TestProviderCacheEntryStays(t *testing.T) {
	var c documentCache
	first := c.entry("https://idp.example")
	for i := range documentsKept - 1 {
		c.entry(fmt.Sprint("https://other.example/", i))
	}
	for range 100 {
		if c.entry("https://idp.example") != first {
			t.Fatal("a full cache forgets what is asked for")
		}
	}
}
