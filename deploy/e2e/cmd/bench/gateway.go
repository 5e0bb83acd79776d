package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// proxy is Go's own reverse proxy, which checks nothing: no gateway that is made of it takes less.
func proxy(addr, backend string) error {
	u, err := url.Parse(backend)
	if err != nil {
		return err
	}
	// as the gateway's: connections to the server stay open
	transport := &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 256, DisableCompression: true}
	return http.ListenAndServe(addr, &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }})
}

// gateway compares what puts a bouncer before a server: Traefik with the plugin, `mcpbouncer
// gateway`, and Traefik that asks a server of forwardAuth, ours or oauth2-proxy. Processor time is
// that of the proxy, and helper_us that of the server that it asks. The gateway and our server know
// the caller by a bearer key, which is remembered as any token is.
func (b *bench) gateway() {
	const public = "https://" + mcpHost + "/wiki"
	server, logs := b.mcpServer(), &rig.Logs{}
	authority, keys := rig.StartAuthority(b.t), rig.Keygen(b.t, &rig.Secrets{})
	var made struct{ Key string }
	create := exec.Command(rig.Tool(b.t, "mcpbouncer"), "key", "create", "--public-url", public, "--resource", "wiki", "--provider-issuer", "https://accounts.google.com",
		"--provider-client-id", "client", "--subject", "bench", "--expires", "1d")
	create.Env = []string{"BOUNCER_ENCRYPTION_KEY=" + keys.Encryption}
	out, err := create.Output()
	if err == nil {
		err = json.Unmarshal(out, &made)
	}
	if err != nil {
		b.t.Fatalf("key create: %v", err)
	}
	ours := func(command, backend string) (process *rig.Process, sidecar, addr string) {
		file := filepath.Join(b.t.TempDir(), "tenants.yaml")
		text := "tenants:\n  wiki:\n    publicURL: " + public + "\n    resource: wiki\n    providerIssuer: https://accounts.google.com\n    clientID: client\n    clientSecret: env:GOOGLE_CLIENT_SECRET\n" + backend
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			b.t.Fatalf("%v", err)
		}
		sidecar, addr = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(b.t)), fmt.Sprintf("127.0.0.1:%d", rig.FreePort(b.t))
		cmd := exec.Command(rig.Tool(b.t, "mcpbouncer-gateway"), command)
		cmd.Env = []string{"BOUNCER_ENCRYPTION_KEY=" + keys.Encryption, "BOUNCER_LISTEN_ADDR=" + sidecar, "BOUNCER_TENANTS=" + file, "BOUNCER_GATEWAY_ADDR=" + addr, "BOUNCER_TLS_ELSEWHERE=true", "BOUNCER_LOG_LEVEL=error"}
		process = rig.StartProcess(b.t, logs, command, cmd)
		b.listens(sidecar)
		return process, sidecar, addr
	}
	gateway, _, gatewayAddr := ours("gateway", "    backend: "+server+"\n")
	asked, askedAddr, _ := ours("serve", "")
	bare, bareAddr := b.self("proxy", server)
	b.listens(gatewayAddr)
	other, otherAddr, otherToken := b.oauth2Proxy(logs)
	forward := func(address string) map[string]any {
		return map[string]any{"forwardAuth": map[string]any{"address": address, "authResponseHeaders": []string{"X-Mcp-Sub", "X-Mcp-Scopes", "Authorization", "Cookie", "Dpop", "Upgrade", "X-Auth-Request-User"}}}
	}
	ways := []way{
		{name: "plugin", middleware: bouncer(authority, mcpHost, nil)},
		{name: "sidecar", middleware: forward("http://" + askedAddr + "/forward-auth/wiki")},
		{name: "oauth2-proxy", middleware: forward("http://" + otherAddr + "/oauth2/auth")},
	}
	for i := range ways {
		ways[i].host = mcpHost
	}
	d := b.open(b.sides[0], server, ways)
	rows := []struct {
		name, addr, token string
		own, helper       *rig.Process // without one of its own, it is Traefik's
	}{
		{"Traefik with the plugin", d.addr["plugin"], authority.Token(public, "bench", 0), nil, nil},
		{"the gateway", gatewayAddr, made.Key, gateway, nil},
		{"Go's reverse proxy, which checks nothing", bareAddr, made.Key, bare, nil},
		{"forwardAuth by the sidecar", d.addr["sidecar"], made.Key, nil, asked},
		{"forwardAuth by oauth2-proxy", d.addr["oauth2-proxy"], otherToken, nil, other},
	}
	var names []string
	for _, kind := range []string{"GET", "1 KB"} {
		for _, r := range rows {
			names = append(names, "gateway/"+kind+", "+r.name)
		}
	}
	b.shortTurns(names, func(round, i int, s *side) {
		if s != b.sides[0] {
			return
		}
		r, message := rows[i%len(rows)], ""
		if i >= len(rows) {
			message = call(1000)
		}
		same := request(mcpHost, r.token, message)
		l := &load{addr: r.addr, connections: connections, each: requestsEach, status: http.StatusOK, request: func(int, int) []byte { return same }}
		use := func() rig.Usage { return d.Usage(b.t) }
		if r.own != nil {
			use = func() rig.Usage { return r.own.Usage(b.t) }
		}
		var before, after time.Duration
		read := false
		b.loaded(s, names[i], round == 0, func() rig.Usage {
			if r.helper != nil {
				before, after, read = after, r.helper.Usage(b.t).CPU, true
			}
			return use()
		}, l)
		if read && round > 0 {
			b.note(s, names[i], "helper_us", float64((after-before).Nanoseconds())/1000/l.requests())
		}
	})
}

