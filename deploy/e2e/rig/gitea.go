package rig

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

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
	for _, user := range append([]string{"boss"}, Users...) {
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
		{"deleted", Users[1], func() { api(http.MethodDelete, "/admin/users/"+Users[1]+"?purge=true", nil) }},
		{"account deactivated", Users[2], change(Users[2], map[string]any{"active": false})},
		{"login prohibited", Users[3], change(Users[3], map[string]any{"prohibit_login": true})},
	}
	return p
}
