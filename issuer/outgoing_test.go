package issuer_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// A connection that was closed while nobody looked is not an answer: the next request is sent on
// another one. net/http itself does this for GET, but not for the POST requests on which a login
// depends.
func TestConnectionThatDiedIsNotAnAnswer(t *testing.T) {
	thin := func(m map[string]any) { delete(m, "email") }
	info := map[string]any{"sub": "person-1", "email": "ada@example.com", "email_verified": true}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(protocol+", exchange="+exchange, func(t *testing.T) {
				clock := issuertest.NewClock()
				w := newWorld(t, &issuertest.Options{TLS: true, HTTP2: protocol == "HTTP/2", Now: clock.Now}, func(w *world) {
					w.clock = clock
					w.wiki.Exchange, w.wiki.AllowedEmails = exchange, []string{"ada@example.com"}
				})
				w.idp.Be(issuertest.Behaviour{Claims: thin, UserInfo: info, Revocation: true, KillOnReuse: true})
				a := w.register(w.wiki.PublicURL, nil)
				a.login() // from here on a connection is kept

				b := issuertest.NewBrowser(t, w.net)
				back := a.begun(b)
				w.idp.Drop()
				posts := w.idp.Posts()
				code := a.wantsCode(t, seen(b.Get(back)))
				w.idp.Drop()
				tokens := a.token(a.redemption(code)).wants(t, 200, "")
				w.clock.Add(time.Hour)
				w.idp.Drop()
				tokens = a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
				if outcome(tokens) != "ok" {
					t.Errorf("refresh: %s: the provider was not asked", outcome(tokens))
				}
				if n := w.idp.Posts() - posts; n != 2 {
					t.Errorf("a login and a refresh reached the provider %d times", n)
				}
				w.idp.Drop()
				form := with(a.refreshment(tokens.text("refresh_token")), "client_id", a.id, "token", tokens.text("refresh_token"), "grant_type", "", "refresh_token", "")
				w.do(newRequest(t, "POST", a.base+"/oauth/revoke", formType, form.Encode())).wants(t, 200, "")
				if n := len(w.idp.Revoked()); n != 1 {
					t.Errorf("%d revocations at the provider", n)
				}
				w.clock.Add(2 * time.Hour) // discovery and keys are due again
				w.idp.Drop()
				// Browsers make these requests, not the sidecar.
				w.idp.Transport.(*http.Transport).CloseIdleConnections()
				a.login()
			})
		}
	}
}

// The provider's answer to a spent code is kept for the client, which was told to try again. It is
// given out once, to whoever brings the code first.
func TestUnfinishedLoginIsNotLost(t *testing.T) {
	thin := func(m map[string]any) { delete(m, "email") }
	kind := issuertest.Behaviour{Claims: thin, UserInfo: map[string]any{"sub": "person-1", "email": "ada@example.com", "email_verified": true}}
	keys, userinfo := kind, kind
	keys.KeysStatus, userinfo.UserInfoStatus = 500, 500
	for name, fault := range map[string]issuertest.Behaviour{"keys": keys, "userinfo": userinfo} {
		for _, exchange := range []string{"token", "callback"} {
			for _, guard := range []string{"none", "memory", "shared"} {
				t.Run(name+", exchange="+exchange+", guard "+guard, func(t *testing.T) {
					w := newWorld(t, nil, func(w *world) {
						w.wiki.Exchange, w.wiki.AllowedEmails = exchange, []string{"ada@example.com"}
						w.guarded(guard)
						if guard == "shared" { // each request meets another replica than the last
							w.skews = []time.Duration{0, 0, 0}
						}
					})
					w.idp.Be(fault)
					a := w.register(w.wiki.PublicURL, nil)
					code := a.code()
					got := a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
					if got.Header.Get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
					w.clock.Add(5 * time.Second)
					w.idp.Be(kind)
					a.token(a.redemption(code)).wants(t, 200, "")
					if n := w.idp.Posts(); n != 1 {
						t.Errorf("the code was posted %d times", n)
					}
					a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
				})
			}
		}
	}
}

