package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// asList writes each label of a file as an element of a list.
func asList(content string) string {
	listed := strings.Builder{}
	for _, line := range strings.SplitAfter(content, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && strings.Contains(name, "traefik.") {
			line = "      - '" + strings.TrimSpace(name) + "=" + strings.Trim(strings.TrimSpace(value), `"`) + "'\n"
		}
		listed.WriteString(line)
	}
	return listed.String()
}

// another is the good file with more labels, one a line without its prefix.
func another(t *testing.T, more string) string {
	labels := ""
	for _, line := range strings.Split(strings.TrimSpace(more), "\n") {
		labels += "      traefik.http." + strings.TrimSpace(line) + "\n"
	}
	const before = "      traefik.http.services.wiki"
	return strings.Replace(goodFile(t), before, labels+before, 1)
}

const staticOfTwoEntryPoints = `entryPoints:
  web: {address: ":80"}
  websecure: {address: ":443", http: {tls: {}}}
experimental:
  abortOnPluginFailure: true
  plugins:
    mcpbouncer: {moduleName: github.com/mcpbouncer/mcpbouncer}
    rewrite: {moduleName: github.com/traefik/plugin-rewritebody}
`

// lintWith reads a compose file, and a static file unless it is empty.
func lintWith(t *testing.T, compose, static string) *report.Report {
	dir := t.TempDir()
	files := []string{}
	for name, content := range map[string]string{"compose.yaml": compose, "traefik.yaml": static} {
		if content != "" {
			files = append(files, filepath.Join(dir, name))
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return Run(files)
}

func TestLintLeavesOtherEntryPointsAndPortsAlone(t *testing.T) {
	for name, c := range map[string]struct{ labels, static string }{
		"another entry point with more priority": {"routers.wiki.entrypoints: websecure\nrouters.all.rule: PathPrefix(`/`)\nrouters.all.entrypoints: internal\nrouters.all.priority: \"5000\"\nrouters.all.service: api@internal", ""},
		"a default entry point of the static file": {"routers.wiki.entrypoints: websecure\nrouters.all.rule: PathPrefix(`/`)\nrouters.all.priority: \"5000\"\nrouters.all.service: api@internal",
			strings.Replace(staticOfTwoEntryPoints, `":80"`, `":80", asDefault: true`, 1)},
		"a redirect to https":                 {"routers.wiki.entrypoints: websecure\nrouters.plain.rule: Host(`mcp.example.com`)\nrouters.plain.entrypoints: web\nrouters.plain.middlewares: tls@docker\nmiddlewares.tls.redirectscheme.scheme: https", staticOfTwoEntryPoints},
		"a redirect beside a router with TLS": {"routers.wiki.tls: \"true\"\nrouters.plain.rule: Host(`mcp.example.com`)\nrouters.plain.priority: \"5000\"\nrouters.plain.middlewares: tls@docker\nmiddlewares.tls.redirectscheme.scheme: https", ""},
		"another port of the container":       {"routers.wiki.service: wiki\nrouters.ui.rule: Host(`ui.example.com`)\nrouters.ui.service: ui\nservices.ui.loadbalancer.server.port: \"9000\"", ""},
	} {
		if r := lintWith(t, another(t, c.labels), c.static); r.Status() != report.StatusGood {
			t.Errorf("%s: %s %+v", name, r.Unable, r.Findings)
		}
	}
}

func TestLintFindsWaysPastTheBouncer(t *testing.T) {
	for name, c := range map[string]struct{ labels, static string }{
		"another plugin is not a guard":            {"routers.open.rule: Host(`o.example.com`)\nrouters.open.middlewares: rw@docker\nmiddlewares.rw.plugin.rewrite.lastModified: \"true\"", staticOfTwoEntryPoints},
		"another plugin, static file not given":    {"routers.open.rule: Host(`o.example.com`)\nrouters.open.middlewares: rw@docker\nmiddlewares.rw.plugin.rewrite.lastModified: \"true\"", ""},
		"another service of the same port":         {"routers.wiki.service: wiki\nrouters.open.rule: Host(`o.example.com`)\nrouters.open.service: o\nservices.o.loadbalancer.server.port: \"8000\"", ""},
		"another service without a port":           {"routers.wiki.service: wiki\nrouters.open.rule: Host(`o.example.com`)\nrouters.open.service: o\nservices.o.loadbalancer.passhostheader: \"true\"", ""},
		"another entry point, without a redirect":  {"routers.wiki.entrypoints: websecure\nrouters.open.rule: Host(`mcp.example.com`)\nrouters.open.entrypoints: web", staticOfTwoEntryPoints},
		"a redirect to https where TLS is spoken":  {"routers.open.rule: Host(`o.example.com`)\nrouters.open.entrypoints: websecure\nrouters.open.middlewares: tls@docker\nmiddlewares.tls.redirectscheme.scheme: https", staticOfTwoEntryPoints},
		"the right service named in a label":       {"routers.wiki.service: wiki\nrouters.open.rule: Host(`o.example.com`)\nrouters.open.service: wiki@docker", ""},
		"TLS by a resolver does not make it guard": {"routers.open.rule: Host(`o.example.com`)\nrouters.open.tls.certresolver: le", ""},
	} {
		r := lintWith(t, another(t, c.labels), c.static)
		found := false
		for _, f := range r.Findings {
			found = found || f.Wrong() && f.Check == "way past" && strings.Contains(f.Seen, "router open")
		}
		if !found {
			t.Errorf("%s: %s %+v", name, r.Unable, r.Findings)
		}
	}
	r := lintWith(t, another(t, "routers.open.rule: Host(`o.example.com`)\nrouters.open.middlewares: who@docker\nmiddlewares.who.basicauth.users: \"a:b\""), "")
	if r.Status() != report.StatusGood || len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Seen, "basicauth is all that guards it") {
		t.Errorf("a password on the other router: %+v", r.Findings)
	}
}

func TestLintKnowsThePluginByItsNameInTheStaticFile(t *testing.T) {
	named := strings.ReplaceAll(goodFile(t), "plugin.mcpbouncer.", "plugin.doorman.")
	static := strings.ReplaceAll(staticOfTwoEntryPoints, "    mcpbouncer:", "    doorman:")
	if r := lintWith(t, named, static); r.Status() != report.StatusGood || len(r.Findings) != 0 {
		t.Errorf("with the static file: %s %+v", r.Unable, r.Findings)
	}
	if r := lintWith(t, named, ""); r.Status() != report.StatusGood || len(r.Findings) != 0 {
		t.Errorf("without it, by its labels: %s %+v", r.Unable, r.Findings)
	}
}

func TestLintWritesListsWhereTheFileHasLists(t *testing.T) {
	for name, c := range map[string]struct{ old, with, remedy string }{
		"priority":    {"      traefik.http.services.wiki", "      traefik.http.routers.all.rule: PathPrefix(`/`)\n      traefik.http.routers.all.middlewares: other@file\n      traefik.http.routers.all.priority: \"5000\"\n      traefik.http.services.wiki", "write - 'traefik.http.routers.wiki.priority=5001'"},
		"rule":        {"?/wiki(/|$$)", "?/wikis(/|$$)", "write - 'traefik.http.routers.wiki.rule=Host(`mcp.example.com`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$$)`)'"},
		"way past":    {"      traefik.http.services.wiki", "      traefik.http.routers.open.rule: Host(`o.example.com`)\n      traefik.http.services.wiki", "write - 'traefik.http.routers.open.middlewares=mcpb-wiki@docker'"},
		"order":       {"middlewares: mcpb-wiki@docker\n", "middlewares: strip@docker,mcpb-wiki@docker\n      traefik.http.middlewares.strip.stripprefix.prefixes: /wiki\n", "write - 'traefik.http.routers.wiki.middlewares=mcpb-wiki@docker,strip@docker'"},
		"no router":   {"      traefik.http.routers.wiki.middlewares: mcpb-wiki@docker\n", "", "write - 'traefik.http.routers.NAME.middlewares=mcpb-wiki@docker'"},
		"access":      {"      " + optionOf + `allowedEmails: "you@example.com"` + "\n", "", "write - '" + optionOf + "allowedEmails=you@example.com'"},
		"secret":      {"env:GOOGLE_CLIENT_SECRET", "GOCSPX-abc", "write - '" + optionOf + "clientSecret=env:MCPB_WIKI_CLIENT_SECRET'"},
		"misspelt":    {"allowedEmails", "allowedEmail", "write - '" + optionOf + "allowedEmails=you@example.com'"},
		"environment": {"    environment:\n      BOUNCER_ENCRYPTION_KEY: \"MASTER\"\n      GOOGLE_CLIENT_SECRET: ${GOOGLE_CLIENT_SECRET:?}\n", "    environment: [\"BOUNCER_ENCRYPTION_KEY=MASTER\"]\n", "- GOOGLE_CLIENT_SECRET=${GOOGLE_CLIENT_SECRET:?}"},
	} {
		broken := strings.ReplaceAll(good, c.old, c.with)
		if broken == good {
			t.Fatalf("%s: nothing was replaced", name)
		}
		broken = strings.NewReplacer("HOPKEY", hopKeyOf(t, master), "MASTER", master).Replace(broken)
		r := lintWith(t, asList(broken), "")
		found := false
		for _, f := range r.Findings {
			found = found || strings.Contains(f.Remedy, c.remedy)
		}
		if !found {
			t.Errorf("%s: %s %+v", name, r.Unable, r.Findings)
		}
	}
}
