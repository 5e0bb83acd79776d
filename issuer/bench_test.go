package issuer_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/jsonlog"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// benchmark measures for the budgets of docs/benchmarks.md: processor time of one request through
// Handler, with log and metrics on. The hop header is made as the plugin makes it, a new one every
// 20 seconds.
func benchmark(b *testing.B, w *world, method, path, contentType, body string, header http.Header, status int) {
	b.Helper()
	h := w.replica()
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("X-Mcpb-Hop", hop)
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		for name, values := range header {
			r.Header[name] = values
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != status {
			b.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
	}
}

func benchWorld(b *testing.B, change func(*world)) *world {
	return newWorld(b, nil, func(w *world) {
		w.config = func(c *issuer.Config) {
			c.Log, c.Metrics = slog.New(jsonlog.New(io.Discard, slog.LevelInfo)), metrics.New()
		}
		if change != nil {
			change(w)
		}
	})
}

func BenchmarkMetadata(b *testing.B) {
	benchmark(b, benchWorld(b, nil), "GET", "/.well-known/oauth-authorization-server", "", "", nil, 200)
}

func BenchmarkProtectedResource(b *testing.B) {
	benchmark(b, benchWorld(b, nil), "GET", "/.well-known/oauth-protected-resource/mcp", "", "", nil, 200)
}

func BenchmarkJWKS(b *testing.B) {
	benchmark(b, benchWorld(b, nil), "GET", "/oauth/jwks.json", "", "", nil, 200)
}

func BenchmarkRegister(b *testing.B) {
	const body = `{"client_name":"Claude","grant_types":["authorization_code","refresh_token"],"redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"response_types":["code"],"scope":"claudeai","token_endpoint_auth_method":"none","client_uri":"https://claude.ai"}`
	benchmark(b, benchWorld(b, nil), "POST", "/oauth/register", "application/json", body, nil, 201)
}

// BenchmarkRefreshSession measures a refresh at which the provider is not asked.
func BenchmarkRefreshSession(b *testing.B) {
	w := benchWorld(b, nil)
	w.idp.Be(issuertest.Behaviour{Refresh: "none"})
	a := w.register(w.wiki.PublicURL, nil)
	form := with(a.refreshment(a.login().text("refresh_token")), "client_id", a.id)
	benchmark(b, w, "POST", "/oauth/token", formType, form.Encode(), nil, 200)
}

// BenchmarkRefreshBound measures the same with a refresh token that is bound to a key: what a proof
// costs beside it.
func BenchmarkRefreshBound(b *testing.B) {
	w := benchWorld(b, func(w *world) { w.wiki.DPoP = "require" })
	w.idp.Be(issuertest.Behaviour{Refresh: "none"})
	a := w.register(w.wiki.PublicURL, nil).proving("ES256")
	form := with(a.refreshment(a.login().text("refresh_token")), "client_id", a.id)
	proof := http.Header{"Dpop": {a.prover.proof(a.base+"/oauth/token", nil)}}
	benchmark(b, w, "POST", "/oauth/token", formType, form.Encode(), proof, 200)
}

// BenchmarkRefreshChecked measures a refresh at which the provider is asked: all of the sidecar's
// work, and of the provider's side only the bytes of the answer. The answer has no id_token,
// because its signature would cost most.
func BenchmarkRefreshChecked(b *testing.B) {
	benchmarkRefreshChecked(b, issuertest.Behaviour{Refresh: "static", OmitNewIDToken: true})
}

// BenchmarkRefreshCheckedIDToken measures the same with an id_token, which is verified (RS256).
func BenchmarkRefreshCheckedIDToken(b *testing.B) {
	benchmarkRefreshChecked(b, issuertest.Behaviour{Refresh: "static", Claims: func(claims map[string]any) {
		claims["exp"] = 9_000_000_000 // the clock below runs ahead
	}})
}

func benchmarkRefreshChecked(b *testing.B, provider issuertest.Behaviour) {
	memory := &memoryProvider{}
	w := benchWorld(b, func(w *world) {
		w.wiki.UpstreamCheckInterval = 1
		w.config = func(c *issuer.Config) {
			c.Log = slog.New(jsonlog.New(io.Discard, slog.LevelInfo))
			memory.next = c.Transport
			c.Transport = memory
		}
	})
	w.idp.Be(provider)
	a := w.register(w.wiki.PublicURL, nil)
	form := with(a.refreshment(a.login().text("refresh_token")), "client_id", a.id)
	memory.answer = nil // which was the answer to the code
	h := w.replica()
	b.ReportAllocs()
	var hop string
	for i := 0; b.Loop(); i++ {
		w.clock.Add(2 * time.Second)
		if i%10 == 0 {
			b.StopTimer()
			hop = issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
			b.StartTimer()
		}
		r := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(form.Encode()))
		r.Header.Set("X-Mcpb-Hop", hop)
		r.Header.Set("Content-Type", formType)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		var answer struct {
			RefreshToken string `json:"refresh_token"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != 200 {
			b.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
		form.Set("refresh_token", answer.RefreshToken)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	w := benchWorld(b, nil)
	a := w.register(w.wiki.PublicURL, nil)
	u, _ := url.Parse(a.authorizeURL())
	benchmark(b, w, "GET", "/oauth/authorize?"+u.RawQuery, "", "", nil, 200)
}

// BenchmarkConsent allows one request again and again, which this browser's cookie lets it.
func BenchmarkConsent(b *testing.B) {
	w := benchWorld(b, nil)
	browser := issuertest.NewBrowser(b, w.net)
	a := w.register(w.wiki.PublicURL, nil)
	// The provider's keys are made now.
	a.token(with(a.redemption(a.code()), "client_id", a.id)).wants(b, 200, "")
	r := browser.DecisionRequest(browser.Get(a.authorizeURL()), "allow")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Cookie", strings.Join(browser.Cookies(a.base), "; "))
	benchmark(b, w, "POST", "/oauth/consent", formType, string(body), r.Header, 200)
}

// BenchmarkCallback takes one answer of the provider again and again, with exchange=token: nothing
// is used up by it.
func BenchmarkCallback(b *testing.B) {
	w := benchWorld(b, nil)
	browser := issuertest.NewBrowser(b, w.net)
	a := w.register(w.wiki.PublicURL, nil)
	back := browser.Upstream(browser.Decide(browser.Get(a.authorizeURL()), "allow"))
	_, query, _ := strings.Cut(back, "?")
	cookies := http.Header{"Cookie": {strings.Join(browser.Cookies(a.base), "; ")}}
	benchmark(b, w, "GET", "/oauth/callback?"+query, "", "", cookies, 303)
}

// BenchmarkCodeExchange redeems one code again and again at a provider in memory that allows it:
// all of the sidecar's work, and of the provider's side only the bytes of the answer. The
// id_token's RSA signature is verified each time.
func BenchmarkCodeExchange(b *testing.B) {
	memory := &memoryProvider{}
	w := benchWorld(b, func(w *world) {
		w.config = func(c *issuer.Config) {
			c.Log = slog.New(jsonlog.New(io.Discard, slog.LevelInfo))
			memory.next = c.Transport
			c.Transport = memory
		}
	})
	w.idp.Be(issuertest.Behaviour{CodeReuse: "allowed"})
	a := w.register(w.wiki.PublicURL, nil)
	form := with(a.redemption(a.code()), "client_id", a.id)
	a.token(form).wants(b, 200, "") // the provider's keys are made and read now
	benchmark(b, w, "POST", "/oauth/token", formType, form.Encode(), nil, 200)
}

// memoryProvider answers the token endpoint with the first answer that came over the network.
type memoryProvider struct {
	next   http.RoundTripper
	answer []byte
}

func (m *memoryProvider) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/token" {
		return m.next.RoundTrip(r)
	}
	if m.answer == nil {
		resp, err := m.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if m.answer, err = io.ReadAll(resp.Body); err != nil {
			return nil, err
		}
	}
	io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(m.answer))), Request: r}, nil
}

func BenchmarkRefusedHop(b *testing.B) {
	w := benchWorld(b, nil)
	forged := issuertest.SealHop(newRing(b, masterTwo).HopKey(), w.clock.Now(), w.wiki.JSON())
	benchmark(b, w, "POST", "/oauth/token", formType, "", http.Header{"X-Mcpb-Hop": {forged}}, 403)
}

// BenchmarkFirstHop measures a request with a hop header that this replica has not seen.
func BenchmarkFirstHop(b *testing.B) {
	w := benchWorld(b, nil)
	h := w.replica()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
		b.StartTimer()
		r := httptest.NewRequest("GET", "/.well-known/oauth-authorization-server", nil)
		r.Header.Set("X-Mcpb-Hop", hop)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != 200 {
			b.Fatal(rec.Code)
		}
	}
}

// BenchmarkRefreshGuarded measures a chain of refreshes with the memory guard, each with the token
// that the last one gave, between two checks of the provider.
func BenchmarkRefreshGuarded(b *testing.B) {
	refreshChain(b, guardedBench(b), 1)
}

// BenchmarkRefreshesAtOnce runs as many clients as there are processors; "/s" is what all of them
// get together.
func BenchmarkRefreshesAtOnce(b *testing.B) {
	refreshChain(b, guardedBench(b), runtime.GOMAXPROCS(0))
}

func guardedBench(b *testing.B) *world {
	return benchWorld(b, func(w *world) {
		w.guarded("memory")
		guarded := w.config
		w.config = func(c *issuer.Config) {
			guarded(c)
			c.Log = slog.New(jsonlog.New(io.Discard, slog.LevelInfo))
		}
	})
}

func refreshChain(b *testing.B, w *world, clients int) {
	b.Helper()
	h := w.replica()
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	forms := make([]url.Values, clients)
	for i := range forms {
		a := w.register(w.wiki.PublicURL, nil)
		forms[i] = with(a.refreshment(a.login().text("refresh_token")), "client_id", a.id)
	}
	b.ReportAllocs()
	b.ResetTimer()
	begun := time.Now()
	var wait sync.WaitGroup
	for i := range forms {
		wait.Go(func() {
			for range b.N / clients {
				r := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(forms[i].Encode()))
				r.Header.Set("X-Mcpb-Hop", hop)
				r.Header.Set("Content-Type", formType)
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				var answer struct {
					RefreshToken string `json:"refresh_token"`
				}
				if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != 200 {
					b.Errorf("status %d: %s", rec.Code, rec.Body)
					return
				}
				forms[i].Set("refresh_token", answer.RefreshToken)
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "/s")
}

// The benchmark brings a new identity assertion each time (RS256), from a client with a secret. A
// grant of client_credentials with private_key_jwt (RS256 too) is its measure: each verifies one
// signature and makes one.
func BenchmarkIdentityAssertion(b *testing.B) {
	w := benchWorld(b, func(w *world) { w.wiki.EnterpriseIssuers = []string{w.idp.Issuer} })
	a := w.register(w.wiki.PublicURL, confidential)
	benchmarkForms(b, w, a, func() url.Values {
		return url.Values{"grant_type": {jwtBearerGrant}, "assertion": {w.idp.Assertion(a.base, a.id, nil, nil)}}
	})
}

func BenchmarkClientCredentialsKey(b *testing.B) {
	w := benchWorld(b, nil)
	set := []byte(mustJSON(b, jwks(rsaKey().Public())))
	a := w.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write"}, "private_key_jwt", set).withKey(jose.RS256, rsaKey())
	benchmarkForms(b, w, a, func() url.Values { return clientCredentials })
}

// benchmarkForms sends token requests that are made beforehand.
func benchmarkForms(b *testing.B, w *world, a *app, form func() url.Values) {
	b.Helper()
	const ahead = 500
	h := w.replica()
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	b.ReportAllocs()
	for done := 0; done < b.N; done += ahead {
		b.StopTimer()
		requests := make([]*http.Request, min(ahead, b.N-done))
		for i := range requests {
			made := a.tokenRequest(form())
			r := httptest.NewRequest("POST", "/oauth/token", made.Body)
			r.Header = made.Header
			r.Header.Set("X-Mcpb-Hop", hop)
			requests[i] = r
		}
		b.StartTimer()
		for _, r := range requests {
			rec := httptest.NewRecorder()
			if h.ServeHTTP(rec, r); rec.Code != http.StatusOK {
				b.Fatalf("status %d: %s", rec.Code, rec.Body)
			}
		}
	}
}
