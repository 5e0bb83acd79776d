package pages

import (
	"bytes"
	"strings"
)

// The functions of this file do what html/template's escapers do, for the types that pages have.

// inText writes between tags what is a text, or HTML by its caller's word.
func inText(b *bytes.Buffer, value any) bool {
	if html, ok := value.(HTML); ok {
		b.WriteString(string(html))
		return true
	}
	return inQuotes(b, value)
}

// inQuotes writes a text into an attribute, or into a title, where a browser knows no other tag.
func inQuotes(b *bytes.Buffer, value any) bool {
	text, ok := textOf(value)
	escape(b, text)
	return ok
}

// inLink writes a URL into an attribute.
func inLink(b *bytes.Buffer, value any) bool {
	address, ok := addressIn(value)
	escape(b, normal(address))
	return ok
}

// inRefresh writes a URL behind other text of an attribute.
func inRefresh(b *bytes.Buffer, value any) bool {
	address, ok := addressIn(value)
	escape(b, address)
	return ok
}

// inStyle writes a style sheet, by its caller's word.
func inStyle(b *bytes.Buffer, value any) bool {
	style, ok := value.(CSS)
	b.WriteString(string(style))
	return ok || value == nil
}

// textOf is the text of a value. A caller's word for HTML does not hold within quotes:
// html/template would take its tags away there, which no page needs.
func textOf(value any) (text string, ok bool) {
	switch v := value.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case URL:
		return string(v), true
	case CSS:
		return string(v), true
	}
	return "", false
}

// addressIn is a URL by its caller's word, or a text without a scheme or with one that every
// browser loads and none runs. Anything else, such as javascript:, is replaced by a text that leads
// nowhere.
func addressIn(value any) (address string, ok bool) {
	address, ok = textOf(value)
	if _, vouched := value.(URL); vouched {
		return address, ok
	}
	scheme, _, has := strings.Cut(address, ":")
	// Lower case is not the same: it makes i of a letter that folds to none of ASCII.
	loads := func(known string) bool { return strings.EqualFold(scheme, known) }
	if has && !strings.Contains(scheme, "/") && !loads("http") && !loads("https") && !loads("mailto") {
		return "#ZgotmplZ", ok
	}
	return address, ok
}

// normal encodes what does not belong into a URL by RFC 3986 §2.1 to §2.3, and with it the
// apostrophe and the parentheses.
func normal(address string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	written := 0
	for i := range len(address) {
		switch c := address[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		case strings.IndexByte("!#$&*+,/:;=?@[]-._~", c) >= 0:
		case c == '%' && i+2 < len(address) && isHex(address[i+1]) && isHex(address[i+2]):
		default:
			b.WriteString(address[written:i])
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			written = i + 1
		}
	}
	if written == 0 {
		return address
	}
	return b.String() + address[written:]
}

func isHex(c byte) bool { return strings.IndexByte("0123456789ABCDEFabcdef", c) >= 0 }

// Escape is a text that can stand between tags and within quotes.
func Escape(text string) string {
	var b bytes.Buffer
	escape(&b, text)
	return b.String()
}

// escape writes a text with the replacements that html/template makes everywhere in HTML.
func escape(b *bytes.Buffer, text string) {
	written := 0
	for i := range len(text) {
		if replacement := replacements[text[i]]; replacement != "" {
			b.WriteString(text[written:i])
			b.WriteString(replacement)
			written = i + 1
		}
	}
	b.WriteString(text[written:])
}

// replacements :: byte → what is written in its place; empty: the byte
var replacements = [256]string{0: "\uFFFD", '"': "&#34;", '&': "&amp;", '\'': "&#39;", '+': "&#43;", '<': "&lt;", '>': "&gt;"}
