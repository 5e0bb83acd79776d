package issuer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	masterOne = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	masterTwo = "/////////////////////////////////////////wE="
)

// world is everything around the sidecar: a provider, an internet and two protected servers. It
// holds the replicas, which answer in turn.
type world struct {
	t       testing.TB
	clock   *issuertest.Clock
	idp     *issuertest.Provider
	net     *issuertest.Internet
	docs    *documentHosts
	wiki    issuertest.Tenant
	log     *logBuffer
	hopKey  string
	skews   []time.Duration // of the replicas' clocks; one replica for each
	masters []string        // of the replicas; the last stands for those after it
	config  func(*issuer.Config)
	restart bool // each request meets a process that has just begun
	// pause runs in place of the wait before the sidecar asks the provider again.
	pause func()

	mu       sync.Mutex // guards those below for one access
	turn     int
	replicas []http.Handler
	explains testing.TB // shows the log if it fails
}

// newWorld builds the world; change may alter it before its first request.
func newWorld(t testing.TB, o *issuertest.Options, change func(*world)) *world {
	t.Helper()
	clock := issuertest.NewClock()
	if o == nil {
		o = &issuertest.Options{}
	}
	if o.Now == nil {
		o.Now = clock.Now
	}
	w := &world{
		t: t, clock: clock, idp: issuertest.NewProvider(t, o), net: &issuertest.Internet{}, docs: &documentHosts{}, log: &logBuffer{},
		hopKey: newRing(t, masterOne).HopKey(), skews: []time.Duration{0}, masters: []string{masterOne},
	}
	w.wiki = w.tenant("https://mcp.localhost/wiki")
	if change != nil {
		change(w)
	}
	w.serve(w.wiki)
	return w
}

// tenant returns the usual configuration at a public URL.
func (w *world) tenant(publicURL string) issuertest.Tenant {
	return issuertest.Tenant{
		PublicURL: publicURL, Resource: publicURL[strings.LastIndex(publicURL, "/")+1:], Audience: "urn:" + publicURL,
		ProviderIssuer: w.idp.Issuer, ClientID: w.idp.ClientID, ClientSecret: w.idp.Secret,
		Scopes: []string{"openid", "email", "offline_access"}, RequiredScopes: []string{"mcp:read", "mcp:write"}, MCPPaths: []string{"/mcp", "/sse"},
		Exchange: "token", GroupsClaim: "groups", Refresh: "auto", UpstreamCheckInterval: 3600,
	}
}

func (w *world) serve(tn issuertest.Tenant) {
	w.net.Handle(tn.PublicURL, &issuertest.Front{Tenant: tn, HopKey: w.hopKey, Now: w.clock.Now, Replica: w.replica})
}

func newRing(t testing.TB, masters string) *sealing.Ring {
	t.Helper()
	ring, err := sealing.ParseRing(masters)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// replica returns the replica whose turn it is.
func (w *world) replica() http.Handler {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.showLog()
	i := w.turn % len(w.skews)
	w.turn++
	if w.restart {
		return w.newReplica(i)
	}
	for len(w.replicas) < len(w.skews) {
		w.replicas = append(w.replicas, w.newReplica(len(w.replicas)))
	}
	return w.replicas[i]
}

// showLog makes the test that asks print the last line of the sidecar's log if it fails: an answer
// never says why a request was refused, the log does.
func (w *world) showLog() {
	t := w.t
	if _, fuzzed := t.(*testing.F); fuzzed || w.explains == t { // a fuzz target has no Cleanup
		return
	}
	w.explains = t
	t.Cleanup(func() {
		if _, measured := t.(*testing.B); !measured {
			checkAudit(t, w.log.String())
		}
		if t.Failed() {
			t.Logf("the sidecar's last log line: %s", w.log.last())
		}
	})
}

func (w *world) newReplica(i int) http.Handler {
	c := issuer.Config{
		Ring:           newRing(w.t, w.masters[min(i, len(w.masters)-1)]),
		Schedule:       sealing.Schedule{Rotation: 24 * time.Hour, Overlap: 2 * time.Hour},
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour, Version: "test",
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: w.clock.Off(w.skews[i]), Getenv: func(string) string { return "" }, Transport: w.idp.Transport,
		DocumentTransport: w.docs,
		Background:        func(f func()) { f() }, // so that a test knows when it is done
		Wait: func(ctx context.Context, _ time.Duration) error {
			if w.pause != nil {
				w.pause()
			}
			// The next request must not come at once, because for a moment go-oidc gives the
			// failure of a fetch of keys also to later requests.
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			return ctx.Err()
		},
	}
	if w.config != nil {
		w.config(&c)
	}
	s, err := issuer.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Handler()
}

// reply is what came back over the wire.
type reply struct {
	Status int
	Header http.Header
	Body   string
	JSON   map[string]any
	world  *world // whose log explains the answer; may be nil
}

func (r reply) text(name string) string {
	s, _ := r.JSON[name].(string)
	return s
}

// wants compares status and error code; no code means success.
func (r reply) wants(t testing.TB, status int, code string) reply {
	t.Helper()
	if r.Status != status || r.text("error") != code {
		if r.world != nil && r.world.t != t { // showLog does it for the test of the world
			t.Logf("the sidecar's last log line: %s", r.world.log.last())
		}
		t.Fatalf("status %d, error %q, want %d, %q: %s", r.Status, r.text("error"), status, code, r.Body)
	}
	checkDescription(t, r.text("error_description"))
	return r
}

// checkDescription checks the grammar of error_description (RFC 6749 §5.2 and §4.1.2.1) in every
// error of every test.
func checkDescription(t testing.TB, text string) {
	t.Helper()
	for _, c := range text {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			t.Errorf("error_description %q holds %q", text, c)
		}
	}
}

