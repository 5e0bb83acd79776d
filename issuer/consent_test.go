package issuer_test

import (
	"cmp"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// seen returns a page as a reply.
func seen(p *issuertest.Page) reply { return reply{Status: p.Status, Header: p.Header, Body: p.Body} }

func TestConsentPage(t *testing.T) {
	w := newWorld(t, nil, nil)
	provider, _ := url.Parse(w.idp.Issuer)
	for _, c := range []struct {
		name, uri, shown string
		loopback, app    bool // otherwise a site
	}{
		{"https", "https://app.example:8443/cb", "app.example:8443", false, false},
		{"a capital i in place of an l, as the browser reads it", "https://cIaude.ai/cb", "ciaude.ai", false, false},
		{"https in capitals", "HTTPS://app.example/cb", "app.example", false, false},
		{"punycode stays readable as what it is", "https://xn--80ak6aa92e.example/", "xn--80ak6aa92e.example", false, false},
		{"a program on this computer", "http://127.0.0.1:33418/", "127.0.0.1:33418", true, false},
		{"localhost", "http://localhost/cb", "localhost", true, false},
		{"a program on this computer that speaks TLS", "https://LocalHost:33418/cb", "localhost:33418", true, false},
		{"a private scheme", "cursor://anysphere.cursor-mcp/oauth/callback", "cursor://anysphere.cursor-mcp", false, true},
		{"a private scheme of anybody's, with a name to be mistaken for a host", "com.example.app://cIaude.ai/cb", "com.example.app://ciaude.ai", false, true},
		{"http in capitals", "HTTP://127.0.0.1/cb", "127.0.0.1", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{c.uri}, "client_name": "Claude"})
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.authorizeURL("scope", "mcp:read"))
			checkPage(t, seen(p))
			for _, want := range []string{"“Claude”", "<dd>" + c.shown + "</dd>", "<dd>" + a.base + "</dd>", "<li>mcp:read</li>", "<strong>" + provider.Host + "</strong>", "Unverified: this name is what the application calls itself."} {
				if !strings.Contains(p.Body, want) {
					t.Errorf("the page does not show %s", want)
				}
			}
			if strings.Contains(p.Body, "program on your own computer") != c.loopback {
				t.Error("the warning of loopback addresses")
			}
			if strings.Contains(p.Body, "An app on this device") != c.app {
				t.Error("the note of addresses that open an app")
			}
			if strings.Contains(p.Body, "Whoever runs this site gets the access.") == (c.loopback || c.app) {
				t.Error("the note of sites")
			}
			action, hidden, buttons := p.Form()
			if action != a.base+"/oauth/consent" || len(hidden) != 2 || !slices.Equal(buttons, []string{"decision=deny", "decision=allow"}) {
				t.Errorf("form %s %v %v: the first button, which Enter presses, must be deny", action, hidden, buttons)
			}
			if _, _, asked := w.idp.Counts(); asked != 0 {
				t.Error("the provider was asked before consent")
			}
			if cookies := strings.Join(b.Cookies(a.base), " "); strings.Contains(cookies, "flow") {
				t.Errorf("a login exists before consent: %s", cookies)
			}
		})
	}
}

// Some providers (Amazon Cognito) ask for passwords at another host than their issuer's. The page
// names the host that the person will see. While the provider cannot be asked, the page names the
// issuer's host.
func TestConsentPageNamesWhereOneSignsIn(t *testing.T) {
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
		want string
	}{
		{"the host of the authorization endpoint", issuertest.Behaviour{Discovery: map[string]any{"authorization_endpoint": "https://Login.example/authorize"}}, "login.example"},
		{"the issuer's, when the provider is away", issuertest.Behaviour{DiscoveryStatus: 500}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(c.be)
			if provider, _ := url.Parse(w.idp.Issuer); c.want == "" {
				c.want = provider.Host
			}
			if p := w.get(w.register(w.wiki.PublicURL, nil).authorizeURL()); p.Status != 200 || !strings.Contains(p.Body, "you sign in at <strong>"+c.want+"</strong> next") {
				t.Errorf("status %d, the page does not name %s: %s", p.Status, c.want, p.Body)
			}
		})
	}
}

