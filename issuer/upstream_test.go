package issuer_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Each row: what the provider's token endpoint answers to a code, and what the client hears. The
// client never hears invalid_client, which is about the sidecar's client and would make SDKs throw
// away theirs, and never the provider's words.
func TestUpstreamErrorsAtRedemption(t *testing.T) {
	const words = "the provider's own words"
	for _, c := range []struct {
		name   string
		be     issuertest.Behaviour
		hang   bool
		status int
		code   string
		cause  string
		posts  int // 0: one
	}{
		{"invalid_grant", issuertest.Behaviour{Status: 400, Error: "invalid_grant"}, false, 400, "invalid_grant", "the provider answered 400 invalid_grant", 0},
		{"invalid_grant with 401", issuertest.Behaviour{Status: 401, Error: "invalid_grant"}, false, 400, "invalid_grant", "the provider answered 401 invalid_grant", 0},
		{"invalid_grant with 200", issuertest.Behaviour{Status: 200, Error: "invalid_grant"}, false, 400, "invalid_grant", "the provider answered 200 invalid_grant", 0},
		{"invalid_client", issuertest.Behaviour{Status: 401, Error: "invalid_client"}, false, 500, "server_error", `the provider answered 401 invalid_client, saying \"the provider's own words\"`, 0},
		{"unauthorized_client", issuertest.Behaviour{Status: 400, Error: "unauthorized_client"}, false, 500, "server_error", "the provider answered 400 unauthorized_client", 0},
		{"invalid_request", issuertest.Behaviour{Status: 400, Error: "invalid_request"}, false, 500, "server_error", "the provider answered 400 invalid_request", 0},
		{"403 without a word", issuertest.Behaviour{Status: 403, Body: "<h1>forbidden</h1>"}, false, 500, "server_error", "the provider answered 403 without an error code", 0},
		{"a hostile error code", issuertest.Behaviour{Status: 400, Error: "<script>alert(1)</script>\r\nX: y"}, false, 500, "server_error", "the provider answered 400 an error code that is not one", 0},
		{"500", issuertest.Behaviour{Status: 500}, false, 503, "temporarily_unavailable", "the provider answered 500", 3},
		{"502 with a page", issuertest.Behaviour{Status: 502, Body: "<html>" + words}, false, 503, "temporarily_unavailable", "the provider answered 502", 3},
		{"429", issuertest.Behaviour{Status: 429, Error: "slow_down"}, false, 503, "temporarily_unavailable", "the provider answered 429 slow_down", 3},
		{"it hangs", issuertest.Behaviour{Hang: true}, true, 503, "temporarily_unavailable", "deadline exceeded", 0},
		{"it hangs up", issuertest.Behaviour{Reset: true}, false, 503, "temporarily_unavailable", "EOF", 2},
		{"200 with a page", issuertest.Behaviour{Body: "<html>" + words}, false, 503, "temporarily_unavailable", "the provider answered 200 application/json: no token response", 0},
		{"200 without an access token", issuertest.Behaviour{Body: `{"note":"` + words + `"}`}, false, 503, "temporarily_unavailable", ": access_token is missing", 0},
		{"200 with 2 MB", issuertest.Behaviour{Body: `{"access_token":"` + strings.Repeat("x", 2<<20) + `"}`}, false, 503, "temporarily_unavailable", ": no token response", 0},
		{"busy with 400", issuertest.Behaviour{Status: 400, Error: "temporarily_unavailable"}, false, 503, "temporarily_unavailable", "the provider answered 400 temporarily_unavailable", 3},
		{"Entra ID's budget", issuertest.Behaviour{Status: 400, Body: `{"error":"invalid_grant","error_codes":[90025]}`}, false, 503, "temporarily_unavailable", "the provider answered 400 invalid_grant", 3},
	} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(c.name+", exchange="+exchange, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) { w.wiki.Exchange = exchange })
				a := w.register(w.wiki.PublicURL, nil)
				browser := issuertest.NewBrowser(t, w.net)
				back := browser.Upstream(browser.Decide(browser.Get(a.authorizeURL()), "allow"))
				w.idp.Be(c.be)
				request := newRequest(t, "GET", back, "", "")
				if exchange == "token" {
					answer, err := url.Parse(browser.Get(back).Next())
					if err != nil {
						t.Fatal(err)
					}
					request = a.tokenRequest(a.redemption(answer.Query().Get("code")))
				}
				if c.hang {
					ctx, cancel := context.WithTimeout(request.Context(), 100*time.Millisecond)
					defer cancel()
					request = request.WithContext(ctx)
				}
				var said string
				posts := max(c.posts, 1)
				if exchange == "token" {
					got := w.do(request).wants(t, c.status, c.code)
					said = got.Body
					if c.status == 503 && got.Header.Get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
				} else {
					for _, cookie := range browser.Jar.Cookies(request.URL) {
						request.AddCookie(cookie)
					}
					got := w.do(request)
					// this error is not one of an authorization response (RFC 6749 §4.1.2.1)
					if c.code == "invalid_grant" {
						c.code = "access_denied"
					}
					// The code is unspent, so it is left to the client's token request.
					if c.status == 503 {
						request = a.tokenRequest(a.redemption(a.wantsCode(t, got)))
					} else {
						said = a.wantsErrorRedirect(t, got, c.code, a.state)
					}
				}
				if n := w.idp.Posts(); n != posts {
					t.Errorf("%d posts, want %d", n, posts)
				}
				if c.status == 503 { // what is said then is true
					w.idp.Be(issuertest.Behaviour{})
					again := request.WithContext(t.Context())
					again.Body, _ = request.GetBody()
					w.do(again).wants(t, 200, "")
				}
				if strings.Contains(said, words) || strings.Contains(said, "<script") || strings.Contains(said, "alert") || strings.Contains(said, "upstream") {
					t.Errorf("the client was told %s", said)
				}
				log := w.log.String()
				// The log has its error_description and no other part of its answer.
				if !strings.Contains(log, c.cause) || c.be.Status == 0 && strings.Contains(log, words) || strings.Contains(log, "<script") {
					t.Errorf("the log should say %q and nothing else of the provider's: %s", c.cause, log)
				}
			})
		}
	}
}

