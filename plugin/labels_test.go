//go:build go1.21

package plugin

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// The values are as Traefik's providers hand them over: text, and what JSON, YAML and TOML make of
// numbers, booleans, lists and tables.
func TestTypedLabelsAreTakenAsWhatTheyMean(t *testing.T) {
	for _, c := range []struct {
		label string
		value any
		same  any // the text that means the same
	}{
		{"scopes", []any{"openid", "email"}, "openid email"},
		{"requiredScopes", []string{"wiki:read", " wiki:write "}, "wiki:read wiki:write"},
		{"allowedEmails", []any{"a@example.com", "b@example.com"}, "a@example.com,b@example.com"},
		{"allowedDomains", []any{"example.com", ""}, "example.com"},
		{"allowedGroups", []any{"Wiki Admins", "staff"}, "Wiki Admins,staff"},
		{"allowedSubjects", []any{"110169484474386268160"}, "110169484474386268160 "},
		{"mcpPaths", []any{"/mcp", "/sse"}, "/mcp,/sse"},
		{"scopeRules", []any{"group:cn=a,ou=b=x y", "*=z"}, "group:cn=a,ou=b=x y; *=z"},
		{"toolScopes", []any{"delete_page=wiki:write", "*=wiki:read"}, "delete_page=wiki:write; *=wiki:read"},
		{"identityHeaders", []any{"email=X-User", "groups"}, "email=X-User,groups"},
		{"clientID", []any{"abc"}, "abc"},
		{"scopes", []any{}, ""},
		{"scopes", nil, ""},
		{"scopes", "  ", ""},
		{"publicURL", " ", ""},
		{"generation", 3, "3"},
		{"generation", int64(3), "3"},
		{"generation", uint64(3), "3"},
		{"generation", float64(3), "3"},
		{"jwksCacheTTLSeconds", float64(600), "600"},
		{"upstreamCheckInterval", 0, "0"},
		{"rememberConsent", 0, "0"},
		{"displayName", float64(2026), "2026"},
		{"resource", 2026, "2026"},
		{"dpop", false, "off"},
	} {
		if c.label == "allowedSubjects" { // the text alone would be refused: see below
			c.same = "110169484474386268160,110169484474386268160"
			c.value = []any{"110169484474386268160", "110169484474386268160"}
		}
		typed := wikiConfig("http://127.0.0.1:1")
		plain := wikiConfig("http://127.0.0.1:1")
		if c.value != nil {
			putLabel(t, typed, c.label, c.value)
		}
		putLabel(t, plain, c.label, c.same)
		one, err := parseConfig(typed)
		two, errPlain := parseConfig(plain)
		if err != nil || errPlain != nil {
			t.Errorf("%s %v: %v; as text: %v", c.label, c.value, err, errPlain)
			continue
		}
		if one.told != two.told || !reflect.DeepEqual(one.rules, two.rules) || !reflect.DeepEqual(one.identityHeaders, two.identityHeaders) || one.hide != two.hide || one.keysTTL != two.keysTTL {
			t.Errorf("%s %v: %s, as text %s", c.label, c.value, one.told, two.told)
		}
	}
	for _, c := range []struct {
		value any
		want  bool
	}{{true, true}, {false, false}, {1, true}, {0, false}, {float64(1), true}, {"1", true}, {"0", false}, {"True", true}, {" false ", false}, {"", false}, {[]any{"true"}, true}} {
		config := wikiConfig("http://127.0.0.1:1")
		config.ToolScopes = "a=x"
		config.HideTools = c.value
		config.CORS = c.value
		s, err := parseConfig(config)
		if err != nil || s.hide != c.want || s.cors != c.want {
			t.Errorf("hideTools and cors %v: %v", c.value, err)
		}
	}
}

func TestTypedLabelsThatCannotBeMeantAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		label string
		value any
		want  string
	}{
		{"toolScopes", map[string]any{"a": "x"}, "give text or a list of texts"},
		{"toolScopes", map[string]any{"0": "a=x"}, "give text or a list of texts"},
		{"toolScopes", []any{map[string]any{"a": "x"}}, "element 1 of the list is not a text"},
		{"requiredScopes", []any{"a", []any{"b"}}, "element 2 of the list is not a text"},
		{"requiredScopes", []any{"a", nil}, "element 2 of the list is not a text"},
		{"requiredScopes", true, "give text or a list of texts"},
		{"scopes", []any{"openid email"}, "holds what separates"},
		{"toolScopes", []any{"a=x; b=y"}, "holds what separates"},
		{"allowedEmails", []any{"a@example.com, b@example.com"}, "holds what separates"},
		{"allowedEmails", []any{}, "names nobody"},
		{"allowedEmails", []any{"", " "}, "names nobody"},
		{"allowedEmails", []any{""}, "names nobody"},
		{"allowedSubjects", []string{" "}, "names nobody"},
		{"scopeRules", []any{""}, "names nobody"},
		{"allowedClients", []any{}, "names nobody"},
		{"toolScopes", []any{}, "holds no rule"},
		{"toolScopes", []any{""}, "holds no rule"},
		{"allowedGroups", []any{"cn=admins,ou=wiki"}, "holds what separates"},
		{"allowedSubjects", 42, "a number cannot stand here"},
		{"allowedSubjects", float64(110169484474386276334), "a number cannot stand here"},
		{"allowedSubjects", []any{float64(110169484474386276334)}, "element 1 of the list is not a text"},
		{"allowedSubjects", "1.1016948447438627e+20", "a number cannot stand here"},
		// the file provider rounds …276334 to this
		{"allowedSubjects", "110169484474386268160", "a number cannot stand here"},
		{"allowedGroups", "1.5", "a number cannot stand here"},
		{"allowedGroups", "1.500000", "a number cannot stand here"},
		{"clientID", 259242039378444290, "a number cannot stand here"},
		{"clientID", float64(259242039378444290), "a number cannot stand here"},
		{"clientID", "2.5924203937844429e+17", "a number cannot stand here"},
		{"clientID", true, "a boolean cannot stand here"},
		{"clientID", []any{1}, "give one text"},
		{"clientID", []any{"a", "b"}, "a list or a table cannot stand here"},
		{"clientID", map[string]any{}, "a list or a table cannot stand here"},
		{"clientSecret", 12345678, "a number cannot stand here"},
		{"audience", "1.500000", "a number cannot stand here"},
		{"audience", 1.5, "a number cannot stand here"},
		{"resource", 1e300, "a number cannot stand here"},
		{"displayName", "+Inf", "a number cannot stand here"},
		{"exchange", false, "a boolean cannot stand here"},
		{"generation", 1.5, "a number cannot stand here"},
		{"generation", true, "a boolean cannot stand here"},
		{"upstreamCheckInterval", 60, "give a duration"},
		{"rememberConsent", 24, "give a duration"},
		{"rememberConsent", true, "a boolean cannot stand here"},
		{"hideTools", 2, "give true or false"},
		{"hideTools", 1.5, "give true or false"},
		{"hideTools", "yes", "give true or false"},
		{"hideTools", []any{"true", "false"}, "a list or a table"},
	} {
		config := wikiConfig("http://127.0.0.1:1")
		putLabel(t, config, c.label, c.value)
		_, err := parseConfig(config)
		if err == nil || !strings.HasPrefix(err.Error(), "label "+c.label+": ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "12345678") {
			t.Errorf("%s %v: %v, want %q", c.label, c.value, err, c.want)
		}
	}
	// These identifiers only look a little like numbers.
	for _, subject := range []string{"110169484474386276334", "42", "0123", "507e21", "12345678901234567890e34", "1.5.0", "00u1a2b3", "-", "1e5"} {
		config := wikiConfig("http://127.0.0.1:1")
		config.AllowedSubjects = subject
		config.ClientID = subject
		if _, err := parseConfig(config); err != nil {
			t.Errorf("subject %s: %v", subject, err)
		}
	}
	config := wikiConfig("http://127.0.0.1:1")
	config.Extra = map[string]any{"toolScope": []any{"a=x"}, "b": map[string]any{"c": 1}}
	if _, err := parseConfig(config); err == nil || !strings.Contains(err.Error(), `unknown label "b", "toolScope"`) {
		t.Errorf("misspelt labels: %v", err)
	}
}

// Traefik's decoder refuses nothing that goes into an interface, and drops the router of what it
// refuses.
func TestLabelsHaveNoTypeThatADecoderCouldRefuse(t *testing.T) {
	fields := reflect.TypeOf(CreateConfig()).Elem()
	known := reflect.TypeOf(labelTexts{})
	for i := 0; i < fields.NumField(); i++ {
		f := fields.Field(i)
		if f.Name == "Extra" {
			continue
		}
		if f.Type.Kind() != reflect.Interface || f.Type.NumMethod() != 0 {
			t.Errorf("%s is of type %s", f.Name, f.Type)
		}
		if _, ok := known.FieldByName(f.Name); !ok {
			t.Errorf("nobody reads %s", f.Name)
		}
	}
	if fields.NumField() != known.NumField()+1 {
		t.Errorf("%d labels, %d are read", fields.NumField()-1, known.NumField())
	}
	// Each label is read under its own name.
	for i := 0; i < fields.NumField(); i++ {
		label := fields.Field(i).Tag.Get("json")
		if label == "-" {
			continue
		}
		config := wikiConfig("http://127.0.0.1:1")
		putLabel(t, config, label, map[string]any{"a": "b"})
		if _, err := readLabels(config); err == nil || !strings.HasPrefix(err.Error(), "label "+label+": ") {
			t.Errorf("%s is read under another name: %v", label, err)
		}
	}
}

// Compose files and charts leave labels empty: each one that is set to nothing is as if it were not
// there. A required one is then missing.
func TestLabelsSetToNothingAreNotSet(t *testing.T) {
	read := func(c *Config) string {
		s, err := parseConfig(c)
		if err != nil {
			return err.Error()
		}
		s.sidecar = nil // of which the address in memory would be printed
		return fmt.Sprintf("%s %+v", encodePayload(quote(wikiURL), s.told), *s)
	}
	for _, f := range labelFields {
		config := wikiConfig("http://127.0.0.1:1")
		field := reflect.ValueOf(config).Elem().Field(f.from)
		field.Set(reflect.Zero(field.Type()))
		want := read(config)
		for _, nothing := range []string{"", " ", " \t\n"} {
			config := wikiConfig("http://127.0.0.1:1")
			putLabel(t, config, f.label, nothing)
			if got := read(config); got != want {
				t.Errorf("%s=%q is read as %s\nwant %s", f.label, nothing, got, want)
			}
		}
	}
}
