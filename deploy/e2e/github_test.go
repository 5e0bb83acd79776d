package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest/github"
)

// atGitHub is an MCP server of its own behind Traefik, at which people log in with GitHub.
type atGitHub struct {
	*rig.Tenant
	hub *github.Hub
	w   *rig.World
}

// githubRow is such a server, what is registered at GitHub for it, and its labels.
type githubRow struct {
	name   string
	app    github.Options
	person github.Person // Octocat if it has no login
	labels map[string]string
}

// githubWorld starts one installation with a server for each row. Each has a GitHub Enterprise
// Server of its own; github.com itself is in TestRecipesLogPeopleIn.
func githubWorld(t *testing.T, o rig.Options, rows ...githubRow) map[string]*atGitHub {
	t.Helper()
	// Traefik logs labels at level DEBUG, so that they must not hold secrets.
	o.Labels, o.Sidecar = map[string]string{}, map[string]string{}
	hubs := map[string]*github.Hub{}
	for i, row := range rows {
		if row.person.Login == "" {
			row.person = github.Octocat()
		}
		hub := github.Start(t, &row.app, row.person)
		hubs[row.name] = hub
		o.More = append(o.More, row.name)
		secret := fmt.Sprintf("HUB_%d_CLIENT_SECRET", i)
		o.Sidecar[secret] = hub.ClientSecret
		labels := map[string]string{
			"providerIssuer": hub.URL, "providerType": "github", "clientID": hub.ClientID, "clientSecret": "env:" + secret, "scopes": "read:user user:email read:org",
			"upstreamCheckInterval": "0s", "identityHeaders": "email, groups, name",
		}
		maps.Copy(labels, row.labels)
		for label, value := range labels {
			o.Labels[row.name+"/"+label] = value
		}
	}
	w := rig.New(t, o)
	all := map[string]*atGitHub{}
	for name, hub := range hubs {
		tn := w.More[name]
		hub.Callback(tn.PublicHTTP() + "/oauth/callback")
		tn.Provider = &rig.Provider{Name: "github", Issuer: hub.URL, Username: "octocat", Password: hub.Password}
		all[name] = &atGitHub{tn, hub, w}
	}
	t.Cleanup(func() {
		n := 0
		for name, at := range all {
			for _, value := range append(at.hub.Issued(), at.hub.ClientSecret, at.hub.Password) {
				w.Secrets.Add(name+"'s secret of GitHub", value)
				n++
			}
		}
		text := w.Logs.Text("traefik") + w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b")
		if n < 3*len(all) || len(text) < 1000 {
			t.Errorf("%d secrets and %d bytes of logs prove nothing", n, len(text))
		}
		for _, found := range w.Secrets.In(text) {
			t.Errorf("a log holds a %s", found)
		}
	})
	return all
}

// sidecars returns what both sidecars have logged.
func (at *atGitHub) sidecars() string {
	return at.w.Logs.Text("sidecar-a") + at.w.Logs.Text("sidecar-b")
}

// login takes octocat to tokens, or to the error that the client gets.
func (at *atGitHub) login(t *testing.T) (*rig.OAuthClient, *rig.Answer) {
	t.Helper()
	c := at.Client()
	f := c.Begin()
	back, err := at.Browser().Visit(t.Context(), f.URL, c.Redirect)
	if err != nil {
		return c, &rig.Answer{Status: 0, Body: err.Error()}
	}
	if back.Query().Get("code") == "" {
		members, _ := json.Marshal(map[string]string{"error": back.Query().Get("error"), "error_description": back.Query().Get("error_description")})
		return c, &rig.Answer{Status: http.StatusBadRequest, Body: string(members)}
	}
	return c, c.Redeem(back.Query().Get("code"), f)
}

// headers returns what the MCP server sees of a caller.
func (at *atGitHub) headers(t *testing.T, c *rig.OAuthClient, access string) http.Header {
	t.Helper()
	if reached := c.Get("/whoami", access); reached.Status != http.StatusOK {
		t.Errorf("%s: whoami %s", at.Name, reached)
		return http.Header{}
	}
	// All tenants have one MCP server, and no other asks for this path at the same time.
	seen := at.MCP.Requests(at.Name + "/whoami")
	return seen[len(seen)-1].Header
}