// A redirect whose Location is not an address is an answer like any other. The log has no part of
// it, because it may repeat what was sent.
func TestUpstreamRedirectThatRepeatsWhatWasSent(t *testing.T) {
	for _, to := range []string{"https://login.example/%zz?", "https://login.example/?", "http://a b/?", "/\x7f?"} {
		posts := 0
		var said []string
		redirects := false
		w := newWorld(t, nil, func(w *world) {
			w.config = func(c *issuer.Config) {
				next := c.Transport
				c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.Method != "POST" || !redirects {
						return next.RoundTrip(r)
					}
					sent, err := io.ReadAll(r.Body)
					form, _ := url.ParseQuery(string(sent))
					posts, said = posts+1, append(said, form.Get("code"), form.Get("code_verifier"), form.Get("refresh_token"))
					return &http.Response{StatusCode: 302, Header: http.Header{"Location": {to + string(sent)}}, Body: http.NoBody, Request: r}, err
				})
			}
		})
		a := w.register(w.wiki.PublicURL, nil)
		token := a.login().text("refresh_token")
		code := a.code()
		w.clock.Add(time.Hour)
		redirects = true
		if got := outcome(a.token(a.refreshment(token))); got != "short" || posts != 1 {
			t.Errorf("%q: a refresh: %s, %d posts", to, got, posts)
		}
		w.clock.Add(-time.Hour)
		a.token(a.redemption(code)).wants(t, 500, "server_error")
		if posts != 2 || w.logged("the provider answered 302") != 2 {
			t.Errorf("%q: %d posts: %s", to, posts, w.log)
		}
		for _, secret := range said {
			if secret != "" && strings.Contains(w.log.String(), secret) {
				t.Errorf("%q: %s is in the log: %s", to, secret, w.log)
			}
		}
	}
}

// wantsCode takes the code from an answer that leads the browser to the client.
func (a *app) wantsCode(t testing.TB, r reply) string {
	t.Helper()
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.Status != 303 || to.Query().Get("code") == "" || to.Query().Get("state") != a.state {
		t.Fatalf("status %d, Location %q (%v), want a redirect with a code: %s", r.Status, r.Header.Get("Location"), err, r.Body)
	}
	return to.Query().Get("code")
}

