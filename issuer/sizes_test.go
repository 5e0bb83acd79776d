package issuer_test

import (
	"fmt"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// All that a program keeps for one login fits into one credential of Windows, whose store takes
// 2,560 bytes (CRED_MAX_CREDENTIAL_BLOB_SIZE) of UTF-16. The provider is Google, whose refresh
// tokens have 103 characters. A rule for addresses makes the login carry one, of 30 characters
// here, and its domain.
func TestTokenSizesFitACredentialOfWindows(t *testing.T) {
	const most = 2560
	for _, c := range []struct {
		name, redirect string
		rule           bool
		over           int // bytes, as docs/clients.md says
	}{
		{"Claude Code (wiki)", "http://localhost:33418/callback", false, 0},
		{"Codex", "http://127.0.0.1:33418/callback", false, 0},
		{"Gemini CLI MCP Client", "http://localhost:33418/oauth/callback", false, 0},
		{"MCP CLI Proxy", "http://localhost:33418/oauth/callback", false, 0},
		{"opencode", "http://127.0.0.1:19876/mcp/oauth/callback", false, 0},
		{"Claude Code (wiki)", "http://localhost:33418/callback", true, 0},
		{"Codex", "http://127.0.0.1:33418/callback", true, 0},
		{"Gemini CLI MCP Client", "http://localhost:33418/oauth/callback", true, 40},
		{"MCP CLI Proxy", "http://localhost:33418/oauth/callback", true, 0},
		{"opencode", "http://127.0.0.1:19876/mcp/oauth/callback", true, 0},
	} {
		t.Run(fmt.Sprintf("%s, rule %v", c.name, c.rule), func(t *testing.T) {
			w := newWorld(t, &issuertest.Options{Issuer: "https://accounts.google.com"}, func(w *world) {
				w.wiki = w.tenant("https://mcp.example.com/wiki")
				w.wiki.Audience, w.wiki.RequiredScopes, w.wiki.Scopes = "wiki", []string{"docs:read"}, []string{"openid", "email"}
				w.wiki.ScopeRules = []string{"*=docs:read docs:write"}
				if c.rule {
					w.wiki.AllowedDomains = []string{"example.com"}
				}
				w.idp.Be(issuertest.Behaviour{RefreshLength: 103, Claims: func(m map[string]any) {
					m["sub"], m["email"], m["email_verified"], m["hd"] = "110169484474386276334", "firstname.lastname@example.com", true, "example.com"
				}})
			})
			a := w.register(w.wiki.PublicURL, map[string]any{"client_name": c.name, "redirect_uris": []string{c.redirect}, "token_endpoint_auth_method": "none"})
			got := a.login("resource", w.wiki.PublicURL+"/mcp")
			// the message says how many there were
			got = a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
			access, refresh := len(got.text("access_token")), len(got.text("refresh_token"))
			t.Logf("access token %d, refresh token %d, client_id %d characters", access, refresh, len(a.id))
			if all := 2 * (access + refresh + len(a.id)); all > most+c.over {
				t.Errorf("%d bytes: access token %d, refresh token %d, client_id %d characters", all, access, refresh, len(a.id))
			}
		})
	}
}
