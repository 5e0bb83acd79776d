package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/mcpbouncer/mcpbouncer"
)

// plugin and sealing are standard library only: Yaegi loads nothing else, and a reader of either need not look further.
func TestPluginAndSealingImportOnlyTheStandardLibrary(t *testing.T) {
	for _, dir := range []string{"plugin", "sealing"} {
		for file, imports := range importsIn(t, dir) {
			if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata") {
				continue
			}
			for _, path := range imports {
				if strings.Contains(path, ".") {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

// What one of them could import of the other would be a second way to agree, beside the wire.
func TestPluginAndIssuerDoNotMeet(t *testing.T) {
	for dir, other := range map[string]string{"plugin": "/issuer", "issuer": "/plugin"} {
		for file, imports := range importsIn(t, dir) {
			for _, path := range imports {
				if strings.HasPrefix(path, module+other) {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

func importsIn(t *testing.T, dir string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		found[path] = nil
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[path] = append(found[path], name)
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files: %v", dir, len(found), err)
	}
	return found
}

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)`")
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)\(`)
	link     = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^)]*)?\)`)
)

// A promise whose test was renamed away is a promise without a test.
func TestDocsNameTestsAndFilesThatExist(t *testing.T) {
	tests, pages := map[string]bool{}, map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "build" || d.Name() == "node_modules" || d.Name() == ".lego") {
			return filepath.SkipDir
		}
		isTest := strings.HasSuffix(path, "_test.go")
		if !isTest && filepath.Ext(path) != ".md" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !isTest {
			pages[path] = string(content)
			return nil
		}
		for _, m := range declared.FindAllStringSubmatch(string(content), -1) {
			tests[m[1]] = true
		}
		return nil
	})
	if err != nil || len(tests) == 0 || len(pages) == 0 {
		t.Fatalf("%d tests, %d pages: %v", len(tests), len(pages), err)
	}
	named := 0
	for path, text := range pages {
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			named++
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", path, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
	if named == 0 {
		t.Error("no page names a test")
	}
}
