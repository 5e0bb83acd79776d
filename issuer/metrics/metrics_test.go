package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != metrics.ContentType {
		t.Fatalf("GET /metrics: %d %s", w.Code, w.Header().Get("Content-Type"))
	}
	return w.Body.String()
}

func TestMetricsAreBoundedWhateverStrangersInvent(t *testing.T) {
	m := metrics.New()
	for i := range 10_900 {
		m.Stage(fmt.Sprintf("tenant %d", i), metrics.Other, metrics.Authorized)
		m.Refused("wiki", fmt.Sprintf("/%d", i), fmt.Sprintf("cause %d", i))
		m.Provider(fmt.Sprintf("op%d.example", i), "keys", time.Second, "busy")
	}
	text := scrape(t, m)
	for _, want := range []string{
		`mcpbouncer_logins_total{tenant="other",client="other",stage="authorized"} 900`,
		`mcpbouncer_refusals_total{tenant="wiki",endpoint="other",cause="other"} 10900`,
		`mcpbouncer_provider_errors_total{provider="other",step="keys",cause="busy"} 900`,
		`mcpbouncer_provider_request_duration_seconds_count{provider="other",step="keys"} 900`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("lacks %s", want)
		}
	}
	if n := strings.Count(text, "mcpbouncer_logins_total{"); n != 10_001 {
		t.Errorf("%d tenants, want 10,000 and other", n)
	}
}

func TestMetricsTakeOddValues(t *testing.T) {
	m := metrics.New()
	for _, odd := range []string{"", "a\"} 1\nb", `back\slash`, "{x}", "\xff\xfe", "Käse 中", "a\u2028b", strings.Repeat("ä", 80), "x=\"y\",z"} {
		m.Stage(odd, odd, odd)
		m.Provider(odd, odd, time.Second, odd)
	}
	for line := range strings.Lines(scrape(t, m)) {
		if !strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "mcpbouncer_") {
			t.Errorf("not a sample: %q", line)
		}
	}
}

func TestMetricsThatAreNilCountNothing(t *testing.T) {
	var m *metrics.Metrics
	m.Stage("wiki", "claude", metrics.Token)
	m.Refused("wiki", "/oauth/token", "denied")
	m.LoginEnded("wiki", "reused")
	m.Provider("op.example", "keys", time.Second, "busy")
	m.Guard("fresh")
	m.GuardFailed()
	m.DenyFailed()
	m.HopRefused("key")
	m.Document("read")
	m.PluginRefused("wiki", "expired", 1)
	m.SidecarFailed("wiki", "timeout", 1)
	m.Show(metrics.Standing{})
	m.Remember([32]byte{}, "claude")
	if got := m.ProductOf([32]byte{}, "https://claude.ai/x"); got != "" {
		t.Errorf("nil knows a product: %q", got)
	}
}

func TestMetricsListenerServesNothingElse(t *testing.T) {
	for request, want := range map[string]int{"GET /": 404, "GET /healthz": 404, "GET /metrics/": 404, "POST /metrics": 405} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		metrics.New().Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", request, w.Code, want)
		}
	}
}

func TestProductIsOfAClosedList(t *testing.T) {
	for _, c := range []struct{ want, id, uri, name string }{
		{"claude-code", "https://claude.ai/oauth/claude-code-client-metadata", "http://localhost/callback", "Claude Code"},
		{"claude", "https://claude.ai/oauth/mcp-oauth-client-metadata", "", ""},
		{"codex", "https://chatgpt.com/oauth/codex/client.json", "", ""},
		{"chatgpt", "https://chatgpt.com/oauth/abc/client.json", "", ""},
		{"vscode", "https://vscode.dev/oauth/client-metadata.json", "", ""},
		{"other", "https://claude.ai.evil.example/x", "https://claude.ai/api/mcp/auth_callback", "Claude"},
		{"claude", "mbc1_x", "https://claude.ai/api/mcp/auth_callback", "anything"},
		{"claude-code", "mbc1_x", "http://localhost:54545/callback", "Claude Code (wiki)"},
		{"cursor", "mbc1_x", "cursor://anysphere.cursor-mcp/oauth/callback", "Cursor"},
		{"gemini-cli", "mbc1_x", "http://localhost:1/cb", "Gemini CLI MCP Client"},
		{"mcp-remote", "mbc1_x", "http://localhost:1/cb", "MCP CLI Proxy"},
		{"inspector", "mbc1_x", "http://localhost:6274/oauth/callback", "MCP Inspector"},
		{"other", "mbc1_x", "http://localhost:1/cb", "a \"stranger\"\n"},
		{"machine", "machine:", "", ""},
		{"other", "", "", ""},
	} {
		var uris []string
		if c.uri != "" {
			uris = []string{c.uri}
		}
		if got := metrics.Product(c.id, uris, c.name); got != c.want {
			t.Errorf("%q %q %q: %s, want %s", c.id, c.uri, c.name, got, c.want)
		}
	}
}
