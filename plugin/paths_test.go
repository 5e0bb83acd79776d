//go:build go1.21

package plugin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	const sidecarSays = "200 GET "
	for _, c := range []struct {
		name   string
		prefix string
		path   string
		want   string // status, and for the sidecar what it was asked
	}{
		{"the prefix itself", "", "/wiki", "401"},
		{"the prefix with a slash", "", "/wiki/", "401"},
		{"an endpoint", "", "/wiki/mcp", "401"},
		{"anything below", "", "/wiki/a/b.c?d=e", "401"},
		{"a name that only starts like the prefix", "", "/wikileaks", "404"},
		{"the same with an OAuth path", "", "/wikileaks/oauth/token", "404"},
		{"the prefix in another case", "", "/WIKI/mcp", "404"},
		{"another tenant", "", "/world/mcp", "404"},
		{"the root", "", "/", "404"},
		{"an OAuth path with something before it", "", "/x/wiki/oauth/token", "404"},
		{"an OAuth path of nobody", "", "/oauth/token", "404"},
		{"an OAuth path", "", "/wiki/oauth/token", sidecarSays + "/oauth/token"},
		{"an OAuth path that the sidecar may not know", "", "/wiki/oauth/x/y?z=1", sidecarSays + "/oauth/x/y?z=1"},
		{"an OAuth path further down", "", "/wiki/x/oauth/token", "401"},
		{"a name that only starts like oauth", "", "/wiki/oauth2/token", "401"},
		{"oauth without a slash", "", "/wiki/oauth", "401"},
		{"OAuth in another case", "", "/wiki/OAuth/token", "401"},
		{"a well-known document", "", "/wiki/.well-known/oauth-protected-resource", sidecarSays + "/.well-known/oauth-protected-resource"},
		{"a well-known document of an endpoint", "", "/wiki/.well-known/oauth-protected-resource/mcp", sidecarSays + "/.well-known/oauth-protected-resource/mcp"},
		{"an unknown well-known document", "", "/wiki/.well-known/x", sidecarSays + "/.well-known/x"},
		{"a document below an endpoint, where rmcp looks", "", "/wiki/mcp/.well-known/oauth-protected-resource", sidecarSays + "/.well-known/oauth-protected-resource/mcp"},
		{"another document below an endpoint", "", "/wiki/sse/.well-known/openid-configuration", sidecarSays + "/.well-known/openid-configuration/sse"},
		{"a document below what is no endpoint", "", "/wiki/other/.well-known/oauth-protected-resource", "401"},
		{"a document below a path under an endpoint", "", "/wiki/mcp/x/.well-known/oauth-protected-resource", "401"},
		{"no document below an endpoint", "", "/wiki/mcp/.well-known", "401"},
		{"an OAuth path below an endpoint", "", "/wiki/mcp/oauth/token", "401"},
		{"a document below an endpoint of another tenant", "", "/world/mcp/.well-known/oauth-protected-resource", "404"},
		{"dot segments in a document below an endpoint", "", "/wiki/mcp/.well-known/../x", "400"},
		{"a document with a slash at the end", "", "/wiki/.well-known/oauth-protected-resource/mcp/", sidecarSays + "/.well-known/oauth-protected-resource/mcp/"},
		{"path-inserted, with a slash at the end", "", "/.well-known/oauth-protected-resource/wiki/mcp/", sidecarSays + "/.well-known/oauth-protected-resource/mcp/"},
		{"path-inserted, of the public URL with a slash at the end", "", "/.well-known/oauth-protected-resource/wiki/", sidecarSays + "/.well-known/oauth-protected-resource/"},
		{"path-inserted protected-resource", "", "/.well-known/oauth-protected-resource/wiki", sidecarSays + "/.well-known/oauth-protected-resource"},
		{"path-inserted protected-resource of an endpoint", "", "/.well-known/oauth-protected-resource/wiki/mcp", sidecarSays + "/.well-known/oauth-protected-resource/mcp"},
		{"path-inserted authorization-server", "", "/.well-known/oauth-authorization-server/wiki", sidecarSays + "/.well-known/oauth-authorization-server"},
		{"path-inserted openid-configuration", "", "/.well-known/openid-configuration/wiki", sidecarSays + "/.well-known/openid-configuration"},
		{"path-inserted for a name that only starts like the prefix", "", "/.well-known/openid-configuration/wikileaks", "404"},
		{"path-inserted for another tenant", "", "/.well-known/openid-configuration/world", "404"},
		{"path-inserted for nobody", "", "/.well-known/openid-configuration", "404"},
		{"the server's metadata at the root, when the router brings it here", "", "/.well-known/oauth-authorization-server", sidecarSays + "/.well-known/oauth-authorization-server"},
		{"the same with a slash", "", "/.well-known/oauth-authorization-server/", "404"},
		{"the resource's metadata at the root, when the router brings it here", "", "/.well-known/oauth-protected-resource", sidecarSays + "/.well-known/oauth-protected-resource"},
		{"that with a slash", "", "/.well-known/oauth-protected-resource/", "404"},
		{"the root's OpenID document, which nobody was seen to need", "", "/.well-known/openid-configuration", "404"},
		{"the server's metadata of an endpoint, where older clients look", "", "/.well-known/oauth-authorization-server/wiki/mcp", sidecarSays + "/.well-known/oauth-authorization-server/mcp"},
		{"the server's metadata below an endpoint", "", "/wiki/mcp/.well-known/oauth-authorization-server", sidecarSays + "/.well-known/oauth-authorization-server/mcp"},
		{"path-inserted, another document", "", "/.well-known/acme-challenge/wiki", "404"},
		{"a long prefix", "/a/b", "/a/b/oauth/token", sidecarSays + "/oauth/token"},
		{"half of a long prefix", "/a/b", "/a", "404"},
		{"a long prefix, path-inserted", "/a/b", "/.well-known/openid-configuration/a/b/sse", sidecarSays + "/.well-known/openid-configuration/sse"},
		{"a prefix called oauth", "/oauth", "/oauth/mcp", "401"},
		{"an OAuth path of a prefix called oauth", "/oauth", "/oauth/oauth/token", sidecarSays + "/oauth/token"},
		{"own host, the root", "/", "/", "401"},
		{"own host, an endpoint", "/", "/mcp", "401"},
		{"own host, an OAuth path", "/", "/oauth/token", sidecarSays + "/oauth/token"},
		{"own host, a well-known document", "/", "/.well-known/oauth-protected-resource/mcp", sidecarSays + "/.well-known/oauth-protected-resource/mcp"},

		{"an encoded slash", "", "/wiki/..%2Fworld", "400"},
		{"an encoded slash in a well-known path", "", "/wiki/.well-known%2Foauth-protected-resource", "400"},
		{"an encoded slash in lower case", "", "/wiki%2fmcp", "400"},
		{"an encoded dot segment", "", "/wiki/%2e%2e/world", "400"},
		{"a dot segment", "", "/wiki/../world", "400"},
		{"a dot segment at the end", "", "/wiki/oauth/..", "400"},
		{"a single dot", "", "/wiki/./mcp", "400"},
		{"a dot segment out of an OAuth path", "", "/wiki/oauth/../mcp", "400"},
		{"an encoded letter", "", "/%77iki/mcp", "400"},
		{"a double slash", "", "/wiki//oauth/token", "400"},
		{"a double slash first", "", "//wiki/mcp", "400"},
		{"a backslash", "", `/wiki/..%5Cworld`, "400"},
		{"a path parameter", "", "/wiki/oauth;x=1/token", "400"},
		{"an encoded semicolon", "", "/wiki/oauth%3Bx/token", "400"},
		{"a double-encoded slash", "", "/wiki/..%252Fworld", "400"},
		{"a zero byte", "", "/wiki/mcp%00.png", "400"},
		{"a line break", "", "/wiki/mcp%0d%0aX-Mcp-Sub:%20root", "400"},
		{"an encoded question mark", "", "/wiki/mcp%3Fx", "401"},
		{"letters beyond ASCII", "", "/wiki/s%C3%B8k", "401"},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.PathPrefix = c.prefix
		h, behind := guard(t, config)
		rec := ask(h, "GET", "https://mcp.localhost"+c.path)
		got := rec.Result().Status[:3]
		if rec.Header().Get("X-Served-By") == "sidecar" {
			got += " " + rec.Body.String()
		}
		if got != c.want {
			t.Errorf("%s: %s answers %q, want %q", c.name, c.path, got, c.want)
		}
		if behind.count() != 0 {
			t.Errorf("%s: the MCP server was reached without a token", c.name)
		}
	}
}

