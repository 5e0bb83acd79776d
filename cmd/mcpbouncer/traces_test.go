package main

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// spanSink is a collector that keeps what it is sent.
type spanSink struct {
	*httptest.Server
	mu  sync.Mutex // guards all for one access
	all strings.Builder
}

func newSpanSink(t *testing.T) *spanSink {
	s := &spanSink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all.Write(text)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *spanSink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// hopOfWiki is a hop header of a tenant.
func hopOfWiki(t *testing.T, provider string) string {
	t.Helper()
	ring, err := sealing.ParseRing(keyOne)
	if err != nil {
		t.Fatal(err)
	}
	return issuertest.SealHop(ring.HopKey(), time.Now(), issuertest.Tenant{
		PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "wiki", ProviderIssuer: provider, ClientID: "c",
		Scopes: []string{}, RequiredScopes: []string{}, MCPPaths: []string{}, Exchange: "token",
	}.JSON())
}

const spanOfKeys = `"name":"GET /oauth/jwks.json"`

// Spans are sent in batches, seconds later. A process that ends, or is frozen, has to send them
// before that.
func TestTracesThatWaitAreSentBeforeTheProcessEnds(t *testing.T) {
	sink, provider := newSpanSink(t), issuertest.NewProvider(t, nil)
	p := program(map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "127.0.0.1:0", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.URL})
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	lines := bufio.NewScanner(out)
	addr := ""
	for addr == "" && lines.Scan() {
		var line struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			addr = line.Addr
		}
	}
	r, err := http.NewRequest("GET", "http://"+addr+"/oauth/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Mcpb-Hop", hopOfWiki(t, provider.Issuer))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p.Process.Signal(syscall.SIGTERM)
	for lines.Scan() { // until it has ended
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(sink.text(), spanOfKeys) {
		t.Errorf("the collector got %q", sink.text())
	}
}

func TestTracesAreSentBeforeAFunctionIsFrozen(t *testing.T) {
	sink, provider := newSpanSink(t), issuertest.NewProvider(t, nil)
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.URL, runtimeAPI: "127.0.0.1:9001"})
	handler, err := functionHandler(slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/oauth/jwks.json", nil)
	r.Header.Set("X-Mcpb-Hop", hopOfWiki(t, provider.Issuer))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(sink.text(), spanOfKeys) {
		t.Errorf("status %d, and the collector got %q", w.Code, sink.text())
	}
}
