package issuer_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// octocat is a GitHub with one person and one app, for what can go wrong. It answers in memory, at
// the addresses of its base and its API. The zero value of what tests set is a kind one.
type octocat struct {
	t         testing.TB
	base, api string

	mu      sync.Mutex // guards what follows for one access
	id      any
	emails  string // JSON
	orgs    []string
	orgID   int
	teams   []string // org/slug
	expires bool     // tokens do, as those of a GitHub App
	hide    []string // paths that answer 404
	status  map[string]int
	header  map[string]string // of answers with such a status
	body    string            // of those
	wrongly string            // the error code of each token answer, with status 200
	app     string            // whose tokens the check says they are; bouncer's if empty
	scopes  string            // the token answer's
	pages   int               // how often /user/orgs says that there is more; the addresses
	more    string            // are below this origin, or the API's if empty
	asked   []string          // METHOD path of each request to the API
	iss     string            // in its answer to the browser; empty: none, as documented
	query   url.Values        // of the last authorization request
	posts   []url.Values      // to the token endpoint
	tokens  map[string]bool   // access tokens that are good
	renews  map[string]bool   // refresh tokens that are
	codes   map[string]string // code_challenge by code
}

const octoSecret = "secret-of-the-app"

// newOctocat makes the world's server log in at a GitHub.
func newOctocat(t testing.TB, issuer string, change func(*octocat, *world)) (*world, *octocat) {
	g := &octocat{t: t, base: issuer, id: 583231, emails: `[{"email":"old@example.com","primary":false,"verified":true},{"email":"octo@example.com","primary":true,"verified":true}]`,
		orgs: []string{"acme"}, teams: []string{"acme/admins"}, status: map[string]int{}, scopes: "read:org,read:user,user:email",
		tokens: map[string]bool{}, renews: map[string]bool{}, codes: map[string]string{}}
	if g.api = issuer + "/api/v3"; issuer == "https://github.com" {
		g.api = "https://api.github.com"
	}
	w := newWorld(t, nil, func(w *world) {
		w.guarded("none")
		w.wiki.ProviderIssuer, w.wiki.ClientSecret = issuer, octoSecret
		w.wiki.Scopes, w.wiki.Exchange = nil, "token"
		if issuer != "https://github.com" {
			w.wiki.ProviderType = "github"
		}
		if change != nil {
			change(g, w)
		}
		w.overMemory()
	})
	w.net.Handle(g.base, g)
	if g.api != g.base+"/api/v3" {
		w.net.Handle(g.api, g)
	}
	return w, g
}

// overMemory lets the sidecar ask providers that are in memory.
func (w *world) overMemory() {
	before := w.config
	w.config = func(c *issuer.Config) {
		if before != nil {
			before(c)
		}
		c.Transport = w.net
	}
}

// set changes something in the middle of a test.
func (g *octocat) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *octocat) requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	asked := slices.Clone(g.asked)
	g.asked = nil
	return asked
}

func (g *octocat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path, ofAPI := strings.CutPrefix("https://"+r.Host+r.URL.Path, g.api)
	if !ofAPI {
		path = r.URL.Path
	}
	say := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	if ofAPI {
		g.asked = append(g.asked, r.Method+" "+path)
	}
	if status := g.status[path]; status != 0 {
		for name, value := range g.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		io.WriteString(w, g.body)
		return
	}
	if slices.Contains(g.hide, path) {
		say(404, map[string]string{"message": "Not Found"})
		return
	}
	if !ofAPI {
		g.login(w, r, say)
		return
	}
	if strings.HasPrefix(path, "/applications/") {
		g.aboutToken(r, say)
		return
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !g.tokens[token] {
		say(401, map[string]string{"message": "Bad credentials"})
		return
	}
	switch path {
	case "/user":
		say(200, map[string]any{"id": g.id, "login": "octocat", "name": nil, "email": "unverified@evil.example"})
	case "/user/emails":
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, g.emails)
	case "/user/orgs":
		if n, _ := strconv.Atoi(r.URL.Query().Get("page")); n < g.pages {
			more := g.more
			if more == "" {
				more = g.api
			}
			w.Header().Set("Link", fmt.Sprintf(`<%s/user/orgs?page=1>; rel="prev", <%s/user/orgs?page=%d>; rel="next"`, more, more, n+1))
			say(200, []any{map[string]any{"login": "org" + strconv.Itoa(n)}})
			return
		}
		all := []any{}
		for _, org := range g.orgs {
			all = append(all, map[string]any{"login": org, "id": g.orgID})
		}
		say(200, all)
	case "/user/teams":
		all := []any{}
		for _, team := range g.teams {
			org, slug, _ := strings.Cut(team, "/")
			all = append(all, map[string]any{"name": "Not the slug", "slug": slug, "organization": map[string]any{"login": org}})
		}
		say(200, all)
	default:
		say(404, map[string]string{"message": "Not Found"})
	}
}

