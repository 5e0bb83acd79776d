package provider

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Assertion is an Identity Assertion JWT Authorization Grant (ID-JAG) that was verified
// (draft-ietf-oauth-identity-assertion-authz-grant-04 §3.1): an identity provider says who a person
// is, and lets one client act for that person at one authorization server.
type Assertion struct {
	ID        string   // jti: 1 to 255 bytes
	ClientID  string   // the client, as the authorization server that it is for knows it
	Resources []string // empty: it names none
	// Until is when it is no longer accepted.
	Until time.Time
	// Person is who it is about. Person.Said.Scope is its claim scope; nil if there is none.
	Person Person
}

const (
	// idJAGType is the typ of the header. Without it an id_token, which any client of the
	// provider gets, would do.
	idJAGType = "oauth-id-jag+jwt"
	// MaxAssertionLife is the longest time between iat and exp.
	MaxAssertionLife = 10 * time.Minute
	// assertionLeeway is for clocks, at exp. It is short, so that a copy is not of use for long.
	assertionLeeway = time.Minute
	maxAssertion    = 16 << 10 // characters; real ones have up to 2,000
	maxAssertionID  = 255      // bytes
	// boundToKey is why a JWT with cnf is refused (RFC 7800 §3): whoever brings it would have to
	// prove the key, and taken without that it would serve its thief.
	boundToKey = "it is bound to a key (cnf), and this server checks no proof of one: let the issuer make it without"
	// maxAssertionIssuer is in characters: the issuer is a part of the subject.
	maxAssertionIssuer = 200
)

// AssertionIssuer says who an assertion claims to be from, before anything of it is believed, so
// that the one who has the keys for it can be asked. The error is ErrAssertion.
func AssertionIssuer(raw string) (string, error) {
	if len(raw) > maxAssertion {
		return "", worthless(fmt.Errorf("the assertion is longer than %d characters", maxAssertion))
	}
	_, c, err := readAssertion(raw, signatureAlgorithms)
	if err != nil {
		return "", err
	}
	iss, _ := c["iss"].(string)
	return iss, nil
}

// IsAssertionIssuer says whether a URL can be the issuer of assertions: keys that anybody on the
// way could exchange prove nothing.
func IsAssertionIssuer(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && u.Host != "" && u.User == nil && !strings.ContainsAny(issuer, "?#;|{}") && len(issuer) <= maxAssertionIssuer && (u.Scheme == "https" || weburl.IsLocalHTTP(u))
}

// worthless is about an assertion with which nothing can be had, however often it comes.
func worthless(cause error) error {
	return because(ErrAssertion, fmt.Errorf("assertion: %w", cause))
}

// readAssertion reads a JWT with the right typ, and its claims. Its signature is not verified.
func readAssertion(raw string, algorithms []jose.SignatureAlgorithm) (*signedToken, claims, error) {
	token, err := readSigned(raw, algorithms)
	if err != nil {
		return nil, nil, worthless(err)
	}
	typ, _ := token.jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType].(string)
	if strings.TrimPrefix(strings.ToLower(typ), "application/") != idJAGType { // RFC 7515 §4.1.9
		return nil, nil, worthless(fmt.Errorf("its typ is not %s", idJAGType))
	}
	c, err := readClaims(token.jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, nil, worthless(err)
	}
	return token, c, nil
}

// VerifyAssertion checks an assertion of this provider for the authorization server whose issuer
// identifier is audience: its signature, and each claim that is needed (draft §4.4.1, RFC 7523 §3).
// Whether it is for the client that brings it, for a resource of the server, and new, is the
// caller's to check. The error is ErrAssertion, or one of ErrAway where the keys cannot be read.
func (p *Provider) VerifyAssertion(ctx context.Context, raw, audience string) (Assertion, error) {
	token, _, err := readAssertion(raw, p.algorithms)
	if err != nil {
		return Assertion{}, err
	}
	c, err := p.verified(ctx, token)
	if err != nil {
		return Assertion{}, err
	}
	needed := reading{claims: c}
	iss, subject, id, client := needed.text("iss"), needed.text("sub"), needed.text("jti"), needed.text("client_id")
	expires, issued, notBefore := needed.seconds("exp"), needed.seconds("iat"), needed.seconds("nbf")
	audiences, resources := needed.list("aud"), needed.list("resource")
	var scope *string
	if c["scope"] != nil {
		text := needed.text("scope")
		scope = &text
	}
	now := float64(p.all.Now().UnixMilli()) / 1e3
	skew := sealing.Skew.Seconds()
	refuse := func(format string, args ...any) (Assertion, error) {
		return Assertion{}, worthless(fmt.Errorf(format, args...))
	}
	switch {
	case needed.odd != nil:
		return refuse("%w", needed.odd)
	case iss != p.issuer:
		return refuse("iss is %s, and its keys are those of %q", issuerForm(iss), p.issuer)
	case !isFor(audiences, audience):
		return refuse("aud is not this server alone: it must be %q", audience)
	case subject == "" || len(subject) > 255: // OpenID Connect Core §2
		return refuse("sub is missing, or has more than 255 bytes")
	case client == "":
		return refuse("client_id is missing")
	case id == "" || len(id) > maxAssertionID:
		return refuse("jti is missing, or has more than %d bytes", maxAssertionID)
	case c["exp"] == nil || c["iat"] == nil:
		return refuse("exp or iat is missing")
	case expires-issued > MaxAssertionLife.Seconds():
		return refuse("it lives %.0f seconds, and may live %.0f: let the provider issue shorter ones", min(expires-issued, 1e10), MaxAssertionLife.Seconds())
	case now > expires+assertionLeeway.Seconds():
		return refuse("it expired %.0f seconds ago (exp), by this server's clock", min(now-expires, 1e10))
	case issued > now+skew || notBefore > now+skew:
		return refuse("it is from the future (iat or nbf), by this server's clock")
	case c["cnf"] != nil:
		return refuse(boundToKey)
	case c["authorization_details"] != nil:
		// They narrow what is granted, and nobody here would keep to them (RFC 9396 §5).
		return refuse("it has authorization_details, which this server does not know: let the provider use scope")
	}
	who := p.personOf(subject, c)
	who.CheckedAt = p.all.Now().Unix()
	who.Said.Scope = scope
	return Assertion{
		ID: id, ClientID: client, Resources: resources, Person: who,
		Until: time.Unix(int64(expires), 0).Add(assertionLeeway + time.Second),
	}, nil
}

// verified returns the claims of an assertion that a key of the provider has signed.
func (p *Provider) verified(ctx context.Context, token *signedToken) (claims, error) {
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
	return c, nil
}

// isFor wants the audience alone. An assertion that is good elsewhere too could have been sent
// there first, and whoever got it there could present it here. Programs that parse a URL give back
// one with a slash where it has no path.
func isFor(audiences []string, audience string) bool {
	return len(audiences) == 1 && (audiences[0] == audience || audiences[0] == audience+"/")
}
