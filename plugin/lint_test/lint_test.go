// Package lint_test refuses the Go that Yaegi, Traefik's interpreter, loads and then runs as
// something else. It lies in a folder of its own because it needs go/types, and is itself never
// interpreted.
//
// traps (traps_test.go) is the list of what is refused, with what to write instead.
package lint_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestPluginIsWrittenForYaegi(t *testing.T) {
	packages := packagesBelow(t, "..")
	if packages[".. plugin"] == nil {
		t.Fatalf("the plugin is not among %d packages", len(packages))
	}
	lintAll(t, packages, func(name string, s *source) {
		for _, fault := range s.faults {
			t.Errorf("%s: %v", name, fault)
		}
		for _, complaint := range s.complaints {
			t.Error(complaint)
		}
	})
}

// Each trap is found in the program that shows it, so the test above is not green because the lint
// finds nothing. The recommended program has no trap.
func TestTrapsAreFoundInTheProgramsThatShowThem(t *testing.T) {
	found := map[string]string{}
	lintAll(t, packagesBelow(t, "testdata/traps"), func(name string, s *source) {
		for _, fault := range s.faults {
			t.Errorf("%s: %v", name, fault)
		}
		folder := strings.Split(filepath.ToSlash(strings.Fields(name)[0]), "/")[2]
		found[folder] += strings.Join(s.complaints, "\n") + "\n"
	})
	for _, r := range traps {
		if r.name == "build-line" { // no program has the line
			continue
		}
		program, is := found[r.name]
		if !is || !strings.Contains(program, ": "+r.name+": ") {
			t.Errorf("%s is not found in its program, but: %s", r.name, program)
		}
		instead, is := found[r.name+"-instead"]
		for _, line := range strings.Split(instead, "\n") {
			if line != "" && !strings.Contains(line, ": build-line: ") {
				t.Errorf("%s: what to write instead is refused: %s", r.name, line)
			}
		}
		if !is {
			t.Errorf("%s: no program shows what to write instead", r.name)
		}
		delete(found, r.name)
		delete(found, r.name+"-instead")
	}
	for folder := range found {
		t.Errorf("testdata/traps/%s belongs to no trap", folder)
	}
}

func TestLintTellsTrapsFromWhatLooksLikeOne(t *testing.T) {
	text, err := os.ReadFile("testdata/lookalikes.txt")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(text), "\n== ")
	_, kinds, _ := strings.Cut(examples[0], "\n\n")
	files := token.NewFileSet()
	var names []string
	var asts []*ast.File
	for _, example := range examples[1:] {
		name, code, _ := strings.Cut(example, "\n")
		if !strings.HasPrefix(code, "package") && !strings.HasPrefix(code, "//go:build") {
			code = "//go:build go1.21\n\npackage plugin\n\n" + code + "\n" + kinds
		}
		names = append(names, name)
		asts = append(asts, parse(t, files, "plugin.go", code))
	}
	k := compiled(t, asts...)
	for i, file := range asts {
		name, want, _ := strings.Cut(names[i], ": ")
		found := strings.Join(check(k, files, []*ast.File{file}).complaints, "\n")
		if want != "nothing" && !strings.Contains(found, ": "+want+": ") {
			t.Errorf("%s: found %q, want %q", name, found, want)
		}
		if want == "nothing" && found != "" {
			t.Errorf("%s: refused: %s", name, found)
		}
	}
	if len(asts) < 70 {
		t.Errorf("%d examples", len(asts))
	}
}

func TestVectorsAreAsTheGeneratorWritesThem(t *testing.T) {
	dir := t.TempDir()
	run := exec.Command("go", "run", "../testdata/gen", dir, "../../docs/hop.md")
	run.Env = append(os.Environ(), "CGO_ENABLED=0") // as go vet has compiled it, not once more
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, folder := range []string{"tokens", "hop", "reason", "scoperules"} {
		want, _ := filepath.Glob(filepath.Join(dir, folder, "*"))
		have, _ := filepath.Glob(filepath.Join("../testdata", folder, "*"))
		if len(want) == 0 || len(want) != len(have) {
			t.Errorf("%s: %d files, the generator writes %d", folder, len(have), len(want))
		}
		for _, file := range want {
			a, _ := os.ReadFile(file)
			b, err := os.ReadFile(filepath.Join("../testdata", folder, filepath.Base(file)))
			if err != nil || string(a) != string(b) {
				t.Errorf("%s/%s: run make generate", folder, filepath.Base(file))
			}
		}
	}
}

// packagesBelow returns the files of each package below a folder, without those of testdata and of
// the lint. :: folder and name → files
func packagesBelow(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (d.Name() == "testdata" || d.Name() == "lint_test") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".go" {
			file := parse(t, token.NewFileSet(), path, nil)
			key := filepath.Dir(path) + " " + file.Name.Name
			found[key] = append(found[key], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func lintAll(t *testing.T, packages map[string][]string, report func(name string, s *source)) {
	t.Helper()
	files := token.NewFileSet()
	parsed := map[string][]*ast.File{}
	var all []*ast.File
	for name, paths := range packages {
		for _, path := range paths {
			parsed[name] = append(parsed[name], parse(t, files, path, nil))
		}
		all = append(all, parsed[name]...)
	}
	k := compiled(t, all...)
	for name, asts := range parsed {
		report(name, check(k, files, asts))
	}
}
