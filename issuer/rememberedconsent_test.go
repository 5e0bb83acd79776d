package issuer_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// remembers is a world whose server lets consents be remembered for a day, with a guard and a deny
// document, and a client that is verified.
func remembers(t *testing.T, change func(*world)) (*world, denyFile, *app) {
	f := denyFile{filepath.Join(t.TempDir(), "deny.json")}
	f.write(t, `{"v":1,"serial":1}`)
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Exchange, w.wiki.RememberConsent = "auto", 24*3600
		w.guarded("memory")
		guarded := w.config
		w.config = func(c *issuer.Config) {
			guarded(c)
			source, err := deny.Open(f.name, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Deny = source
		}
		if change != nil {
			change(w)
		}
	})
	return w, f, w.publish(documentURL, map[string]any{"redirect_uris": []string{callback, "https://app.example/other"}})
}

// click is the request of a browser in which somebody presses a button of the client's own page.
func (a *app) click(changes ...string) *http.Request {
	r := newRequest(a.w.t, "GET", a.authorizeURL(changes...), "", "")
	for name, value := range map[string]string{
		"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1", "Sec-Fetch-Site": "cross-site", "Referer": "https://app.example/",
	} {
		r.Header.Set(name, value)
	}
	return r
}

// answer sends a consent page with further fields.
func answer(t testing.TB, b *issuertest.Browser, p *issuertest.Page, decision string, more ...string) *issuertest.Page {
	t.Helper()
	action, form, _ := p.Form()
	if action == "" {
		t.Fatalf("no consent page: status %d leads to %q: %s", p.Status, p.Next(), p.Body)
	}
	form.Set("decision", decision)
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	r := newRequest(t, "POST", action, formType, form.Encode())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.Do(r)
}

// relabelFor changes labels while a person is on the way.
func (w *world) relabelFor(b *issuertest.Browser, change func(*labels)) {
	w.relabel(change)
	jar := b.Jar
	*b = *issuertest.NewBrowser(w.t, w.net)
	b.Jar = jar
}

const rememberBox = `<input type="checkbox" name="remember" value="yes">`

// consents logs a person in who has the consent remembered.
func (a *app) consents(b *issuertest.Browser, changes ...string) {
	t := a.w.t
	t.Helper()
	back := b.Follow(answer(t, b, b.Get(a.authorizeURL(changes...)), "allow", "remember", "yes"))
	if back.Query().Get("code") == "" || len(cookiesOf(b, a.base, "__Host-mcpb-remembered-")) == 0 {
		t.Fatalf("nothing is remembered: %s, %q", back, b.Cookies(a.base))
	}
}

// remembersOnce lets consents be remembered at this server, and has a browser do so.
func (w *world) remembersOnce() (*issuertest.Browser, *app) {
	w.relabel(func(l *labels) { l.Exchange, l.RememberConsent = "auto", 24*3600 })
	a, b := w.publish(documentURL, nil), issuertest.NewBrowser(w.t, w.net)
	a.consents(b)
	return b, a
}

// unasked says whether the browser goes to the provider without a page.
func (w *world) unasked(p *issuertest.Page) bool {
	w.t.Helper()
	goes := strings.HasPrefix(p.Header.Get("Location"), w.idp.Issuer+"/")
	if asks := strings.Contains(p.Body, `value="allow"`); asks == goes {
		w.t.Fatalf("status %d, leads to %q: %s", p.Status, p.Next(), p.Body)
	}
	return goes
}

// reason is why the last page was shown although something is remembered.
func (w *world) reason() any {
	lines := eventsOf(w.t, w.log.String(), "authorization.asked")
	return lines[len(lines)-1]["because"]
}

