package issuer_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Each provider is asked for a refresh token in its own way, or not at all.
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

// asGoogle makes the provider answer under Google's name: every request to Google goes to it, and
// its documents say so.
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

// Each row: what becomes of a login, by the label refresh and by what the provider gives.
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

// Dex keeps one refresh token for each person and client, and for Dex all MCP clients are one
// client, the sidecar. By default nobody notices.
func TestRefreshOfASecondClientAtDex(t *testing.T) {
	for _, c := range []struct {
		refresh, want string
		calls         int
	}{
		{"auto", "ok", 0}, // sessions
		// the operator chose that only the newest login of a person lives
		{"upstream", "invalid_grant", 1},
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

// Each row: how a provider says that a refresh token is worthless, or that it is out of order
// itself, and what becomes of a login if this goes on for hours. No other login is refreshed
// meanwhile.
func TestDialectsOfRefusal(t *testing.T) {
	entra := func(code string, numbers ...int) issuertest.Behaviour {
		return issuertest.Behaviour{Refresh: "static", Body: fmt.Sprintf(`{"error":%q,"error_description":"AADSTS…","error_codes":%s}`, code, strings.Join(strings.Fields(fmt.Sprint(numbers)), ",")), Status: 400}
	}
	refuses := func(status int, code string) issuertest.Behaviour {
		return issuertest.Behaviour{RefreshStatus: status, RefreshError: code}
	}
	as := func(manner, code, text string) issuertest.Behaviour {
		b := issuertest.Manners[manner]
		b.Gone, b.Refusal, b.RefusalText = true, code, text
		return b
	}
	const over, away, ours = "invalid_grant", "temporarily_unavailable", "server_error"
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
		want string // an hour after the provider's last word
		old  string // more than two hours after it
		end  string // when the process has heard nothing else for three more
	}{
		{"RFC 6749, Keycloak, Okta, Auth0, Google, Cognito, Zitadel", refuses(400, "invalid_grant"), over, over, over},
		{"the same with another status", refuses(403, "invalid_grant"), over, over, over},
		{"invalid_token", refuses(400, "invalid_token"), over, over, over},
		{"expired_token", refuses(401, "expired_token"), over, over, over},
		{"bad_refresh_token, with status 200 as GitHub does", issuertest.Behaviour{Body: `{"error":"bad_refresh_token"}`}, over, over, over},
		{"Entra ID: the token was revoked", entra("invalid_grant", 50173), over, over, over},
		{"Entra ID: somebody must sign in", entra("interaction_required", 50076), over, over, over},
		{"Entra ID: too many requests, under the name of a refusal", entra("invalid_grant", 50196), "short", away, away},
		{"Entra ID: its directory is away", entra("temporarily_unavailable", 90033), "short", away, away},
		{"server_error with status 400", refuses(400, "server_error"), "short", away, away},
		{"invalid_grant with status 500 is a refusal still", refuses(500, "invalid_grant"), over, over, over},
		{"so is invalid_code", refuses(500, "invalid_code"), over, over, over},
		{"invalid_token with status 500 is none", refuses(500, "invalid_token"), "short", away, away},
		{"503", refuses(503, ""), "short", away, away},
		{"429", refuses(429, ""), "short", away, away},
		{"408", refuses(408, ""), "short", away, away},
		{"Dex: the token is not there any more", issuertest.Behaviour{Dex: true, RefreshStatus: 400, RefreshError: "invalid_request"}, over, over, over},
		{"Dex: the person is gone, or the directory is away", issuertest.Behaviour{Dex: true, Gone: true}, "short", over, over},
		{"not Dex, with Dex's words", refuses(500, "invalid_request"), "short", away, away},

		{"Glewlwyd: nothing but the status", as("Glewlwyd 2.7", "", ""), over, over, over},
		{"LemonLDAP::NG: invalid_request", as("LemonLDAP::NG 2.16", "invalid_request", ""), over, over, over},
		{"better-auth: the person was deleted", as("better-auth 1.7", "invalid_request", "user not found"), over, over, over},
		{"better-auth: another mistake", as("better-auth 1.7", "invalid_request", "Missing required client_id"), "short", over, over},
		{"Gitea with INVALIDATE_REFRESH_TOKENS: used", as("Gitea 1.26", "unauthorized_client", "token was already used"), over, over, over},
		{"Gitea: not its own", as("Gitea 1.26", "unauthorized_client", "unable to parse refresh token"), over, over, over},
		{"Gitea: anything else of that name", as("Gitea 1.26", "unauthorized_client", "no such client"), "short", ours, over},

		{"unknown words", refuses(400, "go_away"), "short", over, over},
		{"invalid_request of a provider that is not known", refuses(400, "invalid_request"), "short", over, over},
		{"400 and nothing more", issuertest.Behaviour{Gone: true, RefusalEmpty: true}, "short", over, over},
		{"400 with a problem document", issuertest.Behaviour{Status: 400, Body: `{"title":"Bad Request","status":400}`}, "short", over, over},
		{"the operator's client", refuses(401, "invalid_client"), "short", ours, over},
		{"the same with 400", refuses(400, "invalid_client"), "short", ours, over},
		{"unauthorized_client", refuses(400, "unauthorized_client"), "short", ours, over},
		{"refreshing was switched off for the client", refuses(400, "unsupported_grant_type"), "short", ours, over},
		{"401 and nothing more", issuertest.Behaviour{Gone: true, RefusalEmpty: true, RefusalStatus: 401}, "short", ours, over},
		{"401 in unknown words", refuses(401, "go_away"), "short", ours, over},
		{"a firewall's 403", issuertest.Behaviour{Status: 403, Body: "<html>"}, "short", ours, over},
		{"403 of an API gateway", issuertest.Behaviour{Status: 403, Body: `{"message":"Forbidden"}`}, "short", ours, over},
		{"a maintenance page with 404", issuertest.Behaviour{Status: 404, Body: "<html>"}, "short", ours, over},
		{"a page with 400", issuertest.Behaviour{Status: 400, Body: "<html>"}, "short", ours, over},
		{"405", refuses(405, ""), "short", ours, over},
		{"a page with 200", issuertest.Behaviour{Body: "<html>"}, "short", away, away},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind := c.be // before it refuses
			kind.Gone, kind.Status, kind.Body, kind.RefreshStatus, kind.RefusalStatus, kind.RefusalEmpty, kind.RefusalText = false, 0, "", 0, 0, false, ""
			begin := func(t *testing.T) (*story, string) {
				w := newWorld(t, nil, func(w *world) { w.wiki.Refresh = "upstream" })
				w.idp.Be(kind)
				s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
				token := s.a.login().text("refresh_token")
				w.clock.Add(time.Hour)
				w.idp.Be(c.be)
				return s, token
			}
			s, token := begin(t)
			got := s.a.token(s.a.refreshment(token))
			if outcome(got) != c.want || strings.Contains(got.Body, "provider's own words") || strings.Contains(got.Body, "AADSTS") {
				t.Errorf("%s, want %s: %s", outcome(got), c.want, got.Body)
			}
			s, token = begin(t)
			s.clock.Add(time.Hour + time.Second)
			s.refresh(token)
			for range 6 {
				s.clock.Add(30*time.Minute + time.Second)
				s.refresh(token)
			}
			if s.said[0] != c.old || s.said[6] != c.end {
				t.Errorf("%q, want %s first and %s in the end", s.said, c.old, c.end)
			}
			ended := strings.Contains(s.log.String(), "login ended")
			if ended != (c.end == over) {
				t.Errorf("the log says that the login ended: %v", ended)
			}
		})
	}
}

