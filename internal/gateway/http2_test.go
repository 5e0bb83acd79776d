package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
)

// startHTTP2 serves wiki with TLS to clients that speak HTTP/2. It returns the answer that one of
// them begins to read at /wiki/mcp, with a token.
func (w *world) startHTTP2() *http.Response {
	w.t.Helper()
	cert, key := writeCertificate(w.t, w.t.TempDir(), 1)
	text, err := os.ReadFile(cert)
	if err != nil {
		w.t.Fatal(err)
	}
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(text)
	g := &gateway.Gateway{File: w.file, Sidecar: w.sidecar.URL, Log: w.logger(), TLS: true}
	if err := g.Load([]byte(w.tenants())); err != nil {
		w.t.Fatal(err)
	}
	server := g.Server()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = server.ServeTLS(listener, cert, key) }()
	w.t.Cleanup(func() { _ = server.Close() })
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: authority},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
		}}
	w.t.Cleanup(transport.CloseIdleConnections)
	r, _ := http.NewRequestWithContext(w.t.Context(), "GET", "https://"+wikiHost+"/wiki/mcp", nil)
	r.Header.Set("Authorization", "Bearer "+w.wikiKey())
	resp, err := transport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		w.t.Fatal(resp.Proto, resp.Status)
	}
	return resp
}

// Over TLS and HTTP/2 too, each event reaches the client when the server sends it.
func TestGatewaySendsEventsAtOnceOverHTTP2(t *testing.T) {
	w := newWorld(t)
	more := make(chan struct{})
	w.do = func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for n := 1; ; n++ {
			fmt.Fprintf(rw, "data: %d\n", n)
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}
	lines := bufio.NewReader(w.startHTTP2().Body)
	for n := 1; n < 4; n++ {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("%q, %v", line, err)
		}
		more <- struct{}{} // would wait for ever if the event before had not been sent on
	}
}
