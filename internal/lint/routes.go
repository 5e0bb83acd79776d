package lint

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// sidecar looks whether Traefik reaches the sidecar, and with the right hop key.
func (c *checker) sidecar(t *tenant) {
	traefik, s, v := c.traefik(), c.sidecarOf(t), t.option("sidecarURL")
	u, err := url.Parse(v.text)
	if err != nil || v.unknown || traefik == nil || len(c.services) < 2 {
		return
	}
	if key, ok := traefik.env["BOUNCER_HOP_KEY"]; t.option("hopKeyFile").text == "" && !traefik.envFile && (!ok || key.text == "" && !key.unknown) {
		c.found(traefik.place, finding{check: "hop key", expected: "BOUNCER_HOP_KEY in the environment of " + traefik.name, seen: "it is not there: each login is answered 503", fault: report.Traefik,
			breaks: []string{report.EveryClient}, remedy: "add to its environment " + traefik.variable("BOUNCER_HOP_KEY", "${BOUNCER_HOP_KEY:?}"), page: "docs/hop.md"})
	}
	if s == nil && t.provider == crd {
		return
	}
	if s == nil {
		// A name with a dot is somewhere else, such as a function on AWS.
		if host := u.Hostname(); host != "" && !strings.ContainsAny(host, ".:") {
			names := []string{}
			for _, other := range c.services {
				names = append(names, other.name)
			}
			near := nearest(host, names)
			for _, other := range c.services {
				if _, is := other.env["BOUNCER_ENCRYPTION_KEY"]; is {
					near = other.name
				}
			}
			remedy := "name the sidecar's service"
			if near != "" {
				remedy = write(c.corrected(v.place, host, near), "write "+near)
			}
			c.found(v.place, finding{check: "sidecar", expected: "a service of the file", seen: "no service is called " + host + ": logins are answered 502", fault: report.Label,
				breaks: []string{report.EveryClient}, remedy: remedy, page: "docs/troubleshooting.md"})
		}
		return
	}
	if !s.meets(traefik) {
		c.found(s.place, finding{check: "sidecar", expected: "a network that " + traefik.name + " and " + s.name + " share", seen: "none: logins are answered 502", fault: report.Sidecar,
			breaks: []string{report.EveryClient}, remedy: traefik.join(s), page: "docs/troubleshooting.md"})
	}
	master, key := s.env["BOUNCER_ENCRYPTION_KEY"], traefik.env["BOUNCER_HOP_KEY"]
	if master.text == "" || key.text == "" || master.unknown || key.unknown {
		return
	}
	if ring, err := sealing.ParseRing(master.text); err == nil && !strings.HasSuffix(strings.TrimSpace(key.text), ring.HopKey()) {
		c.found(key.place, finding{check: "hop key", expected: "the one of the sidecar's master", seen: "a hop key of another master: each login is answered 503", fault: report.Traefik,
			breaks: []string{report.EveryClient}, remedy: "write what `mcpbouncer hop-key` prints with this BOUNCER_ENCRYPTION_KEY", page: "docs/hop.md"})
	}
}

// asked are the requests of clients for a public URL: the endpoint, and the documents where the
// standards put them (RFC 8414 section 3.1, RFC 9728 section 3.1) and below the path.
func asked(u *url.URL, endpoints []string) []request {
	path, host := strings.TrimSuffix(u.Path, "/"), u.Hostname()
	list := []request{}
	for _, e := range endpoints {
		list = append(list, request{host, path + e, "POST"}, request{host, "/.well-known/oauth-protected-resource" + path + e, "GET"})
	}
	return append(list,
		request{host, "/.well-known/oauth-authorization-server" + path, "GET"},
		request{host, "/.well-known/openid-configuration" + path, "GET"},
		request{host, path + "/.well-known/oauth-protected-resource", "GET"},
		request{host, path + "/oauth/authorize", "GET"},
		request{host, path + "/oauth/register", "POST"},
		request{host, path + "/oauth/token", "POST"})
}

