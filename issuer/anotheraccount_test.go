package issuer_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// refusedWorld has a server that admits person-2 only, and tells people so in the browser.
func refusedWorld(t *testing.T, discovery map[string]any) *world {
	return newWorld(t, nil, func(w *world) {
		w.wiki.Exchange, w.wiki.AllowedSubjects = "callback", []string{"person-2"}
		w.idp.Be(issuertest.Behaviour{Discovery: discovery})
	})
}

// signInAs makes somebody the one who is signed in at the provider.
func (w *world) signInAs(b *issuertest.Browser, person string) {
	u, err := url.Parse(w.idp.Issuer)
	if err != nil {
		w.t.Fatal(err)
	}
	b.Jar.SetCookies(u, []*http.Cookie{{Name: issuertest.PersonCookie, Value: person, Path: "/"}})
}

// asked is the request to the provider to which a page leads.
func asked(t *testing.T, p *issuertest.Page) url.Values {
	t.Helper()
	u, err := url.Parse(p.Next())
	if err != nil || p.Status != 200 || u.Query().Get("client_id") == "" {
		t.Fatalf("status %d leads to %q: %s", p.Status, p.Next(), p.Body)
	}
	return u.Query()
}

// A person who signed in with the wrong account presses one button, and the client gets its code
// from the request that it began with. Nobody is asked for consent twice.
func TestRefusedPersonUsesAnotherAccount(t *testing.T) {
	w := refusedWorld(t, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	refused := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL("login_hint", "person-1@example.com")), "allow")))
	_, _, buttons := refused.Form()
	if refused.Status != 403 || !slices.Equal(buttons, []string{"decision=another"}) || refused.Header.Get("Location") != "" {
		t.Fatalf("status %d, buttons %v: %s", refused.Status, buttons, refused.Body)
	}
	w.signInAs(b, "person-2")
	again := b.Decide(refused, "another")
	if q := asked(t, again); q.Get("prompt") != "select_account" || q.Has("login_hint") {
		t.Errorf("the provider is asked with %v", q)
	}
	back := b.Follow(again)
	claims := w.verifiedToken(w.wiki.PublicURL, a.token(a.redemption(back.Query().Get("code"))).wants(t, 200, "").text("access_token"), w.clock.Now())
	if claims["sub"] != "person-2" || back.Query().Get("state") != a.state {
		t.Errorf("%v at %s", claims, back)
	}
	if n := strings.Count(w.log.String(), `"event":"consent.given"`); n != 1 {
		t.Errorf("consent was given %d times", n)
	}
}

// A client that wants its person to sign in anew is not served by one who only picks an account.
func TestRefusedPersonStillSignsInAnewWhereTheClientWantsIt(t *testing.T) {
	w := refusedWorld(t, nil)
	a := w.register(w.wiki.PublicURL, nil)
	address := a.authorizeURL("prompt", "login", "max_age", "0")
	for _, another := range []bool{true, false} {
		b := issuertest.NewBrowser(t, w.net)
		p := b.Get(b.Upstream(b.Decide(b.Get(address), "allow")))
		if another {
			p = b.Decide(p, "another")
		} else { // from the application once more
			p = b.Decide(b.Get(address), "allow")
		}
		if q := asked(t, p); q.Get("prompt") != "login select_account" || q.Get("max_age") != "0" {
			t.Errorf("the provider is asked with %v", q)
		}
	}
}

// The provider may send back the same account again and again: it is asked more firmly from the
// second time on, and after the third there is no button.
func TestRefusedPersonTriesABoundedNumberOfAccounts(t *testing.T) {
	for _, c := range []struct {
		name      string
		discovery func(*world) map[string]any
		want      []string
	}{
		{"a provider that says nothing of prompts", func(*world) map[string]any { return nil }, []string{"select_account", "login", "login"}},
		{"one without select_account", func(*world) map[string]any {
			return map[string]any{"prompt_values_supported": []string{"login", "none"}}
		}, []string{"login", "login", "login"}},
		{"one without login", func(*world) map[string]any {
			return map[string]any{"prompt_values_supported": []string{"select_account"}}
		}, []string{"select_account", "select_account", "select_account"}},
		{"one without either", func(*world) map[string]any { return map[string]any{"prompt_values_supported": []string{"none"}} }, nil},
		{"oidc-provider, which ends a login with select_account", func(w *world) map[string]any { return w.asOIDCProvider(nil) }, []string{"login consent", "login consent", "login consent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := refusedWorld(t, nil)
			w.idp.Be(issuertest.Behaviour{Discovery: c.discovery(w), Endpoints: map[string]string{"/keys": "/jwks"}})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.begun(b))
			for i, want := range c.want {
				again := b.Decide(p, "another")
				if got := asked(t, again).Get("prompt"); got != want {
					t.Errorf("try %d: prompt %q, want %q", i+1, got, want)
				}
				p = b.Get(b.Upstream(again))
			}
			if _, _, buttons := p.Form(); len(buttons) > 0 || p.Status != 403 || p.Link() == "" {
				t.Errorf("after %d tries: status %d, buttons %v", len(c.want), p.Status, buttons)
			}
		})
	}
}

