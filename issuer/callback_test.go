package issuer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// begun takes a login to the moment when the provider sends the browser back.
func (a *app) begun(b *issuertest.Browser) string {
	a.w.t.Helper()
	return b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow"))
}

// A browser that prefetches the provider's redirect uses nothing up.
func TestCallbackThatIsPrefetched(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		for _, header := range [][2]string{{"Sec-Purpose", "prefetch"}, {"Sec-Purpose", "prefetch;prerender"}, {"Purpose", "prefetch"}, {"X-Moz", "prefetch"}} {
			t.Run(exchange+" "+header[0]+": "+header[1], func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) { w.wiki.Exchange = exchange })
				a := w.register(w.wiki.PublicURL, nil)
				b := issuertest.NewBrowser(t, w.net)
				ahead := func(address string) {
					r := newRequest(t, "GET", address, "", "")
					r.Header.Set(header[0], header[1])
					if p := b.Do(r); p.Status != 503 || p.Header.Get("Set-Cookie") != "" || p.Header.Get("Cache-Control") != "no-store" {
						t.Fatalf("%d %v", p.Status, p.Header)
					}
				}
				ahead(a.authorizeURL())
				back := a.begun(b)
				ahead(back)
				if p := b.Do(newRequest(t, "HEAD", back, "", "")); p.Status != 400 || p.Header.Get("Set-Cookie") != "" {
					t.Fatalf("HEAD: %d %v", p.Status, p.Header)
				}
				to := b.Follow(b.Get(back))
				a.token(a.redemption(to.Query().Get("code"))).wants(t, 200, "")
			})
		}
	}
}

func TestCallbacksThatAreRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	change := func(address string, changes ...string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = with(u.Query(), changes...).Encode()
		return u.String()
	}
	for _, c := range []struct {
		name   string
		visit  func(b *issuertest.Browser, back string) *issuertest.Page
		status int
	}{
		{"in another browser", func(_ *issuertest.Browser, back string) *issuertest.Page {
			return issuertest.NewBrowser(t, w.net).Get(back)
		}, 403},
		{"in another browser with a login of its own", func(_ *issuertest.Browser, back string) *issuertest.Page {
			b := issuertest.NewBrowser(t, w.net)
			a.begun(b)
			return b.Get(back)
		}, 403},
		{"with another state", func(b *issuertest.Browser, back string) *issuertest.Page {
			return b.Get(change(back, "state", "AAAAAAAAAAAAAAAAAAAAAA"))
		}, 403},
		{"with a state that names the same cookie", func(b *issuertest.Browser, back string) *issuertest.Page {
			u, _ := url.Parse(back)
			return b.Get(change(back, "state", u.Query().Get("state")[:6]+"AAAAAAAAAAAAAAAA"))
		}, 400},
		{"with a short state", func(b *issuertest.Browser, back string) *issuertest.Page {
			u, _ := url.Parse(back)
			return b.Get(change(back, "state", u.Query().Get("state")[:6]))
		}, 400},
		{"without a state", func(b *issuertest.Browser, back string) *issuertest.Page { return b.Get(change(back, "state", "")) }, 403},
		{"with a hostile state", func(b *issuertest.Browser, back string) *issuertest.Page {
			return b.Get(change(back, "state", "a=b; \r\n"))
		}, 403},
		{"without a code", func(b *issuertest.Browser, back string) *issuertest.Page { return b.Get(change(back, "code", "")) }, 400},
		{"with two codes", func(b *issuertest.Browser, back string) *issuertest.Page { return b.Get(back + "&code=x") }, 400},
		{"with two states", func(b *issuertest.Browser, back string) *issuertest.Page { return b.Get(back + "&state=x") }, 400},
		{"with a broken query", func(b *issuertest.Browser, back string) *issuertest.Page { return b.Get(back + "&x=%zz") }, 400},
		{"with the cookie of another login under this name", func(b *issuertest.Browser, back string) *issuertest.Page {
			mine, _ := url.Parse(back)
			other := issuertest.NewBrowser(t, w.net)
			a.begun(other)
			r := newRequest(t, "GET", back, "", "")
			for _, c := range other.Jar.Cookies(mine) {
				r.AddCookie(&http.Cookie{Name: "__Host-mcpb-flow-" + mine.Query().Get("state")[:6], Value: c.Value})
			}
			return issuertest.NewBrowser(t, w.net).Do(r)
		}, 400},
		{"too late", func(b *issuertest.Browser, back string) *issuertest.Page {
			w.clock.Add(20*time.Minute + time.Second)
			return b.Get(back)
		}, 400},
		{"from another provider than the one asked", func(b *issuertest.Browser, back string) *issuertest.Page {
			return b.Get(change(back, "iss", "https://evil.example"))
		}, 403},
		{"with an empty iss", func(b *issuertest.Browser, back string) *issuertest.Page { return b.Get(back + "&iss=") }, 403},
		{"with an error from another provider", func(b *issuertest.Browser, back string) *issuertest.Page {
			return b.Get(change(back, "iss", "https://evil.example", "error", "access_denied", "code", ""))
		}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			b := issuertest.NewBrowser(t, w.net)
			p := c.visit(b, a.begun(b))
			checkPage(t, seen(p))
			if p.Status != c.status || p.Next() != "" {
				t.Errorf("status %d, leads to %q: %s", p.Status, p.Next(), p.Body)
			}
		})
	}
	if w.idp.Posts() != 0 {
		t.Error("a code was redeemed")
	}
}