// "Try again" is not said if it cannot work: an answer that is too long to keep is lost with its
// code, so the person logs in again.
func TestUnfinishedLoginThatIsTooLong(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.Exchange = exchange })
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			w.idp.Be(issuertest.Behaviour{KeysStatus: 500, Claims: func(m map[string]any) { m["much"] = strings.Repeat("x", 40<<10) }})
			back := a.begun(b)
			if exchange == "callback" {
				a.wantsErrorRedirect(t, seen(b.Get(back)), "access_denied", a.state)
			} else {
				a.token(a.redemption(a.wantsCode(t, seen(b.Get(back))))).wants(t, 400, "invalid_grant")
			}
			if !strings.Contains(w.log.String(), "cannot be kept until the client comes again") {
				t.Errorf("the log: %s", w.log)
			}
		})
	}
}

// Only one of the requests that repeat the code goes on with the kept answer, and only for a
// minute.
func TestUnfinishedLoginServesOnce(t *testing.T) {
	for _, guard := range []string{"none", "memory", "shared"} {
		t.Run("guard "+guard, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.guarded(guard) })
			a := w.register(w.wiki.PublicURL, nil)
			again := func(pause time.Duration) (good int) {
				w.restart = true // which reads the provider's keys anew
				w.idp.Be(issuertest.Behaviour{})
				code := a.code()
				w.replicas, w.restart = nil, false
				w.idp.Be(issuertest.Behaviour{KeysStatus: 500})
				a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
				w.idp.Be(issuertest.Behaviour{})
				w.clock.Add(pause)
				results := make(chan int, 6)
				for range cap(results) {
					go func() { results <- a.token(a.redemption(code)).Status }()
				}
				for range cap(results) {
					if <-results == 200 {
						good++
					}
				}
				return good
			}
			if good := again(time.Second); good != 1 {
				t.Errorf("%d of 6 went on", good)
			}
			if good := again(61 * time.Second); good != 0 {
				t.Errorf("after a minute: %d of 6 went on", good)
			}
		})
	}
}

// A client does not notice a fault that passes while there is time.
func TestLoginWaitsForAFaultThatPasses(t *testing.T) {
	thin := func(m map[string]any) { delete(m, "email") }
	info := map[string]any{"sub": "person-1", "email": "ada@example.com", "email_verified": true}
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
	}{
		{"500", issuertest.Behaviour{Status: 500}},
		{"503 temporarily_unavailable", issuertest.Behaviour{Status: 503, Error: "temporarily_unavailable"}},
		{"429", issuertest.Behaviour{Status: 429}},
		{"400 slow_down", issuertest.Behaviour{Status: 400, Error: "slow_down"}},
		{"keys", issuertest.Behaviour{KeysStatus: 503}},
		{"discovery", issuertest.Behaviour{DiscoveryStatus: 503}},
		{"userinfo", issuertest.Behaviour{UserInfoStatus: 502}},
	} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(c.name+", exchange="+exchange, func(t *testing.T) {
				kind := issuertest.Behaviour{Claims: thin, UserInfo: info}
				c.be.Claims, c.be.UserInfo = thin, info
				waited := 0
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Exchange, w.wiki.AllowedEmails = exchange, []string{"ada@example.com"}
					w.pause = func() { waited++; w.idp.Be(kind) }
				})
				w.idp.Be(c.be)
				w.register(w.wiki.PublicURL, nil).login()
				if waited != 1 {
					t.Errorf("it was waited %d times", waited)
				}
			})
		}
	}
}

