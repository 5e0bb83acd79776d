package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// readAnswer is an answer as node/answers.mjs takes it.
type readAnswer struct {
	What   string            `json:"what"`
	Kind   string            `json:"kind"`
	URL    string            `json:"url"`
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   string            `json:"body"`
	State  string            `json:"state,omitempty"`
}

// Libraries of others read our answers, errors included, as they read everybody's: the TypeScript
// SDKs' schemas and readers, @atproto/oauth-types, oauth4webapi and the Go SDK. Answers that come
// from a real sidecar behind a real Traefik, of each endpoint and each status that it has. 429 is
// not among them, because only a rate limit in front answers it.
func TestAnswersBeforeReferees(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Root: "wiki", Labels: map[string]string{
		"requiredScopes": "docs:read", "scopeRules": "*=docs:read", "toolScopes": "delete_page=docs:admin; *=docs:read", "upstreamCheckInterval": "0",
	}})
	tn := w.Wiki
	c := tn.Client()
	public, root := c.Public, strings.TrimSuffix(c.Public, "/wiki")
	var answers []readAnswer
	keep := func(kind, what, address string, answer *rig.Answer) *rig.Answer {
		t.Helper()
		header := map[string]string{}
		for name := range answer.Header {
			header[name] = answer.Header.Get(name)
		}
		if kind != "revoked" && !strings.HasPrefix(kind, "callback") && !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %s is no JSON: %q", what, answer, answer.Header.Get("Content-Type"))
		}
		answers = append(answers, readAnswer{what, kind, address, answer.Status, header, answer.Body, ""})
		return answer
	}
	want := func(status int, kind, what, method, address string, header http.Header, body string) *rig.Answer {
		t.Helper()
		answer := c.Do(method, address, header, []byte(body))
		if answer.Status != status {
			t.Errorf("%s: want %d, got %s", what, status, answer)
			return answer
		}
		return keep(kind, what, address, answer)
	}
	asForm := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	asJSON := http.Header{"Content-Type": {"application/json"}}
	basic := http.Header{"Content-Type": asForm["Content-Type"], "Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("nobody:secret"))}}

	// Documents, at each place.
	for _, name := range []string{"oauth-authorization-server", "openid-configuration"} {
		for _, address := range []string{root + "/.well-known/" + name + "/wiki", public + "/.well-known/" + name, root + "/.well-known/" + name + "/wiki/mcp", public + "/mcp/.well-known/" + name} {
			want(200, "server", name, http.MethodGet, address, nil, "")
		}
	}
	want(200, "server", "at the root", http.MethodGet, root+"/.well-known/oauth-authorization-server", nil, "")
	for _, address := range []string{root + "/.well-known/oauth-protected-resource", root + "/.well-known/oauth-protected-resource/wiki", root + "/.well-known/oauth-protected-resource/wiki/mcp",
		public + "/.well-known/oauth-protected-resource", public + "/.well-known/oauth-protected-resource/mcp"} {
		want(200, "resource", "protected resource", http.MethodGet, address, nil, "")
	}
	jwks := want(200, "jwks", "JWKS", http.MethodGet, c.Meta.JWKSURI, nil, "")
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(jwks.Body), &keys); err != nil || len(keys.Keys) == 0 {
		t.Errorf("go-jose reads %d keys: %v", len(keys.Keys), err)
	}

	// Registration.
	register := c.Meta.RegistrationEndpoint
	metadata := func(method string) string {
		return fmt.Sprintf(`{"client_name":"Referee","redirect_uris":["http://127.0.0.1/callback"],"token_endpoint_auth_method":%q}`, method)
	}
	var confidential *rig.Answer
	for _, method := range []string{"none", "client_secret_post", "client_secret_basic"} {
		confidential = want(201, "registration", method, http.MethodPost, register, asJSON, metadata(method))
		if _, err := oauthex.RegisterClient(t.Context(), register, &oauthex.ClientRegistrationMetadata{RedirectURIs: []string{"http://127.0.0.1/callback"}, TokenEndpointAuthMethod: method}, w.HTTP()); err != nil {
			t.Errorf("Go SDK, registration: %v", err)
		}
	}
	if _, err := oauthex.RegisterClient(t.Context(), register, &oauthex.ClientRegistrationMetadata{RedirectURIs: []string{"javascript:alert(1)"}}, w.HTTP()); err == nil || !strings.Contains(err.Error(), "invalid_redirect_uri") {
		t.Errorf("Go SDK, a registration that is refused: %v", err)
	}
	want(400, "registrationError", "registration, a bad redirect URI", http.MethodPost, register, asJSON, `{"redirect_uris":["javascript:alert(1)"]}`)
	want(400, "registrationError", "registration, no JSON", http.MethodPost, register, asJSON, `{`)
	want(400, "registrationError", "registration, a method that is not served", http.MethodPost, register, asJSON, metadata("tls_client_auth"))
	want(405, "registrationError", "registration by GET", http.MethodGet, register, nil, "")
	want(413, "registrationError", "registration, too large", http.MethodPost, register, asJSON, `{"client_name":"`+strings.Repeat("x", 2<<20)+`"}`)

	// Authorization: what the client is told through the browser.
	browser := tn.Browser()
	authorize := func(kind, what string, f *rig.Flow, decision string, change func(url.Values)) *url.URL {
		t.Helper()
		u, err := url.Parse(f.URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		b := tn.Browser()
		b.Decision = decision
		back, err := b.Visit(t.Context(), u.String(), c.Redirect)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		answers = append(answers, readAnswer{What: what, Kind: kind, URL: back.String(), State: f.State})
		return back
	}
	f := c.Begin("docs:read", "offline_access")
	code := authorize("callback", "a login", f, "allow", func(url.Values) {}).Query().Get("code")
	authorize("callbackError", "a person who denies", c.Begin("docs:read"), "deny", func(url.Values) {})
	for what, change := range map[string]func(url.Values){
		"no PKCE":               func(q url.Values) { q.Del("code_challenge") },
		"another response_type": func(q url.Values) { q.Set("response_type", "token") },
		"a foreign resource":    func(q url.Values) { q.Set("resource", "https://other.example/") },
		"a request object":      func(q url.Values) { q.Set("request", "x") },
		"a silent login":        func(q url.Values) { q.Set("prompt", "none") },
	} {
		authorize("callbackError", what, c.Begin("docs:read"), "allow", change)
	}

	// Tokens.
	tokens := keep("tokens", "a code", c.Meta.TokenEndpoint, c.Redeem(code, f))
	if tokens.Status != 200 {
		t.Fatalf("%s", tokens)
	}
	tokens = keep("tokens", "a refresh", c.Meta.TokenEndpoint, c.Refresh(tokens.Member("refresh_token")))
	if tokens.Status != 200 {
		t.Fatalf("%s", tokens)
	}
	token := c.Meta.TokenEndpoint
	refresh := func(values ...string) string {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Member("refresh_token")}, "client_id": {c.ClientID}}
		for i := 0; i < len(values); i += 2 {
			form.Set(values[i], values[i+1])
		}
		return form.Encode()
	}
	want(400, "tokenError", "a code that was used", http.MethodPost, token, asForm, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {f.Verifier}, "client_id": {c.ClientID}, "redirect_uri": {c.Redirect}}.Encode())
	want(400, "tokenError", "no grant_type", http.MethodPost, token, asForm, "client_id="+url.QueryEscape(c.ClientID))
	want(400, "tokenError", "a grant_type that is not served", http.MethodPost, token, asForm, refresh("grant_type", "password"))
	want(400, "tokenError", "a refresh token that is none", http.MethodPost, token, asForm, refresh("refresh_token", "x"))
	want(400, "tokenError", "a refresh for a foreign resource", http.MethodPost, token, asForm, refresh("resource", "https://other.example/"))
	want(200, "tokens", "a refresh for more, which brings no more", http.MethodPost, token, asForm, refresh("scope", "docs:admin"))
	want(401, "tokenError", "a client that is none", http.MethodPost, token, asForm, refresh("client_id", "nobody"))
	want(401, "tokenError", "a client that is none, in the header", http.MethodPost, token, basic, "grant_type=refresh_token&refresh_token=x")
	want(401, "tokenError", "a wrong secret", http.MethodPost, token, asForm, refresh("client_id", confidential.Member("client_id"), "client_secret", "x"))
	want(405, "tokenError", "the token endpoint by GET", http.MethodGet, token, nil, "")
	want(413, "tokenError", "a token request that is too large", http.MethodPost, token, asForm, refresh("x", strings.Repeat("x", 2<<20)))

	// Revocation.
	revoke := c.Meta.RevocationEndpoint
	if revoke == "" {
		revoke = public + "/oauth/revoke"
	}
	want(400, "revocationError", "a revocation of nothing", http.MethodPost, revoke, asForm, "client_id="+url.QueryEscape(c.ClientID))
	want(401, "revocationError", "a revocation by a client that is none", http.MethodPost, revoke, asForm, "token=x&client_id=nobody")
	want(405, "revocationError", "revocation by GET", http.MethodGet, revoke, nil, "")
	want(200, "revoked", "a revocation", http.MethodPost, revoke, asForm, url.Values{"token": {"x"}, "client_id": {c.ClientID}}.Encode())

	// The MCP server.
	bearer := http.Header{"Content-Type": asJSON["Content-Type"], "Accept": {"application/json, text/event-stream"}, "Authorization": {"Bearer " + tokens.Member("access_token")}}
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page","arguments":{}}}`
	for _, place := range []string{"/mcp", "", "/anything"} {
		want(401, "challenge", "no token at "+place, http.MethodPost, public+place, asJSON, call)
		want(401, "challenge", "a token that is none at "+place, http.MethodPost, public+place, http.Header{"Content-Type": asJSON["Content-Type"], "Authorization": {"Bearer x"}}, call)
	}
	want(403, "challenge", "a tool that needs more", http.MethodPost, public+"/mcp", bearer, call)
	for _, a := range answers {
		if a.Kind != "challenge" {
			continue
		}
		challenges, err := oauthex.ParseWWWAuthenticate([]string{a.Header["Www-Authenticate"]})
		if err != nil || len(challenges) != 1 || challenges[0].Scheme != "bearer" || challenges[0].Params["resource_metadata"] == "" {
			t.Errorf("Go SDK, %s: %v, %v", a.What, challenges, err)
		}
	}

	// These addresses do not exist.
	want(404, "otherError", "no endpoint", http.MethodGet, public+"/oauth/nothing", nil, "")
	want(405, "otherError", "metadata by POST", http.MethodPost, public+"/.well-known/oauth-authorization-server", asJSON, "{}")

	// The provider does not know the sidecar any more, then it is away, and so is the sidecar.
	fault := func(status int, body string) {
		tn.Provider.Fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
	}
	at := c.Begin("docs:read")
	late := c.Login(browser, at)
	fault(http.StatusUnauthorized, `{"error":"invalid_client"}`)
	want(500, "tokenError", "a provider that knows us no more", http.MethodPost, token, asForm, url.Values{"grant_type": {"authorization_code"}, "code": {late}, "code_verifier": {at.Verifier}, "client_id": {c.ClientID}, "redirect_uri": {c.Redirect}, "resource": {c.Resource}}.Encode())
	fault(http.StatusServiceUnavailable, `{}`)
	want(503, "tokenError", "a provider that is away", http.MethodPost, token, asForm, url.Values{"grant_type": {"authorization_code"}, "code": {late}, "code_verifier": {at.Verifier}, "client_id": {c.ClientID}, "redirect_uri": {c.Redirect}, "resource": {c.Resource}}.Encode())
	tn.Provider.Fault(nil)
	w.Front.Down()
	want(502, "tokenError", "no sidecar, at the token endpoint", http.MethodPost, token, asForm, refresh())
	want(502, "registrationError", "no sidecar, at registration", http.MethodPost, register, asJSON, metadata("none"))
	want(502, "revocationError", "no sidecar, at revocation", http.MethodPost, revoke, asForm, url.Values{"token": {"x"}, "client_id": {c.ClientID}}.Encode())
	w.Front.Up()

	statuses := map[int]bool{}
	for _, a := range answers {
		statuses[a.Status] = true
	}
	for _, status := range []int{200, 201, 400, 401, 403, 404, 405, 413, 500, 502, 503} {
		if !statuses[status] {
			t.Errorf("no answer with %d was read", status)
		}
	}
	// the metadata tells how to read the others
	slices.SortStableFunc(answers, func(a, b readAnswer) int {
		first := func(a readAnswer) int {
			if a.Kind == "server" {
				return 0
			}
			return 1
		}
		return first(a) - first(b)
	})
	file := filepath.Join(t.TempDir(), "answers.json")
	b, err := json.Marshal(map[string]any{"issuer": c.Meta.Issuer, "resource": c.Resource, "audience": c.Resource, "clientId": c.ClientID, "answers": answers})
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := rig.Node(t, w.Logs, "answers", "answers.mjs", file).Wait(t)
	said := strings.TrimSpace(w.Logs.Text("answers"))
	if ended != 0 || !regexp.MustCompile(`^read \d\d\d+$`).MatchString(said) {
		t.Errorf("answers.mjs ended with %d:\n%s", ended, said)
	}
	t.Logf("%d answers: %s", len(answers), said)
}
