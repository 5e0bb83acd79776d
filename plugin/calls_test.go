//go:build go1.21

package plugin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// audited is a middleware with the label auditCalls and no rule, in front of a new backend.
func audited(t *testing.T) (http.Handler, *backend) {
	t.Helper()
	c := wikiConfig(startSidecar(t).server.URL)
	c.AuditCalls = "true"
	return guard(t, c)
}

// sent returns what Traefik's access log would find in a request after the middlewares.
func sent(h http.Handler, method, body string, headers ...string) (int, http.Header) {
	req := httptest.NewRequest(method, wikiURL+"/mcp", strings.NewReader(body))
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Forwarded-Host", "mcp.localhost")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+goodToken("k1", nil))
	if body == "" {
		req.Body = http.NoBody
		req.ContentLength = 0
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header[headers[i]] = []string{headers[i+1]}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Code, req.Header
}

func TestCallsAreNamedForTheAccessLog(t *testing.T) {
	start(t)
	h, behind := audited(t)
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		body, want string
		status     int
	}{
		{toolCall("search"), "tools/call search", 200},
		{" " + toolCall("search"), "tools/call search", 200},
		{`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a,b%20c"}}`, "resources/read file:%2F%2F%2Fa%2Cb%2520c", 200},
		{`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"prüfe dies"}}`, "prompts/get pr%C3%BCfe%20dies", 200},
		{`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"review"},"argument":{"name":"a","value":"secret"}}}`, "completion/complete review", 200},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "tools/list", 200},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "notifications/initialized", 200},
		{`{"jsonrpc":"2.0","id":1,"result":{"secret":1}}`, "response", 200},
		{`{"jsonrpc":"2.0","id":1,"method":"x/odd, y","params":{"name":"z"}}`, "x%2Fodd%2C%20y", 200},
		{"[" + toolCall("search") + "," + toolCall("delete_page") + "]", "tools/call search,tools/call delete_page", 200},
		{toolCall(long), "tools/call " + strings.Repeat("x", 200) + "%E2%80%A6", 200},
		// What cannot be read goes no further, and the access log shows that it came.
		{toolCall("search") + toolCall("search"), "unreadable", 400},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`, "tools/call", 400},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search "}}`, "tools/call", 400},
		{`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{}}`, "completion/complete", 400},
		{"[" + strings.Repeat(toolCall(long)+",", 30) + toolCall("a") + "]", "unreadable", 400},
		{"x", "unreadable", 400},
	} {
		before := behind.count()
		status, header := sent(h, "POST", c.body)
		got := strings.Join(header[callHeader], "|")
		if status != c.status || got != c.want || strings.Join(header[subjectHeader], "|") != "user-1" || header["Authorization"] != nil {
			t.Errorf("%.80s: %d %q, sub %q", c.body, status, got, header[subjectHeader])
		}
		if (behind.count() > before) != (status == 200) {
			t.Errorf("%.80s: it reached the MCP server: %v", c.body, status != 200)
		}
		if strings.Contains(got, "Main") || strings.Contains(got, "secret") {
			t.Errorf("%.80s: arguments are in %q", c.body, got)
		}
	}
	if status, header := sent(h, "POST", toolCall("search"), "Content-Type", "text/plain"); status != 415 || header.Get(callHeader) != "unreadable" {
		t.Errorf("another media type: %d %q", status, header.Get(callHeader))
	}
}

// A client can neither forge the record nor suppress it.
func TestCallsAreNamedByTheMessageAlone(t *testing.T) {
	start(t)
	h, behind := audited(t)
	for _, name := range []string{"X-Mcp-Call", "X_Mcp_Call", "x.mcp.call"} {
		_, header := sent(h, "POST", toolCall("delete_page"), name, "tools/call search")
		if got := header.Get(callHeader); got != "tools/call delete_page" || name != callHeader && header[name] != nil {
			t.Errorf("%s: %q", name, got)
		}
		if _, header := sent(h, "GET", "", name, "tools/call search"); header[name] != nil {
			t.Errorf("%s of a GET: %q", name, header[name])
		}
	}
	if status, header := sent(h, "POST", toolCall("delete_page"), "Mcp-Method", "tools/call", "Mcp-Name", "search"); status != 400 || header.Get(callHeader) != "tools/call delete_page" {
		t.Errorf("another name in Mcp-Name: %d %q", status, header.Get(callHeader))
	}
	// Messages in a WebSocket are not seen, so there is none.
	sent(h, "GET", "", "Connection", "Upgrade", "Upgrade", "websocket")
	if behind.last["Upgrade"] != nil || behind.last["Connection"] != nil {
		t.Error("a WebSocket is opened")
	}
	// Without the label nothing is named, and nothing of a client's passes either.
	h, behind = guard(t, wikiConfig(startSidecar(t).server.URL))
	sent(h, "POST", toolCall("delete_page"), "X-Mcp-Call", "tools/call search")
	if behind.last[callHeader] != nil {
		t.Errorf("without the label: %q", behind.last[callHeader])
	}
}

// A call that a rule refuses is named too.
func TestCallsThatRulesRefuseAreNamed(t *testing.T) {
	start(t)
	c := wikiConfig(startSidecar(t).server.URL)
	c.AuditCalls = true
	c.ToolScopes = "delete_page=wiki:write"
	h, _ := guard(t, c)
	if status, header := sent(h, "POST", toolCall("delete_page")); status != 403 || header.Get(callHeader) != "tools/call delete_page" || header.Get(subjectHeader) != "user-1" {
		t.Errorf("%d %q by %q", status, header.Get(callHeader), header.Get(subjectHeader))
	}
}

// What clients put into _meta for traces, and everything else of a message, reaches the MCP server
// to the byte. So do the headers of W3C Trace Context.
func TestTraceContextPassesUntouched(t *testing.T) {
	start(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	message := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{},"_meta":{"traceparent":"` + parent + `","tracestate":"a=1, b=\u0032","baggage":"x=y"}}}`
	for _, audit := range []string{"", "true"} {
		c := wikiConfig(startSidecar(t).server.URL)
		c.AuditCalls = audit
		behind := &reader{}
		header := http.Header{}
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			header = req.Header.Clone()
			behind.ServeHTTP(rw, req)
		})
		h, err := New(context.Background(), next, c, "wiki@docker")
		if err != nil {
			t.Fatal(err)
		}
		status, _ := sent(h, "POST", message, "Traceparent", parent, "Tracestate", "a=1")
		if status != 200 || behind.body != message || header.Get("Traceparent") != parent || header.Get("Tracestate") != "a=1" {
			t.Errorf("audit %q: %d, %q, %v", audit, status, behind.body, header)
		}
	}
	// The sidecar gets them too.
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	ask(h, "GET", wikiURL+"/oauth/authorize", "Traceparent", parent, "Tracestate", "a=1")
	if got := sidecar.lastRequest(); got.Header.Get("Traceparent") != parent || got.Header.Get("Tracestate") != "a=1" {
		t.Errorf("the sidecar got %v", got.Header)
	}
}