// wantsErrorRedirect checks an error that goes to the client through the browser, and returns its
// address.
func (a *app) wantsErrorRedirect(t testing.TB, r reply, code, state string) string {
	t.Helper()
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.Status != 303 || !strings.HasPrefix(to.String(), a.redirect) {
		t.Fatalf("status %d, Location %q (%v), want a redirect to the client: %s", r.Status, r.Header.Get("Location"), err, r.Body)
	}
	q := to.Query()
	if q.Get("error") != code || q.Get("state") != state || q.Get("iss") != a.base || q.Has("code") {
		t.Fatalf("the client got %s, want error=%s, state=%s, iss=%s", to, code, state, a.base)
	}
	for name, values := range q {
		if len(values) != 1 {
			t.Errorf("%s stands %d times", name, len(values))
		}
	}
	checkDescription(t, q.Get("error_description"))
	return to.String()
}

func TestIDTokensThatAreRefused(t *testing.T) {
	claims := func(change func(map[string]any)) issuertest.Behaviour { return issuertest.Behaviour{Claims: change} }
	set := func(name string, v any) issuertest.Behaviour {
		return claims(func(m map[string]any) {
			m[name] = v
			if v == nil {
				delete(m, name)
			}
		})
	}
	for _, c := range []struct {
		name  string
		be    issuertest.Behaviour
		cause string
	}{
		{"none", issuertest.Behaviour{OmitIDToken: true}, "no id_token"},
		{"not a JWT", issuertest.Behaviour{IDToken: "not.a-jwt"}, "malformed"},
		{"unsigned", issuertest.Behaviour{Unsigned: true}, "it has no signature"},
		{"signed by somebody else under the published kid", issuertest.Behaviour{WrongKey: true}, "its signature does not fit the key that it names"},
		{"a wrong nonce", set("nonce", "AAAAAAAAAAAAAAAAAAAAAA"), "nonce"},
		{"no nonce", set("nonce", nil), "nonce"},
		{"an empty nonce", set("nonce", ""), "nonce"},
		{"another client's audience", set("aud", "somebody"), "aud does not name this client (label clientID), but 1 others"},
		{"no audience", set("aud", nil), "aud does not name this client"},
		{"several audiences without azp", set("aud", []string{"bouncer", "other"}), "azp"},
		{"several audiences and another's azp", claims(func(m map[string]any) { m["aud"] = []string{"bouncer", "other"}; m["azp"] = "other" }), "azp"},
		{"one audience and another's azp", set("azp", "other"), "azp"},
		{"an azp that is no string", set("azp", 7), "azp is a number, not a string"},
		{"another issuer", set("iss", "https://evil.example"), `iss is \"https://evil.example\", and the label providerIssuer is`},
		{"the issuer with a slash", claims(func(m map[string]any) { m["iss"] = m["iss"].(string) + "/" }), "and the label providerIssuer is"},
		{"expired by more than clocks may differ", set("exp", issuertest.Start.Add(-sealing.Skew-time.Second).Unix()), "expired"},
		{"no exp", set("exp", nil), "exp is missing"},
		{"an exp that is no number", set("exp", "tomorrow"), "exp is a string, not a number of seconds"},
		{"not yet valid, by more than clocks may differ", set("nbf", issuertest.Start.Add(sealing.Skew+time.Second).Unix()), "nbf"},
		{"an nbf beyond all numbers of seconds", set("nbf", 1e30), "nbf"},
		{"an empty sub", set("sub", ""), "sub"},
		{"no sub", set("sub", nil), "sub"},
		{"a sub of 256 characters", set("sub", strings.Repeat("x", 256)), "sub"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
			if n := w.idp.Posts(); n != 1 {
				t.Errorf("%d posts, want 1", n)
			}
			if !strings.Contains(w.log.String(), c.cause) {
				t.Errorf("the log does not say %q: %s", c.cause, w.log)
			}
		})
	}
}

