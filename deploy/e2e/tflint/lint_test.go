package tflint

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terraform-linters/tflint-plugin-sdk/helper"
	"github.com/terraform-linters/tflint-ruleset-terraform/rules"
	"github.com/terraform-linters/tflint-ruleset-terraform/terraform"
)

// lint runs every rule that TFLint has for Terraform itself.
func lint(t *testing.T, files map[string]string) string {
	t.Helper()
	var found strings.Builder
	for _, rule := range rules.PresetRules["all"] {
		runner := helper.TestRunner(t, files) // of its own, since some rules write
		if err := rule.Check(terraform.NewRunner(runner)); err != nil {
			t.Fatalf("%s: %v", rule.Name(), err)
		}
		for _, issue := range runner.Issues {
			fmt.Fprintf(&found, "%s: %s: %s\n", issue.Range, issue.Rule.Name(), issue.Message)
		}
	}
	return found.String()
}

func TestTerraformIsLinted(t *testing.T) {
	names, err := filepath.Glob("../../lambda/terraform/*.tf")
	if err != nil || len(names) < 4 {
		t.Fatalf("%q, %v", names, err)
	}
	files := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = string(text)
	}
	if found := lint(t, files); found != "" {
		t.Error(found)
	}
	for rule, fault := range map[string]string{
		"terraform_unused_declarations":       "variable \"unused\" {}\n",
		"terraform_documented_outputs":        "output \"it\" {\n  value = 1\n}\n",
		"terraform_naming_convention":         "resource \"aws_iam_role\" \"A-b\" {}\n",
		"terraform_unused_required_providers": "terraform {\n  required_providers {\n    null = \"1\"\n  }\n}\n",
		"terraform_deprecated_interpolation":  "locals {\n  a = 1\n  b = \"${local.a}\"\n}\n",
	} {
		if found := lint(t, map[string]string{"main.tf": fault}); !strings.Contains(found, ": "+rule+": ") {
			t.Errorf("%s is not found: %q", rule, found)
		}
	}
}
