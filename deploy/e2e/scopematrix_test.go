package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// pageHeading is the heading of a page that a login ended on.
var pageHeading = regexp.MustCompile(`(?s)<h1[^>]*>(.*?)</h1>`)

// Where scopes are required, each SDK logs in and calls a tool, or the person is told why not:
// without rules, with rules that give the person what is required, and with rules that do not;
// below a path, with and without the router rule for clients that look at the root, and on a host
// of its own. docs/clients.md has the table; with -matrix every cell is measured, else those of a
// few SDKs.
func TestRequiredScopesWithEachSDK(t *testing.T) {
	t.Parallel()
	table := newTable("clients.md", "SDK", "version")
	const below, root, own = "below a path", "below a path, with the rule for the root", "own host"
	rules := []struct{ name, label string }{
		{"no rules", ""},
		{"rules that give", "*=docs:read docs:write"},
		{"rules that do not give", "*=docs:write"},
	}
	for _, rule := range rules {
		for _, place := range []string{below, root, own} {
			table.columns = append(table.columns, rule.name+", "+place)
		}
	}
	t.Run("with", func(t *testing.T) {
		for _, rule := range rules {
			if !*matrix && rule.name != "rules that give" {
				continue
			}
			t.Run(rule.name, func(t *testing.T) {
				t.Parallel()
				options := rig.Options{Labels: map[string]string{"requiredScopes": "docs:read"}, Stateless: []string{"wiki"}, More: []string{"own"}, OwnHost: "own"}
				if rule.label != "" {
					options.Labels["scopeRules"] = rule.label
				}
				w := rig.New(t, options)
				for _, place := range []string{below, own, root} {
					tn := w.Wiki
					switch place {
					case own:
						tn = w.More["own"]
					case root:
						options.Root = "wiki"
						w.Relabel(tn, options)
						rig.WaitFor(t, "the rule for the root", func() error {
							resp, err := w.HTTP().Get(strings.TrimSuffix(tn.PublicHTTP(), "/wiki") + "/.well-known/oauth-protected-resource")
							if err != nil {
								return err
							}
							resp.Body.Close()
							if resp.StatusCode != 200 {
								return errors.New(resp.Status)
							}
							return nil
						})
					}
					for _, sdk := range sdksOnBadDays {
						if !*matrix && !sdk.sample {
							continue
						}
						version, got := tryToCall(t, tn, w, sdk, place, way{AuthMethod: "none"})
						t.Logf("%s, %s, %s: %s", sdk.name, rule.name, place, got)
						table.set([]string{sdk.name, version}, rule.name+", "+place, got)
					}
				}
			})
		}
	})
	var rows []string
	for _, sdk := range sdksOnBadDays {
		rows = append(rows, sdk.name)
	}
	table.compare(t, rows)
}

// tryToCall says what a person sees who logs in with an application and calls a tool.
func tryToCall(t *testing.T, tn *rig.Tenant, w *rig.World, sdk sdkOnBadDays, place string, by way) (version, got string) {
	t.Helper()
	by.Server, by.Redirect = tn.PublicHTTP()+"/mcp", callbackPath
	argument, err := json.Marshal(by)
	if err != nil {
		t.Fatal(err)
	}
	heading := ""
	person := personAt(tn)
	a := startApplication(t, w.Logs, sdk.name+" "+place, sdkCommand(t, nil, sdk.program, string(argument), sdk.args...), func(ctx context.Context, start string) error {
		err := person(ctx, start)
		var page *rig.Page
		if errors.As(err, &page) {
			heading = strings.TrimSpace(pageHeading.FindStringSubmatch(page.Body + "<h1></h1>")[1])
		}
		return err
	})
	defer a.process.Kill()
	version = sdkVersion(t, sdk)
	answer := a.answer()
	if answer.Ready != nil {
		answer = a.tell("call")
	}
	switch {
	case answer.Called != nil:
		return version, "works"
	case heading != "":
		return version, fmt.Sprintf("a page, “%s”", heading)
	case len(a.opened) == 0:
		return version, "does not get to the login"
	}
	return version, "fails, `" + lastPart(answer.Failed) + "`"
}

// sdkVersion reads which version of an SDK its application is made with.
func sdkVersion(t *testing.T, sdk sdkOnBadDays) string {
	t.Helper()
	file, pattern := "sdks/go.mod", ""
	switch sdk.program {
	case "gosdk":
		pattern = `/go-sdk v(\S+)`
	case "mcpgo":
		pattern = `/mcp-go v(\S+)`
	case "gosdk-oldest":
		file, pattern = "sdks/oldest.mod", `/go-sdk v(\S+)`
	case "mcpgo-oldest":
		file, pattern = "sdks/oldest.mod", `/mcp-go v(\S+)`
	default:
		folder := map[string]string{"client-v1.mjs": "@modelcontextprotocol/sdk", "client-v2.mjs": "@modelcontextprotocol/client", "client-ai.mjs": "@ai-sdk/mcp"}[sdk.program]
		if len(sdk.args) > 0 {
			folder = sdk.args[0]
		}
		file, pattern = "node/node_modules/"+folder+"/package.json", `"version": "([^"]+)"`
	}
	b, err := os.ReadFile(rig.Installed(t, file))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(pattern).FindSubmatch(b)
	if found == nil {
		t.Fatalf("%s names no version", file)
	}
	return string(found[1])
}
