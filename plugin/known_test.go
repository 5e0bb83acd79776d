//go:build go1.21

package plugin

import (
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// twin is one of two middlewares that are asked the same, with a sidecar of its own.
type twin struct {
	b       *bouncer
	h       http.Handler
	sidecar *fakeSidecar
	behind  *backend
}

func newTwin(t testing.TB, labels func(*Config)) *twin {
	sidecar := startSidecar(t)
	c := wikiConfig(sidecar.server.URL)
	labels(c)
	s, err := parseConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	behind := &backend{}
	var next http.Handler = behind
	b := newBouncer("wiki@docker", next, s)
	return &twin{b: b, h: shortWay(b), sidecar: sidecar, behind: behind}
}

// ask sends a copy of a request, and returns all that came of it.
func (w *twin) ask(req *http.Request, body string, long bool) string {
	copied := req.Clone(req.Context())
	copied.Body = io.NopCloser(strings.NewReader(body))
	w.behind.mu.Lock()
	w.behind.last = nil
	w.behind.mu.Unlock()
	rec := httptest.NewRecorder()
	if long {
		w.b.known = newKnownRequests(w.b.own, judgesAlone(w.b.settings)) // nothing is known
		serve(w.b, rec, copied)
	} else {
		w.h.ServeHTTP(rec, copied)
	}
	w.behind.mu.Lock()
	defer w.behind.mu.Unlock()
	// Traefik's access log keeps headers as they are left here, also those of a refused request.
	log := copied.Header.Get(subjectHeader) + " " + copied.Header.Get(scopesHeader) + " " + copied.Header.Get(callHeader)
	return fmt.Sprint(rec.Code, rec.Header(), rec.Body, "; the server behind got ", w.behind.calls, w.behind.last, "; the log says ", log)
}

// A request that is known has the outcome that it would have if nothing were known, whatever
// headers it has, and whatever has happened meanwhile to clock, keys and deny document.
func TestKnownRequestsAreJudgedAsUnknownOnes(t *testing.T) {
	for name, labels := range map[string]func(*Config){
		"no label":         func(c *Config) {},
		"identity headers": func(c *Config) { c.IdentityHeaders = "email=X-Forwarded-User,name" },
		"rules and CORS": func(c *Config) {
			c.ToolScopes = "delete_page=wiki:write"
			c.CORS = "true"
		},
		"rules": func(c *Config) {
			c.ToolScopes = "delete_page=wiki:write; secret3=wiki:write; search3=mcp"
			c.ResourceScopes = "file:///secret/*=wiki:write"
		},
		"rules, calls and identity headers": func(c *Config) {
			c.ToolScopes = "delete_page=wiki:write"
			c.AuditCalls = "true"
			c.IdentityHeaders = "email=X-Forwarded-User,name"
		},
		"calls":            func(c *Config) { c.AuditCalls = "true" },
		"rules and hiding": func(c *Config) { c.ToolScopes = "delete_page=wiki:write"; c.HideTools = "true" },
		"a public URL and scopes": func(c *Config) {
			c.PublicURL = wikiURL
			c.RequiredScopes = "mcp"
		},
		"proofs":         func(c *Config) { c.DPoP = "accept" },
		"upstream token": func(c *Config) { c.UpstreamToken = "header=X-Custom-2" },
		"upstream token, rules and identity headers": func(c *Config) {
			c.UpstreamToken = "scopes=repo"
			c.ToolScopes = "delete_page=wiki:write"
			c.IdentityHeaders = "email=X-Forwarded-User,name"
		},
	} {
		start(t)
		short := newTwin(t, labels)
		long := newTwin(t, labels)
		random := rand.New(rand.NewSource(7))
		credentials := []string{"Basic dXNlcg==", "Bearer x.y.z", "DPoP x.y.z"}
		for i := 0; i < 6; i++ {
			key := "k" + strconv.Itoa(1+i%2)
			claim := sealUpstream(hopKeyOf(7), wikiURL, jtiOf(i), githubToken+strconv.Itoa(i))
			if i == 5 {
				claim = ""
			}
			credentials = append(credentials, "Bearer "+goodToken(key, map[string]any{"jti": jtiOf(i), "upstream_token": claim, "sub": "user-" + strconv.Itoa(i), "email": "e@example.com",
				"exp": clock.Load() + int64(100+400*i), "scope": []string{"mcp", "openid", "mcp wiki:write"}[i%3]}))
		}
		serial := 0
		known := 0
		for i := 0; i < 1200; i++ {
			switch random.Intn(150) {
			case 0:
				clock.Add(int64(random.Intn(40)))
			case 1:
				clock.Add(int64(random.Intn(600)) - 300)
			case 2:
				serial++
				deny := strings.Replace(noDeny, `"serial":0`, `"serial":`+strconv.Itoa(serial), 1)
				deny = strings.Replace(deny, `"users":[]`, `"users":["user-`+strconv.Itoa(random.Intn(16))+`"]`, 1)
				short.sidecar.setDeny(deny)
				long.sidecar.setDeny(deny)
			case 3:
				keys := jwksOf([]string{"k1", "k2"}[random.Intn(2)])
				if random.Intn(2) == 0 {
					keys = jwksOf("k1", "k2")
				}
				short.sidecar.serveKeys(keys)
				long.sidecar.serveKeys(keys)
			case 4:
				short.sidecar.setDeny("500")
				long.sidecar.setDeny("500")
			}
			// A token that is verified while a fetch is in the air may be remembered or not.
			askSidecars(t)
			req, body := randomRequest(random, credentials)
			told := fmt.Sprintf("%s %s%s %v", req.Method, req.URL.RawPath, req.URL.Path, req.Header)
			before := short.b.known.size
			got := short.ask(req, body, false)
			want := long.ask(req, body, true)
			if got != want {
				t.Fatalf("%s: request %d: %s:\n%s, want\n%s", name, i, told, got, want)
			}
			known += short.b.known.size - before
		}
		if known < 6 || !short.b.known.plain["X-Custom-1"] {
			t.Errorf("%s: only %d requests were known, names %v", name, known, short.b.known.plain)
		}
	}
}

// askSidecars makes the fetches that are due.
func askSidecars(t testing.TB) {
	states := []*sidecarState{}
	sidecarStates.Lock()
	for _, named := range sidecarStates.named {
		states = append(states, named...)
	}
	for _, s := range sidecarStates.strangers {
		states = append(states, s)
	}
	sidecarStates.Unlock()
	for _, s := range states {
		s.alive()
	}
	eventually(t, "the fetches end", func() bool { return !flying() })
}

var oddMessages = []string{
	`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///secret/a"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/../secret/a"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","uri":"delete_page"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","name":"delete_page"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page "}}`,
	`{"jsonrpc":"2.0","id":1,"method":"Tools/call","params":{"name":"delete_page"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"resources/made-up","params":{"name":"delete_page"}}`,
	`{"jsonrpc":"2.0","method":"notifications/initialized","params":{}}`,
	// nearly that of toolCall("search"), which is known by its sketch
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":{},"name":"delete_page"}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":{}},"params":{"name":"delete_page","arguments":{}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":{}}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":{},"_meta":{}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search2","arguments":{}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search3","arguments":{}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"secret3","arguments":{}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"secret4","arguments":{}}}`,
	`{"jsonrpc":"2.0","id":"secret4","method":"tools/call","params":{"name":"secret3","arguments":{}}}`,
	`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search","arguments":{"a":"` + "\xff" + `"}}}`,
	`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"file:///secret/a"}}}`,
}

