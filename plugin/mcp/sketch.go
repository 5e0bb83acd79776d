//go:build go1.21

package mcp

import (
	"bytes"
	"encoding/json"
	"strings"
)

// This file tells a message by the text around its arguments. A client writes that text alike again
// and again: only digits of the id change, the arguments, and _meta. So what was judged once is
// found again without reading the message member by member, which in Yaegi costs a third of all
// that a message costs.
//
// Why that is safe: a message is the text before its arguments, a JSON value, and the text behind
// it. If in another message the values are JSON too, and the texts around them are the same, then
// both have the same members at the same places. The values are looked at by json.Valid, the texts
// are compared as a whole.

// Layout says where in a message the arguments end, as one client writes it. It is not changed.
type Layout struct {
	tail []byte // the beginning of the text behind the arguments, or behind _meta
	meta bool   // _meta follows the arguments
}

const maxTail = 32 // bytes

var (
	argumentsMark = []byte(`"arguments":`)
	metaMark      = []byte(`,"_meta":`)
)

const (
	roomOfMark     = len(`"arguments":`)
	roomOfMetaMark = len(`,"_meta":`)
	// withMeta stands in the sketches of messages whose arguments are followed by _meta. No tail
	// begins so.
	withMeta = "_"
	digits   = "0123456789"
)

// These functions have names without a package: see plainCall.
var (
	index     = bytes.Index
	lastIndex = bytes.LastIndex
	validJSON = json.Valid
)

// SameDigits writes 1 for each digit but 0, so that ids make no new sketch. What was JSON stays so:
// only about a 0 JSON knows places where it may stand and where not. No text changes its length.
var SameDigits = strings.NewReplacer("2", "1", "3", "1", "4", "1", "5", "1", "6", "1", "7", "1", "8", "1", "9", "1")

// Sketch returns the text of a message around its arguments; "" for a message that is not laid out
// so. Messages whose sketches are the same, but for digits other than 0, have the same members at
// the same places, if LayoutOf has found the layout in one of them.
//
// The first mark in a sketch parts the two texts, since no tail begins with a part of a mark. So
// equal sketches have equal texts. A body without a mark has a sketch that no message has.
func Sketch(l *Layout, body []byte) string {
	at := index(body, argumentsMark) + roomOfMark
	end := lastIndex(body, l.tail)
	if end < at {
		return ""
	}
	arguments := body[at:end]
	kind := ""
	if l.meta {
		meta := lastIndex(arguments, metaMark)
		if meta >= 0 {
			if validJSON(arguments[meta+roomOfMetaMark:]) {
				kind = withMeta
				arguments = arguments[:meta]
			}
		}
	}
	if validJSON(arguments) {
		if valid(body) {
			return string(body[:at]) + kind + string(body[end:])
		}
	}
	return ""
}

// LayoutOf finds the layout of a message that has arguments, and where in its sketch the subject
// stands. Messages whose sketches are the same but for digits, and that have the same text there,
// have the same method and subject. Without headers that repeat the body, they have the same
// verdict by the same rules, but for the id in it. l is nil for a message of which that cannot be
// said.
func LayoutOf(body []byte) (l *Layout, from, to int) {
	at := bytes.Index(body, argumentsMark) + roomOfMark
	if at < roomOfMark {
		return nil, 0, 0
	}
	l = &Layout{}
	values := "0" // in place of arguments and _meta
	rest := behindValue(body[at:])
	if bytes.HasPrefix(rest, metaMark) {
		l.meta = true
		values += string(metaMark) + "0"
		rest = behindValue(rest[roomOfMetaMark:])
	}
	colon := bytes.IndexByte(rest, ':')
	l.tail = []byte(string(rest[:colon+1])) // not a part of body, which would stay in memory
	if colon < 0 {
		l.tail = []byte(string(rest))
	}
	sketch := Sketch(l, body)
	if sketch == "" || len(l.tail) == 0 || len(l.tail) > maxTail {
		return nil, 0, 0
	}
	c := callWith(sketch, at, values)
	if c == nil || strings.ContainsAny(c.method, digits) {
		return nil, 0, 0
	}
	if !strings.ContainsAny(c.subject, digits) {
		return l, 0, 0 // the sketch tells it
	}
	// The subject stands where another text makes it another subject.
	from = strings.Index(sketch, `"`+c.subject+`"`) + 1
	if from == 0 {
		return nil, 0, 0
	}
	to = from + len(c.subject)
	other := strings.Repeat("x", len(c.subject))
	changed := callWith(sketch[:from]+other+sketch[to:], at, values)
	if changed == nil || changed.method != c.method || changed.subject != other {
		return nil, 0, 0
	}
	return l, from, to
}

// callWith is the call that a sketch is of; nil unless plainCall reads it, but for blanks. at is
// where the arguments stand, and values the text in place of them and of _meta.
func callWith(sketch string, at int, values string) *call {
	var text bytes.Buffer
	message := sketch[:at] + values + strings.TrimPrefix(sketch[at:], withMeta)
	if json.Compact(&text, []byte(message)) != nil {
		return nil
	}
	params := membersOf(membersOf(text.Bytes())["params"])
	if string(params["arguments"]) != "0" || len(values) > 1 && string(params["_meta"]) != "0" {
		return nil
	}
	return plainCall(text.Bytes())
}

// behindValue returns what follows the JSON value with which a text begins; nothing if it does not
// begin with one.
func behindValue(text []byte) []byte {
	reader := json.NewDecoder(bytes.NewReader(text))
	var value json.RawMessage
	if reader.Decode(&value) != nil {
		return nil
	}
	return text[reader.InputOffset():]
}