// A fault at the provider that passes logs nobody out: not a person who is active, not one who
// comes back after a night, not where the provider is asked once a day.
func TestRefreshSurvivesAFaultThatPasses(t *testing.T) {
	for name, fault := range map[string]issuertest.Behaviour{
		"a wrong secret":             {RefreshStatus: 401, RefreshError: "invalid_client"},
		"a client that was disabled": {RefreshStatus: 400, RefreshError: "unauthorized_client"},
		"a firewall":                 {Status: 403, Body: "<html>"},
		"maintenance":                {Status: 404, Body: "<html>"},
		"a redirect to a page":       {Status: 302, Body: "<html>"},
		"an outage":                  {RefreshStatus: 500},
	} {
		for _, guard := range []string{"none", "memory"} {
			for when, c := range map[string]struct {
				pause    time.Duration
				interval int64
			}{"by day": {time.Hour, 3600}, "after a night": {9 * time.Hour, 3600}, "asked once a day": {24 * time.Hour, 86400}} {
				t.Run(name+", "+when+", guard "+guard, func(t *testing.T) {
					w := newWorld(t, nil, func(w *world) { w.guarded(guard); w.wiki.UpstreamCheckInterval = c.interval })
					s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
					s.last = s.a.login().text("refresh_token")
					w.clock.Add(c.pause)
					w.idp.Be(fault)
					for range 7 {
						s.refresh(s.last)
						w.clock.Add(15 * time.Minute)
					}
					w.idp.Be(issuertest.Behaviour{})
					s.refresh(s.last)
					if s.said[7] != "ok" || strings.Contains(w.log.String(), "login ended") {
						t.Errorf("%q", s.said)
					}
				})
			}
		}
	}
}

