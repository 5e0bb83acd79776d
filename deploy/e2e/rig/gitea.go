package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// StartGiteaByOAuth is StartGitea for those who know nothing of OpenID Connect.
func StartGiteaByOAuth(t T, logs *Logs, redirect string) *RealProvider {
	p := StartGitea(t, logs, redirect)
	p.Name += ", by OAuth 2.0"
	p.Scopes, p.OAuth = GiteaScope, GiteaByOAuth(p.Issuer)
	return p
}

// GiteaScope is the least that a token of Gitea's can be given. One without such a scope may do
// whatever the person may.
const GiteaScope = "read:user"

// GiteaByOAuth are the labels of docs/recipes.md for the Gitea at an address.
func GiteaByOAuth(issuer string) map[string]string {
	return map[string]string{
		"providerType": "oauth2", "authorizationEndpoint": issuer + "/login/oauth/authorize", "tokenEndpoint": issuer + "/login/oauth/access_token",
		"userinfoEndpoint": issuer + "/login/oauth/userinfo", "claimNames": "sub=sub, name=preferred_username",
	}
}

// giteaLeaver is one more person of Gitea's.
const giteaLeaver = "erika"

var giteaRevoke = regexp.MustCompile(`/user/settings/applications/oauth2/\d+/revoke/\d+`)

// revokeAtGitea is what a person does under Settings → Applications → Authorized OAuth2
// Applications.
func revokeAtGitea(t T, p *RealProvider, user string) {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar}
	send := func(method, path string, form url.Values) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, p.Issuer+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatalf("rig: %v", err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatalf("rig: %s: %v", path, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("rig: %s: %s %v", path, resp.Status, err)
		}
		return string(body)
	}
	send(http.MethodPost, "/user/login", url.Values{"user_name": {user}, "password": {Password}})
	path := giteaRevoke.FindString(send(http.MethodGet, "/user/settings/applications", nil))
	if path == "" {
		t.Fatalf("rig: %s has authorized nothing at Gitea", user)
	}
	send(http.MethodPost, path, url.Values{"id": {path[strings.LastIndexByte(path, '/')+1:]}})
}

// StartGitea starts Gitea with SQLite and its own login.
func StartGitea(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "Gitea 1.26.0", "/login/oauth/access_token")
	p.Scopes, p.Groups = "openid email profile groups", "acme:admins"
	p.Advice = "`INVALIDATE_REFRESH_TOKENS`, against thieves"
	dir := t.TempDir()
	_, port, _ := strings.Cut(p.Backend, ":")
	source, err := exec.Command("go", "-C", filepath.Join(Root(), "deploy", "e2e", "gitea"), "list", "-m", "-f", "{{.Dir}}", "code.gitea.io/gitea").Output()
	if err != nil {
		t.Fatalf("rig: where Gitea's templates are: %v", err)
	}
	config := writeFile(t, filepath.Join(dir, "app.ini"), fmt.Sprintf(`APP_NAME = Gitea
RUN_MODE = prod
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
WORK_PATH = %s
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %s
ROOT_URL = %s/
DISABLE_SSH = true
OFFLINE_MODE = true
STATIC_ROOT_PATH = %s
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = %s/gitea.db
SQLITE_JOURNAL_MODE = WAL
[security]
INSTALL_LOCK = true
SECRET_KEY = a-secret-for-a-test-alone
INTERNAL_TOKEN = eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJuYmYiOjE3MDAwMDAwMDB9.x
PASSWORD_HASH_ALGO = argon2
[oauth2]
JWT_SECRET = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
[cron.update_checker]
ENABLED = false
[log]
LEVEL = Warn
[mailer]
ENABLED = false
[picture]
DISABLE_GRAVATAR = true
`, dir, port, p.Issuer, strings.TrimSpace(string(source)), dir))
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=root"}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(Tool(t, "gitea"), append([]string{"-c", config}, args...)...)
		cmd.Dir, cmd.Env = dir, env
		return cmd
	}
	for _, user := range append([]string{"boss", giteaLeaver}, Users...) {
		if user == "boss" { // the first command makes the database
			if out, err := run("migrate").CombinedOutput(); err != nil {
				t.Fatalf("rig: gitea migrate: %v\n%s", err, out)
			}
		}
		args := []string{"admin", "user", "create", "--username", user, "--password", Password, "--email", Address(user), "--must-change-password=false"}
		if user == "boss" {
			args = append(args, "--admin")
		}
		if out, err := run(args...).CombinedOutput(); err != nil {
			t.Fatalf("rig: gitea admin user create: %v\n%s", err, out)
		}
	}
	p.runs(t, logs, "/api/healthz", func() *Process { return StartProcess(t, logs, "gitea", run("web")) })
	api := func(method, path string, body any) []byte {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth("boss", Password)
		return administer(t, http.DefaultClient, method, "http://"+p.Backend+"/api/v1"+path, body, r.Header)
	}
	api(http.MethodPost, "/orgs", map[string]any{"username": "acme"})
	var team struct{ ID int }
	_ = json.Unmarshal(api(http.MethodPost, "/orgs/acme/teams", map[string]any{"name": "admins", "permission": "read", "units": []string{"repo.code"}, "includes_all_repositories": true}), &team)
	api(http.MethodPut, fmt.Sprintf("/teams/%d/members/%s", team.ID, Users[0]), nil)
	var app struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	_ = json.Unmarshal(api(http.MethodPost, "/user/applications/oauth2", map[string]any{"name": "mcp", "redirect_uris": []string{redirect}, "confidential_client": true}), &app)
	// It makes the secrets itself, and takes them in either way.
	p.Clients = map[string]Client{BasicClient: {app.ID, app.Secret}}
	p.Prepare = func(b *Browser) {
		b.Fill = map[string]string{"user_name": b.Username, "password": b.Password, "granted": "true"}
		b.Form = func(action string) bool {
			return strings.Contains(action, "/login") || strings.Contains(action, "/wiki/") || strings.Contains(action, "/oauth/")
		}
	}
	change := func(user string, what map[string]any) func() {
		return func() {
			body := map[string]any{"source_id": 0, "login_name": user}
			for k, v := range what {
				body[k] = v
			}
			api(http.MethodPatch, "/admin/users/"+user, body)
		}
	}
	p.Remove = []Removal{
		{"application revoked by the person", giteaLeaver, func() { revokeAtGitea(t, p, giteaLeaver) }},
		{"deleted", Users[1], func() { api(http.MethodDelete, "/admin/users/"+Users[1]+"?purge=true", nil) }},
		{"account deactivated", Users[2], change(Users[2], map[string]any{"active": false})},
		{"login prohibited", Users[3], change(Users[3], map[string]any{"prohibit_login": true})},
	}
	return p
}
