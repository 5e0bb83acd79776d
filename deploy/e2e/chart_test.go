package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/lint"
	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// The chart of deploy/kubernetes, as helm's own packages render it (helm/main.go). What a real API
// server says of it is in kubernetes_test.go.

var updateChart = flag.Bool("update-chart", false, "write what is made from the chart again")

func chartFolder() string { return filepath.Join(rig.Root(), "deploy", "kubernetes", "chart") }

// twoServers is the file of values that README.md begins with.
func twoServers() string { return filepath.Join(rig.Root(), "deploy", "kubernetes", "values.yaml") }

// renderChart renders it as the release bouncer in the namespace mcp. What cannot be rendered is an
// error that says why.
func renderChart(t *testing.T, flags ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(rig.Tool(t, "chart"), append([]string{"template", "bouncer", chartFolder(), "--namespace=mcp"}, flags...)...)
	var out, failed strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failed
	if cmd.Run() != nil {
		return "", errors.New(failed.String())
	}
	return out.String(), nil
}

func mustRender(t *testing.T, flags ...string) string {
	t.Helper()
	text, err := renderChart(t, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// valuesFile writes values to a file of their own. JSON is YAML.
func valuesFile(t *testing.T, values string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// manifestsIn reads the objects of a file.
func manifestsIn(t *testing.T, text string) (objects []map[string]any) {
	t.Helper()
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var object map[string]any
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		objects = append(objects, object)
	}
}

// at follows members and indexes.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := v.(map[string]any)
			v = object[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				t.Fatalf("%v of %v is not there", step, path)
			}
			v = list[step]
		}
	}
	return v
}

