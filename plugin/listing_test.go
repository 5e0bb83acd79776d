//go:build go1.21

package plugin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// lister is an MCP server that answers everything with one prepared answer.
type lister struct {
	header   http.Header
	status   int
	parts    []string
	accepted string
	flusher  bool
	early    bool
	panics   bool
	hangs    bool
}

func (l *lister) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	l.accepted = req.Header.Get("Accept-Encoding")
	_, l.flusher = rw.(http.Flusher)
	for name, values := range l.header {
		rw.Header()[name] = values
	}
	if l.early {
		rw.WriteHeader(http.StatusEarlyHints)
	}
	rw.WriteHeader(l.status)
	for _, part := range l.parts {
		fmt.Fprint(rw, part)
	}
	if l.panics {
		panic("the proxy gives up")
	}
	if l.hangs {
		<-req.Context().Done()
	}
}

const listRequest = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`

func tools(names ...string) string {
	list := []string{}
	for _, name := range names {
		list = append(list, `{"name":"`+name+`","description":"<b> & ü","inputSchema":{"type":"object","x":1.50}}`)
	}
	return `{"id":1,"jsonrpc":"2.0","result":{"nextCursor":"c","tools":[` + strings.Join(list, ",") + `]}}`
}

func TestListingHidesToolsThatMayNotBeCalled(t *testing.T) {
	start(t)
	jsonType := http.Header{"Content-Type": {"application/json"}, "Mcp-Session-Id": {"s1"}, "Content-Length": {"99999"}}
	stream := http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}
	const scopes = "mcp wiki:read"
	for _, c := range []struct {
		name   string
		header http.Header
		status int
		parts  []string
		want   string // empty: 502
	}{
		{"JSON", jsonType, 200, []string{tools("search", "delete_page", "admin_who", "admin_x")}, tools("search", "admin_who")},
		{"JSON in pieces", jsonType, 200, strings.SplitAfter(tools("delete_page", "search"), ","), tools("search")},
		{"none is left", jsonType, 200, []string{tools("delete_page")}, tools()},
		{"none is hidden", jsonType, 200, []string{tools("search")}, tools("search")},
		{"a batch", jsonType, 200, []string{"[" + tools("delete_page", "search") + `,{"jsonrpc":"2.0","id":2,"result":{}}]`}, "[" + tools("search") + `,{"jsonrpc":"2.0","id":2,"result":{}}]`},
		{"an error of JSON-RPC", jsonType, 200, []string{`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`}, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`},
		{"a status that is no success", http.Header{"Content-Type": {"text/plain"}}, 404, []string{"not here"}, "not here"},
		{"202 without a body", http.Header{}, 202, nil, ""},
		{"a list that may be shared", jsonType, 200, []string{`{"id":1,"result":{"cacheScope":"public","tools":[]}}`}, `{"id":1,"result":{"cacheScope":"private","tools":[]}}`},
		{"an event stream", stream, 200, []string{"event: message\nid: 7\ndata: " + tools("search", "delete_page") + "\n\n"}, "event: message\nid: 7\ndata: " + tools("search") + "\n\n"},
		{"with other events before it", stream, 200, []string{": ping\n\nid: 1\ndata: \nretry: 500\n\n", "data: {\"method\":\"notifications/message\",\"params\":{\"a\":1}}\n\n", "data: " + tools("delete_page", "search") + "\n\n"},
			": ping\n\nid: 1\ndata: \nretry: 500\n\ndata: {\"method\":\"notifications/message\",\"params\":{\"a\":1}}\n\ndata: " + tools("search") + "\n\n"},
		{"with other ends of lines", stream, 200, []string{"event: message\r\ndata: " + tools("search", "delete_page") + "\r\n\r\n"}, "event: message\ndata: " + tools("search") + "\n\n"},
		{"data in several lines", stream, 200, []string{"data: {\"id\":1,\"jsonrpc\":\"2.0\",\ndata:\"result\":{\"tools\":[{\"name\":\"delete_page\"}]}}\n\n"}, "data: " + `{"id":1,"jsonrpc":"2.0","result":{"tools":[]}}` + "\n\n"},
		{"compressed all the same", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, 200, []string{"\x1f\x8b"}, "502"},
		{"no JSON", jsonType, 200, []string{"delete_page"}, "502"},
		{"another type", http.Header{"Content-Type": {"text/html"}}, 200, []string{"delete_page"}, "502"},
		{"tools without an object", jsonType, 200, []string{`{"result":{"tools":["delete_page"]}}`}, "502"},
		{"too long", jsonType, 200, []string{`{"x":"`, strings.Repeat("x", maxListing), `"}`}, "502"},
		{"many events", stream, 200, []string{strings.Repeat("data: x\n\n", 300)}, strings.Repeat("data: x\n\n", 300)},
		{"an event stream in pieces", stream, 200, strings.SplitAfter("data: "+tools("search", "delete_page")+"\n\n", ","), "data: " + tools("search") + "\n\n"},
		{"pieces that end between CR and LF", stream, 200, []string{": a\r", "\n\r", "\ndata: " + tools("delete_page") + "\r", "\n\r", "\n"}, ": a\n\ndata: " + tools() + "\n\n"},
		{"lines that end with CR alone", stream, 200, []string{": a\r\rdata: " + tools("delete_page") + "\r\r"}, ": a\n\ndata: " + tools() + "\n\n"},
		{"a mark of the byte order before it", stream, 200, []string{"\ufeffdata: " + tools("delete_page") + "\n\n"}, "data: " + tools() + "\n\n"},
		{"no empty line at the end", stream, 200, []string{"data: " + tools("delete_page") + "\n"}, "data: " + tools() + "\n\n"},
		{"an event that cannot be read is left out", stream, 200, []string{"data: {\"tools\": delete_page\n\n", ": ping\n\n"}, ": ping\n\n"},
		{"an event that is too long is left out", stream, 200, []string{": ping\n\n", "data: {", strings.Repeat("x", maxListing), "}\n\n"}, ": ping\n\n"},
	} {
		l := &lister{header: c.header, status: c.status, parts: c.parts, early: true}
		var next http.Handler = l
		h := ruledBefore(t, next, func(config *Config) { config.HideTools = "true" })
		rec := post(h, scopes, listRequest, "Accept-Encoding", "gzip")
		if c.want == "502" {
			if rec.Code != 502 || strings.Contains(rec.Body.String(), "delete_page") || !strings.Contains(rec.Body.String(), `"code":-32603`) {
				t.Errorf("%s: %d %.200s, want 502", c.name, rec.Code, rec.Body)
			}
			continue
		}
		if rec.Code != c.status || rec.Body.String() != c.want {
			t.Errorf("%s: %d\n%.500s, want\n%s", c.name, rec.Code, rec.Body, c.want)
		}
		if rec.Header().Get("Content-Length") != "" || rec.Header().Get("Content-Type") != c.header.Get("Content-Type") || rec.Header().Get("Mcp-Session-Id") != c.header.Get("Mcp-Session-Id") {
			t.Errorf("%s: headers %v", c.name, rec.Header())
		}
		if l.accepted != "identity" {
			t.Errorf("%s: the server was told Accept-Encoding: %s", c.name, l.accepted)
		}
	}
}

