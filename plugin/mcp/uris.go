//go:build go1.21

package mcp

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A rule for resources compares the beginning of a URI. So a URI that begins like one resource, and
// means another to some server, is refused. Honest clients write URIs in their plain form.

// oddlyEncoded matches a percent-encoding that no plain URI has: of a character that never needs to
// be encoded (RFC 3986 §2.3: "%73ecret" is "secret", but fits no rule for it), of a control
// character, of an encoding (for a server that decodes twice), and one that is incomplete.
var oddlyEncoded = regexp.MustCompile(`(?i)%(2[de]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9aef]|[01][0-9a-f]|25[0-9a-f]{2})|%[0-9a-f]?([^0-9a-f]|$)`)

// dotSegment matches "." and ".." between characters that end a segment to some server: a slash,
// the beginning of the query or the fragment, and that of path parameters, which some servers cut
// off.
var dotSegment = regexp.MustCompile(`(^|[/?#;])\.\.?([/?#;]|$)`)

// unslashed undoes the encodings that hide dot segments in a query. A file has no query, and
// servers that cut "file://" off take the query for a part of the path.
var unslashed = strings.NewReplacer("%2f", "/", "%5c", "/")

// IsPlainURI says whether a URI is in plain form. It refuses the spellings in which a URI that
// begins like one resource can mean another.
func IsPlainURI(uri string) bool {
	scheme, rest, found := strings.Cut(uri, ":")
	if !found || scheme != strings.ToLower(scheme) || strings.Trim(uri, printable) != "" || strings.ContainsAny(uri, "\\ ") {
		return false
	}
	lower := strings.ToLower(rest)
	if strings.Contains(uri, "%") && !isPlainlyEncoded(lower) {
		return false
	}
	if dotSegment.MatchString(unslashed.Replace(lower)) {
		return false
	}
	path := rest
	if strings.HasPrefix(rest, "//") {
		host := rest[2:]
		end := strings.IndexAny(host, "/?#")
		path = ""
		if end >= 0 {
			path = host[end:]
			host = host[:end]
		}
		if !isPlainAuthority(scheme, host) {
			return false
		}
	} else if scheme == "file" {
		// file:/a is file:///a (RFC 8089 §2), but fits no rule for it.
		return false
	}
	end := strings.IndexAny(path, "?#")
	if end >= 0 {
		path = path[:end]
	}
	return !strings.Contains(path, "//") // most servers read an empty segment as none
}

// isPlainlyEncoded looks at the percent-encodings of a URI, which the caller wrote in small
// letters.
func isPlainlyEncoded(rest string) bool {
	path := rest
	end := strings.IndexAny(path, "?#")
	if end >= 0 {
		path = path[:end]
	}
	if strings.Contains(path, "%2f") || strings.Contains(path, "%5c") || oddlyEncoded.MatchString(rest) {
		return false
	}
	// Bytes that are not UTF-8 may be a slash or a dot to a lenient decoder.
	decoded, err := url.PathUnescape(rest)
	return err == nil && utf8.ValidString(decoded)
}

// isPlainAuthority refuses second ways to name one host (RFC 3986 §6.2.2 and 6.2.3).
func isPlainAuthority(scheme, host string) bool {
	name, port, _ := strings.Cut(host, ":")
	switch {
	case host != strings.ToLower(host) || strings.ContainsAny(host, "@%") || strings.HasSuffix(name, ".") || strings.HasSuffix(host, ":"):
		return false
	case scheme == "file":
		return name != "localhost" && name != "127.0.0.1"
	}
	return !(scheme == "http" && port == "80" || scheme == "https" && port == "443")
}

// neededForURI is neededFor for a URI. Many servers look at neither query nor fragment, and ignore
// a slash at the end. The URI of a directory has no slash at its end, while its rule has one
// (SEP-2640). So rules that guard the same URI in one of these forms count too, unless a rule was
// written for exactly this form.
func neededForURI(table *ruleTable, uri string) []string {
	scopes := neededInOtherForms(table, uri)
	if !strings.Contains(uri, ";") {
		return scopes
	}
	// Some servers cut path parameters off each segment (RFC 3986 §3.3). No rule can name
	// them.
	path := uri
	end := strings.IndexAny(path, "?#")
	if end >= 0 {
		path = path[:end]
	}
	without := pathParameters.ReplaceAllString(path, "") + uri[len(path):]
	return append(append([]string{}, scopes...), neededInOtherForms(table, without)...)
}

var pathParameters = regexp.MustCompile(`;[^/]*`)

// neededInOtherForms is neededForURI for a URI without path parameters.
func neededInOtherForms(table *ruleTable, uri string) []string {
	scopes := neededFor(table, uri)
	_, exact := table.exact[uri]
	if exact {
		return scopes
	}
	path := uri
	end := strings.IndexAny(path, "?#")
	if end >= 0 {
		path = path[:end]
	}
	for _, rule := range table.prefixes {
		if len(rule.prefix) > len(path) && strings.HasPrefix(uri, rule.prefix) {
			return scopes // the rule's name reaches into the query
		}
	}
	folded := table.folded
	if folded == nil {
		folded = table
	}
	bare := strings.TrimSuffix(fold(path), "/")
	more := append(append([]string{}, folded.exact[bare]...), folded.exact[bare+"/"]...)
	for _, rule := range folded.prefixes {
		if rule.prefix == bare+"/" {
			more = append(more, rule.scopes...)
		}
	}
	if len(more) == 0 {
		return scopes
	}
	return append(append([]string{}, scopes...), more...)
}
