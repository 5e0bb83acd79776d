package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

const manifests = `apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {name: mcpb-wiki, namespace: mcp}
spec:
  plugin:
    mcpbouncer:
      publicURL: "https://mcp.example.com/wiki"
      resource: "wiki"
      providerIssuer: "https://accounts.google.com"
      clientID: "123.apps.googleusercontent.com"
      clientSecret: "env:GOOGLE_CLIENT_SECRET"
      scopes: ["openid", "email"]
      generation: 2
      cors: true
      allowedEmails: "you@example.com"
      sidecarURL: "http://bouncer.mcp:8080"
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata:
  name: wiki
  namespace: mcp
spec:
  entryPoints: [websecure]
  routes:
    - kind: Rule
      match: Host(` + "`mcp.example.com`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$)`)" + `
      middlewares:
        - name: mcpb-wiki
      services:
        - name: wiki
          port: http
  tls: {certResolver: le}
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Service
    metadata: {name: wiki, namespace: mcp}
    spec:
      type: ClusterIP
      selector: {app.kubernetes.io/name: wiki}
      ports:
        - {name: http, port: 80, targetPort: 8000}
  - apiVersion: v1
    kind: Service
    metadata: {name: bouncer, namespace: mcp}
    spec:
      selector: {app: bouncer}
      ports: [{port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: the-bouncer, namespace: mcp}
spec:
  template:
    metadata: {labels: {app: bouncer, tier: x}}
    spec:
      containers:
        - name: bouncer
          image: mcpbouncer
          env:
            - {name: BOUNCER_ENCRYPTION_KEY, valueFrom: {secretKeyRef: {name: bouncer, key: master}}}
            - {name: GOOGLE_CLIENT_SECRET, valueFrom: {secretKeyRef: {name: bouncer, key: google}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: traefik, namespace: traefik}
spec:
  template:
    metadata: {labels: {app: traefik}}
    spec:
      containers:
        - name: traefik
          image: docker.io/library/traefik:v3.7.13
          args: ["--providers.kubernetescrd", "--entryPoints.websecure.address=:443", "--experimental.plugins.mcpbouncer.moduleName=github.com/mcpbouncer/mcpbouncer", "--experimental.abortOnPluginFailure=true"]
          env:
            - name: BOUNCER_HOP_KEY
              valueFrom: {secretKeyRef: {name: hop, key: key}}
---
apiVersion: v1
kind: Secret
metadata: {name: bouncer, namespace: mcp}
stringData: {master: x, google: x}
`

// ingressManifest and gatewayManifest are the same route in two other forms.
const ingressManifest = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: wiki
  namespace: mcp
  annotations:
    traefik.ingress.kubernetes.io/router.entrypoints: websecure
    traefik.ingress.kubernetes.io/router.middlewares: mcp-mcpb-wiki@kubernetescrd
    traefik.ingress.kubernetes.io/router.tls: "true"
spec:
  rules:
    - host: mcp.example.com
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: wiki, port: {number: 80}}}
`

const gatewayManifest = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wiki, namespace: mcp}
spec:
  hostnames: [mcp.example.com]
  rules:
    - matches:
        - path: {type: PathPrefix, value: /wiki}
        - path: {type: RegularExpression, value: "/\\.well-known/[a-z-]+/wiki(/.*)?$"}
      filters:
        - type: ExtensionRef
          extensionRef: {group: traefik.io, kind: Middleware, name: mcpb-wiki}
      backendRefs: [{name: wiki, port: 80}]
`

func withoutRoute() string {
	from, to := strings.Index(manifests, "---\napiVersion: traefik.io/v1alpha1\nkind: IngressRoute"), strings.Index(manifests, "---\napiVersion: v1\nkind: List")
	return manifests[:from] + manifests[to:]
}

// safe are manifests in which Traefik has safeNaming.
func safe(text string) string {
	return strings.Replace(text, "--providers.kubernetescrd", "--providers.kubernetescrd.safeNaming=true", 1)
}

