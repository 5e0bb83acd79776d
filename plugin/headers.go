//go:build go1.21

package plugin

import (
	"net/http"
	"regexp"
	"strings"
)

// forgeable are the headers that only the bouncer may set, as foldHeader spells them: those of the
// identity (identityTable) and the bouncer's own. They are dropped from every request, since an MCP
// server may believe one that no label asks for.
//
// The map is filled in init, because Yaegi gives package variables their values in the order of the
// files, without regard to what the functions called for them need.
var forgeable = map[string]bool{}

func init() {
	forgeable[foldHeader(hopHeader)] = true
	forgeable[foldHeader(ownAuthorization)] = true
	forgeable[foldHeader(callHeader)] = true
	for _, row := range identityTable {
		forgeable[foldHeader(row.header)] = true
	}
}

// These are the lengths of the shortest and the longest name. Most other headers of a request are
// told apart by their length alone.
const (
	minForgeable = len("X-Mcp-Sub")
	maxForgeable = len("X-Mcpb-Authorization")
)

// dropForged deletes the headers that only the bouncer may set, in every spelling: Traefik passes
// X_Mcp_Sub and X.mcp.sub on, and a server that maps header names to variables (CGI, WSGI) reads
// them as X-Mcp-Sub. It returns true for a request that a middleware of MCPBouncer has sent to its
// sidecar.
//
// The tests before foldHeader are there for speed: this loop runs interpreted, for each header of
// each request.
func dropForged(h http.Header) bool {
	for name := range h {
		if len(name) <= maxForgeable && len(name) >= minForgeable && name[0]|0x20 == 'x' && name[2]|0x20 == 'm' && forgeable[foldHeader(name)] {
			return dropFound(h)
		}
	}
	return false
}

// dropFound is dropForged for a request that has such a header.
func dropFound(h http.Header) bool {
	looped := false
	for name := range h {
		if len(name) > maxForgeable || !forgeable[foldHeader(name)] {
			continue
		}
		if name == hopHeader && strings.HasPrefix(strings.Join(h[name], ""), "mbh") {
			looped = true
		}
		dropOne(h, name)
	}
	return looped
}

// dropOne deletes one header. It leaves the bare name of X-Mcp-Sub without a value, which no client
// can send and no server is sent: if the request is refused, complainOfTwo sees there that another
// bouncer came before.
func dropOne(h http.Header, name string) {
	if name == subjectHeader {
		h[name] = nil
		return
	}
	delete(h, name)
}

// dropSaid deletes what a client says in the headers that are overwritten (known.go), of a request
// that does not reach the MCP server. Otherwise Traefik's access log, which keeps the headers of a
// request as they are left here, would show the name that a stranger has made up.
func dropSaid(h http.Header) {
	delete(h, scopesHeader)
	if h[subjectHeader] != nil {
		dropOne(h, subjectHeader)
	}
}

// dropNamed is dropSaid for a request of which the headers were not looked at one by one. Only the
// spelling counts that the access log looks for.
func dropNamed(h http.Header) {
	for _, row := range identityTable {
		delete(h, row.header)
	}
	delete(h, callHeader)
}

// ownHeaders are names of headers that the labels identityHeaders and upstreamToken have chosen.
type ownHeaders struct {
	folded  map[string]bool
	lengths []bool // is there a name of this length?
}

// newOwnHeaders returns nil for labels that choose none.
func newOwnHeaders(headers []identityHeader, upstream *upstreamToken) *ownHeaders {
	if len(headers) == 0 && upstream == nil {
		return nil
	}
	return ownHeadersOf(headers, upstream)
}

