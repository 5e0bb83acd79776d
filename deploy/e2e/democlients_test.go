package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The commands that `make demo-clients` prints are run by the real programs, each on the computer
// of somebody who has nothing else. The demo says who has logged in. Here nobody can read documents
// on the internet, so the programs register.
func TestDemoClientsPrintsWhatProgramsRun(t *testing.T) {
	t.Parallel()
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", demo, "./cmd/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	logs, addr := &rig.Logs{}, fmt.Sprintf("localhost:%d", rig.FreePort(t))
	process := rig.StartProcess(t, logs, "demo", exec.Command(demo, "-clients", "-documents=false", "-addr", addr))
	printed := ""
	says := func(what string) {
		t.Helper()
		rig.WaitFor(t, what, func() error {
			if text := strings.TrimPrefix(logs.Text(process.Name), printed); !strings.Contains(text, what) {
				return errors.New(text)
			}
			return nil
		})
	}
	says("Waiting for clients.")
	printed = logs.Text(process.Name)
	commands := func(client string) (lines []string) {
		_, rest, _ := strings.Cut(printed, "\n"+client+": ")
		_, rest, _ = strings.Cut(rest, "\n")
		block, _, _ := strings.Cut(rest, "\n\n")
		for line := range strings.Lines(block) {
			lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "    "))
		}
		return lines
	}
	person := site{"demo", logs, func(ctx context.Context, asked *url.URL) error {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return err
		}
		browser := &rig.Browser{Client: &http.Client{Jar: jar}, Username: "test-user@localhost", Password: "verysecure"}
		back, err := browser.Visit(ctx, asked.String(), asked.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		rig.WaitFor(t, "the program to listen", func() error { // some print the URL before
			_, err := browser.Load(ctx, back.String())
			return err
		})
		return nil
	}, nil}
	const inspector = "node_modules/@modelcontextprotocol/inspector"
	for _, c := range []struct {
		name, folder, file string
		words              int // of each command that stand for the file
		registers          string
		env                []string
	}{
		{"MCP Inspector", inspector, inspector + "/clients/launcher/build/index.js", 2, "MCP Inspector", []string{"MCP_AUTO_OPEN_ENABLED=true"}},
		{"Codex", "big/node_modules/codex-linux-*", codex, 1, "Codex", nil},
		{"Claude Code", "big/node_modules/claude-code-linux-*", claudeCode, 1, "Claude Code", []string{"DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "TERM=xterm"}},
	} {
		if !isInstalled(c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			lines := commands(c.name)
			if len(lines) == 0 || !strings.Contains(lines[0], "http://"+addr+"/wiki/mcp") {
				t.Fatalf("the demo prints %q", lines)
			}
			p := install(t, person, way{}, c.name, c.folder, c.env...)
			for _, line := range lines {
				if !p.ends(p.onTerminal(p.command(c.file, strings.Fields(line)[c.words:]...)), "") {
					t.Fatalf("%s fails", line)
				}
			}
			if len(p.asked) != 1 {
				t.Errorf("%d pages were opened", len(p.asked))
			}
			says(c.registers)
			says("has logged in.")
		})
	}
	// VS Code has a window, and no command: what is printed is its file.
	var file struct {
		Servers map[string]struct{ Type, URL string }
	}
	if err := json.Unmarshal([]byte(strings.Join(commands("VS Code"), "\n")), &file); err != nil || file.Servers["wiki"].URL != "http://"+addr+"/wiki/mcp" {
		t.Errorf("for VS Code the demo prints %+v, %v", file, err)
	}
	if status := process.Terminate(t); status != 0 {
		t.Errorf("the demo ends with %d", status)
	}
}
