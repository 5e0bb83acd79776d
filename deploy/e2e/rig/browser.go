package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Browser logs a user in: it keeps cookies, follows redirects and meta refreshes, and fills in the
// forms it meets, as a person would who trusts the client.
type Browser struct {
	Client   *http.Client // with a cookie jar; redirects are followed by Browser, not by Client
	Username string
	Password string
	Decision string // button pressed on the bouncer's consent page; default "allow"

	// What a provider's own pages need beyond that.
	// fields and buttons, by name
	Fill map[string]string
	// which of a page's forms; nil: the first
	Form func(action string) bool
	// what a page's script does instead of loading r; nil: r
	Meets func(ctx context.Context, r *http.Request) (*http.Request, error)

	Steps []string // what happened, for messages: "GET http://… → 302"
}

// maxSteps ends a login that goes in circles.
const maxSteps = 25

// Page is what Browser ended on when that was not a redirect: an error page, for instance.
type Page struct {
	URL    *url.URL
	Status int
	Header http.Header
	Body   string
}

// Error describes the page, so that a Page can be the error of a login.
func (p *Page) Error() string {
	return fmt.Sprintf("ended on %s with status %d: %s", p.URL, p.Status, excerpt(p.Body))
}

// Visit starts at a URL and goes on until something leads to a URL that begins with until. That URL
// is returned, not visited.
func (b *Browser) Visit(ctx context.Context, start, until string) (*url.URL, error) {
	u, err := url.Parse(start)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for range maxSteps {
		page, err := b.load(req)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, strings.Join(b.Steps, "\n"))
		}
		req, err = b.next(ctx, page)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, strings.Join(b.Steps, "\n"))
		}
		if req.Method == http.MethodGet && strings.HasPrefix(req.URL.String(), until) {
			return req.URL, nil
		}
		if b.Meets != nil {
			if req, err = b.Meets(ctx, req); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, strings.Join(b.Steps, "\n"))
			}
		}
	}
	return nil, fmt.Errorf("no end after %d steps:\n%s", maxSteps, strings.Join(b.Steps, "\n"))
}

// Load fetches one page and goes nowhere from there.
func (b *Browser) Load(ctx context.Context, u string) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	return b.load(req)
}

func (b *Browser) load(req *http.Request) (*Page, error) {
	client := *b.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	resp, err := client.Do(req)
	if err != nil {
		b.Steps = append(b.Steps, fmt.Sprintf("%s %s → %v", req.Method, shown(req.URL), err))
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	b.Steps = append(b.Steps, fmt.Sprintf("%s %s → %d", req.Method, shown(req.URL), resp.StatusCode))
	return &Page{req.URL, resp.StatusCode, resp.Header, string(body)}, err
}

// next returns the request that the page leads to.
func (b *Browser) next(ctx context.Context, page *Page) (*http.Request, error) {
	if location := page.Header.Get("Location"); page.Status/100 == 3 && location != "" {
		return follow(ctx, page, location)
	}
	if page.Status != http.StatusOK || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		return nil, page
	}
	doc, err := html.Parse(strings.NewReader(page.Body))
	if err != nil {
		return nil, err
	}
	for n := range doc.Descendants() {
		if n.Data == "meta" && strings.EqualFold(attr(n, "http-equiv"), "refresh") {
			_, target, ok := strings.Cut(attr(n, "content"), "url=")
			if ok {
				return follow(ctx, page, strings.Trim(target, `'" `))
			}
		}
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" && (b.Form == nil || b.Form(attr(n, "action"))) {
			return b.submit(ctx, page, n)
		}
	}
	return nil, page
}

func follow(ctx context.Context, page *Page, target string) (*http.Request, error) {
	u, err := page.URL.Parse(target)
	if err != nil {
		return nil, err
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
}

// submit fills the form and presses the button.
func (b *Browser) submit(ctx context.Context, page *Page, form *html.Node) (*http.Request, error) {
	values := url.Values{}
	for n := range form.Descendants() {
		name := attr(n, "name")
		fill, filled := b.Fill[name]
		switch {
		case n.Type != html.ElementNode || name == "":
		case filled && (n.Data == "input" || n.Data == "button"):
			values.Set(name, fill)
		case n.Data == "input" && (name == "login" || name == "username"):
			values.Set(name, b.Username)
		case n.Data == "input" && attr(n, "type") == "password":
			values.Set(name, b.Password)
		case n.Data == "input" && attr(n, "type") == "checkbox" && name == "scope":
			// The boxes of the consent page come ticked.
			values.Add(name, attr(n, "value"))
		case n.Data == "input" && attr(n, "type") != "checkbox":
			values.Set(name, attr(n, "value"))
		case n.Data == "button" && name == "decision":
			if want := b.decision(); attr(n, "value") == want {
				values.Set(name, want)
			}
		}
	}
	action, err := page.URL.Parse(attr(form, "action"))
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(attr(form, "method"), "post") {
		return nil, errors.New("a form that is not posted on " + page.URL.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// What a browser tells about where a form post comes from.
	req.Header.Set("Origin", page.URL.Scheme+"://"+page.URL.Host)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return req, nil
}

func (b *Browser) decision() string {
	if b.Decision == "" {
		return "allow"
	}
	return b.Decision
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// shown returns a URL for messages: parameters by name only.
func shown(u *url.URL) string {
	var names []string
	for name := range u.Query() {
		names = append(names, name)
	}
	if len(names) == 0 {
		return u.String()
	}
	return fmt.Sprintf("%s://%s%s?%s", u.Scheme, u.Host, u.Path, strings.Join(names, "&"))
}

func excerpt(s string) string {
	const most = 1500
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
