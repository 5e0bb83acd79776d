package rig

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// runsScript starts a provider that is a framework of the distribution's and a script of ../debian,
// by the distribution's interpreter, which has the distribution's packages. The script is told
// port, base URL, redirect URI, the file of its signing key, a folder, the password, the clients as
// JSON, and the users. Its keys are rotated by another key in that file.
func (p *RealProvider) runsScript(t T, logs *Logs, interpreter, script, base, redirect string, env ...string) {
	t.Helper()
	dir := t.TempDir()
	private, _ := newRSAKey(t)
	key := writeFile(t, filepath.Join(dir, "key.pem"), private)
	clients, _ := json.Marshal(p.Clients) // strings alone
	_, port, _ := strings.Cut(p.Backend, ":")
	args := append([]string{filepath.Join(Root(), "deploy", "e2e", "debian", script), port, base, redirect, key, dir, Password, string(clients)}, Users...)
	p.runs(t, logs, "/ready", func() *Process {
		cmd := exec.Command(interpreter, args...)
		cmd.Dir, cmd.Env = dir, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
		return StartProcess(t, logs, script, cmd)
	})
	p.RotateKeys = func() {
		next, _ := newRSAKey(t)
		writeFile(t, key, next)
		p.Stop()
		p.Start()
	}
}

// tells has such a script do something to a person.
func (p *RealProvider) tells(t T, what, user string) func() {
	return func() {
		administer(t, http.DefaultClient, http.MethodPost, "http://"+p.Backend+"/rig/"+what+"?user="+user, nil, nil)
	}
}
