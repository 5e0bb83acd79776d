package workloadrule

import (
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// The plugin's tests read the same files.
func TestWorkloadRuleVectorsAtTheSidecar(t *testing.T) {
	for _, vector := range issuertest.Vectors(t, "../../../plugin/testdata/workloadrules/*.txt", 30) {
		v, text := vector.Header, vector.Text
		rules, err := Parse([]string{text})
		if v["expect"] == "refused" {
			if err == nil {
				t.Errorf("%s: %q is taken: %+v", vector.File, text, rules)
			}
			continue
		}
		if err != nil || len(rules) != 1 || v["expect"] != "ok" {
			t.Errorf("%s: %q is read as %+v, %v", vector.File, text, rules, err)
			continue
		}
		var claims []string
		for _, c := range rules[0].Claims {
			claims = append(claims, c.Path+"="+c.Value)
		}
		if rules[0].Issuer != v["issuer"] || strings.Join(claims, " ") != v["claims"] || strings.Join(rules[0].Scopes, " ") != v["scopes"] {
			t.Errorf("%s: %q is read as %+v", vector.File, text, rules[0])
		}
	}
}

// A value fits as a whole, or by its whole beginning: never by a part of it.
func TestWorkloadClaimsFitAsAWhole(t *testing.T) {
	for _, c := range []struct {
		rule, value string
		fits        bool
	}{
		{"acme/wiki", "acme/wiki", true},
		{"acme/wiki", "acme/wiki2", false},
		{"acme/wiki", "evil/acme/wiki", false},
		{"acme/wiki", "ACME/wiki", false},
		{"acme/*", "acme/wiki", true},
		{"acme/*", "acme-evil/wiki", false},
		{"acme/*", "x/acme/wiki", false},
	} {
		if got := (Claim{"sub", c.rule}).Fits(c.value); got != c.fits {
			t.Errorf("%s fits %s: %t", c.rule, c.value, got)
		}
	}
}
