// Package workloadrule reads the label workloadIssuers: which machines of which issuers come in,
// and with which scopes.
//
// It promises that it takes the rules that the plugin takes, and no others: the tests of both read
// plugin/testdata/workloadrules. It does not know whom a rule fits, and it does not explain a
// refusal: the plugin has told the operator by then.
package workloadrule

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// A Rule gives scopes to the workloads of one issuer that have all of these claims.
type Rule struct {
	Issuer string
	Claims []Claim // at least one
	Scopes []string
}

// A Claim is a claim's name, or a dotted path, and what stands in it. A value that ends in "*"
// stands for all that begin with the rest of it.
type Claim struct{ Path, Value string }

// Fits says whether a value is the one of the claim: as a whole, or by its whole beginning.
func (c Claim) Fits(value string) bool {
	if beginning, open := strings.CutSuffix(c.Value, "*"); open {
		return strings.HasPrefix(value, beginning)
	}
	return value == c.Value
}

const maxIssuer = 200 // characters: the issuer is a part of the subject

// Parse reads the rules as the plugin passes them on, one a text: "ISSUER CLAIM=VALUE … => SCOPES".
// A blank in a value is written as %20.
func Parse(texts []string) (rules []Rule, err error) {
	for _, text := range texts {
		rule, ok := parse(text)
		if !ok {
			return nil, fmt.Errorf("workloadIssuers: %q is not a rule", text)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parse(text string) (rule Rule, ok bool) {
	who, scopes, arrow := strings.Cut(text, " => ")
	words := strings.Fields(who)
	rule.Scopes = strings.Fields(scopes)
	if !arrow || len(words) < 2 || len(rule.Scopes) == 0 || strings.Contains(text, "${") || slices.ContainsFunc(rule.Scopes, isNoScope) {
		return rule, false
	}
	rule.Issuer = words[0]
	u, err := url.Parse(rule.Issuer)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(rule.Issuer, "?#;|{}") || len(rule.Issuer) > maxIssuer || u.Scheme != "https" && !weburl.IsLocalHTTP(u) {
		return rule, false
	}
	owned := !strings.Contains(sharedIssuers, " "+strings.TrimSuffix(rule.Issuer, "/")+" ")
	for _, word := range words[1:] {
		path, value, ok := strings.Cut(word, "=")
		value, err := url.PathUnescape(value)
		if !ok || err != nil || path == "" || value == "" || strings.Trim(value, "*") == "" || strings.Contains(strings.TrimSuffix(value, "*"), "*") {
			return rule, false
		}
		rule.Claims = append(rule.Claims, Claim{path, value})
		owned = owned || saysWhose(path, value)
	}
	return rule, owned
}

// sharedIssuers speak for everybody's workloads: a rule says by one of whoseClaims whose it means.
// The plugin has the same lists.
const (
	sharedIssuers = " https://token.actions.githubusercontent.com https://gitlab.com https://accounts.google.com "
	whoseClaims   = " sub repository repository_id repository_owner repository_owner_id job_workflow_ref enterprise enterprise_id project_path project_id namespace_path namespace_id email hd "
)

// saysWhose says whether a claim tells one owner's workloads from those of others. A beginning does
// so with a slash in it: acme* is acme-evil too.
func saysWhose(name, value string) bool {
	return strings.Contains(whoseClaims, " "+name+" ") && (!strings.HasSuffix(value, "*") || strings.Contains(value, "/"))
}

// isNoScope finds what cannot be a scope of a rule: see package scoperule.
func isNoScope(scope string) bool {
	return scope == "*" || scope == "offline_access" || strings.ContainsFunc(scope, func(r rune) bool {
		return r < '!' || r > '~' || strings.ContainsRune(`"\,;=`, r)
	})
}
