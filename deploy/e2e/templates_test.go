package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var templateFile = filepath.Join(rig.Root(), "deploy", "lambda", "template.yaml")

// explainedFindings are the findings of the official validator, and why each is not a fault. A
// finding that has no reason here fails the test, and so does a reason without a finding.
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
		{templateFile, map[string]string{"CodeBucket": "bucket", "CodeKey": "key.zip", "EncryptionKey": base64.StdEncoding.EncodeToString(make([]byte, 32)), "UrlAuthType": "AWS_IAM",
			"InvokerArn": "arn:aws:iam::123456789012:role/traefik", "InvokeMode": "RESPONSE_STREAM", "ReplayGuard": "yes", "Metrics": "yes", "Architecture": "x86_64", "ReservedConcurrency": "-1"}},
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
	// the test must find these faults, or it would pass because it sees nothing
	for _, fault := range []string{"FunctionUrlAuthTyp'", "Rolle"} {
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

// The two templates offer the same, with the same defaults, and neither allows the function more
// than the other.
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
	if a, b := names(string(cloudformation)), names(terraform.String()); !slices.Equal(a, b) || len(a) != 6 {
		t.Errorf("variables differ: %q and %q", a, b)
	}
	for name, p := range parseCloudFormation(t).Parameters {
		snake := snakeCase(name)
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

func snakeCase(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
}

const (
	layer   = "arn:aws:lambda:eu-central-1:123456789012:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:20"
	invoker = "arn:aws:iam::123456789012:role/traefik"
)

// Both templates refuse what would deploy and then not work, or not as it was meant. Neither the
// validator nor the linter looks at values.
func TestTemplatesRefuseWhatCannotWork(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32))
	template := parseCloudFormation(t)
	module := parseTerraform(t)
	for _, c := range []struct {
		name       string
		parameters map[string]string // in CloudFormation's spelling
		refusal    string            // a parameter that both texts name; empty: none
	}{
		{"the default reference and no layer", nil, "ExtensionLayer"},
		{"another parameter and no layer", map[string]string{"EncryptionKeyReference": "ssm:/other/key"}, "ExtensionLayer"},
		{"a secret and no layer", map[string]string{"EncryptionKeyReference": "secretsmanager:arn:aws:secretsmanager:eu-central-1:123456789012:secret:key"}, "ExtensionLayer"},
		{"the default reference and the layer", map[string]string{"ExtensionLayer": layer}, ""},
		{"a secret and the layer", map[string]string{"EncryptionKeyReference": "secretsmanager:arn", "ExtensionLayer": layer}, ""},
		{"the key itself", map[string]string{"EncryptionKey": key}, ""},
		{"two keys", map[string]string{"EncryptionKey": key + ", " + key}, ""},
		{"a parameter as the key", map[string]string{"EncryptionKey": "ssm:/mcpbouncer/key"}, "EncryptionKeyReference"},
		{"a secret as the key, and the layer", map[string]string{"EncryptionKey": "secretsmanager:arn", "ExtensionLayer": layer}, "EncryptionKeyReference"},
		{"the key as a reference", map[string]string{"EncryptionKeyReference": key, "ExtensionLayer": layer}, "EncryptionKey"},
		{"no reference", map[string]string{"EncryptionKeyReference": "", "ExtensionLayer": layer}, "EncryptionKey"},
		{"a second lock for nobody", map[string]string{"EncryptionKey": key, "UrlAuthType": "AWS_IAM"}, "InvokerArn"},
		{"a second lock", map[string]string{"EncryptionKey": key, "UrlAuthType": "AWS_IAM", "InvokerArn": invoker}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, refusals := range map[string][]string{"CloudFormation": template.refusals(t, c.parameters), "Terraform": module.refusals(t, c.parameters)} {
				want := c.refusal
				if kind == "Terraform" {
					want = snakeCase(want)
				}
				if text := strings.Join(refusals, "\n"); (text == "") != (want == "") || !strings.Contains(text, want) {
					t.Errorf("%s refuses with %q, want %q", kind, text, want)
				}
			}
		})
	}
}

