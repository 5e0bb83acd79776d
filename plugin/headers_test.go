//go:build go1.21

package plugin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func rawExchange(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestForgedHeadersNeverReachTheMCPServer(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	for _, name := range []string{
		"X-Mcp-Sub", "x-mcp-sub", "X-MCP-SUB", "X_Mcp_Sub", "X_mcp_sub", "X-Mcp_sub", "X-mcp_Sub", "X.mcp.sub", "X!mcp#sub", "X$mcp%sub", "X&mcp'sub",
		"X*mcp+sub", "X^mcp`sub", "X|mcp~sub", "X-Mcp-Scopes", "X_mcp_scopes", "x.MCP.scopes", "X-Mcp.scopes", "X-Mcpb-Hop", "X_mcpb_hop", "x~mcpb~hop",
	} {
		rec := ask(h, "GET", wikiURL+"/mcp", append(bearer(goodToken("k1", nil)), name, "root")...)
		if rec.Code != 200 {
			t.Fatalf("%s: status %d", name, rec.Code)
		}
		for got, values := range behind.last {
			if strings.Contains(strings.Join(values, " "), "root") {
				t.Errorf("%s reached the MCP server as %s", name, got)
			}
		}
		if len(behind.last["X-Mcp-Sub"]) != 1 || behind.last["X-Mcp-Sub"][0] != "user-1" || len(behind.last["X-Mcp-Scopes"]) != 1 || behind.last["X-Mcp-Scopes"][0] != "openid mcp" {
			t.Errorf("%s: identity %v %v", name, behind.last["X-Mcp-Sub"], behind.last["X-Mcp-Scopes"])
		}
	}
}

// Every row of identityTable is dropped from requests, in every spelling that a server might take
// for it, whether a label asks for the header or not. So a row that is added is dropped too.
func TestIdentityHeadersAreDropped(t *testing.T) {
	for _, label := range []string{"", "email, name, groups, client_id, issuer, assertion"} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.IdentityHeaders = label
		h, behind := guard(t, config)
		for _, row := range identityTable {
			if n := len(row.header); n < minForgeable || n > maxForgeable || !strings.HasPrefix(row.header, "X-Mcp-") {
				t.Errorf("%s is passed over by dropForged for its length or its beginning", row.header)
			}
			if got, _ := identityClaimOf(row.claim); got.header != row.header {
				t.Errorf("the table has the claim %s twice", row.claim)
			}
			for _, separator := range []string{"-", "_", ".", "~"} {
				name := strings.ReplaceAll(row.header, "-", separator)
				for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
					ask(h, "GET", wikiURL+"/mcp", append(bearer(goodToken("k1", nil)), spelling, "forged")...)
					for got, values := range behind.last {
						if strings.Contains(strings.Join(values, " "), "forged") {
							t.Errorf("label %q: %s reached the MCP server as %s", label, spelling, got)
						}
					}
				}
			}
		}
	}
}

func TestHeadersThatAreNotOursPass(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	for _, name := range []string{"Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-Region", "Last-Event-Id", "Origin", "X-Mcp-Sum", "X-Request-Id", "X-Mcp-Subject", "Y-Mcp-Sub", "X-Mcp-Scopez", "Content-Type"} {
		ask(h, "GET", wikiURL+"/mcp", append(bearer(goodToken("k1", nil)), name, "kept")...)
		if strings.Join(behind.last[name], "|") != "kept" {
			t.Errorf("%s did not reach the MCP server", name)
		}
	}
}

