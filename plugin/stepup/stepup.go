//go:build go1.21

// Package stepup reads the rules of the label authenticationRules, and says which sign-in at the
// provider they need: how strong and how recent (RFC 9470).
//
// The sidecar judges by it whom it gives a token, the plugin whom it lets in with one. Both do it
// here, so that they cannot differ: a token that is given and refused at once would send people to
// their provider again and again. The package has no clock, and reads no token.
//
// Traefik interprets it with Yaegi, as it does the plugin.
package stepup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// Every is the scope of a rule for every login.
	Every = "*"
	// Slack is for how many seconds a sign-in is honoured beyond max_age: clocks differ, as those
	// of the provider, the sidecar and Traefik may.
	Slack = 60

	// minAge is in seconds. A shorter one could be over before the client has its token.
	minAge   = 60
	maxAge   = 366 * 24 * 60 * 60
	maxValue = 128 // characters of an acr value
)

// Rule says which sign-in one scope needs, or every login.
type Rule struct {
	Scope     string
	ACRValues []string // any of them will do, the preferred one first; empty: any sign-in
	MaxAge    int64    // seconds since the sign-in; 0: any
}

// visible are the characters that a scope may hold (RFC 6749 §3.3) and an acr value may hold here,
// without the separators of rules. None of them ends a quoted string in a challenge.
const visible = "!#$%&'()*+-./0123456789:<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"

const form = "write SCOPE=acr_values:VALUE,VALUE max_age:SECONDS, with * as SCOPE for every login, one or both behind the =, and semicolons between rules"

// Fault says what is wrong with a rule; "" if nothing is.
func Fault(text string) string {
	_, why := read(text)
	return why
}

func read(text string) (*Rule, string) {
	at := strings.Index(text, "=")
	if at < 0 {
		return nil, "not a rule: " + form
	}
	r := &Rule{Scope: strings.TrimSpace(text[:at])}
	if r.Scope == "" || strings.Trim(r.Scope, visible) != "" || r.Scope != Every && strings.Contains(r.Scope, "*") {
		return nil, "before the = stands one scope, or * for every login: " + form
	}
	if r.Scope == "offline_access" {
		return nil, "offline_access is no right at a server, and no access token has it: write * for every login"
	}
	needs := strings.Fields(text[at+1:])
	if len(needs) == 0 {
		return nil, "it needs nothing: " + form
	}
	for _, need := range needs {
		name, value, _ := strings.Cut(need, ":")
		switch {
		case name == "acr_values" && r.ACRValues == nil:
			r.ACRValues = strings.Split(value, ",")
			for _, acr := range r.ACRValues {
				if strings.HasPrefix(acr, "max_age:") {
					// It would be a value that nobody has, and the age would not be looked at.
					return nil, "a blank, and no comma, stands before max_age:"
				}
				if acr == "" || strings.Trim(acr, visible) != "" || len(acr) > maxValue {
					return nil, "behind acr_values: stand values as the provider names them, of at most 128 visible characters, with commas between them and without = and quotes"
				}
			}
		case name == "max_age" && r.MaxAge == 0:
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil || seconds < minAge || seconds > maxAge || strings.HasPrefix(value, "+") {
				return nil, "behind max_age: stands a number of seconds, from 60 (less could be over before the client has its token) to a year"
			}
			r.MaxAge = seconds
		default:
			return nil, need + " is not understood: " + form
		}
	}
	return r, ""
}

// Rules are the rules of one MCP server. They are not changed once they are made.
type Rules struct{ list []Rule }

// Parse reads rules, each as it stands in the label; nil: there are none. A sign-in has one acr, so
// one value must satisfy all rules: a login may ask for all scopes at once.
func Parse(texts []string) (*Rules, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	r := &Rules{}
	for _, text := range texts {
		rule, why := read(text)
		if why != "" {
			return nil, fmt.Errorf("%q: %s", text, why)
		}
		for _, other := range r.list {
			if other.Scope == rule.Scope {
				return nil, fmt.Errorf("two rules for %q: put what they need into one", rule.Scope)
			}
		}
		r.list = append(r.list, *rule)
	}
	if r.merge(func(_ Rule) bool { return true }).impossible {
		return nil, errors.New("no sign-in could satisfy all rules: a sign-in has one acr, so one value must stand behind acr_values: in each rule that has some; a rule may list stronger ones beside its own")
	}
	return r, nil
}

