//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// reader is an MCP server that keeps the body of the last request.
type reader struct {
	calls   int
	body    string
	length  int64
	upgrade string
}

func (r *reader) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	b, _ := io.ReadAll(req.Body)
	r.calls++
	r.body = string(b)
	r.length = req.ContentLength
	r.upgrade = strings.Join(req.Header["Upgrade"], "|")
}

// ruled is a middleware with rules for every kind of operation, in front of a reader.
func ruled(t testing.TB, labels func(*Config)) (http.Handler, *reader) {
	t.Helper()
	behind := &reader{}
	var next http.Handler = behind
	return ruledBefore(t, next, labels), behind
}

// ruledBefore is ruled for another MCP server.
func ruledBefore(t testing.TB, next http.Handler, labels func(*Config)) http.Handler {
	t.Helper()
	sidecar := startSidecar(t)
	c := wikiConfig(sidecar.server.URL)
	c.RequiredScopes = "mcp"
	c.MethodScopes = "resources/*=wiki:read; prompts/get=wiki:prompts; admin/reset=wiki:admin"
	c.ToolScopes = "delete_page=wiki:write; admin_*=wiki:admin; admin_who=wiki:read; *=wiki:read"
	c.ResourceScopes = "file:///public/*=wiki:read; *=wiki:admin"
	c.PromptScopes = "review=wiki:write wiki:read"
	if labels != nil {
		labels(c)
	}
	h, err := New(context.Background(), next, c, "wiki@docker")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// post sends a message with a token that has these scopes. headers are pairs.
func post(h http.Handler, scopes, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader(body))
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Forwarded-Host", "mcp.localhost")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+goodToken("k1", map[string]any{"scope": scopes}))
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
		}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func toolCall(tool string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"page":"Main"}}}`
}

func TestScopesOfAnOperation(t *testing.T) {
	start(t)
	h, behind := ruled(t, nil)
	for _, c := range []struct {
		name   string
		scopes string // of the token
		body   string
		want   int
		scope  string // of the challenge, when want is 403
	}{
		{"a tool by its name", "mcp wiki:write", toolCall("delete_page"), 200, ""},
		{"without its scope", "mcp", toolCall("delete_page"), 403, "mcp wiki:write"},
		{"what the token has already stands in the challenge too", "mcp wiki:read other", toolCall("delete_page"), 403, "mcp wiki:write wiki:read"},
		{"a scope that only begins like it", "mcp wiki:writer", toolCall("delete_page"), 403, "mcp wiki:write"},
		{"a tool by its beginning", "mcp wiki:admin", toolCall("admin_users"), 200, ""},
		{"the beginning without its scope", "mcp wiki:write", toolCall("admin_users"), 403, "mcp wiki:admin wiki:write"},
		{"the name goes before the beginning", "mcp wiki:read", toolCall("admin_who"), 200, ""},
		{"the star is for all others", "mcp wiki:read", toolCall("search"), 200, ""},
		{"the star without its scope", "mcp wiki:write", toolCall("search"), 403, "mcp wiki:read wiki:write"},
		{"other letters are another tool, for which the star stands", "mcp wiki:write", toolCall("DELETE_PAGE"), 403, "mcp wiki:read wiki:write"},
		{"a method by its name", "mcp", `{"jsonrpc":"2.0","id":1,"method":"admin/reset"}`, 403, "mcp wiki:admin"},
		{"a method by its beginning", "mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/list"}`, 403, "mcp wiki:read"},
		{"a method without a rule", "mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, 200, ""},
		{"initialize", "mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}`, 200, ""},
		{"a resource by its beginning", "mcp wiki:read", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a"}}`, 200, ""},
		{"a resource with what must be encoded", "mcp wiki:read", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a%20b%25%C3%A4?next=https%3A%2F%2Fwiki.example%2Fa..b&v=1.0"}}`, 200, ""},
		{"another resource: both rules in one challenge", "mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///secret/a"}}`, 403, "mcp wiki:read wiki:admin"},
		{"a prompt that needs two scopes, and one for the method", "mcp wiki:read", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"review"}}`, 403, "mcp wiki:prompts wiki:write wiki:read"},
		{"a prompt without a rule of its own", "mcp wiki:prompts", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"other"}}`, 200, ""},
		{"a notification", "mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, 200, ""},
		{"a response", "mcp", `{"jsonrpc":"2.0","id":"s1","result":{}}`, 200, ""},
		{"an error response", "mcp", `{"jsonrpc":"2.0","id":"s1","error":{"code":1,"message":"x"}}`, 200, ""},
		{"a tool call without an id, which some servers answer all the same", "mcp", `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete_page"}}`, 403, "mcp wiki:write"},
		{"a request that poses as a response", "mcp", `{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call","params":{"name":"delete_page"}}`, 403, "mcp wiki:write"},
		{"a batch of what is allowed", "mcp wiki:read", "[" + toolCall("search") + "," + toolCall("admin_who") + "]", 200, ""},
		{"a batch with one that is not", "mcp wiki:read", "[" + toolCall("search") + "," + toolCall("delete_page") + "," + toolCall("admin_x") + "]", 403, "mcp wiki:read wiki:write wiki:admin"},
		{"blanks and line breaks", "mcp wiki:write", " \r\n{\t\"method\" : \"tools/call\" , \"params\" : { \"name\" : \"delete_page\" } , \"id\" : 1 }\n", 200, ""},
		{"escapes in the name", "mcp", `{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"\u0064elete_page"}}`, 403, "mcp wiki:write"},
		{"members that are not known", "mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"task":{"ttl":1},"name":"delete_page"},"x":1}`, 403, "mcp wiki:write"},
		{"a line break at the end", "mcp wiki:write", toolCall("delete_page") + "\n", 200, ""},
		{"arguments are not looked into", "mcp wiki:write", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page","arguments":{"a":1,"a":2,"Name":"x","name":"admin_x"}}}`, 200, ""},
	} {
		blank := post(h, c.scopes, " "+c.body)
		before := behind.calls
		rec := post(h, c.scopes, c.body)
		if rec.Code != c.want {
			t.Errorf("%s: status %d %s, want %d", c.name, rec.Code, rec.Body, c.want)
		}
		if blank.Code != rec.Code || strings.Join(challenges(blank), "|") != strings.Join(challenges(rec), "|") {
			t.Errorf("%s: with a blank before it %d %s", c.name, blank.Code, challenges(blank))
		}
		if c.want == 200 && (behind.calls != before+1 || behind.body != c.body || behind.length != int64(len(c.body))) {
			t.Errorf("%s: the MCP server got %q", c.name, behind.body)
		}
		if c.want != 200 {
			want := `Bearer error="insufficient_scope", scope="` + c.scope + `", resource_metadata="` + wikiURL + `/.well-known/oauth-protected-resource/mcp"`
			if behind.calls != before || strings.Join(challenges(rec), "|") != want {
				t.Errorf("%s: challenge %q, want %q", c.name, challenges(rec), want)
			}
		}
	}
}

// The package mcp says what is refused. Here the refusal is answered, and the MCP server gets
// nothing.
func TestRefusedMessagesReachNobody(t *testing.T) {
	start(t)
	h, behind := ruled(t, nil)
	for _, c := range []struct{ name, body, want string }{
		{"no JSON", "method=tools/call", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON in UTF-8"}}`},
		{"method twice", `{"id":1,"method":"ping","method":"tools/call"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,`},
		{"a call without a name", `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{}}`, `{"jsonrpc":"2.0","id":"a","error":{"code":-32600,`},
		{"a call with a long id", `{"jsonrpc":"2.0","id":"` + strings.Repeat("a", 63) + `","method":"tools/call","params":{}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,`},
	} {
		rec := post(h, "mcp wiki:read wiki:write wiki:admin wiki:prompts", c.body)
		if rec.Code != 400 || !strings.HasPrefix(rec.Body.String(), c.want) {
			t.Errorf("%s: %d %s, want 400 with %s", c.name, rec.Code, rec.Body, c.want)
		}
	}
	if behind.calls != 0 {
		t.Errorf("%d requests reached the MCP server", behind.calls)
	}
}

func modernCall(tool, version string) string {
	return `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"` + tool + `","_meta":{"io.modelcontextprotocol/protocolVersion":"` + version + `"}}}`
}

// MCP 2026-07-28 repeats the body in headers. They are compared, and the body decides.
func TestHeadersThatRepeatTheBody(t *testing.T) {
	start(t)
	h, behind := ruled(t, nil)
	const v = "Mcp-Protocol-Version"
	b64 := "=?base64?" + base64.StdEncoding.EncodeToString([]byte("delete_page")) + "?="
	for _, c := range []struct {
		name    string
		body    string
		headers []string
		want    int
	}{
		{"all agree", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 200},
		{"the name in base64", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", b64}, 200},
		{"a later version", modernCall("delete_page", "2027-01-01"), []string{v, "2027-01-01", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 200},
		{"a name beyond ASCII in base64", modernCall("löschen", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?bMO2c2NoZW4=?="}, 200},
		{"a method without a name", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, []string{v, "2026-07-28", "Mcp-Method", "tools/list"}, 200},
		{"a notification", `{"jsonrpc":"2.0","method":"notifications/cancelled"}`, []string{v, "2026-07-28", "Mcp-Method", "notifications/cancelled"}, 200},
		{"a response", `{"jsonrpc":"2.0","id":1,"result":{}}`, []string{v, "2026-07-28"}, 200},
		{"an older version has none", toolCall("delete_page"), []string{v, "2025-11-25"}, 200},
		{"no version has none", toolCall("delete_page"), nil, 200},
		{"a harmless name", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "search"}, 400},
		{"a harmless name at an older version", toolCall("delete_page"), []string{v, "2025-11-25", "Mcp-Method", "tools/call", "Mcp-Name", "search"}, 400},
		{"a harmless name without a version", toolCall("delete_page"), []string{"Mcp-Name", "search"}, 400},
		{"a harmless method", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Name", "delete_page"}, 400},
		{"a method in capitals", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "Tools/call", "Mcp-Name", "delete_page"}, 400},
		{"no method", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Name", "delete_page"}, 400},
		{"no name", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call"}, 400},
		{"two names", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page", "Mcp-Name", "search"}, 400},
		{"two versions", toolCall("delete_page"), []string{v, "2025-11-25", v, "2026-07-28"}, 400},
		{"a version that the body does not name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page"}}`, []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 400},
		{"another version in the body", modernCall("delete_page", "2025-11-25"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 400},
		{"the version in the body in other letters", strings.Replace(modernCall("delete_page", "2026-07-28"), "protocolVersion", "protocolversion", 1), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 400},
		{"the version in the body twice", strings.Replace(modernCall("delete_page", "2026-07-28"), `"_meta":{`, `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`, 1), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 400},
		{"base64 of another name", modernCall("search", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", b64}, 400},
		{"base64 that is none", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?%%?="}, 400},
		{"the shortest base64", modernCall("delete_page", "2026-07-28"), []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?="}, 400},
		{"a batch", "[" + modernCall("delete_page", "2026-07-28") + "]", []string{v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "delete_page"}, 400},
		{"a batch that the header fits in part", "[" + toolCall("search") + "," + toolCall("delete_page") + "]", []string{"Mcp-Name", "search"}, 400},
	} {
		before := behind.calls
		rec := post(h, "mcp wiki:read wiki:write", c.body, c.headers...)
		if rec.Code != c.want || (behind.calls == before+1) != (c.want == 200) {
			t.Errorf("%s: %d %s, want %d", c.name, rec.Code, rec.Body, c.want)
		}
		code := `"code":-32020`
		if c.name == "a batch" {
			code = `"code":-32600`
		}
		if c.want == 400 && !strings.Contains(rec.Body.String(), code) {
			t.Errorf("%s: %s, want %s", c.name, rec.Body, code)
		}
	}
	rec := post(h, "mcp", modernCall("delete_page", "2026-07-28"), v, "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "search", "Origin", "https://a.example")
	if !strings.HasPrefix(rec.Body.String(), `{"jsonrpc":"2.0","id":"a",`) || rec.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("the answer is %s %v, want the id of the request, readable for a script", rec.Body, rec.Header())
	}
}

// A body that is one message to the plugin must not be another to the server.
func TestBodiesThatAServerWouldDecode(t *testing.T) {
	start(t)
	h, behind := ruled(t, nil)
	utf7 := toolCall(`search+ACI-,+ACI-name+ACI-:+ACI-delete_page`)
	for _, c := range []struct {
		name    string
		body    string
		headers []string // Content-Type is replaced
		want    int
	}{
		{"JSON", toolCall("search"), []string{"Content-Type", "application/json"}, 200},
		{"JSON with its charset", toolCall("search"), []string{"Content-Type", "application/json; charset=UTF-8"}, 200},
		{"JSON not encoded", toolCall("search"), []string{"Content-Type", "application/json", "Content-Encoding", "identity"}, 200},
		{"UTF-7", utf7, []string{"Content-Type", "application/json; charset=utf-7"}, 415},
		{"UTF-7 in quotes", utf7, []string{"Content-Type", `application/json;charset="UTF-7"`}, 415},
		{"two charsets", utf7, []string{"Content-Type", "application/json; charset=utf-8; charset=utf-7"}, 415},
		{"two types", utf7, []string{"Content-Type", "application/json", "Content-Type", "application/json; charset=utf-7"}, 415},
		{"two types in one header", utf7, []string{"Content-Type", "application/json, application/json; charset=utf-7"}, 415},
		{"no type", toolCall("search"), nil, 415},
		{"a form", toolCall("search"), []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"text", toolCall("search"), []string{"Content-Type", "text/plain"}, 415},
		{"deflated", toolCall("search"), []string{"Content-Type", "application/json", "Content-Encoding", "deflate"}, 415},
		{"encoded twice", toolCall("search"), []string{"Content-Type", "application/json", "Content-Encoding", "identity", "Content-Encoding", "br"}, 415},
	} {
		before := behind.calls
		rec := post(h, "mcp wiki:read", c.body, append([]string{"Content-Type", ""}, c.headers...)...)
		if rec.Code != c.want || (behind.calls == before+1) != (c.want == 200) {
			t.Errorf("%s: %d %s, want %d", c.name, rec.Code, rec.Body, c.want)
		}
	}
}

// The size is bounded with and without a Content-Length. A slow body is waited for; a body that
// breaks off is refused.
func TestSizesOfMessages(t *testing.T) {
	start(t)
	h, behind := ruled(t, nil)
	padded := func(n int) string {
		head := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"a":"`
		return head + strings.Repeat("x", n-len(head)-len(`"}}}`)) + `"}}}`
	}
	slow := func(text string, err error) io.Reader {
		body, client := io.Pipe()
		go func() {
			for i := 0; i < len(text); i += 7 {
				end := i + 7
				if end > len(text) {
					end = len(text)
				}
				if _, e := client.Write([]byte(text[i:end])); e != nil {
					return
				}
			}
			_ = client.CloseWithError(err)
		}()
		return body
	}
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64
		want   int
		got    int // bytes that reached the MCP server
	}{
		{"1 MB", strings.NewReader(padded(maxMessage)), maxMessage, 200, maxMessage},
		{"1 MB and a byte", strings.NewReader(padded(maxMessage + 1)), maxMessage + 1, 413, 0},
		{"10 MB", strings.NewReader(padded(10 << 20)), 10 << 20, 413, 0},
		{"1 MB, chunked", strings.NewReader(padded(maxMessage)), -1, 200, maxMessage},
		{"chunked without end", &endless{}, -1, 413, 0},
		{"slow", slow(toolCall("search"), nil), int64(len(toolCall("search"))), 200, len(toolCall("search"))},
		{"slow and chunked", slow(toolCall("search"), nil), -1, 200, len(toolCall("search"))},
		{"slow, and broken off", slow(toolCall("search"), io.ErrUnexpectedEOF), -1, 400, 0},
	} {
		behind.body = ""
		req := httptest.NewRequest("POST", wikiURL+"/mcp", c.body)
		req.ContentLength = c.length
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+goodToken("k1", map[string]any{"scope": "mcp wiki:read"}))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != c.want || len(behind.body) != c.got {
			t.Errorf("%s: status %d %.200s, %d bytes arrived; want %d and %d", c.name, rec.Code, rec.Body, len(behind.body), c.want, c.got)
		}
	}
}

// endless is a body that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	copy(p, bytes.Repeat([]byte("x"), len(p)))
	return len(p), nil
}

// Requests without a message pass, and no message passes the rules by.
func TestRequestsWithoutAMessage(t *testing.T) {
	start(t)
	h, behind := ruled(t, nil)
	token := goodToken("k1", map[string]any{"scope": "mcp"})
	for _, c := range []struct {
		name, method, body string
		headers            []string
		want               int
	}{
		{"the event stream", "GET", "", nil, 200},
		{"the end of a session", "DELETE", "", nil, 200},
		{"a HEAD", "HEAD", "", nil, 200},
		{"an OPTIONS that is no preflight", "OPTIONS", "", nil, 200},
		{"a GET with a message", "GET", toolCall("delete_page"), nil, 403},
		{"a PUT with a message", "PUT", toolCall("delete_page"), nil, 403},
		{"a method of its own", "QUERY", toolCall("delete_page"), nil, 403},
		{"a POST without a message", "POST", "", nil, 400},
		{"a WebSocket, through which nobody could look", "GET", "", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 200},
	} {
		req := httptest.NewRequest(c.method, wikiURL+"/mcp", strings.NewReader(c.body))
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		for i := 0; i+1 < len(c.headers); i += 2 {
			req.Header.Set(c.headers[i], c.headers[i+1])
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != c.want || behind.upgrade != "" {
			t.Errorf("%s: %d %s, want %d; Upgrade %q", c.name, rec.Code, rec.Body, c.want, behind.upgrade)
		}
	}
	// HTTP/3 does not say that there is no body.
	for _, c := range []struct {
		method, body string
		want         int
	}{{"GET", "", 200}, {"DELETE", "", 200}, {"HEAD", "", 200}, {"GET", toolCall("delete_page"), 403}, {"DELETE", " ", 400}} {
		req := httptest.NewRequest(c.method, wikiURL+"/mcp", io.NopCloser(strings.NewReader(c.body)))
		req.ContentLength = -1
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		if c.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		req.Header.Set("Authorization", "Bearer "+token)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != c.want {
			t.Errorf("%s of unknown length, %q: %d %s, want %d", c.method, c.body, rec.Code, rec.Body, c.want)
		}
	}
	if rec := post(h, "mcp", "not even JSON", "Authorization", ""); rec.Code != 401 {
		t.Errorf("without a token: status %d, want 401 before anything is read", rec.Code)
	}
	if rec := post(h, "openid", toolCall("search")); rec.Code != 403 || !strings.Contains(challenges(rec)[0], `scope="mcp"`) {
		t.Errorf("without the required scope: %d %s", rec.Code, challenges(rec))
	}
}

// Without rules nothing is parsed.
func TestBodyPassesWithoutRules(t *testing.T) {
	start(t)
	h, behind := ruled(t, func(c *Config) {
		c.MethodScopes = ""
		c.ToolScopes = ""
		c.ResourceScopes = ""
		c.PromptScopes = ""
	})
	for _, body := range []string{"not JSON", `{"method":"a","method":"b"}`, toolCall("delete_page")} {
		if rec := post(h, "mcp", body, "Content-Type", "", "Mcp-Name", "x"); rec.Code != 200 || behind.body != body {
			t.Errorf("%q: status %d, the MCP server got %q", body, rec.Code, behind.body)
		}
	}
}