// Which key the function gets, and who may ask it, does not depend on which template made it.
func TestTemplatesMakeTheSameOfParameters(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32))
	template := parseCloudFormation(t)
	module := parseTerraform(t)
	for _, c := range []struct {
		name       string
		parameters map[string]string
		key        string
		asks       []string // who may do what
	}{
		{"the default reference", map[string]string{"ExtensionLayer": layer}, "ssm:/mcpbouncer/key", []string{"* lambda:InvokeFunction true", "* lambda:InvokeFunctionUrl NONE"}},
		{"another reference", map[string]string{"EncryptionKeyReference": "ssm:/other/key", "ExtensionLayer": layer}, "ssm:/other/key", []string{"* lambda:InvokeFunction true", "* lambda:InvokeFunctionUrl NONE"}},
		{"the key itself, and an invoker without the second lock", map[string]string{"EncryptionKey": key, "InvokerArn": invoker}, key, []string{"* lambda:InvokeFunction true", "* lambda:InvokeFunctionUrl NONE"}},
		{"the second lock", map[string]string{"EncryptionKey": key, "UrlAuthType": "AWS_IAM", "InvokerArn": invoker}, key, []string{invoker + " lambda:InvokeFunction true", invoker + " lambda:InvokeFunctionUrl AWS_IAM"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			keyOne, asksOne := template.makes(t, c.parameters)
			keyTwo, asksTwo := module.makes(t, c.parameters)
			if keyOne != c.key || !slices.Equal(asksOne, c.asks) {
				t.Errorf("CloudFormation: key %q, and who may ask: %q", keyOne, asksOne)
			}
			if keyTwo != c.key || !slices.Equal(asksTwo, c.asks) {
				t.Errorf("Terraform: key %q, and who may ask: %q", keyTwo, asksTwo)
			}
		})
	}
}

// cloudFormation is what decides whether AWS takes parameters, and what it makes of them.
type cloudFormation struct {
	Parameters map[string]struct {
		Default        string `yaml:"Default"`
		AllowedPattern string `yaml:"AllowedPattern"`
		Constraint     string `yaml:"ConstraintDescription"`
	} `yaml:"Parameters"`
	Rules map[string]struct {
		Condition  yaml.Node `yaml:"RuleCondition"`
		Assertions []struct {
			Assert yaml.Node `yaml:"Assert"`
			Text   string    `yaml:"AssertDescription"`
		} `yaml:"Assertions"`
	} `yaml:"Rules"`
	Conditions map[string]yaml.Node `yaml:"Conditions"`
	Resources  map[string]struct {
		Type       string               `yaml:"Type"`
		Condition  string               `yaml:"Condition"`
		Properties map[string]yaml.Node `yaml:"Properties"`
	} `yaml:"Resources"`
}

