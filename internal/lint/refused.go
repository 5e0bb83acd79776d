package lint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What Traefik refuses, it leaves out. A label that it does not know takes all labels of the
// container along.

// membersOfLabels are what Traefik's docker provider takes below traefik.http.
var membersOfLabels = map[string][]string{
	"":         {"routers", "services", "middlewares", "serversTransports"},
	"routers":  {"entryPoints", "middlewares", "service", "rule", "ruleSyntax", "priority", "tls", "observability"},
	"services": {"loadBalancer", "middlewares"},
	"middlewares": {"addPrefix", "stripPrefix", "stripPrefixRegex", "replacePath", "replacePathRegex", "chain", "ipWhiteList", "ipAllowList", "headers", "encodedCharacters", "errors", "rateLimit",
		"redirectRegex", "redirectScheme", "basicAuth", "digestAuth", "forwardAuth", "inFlightReq", "buffering", "circuitBreaker", "compress", "passTLSClientCert", "retry", "contentType", "grpcWeb", "plugin"},
}

// unknownPart is the part of a label that Traefik does not know, and what was meant. An index
// behind a name is another matter.
func unknownPart(name string) (part, meant string) {
	parts := strings.Split(name, ".")
	if len(parts) < 3 || parts[0] != "traefik" || !strings.EqualFold(parts[1], "http") {
		return "", ""
	}
	kind := strings.ToLower(parts[2])
	at, known := parts[2], membersOfLabels[""]
	if len(parts) > 4 && membersOfLabels[kind] != nil {
		at, known = parts[4], membersOfLabels[kind]
	}
	bare, _, _ := strings.Cut(at, "[")
	if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, bare) }) {
		return "", ""
	}
	return at, nearest(bare, known)
}

// broken says whether Traefik reads no label of a container, for one that it does not take.
func (c *checker) broken(s *service) bool {
	if s == nil {
		return false
	}
	for name, v := range s.labels {
		if part, _ := unknownPart(name); part != "" || notANumber(name, v) {
			return true
		}
	}
	return false
}

func notANumber(name string, v value) bool {
	if name = strings.ToLower(name); v.unknown || !strings.HasPrefix(name, "traefik.http.routers.") || !strings.HasSuffix(name, ".priority") {
		return false
	}
	_, err := strconv.Atoi(v.text)
	return err != nil
}

// twice says whether two containers define a router in different ways. Traefik drops both.
func (c *checker) twice(r *router) bool {
	return r.owner != nil && slices.ContainsFunc(c.routers, func(other *router) bool {
		return other.owner != nil && other.owner != r.owner && other.name == r.name && !c.broken(other.owner) &&
			(other.rule.text != r.rule.text || !slices.Equal(other.names, r.names) || other.service != r.service || other.priority != r.priority || !slices.Equal(other.entryPoints, r.entryPoints) || other.tls != r.tls)
	})
}

// noService says why a router leads nowhere; empty: it does not.
func (c *checker) noService(r *router) string {
	bare, provider, _ := strings.Cut(r.service, "@")
	switch {
	case c.isParent(r):
		return ""
	case r.service == "" && r.provider == "docker":
		n := 0
		for name := range c.backends {
			if strings.HasSuffix(name, "@docker") && !strings.HasPrefix(name, "tcp:") && r.owner.defines(strings.TrimSuffix(name, "@docker")) {
				n++
			}
		}
		if n > 1 {
			return fmt.Sprintf("%s has %d services, and the router names none", r.owner.name, n)
		}
		return ""
	case r.service == "" || provider != "docker" && provider != "file" || r.owner != nil && r.owner.partial:
		return ""
	}
	_, known := c.backends[r.service]
	seen := slices.ContainsFunc(sortedKeys(c.backends), func(name string) bool {
		return strings.HasSuffix(name, "@"+provider) && !strings.HasPrefix(name, "tcp:")
	})
	if known || !seen || strings.Contains(bare, "unset") {
		return ""
	}
	return "no service is called " + bare
}