// Everybody can read the MCP server's own documents that the label names, but only by a plain GET
// or HEAD of exactly that name. The server does not learn who asks.
func TestWellKnownDocumentsOfTheServer(t *testing.T) {
	for _, c := range []struct {
		name, label, prefix string
		method, path        string
		behind              bool
		status              int
	}{
		{"below the prefix", "openai-apps-challenge, agent-card.json", "", "GET", "/wiki/.well-known/openai-apps-challenge", true, 200},
		{"at the root, if the router brings it here", "openai-apps-challenge agent-card.json", "", "GET", "/.well-known/agent-card.json", true, 200},
		{"a host of its own", "agent-card.json", "/", "GET", "/.well-known/agent-card.json", true, 200},
		{"one in a folder", "mcp/server-card.json", "", "GET", "/wiki/.well-known/mcp/server-card.json", true, 200},
		{"by HEAD", "agent-card.json", "", "HEAD", "/wiki/.well-known/agent-card.json", true, 200},
		{"without the label", "", "", "GET", "/wiki/.well-known/agent-card.json", false, 200},
		{"without the label, at the root", "", "", "GET", "/.well-known/agent-card.json", false, 404},
		{"another document", "agent-card.json", "", "GET", "/wiki/.well-known/agent-card", false, 200},
		{"one below it", "agent-card.json", "", "GET", "/wiki/.well-known/agent-card.json/x", false, 200},
		{"one that begins like it, at the root", "agent-card.json", "", "GET", "/.well-known/agent-card.json5", false, 404},
		{"in other letters", "agent-card.json", "", "GET", "/wiki/.well-known/Agent-Card.json", false, 200},
		{"with a slash at the end", "agent-card.json", "", "GET", "/wiki/.well-known/agent-card.json/", false, 200},
		{"with a query", "agent-card.json", "", "GET", "/wiki/.well-known/agent-card.json?a=b", false, 200},
		{"path-inserted", "agent-card.json", "", "GET", "/.well-known/agent-card.json/wiki", false, 404},
		{"below an endpoint", "agent-card.json", "", "GET", "/wiki/mcp/.well-known/agent-card.json", false, 200},
		{"below what is no endpoint", "agent-card.json", "", "GET", "/wiki/x/.well-known/agent-card.json", false, 401},
		{"by POST", "agent-card.json", "", "POST", "/wiki/.well-known/agent-card.json", false, 200},
		{"by DELETE", "agent-card.json", "", "DELETE", "/wiki/.well-known/agent-card.json", false, 200},
		{"an encoded letter", "agent-card.json", "", "GET", "/wiki/.well-known/%61gent-card.json", false, 400},
		{"the bouncer's own", "agent-card.json", "", "GET", "/wiki/.well-known/oauth-protected-resource", false, 200},
		{"everything else", "agent-card.json", "", "GET", "/wiki/mcp", false, 401},
	} {
		start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.WellKnown = c.label
		config.PathPrefix = c.prefix
		config.IdentityHeaders = "email=X-User"
		h, behind := guard(t, config)
		token := bearer(goodToken("k1", nil))
		if !c.behind {
			token = nil
		}
		for i := 0; i < 2; i++ {
			rec := ask(h, c.method, "https://mcp.localhost"+c.path, append(token, "X-Mcp-Sub", "admin", "X_Mcp_Sub", "admin", "X-User", "admin", "Cookie", "a=b", "Connection", "Upgrade", "Upgrade", "websocket")...)
			if rec.Code != c.status || (behind.count() == i+1) != c.behind || !c.behind && behind.count() != 0 {
				t.Errorf("%s: status %d, the MCP server was asked %d times", c.name, rec.Code, behind.count())
				continue
			}
			for _, name := range []string{"Authorization", "X-Mcp-Sub", "X_Mcp_Sub", "X-Mcp-Scopes", "X-User", "Cookie", "Connection", "Upgrade"} {
				if _, ok := behind.last[name]; ok {
					t.Errorf("%s: the MCP server was told %s %q", c.name, name, behind.last[name])
				}
			}
		}
	}
}

