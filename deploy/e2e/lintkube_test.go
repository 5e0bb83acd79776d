package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/lint"
)

// Lint and real Traefik read the same manifests. What lint says of one is what Traefik then
// answers, and of a good one it says nothing.
func TestLintReadsManifestsAsTraefikDoes(t *testing.T) {
	for made, with := range namings {
		t.Run(made, func(t *testing.T) { readManifests(t, made, with, inNoCluster) })
	}
}

// namings says how Traefik's provider calls a middleware, without safeNaming and with it.
var namings = map[string]bool{"default-NAME@kubernetescrd": false, "default_NAME@kubernetescrd": true}

// inNoCluster serves manifests as the API server would, and returns Traefik's options for that.
func inNoCluster(t *testing.T, manifests string) map[string]any {
	objects := map[string][]any{}
	for decoder := yaml.NewDecoder(strings.NewReader(manifests)); ; {
		var object map[string]any
		if decoder.Decode(&object) != nil {
			break
		}
		for plural, kind := range kinds {
			if kind == object["kind"] {
				objects[plural] = append(objects[plural], object)
			}
		}
	}
	api := httptest.NewServer(kubernetes(objects))
	t.Cleanup(func() { api.CloseClientConnections(); api.Close() })
	token := t.TempDir() + "/token"
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]any{"endpoint": api.URL, "token": token, "disableClusterScopeResources": true}
}

