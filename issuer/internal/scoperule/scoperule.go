// Package scoperule reads the label scopeRules: who gets which scopes.
//
// It promises that it takes the rules that the plugin takes, and no others: the tests of both read
// plugin/testdata/scoperules. It does not know whom a rule fits, and it does not explain a refusal:
// the plugin has told the operator by then.
package scoperule

import (
	"fmt"
	"slices"
	"strings"
)

// A Rule gives scopes to the people whom it fits. Kind is group, domain, email or sub, with a Name;
// or *, without one, for everybody.
type Rule struct {
	Kind, Name string
	Scopes     []string
}

// Parse reads the rules as the plugin passes them on, one a text.
func Parse(texts []string) (rules []Rule, err error) {
	seen := map[string]bool{}
	for _, text := range texts {
		// No scope of a rule holds =, names of groups do: cn=admins,ou=wiki.
		at := max(strings.LastIndex(text, "="), 0)
		who, scopes := strings.TrimSpace(text[:at]), strings.TrimPrefix(text[at:], "=")
		kind, name, named := strings.Cut(who, ":") // names of groups hold colons too
		rule := Rule{kind, strings.TrimSpace(name), strings.Fields(scopes)}
		anybody := kind == "*" && !named
		strange := func(scope string) bool { return !isRuleScope(scope) }
		if len(rule.Scopes) == 0 || slices.ContainsFunc(rule.Scopes, strange) || !anybody && !isWho(kind, rule.Name) {
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
