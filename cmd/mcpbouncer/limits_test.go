package main

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// constants type-checks packages of this module just far enough to know their constants.
type constants struct {
	fset     *token.FileSet
	packages map[string]*types.Package // :: import path → package
}

// Import reads this module's packages and the units of time. What else is imported stays unknown.
func (c *constants) Import(path string) (*types.Package, error) {
	if p := c.packages[path]; p != nil {
		return p, nil
	}
	if path == "time" {
		p := types.NewPackage("time", "time")
		duration := types.NewNamed(types.NewTypeName(token.NoPos, p, "Duration", nil), types.Typ[types.Int64], nil)
		p.Scope().Insert(duration.Obj())
		for name, unit := range map[string]time.Duration{
			"Nanosecond": 1, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond,
			"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
		} {
			p.Scope().Insert(types.NewConst(token.NoPos, p, name, duration, constant.MakeInt64(int64(unit))))
		}
		p.MarkComplete()
		c.packages[path] = p
		return p, nil
	}
	dir, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return nil, errors.New("not needed")
	}
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(c.fset, name, nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	config := types.Config{Importer: c, IgnoreFuncBodies: true, Error: func(error) {}}
	p, _ := config.Check(path, c.fset, files, nil) // the error is that of what stayed unknown
	c.packages[path] = p
	return p, nil
}

// find returns the constant that a page calls package.name. A package may have been divided since:
// then the name alone counts, if only one package has it.
func (c *constants) find(name string) (*types.Const, error) {
	in, name, _ := strings.Cut(name, ".")
	var found []*types.Const
	for _, p := range c.packages {
		if limit, ok := p.Scope().Lookup(name).(*types.Const); ok {
			if p.Name() == in {
				return limit, nil
			}
			found = append(found, limit)
		}
	}
	if len(found) != 1 {
		return nil, errors.New("there are " + strconv.Itoa(len(found)) + " constants of this name")
	}
	return found[0], nil
}

func newConstants(t *testing.T) *constants {
	t.Helper()
	c := &constants{fset: token.NewFileSet(), packages: map[string]*types.Package{}}
	for _, dir := range []string{"issuer", "plugin", "sealing", "cmd/mcpbouncer"} {
		for file := range importsIn(t, dir) {
			rel, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil || strings.Contains(rel, "test") {
				continue
			}
			if _, err := c.Import(module + "/" + filepath.ToSlash(rel)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

var (
	limitRow = regexp.MustCompile("^\\| .+ \\| ([0-9][0-9,]*)(?: ([^|]*?))? \\| `([A-Za-z.]+)` \\|$")
	// :: unit → what a number of it counts in a constant without a type
	units = map[string]int64{"KB": 1 << 10, "MB": 1 << 20, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600, "day": 86400, "days": 86400}
)

// A number on a page equals the one in the code.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	known := newConstants(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "| ") || line == "| limit | value | constant |" {
			continue
		}
		cells := limitRow.FindStringSubmatch(line)
		if cells == nil {
			t.Errorf("line %d is not | limit | value | `package.constant` |", i+1)
			continue
		}
		rows++
		limit, err := known.find(cells[3])
		if err != nil {
			t.Errorf("line %d: %s: %v", i+1, cells[3], err)
			continue
		}
		says, err := strconv.ParseInt(strings.ReplaceAll(cells[1], ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if factor, ok := units[cells[2]]; ok {
			says *= factor
		}
		if limit.Type().String() == "time.Duration" {
			says *= int64(time.Second)
			if cells[2] == "milliseconds" {
				says /= 1000
			}
		}
		if got, exact := constant.Int64Val(constant.ToInt(limit.Val())); !exact || got != says {
			t.Errorf("line %d says %s %s, %s is %v", i+1, cells[1], cells[2], cells[3], limit.Val())
		}
	}
	if rows < 60 {
		t.Errorf("%d rows", rows)
	}
}
