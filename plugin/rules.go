//go:build go1.21

package plugin

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// rules say which scopes an operation needs besides requiredScopes. docs/tools.md is their manual.
type rules struct {
	methods   *ruleTable
	tables    []*ruleTable          // by label: of nothing, tools, resources, prompts
	resources *ruleTable            // the one of resources
	subjects  map[string]*ruleTable // by method: the one that guards its subject
	scopes    string                // all that the rules name, each between blanks
	hide      bool                  // label hideTools
}

// ruleTable maps names to scopes. A nil table asks for nothing.
type ruleTable struct {
	exact    map[string][]string
	prefixes []prefixRule // the longest first
	// The same rules with names as fold writes them. Nil: the names differ in nothing from that.
	folded *ruleTable
}

// prefixRule is for all names that begin so: the pattern without its "*".
type prefixRule struct {
	prefix string
	scopes []string
}

// maxRules and maxPattern bound what a label can make each message cost.
const (
	maxRules   = 256
	maxPattern = 256
)

// parseRules reads the labels of the rules; nil when none is set.
func parseRules(c *labelTexts) (*rules, error) {
	r := &rules{}
	r.hide = c.HideTools == "true"
	methods, err := parseRuleTable("methodScopes", c.MethodScopes)
	if err != nil {
		return nil, err
	}
	tools, err := parseRuleTable("toolScopes", c.ToolScopes)
	if err != nil {
		return nil, err
	}
	resources, err := parseRuleTable("resourceScopes", c.ResourceScopes)
	if err != nil {
		return nil, err
	}
	prompts, err := parseRuleTable("promptScopes", c.PromptScopes)
	if err != nil {
		return nil, err
	}
	r.methods = methods
	r.tables = []*ruleTable{labelNone: nil, labelTools: tools, labelResources: resources, labelPrompts: prompts}
	r.resources = resources
	r.subjects = map[string]*ruleTable{}
	for name, m := range knownMethods {
		if r.tables[m.label] != nil {
			r.subjects[name] = r.tables[m.label]
		}
	}
	if methods == nil && tools == nil && resources == nil && prompts == nil {
		if r.hide {
			return nil, errors.New("label hideTools: nothing is hidden without toolScopes or methodScopes; set one of them")
		}
		return nil, nil
	}
	r.scopes = " " + strings.Join(append(append(scopesOf(methods), scopesOf(tools)...), append(scopesOf(resources), scopesOf(prompts)...)...), " ") + " "
	return r, nil
}

// parseRuleTable reads a label of PATTERN=SCOPES rules; nil when it is not set.
func parseRuleTable(label, text string) (*ruleTable, error) {
	if isOnlySeparators(text) {
		return nil, fmt.Errorf("label %s: holds no rule: write NAME=SCOPES, or leave the label out", label)
	}
	list, err := parseNameRules(label, text, func(pattern string) string { return patternFault(label, pattern) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > maxRules {
		return nil, fmt.Errorf("label %s: at most %d rules", label, maxRules)
	}
	table := &ruleTable{exact: map[string][]string{}}
	for _, rule := range list {
		name := strings.TrimSuffix(rule.name, "*")
		switch {
		case hasScopes(strings.Join(rule.scopes, " "), []string{"offline_access"}):
			// no access token has it
			return nil, fmt.Errorf("label %s: %q: offline_access is no right at a server, and no access token has it", label, rule.text)
		case name != rule.name:
			table.prefixes = append(table.prefixes, prefixRule{prefix: name, scopes: rule.scopes})
		default:
			table.exact[name] = rule.scopes
		}
	}
	sortPrefixes(table.prefixes)
	table.folded = foldTable(table)
	return table, nil
}

// foldTable returns the rules for names whose letter case was folded; nil when they are those of
// table.
// Where two names became one, the scopes of both count.
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

// foldedChars are those of US-ASCII that fold leaves as they are.
const foldedChars = "abcdefghijklmnopqrstuvwxyz0123456789 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// neededFor returns the scopes of the most specific rule that fits a name: the name itself, else
// the longest beginning. A name that no rule writes as it stands, and that would fit another rule
// if letter case did not count, needs that rule's scopes too: the server may ignore it.
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

// neededFolded is neededFor where letter case makes a difference.
func neededFolded(table *ruleTable, name string) []string {
	folded := table.folded
	if folded == nil {
		folded = table
	}
	scopes := neededExactly(table, name)
	return append(append([]string{}, scopes...), neededExactly(folded, fold(name))...)
}

// names says whether a rule names something: by its name, or by a beginning that is more than the
// star.
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

// stepUp is the scope parameter of a challenge: all that the operation needs, in one challenge, so
// that a client asks once. What the token has already of the scopes in question stands behind: SDKs
// before MCP 2026-07-28 ask for the challenge's scopes only, and would give up reading for writing,
// and writing for reading.
func stepUp(r *rules, required, needed []string, held string) string {
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