func TestIDTokensThatAreAccepted(t *testing.T) {
	for _, c := range []struct {
		name string
		skew time.Duration // of the provider's clock
		sub  string
		life time.Duration // from nbf, which is now there, to exp; 0 for an hour and no nbf
	}{
		{"a provider four minutes ahead", 4 * time.Minute, "person-1", 0},
		{"a provider four minutes behind", -4 * time.Minute, "person-1", 0},
		{"a provider four minutes behind, whose id_tokens live a minute", -4 * time.Minute, "person-1", time.Minute},
		{"a provider four minutes ahead, whose id_tokens live a minute", 4 * time.Minute, "person-1", time.Minute},
		{"a provider five minutes behind, whose id_tokens are good for a second", -sealing.Skew, "person-1", time.Second},
		{"a provider an hour ahead, which the log mentions", time.Hour, "person-1", 0},
		{"a sub of 255 characters", 0, strings.Repeat("x", 255), 0},
		{"a sub that is no ASCII", 0, "Zoë|<ü>", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := issuertest.NewClock()
			w := newWorld(t, &issuertest.Options{Now: clock.Off(c.skew)}, func(w *world) { w.clock = clock })
			w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) {
				m["sub"] = c.sub
				if there := clock.Now().Add(c.skew); c.life > 0 {
					m["nbf"], m["exp"] = there.Unix(), there.Add(c.life).Unix()
				}
			}})
			a := w.register(w.wiki.PublicURL, nil)
			if sub := w.verifiedToken(a.base, a.login().text("access_token"), clock.Now())["sub"]; sub != c.sub {
				t.Errorf("sub %q", sub)
			}
			if warned := strings.Contains(w.log.String(), "clock"); warned != (c.skew.Abs() > 5*time.Minute) {
				t.Errorf("the log warned of the clock: %v", warned)
			}
		})
	}
}

// Without a usable discovery document the person is not sent anywhere, and is told to try again.
func TestDiscoveryThatIsRefused(t *testing.T) {
	doc := func(name string, v any) issuertest.Behaviour {
		return issuertest.Behaviour{Discovery: map[string]any{name: v}}
	}
	for _, c := range []struct {
		name string
		tls  bool
		be   issuertest.Behaviour
	}{
		{"500", false, issuertest.Behaviour{DiscoveryStatus: 500}},
		{"404", false, issuertest.Behaviour{DiscoveryStatus: 404}},
		{"a redirect without end", false, issuertest.Behaviour{DiscoveryRedirect: "/.well-known/openid-configuration"}},
		{"a redirect to the same document elsewhere", false, issuertest.Behaviour{DiscoveryRedirect: "https://evil.example/.well-known/openid-configuration"}},
		{"another issuer", false, doc("issuer", "https://evil.example")},
		{"the issuer with a slash", false, doc("issuer", "slash")},
		{"no authorization endpoint", false, doc("authorization_endpoint", nil)},
		{"no token endpoint", false, doc("token_endpoint", nil)},
		{"no keys", false, doc("jwks_uri", nil)},
		{"a token endpoint of http elsewhere", false, doc("token_endpoint", "http://idp.example/token")},
		{"a token endpoint of another scheme", false, doc("token_endpoint", "file:///etc/passwd")},
		{"an authorization endpoint that is a script", false, doc("authorization_endpoint", "javascript:alert(1)")},
		{"http at the token endpoint of an https issuer", true, doc("token_endpoint", "http://127.0.0.1/token")},
		{"http at the authorization endpoint of an https issuer", true, doc("authorization_endpoint", "http://127.0.0.1/authorize")},
		{"http at the keys of an https issuer", true, doc("jwks_uri", "http://127.0.0.1/keys")},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, &issuertest.Options{TLS: c.tls}, nil)
			if c.be.Discovery["issuer"] == "slash" {
				c.be.Discovery["issuer"] = w.idp.Issuer + "/"
			}
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			browser := issuertest.NewBrowser(t, w.net)
			consent := browser.Get(a.authorizeURL())
			p := browser.Decide(consent, "allow")
			if p.Status != 503 || p.Next() != "" || strings.Contains(strings.Join(browser.Cookies(a.base), " "), "flow") {
				t.Errorf("status %d, leads to %q, cookies %q", p.Status, p.Next(), browser.Cookies(a.base))
			}
			// When the provider is well again, the same person goes on from the same page.
			w.idp.Be(issuertest.Behaviour{})
			w.clock.Add(2 * time.Second)
			browser.Follow(browser.Decide(consent, "allow"))
		})
	}
}

func TestDiscoveryDocumentWithoutEndCostsBoundedMemory(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.idp.Be(issuertest.Behaviour{DiscoveryBytes: 100 << 20})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := w.register(w.wiki.PublicURL, nil)
	browser := issuertest.NewBrowser(t, w.net)
	p := browser.Decide(browser.Get(a.authorizeURL()), "allow")
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; p.Status != 503 || grown > 16<<20 {
		t.Errorf("status %d after allocating %d MB", p.Status, grown>>20)
	}
}

