package issuer

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/scoperule"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// fits says whether a rule gives its scopes to a person.
func (t *tenant) fits(rule scoperule.Rule, who identity) bool {
	switch rule.Kind {
	case "group":
		return who.inGroup(rule.Name)
	case "domain":
		return who.inDomain(t, rule.Name)
	case "email":
		return who.hasEmail(rule.Name)
	case "sub":
		return who.Subject == rule.Name
	}
	return true
}

// openID asks for an id_token (OpenID Connect Core §3.1.2.1), and this server issues none. A client
// that sees openid granted waits for an id_token. So a token does not have it only because the
// provider is asked for it.
const openID = "openid"

// grantable are the scopes that a token of this tenant can carry at most, in the order of the
// labels: what the rules give or, without rules, what is required and what the provider is asked
// for. The provider is asked for offline_access and openid too, but they are not rights at an MCP
// server.
func (t *tenant) grantable() []string {
	if t.allScopes != nil { // of a tenant that was parsed; nobody changes it
		return t.allScopes
	}
	asked := slices.DeleteFunc(slices.Clone(t.asRights), func(scope string) bool { return scope == openID })
	all := append(slices.Clone(t.RequiredScopes), asked...)
	if len(t.rules) > 0 {
		all = nil
		for _, rule := range t.rules {
			all = append(all, rule.Scopes...)
		}
	}
	return distinct(all)
}

// scopesFor are the scopes that the rules give to a person.
func (t *tenant) scopesFor(who identity) []string {
	if len(t.rules) == 0 {
		return t.grantable()
	}
	var all []string
	for _, rule := range t.rules {
		if t.fits(rule, who) {
			all = append(all, rule.Scopes...)
		}
	}
	return distinct(all)
}

// distinct never returns nil: a tenant that has no scopes remembers that, too.
func distinct(scopes []string) []string {
	once := []string{}
	for _, scope := range scopes {
		if scope != "offline_access" && !slices.Contains(once, scope) {
			once = append(once, scope)
		}
	}
	return once
}

// advertised are the scopes in the server's metadata.
func (t *tenant) advertised() []string {
	if len(t.ScopesSupported) > 0 {
		return t.supported()
	}
	return t.grantable()
}

// supported are the scopes of the label scopesSupported.
func (t *tenant) supported() []string {
	vain := func(scope string) bool { return scope == openID && !slices.Contains(t.grantable(), scope) }
	return slices.DeleteFunc(distinct(t.ScopesSupported), vain)
}

// advertisedAtTheResource are the scopes in the document of RFC 9728. Clients ask for all of them.
// So the document lists the required scopes, and no more unless a label says so.
func (t *tenant) advertisedAtTheResource() []string {
	if len(t.ScopesSupported) > 0 {
		return t.supported()
	}
	return t.RequiredScopes
}

// grantableScope intersects the requested scopes with those that this tenant can grant; without a
// request it returns all of them (RFC 6749 §3.3). Nobody knows yet who the person is. They allow
// this much, and scopeOf decides what the rules give of it when a token is made.
//
// A scope for which authenticationRules need another sign-in than every request does is granted to
// a client that names it, as step-up does. Otherwise each login of a client that names nothing
// would be a step-up, and would fail for whoever cannot do it.
func (t *tenant) grantableScope(asked string) string {
	have := t.grantable()
	if t.stepup != nil {
		named := append(strings.Fields(asked), t.RequiredScopes...)
		have = slices.DeleteFunc(slices.Clone(have), func(scope string) bool { return t.stepup.Names(scope) && !slices.Contains(named, scope) })
	}
	return t.chosenScope(have, asked)
}

