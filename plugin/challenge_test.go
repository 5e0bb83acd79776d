//go:build go1.21

package plugin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// MCP has no HEAD. Clients that begin a login with it find the documents by themselves.
func TestChallengeToHeadIsBare(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.RequiredScopes = "mcp"
	h, behind := guard(t, config)
	for i := 0; i < 2; i++ { // the second time at a known address
		rec := ask(h, "HEAD", wikiURL+"/mcp")
		if rec.Code != 401 || strings.Join(challenges(rec), "|") != "Bearer" {
			t.Errorf("without a token: %d %q", rec.Code, challenges(rec))
		}
	}
	expired := bearer(goodToken("k1", map[string]any{"exp": clock.Load() - 61}))
	rec := ask(h, "HEAD", wikiURL+"/mcp", expired...)
	if rec.Code != 401 || !strings.Contains(strings.Join(challenges(rec), "|"), "invalid_token") {
		t.Errorf("with an expired token: %d %q", rec.Code, challenges(rec))
	}
	if behind.count() != 0 {
		t.Error("the MCP server was reached")
	}
}

// The challenges are compared byte for byte. The first row is what the original MCPBouncer's README
// promises.
func TestChallenges(t *testing.T) {
	const metadata = `resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource"`
	const ofMCP = `resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp"`
	const bad = `Bearer error="invalid_token", error_description="`
	const unauthorized = `{"error":"unauthorized"}`
	other := strings.Repeat("a", maxToken+1)
	for _, c := range []struct {
		name     string
		required string
		path     string
		headers  []string
		status   int
		want     string
		body     string
	}{
		{"no token", "", "/anything", nil, 401, "Bearer " + metadata, unauthorized},
		{"no token at the public URL", "", "", nil, 401, "Bearer " + metadata, unauthorized},
		{"no token at an MCP endpoint", "", "/mcp", nil, 401, "Bearer " + ofMCP, unauthorized},
		{"no token at an MCP endpoint with a slash at the end", "", "/mcp/", nil, 401, `Bearer resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp/"`, unauthorized},
		{"no token at the public URL with a slash at the end", "", "/", nil, 401, `Bearer resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource/"`, unauthorized},
		{"no token below an MCP endpoint", "", "/mcp/x", nil, 401, "Bearer " + metadata, unauthorized},
		{"no token, with required scopes", "a b", "/anything", nil, 401, `Bearer scope="a b", ` + metadata, unauthorized},
		{"no token, with required scopes, at an MCP endpoint", "a b", "/mcp", nil, 401, `Bearer scope="a b", ` + ofMCP, unauthorized},
		{"another scheme", "", "/anything", []string{"Authorization", "Basic YTpi"}, 401, "Bearer " + metadata, unauthorized},
		{"a session id and no token", "", "/mcp", []string{"Mcp-Session-Id", "a1", "Mcp-Protocol-Version", "2025-06-18"}, 401, "Bearer " + ofMCP, unauthorized},
		{"a token in the query", "", "/anything?access_token=VALID", nil, 401, "Bearer " + metadata, unauthorized},
		{"garbage", "", "/anything", bearer("garbage"), 401, bad + `the access token is malformed", ` + metadata, unauthorized},
		{"no token after the scheme", "", "/anything", bearer(""), 401, bad + `the access token is malformed", ` + metadata, unauthorized},
		{"a token that is too long", "", "/anything", bearer(other), 401, bad + `the access token is malformed", ` + metadata, unauthorized},
		{"two headers with a good token each", "", "/anything", []string{"Authorization", "Bearer VALID", "Authorization", "Bearer VALID"}, 400, `Bearer error="invalid_request", error_description="the request has more than one Authorization header", ` + metadata, `{"error":"invalid_request"}`},
		{"expired", "", "/mcp", bearer("EXPIRED"), 401, bad + `the access token has expired", ` + ofMCP, unauthorized},
		{"a scope is missing", "openid admin", "/mcp", bearer("VALID"), 403, `Bearer error="insufficient_scope", scope="openid admin", ` + ofMCP, `{"error":"insufficient_scope"}`},
		{"a scope that another one starts with", "mc", "/x", bearer("VALID"), 403, `Bearer error="insufficient_scope", scope="mc", ` + metadata, `{"error":"insufficient_scope"}`},
		{"all scopes are there", "mcp openid", "/mcp", bearer("VALID"), 200, "", ""},
		{"the scheme in another case", "", "/mcp", []string{"Authorization", "bEARER VALID"}, 200, "", ""},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.RequiredScopes = c.required
		h, _ := guard(t, config)
		replace := strings.NewReplacer("VALID", goodToken("k1", nil), "EXPIRED", goodToken("k1", map[string]any{"exp": clock.Load() - 61}))
		headers := []string{}
		for _, text := range c.headers {
			headers = append(headers, replace.Replace(text))
		}
		for i := 0; i < 2; i++ { // the second time from the cache
			rec := ask(h, "POST", wikiURL+replace.Replace(c.path), headers...)
			if rec.Code != c.status || strings.Join(challenges(rec), "|") != c.want || rec.Body.String() != c.body {
				t.Errorf("%s:\ngot  %d %s %s\nwant %d %s %s", c.name, rec.Code, challenges(rec), rec.Body, c.status, c.want, c.body)
			}
			if c.status == 200 {
				continue
			}
			if rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: headers %v", c.name, rec.Header())
			}
			if len(rec.Header()["Access-Control-Allow-Origin"]) != 0 {
				t.Errorf("%s: CORS without an Origin", c.name)
			}
		}
	}
}

