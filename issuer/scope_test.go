package issuer_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// rightsOn are the rights on a consent page, with or without boxes.
func rightsOn(page string) (rights []string) {
	for i, item := range strings.Split(page, "<li>") {
		if i > 0 {
			right, _, _ := strings.Cut(item, "</li>")
			rights = append(rights, strings.TrimSpace(regexp.MustCompile(`<small>.*|<[^>]*>`).ReplaceAllString(right, "")))
		}
	}
	return rights
}

// A token gets the requested scopes as far as the rules give them, or all that they give if the
// request named none.
func TestScopesThatRulesGive(t *testing.T) {
	rules := []string{"group:admins=wiki:write wiki:admin", "domain:example.com=wiki:read wiki:write", "email:ada@example.com=wiki:own", "sub:person-1=wiki:self", "*=wiki:hello"}
	for _, c := range []struct {
		name     string
		rules    []string
		required []string
		upstream []string // the label scopes
		who      map[string]any
		asked    string
		consent  []string // rights on the consent page
		want     string
	}{
		{"every rule that fits gives; nothing was asked", rules, nil, nil, map[string]any{"groups": []string{"admins"}, "email": "ada@example.com"}, "",
			nil, "wiki:write wiki:admin wiki:read wiki:own wiki:self wiki:hello"},
		{"no group", rules, nil, nil, map[string]any{"email": "bob@example.com"}, "", nil, "wiki:write wiki:read wiki:self wiki:hello"},
		{"another person", rules, nil, nil, map[string]any{"sub": "person-2", "email": "eve@example.org"}, "", nil, "wiki:hello"},
		{"asked for less", rules, nil, nil, map[string]any{"email": "bob@example.com"}, "wiki:read", []string{"wiki:read", "know who you are"}, "wiki:read"},
		{"asked for more than the rules give", rules, nil, nil, map[string]any{"email": "bob@example.com"}, "wiki:read wiki:admin", []string{"wiki:admin", "wiki:read", "know who you are"}, "wiki:read"},
		{"asked for nothing that the rules give", rules, nil, nil, map[string]any{"email": "bob@example.com"}, "wiki:admin", []string{"wiki:admin", "know who you are"}, ""},
		{"asked for what nobody knows", rules, nil, nil, map[string]any{"email": "bob@example.com"}, "claudeai", nil, ""},
		{"asked for identity scopes only, as some clients do by themselves", rules, nil, nil, map[string]any{"email": "bob@example.com"}, "openid email profile offline_access",
			nil, "wiki:write wiki:read wiki:self wiki:hello"},
		{"scopes of the provider are none of the MCP server's", rules, nil, []string{"openid", "email", "upstream:all"}, map[string]any{"email": "bob@example.com"}, "wiki:read upstream:all", []string{"wiki:read", "know who you are"}, "wiki:read"},
		{"a group with a distinguished name", []string{"group:cn=admins,ou=wiki=wiki:write", "*=wiki:read"}, nil, nil, map[string]any{"groups": []string{"cn=admins,ou=wiki"}}, "", nil, "wiki:write wiki:read"},
		{"a rule may give one of them", []string{"*=openid wiki:read"}, nil, nil, nil, "openid", []string{"know who you are"}, "openid"},
		{"required and given", rules, []string{"wiki:read"}, nil, map[string]any{"email": "bob@example.com"}, "wiki:read", nil, "wiki:read"},
		{"required is not given by itself", []string{"*=wiki:read wiki:write"}, []string{"wiki:read"}, nil, nil, "wiki:write", nil, "wiki:write"},
		{"an address that is not verified fits no rule", rules, nil, nil, map[string]any{"email": "ada@example.com", "email_verified": false, "sub": "person-2"}, "", nil, "wiki:hello"},
		{"without rules everybody gets what is required", nil, []string{"wiki:read", "wiki:write"}, []string{"openid", "x"}, nil, "", []string{"wiki:read", "wiki:write", "x", "know who you are"}, "wiki:read wiki:write x"},
		{"without rules and without anything required", nil, nil, []string{"openid"}, nil, "", []string{"know who you are"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.ScopeRules, w.wiki.RequiredScopes, w.wiki.Scopes = c.rules, c.required, c.upstream
				w.idp.Be(issuertest.Behaviour{Discovery: map[string]any{"scopes_supported": []string{"openid", "x"}}, Claims: func(m map[string]any) {
					m["email_verified"] = true
					for name, v := range c.who {
						m[name] = v
					}
				}})
			})
			a := w.register(w.wiki.PublicURL, nil)
			rights := rightsOn(issuertest.NewBrowser(t, w.net).Get(a.authorizeURL("scope", c.asked)).Body)
			if c.consent != nil && !reflect.DeepEqual(rights, c.consent) {
				t.Errorf("the person is asked for %q, want %q", rights, c.consent)
			}
			got := a.login("scope", c.asked)
			if claims := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now()); got.text("scope") != c.want || claims["scope"] != c.want {
				t.Errorf("scope %q, in the token %q, want %q", got.text("scope"), claims["scope"], c.want)
			}
		})
	}
}