// chosenScope reads the parameter scope, at each endpoint that has it. It narrows what can be had
// (at authorize what the tenant gives, later what was granted) and never adds to it (RFC 6749 §3.3
// and §6). It drops names that cannot be had: clients send each other's. A parameter that asks for
// no right in particular gets all, as if it were missing. If it holds nothing but names that nobody
// knows, it gets what opens the door. All endpoints have this one rule, so that a refresh which
// repeats the login's own scope gives what the login gave.
func (t *tenant) chosenScope(have []string, asked string) string {
	chosen := strings.Fields(asked)
	if len(chosen) == 0 {
		return strings.Join(have, " ")
	}
	foreign := func(scope string) bool { return !slices.Contains(identityScopes, scope) }
	switch {
	case slices.ContainsFunc(chosen, func(scope string) bool { return t.isRight(have, scope) }):
	case slices.ContainsFunc(chosen, foreign):
		chosen = t.RequiredScopes
	default:
		chosen = have
	}
	return strings.Join(slices.DeleteFunc(slices.Clone(have), func(scope string) bool { return !slices.Contains(chosen, scope) }), " ")
}

// isRight says whether a scope that was asked for is a right in particular. Clients ask for
// offline_access by themselves, and some for identity scopes: these open nothing where other scopes
// are required or rules give the scopes. A name that nobody knows opens nothing where any scope is
// required.
func (t *tenant) isRight(have []string, scope string) bool {
	identity := slices.Contains(identityScopes, scope)
	switch known := slices.Contains(have, scope) || slices.Contains(t.grantable(), scope); {
	case scope == "offline_access" || scope == openID && !known:
		return false
	case len(t.RequiredScopes) > 0:
		return known && (!identity || slices.Contains(t.RequiredScopes, scope))
	case len(t.rules) > 0:
		return known || !identity
	}
	return true
}

// scopeOf is the scope of an access token: what the person allowed when consent was asked, less
// what the rules do not give them now. Rules that give more later do not widen what was allowed
// (RFC 6749 §6). When all rules go, nothing comes back that a new login would not get.
func (t *tenant) scopeOf(g grant) []string {
	has := strings.Fields(g.Scope)
	if g.Identity.machine {
		return has
	}
	if len(t.rules) == 0 && g.Identity.Unsaid != "" {
		has = strings.Fields(withoutScopes(g.Scope, strings.Fields(g.Identity.Unsaid)))
	}
	gives := t.scopesFor(g.Identity)
	has = slices.DeleteFunc(has, func(scope string) bool { return !slices.Contains(gives, scope) })
	if t.stepup == nil {
		return has
	}
	return slices.DeleteFunc(has, func(scope string) bool { return t.signInLacks(g.Identity, scope) != "" })
}

// signInLacks says what a person's sign-in at the provider lacks for these scopes (label
// authenticationRules); empty: nothing. A machine has not signed in, and is not meant. A sign-in
// grows old: what it is good for now, it may not be at the next refresh.
func (t *tenant) signInLacks(who identity, scopes ...string) string {
	if t.stepup == nil || who.machine {
		return ""
	}
	return t.stepup.Of(scopes).Lacks(who.ACR, who.AuthTime, t.now().Unix())
}

// givesScope says whether an access token of the grant would have any scope, where some are
// required: a token without any would be refused at each request. The client is told now (RFC 6749
// §5.2), before anything has moved.
func (t *tenant) givesScope(g grant, asked string) error {
	has := t.scopeOf(g)
	if len(has) > 0 && asked == "" || len(t.RequiredScopes) == 0 {
		return nil
	}
	if t.chosenScope(has, asked) != "" {
		return nil
	}
	why := "this login gives no scope; this server needs " + strings.Join(t.RequiredScopes, " ")
	if len(has) > 0 {
		why = "nothing of what scope names was granted; granted is " + strings.Join(has, " ")
	}
	return badRequest("invalid_scope", why)
}

