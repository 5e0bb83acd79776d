package gateway_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// world is a sidecar, an MCP server that keeps what it sees, and the tenants wiki and world of one
// host before it, and alone, which has another host to itself.
type world struct {
	t       *testing.T
	ring    *sealing.Ring
	iss     *issuer.Issuer
	sidecar *httptest.Server
	server  *httptest.Server
	file    string
	log     *lockedBuffer

	mu   sync.Mutex
	seen []*http.Request
	do   http.HandlerFunc // nil: answers "reached"
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	secret := make([]byte, 32)
	rand.Read(secret)
	ring, err := sealing.ParseRing(base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BOUNCER_HOP_KEY", ring.HopKey())
	w := &world{t: t, ring: ring, log: &lockedBuffer{}}
	w.iss, err = issuer.New(issuer.Config{Ring: ring, Schedule: sealing.Schedule{Rotation: 720 * time.Hour, Overlap: 24 * time.Hour},
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 24 * time.Hour, SessionTTL: 24 * time.Hour, Log: slog.New(slog.DiscardHandler), Background: func(func()) {}})
	if err != nil {
		t.Fatal(err)
	}
	w.sidecar = httptest.NewServer(w.iss.Handler())
	t.Cleanup(w.sidecar.Close)
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Clone(r.Context()))
		do := w.do
		w.mu.Unlock()
		if do != nil {
			do(rw, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "reached %s", body)
	}))
	t.Cleanup(func() { w.server.CloseClientConnections(); w.server.Close() })
	w.file = filepath.Join(t.TempDir(), "tenants.yaml")
	return w
}

// tenants is a file with three tenants; more are lines of wiki.
func (w *world) tenants(more ...string) string {
	entry := func(name, public string, more ...string) string {
		text := fmt.Sprintf("  %s:\n    publicURL: %s\n    resource: %s\n    providerIssuer: https://idp.invalid\n    clientID: bouncer\n    clientSecret: env:WIKI_CLIENT_SECRET\n", name, public, name)
		for _, line := range more {
			text += "    " + line + "\n"
		}
		return text
	}
	backend := "backend: " + w.server.URL
	return "tenants:\n" + entry("wiki", "https://mcp.example.com/wiki", append([]string{backend}, more...)...) +
		entry("world", "https://mcp.example.com/world", backend) + entry("alone", "https://alone.example.com", backend)
}

func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.log, nil)) }

// start serves a gateway over plain http, as behind a listener that ends TLS.
func (w *world) start(content string, change func(*http.Server)) (addr string) {
	w.t.Helper()
	g := &gateway.Gateway{File: w.file, Sidecar: w.sidecar.URL, Log: w.logger(), TLS: true}
	if err := g.Load([]byte(content)); err != nil {
		w.t.Fatal(err)
	}
	server := g.Server()
	if change != nil {
		change(server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	w.t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// key is a bearer key of a tenant.
func (w *world) key(name, public string) string {
	w.t.Helper()
	id := sealing.Tenant{PublicURL: public, Resource: name, Audience: name, UpstreamIssuer: "https://idp.invalid", UpstreamClientID: "bouncer"}.ID()
	made, err := issuer.CreateKey(w.ring, id, issuer.Machine{Subject: "robot-" + name, Scope: "read"}, time.Hour, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Key
}

func (w *world) wikiKey() string  { return w.key("wiki", "https://mcp.example.com/wiki") }
func (w *world) worldKey() string { return w.key("world", "https://mcp.example.com/world") }

// reached returns what the MCP server has seen since the last call.
func (w *world) reached() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// ask sends a request. host and path are as they are.
func ask(t *testing.T, addr, method, host, path, token string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = cmp.Or(host, "mcp.example.com")
	r.URL.Opaque = path // as it is
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// raw sends bytes and returns all that comes back until the other side closes, or nothing comes for
// a second.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	buf := make([]byte, 4096)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			return all.String()
		}
	}
}

func (w *world) write(content string) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}