func parseCloudFormation(t *testing.T) (c cloudFormation) {
	t.Helper()
	text, err := os.ReadFile(templateFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil || len(c.Rules) == 0 || len(c.Parameters) == 0 {
		t.Fatalf("%d rules, %d parameters, %v", len(c.Rules), len(c.Parameters), err)
	}
	return c
}

func (c *cloudFormation) values(given map[string]string) map[string]string {
	values := map[string]string{}
	for name, p := range c.Parameters {
		values[name] = p.Default
	}
	maps.Copy(values, given)
	return values
}

// refusals returns what AWS would answer to these parameters, by their patterns and the rules.
func (c *cloudFormation) refusals(t *testing.T, given map[string]string) (texts []string) {
	t.Helper()
	values := c.values(given)
	for name, p := range c.Parameters {
		if p.AllowedPattern != "" && !regexp.MustCompile("^(?:"+p.AllowedPattern+")$").MatchString(values[name]) {
			texts = append(texts, name+" "+p.Constraint)
		}
	}
	for _, rule := range c.Rules {
		if !c.holds(t, &rule.Condition, values) {
			continue
		}
		for _, a := range rule.Assertions {
			if !c.holds(t, &a.Assert, values) {
				texts = append(texts, a.Text)
			}
		}
	}
	return texts
}

// holds knows the functions that the rules need, and the conditions of what is looked at here. Of a
// parameter they see the whole value.
func (c *cloudFormation) holds(t *testing.T, n *yaml.Node, values map[string]string) bool {
	t.Helper()
	switch {
	case n.Tag == "!Condition":
		return c.named(t, n.Value, values)
	case n.Tag == "!Not" && len(n.Content) == 1:
		return !c.holds(t, n.Content[0], values)
	case n.Tag == "!Equals" && len(n.Content) == 2 && n.Content[0].Tag == "!Ref":
		value, ok := values[n.Content[0].Value]
		if !ok {
			t.Fatalf("line %d: no parameter %s", n.Line, n.Content[0].Value)
		}
		return value == n.Content[1].Value
	}
	t.Fatalf("line %d: unknown function %s", n.Line, n.Tag)
	return false
}

func (c *cloudFormation) named(t *testing.T, condition string, values map[string]string) bool {
	t.Helper()
	n := c.Conditions[condition]
	return c.holds(t, &n, values)
}

// makes says which key the function gets, and who may ask it.
func (c *cloudFormation) makes(t *testing.T, given map[string]string) (key string, asks []string) {
	t.Helper()
	values := c.values(given)
	var value func(n yaml.Node) string
	value = func(n yaml.Node) string {
		switch {
		case n.Tag == "!Ref":
			return values[n.Value]
		case n.Tag == "!If" && c.named(t, n.Content[0].Value, values):
			return value(*n.Content[1])
		case n.Tag == "!If":
			return value(*n.Content[2])
		}
		return n.Value
	}
	for _, r := range c.Resources {
		switch {
		case r.Type == "AWS::Lambda::Function":
			var environment struct {
				Variables map[string]yaml.Node `yaml:"Variables"`
			}
			node := r.Properties["Environment"]
			if err := node.Decode(&environment); err != nil {
				t.Fatal(err)
			}
			key = value(environment.Variables["BOUNCER_ENCRYPTION_KEY"])
		case r.Type == "AWS::Lambda::Permission" && c.named(t, r.Condition, values):
			asks = append(asks, value(r.Properties["Principal"])+" "+value(r.Properties["Action"])+" "+value(r.Properties["FunctionUrlAuthType"])+value(r.Properties["InvokedViaFunctionUrl"]))
		}
	}
	slices.Sort(asks)
	return key, asks
}

// terraformModule is the module's syntax tree.
type terraformModule struct{ blocks []*hclsyntax.Block }

func parseTerraform(t *testing.T) (m terraformModule) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(rig.Root(), "deploy", "lambda", "terraform", "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parsed, diags := hclsyntax.ParseConfig(text, file, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		m.blocks = append(m.blocks, parsed.Body.(*hclsyntax.Body).Blocks...)
	}
	return m
}

// scope returns what expressions see: the variables, each as value says from its type and its
// default, and the locals that depend on nothing else.
func (m *terraformModule) scope(t *testing.T, value func(name string, kind cty.Type, byDefault cty.Value) cty.Value) *hcl.EvalContext {
	t.Helper()
	variables, locals := map[string]cty.Value{}, map[string]cty.Value{}
	for _, b := range m.blocks {
		if b.Type != "variable" {
			continue
		}
		kind, diags := typeexpr.TypeConstraint(b.Body.Attributes["type"].Expr)
		byDefault := cty.NullVal(kind)
		if d := b.Body.Attributes["default"]; d != nil && !diags.HasErrors() {
			byDefault, diags = d.Expr.Value(nil)
		}
		converted, err := convert.Convert(byDefault, kind)
		if diags.HasErrors() || err != nil {
			t.Fatalf("variable %s: %v, %v", b.Labels[0], diags, err)
		}
		variables[b.Labels[0]] = value(b.Labels[0], kind, converted)
	}
	scope := &hcl.EvalContext{
		Variables: map[string]cty.Value{"var": cty.ObjectVal(variables)},
		Functions: map[string]function.Function{
			"can": tryfunc.CanFunc, "regex": stdlib.RegexFunc, "contains": stdlib.ContainsFunc, "compact": stdlib.CompactFunc,
			"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)), "nonsensitive": stdlib.MakeToFunc(cty.DynamicPseudoType),
		},
	}
	for _, b := range m.blocks {
		if b.Type != "locals" {
			continue
		}
		for name, a := range b.Body.Attributes {
			if v, diags := a.Expr.Value(scope); !diags.HasErrors() { // others name what is made
				locals[name] = v
			}
		}
	}
	scope.Variables["local"] = cty.ObjectVal(locals)
	return scope
}

// given returns the scope in which variables have values, in CloudFormation's spelling.
func (m *terraformModule) given(t *testing.T, given map[string]string) *hcl.EvalContext {
	t.Helper()
	variables := map[string]string{"zip": "lambda.zip"}
	for name, v := range given {
		variables[snakeCase(name)] = v
	}
	return m.scope(t, func(name string, _ cty.Type, byDefault cty.Value) cty.Value {
		if v, ok := variables[name]; ok {
			return cty.StringVal(v)
		}
		return byDefault
	})
}

