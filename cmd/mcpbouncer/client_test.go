package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// bench is a provider, a server /wiki as its labels say, and its sidecar with the variables of this
// process.
type bench struct {
	tenant   issuertest.Tenant
	net      *issuertest.Internet
	provider *issuertest.Provider
}

func newBench(t *testing.T) *bench {
	t.Helper()
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	idp := issuertest.NewProvider(t, nil)
	e, err := loadEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	s, err := issuer.New(e.issuerConfig(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{net: &issuertest.Internet{}, provider: idp, tenant: issuertest.Tenant{
		PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "urn:wiki", ProviderIssuer: idp.Issuer, ClientID: idp.ClientID, ClientSecret: idp.Secret,
		Scopes: []string{"openid"}, RequiredScopes: []string{}, MCPPaths: []string{"/mcp"}, Exchange: "token", Generation: 3, PrivateRedirectURIs: []string{"myapp:/callback"},
	}}
	world := b.tenant
	world.PublicURL, world.Resource = "https://mcp.localhost/world", "world"
	for _, tn := range []issuertest.Tenant{b.tenant, world} {
		b.net.Handle(tn.PublicURL, &issuertest.Front{Tenant: tn, HopKey: e.ring.HopKey(), Replica: s.Handler})
	}
	return b
}

func (b *bench) flags(more ...string) []string {
	return append([]string{"client", "create", "--public-url", b.tenant.PublicURL, "--resource", b.tenant.Resource, "--audience", b.tenant.Audience,
		"--provider-issuer", b.tenant.ProviderIssuer, "--provider-client-id", b.tenant.ClientID, "--generation", fmt.Sprint(b.tenant.Generation)}, more...)
}

// The printed client logs in at the server of those labels and at no other.
func TestClientsThatAreCreatedLogIn(t *testing.T) {
	const verifier = "a-code-verifier-of-at-least-43-characters-xx"
	for _, c := range []struct {
		name  string
		flags []string
		auth  string
	}{
		{"by default with its secret in the header", nil, "client_secret_basic"},
		{"with its secret in the body", []string{"--auth", "client_secret_post"}, "client_secret_post"},
		{"without a secret", []string{"--auth", "none"}, "none"},
		{"with the URL as a person may type it", []string{"--public-url", "https://mcp.localhost/wiki/"}, "client_secret_basic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			var out strings.Builder
			const redirect = "https://copilot.example/callback?a=b&c=d"
			if err := run(b.flags(append(c.flags, "--redirect-uri", redirect, "--redirect-uri", "myapp:/callback/2", "--private-redirect-uri", "myapp:/callback", "--name", "Copilot")...), nil, &out); err != nil {
				t.Fatal(err)
			}
			var info issuer.ClientInformation
			if err := json.Unmarshal([]byte(out.String()), &info); err != nil || !strings.Contains(out.String(), redirect) {
				t.Fatalf("%v: %s", err, out.String())
			}
			if info.TokenEndpointAuthMethod != c.auth || (info.ClientSecret != "") != (c.auth != "none") || (info.ClientSecretExpiresAt != nil) != (c.auth != "none") || info.ClientName != "Copilot" || len(info.RedirectURIs) != 2 {
				t.Errorf("%s", out.String())
			}
			ask := func(base string) string {
				return base + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {info.ClientID}, "redirect_uri": {redirect}, "state": {"s"},
					"code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"}}.Encode()
			}
			browser := issuertest.NewBrowser(t, b.net)
			if p := browser.Get(ask("https://mcp.localhost/world")); p.Status != 400 || p.Next() != "" {
				t.Errorf("at another server: status %d", p.Status)
			}
			if p := browser.Get(ask(b.tenant.PublicURL)); !strings.Contains(p.Body, "“Copilot”") {
				t.Errorf("the page says %s", p.Body)
			}
			code := browser.Login(ask(b.tenant.PublicURL)).Query().Get("code")
			redeem := func(base, secret string) int {
				form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
				if c.auth != "client_secret_basic" {
					form.Set("client_id", info.ClientID)
					form.Set("client_secret", secret)
				}
				r, err := http.NewRequest("POST", base+"/oauth/token", strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if c.auth == "client_secret_basic" {
					r.SetBasicAuth(info.ClientID, secret)
				}
				resp, err := b.net.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			if got := redeem("https://mcp.localhost/world", info.ClientSecret); got != 401 {
				t.Errorf("at another server: status %d", got)
			}
			if c.auth != "none" {
				wrong := base64.RawURLEncoding.EncodeToString([]byte("a secret of 32 bytes, not theirs"))
				if got := redeem(b.tenant.PublicURL, wrong); got != 401 {
					t.Errorf("with a wrong secret: status %d", got)
				}
			}
			if got := redeem(b.tenant.PublicURL, info.ClientSecret); got != 200 {
				t.Errorf("status %d", got)
			}
		})
	}
}

// A client belongs to one tenant: if any label differs, the sidecar does not know it.
func TestClientOfOtherLabelsIsUnknown(t *testing.T) {
	b := newBench(t)
	for _, change := range [][]string{
		nil, {"--public-url", "https://mcp.localhost/world"}, {"--resource", "world"}, {"--audience", "wiki"}, {"--provider-issuer", "https://idp.example"},
		{"--provider-client-id", "other"}, {"--generation", "4"},
	} {
		var out strings.Builder
		if err := run(b.flags(append(change, "--redirect-uri", "https://copilot.example/callback")...), nil, &out); err != nil {
			t.Fatal(err)
		}
		var info issuer.ClientInformation
		if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
			t.Fatal(err)
		}
		query := url.Values{"response_type": {"code"}, "client_id": {info.ClientID}, "code_challenge": {challenge("x")}, "code_challenge_method": {"S256"}}
		p := issuertest.NewBrowser(t, b.net).Get(b.tenant.PublicURL + "/oauth/authorize?" + query.Encode())
		if known := p.Status == 200; known != (change == nil) {
			t.Errorf("%v: status %d", change, p.Status)
		}
	}
}