func TestProvidersThatPromiseIss(t *testing.T) {
	wrong := "https://evil.example"
	for _, c := range []struct {
		name string
		iss  *string
		ok   bool
	}{{"and send it", nil, true}, {"and send another", &wrong, false}, {"and send none", new(string), false}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			be := issuertest.Behaviour{Discovery: map[string]any{"authorization_response_iss_parameter_supported": true}, Iss: c.iss}
			if c.ok {
				be.Iss = &w.idp.Issuer
			} else if *c.iss == "" {
				be.Iss = nil
			}
			w.idp.Be(be)
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.begun(b))
			if c.ok != (p.Next() != "") || !c.ok && p.Status != 403 {
				t.Errorf("status %d, leads to %q", p.Status, p.Next())
			}
		})
	}
}

// The cookie goes with the first answer. Whoever kept it gets a second code, and the provider
// refuses the code inside it.
func TestCallbackOpenedTwice(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	back := a.begun(b)
	u, _ := url.Parse(back)
	kept := b.Jar.Cookies(u)
	first := b.Get(back)
	if p := b.Get(back); p.Status != 403 || p.Next() != "" {
		t.Errorf("opened again: status %d, leads to %q", p.Status, p.Next())
	}
	r := newRequest(t, "GET", back, "", "")
	for _, c := range kept {
		r.AddCookie(c)
	}
	second := w.do(r)
	one, _ := url.Parse(first.Next())
	two, _ := url.Parse(second.Header.Get("Location"))
	a.token(a.redemption(one.Query().Get("code"))).wants(t, 200, "")
	a.token(a.redemption(two.Query().Get("code"))).wants(t, 400, "invalid_grant")
}

// A browser that gave up the first answer, because its person reloaded or clicked twice, still has
// its cookie. The login is not lost, whoever redeems the provider's code, and there is only one
// login.
func TestCallbackWhoseAnswerWasLost(t *testing.T) {
	for _, exchange := range []string{"token", "callback", "auto"} {
		for _, guard := range []string{"none", "memory", "shared"} {
			t.Run(exchange+", guard "+guard, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.Exchange, w.wiki.AllowedSubjects = exchange, []string{"person-1"}
					w.guarded(guard)
				})
				a := w.register(w.wiki.PublicURL, nil)
				b := issuertest.NewBrowser(t, w.net)
				back := a.begun(b)
				u, _ := url.Parse(back)
				kept := b.Jar.Cookies(u)
				var codes []string
				for range 3 {
					r := newRequest(t, "GET", back, "", "")
					for _, c := range kept {
						r.AddCookie(c)
					}
					to, _ := url.Parse(w.do(r).Header.Get("Location"))
					codes = append(codes, to.Query().Get("code"))
				}
				if slices.Contains(codes, "") {
					t.Fatalf("codes %q", codes)
				}
				a.token(a.redemption(codes[2])).wants(t, 200, "")
				// without a guard nobody counts uses: docs/replay.md
				if counted := guard != "none" || exchange != "callback"; counted {
					a.token(a.redemption(codes[1])).wants(t, 400, "invalid_grant")
					a.token(a.redemption(codes[0])).wants(t, 400, "invalid_grant")
				}
			})
		}
	}
}

