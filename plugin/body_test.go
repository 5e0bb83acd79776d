//go:build go1.21

package plugin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// A message is read to its end before the MCP server is asked, or Traefik may cut its answer off;
// a stream is passed on as it comes.
func TestMessagesAreHeldAndStreamsAreNot(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	for _, c := range []struct {
		name   string
		body   string
		length int64
		held   bool
		want   int
	}{
		{"a message", `{"jsonrpc":"2.0"}`, 17, true, 200},
		{"of the greatest length", strings.Repeat("x", maxMessage), maxMessage, true, 200},
		{"longer", strings.Repeat("x", maxMessage+1), maxMessage + 1, false, 200},
		{"of unknown length", "message", -1, false, 200},
		{"none", "", 0, true, 200},
	} {
		from := strings.NewReader(c.body)
		left, got := -1, ""
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			left = from.Len()
			b, _ := io.ReadAll(req.Body)
			got = string(b)
			if req.ContentLength != c.length {
				t.Errorf("%s: length %d, want %d", c.name, req.ContentLength, c.length)
			}
		})
		h, err := New(context.Background(), next, wikiConfig(sidecar.server.URL), "wiki@docker")
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", wikiURL+"/mcp", io.NopCloser(from))
		req.ContentLength = c.length
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != c.want || got != c.body || (left == 0) != c.held {
			t.Errorf("%s: status %d, %d of %d bytes left when the MCP server was asked, it got %d", c.name, rec.Code, left, len(c.body), len(got))
		}
	}
	// This client goes away in the middle of its message.
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	body, client := io.Pipe()
	go func() {
		_, _ = client.Write([]byte(`{"jsonrpc"`))
		_ = client.CloseWithError(io.ErrUnexpectedEOF)
	}()
	req := httptest.NewRequest("POST", wikiURL+"/mcp", body)
	req.ContentLength = 17
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != 503 || behind.count() != 0 {
		t.Errorf("half a message: status %d, %d calls", rec.Code, behind.count())
	}
}

// A body that was read before (by a middleware that sends a request twice) or that breaks off is
// not passed on as a shorter one.
func TestBodyIsPassedOnWholeOrNotAtAll(t *testing.T) {
	message := toolCall("search")
	long := strings.Replace(message, "Main", strings.Repeat("x", 100000), 1)
	for _, c := range []struct {
		name, path, body string
		announced        int
		rules            bool
		want             int
		logged           bool // as read before
	}{
		{"whole", "/mcp", message, len(message), false, 200, false},
		{"whole, with rules", "/mcp", message, len(message), true, 200, false},
		{"whole and long", "/mcp", long, len(long), false, 200, false},
		{"whole and long, with rules", "/mcp", long, len(long), true, 200, false},
		{"read before", "/mcp", "", len(message), false, 503, true},
		{"read before, with rules", "/mcp", "", len(message), true, 503, true},
		{"long, and read before", "/mcp", "", len(long), false, 503, true},
		{"long, and read before, with rules", "/mcp", "", len(long), true, 503, true},
		{"half", "/mcp", message[:40], len(message), false, 503, false},
		{"half, with rules", "/mcp", message[:40], len(message), true, 503, false},
		{"half of a long one", "/mcp", long[:50000], len(long), false, 503, false},
		{"the start of a long one", "/mcp", long[:100], len(long), true, 503, false},
		{"longer than announced", "/mcp", message + "x", len(message), false, 503, false},
		{"long, and longer than announced", "/mcp", long + "x", len(long), true, 503, false},
		{"in chunks, and read before, with rules", "/mcp", "", -1, true, 503, true},
		{"of the sidecar, in chunks, and empty, as HTTP/3 sends a GET", "/oauth/authorize", "", -1, false, 200, false},
		{"of the sidecar, whole", "/oauth/token", "grant_type=a", 12, false, 200, false},
		{"of the sidecar, read before", "/oauth/token", "", 12, false, 503, true},
		{"of the sidecar, half", "/oauth/token", "grant_", 12, false, 503, false},
		{"of the sidecar, long, and read before", "/oauth/register", "", 20000, false, 503, true},
	} {
		logged := start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		if c.rules {
			config.ToolScopes = "*=openid"
		}
		behind := &reader{}
		var next http.Handler = behind
		h, err := New(context.Background(), next, config, "wiki@docker")
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", wikiURL+c.path, io.NopCloser(strings.NewReader(c.body)))
		req.ContentLength = int64(c.announced)
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		passed := behind.calls == 1 || sidecar.lastRequest() != nil
		if rec.Code != c.want || passed != (c.want == 200) || behind.calls == 1 && behind.body != c.body {
			t.Errorf("%s: %d %s, passed on: %t, %d bytes", c.name, rec.Code, rec.Body, passed, len(behind.body))
		}
		if c.want == 503 && rec.Header().Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.name)
		}
		if strings.Contains(logged.String(), "body had been read before") != c.logged {
			t.Errorf("%s: the log says %s", c.name, logged)
		}
	}
}