// The processes of a function forget since when a provider has accepted nothing, so they count from
// its last answer about the login.
func TestRefreshOnLambdaGivesUpAfterADay(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.restart = true
		w.config = func(c *issuer.Config) { c.OnLambda = true }
	})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	w.idp.Be(issuertest.Behaviour{RefreshStatus: 401, RefreshError: "invalid_client"})
	for _, c := range []struct {
		later time.Duration
		want  string
	}{{time.Hour, "short"}, {4 * time.Hour, "server_error"}, {19 * time.Hour, "server_error"}, {time.Second, "invalid_grant"}} {
		w.clock.Add(c.later)
		if got := outcome(a.token(a.refreshment(token))); got != c.want {
			t.Errorf("%v later %s, want %s", c.later, got, c.want)
		}
	}
}

// A refusal in unknown words is a refusal if the provider has accepted another login's refresh
// token since. It means nothing while the provider accepts none.
func TestRefusalInUnknownWords(t *testing.T) {
	for name, odd := range map[string]issuertest.Behaviour{
		"an empty 400":           {Gone: true, RefusalEmpty: true},
		"an unknown code":        {RefreshStatus: 400, RefreshError: "session_gone"},
		"invalid_request":        {RefreshStatus: 400, RefreshError: "invalid_request"},
		"a person gone from Dex": {Dex: true, Gone: true},
	} {
		kind := issuertest.Behaviour{Dex: odd.Dex, Refresh: "static"}
		for _, others := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", others go on: ", others), func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) { w.wiki.Refresh = "upstream" })
				w.idp.Be(kind)
				s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
				gone, other := s.a.login().text("refresh_token"), ""
				if others && !odd.Dex { // Dex keeps one refresh token for each person
					other = s.a.login().text("refresh_token")
				}
				w.clock.Add(time.Hour)
				w.idp.Be(odd)
				s.refresh(gone)
				w.clock.Add(3 * time.Minute)
				w.idp.Be(kind)
				switch {
				case other != "":
					s.refresh(other)
				case others:
					w.serveOther(s, kind)
				}
				w.idp.Be(odd)
				w.clock.Add(4 * time.Minute)
				s.refresh(gone)
				want := "short short"
				if others {
					want = "short ok invalid_grant"
				}
				if got := strings.Join(s.said, " "); got != want {
					t.Errorf("%s, want %s: %s", got, want, w.log)
				}
			})
		}
	}
	t.Run("with a status that says nothing: after two hours", func(t *testing.T) {
		odd := issuertest.Behaviour{Gone: true, RefusalStatus: 404, RefusalEmpty: true}
		w := newWorld(t, nil, nil)
		w.idp.Be(issuertest.Behaviour{Refresh: "static"})
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		one, other := s.a.login().text("refresh_token"), s.a.login().text("refresh_token")
		for range 4 {
			w.clock.Add(time.Hour)
			w.idp.Be(odd)
			s.refresh(one)
			w.clock.Add(time.Minute)
			w.idp.Be(issuertest.Behaviour{Refresh: "static"})
			other = s.refresh(other)
		}
		if got := strings.Join(s.said, " "); got != "short ok server_error ok invalid_grant ok invalid_grant ok" {
			t.Errorf("%s", got)
		}
	})
	t.Run("it passes, and comes again hours later", func(t *testing.T) {
		odd := issuertest.Behaviour{RefreshStatus: 400, RefreshError: "invalid_request"}
		w := newWorld(t, nil, nil)
		w.idp.Be(issuertest.Behaviour{Refresh: "static"})
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		one, other := s.a.login().text("refresh_token"), s.a.login().text("refresh_token")
		w.clock.Add(time.Hour)
		for range 2 {
			w.idp.Be(odd)
			s.refresh(one)
			w.clock.Add(7 * time.Minute)
			w.idp.Be(issuertest.Behaviour{Refresh: "static"})
			one = s.refresh(one)
			w.clock.Add(time.Minute)
			other = s.refresh(other)
			w.clock.Add(time.Hour)
		}
		if got := strings.Join(s.said, " "); got != "short ok ok short ok ok" {
			t.Errorf("%s", got)
		}
	})
}

