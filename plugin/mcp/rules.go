//go:build go1.21

package mcp

import (
	"sort"
	"strings"
)

// Rule is one rule: what a name needs. A name that ends in "*" stands for all names that begin with
// the rest of it.
type Rule struct {
	Name   string
	Scopes []string
}

// Lists are the rules for methods, and for what methods act on. docs/tools.md is their manual.
type Lists struct {
	Methods   []Rule
	Tools     []Rule
	Resources []Rule // by URI
	Prompts   []Rule
	// Calls asks for Verdict.Calls. A message whose calls cannot all be named is then refused.
	Calls bool
}

// Rules say which scopes an operation needs. They are not changed once they are made, so that any
// number of requests may use them at a time.
type Rules struct {
	methods   *ruleTable
	tables    []*ruleTable          // by label: of nothing, tools, resources, prompts
	resources *ruleTable            // the one of resources
	subjects  map[string]*ruleTable // by method: the table that guards its subject
	scopes    string                // all that the rules name, each between blanks
	guards    bool                  // there is a rule
	calls     bool                  // Lists.Calls
}

// NamesCalls says whether Verdict.Calls is asked for.
func (r *Rules) NamesCalls() bool { return r.calls }

// ruleTable maps names to scopes. A nil table asks for nothing.
type ruleTable struct {
	exact    map[string][]string
	prefixes []prefixRule // the longest first
	// The same rules with names as fold writes them. Nil: the names differ in nothing from that.
	folded *ruleTable
}

// prefixRule is for all names that begin so: the rule's name without its "*".
type prefixRule struct {
	prefix string
	scopes []string
}

// NewRules makes rules of their lists. The caller checks what a name may be: a name that no plain
// message can hold guards nothing (IsPlainName, IsPlainURI).
func NewRules(lists *Lists) *Rules {
	methods := newTable(lists.Methods)
	tools := newTable(lists.Tools)
	resources := newTable(lists.Resources)
	prompts := newTable(lists.Prompts)
	r := &Rules{methods: methods, resources: resources, subjects: map[string]*ruleTable{}, calls: lists.Calls}
	r.tables = []*ruleTable{labelNone: nil, labelTools: tools, labelResources: resources, labelPrompts: prompts}
	for name, m := range knownMethods {
		if r.tables[m.label] != nil {
			r.subjects[name] = r.tables[m.label]
		}
	}
	named := append(append(scopesOf(methods), scopesOf(tools)...), append(scopesOf(resources), scopesOf(prompts)...)...)
	r.guards = len(named) > 0
	r.scopes = " " + strings.Join(named, " ") + " "
	return r
}

// newTable makes the table of a list; nil when the list is empty.
func newTable(list []Rule) *ruleTable {
	if len(list) == 0 {
		return nil
	}
	table := &ruleTable{exact: map[string][]string{}}
	for _, rule := range list {
		name := strings.TrimSuffix(rule.Name, "*")
		if name != rule.Name {
			table.prefixes = append(table.prefixes, prefixRule{prefix: name, scopes: rule.Scopes})
		} else {
			table.exact[name] = rule.Scopes
		}
	}
	sortPrefixes(table.prefixes)
	table.folded = foldTable(table)
	return table
}

// foldTable returns the rules for names whose letter case was folded; nil when they are the rules
// of table. Where two names become one, the scopes of both count.
func foldTable(table *ruleTable) *ruleTable {
	folded := &ruleTable{exact: map[string][]string{}}
	same := true
	for name, scopes := range table.exact {
		plain := fold(name)
		same = same && plain == name
		folded.exact[plain] = append(append([]string{}, folded.exact[plain]...), scopes...)
	}
	for _, rule := range table.prefixes {
		plain := fold(rule.prefix)
		same = same && plain == rule.prefix
		scopes := append([]string{}, rule.scopes...)
		for _, other := range table.prefixes {
			if other.prefix != rule.prefix && fold(other.prefix) == plain {
				scopes = append(scopes, other.scopes...)
			}
		}
		folded.prefixes = append(folded.prefixes, prefixRule{prefix: plain, scopes: scopes})
	}
	if same {
		return nil
	}
	sortPrefixes(folded.prefixes)
	return folded
}

// sortPrefixes puts the longest first.
func sortPrefixes(prefixes []prefixRule) {
	sort.Slice(prefixes, func(i, j int) bool { return len(prefixes[i].prefix) > len(prefixes[j].prefix) })
}

// foldedChars are the characters of US-ASCII that fold leaves as they are.
const foldedChars = "abcdefghijklmnopqrstuvwxyz0123456789 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// neededFor returns the scopes of the most specific rule that fits a name: the name itself, or else
// the longest beginning. Some servers ignore letter case. So a name that is not itself a rule's
// name needs also the scopes of the rule that it would fit without regard to letter case.
func neededFor(table *ruleTable, name string) []string {
	if table == nil {
		return nil
	}
	scopes, ok := table.exact[name]
	if ok {
		return scopes
	}
	if table.folded != nil || strings.Trim(name, foldedChars) != "" {
		return neededFolded(table, name)
	}
	for _, rule := range table.prefixes {
		if strings.HasPrefix(name, rule.prefix) {
			return rule.scopes
		}
	}
	return nil
}

// neededExactly is neededFor where letter case counts.
func neededExactly(table *ruleTable, name string) []string {
	if table == nil {
		return nil
	}
	scopes, ok := table.exact[name]
	if ok {
		return scopes
	}
	for _, rule := range table.prefixes {
		if strings.HasPrefix(name, rule.prefix) {
			return rule.scopes
		}
	}
	return nil
}

// neededFolded is neededFor for names in which letter case can make a difference.
func neededFolded(table *ruleTable, name string) []string {
	folded := table.folded
	if folded == nil {
		folded = table
	}
	scopes := neededExactly(table, name)
	return append(append([]string{}, scopes...), neededExactly(folded, fold(name))...)
}

// names says whether a rule names something: by its whole name, or by a beginning. The rule "*"
// names nothing.
func names(table *ruleTable, name string) bool {
	if table == nil {
		return false
	}
	_, ok := table.exact[name]
	if ok {
		return true
	}
	for _, rule := range table.prefixes {
		if rule.prefix != "" && strings.HasPrefix(name, rule.prefix) {
			return true
		}
	}
	return false
}

func scopesOf(table *ruleTable) []string {
	all := []string{}
	if table == nil {
		return all
	}
	for _, scopes := range table.exact {
		all = append(all, scopes...)
	}
	for _, rule := range table.prefixes {
		all = append(all, rule.scopes...)
	}
	return all
}

// StepUp returns the scope parameter of a challenge (RFC 6750 §3): the scopes of every
// request (required) and all that the operation needs, so that a client asks once. Behind them
// stand the scopes of the rules that the token has already (held, separated by spaces). SDKs before
// MCP 2026-07-28 ask for the scopes of the challenge only, and would otherwise give up reading for
// writing, and writing for reading.
func StepUp(r *Rules, required, needed []string, held string) string {
	scope := " "
	for _, s := range append(append([]string{}, required...), needed...) {
		if !strings.Contains(scope, " "+s+" ") {
			scope += s + " "
		}
	}
	for _, s := range strings.Fields(held) {
		if strings.Contains(r.scopes, " "+s+" ") && !strings.Contains(scope, " "+s+" ") {
			scope += s + " "
		}
	}
	return strings.Trim(scope, " ")
}
