package provider

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// Assertion is an Identity Assertion JWT Authorization Grant (ID-JAG) that was verified
// (draft-ietf-oauth-identity-assertion-authz-grant-04 §3.1): an identity provider says who a person
// is, and lets one client act for that person at one authorization server.
type Assertion struct {
	ID        string   // jti: 1 to 255 bytes
	ClientID  string   // the client, as the authorization server that it is for knows it
	Resources []string // empty: it names none
	// Person is who it is about. Person.Said.Scope is its claim scope; nil if there is none.
	Person Person
}

// idJAG wants the type: without it an id_token, which any client of the provider gets, would do.
// RFC 7515 §4.1.9 allows both spellings.
var idJAG = grantKind{[]string{"oauth-id-jag+jwt", "application/oauth-id-jag+jwt"}, "its typ is not oauth-id-jag+jwt"}

const (
	// maxAssertionLife is the longest time between iat and exp.
	maxAssertionLife = 10 * time.Minute
	maxAssertionID   = 255 // bytes
	// maxAssertionIssuer is in characters: the issuer is a part of the subject.
	maxAssertionIssuer = 200
)

// AssertionIssuer says who an assertion claims to be from, before anything of it is believed. The
// error is ErrAssertion.
func AssertionIssuer(raw string) (string, error) { return idJAG.issuer(raw) }

// IsAssertion says whether a JWT says of itself that it is an identity assertion. Nothing of it is
// believed.
func IsAssertion(raw string) bool {
	_, err := idJAG.issuer(raw)
	return err == nil
}

// IsAssertionIssuer says whether a URL can be the issuer of assertions: keys that anybody on the
// way could exchange prove nothing.
func IsAssertionIssuer(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && u.Host != "" && u.User == nil && !strings.ContainsAny(issuer, "?#;|{}") && len(issuer) <= maxAssertionIssuer && (u.Scheme == "https" || weburl.IsLocalHTTP(u))
}

// VerifyAssertion checks an assertion of this provider for the authorization server whose issuer
// identifier is audience (draft §4.4.1). Whether it is for the client that brings it, for a
// resource of the server, and new, is the caller's to check. thumbprint is that of the key which
// the request proves; empty: none. The error is ErrAssertion, or one of ErrAway where the keys
// cannot be read.
func (p *Provider) VerifyAssertion(ctx context.Context, raw, audience, thumbprint string) (Assertion, error) {
	g, err := p.verifyGrant(ctx, idJAG, raw, audience, thumbprint)
	if err != nil {
		return Assertion{}, err
	}
	a := Assertion{ID: g.text("jti"), ClientID: g.text("client_id"), Resources: g.list("resource")}
	var scope *string
	if g.claims["scope"] != nil {
		text := g.text("scope")
		scope = &text
	}
	switch {
	case g.odd != nil:
		err = g.odd
	case a.ClientID == "":
		err = errors.New("client_id is missing")
	case a.ID == "" || len(a.ID) > maxAssertionID:
		err = fmt.Errorf("jti is missing, or has more than %d bytes", maxAssertionID)
	case g.claims["iat"] == nil:
		err = errors.New("iat is missing")
	case g.expires-g.issued > maxAssertionLife.Seconds():
		err = fmt.Errorf("it lives %.0f seconds, and may live %.0f: let the provider issue shorter ones", min(g.expires-g.issued, 1e10), maxAssertionLife.Seconds())
	case g.claims["authorization_details"] != nil:
		// They narrow what is granted, and nobody here would keep to them (RFC 9396 §5).
		err = errors.New("it has authorization_details, which this server does not know: let the provider use scope")
	}
	if err != nil {
		return Assertion{}, worthless(err)
	}
	a.Person = p.personOf(g.subject, g.claims)
	a.Person.CheckedAt = p.all.Now().Unix()
	a.Person.Said.Scope = scope
	return a, nil
}