func (g *octocat) login(w http.ResponseWriter, r *http.Request, say func(int, any)) {
	switch r.URL.Path {
	case "/login/oauth/authorize":
		g.query = r.URL.Query()
		code := rand.Text()
		g.codes[code] = g.query.Get("code_challenge")
		answer := url.Values{"code": {code}, "state": {g.query.Get("state")}}
		if g.iss != "" {
			answer.Set("iss", g.iss)
		}
		http.Redirect(w, r, g.query.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
	case "/login/oauth/access_token":
		r.ParseForm()
		g.posts = append(g.posts, r.PostForm)
		g.redeem(r, say)
	default:
		http.NotFound(w, r)
	}
}

// redeem answers as GitHub does: errors with 200, and JSON to whoever asks for it.
func (g *octocat) redeem(r *http.Request, say func(int, any)) {
	refuse := func(code string) {
		say(200, map[string]string{"error": code, "error_description": "told to the operator", "error_uri": "/developers"})
	}
	form := r.PostForm
	known, challenged := g.codes[form.Get("code")]
	switch grant := form.Get("grant_type"); {
	case r.Header.Get("Accept") != "application/json":
		g.t.Errorf("the token endpoint is asked for %q", r.Header.Get("Accept"))
	case g.wrongly != "":
		refuse(g.wrongly)
		return
	case form.Get("client_id") != "bouncer" || form.Get("client_secret") != octoSecret:
		refuse("incorrect_client_credentials")
		return
	case grant == "refresh_token" && !g.renews[form.Get("refresh_token")]:
		refuse("bad_refresh_token")
		return
	case grant != "refresh_token" && (!challenged || challenge(form.Get("code_verifier")) != known):
		refuse("bad_verification_code")
		return
	}
	delete(g.codes, form.Get("code"))
	delete(g.renews, form.Get("refresh_token"))
	answer := map[string]any{"access_token": "gho_" + rand.Text(), "token_type": "bearer", "scope": g.scopes}
	if g.expires {
		answer["access_token"], answer["refresh_token"] = "ghu_"+rand.Text(), "ghr_"+rand.Text()
		answer["expires_in"], answer["refresh_token_expires_in"], answer["scope"] = 28800, 15811200, ""
		g.renews[answer["refresh_token"].(string)] = true
	}
	g.tokens[answer["access_token"].(string)] = true
	say(200, answer)
}

// aboutToken checks and deletes tokens, for whoever proves to be the app.
func (g *octocat) aboutToken(r *http.Request, say func(int, any)) {
	var asked struct {
		Token string `json:"access_token"`
	}
	json.NewDecoder(r.Body).Decode(&asked)
	app := g.app
	if app == "" {
		app = "bouncer"
	}
	id, secret, _ := r.BasicAuth()
	switch {
	case id != "bouncer" || secret != octoSecret || !g.tokens[asked.Token]:
		say(404, map[string]string{"message": "Not Found"})
	case r.Method == "DELETE":
		delete(g.tokens, asked.Token)
		say(204, nil)
	default:
		say(200, map[string]any{"app": map[string]any{"client_id": app}, "user": map[string]any{"id": g.id, "login": "octocat"}, "token": asked.Token})
	}
}

// end takes all tokens back, as the person does in their settings.
func (g *octocat) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.tokens)
	clear(g.renews)
}

func TestGitHubLogin(t *testing.T) {
	for _, at := range []string{"https://github.com", "https://github.example"} {
		for _, expires := range []bool{false, true} {
			t.Run(fmt.Sprint(at, " with tokens that expire: ", expires), func(t *testing.T) {
				w, g := newOctocat(t, at, func(g *octocat, w *world) {
					g.expires = expires
					w.wiki.IdentityClaims = []string{"email", "name", "groups"}
				})
				a := w.register(w.wiki.PublicURL, nil)
				first := a.login()
				claims := w.verifiedToken(a.base, first.text("access_token"), w.clock.Now())
				if claims["sub"] != "583231" || claims["email"] != "octo@example.com" || claims["name"] != "octocat" || !slices.Equal(textsOf(claims["groups"]), []string{"acme", "acme/admins"}) || claims["scope"] != "mcp:read mcp:write" {
					t.Errorf("the access token says %v", claims)
				}
				if q := g.query; q.Get("scope") != "read:user user:email read:org" || q.Has("nonce") || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("redirect_uri") != a.base+"/oauth/callback" {
					t.Errorf("the authorization request is %v", q)
				}
				g.set(func() { g.teams = []string{"acme/staff"} })
				w.clock.Add(2 * time.Hour)
				second := a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
				claims = w.verifiedToken(a.base, second.text("access_token"), w.clock.Now())
				if claims["sub"] != "583231" || !slices.Equal(textsOf(claims["groups"]), []string{"acme", "acme/staff"}) {
					t.Errorf("after the check the access token says %v", claims)
				}
				if posts := len(g.posts); posts != map[bool]int{false: 1, true: 2}[expires] {
					t.Errorf("the token endpoint was asked %d times", posts)
				}
				// Whoever takes the app's right back at GitHub ends the login.
				g.end()
				w.clock.Add(2 * time.Hour)
				a.token(a.refreshment(second.text("refresh_token"))).wants(t, 400, "invalid_grant")
				if log := w.log.String(); !strings.Contains(log, "the provider was asked about it") || strings.Contains(log, "Bad credentials") {
					t.Errorf("the log: %s", w.log.last())
				}
			})
		}
	}
}

func textsOf(v any) (all []string) {
	list, _ := v.([]any)
	for _, one := range list {
		all = append(all, fmt.Sprint(one))
	}
	return all
}

// GitHub is asked for what the labels need, and for nothing else.
func TestGitHubIsAskedWhatTheLabelsNeed(t *testing.T) {
	const check, user = "POST /applications/bouncer/token", "GET /user"
	for _, c := range []struct {
		name   string
		labels func(*world)
		scope  string
		asked  []string
	}{
		{"nothing", func(w *world) {}, "read:user", nil},
		{"an address", func(w *world) { w.wiki.AllowedDomains = []string{"example.com"} }, "read:user user:email", []string{"GET /user/emails"}},
		{"an organisation", func(w *world) { w.wiki.AllowedGroups = []string{"acme"} }, "read:user read:org", []string{"GET /user/orgs"}},
		{"a team", func(w *world) { w.wiki.ScopeRules = []string{"group:acme/admins=mcp:read mcp:write"} }, "read:user read:org", []string{"GET /user/teams"}},
		{"all groups", func(w *world) { w.wiki.IdentityClaims = []string{"groups"} }, "read:user read:org", []string{"GET /user/orgs", "GET /user/teams"}},
		{"the label scopes", func(w *world) { w.wiki.Scopes = []string{"user"}; w.wiki.AllowedEmails = []string{"octo@example.com"} }, "user", []string{"GET /user/emails"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, g := newOctocat(t, "https://github.com", func(_ *octocat, w *world) { c.labels(w) })
			a := w.register(w.wiki.PublicURL, nil)
			r := a.login()
			if got := g.requests(); !slices.Equal(got, append([]string{check, user}, c.asked...)) {
				t.Errorf("asked %q", got)
			}
			if g.query.Get("scope") != c.scope {
				t.Errorf("the scope is %q", g.query.Get("scope"))
			}
			// A scope of GitHub is no right at the MCP server.
			if r.text("scope") != "mcp:read mcp:write" {
				t.Errorf("granted %q", r.text("scope"))
			}
		})
	}
}