// Each refresh applies the current rules, within the scopes that the person once allowed.
func TestScopesFollowTheRulesWithinTheConsent(t *testing.T) {
	groups := []string{"readers"}
	w := newWorld(t, nil, func(w *world) {
		w.wiki.ScopeRules = []string{"group:readers=wiki:read", "group:writers=wiki:read wiki:write wiki:admin"}
		w.wiki.RequiredScopes = nil
		w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { m["groups"] = groups }})
	})
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login("scope", "wiki:read wiki:write")
	if got := tokens.text("scope"); got != "wiki:read" {
		t.Fatalf("scope %q", got)
	}
	refresh := func(want string, changes ...string) {
		t.Helper()
		tokens = a.token(with(a.refreshment(tokens.text("refresh_token")), changes...)).wants(t, 200, "")
		if got := tokens.text("scope"); got != want {
			t.Errorf("scope %q, want %q", got, want)
		}
	}
	refresh("wiki:read")
	groups = []string{"writers"}
	refresh("wiki:read") // the provider was not asked yet
	w.clock.Add(time.Hour)
	refresh("wiki:read wiki:write") // not wiki:admin, which the person did not see
	refresh("wiki:write", "scope", "wiki:write wiki:admin")
	refresh("wiki:read wiki:write")
	w.relabel(func(t *labels) { t.ScopeRules = []string{"group:readers=wiki:read", "group:writers=wiki:write"} })
	refresh("wiki:write")
	groups = []string{"readers"}
	w.clock.Add(time.Hour)
	refresh("wiki:read")
}

// Login and refresh read the parameter scope alike: a client that repeats at its refresh what it
// asked for at its login gets what the login gave.
func TestRefreshThatRepeatsTheLoginsScope(t *testing.T) {
	rules := []string{"group:admins=wiki:write wiki:admin", "*=wiki:read wiki:hello"}
	for _, c := range []struct {
		name                      string
		rules, required, upstream []string
		// :: what was asked → scope of the login and of each refresh
		want map[string]string
	}{
		{"rules and a required scope", rules, []string{"wiki:read"}, []string{"openid", "email"}, map[string]string{
			"": "wiki:read wiki:hello", "openid email": "wiki:read wiki:hello", "openid email profile offline_access": "wiki:read wiki:hello", "offline_access": "wiki:read wiki:hello",
			"claudeai": "wiki:read", "claudeai openid": "wiki:read", "wiki:read": "wiki:read", "wiki:hello": "wiki:hello", "wiki:read wiki:admin": "wiki:read", "email wiki:hello x": "wiki:hello"}},
		{"rules", rules, nil, []string{"openid", "email"}, map[string]string{
			"": "wiki:read wiki:hello", "openid email": "wiki:read wiki:hello", "claudeai": "", "wiki:admin": "", "wiki:read openid": "wiki:read"}},
		{"a required scope", nil, []string{"wiki:read"}, []string{"openid", "email", "profile"}, map[string]string{
			"": "wiki:read email profile", "openid email profile": "wiki:read email profile", "openid wiki:read": "wiki:read", "claudeai": "wiki:read", "x openid": "wiki:read"}},
		{"a required identity scope", nil, []string{"email"}, []string{"openid", "email"}, map[string]string{
			"": "email", "email": "email", "openid": "email", "openid email": "email"}},
		{"openid made a right", nil, []string{"openid", "wiki:read"}, []string{"openid", "email"}, map[string]string{
			"": "openid wiki:read email", "openid wiki:read": "openid wiki:read", "email": "openid wiki:read email"}},
		{"neither", nil, nil, []string{"openid", "email"}, map[string]string{
			"": "email", "email": "email", "claudeai": "", "offline_access": "email", "openid": "email", "openid offline_access": "email"}},
	} {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.ScopeRules, w.wiki.RequiredScopes, w.wiki.Scopes = c.rules, c.required, c.upstream
		})
		a := w.register(w.wiki.PublicURL, nil)
		for asked, want := range c.want {
			t.Run(c.name+", asked for "+asked, func(t *testing.T) {
				w.t = t
				got := a.login("scope", asked)
				for i := range 3 {
					if got.text("scope") != want {
						t.Errorf("after %d refreshes scope %q, want %q", i, got.text("scope"), want)
					}
					got = a.token(with(a.refreshment(got.text("refresh_token")), "scope", asked)).wants(t, 200, "")
				}
			})
		}
	}
}

