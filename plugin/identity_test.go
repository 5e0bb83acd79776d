//go:build go1.21

package plugin

import (
	"net/http"
	"strings"
	"testing"
)

func TestIdentityHeadersThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, label, want string }{
		{"an unknown claim", "phone", "none of sub, scopes"},
		{"a claim in capitals", "Email", "none of sub, scopes"},
		{"no name", "email=", "a header's name"},
		{"a name with a blank", "email=X User", "none of sub"}, // "User" is taken for a claim
		{"a name with an underscore", "email=X_User", "a header's name"},
		{"a name with a colon", "email=X:User", "a header's name"},
		{"a name with a line break, which separates", "email=X-User\r\nX-Other", "is none of sub"},
		{"a name of 65 letters", "email=" + strings.Repeat("a", 65), "a header's name"},
		{"Authorization", "email=Authorization", "another meaning"},
		{"authorization in small letters", "sub=authorization", "another meaning"},
		{"Proxy-Authorization", "email=Proxy-Authorization", "another meaning"},
		{"Host", "email=Host", "another meaning"},
		{"Cookie", "email=Cookie", "another meaning"},
		{"Connection", "email=Connection", "another meaning"},
		{"Upgrade", "email=Upgrade", "another meaning"},
		{"Content-Length", "email=Content-Length", "another meaning"},
		{"Content-Type", "email=Content-Type", "another meaning"},
		{"Transfer-Encoding", "email=Transfer-Encoding", "another meaning"},
		{"TE", "email=TE", "another meaning"},
		{"Trailer", "email=Trailer", "another meaning"},
		{"X-Forwarded-For", "email=X-Forwarded-For", "another meaning"},
		{"X-Forwarded-Host", "email=X-Forwarded-Host", "another meaning"},
		{"X-Real-Ip", "email=X-Real-Ip", "another meaning"},
		{"X-HTTP-Method-Override", "email=X-HTTP-Method-Override", "another meaning"},
		{"a header of MCP", "email=Mcp-Session-Id", "another meaning"},
		{"the hop", "email=X-Mcpb-Hop", "another meaning"},
		{"a standard name for another claim", "email=X-Mcp-Sub", "another meaning"},
		{"a name in the bouncer's space", "email=X-Mcp-Mail", "another meaning"},
		{"one header for two claims", "email=X-User,name=x-user", "cannot share"},
		{"seventeen", "email=A1,email=A2,email=A3,email=A4,email=A5,email=A6,email=A7,email=A8,email=A9,email=A10,email=A11,email=A12,email=A13,email=A14,email=A15,email=A16,email=A17", "at most 16"},
	} {
		_, err := parseIdentityHeaders(c.label)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "label identityHeaders: ") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// What a client sends under these names passes unlooked at.
	for _, name := range usualHeaders {
		if _, err := parseIdentityHeaders("email=" + name); err == nil || !strings.Contains(err.Error(), "another meaning") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := parseUpstreamToken("header="+name, nil); err == nil || !strings.Contains(err.Error(), "another meaning") {
			t.Errorf("upstreamToken: %s: %v", name, err)
		}
	}
}

