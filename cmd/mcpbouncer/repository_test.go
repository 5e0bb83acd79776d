package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const (
	root   = "../.."
	module = "github.com/mcpbouncer/mcpbouncer"
)

// plugin and sealing import only the standard library: Yaegi loads nothing else, and a reader of
// either need not look further. plugin has rooms of its own, plugin/mcp, plugin/dpop and
// plugin/stepup, which know nothing of it.
func TestPluginAndSealingImportOnlyTheStandardLibrary(t *testing.T) {
	for _, dir := range []string{"plugin", "sealing"} {
		for file, imports := range importsIn(t, dir) {
			if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata") {
				continue
			}
			for _, path := range imports {
				inner := slices.Contains([]string{module + "/plugin/mcp", module + "/plugin/dpop", module + "/plugin/stepup"}, path) && filepath.Base(filepath.Dir(file)) == "plugin"
				if strings.Contains(path, ".") && !inner {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

// A cold start of AWS Lambda loads what is in the program. Builds with the tag of deploy/lambda/zip
// have no gateway, and nothing that it brings along.
func TestLambdaCarriesNoGateway(t *testing.T) {
	for tags, has := range map[string]bool{"lambda.norpc": false, "lambda.norpc,gateway": true, "none": true} {
		list := exec.Command("go", "list", "-deps", "-tags", tags, "./cmd/mcpbouncer")
		list.Dir = root
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{module + "/internal/gateway", "golang.org/x/crypto/acme/autocert"} {
			if slices.Contains(strings.Fields(string(out)), name) != has {
				t.Errorf("-tags %s: %s is in it: %v, want %v", tags, name, !has, has)
			}
		}
	}
}

// The image of a checkout holds the program that a release's image has: what a page says of one is
// true of both.
func TestImageOfACheckoutHasTheProgramOfARelease(t *testing.T) {
	const tags = "lambda.norpc,gateway"
	for file, line := range map[string]string{"deploy/release/programs.go": `const tags = "` + tags + `"`, "deploy/compose/Dockerfile": "go build -trimpath -tags " + tags + " "} {
		if text, err := os.ReadFile(filepath.Join(root, file)); err != nil || !strings.Contains(string(text), line) {
			t.Errorf("%s builds with other tags: %v", file, err)
		}
	}
}

// findings/README.md names each script once, and no other.
func TestFindingsAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "findings", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+\\.sh)` \\|").FindAllStringSubmatch(string(text), -1) {
		listed[row[1]]++
	}
	scripts, _ := filepath.Glob(filepath.Join(root, "findings", "*.sh"))
	for _, script := range scripts {
		if name := filepath.Base(script); name != "lib.sh" && listed[name] != 1 {
			t.Errorf("%s is listed %d times", name, listed[name])
		}
	}
	if len(listed) == 0 || len(listed) != len(scripts)-1 {
		t.Errorf("%d scripts are listed, there are %d", len(listed), len(scripts)-1)
	}
}

// One list says which versions of Traefik the tests run, and everything else agrees with it.
func TestVersionsOfTraefik(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const folder = "deploy/e2e/traefik/"
	list := regexp.MustCompile(`(?m)^v\d+\.\d+\.\d+$`).FindAllString(read(folder+"versions.txt"), -1)
	if len(list) == 0 {
		t.Fatal("the list is empty")
	}
	oldest, newest := list[0], list[len(list)-1]
	supported := "Traefik " + oldest + " or newer"
	for _, c := range []struct{ file, says string }{
		{"README.md", supported},
		{"deploy/compose/README.md", supported},
		{"deploy/kubernetes/README.md", supported},
		{"deploy/kubernetes/README.md", "FROM traefik:" + newest + "\n"},
		{"docs/decisions/0023-traefik-versions.md", "The oldest supported version is " + oldest},
		{"deploy/compose/compose.yaml", "image: traefik:" + newest + "\n"},
	} {
		if !strings.Contains(read(c.file), c.says) {
			t.Errorf("%s does not say %q", c.file, c.says)
		}
	}
	for i, version := range list {
		file := folder + version + ".mod"
		if i == len(list)-1 {
			file = folder + "go.mod"
		}
		if !strings.Contains(read(file), "github.com/traefik/traefik/v3 "+version+" ") {
			t.Errorf("%s does not require Traefik %s", file, version)
		}
	}
}

// Each part that stands before the sidecar, or stops it, leaves an answer all the time that it may
// take.
func TestLongestAnswerIsCutOffByNobody(t *testing.T) {
	for _, c := range []struct{ file, seconds string }{
		{"plugin/outgoing.go", `ResponseHeaderTimeout: +(\d+) \* time\.Second`},
		{"deploy/compose/compose.yaml", `stop_grace_period: (\d+)s`},
		// The first 5 seconds are those of preStop.
		{"deploy/kubernetes/chart/templates/sidecar.yaml", `terminationGracePeriodSeconds: (\d+)`},
		{"deploy/lambda/template.yaml", `(?m)^ +Timeout: (\d+)`},
		{"deploy/lambda/terraform/main.tf", `(?m)^ +timeout += (\d+)`},
	} {
		content, err := os.ReadFile(filepath.Join(root, c.file))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(c.seconds).FindAllSubmatch(content, -1)
		if len(found) != 1 {
			t.Fatalf("%s: %d times found", c.file, len(found))
		}
		if seconds, err := strconv.Atoi(string(found[0][1])); err != nil || time.Duration(seconds)*time.Second < writeTimeout {
			t.Errorf("%s waits %s seconds, an answer may take %s", c.file, found[0][1], writeTimeout)
		}
	}
}

// The rooms of the sidecar, and what each may import of this repository. An import that is not here
// is a decision: it says what a room knows.
func TestRoomsOfTheIssuer(t *testing.T) {
	const module = "github.com/mcpbouncer/mcpbouncer/"
	rooms := map[string][]string{
		"issuer":                        {"issuer/audit", "issuer/clientdoc", "issuer/deny", "issuer/internal/forget", "issuer/internal/jsontext", "issuer/internal/names", "issuer/internal/navigation", "issuer/internal/packed", "issuer/internal/pages", "issuer/internal/rsabits", "issuer/internal/scoperule", "issuer/internal/upstreamtoken", "issuer/internal/weburl", "issuer/internal/workloadrule", "issuer/lazyregexp", "issuer/metrics", "issuer/outgoing", "issuer/provider", "issuer/redirecturi", "issuer/replay", "issuer/trace", "plugin/dpop", "plugin/stepup", "sealing"},
		"issuer/audit":                  nil,
		"issuer/clientdoc":              {"issuer/internal/weburl", "issuer/trace"},
		"issuer/deny":                   {"issuer/internal/weburl", "issuer/lazyregexp", "issuer/outgoing", "issuer/redirecturi", "issuer/trace", "sealing"},
		"issuer/metrics":                {"issuer/internal/forget"},
		"issuer/outgoing":               {"issuer/internal/weburl", "issuer/lazyregexp"},
		"issuer/provider":               {"issuer/internal/forget", "issuer/internal/names", "issuer/internal/rsabits", "issuer/internal/weburl", "issuer/lazyregexp", "issuer/outgoing", "issuer/trace", "sealing"},
		"issuer/replay":                 {"issuer/internal/forget", "issuer/internal/weburl", "issuer/lazyregexp", "issuer/outgoing", "issuer/trace", "sealing"},
		"issuer/trace":                  {"issuer/lazyregexp", "issuer/outgoing"},
		"issuer/redirecturi":            {"issuer/internal/weburl"},
		"issuer/lazyregexp":             nil,
		"issuer/internal/forget":        nil,
		"issuer/internal/jsontext":      nil,
		"issuer/jsonlog":                nil,
		"issuer/internal/names":         nil,
		"issuer/internal/navigation":    nil,
		"issuer/internal/packed":        nil,
		"issuer/internal/pages":         nil,
		"issuer/internal/rsabits":       nil,
		"issuer/internal/scoperule":     {"issuer/lazyregexp"},
		"issuer/internal/weburl":        nil,
		"issuer/internal/upstreamtoken": nil,
		"issuer/internal/workloadrule":  {"issuer/internal/weburl"},
	}
	found := map[string]bool{}
	err := filepath.WalkDir("../../issuer", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		// what only tests import
		if entry.IsDir() && (name == "testdata" || name == "issuertest" || name == "storetest") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		room := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../../")
		found[room] = true
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s: say here what %s may import", path, room)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if ours && !slices.Contains(allowed, imported) {
				t.Errorf("%s: the room %s does not import %s", path, room, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room := range rooms {
		if !found[room] {
			t.Errorf("there is no room %s", room)
		}
	}
}

// An import of one by the other would be a second way to agree, beside the wire. Proofs (RFC 9449)
// come to both, and plugin/dpop reads them for both; plugin/stepup judges for both whether a
// sign-in does (RFC 9470). They lie where operators mount the plugin from: a folder beside it would
// be missing in every Traefik that is upgraded.
func TestPluginAndIssuerDoNotMeet(t *testing.T) {
	for dir, other := range map[string]string{"plugin": "/issuer", "issuer": "/plugin"} {
		for file, imports := range importsIn(t, dir) {
			for _, path := range imports {
				if strings.HasPrefix(path, module+other) && !strings.HasPrefix(path, module+"/plugin/dpop") && path != module+"/plugin/stepup" {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

// The operator's tools may read what the programs are made of. The programs do not carry the tools.
func TestProgramsDoNotImportTheToolsOfOperators(t *testing.T) {
	for _, dir := range []string{"plugin", "issuer", "sealing"} {
		for file, imports := range importsIn(t, dir) {
			for _, path := range imports {
				if strings.HasPrefix(path, module+"/internal/") {
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
	goFile   = regexp.MustCompile("`((?:cmd|deploy|internal|issuer|plugin|sealing)/[A-Za-z0-9_/]+\\.go)`")
	link     = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^)]*)?\)`)
)

// testsAndPages are the names of all tests of the repository, and the text of all pages by path.
func testsAndPages(t *testing.T) (tests map[string]bool, pages map[string]string) {
	t.Helper()
	tests, pages = map[string]bool{}, map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && isOfOthers(d.Name()) {
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
	return tests, pages
}

// A promise whose test was renamed away is a promise without a test.
func TestDocsNameTestsAndFilesThatExist(t *testing.T) {
	tests, pages := testsAndPages(t)
	named := 0
	for path, text := range pages {
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			named++
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", path, m[1])
			}
		}
		for _, m := range goFile.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names a file: %v", path, err)
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

// Nobody finds a page that nothing links to. Decisions are linked as a folder.
func TestPagesAreAllLinked(t *testing.T) {
	_, pages := testsAndPages(t)
	linked := map[string]bool{filepath.Join(root, "README.md"): true}
	for path, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if target := filepath.Join(filepath.Dir(path), m[1]); target != path {
				linked[target] = true
			}
		}
	}
	for path := range pages {
		if !linked[path] && !linked[filepath.Dir(path)] {
			t.Errorf("no page links to %s", path)
		}
	}
}

