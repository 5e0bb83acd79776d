package rig

import (
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Installation is a sidecar with one tenant and its provider, and a front that does what the plugin
// does to a path: what is measured is the sidecar, without Traefik.
type Installation struct {
	Replica  *Replica
	Provider *Provider
	Public   string // public URL of the tenant, through the front
	Logs     *Logs

	t      T
	hopKey string

	mu      sync.Mutex
	payload []byte
	hop     string
	made    time.Time
}

// StartInstallation starts it at log level info, with variables for the sidecar.
func StartInstallation(t T, env map[string]string) *Installation {
	t.Helper()
	secrets := &Secrets{}
	keys := Keygen(t, secrets)
	in := &Installation{t: t, Logs: &Logs{}, hopKey: keys.Hop}
	// As many as Traefik's. With net/http's two, four browsers at once make the sidecar accept a
	// connection for every eighth request.
	transport := &http.Transport{MaxIdleConnsPerHost: 200}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: in.Replica.Addr})
		p.Out.URL.Path = strings.TrimPrefix(p.In.URL.Path, "/wiki")
		p.Out.Header.Set("X-Mcpb-Hop", in.HopHeader())
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := Hold(r); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	in.Public = strings.Replace(front.URL, "127.0.0.1", "localhost", 1) + "/wiki"
	in.Provider = StartExampleOP(t, in.Logs, secrets, []string{in.Public + "/oauth/callback"})
	all := map[string]string{
		"BOUNCER_ENCRYPTION_KEY": keys.Encryption, "BOUNCER_LOG_LEVEL": "info",
		in.Provider.SecretEnv: in.Provider.ClientSecret,
	}
	maps.Copy(all, env)
	in.Replica = StartReplica(t, in.Logs, "sidecar", all, nil)
	in.payload = issuertest.Tenant{
		PublicURL: in.Public, Resource: "wiki", Audience: "wiki", ProviderIssuer: in.Provider.Issuer, ClientID: in.Provider.ClientID,
		ClientSecret: "env:" + in.Provider.SecretEnv, Scopes: []string{"openid"}, MCPPaths: []string{"/mcp", "/sse"}, Exchange: "token", UpstreamCheckInterval: 3600,
	}.JSON()
	return in
}

// HopHeader is made anew every 20 seconds, as the plugin does.
func (in *Installation) HopHeader() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	if time.Since(in.made) > 20*time.Second {
		in.made = time.Now()
		var err error
		if in.hop, err = SealHop(in.hopKey, in.made, in.payload); err != nil {
			in.t.Fatalf("rig: %v", err)
		}
	}
	return in.hop
}

// Payload of the hop header.
func (in *Installation) Payload() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.payload
}

// SetPayload changes it, with the next request.
func (in *Installation) SetPayload(payload []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.payload, in.made = payload, time.Time{}
}

// Browser is one of a person who has an account at the provider.
func (in *Installation) Browser() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		in.t.Fatalf("rig: %v", err)
	}
	return &Browser{Client: &http.Client{Jar: jar}, Username: in.Provider.Username, Password: in.Provider.Password}
}
