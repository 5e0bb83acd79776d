package lint

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// unguarded looks for ways to the MCP server past the bouncer: another router, or a port.
func (c *checker) unguarded(t *tenant) {
	servers := []string{}
	for _, r := range t.routers {
		servers = append(servers, c.serversOf(r.service)...)
	}
	there := func(service string) bool {
		return slices.ContainsFunc(c.serversOf(service), func(s string) bool {
			return slices.ContainsFunc(servers, func(g string) bool { return sameServer(s, g) })
		})
	}
	once := func(at place, f finding) {
		if !slices.ContainsFunc(c.findings, func(f report.Finding) bool {
			return f.Line == at.line && f.File == at.file && f.Check == "way past"
		}) {
			f.check, f.fault = "way past", report.Label
			c.found(at, f)
		}
	}
	const each = "the bouncer on each router to the MCP server"
	for _, r := range c.routers {
		if c.dropped(r) || c.isParent(r) {
			continue
		}
		other := c.otherGuard(r)
		if page := c.pageOf(r, there); page != "" && (!there(r.service) || other != "" || c.guarded(r)) {
			once(r.place, finding{expected: each, seen: "router " + r.name + " shows what the server says where an error page is due (" + page + "): THE SERVER IS OPEN TO EVERYBODY", remedy: "name another service in " + page, page: "docs/routes.md"})
		}
		if !there(r.service) {
			continue
		}
		if c.guarded(r) {
			c.unseenGuard(r)
			continue
		}
		written := r.written("middlewares", t.title())
		if len(r.names) > 0 {
			written = r.written("middlewares", t.title()+","+strings.Join(r.names, ","))
		}
		f := finding{expected: each, seen: "router " + r.name + " leads to the same server without it: THE SERVER IS OPEN TO EVERYBODY", remedy: "write " + written, page: "docs/routes.md", note: other != ""}
		if other != "" {
			f.seen = "router " + r.name + " leads to the same server without it; " + other + " is all that guards it"
		}
		if r.automatic {
			f.seen = "Traefik makes router " + r.name + " by itself, as its container has none: THE SERVER IS OPEN TO EVERYBODY who asks for the container's name"
			f.remedy = "write " + r.owner.labelLine("traefik.enable", `"false"`) + ", or a router with the bouncer"
		}
		once(r.place, f)
	}
	for _, r := range c.tcp {
		if there(r.service) && !c.broken(r.owner) {
			once(r.place, finding{expected: each, seen: "router " + r.name + " of TCP leads to the same server past every middleware of HTTP: THE SERVER IS OPEN TO EVERYBODY", remedy: "delete it", page: "docs/routes.md"})
		}
	}
	for _, s := range c.services {
		behind := slices.ContainsFunc(servers, func(server string) bool { return strings.HasPrefix(server, s.name+":") })
		if !behind || s == c.traefik() {
			continue
		}
		if s.mode.text == "host" {
			once(s.mode.place, finding{expected: "a network of its own for the MCP server", seen: "service " + s.name + " is in the network of the host: whoever reaches its port there is asked for no token, and can be anybody there",
				remedy: "delete network_mode: of " + s.name + "; Traefik reaches it by a network that they share", page: "docs/identity.md"})
		}
		if at := c.sharing(s); at != nil {
			s = at
		}
		if s.ports == nil || len(s.ports.items) == 0 || s.ports.items[0].value.text == "" && len(s.ports.items[0].keys) == 0 {
			continue
		}
		once(s.ports.keyed, finding{expected: "no published port of the MCP server", seen: "service " + s.name + " publishes a port: whoever reaches it is asked for no token, and can be anybody there",
			remedy: "delete ports: of " + s.name + "; Traefik reaches it by the network", page: "docs/identity.md"})
	}
}

// sharing is the service whose network another one uses, with its published ports.
func (c *checker) sharing(s *service) *service {
	kind, name, _ := strings.Cut(s.mode.text, ":")
	for _, other := range c.services {
		if other != s && name != "" && (kind == "service" || kind == "container") && other.called(name) {
			return other
		}
	}
	return nil
}

