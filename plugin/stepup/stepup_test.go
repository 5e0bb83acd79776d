//go:build go1.21

package stepup

import (
	"strings"
	"testing"
)

func rules(t *testing.T, texts ...string) *Rules {
	t.Helper()
	r, err := Parse(texts)
	if err != nil || r == nil {
		t.Fatalf("%q: %v", texts, err)
	}
	return r
}

// Each row: what requests that need these scopes need of a sign-in, as a challenge says it.
func TestSignInRulesMeanWhatStandsThere(t *testing.T) {
	wiki := []string{"*=max_age:28800", "docs:write = acr_values:phr,phrh  max_age:300", "docs:admin=max_age:60 acr_values:phrh"}
	for _, c := range []struct {
		rules        []string
		scopes, want string
	}{
		{wiki, "", `max_age="28800", `},
		{wiki, "docs:read", `max_age="28800", `},
		{wiki, "docs:write docs:read", `acr_values="phr phrh", max_age="300", `},
		{wiki, "docs:write docs:admin", `acr_values="phrh", max_age="60", `},
		{[]string{"docs:write=acr_values:urn:mace:incommon:iap:silver"}, "docs:write", `acr_values="urn:mace:incommon:iap:silver", `},
		{[]string{"docs:write=acr_values:1"}, "docs:read", ""},
	} {
		need := rules(t, c.rules...).Of(strings.Fields(c.scopes))
		if got := need.Challenge(); got != c.want || need.IsNothing() != (c.want == "") {
			t.Errorf("%q, %q: %s, want %s", c.rules, c.scopes, got, c.want)
		}
	}
	if got := strings.Join(rules(t, wiki...).ACRValues(), " "); got != "phr phrh" {
		t.Errorf("acr values %q", got)
	}
	if r := rules(t, "*=max_age:60"); r.ForScopes() || !rules(t, wiki...).ForScopes() || len(r.ACRValues()) != 0 {
		t.Errorf("%+v", r)
	}
	if r, err := Parse(nil); r != nil || err != nil {
		t.Errorf("no rules: %v %v", r, err)
	}
}

func TestSignInRulesThatAreRefused(t *testing.T) {
	for text, why := range map[string]string{
		"docs:write":                                        "not a rule",
		"=max_age:300":                                      "one scope, or *",
		"docs:write docs:read=max_age:300":                  "one scope, or *",
		"docs:*=max_age:300":                                "one scope, or *",
		`a"b=max_age:300`:                                   "one scope, or *",
		"offline_access=max_age:300":                        "offline_access is no right",
		"docs:write=":                                       "needs nothing",
		"docs:write=phr":                                    "phr is not understood",
		"docs:write=acr:phr":                                "acr:phr is not understood",
		"docs:write=max_age:300, *=max_age:60":              "number of seconds",
		"docs:write=acr_values:phr, *=max_age:60":           "values as the provider names them",
		"docs:write=acr_values:phr *=max_age:60":            "*=max_age:60 is not understood",
		"docs:write=acr_values:":                            "values as the provider names them",
		"docs:write=acr_values:a=b":                         "values as the provider names them",
		`docs:write=acr_values:"phr"`:                       "values as the provider names them",
		"docs:write=acr_values:phr acr_values:phrh":         "acr_values:phrh is not understood",
		"docs:write=acr_values:" + strings.Repeat("x", 129): "values as the provider names them",
		"docs:write=acr_values:grün":                        "values as the provider names them",
		"*=max_age:0":                                       "number of seconds",
		"*=max_age:59":                                      "number of seconds",
		"*=max_age:-300":                                    "number of seconds",
		"*=max_age:+300":                                    "number of seconds",
		"*=max_age:5m":                                      "number of seconds",
		"*=max_age:31622401":                                "number of seconds",
		"*=max_age:300 max_age:300":                         "max_age:300 is not understood",
	} {
		if got := Fault(text); !strings.Contains(got, why) {
			t.Errorf("%q: %q, want %q", text, got, why)
		}
		if _, err := Parse([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for _, texts := range [][]string{
		{"*=max_age:300", "* = max_age:60"},
		{"*=acr_values:silver", "docs:write=acr_values:gold"},
		{"a=acr_values:1,2", "b=acr_values:2,3", "c=acr_values:1,3"},
	} {
		if _, err := Parse(texts); err == nil {
			t.Errorf("%q are taken together", texts)
		}
	}
}

// Each row: what a sign-in lacks, now being the second 10,000.
func TestSignInsThatLackSomething(t *testing.T) {
	for _, c := range []struct {
		rule, acr string
		authTime  int64
		lacks     string
	}{
		{"*=acr_values:phr,phrh", "phrh", 0, ""},
		{"*=acr_values:phr", "", 9_999, "does not say how"},
		{"*=acr_values:phr", "phrh", 9_999, `by acr "phrh"`},
		{"*=acr_values:phr", "PHR", 9_999, `by acr "PHR"`},
		{"*=max_age:300", "", 9_700, ""},
		{"*=max_age:300", "", 9_641, ""}, // Slack
		{"*=max_age:300", "", 9_640, "360 seconds ago"},
		{"*=max_age:300", "phr", 0, "does not say when"},
		{"*=max_age:300", "", 10_500, ""},
		{"*=acr_values:phr max_age:300", "phr", 9_000, "1000 seconds ago"},
	} {
		need := rules(t, c.rule).Of(nil)
		got := need.Lacks(c.acr, c.authTime, 10_000)
		if (got == "") != (c.lacks == "") || !strings.Contains(got, c.lacks) {
			t.Errorf("%s, acr %q of %d: %q, want %q", c.rule, c.acr, c.authTime, got, c.lacks)
		}
		// It lacks nothing until Ends, and something from then on.
		if ends := need.Ends(9_990); ends != 0 && (need.Lacks("phr", 9_990, ends-1) != "" || need.Lacks("phr", 9_990, ends) == "") {
			t.Errorf("%s ends at %d", c.rule, ends)
		}
	}
}