func objectOf(t *testing.T, objects []map[string]any, kind, name string) map[string]any {
	t.Helper()
	for _, object := range objects {
		if object["kind"] == kind && at(t, object, "metadata", "name") == name {
			return object
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// allValues is what the chart can make beside that.
var allValues = []string{"--set=metrics.enabled=true,metrics.serviceMonitor=true,metrics.serviceMonitorLabels.release=prometheus", "--set=autoscaling.enabled=true",
	"--set=replayGuard=redis://redis.data.svc:6380", "--set=deny=bouncer-deny", "--set=env.BOUNCER_LOG_LEVEL=debug,env.OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.observe.svc:4318",
	"--set=traefik.podLabels.app=traefik,traefik.tls.certResolver=letsencrypt", "--set=imagePullSecrets[0].name=registry", "--set=nodeSelector.disk=ssd",
	"--set=tolerations[0].operator=Exists", "--set=tenants.world.namespace=other", `--set=networkPolicy.egress[0].ports[0].port=3128`}

// helm's lint finds nothing, except that the chart has no picture. Rendered twice it is the same,
// and the plain manifests of deploy/kubernetes are this, to the byte.
func TestManifestsAreWhatTheChartRenders(t *testing.T) {
	for _, flags := range [][]string{nil, allValues} {
		out, err := exec.Command(rig.Tool(t, "chart"), append([]string{"lint", chartFolder(), "--values=" + twoServers()}, flags...)...).CombinedOutput()
		if err != nil || string(out) != "[INFO] Chart.yaml: icon is recommended\n" {
			t.Errorf("lint: %v\n%s", err, out)
		}
	}
	manifests := mustRender(t, "--values="+twoServers())
	if again := mustRender(t, "--values="+twoServers()); again != manifests {
		t.Error("the chart renders something else the second time")
	}
	sameFile(t, filepath.Join(rig.Root(), "deploy", "kubernetes", "manifests.yaml"), "# What the chart beside this makes of values.yaml. Do not edit it here: edit a copy.\n"+manifests)
	r := lint.Run([]string{filepath.Join(rig.Root(), "deploy", "kubernetes", "manifests.yaml")})
	for _, f := range r.Findings {
		if !f.Note && !strings.Contains(f.Seen, "EVERYBODY may come in") {
			t.Errorf("lint says of the manifests: %s %s", f.Check, f.Seen)
		}
	}
	if r.Unable != "" {
		t.Errorf("lint cannot read the manifests: %s", r.Unable)
	}
}

// sameFile compares a file with what it should be, and writes it with -update-chart.
func sameFile(t *testing.T, file, want string) {
	t.Helper()
	if *updateChart {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what the chart makes: go test -run Chart -update-chart writes it (%v)", file, err)
	}
}

// Kubernetes' own kinds are decoded strictly by its own types, and Traefik's and Prometheus' by the
// schemas of their definitions, in which nothing unknown may stand.
func TestChartMakesValidObjects(t *testing.T) {
	schemas := customKinds(t)
	for name, flags := range map[string][]string{"the page's": nil, "everything": allValues, "no policies": {"--set=networkPolicy.enabled=false,replicas=1,registrationsPerMinute=0"}} {
		t.Run(name, func(t *testing.T) {
			text := mustRender(t, append([]string{"--values=" + twoServers()}, flags...)...)
			if err := decodedStrictly(t, text); err != nil {
				t.Error(err)
			}
			kinds := map[string]int{}
			for _, object := range manifestsIn(t, text) {
				kind := object["kind"].(string)
				kinds[kind]++
				if schema := schemas[kind]; schema != nil {
					if err := schema.Validate(object); err != nil {
						t.Errorf("%s %v: %v", kind, at(t, object, "metadata", "name"), err)
					}
				}
			}
			want := map[string]map[string]int{
				"the page's":  {"Deployment": 1, "Service": 1, "PodDisruptionBudget": 1, "NetworkPolicy": 3, "Middleware": 4, "IngressRoute": 2},
				"everything":  {"Deployment": 1, "Service": 1, "PodDisruptionBudget": 1, "NetworkPolicy": 3, "Middleware": 4, "IngressRoute": 2, "HorizontalPodAutoscaler": 1, "ServiceMonitor": 1},
				"no policies": {"Deployment": 1, "Service": 1, "Middleware": 2, "IngressRoute": 2},
			}[name]
			if !maps.Equal(kinds, want) {
				t.Errorf("it makes %v, want %v", kinds, want)
			}
		})
	}
	// What says that all is well would say so of anything if it did not refuse these.
	good := mustRender(t, "--values="+twoServers())
	for old, with := range map[string]string{"readOnlyRootFilesystem:": "readOnlyRootFileSystem:", "replicas: 2": `replicas: "2"`, "  podSelector:": "  podSelectors:"} {
		if err := decodedStrictly(t, strings.Replace(good, old, with, 1)); err == nil {
			t.Errorf("with %s the objects are still good", with)
		}
	}
	for old, with := range map[string]string{"middlewares:": "middleware:", "kind: Rule": "kind: Rulez", "average: 60": "average: often", "entryPoints: [": "entryPoints: [7, "} {
		wrong := false
		for _, object := range manifestsIn(t, strings.Replace(good, old, with, 1)) {
			schema := schemas[object["kind"].(string)]
			wrong = wrong || schema != nil && schema.Validate(object) != nil
		}
		if !wrong {
			t.Errorf("with %s the objects are still good", with)
		}
	}
}

func decodedStrictly(t *testing.T, manifests string) error {
	t.Helper()
	cmd := exec.Command(rig.Tool(t, "chart"), "check")
	cmd.Stdin = strings.NewReader(manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// customKinds are the schemas of Traefik's kinds and of ServiceMonitor, out of their own modules.
func customKinds(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	schemas := map[string]*jsonschema.Schema{}
	for _, file := range []string{traefikDefinitions(t), serviceMonitorDefinition(t)} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, definition := range manifestsIn(t, string(text)) {
			kind, _ := at(t, definition, "spec", "names", "kind").(string)
			schema := at(t, definition, "spec", "versions", 0, "schema", "openAPIV3Schema").(map[string]any)
			closed(schema)
			schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
			compiler := jsonschema.NewCompiler()
			if err := compiler.AddResource(kind, schema); err != nil {
				t.Fatal(err)
			}
			if schemas[kind], err = compiler.Compile(kind); err != nil {
				t.Fatal(err)
			}
		}
	}
	return schemas
}

// closed makes a JSON schema of one of Kubernetes, in which members that are not named are refused.
func closed(schema map[string]any) {
	if schema["x-kubernetes-int-or-string"] == true {
		schema["type"] = []any{"integer", "string"}
	}
	if schema["nullable"] == true {
		schema["type"] = []any{schema["type"], "null"}
	}
	properties, _ := schema["properties"].(map[string]any)
	if properties != nil && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
	for _, property := range properties {
		closed(property.(map[string]any))
	}
	for _, of := range []string{"items", "additionalProperties"} {
		if inner, is := schema[of].(map[string]any); is {
			closed(inner)
		}
	}
}

func traefikDefinitions(t *testing.T) string {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/traefik/traefik/v3")
	list.Dir = filepath.Join(rig.Root(), "deploy", "e2e", "traefik")
	module, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(module)), "docs", "content", "reference", "dynamic-configuration", "kubernetes-crd-definition-v1.yml")
}

func serviceMonitorDefinition(t *testing.T) string {
	t.Helper()
	return filepath.Join(fetched(t, "github.com/prometheus-operator/prometheus-operator@v0.85.0"), "example", "prometheus-operator-crd", "monitoring.coreos.com_servicemonitors.yaml")
}

// fetched is the folder of a module of which only files are wanted, and no code.
func fetched(t *testing.T, module string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", module, err, out)
	}
	return jsonOf[struct{ Dir string }](t, string(out)).Dir
}

// Traefik's own chart makes of traefik-values.yaml what compose/traefik.yaml says for safety.
func TestValuesForTraefikSayWhatComposeSays(t *testing.T) {
	folder := fetched(t, "github.com/traefik/traefik-helm-chart@v41.6.0+incompatible")
	out, err := exec.Command(rig.Tool(t, "chart"), "template", "traefik", filepath.Join(folder, "traefik"), "--namespace=traefik",
		"--values="+filepath.Join(rig.Root(), "deploy", "kubernetes", "traefik-values.yaml")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	container := at(t, objectOf(t, manifestsIn(t, string(out)), "Deployment", "traefik"), "spec", "template", "spec", "containers", 0)
	var got []string
	for _, arg := range at(t, container, "args").([]any) {
		got = append(got, strings.ToLower(arg.(string)))
	}
	static := composeFile(t, "traefik.yaml")
	want := []string{"--providers.kubernetescrd"}
	var flags func(name string, v any)
	flags = func(name string, v any) {
		object, is := v.(map[string]any)
		if !is {
			want = append(want, strings.ToLower(fmt.Sprintf("--%s=%v", name, v)))
		}
		for member, inner := range object {
			if member != "tls" { // without anything in it; the chart has it by itself
				flags(name+"."+member, inner)
			}
		}
	}
	flags("entryPoints.websecure.http", at(t, static, "entryPoints", "websecure", "http"))
	flags("experimental", static["experimental"])
	if len(want) < 10 {
		t.Fatalf("compose/traefik.yaml says only %q", want)
	}
	for _, flag := range want {
		if !slices.Contains(got, flag) {
			t.Errorf("Traefik does not get %s", flag)
		}
	}
	// The image is of the same release as the plugin, here and in the chart.
	release := at(t, composeFile(t, "compose.yaml"), "services", "bouncer", "image")
	values, err := os.ReadFile(filepath.Join(chartFolder(), "values.yaml"))
	if err != nil || !strings.Contains(string(values), fmt.Sprintf("\nimage: %s\n", release)) {
		t.Errorf("the chart's image is not %v: %v", release, err)
	}
	if at(t, container, "envFrom", 0, "secretRef", "name") != "bouncer-hop" {
		t.Errorf("Traefik does not get the hop key: %v", at(t, container, "envFrom"))
	}
}

func composeFile(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", name))
	if err != nil {
		t.Fatal(err)
	}
	return manifestsIn(t, string(text))[0]
}

// jsonOf reads what a program writes.
func jsonOf[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// A value that is wrong is named, and nothing is installed. That labels are right is asked of the
// plugin only where helm cannot know it.
func TestChartRefusesWrongValuesByName(t *testing.T) {
	const wiki = "--set=tenants.wiki."
	for _, c := range []struct{ name, flag, says string }{
		{"no image", "--set=image=", "/image': minLength"},
		{"an unknown value", "--set=replica=3", "'replica' not allowed"},
		{"an unknown value below", "--set=metrics.enable=true", "at '/metrics': additional properties 'enable' not allowed"},
		{"text for a number", "--set-string=replicas=3", "at '/replicas': got string, want integer"},
		{"no replicas", "--set=replicas=0", "at '/replicas': minimum: got 0, want 1"},
		{"a fraction", "--set=replicas=1.5", "at '/replicas'"},
		{"the master", "--set=env.BOUNCER_ENCRYPTION_KEY=x", "at '/env': additional properties 'BOUNCER_ENCRYPTION_KEY' not allowed"},
		{"a client secret", "--set=env.GOOGLE_CLIENT_SECRET=x", "'GOOGLE_CLIENT_SECRET' not allowed"},
		{"a misspelt variable", "--set=env.BOUNCER_LOGLEVEL=debug", "'BOUNCER_LOGLEVEL' not allowed"},
		{"a variable that the chart sets", "--set=env.BOUNCER_LISTEN_ADDR=:1", "'BOUNCER_LISTEN_ADDR' not allowed"},
		{"a password for the store", "--set=replayGuard=redis://:GOCSPX-x@redis:6379", "replayGuard: give none, memory"},
		{"a misspelt guard", "--set=replayGuard=off", "replayGuard: give none, memory"},
		{"scaling down to fewer", "--set=autoscaling.enabled=true,autoscaling.maxReplicas=1", "autoscaling.maxReplicas: less than replicas"},
		{"memory for two", "--set=replayGuard=memory", "replayGuard: memory is of one process alone"},
		{"a monitor of nothing", "--set=metrics.serviceMonitor=true", "metrics.serviceMonitor: nothing is counted"},
		{"an unknown label", wiki + "labels.requiredScope=x", "at '/tenants/wiki/labels': additional properties 'requiredScope' not allowed"},
		{"a label that the chart sets", wiki + "labels.sidecarURL=http://x", "'sidecarURL' not allowed"},
		{"a secret in plain text", wiki + "labels.clientSecret=GOCSPX-x", "tenants.wiki.labels.clientSecret: name a key of the Secret"},
		{"a secret without a name", wiki + "labels.clientSecret=env:", "tenants.wiki.labels.clientSecret: name a key of the Secret"},
		{"an id as a number", wiki + "labels.clientID=259242039378444290", "at '/tenants/wiki/labels/clientID': got number, want"},
		{"an empty element", wiki + "labels.allowedEmails={}", "at '/tenants/wiki/labels/allowedEmails/0': minLength"},
		{"no address", wiki + "labels.publicURL=mcp.example.com/wiki", "at '/tenants/wiki/labels/publicURL'"},
		{"a quote that leaves the rule", wiki + "labels.publicURL=https://a`)||Host(`b/wiki", "at '/tenants/wiki/labels/publicURL'"},
		{"one address twice", "--set=tenants.world.labels.publicURL=https://mcp.example.com/wiki", "tenants.world.labels.publicURL: tenants.wiki has the same"},
		{"one address in other letters", "--set=tenants.world.labels.publicURL=https://MCP.example.com/wiki", "tenants.world.labels.publicURL: tenants.wiki has the same"},
		{"no provider", wiki + "labels.providerIssuer=null", "tenants.wiki.labels.providerIssuer: required"},
		{"no secret", wiki + "labels.clientSecret=null", "tenants.wiki.labels.clientSecret: required"},
		{"no pods", wiki + "podLabels=null", "at '/tenants/wiki/podLabels': got null, want object"},
		{"a name that is none", "--set=tenants.Wiki_1.service.port=1", "Wiki_1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := renderChart(t, "--values="+twoServers(), c.flag)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q: %v", c.says, err)
			}
			if err != nil && strings.Contains(err.Error(), "GOCSPX") {
				t.Errorf("it shows a secret: %v", err)
			}
		})
	}
}

