package lint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// deployment is what all files say together.
type deployment struct {
	services    []*service
	routers     []*router
	tcp         []*router // name, place and service only
	middlewares []*middleware
	backends    map[string][]string // NAME@PROVIDER of Traefik's service → HOST:PORT of servers
	parts       map[string][]string // the same → services that it is made of
	notRead     []value             // files that others name
	dynamicRead bool                // a dynamic file of Traefik's was given
	static      *tree               // Traefik's own configuration; nil: not given
	staticFlags bool                // it is written as flags or variables
	kube        kube
	lines       map[string][]string // of each file, for the corrected line
}

// service is a container of Compose, or a running one.
type service struct {
	name    string
	aliases []string // other names in its networks
	// Of Kubernetes; empty elsewhere. pod are the labels that Services select.
	namespace string
	pod       *tree
	image     string
	command   []value
	mounts    string // targets of its volumes, and what leads there
	running   bool
	health    string // of a running one: empty or none, starting, healthy, unhealthy
	env       map[string]value
	envFile   bool // variables that lint does not see may be set
	networks  []string
	host      bool  // network_mode: host, or another that lint does not follow
	mode      value // network_mode as Compose has it; empty: networks
	ports     *tree
	labels    map[string]value
	listed    bool // labels are a list of NAME=VALUE
	envList   bool // so is the environment
	// partial says that more of the service stands elsewhere: there is neither an image nor how to
	// build one, without which Compose starts nothing.
	partial bool
	place
}

type router struct {
	name, provider string
	rule           value
	middlewares    value
	names          []string // of the middlewares, with @PROVIDER
	priority       int      // 0: the length of the rule
	service        string   // NAME@PROVIDER; empty: the container's only one
	entryPoints    []string // nil: the default ones
	tls            bool
	parents        []string // routers that it stands below, with @PROVIDER
	syntax         string   // of the rule; empty: of version 3
	automatic      bool     // Traefik makes it for a container that names none
	owner          *service // nil: of a file
	namespace      string   // of a manifest
	refs           map[string]*kubeName
	place
}

type middleware struct {
	name, provider string
	kind           string // as Traefik names it, in small letters; plugin.NAME for a plugin
	options        map[string]value
	spelt          map[string]string // option as written
	chain          []string
	owner          *service
	namespace      string // of a manifest
	plugin         place  // of the plugin's name; empty in labels
	place
}

