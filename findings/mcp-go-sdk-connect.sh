#!/usr/bin/env bash
# MCP Go SDK v1.8.0: Connect does not return before the header of its GET stream has come, and its
# context does not end it: the stream is opened on another one. Behind anything that holds back
# the header of a silent stream (a compressing or buffering proxy) it hangs until that gives up,
# however short the deadline, and then fails.
source "$(dirname "$0")/lib.sh"
go_module github.com/modelcontextprotocol/go-sdk@v1.8.0
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "server", Version: "1"}, nil)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	for _, held := range []bool{false, true} {
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && held {
				time.Sleep(6 * time.Second)
				return
			}
			handler.ServeHTTP(rw, r)
		}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
		begun := time.Now()
		_, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: srv.URL}, nil)
		fmt.Println("held:", held, "within its deadline:", time.Since(begun) < 5*time.Second, "connected:", err == nil)
		cancel()
	}
}
GO
go mod tidy 2>/dev/null
go run main.go >out
seen "as it comes" "held: false within its deadline: true connected: true" "$(sed -n 1p out)"
seen "held back" "held: true within its deadline: false connected: false" "$(sed -n 2p out)"
done_with "modelcontextprotocol/go-sdk v1.8.0"
