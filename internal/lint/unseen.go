package lint

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// What stands in no file that was given may well be right, so it is a note at most.

// filesNotRead names files that files name, and that are not given: each may hold a router that
// leads past the bouncer.
func (c *checker) filesNotRead() {
	for _, v := range c.notRead {
		if c.lines[filepath.Join(filepath.Dir(v.file), v.text)] == nil {
			c.found(v.place, finding{check: "files", expected: "all files of the deployment", seen: v.text + " is named here, and lint does not read it: it may hold a router past the bouncer", fault: report.Label, note: true,
				remedy: "name that file as well, or give lint what docker compose config prints", page: "docs/lint.md"})
		}
	}
	if providers := c.deployment.static.get("providers"); providers != nil {
		for _, name := range providers.keys {
			small := strings.ToLower(name)
			if small == "file" && !c.dynamicRead || small == "docker" && len(c.services) == 0 || slices.Contains(otherProviders, small) {
				c.found(providers.at[name].keyed, finding{check: "files", expected: "all that Traefik reads", seen: "Traefik also reads its provider " + name + ", and lint has not: it may hold a router past the bouncer", fault: report.Label, note: true,
					remedy: "name its files as well; of what lint cannot read, look at the routers in Traefik's dashboard", page: "docs/lint.md"})
			}
		}
	}
}

// otherProviders are those of Traefik that lint cannot read.
var otherProviders = []string{"consul", "consulcatalog", "ecs", "etcd", "http", "knative", "nomad", "plugin", "redis", "rest", "swarm", "zookeeper"}

// enabled is the label traefik.enable. Traefik takes the words of strconv.ParseBool, and reads no
// label of a container with another one.
func (s *service) enabled() (on, set bool) {
	for name, v := range s.labels {
		if strings.EqualFold(name, "traefik.enable") && !v.unknown {
			on, _ = strconv.ParseBool(v.text)
			return on, true
		}
	}
	return false, false
}

// switchedOff names containers whose labels for the plugin Traefik does not read.
func (c *checker) switchedOff() {
	for _, s := range c.services {
		on, set := s.enabled()
		if on || !set || !s.hasPlugin() {
			continue
		}
		for name, v := range s.labels {
			if !strings.EqualFold(name, "traefik.enable") {
				continue
			}
			_, err := strconv.ParseBool(v.text)
			c.found(v.place, finding{check: "router", expected: "traefik.enable: \"true\"", seen: v.text + ": Traefik reads no label of " + s.name, fault: report.Label, note: err == nil,
				breaks: []string{report.EveryClient}, remedy: "write " + s.labelLine(name, `"true"`) + ", unless that is meant", page: "docs/troubleshooting.md"})
		}
	}
}

func (s *service) hasPlugin() bool {
	for name := range s.labels {
		if name = strings.ToLower(name); strings.HasPrefix(name, "traefik.http.middlewares.") && strings.Contains(name, ".plugin.") {
			return true
		}
	}
	return false
}

func (m *middleware) partial() bool { return m.owner != nil && m.owner.partial }

func (r *router) partial() bool { return r.owner != nil && r.owner.partial }

// traefikGiven says whether Traefik itself is in the files.
func (c *checker) traefikGiven() bool { return c.deployment.static != nil || c.traefik() != nil }

// routerElsewhere says whether the router of a middleware may stand in a file that was not given:
// there is none beside it, and nothing of Traefik.
func (c *checker) routerElsewhere(m *tenant) bool {
	return !c.traefikGiven() && (m.partial() || !slices.ContainsFunc(c.routers, func(r *router) bool { return r.provider == m.provider && r.owner == m.owner && !r.automatic }))
}

// tenantElsewhere says whether the plugin is at a container that is switched off, or may be among
// the middlewares that routers name and no file defines.
func (c *checker) tenantElsewhere() bool {
	if slices.ContainsFunc(c.services, func(s *service) bool { on, set := s.enabled(); return set && !on && s.hasPlugin() }) {
		return true
	}
	if c.deployment.static != nil && !c.staticFlags && len(c.routers)+len(c.services) == 0 {
		return true // Traefik's static file alone
	}
	if len(c.services) > 0 && len(c.middlewares) == 0 && !slices.ContainsFunc(c.routers, func(r *router) bool { return !r.partial() }) && !slices.ContainsFunc(c.services, func(s *service) bool { return !s.partial }) {
		return true // some labels of Traefik alone
	}
	return slices.ContainsFunc(c.routers, func(r *router) bool { return r.partial() || c.unseen(r) != "" })
}

// elsewhere says which labels a part of a service lacks.
func (c *checker) elsewhere(t *tenant, missing []string) {
	if len(missing) > 0 {
		c.found(t.place, finding{check: "labels", expected: "the labels that the plugin requires", seen: "no file that was given has " + strings.Join(missing, ", ") + " of " + t.title(), fault: report.Label, note: true,
			remedy: "name the file that has them as well, or set them", page: "docs/configuration.md"})
	}
}

// unseen is a middleware of a router, of a provider of which no file was given.
func (c *checker) unseen(r *router) string {
	for _, name := range c.chainOf(r) {
		_, provider, _ := strings.Cut(name, "@")
		if c.middlewareNamed(name) == nil && !slices.ContainsFunc(c.middlewares, func(m *middleware) bool { return m.provider == provider }) {
			return name
		}
	}
	return ""
}

// unseenGuard speaks of a router to a guarded server before which nothing stands but a middleware
// that was not seen: it may be this plugin by another name, or guard nothing.
func (c *checker) unseenGuard(r *router) {
	name := c.unseen(r)
	if name == "" || slices.ContainsFunc(c.chainOf(r), func(name string) bool { m := c.middlewareNamed(name); return m != nil && c.ours(m) }) {
		return
	}
	at := r.middlewares.place
	if !slices.ContainsFunc(c.findings, func(f report.Finding) bool { return f.Line == at.line && f.File == at.file && f.Check == "way past" }) {
		c.found(at, finding{check: "way past", expected: "the bouncer on each router to the MCP server", seen: "router " + r.name + " leads to the same server, and " + name + " before it was not seen: no file that was given defines it", fault: report.Label, note: true,
			remedy: "name the file that defines it as well", page: "docs/routes.md"})
	}
}
