package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/scoperule"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// admit is the one place that decides who may come in. issue calls it for each grant, with the
// provider's last word on the person and the labels of this moment: a changed label takes effect at
// the next refresh. All rules that are set must hold.
func (s *Issuer) admit(t *tenant, who identity) error {
	// The operator has admitted it by making it, and the provider knows nothing of it.
	if who.machine {
		return nil
	}
	err := t.breaks(who)
	if err == nil {
		return nil
	}
	s.counters.add(notAdmitted)
	// The answer does not say which rule: what a rule wants is a hint at whose account would do.
	e := badRequest("access_denied", "this account is not admitted to this server; use another account, or ask whoever runs the server")
	if errors.As(err, new(unsentError)) {
		e.Description = "this account is not admitted to this server: the sign-in provider does not say of it what the server needs to know; tell whoever runs the server, or use another account"
	}
	e.subject = who.Subject
	return e.because(fmt.Errorf("%w; subject %s", err, s.Ring.Pseudonym(t.id, who.Subject)))
}

// admitLogin is admit for what a provider has just said. scope is what the login is for, and
// withheld are scopes of the label that the provider did not grant. A login that lacks one of
// requiredScopes could do nothing, and its client would ask for more for ever.
func (s *Issuer) admitLogin(t *tenant, who identity, scope string, withheld []string) error {
	if err := s.admit(t, who); err != nil {
		return err
	}
	if err := s.signInDoes(t, who, withoutScopes(scope, withheld)); err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(t.RequiredScopes), func(scope string) bool { return !slices.Contains(withheld, scope) })
	lacking := t.provider.UpstreamToken.Lacks(who.said.UpstreamScope)
	if len(missing) == 0 && len(lacking) == 0 {
		return nil
	}
	s.counters.add(notAdmitted)
	if len(missing) == 0 {
		return lacksUpstream("access_denied", lacking)
	}
	names := strings.Join(missing, " ")
	cause := fmt.Errorf("%w: the provider did not grant %s, which requiredScopes needs: let its client there have that scope, or take it out of the labels scopes or requiredScopes", errWithheld, names)
	if who.said.Scope == nil {
		cause = fmt.Errorf("%w: the provider does not say that it granted %s, which requiredScopes needs, and does not list that scope: %s", errWithheld, names, scopeRuleRemedy(missing))
	}
	e := badRequest("access_denied", "the sign-in provider did not grant "+names+", without which nothing can be done at this server; tell whoever runs it")
	e.subject = who.Subject
	return e.because(cause)
}

// lacksUpstream refuses a login whose MCP server could not do at the provider what it needs to.
func lacksUpstream(code string, scopes []string) error {
	names := strings.Join(scopes, " ")
	return badRequest(code, "the sign-in provider did not grant "+names+", without which this server cannot act for anybody there; tell whoever runs it").
		because(fmt.Errorf("%w: the provider did not grant %s, which the label upstreamToken asks for: let its client there have that scope, or take it out of the label", errWithheld, names))
}

// signInDoes refuses a login whose sign-in is not what its scopes need. Without one that every
// request needs nothing could be done. One that only some calls need was asked for by name
// (grantableScope): if it were left out, its client would come back for it again and again.
func (s *Issuer) signInDoes(t *tenant, who identity, scope string) error {
	gives := t.scopesFor(who)
	lacks := t.signInLacks(who, append(slices.DeleteFunc(strings.Fields(scope), func(scope string) bool { return !slices.Contains(gives, scope) }), t.RequiredScopes...)...)
	if lacks == "" {
		return nil
	}
	s.counters.add(notAdmitted)
	// OpenID Connect Core Unmet Authentication Requirements §2, which RFC 9470 §5 names.
	e := badRequest("unmet_authentication_requirements", "the sign-in provider did not confirm that you signed in as this server needs it; sign in again, or tell whoever runs the server")
	e.subject = who.Subject
	return e.because(fmt.Errorf("%w: %s; let the provider heed acr_values and max_age and send acr and auth_time, or change the label", errSignIn, lacks))
}

// errSignIn is in the chain of each refusal because of how or when somebody signed in.
var errSignIn = errors.New("not admitted by the label authenticationRules")

// errWithheld is in the chain of each refusal because of what the provider withheld.
var errWithheld = errors.New("the login could do nothing")

// unsentError is a refusal by a rule whose claim the provider did not send, or does not vouch for.
// No rule has judged the person, and another account may fare no better.
type unsentError struct{ error }

func (e unsentError) Unwrap() error { return e.error }

