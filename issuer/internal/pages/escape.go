package pages

import (
	"bytes"
	"html/template"
	"strings"
)

// writers :: html/template's escapers behind a value, in their order → what writes the value so
var writers = map[string]writer{
	"htmlescaper":                         inText,
	"rcdataescaper":                       inQuotes,
	"attrescaper":                         inQuotes,
	"urlfilter urlnormalizer attrescaper": inLink,
	"urlfilter attrescaper":               inRefresh,
	"cssvaluefilter":                      inStyle,
}

// inText writes between tags what is a text, or HTML by its caller's word.
func inText(b *bytes.Buffer, value any) bool {
	if html, ok := value.(template.HTML); ok {
		b.WriteString(string(html))
		return true
	}
	return inQuotes(b, value)
}

// inQuotes writes a text into an attribute, or into a title, where a browser knows no other tag.
func inQuotes(b *bytes.Buffer, value any) bool {
	text, ok := value.(string)
	if ok {
		escape(b, text)
	}
	return ok
}

// inLink writes a URL into an attribute, where nothing in it has to be encoded.
func inLink(b *bytes.Buffer, value any) bool {
	address, ok := addressIn(value)
	if ok = ok && isNormal(address); ok {
		escape(b, address)
	}
	return ok
}

// inRefresh writes a URL behind other text of an attribute.
func inRefresh(b *bytes.Buffer, value any) bool {
	address, ok := addressIn(value)
	if ok {
		escape(b, address)
	}
	return ok
}

// inStyle writes a style sheet, by its caller's word.
func inStyle(b *bytes.Buffer, value any) bool {
	style, ok := value.(template.CSS)
	if ok {
		b.WriteString(string(style))
	}
	return ok
}

// addressIn is a URL by its caller's word, or one of a scheme that every browser loads and none
// runs. Of any other text html/template decides.
func addressIn(value any) (string, bool) {
	if address, ok := value.(template.URL); ok {
		return string(address), true
	}
	text, ok := value.(string)
	return text, ok && (strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://"))
}

// isNormal says whether a URL is made of what RFC 3986 §2.1 to §2.3 allow, without the apostrophe
// and the parentheses, which html/template encodes.
func isNormal(address string) bool {
	const hex = "0123456789ABCDEFabcdef"
	for i := range len(address) {
		switch c := address[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		case strings.IndexByte("!#$&*+,/:;=?@[]-._~", c) >= 0:
		case c == '%' && i+2 < len(address) && strings.IndexByte(hex, address[i+1]) >= 0 && strings.IndexByte(hex, address[i+2]) >= 0:
		default:
			return false
		}
	}
	return true
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