// Each row: who is refused, and what the operator reads.
func TestGitHubRefusals(t *testing.T) {
	rules := func(w *world) {
		w.wiki.Exchange = "callback"
		w.wiki.AllowedGroups, w.wiki.AllowedDomains = []string{"acme/admins"}, []string{"example.com"}
	}
	for _, c := range []struct {
		name string
		is   func(*octocat, *world)
		log  string
	}{
		{"in no team of the rule", func(g *octocat, _ *world) { g.teams = []string{"other/admins"} }, "hides those whose owners restrict OAuth apps"},
		{"whose teams the token may not see", func(g *octocat, _ *world) { g.hide = []string{"/user/teams"} }, "the scope read:org"},
		{"whose teams the GitHub App may not see", func(g *octocat, _ *world) {
			g.status["/user/teams"], g.body = 403, `{"message":"Resource not accessible by integration"}`
		}, "the permission Members (read)"},
		{"whose primary address is not verified", func(g *octocat, _ *world) {
			g.emails = `[{"email":"octo@example.com","primary":true,"verified":false},{"email":"x@example.com","primary":false,"verified":true}]`
		}, "the provider vouches for no domain"},
		{"whose addresses the token may not see", func(g *octocat, _ *world) { g.hide = []string{"/user/emails"} }, "the scope user:email"},
		{"whose verified address is elsewhere", func(g *octocat, _ *world) { g.emails = `[{"email":"o@evil.example","primary":true,"verified":true}]` }, "the domain is not listed"},
		{"whose token is another app's", func(g *octocat, _ *world) { g.app = "other" }, "to another client than this one"},
		{"whom GitHub wants to verify an address", func(g *octocat, _ *world) { g.wrongly = "unverified_user_email" }, "unverified_user_email"},
		{"without an id", func(g *octocat, _ *world) { g.id = nil }, "id of /user"},
		{"whose id is no whole number", func(g *octocat, _ *world) { g.id = 1.5 }, "id of /user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := newOctocat(t, "https://github.com", func(g *octocat, w *world) { rules(w); c.is(g, w) })
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			page := b.Decide(b.Get(a.authorizeURL()), "allow")
			for page.Next() != "" && !strings.HasPrefix(page.Next(), callback) {
				page = b.Get(page.Next())
			}
			told := page.Next() + page.Body
			if !strings.Contains(told, "access_denied") {
				t.Errorf("the person is told %s", told)
			}
			if log := w.log.String(); !strings.Contains(log, c.log) {
				t.Errorf("the log has no %q: %s", c.log, w.log.last())
			}
		})
	}
}

// Each row: what GitHub answers to a token request with status 200, and what the client hears. The
// words of GitHub's own stay in the log.
func TestGitHubTokenErrors(t *testing.T) {
	for _, c := range []struct {
		code     string
		status   int
		told, at string
	}{
		{"bad_verification_code", 400, "invalid_grant", "bad_verification_code"},
		{"incorrect_client_credentials", 500, "server_error", "compare the labels clientSecret and clientID"},
		{"redirect_uri_mismatch", 500, "server_error", "redirect_uri_mismatch"},
		{"unverified_user_email", 400, "access_denied", "unverified_user_email"},
	} {
		t.Run(c.code, func(t *testing.T) {
			w, _ := newOctocat(t, "https://github.com", func(g *octocat, _ *world) { g.wrongly = c.code })
			a := w.register(w.wiki.PublicURL, nil)
			r := a.token(a.redemption(a.code())).wants(t, c.status, c.told)
			if strings.Contains(r.Body, "told to the operator") || !strings.Contains(w.log.String(), c.at) {
				t.Errorf("%s; the log: %s", r.Body, w.log.last())
			}
		})
	}
}