// Trailers are not passed on: a server may take them for headers.
func TestTrailersAreNotPassedOn(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		body   string
		length int64
		rules  bool
	}{
		{"of a message", "POST", toolCall("search"), int64(len(toolCall("search"))), false},
		{"of a message that rules judge", "POST", toolCall("search"), int64(len(toolCall("search"))), true},
		{"of a message of unknown length that rules judge", "POST", toolCall("search"), -1, true},
		{"of a stream", "POST", toolCall("search"), -1, false},
		{"of a GET with a message that rules judge", "GET", toolCall("search"), -1, true},
		{"of a GET with an empty body, with rules", "GET", "", -1, true},
		{"of a GET with an empty body", "GET", "", -1, false},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		if c.rules {
			config.ToolScopes = "*=openid"
		}
		trailer := http.Header{"not": {"called"}}
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			_, _ = io.ReadAll(req.Body)
			trailer = req.Trailer
		})
		h, err := New(context.Background(), next, config, "wiki@docker")
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest(c.method, wikiURL+"/mcp", io.NopCloser(strings.NewReader(c.body)))
		req.ContentLength = c.length
		req.Trailer = http.Header{"X-Mcp-Sub": {"somebody-else"}}
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != 200 || len(trailer) != 0 {
			t.Errorf("%s: %d, trailer %v", c.name, rec.Code, trailer)
		}
	}
}

// holder is an MCP server that answers when it is told to.
type holder struct {
	came chan bool
	end  chan bool // false: it panics, as a proxy whose answer breaks off does
}

func (m *holder) ServeHTTP(_ http.ResponseWriter, _ *http.Request) {
	m.came <- true
	if !<-m.end {
		panic("the answer broke off")
	}
}

// sendLong sends a message of this many bytes, and reports its status; 0 when the handler
// panicked.
func sendLong(h http.Handler, bytes int, length int64, status chan int) {
	body := toolCall("search")
	body = strings.Replace(body, "Main", strings.Repeat("x", bytes-len(body)+4), 1)
	req := httptest.NewRequest("POST", wikiURL+"/mcp", io.NopCloser(strings.NewReader(body)))
	req.ContentLength = length
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
	rec := httptest.NewRecorder()
	code := 0
	defer func() {
		_ = recover()
		status <- code
	}()
	h.ServeHTTP(rec, req)
	code = rec.Code
}

// The memory for messages that are held at once is bounded. Each message gives back its share,
// however it ends.
func TestMessagesThatAreHeldAtOnceAreBounded(t *testing.T) {
	heldAtOnce(t, false)
	heldAtOnce(t, true)
}

func heldAtOnce(t *testing.T, rules bool) {
	logged := start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	if rules {
		config.ToolScopes = "*=openid"
	}
	server := &holder{came: make(chan bool, 8), end: make(chan bool)}
	var next http.Handler = server
	h, err := New(context.Background(), next, config, "wiki@docker")
	if err != nil {
		t.Fatal(err)
	}
	messageBudget.most = 2*maxMessage + 100000
	messages := make(chan int, 8)
	go sendLong(h, maxMessage, maxMessage, messages)
	go sendLong(h, maxMessage, maxMessage, messages)
	<-server.came
	<-server.came
	one := make(chan int, 1)
	sendLong(h, 200000, 200000, one)
	if got := <-one; got != 503 || !strings.Contains(logged.String(), "no more is held") {
		t.Errorf("rules %t: a message more: %d; the log says %s", rules, got, logged)
	}
	go sendLong(h, 90000, 90000, messages) // there is room for it
	<-server.came
	go sendLong(h, maxUncounted, maxUncounted, messages) // needs none
	<-server.came
	for _, well := range []bool{true, false, true, false} {
		server.end <- well
	}
	panics := 0
	for i := 0; i < 4; i++ {
		if <-messages == 0 {
			panics++
		}
	}
	if panics != 2 || messageBudget.held != 0 {
		t.Errorf("rules %t: %d handlers panicked, %d bytes are still counted", rules, panics, messageBudget.held)
	}
	if rules { // one of unknown length counts as the longest until it has been read
		go sendLong(h, 50000, -1, messages)
		<-server.came
		if messageBudget.held != 50000 {
			t.Errorf("%d bytes are counted for 50000", messageBudget.held)
		}
		server.end <- true
		<-messages
		go sendLong(h, 5000, -1, messages)
		<-server.came
		if messageBudget.held != 0 {
			t.Errorf("%d bytes are counted for a short one", messageBudget.held)
		}
		server.end <- true
		<-messages
	}
	messageBudget.most = maxHeld
}

