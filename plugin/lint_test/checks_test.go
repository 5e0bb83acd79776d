package lint_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mcpbouncer/mcpbouncer"

// missing are packages of the standard library that Yaegi v0.16.1 does not have, or has without the
// functions one would import them for, or that do not see methods and fields of our types.
var missing = []string{
	"crypto/hkdf", "crypto/sha3", "embed", "encoding/gob", "encoding/xml", "html/template", "iter",
	"maps", "slices", "text/template", "unique",
}

// uncalled are methods that Yaegi's types do not show to the standard library.
var uncalled = []string{
	"UnmarshalJSON", "UnmarshalText", "MarshalJSON", "MarshalText", "Unwrap", "Is", "As", "LogValue",
	"GoString", "Format",
}

// source is one Go package with what the compiler knows of it.
type source struct {
	files *token.FileSet
	asts  []*ast.File
	info  *types.Info
	types *types.Package
	// The errors of the compiler.
	faults []error
	// The complaints, in the order of the files.
	complaints []string
}

// known are the compiled packages that files import. :: import path → file of export data
type known map[string]string

// compiled asks go for the export data of what the files import.
func compiled(t *testing.T, asts ...*ast.File) known {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", "errors"}
	for _, file := range asts {
		for _, i := range file.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); !slices.Contains(args, path) {
				args = append(args, path)
			}
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as go vet has compiled it, not once more
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	k := known{}
	for _, line := range strings.Split(string(out), "\n") {
		path, file, _ := strings.Cut(line, "\t")
		k[path] = file
	}
	return k
}

// check lints one package.
func check(k known, files *token.FileSet, asts []*ast.File) *source {
	s := &source{files: files, asts: asts, info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
		Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Instances: map[*ast.Ident]types.Instance{},
	}}
	config := types.Config{
		GoVersion: "go1.26", Error: func(err error) { s.faults = append(s.faults, err) },
		Importer: importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
			return os.Open(k[path])
		}),
	}
	s.types, _ = config.Check(asts[0].Name.Name, files, asts, s.info)
	order := s.declarations()
	for _, file := range asts {
		s.imports(file)
		ast.Inspect(file, func(n ast.Node) bool {
			s.node(n)
			return true
		})
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Body != nil {
					s.changes(d.Body)
				}
			case *ast.GenDecl:
				s.variables(d, order)
			}
		}
	}
	return s
}

func (s *source) complain(at ast.Node, name string) {
	for _, r := range traps {
		if r.name == name {
			s.complaints = append(s.complaints, fmt.Sprintf(
				"%s: %s: %s; write instead: %s (lint_test/testdata/traps/%s)",
				s.files.Position(at.Pos()), name, r.yaegi, r.instead, name))
			return
		}
	}
	panic("no such trap: " + name)
}

func (s *source) isTest(at ast.Node) bool {
	return strings.HasSuffix(s.files.Position(at.Pos()).Filename, "_test.go")
}

func (s *source) imports(file *ast.File) {
	lines := 0
	for _, group := range file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:build") || strings.HasPrefix(c.Text, "// +build") {
				lines++
			}
		}
	}
	first := len(file.Comments) > 0 && file.Comments[0].List[0].Text == "//go:build go1.21" &&
		s.files.Position(file.Comments[0].Pos()).Line == 1
	if !first || lines != 1 {
		s.complain(file.Name, "build-line")
	}
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		host, _, _ := strings.Cut(path, "/")
		ours := strings.HasPrefix(path, module+"/plugin/")
		if strings.Contains(host, ".") && !ours || slices.Contains(missing, path) {
			s.complain(i, "import")
		}
	}
}

