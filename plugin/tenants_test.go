//go:build go1.21

package plugin

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
)

// tenantConfig returns the labels of one of many MCP servers, with its URL and a token for it.
func tenantConfig(sidecar string, n int) (*Config, string, []string) {
	url := fmt.Sprintf("https://h%d.example/wiki", n)
	config := wikiConfig(sidecar)
	config.PublicURL = url
	return config, url, bearer(goodToken("k1", map[string]any{"iss": url, "aud": []string{"wiki", url}}))
}

// However many MCP servers an installation has, each keeps its keys while the sidecar is away, also
// when Traefik loads its configuration meanwhile.
func TestTenantsKeepTheirKeysHoweverMany(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	const many = 150
	statusOf := func(n int) int {
		config, url, token := tenantConfig(sidecar.server.URL, n)
		h, _ := guard(t, config)
		return ask(h, "POST", url+"/mcp", token...).Code
	}
	for i := 0; i < many; i++ {
		if status := statusOf(i); status != 200 {
			t.Fatalf("tenant %d: status %d", i, status)
		}
	}
	sidecar.server.Close()
	sidecarTransport.CloseIdleConnections()
	clock.Add(keysUsable - 60)
	for i := 0; i < many; i++ {
		if status := statusOf(i); status != 200 {
			t.Fatalf("tenant %d, after a reload while the sidecar is away: status %d", i, status)
		}
	}
}

// Strangers choose host, spelling and path of a request, where publicURL is not set. Whatever they
// invent, the memory for it has an end, and what people with good tokens use stays.
func TestInventedHostsAndPathsPushNothingOut(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	s, err := parseConfig(wikiConfig(sidecar.server.URL))
	if err != nil {
		t.Fatal(err)
	}
	var next http.Handler = &backend{}
	b := newBouncer("wiki@docker", next, s)
	token := bearer(goodToken("k1", nil))
	known := func(b *bouncer) int {
		var h http.Handler = shortWay(b)
		return ask(h, "POST", wikiURL+"/mcp", append([]string{"X-Forwarded-Host", "mcp.localhost"}, token...)...).Code
	}
	if status := known(b); status != 200 {
		t.Fatalf("status %d", status)
	}
	clock.Add(10)
	var h http.Handler = shortWay(b)
	for i := 0; i < 3*maxStrangers; i++ {
		host := fmt.Sprintf("h%d.example", i)
		invented := bearer(goodToken("k9", map[string]any{"iss": "https://" + host + "/wiki"}))
		ask(h, "POST", "https://"+host+"/wiki/mcp", append([]string{"X-Forwarded-Host", host}, invented...)...)
		path := fmt.Sprintf("https://mcp.localhost/wiki/%d", i)
		ask(h, "GET", path, "X-Forwarded-Host", "mcp.localhost")
		ask(h, "GET", path, "X-Forwarded-Host", strings.Repeat("M", 1+i%3)+"cp.localhost")
		spelt := []byte("mcp.localhost")
		for bit := 0; bit < 8; bit++ {
			if i>>uint(bit)&1 == 1 {
				spelt[4+bit] = spelt[4+bit] - 'a' + 'A'
			}
		}
		ask(h, "GET", "https://mcp.localhost/wiki/mcp", "X-Forwarded-Host", string(spelt))
	}
	if len(b.strangers) != maxTenants || len(b.byPublicURL) != 1 || len(b.tenants) != 1 || len(b.endpoints) != 1+maxPassing {
		t.Errorf("%d strangers, %d tenants, %d spellings, %d addresses", len(b.strangers), len(b.byPublicURL), len(b.tenants), len(b.endpoints))
	}
	if len(sidecarStates.strangers) != maxStrangers || len(sidecarStates.named) != 1 {
		t.Errorf("%d and %d key sets", len(sidecarStates.strangers), len(sidecarStates.named))
	}
	sidecar.server.Close()
	sidecarTransport.CloseIdleConnections()
	if status := known(newBouncer("wiki@docker", next, s)); status != 200 {
		t.Errorf("after a reload while the sidecar is away: status %d", status)
	}
}

// People with good tokens may use as many addresses as they like: one goes for each that is new.
func TestAddressesOfPeopleAreBounded(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	s, err := parseConfig(wikiConfig(sidecar.server.URL))
	if err != nil {
		t.Fatal(err)
	}
	var next http.Handler = &backend{}
	b := newBouncer("wiki@docker", next, s)
	var h http.Handler = shortWay(b)
	token := append([]string{"X-Forwarded-Host", "mcp.localhost"}, bearer(goodToken("k1", nil))...)
	for i := 0; i < maxEndpoints+3; i++ {
		if rec := ask(h, "POST", fmt.Sprintf("%s/%d", wikiURL, i), token...); rec.Code != 200 {
			t.Fatalf("status %d", rec.Code)
		}
	}
	if len(b.endpoints) < maxEndpoints-1 || len(b.endpoints) > maxEndpoints {
		t.Errorf("%d addresses are remembered", len(b.endpoints))
	}
}