// Who ticks the box and logs in again, as the same person and from the same client's page, sees the
// page once in the time of the label. The log says when the consent was given.
func TestRememberedConsentStandsForThePage(t *testing.T) {
	for _, exchange := range []string{"auto", "callback"} {
		w, _, a := remembers(t, func(w *world) { w.wiki.Exchange = exchange })
		b := issuertest.NewBrowser(t, w.net)
		first := b.Do(a.click())
		checkPage(t, seen(first))
		if !strings.Contains(first.Body, rememberBox+" Remember for 24 hours on this browser</label>") {
			t.Fatalf("no box, or a ticked one: %s", first.Body)
		}
		consented := answer(t, b, first, "allow", "remember", "yes")
		given := w.clock.Now()
		w.clock.Add(time.Minute)
		back := b.Get(b.Upstream(consented))
		i := slices.IndexFunc(back.Header.Values("Set-Cookie"), func(c string) bool { return strings.HasPrefix(c, "__Host-mcpb-remembered-") })
		if i < 0 {
			t.Fatalf("nothing is remembered: %q", back.Header.Values("Set-Cookie"))
		}
		if c := back.Header.Values("Set-Cookie")[i]; !strings.Contains(c, "; Path=/; Max-Age=86340; HttpOnly; Secure; SameSite=Lax") || !strings.Contains(c, "=mbm1_") || len(c) > 900 {
			t.Errorf("the cookie is %s", c)
		}
		w.clock.Add(22 * time.Hour)
		p := b.Do(a.click())
		if !w.unasked(p) || p.Status != 303 || p.Body != "" {
			t.Fatalf("%s: asked again: %v", exchange, w.reason())
		}
		got := a.token(a.redemption(b.Follow(p).Query().Get("code"))).wants(t, 200, "")
		if got.text("scope") != "mcp:read mcp:write email" {
			t.Errorf("scope %q", got.text("scope"))
		}
		lines := eventsOf(t, w.log.String(), "consent.remembered")
		if len(lines) != 1 || lines[0]["given"] != given.UTC().Format(time.RFC3339) || lines[0]["document"] != documentURL {
			t.Errorf("the log says %v", lines)
		}
		if lines := eventsOf(t, w.log.String(), "consent.given"); len(lines) != 1 || lines[0]["remember"] != true {
			t.Errorf("the log says %v", lines)
		}
		w.clock.Add(2 * time.Hour) // nothing that was remembered makes itself younger
		if w.unasked(b.Do(a.click())) {
			t.Error("a day later nobody is asked")
		}
	}
}

// Nothing is remembered unless the person ticks the box, and who answers the page decides anew.
func TestRememberedConsentIsThePersonsDecision(t *testing.T) {
	w, _, a := remembers(t, nil)
	b := issuertest.NewBrowser(t, w.net)
	kept := func() int { return len(cookiesOf(b, a.base, "__Host-mcpb-remembered-")) }
	for _, c := range []struct {
		decision, tick string
		want           int
	}{{"allow", "", 0}, {"allow", "yes", 1}, {"allow", "", 0}, {"allow", "on", 0}, {"allow", "yes", 1}, {"deny", "yes", 0}} {
		p := answer(t, b, b.Get(a.authorizeURL()), c.decision, "remember", c.tick)
		if c.decision == "allow" {
			b.Follow(p)
		}
		if kept() != c.want {
			t.Errorf("%s with %q: %d are remembered", c.decision, c.tick, kept())
		}
		w.clock.Add(time.Minute)
		b.Wait()
	}
}