func TestClientsThatAreNotCreated(t *testing.T) {
	good := []string{"--public-url", "https://mcp.localhost/wiki", "--resource", "wiki", "--provider-issuer", "https://idp.example", "--provider-client-id", "c", "--redirect-uri", "https://app.example/cb"}
	for _, c := range []struct {
		name string
		args []string
		says string // all of the error, or its beginning
	}{
		{"no command", []string{}, "client: the command is `client create`; --help lists its flags"},
		{"another command", []string{"delete"}, "client: the command is `client create`"},
		{"nothing given: all that is missing is named", []string{"create"}, "client create: --public-url, --resource, --provider-issuer, --provider-client-id, --redirect-uri missing; what is made is bound to what the labels say"},
		{"no redirect URI", append([]string{"create"}, good[:8]...), "client create: --redirect-uri missing"},
		{"no public URL", append([]string{"create"}, good[2:]...), "client create: --public-url missing"},
		{"an unknown flag", append([]string{"create", "--scopes", "x"}, good...), "client create: flag provided but not defined: -scopes"},
		{"a machine that always proves a key", append(append([]string{"create"}, good[:8]...), "--grant", "client_credentials", "--subject", "robot", "--dpop-bound"), "client create: --dpop-bound does not go with --grant client_credentials"},
		{"a word too many", append([]string{"create"}, append(good, "now")...), `client create: "now" is no flag`},
		{"a generation that is no number", append([]string{"create", "--generation", "two"}, good...), "client create: invalid value"},
		{"a generation beyond the label's", append([]string{"create", "--generation", "4294967296"}, good...), "client create: --generation must be at most"},
		{"a method that needs a document", append([]string{"create", "--auth", "private_key_jwt"}, good...), "client create: invalid_client_metadata: token_endpoint_auth_method"},
		{"a redirect URI of http elsewhere", append([]string{"create", "--redirect-uri", "http://app.example/"}, good...), `client create: --redirect-uri "http://app.example/" is not acceptable`},
		{"only redirect URIs that are refused", append(append([]string{"create"}, good[:8]...), "--redirect-uri", "javascript:alert(1)"), "client create: invalid_redirect_uri: redirect_uris: number 1"},
		{"a scheme without a dot that the label does not name", append(append([]string{"create"}, good[:8]...), "--redirect-uri", "myapp:/callback", "--private-redirect-uri", "otherapp:/callback"), "client create: invalid_redirect_uri: redirect_uris: number 1"},
		{"a public URL in capitals", append(append([]string{"create"}, good...), "--public-url", "https://MCP.localhost/wiki"), "client create: --public-url must be written as in"},
		{"a public URL with its default port", append(append([]string{"create"}, good...), "--public-url", "https://mcp.localhost:443/wiki"), "client create: --public-url must be written as in"},
		{"a public URL with a query", append(append([]string{"create"}, good...), "--public-url", "https://mcp.localhost/wiki?a"), "client create: --public-url must be written as in"},
		{"a public URL without a scheme", append(append([]string{"create"}, good...), "--public-url", "mcp.localhost/wiki"), "client create: --public-url must be written as in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
			var out strings.Builder
			err := run(append([]string{"client"}, c.args...), nil, &out)
			if err == nil || !strings.HasPrefix(err.Error(), c.says) || out.Len() > 0 {
				t.Errorf("error %v, out %q, want %s", err, out.String(), c.says)
			}
		})
	}
	t.Run("without a master", func(t *testing.T) {
		clean(t, nil)
		if err := run(append([]string{"client", "create"}, good...), nil, &strings.Builder{}); err == nil || !strings.HasPrefix(err.Error(), "client create: BOUNCER_ENCRYPTION_KEY is not set") {
			t.Errorf("error %v", err)
		}
	})
}

// What it means at the token endpoint is TestDPoPClientThatAlwaysProves.
func TestClientThatIsCreatedMayBeBoundToItsKey(t *testing.T) {
	for _, bound := range []bool{false, true} {
		b := newBench(t)
		args := []string{"--redirect-uri", "https://copilot.example/callback"}
		if bound {
			args = append(args, "--dpop-bound")
		}
		var out strings.Builder
		if err := run(b.flags(args...), nil, &out); err != nil {
			t.Fatal(err)
		}
		var info struct {
			Bound bool `json:"dpop_bound_access_tokens"`
		}
		if err := json.Unmarshal([]byte(out.String()), &info); err != nil || info.Bound != bound {
			t.Errorf("%q made %s (%v)", args, out.String(), err)
		}
	}
}

func TestHelpOfClientCreate(t *testing.T) {
	clean(t, nil)
	for _, flag := range []string{"--help", "-h"} {
		var out strings.Builder
		if err := run([]string{"client", "create", flag}, nil, &out); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
		for _, name := range []string{"-public-url URL", "-resource label", "-audience label", "-provider-issuer label", "-provider-client-id label", "-generation label", "-name name", "-auth method", "-redirect-uri URI", "-private-redirect-uri label", "-grant type", "-subject sub", "-scope scopes", "-jwks file", "-dpop-bound"} {
			if !strings.Contains(out.String(), "  "+name+"\n") {
				t.Errorf("%s does not explain %s: %s", flag, name, out.String())
			}
		}
	}
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
