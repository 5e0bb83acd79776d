package main

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// grammars are labels whose elements both sides judge: the plugin tells the operator, and the
// sidecar refuses the tenant. Where one takes what the other refuses, a server is down and no label
// is named, or a rule means nothing.
var grammars = []struct {
	name, separators string // no element holds one of the separators
	put              func(*plugin.Config, *issuertest.Tenant, string)
}{
	{"workloadIssuers", ";", func(c *plugin.Config, tn *issuertest.Tenant, text string) {
		c.WorkloadIssuers, tn.WorkloadIssuers = text, []string{text}
	}},
	{"enterpriseIssuers", ", ", func(c *plugin.Config, tn *issuertest.Tenant, text string) {
		c.EnterpriseIssuers, tn.EnterpriseIssuers = text, []string{text}
	}},
	{"allowedClients", ", ", func(c *plugin.Config, tn *issuertest.Tenant, text string) {
		c.AllowedClients, tn.AllowedClients = text, []string{text}
	}},
	{"claimNames", ", ", func(c *plugin.Config, tn *issuertest.Tenant, text string) {
		asOAuth(c, tn, "https://idp.example/me")
		c.ClaimNames, tn.ClaimNames = "sub=id,"+text, []string{"sub=id", text}
	}},
	{"userinfoEndpoint", " ", func(c *plugin.Config, tn *issuertest.Tenant, text string) { asOAuth(c, tn, text) }},
	{"upstreamToken", "; ", func(c *plugin.Config, tn *issuertest.Tenant, text string) {
		c.UpstreamToken, tn.UpstreamToken = "scopes="+text, []string{"scopes=" + text}
	}},
	{"upstreamToken", "; ", func(c *plugin.Config, tn *issuertest.Tenant, text string) {
		c.UpstreamToken, tn.UpstreamToken = "exchange="+text, []string{"scopes=", "exchange=" + text}
	}},
}

// asOAuth gives both sides a provider that is not OpenID Connect.
func asOAuth(c *plugin.Config, tn *issuertest.Tenant, userinfo string) {
	const at = "https://idp.example/"
	c.ProviderType, c.AuthorizationEndpoint, c.TokenEndpoint, c.UserinfoEndpoint, c.ClaimNames = "oauth2", at+"authorize", at+"token", userinfo, "sub=id"
	tn.ProviderType, tn.AuthorizationEndpoint, tn.TokenEndpoint, tn.UserinfoEndpoint, tn.ClaimNames = "oauth2", at+"authorize", at+"token", userinfo, []string{"sub=id"}
}

// newGrammars returns what says whether plugin and sidecar take an element; ok is false where the
// text is not one element.
func newGrammars(t testing.TB) func(which byte, text string) (label string, atPlugin, atSidecar, ok bool) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	e, err := loadEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	config := e.issuerConfig(slog.New(slog.DiscardHandler))
	config.Background = func(func()) {}
	s, err := issuer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return func(which byte, text string) (string, bool, bool, bool) {
		g := grammars[int(which)%len(grammars)]
		blank := strings.Contains(g.separators, " ") && strings.ContainsFunc(text, unicode.IsSpace)
		if text != strings.TrimSpace(text) || text == "" || len(text) > 400 || strings.ContainsAny(text, g.separators) || blank || !utf8.ValidString(text) {
			return g.name, false, false, false
		}
		c := plugin.CreateConfig()
		c.ProviderIssuer, c.ClientID, c.ClientSecret, c.Resource, c.SidecarURL = "https://idp.example", "client", "secret", "wiki", "http://127.0.0.1:1"
		tn := issuertest.Tenant{
			PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "wiki", ProviderIssuer: "https://idp.example", ClientID: "client", ClientSecret: "secret",
			Scopes: []string{"openid"}, RequiredScopes: []string{}, MCPPaths: []string{"/mcp"}, Exchange: "auto",
		}
		g.put(c, &tn, text)
		r, err := http.NewRequest("GET", tn.PublicURL+"/oauth/jwks.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		front := &issuertest.Front{Tenant: tn, HopKey: e.ring.HopKey(), Replica: s.Handler}
		resp := issuertest.Serve(front, r)
		resp.Body.Close()
		return g.name, plugin.Check(c) == nil, resp.StatusCode == http.StatusOK, true
	}
}

