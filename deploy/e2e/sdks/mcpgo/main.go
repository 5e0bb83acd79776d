// Mcpgo is an application on github.com/mark3labs/mcp-go, made as its example oauth_client is: when
// a call ends with "authorization required", it logs in and calls again.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/sdks/app"
)

func main() { app.Main("github.com/mark3labs/mcp-go", connect) }

type session struct {
	*client.Client
	app      *app.App
	store    *client.MemoryTokenStore
	revision string
}

func connect(ctx context.Context, a *app.App) (app.Session, error) {
	s := &session{app: a, store: client.NewMemoryTokenStore()}
	var err error
	s.Client, err = client.NewOAuthStreamableHttpClient(a.Way.Server, client.OAuthConfig{
		ClientID: a.Way.ClientID, ClientSecret: a.Way.ClientSecret, RedirectURI: a.Redirect, TokenStore: s.store, PKCEEnabled: true,
	})
	if err != nil {
		return nil, err
	}
	if err := s.authorized(ctx, func() error { return s.Start(ctx) }); err != nil {
		return nil, err
	}
	return s, s.authorized(ctx, func() error {
		var request mcp.InitializeRequest
		request.Params.ProtocolVersion = cmp.Or(a.Way.Revision, mcp.LATEST_PROTOCOL_VERSION)
		request.Params.ClientInfo = mcp.Implementation{Name: "mcpgo", Version: "1"}
		result, err := s.Initialize(ctx, request)
		if err == nil {
			s.revision = result.ProtocolVersion
		}
		return err
	})
}

// authorized does something, logs in when that needs it, and does it again.
func (s *session) authorized(ctx context.Context, something func() error) error {
	err := something()
	if !client.IsOAuthAuthorizationRequiredError(err) {
		return err
	}
	handler := client.GetOAuthHandler(err)
	verifier, err := client.GenerateCodeVerifier()
	if err != nil {
		return err
	}
	state, err := client.GenerateState()
	if err != nil {
		return err
	}
	if handler.GetClientID() == "" {
		if err := handler.RegisterClient(ctx, "mcpgo"); err != nil {
			return err
		}
	}
	open, err := handler.GetAuthorizationURL(ctx, state, client.GenerateCodeChallenge(verifier))
	if err != nil {
		return err
	}
	answer, err := s.app.Authorize(ctx, open)
	if err != nil {
		return err
	}
	if err := handler.ProcessAuthorizationResponse(ctx, answer.Get("code"), answer.Get("state"), verifier); err != nil {
		return err
	}
	return something()
}

func (s *session) Revision() string { return s.revision }

func (s *session) Call(ctx context.Context) (result json.RawMessage, err error) {
	err = s.authorized(ctx, func() error {
		var request mcp.CallToolRequest
		request.Params.Name = "whoami"
		answer, err := s.CallTool(ctx, request)
		if err != nil {
			return err
		}
		// The oldest knows no structured content; the server says the same as text.
		text, ok := answer.Content[0].(mcp.TextContent)
		if !ok || answer.IsError {
			return errors.New("whoami failed")
		}
		result = json.RawMessage(text.Text)
		return nil
	})
	return result, err
}

func (s *session) Refuse() error { return s.change(func(t *client.Token) { t.AccessToken += "x" }) }
func (s *session) Age() error {
	return s.change(func(t *client.Token) { t.ExpiresAt = time.Now().Add(-time.Minute) })
}

func (s *session) change(what func(*client.Token)) error {
	token, err := keeps(s.store)
	if err == nil {
		what(token) // the one that is kept
	}
	return err
}
