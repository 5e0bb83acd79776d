//go:build go1.21

package plugin

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// upstreamToken is the label upstreamToken: the MCP server gets the access token that the provider
// gave for the person (docs/identity.md).
type upstreamToken struct {
	header   string // canonical
	scopes   []string
	exchange string // audience of the token exchange (RFC 8693); empty: none
}

// standardUpstreamHeader carries the provider's token where the label names no header.
const standardUpstreamHeader = "X-Upstream-Access-Token"

// maxUpstreamAudience is in characters.
const maxUpstreamAudience = 300

// parseUpstreamToken reads the label: parts NAME=VALUE, of which each may be left out. It returns
// nil where the label is not set.
func parseUpstreamToken(text string, others []identityHeader) (*upstreamToken, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	return readUpstreamToken(text, others)
}

func readUpstreamToken(text string, others []identityHeader) (*upstreamToken, error) {
	u := &upstreamToken{header: standardUpstreamHeader}
	seen := map[string]bool{}
	for _, part := range elementsOf(text, bySemicolons) {
		name, value, found := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		value = strings.TrimSpace(value)
		why := ""
		switch {
		case strings.Contains(part, "${"):
			why = "this names a variable that nobody has replaced by its value"
		case !found || value == "":
			why = "write header=Header-Name, scopes=SCOPES or exchange=AUDIENCE, with semicolons between them"
		case seen[name]:
			why = name + " stands there twice"
		case name == "header":
			why = upstreamHeaderFault(value, others)
			u.header = http.CanonicalHeaderKey(value)
		case name == "scopes":
			scopes, err := parseList("upstreamToken", value, bySpaces, scopeFault)
			if err != nil {
				return nil, err
			}
			u.scopes = scopes
		case name == "exchange":
			if strings.Trim(value, scopeChars) != "" || len(value) > maxUpstreamAudience {
				why = fmt.Sprintf("not an audience: give one name or URL of at most %d characters, without blanks and quotes", maxUpstreamAudience)
			}
			u.exchange = value
		default:
			why = "is none of header=, scopes= and exchange="
		}
		if why != "" {
			return nil, fmt.Errorf("label upstreamToken: %q: %s", part, why)
		}
		seen[name] = true
	}
	if len(seen) == 0 { // two empty variables have left it
		return nil, errors.New("label upstreamToken: says nothing: write header=" + standardUpstreamHeader + ", or leave the label out")
	}
	if len(strings.Join(u.scopes, " ")) > maxScopes {
		return nil, fmt.Errorf("label upstreamToken: scopes of at most %d characters", maxScopes)
	}
	if why := upstreamHeaderFault(u.header, others); why != "" {
		return nil, fmt.Errorf("label upstreamToken: %q: %s", u.header, why)
	}
	return u, nil
}

// upstreamHeaderFault says what is wrong with the name of the header. It is deleted from every
// request that comes in, so it must have no other meaning.
func upstreamHeaderFault(name string, others []identityHeader) string {
	if len(name) > maxHeaderName || strings.Trim(name, alphanumeric+"-") != "" {
		return fmt.Sprintf("a header's name is of letters, digits and hyphens, at most %d", maxHeaderName)
	}
	folded := foldHeader(name)
	if forgeable[folded] || isReservedHeader(folded) {
		return "this header has another meaning; choose a name of your own, such as " + standardUpstreamHeader
	}
	for _, h := range others {
		if foldHeader(h.name) == folded {
			return "the label identityHeaders uses this header too: choose another"
		}
	}
	return ""
}

// told is what the sidecar is told of the label: the scopes, also none, and the audience. Which
// header carries the token is no business of the sidecar's.
func (u *upstreamToken) told() []string {
	if u == nil {
		return nil
	}
	list := []string{"scopes=" + strings.Join(u.scopes, " ")}
	if u.exchange != "" {
		list = append(list, "exchange="+u.exchange)
	}
	return list
}

// The provider's token travels in the claim upstream_token of an access token, sealed by the
// sidecar under a key that follows from the hop key, the public URL and the token's jti
// (docs/sealed-values.md):
//
//	base64url( key id 3 ‖ AES-256-GCM of the provider's token ‖ tag 16 )
//
// The client that carries it has no hop key. A key seals one token, so the nonce is zero.
const (
	upstreamLabel = "mcpbouncer/v1/upstream-token"
	keyIDText     = 4    // characters of the key id: three bytes
	minSealed     = 27   // characters, of a token of one character
	maxSealed     = 5487 // characters, of a token of 4,096
	zeroNonce     = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// These errors say why no token of the provider can be handed on. Clients are told as in
// accesstoken.go: with invalid_token they refresh, and get a token that can be read.
var (
	errUpstreamKey    = errors.New("the token of the provider in the access token is sealed for another proxy")
	errUpstreamSealed = errors.New("the token of the provider in the access token cannot be read")
)

// openUpstreamToken opens the claim of an access token with this jti.
func openUpstreamToken(ticket *hopTicket, publicURL, jti, sealed string) (string, error) {
	if len(sealed) < minSealed || len(sealed) > maxSealed || strings.ContainsAny(sealed, "\r\n") {
		return "", errUpstreamSealed
	}
	if sealed[:keyIDText] != ticket.keyID {
		return "", errUpstreamKey
	}
	text, err := strictBase64.DecodeString(sealed[keyIDText:])
	if err != nil {
		return "", errUpstreamSealed
	}
	block, err := aes.NewCipher(hmacSHA256(ticket.key, upstreamLabel+prefixed(publicURL)+prefixed(jti)))
	if err != nil {
		return "", errUpstreamSealed
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", errUpstreamSealed
	}
	token, err := aead.Open(nil, []byte(zeroNonce), text, []byte(upstreamLabel))
	// A line break would be another header, if anything wrote it.
	if err != nil || strings.Trim(string(token), printable) != "" {
		return "", errUpstreamSealed
	}
	return string(token), nil
}

// prefixed is a text with its length in two bytes before it, so that no two pairs of texts are
// written alike. URLs and ids are short.
func prefixed(text string) string {
	return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text
}