// FuzzLabelsAreTakenAlike checks that plugin and sidecar take the same elements.
func FuzzLabelsAreTakenAlike(f *testing.F) {
	taken := newGrammars(f)
	for _, text := range []string{
		"https://ci.example.com repository=acme/wiki sub=a* => r w", "https://ci.example.com? a=b => r", "https://ci.example.com# a=b => r", "http://x.localhost:80 a=%2a => r",
		"https://ci.example.com/a|b a=b => r", "http://127.0.0.1 a=b => r", "http://[::1] a=b => ${R}", "https:x a=b => r", "https://ci.example.com \u00a0a=\u0085b => r", "https://ci.example.com a=b => r => w",
		"https://gitlab.com ref=main => r", "https://gitlab.com ref=main project_path=a/* => r", "https://gitlab.com// sub=a* => r", "https://accounts.google.com sub=%2a%2f* => r",
		"https://idp.example.com", "https://idp.example.com?", "https://idp.example.com#", "HTTPS://idp.example.com/a", "https://idp.example.com/a|b", "https://${IDP}", "http://localhost", "https://a@b", "ftp://a", "https://a;https://b",
		"https://claude.ai/client.json", "document:claude.ai", "document:claude.ai:8443", "redirect:claude.ai", "redirect:claude.ai:443", "redirect:[::1]", "redirect:::1", "redirect:\u0430pple.com", "redirect:${HOST}", "redirect:a;redirect:b",
		"client:AAAAAAAAAAAAAAAA", "client:AAAAAAAAAAAAAAA;", "https://a/b;client:AAAAAAAAAAAAAAAA", "https:///x", "https://a/b#", "https://a/b#c", "https://${A}/b", "client:${AAAAAAAAAAAAA}", "redirect:", "document",
		"email=mail", "name=data.login", "name=https://example.com/login", "name=", "name", "nick=login", "sub=other", "email=a=b", "name=${NAME}", "email_verified=\u0430",
		"https://idp.example/me?fields=id,name", "https://idp.example/me#x", "https://idp.example/%zz", "https://idp.example/me?%zz", "https://idp.example:x/", "http://a.localhost/me", "https://idp.example/\u00fc", "//idp.example", "https:idp.example",
		"repo", "https://www.googleapis.com/auth/drive", "a=b", "a\"b", "a\\b", "${SCOPE}", "\u00fc",
	} {
		for which := range grammars {
			f.Add(byte(which), text)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, text string) {
		label, atPlugin, atSidecar, ok := taken(which, text)
		if ok && atPlugin != atSidecar {
			t.Errorf("%s %q: the plugin takes it: %t, the sidecar: %t", label, text, atPlugin, atSidecar)
		}
	})
}

// An entry of allowedClients that can match nobody is a slip, and neither side takes it.
func TestClientRulesThatCanMatchNobodyAreRefused(t *testing.T) {
	taken := newGrammars(t)
	for text, good := range map[string]bool{
		"redirect:claude.ai:443": false, "redirect:::1": false, "redirect:\u0430pple.com": false, "redirect:a;redirect:b": false, "https://a/b;https://c/d": false, "client:AAAAAAAAAAAAAAA;": false,
		"document:claude.ai.": false, "redirect:claude.ai.": false, "redirect:*.claude.ai": false, "redirect:claude.ai/x": false, "document:": false, "client:AAAA": false,
		"redirect:[::1]": true, "redirect:claude.ai": true, "document:claude.ai:8443": true, "https://claude.ai/client.json": true, "client:AAAAAAAAAAAAAA_-": true,
	} {
		if _, atPlugin, atSidecar, ok := taken(2, text); atPlugin != good || atSidecar != good || !ok {
			t.Errorf("%s: %t %t", text, atPlugin, atSidecar)
		}
	}
}
