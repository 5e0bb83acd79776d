package main

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
	"github.com/mcpbouncer/mcpbouncer/plugin"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const configurationDoc = "../../docs/configuration.md"

// docs/configuration.md is generated from the comments of the structs that are read, so it cannot
// describe another program. settings_test.go says how they are read.
//
//	go test ./cmd/mcpbouncer -run TestConfigurationDocIsCurrent -update
func TestConfigurationDocIsCurrent(t *testing.T) {
	want := configuration(t)
	if *update {
		if err := os.WriteFile(configurationDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(configurationDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is stale: go test ./cmd/mcpbouncer -run TestConfigurationDocIsCurrent -update")
	}
}

func configuration(t *testing.T) string {
	var b strings.Builder
	labels := groupsOf(t, "../../plugin/config.go", reflect.TypeFor[plugin.Config]())
	b.WriteString(`# Configuration

<!-- Generated from the comments of plugin.Config and environment by configuration_test.go in cmd/mcpbouncer. Do not edit. -->

An MCP server is configured by [labels](#labels-of-an-mcp-server), the sidecar by [environment variables](#environment-variables-of-the-sidecar).

## Labels of an MCP server

Each label is ` + "`traefik.http.middlewares.NAME.plugin.mcpbouncer.LABEL`" + `. Quote every value in YAML. A label that does not exist, or whose value cannot
be meant, is refused by name: the route then answers 503, and Traefik's log says why. [labels.md](labels.md) has the details, and the grammar of lists.

`)
	fmt.Fprintf(&b, "Required are %s.\n", requiredOf(labels, func(s setting) string { return s.field.Tag.Get("json") }))
	writeGroups(&b, labels, "label", func(s setting) (string, string) {
		separators, isList := strings.CutPrefix(s.field.Tag.Get("form"), "list by ")
		if isList {
			return s.field.Tag.Get("json"), " A list, separated by " + separators + "."
		}
		return s.field.Tag.Get("json"), ""
	})

	b.WriteString(`
## Environment variables of the sidecar

A variable that is set to nothing, or to blanks alone, counts as not set. That holds for all commands, for variables of AWS and OpenTelemetry, and for those that the plugin reads in Traefik.
`)
	variables := variablesOf()
	groups := groupsOf(t, "environment.go", reflect.TypeFor[environment]())
	groups[0].settings = append(groups[0].settings, clientSecrets)
	writeGroups(&b, groups, "variable", func(s setting) (string, string) { return variables[s.field.Name], "" })
	b.WriteString("\n### Traces\n\nVariables of OpenTelemetry, without the prefix of the others. [traces.md](traces.md) says what is sent.\n\n| variable | default | meaning |\n|---|---|---|\n")
	for _, v := range trace.Variables {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, v.Default, v.Meaning)
	}
	return b.String()
}

// clientSecrets are variables whose names the operator chooses.
var clientSecrets = setting{
	field: reflect.StructField{Name: "ClientSecrets"},
	meaning: "Client secrets of providers, which labels name as `env:NAME`. The name must end in `CLIENT_SECRET`; with `_FILE` appended it names a file instead. " +
		"On AWS Lambda the value may be `ssm:NAME` or `secretsmanager:ARN`.",
}

// variablesOf maps the fields of environment to the variables that are read into them.
func variablesOf() map[string]string {
	variables := map[string]string{"ClientSecrets": "…CLIENT_SECRET"}
	for field := range reflect.TypeFor[environment]().Fields() {
		if field.IsExported() {
			variables[field.Name] = variableOf(field.Name)
		}
	}
	return variables
}

// writeGroups writes a table for each group. name returns what an operator writes, and what its
// meaning is followed by.
func writeGroups(b *strings.Builder, groups []group, kind string, name func(setting) (string, string)) {
	for _, g := range groups {
		fmt.Fprintf(b, "\n### %s\n\n", g.title)
		if g.text != "" {
			fmt.Fprintf(b, "%s\n\n", linked(g.text))
		}
		fmt.Fprintf(b, "| %s | default | meaning |\n|---|---|---|\n", kind)
		for _, s := range g.settings {
			written, more := name(s)
			standard := s.standard
			if s.required != "" {
				standard = strings.Replace(s.required, "Required", "**required**", 1)
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", written, cell(standard), cell(linked(s.meaning)+more))
		}
	}
}

// requiredOf lists what must be set, as a sentence does.
func requiredOf(groups []group, name func(setting) string) string {
	var names []string
	for _, g := range groups {
		for _, s := range g.settings {
			if s.required != "" {
				names = append(names, "`"+name(s)+"`")
			}
		}
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

var pageName = regexp.MustCompile(`docs/([a-z-]+\.md)`)

// linked makes links of the pages that a comment names.
func linked(text string) string { return pageName.ReplaceAllString(text, "[$1]($1)") }

// cell keeps a text from ending its table cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// The plugin catalog makes a middleware of .traefik.yml's testData, in Yaegi and without a hop key,
// and lists no plugin that does not take it.
func TestCatalogsConfigurationIsTaken(t *testing.T) {
	t.Setenv("BOUNCER_HOP_KEY", "")
	manifest, err := os.ReadFile("../../.traefik.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, testData, found := strings.Cut(string(manifest), "\ntestData:\n")
	if !found {
		t.Fatal("no testData")
	}
	config := plugin.CreateConfig()
	for line := range strings.Lines(testData) {
		label, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		setLabel(t, config, label, value)
	}
	handler, err := plugin.New(t.Context(), http.NotFoundHandler(), config, "catalog")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "https://mcp.localhost/wiki/mcp", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func setLabel(t *testing.T, config *plugin.Config, label, value string) {
	t.Helper()
	fields := reflect.ValueOf(config).Elem()
	for i := range fields.NumField() {
		if fields.Type().Field(i).Tag.Get("json") == label {
			fields.Field(i).Set(reflect.ValueOf(value))
			return
		}
	}
	t.Fatalf("%q is no label", label)
}

var (
	yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	yamlLabel = regexp.MustCompile(`^(?:- )?(?:…|traefik\.http\.middlewares\.[a-z-]+\.plugin\.mcpbouncer\.)(\w+)(?:: |=)(.+?)(?: +# .*)?$`)
)

// Plugin and sidecar accept every example of labels on the pages.
func TestLabelsInThePagesAreTaken(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	e, err := loadEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BOUNCER_HOP_KEY", e.ring.HopKey())
	s, err := issuer.New(e.issuerConfig(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	sidecar := httptest.NewServer(s.Handler())
	defer sidecar.Close()
	_, pages := testsAndPages(t)
	tried := map[string]int{} // :: page → examples
	for page, text := range pages {
		for _, block := range yamlBlock.FindAllStringSubmatch(text, -1) {
			labelsOfBlock, has := labelsIn(block[1])
			if !has {
				continue
			}
			for _, labels := range examplesIn(t, page, labelsOfBlock) {
				tried[filepath.Base(page)]++
				config := plugin.CreateConfig()
				for label, value := range labels {
					setLabel(t, config, label, value)
				}
				ask := func(path string) *httptest.ResponseRecorder {
					handler, err := plugin.New(t.Context(), http.NotFoundHandler(), config, "example")
					if err != nil {
						t.Fatal(err)
					}
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, httptest.NewRequest("GET", labels["publicURL"]+path, nil))
					return w
				}
				if w := ask("/mcp"); w.Code != http.StatusUnauthorized {
					t.Errorf("%s: the plugin answers %d to\n%s", page, w.Code, block[1])
				}
				config.SidecarURL = sidecar.URL
				if w := ask("/.well-known/oauth-protected-resource"); w.Code != http.StatusOK {
					t.Errorf("%s: the sidecar answers %d %s to\n%s", page, w.Code, w.Body, block[1])
				}
			}
		}
	}
	for page, least := range map[string]int{"README.md": 1, "access.md": 2, "recipes.md": 14, "tools.md": 1, "identity.md": 3, "pages.md": 1, "secrets.md": 1} {
		if tried[page] < least {
			t.Errorf("%s: %d examples were tried, want %d at least", page, tried[page], least)
		}
	}
}

// The example of compose quotes its labels too: docker compose writes a number without quotes as
// 1.1e+20.
func TestLabelsOfTheComposeExampleAreQuoted(t *testing.T) {
	text, err := os.ReadFile("../../deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	labels := regexp.MustCompile(`(?m)^ +traefik\.http\.middlewares\.[a-z-]+\.plugin\.mcpbouncer\.\w+: (.*)$`).FindAllStringSubmatch(string(text), -1)
	for _, label := range labels {
		if !strings.HasPrefix(label[1], `"`) {
			t.Errorf("%s: put the value in quotes", label[0])
		}
	}
	if len(labels) < 12 {
		t.Errorf("%d labels were found", len(labels))
	}
}

// labelsIn returns a block of labels as it is. Of a whole compose file it returns the labels, with
// a value in place of each variable. Traefik's own configuration has no labels, and a tenants file
// has tests of its own.
func labelsIn(block string) (labels string, has bool) {
	switch first, _, _ := strings.Cut(block, "\n"); first {
	case "services:":
		for line := range strings.Lines(block) {
			if line = strings.TrimLeft(line, " "); strings.HasPrefix(line, "traefik.http.middlewares.") {
				labels += composeVariable.ReplaceAllString(line, "1234")
			}
		}
		return labels, true
	case "entryPoints:", "http:", "tenants:":
		return "", false
	}
	return block, true
}

var composeVariable = regexp.MustCompile(`\$\{\w+:\?\}`)

// examplesIn reads the labels of a block beside those that every MCP server needs. A label that
// stands there twice, to choose from, makes two examples. "…" stands for what the page leaves out.
func examplesIn(t *testing.T, page, block string) []map[string]string {
	examples := []map[string]string{{
		"publicURL": "https://mcp.localhost/wiki", "resource": "wiki", "providerIssuer": "https://accounts.google.com",
		"clientID": "1234.apps.googleusercontent.com", "clientSecret": "env:GOOGLE_CLIENT_SECRET", "sidecarURL": "http://bouncer:8080",
	}}
	seen := map[string]bool{}
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "traefik.http.routers.") || strings.Contains(line, ".ratelimit.") {
			continue
		}
		m := yamlLabel.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%s: %q is no label as the other pages write them", page, line)
			continue
		}
		label, value := m[1], strings.ReplaceAll(m[2], "…", "x")
		if inner := strings.Trim(value, `"`); len(inner) == len(value)-2 {
			value = inner
		} else if !strings.HasPrefix(line, "- ") {
			t.Errorf("%s: %q: put the value in quotes, since YAML reads some as something else", page, line)
		}
		if seen[label] {
			examples = append(examples, maps.Clone(examples[0]))
		}
		seen[label] = true
		examples[len(examples)-1][label] = value
	}
	for _, labels := range examples {
		if labels["clientAuth"] == "private_key_jwt" && !seen["clientSecret"] {
			delete(labels, "clientSecret") // as the pages say
		}
	}
	return examples
}
