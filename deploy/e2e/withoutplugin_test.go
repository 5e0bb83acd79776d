package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// withoutPlugin are the proxies that are there for each run; make nightly has others
// (proxies_test.go).
var withoutPlugin = []string{"gateway", "traefik"}

// docs/gateway.md and docs/forward-auth.md: the whole login by the Go SDK's client, with the
// gateway, and with real Traefik that asks the sidecar as the page shows.
func TestLoginWithoutThePlugin(t *testing.T) {
	t.Parallel()
	for _, proxy := range withoutPlugin {
		t.Run(proxy, func(t *testing.T) { logInWithoutPlugin(t, proxy) })
	}
}

func logInWithoutPlugin(t *testing.T, proxy string) {
	t.Parallel()
	w := rig.New(t, rig.Options{Proxy: proxy, Stateless: []string{"world"}, Labels: map[string]string{"requiredScopes": "docs:read"}})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name, func(t *testing.T) {
			callWhoami(t, tn, tn.PublicHTTP())
			authorizationScenarios(t, w, tn)
		})
	}
	t.Run("strangers", func(t *testing.T) { refuseStrangers(t, w) })
}

// Real clients do without the plugin what they do with it, in every way that they know: log in,
// call a tool, refresh and call again. The table of docs/clients.md says what that is.
func TestRealClientsWithoutThePlugin(t *testing.T) {
	t.Parallel()
	for _, proxy := range withoutPlugin {
		t.Run(proxy, func(t *testing.T) { clientsWithoutPlugin(t, proxy) })
	}
}

func clientsWithoutPlugin(t *testing.T, proxy string) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	options := optionsForClients(host)
	options.Proxy = proxy
	w := rig.New(t, options)
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := tableOf(t, clients, logInAllClients(t, w, host, clients))
	if strings.Count(table, "\n") < 15 && !t.Failed() {
		t.Errorf("not all clients did something:\n%s", table)
	}
	for line := range strings.Lines(table) {
		if !strings.Contains(string(page), "\n"+line) {
			t.Errorf("with the plugin, as docs/clients.md has it, it is not so: %s", line)
		}
	}
}

// Where keys must be proven, a proof is for one request, by its method and the address that the
// client used, and counts once: also for the proxies, of which one only says what was asked.
func TestProofsWithoutThePlugin(t *testing.T) {
	t.Parallel()
	for _, proxy := range withoutPlugin {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			w := rig.New(t, rig.Options{Proxy: proxy, Labels: map[string]string{"dpop": "require"}})
			for _, tn := range w.Tenants() {
				copiedProofsAreRefused(t, w, tn, tn.PublicHTTP())
				key, _ := tn.CreateKey("robot", "docs:read", "1d")
				if answer := tn.Client().Get("/anything", key); answer.Status != http.StatusUnauthorized {
					t.Errorf("%s: a key that is proven by nothing: %s", tn.Name, answer)
				}
				seesNoProofs(t, tn)
			}
		})
	}
}

// A whole program, as people install it, logs in and calls a tool by its own commands.
func TestProgramLogsInWithoutThePlugin(t *testing.T) {
	t.Parallel()
	const name = "MCP Inspector"
	for _, proxy := range withoutPlugin {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			w := rig.New(t, rig.Options{Proxy: proxy, Labels: map[string]string{"requiredScopes": "docs:read"}})
			for _, program := range programs {
				if program.name == name {
					got := program.use(t, w.Wiki, w, newWay(t, w.Wiki, nil, name, dcrPublic))
					if got.Sub == "" {
						t.Errorf("nobody has called the tool: %+v", got)
					}
					return
				}
			}
			t.Errorf("there is no program %s", name)
		})
	}
}