// canRefuse says whether anything in the labels could keep somebody out whom the provider lets in.
func (t *tenant) canRefuse() bool {
	_, everybody := t.whoMayComeIn()
	return !everybody || t.Refresh == "upstream" || t.stepup != nil || slices.ContainsFunc(t.RequiredScopes, func(scope string) bool {
		return slices.Contains(t.asRights, scope) && !slices.Contains(identityScopes, scope)
	})
}

// errNotAdmitted is in the chain of each refusal of admit.
var errNotAdmitted = errors.New("not admitted")

// breaks names the first rule that does not hold.
func (t *tenant) breaks(who identity) error {
	rule := func(label, why string) error { return fmt.Errorf("%w by the label %s: %s", errNotAdmitted, label, why) }
	unsent := func(label, why, claim string) error {
		if hint := who.said.Hints[claim]; hint != "" {
			why += "; " + hint
		}
		if lacking := who.lacking(claim); lacking != "" {
			return unsentError{rule(label, why+lacking)}
		}
		return rule(label, why)
	}
	switch owner, _ := t.splitSubject(who.Subject); {
	case owner != t.ProviderIssuer && who.issuer == "":
		// At providers where people choose their sub, one could choose the name of a person of
		// another issuer.
		return fmt.Errorf("%w: the provider's sub begins as the people of %s are called, which enterpriseIssuers or workloadIssuers names", errNotAdmitted, owner)
	case len(t.AllowedSubjects) > 0 && !slices.Contains(t.AllowedSubjects, who.Subject):
		return rule("allowedSubjects", "the subject is not listed")
	case len(t.AllowedEmails) > 0 && who.Email == "":
		return unsent("allowedEmails", "the provider vouches for no e-mail address", "email")
	case len(t.AllowedEmails) > 0 && !slices.ContainsFunc(t.AllowedEmails, who.hasEmail):
		return rule("allowedEmails", "the e-mail address is not listed")
	case len(t.AllowedDomains) > 0 && who.domain(t) == "":
		return unsent("allowedDomains", "the provider vouches for no domain: no verified e-mail address or, with Google, no Workspace account", "email")
	case len(t.AllowedDomains) > 0 && !slices.ContainsFunc(t.AllowedDomains, func(d string) bool { return who.inDomain(t, d) }):
		return rule("allowedDomains", "the domain is not listed")
	case len(t.AllowedGroups) > 0 && !slices.ContainsFunc(t.AllowedGroups, who.inGroup):
		if who.said.Claims != nil && !who.said.Groups {
			return unsent("allowedGroups", "no groups came", t.GroupsClaim)
		}
		return unsent("allowedGroups", "none of the groups is in the claim "+t.GroupsClaim, t.GroupsClaim)
	case len(t.rules) > 0 && !coversAll(t.scopesFor(who), t.RequiredScopes):
		// A token without them would be refused at each request, and the client would ask for more
		// for ever.
		given := t.scopesFor(who)
		missing := slices.DeleteFunc(slices.Clone(t.RequiredScopes), func(scope string) bool { return slices.Contains(given, scope) })
		why := "no rule gives all of requiredScopes: this person lacks " + strings.Join(missing, " ")
		if slices.ContainsFunc(t.rules, func(r scoperule.Rule) bool { return r.Kind == "group" }) && who.said.Claims != nil {
			return unsent("scopeRules", why, t.GroupsClaim)
		}
		return rule("scopeRules", why)
	}
	if len(t.rules) == 0 { // as admitLogin says of a login without rules
		for scope := range strings.FieldsSeq(who.Unsaid) {
			if slices.Contains(t.RequiredScopes, scope) {
				return rule("requiredScopes", "no rule of scopeRules gives "+scope+" any more, and the provider did not say that it granted it")
			}
		}
	}
	return nil
}

// lacking says in words that a claim was not among the claims that the provider has just sent. A
// refresh that asks nobody knows nothing of that, and then lacking is empty.
func (who identity) lacking(claim string) string {
	switch {
	case who.said.Claims == nil:
		return ""
	case who.said.Odd[claim] != "":
		return fmt.Sprintf("; %s came as %s", claim, who.said.Odd[claim])
	case claim == "email" && who.said.Odd["email_verified"] != "":
		return "; email_verified came as " + who.said.Odd["email_verified"]
	case claim != "email" && who.said.Groups:
		return ""
	case claim == "email" && slices.Contains(who.said.Claims, claim) && !slices.Contains(who.said.Claims, "email_verified"):
		return "; it sent one, and does not say that it is verified (email_verified)"
	case slices.Contains(who.said.Claims, claim):
		return ""
	}
	const most = 30
	names := strings.Join(who.said.Claims[:min(len(who.said.Claims), most)], ", ")
	remedy := ": ask for it by the label scopes"
	if claim != "email" {
		remedy += ", or set groupsClaim"
	}
	return fmt.Sprintf("; the provider sent no claim %q (sent: %.600s)%s", claim, names, remedy)
}

