package issuer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/workloadrule"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	jwtBearerGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523 §2.1
	// idJAGProfile is the kind of assertion that is taken, for clients that look
	// (draft-ietf-oauth-identity-assertion-authz-grant-04 §7.2).
	idJAGProfile = "urn:ietf:params:oauth:grant-profile:id-jag"
)

// jwtBearer redeems an identity assertion (ID-JAG §4.4): an issuer that the operator named lets
// this client act for a person, who sees no page here. The client has proved itself. There is no
// refresh token: the client asks the issuer for the next assertion, and so the issuer can end it
// (§4.4.3).
func (s *Issuer) jwtBearer(ctx context.Context, t *tenant, c client, form url.Values) (tokenResponse, error) {
	none := func(why error) (tokenResponse, error) { return tokenResponse{}, why }
	if c.public() {
		// Whoever finds an assertion could bring it, if the client did not prove itself (§4.4).
		return none(badRequest("unauthorized_client", "this grant_type is for clients that prove themselves, with a secret or a key"))
	}
	raw := form.Get("assertion")
	if raw == "" {
		return none(invalidRequest("assertion is missing"))
	}
	iss, err := provider.AssertionIssuer(raw)
	if err != nil {
		return none(err)
	}
	if !slices.Contains(t.EnterpriseIssuers, iss) {
		return none(assertionRefused("iss is %q, which the label enterpriseIssuers does not name", outgoing.PlainText(iss, 200)))
	}
	from := t.provider
	from.Issuer, from.IssuerLabel = iss, "enterpriseIssuers"
	up, err := s.providers.Discover(ctx, &from)
	if err != nil {
		return none(err)
	}
	a, err := up.VerifyAssertion(ctx, raw, t.PublicURL, c.thumbprint)
	if err != nil {
		return none(err)
	}
	if a.ClientID != c.id {
		return none(assertionRefused("client_id is another client's than the one that brings it: let the provider know this client under its client_id here"))
	}
	granted, ok := t.matchResource(present(a.Resources))
	if !ok {
		return none(assertionRefused("resource is not one of this server"))
	}
	resource, err := t.narrowResource(form, granted)
	if err != nil {
		return none(err)
	}
	g := grant{Identity: identityOf(a.Person), Resource: resource, Login: [16]byte(randomBytes(16)), Born: s.Now().Unix()}
	g.Identity.issuer = iss
	if g.Identity.Subject, err = t.joinSubject(iss, g.Identity.Subject); err != nil {
		return none(err)
	}
	withheld := t.withheldFromAssertion(a.Person.Said.Scope)
	g.Scope = withoutScopes(strings.Join(t.grantable(), " "), withheld)
	if err := s.loginDenied(ctx, t, g); err != nil {
		return none(err)
	}
	if err := s.admitLogin(t, g.Identity, "", withheld); err != nil {
		return none(err)
	}
	if err := t.givesScope(g, form.Get("scope")); err != nil {
		return none(err)
	}
	// Last, so that nothing which is refused above fills the guard.
	if err := s.markAssertion(ctx, t, iss, a.ID); err != nil {
		return none(err)
	}
	return s.issue(t, c, renewal{grant: g}, form.Get("scope"), "jwt-bearer")
}