// node finds what one node of the syntax tree tells by itself.
func (s *source) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		s.assignment(n)
	case *ast.IncDecStmt:
		s.frozen(n.X)
	case *ast.BranchStmt:
		if n.Label != nil {
			s.complain(n, "label")
		}
	case *ast.TypeSwitchStmt:
		s.complain(n, "type-switch")
	case *ast.TypeAssertExpr:
		s.assertion(n)
	case *ast.CaseClause:
		if len(n.List) > 1 {
			s.complain(n, "case-list")
		}
	case *ast.TypeSpec:
		if n.TypeParams != nil {
			s.complain(n, "generics")
		}
	case *ast.StructType:
		s.structure(n)
	case *ast.FuncDecl:
		s.function(n)
	case *ast.FuncLit:
		s.parameters(n, n.Type, n.Body)
		s.results(n.Type, n.Body)
	case *ast.ReturnStmt:
		for _, r := range n.Results {
			if u, ok := r.(*ast.UnaryExpr); ok && u.Op == token.ARROW {
				s.complain(n, "returned-receive")
			}
		}
	case *ast.Ident:
		if _, is := s.info.Instances[n]; is {
			s.complain(n, "generics")
		}
	case *ast.SelectorExpr:
		if chosen := s.info.Selections[n]; chosen != nil && chosen.Kind() == types.MethodExpr {
			s.complain(n, "method-expression")
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			s.frozen(n.X)
		}
	case *ast.IndexExpr:
		if s.isMapOfAny(n.X) && s.isMixable(n.Index) {
			s.complain(n, "named-key")
		}
	case *ast.CompositeLit:
		s.literal(n)
	case *ast.CallExpr:
		s.call(n)
	case *ast.BinaryExpr:
		s.binary(n)
	case *ast.ForStmt:
		s.loop(n.Body)
	case *ast.RangeStmt:
		s.loop(n.Body)
		s.ranged(n)
	}
}

func (s *source) assignment(n *ast.AssignStmt) {
	if n.Tok == token.ASSIGN && len(n.Rhs) > 1 && slices.ContainsFunc(n.Rhs, hasCall) {
		s.complain(n, "tuple-assignment")
	}
	if n.Tok == token.ASSIGN && len(n.Rhs) > 1 && slices.ContainsFunc(n.Rhs, s.isNil) {
		s.complain(n, "tuple-nil")
	}
	for _, to := range n.Lhs {
		if n.Tok != token.DEFINE {
			s.frozen(to)
		}
		if len(n.Lhs) > 1 && len(n.Rhs) == 1 && s.isMapElement(to) {
			s.complain(n, "map-element")
		}
	}
}

func (s *source) isNil(e ast.Expr) bool { return s.info.Types[e].IsNil() }

func (s *source) isMapElement(e ast.Expr) bool {
	i, ok := ast.Unparen(e).(*ast.IndexExpr)
	if !ok {
		return false
	}
	_, ok = underlying(s.typeOf(i.X)).(*types.Map)
	return ok
}

// frozen finds a change of an exported variable of a package of ours.
func (s *source) frozen(to ast.Expr) {
	name, ok := ast.Unparen(to).(*ast.Ident)
	if sel, is := ast.Unparen(to).(*ast.SelectorExpr); is {
		name, ok = sel.Sel, true
	}
	if !ok {
		return
	}
	v, ok := s.info.Uses[name].(*types.Var)
	if ok && v.Exported() && !v.IsField() && s.isOurs(v.Pkg()) && v.Parent() == v.Pkg().Scope() {
		s.complain(to, "frozen-variable")
	}
}

// assertion finds type assertions to types of our own. In tests they are common, and there is one
// such type at most.
func (s *source) assertion(n *ast.TypeAssertExpr) {
	if n.Type == nil {
		return // a type switch
	}
	to := s.typeOf(n.Type)
	if s.ownName(to) != nil && !s.isTest(n) {
		s.complain(n, "type-assertion")
	}
	if isError(to) {
		s.complain(n, "panic-error")
	}
}

