package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest/github"
)

// recipeSections are the recipes of docs/recipes.md, by heading.
func recipeSections(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "recipes.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		sections[heading] = text
	}
	return sections
}

var (
	recipeBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	recipeLabel = regexp.MustCompile(`(?m)^…(\w+): "(.*)"$`)
)

// recipe returns the labels of a section's n-th example, as the page has them.
func recipe(t *testing.T, heading string, n int) map[string]string {
	t.Helper()
	blocks := recipeBlock.FindAllStringSubmatch(recipeSections(t)[heading], -1)
	if len(blocks) <= n {
		t.Fatalf("docs/recipes.md has %d examples under %q", len(blocks), heading)
	}
	labels := map[string]string{}
	for _, m := range recipeLabel.FindAllStringSubmatch(blocks[n][1], -1) {
		labels[m[1]] = m[2]
	}
	return labels
}

// The recipes for providers that cannot be had here log people in, with the labels of the page as
// they stand there and under the providers' own addresses: at imitations whose answers are those of
// the providers' documentation. They refresh, and what the page says of the end is so.
func TestRecipesLogPeopleIn(t *testing.T) {
	t.Parallel()
	com := func(kind github.Kind, id string) *github.Hub {
		return github.New(&github.Options{Kind: kind, ClientID: id, URL: "https://github.com", API: "https://api.github.com", Installed: []string{"acme"}}, github.Octocat())
	}
	oauthApp, gitHubApp := com(github.OAuthApp, "Ov23li0123456789abcd"), com(github.App, "Iv23li0123456789abcd")
	enterprise := github.New(&github.Options{URL: "https://github.example.com", API: "https://github.example.com/api/v3"}, github.Octocat())
	discord := rig.NewDiscord()
	gitLab := issuertest.NewProvider(t, &issuertest.Options{Issuer: "https://gitlab.example.com"})
	gitLab.Be(asGitLab())
	slack := issuertest.NewProvider(t, &issuertest.Options{Issuer: "https://slack.com"})
	slack.Be(asSlack())

	rows := []struct {
		name, heading    string
		hub              *github.Hub // nil: the others
		id, secret       string
		sub, mail, group string
		end              func()
		after            string // of the refresh after that
	}{
		{"github-app", "GitHub", gitHubApp, gitHubApp.ClientID, gitHubApp.ClientSecret, "583231", "", "acme", func() { gitHubApp.RevokeGrant("octocat") }, ended},
		{"github-oauth-app", "GitHub", oauthApp, oauthApp.ClientID, oauthApp.ClientSecret, "583231", "", "acme", func() { oauthApp.RevokeGrant("octocat") }, ended},
		{"github-enterprise", "GitHub Enterprise Server", enterprise, enterprise.ClientID, enterprise.ClientSecret, "583231", "", "acme", func() { enterprise.Leave("octocat", "acme") }, "`access_denied`"},
		{"gitlab", "GitLab", nil, gitLab.ClientID, gitLab.Secret, "42", "", "acme/wiki", func() { gitLab.EndLogins("person-1") }, ended},
		{"discord", "Discord", nil, discord.ClientID, discord.ClientSecret, "80351110224678912", "nelly@example.com", "", discord.Revoke, ended},
		{"slack", "Slack", nil, slack.ClientID, slack.Secret, "U0R7MFMJM", "", "T0RR", func() {}, goesOn},
	}
	imitated := map[string]bool{}
	o := rig.Options{Labels: map[string]string{}}
	for _, row := range rows {
		imitated[row.heading] = true
		labels := recipe(t, row.heading, 0)
		if len(labels) < 2 {
			t.Fatalf("%s: the page has the labels %v", row.heading, labels)
		}
		maps.Copy(labels, map[string]string{"clientID": row.id, "clientSecret": row.secret, "upstreamCheckInterval": "0s", "identityHeaders": "email, groups"})
		if labels["scopes"] == "" {
			labels["scopes"] = "" // those of the rig are for OpenID providers
		}
		o.More = append(o.More, row.name)
		for label, value := range labels {
			o.Labels[row.name+"/"+label] = value
		}
	}
	for heading, text := range recipeSections(t) {
		if strings.Contains(text, "\nImitated") != imitated[heading] {
			t.Errorf("docs/recipes.md, %s: it says Imitated, or is imitated here, and not both", heading)
		}
	}
	both := eitherHub(oauthApp, gitHubApp)
	web := rig.StartWeb(t, map[string]http.Handler{
		"github.com": both, "api.github.com": both, "github.example.com": enterprise, "discord.com": discord, "gitlab.example.com": gitLab, "slack.com": slack,
	})
	o.Sidecar = map[string]string{"HTTPS_PROXY": web.Proxy, "SSL_CERT_FILE": "/web.pem"}
	o.Image = map[string][]byte{"web.pem": web.Authority}
	w := rig.New(t, o)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			tn := w.More[row.name]
			c, b := tn.Client(), tn.Browser()
			if row.hub != nil {
				row.hub.Callback(tn.PublicHTTP() + "/oauth/callback")
				b.Username, b.Password = "octocat", row.hub.Password
			}
			b.Client.Transport = web.Beside(b.Client.Transport)
			f := c.Begin()
			back, err := b.Visit(t.Context(), f.URL, c.Redirect)
			if err != nil {
				t.Fatalf("%v\n%s", err, w.Logs.Tail("sidecar-a", 8)+w.Logs.Tail("sidecar-b", 8))
			}
			answer := c.Redeem(back.Query().Get("code"), f)
			if answer.Status != http.StatusOK {
				t.Fatalf("%s: %s\n%s", back.Query().Get("error"), answer, w.Logs.Tail("sidecar-a", 8)+w.Logs.Tail("sidecar-b", 8))
			}
			h := (&atGitHub{Tenant: tn}).headers(t, c, answer.Member("access_token"))
			groups := strings.Split(h.Get("X-Mcp-Groups"), ",")
			if h.Get("X-Mcp-Sub") != row.sub || row.mail != "" && h.Get("X-Mcp-Email") != row.mail || row.group != "" && !slices.Contains(groups, row.group) {
				t.Errorf("the MCP server saw %v", h)
			}
			refresh := answer.Member("refresh_token")
			use := func() string {
				answer := c.Refresh(refresh)
				if next := answer.Member("refresh_token"); next != "" {
					refresh = next
				}
				return cameOf(answer)
			}
			if came := use(); came != goesOn {
				t.Errorf("a refresh: %s\n%s", came, w.Logs.Tail("sidecar-a", 8)+w.Logs.Tail("sidecar-b", 8))
			}
			row.end()
			if came := use(); came != row.after {
				t.Errorf("after the end: %s, want %s\n%s", came, row.after, w.Logs.Tail("sidecar-a", 8)+w.Logs.Tail("sidecar-b", 8))
			}
		})
	}
}

