package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// toolServer is an MCP server of the Go SDK with three tools. "watch" answers with a stream whose
// next event is sent when the test says so.
type toolServer struct {
	port string
	next chan struct{}

	mu   sync.Mutex
	last http.Header
	body string
}

func startToolServer(t *testing.T, asJSON bool) *toolServer {
	t.Helper()
	s := &toolServer{next: make(chan struct{})}
	server := mcp.NewServer(&mcp.Implementation{Name: "wiki", Version: "1"}, nil)
	for _, name := range []string{"search", "delete_page", "watch"} {
		mcp.AddTool(server, &mcp.Tool{Name: name, Description: "a <b>tool</b> & more"}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "called " + name}}}, nil, nil
		})
	}
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{DisableLocalhostProtection: true, Stateless: true, JSONResponse: asJSON})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.last, s.body = r.Header.Clone(), string(body)
		s.mu.Unlock()
		if strings.Contains(s.body, `"watch"`) {
			s.watch(w, r)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		streamable.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	u, _ := url.Parse(srv.URL)
	s.port = u.Port()
	return s
}

func (s *toolServer) watch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	_ = flush()
	for n := 1; n <= 5; n++ {
		select {
		case <-s.next:
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progress\":%d}}\n\n", n)
			_ = flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (s *toolServer) seen() (http.Header, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.body
}

func messageHeader(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
}

func toolCall(name string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `","arguments":{}}}`
}

// listed returns the names of the tools in an answer, whichever way it comes.
func listed(t *testing.T, answer *rig.Answer) []string {
	t.Helper()
	text := answer.Body
	if answer.Header.Get("Content-Type") == "text/event-stream" {
		for line := range strings.Lines(answer.Body) {
			if data, ok := strings.CutPrefix(line, "data: {"); ok {
				text = "{" + data
			}
		}
	}
	var message struct {
		Result struct{ Tools []mcp.Tool }
	}
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		t.Fatalf("tools/list: %v: %s", err, answer)
	}
	var names []string
	for _, tool := range message.Result.Tools {
		if tool.Description != "a <b>tool</b> & more" {
			t.Errorf("the description of %s became %q", tool.Name, tool.Description)
		}
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	return names
}

// Rules for tools in real Traefik, in front of a server that answers in event streams and one that
// answers in JSON. The callers are machines with bearer keys, so keys are in it too.
func TestToolRules(t *testing.T) {
	t.Parallel()
	servers := map[string]*toolServer{"wiki": startToolServer(t, false), "world": startToolServer(t, true)}
	w := rig.New(t, rig.Options{
		Labels: map[string]string{
			"requiredScopes": "mcp", "toolScopes": "delete_page=wiki:write; *=wiki:read", "methodScopes": "resources/*=wiki:admin", "hideTools": "true",
		},
		Servers: map[string]string{"wiki": servers["wiki"].port, "world": servers["world"].port},
	})
	for _, tn := range []*rig.Tenant{w.Wiki, w.World} {
		t.Run(tn.Name, func(t *testing.T) {
			c := tn.Client()
			endpoint := c.Public + "/mcp"
			reader, _ := tn.CreateKey("reader", "mcp wiki:read", "1h")
			writer, _ := tn.CreateKey("writer", "mcp wiki:read wiki:write", "1h")
			send := func(key, body string, headers ...string) *rig.Answer {
				h := messageHeader(key)
				for i := 0; i+1 < len(headers); i += 2 {
					h[headers[i]] = []string{headers[i+1]}
				}
				return c.Do(http.MethodPost, endpoint, h, []byte(body))
			}

			if answer := send(reader, toolCall("search")); answer.Status != http.StatusOK || !strings.Contains(answer.Body, "called search") {
				t.Errorf("search by the reader: %s", answer)
			}
			answer := send(reader, toolCall("delete_page"))
			challenge := fmt.Sprintf(`Bearer error="insufficient_scope", scope="mcp wiki:write wiki:read", resource_metadata="%s/.well-known/oauth-protected-resource/mcp"`, c.Public)
			if got := answer.Header.Get("WWW-Authenticate"); answer.Status != http.StatusForbidden || got != challenge {
				t.Errorf("delete_page by the reader: %s\nchallenge %s\nwant      %s", answer, got, challenge)
			}
			answer = send(writer, toolCall("delete_page"))
			if _, body := servers[tn.Name].seen(); answer.Status != http.StatusOK || body != toolCall("delete_page") {
				t.Errorf("delete_page by the writer: %s; the server got %s", answer, body)
			}
			if answer := send(writer, `{"jsonrpc":"2.0","id":1,"method":"resources/list"}`); answer.Status != http.StatusForbidden {
				t.Errorf("a method without its scope: %s", answer)
			}

			const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
			for key, want := range map[string][]string{reader: {"search", "watch"}, writer: {"delete_page", "search", "watch"}} {
				for _, accepted := range []string{"", "gzip"} {
					answer := send(key, list, "Accept-Encoding", accepted)
					if got := listed(t, answer); !slices.Equal(got, want) {
						t.Errorf("tools/list: %v, want %v", got, want)
					}
				}
			}

			for _, r := range []struct {
				name    string
				body    string
				headers []string
				want    int
			}{
				{"the name twice", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page","name":"search"}}`, nil, 400},
				{"the name in other letters", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","Name":"delete_page"}}`, nil, 400},
				{"the method spelt with an escape", `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call","params":{"name":"delete_page"}}`, nil, 400},
				{"a batch", "[" + toolCall("search") + "," + toolCall("delete_page") + "]", nil, 403},
				{"a second message behind the first", toolCall("search") + toolCall("delete_page"), nil, 400},
				{"UTF-7", toolCall("search+ACI-,+ACI-name+ACI-:+ACI-delete_page"), []string{"Content-Type", "application/json; charset=utf-7"}, 415},
				{"another name in the header", toolCall("delete_page"), []string{"Mcp-Name", "search"}, 400},
				{"another name in the header of the newest version", toolCall("delete_page"), []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "search"}, 400},
				{"no header in the newest version", toolCall("search"), []string{"Mcp-Protocol-Version", "2026-07-28"}, 400},
				{"10 MB", strings.Repeat(" ", 10<<20) + toolCall("search"), nil, 413},
				{"nothing", "", nil, 400},
			} {
				answer := send(reader, r.body, r.headers...)
				if answer.Status != r.want || strings.Contains(answer.Body, "called") {
					t.Errorf("%s: %s, want %d", r.name, answer, r.want)
				}
			}

			chunked := func(body io.Reader) int {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header = messageHeader(reader)
				resp, err := w.HTTP().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			if got := chunked(io.MultiReader(strings.NewReader(toolCall("search")))); got != http.StatusOK {
				t.Errorf("a chunked message: %d", got)
			}
			if got := chunked(io.MultiReader(strings.NewReader(toolCall("delete_page")))); got != http.StatusForbidden {
				t.Errorf("a chunked message that is not allowed: %d", got)
			}
			if got := chunked(io.MultiReader(strings.NewReader(strings.Repeat(" ", 2<<20)))); got != http.StatusRequestEntityTooLarge {
				t.Errorf("a chunked message of 2 MB: %d", got)
			}
			slow, client := io.Pipe()
			go func() {
				for _, b := range []byte(toolCall("search")) {
					if _, err := client.Write([]byte{b}); err != nil {
						return
					}
				}
				client.Close()
			}()
			if got := chunked(slow); got != http.StatusOK {
				t.Errorf("a message byte by byte: %d", got)
			}

			answer = c.Do(http.MethodGet, endpoint, http.Header{"Authorization": {"Bearer " + reader}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
				"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, nil)
			if header, _ := servers[tn.Name].seen(); header.Get("Upgrade") != "" || header.Get("X-Mcp-Sub") != "reader" {
				t.Errorf("a WebSocket: %s, the server saw %v", answer, header)
			}

			eventsOneByOne(t, w, servers[tn.Name], endpoint, reader)
		})
	}
}

// eventsOneByOne reads the answer to a call while the server waits to send the next event.
func eventsOneByOne(t *testing.T, w *rig.World, s *toolServer, endpoint, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(toolCall("watch")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = messageHeader(key)
	resp, err := w.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := 1; n <= 5; n++ {
		select {
		case s.next <- struct{}{}:
		case <-ctx.Done():
			t.Fatal("the server was not reached")
		}
		want := fmt.Sprintf(`"progress":%d}`, n)
		for lines.Scan() && !strings.Contains(lines.Text(), want) {
		}
		if !strings.Contains(lines.Text(), want) {
			t.Fatalf("event %d did not come by itself: %v", n, lines.Err())
		}
	}
}

// An MCP server with a key of its own gets that key, and from a machine with a bearer key neither
// that one nor what it was exchanged for.
func TestServerOfItsOwnAuthorization(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "wiki_backend_authorization")
	if err := os.WriteFile(secret, []byte("Bearer of-the-wiki\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startToolServer(t, true)
	w := rig.New(t, rig.Options{
		Labels:  map[string]string{"wiki/identityHeaders": "assertion=X-Caller", "wiki/backendAuthorization": "file:" + secret},
		Servers: map[string]string{"wiki": s.port},
	})
	c := w.Wiki.Client()
	key, _ := w.Wiki.CreateKey("ci-bot", "wiki:read", "1h")
	h := messageHeader(key)
	h["X-Caller"] = []string{"forged"}
	if answer := c.Do(http.MethodPost, c.Public+"/mcp", h, []byte(toolCall("search"))); answer.Status != http.StatusOK {
		t.Fatal(answer)
	}
	seen, _ := s.seen()
	if got := seen.Values("Authorization"); len(got) != 1 || got[0] != "Bearer of-the-wiki" {
		t.Errorf("the MCP server saw Authorization: %q", got)
	}
	assertion, err := jwt.ParseSigned(seen.Get("X-Caller"), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatalf("%v: %q", err, seen.Values("X-Caller"))
	}
	var claims jwt.Claims
	if err := assertion.UnsafeClaimsWithoutVerification(&claims); err != nil || claims.Subject != "ci-bot" || !slices.Equal(claims.Audience, []string{c.Public}) {
		t.Errorf("the assertion says %v, %v", claims, err)
	}
	if answer := c.Get("/mcp", "of-the-wiki"); answer.Status != http.StatusUnauthorized {
		t.Errorf("the server's key as a client's token: %s", answer)
	}
}
