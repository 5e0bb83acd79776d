//go:build go1.21

package plugin

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestBadLabelsAreNamedInTheLogAndAnswered503(t *testing.T) {
	type labels func(c *Config)
	for _, c := range []struct {
		name string
		set  labels
		want string // in the log line
	}{
		{"providerIssuer missing", func(c *Config) { c.ProviderIssuer = "" }, "label providerIssuer: required"},
		{"providerIssuer without scheme", func(c *Config) { c.ProviderIssuer = "accounts.google.com" }, "label providerIssuer"},
		{"providerIssuer with a query", func(c *Config) { c.ProviderIssuer = "https://a.example/?x=1" }, "label providerIssuer"},
		{"providerIssuer of a no-break space", func(c *Config) { c.ProviderIssuer = []any{"\u00a0"} }, "label providerIssuer: required"},
		{"clientID missing", func(c *Config) { c.ClientID = " " }, "label clientID: required"},
		{"clientID of a blank in a list", func(c *Config) { c.ClientID = []any{" "} }, "label clientID: required"},
		{"clientSecret beside a key", func(c *Config) { c.ClientAuth = "private_key_jwt" }, "label clientSecret: with clientAuth=private_key_jwt there is none"},
		{"clientAuth in other letters, and no secret", func(c *Config) { c.ClientAuth = "PRIVATE_KEY_JWT"; c.ClientSecret = nil }, "label clientAuth: give auto, basic, post or private_key_jwt"},
		{"clientAuth in the RFC's words", func(c *Config) { c.ClientAuth = "client_secret_post" }, "label clientAuth: give auto, basic, post or private_key_jwt"},
		{"providerType that is none", func(c *Config) { c.ProviderType = "gitlab" }, "label providerType: give oidc, github or oauth2"},
		{"an endpoint of an OpenID provider", func(c *Config) { c.TokenEndpoint = "https://idp.example/token" }, "label tokenEndpoint: belongs to providerType=oauth2"},
		{"an endpoint of GitHub", func(c *Config) { c.ProviderType = "github"; c.UserinfoEndpoint = "https://a.example/me" }, "label userinfoEndpoint: belongs to providerType=oauth2"},
		{"claimNames of an OpenID provider", func(c *Config) { c.ClaimNames = "sub=id" }, "label claimNames: belongs to providerType=oauth2"},
		{"groupsClaim of GitHub", func(c *Config) { c.ProviderType = "github"; c.GroupsClaim = "teams" }, "label groupsClaim: GitHub has no such claim"},
		{"groupsClaim of GitHub by its issuer alone", func(c *Config) { c.ProviderIssuer = "https://github.com/"; c.GroupsClaim = "name" }, "label groupsClaim: GitHub has no such claim"},
		{"GitHub with www", func(c *Config) { c.ProviderIssuer = "https://www.github.com" }, "label providerIssuer: www.github.com is no OpenID provider; for GitHub write https://github.com"},
		{"GitHub in capitals", func(c *Config) { c.ProviderIssuer = "https://GitHub.com"; c.ProviderType = "github" }, "for GitHub write https://github.com"},
		{"GitHub's API", func(c *Config) { c.ProviderIssuer = "https://api.github.com/" }, "for GitHub write https://github.com"},
		{"an organisation of GitHub", func(c *Config) { c.ProviderIssuer = "https://github.com/acme" }, "label providerIssuer: github.com/acme is no OpenID provider; for GitHub write https://github.com"},
		{"a key at GitHub by its issuer alone", func(c *Config) {
			c.ProviderIssuer = "https://github.com"
			c.ClientAuth = "private_key_jwt"
			c.ClientSecret = nil
		}, "label clientAuth: private_key_jwt is for OpenID providers"},
		{"a key at GitHub", func(c *Config) {
			c.ProviderType = "github"
			c.ClientAuth = "private_key_jwt"
			c.ClientSecret = nil
		}, "label clientAuth: private_key_jwt is for OpenID providers"},
		{"oauth2 without an endpoint", func(c *Config) { oauth(c); c.AuthorizationEndpoint = nil }, "label authorizationEndpoint: required with providerType=oauth2"},
		{"oauth2 with an endpoint on plain http", func(c *Config) { oauth(c); c.TokenEndpoint = "http://idp.example/token" }, "label tokenEndpoint: plain http is accepted only for localhost"},
		{"oauth2 with a fragment", func(c *Config) { oauth(c); c.UserinfoEndpoint = "https://idp.example/me#x" }, "label userinfoEndpoint: give an https URL"},
		{"oauth2 without claimNames", func(c *Config) { oauth(c); c.ClaimNames = nil }, "label claimNames: say with providerType=oauth2 what the provider calls a person's id"},
		{"oauth2 without sub", func(c *Config) { oauth(c); c.ClaimNames = "email=mail" }, "label claimNames: say with providerType=oauth2 what the provider calls a person's id"},
		{"oauth2 with a claim that is not known here", func(c *Config) { oauth(c); c.ClaimNames = "sub=id, groups=roles" }, "the names are sub, email, email_verified and name"},
		{"oauth2 with sub twice", func(c *Config) { oauth(c); c.ClaimNames = "sub=id, sub=uid" }, "label claimNames: sub stands there twice"},
		{"providerParameters twice", func(c *Config) { c.ProviderParameters = "prompt=login; prompt=consent" }, "label providerParameters: prompt stands there twice"},
		{"providerParameters that are too long", func(c *Config) { c.ProviderParameters = "a=" + strings.Repeat("x", 999) }, "label providerParameters: at most 1000 characters"},
		{"clientSecret missing", func(c *Config) { c.ClientSecret = "" }, "label clientSecret: required"},
		{"resource missing", func(c *Config) { c.Resource = "" }, "label resource: required"},
		{"resource that makes no path", func(c *Config) { c.Resource = "my wiki" }, "label pathPrefix"},
		{"resource beyond ASCII", func(c *Config) { c.Resource = "wïki" }, "label"},
		{"audience with a line break", func(c *Config) { c.Audience = "a\nb" }, "label audience"},
		{"sidecarURL missing", func(c *Config) { c.SidecarURL = "" }, "label sidecarURL: required"},
		{"sidecarURL without scheme", func(c *Config) { c.SidecarURL = "bouncer:8080" }, "label sidecarURL"},
		{"sidecarURL with a query", func(c *Config) { c.SidecarURL = "http://bouncer:8080/?a" }, "label sidecarURL"},
		{"sidecarURL with a user", func(c *Config) { c.SidecarURL = "http://u:p@bouncer:8080" }, "label sidecarURL"},
		{"sidecarAuth that is none", func(c *Config) { c.SidecarAuth = "iam" }, "label sidecarAuth: give none or sigv4"},
		{"sidecarAuth without a region", func(c *Config) { c.SidecarAuth = "sigv4" }, "label sidecarAuth: the region is neither in sidecarURL"},
		{"scopes with a quote", func(c *Config) { c.Scopes = `openid "x"` }, "label scopes"},
		{"requiredScopes with a backslash", func(c *Config) { c.RequiredScopes = `a\b` }, "label requiredScopes"},
		{"jwksCacheTTLSeconds not a number", func(c *Config) { c.JWKSCacheTTLSeconds = "5m" }, "label jwksCacheTTLSeconds"},
		{"jwksCacheTTLSeconds zero", func(c *Config) { c.JWKSCacheTTLSeconds = "0" }, "label jwksCacheTTLSeconds"},
		{"jwksCacheTTLSeconds too large", func(c *Config) { c.JWKSCacheTTLSeconds = "3601" }, "label jwksCacheTTLSeconds"},
		{"pathPrefix with a dot segment", func(c *Config) { c.PathPrefix = "/a/../b" }, "label pathPrefix"},
		{"pathPrefix without a slash", func(c *Config) { c.PathPrefix = "wiki" }, "label pathPrefix"},
		{"pathPrefix with a star", func(c *Config) { c.PathPrefix = "*" }, "label pathPrefix"},
		{"pathPrefix percent-encoded", func(c *Config) { c.PathPrefix = "/w%69ki" }, "label pathPrefix"},
		{"pathPrefix in the well-known space", func(c *Config) { c.PathPrefix = "/.well-known/x" }, "label pathPrefix"},
		{"publicURL on plain http", func(c *Config) { c.PublicURL = "http://mcp.example.com/wiki" }, "label publicURL"},
		{"publicURL with a query", func(c *Config) { c.PublicURL = "https://mcp.example.com/wiki?a=b" }, "label publicURL"},
		{"publicURL with an empty fragment", func(c *Config) { c.PublicURL = "https://mcp.example.com/wiki#" }, "label publicURL"},
		{"publicURL with a user", func(c *Config) { c.PublicURL = "https://me@mcp.example.com/wiki" }, "label publicURL"},
		{"publicURL without a host", func(c *Config) { c.PublicURL = "https:///wiki" }, "label publicURL"},
		{"publicURL that breaks out of the quotes", func(c *Config) { c.PublicURL = `https://mcp.example.com/wi"ki` }, "label publicURL"},
		{"publicURL and pathPrefix that disagree", func(c *Config) { c.PublicURL = wikiURL; c.PathPrefix = "/world" }, "label pathPrefix: differs"},
		{"mcpPaths without a slash", func(c *Config) { c.MCPPaths = "mcp" }, "label mcpPaths"},
		{"mcpPaths below /oauth", func(c *Config) { c.MCPPaths = "/oauth/token" }, "label mcpPaths"},
		{"wellKnown with a path", func(c *Config) { c.WellKnown = "/.well-known/x" }, "label wellKnown"},
		{"wellKnown with half the path", func(c *Config) { c.WellKnown = ".well-known/x" }, "as they stand behind /.well-known/"},
		{"wellKnown out of the folder", func(c *Config) { c.WellKnown = "x/../../mcp" }, "label wellKnown"},
		{"wellKnown with a star", func(c *Config) { c.WellKnown = "*" }, "label wellKnown"},
		{"wellKnown of the bouncer's", func(c *Config) { c.WellKnown = "agent-card.json oauth-protected-resource" }, "label wellKnown: \"oauth-protected-resource\": the bouncer serves"},
		{"wellKnown of the bouncer's, in other letters", func(c *Config) { c.WellKnown = "OpenID-configuration/x" }, "label wellKnown"},
		{"groupsClaim of two claims", func(c *Config) { c.GroupsClaim = "groups, roles" }, "label groupsClaim: give one claim's name"},
		{"groupsClaim of two lines", func(c *Config) { c.GroupsClaim = "groups\nroles" }, "label groupsClaim: give one claim's name"},
		{"upstreamToken that says nothing", func(c *Config) { c.UpstreamToken = ";" }, "label upstreamToken: says nothing: write header=X-Upstream-Access-Token"},
		{"upstreamToken that says on", func(c *Config) { c.UpstreamToken = "on" }, "label upstreamToken: \"on\": write header=Header-Name"},
		{"upstreamToken of a header without a name", func(c *Config) { c.UpstreamToken = "header=" }, "label upstreamToken: \"header=\": write header=Header-Name"},
		{"upstreamToken of an unknown part", func(c *Config) { c.UpstreamToken = "scope=repo" }, "is none of header=, scopes= and exchange="},
		{"upstreamToken of two headers", func(c *Config) { c.UpstreamToken = "header=X-A; header=X-B" }, "header stands there twice"},
		{"upstreamToken of a variable", func(c *Config) { c.UpstreamToken = "header=${HEADER}" }, "names a variable that nobody has replaced"},
		{"upstreamToken in Authorization", func(c *Config) { c.UpstreamToken = "header=authorization" }, "this header has another meaning"},
		{"upstreamToken in a header of the bouncer", func(c *Config) { c.UpstreamToken = "header=X_Mcp_Sub" }, "letters, digits and hyphens"},
		{"upstreamToken in X-Mcp-Sub", func(c *Config) { c.UpstreamToken = "header=x-mcp-sub" }, "this header has another meaning"},
		{"upstreamToken in the hop header", func(c *Config) { c.UpstreamToken = "header=X-Mcpb-Hop" }, "this header has another meaning"},
		{"upstreamToken in X-Forwarded-For", func(c *Config) { c.UpstreamToken = "header=X-Forwarded-For" }, "this header has another meaning"},
		{"upstreamToken in an identity header", func(c *Config) {
			c.IdentityHeaders = "email=X-Person"
			c.UpstreamToken = "header=x-person"
		}, "the label identityHeaders uses this header too"},
		{"upstreamToken in its own header, which an identity header has", func(c *Config) {
			c.IdentityHeaders = "email=X-Upstream-Access-Token"
			c.UpstreamToken = "scopes=repo"
		}, "the label identityHeaders uses this header too"},
		{"upstreamToken in a header that is too long", func(c *Config) { c.UpstreamToken = "header=X" + strings.Repeat("-a", 32) }, "at most 64"},
		{"upstreamToken of scopes with a comma", func(c *Config) { c.UpstreamToken = "scopes=repo,read:org" }, "label upstreamToken: \"repo,read:org\": not a scope"},
		{"upstreamToken of too many scopes", func(c *Config) { c.UpstreamToken = "scopes=" + strings.Repeat("a ", 600) }, "label upstreamToken: scopes of at most 1024"},
		{"upstreamToken of two audiences", func(c *Config) { c.UpstreamToken = "exchange=a b" }, "not an audience"},
		{"upstreamToken of an audience that is too long", func(c *Config) { c.UpstreamToken = "exchange=" + strings.Repeat("a", 301) }, "not an audience"},
		{"scopeRules without scopes", func(c *Config) { c.ScopeRules = "*=" }, "label scopeRules"},
		{"scopeRules without an =", func(c *Config) { c.ScopeRules = "group:admins" }, "label scopeRules"},
		{"scopeRules of nobody known", func(c *Config) { c.ScopeRules = "team:x=mcp:read" }, "label scopeRules"},
		{"scopeRules without a name", func(c *Config) { c.ScopeRules = "group:=mcp:read" }, "label scopeRules"},
		{"allowedEmails of two empty variables", func(c *Config) { c.AllowedEmails = ", " }, "label allowedEmails: names nobody"},
		{"allowedDomains of a comma", func(c *Config) { c.AllowedDomains = "," }, "label allowedDomains: names nobody"},
		{"allowedGroups of a comma", func(c *Config) { c.AllowedGroups = "," }, "label allowedGroups: names nobody"},
		{"allowedSubjects of a comma", func(c *Config) { c.AllowedSubjects = " ,," }, "label allowedSubjects: names nobody"},
		{"allowedClients of two empty variables", func(c *Config) { c.AllowedClients = ", " }, "label allowedClients: names nobody"},
		{"scopeRules of a semicolon", func(c *Config) { c.ScopeRules = ";" }, "label scopeRules: names nobody"},
		{"toolScopes of a semicolon", func(c *Config) { c.ToolScopes = "; " }, "label toolScopes: holds no rule"},
		{"scopesSupported with offline_access", func(c *Config) { c.ScopesSupported = "docs:read offline_access" }, "label scopesSupported: \"offline_access\": no right"},
		{"scopesSupported with a quote", func(c *Config) { c.ScopesSupported = "a\"b" }, "label scopesSupported"},
		{"privateRedirectURIs with a scheme alone", func(c *Config) { c.PrivateRedirectURIs = "myapp" }, "label privateRedirectURIs: \"myapp\": give addresses"},
		{"privateRedirectURIs without host and path", func(c *Config) { c.PrivateRedirectURIs = "myapp://" }, "label privateRedirectURIs: \"myapp://\": give addresses"},
		{"privateRedirectURIs with a scheme and a slash", func(c *Config) { c.PrivateRedirectURIs = "myapp:/" }, "label privateRedirectURIs: \"myapp:/\": give addresses"},
		{"privateRedirectURIs without a scheme", func(c *Config) { c.PrivateRedirectURIs = "://login/callback" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with a path alone", func(c *Config) { c.PrivateRedirectURIs = "/callback" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with an opaque URI", func(c *Config) { c.PrivateRedirectURIs = "myapp:callback" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with an empty host", func(c *Config) { c.PrivateRedirectURIs = "myapp:///callback" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with a wildcard", func(c *Config) { c.PrivateRedirectURIs = "myapp://login/*" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with a query", func(c *Config) { c.PrivateRedirectURIs = "myapp://login/callback?a" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with a dot segment", func(c *Config) { c.PrivateRedirectURIs = "myapp://login/../x" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with a slash at the end", func(c *Config) { c.PrivateRedirectURIs = "myapp://login/" }, "label privateRedirectURIs"},
		{"privateRedirectURIs in capitals", func(c *Config) { c.PrivateRedirectURIs = "MyApp://login" }, "label privateRedirectURIs"},
		{"privateRedirectURIs with a digit first, which no scheme has", func(c *Config) { c.PrivateRedirectURIs = "2fa://login" }, "label privateRedirectURIs: \"2fa://login\": give addresses"},
		{"privateRedirectURIs with a script", func(c *Config) { c.PrivateRedirectURIs = "myapp://login javascript://x/y" }, "label privateRedirectURIs: \"javascript://x/y\": the scheme javascript is none of an application"},
		{"privateRedirectURIs with data", func(c *Config) { c.PrivateRedirectURIs = "data:/text" }, "the scheme data is none"},
		{"privateRedirectURIs with a file", func(c *Config) { c.PrivateRedirectURIs = "file://host/x" }, "the scheme file is none"},
		{"privateRedirectURIs with a web page", func(c *Config) { c.PrivateRedirectURIs = "https://app.example/cb" }, "the scheme https is none"},
		{"privateRedirectURIs with http", func(c *Config) { c.PrivateRedirectURIs = "http://app.example/cb" }, "the scheme http is none"},
		{"privateRedirectURIs with an Android intent", func(c *Config) { c.PrivateRedirectURIs = "intent://scan" }, "the scheme intent is none"},
		{"privateRedirectURIs with a scheme of Windows", func(c *Config) { c.PrivateRedirectURIs = "ms-settings://x" }, "the scheme ms-settings is none"},
		{"refresh of another kind", func(c *Config) { c.Refresh = "always" }, "label refresh"},
		{"upstreamCheckInterval without a unit", func(c *Config) { c.UpstreamCheckInterval = "60" }, "label upstreamCheckInterval"},
		{"rememberConsent of more than 30 days", func(c *Config) { c.RememberConsent = "721h" }, "label rememberConsent"},
		{"rememberConsent of less than nothing", func(c *Config) { c.RememberConsent = "-1h" }, "label rememberConsent"},
		{"rememberConsent of half a second", func(c *Config) { c.RememberConsent = "500ms" }, "label rememberConsent"},
		{"upstreamCheckInterval of two days", func(c *Config) { c.UpstreamCheckInterval = "48h" }, "label upstreamCheckInterval"},
		{"identityHeaders of a claim that is not known", func(c *Config) { c.IdentityHeaders = "email, phone" }, "label identityHeaders"},
		{"identityHeaders in a header of HTTP", func(c *Config) { c.IdentityHeaders = "email=Authorization" }, "label identityHeaders"},
		{"backendAuthorization with the value itself", func(c *Config) { c.BackendAuthorization = "Bearer secret-of-the-server" }, "label backendAuthorization"},
		{"methodScopes without scopes", func(c *Config) { c.MethodScopes = "tools/call=" }, "label methodScopes"},
		{"toolScopes with a star in the middle", func(c *Config) { c.ToolScopes = "a*b=x" }, "label toolScopes"},
		{"resourceScopes without =", func(c *Config) { c.ResourceScopes = "file:///a" }, "label resourceScopes"},
		{"promptScopes with a rule twice", func(c *Config) { c.PromptScopes = "a=x;a=y" }, "label promptScopes"},
		{"hideTools without rules", func(c *Config) { c.HideTools = "true" }, "label hideTools"},
		{"displayName of 65 letters", func(c *Config) { c.DisplayName = strings.Repeat("ü", 65) }, "label displayName"},
		{"logo that is an address", func(c *Config) { c.Logo = "https://evil.example/logo.png" }, "label logo"},
		{"logo that is a page", func(c *Config) { c.Logo = "data:text/html,x" }, "label logo"},
		{"logo beyond ASCII", func(c *Config) { c.Logo = "data:image/svg+xml,ü" }, "label logo"},
		{"logo of 3001 characters", func(c *Config) { c.Logo = "data:image/png;base64," + strings.Repeat("A", 2979) }, "label logo"},
		{"exchange unknown", func(c *Config) { c.Exchange = "eager" }, "label exchange"},
		{"generation negative", func(c *Config) { c.Generation = "-1" }, "label generation"},
		{"generation not a number", func(c *Config) { c.Generation = "two" }, "label generation"},
		{"an unknown label", func(c *Config) { c.Extra = map[string]any{"requiredScope": "a"} }, `unknown label "requiredScope"`},
		{"requiredScopes with offline_access, which nobody would ever have", func(c *Config) { c.RequiredScopes = "docs:read\toffline_access" }, "label requiredScopes: \"offline_access\": no right"},
		{"scopes too long for a token", func(c *Config) { c.Scopes = strings.Repeat("s ", 600) }, "labels scopes and requiredScopes"},
		{"labels too long for the hop", func(c *Config) { c.ClientSecret = strings.Repeat("s", 6000) }, "longer than"},
		{"a provider without TLS elsewhere", func(c *Config) { c.ProviderIssuer = "http://idp.example" }, "label providerIssuer"},
	} {
		log := start(t)
		config := wikiConfig("http://127.0.0.1:1")
		c.set(config)
		h, behind := guard(t, config)
		if !strings.Contains(log.String(), c.want) || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%s: logged %q, want one line with %q", c.name, log.String(), c.want)
		}
		if strings.Contains(log.String(), "secret-of") {
			t.Errorf("%s: the client secret is in the log", c.name)
		}
		for _, path := range []string{"/wiki", "/wiki/.well-known/oauth-protected-resource", "/elsewhere"} {
			rec := ask(h, "GET", "https://mcp.localhost"+path)
			if rec.Code != 503 || rec.Body.String() != `{"error":"misconfigured"}` {
				t.Errorf("%s: %s answers %d %s", c.name, path, rec.Code, rec.Body)
			}
		}
		if behind.count() != 0 {
			t.Errorf("%s: the MCP server was reached", c.name)
		}
	}
}

func TestConfigurationThatIsMissingIsAnswered503(t *testing.T) {
	start(t)
	h, _ := guard(t, nil)
	if rec := ask(h, "GET", wikiURL); rec.Code != 503 {
		t.Errorf("status %d", rec.Code)
	}
}

func TestLabelsOfTheOriginalSuffice(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	if rec.Code != 200 || behind.count() != 1 || log.String() != "" {
		t.Errorf("status %d, %d calls, log %q", rec.Code, behind.count(), log)
	}
}

// The public URL of a request is the issuer that its token must name.
func TestPublicURL(t *testing.T) {
	for _, c := range []struct {
		name      string
		publicURL string // label
		prefix    string // label
		url       string
		headers   []string
		want      int
		issuer    string // when want is 200
	}{
		{"derived from the Host", "", "", "https://mcp.localhost/wiki", nil, 200, "https://mcp.localhost/wiki"},
		{"derived from X-Forwarded-Host", "", "", "https://10.0.0.1/wiki", []string{"X-Forwarded-Host", "MCP.localhost"}, 200, "https://mcp.localhost/wiki"},
		{"derived from the first of several X-Forwarded-Host", "", "", "https://a.example/wiki", []string{"X-Forwarded-Host", "mcp.localhost, b.example"}, 200, "https://mcp.localhost/wiki"},
		{"the port is kept", "", "", "https://mcp.localhost:8443/wiki", nil, 200, "https://mcp.localhost:8443/wiki"},
		{"the default port is not", "", "", "https://mcp.localhost:443/wiki", nil, 200, "https://mcp.localhost/wiki"},
		{"a WebSocket's wss is https", "", "", "http://mcp.localhost/wiki", []string{"X-Forwarded-Proto", "wss"}, 200, "https://mcp.localhost/wiki"},
		{"a WebSocket's ws is http", "", "", "http://mcp.localhost/wiki", []string{"X-Forwarded-Proto", "ws"}, 200, "http://mcp.localhost/wiki"},
		{"plain http on localhost", "", "", "http://localhost:8000/wiki", nil, 200, "http://localhost:8000/wiki"},
		{"plain http on 127.0.0.1", "", "", "http://127.0.0.1/wiki", nil, 200, "http://127.0.0.1/wiki"},
		{"plain http on [::1]", "", "", "http://[::1]:8000/wiki", nil, 200, "http://[::1]:8000/wiki"},
		{"plain http elsewhere", "", "", "http://mcp.example.com/wiki", nil, 400, ""},
		{"plain http on a name that only looks local", "", "", "http://localhost.example.com/wiki", nil, 400, ""},
		{"a host that breaks out of the quotes", "", "", "https://a.example/wiki", []string{"X-Forwarded-Host", `a"b`}, 400, ""},
		{"a host with a path", "", "", "https://a.example/wiki", []string{"X-Forwarded-Host", "a.example/x"}, 400, ""},
		{"a host with a user", "", "", "https://a.example/wiki", []string{"X-Forwarded-Host", "me@a.example"}, 400, ""},
		{"an empty X-Forwarded-Host", "", "", "https://mcp.localhost/wiki", []string{"X-Forwarded-Host", ""}, 200, "https://mcp.localhost/wiki"},
		{"a port that is none", "", "", "https://a.example/wiki", []string{"X-Forwarded-Host", "a.example:x"}, 400, ""},
		{"configured", "https://mcp.localhost/wiki/", "", "https://mcp.localhost/wiki", nil, 200, "https://mcp.localhost/wiki"},
		{"configured in capitals with the default port", "HTTPS://MCP.localhost:443/wiki", "", "https://mcp.localhost/wiki", nil, 200, "https://mcp.localhost/wiki"},
		{"configured, TLS ends before this proxy", "https://mcp.example.com/wiki", "", "http://mcp.example.com/wiki", nil, 200, "https://mcp.example.com/wiki"},
		{"configured, and the default port in the request", "https://mcp.example.com/wiki", "", "https://mcp.example.com:443/wiki", nil, 200, "https://mcp.example.com/wiki"},
		{"configured, another host", "https://mcp.example.com/wiki", "", "https://evil.example/wiki", nil, 421, ""},
		{"configured, another port", "https://mcp.example.com/wiki", "", "https://mcp.example.com:8443/wiki", nil, 421, ""},
		{"pathPrefix agrees with it", "https://mcp.localhost/a/b", "/a/b/", "https://mcp.localhost/a/b/mcp", nil, 200, "https://mcp.localhost/a/b"},
		{"the tenant owns the host", "", "/", "https://mcp.localhost/any/thing", nil, 200, "https://mcp.localhost"},
		{"the tenant owns the configured host", "https://mcp.localhost/", "", "https://mcp.localhost/", nil, 200, "https://mcp.localhost"},
		{"the same with a pathPrefix", "https://mcp.localhost", "/", "https://mcp.localhost/mcp", nil, 200, "https://mcp.localhost"},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.PublicURL = c.publicURL
		config.PathPrefix = c.prefix
		h, _ := guard(t, config)
		token := goodToken("k1", map[string]any{"iss": c.issuer})
		rec := ask(h, "GET", c.url, append(append([]string{}, c.headers...), bearer(token)...)...)
		if rec.Code != c.want {
			t.Errorf("%s: status %d %s, want %d", c.name, rec.Code, challenges(rec), c.want)
		}
		again := ask(h, "GET", c.url, append(append([]string{}, c.headers...), bearer(token)...)...)
		if again.Code != c.want {
			t.Errorf("%s: the second time status %d, want %d", c.name, again.Code, c.want)
		}
	}
}

// A plain publicURL is read in a shorter way; with pathPrefix, in the longer one.
func TestPublicURLMeansTheSameWithAndWithoutItsPathPrefix(t *testing.T) {
	start(t)
	accepted := 0
	for _, sidecar := range []string{"http://127.0.0.1:1", "https://a.example", "https://a.example/wiki/below"} {
		for _, host := range []string{
			"https://a.example", "http://a.example", "HTTPS://a.example", "https://A.example", "https://a.example:443", "https://a.example:8443", "https://a.example:", "https://a.example.", "https://a..example",
			"https://-a.example", "https://.a.example", "https://a_b.example", "https://a.example_b", "https://myHost", "https://127.0.0.1", "https://[::1]", "https://me@a.example", "https://\u00e4.example", "https://", "https:", "a.example", " https://a.example",
		} {
			for _, path := range []string{
				"", "/", "/wiki", "/wiki/", "/a/b", "/a//b", "/a/./b", "/a/../b", "/a/.b", "/a/..", "/a..", "/~a/-b/_c.d", "/.well-known", "/.well-known/x", "/a/.well-known/x",
				"/a%20b", "/a%2fb", "/a b", "/a;b", "/a\\b", "/a*", "/\u00e4", "/a?b", "/a#", "/a\n", "\n", "/" + strings.Repeat("a", 199), "/" + strings.Repeat("a", 200), "/a" + strings.Repeat("/a", 99), "/a" + strings.Repeat("/a", 100),
			} {
				config := wikiConfig(sidecar)
				config.PublicURL = host + path
				got := meant(config)
				config.PathPrefix = either(path, "/")
				want := meant(config)
				if got != want {
					t.Errorf("%q, the sidecar at %s, is read as\n%s, with its pathPrefix as\n%s", host+path, sidecar, got, want)
				}
				if !strings.HasPrefix(got, "label ") {
					accepted++
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("none is accepted")
	}
}

func TestSidecarIsToldOwnLabelsWithAnyPrintableCharacter(t *testing.T) {
	start(t)
	for _, character := range printable {
		value := "a" + string(character) + "b"
		config := wikiConfig("http://127.0.0.1:1")
		config.PathPrefix = "/wiki"
		config.Resource = value
		config.ClientID = value
		config.ClientSecret = value
		s, err := parseConfig(config)
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		for _, label := range []string{"resource", "clientID", "clientSecret"} {
			if !strings.Contains(s.told, `,"`+label+`":`+quote(value)+",") && !strings.HasSuffix(s.told, `,"`+label+`":`+quote(value)) {
				t.Errorf("%q as %s: the sidecar is told %s", value, label, s.told)
			}
		}
		if strings.Contains(s.told, "audience") || strings.Contains(s.told, "displayName") {
			t.Errorf("%q: the sidecar is told %s", value, s.told)
		}
	}
}

// Clients choose the spelling of the host. They must not choose how often a header is sealed under
// the hop key.
func TestSpellingsOfOneHostAreOneTenant(t *testing.T) {
	start(t)
	s, err := parseConfig(wikiConfig("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBouncer("wiki@docker", http.NotFoundHandler(), s)
	for i := 0; i < 64; i++ {
		host := []byte("mcp.localhost")
		for bit := 0; bit < 6; bit++ {
			if i>>uint(bit)&1 == 1 {
				at := bit
				if host[at] == '.' {
					at = 7
				}
				host[at] = host[at] - 'a' + 'A'
			}
		}
		ask(shortWay(b), "GET", "https://"+string(host)+"/wiki")
	}
	if len(b.strangers) != 1 {
		t.Errorf("%d tenants for one host", len(b.strangers))
	}
}

// A loop over the pieces of a header is interpreted, so a stranger could occupy Traefik for seconds
// with a megabyte.
func TestOversizedHeadersAreRefusedUnread(t *testing.T) {
	start(t)
	h, behind := guard(t, wikiConfig("http://127.0.0.1:1"))
	many := []string{}
	for i := 0; i < maxHeaders+1; i++ {
		many = append(many, fmt.Sprintf("X-M%d", i), "1")
	}
	for _, c := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"a megabyte of cookies", []string{"Cookie", strings.Repeat("a;", 500000)}, 431},
		{"cookies of 32 KB in two headers", []string{"Cookie", strings.Repeat("a", 20000), "Cookie", strings.Repeat("a", 20000)}, 431},
		{"more than 200 headers", many, 431},
		{"cookies as browsers have them", []string{"Cookie", strings.Repeat("a=b; ", 1000)}, 401},
	} {
		for _, path := range []string{"/wiki/mcp", "/wiki/oauth/jwks.json"} {
			if path != "/wiki/mcp" && c.want != 431 {
				continue
			}
			if rec := ask(h, "GET", wikiURL+strings.TrimPrefix(path, "/wiki"), c.headers...); rec.Code != c.want {
				t.Errorf("%s at %s: status %d, want %d", c.name, path, rec.Code, c.want)
			}
		}
	}
	rec := ask(h, "OPTIONS", wikiURL+"/mcp", "Origin", "https://a.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", strings.Repeat("a,", 500000))
	if got := rec.Header().Get("Access-Control-Allow-Headers"); got != allowedHeaders {
		t.Errorf("preflight with half a million headers: allowed %d characters", len(got))
	}
	if behind.count() != 0 {
		t.Error("the MCP server was reached")
	}
}

func TestResponseWriterIsHandedOnUntouched(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	rec := ask(h, "GET", wikiURL+"/sse", bearer(goodToken("k1", nil))...)
	if given, is := behind.rw.(*httptest.ResponseRecorder); !is || given != rec {
		t.Errorf("the MCP server got %T, not the writer that the middleware was given", behind.rw)
	}
}

func TestServerSentEventsPassOneByOne(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	more := make(chan struct{})
	stream := func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for i := 0; i < 3; i++ {
			fmt.Fprintf(rw, "data: %d\n\n", i)
			rw.(http.Flusher).Flush()
			select {
			case <-more:
			case <-req.Context().Done():
				return
			}
		}
	}
	h, err := New(context.Background(), http.HandlerFunc(stream), wikiConfig(sidecar.server.URL), "wiki")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	// not deferred: Yaegi holds a lock of this function during its deferred calls, and stream needs
	// it to end
	t.Cleanup(server.Close)
	url := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	req, _ := http.NewRequest("GET", url+"/wiki/sse", nil)
	req.Header.Set("Authorization", "Bearer "+goodToken("k1", map[string]any{"iss": url + "/wiki"}))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := 0; i < 3; i++ { // each event is read while the server waits to send the next
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		_, _ = lines.ReadString('\n')
		more <- struct{}{}
	}
}

func TestOAuthPathsGoToTheSidecar(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	h, behind := guard(t, config)
	req := httptest.NewRequest("POST", "https://mcp.localhost/wiki/oauth/token?a=1&a=2", strings.NewReader("grant_type=x"))
	req.RemoteAddr = net.JoinHostPort("192.0.2.9", "1234")
	for name, value := range map[string]string{
		"Authorization": "Basic YTpi", "Content-Type": "application/x-www-form-urlencoded", "Origin": "https://a.example",
		"Sec-Fetch-Site": "cross-site", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "mcp.localhost", "X-Forwarded-For": "198.51.100.1",
		"X_Mcpb_Hop": "forged", "X_Mcpb_Authorization": "forged", "X-Mcpb-Authorization": "forged", "X-Mcpb-Hop": "forged", "X-Mcp-Sub": "root", "X.mcp.scopes": "all", "Connection": "X-Mcpb-Hop",
		"Cookie": "session=1; __Host-mcpb-flow=a; mcpb-flow=b; other=2",
	} {
		req.Header[name] = []string{value}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != 200 || rec.Body.String() != "POST /oauth/token?a=1&a=2" || behind.count() != 0 {
		t.Fatalf("status %d, body %s, %d calls of the MCP server", rec.Code, rec.Body, behind.count())
	}
	got := sidecar.lastRequest().Header
	for name, want := range map[string]string{
		"Authorization": "Basic YTpi", "Content-Type": "application/x-www-form-urlencoded", "Origin": "https://a.example", "Sec-Fetch-Site": "cross-site",
		"X-Forwarded-For": "198.51.100.1, 192.0.2.9", "Cookie": "__Host-mcpb-flow=a; mcpb-flow=b",
		"X_mcpb_hop": "", "X_Mcpb_Authorization": "", "X-Mcpb-Authorization": "", "X-Mcp-Sub": "", "X.mcp.scopes": "", "X-Forwarded-Host": "", "X-Forwarded-Proto": "",
	} {
		if strings.Join(got[name], "|") != want {
			t.Errorf("the sidecar got %s: %q, want %q", name, got[name], want)
		}
	}
	payload, err := openHop(bytes.Repeat([]byte{7}, 32), clock.Load(), strings.Join(got[hopHeader], "|"))
	if err != nil {
		t.Fatal(err)
	}
	// Each label with a default has it here, and such a member is not sent.
	const want = `{"v":1,"publicURL":"https://mcp.localhost/wiki","resource":"wiki","providerIssuer":"https://accounts.google.com",` +
		`"clientID":"client.apps.googleusercontent.com","clientSecret":"secret-of-the-upstream-client"}`
	if payload != want {
		t.Errorf("the sidecar is told\n%s, want\n%s", payload, want)
	}
}

// The operator's brand reaches the sidecar, which shows it.
func TestDisplayNameAndLogoGoToTheSidecar(t *testing.T) {
	for _, c := range []struct{ name, displayName, logo, want string }{
		{"neither: people are shown the resource", "", "", `"displayName":"wiki","logo":"",`},
		{"a name of 64 letters", strings.Repeat("ü", 64), "", `"displayName":"` + strings.Repeat("ü", 64) + `","logo":"",`},
		{"both", "Das Wiki", "data:image/png;base64,iVBORw0KGgo=", `"displayName":"Das Wiki","logo":"data:image/png;base64,iVBORw0KGgo=",`},
		{"a logo of 3000 characters", "", "data:image/png;base64," + strings.Repeat("A", 2978), strings.Repeat("A", 2978) + `",`},
	} {
		log := start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.DisplayName = c.displayName
		config.Logo = c.logo
		h, _ := guard(t, config)
		ask(h, "GET", wikiURL+"/oauth/x")
		payload, err := told(sidecar.lastRequest().Header.Get(hopHeader))
		if err != nil || !strings.Contains(payload, c.want) || log.String() != "" {
			t.Errorf("%s: %v, the sidecar is told %s; log %q", c.name, err, payload, log)
		}
	}
}

// The sidecar compares the redirect URIs that the operator allows.
func TestPrivateRedirectURIsGoToTheSidecar(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PrivateRedirectURIs = "myapp://login/callback, my-app2:/cb workbuddy://workbuddy/mcp/connector%3A/oauth/callback"
	h, _ := guard(t, config)
	ask(h, "GET", wikiURL+"/oauth/x")
	payload, err := told(sidecar.lastRequest().Header.Get(hopHeader))
	if want := `"privateRedirectURIs":["myapp://login/callback","my-app2:/cb","workbuddy://workbuddy/mcp/connector%3A/oauth/callback"],`; err != nil || !strings.Contains(payload, want) || log.String() != "" {
		t.Errorf("%v, the sidecar is told %s; log %q", err, payload, log)
	}
}

func TestSidecarAwayIs502AndNeverTheMCPServer(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL + "/base/")
	h, behind := guard(t, config)
	if rec := ask(h, "GET", wikiURL+"/oauth/x?y"); rec.Body.String() != "GET /base/oauth/x?y" {
		t.Errorf("a sidecarURL with a path: the sidecar was asked %s", rec.Body)
	}
	sidecar.server.Close()
	sidecarTransport.CloseIdleConnections()
	for _, path := range []string{"/oauth/token", "/.well-known/oauth-authorization-server"} {
		rec := ask(h, "POST", wikiURL+path)
		if rec.Code != 502 || rec.Body.String() != unavailable || rec.Header().Get("Retry-After") != "5" || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s %v", path, rec.Code, rec.Body, rec.Header())
		}
	}
	for _, path := range []string{"/oauth/authorize?client_id=x", "/oauth/consent", "/oauth/callback?code=x"} {
		rec := ask(h, "GET", wikiURL+path)
		if rec.Code != 502 || rec.Body.String() != unavailablePage || rec.Header().Get("Content-Type") != "text/html; charset=utf-8" ||
			rec.Header().Get("Content-Security-Policy") != "default-src 'none'; frame-ancestors 'none'" || rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("Retry-After") != "5" {
			t.Errorf("where a person is, %s: %d %s %v", path, rec.Code, rec.Body, rec.Header())
		}
	}
	if behind.count() != 0 {
		t.Error("the MCP server was reached")
	}
	if strings.Count(log.String(), "\n") != 1 {
		t.Errorf("logged %q, want one line for both", log)
	}
}

func TestHopKeyProblemsAre503(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.HopKeyFile = "/nonexistent/hop.key"
	h, _ := guard(t, config)
	rec := ask(h, "GET", wikiURL+"/oauth/x")
	if rec.Code != 503 || !strings.Contains(log.String(), "hopKeyFile") || !strings.Contains(log.String(), "/nonexistent/hop.key") {
		t.Errorf("missing file: status %d, log %q", rec.Code, log)
	}
	log = start(t)
	sidecar.refuses = true
	h, _ = guard(t, wikiConfig(sidecar.server.URL))
	rec = ask(h, "GET", wikiURL+"/oauth/x")
	if rec.Code != 503 || !strings.Contains(log.String(), "the sidecar refuses the hop header: its master secret is not that of this hop key (key id ") {
		t.Errorf("refused key: status %d, log %q", rec.Code, log)
	}
}

func TestConcurrentRequestsKeepTheirIdentities(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	var mixed atomic.Int64
	check := func(rw http.ResponseWriter, req *http.Request) {
		if req.Header.Get("X-Mcp-Sub") != req.Header.Get("X-Expected") {
			mixed.Add(1)
		}
	}
	h, _ := New(context.Background(), http.HandlerFunc(check), wikiConfig(sidecar.server.URL), "wiki")
	tokens := []string{}
	for i := 0; i < 20; i++ {
		tokens = append(tokens, goodToken("k1", map[string]any{"sub": fmt.Sprint("user-", i)}))
	}
	var all sync.WaitGroup
	ask8 := func(offset int) {
		defer all.Done()
		for i := 0; i < 60; i++ {
			n := (i + offset) % len(tokens)
			rec := ask(h, "POST", wikiURL+"/mcp", "Authorization", "Bearer "+tokens[n], "X-Expected", fmt.Sprint("user-", n))
			bad := ask(h, "POST", wikiURL+"/mcp", "Authorization", "Bearer "+tokens[n][:len(tokens[n])-4]+"AAAA")
			clock.Add(1)
			if rec.Code != 200 || bad.Code != 401 {
				mixed.Add(1)
			}
		}
	}
	all.Add(8)
	startAll(8, ask8)
	all.Wait()
	if mixed.Load() != 0 {
		t.Errorf("%d requests with a wrong identity or status", mixed.Load())
	}
}

func startAll(n int, f func(int)) {
	if n > 0 {
		go f(n)
		startAll(n-1, f)
	}
}

// oauth makes a provider that is not OpenID Connect of the labels' one.
func oauth(c *Config) {
	c.ProviderType, c.AuthorizationEndpoint, c.TokenEndpoint = "oauth2", "https://idp.example/authorize?a=b", "https://idp.example/token"
	c.UserinfoEndpoint, c.ClaimNames = "https://idp.example/me?fields=id", "sub=id"
}

// The labels of a provider that is not OpenID Connect reach the sidecar as they are written, and
// the others' labels weigh nothing.
func TestProviderTypesReachTheSidecar(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(c *Config)
		want string // of the payload, between dpop's place and its end
	}{
		{"an OpenID provider", func(*Config) {}, ""},
		{"the same, by name", func(c *Config) { c.ProviderType = " oidc " }, ""},
		{"GitHub by its issuer alone", func(c *Config) { c.ProviderIssuer = "https://github.com" }, ""},
		{"GitHub Enterprise Server", func(c *Config) { c.ProviderType = "github" }, `,"providerType":"github"`},
		{"another one", oauth, `,"providerType":"oauth2","authorizationEndpoint":"https://idp.example/authorize?a=b","tokenEndpoint":"https://idp.example/token","userinfoEndpoint":"https://idp.example/me?fields=id","claimNames":["sub=id"]`},
		{"one of this computer", func(c *Config) { oauth(c); c.TokenEndpoint = "http://localhost:8080/token" }, `"tokenEndpoint":"http://localhost:8080/token"`},
		{"names in a list", func(c *Config) { oauth(c); c.ClaimNames = []any{"sub=data.id", "name=login"} }, `"claimNames":["sub=data.id","name=login"]`},
	} {
		config := wikiConfig("http://127.0.0.1:1")
		c.set(config)
		s, err := parseConfig(config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.Contains(s.told, c.want) || c.want == "" && (strings.Contains(s.told, "providerType") || strings.Contains(s.told, "Endpoint") || strings.Contains(s.told, "claimNames")) {
			t.Errorf("%s: the sidecar is told %s", c.name, s.told)
		}
	}
}
