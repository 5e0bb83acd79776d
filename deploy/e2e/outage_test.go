package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The server sends the next event only after the client has read the one before. If anything on the
// way held events back, both would wait for ever.
func TestSSEPassesEventByEvent(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	c := w.Wiki.Client()
	token := c.Tokens(w.Wiki.Browser()).Member("access_token")
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Public+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := w.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("stream: %s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	for n := 1; n <= 10; n++ {
		if err := w.Wiki.MCP.Emit(ctx); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("data: event %d", n)
		for lines.Scan() && lines.Text() != want {
		}
		if lines.Text() != want {
			t.Fatalf("event %d did not come by itself: %v", n, lines.Err())
		}
	}
}

func TestSidecarDown(t *testing.T) {
	t.Parallel()
	// One second: the keys fall due again and again during the outage.
	w := rig.New(t, rig.Options{Labels: map[string]string{"jwksCacheTTLSeconds": "1"}})
	c := w.Wiki.Client()
	used := c.Tokens(w.Wiki.Browser()).Member("access_token")
	unused := c.Tokens(w.Wiki.Browser()).Member("access_token")
	if answer := c.Get("/anything", used); answer.Status != http.StatusOK {
		t.Fatalf("before the outage: %s", answer)
	}
	// Of this tenant no token was ever checked, so the plugin holds no keys.
	cold := w.World.Client()
	coldToken := cold.Tokens(w.World.Browser()).Member("access_token")
	reached := func() int { return len(w.Wiki.MCP.Requests("")) + len(w.World.MCP.Requests("")) }

	for _, r := range w.Replicas {
		r.Kill()
	}
	w.Front.Down()

	t.Run("tokens pass on the keys that are there", func(t *testing.T) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); <-tick.C {
			if answer := c.Get("/anything", used); answer.Status != http.StatusOK {
				t.Fatalf("a token seen before: %s", answer)
			}
		}
		if answer := c.Get("/anything", unused); answer.Status != http.StatusOK {
			t.Errorf("a token not seen before: %s", answer)
		}
	})
	t.Run("everything else is refused", func(t *testing.T) {
		before := reached()
		if answer := c.Get("/anything", ""); answer.Status != http.StatusUnauthorized || answer.Body != `{"error":"unauthorized"}` {
			t.Errorf("no token: %s", answer)
		}
		wantInvalidToken(t, c.Get("/anything", flip(used)))
		wantInvalidToken(t, c.Get("/anything", "nonsense"))
		// 401 would make the client throw a good token away.
		if answer := cold.Get("/anything", coldToken); answer.Status != http.StatusServiceUnavailable {
			t.Errorf("a token whose keys cannot be had: want 503, got %s", answer)
		}
		if got := reached() - before; got != 0 {
			t.Errorf("%d refused requests reached an MCP server", got)
		}
	})
	t.Run("OAuth paths say so and never fall through to the MCP server", func(t *testing.T) {
		before := reached()
		for _, p := range []struct{ method, path string }{
			{http.MethodGet, "/.well-known/oauth-authorization-server"},
			{http.MethodGet, "/.well-known/openid-configuration"},
			{http.MethodGet, "/.well-known/oauth-protected-resource"},
			{http.MethodGet, "/.well-known/oauth-protected-resource/mcp"},
			{http.MethodGet, "/.well-known/unknown"},
			{http.MethodGet, "/oauth/jwks.json"},
			{http.MethodPost, "/oauth/register"},
			{http.MethodGet, "/oauth/authorize"},
			{http.MethodPost, "/oauth/consent"},
			{http.MethodGet, "/oauth/callback"},
			{http.MethodPost, "/oauth/token"},
			{http.MethodGet, "/oauth/unknown"},
		} {
			for _, token := range []string{"", used} {
				h := http.Header{}
				if token != "" {
					h.Set("Authorization", "Bearer "+token)
				}
				wantUnavailable(t, p.method+" "+p.path, c.Do(p.method, c.Public+p.path, h, nil))
			}
		}
		origin := strings.TrimSuffix(c.Public, "/wiki")
		wantUnavailable(t, "path-inserted", c.Do(http.MethodGet, origin+"/.well-known/oauth-authorization-server/wiki", nil, nil))
		if got := reached() - before; got != 0 {
			t.Errorf("%d requests for OAuth paths reached an MCP server", got)
		}
	})
	t.Run("and afterwards everything works", func(t *testing.T) {
		for _, r := range w.Replicas {
			r.Start(nil)
		}
		w.Front.Up()
		if answer := c.Tokens(w.Wiki.Browser()); answer.Status != http.StatusOK {
			t.Errorf("login: %s", answer)
		}
		rig.WaitFor(t, "the plugin to fetch the keys after its back-off", func() error {
			if answer := cold.Get("/anything", coldToken); answer.Status != http.StatusOK {
				return fmt.Errorf("%s", answer)
			}
			return nil
		})
	})
}

func wantUnavailable(t *testing.T, what string, answer *rig.Answer) {
	t.Helper()
	if answer.Status != http.StatusBadGateway && answer.Status != http.StatusServiceUnavailable {
		t.Errorf("%s: want 502 or 503, got %s", what, answer)
	}
	if strings.HasSuffix(what, "/authorize") || strings.HasSuffix(what, "/consent") || strings.HasSuffix(what, "/callback") {
		if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") || !strings.Contains(answer.Body, "<h1>You cannot sign in at the moment</h1>") {
			t.Errorf("%s: want a page, got %s", what, answer)
		}
		return
	}
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(answer.Body), &body); err != nil || body.Error == "" || body.Description == "" {
		t.Errorf("%s: want a body that says what is wrong, got %q", what, answer.Body)
	}
}
