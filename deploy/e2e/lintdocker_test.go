package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/lint"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// Lint and real Traefik read one Docker API. What lint says of a container is what Traefik then
// answers, and of a good one it says nothing.
func TestLintReadsTheDockerThatTraefikReads(t *testing.T) {
	t.Parallel()
	const host = "https://mcp.localhost"
	type fault struct {
		labels  map[string]string // beside those of a good one; an empty value takes one away
		health  string
		path    string
		status  int    // what Traefik answers
		says    string // a line of lint's, without the container's name; empty: none
		inLabel string // where it says so
	}
	faults := map[string]fault{
		"good":      {path: "/good/mcp", status: 401},
		"misspelt":  {labels: map[string]string{"plugin.allowedEmails": "", "plugin.allowedEmail": "you@example.com"}, path: "/misspelt/mcp", status: 503, says: "WRONG labels: unknown label allowedEmail", inLabel: ": traefik.http.middlewares.misspelt.plugin.mcpbouncer.allowedEmail"},
		"separator": {labels: map[string]string{"plugin.scopes": "openid,email"}, path: "/separator/mcp", status: 503, says: "WRONG labels: label scopes", inLabel: ": traefik.http.middlewares.separator.plugin.mcpbouncer.scopes"},
		"off":       {labels: map[string]string{"traefik.enable": "false"}, path: "/off/mcp", status: 404, says: "note router: false: Traefik reads no label of off", inLabel: ": traefik.enable"},
		"silent":    {labels: map[string]string{"traefik.enable": ""}, path: "/silent/mcp", status: 404, says: "WRONG router: exposedByDefault is false"},
		"no-truth":  {labels: map[string]string{"traefik.enable": "yes"}, path: "/no-truth/mcp", status: 404, says: "WRONG router: yes: Traefik reads no label of no-truth", inLabel: ": traefik.enable"},
		"open":      {labels: map[string]string{"traefik.http.routers.past.rule": "Host(`mcp.localhost`) && PathPrefix(`/past`)", "traefik.http.routers.past.entrypoints": "web,websecure"}, path: "/past/anything", status: 200, says: "WRONG way past: router past leads to the same server", inLabel: ": router past"},
		"index":     {labels: map[string]string{"traefik.http.routers.index.middlewares": "", "traefik.http.routers.index.middlewares[0]": "index"}, path: "/index/anything", status: 200, says: "WRONG middlewares: an index", inLabel: ": traefik.http.routers.index.middlewares[0]"},
		"narrow":    {labels: map[string]string{"traefik.http.routers.narrow.rule": "Host(`mcp.localhost`) && PathPrefix(`/narrow`)"}, path: "/.well-known/oauth-authorization-server/narrow", status: 404, says: "WRONG router: it misses /.well-known/", inLabel: ": traefik.http.routers.narrow.rule"},
		"unhealthy": {health: "unhealthy", path: "/unhealthy/mcp", status: 404, says: "WRONG router: its health is unhealthy"},
	}
	w := rig.New(t, rig.Options{})
	containers := []rig.Container{
		{Name: "traefik", Image: "traefik:v3", Env: []string{"BOUNCER_HOP_KEY=" + w.Keys.Hop}, Args: []string{
			"--providers.docker.exposedByDefault=false", "--experimental.localPlugins.mcpbouncer.moduleName=" + rig.Module, "--experimental.abortOnPluginFailure=true", "--entryPoints.web.address=:80", "--entryPoints.websecure.address=:443", "--entryPoints.websecure.http.tls=true"}},
		{Name: "db", Image: "postgres"},
	}
	// Traefik hears of the good one last: once that answers, the others are what they are.
	names := slices.Sorted(maps.Keys(faults))
	slices.SortStableFunc(names, func(a, b string) int {
		return strings.Compare(map[string]string{"good": "z"}[a], map[string]string{"good": "z"}[b])
	})
	for _, name := range names {
		f := faults[name]
		labels := map[string]string{
			"traefik.enable":                                              "true",
			"traefik.http.routers." + name + ".rule":                      "Host(`mcp.localhost`) && " + rig.PathRule("/"+name),
			"traefik.http.routers." + name + ".entrypoints":               "web,websecure",
			"traefik.http.routers." + name + ".middlewares":               name,
			"traefik.http.services." + name + ".loadbalancer.server.port": w.Wiki.MCP.Port,
		}
		options := map[string]string{"plugin.publicURL": host + "/" + name, "plugin.resource": name, "plugin.providerIssuer": w.Wiki.Provider.Issuer, "plugin.clientID": w.Wiki.Provider.ClientID,
			"plugin.clientSecret": "env:" + w.Wiki.Provider.SecretEnv, "plugin.scopes": w.Wiki.Scopes, "plugin.allowedEmails": "you@example.com", "plugin.sidecarURL": w.Front.URL}
		maps.Copy(options, f.labels)
		for label, text := range options {
			label = strings.Replace(label, "plugin.", "traefik.http.middlewares."+name+".plugin.mcpbouncer.", 1)
			if labels[label] = text; text == "" {
				delete(labels, label)
			}
		}
		containers = append(containers, rig.Container{Name: name, IP: "127.0.0.1", Port: w.Wiki.MCP.Port, Labels: labels, Health: f.health, Image: "mcp-server"})
	}
	for _, c := range containers {
		w.Docker.Run(c)
	}
	r := lint.Sources{Docker: w.Docker.URL}.Run(t.Context())
	if r.Unable != "" {
		t.Fatal(r.Unable)
	}
	slices.Reverse(names)
	for _, name := range names {
		f := faults[name]
		t.Run(name, func(t *testing.T) {
			rig.WaitFor(t, "Traefik", func() error {
				req, err := http.NewRequestWithContext(t.Context(), "GET", host+f.path, nil)
				if err != nil {
					return err
				}
				resp, err := w.HTTP().Do(req)
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != f.status {
					return fmt.Errorf("%s: %d, want %d", f.path, resp.StatusCode, f.status)
				}
				return nil
			})
			if err := lintSaid(r, name, f.inLabel, f.says); err != nil {
				t.Error(err)
			}
		})
	}
	for _, other := range []string{"db", "traefik", "wiki", "world"} {
		for _, f := range r.Findings {
			if f.Wrong() && (f.File == "container "+other || strings.HasPrefix(f.File, "container "+other+":")) {
				t.Errorf("%s: %+v", other, f)
			}
		}
	}
}

// lintSaid looks for a line about one place of a container. An empty one: there is none.
func lintSaid(r *report.Report, container, place, line string) error {
	var all []string
	for _, f := range r.Findings {
		if f.File != "container "+container && !strings.HasPrefix(f.File, "container "+container+":") {
			continue
		}
		kind := "WRONG"
		if f.Note {
			kind = "note"
		}
		text := kind + " " + f.Check + ": " + f.Seen
		if line != "" && f.File == "container "+container+place && strings.HasPrefix(text, line) {
			return nil
		}
		all = append(all, f.File+": "+text)
	}
	if line == "" && len(all) == 0 {
		return nil
	}
	return errors.New("lint says " + strings.Join(all, "\n"))
}