func TestIdentityHeadersSayWhatLabelsAskFor(t *testing.T) {
	for _, c := range []struct {
		name   string
		label  string
		claims map[string]any
		want   map[string]string // "-": absent
		hop    string            // identityClaims
	}{
		{"none asked for", "", map[string]any{"email": "me@example.com"},
			map[string]string{"X-Mcp-Sub": "user-1", "X-Mcp-Scopes": "openid mcp", "X-Mcp-Email": "-"}, `[]`},
		{"all", "email, name,groups client_id,issuer", map[string]any{"email": "me@example.com", "name": "Me", "groups": []string{"a", "b"}},
			map[string]string{"X-Mcp-Sub": "user-1", "X-Mcp-Email": "me@example.com", "X-Mcp-Name": "Me", "X-Mcp-Groups": "a,b", "X-Mcp-Client-Id": "client-1", "X-Mcp-Issuer": "https://accounts.google.com"}, `["email","name","groups"]`},
		{"names of one's own", "email=X-Forwarded-User,sub=Remote-User,scopes=x-scopes", map[string]any{"email": "me@example.com"},
			map[string]string{"X-Forwarded-User": "me@example.com", "Remote-User": "user-1", "X-Scopes": "openid mcp", "X-Mcp-Email": "-", "X-Mcp-Sub": "user-1", "X-Mcp-Scopes": "openid mcp"}, `["email"]`},
		{"one claim in two headers", "email,email=X-Forwarded-Email", map[string]any{"email": "me@example.com"},
			map[string]string{"X-Mcp-Email": "me@example.com", "X-Forwarded-Email": "me@example.com"}, `["email"]`},
		{"the two that are always sent", "sub,scopes", nil, map[string]string{"X-Mcp-Sub": "user-1", "X-Mcp-Scopes": "openid mcp"}, `[]`},
		{"claims that the token lacks", "email,name,groups=X-Groups", nil, map[string]string{"X-Mcp-Email": "-", "X-Mcp-Name": "-", "X-Groups": "-"}, `["email","name","groups"]`},
		{"empty claims", "email,groups", map[string]any{"email": "", "groups": []string{""}}, map[string]string{"X-Mcp-Email": "-", "X-Mcp-Groups": "-"}, `["email","groups"]`},
		{"beyond ASCII", "name,email", map[string]any{"name": "Zoë Müller", "email": "zoë@example.com"},
			map[string]string{"X-Mcp-Name": "Zo%C3%AB%20M%C3%BCller", "X-Mcp-Email": "zo%C3%AB@example.com"}, `["email","name"]`},
		{"line breaks", "name=X-Name", map[string]any{"name": "a\r\nX-Mcp-Scopes: all"}, map[string]string{"X-Name": "a%0D%0AX-Mcp-Scopes:%20all"}, `["name"]`},
		{"a NUL and a tab", "name=X-Name", map[string]any{"name": "a\x00\tb"}, map[string]string{"X-Name": "a%00%09b"}, `["name"]`},
		{"percent signs", "name=X-Name", map[string]any{"name": "100%41"}, map[string]string{"X-Name": "100%2541"}, `["name"]`},
		{"commas within groups", "groups", map[string]any{"groups": []string{"a,b", "c d", "/path/to", "ä,ö"}}, map[string]string{"X-Mcp-Groups": "a%2Cb,c%20d,/path/to,%C3%A4%2C%C3%B6"}, `["groups"]`},
		{"a group that poses as two", "groups", map[string]any{"groups": []string{"x,admins"}}, map[string]string{"X-Mcp-Groups": "x%2Cadmins"}, `["groups"]`},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.IdentityHeaders = c.label
		h, behind := guard(t, config)
		token := goodToken("k1", c.claims)
		for i := 0; i < 2; i++ { // verified, and remembered
			if rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
				t.Fatalf("%s: status %d", c.name, rec.Code)
			}
			for name, want := range c.want {
				got := "-"
				if behind.last[name] != nil {
					got = strings.Join(behind.last[name], "|")
				}
				if got != want {
					t.Errorf("%s: %s: %q, want %q", c.name, name, got, want)
				}
			}
		}
		ask(h, "GET", wikiURL+"/oauth/x")
		payload, err := told(sidecar.lastRequest().Header.Get(hopHeader))
		if err != nil || !strings.Contains(payload, `"identityClaims":`+c.hop+`,`) {
			t.Errorf("%s: %v, the sidecar is told %s", c.name, err, payload)
		}
	}
}

