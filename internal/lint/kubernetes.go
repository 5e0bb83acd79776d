package lint

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// kube is what manifests say beside routers and middlewares. Names are NAMESPACE/NAME.
type kube struct {
	services map[string]*tree // Service
	backends []*kubeBackend
	// refs are the middlewares' own names and namespaces, by the name that Traefik makes of both.
	refs    map[string]*kubeName
	crossed []*tree // name and namespace of each reference into another namespace
	old     []*tree // apiVersions that Traefik 3 does not read
}

type kubeName struct {
	namespace, name string
	given           bool // the namespace is written
	place                // of the name
}

// kubeBackend is a Service to which a router sends.
type kubeBackend struct {
	key       string // of deployment.backends
	namespace string
	name      *tree
	port      string // number or name
}

// crd is how Traefik calls its provider of IngressRoute and Middleware. Those of Ingress and of
// HTTPRoute have no middlewares of their own.
const crd, ingress, gateway = "kubernetescrd", "kubernetes", "kubernetesgateway"

// kubeTitle is the name that Traefik gives a middleware of a namespace.
func kubeTitle(namespace, name string) string {
	other := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsNumber(c) }
	return strings.Join(strings.FieldsFunc(namespace+"-"+name, other), "-")
}

// manifest reads an object of Kubernetes as Traefik's providers do. Without a namespace it is in
// `default`, unless a reference to it says otherwise.
func (d *deployment) manifest(t *tree) {
	kind, spec := t.str("kind"), t.get("spec")
	if strings.HasSuffix(kind, "List") {
		for _, item := range t.list("items") {
			d.manifest(item)
		}
		return
	}
	own := &kubeName{namespace: t.str("metadata.namespace"), name: t.str("metadata.name"), place: t.place}
	if own.given = own.namespace != ""; !own.given {
		own.namespace = "default"
	}
	if name := t.in("metadata.name"); name != nil {
		own.place = name.place
	}
	if version := t.get("apiVersion"); version != nil && strings.HasPrefix(version.text, "traefik.containo.us/") {
		d.kube.old = append(d.kube.old, version)
	}
	switch kind {
	case "Middleware":
		title := kubeTitle(own.namespace, own.name)
		d.kube.refs[title+"@"+crd] = own
		d.middleware(&middleware{name: title, provider: crd, namespace: own.namespace, place: own.place}, spec)
	case "IngressRoute":
		for _, route := range spec.list("routes") {
			d.ingressRoute(own, spec, route)
		}
	case "Ingress":
		rules := spec.list("rules")
		for _, rule := range rules {
			for _, path := range rule.list("http.paths") {
				d.ingress(own, t, path, rule.str("host"), path.in("backend.service"))
			}
		}
		if backend := spec.in("defaultBackend.service"); backend != nil && len(rules) == 0 {
			d.ingress(own, t, backend, "", backend).priority = -1 << 31
		}
	case "HTTPRoute":
		for _, rule := range spec.list("rules") {
			d.httpRoute(own, spec, rule)
		}
	case "Service":
		d.kube.services[own.namespace+"/"+own.name] = t
	case "Pod":
		d.workload(own, t)
	default: // Deployment, StatefulSet, DaemonSet and others
		if pod := spec.get("template"); pod.has("spec") {
			d.workload(own, pod)
		}
	}
}

func (d *deployment) ingressRoute(own *kubeName, spec, route *tree) {
	r := d.kubeRouter(own, crd, route)
	r.setFrom("rule", route.get("match"))
	r.setFrom("priority", route.get("priority"))
	r.tls = spec.has("tls")
	for _, e := range spec.list("entryPoints") {
		r.entryPoints = append(r.entryPoints, strings.ToLower(e.text))
	}
	d.references(r, route.get("middlewares"))
	for _, s := range route.list("services") {
		d.kubeBackend(r, s, s.str("port"))
	}
}

func (r *router) setFrom(member string, t *tree) {
	if t != nil {
		v := t.value
		v.place = t.keyed
		r.set(member, v)
	}
}

