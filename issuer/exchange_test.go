package issuer_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
)

// With exchange=auto the rules are applied in the browser if one of them can refuse the person and
// a guard counts.
func TestExchangeAutoRedeemsTheProvidersCode(t *testing.T) {
	nobody := func(*labels) {}
	subjects := func(l *labels) { l.AllowedSubjects = []string{"person-1"} }
	for _, c := range []struct {
		name     string
		exchange string
		guard    string
		lambda   bool
		rules    func(*labels)
		callback bool
	}{
		{"no rule, no guard", "auto", "none", false, nobody, false},
		{"no rule, memory", "auto", "memory", false, nobody, false},
		{"no rule, a shared store", "auto", "shared", false, nobody, false},
		{"a rule, no guard: the provider counts", "auto", "none", false, subjects, false},
		{"a rule, memory", "auto", "memory", false, subjects, true},
		{"a rule, a shared store", "auto", "shared", false, subjects, true},
		{"a rule, a store that does not answer: the provider counts", "auto", "broken", false, subjects, false},
		{"a rule, Lambda without a guard", "auto", "none", true, subjects, false},
		{"a rule, memory on Lambda, where each process has its own", "auto", "memory", true, subjects, false},
		{"a rule, a shared store on Lambda", "auto", "redis", true, subjects, true},
		{"e-mail addresses", "auto", "memory", false, func(l *labels) { l.AllowedEmails = []string{"ada@example.com"} }, true},
		{"domains", "auto", "memory", false, func(l *labels) { l.AllowedDomains = []string{"example.com"} }, true},
		{"groups", "auto", "memory", false, func(l *labels) { l.AllowedGroups = []string{"wiki"} }, true},
		{"scopes that not everybody gets, and one of them required", "auto", "memory", false, func(l *labels) {
			l.ScopeRules, l.RequiredScopes = []string{"sub:person-1=wiki:read"}, []string{"wiki:read"}
		}, true},
		{"scopes that not everybody gets, and none required", "auto", "memory", false, func(l *labels) {
			l.ScopeRules, l.RequiredScopes = []string{"sub:person-1=wiki:read"}, nil
		}, false},
		{"a required scope that everybody gets", "auto", "memory", false, func(l *labels) {
			l.ScopeRules, l.RequiredScopes = []string{"*=wiki:read"}, []string{"wiki:read"}
		}, false},
		{"a required scope that the provider may withhold", "auto", "memory", false, func(l *labels) {
			l.Scopes, l.RequiredScopes = []string{"openid", "wiki:read"}, []string{"wiki:read"}
		}, true},
		{"who gets no refresh token of the provider is refused", "auto", "memory", false, func(l *labels) { l.Refresh = "upstream" }, true},
		{"token, whatever else is set", "token", "shared", false, subjects, false},
		{"callback, whatever else is set", "callback", "none", true, nobody, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Exchange = c.exchange
				c.rules(&w.wiki)
				w.guarded(c.guard)
				guard := w.config
				w.config = func(config *issuer.Config) {
					guard(config)
					config.OnLambda = c.lambda
					switch c.guard {
					case "broken":
						g, store := issuer.NewFaultyGuard(idle, w.clock.Now)
						store.Fail(errors.New("no route to host"), nil)
						config.ReplayGuard = g
					case "redis": // its kind; the entries are kept in memory
						_, memory, err := replay.OpenStore("memory", idle, 30*24*time.Hour, w.clock.Now)
						if err != nil {
							t.Fatal(err)
						}
						config.ReplayGuard = replay.New("redis", memory, idle, 30*24*time.Hour)
					}
				}
				w.idp.Be(issuertest.Behaviour{CodeReuse: "allowed", Discovery: map[string]any{"scopes_supported": []string{"openid", "wiki:read"}}, Claims: func(m map[string]any) {
					m["email"], m["email_verified"], m["groups"] = "ada@example.com", true, []string{"wiki"}
				}})
			})
			a := w.register(w.wiki.PublicURL, nil)
			code := a.code()
			if redeemed := w.idp.Posts() == 1; redeemed != c.callback {
				t.Errorf("redeemed at the callback: %v, want %v", redeemed, c.callback)
			}
			a.token(a.redemption(code)).wants(t, 200, "")
			if n := w.idp.Posts(); n != 1 {
				t.Errorf("the provider's code was redeemed %d times", n)
			}
			// If a guard counts, the second use is refused although this provider accepts its codes
			// again.
			if c.guard == "memory" || c.guard == "shared" || c.guard == "redis" {
				a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
			}
		})
	}
}

