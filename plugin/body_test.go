//go:build go1.21

package plugin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A message is read to its end before the MCP server is asked, or Traefik may cut its answer off; a stream is passed on as it comes.
func TestMessagesAreHeldAndStreamsAreNot(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	for _, c := range []struct {
		name   string
		body   string
		length int64
		held   bool
		want   int
	}{
		{"a message", `{"jsonrpc":"2.0"}`, 17, true, 200},
		{"of the greatest length", strings.Repeat("x", maxMessage), maxMessage, true, 200},
		{"longer", strings.Repeat("x", maxMessage+1), maxMessage + 1, false, 200},
		{"of unknown length", "message", -1, false, 200},
		{"none", "", 0, true, 200},
	} {
		from := strings.NewReader(c.body)
		left, got := -1, ""
		var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			left = from.Len()
			b, _ := io.ReadAll(req.Body)
			got = string(b)
			if req.ContentLength != c.length {
				t.Errorf("%s: length %d, want %d", c.name, req.ContentLength, c.length)
			}
		})
		h, err := New(context.Background(), next, wikiConfig(sidecar.server.URL), "wiki@docker")
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", wikiURL+"/mcp", io.NopCloser(from))
		req.ContentLength = c.length
		req.TLS = nil
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != c.want || got != c.body || (left == 0) != c.held {
			t.Errorf("%s: status %d, %d of %d bytes left when the MCP server was asked, it got %d", c.name, rec.Code, left, len(c.body), len(got))
		}
	}
	// A client that goes away in the middle of its message.
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	body, client := io.Pipe()
	go func() {
		_, _ = client.Write([]byte(`{"jsonrpc"`))
		_ = client.CloseWithError(io.ErrUnexpectedEOF)
	}()
	req := httptest.NewRequest("POST", wikiURL+"/mcp", body)
	req.ContentLength = 17
	req.TLS = nil
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("Authorization", bearer(goodToken("k1", nil))[1])
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != 400 || behind.count() != 0 {
		t.Errorf("half a message: status %d, %d calls", rec.Code, behind.count())
	}
}
