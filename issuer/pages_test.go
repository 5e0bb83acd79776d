package issuer_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Text has a contrast of 4.5:1 and the edge of a control 3:1 (WCAG 2.2, 1.4.3 and 1.4.11), in both
// colour schemes.
func TestPageColours(t *testing.T) {
	sheet, err := os.ReadFile("pages.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, found := strings.Cut(string(sheet), "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("the style sheet has no dark scheme")
	}
	dark, _, _ := strings.Cut(rest, "\n")
	colours := func(text string) map[string]float64 {
		all := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			all[m[1]] = luminance(t, m[2])
		}
		return all
	}
	for scheme, c := range map[string]map[string]float64{"light": colours(light), "dark": colours(dark)} {
		for _, pair := range []struct {
			over, under string
			least       float64
		}{
			{"ink", "card", 4.5},
			{"soft", "card", 4.5},
			{"accent", "card", 4.5}, // links
			{"card", "accent", 4.5}, // the allow button
			{"good", "goodground", 4.5},
			{"warn", "warnground", 4.5},
			{"edge", "card", 3}, // the deny button
		} {
			over, ok1 := c[pair.over]
			under, ok2 := c[pair.under]
			if !ok1 || !ok2 {
				t.Fatalf("%s: no colour %s or %s", scheme, pair.over, pair.under)
			}
			ratio := (max(over, under) + .05) / (min(over, under) + .05)
			if ratio < pair.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", scheme, pair.over, pair.under, ratio, pair.least)
			}
		}
	}
	// Every colour in use is one of those above, except the ground of logos.
	rules := regexp.MustCompile(`--[a-z]+: #[0-9a-f]{6};`).ReplaceAllString(string(sheet), "")
	if got := regexp.MustCompile(`#[0-9a-f]{3,8}\b|rgb|hsl`).FindAllString(rules, -1); !slices.Equal(got, []string{"#ffffff"}) {
		t.Errorf("colours outside the schemes: %q", got)
	}
}

// luminance returns the relative luminance of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex[1:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{.2126, .7152, .0722} {
		c := float64(n>>(16-8*i)&255) / 255
		if c <= .04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// The policy allows the one style sheet by its hash, and pictures only where there is a logo to
// show.
func TestPagesWithAndWithoutALogo(t *testing.T) {
	const logo = "data:image/png;base64,iVBORw0KGgo="
	for _, c := range []struct{ name, logo, displayName, server string }{
		{"with neither", "", "", "wiki"},
		{"with a name", "", "Team <Wiki>", "Team &lt;Wiki&gt;"},
		{"with both", logo, "Team Wiki", "Team Wiki"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.Logo, w.wiki.DisplayName = c.logo, c.displayName })
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			consent := b.Get(a.authorizeURL())
			denied := b.Decide(consent, "deny")
			b.Wait()
			for name, p := range map[string]*issuertest.Page{"consent": consent, "continue": denied, "error": b.Decide(consent, "allow")} {
				csp := p.Header.Get("Content-Security-Policy")
				_, style, _ := strings.Cut(p.Body, "<style>")
				style, _, _ = strings.Cut(style, "</style>")
				sum := sha256.Sum256([]byte(style))
				if !strings.Contains(csp, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
					t.Errorf("%s: %q does not allow the style sheet", name, csp)
				}
				if strings.Contains(csp, "img-src data:") != (c.logo != "") || strings.Contains(p.Body, `<img class="logo" src="`+c.logo+`" alt="">`) != (c.logo != "") {
					t.Errorf("%s: a logo is shown or allowed: %q", name, csp)
				}
				if name != "continue" && !strings.Contains(p.Body, c.server) {
					t.Errorf("%s: the page does not name the server", name)
				}
			}
		})
	}
}