func ownHeadersOf(headers []identityHeader, upstream *upstreamToken) *ownHeaders {
	own := &ownHeaders{folded: map[string]bool{}, lengths: make([]bool, maxHeaderName+1)}
	names := []string{}
	for _, h := range headers {
		names = append(names, h.name)
	}
	if upstream != nil {
		names = append(names, upstream.header)
	}
	for _, name := range names {
		folded := foldHeader(name)
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

// dropOwn deletes the headers with these names, in every spelling.
func dropOwn(h http.Header, own *ownHeaders) {
	for name := range h {
		n := len(name)
		if n < len(own.lengths) && own.lengths[n] && own.folded[foldHeader(name)] {
			delete(h, name)
		}
	}
}

// redirection matches the headers that some servers believe more than the request line, and those
// that name an MCP session, in every spelling (foldHeader). With one of them, a request for a
// public document would be a request for something else, from somebody who was not asked for a
// token. It is one native call for each header, since strangers send as many as they like: folding
// and comparing 190 headers in Yaegi takes 15 ms.
var redirection = regexp.MustCompile(`(?i)^(x[^a-z0-9](original|rewrite|http[^a-z0-9](method|path)|method)|mcp[^a-z0-9]|last[^a-z0-9]event[^a-z0-9]id)`)

func dropRedirections(h http.Header) {
	for name := range h {
		if redirection.MatchString(name) {
			delete(h, name)
		}
	}
}

// foldHeader spells the name of a header in small letters, with "-" for every separator.
func foldHeader(name string) string { return strings.ToLower(separators.Replace(name)) }

// separators maps each character of a token (RFC 9110 §5.6.2) that is neither a letter nor a digit
// to "-".
var separators = strings.NewReplacer("!", "-", "#", "-", "$", "-", "%", "-", "&", "-", "'", "-", "*", "-", "+", "-",
	".", "-", "^", "-", "_", "-", "`", "-", "|", "-", "~", "-")

// identify tells the MCP server who asks. It takes the token and the bouncer's cookies from the
// request, with which the server could ask as that person.
func identify(h http.Header, id *identity) {
	delete(h, "Authorization")
	delete(h, proofHeader)
	if h["Cookie"] != nil {
		keepCookies(h, false)
	}
	delete(h, "Upgrade") // Connection does not name it: see passConnection
	// The slices are new for each request: a server that changes one in place must not change the
	// identity of another request.
	h[subjectHeader] = []string{id.subject}
	h[scopesHeader] = []string{id.scopes}
	if id.more != nil {
		for _, more := range id.more {
			h[more.name] = []string{more.value}
		}
	}
}

// maxOwnCookies bounds the bouncer's cookies that are looked at in one request: one for each login
// and consent page that is open.
const maxOwnCookies = 50

// smallLetters folds the letters of US-ASCII and leaves every byte where it is.
var smallLetters = strings.NewReplacer("A", "a", "B", "b", "C", "c", "D", "d", "E", "e", "F", "f", "G", "g", "H", "h", "I", "i", "J", "j",
	"K", "k", "L", "l", "M", "m", "N", "n", "O", "o", "P", "p", "Q", "q", "R", "r", "S", "s", "T", "t", "U", "u", "V", "v", "W", "w",
	"X", "x", "Y", "y", "Z", "z")

// keepCookies leaves in a request either only the bouncer's cookies (for the sidecar) or only the
// others (for the MCP server).
//
// A stranger must not be able to keep Traefik busy with a long header. So the search goes backwards
// from one cookie that may be the bouncer's to the one before, and ends after maxOwnCookies.
// Browsers send the newest cookie last (RFC 6265 §5.4). If there are more, the sidecar gets the
// newest, and the MCP server gets no cookie at all, because one that was not looked at could be the
// bouncer's.
func keepCookies(h http.Header, bouncers bool) {
	all := strings.Join(h["Cookie"], "; ")
	delete(h, "Cookie")
	small := smallLetters.Replace(all)
	own := ""
	end := len(all)
	for i := 0; ; i++ {
		at := strings.LastIndex(small[:end], "mcpb-")
		if at < 0 {
			break
		}
		if i == maxOwnCookies {
			if !bouncers {
				return
			}
			break
		}
		start := strings.LastIndex(small[:at], ";") + 1
		stop := strings.Index(small[at:], ";") + at
		if stop < at {
			stop = len(small)
		}
		name := strings.TrimPrefix(strings.TrimLeft(small[start:stop], " \t"), "__host-")
		end = start
		if !strings.HasPrefix(name, "mcpb-") {
			continue
		}
		if bouncers {
			own = ";" + all[start:stop] + own
			continue
		}
		if start > 0 {
			start-- // the separator goes too
		}
		all = all[:start] + all[stop:]
		small = small[:start] + small[stop:]
		end = start
	}
	kept := all
	if bouncers {
		kept = own
	}
	kept = strings.Trim(kept, "; \t")
	if kept != "" {
		h["Cookie"] = []string{kept}
	}
}

// maxHeaders and maxCookies bound what is looked at piece by piece in a request.
const (
	maxHeaders = 200      // names
	maxCookies = 32 << 10 // bytes
)

// tooManyHeaders says whether a request is refused for the size of its headers alone.
func tooManyHeaders(h http.Header) bool {
	if len(h) > maxHeaders {
		return true
	}
	cookies := h["Cookie"]
	return cookies != nil && len(strings.Join(cookies, ";")) > maxCookies
}
