package gateway

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// To a proxy that asks, 200 is a yes, and net/http sends it for a handler that says nothing.
func TestSilenceIsNoYesToAProxy(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"silence":           func(http.ResponseWriter, *http.Request) {},
		"a body":            func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("document")) },
		"a redirection":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) },
		"an interim answer": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusEarlyHints) },
	} {
		a := &ForwardAuth{Log: slog.New(slog.DiscardHandler)}
		a.table.Store(&table{byName: map[string]*route{"wiki": {Tenant: &Tenant{Name: "wiki"}, handler: handler}}})
		r := httptest.NewRequest("GET", Path+"wiki", nil)
		for header, value := range map[string]string{"Method": "GET", "Uri": "/wiki/mcp", "Host": "mcp.example.com"} {
			r.Header.Set("X-Forwarded-"+header, value)
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "document") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// Traefik shows the body with forwardBody, and takes it for a failure where nobody reads all of it.
func TestBodyThatAProxyShowsIsReadToItsEnd(t *testing.T) {
	a := &ForwardAuth{Log: slog.New(slog.DiscardHandler)}
	a.table.Store(&table{byName: map[string]*route{}})
	body := strings.NewReader(strings.Repeat("x", 1<<20))
	a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", Path+"wiki", body))
	if body.Len() > 0 {
		t.Errorf("%d bytes are left", body.Len())
	}
}

// The address of a client is what the proxy before has seen, and never what the client says: the
// plugin lets no address use up more than its share.
func TestAddressOfAClientIsWhatTheProxySays(t *testing.T) {
	var seen []string
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header["X-Real-Ip"] })
	wiki := &route{Tenant: &Tenant{Name: "wiki", host: "mcp.example.com", prefix: "/wiki", scheme: "https"}, handler: handler}
	all := &table{byName: map[string]*route{"wiki": wiki}, byHost: map[string][]*route{"mcp.example.com": {wiki}}}
	asks, open, behind := &ForwardAuth{Log: slog.New(slog.DiscardHandler)}, &Gateway{}, &Gateway{Behind: true}
	asks.table.Store(all)
	open.table.Store(all)
	behind.table.Store(all)
	for _, c := range []struct {
		name, path string
		handler    http.Handler
		said       []string
		want       string
	}{
		{"a question", Path + "wiki", asks, []string{"198.51.100.7"}, "198.51.100.7"},
		{"a question, with what the client said", Path + "wiki", asks, []string{"203.0.113.1, 198.51.100.7"}, "198.51.100.7"},
		{"a question, in two headers", Path + "wiki", asks, []string{"203.0.113.1", "198.51.100.7"}, "198.51.100.7"},
		{"a client at an OAuth path", "/wiki/oauth/token", asks, []string{"203.0.113.1,2001:db8::7"}, "2001:db8::7"},
		{"behind a proxy", "/wiki/mcp", behind, []string{"203.0.113.1, 198.51.100.7"}, "198.51.100.7"},
		{"behind a proxy that says nothing", "/wiki/mcp", behind, nil, ""},
		{"without one", "/wiki/mcp", open, []string{"203.0.113.1"}, ""},
	} {
		r := httptest.NewRequest("GET", c.path, nil)
		r.Host = "mcp.example.com"
		for header, value := range map[string]string{"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/wiki/mcp", "X-Forwarded-Host": "mcp.example.com", "X-Real-Ip": "203.0.113.9"} {
			r.Header.Set(header, value)
		}
		if c.said != nil {
			r.Header["X-Forwarded-For"] = c.said
		}
		seen = []string{"not asked"}
		c.handler.ServeHTTP(httptest.NewRecorder(), r)
		if got := strings.Join(seen, " and "); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
