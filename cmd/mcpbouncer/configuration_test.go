package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/kelseyhightower/envconfig"

	"github.com/mcpbouncer/mcpbouncer/plugin"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const configurationDoc = "../../docs/configuration.md"

// docs/configuration.md is generated from the structs that are read, so it cannot describe another program:
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
	b.WriteString(`# Configuration

<!-- Generated from the configuration structs by cmd/mcpbouncer/configuration_test.go. Do not edit. -->

## Labels of an MCP server

Each label is ` + "`traefik.http.middlewares.NAME.plugin.mcpbouncer.LABEL`" + `. Values are text. A label that does not exist is refused by
name: the route then answers 503 and Traefik's log says why.

| label | required | default | meaning |
|---|---|---|---|
`)
	for f := range reflect.TypeFor[plugin.Config]().Fields() {
		name := f.Tag.Get("json")
		if name == "-" {
			continue
		}
		if f.Tag.Get("desc") == "" {
			t.Errorf("label %s has no description", name)
		}
		required := ""
		if f.Tag.Get("required") == "true" {
			required = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, required, cell(f.Tag.Get("default")), cell(f.Tag.Get("desc")))
	}
	b.WriteString(`
Traefik itself needs the hop key: its environment variable ` + "`BOUNCER_HOP_KEY`" + `, or a file that the label ` + "`hopKeyFile`" + ` names.

## Environment variables of the sidecar

| variable | default | meaning |
|---|---|---|
`)
	template := "{{range .}}| `{{usage_key .}}` | {{usage_default .}} | {{usage_description .}} |\n{{end}}"
	if err := envconfig.Usagef(variablePrefix, &environment{}, &b, template); err != nil {
		t.Fatal(err)
	}
	b.WriteString(`| ` + "`…CLIENT_SECRET`" + ` | | Upstream client secrets that labels name as ` + "`env:NAME`" + `. The name must end in CLIENT_SECRET; with _FILE appended it names a file instead. On AWS Lambda its value may be ssm:NAME or secretsmanager:ARN. |
`)
	return b.String()
}

// cell keeps a text from ending its table cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// The plugin catalog makes a middleware of .traefik.yml's testData, in Yaegi and without a hop key, and lists no plugin that does not take it.
func TestTheCatalogsConfigurationIsTaken(t *testing.T) {
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
	labels := map[string]reflect.Value{} // :: label → field
	fields := reflect.ValueOf(config).Elem()
	for i := range fields.NumField() {
		labels[fields.Type().Field(i).Tag.Get("json")] = fields.Field(i)
	}
	for line := range strings.Lines(testData) {
		label, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		field, ok := labels[label]
		if !ok {
			t.Fatalf("%q is no label", label)
		}
		field.SetString(value)
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