// defines says whether a container's labels have a service of HTTP.
func (s *service) defines(name string) bool {
	for label := range s.labels {
		if part := strings.Split(label, "."); len(part) > 4 && strings.EqualFold(part[1], "http") && strings.EqualFold(part[2], "services") && strings.EqualFold(part[3], name) {
			return true
		}
	}
	return false
}

// refused names what Traefik leaves out of what belongs to a tenant.
func (c *checker) refused() {
	for _, s := range c.services {
		if on, set := s.enabled(); set && !on {
			continue
		}
		for _, name := range sortedKeys(s.labels) {
			v := s.labels[name]
			if part, meant := unknownPart(name); part != "" {
				check := "router"
				if strings.EqualFold(meant, "middlewares") || strings.Contains(strings.ToLower(name), ".middlewares.") {
					check = "middlewares"
				}
				remedy := "remove it or correct its spelling"
				if meant != "" {
					remedy = write(c.corrected(v.place, part, meant), "write "+meant)
				}
				c.breaks(v.place, check, "labels that exist", "Traefik knows no label "+name+": it passes over all labels of "+s.name, remedy, "docs/troubleshooting.md")
			}
			if notANumber(name, v) {
				c.breaks(v.place, "router", "a whole number", "the priority "+v.text+" is no number: Traefik passes over all labels of "+s.name, "write "+s.labelLine(name, `"1000"`), "docs/routes.md")
			}
		}
	}
	own, used := []*router{}, map[string]bool{}
	for _, t := range c.tenants {
		for _, r := range t.routers {
			if !slices.Contains(own, r) {
				own = append(own, r)
			}
		}
		used[t.title()] = true
	}
	all := c.deployment.static.get("entryPoints")
	for _, r := range own {
		for _, name := range c.wholeChain(r) {
			used[name] = true
		}
		if c.broken(r.owner) {
			continue
		}
		for _, name := range r.entryPoints {
			if all == nil || c.entryPoint(name) != nil || strings.Contains(name, "unset") {
				continue
			}
			near := nearest(name, all.keys)
			remedy := "name one of " + strings.Join(all.keys, ", ")
			if near != "" {
				remedy = "write " + r.written("entrypoints", near)
			}
			c.breaks(r.place, "router", "an entry point of the static file", "no entry point is called "+name+": Traefik does not use router "+r.name+" there", remedy, "docs/troubleshooting.md")
		}
		if why := c.noService(r); why != "" {
			c.breaks(r.place, "router", "a service that is defined", why+": Traefik drops router "+r.name+" (404), or a wider one answers", "write "+r.written("service", "NAME")+" with the name of one", "docs/troubleshooting.md")
		}
	}
	for i, r := range c.routers {
		for _, other := range c.routers[:i] {
			if other.name == r.name && c.twice(r) && c.twice(other) && (slices.Contains(own, r) || slices.Contains(own, other)) {
				c.breaks(r.place, "router", "another name", other.owner.name+" and "+r.owner.name+" both define "+r.name+", with different labels: Traefik drops it", "give one of the two another name", "docs/middlewares.md")
			}
		}
	}
	for i, m := range c.middlewares {
		for _, other := range c.middlewares[:i] {
			if m.owner != nil && other.owner != nil && m.owner != other.owner && other.name == m.name && used[m.title()] && !m.same(other) {
				c.breaks(m.place, "middlewares", "another name", other.owner.name+" and "+m.owner.name+" both define "+m.name+", with different labels: Traefik drops it, and each router that uses it", "put its labels on one container", "docs/middlewares.md")
			}
		}
	}
}

func (m *middleware) same(other *middleware) bool {
	if m.kind != other.kind || len(m.options) != len(other.options) || !slices.Equal(m.chain, other.chain) {
		return false
	}
	for name, v := range m.options {
		if other.options[name].text != v.text {
			return false
		}
	}
	return true
}