// eitherHub is one GitHub with two apps: a request is for the one whose client id, code or token it
// holds.
func eitherHub(first, second *github.Hub) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		_, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		basic, _, _ := r.BasicAuth()
		back, _ := url.Parse(r.Form.Get("return_to"))
		if slices.Contains([]string{r.Form.Get("client_id"), basic, back.Query().Get("client_id")}, second.ClientID) || slices.Contains(second.Issued(), bearer) {
			second.ServeHTTP(w, r)
			return
		}
		first.ServeHTTP(w, r)
	})
}

// asGitLab is GitLab as
// https://docs.gitlab.com/integration/openid_connect_provider/#shared-information has it: groups
// stand at userinfo, with those above and below them, and groups_direct in the id_token. Endpoints
// and refresh tokens are those of the library that it is built on.
func asGitLab() issuertest.Behaviour {
	b := issuertest.Manners["Doorkeeper 5.5"]
	b.Claims = func(m map[string]any) {
		maps.Copy(m, map[string]any{
			"sub": "42", "name": "Ada", "nickname": "ada", "preferred_username": "ada", "email": "ada@example.com", "email_verified": true,
			"profile": "https://gitlab.example.com/ada", "groups_direct": []string{"acme/wiki"}, "auth_time": m["iat"],
		})
	}
	b.UserInfo = map[string]any{
		"sub": "42", "sub_legacy": "f1d2", "name": "Ada", "nickname": "ada", "email": "ada@example.com", "email_verified": true,
		"groups": []string{"acme/wiki", "acme/wiki/secret"},
	}
	return b
}

// asSlack is Slack as https://docs.slack.dev/reference/methods/openid.connect.token and
// https://docs.slack.dev/authentication/sign-in-with-slack have it: each answer has a member ok,
// and there is no refresh token unless token rotation is on.
func asSlack() issuertest.Behaviour {
	person := map[string]any{
		"ok": true, "sub": "U0R7MFMJM", "https://slack.com/user_id": "U0R7MFMJM", "https://slack.com/team_id": "T0RR", "email": "bront@example.com",
		"email_verified": true, "date_email_verified": 1622128723, "locale": "en-US", "name": "brent", "given_name": "", "family_name": "",
	}
	return issuertest.Behaviour{
		Endpoints: map[string]string{"/authorize": "/openid/connect/authorize", "/token": "/api/openid.connect.token", "/keys": "/openid/connect/keys", "/userinfo": "/api/openid.connect.userInfo"},
		Refresh:   "none", Answer: map[string]any{"ok": true, "token_type": "Bearer"}, UserInfo: person,
		Claims: func(m map[string]any) {
			delete(m, "groups")
			maps.Copy(m, person)
			delete(m, "ok")
		},
	}
}

// The labels for Gitea without OpenID Connect are those with which TestWholeProviders measures it.
func TestRecipeOfGiteaIsTheOneThatWasMeasured(t *testing.T) {
	t.Parallel()
	page := recipe(t, "Gitea and Forgejo", 1)
	scopes, groups := page["scopes"], page["allowedGroups"]
	delete(page, "scopes")
	delete(page, "allowedGroups")
	measured := rig.GiteaByOAuth(page["providerIssuer"])
	measured["providerIssuer"] = "https://gitea.example.com"
	if !maps.Equal(page, measured) || scopes != rig.GiteaScope || !strings.HasPrefix(groups, "acme:") {
		t.Errorf("the page has %v, %q, and %v, %q were measured", page, scopes, measured, rig.GiteaScope)
	}
}