// Every login of every client asks for consent, also if the person is signed in at the provider.
func TestConsentIsAskedEveryTime(t *testing.T) {
	w := newWorld(t, nil, nil)
	b := issuertest.NewBrowser(t, w.net)
	for range 2 {
		a := w.register(w.wiki.PublicURL, nil)
		for range 2 {
			if p := b.Get(a.authorizeURL()); p.Status != 200 || p.Next() != "" {
				t.Fatalf("status %d, leads to %q", p.Status, p.Next())
			}
			a.codeIn(b)
		}
	}
}

// ticks are the boxes of a consent page: what each says, and whether it can be left out.
func ticks(p *issuertest.Page) (optional, needed []string) {
	for _, m := range regexp.MustCompile(`<li><label><input type="checkbox" (name="scope" value="[^"]*" checked|checked disabled)> ([^<]*?) ?(<small>\(needed\)</small>)?</label></li>`).FindAllStringSubmatch(p.Body, -1) {
		if (m[1] == "checked disabled") != (m[3] != "") {
			needed = append(needed, "odd: "+m[0])
		}
		if m[3] == "" {
			optional = append(optional, m[2])
		} else {
			needed = append(needed, m[2])
		}
	}
	return optional, needed
}

// The person leaves out what the application shall not do, less what is needed, and adds nothing.
// The token, each refresh and the log say what is left.
func TestConsentScopesThatAreLeftOut(t *testing.T) {
	for _, c := range []struct {
		name             string
		change           func(*labels)
		asked            string
		optional, needed string // on the page
		form             func(url.Values)
		want             string
	}{
		{"nothing", nil, "", "see your e-mail address", "mcp:read, mcp:write, know who you are", func(url.Values) {}, "mcp:read mcp:write email"},
		{"an identity scope", nil, "", "see your e-mail address", "mcp:read, mcp:write, know who you are", func(f url.Values) { f.Del("scope") }, "mcp:read mcp:write"},
		{"one right of several", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"*=a b c"} }, "", "a, b, c", "know who you are",
			func(f url.Values) { f["scope"] = []string{"a", "c"} }, "a c"},
		{"everything, where nothing is needed", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"*=a b"} }, "", "a, b", "know who you are", func(f url.Values) { f.Del("scope") }, ""},
		{"what is needed, by a form of somebody's own", func(l *labels) { l.ScopeRules = []string{"*=mcp:read mcp:write x"} }, "", "x", "mcp:read, mcp:write, know who you are",
			func(f url.Values) { f.Del("scope") }, "mcp:read mcp:write"},
		{"and one added that the client did not ask for", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"*=a b c"} }, "a b", "a, b", "know who you are",
			func(f url.Values) { f["scope"] = []string{"b", "c", "b c", "a,c", ""} }, "b"},
		{"what the labels have the server told", func(l *labels) {
			l.IdentityClaims, l.Scopes = []string{"email"}, []string{"openid", "email", "profile"}
		}, "",
			"see your name and picture", "mcp:read, mcp:write, know who you are, see your e-mail address", func(f url.Values) { f.Del("scope") }, "mcp:read mcp:write email"},
		{"where nothing can be", nil, "mcp:read mcp:write", "", "", func(f url.Values) { f.Set("choice", "scopes") }, "mcp:read mcp:write"},
		{"by the page of a version before, which has no boxes", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"*=a b"} }, "", "a, b", "know who you are",
			func(f url.Values) { f.Del("scope"); f.Del("choice") }, "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				if c.change != nil {
					c.change(&w.wiki)
				}
			})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.authorizeURL("scope", c.asked))
			checkPage(t, seen(p))
			optional, needed := ticks(p)
			if got, also := strings.Join(optional, ", "), strings.Join(needed, ", "); got != c.optional || also != c.needed {
				t.Errorf("can be left out: %s; needed: %s", got, also)
			}
			action, form, _ := p.Form()
			form.Set("decision", "allow")
			c.form(form)
			r := newRequest(t, "POST", action, formType, form.Encode())
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			got := a.token(a.redemption(b.Follow(b.Do(r)).Query().Get("code"))).wants(t, 200, "")
			for range 2 {
				if claims := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now()); got.text("scope") != c.want || claims["scope"] != c.want {
					t.Fatalf("scope %q, in the token %q, want %q", got.text("scope"), claims["scope"], c.want)
				}
				w.clock.Add(2 * time.Hour)
				got = a.token(with(a.refreshment(got.text("refresh_token")), "scope", c.asked)).wants(t, 200, "")
			}
			if given := eventsOf(t, w.log.String(), "consent.given"); len(given) != 1 || given[0]["scope"] != c.want {
				t.Errorf("the log says %v", given)
			}
			// Whoever asks again is asked again, for all of it.
			if again, _ := ticks(b.Get(a.authorizeURL("scope", c.asked))); strings.Join(again, ", ") != c.optional {
				t.Errorf("asked again: %q", again)
			}
		})
	}
}

