package issuer_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// How the provider is asked for a refresh token, in its own way; or not at all.
func TestOfflineAccessIsAskedForInTheProvidersWay(t *testing.T) {
	supports := map[string]any{"scopes_supported": []string{"openid", "email", "offline_access"}}
	for _, c := range []struct {
		name     string
		refresh  string
		scopes   []string // the label
		be       issuertest.Behaviour
		scope    string
		offline  string // access_type
		prompt   string
		asGoogle bool
	}{
		{"a provider that knows offline_access", "auto", []string{"openid", "email"}, issuertest.Behaviour{Discovery: supports}, "openid email offline_access", "", "", false},
		{"and is asked by the label too", "auto", []string{"offline_access", "openid"}, issuertest.Behaviour{Discovery: supports}, "openid offline_access", "", "", false},
		{"a provider that does not say", "auto", []string{"openid"}, issuertest.Behaviour{}, "openid", "", "", false},
		{"and is asked by the label", "auto", []string{"openid", "offline_access"}, issuertest.Behaviour{}, "openid offline_access", "", "", false},
		{"refresh=upstream", "upstream", []string{"openid"}, issuertest.Behaviour{Discovery: supports}, "openid offline_access", "", "", false},
		{"refresh=session", "session", []string{"openid", "offline_access"}, issuertest.Behaviour{Discovery: supports}, "openid", "", "", false},
		{"Google: never the scope", "auto", []string{"openid", "email", "offline_access"}, issuertest.Behaviour{Discovery: supports}, "openid email", "offline", "consent", true},
		{"Google with refresh=session", "session", []string{"openid", "email"}, issuertest.Behaviour{}, "openid email", "", "", true},
		{"Dex: sessions, because a second login would end the first", "auto", []string{"openid", "email", "offline_access"}, issuertest.Behaviour{Dex: true}, "openid email", "", "", false},
		{"Dex with refresh=upstream", "upstream", []string{"openid", "email"}, issuertest.Behaviour{Dex: true}, "openid email offline_access", "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Refresh, w.wiki.Scopes = c.refresh, c.scopes
				if c.asGoogle {
					w.asGoogle()
				}
			})
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			p := b.Decide(b.Get(a.authorizeURL()), "allow")
			u, err := url.Parse(p.Next())
			if err != nil || u.Host == "" {
				t.Fatalf("status %d: %s", p.Status, p.Body)
			}
			got := u.Query()
			if got.Get("scope") != c.scope || got.Get("access_type") != c.offline || got.Get("prompt") != c.prompt {
				t.Errorf("asked with %v", got)
			}
		})
	}
}

// asGoogle makes the provider answer under Google's name: everything that is asked of Google goes to it, and its documents say so.
func (w *world) asGoogle() {
	const google = "https://accounts.google.com"
	w.wiki.ProviderIssuer = google
	next := w.idp.Transport
	w.config = func(c *issuer.Config) {
		c.Transport = transport(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.URL.Scheme, r.URL.Host, r.Host = "http", strings.TrimPrefix(w.idp.Issuer, "http://"), ""
			resp, err := next.RoundTrip(r)
			if err != nil || r.URL.Path != "/.well-known/openid-configuration" {
				return resp, err
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			text := strings.ReplaceAll(string(body), w.idp.Issuer, google)
			resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			return resp, err
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What becomes of a login by the label refresh and by what the provider gives.
func TestRefreshModes(t *testing.T) {
	for _, c := range []struct {
		name    string
		refresh string
		be      issuertest.Behaviour
		login   string
		asked   bool // after an hour, the provider
		day     string
		month   string // 29 days after the login, having been used in between
		cause   string
	}{
		{"auto, with a refresh token", "auto", issuertest.Behaviour{}, "ok", true, "ok", "ok", ""},
		{"auto, without one", "auto", issuertest.Behaviour{Refresh: "none"}, "ok", false, "invalid_grant", "invalid_grant", ""},
		{"upstream, with a refresh token", "upstream", issuertest.Behaviour{}, "ok", true, "ok", "ok", ""},
		{"upstream, without one", "upstream", issuertest.Behaviour{Refresh: "none"}, "access_denied", false, "", "", "the label refresh=upstream wants a refresh token of the provider"},
		{"upstream, with one that cannot be carried", "upstream", issuertest.Behaviour{RefreshLength: 5000}, "access_denied", false, "", "", "the label refresh=upstream wants a refresh token of the provider"},
		{"session, though the provider gives one", "session", issuertest.Behaviour{}, "ok", false, "invalid_grant", "invalid_grant", ""},
		{"auto at Dex", "auto", issuertest.Behaviour{Dex: true}, "ok", false, "invalid_grant", "invalid_grant", ""},
		{"upstream at Dex", "upstream", issuertest.Behaviour{Dex: true}, "ok", true, "ok", "ok", ""},
	} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(c.name+", exchange="+exchange, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Refresh, w.wiki.Exchange = c.refresh, exchange
					w.guarded("memory")
				})
				w.idp.Be(c.be)
				s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
				if c.login != "ok" {
					back := issuertest.NewBrowser(t, w.net).Login(s.a.authorizeURL()).Query()
					got := back.Get("error") // of exchange=callback
					if code := back.Get("code"); code != "" {
						got = outcome(s.a.token(s.a.redemption(code)))
					}
					if got != c.login || !strings.Contains(w.log.String(), c.cause) {
						t.Errorf("%s, want %s: %s", got, c.login, w.log)
					}
					return
				}
				s.last = s.a.login().text("refresh_token")
				w.clock.Add(time.Hour)
				s.refresh(s.last)
				if asked := w.idp.Refreshes() > 0; asked != c.asked {
					t.Errorf("the provider was asked: %v", asked)
				}
				w.clock.Add(23*time.Hour + time.Second)
				s.refresh(s.last)
				for range 4 {
					w.clock.Add(7 * 24 * time.Hour)
					s.refresh(s.last)
				}
				if s.said[0] != "ok" || s.said[1] != c.day || s.said[5] != c.month {
					t.Errorf("%q, want %s after a day and %s after a month", s.said, c.day, c.month)
				}
			})
		}
	}
}