// People of GitHub come in by the numeric id, by a verified address, by organisation and by team,
// and nobody else does. Each server behind real Traefik has its rule, and its own app at GitHub.
func TestGitHubDecidesWhoComesIn(t *testing.T) {
	t.Parallel()
	profile := github.Octocat()
	profile.Public = "ceo@example.net" // nobody has verified it
	renamed := github.Octocat()
	renamed.Orgs, renamed.Teams = []string{"acme-fake"}, []string{"acme-fake/admins"}
	many := github.Octocat()
	many.Teams, many.Orgs = nil, nil
	for i := range 150 { // more than a page of any size
		many.Orgs = append(many.Orgs, fmt.Sprintf("org-%03d", i))
		many.Teams = append(many.Teams, fmt.Sprintf("org-%03d/crew", i))
	}
	installed := github.Options{Kind: github.App, Installed: []string{"acme"}}
	cases := []struct {
		githubRow
		refused string // the label that the log names; empty: admitted
		groups  string // that the MCP server sees
	}{
		{githubRow{name: "hub-email", labels: map[string]string{"allowedEmails": "Octocat@example.com"}}, "", ""},
		{githubRow{name: "hub-domain", labels: map[string]string{"allowedDomains": "example.com"}}, "", ""},
		{githubRow{name: "hub-unverified", labels: map[string]string{"allowedEmails": "someone.else@example.org"}}, "allowedEmails", ""},
		{githubRow{name: "hub-profile", person: profile, labels: map[string]string{"allowedEmails": "ceo@example.net"}}, "allowedEmails", ""},
		{githubRow{name: "hub-id", labels: map[string]string{"allowedSubjects": "583231"}}, "", ""},
		{githubRow{name: "hub-name", labels: map[string]string{"allowedSubjects": "octocat"}}, "allowedSubjects", ""},
		{githubRow{name: "hub-org", labels: map[string]string{"allowedGroups": "acme"}}, "", "acme,acme/admins"},
		{githubRow{name: "hub-team", labels: map[string]string{"allowedGroups": "acme/admins"}}, "", "acme/admins,acme"},
		{githubRow{name: "hub-other-team", labels: map[string]string{"allowedGroups": "acme/owners"}}, "allowedGroups", ""},
		{githubRow{name: "hub-other-org", person: renamed, labels: map[string]string{"allowedGroups": "acme, acme/admins, admins"}}, "allowedGroups", ""},
		{githubRow{name: "hub-closed", app: github.Options{Closed: []string{"acme"}}, labels: map[string]string{"allowedGroups": "acme"}}, "allowedGroups", ""},
		{githubRow{name: "hub-last-page", person: many, labels: map[string]string{"allowedGroups": "org-149/crew"}}, "", ""},
		{githubRow{name: "hub-app", app: installed, labels: map[string]string{"allowedGroups": "acme/admins", "allowedEmails": "octocat@example.com"}}, "", "acme/admins,acme"},
		{githubRow{name: "hub-app-elsewhere", app: github.Options{Kind: github.App, Installed: []string{"other"}}, labels: map[string]string{"allowedGroups": "acme"}}, "allowedGroups", ""},
		{githubRow{name: "hub-lasting", app: github.Options{Kind: github.LastingApp, Installed: []string{"acme"}}, labels: map[string]string{"allowedGroups": "acme"}}, "", "acme,acme/admins"},
		{githubRow{name: "hub-granted", labels: map[string]string{"requiredScopes": "read:org"}}, "", ""},
		{githubRow{name: "hub-scopes", labels: map[string]string{"scopeRules": "group:acme/admins=wiki:write wiki:read; *=wiki:read"}}, "", ""},
	}
	var rows []githubRow
	for _, c := range cases {
		rows = append(rows, c.githubRow)
	}
	all := githubWorld(t, rig.Options{}, rows...)
	for _, row := range cases {
		t.Run(row.name, func(t *testing.T) {
			at := all[row.name]
			c, answer := at.login(t)
			if row.refused != "" {
				if answer.Status != http.StatusBadRequest || answer.Member("error") != "access_denied" {
					t.Errorf("the client got %s, want access_denied", answer)
				}
				if !strings.Contains(at.sidecars(), "not admitted by the label "+row.refused+":") {
					t.Errorf("no log names %s", row.refused)
				}
				return
			}
			if answer.Status != http.StatusOK {
				t.Fatalf("%s\n%s", answer, at.w.Logs.Tail("sidecar-a", 8)+at.w.Logs.Tail("sidecar-b", 8))
			}
			h := at.headers(t, c, answer.Member("access_token"))
			if h.Get("X-Mcp-Sub") != "583231" || h.Get("X-Mcp-Email") != "octocat@example.com" || h.Get("Authorization") != "" {
				t.Errorf("the MCP server saw %v", h)
			}
			if row.groups != "" && h.Get("X-Mcp-Groups") != row.groups {
				t.Errorf("the MCP server saw the groups %q, want %q", h.Get("X-Mcp-Groups"), row.groups)
			}
			if row.name == "hub-scopes" && h.Get("X-Mcp-Scopes") != "wiki:write wiki:read" {
				t.Errorf("the MCP server saw the scopes %q", h.Get("X-Mcp-Scopes"))
			}
			for _, seen := range at.hub.Seen(0) {
				if seen.Path == "/login/oauth/authorize" && seen.Method == http.MethodGet && (seen.Form.Get("code_challenge_method") != "S256" || seen.Form.Get("code_challenge") == "" || seen.Form.Get("state") == "") {
					t.Errorf("asked without PKCE or state: %v", seen.Form)
				}
			}
		})
	}
}

