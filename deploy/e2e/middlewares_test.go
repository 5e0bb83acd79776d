package e2e

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// onRoute is one router of many, told from the others by a header of the request. All stand
// before one tenant, so one token opens all.
type onRoute struct {
	m    *middlewares
	name string
}

// middlewares is a Traefik whose routers have the bouncer and other middlewares, in this order
// and in that.
type middlewares struct {
	*testing.T
	*dynamic
	w             *rig.World
	token, second string // of two people
	server        *witness
	page          *witness // of errors, forwardAuth and mirroring
	guarded       string   // address of an entry point that has a middleware of its own
}

// witness is a server behind Traefik that keeps what it was asked. Below any prefix: …/events sends
// the header of a stream at once and an event when it is told to, …/fail fails, …/cors has CORS
// headers of its own, …/challenge wants a token of its own, …/bare names no type, and everything
// else says who answers.
type witness struct {
	name, url string

	mu     sync.Mutex
	seen   map[string][]witnessed // :: route → requests
	opened chan opening           // streams whose header was sent
}

type opening struct {
	route string
	event chan struct{}
}

type witnessed struct {
	method, path, body string
	header             http.Header
}

const routeHeader = "X-Route"

func newWitness(t *testing.T, name string) *witness {
	r := &witness{name: name, seen: map[string][]witnessed{}, opened: make(chan opening, 8)}
	srv := httptest.NewServer(r)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	r.url = srv.URL
	return r
}