// workload redeems the JWT of a machine (RFC 7523 §2.1): a job of a CI system or a service account
// gets an access token for what its issuer says it is, and needs no secret. The client is not
// authenticated: the JWT is all that it has (§3.1). thumbprint is that of the key that the request
// proves; empty: none.
func (s *Issuer) workload(ctx context.Context, t *tenant, form url.Values, thumbprint string) (tokenResponse, error) {
	none := func(why error) (tokenResponse, error) { return tokenResponse{}, why }
	raw := form.Get("assertion")
	iss, err := provider.WorkloadIssuer(raw)
	if err != nil {
		return none(err)
	}
	if !slices.ContainsFunc(t.workloads, func(r workloadrule.Rule) bool { return r.Issuer == iss }) {
		return none(assertionRefused("iss is %q, which no rule of the label workloadIssuers names", outgoing.PlainText(iss, 200)))
	}
	from := t.provider
	from.Issuer, from.IssuerLabel = iss, "workloadIssuers"
	up, err := s.providers.DiscoverKeys(ctx, &from)
	if err != nil {
		return none(err)
	}
	who, err := up.VerifyWorkload(ctx, raw, t.PublicURL, thumbprint)
	if err != nil {
		return none(err)
	}
	var scopes, lacking []string
	fits := false
	for _, rule := range t.workloads {
		if rule.Issuer != iss {
			continue
		}
		missing := slices.DeleteFunc(slices.Clone(rule.Claims), func(c workloadrule.Claim) bool {
			return slices.ContainsFunc(who.Values(c.Path), c.Fits)
		})
		if len(missing) > 0 {
			lacking = append(lacking, missing[0].Path)
			continue
		}
		fits, scopes = true, append(scopes, rule.Scopes...)
	}
	if !fits {
		s.counters.add(notAdmitted)
		return none(badRequest("access_denied", "this workload is not admitted to this server").because(fmt.Errorf("%w by the label workloadIssuers: no rule fits; of each, this claim does not: %s", errNotAdmitted, strings.Join(lacking, ", "))))
	}
	resource, err := t.narrowResource(form, t.PublicURL)
	if err != nil {
		return none(err)
	}
	subject, err := t.joinSubject(iss, who.Subject)
	if err != nil {
		return none(err)
	}
	hash := sha256.Sum256([]byte("workload " + subject))
	g := grant{
		Identity: identity{Subject: subject, machine: true}, Scope: strings.Join(distinct(scopes), " "), Resource: resource,
		// One login for as long as the issuer names it so: what ends that login ends the workload.
		Login: [16]byte(hash[:16]), Born: s.Now().Unix(),
	}
	c := client{id: workloadClient + iss, thumbprint: thumbprint}
	if err := s.clientDenied(ctx, c.id); err != nil {
		return none(ofClient(c.id, err))
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return none(err)
	}
	if err := t.givesScope(g, form.Get("scope")); err != nil {
		return none(err)
	}
	return s.issue(t, c, renewal{grant: g}, form.Get("scope"), "jwt-bearer")
}

// workloadClient stands before the issuer in the client_id of a workload's access token. No client
// can register such an id.
const workloadClient = "workload:"

// bringsWorkload says whether a token request is a workload's: one that needs no client.
func (t *tenant) bringsWorkload(form url.Values) bool {
	return len(t.workloads) > 0 && form.Get("grant_type") == jwtBearerGrant && form.Get("assertion") != "" && !provider.IsAssertion(form.Get("assertion"))
}

// assertionRefused is the answer for an assertion that could be read and is not for here. The
// client is told nothing of it: what does not fit is the operator's to know.
func assertionRefused(format string, args ...any) error {
	return invalidGrant("the assertion is not accepted; the server's log says why").because(fmt.Errorf("assertion: "+format, args...))
}

// joinSubject names a person or a workload of whom an issuer speaks. At the tenant's provider it is
// the one who logs in there. Two other issuers may call two people by one name, so theirs stands in
// front. A name with which an issuer would speak of another's is refused.
func (t *tenant) joinSubject(issuer, subject string) (string, error) {
	joined := issuer + "|" + subject
	if issuer == t.ProviderIssuer {
		joined = subject
	}
	if owner, _ := t.splitSubject(joined); owner != issuer {
		return "", assertionRefused("sub begins as the people of another issuer are called")
	}
	return joined, nil
}

// splitSubject is the reverse of joinSubject.
func (t *tenant) splitSubject(subject string) (issuer, rest string) {
	for _, issuer := range t.believed {
		if rest, ok := strings.CutPrefix(subject, issuer+"|"); ok && issuer != t.ProviderIssuer {
			return issuer, rest
		}
	}
	return t.ProviderIssuer, subject
}

// withheldFromAssertion are the scopes that an assertion does not give. One with a scope gives no
// other. One without says nothing of rights: then whoever is believed gets what everybody gets, and
// what rules give.
func (t *tenant) withheldFromAssertion(scope *string) []string {
	if scope == nil && len(t.rules) > 0 {
		return nil
	}
	if scope == nil {
		return t.rightsAskedFor(func(string) bool { return true })
	}
	said := strings.Fields(*scope)
	return slices.DeleteFunc(slices.Clone(t.grantable()), func(scope string) bool { return slices.Contains(said, scope) })
}

// markAssertion wants that an assertion comes once (ID-JAG §4.4.1, jti). Without a guard a copy
// works until the assertion expires, and only together with the client's secret or key.
func (s *Issuer) markAssertion(ctx context.Context, t *tenant, iss, id string) error {
	use, err := s.ReplayGuard.Use(ctx, sealing.ReplayMark(t.id, "assertion", iss+" "+id))
	switch {
	case err != nil:
		s.guardFailed(t, err)
		return temporarilyUnavailable("this server cannot tell at the moment whether the assertion was used before; try again with another", err)
	case !use.First:
		return invalidGrant("the assertion was used before").because(errors.New("assertion: its jti came before: a copy, or a client that sends one twice"))
	}
	return nil
}