// asker is an MCP server that asks the client something before it answers, and waits for the
// answer.
type asker struct{ asked chan bool }

func (a *asker) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	rw.Header()["Content-Type"] = []string{"text/event-stream"}
	fmt.Fprint(rw, "data: {\"jsonrpc\":\"2.0\",\"id\":\"s1\",\"method\":\"roots/list\"}\n\n")
	select {
	case <-a.asked:
	case <-req.Context().Done():
	}
	fmt.Fprint(rw, "data: "+tools("search", "delete_page")+"\n\n")
}

// A message that is not the answer reaches the client while the server still waits.
func TestListingPassesQuestionsOnAtOnce(t *testing.T) {
	start(t)
	asked := make(chan bool, 1)
	var next http.Handler = &asker{asked: asked}
	h := ruledBefore(t, next, func(config *Config) { config.HideTools = "true" })
	server := httptest.NewServer(h)
	defer server.Close()
	req, _ := http.NewRequest("POST", server.URL+"/wiki/mcp", strings.NewReader(listRequest))
	req.Host = "mcp.localhost"
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+goodToken("k1", map[string]any{"scope": "mcp wiki:read"}))
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	defer resp.Body.Close()
	stream := bufio.NewReader(resp.Body)
	question, err := stream.ReadString('\n')
	if err != nil || !strings.Contains(question, "roots/list") {
		t.Fatalf("the question: %q %v", question, err)
	}
	asked <- true
	rest, err := io.ReadAll(stream)
	if err != nil || string(rest) != "\ndata: "+tools("search")+"\n\n" {
		t.Errorf("the answer: %q %v", rest, err)
	}
}