func (r *witness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	of := req.Header.Get(routeHeader)
	r.mu.Lock()
	r.seen[of] = append(r.seen[of], witnessed{req.Method, req.URL.Path, string(body), req.Header.Clone()})
	r.mu.Unlock()
	h := w.Header()
	h.Set("X-Server", r.name)
	switch {
	case strings.HasSuffix(req.URL.Path, "/events"):
		h.Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		event := make(chan struct{})
		r.opened <- opening{of, event}
		select {
		case <-event:
			fmt.Fprint(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			select { // the stream stays open
			case <-event:
			case <-req.Context().Done():
			}
		case <-req.Context().Done():
		}
	case strings.HasSuffix(req.URL.Path, "/fail"):
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "the server failed")
	case strings.HasSuffix(req.URL.Path, "/challenge"):
		h.Set("WWW-Authenticate", `Bearer realm="the server's"`)
		w.WriteHeader(http.StatusUnauthorized)
	case strings.HasSuffix(req.URL.Path, "/cors"):
		h.Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
		fmt.Fprint(w, `{}`)
	case strings.HasSuffix(req.URL.Path, "/bare"):
		h["Content-Type"] = nil
		fmt.Fprint(w, `{"a":1}`)
	default:
		h.Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"server":%q}`, r.name)
	}
}

// of returns what reached the server by a route.
func (r *witness) of(route string) []witnessed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen[route])
}

// last returns the last request that reached the server by a route.
func (r *witness) last(t *testing.T, route string) witnessed {
	t.Helper()
	all := r.of(route)
	if len(all) == 0 {
		t.Fatalf("%s: nothing reached %s", route, r.name)
	}
	return all[len(all)-1]
}

// route adds a router with this chain of middlewares, in front of the MCP server.
func (m *middlewares) route(name string, chain ...string) *onRoute {
	return m.to("server", name, chain...)
}

func (m *middlewares) to(service, name string, chain ...string) *onRoute {
	m.router(name, fmt.Sprintf("Host(`localhost`) && %s && Header(`%s`, `%s`)", rig.PathRule("/wiki"), routeHeader, name), service, chain...)
	return &onRoute{m, name}
}

// both adds the two orders of a middleware and the bouncer.
func (m *middlewares) both(name string, option map[string]any) (front, behind *onRoute) {
	m.middlewares[name] = option
	return m.route(name+" in front", name, "bouncer"), m.route(name+" behind", "bouncer", name)
}

// request sends a request by the route. who is "" or a token.
func (r *onRoute) request(method, path, who, body string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.m.Context(), method, r.m.w.Traefik.Web+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(routeHeader, r.name)
	req.Header.Set("Content-Type", "application/json")
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return r.m.w.HTTP().Transport.RoundTrip(req)
}

// overHTTP2 asks at the TLS entry point, without a token.
func (r *onRoute) overHTTP2(t *testing.T) *rig.Answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: r.m.w.Traefik.Roots}}}
	defer client.CloseIdleConnections()
	_, port, _ := strings.Cut(r.m.w.Traefik.WebSecure, ":")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost:"+port+mcpPath, strings.NewReader(oneMessage))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(routeHeader, r.name)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("%s: asked over %s", r.name, resp.Proto)
	}
	return &rig.Answer{Status: resp.StatusCode, Header: resp.Header}
}

func (r *onRoute) do(t *testing.T, method, path, who, body string, header ...string) *rig.Answer {
	t.Helper()
	resp, err := r.request(method, path, who, body, header...)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	return &rig.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}
}

const (
	mcpPath      = "/wiki/mcp"
	documentPath = "/.well-known/oauth-authorization-server/wiki"
	oneMessage   = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
)

func (r *onRoute) get(t *testing.T, path, who string, header ...string) *rig.Answer {
	t.Helper()
	return r.do(t, http.MethodGet, path, who, "", header...)
}

func (r *onRoute) post(t *testing.T, who string, header ...string) *rig.Answer {
	t.Helper()
	return r.do(t, http.MethodPost, mcpPath, who, oneMessage, header...)
}

// works checks what must go on working by a route: the 401 with its challenge, the documents, and
// calls with a token, which bring the MCP server the message and the person.
func (r *onRoute) works(t *testing.T) {
	t.Helper()
	if got := r.post(t, ""); got.Status != http.StatusUnauthorized || challengeOf(got) == "" {
		t.Errorf("%s: without a token: %s", r.name, got)
	}
	if got := r.get(t, documentPath, ""); who(got) != theDocument {
		t.Errorf("%s: document: %s", r.name, got)
	}
	r.calls(t)
}

func (r *onRoute) calls(t *testing.T) {
	t.Helper()
	if got := r.post(t, r.m.token); got.Status != http.StatusOK {
		t.Errorf("%s: a call: %s", r.name, got)
		return
	}
	last := r.m.server.last(t, r.name)
	if last.body != oneMessage || last.header.Get("X-Mcp-Sub") == "" || last.header.Get("Authorization") != "" {
		t.Errorf("%s: the MCP server got %q of %q, Authorization %q", r.name, last.body, last.header.Get("X-Mcp-Sub"), last.header.Get("Authorization"))
	}
}

// stream opens the MCP server's stream. Its header is awaited by header().
type stream struct {
	t      *testing.T
	r      *onRoute
	event  chan struct{}
	answer chan *http.Response
	resp   *http.Response
}

func (r *onRoute) stream(t *testing.T, header ...string) *stream {
	return r.streamOf(t, r.m.token, header...)
}

func (r *onRoute) streamOf(t *testing.T, token string, header ...string) *stream {
	t.Helper()
	s := &stream{t: t, r: r, answer: make(chan *http.Response, 1)}
	go func() {
		resp, err := r.request(http.MethodGet, "/wiki/events", token, "", header...)
		if err != nil {
			resp = &http.Response{StatusCode: 599, Body: io.NopCloser(strings.NewReader(err.Error()))}
		}
		s.answer <- resp
	}()
	select {
	case o := <-r.m.server.opened:
		if o.route != r.name {
			t.Fatalf("%s has opened a stream, want %s", o.route, r.name)
		}
		s.event = o.event
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no stream was opened", r.name)
	}
	return s
}

// comes says whether the header of the stream comes within a time in which it would, if nobody
// held it.
func (s *stream) comes(limit time.Duration) bool {
	select {
	case s.resp = <-s.answer:
		return true
	case <-time.After(limit):
		return false
	}
}

// end lets the server send its event and end the stream, and returns the first line that comes.
func (s *stream) end() string {
	s.t.Helper()
	s.event <- struct{}{}
	if s.resp == nil && !s.comes(300*time.Millisecond) {
		s.event <- struct{}{} // held to the end
		if !s.comes(10 * time.Second) {
			s.t.Fatalf("%s: no answer", s.r.name)
		}
		defer s.resp.Body.Close()
		line, _ := bufio.NewReader(s.resp.Body).ReadString('\n')
		return "at the end: " + strings.TrimSpace(line)
	}
	defer s.resp.Body.Close()
	defer func() { s.event <- struct{}{} }()
	line, _ := bufio.NewReader(s.resp.Body).ReadString('\n')
	return strings.TrimSpace(line)
}

// middlewareRow is a row of docs/middlewares.md: what is put beside the bouncer, and what then
// happens.
type middlewareRow struct {
	name string
	set  func(m *middlewares) func(t *testing.T)
}

const held = 250 * time.Millisecond

var middlewareRows = []middlewareRow{
	{"compress", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("compress", map[string]any{"compress": map[string]any{}})
		return func(t *testing.T) {
			for _, r := range []*onRoute{front, behind} {
				r.works(t)
				s := r.stream(t, "Accept-Encoding", "gzip")
				if s.comes(held) {
					t.Errorf("%s: the header of a stream comes before its first event", r.name)
				}
				if line := s.end(); strings.HasPrefix(line, "at the end") || s.resp.Header.Get("Content-Encoding") != "gzip" {
					t.Errorf("%s: after the first event: %q, %v", r.name, line, s.resp.Header)
				}
				s = r.stream(t, "Accept-Encoding", "identity")
				if !s.comes(10 * time.Second) {
					t.Errorf("%s: a client that takes no compression waits, too", r.name)
				}
				s.end()
			}
		}
	}},
	{"buffering", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("buffering", map[string]any{"buffering": map[string]any{"maxRequestBodyBytes": 1_000_000}})
		return func(t *testing.T) {
			for _, r := range []*onRoute{front, behind} {
				r.works(t)
				s := r.stream(t)
				if line := s.end(); line != "at the end: data: 1" {
					t.Errorf("%s: a stream brings %q", r.name, line)
				}
			}
		}
	}},
	{"errors", func(m *middlewares) func(t *testing.T) {
		option := map[string]any{"status": []string{"400-599"}, "service": "page", "query": "/error"}
		front, behind := m.both("errors", map[string]any{"errors": option})
		m.middlewares["errors-narrow"] = map[string]any{"errors": map[string]any{"status": []string{"500-599"}, "service": "page", "query": "/error", "errorRequestHeaders": []string{"X-Nothing"}}}
		narrow := m.route("errors narrow", "bouncer", "errors-narrow")
		return func(t *testing.T) {
			if got := front.post(t, ""); got.Status != 401 || challengeOf(got) != "" || got.Body != `{"server":"page"}` {
				t.Errorf("in front, without a token: %s, challenge %q", got, challengeOf(got))
			}
			if got := front.do(t, "POST", "/wiki/oauth/token", "", "grant_type=refresh_token", "Content-Type", "application/x-www-form-urlencoded"); got.Status/100 != 4 || got.Member("error") != "" {
				t.Errorf("in front, an OAuth error: %s", got)
			}
			front.post(t, "not-a-token")
			if got := m.page.last(t, front.name).header.Get("Authorization"); got != "Bearer not-a-token" {
				t.Errorf("in front, the page's server was sent the token %q", got)
			}
			front.calls(t)
			behind.works(t)
			if got := behind.get(t, "/wiki/fail", m.token); got.Status != 500 || got.Body != `{"server":"page"}` {
				t.Errorf("behind, the MCP server failed: %s", got)
			}
			if got := m.page.last(t, behind.name).header; got.Get("X-Mcp-Sub") == "" || got.Get("Authorization") != "" {
				t.Errorf("behind, the page's server was sent %v", got)
			}
			narrow.works(t)
			if got := narrow.get(t, "/wiki/fail", m.token); got.Body != `{"server":"page"}` {
				t.Errorf("with errorRequestHeaders: %s", got)
			}
			// the header that names the route is gone with the others
			for _, seen := range m.page.of("") {
				if seen.header.Get("X-Mcp-Sub") != "" {
					t.Errorf("with errorRequestHeaders the page's server was told who it is")
				}
			}
			if len(m.page.of("")) == 0 {
				t.Error("with errorRequestHeaders the page's server was not asked")
			}
		}
	}},
	{"headers with CORS options", func(m *middlewares) func(t *testing.T) {
		frontVary, _ := m.both("vary", map[string]any{"headers": map[string]any{"addVaryHeader": true}})
		frontExpose, _ := m.both("expose", map[string]any{"headers": map[string]any{"accessControlExposeHeaders": []string{"Mcp-Session-Id"}}})
		_, behind := m.both("cors", map[string]any{"headers": map[string]any{
			"accessControlAllowOriginList": []string{"*"}, "accessControlExposeHeaders": []string{"Mcp-Session-Id", "WWW-Authenticate"}}})
		preflight := []string{"Origin", "https://app.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization"}
		return func(t *testing.T) {
			for _, r := range []*onRoute{frontVary, frontExpose} {
				for _, path := range []string{mcpPath, "/wiki/oauth/token"} {
					if got := r.do(t, "OPTIONS", path, "", "", preflight...); got.Status != 200 || got.Header.Get("Access-Control-Allow-Origin") != "" {
						t.Errorf("%s: preflight of %s: %s %v", r.name, path, got, got.Header)
					}
				}
			}
			if got := frontExpose.post(t, "", "Origin", "https://app.example"); strings.Contains(strings.Join(got.Header.Values("Access-Control-Expose-Headers"), ","), "WWW-Authenticate") {
				t.Errorf("in front: scripts may read %q", got.Header.Values("Access-Control-Expose-Headers"))
			}
			behind.works(t)
			if got := behind.do(t, "OPTIONS", mcpPath, "", "", preflight...); got.Status != 204 || got.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("behind: preflight: %s %v", got, got.Header)
			}
			if got := behind.post(t, m.token, "Origin", "https://app.example"); !slices.Equal(got.Header.Values("Access-Control-Allow-Origin"), []string{"*"}) {
				t.Errorf("behind: a call: %v", got.Header)
			}
			if got := behind.post(t, "", "Origin", "https://app.example"); !strings.HasPrefix(got.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
				t.Errorf("behind: the challenge: %v", got.Header)
			}
		}
	}},
	{"the bouncer's label cors", func(m *middlewares) func(t *testing.T) {
		m.bouncer("shared", m.w, map[string]any{"cors": "true"})
		shared := m.route("shared", "shared")
		m.middlewares["shared-cors"] = map[string]any{"headers": map[string]any{"accessControlAllowOriginList": []string{"*"}}}
		twice := m.route("shared twice", "shared", "shared-cors")
		origin := []string{"Origin", "https://app.example"}
		return func(t *testing.T) {
			for _, r := range []*onRoute{shared, twice} {
				r.works(t)
				for _, path := range []string{mcpPath, "/wiki/fail"} {
					got := r.get(t, path, m.token, origin...)
					if !slices.Equal(got.Header.Values("Access-Control-Allow-Origin"), []string{"*"}) || !strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id") {
						t.Errorf("%s: %s: %v", r.name, path, got.Header)
					}
				}
			}
			if got := shared.get(t, mcpPath, m.token); got.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("no browser asks: %v", got.Header)
			}
			s := shared.stream(t, origin...)
			if !s.comes(10*time.Second) || s.resp.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Error("the header of a stream does not come, or without CORS")
			}
			s.end()
			if got := shared.get(t, "/wiki/cors", m.token, origin...); !slices.Equal(got.Header.Values("Access-Control-Allow-Origin"), []string{"*", "https://app.example"}) {
				t.Errorf("a server that sends its own: %v", got.Header)
			}
			rig.WaitFor(t, "a line in Traefik's log", func() error {
				if !strings.Contains(m.w.Logs.Text("traefik"), "label cors: the MCP server sends Access-Control-Allow-Origin itself") {
					return fmt.Errorf("not there")
				}
				return nil
			})
		}
	}},
	{"headers with customRequestHeaders", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("identity", map[string]any{"headers": map[string]any{"customRequestHeaders": map[string]any{"X-Mcp-Sub": "somebody"}}})
		return func(t *testing.T) {
			front.works(t)
			if got := m.server.last(t, front.name).header.Values("X-Mcp-Sub"); len(got) != 1 || got[0] == "somebody" {
				t.Errorf("in front: the MCP server is told of %q", got)
			}
			behind.post(t, m.token)
			if got := m.server.last(t, behind.name).header.Values("X-Mcp-Sub"); !slices.Equal(got, []string{"somebody"}) {
				t.Errorf("behind: the MCP server is told of %q", got)
			}
		}
	}},
	{"headers with customResponseHeaders", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("answers", map[string]any{"headers": map[string]any{"customResponseHeaders": map[string]any{
			"WWW-Authenticate": "Bearer realm=\"mine\"", "Strict-Transport-Security": "max-age=1"}}})
		m.routers[front.name].(map[string]any)["entryPoints"] = []string{"web", "websecure"}
		plain := m.route("no headers", "bouncer")
		m.routers[plain.name].(map[string]any)["entryPoints"] = []string{"web", "websecure"}
		m.middlewares["no challenge"] = map[string]any{"headers": map[string]any{"customResponseHeaders": map[string]any{"WWW-Authenticate": ""}}}
		silenced := m.route("no challenge of the server's", "bouncer", "no challenge")
		m.bouncer("bouncer of a server with auth", m.w, nil)
		challenged := m.route("a challenge of the server's", "bouncer of a server with auth")
		return func(t *testing.T) {
			if got := silenced.get(t, "/wiki/challenge", m.token); got.Status != 401 || got.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("without the server's challenge: %s %v", got, got.Header)
			}
			if got := silenced.post(t, ""); got.Status != 401 || challengeOf(got) == "" {
				t.Errorf("without the server's challenge, no token: %s", got)
			}
			// what is known is passed on unseen
			unknown := m.w.Wiki.Client().Tokens(m.w.Wiki.Browser()).Member("access_token")
			if got := challenged.get(t, "/wiki/challenge", unknown); got.Status != 401 || got.Header.Get("WWW-Authenticate") != `Bearer realm="the server's"` {
				t.Errorf("with the server's challenge: %s %v", got, got.Header)
			}
			rig.WaitFor(t, "a line on it", func() error {
				if !strings.Contains(m.w.Logs.Text("traefik"), `a challenge of its own (WWW-Authenticate: Bearer realm=`) {
					return fmt.Errorf("it is not there")
				}
				return nil
			})
			if got := front.post(t, ""); got.Status != 401 || len(got.Header.Values("WWW-Authenticate")) != 2 {
				t.Errorf("in front, over HTTP/1.1: %s %q", got, got.Header.Values("WWW-Authenticate"))
			}
			if got := front.overHTTP2(t); got.Status != 401 || !slices.Equal(got.Header.Values("WWW-Authenticate"), []string{`Bearer realm="mine"`}) {
				t.Errorf("in front, over HTTP/2: %s %q", got, got.Header.Values("WWW-Authenticate"))
			}
			for _, got := range []*rig.Answer{front.post(t, ""), front.get(t, documentPath, ""), front.post(t, m.token)} {
				if got.Header.Get("Strict-Transport-Security") == "" {
					t.Errorf("in front: %s without the other header", got)
				}
			}
			for token, want := range map[string]string{"": "", m.token: "max-age=1"} {
				if got := behind.post(t, token).Header.Get("Strict-Transport-Security"); got != want {
					t.Errorf("behind: the other header is %q, want %q", got, want)
				}
			}
			// The access log looks for the challenge in the same way.
			if got := plain.overHTTP2(t); !strings.HasPrefix(challengeOf(got), "Bearer resource_metadata=") {
				t.Errorf("over HTTP/2: %s", got)
			}
			const logged = `"downstream_Www-Authenticate":"Bearer resource_metadata=`
			rig.WaitFor(t, "the challenge in the access log", func() error {
				if !strings.Contains(m.w.Logs.Text("traefik"), logged) {
					return fmt.Errorf("it is not there")
				}
				return nil
			})
		}
	}},
	{"retry", func(m *middlewares) func(t *testing.T) {
		m.service("half", "http://127.0.0.1:9", m.server.url)
		m.middlewares["retry"] = map[string]any{"retry": map[string]any{"attempts": 3}}
		m.middlewares["retry-keeping"] = map[string]any{"retry": map[string]any{"attempts": 3, "status": []string{"599"}, "retryNonIdempotentMethod": true}}
		front := m.to("half", "retry in front", "retry", "bouncer")
		keeping := m.to("half", "retry in front, keeping the body", "retry-keeping", "bouncer")
		behind := m.to("half", "retry behind", "bouncer", "retry")
		return func(t *testing.T) {
			refused := 0
			for range 6 {
				if got := front.post(t, m.token); got.Status == 502 || got.Status == 503 {
					refused++
				} else if got.Status != 200 {
					t.Errorf("in front: %s", got)
				}
			}
			if refused == 0 {
				t.Error("in front: every call was repeated")
			}
			for range 6 {
				keeping.calls(t)
				behind.calls(t)
			}
			for _, r := range []*onRoute{front, keeping, behind} {
				for _, seen := range m.server.of(r.name) {
					if seen.body != oneMessage {
						t.Errorf("%s: the MCP server got the message %q", r.name, seen.body)
					}
				}
			}
		}
	}},
	{"circuitBreaker", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("breaker", map[string]any{"circuitBreaker": map[string]any{"expression": "ResponseCodeRatio(400, 600, 0, 600) > 0.5"}})
		return func(t *testing.T) {
			rig.WaitFor(t, "one client without a token shuts everybody out", func() error {
				front.post(t, "")
				if got := front.get(t, documentPath, ""); got.Status != 503 {
					return fmt.Errorf("%s", got)
				}
				return nil
			})
			if got := front.post(t, m.token); got.Status != 503 {
				t.Errorf("in front: a call with a token: %s", got)
			}
			for range 5 {
				behind.works(t)
			}
			for range 10 { // more than half of what it sees
				behind.get(t, "/wiki/fail", m.token)
			}
			rig.WaitFor(t, "the MCP server's failures end calls", func() error {
				behind.get(t, "/wiki/fail", m.token)
				if got := behind.post(t, m.token); got.Status != 503 {
					return fmt.Errorf("%s", got)
				}
				return nil
			})
			if got := behind.get(t, documentPath, ""); who(got) != theDocument {
				t.Errorf("behind: the document while the circuit is open: %s", got)
			}
		}
	}},
	{"inFlightReq", func(m *middlewares) func(t *testing.T) {
		front, _ := m.both("inflight", map[string]any{"inFlightReq": map[string]any{"amount": 2}})
		_, behind := m.both("inflight-person", map[string]any{"inFlightReq": map[string]any{
			"amount": 2, "sourceCriterion": map[string]any{"requestHeaderName": "X-Mcp-Sub"}}})
		return func(t *testing.T) {
			two := []*stream{front.stream(t), front.stream(t)}
			for _, got := range []*rig.Answer{front.get(t, documentPath, ""), front.post(t, m.second)} {
				if got.Status != 429 {
					t.Errorf("in front, with two streams open, another person: %s", got)
				}
			}
			for _, s := range two {
				s.end()
			}
			two = []*stream{behind.stream(t), behind.stream(t)}
			if got := behind.post(t, m.token); got.Status != 429 {
				t.Errorf("behind, by X-Mcp-Sub, the same person: %s", got)
			}
			if got := behind.post(t, m.second); got.Status != 200 {
				t.Errorf("behind, by X-Mcp-Sub, another person: %s", got)
			}
			if got := behind.get(t, documentPath, ""); who(got) != theDocument {
				t.Errorf("behind: the document: %s", got)
			}
			for _, s := range two {
				s.end()
			}
		}
	}},
	{"rateLimit", func(m *middlewares) func(t *testing.T) {
		once := map[string]any{"average": 1, "period": "1h", "burst": 1}
		front, _ := m.both("limit", map[string]any{"rateLimit": once})
		byPerson := map[string]any{"average": 1, "period": "1h", "burst": 1, "sourceCriterion": map[string]any{"requestHeaderName": "X-Mcp-Sub"}}
		frontPerson, behind := m.both("limit-person", map[string]any{"rateLimit": byPerson})
		return func(t *testing.T) {
			if got := []int{front.get(t, documentPath, "").Status, front.get(t, documentPath, "").Status, front.post(t, m.second).Status}; !slices.Equal(got, []int{200, 429, 429}) {
				t.Errorf("in front: two documents and another person's call: %v", got)
			}
			if got := []int{frontPerson.post(t, m.token, "X-Mcp-Sub", "a").Status, frontPerson.post(t, m.token, "X-Mcp-Sub", "b").Status, frontPerson.post(t, m.token, "X-Mcp-Sub", "b").Status}; !slices.Equal(got, []int{200, 200, 429}) {
				t.Errorf("in front, by a header of the client's choice: %v", got)
			}
			if got := []int{behind.post(t, m.token).Status, behind.post(t, m.token, "X-Mcp-Sub", "b").Status, behind.post(t, m.second).Status}; !slices.Equal(got, []int{200, 429, 200}) {
				t.Errorf("behind, by the person: %v", got)
			}
			if got := behind.get(t, documentPath, ""); who(got) != theDocument {
				t.Errorf("behind: the document: %s", got)
			}
		}
	}},
	{"redirectScheme, redirectRegex", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("scheme", map[string]any{"redirectScheme": map[string]any{"scheme": "https", "port": "443", "permanent": true}})
		frontRegex, behindRegex := m.both("regex", map[string]any{"redirectRegex": map[string]any{"regex": `/wiki/?$`, "replacement": "/wiki/mcp"}})
		return func(t *testing.T) {
			for _, path := range []string{mcpPath, documentPath, "/wiki/oauth/token"} {
				if got := front.do(t, "POST", path, m.token, oneMessage); got.Status != 308 || got.Header.Get("Location") != "https://localhost"+path {
					t.Errorf("scheme in front: %s: %s to %s", path, got, got.Header.Get("Location"))
				}
			}
			if got := behind.post(t, ""); got.Status != 401 {
				t.Errorf("scheme behind: %s", got)
			}
			if got := behind.post(t, m.token); got.Status != 308 {
				t.Errorf("scheme behind, with a token: %s", got)
			}
			if got := behind.get(t, documentPath, ""); who(got) != theDocument {
				t.Errorf("scheme behind: the document: %s", got)
			}
			if got := frontRegex.get(t, documentPath, ""); got.Status != 302 {
				t.Errorf("a regular expression without its beginning in front takes the documents, too: %s", got)
			}
			behindRegex.works(t)
		}
	}},
	{"stripPrefix, replacePath, addPrefix", func(m *middlewares) func(t *testing.T) {
		type pair struct {
			front, behind *onRoute
			sees          string
		}
		var pairs []pair
		for _, c := range []struct {
			name   string
			option map[string]any
			sees   string
		}{
			{"stripPrefix", map[string]any{"prefixes": []string{"/wiki"}}, "/mcp"},
			{"stripPrefixRegex", map[string]any{"regex": []string{"/w[a-z]+"}}, "/mcp"},
			{"replacePath", map[string]any{"path": "/mcp"}, "/mcp"},
			{"replacePathRegex", map[string]any{"regex": "^/wiki/(.*)", "replacement": "/$1"}, "/mcp"},
			{"addPrefix", map[string]any{"prefix": "/v1"}, "/v1/wiki/mcp"},
		} {
			front, behind := m.both(c.name, map[string]any{c.name: c.option})
			pairs = append(pairs, pair{front, behind, c.sees})
		}
		return func(t *testing.T) {
			for _, p := range pairs {
				for _, token := range []string{"", m.token} {
					if got := p.front.post(t, token); got.Status != 404 || got.Member("error") != "not_found" {
						t.Errorf("%s: %s", p.front.name, got)
					}
				}
				p.behind.works(t)
				if got := m.server.last(t, p.behind.name).path; got != p.sees {
					t.Errorf("%s: the MCP server sees %s", p.behind.name, got)
				}
			}
		}
	}},
	{"ipAllowList", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("addresses", map[string]any{"ipAllowList": map[string]any{"sourceRange": []string{"192.0.2.0/24"}}})
		return func(t *testing.T) {
			for _, path := range []string{mcpPath, documentPath, "/wiki/oauth/authorize"} {
				if got := front.get(t, path, m.token); got.Status != 403 {
					t.Errorf("in front: %s: %s", path, got)
				}
			}
			if got := behind.get(t, documentPath, ""); who(got) != theDocument {
				t.Errorf("behind: the document: %s", got)
			}
			if got := []int{behind.post(t, "").Status, behind.post(t, m.token).Status}; !slices.Equal(got, []int{401, 403}) {
				t.Errorf("behind: without a token and with one: %v", got)
			}
		}
	}},
	{"basicAuth, digestAuth", func(m *middlewares) func(t *testing.T) {
		sum := sha1.Sum([]byte("secret"))
		frontBasic, behindBasic := m.both("basic", map[string]any{"basicAuth": map[string]any{"users": []string{"ada:{SHA}" + base64.StdEncoding.EncodeToString(sum[:])}}})
		frontDigest, behindDigest := m.both("digest", map[string]any{"digestAuth": map[string]any{"users": []string{"ada:traefik:a2688e031edb4be6a3797f3882655c05"}}})
		return func(t *testing.T) {
			for _, r := range []*onRoute{frontBasic, frontDigest} {
				for _, got := range []*rig.Answer{r.get(t, documentPath, ""), r.post(t, m.token)} {
					if got.Status != 401 || strings.HasPrefix(challengeOf(got), "Bearer") {
						t.Errorf("%s: %s %s", r.name, got, challengeOf(got))
					}
				}
			}
			for _, r := range []*onRoute{behindBasic, behindDigest} {
				if got := r.post(t, m.token); got.Status != 401 || strings.HasPrefix(challengeOf(got), "Bearer") {
					t.Errorf("%s, a good token: %s %s", r.name, got, challengeOf(got))
				}
			}
			basic := base64.StdEncoding.EncodeToString([]byte("ada:secret"))
			if got := frontBasic.post(t, "", "Authorization", "Basic "+basic); got.Status != 401 || !strings.HasPrefix(challengeOf(got), "Bearer") {
				t.Errorf("basicAuth in front, the password: %s", got)
			}
		}
	}},
	{"forwardAuth", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("forward", map[string]any{"forwardAuth": map[string]any{"address": m.page.url}})
		m.middlewares["forward-identity"] = map[string]any{"forwardAuth": map[string]any{"address": m.page.url, "authResponseHeaders": []string{"X-Server"}}}
		m.middlewares["forward-sub"] = map[string]any{"forwardAuth": map[string]any{"address": m.page.url, "authResponseHeaders": []string{"X-Mcp-Sub"}}}
		sub := m.route("forward sub", "bouncer", "forward-sub")
		return func(t *testing.T) {
			front.works(t)
			if got := m.page.last(t, front.name).header.Get("Authorization"); got != "Bearer "+m.token {
				t.Errorf("in front: it was sent Authorization %q", got)
			}
			asked := len(m.page.of(front.name))
			front.get(t, documentPath, "")
			if len(m.page.of(front.name)) != asked+1 {
				t.Error("in front: it was not asked for a document")
			}
			behind.works(t)
			seen := m.page.of(behind.name)
			if len(seen) != 1 || seen[0].header.Get("X-Mcp-Sub") == "" || seen[0].header.Get("Authorization") != "" {
				t.Errorf("behind: it was asked %d times, %v", len(seen), seen)
			}
			if got := sub.post(t, m.token); got.Status != 200 || m.server.last(t, sub.name).header.Get("X-Mcp-Sub") != "" {
				t.Errorf("behind, with X-Mcp-Sub among authResponseHeaders: %s, the MCP server is told of %q", got, m.server.last(t, sub.name).header.Values("X-Mcp-Sub"))
			}
		}
	}},
	{"contentType", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("type", map[string]any{"contentType": map[string]any{}})
		none := m.route("no contentType", "bouncer")
		return func(t *testing.T) {
			front.works(t)
			behind.works(t)
			if got := front.post(t, "").Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("in front: the 401 is %s", got)
			}
			for r, want := range map[*onRoute]string{none: "", front: "text/plain; charset=utf-8", behind: "text/plain; charset=utf-8"} {
				if got := r.get(t, "/wiki/bare", m.token).Header.Get("Content-Type"); got != want {
					t.Errorf("%s: an answer without a type is %q, want %q", r.name, got, want)
				}
			}
		}
	}},
	{"grpcWeb", func(m *middlewares) func(t *testing.T) {
		front, behind := m.both("grpc", map[string]any{"grpcWeb": map[string]any{"allowOrigins": []string{"*"}}})
		return func(t *testing.T) {
			front.works(t)
			behind.works(t)
		}
	}},
	{"mirroring", func(m *middlewares) func(t *testing.T) {
		m.services["mirrored"] = map[string]any{"mirroring": map[string]any{"service": "server", "mirrors": []any{map[string]any{"name": "page", "percent": 100}}}}
		r := m.to("mirrored", "mirroring", "bouncer")
		return func(t *testing.T) {
			r.works(t)
			rig.WaitFor(t, "the mirror", func() error {
				if len(m.page.of(r.name)) == 0 {
					return fmt.Errorf("nothing came")
				}
				return nil
			})
			got := m.page.of(r.name)
			if len(got) != 1 || got[0].header.Get("X-Mcp-Sub") == "" || got[0].header.Get("Authorization") != "" || got[0].body != oneMessage {
				t.Errorf("the mirror got %v", got)
			}
		}
	}},
	{"failover, weighted", func(m *middlewares) func(t *testing.T) {
		m.services["dead"] = map[string]any{"loadBalancer": map[string]any{
			"servers": []any{map[string]any{"url": "http://127.0.0.1:9"}}, "healthCheck": map[string]any{"path": "/", "interval": "1s", "timeout": "500ms"}}}
		m.services["failover"] = map[string]any{"failover": map[string]any{"service": "dead", "fallback": "server"}}
		m.services["weighted"] = map[string]any{"weighted": map[string]any{"services": []any{map[string]any{"name": "server", "weight": 1}, map[string]any{"name": "page", "weight": 1}}}}
		failover, weighted := m.to("failover", "failover", "bouncer"), m.to("weighted", "weighted", "bouncer")
		return func(t *testing.T) {
			rig.WaitFor(t, "the fallback", func() error {
				if got := failover.post(t, m.token); got.Status != 200 {
					return fmt.Errorf("%s", got)
				}
				return nil
			})
			failover.works(t)
			for range 4 {
				weighted.post(t, m.token)
				weighted.post(t, "")
			}
			for _, s := range []*witness{m.server, m.page} {
				got := s.of(weighted.name)
				if len(got) != 2 {
					t.Errorf("weighted: %d of four calls came to %s", len(got), s.name)
				}
				for _, seen := range got {
					if seen.header.Get("X-Mcp-Sub") == "" {
						t.Errorf("weighted: %s was not told who calls", s.name)
					}
				}
			}
		}
	}},
	{"sticky", func(m *middlewares) func(t *testing.T) {
		m.services["sticky"] = map[string]any{"loadBalancer": map[string]any{
			"servers": []any{map[string]any{"url": m.server.url}, map[string]any{"url": m.page.url}},
			"sticky":  map[string]any{"cookie": map[string]any{"name": "lb"}}}}
		r := m.to("sticky", "sticky", "bouncer")
		return func(t *testing.T) {
			if got := r.post(t, ""); got.Status != 401 || got.Header.Get("Set-Cookie") != "" {
				t.Errorf("without a token: %s %q", got, got.Header.Values("Set-Cookie"))
			}
			first := r.post(t, m.token)
			cookie, _, _ := strings.Cut(first.Header.Get("Set-Cookie"), ";")
			if !strings.HasPrefix(cookie, "lb=") {
				t.Fatalf("a call sets the cookie %q", cookie)
			}
			for range 4 {
				if got := r.post(t, m.token, "Cookie", cookie); got.Body != first.Body {
					t.Errorf("with the cookie: %s, and first %s", got, first)
				}
			}
			if one, other := r.post(t, m.token), r.post(t, m.token); one.Body == other.Body {
				t.Errorf("without the cookie both calls came to %s", one)
			}
		}
	}},
	{"middlewares of the entry point", func(m *middlewares) func(t *testing.T) {
		m.middlewares["everywhere"] = map[string]any{"errors": map[string]any{"status": []string{"400-599"}, "service": "page", "query": "/error"}}
		r := m.route("entry point", "bouncer")
		m.routers[r.name].(map[string]any)["entryPoints"] = []string{"guarded"}
		return func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+strings.Replace(m.guarded, "127.0.0.1", "localhost", 1)+mcpPath, strings.NewReader(oneMessage))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(routeHeader, r.name)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "" || string(body) != `{"server":"page"}` {
				t.Errorf("errors at the entry point: %d %s, challenge %q", resp.StatusCode, body, resp.Header.Get("WWW-Authenticate"))
			}
		}
	}},
	{"the bouncer twice", func(m *middlewares) func(t *testing.T) {
		m.bouncer("again", m.w, nil)
		r := m.route("twice", "bouncer", "again")
		return func(t *testing.T) {
			if got := r.post(t, m.token); got.Status != 401 || len(m.server.of(r.name)) != 0 {
				t.Errorf("a good token: %s", got)
			}
			if got := r.get(t, documentPath, ""); who(got) != theDocument {
				t.Errorf("the document: %s", got)
			}
		}
	}},
	{"two containers with different labels", func(m *middlewares) func(t *testing.T) {
		name := "pair"
		container := func(id string, displayName string) rig.Container {
			labels := map[string]string{
				"traefik.enable":                                              "true",
				"traefik.http.routers." + name + ".rule":                      "Host(`pair.localhost`) && " + rig.PathRule("/wiki"),
				"traefik.http.routers." + name + ".entrypoints":               "web",
				"traefik.http.routers." + name + ".middlewares":               "mcpb-pair@docker",
				"traefik.http.services." + name + ".loadbalancer.server.port": m.w.Wiki.MCP.Port,
			}
			for label, value := range map[string]string{
				"resource": "wiki", "providerIssuer": m.w.Wiki.Provider.Issuer, "clientID": m.w.Wiki.Provider.ClientID,
				"clientSecret": "env:" + m.w.Wiki.Provider.SecretEnv, "sidecarURL": m.w.Front.URL, "displayName": displayName,
			} {
				labels["traefik.http.middlewares.mcpb-pair.plugin.mcpbouncer."+label] = value
			}
			return rig.Container{Name: id, IP: "127.0.0.1", Port: m.w.Wiki.MCP.Port, Labels: labels}
		}
		return func(t *testing.T) {
			ask := newVisitor(t, m.w)
			m.w.Docker.Run(container("pair-1", "Wiki"))
			ask.wait("pair.localhost", mcpPath, theBouncer)
			m.w.Docker.Run(container("pair-2", "Wiki"))
			ask.wait("pair.localhost", mcpPath, theBouncer)
			m.w.Docker.Run(container("pair-2", "The wiki"))
			ask.wait("pair.localhost", mcpPath, nobody)
			if !strings.Contains(m.w.Logs.Text("traefik"), "HTTP middleware defined multiple times with different configurations") {
				t.Error("Traefik does not say so")
			}
			m.w.Docker.Run(container("pair-1", "The wiki"))
			ask.wait("pair.localhost", mcpPath, theBouncer)
		}
	}},
	{"routers.NAME.middlewares[0]", func(m *middlewares) func(t *testing.T) {
		container := func(name, label string, more map[string]string) rig.Container {
			labels := map[string]string{
				"traefik.enable":                                "true",
				"traefik.http.routers." + name + ".rule":        "Host(`" + name + ".localhost`) && " + rig.PathRule("/wiki"),
				"traefik.http.routers." + name + ".entrypoints": "web",
				label: "mcpb-wiki@docker",
				"traefik.http.services." + name + ".loadbalancer.server.port": m.w.Wiki.MCP.Port,
			}
			for k, v := range more {
				labels[k] = v
			}
			return rig.Container{Name: name, IP: "127.0.0.1", Port: m.w.Wiki.MCP.Port, Labels: labels}
		}
		return func(t *testing.T) {
			ask := newVisitor(t, m.w)
			m.w.Docker.Run(container("indexed", "traefik.http.routers.indexed.middlewares[0]", nil))
			m.w.Docker.Run(container("chained", "traefik.http.middlewares.all.chain.middlewares[0]", map[string]string{"traefik.http.routers.chained.middlewares": "all@docker"}))
			m.w.Docker.Run(container("plain", "traefik.http.routers.plain.middlewares", nil))
			ask.wait("plain.localhost", mcpPath, theBouncer)
			for _, name := range []string{"indexed", "chained"} {
				if got := ask.get(name+".localhost", "/wiki/anything"); got.Status != 200 || got.Body != "reached" {
					t.Errorf("%s: %s, want the MCP server, unprotected", name, got)
				}
			}
		}
	}},
}

