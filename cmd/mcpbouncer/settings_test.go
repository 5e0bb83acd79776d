package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// A configuration struct documents itself: the comment above a field says what it means, its unit,
// what it excludes, and at the end its default. A comment that begins with # opens a group.
//
//	// # How long logins last
//	//
//	// A sentence about the group.
//
//	// SessionTTL is how long a login lasts at most. A number is hours. Default: `24` (hours).
//	SessionTTL hours
//
//	// Ring holds the master secrets. Required.
//	Ring *sealing.Ring

// setting is one field, as its comment explains it.
type setting struct {
	field   reflect.StructField
	comment string // on one line
	// meaning is the comment without "Name is" and without its last sentence.
	meaning string
	// One of these two is empty: what stands behind "Default:", or all that begins with "Required".
	standard, required string
}

type group struct {
	title, text string
	settings    []setting
}

var (
	// The name, its verb, the meaning, and the last sentence.
	explained = regexp.MustCompile(`^(\w+) (\w+) (.+[.)]) (?:Default: (.+)|(Required.*))\.$`)
	oneBlank  = regexp.MustCompile(`\s+`)
)

// groupsOf reads the comments of a struct. A field without its comment, or without a group, is an
// error of the test.
func groupsOf(t *testing.T, file string, of reflect.Type) []group {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var fields *ast.FieldList
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == of.Name() {
			fields = spec.Type.(*ast.StructType).Fields
		}
		return fields == nil
	})
	if fields == nil {
		t.Fatalf("%s has no struct %s", file, of.Name())
	}
	headings := parsed.Comments
	var groups []group
	for _, field := range fields.List {
		for len(headings) > 0 && headings[0].Pos() < field.Pos() {
			text := headings[0].Text()
			if headings[0].Pos() > fields.Pos() && strings.HasPrefix(text, "# ") {
				title, about, _ := strings.Cut(text[2:], "\n")
				groups = append(groups, group{title: title, text: onOneLine(about)})
			}
			headings = headings[1:]
		}
		if len(field.Names) != 1 || !field.Names[0].IsExported() || field.Names[0].Name == "Extra" {
			continue // Extra receives everything that is not a label
		}
		s, ok := settingOf(t, of, field)
		if ok && len(groups) == 0 {
			t.Errorf("%s.%s is in no group", of.Name(), s.field.Name)
		} else if ok {
			last := &groups[len(groups)-1]
			last.settings = append(last.settings, s)
		}
	}
	return groups
}

func settingOf(t *testing.T, of reflect.Type, field *ast.Field) (setting, bool) {
	name := field.Names[0].Name
	s := setting{comment: onOneLine(field.Doc.Text())}
	m := explained.FindStringSubmatch(s.comment)
	if m == nil || m[1] != name {
		t.Errorf("%s.%s: write above it %q, not %q", of.Name(), name, name+" is …. Default: ….", s.comment)
		return s, false
	}
	s.field, _ = of.FieldByName(name)
	verb, meaning := m[2], m[3]
	if verb != "is" && verb != "are" {
		meaning = verb + " " + meaning
	}
	first, size := utf8.DecodeRuneInString(meaning)
	s.meaning, s.standard, s.required = string(unicode.ToUpper(first))+meaning[size:], m[4], m[5]
	return s, true
}

func onOneLine(text string) string { return strings.TrimSpace(oneBlank.ReplaceAllString(text, " ")) }

const maxComment = 480 // characters: whatever needs more has a page of its own

var (
	durationName = regexp.MustCompile(`Seconds$|Days$|Hours$|TTL$|Interval$`)
	bareBound    = regexp.MustCompile(`at (most|least) [0-9,]+[^a-z]*$|at (most|least) [0-9,]+[.:;]`)
	negative     = regexp.MustCompile(`^(No|Not|Never|Without|Disable|Skip)[A-Z]`)
	unit         = regexp.MustCompile(`\b(second|minute|hour|day)s?\b`)
)

// Every setting of the three structs is in one group, and its comment says what there is to say.
func TestSettingsDocumentThemselves(t *testing.T) {
	for _, c := range []struct {
		file  string
		of    reflect.Type
		least int
	}{
		{"../../plugin/config.go", reflect.TypeFor[plugin.Config](), 39},
		{"environment.go", reflect.TypeFor[environment](), 16},
		{"../../issuer/issuer.go", reflect.TypeFor[issuer.Config](), 18},
	} {
		seen := map[string]string{} // :: field or title → group
		for _, g := range groupsOf(t, c.file, c.of) {
			if len(g.settings) == 0 || seen[g.title] != "" {
				t.Errorf("%s: the group %q is empty, or there are two", c.file, g.title)
			}
			seen[g.title] = g.title
			for _, s := range g.settings {
				seen[s.field.Name] = g.title
				where := c.of.Name() + "." + s.field.Name
				if n := utf8.RuneCountInString(s.comment); n > maxComment {
					t.Errorf("%s: its comment has %d characters, %d at most: give it a page", where, n, maxComment)
				}
				// A time.Duration is its own unit.
				if durationName.MatchString(s.field.Name) && s.field.Type != reflect.TypeFor[time.Duration]() && !unit.MatchString(s.comment) {
					t.Errorf("%s: its comment names no unit", where)
				}
				if bound := bareBound.FindString(s.comment); bound != "" {
					t.Errorf("%s: %q of what?", where, bound)
				}
				if strings.Count(s.comment, "`")%2 != 0 {
					t.Errorf("%s: a ` is not closed", where)
				}
				if standard := s.field.Tag.Get("default"); standard != "" && !strings.HasPrefix(s.standard, "`"+standard+"`") {
					t.Errorf("%s: the comment's default is %s, the tag's %s", where, s.standard, standard)
				}
			}
		}
		settings := 0
		for field := range c.of.Fields() {
			if field.IsExported() && field.Name != "Extra" {
				settings++
				if seen[field.Name] == "" {
					t.Errorf("%s.%s is in no group", c.of.Name(), field.Name)
				}
			}
		}
		if settings < c.least {
			t.Errorf("%s: %d settings", c.file, settings)
		}
	}
}

// The test above reads comments by form; it must see what is wrong with one.
func TestSettingsDocumentThemselves_Forms(t *testing.T) {
	for comment, good := range map[string]bool{
		"Resource is the name. Required.":                      true,
		"Resource is the name. Required, unless it is a file.": true,
		"Resource is the name. Default: `wiki`.":               true,
		"Resource is the name, if any (or two). Default: none": false,
		"Resource is the name.":                                false,
		"Resource is the name. Default:":                       false,
		"":                                                     false,
	} {
		if explained.MatchString(comment) != good {
			t.Errorf("%q: %v", comment, !good)
		}
	}
}

// A boolean with a negative name has to be read twice at each use: if !o.NoReplicas. No field
// outside the tests has one, in the kit and the rig neither.
func TestSettingsSayWhatIsSo(t *testing.T) {
	booleans := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "build" || path != "../.." && strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok {
				return true
			}
			if kind, ok := field.Type.(*ast.Ident); !ok || kind.Name != "bool" {
				return true
			}
			for _, name := range field.Names {
				if name.IsExported() {
					booleans++
				}
				if negative.MatchString(name.Name) {
					t.Errorf("%s: %s: say what is so, not what is not", path, name.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || booleans < 40 {
		t.Errorf("%d booleans were read: %v", booleans, err)
	}
}
