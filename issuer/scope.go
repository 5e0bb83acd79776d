package issuer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// A scopeRule gives scopes to the people it fits.
type scopeRule struct {
	kind, name string // kind is *, group, domain, email or sub
	scopes     []string
}

// parseScopeRules reads the rules as the plugin passes them on. What it refuses is refused by the
// plugin too, by name (plugin/testdata/scoperules).
func parseScopeRules(texts []string) (rules []scopeRule, err error) {
	seen := map[string]bool{}
	for _, text := range texts {
		// no scope of a rule holds =, names of groups do: cn=admins,ou=wiki
		at := max(strings.LastIndex(text, "="), 0)
		who, scopes := strings.TrimSpace(text[:at]), strings.TrimPrefix(text[at:], "=")
		kind, name, named := strings.Cut(who, ":") // names of groups hold colons too
		rule := scopeRule{kind, strings.TrimSpace(name), strings.Fields(scopes)}
		anybody := kind == "*" && !named
		strange := func(scope string) bool { return !isRuleScope(scope) }
		if len(rule.scopes) == 0 || slices.ContainsFunc(rule.scopes, strange) || !anybody && !isWho(kind, rule.name) {
			return nil, fmt.Errorf("scopeRules: %q is not a rule", text)
		}
		if seen[who] {
			return nil, fmt.Errorf("scopeRules: two rules for %q", who)
		}
		seen[who] = true
		rules = append(rules, rule)
	}
	return rules, nil
}

func (r scopeRule) fits(t *tenant, who identity) bool {
	switch r.kind {
	case "group":
		return who.inGroup(r.name)
	case "domain":
		return who.inDomain(t, r.name)
	case "email":
		return who.hasEmail(r.name)
	case "sub":
		return who.Subject == r.name
	}
	return true
}

// openID asks for an id_token (OpenID Connect Core §3.1.2.1), and there is none here. So it is no
// scope of a token because it is asked upstream: a client that sees it granted waits for one.
const openID = "openid"

// scopes are what a token of this tenant can carry at most, in the order of the labels: what the
// rules give or, without rules, what is required and what is asked upstream. offline_access and
// openid are asked upstream but are no rights at an MCP server.
func (t *tenant) scopes() []string {
	if t.allScopes != nil { // of a tenant that was parsed; nobody changes it
		return t.allScopes
	}
	asked := slices.DeleteFunc(slices.Clone(t.Scopes), func(scope string) bool { return scope == openID })
	all := append(slices.Clone(t.RequiredScopes), asked...)
	if len(t.rules) > 0 {
		all = nil
		for _, rule := range t.rules {
			all = append(all, rule.scopes...)
		}
	}
	return distinct(all)
}

// given are the scopes that the rules give to a person.
func (t *tenant) given(who identity) []string {
	if len(t.rules) == 0 {
		return t.scopes()
	}
	var all []string
	for _, rule := range t.rules {
		if rule.fits(t, who) {
			all = append(all, rule.scopes...)
		}
	}
	return distinct(all)
}

func distinct(scopes []string) (once []string) {
	for _, scope := range scopes {
		if scope != "offline_access" && !slices.Contains(once, scope) {
			once = append(once, scope)
		}
	}
	return once
}

// advertised are the scopes of the server's metadata.
func (t *tenant) advertised() []string {
	if len(t.ScopesSupported) > 0 {
		return t.supported()
	}
	return t.scopes()
}

// supported are those of the label scopesSupported.
func (t *tenant) supported() []string {
	vain := func(scope string) bool { return scope == openID && !slices.Contains(t.scopes(), scope) }
	return slices.DeleteFunc(distinct(t.ScopesSupported), vain)
}

// advertisedAtTheResource are those of RFC 9728. Clients ask for all that stands there: what opens
// the door, and no more by itself.
func (t *tenant) advertisedAtTheResource() []string {
	if len(t.ScopesSupported) > 0 {
		return t.supported()
	}
	return t.RequiredScopes
}

