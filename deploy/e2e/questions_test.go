package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The commands of docs/questions.md, in the order of the page, against a stack at which two people
// have logged in. Each prints what its section says that it prints.
func TestQuestionsOfADay(t *testing.T) {
	t.Parallel()
	d := &drill{T: t, s: newStack(t)}
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "questions.md"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := d.s.run(strings.Join(commandsOfRunbooks(t)["README"][:1], "\n"), nil); err != nil {
		t.Fatalf("the deny document: %v\n%s", err, out)
	}
	d.logins = d.people()
	wiki, editor, chat := d.s.w.Wiki, d.login(annsEditor), d.login(annsChat)
	for _, l := range d.logins {
		d.wantIn(l, "before", true) // a line of the access log
	}
	if answer := editor.oauth.Refresh("mbr1_nothing"); answer.Status != 400 {
		t.Fatalf("a refresh token that is none: %s", answer)
	}
	if answer := editor.oauth.Get("/anything", ""); answer.Status != 401 {
		t.Fatalf("a call without a token: %s", answer)
	}
	for _, c := range composeContainers(t, d.s.w, d.s.project()) {
		for name := range c.Labels {
			if middleware, ok := strings.CutSuffix(name, ".sidecarURL"); ok && c.Name == "wiki" {
				c.Labels[middleware+".displayName"] = "Our wiki"
				d.s.w.Docker.Run(c)
			}
		}
	}

	variables := map[string]string{"ISSUER": wiki.Provider.Issuer, "SUB": editor.claims.Subject, "FAMILY": chat.claims.Family}
	// :: command, or the beginning of one → what it prints: regular expressions.
	wants := [][]string{
		{`(?m)^status +ok$`, `(?m)^masters +[0-9a-f]+$`, `(?m)^next key +\S+Z \(in [0-9.]+ days; epoch \d+ signs now\)$`, `guard`},
		{`"event":"token.issued","tenant":"wiki"`, `"family":"` + editor.claims.Family + `"`, `"subject":"[\w-]{16}"`},
		{`^4\n$`},
		{`"RouterName":"wiki@docker".*"request_X-Mcp-Sub":"` + regexp.QuoteMeta(editor.claims.Subject) + `"`},
		{`"msg":"request refused".*"issuer":"` + regexp.QuoteMeta(wiki.PublicHTTPS()) + `".*"cause":"`},
		{`"DownstreamStatus":401`},
		{`"msg":"provider asked".*"provider":"` + regexp.QuoteMeta(wiki.Provider.Issuer)},
		{`"msg":"serving"`, `"msg":"who may come in"`, `"msg":"label changed".*"label":"displayName".*"now":"Our wiki"`},
		{`(?m)^[\w-]{16}  ` + regexp.QuoteMeta(wiki.PublicHTTPS()) + `$`, `(?m)^  login ` + editor.claims.Family + `  client [\w-]{16}  first \S+, last \S+$`, `(?m)^  login ` + chat.claims.Family + ` `},
		{`(?m)^[\w-]{16}  ` + regexp.QuoteMeta(editor.claims.Subject+" at "+wiki.PublicHTTPS()+", of the provider "+wiki.Provider.Issuer) + `$`,
			`(?m)^  mcpbouncer deny user '` + regexp.QuoteMeta(wiki.Provider.Issuer) + `' '` + regexp.QuoteMeta(editor.claims.Subject) + `'$`},
		{`^family ` + chat.claims.Family + ` is denied; serial \d+\n$`},
	}
	blocks := blocksOf(t, string(page))
	if len(blocks) != len(wants) {
		t.Fatalf("the page has %d blocks of commands, and this table %d", len(blocks), len(wants))
	}
	var printed []string
	for i, block := range blocks {
		rig.WaitFor(t, block, func() error {
			out, err := d.s.run(block, variables)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			for _, want := range wants[i] {
				if !regexp.MustCompile(want).MatchString(out) {
					return fmt.Errorf("it does not print %s:\n%.3000s", want, out)
				}
			}
			if strings.Contains(block, "who --issuer") {
				variables["PSEUDONYM"] = out[:16]
			}
			printed = append(printed, out)
			return nil
		})
	}
	// The command that who prints does what it says.
	said := printed[len(printed)-2]
	command := strings.TrimSpace(said[strings.LastIndex(said, "\n  mcpbouncer deny"):])
	if out, err := d.s.run(command+" --file deny/deny.json", nil); err != nil || !strings.Contains(out, "is denied; serial") {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	d.s.restart("bouncer")
	d.s.restart("traefik")
	for _, l := range d.logins {
		d.wantIn(l, "afterwards", l != editor && l != chat)
	}
	for _, out := range printed {
		for _, found := range d.s.w.Secrets.In(out) {
			t.Errorf("a %s was printed", found)
		}
	}
}
