package rig

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Provider is a real identity provider behind a front that counts what reaches its token endpoint.
// Its issuer URL is the front's, so that everybody goes through it.
type Provider struct {
	Name         string
	Issuer       string
	ClientID     string
	ClientSecret string // what the provider knows
	Keyed        bool   // the client has a key instead
	SecretEnv    string // the sidecar's variable for it, with the name it has in deploy/compose
	Username     string
	Password     string

	proc   *Process
	server *httptest.Server // the front

	mu      sync.Mutex
	posts   []TokenPost
	seen    []Seen
	fault   http.Handler
	rotated string // the client secret that is known instead of ClientSecret
}

// Rotate gives the client another secret, as the provider's console does: the old one is good for
// nothing from now on.
func (p *Provider) Rotate(secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rotated = secret
}

// swapSecret puts the secret that the backend was started with in the place of the rotated one,
// wherever a client may have put it. What it does not find there stays wrong.
func (p *Provider) swapSecret(r *http.Request, form url.Values) (body string) {
	p.mu.Lock()
	rotated := p.rotated
	p.mu.Unlock()
	swap := func(secret string) string {
		switch {
		case rotated == "":
			return secret
		case secret == rotated:
			return p.ClientSecret
		}
		return "no longer " + secret
	}
	if id, secret, ok := r.BasicAuth(); ok {
		r.SetBasicAuth(id, swap(secret))
	}
	if secret := form.Get("client_secret"); secret != "" {
		form.Set("client_secret", swap(secret))
	}
	return form.Encode()
}

// TokenPost is one request to the provider's token endpoint and its answer.
type TokenPost struct {
	Grant  string
	Form   url.Values
	Status int
	Answer []byte
}

// Posts lists the requests to the token endpoint for one grant type, in the order of their answers.
func (p *Provider) Posts(grant string) []TokenPost {
	p.mu.Lock()
	defer p.mu.Unlock()
	var of []TokenPost
	for _, post := range p.posts {
		if post.Grant == grant {
			of = append(of, post)
		}
	}
	return of
}

// Requests lists the requests so far.
func (p *Provider) Requests() []Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Fault lets h answer at the token endpoint in the provider's place; nil ends that.
func (p *Provider) Fault(h http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = h
}

// Connections are how a provider is reached. The zero value is plain HTTP, kept open for ever.
type Connections struct {
	TLS, HTTP2 bool
	Idle       time.Duration // after which the provider closes what is idle
}

// CloseConnections closes every connection to the provider that is open. None may be in use.
func (p *Provider) CloseConnections() { p.server.CloseClientConnections() }

// CloseIdleConnections closes the connections that wait for a request, as providers do.
func (p *Provider) CloseIdleConnections() {
	p.server.Config.SetKeepAlivesEnabled(false)
	p.server.Config.SetKeepAlivesEnabled(true)
}

// Certificate returns the certificate of a provider over TLS, in PEM.
func (p *Provider) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Client returns a browser's client, which has connections of its own to the provider and reaches
// everybody else too.
func (p *Provider) Client() *http.Client {
	transport := p.server.Client().Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport}
}

// DexUser returns a user of Dex's password database. All have the password "password".
func DexUser(email, id string) map[string]any {
	yes := true
	return map[string]any{
		"email": email, "username": strings.Split(email, "@")[0], "userID": id, "emailVerified": &yes,
		"hash": "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W", // bcrypt
	}
}

// StartDex starts Dex in front of a password database of two users. more is laid over its
// configuration.
func StartDex(t T, logs *Logs, secrets *Secrets, redirects []string, more map[string]any) *Provider {
	t.Helper()
	p := &Provider{
		Name: "dex", ClientID: "mcpbouncer", ClientSecret: secrets.New("client secret", "dex-"), SecretEnv: "GOOGLE_CLIENT_SECRET",
		Username: "admin@example.com", Password: "password",
	}
	backend := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	p.Issuer = p.front(t, secrets, backend, "/dex/token") + "/dex"

	config := writeJSON(t, "dex.yaml", merge(map[string]any{
		"issuer":           p.Issuer,
		"storage":          map[string]any{"type": "memory"},
		"web":              map[string]any{"http": backend},
		"oauth2":           map[string]any{"skipApprovalScreen": true},
		"enablePasswordDB": true,
		"staticPasswords": []any{
			DexUser("admin@example.com", "08a8684b-db88-4b73-90a9-3cd1661f5466"),
			DexUser("second@example.com", "41331323-6f44-45e6-b3b9-2c4b60c02be5"),
		},
		"staticClients": []any{map[string]any{
			"id": p.ClientID, "name": "MCPBouncer", "secret": p.ClientSecret, "redirectURIs": redirects,
		}},
	}, more))
	proc := StartProcess(t, logs, "dex", exec.Command(Tool(t, "dex"), "serve", config))
	p.ready(t, proc, logs)
	return p
}

// StartExampleOP starts the example provider of zitadel/oidc.
func StartExampleOP(t T, logs *Logs, secrets *Secrets, redirects []string) *Provider {
	t.Helper()
	return StartExampleOPOver(t, logs, secrets, redirects, Connections{})
}

