package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
)

const wikiHost = "mcp.example.com"

// The plugin before each tenant: a challenge without a token, the caller's identity with one, and
// nothing for a token of another tenant.
func TestGatewayPutsThePluginBeforeEachTenant(t *testing.T) {
	w := newWorld(t)
	addr := w.start(w.tenants(), nil)
	wiki, world := w.wikiKey(), w.worldKey()
	for _, c := range []struct {
		name, host, path, token string
		status                  int
		sub                     string // as the MCP server sees it; empty: it sees nothing
	}{
		{"no token", wikiHost, "/wiki/mcp", "", 401, ""},
		{"a token of this tenant", wikiHost, "/wiki/mcp", wiki, 200, "robot-wiki"},
		{"a token of this tenant, by the port", wikiHost + ":443", "/wiki/mcp", wiki, 200, "robot-wiki"},
		{"a token of this tenant, host in large letters", "MCP.Example.COM", "/wiki/mcp", wiki, 200, "robot-wiki"},
		{"a token of another tenant", wikiHost, "/world/mcp", wiki, 401, ""},
		{"the other tenant's own", wikiHost, "/world/mcp", world, 200, "robot-world"},
		{"a name that begins alike", wikiHost, "/wikileaks/mcp", wiki, 404, ""},
		{"a path of no tenant", wikiHost, "/other", wiki, 404, ""},
		{"the root of a host with two", wikiHost, "/.well-known/oauth-protected-resource", "", 404, ""},
		{"a host of no tenant", "elsewhere.example.com", "/wiki/mcp", wiki, 421, ""},
		{"a host with a dot at its end", wikiHost + ".", "/wiki/mcp", wiki, 421, ""},
		{"another port", wikiHost + ":8443", "/wiki/mcp", wiki, 421, ""},
		{"a tenant's path at another tenant's host", "alone.example.com", "/wiki/mcp", wiki, 401, ""},
		{"metadata below the path", wikiHost, "/wiki/.well-known/oauth-authorization-server", "", 200, ""},
		{"metadata where the standards look", wikiHost, "/.well-known/oauth-authorization-server/wiki", "", 200, ""},
		{"metadata of a server with a host to itself", "alone.example.com", "/.well-known/oauth-protected-resource", "", 200, ""},
		{"the sidecar's own paths", wikiHost, "/healthz", "", 404, ""},
		{"what only the plugin may ask", wikiHost, "/wiki/hop/deny", "", 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := ask(t, addr, "GET", c.host, c.path, c.token, nil)
			seen := w.reached()
			if resp.StatusCode != c.status || len(seen) > 0 != (c.sub != "") {
				t.Fatalf("%s %s, the server saw %d requests", resp.Status, body, len(seen))
			}
			if c.sub != "" && (seen[0].Header.Get("X-Mcp-Sub") != c.sub || seen[0].Header["Authorization"] != nil || seen[0].Host != c.host) {
				t.Errorf("the server saw %s %v", seen[0].Host, seen[0].Header)
			}
			if c.status == 401 && c.host == wikiHost {
				tenant := strings.Split(c.path, "/")[1]
				if got := resp.Header.Get("Www-Authenticate"); !strings.Contains(got, `resource_metadata="https://mcp.example.com/`+tenant+"/.well-known/oauth-protected-resource") {
					t.Errorf("challenged with %q", got)
				}
			}
			if c.status == 404 || c.status == 421 {
				if body != `{"error":"not_found"}` {
					t.Errorf("says %s", body)
				}
			}
			if strings.HasSuffix(c.path, "oauth-authorization-server/wiki") {
				var metadata struct{ Issuer string }
				if err := json.Unmarshal([]byte(body), &metadata); err != nil || metadata.Issuer != "https://mcp.example.com/wiki" {
					t.Errorf("says %s", body)
				}
			}
		})
	}
	for cause, host := range map[string]string{"no tenant has this host and port": "elsewhere.example.com", "no tenant at this host has this path": wikiHost} {
		if log := w.log.String(); strings.Count(log, cause) != 1 || !strings.Contains(log, "host="+host) {
			t.Errorf("%q stands %d times in the log", cause, strings.Count(log, cause))
		}
	}
}

