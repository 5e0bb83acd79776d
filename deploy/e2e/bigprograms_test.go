//go:build big

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// What needs the programs of programs/big, or Hydra, runs in .ci/run and in `make nightly`: the
// programs are nine tenths of what all are to load.
const bigToo = true

// The browser is on another machine, so nobody brings its answer to the port on which the program
// listens: the person pastes the address at which the browser ended.
func TestAnswerIsPastedIntoTheTerminal(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	w := rig.New(t, optionsForClients(host))
	for _, c := range []struct {
		program, file, page, line, asks, says string
		install                               func(*testing.T, site, way) *installation
	}{
		{"Claude Code", claudeCode, "claude-code.md", "claude mcp login --no-browser wiki", "paste the redirect URL here", "Authenticated with", installClaudeCode},
		{"Codex", codex, "codex.md", "codex mcp login --no-browser wiki", "Callback URL", "Successfully logged in", installCodex},
	} {
		t.Run(c.program, func(t *testing.T) {
			for _, page := range []string{c.page, "README.md"} {
				if !strings.Contains(connectPage(t, page), "`"+c.line+"`") {
					t.Errorf("docs/connect/%s does not show %s", page, c.line)
				}
			}
			way := newWay(t, w.Wiki, host, c.program, cimdOwn)
			p := c.install(t, siteOf(t, w.Wiki, w), way)
			if c.file == codex { // its command that adds a server logs in at once
				const file = ".codex/config.toml"
				config, err := os.ReadFile(filepath.Join(p.home, file))
				if err != nil {
					t.Fatal(err)
				}
				p.write(file, string(config)+fmt.Sprintf("[mcp_servers.wiki]\nurl = %q\n", way.Server))
			}
			process := p.onTerminal(p.command(c.file, strings.Fields(c.line)[1:]...))
			wrote := func() string { return w.Logs.Text(process.Name) }
			p.site.allow = func(ctx context.Context, asked *url.URL) error {
				back, err := w.Wiki.Browser().Visit(ctx, asked.String(), asked.Query().Get("redirect_uri"))
				if err != nil {
					return err
				}
				wait := func(what string, ready func() bool) {
					rig.WaitFor(t, what, func() error {
						if !ready() {
							return errors.New(wrote())
						}
						return nil
					})
				}
				wait("the question", func() bool { return strings.Contains(wrote(), c.asks) })
				process.Type(t, back.String())
				// A program that shows what is typed reads a line's end within it as a part of it.
				if c.file == claudeCode {
					wait("the answer to be shown", func() bool { return strings.Contains(wrote(), back.Query().Get("code")) })
				}
				process.Type(t, "\r")
				return nil
			}
			if !p.ends(process, c.says) {
				t.Errorf("%s does not log in:\n%s", c.program, wrote())
			}
		})
	}
}

// While the provider hangs, Claude Code goes on with an access token that bridges the outage: it
// waits once, and does not refresh before each request, as it does when a token has 300 seconds or
// less.
func TestClaudeCodeInAnOutageOfTheProvider(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	options := optionsForClients(host)
	options.Labels["world/upstreamCheckInterval"] = "0" // each refresh asks the provider
	w := rig.New(t, options)
	tn := w.World
	p := installClaudeCode(t, siteOf(t, tn, w), newWay(t, tn, host, "Claude Code", cimdOwn))
	if !p.login() {
		t.Fatal("claude mcp login")
	}
	refreshes := func() (n int) {
		for _, r := range tn.TokenRequests() {
			if r.Form.Get("grant_type") == "refresh_token" {
				n++
			}
		}
		return n
	}
	list := func(what string) {
		t.Helper()
		if !p.use() {
			t.Errorf("%s, claude mcp list does not connect", what)
		}
	}
	tn.Provider.Fault(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer tn.Provider.Fault(nil)
	before := refreshes()
	p.spoil()
	list("when it must refresh")
	first := refreshes()
	if first == before {
		t.Fatal("it did not refresh")
	}
	for range 3 {
		list("with a token that bridges the outage")
	}
	if n := refreshes(); n != first {
		t.Errorf("%d more refreshes with a token that is good", n-first)
	}
}

// docs/enterprise.md says that Codex wants its vendor's account for this, so it is not among the
// clients above. The day on which it no longer does, it belongs there.
func TestCodexWantsAnAccountForTheCompanysProvider(t *testing.T) {
	t.Parallel()
	logs := &rig.Logs{}
	p := install(t, site{name: "nowhere", logs: logs}, way{}, "@openai/codex", "big/node_modules/codex-linux-*")
	p.write(".codex/config.toml", `check_for_update_on_startup = false
[mcp_enterprise_managed_auth.idp]
issuer = "https://idp.example.com"
client_id = "codex"
client_secret = "secret"
[mcp_servers.wiki]
url = "`+connectURL+`"
auth = "ema_auth"
[mcp_servers.wiki.oauth]
client_id = "client"
`)
	login := p.start(p.command(codex, "mcp", "login", "wiki"))
	const says = "Enterprise MCP authorization is managed by Codex account sign-in"
	if said := p.attend(login, nil); login.Wait(t) == 0 || !strings.Contains(said, says) {
		t.Errorf("it does not say %q:\n%s", says, said)
	}
	if doc, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "enterprise.md")); err != nil || !strings.Contains(string(doc), says) {
		t.Errorf("docs/enterprise.md does not say so: %v", err)
	}
}