// A token without any scope opens nothing if a scope is required, so no such token is issued. The
// refused request does not use up the refresh token.
func TestScopeIsNeededWhereOneIsRequired(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.ScopeRules, w.wiki.RequiredScopes = []string{"*=wiki:read", "group:admins=wiki:admin"}, []string{"wiki:read"}
		w.guarded("memory")
	})
	a := w.register(w.wiki.PublicURL, nil)
	refused := a.token(a.redemption(a.code("scope", "wiki:admin"))).wants(t, 400, "invalid_scope")
	if refused.text("error_description") != "this login gives no scope; this server needs wiki:read" {
		t.Errorf("%s", refused.Body)
	}
	token := a.login("scope", "wiki:read").text("refresh_token")
	for range 3 {
		w.clock.Add(2 * time.Minute) // longer than an answer is repeated
		a.token(with(a.refreshment(token), "scope", "wiki:admin")).wants(t, 400, "invalid_scope")
	}
	if got := a.token(a.refreshment(token)).wants(t, 200, ""); got.text("scope") != "wiki:read" {
		t.Errorf("scope %q", got.text("scope"))
	}
	// A machine has the scopes that its operator gave it, whatever the labels name.
	m := w.machine(issuer.Machine{Subject: "ci-bot", Scope: "wiki:read ci:run"}, "client_secret_basic", nil)
	for asked, want := range map[string]string{"": "wiki:read ci:run", "ci:run": "ci:run", "openid": "wiki:read ci:run", "claudeai": "wiki:read"} {
		if got := m.token(with(clientCredentials, "scope", asked)).wants(t, 200, ""); got.text("scope") != want {
			t.Errorf("a machine that asks for %q has %q, want %q", asked, got.text("scope"), want)
		}
	}
	m.token(with(clientCredentials, "scope", "wiki:admin")).wants(t, 400, "invalid_scope")
	bare := w.machine(issuer.Machine{Subject: "ci-bot"}, "client_secret_basic", nil)
	bare.token(clientCredentials).wants(t, 400, "invalid_scope")
}

// If the provider takes back all scopes of a login, the client hears so at that refresh. A token
// that opens nothing would make the client try again for an hour.
func TestRefreshOfWhichTheProviderLeavesNothing(t *testing.T) {
	for _, guard := range []string{"none", "memory"} {
		t.Run("guard "+guard, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Scopes, w.wiki.RequiredScopes = []string{"openid", "wiki:read"}, []string{"wiki:read"}
				w.guarded(guard)
				all := "openid wiki:read"
				w.idp.Be(issuertest.Behaviour{Scope: &all})
			})
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login("scope", "wiki:read").text("refresh_token")
			scope := "openid"
			w.idp.Be(issuertest.Behaviour{Scope: &scope})
			w.clock.Add(61 * time.Minute)
			a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
			// The same holds for the second of two simultaneous requests, and for a client that
			// comes again.
			a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
		})
	}
}

