package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// actingServer is an MCP server of the official Go SDK whose tool asks the provider, with the
// token that stands in a header of the call, who the person is.
type actingServer struct {
	header string
	port   string

	mu       sync.Mutex
	userinfo string        // of the provider
	headers  []http.Header // of the calls
}

type actedFor struct {
	Sub string `json:"sub"`
}

func startActingServer(t *testing.T, header string) *actingServer {
	t.Helper()
	s := &actingServer{header: header}
	server := mcp.NewServer(&mcp.Implementation{Name: "acting", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "ask_provider", Description: "Asks the provider who the person is."},
		func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, actedFor, error) {
			who, err := s.ask(ctx, r.Extra.Header)
			return nil, who, err
		})
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{DisableLocalhostProtection: true})
	srv := httptest.NewServer(streamable)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.port = u.Port()
	return s
}

func (s *actingServer) ask(ctx context.Context, h http.Header) (who actedFor, err error) {
	s.mu.Lock()
	s.headers = append(s.headers, h.Clone())
	userinfo := s.userinfo
	s.mu.Unlock()
	if h.Get(s.header) == "" {
		return who, errors.New("no token came")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, userinfo, nil)
	if err != nil {
		return who, err
	}
	r.Header.Set("Authorization", "Bearer "+h.Get(s.header))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return who, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return who, fmt.Errorf("the provider answered %d", resp.StatusCode)
	}
	return who, json.NewDecoder(resp.Body).Decode(&who)
}