// routersOf asks the rules with what clients ask for.
func (c *checker) routersOf(t *tenant) {
	if len(t.routers) == 0 {
		c.found(t.place, finding{check: "router", expected: "a router that uses " + t.title(), seen: "none does: nothing is protected by it", fault: report.Label, note: c.routerElsewhere(t),
			breaks: []string{report.EveryClient}, remedy: "write " + c.routerFor(t).written("middlewares", t.title()) + " for the router", page: "docs/routes.md"})
		return
	}
	rules := map[*router]rule{}
	for _, r := range c.routers {
		if r.rule.unknown && strings.Contains(r.rule.text, "unset") && !strings.Contains(r.rule.text, "`") {
			continue // the whole rule is a variable
		}
		if parsed, err := parseRule(r.rule.text); err == nil {
			rules[r] = parsed
		} else if slices.Contains(t.routers, r) && r.rule.text != "" {
			c.found(r.rule.place, finding{check: "router", expected: "a rule that Traefik reads", seen: err.Error() + ": Traefik drops the router", fault: report.Label,
				breaks: []string{report.EveryClient}, remedy: "correct the rule", page: "docs/routes.md"})
		}
	}
	for _, r := range t.routers {
		c.before(t, r)
	}
	c.unguarded(t)
	public := t.option("publicURL")
	u, err := url.Parse(public.text)
	if err != nil || u.Host == "" || public.unknown {
		return
	}
	c.plainHTTP(t, u, public)
	endpoints := []string{"/mcp", "/sse"}
	if v := t.option("mcpPaths"); v.text != "" && !v.unknown {
		endpoints = strings.FieldsFunc(v.text, func(r rune) bool { return r == ',' || r == ' ' })
	} else if v.unknown {
		endpoints = nil
	}
	missed, first := []string{}, t.routers[0]
	for _, q := range asked(u, endpoints) {
		winner := c.winner(rules, q, t)
		switch {
		case slices.ContainsFunc(t.routers, func(r *router) bool { return rules[r] == nil }):
			return // what Traefik or a variable makes of it is not known
		case winner == nil:
			missed = append(missed, q.path)
		case !slices.Contains(t.routers, winner):
			c.found(winner.place, finding{check: "router", expected: "the bouncer's router answers " + q.path, seen: fmt.Sprintf("router %s, which goes before it, answers, without %s", winner.name, t.title()), fault: report.Label,
				breaks: []string{report.EveryClient}, remedy: "write " + first.written("priority", fmt.Sprintf("\"%d\"", max(1000, winner.weight()+1))), page: "docs/routes.md"})
			return
		}
	}
	if len(missed) == 0 {
		return
	}
	right := "Host(`" + u.Hostname() + "`)"
	if path := strings.TrimSuffix(u.Path, "/"); path != "" {
		dollar := "$"
		if first.owner != nil && !first.owner.running {
			dollar = "$$" // Compose's spelling
		}
		right += " && PathRegexp(`^(/\\.well-known/[a-z-]+)?" + strings.ReplaceAll(path, ".", `\.`) + "(/|" + dollar + ")`)"
	}
	c.found(first.rule.place, finding{check: "router", expected: "a rule that takes what clients ask for " + public.text, seen: "it misses " + strings.Join(missed, ", ") + " (404)", fault: report.Label,
		breaks: []string{report.EveryClient}, remedy: "write " + first.written("rule", right), page: "docs/routes.md"})
}

func (r *router) weight() int {
	if r.priority != 0 {
		return r.priority
	}
	return len(r.rule.text)
}

// winner is the router that answers a request for certain where a tenant's routers listen; nil:
// none. One place where the tenant answers is enough: elsewhere something else may be meant, such
// as a redirect to https.
func (c *checker) winner(rules map[*router]rule, q request, t *tenant) *router {
	var best *router
	for _, own := range t.routers {
		var here *router
		for _, r := range c.routers {
			if c.meet(own, r) && rules[r] != nil && rules[r](q) == yes && (here == nil || r.weight() > here.weight()) {
				here = r
			}
		}
		if here != nil && slices.Contains(t.routers, here) {
			return here
		}
		if here != nil && best == nil {
			best = here
		}
	}
	return best
}