// takenBack says whether the provider has just taken back a scope without which nothing can be done
// here. A token for the rest would be refused at each request, for as long as the login lives. A
// new login says why.
func (t *tenant) takenBack(before, now grant) error {
	var lost []string
	if before.Scope != now.Scope {
		had, has := strings.Fields(before.Scope), strings.Fields(now.Scope)
		lost = slices.DeleteFunc(slices.Clone(t.RequiredScopes), func(scope string) bool { return !slices.Contains(had, scope) || slices.Contains(has, scope) })
	}
	if len(lost) > 0 {
		return invalidGrant("the sign-in provider took back a scope that this server needs; authorize again").
			because(fmt.Errorf("%w: the provider took back %s, which requiredScopes needs: let its client there have that scope again", errWithheld, strings.Join(lost, " ")))
	}
	if err := t.givesScope(now, ""); err != nil {
		return t.scopeLost(now, err)
	}
	if lacking := t.provider.UpstreamToken.Lacks(now.Identity.said.UpstreamScope); len(lacking) > 0 {
		return lacksUpstream("invalid_grant", lacking)
	}
	return nil
}

// mayBeLeftOut says whether the person may take a scope out of what a client asked for. Without a
// required one the token would be refused at each request. What every token says of the person, or
// the labels have the MCP server told, cannot be kept back by a scope: a tick would promise that.
func (t *tenant) mayBeLeftOut(scope string) bool {
	switch {
	case scope == openID, scope == "email" && slices.Contains(t.IdentityClaims, "email"), scope == "profile" && slices.Contains(t.IdentityClaims, "name"):
		return false
	}
	return !slices.Contains(t.RequiredScopes, scope)
}

// leftTicked are the scopes of a request that the person did not leave out. The form takes away and
// adds nothing: a scope that the request does not have stays out, whatever the form says.
func (t *tenant) leftTicked(asked string, ticked []string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(asked), func(scope string) bool {
		return t.mayBeLeftOut(scope) && !slices.Contains(ticked, scope)
	}), " ")
}

// identityScopes are the scopes of OpenID Connect itself (Core §5.4). Providers answer them in
// their own spellings, and no right at an MCP server depends on them.
var identityScopes = []string{"openid", "email", "profile", "address", "phone", "offline_access"}

// withheldScopes are the scopes of the label that the provider did not grant: it must say so when
// it granted other ones than were asked (RFC 6749 §5.1). nil means that it did not say.
func (t *tenant) withheldScopes(granted *string) (withheld []string) {
	if granted == nil {
		return nil
	}
	return t.rightsAskedFor(func(scope string) bool { return !slices.Contains(strings.Fields(*granted), scope) })
}

// notGranted are the withheldScopes of a login. A provider that does not say what it granted may
// mean that it granted all (RFC 6749 §5.1). Or it has passed over scopes that it has never heard
// of, as some do: then everybody would have them. So its silence grants only the scopes that it
// lists. Where rules are set, they say who gets what, and the provider's silence does not matter
// (docs/decisions/0028-silence-about-scopes.md).
func (s *Issuer) notGranted(t *tenant, up *provider.Provider, granted *string) []string {
	if granted != nil || len(t.rules) > 0 || up.RefusesForeignScopes() {
		return t.withheldScopes(granted)
	}
	unknown := t.unknownTo(up)
	if len(unknown) > 0 && s.announced.First("silent", t.PublicURL, up.Issuer(), strings.Join(unknown, " ")) {
		log := s.Log.Info // some only ask for claims, such as groups
		if slices.ContainsFunc(unknown, func(scope string) bool { return slices.Contains(t.RequiredScopes, scope) }) {
			log = s.Log.Warn
		}
		log("the provider does not say which scopes it granted, and these are not among those that it lists: nobody gets them", t.named(),
			"provider", up.Issuer(), "scopes", strings.Join(unknown, " "), "remedy", scopeRuleRemedy(unknown))
	}
	return unknown
}

// unsaid are the scopes of a login that would be withheld by notGranted if there were no rules.
func (t *tenant) unsaid(up *provider.Provider, granted *string) string {
	if granted != nil || len(t.rules) == 0 || up.RefusesForeignScopes() {
		return ""
	}
	return strings.Join(t.unknownTo(up), " ")
}

