// Package upstreamtoken reads what the hop says of the label upstreamToken: what is asked of the
// provider so that the MCP server can act there in the person's name.
//
// It promises that it takes what the plugin writes, and nothing else. It does not know in which
// header the MCP server gets the token: the plugin alone does.
package upstreamtoken

import (
	"errors"
	"slices"
	"strings"
)

// Wanted is the label. The zero value is the label that is off.
type Wanted struct {
	On       bool
	Scopes   []string // asked of the provider in addition, and never scopes of our tokens
	Exchange string   // audience of the token exchange (RFC 8693); empty: none
}

const (
	maxScopes   = 1024 // characters of all, as in the plugin
	maxAudience = 300  // characters
)

var errForm = errors.New("must be scopes=SCOPES and, where there is an audience, exchange=AUDIENCE")

// Parse reads the member of the hop payload.
func Parse(texts []string) (Wanted, error) {
	if len(texts) == 0 {
		return Wanted{}, nil
	}
	scopes, named := strings.CutPrefix(texts[0], "scopes=")
	w := Wanted{On: true, Scopes: strings.Fields(scopes)}
	strange := func(scope string) bool { return !isPlain(scope) || strings.ContainsAny(scope, ",;") }
	if !named || len(texts) > 2 || len(scopes) > maxScopes || strings.Join(w.Scopes, " ") != scopes || slices.ContainsFunc(w.Scopes, strange) {
		return Wanted{}, errForm
	}
	if len(texts) == 2 {
		w.Exchange, named = strings.CutPrefix(texts[1], "exchange=")
		if !named || w.Exchange == "" || len(w.Exchange) > maxAudience || !isPlain(w.Exchange) || strings.Contains(w.Exchange, ";") {
			return Wanted{}, errForm
		}
	}
	return w, nil
}

// isPlain says whether a text is of the characters of a scope (RFC 6749 §3.3), and names no
// variable that nobody has replaced.
func isPlain(text string) bool {
	return !strings.Contains(text, "${") && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= ' ' || c == '"' || c == '\\' || c > '~'
	})
}