// read reads files, and containers where Docker's API has an address, that together are one
// deployment.
func read(ctx context.Context, files []string, docker string) (*deployment, error) {
	d := &deployment{backends: map[string][]string{}, parts: map[string][]string{}, lines: map[string][]string{}, kube: kube{services: map[string]*tree{}, refs: map[string]*kubeName{}}}
	r := &reader{}
	for _, file := range files {
		if err := d.file(r, file); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if docker != "" {
		if len(d.services) > 0 {
			return nil, errors.New("a compose file and the containers that run say the same twice: name only one of them")
		}
		if err := d.docker(ctx, docker); err != nil {
			return nil, err
		}
	}
	d.readStatic()
	d.joinKube()
	for _, s := range d.services {
		if on, set := s.enabled(); on || !set {
			d.labels(s)
		}
	}
	return d, nil
}

func contentOf(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	return content, err
}

func (d *deployment) file(r *reader, file string) error {
	content, err := contentOf(file)
	if err != nil {
		return err
	}
	if strings.HasSuffix(file, ".toml") {
		return errors.New("TOML is not read: write the file as YAML, which Traefik takes as well")
	}
	d.lines[file] = strings.Split(string(content), "\n")
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for known := false; ; known = true {
		var node yaml.Node
		if err := decoder.Decode(&node); err == io.EOF && known {
			return nil
		} else if err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if err := d.document(r, file, &node); err != nil {
			return err
		}
	}
}

func (d *deployment) document(r *reader, file string, node *yaml.Node) error {
	r.file, r.replace = file, nil
	plain, err := r.read(node, 0)
	if err != nil {
		return err
	}
	switch {
	case plain.has("apiVersion"):
		d.manifest(plain)
	case plain.has("services") && !plain.has("http"), plain.isLabels(), plain.get("labels").isLabels():
		env := map[string]string{}
		if content, err := contentOf(filepath.Join(filepath.Dir(file), ".env")); err == nil {
			env = parseEnv(string(content))
		}
		r.replace = func(text string) (string, bool) { return interpolate(text, env) }
		compose, err := r.read(node, 0)
		if err != nil {
			return err
		}
		all := compose.get("services")
		if all == nil { // labels alone, as an example on a page
			if compose.has("labels") {
				compose = compose.at["labels"]
			}
			all = &tree{keys: []string{""}, at: map[string]*tree{"": {at: map[string]*tree{"labels": compose}, keyed: plain.place}}}
		}
		d.compose(all)
		d.names(compose.get("include"))
	case plain.has("http") || plain.has("tcp") || plain.has("udp") || plain.has("tls"):
		d.dynamicRead = true
		d.dynamic(plain.get("http"))
		d.dynamicTCP(plain.get("tcp"))
	case plain.has("entryPoints") || plain.has("providers") || plain.has("experimental"):
		d.static = plain
	case len(plain.keys) == 0:
	default:
		return fmt.Errorf("line %d: this is neither a compose file (services:), nor a dynamic file (http:) or the static configuration (entryPoints:) of Traefik, nor a manifest (apiVersion:)", plain.line)
	}
	return nil
}

// isLabels says whether a mapping or list holds labels for Traefik and nothing else.
func (t *tree) isLabels() bool {
	if t == nil || len(t.keys)+len(t.items) == 0 {
		return false
	}
	other := false
	pairs(t, func(name string, v value) { other = other || !strings.HasPrefix(strings.ToLower(name), "traefik.") })
	return !other
}

func (d *deployment) compose(all *tree) {
	for _, name := range all.keys {
		s := &service{name: name, env: map[string]value{}, labels: map[string]value{}, partial: true, place: all.at[name].keyed}
		d.extend(s, all, all.at[name], 0)
		if len(s.networks) == 0 && !s.host {
			s.networks = []string{"default"}
		}
		d.services = append(d.services, s)
	}
}

// extend adds what a service says itself to what the service of its `extends` says.
func (d *deployment) extend(s *service, all, t *tree, depth int) {
	if from := t.get("extends"); from != nil && depth < 10 && !from.has("file") {
		base := from.text
		if b := from.get("service"); b != nil {
			base = b.text
		}
		if all.has(base) {
			d.extend(s, all, all.at[base], depth+1)
		}
	}
	s.partial = s.partial && !t.has("image") && !t.has("build")
	if image := t.get("image"); image != nil {
		s.image = image.text
	}
	if command := t.get("command"); command != nil {
		if s.command = command.texts(); command.items == nil { // one text, as a shell has it
			s.command = nil
			for _, word := range strings.Fields(command.text) {
				s.command = append(s.command, value{text: strings.Trim(word, `"'`), place: command.place})
			}
		}
	}
	if volumes := t.get("volumes"); volumes != nil {
		for _, v := range volumes.items {
			s.mounts += " " + v.text
			if target := v.get("target"); target != nil {
				s.mounts += " " + target.text
			}
		}
	}
	pairs(t.get("environment"), func(name string, v value) {
		if v.typed == nil { // NAME alone takes the variable of whoever runs Compose
			v.unknown = true
		}
		s.env[name] = v
	})
	if labels := t.get("labels"); labels != nil {
		s.listed = labels.items != nil
	}
	if env := t.get("environment"); env != nil {
		s.envList = env.items != nil
	}
	pairs(t.get("labels"), func(name string, v value) { s.labels[name] = v })
	s.envFile = s.envFile || t.has("env_file") || t.get("extends").has("file")
	if ports := t.get("ports"); ports != nil {
		s.ports = ports
	}
	if networks := t.get("networks"); networks != nil {
		s.networks = append(s.networks, networks.keys...)
		for _, v := range networks.texts() {
			s.networks = append(s.networks, v.text)
		}
	}
	if mode := t.get("network_mode"); mode != nil {
		s.host, s.mode = true, value{text: mode.text, place: mode.keyed}
	}
	d.names(t.get("label_file"))
	d.names(t.get("extends", "file"))
	for _, name := range []string{"container_name", "hostname"} {
		if t.has(name) {
			s.aliases = append(s.aliases, t.get(name).text)
		}
	}
	if networks := t.get("networks"); networks != nil {
		for _, name := range networks.keys {
			for _, v := range networks.get(name, "aliases").texts() {
				s.aliases = append(s.aliases, v.text)
			}
			for _, address := range []string{"ipv4_address", "ipv6_address"} {
				if networks.at[name].has(address) {
					s.aliases = append(s.aliases, networks.get(name, address).text)
				}
			}
		}
	}
}

// names notes what a member of a compose file names: a text, a list, or a list of mappings with
// `path`.
func (d *deployment) names(t *tree) {
	d.notRead = append(d.notRead, t.texts()...)
	if t == nil {
		return
	}
	for _, item := range t.items {
		d.notRead = append(d.notRead, item.get("path").texts()...)
	}
}

// pairs are a mapping, or a list of NAME=VALUE.
func pairs(t *tree, found func(string, value)) {
	if t == nil {
		return
	}
	for _, key := range t.keys {
		v := t.at[key].value
		v.place = t.at[key].keyed
		// Compose writes a number of more than 64 bits, or with a fraction, as a float.
		if _, err := strconv.ParseUint(v.text, 0, 64); t.at[key].number && err != nil {
			if f, err := strconv.ParseFloat(v.text, 64); err == nil {
				v.text = strconv.FormatFloat(f, 'g', -1, 64)
				v.typed = v.text
			}
		}
		found(key, v)
	}
	for _, item := range t.items {
		name, text, ok := strings.Cut(item.text, "=")
		v := item.value
		v.text, v.typed = text, text
		if !ok {
			v.typed = nil
		}
		found(name, v)
	}
}

// labels reads what Traefik's docker provider makes of a container.
func (d *deployment) labels(s *service) {
	routers, middlewares, ports := map[string]*router{}, map[string]*middleware{}, map[string]string{}
	services, tcp := map[string]string{}, []string{} // as they are spelt first; labels
	for _, name := range slices.Sorted(maps.Keys(s.labels)) {
		v := s.labels[name]
		part := strings.Split(name, ".")
		if len(part) >= 5 && strings.EqualFold(part[0], "traefik") && strings.EqualFold(part[1], "tcp") {
			tcp = append(tcp, name)
		}
		if len(part) < 5 || !strings.EqualFold(part[0], "traefik") || !strings.EqualFold(part[1], "http") {
			continue
		}
		switch strings.ToLower(part[2]) {
		case "routers":
			t := routers[strings.ToLower(part[3])]
			if t == nil {
				t = &router{name: part[3], provider: "docker", owner: s}
				routers[strings.ToLower(part[3])] = t
				d.routers = append(d.routers, t)
			}
			if part[4] = strings.ToLower(part[4]); part[4] == "tls" && len(part) > 5 {
				v.text = "true" // tls.certresolver and the like turn it on
			}
			t.set(part[4], v)
			if s.running {
				t.file = s.file + ": router " + t.name
			}
		case "services":
			if services[strings.ToLower(part[3])] == "" {
				services[strings.ToLower(part[3])] = part[3]
			}
			key := qualified(services[strings.ToLower(part[3])], "docker")
			if ports[key] += ""; strings.EqualFold(strings.Join(part[4:], "."), "loadbalancer.server.port") {
				ports[key] = v.text
			}
		case "middlewares":
			m := middlewares[strings.ToLower(part[3])]
			if m == nil {
				m = &middleware{name: part[3], provider: "docker", owner: s, options: map[string]value{}, spelt: map[string]string{}, place: v.place}
				middlewares[strings.ToLower(part[3])] = m
				d.middlewares = append(d.middlewares, m)
			}
			if v.line < m.line {
				m.place = v.place
			}
			if s.running {
				m.file = s.file + ": middleware " + m.name
			}
			m.label(part[4:], v)
		}
	}
	d.labelsTCP(s, tcp)
	if len(tcp) > 0 && len(routers)+len(middlewares)+len(ports) == 0 {
		return
	}
	if len(ports) == 0 { // Traefik makes a service of the container, with a port of the image
		ports[qualified("container "+s.name, "docker")] = ""
	}
	for name, port := range ports {
		d.backends[name] = append(d.backends[name], s.name+":"+port)
	}
	// A container without a router gets one, whose rule asks for the container's name.
	if on, set := s.enabled(); (on || !set && d.exposes()) && len(routers) == 0 && len(ports) == 1 && s.name != "" {
		made := &router{name: s.name, provider: "docker", automatic: true, owner: s, place: s.place}
		routers[""], d.routers = made, append(d.routers, made)
	}
	for _, t := range routers {
		if t.service == "" && len(ports) == 1 {
			t.service = slices.Collect(maps.Keys(ports))[0]
		}
	}
}

// exposes says whether Traefik reads containers that do not ask for it.
func (d *deployment) exposes() bool {
	docker := d.static.get("providers", "docker")
	by := docker.get("exposedByDefault")
	return docker != nil && (by == nil || by.text != "false")
}

func (t *router) set(member string, v value) {
	if t.file == "" || v.line < t.line {
		t.place = v.place
	}
	switch member {
	case "rule":
		t.rule = v
	case "middlewares":
		t.middlewares = v
		for _, name := range strings.Split(v.text, ",") {
			if name = strings.TrimSpace(name); name != "" {
				t.names = append(t.names, qualified(name, t.provider))
			}
		}
	case "priority":
		t.priority, _ = strconv.Atoi(v.text)
	case "service":
		t.service = qualified(v.text, t.provider)
	case "entrypoints":
		for _, name := range strings.Split(v.text, ",") {
			t.entryPoints = append(t.entryPoints, strings.TrimSpace(name))
		}
	case "tls":
		t.tls = v.text != "false"
	case "rulesyntax":
		t.syntax = strings.ToLower(v.text)
	case "parentrefs":
		for _, name := range strings.Split(v.text, ",") {
			t.parents = append(t.parents, qualified(strings.TrimSpace(name), t.provider))
		}
	}
}

func qualified(name, provider string) string {
	if name == "" || strings.Contains(name, "@") {
		return name
	}
	return name + "@" + provider
}

func (m *middleware) label(part []string, v value) {
	m.kind = strings.ToLower(part[0])
	if m.kind == "chain" {
		for _, name := range strings.Split(v.text, ",") {
			m.chain = append(m.chain, qualified(strings.TrimSpace(name), m.provider))
		}
	}
	if m.kind != "plugin" {
		m.setOption(strings.Join(part[1:], "."), v)
	}
	if m.kind != "plugin" || len(part) < 3 {
		return
	}
	m.kind = "plugin." + part[1]
	m.setOption(strings.Join(part[2:], "."), v)
}

func (m *middleware) setOption(name string, v value) {
	m.options[strings.ToLower(name)] = v
	m.spelt[strings.ToLower(name)] = name
}

// serverOf is HOST:PORT of a server's URL: Traefik passes over its path.
func serverOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	return strings.ToLower(u.Hostname()) + ":" + portOf(u)
}

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	case u.Scheme == "http" || u.Scheme == "h2c":
		return "80"
	}
	return ""
}

