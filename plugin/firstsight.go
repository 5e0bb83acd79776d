//go:build go1.21

package plugin

import (
	"strings"
	"time"
)

// This file is the short way of an access token that comes for the first time (known.go says what
// is slow in Yaegi). The sidecar writes all tokens of a tenant alike: with one header, one
// beginning of aud, and few scopes. So these are not read and judged again, but compared with what
// the long way (verifyToken) has found good, where the header also leads to the key. What is left
// is to decode the claims, to look at the clock, and to verify the signature.
//
// firstSight accepts only what verifyToken would accept, with the same identity, and refuses
// nothing but a signature. In all other cases it returns nil, and verifyToken decides.

// sight is what firstSight needs to know of a tenant.
type sight struct {
	issuer   string
	audience []byte // the beginning of aud, as the sidecar writes it
	tokens   *tokenCache
	held     *int64 // of tokens
	figures  *figures
	tenant   *tenant
	headers  bool   // label identityHeaders
	hands    bool   // label upstreamToken
	upstream string // header of that label
}

// newSight returns nil for a tenant whose tokens may have to be bound to a key, or need a sign-in
// of some kind.
func newSight(t *tenant) *sight {
	if t.dpop != proofsOff || t.stepup != nil {
		return nil
	}
	// A string in JSON ends at its quote: no other audience begins so.
	audience := []byte("[" + quote(t.audience))
	s := &sight{issuer: t.publicURL, audience: audience, tokens: t.sidecar.tokens, held: t.sidecar.tokens.held, figures: t.sidecar.figures, tenant: t, headers: len(t.identityHeaders) > 0}
	if t.upstream != nil {
		s.hands = true
		s.upstream = t.upstream.header
	}
	return s
}

// spelling is what tokens with the same header have in common. It is replaced, and never changed.
type spelling struct {
	key    *verifyKey
	scopes map[string]bool // claims that the long way has found good
	denied *denyList       // nil: it denies nobody
	opener *opener         // nil: the label upstreamToken is off
}

// maxSpellings bounds the headers that a lifetime knows, and the scopes of each. The sidecar signs
// all tokens with one header until its key changes. maxSpelling bounds one, in characters.
const (
	maxSpellings = 16
	maxSpelling  = 1024
)

// acquaint makes the header and the scopes of a token known that was verified in a lifetime. name
// is its Authorization header.
//
// A header is known up to its dot, with the scheme before it. So neither a bearer key nor a bound
// token has one.
func acquaint(l *lifetime, name string, key *verifyKey, denied *denyList, scopes string, o *opener) {
	header, _, found := strings.Cut(name, ".")
	if !found || key.algorithm != "EdDSA" || !strings.HasPrefix(header, "Bearer ") || len(header) > maxSpelling || len(scopes) > maxSpelling {
		return
	}
	s := &spelling{key: key, scopes: map[string]bool{scopes: true}, opener: o}
	if !denied.isEmpty() {
		s.denied = denied
	}
	knownLock.Lock()
	defer knownLock.Unlock()
	last := l.headers[header]
	if last != nil && last.scopes[scopes] && last.opener == o {
		return
	}
	if last != nil && len(last.scopes) < maxSpellings {
		for other := range last.scopes {
			s.scopes[other] = true
		}
	}
	if l.headers == nil || len(l.headers) >= maxSpellings {
		l.headers = map[string]*spelling{}
	}
	l.headers[header] = s
}

// forged is what firstSight returns for a token whose signature is wrong.
var forged = &identity{}

// signatureLength is the length of an Ed25519 signature in base64url.
const signatureLength = 86

// firstSight verifies the only credentials of a request, if they are an access token as the sidecar
// writes them, and remembers it. at is the time since 1970. s may be nil.
//
// Each check stands alone, because "||" is one more variable in Yaegi.
func firstSight(s *sight, credentials string, at time.Duration) *identity {
	if s == nil {
		return nil
	}
	c := s.tokens
	text := []byte(credentials)
	hash := sha256Sum(text)
	parts := splitN(credentials, ".", 4) // of a stranger: it may be nothing but dots
	knownLock.RLock()
	life := c.life
	known := life.headers[parts[0]]
	if at >= life.until {
		known = nil
	}
	if at < life.from {
		known = nil
	}
	if c.young[hash] != nil {
		known = nil
	}
	if c.old[hash] != nil {
		known = nil
	}
	knownLock.RUnlock()
	if known == nil {
		return nil
	}

	// The scheme and the header are known. readAccessToken says why the rest is checked.
	if len(parts) != 3 {
		return nil
	}
	if len(credentials) > maxToken {
		return nil
	}
	if containsAny(credentials, "\r\n") {
		return nil
	}
	// With ":=" a variable is made twice.
	var payload, signature []byte
	var err error
	payload, err = strictBase64.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	said := new(claims)
	if unmarshal(payload, said) != nil {
		return nil
	}
	if said.Issuer != s.issuer {
		return nil
	}
	if !hasPrefix(said.Audience, s.audience) {
		return nil
	}
	if !known.scopes[said.Scope] {
		return nil
	}
	if said.Confirmation != nil {
		return nil
	}
	second := float64(at / 1e9)
	if said.Expires <= second {
		return nil
	}
	if said.Expires > maxDate {
		return nil
	}
	if said.Issued < 1 {
		return nil
	}
	latest := second + futureSkew
	if said.Issued > latest {
		return nil
	}
	if said.NotBefore > latest {
		return nil
	}
	if said.ClientID == "" {
		return nil
	}
	if said.Subject == "" {
		return nil
	}
	if trim(said.Subject, visible) != "" { // encodeValue
		return nil
	}
	signature, err = strictBase64.DecodeString(parts[2])
	if err != nil {
		return nil
	}
	// If the signature had another length, Verify would refuse it whatever it is for. A known
	// header and these claims are longer than a signature.
	if !ed25519Verify(known.key.ed25519, text[len("Bearer "):len(text)-signatureLength-1], signature) {
		return forged
	}
	if known.denied != nil {
		if denies(known.denied, said) {
			return nil
		}
	}

	id := &identity{subject: said.Subject, scopes: said.Scope, expires: int64(said.Expires) + expirySkew, life: life}
	if s.headers {
		identifyMore(s.tenant, said, id)
	}
	if s.hands {
		id = handOnAtSight(s, known, payload, id, at)
		if id == nil {
			return nil
		}
	}
	if said.Login != "" {
		present(s.figures, said)
	}
	knownLock.Lock()
	if c.life == life { // neither keys nor deny document have changed
		if len(c.young) < maxYoung {
			c.young[hash] = id
		} else {
			addToken(c, hash, id)
		}
	}
	knownLock.Unlock()
	return id
}