// randomRequest returns a request and its body. Most of them are good ones of a few clients.
func randomRequest(random *rand.Rand, credentials []string) (*http.Request, string) {
	pick := func(from ...string) string { return from[random.Intn(len(from))] }
	h := http.Header{"Accept": {"application/json"}, "User-Agent": {"node"}, "X-Custom-1": {strconv.Itoa(random.Intn(9))},
		"X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}}
	req := &http.Request{Method: "GET", Host: "mcp.localhost", URL: &url.URL{Path: "/wiki/mcp"}, Header: h, ProtoMajor: 1}
	if random.Intn(8) > 0 {
		h["Authorization"] = []string{credentials[random.Intn(len(credentials))]}
	}
	body := ""
	if random.Intn(3) == 0 {
		body = pick(toolCall("search"), toolCall("delete_page"), toolCall("delete_page"), toolCall("DELETE_page"), "{", listRequest, "["+toolCall("delete_page")+"]", oddMessages[random.Intn(len(oddMessages))])
		req.Method = "POST"
		req.ContentLength = int64(len(body))
		h["Content-Type"] = []string{"application/json"}
		switch random.Intn(12) {
		case 0:
			req.ContentLength += int64(random.Intn(3) - 1) // the body is shorter or longer
		case 1:
			h["Content-Type"] = [][]string{{"text/plain"}, {"application/json; charset=utf-7"}, {"application/json", "text/plain"}, nil}[random.Intn(4)]
		case 2:
			h["Content-Encoding"] = []string{pick("gzip", "identity")}
		case 3:
			h["Mcp-Method"] = []string{pick("tools/call", "tools/list")}
		case 4:
			h["Mcp-Name"] = []string{pick("search", "delete_page")}
		case 5:
			h["Mcp-Protocol-Version"] = [][]string{{"2025-11-25"}, {"2026-07-28"}, {"2025-11-25", "2025-11-25"}}[random.Intn(3)]
		case 6:
			body += strings.Repeat("\n", []int{1, maxUncounted, maxMessage}[random.Intn(3)])
			req.ContentLength = int64(len(body))
		case 7:
			req.Method = pick("PUT", "GET", "DELETE")
		case 8:
			req.Trailer = http.Header{"X-Mcp-Sub": nil}
		}
	}
	switch random.Intn(12) { // as if somebody else sent it, or nobody
	case 0:
		h["X-Mcp-Sub"] = [][]string{{"mallory"}, {"mallory", "user-1"}, {""}, {}}[random.Intn(4)]
	case 1:
		h["X-Mcp-Scopes"] = [][]string{{"openid wiki:write"}, {"mcp", "wiki:write"}}[random.Intn(2)]
	}
	if random.Intn(2) > 0 {
		return req, body
	}
	switch random.Intn(12) {
	case 0:
		req.Method = pick("HEAD", "OPTIONS", "DELETE")
	case 1:
		req.URL.Path = pick("/wiki", "/wiki/x", "/wikileaks", "/", "/wiki//x")
	case 2:
		req.URL.RawPath = pick("/wiki/%6dcp", "/wiki%2Fmcp")
	case 3:
		h["X-Forwarded-Host"] = []string{pick("MCP.localhost", "other.example", "a b", "")}
	case 4:
		h["X-Forwarded-Proto"] = [][]string{{"http"}, {"https", "http"}, nil}[random.Intn(3)]
	case 5:
		h["Authorization"] = append(h["Authorization"], credentials[random.Intn(len(credentials))])
	case 6:
		h["Cookie"] = []string{pick("a=1", "mcpb-login=1; a=2", "__Host-mcpb-x=1")}
	case 7:
		h["Connection"] = []string{pick("X-Mcp-Sub", "Upgrade", "close")}
	case 8:
		h["Upgrade"] = []string{pick("websocket", "h2c")}
	case 9:
		req.Method = pick("OPTIONS", "GET")
		h["Origin"] = []string{"https://app.example"}
		h["Access-Control-Request-Method"] = []string{"POST"}
	case 10:
		h["Origin"] = []string{"https://app.example"}
		req.ProtoMajor = 2
		delete(h, "Authorization")
	case 11:
		delete(h, "X-Forwarded-Host")
	}
	for i := random.Intn(2); i > 0; i-- {
		name := pick("X-Mcp-Sub", "X_mcp_sub", "X.Mcp.Scopes", "x-mcp-email", "X-Mcp-Call", "X-Mcpb-Hop", "X-Forwarded-User", "X_forwarded_user",
			"X-Custom-2", "X-Mcp-Other", "Dpop", "Traceparent", "Content-Encoding", "Te", "Via")
		h[name] = append(h[name], pick("mallory", "1"))
	}
	return req, body
}

// A client that says who it is is nobody else for that, also where its request is known: see
// overwritten.
func TestKnownRequestsOverwriteWhoAClientSaysItIs(t *testing.T) {
	for name, labels := range map[string]func(*Config){
		"no label":         func(c *Config) {},
		"identity headers": func(c *Config) { c.IdentityHeaders = "email=X-Forwarded-User,name" },
		"rules":            func(c *Config) { c.ToolScopes = "delete_page=wiki:write" },
		"CORS":             func(c *Config) { c.CORS = "true" },
	} {
		log := start(t)
		w := newTwin(t, labels)
		good := bearer(goodToken("k1", nil))
		for i := 0; i < 3; i++ {
			ask(w.h, "GET", wikiURL+"/mcp", good...)
		}
		for _, forged := range [][]string{{"X-Mcp-Sub", "mallory"}, {"X-Mcp-Sub", "mallory", "X-Mcp-Sub", "user-1", "X-Mcp-Scopes", "wiki:write", "X-Mcp-Scopes", ""}} {
			for i := 0; i < 3; i++ {
				for how, send := range map[string]func(){
					"GET":            func() { ask(w.h, "GET", wikiURL+"/mcp", append(forged, good...)...) },
					"HEAD":           func() { ask(w.h, "HEAD", wikiURL+"/mcp", append(forged, good...)...) },
					"a message":      func() { post(w.h, "openid mcp", toolCall("search"), forged...) },
					"a long message": func() { post(w.h, "openid mcp", toolCall(strings.Repeat("s", maxUncounted)), forged...) },
				} {
					send()
					h := w.behind.last
					if strings.Join(h["X-Mcp-Sub"], "|") != "user-1" || strings.Join(h["X-Mcp-Scopes"], "|") != "openid mcp" || h["Authorization"] != nil {
						t.Errorf("%s, %s, %v: the server saw %v", name, how, forged, h)
					}
					w.behind.last = nil
				}
			}
		}
		// Without a token, it may have been through another bouncer: at a known address too.
		if log.String() != "" {
			t.Errorf("%s: logged %q", name, log)
		}
		ask(w.h, "POST", wikiURL+"/mcp")
		ask(w.h, "POST", wikiURL+"/mcp", "X-Mcp-Sub", "user-1")
		if !strings.Contains(log.String(), "has been through a bouncer already") {
			t.Errorf("%s: logged %q", name, log)
		}
	}
}

// Whoever has a token can ask for as many addresses, and send as many names of headers, as he
// likes. Whoever has none teaches no names.
func TestKnownRequestsAreBounded(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) {})
	good := bearer(goodToken("k1", nil))
	usual := len(w.b.known.plain)
	ask(w.h, "GET", wikiURL+"/mcp", "X-Mine", "1")
	if len(w.b.known.plain) != usual {
		t.Error("a stranger has taught a name")
	}
	ask(w.h, "GET", wikiURL+"/mcp", good...)
	ask(w.h, "GET", wikiURL+"/mcp", append([]string{"X-Mcp-Email", "mallory", "X_mcp_sub", "mallory"}, good...)...)
	if w.b.known.plain["X-Mcp-Email"] || w.b.known.plain["X_mcp_sub"] {
		t.Error("a name that only the bouncer may set was learned")
	}
	teach := func(w *twin, name string) {
		for i := 0; i < 2*maxTaught; i++ {
			ask(w.h, "GET", wikiURL+"/mcp", append([]string{name + strconv.Itoa(i), "1"}, good...)...)
		}
	}
	teach(w, "X-Mine-")
	if n := len(w.b.known.plain); n != usual+maxTaught {
		t.Errorf("%d names, want %d", n, usual+maxTaught)
	}
	choosy := newTwin(t, func(c *Config) { c.IdentityHeaders = "email=X-Mine-1" })
	if len(choosy.b.known.plain) != usual {
		t.Error("a name that the label chooses is plain because another middleware has learned it")
	}
	for i := 0; i < (maxPlain-usual)/maxTaught; i++ {
		teach(newTwin(t, func(c *Config) {}), fmt.Sprintf("X-Mine-%d-", i))
	}
	if n := len(w.b.known.plain); n != maxPlain {
		t.Errorf("%d names, want %d", n, maxPlain)
	}
	if n := len(newTwin(t, func(c *Config) {}).b.known.plain); n != usual {
		t.Errorf("a middleware that is made later begins with %d names, want %d", n, usual)
	}
	for i := 0; i < maxEndpoints/2; i++ {
		ask(w.h, "GET", wikiURL+"/"+strconv.Itoa(i))
	}
	if n := len(w.b.known.endpoints); n == 0 || n > maxPassing+1 {
		t.Errorf("%d endpoints", n)
	}
	k := &knownRequest{id: &identity{}}
	for i := 0; i < maxKnown+5; i++ {
		put(w.b.known, strconv.Itoa(i%7), [32]byte{byte(i), byte(i >> 8)}, k)
	}
	n := 0
	for _, byHash := range w.b.known.byPath {
		n += len(byHash)
	}
	if n == 0 || n > maxKnown || n != w.b.known.size {
		t.Errorf("%d requests, counted as %d", n, w.b.known.size)
	}
}

