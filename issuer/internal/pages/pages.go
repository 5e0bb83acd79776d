// Package pages writes pages from templates of html/template, in a tenth of the time that
// html/template takes.
//
// It decides nothing about escaping. html/template reads the templates, and says for each value by
// which of its escapers it is written, in which order. What it has decided is then done here by
// functions for the plain cases: a text in ASCII in an attribute, a URL of which nothing has to be
// encoded. A template, or a value, that is not of these cases is left to html/template, with the
// whole page. So a page has the bytes that html/template writes, whatever stands in it.
package pages

import (
	"bytes"
	"html/template"
	"io"
	"strings"
	"sync"
	"text/template/parse"
)

// Set are templates that were parsed together. It is safe for concurrent use.
type Set struct {
	templates *template.Template

	mu       sync.Mutex // guards prepared for one access
	prepared map[string][]step
}

// Parse reads templates, none of which may call itself. A page is prepared when it is first
// written.
func Parse(text string) (*Set, error) {
	t, err := template.New("pages").Parse(text)
	return &Set{templates: t, prepared: map[string][]step{}}, err
}

// Execute appends a page to b. Its data may be texts, truth values, lists of texts, and the types
// of html/template by which a caller vouches for a text.
func (s *Set) Execute(b *bytes.Buffer, name string, data map[string]any) error {
	before := b.Len()
	if steps := s.steps(name); steps != nil && run(steps, b, data, nil) {
		return nil
	}
	b.Truncate(before)
	return s.templates.ExecuteTemplate(b, name, data)
}

// Prepared says whether a page can be written without html/template.
func (s *Set) Prepared(name string) bool { return s.steps(name) != nil }

func (s *Set) steps(name string) []step {
	s.mu.Lock()
	defer s.mu.Unlock()
	steps, known := s.prepared[name]
	if !known {
		// The escapers are put into a template when it is first executed.
		if err := s.templates.ExecuteTemplate(io.Discard, name, map[string]any{}); err == nil {
			steps = s.prepare(s.templates.Lookup(name).Tree.Root)
		}
		s.prepared[name] = steps
	}
	return steps
}

// step is a part of a page, of one of four kinds.
type step struct {
	text string // written as it is

	value  *operand // written by write
	write  writer
	choice *choice
	each   *operand // a list of texts, for each of which body is written
	body   []step
}

// operand is a member of the page's data or, without a name, the element of the list around it.
type operand struct{ name string }

// choice is an if: whether one of the operands says something, or with not none of them.
type choice struct {
	of      []operand
	not     bool
	yes, no []step
}

// writer writes a value, or says that it does not know how.
type writer func(b *bytes.Buffer, value any) bool

// prepare returns nil for what is not known here.
func (s *Set) prepare(list *parse.ListNode) []step {
	steps := []step{}
	if list == nil {
		return steps
	}
	for _, node := range list.Nodes {
		var more []step
		switch node := node.(type) {
		case *parse.TextNode:
			more = []step{{text: string(node.Text)}}
		case *parse.ActionNode:
			if value, write := prepareValue(node.Pipe); write != nil {
				more = []step{{value: value, write: write}}
			}
		case *parse.IfNode:
			c := prepareCondition(node.Pipe)
			yes, no := s.prepare(node.List), s.prepare(node.ElseList)
			if c != nil && yes != nil && no != nil {
				c.yes, c.no = yes, no
				more = []step{{choice: c}}
			}
		case *parse.RangeNode:
			body := s.prepare(node.List)
			if command := onlyCommand(node.Pipe); command != nil && len(command.Args) == 1 && node.ElseList == nil && body != nil {
				if each := operandOf(command.Args[0]); each != nil {
					more = []step{{each: each, body: body}}
				}
			}
		case *parse.TemplateNode:
			// Only one that gets all of the data: then its steps are ours.
			command := onlyCommand(node.Pipe)
			called := s.templates.Lookup(node.Name)
			if command != nil && called != nil && called.Tree != nil && len(command.Args) == 1 && command.Args[0].Type() == parse.NodeDot {
				more = s.prepare(called.Tree.Root)
			}
		}
		if more == nil {
			return nil
		}
		steps = append(steps, more...)
	}
	return steps
}

// onlyCommand is the command of a pipeline without others, and without variables.
func onlyCommand(pipe *parse.PipeNode) *parse.CommandNode {
	if pipe == nil || len(pipe.Decl) > 0 || len(pipe.Cmds) != 1 {
		return nil
	}
	return pipe.Cmds[0]
}

func operandOf(node parse.Node) *operand {
	switch node := node.(type) {
	case *parse.DotNode:
		return &operand{}
	case *parse.FieldNode:
		if len(node.Ident) == 1 {
			return &operand{node.Ident[0]}
		}
	}
	return nil
}

// prepareValue reads a value and its escapers, of which html/template has put at least one behind
// each.
func prepareValue(pipe *parse.PipeNode) (*operand, writer) {
	if len(pipe.Decl) > 0 || len(pipe.Cmds[0].Args) != 1 {
		return nil, nil
	}
	var escapers []string
	for _, command := range pipe.Cmds[1:] {
		name, ok := command.Args[0].(*parse.IdentifierNode)
		if !ok || len(command.Args) != 1 {
			return nil, nil
		}
		escapers = append(escapers, strings.TrimPrefix(name.Ident, "_html_template_"))
	}
	value := operandOf(pipe.Cmds[0].Args[0])
	if value == nil {
		return nil, nil
	}
	return value, writers[strings.Join(escapers, " ")]
}

func prepareCondition(pipe *parse.PipeNode) *choice {
	command := onlyCommand(pipe)
	if command == nil {
		return nil
	}
	c, args := &choice{}, command.Args
	if name, ok := args[0].(*parse.IdentifierNode); ok {
		if c.not = name.Ident == "not"; !c.not && name.Ident != "or" {
			return nil
		}
		args = args[1:]
	} else if len(args) != 1 {
		return nil
	}
	for _, arg := range args {
		o := operandOf(arg)
		if o == nil {
			return nil
		}
		c.of = append(c.of, *o)
	}
	return c
}

// run says whether it could write everything.
func run(steps []step, b *bytes.Buffer, data map[string]any, element any) bool {
	get := func(o operand) any {
		if o.name == "" {
			return element
		}
		return data[o.name]
	}
	for i := range steps {
		s := &steps[i]
		switch {
		case s.value != nil:
			if !s.write(b, get(*s.value)) {
				return false
			}
		case s.choice != nil:
			said := false
			for _, o := range s.choice.of {
				says, known := truth(get(o))
				if !known {
					return false
				}
				said = said || says
			}
			branch := s.choice.yes
			if said == s.choice.not {
				branch = s.choice.no
			}
			if !run(branch, b, data, element) {
				return false
			}
		case s.each != nil:
			list, ok := get(*s.each).([]string)
			if !ok {
				return false
			}
			for _, text := range list {
				if !run(s.body, b, data, text) {
					return false
				}
			}
		default:
			b.WriteString(s.text)
		}
	}
	return true
}

// truth is text/template's, for the types that pages have. What is missing is false.
func truth(value any) (is, known bool) {
	switch v := value.(type) {
	case nil:
		return false, true
	case bool:
		return v, true
	case string:
		return v != "", true
	case template.HTML:
		return v != "", true
	case template.URL:
		return v != "", true
	case []string:
		return len(v) > 0, true
	}
	return false, false
}
