//go:build go1.21

package plugin

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// The benchmarks measure one request through ServeHTTP, with the headers of an MCP client behind
// Traefik. Compiled: go test -bench . Interpreted, the benchmark's own loop is interpreted too:
// yaegi test -bench . (deploy/e2e measures from outside.)

// discard is a ResponseWriter that keeps only the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// benchmark sends each of the credentials in turn and wants one status.
func benchmark(b *testing.B, credentials []string, want int) {
	sidecar := startSidecar(b)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	h, _ := guard(b, config)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		header := http.Header{"Accept": {"application/json, text/event-stream"}, "Accept-Encoding": {"gzip"}, "Content-Type": {"application/json"},
			"Content-Length": {"100"}, "User-Agent": {"node"}, "Mcp-Protocol-Version": {"2025-06-18"}, "Mcp-Session-Id": {"a1"},
			"X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Port": {"443"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Server": {"traefik"},
			"X-Real-Ip": {"192.0.2.1"}}
		if len(credentials) > 0 {
			header["Authorization"] = credentials[i%len(credentials) : i%len(credentials)+1]
		}
		req := &http.Request{Method: "POST", Host: "mcp.localhost", URL: &url.URL{Path: "/wiki/mcp"}, Header: header}
		rw := &discard{header: http.Header{}}
		h.ServeHTTP(rw, req)
		if rw.status != want {
			b.Fatalf("status %d", rw.status)
		}
	}
}

func BenchmarkCachedToken(b *testing.B) {
	start(b)
	benchmark(b, []string{"Bearer " + goodToken("k1", nil)}, http.StatusOK)
}

// The benchmark uses more tokens than the cache holds, so that each is verified.
func BenchmarkFirstSightOfAToken(b *testing.B) {
	start(b)
	credentials := []string{}
	for i := 0; i < 3*maxYoung; i++ {
		credentials = append(credentials, "Bearer "+goodToken("k1", map[string]any{"jti": strconv.Itoa(i)}))
	}
	benchmark(b, credentials, http.StatusOK)
}

func BenchmarkNoToken(b *testing.B) {
	start(b)
	benchmark(b, nil, http.StatusUnauthorized)
}

func BenchmarkBadToken(b *testing.B) {
	start(b)
	benchmark(b, []string{"Bearer x.y.z"}, http.StatusUnauthorized)
}

// The benchmark sends a header of 30 KB that holds nothing but cookies of the bouncer, on its way
// to the sidecar.
func BenchmarkLongCookies(b *testing.B) {
	cookies := strings.Repeat("mcpb-a=1; ", 3000)
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		h := http.Header{"Cookie": {cookies}}
		keepCookies(h, true)
		if len(h["Cookie"]) != 1 {
			b.Fatal("no cookie is left")
		}
	}
}