// The button works in the browser that was refused, from its page, once and for 15 minutes; and a
// consent page is no way around consent.
func TestAnotherAccountIsAskedForByWhoWasRefusedOnly(t *testing.T) {
	w := refusedWorld(t, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	refused := func() *issuertest.Page { return b.Get(a.begun(b)) }
	wants := func(name string, p *issuertest.Page, status int) {
		t.Helper()
		if p.Status != status || p.Next() != "" {
			t.Errorf("%s: status %d leads to %q, want %d", name, p.Status, p.Next(), status)
		}
	}
	p := refused()
	for name, change := range map[string]func(*http.Request){
		"from another site":        func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"from another origin":      func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		"from a neighbouring site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
	} {
		r := b.DecisionRequest(p, "another")
		change(r)
		wants(name, b.Do(r), 403)
	}
	wants("in another browser", issuertest.NewBrowser(t, w.net).Decide(p, "another"), 403)
	wants("as consent", b.Decide(refused(), "allow"), 400)
	wants("as a refusal of consent", b.Decide(refused(), "deny"), 400)
	wants("at a consent page", b.Decide(b.Get(a.authorizeURL()), "another"), 400)
	p = refused()
	b.Decide(p, "another")
	b.Wait()
	wants("a second time", b.Decide(p, "another"), 403)
	p = refused()
	w.clock.Add(21 * time.Minute)
	wants("too late", b.Decide(p, "another"), 400)
}

// Whoever goes back to the application is asked for an account at the next login, in this browser
// and once. So is the person before a program on their own machine, which is told at once and shows
// its own page.
func TestRefusedPersonIsAskedForAnAccountNextTime(t *testing.T) {
	for _, redirect := range []string{callback, "http://127.0.0.1:33418/callback", "cursor://anysphere.cursor-mcp/oauth/callback"} {
		w := refusedWorld(t, nil)
		a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none"})
		b := issuertest.NewBrowser(t, w.net)
		first := b.Decide(b.Get(a.authorizeURL()), "allow")
		if got := asked(t, first).Get("prompt"); got != "" {
			t.Errorf("%s: the first login asks for prompt=%s", redirect, got)
		}
		p := b.Get(b.Upstream(first))
		if strings.HasPrefix(redirect, "http://127.0.0.1") {
			u, err := url.Parse(p.Next())
			if err != nil || u.Query().Get("error") != "access_denied" || p.Body != "" {
				t.Errorf("the program is told %q", p.Next())
			}
		}
		other := w.tenant("https://mcp.localhost/notes")
		w.serve(other)
		if got := asked(t, b.Decide(b.Get(w.register(other.PublicURL, nil).authorizeURL()), "allow")).Get("prompt"); got != "" {
			t.Errorf("%s: another server asks for prompt=%s", redirect, got)
		}
		if elsewhere := issuertest.NewBrowser(t, w.net); asked(t, elsewhere.Decide(elsewhere.Get(a.authorizeURL()), "allow")).Has("prompt") {
			t.Errorf("%s: another browser asks for an account", redirect)
		}
		for i, want := range []string{"select_account", ""} {
			if got := asked(t, b.Decide(b.Get(a.authorizeURL("login_hint", "person-1@example.com")), "allow")); got.Get("prompt") != want || got.Has("login_hint") != (want == "") {
				t.Errorf("%s: login %d after the refusal asks with %v", redirect, i+1, got)
			}
		}
	}
}

// A login that is refused for another reason than its account gets no such button.
func TestAnotherAccountIsNotOfferedWhereItWouldNotHelp(t *testing.T) {
	none := ""
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Exchange, w.wiki.Scopes, w.wiki.RequiredScopes = "callback", []string{"openid", "wiki:read"}, []string{"wiki:read"}
		w.idp.Be(issuertest.Behaviour{Scope: &none})
	})
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	p := b.Get(a.begun(b))
	if _, _, buttons := p.Form(); p.Status != 403 || len(buttons) > 0 || len(cookiesOf(b, w.wiki.PublicURL, "__Host-mcpb-refused-")) > 0 {
		t.Errorf("status %d, buttons %v", p.Status, buttons)
	}
}