// What a stranger says of the way, or of himself, reaches nobody.
func TestGatewayPassesNoHeaderOfStrangersOn(t *testing.T) {
	w := newWorld(t)
	addr := w.start(w.tenants("identityHeaders: email=X-Forwarded-Email"), nil)
	forged := http.Header{}
	for _, name := range []string{
		"X-Mcp-Sub", "x-mcp-sub", "X_Mcp_Sub", "X.Mcp.Sub", "X-Mcp-Scopes", "X-Mcp-Email", "X-Forwarded-Email", "X_Forwarded_Email", "X-Mcpb-Authorization",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Forwarded-Method",
		"X_Forwarded_For", "X-Real-Ip", "X_Real_IP", "Forwarded",
	} {
		forged[name] = []string{"forged.example.com"}
	}
	for range 3 { // the plugin takes a shorter way each time
		resp, _ := ask(t, addr, "GET", wikiHost, "/wiki/mcp", w.wikiKey(), forged)
		seen := w.reached()
		if resp.StatusCode != 200 || len(seen) != 1 {
			t.Fatalf("%s, the server saw %d requests", resp.Status, len(seen))
		}
		for name, values := range seen[0].Header {
			if slices.Contains(values, "forged.example.com") {
				t.Errorf("the server saw %s: %s", name, values)
			}
		}
		h := seen[0].Header
		if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Host") != wikiHost || h.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("the server saw %v", h)
		}
	}
	// nor do they lead to another tenant
	for name, value := range map[string]string{"X-Forwarded-Host": "alone.example.com", "X-Forwarded-Uri": "/world/mcp", "X-Original-Uri": "/world/mcp", "X-Rewrite-Url": "/world/mcp"} {
		resp, _ := ask(t, addr, "GET", wikiHost, "/wiki/mcp", "", http.Header{name: {value}})
		if got := resp.Header.Get("Www-Authenticate"); !strings.Contains(got, "https://mcp.example.com/wiki/.well-known/oauth-protected-resource/mcp") {
			t.Errorf("%s: challenged with %q", name, got)
		}
	}
	if resp, body := ask(t, addr, "GET", wikiHost, "/wiki/mcp", "", http.Header{"X-Mcpb-Hop": {"mbh1_AAAA"}}); resp.StatusCode != http.StatusLoopDetected {
		t.Errorf("a hop header of a stranger: %s %s", resp.Status, body)
	}
}

// A path that the gateway and the MCP server could read differently opens nothing: with a token of
// wiki, nothing of world, and without one nothing at all.
func TestGatewayOpensNothingByTheSpellingOfAPath(t *testing.T) {
	w := newWorld(t)
	addr := w.start(w.tenants(), nil)
	for _, path := range []string{
		"/wiki/../world/mcp", "/wiki/./mcp", "/wiki//mcp", "//world/mcp", "//wiki/mcp", "/wiki/%2e%2e/world/mcp", "/wiki%2f..%2fworld/mcp", "/wiki/..%2fworld/mcp",
		"/%77orld/mcp", "/wiki;x=1/mcp", "/wiki/mcp;x", "/wiki/..;/world/mcp", "/wiki\\..\\world/mcp", "/wiki/%5c..%5cworld", "/wiki/%00", "/wiki%20/mcp",
		"/wiki/mcp%2f..%2f..%2fworld", "/.well-known/x/../../world/mcp", "/wiki/.well-known/%2e%2e/mcp", "/wiki/oauth/../mcp", "/WORLD/mcp", "/wiki/%252e%252e/world",
	} {
		for _, token := range []string{"", w.wikiKey()} {
			request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", path, wikiHost)
			if token != "" {
				request += "Authorization: Bearer " + token + "\r\n"
			}
			answer := raw(t, addr, request+"\r\n")
			if seen := w.reached(); len(seen) > 0 || strings.HasPrefix(answer, "HTTP/1.1 2") || strings.HasPrefix(answer, "HTTP/1.1 3") {
				t.Errorf("%s, token %v: the server saw %d requests, the client %.80q", path, token != "", len(seen), answer)
			}
		}
	}
	// of a target with a scheme and a host, that host counts, as for every server of HTTP/1.1
	for target, status := range map[string]string{"http://mcp.example.com/wiki/mcp": "401", "http://elsewhere.example.com/wiki/mcp": "421", "*": "400", "mcp.example.com:443": "400"} {
		answer := raw(t, addr, "GET "+target+" HTTP/1.1\r\nHost: "+wikiHost+"\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+status) && !strings.HasPrefix(answer, "HTTP/1.1 4") {
			t.Errorf("%s: %.60q", target, answer)
		}
	}
	if seen := w.reached(); len(seen) > 0 {
		t.Errorf("the server saw %s", seen[0].URL)
	}
}

