package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Workload is what the issuer of a machine's JWT says of it, verified (RFC 7523 §3): a job of a CI
// system, a service account, a SPIFFE identity.
type Workload struct {
	Subject string // 1 to 255 bytes
	claims  claims
}

// maxWorkloadLife bounds exp: a token that lives longer was not made for this.
const maxWorkloadLife = 24 * time.Hour

// Values are what stands in a claim, or at a dotted path: a text, a number or a boolean as it is
// written, and each entry of a list. Anything else is nothing.
func (w Workload) Values(path string) (all []string) {
	v, _ := w.claims.find(path)
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, entry := range list {
		switch entry := entry.(type) {
		case string:
			all = append(all, entry)
		case bool:
			all = append(all, fmt.Sprint(entry))
		case json.Number:
			all = append(all, entry.String())
		}
	}
	return all
}

// IsAssertion says whether a JWT says of itself that it is an identity assertion. Nothing of it is
// believed.
func IsAssertion(raw string) bool {
	_, _, err := readAssertion(raw, signatureAlgorithms)
	return err == nil
}

// WorkloadIssuer says who the JWT of a workload claims to be from, before anything of it is
// believed. The error is ErrAssertion.
func WorkloadIssuer(raw string) (string, error) {
	if len(raw) > maxAssertion {
		return "", worthless(fmt.Errorf("the assertion is longer than %d characters", maxAssertion))
	}
	_, c, err := readWorkload(raw, signatureAlgorithms)
	if err != nil {
		return "", err
	}
	iss, _ := c["iss"].(string)
	return iss, nil
}

// readWorkload reads a JWT and its claims. Its signature is not verified. A JWT that says that it
// is something else (an access token, an identity assertion, a logout token) is refused (RFC 8725
// §3.11).
func readWorkload(raw string, algorithms []jose.SignatureAlgorithm) (*signedToken, claims, error) {
	token, err := readSigned(raw, algorithms)
	if err != nil {
		return nil, nil, worthless(err)
	}
	typ, _ := token.jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType].(string)
	if typ = strings.ToLower(typ); !slices.Contains([]string{"", "jwt", "jose"}, typ) {
		return nil, nil, worthless(errors.New("its typ is that of something else than a workload's JWT"))
	}
	c, err := readClaims(token.jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, nil, worthless(err)
	}
	return token, c, nil
}

// VerifyWorkload checks the JWT of a workload for the authorization server whose issuer identifier
// is audience: its signature, and each claim that is needed (RFC 7523 §3). Whether the workload may
// come in is the caller's to say. It is not checked that the JWT comes only once: a service
// account's lies in a file and is used until it is replaced. The error is ErrAssertion, or one of
// ErrAway where the keys cannot be read.
func (p *Provider) VerifyWorkload(ctx context.Context, raw, audience string) (Workload, error) {
	token, _, err := readWorkload(raw, p.algorithms)
	if err != nil {
		return Workload{}, err
	}
	c, err := p.verified(ctx, token)
	if err != nil {
		return Workload{}, err
	}
	needed := reading{claims: c}
	iss, subject := needed.text("iss"), needed.text("sub")
	expires, issued, notBefore, audiences := needed.seconds("exp"), needed.seconds("iat"), needed.seconds("nbf"), needed.list("aud")
	now := float64(p.all.Now().UnixMilli()) / 1e3
	skew := sealing.Skew.Seconds()
	refuse := func(format string, args ...any) (Workload, error) {
		return Workload{}, worthless(fmt.Errorf(format, args...))
	}
	switch {
	case needed.odd != nil:
		return refuse("%w", needed.odd)
	case iss != p.issuer:
		return refuse("iss is %s, and its keys are those of %q", issuerForm(iss), p.issuer)
	case !isFor(audiences, audience):
		return refuse("aud is not this server alone: ask the issuer for a token with the audience %q", audience)
	case subject == "" || len(subject) > 255:
		return refuse("sub is missing, or has more than 255 bytes")
	case c["exp"] == nil:
		return refuse("exp is missing")
	case expires > now+maxWorkloadLife.Seconds()+skew:
		return refuse("it lives longer than a day: let the issuer make shorter ones")
	case now > expires+assertionLeeway.Seconds():
		return refuse("it expired %.0f seconds ago (exp), by this server's clock", min(now-expires, 1e10))
	case issued > now+skew || notBefore > now+skew:
		return refuse("it is from the future (iat or nbf), by this server's clock")
	case c["cnf"] != nil:
		return refuse(boundToKey)
	}
	return Workload{subject, c}, nil
}