func (s *source) structure(n *ast.StructType) {
	tagged := false
	for _, f := range n.Fields.List {
		tagged = tagged || f.Tag != nil && strings.Contains(f.Tag.Value, `json:"`)
		if t := s.typeOf(f.Type); len(f.Names) == 0 && types.IsInterface(t) && !s.isOwn(t) {
			s.complain(f, "embedded-interface")
		}
	}
	if tagged {
		s.encoded(n, s.typeOf(n), nil)
	}
}

// encoded finds what JSON does not treat as Go does, in a type that is encoded or decoded.
func (s *source) encoded(at ast.Node, t types.Type, above []types.Type) {
	if t == nil || slices.Contains(above, t) {
		return
	}
	above = append(above, t)
	if named, ok := types.Unalias(t).(*types.Named); ok && !s.isOurs(named.Obj().Pkg()) {
		return
	}
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		s.encoded(at, u.Elem(), above)
	case *types.Slice:
		s.encoded(at, u.Elem(), above)
	case *types.Array:
		s.encoded(at, u.Elem(), above)
	case *types.Map:
		s.encoded(at, u.Elem(), above)
	case *types.Struct:
		for i := 0; i < u.NumFields(); i++ {
			f := u.Field(i)
			switch {
			case f.Embedded():
				s.complain(at, "json-embedded")
			case !f.Exported():
				s.complain(at, "json-unexported")
			default:
				s.encoded(at, f.Type(), above)
			}
		}
	}
}

func (s *source) function(n *ast.FuncDecl) {
	if n.Type.TypeParams != nil {
		s.complain(n, "generics")
	}
	if n.Recv != nil {
		signature := types.ExprString(n.Type)
		if slices.Contains(uncalled, n.Name.Name) {
			s.complain(n, "uncalled-method")
		}
		if n.Name.Name == "String" && signature == "func() string" && !s.isTest(n) {
			s.complain(n, "unseen-string")
		}
		if n.Name.Name == "Error" && signature == "func() string" {
			s.complain(n, "error-type")
		}
	}
	s.parameters(n, n.Type, n.Body)
	s.results(n.Type, n.Body)
}

func (s *source) parameters(at ast.Node, f *ast.FuncType, body *ast.BlockStmt) {
	if body == nil || len(body.List) == 0 {
		return
	}
	for _, p := range f.Params.List {
		if len(p.Names) == 0 {
			s.complain(at, "unnamed-parameter")
		}
	}
}

// literal finds our types in interface fields of foreign structs, and keys of maps that are not
// what they seem.
func (s *source) literal(n *ast.CompositeLit) {
	t := s.typeOf(n)
	if t == nil {
		return
	}
	if s.isMapOfAny(n) {
		for _, e := range n.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok && s.isMixable(pair.Key) {
				s.complain(e, "named-key")
			}
		}
	}
	if _, ok := underlying(t).(*types.Struct); !ok || s.isOwn(t) {
		return
	}
	for _, e := range n.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		name, ok := pair.Key.(*ast.Ident)
		if !ok {
			continue
		}
		field, ok := s.info.Uses[name].(*types.Var)
		value := s.typeOf(pair.Value)
		if ok && types.IsInterface(field.Type()) && !types.IsInterface(value) && s.ownName(value) != nil {
			s.complain(e, "interface-field")
		}
	}
}

