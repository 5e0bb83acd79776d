package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the release takes from CHANGELOG.md is there: what is not released stands first, then the
// versions, the newest first, each with its day and the link to its release.
func TestChangelogHasTheFormThatReleasesTake(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(source, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := parts(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if found[0].version != "" {
		t.Errorf("%s stands first, and not Unreleased", found[0].version)
	}
	if len(text) > 125_000 {
		t.Errorf("%d characters: GitHub takes 125,000 in the text of a release", len(text))
	}
}

func TestChangelogsThatAreRefused(t *testing.T) {
	const link = "https://github.com/mcpbouncer/mcpbouncer/releases/tag/"
	version := func(v, day string) string { return "## [" + v + "](" + link + v + ") - " + day + "\n* x\n" }
	for _, c := range []struct{ name, text, want string }{
		{"nothing released", "# Changelog\n\n## Unreleased\n\n* x\n", ""},
		{"two versions", "## Unreleased\n" + version("v0.2.0", "2026-12-02") + version("v0.1.0", "2026-12-01"), ""},
		{"a trial before the version", "## Unreleased\n" + version("v0.2.0", "2026-12-02") + version("v0.2.0-rc.1", "2026-12-02"), ""},
		{"nothing", "# Changelog\n", "no part Unreleased"},
		{"Unreleased below", version("v0.1.0", "2026-12-01") + "## Unreleased\n", "Unreleased stands before"},
		{"Unreleased twice", "## Unreleased\n## Unreleased\n", "Unreleased stands first"},
		{"the older first", "## Unreleased\n" + version("v0.9.0", "2026-12-02") + version("v0.10.0", "2026-12-01"), "is not older"},
		{"a version twice", "## Unreleased\n" + version("v0.1.0", "2026-12-01") + version("v0.1.0", "2026-12-01"), "is not older"},
		{"days in disorder", "## Unreleased\n" + version("v0.2.0", "2026-12-01") + version("v0.1.0", "2026-12-02"), "later day"},
		{"no link", "## Unreleased\n## v0.1.0 - 2026-12-01\n", "a heading is"},
		{"another version's link", "## Unreleased\n## [v0.1.0](" + link + "v0.1.1) - 2026-12-01\n", "the link of v0.1.0"},
		{"no such day", "## Unreleased\n" + version("v0.1.0", "2026-13-01"), "out of range"},
		{"a version that the catalog stops at", "## Unreleased\n" + version("v0.1", "2026-12-01"), "is not vX.Y.Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parts(c.text)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// A release is prepared in the source: its part gets a heading, the lines that say that there is no
// release go, and what is then built refuses nothing.
func TestReleaseIsPreparedInThePages(t *testing.T) {
	root := t.TempDir()
	put := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\nThere is no release yet. All of this is new.\n\n* It [works](docs/flow.md#so), see [there](https://example.com/a).\n")
	put("README.md", "# A\n\nB\n\nThere is no release yet: build it.\n\nC\n")
	put("sub/a.md", "There is no release yet.\n")
	put("deploy/compose.yaml", "image: ghcr.io/mcpbouncer/mcpbouncer:v0.1.0\nimage: other:v0.1.0\n")
	put("sub/decisions/1.md", "mcpbouncer v0.1.0\n")
	const day = "2026-12-01"
	if _, err := newRelease(root, "v0.1.0", "", true); err == nil || !strings.Contains(err.Error(), "has no part v0.1.0") {
		t.Errorf("what is not prepared is released: %v", err)
	}
	if err := prepare(root, "0.1.0", day); err == nil {
		t.Error("a version without v is taken")
	}
	if err := prepare(root, "v0.1.0", day); err != nil {
		t.Fatal(err)
	}
	want := "# Changelog\n\n## Unreleased\n\n## [v0.1.0](https://github.com/mcpbouncer/mcpbouncer/releases/tag/v0.1.0) - 2026-12-01\n\n* It [works](docs/flow.md#so), see [there](https://example.com/a).\n"
	if got := get("CHANGELOG.md"); got != want {
		t.Errorf("CHANGELOG.md is\n%s", got)
	}
	if got := get("README.md"); got != "# A\n\nB\n\nC\n" {
		t.Errorf("README.md is %q", got)
	}
	if got := get("sub/a.md"); got != "" {
		t.Errorf("sub/a.md is %q", got)
	}
	r, err := newRelease(root, "v0.1.0", "none", false)
	if err != nil {
		t.Fatal(err)
	}
	if r.created.Format("2006-01-02 15:04") != day+" 00:00" {
		t.Errorf("the release is of %s", r.created)
	}
	if want := "* It [works](https://github.com/mcpbouncer/mcpbouncer/blob/v0.1.0/docs/flow.md#so), see [there](https://example.com/a)."; r.notes != want {
		t.Errorf("the notes are %q", r.notes)
	}
	if err := prepare(root, "v0.2.0", day); err == nil || !strings.Contains(err.Error(), "nothing is listed") {
		t.Errorf("a release of nothing: %v", err)
	}
	put("CHANGELOG.md", strings.Replace(get("CHANGELOG.md"), "## Unreleased\n", "## Unreleased\n\n* More.\n", 1))
	for _, old := range []string{"v0.1.0", "v0.0.9", "v0.1.0-rc.1"} {
		if err := prepare(root, old, day); err == nil || !strings.Contains(err.Error(), "has v0.1.0 already") {
			t.Errorf("%s after v0.1.0: %v", old, err)
		}
	}
	if got := get("deploy/compose.yaml"); !strings.Contains(got, "mcpbouncer:v0.1.0\n") {
		t.Errorf("the first version is named\n%s", got)
	}
	put("deploy/traefik.yaml", "version: v0.1.0 # that of the sidecar\nx: mcpbouncer-0.1.0/deploy, v0.1.01 of mcpbouncer, 10.1.0\n")
	if err := prepare(root, "v0.2.0", "2026-12-03"); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{
		"deploy/compose.yaml": "image: ghcr.io/mcpbouncer/mcpbouncer:v0.2.0\nimage: other:v0.1.0\n",
		"deploy/traefik.yaml": "version: v0.2.0 # that of the sidecar\nx: mcpbouncer-0.2.0/deploy, v0.1.01 of mcpbouncer, 10.1.0\n",
		"sub/decisions/1.md":  "mcpbouncer v0.1.0\n",
	} {
		if got := get(file); got != want {
			t.Errorf("%s is %q", file, got)
		}
	}
}

// What is final is committed, and says nowhere that there is no release.
func TestFinalReleasesAreOfWhatIsCommitted(t *testing.T) {
	root := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		r := release{root: root}
		if _, err := r.output("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	put("CHANGELOG.md", "## Unreleased\n\n## [v0.1.0](https://github.com/mcpbouncer/mcpbouncer/releases/tag/v0.1.0) - 2026-12-01\n\n* x\n")
	put("README.md", "There is no release yet.\n")
	refused := func(want string) {
		t.Helper()
		if _, err := newRelease(root, "v0.1.0", "", true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	refused("not committed")
	git("add", ".")
	git("commit", "-q", "-m", "a")
	refused("no release yet: README.md")
	put("README.md", "Install it.\n")
	refused("not committed")
	git("commit", "-q", "-a", "-m", "b")
	r, err := newRelease(root, "v0.1.0", "", true)
	if err != nil {
		t.Fatal(err)
	}
	if head, err := r.output("git", "rev-parse", "HEAD"); err != nil || r.revision != head {
		t.Errorf("the release is of %q, HEAD is %q, %v", r.revision, head, err)
	}
}

func TestBuildsThatAreRefused(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "old"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "usage"},
		{"another command", []string{"publish"}, `"publish" is no command`},
		{"no version", []string{"build", "-out", t.TempDir()}, "vX.Y.Z"},
		{"a version without v", []string{"build", "-version", "0.1.0", "-out", t.TempDir()}, "vX.Y.Z"},
		{"a version of two numbers", []string{"build", "-version", "v0.1", "-out", t.TempDir()}, "vX.Y.Z"},
		{"a version with a path in it", []string{"build", "-version", "v0.1.0-../x", "-out", t.TempDir()}, "vX.Y.Z"},
		{"no folder", []string{"build", "-version", "v0.1.0"}, "-out is missing"},
		{"a folder with something in it", []string{"build", "-version", "v0.1.0", "-out", full}, "is not empty"},
		{"another platform", []string{"build", "-version", "v0.1.0", "-out", t.TempDir(), "-only", "plan9/amd64"}, "-only"},
		{"a word that is no flag", []string{"build", "v0.1.0", "-out", t.TempDir()}, `"v0.1.0" is no flag`},
		{"a module without a file", []string{"module", "-version", "v0.1.0"}, "-out is missing"},
		{"push without a name", []string{"push", "-layout", full}, "needs -layout and -to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := run(c.args); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