func TestLintFindsNothingInGoodManifests(t *testing.T) {
	unknown := withoutRoute()
	unknown = unknown[:strings.Index(unknown, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: traefik")]
	bare := strings.NewReplacer(", namespace: mcp}", "}", "  namespace: mcp\n", "").Replace(manifests)
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: NS, labels: {app: LABEL}}\nspec: {containers: [{name: x, image: x}]}\n---\n"
	const rest = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: rest, namespace: mcp}\nspec: {defaultBackend: {service: {name: ui, port: {number: 80}}}}\n"
	const before = "---\napiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: before, namespace: mcp}\nspec:\n  routes: [{match: PathPrefix(`/`), priority: 5000, services: [{name: ui, port: 80}]}]\n"
	rule := manifests[strings.Index(manifests, "Host("):strings.Index(manifests, "      middlewares:")]
	for name, content := range map[string]string{
		"IngressRoute":                          manifests,
		"labels of another namespace's pod":     strings.NewReplacer("NS", "other", "LABEL", "bouncer").Replace(pod) + manifests,
		"a pod of other labels":                 strings.NewReplacer("NS", "mcp", "LABEL", "other").Replace(pod) + manifests,
		"another entry point":                   strings.Replace(manifests, "  tls: {certResolver: le}\n", "", 1) + before + "  entryPoints: [web]\n",
		"without TLS":                           manifests + before,
		"a default backend":                     strings.NewReplacer(rule, "Host(`a.bc`)\n", "https://mcp.example.com/wiki", "https://a.bc", "  tls: {certResolver: le}\n", "").Replace(manifests) + rest,
		"Ingress":                               withoutRoute() + "---\n" + ingressManifest,
		"Ingress, with safeNaming":              strings.Replace(safe(withoutRoute()+"---\n"+ingressManifest), "mcp-mcpb-wiki@", "mcp_mcpb-wiki@", 1),
		"Ingress, safeNaming perhaps":           strings.Replace(unknown+"---\n"+ingressManifest, "mcp-mcpb-wiki@", "mcp_mcpb-wiki@", 1),
		"IngressRoute, with safeNaming":         safe(manifests),
		"HTTPRoute, with safeNaming":            safe(withoutRoute() + "---\n" + gatewayManifest),
		"HTTPRoute":                             withoutRoute() + "---\n" + gatewayManifest,
		"a name of another provider":            strings.Replace(manifests, "        - name: mcpb-wiki\n", "        - name: compress@file\n        - name: mcpb-wiki\n", 1),
		"without namespaces":                    strings.Replace(strings.Replace(bare, "http://bouncer.mcp:8080", "http://bouncer:8080", 1), "name: traefik, namespace: traefik", "name: traefik", 1),
		"a namespace that only a reference has": strings.Replace(strings.Replace(bare, "http://bouncer.mcp:8080", "http://bouncer.mcp.svc.cluster.local:8080", 1), "name: mcpb-wiki\n", "name: mcpb-wiki\n          namespace: mcp\n", 1)[:strings.Index(bare, "---\napiVersion: v1\nkind: List")],
		"values from a Secret":                  strings.Replace(manifests, `"env:GOOGLE_CLIENT_SECRET"`, `"urn:k8s:secret:bouncer:google"`, 1),
		"Traefik not given":                     manifests[:strings.Index(manifests, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: traefik")],
		"a sidecar in Traefik's pod":            strings.Replace(manifests, "http://bouncer.mcp:8080", "http://localhost:8080", 1),
		"a sidecar elsewhere":                   strings.Replace(manifests, "http://bouncer.mcp:8080", "https://abc.lambda-url.eu-central-1.on.aws", 1),
		"a chain":                               strings.Replace(manifests, "        - name: mcpb-wiki\n", "        - name: all\n", 1) + "---\napiVersion: traefik.io/v1alpha1\nkind: Middleware\nmetadata: {name: all, namespace: mcp}\nspec: {chain: {middlewares: [{name: mcpb-wiki}]}}\n",
		"another server":                        manifests + "---\napiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: ui, namespace: mcp}\nspec: {routes: [{match: Host(`ui.example.com`), services: [{name: ui, port: 80}]}]}\n",
	} {
		r := lintText(t, content)
		findings := lines(r)
		if name == "a namespace that only a reference has" {
			// A reference into another namespace is worth a note.
			if len(findings) == 1 && strings.HasPrefix(findings[0], "note middlewares: ") {
				continue
			}
		}
		if r.Status() != report.StatusGood || len(findings) != 0 {
			t.Errorf("%s: %s %q", name, r.Unable, findings)
		}
	}
}

func TestLintFindsPlantedFaultsInManifests(t *testing.T) {
	const second = "---\napiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: open, namespace: mcp}\nspec:\n  routes:\n    - match: Host(`open.example.com`)\n      services: [{name: SERVICE, port: 80}]\n"
	const strip = "---\napiVersion: traefik.io/v1alpha1\nkind: Middleware\nmetadata: {name: strip, namespace: mcp}\nspec: {stripPrefix: {prefixes: [/wiki]}}\n"
	const twin = "---\napiVersion: traefik.io/v1alpha1\nkind: Middleware\nmetadata: {name: two, namespace: other}\nspec: {plugin: {mcpbouncer: {\n  publicURL: \"https://mcp.example.com/wiki\", resource: two}}}\n"
	const otherSelector = "---\napiVersion: v1\nkind: Service\nmetadata: {name: same, namespace: mcp}\nspec: {selector: {app.kubernetes.io/name: wiki}, ports: [{port: 80, targetPort: 8000}]}\n"
	for name, c := range map[string]struct{ content, old, with, line, begins, seen, remedy string }{
		"misspelt label":                   {"", "allowedEmails:", "allowedEmail:", "allowedEmail:", "WRONG labels: ", "unknown label allowedEmail", `write allowedEmails: "you@example.com"`},
		"wrong separator":                  {"", `["openid", "email"]`, `"openid,email"`, "scopes:", "WRONG labels: ", "label scopes", `write scopes: "openid email"`},
		"a number for an id":               {"", `"123.apps.googleusercontent.com"`, "259242039378444290", "clientID:", "WRONG labels: ", "label clientID", "correct the label"},
		"a boolean for a text":             {"", `resource: "wiki"`, "resource: yes", "resource:", "WRONG labels: ", "label resource: a boolean cannot stand here", "correct the label"},
		"an empty list":                    {"", `allowedEmails: "you@example.com"`, `allowedEmails: []`, "allowedEmails:", "WRONG labels: ", "label allowedEmails", "correct the label"},
		"everybody":                        {"", "      allowedEmails: \"you@example.com\"\n", "", "providerIssuer:", "WRONG access: ", "EVERYBODY", `write allowedEmails: "you@example.com"`},
		"secret in clear":                  {"", `"env:GOOGLE_CLIENT_SECRET"`, `"GOCSPX-abc"`, "clientSecret:", "WRONG secret: ", "in clear", `clientSecret: "env:MCP_MCPB_WIKI_CLIENT_SECRET"`},
		"variable of the secret":           {"", "name: GOOGLE_CLIENT_SECRET,", "name: OTHER,", "name: the-bouncer", "WRONG secret: ", "it is not there", "- {name: GOOGLE_CLIENT_SECRET, valueFrom:"},
		"hop key":                          {"", "name: BOUNCER_HOP_KEY", "name: OTHER", "name: traefik, namespace", "WRONG hop key: ", "it is not there", "- {name: BOUNCER_HOP_KEY, valueFrom: {secretKeyRef:"},
		"plugin misspelt":                  {"", "    mcpbouncer:\n", "    mcpbounce:\n", "mcpbounce:", "WRONG plugin: ", "plugin.mcpbounce", "write mcpbouncer:"},
		"plugin not loaded":                {"", `"--experimental.plugins.mcpbouncer.moduleName=github.com/mcpbouncer/mcpbouncer", `, "", "name: traefik, namespace", "WRONG plugin: ", "neither", "write --experimental.localPlugins"},
		"no such sidecar":                  {"", "http://bouncer.mcp:8080", "http://bouncr.mcp:8080", "sidecarURL:", "WRONG sidecar: ", "no Service of namespace mcp is called bouncr", `write sidecarURL: "http://bouncer.mcp:8080"`},
		"sidecar's port":                   {"", "http://bouncer.mcp:8080", "http://bouncer.mcp", "sidecarURL:", "WRONG sidecar: ", "it has port 8080, and not 80", `write sidecarURL: "http://bouncer.mcp:8080"`},
		"sidecar by its bare name":         {"", "http://bouncer.mcp:8080", "http://bouncer:8080", "sidecarURL:", "WRONG sidecar: ", "Traefik looks bouncer up in its own namespace traefik", `write sidecarURL: "http://bouncer.mcp:8080"`},
		"neither name nor namespace":       {"", "http://bouncer.mcp:8080", "http://bouncr:8080", "sidecarURL:", "WRONG sidecar: ", "no Service of namespace traefik is called bouncr", "name the sidecar's Service"},
		"bare name, Traefik not given":     {manifests[:strings.Index(manifests, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: traefik")], "http://bouncer.mcp:8080", "http://bouncer:8080", "sidecarURL:", "note sidecar: ", "bouncer, which Traefik looks up in its own namespace", `write sidecarURL: "http://bouncer.mcp:8080"`},
		"sidecar in no namespace":          {"", "http://bouncer.mcp:8080", "http://bouncer.other.svc:8080", "sidecarURL:", "WRONG sidecar: ", "no Service of namespace other", "name the sidecar's Service"},
		"rule":                             {"", "PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$)`)", "PathPrefix(`/wiki`)", "match:", "WRONG router: ", "it misses /.well-known/", "write match: Host(`mcp.example.com`) && PathRegexp(`^(/\\.well-known/[a-z-]+)?/wiki(/|$)`)"},
		"rule that cannot be read":         {"", "Host(`mcp.example.com`) && Path", "Host(mcp.example.com) && Path", "match:", "WRONG router: ", "backticks", "correct the rule"},
		"middlewares forgotten":            {"", "      middlewares:\n        - name: mcpb-wiki\n", "", "name: mcpb-wiki, namespace", "WRONG router: ", "none does", "write middlewares: [{name: mcpb-wiki}] for the router"},
		"middleware misspelt":              {"", "        - name: mcpb-wiki\n", "        - name: mcpb-wikki\n", "- name: mcpb-wikki", "WRONG middlewares: ", "mcp-mcpb-wikki@kubernetescrd is not", "write - name: mcpb-wiki"},
		"middleware elsewhere":             {"", "name: mcpb-wiki, namespace: mcp", "name: mcpb-wiki, namespace: auth", "- name: mcpb-wiki", "WRONG middlewares: ", "mcp-mcpb-wiki@kubernetescrd is not", "name its namespace"},
		"across namespaces":                {"", "        - name: mcpb-wiki\n", "        - name: mcpb-wiki\n        - {name: x, namespace: auth}\n", "namespace: auth", "WRONG middlewares: ", "x of auth: Traefik drops the route", "--providers.kubernetesCRD.allowCrossNamespace=true"},
		"a name that Traefik has made":     {"", "        - name: mcpb-wiki\n", "        - name: mcp-mcpb-wiki@kubernetescrd\n", "- name: mcp-mcpb-wiki@", "WRONG middlewares: ", "Traefik drops the route", "allowCrossNamespace=true"},
		"stripPrefix before":               {manifests + strip, "        - name: mcpb-wiki\n", "        - name: strip\n        - name: mcpb-wiki\n", "      middlewares:", "WRONG middlewares: ", "stripprefix", "write middlewares: [{name: mcpb-wiki}, {name: strip}]"},
		"a way past":                       {manifests + second, "SERVICE", "wiki", "- match: Host(`open.example.com`)", "WRONG way past: ", "router mcp/open leads to the same server", "write middlewares: [{name: mcpb-wiki}]"},
		"a Service of the same pods":       {manifests + otherSelector + second, "SERVICE", "same", "- match: Host(`open.example.com`)", "WRONG way past: ", "router mcp/open leads to the same server", "write middlewares: [{name: mcpb-wiki}]"},
		"a way past by Ingress":            {manifests + "---\n" + ingressManifest, "    traefik.ingress.kubernetes.io/router.middlewares: mcp-mcpb-wiki@kubernetescrd\n", "", "- path: /", "WRONG way past: ", "router mcp/wiki leads to the same server", "write traefik.ingress.kubernetes.io/router.middlewares: mcp-mcpb-wiki@kubernetescrd"},
		"a router before it":               {manifests + strings.Replace(second, "Host(`open.example.com`)", "PathPrefix(`/`)\n      priority: 5000\n      middlewares: [{name: x@file}]", 1) + "  tls: {}\n", "SERVICE", "other", "- match: PathPrefix", "WRONG router: ", "router mcp/open, which goes before it", "write priority: 5001"},
		"NodePort":                         {"", "type: ClusterIP", "type: NodePort", "type: NodePort", "WRONG way past: ", "Service wiki of the MCP server is a NodePort", "write type: ClusterIP"},
		"no such Service":                  {"", "        - name: wiki\n", "        - name: wikki\n", "- name: wikki", "note router: ", "no Service of namespace mcp is called wikki", "write - name: wiki"},
		"two of one public URL":            {manifests + twin, "resource: two}}}", "resource: two, providerIssuer: x}}}", "\"https://mcp.example.com/wiki\", resource: two", "WRONG tenants: ", "mcp-mcpb-wiki@kubernetescrd has", "or another name of its own"},
		"an old apiVersion":                {"", "apiVersion: traefik.io/v1alpha1\nkind: IngressRoute", "apiVersion: traefik.containo.us/v1alpha1\nkind: IngressRoute", "traefik.containo.us", "WRONG router: ", "which Traefik 3 does not read", "write apiVersion: traefik.io/v1alpha1"},
		"Ingress without namespace":        {withoutRoute() + "---\n" + ingressManifest, "middlewares: mcp-mcpb-wiki@kubernetescrd", "middlewares: mcpb-wiki@kubernetescrd", "router.middlewares:", "WRONG middlewares: ", "mcpb-wiki@kubernetescrd is not", "router.middlewares: mcp-mcpb-wiki@kubernetescrd"},
		"Ingress, with safeNaming":         {withoutRoute() + "---\n" + ingressManifest, "--providers.kubernetescrd", "--providers.kubernetescrd.safeNaming", "router.middlewares:", "WRONG middlewares: ", "mcp-mcpb-wiki@kubernetescrd is not", "router.middlewares: mcp_mcpb-wiki@kubernetescrd"},
		"Ingress, without safeNaming":      {withoutRoute() + "---\n" + ingressManifest, "mcp-mcpb-wiki@", "mcp_mcpb-wiki@", "router.middlewares:", "WRONG middlewares: ", "mcp_mcpb-wiki@kubernetescrd is not", "router.middlewares: mcp-mcpb-wiki@kubernetescrd"},
		"Ingress without provider":         {withoutRoute() + "---\n" + ingressManifest, "middlewares: mcp-mcpb-wiki@kubernetescrd", "middlewares: mcp-mcpb-wiki", "router.middlewares:", "WRONG middlewares: ", "mcp-mcpb-wiki@kubernetes is not", "router.middlewares: mcp-mcpb-wiki@kubernetescrd"},
		"Ingress with a narrow path":       {withoutRoute() + "---\n" + ingressManifest, "- path: /\n", "- path: /wiki\n", "- path: /wiki", "WRONG router: ", "it misses /.well-known/", "write an IngressRoute with match: Host("},
		"HTTPRoute with a narrow path":     {withoutRoute() + "---\n" + gatewayManifest, "        - path: {type: RegularExpression, value: \"/\\\\.well-known/[a-z-]+/wiki(/.*)?$\"}\n", "", "- matches:", "WRONG router: ", "it misses /.well-known/", "write an IngressRoute with match: Host("},
		"HTTPRoute, a middleware misspelt": {withoutRoute() + "---\n" + gatewayManifest, "name: mcpb-wiki}\n      backend", "name: mcpb-wikki}\n      backend", "name: mcpb-wikki", "WRONG middlewares: ", "mcp-mcpb-wikki@kubernetescrd is not", "write extensionRef: {group: traefik.io, kind: Middleware, name: mcpb-wiki}"},
		"a way past by HTTPRoute":          {manifests + "---\n" + gatewayManifest, "          extensionRef: {group: traefik.io, kind: Middleware, name: mcpb-wiki}\n", "", "- matches:", "WRONG way past: ", "router mcp/wiki leads to the same server", "write filters: [{type: ExtensionRef, extensionRef: {group: traefik.io, kind: Middleware, name: mcpb-wiki}}]"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.content == "" {
				c.content = manifests
			}
			broken := strings.Replace(c.content, c.old, c.with, 1)
			if broken == c.content {
				t.Fatal("nothing was replaced")
			}
			r := lintText(t, broken)
			all := strings.Split(broken, "\n")
			if n := strings.Count(strings.Join(lines(r), "\n"), " sidecar: "); n > 1 {
				t.Errorf("the sidecar is looked at %d times: %q", n, lines(r))
			}
			for i, f := range r.Findings {
				if f.Line > 0 && strings.Contains(all[f.Line-1], c.line) && hasLine(lines(r)[i:i+1], c.begins, c.seen, c.remedy) {
					if _, err := os.Stat("../../" + f.Page); err != nil {
						t.Error(err)
					}
					return
				}
			}
			t.Errorf("not found: %s\n%q\n%+v", r.Unable, lines(r), r.Findings)
		})
	}
}

func TestLintReadsManifestsOfSeveralFiles(t *testing.T) {
	dir, files := t.TempDir(), []string{}
	for i, document := range strings.Split(manifests, "---\n") {
		file := filepath.Join(dir, string(rune('a'+i))+".yaml")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if r := Run(files); r.Status() != report.StatusGood || len(r.Findings) != 0 {
		t.Errorf("%s %q", r.Unable, lines(r))
	}
	// A middleware alone: what else there is was not given.
	if r := Run(files[:1]); r.Status() != report.StatusGood || len(r.Findings) != 1 || !hasLine(lines(r), "note router: ", "none does") {
		t.Errorf("%s %q", r.Unable, lines(r))
	}
}

func TestLintTakesManifestsThatMeanNoGood(t *testing.T) {
	for _, kind := range []string{"Middleware", "IngressRoute", "Ingress", "HTTPRoute", "Service", "Deployment", "Pod", "List", "Other"} {
		for _, rest := range []string{"", "spec: x", "spec: []", "spec: {}", "spec: {routes: x, rules: [x, {http: {paths: [x]}}], template: {spec: {containers: [x, {env: [x], args: x}]}}, ports: x, selector: x}",
			"spec: {routes: [x, {match: [x], middlewares: [x, {name: {}}], services: [x]}], plugin: x, chain: x}", "spec: {plugin: {mcpbouncer: x}}", "spec: {chain: {middlewares: [x, {}]}}",
			"spec: {defaultBackend: {service: x}}", "items: x", "items: [x, {kind: Service}]", "metadata: x", "metadata: {name: [], annotations: [x]}"} {
			content := "apiVersion: v1\nkind: " + kind + "\n" + rest + "\n"
			if r := lintText(t, content); r.Unable != "" {
				t.Errorf("%s: %s", content, r.Unable)
			}
		}
	}
}