// If a provider says for how long it is busy, it is not asked earlier. No request waits longer than
// its own time limit.
func TestRetryAfterOfAProviderIsObeyed(t *testing.T) {
	var pauses []time.Duration
	w := newWorld(t, nil, func(w *world) {
		next := w.idp.Transport
		w.config = func(c *issuer.Config) {
			c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := next.RoundTrip(r)
				if err == nil && r.URL.Path == "/token" {
					resp.Header.Set("Retry-After", "3")
				}
				return resp, err
			})
			c.Wait = func(_ context.Context, pause time.Duration) error {
				pauses = append(pauses, pause)
				return context.DeadlineExceeded
			}
		}
	})
	w.idp.Be(issuertest.Behaviour{Status: 429})
	a := w.register(w.wiki.PublicURL, nil)
	a.token(a.redemption(a.code())).wants(t, 503, "temporarily_unavailable")
	if n := w.idp.Posts(); n != 1 || len(pauses) != 1 || pauses[0] != 3*time.Second {
		t.Errorf("%d posts, waits %v", n, pauses)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A claim that only headers for the MCP server need does not delay a login. The login begins
// without it, with a short access token, and the next refresh asks.
func TestLoginBeginsWithoutWhatNoRuleNeeds(t *testing.T) {
	info := map[string]any{"sub": "person-1", "name": "Ada", "email": "ada@example.com", "email_verified": true}
	verified := func(m map[string]any) {
		maps.Copy(m, map[string]any{"email": "ada@example.com", "email_verified": true})
	}
	for _, c := range []struct {
		name   string
		labels labels
		claims func(map[string]any)
		status int
	}{
		{"a name for the MCP server", labels{IdentityClaims: []string{"name"}}, nil, 200},
		{"an address for the MCP server", labels{IdentityClaims: []string{"email"}}, nil, 200},
		{"a name for the MCP server, and a rule that the id_token satisfies", labels{IdentityClaims: []string{"name"}, AllowedDomains: []string{"example.com"}}, verified, 200},
		{"a rule about the address", labels{AllowedDomains: []string{"example.com"}}, nil, 503},
		{"a rule about groups, and a name", labels{IdentityClaims: []string{"name"}, AllowedGroups: []string{"admins"}}, verified, 503},
		{"a scope rule about the address", labels{ScopeRules: []string{"domain:example.com=mcp:read mcp:write"}}, nil, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.IdentityClaims, w.wiki.AllowedDomains = c.labels.IdentityClaims, c.labels.AllowedDomains
				w.wiki.AllowedGroups, w.wiki.ScopeRules = c.labels.AllowedGroups, c.labels.ScopeRules
			})
			kind := issuertest.Behaviour{UserInfo: info, Claims: c.claims}
			broken := kind
			broken.UserInfoStatus = 500
			w.idp.Be(broken)
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code()))
			if got.Status != c.status || c.status == 200 && outcome(got) != "short" {
				t.Fatalf("%s, status %d: %s", outcome(got), got.Status, got.Body)
			}
			if c.status != 200 {
				return
			}
			w.idp.Be(kind)
			w.clock.Add(4 * time.Minute)
			refreshed := a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
			claims := w.verifiedToken(a.base, refreshed.text("access_token"), w.clock.Now())
			told := c.labels.IdentityClaims[0]
			if outcome(refreshed) != "ok" || claims[told] != info[told] {
				t.Errorf("%s, %v", outcome(refreshed), claims)
			}
		})
	}
}

// For a login without a refresh token of the provider, nobody can ask later: it ends soon, and the
// person logs in again.
func TestLoginWithoutChecksThatBeganWithoutAClaimIsShort(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.IdentityClaims = []string{"name"} })
	w.idp.Be(issuertest.Behaviour{UserInfo: map[string]any{"sub": "person-1"}, UserInfoStatus: 500, Refresh: "none"})
	a := w.register(w.wiki.PublicURL, nil)
	got := a.login()
	if outcome(got) != "short" {
		t.Errorf("%s: %s", outcome(got), got.Body)
	}
	a.token(a.refreshment(got.text("refresh_token"))).wants(t, 400, "invalid_grant")
}

