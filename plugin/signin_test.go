//go:build go1.21

package plugin

import (
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

const (
	signInMetadata = `resource_metadata="https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp"`
	signInAgain    = `error="insufficient_user_authentication", error_description="the person must sign in again, more recently or in another way", `
)

// signedInAs are the claims of a token of somebody who signed in so many seconds ago, in this way.
func signedInAs(acr string, ago int64, scope string) map[string]any {
	at := clock.Load()
	claims := map[string]any{"login_time": at, "auth_time": at - ago, "scope": scope, "sid": "login-1"}
	if acr != "" {
		claims["acr"] = acr
	}
	return claims
}

// callAs sends a message with a token of these claims.
func callAs(t *testing.T, rules string, scopes map[string]string, claims map[string]any, body string) (int, string) {
	t.Helper()
	h, _ := ruled(t, func(c *Config) {
		c.RequiredScopes = scopes["required"]
		c.MethodScopes = scopes["methods"]
		c.ToolScopes = scopes["tools"]
		c.ResourceScopes = ""
		c.PromptScopes = ""
		c.AuthenticationRules = rules
	})
	token := goodToken("k1", claims)
	code, challenge := 0, ""
	for i := 0; i < 4; i++ { // the first sight, what is remembered, and the short way
		rec := post(h, "", body, "Authorization", "", "Authorization", "Bearer "+token)
		got := strings.Join(challenges(rec), " | ")
		if i > 0 && (rec.Code != code || got != challenge) {
			t.Errorf("request %d: %d %s, the one before %d %s", i+1, rec.Code, got, code, challenge)
		}
		code = rec.Code
		challenge = got
	}
	return code, challenge
}

// Each row: a token, and what a call with it is answered. The challenge is that of RFC 9470 §3, and
// names the scopes that the client would lose otherwise.
func TestSignInIsWhatTheRulesNeed(t *testing.T) {
	start(t)
	const every, tool = "*=acr_values:mfa,phr max_age:3600", "wiki:write=acr_values:phr max_age:300"
	search := toolCall("search")
	remove := toolCall("delete_page")
	plain := map[string]string{"required": "mcp", "tools": "delete_page=wiki:write"}
	for _, c := range []struct {
		name, rules string
		scopes      map[string]string
		claims      map[string]any
		body        string
		code        int
		challenge   string
	}{
		{"every login, good", every, plain, signedInAs("mfa", 10, "mcp"), search, 200, ""},
		{"the acr is not among them", every, plain, signedInAs("pwd", 10, "mcp extra"), search, 401,
			"Bearer " + signInAgain + `acr_values="mfa phr", max_age="3600", scope="mcp extra", ` + signInMetadata},
		{"there is no acr", every, plain, signedInAs("", 10, "mcp"), search, 401,
			"Bearer " + signInAgain + `acr_values="mfa phr", max_age="3600", scope="mcp", ` + signInMetadata},
		{"too old, and within the slack", every, plain, signedInAs("mfa", 3659, "mcp"), search, 200, ""},
		{"too old", every, plain, signedInAs("mfa", 3660, "mcp"), search, 401,
			"Bearer " + signInAgain + `acr_values="mfa phr", max_age="3600", scope="mcp", ` + signInMetadata},
		{"a tool without a rule", tool, plain, signedInAs("pwd", 9999, "mcp wiki:write"), search, 200, ""},
		{"a tool by its scope, good", tool, plain, signedInAs("phr", 10, "mcp wiki:write"), remove, 200, ""},
		{"a tool by its scope, another acr", tool, plain, signedInAs("pwd", 10, "mcp wiki:write"), remove, 401,
			"Bearer " + signInAgain + `acr_values="phr", max_age="300", scope="mcp wiki:write", ` + signInMetadata},
		{"a tool by its scope, too old", tool, plain, signedInAs("phr", 360, "mcp wiki:write"), remove, 401,
			"Bearer " + signInAgain + `acr_values="phr", max_age="300", scope="mcp wiki:write", ` + signInMetadata},
		{"a scope that is missing comes first", tool, plain, signedInAs("pwd", 10, "mcp"), remove, 403,
			`Bearer error="insufficient_scope", scope="mcp wiki:write", ` + signInMetadata},
		{"a batch", tool, plain, signedInAs("pwd", 10, "mcp wiki:write"), "[" + search + "," + remove + "]", 401,
			"Bearer " + signInAgain + `acr_values="phr", max_age="300", scope="mcp wiki:write", ` + signInMetadata},
		{"a required scope is for every request", "mcp=acr_values:phr", plain, signedInAs("pwd", 10, "mcp"), search, 401,
			"Bearer " + signInAgain + `acr_values="phr", scope="mcp", ` + signInMetadata},
		{"a method by its scope", tool, map[string]string{"required": "mcp", "methods": "tools/call=wiki:write"}, signedInAs("pwd", 10, "mcp wiki:write"), search, 401,
			"Bearer " + signInAgain + `acr_values="phr", max_age="300", scope="mcp wiki:write", ` + signInMetadata},
		{"both", "*=max_age:3600; " + tool, plain, signedInAs("phr", 3700, "mcp wiki:write"), remove, 401,
			"Bearer " + signInAgain + `max_age="3600", scope="mcp wiki:write", ` + signInMetadata},
		{"a machine has not signed in", every + "; " + tool, plain, map[string]any{"login_time": clock.Load(), "scope": "mcp wiki:write"}, remove, 200, ""},
		{"a token from before the label", every, plain, map[string]any{"auth_time": clock.Load() - 10, "scope": "mcp"}, search, 401,
			"Bearer " + signInAgain + `acr_values="mfa phr", max_age="3600", scope="mcp", ` + signInMetadata},
		{"a token from before the label, judged by its age", "*=max_age:3600", plain, map[string]any{"auth_time": clock.Load() - 10, "scope": "mcp"}, search, 200, ""},
		{"a token that says nothing", "*=max_age:3600", plain, map[string]any{"scope": "mcp"}, search, 401,
			"Bearer " + signInAgain + `max_age="3600", scope="mcp", ` + signInMetadata},
	} {
		code, challenge := callAs(t, c.rules, c.scopes, c.claims, c.body)
		if code != c.code || challenge != c.challenge {
			t.Errorf("%s: %d %s, want %d %s", c.name, code, challenge, c.code, c.challenge)
		}
	}
}

// A token that is remembered is judged by its sign-in at each request, on the short way too.
func TestSignInGrowsOldWhileItsTokenIsRemembered(t *testing.T) {
	for _, c := range []struct {
		rules, tool string
		other       int // what a tool without a rule is answered then
	}{
		{"*=max_age:300", "search", 401},
		{"mcp=max_age:300", "search", 401},
		{"wiki:write=max_age:300", "delete_page", 200},
	} {
		start(t)
		h, _ := ruled(t, func(config *Config) {
			config.ToolScopes = "delete_page=wiki:write"
			config.AuthenticationRules = c.rules
		})
		token := goodToken("k1", signedInAs("", 0, "mcp wiki:write"))
		call := func(tool string) int {
			return post(h, "", toolCall(tool), "Authorization", "", "Authorization", "Bearer "+token).Code
		}
		for _, at := range []struct {
			later int64
			want  int
		}{{0, 200}, {10, 200}, {10, 200}, {339, 200}, {1, 401}, {10, 401}} {
			clock.Add(at.later)
			if got := call(c.tool); got != at.want {
				t.Errorf("%s: %d after %d more seconds, want %d", c.rules, got, at.later, at.want)
			}
		}
		if got := call("search"); got != c.other {
			t.Errorf("%s: another tool gets %d, want %d", c.rules, got, c.other)
		}
	}
}

// Tokens that come for the first time are compared with what was found good, and so are not judged
// again; not where each has a sign-in of its own.
func TestSignInIsJudgedAtTheFirstSightOfEachToken(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.AuthenticationRules = "*=acr_values:phr"
	h, _ := guard(t, config)
	for i, c := range []struct {
		acr  string
		want int
	}{{"phr", 200}, {"phr", 200}, {"phr", 200}, {"pwd", 401}, {"", 401}, {"phr", 200}} {
		claims := signedInAs(c.acr, int64(i), "mcp") // each is another token
		if rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", claims))...); rec.Code != c.want {
			t.Errorf("token %d, acr %q: %d, want %d", i+1, c.acr, rec.Code, c.want)
		}
	}
}

