package lint

import (
	"slices"
	"strings"
)

// staticNames are the members of Traefik's static configuration that lint asks for. Flags and
// variables may write them in any letter case.
var staticNames = []string{"entryPoints", "asDefault", "http", "tls", "providers", "docker", "exposedByDefault", "experimental", "plugins", "localPlugins", "moduleName", "abortOnPluginFailure",
	"kubernetesCRD", "allowCrossNamespace", "safeNaming", "middlewares", "redirections", "entryPoint", "to", "priority", "forwardedHeaders", "insecure", "core", "defaultRuleSyntax", "defaultRule"}

// readStatic takes Traefik's static configuration from its command line, or from its variables, as
// Traefik does: a file goes before both, and any flag goes before all variables.
func (d *deployment) readStatic() {
	for _, s := range d.services {
		if d.static != nil || !s.isTraefik() || strings.Contains(s.mounts, "/etc/traefik") {
			continue
		}
		settings, file := flagsOf(s.command)
		if file {
			continue
		}
		if len(settings) == 0 {
			for _, name := range sortedKeys(s.env) {
				if member, ours := strings.CutPrefix(strings.ToUpper(name), "TRAEFIK_"); ours {
					v := s.env[name]
					settings = append(settings, setting{strings.ReplaceAll(strings.ToLower(member), "_", "."), v})
				}
			}
		}
		if len(settings) == 0 {
			continue
		}
		d.static, d.staticFlags = &tree{value: value{place: s.place}}, true
		for _, f := range settings {
			at := d.static
			for _, name := range strings.Split(f.name, ".") {
				if i := slices.IndexFunc(staticNames, func(known string) bool { return strings.EqualFold(known, name) }); i >= 0 {
					name = staticNames[i]
				}
				if at.at == nil {
					at.at = map[string]*tree{}
				}
				if at.at[name] == nil {
					at.at[name] = &tree{keyed: f.place}
					at.keys = append(at.keys, name)
				}
				at = at.at[name]
			}
			at.value = f.value
		}
	}
}

type setting struct {
	name string
	value
}

// flagsOf reads --NAME=VALUE, --NAME VALUE and --NAME. file says that a file holds everything.
func flagsOf(command []value) (settings []setting, file bool) {
	for i, v := range command {
		name, text, set := strings.Cut(v.text, "=")
		if !strings.HasPrefix(name, "-") {
			continue
		}
		if name = strings.TrimLeft(name, "-"); strings.EqualFold(name, "configfile") {
			return nil, true
		}
		if v.text = text; !set {
			v.text = "true"
			if i+1 < len(command) && !strings.HasPrefix(command[i+1].text, "-") {
				v.text = command[i+1].text
			}
		}
		settings = append(settings, setting{name, v})
	}
	return settings, false
}

// staticLine is a remedy in the form that Traefik's static configuration has here.
func (c *checker) staticLine(inFile, asFlag string) string {
	if c.deployment.staticFlags {
		return "write " + asFlag
	}
	return "write " + inFile
}

// isTraefik goes by the name of the service or of its image.
func (s *service) isTraefik() bool {
	image, _, _ := strings.Cut(s.image[strings.LastIndex(s.image, "/")+1:], ":")
	image, _, _ = strings.Cut(image, "@")
	return s.called("traefik") || image == "traefik"
}

// called says whether other containers reach a service by a name.
func (s *service) called(name string) bool {
	return strings.EqualFold(s.name, name) || slices.ContainsFunc(s.aliases, func(alias string) bool { return strings.EqualFold(alias, name) })
}

// meets says whether two services share a network whose names Docker resolves. The default bridge
// of Docker has none.
func (s *service) meets(other *service) bool {
	return s.host || other.host || slices.ContainsFunc(s.networks, func(n string) bool {
		return slices.Contains(other.networks, n) && !(s.running && n == "bridge")
	})
}

// join is what lets a service meet another.
func (s *service) join(other *service) string {
	if s.running {
		for _, n := range other.networks {
			if n != "bridge" {
				return "run docker network connect " + n + " " + s.name + ", and write the network where " + s.name + " is started"
			}
		}
		return "start both with --network NAME, after docker network create NAME"
	}
	return "write networks: [" + strings.Join(append(slices.Clone(s.networks), other.networks[0]), ", ") + "] for " + s.name
}