// httpRoute is a rule of Gateway API's.
func (d *deployment) httpRoute(own *kubeName, spec, rule *tree) {
	hosts, paths := []string{}, []string{}
	for _, h := range spec.list("hostnames") {
		hosts = append(hosts, "Host(`"+h.text+"`)")
	}
	for _, match := range rule.list("matches") {
		path, matcher := match.str("path.value"), "PathPrefix"
		switch match.str("path.type") {
		case "Exact":
			matcher = "Path"
		case "RegularExpression":
			matcher = "PathRegexp"
		default: // of whole segments
			if path = strings.TrimSuffix(path, "/") + "/"; path != "/" {
				paths = append(paths, "Path(`"+path[:len(path)-1]+"`)")
			}
		}
		paths = append(paths, matcher+"(`"+path+"`)")
	}
	if len(paths) == 0 {
		paths = append(paths, "PathPrefix(`/`)")
	}
	r := d.kubeRouter(own, gateway, rule)
	r.rule.text = "(" + strings.Join(paths, " || ") + ")"
	if len(hosts) > 0 {
		r.rule.text = "(" + strings.Join(hosts, " || ") + ") && " + r.rule.text
	}
	refs := &tree{keyed: rule.place}
	for _, f := range rule.list("filters") {
		if ref := f.get("extensionRef"); ref.str("kind") == "Middleware" {
			refs.items, refs.keyed = append(refs.items, ref), f.place
		}
	}
	d.references(r, refs)
	for _, s := range rule.list("backendRefs") {
		d.kubeBackend(r, s, s.str("port"))
	}
}

func (d *deployment) kubeRouter(own *kubeName, provider string, at *tree) *router {
	r := &router{name: own.namespace + "/" + own.name, provider: provider, namespace: own.namespace, refs: d.kube.refs, place: at.place}
	r.rule.place = at.place
	r.service = "router " + strconv.Itoa(len(d.routers)) + "@" + provider
	d.routers = append(d.routers, r)
	return r
}

const annotation = "traefik.ingress.kubernetes.io/router."

// ingress is a router for one path of an Ingress.
func (d *deployment) ingress(own *kubeName, t, path *tree, host string, backend *tree) *router {
	r, matcher, kind := d.kubeRouter(own, ingress, path), "PathPrefix", path.str("pathType")
	if all := t.in("metadata.annotations"); all != nil {
		for _, name := range all.keys {
			member, ours := strings.CutPrefix(strings.ToLower(name), annotation)
			switch {
			case member == "pathmatcher" && kind != "Prefix":
				matcher = all.at[name].text
			case ours:
				r.setFrom(strings.Split(member, ".")[0], all.at[name])
			}
		}
	}
	if kind == "Exact" {
		matcher = "Path"
	}
	text := path.str("path")
	if text == "" {
		text = "/"
	}
	r.rule.text = matcher + "(`" + text + "`)"
	if host != "" {
		r.rule.text = "Host(`" + host + "`) && " + r.rule.text
	}
	r.place = path.place
	d.kubeBackend(r, backend, backend.str("port.number")+backend.str("port.name"))
	return r
}

// references are the middlewares of a route.
func (d *deployment) references(r *router, list *tree) {
	if list == nil {
		return
	}
	r.middlewares.place = list.keyed
	for _, item := range list.items {
		r.names = append(r.names, d.reference(r.namespace, item))
	}
	r.middlewares.text = strings.Join(r.names, ",")
	r.middlewares.unknown = strings.Contains(r.middlewares.text, "{{")
}

// reference is a middleware's name as Traefik makes it. A name with @ is one already.
func (d *deployment) reference(own string, t *tree) string {
	name, namespace := t.get("name"), t.get("namespace")
	if name == nil || strings.Contains(name.text, "@") {
		if name != nil && strings.HasSuffix(name.text, "@"+crd) { // Traefik cannot see whose it is
			d.kube.crossed = append(d.kube.crossed, name, name)
		}
		return t.str("name")
	}
	if namespace != nil && namespace.text != own {
		own = namespace.text
		d.kube.crossed = append(d.kube.crossed, name, namespace)
	}
	title := kubeTitle(own, name.text) + "@" + crd
	if d.kube.refs[title] == nil {
		d.kube.refs[title] = &kubeName{own, name.text, true, name.place}
	}
	return title
}

// kubeBackend notes the Service to which a router sends.
func (d *deployment) kubeBackend(r *router, service *tree, port string) {
	b := &kubeBackend{r.service, service.str("namespace"), service.get("name"), port}
	if b.namespace == "" {
		b.namespace = r.namespace
	}
	if b.name != nil {
		d.kube.backends = append(d.kube.backends, b)
	}
}

