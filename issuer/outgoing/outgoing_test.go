package outgoing

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One rule says which request is sent again: nothing came back, the connection broke, and it was a
// kept connection or the request may be repeated.
func TestOutgoingAsksASecondTime(t *testing.T) {
	const body = "code=once"
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	}
	answers := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }
	begins := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "o")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	// Without the panic it would answer when the client hangs up, and sometimes be heard.
	silent := func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	// Over HTTP/2 this ends the stream and not the connection.
	resets := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		name       string
		http2      bool
		kept       bool // there is a connection from before
		repeatable bool
		noRewind   bool
		// what the server does at each request, after the one that opens the kept connection
		do    []http.HandlerFunc
		asked int
		ok    bool
	}{
		{name: "a kept connection breaks", kept: true, do: []http.HandlerFunc{hangUp, answers}, asked: 2, ok: true},
		{name: "a kept connection breaks, and the new one", kept: true, do: []http.HandlerFunc{hangUp, hangUp, answers}, asked: 2},
		{name: "a kept connection breaks, and the new one, under a repeatable question", kept: true, repeatable: true, do: []http.HandlerFunc{hangUp, hangUp, answers}, asked: 2},
		{name: "a new connection breaks", do: []http.HandlerFunc{hangUp, answers}, asked: 1},
		{name: "a new connection breaks under a repeatable question", repeatable: true, do: []http.HandlerFunc{hangUp, answers}, asked: 2, ok: true},
		{name: "the body cannot be had again", kept: true, noRewind: true, do: []http.HandlerFunc{hangUp, answers}, asked: 1},
		{name: "an answer has begun", kept: true, repeatable: true, do: []http.HandlerFunc{begins, answers}, asked: 1},
		{name: "nobody speaks in time", kept: true, repeatable: true, do: []http.HandlerFunc{silent, answers}, asked: 1},
		{name: "an HTTP/2 server ends the stream", http2: true, kept: true, repeatable: true, do: []http.HandlerFunc{resets, answers}, asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var asked []string
			var connections []string
			opened := !c.kept
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				content, _ := io.ReadAll(r.Body)
				mu.Lock()
				if !opened {
					opened = true
					mu.Unlock()
					return
				}
				n := len(asked)
				asked, connections = append(asked, string(content)), append(connections, r.RemoteAddr)
				mu.Unlock()
				c.do[n](w, r)
			}))
			server.EnableHTTP2 = c.http2
			server.StartTLS()
			defer server.Close()
			out := NewTransport(server.Client().Transport)
			defer out.CloseIdleConnections()
			client := &http.Client{Transport: out}
			if c.kept {
				resp, err := client.Get(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if c.repeatable {
				ctx = WithSecondTry(ctx)
			}
			r, err := http.NewRequestWithContext(ctx, "POST", server.URL, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if c.noRewind {
				r.GetBody = nil
			}
			resp, err := client.Do(r)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			if (err == nil) != c.ok || len(asked) != c.asked {
				t.Fatalf("asked %d times, want %d; error %v", len(asked), c.asked, err)
			}
			for i, content := range asked {
				if content != body || i > 0 && connections[i] == connections[0] {
					t.Errorf("try %d: body %q over %s, the first over %s", i+1, content, connections[i], connections[0])
				}
			}
		})
	}
}

// A connection that the network has forgotten says nothing at all. Over HTTP/2 this is noticed
// while there is time for another connection.
func TestOutgoingConnectionThatIsSilentIsGivenUp(t *testing.T) {
	t.Parallel() // it takes seconds but hardly any processor time
	var mu sync.Mutex
	var conns []*mutedConn
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	base := server.Client().Transport.(*http.Transport).Clone()
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		muted := &mutedConn{Conn: conn}
		conns = append(conns, muted)
		return muted, nil
	}
	client := &http.Client{Transport: NewTransport(base), Timeout: 8 * time.Second}
	ask := func() {
		t.Helper()
		resp, err := client.Post(server.URL, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatal(resp.Proto)
		}
	}
	ask()
	mu.Lock()
	conns[0].mute()
	mu.Unlock()
	ask()
	if len(conns) != 2 {
		t.Errorf("%d connections", len(conns))
	}
}

// mutedConn loses what is written to it once it is muted.
type mutedConn struct {
	net.Conn
	mu    sync.Mutex
	muted bool
}

func (c *mutedConn) mute() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.muted = true
}

func (c *mutedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.muted {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// The settings of the caller's transport for certificates, proxies and addresses hold for both ways
// out.
func TestOutgoingHasTheCallersTwoWays(t *testing.T) {
	base := &http.Transport{TLSClientConfig: &tls.Config{ServerName: "idp.example"}, Proxy: nil, MaxResponseHeaderBytes: 1234}
	out := NewTransport(base)
	for name, way := range map[string]http.RoundTripper{"kept": out.kept, "fresh": out.fresh} {
		got := way.(*http.Transport)
		if got == base || got.TLSClientConfig.ServerName != "idp.example" || got.Proxy != nil || got.MaxResponseHeaderBytes != 1234 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if NewTransport(out) != out {
		t.Error("the rule is applied twice")
	}
	if base.IdleConnTimeout != 0 || base.DisableKeepAlives {
		t.Error("the caller's transport has changed")
	}
}

// People who log in or refresh at once use the connections that they opened before, up to a bound.
func TestOutgoingKeepsTheConnectionsOfManyAtOnce(t *testing.T) {
	const atOnce = idlePerHost + 5
	var opened atomic.Int32
	var all sync.WaitGroup // who asks waits for the others, so that each needs a connection
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		all.Done()
		all.Wait()
		io.WriteString(w, "ok")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	client := NewClient(&http.Transport{}, 10*time.Second)
	t.Cleanup(client.CloseIdleConnections)
	for wave, want := range []int32{atOnce, atOnce + 5} {
		all.Add(atOnce)
		var asked sync.WaitGroup
		for range atOnce {
			asked.Go(func() {
				resp, err := client.Get(s.URL)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		}
		asked.Wait()
		if got := opened.Load(); got != want {
			t.Errorf("%d connections after wave %d of %d requests, want %d", got, wave, atOnce, want)
		}
	}
}