func TestConsentPageEscapesWhatAClientSays(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, name := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title><script>alert(1)</script>`, `</style><script>`,
		`{{.Style}}`, `javascript:alert(1)`, `<!--`, `&lt;script&gt;`, `<svg/onload=alert(1)>`, `</form><form action="https://evil.example">`, `<meta http-equiv="refresh" content="0;url=https://evil.example">`, `<base href=//evil.example>`,
	} {
		t.Run(name, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"https://app.example/'onload=alert(1)/&lt;?x='y"}, "client_name": name, "client_uri": "javascript:alert(1)", "logo_uri": "https://evil.example/logo.png", "tos_uri": "javascript:alert(2)"})
			p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL())
			shown := a.registration.text("client_name")
			for _, place := range []*regexp.Regexp{regexp.MustCompile(`<title>Allow (.*)\?</title>`), regexp.MustCompile(`<h1>Allow <bdi>“(.*)”</bdi> to use wiki in your name\?</h1>`)} {
				m := place.FindStringSubmatch(p.Body)
				if m == nil || html.UnescapeString(m[1]) != shown || strings.ContainsAny(m[1], `<>"'`) {
					t.Errorf("the name stands as %q", m)
				}
			}
			tags := regexp.MustCompile(`<[a-z!/]+`).FindAllString(p.Body, -1)
			for _, tag := range tags {
				if !slices.Contains([]string{"<!doctype", "<html", "<head", "<meta", "<style", "</style", "<title", "</title", "</head", "<body", "<main", "<h", "</h", "<p", "</p", "<dl", "<dt", "</dt", "<dd", "</dd", "</dl", "<ul", "<li", "</li", "</ul", "<strong", "</strong", "<form", "<input", "<label", "</label", "<small", "</small", "<div", "</div", "<span", "</span", "<button", "</button", "</form", "<bdi", "</bdi", "</main", "</body", "</html"}, tag) {
					t.Errorf("the page has a tag %s", tag)
				}
			}
			if strings.Count(p.Body, "<meta") != 3 || strings.Count(p.Body, "<form") != 1 || strings.Contains(p.Body, "evil.example/logo") {
				t.Error("the page has more than its own")
			}
		})
	}
}

func TestConsentAnswersThatAreRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	header := func(name, value string) func(*issuertest.Browser, *issuertest.Page, *http.Request) *issuertest.Browser {
		return func(b *issuertest.Browser, _ *issuertest.Page, r *http.Request) *issuertest.Browser {
			r.Header.Del(name)
			if value != "" {
				r.Header.Set(name, value)
			}
			return b
		}
	}
	body := func(change func(url.Values)) func(*issuertest.Browser, *issuertest.Page, *http.Request) *issuertest.Browser {
		return func(b *issuertest.Browser, p *issuertest.Page, r *http.Request) *issuertest.Browser {
			_, form, _ := p.Form()
			form.Set("decision", "allow")
			change(form)
			changed := newRequest(t, "POST", r.URL.String(), formType, form.Encode())
			r.Body, r.ContentLength, r.GetBody = changed.Body, changed.ContentLength, changed.GetBody
			return b
		}
	}
	for _, c := range []struct {
		name   string
		change func(*issuertest.Browser, *issuertest.Page, *http.Request) *issuertest.Browser
		status int // 200: accepted
	}{
		{"as a browser sends it", header("X", ""), 200},
		{"by an old browser that sends only Origin", header("Sec-Fetch-Site", ""), 200},
		{"from another site", header("Sec-Fetch-Site", "cross-site"), 403},
		{"from a sibling domain", header("Sec-Fetch-Site", "same-site"), 403},
		{"from nowhere", header("Sec-Fetch-Site", "none"), 403},
		{"from a site that an old browser names", func(b *issuertest.Browser, _ *issuertest.Page, r *http.Request) *issuertest.Browser {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "https://evil.example")
			return b
		}, 403},
		{"from an opaque origin", func(b *issuertest.Browser, _ *issuertest.Page, r *http.Request) *issuertest.Browser {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "null")
			return b
		}, 403},
		{"from the same host by http", func(b *issuertest.Browser, _ *issuertest.Page, r *http.Request) *issuertest.Browser {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "http://mcp.localhost")
			return b
		}, 403},
		{"without the cookie", func(*issuertest.Browser, *issuertest.Page, *http.Request) *issuertest.Browser {
			return issuertest.NewBrowser(t, w.net)
		}, 403},
		{"from another browser with a page of its own", func(*issuertest.Browser, *issuertest.Page, *http.Request) *issuertest.Browser {
			b := issuertest.NewBrowser(t, w.net)
			b.Get(a.authorizeURL())
			return b
		}, 403},
		{"with the cookie of another page", func(_ *issuertest.Browser, p *issuertest.Page, r *http.Request) *issuertest.Browser {
			b := issuertest.NewBrowser(t, w.net)
			other := b.Get(a.authorizeURL())
			_, form, _ := other.Form()
			body(func(v url.Values) { v.Set("cookie", form.Get("cookie")) })(b, p, r)
			return b
		}, 400},
		{"without a cookie name", body(func(v url.Values) { v.Del("cookie") }), 403},
		{"with a hostile cookie name", body(func(v url.Values) { v.Set("cookie", "a=b; \r\n") }), 403},
		{"without the request", body(func(v url.Values) { v.Del("request") }), 400},
		{"with a changed request", body(func(v url.Values) {
			v.Set("request", v.Get("request")[:80]+another(v.Get("request")[80:81])+v.Get("request")[81:])
		}), 400},
		{"without a decision", body(func(v url.Values) { v.Del("decision") }), 400},
		{"with the decision in the address", func(b *issuertest.Browser, p *issuertest.Page, r *http.Request) *issuertest.Browser {
			body(func(v url.Values) { v.Del("decision") })(b, p, r)
			r.URL.RawQuery = "decision=allow"
			return b
		}, 400},
		{"with another decision", body(func(v url.Values) { v.Set("decision", "maybe") }), 400},
		{"too late", func(b *issuertest.Browser, _ *issuertest.Page, _ *http.Request) *issuertest.Browser {
			w.clock.Add(20*time.Minute + time.Second)
			return b
		}, 400},
		{"larger than a form may be", body(func(v url.Values) { v.Set("x", strings.Repeat("x", 70<<10)) }), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.authorizeURL())
			r := b.DecisionRequest(p, "allow")
			got := c.change(b, p, r).Do(r)
			checkPage(t, seen(got))
			if got.Status != c.status || (got.Next() != "") != (c.status == 200) {
				t.Errorf("status %d, leads to %q: %s", got.Status, got.Next(), got.Body)
			}
			if c.status != 200 && strings.Contains(strings.Join(got.Header.Values("Set-Cookie"), " "), "flow") {
				t.Error("a login was begun")
			}
		})
	}
	if _, _, asked := w.idp.Counts(); asked != 0 {
		t.Error("the provider was asked")
	}
}

