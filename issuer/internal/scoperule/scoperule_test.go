package scoperule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The plugin's tests read the same files.
func TestScopeRuleVectorsAtTheSidecar(t *testing.T) {
	files, err := filepath.Glob("../../../plugin/testdata/scoperules/*.txt")
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
		name := strings.TrimPrefix(v["name"], "-")
		if err != nil || len(rules) != 1 || v["expect"] != "ok" || rules[0].Kind != v["who"] || rules[0].Name != name || strings.Join(rules[0].Scopes, " ") != v["scopes"] {
			t.Errorf("%s: %q is read as %+v, %v", filepath.Base(file), text, rules, err)
		}
	}
	if _, err := Parse([]string{"group:a=x", "group:a=y"}); err == nil {
		t.Error("two rules for one group are taken")
	}
}
