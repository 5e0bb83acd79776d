package issuer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// tightJar drops the least recently used cookie of a host, as browsers do. RFC 6265 §6.1 asks for
// 50 of them; Chromium and Firefox keep about 180.
type tightJar struct {
	next  http.CookieJar
	most  int
	order []string // names, the longest unused first
}

func (j *tightJar) Cookies(u *url.URL) []*http.Cookie { return j.next.Cookies(u) }

func (j *tightJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.next.SetCookies(u, cookies)
	for _, c := range cookies {
		j.order = slices.DeleteFunc(j.order, func(name string) bool { return name == c.Name })
		j.order = append(j.order, c.Name)
	}
	kept := j.next.Cookies(u)
	j.order = slices.DeleteFunc(j.order, func(name string) bool {
		return !slices.ContainsFunc(kept, func(c *http.Cookie) bool { return c.Name == name })
	})
	for len(j.order) > j.most {
		j.next.SetCookies(u, []*http.Cookie{{Name: j.order[0], Path: "/", MaxAge: -1, Secure: true}})
		j.order = j.order[1:]
	}
}

func cookiesOf(b *issuertest.Browser, address, prefix string) (found []string) {
	u, _ := url.Parse(address)
	for _, c := range b.Jar.Cookies(u) {
		if strings.HasPrefix(c.Name, prefix) {
			found = append(found, c.Name+"="+c.Value)
		}
	}
	return found
}

// However many consent pages a browser opens, it keeps the cookies of the newest. It loses neither
// a login that is under way nor another program's cookies. With or without TLS only the names
// differ.
func TestConsentCookiesAreBounded(t *testing.T) {
	for _, c := range []struct {
		base, prefix string
		others, most int // other cookies of the host, and what the browser keeps
	}{
		{"https://mcp.localhost/wiki", "__Host-mcpb-consent-", 35, 50},
		{"https://mcp.localhost/wiki", "__Host-mcpb-consent-", 160, 180},
		{"http://mcp.localhost/wiki", "mcpb-consent-", 35, 50},
	} {
		t.Run(fmt.Sprintf("%s, %d cookies", c.base, c.most), func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki = w.tenant(c.base) })
			a := w.register(c.base, nil)
			b := issuertest.NewBrowser(t, w.net)
			b.Jar = &tightJar{next: b.Jar, most: c.most}
			host, _ := url.Parse(c.base)
			for i := range c.others {
				b.Jar.SetCookies(host, []*http.Cookie{{Name: fmt.Sprintf("other-%d", i), Value: "x", Path: "/", Secure: host.Scheme == "https"}})
			}
			upstream := b.Decide(b.Get(a.authorizeURL()), "allow") // a login is under way
			var pages []*issuertest.Page
			for i := range 200 {
				pages = append(pages, b.Get(a.authorizeURL()))
				if n := len(cookiesOf(b, c.base, c.prefix)); n > 10 {
					t.Fatalf("%d consent cookies after %d pages", n, i+1)
				}
				w.clock.Add(time.Second)
			}
			if n := len(cookiesOf(b, c.base, "other-")); n != c.others {
				t.Errorf("%d of %d other cookies are left", n, c.others)
			}
			if p := b.Get(b.Upstream(upstream)); !strings.HasPrefix(p.Next(), callback+"?code=") && !strings.Contains(p.Body, "code=") {
				t.Errorf("the login that was under way ends with %d %s", p.Status, p.Next())
			}
			if p := b.Decide(pages[150], "allow"); p.Status != 403 {
				t.Errorf("an old page: status %d", p.Status)
			}
			for _, page := range pages[191:] {
				if p := b.Decide(page, "allow"); p.Status != 200 {
					t.Errorf("one of the newest pages: status %d: %s", p.Status, p.Body)
				}
			}
		})
	}
}

// A browser may still have cookies from before there was a bound. They are deleted little by
// little, in answers whose header stays short. Cookies of other programs are left alone. A stranger
// gains nothing by the order or the age of cookies.
func TestConsentCookiesFromBefore(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	host, _ := url.Parse(w.wiki.PublicURL)
	for i := range 120 {
		tag := fmt.Sprintf("A%05d", i)
		b.Jar.SetCookies(host, []*http.Cookie{{Name: "__Host-mcpb-consent-" + tag, Value: tag + strings.Repeat("A", 16), Path: "/", Secure: true}})
	}
	b.Jar.SetCookies(host, []*http.Cookie{{Name: "mcpb-consent-of-somebody", Value: "x", Path: "/", Secure: true}})
	for range 8 {
		p := b.Get(a.authorizeURL())
		if set := p.Header.Values("Set-Cookie"); len(set) > 21 || len(strings.Join(set, "")) > 4<<10 {
			t.Errorf("%d cookies are set in %d bytes", len(set), len(strings.Join(set, "")))
		}
	}
	if n := len(cookiesOf(b, w.wiki.PublicURL, "__Host-mcpb-consent-")); n != 10 {
		t.Errorf("%d consent cookies", n)
	}
	if len(cookiesOf(b, w.wiki.PublicURL, "mcpb-consent-of-somebody")) != 1 {
		t.Error("another program's cookie is gone")
	}
}
