// Package lint_test refuses the Go that Yaegi, Traefik's interpreter, loads and then runs as something else. It lies in a folder of its
// own because it needs go/parser, and is itself never interpreted.
package lint_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// missing are packages of the standard library that Yaegi v0.16.1 does not have, or has without the functions one would import them for.
var missing = []string{"crypto/hkdf", "crypto/sha3", "embed", "iter", "maps", "slices", "unique"}

// neverCalled are methods that Yaegi's types do not show to the standard library.
var neverCalled = []string{"UnmarshalJSON", "UnmarshalText", "MarshalJSON", "MarshalText", "Unwrap", "Is", "As"}

func TestPluginIsWrittenForYaegi(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, complaint := range lint(t, name, string(text)) {
			t.Error(complaint)
		}
	}
}

// Each line of the list is found, so that the test above is not green for want of eyes.
func TestLintFindsWhatItForbids(t *testing.T) {
	const head = "//go:build go1.21\n\npackage plugin\n\n"
	for _, c := range []struct{ name, code, want string }{
		{"no build line", "package plugin\n", "go:build"},
		{"a foreign import", head + `import "golang.org/x/oauth2"`, "import"},
		{"a package that Yaegi lacks", head + `import "crypto/hkdf"`, "import"},
		{"tuple assignment with a call", head + "func f() { a, b = 1, g() }", "tuple"},
		{"tuple assignment with a builtin", head + "func f() { a, b = 1, len(c) }", "tuple"},
		{"labelled break", head + "func f() { x: for { break x } }", "label"},
		{"type parameters of a function", head + "func f[T any](t T) {}", "type parameters"},
		{"type parameters of a type", head + "type a[T any] struct{}", "type parameters"},
		{"errors.As", head + "func f() { errors.As(err, &e) }", "errors.As"},
		{"a type switch", head + "func f() { switch err.(type) {} }", "type switch"},
		{"go in a loop", head + "func f() { for { go g() } }", "in a loop"},
		{"defer in a loop", head + "func f() { for range a { defer g() } }", "in a loop"},
		{"a closure in a loop", head + "func f() { for { g(func() {}) } }", "in a loop"},
		{"min", head + "func f() { g(min(1, 2)) }", "min"},
		{"range over a number", head + "func f() { for range 3 {} }", "range"},
		{"two expressions in a case", head + "func f() { switch a { case 1, 2: } }", "case"},
		{"an own UnmarshalJSON", head + "func (a *b) UnmarshalJSON(text []byte) error { return nil }", "UnmarshalJSON"},
		{"return of a receive", head + "func f() int { return <-c }", "return <-"},
	} {
		found := strings.Join(lint(t, c.name, c.code), "\n")
		if !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
}

func TestVectorsAreAsTheGeneratorWritesThem(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "../testdata/gen", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, folder := range []string{"tokens", "hop"} {
		want, _ := filepath.Glob(filepath.Join(dir, folder, "*"))
		have, _ := filepath.Glob(filepath.Join("../testdata", folder, "*"))
		if len(want) == 0 || len(want) != len(have) {
			t.Errorf("%s: %d files, the generator writes %d", folder, len(have), len(want))
		}
		for _, file := range want {
			a, _ := os.ReadFile(file)
			b, err := os.ReadFile(filepath.Join("../testdata", folder, filepath.Base(file)))
			if err != nil || string(a) != string(b) {
				t.Errorf("%s/%s: run go run ./plugin/testdata/gen plugin/testdata", folder, filepath.Base(file))
			}
		}
	}
}

func lint(t *testing.T, name, text string) (complaints []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	complain := func(at ast.Node, what string) {
		complaints = append(complaints, fmt.Sprintf("%s: %s", files.Position(at.Pos()), what))
	}
	// Yaegi ignores the line; it makes the compiler treat loop variables and range as Yaegi does.
	if !strings.HasPrefix(text, "//go:build go1.21\n") {
		complain(file, "the first line is not //go:build go1.21")
	}
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		first, _, _ := strings.Cut(path, "/")
		if strings.Contains(first, ".") || slices.Contains(missing, path) {
			complain(i, "import of "+path)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok == token.ASSIGN && len(n.Rhs) > 1 && slices.ContainsFunc(n.Rhs, hasCall) {
				complain(n, "tuple assignment with a call on the right: one side is lost")
			}
		case *ast.BranchStmt:
			if n.Label != nil {
				complain(n, "branch to a label: out of a select it never leaves")
			}
		case *ast.TypeSwitchStmt:
			complain(n, "type switch: types of the same shape are one")
		case *ast.CaseClause:
			if len(n.List) > 1 {
				complain(n, "case with several expressions: only the first counts")
			}
		case *ast.TypeSpec:
			if n.TypeParams != nil {
				complain(n, "type parameters")
			}
		case *ast.FuncDecl:
			if n.Type.TypeParams != nil {
				complain(n, "type parameters")
			}
			if n.Recv != nil && slices.Contains(neverCalled, n.Name.Name) {
				complain(n, n.Name.Name+" is never called")
			}
		case *ast.ReturnStmt:
			for _, r := range n.Results {
				if u, ok := r.(*ast.UnaryExpr); ok && u.Op == token.ARROW {
					complain(n, "return <- panics")
				}
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "errors" && n.Sel.Name == "As" {
				complain(n, "errors.As panics")
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"min", "max", "clear"}, f.Name) {
				complain(n, "builtin "+f.Name)
			}
		case *ast.ForStmt:
			inLoop(n.Body, name, complain)
		case *ast.RangeStmt:
			inLoop(n.Body, name, complain)
			if _, ok := n.X.(*ast.BasicLit); ok {
				complain(n, "range over a number")
			}
		}
		return true
	})
	return complaints
}

// inLoop finds what captures a loop variable, of which Yaegi has one for all rounds. Tests may use closures that end within their round.
func inLoop(body *ast.BlockStmt, name string, complain func(ast.Node, string)) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.GoStmt, *ast.DeferStmt:
			complain(n, "go or defer in a loop")
		case *ast.FuncLit:
			if !strings.HasSuffix(name, "_test.go") {
				complain(n, "closure in a loop")
			}
		}
		return true
	})
}

func hasCall(e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if _, ok := n.(*ast.CallExpr); ok {
			found = true
		}
		return true
	})
	return found
}
