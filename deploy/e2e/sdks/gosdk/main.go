// Gosdk is an application on the official Go SDK. Which certificates it trusts, and by which proxy
// it goes, its environment says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/sdks/app"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"
)

func main() { app.Main("github.com/modelcontextprotocol/go-sdk", connect) }

type session struct {
	*mcp.ClientSession
	// keeps is the token that the SDK has. x/oauth2 hands out the one that it keeps, so that what
	// is done to it counts.
	keeps func() (*oauth2.Token, error)
}

func connect(ctx context.Context, a *app.App) (app.Session, error) {
	handler, err := newHandler(a)
	if err != nil {
		return nil, err
	}
	connected, err := mcp.NewClient(&mcp.Implementation{Name: "gosdk", Version: "1"}, nil).
		Connect(ctx, &mcp.StreamableClientTransport{Endpoint: a.Way.Server, OAuthHandler: handler}, nil)
	if err != nil {
		return nil, err
	}
	return &session{connected, func() (*oauth2.Token, error) {
		source, err := handler.TokenSource(ctx)
		if err == nil && source == nil {
			err = errors.New("there is no token")
		}
		if err != nil {
			return nil, err
		}
		return source.Token()
	}}, nil
}

func (s *session) Revision() string { return s.InitializeResult().ProtocolVersion }

func (s *session) Call(ctx context.Context) (json.RawMessage, error) {
	result, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "whoami"})
	if err != nil {
		return nil, err
	}
	if result.IsError {
		return nil, errors.New("whoami failed")
	}
	return json.Marshal(result.StructuredContent)
}

func (s *session) Refuse() error {
	token, err := s.keeps()
	if err == nil {
		token.AccessToken += "x"
	}
	return err
}

func (s *session) Age() error {
	token, err := s.keeps()
	if err == nil {
		token.Expiry = time.Now().Add(-time.Minute)
	}
	return err
}
