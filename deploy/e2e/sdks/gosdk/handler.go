//go:build !oldest

package main

import (
	"context"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/sdks/app"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/auth/extauth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

func newHandler(a *app.App) (auth.OAuthHandler, error) {
	here := &oauthex.ClientCredentials{ClientID: a.Way.ClientID, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: a.Way.ClientSecret}}
	switch e := a.Way.Enterprise; a.Way.Grant {
	case "client_credentials":
		return extauth.NewClientCredentialsHandler(&extauth.ClientCredentialsHandlerConfig{Credentials: here})
	case "id-jag":
		atIdP := &oauthex.ClientCredentials{ClientID: e.ClientID}
		if e.ClientSecret != "" {
			atIdP.ClientSecretAuth = &oauthex.ClientSecretAuth{ClientSecret: e.ClientSecret}
		}
		return extauth.NewEnterpriseHandler(&extauth.EnterpriseHandlerConfig{
			IdPIssuerURL: e.Issuer, IdPCredentials: atIdP,
			MCPAuthServerURL: a.Way.AuthServer, MCPResourceURI: a.Way.Server, MCPCredentials: here,
			IDTokenFetcher: func(context.Context) (*oauth2.Token, error) {
				return new(oauth2.Token).WithExtra(map[string]any{"id_token": e.IDToken}), nil
			},
		})
	}
	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL: a.Redirect, RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			answer, err := a.Authorize(ctx, args.URL)
			if err != nil {
				return nil, err
			}
			return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}, nil
		},
	}
	switch {
	case a.Way.MetadataURL != "":
		config.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: a.Way.MetadataURL}
	case a.Way.ClientID != "":
		config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: a.Way.ClientID}
		if a.Way.ClientSecret != "" {
			config.PreregisteredClient.ClientSecretAuth = &oauthex.ClientSecretAuth{ClientSecret: a.Way.ClientSecret}
		}
	default:
		config.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{a.Redirect}, ResponseTypes: []string{"code"},
			GrantTypes: []string{"authorization_code", "refresh_token"}, TokenEndpointAuthMethod: a.Way.AuthMethod,
		}}
	}
	return auth.NewAuthorizationCodeHandler(config)
}