// Dex keeps one refresh token for each person and client, and all MCP clients share the bouncer's. By default nobody notices.
func TestASecondClientAtDex(t *testing.T) {
	for _, c := range []struct {
		refresh, want string
		calls         int
	}{
		{"auto", "ok", 0},                // sessions
		{"upstream", "invalid_grant", 1}, // the operator's choice: the newest login of a person is the only one
	} {
		t.Run("refresh="+c.refresh, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.Refresh = c.refresh })
			w.idp.Be(issuertest.Behaviour{Dex: true})
			first, second := w.register(w.wiki.PublicURL, nil), w.register(w.wiki.PublicURL, nil)
			token := first.login().text("refresh_token")
			second.login()
			w.clock.Add(time.Hour)
			if got := outcome(first.token(first.refreshment(token))); got != c.want || w.idp.Refreshes() != c.calls {
				t.Errorf("%s, %d calls, want %s, %d", got, w.idp.Refreshes(), c.want, c.calls)
			}
		})
	}
}

// How providers say that a refresh token is worth nothing, and how they say that they are out of order.
func TestDialectsOfRefusal(t *testing.T) {
	entra := func(code string, numbers ...int) issuertest.Behaviour {
		return issuertest.Behaviour{Refresh: "static", Body: fmt.Sprintf(`{"error":%q,"error_description":"AADSTS…","error_codes":%s}`, code, strings.Join(strings.Fields(fmt.Sprint(numbers)), ",")), Status: 400}
	}
	refuses := func(status int, code string) issuertest.Behaviour {
		return issuertest.Behaviour{RefreshStatus: status, RefreshError: code}
	}
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
		want string // an hour after the provider's last word
		old  string // more than two hours after it
	}{
		{"RFC 6749, Keycloak, Okta, Auth0, Google, Cognito, Zitadel", refuses(400, "invalid_grant"), "invalid_grant", "invalid_grant"},
		{"the same with another status", refuses(403, "invalid_grant"), "invalid_grant", "invalid_grant"},
		{"invalid_token", refuses(400, "invalid_token"), "invalid_grant", "invalid_grant"},
		{"expired_token", refuses(401, "expired_token"), "invalid_grant", "invalid_grant"},
		{"bad_refresh_token, with status 200 as GitHub does", issuertest.Behaviour{Body: `{"error":"bad_refresh_token"}`}, "invalid_grant", "invalid_grant"},
		{"Entra ID: the token was revoked", entra("invalid_grant", 50173), "invalid_grant", "invalid_grant"},
		{"Entra ID: somebody must sign in", entra("interaction_required", 50076), "invalid_grant", "invalid_grant"},
		{"Entra ID: too many requests, under the name of a refusal", entra("invalid_grant", 50196), "short", "temporarily_unavailable"},
		{"Entra ID: its directory is away", entra("temporarily_unavailable", 90033), "short", "temporarily_unavailable"},
		{"server_error with status 400", refuses(400, "server_error"), "short", "temporarily_unavailable"},
		{"invalid_grant with status 500 is a refusal still", refuses(500, "invalid_grant"), "invalid_grant", "invalid_grant"},
		{"so is invalid_code", refuses(500, "invalid_code"), "invalid_grant", "invalid_grant"},
		{"invalid_token with status 500 is none", refuses(500, "invalid_token"), "short", "temporarily_unavailable"},
		{"the operator's client", refuses(401, "invalid_client"), "short", "server_error"},
		{"unauthorized_client", refuses(400, "unauthorized_client"), "short", "server_error"},
		{"Dex: the token is not there any more", issuertest.Behaviour{Dex: true, RefreshStatus: 400, RefreshError: "invalid_request"}, "invalid_grant", "invalid_grant"},
		{"Dex: the person is gone, or the directory is away", issuertest.Behaviour{Dex: true, Gone: true}, "short", "invalid_grant"},
		{"not Dex, with Dex's words", issuertest.Behaviour{RefreshStatus: 500, RefreshError: "invalid_request"}, "short", "temporarily_unavailable"},
	} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", after a longer silence: ", old), func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) { w.wiki.Refresh = "upstream" })
				w.idp.Be(issuertest.Behaviour{Dex: c.be.Dex})
				a := w.register(w.wiki.PublicURL, nil)
				token := a.login().text("refresh_token")
				w.clock.Add(time.Hour)
				want := c.want
				if old {
					w.clock.Add(time.Hour + time.Second)
					want = c.old
				}
				w.idp.Be(c.be)
				got := a.token(a.refreshment(token))
				if outcome(got) != want || strings.Contains(got.Body, "provider's own words") || strings.Contains(got.Body, "AADSTS") {
					t.Errorf("%s, want %s: %s", outcome(got), want, got.Body)
				}
			})
		}
	}
}

