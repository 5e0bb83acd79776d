package issuer_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// signIn is how and when the person of a login signed in at the provider: what its id_token says.
type signIn struct {
	acr any
	ago time.Duration // never: no auth_time
}

const never = -1

// signInWorld has the scopes docs:read, which is required, and docs:write, and these rules.
func signInWorld(t *testing.T, rules []string, said *signIn) *world {
	return newWorld(t, nil, func(w *world) {
		w.wiki.AuthenticationRules, w.wiki.RequiredScopes = rules, []string{"docs:read"}
		w.wiki.ScopeRules = []string{"*=docs:read docs:write"}
		w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) {
			if said.acr != nil {
				m["acr"] = said.acr
			}
			if said.ago != never {
				m["auth_time"] = w.clock.Now().Add(-said.ago).Unix()
			}
		}})
	})
}

// The scopes that a client asks for say what the provider is asked for. A client's own wish counts
// only where it is for more.
func TestSignInThatScopesNeedIsAskedOfTheProvider(t *testing.T) {
	rules := []string{"*=max_age:28800", "docs:write=acr_values:phr,phrh max_age:300"}
	w := signInWorld(t, rules, &signIn{})
	a := w.register(w.wiki.PublicURL, nil)
	for _, c := range []struct {
		asks []string
		acr  string
		age  string
	}{
		{[]string{"scope", "docs:read"}, "", "28800"},
		{[]string{"scope", "docs:write"}, "phr phrh", "300"},
		{nil, "", "28800"}, // a scope with a rule is named by who wants it
		{[]string{"scope", "openid"}, "", "28800"},
		{[]string{"scope", "docs:write", "acr_values", "pwd", "max_age", "9999"}, "phr phrh", "300"},
		{[]string{"scope", "docs:write", "max_age", "0"}, "phr phrh", "0"},
		{[]string{"scope", "docs:read", "max_age", "60"}, "", "60"},
	} {
		b := issuertest.NewBrowser(t, w.net)
		q := asked(t, b.Decide(b.Get(a.authorizeURL(c.asks...)), "allow"))
		if q.Get("acr_values") != c.acr || q.Get("max_age") != c.age {
			t.Errorf("%v: acr_values %q, max_age %q, want %q, %q", c.asks, q.Get("acr_values"), q.Get("max_age"), c.acr, c.age)
		}
	}
	document := w.get(w.wiki.PublicURL + "/.well-known/oauth-authorization-server")
	if got := fmt.Sprint(document.JSON["acr_values_supported"]); got != "[phr phrh]" {
		t.Errorf("acr_values_supported %s", got)
	}
}

// Each row: what the provider says, and what comes of a login that asks for docs:read and
// docs:write by name. Many providers pass over acr_values and max_age. A client whose login were
// made without the scope would come back for it for ever.
func TestSignInIsCheckedAndNotOnlyAskedFor(t *testing.T) {
	const both = "docs:read docs:write"
	write := []string{"docs:write=acr_values:phr,phrh max_age:300"}
	for _, c := range []struct {
		name   string
		rules  []string
		said   signIn
		scope  string // of the token; empty: the login is refused
		reason string // in the log
	}{
		{"good", write, signIn{"phr", time.Minute}, "docs:read docs:write", ""},
		{"the second of the values", write, signIn{"phrh", time.Minute}, "docs:read docs:write", ""},
		{"another value", write, signIn{"pwd", time.Minute}, "", `by acr \"pwd\", and one of phr phrh is needed`},
		{"no acr", write, signIn{nil, time.Minute}, "", "does not say how the person signed in"},
		{"an acr that is a list", write, signIn{[]string{"phr"}, time.Minute}, "", "does not say how the person signed in"},
		{"an acr that is a number", []string{"docs:write=acr_values:1"}, signIn{1, time.Minute}, "", "does not say how the person signed in"},
		{"an acr of 129 characters", []string{"docs:write=acr_values:1"}, signIn{strings.Repeat("1", 129), time.Minute}, "", "does not say how the person signed in"},
		{"an acr with a quote", []string{"docs:write=acr_values:1"}, signIn{`1"`, time.Minute}, "", "does not say how the person signed in"},
		{"too old", write, signIn{"phr", time.Hour}, "", "3600 seconds ago (auth_time), and at most 300 are allowed"},
		{"no auth_time", write, signIn{"phr", never}, "", "does not say when the person signed in"},
		{"auth_time of a clock that is ahead", write, signIn{"phr", -4 * time.Minute}, "docs:read docs:write", ""},
		{"auth_time of the future", write, signIn{"phr", -6 * time.Minute}, "", "does not say when the person signed in"},
		{"every login, good", []string{"*=acr_values:phr max_age:300"}, signIn{"phr", time.Minute}, "docs:read docs:write", ""},
		{"every login, another value", []string{"*=acr_values:phr"}, signIn{"pwd", time.Minute}, "", `by acr \"pwd\", and one of phr is needed`},
		{"every login, too old", []string{"*=max_age:300"}, signIn{"phr", time.Hour}, "", "3600 seconds ago"},
		{"every login, never said", []string{"*=max_age:300"}, signIn{"phr", never}, "", "does not say when"},
		{"a required scope", []string{"docs:read=acr_values:phr"}, signIn{"pwd", time.Minute}, "", `by acr \"pwd\"`},
	} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(c.name+", "+exchange, func(t *testing.T) {
				w := signInWorld(t, c.rules, &c.said)
				w.wiki.Exchange = exchange
				w.net = &issuertest.Internet{}
				w.serve(w.wiki)
				a := w.register(w.wiki.PublicURL, nil)
				b := issuertest.NewBrowser(t, w.net)
				switch {
				case c.scope != "":
					got := a.token(a.redemption(a.codeIn(b, "scope", both))).wants(t, 200, "")
					if got.text("scope") != c.scope {
						t.Errorf("scope %q, want %q", got.text("scope"), c.scope)
					}
				case exchange == "token":
					a.token(a.redemption(a.codeIn(b, "scope", both))).wants(t, 400, "unmet_authentication_requirements")
				default:
					p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL("scope", both)), "allow")))
					u, err := url.Parse(p.Link())
					if err != nil || p.Status != 403 || u.Query().Get("error") != "unmet_authentication_requirements" || !strings.Contains(p.Body, "<h1>This sign-in is not enough here</h1>") {
						t.Errorf("status %d, %s: %s", p.Status, p.Link(), p.Body)
					}
				}
				if !strings.Contains(w.log.String(), c.reason) {
					t.Errorf("%q is not in the log: %s", c.reason, w.log)
				}
			})
		}
	}
}

