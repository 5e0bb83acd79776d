package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/connect"
	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
)

// clientPages are the clients whose commands are shown, and their pages of docs/connect.
var clientPages = []struct{ name, page, before string }{
	{"Claude Code", "claude-code.md", "type"},
	{"Codex", "codex.md", "type"},
	{"VS Code", "vscode.md", "put into .vscode/mcp.json of a folder, and start the server there (MCP: List Servers)"},
	{"MCP Inspector", "inspector.md", "type"},
}

// showClients prints how each client is added to the demo's MCP server. It is the first block of
// the client's page, with this address.
func showClients(server string) error {
	fmt.Println("\nAdd it to a client, in another terminal. Each opens a page in your browser.")
	for _, c := range clientPages {
		page, err := connect.Page(c.page)
		if err != nil {
			return err
		}
		var lines []string
		if blocks := connect.Shell(page); len(blocks) > 0 {
			lines = blocks[0]
		} else if blocks := connect.JSON(page); len(blocks) > 0 {
			lines = strings.Split(blocks[0], "\n")
		}
		if !strings.Contains(strings.Join(lines, "\n"), connect.URL) {
			return fmt.Errorf("docs/connect/%s shows no %s", c.page, connect.URL)
		}
		fmt.Printf("\n%s: %s\n", c.name, c.before)
		for _, line := range lines {
			fmt.Println("    " + strings.ReplaceAll(line, connect.URL, server))
		}
	}
	fmt.Println("\nWaiting for clients. Ctrl-C ends it.")
	return nil
}

// arrivals is the sidecar's log: it says who has logged in. What the log warns of goes to standard
// error as it is.
type arrivals struct {
	mu    sync.Mutex
	names map[string]string // :: fingerprint of a client_id → client_name of the registration
}

func newArrivals() *arrivals { return &arrivals{names: map[string]string{}} }

// Write takes one line.
func (a *arrivals) Write(line []byte) (int, error) {
	var entry struct{ Level, Event, Client, Name, Document string }
	if err := json.Unmarshal(line, &entry); err != nil || entry.Level == "WARN" || entry.Level == "ERROR" {
		return os.Stderr.Write(line)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch entry.Event {
	case audit.ClientRegistered.Name:
		a.names[entry.Client] = entry.Name
	case audit.TokenIssued.Name:
		// A client with a metadata document is named by the document's URL, which nobody can forge.
		fmt.Printf("%s has logged in.\n", cmp.Or(entry.Document, a.names[entry.Client], "A client without a name"))
	}
	return len(line), nil
}
