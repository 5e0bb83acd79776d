//go:build go1.21

package plugin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A load balancer, or a sidecar that is replaced, closes a kept connection. The next request of the
// plugin still comes through, whole and once.
func TestConnectionToTheSidecarThatDied(t *testing.T) {
	for _, c := range []struct{ name, method, path, form string }{
		{"a code", "POST", "/wiki/oauth/token", "grant_type=authorization_code&code=once"},
		{"a registration", "POST", "/wiki/oauth/register", "{}"},
		{"a revocation", "POST", "/wiki/oauth/revoke", "token=x"},
		{"a consent", "POST", "/wiki/oauth/consent", "decision=allow"},
		{"a document", "GET", "/wiki/.well-known/oauth-authorization-server", ""},
	} {
		start(t)
		sidecar := newDyingSidecar(t)
		h, behind := guard(t, wikiConfig(sidecar.server.URL))
		send := func() *httptest.ResponseRecorder {
			req := httptest.NewRequest(c.method, "https://mcp.localhost"+c.path, strings.NewReader(c.form))
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			return rec
		}
		if rec := send(); rec.Code != 200 {
			t.Fatalf("%s: before: status %d: %s", c.name, rec.Code, rec.Body.String())
		}
		sidecar.die(1)
		if rec := send(); rec.Code != 200 || rec.Body.String() != c.form {
			t.Errorf("%s: status %d, the sidecar got %q", c.name, rec.Code, rec.Body.String())
		}
		// A sidecar that hangs up on a new connection too is not asked a third time.
		sidecar.die(9)
		before := sidecar.count()
		if rec := send(); rec.Code != 502 || sidecar.count()-before > 2 {
			t.Errorf("%s: status %d after %d tries", c.name, rec.Code, sidecar.count()-before)
		}
		if behind.count() != 0 {
			t.Errorf("%s: the MCP server was asked", c.name)
		}
	}
}

// Requests of the plugin itself come through too, so no bearer key is refused because of a closed
// connection.
func TestBearerKeyOverAConnectionThatDied(t *testing.T) {
	start(t)
	sidecar := newDyingSidecar(t)
	hop := &hopSealer{payload: []byte("{}")}
	ask := func() error {
		_, err := askSidecar(hop, &question{method: http.MethodPost, url: sidecar.server.URL + "/hop/token", form: "key=x", limit: 1000})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	sidecar.die(1)
	if err := ask(); err != nil {
		t.Error(err)
	}
}

// dyingSidecar answers with the body of the request, or hangs up.
type dyingSidecar struct {
	server *httptest.Server
	mu     sync.Mutex // guards the rest for one request
	hangUp int
	asked  int
}

func newDyingSidecar(t testing.TB) *dyingSidecar {
	s := &dyingSidecar{}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() { s.server.Close() })
	return s
}

func (s *dyingSidecar) serve(rw http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	if s.next() {
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
		return
	}
	markAnswer(rw, req)
	rw.Write(body)
}

func (s *dyingSidecar) next() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.hangUp--
	return s.hangUp >= 0
}

func (s *dyingSidecar) die(times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangUp = times
}

func (s *dyingSidecar) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}
