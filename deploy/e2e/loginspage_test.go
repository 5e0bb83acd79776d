package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The commands of docs/logins.md, in the order of the page, against a stack at which four logins
// began and one was revoked. kubectl and aws write the stack's log as they write a pod's and a
// function's.
func TestLoginsPageIsTrue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "logins.md"))
	if err != nil {
		t.Fatal(err)
	}
	d := &drill{T: t, s: newStack(t)}
	d.logins = d.people()
	for _, l := range d.logins {
		d.wantIn(l, "before", true)
	}
	editor, bob := d.login(annsEditor), d.login(bobsEditor)
	form := url.Values{"token": {bob.refresh}, "client_id": {bob.oauth.ClientID}}
	if answer := bob.oauth.Do(http.MethodPost, bob.oauth.Meta.RevocationEndpoint, formHeader, []byte(form.Encode())); answer.Status != http.StatusOK {
		t.Fatalf("revocation: %s", answer)
	}
	for name, c := range map[string]struct{ args, prefix string }{
		"kubectl": {"logs --since=720h --prefix -l app=mcpbouncer --tail=-1", "[pod/mcpbouncer-5d8f7c/bouncer] "},
		"aws":     {"logs tail /aws/lambda/mcpbouncer --since 30d", "2026-11-30T08:00:00.123000+00:00 2026/11/30/[$LATEST]0a1b2c3d "},
	} {
		script := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = '%s' ] || exit 2\ndocker compose logs --no-log-prefix bouncer | while read -r line; do printf '%%s%%s\\n' '%s' \"$line\"; done\n", c.args, c.prefix)
		if err := os.WriteFile(filepath.Join(d.s.bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range d.s.w.Replicas {
		d.s.write(fmt.Sprintf("bouncer-%d.log", i+1), d.s.w.Logs.Text(r.Name))
	}

	living := []string{`^Logged in at \S+ \S+Z: logins: 3, people and machines: 2\.\n`}
	for _, l := range d.logins {
		if l != bob {
			living = append(living, `(?m)^living +[\w-]{16} +`+l.tn.Name+` .* `+l.claims.Family+`$`)
		}
	}
	ended := `(?m)^ended +[\w-]{16} +wiki .* ` + bob.claims.Family + ` +its client revoked it$`
	// :: command → what it prints: regular expressions.
	wants := [][]string{
		living,
		append([]string{ended}, living...),
		{`(?m)^[\w-]{16}  ` + regexp.QuoteMeta(editor.claims.Subject+" at "+editor.tn.PublicHTTPS()) + `,`, `(?m)^  login ` + editor.claims.Family + ` `},
		living, living,
		append([]string{ended}, living...),
	}
	blocks := blocksOf(t, string(page))
	if len(blocks) != len(wants) {
		t.Fatalf("the page has %d blocks of commands, and this table %d", len(blocks), len(wants))
	}
	variables := map[string]string{"LOGGROUP": "/aws/lambda/mcpbouncer"}
	for i, block := range blocks {
		rig.WaitFor(t, block, func() error { // Traefik writes its access log a little later
			out, err := d.s.run(block, variables)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			for _, want := range wants[i] {
				if !regexp.MustCompile(want).MatchString(out) {
					return fmt.Errorf("it does not print %s:\n%.3000s", want, out)
				}
			}
			for line := range strings.Lines(out) {
				if fields := strings.Fields(line); strings.Contains(line, editor.claims.Family) && fields[0] == "living" {
					variables["PSEUDONYM"] = fields[1]
				}
			}
			return nil
		})
	}
}