// Some servers believe headers more than the request line, or take the session that a header names.
// A request for a public document must stay just that.
func TestWellKnownDocumentLeadsNowhereElse(t *testing.T) {
	start(t)
	config := wikiConfig(startSidecar(t).server.URL)
	config.WellKnown = "agent-card.json"
	h, behind := guard(t, config)
	for _, name := range []string{"X-Original-Url", "X_original_url", "X-Original-Uri", "X-Original-Method", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method",
		"X-HTTP-Path-Override", "X-Method-Override", "X.Method.Override", "Mcp-Session-Id", "MCP_SESSION_ID", "Mcp-Method", "Last-Event-Id"} {
		req := httptest.NewRequest("GET", "https://mcp.localhost/wiki/.well-known/agent-card.json", nil)
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Accept", "application/json")
		req.Header.Set("X-Origin-Verify", "of a middleware before")
		req.Header[name] = []string{"/wiki/mcp"}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		_, came := behind.last[name]
		if rec.Code != 200 || came || behind.last.Get("Accept") == "" || behind.last.Get("X-Origin-Verify") == "" {
			t.Errorf("%s: status %d, the MCP server was told %v", name, rec.Code, behind.last)
		}
	}
}

// A cache shows one answer to all who ask, scripts or not.
func TestWellKnownDocumentIsForScriptsToo(t *testing.T) {
	for _, origin := range []string{"", "https://a.example", "null"} {
		start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.WellKnown = "agent-card.json"
		config.CORS = "true"
		h, _ := guard(t, config)
		var headers []string
		if origin != "" {
			headers = []string{"Origin", origin}
		}
		rec := ask(h, "GET", wikiURL+"/.well-known/agent-card.json", headers...)
		if rec.Code != 200 || rec.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("Origin %q: %d %v", origin, rec.Code, rec.Header())
		}
	}
}

