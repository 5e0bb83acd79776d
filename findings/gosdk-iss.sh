#!/usr/bin/env bash
# MCP Go SDK 1.8.0: an authorization response with the right `iss` ends the login, where the
# server's metadata does not promise one. Gemini CLI ends it where there is none, promised or not
# (gemini-cli-iss.sh). RFC 9207 section 2.4 leaves both to the client. So a server that promises
# nothing loses one of the two, whatever it sends; who promises it and sends it serves both.
source "$(dirname "$0")/lib.sh"
go_module github.com/modelcontextprotocol/go-sdk@v1.8.0
cat >main.go <<'GO'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// login says how a login ends.
func login(promised, sent bool) string {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	serve := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v)
		})
	}
	serve("/.well-known/oauth-protected-resource/mcp", map[string]any{
		"resource": server.URL + "/mcp", "authorization_servers": []string{server.URL},
	})
	metadata := map[string]any{
		"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token",
		"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
	}
	if promised {
		metadata["authorization_response_iss_parameter_supported"] = true
	}
	serve("/.well-known/oauth-authorization-server", metadata)
	serve("/token", map[string]any{"access_token": "a", "token_type": "Bearer", "expires_in": 3600})
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient: &oauthex.ClientCredentials{ClientID: "client"},
		RedirectURL:         "http://localhost:1/cb",
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			u, err := url.Parse(args.URL)
			result := &auth.AuthorizationResult{Code: "code", State: u.Query().Get("state")}
			if sent {
				result.Iss = server.URL
			}
			return result, err
		},
	})
	if err != nil {
		return err.Error()
	}
	request, _ := http.NewRequest("POST", server.URL+"/mcp", strings.NewReader("{}"))
	err = handler.Authorize(context.Background(), request, &http.Response{StatusCode: 401, Body: http.NoBody, Request: request})
	if err != nil {
		return strings.ReplaceAll(err.Error(), server.URL, "ISSUER")
	}
	return "logged in"
}

func main() {
	fmt.Println(login(true, true))
	fmt.Println(login(false, false))
	fmt.Println(login(false, true))
}
GO
go mod tidy 2>/dev/null
go run main.go >out
seen "iss promised and sent" "logged in" "$(sed -n 1p out)"
seen "neither" "logged in" "$(sed -n 2p out)"
seen "sent, not promised" \
  "authorization server does not advertise RFC 9207 iss parameter support but iss was received in the authorization response" "$(sed -n 3p out)"
done_with "go-sdk v1.8.0"
