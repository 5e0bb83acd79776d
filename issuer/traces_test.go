package issuer_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
)

// collected returns a tracer, and what returns all that its collector has received.
func collected(t *testing.T) (*trace.Tracer, func() string) {
	t.Helper()
	var mu sync.Mutex
	var all strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		io.Copy(&all, r.Body)
	}))
	t.Cleanup(collector.Close)
	tracer, err := trace.Open(func(name string) string {
		if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return collector.URL
		}
		return ""
	}, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	return tracer, func() string {
		tracer.Flush(t.Context())
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// noting notes the header traceparent of each request to the provider, or to a stranger's host.
type noting struct {
	next http.RoundTripper
	mu   sync.Mutex
	seen []string
}

func (n *noting) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.seen = append(n.seen, r.Header.Get("Traceparent"))
	n.mu.Unlock()
	return n.next.RoundTrip(r)
}

// A login, its refresh and its end make each kind of span that there is.
func TestTracesOfALogin(t *testing.T) {
	tracer, traced := collected(t)
	provider, strangers := &noting{}, &noting{}
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Refresh = "upstream"
		w.config = func(c *issuer.Config) {
			provider.next, strangers.next = c.Transport, c.DocumentTransport
			c.Transport, c.DocumentTransport, c.Trace = provider, strangers, tracer
			const idle = 14 * 24 * time.Hour
			_, memory, err := replay.OpenStore("memory", idle, c.RefreshTokenTTL, w.clock.Now)
			if err != nil {
				t.Fatal(err)
			}
			c.RefreshIdleTTL, c.ReplayGuard = idle, replay.New("redis", memory, idle, c.RefreshTokenTTL)
			if c.Deny, err = deny.Open(`{"v":1,"serial":1}`, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
	w.idp.Be(issuertest.Behaviour{Revocation: true, UserInfo: map[string]any{"sub": "person-1", "email": "person@example.com", "email_verified": true, "groups": []string{"staff"}}})
	w.relabel(func(l *labels) { l.AllowedGroups = []string{"staff"} })
	a := w.publish(documentURL, nil)
	first := a.login()
	w.clock.Add(2 * time.Hour)
	r := a.tokenRequest(a.refreshment(first.text("refresh_token")))
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	second := w.do(r)
	second.wants(t, 200, "")
	a.revoke(url.Values{"token": {second.text("refresh_token")}}).wants(t, 200, "")
	w.get(w.wiki.PublicURL + "/oauth/what-a-stranger-writes")

	spans := traced()
	for _, name := range []string{
		"GET /oauth/authorize", "POST /oauth/consent", "GET /oauth/callback", "POST /oauth/token", "POST /oauth/revoke", "GET unknown",
		"provider discovery", "provider keys", "provider redeem", "provider userinfo", "provider refresh", "provider revoke",
		"client document", "deny document", "replay guard",
	} {
		if !strings.Contains(spans, `"name":"`+name+`"`) {
			t.Errorf("there is no span %s", name)
		}
	}
	if strings.Contains(spans, "what-a-stranger-writes") {
		t.Error("a stranger's path is in a span")
	}
	if n := strings.Count(spans, `"traceId":"0af7651916cd43dd8448eb211c80319c"`); n < 3 {
		t.Errorf("%d spans continue the request's trace", n)
	}
	if !regexp.MustCompile(`"msg":"token issued"[^\n]*"trace_id":"0af7651916cd43dd8448eb211c80319c"`).MatchString(w.log.String()) {
		t.Errorf("the log does not name the trace: %s", w.log)
	}
	for _, header := range provider.seen[1:] { // the first is asked when the tenant is first seen
		if !regexp.MustCompile("^00-[0-9a-f]{32}-[0-9a-f]{16}-01$").MatchString(header) {
			t.Errorf("the provider got traceparent %q", header)
		}
	}
	if strings.Join(strangers.seen, "") != "" || len(strangers.seen) == 0 {
		t.Errorf("strangers' hosts got %q", strangers.seen)
	}
	if t.Failed() {
		t.Log(spans)
	}
}