// Any browser may open such a document, at the origin of the consent page: no script of it may run
// there, and no cookie may come from it.
func TestWellKnownDocumentRunsNothingInTheOriginOfTheConsentPage(t *testing.T) {
	for name, c := range map[string]struct {
		answer   func(http.ResponseWriter)
		policies []string
	}{
		"a page": {func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, "<script>1</script>") }, []string{"sandbox"}},
		"with a status": {func(rw http.ResponseWriter) {
			rw.WriteHeader(http.StatusEarlyHints)
			rw.WriteHeader(http.StatusNotFound)
		}, []string{"sandbox"}},
		"with a policy of its own": {func(rw http.ResponseWriter) {
			rw.Header().Set("Content-Security-Policy", "sandbox allow-scripts allow-same-origin")
			_, _ = io.WriteString(rw, "<script>1</script>")
		}, []string{"sandbox allow-scripts allow-same-origin", "sandbox"}},
		"without a body": {func(rw http.ResponseWriter) { rw.Header().Add("Set-Cookie", "a=b") }, []string{"sandbox"}},
		"with cookies": {func(rw http.ResponseWriter) {
			rw.Header().Add("Set-Cookie", "__Host-a=b; Path=/; Secure")
			rw.Header().Set("Clear-Site-Data", `"cookies"`)
			rw.Header().Set("NEL", `{"report_to":"a","max_age":1,"success_fraction":1}`)
			rw.Header().Set("Report-To", `{"group":"a","max_age":1,"endpoints":[]}`)
			rw.Header().Set("Reporting-Endpoints", `a="https://a.example"`)
			rw.Header().Set("X-Content-Type-Options", "none")
			rw.WriteHeader(http.StatusOK)
		}, []string{"sandbox"}},
	} {
		start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.WellKnown = "agent-card.json"
		h, err := New(context.Background(), http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { c.answer(rw) }), config, "wiki")
		if err != nil {
			t.Fatal(err)
		}
		rec := ask(h, "GET", wikiURL+"/.well-known/agent-card.json")
		got := rec.Result().Header
		if fmt.Sprint(got["Content-Security-Policy"]) != fmt.Sprint(c.policies) || fmt.Sprint(got["X-Content-Type-Options"]) != "[nosniff]" || hasAny(got, "Set-Cookie", "Clear-Site-Data", "Nel", "Report-To", "Reporting-Endpoints") {
			t.Errorf("%s: %d %v", name, rec.Code, got)
		}
	}
}

