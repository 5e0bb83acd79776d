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