// The Go SDK finds its way to GitHub by itself, calls a tool, and refreshes.
func TestGitHubLoginOfTheGoSDK(t *testing.T) {
	t.Parallel()
	all := githubWorld(t, rig.Options{}, githubRow{name: "hub-sdk", labels: map[string]string{"allowedGroups": "acme"}},
		githubRow{name: "hub-sdk-app", app: github.Options{Kind: github.App, Installed: []string{"acme"}}, labels: map[string]string{"allowedGroups": "acme"}})
	for _, at := range all {
		session, _, err := at.DialMCP(t.Context(), at.PublicHTTP())
		if err != nil {
			t.Fatalf("%s: %v", at.Name, err)
		}
		defer session.Close()
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
		if err != nil {
			t.Fatalf("%s: %v", at.Name, err)
		}
		who, _ := json.Marshal(result.StructuredContent)
		if !strings.Contains(string(who), `"583231"`) {
			t.Errorf("%s: whoami %s", at.Name, who)
		}
	}
}

// What may happen to a login after it was made, at both kinds of apps. The provider is asked at
// every refresh.
func TestGitHubEndsLogins(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		name string
		app  github.Options
	}{{"oauth-app", github.Options{}}, {"github-app", github.Options{Kind: github.App, Installed: []string{"acme"}}}}
	events := []struct {
		name  string
		do    func(h *github.Hub)
		came  string // of the next refresh; "" where the kinds of apps differ
		undo  func(h *github.Hub)
		later string // and of the one after that
	}{
		{"nothing", nil, goesOn, nil, goesOn},
		{"tokens-revoked", func(h *github.Hub) { h.RevokeTokens("octocat") }, ended, nil, ended},
		{"suspended", func(h *github.Hub) { h.Suspend("octocat", true) }, "", nil, ""},
		{"grant-revoked", func(h *github.Hub) { h.RevokeGrant("octocat") }, ended, nil, ended},
		{"left-acme", func(h *github.Hub) { h.Leave("octocat", "acme") }, "`access_denied`", func(h *github.Hub) {
			h.Change("octocat", func(p *github.Person) { p.Orgs = []string{"acme"} })
		}, goesOn},
		{"another-person", func(h *github.Hub) { h.Change("octocat", func(p *github.Person) { p.ID = 1 }) }, "`access_denied`", nil, ended},
		{"limited-403", func(h *github.Hub) { h.Exceed(403, github.Primary, time.Hour) }, bridged, func(h *github.Hub) { h.Exceed(0, 0, 0) }, goesOn},
		{"limited-429", func(h *github.Hub) { h.Exceed(429, github.Primary, time.Hour) }, bridged, func(h *github.Hub) { h.Exceed(0, 0, 0) }, goesOn},
		{"secondary-403", func(h *github.Hub) { h.Exceed(403, github.Secondary, time.Minute) }, bridged, func(h *github.Hub) { h.Exceed(0, 0, 0) }, goesOn},
		// Not the word that this token may not list organisations, which has the same status.
		{"limited-lists", func(h *github.Hub) { h.Instead(limitedLists) }, bridged, func(h *github.Hub) { h.Instead(nil) }, goesOn},
		{"fails-500", func(h *github.Hub) { h.Instead(answers(500, `{"message":"Server Error"}`)) }, bridged, func(h *github.Hub) { h.Instead(nil) }, goesOn},
		{"fails-502", func(h *github.Hub) { h.Instead(answers(502, "<html>unicorn</html>")) }, bridged, func(h *github.Hub) { h.Instead(nil) }, goesOn},
	}
	var rows []githubRow
	for _, kind := range kinds {
		for _, event := range events {
			rows = append(rows, githubRow{name: kind.name + "-" + event.name, app: kind.app, labels: map[string]string{"allowedGroups": "acme"}})
		}
	}
	all := githubWorld(t, rig.Options{Clocks: true}, rows...)
	// A refusal keeps GitHub's new refresh token in the memory of one sidecar.
	for _, at := range all {
		at.w.Front.Only("sidecar-a")
	}
	// By less than the five minutes that the plugin's clock may be behind.
	ahead := time.Duration(0)
	setClocks := func() {
		for _, at := range all {
			for _, r := range at.w.Replicas { // all have the same ones
				r.SetClock(ahead)
			}
			return
		}
	}
	for _, kind := range kinds {
		ahead = 0
		setClocks()
		for _, event := range events {
			t.Run(kind.name+"-"+event.name, func(t *testing.T) {
				at := all[kind.name+"-"+event.name]
				c, answer := at.login(t)
				if answer.Status != http.StatusOK {
					t.Fatalf("login: %s\n%s", answer, at.w.Logs.Tail("sidecar-a", 8)+at.w.Logs.Tail("sidecar-b", 8))
				}
				refresh := answer.Member("refresh_token")
				use := func() string {
					answer := c.Refresh(refresh)
					if next := answer.Member("refresh_token"); next != "" {
						refresh = next
					}
					if answer.Status == http.StatusOK && at.headers(t, c, answer.Member("access_token")).Get("X-Mcp-Sub") != "583231" {
						t.Errorf("the MCP server saw somebody else")
					}
					return cameOf(answer)
				}
				if event.do != nil {
					event.do(at.hub)
				}
				want, later := event.came, event.later
				if want == "" { // an OAuth app learns it by 403, which ends a login after two hours
					want = map[string]string{"oauth-app": bridged, "github-app": ended}[kind.name]
					later = want
				}
				if event.name == "left-acme" && kind.name == "github-app" {
					later = ended // its new refresh token was kept for that minute
				}
				if came := use(); came != want {
					t.Errorf("the next refresh: %s, want %s\n%s", came, want, at.w.Logs.Tail("sidecar-a", 8)+at.w.Logs.Tail("sidecar-b", 8))
				}
				if event.undo != nil {
					event.undo(at.hub)
				}
				switch {
				case want == bridged && event.name != "limited-lists": // the pause after a silence
					ahead += 11 * time.Second
				case event.undo != nil: // what GitHub said stands for a minute
					ahead += 61 * time.Second
				}
				setClocks()
				if came := use(); came != later {
					t.Errorf("the refresh after that: %s, want %s\n%s", came, later, at.w.Logs.Tail("sidecar-a", 8)+at.w.Logs.Tail("sidecar-b", 8))
				}
			})
		}
	}
}