// docs/conformance.md: a row that says nothing of how, or whose test or file is gone, is a claim.
func TestConformanceRowsAreComplete(t *testing.T) {
	tests, pages := testsAndPages(t)
	const header = "| requirement | source | file | test | status |"
	rows, inTable := 0, false
	for i, line := range strings.Split(pages[filepath.Join(root, "docs", "conformance.md")], "\n") {
		switch {
		case line == header:
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case strings.HasPrefix(line, "|---"):
		case !inTable:
			t.Errorf("line %d: a table begins with %q", i+1, header)
		default:
			rows++
			if err := checkConformanceRow(line, tests); err != nil {
				t.Errorf("line %d: %v", i+1, err)
			}
		}
	}
	if rows < 100 {
		t.Errorf("%d rows", rows)
	}
}

var (
	requirementSource = regexp.MustCompile(`^(MCP|20\d\d-\d\d-\d\d, |Practices|RFC \d{4} §|RFC \d{4}$|OAuth 2\.[01]|OpenID Connect|CIMD §|Fetch standard|JSON-RPC 2\.0 §|Limits of this server)`)
	code              = regexp.MustCompile("`([^`]*)`")
)

// checkConformanceRow reads | requirement | source | file | test | status |.
func checkConformanceRow(line string, tests map[string]bool) error {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	if len(cells) != 5 {
		return fmt.Errorf("%d cells, want 5", len(cells))
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	requirement, source, files, shown := cells[0], cells[1], cells[2], cells[3]
	status, reason, _ := strings.Cut(cells[4], ": ")
	if requirement == "" {
		return errors.New("no requirement")
	}
	for _, part := range strings.Split(source, "; ") {
		if !requirementSource.MatchString(part) {
			return fmt.Errorf("source %q names no standard and section", part)
		}
	}
	for _, cell := range []string{files, shown} {
		if rest := strings.Trim(code.ReplaceAllString(cell, ""), ", "); rest != "" {
			return fmt.Errorf("%q is no list of names", cell)
		}
	}
	for _, m := range code.FindAllStringSubmatch(files, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			return err
		}
	}
	for _, m := range code.FindAllStringSubmatch(shown, -1) {
		if !tests[m[1]] {
			return fmt.Errorf("there is no %s", m[1])
		}
	}
	switch status {
	case "met", "passed on":
		if files == "" || shown == "" || reason != "" {
			return fmt.Errorf("%s needs a file and a test, and no reason", status)
		}
	case "divergence", "not offered":
		if len(reason) < 20 {
			return fmt.Errorf("%s needs a reason", status)
		}
	default:
		return fmt.Errorf("unknown status %q", cells[4])
	}
	return nil
}

