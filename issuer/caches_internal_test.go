package issuer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A full cache loses one entry, not all.
func TestFullCacheLosesOneEntry(t *testing.T) {
	var said forget.Once
	var tenants lastTenants
	var texts prepared
	var opened openedClients
	name := func(k string) [sha256.Size]byte { return sha256.Sum256([]byte(k)) }
	key := func(i int) string { return fmt.Sprint("https://idp.example/", i) }
	for _, c := range []struct {
		name string
		most int
		add  func(key string)
		len  func() int
		has  func(key string) bool
	}{
		{"words", forget.MostSaid, func(k string) { said.First(k) }, func() int { return said.Len() }, func(k string) bool { return !said.First(k) }},
		{"tenants", tenantsMet, func(k string) { tenants.replace(k, &tenant{}) }, func() int { return len(tenants.m) }, func(k string) bool { return tenants.m[k] != nil }},
		{"prepared texts", preparedKept, func(k string) { texts.get(preparedName{what: k}, func() []byte { return []byte(k) }) }, func() int { return len(texts.m) },
			func(k string) bool { return string(texts.m[preparedName{what: k}]) == k }},
		{"opened clients", clientsKept, func(k string) { opened.put(name(k), client{id: k}) }, func() int { return len(opened.m) },
			func(k string) bool { c, ok := opened.get(name(k)); return ok && c.id == k }},
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

// Hosts that strangers invent are tenants where publicURL is not set. What stays of them when their
// hop headers are gone must not be what a small container dies of.
func TestInventedHostsLeaveLittleBehind(t *testing.T) {
	iss := &Issuer{Config: Config{Log: slog.New(slog.DiscardHandler), Now: time.Now}}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	logo := strings.Repeat("A", 2900)
	for i := range 10_000 { // twice as many as are met, and more
		invented, err := parseTenant(fmt.Appendf(nil, `{"v":1,"publicURL":"https://host-%d.example/wiki","resource":"wiki","providerIssuer":"https://idp.example","clientID":"wiki","logo":"data:image/png;base64,%s"}`, i, logo))
		if err != nil {
			t.Fatal(err)
		}
		iss.announceChange(invented)
		for _, document := range []string{"metadata", "resource", "keys"} {
			invented.prepared.get(preparedName{what: document}, func() []byte { return make([]byte, 1000) })
		}
	}
	if left := int64(heap() - before); left > 24<<20 {
		t.Errorf("10,000 invented hosts have left %d MB behind", left>>20)
	}
	runtime.KeepAlive(iss)
}

// The hop headers of a thousand tenants are all remembered for as long as the plugin sends them,
// and go then. Those of hosts that strangers invent push none out.
func TestHopHeadersOfManyTenantsAreRemembered(t *testing.T) {
	start := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	var hops hopCache
	name := func(second, tenant int) string { return fmt.Sprint(second, " ", tenant) }
	known := func(second int, now time.Time) (n int) {
		for i := range 1000 {
			if _, ok := hops.get(name(second, i), now); ok {
				n++
			}
		}
		return n
	}
	for second := 0; second <= 600; second += 20 {
		now := start.Add(time.Duration(second) * time.Second)
		for i := range 1000 {
			hops.put(name(second, i), openedHop{tenant: &tenant{}, issuedAt: now}, now)
		}
		if n := known(second, now.Add(hopReuse)); n != 1000 {
			t.Fatalf("%d of 1,000 are known after %d seconds", n, second)
		}
		if hops.m.Len() > 4000 {
			t.Fatalf("%d are remembered", hops.m.Len())
		}
	}
	last := start.Add(601 * time.Second)
	for i := range 2 * hopsKept {
		hops.put(fmt.Sprint("invented ", i), openedHop{tenant: &tenant{}, issuedAt: last}, last)
	}
	if n := known(600, last); n != 1000 || hops.m.Len() != hopsKept {
		t.Errorf("%d of 1,000 are known beside invented ones, %d in all", n, hops.m.Len())
	}
}

// A client_id that is open here opens nowhere else, and not any longer once a label is against it.
func TestOpenedClientIsThatOfItsLabels(t *testing.T) {
	ring, err := sealing.ParseRing("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	iss := &Issuer{Config: Config{Ring: ring, Now: func() time.Time { return now }}}
	tenantOf := func(resource, more string) *tenant {
		parsed, err := parseTenant([]byte(`{"v":1,"publicURL":"https://mcp.example/wiki","resource":"` + resource + `","providerIssuer":"https://idp.example","clientID":"wiki"` + more + `}`))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	const private = `,"privateRedirectURIs":["myapp://login"]`
	wiki := tenantOf("wiki", private)
	public := registration{RedirectURIs: []string{"myapp://login"}}
	id, _, err := sealClient(ring, wiki.id, public, now)
	if err != nil {
		t.Fatal(err)
	}
	machine, _, err := sealClient(ring, wiki.id, registration{Subject: "ci", AuthMethod: authBasic, Created: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	open := func(tenant *tenant, id string) error {
		c, err := iss.openClient(context.Background(), tenant, id)
		if err == nil && (c.id != id || c.binding != "" || c.proved) {
			t.Errorf("%+v", c)
		}
		return err
	}
	for range 3 {
		if err := open(wiki, id); err != nil {
			t.Fatal(err)
		}
		if err := open(wiki, machine); err != nil {
			t.Fatal(err)
		}
		// The same labels under another hop header.
		if err := open(tenantOf("wiki", private), id); err != nil {
			t.Fatal(err)
		}
		if len(iss.opened.m) != 1 {
			t.Fatalf("%d are kept", len(iss.opened.m))
		}
		for what, other := range map[string]*tenant{"another resource": tenantOf("files", private), "a generation later": tenantOf("wiki", private+`,"generation":1`)} {
			if err := open(other, id); !errors.Is(err, sealing.ErrNotOpened) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := open(tenantOf("wiki", ""), id); err == nil || errors.Is(err, sealing.ErrNotOpened) {
			t.Errorf("without the label: %v", err)
		}
		if err := open(wiki, id[:len(id)-1]); !errors.Is(err, sealing.ErrNotOpened) {
			t.Errorf("a part of it: %v", err)
		}
	}
}