// With exchange=auto whoever can be refused for a sign-in is told so in the browser.
func TestSignInIsJudgedInTheBrowser(t *testing.T) {
	for _, rule := range []string{"*=max_age:300", "docs:read=max_age:300", "docs:write=max_age:300"} {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.AuthenticationRules, w.wiki.RequiredScopes, w.wiki.Exchange = []string{rule}, []string{"docs:read"}, "auto"
			w.wiki.ScopeRules = []string{"*=docs:read docs:write"}
			w.guarded("memory")
			w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { m["auth_time"] = w.clock.Now().Unix() }})
		})
		w.register(w.wiki.PublicURL, nil).code()
		if n := w.idp.Posts(); n != 1 {
			t.Errorf("%s: %d redemptions at the callback, want 1", rule, n)
		}
	}
}

// Access tokens say how and when the person signed in, and when the login began; all of that stays
// through refreshes, for which nobody signs in. Without the label they are as before.
func TestSignInStandsInAccessTokens(t *testing.T) {
	said := &signIn{"phr", 2 * time.Hour}
	w := signInWorld(t, []string{"docs:write=acr_values:phr"}, said)
	w.wiki.UpstreamCheckInterval = 0
	w.net = &issuertest.Internet{}
	w.serve(w.wiki)
	a := w.register(w.wiki.PublicURL, nil)
	began := w.clock.Now()
	tokens := a.login("scope", "docs:read docs:write")
	for range 3 {
		claims := w.verifiedToken(w.wiki.PublicURL, tokens.text("access_token"), w.clock.Now())
		if claims["acr"] != "phr" || claims["auth_time"] != float64(began.Add(-2*time.Hour).Unix()) || claims["login_time"] != float64(began.Unix()) || claims["scope"] != "docs:read docs:write" {
			t.Errorf("%v", claims)
		}
		said.acr, said.ago = "pwd", 0 // of a refreshed id_token: no sign-in
		w.clock.Add(time.Minute)
		tokens = a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
	}
	plain := signInWorld(t, nil, &signIn{"phr", 2 * time.Hour})
	claims := plain.verifiedToken(plain.wiki.PublicURL, plain.register(plain.wiki.PublicURL, nil).login().text("access_token"), plain.clock.Now())
	names := []string{}
	for name := range claims {
		names = append(names, name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "aud auth_time client_id exp iat iss jti nbf scope sid sub" || claims["auth_time"] != float64(plain.clock.Now().Unix()) {
		t.Errorf("without the label: %s, %v", got, claims)
	}
}

// A refresh makes no sign-in younger. Its token loses the scope for which the sign-in is too old,
// so that a client which refreshes first asks for that scope next; where every request needs a
// younger one, the client has to authorize again.
func TestSignInGrowsOldUntilARefreshIsWorthNothing(t *testing.T) {
	w := signInWorld(t, []string{"*=max_age:7200", "docs:write=max_age:300"}, &signIn{nil, time.Minute})
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login("scope", "docs:read docs:write")
	for _, c := range []struct {
		later time.Duration
		scope string // empty: refused
	}{
		{0, "docs:read docs:write"},
		{299 * time.Second, "docs:read docs:write"}, // with the minute before, and the slack
		{time.Second, "docs:read"},
		{6899 * time.Second, "docs:read"},
		{time.Second, ""},
	} {
		w.clock.Add(c.later)
		next := a.token(a.refreshment(tokens.text("refresh_token")))
		if c.scope == "" {
			next.wants(t, 400, "invalid_grant")
			if !strings.Contains(w.log.last(), "7260 seconds ago") {
				t.Error(w.log.last())
			}
			continue
		}
		if tokens = next.wants(t, 200, ""); tokens.text("scope") != c.scope {
			t.Errorf("%v later: scope %q, want %q", c.later, tokens.text("scope"), c.scope)
		}
	}
	// A new login has all of it again.
	if got := a.login("scope", "docs:write docs:read").text("scope"); got != "docs:read docs:write" {
		t.Errorf("scope %q", got)
	}
}

// A client that names nothing, or whose person the rules do not give the scope, logs in without it.
func TestSignInThatNobodyAskedForIsNotNeeded(t *testing.T) {
	w := signInWorld(t, []string{"docs:write=acr_values:phr"}, &signIn{"pwd", 0})
	w.wiki.Exchange = "callback"
	w.net = &issuertest.Internet{}
	w.serve(w.wiki)
	a := w.register(w.wiki.PublicURL, nil)
	if got := a.login().text("scope"); got != "docs:read" {
		t.Errorf("a client that names nothing gets %q", got)
	}
	w.wiki.ScopeRules = []string{"*=docs:read", "sub:somebody=docs:write"}
	w.net = &issuertest.Internet{}
	w.serve(w.wiki)
	if got := a.login("scope", "docs:read docs:write").text("scope"); got != "docs:read" {
		t.Errorf("a person without the scope gets %q", got)
	}
}

// A login from before the label has to prove itself once.
func TestSignInOfALoginFromBeforeTheLabel(t *testing.T) {
	for _, c := range []struct {
		rules []string
		scope string // empty: refused
	}{
		{[]string{"docs:write=acr_values:phr"}, "docs:read"},
		{[]string{"docs:write=max_age:31536000"}, "docs:read"},
		{[]string{"*=acr_values:phr"}, ""},
	} {
		w := signInWorld(t, nil, &signIn{"phr", 0})
		a := w.register(w.wiki.PublicURL, nil)
		tokens := a.login()
		w.wiki.AuthenticationRules = c.rules
		w.net = &issuertest.Internet{}
		w.serve(w.wiki)
		next := a.token(a.refreshment(tokens.text("refresh_token")))
		if c.scope == "" {
			next.wants(t, 400, "invalid_grant")
		} else if next.wants(t, 200, ""); next.text("scope") != c.scope {
			t.Errorf("%v: scope %q, want %q", c.rules, next.text("scope"), c.scope)
		}
	}
}

// A machine has not signed in, and no rule is meant: its tokens say when it was made, and no
// auth_time (RFC 9068 §2.2.1).
func TestSignInIsNotAskedOfMachines(t *testing.T) {
	w := signInWorld(t, []string{"*=acr_values:phr max_age:300"}, &signIn{nil, never})
	made := issuer.Machine{Subject: "ci-bot", Scope: "docs:read docs:write"}
	token := w.machine(made, "client_secret_basic", nil).token(clientCredentials).wants(t, 200, "")
	key, err := issuer.CreateKey(newRing(t, masterOne), w.id(w.wiki), made, time.Hour, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{token.text("access_token"), w.hop("/hop/token", url.Values{"key": {key.Key}}).wants(t, 200, "").text("access_token")} {
		claims := w.verifiedToken(w.wiki.PublicURL, text, w.clock.Now())
		if claims["scope"] != "docs:read docs:write" || claims["auth_time"] != nil || claims["login_time"] == nil {
			t.Errorf("%v", claims)
		}
	}
}

// An identity assertion may say how and when its person signed in.
func TestSignInOfAnIdentityAssertion(t *testing.T) {
	w, _ := newEnterprise(t, func(w *world) {
		w.wiki.AuthenticationRules = []string{"*=acr_values:phr max_age:300"}
	})
	a := w.register(w.wiki.PublicURL, confidential)
	now := w.clock.Now().Unix()
	for _, c := range []struct {
		claims map[string]any
		code   string
	}{
		{map[string]any{"acr": "phr", "auth_time": now - 60}, ""},
		{map[string]any{"acr": "pwd", "auth_time": now - 60}, "unmet_authentication_requirements"},
		{map[string]any{"acr": "phr", "auth_time": now - 600}, "unmet_authentication_requirements"},
		{nil, "unmet_authentication_requirements"},
	} {
		status := 200
		if c.code != "" {
			status = 400
		}
		a.redeem(w.idp.Assertion(w.wiki.PublicURL, a.id, c.claims, nil)).wants(t, status, c.code)
	}
}

// The sidecar does not trust a plugin that would take rules which it cannot read.
func TestSignInRulesThatTheSidecarRefuses(t *testing.T) {
	for _, rules := range [][]string{{"docs:write"}, {"*=max_age:0"}, {"*=acr_values:a", "x=acr_values:b"}, {"*=max_age:300", "*=max_age:60"}} {
		w := newWorld(t, nil, nil)
		w.wiki.AuthenticationRules = rules
		w.net = &issuertest.Internet{}
		w.serve(w.wiki)
		w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 403, "forbidden")
		if !strings.Contains(w.log.String(), "label authenticationRules: ") {
			t.Errorf("%q: %s", rules, w.log)
		}
	}
}