// No request is hidden in another: what two servers could cut into requests differently is refused.
func TestGatewayTakesNoSmuggledRequests(t *testing.T) {
	w := newWorld(t)
	addr := w.start(w.tenants(), nil)
	const inner = "GET /world/mcp HTTP/1.1\r\nHost: mcp.example.com\r\nX-Mcp-Sub: admin\r\n\r\n"
	head := "POST /wiki/mcp HTTP/1.1\r\nHost: mcp.example.com\r\nAuthorization: Bearer " + w.wikiKey() + "\r\nContent-Type: application/json\r\n"
	for name, request := range map[string]string{
		"a length and chunks":         head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"two lengths":                 head + "Content-Length: 2\r\nContent-Length: 80\r\n\r\n{}" + inner,
		"a length with a sign":        head + "Content-Length: +2\r\n\r\n{}" + inner,
		"another transfer coding":     head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
		"a coding behind the chunks":  head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
		"two transfer codings":        head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + inner,
		"a blank before the colon":    head + "Content-Length : 0\r\n\r\n" + inner,
		"a name with a line break":    head + "X: a\rContent-Length: 0\r\n\r\n" + inner,
		"two hosts":                   "GET /wiki/mcp HTTP/1.1\r\nHost: mcp.example.com\r\nHost: alone.example.com\r\n\r\n",
		"no host":                     "GET /wiki/mcp HTTP/1.1\r\n\r\n",
		"a host with a path":          "GET /wiki/mcp HTTP/1.1\r\nHost: mcp.example.com/world\r\n\r\n",
		"a chunk of an odd size":      head + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + inner,
		"a chunk with a bare newline": head + "Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
	} {
		answer := raw(t, addr, request)
		for _, seen := range w.reached() {
			if seen.URL.Path != "/wiki/mcp" || seen.Header.Get("X-Mcp-Sub") != "robot-wiki" {
				t.Errorf("%s: the server saw %s %v", name, seen.URL, seen.Header)
			}
		}
		// Of a length and chunks net/http reads the chunks, as RFC 9112 §6.3 has it: what follows
		// is a request of its own, without a token.
		if n := strings.Count(answer, "HTTP/1.1 "); n > 1 && name != "a length and chunks" || strings.Count(answer, "HTTP/1.1 200") > 1 {
			t.Errorf("%s: %d answers: %q", name, n, answer)
		}
	}
}

// Each event reaches the client when the server sends it.
func TestGatewaySendsEventsAtOnce(t *testing.T) {
	w := newWorld(t)
	more := make(chan struct{})
	w.do = func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for n := 1; ; n++ {
			fmt.Fprintf(rw, "data: %d\n\n", n)
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}
	addr := w.start(w.tenants(), nil)
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+"/wiki/mcp", nil)
	r.Host = wikiHost
	r.Header.Set("Authorization", "Bearer "+w.wikiKey())
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for n := 1; n < 4; n++ {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = lines.ReadString('\n')
		more <- struct{}{} // would wait for ever if the event before had not been sent on
	}
}

// A connection is upgraded to a WebSocket and to nothing else, and only with a token.
func TestGatewayUpgradesToWebSocketsOnly(t *testing.T) {
	w := newWorld(t)
	w.do = func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(rw, "plain")
			return
		}
		conn, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		line, _ := buffered.ReadString('\n')
		fmt.Fprintf(conn, "echo %s", line)
	}
	addr := w.start(w.tenants(), nil)
	for _, c := range []struct{ name, token, upgrade, want string }{
		{"WebSocket", w.wikiKey(), "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n", "101"},
		{"WebSocket without a token", "", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "401"},
		{"HTTP/2", w.wikiKey(), "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "200"},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		authorization := ""
		if c.token != "" {
			authorization = "Authorization: Bearer " + c.token + "\r\n"
		}
		fmt.Fprintf(conn, "GET /wiki/mcp HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", wikiHost, authorization, c.upgrade)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || !strings.HasPrefix(resp.Status, c.want) {
			t.Fatalf("%s: %v, %v", c.name, resp, err)
		}
		if c.want == "101" {
			fmt.Fprint(conn, "hello\n")
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "echo hello\n" {
				t.Errorf("%s: %q, %v", c.name, line, err)
			}
		}
		conn.Close()
	}
}