func hasAny(h http.Header, names ...string) bool {
	for _, name := range names {
		if h[name] != nil {
			return true
		}
	}
	return false
}

// A body, or a promise of one, is more than a plain read.
func TestWellKnownDocumentIsReadWithoutABody(t *testing.T) {
	for _, length := range []int64{3, -1} {
		start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.WellKnown = "agent-card.json"
		h, behind := guard(t, config)
		req := httptest.NewRequest("GET", "https://mcp.localhost/wiki/.well-known/agent-card.json", strings.NewReader("abc"))
		req.ContentLength = length
		req.Header.Set("X-Forwarded-Proto", "https")
		h.ServeHTTP(httptest.NewRecorder(), req)
		if behind.count() != 0 {
			t.Errorf("length %d: the body reached the MCP server", length)
		}
	}
}

// HTTP/3 does not say that a request has no body. Nor do clients that send an empty body in chunks,
// with trailers, which some servers take for headers.
func TestWellKnownDocumentIsReadOverHTTP3(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.WellKnown = "agent-card.json"
		length, trailers := int64(0), 0
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			length = req.ContentLength
			trailers = len(req.Trailer)
			rw.WriteHeader(http.StatusAccepted)
		})
		h, _ := New(context.Background(), next, config, "wiki@docker")
		req := httptest.NewRequest(method, "https://mcp.localhost/wiki/.well-known/agent-card.json", strings.NewReader(""))
		req.ContentLength = -1
		req.Trailer = http.Header{"X-Mcp-Sub": {"admin"}}
		req.Header.Set("X-Forwarded-Proto", "https")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != http.StatusAccepted || length != 0 || trailers != 0 {
			t.Errorf("%s: status %d, the MCP server got a length of %d and %d trailers", method, rec.Code, length, trailers)
		}
	}
}

func TestPathOfAnOptionsStarRequestIsNobodys(t *testing.T) {
	start(t)
	h, behind := guard(t, wikiConfig("http://127.0.0.1:1"))
	req := httptest.NewRequest("OPTIONS", "https://mcp.localhost/", nil)
	req.URL.Path = "*"
	rec := httptest.NewRecorder()
	req.Header.Set("X-Forwarded-Proto", "https")
	h.ServeHTTP(rec, req)
	if rec.Code != 404 || behind.count() != 0 || !strings.Contains(rec.Body.String(), "not_found") {
		t.Errorf("status %d %s", rec.Code, rec.Body)
	}
}