func (t *tenant) unknownTo(up *provider.Provider) []string {
	return t.rightsAskedFor(func(scope string) bool { return !up.Lists(scope) })
}

func scopeRuleRemedy(scopes []string) string {
	return fmt.Sprintf("say by the label scopeRules who gets them (for everybody: scopeRules=%q), if they are rights at the MCP server", "*="+strings.Join(scopes, " "))
}

// rightsAskedFor are the scopes of the label for which such is true, without identity scopes.
func (t *tenant) rightsAskedFor(such func(scope string) bool) (rights []string) {
	for _, scope := range t.asRights {
		if !slices.Contains(identityScopes, scope) && such(scope) {
			rights = append(rights, scope)
		}
	}
	return rights
}

// withoutScopes returns scope without those that the provider withheld.
func withoutScopes(scope string, withheld []string) string {
	if len(withheld) == 0 {
		return scope
	}
	return strings.Join(slices.DeleteFunc(strings.Fields(scope), func(s string) bool { return slices.Contains(withheld, s) }), " ")
}

func coversAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(scope string) bool { return !slices.Contains(have, scope) })
}

// maxResource is the longest resource parameter that is looked at, in characters.
const maxResource = 512

// matchResource maps the resource parameters of a request (RFC 8707 §2) to the resource identifier
// of a token: the public URL, or an MCP endpoint of the label mcpPaths. Nothing else is a resource,
// so a stranger's text reaches neither the consent page nor a token. Without the parameter it is
// the public URL.
//
// A token is for one resource. A resource that is named twice, in whatever spelling, counts once,
// and two different ones are refused. The host, or a path above the public URL, means the public
// URL: the token is for less than was asked, never for more.
func (t *tenant) matchResource(values []string) (string, bool) {
	found := ""
	for _, value := range values {
		resource, ok := t.resourceOf(value)
		if !ok || found != "" && resource != found {
			return "", false
		}
		found = resource
	}
	if found == "" {
		return t.PublicURL, true
	}
	return found, true
}

func (t *tenant) resourceOf(value string) (string, bool) {
	resource, ok := normalResource(value)
	if !ok {
		return "", false
	}
	if path, below := strings.CutPrefix(resource, t.PublicURL); below {
		return resource, path == "" || slices.Contains(t.MCPPaths, path)
	}
	return t.PublicURL, resource == t.origin || strings.HasPrefix(resource, t.origin+"/") && strings.HasPrefix(t.PublicURL, resource+"/")
}

// normalResource returns a URL in the spelling that is compared: scheme and host in small letters,
// without the scheme's own port, without a slash at the end, and without a query. People type
// queries, and no resource here has one.
func normalResource(value string) (string, bool) {
	u, err := url.Parse(value)
	if err != nil || len(value) > maxResource || u.Opaque != "" || u.User != nil || strings.Contains(value, "#") {
		return "", false
	}
	path := u.EscapedPath()
	// A server could read encoded bytes and dot segments as another path: they are refused.
	if strings.ContainsAny(path, "%\\;") || strings.Contains(path, "//") || slices.ContainsFunc(strings.Split(path, "/"), isDotSegment) {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return scheme + "://" + host + strings.TrimSuffix(path, "/"), true
}

func isDotSegment(segment string) bool { return segment == "." || segment == ".." }

// narrowResource applies RFC 8707 §2.2: a token request may name a resource within the granted one,
// and its access token is for that one alone. Only a grant for the whole tenant has resources
// within it.
func (t *tenant) narrowResource(form url.Values, granted string) (string, error) {
	asked := present(form["resource"])
	if len(asked) == 0 {
		return granted, nil
	}
	resource, ok := t.matchResource(asked)
	if !ok || resource != granted && granted != t.PublicURL {
		return "", badRequest("invalid_target", "resource is not within the one that was granted")
	}
	return resource, nil
}

// present leaves out parameters without a value, which count as not sent (RFC 6749 §3.1 and §3.2).
func present(values []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
}