// A request that is known asks the sidecar as often as others do, also when the clock is set back.
func TestKnownRequestsFetchWhatIsDue(t *testing.T) {
	for _, headers := range []string{"", "email"} { // shortWay, shortWayWithHeaders
		for _, moves := range []int64{denyPeriod + 1, -200} {
			start(t)
			w := newTwin(t, func(c *Config) { c.IdentityHeaders = headers })
			good := bearer(goodToken("k1", nil))
			for i := 0; i < 3; i++ {
				ask(w.h, "GET", wikiURL+"/mcp", good...)
			}
			before := w.sidecar.denyFetches.Load()
			clock.Add(moves)
			if rec := ask(w.h, "GET", wikiURL+"/mcp", good...); rec.Code != 200 || w.b.known.size != 1 {
				t.Errorf("%q, %d seconds later: status %d, %d are known", headers, moves, rec.Code, w.b.known.size)
			}
			eventually(t, "the deny document is fetched again", func() bool { return w.sidecar.denyFetches.Load() > before })
		}
	}
}

// A request is known no longer than its token is good, to the second, also where nothing else is
// due.
func TestKnownRequestsEndWithTheirTokens(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) {})
	good := bearer(goodToken("k1", map[string]any{"exp": clock.Load() + 100}))
	for i := 0; i < 3; i++ {
		ask(w.h, "GET", wikiURL+"/mcp", good...)
	}
	clock.Add(100 + expirySkew - 1)
	askSidecars(t)
	if rec := ask(w.h, "GET", wikiURL+"/mcp", good...); rec.Code != 200 || w.b.known.size != 1 {
		t.Fatalf("a second before: status %d, %d are known", rec.Code, w.b.known.size)
	}
	clock.Add(1)
	if rec := ask(w.h, "GET", wikiURL+"/mcp", good...); rec.Code != 401 {
		t.Errorf("status %d", rec.Code)
	}
}

