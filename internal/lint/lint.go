// Package lint reads how MCPBouncer is deployed, and says what is wrong with it: compose files,
// Traefik's dynamic and static files and Kubernetes manifests, in YAML, or what runs in Docker. Of
// files it asks nobody.
//
// What a label means is the plugin's own parser's to say (plugin.Check). What a rule matches is
// asked by evaluating it with the paths that clients ask for.
package lint

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// Sources are where a deployment is written.
type Sources struct {
	Files  []string
	Docker string // address of a Docker Engine API, as DOCKER_HOST has it; empty: nobody is asked
	Online bool   // ask sidecar, provider and MCP server too; without it, nobody of these is
}

// Run reads files that together are one deployment. A file that cannot be read makes the report's
// Unable.
func Run(files []string) *report.Report { return Sources{Files: files}.Run(context.Background()) }

// Run reads all sources. One that cannot be read makes the report's Unable.
func (s Sources) Run(ctx context.Context) *report.Report {
	subjects := slices.Clone(s.Files)
	if s.Docker != "" {
		subjects = append(subjects, "the containers of "+withoutSecrets(s.Docker))
	}
	r := &report.Report{Subject: strings.Join(subjects, ", ")}
	d, err := read(ctx, s.Files, s.Docker)
	if err != nil {
		r.Unable = err.Error()
		return r
	}
	c := &checker{deployment: d}
	c.switchedOff()
	if c.tenants = c.findTenants(); len(c.tenants) == 0 {
		c.found(place{}, finding{check: "tenants", seen: "no middleware with the plugin mcpbouncer", fault: report.Label, note: c.tenantElsewhere(),
			expected: "at least one", remedy: "name all files of the deployment", page: "docs/labels.md"})
	}
	for _, m := range c.middlewares {
		c.pluginName(m)
	}
	for _, t := range c.tenants {
		c.labelsOf(t)
		c.access(t)
		c.secret(t)
		c.consent(t)
		c.gitHub(t)
		c.ids(t)
		c.sidecar(t)
		c.routersOf(t)
	}
	c.refused()
	c.twins()
	c.namesOfMiddlewares()
	c.static()
	c.unhealthy()
	c.filesNotRead()
	c.kubernetes()
	if s.Online {
		c.online(ctx)
	}
	order := make([]*report.Finding, len(c.findings))
	for i := range order {
		order[i] = &c.findings[i]
	}
	slices.SortStableFunc(order, func(a, b *report.Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	for _, f := range order {
		r.Add(*f)
	}
	return r
}

type checker struct {
	*deployment
	tenants  []*tenant
	drops    map[*router]bool
	ways     map[*router][][]*router
	findings []report.Finding
}

// tenant is a middleware of the plugin, and the routers that use it.
type tenant struct {
	*middleware
	routers []*router
}

type finding struct {
	check, expected, seen, remedy, page string
	fault                               report.Fault
	breaks                              []string
	note                                bool
}

// found adds a finding. Copies of it, and of the other functions that are marked so, in each place
// that calls them would make the program 45 KB larger.
//
//go:noinline
func (c *checker) found(at place, f finding) {
	c.findings = append(c.findings, report.Finding{Check: f.check, Expected: f.expected, Seen: f.seen, Fault: f.fault, Note: f.note,
		Breaks: f.breaks, Remedy: f.remedy, Page: f.page, File: at.file, Line: at.line})
}

// breaks is a fault of labels for which nobody logs in.
func (c *checker) breaks(at place, check, expected, seen, remedy, page string) {
	c.found(at, finding{check: check, expected: expected, seen: seen, fault: report.Label, breaks: []string{report.EveryClient}, remedy: remedy, page: page})
}

// corrected is the line at a place with one text in place of another, ready to paste. Empty where
// the old text does not stand in that line, as with an alias.
func (c *checker) corrected(at place, old, with string) string {
	lines := c.lines[at.file]
	if at.line == 0 { // the label of a container, which is one line
		at.line = 1
	}
	if at.line < 1 || at.line > len(lines) || old == "" || !strings.Contains(lines[at.line-1], old) {
		return ""
	}
	line := strings.TrimSpace(lines[at.line-1])
	i := strings.LastIndex(line, old)
	return withoutSecrets(strings.TrimSpace(line[:i] + with + line[i+len(old):]))
}

// inClear are secrets as a line of a file has them: a member of such a name, whatever stands before
// it and behind, and what a URL has before its host.
var inClear = lazyregexp.Regexp{Text: `(?i)(?:(?:client\w?sec|_secret|secret_|passw|encryption_key|hop_key)\w*["']?\s*[:=]\s*|://)(?:"[^"]*|'[^']*|[^\s"',}\]]+)`}

// withoutSecrets keeps them out of a corrected line, which may hold more than what is wrong in it:
// what lint prints ends in logs of CI.
func withoutSecrets(line string) string {
	return inClear.Get().ReplaceAllStringFunc(line, func(found string) string {
		if after, isURL := strings.CutPrefix(found, "://"); isURL {
			if _, rest, ok := strings.Cut(after, "@"); ok {
				return "://…@" + rest
			}
			return found
		}
		i := strings.IndexAny(found, ":=") + 1
		text := strings.TrimLeft(found[i:], ` "'`)
		for _, harmless := range []string{"env:", "mbs1_", "$", "{"} {
			if strings.HasPrefix(text, harmless) {
				return found
			}
		}
		return found[:len(found)-len(text)] + "…"
	})
}

// labelLine is a label of a container as its file writes labels: a mapping or a list. The value is
// quoted where a mapping needs quotes.
func (s *service) labelLine(name, text string) string {
	if s.running {
		return name + "=" + strings.Trim(text, `"`)
	}
	if !s.listed {
		return name + ": " + text
	}
	return "- '" + name + "=" + strings.Trim(text, `"`) + "'"
}

// variable is the same of a variable of the environment.
func (s *service) variable(name, text string) string {
	if s.namespace != "" {
		return "- {name: " + name + ", valueFrom: {secretKeyRef: {name: SECRET, key: " + name + "}}}"
	}
	if s.running {
		return name
	}
	if !s.envList {
		return name + ": " + text
	}
	return "- " + name + "=" + text
}

// written is a router's member as its file writes it. A list has commas in a label.
func (r *router) written(member, text string) string {
	if r.owner != nil {
		return r.owner.labelLine("traefik.http.routers."+r.name+"."+member, text)
	}
	if r.refs != nil {
		return r.kubeMember(member, text)
	}
	switch member {
	case "middlewares":
		text = "[" + strings.ReplaceAll(text, ",", ", ") + "]"
	case "priority":
		text = strings.Trim(text, `"`)
	}
	return member + ": " + text
}

// written is an option of the plugin as the file writes it.
func (m *middleware) written(option, text string) string {
	if m.owner != nil {
		return m.owner.labelLine("traefik.http.middlewares."+m.name+"."+m.kind+"."+option, text)
	}
	return option + ": " + text
}

// write is a remedy: the corrected line, or in words what to do.
//
//go:noinline
func write(line, otherwise string) string {
	if line == "" {
		return otherwise
	}
	return "write " + line
}

func (c *checker) findTenants() []*tenant {
	list := []*tenant{}
	for _, m := range c.middlewares {
		if c.ours(m) {
			t := &tenant{middleware: m}
			for _, r := range c.deployment.routers {
				if slices.Contains(c.wholeChain(r), qualified(m.name, m.provider)) && !c.isParent(r) {
					t.routers = append(t.routers, r)
				}
			}
			list = append(list, t)
		}
	}
	return list
}

// pluginNames are what the static file calls this plugin; nil where that file is not given. Values
// are the modules of all plugins there.
func (c *checker) pluginNames() (ours []string, modules map[string]string) {
	if c.deployment.static == nil {
		return nil, nil
	}
	modules = map[string]string{}
	for _, kind := range []string{"plugins", "localPlugins"} {
		named := c.deployment.static.get("experimental", kind)
		if named == nil {
			continue
		}
		for _, name := range named.keys {
			module := named.get(name, "moduleName")
			small := strings.ToLower(name)
			if modules[small] = ""; module != nil {
				modules[small] = module.text
			}
			// A copy of the module has another address, and most likely the same name.
			if small == "mcpbouncer" || strings.HasPrefix(modules[small], moduleOfPlugin) {
				ours = append(ours, small)
			}
		}
	}
	return ours, modules
}

const moduleOfPlugin = "github.com/mcpbouncer/mcpbouncer"

// ours says whether a middleware is this plugin: by the name that Traefik's static file gives it,
// or where that is not given, by its usual name or by labels that another plugin does not have.
// Another plugin, such as one that writes headers, lets everybody through.
func (c *checker) ours(m *middleware) bool {
	name, isPlugin := strings.CutPrefix(m.kind, "plugin.")
	if !isPlugin {
		return false
	}
	if names, _ := c.pluginNames(); len(names) > 0 {
		return slices.Contains(names, strings.ToLower(name))
	}
	return strings.EqualFold(name, "mcpbouncer") || m.option("sidecarURL").text != "" && m.option("providerIssuer").text != ""
}

//go:noinline
func (c *checker) middlewareNamed(name string) *middleware {
	for _, m := range c.middlewares {
		if qualified(m.name, m.provider) == name {
			return m
		}
	}
	return nil
}

// chainOf are a router's own middlewares in order, chains resolved.
func (c *checker) chainOf(r *router) []string {
	names := []string{}
	for _, name := range r.names {
		names = append(names, c.resolved(name)...)
	}
	return names
}

// resolved is a middleware, or those of a chain.
func (c *checker) resolved(name string) []string {
	names := []string{}
	var add func(string, int)
	add = func(name string, depth int) {
		m := c.middlewareNamed(name)
		if m == nil || m.kind != "chain" || depth > 10 || len(names) > 1000 {
			names = append(names, name)
			return
		}
		for _, inner := range m.chain {
			add(inner, depth+1)
		}
	}
	add(name, 0)
	return names
}

// option is a label's value; empty where it is not set.
//
//go:noinline
func (m *middleware) option(label string) value {
	v := m.options[strings.ToLower(label)]
	if v.file == "" {
		v.place = m.place
	}
	return v
}

//go:noinline
func (m *middleware) title() string { return qualified(m.name, m.provider) }

// nearest is the name that needs the fewest changes, if it needs few.
func nearest(name string, names []string) string {
	best, least := "", 1+len(name)/3
	for _, other := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(other)); d < least {
			best, least = other, d
		}
	}
	return best
}

// distance is Levenshtein's. Names are short, and longer ones are compared by their beginning.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
