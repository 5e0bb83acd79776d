package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// MockMCP is an MCP server with an authorization server of its own, both at one loopback address,
// as anybody could have written them: nothing of the product is in it. It can be told to answer
// what servers answer on bad days, and it keeps what clients then ask. Clients register, or name a
// metadata document, which nobody reads; whoever opens the authorization URL has allowed. The
// documents are at every place where a client of any age looks.
type MockMCP struct {
	URL string // of the MCP endpoint

	base   string
	server http.Handler

	mu       sync.Mutex
	lifetime time.Duration
	asked    []Asked
	clients  map[string]string    // redirect URIs, by client_id
	codes    map[string]mockGrant // by code
	tokens   map[string]mockGrant // by access token that is good
	refresh  map[string]mockGrant // by refresh token
	atMCP    *Trouble
	atToken  *Trouble
	scope    string // that every request to the MCP server needs
	denies   bool   // the person denies
}

// mockGrant is what somebody allowed.
type mockGrant struct{ client, redirect, challenge, scope string }

// Trouble is what an endpoint answers in place of what it should.
type Trouble struct {
	Status int
	Header map[string]string
	Body   string
	// Times ends it after so many answers. 0 is: until the test ends it.
	Times int
}

// Asked is a request to the mock, as it was answered.
type Asked struct {
	At time.Time
	// "metadata", "register", "authorize", "code", "refresh", "MCP", or a path that is not there
	What string
	// Method is that of HTTP, with that of JSON-RPC behind it: "POST tools/call".
	Method string
	Client string // client_id, where one is named
	Scope  string // that is asked for, or that the token has
	Token  string // "none", "good" or "ended", to the MCP server
	Status int
}

func (a Asked) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %d", a.What, a.Method, a.Token, a.Scope, a.Status)), " ")
}

// StartMockMCP starts a mock. One that keeps no sessions speaks MCP 2026-07-28 with those who ask
// for it.
func StartMockMCP(t T, stateless bool) *MockMCP {
	t.Helper()
	m := &MockMCP{
		lifetime: time.Hour,
		clients:  map[string]string{}, codes: map[string]mockGrant{}, tokens: map[string]mockGrant{}, refresh: map[string]mockGrant{},
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "mock", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "whoami", Description: "Tells who is calling."},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, Identity, error) {
			return nil, Identity{Sub: "somebody"}, nil
		})
	m.server = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{DisableLocalhostProtection: true, Stateless: stateless})
	srv := httptest.NewServer(m)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	// The name, not the address, and /mock/oauth: so its URLs look like those of a tenant on
	// Traefik's plain entry point.
	m.base = strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	m.URL = m.base + "/mcp"
	return m
}

// Asked lists what was asked so far, the oldest first.
func (m *MockMCP) Asked() []Asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

// LetTokensLive sets how long access tokens will be said to live. None ends by itself.
func (m *MockMCP) LetTokensLive(lifetime time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lifetime = lifetime
}

// EndTokens ends every access token before its time: the MCP server answers 401 invalid_token from
// now on.
func (m *MockMCP) EndTokens() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.tokens)
}

// EndRefreshTokens ends every refresh token: the token endpoint answers 400 invalid_grant from now
// on.
func (m *MockMCP) EndRefreshTokens() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.refresh)
}

// Require makes the MCP server answer 403 insufficient_scope to tokens without this scope. "" lets
// all tokens pass.
func (m *MockMCP) Require(scope string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scope = scope
}

// Deny makes the person deny from now on.
func (m *MockMCP) Deny() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denies = true
}

// AnswerMCP makes the MCP server answer this, whatever the token is. nil ends it.
func (m *MockMCP) AnswerMCP(trouble *Trouble) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.atMCP = trouble
}

// AnswerToken makes the token endpoint answer this. nil ends it.
func (m *MockMCP) AnswerToken(trouble *Trouble) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.atToken = trouble
}

// Allow plays the person in front of a client: they open the URL and come back to where the client
// listens.
func (m *MockMCP) Allow(ctx context.Context, authorizationURL string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, authorizationURL, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.Request.URL.Host == req.URL.Host {
		err = fmt.Errorf("rig: the mock answered %d: %s", resp.StatusCode, b)
	}
	return err
}