// Only consents to verified applications with an https address can be remembered, and only where
// the callback learns who has logged in. Elsewhere there is no box, and a form with one changes
// nothing.
func TestRememberedConsentIsNotForEverybody(t *testing.T) {
	const vendor = "https://claude.ai/oauth/mcp-oauth-client-metadata"
	document := func(w *world) *app { return w.publish(documentURL, nil) }
	redirecting := func(uri string) func(*world) *app {
		return func(w *world) *app {
			a := w.publish(documentURL, map[string]any{"redirect_uris": []string{uri}})
			a.redirect = uri
			return a
		}
	}
	for _, c := range []struct {
		name   string
		change func(*world)
		app    func(*world) *app
		says   string // of the label, in the log
	}{
		{"the label is not set", func(w *world) { w.wiki.RememberConsent = 0 }, document, ""},
		{"a client that registered itself", nil, func(w *world) *app { return w.register(w.wiki.PublicURL, nil) }, ""},
		{"a program that waits on this computer", nil, redirecting("http://127.0.0.1:33418/callback"), ""},
		{"the same with TLS", nil, redirecting("https://localhost:33418/callback"), ""},
		{"an app with a scheme of its own", nil, redirecting("com.example.app:/callback"), ""},
		{"a document that cannot be read now", nil, func(w *world) *app {
			w.docs.fail(vendor)
			a := w.documentApp(vendor)
			a.redirect = "https://claude.ai/api/mcp/auth_callback"
			return a
		}, ""},
		{"exchange=token", func(w *world) { w.wiki.Exchange = "token" }, document, "exchange=token"},
		{"no guard", func(w *world) { w.guarded("none") }, document, "no replay guard"},
		{"a function that counts in its memory", func(w *world) {
			guarded := w.config
			w.config = func(c *issuer.Config) { guarded(c); c.OnLambda = true }
		}, document, "AWS Lambda"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _, _ := remembers(t, c.change)
			a := c.app(w)
			b := issuertest.NewBrowser(t, w.net)
			p := b.Do(a.click())
			if p.Status != 200 || strings.Contains(p.Body, "Remember") {
				t.Fatalf("status %d, or there is a box: %s", p.Status, p.Body)
			}
			back := b.Get(b.Upstream(answer(t, b, p, "allow", "remember", "yes")))
			if kept := cookiesOf(b, a.base, "__Host-mcpb-remembered-"); len(kept) != 0 || !strings.Contains(back.Header.Get("Location")+back.Body, "code=") {
				t.Errorf("%q is remembered, status %d", kept, back.Status)
			}
			if w.unasked(b.Do(a.click())) {
				t.Error("nobody was asked")
			}
			var because []string
			for _, line := range linesOf(t, w.log.String(), "the label rememberConsent has no effect: consent is asked at each login") {
				because = append(because, line["because"].(string))
			}
			if all := strings.Join(because, "\n"); c.says == "" && all != "" || len(because) > 1 || !strings.Contains(all, c.says) {
				t.Errorf("the log says of the label: %q", because)
			}
		})
	}
}

