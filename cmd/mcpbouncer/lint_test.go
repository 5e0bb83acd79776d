package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

func TestLintsCommandLine(t *testing.T) {
	asked := 0
	docker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		fmt.Fprint(w, "[]")
	}))
	defer docker.Close()
	address := strings.Replace(docker.URL, "http://", "tcp://", 1)
	t.Setenv("DOCKER_HOST", address)
	static := filepath.Join(t.TempDir(), "traefik.yaml")
	if err := os.WriteFile(static, []byte("entryPoints: {web: {address: \":80\"}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	toml := filepath.Join(t.TempDir(), "traefik.toml")
	if err := os.WriteFile(toml, []byte("[entryPoints]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
		asks   int
	}{
		{nil, report.StatusUnable, "name the files of one deployment", 0},
		{[]string{"--nonsense"}, report.StatusUnable, "flag provided but not defined: -nonsense", 0},
		{[]string{"nowhere.yaml"}, report.StatusUnable, "nowhere.yaml", 0},
		{[]string{toml}, report.StatusUnable, "TOML is not read: write the file as YAML, which Traefik takes as well", 0},
		{[]string{static}, report.StatusFound, "localPlugins", 0},
		{[]string{static, "--json"}, report.StatusFound, `"check": "plugin"`, 0},
		{[]string{"--docker"}, report.StatusFound, "the containers of " + address + ": ", 1},
		{[]string{"--docker", "--json"}, report.StatusFound, `"check": "tenants"`, 1},
		{[]string{"--docker=" + docker.URL}, report.StatusFound, "the containers of " + docker.URL + ": ", 1},
		{[]string{"--docker", docker.URL, static}, report.StatusFound, static + ", the containers of " + docker.URL + ": ", 1},
		{[]string{static, "--docker"}, report.StatusFound, static + ", the containers of " + address + ": ", 1},
		{[]string{"--docker=false", static}, report.StatusFound, "\n" + static + ": ", 0},
		{[]string{"--help"}, report.StatusGood, "usage: mcpbouncer lint", 0},
	} {
		asked = 0
		out, status, why := runs(t, append([]string{"lint"}, c.args...)...)
		if status != c.status || !strings.Contains(out+why, c.says) || asked != c.asks {
			t.Errorf("%q: status %d, asked %d times: %s%s", c.args, status, asked, out, why)
		}
	}
	t.Setenv("DOCKER_HOST", "")
	if out, _, _ := runs(t, "lint", "--docker"); !strings.Contains(out, "unix:///var/run/docker.sock") {
		t.Error(out)
	}
}