// GitHub keeps ten tokens of an OAuth app for each person. So the eleventh login ends the first
// one, and no other; a GitHub App knows no such limit.
func TestGitHubKeepsTenLoginsOfAnOAuthApp(t *testing.T) {
	t.Parallel()
	at := githubWorld(t, rig.Options{}, githubRow{name: "hub-eleven"})["hub-eleven"]
	type login struct {
		c       *rig.OAuthClient
		refresh string
	}
	var all []login
	for range 11 {
		c, answer := at.login(t)
		all = append(all, login{c, answer.Member("refresh_token")})
	}
	var came []string
	for _, l := range []login{all[0], all[1], all[10]} {
		came = append(came, cameOf(l.c.Refresh(l.refresh)))
	}
	if got := strings.Join(came, ", "); got != strings.Join([]string{ended, goesOn, goesOn}, ", ") {
		t.Errorf("the first, second and eleventh login: %s", got)
	}
}

// limitedLists is for Hub.Instead.
func limitedLists(r *http.Request) http.Handler {
	if !strings.HasSuffix(r.URL.Path, "/user/orgs") {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-ratelimit-remaining", "0")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"API rate limit exceeded for user ID 583231."}`)
	})
}

// answers is for Hub.Instead.
func answers(status int, body string) func(*http.Request) http.Handler {
	return func(*http.Request) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
}