// In one process the default never lets a code be used more often than exchange=token does, with
// each guard and each kind of provider.
func TestExchangeAutoKeepsWhatTokenPromises(t *testing.T) {
	for _, guard := range []string{"none", "memory", "shared"} {
		for _, reuse := range []string{"", "allowed"} {
			used := map[string]string{}
			for _, exchange := range []string{"token", "auto"} {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Exchange, w.wiki.AllowedSubjects = exchange, []string{"person-1"}
					w.guarded(guard)
					w.idp.Be(issuertest.Behaviour{CodeReuse: reuse})
				})
				a := w.register(w.wiki.PublicURL, nil)
				code := a.code()
				a.token(a.redemption(code)).wants(t, 200, "")
				used[exchange] = outcome(a.token(a.redemption(code)))
			}
			if used["token"] == "invalid_grant" && used["auto"] != "invalid_grant" {
				t.Errorf("guard %s, provider that answers %q to a used code: token says %s, auto %s", guard, reuse, used["token"], used["auto"])
			}
		}
	}
}

// A person who is not admitted reads so in the browser, and not "Authentication successful". The
// test sets only labels; everything else has the sidecar's defaults.
func TestExchangeShowsARefusalInTheBrowser(t *testing.T) {
	for _, redirect := range []string{"https://app.example/callback", "http://127.0.0.1:33418/callback"} {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.Exchange, w.wiki.AllowedSubjects = "auto", []string{"somebody-else"}
			w.guarded("memory")
		})
		a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none"})
		b := issuertest.NewBrowser(t, w.net)
		p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow")))
		if strings.HasPrefix(redirect, "https:") {
			if p.Status != 403 || !strings.Contains(p.Body, "This account may not come in") {
				t.Errorf("status %d: %s", p.Status, p.Body)
			}
		} else if next := p.Next(); !strings.HasPrefix(next, redirect+"?error=access_denied&") {
			t.Errorf("the program on this machine is told %s", next)
		}
		if log := w.log.String(); !strings.Contains(log, "not admitted by the label allowedSubjects") {
			t.Errorf("the log: %s", log)
		}
	}
}

// A person who is not admitted because a claim did not come reads that the operator must act, and
// not that the account is the wrong one.
func TestExchangeShowsInTheBrowserWhatCannotBeJudged(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Exchange, w.wiki.AllowedGroups = "auto", []string{"wiki"}
		w.guarded("memory")
	})
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow")))
	if p.Status != 403 || !strings.Contains(p.Body, "the sign-in provider does not say of it what the server needs to know") || !strings.Contains(p.Body, "Tell whoever runs this server the reference below") ||
		strings.Contains(p.Body, "group") {
		t.Errorf("status %d: %s", p.Status, p.Body)
	}
}

// If the provider withholds all scopes of a login, the login could do nothing, and the person is
// told at once.
func TestExchangeOfALoginThatCouldDoNothing(t *testing.T) {
	scope := "openid email"
	for _, exchange := range []string{"token", "callback", "auto"} {
		for name, rules := range map[string][]string{"without rules": nil, "with rules that give it": {"*=wiki:read"}} {
			t.Run(exchange+" "+name, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Exchange, w.wiki.RequiredScopes, w.wiki.Scopes, w.wiki.ScopeRules = exchange, []string{"wiki:read"}, []string{"openid", "email", "wiki:read"}, rules
					w.guarded("memory")
					w.idp.Be(issuertest.Behaviour{Scope: &scope})
				})
				a := w.register(w.wiki.PublicURL, nil)
				if exchange == "token" {
					got := a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
					if got.text("error_description") != "the sign-in provider did not grant wiki:read, without which nothing can be done at this server; tell whoever runs it" {
						t.Errorf("%s", got.Body)
					}
				} else {
					b := issuertest.NewBrowser(t, w.net)
					p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow")))
					if p.Status != 403 || !strings.Contains(p.Body, "You could do nothing here") || !strings.Contains(p.Body, "did not grant wiki:read") || !strings.Contains(p.Body, "error=access_denied") {
						t.Errorf("status %d: %s", p.Status, p.Body)
					}
				}
				if log := w.log.String(); !strings.Contains(log, "the provider did not grant wiki:read, which requiredScopes needs: let its client there have that scope") {
					t.Errorf("the log: %s", log)
				}
			})
		}
	}
	t.Run("what no rule gives to anybody is said when the tenant is first seen", func(t *testing.T) {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.RequiredScopes, w.wiki.ScopeRules = []string{"wiki:read", "wiki:write"}, []string{"*=wiki:read"}
		})
		w.register(w.wiki.PublicURL, nil)
		if log := w.log.String(); !strings.Contains(log, "nobody: no rule of scopeRules gives wiki:write, which requiredScopes needs") {
			t.Errorf("the log: %s", log)
		}
	})
}