// A request is known no longer when its client is denied, or when the key of its token is gone.
func TestKnownRequestsEndWithWhatTheyRestOn(t *testing.T) {
	for name, change := range map[string]func(f *fakeSidecar){
		"a denied client": func(f *fakeSidecar) {
			f.setDeny(strings.Replace(noDeny, `"serial":0,"notBefore":0,"clients":[]`, `"serial":1,"notBefore":0,"clients":["`+fingerprint("client-1")+`"]`, 1))
		},
		"a key that is gone": func(f *fakeSidecar) { f.serveKeys(jwksOf("k2")) },
	} {
		start(t)
		w := newTwin(t, func(c *Config) {})
		good := bearer(goodToken("k1", map[string]any{"exp": clock.Load() + 90000}))
		for i := 0; i < 3; i++ {
			ask(w.h, "GET", wikiURL+"/mcp", good...)
		}
		change(w.sidecar)
		clock.Add(3500)
		askSidecars(t)
		if rec := ask(w.h, "GET", wikiURL+"/mcp", good...); rec.Code != 401 || w.b.known.size != 1 {
			t.Errorf("%s: status %d, %d are known", name, rec.Code, w.b.known.size)
		}
		clock.Add(-3499) // to when the request was known
		if rec := ask(w.h, "GET", wikiURL+"/mcp", good...); rec.Code != 401 {
			t.Errorf("%s, and the clock is set back: status %d", name, rec.Code)
		}
	}
}

