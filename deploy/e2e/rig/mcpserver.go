package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// MCPServer is an unmodified MCP server of the official Go SDK, as it stands behind Traefik. It
// answers under every prefix: …/mcp is the streamable HTTP endpoint with the tools "whoami" and
// "delete_page", which both tell who calls, …/events a stream that the test advances event by
// event, everything else says "reached". It keeps the headers of every request.
type MCPServer struct {
	URL  string
	Port string

	events chan struct{}
	mu     sync.Mutex
	seen   []Seen
}

// Seen is one request as it reached a server.
type Seen struct {
	Method string
	Path   string
	Header http.Header
}

// Identity is what the tool "whoami" answers: what the MCP server learned about the caller.
type Identity struct {
	Sub           string `json:"sub"`
	Scopes        string `json:"scopes"`
	Authorization bool   `json:"authorization"` // did the bearer token come through?
	Cookie        bool   `json:"cookie"`
}

// StartMCPServer starts an MCP server. One that keeps no sessions speaks MCP 2026-07-28 with those
// who ask for it.
func StartMCPServer(t T, stateless bool) *MCPServer {
	s := &MCPServer{events: make(chan struct{})}
	server := mcp.NewServer(&mcp.Implementation{Name: "whoami", Version: "1"}, nil)
	for _, tool := range []*mcp.Tool{{Name: "whoami", Description: "Tells who is calling."}, {Name: "delete_page", Description: "Deletes nothing."}} {
		mcp.AddTool(server, tool, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, Identity, error) {
			return nil, identityOf(r.Extra.Header), nil
		})
	}
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		// Traefik is the one that decides which hosts are served.
		&mcp.StreamableHTTPOptions{DisableLocalhostProtection: true, Stateless: stateless})

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, Seen{r.Method, r.URL.Path, r.Header.Clone()})
		s.mu.Unlock()
		switch path.Base(r.URL.Path) {
		case "mcp":
			streamable.ServeHTTP(w, r)
		case "events":
			s.serveEvents(w, r)
		case "whoami":
			_ = json.NewEncoder(w).Encode(identityOf(r.Header))
		default:
			fmt.Fprint(w, "reached")
		}
	}))
	// Streams are cut first, or Close would wait for them.
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	s.URL = srv.URL
	u, _ := url.Parse(srv.URL)
	s.Port = u.Port()
	return s
}

func identityOf(h http.Header) Identity {
	return Identity{
		Sub: h.Get("X-Mcp-Sub"), Scopes: h.Get("X-Mcp-Scopes"),
		Authorization: h.Get("Authorization") != "", Cookie: h.Get("Cookie") != "",
	}
}

// Emit lets the open event stream send its next event.
func (s *MCPServer) Emit(ctx context.Context) error {
	select {
	case s.events <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no stream asks for an event: %w", ctx.Err())
	}
}

func (s *MCPServer) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	for n := 1; ; n++ {
		select {
		case <-s.events:
			fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", n, n)
			_ = rc.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// Requests lists the requests so far whose path contains part.
func (s *MCPServer) Requests(part string) []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []Seen
	for _, seen := range s.seen {
		if strings.Contains(seen.Path, part) {
			of = append(of, seen)
		}
	}
	return of
}
