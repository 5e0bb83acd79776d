// Package redirecturi judges redirect URIs (RFC 6749 §3.1.2, RFC 8252 §7, RFC 9700 §4.1): which may
// be registered, which of them a request names, and what a person is shown of one. Whoever gets
// past it sends authorization codes to an address of their own, so it goes by the text as it came,
// and by how browsers read it. It knows nothing of clients or tenants, and asks no network: whether
// a host belongs to the client that names it, it cannot say.
package redirecturi

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// MaxLength is how many characters a redirect URI may have.
const MaxLength = 200

// knownPrivate are the beginnings of redirect URIs whose scheme has no dot. RFC 8252 §7.1 asks for
// reverse-domain schemes, and these well-known clients have none. Each is as narrow as what the
// client sends, because other addresses of its scheme do other things (vscode://…/task?prompt=).
var knownPrivate = []string{
	"cursor://anysphere.cursor-mcp", // Cursor
	"warp://mcp/oauth2callback",     // Warp (github.com/warpdotdev/warp/issues/9088)
	// Raycast; ?package_name=… follows (developers.raycast.com, OAuth)
	"raycast://oauth",
	// Cline, an extension, with the scheme of its editor; a hash of the server's address follows
	// (github.com/cline/cline/issues/8103).
	"vscode://saoudrizwan.claude-dev/mcp-auth/callback",
	"vscode-insiders://saoudrizwan.claude-dev/mcp-auth/callback",
	"cursor://saoudrizwan.claude-dev/mcp-auth/callback",
	"windsurf://saoudrizwan.claude-dev/mcp-auth/callback",
}

// Check says why a redirect URI cannot be registered, in words that complete "the redirect URI …";
// nil if it can (RFC 6749 §3.1.2, RFC 8252 §7, RFC 9700 §4.1). private are the beginnings of other
// URIs that the operator allows. The raw text is checked before it is parsed, because url.Parse
// forgives what browsers do not.
func Check(raw string, private []string) error {
	if raw == "" || len(raw) > MaxLength {
		return errors.New("must have 1 to " + strconv.Itoa(MaxLength) + " characters")
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"<>`{}|^#*", c) >= 0 {
			return errors.New("must not contain spaces, control characters, fragments, wildcards, quotation marks, backslashes or any of < > ` { } | ^")
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		return errors.New("must be an absolute URI")
	}
	if u.User != nil {
		return errors.New("must not contain user information") // http://127.0.0.1:80@evil.example
	}
	if !PlainHost(raw) {
		return errors.New("must name its host in plain ASCII letters, digits, dots and hyphens")
	}
	if err := checkQuery(u.RawQuery); err != nil {
		return err
	}
	switch u.Scheme {
	case "https":
		return CheckAuthority(u)
	case "http":
		if !weburl.IsLoopbackHost(u.Hostname()) {
			return errors.New("http is only allowed for localhost, 127.0.0.1 and [::1]")
		}
		return CheckAuthority(u)
	}
	if atOrBelow(raw, knownPrivate) || atOrBelow(raw, private) {
		return nil
	}
	// javascript:, data:, intent:, ms-word: and their like have no dot.
	if !strings.Contains(u.Scheme, ".") || u.Opaque != "" {
		return errors.New("must use https, http on a loopback address, or a reverse-domain scheme such as com.example.app:/callback")
	}
	return nil
}

// atOrBelow says whether a URI is one of these or below one, by whole segments. A path that
// applications would read as another one is not below: WHATWG's parser takes %2e%2e for "..".
func atOrBelow(raw string, uris []string) bool {
	return slices.ContainsFunc(uris, func(uri string) bool {
		rest, ok := strings.CutPrefix(raw, uri)
		path, _, _ := strings.Cut(rest, "?")
		plain := !strings.Contains(path, "%") && !strings.Contains(path+"/", "/../") && !strings.Contains(path+"/", "/./")
		return ok && plain && (rest == "" || rest[0] == '/' || rest[0] == '?')
	})
}