// A message costs its size, and one that is only announced costs little.
func TestMessageCosts(t *testing.T) {
	for _, c := range []struct {
		name      string
		announced int64
		sent      int
		most      uint64 // bytes
	}{
		{"1 MB", maxMessage, maxMessage, maxMessage*11/10 + maxUncounted},
		{"100 KB", 100000, 100000, 100000*11/10 + 2*maxUncounted},
		{"1 MB that is announced alone", maxMessage, 100, 2*maxUncounted + 20000},
	} {
		start(t)
		req := httptest.NewRequest("POST", wikiURL+"/mcp", io.NopCloser(strings.NewReader(strings.Repeat("x", c.sent))))
		req.ContentLength = c.announced
		var before, behind runtime.MemStats
		runtime.ReadMemStats(&before)
		body, status := holdBody(req, maxMessage, &share{of: &budget{most: maxHeld}})
		runtime.ReadMemStats(&behind)
		if (status == 0) != (int64(c.sent) == c.announced) || len(body) != c.sent && status == 0 {
			t.Errorf("%s: status %d, %d bytes", c.name, status, len(body))
		}
		if cost := behind.TotalAlloc - before.TotalAlloc; cost > c.most {
			t.Errorf("%s costs %d bytes, want at most %d", c.name, cost, c.most)
		}
	}
}

// slowBody is a body that is sent slowly, while another is sent.
type slowBody struct {
	name, path string
	length     int64 // as its request says
	rules      bool

	other       string
	otherLength int64
}

// A client that sends slowly, or announces more than it sends, takes no memory that others need.
func TestMessagesThatComeSlowlyUseUpNoBudget(t *testing.T) {
	for _, c := range []slowBody{
		{"strangers at the sidecar's paths", "/oauth/token", -1, false, "grant_type=a", -1},
		{"strangers who announce", "/oauth/token", maxForwarded, false, strings.Repeat("x", maxForwarded), maxForwarded},
		{"messages of unknown length", "/mcp", -1, true, toolCall("search"), -1},
		{"messages that are announced alone", "/mcp", maxMessage, false, strings.Repeat("x", maxMessage), maxMessage},
	} {
		besideASlowBody(t, c)
	}
}

func besideASlowBody(t *testing.T, c slowBody) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	if c.rules {
		config.ToolScopes = "*=openid"
	}
	var next http.Handler = &reader{}
	h, err := New(context.Background(), next, config, "wiki@docker")
	if err != nil {
		t.Fatal(err)
	}
	messageBudget.most = maxMessage
	forwardBudget.most = maxForwarded
	slow, client := io.Pipe()
	ended := make(chan bool)
	go sendSlowly(h, c.path, c.length, slow, ended)
	_, _ = client.Write([]byte("gr")) // ends when it is read
	if got := sendBody(h, c.path, c.otherLength, strings.NewReader(c.other)); got != 200 {
		t.Errorf("%s: another meanwhile: %d", c.name, got)
	}
	_ = client.CloseWithError(io.ErrUnexpectedEOF)
	<-ended
	if messageBudget.held != 0 || forwardBudget.held != 0 {
		t.Errorf("%s: %d and %d bytes are still counted", c.name, messageBudget.held, forwardBudget.held)
	}
	messageBudget.most = maxHeld
	forwardBudget.most = maxHeldForwarded
}

func sendSlowly(h http.Handler, path string, length int64, body io.Reader, ended chan bool) {
	sendBody(h, path, length, body)
	close(ended)
}

// sendBody posts a body of this length, as the client says, and returns the status.
func sendBody(h http.Handler, path string, length int64, body io.Reader) int {
	req := httptest.NewRequest("POST", wikiURL+path, io.NopCloser(body))
	req.ContentLength = length
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Code
}