// Whoever is slow with a header, sends too large a one, or does not read an answer, is let go.
func TestGatewayIsHeldUpByNobody(t *testing.T) {
	w := newWorld(t)
	addr := w.start(w.tenants(), func(s *http.Server) {
		if s.ReadHeaderTimeout == 0 || s.ReadHeaderTimeout > 30*time.Second || s.IdleTimeout == 0 {
			t.Errorf("headers may take %s, silence %s", s.ReadHeaderTimeout, s.IdleTimeout)
		}
		s.ReadHeaderTimeout, s.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	began := time.Now()
	if answer := raw(t, addr, "GET /wiki/mcp HTTP/1.1\r\nHost: mcp.example.com\r\nX-Slow: "); time.Since(began) > 900*time.Millisecond {
		t.Errorf("a header that does not end: %q after %s", answer, time.Since(began))
	}
	if answer := raw(t, addr, "GET /wiki/mcp HTTP/1.1\r\nHost: mcp.example.com\r\nX-Large: "+strings.Repeat("x", 80<<10)+"\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 431") {
		t.Errorf("a header of 80 KB: %.60q", answer)
	}
}

// A server that is away is the client's 502 and the operator's line.
func TestGatewayTellsOfAServerThatIsAway(t *testing.T) {
	w := newWorld(t)
	addr := w.start(strings.ReplaceAll(w.tenants(), w.server.URL, "http://127.0.0.1:1"), nil)
	for range 2 {
		if resp, body := ask(t, addr, "GET", wikiHost, "/wiki/mcp", w.wikiKey(), nil); resp.StatusCode != 502 || strings.Contains(body, "127.0.0.1") {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
	if log := w.log.String(); strings.Count(log, "the MCP server cannot be reached") != 1 || !strings.Contains(log, "backend=http://127.0.0.1:1") {
		t.Error(log)
	}
}

// A message reaches the MCP server as it was sent, with the query, below the path of the backend
// and without the prefix where that is asked for.
func TestGatewayPassesMessagesOn(t *testing.T) {
	w := newWorld(t)
	addr := w.start(w.tenants("stripPrefix: true"), nil)
	token := w.wikiKey()
	post := func(path, body string) (string, *http.Request) {
		r, _ := http.NewRequest("POST", "http://"+addr+path, strings.NewReader(body))
		r.Host = wikiHost
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, _ := io.ReadAll(resp.Body)
		seen := w.reached()
		if len(seen) != 1 {
			t.Fatalf("%s: the server saw %d requests, the client %s", path, len(seen), got)
		}
		return string(got), seen[0]
	}
	for range 2 {
		got, seen := post("/wiki/mcp?a=1;b=%zz&a=2", `{"jsonrpc":"2.0"}`)
		if got != `reached {"jsonrpc":"2.0"}` || seen.URL.Path != "/mcp" || seen.URL.RawQuery != "a=1;b=%zz&a=2" || seen.Header.Get("X-Forwarded-Prefix") != "/wiki" {
			t.Errorf("%q, the server saw %s %v", got, seen.URL, seen.Header)
		}
	}
	if _, seen := post("/wiki", "{}"); seen.URL.Path != "/" {
		t.Errorf("the public URL itself: the server saw %s", seen.URL)
	}
}

// Certificates are asked for hosts of tenants, and for no others.
func TestGatewayAsksForCertificatesOfTenantsOnly(t *testing.T) {
	w := newWorld(t)
	g := &gateway.Gateway{File: w.file, Sidecar: w.sidecar.URL, Log: w.logger()}
	if err := g.Load([]byte(w.tenants())); err == nil || !strings.Contains(err.Error(), "has no certificate") {
		t.Errorf("public URLs with https need no certificate: %v", err)
	}
	g.TLS = true
	if err := g.Load([]byte(w.tenants())); err != nil {
		t.Fatal(err)
	}
	for host, serves := range map[string]bool{wikiHost: true, "alone.example.com": true, "example.com": false, "x." + wikiHost: false, "": false} {
		if err := g.Serves(context.Background(), host); err == nil != serves {
			t.Errorf("%q: %v", host, err)
		}
	}
}
