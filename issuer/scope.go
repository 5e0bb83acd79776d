package issuer

import (
	"fmt"
	"slices"
	"strings"
)

// A scopeRule gives scopes to the people it fits.
type scopeRule struct {
	kind, name string // kind is *, group, domain, email or sub
	scopes     []string
}

func parseScopeRules(texts []string) (rules []scopeRule, err error) {
	for _, text := range texts {
		at := max(strings.LastIndex(text, "="), 0) // names of groups hold = too: cn=admins,ou=wiki
		who, scopes := text[:at], strings.TrimPrefix(text[at:], "=")
		kind, name, named := strings.Cut(strings.TrimSpace(who), ":") // names of groups hold colons too
		rule := scopeRule{kind, strings.TrimSpace(name), strings.Fields(scopes)}
		anybody := kind == "*" && !named
		if len(rule.scopes) == 0 || !anybody && (rule.name == "" || !slices.Contains([]string{"group", "domain", "email", "sub"}, kind)) {
			return nil, fmt.Errorf("scopeRules: %q is no rule", text)
		}
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

// scopes are what a token of this tenant can carry at most, in the order of the labels: what the rules give or, without rules, what is required
// and what is asked upstream. offline_access is asked upstream but is no right at an MCP server.
func (t *tenant) scopes() []string {
	all := append(slices.Clone(t.RequiredScopes), t.Scopes...)
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
		return distinct(t.ScopesSupported)
	}
	return t.scopes()
}

// advertisedAtTheResource are those of RFC 9728. Clients ask for all that stands there: what opens the door, and no more by itself.
func (t *tenant) advertisedAtTheResource() []string {
	if len(t.ScopesSupported) > 0 {
		return distinct(t.ScopesSupported)
	}
	return t.RequiredScopes
}

// grantableScope is what was asked of what this tenant can give, or all of it when nothing was asked (RFC 6749 §3.3). Who asks is not
// known yet: the person allows this much, and what the rules give of it is decided when a token is made (scopeOf). Unknown scopes are dropped:
// clients send each other's. A client that asks for offline_access alone, or where rules give the scopes for identity scopes alone, has
// asked for no right in particular.
func (t *tenant) grantableScope(asked string) string {
	known := t.scopes()
	wanted := slices.DeleteFunc(strings.Fields(asked), func(scope string) bool {
		return scope == "offline_access" || len(t.rules) > 0 && slices.Contains(identityScopes, scope) && !slices.Contains(known, scope)
	})
	if len(wanted) == 0 {
		return strings.Join(known, " ")
	}
	return strings.Join(slices.DeleteFunc(known, func(scope string) bool { return !slices.Contains(wanted, scope) }), " ")
}

// scopeOf is the scope of an access token: what the person allowed when consent was asked, less what the rules do not give them now. Rules that give
// more later widen nothing beyond what was allowed (RFC 6749 §6), and what rules withheld does not come back when all rules go.
func (t *tenant) scopeOf(g grant) string {
	if g.Identity.machine {
		return g.Scope
	}
	gives := t.given(g.Identity)
	return strings.Join(slices.DeleteFunc(strings.Fields(g.Scope), func(scope string) bool { return !slices.Contains(gives, scope) }), " ")
}

// narrowScope is RFC 6749 §6: a refresh may ask for less than was granted, and gets no more.
func narrowScope(granted, asked string) string {
	if strings.TrimSpace(asked) == "" {
		return granted
	}
	wanted, has := strings.Fields(asked), strings.Fields(granted)
	return strings.Join(slices.DeleteFunc(has, func(scope string) bool { return !slices.Contains(wanted, scope) }), " ")
}

// withoutScopes is scope less what the provider withheld.
func withoutScopes(scope string, withheld []string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(scope), func(s string) bool { return slices.Contains(withheld, s) }), " ")
}

func coversAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(scope string) bool { return !slices.Contains(have, scope) })
}
