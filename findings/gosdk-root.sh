#!/usr/bin/env bash
# MCP Go SDK 1.8.0: protected-resource metadata whose `resource` is not the URL that the person has
# typed, to the letter (a slash at its end is enough), or that answers 503, is no error: the SDK
# goes on as if there were none. It then registers at /register of the HOST and sends the person to
# /authorize there, whatever authorization server the document names.
source "$(dirname "$0")/lib.sh"
go_module github.com/modelcontextprotocol/go-sdk@v1.8.0
cat >main.go <<'GO'
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// asks says where the SDK registers and logs in, when a person has typed path.
func asks(path string, status int) string {
	var registered, login string
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	serve := func(path string, status int, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v)
		})
	}
	issuer, document := server.URL+"/issuer", "/.well-known/oauth-protected-resource/mcp"
	serve(document, status, map[string]any{"resource": server.URL + "/mcp", "authorization_servers": []string{issuer}})
	serve("/.well-known/oauth-authorization-server/issuer", 200, map[string]any{
		"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
		"registration_endpoint": issuer + "/register", "response_types_supported": []string{"code"},
		"code_challenge_methods_supported": []string{"S256"},
	})
	for _, at := range []string{"/register", "/issuer/register"} {
		mux.HandleFunc(at, func(w http.ResponseWriter, r *http.Request) {
			registered = r.URL.Path
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			w.Write([]byte(`{"client_id":"client","redirect_uris":["http://localhost:1/cb"]}`))
		})
	}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{RedirectURIs: []string{"http://localhost:1/cb"}},
		},
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			u, err := url.Parse(args.URL)
			login = u.Path
			return nil, errors.Join(err, errors.New("the person goes away"))
		},
	})
	if err != nil {
		return err.Error()
	}
	request, _ := http.NewRequest("POST", server.URL+path, strings.NewReader("{}"))
	err = handler.Authorize(context.Background(), request, &http.Response{
		StatusCode: 401, Body: http.NoBody, Request: request,
		Header: http.Header{"Www-Authenticate": {`Bearer resource_metadata="` + server.URL + document + `"`}},
	})
	return fmt.Sprint(registered, " ", login, " ", err)
}

func main() {
	fmt.Println(asks("/mcp", 200))
	fmt.Println(asks("/mcp/", 200))
	fmt.Println(asks("/mcp", 503))
}
GO
go mod tidy 2>/dev/null
go run main.go >out
away="the person goes away"
seen "registers and logs in at, for /mcp" "/issuer/register /issuer/authorize $away" "$(sed -n 1p out)"
seen "for /mcp/" "/register /authorize $away" "$(sed -n 2p out)"
seen "for /mcp, where the document is 503" "/register /authorize $away" "$(sed -n 3p out)"
done_with "go-sdk v1.8.0"
