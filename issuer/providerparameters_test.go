package issuer_test

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// asOIDCProvider makes the provider answer at the endpoints of oidc-provider, with its defaults.
func (w *world) asOIDCProvider(more map[string]any) map[string]any {
	d := map[string]any{
		"authorization_endpoint": w.idp.Issuer + "/auth", "jwks_uri": w.idp.Issuer + "/jwks", "userinfo_endpoint": w.idp.Issuer + "/me",
		"scopes_supported": []string{"openid", "offline_access"},
	}
	maps.Copy(d, more)
	return d
}

// Each row: the parameters of the request to the provider, by the label providerParameters and by
// what is known of the provider.
func TestParametersForTheProvider(t *testing.T) {
	lemon := func(w *world) map[string]any {
		return map[string]any{"authorization_endpoint": w.idp.Issuer + "/oauth2/authorize", "token_endpoint": w.idp.Issuer + "/oauth2/token", "jwks_uri": w.idp.Issuer + "/oauth2/jwks",
			"userinfo_endpoint": w.idp.Issuer + "/oauth2/userinfo", "scopes_supported": []string{"openid", "offline_access"}}
	}
	oidc := func(w *world) map[string]any { return w.asOIDCProvider(nil) }
	plain := func(*world) map[string]any {
		return map[string]any{"scopes_supported": []string{"openid", "offline_access"}, "prompt_values_supported": []string{"none", "login", "consent"}}
	}
	for _, c := range []struct {
		name      string
		discovery func(*world) map[string]any
		refresh   string
		label     []string
		want      map[string]string // empty: not sent
	}{
		{"no provider that needs it", plain, "auto", nil, map[string]string{"prompt": ""}},
		{"nor with refresh=upstream", plain, "upstream", nil, map[string]string{"prompt": ""}},
		{"oidc-provider", oidc, "auto", nil, map[string]string{"prompt": "consent", "scope": "openid email offline_access"}},
		{"oidc-provider with refresh=upstream", oidc, "upstream", nil, map[string]string{"prompt": "consent"}},
		{"oidc-provider with refresh=session", oidc, "session", nil, map[string]string{"prompt": "", "scope": "openid email"}},
		{"one that knows no such prompt", func(w *world) map[string]any {
			return w.asOIDCProvider(map[string]any{"prompt_values_supported": []string{"none", "login"}})
		}, "auto", nil, map[string]string{"prompt": ""}},
		{"LemonLDAP::NG", lemon, "auto", nil, map[string]string{"prompt": "consent"}},
		{"the label says it", plain, "auto", []string{"prompt=consent"}, map[string]string{"prompt": "consent"}},
		{"the label says something else", oidc, "auto", []string{"prompt=login consent", "acr_values=urn:a urn:b&c"}, map[string]string{"prompt": "login consent", "acr_values": "urn:a urn:b&c"}},
		{"the label says nothing", oidc, "auto", []string{"prompt="}, map[string]string{"prompt": ""}},
		{"a value with =", plain, "auto", []string{"resource=https://api.example/?a=b"}, map[string]string{"resource": "https://api.example/?a=b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Refresh, w.wiki.ProviderParameters, w.wiki.Scopes = c.refresh, c.label, []string{"openid", "email"}
			})
			w.idp.Be(issuertest.Behaviour{Discovery: c.discovery(w)})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			u, err := url.Parse(b.Decide(b.Get(a.authorizeURL()), "allow").Next())
			if err != nil || u.Host == "" {
				t.Fatal(u, err)
			}
			q := u.Query()
			for name, want := range c.want {
				if q.Get(name) != want || q.Has(name) != (want != "") || len(q[name]) > 1 {
					t.Errorf("%s=%q, want %q: %s", name, q[name], want, u)
				}
			}
			for _, own := range []string{"client_id", "redirect_uri", "state", "nonce", "code_challenge", "code_challenge_method", "scope", "response_type"} {
				if q.Get(own) == "" {
					t.Errorf("%s is gone: %s", own, u)
				}
			}
		})
	}
}

