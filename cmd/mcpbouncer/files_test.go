package main

import (
	"bufio"
	"bytes"
	"cmp"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	// mostFiles is how many files the root package of the issuer may have: the endpoints, and what
	// they share. What can be understood without them is a room of its own.
	// The 29th is the endpoint of the plugin's figures, the 30th a grant (jwtbearer.go).
	mostFiles = 30
	// mostFilesKnown is how many other files of its package a file of the issuer may know.
	mostFilesKnown = 12
)

// A reader of a file needs the files whose names it uses: types, functions, methods, fields and
// constants. With -v the test prints them all, and the names too for a file that has many.
func TestFilesOfTheIssuerKnowFewOthers(t *testing.T) {
	uses := usesBetweenFiles(t, "issuer")
	if len(uses) > mostFiles {
		t.Errorf("issuer has %d files, at most %d", len(uses), mostFiles)
	}
	files := slices.SortedFunc(maps.Keys(uses), func(a, b string) int {
		return cmp.Or(len(uses[b])-len(uses[a]), strings.Compare(a, b))
	})
	for _, file := range files {
		others := slices.Sorted(maps.Keys(uses[file]))
		t.Logf("%2d %s: %s", len(others), file, strings.Join(others, " "))
		if len(others) > mostFilesKnown {
			t.Errorf("%s uses names of %d other files, at most %d:", file, len(others), mostFilesKnown)
		}
		if len(others) > 10 {
			for _, other := range others {
				t.Logf("      %s: %s", other, strings.Join(slices.Sorted(maps.Keys(uses[file][other])), " "))
			}
		}
	}
}

// usesBetweenFiles says, for each file of a package, which names of which other files of it the
// file uses. A method or field counts for the file that declares it. Tests do not count.
func usesBetweenFiles(t *testing.T, dir string) map[string]map[string]map[string]bool {
	t.Helper()
	set := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatal(dir, paths, err)
	}
	uses := map[string]map[string]map[string]bool{}
	var files []*ast.File
	for _, path := range paths {
		name := filepath.Base(path)
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_other.go") {
			continue // _other.go is another platform's half
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		uses[name] = map[string]map[string]bool{}
		files = append(files, file)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	config := types.Config{Importer: importer.ForCompiler(set, "gc", compiled(t, dir))}
	pkg, err := config.Check(module+"/"+dir, set, files, info)
	if err != nil {
		t.Fatal(err)
	}
	count := func(from token.Pos, object types.Object) {
		if object == nil || object.Pkg() != pkg {
			return
		}
		user, owner := filepath.Base(set.Position(from).Filename), filepath.Base(set.Position(object.Pos()).Filename)
		if user == owner {
			return
		}
		if uses[user][owner] == nil {
			uses[user][owner] = map[string]bool{}
		}
		uses[user][owner][object.Name()] = true
	}
	for ident, object := range info.Uses {
		count(ident.Pos(), object)
	}
	return uses
}

// compiled finds the compiled form of what a package imports, as the go command knows it.
func compiled(t *testing.T, dir string) importer.Lookup {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "./"+dir)
	list.Dir = root
	list.Env = append(os.Environ(), "CGO_ENABLED=0") // as go vet has compiled it, not once more
	var failed bytes.Buffer
	list.Stderr = &failed
	out, err := list.Output()
	if err != nil {
		t.Fatal(err, failed.String())
	}
	exports := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		path, file, _ := strings.Cut(lines.Text(), " ")
		exports[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
}
