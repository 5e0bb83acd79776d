//go:build go1.21

package plugin

import (
	"net/url"
	"strings"
)

// Kinds of a request's path.
const (
	routeForeign = iota // not of this tenant
	// a spelling that Traefik, this plugin and the MCP server might each read differently
	routeMalformed
	routeSidecar   // well-known documents and OAuth endpoints
	routeProtected // needs an access token
	// a document of the MCP server that anybody may read, by the label wellKnown
	routePublic
)

// insertedNames are the documents whose path-inserted form is served (RFC 8414 §3.1, RFC 9728
// §3.1).
var insertedNames = []string{"oauth-protected-resource", "oauth-authorization-server", "openid-configuration"}

// Sets of characters, for strings.Trim(s, set) == "": in Yaegi one native call costs less than a
// loop over the bytes.
const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// RFC 3986 §2.3: never percent-encoded, so spelt one way only
	pathChars  = alphanumeric + "/-._~"
	hostChars  = alphanumeric + ".-_:[]"          //
	tokenChars = alphanumeric + "!#$%&'*+-.^_`|~" // RFC 9110 §5.6.2
	// RFC 3986 §3.1, in small letters
	schemeChars = "abcdefghijklmnopqrstuvwxyz0123456789+.-"
	scopeChars  = alphanumeric + "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"      // RFC 6749 §3.3
	printable   = alphanumeric + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" // US-ASCII 0x20 to 0x7e
)

// trickyChars stand in no path that is let through. A backslash is a slash to some servers; ";"
// starts a path parameter, which some servers cut off; "%" after decoding means that somebody
// encoded twice, for a server that decodes twice.
const trickyChars = "\\;%" + controlChars

// controlChars are those of US-ASCII.
const controlChars = "" +
	"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f" +
	"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"

// route says whose a path is. For routeSidecar it returns the path to ask the sidecar for, for
// routeProtected the path below the prefix. Prefixes are matched by whole segments, on the path as
// the client spelt it.
func (s *settings) route(u *url.URL) (int, string) {
	path := u.Path
	// A "%" in RawPath means that the client encoded what need not be encoded: %2F, %2e, %77.
	// Traefik routes on another form of such a path than the MCP server will see. Without one,
	// RawPath says that "(" or "!" came as they are, which is plain.
	if strings.Contains(u.RawPath, "%") || isTricky(path) {
		return routeMalformed, ""
	}
	if !strings.HasPrefix(path, s.prefix) {
		return s.routeInserted(path)
	}
	below := path[len(s.prefix):]
	switch {
	case below == "":
		return routeProtected, "" // the public URL itself
	case below[0] != '/':
		return routeForeign, "" // /wikileaks
	case s.isWellKnown(below):
		return routePublic, below
	case strings.HasPrefix(below, "/.well-known/") || strings.HasPrefix(below, "/oauth/"):
		return routeSidecar, below
	}
	if i := strings.Index(below, "/.well-known/"); i > 0 && s.isEndpoint(below[:i]) {
		// P/mcp/.well-known/NAME, where some clients look first
		return routeSidecar, below[i:] + below[:i]
	}
	return routeProtected, below
}

func (s *settings) isWellKnown(path string) bool {
	for _, document := range s.wellKnown {
		if path == document {
			return true
		}
	}
	return false
}

func (s *settings) isEndpoint(below string) bool {
	for _, path := range s.mcpPaths {
		if path == below {
			return true
		}
	}
	return false
}

// rootDocuments are where older clients look, whatever the path of the MCP server: those of MCP
// 2025-03-26 for the server's metadata, mcp-go up to 0.44 and the TypeScript SDK up to 1.12 for the
// resource's. Of several servers on one host, the operator's routers give them to one, or to none.
var rootDocuments = []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"}

// routeInserted serves /.well-known/NAME + P + rest as /.well-known/NAME + rest.
func (s *settings) routeInserted(path string) (int, string) {
	if path == rootDocuments[0] || path == rootDocuments[1] {
		return routeSidecar, path
	}
	if s.isWellKnown(path) { // at the root, if the operator's router brings it here
		return routePublic, path
	}
	for i, start := range s.inserted {
		if path == start || strings.HasPrefix(path, start+"/") {
			return routeSidecar, "/.well-known/" + insertedNames[i] + path[len(start):]
		}
	}
	return routeForeign, ""
}

func isTricky(path string) bool {
	if strings.ContainsAny(path, trickyChars) || strings.Contains(path, "//") {
		return true
	}
	if !strings.Contains(path, "/.") {
		return false
	}
	return strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../")
}

// isPlainPath accepts what has exactly one spelling: unreserved characters, no empty and no dot
// segment, no slash at the end.
func isPlainPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasSuffix(path, "/") &&
		strings.Trim(path, pathChars) == "" && !isTricky(path)
}
