package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (d *discard) WriteHeader(status int)      { d.status = status }

// BenchmarkPlugin measures what the middleware adds to a request, compiled and as Traefik
// interprets it. One request at a time; docs/benchmarks.md has the budgets.
func BenchmarkPlugin(b *testing.B) {
	b.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(b)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	hs := handlers(b, a.labels(), next)
	cached := a.token(0)
	serial := 0
	for _, how := range []string{"native", "yaegi"} {
		h := hs[how]
		// The keys are fetched before anything is measured.
		rec := httptest.NewRecorder()
		if h.ServeHTTP(rec, get(cached)); rec.Code != http.StatusOK {
			b.Fatalf("%s: %d %s", how, rec.Code, rec.Body)
		}
		measure := func(name string, want int, tokens func(n int) []string) {
			b.Run(name+"/"+how, func(b *testing.B) {
				requests := make([]*http.Request, b.N)
				for i, token := range tokens(b.N) {
					requests[i] = get(token)
				}
				w := &discard{header: http.Header{}}
				b.ReportAllocs()
				b.ResetTimer()
				for _, r := range requests {
					w.status = http.StatusOK
					clear(w.header)
					if h.ServeHTTP(w, r); w.status != want {
						b.Fatalf("want %d, got %d", want, w.status)
					}
				}
			})
		}
		same := func(token string) func(int) []string {
			return func(n int) []string {
				tokens := make([]string, n)
				for i := range tokens {
					tokens[i] = token
				}
				return tokens
			}
		}
		measure("cached token", http.StatusOK, same(cached))
		measure("first sight of a token", http.StatusOK, func(n int) []string {
			tokens := make([]string, n)
			for i := range tokens {
				serial++
				tokens[i] = a.token(serial)
			}
			return tokens
		})
		measure("401", http.StatusUnauthorized, same(""))
	}
}

// BenchmarkPluginProof measures a request with a bound token that is known, and the proof of its
// key: at most 1.5 times the first sight of a token, which is beside it.
func BenchmarkPluginProof(b *testing.B) {
	b.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(b)
	labels := a.labels()
	labels["DPoP"] = "accept"
	hs := handlers(b, labels, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	serial := 0
	for _, alg := range []string{"ES256", "EdDSA", "first sight of a token"} {
		for _, how := range []string{"native", "yaegi"} {
			h := hs[how]
			key := dpoptest.NewKey(alg)
			token := a.bound(key)
			b.Run(alg+"/"+how, func(b *testing.B) {
				requests := make([]*http.Request, b.N+1)
				for i := range requests {
					if alg == "first sight of a token" {
						serial++
						requests[i] = get(a.token(serial))
						continue
					}
					requests[i] = proven(key, token)
				}
				b.ReportAllocs()
				for i, r := range requests {
					if i == 1 { // the first makes the token known
						b.ResetTimer()
					}
					w := &discard{header: http.Header{}, status: http.StatusOK}
					if h.ServeHTTP(w, r); w.status != http.StatusOK {
						b.Fatalf("status %d %v", w.status, w.header)
					}
				}
			})
		}
	}
}

// BenchmarkPluginMessage measures what reading a message of 1 KB costs, and what judging it by
// rules adds. The token is known.
func BenchmarkPluginMessage(b *testing.B) {
	b.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(b)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	token := a.token(0)
	const head = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search","arguments":{"text":"`
	message := head + strings.Repeat("word ", 180) + `"},"_meta":{"progressToken":7}}}`
	more := a.labels()
	more["IdentityHeaders"] = "email=X-Forwarded-User,name,groups,client_id,issuer"
	ruled := a.labels()
	ruled["ToolScopes"] = "delete_page=wiki:write; admin_*=wiki:admin; *=openid"
	ruled["MethodScopes"] = "resources/*=wiki:read"
	audited := a.labels()
	audited["AuditCalls"] = "true"
	blank := strings.Replace(message, `"method":`, `"method": `, 1)
	for _, c := range []struct {
		name    string
		labels  map[string]string
		message string
	}{{"no label", a.labels(), message}, {"identity headers", more, message}, {"rules", ruled, message}, {"rules and a blank", ruled, blank},
		{"calls", audited, message}} {
		hs := handlers(b, c.labels, next)
		for _, how := range []string{"native", "yaegi"} {
			h := hs[how]
			b.Run(c.name+"/"+how, func(b *testing.B) {
				b.ReportAllocs()
				w := &discard{header: http.Header{}}
				for i := range b.N + 1 {
					if i == 1 {
						b.ResetTimer()
					}
					r := get(token)
					r.Method = http.MethodPost
					r.Header.Set("Content-Type", "application/json")
					r.Body = io.NopCloser(strings.NewReader(c.message))
					r.ContentLength = int64(len(c.message))
					w.status = http.StatusOK
					if h.ServeHTTP(w, r); w.status != http.StatusOK {
						b.Fatalf("status %d", w.status)
					}
				}
			})
		}
	}
}
