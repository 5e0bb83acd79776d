package audit

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/audit.md")

const page = "../../docs/audit.md"

// docs/audit.md is generated from the table.
//
//	go test ./issuer/audit -run TestAuditDocIsCurrent -update
func TestAuditDocIsCurrent(t *testing.T) {
	want := auditPage()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/audit.md is stale: go test ./issuer/audit -run TestAuditDocIsCurrent -update")
	}
}

func auditPage() string {
	var b strings.Builder
	b.WriteString(`# The audit log

<!-- Generated from package audit by its test. Do not edit. -->

The sidecar writes one JSON line for each decision. The attribute ` + "`event`" + ` names its kind, and never changes. ` + "`msg`" + ` is for people, and may change.

- Lines without ` + "`event`" + ` are not decisions: warnings about the set-up, or how long a provider took. [troubleshooting.md](troubleshooting.md) has those.
- No field holds a token, a code or a secret. A person is a pseudonym. Lines about labels hold what stands in the labels, other than secrets.
- ` + "`BOUNCER_LOG_SUBJECTS=true`" + ` adds the provider's subject to each event that has the pseudonym. The log then says who somebody is: keep it accordingly.
- With [traces](traces.md) on, an event of a traced request that names a tenant has ` + "`trace_id`" + ` too.
- An event is written at its level. ` + "`BOUNCER_LOG_LEVEL=warn`" + ` drops most of them.
- What happens between a client and the MCP server is not here: the sidecar does not see it. [calls.md](calls.md) has the calls.

To see who was refused, and why:

` + "```sh" + `
docker compose logs --no-log-prefix bouncer | grep '"event":"person.refused"'
` + "```" + `

## Events

| event | level | when |
|---|---|---|
`)
	level := func(e Event) string {
		text := strings.ToLower(e.Level.String())
		if e.Raised != 0 {
			text += " or " + strings.ToLower(e.Raised.String())
		}
		return text
	}
	for _, e := range All() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", e.Name, anchor(e.Name), level(e), e.Meaning)
	}
	b.WriteString("\n## Fields\n\nEach line also has `time`, `level`, `msg` and `event`. Times in fields are UTC, as in RFC 3339.\n")
	refusals := ""
	for _, e := range All() {
		fmt.Fprintf(&b, "\n### `%s`\n\n`msg` is `%s`.", e.Name, e.Message)
		if len(e.Fields) == len(refusal) && &e.Fields[0] == &refusal[0] {
			if refusals != "" {
				fmt.Fprintf(&b, " The fields are those of [`%s`](#%s).\n", refusals, anchor(refusals))
				continue
			}
			refusals = e.Name
		}
		b.WriteString("\n\n| field | meaning |\n|---|---|\n")
		for _, f := range e.Fields {
			name := "`" + f.Name + "`"
			if f.Optional {
				name += ", not always"
			}
			fmt.Fprintf(&b, "| %s | %s |\n", name, f.Meaning)
		}
	}
	return b.String()
}

// anchor is what a heading of that name becomes on a page.
func anchor(name string) string { return strings.ReplaceAll(name, ".", "") }

func TestAuditEventsAreDeclaredWell(t *testing.T) {
	names := map[string]bool{}
	for _, e := range All() {
		noun, participle, ok := strings.Cut(e.Name, ".")
		if !ok || noun == "" || participle == "" || e.Name != strings.ToLower(e.Name) || names[e.Name] {
			t.Errorf("the name %q", e.Name)
		}
		names[e.Name] = true
		if e.Message == "" || !strings.HasSuffix(e.Meaning, ".") || len(e.Fields) == 0 {
			t.Errorf("%s is not explained", e.Name)
		}
		fields := map[string]bool{"time": true, "level": true, "msg": true, "event": true}
		for _, f := range e.Fields {
			if fields[f.Name] || f.Meaning == "" {
				t.Errorf("%s: the field %q is repeated or not explained", e.Name, f.Name)
			}
			fields[f.Name] = true
		}
	}
	if _, ok := LoginEnded.Field("because"); !ok {
		t.Error("Field finds nothing")
	}
	if _, ok := LoginEnded.Field("nothing"); ok {
		t.Error("Field finds what is not there")
	}
}
