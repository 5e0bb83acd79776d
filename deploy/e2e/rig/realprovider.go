package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// RealProvider is a whole identity provider, as it is installed, with the hooks of its
// administrator. A hook that it does not have is nil. It starts with the people Users, who all have
// the password Password.
type RealProvider struct {
	Name    string // with its version
	Issuer  string
	Wire    *Wire
	Backend string // host:port, past the wire

	Scopes    string // of the label
	Clients   map[string]Client
	Email     string // of Users[0], as the provider says it
	Groups    string // one of Users[0]'s groups
	TokenPath string
	Setting   map[string]string // labels that the provider needs
	// OAuth are the labels of a provider that is used without OpenID Connect; nil: with it.
	OAuth  map[string]string
	Advice string // what its administrator sets, which is not measured

	Prepare func(b *Browser) // for the provider's pages

	Stop, Start func()
	Remove      []Removal
	RotateKeys  func()
}

// Removal is one way in which an administrator takes a person away.
type Removal struct {
	How  string // "deleted"
	User string // whom to try it with; nobody else's way needs them
	Do   func()
}

// Client is a client that the provider knows.
type Client struct{ ID, Secret string }

// The clients that a provider knows, where it can.
const (
	BasicClient   = "basic"   // registered as the provider does by default
	SpecialClient = "special" // whose secret has + / =
	PostClient    = "post"    // registered for client_secret_post alone
	KeyClient     = "key"     // has no secret, but a key at the sidecar's address
)

// Users of each real provider. The first is who logs in, the others are to be removed.
var Users = []string{"alice", "bobby", "carol", "david"}

// Password is the password of all Users.
const Password = "correct-Horse-7-battery"

// SpecialSecret is like what `openssl rand -base64` makes.
const SpecialSecret = "ab+cd/ef0123456789+/=="

// Address returns the e-mail address of a user.
func Address(user string) string { return user + "@example.com" }

// Browser returns a browser with a cookie jar, in which a person logs in.
func (p *RealProvider) Browser(user string) *Browser {
	jar, _ := cookiejar.New(nil)
	b := &Browser{Client: &http.Client{Jar: jar}, Username: user, Password: Password}
	if p.Prepare != nil {
		p.Prepare(b)
	}
	return b
}

// newRealProvider returns a provider with a port and a wire.
func newRealProvider(t T, name, token string) *RealProvider {
	backend := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	wire := NewWire(t, backend)
	return &RealProvider{
		Name: name, Wire: wire, Issuer: wire.URL, Backend: backend, TokenPath: token, Scopes: "openid email profile", Email: Address(Users[0]),
		Clients: map[string]Client{BasicClient: {"bouncer", "a-plain-client-secret-0123456789"}, SpecialClient: {"special", SpecialSecret}},
	}
}

// runs starts the provider's process now, and again after it was stopped. ready is a path that
// answers 200 then.
func (p *RealProvider) runs(t T, logs *Logs, ready string, start func() *Process) {
	t.Helper()
	var proc *Process
	p.Start = func() {
		t.Helper()
		proc = start()
		proc.waitFor(t, logs, func() error { return expectStatus("http://"+p.Backend+ready, http.StatusOK) })
	}
	p.Stop = func() {
		t.Helper()
		proc.Terminate(t)
	}
	p.Start()
}

// administer sends a request of the administrator's, with a JSON body unless that is nil. Anything
// from 400 on is the test's end, but for the statuses named.
func administer(t T, client *http.Client, method, u string, body any, header http.Header, fine ...int) []byte {
	t.Helper()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatalf("rig: %v", err)
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, u, content)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("rig: %s %s: %v", method, u, err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	for _, status := range fine {
		if resp.StatusCode == status {
			return answer
		}
	}
	if resp.StatusCode >= 400 {
		t.Fatalf("rig: %s %s: %s: %s", method, u, resp.Status, excerpt(string(answer)))
	}
	return answer
}

// newRSAKey returns a key and its public half in PEM.
func newRSAKey(t T) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	priv, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv})), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}))
}

// program is a program of the distribution's.
func program(t T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("rig: %s is not installed, run deploy/e2e/providers.sh: %v", name, err)
	}
	return path
}

func writeFile(t T, name, content string) string {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(content), 0o600)
	}
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	return name
}

// StartPlainOIDCProvider starts oidc-provider with its own defaults (../node/plainprovider.mjs).
func StartPlainOIDCProvider(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "oidc-provider 9.13.3", "/token")
	p.Scopes, p.Groups = "openid email profile groups offline_access", "admins"
	p.Advice = "the grant `refresh_token` for the client"
	p.Clients[PostClient] = Client{"post", "another-client-secret-0123456789"}
	clients, _ := json.Marshal(p.Clients)
	p.runs(t, logs, "/.well-known/openid-configuration", func() *Process {
		_, port, _ := strings.Cut(p.Backend, ":")
		return Node(t, logs, "oidc-provider", "plainprovider.mjs", port, p.Issuer, redirect, string(clients))
	})
	// Everything is in its memory.
	p.Stop = nil
	p.Remove = []Removal{{"deleted", Users[1], func() {
		administer(t, http.DefaultClient, http.MethodPost, "http://"+p.Backend+"/disable?sub="+Users[1], nil, nil)
	}}}
	return p
}