func (s *source) call(n *ast.CallExpr) {
	if f, ok := ast.Unparen(n.Fun).(*ast.Ident); ok {
		if _, is := s.info.Uses[f].(*types.Builtin); is {
			switch f.Name {
			case "min", "max", "clear":
				s.complain(n, "builtin")
			case "print", "println":
				s.complain(n, "print")
			case "panic":
				if t := s.typeOf(n.Args[0]); t != nil && types.Implements(t, errorType) {
					s.complain(n, "panic-error")
				}
			}
		}
		return
	}
	f, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr)
	if !ok {
		return
	}
	called, ok := s.info.Uses[f.Sel].(*types.Func)
	if !ok {
		return
	}
	switch called.FullName() {
	case "errors.As":
		s.complain(n, "errors-as")
	case "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "(*log.Logger).Fatal",
		"(*log.Logger).Fatalf", "(*log.Logger).Fatalln":
		s.complain(n, "exit")
	case "encoding/json.Marshal", "encoding/json.MarshalIndent", "(*encoding/json.Encoder).Encode",
		"(*encoding/json.Decoder).Decode":
		s.encoded(n, s.typeOf(n.Args[0]), nil)
	case "encoding/json.Unmarshal":
		s.encoded(n, s.typeOf(n.Args[1]), nil)
	case "context.WithValue":
		if s.isMixable(n.Args[1]) {
			s.complain(n, "named-key")
		}
	case "(context.Context).Value":
		if s.isMixable(n.Args[0]) {
			s.complain(n, "named-key")
		}
	}
}

func (s *source) isMapOfAny(e ast.Expr) bool {
	m, ok := underlying(s.typeOf(e)).(*types.Map)
	return ok && types.IsInterface(m.Key())
}

// isMixable says whether a key is equal to one of another type in Yaegi: a value of a named type
// of ours.
func (s *source) isMixable(e ast.Expr) bool {
	t := s.typeOf(e)
	if t == nil {
		return false
	}
	if _, ok := t.Underlying().(*types.Pointer); ok {
		return false
	}
	_, bare := types.Unalias(t).(*types.Struct)
	return bare || s.isOwn(t) && !types.IsInterface(t)
}

func (s *source) binary(n *ast.BinaryExpr) {
	x, y := s.info.Types[n.X], s.info.Types[n.Y]
	switch n.Op {
	case token.EQL, token.NEQ:
		if !x.IsNil() && !y.IsNil() && (hasMethods(x.Type) || hasMethods(y.Type)) {
			s.complain(n, "interface-equality")
		}
	case token.QUO:
		b, ok := underlying(s.typeOf(n)).(*types.Basic)
		if !ok || b.Info()&types.IsFloat == 0 || !isWhole(x.Value) || !isWhole(y.Value) {
			return
		}
		whole := constant.BinaryOp(constant.ToInt(x.Value), token.QUO_ASSIGN, constant.ToInt(y.Value))
		exact := constant.BinaryOp(whole, token.MUL, y.Value)
		if !constant.Compare(exact, token.EQL, x.Value) {
			s.complain(n, "constant-division")
		}
	}
}

// hasMethods says whether a type is an interface that is not error, of which sentinels are
// compared, and not any.
func hasMethods(t types.Type) bool {
	i, ok := underlying(t).(*types.Interface)
	return ok && i.NumMethods() > 0 && !isError(t)
}

func isWhole(v constant.Value) bool { return v != nil && v.Kind() == constant.Int }

// results finds a return of expressions that name results of the function.
func (s *source) results(f *ast.FuncType, body *ast.BlockStmt) {
	if f.Results == nil || body == nil {
		return
	}
	var names []types.Object
	for _, field := range f.Results.List {
		for _, name := range field.Names {
			names = append(names, s.info.Defs[name])
		}
	}
	if len(names) == 0 {
		return
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if s.mixes(n, names) {
				s.complain(n, "named-result")
			}
		}
		return true
	})
}

func (s *source) mixes(n *ast.ReturnStmt, names []types.Object) (found bool) {
	kept := func(i int) bool { // a result that is returned as itself
		name, ok := ast.Unparen(n.Results[i]).(*ast.Ident)
		return ok && s.info.Uses[name] == names[i]
	}
	for i, result := range n.Results {
		_, makes := ast.Unparen(result).(*ast.CompositeLit)
		ast.Inspect(result, func(x ast.Node) bool {
			name, ok := x.(*ast.Ident)
			if !ok {
				return true
			}
			at := slices.Index(names, s.info.Uses[name])
			if at >= 0 && (at != i && !kept(at) || at == i && makes) {
				found = true
			}
			return true
		})
	}
	return found
}

