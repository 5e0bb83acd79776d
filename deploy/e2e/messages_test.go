package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// arrived is what reached the MCP server.
type arrived struct {
	header  http.Header
	body    string
	trailer http.Header
	person  string
}

// recorder is an MCP server that keeps what it was asked, and echoes what comes through a
// WebSocket.
type recorder struct {
	mu   sync.Mutex
	seen []arrived
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen = append(s.seen, arrived{r.Header.Clone(), string(body), r.Trailer.Clone(), r.Header.Get("X-Mcp-Sub")})
	s.mu.Unlock()
	if r.Header.Get("Upgrade") != "websocket" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
		return
	}
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

func (s *recorder) take() []arrived {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// route is a router of its own: its middlewares, and what the bouncer's labels say besides.
type route struct {
	prefix string
	chain  []string
	labels map[string]string
}

// startRoutes starts Traefik with the file provider. "bouncer" in a chain stands for a bouncer
// with the route's labels.
func startRoutes(t *testing.T, d *authority, servers []string, middlewares map[string]any, routes ...route) (*rig.Traefik, func(more map[string]any)) {
	t.Helper()
	routers := map[string]any{}
	all := map[string]any{}
	for name, m := range middlewares {
		all[name] = m
	}
	for i, r := range routes {
		own := fmt.Sprintf("bouncer-%d", i)
		labels := map[string]any{"providerIssuer": "https://accounts.google.com", "clientID": "client", "clientSecret": "env:GOOGLE_CLIENT_SECRET",
			"resource": "wiki", "sidecarURL": d.URL, "publicURL": "https://mcp.localhost/wiki"}
		for name, value := range r.labels {
			labels[name] = value
		}
		all[own] = map[string]any{"plugin": map[string]any{"mcpbouncer": labels}}
		chain := []string{}
		for _, m := range r.chain {
			chain = append(chain, map[bool]string{true: own, false: m}[m == "bouncer"])
		}
		// The header tells the routes of one tenant apart.
		routers[fmt.Sprintf("r%d", i)] = map[string]any{"rule": "PathPrefix(`/wiki`) && Header(`X-Route`, `" + r.prefix + "`)", "service": "mcp", "middlewares": chain, "tls": map[string]any{}}
	}
	backends := []any{}
	for _, s := range servers {
		backends = append(backends, map[string]any{"url": s})
	}
	config := map[string]any{"http": map[string]any{"routers": routers, "middlewares": all,
		"services": map[string]any{"mcp": map[string]any{"loadBalancer": map[string]any{"servers": backends}}}}}
	tr := rig.StartTraefik(t, &rig.Logs{}, rig.TraefikConfig{WebPort: rig.FreePort(t), HopKey: benchHopKey, File: config})
	rig.WaitFor(t, "the routes", func() error {
		status, _, err := tryMessage(tr, routes[len(routes)-1].prefix, "", "{}", 2)
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	return tr, func(more map[string]any) { tr.SetFile(t, "more.yaml", more) }
}

// dial opens a connection to the TLS entry point, for HTTP/1.1.
func dial(tr *rig.Traefik) (net.Conn, error) {
	return tls.Dial("tcp", tr.WebSecure, &tls.Config{ServerName: "mcp.localhost", RootCAs: tr.Roots, NextProtos: []string{"http/1.1"}})
}

// tryMessage posts a message, whose length is announced as length; -1: in chunks.
func tryMessage(tr *rig.Traefik, routeName, token, body string, length int) (int, http.Header, error) {
	conn, err := dial(tr)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	head := "POST /wiki/mcp HTTP/1.1\r\nHost: mcp.localhost\r\nX-Route: " + routeName + "\r\nContent-Type: application/json\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if length < 0 {
		head += "Transfer-Encoding: chunked\r\n\r\n"
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", length)
	}
	if _, err := io.WriteString(conn, head+body); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header, nil
}

// A server of two is away, and retry stands somewhere in the chain: no message reaches the other
// one empty or cut.
func TestRetryNeverTurnsAMessageIntoAnEmptyOne(t *testing.T) {
	d := newAuthority(t)
	server := &recorder{}
	up := httptest.NewServer(server)
	t.Cleanup(up.Close)
	away := fmt.Sprintf("http://127.0.0.1:%d", rig.FreePort(t)) // nobody listens
	rules := map[string]string{"toolScopes": "*=openid"}
	tr, _ := startRoutes(t, d, []string{away, up.URL}, map[string]any{
		"retry":  map[string]any{"retry": map[string]any{"attempts": 3, "initialInterval": "1ms"}},
		"keeper": map[string]any{"retry": map[string]any{"attempts": 3, "initialInterval": "1ms", "status": []string{"599"}, "retryNonIdempotentMethod": true}},
	},
		route{"front", []string{"retry", "bouncer"}, nil}, route{"front-rules", []string{"retry", "bouncer"}, rules},
		route{"behind", []string{"bouncer", "retry"}, nil}, route{"behind-rules", []string{"bouncer", "retry"}, rules},
		route{"keeper", []string{"keeper", "bouncer"}, nil}, route{"keeper-rules", []string{"keeper", "bouncer"}, rules})
	token := d.tokenOf("p", time.Hour)
	short := toolCall("search")
	long := strings.Replace(short, `"search"`, `"search","pad":"`+strings.Repeat("x", 100000)+`"`, 1)
	for _, c := range []struct {
		route   string
		body    string
		chunked bool
		always  bool // 200
	}{
		{"front", short, false, false}, {"front", long, false, false}, {"front", short, true, false},
		{"front-rules", short, false, false}, {"front-rules", long, false, false}, {"front-rules", short, true, false},
		{"behind", short, false, true}, {"behind", long, false, true}, {"behind-rules", short, false, true}, {"behind-rules", short, true, true},
		{"keeper", short, false, true}, {"keeper", long, false, true}, {"keeper-rules", short, false, true}, {"keeper-rules", short, true, true},
	} {
		t.Run(fmt.Sprintf("%s, %d bytes, chunked %t", c.route, len(c.body), c.chunked), func(t *testing.T) {
			statuses := map[int]int{}
			for range 6 {
				server.take()
				length := len(c.body)
				if c.chunked {
					length = -1
				}
				status, header, err := tryMessage(tr, c.route, token, c.body, length)
				if err != nil {
					t.Fatal(err)
				}
				statuses[status]++
				seen := server.take()
				for _, s := range seen {
					if s.body != c.body {
						t.Errorf("status %d; the MCP server got %d of %d bytes", status, len(s.body), len(c.body))
					}
				}
				if status == http.StatusOK && len(seen) != 1 {
					t.Errorf("200, and the MCP server was asked %d times", len(seen))
				}
				if status != http.StatusOK && (status != http.StatusServiceUnavailable || header.Get("Retry-After") == "") {
					t.Errorf("status %d, Retry-After %q", status, header.Get("Retry-After"))
				}
			}
			t.Logf("statuses %v", statuses)
			if statuses[http.StatusOK] == 0 || c.always && statuses[http.StatusOK] != 6 {
				t.Errorf("statuses %v", statuses)
			}
		})
	}
}

// Whatever a client asks a connection to become, the MCP server hears of WebSockets alone, and
// always of who asks.
func TestUpgradesAndTrailersInTraefik(t *testing.T) {
	d := newAuthority(t)
	server := &recorder{}
	up := httptest.NewServer(server)
	t.Cleanup(up.Close)
	tr, _ := startRoutes(t, d, []string{up.URL}, nil, route{"rules", []string{"bouncer"}, map[string]string{"toolScopes": "*=openid"}}, route{"plain", []string{"bouncer"}, nil})
	token := d.tokenOf("p", time.Hour)
	message := toolCall("search")
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Mcp-Sub: q\r\nX-Later: q\r\n\r\n", len(message), message)
	for _, c := range []struct {
		name, method, head, body string
		webSocket                bool // on the route without rules
	}{
		{"a WebSocket", "GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "", true},
		{"a WebSocket, and HTTP/2's settings", "GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket\r\nHTTP2-Settings: AAMAAABk\r\n", "", true},
		{"HTTP/2", "GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "", false},
		{"a WebSocket or HTTP/2", "GET", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", "", false},
		{"TLS", "GET", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n", "", false},
		{"HTTP/2, with a message", "POST", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Type: application/json\r\n", message, false},
		{"a connection that names the identity", "GET", "Connection: X-Mcp-Sub, X-Mcp-Scopes, keep-alive\r\n", "", false},
		{"a WebSocket whose connection names the identity", "GET", "Connection: Upgrade, X-Mcp-Sub\r\nUpgrade: websocket\r\n", "", true},
		{"trailers that name somebody else", "POST", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-Mcp-Sub, X-Later\r\n", chunked, false},
	} {
		for _, name := range []string{"plain", "rules"} {
			server.take()
			conn, err := dial(tr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			head := c.method + " /wiki/mcp HTTP/1.1\r\nHost: mcp.localhost\r\nX-Route: " + name + "\r\nAuthorization: Bearer " + token + "\r\n" + c.head
			if c.body == message {
				head += fmt.Sprintf("Content-Length: %d\r\n", len(message))
			}
			if _, err := io.WriteString(conn, head+"\r\n"+c.body); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("%s, %s: %v", c.name, name, err)
			}
			conn.Close()
			opens := c.webSocket && name == "plain"
			if (resp.StatusCode == http.StatusSwitchingProtocols) != opens || !opens && resp.StatusCode != http.StatusOK {
				t.Errorf("%s, %s: status %d", c.name, name, resp.StatusCode)
			}
			seen := server.take()
			if len(seen) != 1 {
				t.Fatalf("%s, %s: the MCP server was asked %d times", c.name, name, len(seen))
			}
			h := seen[0].header
			want := ""
			if opens {
				want = "websocket"
			}
			if h.Get("Upgrade") != want || h.Get("Http2-Settings") != "" || strings.Contains(strings.ToLower(h.Get("Connection")), "settings") {
				t.Errorf("%s, %s: the MCP server got Upgrade %q, Connection %q, HTTP2-Settings %q", c.name, name, h["Upgrade"], h["Connection"], h["Http2-Settings"])
			}
			if seen[0].person != "p" || len(h["X-Mcp-Sub"]) != 1 || len(seen[0].trailer) != 0 {
				t.Errorf("%s, %s: the MCP server got X-Mcp-Sub %q, trailers %v", c.name, name, h["X-Mcp-Sub"], seen[0].trailer)
			}
		}
	}
}

// openEcho opens a WebSocket. What it returns says whether the WebSocket still echoes.
func openEcho(t *testing.T, tr *rig.Traefik, token string) func() bool {
	t.Helper()
	conn, err := dial(tr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, "GET /wiki/mcp HTTP/1.1\r\nHost: mcp.localhost\r\nX-Route: plain\r\nAuthorization: Bearer "+token+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no WebSocket: %v %v", resp, err)
	}
	return func() bool {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(conn, "ping"); err != nil {
			return false
		}
		_, err := io.ReadFull(reader, make([]byte, 4))
		return err == nil
	}
}

// An open WebSocket ends with its token and with its login, also after Traefik has read its
// configuration anew; others live on.
func TestOpenWebSocketsEndInTraefik(t *testing.T) {
	d := newAuthority(t)
	up := httptest.NewServer(&recorder{})
	t.Cleanup(up.Close)
	tr, reload := startRoutes(t, d, []string{up.URL}, nil, route{"plain", []string{"bouncer"}, nil})
	// A token is honoured for 60 seconds after its end.
	ending := openEcho(t, tr, d.tokenOf("ending", -45*time.Second))
	denied := openEcho(t, tr, d.tokenOf("denied", time.Hour))
	good := openEcho(t, tr, d.tokenOf("good", time.Hour))
	if !ending() || !denied() || !good() {
		t.Fatal("a WebSocket does not echo")
	}
	d.Deny(`{"v":1,"serial":1,"notBefore":0,"users":["denied"]}`)
	reload(map[string]any{"http": map[string]any{"middlewares": map[string]any{"other": map[string]any{"stripPrefix": map[string]any{"prefixes": []string{"/a"}}}},
		"routers": map[string]any{"other": map[string]any{"rule": "PathPrefix(`/other`)", "service": "mcp", "middlewares": []string{"other"}}}}})
	open := func(echoes func() bool) func() error {
		return func() error {
			if echoes() {
				return fmt.Errorf("it is open")
			}
			return nil
		}
	}
	rig.WaitWithin(t, 30*time.Second, "the end of the WebSocket whose token ended", open(ending))
	if !denied() {
		t.Log("the denied person's WebSocket has ended already")
	}
	rig.WaitWithin(t, 90*time.Second, "the end of the denied person's WebSocket", open(denied))
	if !good() {
		t.Error("another person's WebSocket was ended")
	}
}
