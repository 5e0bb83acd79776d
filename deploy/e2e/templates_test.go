package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var templateFile = filepath.Join(rig.Root(), "deploy", "lambda", "template.yaml")

// What the official validator finds, and why it is no fault. A finding that has no reason here fails the test, and so does a reason without
// a finding.
var explainedFindings = map[string]string{
	"INFO I9001":  "says that a change of the property makes a new resource; nothing to change",
	"INFO I9040":  "tags come from the stack (aws cloudformation deploy --tags)",
	"FATAL F3031": "without the layer: the validator takes the branch of an !If that its condition does not take, and finds the empty parameter",
	"FATAL F3033": "the same, for the layer and the topic of the alarms",
	"FATAL F3034": "the same, for a reserved concurrency of -1",
}

func TestCloudFormationTemplate(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(templateFile)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(good), "FunctionUrlAuthType: NONE", "FunctionUrlAuthTyp: NONE", 1)
	text = strings.Replace(text, "Role: !GetAtt Role.Arn", "Role: !GetAtt Rolle.Arn", 1)
	faulty := filepath.Join(t.TempDir(), "template.yaml")
	if err := os.WriteFile(faulty, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	full := map[string]string{"CodeBucket": "bucket", "CodeKey": "key.zip", "AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms",
		"ExtensionLayer": "arn:aws:lambda:eu-central-1:123456789012:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:20"}
	findings := validateTemplates(t, []templateRun{
		{templateFile, full},
		{templateFile, map[string]string{"CodeBucket": "bucket", "CodeKey": "key.zip", "EncryptionKey": "the key itself", "UrlAuthType": "AWS_IAM",
			"InvokerArn": "arn:aws:iam::123456789012:role/traefik", "InvokeMode": "RESPONSE_STREAM", "ReplayGuard": "yes", "Architecture": "x86_64", "ReservedConcurrency": "-1"}},
		{faulty, full},
	})
	found := map[string]bool{}
	for i, lines := range findings[:2] {
		for _, line := range lines {
			fields := strings.Fields(line)
			kind := fields[0] + " " + fields[1]
			found[kind] = true
			if explainedFindings[kind] == "" || fields[0] == "FATAL" && i == 0 {
				t.Errorf("run %d: %s", i, line)
			}
		}
	}
	for kind, reason := range explainedFindings {
		if !found[kind] {
			t.Errorf("%s (%s) is found no more", kind, reason)
		}
	}
	for _, fault := range []string{"FunctionUrlAuthTyp'", "Rolle"} { // so that it is not green for want of eyes
		if all := strings.Join(findings[2], "\n"); !strings.Contains(all, fault) {
			t.Errorf("the planted fault %s was not found among\n%s", fault, all)
		}
	}
}

// templateRun is a template and its parameters.
type templateRun struct {
	file       string
	parameters map[string]string
}

// validateTemplates returns the findings of each run: "SEVERITY RULE RESOURCE PROPERTY: text".
func validateTemplates(t *testing.T, runs []templateRun) [][]string {
	t.Helper()
	var args []string
	for _, run := range runs {
		b, err := json.Marshal(run.parameters)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, run.file, string(b))
	}
	logs := &rig.Logs{}
	p := rig.Node(t, logs, "validator", "../cloudformation/validate.mjs", args...)
	if code := p.Wait(t); code != 0 {
		t.Fatalf("it ended with %d:\n%s", code, logs.Text("validator"))
	}
	findings := make([][]string, len(runs))
	ended := 0
	for line := range strings.Lines(logs.Text("validator")) {
		run, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(rest, "OK, 3") { // … hundred rules
			ended++
			continue
		}
		findings[run[0]-'0'] = append(findings[run[0]-'0'], rest)
	}
	if ended != len(runs) {
		t.Fatalf("%d of %d runs ended:\n%s", ended, len(runs), logs.Text("validator"))
	}
	return findings
}

// The two templates offer the same, with the same defaults, and neither allows the function more than the other.
func TestTerraformIsTheSameAsCloudFormation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(rig.Root(), "deploy", "lambda", "terraform")
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%v, %v", files, err)
	}
	var terraform strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(hclwrite.Format(b), b) {
			t.Errorf("%s is not formatted as terraform fmt does", file)
		}
		terraform.Write(b)
	}
	cloudformation, err := os.ReadFile(templateFile)
	if err != nil {
		t.Fatal(err)
	}
	action := regexp.MustCompile(`\b(?:logs|ssm|secretsmanager|kms|dynamodb|lambda):[A-Z]\w+`)
	actions := func(text string) []string {
		found := action.FindAllString(text, -1)
		slices.Sort(found)
		return slices.Compact(found)
	}
	if a, b := actions(string(cloudformation)), actions(terraform.String()); !slices.Equal(a, b) || len(a) < 10 {
		t.Errorf("actions differ:\n%q\n%q", a, b)
	}
	for _, text := range []string{string(cloudformation), terraform.String()} {
		if !strings.Contains(text, "StringLike") || !slices.Contains(actions(text), "kms:ViaService") {
			t.Error("kms:Decrypt is not limited to Parameter Store and Secrets Manager")
		}
		if pattern := regexp.MustCompile(`\^\(?arn:aws\[a-z-\]\*:iam::\[0-9\]\{12\}:\(role\|user\)/\.\+\)?\??\$`); len(pattern.FindAllString(text, -1)) != 1 {
			t.Error("the invoker may be anybody") // such as *, which is every AWS account
		}
	}
	variable := regexp.MustCompile(`BOUNCER_[A-Z_]+ *[:=]`)
	names := func(text string) []string {
		var found []string
		for _, v := range variable.FindAllString(text, -1) {
			found = append(found, strings.TrimRight(v, " :="))
		}
		slices.Sort(found)
		return found
	}
	if a, b := names(string(cloudformation)), names(terraform.String()); !slices.Equal(a, b) || len(a) != 5 {
		t.Errorf("variables differ: %q and %q", a, b)
	}
	var template struct {
		Parameters map[string]struct{ Default, Description string }
	}
	if err := yaml.Unmarshal(cloudformation, &template); err != nil {
		t.Fatal(err)
	}
	for name, p := range template.Parameters {
		snake := strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
		if name == "CodeBucket" || name == "CodeKey" { // Terraform uploads the zip itself
			continue
		}
		block := regexp.MustCompile(`(?s)variable "` + snake + `" \{.*?\n\}`).FindString(terraform.String())
		value := regexp.MustCompile(`default += (.*)`).FindStringSubmatch(block)
		if value == nil {
			t.Errorf("Terraform has no variable %s with a default", snake)
			continue
		}
		plain := strings.NewReplacer(`"`, "", "null", "", "[]", "", "false", "no").Replace(value[1])
		if plain != p.Default {
			t.Errorf("%s is %q by default, %s is %q", name, p.Default, snake, plain)
		}
	}
}

func TestTerraformIsLinted(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "tflint.hcl")
	if err := os.WriteFile(config, []byte("plugin \"terraform\" {\n  enabled = true\n  preset  = \"all\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lint := func(dir string) (string, error) {
		cmd := exec.Command(rig.Tool(t, "tflint"), "--config", config, "--chdir", dir)
		cmd.Env = append(os.Environ(), "TFLINT_PLUGIN_DIR="+t.TempDir(), "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	dir := filepath.Join(rig.Root(), "deploy", "lambda", "terraform")
	if out, err := lint(dir); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, "variables.tf"), []byte("variable \"unused\" {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := lint(copied); err == nil || !strings.Contains(out, "terraform_unused_declarations") {
		t.Errorf("a planted fault is not found: %v, %s", err, out)
	}
}