func (b *bench) listens(addr string) {
	rig.WaitFor(b.t, addr, func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// oauth2Proxy starts oauth2-proxy as a server of forwardAuth that takes bearer tokens of an issuer,
// as programs send them, and makes such a token.
func (b *bench) oauth2Proxy(logs *rig.Logs) (process *rig.Process, addr, token string) {
	install := exec.Command(filepath.Join(rig.Root(), "deploy", "e2e", "proxies", "install.sh"), "oauth2-proxy")
	if out, err := install.CombinedOutput(); err != nil {
		b.t.Fatalf("oauth2-proxy: %v: %s", err, out)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	public := jose.JSONWebKey{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/keys") {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys", "authorization_endpoint": issuer.URL + "/authorize", "token_endpoint": issuer.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "subject_types_supported": []string{"public"}, "response_types_supported": []string{"code"},
		})
	}))
	b.t.Cleanup(issuer.Close)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	claims, _ := json.Marshal(map[string]any{"iss": issuer.URL, "aud": "client", "sub": "bench", "email": "bench@example.com", "email_verified": true,
		"iat": time.Now().Unix(), "exp": time.Now().Add(3 * time.Hour).Unix()})
	signed, err := signer.Sign(claims)
	if err == nil {
		token, err = signed.CompactSerialize()
	}
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(b.t))
	process = rig.StartProcess(b.t, logs, "oauth2-proxy", exec.Command(rig.Tool(b.t, "oauth2-proxy"),
		"--provider=oidc", "--oidc-issuer-url="+issuer.URL, "--client-id=client", "--client-secret=secret-of-the-client", "--cookie-secret=0123456789abcdef0123456789abcdef",
		"--email-domain=*", "--http-address="+addr, "--upstream=static://202", "--reverse-proxy=true", "--trusted-proxy-ip=127.0.0.1", "--skip-jwt-bearer-tokens=true", "--set-xauthrequest=true",
		"--request-logging=false", "--auth-logging=false", "--redirect-url=http://localhost/oauth2/callback"))
	b.listens(addr)
	return process, addr, token
}