// serversOf are HOST:PORT of a service's servers, those of its parts too. A container goes by the
// name of its service in Compose.
func (c *checker) serversOf(service string) []string {
	list, seen := []string{}, map[string]bool{}
	for ask := []string{service}; len(ask) > 0; ask = ask[1:] {
		if seen[ask[0]] {
			continue
		}
		seen[ask[0]] = true
		for _, server := range c.backends[ask[0]] {
			host, port, _ := strings.Cut(server, ":")
			for _, s := range c.services {
				if s.called(host) {
					server = s.name + ":" + port
				}
			}
			list = append(list, server)
		}
		ask = append(ask, c.parts[ask[0]]...)
	}
	return list
}

// sameServer compares HOST:PORT. A container whose labels name no port has one of its image's.
// Lint does not know that one, so it is taken to be the same.
func sameServer(a, b string) bool {
	return a == b || strings.HasPrefix(a, b) && strings.HasSuffix(b, ":") || strings.HasPrefix(b, a) && strings.HasSuffix(a, ":")
}

// pageOf is a middleware of a router, not behind the bouncer or another guard, that fetches error
// pages from the MCP server. Such a page is asked for without a token, at a path that the
// middleware names, and where a guard behind it answers 401 or 403, too.
func (c *checker) pageOf(r *router, there func(string) bool) string {
	for _, name := range c.wholeChain(r) {
		m := c.middlewareNamed(name)
		if m != nil && (c.ours(m) || m.asks()) {
			break
		}
		if m != nil && m.kind == "errors" && there(qualified(m.option("service").text, m.provider)) {
			return name
		}
	}
	return ""
}

// guarded says whether nobody passes a router without this plugin, wherever it listens.
func (c *checker) guarded(r *router) bool {
	for _, path := range c.paths(r) {
		chain := []string{}
		for _, at := range path {
			chain = append(chain, c.chainOf(at)...)
		}
		for _, entry := range c.listens(path[0]) {
			at := c.entryPoint(entry)
			to := at.get("http", "redirections", "entryPoint")
			if to.has("to") && !to.has("priority") && !path[0].tls && at.get("http", "tls") == nil {
				continue // it answers everything by a redirect that is not asked by TLS
			}
			if !slices.ContainsFunc(append(c.chainAt(entry), chain...), func(name string) bool { return c.guards(name, path[0], at) }) {
				return false
			}
		}
	}
	return true
}

// guards says whether a middleware lets nobody pass without this plugin. One that Traefik cannot
// find makes it drop the router, and a redirect to https answers by itself where TLS is not spoken,
// unless the entry point takes a stranger's word for it.
func (c *checker) guards(name string, root *router, entry *tree) bool {
	m := c.middlewareNamed(name)
	if m == nil || c.ours(m) {
		return true
	}
	if m.kind == "redirectscheme" {
		believes := entry.get("forwardedHeaders", "insecure")
		return strings.EqualFold(m.option("scheme").text, "https") && !root.tls && entry.get("http", "tls") == nil && (believes == nil || believes.text != "true")
	}
	names, modules := c.pluginNames()
	plugin, isPlugin := strings.CutPrefix(m.kind, "plugin.")
	_, loaded := modules[strings.ToLower(plugin)]
	return isPlugin && len(names) > 0 && !loaded
}

// otherGuard is a middleware that asks who is there in its own way, so that a router without the
// bouncer may be meant.
func (c *checker) otherGuard(r *router) string {
	for _, name := range c.wholeChain(r) {
		if m := c.middlewareNamed(name); m != nil && m.asks() {
			return m.kind
		}
	}
	return ""
}

func (m *middleware) asks() bool {
	if !slices.Contains([]string{"basicauth", "digestauth", "forwardauth", "ipallowlist", "ipwhitelist", "redirectregex"}, m.kind) {
		return false
	}
	everybody := slices.ContainsFunc(strings.Split(m.option("sourceRange").text, ","), func(text string) bool {
		block, err := netip.ParsePrefix(strings.TrimSpace(text))
		return err == nil && block.Bits() <= 1 // two halves are everybody, too
	})
	return !everybody
}

// speaksTLS says whether a router takes https, by itself or by one of its entry points.
func (c *checker) speaksTLS(r *router) bool {
	root := c.root(r)
	return root.tls || slices.ContainsFunc(c.entryPoints(root), func(name string) bool { return c.entryPoint(name).get("http", "tls") != nil })
}

