package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// BenchmarkSidecar measures the real program over real HTTP: CPU of its process per request, which
// other load on the machine does not change much, and memory. docs/benchmarks.md has the budgets.
func BenchmarkSidecar(b *testing.B) {
	s := newBenchSidecar(b)

	b.Run("start", func(b *testing.B) {
		var ready time.Duration
		for range b.N {
			ready += s.replica.ReadyAfter()
		}
		b.ReportMetric(float64(ready.Microseconds())/1000/float64(b.N), "ms-to-ready/op")
		b.ReportMetric(float64(s.replica.Usage().RSS)/1e6, "MB-idle")
	})
	b.Run("metadata", func(b *testing.B) {
		s.load(b, func() *http.Request {
			return s.request(http.MethodGet, "/.well-known/oauth-authorization-server", "", "")
		})
	})
	b.Run("register", func(b *testing.B) {
		s.load(b, func() *http.Request {
			return s.request(http.MethodPost, "/oauth/register", "application/json",
				`{"client_name":"Load","redirect_uris":["http://127.0.0.1:33418/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`)
		})
	})
	b.Run("20000 registrations", func(b *testing.B) {
		s.replica.ReadyAfter()
		register := func(n int) {
			s.burst(b, n, func() *http.Request {
				return s.request(http.MethodPost, "/oauth/register", "application/json", `{"redirect_uris":["http://127.0.0.1:33418/callback"],"token_endpoint_auth_method":"none"}`)
			})
		}
		register(2000) // buffers and the garbage collector find their size
		for range b.N {
			before := s.replica.Usage()
			register(20000)
			b.ReportMetric(float64(s.replica.Usage().RSS-before.RSS)/1e6, "MB-growth")
		}
		s.replica.WroteNothing()
	})
	// Each of four clients uses each refresh token once, as clients do: a token that is presented
	// again costs less.
	for _, guard := range []string{"none", "memory", "redis"} {
		b.Run("refresh, guard "+guard, func(b *testing.B) {
			url := guard
			if guard == "redis" {
				url = rig.StartRedis(b, &rig.Logs{}, "--appendfsync", "everysec").URL
			}
			s.replica.Restart(map[string]string{"BOUNCER_REPLAY_GUARD": url})
			s.front.CloseIdleConnections() // they lead to a process that is gone
			s.refreshes(b)
		})
	}
	b.Run("login", func(b *testing.B) {
		client := rig.NewOAuthClient(s.t, http.DefaultClient, s.public)
		client.Tokens(s.browser())
		b.ResetTimer()
		before := s.replica.Usage()
		var wg sync.WaitGroup
		for w := range loadConns {
			wg.Go(func() {
				for i := w; i < b.N; i += loadConns {
					client.Tokens(s.browser()) // authorize, consent, callback, token
				}
			})
		}
		wg.Wait()
		s.report(b, before)
	})
	b.Run("refused hop", func(b *testing.B) {
		s.load(b, func() *http.Request {
			r := s.request(http.MethodGet, "/oauth/authorize", "", "")
			r.Header.Del("X-Mcpb-Hop")
			return r
		})
	})
}

// benchSidecar is a replica with one tenant, and a front that does what the plugin does to a path.
type benchSidecar struct {
	t        rig.T
	replica  *rig.Replica
	provider *rig.Provider
	public   string
	hop      func() string
	front    *http.Transport // of the front, to the replica
}