// dynamic reads a file of Traefik's file provider.
func (d *deployment) dynamic(http *tree) {
	if routers := http.get("routers"); routers != nil {
		for _, name := range routers.keys {
			t, from := &router{name: name, provider: "file"}, routers.at[name]
			for _, member := range from.keys {
				v := from.at[member].value
				v.place = from.at[member].keyed
				if from.at[member].items != nil {
					v.text = joined(from.at[member])
				}
				t.set(strings.ToLower(member), v)
			}
			t.place = from.keyed
			d.routers = append(d.routers, t)
		}
	}
	if middlewares := http.get("middlewares"); middlewares != nil {
		for _, name := range middlewares.keys {
			d.middleware(&middleware{name: name, provider: "file", place: middlewares.at[name].keyed}, middlewares.at[name])
		}
	}
	if services := http.get("services"); services != nil {
		for _, name := range services.keys {
			key := qualified(name, "file")
			d.backends[key] = append([]string{}, d.backends[key]...)
			if servers := services.get(name, "loadBalancer", "servers"); servers != nil {
				for _, server := range servers.items {
					if u := server.get("url"); u != nil {
						d.backends[key] = append(d.backends[key], serverOf(u.text))
					}
				}
			}
			for _, part := range partsOf(services.at[name]) {
				d.parts[key] = append(d.parts[key], qualified(part, "file"))
			}
		}
	}
}

