package issuer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// knownPrivateURIs begin redirect URIs whose scheme has no dot: RFC 8252 §7.1 asks for reverse-domain schemes, these well-known clients
// have none. Each is as narrow as what the client sends: other addresses of its scheme do other things (vscode://…/task?prompt=).
var knownPrivateURIs = []string{
	"cursor://anysphere.cursor-mcp", // Cursor
	"warp://mcp/oauth2callback",     // Warp (github.com/warpdotdev/warp/issues/9088)
	"raycast://oauth",               // Raycast; ?package_name=… follows (developers.raycast.com, OAuth)
	// Cline, an extension, with the scheme of its editor; a hash of the server's address follows (github.com/cline/cline/issues/8103).
	"vscode://saoudrizwan.claude-dev/mcp-auth/callback",
	"vscode-insiders://saoudrizwan.claude-dev/mcp-auth/callback",
	"cursor://saoudrizwan.claude-dev/mcp-auth/callback",
	"windsurf://saoudrizwan.claude-dev/mcp-auth/callback",
}

// checkRedirectURI says why a redirect URI cannot be registered; nil if it can (RFC 6749 §3.1.2, RFC 8252 §7,
// RFC 9700 §4.1). The raw text is checked before it is parsed: url.Parse forgives what browsers do not.
// private are the beginnings of other URIs that the operator allows.
func checkRedirectURI(raw string, private []string) error {
	if raw == "" || len(raw) > maxRedirectURI {
		return errors.New("must have 1 to " + strconv.Itoa(maxRedirectURI) + " characters")
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
	// url.Parse decodes a percent-encoded host: %D0%B0pple.com would be shown as аpple.com, with a Cyrillic а, and lead elsewhere.
	if !plainHost.MatchString(rawAuthority(raw)) {
		return errors.New("must name its host in plain ASCII letters, digits, dots and hyphens")
	}
	if err := checkRedirectQuery(u.RawQuery); err != nil {
		return err
	}
	switch u.Scheme {
	case "https":
		return checkAuthority(u)
	case "http":
		if !isLoopbackHost(u.Hostname()) {
			return errors.New("http is only allowed for localhost, 127.0.0.1 and [::1]")
		}
		return checkAuthority(u)
	}
	if isAtOrBelow(raw, knownPrivateURIs) || isAtOrBelow(raw, private) {
		return nil
	}
	// javascript:, data:, intent:, ms-word: and their like have no dot.
	if !strings.Contains(u.Scheme, ".") || u.Opaque != "" {
		return errors.New("must use https, http on a loopback address, or a reverse-domain scheme such as com.example.app:/callback")
	}
	return nil
}

// isAtOrBelow says whether a URI is one of these or below one, by whole segments. What applications would read as another
// path is not below: WHATWG's parser takes %2e%2e for "..".
func isAtOrBelow(raw string, uris []string) bool {
	return slices.ContainsFunc(uris, func(uri string) bool {
		rest, ok := strings.CutPrefix(raw, uri)
		path, _, _ := strings.Cut(rest, "?")
		plain := !strings.Contains(path, "%") && !strings.Contains(path+"/", "/../") && !strings.Contains(path+"/", "/./")
		return ok && plain && (rest == "" || rest[0] == '/' || rest[0] == '?')
	})
}

// plainHost is host[:port] as it stands in a URI; the empty one is for schemes without a host, and refused where one is needed.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]*$`)

// rawAuthority is what stands between "//" and the path, as it was written.
func rawAuthority(raw string) string {
	_, rest, _ := strings.Cut(raw, "//")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// checkAuthority refuses what Go parses and others read differently: ports out of range, empty ports, percent
// signs in the host, trailing dots.
func checkAuthority(u *url.URL) error {
	host, port := u.Hostname(), u.Port()
	if host == "" || u.Opaque != "" || strings.HasSuffix(host, ".") || strings.Contains(host, "%") {
		return errors.New("must name a plain host")
	}
	if ip, isIP := browserIP(host); isIP && ip.String() != strings.ToLower(host) {
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

// browserIP returns the IP address that a browser connects to for a host of a URL, however it is
// spelt: browsers also read 1572395042, 0x5db8d822 and 0135.270.330.042 (WHATWG URL, "host
// parsing"), and whoever compares texts does not see that they are one address. An IPv4-mapped IPv6
// address counts as the IPv4 address that packets go to. host has no port; square brackets are
// allowed. isIP is true with an invalid address for what browsers refuse because it ends like an
// IPv4 address.
func browserIP(host string) (ip netip.Addr, isIP bool) {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" {
			return netip.Addr{}, true
		}
		return ip.Unmap(), true
	}
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || last[0] < '0' || last[0] > '9' {
		return netip.Addr{}, false // a name
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, true // as everybody spells it
	}
	if _, ok := browserNumber(last); !ok && strings.Trim(last, "0123456789") != "" {
		return netip.Addr{}, false
	}
	parts := strings.Split(host, ".")
	var address uint64
	for i, part := range parts {
		n, ok := browserNumber(part)
		bits := 8 // of each part, and the last has the rest
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		if !ok || len(parts) > 4 || n >= 1<<bits {
			return netip.Addr{}, true
		}
		address = address<<bits | n
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(address)))), true
}

// browserNumber reads a part of an IPv4 address as browsers do: hexadecimal after 0x, octal after
// 0.
func browserNumber(part string) (uint64, bool) {
	base := 10
	switch {
	case len(part) > 1 && (part[:2] == "0x" || part[:2] == "0X"):
		part, base = part[2:], 16
		if part == "" {
			return 0, true
		}
	case len(part) > 1 && part[0] == '0':
		part, base = part[1:], 8
	}
	n, err := strconv.ParseUint(part, base, 64)
	return n, err == nil
}

// checkRedirectQuery keeps our response parameters unambiguous: a client that reads the first `iss` must read ours.
func checkRedirectQuery(raw string) error {
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

// matchRedirectURI says whether a client that registered these URIs may be answered at requested: the same
// text, or the same loopback URI with another port (RFC 8252 §7.3). localhost and 127.0.0.1 are two hosts.
func matchRedirectURI(registered []string, requested string) bool {
	if slices.Contains(registered, requested) {
		return true
	}
	return strings.HasPrefix(requested, "http://") && checkRedirectURI(requested, nil) == nil && isOneOf(registered, requested)
}

// isOneOf is matchRedirectURI for a URI that passed checkRedirectURI, as those did that are
// registered.
func isOneOf(registered []string, uri string) bool {
	uri = withoutPort(uri)
	return slices.ContainsFunc(registered, func(other string) bool { return withoutPort(other) == uri })
}

// sameRedirectURI says whether two texts are one redirect URI, for a client that writes a loopback
// URI without its slash in one request and with it in the next.
func sameRedirectURI(a, b string) bool {
	hostA, pathA, okA := splitLoopback(a)
	hostB, pathB, okB := splitLoopback(b)
	return a == b || okA && okB && hostA == hostB && pathA == pathB
}

// withoutPort is a redirect URI with what is compared: on a loopback address, where alone it is
// plain http, without its port and with its path.
func withoutPort(uri string) string {
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

// redirectHost is what the person is shown of a redirect URI, and whether a program on their own machine waits there.
func redirectHost(raw string) (host string, loopback bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return raw, false
	}
	if isWeb(raw) {
		return hostOf(raw), isLoopbackHost(strings.ToLower(u.Hostname()))
	}
	return u.Scheme + "://" + hostOf(raw), false
}