// At a double click a browser abandons the answer to the first click. It may have kept that
// answer's cookies.
func TestConsentSecondClickIsAnsweredLikeTheFirst(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	p := b.Get(a.authorizeURL())
	b.Decide(p, "allow")
	if to := b.Follow(b.Decide(p, "allow")); to.Query().Get("code") == "" {
		t.Errorf("allowed twice: the answer is %s", to)
	}
	p = b.Get(a.authorizeURL())
	b.Decide(p, "deny")
	if to, _ := url.Parse(b.Decide(p, "deny").Link()); to.Query().Get("error") != "access_denied" {
		t.Errorf("denied twice: the answer is %s", to)
	}
}

func TestConsentPageIsAnsweredOnce(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	for _, first := range []string{"allow", "deny"} {
		b := issuertest.NewBrowser(t, w.net)
		p := b.Get(a.authorizeURL())
		if got := b.Decide(p, first); got.Status != 200 {
			t.Fatalf("%s: status %d", first, got.Status)
		}
		b.Wait()
		if got := b.Decide(p, "allow"); got.Status != 403 || got.Next() != "" {
			t.Errorf("after %s, again: status %d, leads to %q", first, got.Status, got.Next())
		}
	}
}

// A person is not taken to a site that they have just refused, because anybody can register any
// site. A program on the person's own machine waits for the answer.
func TestConsentDenied(t *testing.T) {
	w := newWorld(t, nil, nil)
	for uri, stays := range map[string]bool{callback: true, "HTTPS://app.example/": true, "http://127.0.0.1:33418/": false, "https://localhost/cb": false, "com.example.app:/cb": false} {
		a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{uri}, "token_endpoint_auth_method": "none"})
		b := issuertest.NewBrowser(t, w.net)
		p := b.Decide(b.Get(a.authorizeURL()), "deny")
		to, err := url.Parse(p.Link())
		if err != nil || !strings.HasPrefix(p.Link(), uri+"?") || to.Query().Get("error") != "access_denied" || to.Query().Get("state") != a.state || to.Query().Get("iss") != a.base {
			t.Errorf("%s: the link leads to %q", uri, p.Link())
		}
		if next := p.Next(); stays && next != "" || !stays && next != p.Link() {
			t.Errorf("%s: the page leads on to %q", uri, next)
		}
		b.Wait()
		if cookies := b.Cookies(a.base); len(cookies) != 0 {
			t.Errorf("%s: cookies are left: %q", uri, cookies)
		}
	}
	if _, _, asked := w.idp.Counts(); asked != 0 {
		t.Error("the provider was asked")
	}
}