// partsOf are the services of one that weighs, mirrors or fails over.
func partsOf(t *tree) []string {
	names := []string{}
	for _, path := range [][]string{{"weighted", "services"}, {"highestRandomWeight", "services"}, {"mirroring", "mirrors"}} {
		if list := t.get(path...); list != nil {
			for _, item := range list.items {
				for _, v := range item.get("name").texts() {
					names = append(names, v.text)
				}
			}
		}
	}
	for _, path := range [][]string{{"mirroring", "service"}, {"failover", "service"}, {"failover", "fallback"}} {
		for _, v := range t.get(path...).texts() {
			names = append(names, v.text)
		}
	}
	return names
}

// joined is a list as a label has it.
func joined(t *tree) string {
	names := []string{}
	for _, v := range t.texts() {
		names = append(names, v.text)
	}
	return strings.Join(names, ",")
}

// Routers of TCP know no middleware of HTTP. Their services stand beside those of HTTP, under tcp:.

func (d *deployment) dynamicTCP(tcp *tree) {
	if routers := tcp.get("routers"); routers != nil {
		for _, name := range routers.keys {
			if service := routers.get(name, "service"); service != nil {
				d.tcp = append(d.tcp, &router{name: name, provider: "file", service: "tcp:" + qualified(service.text, "file"), place: routers.at[name].keyed})
			}
		}
	}
	if services := tcp.get("services"); services != nil {
		for _, name := range services.keys {
			key := "tcp:" + qualified(name, "file")
			if servers := services.get(name, "loadBalancer", "servers"); servers != nil {
				for _, server := range servers.items {
					for _, v := range server.get("address").texts() {
						d.backends[key] = append(d.backends[key], strings.ToLower(v.text))
					}
				}
			}
			for _, part := range partsOf(services.at[name]) {
				d.parts[key] = append(d.parts[key], "tcp:"+qualified(part, "file"))
			}
		}
	}
}

