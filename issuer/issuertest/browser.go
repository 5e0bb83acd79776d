package issuertest

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// Browser is a person's browser: it keeps cookies, follows redirects and pages that lead on, and
// fills in the consent form. It stops at the first address that is neither the sidecar's nor a
// provider's: the client's.
type Browser struct {
	Jar http.CookieJar

	t     testing.TB
	net   *Internet
	brief []func() // end the cookies that live for less than a minute
}

// NewBrowser opens a browser without cookies.
func NewBrowser(t testing.TB, net *Internet) *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{Jar: jar, t: t, net: net}
}

// Page is what a browser sees.
type Page struct {
	URL    *url.URL
	Status int
	Header http.Header
	Body   string
}

var (
	formAction  = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	tickedBox   = regexp.MustCompile(`<input type="checkbox" name="([^"]*)" value="([^"]*)" checked>`)
	button      = regexp.MustCompile(`<button type="submit" name="([^"]*)" value="([^"]*)"`)
	metaRefresh = regexp.MustCompile(`<meta http-equiv="refresh" content="0;url=([^"]*)">`)
	continueTo  = regexp.MustCompile(`<a id="continue" href="([^"]*)">`)
)

// Next is where the page leads by itself: a redirect or a meta refresh. Empty if it stays.
func (p *Page) Next() string {
	if to := p.Header.Get("Location"); to != "" {
		return to
	}
	return attribute(metaRefresh, p.Body)
}

// Link is the link for those whose browser does not refresh.
func (p *Page) Link() string { return attribute(continueTo, p.Body) }

// Form is the form of the page: its address, its fields as it comes, and its buttons in order.
func (p *Page) Form() (action string, fields url.Values, buttons []string) {
	fields = url.Values{}
	for _, field := range []*regexp.Regexp{hiddenInput, tickedBox} {
		for _, m := range field.FindAllStringSubmatch(p.Body, -1) {
			fields.Add(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
		}
	}
	for _, m := range button.FindAllStringSubmatch(p.Body, -1) {
		buttons = append(buttons, m[1]+"="+m[2])
	}
	return attribute(formAction, p.Body), fields, buttons
}

func attribute(re *regexp.Regexp, body string) string {
	if m := re.FindStringSubmatch(body); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// Get opens an address and stops there: it follows nothing.
func (b *Browser) Get(address string) *Page {
	b.t.Helper()
	r, err := http.NewRequest("GET", address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.Do(r)
}

// Do sends a request with the browser's cookies and keeps those of the answer.
func (b *Browser) Do(r *http.Request) *Page {
	b.t.Helper()
	client := http.Client{
		Transport:     b.net,
		Jar:           b.Jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if 0 < c.MaxAge && c.MaxAge < 60 {
			c.MaxAge = -1
			b.brief = append(b.brief, func() { b.Jar.SetCookies(r.URL, []*http.Cookie{c}) })
		}
	}
	return &Page{r.URL, resp.StatusCode, resp.Header, string(body)}
}

// Wait is a minute: cookies that were to live for less are gone.
func (b *Browser) Wait() {
	for _, end := range b.brief {
		end()
	}
	b.brief = nil
}

// Decide presses a button of a consent page, as a browser does from the same origin.
func (b *Browser) Decide(p *Page, decision string) *Page {
	b.t.Helper()
	return b.Do(b.DecisionRequest(p, decision))
}

// DecisionRequest is the request that Decide sends, for tests that change it first.
func (b *Browser) DecisionRequest(p *Page, decision string) *http.Request {
	b.t.Helper()
	action, form, _ := p.Form()
	if action == "" {
		b.t.Fatalf("no form on this page (status %d): %s", p.Status, p.text())
	}
	if decision != "" {
		form.Set("decision", decision)
	}
	r, err := http.NewRequest("POST", action, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", p.URL.Scheme+"://"+p.URL.Host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// Follow goes on from a page until it leads to the client, and returns that address unvisited.
func (b *Browser) Follow(p *Page) *url.URL {
	b.t.Helper()
	for range 10 {
		next := p.Next()
		u, err := url.Parse(next)
		if next == "" || err != nil {
			b.t.Fatalf("the browser is stuck at %.300s (status %d, %v): %s", p.URL, p.Status, err, p.text())
		}
		if !b.net.Knows(u) && !isProvider(u) {
			return u
		}
		p = b.Get(next)
	}
	b.t.Fatal("the browser goes round in circles")
	return nil
}

// Upstream goes from a consent page's answer to the provider's answer, and returns the callback
// address unvisited.
func (b *Browser) Upstream(p *Page) string {
	b.t.Helper()
	for range 10 {
		next := p.Next()
		u, err := url.Parse(next)
		if next == "" || err != nil {
			b.t.Fatalf("the browser is stuck at %.300s (status %d): %s", p.URL, p.Status, p.text())
		}
		if isProvider(p.URL) && !isProvider(u) {
			return next
		}
		p = b.Get(next)
	}
	b.t.Fatal("the browser goes round in circles")
	return ""
}

// Login opens an authorization URL, allows it, and returns the address of the client that the
// answer goes to.
func (b *Browser) Login(authorizationURL string) *url.URL {
	b.t.Helper()
	return b.Follow(b.Decide(b.Get(authorizationURL), "allow"))
}

// Cookies are the browser's cookies for an address, as name=value.
func (b *Browser) Cookies(address string) []string {
	b.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, c := range b.Jar.Cookies(u) {
		all = append(all, fmt.Sprintf("%s=%s", c.Name, c.Value))
	}
	return all
}

// text is the page without its head, for messages.
func (p *Page) text() string {
	_, body, _ := strings.Cut(p.Body, "<body>")
	return body
}