// serveOther has a second tenant with the same client at the provider, and a login of its own
// there that is refreshed.
func (w *world) serveOther(s *story, be issuertest.Behaviour) {
	w.idp.Be(be)
	other := w.tenant("https://mcp.localhost/other")
	other.Refresh, other.UpstreamCheckInterval = "upstream", 0
	w.serve(other)
	a := w.register(other.PublicURL, nil)
	s.said = append(s.said, outcome(a.token(a.refreshment(a.login().text("refresh_token")))))
}

// Each row: what ends a login at a provider, in its own way and at the next check. Without a guard
// only the provider knows. docs/replay.md says where it lets a thief go on.
func TestDialectsOfWhatEndsALogin(t *testing.T) {
	deleted := map[string][2]string{"better-auth 1.7": {"invalid_request", "user not found"}}
	type outcomes struct {
		removed string // the person
		revoked string // the login, by its client; empty: the client hears that it cannot be
		after   string // the first refresh token, after the newest was revoked
		stolen  string // the first refresh token, which the owner has used, at another replica
		owner   string // the owner's next refresh
	}
	const over = "invalid_grant"
	for name, want := range map[string]outcomes{
		"Hydra 2.3":                {over, over, over, over, over},
		"oidc-provider 9.13":       {over, over, over, over, over},
		"Glewlwyd 2.7":             {over, over, over, over, over},
		"LemonLDAP::NG 2.16":       {over, "", "ok", "ok", "ok"},
		"django-oauth-toolkit 1.7": {over, "", over, over, "ok"},
		"Doorkeeper 5.5":           {over, over, over, over, "ok"},
		"better-auth 1.7":          {over, over, over, over, over},
		"Gitea 1.26":               {over, "", "ok", "ok", "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := func() (*story, string) {
				w := newWorld(t, nil, func(w *world) { w.skews = []time.Duration{0, 0} })
				w.idp.Be(issuertest.Manners[name])
				s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
				token := s.a.login().text("refresh_token")
				w.clock.Add(time.Hour)
				return s, token
			}
			var got outcomes
			s, token := begin()
			gone := issuertest.Manners[name]
			gone.Gone = true
			if words, ok := deleted[name]; ok {
				gone.Refusal, gone.RefusalText = words[0], words[1]
			}
			s.idp.Be(gone)
			got.removed = outcome(s.a.token(s.a.refreshment(token)))

			s, token = begin()
			newest := s.refresh(token)
			s.clock.Add(time.Hour)
			if r := s.a.revoke(url.Values{"token": {newest}}); r.Status == 200 {
				got.revoked = outcome(s.a.token(s.a.refreshment(newest)))
			}
			s.clock.Add(2 * time.Minute)
			got.after = outcome(s.a.token(s.a.refreshment(token)))

			s, token = begin()
			newest = s.refresh(token)
			s.clock.Add(2 * time.Minute)
			got.stolen = outcome(s.a.token(s.a.refreshment(token)))
			s.clock.Add(time.Hour)
			got.owner = outcome(s.a.token(s.a.refreshment(newest)))
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// A used or wrong code is the client's fault, in whatever words the provider says so. A mistake of
// the operator's is still reported as one.
func TestDialectsOfUsedCodes(t *testing.T) {
	for name, manner := range issuertest.Manners {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.restart = true })
			w.idp.Be(manner)
			a := w.register(w.wiki.PublicURL, nil)
			code := a.code()
			a.token(a.redemption(code)).wants(t, 200, "")
			a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
		})
	}
	for _, c := range []struct {
		name  string
		be    issuertest.Behaviour
		first string // before the provider has accepted any code
		then  string
	}{
		{"an unknown code", issuertest.Behaviour{Status: 400, Error: "already_used"}, "server_error", "invalid_grant"},
		{"a problem document, as oauth2-mock-server", issuertest.Behaviour{Status: 400, Body: `{"title":"Bad Request"}`}, "server_error", "invalid_grant"},
		{"invalid_request", issuertest.Behaviour{Status: 400, Error: "invalid_request"}, "server_error", "invalid_grant"},
		{"a demand to sign in", issuertest.Behaviour{Status: 400, Error: "interaction_required"}, "invalid_grant", "invalid_grant"},
		{"invalid_client", issuertest.Behaviour{Status: 401, Error: "invalid_client"}, "server_error", "server_error"},
		{"unauthorized_client", issuertest.Behaviour{Status: 400, Error: "unauthorized_client"}, "server_error", "server_error"},
		{"a page", issuertest.Behaviour{Status: 403, Body: "<html>"}, "server_error", "server_error"},
		{"Dex's 500", issuertest.Behaviour{Dex: true, Status: 500, Error: "invalid_request"}, "temporarily_unavailable", "temporarily_unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(issuertest.Behaviour{Dex: c.be.Dex})
			a := w.register(w.wiki.PublicURL, nil)
			redeem := func() string {
				code := a.code()
				w.idp.Be(c.be)
				defer w.idp.Be(issuertest.Behaviour{Dex: c.be.Dex})
				return outcome(a.token(a.redemption(code)))
			}
			first := redeem()
			a.login()
			if then := redeem(); first != c.first || then != c.then {
				t.Errorf("%s, and after a login %s, want %s and %s", first, then, c.first, c.then)
			}
			if warned := strings.Contains(w.log.String(), "words that are not known"); warned != (c.first != c.then) {
				t.Errorf("the log says so: %v", warned)
			}
		})
	}
}