// Each row: what of a client's wishes reaches the provider. The labels stand above them, and a wish
// that cannot be carried fails nothing.
func TestWishesOfTheClientReachTheProvider(t *testing.T) {
	for _, c := range []struct {
		name  string
		label []string
		asks  []string
		want  map[string]string
	}{
		{"login_hint", nil, []string{"login_hint", "Ada <ada@example.com>"}, map[string]string{"login_hint": "Ada <ada@example.com>"}},
		{"the label's counts", []string{"login_hint=bob@example.com"}, []string{"login_hint", "ada@example.com"}, map[string]string{"login_hint": "bob@example.com"}},
		{"the label wants none", []string{"login_hint="}, []string{"login_hint", "ada@example.com"}, map[string]string{"login_hint": ""}},
		{"one that is too long", nil, []string{"login_hint", strings.Repeat("x", 255)}, map[string]string{"login_hint": ""}},
		{"the longest", nil, []string{"login_hint", strings.Repeat("x", 254)}, map[string]string{"login_hint": strings.Repeat("x", 254)}},
		{"one with a line break", nil, []string{"login_hint", "a\r\nb"}, map[string]string{"login_hint": ""}},
		{"one that is not UTF-8", nil, []string{"login_hint", "a\xff"}, map[string]string{"login_hint": ""}},
		{"prompt=login", nil, []string{"prompt", "login"}, map[string]string{"prompt": "login"}},
		{"several, and those that are not carried", nil, []string{"prompt", "consent login create select_account"}, map[string]string{"prompt": "login select_account"}},
		{"one that stands there ten times", nil, []string{"prompt", strings.Repeat("login ", 10)}, map[string]string{"prompt": "login select_account"}},
		{"beside the label's", []string{"prompt=consent"}, []string{"prompt", "login"}, map[string]string{"prompt": "login consent"}},
		{"max_age", nil, []string{"max_age", "0"}, map[string]string{"max_age": "0"}},
		{"the label's max_age counts", []string{"max_age=60"}, []string{"max_age", "999999"}, map[string]string{"max_age": "60"}},
		{"a max_age that is no number", nil, []string{"max_age", "-1"}, map[string]string{"max_age": ""}},
		{"ui_locales", nil, []string{"ui_locales", "fr-CA fr en"}, map[string]string{"ui_locales": "fr-CA fr en"}},
		{"odd ui_locales", nil, []string{"ui_locales", "fr&x=y"}, map[string]string{"ui_locales": "", "x": ""}},
		{"acr_values could be weaker", nil, []string{"acr_values", "0"}, map[string]string{"acr_values": ""}},
		{"nothing else", nil, []string{"claims", "{}", "id_token_hint", "x", "display", "popup", "hd", "evil.example"}, map[string]string{"claims": "", "id_token_hint": "", "display": "", "hd": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.ProviderParameters = c.label })
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			consent := b.Get(a.authorizeURL(c.asks...))
			q := asked(t, b.Decide(consent, "allow"))
			for name, want := range c.want {
				if q.Get(name) != want || q.Has(name) != (want != "") || len(q[name]) > 1 {
					t.Errorf("%s=%q, want %q", name, q[name], want)
				}
			}
			if log := w.log.String(); strings.Contains(log, "ada@") || strings.Contains(consent.Body, "ada@") {
				t.Errorf("the address of the hint stands in the page or in the log: %s", log)
			}
		})
	}
}

// Entra ID takes one value of prompt.
func TestPromptsOfEntraID(t *testing.T) {
	w := newWorld(t, &issuertest.Options{Issuer: "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"}, func(w *world) {
		w.wiki.ProviderParameters = []string{"prompt=consent", "domain_hint=example.com"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	for prompt, want := range map[string]string{"": "consent", "select_account": "select_account", "login select_account": "login"} {
		b := issuertest.NewBrowser(t, w.net)
		if q := asked(t, b.Decide(b.Get(a.authorizeURL("prompt", prompt)), "allow")); q.Get("prompt") != want || q.Get("domain_hint") != "example.com" {
			t.Errorf("%q: asked with %v", prompt, q)
		}
	}
}

// Google gives a refresh token with prompt=consent only, and an account can be chosen beside it.
func TestPromptsOfGoogle(t *testing.T) {
	w := newWorld(t, &issuertest.Options{Issuer: "https://accounts.google.com"}, func(w *world) {
		w.wiki.ProviderParameters = []string{"hd=example.com"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	q := asked(t, b.Decide(b.Get(a.authorizeURL("prompt", "select_account")), "allow"))
	if q.Get("prompt") != "select_account consent" || q.Get("access_type") != "offline" || q.Get("hd") != "example.com" {
		t.Errorf("asked with %v", q)
	}
}