// StartHydra starts Ory Hydra with the login and consent app that it wants to have, in the browser.
func StartHydra(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "Ory Hydra 2.3.0", "/oauth2/token")
	p.Issuer += "/"
	p.Advice = "`rotation_grace_period`, for answers that get lost; the scope `offline_access` for the client"
	p.Scopes, p.Groups = "openid email profile groups offline_access", "admins"
	p.Clients[PostClient] = Client{"post", "another-client-secret-0123456789"}
	p.Clients[KeyClient] = Client{ID: "keyed"}
	dir := t.TempDir()
	adminPort := FreePort(t)
	admin := fmt.Sprintf("http://127.0.0.1:%d", adminPort)
	_, port, _ := strings.Cut(p.Backend, ":")
	config := writeFile(t, filepath.Join(dir, "hydra.yml"), fmt.Sprintf(`
dsn: sqlite://%s/hydra.db?_fk=true&_journal_mode=WAL&_synchronous=OFF
serve:
  public: {host: 127.0.0.1, port: %s}
  admin: {host: 127.0.0.1, port: %d}
  cookies: {same_site_mode: Lax}
urls:
  self: {issuer: %q}
  login: http://login.test/login
  consent: http://login.test/consent
  error: http://login.test/error
secrets: {system: [a-secret-for-a-test-alone]}
sqa: {opt_out: true}
`, dir, port, adminPort, p.Issuer))
	if out, err := exec.Command(Tool(t, "hydra"), "migrate", "sql", "-e", "--yes", "--config", config).CombinedOutput(); err != nil {
		t.Fatalf("rig: hydra migrate: %v\n%s", err, out)
	}
	p.runs(t, logs, "/health/ready", func() *Process {
		return StartProcess(t, logs, "hydra", exec.Command(Tool(t, "hydra"), "serve", "all", "--dev", "--config", config))
	})
	// It makes keys of 4,096 bits itself, while the first login waits: these are smaller.
	key := func(id string) {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatalf("rig: %v", err)
		}
		administer(t, http.DefaultClient, http.MethodPut, admin+"/admin/keys/hydra.openid.id-token/"+id, jose.JSONWebKey{Key: private, KeyID: id, Algorithm: "RS256", Use: "sig"}, nil)
	}
	key("first")
	for kind, c := range p.Clients {
		auth := "client_secret_basic"
		if kind == PostClient {
			auth = "client_secret_post"
		}
		client := map[string]any{
			"client_id": c.ID, "client_secret": c.Secret, "redirect_uris": []string{redirect}, "token_endpoint_auth_method": auth,
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
			"scope": "openid offline offline_access email profile groups",
		}
		if kind == KeyClient {
			delete(client, "client_secret")
			client["token_endpoint_auth_method"], client["token_endpoint_auth_signing_alg"] = "private_key_jwt", "ES256"
			client["jwks_uri"] = strings.Replace(redirect, "/oauth/callback", "/oauth/client-jwks.json", 1)
		}
		administer(t, http.DefaultClient, http.MethodPost, admin+"/admin/clients", client, nil)
	}
	p.Prepare = func(b *Browser) {
		b.Meets = func(ctx context.Context, r *http.Request) (*http.Request, error) {
			if r.URL.Host != "login.test" {
				return r, nil
			}
			var accept string
			var body map[string]any
			q := r.URL.Query()
			switch r.URL.Path {
			case "/login":
				accept, body = "login/accept?login_challenge="+q.Get("login_challenge"), map[string]any{"subject": b.Username}
			case "/consent":
				accept = "consent/accept?consent_challenge=" + q.Get("consent_challenge")
				var asked struct {
					Scope    []string `json:"requested_scope"`
					Audience []string `json:"requested_access_token_audience"`
				}
				answer := administer(t, http.DefaultClient, http.MethodGet, admin+"/admin/oauth2/auth/requests/consent?consent_challenge="+q.Get("consent_challenge"), nil, nil)
				if err := json.Unmarshal(answer, &asked); err != nil {
					return nil, err
				}
				body = map[string]any{"grant_scope": asked.Scope, "grant_access_token_audience": asked.Audience, "session": map[string]any{"id_token": map[string]any{
					"email": Address(b.Username), "email_verified": true, "name": b.Username, "groups": []string{"admins", "staff"},
				}}}
			default:
				return nil, fmt.Errorf("hydra sends the person to %s", r.URL)
			}
			var to struct {
				URL string `json:"redirect_to"`
			}
			if err := json.Unmarshal(administer(t, http.DefaultClient, http.MethodPut, admin+"/admin/oauth2/auth/requests/"+accept, body, nil), &to); err != nil {
				return nil, err
			}
			return http.NewRequestWithContext(ctx, http.MethodGet, to.URL, nil)
		}
	}
	p.Remove = []Removal{
		{"consent revoked", Users[1], func() {
			administer(t, http.DefaultClient, http.MethodDelete, admin+"/admin/oauth2/auth/sessions/consent?all=true&subject="+Users[1], nil, nil)
		}},
		{"login session deleted", Users[2], func() {
			administer(t, http.DefaultClient, http.MethodDelete, admin+"/admin/oauth2/auth/sessions/login?subject="+Users[2], nil, nil)
		}},
	}
	p.RotateKeys = func() { key("next") }
	return p
}
