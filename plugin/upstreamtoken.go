//go:build go1.21

package plugin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
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
	keyIDSize     = 3
	keyIDText     = 4    // characters
	idLength      = 22   // characters of a jti: 16 random bytes
	minSealed     = 27   // characters, of a token of one character
	maxSealed     = 5487 // characters, of a token of 4,096
)

// These errors say why no token of the provider can be handed on. Clients are told as in
// accesstoken.go: with invalid_token they refresh, and get a token that can be read.
var (
	errUpstreamMissing = errors.New("the access token was made before this server handed on the token of the provider")
	errUpstreamKey     = errors.New("the token of the provider in the access token is sealed for another proxy")
	errUpstreamSealed  = errors.New("the token of the provider in the access token cannot be read")
)

// handOn puts the provider's token into an identity, for an access token that was verified, of
// which payload is the JSON. Whoever did not log in at the provider has none (a machine, a bearer
// key): the claim is empty then, and there is no header. It also returns what opens other tokens.
func handOn(t *tenant, payload []byte, id *identity) (*opener, error) {
	var said struct {
		ID     string `json:"jti"`
		Sealed any    `json:"upstream_token"`
	}
	if json.Unmarshal(payload, &said) != nil {
		return nil, errMalformed
	}
	if said.Sealed == nil {
		complain(t.hop.name, "upstream missing", "a client sends a token from before the label upstreamToken was set: it is told to refresh it. If that goes on, the sidecar gives tokens without the claim upstream_token")
		return nil, errUpstreamMissing
	}
	ticket, err := t.hop.header(now().Unix())
	if err != nil {
		countFailure(t.sidecar.figures, "hop_key")
		complain(t.hop.name, "hop", err.Error())
		return nil, errKeysUnavailable
	}
	o := openerOf(t, ticket)
	sealed, isText := said.Sealed.(string)
	if isText && sealed == "" {
		return o, nil
	}
	token, err := openClaim(o, said.ID, sealed)
	if err == errUpstreamKey {
		complain(t.hop.name, "upstream key", "the token of the provider in an access token is sealed for another hop key than this one (key id "+hopKeyID(ticket.key)+"): the client is told to refresh it. While a new hop key is brought in that is over after one refresh. If it goes on, two Traefiks have different hop keys, and clients reach now one and now the other: give both the same")
	}
	if err == errUpstreamSealed {
		complain(t.hop.name, "upstream sealed", "the token of the provider in an access token of the sidecar does not open, although its hop key is the right one: the client is told to refresh it. If it goes on, plugin and sidecar are of versions that do not fit")
	}
	if err != nil {
		return nil, err
	}
	id.more = append(id.more, headerValue{name: t.upstream.header, value: token})
	if addInt64(t.sidecar.tokens.held, int64(len(token))) > maxHeldTokens {
		turnFull(t.sidecar.tokens, len(token))
	}
	return o, nil
}

// openClaim opens the claim as it stands in an access token, and says what is wrong with one that
// does not open.
func openClaim(o *opener, jti, sealed string) (string, error) {
	// The decoder skips CR and LF.
	if len(sealed) < minSealed || len(sealed) > maxSealed || len(jti) != idLength || strings.ContainsAny(sealed, "\r\n") {
		return "", errUpstreamSealed
	}
	if sealed[:keyIDText] != o.keyID {
		return "", errUpstreamKey
	}
	token := openUpstreamToken(o, []byte(jti), sealed)
	if token == "" {
		return "", errUpstreamSealed
	}
	return token, nil
}

// handOnAtSight is handOn for firstSight; at is the time since 1970. It returns nil where the long
// way has to decide.
//
// It looks for the claims where the sidecar writes them: upstream_token last. What it finds has to
// open. A text within another claim is not taken for one of them, since JSON has a backslash before
// each quote there.
func handOnAtSight(s *sight, known *spelling, payload []byte, id *identity, at time.Duration) *identity {
	o := known.opener
	if at >= o.until {
		return nil
	}
	from := indexOf(payload, upstreamMember)
	if from < 0 {
		return nil
	}
	from += len(upstreamMember)
	until := len(payload) - len(`"}`)
	if from == until {
		return id
	}
	name := indexOf(payload, idMember)
	if name < 0 {
		return nil
	}
	name += len(idMember)
	if from+minSealed > until {
		return nil
	}
	if from+maxSealed < until {
		return nil
	}
	if name+idLength > until {
		return nil
	}
	sealed := string(payload[from:until])
	if sealed[:keyIDText] != o.keyID {
		return nil
	}
	token := openUpstreamToken(o, payload[name:name+idLength], sealed)
	if token == "" {
		return nil
	}
	id.more = append(id.more, headerValue{name: s.upstream, value: token})
	if addInt64(s.held, int64(len(token))) > maxHeldTokens {
		turnFull(s.tokens, len(token))
	}
	return id
}