// An older plugin, or anybody with the hop key, cannot set parameters that the sidecar sets itself.
func TestParametersThatAreTheSidecarsOwn(t *testing.T) {
	for _, parameters := range [][]string{
		{"client_id=other"}, {"redirect_uri=https://evil.example"}, {"State=x"}, {"nonce="}, {"code_challenge=x"}, {"code_challenge_method=plain"}, {"scope=openid"}, {"response_type=token"},
		{"response_mode=fragment"}, {"request=x"}, {"request_uri=x"}, {"registration=x"}, {"client_secret=x"}, {"client_assertion=x"}, {"id_token_hint=x"}, {"dpop_jkt=x"},
		{"prompt"}, {"=x"}, {"a b=c"}, {"a&b=c"}, {"prompt=login", "prompt=consent"}, {"prompt=none"}, {"Prompt=login none"}, {"a=" + strings.Repeat("x", 999)},
	} {
		w := newWorld(t, nil, nil)
		w.wiki.ProviderParameters = parameters
		w.net = &issuertest.Internet{}
		w.serve(w.wiki)
		w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 403, "forbidden")
		if !strings.Contains(w.log.String(), "label providerParameters: ") {
			t.Errorf("%q: %s", parameters, w.log)
		}
	}
}

// A login without a refresh token lives for a day without any check. The log says so once, and what
// to do.
func TestLoginWithoutARefreshTokenIsNamedInTheLog(t *testing.T) {
	const message = "asked for a refresh token and got none: logins live BOUNCER_SESSION_TTL, and so long does who is removed at the provider stay in"
	offline := map[string]any{"scopes_supported": []string{"openid", "offline_access"}}
	for _, c := range []struct {
		name, refresh, given string
		discovery            map[string]any
		label                []string
		scopes               []string
		remedy               string // empty: nothing is said
	}{
		{"a provider that may want consent", "auto", "none", offline, nil, []string{"openid"}, "set the label providerParameters to prompt=consent"},
		{"consent was asked", "auto", "none", offline, []string{"prompt=consent"}, []string{"openid"}, "let the client that is registered there have refresh tokens, and offline_access"},
		{"offline_access was not asked", "auto", "none", nil, nil, []string{"openid"}, "add it to the label scopes (offline_access)"},
		{"the label asked for it", "auto", "none", nil, nil, []string{"openid", "offline_access"}, "set the label providerParameters to prompt=consent"},
		{"there is one", "auto", "", offline, nil, []string{"openid"}, ""},
		{"a session is meant", "session", "none", offline, nil, []string{"openid"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Refresh, w.wiki.ProviderParameters, w.wiki.Scopes = c.refresh, c.label, c.scopes
			})
			w.idp.Be(issuertest.Behaviour{Refresh: c.given, Discovery: c.discovery})
			a := w.register(w.wiki.PublicURL, nil)
			a.login()
			a.login()
			lines := linesOf(t, w.log.String(), message)
			if c.remedy == "" {
				if len(lines) != 0 {
					t.Errorf("%v", lines)
				}
				return
			}
			if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["issuer"] != w.wiki.PublicURL || !strings.Contains(lines[0]["remedy"].(string), c.remedy) {
				t.Errorf("%v", lines)
			}
			// With refresh=upstream the refusal has the same advice.
			w = newWorld(t, nil, func(w *world) {
				w.wiki.Refresh, w.wiki.ProviderParameters, w.wiki.Scopes = "upstream", c.label, c.scopes
			})
			w.idp.Be(issuertest.Behaviour{Refresh: c.given, Discovery: c.discovery})
			a = w.register(w.wiki.PublicURL, nil)
			a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
			if !strings.Contains(w.log.String(), c.remedy) {
				t.Errorf("%q is not in %s", c.remedy, w.log)
			}
		})
	}
}
