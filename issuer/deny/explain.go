package deny

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Explained is a document as a person wrote it, line by line.
type Explained struct {
	Serial  int64
	Entries []ExplainedEntry
	// Faults are why the document is not taken; empty if it is.
	Faults []Fault
}

// ExplainedEntry is one entry and the line that it stands in.
type ExplainedEntry struct {
	Line int
	List string // the member: "users", "notBefore", …
	Name string
	// Until is when it is over; of notBefore, which is never over, the mark. Zero: for ever.
	Until time.Time
	Over  bool
	// Ineffective says why it can deny nothing; empty if it can.
	Ineffective string
}

// Fault is a mistake. Line is 0 if it is not of one line.
type Fault struct {
	Line int
	Why  string
}

// Explain says what a document denies and, unlike Parse, all that is wrong with it, with the lines.
// It finds a fault if and only if Parse refuses the document. Names may be secrets that somebody
// put into a list by mistake, and stand in Why too: the caller shows them with care.
func Explain(data []byte, now time.Time) *Explained {
	e := &Explained{}
	document, err := Parse(data)
	if document != nil {
		e.Serial = document.Serial
	}
	if len(data) <= maxDocument {
		w := walker{Explained: e, data: data, now: now, decoder: json.NewDecoder(bytes.NewReader(data))}
		if err := w.document(); err != nil {
			e.Faults = append(e.Faults, w.syntaxFault(err))
		}
	}
	if err != nil && len(e.Faults) == 0 {
		e.Faults = []Fault{{Why: strings.TrimPrefix(err.Error(), "deny document: ")}}
	}
	return e
}

// walker reads a document token by token, as encoding/json alone says where a token stands.
type walker struct {
	*Explained
	data    []byte
	now     time.Time
	decoder *json.Decoder

	start          int // where in data the decoder begins
	counted, lines int // line breaks before the byte counted
}

func (w *walker) lineAt(offset int) int {
	offset = min(offset, len(w.data))
	if offset < w.counted {
		w.counted, w.lines = 0, 0
	}
	w.lines += bytes.Count(w.data[w.counted:offset], []byte("\n"))
	w.counted = offset
	return w.lines + 1
}

// line is that of the token that was read last.
func (w *walker) line() int { return w.lineAt(w.start + int(w.decoder.InputOffset())) }

func (w *walker) fault(line int, format string, args ...any) {
	w.Faults = append(w.Faults, Fault{line, fmt.Sprintf(format, args...)})
}

func (w *walker) syntaxFault(err error) Fault {
	var syntax *json.SyntaxError
	switch {
	// the decoder counts from where its last value began; all of the text has one beginning
	case errors.As(err, &syntax) && errors.As(json.Unmarshal(w.data, new(any)), &syntax) && int(syntax.Offset) < len(w.data):
		return Fault{w.lineAt(int(syntax.Offset) - 1), "not JSON: " + syntax.Error()}
	case errors.As(err, &syntax) && !strings.HasPrefix(syntax.Error(), "unexpected end"):
		return Fault{w.lineAt(len(w.data)), "not JSON: " + syntax.Error()}
	case syntax != nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Fault{w.lineAt(len(bytes.TrimRight(w.data, " \t\r\n"))), "not JSON: it ends too early"}
	}
	return Fault{w.line(), err.Error()}
}

var errShape = errors.New(`not an object: the document is {"v":1,"serial":N,…}`)

func (w *walker) document() error {
	if err := w.opens(errShape); err != nil {
		return err
	}
	lists := map[string]list{}
	for _, list := range (&Document{}).lists() {
		lists[list.name] = list
	}
	err := w.members("member", func(name string, line int) error {
		list, known := lists[name]
		switch {
		case name == "v":
			v, before := 0, len(w.Faults)
			err := w.value(&v, line, "v must be 1")
			if v != 1 && len(w.Faults) == before {
				w.fault(line, "v must be 1")
			}
			return err
		case name == "serial":
			return w.value(new(int64), line, "serial must be a whole number")
		case name == "notBefore", known:
			return w.list(name, list)
		}
		w.fault(line, "unknown member %q", name)
		return w.decoder.Decode(new(json.RawMessage))
	})
	if err != nil {
		return err
	}
	if _, err := w.decoder.Token(); !errors.Is(err, io.EOF) {
		w.fault(w.line(), "more stands behind the document")
	}
	return nil
}

// opens reads the brace that begins an object.
func (w *walker) opens(otherwise error) error {
	token, err := w.decoder.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return otherwise
	}
	return nil
}

// members reads the members of an object up to its end. each reads the value.
func (w *walker) members(what string, each func(name string, line int) error) error {
	seen := map[string]bool{}
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return err
		}
		name, line := token.(string), w.line()
		if seen[name] {
			w.fault(line, "%s %q is there twice", what, name)
		}
		seen[name] = true
		if err := each(name, line); err != nil {
			return err
		}
	}
	_, err := w.decoder.Token()
	return err
}

// value reads a value of one type. Another type is a fault; the error is of the JSON.
func (w *walker) value(into any, line int, otherwise string) error {
	var raw json.RawMessage
	if err := w.decoder.Decode(&raw); err != nil {
		return err
	}
	if json.Unmarshal(raw, into) != nil {
		w.fault(line, "%s", otherwise)
	}
	return nil
}

func (w *walker) list(member string, l list) error {
	var raw json.RawMessage
	if err := w.decoder.Decode(&raw); err != nil {
		return err
	}
	end := w.start + int(w.decoder.InputOffset())
	if string(raw) == "null" {
		return nil
	}
	if raw[0] != '{' {
		w.fault(w.line(), `%s must be an object: {"ENTRY":"TIME"}`, member)
		return nil
	}
	// The list is read once more by itself, so that a value of another type does not end the walk.
	inner := &walker{Explained: w.Explained, data: w.data, start: end - len(raw), now: w.now, decoder: json.NewDecoder(bytes.NewReader(raw))}
	if err := inner.opens(errShape); err != nil {
		return err
	}
	return inner.members(member+":", func(name string, line int) error {
		before := len(w.Faults)
		entry := ExplainedEntry{Line: line, List: member, Name: name, Ineffective: Ineffective(member, name)}
		if member == "notBefore" {
			const otherwise = "notBefore: the mark of %q is not a time such as 2027-01-31T12:00:00Z"
			if err := inner.value(&entry.Until, line, fmt.Sprintf(otherwise, name)); err != nil {
				return err
			}
			if why := markFault(name, entry.Until); why != "" && len(w.Faults) == before {
				w.fault(line, "notBefore: %s", why)
			}
		} else {
			var until Until
			const otherwise = "%s: the time of %q is neither one such as 2027-01-31T12:00:00Z nor \"\", for ever"
			if err := inner.value(&until, line, fmt.Sprintf(otherwise, member, name)); err != nil {
				return err
			}
			entry.Until, entry.Over = until.Time, until.over(w.now)
			if why := l.fault(name); why != "" {
				w.fault(line, "%s: %s", member, why)
			}
		}
		if len(w.Faults) == before {
			w.Entries = append(w.Entries, entry)
		}
		return nil
	})
}