// A message of a known request is held as others are: whole, and without trailers.
func TestKnownRequestsAreHeldWhole(t *testing.T) {
	long := strings.Repeat(" ", maxUncounted)
	heldWhole(t, func(c *Config) {}, "{}", []string{"{}", "{", "{}{}", ""})
	heldWhole(t, func(c *Config) {}, long+"{}", []string{long + "{}", long + "{", long + "{}{}", "{}", ""})
	call := toolCall("search")
	heldWhole(t, func(c *Config) { c.ToolScopes = "delete_page=wiki:write" }, call, []string{call, call, call[1:], call + " ", ""})
	messageBudget.Lock()
	defer messageBudget.Unlock()
	if messageBudget.held != 0 {
		t.Errorf("%d bytes are still counted", messageBudget.held)
	}
}

// heldWhole sends bodies that are all said to be as long as a whole one.
func heldWhole(t *testing.T, labels func(*Config), whole string, bodies []string) {
	start(t)
	w := newTwin(t, labels)
	good := "Bearer " + goodToken("k1", nil)
	for i := 0; i < 3; i++ {
		ask(w.h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	}
	for i := 0; i < 2; i++ {
		req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader(whole))
		req.Header = http.Header{"X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "Authorization": {good}, "Content-Type": {"application/json"}}
		w.h.ServeHTTP(httptest.NewRecorder(), req)
	}
	known := w.b.known.size
	passed, want := 0, 0
	w.b.next = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		passed++
		if req.Trailer != nil {
			t.Errorf("trailers %v", req.Trailer)
		}
	})
	h := shortWay(w.b)
	for _, body := range bodies {
		req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader(body))
		req.Header = http.Header{"X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "Authorization": {good}}
		req.Header["Content-Type"] = []string{"application/json"}
		req.ContentLength = int64(len(whole))
		req.Trailer = http.Header{"X-Mcp-Sub": nil}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if body == whole {
			want++
		}
		if body == whole && rec.Code != 200 || body != whole && rec.Code != 503 {
			t.Errorf("%q of %d bytes: status %d", strings.TrimSpace(body), len(whole), rec.Code)
		}
	}
	if passed != want || known == 0 || w.b.known.size != known {
		t.Errorf("%d messages have passed, %d requests are known and were %d", passed, w.b.known.size, known)
	}
}

