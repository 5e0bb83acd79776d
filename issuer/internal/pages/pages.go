// Package pages writes the pages for people, with the bytes that html/template would write.
//
// html/template is not in the program: with it each start would read its code and make its tables,
// and since it looks methods up by name, the linker would keep every method of every type
// (docs/decisions/0044-pages.md). It reads the templates when their tests run. What it has decided
// there, for each value by which of its escapers it is written, stands in steps.go, and is done by
// the functions of escape.go. A value that is of none of the types known here ends the page.
package pages

import (
	"bytes"
	"fmt"
)

// By these types a caller vouches for a text, as by those of the same names of html/template.
type (
	HTML string // is written between tags as it is
	URL  string // may have any scheme
	CSS  string // is written into a style element as it is
)

// Execute appends a page to b. Its data may be texts, truth values, lists of texts, and the types
// above; what is missing is empty. The error says which member of the data cannot be written; then
// b holds a part of the page.
func Execute(b *bytes.Buffer, name string, data map[string]any) error {
	steps := stepsOf(name)
	if steps == nil {
		return fmt.Errorf("pages: no page %q", name)
	}
	return run(steps, b, data, nil)
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

func run(steps []step, b *bytes.Buffer, data map[string]any, element any) error {
	get := func(o operand) any {
		if o.name == "" {
			return element
		}
		return data[o.name]
	}
	unknown := func(o operand) error { return fmt.Errorf("pages: %q cannot be a %T here", o.name, get(o)) }
	for i := range steps {
		s := &steps[i]
		switch {
		case s.value != nil:
			if !s.write(b, get(*s.value)) {
				return unknown(*s.value)
			}
		case s.choice != nil:
			said := false
			for _, o := range s.choice.of {
				says, known := truth(get(o))
				if !known {
					return unknown(o)
				}
				said = said || says
			}
			branch := s.choice.yes
			if said == s.choice.not {
				branch = s.choice.no
			}
			if err := run(branch, b, data, element); err != nil {
				return err
			}
		case s.each != nil:
			list, ok := get(*s.each).([]string)
			if !ok && get(*s.each) != nil {
				return unknown(*s.each)
			}
			for _, text := range list {
				if err := run(s.body, b, data, text); err != nil {
					return err
				}
			}
		default:
			b.WriteString(s.text)
		}
	}
	return nil
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
	case HTML:
		return v != "", true
	case URL:
		return v != "", true
	case []string:
		return len(v) > 0, true
	}
	return false, false
}
