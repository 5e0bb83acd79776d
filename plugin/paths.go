//go:build go1.21

package plugin

import (
	"net/url"
	"strings"
)

// The kinds of paths.
const (
	routeForeign = iota // not of this tenant
	// a spelling that Traefik, the plugin and the MCP server might each read differently
	routeMalformed
	routeSidecar   // well-known documents and OAuth endpoints
	routeProtected // needs an access token
	// a document of the MCP server that anybody may read: the label wellKnown names it
	routePublic
)

// insertedPaths are the documents that are also served in their path-inserted form (RFC 8414 §3.1,
// RFC 9728 §3.1).
var insertedPaths = []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"}

// Sets of characters, for strings.Trim(s, set) == "": in Yaegi one native call costs less than a
// loop over the bytes.
const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// RFC 3986 §2.3: characters that are never percent-encoded, and so have one spelling only
	pathChars      = alphanumeric + "/-._~"
	dotlessChars   = alphanumeric + "/-_~"
	hostChars      = alphanumeric + ".-_:[]"
	smallHostChars = "abcdefghijklmnopqrstuvwxyz0123456789.-"
	tokenChars     = alphanumeric + "!#$%&'*+-.^_`|~" // RFC 9110 §5.6.2
	// RFC 3986 §3.1, in small letters
	schemeChars = "abcdefghijklmnopqrstuvwxyz0123456789+.-"
	scopeChars  = alphanumeric + "!#$%&'()*+,-./:;<=>?@[]^_`{|}~" // RFC 6749 §3.3
	// US-ASCII 0x20 to 0x7e; unescaped are those that stand in JSON as they are
	printable = alphanumeric + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	unescaped = alphanumeric + " !#$%'()*+,-./:;=?@[]^_`{|}~"
)

// A path that holds one of trickyChars is refused. Some servers take a backslash for a slash. Some
// cut off path parameters, which ";" begins. A "%" after decoding means that the client encoded
// twice, for a server that decodes twice.
const trickyChars = "\\;%" + controlChars

// controlChars are the control characters of US-ASCII.
const controlChars = "" +
	"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f" +
	"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"

// route says which kind a path is. It also returns the path to ask the sidecar for (routeSidecar),
// or the path below the prefix (routeProtected). Prefixes are matched by whole segments, on the
// path as the client spelt it.
func (s *settings) route(u *url.URL) (int, string) {
	path := u.Path
	// A "%" in RawPath means that the client encoded what does not need it: %2F, %2e, %77. Traefik
	// routes by another form of such a path than the MCP server will see. RawPath without a "%"
	// only says that "(" or "!" came unencoded, which is plain.
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
		// Some clients look at P/mcp/.well-known/NAME first.
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

// rootDocuments are the places where older clients look, whatever the path of the MCP server is:
// MCP 2025-03-26 for the metadata of the authorization server, mcp-go up to 0.44 and the TypeScript
// SDK up to 1.12 for that of the resource. If a host has several servers, the routers of the
// operator give these paths to one of them, or to none.
var rootDocuments = []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"}

// routeInserted serves /.well-known/NAME + P + rest as /.well-known/NAME + rest.
func (s *settings) routeInserted(path string) (int, string) {
	if path == rootDocuments[0] || path == rootDocuments[1] {
		return routeSidecar, path
	}
	if s.isWellKnown(path) { // at the root, if a router of the operator brings it here
		return routePublic, path
	}
	for i, start := range s.inserted {
		if path == start || strings.HasPrefix(path, start+"/") {
			return routeSidecar, insertedPaths[i] + path[len(start):]
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

// isPlainPath accepts paths that have exactly one spelling: unreserved characters, no empty
// segment, no dot segment, no slash at the end.
func isPlainPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasSuffix(path, "/") &&
		strings.Trim(path, pathChars) == "" && !isTricky(path)
}