func (w *world) do(r *http.Request) reply {
	w.t.Helper()
	resp, err := w.net.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.read(resp)
}

// read reads a reply, and remembers whose log explains it.
func (w *world) read(resp *http.Response) reply {
	w.t.Helper()
	out := readReply(w.t, resp)
	out.world = w
	return out
}

func readReply(t testing.TB, resp *http.Response) reply {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := reply{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(body, &out.JSON); err != nil {
			t.Fatalf("not JSON: %v: %s", err, body)
		}
	}
	return out
}

func newRequest(t testing.TB, method, address, contentType, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

const formType = "application/x-www-form-urlencoded"

func (w *world) get(address string) reply { return w.do(newRequest(w.t, "GET", address, "", "")) }

// app is an MCP client.
type app struct {
	w            *world
	base         string // public URL
	id, secret   string
	basic        bool
	redirect     string
	verifier     string
	state        string
	assertion    func() string // of a client that has a key
	prover       *prover       // of a client that sends DPoP proofs
	registration reply
}

const callback = "https://app.example/callback"

// register registers a client with these members; nil means a public client with one https redirect
// URI.
func (w *world) register(base string, members map[string]any) *app {
	w.t.Helper()
	if members == nil {
		members = map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "none", "client_name": "Test App"}
	}
	body, err := json.Marshal(members)
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.do(newRequest(w.t, "POST", base+"/oauth/register", "application/json", string(body))).wants(w.t, 201, "")
	a := &app{w: w, base: base, id: r.text("client_id"), secret: r.text("client_secret"), basic: r.text("token_endpoint_auth_method") == "client_secret_basic", registration: r}
	a.redirect = r.JSON["redirect_uris"].([]any)[0].(string)
	a.verifier = rand.Text() + rand.Text()
	a.state = "client-state-" + rand.Text()
	return a
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// with returns values with some replaced; an empty replacement removes.
func with(values url.Values, changes ...string) url.Values {
	out := url.Values{}
	for name, vs := range values {
		out[name] = append([]string(nil), vs...)
	}
	for i := 0; i < len(changes); i += 2 {
		out.Del(changes[i])
		if changes[i+1] != "" {
			out.Set(changes[i], changes[i+1])
		}
	}
	return out
}

func (a *app) authorization() url.Values {
	return url.Values{
		"response_type": {"code"}, "client_id": {a.id}, "redirect_uri": {a.redirect}, "state": {a.state},
		"code_challenge": {challenge(a.verifier)}, "code_challenge_method": {"S256"},
	}
}

func (a *app) authorizeURL(changes ...string) string {
	return a.base + "/oauth/authorize?" + with(a.authorization(), changes...).Encode()
}

// code logs a person in, in a browser of their own, and returns the code that the client gets.
func (a *app) code(changes ...string) string {
	a.w.t.Helper()
	return a.codeIn(issuertest.NewBrowser(a.w.t, a.w.net), changes...)
}

func (a *app) codeIn(b *issuertest.Browser, changes ...string) string {
	a.w.t.Helper()
	back := b.Login(a.authorizeURL(changes...))
	q := back.Query()
	if q.Get("code") == "" || q.Get("state") != a.state || q.Get("iss") != a.base {
		a.w.t.Fatalf("the client got %s", back)
	}
	return q.Get("code")
}

func (a *app) redemption(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.redirect}, "code_verifier": {a.verifier}}
}