// What people may count on, whatever values they give: nothing secret is made or asked for, and the
// pods may do as little as a pod can.
func TestChartGivesPodsNoRights(t *testing.T) {
	for _, flags := range [][]string{nil, allValues} {
		text := mustRender(t, append([]string{"--values=" + twoServers()}, flags...)...)
		objects := manifestsIn(t, text)
		for _, object := range objects {
			if kind := object["kind"].(string); kind == "Secret" || strings.HasPrefix(kind, "Role") || strings.HasPrefix(kind, "ClusterRole") {
				t.Errorf("it makes a %s", kind)
			}
		}
		pod := at(t, objectOf(t, objects, "Deployment", "bouncer"), "spec", "template", "spec")
		container := at(t, pod, "containers", 0)
		for _, c := range []struct {
			got, want any
		}{
			{at(t, pod, "automountServiceAccountToken"), false},
			{at(t, pod, "securityContext", "runAsNonRoot"), true},
			{at(t, pod, "securityContext", "seccompProfile", "type"), "RuntimeDefault"},
			{at(t, container, "securityContext", "readOnlyRootFilesystem"), true},
			{at(t, container, "securityContext", "allowPrivilegeEscalation"), false},
			{at(t, container, "securityContext", "capabilities", "drop", 0), "ALL"},
			{at(t, container, "envFrom", 0, "secretRef", "name"), "bouncer"},
			{len(at(t, pod, "containers").([]any)), 1},
		} {
			if !reflect.DeepEqual(c.got, c.want) {
				t.Errorf("%v, want %v", c.got, c.want)
			}
		}
		policy := objectOf(t, objects, "NetworkPolicy", "bouncer")
		var ports []any
		for _, port := range at(t, policy, "spec", "egress", 1, "ports").([]any) {
			ports = append(ports, at(t, port, "port"))
		}
		want := []any{443, 8443}
		if flags != nil {
			want = []any{443, 6380, 4318, 8443}
		}
		if !slices.Equal(ports, want) {
			t.Errorf("the sidecar may call the ports %v, want %v", ports, want)
		}
		for _, peer := range at(t, policy, "spec", "ingress", 0, "from").([]any) {
			if at(t, peer, "namespaceSelector", "matchLabels", "kubernetes.io/metadata.name") != "traefik" {
				t.Errorf("the sidecar may be called by %v", peer)
			}
		}
	}
}

