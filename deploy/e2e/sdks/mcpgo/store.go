//go:build !oldest

package main

import (
	"context"

	"github.com/mark3labs/mcp-go/client"
)

func keeps(store *client.MemoryTokenStore) (*client.Token, error) {
	return store.GetToken(context.Background())
}