func TestTokenIsNeededForEveryMethod(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X"} {
		start(t)
		h, behind := guard(t, wikiConfig("http://127.0.0.1:1"))
		rec := ask(h, method, wikiURL+"/mcp", "Origin", "https://a.example")
		if rec.Code != 401 || behind.count() != 0 {
			t.Errorf("%s: status %d, %d calls", method, rec.Code, behind.count())
		}
		if rec.Header().Get("Access-Control-Allow-Origin") != "*" || !strings.HasPrefix(rec.Header().Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
			t.Errorf("%s: a script cannot read the challenge: %v", method, rec.Header())
		}
	}
}

// A client in a browser is told what is wrong, and does not see "failed to fetch". Pages are for
// people: RFC 9700 §2.1 wants no CORS there.
func TestErrorsOfTheMiddlewareCanBeReadByScripts(t *testing.T) {
	good := wikiConfig("http://127.0.0.1:1")
	good.PublicURL = "https://mcp.localhost/wiki"
	bad := wikiConfig("http://127.0.0.1:1")
	bad.Exchange = "never"
	for _, c := range []struct {
		name   string
		config *Config
		url    string
		status int
		shared bool
	}{
		{"a label that is wrong", bad, wikiURL + "/mcp", 503, true},
		{"a sidecar that is away", good, wikiURL + "/oauth/token", 502, true},
		{"its documents", good, wikiURL + "/.well-known/oauth-protected-resource", 502, true},
		{"keys that cannot be fetched", good, wikiURL + "/mcp", 503, true},
		{"a path of nobody", good, "https://mcp.localhost/wikileaks", 404, true},
		{"a path in another spelling", good, wikiURL + "//mcp", 400, true},
		{"another host", good, "https://other.example/wiki/mcp", 421, true},
		{"the page of a login", good, wikiURL + "/oauth/authorize", 502, false},
	} {
		for _, origin := range []string{"", "https://a.example"} {
			start(t)
			h, _ := guard(t, c.config)
			headers := bearer(goodToken("k1", nil))
			want := ""
			if origin != "" {
				headers = append(headers, "Origin", origin)
				if c.shared {
					want = "*"
				}
			}
			rec := ask(h, "GET", c.url, headers...)
			if rec.Code != c.status || rec.Header().Get("Access-Control-Allow-Origin") != want {
				t.Errorf("%s, Origin %q: %d %v", c.name, origin, rec.Code, rec.Header())
			}
		}
	}
}