func (d *deployment) labelsTCP(s *service, names []string) {
	routers, ports := map[string]*router{}, map[string]string{}
	for _, name := range names {
		part, v := strings.Split(name, "."), s.labels[name]
		key := strings.ToLower(part[3])
		switch strings.ToLower(part[2]) {
		case "routers":
			if routers[key] == nil {
				routers[key] = &router{name: part[3], provider: "docker", owner: s, place: v.place}
				d.tcp = append(d.tcp, routers[key])
			}
			if strings.EqualFold(part[4], "service") {
				routers[key].service = "tcp:" + qualified(v.text, "docker")
			}
		case "services":
			if ports[key] += ""; strings.EqualFold(strings.Join(part[4:], "."), "loadbalancer.server.port") {
				ports[key] = v.text
			}
		}
	}
	if len(routers) == 0 {
		return
	}
	if len(ports) == 0 {
		ports["container "+s.name] = ""
	}
	for name, port := range ports {
		d.backends["tcp:"+qualified(name, "docker")] = append(d.backends["tcp:"+qualified(name, "docker")], s.name+":"+port)
		for _, t := range routers {
			if t.service == "" && len(ports) == 1 {
				t.service = "tcp:" + qualified(name, "docker")
			}
		}
	}
}

// middleware reads a middleware of a file or of a manifest.
func (d *deployment) middleware(m *middleware, from *tree) {
	m.options, m.spelt = map[string]value{}, map[string]string{}
	d.middlewares = append(d.middlewares, m)
	if from == nil {
		return
	}
	for _, kind := range from.keys {
		m.kind = strings.ToLower(kind)
		if m.kind == "chain" {
			for _, item := range from.list(kind + ".middlewares") {
				name := qualified(item.text, m.provider)
				if m.provider == crd {
					name = d.reference(m.namespace, item)
				}
				m.chain = append(m.chain, name)
			}
		}
		if m.kind != "plugin" {
			for _, option := range from.at[kind].keys {
				v := from.at[kind].at[option].value
				if v.text == "" {
					v.text = joined(from.get(kind, option))
				}
				m.setOption(option, v)
			}
			continue
		}
		for _, plugin := range from.at[kind].keys {
			m.kind = "plugin." + plugin
			options := from.at[kind].at[plugin]
			m.plugin = options.keyed
			for _, option := range options.keys {
				v := options.at[option].value
				v.place = options.at[option].keyed
				if m.provider == crd {
					v = kubeOption(options.at[option])
				}
				m.setOption(option, v)
			}
		}
	}
}