func (c *checker) plainHTTP(t *tenant, u *url.URL, public value) {
	if u.Scheme == "http" {
		c.found(public.place, finding{check: "public URL", expected: "https", seen: public.text + ": clients follow addresses without TLS", fault: report.Label, note: true,
			remedy: write(c.corrected(public.place, "http://"+u.Host, "https://"+u.Host), "write https"), page: "docs/troubleshooting.md"})
	}
}

// harm is what other middlewares do to a request before the bouncer sees it (docs/middlewares.md).
var harm = map[string]string{
	"stripprefix":      "takes the path away: 404",
	"stripprefixregex": "takes the path away: 404",
	"replacepath":      "replaces the path: 404",
	"replacepathregex": "replaces the path: 404",
	"retry":            "sends a message a second time without its body: 503",
	"buffering":        "holds event streams back until they end",
	"errors":           "takes the challenge out of the 401",
	"circuitbreaker":   "counts each 401 as a failure, and then answers 503 to everybody",
}

func (c *checker) before(t *tenant, r *router) {
	chain := c.chainOf(r)
	own := slices.Index(chain, t.title())
	for _, name := range chain[:own] {
		m := c.middlewareNamed(name)
		if m == nil || harm[m.kind] == "" {
			continue
		}
		path := strings.HasPrefix(m.kind, "stripprefix") || strings.HasPrefix(m.kind, "replacepath")
		breaks := []string{}
		if path {
			breaks = append(breaks, report.EveryClient)
		}
		right := slices.DeleteFunc(slices.Clone(chain), func(n string) bool { return n == name })
		right = slices.Insert(right, slices.Index(right, t.title())+1, name)
		written := r.written("middlewares", strings.Join(right, ","))
		c.found(r.middlewares.place, finding{check: "middlewares", expected: t.title() + " first", seen: m.kind + " (" + name + ") before it, which " + harm[m.kind], fault: report.Label, note: !path,
			breaks: breaks, remedy: "write " + written, page: "docs/middlewares.md"})
	}
}

// unguarded looks for ways to the MCP server past the bouncer: another router, or a port.
func (c *checker) unguarded(t *tenant) {
	for _, guarded := range t.routers {
		for _, r := range c.routers {
			same := slices.ContainsFunc(c.backends[r.service], func(s string) bool {
				return slices.ContainsFunc(c.backends[guarded.service], func(g string) bool { return sameServer(s, g) })
			})
			if same && c.guarded(r) {
				c.unseenGuard(r)
			}
			if !same || c.guarded(r) {
				continue
			}
			at, written := r.place, r.written("middlewares", t.title())
			if len(r.names) > 0 {
				written = r.written("middlewares", t.title()+","+strings.Join(r.names, ","))
			}
			seen, other := "router "+r.name+" leads to the same server without it: THE SERVER IS OPEN TO EVERYBODY", c.otherGuard(r)
			if other != "" {
				seen = "router " + r.name + " leads to the same server without it; " + other + " is all that guards it"
			}
			if !slices.ContainsFunc(c.findings, func(f report.Finding) bool { return f.Line == at.line && f.File == at.file && f.Check == "way past" }) {
				c.found(at, finding{check: "way past", expected: "the bouncer on each router to the MCP server", seen: seen, fault: report.Label, note: other != "",
					remedy: "write " + written, page: "docs/routes.md"})
			}
		}
		if s := guarded.owner; s != nil && s != c.traefik() && s.ports != nil && len(s.ports.items) > 0 && s.ports.items[0].value.text != "" {
			at := s.ports.keyed
			if !slices.ContainsFunc(c.findings, func(f report.Finding) bool { return f.Line == at.line && f.File == at.file }) {
				c.found(at, finding{check: "way past", expected: "no published port of the MCP server", seen: "service " + s.name + " publishes a port: whoever reaches it is asked for no token, and can be anybody there", fault: report.Label,
					remedy: "delete ports: of " + s.name + "; Traefik reaches it by the network", page: "docs/identity.md"})
			}
		}
	}
}