// hasEmail folds ASCII letters only: Unicode folding makes a K of the Kelvin sign, and so one
// address of another.
func (who identity) hasEmail(address string) bool {
	return who.Email != "" && names.LowerASCII(who.Email) == names.LowerASCII(address)
}

// domain returns the domain that vouches for a person. With Google it is the Workspace's (hd), and
// not that of the e-mail address (provider.HasHostedDomains).
func (who identity) domain(t *tenant) string {
	if provider.HasHostedDomains(cmp.Or(who.issuer, t.ProviderIssuer)) {
		return names.LowerASCII(who.HostedDomain)
	}
	return names.LowerASCII(who.Email[strings.LastIndexByte(who.Email, '@')+1:])
}

func (who identity) inDomain(t *tenant, domain string) bool {
	return domain != "" && who.domain(t) == names.LowerASCII(domain)
}

func (who identity) inGroup(group string) bool {
	return slices.ContainsFunc(who.Groups, func(g string) bool { return provider.SameGroup(g, group) })
}

// whoMayComeIn says the rules in words, for the operator's log.
func (t *tenant) whoMayComeIn() (words string, everybody bool) {
	var must []string
	add := func(list []string, words string) {
		if len(list) > 0 {
			must = append(must, words+" "+strings.Join(list, ", "))
		}
	}
	add(t.AllowedEmails, "has one of the verified e-mail addresses")
	if provider.HasHostedDomains(t.ProviderIssuer) {
		add(t.AllowedDomains, "has an account of one of the Google Workspaces")
	} else {
		add(t.AllowedDomains, "has a verified e-mail address at one of")
	}
	add(t.AllowedGroups, "is in one of the groups")
	add(t.AllowedSubjects, "is one of the subjects")
	if len(t.rules) > 0 && len(t.RequiredScopes) > 0 && !coversAll(t.scopesFor(identity{}), t.RequiredScopes) {
		add(t.RequiredScopes, "gets from scopeRules")
	}
	if missing := slices.DeleteFunc(slices.Clone(t.RequiredScopes), func(scope string) bool { return slices.Contains(t.grantable(), scope) }); len(missing) > 0 {
		return "nobody: no rule of scopeRules gives " + strings.Join(missing, " ") + ", which requiredScopes needs", false
	}
	if len(must) > 0 {
		return "who can log in at " + t.ProviderIssuer + " and " + strings.Join(must, " and "), false
	}
	return "everybody who can log in at " + t.ProviderIssuer + t.howRequiredScopesCome(), true
}

// otherWaysIn says in words who comes in without a login at the provider.
func (t *tenant) otherWaysIn() (words string) {
	if len(t.EnterpriseIssuers) > 0 {
		words = "; under the same rules whom " + strings.Join(t.EnterpriseIssuers, ", ") + " asserts (enterpriseIssuers)"
	}
	if len(t.WorkloadIssuers) > 0 {
		words += "; workloads: " + strings.Join(t.WorkloadIssuers, "; ") + " (workloadIssuers)"
	}
	return words
}

// howRequiredScopesCome says in words why required scopes keep nobody out: an operator may take
// them for a rule about people.
func (t *tenant) howRequiredScopesCome() (words string) {
	if len(t.rules) > 0 {
		return ""
	}
	granted := t.rightsAskedFor(func(scope string) bool { return slices.Contains(t.RequiredScopes, scope) })
	if len(granted) > 0 {
		words = " and is granted " + strings.Join(granted, " ") + " there, which many providers grant to everybody"
	}
	given := slices.DeleteFunc(slices.Clone(t.RequiredScopes), func(scope string) bool { return slices.Contains(t.asRights, scope) })
	if len(given) > 0 {
		words += "; they all get " + strings.Join(given, " ") + ": to say who gets it, set scopeRules"
	}
	return words
}

// needs reads the labels that are rules, and what the MCP server is told. It runs once for each
// tenant configuration.
func (t *tenant) needs(told []string) provider.Needs {
	n := provider.Needs{
		Email: len(t.AllowedEmails) > 0 || len(t.AllowedDomains) > 0 || slices.Contains(told, "email"),
		Name:  slices.Contains(told, "name"),
	}
	n.Groups, n.AllGroups = slices.Clone(t.AllowedGroups), slices.Contains(told, "groups")
	for _, rule := range t.rules {
		switch rule.Kind {
		case "email", "domain":
			n.Email = true
		case "group":
			n.Groups = append(n.Groups, rule.Name)
		}
	}
	if len(n.Groups) > 0 || n.AllGroups {
		n.GroupsClaim = t.GroupsClaim
	}
	slices.Sort(n.Groups)
	n.Groups = slices.Compact(n.Groups)
	return n
}