// Each row: what GitHub answers at a check, with tokens of either kind, and what becomes of the
// login. A limit, an outage and a wrong secret say nothing about a person.
func TestGitHubAtACheck(t *testing.T) {
	const users, checks, token = "/user", "/applications/bouncer/token", "/login/oauth/access_token"
	down := func(paths ...string) func(*octocat) {
		return func(g *octocat) {
			for _, path := range paths {
				g.status[path] = 502
			}
		}
	}
	for _, c := range []struct {
		name string
		is   func(*octocat)
		// the outcome with an access token that never expires, and with a refresh token
		forEver, ends string
		later         string // three hours later, with the first
	}{
		{"all is well", func(*octocat) {}, "ok", "ok", "ok"},
		{"the tokens were taken back", func(g *octocat) { clear(g.tokens); clear(g.renews) }, "invalid_grant", "invalid_grant", "invalid_grant"},
		{"another person's token", func(g *octocat) { g.id = 666 }, "access_denied", "access_denied", "access_denied"},
		{"it is down", down(users, checks, token), "short", "short", "temporarily_unavailable"},
		{"its API is down", down(users, checks), "short", "short", "temporarily_unavailable"},
		{"a primary limit", func(g *octocat) { g.status[users], g.header = 403, map[string]string{"X-RateLimit-Remaining": "0"} }, "short", "short", "temporarily_unavailable"},
		{"a secondary limit", func(g *octocat) {
			g.status[users], g.body = 403, `{"message":"You have exceeded a secondary rate limit"}`
		}, "short", "short", "temporarily_unavailable"},
		{"too many requests", func(g *octocat) { g.status[users] = 429 }, "short", "short", "temporarily_unavailable"},
		{"a limit at the check", func(g *octocat) { g.status[checks] = 429 }, "short", "short", "temporarily_unavailable"},
		{"a firewall at its organisations", func(g *octocat) { g.status["/user/orgs"], g.body = 403, "<p>Not for you</p>" }, "short", "short", "invalid_grant"},
		{"another server at its organisations", func(g *octocat) { g.status["/user/orgs"], g.body = 404, "<p>Nothing here</p>" }, "short", "short", "invalid_grant"},
		{"its organisations are not for this token", func(g *octocat) {
			g.status["/user/orgs"], g.body = 403, `{"message":"Resource not accessible by integration"}`
		}, "access_denied", "access_denied", ""},
		{"a suspended account", func(g *octocat) { g.status[users], g.body = 403, `{"message":"Sorry. Your account was suspended"}` }, "short", "short", "invalid_grant"},
		{"the app's secret was replaced", func(g *octocat) { g.hide = []string{checks} }, "short", "", "server_error"},
	} {
		for _, expires := range []bool{false, true} {
			want := c.forEver
			if expires {
				want = c.ends
			}
			if want == "" { // there is no such case
				continue
			}
			t.Run(fmt.Sprint(c.name, " with tokens that expire: ", expires), func(t *testing.T) {
				w, g := newOctocat(t, "https://github.com", func(g *octocat, w *world) { g.expires, w.wiki.AllowedGroups = expires, []string{"acme"} })
				a := w.register(w.wiki.PublicURL, nil)
				refresh := a.login().text("refresh_token")
				w.clock.Add(90 * time.Minute)
				g.set(func() { c.is(g) })
				r := a.token(a.refreshment(refresh))
				if outcome(r) != want {
					t.Fatalf("%s, want %s: %s; %s", outcome(r), want, r.Body, w.log.last())
				}
				if expires || r.Status != 200 {
					return
				}
				w.clock.Add(3 * time.Hour)
				if r = a.token(a.refreshment(r.text("refresh_token"))); outcome(r) != c.later {
					t.Errorf("later %s, want %s: %s", outcome(r), c.later, w.log.last())
				}
			})
		}
	}
}

// Each row: the label refresh, and whether logins with either kind of token are asked after.
func TestGitHubRefreshModes(t *testing.T) {
	for _, c := range []struct {
		mode string
		asks bool
	}{{"auto", true}, {"upstream", true}, {"session", false}} {
		for _, expires := range []bool{false, true} {
			t.Run(fmt.Sprint(c.mode, " with tokens that expire: ", expires), func(t *testing.T) {
				w, g := newOctocat(t, "https://github.com", func(g *octocat, w *world) { g.expires, w.wiki.Refresh = expires, c.mode })
				a := w.register(w.wiki.PublicURL, nil)
				refresh := a.login().text("refresh_token")
				g.end()
				w.clock.Add(2 * time.Hour)
				want := map[bool]string{true: "invalid_grant", false: "ok"}[c.asks]
				if r := a.token(a.refreshment(refresh)); outcome(r) != want {
					t.Errorf("%s, want %s", outcome(r), want)
				}
			})
		}
	}
}

// A client that revokes its login ends it at GitHub: the access token is deleted there, and a
// refresh token used up.
func TestGitHubRevocation(t *testing.T) {
	for _, expires := range []bool{false, true} {
		t.Run(fmt.Sprint("tokens that expire: ", expires), func(t *testing.T) {
			w, g := newOctocat(t, "https://github.com", func(g *octocat, _ *world) { g.expires = expires })
			a := w.register(w.wiki.PublicURL, nil)
			refresh := a.login().text("refresh_token")
			for range 2 { // the second time it is over already, which is as good
				a.revoke(url.Values{"token": {refresh}}).wants(t, 200, "")
			}
			if !slices.Contains(g.requests(), "DELETE /applications/bouncer/token") {
				t.Error("no token was deleted")
			}
			w.clock.Add(2 * time.Hour)
			a.token(a.refreshment(refresh)).wants(t, 400, "invalid_grant")
		})
	}
}

