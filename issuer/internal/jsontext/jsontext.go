// Package jsontext writes JSON objects whose members are known beforehand, without reflection: the
// answers and tokens of which a sidecar makes thousands. It promises the bytes that encoding/json
// writes for the same members. It does not check that a member is written once. Of objects it reads
// the simplest (plain.go).
package jsontext

import (
	"encoding/json"
	"strconv"
)

// Object is an object that is being written, with a brace before its first member and none after
// its last. The zero value is ready. Names of members are written as they are: they stand in the
// program.
type Object []byte

func (o Object) name(name string) Object {
	separator := byte(',')
	if len(o) == 0 {
		separator = '{'
	}
	return append(append(append(o, separator, '"'), name...), '"', ':')
}

// String adds a text.
func (o Object) String(name, value string) Object { return appendString(o.name(name), value) }

// Strings adds a list; nil is written as null.
func (o Object) Strings(name string, values []string) Object {
	o = o.name(name)
	if values == nil {
		return append(o, "null"...)
	}
	o = append(o, '[')
	for i, value := range values {
		if i > 0 {
			o = append(o, ',')
		}
		o = appendString(o, value)
	}
	return append(o, ']')
}

// Int adds a number.
func (o Object) Int(name string, value int64) Object {
	return strconv.AppendInt(o.name(name), value, 10)
}

// Bool adds true or false.
func (o Object) Bool(name string, value bool) Object {
	return strconv.AppendBool(o.name(name), value)
}

// Object adds an object, which is not ended yet.
func (o Object) Object(name string, value Object) Object {
	return append(o.name(name), value.End()...)
}

// End is the whole object.
func (o Object) End() []byte {
	if len(o) == 0 {
		o = append(o, '{')
	}
	return append(o, '}')
}

// appendString leaves to encoding/json what has a character that it would not write as it is.
func appendString(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		if !asItIs[c] {
			escaped, err := json.Marshal(s)
			if err != nil { // a text has no value that JSON cannot write
				panic("jsontext: internal error: " + err.Error())
			}
			return append(b, escaped...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// asItIs :: byte → whether it stands for itself
var asItIs = func() (table [256]bool) {
	for c := ' '; c <= '~'; c++ {
		table[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return table
}()