// makes says which key the function gets, and who may ask it.
func (m *terraformModule) makes(t *testing.T, given map[string]string) (key string, asks []string) {
	t.Helper()
	scope := m.given(t, given)
	value := func(e hcl.Expression) string {
		v, diags := e.Value(scope)
		text, err := convert.Convert(v, cty.String)
		if diags.HasErrors() || err != nil || !text.IsKnown() || text.IsNull() {
			t.Fatalf("%v, %v, %#v", diags, err, v)
		}
		return text.AsString()
	}
	for _, b := range m.blocks {
		if b.Type != "resource" {
			continue
		}
		switch b.Labels[0] {
		case "aws_lambda_function":
			hclsyntax.VisitAll(b.Body, func(node hclsyntax.Node) hcl.Diagnostics {
				if object, ok := node.(*hclsyntax.ObjectConsExpr); ok {
					for _, item := range object.Items {
						if hcl.ExprAsKeyword(item.KeyExpr) == "BOUNCER_ENCRYPTION_KEY" {
							key = value(item.ValueExpr)
						}
					}
				}
				return nil
			})
		case "aws_lambda_permission":
			how := b.Body.Attributes["function_url_auth_type"]
			if how == nil {
				how = b.Body.Attributes["invoked_via_function_url"]
			}
			asks = append(asks, value(b.Body.Attributes["principal"].Expr)+" "+value(b.Body.Attributes["action"].Expr)+" "+value(how.Expr))
		}
	}
	slices.Sort(asks)
	return key, asks
}

// refusals returns what Terraform would answer to these variables, by their validations and the
// preconditions.
func (m *terraformModule) refusals(t *testing.T, given map[string]string) (texts []string) {
	t.Helper()
	scope := m.given(t, given)
	checks := 0
	var check func(blocks hclsyntax.Blocks)
	check = func(blocks hclsyntax.Blocks) {
		for _, b := range blocks {
			check(b.Body.Blocks)
			if b.Type != "validation" && b.Type != "precondition" {
				continue
			}
			checks++
			ok, diags := b.Body.Attributes["condition"].Expr.Value(scope)
			text, more := b.Body.Attributes["error_message"].Expr.Value(scope)
			if diags.HasErrors() || more.HasErrors() {
				t.Fatal(diags, more)
			}
			if ok.False() {
				texts = append(texts, text.AsString())
			}
		}
	}
	check(m.blocks)
	if checks < 5 {
		t.Fatalf("%d checks in the module", checks)
	}
	return texts
}

// Terraform must know how many of each resource there are before it makes anything, also where the
// values of variables are made in the same run: the role of Traefik, a key, a layer, a topic.
func TestTerraformCanPlanWhatItDoesNotKnowYet(t *testing.T) {
	t.Parallel()
	m := parseTerraform(t)
	for _, lock := range []string{"NONE", "AWS_IAM"} {
		unknown := 0
		scope := m.scope(t, func(name string, kind cty.Type, byDefault cty.Value) cty.Value {
			switch {
			case name == "url_auth_type":
				return cty.StringVal(lock)
			case byDefault.IsNull(), byDefault.CanIterateElements():
				unknown++
				return cty.UnknownVal(kind)
			}
			return byDefault
		})
		if unknown < 6 {
			t.Errorf("only %d variables are unknown", unknown)
		}
		counted := 0
		for _, b := range m.blocks {
			for _, name := range []string{"count", "for_each"} {
				a := b.Body.Attributes[name]
				if b.Type != "resource" || a == nil {
					continue
				}
				counted++
				if v, diags := a.Expr.Value(scope); diags.HasErrors() || !v.IsWhollyKnown() {
					t.Errorf("%s: %s cannot be planned: %#v, %v", strings.Join(b.Labels, "."), name, v, diags)
				}
			}
		}
		if counted == 0 {
			t.Error("no resource has count or for_each")
		}
		// the test must find these faults, or it would pass because it sees nothing
		for _, fault := range []string{`toset(compact([var.invoker_arn]))`, `var.invoker_arn == null ? 0 : 1`} {
			expr, diags := hclsyntax.ParseExpression([]byte(fault), "fault", hcl.InitialPos)
			if v, more := expr.Value(scope); diags.HasErrors() || more.HasErrors() || v.IsWhollyKnown() {
				t.Errorf("the planted fault %s is not found: %#v, %v, %v", fault, v, diags, more)
			}
		}
	}
}
