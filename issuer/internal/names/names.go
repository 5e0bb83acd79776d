// Package names makes the names that strangers give themselves harmless to look at.
//
// It promises that what Displayed returns has no character that could rewrite the line around it.
// It says nothing about whether a name is true.
package names

import (
	"strings"
	"unicode"
)

// maxName is how many characters of a name are shown to a person.
const maxName = 64

// Displayed makes a name harmless to look at: it has no control, bidirectional, zero-width or
// blank characters that could rewrite the line around it or leave it empty, and at most 64
// characters. It is still only what somebody says of themselves.
func Displayed(name string) string {
	if plain(name) {
		return name
	}
	return harmless(name)
}

func harmless(name string) string {
	var out []rune
	for _, c := range strings.Join(strings.Fields(strings.ToValidUTF8(name, "")), " ") {
		if len(out) == maxName {
			break
		}
		if unicode.IsPrint(c) && !unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			out = append(out, c)
		}
	}
	return string(out)
}

// plain says whether a name is so simple that nothing of it changes: most are.
func plain(name string) bool {
	before := byte(' ')
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' || c == ' ' && before == ' ' {
			return false
		}
		before = c
	}
	return len(name) <= maxName && (name == "" || before != ' ')
}

// LowerASCII folds ASCII letters only: Unicode folding makes K of the Kelvin sign, and so an
// address of another one.
func LowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