func TestTheCheckInterval(t *testing.T) {
	for _, c := range []struct {
		interval int64
		calls    int // of ten refreshes at intervals of ten minutes
	}{{0, 10}, {600, 10}, {601, 5}, {3600, 1}, {86400, 0}} {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.UpstreamCheckInterval = c.interval
			w.guarded("memory")
		})
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		s.last = s.a.login().text("refresh_token")
		for range 10 {
			w.clock.Add(10 * time.Minute)
			s.refresh(s.last)
		}
		if got := strings.Join(s.said, ""); got != strings.Repeat("ok", 10) || w.idp.Refreshes() != c.calls {
			t.Errorf("every %d s: %d calls, want %d; %s", c.interval, w.idp.Refreshes(), c.calls, got)
		}
	}
}

// A client that hangs up must not abort what a provider that rotates has begun.
func TestAClientHangsUpDuringACheck(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
	w.idp.Be(issuertest.Behaviour{KillOnReuse: true, Delay: 100 * time.Millisecond})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	w.clock.Add(time.Hour)
	r := a.tokenRequest(a.refreshment(token))
	gone, hangUp := contextWithTimeout(r, 20*time.Millisecond)
	defer hangUp()
	w.do(gone)
	if got := outcome(a.token(a.refreshment(token))); got != "ok" || w.idp.Refreshes() != 1 {
		t.Errorf("again: %s, %d calls", got, w.idp.Refreshes())
	}
}

// An operator learns that a stolen refresh token would go unnoticed: once.
func TestAStaticProviderWithoutAGuardIsNamedInTheLog(t *testing.T) {
	for _, c := range []struct {
		guard string
		be    issuertest.Behaviour
		want  int
	}{{"none", issuertest.Behaviour{Refresh: "static"}, 1}, {"none", issuertest.Behaviour{}, 0}, {"memory", issuertest.Behaviour{Refresh: "static"}, 0}} {
		w := newWorld(t, nil, func(w *world) { w.guarded(c.guard) })
		w.idp.Be(c.be)
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		s.last = s.a.login().text("refresh_token")
		for range 3 {
			w.clock.Add(time.Hour)
			s.refresh(s.last)
		}
		if n := strings.Count(w.log.String(), "keeps its refresh tokens"); n != c.want {
			t.Errorf("guard %s: said %d times, want %d", c.guard, n, c.want)
		}
	}
}

// Some systems cut URLs at 2,000 characters. With a code of Entra ID's size inside ours, the way back to the client stays below.
func TestLargeValuesOfAProviderFit(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.idp.Be(issuertest.Behaviour{CodeLength: 1500, RefreshLength: 1800})
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"com.anysphere.cursor://retrieval/oauth/user-mcp/callback"}, "token_endpoint_auth_method": "none"})
	a.state = strings.Repeat("s", 43)
	back := issuertest.NewBrowser(t, w.net).Login(a.authorizeURL())
	if n := len(back.String()); n >= 2000 {
		t.Errorf("%d characters", n)
	}
	got := a.token(a.redemption(back.Query().Get("code"))).wants(t, 200, "")
	if n := len(got.text("refresh_token")); n > 2200 {
		t.Errorf("a refresh token of %d characters", n)
	}
	w.clock.Add(time.Hour)
	a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
	if w.idp.Refreshes() != 1 {
		t.Error("the provider's refresh token was not carried")
	}
}
