package rig

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// StartDoorkeeper starts Doorkeeper of the Debian packages (../debian/doorkeeper.rb), which GitLab
// is built on.
func StartDoorkeeper(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "Doorkeeper 5.5.0", "/oauth/token")
	p.Scopes, p.Groups = "openid email profile groups", "admins"
	p.Advice = "`use_refresh_token`; `skip_authorization`, since its consent page loses the nonce"
	dir := t.TempDir()
	private, _ := newRSAKey(t)
	key := writeFile(t, filepath.Join(dir, "key.pem"), private)
	clients, _ := json.Marshal(p.Clients)
	_, port, _ := strings.Cut(p.Backend, ":")
	p.runs(t, logs, "/ready", func() *Process {
		args := []string{filepath.Join(Root(), "deploy", "e2e", "debian", "doorkeeper.rb"), port, p.Issuer, redirect, key, dir, Password, string(clients)}
		cmd := exec.Command("/usr/bin/ruby", append(args, Users...)...) // the distribution's, which has the distribution's packages
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "RAILS_ENV=production"}
		return StartProcess(t, logs, "doorkeeper", cmd)
	})
	ask := func(what, user string) func() {
		return func() {
			administer(t, http.DefaultClient, http.MethodPost, "http://"+p.Backend+"/rig/"+what+"?user="+user, nil, nil)
		}
	}
	p.Remove = []Removal{{"deleted", Users[1], ask("delete", Users[1])}, {"tokens revoked", Users[2], ask("tokens", Users[2])}}
	p.RotateKeys = func() {
		next, _ := newRSAKey(t)
		writeFile(t, key, next)
		p.Stop()
		p.Start()
	}
	return p
}