func (s *source) ranged(n *ast.RangeStmt) {
	t := underlying(s.typeOf(n.X))
	b, ok := t.(*types.Basic)
	switch {
	case ok && b.Info()&types.IsInteger != 0:
		s.complain(n, "range-over-number")
	case ok && b.Info()&types.IsString != 0:
		if key, is := n.Key.(*ast.Ident); n.Key != nil && (!is || key.Name != "_") {
			s.complain(n, "string-position")
		}
	}
	if s.isMapElement(n.Key) || s.isMapElement(n.Value) {
		s.complain(n, "map-element")
	}
}

// loop finds what captures a loop variable, of which Yaegi has one for all rounds. Tests may use
// closures that end within their round.
func (s *source) loop(body *ast.BlockStmt) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.GoStmt, *ast.DeferStmt:
			s.complain(n, "captured-in-loop")
		case *ast.FuncLit:
			if !s.isTest(n) {
				s.complain(n, "captured-in-loop")
			}
		}
		return true
	})
}

// change is an assignment to something that is spelt so.
type change struct {
	path string
	at   token.Pos
}

// changes finds expressions that Yaegi evaluates later than where they stand, and that are changed
// in between.
func (s *source) changes(body *ast.BlockStmt) {
	var made []change
	note := func(e ast.Expr) {
		if e != nil {
			made = append(made, change{types.ExprString(ast.Unparen(e)), e.Pos()})
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, to := range n.Lhs {
					note(to)
				}
			}
		case *ast.IncDecStmt:
			note(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				note(n.Key)
				note(n.Value)
			}
		}
		return true
	})
	var calls []ast.Expr // functions that are called where they stand
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.DeferStmt:
			s.late(n, n.Call, made)
		case *ast.GoStmt:
			s.late(n, n.Call, made)
		case *ast.CallExpr:
			calls = append(calls, ast.Unparen(n.Fun))
		case *ast.SelectorExpr:
			chosen := s.info.Selections[n]
			if chosen == nil || chosen.Kind() != types.MethodVal || slices.Contains(calls, ast.Expr(n)) {
				break
			}
			method, _ := chosen.Obj().(*types.Func)
			isCopy := !byPointer(method) && !types.IsInterface(chosen.Recv())
			if isCopy || changed(n.X, n.Pos(), true, made) {
				s.complain(n, "method-value")
			}
		}
		return true
	})
}

func (s *source) late(at ast.Node, call *ast.CallExpr, made []change) {
	for _, a := range call.Args {
		_, isPointer := underlying(s.typeOf(a)).(*types.Pointer)
		if changed(a, call.End(), !isPointer, made) {
			s.complain(at, "late-argument")
			return
		}
	}
	of, parts := call.Fun, false
	if f, ok := call.Fun.(*ast.SelectorExpr); ok && s.info.Selections[f] != nil {
		method, ok := s.info.Selections[f].Obj().(*types.Func)
		parts = ok && !byPointer(method)
		if _, isPointer := underlying(s.typeOf(f.X)).(*types.Pointer); ok && !parts && !isPointer {
			return // the address of a variable, which stays the same
		}
		of = f.X
	}
	if _, isLiteral := of.(*ast.FuncLit); !isLiteral && changed(of, call.End(), parts, made) {
		s.complain(at, "late-argument")
	}
}

func byPointer(method *types.Func) bool {
	_, is := underlying(method.Signature().Recv().Type()).(*types.Pointer)
	return is
}