// A client that hangs up while the provider is asked has not spent the code. Client and browser can
// both repeat their request.
func TestRedemptionDuringWhichAClientHangsUp(t *testing.T) {
	for _, c := range [][2]string{{"token", "none"}, {"token", "memory"}, {"token", "shared"}, {"callback", "none"}, {"callback", "memory"}, {"callback", "shared"}, {"auto", "shared"}} {
		exchange := c[0]
		t.Run("exchange="+exchange+", guard "+c[1], func(t *testing.T) {
			var hangUp atomic.Pointer[context.CancelFunc]
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Exchange = exchange
				w.wiki.AllowedSubjects = []string{"person-1"}
				w.guarded(c[1])
				if c[1] == "shared" { // the next request comes to another replica
					w.skews = []time.Duration{0, 0}
				}
				guarded, next := w.config, w.idp.Transport
				w.config = func(c *issuer.Config) {
					guarded(c)
					c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
						if cancel := hangUp.Load(); cancel != nil && r.URL.Path == "/token" {
							(*cancel)()
						}
						return next.RoundTrip(r)
					})
				}
			})
			w.idp.Be(issuertest.Behaviour{})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			back := a.begun(b)
			ctx, cancel := context.WithCancel(t.Context())
			var code string
			if exchange == "token" {
				code = a.wantsCode(t, seen(b.Get(back)))
				hangUp.Store(&cancel)
				w.do(a.tokenRequest(a.redemption(code)).WithContext(ctx))
			} else {
				r := newRequest(t, "GET", back, "", "").WithContext(ctx)
				for _, cookie := range b.Jar.Cookies(r.URL) {
					r.AddCookie(cookie)
				}
				hangUp.Store(&cancel)
				w.do(r)
			}
			if ctx.Err() == nil {
				t.Fatal("nobody hung up")
			}
			hangUp.Store(nil)
			if exchange != "token" {
				code = a.wantsCode(t, seen(b.Get(back)))
			}
			a.token(a.redemption(code)).wants(t, 200, "")
			if n := w.idp.Posts(); n != 1 {
				t.Errorf("the code was posted %d times", n)
			}
		})
	}
}

// A client may repeat its request before the first one has ended. The second request must not
// present the code to the provider again, which may take that for theft.
func TestRedemptionDuringWhichAClientComesAgain(t *testing.T) {
	for _, c := range [][2]string{{"token", "none"}, {"token", "memory"}, {"callback", "none"}, {"callback", "memory"}, {"auto", "memory"}} {
		t.Run("exchange="+c[0]+", guard "+c[1], func(t *testing.T) {
			asked, release := make(chan struct{}, 9), make(chan struct{})
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Exchange, w.wiki.AllowedSubjects = c[0], []string{"person-1"}
				w.guarded(c[1])
				guarded, next := w.config, w.idp.Transport
				w.config = func(c *issuer.Config) {
					guarded(c)
					c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
						if r.URL.Path == "/token" {
							asked <- struct{}{}
							<-release
						}
						return next.RoundTrip(r)
					})
				}
			})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			back := a.begun(b)
			request := func() *http.Request {
				r := newRequest(t, "GET", back, "", "")
				for _, cookie := range b.Jar.Cookies(r.URL) {
					r.AddCookie(cookie)
				}
				return r
			}
			if c[0] == "token" {
				code := a.wantsCode(t, seen(b.Get(back)))
				request = func() *http.Request { return a.tokenRequest(a.redemption(code)) }
			}
			ask := func(ctx context.Context) chan reply {
				done, r := make(chan reply, 1), request().WithContext(ctx)
				go func() { done <- w.do(r) }()
				return done
			}
			ctx, hangUp := context.WithCancel(t.Context())
			first := ask(ctx)
			<-asked
			hangUp()
			second := ask(t.Context())
			select {
			case <-asked:
				t.Error("the code was posted while the first request with it was under way")
			case <-time.After(50 * time.Millisecond):
			}
			close(release)
			<-first
			if c[0] == "token" {
				(<-second).wants(t, 200, "")
				return
			}
			a.token(a.redemption(a.wantsCode(t, <-second))).wants(t, 200, "")
		})
	}
}

// The connection to the deny document can die too.
func TestDenyDocumentOverAConnectionThatDied(t *testing.T) {
	var reads atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if reads.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		w.Write([]byte(`{"v":1,"serial":1}`))
	}))
	defer server.Close()
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) {
			list, err := deny.Open(server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Deny = list
		}
	})
	w.register(w.wiki.PublicURL, nil).login()
	if n := reads.Load(); n != 2 {
		t.Errorf("%d reads", n)
	}
}

// If the document breaks off in the middle, the log says what happened.
func TestDenyDocumentThatBreaksOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte(`{"v":1,`))
	}))
	defer server.Close()
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) {
			list, err := deny.Open(server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Deny = list
		}
	})
	a := w.register(w.wiki.PublicURL, nil)
	if got := w.get(a.authorizeURL()); got.Status < 500 || w.logged(strings.TrimPrefix(server.URL, "http://")+": unexpected EOF") == 0 {
		t.Errorf("%d: %s", got.Status, w.log)
	}
}
