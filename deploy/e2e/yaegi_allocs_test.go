package e2e

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

// In Yaegi each call, variable and intermediate result is an allocation, so their number says what
// the short way through the middleware costs, on any machine and whatever else it does. A change
// that needs more than these limits has to save it elsewhere on the same way.
func TestKnownRequestsCostFewAllocations(t *testing.T) {
	t.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	token := a.token(0)
	ruled := a.labels()
	ruled["ToolScopes"] = "delete_page=wiki:write; admin_*=wiki:admin; *=openid"
	ruled["MethodScopes"] = "resources/*=wiki:read"
	handing := a.labels()
	handing["UpstreamToken"] = "scopes=repo"
	carried := a.carrying(t, 0)
	const forging = "one from a client that says who it is"
	mallory := []string{"mallory"}
	const message = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":` +
		`{"name":"search","arguments":{"text":"word"},"_meta":{"progressToken":7}}}`
	for _, c := range []struct {
		name        string
		labels      map[string]string
		token, body string
		status      int
		compiled    float64
		interpreted float64
	}{
		{"a token that was verified before", a.labels(), token, "", http.StatusOK, 4, 82},
		{forging, a.labels(), token, "", http.StatusOK, 4, 82},
		{"a token that comes for the first time", a.labels(), "new", "", http.StatusOK, 25, 322},
		{"no token", a.labels(), "", "", http.StatusUnauthorized, 9, 197},
		{"a message", a.labels(), token, message, http.StatusOK, 11, 138},
		{"a message that rules judge", ruled, token, message, http.StatusOK, 16, 244},
		{"a known token that carries the provider's", handing, carried, "", http.StatusOK, 5, 94},
		{"one that comes for the first time", handing, "new", "", http.StatusOK, 35, 591},
		{"a message with one", handing, carried, message, http.StatusOK, 12, 150},
	} {
		var fresh []string
		for n := 0; c.token == "new" && n < 2000; n++ {
			if c.labels["UpstreamToken"] != "" {
				fresh = append(fresh, a.carrying(t, n))
			} else {
				fresh = append(fresh, a.token(n))
			}
		}
		for how, h := range handlers(t, c.labels, next) {
			w := &discard{header: http.Header{}}
			next := 0
			request := func() {
				r := get(c.token)
				if len(fresh) > 0 {
					r.Header.Set("Authorization", "Bearer "+fresh[next])
					next++
				}
				if c.name == forging {
					r.Header["X-Mcp-Sub"] = mallory
				}
				if c.body != "" {
					r.Method = http.MethodPost
					r.Header.Set("Content-Type", "application/json")
					r.Body = io.NopCloser(strings.NewReader(c.body))
					r.ContentLength = int64(len(c.body))
				}
				w.status = http.StatusOK
				clear(w.header)
				h.ServeHTTP(w, r)
			}
			// The keys are fetched before anything is counted.
			request()
			if w.status != c.status {
				t.Fatalf("%s, %s: status %d", c.name, how, w.status)
			}
			limit := c.compiled
			if how == "yaegi" {
				limit = c.interpreted
			}
			made := testing.AllocsPerRun(300, func() { _ = get(c.token) })
			if len(fresh) > 0 {
				made += 2 // the header and its value
			}
			took := testing.AllocsPerRun(300, request)
			for range 4 { // what else runs in this process is counted too
				took = min(took, testing.AllocsPerRun(300, request))
			}
			t.Logf("%s, %s: %.0f allocations", c.name, how, took-made)
			if took-made > limit {
				t.Errorf("%s, %s: the limit is %.0f", c.name, how, limit)
			}
		}
	}
}

// Traefik makes each middleware anew at each change of its configuration, and keeps it until the
// next. What one takes is counted from its making to its third request, with the questions to the
// sidecar.
func TestMiddlewaresTakeLittle(t *testing.T) {
	const many, mostAllocations, mostBytes = 200, 8_370, 10_000
	t.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(t)
	labels := a.labels()
	make := interpreter(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	var handlers []http.Handler
	var requests []func() *http.Request
	for n := range many + 1 {
		host := fmt.Sprintf("t%d.localhost", n)
		token := a.Token("https://"+host+"/wiki", "bench", n)
		requests = append(requests, func() *http.Request {
			r := get(token)
			r.Header.Set("X-Forwarded-Host", host)
			return r
		})
	}
	use := func(from, until int) {
		for n := from; n < until; n++ {
			labels["PublicURL"] = fmt.Sprintf("https://t%d.localhost/wiki", n)
			handlers = append(handlers, make(labels, next, fmt.Sprint("t", n)))
		}
		for range 3 {
			for n := from; n < until; n++ {
				w := &discard{header: http.Header{}, status: http.StatusOK}
				if handlers[n].ServeHTTP(w, requests[n]()); w.status != http.StatusOK {
					t.Fatalf("tenant %d: status %d", n, w.status)
				}
			}
		}
	}
	memory := func() (m runtime.MemStats) {
		for range 3 { // what a finalizer holds goes with the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m
	}
	use(0, 1) // what the first one makes for all
	before := memory()
	use(1, many+1)
	after := memory()
	allocations := (after.Mallocs - before.Mallocs) / many
	bytes := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / many
	t.Logf("%d allocations, and %d bytes that stay", allocations, bytes)
	if allocations > mostAllocations || bytes > mostBytes {
		t.Errorf("the limits are %d allocations and %d bytes", mostAllocations, mostBytes)
	}
	runtime.KeepAlive(handlers)
}

// A request with a known token and a proof takes at most 1.5 times what the first sight of a token
// takes, and the thousandth no more than the first: proofs are remembered, and nothing else is.
func TestProofCostsWhatItCost(t *testing.T) {
	t.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(t)
	labels := a.labels()
	labels["DPoP"] = "accept"
	const many = 1000
	for how, h := range handlers(t, labels, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) {
		w := &discard{header: http.Header{}}
		allocations := func(requests []*http.Request) float64 {
			next := 0
			return testing.AllocsPerRun(len(requests)-1, func() {
				w.status = http.StatusOK
				clear(w.header)
				h.ServeHTTP(w, requests[next])
				next++
				if w.status != http.StatusOK {
					t.Fatalf("%s: status %d %v", how, w.status, w.header)
				}
			})
		}
		var first []*http.Request
		for i := range many {
			first = append(first, get(a.token(i)))
		}
		allocations(first[:100]) // the keys are fetched
		sight := allocations(first[100:])
		for _, alg := range []string{"ES256", "EdDSA"} {
			key := dpoptest.NewKey(alg)
			token := a.bound(key)
			requests := make([]*http.Request, 3*many)
			for i := range requests {
				requests[i] = proven(key, token)
			}
			allocations(requests[:100])
			early := allocations(requests[100:many])
			allocations(requests[many : 2*many])
			late := allocations(requests[2*many:])
			t.Logf("%s, %s: %.0f allocations, later %.0f; the first sight of a token %.0f", alg, how, early, late, sight)
			if how == "yaegi" && early > 1.5*sight || late > 1.02*early {
				t.Errorf("%s, %s: that is too many", alg, how)
			}
		}
	}
}