// An error page says what happened and what to do, and its reference leads to one line of the log.
func TestErrorPages(t *testing.T) {
	// so that each request asks the provider anew
	w := newWorld(t, nil, func(w *world) { w.restart = true })
	a := w.register(w.wiki.PublicURL, nil)
	consent := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL())
	for _, c := range []struct {
		name    string
		page    func() *issuertest.Page
		status  int
		heading string
		advice  string
	}{
		{"an unknown application", func() *issuertest.Page {
			return issuertest.NewBrowser(t, w.net).Get(a.authorizeURL("client_id", "x"))
		}, 400, "This application is not known here", "Remove the server from the application and add it again."},
		{"another redirect URI", func() *issuertest.Page {
			return issuertest.NewBrowser(t, w.net).Get(a.authorizeURL("redirect_uri", "https://evil.example/"))
		}, 400, "This request is not safe to answer", "Close this page."},
		{"another browser's form", func() *issuertest.Page { return issuertest.NewBrowser(t, w.net).Decide(consent, "allow") },
			403, "You cannot go on from here", "Go back to the application and connect again."},
		{"a browser that refuses cookies", func() *issuertest.Page {
			p := issuertest.NewBrowser(t, w.net).Decide(consent, "allow")
			if !strings.Contains(p.Body, "Or this browser refuses cookies, which are needed here.") {
				t.Error("the page does not say that cookies are needed")
			}
			return p
		}, 403, "You cannot go on from here", "Go back to the application and connect again."},
		{"a callback of nobody's", func() *issuertest.Page {
			return issuertest.NewBrowser(t, w.net).Get(a.base + "/oauth/callback?" + url.Values{"code": {"x"}, "state": {"y"}}.Encode())
		}, 403, "You cannot go on from here", "Go back to the application and connect again."},
		{"a provider that is away", func() *issuertest.Page {
			b := issuertest.NewBrowser(t, w.net)
			p := b.Get(a.authorizeURL())
			w.idp.Be(issuertest.Behaviour{DiscoveryStatus: 500})
			defer w.idp.Be(issuertest.Behaviour{})
			return b.Decide(p, "allow")
		}, 503, "You cannot sign in at the moment", "Wait a moment, then reload this page."},
		{"a provider that no waiting mends", func() *issuertest.Page {
			away := w.tenant("https://mcp.localhost/nowhere")
			away.ProviderIssuer += "/nowhere"
			w.serve(away)
			b := issuertest.NewBrowser(t, w.net)
			return b.Decide(b.Get(w.register(away.PublicURL, nil).authorizeURL()), "allow")
		}, 503, "You cannot sign in at the moment", "Tell whoever runs this server the reference below."},
		{"a person whom no rule admits", func() *issuertest.Page {
			closed := w.tenant("https://mcp.localhost/closed")
			closed.Exchange, closed.AllowedSubjects = "callback", []string{"somebody"}
			w.serve(closed)
			b := issuertest.NewBrowser(t, w.net)
			return b.Get(b.Upstream(b.Decide(b.Get(w.register(closed.PublicURL, nil).authorizeURL()), "allow")))
		}, 403, "This account may not come in", "Sign in with another account, or ask whoever runs this server to admit this one."},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.page()
			checkPage(t, seen(p))
			if p.Status != c.status || !strings.Contains(p.Body, "<h1>"+c.heading+"</h1>") || !strings.Contains(p.Body, "<p>"+c.advice) {
				t.Errorf("status %d: %s", p.Status, p.Body)
			}
			m := regexp.MustCompile(`<dt>Reference</dt>\n<dd>([A-Z2-7]{8})</dd>`).FindStringSubmatch(p.Body)
			if m == nil {
				t.Fatalf("no reference: %s", p.Body)
			}
			if n := strings.Count(w.log.String(), fmt.Sprintf("%q:%q", "reference", m[1])) + strings.Count(w.log.String(), "reference="+m[1]); n != 1 {
				t.Errorf("the reference stands %d times in the log", n)
			}
		})
	}
}

// Pages are made in buffers that are used again: no person may see a piece of another's.
func TestPagesMadeAtOnceDoNotMix(t *testing.T) {
	w := newWorld(t, nil, nil)
	h := w.replica()
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	var at sync.WaitGroup
	for n := range 8 {
		name := fmt.Sprintf("App %d", n) + strings.Repeat("x", n)
		a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "none", "client_name": name})
		u, err := url.Parse(a.authorizeURL())
		if err != nil {
			t.Fatal(err)
		}
		at.Go(func() {
			for range 30 {
				r := httptest.NewRequest("GET", "/oauth/authorize?"+u.RawQuery, nil)
				r.Header.Set("X-Mcpb-Hop", hop)
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				page := rec.Body.String()
				if rec.Code != 200 || strings.Count(page, "App ") != 2 || strings.Count(page, "“"+name+"”") != 1 || strings.Count(page, "</html>") != 1 {
					t.Errorf("status %d, and not the page of %q: %s", rec.Code, name, page)
					return
				}
			}
		})
	}
	at.Wait()
}