// workload reads the containers of a pod.
func (d *deployment) workload(own *kubeName, pod *tree) {
	for _, c := range pod.list("spec.containers") {
		s := &service{name: own.name, namespace: own.namespace, pod: pod.in("metadata.labels"), image: c.str("image"), env: map[string]value{}, envFile: c.has("envFrom"), networks: []string{"the cluster's"}, place: own.place}
		for _, part := range []string{"command", "args"} {
			s.command = append(s.command, c.get(part).texts()...)
		}
		for _, e := range c.list("env") {
			v := &tree{}
			if e.has("value") {
				v = e.at["value"]
			}
			if v.file == "" || strings.Contains(v.text, "$(") {
				v.unknown, v.place = true, e.place
			}
			s.env[e.str("name")] = v.value
		}
		for _, m := range c.list("volumeMounts") {
			s.mounts += " " + m.str("mountPath")
		}
		d.services = append(d.services, s)
	}
}

// selected are the pods of a Service, as one text. all says whether a pod is among them.
func selected(service, pod *tree) (pods string, all bool) {
	selector := service.in("spec.selector")
	if selector == nil {
		return "", false
	}
	list := []string{}
	all = true
	for _, key := range selector.keys {
		list = append(list, key+"="+selector.at[key].text)
		all = all && pod.has(key) && pod.at[key].text == selector.at[key].text
	}
	slices.Sort(list)
	return strings.Join(list, ","), all && len(list) > 0
}

// joinKube finds out what the manifests mean together: which pods stand behind a name, and which
// namespace has what names none.
func (d *deployment) joinKube() {
	for _, id := range sortedKeys(d.kube.services) {
		namespace, name, _ := strings.Cut(id, "/")
		for _, s := range d.services {
			if _, all := selected(d.kube.services[id], s.pod); all && s.namespace == namespace {
				for _, rest := range []string{"", "." + namespace, "." + namespace + ".svc", "." + namespace + ".svc.cluster.local"} {
					s.aliases = append(s.aliases, name+rest)
				}
			}
		}
	}
	for _, b := range d.kube.backends {
		server, port := b.name.text, b.port
		s := d.kube.services[b.namespace+"/"+server]
		if pods, _ := selected(s, nil); pods != "" { // two Services may lead to the same pods
			if p := kubePort(s, port); p != nil {
				server, port = pods, p.str("targetPort")
				if port == "" {
					port = p.str("port")
				}
			}
		}
		d.backends[b.key] = append(d.backends[b.key], b.namespace+"/"+server+":"+port)
	}
	for _, r := range d.routers {
		d.adopt(r.names)
	}
	for _, m := range d.middlewares {
		d.adopt(m.chain)
	}
	d.safeNames()
}

// safeNames gives middlewares the names that they have with safeNaming. What Traefik makes of a
// route's references changes likewise; what an Ingress writes is a name as it stands. Where the
// static configuration is not given, it may be either.
func (d *deployment) safeNames() {
	safe, renamed := d.static.str("providers.kubernetesCRD.safeNaming") == "true", map[string]string{}
	for _, m := range d.middlewares {
		if own := d.kube.refs[m.title()]; own != nil && m.provider == crd {
			old, title := m.title(), own.safe()+"@"+crd
			if safe {
				m.name, d.kube.refs[title] = own.safe(), own
				renamed[old] = title
			} else if d.static == nil {
				renamed[title] = old
			}
		}
	}
	rename := func(names []string) {
		for i, name := range names {
			if other := renamed[name]; other != "" {
				names[i] = other
			}
		}
	}
	for _, r := range d.routers {
		if (r.provider == crd || r.provider == gateway) == safe {
			rename(r.names)
		}
	}
	for _, m := range d.middlewares {
		if (m.provider == crd) == safe {
			rename(m.chain)
		}
	}
}

// safe is the name that Traefik gives with safeNaming.
func (own *kubeName) safe() string { return own.namespace + "_" + own.name }

// adopt takes a middleware without a namespace for one of the namespace that a reference names.
func (d *deployment) adopt(names []string) {
	for i, name := range names {
		for _, m := range d.middlewares {
			if own := d.kube.refs[m.title()]; own == nil || own.given || m.provider != crd {
				continue
			} else if strings.HasSuffix(name, "-"+kubeTitle("", own.name)+"@"+crd) {
				names[i] = m.title()
			}
		}
	}
}

// kubePort is a Service's port of a number or name.
func kubePort(s *tree, port string) *tree {
	for _, p := range s.list("spec.ports") {
		if p.str("port") == port || p.str("name") == port {
			return p
		}
	}
	return nil
}