// A claim that the provider did not send is told apart from what it said of the person.
func TestExchangeWithARuleWhoseClaimDidNotCome(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels func(*labels)
		claims map[string]any
		log    string
		untold bool // the person hears that the operator must act
	}{
		{"no groups", func(l *labels) { l.AllowedGroups = []string{"wiki"} }, map[string]any{"email": "ada@example.com"},
			`no groups came; the provider sent no claim \"groups\" (sent: aud, email, exp, iat, iss, nonce, sub): ask for it by the label scopes, or set groupsClaim`, true},
		{"other groups", func(l *labels) { l.AllowedGroups = []string{"wiki"} }, map[string]any{"groups": []string{"cooks"}}, "none of the groups is in the claim groups; subject", false},
		{"an empty list of groups", func(l *labels) { l.AllowedGroups = []string{"wiki"} }, map[string]any{"groups": []string{}}, "none of the groups is in the claim groups; subject", false},
		{"groups in another claim", func(l *labels) { l.AllowedGroups, l.GroupsClaim = []string{"wiki"}, "realm_access.roles" }, map[string]any{"groups": []string{"wiki"}},
			`no groups came; the provider sent no claim \"realm_access.roles\" (sent: aud, exp, groups, iat, iss, nonce, sub): ask for it by the label scopes, or set groupsClaim`, true},
		{"a nested claim", func(l *labels) { l.AllowedGroups, l.GroupsClaim = []string{"wiki"}, "realm_access.roles" }, map[string]any{"realm_access": map[string]any{"roles": []string{"cooks"}}},
			"none of the groups is in the claim realm_access.roles; subject", false},
		{"no address", func(l *labels) { l.AllowedEmails = []string{"ada@example.com"} }, nil,
			`the provider vouches for no e-mail address; the provider sent no claim \"email\" (sent: aud, exp, iat, iss, nonce, sub): ask for it by the label scopes`, true},
		{"an address that nobody vouches for", func(l *labels) { l.AllowedEmails = []string{"ada@example.com"} }, map[string]any{"email": "ada@example.com"},
			"the provider vouches for no e-mail address; it sent one, and does not say that it is verified (email_verified); subject", true},
		{"an address that is not verified", func(l *labels) { l.AllowedEmails = []string{"ada@example.com"} }, map[string]any{"email": "ada@example.com", "email_verified": false},
			"the provider vouches for no e-mail address; subject", false},
		{"no address for a domain", func(l *labels) { l.AllowedDomains = []string{"example.com"} }, nil,
			`no Workspace account; the provider sent no claim \"email\" (sent: aud, exp, iat, iss, nonce, sub): ask for it by the label scopes`, true},
		{"a scope by a group that did not come", func(l *labels) {
			l.ScopeRules, l.RequiredScopes = []string{"group:wiki=wiki:read", "*=wiki:hello"}, []string{"wiki:read", "wiki:hello"}
		}, nil, `this person lacks wiki:read; the provider sent no claim \"groups\" (sent: aud, exp, iat, iss, nonce, sub): ask for it by the label scopes, or set groupsClaim`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				c.labels(&w.wiki)
				w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) {
					for _, name := range []string{"email", "email_verified", "name", "groups"} {
						delete(m, name)
					}
					for name, value := range c.claims {
						m[name] = value
					}
				}})
			})
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
			if strings.Contains(got.Body, "groups") || strings.Contains(got.Body, "claim") {
				t.Errorf("the stranger is told %s", got.Body)
			}
			if untold := strings.Contains(got.Body, "the sign-in provider does not say of it what the server needs to know"); untold != c.untold {
				t.Errorf("the stranger is told %s", got.Body)
			}
			if log := w.log.String(); !strings.Contains(log, c.log) {
				t.Errorf("the log lacks %s:\n%s", c.log, log)
			}
		})
	}
}