// The page between consent and the next address must carry that address, whatever its scheme:
// html/template would put #ZgotmplZ.
func TestContinuePageLeadsOn(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, uri := range []string{
		"https://app.example/cb", "HTTPS://app.example/cb", "https://app.example/cb?a=b&c='d'", "http://127.0.0.1:33418/", "http://[::1]:7/cb", "cursor://anysphere.cursor-mcp/oauth/callback",
		"com.example.app:/cb", "com.example.app://cb", "https://app.example/a;b,c(d)!$'~", "https://app.example/%C3%A9?q=%26%3D",
	} {
		t.Run(uri, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{uri}, "token_endpoint_auth_method": "none"})
			b := issuertest.NewBrowser(t, w.net)
			p := b.Decide(b.Get(a.authorizeURL()), "deny")
			checkPage(t, seen(p))
			// The page to the client is as in TestConsentDenied.
			for _, to := range []string{cmp.Or(p.Next(), p.Link()), p.Link()} {
				u, err := url.Parse(to)
				want, _ := url.Parse(uri)
				if err != nil || u.Scheme != want.Scheme || u.Host != want.Host || u.Path != want.Path || u.Query().Get("iss") != a.base || u.Query().Get("error") != "access_denied" {
					t.Errorf("leads to %q (%v)", to, err)
				}
				for name := range want.Query() {
					if u.Query().Get(name) != want.Query().Get(name) {
						t.Errorf("leads to %q: %s", to, name)
					}
				}
			}
			allowed := b.Decide(b.Get(a.authorizeURL()), "allow")
			if allowed.Status != 200 || !strings.HasPrefix(allowed.Next(), w.idp.Issuer+"/authorize?") || allowed.Next() != allowed.Link() {
				t.Errorf("status %d, leads to %q and %q", allowed.Status, allowed.Next(), allowed.Link())
			}
			done := b.Get(b.Upstream(allowed))
			to, _ := url.Parse(done.Next())
			if web := strings.HasPrefix(strings.ToLower(uri), "http"); (done.Status == 303) != web || to.Query().Get("code") == "" {
				t.Errorf("after the login: status %d, leads to %q", done.Status, done.Next())
			}
		})
	}
}

// The request to the provider always has state, nonce and PKCE, new ones for each login, and of
// what the client chose only wishes (TestWishesOfTheClientReachTheProvider).
func TestAuthorizationRequestToTheProvider(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	seen := map[string]bool{}
	for range 3 {
		b := issuertest.NewBrowser(t, w.net)
		u, err := url.Parse(b.Decide(b.Get(a.authorizeURL("claims", "{}", "nonce", "x", "acr_values", "0")), "allow").Next())
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		for name, length := range map[string]int{"state": 22, "nonce": 22, "code_challenge": 43} {
			if len(q.Get(name)) != length || seen[q.Get(name)] {
				t.Errorf("%s=%q", name, q.Get(name))
			}
			seen[q.Get(name)] = true
			q.Del(name)
		}
		want := url.Values{"response_type": {"code"}, "client_id": {"bouncer"}, "redirect_uri": {a.base + "/oauth/callback"}, "scope": {"openid email offline_access"}, "code_challenge_method": {"S256"}}
		if q.Encode() != want.Encode() {
			t.Errorf("asked %v, want %v", q, want)
		}
	}
}

func TestCookies(t *testing.T) {
	for _, c := range []struct {
		name, base string
		host       bool
	}{
		{"https", "https://mcp.localhost/wiki", true},
		{"http on this machine", "http://localhost:8080/wiki", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki = w.tenant(c.base) })
			a := w.register(c.base, nil)
			b := issuertest.NewBrowser(t, w.net)
			consent := b.Get(a.authorizeURL())
			allowed := b.Decide(consent, "allow")
			done := b.Get(b.Upstream(allowed))
			for i, p := range []*issuertest.Page{consent, allowed, done} {
				cookies := (&http.Response{Header: p.Header}).Cookies()
				want := []int{1, 2, 1}[i]
				if len(cookies) != want {
					t.Fatalf("page %d sets %v, want %d", i, cookies, want)
				}
				for _, cookie := range cookies {
					kind := map[bool]string{true: "__Host-mcpb-", false: "mcpb-"}[c.host]
					name := regexp.MustCompile("^" + kind + "(consent|flow)-[A-Za-z0-9_-]{6}$")
					if !name.MatchString(cookie.Name) || cookie.Path != "/" || cookie.Domain != "" || !cookie.HttpOnly || cookie.Secure != c.host || cookie.SameSite != http.SameSiteLaxMode {
						t.Errorf("cookie %s", cookie)
					}
					life := []int{900, 900, -1}[i]
					if i == 1 && strings.Contains(cookie.Name, "consent") {
						life = 10 // for a second click
					}
					if cookie.MaxAge != life || (cookie.Value == "") != (life < 0) || len(cookie.String()) > 4096 {
						t.Errorf("cookie %s of %d characters, want a life of %d s", cookie, len(cookie.String()), life)
					}
				}
			}
			b.Wait()
			if left := b.Cookies(c.base); len(left) != 0 {
				t.Errorf("cookies are left: %q", left)
			}
		})
	}
}