// json is a value as Kubernetes hands it on: numbers are floats, and words are booleans as in YAML
// 1.1, which kubectl reads.
func (t *tree) json() any {
	switch {
	case t.items != nil:
		list := []any{}
		for _, item := range t.items {
			list = append(list, item.json())
		}
		return list
	case t.at != nil:
		object := map[string]any{}
		for key, item := range t.at {
			object[key] = item.json()
		}
		return object
	case t.number:
		if f, err := strconv.ParseFloat(t.text, 64); err == nil {
			return f
		}
	case t.plain && slices.Contains([]string{"true", "yes", "on", "y", "false", "no", "off", "n"}, strings.ToLower(t.text)):
		return slices.Contains([]string{"true", "yes", "on", "y"}, strings.ToLower(t.text))
	case t.plain && t.text == "":
		return nil
	}
	return t.text
}

// kubeOption is a label's value in a Middleware. What Traefik takes from a Secret, or another
// program writes first, is not known.
func kubeOption(t *tree) value {
	v := t.value
	v.typed, v.place = t.json(), t.keyed
	text := fmt.Sprint(v.typed)
	v.unknown = v.unknown || strings.Contains(text, "urn:k8s:secret:") || strings.Contains(text, "{{") || strings.Contains(text, "${")
	return v
}

