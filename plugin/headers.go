//go:build go1.21

package plugin

import (
	"net/http"
	"regexp"
	"strings"
)

// forgeable are the headers that only the bouncer may set, as foldHeader spells them. They are dropped whether a label asks for them or not.
var forgeable = map[string]bool{
	"x-mcp-sub": true, "x-mcp-scopes": true, "x-mcp-email": true, "x-mcp-name": true, "x-mcp-groups": true,
	"x-mcp-client-id": true, "x-mcp-issuer": true, "x-mcp-assertion": true, "x-mcpb-hop": true, "x-mcpb-authorization": true,
}

// The shortest and the longest of them.
const (
	minForgeable = len("X-Mcp-Sub")
	maxForgeable = len("X-Mcpb-Authorization")
)

// dropForged deletes the headers that only the bouncer may set, in every spelling: Traefik passes X_Mcp_Sub and X.mcp.sub on,
// and a server that maps header names to variables (CGI, WSGI) reads them as X-Mcp-Sub. It returns whether a bouncer's
// middleware has sent the request to its sidecar.
//
// The tests before foldHeader are there for speed: this loop runs interpreted, for each header of each request.
func dropForged(h http.Header) bool {
	looped := false
	for name := range h {
		if len(name) <= maxForgeable && len(name) >= minForgeable && name[0]|0x20 == 'x' && name[2]|0x20 == 'm' && forgeable[foldHeader(name)] {
			if name == hopHeader && strings.HasPrefix(strings.Join(h[name], ""), "mbh") {
				looped = true
			}
			delete(h, name)
		}
	}
	return looped
}

// ownHeaders are the names that a label gave to identity headers.
type ownHeaders struct {
	folded  map[string]bool
	lengths []bool // is there a name of this length?
}

func newOwnHeaders(headers []identityHeader) *ownHeaders {
	own := &ownHeaders{folded: map[string]bool{}, lengths: make([]bool, maxHeaderName+1)}
	for _, h := range headers {
		folded := foldHeader(h.name)
		if forgeable[folded] {
			continue
		}
		own.folded[folded] = true
		own.lengths[len(folded)] = true
	}
	if len(own.folded) == 0 {
		return nil
	}
	return own
}

// dropOwn deletes the headers of these names, in every spelling.
func dropOwn(h http.Header, own *ownHeaders) {
	for name := range h {
		n := len(name)
		if n < len(own.lengths) && own.lengths[n] && own.folded[foldHeader(name)] {
			delete(h, name)
		}
	}
}

// foldHeader spells a header's name in small letters, with "-" for every separator.
func foldHeader(name string) string { return strings.ToLower(separators.Replace(name)) }

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
	if len(id.more) > 0 {
		for _, more := range id.more {
			h[more.name] = []string{more.value}
		}
	}
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

// bouncerCookie matches one cookie of the bouncer with the separator before it. A regular expression, because a loop over the pairs
// of a long header is interpreted: a stranger could buy seconds of Traefik's time with it.
var bouncerCookie = regexp.MustCompile(`(?i)(?:^|;)[ \t]*(?:__Host-)?mcpb-[^;]*`)

// keepCookies leaves in a request either only the bouncer's cookies (for the sidecar) or only the others (for the MCP server).
func keepCookies(h http.Header, bouncers bool) {
	all := strings.Join(h["Cookie"], "; ")
	kept := ""
	if bouncers {
		kept = strings.Join(bouncerCookie.FindAllString(all, -1), "")
	} else {
		kept = bouncerCookie.ReplaceAllString(all, "")
	}
	kept = strings.Trim(kept, "; \t")
	delete(h, "Cookie")
	if kept != "" {
		h["Cookie"] = []string{kept}
	}
}

// maxHeaders and maxCookies bound what is looked at piece by piece.
const (
	maxHeaders = 200      // names
	maxCookies = 32 << 10 // bytes
)

// tooManyHeaders says whether a request is refused for its size alone.
func tooManyHeaders(h http.Header) bool {
	if len(h) > maxHeaders {
		return true
	}
	cookies := h["Cookie"]
	return len(cookies) > 0 && len(strings.Join(cookies, ";")) > maxCookies
}