// spellings are ways to write the name of a header that Traefik lets pass and a server may take for
// it.
func spellings(name string) []string {
	all := []string{name, strings.ToLower(name), strings.ToUpper(name)}
	for _, separator := range strings.Split("! # $ % & ' * + . ^ _ ` | ~", " ") {
		all = append(all, strings.ReplaceAll(name, "-", separator), strings.ToLower(strings.Replace(name, "-", separator, 1)))
	}
	return all
}

// Every identity header is dropped, asked for or not, in every spelling, on every route.
func TestIdentityHeadersCannotBeForged(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.IdentityHeaders = "email=X-Forwarded-User,groups=Remote-Groups,name=Z"
	h, behind := guard(t, config)
	// The token has neither groups nor name, so nothing replaces the forged headers.
	token := goodToken("k1", map[string]any{"email": "me@example.com"})
	names := []string{"X-Mcp-Sub", "X-Mcp-Scopes", "X-Mcp-Email", "X-Mcp-Name", "X-Mcp-Groups", "X-Mcp-Client-Id", "X-Mcp-Issuer", "X-Mcp-Assertion",
		"X-Forwarded-User", "Remote-Groups", "Z"}
	for _, name := range names {
		for _, spelling := range spellings(name) {
			forged := []string{spelling, "root"}
			for _, c := range []struct {
				route, method, url string
				headers            []string
			}{
				{"the MCP endpoint", "POST", wikiURL + "/mcp", bearer(token)},
				{"another path", "GET", wikiURL + "/any/thing", bearer(token)},
				{"the OAuth paths", "POST", wikiURL + "/oauth/token", nil},
				{"the metadata", "GET", wikiURL + "/.well-known/oauth-protected-resource", nil},
				{"the path-inserted metadata", "GET", "https://mcp.localhost/.well-known/oauth-protected-resource/wiki", nil},
				{"the metadata below the endpoint", "GET", wikiURL + "/mcp/.well-known/openid-configuration", nil},
			} {
				behind.last = nil
				rec := ask(h, c.method, c.url, append(append([]string{"X-Forwarded-Host", "mcp.localhost"}, c.headers...), forged...)...)
				reached := behind.last
				if c.headers == nil {
					reached = sidecar.lastRequest().Header
				}
				if rec.Code != 200 || reached == nil {
					t.Fatalf("%s at %s: status %d", spelling, c.route, rec.Code)
				}
				for got, values := range reached {
					if strings.Contains(strings.Join(values, " "), "root") {
						t.Errorf("%s passed %s as %s", spelling, c.route, got)
					}
				}
			}
		}
	}
	for _, name := range []string{"X-Forwarded-Users", "X-Forwarded-Usex", "Remote-Group", "Zz", "X-Mcp-Emails", "X-Mcp-Client-Ids"} {
		ask(h, "GET", wikiURL+"/mcp", append(bearer(token), name, "kept")...)
		if strings.Join(behind.last[name], "|") != "kept" {
			t.Errorf("%s did not reach the MCP server", name)
		}
	}
}

// Two middlewares of one tenant that differ in their headers must not share what is remembered of a
// token.
func TestMiddlewaresDoNotShareIdentityHeaders(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	token := goodToken("k1", map[string]any{"email": "me@example.com"})
	for _, label := range []string{"email=X-One", "email=X-Two"} {
		config := wikiConfig(sidecar.server.URL)
		config.IdentityHeaders = label
		h, behind := guard(t, config)
		ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
		name := strings.TrimPrefix(label, "email=")
		if behind.last.Get(name) != "me@example.com" || len(behind.last["X-One"])+len(behind.last["X-Two"]) != 1 {
			t.Errorf("%s: the MCP server saw %v", label, behind.last)
		}
	}
}

func TestAdditionalHeadersAreNotShared(t *testing.T) {
	a := http.Header{}
	b := http.Header{}
	id := &identity{more: []headerValue{{name: "X-User", value: "me"}}}
	identify(a, id)
	identify(b, id)
	a["X-User"][0] = "root"
	if b["X-User"][0] != "me" {
		t.Error("two requests share one slice")
	}
}
