//go:build go1.21

package plugin

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestBackendAuthorizationLabels(t *testing.T) {
	for _, c := range []struct{ name, label, want string }{
		{"the value itself", "Bearer abc", "Traefik shows labels"},
		{"a variable of another purpose", "env:AWS_SECRET_ACCESS_KEY", "must end in BACKEND_AUTHORIZATION"},
		{"the hop key", "env:BOUNCER_HOP_KEY", "must end in BACKEND_AUTHORIZATION"},
		{"a variable in parts", "env:BACKEND_AUTHORIZATION_X", "must end in BACKEND_AUTHORIZATION"},
		{"no name", "env:", "must end in BACKEND_AUTHORIZATION"},
		{"a file of another purpose", "file:/etc/shadow", "must end in BACKEND_AUTHORIZATION"},
		{"a file without its path", "file:wiki_backend_authorization", "the whole path"},
	} {
		_, err := parseBackendAuthorization(c.label)
		if err == nil || !strings.HasPrefix(err.Error(), "label backendAuthorization: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "abc") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestBackendAuthorization(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.BackendAuthorization = "env:WIKI_BACKEND_AUTHORIZATION"
	h, behind := guard(t, config)
	token := goodToken("k1", nil)
	os.Setenv("WIKI_BACKEND_AUTHORIZATION", "")
	rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
	if rec.Code != 503 || behind.count() != 0 || !strings.Contains(log.String(), "WIKI_BACKEND_AUTHORIZATION: the value is empty") {
		t.Errorf("no value: status %d, %d calls, log %q", rec.Code, behind.count(), log)
	}
	os.Setenv("WIKI_BACKEND_AUTHORIZATION", "Bearer of-the-server\n")
	clock.Add(1)
	for i := 0; i < 2; i++ {
		rec = ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
		if rec.Code != 200 || strings.Join(behind.last["Authorization"], "|") != "Bearer of-the-server" {
			t.Errorf("status %d, Authorization %q", rec.Code, behind.last["Authorization"])
		}
	}
	if rec := ask(h, "GET", wikiURL+"/mcp", "Authorization", "Bearer of-the-server"); rec.Code != 401 {
		t.Errorf("the server's value as a client's token: status %d", rec.Code)
	}

	file := filepath.Join(t.TempDir(), "wiki_backend_authorization")
	config.BackendAuthorization = "file:" + file
	h, behind = guard(t, config)
	if rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...); rec.Code != 503 {
		t.Errorf("no file: status %d", rec.Code)
	}
	for i, value := range []string{"Basic YTpi", "Basic Yzpk"} {
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		clock.Add(secretReuse)
		ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
		if strings.Join(behind.last["Authorization"], "|") != value {
			t.Errorf("file %d: Authorization %q", i, behind.last["Authorization"])
		}
	}
	if err := os.WriteFile(file, []byte("a\r\nX-Mcp-Sub: root"), 0o600); err != nil {
		t.Fatal(err)
	}
	clock.Add(secretReuse)
	if rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...); rec.Code != 503 {
		t.Errorf("a value of two lines: status %d", rec.Code)
	}
}

// notary answers /hop/assertion like the sidecar.
type notary struct {
	asked atomic.Int64
	last  atomic.Value // access_token
	life  int64

	mu      sync.Mutex
	status  int
	problem string
	text    string // the assertion; empty: one for each question
}

func (n *notary) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	count := n.asked.Add(1)
	n.last.Store(req.PostFormValue("access_token"))
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.status != 0 {
		rw.WriteHeader(n.status)
		fmt.Fprintf(rw, `{"error":"%s"}`, n.problem)
		return
	}
	text := n.text
	if text == "" {
		text = fmt.Sprintf("a.b.%d", count)
	}
	fmt.Fprintf(rw, `{"assertion":"%s","expires_in":%d}`, text, n.life)
}

func (n *notary) set(status int, problem string) {
	n.mu.Lock()
	n.status = status
	n.problem = problem
	n.mu.Unlock()
}

func startNotary(t testing.TB, label string) (*fakeSidecar, *notary, http.Handler, *backend) {
	sidecar := startSidecar(t)
	n := &notary{life: 300}
	sidecar.on("/hop/assertion", n.ServeHTTP)
	config := wikiConfig(sidecar.server.URL)
	config.IdentityHeaders = label
	h, behind := guard(t, config)
	return sidecar, n, h, behind
}