// The deny document is compared with the time of the login here, also where the sign-in at the
// provider is older: whoever has logged in since then is in.
func TestSignInThatIsOlderThanTheLoginIsNotDenied(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.AuthenticationRules = "*=max_age:28800"
	sidecar.setDeny(strings.Replace(noDeny, `"notBefore":0`, `"notBefore":1799999000`, 1))
	h, _ := guard(t, config)
	if rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", signedInAs("", 7200, "mcp")))...); rec.Code != 200 {
		t.Errorf("a login of now, whose sign-in is of two hours ago: %d", rec.Code)
	}
	claims := signedInAs("", 7200, "mcp")
	claims["login_time"] = clock.Load() - 7000
	if rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", claims))...); rec.Code != 401 || !strings.Contains(challenges(rec)[0], "ended by the operator") {
		t.Errorf("a login of before: %d %v", rec.Code, challenges(rec))
	}
}

// A bound token is led to a new sign-in in its own scheme.
func TestSignInOfABoundTokenHasItsScheme(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.DPoP = "accept"
	config.AuthenticationRules = "*=acr_values:phr"
	h, _ := guard(t, config)
	ask(h, "POST", mcpURL)
	clock.Add(dpop.Apart + 1)
	k := dpoptest.NewKey("ES256")
	token := bound(k, signedInAs("pwd", 10, "mcp"))
	rec := ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
	want := "DPoP " + signInAgain + `acr_values="phr", algs="ES256 EdDSA", scope="mcp", ` + signInMetadata
	if rec.Code != 401 || strings.Join(challenges(rec), " | ") != want {
		t.Errorf("%d %v, want %s", rec.Code, challenges(rec), want)
	}
}