// Whatever has changed since, and whoever may have begun the request: in doubt there is the page,
// and the log says why.
func TestRememberedConsentIsDoubted(t *testing.T) {
	type by = *issuertest.Browser
	header := func(name, value string) func(*world, by, *app) *http.Request {
		return func(_ *world, _ by, a *app) *http.Request {
			r := a.click()
			if r.Header.Del(name); value != "" {
				r.Header.Set(name, value)
			}
			return r
		}
	}
	asks := func(changes ...string) func(*world, by, *app) *http.Request {
		return func(_ *world, _ by, a *app) *http.Request { return a.click(changes...) }
	}
	relabels := func(change func(*labels)) func(*world, by, *app) *http.Request {
		return func(w *world, b by, a *app) *http.Request { w.relabelFor(b, change); return a.click() }
	}
	sets := func(b by, a *app, value func(string) string) {
		u, _ := url.Parse(a.base)
		for _, c := range b.Jar.Cookies(u) {
			if strings.HasPrefix(c.Name, "__Host-mcpb-remembered-") {
				b.Jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Value: value(c.Value), Path: "/", Secure: true}})
			}
		}
	}
	for _, c := range []struct {
		name    string
		do      func(*world, by, *app) *http.Request
		because string // part of the reason; "-": there is nothing that could count
	}{
		{"a stranger's link, and the person clicks on it", header("Referer", "https://evil.example/"), "another site"},
		{"the same, from a page that hides its name", header("Referer", ""), "does not say its name"},
		{"a link in a mail program, or an address that is typed in", header("Sec-Fetch-Site", "none"), "no page"},
		{"a frame of the client's page", header("Sec-Fetch-Dest", "iframe"), "whole tab"},
		{"a script of the client's page, without a click", header("Sec-Fetch-User", ""), "Sec-Fetch-User"},
		{"a script that fetches", header("Sec-Fetch-Mode", "cors"), "no navigation"},
		{"a browser that says nothing of how it came here", func(_ *world, _ by, a *app) *http.Request { return newRequest(a.w.t, "GET", a.authorizeURL(), "", "") }, "does not send"},
		{"the client wants the person asked", asks("prompt", "consent"), "prompt"},
		{"the client wants the person to sign in", asks("prompt", "login"), "prompt"},
		{"the client wants an account chosen", asks("prompt", "select_account"), "prompt"},
		{"another redirect URI of the same client", asks("redirect_uri", "https://app.example/other"), "another redirect URI"},
		{"another resource of the same server", asks("resource", "https://mcp.localhost/wiki/mcp"), "another resource"},
		{"more scopes", func(w *world, b by, a *app) *http.Request {
			sets(b, a, func(string) string { return "" })
			a.consents(b, "scope", "mcp:read")
			return a.click("scope", "mcp:read mcp:write")
		}, "fewer scopes"},
		{"the label has got shorter", func(w *world, b by, a *app) *http.Request {
			w.clock.Add(2 * time.Hour)
			w.relabelFor(b, func(l *labels) { l.RememberConsent = 3600 })
			return a.click()
		}, "older than rememberConsent"},
		{"another client with the same redirect URI", func(w *world, _ by, _ *app) *http.Request {
			return w.publish("https://app.example/second.json", nil).click()
		}, "-"},
		{"the same, with the cookie of the first", func(w *world, b by, a *app) *http.Request {
			second := w.publish("https://app.example/second.json", nil)
			second.consents(b)
			values := cookiesOf(b, a.base, "__Host-mcpb-remembered-")
			_, first, _ := strings.Cut(values[0], "=")
			sets(b, a, func(string) string { return first })
			return second.click()
		}, "does not open"},
		{"a document that cannot be read now", func(w *world, _ by, a *app) *http.Request {
			w.docs.fail(documentURL)
			w.clock.Add(time.Hour)
			return a.click()
		}, "document could not be read"},
		{"the cookie of another tenant", func(w *world, b by, a *app) *http.Request {
			old := cookiesOf(b, a.base, "__Host-mcpb-remembered-")
			w.relabelFor(b, func(l *labels) { l.Generation = 1 })
			again := a.click()
			if w.unasked(b.Do(again)) {
				w.t.Error("the name of the cookie opens another tenant")
			}
			a.consents(b)
			_, value, _ := strings.Cut(old[0], "=")
			sets(b, a, func(string) string { return value })
			return a.click()
		}, "does not open"},
		{"a cookie that somebody changed", func(_ *world, b by, a *app) *http.Request {
			sets(b, a, func(v string) string { return v[:60] + another(v[60:61]) + v[61:] })
			return a.click()
		}, "does not open"},
		{"a cookie of nothing", func(_ *world, b by, a *app) *http.Request {
			sets(b, a, func(string) string { return "" })
			return a.click()
		}, "does not open"},
		{"the label is gone", relabels(func(l *labels) { l.RememberConsent = 0 }), "-"},
		{"exchange=token from now on", relabels(func(l *labels) { l.Exchange = "token" }), "exchange=token"},
		{"the server gets the provider's token from now on", relabels(func(l *labels) { l.UpstreamToken = []string{"scopes=repo"} }), "upstreamToken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _, a := remembers(t, nil)
			b := issuertest.NewBrowser(t, w.net)
			a.consents(b)
			if !w.unasked(b.Do(a.click())) {
				t.Fatalf("nothing would be remembered anyway: %v", w.reason())
			}
			p := b.Do(c.do(w, b, a))
			if w.unasked(p) {
				t.Fatal("nobody was asked")
			}
			if got, _ := w.reason().(string); (got == "") != (c.because == "-") || c.because != "-" && !strings.Contains(got, c.because) {
				t.Errorf("the log says %q, want %q", got, c.because)
			}
		})
	}
}