// A message of a known request is counted, streamed or refused by its length, as others are.
func TestKnownRequestsHoldNoMoreThanOthers(t *testing.T) {
	holdsNoMore(t, func(c *Config) {}, http.StatusOK)
	holdsNoMore(t, func(c *Config) { c.IdentityHeaders = "email" }, http.StatusOK)
	holdsNoMore(t, func(c *Config) { c.ToolScopes = "delete_page=wiki:write" }, http.StatusRequestEntityTooLarge)
}

// holdsNoMore is told the status of a message that is too long to be held.
func holdsNoMore(t *testing.T, labels func(*Config), tooLong int) {
	start(t)
	w := newTwin(t, labels)
	known := func(length int64, body io.ReadCloser) (*http.Request, *httptest.ResponseRecorder) {
		req := &http.Request{Method: "POST", URL: &url.URL{Path: "/wiki/mcp"}, ProtoMajor: 1, ContentLength: length, Body: body}
		req.Header = http.Header{"Content-Type": {"application/json"}, "X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "Authorization": {"Bearer " + goodToken("k1", nil)}}
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, req)
		return req, rec
	}
	message := toolCall("search")
	for i := 0; i < 3; i++ {
		known(int64(len(message)), io.NopCloser(strings.NewReader(message)))
	}
	if w.b.known.size != 1 {
		t.Fatalf("%d requests are known", w.b.known.size)
	}
	const longest = maxMessage + 1
	message += strings.Repeat(" ", longest-len(message))
	messageBudget.Lock()
	messageBudget.most = 0
	messageBudget.Unlock()
	for length, status := range map[int]int{maxUncounted: 200, maxUncounted + 1: 503, maxMessage: 503, longest: tooLong} {
		body := io.NopCloser(strings.NewReader(message[:length]))
		req, rec := known(int64(length), body)
		if held := any(req.Body) != any(body); rec.Code != status || held != (length == maxUncounted) {
			t.Errorf("%d bytes without a budget: status %d; held: %t", length, rec.Code, held)
		}
	}
	messageBudget.Lock()
	messageBudget.most = maxHeld
	messageBudget.Unlock()
	for _, length := range []int64{2, maxUncounted + 1} {
		if _, rec := known(length, nil); rec.Code != 503 {
			t.Errorf("no body of %d bytes: status %d", length, rec.Code)
		}
	}
	if w.b.known.size != 1 {
		t.Errorf("%d requests are known", w.b.known.size)
	}
}