// The page is reloaded after the login is finished, at a replica that knows nothing of it. The
// provider must not get its code a second time: many providers then revoke what they issued for the
// first.
func TestPageIsReloadedAtAnotherReplica(t *testing.T) {
	for _, exchange := range []string{"token", "callback", "auto"} {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.Exchange, w.wiki.AllowedSubjects = exchange, []string{"person-1"}
			w.guarded("shared")
			w.skews = []time.Duration{0, 0, 0}
		})
		a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"cursor://anysphere.cursor-mcp/oauth/callback"}})
		b := issuertest.NewBrowser(t, w.net)
		back := a.begun(b)
		to, _ := url.Parse(b.Get(back).Link())
		a.token(a.redemption(to.Query().Get("code"))).wants(t, 200, "")
		posts := w.idp.Posts()
		for range 4 { // replicas answer in turns
			p := b.Get(back)
			if again, _ := url.Parse(p.Link()); p.Status == 200 {
				a.token(a.redemption(again.Query().Get("code"))).wants(t, 400, "invalid_grant")
			}
		}
		if w.idp.Posts() != posts {
			t.Errorf("exchange=%s: the provider got the code %d times more", exchange, w.idp.Posts()-posts)
		}
	}
}

// Somebody who may not come in reads the same page again.
func TestRefusalThatWasLost(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Exchange, w.wiki.AllowedSubjects = "callback", []string{"person-2"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	back := a.begun(b)
	u, _ := url.Parse(back)
	kept := b.Jar.Cookies(u)
	for range 2 {
		r := newRequest(t, "GET", back, "", "")
		for _, c := range kept {
			r.AddCookie(c)
		}
		if got := w.do(r); got.Status != 403 || !strings.Contains(got.Body, "This account may not come in") {
			t.Errorf("status %d: %s", got.Status, got.Body)
		}
	}
}

// The page that offers to open the application can be reloaded for a minute.
func TestPageBeforeTheApplicationIsReloaded(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run(exchange, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.Exchange = exchange })
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"cursor://anysphere.cursor-mcp/oauth/callback"}})
			b := issuertest.NewBrowser(t, w.net)
			back := a.begun(b)
			var last string
			for i := range 3 {
				p := b.Get(back)
				if age := strings.Join(p.Header["Set-Cookie"], "; "); i == 0 && !strings.Contains(age, "Max-Age=60;") {
					t.Errorf("cookie %s", age)
				}
				to, _ := url.Parse(p.Link())
				if last = to.Query().Get("code"); p.Status != 200 || last == "" {
					t.Fatalf("status %d, leads to %q", p.Status, p.Link())
				}
			}
			a.token(a.redemption(last)).wants(t, 200, "")
		})
	}
}

// What the provider said at a callback is used for one minute. Reloading the page within each
// minute must not extend that: a person who was removed meanwhile would still be let in.
func TestPageThatIsReloadedOnAndOn(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.Exchange = "callback" })
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"cursor://anysphere.cursor-mcp/oauth/callback"}})
	b := issuertest.NewBrowser(t, w.net)
	back := a.begun(b)
	for _, c := range []struct {
		after time.Duration
		code  bool
	}{{0, true}, {50 * time.Second, true}, {5 * time.Second, true}, {45 * time.Second, false}, {time.Second, false}} {
		w.clock.Add(c.after)
		p := b.Get(back)
		to, _ := url.Parse(p.Link())
		if has := to.Query().Get("code") != ""; has != c.code {
			t.Errorf("%v later: status %d, leads to %q", c.after, p.Status, p.Link())
		}
	}
}