var (
	upstreamMember = []byte(`"upstream_token":"`)
	idMember       = []byte(`"jti":"`)
	sealedLabel    = []byte(upstreamLabel)
	zeroNonce      = make([]byte, 12)
)

// maxHeldTokens bounds the provider's tokens that a tenant remembers, in bytes: those of one of two
// generations of a tokenCache. Where people come with more, the others' are opened again.
const maxHeldTokens = 2 << 20

// turnFull is turnOld for a generation that has no room for one more token of the provider.
func turnFull(c *tokenCache, size int) {
	knownLock.Lock()
	defer knownLock.Unlock()
	c.old = c.young
	c.young = map[[32]byte]*identity{}
	c.since = now().Unix()
	atomic.StoreInt64(c.held, int64(size))
}

// heldUnit is for how many bytes of its headers an identity counts as one more among knownRequests:
// those of a middleware keep at most 4 MB of the provider's tokens from being forgotten.
const heldUnit = 128

// heldBy is how many bytes of headers an identity brings along.
func heldBy(id *identity) int {
	size := 0
	for _, more := range id.more {
		size += len(more.value)
	}
	return size
}

// opener opens the provider's tokens of a tenant that are sealed for one hop key. It is good for as
// long as a hop header, because then a new key may stand in the file.
type opener struct {
	key   []byte // the hop key
	keyID string // its name, as sealed values begin
	// The blocks of HMAC (RFC 2104) before what is different for each token. In Yaegi two hashes
	// cost half of what crypto/hmac does.
	inner, outer []byte        // with no room behind them, so that append copies them
	from, until  time.Duration // since 1970
}

// openerOf returns the opener of a tenant for a hop header's key.
func openerOf(t *tenant, ticket *hopTicket) *opener {
	knownLock.RLock()
	o := t.opener
	knownLock.RUnlock()
	from := time.Duration(ticket.madeAt) * time.Second
	if o != nil && o.from == from && bytes.Equal(o.key, ticket.key) {
		return o
	}
	o = newOpener(ticket.key, t.publicURL)
	o.from = from
	o.until = from + hopReuse*time.Second
	knownLock.Lock()
	t.opener = o
	knownLock.Unlock()
	return o
}

func newOpener(key []byte, publicURL string) *opener {
	inner := make([]byte, sha256.BlockSize)
	outer := make([]byte, sha256.BlockSize)
	copy(inner, key)
	copy(outer, key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	// Each text has its length in two bytes before it, so that no two pairs are written alike.
	lengths := []byte{byte(len(publicURL) >> 8), byte(len(publicURL)), 0, idLength}
	fixed := string(inner) + upstreamLabel + string(lengths[:2]) + publicURL + string(lengths[2:])
	return &opener{
		key:   key,
		keyID: base64.RawURLEncoding.EncodeToString(nameOfKey(key)),
		inner: exactly(fixed),
		outer: outer,
	}
}

// exactly returns the bytes of a text, with no room behind them.
func exactly(text string) []byte {
	b := make([]byte, len(text))
	copy(b, text)
	return b
}

// openUpstreamToken opens the claim of an access token with this jti of idLength bytes; sealed has
// at least minSealed characters. It returns nothing if it does not open.
func openUpstreamToken(o *opener, jti []byte, sealed string) string {
	text, err := strictBase64.DecodeString(sealed)
	if err != nil {
		return ""
	}
	inner := sha256Sum(append(o.inner, jti...))
	key := sha256Sum(append(o.outer, inner[:]...))
	block, err := newCipher(key[:])
	if err != nil {
		return ""
	}
	aead, err := newGCM(block)
	if err != nil {
		return ""
	}
	text = text[keyIDSize:]
	plain, err := aead.Open(text[:0], zeroNonce, text, sealedLabel) // where the ciphertext was
	if err != nil {
		return ""
	}
	token := string(plain)
	// A line break would be another header, if anything wrote it.
	if trim(token, printable) != "" {
		return ""
	}
	return token
}
