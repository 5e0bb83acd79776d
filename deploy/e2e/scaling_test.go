package e2e

import (
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
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/scale"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// The simulation of docs/scale.md predicts what a real sidecar does under load: how many requests
// it answers for the processor time that it gets, within a factor of three (machines and hours
// differ by two), and how much it logs.
func TestScaleIsThatOfARealSidecar(t *testing.T) {
	s := startAlone(t)
	client := rig.NewOAuthClient(t, http.DefaultClient, s.public)
	const clients, logins, refreshes = 4, 16, 60 // refreshes of each login
	client.Tokens(s.browser())                   // discovery, and what the first login makes
	before, logged, start := s.replica.Usage(), len(s.logs.Text("sidecar")), time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range logins / clients {
				token := client.Tokens(s.browser()).Member("refresh_token")
				for range refreshes {
					token = client.Refresh(token).Member("refresh_token")
				}
			}
		})
	}
	wg.Wait()
	took := s.replica.Usage().CPU - before.CPU
	answered := float64(logins * refreshes)
	predicted := scale.SidecarMicroseconds(logins*refreshes, logins)
	measured := float64(took.Microseconds())
	t.Logf("%v of processor time in %v, %.0f µs predicted: %.0f refreshes a second and processor, %.0f predicted", took, time.Since(start), predicted, answered/measured*1e6, answered/predicted*1e6)
	if measured > 3*predicted || measured < predicted/3 {
		t.Errorf("%.0f µs of processor time, the simulation says %.0f", measured, predicted)
	}
	wrote := float64(len(s.logs.Text("sidecar")) - logged)
	lines := scale.LogBytes(logins*refreshes, logins)
	t.Logf("%.0f bytes in the log, %.0f predicted", wrote, lines)
	if wrote > 1.5*lines || wrote < lines/1.5 {
		t.Errorf("%.0f bytes in the log, the simulation says %.0f", wrote, lines)
	}
}

// alone is a sidecar with one tenant, and a front that does what the plugin does to a path.
type alone struct {
	t        *testing.T
	logs     *rig.Logs
	replica  *rig.Replica
	provider *rig.Provider
	public   string
}

func startAlone(t *testing.T) *alone {
	secrets := &rig.Secrets{}
	keys := rig.Keygen(t, secrets)
	s := &alone{t: t, logs: &rig.Logs{}}
	var payload []byte
	// The plugin sends one header for 20 seconds. The sidecar takes it for minutes.
	hop := sync.OnceValue(func() string {
		value, err := rig.SealHop(keys.Hop, time.Now(), payload)
		if err != nil {
			t.Error(err)
		}
		return value
	})
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: s.replica.Addr})
		p.Out.URL.Path = strings.TrimPrefix(p.In.URL.Path, "/wiki")
		p.Out.Header.Set("X-Mcpb-Hop", hop())
	}}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	s.public = strings.Replace(front.URL, "127.0.0.1", "localhost", 1) + "/wiki"
	s.provider = rig.StartExampleOP(t, s.logs, secrets, []string{s.public + "/oauth/callback"})
	s.replica = rig.StartReplica(t, s.logs, "sidecar", map[string]string{
		"BOUNCER_ENCRYPTION_KEY": keys.Encryption, "BOUNCER_LOG_LEVEL": "info", s.provider.SecretEnv: s.provider.ClientSecret,
		"BOUNCER_REPLAY_GUARD": rig.StartRedis(t, s.logs).URL,
	}, nil)
	payload = issuertest.Tenant{
		PublicURL: s.public, Resource: "wiki", Audience: "wiki", ProviderIssuer: s.provider.Issuer, ClientID: s.provider.ClientID,
		ClientSecret: "env:" + s.provider.SecretEnv, Scopes: []string{"openid"}, MCPPaths: []string{"/mcp", "/sse"}, Exchange: "token", UpstreamCheckInterval: 3600,
	}.JSON()
	return s
}

func (s *alone) browser() *rig.Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &rig.Browser{Client: &http.Client{Jar: jar}, Username: s.provider.Username, Password: s.provider.Password}
}