// net/http gives no request a length below -1. Whatever does, the rules still judge the message.
func TestKnownRequestsOfOddLengthsAreJudged(t *testing.T) {
	for name, labels := range map[string]func(*Config){
		"identity headers": func(c *Config) { c.IdentityHeaders = "email" },
		"rules":            func(c *Config) { c.ToolScopes = "delete_page=wiki:write" },
	} {
		start(t)
		short := newTwin(t, labels)
		long := newTwin(t, labels)
		good := "Bearer " + goodToken("k1", map[string]any{"email": "e@example.com"})
		for _, length := range []int64{0, 0, 0, -1, -2, -3, -1 << 63} {
			h := http.Header{"Content-Type": {"application/json"}, "X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "Authorization": {good}}
			req := &http.Request{Method: "POST", URL: &url.URL{Path: "/wiki/mcp"}, Header: h, ProtoMajor: 1, ContentLength: length}
			body := toolCall("delete_page")
			if got, want := short.ask(req, body, false), long.ask(req, body, true); got != want {
				t.Errorf("%s: length %d: %s, want %s", name, length, got, want)
			}
		}
		if short.b.known.size != 1 {
			t.Errorf("%s: %d requests are known", name, short.b.known.size)
		}
	}
}

// A known token ends at its second, also while nothing has to be asked of the sidecar.
func TestKnownRequestEndsWithItsToken(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) {})
	good := bearer(goodToken("k1", map[string]any{"exp": clock.Load() + 5 - expirySkew}))
	for i := 0; i < 3; i++ {
		ask(w.h, "GET", wikiURL+"/mcp", good...)
	}
	for _, step := range []struct {
		seconds int64
		want    int
	}{{4, 200}, {1, 401}} {
		clock.Add(step.seconds)
		if rec := ask(w.h, "GET", wikiURL+"/mcp", good...); rec.Code != step.want || w.b.known.size != 1 {
			t.Errorf("at %d: status %d, want %d; %d are known", clock.Load(), rec.Code, step.want, w.b.known.size)
		}
	}
}

// The MCP server may change the headers that it is given.
func TestKnownRequestsShareNoHeader(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) {})
	for i := 0; i < 5; i++ {
		ask(w.h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	}
	if w.b.known.size != 1 {
		t.Fatalf("%d requests are known", w.b.known.size)
	}
	seen := []http.Header{}
	w.b.next = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { seen = append(seen, req.Header) })
	h := shortWay(w.b)
	for i := 0; i < 2; i++ {
		ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	}
	seen[0][subjectHeader][0] = "mallory"
	seen[0][scopesHeader][0] = "admin"
	if !reflect.DeepEqual(seen[1][subjectHeader], []string{"user-1"}) || !reflect.DeepEqual(seen[1][scopesHeader], []string{"openid mcp"}) {
		t.Errorf("the second request had %v", seen[1])
	}
}

// What the rules let through is remembered, within bounds; what they refuse is not.
func TestJudgedMessagesAreBounded(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) { c.ToolScopes = "delete_page=wiki:write; admin_*=wiki:admin" })
	call := func(tool string) int {
		body := toolCall(tool)
		req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader(body))
		req.Header = http.Header{"X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "Content-Type": {"application/json"},
			"Authorization": bearer(goodToken("k1", nil))[1:]}
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, req)
		return rec.Code
	}
	for i := 0; i < 4; i++ {
		call("search")
	}
	if w.b.known.judgedNow != 1 {
		t.Fatalf("%d messages are known, want 1", w.b.known.judgedNow)
	}
	if call("delete_page") != 403 || call("admin_x") != 403 || call(strings.Repeat("x", maxSketch)) != 200 || w.b.known.judgedNow != 1 {
		t.Errorf("a message that was refused, or a long one, is known: %v", w.b.known.sketched)
	}
	for i := 0; i < 2*maxJudged; i++ {
		if call("tool-"+strings.Repeat("a", i%40)+strings.Repeat("b", i/40)) != 200 || w.b.known.judgedNow > maxJudged {
			t.Fatalf("%d messages are known", w.b.known.judgedNow)
		}
	}
}

