package gateway_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
)

func listen(t *testing.T, server *http.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// answering is a sidecar that other proxies ask. more are lines of the tenant wiki.
func (w *world) answering(more ...string) string {
	w.t.Helper()
	a := &gateway.ForwardAuth{File: w.file, Sidecar: w.sidecar.URL, Log: w.logger(), Hop: w.iss.Handler()}
	content := strings.ReplaceAll(w.tenants(more...), "    backend: "+w.server.URL+"\n", "")
	if err := a.Load([]byte(content)); err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(a)
	w.t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// proxied are the headers by which a proxy says what it asks about.
func proxied(method, host, uri string) http.Header {
	return http.Header{"X-Forwarded-Method": {method}, "X-Forwarded-Host": {host}, "X-Forwarded-Uri": {uri}, "X-Forwarded-Proto": {"https"}}
}

// A proxy is told what the plugin would have done: 200 and who calls, or the plugin's own refusal.
func TestForwardAuthAnswersAsThePluginDoes(t *testing.T) {
	w := newWorld(t)
	addr := w.answering("requiredScopes: read", "identityHeaders: issuer, sub=X-Remote-User")
	wiki, world := w.wikiKey(), w.worldKey()
	for _, c := range []struct {
		name, tenant, method, host, uri, token string
		status                                 int
	}{
		{"no token", "wiki", "GET", wikiHost, "/wiki/mcp", "", 401},
		{"a token", "wiki", "POST", wikiHost, "/wiki/mcp?a=b", wiki, 200},
		{"the same again", "wiki", "POST", wikiHost, "/wiki/mcp?a=b", wiki, 200},
		{"with the port", "wiki", "DELETE", wikiHost + ":443", "/wiki/mcp", wiki, 200},
		{"a token of another tenant", "wiki", "GET", wikiHost, "/wiki/mcp", world, 401},
		{"the URI of another tenant, with its token", "wiki", "GET", wikiHost, "/world/mcp", world, 404},
		{"the URI of another tenant, with a token", "wiki", "GET", wikiHost, "/world/mcp", wiki, 404},
		{"another host", "wiki", "GET", "alone.example.com", "/wiki/mcp", wiki, 421},
		{"a tenant that there is not", "wikis", "GET", wikiHost, "/wiki/mcp", wiki, 403},
		{"no tenant", "", "GET", wikiHost, "/wiki/mcp", wiki, 403},
		{"a path in a tenant's name", "wiki/mcp", "GET", wikiHost, "/wiki/mcp", wiki, 403},
		{"an OAuth path", "wiki", "GET", wikiHost, "/wiki/oauth/jwks.json", wiki, 403},
		{"metadata", "wiki", "GET", wikiHost, "/wiki/.well-known/oauth-authorization-server", "", 403},
		{"metadata where the standards look", "wiki", "GET", wikiHost, "/.well-known/oauth-authorization-server/wiki", "", 403},
		{"a preflight, to which the plugin says yes", "wiki", "OPTIONS", wikiHost, "/wiki/mcp", "", 403},
		{"dot segments", "wiki", "GET", wikiHost, "/wiki/../world/mcp", wiki, 400},
		{"encoded dot segments", "wiki", "GET", wikiHost, "/wiki/%2e%2e/world/mcp", wiki, 400},
		{"two slashes", "wiki", "GET", wikiHost, "//wiki/mcp", wiki, 400},
		{"a URI with a host", "wiki", "GET", wikiHost, "http://mcp.example.com/wiki/mcp", wiki, 403},
		{"a URI without a path", "wiki", "GET", wikiHost, "*", wiki, 403},
		{"no method", "wiki", "", wikiHost, "/wiki/mcp", wiki, 403},
		{"two hosts in one header", "wiki", "GET", wikiHost + ", " + wikiHost, "/wiki/mcp", wiki, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := proxied(c.method, c.host, c.uri)
			if c.method == "OPTIONS" {
				h["Origin"], h["Access-Control-Request-Method"] = []string{"https://app.example.com"}, []string{"POST"}
			}
			resp, body := ask(t, addr, "GET", "bouncer:8080", "/forward-auth/"+c.tenant, c.token, h)
			if resp.StatusCode != c.status {
				t.Fatalf("%s %s", resp.Status, body)
			}
			sub := resp.Header.Get("X-Mcp-Sub")
			switch {
			case c.status != 200 && sub != "":
				t.Errorf("refused, and says who calls: %s", sub)
			case c.status == 200 && (sub != "robot-wiki" || resp.Header.Get("X-Mcp-Scopes") != "read" || resp.Header.Get("X-Mcp-Issuer") != "https://idp.invalid" || resp.Header.Get("X-Remote-User") != "robot-wiki"):
				t.Errorf("says %v", resp.Header)
			case c.status == 401:
				if got := resp.Header.Get("Www-Authenticate"); !strings.Contains(got, `resource_metadata="https://mcp.example.com/wiki/.well-known/oauth-protected-resource/mcp"`) {
					t.Errorf("challenged with %q", got)
				}
			}
			if resp.Header["Authorization"] != nil {
				t.Error("the token is told to the proxy, which would pass it on")
			}
		})
	}
}

// Headers by which a client would be somebody else, or have its connection upgraded, refuse the
// request as a whole, in every spelling: the proxy overwrites one spelling only.
func TestForwardAuthRefusesForgedHeaders(t *testing.T) {
	w := newWorld(t)
	addr := w.answering("identityHeaders: email=X-Forwarded-Email, name=X-Remote-Name")
	token := w.wikiKey()
	for range 2 { // the plugin takes a shorter way the second time
		for _, name := range []string{
			"X-Mcp-Sub", "x-mcp-sub", "X_Mcp_Sub", "X.Mcp.Sub", "X-Mcp_Sub", "X-Mcp-Scopes", "X-Mcp-Email", "x_mcp_assertion", "X-Mcp-Call", "X-Mcpb-Authorization",
			"X-Forwarded-Email", "X_Forwarded_Email", "X-Remote-Name", "x_remote_name", "Upgrade", "Http2-Settings", "Sec-Websocket-Key",
		} {
			h := proxied("GET", wikiHost, "/wiki/mcp")
			h[name] = []string{"admin"}
			resp, body := ask(t, addr, "GET", "bouncer:8080", "/forward-auth/wiki", token, h)
			if resp.StatusCode != 403 || resp.Header["X-Mcp-Sub"] != nil {
				t.Errorf("%s: %s %s %v", name, resp.Status, body, resp.Header)
			}
		}
		// what MCP servers take from their clients is not forged
		h := proxied("GET", wikiHost, "/wiki/mcp")
		h["X-Mcp-Toolsets"], h["Mcp-Session-Id"], h["X-Original-Uri"] = []string{"repos"}, []string{"1"}, []string{"/world/mcp"}
		h["Cookie"] = []string{"__Host-mcpb-flow=secret; theme=dark"}
		resp, body := ask(t, addr, "GET", "bouncer:8080", "/forward-auth/wiki", token, h)
		if resp.StatusCode != 200 || resp.Header.Get("Cookie") != "theme=dark" || resp.Header["X-Mcp-Toolsets"] != nil {
			t.Errorf("%s %s %v", resp.Status, body, resp.Header)
		}
	}
	if log := w.log.String(); !strings.Contains(log, "a client sent a header that only the bouncer may set") {
		t.Error(log)
	}
}

// A header that a proxy and a client both sent says two things: nobody is let through by either.
func TestForwardAuthWantsEachWordOfTheProxyOnce(t *testing.T) {
	w := newWorld(t)
	addr := w.answering()
	for _, name := range []string{"X-Forwarded-Method", "X-Forwarded-Host", "X-Forwarded-Uri"} {
		for what, values := range map[string][]string{"missing": nil, "twice": {"GET", "GET"}} {
			h := proxied("GET", wikiHost, "/wiki/mcp")
			delete(h, name)
			if values != nil {
				h[name] = values
			}
			if resp, body := ask(t, addr, "GET", "bouncer:8080", "/forward-auth/wiki", w.wikiKey(), h); resp.StatusCode != 403 {
				t.Errorf("%s %s: %s %s", name, what, resp.Status, body)
			}
		}
	}
	if log := w.log.String(); !strings.Contains(log, "the proxy must send X-Forwarded-Uri once") {
		t.Error(log)
	}
}

// Clients reach the OAuth paths of a tenant at its host without a hop header, and nothing else;
// whoever has a hop header is answered as ever.
func TestForwardAuthServesOAuthPathsOfTenants(t *testing.T) {
	w := newWorld(t)
	addr := w.answering()
	for _, c := range []struct {
		name, host, path, token string
		header                  http.Header
		status                  int
		says                    string
	}{
		{"metadata", wikiHost, "/wiki/.well-known/oauth-authorization-server", "", nil, 200, `"issuer":"https://mcp.example.com/wiki"`},
		{"metadata where the standards look", wikiHost, "/.well-known/oauth-protected-resource/world/mcp", "", nil, 200, `"resource":"https://mcp.example.com/world/mcp"`},
		{"keys", wikiHost, "/wiki/oauth/jwks.json", "", nil, 200, `"keys"`},
		{"another host in a header", wikiHost, "/wiki/.well-known/oauth-authorization-server", "", http.Header{"X-Forwarded-Host": {"alone.example.com"}}, 200, `"issuer":"https://mcp.example.com/wiki"`},
		{"a host of nobody, another in a header", "elsewhere.example.com", "/wiki/oauth/jwks.json", "", http.Header{"X-Forwarded-Host": {wikiHost}}, 403, `"forbidden"`},
		{"a protected path", wikiHost, "/wiki/mcp", "", nil, 401, `"unauthorized"`},
		{"a protected path, with a token", wikiHost, "/wiki/mcp", w.wikiKey(), nil, 404, `"not_found"`},
		{"a path of nobody", wikiHost, "/other", "", nil, 403, `"forbidden"`},
		{"the plugin's own paths", wikiHost, "/hop/deny", "", nil, 403, `"forbidden"`},
		{"a hop header that is forged", wikiHost, "/wiki/oauth/jwks.json", "", http.Header{"X-Mcpb-Hop": {"mbh1_AAAA"}}, 403, `"forbidden"`},
		{"dot segments to the question", wikiHost, "/wiki/oauth/../../forward-auth/wiki", w.wikiKey(), nil, 400, `"`},
		{"health", "localhost", "/healthz", "", nil, 200, `"status":"ok"`},
	} {
		resp, body := ask(t, addr, "GET", c.host, c.path, c.token, c.header)
		if resp.StatusCode != c.status || !strings.Contains(body, c.says) || resp.Header["X-Mcp-Sub"] != nil {
			t.Errorf("%s: %s %s", c.name, resp.Status, body)
		}
	}
}

// Whoever has a client's token could ask here for the provider's, which no client may see. So a
// tenants file with the label ends the start, and one that is changed to have it is not taken.
func TestForwardAuthTellsNobodyTheProvidersToken(t *testing.T) {
	w := newWorld(t)
	a := &gateway.ForwardAuth{File: w.file, Sidecar: w.sidecar.URL, Log: w.logger(), Hop: w.iss.Handler()}
	content := func(more ...string) []byte {
		return []byte(strings.ReplaceAll(w.tenants(more...), "    backend: "+w.server.URL+"\n", ""))
	}
	with := content("upstreamToken: scopes=repo", "identityHeaders: issuer")
	if err := a.Load(with); err == nil || !strings.Contains(err.Error(), "label upstreamToken") {
		t.Fatalf("at the start: %v", err)
	}
	if err := a.Load(content()); err != nil {
		t.Fatal(err)
	}
	if err := a.Load(with); err == nil {
		t.Fatal("at a reload it is taken")
	}
	server := httptest.NewServer(a)
	defer server.Close()
	resp, body := ask(t, strings.TrimPrefix(server.URL, "http://"), "GET", "bouncer:8080", "/forward-auth/wiki", w.wikiKey(), proxied("GET", wikiHost, "/wiki/mcp"))
	if resp.StatusCode != 200 || resp.Header["X-Mcp-Issuer"] != nil || resp.Header["X-Upstream-Access-Token"] != nil {
		t.Errorf("after a file that was refused: %s %s %v", resp.Status, body, resp.Header)
	}
}