func TestSignInRulesAreReadWithTheOtherLabels(t *testing.T) {
	for _, kind := range []string{"github", "oauth2", "https://github.com", "https://github.com/"} {
		config := wikiConfig("http://bouncer:8080")
		config.ProviderType = kind
		if strings.HasPrefix(kind, "https:") {
			config.ProviderType = ""
			config.ProviderIssuer = kind
		}
		config.AuthenticationRules = "*=max_age:300"
		if err := Check(config); err == nil || !strings.HasPrefix(err.Error(), "label authenticationRules: only OpenID providers") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, c := range []struct{ rules, parameters, why string }{
		{";", "", "label authenticationRules: holds no rule"},
		{"wiki:write=max_age:5m", "", "label authenticationRules: \"wiki:write=max_age:5m\": behind max_age: stands a number of seconds"},
		{"*=acr_values:a; x=acr_values:b", "", "label authenticationRules: no sign-in could satisfy all rules"},
		{"*=max_age:300; *=max_age:60", "", "label authenticationRules: two rules for \"*\""},
		{"*=max_age:300", "acr_values=phr", "label providerParameters: acr_values is said by authenticationRules"},
		{"*=acr_values:phr", "prompt=consent; max_age=60", "label providerParameters: max_age is said by authenticationRules"},
		{"delete_page=max_age:300", "", "label authenticationRules: no other label names the scope \"delete_page\", so that the rule guards nothing"},
		{"wiki:write=max_age:300; docs:write=max_age:300", "", "label authenticationRules: no other label names the scope \"docs:write\""},
		{"wiki:write=acr_values:phr,max_age:300", "", "a blank, and no comma, stands before max_age:"},
		{"wiki:write=acr_values:phr max_age:300", "", ""},
		{"*=max_age:${AGE}", "", "a variable that nobody has replaced"},
		{"", "acr_values=phr; max_age=60", ""},
		{"*=max_age:300", "prompt=login; hd=example.com", ""},
	} {
		config := wikiConfig("http://bouncer:8080")
		config.AuthenticationRules = c.rules
		config.ToolScopes = "delete_page=wiki:write"
		config.ProviderParameters = c.parameters
		err := Check(config)
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q with %q: %v, want %q", c.rules, c.parameters, err, c.why)
		}
	}
}
