//go:build oldest

package main

import (
	"context"
	"errors"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/sdks/app"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

func newHandler(a *app.App) (auth.OAuthHandler, error) {
	if a.Way.MetadataURL != "" || a.Way.ClientID != "" || a.Way.Grant != "" {
		return nil, errors.New("the oldest is tried with registration only")
	}
	return auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		RedirectURL: a.Redirect,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			answer, err := a.Authorize(ctx, args.URL)
			if err != nil {
				return nil, err
			}
			return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state")}, nil
		},
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{a.Redirect}, ResponseTypes: []string{"code"},
			GrantTypes: []string{"authorization_code", "refresh_token"}, TokenEndpointAuthMethod: a.Way.AuthMethod,
		}},
	})
}