// While the sidecar is away a preflight is answered, so that the answer to the request itself tells
// the script what is wrong. No script asks for pages.
func TestPreflightWhileTheSidecarIsAway(t *testing.T) {
	for _, c := range []struct {
		path    string
		headers []string
		status  int
	}{
		{"/oauth/token", []string{"Origin", "https://a.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-custom"}, 204},
		{"/.well-known/oauth-protected-resource", []string{"Origin", "https://a.example", "Access-Control-Request-Method", "GET"}, 204},
		{"/oauth/token", []string{"Origin", "https://a.example"}, 502},
		{"/oauth/authorize", []string{"Origin", "https://a.example", "Access-Control-Request-Method", "GET"}, 502},
	} {
		start(t)
		h, behind := guard(t, wikiConfig("http://127.0.0.1:1"))
		rec := ask(h, "OPTIONS", wikiURL+c.path, c.headers...)
		if rec.Code != c.status || behind.count() != 0 {
			t.Errorf("%s %v: status %d", c.path, c.headers, rec.Code)
		}
		if allowed := rec.Header().Get("Access-Control-Allow-Headers"); (allowed != "") != (c.status == 204) {
			t.Errorf("%s %v: allowed %q", c.path, c.headers, allowed)
		}
	}
}

// With the label cors the MCP server's answers can be read by scripts too, if it sends no CORS
// headers itself. Traefik's proxies add what it sends to what is set.
func TestAnswersOfTheServerCanBeReadByScripts(t *testing.T) {
	for _, c := range []struct {
		name, label, origin string
		server              string // its own Access-Control-Allow-Origin
		want                string
		complains           bool
	}{
		{"no label", "", "https://a.example", "", "", false},
		{"no label, a server that sends its own", "", "https://a.example", "*", "*", false},
		{"false", "false", "https://a.example", "", "", false},
		{"the label", "true", "https://a.example", "", "*", false},
		{"no browser", "true", "", "", "", false},
		{"a server that sends its own", "true", "https://a.example", "https://a.example", "*|https://a.example", true},
		{"a server that sends its own, and no browser", "true", "", "*", "*", false},
	} {
		said := start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.CORS = c.label
		own := c.server
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			if own != "" {
				rw.Header().Add("Access-Control-Allow-Origin", own)
			}
			rw.Header().Add("Mcp-Session-Id", "s1")
			_, _ = rw.Write([]byte("{}"))
		})
		h, _ := New(context.Background(), next, config, "wiki@docker")
		headers := bearer(goodToken("k1", nil))
		if c.origin != "" {
			headers = append(headers, "Origin", c.origin)
		}
		for i := 0; i < 2; i++ { // the second time from the cache
			rec := ask(h, "POST", wikiURL+"/mcp", headers...)
			if got := strings.Join(rec.Header()["Access-Control-Allow-Origin"], "|"); rec.Code != 200 || got != c.want {
				t.Errorf("%s: %d, allowed origin %q, want %q", c.name, rec.Code, got, c.want)
			}
			exposed := rec.Header().Get("Access-Control-Expose-Headers")
			if (exposed != "") != (c.label == "true" && c.origin != "") || exposed != "" && !strings.Contains(exposed, "Mcp-Session-Id") {
				t.Errorf("%s: scripts may read %q", c.name, exposed)
			}
		}
		if lines := strings.Count(said.String(), "label cors: the MCP server sends Access-Control-Allow-Origin itself"); (lines == 1) != c.complains || lines > 1 {
			t.Errorf("%s: the log says %s", c.name, said)
		}
	}
}

