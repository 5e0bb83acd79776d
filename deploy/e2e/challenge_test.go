package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// `curl -i https://mcp.localhost/wiki/anything` of the original MCPBouncer's README, byte by byte,
// at the TLS entry point.
func TestChallengeOfTheOriginalReadme(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	conn, err := tls.Dial("tcp", w.Traefik.WebSecure, &tls.Config{
		ServerName: "mcp.localhost", RootCAs: w.Traefik.Roots, NextProtos: []string{"http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /wiki/anything HTTP/1.1\r\nHost: mcp.localhost\r\nUser-Agent: curl/8.7.1\r\nAccept: */*\r\nConnection: close\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	if lines[0] != "HTTP/1.1 401 Unauthorized" {
		t.Errorf("status line %q", lines[0])
	}
	for _, want := range []string{
		`WWW-Authenticate: Bearer resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource"`,
		`Content-Type: application/json`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no header line %s in\n%s", want, head)
		}
	}
	if body != `{"error":"unauthorized"}` {
		t.Errorf("body %q", body)
	}
	if got := len(w.Wiki.MCP.Requests("")); got != 0 {
		t.Errorf("%d requests reached the MCP server", got)
	}
}

func TestChallengeOfEveryMethodAndPath(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	c := w.Wiki.Client()
	ofRoot := `Bearer resource_metadata="` + c.Public + `/.well-known/oauth-protected-resource"`
	ofMCP := `Bearer resource_metadata="` + c.Public + `/.well-known/oauth-protected-resource/mcp"`
	for _, request := range []struct{ method, path, challenge string }{
		{http.MethodGet, "", ofRoot},
		{http.MethodGet, "/", strings.TrimSuffix(ofRoot, `"`) + `/"`}, // as it was typed
		{http.MethodGet, "/mcp/", strings.TrimSuffix(ofMCP, `"`) + `/"`},
		{http.MethodGet, "/anything", ofRoot},
		{http.MethodGet, "/mcp", ofMCP},
		{http.MethodPost, "/mcp", ofMCP},
		{http.MethodDelete, "/mcp", ofMCP},
		{http.MethodGet, "/mcp/below", ofRoot},
		{http.MethodHead, "/anything", "Bearer"}, // which MCP does not have
		{http.MethodPut, "/anything", ofRoot},
		{http.MethodPatch, "/anything", ofRoot},
		{http.MethodOptions, "/anything", ofRoot},
		{"PROPFIND", "/anything", ofRoot},
		{http.MethodGet, "/oauth", ofRoot},
		{http.MethodGet, "/oauthx/token", ofRoot},
		{http.MethodGet, "/anything?access_token=x", ofRoot},
	} {
		t.Run(request.method+" "+request.path, func(t *testing.T) {
			answer := c.Do(request.method, c.Public+request.path, nil, nil)
			if answer.Status != http.StatusUnauthorized || answer.Header.Get("WWW-Authenticate") != request.challenge {
				t.Errorf("want 401 with %s, got %d with %s", request.challenge, answer.Status, answer.Header.Get("WWW-Authenticate"))
			}
		})
	}
	t.Run("with a token that is none", func(t *testing.T) {
		for _, token := range []string{"x", "a.b.c", strings.Repeat("x", 10_000)} {
			wantInvalidToken(t, c.Get("/anything", token))
		}
	})
	t.Run("a preflight is answered without", func(t *testing.T) {
		answer := c.Do(http.MethodOptions, c.Public+"/mcp", http.Header{
			"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"POST"},
			"Access-Control-Request-Headers": {"authorization, mcp-protocol-version"},
		}, nil)
		if answer.Status/100 != 2 || answer.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("want 204 for any origin, got %s with %v", answer, answer.Header)
		}
	})
	t.Run("encoded spellings pass nowhere", func(t *testing.T) {
		for _, path := range []string{
			"/oauth%2Ftoken", "/..%2Fworld/anything", "/%2e%2e%2fworld/anything", "/anything%00", "/anything%5C..%5Cx", "/.well-known%2Foauth-protected-resource",
		} {
			answer := c.Do(http.MethodGet, c.Public+path, nil, nil)
			if answer.Status != http.StatusBadRequest && answer.Status != http.StatusUnauthorized && answer.Status != http.StatusNotFound {
				t.Errorf("%s: %s", path, answer)
			}
		}
	})
	t.Run("a name that only begins like the prefix is somebody else's", func(t *testing.T) {
		answer := c.Do(http.MethodGet, strings.TrimSuffix(c.Public, "/wiki")+"/wikileaks", nil, nil)
		if answer.Status != http.StatusNotFound {
			t.Errorf("want 404, got %s", answer)
		}
	})
	for _, tn := range w.Tenants() {
		if got := len(tn.MCP.Requests("")); got != 0 {
			t.Errorf("%d requests reached the MCP server of %s", got, tn.Name)
		}
	}
}

// requiredScopes shows in the challenge, the Go SDK asks for what it shows, and the MCP server is
// told.
func TestRequiredScopes(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"requiredScopes": "docs:read docs:write"}})
	public := w.Wiki.PublicHTTP()
	resp, err := w.HTTP().Get(public + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(got, `scope="docs:read docs:write"`) || strings.Contains(got, "error=") {
		t.Errorf("challenge %d %q, want 401 with scope and without error", resp.StatusCode, got)
	}
	session, _, err := w.Wiki.DialMCP(t.Context(), public)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(result.StructuredContent)
	var id rig.Identity
	if err := json.Unmarshal(b, &id); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"docs:read", "docs:write"} {
		if !slices.Contains(strings.Fields(id.Scopes), scope) {
			t.Errorf("the MCP server saw the scopes %q, want %s among them", id.Scopes, scope)
		}
	}
}