func TestAssertions(t *testing.T) {
	start(t)
	_, n, h, behind := startNotary(t, "assertion,email")
	token := goodToken("k1", map[string]any{"exp": clock.Load() + 20000})
	send := func(want int, assertion string) {
		t.Helper()
		rec := ask(h, "GET", wikiURL+"/mcp", append(bearer(token), "X-Mcp-Assertion", "forged")...)
		if rec.Code != want || want == 200 && strings.Join(behind.last["X-Mcp-Assertion"], "|") != assertion {
			t.Errorf("status %d, X-Mcp-Assertion %q, want %d %q", rec.Code, behind.last["X-Mcp-Assertion"], want, assertion)
		}
	}
	send(200, "a.b.1")
	send(200, "a.b.1")
	if n.last.Load().(string) != token {
		t.Error("the sidecar was not asked with the access token")
	}
	clock.Add(239)
	send(200, "a.b.1")
	if n.asked.Load() != 1 {
		t.Errorf("asked %d times before the last minute", n.asked.Load())
	}
	clock.Add(1) // renewed in time, and nobody waits
	send(200, "a.b.1")
	eventually(t, "the renewal", func() bool { return n.asked.Load() == 2 && settled() })
	send(200, "a.b.2")
	// While the sidecar is away, the assertion serves for the rest of its life. After that no
	// request passes.
	n.set(503, "temporarily_unavailable")
	clock.Add(240)
	send(200, "a.b.2")
	eventually(t, "the failure", func() bool { return n.asked.Load() == 3 && settled() })
	clock.Add(60)
	before := behind.count()
	rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || behind.count() != before {
		t.Errorf("without an assertion: status %d", rec.Code)
	}
	asked := n.asked.Load()
	for i := 0; i < 5; i++ {
		send(503, "")
	}
	if n.asked.Load() != asked {
		t.Errorf("asked %d times within a second of a failure", n.asked.Load()-asked)
	}
	n.set(0, "")
	clock.Add(1)
	send(200, fmt.Sprintf("a.b.%d", asked+1))
	// The sidecar says that the token has expired, some seconds before the plugin would.
	n.set(400, "invalid_grant")
	clock.Add(400)
	send(401, "")
}

// settled says that no assertion is being asked for.
func settled() bool {
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	quiet := true
	for _, s := range allStates() {
		knownLock.RLock()
		for _, id := range s.tokens.young {
			id.assertion.mu.Lock()
			quiet = quiet && id.assertion.inflight == nil
			id.assertion.mu.Unlock()
		}
		knownLock.RUnlock()
	}
	return quiet
}

func TestAssertionUnderANameOfOnesOwn(t *testing.T) {
	start(t)
	_, _, h, behind := startNotary(t, "assertion=X-Jwt-Assertion")
	ask(h, "GET", wikiURL+"/mcp", append(bearer(goodToken("k1", nil)), "X_Jwt_Assertion", "forged", "X-Mcp-Assertion", "forged")...)
	if behind.last.Get("X-Jwt-Assertion") != "a.b.1" || behind.last["X_jwt_assertion"] != nil || behind.last["X-Mcp-Assertion"] != nil {
		t.Errorf("the MCP server saw %v", behind.last)
	}
}

// The assertion of a bearer key is asked for with the access token that the key was exchanged for,
// never with the key.
func TestAssertionForABearerKey(t *testing.T) {
	start(t)
	sidecar, n, h, behind := startNotary(t, "assertion")
	m := &keyMaker{good: map[string]string{aKey("ci"): "ci-bot"}}
	sidecar.on("/hop/token", m.ServeHTTP)
	if rec := ask(h, "GET", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 || behind.last.Get("X-Mcp-Assertion") != "a.b.1" {
		t.Errorf("status %d, %v", rec.Code, behind.last)
	}
	if asked := n.last.Load().(string); strings.Count(asked, ".") != 2 || strings.Contains(asked, keyPrefix) {
		t.Errorf("asked with %q", asked)
	}
}

func TestAssertionsThatNoHeaderCarries(t *testing.T) {
	for _, text := range []string{"a b.c", `a\r\nX-Mcp-Sub: root`, "ä.b.c"} {
		start(t)
		_, n, h, behind := startNotary(t, "assertion")
		n.text = text
		if rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 503 || behind.count() != 0 {
			t.Errorf("%q: status %d", text, rec.Code)
		}
	}
}

func TestAssertionIsSharedByRequestsWithOneToken(t *testing.T) {
	start(t)
	_, n, h, _ := startNotary(t, "assertion")
	token := goodToken("k1", nil)
	ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
	clock.Add(301)
	var all sync.WaitGroup
	var failed atomic.Int64
	once := func(n int) {
		rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
		if rec.Code != 200 {
			failed.Add(1)
		}
		all.Done()
	}
	all.Add(8)
	startAll(8, once)
	all.Wait()
	if failed.Load() != 0 || n.asked.Load() != 2 {
		t.Errorf("%d of 8 failed, the sidecar was asked %d times, want 2", failed.Load(), n.asked.Load())
	}
}