func TestConformanceRowsThatAreRefused(t *testing.T) {
	tests := map[string]bool{"TestA": true}
	for _, c := range []struct{ name, line, want string }{
		{"a whole one", "| a | RFC 6749 §3.1 | `go.mod` | `TestA` | met |", ""},
		{"one that is passed on", "| a | MCP 2025-11-25, Overview | `go.mod`, `README.md` | `TestA`, `TestA` | passed on |", ""},
		{"a divergence without a test", "| a | CIMD §3; RFC 6890 | `go.mod` | | divergence: it is done in another way |", ""},
		{"a cell too few", "| a | RFC 6749 §3.1 | `go.mod` | met |", "4 cells, want 5"},
		{"no requirement", "| | RFC 6749 §3.1 | `go.mod` | `TestA` | met |", "no requirement"},
		{"no source", "| a | | `go.mod` | `TestA` | met |", `source "" names no standard and section`},
		{"a source that is none", "| a | common sense | `go.mod` | `TestA` | met |", `source "common sense" names no standard and section`},
		{"an RFC without a section beside another", "| a | RFC 6749 3.1 | `go.mod` | `TestA` | met |", `source "RFC 6749 3.1" names no standard and section`},
		{"a file that is gone", "| a | RFC 6749 §3.1 | `gone.go` | `TestA` | met |", "no such file"},
		{"a test that is gone", "| a | RFC 6749 §3.1 | `go.mod` | `TestB` | met |", "there is no TestB"},
		{"a test that is only promised", "| a | RFC 6749 §3.1 | `go.mod` | to come | met |", `"to come" is no list of names`},
		{"met without a test", "| a | RFC 6749 §3.1 | `go.mod` | | met |", "met needs a file and a test"},
		{"met without a file", "| a | RFC 6749 §3.1 | | `TestA` | met |", "met needs a file and a test"},
		{"met with an excuse", "| a | RFC 6749 §3.1 | `go.mod` | `TestA` | met: mostly, if you look at it kindly |", "no reason"},
		{"a divergence without a reason", "| a | RFC 6749 §3.1 | `go.mod` | `TestA` | divergence |", "divergence needs a reason"},
		{"not offered, because", "| a | RFC 6749 §3.1 | | | not offered: because |", "not offered needs a reason"},
		{"another status", "| a | RFC 6749 §3.1 | `go.mod` | `TestA` | partly |", `unknown status "partly"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := checkConformanceRow(c.line, tests)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// These words promise what only a program with a store can keep. No page uses them; replay.md says
// what holds instead.
var promised = regexp.MustCompile(`(?i)single[- ]use|one[- ]time[- ](code|token)|reuse[- ]detection|\brevocable\b|tokens can be revoked|replay[- ]proof`)

func TestPagesPromiseNothingThatNobodyCanHold(t *testing.T) {
	for _, claim := range []string{"Codes are single-use.", "rotation with reuse detection", "refresh tokens are revocable"} {
		if !promised.MatchString(claim) {
			t.Errorf("the test would not find %q", claim)
		}
	}
	pages := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && isOfOthers(d.Name()) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pages++
		for i, line := range strings.Split(string(content), "\n") {
			if word := promised.FindString(line); word != "" {
				t.Errorf("%s:%d says %q", path, i+1, word)
			}
		}
		return nil
	})
	if err != nil || pages < 10 {
		t.Errorf("%d pages: %v", pages, err)
	}
}

// commentColumns is how wide a line may be that is or ends in a comment. A tab counts four.
const commentColumns = 100

// Comments are prose: they are wrapped, so that every tool shows them whole.
func TestCommentsAreWrapped(t *testing.T) {
	seen := 0
	walkSources(t, func(path string, text []byte) {
		lines := strings.Split(string(text), "\n")
		wide := func(line int) {
			if text := strings.ReplaceAll(lines[line-1], "\t", "    "); utf8.RuneCountInString(text) > commentColumns {
				t.Errorf("%s:%d is a comment of %d columns: at most %d, or above its line", path, line, utf8.RuneCountInString(text), commentColumns)
			}
			seen++
		}
		if !strings.HasSuffix(path, ".go") {
			for i, line := range lines {
				if regexp.MustCompile(`^\s*(//|#) `).MatchString(line) {
					wide(i + 1)
				}
			}
			return
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(file) {
			return
		}
		for _, group := range file.Comments {
			for _, comment := range group.List {
				wide(files.Position(comment.Pos()).Line)
			}
		}
	})
	if seen < 5000 {
		t.Errorf("only %d comments were found", seen)
	}
}

// isOfOthers says whether a folder holds what was built, loaded or installed, which is not ours.
func isOfOthers(folder string) bool {
	return slices.Contains([]string{".git", "build", "node_modules", ".client-go", ".lego", ".source"}, folder)
}

// walkSources calls f with each file of the repository that programs or configures.
func walkSources(t *testing.T, f func(path string, text []byte)) {
	kinds := []string{".go", ".sh", ".js", ".mjs", ".ts", ".yml", ".yaml", ".py", ".rb", ".php", ".toml"}
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if isOfOthers(d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.Contains(kinds, filepath.Ext(path)) && d.Name() != "Makefile" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			f(path, text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