// ACRValues are all values that rules name, each once.
func (r *Rules) ACRValues() []string {
	all := []string{}
	for _, rule := range r.list {
		for _, acr := range rule.ACRValues {
			if !has(all, acr) {
				all = append(all, acr)
			}
		}
	}
	return all
}

// Scopes are those that rules are for, beside every login.
func (r *Rules) Scopes() []string {
	scopes := []string{}
	for _, rule := range r.list {
		if rule.Scope != Every {
			scopes = append(scopes, rule.Scope)
		}
	}
	return scopes
}

// ForScopes says whether a rule is for a scope, and not for every login.
func (r *Rules) ForScopes() bool {
	for _, rule := range r.list {
		if rule.Scope != Every {
			return true
		}
	}
	return false
}

// Names says whether a rule is for this scope.
func (r *Rules) Names(scope string) bool {
	for _, rule := range r.list {
		if rule.Scope == scope {
			return true
		}
	}
	return false
}

// Need is what rules need together.
type Need struct {
	ACRValues  []string // as in Rule
	MaxAge     int64
	impossible bool
}

// Of returns what a request needs that needs these scopes: what every login needs, and what each of
// them does.
func (r *Rules) Of(scopes []string) *Need {
	return r.merge(func(rule Rule) bool { return rule.Scope == Every || has(scopes, rule.Scope) })
}

func (r *Rules) merge(counts func(Rule) bool) *Need {
	n := &Need{}
	for _, rule := range r.list {
		if !counts(rule) {
			continue
		}
		if rule.MaxAge > 0 && (n.MaxAge == 0 || rule.MaxAge < n.MaxAge) {
			n.MaxAge = rule.MaxAge
		}
		if len(rule.ACRValues) == 0 {
			continue
		}
		if len(n.ACRValues) == 0 {
			n.ACRValues = rule.ACRValues
			continue
		}
		both := []string{}
		for _, acr := range n.ACRValues {
			if has(rule.ACRValues, acr) {
				both = append(both, acr)
			}
		}
		n.ACRValues = both
		if len(both) == 0 {
			n.impossible = true
			return n
		}
	}
	return n
}

func has(list []string, text string) bool {
	for _, other := range list {
		if other == text {
			return true
		}
	}
	return false
}

// IsNothing says that any sign-in will do.
func (n *Need) IsNothing() bool { return len(n.ACRValues) == 0 && n.MaxAge == 0 }

// Lacks says what a sign-in lacks, for the operator: nothing of it names a person. acr is what the
// provider said of it, and authTime when it was, in Unix seconds; "" and 0: not said. At is now.
func (n *Need) Lacks(acr string, authTime, at int64) string {
	wanted := strings.Join(n.ACRValues, " ")
	switch {
	case wanted != "" && acr == "":
		return "the provider does not say how the person signed in (acr), and one of " + wanted + " is needed"
	case wanted != "" && !has(n.ACRValues, acr):
		return fmt.Sprintf("the person signed in by acr %q, and one of %s is needed", acr, wanted)
	case n.MaxAge > 0 && authTime == 0:
		return "the provider does not say when the person signed in (auth_time)"
	case n.MaxAge > 0 && at >= n.Ends(authTime):
		return fmt.Sprintf("the person signed in %d seconds ago (auth_time), and at most %d are allowed (max_age)", at-authTime, n.MaxAge)
	}
	return ""
}

// Ends is the time, in Unix seconds, from which a sign-in of authTime is too old; 0: never.
func (n *Need) Ends(authTime int64) int64 {
	if n.MaxAge == 0 {
		return 0
	}
	return authTime + n.MaxAge + Slack
}

// Challenge are the parameters of RFC 9470 §3 that say what is needed, with a comma behind each.
func (n *Need) Challenge() string {
	text := ""
	if len(n.ACRValues) > 0 {
		text = `acr_values="` + strings.Join(n.ACRValues, " ") + `", `
	}
	if n.MaxAge > 0 {
		text += `max_age="` + strconv.FormatInt(n.MaxAge, 10) + `", `
	}
	return text
}