// The schema knows the labels of plugin.Config and the variables of docs/configuration.md, and
// README.md has what values.yaml says.
func TestChartKnowsAllLabelsAndVariables(t *testing.T) {
	file := filepath.Join(chartFolder(), "values.schema.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	schema := jsonOf[map[string]any](t, string(text))
	// What a form can be read from, as labels.md says. One text in a list is that text.
	one := map[string]any{"type": "string", "minLength": 1}
	labels := map[string]any{}
	for field := range reflect.TypeFor[plugin.Config]().Fields() {
		types := []any{"string", "integer", "array", "null"}
		label := map[string]any{"items": one, "minItems": 1, "maxItems": 1}
		switch form := field.Tag.Get("form"); {
		case strings.HasPrefix(form, "list"):
			types = []any{"string", "array", "null"}
			delete(label, "maxItems")
		case form == "boolean":
			types = []any{"string", "boolean", "integer", "null"}
		case form == "word or off":
			types = []any{"string", "boolean", "array", "null"}
		case form == "identifier":
			types = []any{"string", "array", "null"}
		}
		label["type"] = types
		if !slices.Contains(types, "array") {
			label = map[string]any{"type": types}
		}
		labels[field.Tag.Get("json")] = label
	}
	delete(labels, "-")
	delete(labels, "sidecarURL")
	labels["publicURL"] = map[string]any{"type": "string", "pattern": "^https?://[^/?#`\\s]+(/[^/?#`\\s]+)*/?$"}
	labels["clientSecret"] = map[string]any{"type": []any{"string", "null"}}
	doc, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	before, gateway, _ := strings.Cut(string(doc), "\n### Without the plugin")
	_, after, _ := strings.Cut(gateway, "\n### ")
	// Secrets come from the Secret, headers of a collector too. The rest is the chart's or of
	// Lambda.
	not := []string{"BOUNCER_ENCRYPTION_KEY", "BOUNCER_ENCRYPTION_KEY_FILE", "OTEL_EXPORTER_OTLP_HEADERS", "BOUNCER_LISTEN_ADDR", "BOUNCER_METRICS_ADDR", "BOUNCER_REPLAY_GUARD",
		"BOUNCER_DENY", "BOUNCER_METRICS_EMF", "BOUNCER_LAMBDA_INVOKE_MODE", "BOUNCER_DB_PATH"}
	variables := map[string]any{}
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:BOUNCER|OTEL)_[A-Z0-9_]+)` \\|").FindAllStringSubmatch(before+"\n### "+after, -1) {
		if !slices.Contains(not, row[1]) {
			variables[row[1]] = map[string]any{"type": []any{"string", "integer", "boolean"}}
		}
	}
	schema["$defs"] = map[string]any{
		"labels": map[string]any{"type": "object", "additionalProperties": false, "properties": labels},
		"env":    map[string]any{"type": "object", "additionalProperties": false, "properties": variables},
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	sameFile(t, file, out.String())

	values, err := os.ReadFile(filepath.Join(chartFolder(), "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	var root yaml.Node
	if err := yaml.Unmarshal(values, &root); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(root.Content[0].Content); i += 2 {
		key, value := root.Content[0].Content[i], root.Content[0].Content[i+1]
		var plain any
		if err := value.Decode(&plain); err != nil {
			t.Fatal(err)
		}
		standard, _ := json.Marshal(plain)
		comment := key.HeadComment[strings.LastIndex(key.HeadComment, "\n\n")+1:]
		if comment = strings.TrimSpace(strings.NewReplacer("# ", "", "\n", " ").Replace(comment)); comment == "" && key.Value != "tolerations" {
			t.Errorf("values.yaml does not say what %s is", key.Value)
		}
		if key.Value == "tolerations" {
			comment = "The same."
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", key.Value, standard, comment)
	}
	page := filepath.Join(chartFolder(), "README.md")
	text, err = os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(text), "| value | default |")
	if !found {
		t.Fatal("README.md has no table of values")
	}
	sameFile(t, page, before+table.String())
}

// A label that the chart takes arrives as it does from a container, and one that cannot be meant is
// refused by its name: by helm, or else by the plugin. Real Traefik reads what is rendered.
func TestTypedLabelsThroughTheChart(t *testing.T) {
	w := newTypedWorld(t)
	u, err := url.Parse(w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	type chartCase struct {
		typedCase
		flags []string // instead of a file
	}
	var cases []chartCase
	for _, c := range casesOfKubernetes() {
		c.want = asKubernetes(c)
		cases = append(cases, chartCase{typedCase: c})
	}
	// What helm makes of values before anybody sees them.
	cases = append(cases, []chartCase{
		{typedCase{name: "a number by --set", want: 401, payload: "generation=3"}, []string{"--set=LABELS.generation=3"}},
		{typedCase{name: "a million by --set", want: 401, payload: "generation=1000000"}, []string{"--set=LABELS.generation=1000000"}},
		{typedCase{name: "a million in a file", json: `"generation": 1000000`, want: 401, payload: "generation=1000000"}, nil},
		{typedCase{name: "a number as text by --set-string", want: 401, payload: "generation=3"}, []string{"--set-string=LABELS.generation=3"}},
		{typedCase{name: "a fraction by --set", want: 503, log: "generation"}, []string{"--set=LABELS.generation=1.5"}},
		{typedCase{name: "an id by --set", want: 503, log: "clientID"}, []string{"--set=LABELS.clientID=259242039378444290"}},
		{typedCase{name: "an id by --set-string", want: 401, payload: `clientID="259242039378444290"`}, []string{"--set-string=LABELS.clientID=259242039378444290"}},
		{typedCase{name: "an id with zeros before it by --set", want: 401, payload: `clientID="0123"`}, []string{"--set=LABELS.clientID=0123"}},
		{typedCase{name: "a boolean by --set", want: 401}, []string{"--set=LABELS.hideTools=true,LABELS.toolScopes=a=x"}},
		{typedCase{name: "a boolean as text", want: 401}, []string{"--set-string=LABELS.hideTools=true,LABELS.toolScopes=a=x"}},
		{typedCase{name: "a list by --set", want: 401, payload: `allowedEmails=["a@example.com","b@example.com"]`}, []string{"--set=LABELS.allowedEmails={a@example.com,b@example.com}"}},
		{typedCase{name: "a comma by --set", want: 401, payload: `allowedEmails=["a@example.com","b@example.com"]`}, []string{`--set=LABELS.allowedEmails=a@example.com\,b@example.com`}},
		{typedCase{name: "a list of numbers by --set", want: 503, log: "allowedSubjects"}, []string{"--set=LABELS.allowedSubjects={1,2}"}},
		{typedCase{name: "null by --set", want: 401}, []string{"--set=LABELS.allowedGroups=null"}},
		{typedCase{name: "words of YAML 1.1 in quotes", json: `"displayName": "yes"`, want: 401, payload: `displayName="yes"`}, nil},
		{typedCase{name: "text that looks like a number", json: `"clientID": "1e3"`, want: 401, payload: `clientID="1e3"`}, nil},
		{typedCase{name: "what templates could take for theirs", json: `"displayName": "{{ .Release.Name }} $x <&>"`, want: 401, payload: `displayName="{{ .Release.Name }} $x \u003c\u0026\u003e"`}, nil},
	}...)
	values := func(name string, c chartCase) []string {
		labels := jsonOf[map[string]json.RawMessage](t, string(w.labelsAsJSON("/"+name, c.typedCase)))
		delete(labels, "sidecarURL") // the chart's
		text, _ := json.Marshal(map[string]any{"tenants": map[string]any{name: map[string]any{"labels": labels, "podLabels": map[string]any{"app": "typed"},
			"service": map[string]any{"name": "typed", "port": json.RawMessage(u.Port())}}}})
		flags := []string{"--values=" + valuesFile(t, string(text))}
		for _, flag := range c.flags {
			flags = append(flags, strings.ReplaceAll(flag, "LABELS", "tenants."+name+".labels"))
		}
		return flags
	}
	common := []string{"--set=image=x,registrationsPerMinute=0,traefik.entryPoints={web},traefik.tls=null", "--namespace=default"}
	flags, objects, refused := common, map[string][]any{}, []string{}
	var accepted []typedCase
	for _, c := range cases {
		name := fmt.Sprintf("t%d", len(accepted))
		these := values(name, c)
		_, err := renderChart(t, slices.Concat(common, these)...)
		switch {
		case err == nil:
			accepted = append(accepted, c.typedCase)
			flags = slices.Concat(flags, these)
		case c.want != 503:
			t.Errorf("%s: helm refuses it: %v", c.name, err)
		default:
			refused = append(refused, c.name)
			// The log names the label: either "label NAME: …" or `unknown label "NAME"`.
			named := regexp.MustCompile(`label "?(\w+)`).FindStringSubmatch(c.log)
			if name := c.log; named != nil && !strings.Contains(err.Error(), named[1]) || named == nil && !strings.Contains(err.Error(), name) {
				t.Errorf("%s: helm does not name the label: %v", c.name, err)
			}
		}
	}
	for _, must := range []string{"an empty list", "a client id of 18 digits without quotes", "a misspelt label with a list", "an id by --set", "a list of numbers by --set", "a table of rules"} {
		if !slices.Contains(refused, must) {
			t.Errorf("helm does not refuse %s", must)
		}
	}
	for _, object := range manifestsIn(t, strings.ReplaceAll(mustRender(t, flags...), "http://bouncer.default.svc:8080", w.sidecar.URL)) {
		for plural, kind := range kinds {
			if kind == object["kind"] {
				objects[plural] = append(objects[plural], object)
			}
		}
	}
	objects["services"] = []any{map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "typed", "namespace": "default"},
		"spec": map[string]any{"type": "ExternalName", "externalName": "127.0.0.1", "ports": []any{map[string]any{"port": json.RawMessage(u.Port())}}}}}
	api := httptest.NewServer(kubernetes(objects))
	t.Cleanup(func() { api.CloseClientConnections(); api.Close() })
	token := valuesFile(t, "token")
	w.start(rig.TraefikConfig{Static: map[string]any{"providers": map[string]any{"kubernetesCRD": map[string]any{
		"endpoint": api.URL, "token": token, "allowExternalNameServices": true, "disableClusterScopeResources": true, "namespaces": []string{"default"},
	}}}})
	w.check(accepted, func(c typedCase) int { return c.want })
}
