package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// An event stream through the plugin while Traefik is stopped, as at an upgrade: without settings,
// and with the two of an entry point that decide how long it lives. Every read has a deadline.
func TestStreamsWhenTraefikIsRestarted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		lifeCycle map[string]any // of the entry point
		serves    time.Duration  // new requests, after the signal
		streams   time.Duration  // open streams, after the signal
	}{
		{"without settings", nil, 0, 10 * time.Second},
		{"graceTimeOut", map[string]any{"graceTimeOut": "2s"}, 0, 2 * time.Second},
		{"requestAcceptGraceTimeout", map[string]any{"requestAcceptGraceTimeout": "2s", "graceTimeOut": "2s"}, 2 * time.Second, 4 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			entryPoint := map[string]any{}
			if c.lifeCycle != nil {
				entryPoint["transport"] = map[string]any{"lifeCycle": c.lifeCycle}
			}
			w := rig.New(t, rig.Options{Replicas: 1, Static: map[string]any{"entryPoints": map[string]any{"web": entryPoint}}})
			oauth := w.Wiki.Client()
			token := oauth.Tokens(w.Wiki.Browser()).Member("access_token")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			stream := openEvents(ctx, t, oauth.Public, token)
			if err := stream.next(ctx, w.Wiki.MCP, 1); err != nil {
				t.Fatalf("before: %v", err)
			}

			w.Traefik.Stop()
			stopped := time.Now()
			since := func() time.Duration { return time.Since(stopped) }
			events := make(chan int, 1)
			go func() { // the stream goes on event by event until it is cut
				n := 2
				for ; stream.next(ctx, w.Wiki.MCP, n) == nil; n++ {
					select {
					case <-time.After(50 * time.Millisecond):
					case <-ctx.Done():
					}
				}
				events <- n - 2
			}()
			// New requests come on connections of their own.
			refused := time.Duration(0)
			rig.WaitFor(t, "new requests to be refused", func() error {
				// One that comes at the signal itself may be taken and then cut with the streams.
				asked := since()
				soon, stop := context.WithTimeout(ctx, time.Second)
				defer stop()
				resp, err := ask(soon, oauth.Public+"/anything", token)
				if err != nil {
					refused = asked
					return nil
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%v after the signal a new request gets %s", since(), resp.Status)
				}
				return fmt.Errorf("%s", resp.Status)
			})
			if refused < c.serves-100*time.Millisecond || refused > c.serves+1500*time.Millisecond {
				t.Errorf("new requests are refused after %v, want %v", refused, c.serves)
			}
			select {
			case <-stream.ended:
			case <-ctx.Done():
				t.Fatalf("the stream is open %v after the signal", since())
			}
			cut, more := stream.at.Sub(stopped), <-events
			if cut < c.streams-100*time.Millisecond || cut > c.streams+1500*time.Millisecond || more < 10 {
				t.Errorf("the stream ended after %v and %d events, want %v", cut, more, c.streams)
			}
			rig.WaitFor(t, "Traefik to end", func() error {
				if !w.Traefik.Ended() {
					return fmt.Errorf("it runs %v after the signal", since())
				}
				return nil
			})
			t.Logf("new requests were refused after %v; the stream ended after %v, with %d more events", refused, cut, more)

			w.Traefik.Restart(t, w.Keys.Hop)
			rig.WaitFor(t, "the route", func() error {
				resp, err := ask(ctx, oauth.Public+"/anything", token)
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					return fmt.Errorf("the token of before gets %s", resp.Status)
				}
				return nil
			})
			// The client connects again.
			if err := openEvents(ctx, t, oauth.Public, token).next(ctx, w.Wiki.MCP, 1); err != nil {
				t.Errorf("after the restart: %v", err)
			}
		})
	}
}

// ask sends a request on a connection of its own.
func ask(ctx context.Context, address, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
}

// eventStream is an open stream of the MCP server's.
type eventStream struct {
	lines chan string
	ended chan struct{}
	at    time.Time // when it ended
}

func openEvents(ctx context.Context, t *testing.T, public, token string) *eventStream {
	t.Helper()
	resp, err := ask(ctx, public+"/events", token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("stream: %s", resp.Status)
	}
	s := &eventStream{lines: make(chan string, 100), ended: make(chan struct{})}
	go func() {
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			select {
			case s.lines <- lines.Text():
			case <-ctx.Done():
			}
		}
		s.at = time.Now()
		close(s.ended)
	}()
	return s
}

// next lets the server send an event and reads it.
func (s *eventStream) next(ctx context.Context, from *rig.MCPServer, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := from.Emit(ctx); err != nil {
		return err
	}
	want := fmt.Sprintf("data: event %d", n)
	for {
		select {
		case line := <-s.lines:
			if line == want {
				return nil
			}
		case <-s.ended:
			return fmt.Errorf("no event %d: the stream has ended", n)
		case <-ctx.Done():
			return fmt.Errorf("no event %d: %w", n, ctx.Err())
		}
	}
}
