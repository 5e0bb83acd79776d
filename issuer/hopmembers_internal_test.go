package issuer

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the members of the hop payload into docs/hop.md and issuertest/tenant.go")

const (
	hopPage   = "../docs/hop.md"
	kitTenant = "issuertest/tenant.go"
	toUpdate  = "go test ./issuer -run TestHopMembers -update"
)

// The members of the hop payload are declared by the fields of tenant. What follows from them is
// written by
//
//	go test ./issuer -run TestHopMembers -update
//	go run ./plugin/testdata/gen plugin/testdata docs/hop.md
//
// which `make generate` does too.
// First the table of docs/hop.md. From that page alone come the kit's Tenant and, by the second
// command, the vector of all labels: neither sees the code of the sidecar, and the plugin, which
// has its own list, must read and write that vector to the byte.
func TestHopMembersOnThePage(t *testing.T) {
	page, err := os.ReadFile(hopPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), tableHead)
	if !found {
		t.Fatalf("%s has no table that begins with %q", hopPage, tableHead)
	}
	_, after, _ := strings.Cut(rest, "\n\n")
	want := before + tableHead + strings.Join(pageRows(t), "") + "\n" + after
	if *update {
		if err := os.WriteFile(hopPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(page) != want {
		t.Errorf("the table of members in %s is stale: %s", hopPage, toUpdate)
	}
}

const tableHead = "| member | type | default | example | meaning |\n|---|---|---|---|---|\n"

// pageRows returns a table row for each field of tenant that is a member.
func pageRows(t *testing.T) []string {
	rows := []string{fmt.Sprintf("| `v` | number | always sent | `%s` | The version of the payload. |\n", hopVersion)}
	comments := fieldComments(t)
	for f := range reflect.TypeFor[tenant]().Fields() {
		name, ok := f.Tag.Lookup("json")
		if !ok {
			continue
		}
		meaning := memberComment.FindStringSubmatch(comments[f.Name])
		if meaning == nil || meaning[1] != f.Name {
			t.Errorf("tenant.%s: write above it %q, not %q", f.Name, f.Name+" is ….", comments[f.Name])
			continue
		}
		kind, ok := pageTypes[f.Type.String()]
		if !ok {
			t.Errorf("tenant.%s: the page has no name for %s", f.Name, f.Type)
		}
		standard, example := "always sent", inJSON(t, f, "example")
		if written, ok := f.Tag.Lookup("default"); ok {
			standard = "`" + inJSON(t, f, "default") + "`"
			if strings.Contains(meaning[2], "Left out, it is the resource.") && written == "" {
				standard = "the resource"
			}
		}
		if "`"+example+"`" == standard {
			t.Errorf("tenant.%s: the example is the default", f.Name)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | `%s` | %s |\n", name, kind, standard, example,
			strings.ToUpper(meaning[2][:1])+pageName.ReplaceAllString(meaning[2][1:], "[$1]($1)")))
	}
	return rows
}

var (
	initials      = strings.NewReplacer("Mcp", "MCP", "Dpop", "DPoP")
	memberComment = regexp.MustCompile(`^(\w+) (?:is|are) (.+\.)$`)
	pageName      = regexp.MustCompile(`docs/([a-z-]+\.md)`)
	pageTypes     = map[string]string{"string": "string", "[]string": "array of strings", "uint32": "32-bit number", "int64": "number"}
)

// inJSON returns a tag's value as JSON. The tag has a text without quotes.
func inJSON(t *testing.T, f reflect.StructField, tag string) string {
	value, ok := f.Tag.Lookup(tag)
	if !ok {
		t.Errorf("tenant.%s: has no %s", f.Name, tag)
	}
	if f.Type.Kind() == reflect.String {
		return strconv.Quote(value)
	}
	if err := json.Unmarshal([]byte(value), reflect.New(f.Type).Interface()); err != nil {
		t.Errorf("tenant.%s: its %s: %v", f.Name, tag, err)
	}
	return value
}

// fieldComments maps the fields of tenant to their comments, on one line each.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "tenant.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "tenant" {
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				comments[field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
			}
		}
		return true
	})
	return comments
}

