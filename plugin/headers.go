//go:build go1.21

package plugin

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	subjectHeader = "X-Mcp-Sub"
	scopesHeader  = "X-Mcp-Scopes"
)

// dropForged deletes the headers that only the bouncer may set, in every spelling: Traefik passes X_Mcp_Sub and X.mcp.sub on,
// and a server that maps header names to variables (CGI, WSGI) reads them as X-Mcp-Sub.
//
// The tests before isForged are there for speed: this loop runs interpreted, for each header of each request.
func dropForged(h http.Header) {
	for name := range h {
		if len(name) <= len(scopesHeader) && len(name) >= len(subjectHeader) && name[0]|0x20 == 'x' && name[2]|0x20 == 'm' && isForged(name) {
			delete(h, name)
		}
	}
}

func isForged(name string) bool {
	plain := separators.Replace(name)
	return strings.EqualFold(plain, subjectHeader) || strings.EqualFold(plain, scopesHeader) || strings.EqualFold(plain, hopHeader)
}

// separators maps each character of RFC 9110's token that is neither letter nor digit to "-".
var separators = strings.NewReplacer("!", "-", "#", "-", "$", "-", "%", "-", "&", "-", "'", "-", "*", "-", "+", "-",
	".", "-", "^", "-", "_", "-", "`", "-", "|", "-", "~", "-")

// identify tells the MCP server who asks, and takes from it what would let it ask as somebody else: the token and the
// bouncer's cookies.
func identify(h http.Header, id *identity) {
	delete(h, "Authorization")
	if len(h["Cookie"]) > 0 {
		keepCookies(h, false)
	}
	if len(h["Connection"]) > 0 {
		keepUpgrade(h)
	}
	// New slices each time: whoever changes them in place must not change another request's identity.
	h[subjectHeader] = []string{id.subject}
	h[scopesHeader] = []string{id.scopes}
}

// keepUpgrade leaves of Connection only Upgrade. "Connection: X-Mcp-Sub" makes a proxy behind this one delete the header (RFC 9110
// §7.6.1), and the MCP server would serve an authenticated request without an identity.
func keepUpgrade(h http.Header) {
	upgrade := false
	for _, option := range strings.Split(strings.Join(h["Connection"], ","), ",") {
		if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
			upgrade = true
		}
	}
	delete(h, "Connection")
	if upgrade && len(h["Upgrade"]) > 0 {
		h["Connection"] = []string{"Upgrade"}
	}
}

// keepCookies leaves in a request either only the bouncer's cookies (for the sidecar) or only the others (for the MCP server).
func keepCookies(h http.Header, bouncers bool) {
	kept := []string{}
	for _, pair := range strings.Split(strings.Join(h["Cookie"], ";"), ";") {
		pair = strings.TrimSpace(pair)
		if pair != "" && isBouncerCookie(pair) == bouncers {
			kept = append(kept, pair)
		}
	}
	delete(h, "Cookie")
	if len(kept) > 0 {
		h["Cookie"] = []string{strings.Join(kept, "; ")}
	}
}

func isBouncerCookie(pair string) bool {
	name, _, _ := strings.Cut(pair, "=")
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "__host-mcpb-") || strings.HasPrefix(name, "mcpb-")
}

// visible is US-ASCII 0x21 to 0x7e without "%".
var visible = strings.NewReplacer(" ", "", "%", "").Replace(printable)

// headerSubject percent-encodes a sub claim that cannot stand in a header as it is, for example an e-mail address beyond ASCII. A "%"
// is encoded too, so that no two subjects look alike.
func headerSubject(sub string) string {
	if strings.Trim(sub, visible) == "" {
		return sub
	}
	return url.PathEscape(sub)
}