func TestListingThatBreaksOff(t *testing.T) {
	log := start(t)
	var next http.Handler = &lister{header: http.Header{"Content-Type": {"application/json"}}, status: 200, parts: []string{"{"}, panics: true}
	h := ruledBefore(t, next, func(config *Config) { config.HideTools = "true" })
	rec := post(h, "mcp", listRequest)
	if rec.Code != 502 || !strings.Contains(log.String(), "label hideTools: the answer to tools/list is not passed on: it broke off") {
		t.Errorf("status %d, log %q", rec.Code, log)
	}
}

func TestListingIsTheOnlyAnswerThatIsHeld(t *testing.T) {
	start(t)
	for _, c := range []struct{ name, hide, body string }{
		{"a list without the label", "", listRequest},
		{"a list with the label off", "false", listRequest},
		{"a call with the label", "true", toolCall("search")},
		{"a list of resources", "true", `{"jsonrpc":"2.0","id":1,"method":"resources/list"}`},
	} {
		l := &lister{header: http.Header{"Content-Type": {"application/json"}}, status: 200, parts: []string{tools("delete_page")}}
		var next http.Handler = l
		h := ruledBefore(t, next, func(config *Config) {
			config.HideTools = c.hide
			config.MethodScopes = ""
		})
		rec := post(h, "mcp wiki:read", c.body, "Accept-Encoding", "gzip")
		if rec.Code != 200 || rec.Body.String() != tools("delete_page") || l.accepted != "gzip" || !l.flusher {
			t.Errorf("%s: %d %s; Accept-Encoding %s, Flusher %t", c.name, rec.Code, rec.Body, l.accepted, l.flusher)
		}
	}
	for _, c := range []struct{ name, hide, rules, want string }{
		{"neither true nor false", "yes", "*=a", "label hideTools: give true or false"},
		{"without rules", "true", "", "label hideTools: nothing is hidden"},
	} {
		config := wikiConfig("http://127.0.0.1:1")
		config.HideTools = c.hide
		config.ToolScopes = c.rules
		if _, err := parseConfig(config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A client that goes away ends the request to the server.
	h, _ := ruled(t, func(config *Config) { config.HideTools = "true" })
	var next http.Handler = &lister{header: http.Header{}, status: 200, hangs: true}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", wikiURL, strings.NewReader(listRequest))
	if err := hold(next, &heldAnswer{header: http.Header{}, share: &share{of: listingBudget}}, req); err == nil || h == nil {
		t.Error("an answer without end was taken")
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, label, rules, want string }{
		{"no scope", "toolScopes", "delete_page=", "name scopes after the ="},
		{"a variable that was empty", "toolScopes", "delete_page= ; *=wiki:read", "name scopes after the ="},
		{"no =", "toolScopes", "delete_page", "is not a rule"},
		{"no name", "toolScopes", "=wiki:read", "before the = stands a name"},
		{"a star in the middle", "toolScopes", "a*b=wiki:read", "before the = stands a name"},
		{"two stars", "toolScopes", "a**=wiki:read", "before the = stands a name"},
		{"the same name twice", "toolScopes", "a=x; a=y", "two rules for"},
		{"the star twice", "promptScopes", "*=x; *=y", "two rules for"},
		{"a scope that no token has", "toolScopes", "a=x offline_access", "offline_access is no right"},
		{"a quote in a scope", "resourceScopes", `a=x"y`, "not a scope"},
		{"a name with a line break", "toolScopes", "a\x00b=x", "before the = stands a name"},
		{"a name of 257 characters", "toolScopes", strings.Repeat("a", 257) + "=x", "before the = stands a name"},
		{"notifications", "methodScopes", "notifications/*=x", "notifications need no scope"},
		{"257 rules", "toolScopes", manyRules(257), "at most 256 rules"},
	} {
		rules, err := readRules(c.label, c.rules)
		if err == nil || rules != nil || !strings.HasPrefix(err.Error(), "label "+c.label+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	rules, err := readRules("resourceScopes", "https://wiki.example/?a=b&c=*=wiki:read ; ;*=x y")
	if want := []mcp.Rule{{Name: "https://wiki.example/?a=b&c=*", Scopes: []string{"wiki:read"}}, {Name: "*", Scopes: []string{"x", "y"}}}; err != nil || !reflect.DeepEqual(rules, want) {
		t.Errorf("the last = divides: %v %v", rules, err)
	}
}

func manyRules(n int) string {
	rules := []string{}
	for i := 0; i < n; i++ {
		rules = append(rules, fmt.Sprintf("t%d=x", i))
	}
	return strings.Join(rules, ";")
}

// The answers that are held at the same time are bounded, and each gives back its share.
func TestListingsThatAreHeldAtOnceAreBounded(t *testing.T) {
	logged := start(t)
	behind := &lister{header: http.Header{"Content-Type": {"application/json"}}, status: 200, parts: []string{strings.Replace(tools("search"), `"c"`, `"`+strings.Repeat("x", 100000)+`"`, 1)}}
	sidecar := startSidecar(t)
	c := wikiConfig(sidecar.server.URL)
	c.ToolScopes = "*=openid"
	c.HideTools = "true"
	var next http.Handler = behind
	h, err := New(context.Background(), next, c, "wiki@docker")
	if err != nil {
		t.Fatal(err)
	}
	listingBudget.most = 50000
	rec := post(h, "openid", listRequest)
	listingBudget.most = maxHeld
	if rec.Code != 502 || !strings.Contains(logged.String(), "so many long ones are held") || listingBudget.held != 0 {
		t.Errorf("beyond the budget: %d; %d bytes are still counted; the log says %s", rec.Code, listingBudget.held, logged)
	}
	rec = post(h, "openid", listRequest)
	if rec.Code != 200 || rec.Body.Len() < 100000 || listingBudget.held != 0 {
		t.Errorf("within it: %d, %d bytes; %d bytes are still counted", rec.Code, rec.Body.Len(), listingBudget.held)
	}
}

// talker is an MCP server that answers by an event stream in many pieces, and then waits until the
// reader is gone.
type talker struct {
	parts []string
	ended chan bool
}

func (l *talker) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	rw.Header()["Content-Type"] = []string{"text/event-stream"}
	for _, part := range l.parts {
		fmt.Fprint(rw, part)
	}
	select {
	case <-req.Context().Done():
		l.ended <- true
	case <-time.After(2 * time.Second):
		l.ended <- false
	}
}

// A client does not wait for the end of an event that is too long to be passed on, and the log says
// so at once.
func TestListingWithAnEventThatIsTooLong(t *testing.T) {
	log := start(t)
	server := &talker{parts: []string{"data: {}\n\n", "data: " + strings.Repeat("x", maxListing)}, ended: make(chan bool, 1)}
	var next http.Handler = server
	h := ruledBefore(t, next, func(config *Config) { config.HideTools = "true" })
	rec := post(h, "mcp", listRequest)
	if !<-server.ended || rec.Body.String() != "data: {}\n\n" || !strings.Contains(log.String(), "it is longer than 4 MB") {
		t.Errorf("%.100q, logged %q", rec.Body, log)
	}
}

// The cost of an answer grows with its length, however the server cuts it up.
func TestListingCosts(t *testing.T) {
	long := strings.Replace(tools("search", "delete_page"), `"c"`, `"`+strings.Repeat("x", 400000)+`"`, 1)
	pieces := []string{}
	for text := "data: " + long + "\n\n"; text != ""; text = text[len(pieces[len(pieces)-1]):] {
		n := 500
		if n > len(text) {
			n = len(text)
		}
		pieces = append(pieces, text[:n])
	}
	for _, c := range []struct {
		name  string
		parts []string
		want  string
		most  uint64 // bytes
	}{
		{"a long event in small pieces", pieces, "data: " + strings.Replace(tools("search"), `"c"`, `"`+strings.Repeat("x", 400000)+`"`, 1) + "\n\n", 20 << 20},
		{"an event of many lines", []string{strings.Repeat("a\n", 20000) + "data: " + tools("search", "delete_page") + "\n\n"}, strings.Repeat("a\n", 20000) + "data: " + tools("search") + "\n\n", 20 << 20},
		{"an event of many lines of data", []string{"data: {\n" + strings.Repeat("data:\n", 20000) + "data: " + tools("search", "delete_page")[1:] + "\n\n"}, "data: " + tools("search") + "\n\n", 20 << 20},
		{"an event of too many lines", []string{"data: {\n" + strings.Repeat("a\n", 100001) + "data: }\n\n"}, "", 20 << 20},
	} {
		start(t)
		rec := httptest.NewRecorder()
		held := &heldAnswer{header: http.Header{"Content-Type": {"text/event-stream"}}, client: rec, scopes: "wiki:read", share: &share{of: listingBudget}, timer: time.NewTimer(time.Hour)}
		rules, err := parseRules(&labelTexts{ToolScopes: "delete_page=wiki:write; *=wiki:read"})
		if err != nil {
			t.Fatal(err)
		}
		held.rules = rules
		var before, behind runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, part := range c.parts {
			_, _ = held.Write([]byte(part))
		}
		held.passEvents(true)
		runtime.ReadMemStats(&behind)
		giveBack(held.share)
		if rec.Body.String() != c.want {
			t.Errorf("%s: %.200q, want %.200q", c.name, rec.Body, c.want)
		}
		if cost := behind.TotalAlloc - before.TotalAlloc; cost > c.most {
			t.Errorf("%s: %d bytes", c.name, cost)
		}
	}
}

// An event ends where its last line ends, wherever the pieces are cut.
func TestListingWithEventsThatAreCutAnywhere(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n", "\n\r", "\r\n\n", "\n\r\n"} {
		text := "id: 1\ndata: {}" + end + "data: a" + end + "data: b"
		for size := 1; size < 8; size++ {
			start(t)
			rec := httptest.NewRecorder()
			held := &heldAnswer{header: http.Header{"Content-Type": {"text/event-stream"}}, client: rec, share: &share{of: listingBudget}, timer: time.NewTimer(time.Hour)}
			for at := 0; at < len(text); at += size {
				stop := at + size
				if stop > len(text) {
					stop = len(text)
				}
				_, _ = held.Write([]byte(text[at:stop]))
			}
			if got := rec.Body.String(); got != "id: 1\ndata: {}\n\ndata: a\n\n" {
				t.Errorf("%q by %d: %q before the end", end, size, got)
			}
		}
	}
}