// An MCP server that wants a token of its own sends clients to its own metadata. That answer passes
// like all others, and the operator is told how to end it.
func TestServerThatWantsATokenItselfIsNamed(t *testing.T) {
	const own = `Bearer resource_metadata="http://wiki:8000/.well-known/oauth-protected-resource"`
	for _, c := range []struct {
		name, scopes string
		answer       string // of the MCP server
		proto        int
		want         bool
	}{
		{"a server that lets in whom the bouncer lets in", "", "", 1, false},
		{"one that wants a token", "", own, 1, true},
		{"one that wants a token, over HTTP/2", "", own, 2, true},
		{"a refusal by a rule, over HTTP/2", "*=wiki:admin", "", 2, false},
	} {
		said := start(t)
		config := wikiConfig(startSidecar(t).server.URL)
		config.MethodScopes = c.scopes
		challenge := c.answer
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			if challenge != "" {
				rw.Header().Add("WWW-Authenticate", challenge)
				rw.WriteHeader(http.StatusUnauthorized)
			}
		})
		h, _ := New(context.Background(), next, config, "wiki@docker")
		for i := 0; i < 2; i++ {
			req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("X-Forwarded-Proto", "https")
			req.Header.Set("Authorization", "Bearer "+goodToken("k1", nil))
			req.ProtoMajor = c.proto
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if got := rec.Header().Get("WWW-Authenticate"); c.answer != "" && got != c.answer || c.scopes != "" && rec.Code != 403 {
				t.Errorf("%s: %d, challenge %q", c.name, rec.Code, got)
			}
		}
		if lines := strings.Count(said.String(), "a challenge of its own (WWW-Authenticate: "+own); (lines == 1) != c.want {
			t.Errorf("%s: the log says %s", c.name, said)
		}
	}
}

// A server may cite what it refuses, at any length. The log names the remedy and no secret.
func TestChallengeOfTheServerInTheLog(t *testing.T) {
	// t.Setenv does not reach Yaegi's os
	os.Setenv("CITED_BACKEND_AUTHORIZATION", "Bearer operators-secret")
	defer os.Unsetenv("CITED_BACKEND_AUTHORIZATION")
	for _, c := range []struct {
		name, backend, identity string
		answer                  string // of the MCP server, with what it got for SENT
		want, not               string
	}{
		{"a server that got nothing", "", "", `Bearer realm="x"`, "by the label backendAuthorization", "SENT"},
		{"a long one", "", "", `Bearer realm="` + strings.Repeat("x", 5000) + `"`, "by the label backendAuthorization", strings.Repeat("x", 600)},
		{"control characters", "", "", "Bearer realm=\"\x1b[2J\r\nmcpbouncer: all is well\"", "by the label backendAuthorization", "\nmcpbouncer: all"},
		{"one that cites its secret", "env:CITED_BACKEND_AUTHORIZATION", "", `Bearer error_description="no such token: SENT"`, "a challenge of its own, which may cite a secret and is not shown: it does not take what the label backendAuthorization gives it", "operators-secret"},
		{"nothing but the secret", "env:CITED_BACKEND_AUTHORIZATION", "", `SENT`, "does not take what the label", "operators-secret"},
		{"one that cites the assertion", "", "assertion", `Bearer error_description="bad issuer in ASSERTED"`, "it does not take that, and its own log says why", "of-the-person"},
	} {
		said := start(t)
		sidecar := startSidecar(t)
		sidecar.on("/hop/assertion", func(rw http.ResponseWriter, req *http.Request) {
			_, _ = rw.Write([]byte(`{"assertion":"of-the-person","expires_in":300}`))
		})
		config := wikiConfig(sidecar.server.URL)
		config.BackendAuthorization = c.backend
		config.IdentityHeaders = c.identity
		answer := c.answer
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			cited := strings.NewReplacer("SENT", req.Header.Get("Authorization"), "ASSERTED", req.Header.Get("X-Mcp-Assertion"))
			rw.Header().Set("WWW-Authenticate", cited.Replace(answer))
			rw.WriteHeader(http.StatusUnauthorized)
		})
		h, _ := New(context.Background(), next, config, "wiki@docker")
		rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
		if rec.Code != 401 || !strings.Contains(said.String(), c.want) || strings.Contains(said.String(), c.not) {
			t.Errorf("%s: %d, the log says %s", c.name, rec.Code, said)
		}
	}
}

