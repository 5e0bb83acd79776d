package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// What clients do on bad days is only as true as the server that they meet: a client logs in at the
// mock, and the mock answers what it is told to, to whom, and no longer.
func TestMockMCP(t *testing.T) {
	t.Parallel()
	for _, stateless := range []bool{false, true} {
		t.Run(fmt.Sprintf("stateless %t", stateless), func(t *testing.T) {
			m := rig.StartMockMCP(t, stateless)
			const redirect = "http://127.0.0.1:9" + callbackPath
			handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
				RedirectURL: redirect,
				DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
					ClientName: "Go SDK", RedirectURIs: []string{redirect}, TokenEndpointAuthMethod: "none",
				}},
				AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
					client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
					resp, err := client.Get(args.URL)
					if err != nil {
						return nil, err
					}
					resp.Body.Close()
					back, err := url.Parse(resp.Header.Get("Location"))
					if err != nil {
						return nil, err
					}
					return &auth.AuthorizationResult{Code: back.Query().Get("code"), State: back.Query().Get("state"), Iss: back.Query().Get("iss")}, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			session, err := mcp.NewClient(&mcp.Implementation{Name: "go", Version: "1"}, nil).Connect(t.Context(),
				&mcp.StreamableClientTransport{Endpoint: m.URL, OAuthHandler: handler, DisableStandaloneSSE: true, MaxRetries: -1}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"}); err != nil {
				t.Fatal(err)
			}
			source, err := handler.TokenSource(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			token, err := source.Token()
			if err != nil {
				t.Fatal(err)
			}
			ask := func(bearer string) (int, string, string) {
				t.Helper()
				req, err := http.NewRequest(http.MethodPost, m.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
				if err != nil {
					t.Fatal(err)
				}
				if bearer != "" {
					req.Header.Set("Authorization", "Bearer "+bearer)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), resp.Header.Get("Retry-After")
			}
			var client string
			for _, a := range m.Asked() {
				if a.What == "register" {
					client = a.Client
				}
			}
			refresh := func() int {
				t.Helper()
				resp, err := http.PostForm(strings.TrimSuffix(m.URL, "/mcp")+"/mock/oauth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.RefreshToken}, "client_id": {client}})
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			want := func(what, bearer string, status int, challenge, retryAfter string) {
				t.Helper()
				got, header, wait := ask(bearer)
				if got != status || (challenge == "") != (header == "") || !strings.Contains(header, challenge) || wait != retryAfter {
					t.Errorf("%s: %d, %q, Retry-After %q", what, got, header, wait)
				}
			}
			want("no token", "", http.StatusUnauthorized, "resource_metadata", "")
			for name, trouble := range rig.MockTroubles(7) {
				twice := *trouble
				twice.Times = 2
				m.AnswerMCP(&twice)
				m.AnswerToken(&twice)
				want(name, token.AccessToken, trouble.Status, "", trouble.Header["Retry-After"])
				want(name, token.AccessToken, trouble.Status, "", trouble.Header["Retry-After"])
				for _, status := range []int{trouble.Status, trouble.Status, http.StatusOK} {
					if got := refresh(); got != status {
						t.Errorf("%s at the token endpoint: %d, want %d", name, got, status)
					}
				}
			}
			// as ask names none
			want("after the troubles", token.AccessToken, http.StatusUnsupportedMediaType, "", "")
			m.Require("docs:write")
			want("without the scope", token.AccessToken, http.StatusForbidden, `error="insufficient_scope", scope="docs:write"`, "")
			m.Require("")
			m.EndTokens()
			want("an ended token", token.AccessToken, http.StatusUnauthorized, `error="invalid_token"`, "")
			m.EndRefreshTokens()
			if got := refresh(); got != http.StatusBadRequest {
				t.Errorf("an ended refresh token: %d", got)
			}
			kinds := map[string]int{}
			for _, a := range m.Asked() {
				kinds[a.What]++
			}
			if kinds["register"] != 1 || kinds["authorize"] != 1 || kinds["code"] != 1 || kinds["refresh"] != 13 || kinds["metadata"] == 0 {
				t.Errorf("asked: %v", m.Asked())
			}
		})
	}
}
