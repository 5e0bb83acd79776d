package trace

import (
	"encoding/hex"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// parent is what the headers of a request say of its trace (W3C Trace Context).
type parent struct {
	trace   [16]byte
	span    [8]byte // zero: the trace begins here
	sampled bool
	state   string // tracestate
}

const (
	maxState   = 512 // characters, which all must be able to pass on (§3.3.1.5)
	maxMembers = 32
)

// parseParent follows W3C Trace Context §3.2 and §3.3. What is not well-formed counts as absent.
func parseParent(h http.Header) (p parent, ok bool) {
	values := h["Traceparent"]
	if len(values) != 1 {
		return parent{}, false
	}
	// version-trace-parent-flags: a later version may go on behind a dash (§4.3)
	v := values[0]
	if len(v) < 55 || len(v) > 256 || v[2] != '-' || v[35] != '-' || v[52] != '-' || strings.ToLower(v) != v {
		return parent{}, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		into []byte
		text string
	}{{version[:], v[:2]}, {p.trace[:], v[3:35]}, {p.span[:], v[36:52]}, {flags[:], v[53:55]}} {
		if _, err := hex.Decode(part.into, []byte(part.text)); err != nil {
			return parent{}, false
		}
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(v) != 55, len(v) > 55 && v[55] != '-':
		return parent{}, false
	case p.trace == [16]byte{}, p.span == [8]byte{}:
		return parent{}, false
	}
	p.sampled = flags[0]&1 == 1
	p.state = parseState(h["Tracestate"])
	return p, true
}

// Key and value of a list member (W3C Trace Context §3.3.1.3), without their lengths: a pattern
// that counts to 256 takes half a megabyte.
var (
	stateKey   = lazyregexp.Regexp{Text: `^(?:[a-z][a-z0-9_*/-]*|[a-z0-9][a-z0-9_*/-]*@[a-z][a-z0-9_*/-]*)$`}
	stateValue = lazyregexp.Regexp{Text: `^[ -+\--<>-~]*[!-+\--<>-~]$`}
)

func isStateKey(key string) bool {
	tenant, system, multi := strings.Cut(key, "@")
	return len(key) <= 256 && (!multi || len(tenant) <= 241 && len(system) <= 14) && stateKey.Get().MatchString(key)
}

func isStateValue(value string) bool { return len(value) <= 256 && stateValue.Get().MatchString(value) }

// parseState returns the list in one line; empty if any of it is not well-formed, or too long.
func parseState(values []string) string {
	joined := strings.Join(values, ",")
	if len(joined) > maxState {
		return ""
	}
	seen := map[string]bool{}
	var kept []string
	for member := range strings.SplitSeq(joined, ",") {
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		key, value, _ := strings.Cut(member, "=")
		if seen[key] || len(kept) == maxMembers || !isStateKey(key) || !isStateValue(value) {
			return ""
		}
		seen[key] = true
		kept = append(kept, member)
	}
	return strings.Join(kept, ",")
}

// plain cuts a text, and makes it UTF-8, without which a collector refuses the whole batch.
func plain(text string) string {
	if len(text) > maxFact {
		text = text[:maxFact]
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "_")
	}
	return text
}
