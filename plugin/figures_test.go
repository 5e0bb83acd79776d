//go:build go1.21

package plugin

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// reports stands for the timers of the plugin and for the sidecar's end of POST /hop/figures.
type reports struct {
	mu     sync.Mutex
	timers []func()
	waits  []time.Duration
	bodies []string
	status int
}

func (r *reports) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Method == "POST" && req.Header.Get("Content-Type") == "application/json" {
		r.bodies = append(r.bodies, string(body))
	}
	rw.WriteHeader(r.status)
}

// takeReports puts the plugin's timers and the sidecar's path into the hands of a test.
func takeReports(t *testing.T, sidecar *fakeSidecar) *reports {
	r := &reports{status: 204}
	before := afterFunc
	afterFunc = func(wait time.Duration, send func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.timers = append(r.timers, send)
		r.waits = append(r.waits, wait)
	}
	t.Cleanup(func() { afterFunc = before })
	sidecar.on("/hop/figures", func(rw http.ResponseWriter, req *http.Request) { r.ServeHTTP(rw, req) })
	return r
}

// fire lets the timers that run end, and returns what was reported, one report after the other.
func (r *reports) fire() string {
	r.mu.Lock()
	timers := r.timers
	r.timers = nil
	r.bodies = nil
	r.mu.Unlock()
	for _, send := range timers {
		send()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.bodies, "\n")
}

func (r *reports) armed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.timers)
}

func (r *reports) answerWith(status int) {
	r.mu.Lock()
	r.status = status
	r.mu.Unlock()
}

func TestFiguresTellRefusalsAndFirstPresentations(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	r := takeReports(t, sidecar)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.RequiredScopes = "mcp"
	h, _ := guard(t, config)
	good := goodToken("k1", map[string]any{"sid": "login-1"})
	// a login, refreshed once, another one, and a token without a login
	ask(h, "POST", wikiURL+"/mcp", bearer(good)...)
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", map[string]any{"sid": "login-1", "jti": "a2"}))...)
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", map[string]any{"sid": "login-2", "client_id": "https://claude.ai/x"}))...)
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	if r.armed() != 1 || r.waits[0] != reportDelay {
		t.Fatalf("%d timers, waits %v", r.armed(), r.waits)
	}
	if got := r.fire(); got != `{"v":1,"presented":[{"sid":"login-1","client_id":"client-1"},{"sid":"login-2","client_id":"https://claude.ai/x"}]}` {
		t.Errorf("reported %s", got)
	}
	// Known tokens: nothing is counted, and no timer runs.
	for i := 0; i < 3; i++ {
		ask(h, "POST", wikiURL+"/mcp", bearer(good)...)
	}
	if r.armed() != 0 {
		t.Error("a known token arms a report")
	}
	for _, c := range []struct {
		cause   string
		url     string
		headers []string
	}{
		{"no_token", wikiURL + "/mcp", nil},
		{"repeated", wikiURL + "/mcp", append(bearer(good), bearer(good)...)},
		{"malformed", wikiURL + "/mcp", bearer("x.y.z")},
		{"expired", wikiURL + "/mcp", bearer(goodToken("k1", map[string]any{"exp": clock.Load() - 61}))},
		{"signature", wikiURL + "/mcp", bearer(good[:len(good)-6] + "AAAAAA")},
		{"issuer", wikiURL + "/mcp", bearer(goodToken("k1", map[string]any{"iss": "https://other"}))},
		{"audience", wikiURL + "/mcp", bearer(goodToken("k1", map[string]any{"aud": "other"}))},
		{"unknown_key", wikiURL + "/mcp", bearer(goodToken("k9", nil))},
		{"scope_required", wikiURL + "/mcp", bearer(goodToken("k1", map[string]any{"scope": "openid"}))},
		{"not_found", "https://mcp.localhost/other", nil},
		{"other_host", "https://elsewhere.example/wiki/mcp", nil},
		{"path", "https://mcp.localhost/wiki/%6dcp", nil},
		{"loop", wikiURL + "/oauth/token", []string{hopHeader, "mbh1_x"}},
		{"query", wikiURL + "/oauth/authorize?" + strings.Repeat("a=1&", 200), nil},
	} {
		ask(h, "POST", c.url, c.headers...)
		if got := r.fire(); got != `{"v":1,"refusals":{"`+c.cause+`":1}}` {
			t.Errorf("%s: reported %s", c.cause, got)
		}
	}
	if r.armed() != 0 {
		t.Error("a report arms another one")
	}
}

