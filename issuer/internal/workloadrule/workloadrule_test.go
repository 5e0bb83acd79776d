package workloadrule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The plugin's tests read the same files.
func TestWorkloadRuleVectorsAtTheSidecar(t *testing.T) {
	files, err := filepath.Glob("../../../plugin/testdata/workloadrules/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d vectors: %v", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, text, _ := strings.Cut(strings.TrimSuffix(string(content), "\n"), "\n\n")
		v := map[string]string{}
		for line := range strings.Lines(head) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			v[name] = value
		}
		rules, err := Parse([]string{text})
		if v["expect"] == "refused" {
			if err == nil {
				t.Errorf("%s: %q is taken: %+v", filepath.Base(file), text, rules)
			}
			continue
		}
		if err != nil || len(rules) != 1 || v["expect"] != "ok" {
			t.Errorf("%s: %q is read as %+v, %v", filepath.Base(file), text, rules, err)
			continue
		}
		var claims []string
		for _, c := range rules[0].Claims {
			claims = append(claims, c.Path+"="+c.Value)
		}
		if rules[0].Issuer != v["issuer"] || strings.Join(claims, " ") != v["claims"] || strings.Join(rules[0].Scopes, " ") != v["scopes"] {
			t.Errorf("%s: %q is read as %+v", filepath.Base(file), text, rules[0])
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