// grantableScope is what was asked of what this tenant can give, or all of it when nothing was
// asked (RFC 6749 §3.3). Who asks is not known yet: the person allows this much, and what the rules
// give of it is decided when a token is made (scopeOf).
func (t *tenant) grantableScope(asked string) string {
	return t.chosenScope(t.scopes(), asked)
}

// chosenScope is the one reading of the parameter scope, at every endpoint that has it: it narrows
// what can be had (at authorize what the tenant gives, later what was granted) and never adds to it
// (RFC 6749 §3.3 and §6). Names that are not to be had are dropped: clients send each other's. A
// parameter that asks for no right in particular gets all, as one that is not there; if it holds
// nothing but names that nobody knows, it gets what opens the door. One rule, so that a refresh
// which repeats the login's own scope gives what the login gave.
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

// isRight says whether whoever asks for a scope asks for a right in particular. Clients ask for
// offline_access by themselves, and some for identity scopes, which open nothing where other scopes
// are required or rules give the scopes; a name that nobody knows opens nothing where any is
// required.
func (t *tenant) isRight(have []string, scope string) bool {
	identity := slices.Contains(identityScopes, scope)
	switch known := slices.Contains(have, scope) || slices.Contains(t.scopes(), scope); {
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
// what the rules do not give them now. Rules that give more later widen nothing beyond what was
// allowed (RFC 6749 §6), and when all rules go, nothing comes back that a new login would not get.
func (t *tenant) scopeOf(g grant) []string {
	has := strings.Fields(g.Scope)
	if g.Identity.machine {
		return has
	}
	if len(t.rules) == 0 && g.Identity.Unsaid != "" {
		has = strings.Fields(withoutScopes(g.Scope, strings.Fields(g.Identity.Unsaid)))
	}
	gives := t.given(g.Identity)
	return slices.DeleteFunc(has, func(scope string) bool { return !slices.Contains(gives, scope) })
}

// givesScope says whether an access token of the grant would have any scope, where some are
// required: one without would be refused at every request. The client is told now (RFC 6749 §5.2),
// before anything has moved.
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
// here. A token for the rest would be refused at every request, for as long as the login lives; a
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
	return nil
}

// identityScopes are OpenID Connect's own (Core §5.4). Providers answer them in spellings of their
// own, and no right at an MCP server hangs on them.
var identityScopes = []string{"openid", "email", "profile", "address", "phone", "offline_access"}

// withheldScopes are the scopes of the label that the provider did not grant: it must say so when
// it granted other ones than were asked (RFC 6749 §5.1). nil means that it did not say.
func (t *tenant) withheldScopes(granted *string) (withheld []string) {
	if granted == nil {
		return nil
	}
	return t.rightsAskedFor(func(scope string) bool { return !slices.Contains(strings.Fields(*granted), scope) })
}

// notGranted are withheldScopes of a login. A provider that says nothing means that it granted all
// (RFC 6749 §5.1), or passes over scopes that it has never heard of and says nothing of it, as some
// do: then everybody would have them. So silence grants what the provider is known to know. Rules
// need no word of it, for they say themselves who gets what
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

// rightsAskedFor are the scopes of the label that are such, and no identity scopes.
func (t *tenant) rightsAskedFor(such func(scope string) bool) (rights []string) {
	for _, scope := range t.Scopes {
		if !slices.Contains(identityScopes, scope) && such(scope) {
			rights = append(rights, scope)
		}
	}
	return rights
}

// withoutScopes is scope less what the provider withheld.
func withoutScopes(scope string, withheld []string) string {
	if len(withheld) == 0 {
		return scope
	}
	return strings.Join(slices.DeleteFunc(strings.Fields(scope), func(s string) bool { return slices.Contains(withheld, s) }), " ")
}

func coversAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(scope string) bool { return !slices.Contains(have, scope) })
}