// Lists have pages. They are followed within the API, and no further than is bounded.
func TestGitHubPages(t *testing.T) {
	for _, c := range []struct {
		name   string
		pages  int
		more   string
		groups []string
		log    string
	}{
		{"three pages", 2, "", []string{"org0", "org1", "acme"}, ""},
		{"more than are read", 1000, "", []string{"org0", "org1", "org2", "org3", "org4", "org5", "org6", "org7", "org8", "org9"}, "what comes behind them counts as not there"},
		{"a page somewhere else, where the token must not go", 2, "https://evil.example", []string{"org0"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, g := newOctocat(t, "https://github.com", func(g *octocat, w *world) {
				g.pages, g.more, g.teams = c.pages, c.more, nil
				w.wiki.IdentityClaims = []string{"groups"}
			})
			w.net.Handle("https://evil.example", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked for", r.URL) }))
			a := w.register(w.wiki.PublicURL, nil)
			claims := w.verifiedToken(a.base, a.login().text("access_token"), w.clock.Now())
			if got := textsOf(claims["groups"]); !slices.Equal(got, c.groups) {
				t.Errorf("the groups are %q; asked %q", got, g.requests())
			}
			if c.log != "" && !strings.Contains(w.log.String(), c.log) {
				t.Errorf("the log does not say that the list was cut")
			}
		})
	}
}

// plainOAuth is a provider with OAuth 2.0 and nothing more, in memory.
type plainOAuth struct {
	mu     sync.Mutex // guards what follows for one access
	person map[string]any
	answer map[string]any // members set over the token answer's; nil removes one
	status int            // of userinfo
	asked  int            // userinfo
	query  url.Values
	form   url.Values
	auth   string // of the token request
}

const plainIssuer = "https://oauth.example"

func newPlainOAuth(t testing.TB, change func(*plainOAuth, *world)) (*world, *plainOAuth) {
	p := &plainOAuth{person: map[string]any{"data": map[string]any{"id": 42}, "mail": "p@example.com", "verified": true, "nick": "Pat", "email": "decoy@evil.example", "roles": []string{"staff"}}}
	w := newWorld(t, nil, func(w *world) {
		w.guarded("none")
		w.wiki.ProviderIssuer, w.wiki.ProviderType, w.wiki.Scopes = plainIssuer, "oauth2", nil
		w.wiki.AuthorizationEndpoint, w.wiki.TokenEndpoint, w.wiki.UserinfoEndpoint = plainIssuer+"/authorize?tenant=1", plainIssuer+"/token", "https://api.oauth.example/me?fields=all"
		w.wiki.ClaimNames, w.wiki.GroupsClaim = []string{"sub=data.id", "email=mail", "email_verified=verified", "name=nick"}, "roles"
		if change != nil {
			change(p, w)
		}
		w.overMemory()
	})
	w.net.Handle(plainIssuer, p)
	w.net.Handle("https://api.oauth.example", p)
	return w, p
}

func (p *plainOAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.URL.Path {
	case "/authorize":
		p.query = r.URL.Query()
		http.Redirect(w, r, p.query.Get("redirect_uri")+"?"+url.Values{"code": {"the-code"}, "state": {p.query.Get("state")}}.Encode(), http.StatusFound)
	case "/token":
		r.ParseForm()
		p.form, p.auth = r.PostForm, r.Header.Get("Authorization")
		answer := map[string]any{"access_token": "for-ever", "token_type": "Bearer"}
		maps.Copy(answer, p.answer)
		maps.DeleteFunc(answer, func(_ string, v any) bool { return v == nil })
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	case "/me":
		if p.asked++; p.status != 0 {
			w.WriteHeader(p.status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(p.person)
	}
}

func TestOAuthProviderLogin(t *testing.T) {
	w, p := newPlainOAuth(t, func(_ *plainOAuth, w *world) {
		w.wiki.IdentityClaims = []string{"email", "name", "groups"}
		w.wiki.AllowedDomains = []string{"example.com"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	r := a.login()
	claims := w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())
	if claims["sub"] != "42" || claims["email"] != "p@example.com" || claims["name"] != "Pat" || !slices.Equal(textsOf(claims["groups"]), []string{"staff"}) {
		t.Errorf("the access token says %v", claims)
	}
	if p.query.Get("tenant") != "1" || p.query.Has("scope") || p.query.Has("nonce") || p.query.Get("code_challenge") == "" || p.form.Get("code_verifier") == "" || !strings.HasPrefix(p.auth, "Basic ") {
		t.Errorf("asked with %v, then %v", p.query, p.form)
	}
	if p.asked != 1 {
		t.Errorf("userinfo was asked %d times", p.asked)
	}
	w.clock.Add(2 * time.Hour)
	r = a.token(a.refreshment(r.text("refresh_token"))).wants(t, 200, "")
	p.status = 401
	w.clock.Add(2 * time.Hour)
	a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant")
}

// Each row: what an OAuth provider gives and says at a check two hours later, and what becomes of
// the login.
func TestOAuthProviderAtACheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer map[string]any
		change func(*plainOAuth)
		want   string
	}{
		{"a token that never expires", nil, func(p *plainOAuth) {}, "ok"},
		{"the same, taken back", nil, func(p *plainOAuth) { p.status = 401 }, "invalid_grant"},
		{"the same, in an outage", nil, func(p *plainOAuth) { p.status = 503 }, "temporarily_unavailable"},
		{"the same, refused otherwise", nil, func(p *plainOAuth) { p.status = 403 }, "temporarily_unavailable"},
		{"the same, with an error and status 200", nil, func(p *plainOAuth) { p.person = map[string]any{"ok": false, "error": "ratelimited"} }, "temporarily_unavailable"},
		{"a refresh token, and then an error with status 200", map[string]any{"expires_in": 600, "refresh_token": "r"}, func(p *plainOAuth) { p.person = map[string]any{"ok": false, "error": "ratelimited"} }, "short"},
		{"a refresh token, and then another person", map[string]any{"expires_in": 600, "refresh_token": "r"}, func(p *plainOAuth) { p.person["data"] = map[string]any{"id": 43} }, "access_denied"},
		{"the same, of another person now", nil, func(p *plainOAuth) { p.person["data"] = map[string]any{"id": 43} }, "access_denied"},
		{"a token that expires, and no refresh token: a session", map[string]any{"expires_in": 600}, func(p *plainOAuth) { p.status = 401 }, "ok"},
		{"the same, as a text", map[string]any{"expires_in": "600"}, func(p *plainOAuth) { p.status = 401 }, "ok"},
		{"the same, with a fraction", map[string]any{"expires_in": json.Number("600.0")}, func(p *plainOAuth) { p.status = 401 }, "ok"},
		{"a refresh token", map[string]any{"expires_in": 600, "refresh_token": "r"}, func(p *plainOAuth) {}, "ok"},
		{"a refresh token, of a person who left", map[string]any{"expires_in": 600, "refresh_token": "r"}, func(p *plainOAuth) { p.answer = map[string]any{"access_token": nil, "error": "invalid_grant"} }, "invalid_grant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := newPlainOAuth(t, func(p *plainOAuth, _ *world) { p.answer = c.answer })
			a := w.register(w.wiki.PublicURL, nil)
			refresh := a.login().text("refresh_token")
			w.clock.Add(150 * time.Minute)
			c.change(p)
			if r := a.token(a.refreshment(refresh)); outcome(r) != c.want {
				t.Errorf("%s, want %s: %s", outcome(r), c.want, w.log.last())
			}
		})
	}
}

// Each row: what stands for a person's id, and whether anybody is let in by it.
func TestOAuthProviderSubjects(t *testing.T) {
	for _, c := range []struct {
		id  any
		sub string // empty: refused
	}{
		{"abc", "abc"}, {json.Number("12345678901234567890123"), "12345678901234567890123"}, {"", ""}, {nil, ""}, {json.Number("1.5"), ""}, {json.Number("1e3"), ""}, {true, ""}, {[]string{"a"}, ""}, {strings.Repeat("x", 256), ""},
	} {
		t.Run(fmt.Sprint(c.id), func(t *testing.T) {
			w, _ := newPlainOAuth(t, func(p *plainOAuth, _ *world) { p.person["data"] = map[string]any{"id": c.id} })
			a := w.register(w.wiki.PublicURL, nil)
			r := a.token(a.redemption(a.code()))
			if c.sub == "" {
				r.wants(t, 400, "access_denied")
				return
			}
			if claims := w.verifiedToken(a.base, r.wants(t, 200, "").text("access_token"), w.clock.Now()); claims["sub"] != c.sub {
				t.Errorf("the subject is %v", claims["sub"])
			}
		})
	}
}

// An address counts only if the provider says that it is verified, under the name of the label. One
// that came under the usual name, which the label does not mean, is not looked at.
func TestOAuthProviderAddresses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(map[string]any)
		in     bool
	}{
		{"verified", func(map[string]any) {}, true},
		{"not verified", func(p map[string]any) { p["verified"] = false }, false},
		{"of which nothing is said", func(p map[string]any) { delete(p, "verified") }, false},
		{"under another name than the label's", func(p map[string]any) { delete(p, "mail"); p["email"] = "p@example.com" }, false},
		{"verified under another name than the label's", func(p map[string]any) { p["verified"] = false; p["email_verified"] = true }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := newPlainOAuth(t, func(_ *plainOAuth, w *world) { w.wiki.AllowedEmails = []string{"p@example.com"} })
			c.change(p.person)
			a := w.register(w.wiki.PublicURL, nil)
			if r := a.token(a.redemption(a.code())); (r.Status == 200) != c.in {
				t.Errorf("%d %s", r.Status, r.Body)
			}
		})
	}
}

