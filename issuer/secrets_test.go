package issuer_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Whole logins, successful and failed, are run with the log at debug. Nothing in the log opens
// anything.
func TestLogHoldsNoSecret(t *testing.T) {
	const fromEnvironment = "upstream-secret-from-a-variable"
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			tracer, traced := collected(t)
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Exchange, w.wiki.ClientSecret = exchange, "env:WIKI_CLIENT_SECRET"
				w.config = func(c *issuer.Config) {
					c.Getenv, c.Trace = func(string) string { return w.idp.Secret }, tracer
				}
			})
			secrets := map[string]string{ // :: value → what it is
				masterOne: "the master secret", w.hopKey: "the hop key", w.idp.Secret: "the upstream client's secret", fromEnvironment: "a variable",
				"words in a body": "the provider's words", "upstream-": "the beginning of any of the provider's values", "person@example.com": "an address", "person-1": "a subject",
				"mbc1_": "a client_id", "mbk1_": "a consent value", "mbf1_": "a flow", "mba1_": "a code", "mbr1_": "a refresh token", "mbb1_": "a bearer key", "mbh1_": "a hop header", "eyJhbGciOi": "a JWT",
			}
			add := func(what string, values ...string) {
				for _, v := range values {
					if v != "" {
						secrets[v] = what
					}
				}
			}
			cookies := func(b *issuertest.Browser) {
				u, _ := url.Parse(w.wiki.PublicURL)
				for _, c := range b.Jar.Cookies(u) {
					add("cookie "+c.Name, c.Value)
				}
			}
			tokens := func(r reply) reply {
				add("access token", r.text("access_token"))
				add("refresh token", r.text("refresh_token"))
				return r
			}
			for _, members := range []map[string]any{nil, {"redirect_uris": []string{callback}}, {"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_post"}} {
				a := w.register(w.wiki.PublicURL, members)
				add("client_id", a.id)
				add("client secret", a.secret)
				add("verifier", a.verifier)
				add("state", a.state)
				b := issuertest.NewBrowser(t, w.net)
				consent := b.Get(a.authorizeURL())
				_, hidden, _ := consent.Form()
				add("consent value", hidden.Get("request"))
				cookies(b)
				back := b.Upstream(b.Decide(consent, "allow"))
				cookies(b)
				u, _ := url.Parse(back)
				add("upstream state", u.Query().Get("state"))
				to, _ := url.Parse(b.Get(back).Next())
				code := to.Query().Get("code")
				add("code", code)
				b.Get(back)
				a.token(with(a.redemption(code), "code_verifier", strings.Repeat("wrong", 10)))
				first := tokens(a.token(a.redemption(code)).wants(t, 200, ""))
				tokens(a.token(a.redemption(code)))
				tokens(a.token(a.refreshment(first.text("refresh_token"))))
				w.clock.Add(time.Hour)
				for _, be := range []issuertest.Behaviour{
					{RefreshStatus: 500, RefreshError: "x", RefreshMessage: "person@example.com is gone"}, {RefreshStatus: 400, RefreshError: "invalid_grant", RefreshMessage: "the provider's own words"},
					{Reset: true}, {Body: `{"access_token":"upstream-access","id_token":"eyJx.eyJy.z"}`}, {SubOnRefresh: "person-2"}, {WrongKey: true}, {Refresh: "static"}, {Status: 400, Error: "invalid_client"}, {Status: 500, Error: "x", Echo: true},
				} {
					w.idp.Be(be)
					tokens(a.token(a.refreshment(first.text("refresh_token"))))
				}
				for _, be := range []issuertest.Behaviour{
					{Status: 400, Error: "invalid_grant"}, {Status: 400, Error: "invalid_grant", Echo: true}, {Body: "<html>words in a body"}, {WrongKey: true}, {OmitIDToken: true}, {Unsigned: true}, {IDToken: "eyJx.y.z"},
					{Claims: func(m map[string]any) { m["nonce"] = "wrong" }}, {Claims: func(m map[string]any) { m["aud"] = "person@example.com" }}, {Claims: func(m map[string]any) { m["azp"] = "person-1" }},
					{AuthError: "access_denied", AuthErrorDescription: "person@example.com may not"},
				} {
					w.idp.Be(be)
					b := issuertest.NewBrowser(t, w.net)
					if code := b.Login(a.authorizeURL()).Query().Get("code"); code != "" {
						add("code", code)
						tokens(a.token(a.redemption(code)))
					}
				}
				w.idp.Be(issuertest.Behaviour{})
				for _, r := range []*http.Request{
					newRequest(t, "GET", a.authorizeURL("redirect_uri", "https://evil.example/?secret="+a.state), "", ""),
					newRequest(t, "GET", a.authorizeURL("client_id", a.id+"A"), "", ""),
					newRequest(t, "GET", a.authorizeURL("code_challenge", ""), "", ""),
					newRequest(t, "GET", back+"&state=x", "", ""),
					newRequest(t, "POST", a.base+"/oauth/token?code="+code, formType, "client_id="+a.id),
					newRequest(t, "POST", a.base+"/oauth/token", formType, "client_id="+a.id+"&client_secret=wrong"+a.secret),
					newRequest(t, "POST", a.base+"/oauth/register", "application/json", `{"redirect_uris":["`+a.state+`"]}`),
					newRequest(t, "GET", a.base+"/oauth/"+code, "", ""),
				} {
					w.do(r)
				}
				w.direct("GET", "/oauth/token", "mbh1_"+code)
			}
			// These requests bring claims, refusals by each rule, and machines.
			secrets["Ada Lovelace"], secrets["group-of-hers"], secrets["machine-1"] = "a name", "a group", "a machine's subject"
			w.relabel(func(t *labels) { t.IdentityClaims = []string{"email", "name", "groups"} })
			for _, rule := range []func(*labels){
				func(*labels) {}, func(t *labels) { t.AllowedDomains = []string{"example.org"} }, func(t *labels) { t.AllowedGroups = []string{"others"} },
				func(t *labels) { t.AllowedSubjects = []string{"nobody"} }, func(t *labels) { t.ScopeRules = []string{"group:others=mcp:read"} },
			} {
				w.relabel(rule)
				said := map[string]any{"sub": "person-1", "email": "person@example.com", "email_verified": true, "name": "Ada Lovelace", "groups": []string{"group-of-hers"}}
				for _, be := range []issuertest.Behaviour{{UserInfo: said}, {UserInfo: said, UserInfoStatus: 500}, {UserInfo: map[string]any{"sub": "person-2", "name": "Ada Lovelace"}}} {
					w.idp.Be(be)
					a := w.register(w.wiki.PublicURL, nil)
					b := issuertest.NewBrowser(t, w.net)
					// there is no code if the person is told in the browser
					to := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow"))).Next()
					if back, err := url.Parse(to); err == nil && back.Query().Get("code") != "" {
						add("code", back.Query().Get("code"))
						tokens(a.token(a.redemption(back.Query().Get("code"))))
					}
				}
			}
			machine := w.machine(issuer.Machine{Subject: "machine-1", Scope: "mcp:read"}, "client_secret_basic", nil)
			add("client secret", machine.secret)
			access := tokens(machine.token(clientCredentials).wants(t, 200, "")).text("access_token")
			key, err := issuer.CreateKey(newRing(t, masterOne), w.id(w.wiki), issuer.Machine{Subject: "machine-1"}, time.Hour, w.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, form := range []url.Values{{"key": {key.Key}}, {"key": {key.Key[:50]}}, {"key": {access}}} {
				tokens(w.hop("/hop/token", form))
			}
			for _, token := range []string{access, access[:len(access)-3], key.Key} {
				add("assertion", w.hop("/hop/assertion", url.Values{"access_token": {token}}).text("assertion"))
			}
			for _, v := range w.idp.Secrets() {
				add("the provider's value", v)
			}
			log := w.log.String()
			if len(log) < 5000 || strings.Count(log, "token issued") < 6 || strings.Count(log, "request refused") < 30 {
				t.Fatalf("this is no log of all that: %s", log)
			}
			spans := traced()
			if strings.Count(spans, `"spanId"`) < 100 {
				t.Fatalf("these are not the traces of all that: %s", spans)
			}
			log += spans
			for v, what := range secrets {
				if strings.Contains(log, v) {
					at := strings.Index(log, v)
					t.Errorf("%s is in the log: …%s…", what, log[max(0, at-300):min(len(log), at+len(v)+100)])
				}
			}
		})
	}
}

// The log has what an operator needs of a login: who (a pseudonym), which client, which login,
// which token.
func TestLogOfALogin(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	a.token(a.refreshment(a.login().text("refresh_token"))).wants(t, 200, "")
	var issued []string
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "token issued") {
			issued = append(issued, line)
		}
	}
	field := func(line, name string) string {
		_, rest, _ := strings.Cut(line, `"`+name+`":"`)
		v, _, _ := strings.Cut(rest, `"`)
		return v
	}
	if len(issued) != 2 || field(issued[0], "grant") != "authorization_code" || field(issued[1], "grant") != "refresh_token" {
		t.Fatalf("issued %q", issued)
	}
	for _, name := range []string{"tenant", "issuer", "client", "subject", "family", "scope"} {
		if v := field(issued[0], name); v == "" || v != field(issued[1], name) {
			t.Errorf("%s: %q and %q", name, v, field(issued[1], name))
		}
	}
	if field(issued[0], "jti") == field(issued[1], "jti") || !strings.Contains(w.log.String(), `"remote":"192.0.2.7"`) {
		t.Errorf("jti or remote: %s", w.log)
	}
}
