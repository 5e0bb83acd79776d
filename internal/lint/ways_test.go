package lint

import (
	"os"
	"path/filepath"
	"strconv"
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
		"no router":   {"      traefik.http.routers.wiki.middlewares: mcpb-wiki@docker\n", "", "write - 'traefik.http.routers.wiki.middlewares=mcpb-wiki@docker'"},
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

// Real Traefik does what each of these says (deploy/e2e, TestLintIsRightAboutFilesInRealTraefik).
func TestLintNamesWhatTraefikLeavesOut(t *testing.T) {
	const open = "routers.open.rule: Host(`o.example.com`)\n"
	for name, c := range map[string]struct{ labels, begins, remedy string }{
		"label of Traefik misspelt": {"routers.wiki.entrypoint: web", "WRONG router: Traefik knows no label traefik.http.routers.wiki.entrypoint: it passes over all labels of wiki", "write traefik.http.routers.wiki.entryPoints: web"},
		"kind misspelt":             {"midlewares.a.headers.x: y", "WRONG middlewares: Traefik knows no label", "write traefik.http.middlewares.a.headers.x: y"},
		"priority is no number":     {"routers.wiki.priority: high", "WRONG router: the priority high", `traefik.http.routers.wiki.priority: "1000"`},
		"no such entry point":       {"routers.wiki.entrypoints: webb", "WRONG router: no entry point is called webb", "traefik.http.routers.wiki.entrypoints: web"},
		"no such service":           {"routers.wiki.service: wikis", "WRONG router: no service is called wikis", "routers.wiki.service: NAME"},
		"which service":             {"services.ui.loadbalancer.server.port: \"9\"", "WRONG router: wiki has 2 services, and the router names none", "routers.wiki.service: NAME"},
		"the same priority":         {"routers.wiki.priority: \"77\"\nrouters.all.rule: PathPrefix(`/`)\nrouters.all.priority: \"77\"\nrouters.all.service: other@swarm", "WRONG router: router all has the same priority (77)", `traefik.http.routers.wiki.priority: "1000"`},
		"a password":                {"routers.wiki.middlewares: who,mcpb-wiki\nmiddlewares.who.basicauth.users: \"a:b\"", "WRONG middlewares: basicauth (who@docker) beside it", "take who@docker out"},
		"an error page":             {open + "routers.open.service: other@swarm\nrouters.open.middlewares: page\nmiddlewares.page.errors.service: wiki\nmiddlewares.page.errors.status: \"500\"", "WRONG way past: router open shows what the server says where an error page is due (page@docker)", "name another service"},
		"all addresses":             {open + "routers.open.middlewares: list\nmiddlewares.list.ipallowlist.sourcerange: 0.0.0.0/1, 128.0.0.0/1", "WRONG way past: router open leads to the same server without it: THE SERVER IS OPEN", "middlewares: mcpb-wiki@docker,list@docker"},
		"some addresses":            {open + "routers.open.middlewares: list\nmiddlewares.list.ipallowlist.sourcerange: 10.0.0.0/8", "note way past: router open leads to the same server without it; ipallowlist", "middlewares: mcpb-wiki@docker,list@docker"},
	} {
		compose := strings.Replace(goodFile(t), "      traefik.http.routers.wiki.middlewares: mcpb-wiki@docker\n", "", 1)
		if !strings.Contains(c.labels, "routers.wiki.middlewares") {
			c.labels += "\nrouters.wiki.middlewares: mcpb-wiki@docker"
		}
		more := ""
		for _, line := range strings.Split(c.labels, "\n") {
			more += "      traefik.http." + line + "\n"
		}
		r := lintWith(t, compose+more, staticOfTwoEntryPoints)
		if !hasLine(lines(r), c.begins, c.remedy) {
			t.Errorf("%s: %s %q", name, r.Unable, lines(r))
		}
	}
}

// Routers that all stand below each other, and services that are all made of each other.
func TestLintEndsWithRoutersBelowEachOther(t *testing.T) {
	routers, services, names := "", "", []string{}
	for i := range 200 {
		names = append(names, "r"+strconv.Itoa(i))
	}
	all := strings.Join(names, ", ")
	for _, name := range names {
		routers += "    " + name + ": {rule: \"Host(`a.example.com`)\", service: " + name + ", parentRefs: [" + all + "]}\n"
		services += "    " + name + ": {weighted: {services: [{name: " + strings.Join(names[:60], "}, {name: ") + "}]}}\n"
	}
	services += "    s: {loadBalancer: {servers: [{url: \"http://wiki:8000\"}]}}\n    r0x: {weighted: {services: [{name: s}, {name: r0}]}}\n"
	r := lintText(t, "http:\n  middlewares:\n    one: {plugin: {mcpbouncer: {resource: a}}}\n  routers:\n    own: {rule: \"Host(`a.example.com`)\", service: s, middlewares: [one]}\n"+
		"    open: {rule: \"Host(`b.example.com`)\", service: r0x}\n"+routers+"  services:\n"+services)
	if !hasLine(lines(r), "WRONG way past: router open") {
		t.Errorf("%s %.500q", r.Unable, lines(r))
	}
}