func TestProviderIssuersThatAreRefused(t *testing.T) {
	for _, address := range []string{"http://idp.example", "ftp://idp.example", "idp.example", "https://", "https://user:password@idp.example", "http://localhost.evil.example", "http://127.1", "http://2130706433"} {
		t.Run(address, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.ProviderIssuer = address
				w.config = func(c *issuer.Config) { c.Transport = noNetwork{t} }
			})
			a := w.register(w.wiki.PublicURL, nil)
			browser := issuertest.NewBrowser(t, w.net)
			if p := browser.Decide(browser.Get(a.authorizeURL()), "allow"); p.Status != 503 || p.Next() != "" {
				t.Errorf("status %d, leads to %q", p.Status, p.Next())
			}
		})
	}
}

type noNetwork struct{ t *testing.T }

func (n noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("asked for %s", r.URL)
	return nil, http.ErrAbortHandler
}

// The document is fetched once an hour, by one of the requests that need it. If the fetch fails,
// the old document serves on.
func TestDiscoveryIsShared(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
	a.login()
	if d, k, _ := w.idp.Counts(); d != 1 || k != 1 {
		t.Errorf("%d discoveries and %d fetches of the keys for two logins, want one each", d, k)
	}
	w.clock.Add(time.Hour)
	w.idp.Be(issuertest.Behaviour{DiscoveryStatus: 500})
	a.login()
	if d, _, _ := w.idp.Counts(); d < 2 || !strings.Contains(w.log.String(), "discovery failed") {
		t.Errorf("%d discoveries after an hour", d)
	}
}

// The first person who asks may go away. The next ones must not be told that the provider cannot be
// reached.
func TestDiscoveryDuringWhichAPersonLeaves(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	p := b.Get(a.authorizeURL())
	r := b.DecisionRequest(p, "allow")
	for _, c := range b.Jar.Cookies(p.URL) {
		r.AddCookie(c)
	}
	gone, leave := context.WithCancel(r.Context())
	leave()
	w.do(r.WithContext(gone))
	a.login()
	if d, _, _ := w.idp.Counts(); d != 1 {
		t.Errorf("%d discoveries", d)
	}
}

// All requests that wait for a hanging provider share one question; they do not ask one after the
// other.
func TestDiscoveryThatManyWaitFor(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) { c.Transport = impatient{c.Transport, 200 * time.Millisecond} }
	})
	w.idp.Be(issuertest.Behaviour{DiscoveryHang: true})
	a := w.register(w.wiki.PublicURL, nil)
	browser := issuertest.NewBrowser(t, w.net)
	const people = 20
	requests := make([]*http.Request, people)
	for i := range requests {
		p := browser.Get(a.authorizeURL())
		requests[i] = browser.DecisionRequest(p, "allow")
		for _, c := range browser.Jar.Cookies(p.URL) {
			requests[i].AddCookie(c)
		}
	}
	begun := time.Now()
	var wait sync.WaitGroup
	for _, r := range requests {
		wait.Go(func() {
			if got := w.do(r); got.Status != 503 {
				t.Errorf("status %d", got.Status)
			}
		})
	}
	wait.Wait()
	if d, _, _ := w.idp.Counts(); d > people/4 || time.Since(begun) > 2*time.Second {
		t.Errorf("%d discoveries in %v for %d people", d, time.Since(begun), people)
	}
}

// An older document is good enough: while there is one, nobody waits for a provider that does not
// answer.
func TestDiscoveryDocumentThatIsOlderServesOn(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) { c.Transport = impatient{c.Transport, 200 * time.Millisecond} }
	})
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
	w.clock.Add(61 * time.Minute)
	w.idp.Be(issuertest.Behaviour{DiscoveryHang: true})
	for range 5 {
		a.login()
	}
	if d, _, _ := w.idp.Counts(); d != 2 {
		t.Errorf("%d discoveries, want the first and one attempt", d)
	}
	w.idp.Be(issuertest.Behaviour{})
	w.clock.Add(2 * time.Minute)
	a.login()
	if d, _, _ := w.idp.Counts(); d != 3 {
		t.Errorf("%d discoveries, want another attempt after a minute", d)
	}
}