func TestCredentialsNeverReachTheMCPServer(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		header  string
		want    string
	}{
		{"the token", nil, "Authorization", ""},
		{"only cookies of the bouncer", []string{"Cookie", "__Host-mcpb-flow=a; mcpb-consent=b"}, "Cookie", ""},
		{"among others", []string{"Cookie", "a=1; __Host-mcpb-flow=x;b=2 ; mcpb-x=y; mcpbx=3"}, "Cookie", "a=1;b=2 ; mcpbx=3"},
		{"in another case, which browsers treat as the same prefix", []string{"Cookie", "__HOST-mcpb-flow=x; a=1"}, "Cookie", "a=1"},
		{"in a second header", []string{"Cookie", "a=1", "Cookie", "mcpb-flow=x"}, "Cookie", "a=1"},
		{"other cookies", []string{"Cookie", "a=1; b=mcpb-x=2"}, "Cookie", "a=1; b=mcpb-x=2"},
		{"one whose value looks like another", []string{"Cookie", "a=1; mcpb-x=mcpb-y; b=2"}, "Cookie", "a=1; b=2"},
		{"one that begins and ends the header", []string{"Cookie", "mcpb-x"}, "Cookie", ""},
		{"two in a row, without blanks", []string{"Cookie", "mcpb-x=1;__Host-mcpb-y=2;a=1"}, "Cookie", "a=1"},
		{"a letter that grows when it is folded", []string{"Cookie", "a=\u0130\u0130\u0130; MCPB-x=1; b=\u212a"}, "Cookie", "a=\u0130\u0130\u0130; b=\u212a"},
		{"as many as are looked at", []string{"Cookie", strings.Repeat("mcpb-x=1; ", maxOwnCookies) + "a=1"}, "Cookie", "a=1"},
		{"more than are looked at: none of all", []string{"Cookie", "a=1; " + strings.Repeat("mcpb-x=1; ", maxOwnCookies+1) + "b=2"}, "Cookie", ""},
		{"Connection that names the identity", []string{"Connection", "X-Mcp-Sub, x-mcp-scopes"}, "Connection", ""},
		{"Connection that upgrades too", []string{"Connection", "x-mcp-sub, upgrade", "Upgrade", "websocket"}, "Connection", "Upgrade"},
		{"an upgrade to a WebSocket", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, "Upgrade", "websocket"},
		{"an upgrade to HTTP/2", []string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "Http2-Settings", "AAMAAABk"}, "Upgrade", ""},
		{"its connection", []string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "Http2-Settings", "AAMAAABk"}, "Connection", ""},
		{"its settings", []string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "Http2-Settings", "AAMAAABk"}, "Http2-Settings", ""},
		{"its settings beside a WebSocket", []string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "websocket", "Http2-Settings", "AAMAAABk"}, "Http2-Settings", ""},
		{"an upgrade that no connection names", []string{"Upgrade", "h2c"}, "Upgrade", ""},
		{"a WebSocket that no connection names", []string{"Upgrade", "websocket"}, "Upgrade", ""},
		{"a choice of upgrades", []string{"Connection", "Upgrade", "Upgrade", "websocket, h2c"}, "Upgrade", ""},
		{"two upgrades", []string{"Connection", "Upgrade", "Upgrade", "websocket", "Upgrade", "h2c"}, "Upgrade", ""},
		{"a WebSocket in capitals", []string{"Connection", "Upgrade", "Upgrade", "WebSocket"}, "Upgrade", ""},
		{"TLS within HTTP", []string{"Connection", "Upgrade", "Upgrade", "TLS/1.3"}, "Upgrade", ""},
		{"Connection that upgrades to nothing", []string{"Connection", "upgrade"}, "Connection", ""},
	} {
		start(t)
		sidecar := startSidecar(t)
		h, behind := guard(t, wikiConfig(sidecar.server.URL))
		rec := ask(h, "GET", wikiURL+"/mcp", append(bearer(goodToken("k1", nil)), c.headers...)...)
		if rec.Code != 200 || strings.Join(behind.last[c.header], "|") != c.want {
			t.Errorf("%s: status %d, %s: %q, want %q", c.name, rec.Code, c.header, behind.last[c.header], c.want)
		}
	}
}

func TestSubjects(t *testing.T) {
	for _, c := range []struct{ name, sub, want string }{
		{"printable", "auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"},
		{"an address", "me@example.com", "me@example.com"},
		{"beyond ASCII", "zoë", "zo%C3%AB"},
		{"a blank", "a b", "a%20b"},
		{"a percent sign", "a%20b", "a%2520b"},
		{"a line break", "a\r\nX-Mcp-Scopes: all", "a%0D%0AX-Mcp-Scopes:%20all"},
	} {
		start(t)
		sidecar := startSidecar(t)
		h, behind := guard(t, wikiConfig(sidecar.server.URL))
		ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", map[string]any{"sub": c.sub, "scope": nil}))...)
		if strings.Join(behind.last["X-Mcp-Sub"], "|") != c.want {
			t.Errorf("%s: X-Mcp-Sub %q, want %q", c.name, behind.last["X-Mcp-Sub"], c.want)
		}
		if len(behind.last["X-Mcp-Scopes"]) != 1 || behind.last["X-Mcp-Scopes"][0] != "" {
			t.Errorf("%s: X-Mcp-Scopes %q, want it present and empty", c.name, behind.last["X-Mcp-Scopes"])
		}
	}
}

// A handler that changes the identity of one request must not change that of another.
func TestIdentityHeadersAreNotShared(t *testing.T) {
	a := http.Header{}
	b := http.Header{}
	id := &identity{subject: "user-1"}
	identify(a, id)
	identify(b, id)
	a["X-Mcp-Sub"][0] = "root"
	if b["X-Mcp-Sub"][0] != "user-1" {
		t.Error("two requests share one slice")
	}
}

// Browsers send the newest cookie last. A long header must not keep Traefik busy: older cookies are
// not passed on.
func TestSidecarGetsTheNewestCookies(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	all, want := []string{}, []string{}
	for i := 0; i < 800; i++ {
		cookie := fmt.Sprintf("__Host-mcpb-flow-%d=a", i)
		all = append(all, "other=b", cookie)
		if i >= 800-maxOwnCookies {
			want = append(want, cookie)
		}
	}
	rec := ask(h, "GET", wikiURL+"/oauth/callback", "Cookie", strings.Join(all, "; "))
	if rec.Code != 200 || sidecar.lastRequest().Header.Get("Cookie") != strings.Join(want, "; ") {
		t.Errorf("status %d, the sidecar got %q", rec.Code, sidecar.lastRequest().Header.Get("Cookie"))
	}
}