// Errors of GitHub's token endpoint come with the status 200. Each is read as what it is: a code or
// refresh token that is worth nothing ends in invalid_grant, and what the operator must mend is
// named in the log and ends no login.
func TestGitHubErrorsAreRead(t *testing.T) {
	t.Parallel()
	refused := func(name string) func(r *http.Request) http.Handler {
		return func(r *http.Request) http.Handler {
			if r.URL.Path != "/login/oauth/access_token" {
				return nil
			}
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.Header.Get("Accept"), "application/json") {
					w.Header().Set("Content-Type", "application/json; charset=utf-8")
					fmt.Fprintf(w, `{"error":%q,"error_description":"said the imitation","error_uri":"https://docs.github.com/x"}`, name)
					return
				}
				w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
				fmt.Fprintf(w, "error=%s&error_description=said+the+imitation&error_uri=https%%3A%%2F%%2Fdocs.github.com%%2Fx", name)
			})
		}
	}
	app := github.Options{Kind: github.App}
	cases := []struct {
		name   string
		app    github.Options
		after  bool // the login: the error is that of a refresh
		error  string
		client string // what comes of it
		logs   string
	}{
		{"code", github.Options{}, false, "bad_verification_code", "`invalid_grant`", "bad_verification_code"},
		{"secret", github.Options{}, false, "incorrect_client_credentials", "500 `server_error`", "clientSecret"},
		{"callback", github.Options{}, false, "redirect_uri_mismatch", "500 `server_error`", "redirect_uri_mismatch"},
		{"refresh", app, true, "bad_refresh_token", ended, "bad_refresh_token"},
		{"refresh-secret", app, true, "incorrect_client_credentials", bridged, "clientSecret"},
	}
	var rows []githubRow
	for _, c := range cases {
		rows = append(rows, githubRow{name: "hub-error-" + c.name, app: c.app})
	}
	all := githubWorld(t, rig.Options{}, rows...)
	for _, row := range cases {
		t.Run(row.name, func(t *testing.T) {
			at := all["hub-error-"+row.name]
			if !row.after {
				at.hub.Instead(refused(row.error))
			}
			c, answer := at.login(t)
			if row.after {
				if answer.Status != http.StatusOK {
					t.Fatalf("login: %s", answer)
				}
				at.hub.Instead(refused(row.error))
				refresh := answer.Member("refresh_token")
				answer = c.Refresh(refresh)
				if next := answer.Member("refresh_token"); next != "" {
					refresh = next
				}
				at.hub.Instead(nil)
				if came := cameOf(c.Refresh(refresh)); row.client == bridged && came != goesOn {
					t.Errorf("when GitHub answers again: %s", came)
				}
			}
			if came := cameOf(answer); came != row.client {
				t.Errorf("the client got %s, want %s", answer, row.client)
			}
			if log := at.sidecars(); !strings.Contains(log, row.logs) {
				t.Errorf("the log does not say %s:\n%s", row.logs, at.w.Logs.Tail("sidecar-a", 8)+at.w.Logs.Tail("sidecar-b", 8))
			}
		})
	}
}