// refuseStrangers sends to the proxy itself what nobody who is honest sends.
func refuseStrangers(t *testing.T, w *rig.World) {
	c := w.Wiki.Client()
	token := c.Tokens(w.Wiki.Browser()).Member("access_token")
	host := strings.TrimPrefix(w.Traefik.Web, "http://")
	send := func(method, target, token string, header http.Header) (status int, answer http.Header) {
		t.Helper()
		conn, err := net.Dial("tcp", w.Edge.Proxy)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
		if token != "" {
			text += "Authorization: Bearer " + token + "\r\n"
		}
		for name, values := range header {
			for _, value := range values {
				text += name + ": " + value + "\r\n"
			}
		}
		if header["Connection"] == nil {
			text += "Connection: close\r\n"
		}
		if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			return 0, nil // closed without an answer
		}
		return resp.StatusCode, resp.Header
	}
	seen := func(tn *rig.Tenant) int { return len(tn.MCP.Requests("")) }

	// Without a token, and with one that lacks a scope: one challenge, which leads on.
	weak, _ := w.Wiki.CreateKey("robot", "other", "1d")
	for credential, want := range map[string]int{"": 401, weak: 403} {
		status, answer := send("GET", "/wiki/mcp", credential, nil)
		challenges := answer["Www-Authenticate"]
		if status != want || len(challenges) != 1 || !strings.Contains(challenges[0], `resource_metadata="`+w.Wiki.PublicHTTP()+`/.well-known/oauth-protected-resource/mcp"`) ||
			want == 403 != strings.Contains(challenges[0], `error="insufficient_scope"`) {
			t.Errorf("challenged with %d %q", status, challenges)
		}
	}

	// A client that says who it is, in any spelling, is not believed by anybody.
	for _, name := range []string{"X-Mcp-Sub", "x-mcp-sub", "X_Mcp_Sub", "X.Mcp.Sub", "X-Mcp_Sub", "X-Mcp-Scopes", "X_MCP_SCOPES", "X-Mcp-Email", "X-Mcp-Assertion", "X-Forwarded-Email"} {
		send("GET", "/wiki/forged", token, http.Header{name: {"spoofed"}})
		send("GET", "/wiki/forged", "", http.Header{name: {"spoofed"}})
	}
	send("GET", "/wiki/forged", token, http.Header{"X-Mcp-Sub": {"spoofed", "spoofed"}})
	// A header that Connection names is deleted on the way on (RFC 9110 §7.6.1), also by a proxy
	// that has set it itself.
	send("GET", "/wiki/forged", token, http.Header{"Connection": {"close, X-Mcp-Sub, X-Mcp-Scopes"}})
	if status, _ := send("GET", "/wiki/forged", token, nil); status != 200 {
		t.Errorf("an honest request: %d", status)
	}
	for _, s := range w.Wiki.MCP.Requests("/forged") {
		for name, values := range s.Header {
			if slices.Contains(values, "spoofed") && name != "X-Forwarded-Email" {
				t.Errorf("the MCP server saw %s: spoofed", name)
			}
		}
		if got := s.Header["X-Mcp-Sub"]; len(got) != 1 || got[0] == "" {
			t.Errorf("the MCP server saw X-Mcp-Sub %q", got)
		}
		for _, name := range []string{"Authorization", "Cookie", "Dpop"} {
			if s.Header.Get(name) != "" {
				t.Errorf("the MCP server saw %s", name)
			}
		}
	}

	// A token of wiki, or none, opens nothing of world: not by headers, not by the spelling of a
	// path.
	before := seen(w.World)
	for name, value := range map[string]string{
		"X-Forwarded-Uri": "/wiki/mcp", "X-Forwarded-Host": host, "X-Forwarded-Method": "OPTIONS", "X-Original-Uri": "/wiki/mcp", "X-Original-Url": "/wiki/mcp",
		"X-Rewrite-Url": "/wiki/mcp", "X-Forwarded-Prefix": "/wiki", "X-Forwarded-Proto": "https", "X-Forwarded-Server": "wiki", "Connection": "close, X-Forwarded-Uri, X-Forwarded-Method, Authorization",
	} {
		if status, _ := send("GET", "/world/mcp", token, http.Header{name: {value}}); status < 400 {
			t.Errorf("%s: %d", name, status)
		}
	}
	for _, target := range []string{
		"/wiki/../world/mcp", "/wiki/%2e%2e/world/mcp", "/wiki/..%2fworld/mcp", "/wiki%2f..%2fworld/mcp", "//world/mcp", "/world//mcp", "/./world/mcp", "/%77orld/mcp",
		"/world;a=b/mcp", "/wiki/..;/world/mcp", "/wiki\\..\\world/mcp", "/world/mcp?/wiki/mcp", "/world/mcp#/wiki/mcp", "/wiki/oauth/../../world/mcp", "/.well-known/x/wiki/../../../world/mcp",
		"/wiki/.well-known/../../world/mcp", "/world/.%2e/world/mcp", "/WORLD/mcp",
	} {
		for _, credential := range []string{"", token} {
			if status, _ := send("GET", target, credential, nil); status == 200 {
				t.Errorf("%s, with a token %v: %d", target, credential != "", status)
			}
		}
	}
	if n := seen(w.World); n != before {
		requests := w.World.MCP.Requests("")
		t.Errorf("world's server saw %d requests, the last %s %v", n-before, requests[n-1].Path, requests[n-1].Header)
	}

	// No preflight passes for a request that is let through, and no connection is upgraded to
	// HTTP/2, on which requests that follow would be judged by nobody.
	before = seen(w.Wiki)
	send("OPTIONS", "/wiki/mcp", "", http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"POST"}})
	if n := seen(w.Wiki); n != before {
		t.Error("a preflight without a token reached the server")
	}
	for _, header := range []http.Header{
		{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}, "HTTP2-Settings": {"AAMAAABkAAQAAP__"}}, {"Connection": {"Upgrade"}, "Upgrade": {"h2c"}},
		{"Connection": {"Upgrade, HTTP2-Settings, Upgrade"}, "Upgrade": {"h2c, websocket"}, "HTTP2-Settings": {""}},
	} {
		send("GET", "/wiki/upgraded", token, header)
	}
	for _, s := range w.Wiki.MCP.Requests("/upgraded") {
		if s.Header.Get("Upgrade") != "" || s.Header.Get("Http2-Settings") != "" {
			t.Errorf("the server was asked to upgrade to %s", s.Header.Get("Upgrade"))
		}
	}

	// What is for the proxy alone is for nobody else, and the OAuth paths are for everybody.
	for target, want := range map[string]int{
		"/forward-auth/wiki": 404, "/healthz": 404, "/hop/deny": 404, "/": 404,
		"/wiki/.well-known/oauth-authorization-server": 200, "/.well-known/oauth-authorization-server/wiki": 200, "/wiki/oauth/jwks.json": 200,
	} {
		if status, _ := send("GET", target, token, http.Header{"X-Forwarded-Uri": {"/wiki/mcp"}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Host": {host}}); status != want && (want == 200 || status < 400 && status != 0) {
			t.Errorf("%s: %d, want %d", target, status, want)
		}
	}
}