// A stranger chooses the words of a refusal and the code beside them, as long as a header may be.
func TestLongRefusalAtTheCallbackCostsLittle(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	back, _ := url.Parse(a.begun(b))
	var code strings.Builder
	for code.Len() < 14<<10 {
		fmt.Fprintf(&code, "%06x.", code.Len())
	}
	for _, code := range []string{code.String(), code.String()[:4096]} {
		query := url.Values{"state": {back.Query().Get("state")}, "error": {"access_denied"}, "code": {code}, "error_description": {strings.Repeat("no ", 5000)}}
		r := newRequest(t, "GET", back.Scheme+"://"+back.Host+back.Path+"?"+query.Encode(), "", "")
		for _, c := range b.Jar.Cookies(back) {
			r.AddCookie(c)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := w.do(r)
		runtime.ReadMemStats(&after)
		if cost := (after.TotalAlloc - before.TotalAlloc) >> 20; cost > 10 || !strings.Contains(w.log.String(), "the provider answered access_denied, saying \\\"no no") {
			t.Errorf("a code of %d characters: status %d after %d MB\n%s", len(code), got.Status, cost, w.log)
		}
	}
}

func TestTwoLoginsInOneBrowser(t *testing.T) {
	w := newWorld(t, nil, nil)
	a, b := w.register(w.wiki.PublicURL, nil), w.register(w.wiki.PublicURL, nil)
	browser := issuertest.NewBrowser(t, w.net)
	pages := []*issuertest.Page{browser.Get(a.authorizeURL()), browser.Get(b.authorizeURL())}
	backB := browser.Upstream(browser.Decide(pages[1], "allow"))
	backA := browser.Upstream(browser.Decide(pages[0], "allow"))
	for _, c := range []struct {
		app  *app
		back string
	}{{a, backA}, {b, backB}} {
		to, _ := url.Parse(browser.Get(c.back).Next())
		if to.Query().Get("state") != c.app.state {
			t.Errorf("state %q", to.Query().Get("state"))
		}
		c.app.token(c.app.redemption(to.Query().Get("code"))).wants(t, 200, "")
	}
}

func TestTwelveLoginsInOneBrowser(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	browser := issuertest.NewBrowser(t, w.net)
	var backs []string
	for range 12 {
		backs = append(backs, a.begun(browser))
		w.clock.Add(time.Second)
		if n := strings.Count(strings.Join(browser.Cookies(a.base), " "), "flow"); n > 6 {
			t.Fatalf("%d logins in the cookies", n)
		}
	}
	for i, back := range backs {
		p := browser.Get(back)
		if dropped := i < 6; dropped != (p.Status == 403) || dropped == (p.Next() != "") {
			t.Errorf("login %d: status %d, leads to %q: the six oldest should be gone", i, p.Status, p.Next())
		}
	}
}

// Each row: what the provider says instead of a code, and what the client hears. Both come from a
// fixed list.
func TestProviderErrorsAtTheCallback(t *testing.T) {
	for _, c := range []struct{ name, said, description, code string }{
		{"the person said no", "access_denied", "no", "access_denied"},
		{"the person has to sign in", "login_required", "", "access_denied"},
		{"the person has to consent", "consent_required", "", "access_denied"},
		{"the person has to do something", "interaction_required", "", "access_denied"},
		{"the person has to choose", "account_selection_required", "", "access_denied"},
		{"busy", "temporarily_unavailable", "", "temporarily_unavailable"},
		{"broken", "server_error", "", "server_error"},
		{"our client is wrong", "unauthorized_client", "", "server_error"},
		{"our scope is wrong", "invalid_scope", "scope wiki:read is not allowed for this client", "server_error"},
		{"our request is wrong", "invalid_request", "", "server_error"},
		{"something of its own", "AADSTS50105", "", "server_error"},
		{"markup", "<script>alert(1)</script>", "<script>alert(2)</script>", "server_error"},
		{"a line break", "a\r\nSet-Cookie: a=b", "x\r\nX: y", "server_error"},
		{"10 KB", strings.Repeat("hostile", 1500), strings.Repeat("hostile", 300), "server_error"},
		{"another code in it", "x&code=hostile", "&iss=hostile", "server_error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(issuertest.Behaviour{AuthError: c.said, AuthErrorDescription: c.description})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.begun(b))
			to := a.wantsErrorRedirect(t, seen(p), c.code, a.state)
			for _, hostile := range []string{"hostile", "script", "alert", "Set-Cookie", "AADSTS"} {
				if q, _ := url.Parse(to); strings.Contains(q.Query().Get("error_description")+q.Query().Get("error"), hostile) {
					t.Errorf("%s came through: %s", hostile, to)
				}
			}
			// The log has all that the provider said, on one line and cut short.
			lines := linesOf(t, w.log.String(), "request refused")
			cause, _ := lines[0]["cause"].(string)
			if len(lines) != 1 || len(cause) > 400 || strings.ContainsAny(cause, "\r\n") || !strings.Contains(cause, c.description[:min(len(c.description), 1)]) || c.code == c.said && !strings.Contains(cause, "the provider answered "+c.said) {
				t.Errorf("%v", lines)
			}
			if c.said == "invalid_scope" && cause != `the provider answered invalid_scope, saying "scope wiki:read is not allowed for this client"` {
				t.Error(cause)
			}
			b.Wait()
			if len(b.Cookies(a.base)) != 0 {
				t.Error("the login's cookie is left")
			}
			if w.idp.Posts() != 0 {
				t.Error("the token endpoint was asked")
			}
		})
	}
}

// A provider that is away for a moment does not end the login: the person reloads the page.
func TestCallbackSurvivesAnOutage(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.restart = true })
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	back := a.begun(b)
	w.idp.Be(issuertest.Behaviour{DiscoveryStatus: 500})
	if p := b.Get(back); p.Status != 503 || p.Next() != "" {
		t.Fatalf("status %d, leads to %q", p.Status, p.Next())
	}
	w.idp.Be(issuertest.Behaviour{})
	to, _ := url.Parse(b.Get(back).Next())
	a.token(a.redemption(to.Query().Get("code"))).wants(t, 200, "")
}