// At some providers a refresh token that comes twice ends all logins of its person. There a lost
// answer is not asked for again, so it ends one login only. A request that never went out, or one
// that an HTML page answered, does not count as a lost answer.
func TestRefreshWhoseAnswerWasLostEndsNoOtherLogin(t *testing.T) {
	const kind = "better-auth 1.7"
	for _, c := range []struct {
		name    string
		be      func(*issuertest.Behaviour)
		cut     int
		refused bool // connections
		want    string
		later   string // seven minutes later
		posts   int
	}{
		{"lost", func(b *issuertest.Behaviour) { b.LoseResponses = 1 }, 0, false, "invalid_grant", "", 1},
		{"cut off", func(*issuertest.Behaviour) {}, 1, false, "invalid_grant", "", 1},
		{"a page", func(b *issuertest.Behaviour) { b.Body, b.BodyType = "<html>", "text/html" }, 0, false, "short", "ok", 1},
		{"it cannot be reached", func(*issuertest.Behaviour) {}, 0, true, "short", "ok", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var cut *cutAnswers
			var refused bool
			w := newWorld(t, nil, func(w *world) {
				cut = &cutAnswers{RoundTripper: w.idp.Transport}
				w.config = func(config *issuer.Config) {
					config.Transport = transport(func(r *http.Request) (*http.Response, error) {
						if refused {
							return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
						}
						return cut.RoundTrip(r)
					})
				}
			})
			be := issuertest.Manners[kind]
			w.idp.Be(be)
			s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
			one, other := s.a.login().text("refresh_token"), s.a.login().text("refresh_token")
			w.clock.Add(time.Hour)
			c.be(&be)
			w.idp.Be(be)
			cut.cut, refused = c.cut, c.refused
			one = s.refresh(one)
			posts := w.idp.Refreshes()
			w.idp.Be(issuertest.Manners[kind])
			cut.cut, refused = 0, false
			w.clock.Add(7 * time.Minute)
			if c.later != "" {
				s.refresh(one)
			}
			s.refresh(other)
			if got, want := strings.Join(s.said, " "), strings.TrimSpace(c.want+" "+c.later)+" ok"; got != want || posts != c.posts {
				t.Errorf("%s after %d posts, want %s after %d: %s", got, posts, want, c.posts, w.log)
			}
		})
	}
}

