package jsontext

import "strings"

// A Member is one of a plain object. Texts are parts of what was read.
type Member struct {
	Name   string
	IsText bool
	Text   string
	List   []string // nil: no list
}

// mostPlain is how many members a plain object has: each name is compared with all before it.
const mostPlain = 16

// Plain reads an object of which every member is a text, a list of texts, true, false or null, and
// every text is printable ASCII without a backslash. The names are different. Programs register
// with such objects. It reads one as go-jose's decoder does, in a fraction of the time, or says
// that it does not judge it: then the caller asks that decoder, which alone decides what is
// refused. The members stand in room, as far as that goes.
func Plain(room []Member, text string) (members []Member, ok bool) {
	r := reader{rest: text}
	if !r.takes('{') {
		return nil, false
	}
	members = room[:0]
	for !r.takes('}') {
		if len(members) > 0 && !r.takes(',') || len(members) == mostPlain {
			return nil, false
		}
		var m Member
		if m.Name, ok = r.text(); !ok || !r.takes(':') {
			return nil, false
		}
		for _, other := range members {
			if other.Name == m.Name {
				return nil, false
			}
		}
		if !r.value(&m) {
			return nil, false
		}
		members = append(members, m)
	}
	r.skipBlanks()
	return members, r.rest == ""
}

type reader struct{ rest string }

func (r *reader) skipBlanks() {
	for r.rest != "" && strings.IndexByte(" \t\r\n", r.rest[0]) >= 0 {
		r.rest = r.rest[1:]
	}
}

// takes says whether this character comes next, and goes behind it.
func (r *reader) takes(c byte) bool {
	if r.skipBlanks(); r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// text takes a text, or nothing.
func (r *reader) text() (text string, ok bool) {
	r.skipBlanks()
	if r.rest == "" || r.rest[0] != '"' {
		return "", false
	}
	for i := 1; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case c == '"':
			text, r.rest = r.rest[1:i], r.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

func (r *reader) value(m *Member) bool {
	if m.Text, m.IsText = r.text(); m.IsText {
		return true
	}
	if !r.takes('[') {
		for _, word := range []string{"true", "false", "null"} {
			if rest, ok := strings.CutPrefix(r.rest, word); ok {
				r.rest = rest
				return true
			}
		}
		return false
	}
	m.List = make([]string, 0, 2)
	for !r.takes(']') {
		if len(m.List) > 0 && !r.takes(',') {
			return false
		}
		text, ok := r.text()
		if !ok {
			return false
		}
		m.List = append(m.List, text)
	}
	return true
}