// kubeRefs are middlewares as a route writes them.
func (r *router) kubeRefs(text string) string {
	list := []string{}
	for _, title := range strings.Split(text, ",") {
		name := "name: " + title
		if ref := r.refs[title]; ref != nil {
			if name = "name: " + ref.name; ref.namespace != r.namespace && ref.given {
				name += ", namespace: " + ref.namespace
			}
		}
		if r.provider == gateway {
			name = "type: ExtensionRef, extensionRef: {group: traefik.io, kind: Middleware, " + name + "}"
		}
		list = append(list, "{"+name+"}")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// kubeMember is a member of a route or Ingress as the manifest writes it.
func (r *router) kubeMember(member, text string) string {
	switch {
	case member == "rule" && r.provider != crd: // neither of the two has all that is needed
		return "an IngressRoute with match: " + text
	case member == "rule":
		return "match: " + text
	case r.provider == ingress:
		return annotation + member + ": " + text
	case member == "middlewares" && r.provider == gateway:
		return "filters: " + r.kubeRefs(text)
	case member == "middlewares":
		return "middlewares: " + r.kubeRefs(text)
	}
	return member + ": " + strings.Trim(text, `"`)
}

// routerFor is a router to write for a tenant that has none.
func (c *checker) routerFor(t *tenant) *router {
	r := &router{name: "NAME", owner: t.owner}
	if t.provider == crd {
		r.provider, r.namespace, r.refs = crd, t.namespace, c.kube.refs
	}
	return r
}

// misnamed is where a route names a middleware, and what to write instead; empty where no manifest
// is concerned.
func (c *checker) misnamed(r *router, title string) (at place, remedy string) {
	at = r.middlewares.place
	bare, _, _ := strings.Cut(title, "@")
	ref := c.kube.refs[title]
	names := []string{}
	for _, m := range c.middlewares {
		own := c.kube.refs[m.title()]
		if m.provider != crd || own == nil {
			continue
		}
		names = append(names, own.name)
		// An Ingress needs namespace and provider, which are forgotten easily, and what stands
		// between namespace and name changes with safeNaming.
		if r.provider == ingress && (bare == m.name || bare == own.name || bare == kubeTitle(own.namespace, own.name)) {
			old := title
			if !strings.Contains(r.middlewares.text, old) {
				old = bare
			}
			return at, write(c.corrected(at, old, m.title()), "write "+m.title())
		}
	}
	if ref == nil {
		return at, ""
	}
	at = ref.place
	near := nearest(ref.name, names)
	if near == "" {
		return at, ""
	}
	if near == ref.name {
		return at, "name its namespace beside it, or move it"
	}
	return at, write(c.corrected(at, ref.name, near), "write name: "+near)
}

// says is a finding about a manifest.
//
//go:noinline
func (c *checker) says(at place, check, expected, seen, remedy, page string, note bool) {
	c.found(at, finding{check: check, expected: expected, seen: seen, remedy: remedy, page: page, note: note, fault: report.Label, breaks: []string{report.EveryClient}})
}

// kubernetes looks at what only manifests can have wrong.
func (c *checker) kubernetes() {
	const page, now = "docs/lint.md", "traefik.io/v1alpha1"
	for _, v := range c.kube.old {
		c.says(v.place, "router", "apiVersion: "+now, v.text+", which Traefik 3 does not read", write(c.corrected(v.place, v.text, now), "write "+now), page, false)
	}
	for i := 0; i < len(c.kube.crossed); i += 2 {
		name, namespace := c.kube.crossed[i], c.kube.crossed[i+1]
		if c.deployment.static.str("providers.kubernetesCRD.allowCrossNamespace") != "true" {
			c.says(namespace.place, "middlewares", "the bare name of a middleware of the route's own namespace", name.text+" of "+namespace.text+": Traefik drops the route (404) unless allowCrossNamespace is set",
				c.staticLine("providers: {kubernetesCRD: {allowCrossNamespace: true}}", "--providers.kubernetesCRD.allowCrossNamespace=true")+", or move it", page, c.deployment.static == nil)
		}
	}
	for _, t := range c.tenants {
		c.kubeSidecar(t)
		for _, r := range t.routers {
			for _, b := range c.kube.backends {
				if b.key == r.service {
					c.kubeServer(b)
				}
			}
		}
	}
}

// kubeServer looks at the Service of an MCP server.
func (c *checker) kubeServer(b *kubeBackend) {
	s, names := c.kube.services[b.namespace+"/"+b.name.text], c.kubeServices(b.namespace)
	if kind := s.in("spec.type"); kind != nil && (kind.text == "NodePort" || kind.text == "LoadBalancer") {
		c.says(kind.place, "way past", "type: ClusterIP", "Service "+b.name.text+" of the MCP server is a "+kind.text+": whoever reaches it is asked for no token, and can be anybody there",
			write(c.corrected(kind.place, kind.text, "ClusterIP"), "write ClusterIP"), "docs/identity.md", false)
	}
	if s == nil && len(names) > 0 {
		near := nearest(b.name.text, names)
		line := ""
		if near != "" {
			line = c.corrected(b.name.place, b.name.text, near)
		}
		c.says(b.name.place, "router", "a Service that was given", "no Service of namespace "+b.namespace+" is called "+b.name.text+": without it Traefik drops the route (404)", write(line, "name its file as well"), "docs/lint.md", true)
	}
}

func (c *checker) kubeServices(namespace string) []string {
	names := []string{}
	for _, id := range sortedKeys(c.kube.services) {
		if name, in := strings.CutPrefix(id, namespace+"/"); in {
			names = append(names, name)
		}
	}
	return names
}

// kubeSidecar looks whether sidecarURL names a Service, from where Traefik is: its pod looks a bare
// name up in its own namespace.
func (c *checker) kubeSidecar(t *tenant) {
	v := t.option("sidecarURL")
	u, err := url.Parse(v.text)
	if err != nil || u.Host == "" || v.unknown || t.provider != crd || len(c.kube.services) == 0 {
		return
	}
	if host := u.Hostname(); host == "localhost" || strings.Contains(host, ":") {
		return // a container of Traefik's own pod
	}
	part, namespace, traefik := strings.Split(u.Hostname(), "."), t.namespace, c.traefik()
	if traefik != nil {
		namespace = traefik.namespace
	}
	if len(part) > 1 {
		namespace = part[1]
	}
	names := c.kubeServices(namespace)
	if len(part) > 1 && len(names) == 0 && !strings.Contains(u.Host, ".svc") {
		return // it is somewhere else, such as a function on AWS
	}
	seen, old, with := "", part[0], nearest(part[0], names)
	if s := c.kube.services[namespace+"/"+part[0]]; s != nil {
		port, ports := portOf(u), []string{}
		for _, p := range s.list("spec.ports") {
			ports = append(ports, p.str("port"))
		}
		switch right := slices.Contains(ports, port) || len(ports) == 0; {
		case right && (len(part) > 1 || traefik != nil):
			return
		case right:
			c.says(v.place, "sidecar", "a Service and port that Traefik reaches", part[0]+", which Traefik looks up in its own namespace; nobody said which that is", write(c.corrected(v.place, part[0], part[0]+"."+namespace), "name the namespace"), "docs/lint.md", true)
			return
		}
		seen, old, with = "it has port "+strings.Join(ports, " and ")+", and not "+port, u.Host, u.Hostname()+":"+ports[0]
	} else {
		seen = "no Service of namespace " + namespace + " is called " + part[0]
		for _, id := range sortedKeys(c.kube.services) {
			if other, same := strings.CutSuffix(id, "/"+part[0]); same && len(part) == 1 {
				if traefik == nil {
					return // nobody said where Traefik is
				}
				seen, with = "Traefik looks "+part[0]+" up in its own namespace "+namespace, part[0]+"."+other
			}
		}
	}
	line := ""
	if with != "" {
		line = c.corrected(v.place, old, with)
	}
	c.says(v.place, "sidecar", "a Service and port that Traefik reaches", seen+": logins are answered 502", write(line, "name the sidecar's Service"), "docs/troubleshooting.md", false)
}