// The kit's Tenant has the members that the page lists.
func TestHopMembersOfTheKit(t *testing.T) {
	page, err := os.ReadFile(hopPage)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("// Code generated from docs/hop.md by " + toUpdate + ". DO NOT EDIT.\n\npackage issuertest\n\n" +
		"// Tenant is the payload of a hop header (docs/hop.md). The tag sent is on members whose zero value\n" +
		"// is not their default, so that it must be sent.\ntype Tenant struct {\n")
	members := 0
	for _, row := range pageRow.FindAllStringSubmatch(string(page), -1) {
		name, kind, standard := row[1], row[2], row[3]
		if name == "v" {
			continue
		}
		sent := ""
		if kind != "string" && standard != "`[]`" && standard != "`0`" {
			sent = ` sent:"always"`
		}
		fmt.Fprintf(&b, "%s %s `json:%q%s`\n", initials.Replace(strings.ToUpper(name[:1])+name[1:]), kitTypes[kind], name, sent)
		members++
	}
	want, err := format.Source([]byte(b.String() + "}\n"))
	if err != nil || members < 26 {
		t.Fatalf("%d members: %v", members, err)
	}
	if *update {
		if err := os.WriteFile(kitTenant, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(kitTenant); err != nil || string(got) != string(want) {
		t.Errorf("%s is stale (%v): %s", kitTenant, err, toUpdate)
	}
}

var (
	pageRow  = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([a-z0-9 -]+) \\| ([^|]+) \\| `[^|]+` \\| [^|]+ \\|$")
	kitTypes = map[string]string{"string": "string", "array of strings": "[]string", "32-bit number": "uint32", "number": "int64"}
)

// The table of paths on the page equals the routes, because a second implementation of either side
// has only the page. -update writes the table, and keeps the column that says for whom a path is.
func TestHopPathsAreThoseOfThePage(t *testing.T) {
	page, err := os.ReadFile(hopPage)
	if err != nil {
		t.Fatal(err)
	}
	const heading = "| path | method | scripts | for |\n|---|---|---|---|\n"
	before, table, ok := strings.Cut(string(page), heading)
	table, after, ended := strings.Cut(table, "\n\n")
	if !ok || !ended {
		t.Fatalf("%s has no table of paths", hopPage)
	}
	// :: path → whom it is for
	readers := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(/[^`]+)` .* \\| ([^|]+) \\|$").FindAllStringSubmatch(table, -1) {
		readers[m[1]] = m[2]
	}
	s := &Issuer{}
	var want []string
	note := func(routes []route, reader string, others ...string) {
		for _, r := range routes {
			scripts, reader, others := "no", reader, others
			if r.cors {
				scripts = "yes"
			}
			if strings.HasPrefix(r.path, "/hop/") {
				reader, others = "the plugin itself", nil
			}
			if slices.Contains(others, readers[r.path]) {
				reader = readers[r.path]
			}
			want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", r.path, r.method, scripts, reader))
		}
	}
	note(s.documentRoutes(), "clients", "the plugin, the MCP server", "the provider")
	note(s.clientRoutes(), "clients")
	note(s.pageRoutes(), "people")
	note(s.pluginRoutes(), "the plugin itself")
	if all := len(s.routes()) + len(s.pageRoutes()); len(want) != all || all < 17 {
		t.Fatalf("%d paths are noted, there are %d", len(want), all)
	}
	if *update {
		page = []byte(before + heading + strings.Join(want, "\n") + "\n\n" + after)
		if err := os.WriteFile(hopPage, page, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != strings.Join(want, "\n") {
		t.Errorf("on the page\n%s\nin the code\n%s\nto write it: go test ./issuer -run TestHopPaths -update", table, strings.Join(want, "\n"))
	}
	for _, r := range s.routes() {
		if strings.HasPrefix(r.path, "/hop/") && !strings.Contains(string(page), "\n| `"+r.method+" "+r.path+"`") {
			t.Errorf("no row of the page says what %s answers", r.path)
		}
	}
}