// changed says whether something that an expression is made of is assigned to behind a position;
// with parts, also whether a part of what it names is.
func changed(e ast.Expr, behind token.Pos, parts bool, made []change) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.FuncLit:
			return false // evaluates its variables when it runs, in Go too
		case *ast.Ident, *ast.SelectorExpr, *ast.IndexExpr, *ast.StarExpr:
		default:
			return true
		}
		path := types.ExprString(n.(ast.Expr))
		for _, c := range made {
			part, is := strings.CutPrefix(c.path, path)
			inside := parts && n == ast.Node(e) && is && strings.IndexAny(part, ".[") == 0
			if c.at > behind && (c.path == path || inside) {
				found = true
			}
		}
		_, selects := n.(*ast.SelectorExpr)
		if selects {
			ast.Inspect(n.(*ast.SelectorExpr).X, func(x ast.Node) bool {
				if inner, ok := x.(ast.Expr); ok && changed(inner, behind, false, made) {
					found = true
				}
				return false
			})
		}
		return !selects
	})
	return found
}

// declarations are the places of package variables that are given a value, and the functions of
// the package.
func (s *source) declarations() map[types.Object]ast.Node {
	found := map[types.Object]ast.Node{}
	for _, file := range s.asts {
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				found[s.info.Defs[d.Name]] = d
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR && len(v.Values) > 0 {
						for _, name := range v.Names {
							found[s.info.Defs[name]] = v
						}
					}
				}
			}
		}
	}
	return found
}

// variables finds package variables whose first value depends, through functions, on another one
// that Yaegi sets later.
func (s *source) variables(d *ast.GenDecl, order map[types.Object]ast.Node) {
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok || d.Tok != token.VAR {
			continue
		}
		for _, value := range v.Values {
			r := &reach{s, v, order, map[ast.Node]bool{}}
			if r.later(value, false) {
				s.complain(v, "package-variable")
			}
		}
	}
}

// reach follows the functions that the first value of a package variable calls or names.
type reach struct {
	*source
	from *ast.ValueSpec
	// :: variable or function of the package → its declaration
	declared map[types.Object]ast.Node
	seen     map[ast.Node]bool
}

// later says whether a node reads a variable that is set after r.from; within, that it is the body
// of a function. What the value itself names comes first in Yaegi, too.
func (r *reach) later(n ast.Node, within bool) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			found = found || r.later(n.Body, true)
			return false
		case *ast.Ident:
			switch d := r.declared[r.info.Uses[n]].(type) {
			case *ast.FuncDecl:
				if d.Body != nil && !r.seen[d] {
					r.seen[d] = true
					found = found || r.later(d.Body, true)
				}
			case *ast.ValueSpec:
				found = found || within && d != r.from && r.isBehind(d)
			}
		}
		return true
	})
	return found
}

// isBehind is also true of other files, because nobody promises their order.
func (r *reach) isBehind(d ast.Node) bool {
	here, there := r.files.Position(r.from.Pos()), r.files.Position(d.Pos())
	return there.Filename != here.Filename || there.Offset > here.Offset
}

var errorType = types.Universe.Lookup("error").Type().Underlying().(*types.Interface)

func isError(t types.Type) bool {
	return t != nil && types.Identical(t, types.Universe.Lookup("error").Type())
}

func (s *source) typeOf(e ast.Expr) types.Type { return s.info.TypeOf(e) }

func underlying(t types.Type) types.Type {
	if t == nil {
		return nil
	}
	return t.Underlying()
}

// isOurs says whether a package is interpreted: the one that is looked at, or another of the
// plugin.
func (s *source) isOurs(p *types.Package) bool {
	return p != nil && (p == s.types || strings.HasPrefix(p.Path(), module+"/plugin"))
}

func (s *source) isOwn(t types.Type) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && s.isOurs(named.Obj().Pkg())
}

// ownName returns the name of a type of ours, or of the type that it points to.
func (s *source) ownName(t types.Type) *types.TypeName {
	if t == nil {
		return nil
	}
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	if named, ok := types.Unalias(t).(*types.Named); ok && s.isOurs(named.Obj().Pkg()) {
		return named.Obj()
	}
	return nil
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

func parse(t *testing.T, files *token.FileSet, name string, text any) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