// RFC 6749 §5.1: a provider that grants less than was asked says so. A scope that the provider
// withheld is not granted here.
func TestScopesThatTheProviderWithholdsAreNotGranted(t *testing.T) {
	scope := func(s string) *string { return &s }
	for _, exchange := range []string{"token", "callback"} {
		for _, c := range []struct {
			name    string
			granted *string
			want    string
		}{
			{"it says nothing: all that was asked and that it lists", nil, "wiki.read email"},
			{"it grants all", scope("openid email wiki.read wiki.write"), "wiki.read email wiki.write"},
			{"it withholds one", scope("openid email wiki.read"), "wiki.read email"},
			{"it spells identity scopes its own way", scope("openid https://idp.example/auth/email wiki.read"), "wiki.read email"},
		} {
			t.Run(c.name+", exchange="+exchange, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Scopes = []string{"openid", "email", "wiki.read", "wiki.write", "offline_access"}
					w.wiki.RequiredScopes = []string{"wiki.read"}
					w.wiki.Exchange = exchange
				})
				lists := map[string]any{"scopes_supported": []string{"openid", "email", "wiki.read"}}
				w.idp.Be(issuertest.Behaviour{Scope: c.granted, Discovery: lists})
				a := w.register(w.wiki.PublicURL, nil)
				got := a.login()
				if got.text("scope") != c.want {
					t.Errorf("scope %q, want %q", got.text("scope"), c.want)
				}
				w.idp.Be(issuertest.Behaviour{Discovery: lists}) // RFC 6749 §6: as before
				w.clock.Add(61 * time.Minute)
				got = a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
				if got.text("scope") != c.want {
					t.Errorf("after a check at which the provider says nothing of it, scope %q, want %q", got.text("scope"), c.want)
				}
				w.idp.Be(issuertest.Behaviour{Scope: scope("openid wiki.read"), Discovery: lists})
				w.clock.Add(61 * time.Minute)
				got = a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
				if got.text("scope") != "wiki.read email" {
					t.Errorf("after the provider took wiki.write back, scope is %q", got.text("scope"))
				}
				w.idp.Be(issuertest.Behaviour{Scope: scope("openid"), Discovery: lists})
				w.clock.Add(61 * time.Minute)
				a.token(a.refreshment(got.text("refresh_token"))).wants(t, 400, "invalid_grant")
				if log := w.log.String(); !strings.Contains(log, "the provider took back wiki.read, which requiredScopes needs: let its client there have that scope again") {
					t.Errorf("the log: %s", log)
				}
			})
		}
	}
}

// impatient is a transport that gives up on every request after a time, as a deadline of ten
// seconds would.
type impatient struct {
	next http.RoundTripper
	wait time.Duration
}

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), i.wait)
	defer cancel()
	return i.next.RoundTrip(r.WithContext(ctx))
}

