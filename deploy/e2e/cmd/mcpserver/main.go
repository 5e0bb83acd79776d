// Mcpserver is the example MCP server of deploy/compose: streamable HTTP under every path that ends
// in /mcp, with one tool that tells who is calling. It knows nothing of OAuth: what it knows of its
// caller stands in two headers.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type caller struct {
	Sub    string `json:"sub"`
	Scopes string `json:"scopes"`
}

func main() {
	addr := ":8000"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "whoami", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "whoami", Description: "Tells who is calling."},
		func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, caller, error) {
			return nil, caller{r.Extra.Header.Get("X-Mcp-Sub"), r.Extra.Header.Get("X-Mcp-Scopes")}, nil
		})
	// Traefik decides which hosts are served.
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{DisableLocalhostProtection: true})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/mcp") {
			http.NotFound(w, r)
			return
		}
		streamable.ServeHTTP(w, r)
	})
	log.Fatal((&http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second}).ListenAndServe())
}