// The log names a provider that accepts used refresh tokens though it issues new ones: once, and
// only where nothing else notices a thief.
func TestProvidersThatTakeUsedRefreshTokensAreNamedInTheLog(t *testing.T) {
	at := func(auth, token, keys, refresh string) issuertest.Behaviour {
		return issuertest.Behaviour{Endpoints: map[string]string{"/authorize": auth, "/token": token, "/keys": keys}, Refresh: refresh}
	}
	doorkeeper := issuertest.Manners["Doorkeeper 5.5"]
	doorkeeper.UserInfoStatus = 403
	for _, c := range []struct {
		guard string
		be    issuertest.Behaviour
		want  string
	}{
		{"none", issuertest.Manners["Gitea 1.26"], "Gitea takes refresh tokens that were used again, unless INVALIDATE_REFRESH_TOKENS is on there, and there is no replay guard"},
		{"none", at("/realms/a/protocol/openid-connect/auth", "/realms/a/protocol/openid-connect/token", "/realms/a/protocol/openid-connect/certs", "keeps"), "Keycloak takes refresh tokens that were used again, unless Revoke Refresh Token is on there"},
		{"none", at("/t/oauth2/v2.0/authorize", "/t/oauth2/v2.0/token", "/t/discovery/v2.0/keys", "keeps"), "Entra ID takes refresh tokens that were used again, and there is no replay guard"},
		{"none", issuertest.Manners["LemonLDAP::NG 2.16"], "the provider keeps its refresh tokens when they are used"},
		{"none", doorkeeper, "and it cannot be used: a stolen refresh token may work on"},
		{"none", issuertest.Manners["Doorkeeper 5.5"], ""},
		{"none", issuertest.Manners["Hydra 2.3"], ""},
		{"memory", issuertest.Manners["Gitea 1.26"], ""},
	} {
		w := newWorld(t, nil, func(w *world) { w.guarded(c.guard) })
		w.idp.Be(c.be)
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		s.last = s.a.login().text("refresh_token")
		for range 3 {
			w.clock.Add(time.Hour)
			s.refresh(s.last)
		}
		if got := strings.Join(s.said, " "); got != "ok ok ok" {
			t.Errorf("%q: %s", c.want, got)
		}
		log := w.log.String()
		if n := strings.Count(log, "a stolen refresh token"); c.want == "" && n != 0 || c.want != "" && (n != 1 || !strings.Contains(log, c.want)) {
			t.Errorf("guard %s, want once %q: %s", c.guard, c.want, log)
		}
	}
}