// docs/middlewares.md in real Traefik, row by row.
func TestMiddlewaresOnTheRoute(t *testing.T) {
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	w := rig.New(t, rig.Options{Static: map[string]any{
		"entryPoints": map[string]any{"guarded": map[string]any{
			"address": address, "http": map[string]any{"middlewares": []string{"everywhere@file"}}}},
		"accessLog": map[string]any{"format": "json", "fields": map[string]any{"headers": map[string]any{
			"defaultMode": "drop", "names": map[string]any{"Www-Authenticate": "keep"}}}},
	}})
	m := &middlewares{T: t, dynamic: newDynamic(), w: w, server: newWitness(t, "server"), page: newWitness(t, "page"), guarded: address}
	m.service("server", m.server.url)
	m.service("page", m.page.url)
	m.dynamic.bouncer("bouncer", w, nil)
	c := w.Wiki.Client()
	login := func(user string) string {
		b := w.Wiki.Browser()
		b.Username = user
		return c.Tokens(b).Member("access_token")
	}
	m.token, m.second = login("admin@example.com"), login("second@example.com")
	var checks []func(t *testing.T)
	for _, row := range middlewareRows {
		checks = append(checks, row.set(m))
	}
	last := m.route("last", "bouncer")
	w.Traefik.SetFile(t, "middlewares.yaml", m.config())
	rig.WaitFor(t, "the routers", func() error {
		if got := last.get(t, "/wiki/anything", m.token); got.Status != 200 || !json.Valid([]byte(got.Body)) {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	for i, row := range middlewareRows {
		t.Run(row.name, checks[i])
	}
}

var rowOfTable = regexp.MustCompile(`(?m)^\| ([^|]+?) \|`)

// The page has a row for each test, and a test for each row.
func TestMiddlewaresPageHasARowForEachTest(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "middlewares.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| middleware |")
	if !ok {
		t.Fatal("the page has no table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var rows, tests []string
	for _, match := range rowOfTable.FindAllStringSubmatch(table, -1) {
		if name := strings.ReplaceAll(match[1], "`", ""); !strings.HasPrefix(name, "--") {
			rows = append(rows, name)
		}
	}
	for _, row := range middlewareRows {
		tests = append(tests, row.name)
	}
	if !slices.Equal(rows, tests) {
		t.Errorf("the page has the rows\n%q\nand the tests are\n%q", rows, tests)
	}
}