func TestFiguresTellByWhoseRuleACallWasRefused(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	r := takeReports(t, sidecar)
	h, _ := ruled(t, func(c *Config) { c.SidecarURL = sidecar.server.URL })
	for _, c := range []struct{ cause, body string }{
		{"scope_tool", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page"}}`},
		{"scope_tool", `{ "jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page"}}`},
		{"scope_resource", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///secret"}}`},
		{"scope_prompt", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"review"}}`},
		{"scope_method", `{"jsonrpc":"2.0","id":1,"method":"admin/reset","params":{}}`},
		{"scope_batch", `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page"}}]`},
		{"message", `{"jsonrpc":"2.0"`},
	} {
		r.fire()
		post(h, "mcp", c.body)
		if got := r.fire(); !strings.Contains(got, `"refusals":{"`+c.cause+`":1}`) {
			t.Errorf("%s: reported %s", c.body, got)
		}
	}
}

func TestFiguresThatDidNotArriveAreReportedLater(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	r := takeReports(t, sidecar)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", map[string]any{"sid": "login-1"}))...)
	ask(h, "POST", wikiURL+"/mcp")
	r.answerWith(503)
	r.fire()
	if r.armed() != 0 { // or a timer would go on for as long as the sidecar is away
		t.Error("a report that failed arms the next one")
	}
	r.answerWith(204)
	ask(h, "POST", wikiURL+"/mcp")
	if got := r.fire(); got != `{"v":1,"refusals":{"no_token":2},"presented":[{"sid":"login-1","client_id":"client-1"}]}` {
		t.Errorf("reported %s", got)
	}
	// A sidecar of the version before is left alone for ten minutes.
	r.answerWith(404)
	ask(h, "POST", wikiURL+"/mcp")
	r.fire()
	ask(h, "POST", wikiURL+"/mcp")
	clock.Add(figuresPause - 1)
	ask(h, "POST", wikiURL+"/mcp")
	if r.armed() != 0 {
		t.Error("a sidecar without the path is asked again within ten minutes")
	}
	clock.Add(1)
	r.answerWith(204)
	ask(h, "POST", wikiURL+"/mcp")
	if got := r.fire(); got != `{"v":1,"refusals":{"no_token":4}}` {
		t.Errorf("after ten minutes, reported %s", got)
	}
}

func TestFiguresTellFailuresOfAskingTheSidecar(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	r := takeReports(t, sidecar)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	for _, c := range []struct {
		cause        string
		break_, mend func()
	}{
		{"not_sidecar", func() { sidecar.unmarked = "/oauth/x" }, func() { sidecar.unmarked = "" }},
		{"hop_refused", func() { sidecar.refuses = true }, func() { sidecar.refuses = false }},
	} {
		sidecar.mu.Lock()
		c.break_()
		sidecar.mu.Unlock()
		ask(h, "GET", wikiURL+"/oauth/x")
		sidecar.mu.Lock()
		c.mend()
		sidecar.mu.Unlock()
		if got := r.fire(); got != `{"v":1,"failures":{"`+c.cause+`":1}}` {
			t.Errorf("%s: reported %s", c.cause, got)
		}
	}
	sidecar.serveKeys("{}")
	sidecar.setDeny("500")
	ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	eventually(t, "the fetches end", func() bool { return !flying() })
	if got := r.fire(); !strings.Contains(got, `"sidecar_away":1`) {
		t.Errorf("reported %s", got)
	}
	sidecar.server.Close()
	ask(h, "GET", wikiURL+"/oauth/x")
	r.fire() // in vain, and not counted itself
	if r.armed() != 0 {
		t.Error("a failed report arms the next one")
	}
	state := &sidecarState{}
	for _, s := range allStates() {
		state = s
	}
	if state.figures.failures["unreachable"] != 1 {
		t.Errorf("counted %v", state.figures.failures)
	}
}

// However much strangers or a crowd make the plugin count, a report stays below 16 KB, and what
// waits stays bounded.
func TestFiguresAreBounded(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	r := takeReports(t, sidecar)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	ask(h, "POST", wikiURL+"/mcp")
	r.fire()
	state := &sidecarState{}
	for _, s := range allStates() {
		state = s
	}
	f := state.figures
	// a character of six bytes as JSON
	for i := 0; i < maxPresented+7; i++ {
		present(f, &claims{Login: "login-" + strconv.Itoa(i), ClientID: strings.Repeat("\u2028", 600)})
	}
	for i := 0; i < 2*maxCauses; i++ {
		countCause(f, fmt.Sprintf("cause-%d", i))
	}
	present(f, &claims{Login: strings.Repeat("x", maxLoginID+1)})
	logins := 0
	more := ""
	for rounds := 0; r.armed() > 0 && rounds < 200; rounds++ {
		got := r.fire()
		if len(got) > maxReport {
			t.Fatalf("a report of %d bytes", len(got))
		}
		logins += strings.Count(got, `"sid"`)
		if strings.Contains(got, `"presented_more":7`) {
			more += "7"
		}
	}
	if logins != maxPresented || more != "7" || len(f.refusals) != 0 {
		t.Errorf("%d logins, more %q, %v", logins, more, f.refusals)
	}
	for i := 0; i < maxTold-200; i++ {
		f.known["told-"+strconv.Itoa(i)] = true
	}
	for i := 0; i < 400; i++ {
		present(f, &claims{Login: "other-" + strconv.Itoa(i)})
		if i%maxPresented == 0 {
			r.fire()
		}
	}
	if len(f.known) != maxTold || len(f.presented) > maxPresented {
		t.Errorf("%d known, %d wait", len(f.known), len(f.presented))
	}
}
