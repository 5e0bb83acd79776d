// Package github imitates GitHub as a server that people sign in at: its OAuth endpoints and the
// part of its REST API that says who somebody is. It has the form of a GitHub Enterprise Server,
// one host with the API below /api/v3, unless API gives that another host.
//
// Each answer is taken from GitHub's documentation: the comment beside it names the page, which is
// one of [Pages]. Where the documentation is silent, the comment says so.
package github

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Kind is a kind of app that can be registered.
type Kind int

const (
	// OAuthApp has tokens without an end, which carry scopes (page authorizing).
	OAuthApp Kind = iota
	// App is a GitHub App: its tokens end after eight hours, and come with a refresh token (page
	// refreshing).
	App
	// LastingApp is one whose owner has opted out of tokens that expire.
	LastingApp
)

// Options are what is registered; nil means the defaults.
type Options struct {
	Kind     Kind
	ClientID string           // default "Iv1.0123456789abcdef"
	Secret   string           // default random
	Callback string           // "Authorization callback URL" of the app's settings
	Now      func() time.Time // nil: the real time
	// API is the URL of the REST API where it has a host of its own, as https://api.github.com is
	// to https://github.com. Both hosts reach the same Hub.
	URL, API string
	// Installed are the organisations that have installed a GitHub App. The others' teams are not
	// shown to it.
	Installed []string
	// Closed are the organisations that have not approved an OAuth app (page restrictions).
	Closed []string
}

// Email is one of a person's addresses.
type Email struct {
	Email      string  `json:"email"`
	Primary    bool    `json:"primary"`
	Verified   bool    `json:"verified"`
	Visibility *string `json:"visibility"`
}

// Person has an account.
type Person struct {
	ID     int64 // it never changes, as the other names do (page best-practices)
	Login  string
	Name   string
	Public string // the address that the profile shows; empty: null
	Emails []Email
	Orgs   []string
	Teams  []string // "acme/admins": organisation and slug
}

// Hub is the server.
type Hub struct {
	URL          string // its own: what providerIssuer names
	ClientID     string
	ClientSecret string
	Password     string // of everybody

	api       string // without a slash at the end
	callback  string
	kind      Kind
	now       func() time.Time
	installed []string
	closed    []string

	mu         sync.Mutex // guards what follows for one access
	people     map[string]*account
	codes      map[string]*code
	tokens     map[string]*token
	granted    map[string][]string // scopes by login: what the person has authorized before
	issued     []string            // every code and token there ever was
	seen       []Seen
	ahead      time.Duration
	denies     bool
	accepted   func(asked []string) []string
	instead    func(*http.Request) http.Handler
	limited    int // status of the answer to every request to the API; 0: none
	limitKind  Limit
	limitUntil time.Duration
}

// account is a person, and what has become of them.
type account struct {
	Person
	suspended bool
}

// Seen is a request that came.
type Seen struct {
	Method, Path  string
	Authorization string // without the credential
	Form          url.Values
	Header        http.Header
}

// Start starts a Hub that listens on loopback, with these people.
func Start(t testing.TB, o *Options, people ...Person) *Hub {
	t.Helper()
	h := New(o, people...)
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	if h.URL == "" {
		// Servers name themselves by host name.
		h.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
		h.api = h.URL + "/api/v3" // page getting-started
	}
	return h
}

// New returns a Hub that listens nowhere yet.
func New(o *Options, people ...Person) *Hub {
	if o == nil {
		o = &Options{}
	}
	h := &Hub{
		URL: o.URL, ClientID: o.ClientID, ClientSecret: o.Secret, Password: rand.Text(), api: o.API, callback: o.Callback, kind: o.Kind, now: o.Now,
		installed: o.Installed, closed: o.Closed,
		people: map[string]*account{}, codes: map[string]*code{}, tokens: map[string]*token{}, granted: map[string][]string{},
	}
	if h.ClientID == "" {
		h.ClientID = "Iv1.0123456789abcdef"
	}
	if h.ClientSecret == "" {
		h.ClientSecret = rand.Text() + rand.Text()
	}
	if h.now == nil {
		h.now = time.Now
	}
	for _, p := range people {
		h.people[p.Login] = &account{Person: p}
	}
	return h
}

