package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// scriptedLogin does what an MCP client does from the first 401 to the first tool call, and tells
// each step.
func scriptedLogin(ctx context.Context, public string) error {
	s := &script{ctx: ctx}
	endpoint := public + "/mcp"

	s.step("The client calls the MCP server without a token, and is told where to read on (RFC 6750, RFC 9728)")
	first := s.do(http.MethodPost, endpoint, "application/json", `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	_, resourceMetadata, ok := strings.Cut(first.header.Get("WWW-Authenticate"), `resource_metadata="`)
	s.expect(first.status == http.StatusUnauthorized && ok, "a 401 that names the metadata")
	resourceMetadata, _, _ = strings.Cut(resourceMetadata, `"`)

	s.step("The protected-resource metadata names the authorization server (RFC 9728)")
	resource := s.do(http.MethodGet, resourceMetadata, "", "")
	s.expect(resource.text("resource") == endpoint, "the resource to be the URL that was called")

	s.step("The authorization server's metadata names the endpoints (RFC 8414)")
	metadata := s.do(http.MethodGet, public+"/.well-known/oauth-authorization-server", "", "")
	s.expect(metadata.text("issuer") == public, "the issuer to be the public URL")

	s.step("The client registers (RFC 7591). Nothing is stored: the registration is sealed into the client_id")
	const redirectURI = "http://127.0.0.1:33418/callback"
	registered := s.do(http.MethodPost, metadata.text("registration_endpoint"), "application/json",
		`{"client_name":"Scripted client","redirect_uris":["`+redirectURI+`"],"token_endpoint_auth_method":"none"}`)
	s.expect(registered.status == http.StatusCreated, "a client_id")

	s.step("The client opens the browser at the authorization endpoint (RFC 6749, PKCE RFC 7636). The person allows the client, then logs in at the provider")
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	authorize := metadata.text("authorization_endpoint") + "?" + url.Values{
		"response_type": {"code"}, "client_id": {registered.text("client_id")}, "redirect_uri": {redirectURI}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"}, "resource": {endpoint},
	}.Encode()
	browser, err := newBrowser()
	if err != nil {
		return err
	}
	back, err := browser.Visit(ctx, authorize, redirectURI)
	for _, line := range browser.Steps {
		fmt.Println("   browser  " + line)
	}
	if err != nil {
		return err
	}
	fmt.Println("   back at the client with: code (" + short(back.Query().Get("code")) + "), state, iss=" + back.Query().Get("iss"))
	s.expect(back.Query().Get("code") != "" && back.Query().Get("state") == state, "a code and the client's state")

	s.step("The client redeems the code. Only now the sidecar redeems the code of the provider that is sealed inside, so the provider tells a first use from a second")
	tokens := s.do(http.MethodPost, metadata.text("token_endpoint"), "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "code_verifier": {verifier},
		"client_id": {registered.text("client_id")}, "redirect_uri": {redirectURI}, "resource": {endpoint},
	}.Encode())
	s.expect(tokens.text("access_token") != "", "an access token")

	s.step("The client calls the tool `whoami`. The plugin verifies the token; the MCP server sees who called, and no token")
	result, err := callWhoami(ctx, endpoint, tokens.text("access_token"))
	if err != nil {
		return err
	}
	fmt.Println("   result   " + result)
	s.expect(strings.Contains(result, `"sub":"id1"`) && strings.Contains(result, `"authorization":false`), "the server to know the user and not the token")

	s.step("The client refreshes. The refresh token is sealed too; any replica can answer")
	refreshed := s.do(http.MethodPost, metadata.text("token_endpoint"), "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {tokens.text("refresh_token")}, "client_id": {registered.text("client_id")},
	}.Encode())
	s.expect(refreshed.text("access_token") != "", "another access token")
	if s.err == nil {
		fmt.Println("\nThe scripted login worked.")
	}
	return s.err
}

func newBrowser() (*rig.Browser, error) {
	jar, err := cookiejar.New(nil)
	return &rig.Browser{Client: &http.Client{Jar: jar}, Username: username, Password: password}, err
}

// script keeps the first error; after it nothing more is sent.
type script struct {
	ctx context.Context
	n   int
	err error
}

// reply is an answer with its JSON members.
type reply struct {
	status  int
	header  http.Header
	members map[string]any
}

func (r reply) text(member string) string {
	s, _ := r.members[member].(string)
	return s
}

func (s *script) step(what string) {
	if s.err == nil {
		s.n++
		fmt.Printf("\n%d. %s\n", s.n, what)
	}
}

func (s *script) expect(ok bool, what string) {
	if s.err == nil && !ok {
		s.err = errors.New("the scripted login failed in step " + fmt.Sprint(s.n) + ": expected " + what)
	}
}

func (s *script) do(method, target, contentType, body string) reply {
	if s.err != nil {
		return reply{}
	}
	req, err := http.NewRequestWithContext(s.ctx, method, target, strings.NewReader(body))
	if err != nil {
		s.err = err
		return reply{}
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	fmt.Printf("   %s %s\n", method, target)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.err = err
		return reply{}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		s.err = err
		return reply{}
	}
	r := reply{resp.StatusCode, resp.Header, map[string]any{}}
	_ = json.Unmarshal(answer, &r.members) // not JSON: no members, and the step's expectation fails
	fmt.Printf("   %s\n", resp.Status)
	if challenge := resp.Header.Get("WWW-Authenticate"); challenge != "" {
		fmt.Printf("   WWW-Authenticate: %s\n", challenge)
	}
	show(r.members)
	return r
}

// show prints JSON with long values, which are sealed values and tokens, cut short.
func show(members map[string]any) {
	for name, value := range members {
		if text, ok := value.(string); ok && len(text) > 70 {
			members[name] = short(text)
			defer func() { members[name] = text }()
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("   ", "  ")
	if encoder.Encode(members) == nil {
		fmt.Print("   " + b.String())
	}
}

func short(text string) string {
	return fmt.Sprintf("%s… %d characters", text[:min(12, len(text))], len(text))
}

// withBearer sends the access token along.
type withBearer string

func (token withBearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(token))
	return http.DefaultTransport.RoundTrip(r)
}

func callWhoami(ctx context.Context, endpoint, token string) (string, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "demo", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: &http.Client{Transport: withBearer(token)}, DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return "", err
	}
	defer session.Close()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "whoami"})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(result.StructuredContent)
	return string(text), err
}
