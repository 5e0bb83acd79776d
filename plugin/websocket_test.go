//go:build go1.21

package plugin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// socket is an open WebSocket: a request whose handler lives as long as its context, as that of
// Traefik's proxy does.
type socket struct {
	opened chan http.Header // what reached the MCP server
	closed chan bool        // the server's side ends it
	done   chan bool        // the middleware has returned
}

func (s *socket) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	s.opened <- req.Header
	select {
	case <-req.Context().Done():
	case <-s.closed:
	}
}

// openSocket opens a WebSocket with these credentials. Each send on the channel lets the
// middleware look at it once more.
func openSocket(t *testing.T, c *Config, credentials string) (*socket, chan time.Time) {
	t.Helper()
	return openSocketWith(t, c, bearer(credentials))
}

// openSocketWith is openSocket with other headers, in pairs.
func openSocketWith(t *testing.T, c *Config, headers []string) (*socket, chan time.Time) {
	t.Helper()
	looks := make(chan time.Time)
	// A name of its own: an end of the test before may still wait on the other.
	wait := func(_ time.Duration) <-chan time.Time { return looks }
	after = wait
	t.Cleanup(func() { after = time.After })
	s := &socket{opened: make(chan http.Header, 1), closed: make(chan bool), done: make(chan bool)}
	var next http.Handler = s
	h, err := New(context.Background(), next, c, "wiki@docker")
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest("GET", wikiURL+"/mcp", http.NoBody)
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Forwarded-Host", "mcp.localhost")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Header.Set("Connection", "keep-alive, Upgrade")
	req.Header.Set("Upgrade", "websocket")
	rw := httptest.NewRecorder()
	go serveSocket(h, rw, req, s)
	select {
	case header := <-s.opened:
		if strings.Join(header["Upgrade"], "|") != "websocket" || strings.Join(header["Connection"], "|") != "Upgrade" || header["X-Mcp-Sub"] == nil || header["Authorization"] != nil || header["Dpop"] != nil {
			t.Fatalf("the MCP server got %v", header)
		}
	case <-s.done:
		t.Fatalf("no WebSocket: %d %s", rw.Code, rw.Body)
	}
	return s, looks
}

func serveSocket(h http.Handler, rw http.ResponseWriter, req *http.Request, s *socket) {
	h.ServeHTTP(rw, req)
	close(s.done)
}

// isOpen gives the middleware a look, and says whether the WebSocket is open after it.
func isOpen(s *socket, looks chan time.Time) bool {
	select {
	case looks <- time.Now():
	case <-s.done:
		return false
	}
	// The test waits for the next look, unless the socket is no longer watched.
	select {
	case looks <- time.Now():
		return true
	case <-s.done:
		return false
	}
}

func TestWebSocketEndsWithItsToken(t *testing.T) {
	logged := start(t)
	sidecar := startSidecar(t)
	exp := clock.Load() + 1000
	s, looks := openSocket(t, wikiConfig(sidecar.server.URL), goodToken("k1", map[string]any{"exp": exp}))
	for i := 0; i < 3; i++ {
		if !isOpen(s, looks) {
			t.Fatalf("look %d: it was ended", i)
		}
	}
	clock.Store(exp + expirySkew)
	if isOpen(s, looks) {
		t.Error("it outlives its token")
	}
	if !strings.Contains(logged.String(), "an open WebSocket was ended: the access token has expired") {
		t.Errorf("the log says %s", logged)
	}
}

func TestWebSocketEndsWithItsLogin(t *testing.T) {
	logged := start(t)
	sidecar := startSidecar(t)
	s, looks := openSocket(t, wikiConfig(sidecar.server.URL), goodToken("k1", login()))
	if !isOpen(s, looks) {
		t.Fatal("it was ended")
	}
	sidecar.setDeny(denyDocument(`"users":["user-1"]`))
	clock.Add(denyPeriod)
	isOpen(s, looks) // starts the fetch
	eventually(t, "the fetch", func() bool { return sidecar.denyFetches.Load() >= 2 && !flying() })
	if isOpen(s, looks) {
		t.Error("it outlives its login")
	}
	if !strings.Contains(logged.String(), "an open WebSocket was ended: the login of the access token was ended by the operator") {
		t.Errorf("the log says %s", logged)
	}
}

// While the sidecar is away, a WebSocket ends only with its token.
func TestWebSocketOutlivesAnOutage(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	claims := login()
	s, looks := openSocket(t, wikiConfig(sidecar.server.URL), goodToken("k1", claims))
	sidecar.server.Close()
	for i := 0; i < 4; i++ {
		clock.Add(keysUsable / 2)
		if !isOpen(s, looks) {
			t.Fatalf("after %d seconds of the outage it was ended", (i+1)*keysUsable/2)
		}
	}
	clock.Store(1800000000 + 20000 + expirySkew)
	if isOpen(s, looks) {
		t.Error("it outlives its token")
	}
}

// No goroutine goes on watching a WebSocket that has ended by itself.
func TestWebSocketThatEndsIsNotWatched(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	s, looks := openSocket(t, wikiConfig(sidecar.server.URL), goodToken("k1", login()))
	close(s.closed)
	<-s.done
	select {
	case looks <- time.Now(): // it may still be on its way out
	case <-time.After(50 * time.Millisecond):
	}
	select {
	case looks <- time.Now():
		t.Error("it is still looked at")
	case <-time.After(50 * time.Millisecond):
	}
}

// Other labels do not keep a WebSocket from being watched. With rules no WebSocket is let in.
func TestWebSocketsWithOtherLabels(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	c := wikiConfig(sidecar.server.URL)
	c.IdentityHeaders = "email"
	s, looks := openSocket(t, c, goodToken("k1", login()))
	clock.Add(30000)
	if isOpen(s, looks) {
		t.Error("with identityHeaders it outlives its token")
	}
	clock.Store(1800000000)
	h, behind := ruled(t, nil)
	rec := ask(h, "GET", wikiURL+"/mcp", "Authorization", "Bearer "+goodToken("k1", map[string]any{"scope": "mcp"}), "Connection", "Upgrade", "Upgrade", "websocket")
	if rec.Code != 200 || behind.upgrade != "" {
		t.Errorf("with rules: %d, Upgrade %q", rec.Code, behind.upgrade)
	}
}

func TestWebSocketNeedsAPlainHandshake(t *testing.T) {
	for _, c := range []struct {
		name, connection, upgrade string
		want                      bool
	}{
		{"a browser's", "keep-alive, Upgrade", "websocket", true},
		{"in small letters", "upgrade", "websocket", true},
		{"without the option", "keep-alive", "websocket", false},
		{"another protocol", "Upgrade", "h2c", false},
		{"two protocols", "Upgrade", "websocket, h2c", false},
		{"more options than anybody has", strings.Repeat(",", maxConnection) + "Upgrade", "websocket", false},
	} {
		req := httptest.NewRequest("GET", wikiURL+"/mcp", http.NoBody)
		req.Header.Set("Connection", c.connection)
		req.Header.Set("Upgrade", c.upgrade)
		if got := opensWebSocket(req); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
