// Package e2e logs in end to end on real parts: Traefik, two identity providers, the Go SDK's MCP
// client and server, and replicas of the sidecar. `tools.sh` builds the programs first; `make test`
// in the root does both.
package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// 401 → metadata → registration → consent → login at the provider → token → tools/call, all by the
// Go SDK's client.

func TestLoginWithDockerLabels(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name+" on the plain entry point", func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTP()) })
		t.Run(tn.Name+" on the TLS entry point", func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTPS()) })
	}
}

func TestLoginWithFileProvider(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name+" on the plain entry point", func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTP()) })
		t.Run(tn.Name+" on the TLS entry point", func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTPS()) })
	}
}

// callWhoami connects, calls the tool and checks what the MCP server learned.
func callWhoami(t *testing.T, tn *rig.Tenant, public string) {
	t.Helper()
	session, browser, err := tn.DialMCP(t.Context(), public)
	if err != nil {
		t.Fatalf("connect to %s: %v\n%s", public, err, strings.Join(browser.Steps, "\n"))
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
	if err != nil {
		t.Fatalf("tools/call: %v", err)
	}
	var id rig.Identity
	if b, err := json.Marshal(result.StructuredContent); err != nil || json.Unmarshal(b, &id) != nil {
		t.Fatalf("whoami answered %v", result.StructuredContent)
	}
	if id.Sub == "" {
		t.Error("the MCP server saw no X-Mcp-Sub")
	}
	if id.Authorization || id.Cookie {
		t.Errorf("the MCP server saw credentials: Authorization %v, Cookie %v", id.Authorization, id.Cookie)
	}
	// What the whole connection showed, not only the one call.
	seen := tn.MCP.Requests("/mcp")
	if len(seen) == 0 {
		t.Fatal("the MCP server saw nothing")
	}
	for _, s := range seen {
		for _, secret := range []string{"Authorization", "Cookie", "X-Mcpb-Hop"} {
			if s.Header.Get(secret) != "" {
				t.Errorf("%s %s reached the MCP server with %s", s.Method, s.Path, secret)
			}
		}
		if _, ok := s.Header["X-Mcp-Scopes"]; !ok {
			t.Errorf("%s %s reached the MCP server without X-Mcp-Scopes", s.Method, s.Path)
		}
		if got := s.Header.Values("X-Mcp-Sub"); len(got) != 1 || got[0] != id.Sub {
			t.Errorf("%s %s reached the MCP server with X-Mcp-Sub %q, want [%q]", s.Method, s.Path, got, id.Sub)
		}
	}
	for _, path := range []string{"/oauth/", "/.well-known/"} {
		if got := tn.MCP.Requests(path); len(got) != 0 {
			t.Errorf("%d requests for %s reached the MCP server, first %s %s", len(got), path, got[0].Method, got[0].Path)
		}
	}
}

// Two people, or the same person at two providers, are told apart; a second login is the same
// person.
func TestSubjectIsTheProvidersSubject(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	c := w.Wiki.Client()
	sub := func(user string) string {
		t.Helper()
		b := w.Wiki.Browser()
		b.Username = user
		var id rig.Identity
		answer := c.Get("/whoami", c.Tokens(b).Member("access_token"))
		if err := json.Unmarshal([]byte(answer.Body), &id); err != nil || id.Sub == "" {
			t.Fatalf("whoami of %s: %s", user, answer)
		}
		return id.Sub
	}
	first, second, again := sub("admin@example.com"), sub("second@example.com"), sub("admin@example.com")
	if first == second {
		t.Errorf("two users have the subject %q", first)
	}
	if first != again {
		t.Errorf("one user has the subjects %q and %q", first, again)
	}
}

func TestIdentityHeadersPassInNoSpelling(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	c := w.Wiki.Client()
	token := c.Tokens(w.Wiki.Browser()).Member("access_token")
	h := http.Header{"Authorization": {"Bearer " + token}}
	for _, name := range []string{
		"X-Mcp-Sub", "x-mcp-sub", "X_Mcp_Sub", "X-Mcp_Sub", "X.Mcp.Sub", "x~mcp~sub", "X-Mcp-Scopes", "X_MCP_SCOPES",
	} {
		h[name] = []string{"spoofed", "spoofed again"}
	}
	answer := c.Do(http.MethodGet, c.Public+"/headers", h, nil)
	if answer.Status != http.StatusOK {
		t.Fatalf("with a token: %s", answer)
	}
	for _, seen := range w.Wiki.MCP.Requests("/headers") {
		for name, values := range seen.Header {
			for _, v := range values {
				if strings.Contains(v, "spoofed") {
					t.Errorf("the MCP server saw %s: %s", name, v)
				}
			}
		}
	}
}

func TestConsentDeniedLeadsBackToTheClient(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	c := w.Wiki.Client()
	b := w.Wiki.Browser()
	b.Decision = "deny"
	f := c.Begin()
	back, err := b.Visit(t.Context(), f.URL, c.Redirect)
	if err != nil {
		t.Fatalf("deny: %v", err)
	}
	if got := back.Query().Get("error"); got != "access_denied" {
		t.Errorf("error=%q, want access_denied", got)
	}
	if got := back.Query().Get("state"); got != f.State {
		t.Errorf("state=%q, want the client's", got)
	}
}