// What the operator denies is not allowed by what a browser remembers: by client, person, redirect
// host or the time of the consent. Nor are clients that allowedClients does not name, nor redirect
// URIs that the document has no more.
func TestRememberedConsentEndsByTheOperatorsWord(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world, denyFile, *issuertest.Browser, *testing.T)
		asks   bool // otherwise the request is refused
	}{
		{"the client is denied", func(_ *world, f denyFile, _ *issuertest.Browser, t *testing.T) {
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"clients":{%q:""}}`, sealing.Fingerprint(documentURL)))
		}, false},
		{"the redirect host is denied", func(_ *world, f denyFile, _ *issuertest.Browser, t *testing.T) {
			f.write(t, `{"v":1,"serial":2,"redirectHosts":{"app.example":""}}`)
		}, false},
		{"the person is denied", func(w *world, f denyFile, _ *issuertest.Browser, t *testing.T) {
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"users":{%q:""}}`, w.idp.Issuer+"|person-1"))
		}, true},
		{"logins of that time are denied", func(w *world, f denyFile, _ *issuertest.Browser, t *testing.T) {
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"*":%q}}`, w.clock.Now().UTC().Format(time.RFC3339)))
		}, true},
		{"logins of that time at another tenant are denied", func(w *world, f denyFile, _ *issuertest.Browser, t *testing.T) {
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"https://mcp.localhost/world":%q}}`, w.clock.Now().UTC().Format(time.RFC3339)))
		}, false},
		{"allowedClients names others", func(w *world, _ denyFile, b *issuertest.Browser, _ *testing.T) {
			w.relabelFor(b, func(l *labels) { l.AllowedClients = []string{"document:other.example"} })
		}, false},
		{"the document has other redirect URIs now", func(w *world, _ denyFile, _ *issuertest.Browser, _ *testing.T) {
			w.publish(documentURL, map[string]any{"redirect_uris": []string{"https://app.example/other"}})
			w.clock.Add(time.Hour)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f, a := remembers(t, nil)
			b := issuertest.NewBrowser(t, w.net)
			a.consents(b)
			w.clock.Add(2 * time.Minute)
			c.change(w, f, b, t)
			w.clock.Add(time.Minute) // the document is read again
			p := b.Do(a.click())
			switch {
			case c.name == "logins of that time at another tenant are denied":
				if !w.unasked(p) {
					t.Errorf("asked: %v", w.reason())
				}
			case c.asks:
				if w.unasked(p) || !strings.Contains(fmt.Sprint(w.reason()), "deny document") {
					t.Errorf("the log says %v", w.reason())
				}
			case p.Status < 400 || p.Next() != "" || strings.Contains(p.Body, `value="allow"`):
				t.Errorf("status %d leads to %q: %s", p.Status, p.Next(), p.Body)
			}
		})
	}
}

