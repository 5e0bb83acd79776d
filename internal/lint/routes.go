package lint

import (
	"fmt"
	"math"
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
		if host := u.Hostname(); host != "" && !strings.ContainsAny(host, ".:") && !(traefik.host && host == "localhost") {
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
			c.breaks(v.place, "sidecar", "a service of the file", "no service is called "+host+": logins are answered 502", remedy, "docs/troubleshooting.md")
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
	if _, err := sealing.ParseRing(master.text); err != nil {
		c.found(master.place, finding{check: "master secret", expected: "master secrets in BOUNCER_ENCRYPTION_KEY", seen: err.Error() + ": the sidecar does not start", fault: report.Sidecar,
			breaks: []string{report.EveryClient}, remedy: "write one that is whole, without quotes inside the value", page: "docs/secrets.md"})
		return
	}
	// The sidecar takes the hop key of each master of its ring.
	if !slices.ContainsFunc(strings.Split(master.text, ","), func(one string) bool {
		ring, err := sealing.ParseRing(one)
		return err == nil && strings.TrimSpace(key.text) == ring.HopKey()
	}) {
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
	if c.broken(t.owner) {
		return // Traefik reads none of its labels, and that is said already
	}
	if len(t.routers) == 0 {
		f := finding{check: "router", expected: "a router that uses " + t.title(), seen: "none does: nothing is protected by it", fault: report.Label, note: c.routerElsewhere(t),
			breaks: []string{report.EveryClient}, remedy: "write " + c.routerFor(t).written("middlewares", t.title()) + " for the router", page: "docs/routes.md"}
		at := t.place
		for _, r := range c.routers {
			if t.owner != nil && r.owner == t.owner && r.owner != c.sidecarOf(t) && r.service != "" && !c.dropped(r) && !c.guarded(r) && c.otherGuard(r) == "" && !(r.automatic && f.note) {
				at, f.note = r.place, false
				f.seen, f.remedy = "none does: router "+r.name+" leads to the server without it, which is OPEN TO EVERYBODY", "write "+r.written("middlewares", t.title())
			}
		}
		c.found(at, f)
		return
	}
	rules := map[*router]rule{}
	for _, r := range c.routers {
		if r.rule.unknown && strings.Contains(r.rule.text, "unset") && !strings.Contains(r.rule.text, "`") {
			continue // the whole rule is a variable
		}
		if parsed, err := c.ruleOf(r); err == nil && !c.dropped(r) {
			rules[r] = parsed
		} else if err != nil && slices.Contains(t.routers, r) {
			c.breaks(r.rule.place, "router", "a rule that Traefik reads", err.Error()+": Traefik drops the router", "correct the rule", "docs/routes.md")
		}
	}
	for _, r := range t.routers {
		c.before(t, r)
		if r.rule.text == "" && r.owner != nil && !r.automatic {
			at := r.rule.place
			if at.file == "" {
				at = r.place
			}
			c.found(at, finding{check: "router", expected: "a rule", seen: "no rule: Traefik makes one of the container's name, which is not the host of clients", fault: report.Label,
				note:   c.deployment.static == nil || c.deployment.static.get("providers", "docker").has("defaultRule"),
				breaks: []string{report.EveryClient}, remedy: "write " + r.written("rule", "Host(`…`)"), page: "docs/routes.md"})
			return
		}
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
	missed, unsure, first := []string{}, false, t.routers[0]
	for _, q := range asked(u, endpoints) {
		if slices.ContainsFunc(t.routers, func(r *router) bool { return rules[r] == nil }) {
			return // what Traefik or a variable makes of it is not known, or that is said already
		}
		winner, equal := c.winner(rules, q, t)
		switch {
		case winner == nil && slices.ContainsFunc(t.routers, func(r *router) bool { return rules[r](q) == perhaps }):
			unsure = true
		case winner == nil:
			missed = append(missed, q.path)
		case equal != nil:
			c.breaks(equal.place, "router", "the bouncer's router answers "+q.path, fmt.Sprintf("router %s has the same priority (%d): chance decides which of them answers", equal.name, equal.weight()), "write "+first.written("priority", fmt.Sprintf("\"%d\"", max(1000, equal.weight()+1))), "docs/routes.md")
			return
		case !slices.Contains(t.routers, winner):
			c.breaks(winner.place, "router", "the bouncer's router answers "+q.path, fmt.Sprintf("router %s, which goes before it, answers, without %s", winner.name, t.title()), "write "+first.written("priority", fmt.Sprintf("\"%d\"", max(1000, winner.weight()+1))), "docs/routes.md")
			return
		}
	}
	if unsure {
		c.found(first.rule.place, finding{check: "router", expected: "a rule of host and path", seen: "only some clients are let to it: its rule asks for what lint does not know, such as Header, Query or ClientIP", fault: report.Label, note: true,
			remedy: "take that out, unless it is meant", page: "docs/routes.md"})
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
	c.breaks(first.rule.place, "router", "a rule that takes what clients ask for "+public.text, "it misses "+strings.Join(missed, ", ")+" (404)", "write "+first.written("rule", right), "docs/routes.md")
}

func (r *router) weight() int {
	if r.priority != 0 {
		return r.priority
	}
	return len(r.rule.text)
}

// ruleOf is a router's rule, together with those of the routers that it stands below.
func (c *checker) ruleOf(r *router) (rule, error) {
	all := []rule{}
	for _, at := range c.paths(r)[0] {
		if c.syntaxOf(at) == "v2" || at.rule.text == "" && at.provider == "docker" {
			all = append(all, unknowable) // read in another way, or made by Traefik
			continue
		}
		own, err := parseRule(at.rule.text)
		if err != nil {
			return nil, err
		}
		all = append(all, own)
	}
	return func(q request) answer {
		least := yes
		for _, one := range all {
			least = min(least, one(q))
		}
		return least
	}, nil
}

func (c *checker) syntaxOf(r *router) string {
	if by := c.deployment.static.get("core", "defaultRuleSyntax"); r.syntax == "" && by != nil {
		return strings.ToLower(by.text)
	}
	return r.syntax
}

// dropped says whether Traefik is known to use a router not at all.
func (c *checker) dropped(r *router) bool {
	known, asked := c.drops[r]
	if !asked {
		if c.drops == nil {
			c.drops = map[*router]bool{}
		}
		known = c.isDropped(r)
		c.drops[r] = known
	}
	return known
}

func (c *checker) isDropped(r *router) bool {
	if c.broken(r.owner) || r.priority > math.MaxInt-1000 && len(r.parents) == 0 || c.twice(r) || c.nowhere(r) || c.noService(r) != "" {
		return true
	}
	if _, err := c.ruleOf(r); err != nil && !r.rule.unknown {
		return true
	}
	return slices.ContainsFunc(c.chainOf(r), func(name string) bool {
		_, provider, _ := strings.Cut(name, "@")
		return c.middlewareNamed(name) == nil && slices.ContainsFunc(c.middlewares, func(m *middleware) bool { return m.provider == provider })
	})
}

// winner is the router that answers a request for certain where a tenant's routers listen; nil:
// none. One place where the tenant answers is enough: elsewhere something else may be meant, such
// as a redirect to https. equal is another one that may answer as well.
func (c *checker) winner(rules map[*router]rule, q request, t *tenant) (best, equal *router) {
	before := func(a, b *router) bool {
		if c.root(a) != c.root(b) {
			a, b = c.root(a), c.root(b)
		}
		return a.weight() > b.weight()
	}
	for _, own := range t.routers {
		var here, beside *router
		for _, r := range c.routers {
			switch {
			case !c.meet(own, r) || rules[r] == nil || rules[r](q) != yes:
			case here == nil || before(r, here):
				here, beside = r, nil
			case !before(here, r) && slices.Contains(t.routers, here) != slices.Contains(t.routers, r):
				beside = r
			}
		}
		if here != nil && slices.Contains(t.routers, here) && beside == nil {
			return here, nil
		}
		if beside != nil && slices.Contains(t.routers, beside) {
			here, beside = beside, here
		}
		if here != nil && best == nil {
			best, equal = here, beside
		}
	}
	return best, equal
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
	"addprefix":        "changes the path: 404",
	"retry":            "sends a message a second time without its body: 503",
	"buffering":        "holds event streams back until they end",
	"errors":           "takes the challenge out of the 401",
	"circuitbreaker":   "counts each 401 as a failure, and then answers 503 to everybody",
}

func (c *checker) before(t *tenant, r *router) {
	chain := c.wholeChain(r)
	own := slices.Index(chain, t.title())
	for i, name := range chain {
		m := c.middlewareNamed(name)
		switch {
		case m == nil || i == own:
		case c.ours(m):
			c.breaks(r.middlewares.place, "middlewares", "the bouncer once", name+" is the bouncer once more: the second one answers 401 to everybody", "take one of the two out", "docs/middlewares.md")
			return
		case m.kind == "basicauth" || m.kind == "digestauth":
			c.breaks(r.middlewares.place, "middlewares", t.title()+" alone asks who is there", m.kind+" ("+name+") beside it takes each token for a wrong password: 401 for everybody", "take "+name+" out", "docs/middlewares.md")
		}
	}
	for _, name := range chain[:own] {
		m := c.middlewareNamed(name)
		if m == nil || harm[m.kind] == "" {
			continue
		}
		path := strings.HasSuffix(harm[m.kind], ": 404")
		breaks := []string{}
		if path {
			breaks = append(breaks, report.EveryClient)
		}
		remedy := "put " + name + " behind it"
		if right := c.chainOf(r); slices.Contains(right, name) && slices.Contains(right, t.title()) {
			right = slices.DeleteFunc(right, func(n string) bool { return n == name })
			right = slices.Insert(right, slices.Index(right, t.title())+1, name)
			remedy = "write " + r.written("middlewares", strings.Join(right, ","))
		}
		c.found(r.middlewares.place, finding{check: "middlewares", expected: t.title() + " first", seen: m.kind + " (" + name + ") before it, which " + harm[m.kind], fault: report.Label, note: !path,
			breaks: breaks, remedy: remedy, page: "docs/middlewares.md"})
	}
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
				c.breaks(s.place, "router", "traefik.enable", "exposedByDefault is false, and "+s.name+" has no traefik.enable: its labels are not read", "write "+s.labelLine("traefik.enable", `"true"`), "docs/troubleshooting.md")
			}
		}
	}
}