// A refresh may ask for one scope that the provider takes back at that very check. It then gets the
// scopes that the server requires, and not a token that opens nothing.
func TestRefreshThatAsksForWhatTheProviderJustTookBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		required []string
		asked    string
		want     string
	}{
		{"where a scope is required", []string{"wiki:read"}, "wiki:write", "wiki:read"},
		{"where a scope is required, with openid", []string{"wiki:read"}, "wiki:write openid", "wiki:read"},
		{"where none is", nil, "wiki:write", ""},
	} {
		for _, guard := range []string{"none", "memory"} {
			t.Run(c.name+", guard "+guard, func(t *testing.T) {
				scope := "openid wiki:read wiki:write"
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Scopes, w.wiki.RequiredScopes = strings.Fields(scope), c.required
					w.guarded(guard)
				})
				w.idp.Be(issuertest.Behaviour{Scope: &scope})
				a := w.register(w.wiki.PublicURL, nil)
				token := a.login().text("refresh_token")
				less := "openid wiki:read"
				w.idp.Be(issuertest.Behaviour{Scope: &less})
				w.clock.Add(61 * time.Minute)
				got := a.token(with(a.refreshment(token), "scope", c.asked)).wants(t, 200, "")
				if got.text("scope") != c.want {
					t.Errorf("scope %q, want %q", got.text("scope"), c.want)
				}
				if claims := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now()); claims["scope"] != c.want && c.want != "" {
					t.Errorf("in the token %q, want %q", claims["scope"], c.want)
				}
				// The login goes on.
				a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
			})
		}
	}
}

// A provider that says nothing about scopes in its answer may never have heard of the one that
// opens this server's door.
func TestSilentProviderGrantsOnlyWhatItKnows(t *testing.T) {
	all := "openid wiki:admin"
	lists := func(scopes ...string) map[string]any { return map[string]any{"scopes_supported": scopes} }
	for _, c := range []struct {
		name      string
		rules     []string
		behaviour issuertest.Behaviour
		issuer    string
		want      string // scope; empty if nobody comes in
	}{
		{"it lists other scopes", nil, issuertest.Behaviour{Discovery: lists("openid", "email")}, "", ""},
		{"it lists none", nil, issuertest.Behaviour{}, "", ""},
		{"it lists the scope", nil, issuertest.Behaviour{Discovery: lists("openid", "wiki:admin")}, "", "wiki:admin"},
		{"it says that it granted it, and lists others, as Entra ID and Auth0 do", nil, issuertest.Behaviour{Scope: &all, Discovery: lists("openid")}, "", "wiki:admin"},
		{"a rule gives it to everybody", []string{"*=wiki:admin"}, issuertest.Behaviour{Discovery: lists("openid")}, "", "wiki:admin"},
		{"a rule gives it to this person", []string{"sub:person-1=wiki:admin"}, issuertest.Behaviour{}, "", "wiki:admin"},
		{"it would have refused a scope that it does not know", nil, issuertest.Behaviour{}, "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_a", "wiki:admin"},
	} {
		for _, exchange := range []string{"token", "auto"} {
			t.Run(c.name+", exchange="+exchange, func(t *testing.T) {
				w := newWorld(t, &issuertest.Options{Issuer: c.issuer}, func(w *world) {
					w.wiki.Scopes, w.wiki.RequiredScopes, w.wiki.ScopeRules, w.wiki.Exchange = []string{"openid", "wiki:admin"}, []string{"wiki:admin"}, c.rules, exchange
					w.guarded("memory")
				})
				w.idp.Be(c.behaviour)
				a := w.register(w.wiki.PublicURL, nil)
				if c.want != "" {
					if got := a.login(); got.text("scope") != c.want {
						t.Errorf("scope %q, want %q", got.text("scope"), c.want)
					}
					return
				}
				b := issuertest.NewBrowser(t, w.net)
				p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow")))
				if exchange == "token" {
					got := a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
					if !strings.Contains(got.Body, "did not grant wiki:admin") {
						t.Errorf("%s", got.Body)
					}
				} else if p.Status != 403 || !strings.Contains(p.Body, "did not grant wiki:admin") {
					t.Errorf("status %d: %s", p.Status, p.Body)
				}
				log := w.log.String()
				for _, line := range []string{
					`does not say that it granted wiki:admin, which requiredScopes needs, and does not list that scope: say by the label scopeRules who gets them (for everybody: scopeRules=\"*=wiki:admin\")`,
					"and these are not among those that it lists: nobody gets them",
				} {
					if !strings.Contains(log, line) {
						t.Errorf("the log lacks %s:\n%s", line, log)
					}
				}
			})
		}
	}
}