func newBenchSidecar(b *testing.B) *benchSidecar {
	secrets, logs := &rig.Secrets{}, &rig.Logs{}
	keys := rig.Keygen(b, secrets)
	s := &benchSidecar{t: b}
	s.front = &http.Transport{}
	proxy := &httputil.ReverseProxy{Transport: s.front, Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: s.replica.Addr})
		p.Out.URL.Path = strings.TrimPrefix(p.In.URL.Path, "/wiki")
		p.Out.Header.Set("X-Mcpb-Hop", s.hop())
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := rig.Hold(r); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	b.Cleanup(front.Close)
	s.public = strings.Replace(front.URL, "127.0.0.1", "localhost", 1) + "/wiki"
	s.provider = rig.StartExampleOP(b, logs, secrets, []string{s.public + "/oauth/callback"})
	s.replica = rig.StartReplica(b, logs, "sidecar", map[string]string{
		"BOUNCER_ENCRYPTION_KEY": keys.Encryption, "BOUNCER_LOG_LEVEL": "info", s.provider.SecretEnv: s.provider.ClientSecret,
	}, nil)
	payload := issuertest.Tenant{
		PublicURL: s.public, Resource: "wiki", Audience: "wiki", ProviderIssuer: s.provider.Issuer, ClientID: s.provider.ClientID,
		ClientSecret: "env:" + s.provider.SecretEnv, Scopes: []string{"openid"}, MCPPaths: []string{"/mcp", "/sse"}, Exchange: "token", UpstreamCheckInterval: 3600,
	}.JSON()
	var mu sync.Mutex
	var value string
	var made time.Time
	s.hop = func() string { // made anew every 20 seconds, as the plugin does
		mu.Lock()
		defer mu.Unlock()
		if time.Since(made) > 20*time.Second {
			made = time.Now()
			var err error
			if value, err = rig.SealHop(keys.Hop, made, payload); err != nil {
				b.Fatal(err)
			}
		}
		return value
	}
	return s
}

func (s *benchSidecar) browser() *rig.Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return &rig.Browser{Client: &http.Client{Jar: jar}, Username: s.provider.Username, Password: s.provider.Password}
}

func (s *benchSidecar) request(method, path, contentType, body string) *http.Request {
	r, err := http.NewRequest(method, "http://"+s.replica.Addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("X-Mcpb-Hop", s.hop())
	return r
}

func (s *benchSidecar) load(b *testing.B, next func() *http.Request) {
	s.burst(b, 200, next)
	before := s.replica.Usage()
	b.ResetTimer()
	s.burst(b, b.N, next)
	s.report(b, before)
}

// refreshes measures b.N refreshes, and how many of them there are in a second while the load has
// to share the machine.
func (s *benchSidecar) refreshes(b *testing.B) {
	client := rig.NewOAuthClient(s.t, http.DefaultClient, s.public)
	var tokens [loadConns]string
	for w := range tokens {
		tokens[w] = client.Tokens(s.browser()).Member("refresh_token")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: loadConns}
	defer transport.CloseIdleConnections()
	refresh := func(w int) error {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens[w]}, "client_id": {client.ClientID}}.Encode()
		resp, err := transport.RoundTrip(s.request(http.MethodPost, "/oauth/token", "application/x-www-form-urlencoded", form))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var answer struct {
			RefreshToken string `json:"refresh_token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK || answer.RefreshToken == tokens[w] {
			return fmt.Errorf("status %d, or the same token again: %v", resp.StatusCode, err)
		}
		tokens[w] = answer.RefreshToken
		return nil
	}
	all := func(n int) {
		var wg sync.WaitGroup
		failed := make(chan error, loadConns)
		for w := range loadConns {
			wg.Go(func() {
				for i := w; i < n; i += loadConns {
					if err := refresh(w); err != nil {
						failed <- err
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-failed:
			b.Fatal(err)
		default:
		}
	}
	all(400)
	before := s.replica.Usage()
	b.ResetTimer()
	all(b.N)
	s.report(b, before)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
}

func (s *benchSidecar) report(b *testing.B, before rig.Usage) {
	cpu := s.replica.Usage().CPU - before.CPU
	b.ReportMetric(float64(cpu.Nanoseconds())/1000/float64(b.N), "cpu-us/op")
}

// burst sends n requests over four kept connections.
func (s *benchSidecar) burst(b *testing.B, n int, next func() *http.Request) {
	transport := &http.Transport{MaxIdleConnsPerHost: loadConns}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	failed := make(chan error, loadConns)
	for w := range loadConns {
		wg.Go(func() {
			for i := w; i < n; i += loadConns {
				resp, err := transport.RoundTrip(next())
				if err != nil {
					failed <- err
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode >= 500 || resp.StatusCode == http.StatusBadRequest {
					failed <- fmt.Errorf("status %d", resp.StatusCode)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
}

// loadConns requests at a time: enough that the process never waits, few enough that they share the
// machine.
const loadConns = 4
