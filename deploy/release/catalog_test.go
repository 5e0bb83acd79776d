package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mostBytes is what Traefik may have to load for the plugin. It gives up after 10 seconds.
const mostBytes = 2_750_000

// The plugin catalog takes a repository only if all of this holds, and nobody hears it say why not.
// That New takes the testData is TestCatalogsConfigurationIsTaken, and that the plugin needs the
// standard library alone is TestPluginAndSealingImportOnlyTheStandardLibrary.
func TestPluginCatalogTakesTheRepository(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(source, ".traefik.yml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+):(?: (.*))?$`).FindAllStringSubmatch(string(text), -1) {
		manifest[m[1]] = m[2]
	}
	if manifest["displayName"] == "" || manifest["summary"] == "" || manifest["type"] != "middleware" {
		t.Errorf("%q", manifest)
	}
	if _, ok := manifest["testData"]; !ok {
		t.Error("there is no testData")
	}
	folder, inside := strings.CutPrefix(manifest["import"], module+"/")
	sources, _ := filepath.Glob(filepath.Join(source, folder, "*.go"))
	if !inside || len(sources) == 0 {
		t.Errorf("import %q", manifest["import"])
	}
	for _, key := range []string{"iconPath", "bannerPath"} {
		picture, err := os.Open(filepath.Join(source, manifest[key]))
		if err != nil {
			t.Error(err)
			continue
		}
		defer picture.Close()
		if _, err := png.DecodeConfig(picture); err != nil || manifest[key] == "" {
			t.Errorf("%s %q: %v", key, manifest[key], err)
		}
	}
	goMod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(goMod), "module "+module+"\n") {
		t.Error("go.mod names another module")
	}
	for _, refused := range []string{"github.com/traefik/traefik", "github.com/traefik/yaegi"} {
		if strings.Contains(string(goMod), refused) {
			t.Errorf("go.mod has %s", refused)
		}
	}
	r := release{root: source}
	tags, err := r.output("git", "tag", "--list")
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range strings.Fields(tags) {
		if !versionForm.MatchString(tag) {
			t.Errorf("the tag %s stops the catalog", tag)
		}
	}
}

// What Traefik loads has the plugin and its manifest, and not what tests alone need.
func TestPluginIsSmallToDownload(t *testing.T) {
	r, err := newRelease(source, version, "", false)
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.moduleZip()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, sha256 %x", len(text), sha256.Sum256(text))
	if len(text) > mostBytes {
		t.Errorf("%d bytes, at most %d", len(text), mostBytes)
	}
	archive, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, f := range archive.File {
		name := strings.TrimPrefix(f.Name, module+"@"+version+"/")
		has[name] = true
		for _, folder := range []string{"deploy/e2e/", "deploy/release/", "build/", "node_modules/"} {
			if strings.HasPrefix(name, folder) || strings.Contains(name, "/node_modules/") {
				t.Errorf("%s is loaded with the plugin", name)
			}
		}
	}
	for _, name := range []string{".traefik.yml", "go.mod", "LICENSE", "plugin/plugin.go", "plugin/mcp/mcp.go"} {
		if _, err := os.Stat(filepath.Join(source, name)); err == nil != has[name] {
			t.Errorf("%s is in the source: %v, in the archive: %v", name, err == nil, has[name])
		}
	}
}

// `go install github.com/mcpbouncer/mcpbouncer/cmd/mcpbouncer@VERSION`, from a proxy that has this
// source as that version. What it needs else was loaded to build the sidecar.
func TestProgramIsInstalledFromAModuleProxy(t *testing.T) {
	r, err := newRelease(source, version, "", false)
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.moduleZip()
	if err != nil {
		t.Fatal(err)
	}
	goMod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]string{"Version": version, "Time": "2026-12-01T00:00:00Z"})
	if err != nil {
		t.Fatal(err)
	}
	proxy, home := t.TempDir(), t.TempDir()
	at := filepath.Join(proxy, module, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"list": []byte(version + "\n"), version + ".info": info, version + ".mod": goMod, version + ".zip": text} {
		if err := os.WriteFile(filepath.Join(at, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cache, err := r.output("go", "env", "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	install := exec.Command("go", "install", module+"/cmd/mcpbouncer@latest")
	install.Dir = home
	install.Env = append(os.Environ(), "GOFLAGS=-modcacherw -trimpath", "GOBIN="+home, "GOMODCACHE="+filepath.Join(home, "mod"),
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(cache, "cache", "download"), "GOSUMDB=off", "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	name := filepath.Join(home, program)
	if out, err := exec.Command(name, "version").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != version {
		t.Errorf("%s %v", out, err)
	}
}