// A scope that rules withheld does not come back when the rules are removed.
func TestScopesThatNoRuleGivesAnyMore(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.ScopeRules = []string{"*=wiki:read", "group:admins=wiki:admin"}
		w.wiki.RequiredScopes = []string{"wiki:read"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login("scope", "wiki:read wiki:admin") // the person allows both, the rules give one
	if got := tokens.text("scope"); got != "wiki:read" {
		t.Fatalf("scope %q", got)
	}
	w.relabel(func(t *labels) { t.ScopeRules = nil })
	tokens = a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
	if got := tokens.text("scope"); got != "wiki:read" {
		t.Errorf("without rules the refresh gives %q", got)
	}
	if got := a.login("scope", "wiki:read wiki:admin").text("scope"); got != "wiki:read" {
		t.Errorf("without rules a login gives %q", got)
	}
}

// The same holds if the label scopes names the right. A provider that said nothing of scopes has
// not granted a scope that it does not know, though at the login no rule needed its answer.
func TestScopesOfASilentProviderWhenTheRulesGo(t *testing.T) {
	silent := issuertest.Behaviour{Discovery: map[string]any{"scopes_supported": []string{"openid", "mcp:read"}}}
	all := "openid mcp:read mcp:admin"
	says := silent
	says.Scope = &all
	for _, c := range []struct {
		name         string
		login, later issuertest.Behaviour
		required     []string
		scope        string // after the rules are gone; "" if the person is not admitted
	}{
		{"it says nothing", silent, silent, nil, "mcp:read"},
		{"it says nothing, and the right opens the door", silent, silent, []string{"mcp:admin"}, ""},
		{"it names the scope at the login", says, silent, []string{"mcp:admin"}, "mcp:admin mcp:read"},
		{"it names the scope later", silent, says, nil, "mcp:read mcp:admin"},
	} {
		for _, exchange := range []string{"token", "callback"} {
			for _, interval := range []int64{0, 3600} {
				if interval != 0 && c.later.Scope != nil && c.login.Scope == nil {
					continue // it is not asked
				}
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Scopes, w.wiki.RequiredScopes, w.wiki.Exchange = []string{"openid", "mcp:read", "mcp:admin"}, c.required, exchange
					w.wiki.ScopeRules, w.wiki.UpstreamCheckInterval = []string{"*=mcp:read", "sub:person-1=mcp:admin"}, interval
				})
				w.idp.Be(c.login)
				a := w.register(w.wiki.PublicURL, nil)
				token := a.login().text("refresh_token")
				// rules may change
				w.relabel(func(l *labels) { l.ScopeRules = []string{"*=mcp:read mcp:admin"} })
				for n, rules := range [][]string{{"*=mcp:read mcp:admin"}, nil, nil} {
					w.relabel(func(l *labels) { l.ScopeRules = rules })
					w.idp.Be(c.later)
					w.clock.Add(2 * time.Minute)
					got := a.token(a.refreshment(token))
					want := c.scope
					if rules != nil {
						want = "mcp:read mcp:admin"
					}
					if got.text("scope") != want && len(c.required) == 0 || (got.Status == 200) != (want != "") || len(strings.Fields(got.text("scope"))) != len(strings.Fields(want)) {
						t.Errorf("%s, exchange=%s, interval %d, refresh %d: %s, want %q: %s", c.name, exchange, interval, n, got.Body, want, w.log)
					}
					if got.Status == 200 {
						token = got.text("refresh_token")
					}
				}
			}
		}
	}
}