func (m *MockMCP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := Asked{At: time.Now(), Method: r.Method}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Expose-Headers", "*, WWW-Authenticate, Mcp-Session-Id")
	if r.Method == http.MethodOptions {
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
		w.Header().Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	switch p := r.URL.Path; {
	case p == "/mcp":
		m.serveMCP(w, r, asked)
		return
	case strings.HasPrefix(p, "/.well-known/oauth-protected-resource"):
		asked.What, asked.Status = "metadata", http.StatusOK
		m.note(asked)
		answerJSON(w, http.StatusOK, map[string]any{
			"resource": m.URL, "authorization_servers": []string{m.base}, "scopes_supported": []string{"docs:read", "docs:write"},
			"bearer_methods_supported": []string{"header"},
		})
	case strings.HasPrefix(p, "/.well-known/oauth-authorization-server"):
		asked.What, asked.Status = "metadata", http.StatusOK
		m.note(asked)
		answerJSON(w, http.StatusOK, map[string]any{
			"issuer": m.base, "authorization_endpoint": m.base + "/mock/oauth/authorize", "token_endpoint": m.base + "/mock/oauth/token",
			"registration_endpoint": m.base + "/mock/oauth/register", "scopes_supported": []string{"docs:read", "docs:write", "offline_access"},
			"response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code", "refresh_token"},
			"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none"},
			"authorization_response_iss_parameter_supported": true,
		})
	case p == "/mock/oauth/register" && r.Method == http.MethodPost:
		m.serveRegistration(w, r, asked)
	case p == "/mock/oauth/authorize" && r.Method == http.MethodGet:
		m.serveAuthorization(w, r, asked)
	case p == "/mock/oauth/token" && r.Method == http.MethodPost:
		m.serveToken(w, r, asked)
	default:
		asked.What, asked.Status = p, http.StatusNotFound
		m.note(asked)
		http.NotFound(w, r)
	}
}

func (m *MockMCP) note(asked Asked) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, asked)
}

func (m *MockMCP) serveMCP(w http.ResponseWriter, r *http.Request, asked Asked) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var message struct{ Method string }
	if json.Unmarshal(body, &message) == nil && message.Method != "" {
		asked.Method += " " + message.Method
	}
	asked.What, asked.Token, asked.Status = "MCP", "none", http.StatusOK
	challenge := `Bearer resource_metadata="` + m.base + `/.well-known/oauth-protected-resource/mcp"`
	token, sent := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")

	m.mu.Lock()
	grant, good := m.tokens[token]
	trouble := m.trouble(&m.atMCP)
	scope := m.scope
	m.mu.Unlock()
	if sent {
		asked.Token, asked.Scope = "ended", grant.scope
		if good {
			asked.Token = "good"
		}
	}
	switch {
	case trouble != nil:
	case !sent:
		trouble = &Trouble{Status: http.StatusUnauthorized, Header: map[string]string{"WWW-Authenticate": challenge + `, scope="docs:read"`}}
	case !good:
		trouble = &Trouble{Status: http.StatusUnauthorized, Header: map[string]string{"WWW-Authenticate": challenge + `, error="invalid_token", error_description="the token has ended"`}}
	case scope != "" && !slices.Contains(strings.Fields(grant.scope), scope):
		trouble = &Trouble{Status: http.StatusForbidden, Header: map[string]string{"WWW-Authenticate": challenge + `, error="insufficient_scope", scope="` + scope + `"`}}
	}
	if trouble != nil {
		asked.Status = trouble.Status
		m.note(asked)
		trouble.write(w)
		return
	}
	m.note(asked)
	m.server.ServeHTTP(w, r)
}

// trouble takes one answer from what an endpoint was told to answer. The mutex is held.
func (m *MockMCP) trouble(at **Trouble) *Trouble {
	now := *at
	if now == nil || now.Times == 0 {
		return now
	}
	left := *now
	if left.Times--; left.Times == 0 {
		*at = nil
	} else {
		*at = &left
	}
	return now
}

func (trouble *Trouble) write(w http.ResponseWriter) {
	for name, value := range trouble.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(trouble.Status)
	_, _ = io.WriteString(w, trouble.Body)
}

func (m *MockMCP) serveRegistration(w http.ResponseWriter, r *http.Request, asked Asked) {
	asked.What, asked.Client, asked.Status = "register", "client-"+rand.Text(), http.StatusCreated
	answer := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		asked.Status = http.StatusBadRequest
		m.note(asked)
		answerJSON(w, asked.Status, map[string]any{"error": "invalid_client_metadata"})
		return
	}
	answer["client_id"], answer["token_endpoint_auth_method"] = asked.Client, "none"
	m.note(asked)
	m.mu.Lock()
	m.clients[asked.Client] = fmt.Sprint(answer["redirect_uris"])
	m.mu.Unlock()
	answerJSON(w, asked.Status, answer)
}