// entryPoint is one of the static file. Flags may write its name in any letter case.
func (c *checker) entryPoint(name string) *tree {
	all := c.deployment.static.get("entryPoints")
	if all == nil {
		return nil
	}
	for _, key := range all.keys {
		if key == name || strings.ToLower(key) == name {
			return all.at[key]
		}
	}
	return nil
}

// entryPoints are where a router listens: those it names, or the default ones of Traefik's static
// file; nil: that file is not given.
func (c *checker) entryPoints(r *router) []string {
	r = c.root(r)
	all := c.deployment.static.get("entryPoints")
	if r.entryPoints != nil || all == nil {
		return r.entryPoints
	}
	usual, marked := []string{}, []string{}
	for _, key := range all.keys {
		if by := all.get(key, "asDefault"); by != nil && by.text == "true" {
			marked = append(marked, key)
		}
		if !strings.EqualFold(key, "traefik") {
			usual = append(usual, key)
		}
	}
	if len(marked) > 0 {
		return marked
	}
	return usual
}

// listens is the same, with one that has no name where the static file is not given.
func (c *checker) listens(r *router) []string {
	if list := c.entryPoints(r); len(list) > 0 {
		return list
	}
	return []string{""}
}

// nowhere says whether a router listens on no entry point of the static file.
func (c *checker) nowhere(r *router) bool {
	if c.deployment.static.get("entryPoints") == nil {
		return false
	}
	return !slices.ContainsFunc(c.entryPoints(r), func(name string) bool { return c.entryPoint(name) != nil })
}

// meet says whether two routers can be asked the same request: on one entry point, and both with
// TLS or both without. Where the static file is not given, a router that names none is everywhere.
func (c *checker) meet(a, b *router) bool {
	if c.speaksTLS(a) != c.speaksTLS(b) {
		return false
	}
	here, there := c.entryPoints(a), c.entryPoints(b)
	return here == nil || there == nil || slices.ContainsFunc(here, func(name string) bool { return slices.Contains(there, name) })
}

// maxPaths bounds the ways to a router, as each router may stand below all others.
const maxPaths = 100

// paths are the ways from an entry point to a router: itself, below the routers that it stands
// below. A request comes by the middlewares of them all.
func (c *checker) paths(r *router) [][]*router {
	if c.ways[r] == nil {
		if c.ways == nil {
			c.ways = map[*router][][]*router{}
		}
		c.ways[r] = c.findPaths(r)
	}
	return c.ways[r]
}

func (c *checker) findPaths(r *router) [][]*router {
	done, open := [][]*router{}, [][]*router{{r}}
	for len(open) > 0 && len(done)+len(open) < maxPaths {
		path := open[0]
		open = open[1:]
		above := 0
		for _, name := range path[0].parents {
			if parent := c.routerNamed(name); parent != nil && !slices.Contains(path, parent) {
				open = append(open, append([]*router{parent}, path...))
				above++
			}
		}
		if above == 0 {
			done = append(done, path)
		}
	}
	return append(done, open...)
}

func (c *checker) routerNamed(name string) *router {
	for _, r := range c.routers {
		if qualified(r.name, r.provider) == name {
			return r
		}
	}
	return nil
}

func (c *checker) root(r *router) *router { return c.paths(r)[0][0] }

func (c *checker) isParent(r *router) bool {
	name := qualified(r.name, r.provider)
	return slices.ContainsFunc(c.routers, func(other *router) bool { return slices.Contains(other.parents, name) })
}

// chainAt are the middlewares of an entry point, which stand in front of every router's.
func (c *checker) chainAt(entry string) []string {
	chain := []string{}
	for _, v := range c.entryPoint(entry).get("http", "middlewares").texts() {
		for _, name := range strings.Split(v.text, ",") { // a flag has them in one
			chain = append(chain, c.resolved(qualified(strings.TrimSpace(name), "file"))...)
		}
	}
	return chain
}

// wholeChain are the middlewares that a request comes by at a router's first entry point, in order.
func (c *checker) wholeChain(r *router) []string {
	path := c.paths(r)[0]
	chain := c.chainAt(c.listens(path[0])[0])
	for _, at := range path {
		chain = append(chain, c.chainOf(at)...)
	}
	return chain
}