// Which clients may ask at all is decided here, wherever a client is known: when it registers, when
// it asks for consent, and at each of its token requests.

// errClientNotAllowed is in the chain of each refusal of a client by a label.
var errClientNotAllowed = errors.New("client not allowed")

// The values of the label registration.
const (
	registrationOpen      = "open"
	registrationDocuments = "documents"
	registrationCreated   = "created"
)

// takesRegistrations refuses every registration where the label says so (RFC 7591 §3).
func (t *tenant) takesRegistrations() error {
	if t.Registration == registrationOpen {
		return nil
	}
	how := "its operator makes the clients; ask whoever runs it for a client_id"
	if t.Registration == registrationDocuments {
		how = "use the URL of a client metadata document as client_id, or ask whoever runs it for a client_id"
	}
	return (&Error{Status: http.StatusForbidden, Code: "access_denied", Description: "this server takes no registrations: " + how}).
		because(fmt.Errorf("%w: the label registration is %q", errClientNotAllowed, t.Registration))
}

// admitsClient refuses a client that the labels registration and allowedClients do not let in. A
// machine has been let in by the operator who made it.
func (t *tenant) admitsClient(c client) error {
	refused := func(label, why string) error {
		return badRequest("unauthorized_client", "This application is not one of those that may be used with this server. Ask whoever runs the server.").
			because(fmt.Errorf("%w by the label %s: %s", errClientNotAllowed, label, why))
	}
	switch {
	case c.machine() || t.Registration == registrationOpen && len(t.AllowedClients) == 0:
		return nil
	case t.Registration == registrationCreated && !c.Created:
		return refused("registration", "the client was not made by `mcpbouncer client create`, or by a version before that was noted: make it again")
	case t.Registration == registrationDocuments && !c.Created && !c.byDocument():
		return refused("registration", "the client registered itself")
	case len(t.AllowedClients) > 0 && !slices.ContainsFunc(t.AllowedClients, c.fitsEntry):
		return refused("allowedClients", "no entry fits "+c.entries())
	}
	return nil
}

// admitsDocument is admitsClient before the document at a client_id is read: nobody makes this
// server fetch one that could not let its client in. Only an entry redirect:HOST needs the
// document.
func (t *tenant) admitsDocument(id string) error {
	byContent := func(entry string) bool { return strings.HasPrefix(entry, "redirect:") }
	if !isDocumentURL(id) || t.Registration != registrationCreated && slices.ContainsFunc(t.AllowedClients, byContent) {
		return nil
	}
	return t.admitsClient(client{id: id})
}

// fitsEntry says whether an entry of allowedClients means this client: the URL of its document, the
// host of that, the host of all its redirect URIs, or its fingerprint.
func (c client) fitsEntry(entry string) bool {
	kind, value, _ := strings.Cut(entry, ":")
	switch kind {
	case "https":
		return c.id == entry
	case "document":
		return c.byDocument() && weburl.HostOf(c.id) == names.LowerASCII(value)
	case "redirect":
		return len(c.RedirectURIs) > 0 && !slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return redirectHost(uri) != names.LowerASCII(value) })
	case "client":
		return sealing.Fingerprint(c.id) == value
	}
	return false
}

// redirectHost is the host of a redirect URI that a browser loads, without its port; an IPv6
// address is in brackets. It is empty for one with a scheme of its own, which no host speaks for.
func redirectHost(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || !weburl.IsWeb(uri) {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// entries are those that would let the client in, for the operator's log.
func (c client) entries() string {
	all := []string{"client:" + sealing.Fingerprint(c.id)}
	if c.byDocument() {
		all = append(all, c.id, "document:"+weburl.HostOf(c.id))
	}
	if len(c.RedirectURIs) > 0 {
		if host := redirectHost(c.RedirectURIs[0]); host != "" && c.fitsEntry("redirect:"+host) {
			all = append(all, "redirect:"+host)
		}
	}
	return strings.Join(all, ", ")
}

// allowedClientFault says what is wrong with an entry of allowedClients, as the plugin does.
func allowedClientFault(entry string) bool {
	kind, value, _ := strings.Cut(entry, ":")
	switch kind {
	case "https":
		u, err := url.Parse(entry)
		return err != nil || u.Host == "" || u.User != nil || u.Path == "" || strings.ContainsAny(entry, "#;{}")
	case "document", "redirect":
		address := strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]")
		return strings.Trim(value, alphanumeric+"._-:[]") != "" || value == "" || strings.HasSuffix(value, ".") || kind == "redirect" && strings.Contains(value, ":") && !address
	case "client":
		return len(value) != 16 || strings.Trim(value, alphanumeric+"-_") != ""
	}
	return true
}

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