// sameServer compares HOST:PORT. A container whose labels name no port has one of its image's.
// Lint does not know that one, so it is taken to be the same.
func sameServer(a, b string) bool {
	return a == b || strings.HasPrefix(a, b) && strings.HasSuffix(b, ":") || strings.HasPrefix(b, a) && strings.HasSuffix(a, ":")
}

// guarded says whether nobody passes a router without this plugin. A middleware or plugin that
// Traefik cannot find makes it drop the router, and a redirect to https answers by itself where TLS
// is not spoken.
func (c *checker) guarded(r *router) bool {
	names, modules := c.pluginNames()
	return slices.ContainsFunc(c.chainOf(r), func(name string) bool {
		m := c.middlewareNamed(name)
		if m == nil || c.ours(m) || m.kind == "redirectscheme" && !c.speaksTLS(r) {
			return true
		}
		plugin, isPlugin := strings.CutPrefix(m.kind, "plugin.")
		_, loaded := modules[strings.ToLower(plugin)]
		return isPlugin && len(names) > 0 && !loaded
	})
}

// otherGuard is a middleware that asks who is there in its own way, so that a router without the
// bouncer may be meant.
func (c *checker) otherGuard(r *router) string {
	for _, name := range c.chainOf(r) {
		if m := c.middlewareNamed(name); m != nil && slices.Contains([]string{"basicauth", "digestauth", "forwardauth", "ipallowlist", "ipwhitelist"}, m.kind) {
			return m.kind
		}
	}
	return ""
}

// speaksTLS says whether a router takes https, by itself or by one of its entry points.
func (c *checker) speaksTLS(r *router) bool {
	return r.tls || slices.ContainsFunc(c.entryPoints(r), func(name string) bool { return c.entryPoint(name).get("http", "tls") != nil })
}

func (c *checker) entryPoint(name string) *tree {
	all := c.deployment.static.get("entryPoints")
	if all == nil {
		return nil
	}
	for _, key := range all.keys {
		if strings.EqualFold(key, name) {
			return all.at[key]
		}
	}
	return nil
}