// A value that is too long to come back opened must not be issued: the client would fail with it
// later, and not know why.
func TestProviderValuesThatAreTooLong(t *testing.T) {
	t.Run("a code of 7,000 characters", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.idp.Be(issuertest.Behaviour{CodeLength: 7000})
		a := w.register(w.wiki.PublicURL, nil)
		browser := issuertest.NewBrowser(t, w.net)
		back := browser.Upstream(browser.Decide(browser.Get(a.authorizeURL()), "allow"))
		if p := browser.Get(back); p.Status != 400 || p.Next() != "" || !strings.Contains(p.Body, "too long") {
			t.Errorf("status %d, leads to %.200s", p.Status, p.Next())
		}
	})
	told := func(t *testing.T, w *world, message string, characters int) {
		t.Helper()
		if log := w.log.String(); !strings.Contains(log, message) || !strings.Contains(log, fmt.Sprintf(`"tenant":"wiki","issuer":%q,"provider":%q,"characters":%d`, w.wiki.PublicURL, w.idp.Issuer, characters)) {
			t.Errorf("the log does not say so: %s", log)
		}
	}
	t.Run("a refresh token of 7,000 characters is forgotten, and the login is a session", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.idp.Be(issuertest.Behaviour{RefreshLength: 7000})
		a := w.register(w.wiki.PublicURL, nil)
		token := a.login().text("refresh_token")
		told(t, w, "refresh token is too long to carry, so the login lives only", 7000)
		w.clock.Add(24 * time.Hour)
		token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
		w.clock.Add(time.Second)
		a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
	})
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
		want string
	}{
		{"and the provider has ended it", issuertest.Behaviour{}, "invalid_grant"},
		{"and the provider gives it a leeway", issuertest.Behaviour{Leeway: 2 * time.Hour}, "ok"},
	} {
		t.Run("a refresh token is replaced by one of 7,000 characters: the one before it stays, "+c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
			w.idp.Be(issuertest.Behaviour{})
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			w.clock.Add(time.Hour)
			c.be.RefreshLength = 7000
			w.idp.Be(c.be)
			token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
			told(t, w, "new refresh token is too long to carry, so the one before it stays", 7000)
			w.clock.Add(time.Hour)
			if got := outcome(a.token(a.refreshment(token))); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestClientSecretOfTheLabel(t *testing.T) {
	const secret = "upstream-secret-of-the-bouncer"
	sealed := func(w *world, idp, id string) string {
		return provider.SealSecret(newRing(t, masterOne), idp, id, secret, w.clock.Now())
	}
	environment := map[string]string{
		"WIKI_CLIENT_SECRET": secret, "CLIENT_SECRET": secret, "BOUNCER_ENCRYPTION_KEY": secret, "AWS_SECRET_ACCESS_KEY": secret,
		"CLIENT_SECRET_2": secret, "wiki_client_secret": secret, "WIKI CLIENT_SECRET": secret, "EMPTY_CLIENT_SECRET": "",
	}
	for _, c := range []struct {
		name  string
		label func(*world) string
		ok    bool
		cause string
	}{
		{"plain text", func(*world) string { return secret }, true, ""},
		{"a variable", func(*world) string { return "env:WIKI_CLIENT_SECRET" }, true, ""},
		{"the shortest name", func(*world) string { return "env:CLIENT_SECRET" }, true, ""},
		{"sealed for this provider and client", func(w *world) string { return sealed(w, w.idp.Issuer, "bouncer") }, true, ""},
		{"a wrong one", func(*world) string { return "wrong" }, false, "the provider answered 401 invalid_client"},
		{"the master secret's variable", func(*world) string { return "env:BOUNCER_ENCRYPTION_KEY" }, false, "must end in CLIENT_SECRET"},
		{"somebody else's variable", func(*world) string { return "env:AWS_SECRET_ACCESS_KEY" }, false, "must end in CLIENT_SECRET"},
		{"a name that goes on", func(*world) string { return "env:CLIENT_SECRET_2" }, false, "must end in CLIENT_SECRET"},
		{"a name in small letters", func(*world) string { return "env:wiki_client_secret" }, false, "must end in CLIENT_SECRET"},
		{"a name with a space", func(*world) string { return "env:WIKI CLIENT_SECRET" }, false, "must end in CLIENT_SECRET"},
		{"a name with a line break", func(*world) string { return "env:CLIENT_SECRET\n" }, false, "must end in CLIENT_SECRET"},
		{"no name", func(*world) string { return "env:" }, false, "must end in CLIENT_SECRET"},
		{"a variable that is not there", func(*world) string { return "env:OTHER_CLIENT_SECRET" }, false, "the variable OTHER_CLIENT_SECRET of the sidecar is not set or empty"},
		{"an empty variable", func(*world) string { return "env:EMPTY_CLIENT_SECRET" }, false, "the variable EMPTY_CLIENT_SECRET of the sidecar is not set or empty"},
		{"sealed for another provider", func(w *world) string { return sealed(w, "https://evil.example", "bouncer") }, false, "sealed for another provider, client or master secret"},
		{"sealed for another client", func(w *world) string { return sealed(w, w.idp.Issuer, "other") }, false, "sealed for another provider, client or master secret"},
		{"sealed for a provider and client whose names run together the same", func(w *world) string { return sealed(w, w.idp.Issuer+"b", "ouncer") }, false, "sealed for another provider, client or master secret"},
		{"sealed text cut short", func(w *world) string { s := sealed(w, w.idp.Issuer, "bouncer"); return s[:len(s)-2] }, false, "sealed for another provider, client or master secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.ClientSecret = c.label(w)
				w.config = func(c *issuer.Config) { c.Getenv = func(name string) string { return environment[name] } }
			})
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code()))
			if c.ok {
				got.wants(t, 200, "")
			} else {
				got.wants(t, 500, "server_error")
			}
			log := w.log.String()
			if !strings.Contains(log, c.cause) || strings.Contains(log, secret) {
				t.Errorf("the log should say %q: %s", c.cause, log)
			}
			if n := w.idp.Posts(); !c.ok && strings.Contains(c.cause, "CLIENT_SECRET") && n != 0 {
				t.Errorf("%d posts without a secret", n)
			}
		})
	}
}