// Whoever logs in as somebody else than who gave the consent sees the page before the client gets
// anything, and so does everybody of whom it is not known who they are. The browser forgets.
func TestRememberedConsentIsOfOnePerson(t *testing.T) {
	for _, c := range []struct {
		name string
		// while the person is at the provider
		meddle  func(*world, denyFile, *issuertest.Browser, *app)
		because string
	}{
		{"another person at the same browser", func(w *world, _ denyFile, b *issuertest.Browser, _ *app) { w.signInAs(b, "person-2") }, "another person"},
		{"the provider does not say who it is", func(w *world, _ denyFile, _ *issuertest.Browser, _ *app) {
			w.idp.Be(issuertest.Behaviour{Status: 503})
		}, "not known who"},
		{"the label exchange has changed", func(w *world, _ denyFile, b *issuertest.Browser, _ *app) {
			w.relabelFor(b, func(l *labels) { l.Exchange = "token" })
		}, "not known who"},
		{"the label has gone", func(w *world, _ denyFile, b *issuertest.Browser, _ *app) {
			w.relabelFor(b, func(l *labels) { l.RememberConsent = 0 })
		}, "another person has logged in, or the browser has forgotten"},
		{"the browser has forgotten", func(w *world, _ denyFile, b *issuertest.Browser, a *app) {
			u, _ := url.Parse(a.base)
			for _, c := range b.Jar.Cookies(u) {
				if strings.Contains(c.Name, "remembered") {
					b.Jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Path: "/", Secure: true, MaxAge: -1}})
				}
			}
		}, "the browser has forgotten"},
		{"the person is denied meanwhile", func(w *world, f denyFile, _ *issuertest.Browser, _ *app) {
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"users":{%q:""}}`, w.idp.Issuer+"|person-1"))
			w.clock.Add(time.Minute)
		}, "deny document"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f, a := remembers(t, nil)
			b := issuertest.NewBrowser(t, w.net)
			a.consents(b)
			p := b.Do(a.click())
			if !w.unasked(p) {
				t.Fatalf("asked: %v", w.reason())
			}
			c.meddle(w, f, b, a)
			asked := b.Get(b.Upstream(p))
			checkPage(t, seen(asked))
			if w.unasked(asked) || asked.Status != 200 || strings.Contains(asked.Body, "code=") {
				t.Fatalf("status %d leads to %q: %s", asked.Status, asked.Next(), asked.Body)
			}
			if got := fmt.Sprint(w.reason()); !strings.Contains(got, c.because) {
				t.Errorf("the log says %q, want %q", got, c.because)
			}
			if cookies := strings.Join(b.Cookies(a.base), " "); strings.Contains(cookies, "flow") || strings.Contains(cookies, "remembered") {
				t.Errorf("the browser keeps %s", cookies)
			}
			if lines := eventsOf(t, w.log.String(), "provider.returned"); len(lines) != 1 {
				t.Errorf("%d codes were given", len(lines))
			}
			if c.because != "another person" {
				return
			}
			back := b.Follow(answer(t, b, asked, "allow"))
			claims := w.verifiedToken(a.base, a.token(a.redemption(back.Query().Get("code"))).wants(t, 200, "").text("access_token"), w.clock.Now())
			if claims["sub"] != "person-2" {
				t.Errorf("the token is of %v", claims["sub"])
			}
		})
	}
}

// A person who is refused, and goes for another account, is another person: they see the page.
func TestRememberedConsentDoesNotServeAnotherAccount(t *testing.T) {
	w, _, a := remembers(t, nil)
	b := issuertest.NewBrowser(t, w.net)
	a.consents(b)
	w.relabelFor(b, func(l *labels) { l.AllowedSubjects = []string{"person-2"} })
	refused := b.Get(b.Upstream(b.Do(a.click())))
	if refused.Status != 403 {
		t.Fatalf("status %d: %s", refused.Status, refused.Body)
	}
	w.signInAs(b, "person-2")
	p := b.Get(b.Upstream(b.Decide(refused, "another")))
	if p.Status != 200 || w.unasked(p) || !strings.Contains(fmt.Sprint(w.reason()), "another person") {
		t.Fatalf("status %d leads to %q: %v", p.Status, p.Next(), w.reason())
	}
	if to := b.Follow(b.Decide(p, "allow")); to.Query().Get("code") == "" {
		t.Errorf("the answer is %s", to)
	}
}

// A cookie is a text: whoever copies it into another browser takes what it says along. There too it
// serves the one person, who has to sign in.
func TestRememberedConsentThatIsCopiedServesItsPersonOnly(t *testing.T) {
	w, _, a := remembers(t, nil)
	b := issuertest.NewBrowser(t, w.net)
	a.consents(b)
	u, _ := url.Parse(a.base)
	for person, asked := range map[string]bool{"person-1": false, "person-2": true} {
		thief := issuertest.NewBrowser(t, w.net)
		for _, c := range b.Jar.Cookies(u) {
			thief.Jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/", Secure: true}})
		}
		w.signInAs(thief, person)
		p := thief.Get(thief.Upstream(thief.Do(a.click())))
		if got := strings.Contains(p.Body, `value="allow"`); got != asked {
			t.Errorf("%s is asked: %v; status %d leads to %s", person, got, p.Status, p.Next())
		}
	}
}

// A browser that fetches ahead of a click begins nothing, whatever it remembers.
func TestRememberedConsentIsNotUsedByAPrefetch(t *testing.T) {
	w, _, a := remembers(t, nil)
	b := issuertest.NewBrowser(t, w.net)
	a.consents(b)
	r := a.click()
	r.Header.Set("Sec-Purpose", "prefetch;prerender")
	if p := b.Do(r); p.Status != 503 || p.Next() != "" || strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), " "), "flow") {
		t.Errorf("status %d leads to %q", p.Status, p.Next())
	}
}

// A guard that is away at the callback cannot count: the person sees the page.
func TestRememberedConsentWithoutTheGuardsAnswer(t *testing.T) {
	fail := func(error) {}
	w, _, a := remembers(t, func(w *world) {
		guarded := w.config
		w.config = func(c *issuer.Config) {
			guarded(c)
			g, store := issuer.NewFaultyGuard(idle, w.clock.Now)
			c.ReplayGuard, fail = g, func(err error) { store.Fail(err, nil) }
		}
	})
	b := issuertest.NewBrowser(t, w.net)
	a.consents(b)
	p := b.Do(a.click())
	if !w.unasked(p) {
		t.Fatalf("asked: %v", w.reason())
	}
	fail(errors.New("no route to host"))
	if p := b.Get(b.Upstream(p)); p.Status != 200 || w.unasked(p) {
		t.Errorf("status %d leads to %q", p.Status, p.Next())
	}
}

// A browser remembers few consents, of bounded length, and with the longest of them and as many
// logins as it may carry it is not shut out for its headers' length.
func TestRememberedConsentsAreBounded(t *testing.T) {
	w, _, a := remembers(t, nil)
	b := issuertest.NewBrowser(t, w.net)
	var apps []*app
	for i := range 6 {
		apps = append(apps, w.publish(fmt.Sprintf("https://app.example/%d.json", i), nil))
		apps[i].consents(b)
		w.clock.Add(time.Second)
		if i == 3 {
			apps[i].consents(b) // the one that is renewed drives no other out
			if n := len(cookiesOf(b, a.base, "__Host-mcpb-remembered-")); n != 4 {
				t.Errorf("%d are remembered, want 4", n)
			}
		}
	}
	if kept := cookiesOf(b, a.base, "__Host-mcpb-remembered-"); len(kept) != 4 || len(strings.Join(kept, "; ")) > 3700 {
		t.Errorf("%d are remembered in %d bytes", len(kept), len(strings.Join(kept, "; ")))
	}
	for i, a := range apps {
		if w.unasked(b.Do(a.click())) != (i >= 2) {
			t.Errorf("the consent to the application %d: %v", i, w.reason())
		}
	}
	logins := func() int { return len(cookiesOf(b, a.base, "__Host-mcpb-flow-")) }
	for range 9 {
		b.Get(apps[0].authorizeURL())
		b.Decide(b.Get(apps[0].authorizeURL()), "allow")
		w.clock.Add(time.Second)
	}
	if logins() != 5 {
		t.Errorf("beside what is remembered there are %d logins, want 5", logins())
	}
}

// What is too long for the cookie is not remembered, and the log says so.
func TestRememberedConsentThatIsTooLong(t *testing.T) {
	endpoint := "/" + strings.Repeat("b", 480)
	w, _, a := remembers(t, func(w *world) {
		w.wiki.MCPPaths = []string{endpoint}
		w.wiki.RequiredScopes = []string{"mcp:read", strings.Repeat("s", 300)}
	})
	b := issuertest.NewBrowser(t, w.net)
	p := answer(t, b, b.Do(a.click("resource", a.base+endpoint)), "allow", "remember", "yes")
	if to := b.Follow(p); to.Query().Get("code") == "" || len(cookiesOf(b, a.base, "__Host-mcpb-remembered-")) != 0 {
		t.Errorf("the answer is %s, with %q", to, b.Cookies(a.base))
	}
	if !strings.Contains(w.log.String(), "a consent is not remembered: it is too long") {
		t.Error("the log does not say so")
	}
}

// A consent stands for what the page said of what the server may do at the provider. Without an
// exchange the server acts with the label scopes, too.
func TestRememberedConsentIsForWhatTheServerMayDo(t *testing.T) {
	const more = "drive:write"
	for _, c := range []struct {
		name   string
		label  []string
		change func(*labels)
		asks   bool
	}{
		{"nothing has changed", []string{"scopes=drive:read"}, func(*labels) {}, false},
		{"more scopes of the label", []string{"scopes=drive:read"}, func(l *labels) { l.UpstreamToken = []string{"scopes=drive:read " + more} }, true},
		{"more scopes that the login has anyway", []string{"scopes=drive:read"}, func(l *labels) { l.Scopes = append(l.Scopes, more) }, true},
		{"the same beside an exchange", []string{"scopes=drive:read", "exchange=urn:api"}, func(l *labels) { l.Scopes = append(l.Scopes, more) }, false},
		{"another audience", []string{"scopes=drive:read", "exchange=urn:api"}, func(l *labels) { l.UpstreamToken[1] = "exchange=urn:other" }, true},
		{"no exchange any more", []string{"scopes=drive:read", "exchange=urn:api"}, func(l *labels) { l.UpstreamToken = l.UpstreamToken[:1] }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _, a := remembers(t, func(w *world) { w.wiki.UpstreamToken = c.label })
			w.idp.Be(issuertest.Behaviour{Exchange: "urn:api"})
			b := issuertest.NewBrowser(t, w.net)
			a.consents(b, "scope", "mcp:read mcp:write")
			w.relabelFor(b, func(l *labels) {
				l.Scopes, l.UpstreamToken = slices.Clone(l.Scopes), slices.Clone(l.UpstreamToken)
				c.change(l)
			})
			p := b.Do(a.click("scope", "mcp:read mcp:write"))
			if w.unasked(p) == c.asks {
				t.Fatalf("asked: %v", !c.asks)
			}
			if c.asks && !strings.Contains(fmt.Sprint(w.reason()), "upstreamToken") {
				t.Errorf("the log says %v", w.reason())
			}
		})
	}
}