// Octocat is a person with a verified address, a member of acme and of its team admins.
func Octocat() Person {
	private := "private"
	return Person{
		ID: 583231, Login: "octocat", Name: "monalisa octocat",
		Emails: []Email{
			{"octocat@users.noreply.github.com", false, true, nil},
			{"octocat@example.com", true, true, &private},
			{"someone.else@example.org", false, false, nil},
		},
		Orgs: []string{"acme"}, Teams: []string{"acme/admins"},
	}
}

// Callback sets the callback URL of the app's settings.
func (h *Hub) Callback(u string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.callback = u
}

// Ahead sets the clock ahead of the real one.
func (h *Hub) Ahead(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ahead = by
}

// Add gives one more person an account.
func (h *Hub) Add(p Person) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.people[p.Login] = &account{Person: p}
}

// Change changes a person's account.
func (h *Hub) Change(login string, change func(p *Person)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.people[login].Person)
}

// Leave takes a person out of an organisation, and so out of its teams.
func (h *Hub) Leave(login, org string) {
	h.Change(login, func(p *Person) {
		p.Orgs = slices.DeleteFunc(slices.Clone(p.Orgs), func(o string) bool { return o == org })
		p.Teams = slices.DeleteFunc(slices.Clone(p.Teams), func(t string) bool { return strings.HasPrefix(t, org+"/") })
	})
}

// Suspend suspends a person's account (page suspending).
func (h *Hub) Suspend(login string, suspended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.people[login].suspended = suspended
}

// RevokeTokens ends all tokens of a person and keeps what they have authorized.
func (h *Hub) RevokeTokens(login string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.tokens {
		if t.login == login {
			t.revoked = true
		}
	}
}

// RevokeGrant is what a person does under Settings → Applications: the app has no access any more
// (page revoking).
func (h *Hub) RevokeGrant(login string) {
	h.RevokeTokens(login)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.granted, login)
}

// Rotate gives the app another secret.
func (h *Hub) Rotate() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ClientSecret = rand.Text() + rand.Text()
}

// Deny lets people cancel instead of authorizing.
func (h *Hub) Deny(denies bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.denies = denies
}

// Edit lets people grant other scopes than they are asked for, as they can (page scopes). nil ends
// that.
func (h *Hub) Edit(accepted func(asked []string) []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accepted = accepted
}

// Instead lets the handler that choose returns answer a request; where it returns nil, GitHub does.
// A nil choose ends that.
func (h *Hub) Instead(choose func(*http.Request) http.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.instead = choose
}

// Limit is a rate limit that is exceeded.
type Limit int

// The two kinds of page limits.
const (
	Primary   Limit = iota // x-ratelimit-remaining is 0, and x-ratelimit-reset says when it ends
	Secondary              // retry-after says it
)

// Exceed refuses each request to the API by a rate limit: with 403 or 429, both of which are
// documented. Status 0 ends that.
func (h *Hub) Exceed(status int, kind Limit, until time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limited, h.limitKind, h.limitUntil = status, kind, until
}

// Seen lists the requests that came after the first n.
func (h *Hub) Seen(n int) []Seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen[min(n, len(h.seen)):])
}

// Issued lists every code and every token that was ever given.
func (h *Hub) Issued() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.issued)
}

func (h *Hub) time() time.Time { return h.now().Add(h.ahead) }

func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	h.mu.Lock()
	h.seen = append(h.seen, Seen{r.Method, r.URL.Path, scheme, r.Form, r.Header.Clone()})
	instead := h.instead
	h.mu.Unlock()
	if instead != nil {
		if other := instead(r); other != nil {
			other.ServeHTTP(w, r)
			return
		}
	}
	path := r.URL.Path
	api, isAPI := strings.CutPrefix(path, "/api/v3")
	if u, err := url.Parse(h.api); err == nil && u.Path == "" && u.Host == r.Host {
		api, isAPI = path, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case isAPI:
		h.rest(w, r, api)
	case r.Method == http.MethodGet && path == "/login/oauth/authorize":
		h.authorize(w, r)
	case r.Method == http.MethodPost && path == "/session":
		h.signIn(w, r)
	case r.Method == http.MethodPost && path == "/login/oauth/authorize":
		h.decide(w, r)
	case r.Method == http.MethodPost && path == "/login/oauth/access_token":
		h.accessToken(w, r)
	default: // no discovery document either
		http.NotFound(w, r)
	}
}

func (h *Hub) issue(prefix string) string {
	v := prefix + rand.Text() + rand.Text()[:10]
	h.issued = append(h.issued, v)
	return v
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(w, "%s", b)
}
