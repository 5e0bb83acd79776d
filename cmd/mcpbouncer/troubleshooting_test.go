package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
)

// docs/troubleshooting.md quotes the logs. An operator who searches for a line must find it there,
// in the program's own words.

// productionFiles returns the parsed files of production code, by path.
func productionFiles(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	set := token.NewFileSet()
	walkSources(t, func(path string, text []byte) {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		folder, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		if strings.HasPrefix(filepath.ToSlash(rel), "internal/gateway/") {
			folder = "cmd" // it runs, and writes a log
		}
		if folder != "issuer" && folder != "plugin" && folder != "cmd" && folder != "sealing" || !strings.HasSuffix(path, ".go") ||
			strings.HasSuffix(path, "_test.go") || strings.Contains(rel, "testdata") || strings.Contains(rel, "issuertest") || strings.Contains(rel, "_test/") {
			return
		}
		file, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(rel)] = file
	})
	if len(files) < 50 {
		t.Fatalf("%d files", len(files))
	}
	return files
}

// verbs are what a format replaces by a value.
var verbs = regexp.MustCompile(`%[-+#.0-9]*[a-zA-Z]`)

// literalsIn returns the fixed parts of the texts in a piece of code, without the verbs of formats.
func literalsIn(node ast.Node) (parts []string) {
	ast.Inspect(node, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				parts = append(parts, verbs.Split(text, -1)...)
			}
		}
		return true
	})
	return parts
}

// quotesIn returns the code spans of the page's tables that quote a log: those of a column "log",
// or of one beside a word that says whose log it is.
func quotesIn(page string) (quotes []string) {
	var columns []int
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "|---") {
			continue
		}
		cells := cellsOf(line)
		if len(cells) < 2 {
			columns = nil
			continue
		}
		if columns == nil {
			columns = []int{}
			for i, head := range cells {
				if strings.HasPrefix(head, "log") || head == "line" {
					columns = append(columns, i)
				}
			}
			continue
		}
		for _, i := range columns {
			for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[i], -1) {
				quotes = append(quotes, span[1])
			}
		}
	}
	return quotes
}

func cellsOf(line string) (cells []string) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") {
		return nil
	}
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
		cells = append(cells, strings.TrimSpace(cell))
	}
	return cells
}

// said says whether a text is made of at most four of the parts, none of them a mere word.
func said(parts map[string]bool, text string, most int) bool {
	const shortest = 4
	for part := range parts {
		if strings.Contains(part, text) {
			return true
		}
	}
	if most == 1 {
		return false
	}
	for i := shortest; i <= len(text)-shortest; i++ {
		if endsPart(parts, text[:i]) && said(parts, text[i:], most-1) {
			return true
		}
	}
	return false
}

// endsPart says whether one of the parts ends so.
func endsPart(parts map[string]bool, text string) bool {
	for part := range parts {
		if strings.HasSuffix(part, text) {
			return true
		}
	}
	return false
}

// notOurs are quoted from Go's library, or from a provider.
var notOurs = map[string]bool{"connection refused": true, "no such host": true}

func TestTroubleshootingQuotesTheLog(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]bool{}
	for _, file := range productionFiles(t) {
		for _, part := range literalsIn(file) {
			parts[part] = true
		}
	}
	quotes := quotesIn(string(page))
	if len(quotes) < 60 {
		t.Errorf("only %d quotes were found", len(quotes))
	}
	if said(parts, "the sidecar cannot be found by its address", 4) {
		t.Error("the test would believe anything")
	}
	for _, quote := range quotes {
		for piece := range strings.SplitSeq(quote, "…") {
			if piece = strings.TrimSpace(piece); piece != "" && !notOurs[piece] && !said(parts, piece, 4) {
				t.Errorf("no code says %q (of %q)", piece, quote)
			}
		}
	}
}

// quietLines are warnings and errors without a row on the page, and why.
var quietLines = map[string]string{
	"request refused": "the page explains it before its tables, and quotes the causes that stand in it",
}

// otherTexts are the lines whose words the code takes from an error: by what complain calls their
// cause, a quote of the page that stands for them.
var otherTexts = map[string]string{
	`"hop key"`: "label hopKeyFile:", `"hop"`: "label hopKeyFile:", `"backend"`: "the MCP server gets no request without it",
	`"loop"`: "leads to a middleware of MCPBouncer and not to the sidecar", "cause": "is not the sidecar (",
	`"internal"`: "internal error:",
}

