package scoperule

import (
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// The plugin's tests read the same files.
func TestScopeRuleVectorsAtTheSidecar(t *testing.T) {
	for _, vector := range issuertest.Vectors(t, "../../../plugin/testdata/scoperules/*.txt", 30) {
		v, text := vector.Header, vector.Text
		rules, err := Parse([]string{text})
		if v["expect"] == "refused" {
			if err == nil {
				t.Errorf("%s: %q is taken: %+v", vector.File, text, rules)
			}
			continue
		}
		name := strings.TrimPrefix(v["name"], "-")
		if err != nil || len(rules) != 1 || v["expect"] != "ok" || rules[0].Kind != v["who"] || rules[0].Name != name || strings.Join(rules[0].Scopes, " ") != v["scopes"] {
			t.Errorf("%s: %q is read as %+v, %v", vector.File, text, rules, err)
		}
	}
	if _, err := Parse([]string{"group:a=x", "group:a=y"}); err == nil {
		t.Error("two rules for one group are taken")
	}
}