// A message that is known by its sketch has the outcome that it would have if nothing were known,
// whatever headers it has, and whatever else labels ask for.
func TestJudgedMessagesAreJudgedAsUnknownOnes(t *testing.T) {
	t.Setenv("WIKI_BACKEND_AUTHORIZATION", "Bearer of-the-server")
	for name, labels := range map[string]func(*Config){
		"rules":          func(c *Config) { c.ToolScopes = "delete_page=wiki:write" },
		"calls":          func(c *Config) { c.AuditCalls = "true" },
		"rules and CORS": func(c *Config) { c.ToolScopes = "delete_page=wiki:write"; c.CORS = "true" },
		"rules and a secret": func(c *Config) {
			c.ToolScopes = "delete_page=wiki:write"
			c.BackendAuthorization = "env:WIKI_BACKEND_AUTHORIZATION"
		},
		"rules and identity": func(c *Config) { c.ToolScopes = "delete_page=wiki:write"; c.IdentityHeaders = "email" },
	} {
		start(t)
		short := newTwin(t, labels)
		long := newTwin(t, labels)
		good := "Bearer " + goodToken("k1", map[string]any{"email": "e@example.com"})
		judges := false
		compare := func(what string, more http.Header, trailer http.Header) {
			for i := 0; i < 4; i++ {
				h := http.Header{"Content-Type": {"application/json"}, "X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}, "Authorization": {good}}
				for name, values := range more {
					h[name] = values
				}
				body := toolCall("search")
				req := &http.Request{Method: "POST", URL: &url.URL{Path: "/wiki/mcp"}, Header: h, ProtoMajor: 1, ContentLength: int64(len(body)), Trailer: trailer}
				if got, want := short.ask(req, body, false), long.ask(req, body, true); got != want {
					t.Errorf("%s: %s: \n%s, want\n%s", name, what, got, want)
				}
			}
			judges = judges || short.b.known.judgedNow == 1
		}
		compare("as usual", nil, nil)
		for header, all := range map[string][][]string{
			"Mcp-Method":           {{"tools/call"}, {"tools/list"}, {"", "tools/call"}, {}},
			"Mcp-Name":             {{"search"}, {"delete_page"}, {"search", "search"}},
			"Mcp-Protocol-Version": {{"2025-11-25"}, {"2026-07-28"}, {"9"}, {"2025-11-25", "2025-11-25"}, {}, {""}},
			"Content-Type":         {{"text/plain"}, {"application/json", "application/json"}, {"application/json", "text/plain"}, {"application/json; charset=utf-7"}, {}, nil},
			"Content-Encoding":     {{"gzip"}, {"identity"}, {}},
			"Origin":               {{"https://app.example"}},
		} {
			for _, values := range all {
				compare(fmt.Sprint(header, values), http.Header{header: values}, nil)
			}
		}
		compare("trailers", nil, http.Header{"X-Mcp-Sub": nil})
		if judges != (name == "rules" || name == "calls" || name == "rules and identity") {
			t.Errorf("%s: messages are known by their sketch: %t", name, judges)
		}
	}
}

// A known request ends with its token, whatever headers labels ask for.
func TestKnownRequestsEndWithTheirToken(t *testing.T) {
	for name, labels := range map[string]func(*Config){
		"no label":         func(c *Config) {},
		"identity headers": func(c *Config) { c.IdentityHeaders = "email=X-Forwarded-User" },
		"rules":            func(c *Config) { c.ToolScopes = "delete_page=wiki:write" },
	} {
		start(t)
		c := wikiConfig(startSidecar(t).server.URL)
		c.PublicURL = wikiURL
		labels(c)
		h, _ := guard(t, c)
		token := bearer(goodToken("k1", map[string]any{"exp": clock.Load() - expirySkew + 5}))
		for i := 0; i < 4; i++ {
			if code := ask(h, "GET", wikiURL+"/mcp", token...).Code; code != 200 {
				t.Fatalf("%s: %d", name, code)
			}
		}
		clock.Add(5)
		if code := ask(h, "GET", wikiURL+"/mcp", token...).Code; code != 401 {
			t.Errorf("%s: %d after the token's end", name, code)
		}
	}
}
