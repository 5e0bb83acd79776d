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
	"net/http"
	"net/url"
	"strings"
)

// OAuthClient is a client that takes the protocol step by step, so that a test can interfere
// between two steps.
type OAuthClient struct {
	Public   string // public URL of the tenant
	Resource string // what it asks a token for
	Redirect string
	ClientID string
	Prover   *Prover // nil: its tokens are bound to no key

	Meta struct {
		Issuer                string `json:"issuer"`
		AuthorizationEndpoint string `json:"authorization_endpoint"`
		TokenEndpoint         string `json:"token_endpoint"`
		RegistrationEndpoint  string `json:"registration_endpoint"`
		JWKSURI               string `json:"jwks_uri"`
		// empty where revoking would do nothing
		RevocationEndpoint string `json:"revocation_endpoint"`
	}

	http *http.Client
	t    T
}

// Answer is a response, whatever it says.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Member returns a member of a JSON answer.
func (a *Answer) Member(name string) string {
	var members map[string]any
	if json.Unmarshal([]byte(a.Body), &members) != nil {
		return ""
	}
	s, _ := members[name].(string)
	return s
}

func (a *Answer) String() string { return fmt.Sprintf("%d %s", a.Status, excerpt(a.Body)) }

// Flow is one authorization request of a client.
type Flow struct {
	URL      string // to be opened in the browser
	State    string
	Verifier string
}

// redirectURI is where the client's callback would be; browsers are stopped before they go there.
const redirectURI = "http://127.0.0.1:33418/callback"

// NewOAuthClient discovers the tenant's endpoints and registers as a public client.
func NewOAuthClient(t T, client *http.Client, public string) *OAuthClient {
	t.Helper()
	c := &OAuthClient{Public: public, Resource: public + "/mcp", Redirect: redirectURI, http: client, t: t}
	meta := c.Do(http.MethodGet, public+"/.well-known/oauth-authorization-server", nil, nil)
	if err := json.Unmarshal([]byte(meta.Body), &c.Meta); meta.Status != http.StatusOK || err != nil {
		t.Fatalf("rig: metadata of %s: %s (%v)", public, meta, err)
	}
	answer := c.Register(map[string]any{
		"client_name": "Step by step", "redirect_uris": []string{c.Redirect},
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none",
	})
	c.ClientID = answer.Member("client_id")
	if answer.Status != http.StatusCreated || c.ClientID == "" {
		t.Fatalf("rig: registration at %s: %s", public, answer)
	}
	return c
}

// Register posts client metadata.
func (c *OAuthClient) Register(metadata map[string]any) *Answer {
	c.t.Helper()
	body, err := json.Marshal(metadata)
	if err != nil {
		c.t.Fatalf("rig: %v", err)
	}
	return c.Do(http.MethodPost, c.Meta.RegistrationEndpoint, http.Header{"Content-Type": {"application/json"}}, body)
}

// Begin makes an authorization request, for these scopes if any.
func (c *OAuthClient) Begin(scopes ...string) *Flow {
	f := &Flow{State: rand.Text(), Verifier: NewVerifier()}
	sum := sha256.Sum256([]byte(f.Verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {c.ClientID}, "redirect_uri": {c.Redirect}, "state": {f.State},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"resource": {c.Resource},
	}
	if len(scopes) > 0 {
		query.Set("scope", strings.Join(scopes, " "))
	}
	f.URL = c.Meta.AuthorizationEndpoint + "?" + query.Encode()
	return f
}

// NewVerifier makes a PKCE code verifier.
func NewVerifier() string { return rand.Text() + rand.Text() }

// Login takes a flow through the browser and returns the code.
func (c *OAuthClient) Login(b *Browser, f *Flow) string {
	c.t.Helper()
	back, err := b.Visit(c.t.Context(), f.URL, c.Redirect)
	if err != nil {
		c.t.Fatalf("login at %s: %v", c.Public, err)
	}
	code := back.Query().Get("code")
	if code == "" || back.Query().Get("state") != f.State {
		c.t.Fatalf("login at %s led to %s with error %q, want a code and the state", c.Public, shown(back), back.Query().Get("error"))
	}
	return code
}

// Redeem posts a code.
func (c *OAuthClient) Redeem(code string, f *Flow) *Answer {
	c.t.Helper()
	return c.Token(url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {f.Verifier}, "client_id": {c.ClientID},
		"redirect_uri": {c.Redirect}, "resource": {c.Resource},
	})
}

// Refresh posts a refresh token.
func (c *OAuthClient) Refresh(token string) *Answer {
	c.t.Helper()
	return c.Token(url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {c.ClientID}, "resource": {c.Resource},
	})
}

// Token posts a form to the token endpoint.
func (c *OAuthClient) Token(form url.Values) *Answer {
	c.t.Helper()
	return c.Do(http.MethodPost, c.Meta.TokenEndpoint,
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
}

// Tokens logs in and redeems the code: the whole of it, which must work.
func (c *OAuthClient) Tokens(b *Browser) *Answer {
	c.t.Helper()
	f := c.Begin()
	answer := c.Redeem(c.Login(b, f), f)
	if answer.Status != http.StatusOK || answer.Member("access_token") == "" {
		c.t.Fatalf("token at %s: %s", c.Public, answer)
	}
	return answer
}

// Get asks for a path under the tenant's public URL with an access token (none when empty).
func (c *OAuthClient) Get(path, token string) *Answer {
	c.t.Helper()
	h := http.Header{}
	if token != "" {
		h = c.Authorization(token)
	}
	return c.Do(http.MethodGet, c.Public+path, h, nil)
}

// Authorization is the header of a request with an access token.
func (c *OAuthClient) Authorization(token string) http.Header {
	scheme := "Bearer "
	if c.Prover != nil {
		scheme = "DPoP "
	}
	return http.Header{"Authorization": {scheme + token}}
}

// Do sends a request and follows nothing.
func (c *OAuthClient) Do(method, u string, h http.Header, body []byte) *Answer {
	c.t.Helper()
	answer, err := c.Try(c.t.Context(), method, u, h, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, strings.Split(u, "?")[0], err)
	}
	return answer
}

// Try is Do for those who expect an error. A client with a key proves it where its tokens are made
// and used, unless a proof is among the headers, and comes again once if it is asked for a nonce.
func (c *OAuthClient) Try(ctx context.Context, method, u string, h http.Header, body []byte) (*Answer, error) {
	token, bound := strings.CutPrefix(h.Get("Authorization"), "DPoP ")
	if c.Prover == nil || h.Get("DPoP") != "" || !bound && u != c.Meta.TokenEndpoint {
		return c.send(ctx, method, u, h, body)
	}
	h = h.Clone()
	for again := true; ; again = false {
		h.Set("DPoP", c.Prover.Proof(method, u, token))
		answer, err := c.send(ctx, method, u, h, body)
		if err != nil {
			return nil, err
		}
		c.Prover.observe(answer.Header)
		if !again || !answer.wantsNonce() {
			return answer, nil
		}
	}
}

func (c *OAuthClient) send(ctx context.Context, method, u string, h http.Header, body []byte) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range h {
		req.Header[k] = v
	}
	client := *c.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil // a client has no cookies, the browser has
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, string(b)}, err
}