// PlainHost says whether the host of a URI is written in plain ASCII. url.Parse decodes a
// percent-encoded host: %D0%B0pple.com would be shown as аpple.com, with a Cyrillic а, and lead
// elsewhere. A URI without a host is plain: CheckAuthority refuses it where one is needed.
func PlainHost(raw string) bool {
	for _, c := range []byte(rawAuthority(raw)) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("._:[]-", c) < 0 {
			return false
		}
	}
	return true
}

// rawAuthority returns what stands between "//" and the path, as it was written.
func rawAuthority(raw string) string {
	_, rest, _ := strings.Cut(raw, "//")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// CheckAuthority says why the host and port of u cannot be used, in words that complete "the URI
// …"; nil if they can. It refuses what Go parses and others read differently: ports out of range,
// empty ports, percent signs in the host, trailing dots.
func CheckAuthority(u *url.URL) error {
	host, port := u.Hostname(), u.Port()
	if host == "" || u.Opaque != "" || strings.HasSuffix(host, ".") || strings.Contains(host, "%") {
		return errors.New("must name a plain host")
	}
	if ip, isIP := BrowserIP(host); isIP && ip.String() != strings.ToLower(host) {
		return errors.New("must write an IP address in its one plain form, such as 192.0.2.7 or [2001:db8::1]")
	}
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("must not have an empty port")
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return errors.New("must have a port from 1 to 65535")
		}
	}
	return nil
}

// checkQuery keeps the parameters of an authorization response unambiguous: a client that reads the
// first `iss` must read ours (RFC 9207).
func checkQuery(raw string) error {
	if raw == "" {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("must have a well-formed query")
	}
	for _, name := range []string{"code", "state", "iss", "error", "error_description", "error_uri"} {
		if query.Has(name) {
			return errors.New("must not contain the query parameter " + name)
		}
	}
	return nil
}

// Match says whether a client that registered these URIs may be answered at requested, which comes
// from a request as it is: the same text, or the same loopback URI with another port (RFC 8252
// §7.3). localhost and 127.0.0.1 are two hosts.
func Match(registered []string, requested string) bool {
	if slices.Contains(registered, requested) {
		return true
	}
	return strings.HasPrefix(requested, "http://") && Check(requested, nil) == nil && Listed(registered, requested)
}

// Listed does what Match does for a URI that passed Check, as those did that are registered.
func Listed(registered []string, uri string) bool {
	uri = Compared(uri)
	return slices.ContainsFunc(registered, func(other string) bool { return Compared(other) == uri })
}

// Same says whether two texts are one redirect URI, for a client that writes a loopback URI without
// its slash in one request and with it in the next. Unlike Match it compares ports.
func Same(a, b string) bool {
	hostA, pathA, okA := splitLoopback(a)
	hostB, pathB, okB := splitLoopback(b)
	return a == b || okA && okB && hostA == hostB && pathA == pathB
}

// Compared returns what Match compares of a redirect URI that passed Check: on a loopback address,
// where alone it is plain http, everything but the port.
func Compared(uri string) string {
	host, path, ok := splitLoopback(uri)
	if !ok {
		return uri
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return "http://" + host + path
}

// splitLoopback splits a URI of plain http behind its host. A path that is not there is "/" (RFC
// 3986 §6.2.3).
func splitLoopback(uri string) (host, path string, ok bool) {
	rest, ok := strings.CutPrefix(uri, "http://")
	host = rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return host, path, ok
}

// Shown returns what a person is shown of a redirect URI that passed Check, and whether a program
// on their own machine waits there.
func Shown(raw string) (host string, loopback bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return raw, false
	}
	if weburl.IsWeb(raw) {
		return weburl.HostOf(raw), weburl.IsLoopbackHost(strings.ToLower(u.Hostname()))
	}
	return u.Scheme + "://" + weburl.HostOf(raw), false
}