func (a *app) refreshment(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// tokenRequest authenticates as the client registered.
func (a *app) tokenRequest(form url.Values) *http.Request {
	a.w.t.Helper()
	form = with(form)
	if !a.basic {
		form.Set("client_id", a.id)
		if a.secret != "" {
			form.Set("client_secret", a.secret)
		}
	}
	if a.assertion != nil && !form.Has("client_assertion") {
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", a.assertion())
	}
	r := newRequest(a.w.t, "POST", a.base+"/oauth/token", formType, form.Encode())
	if a.basic {
		r.SetBasicAuth(a.id, a.secret)
	}
	if a.prover != nil {
		r.Header.Set("DPoP", a.prover.proof(a.base+"/oauth/token", nil))
	}
	return r
}

// token sends a token request. A client that proves a key comes again when it is told a nonce (RFC
// 9449 §8).
func (a *app) token(form url.Values) reply {
	a.w.t.Helper()
	r := a.w.do(a.tokenRequest(form))
	if a.prover != nil && a.prover.learn(r.Header) && r.text("error") == "use_dpop_nonce" {
		r = a.w.do(a.tokenRequest(form))
		a.prover.learn(r.Header)
	}
	return r
}

// login runs a whole login, and returns the token response.
func (a *app) login(changes ...string) reply {
	a.w.t.Helper()
	return a.token(a.redemption(a.code(changes...))).wants(a.w.t, 200, "")
}

// verifiedToken checks an access token as an outsider would: the published keys, the standard
// library, and RFC 9068.
func (w *world) verifiedToken(base, token string, at time.Time) map[string]any {
	w.t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		w.t.Fatalf("%d parts in the access token", len(parts))
	}
	var header struct{ Alg, Typ, Kid string }
	decodePart(w.t, parts[0], &header)
	if header.Alg != "EdDSA" || header.Typ != "at+jwt" {
		w.t.Fatalf("header %+v", header)
	}
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, Alg, Use string }
	}
	keys := w.get(base+"/oauth/jwks.json").wants(w.t, 200, "")
	if err := json.Unmarshal([]byte(keys.Body), &set); err != nil {
		w.t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Kid != header.Kid {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || k.Kty != "OKP" || k.Crv != "Ed25519" || k.Alg != "EdDSA" || k.Use != "sig" {
			w.t.Fatalf("key %+v: %v", k, err)
		}
		sig, err := base64.RawURLEncoding.DecodeString(parts[2])
		if err != nil || !ed25519.Verify(x, []byte(parts[0]+"."+parts[1]), sig) {
			w.t.Fatalf("signature: %v", err)
		}
		var claims map[string]any
		decodePart(w.t, parts[1], &claims)
		nbf, exp := time.Unix(int64(claims["nbf"].(float64)), 0), time.Unix(int64(claims["exp"].(float64)), 0)
		if nbf.After(at.Add(sealing.Skew)) || !at.Before(exp.Add(sealing.Skew)) {
			w.t.Fatalf("at %v the token is not valid: from %v to %v", at, nbf, exp)
		}
		return claims
	}
	w.t.Fatalf("kid %s is not published: %s", header.Kid, keys.Body)
	return nil
}

func decodePart(t testing.TB, part string, into any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// logBuffer is a log that several replicas write to.
type logBuffer struct {
	mu sync.Mutex // guards b for one write or read
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// last returns the last line.
func (l *logBuffer) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := bytes.TrimSuffix(l.b.Bytes(), []byte("\n"))
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

func mustRoundTrip(t testing.TB, w *world, r *http.Request) *http.Response {
	t.Helper()
	resp, err := w.net.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func newServer(t testing.TB, w *world) string {
	t.Helper()
	server := httptest.NewServer(w.replica())
	t.Cleanup(server.Close)
	return server.URL
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newVerifier() string { return rand.Text() + rand.Text() }

func contextWithTimeout(r *http.Request, d time.Duration) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), d)
	return r.WithContext(ctx), cancel
}