// acts lets the server of a tenant ask the provider's userinfo endpoint.
func (s *actingServer) acts(t *testing.T, tn *rig.Tenant) {
	t.Helper()
	resp, err := http.Get(tn.Provider.Issuer + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var document struct {
		Userinfo string `json:"userinfo_endpoint"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&document); err != nil || document.Userinfo == "" {
		t.Fatalf("no userinfo endpoint: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.userinfo = document.Userinfo
}

// last are the token of the last call and its headers.
func (s *actingServer) last() (token string, h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.headers) == 0 {
		return "", nil
	}
	h = s.headers[len(s.headers)-1]
	return h.Get(s.header), h
}

// bringsToken is an http.RoundTripper that brings an access token.
type bringsToken struct {
	next  http.RoundTripper
	token string
}

func (w bringsToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return w.next.RoundTrip(r)
}

// callProvider calls the tool over the SDK's client with an access token.
func callProvider(t *testing.T, w *rig.World, tn *rig.Tenant, token string) (string, error) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "rig", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: tn.PublicHTTP() + "/mcp", HTTPClient: &http.Client{Transport: bringsToken{w.HTTP().Transport, token}},
		DisableStandaloneSSE: true, MaxRetries: -1,
	}, nil)
	if err != nil {
		return "", err
	}
	defer session.Close()
	return subjectThat(session, t)
}

func subjectThat(session *mcp.ClientSession, t *testing.T) (string, error) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask_provider"})
	if err != nil {
		return "", err
	}
	var who actedFor
	text, err := json.Marshal(result.StructuredContent)
	if err == nil {
		err = json.Unmarshal(text, &who)
	}
	if result.IsError || err != nil {
		return "", fmt.Errorf("the tool failed: %v, %v", result.Content, err)
	}
	return who.Sub, nil
}

// acting is one login at a tenant whose server acts at the provider.
type acting struct {
	*testing.T
	w      *rig.World
	tn     *rig.Tenant
	server *actingServer
	c      *rig.OAuthClient
	sub    string
	tokens *rig.Answer
	grant  string // by which the provider gives what the server gets
	seen   map[string]bool
}

// answerOf are the provider's newest access token and its refresh token.
func (a *acting) newest() string {
	a.Helper()
	newest := ""
	for _, grant := range []string{"authorization_code", "refresh_token"} {
		if a.grant != "" {
			grant = a.grant
		}
		for _, post := range a.tn.Provider.Posts(grant) {
			var answer struct {
				Token string `json:"access_token"`
			}
			if json.Unmarshal(post.Answer, &answer) == nil && answer.Token != "" {
				newest = answer.Token
			}
		}
	}
	return newest
}

// works calls the tool with the newest access token. The server gets the provider's newest, and the
// client cannot read it.
func (a *acting) works(when string) {
	a.Helper()
	sub, err := callProvider(a.T, a.w, a.tn, a.tokens.Member("access_token"))
	if err != nil || sub == "" || a.sub != "" && sub != a.sub {
		a.Fatalf("%s: the provider speaks of %q, want %q: %v", when, sub, a.sub, err)
	}
	a.sub = sub
	token, h := a.server.last()
	if token != a.newest() {
		a.Errorf("%s: the server has not the provider's newest token", when)
	}
	a.seen[token] = true
	if h.Get("Authorization") != "" {
		a.Errorf("%s: the server saw %v", when, h)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(a.tokens.Member("access_token"), ".")[1])
	if err != nil {
		a.Fatal(err)
	}
	for _, text := range []string{a.tokens.Body, string(payload)} {
		for _, form := range []string{token, base64.RawURLEncoding.EncodeToString([]byte(token)), base64.StdEncoding.EncodeToString([]byte(token))} {
			if strings.Contains(text, strings.TrimRight(form, "=")) {
				a.Errorf("%s: the client can read the provider's token", when)
			}
		}
	}
}

func (a *acting) refresh(when string) {
	a.Helper()
	answer := a.c.Refresh(a.tokens.Member("refresh_token"))
	if answer.Status != http.StatusOK {
		a.Fatalf("%s: a refresh got %s", when, answer)
	}
	a.tokens = answer
}

// goesOn takes a login through several refreshes, at each of which the provider rotates.
func (a *acting) goesOn(refreshes int) {
	a.Helper()
	a.tokens = a.c.Tokens(a.tn.Browser())
	a.works("after the login")
	for i := range refreshes {
		a.refresh(fmt.Sprint("refresh ", i+1))
		a.works(fmt.Sprint("after refresh ", i+1))
	}
}

// noneInLogs says that neither Traefik nor a sidecar has written what the server got.
func (a *acting) noneInLogs() {
	a.Helper()
	for _, name := range a.w.Logs.Names() {
		if strings.HasPrefix(name, "dex") || strings.HasPrefix(name, "exampleop") {
			continue
		}
		log := a.w.Logs.Text(name)
		for token := range a.seen {
			if middle := len(token) / 2; strings.Contains(log, token[middle:middle+20]) {
				a.Errorf("the log of %s holds the provider's token", name)
			}
		}
		for _, found := range a.w.Secrets.In(log) {
			a.Errorf("%s: %s", name, found)
		}
	}
}

const actingHeader = "X-Upstream-Access-Token"

// actingOptions: Dex, whose access tokens are JWTs of 2,500 characters and more here, and the
// example provider of Zitadel, which exchanges its own for others.
func actingOptions(servers map[string]*actingServer) rig.Options {
	person := rig.DexUser("admin@example.com", "08a8684b-db88-4b73-90a9-3cd1661f5466")
	person["username"] = strings.Repeat("A long name ", 130)
	return rig.Options{
		Dex: map[string]any{"staticPasswords": []any{person}, "expiry": map[string]any{"idTokens": "20m"}},
		Labels: map[string]string{
			"wiki/refresh": "upstream", "wiki/upstreamToken": "header=" + actingHeader, "wiki/upstreamCheckInterval": "0s",
			"world/upstreamToken": "header=X-At-Provider; scopes=openid profile; exchange=https://api.example.com",
		},
		Servers: map[string]string{"wiki": servers["wiki"].port, "world": servers["world"].port},
	}
}

func startActing(t *testing.T, change func(*rig.Options)) map[string]*acting {
	t.Helper()
	servers := map[string]*actingServer{"wiki": startActingServer(t, actingHeader), "world": startActingServer(t, "X-At-Provider")}
	o := actingOptions(servers)
	change(&o)
	w := rig.New(t, o)
	logins := map[string]*acting{}
	for _, tn := range w.Tenants() {
		a := &acting{T: t, w: w, tn: tn, server: servers[tn.Name], c: tn.Client(), seen: map[string]bool{}}
		if tn == w.World {
			a.grant = "urn:ietf:params:oauth:grant-type:token-exchange"
		}
		a.server.acts(t, tn)
		logins[tn.Name] = a
	}
	return logins
}

// An MCP server calls the provider in the person's name, through refreshes, other signing keys and
// another master.
func TestServerActsAtTheProvider(t *testing.T) {
	t.Parallel()
	logins := startActing(t, func(o *rig.Options) {
		// A day is a minute here.
		o.Clocks, o.Sidecar = true, map[string]string{"BOUNCER_KEY_ROTATION_DAYS": "1", "BOUNCER_KEY_OVERLAP_HOURS": "1", "BOUNCER_ACCESS_TOKEN_TTL": "10m"}
	})
	w := logins["wiki"].w
	for _, a := range logins {
		a.goesOn(3)
		if posts := a.tn.Provider.Posts("refresh_token"); len(posts) != 3 {
			t.Errorf("%s: the provider was asked %d times for a refresh", a.tn.Name, len(posts))
		}
	}
	if token, _ := logins["wiki"].server.last(); len(token) < 2500 {
		t.Errorf("Dex's access tokens have %d characters, too few to show anything", len(token))
	}
	if posts := w.World.Provider.Posts("urn:ietf:params:oauth:grant-type:token-exchange"); len(posts) != 4 || posts[0].Form.Get("audience") != "https://api.example.com" {
		t.Errorf("the provider exchanged %d times", len(posts))
	}

	// The SDK's own client finds all of this out by itself. Not at Dex, which would end the first
	// login of the person.
	session, browser, err := w.World.DialMCP(t.Context(), w.World.PublicHTTP())
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(browser.Steps, "\n"))
	}
	defer session.Close()
	if sub, err := subjectThat(session, t); err != nil || sub != logins["world"].sub {
		t.Errorf("over the SDK's client the provider speaks of %q: %v", sub, err)
	}

	// Three signing keys later; a client cannot forge the header.
	for _, r := range w.Replicas {
		r.SetClock(3 * time.Minute)
	}
	for _, a := range logins {
		before := keyOf(t, a.tokens)
		a.refresh("with another signing key")
		a.works("with another signing key")
		if keyOf(t, a.tokens) == before {
			t.Error("the signing key is still the same")
		}
		h := a.c.Authorization(a.tokens.Member("access_token"))
		h.Set(a.server.header, "forged")
		h.Set("Content-Type", "application/json")
		h.Set("Accept", "application/json, text/event-stream")
		a.c.Do(http.MethodPost, a.c.Public+"/mcp", h, []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask_provider","arguments":{}}}`))
		if token, _ := a.server.last(); token == "forged" {
			t.Error("the server saw the client's own header")
		}
	}

	// Another master: the sidecars first, then Traefik.
	next := rig.Keygen(t, w.Secrets)
	for _, r := range w.Replicas {
		r.Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": next.Encryption + "," + w.Keys.Encryption})
	}
	for _, a := range logins {
		a.refresh("with two masters")
		a.works("with two masters, and the old hop key in Traefik")
	}
	w.Traefik.Restart(t, next.Hop)
	for _, a := range logins {
		rig.WaitFor(t, "the routes", func() error { return expectChallenge(w, a.tn) })
		if answer := a.c.Get("/mcp", a.tokens.Member("access_token")); answer.Status != http.StatusUnauthorized || !strings.Contains(answer.Header.Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("%s: a token that the new plugin cannot open got %s %s", a.tn.Name, answer, answer.Header.Get("WWW-Authenticate"))
		}
		a.refresh("with the new hop key")
		a.works("with the new hop key")
		a.noneInLogs()
	}
}

// Each request meets another environment of the function, and all are frozen in between.
func TestServerActsAtTheProviderOnLambda(t *testing.T) {
	t.Parallel()
	for _, a := range startActing(t, func(o *rig.Options) { o.Lambda, o.Alone = true, true }) {
		a.goesOn(3)
		a.noneInLogs()
	}
}

// keyOf is the id of the key that signed an access token.
func keyOf(t *testing.T, tokens *rig.Answer) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens.Member("access_token"), ".")[0])
	var header struct{ Kid string }
	if err == nil {
		err = json.NewDecoder(io.LimitReader(strings.NewReader(string(text)), 1000)).Decode(&header)
	}
	if err != nil || header.Kid == "" {
		t.Fatalf("the header of an access token: %v", err)
	}
	return header.Kid
}