// A secret that was replaced at GitHub is the operator's fault: nobody's login ends by it.
func TestGitHubSecretThatWasReplaced(t *testing.T) {
	t.Parallel()
	at := githubWorld(t, rig.Options{}, githubRow{name: "hub-rotated", app: github.Options{Kind: github.App}})["hub-rotated"]
	c, answer := at.login(t)
	if answer.Status != http.StatusOK {
		t.Fatalf("login: %s", answer)
	}
	at.w.Secrets.Add("client secret of before", at.hub.ClientSecret)
	at.hub.Rotate()
	if came := cameOf(c.Refresh(answer.Member("refresh_token"))); came != bridged {
		t.Errorf("a refresh with the old secret: %s, want %s", came, bridged)
	}
	if _, answer := at.login(t); cameOf(answer) != "500 `server_error`" {
		t.Errorf("a login with the old secret: %s", answer)
	}
	if log := at.sidecars(); !strings.Contains(log, "clientSecret") {
		t.Errorf("the log does not name the label:\n%s", at.w.Logs.Tail("sidecar-a", 8))
	}
}

// Who cancels at GitHub, or has verified no address there, does not come in, and is told so.
func TestGitHubRefusesPeople(t *testing.T) {
	t.Parallel()
	unverified := github.Octocat()
	unverified.Emails = []github.Email{{Email: "octocat@example.com", Primary: true}}
	all := githubWorld(t, rig.Options{}, githubRow{name: "hub-cancel"}, githubRow{name: "hub-new", person: unverified})
	all["hub-cancel"].hub.Deny(true)
	for name, want := range map[string]string{"hub-cancel": "access_denied", "hub-new": "unverified_user_email"} {
		at := all[name]
		_, answer := at.login(t)
		if answer.Status == http.StatusOK {
			t.Errorf("%s: came in", name)
		}
		if name == "hub-cancel" && answer.Member("error") != want {
			t.Errorf("%s: the client got %s", name, answer)
		}
		if log := at.sidecars(); name == "hub-new" && !strings.Contains(log, want) {
			t.Errorf("%s: no log says %s", name, want)
		}
	}
}

// People can edit the scopes at GitHub. One who does not let their organisations be read is in
// none, and the log says what is missing.
func TestGitHubGrantsLess(t *testing.T) {
	t.Parallel()
	at := githubWorld(t, rig.Options{}, githubRow{name: "hub-less", labels: map[string]string{"allowedGroups": "acme"}})["hub-less"]
	at.hub.Edit(func(asked []string) []string {
		return slices.DeleteFunc(asked, func(scope string) bool { return scope == "read:org" })
	})
	if _, answer := at.login(t); cameOf(answer) != "`access_denied`" {
		t.Errorf("without read:org: %s", answer)
	}
	if log := at.sidecars(); !strings.Contains(log, "not admitted by the label allowedGroups:") || !strings.Contains(log, "read:org") {
		t.Errorf("the log does not say what is missing:\n%s", at.w.Logs.Tail("sidecar-a", 4)+at.w.Logs.Tail("sidecar-b", 4))
	}
	at.hub.Edit(nil)
	at.hub.RevokeGrant("octocat")
	if _, answer := at.login(t); answer.Status != http.StatusOK {
		t.Errorf("with it: %s", answer)
	}
}

