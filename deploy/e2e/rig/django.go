package rig

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// StartDjango starts django-oauth-toolkit of the Debian package (../debian/toolkit.py).
func StartDjango(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "django-oauth-toolkit 1.7.0", "/o/token/")
	base := p.Issuer
	p.Issuer += "/o"
	p.Advice = "`OIDC_ENABLED`; claims in a validator of your own"
	p.Scopes, p.Groups = "openid email profile groups", "admins"
	dir := t.TempDir()
	private, _ := newRSAKey(t)
	key := writeFile(t, filepath.Join(dir, "key.pem"), private)
	clients, _ := json.Marshal(p.Clients)
	_, port, _ := strings.Cut(p.Backend, ":")
	p.runs(t, logs, "/ready", func() *Process {
		args := []string{filepath.Join(Root(), "deploy", "e2e", "debian", "toolkit.py"), port, base, redirect, key, dir, Password, string(clients)}
		cmd := exec.Command("/usr/bin/python3", append(args, Users...)...) // the distribution's, which has the distribution's packages
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "PYTHONDONTWRITEBYTECODE=1"}
		return StartProcess(t, logs, "django", cmd)
	})
	p.Prepare = func(b *Browser) { b.Fill = map[string]string{"allow": "Authorize"} }
	ask := func(what, user string) func() {
		return func() {
			administer(t, http.DefaultClient, http.MethodPost, "http://"+p.Backend+"/rig/"+what+"?user="+user, nil, nil)
		}
	}
	p.Remove = []Removal{{"deleted", Users[1], ask("delete", Users[1])}, {"deactivated", Users[2], ask("deactivate", Users[2])}}
	p.RotateKeys = func() {
		next, _ := newRSAKey(t)
		writeFile(t, key, next)
		p.Stop()
		p.Start()
	}
	return p
}