// What a tenant held goes an hour after a load of Traefik's configuration that has it no more:
// until then it may come back, as that of a container does which is made anew. A tenant that is
// still there keeps its state, however long nobody asks for it.
func TestTenantThatIsGoneIsForgotten(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	timers := []func(){}
	sweepLater = func(sweep func()) { timers = append(timers, sweep) }
	defer func() { sweepLater = func(sweep func()) {} }()
	load := func(from, until int) {
		for i := from; i < until; i++ {
			config, url, token := tenantConfig(sidecar.server.URL, i)
			h, _ := guard(t, config)
			if rec := ask(h, "POST", url+"/mcp", token...); rec.Code != 200 {
				t.Fatalf("status %d", rec.Code)
			}
		}
	}
	fire := func() {
		due := timers
		timers = []func(){}
		for _, sweep := range due {
			sweep()
		}
	}
	check := func(when string, states, armed int) {
		sidecarStates.Lock()
		n := len(allStates())
		sidecarStates.Unlock()
		if n != states || len(timers) != armed {
			t.Errorf("%s: %d states, %d timers", when, n, len(timers))
		}
	}
	load(0, 20)
	fire()
	check("after the first load", 20, 0)
	clock.Add(100)
	load(0, 5)
	fire()
	check("within the hour", 20, 1)
	clock.Add(sweepWait)
	fire()
	check("after the hour", 5, 0)
	// New alone, without a request, says that the tenants are still there.
	for i := 0; i < 5; i++ {
		config, _, _ := tenantConfig(sidecar.server.URL, i)
		guard(t, config)
	}
	clock.Add(sweepWait)
	fire()
	check("tenants that nobody asks for", 5, 0)
	if len(loads.seen) != 5 {
		t.Errorf("%d configurations are remembered", len(loads.seen))
	}
}

// Each configuration is checked when it is loaded for the first time, and not again at each reload,
// however many there are.
func TestManyConfigurationsAreCheckedOnceEach(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	fresh := 0
	for reload := 0; reload < 3; reload++ {
		for i := 0; i < 400; i++ {
			config, _, _ := tenantConfig(sidecar.server.URL, i)
			s, err := parseConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			if noteLoad("wiki@docker", s) {
				fresh++
			}
		}
		clock.Add(60)
	}
	if fresh != 400 {
		t.Errorf("%d configurations were taken for new", fresh)
	}
}

// heapNow returns what is in use, once the fetches in the air have ended.
func heapNow(t *testing.T) int64 {
	eventually(t, "fetches end", func() bool { return !flying() })
	sidecarTransport.CloseIdleConnections()
	var m runtime.MemStats
	for i := 0; i < 3; i++ {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The figures are those of docs/limits.md.
func TestTenantTakesAsMuchMemoryAsIsStated(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	const many = 200
	handlers := []http.Handler{}
	load := func(from, until int) {
		for i := from; i < until; i++ {
			config, url, token := tenantConfig(sidecar.server.URL, i)
			h, _ := guard(t, config)
			handlers = append(handlers, h)
			if rec := ask(h, "POST", url+"/mcp", token...); rec.Code != 200 {
				t.Fatalf("status %d", rec.Code)
			}
		}
	}
	load(0, 20) // what the first ones make for all
	before := heapNow(t)
	load(20, 20+many)
	if each := (heapNow(t) - before) / many; each > tenantMemory {
		t.Errorf("%d bytes for each tenant, %d are stated", each, tenantMemory)
	} else {
		t.Logf("%d bytes for each tenant", each)
	}
	before = heapNow(t)
	const tokens = 2000
	url := "https://h0.example/wiki"
	for i := 0; i < tokens; i++ {
		token := bearer(goodToken("k1", map[string]any{"iss": url, "aud": []string{"wiki", url}, "sub": fmt.Sprint("person-", i), "sid": fmt.Sprint("login-of-person-", i)}))
		if rec := ask(handlers[0], "POST", url+"/mcp", token...); rec.Code != 200 {
			t.Fatalf("status %d", rec.Code)
		}
	}
	if each := (heapNow(t) - before) / tokens; each > tokenMemory {
		t.Errorf("%d bytes for each token, %d are stated", each, tokenMemory)
	} else {
		t.Logf("%d bytes for each token", each)
	}
	if len(handlers) == 0 { // they are in use until here
		t.Error("no handlers")
	}
	page, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("in the plugin at most %d KB", tenantMemory>>10),
		fmt.Sprintf("each token that it remembers %d bytes", tokenMemory),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/limits.md lacks %q", want)
		}
	}
}

const (
	tenantMemory = 12 << 10
	tokenMemory  = 512
)

// One line about a cause in ten seconds, for each of many middlewares, and nothing is kept longer.
func TestManyMiddlewaresComplainOnceEach(t *testing.T) {
	start(t)
	lines := &lineCounter{}
	log.SetOutput(lines)
	const many = 4200
	for i := 0; i < 2*many; i++ {
		complain(fmt.Sprint("m", i%many), "keys", "no keys")
	}
	if lines.n != many {
		t.Errorf("%d lines", lines.n)
	}
	clock.Add(quietPeriod)
	for i := 0; i < many; i++ {
		complain(fmt.Sprint("n", i), "keys", "no keys")
	}
	for i := 0; i < 3*minComplaints; i++ {
		clock.Add(1)
		complain(fmt.Sprint("p", i), "keys", "no keys")
	}
	if len(complaints.quiet) > 2*minComplaints {
		t.Errorf("%d causes are kept", len(complaints.quiet))
	}
}

type lineCounter struct{ n int }

func (l *lineCounter) Write(p []byte) (int, error) {
	l.n++
	return len(p), nil
}