// Whoever may write the labels of another tenant, and knows a sealed secret, cannot have it sent to
// an endpoint of theirs by naming the right issuer beside it.
func TestOAuthProviderSecretIsForItsEndpoint(t *testing.T) {
	seal := func(w *world, issuer string) string {
		return provider.SealSecret(newRing(t, masterOne), issuer, "bouncer", "the-secret", w.clock.Now())
	}
	for _, c := range []struct {
		name   string
		sealed string // for this issuer
		ok     bool
	}{
		{"sealed for the token endpoint", plainIssuer + "/token", true},
		{"sealed for the issuer, which is a name only", plainIssuer, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := newPlainOAuth(t, func(_ *plainOAuth, w *world) { w.wiki.ClientSecret = seal(w, c.sealed) })
			a := w.register(w.wiki.PublicURL, nil)
			if r := a.token(a.redemption(a.code())); (r.Status == 200) != c.ok || !c.ok && p.auth != "" {
				t.Errorf("%d %s; sent %q", r.Status, r.Body, p.auth)
			}
		})
	}
}

// What one tenant's labels call an issuer is a name: its endpoints that hang silence nobody else's
// provider.
func TestOAuthProviderSilencesNobodyElse(t *testing.T) {
	var hangs atomic.Bool
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) {
			c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "oauth.example" && hangs.Load() {
					w.clock.Add(3 * time.Second)
					return nil, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
				}
				return w.net.RoundTrip(r)
			})
		}
	})
	evil := w.tenant("https://mcp.localhost/evil")
	asPlainOAuth(&evil) // and its providerIssuer stays the other tenant's
	w.serve(evil)
	w.net.Handle(plainIssuer, &plainOAuth{person: map[string]any{"id": 1}})
	b := w.register(evil.PublicURL, nil)
	refresh := b.login().text("refresh_token")
	w.clock.Add(3 * time.Hour)
	hangs.Store(true)
	b.token(b.refreshment(refresh)).wants(t, 503, "temporarily_unavailable")
	w.register(w.wiki.PublicURL, nil).login()
}