// A client that needs more asks the person again, and gets more (RFC 9470 does the same for other
// reasons).
func TestStepUp(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.ScopeRules, w.wiki.RequiredScopes = []string{"*=wiki:read wiki:write"}, []string{"wiki:read"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	if got := a.login("scope", "wiki:read").text("scope"); got != "wiki:read" {
		t.Errorf("scope %q", got)
	}
	if got := a.login("scope", "wiki:read wiki:write").text("scope"); got != "wiki:read wiki:write" {
		t.Errorf("scope after the step-up %q", got)
	}
}

// Clients ask for all scopes in the protected resource's metadata, so it lists those that the
// server requires. The server's own metadata lists all scopes.
func TestScopesInTheMetadata(t *testing.T) {
	rules := []string{"group:admins=wiki:write wiki:read", "*=wiki:read"}
	for _, c := range []struct {
		name             string
		labels           labels
		server, resource []any
	}{
		{"no rules", labels{Scopes: []string{"openid", "offline_access"}, RequiredScopes: []string{"wiki:read"}}, []any{"wiki:read", "offline_access"}, []any{"wiki:read"}},
		{"openid alone", labels{Scopes: []string{"openid"}}, []any{"offline_access"}, nil},
		{"openid made a right", labels{Scopes: []string{"openid"}, RequiredScopes: []string{"openid"}}, []any{"openid", "offline_access"}, []any{"openid"}},
		{"the label scopesSupported names openid", labels{Scopes: []string{"openid"}, RequiredScopes: []string{"wiki:read"}, ScopesSupported: []string{"openid", "wiki:read"}}, []any{"wiki:read", "offline_access"}, []any{"wiki:read"}},
		{"rules", labels{Scopes: []string{"openid"}, ScopeRules: rules, RequiredScopes: []string{"wiki:read"}}, []any{"wiki:write", "wiki:read", "offline_access"}, []any{"wiki:read"}},
		{"rules, nothing required", labels{ScopeRules: rules}, []any{"wiki:write", "wiki:read", "offline_access"}, nil},
		{"the label scopesSupported", labels{ScopeRules: rules, RequiredScopes: []string{"wiki:read"}, ScopesSupported: []string{"wiki:read", "wiki:write"}}, []any{"wiki:read", "wiki:write", "offline_access"}, []any{"wiki:read", "wiki:write"}},
		{"the label names offline_access", labels{ScopesSupported: []string{"wiki:read", "offline_access"}}, []any{"wiki:read", "offline_access"}, []any{"wiki:read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Scopes, w.wiki.ScopeRules, w.wiki.RequiredScopes, w.wiki.ScopesSupported = c.labels.Scopes, c.labels.ScopeRules, c.labels.RequiredScopes, c.labels.ScopesSupported
			})
			server := w.get(w.wiki.PublicURL + "/.well-known/oauth-authorization-server").JSON["scopes_supported"]
			if !reflect.DeepEqual(server, c.server) {
				t.Errorf("the server lists %v, want %v", server, c.server)
			}
			resource, _ := w.get(w.wiki.PublicURL + "/.well-known/oauth-protected-resource/mcp").JSON["scopes_supported"].([]any)
			if !reflect.DeepEqual(resource, c.resource) {
				t.Errorf("the resource lists %v, want %v", resource, c.resource)
			}
		})
	}
}

// The plugin refuses such labels by name. A hop header that has them nevertheless is refused as a
// whole.
func TestScopeRulesThatAreRefused(t *testing.T) {
	for _, rules := range [][]string{
		{"wiki:read"}, {"*="}, {"=wiki:read"}, {"group:=wiki:read"}, {"group=wiki:read"}, {"team:x=wiki:read"}, {"*:x=wiki:read"}, {"*=a", ""},
		{"*=" + strings.Repeat("x", 1100)},
	} {
		t.Run(fmt.Sprintf("%.40q", rules), func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.ScopeRules = rules })
			if r := w.get(w.wiki.PublicURL + "/oauth/jwks.json"); r.Status != 403 || !strings.Contains(w.log.String(), "scopeRules") {
				t.Errorf("status %d; the log: %s", r.Status, w.log)
			}
		})
	}
	w := newWorld(t, nil, func(w *world) { w.wiki.IdentityClaims = []string{"phone"} })
	if r := w.get(w.wiki.PublicURL + "/oauth/jwks.json"); r.Status != 403 || !strings.Contains(w.log.String(), "identityClaims") {
		t.Errorf("status %d; the log: %s", r.Status, w.log)
	}
}