// Who is signed in at GitHub with an account that is not admitted can use another one: the next
// time GitHub is asked to let them choose. By itself it would send back the same one.
func TestGitHubAnotherAccount(t *testing.T) {
	t.Parallel()
	at := githubWorld(t, rig.Options{}, githubRow{name: "hub-another", labels: map[string]string{"allowedSubjects": "99"}})["hub-another"]
	at.hub.Add(github.Person{ID: 99, Login: "hubot", Emails: []github.Email{{Email: "hubot@example.com", Primary: true, Verified: true}}})
	c, b := at.Client(), at.Browser()
	visit := func() (*rig.Flow, url.Values) {
		f := c.Begin()
		back, err := b.Visit(t.Context(), f.URL, c.Redirect)
		if err != nil {
			t.Fatalf("%v\n%s", err, at.w.Logs.Tail("sidecar-a", 6)+at.w.Logs.Tail("sidecar-b", 6))
		}
		return f, back.Query()
	}
	if _, back := visit(); back.Get("error") != "access_denied" {
		t.Errorf("octocat came back with %v", back)
	}
	b.Username = "hubot" // types that where GitHub asks who they are
	f, back := visit()
	answer := c.Redeem(back.Get("code"), f)
	if answer.Status != http.StatusOK || at.headers(t, c, answer.Member("access_token")).Get("X-Mcp-Sub") != "99" {
		t.Errorf("hubot came back with %q, then %s\n%s", back.Get("error"), answer, strings.Join(b.Steps, "\n"))
	}
	var prompts []string
	for _, seen := range at.hub.Seen(0) {
		if seen.Path == "/login/oauth/authorize" && seen.Method == http.MethodGet && seen.Form.Get("picked") == "" {
			prompts = append(prompts, seen.Form.Get("prompt"))
		}
	}
	if !slices.Equal(prompts, []string{"", "select_account"}) {
		t.Errorf("GitHub was asked with prompt %q", prompts)
	}
}

// An MCP server gets GitHub's access token and acts there for the person, through a refresh. The
// client never sees it, and no log holds it.
func TestGitHubTokenForTheServerBehind(t *testing.T) {
	t.Parallel()
	label := map[string]string{"upstreamToken": "header=X-GitHub-Token; scopes=repo", "scopes": "read:user"}
	all := githubWorld(t, rig.Options{}, githubRow{name: "hub-acts", labels: label}, githubRow{name: "hub-app-acts", app: github.Options{Kind: github.App}, labels: map[string]string{
		// Its permissions say what the token may do.
		"upstreamToken": "header=X-GitHub-Token",
	}})
	for name, at := range all {
		// The guard keeps what was learnt until the client's token request, each replica for
		// itself.
		at.w.Front.Only("sidecar-a")
		c, answer := at.login(t)
		if answer.Status != http.StatusOK {
			t.Fatalf("%s: %s\n%s", name, answer, at.w.Logs.Tail("sidecar-a", 6)+at.w.Logs.Tail("sidecar-b", 6))
		}
		var used []string
		for range 2 {
			token := at.headers(t, c, answer.Member("access_token")).Get("X-GitHub-Token")
			used = append(used, token)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.hub.URL+"/api/v3/user", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !slices.Contains(at.hub.Issued(), token) {
				t.Errorf("%s: with the token of the header GitHub answers %s", name, resp.Status)
			}
			if scopes := resp.Header.Get("X-OAuth-Scopes"); name == "hub-acts" && scopes != "read:user, repo" {
				t.Errorf("%s: the token has the scopes %q", name, scopes)
			}
			if strings.Contains(answer.Body, token) {
				t.Errorf("%s: the client sees GitHub's token", name)
			}
			if answer = c.Refresh(answer.Member("refresh_token")); answer.Status != http.StatusOK {
				t.Fatalf("%s: refresh: %s\n%s", name, answer, at.w.Logs.Tail("sidecar-a", 6)+at.w.Logs.Tail("sidecar-b", 6))
			}
		}
		if (used[0] == used[1]) != (name == "hub-acts") {
			t.Errorf("%s: the tokens were the same: %v", name, used[0] == used[1])
		}
	}
}