// Each row: a member of the hop payload that no plugin sends, and which the sidecar refuses.
func TestProviderTypesThatTheSidecarRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*issuertest.Tenant)
		log    string
	}{
		{"a type that is none", func(tn *issuertest.Tenant) { tn.ProviderType = "saml" }, "label providerType: "},
		{"an endpoint of an OpenID provider", func(tn *issuertest.Tenant) { tn.TokenEndpoint = "https://a.example/" }, "label tokenEndpoint: "},
		{"an endpoint on plain http", func(tn *issuertest.Tenant) { asPlainOAuth(tn); tn.UserinfoEndpoint = "http://a.example/" }, "label userinfoEndpoint: "},
		{"no sub", func(tn *issuertest.Tenant) { asPlainOAuth(tn); tn.ClaimNames = []string{"email=mail"} }, "label claimNames: "},
		{"a claim of no known name", func(tn *issuertest.Tenant) { asPlainOAuth(tn); tn.ClaimNames = []string{"sub=id", "groups=x"} }, "label claimNames: "},
		{"claims of an OpenID provider", func(tn *issuertest.Tenant) { tn.ClaimNames = []string{"sub=id"} }, "label claimNames: "},
		{"a key without OpenID", func(tn *issuertest.Tenant) { asPlainOAuth(tn); tn.ClientAuth, tn.ClientSecret = "private_key_jwt", "" }, "label clientAuth: "},
		{"a key at github.com", func(tn *issuertest.Tenant) {
			tn.ProviderIssuer, tn.ClientAuth, tn.ClientSecret = "https://github.com", "private_key_jwt", ""
		}, "label clientAuth: "},
		{"a claim of github.com's groups", func(tn *issuertest.Tenant) { tn.ProviderIssuer, tn.GroupsClaim = "https://github.com", "teams" }, "label groupsClaim: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { c.change(&w.wiki) })
			if r := w.get(w.wiki.PublicURL + "/oauth/jwks.json"); r.Status != 403 || !strings.Contains(w.log.String(), c.log) {
				t.Errorf("%d; the log: %s", r.Status, w.log.last())
			}
		})
	}
}

func asPlainOAuth(tn *issuertest.Tenant) {
	tn.ProviderType, tn.ClaimNames = "oauth2", []string{"sub=id"}
	tn.AuthorizationEndpoint, tn.TokenEndpoint, tn.UserinfoEndpoint = plainIssuer+"/authorize", plainIssuer+"/token", plainIssuer+"/me"
}

// Each row: iss of GitHub's answer (RFC 9207), which its documentation does not have.
func TestGitHubIssuerInTheAnswer(t *testing.T) {
	for _, c := range []struct {
		iss string
		ok  bool
	}{{"", true}, {"https://github.com", true}, {"https://github.com/login/oauth", true}, {"https://evil.example", false}} {
		t.Run(c.iss, func(t *testing.T) {
			w, _ := newOctocat(t, "https://github.com", func(g *octocat, _ *world) { g.iss = c.iss })
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			page := b.Decide(b.Get(a.authorizeURL()), "allow")
			for page.Next() != "" && !strings.HasPrefix(page.Next(), callback) {
				page = b.Get(page.Next())
			}
			if ok := strings.Contains(page.Next(), "code="); ok != c.ok {
				t.Errorf("the browser ends at %s: %s", page.Next(), page.Body)
			}
		})
	}
}

// A code of a login that began in another browser, or was begun by somebody else's request, is
// worth nothing: state and PKCE stand in the place of the nonce.
func TestCodesOfOthersWithoutANonce(t *testing.T) {
	w, g := newOctocat(t, "https://github.com", nil)
	a := w.register(w.wiki.PublicURL, nil)
	mine, thief := issuertest.NewBrowser(t, w.net), issuertest.NewBrowser(t, w.net)
	// The thief's answer, opened in the victim's browser.
	stolen := thief.Decide(thief.Get(a.authorizeURL()), "allow")
	for !strings.Contains(stolen.Next(), "/oauth/callback") {
		stolen = thief.Get(stolen.Next())
	}
	if page := mine.Get(stolen.Next()); page.Status != 403 {
		t.Errorf("another browser's answer: %d", page.Status)
	}
	// The thief's code in an answer to the victim's own request.
	own := mine.Decide(mine.Get(a.authorizeURL()), "allow")
	for !strings.Contains(own.Next(), "/oauth/callback") {
		own = mine.Get(own.Next())
	}
	injected, err := url.Parse(own.Next())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := url.Parse(stolen.Next())
	if err != nil {
		t.Fatal(err)
	}
	injected.RawQuery = url.Values{"state": {injected.Query().Get("state")}, "code": {theirs.Query().Get("code")}}.Encode()
	code := mine.Follow(mine.Get(injected.String())).Query().Get("code")
	a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
	if len(g.tokens) != 0 {
		t.Error("GitHub gave a token for it")
	}
}

