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
	more   bool            // somebody is denied, or labels ask for something: see completeSight
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
// A header is known up to its dot, with all that stands before it in a request. So neither a bearer
// key nor a bound token has one.
func acquaint(l *lifetime, name string, key *verifyKey, denied *denyList, scopes string, more bool, o *opener) {
	header, _, found := strings.Cut(name, ".")
	if !found || key.algorithm != "EdDSA" || !strings.HasPrefix(header, "Bearer ") || len(header) > maxSpelling || len(scopes) > maxSpelling {
		return
	}
	header = "Authorization: " + header
	s := &spelling{key: key, scopes: map[string]bool{scopes: true}, opener: o, more: more || o != nil}
	if !denied.isEmpty() {
		s.denied = denied
		s.more = true
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

const (
	// beforeCredentials begins the first line of a request with credentials. The scheme is at
	// atScheme, and the token at atToken.
	beforeCredentials = "Authorization: "
	atScheme          = len(beforeCredentials)
	atToken           = atScheme + len("Bearer ")
	// signatureLength is that of an Ed25519 signature in base64url, and lastLength is that with the
	// end of the line.
	signatureLength = 86
	lastLength      = signatureLength + len("\r\n")
)

// firstSight verifies the credentials of a request, if they are an access token as the sidecar
// writes them, and remembers it. at is the time since 1970. s may be nil. knownLock is held; it is
// given back.
//
// text is what WriteSubset leaves of the headers, and parts are three by the dots in it: the header
// of the token with all that stands before it, its payload, and what begins with the signature,
// with lastLength characters at least. All may be otherwise, since other headers can bring dots.
//
// Each check stands alone, because "||" is one more variable in Yaegi, and all of them write into
// one (yes), because each outcome of a comparison would be another.
func firstSight(s *sight, credentials, text string, parts []string, at time.Duration) (id *identity) {
	// With ":=" a variable is made twice.
	var yes bool
	var point, end int // of the payload, and of the credentials
	var latest float64
	var payload, signature []byte
	var err error
	yes = s == nil
	if yes {
		return unseen()
	}
	c := s.tokens
	life := c.life
	known := life.headers[parts[0]]
	yes = known == nil
	if yes {
		return unseen()
	}
	yes = at >= life.until
	if yes {
		return unseen()
	}
	yes = at < life.from
	if yes {
		return unseen()
	}
	end = len(text) - len(parts[2]) + signatureLength
	raw := []byte(text)
	hash := sha256Sum(raw[atScheme:end])
	yes = c.young[hash] != nil
	if yes {
		return unseen()
	}
	yes = c.old[hash] != nil
	if yes {
		return unseen()
	}
	knownLock.RUnlock()

	// The first line is that of the credentials, which end there. And it is as it came: WriteSubset
	// writes a blank for a line break, which the decoder of base64 would skip.
	yes = text[:end] != beforeCredentials+credentials
	if yes {
		return nil
	}
	// The scheme and the header are known. readAccessToken says why the rest is checked.
	yes = end > maxToken
	if yes {
		return nil
	}
	payload, err = strictBase64.DecodeString(parts[1])
	yes = err != nil
	if yes {
		return nil
	}
	var said claims
	yes = unmarshal(payload, &said) != nil
	if yes {
		return nil
	}
	yes = said.Issuer != s.issuer
	if yes {
		return nil
	}
	yes = !hasPrefix(said.Audience, s.audience)
	if yes {
		return nil
	}
	yes = !known.scopes[said.Scope]
	if yes {
		return nil
	}
	yes = said.Confirmation != nil
	if yes {
		return nil
	}
	second := float64(at / 1e9)
	yes = said.Expires <= second
	if yes {
		return nil
	}
	yes = said.Expires > maxDate
	if yes {
		return nil
	}
	yes = said.Issued < 1
	if yes {
		return nil
	}
	latest = second + futureSkew
	yes = said.Issued > latest
	if yes {
		return nil
	}
	yes = said.NotBefore > latest
	if yes {
		return nil
	}
	yes = said.ClientID == ""
	if yes {
		return nil
	}
	subject := said.Subject
	yes = subject == ""
	if yes {
		return nil
	}
	yes = trim(subject, visible) != "" // encodeValue
	if yes {
		return nil
	}
	point = end - signatureLength - 1
	signature, err = strictBase64.DecodeString(text[point+1 : end])
	yes = err != nil
	if yes {
		return nil
	}
	yes = !ed25519Verify(known.key.ed25519, raw[atToken:point], signature)
	if yes {
		return forged
	}

	id = &identity{subject: subject, scopes: said.Scope, expires: int64(said.Expires) + expirySkew, life: life}
	if known.more {
		yes = true
	} else {
		yes = said.Login != ""
	}
	if yes {
		id = completeSight(s, known, &said, payload, id, at)
		if id == nil {
			return nil
		}
	}
	knownLock.Lock()
	yes = c.life == life // neither keys nor deny document have changed
	if yes {
		if len(c.young) < maxYoung {
			c.young[hash] = id
		} else {
			addToken(c, hash, id)
		}
	}
	knownLock.Unlock()
	return id
}

// unseen gives knownLock back, for firstSight: in Yaegi its name costs at each place where it
// stands.
func unseen() *identity {
	knownLock.RUnlock()
	return nil
}

// completeSight is what firstSight does rarely, or for the sake of labels. It returns nil where the
// long way has to decide.
func completeSight(s *sight, known *spelling, said *claims, payload []byte, id *identity, at time.Duration) *identity {
	if known.denied != nil {
		if denies(known.denied, said) {
			return nil
		}
	}
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
	return id
}