func readManifests(t *testing.T, made string, safeNaming bool, serve func(t *testing.T, manifests string) map[string]any) {
	const middleware, route, ingress = `apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {name: NAME, namespace: default}
spec:
  plugin:
    mcpbouncer:
      LABELS
`, `---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: NAME, namespace: default}
spec:
  entryPoints: [web]
  routes:
    - kind: Rule
      match: RULE
      middlewares: [{name: NAME}]
      services: [{name: typed, port: 80PORT}]
`, `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: NAME
  namespace: default
  annotations:
    traefik.ingress.kubernetes.io/router.middlewares: MADE
    traefik.ingress.kubernetes.io/router.entrypoints: web
spec:
  rules:
    - http:
        paths: [{path: /NAME, pathType: Prefix, backend: {service: {name: typed, port: {number: 80PORT}}}}, {path: /.well-known, pathType: Prefix, backend: {service: {name: typed, port: {number: 80PORT}}}}]
`
	good, other := middleware+route, "default_NAME@kubernetescrd" // in the other scheme
	if safeNaming {
		other = "default-NAME@kubernetescrd"
	}
	cases := map[string]struct {
		objects, old, with string
		path               string // default: /NAME/mcp
		status             int
		says               []string // lines of lint's that must be there; none: nothing is wrong
	}{
		"good":          {objects: good, status: 401},
		"a-chain":       {objects: good + "---\napiVersion: traefik.io/v1alpha1\nkind: Middleware\nmetadata: {name: all-NAME, namespace: default}\nspec: {chain: {middlewares: [{name: NAME}]}}\n", old: "middlewares: [{name: NAME}]\n      services", with: "middlewares: [{name: all-NAME}]\n      services", status: 401},
		"misspelt":      {objects: good, old: "      resource:", with: "      requiredScope: x\n      resource:", status: 503, says: []string{"WRONG labels: unknown label requiredScope"}},
		"number":        {objects: good, old: `clientID: "client"`, with: "clientID: 259242039378444290", status: 503, says: []string{"WRONG labels: label clientID"}},
		"boolean":       {objects: good, old: `resource: "wiki"`, with: "resource: true", status: 503, says: []string{"WRONG labels: label resource: a boolean"}},
		"strip-before":  {objects: good + "---\napiVersion: traefik.io/v1alpha1\nkind: Middleware\nmetadata: {name: s-NAME, namespace: default}\nspec: {stripPrefix: {prefixes: [/NAME]}}\n", old: "middlewares: [{name: NAME}]", with: "middlewares: [{name: s-NAME}, {name: NAME}]", status: 404, says: []string{"WRONG middlewares: stripprefix"}},
		"no-such":       {objects: good, old: "middlewares: [{name: NAME}]", with: "middlewares: [{name: NAMEE}]", status: 404, says: []string{"WRONG middlewares: default-no-suchE@kubernetescrd is not"}},
		"across":        {objects: good, old: "metadata: {name: NAME, namespace: default}\nspec:\n  plugin", with: "metadata: {name: NAME, namespace: other}\nspec:\n  plugin", status: 404, says: []string{"WRONG middlewares: default-across@kubernetescrd is not"}},
		"across-said":   {objects: strings.Replace(good, "[{name: NAME}]", "[{name: NAME, namespace: other}]", 1), old: "metadata: {name: NAME, namespace: default}\nspec:\n  plugin", with: "metadata: {name: NAME, namespace: other}\nspec:\n  plugin", status: 404, says: []string{"WRONG middlewares: across-said of other: Traefik drops the route"}},
		"made-name":     {objects: good, old: "middlewares: [{name: NAME}]", with: "middlewares: [{name: default-NAME@kubernetescrd}]", status: 404, says: []string{"WRONG middlewares: default-made-name@kubernetescrd of default-made-name@kubernetescrd: Traefik drops the route"}},
		"open":          {objects: good + strings.NewReplacer("metadata: {name: NAME", "metadata: {name: past", "RULE", "PathPrefix(`/past`)", "      middlewares: [{name: NAME}]\n", "").Replace(route), path: "/past/mcp", status: 200, says: []string{"WRONG way past: router default/past leads to the same server"}},
		"no-service":    {objects: good, old: "services: [{name: typed", with: "services: [{name: typd", status: 404, says: []string{"note router: no Service of namespace default is called typd"}},
		"narrow":        {objects: good, old: "RULE", with: "PathPrefix(`/NAME`)", path: "/.well-known/oauth-authorization-server/narrow", status: 404, says: []string{"WRONG router: it misses /.well-known/"}},
		"by-ingress":    {objects: middleware + ingress, status: 401},
		"ingress-bare":  {objects: middleware + ingress, old: "middlewares: MADE", with: "middlewares: NAME@kubernetescrd", status: 404, says: []string{"WRONG middlewares: ingress-bare@kubernetescrd is not"}},
		"ingress-other": {objects: middleware + ingress, old: "middlewares: MADE", with: "middlewares: " + other, status: 404, says: []string{"WRONG middlewares: " + strings.Replace(other, "NAME", "ingress-other", 1) + " is not"}},
		"ingress-local": {objects: middleware + ingress, old: "middlewares: MADE", with: "middlewares: default-NAME", status: 404, says: []string{"WRONG middlewares: default-ingress-local@kubernetes is not"}},
	}
	w := newTypedWorld(t)
	u, err := url.Parse(w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	service := "---\napiVersion: v1\nkind: Service\nmetadata: {name: typed, namespace: default}\nspec: {type: ExternalName, externalName: 127.0.0.1, ports: [{port: 80PORT}]}\n"
	static := filepath.Join(t.TempDir(), "traefik.yaml")
	if err := os.WriteFile(static, []byte("entryPoints: {web: {address: \":80\"}}\nproviders: {kubernetesCRD: {safeNaming: "+strconv.FormatBool(safeNaming)+"}, kubernetesIngress: {}}\nexperimental: {abortOnPluginFailure: true, localPlugins: {mcpbouncer: {moduleName: "+rig.Module+"}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	manifests, all := map[string]string{}, strings.ReplaceAll(service, "80PORT", u.Port())
	for name, c := range cases {
		labels := []string{}
		for label, text := range w.base("/" + name) {
			labels = append(labels, fmt.Sprintf("%s: %q", label, text))
		}
		fill := strings.NewReplacer("MADE", strings.Replace(made, "NAME", name, 1), "LABELS", strings.Join(labels, "\n      "), "NAME", name, "RULE", rig.PathRule("/"+name), "80PORT", u.Port())
		whole := fill.Replace(c.objects)
		text := strings.Replace(whole, fill.Replace(c.old), fill.Replace(c.with), 1)
		if c.old != "" && text == whole {
			t.Fatalf("%s: nothing was replaced", name)
		}
		manifests[name] = text + fill.Replace(service)
		all += "---\n" + text
	}
	provider := serve(t, all)
	provider["allowExternalNameServices"] = true
	crd := maps.Clone(provider)
	crd["safeNaming"] = safeNaming
	traefik := rig.StartTraefik(t, w.logs, rig.TraefikConfig{WebPort: w.port, HopKey: benchHopKey, Static: map[string]any{"providers": map[string]any{"kubernetesCRD": crd, "kubernetesIngress": provider}}})
	status := func(path string) int {
		resp, err := http.Get(traefik.Web + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	rig.WaitFor(t, "both providers", func() error {
		if a, b := status("/good/mcp"), status("/by-ingress/mcp"); a != 401 || b != 401 {
			return fmt.Errorf("%d %d", a, b)
		}
		return nil
	})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := c.path
			if path == "" {
				path = "/" + name + "/mcp"
			}
			if got := status(path); got != c.status {
				t.Errorf("Traefik answers %s with %d, want %d", path, got, c.status)
			}
			file := filepath.Join(t.TempDir(), "manifests.yaml")
			if err := os.WriteFile(file, []byte(manifests[name]), 0o600); err != nil {
				t.Fatal(err)
			}
			r := lint.Run([]string{file, static})
			var all []string
			for _, f := range r.Findings {
				kind := "WRONG"
				if f.Note {
					kind = "note"
				}
				// The base has no access rule, and anybody can have an account at Google.
				if text := kind + " " + f.Check + ": " + f.Seen; !strings.Contains(text, "EVERYBODY may come in") {
					all = append(all, text)
				}
			}
			text := strings.Join(all, "\n")
			for _, line := range c.says {
				if !strings.Contains("\n"+text, "\n"+line) {
					t.Errorf("lint does not say %q:\n%s %s", line, r.Unable, text)
				}
			}
			if len(c.says) == 0 && (r.Unable != "" || strings.Contains(text, "WRONG")) {
				t.Errorf("lint says of a good one:\n%s %s", r.Unable, text)
			}
		})
	}
}
