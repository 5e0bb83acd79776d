package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// all is for the night: each platform, compiled twice from nothing.
var all = flag.Bool("all", false, "build for every platform, with two empty build caches")

const (
	source  = "../.."
	version = "v0.1.0"
)

// here is the platform whose image this machine can run.
var here = platform{"linux", runtime.GOARCH}

func wanted() string {
	if *all {
		return ""
	}
	return here.String()
}

var scratch string // for what tests share

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "mcpbouncer-release-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// built is a release of this source, made once.
var built = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "built")
	r, err := newRelease(source, version, "0123456789abcdef", false)
	if err != nil {
		return "", err
	}
	return dir, r.build(dir, wanted())
})

func releaseOf(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Another folder, other times, another umask and other variables of whoever builds change nothing.
// With -all, nothing is taken from a build cache.
func TestReleaseHasTheSameBytesInAnotherFolder(t *testing.T) {
	if *all {
		t.Setenv("GOCACHE", t.TempDir())
	}
	first := sums(t, releaseOf(t))
	there := copyOfSource(t)
	t.Setenv("GOFLAGS", "-buildvcs=true")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TZ", "Asia/Kathmandu")
	if *all {
		t.Setenv("GOCACHE", t.TempDir())
	}
	out := filepath.Join(t.TempDir(), "out")
	r, err := newRelease(there, version, "0123456789abcdef", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.build(out, wanted()); err != nil {
		t.Fatal(err)
	}
	second := sums(t, out)
	for file, sum := range first {
		if second[file] != sum {
			t.Errorf("%s differs", file)
		}
	}
	if len(first) != len(second) || len(first) < 12 {
		t.Errorf("%d files here, %d there", len(first), len(second))
	}
	content, err := os.ReadFile(programIn(t, out, here))
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := r.output("go", "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{there, here, goroot + "/src"} {
		if bytes.Contains(content, []byte(path)) {
			t.Errorf("the program has %s in it", path)
		}
	}
}

// copyOfSource is what git would commit, in another folder.
func copyOfSource(t *testing.T) string {
	t.Helper()
	command := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	command.Dir = source
	files, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), "elsewhere", "source")
	for file := range strings.SplitSeq(strings.Trim(string(files), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(source, file))
		if os.IsNotExist(err) {
			continue // deleted, and not committed
		}
		to := filepath.Join(there, file)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o700)
		}
		if err == nil {
			err = os.WriteFile(to, content, 0o600)
		}
		if err == nil {
			err = os.Chtimes(to, time.Unix(1e9, 0), time.Unix(1e9, 0))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return there
}

func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = fmt.Sprintf("%x", sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// programIn unpacks the program of a platform from its archive, as somebody does who installs it.
func programIn(t *testing.T, release string, p platform) string {
	t.Helper()
	dir := t.TempDir()
	archive := fmt.Sprintf("%s-%s-%s-%s.tar.gz", program, version, p.os, p.arch)
	if out, err := exec.Command("tar", "-xzf", filepath.Join(release, archive), "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "LICENSE")); err != nil {
		t.Error(err)
	}
	return filepath.Join(dir, program)
}

// The commands of docs/releasing.md for those who install a program. It has the gateway, which
// builds with another tag leave out.
func TestProgramOfAReleaseShowsItsVersion(t *testing.T) {
	release := releaseOf(t)
	check := exec.Command("sha256sum", "-c", "SHA256SUMS")
	check.Dir = release
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	file := programIn(t, release, here)
	if out, err := exec.Command(file, "version").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != version {
		t.Errorf("%s %v", out, err)
	}
	gateway := exec.Command(file, "gateway")
	gateway.Env = []string{"BOUNCER_ENCRYPTION_KEY=" + strings.Repeat("A", 43) + "="}
	if out, err := gateway.CombinedOutput(); err == nil || !strings.Contains(string(out), "BOUNCER_TENANTS") {
		t.Errorf("the gateway says %s %v", out, err)
	}
}

// Each program has a list of what it is made of, which agrees with what Go wrote into the program.
func TestBillsOfMaterialsListWhatProgramsAreMadeOf(t *testing.T) {
	release := releaseOf(t)
	bills, err := filepath.Glob(filepath.Join(release, "*.cdx.json"))
	if err != nil || len(bills) < 2 {
		t.Fatal(bills, err)
	}
	listed := func(bill string) (bom cdx.BOM, modules map[string]string) {
		text, err := os.ReadFile(bill)
		if err == nil {
			err = json.Unmarshal(text, &bom)
		}
		if err != nil {
			t.Fatal(err)
		}
		modules = map[string]string{}
		for _, c := range *bom.Components {
			modules[c.Name] = c.Version
			if c.Name != "std" && (c.Hashes == nil || c.PackageURL == "") {
				t.Errorf("%s: %s has no hash or no package URL", bill, c.Name)
			}
		}
		return bom, modules
	}
	for _, bill := range bills {
		bom, modules := listed(bill)
		if bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
			t.Errorf("%s changes from time to time: %q %q", bill, bom.SerialNumber, bom.Metadata.Timestamp)
		}
		if c := bom.Metadata.Component; c.Name != module || c.Version != version {
			t.Errorf("%s is of %s %s", bill, c.Name, c.Version)
		}
		if modules["std"] != runtime.Version() {
			t.Errorf("%s: Go is %q", bill, modules["std"])
		}
	}
	info, err := buildinfo.ReadFile(programIn(t, release, here))
	if err != nil {
		t.Fatal(err)
	}
	_, modules := listed(filepath.Join(release, fmt.Sprintf("%s-%s-%s-%s.cdx.json", program, version, here.os, here.arch)))
	for _, m := range info.Deps {
		if modules[m.Path] != m.Version {
			t.Errorf("%s %s is in the program, %q in the list", m.Path, m.Version, modules[m.Path])
		}
	}
	if len(modules) != len(info.Deps)+1 {
		t.Errorf("%d modules and Go are in the program, %d are listed", len(info.Deps), len(modules))
	}
}