// The longest request that is accepted still fits a cookie of 4 KB; a client that asks for more is
// told so before a person is asked.
func TestConsentCookieHoldsTheLongestRequest(t *testing.T) {
	endpoint := "/" + strings.Repeat("b", 511-len("https://mcp.localhost/wiki"))
	w := newWorld(t, nil, func(w *world) {
		w.wiki.MCPPaths, w.wiki.DPoP = []string{endpoint}, "accept"
		w.wiki.RequiredScopes = nil
		for i := range 10 {
			w.wiki.RequiredScopes = append(w.wiki.RequiredScopes, fmt.Sprintf("mcp:%d:", i)+strings.Repeat("s", 90))
		}
	})
	scope := strings.Join(append(slices.Clone(w.wiki.RequiredScopes), "email"), " ")
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"http://localhost/" + strings.Repeat("a", 183)}, "token_endpoint_auth_method": "none"})
	resource := a.base + endpoint
	a.state = strings.Repeat("s", 2600-len(scope)-len(a.redirect)-len(resource))
	a.wantsErrorRedirect(t, w.get(a.authorizeURL("resource", resource, "state", a.state+"s")), "invalid_request", a.state+"s")
	b := issuertest.NewBrowser(t, w.net)
	a.proving("ES256")
	jkt := a.prover.Thumbprint()
	code := a.codeIn(b, "resource", resource, "dpop_jkt", jkt)
	a.boundTo(a.token(a.redemption(code)))
	// Many such cookies do not shut the browser out either: a request with too long headers would
	// be refused before anybody could delete a cookie.
	for range 9 {
		b.Upstream(b.Decide(b.Get(a.authorizeURL("resource", resource, "dpop_jkt", jkt)), "allow"))
		cookies := b.Cookies(a.base)
		if longest := slices.MaxFunc(cookies, func(x, y string) int { return len(x) - len(y) }); len(longest) > 4000 {
			t.Fatalf("a cookie has %d bytes", len(longest))
		}
		if size := len(strings.Join(cookies, "; ")); size > issuer.MaxHeaderBytes-9<<10 {
			t.Fatalf("the cookies have %d bytes", size)
		}
		w.clock.Add(time.Second)
	}
}

// The second click may be on the other button. The application has its code already.
func TestConsentThatWasGivenCannotBeDenied(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	p := b.Get(a.authorizeURL())
	to := b.Follow(b.Decide(p, "allow"))
	a.token(a.redemption(to.Query().Get("code"))).wants(t, 200, "")
	if second := b.Decide(p, "deny"); second.Status != 403 && strings.Contains(second.Body, "Nothing was allowed") {
		t.Errorf("status %d: the application has a token, and the page says that nothing was allowed", second.Status)
	}
}

// A denied page can be allowed afterwards: the application hears access_denied, and then gets a
// code for the same request.
func TestConsentThatWasDeniedCannotBeGiven(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	p := b.Get(a.authorizeURL())
	if to, _ := url.Parse(b.Decide(p, "deny").Link()); to.Query().Get("error") != "access_denied" {
		t.Fatalf("the answer is %s", to)
	}
	if second := b.Decide(p, "allow"); second.Status != 403 || second.Next() != "" {
		t.Errorf("status %d, leads to %q", second.Status, second.Next())
	}
}
