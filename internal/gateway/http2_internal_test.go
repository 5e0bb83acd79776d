package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections stay in this process, so that time can be a test's.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p pipes) Close() error   { close(p); return nil } // the server closes it once

// overHTTP2 serves what a tenant's MCP server says, from behind the plugin, by TLS and HTTP/2, and
// returns the answer that a client begins to read.
func overHTTP2(t *testing.T, server http.HandlerFunc) *http.Response {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mcp.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	authority.AddCert(leaf)
	g := &Gateway{Log: slog.New(slog.DiscardHandler), TLS: true}
	g.table.Store(&table{byHost: map[string][]*route{"mcp.example.com": {{Tenant: &Tenant{Name: "wiki"}, handler: server}}}})
	listener, s := make(pipes), g.Server()
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
	go func() { _ = s.ServeTLS(listener, "", "") }()
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: authority},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			listener <- server
			return client, nil
		}}
	r, _ := http.NewRequest("GET", "https://mcp.example.com/wiki/mcp", nil)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		resp.Body.Close()
		transport.CloseIdleConnections()
		_ = s.Close()
	})
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Proto, resp.Status)
	}
	return resp
}

// A deadline of HTTP/2 ends a stream also where nothing waits to be written. One that is silent for
// longer than a write may take goes on, and each event is sent at once.
func TestGatewayKeepsSilentStreamsOfHTTP2Open(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				// each is so long that its writes have a deadline
				fmt.Fprintf(w, "%*d", 2*unread, time.Now().Unix())
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(3 * writeTimeout):
				case <-r.Context().Done():
					return
				}
			}
		})
		event := make([]byte, 2*unread)
		for range 3 {
			if _, err := io.ReadFull(resp.Body, event); err != nil {
				t.Fatal(err)
			}
			var sent int64
			if _, err := fmt.Sscan(string(event), &sent); err != nil || sent != time.Now().Unix() {
				t.Errorf("sent at %d, there at %d, %v", sent, time.Now().Unix(), err)
			}
		}
	})
}

// A client that does not read one stream is let go when the time for a write is over, though its
// connection is alive.
func TestGatewayEndsStreamsOfHTTP2ThatAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, ended := time.Now(), make(chan error, 1)
		overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
			var err error
			for chunk := make([]byte, 64<<10); err == nil; {
				_, err = w.Write(chunk)
			}
			ended <- err
		})
		select {
		case <-ended:
			if took := time.Since(began); took != writeTimeout {
				t.Errorf("after %s", took)
			}
		case <-time.After(10 * writeTimeout):
			t.Error("it still writes for a client that does not read")
		}
	})
}