// What a login at GitHub does for other issuers' assertions and workloads stays as it is: they have
// keys.
func TestGitHubTenantsBelieveOtherIssuersStill(t *testing.T) {
	w, _ := newOctocat(t, "https://github.com", func(_ *octocat, w *world) {
		w.wiki.WorkloadIssuers = []string{"https://github.com repository=acme/wiki => mcp:read"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	r := newRequest(t, "POST", a.base+"/oauth/token", formType, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {unsignedJWT(t, "https://github.com")}}.Encode())
	if got := w.do(r); got.Status == 500 || got.Status == 200 {
		t.Errorf("%d %s", got.Status, got.Body)
	}
}

func unsignedJWT(t testing.TB, iss string) string {
	t.Helper()
	part := func(v any) string { return base64.RawURLEncoding.EncodeToString([]byte(mustJSON(t, v))) }
	return part(map[string]string{"alg": "RS256", "kid": "1"}) + "." + part(map[string]any{"iss": iss, "sub": "x"}) + "." + base64.RawURLEncoding.EncodeToString([]byte("signature"))
}

// docs/threats.md says what nothing takes the place of. With oauth2 nobody says whom a token was
// given to: one of another client is taken, where the token endpoint hands it out.
func TestOAuthTokenOfAnotherClientIsTaken(t *testing.T) {
	w, _ := newPlainOAuth(t, func(p *plainOAuth, _ *world) { p.answer = map[string]any{"access_token": "made-for-another-client"} })
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
}

// A rule names an organisation, and not whose it is today.
func TestGitHubOrganisationsAreNames(t *testing.T) {
	for _, id := range []int{7, 8} { // of two organisations that had the name one after the other
		w, _ := newOctocat(t, "https://github.com", func(g *octocat, w *world) {
			g.orgID, w.wiki.AllowedGroups = id, []string{"acme"}
		})
		w.register(w.wiki.PublicURL, nil).login()
	}
}

// A team without an organisation is nobody's, and least of all the organisation of its name.
func TestGitHubTeamOfNoOrganisationIsNoGroup(t *testing.T) {
	w, _ := newOctocat(t, "https://github.com", func(g *octocat, w *world) {
		g.orgs, g.teams, w.wiki.AllowedGroups = nil, []string{"/acme"}, []string{"acme", "acme/admins"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
}

// GitHub leaves out scopes that are part of others which were asked for beside them.
func TestGitHubLeavesOutScopesThatAreIncluded(t *testing.T) {
	for _, c := range []struct{ wanted, granted, want string }{
		{"repo public_repo security_events repo:status", "repo", "ok"},
		{"user read:user user:email", "user", "ok"},
		{"admin:org write:org read:org", "admin:org", "ok"},
		{"write:org read:org", "write:org", "ok"},
		{"project read:project", "project", "ok"},
		{"write:org", "read:org", "access_denied"},
		{"repo", "public_repo", "access_denied"},
		{"read:org", "repo,user,admin:repo_hook", "access_denied"},
		{"public_repo", "user", "access_denied"},
	} {
		w, _ := newOctocat(t, "https://github.com", func(g *octocat, w *world) {
			g.scopes, w.wiki.UpstreamToken = c.granted, []string{"scopes=" + c.wanted}
		})
		a := w.register(w.wiki.PublicURL, nil)
		if r := a.token(a.redemption(a.code())); outcome(r) != c.want {
			t.Errorf("asked for %s, granted %s: %s, want %s: %s", c.wanted, c.granted, outcome(r), c.want, w.log.last())
		}
	}
}

// What stands at a userinfo endpoint under the names of an id_token's claims is no word on how or
// when somebody signed in.
func TestOAuthProviderSaysNothingOfAuthentication(t *testing.T) {
	w, _ := newPlainOAuth(t, func(p *plainOAuth, w *world) {
		p.person["acr"], p.person["auth_time"] = "phr", w.clock.Now().Unix()
		w.wiki.AuthenticationRules = []string{"*=acr_values:phr max_age:300"}
	})
	a := w.register(w.wiki.PublicURL, nil)
	if r := a.token(a.redemption(a.code())); r.Status == 200 {
		t.Error("the member acr of userinfo opens what a strong login should")
	}
}

// GitHub is not asked to have somebody sign in again, and does not say when they did: auth_time is
// the time of the login here.
func TestGitHubSaysNothingOfAuthentication(t *testing.T) {
	w, g := newOctocat(t, "https://github.com", nil)
	a := w.register(w.wiki.PublicURL, nil)
	claims := w.verifiedToken(a.base, a.login("max_age", "60").text("access_token"), w.clock.Now())
	if claims["auth_time"] != float64(w.clock.Now().Unix()) || claims["acr"] != nil || claims["amr"] != nil {
		t.Errorf("the access token says %v; GitHub was asked with %v", claims, g.query)
	}
}

// GitHub writes commas between scopes. Those that the label upstreamToken asks for are found there,
// at the login and at each refresh; a login without them is refused.
func TestGitHubTokenHasItsScopesBetweenCommas(t *testing.T) {
	for scopes, want := range map[string]string{"read:user,repo,gist": "ok", "repo": "ok", "read:user,repo:status": "access_denied", "": "access_denied"} {
		w, _ := newOctocat(t, "https://github.com", func(g *octocat, w *world) {
			g.scopes, w.wiki.UpstreamToken = scopes, []string{"scopes=repo"}
		})
		a := w.register(w.wiki.PublicURL, nil)
		r := a.token(a.redemption(a.code()))
		if outcome(r) != want {
			t.Errorf("%q: %s, want %s", scopes, outcome(r), want)
		}
		if want != "ok" {
			continue
		}
		for range 2 {
			if claims := w.verifiedToken(w.wiki.PublicURL, r.wants(t, 200, "").text("access_token"), w.clock.Now()); claims["upstream_token"] == nil {
				t.Errorf("%q: %v", scopes, claims)
			}
			w.clock.Add(90 * time.Minute)
			r = a.token(a.refreshment(r.text("refresh_token")))
		}
	}
}

// What a server acts with at GitHub is what a login asks for there, also where the label scopes
// does not say it, and the consent page says all of it.
func TestConsentPageSaysAllThatAServerDoesAtGitHub(t *testing.T) {
	w, g := newOctocat(t, "https://github.com", func(g *octocat, w *world) {
		g.scopes, w.wiki.UpstreamToken = "repo,read:user,user:email", []string{"scopes=repo"}
		w.wiki.AllowedDomains = []string{"example.com"}
	})
	a, b := w.register(w.wiki.PublicURL, nil), issuertest.NewBrowser(t, w.net)
	page := b.Get(a.authorizeURL())
	code := b.Follow(b.Decide(page, "allow")).Query().Get("code")
	asked := g.query.Get("scope")
	if asked != "read:user user:email repo" {
		t.Errorf("GitHub is asked for %q", asked)
	}
	for scope := range strings.FieldsSeq(asked) {
		if !strings.Contains(page.Body, "<li>"+scope+"</li>") {
			t.Errorf("the page does not say %s: %s", scope, page.Body)
		}
	}
	if token, _ := w.upstreamToken(t, a.token(a.redemption(code)), w.hopKey); !g.tokens[token] {
		t.Errorf("the server gets %q", token)
	}
}
