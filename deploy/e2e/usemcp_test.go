package e2e

import (
	"cmp"
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// webClients are MCP clients that are web pages.
var webClients = []realClient{{"use-mcp, in Chromium", []string{dcrPublic}, useUseMCP, "works"}}

// The same with a client that is a web page, in a real Chromium: the label `cors` lets it read what
// the MCP server answers.
func TestClientInAWebPage(t *testing.T) {
	t.Parallel()
	options := optionsForClients(rig.StartDocumentHost(t))
	options.Labels["cors"] = "true"
	w := rig.New(t, options)
	compareTable(t, webClients, logInAllClients(t, w, nil, webClients))
}

func useUseMCP(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	argument, err := json.Marshal(map[string]string{
		"chromium": cmp.Or(os.Getenv("CHROMIUM"), "/usr/bin/chromium"), "server": way.Server, "username": tn.Provider.Username, "password": tn.Provider.Password,
	})
	if err != nil {
		t.Fatal(err)
	}
	name := "use-mcp " + tn.Name
	if code := rig.Node(t, w.Logs, name, "../browser/usemcp.mjs", string(argument)).Wait(t); code != 0 {
		t.Fatalf("it ended with %d:\n%s", code, w.Logs.Text(name))
	}
	var result struct {
		Package, Version string
		Subs             []string
		Windows          int
	}
	asked := regexp.MustCompile(`(?m)^\{"asked":"([^"]+)"\}$`).FindStringSubmatch(w.Logs.Text(name))
	m := resulted.FindStringSubmatch(w.Logs.Text(name))
	if asked == nil || m == nil || json.Unmarshal([]byte(m[1]), &result) != nil {
		t.Fatalf("it ended with no result:\n%s", w.Logs.Text(name))
	}
	if result.Subs = slices.Compact(result.Subs); len(result.Subs) != 1 || result.Windows != 2 {
		t.Errorf("%d windows, where the page and one login need two; called by %q", result.Windows, result.Subs)
	}
	seen := tn.MCP.Requests("/mcp")
	got := loginResult{Package: result.Package, Version: result.Version, Sub: result.Subs[0], Revision: seen[len(seen)-1].Header.Get("Mcp-Protocol-Version"),
		Refused: "refreshes", Aged: "goes on"}
	u, err := url.Parse(asked[1])
	if err != nil {
		t.Fatal(err)
	}
	got.ask(u.Query())
	return got
}