// MCP does not allow a token in the body (RFC 6750 §2.2), and the MCP server would read it there.
func TestTokenInTheBodyDoesNotCount(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader("access_token="+goodToken("k1", nil)))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Forwarded-Proto", "https")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != 401 || behind.count() != 0 {
		t.Errorf("status %d, %d calls", rec.Code, behind.count())
	}
}

func TestPreflightIsAnsweredHere(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		want    int
		allowed string
	}{
		{"a preflight", []string{"Origin", "https://a.example", "Access-Control-Request-Method", "POST"}, 204, allowedHeaders},
		{"a preflight that asks for headers", []string{"Origin", "https://a.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-custom, x-y"}, 204, allowedHeaders + ", x-custom, x-y"},
		{"a header name that is none", []string{"Origin", "https://a.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "a b,x-y,é,\"q\""}, 204, allowedHeaders + ", x-y"},
		{"no Origin", []string{"Access-Control-Request-Method", "POST"}, 401, ""},
		{"no requested method", []string{"Origin", "https://a.example"}, 401, ""},
	} {
		start(t)
		h, behind := guard(t, wikiConfig("http://127.0.0.1:1"))
		rec := ask(h, "OPTIONS", wikiURL+"/mcp", c.headers...)
		if rec.Code != c.want || behind.count() != 0 {
			t.Errorf("%s: status %d, %d calls", c.name, rec.Code, behind.count())
		}
		if c.want == 204 && (rec.Header().Get("Access-Control-Allow-Headers") != c.allowed || rec.Header().Get("Access-Control-Allow-Origin") != "*" ||
			rec.Header().Get("Access-Control-Allow-Methods") == "" || rec.Header().Get("Access-Control-Max-Age") == "" ||
			len(rec.Header()["Access-Control-Allow-Credentials"]) != 0) {
			t.Errorf("%s: headers %v", c.name, rec.Header())
		}
	}
}

// This test reads the bytes on the wire, because net/http changes the spelling.
func TestChallengeIsSpeltAsInTheRFC(t *testing.T) {
	start(t)
	h, _ := guard(t, wikiConfig("http://127.0.0.1:1"))
	server := httptest.NewServer(h)
	defer server.Close()
	text := rawExchange(t, server.Listener.Addr().String(), "GET /wiki/anything HTTP/1.1\r\nHost: mcp.localhost\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
	for _, want := range []string{
		"HTTP/1.1 401 Unauthorized\r\n",
		"\r\nWWW-Authenticate: Bearer resource_metadata=\"https://mcp.localhost/wiki/.well-known/oauth-protected-resource\"\r\n",
		"\r\nContent-Type: application/json\r\n",
		"\r\n\r\n{\"error\":\"unauthorized\"}",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// The spelling matters over HTTP/1.1, where the README of the original shows it. From HTTP/2 on it
// does not, and the key is the one that Traefik looks for.
func TestChallengeIsSpeltForTheWire(t *testing.T) {
	start(t)
	h, _ := guard(t, wikiConfig(startSidecar(t).server.URL))
	for _, c := range []struct {
		major int
		want  string
	}{{1, "WWW-Authenticate"}, {2, "Www-Authenticate"}, {3, "Www-Authenticate"}} {
		for _, token := range []string{"", "Bearer invented"} {
			req := httptest.NewRequest("GET", wikiURL+"/mcp", nil)
			req.ProtoMajor = c.major
			if token != "" {
				req.Header.Set("Authorization", token)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			var got []string
			for name := range rec.Header() {
				if strings.EqualFold(name, c.want) {
					got = append(got, name)
				}
			}
			if rec.Code != 401 || strings.Join(got, " ") != c.want {
				t.Errorf("HTTP/%d: %d with the challenge under %q", c.major, rec.Code, got)
			}
		}
	}
}