// StartExampleOPOver starts it behind connections of the given kind.
func StartExampleOPOver(t T, logs *Logs, secrets *Secrets, redirects []string, over Connections) *Provider {
	t.Helper()
	p := &Provider{
		Name: "exampleop", ClientID: "mcpbouncer", ClientSecret: secrets.New("client secret", "op-"), SecretEnv: "ZITADEL_CLIENT_SECRET",
		Username: "test-user@localhost", Password: "verysecure",
	}
	backend := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	p.Issuer = p.frontOver(t, secrets, backend, "/oauth/token", over)
	args := append([]string{backend, p.Issuer, p.ClientID, p.ClientSecret}, redirects...)
	proc := StartProcess(t, logs, "exampleop", exec.Command(Tool(t, "exampleop"), args...))
	p.ready(t, proc, logs)
	return p
}

// StartOIDCProvider starts oidc-provider (../node/provider.mjs), which ends a login whose refresh
// token is used twice.
func StartOIDCProvider(t T, logs *Logs, secrets *Secrets, redirects []string) *Provider {
	t.Helper()
	return startOIDCProvider(t, logs, secrets, redirects, "")
}

// startOIDCProvider starts it with a client that has no secret but a key, where jwksURI is not
// empty: that is where oidc-provider reads it.
func startOIDCProvider(t T, logs *Logs, secrets *Secrets, redirects []string, jwksURI string) *Provider {
	t.Helper()
	p := &Provider{
		Name: "oidc-provider", ClientID: "mcpbouncer", ClientSecret: secrets.New("client secret", "node-"), SecretEnv: "ZITADEL_CLIENT_SECRET",
		Username: "somebody", Password: "anything",
	}
	port := FreePort(t)
	p.Issuer = p.front(t, secrets, fmt.Sprintf("127.0.0.1:%d", port), "/token")
	proof := p.ClientSecret
	if jwksURI != "" {
		p.Keyed, proof = true, "jwks_uri="+jwksURI
	}
	args := append([]string{fmt.Sprint(port), p.Issuer, p.ClientID, proof}, redirects...)
	proc := Node(t, logs, p.Name, "provider.mjs", args...)
	p.ready(t, proc, logs)
	return p
}

// Disable lets a user of oidc-provider in no more.
func (p *Provider) Disable(t T, user string) {
	t.Helper()
	resp, err := http.Post(p.Issuer+"/disable?sub="+url.QueryEscape(user), "", nil)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("rig: disable: %s", resp.Status)
	}
}

func (p *Provider) ready(t T, proc *Process, logs *Logs) {
	t.Helper()
	p.proc = proc
	proc.waitFor(t, logs, func() error {
		return expect(p.Client(), p.Issuer+"/.well-known/openid-configuration", http.StatusOK)
	})
}

// front starts the counting reverse proxy and returns its URL.
func (p *Provider) front(t T, secrets *Secrets, backend, tokenPath string) string {
	return p.frontOver(t, secrets, backend, tokenPath, Connections{})
}

func (p *Provider) frontOver(t T, secrets *Secrets, backend, tokenPath string, over Connections) string {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	quiet := func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ErrorHandler = quiet
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := Hold(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		p.seen = append(p.seen, Seen{r.Method, r.URL.Path, r.Header.Clone()})
		p.mu.Unlock()
		if r.URL.Path != tokenPath || r.Method != http.MethodPost {
			proxy.ServeHTTP(w, r)
			return
		}
		form, _ := url.ParseQuery(string(body))
		secrets.addForm(form)
		secrets.addHeader(r.Header)
		swapped := p.swapSecret(r, form)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(swapped)), int64(len(swapped))

		p.mu.Lock()
		h := p.fault
		p.mu.Unlock()
		if h == nil {
			h = proxy
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		secrets.addJSON(rec.Body.Bytes())
		// Counted before it is answered, so that whoever has the answer finds the count.
		p.mu.Lock()
		p.posts = append(p.posts, TokenPost{form.Get("grant_type"), form, rec.Code, rec.Body.Bytes()})
		p.mu.Unlock()
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}))
	p.server.Config.IdleTimeout = over.Idle
	p.server.EnableHTTP2 = over.HTTP2
	if over.TLS || over.HTTP2 {
		p.server.StartTLS()
	} else {
		p.server.Start()
	}
	t.Cleanup(p.server.Close)
	if p.server.TLS != nil {
		return p.server.URL // the certificate's name
	}
	// The providers name themselves by host name, as real ones do.
	return strings.Replace(p.server.URL, "127.0.0.1", "localhost", 1)
}

// Hold reads a request's body into memory before a proxy of net/http passes it on. The server
// closes the body when the answer begins; a transport that is still looking for the body's end
// then gives up the connection, and the answer is cut off. On a busy machine that happens.
func Hold(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

// expectStatus is a readiness check: nil when url answers with the status.
func expectStatus(url string, status int) error { return expect(http.DefaultClient, url, status) }

func expect(client *http.Client, url string, status int) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != status {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// writeJSON writes a configuration file; JSON is YAML too.
func writeJSON(t T, name string, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatalf("rig: %s: %v", name, err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatalf("rig: %v", err)
	}
	return path
}