func TestTroubleshootingKnowsEachWarning(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	quotes := quotesIn(string(text))
	quoted := func(parts []string) bool {
		for _, quote := range quotes {
			for piece := range strings.SplitSeq(quote, "…") {
				if piece = strings.TrimSpace(piece); len(piece) < len("not ready") {
					if !contains(parts, piece) {
						continue
					}
					return true
				}
				for _, part := range parts {
					if strings.Contains(part, piece) || len(part) > 20 && strings.Contains(piece, part) {
						return true
					}
				}
			}
		}
		return false
	}
	lines, passed := 0, map[string]bool{}
	for _, e := range audit.All() {
		if max(e.Level, e.Raised) < slog.LevelWarn {
			continue
		}
		lines++
		if quietLines[e.Message] != "" {
			passed[e.Message] = true
		} else if !quoted([]string{e.Message}) {
			t.Errorf("event %s: no row of the page quotes %q", e.Name, e.Message)
		}
	}
	for path, file := range productionFiles(t) {
		for _, line := range warningsIn(file) {
			lines++
			key := strings.Join(line.parts, "")
			if why := quietLines[key]; why != "" {
				passed[key] = true
				continue
			}
			if other := otherTexts[line.cause]; other != "" && len(key) < 20 {
				if !strings.Contains(string(text), other) {
					t.Errorf("%s: the page does not quote %q, which stands for %s", path, other, line.cause)
				}
				continue
			}
			if !quoted(line.parts) {
				t.Errorf("%s: no row of the page quotes %q %s", path, line.parts, line.cause)
			}
		}
	}
	if lines < 60 {
		t.Errorf("only %d lines were found", lines)
	}
	for key := range quietLines {
		if !passed[key] {
			t.Errorf("quietLines has %q, which no code says", key)
		}
	}
}

func contains(parts []string, piece string) bool {
	for _, part := range parts {
		if part == piece {
			return true
		}
	}
	return false
}

type warning struct {
	parts []string // the fixed parts of the message
	cause string   // the code of complain's second argument
}

// warningsIn returns the messages of a file that are logged as warnings or errors, and all lines of
// the plugin. A message in a variable is what the function says anywhere.
func warningsIn(file *ast.File) (found []warning) {
	for _, decl := range file.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok || function.Body == nil || function.Name.Name == "complain" {
			continue
		}
		raised := false // log = s.Log.Warn
		ast.Inspect(function.Body, func(n ast.Node) bool {
			if assign, ok := n.(*ast.AssignStmt); ok && len(assign.Rhs) == 1 && isLevel(assign.Rhs[0]) {
				raised = true
			}
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			var message ast.Expr
			cause := ""
			switch f := call.Fun.(type) {
			case *ast.SelectorExpr:
				if !isLevel(f) {
					return true
				}
				message = call.Args[0]
			case *ast.Ident:
				switch {
				case f.Name == "complain" && len(call.Args) == 3:
					message = call.Args[2]
					if literal, ok := call.Args[1].(*ast.BasicLit); ok {
						cause = literal.Value
					} else {
						cause = "cause"
					}
				case f.Name == "log" && raised:
					message = call.Args[0]
				default:
					return true
				}
			default:
				return true
			}
			parts := literalsIn(message)
			if hasVariable(message) {
				parts = append(parts, textsOfVariables(function, message)...)
			}
			found = append(found, warning{parts, cause})
			return true
		})
	}
	return found
}

// isLevel says whether an expression is s.Log.Warn, log.Error and the like.
func isLevel(e ast.Expr) bool {
	f, ok := e.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != "Warn" && f.Sel.Name != "Error" {
		return false
	}
	switch x := f.X.(type) {
	case *ast.Ident:
		return x.Name == "log"
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	}
	return false
}

func hasVariable(e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if _, ok := n.(*ast.Ident); ok {
			found = true
		}
		return true
	})
	return found
}

// textsOfVariables are what the function gives to the variables and constants of an expression.
func textsOfVariables(function *ast.FuncDecl, e ast.Expr) (parts []string) {
	names := map[string]bool{}
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			names[id.Name] = true
		}
		return true
	})
	ast.Inspect(function.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && names[id.Name] && i < len(n.Rhs) {
					parts = append(parts, literalsIn(n.Rhs[i])...)
				}
			}
		case *ast.ValueSpec:
			for i, id := range n.Names {
				if names[id.Name] && i < len(n.Values) {
					parts = append(parts, literalsIn(n.Values[i])...)
				}
			}
		}
		return true
	})
	return parts
}
