package issuer_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// Each line is what one login, and what goes wrong with it, leaves behind.
func TestMetricsCountALoginAndItsRefusals(t *testing.T) {
	m := metrics.New()
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) { c.Metrics, c.Version = m, "1.2.3" }
	})
	a := w.register(w.wiki.PublicURL, map[string]any{"client_name": "Claude Code (wiki)", "redirect_uris": []string{"http://localhost:54545/callback"}, "token_endpoint_auth_method": "none"})
	first := a.login()
	a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
	a.token(a.refreshment("nothing")).wants(t, 400, "invalid_grant")
	w.replica().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/oauth/jwks.json", nil))
	got := httptest.NewRecorder()
	m.Handler().ServeHTTP(got, httptest.NewRequest("GET", "/metrics", nil))
	text := got.Body.String()
	for _, want := range []string{
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="registered"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="authorized"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="consented"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="returned"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="token"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="refreshed"} 1`,
		`mcpbouncer_refusals_total{tenant="wiki",endpoint="/oauth/token",cause="invalid_grant"} 1`,
		`mcpbouncer_hop_refusals_total{cause="missing"} 1`,
		`step="discovery"`, `step="redeem"`, `step="keys"`,
		`mcpbouncer_build_info{version="1.2.3"} 1`,
		"mcpbouncer_access_token_ttl_seconds ", "mcpbouncer_signing_key_epoch ", "mcpbouncer_signing_key_next_seconds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