func (m *MockMCP) serveAuthorization(w http.ResponseWriter, r *http.Request, asked Asked) {
	q := r.URL.Query()
	asked.What, asked.Client, asked.Scope, asked.Status = "authorize", q.Get("client_id"), q.Get("scope"), http.StatusFound
	back, err := url.Parse(q.Get("redirect_uri"))
	m.mu.Lock()
	redirects, registered := m.clients[asked.Client]
	denies := m.denies
	m.mu.Unlock()
	known := registered && strings.Contains(redirects, q.Get("redirect_uri")) || strings.HasPrefix(asked.Client, "https://")
	if err != nil || !known || q.Get("code_challenge_method") != "S256" {
		asked.Status = http.StatusBadRequest
		m.note(asked)
		http.Error(w, "an unknown client or redirect_uri, or no PKCE", asked.Status)
		return
	}
	m.note(asked)
	answer := url.Values{"state": {q.Get("state")}, "iss": {m.base}}
	if denies {
		answer.Set("error", "access_denied")
	} else {
		code := rand.Text()
		scope := q.Get("scope")
		if scope == "" {
			scope = "docs:read"
		}
		m.mu.Lock()
		m.codes[code] = mockGrant{asked.Client, q.Get("redirect_uri"), q.Get("code_challenge"), scope}
		m.mu.Unlock()
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (m *MockMCP) serveToken(w http.ResponseWriter, r *http.Request, asked Asked) {
	_ = r.ParseForm()
	form := r.PostForm
	asked.What = form.Get("grant_type")
	if asked.What == "refresh_token" {
		asked.What = "refresh"
	}
	if asked.What == "authorization_code" {
		asked.What = "code"
	}
	asked.Client = form.Get("client_id")
	if id, _, basic := r.BasicAuth(); basic {
		asked.Client, _ = url.QueryUnescape(id)
	}
	asked.Status = http.StatusOK

	m.mu.Lock()
	trouble := m.trouble(&m.atToken)
	var grant mockGrant
	var ok bool
	if trouble == nil {
		if asked.What == "refresh" {
			grant, ok = m.refresh[form.Get("refresh_token")]
		} else {
			code := form.Get("code")
			grant, ok = m.codes[code]
			delete(m.codes, code)
			sum := sha256.Sum256([]byte(form.Get("code_verifier")))
			ok = ok && grant.challenge == base64.RawURLEncoding.EncodeToString(sum[:]) && grant.redirect == form.Get("redirect_uri")
		}
		if !ok || grant.client != asked.Client {
			trouble = &Trouble{Status: http.StatusBadRequest, Header: map[string]string{"Content-Type": "application/json"}, Body: `{"error":"invalid_grant"}`}
		}
	}
	if trouble != nil {
		m.mu.Unlock()
		asked.Status = trouble.Status
		m.note(asked)
		trouble.write(w)
		return
	}
	asked.Scope = grant.scope
	access, refresh := rand.Text(), rand.Text()
	m.tokens[access], m.refresh[refresh] = grant, grant
	lifetime := m.lifetime
	m.mu.Unlock()
	m.note(asked)
	answerJSON(w, http.StatusOK, map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": int(lifetime.Seconds()), "refresh_token": refresh, "scope": grant.scope,
	})
}

func answerJSON(w http.ResponseWriter, status int, value map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// MockTroubles returns what servers answer on bad days, by name, for AnswerMCP and AnswerToken.
// Retry-After is in seconds.
func MockTroubles(retryAfter int) map[string]*Trouble {
	answer := func(status int, code string, header map[string]string) *Trouble {
		header = maps.Clone(header)
		if header == nil {
			header = map[string]string{}
		}
		header["Content-Type"] = "application/json"
		return &Trouble{Status: status, Header: header, Body: fmt.Sprintf(`{"error":%q}`, code)}
	}
	wait := map[string]string{"Retry-After": fmt.Sprint(retryAfter)}
	return map[string]*Trouble{
		"401 without challenge": answer(http.StatusUnauthorized, "unauthorized", nil),
		"429":                   answer(http.StatusTooManyRequests, "temporarily_unavailable", wait),
		"500":                   answer(http.StatusInternalServerError, "server_error", nil),
		"503":                   answer(http.StatusServiceUnavailable, "temporarily_unavailable", wait),
	}
}
