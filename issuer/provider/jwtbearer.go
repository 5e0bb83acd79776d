package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A JWT can be an authorization grant (RFC 7523 §2.1): an identity assertion of a person
// (assertion.go), or the JWT of a workload (workload.go). What both must be stands here (§3).

// grantKind is what tells the two apart: their typ, in small letters.
type grantKind struct {
	types []string
	why   string // of another one
}

const (
	// assertionLeeway is for clocks, at exp. It is short, so that a copy is not of use for long.
	assertionLeeway = time.Minute
	maxAssertion    = 16 << 10 // characters; real ones have up to 2,000
)

// worthless is about an assertion with which nothing can be had, however often it comes.
func worthless(cause error) error {
	return because(ErrAssertion, fmt.Errorf("assertion: %w", cause))
}

// read returns a JWT of this kind and its claims, before anything of it is believed.
func (k grantKind) read(raw string, algorithms []jose.SignatureAlgorithm) (*signedToken, claims, error) {
	if len(raw) > maxAssertion {
		return nil, nil, worthless(fmt.Errorf("the assertion is longer than %d characters", maxAssertion))
	}
	token, err := readSigned(raw, algorithms)
	if err != nil {
		return nil, nil, worthless(err)
	}
	said, there := token.jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType]
	typ, isText := said.(string)
	if there && !isText || !slices.Contains(k.types, strings.ToLower(typ)) {
		return nil, nil, worthless(errors.New(k.why))
	}
	c, err := readClaims(token.jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, nil, worthless(err)
	}
	return token, c, nil
}

// issuer says who a JWT claims to be from, so that the one who has the keys for it can be asked.
func (k grantKind) issuer(raw string) (string, error) {
	_, c, err := k.read(raw, signatureAlgorithms)
	if err != nil {
		return "", err
	}
	iss, _ := c["iss"].(string)
	return iss, nil
}

// jwtGrant is a JWT that this provider has signed for one authorization server, and that is good
// now.
type jwtGrant struct {
	reading
	subject         string // 1 to 255 bytes
	issued, expires float64
}

// verifyGrant checks the signature, and each claim that both kinds need. thumbprint is that of the
// key which the request proves; empty: none. The error is ErrAssertion, or one of ErrAway where the
// keys cannot be read.
func (p *Provider) verifyGrant(ctx context.Context, kind grantKind, raw, audience, thumbprint string) (*jwtGrant, error) {
	token, _, err := kind.read(raw, p.algorithms)
	if err != nil {
		return nil, err
	}
	payload, err := p.keys.verifyStrangers(ctx, token)
	switch {
	case errors.Is(err, errKeysUnread):
		return nil, unanswered(err)
	case err != nil:
		return nil, worthless(err)
	}
	c, err := readClaims(payload)
	if err != nil {
		return nil, worthless(err)
	}
	g := &jwtGrant{reading: reading{claims: c}}
	g.subject, g.issued, g.expires = g.text("sub"), g.seconds("iat"), g.seconds("exp")
	iss, audiences, notBefore := g.text("iss"), g.list("aud"), g.seconds("nbf")
	now := float64(p.all.Now().UnixMilli()) / 1e3
	skew := sealing.Skew.Seconds()
	switch {
	case g.odd != nil:
		err = g.odd
	case iss != p.issuer:
		err = fmt.Errorf("iss is %s, and its keys are those of %q", issuerForm(iss), p.issuer)
	case !isFor(audiences, audience):
		err = fmt.Errorf("aud is not this server alone: ask the issuer for a token with the audience %q", audience)
	case g.subject == "" || len(g.subject) > 255: // OpenID Connect Core §2
		err = errors.New("sub is missing, or has more than 255 bytes")
	case c["exp"] == nil:
		err = errors.New("exp is missing")
	case now > g.expires+assertionLeeway.Seconds():
		err = fmt.Errorf("it expired %.0f seconds ago (exp), by this server's clock", min(now-g.expires, 1e10))
	case g.issued > now+skew || notBefore > now+skew:
		err = errors.New("it is from the future (iat or nbf), by this server's clock")
	case c["cnf"] != nil && !isForKey(c["cnf"], thumbprint):
		// RFC 7800 §3: whoever brings it has to prove the key; taken without that it would serve
		// its thief.
		err = errors.New("it is bound to a key (cnf), and the request proves none, or another: whoever brings it must send a DPoP proof by that key, and the label dpop must not be off")
	}
	if err != nil {
		return nil, worthless(err)
	}
	return g, nil
}

// isForKey says whether a JWT is bound to this key and to nothing else (RFC 9449 §6.1): what a
// confirmation says beside its thumbprint is not known here.
func isForKey(cnf any, thumbprint string) bool {
	confirmation, _ := cnf.(map[string]any)
	return thumbprint != "" && len(confirmation) == 1 && confirmation["jkt"] == thumbprint
}

// isFor wants the audience alone. An assertion that is good elsewhere too could have been sent
// there first, and whoever got it there could present it here. Programs that parse a URL give back
// one with a slash where it has no path.
func isFor(audiences []string, audience string) bool {
	return len(audiences) == 1 && (audiences[0] == audience || audiences[0] == audience+"/")
}