// entryPoints are where a router listens: those it names, or the default ones of Traefik's static
// file; nil: that file is not given.
func (c *checker) entryPoints(r *router) []string {
	all := c.deployment.static.get("entryPoints")
	if r.entryPoints != nil || all == nil {
		return r.entryPoints
	}
	usual, marked := []string{}, []string{}
	for _, key := range all.keys {
		name := strings.ToLower(key)
		if by := all.get(key, "asDefault"); by != nil && by.text == "true" {
			marked = append(marked, name)
		}
		if name != "traefik" {
			usual = append(usual, name)
		}
	}
	if len(marked) > 0 {
		return marked
	}
	return usual
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

// twins are tenants that clients or tokens cannot tell apart.
func (c *checker) twins() {
	for _, label := range []string{"publicURL", "resource"} {
		seen := map[string]*tenant{}
		for _, t := range c.tenants {
			v := t.option(label)
			if v.text == "" || v.unknown {
				continue
			}
			text := strings.TrimSuffix(strings.ToLower(v.text), "/")
			other := seen[text]
			if seen[text] = t; other == nil {
				continue
			}
			c.found(v.place, finding{check: "tenants", expected: "another " + label + " for each middleware", seen: other.title() + " has " + v.text + " too", fault: report.Label,
				remedy: write(c.corrected(v.place, v.text, v.text+"-2"), "give it another") + ", or another name of its own", page: "docs/configuration.md"})
		}
	}
}

// namesOfMiddlewares looks for names that lead nowhere. Only names of providers whose files are
// here can be judged.
func (c *checker) namesOfMiddlewares() {
	here, known := map[string]bool{}, []string{}
	for _, m := range c.middlewares {
		here[m.provider] = true
		known = append(known, m.title())
	}
	for _, r := range c.routers {
		for _, name := range c.chainOf(r) {
			_, provider, _ := strings.Cut(name, "@")
			if r.middlewares.unknown || !here[provider] && provider != ingress || c.middlewareNamed(name) != nil {
				continue
			}
			bare, _, _ := strings.Cut(name, "@")
			old := name
			if !strings.Contains(r.middlewares.text, name) {
				old = bare
			}
			remedy := "define it, or take it out"
			if near := nearest(name, known); near != "" {
				remedy = write(c.corrected(r.middlewares.place, old, near), "write "+near)
			}
			at, ofKube := c.misnamed(r, name)
			if ofKube != "" {
				remedy = ofKube
			}
			c.found(at, finding{check: "middlewares", expected: "middlewares that are defined", seen: name + " is not: Traefik drops the router (404), or a wider one answers", fault: report.Label, note: r.partial() && !c.traefikGiven(),
				breaks: []string{report.EveryClient}, remedy: remedy, page: "docs/troubleshooting.md"})
		}
	}
	for _, s := range c.services {
		for _, name := range sortedKeys(s.labels) {
			small := strings.ToLower(name)
			if strings.HasPrefix(small, "traefik.http.routers.") && strings.Contains(small, ".middlewares[") {
				v := s.labels[name]
				right := name[:strings.Index(small, ".middlewares[")] + ".middlewares"
				c.found(v.place, finding{check: "middlewares", expected: "one label middlewares", seen: "an index, which Traefik passes over without a word: THE SERVER IS OPEN TO EVERYBODY", fault: report.Label,
					remedy: write(c.corrected(v.place, name, right), "write "+right), page: "docs/middlewares.md"})
			}
		}
	}
}

// static looks at Traefik's own configuration, where it is given.
func (c *checker) static() {
	if c.deployment.static == nil {
		return
	}
	e := c.deployment.static.get("experimental")
	if names, _ := c.pluginNames(); len(names) == 0 {
		c.found(c.deployment.static.place, finding{check: "plugin", expected: "experimental.plugins.mcpbouncer or experimental.localPlugins.mcpbouncer", seen: "neither: Traefik drops each router that uses it", fault: report.Traefik,
			breaks: []string{report.EveryClient}, remedy: c.staticLine("experimental: {localPlugins: {mcpbouncer: {moduleName: github.com/mcpbouncer/mcpbouncer}}}", "--experimental.localPlugins.mcpbouncer.moduleName=github.com/mcpbouncer/mcpbouncer"), page: "deploy/compose/README.md"})
	}
	if abort := e.get("abortOnPluginFailure"); abort == nil || abort.text != "true" {
		at := c.deployment.static.place
		if e != nil {
			at = e.keyed
		}
		c.found(at, finding{check: "plugin", expected: "experimental.abortOnPluginFailure: true", seen: "Traefik starts without the plugin if that cannot be loaded, and wider routers answer in its place", fault: report.Traefik, note: true,
			remedy: c.staticLine("abortOnPluginFailure: true below experimental", "--experimental.abortOnPluginFailure=true"), page: "deploy/compose/README.md"})
	}
	docker := c.deployment.static.get("providers", "docker", "exposedByDefault")
	if docker != nil && docker.text == "false" {
		for _, s := range c.services {
			named := slices.ContainsFunc(c.routers, func(r *router) bool { return r.owner == s })
			if enable, ok := s.labels["traefik.enable"]; named && (!ok || !strings.EqualFold(enable.text, "true")) {
				c.found(s.place, finding{check: "router", expected: "traefik.enable", seen: "exposedByDefault is false, and " + s.name + " has no traefik.enable: its labels are not read", fault: report.Label,
					breaks: []string{report.EveryClient}, remedy: "write " + s.labelLine("traefik.enable", `"true"`), page: "docs/troubleshooting.md"})
			}
		}
	}
}