// At some providers the first use of a new access token ends the previous refresh token. Only there
// the sidecar uses it once, unless a label has it used anyway.
func TestRefreshUsesTheNewAccessTokenWhereThatEndsTheOldRefreshToken(t *testing.T) {
	for _, c := range []struct {
		manner  string
		headers []string
		want    int // requests to the userinfo endpoint, of a login and three checks
	}{{"Doorkeeper 5.5", nil, 3}, {"Doorkeeper 5.5", []string{"name"}, 4}, {"Hydra 2.3", nil, 0}, {"LemonLDAP::NG 2.16", nil, 0}, {"Gitea 1.26", nil, 0}} {
		w := newWorld(t, nil, func(w *world) { w.wiki.IdentityClaims = c.headers })
		w.idp.Be(issuertest.Manners[c.manner])
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		s.last = s.a.login().text("refresh_token")
		for range 3 {
			w.clock.Add(time.Hour)
			s.refresh(s.last)
		}
		if got := strings.Join(s.said, " "); got != "ok ok ok" || w.idp.UserInfos() != c.want {
			t.Errorf("%s %v: %s, %d requests, want %d", c.manner, c.headers, got, w.idp.UserInfos(), c.want)
		}
	}
	t.Run("not where the old one is still needed", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		be := issuertest.Manners["Doorkeeper 5.5"]
		w.idp.Be(be)
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		s.last = s.a.login().text("refresh_token")
		be.RefreshLength = 5000 // too long to carry
		w.idp.Be(be)
		for range 2 {
			w.clock.Add(time.Hour)
			s.refresh(s.last)
		}
		if got := strings.Join(s.said, " "); got != "ok ok" || w.idp.UserInfos() != 0 {
			t.Errorf("%s, %d requests", got, w.idp.UserInfos())
		}
	})
}

// With upstreamCheckInterval=0 the provider is asked at each refresh, also in the second of the
// login.
func TestCheckIntervalOfZero(t *testing.T) {
	for _, refresh := range []string{"", "static"} {
		w := newWorld(t, nil, func(w *world) { w.wiki.UpstreamCheckInterval = 0 })
		w.idp.Be(issuertest.Behaviour{Refresh: refresh})
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		s.last = s.a.login().text("refresh_token")
		for range 5 {
			s.refresh(s.last)
		}
		w.clock.Add(10 * time.Second)
		s.refresh(s.last)
		w.idp.Be(issuertest.Behaviour{Refresh: refresh, Gone: true})
		s.refresh(s.last)
		if got := strings.Join(s.said, " "); got != "ok ok ok ok ok ok invalid_grant" || w.idp.Refreshes() != 7 {
			t.Errorf("%q: %s, asked %d times", refresh, got, w.idp.Refreshes())
		}
	}
}

func TestCheckInterval(t *testing.T) {
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

// A client that hangs up must not abort the request: a provider that rotates may have begun to
// answer.
func TestCheckDuringWhichAClientHangsUp(t *testing.T) {
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

// The log says once that a stolen refresh token would go unnoticed.
func TestStaticProviderWithoutAGuardIsNamedInTheLog(t *testing.T) {
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

// Some systems cut URLs at 2,000 characters. With a code of Entra ID's size inside the sidecar's,
// the URL back to the client stays below.
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
