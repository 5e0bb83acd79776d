//go:build kubernetes

package e2e

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// What needs a real API server of Kubernetes (kubernetes/install.sh) runs in `make nightly`.

// jsonOf reads what kubectl writes with -o json.
func jsonOf[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// jobPod is the pod of the page, as the API server has it.
type jobPod struct {
	Metadata struct{ UID string }
	Spec     struct {
		ServiceAccountName string
		Volumes            []struct {
			Projected struct {
				Sources []struct {
					ServiceAccountToken struct {
						Audience, Path    string
						ExpirationSeconds int
					}
				}
			}
		}
		Containers []struct {
			Env           []struct{ Name, Value string }
			Command, Args []string
			VolumeMounts  []struct{ MountPath string }
		}
	}
}

// A service account of a real API server comes in through real Traefik by what docs/access.md says,
// to the letter but for names and addresses: kubectl runs its commands, the API server takes its
// manifest, and a shell runs the pod's script, which needs curl and jq. There is no kubelet, so the
// test asks for the pod's token in its place. Of every token the API server itself says whether it
// is good.
func TestServiceAccountOfKubernetesComesIn(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "access.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "#### A service account of Kubernetes\n")
	section, _, _ = strings.Cut(section, "\n#### ")
	one := func(pattern, in string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1)
		if len(found) != 1 {
			t.Fatalf("the page has %d of %s", len(found), pattern)
		}
		return found[0][1]
	}
	logs := &rig.Logs{}
	k := rig.StartKubernetes(t, logs)
	shell := func(command string) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", command)
		cmd.Env, cmd.Dir = k.Env(), t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		if file, err := os.ReadFile(filepath.Join(cmd.Dir, "provider.pem")); err == nil {
			return string(file)
		}
		return string(out)
	}

	metadata := jsonOf[map[string]any](t, shell(one("`(kubectl get --raw [^`]+)`", section)))
	issuer, _ := metadata["issuer"].(string)
	if issuer != k.URL || metadata["jwks_uri"] == "" {
		t.Fatalf("%v", metadata)
	}
	rule := strings.NewReplacer("https://kubernetes.default.svc.cluster.local", issuer, "…", "docs:read").Replace(one("\\| Kubernetes \\| `([^`]+)`", string(page)))
	byNamespace := issuer + " " + one("`(kubernetes\\.io\\.[^`]+)`", section) + " => docs:read"
	w := rig.New(t, rig.Options{
		Labels:  map[string]string{"requiredScopes": "docs:read", "wiki/workloadIssuers": rule, "world/workloadIssuers": byNamespace},
		Sidecar: map[string]string{"SSL_CERT_FILE": "etc/provider.pem"},
		Image:   map[string][]byte{"etc/provider.pem": []byte(shell(one(`\$ (kubectl config view [^\n]+)`, section)))},
		// The pod's script sends no initialize.
		Stateless: []string{"wiki"},
	})
	bring := func(tn *rig.Tenant, token string) *rig.Answer {
		t.Helper()
		w.Secrets.Add("workload's token", token)
		return tn.Client().Token(bearerForm(token))
	}
	public := w.Wiki.PublicHTTP()
	token := func(namespace, account string, flags ...string) string {
		t.Helper()
		return strings.TrimSpace(k.Kubectl(t, "", append([]string{"create", "token", account, "--namespace=" + namespace}, flags...)...))
	}
	// good asks the API server.
	good := func(token, audience string) bool {
		t.Helper()
		review, _ := json.Marshal(map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": map[string]any{"token": token, "audiences": []string{audience}}})
		return jsonOf[struct{ Status struct{ Authenticated bool } }](t, k.Kubectl(t, string(review), "create", "--output=json", "--filename=-")).Status.Authenticated
	}
	for _, namespace := range []string{"ci", "other"} {
		k.Kubectl(t, "", "create", "namespace", namespace)
		k.Kubectl(t, "", "create", "serviceaccount", "runner", "--namespace="+namespace)
	}
	k.Kubectl(t, "", "create", "serviceaccount", "deployer", "--namespace=ci")

	// Nobody has let the sidecar read the documents so far.
	sidecars := func() string { return w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b") }
	if answer := bring(w.Wiki, token("ci", "runner", "--audience="+public)); answer.Status != http.StatusServiceUnavailable || !strings.Contains(sidecars(), "or see the label workloadIssuers: the path is not") {
		t.Errorf("before the sidecar may read the issuer's documents: %s", answer)
	}
	shell(one(`\$ (kubectl create clusterrolebinding [^\n]+)`, section))

	manifest := strings.ReplaceAll(one("(?s)   ```yml\n(.*?)   ```", section), "https://mcp.example.com/wiki", public)
	pod := jsonOf[jobPod](t, k.Kubectl(t, strings.ReplaceAll("\n"+manifest, "\n   ", "\n"), "apply", "--output=json", "--filename=-"))
	source, container := pod.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken, pod.Spec.Containers[0]
	ofPod := token("ci", pod.Spec.ServiceAccountName, "--audience="+source.Audience, "--duration="+(time.Duration(source.ExpirationSeconds)*time.Second).String(),
		"--bound-object-kind=Pod", "--bound-object-name=job", "--bound-object-uid="+pod.Metadata.UID)
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, source.Path), []byte(ofPod), 0o600); err != nil {
		t.Fatal(err)
	}
	script := append(append([]string{}, container.Command...), strings.ReplaceAll(strings.Join(container.Args, ""), container.VolumeMounts[0].MountPath, volume))
	job := exec.Command(script[0], script[1:]...)
	job.Env = []string{"PATH=" + os.Getenv("PATH"), container.Env[0].Name + "=" + container.Env[0].Value}
	rig.WaitFor(t, "each sidecar has read the issuer's keys", func() error {
		if answer := bring(w.Wiki, ofPod); answer.Status != http.StatusOK || strings.Count(sidecars(), `"path":"/openid/v1/jwks"`) < 2 {
			return errors.New(answer.String())
		}
		return nil
	})
	if out, err := job.CombinedOutput(); err != nil || !strings.Contains(string(out), `"whoami"`) {
		t.Errorf("the pod's script: %v: %s", err, out)
	}
	for _, c := range []struct {
		tn    *rig.Tenant
		token string
		sub   string
	}{
		{w.Wiki, ofPod, "runner"},
		{w.World, token("ci", "runner", "--audience="+w.World.PublicHTTP()), "runner"},
		{w.World, token("ci", "deployer", "--audience="+w.World.PublicHTTP()), "deployer"},
	} {
		answer := bring(c.tn, c.token)
		if answer.Status != http.StatusOK || answer.Member("scope") != "docs:read" || !good(c.token, c.tn.PublicHTTP()) {
			t.Fatalf("%s: %s", c.tn.Name, answer)
		}
		if who := whoami(t, w, c.tn, answer.Member("access_token")); who.Sub != issuer+"|system:serviceaccount:ci:"+c.sub || who.Scopes != "docs:read" {
			t.Errorf("%s: the MCP server saw %+v", c.tn.Name, who)
		}
	}

	for _, c := range []struct {
		what, token, audience string
		tn                    *rig.Tenant
		error, says           string
	}{
		{"another namespace's account", token("other", "runner", "--audience="+public), public, w.Wiki, "access_denied", "no rule fits; of each, this claim does not: sub"},
		{"another account of the namespace", token("ci", "deployer", "--audience="+public), public, w.Wiki, "access_denied", "no rule fits; of each, this claim does not: sub"},
		{"another namespace", token("other", "runner", "--audience="+w.World.PublicHTTP()), w.World.PublicHTTP(), w.World, "access_denied", "no rule fits; of each, this claim does not: kubernetes.io.namespace"},
		{"for the other server", token("ci", "runner", "--audience="+w.World.PublicHTTP()), w.World.PublicHTTP(), w.Wiki, "invalid_grant", "aud is not this server alone"},
		{"for both servers", token("ci", "runner", "--audience="+public, "--audience="+w.World.PublicHTTP()), public, w.Wiki, "invalid_grant", "aud is not this server alone"},
		{"for the API server", token("ci", "runner"), issuer, w.Wiki, "invalid_grant", "aud is not this server alone"},
		{"for two days", token("ci", "runner", "--audience="+public, "--duration=48h"), public, w.Wiki, "invalid_grant", "it lives longer than a day"},
		// The API server makes none for less than ten minutes, so its key signs one here.
		{"expired", aged(t, k, ofPod, 12*time.Minute), "", w.Wiki, "invalid_grant", "it expired 1"},
	} {
		before := strings.Count(sidecars(), c.says)
		if good(c.token, c.audience) != (c.audience != "") {
			t.Errorf("%s: the API server says otherwise of it than was meant", c.what)
		}
		answer := bring(c.tn, c.token)
		if answer.Status != http.StatusBadRequest || answer.Member("error") != c.error || strings.Contains(answer.Body, c.says) {
			t.Errorf("%s: %s", c.what, answer)
		}
		if strings.Count(sidecars(), c.says) == before {
			t.Errorf("%s: no log says %q", c.what, c.says)
		}
	}
	if younger := aged(t, k, ofPod, time.Minute); !good(younger, public) || bring(w.Wiki, younger).Status != http.StatusOK {
		t.Error("a token of a minute ago is refused, so one that has expired may be refused for another reason")
	}

	// The API server's keys turn.
	k.Rotate()
	rotated := token("ci", "runner", "--audience="+public)
	if answer := bring(w.Wiki, ofPod); answer.Status != http.StatusOK {
		t.Errorf("a token of the old key: %s", answer)
	}
	rig.WaitFor(t, "the new key", func() error {
		switch answer := bring(w.Wiki, rotated); answer.Status {
		case http.StatusOK:
			return nil
		case http.StatusServiceUnavailable: // the page says for how long
			return errors.New(answer.String())
		default:
			t.Fatalf("a token of a new key: %s", answer)
			return nil
		}
	})

	// What the page says cannot be had.
	k.Kubectl(t, "", "delete", "pod", "job", "--namespace=ci", "--grace-period=0", "--force")
	k.Kubectl(t, "", "delete", "serviceaccount", "runner", "--namespace=ci")
	rig.WaitFor(t, "the deleted account's token", func() error {
		if good(ofPod, public) {
			return errors.New("the API server takes it")
		}
		return nil
	})
	if answer := bring(w.Wiki, ofPod); answer.Status != http.StatusOK {
		t.Errorf("a deleted account's token, before it expires: %s", answer)
	}
	if w.Secrets.Kinds()["workload's token"] == 0 {
		t.Error("no token was noted, so none is looked for in the logs")
	}
	for _, found := range w.Secrets.In(w.Logs.Text("traefik") + sidecars()) {
		t.Errorf("a log holds a %s", found)
	}
}

// aged is a token as the API server would have made it so long ago.
func aged(t *testing.T, k *rig.Kubernetes, token string, by time.Duration) string {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	claims := jsonOf[map[string]any](t, string(parsed.UnsafePayloadWithoutVerification()))
	for _, name := range []string{"iat", "nbf", "exp"} {
		claims[name] = int64(claims[name].(float64) - by.Seconds())
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: k.SigningKey, KeyID: parsed.Signatures[0].Header.KeyID}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// traefikOf lets Traefik read a cluster, with the definitions and the rights that its own pages
// have. It returns the options of its provider.
func traefikOf(t *testing.T, k *rig.Kubernetes) map[string]any {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/traefik/traefik/v3")
	list.Dir = filepath.Join(rig.Root(), "deploy", "e2e", "traefik")
	module, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"kubernetes-crd-definition-v1.yml", "kubernetes-crd-rbac.yml"} {
		k.Kubectl(t, "", "apply", "--server-side", "--filename="+filepath.Join(strings.TrimSpace(string(module)), "docs", "content", "reference", "dynamic-configuration", file))
	}
	k.Kubectl(t, "", "create", "serviceaccount", "traefik-ingress-controller")
	dir := t.TempDir()
	files := map[string]string{"token": strings.TrimSpace(k.Kubectl(t, "", "create", "token", "traefik-ingress-controller")), "ca.pem": string(k.CA)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]any{"endpoint": k.URL, "token": filepath.Join(dir, "token"), "certAuthFilePath": filepath.Join(dir, "ca.pem")}
}

// What a real API server keeps of a Middleware reaches the plugin as docs/labels.md says.
func TestTypedLabelsOfARealKubernetes(t *testing.T) {
	w := newTypedWorld(t)
	k := rig.StartKubernetes(t, w.logs)
	provider := traefikOf(t, k)
	cases := casesOfKubernetes()
	var items []any
	for _, objects := range w.objects(cases) {
		items = append(items, objects...)
	}
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	k.Kubectl(t, string(list), "create", "--filename=-")
	provider["allowExternalNameServices"] = true
	w.start(rig.TraefikConfig{Static: map[string]any{"providers": map[string]any{"kubernetesCRD": provider}}})
	w.check(cases, asKubernetes)
}

// What lint says of manifests is what Traefik answers where a real API server has taken them.
func TestLintReadsManifestsAsARealKubernetesDoes(t *testing.T) {
	k := rig.StartKubernetes(t, &rig.Logs{})
	provider := traefikOf(t, k)
	k.Kubectl(t, "", "create", "namespace", "other")
	for made, with := range namings {
		t.Run(made, func(t *testing.T) {
			readManifests(t, made, with, func(t *testing.T, manifests string) map[string]any {
				k.Kubectl(t, manifests, "apply", "--filename=-")
				return maps.Clone(provider)
			})
		})
	}
}

// deploy/kubernetes leads to logins: its commands are run, a real API server takes its manifest
// without a warning, and real Traefik reads it there, with the static configuration of the compose
// file. A second server has values that are no texts. Names and addresses are replaced, and the
// endpoints of services are the test's, since there are no nodes.
func TestLoginThroughKubernetes(t *testing.T) {
	folder := filepath.Join(rig.Root(), "deploy", "kubernetes")
	readme, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(folder, "wiki.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	logs := &rig.Logs{}
	k := rig.StartKubernetes(t, logs)
	provider := traefikOf(t, k)
	k.Kubectl(t, "", "create", "namespace", "traefik")
	blocks := regexp.MustCompile("(?s)   ```sh\n(.*?)   ```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 2 {
		t.Fatalf("README.md has %d blocks of commands", len(blocks))
	}
	dir := t.TempDir()
	run := func(commands string, files map[string]string) {
		t.Helper()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-ec", commands)
		cmd.Env, cmd.Dir = k.Env(), dir
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "Warning") {
			t.Fatalf("%s: %v: %s", commands, err, out)
		}
	}
	run(blocks[0][1], map[string]string{"client.env": "GOOGLE_CLIENT_SECRET=from-google\n"})
	for of, want := range map[string][]string{"mcp/bouncer": {"BOUNCER_ENCRYPTION_KEY", "GOOGLE_CLIENT_SECRET"}, "traefik/bouncer-hop": {"BOUNCER_HOP_KEY"}} {
		namespace, name, _ := strings.Cut(of, "/")
		secret := jsonOf[struct{ Data map[string][]byte }](t, k.Kubectl(t, "", "get", "secret", name, "--namespace="+namespace, "--output=json"))
		if got := slices.Sorted(maps.Keys(secret.Data)); !slices.Equal(got, want) {
			t.Errorf("the secret %s holds %q, want %q", of, got, want)
		}
	}
	k.Kubectl(t, "", "label", "namespace", "mcp", "pod-security.kubernetes.io/warn=restricted")
	run(blocks[1][1], map[string]string{"wiki.yaml": string(manifest)}) // to the letter
	recipes, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "recipes.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile("`(kubectl [^`]+)`").FindAllStringSubmatch(string(recipes), -1)
	if len(commands) != 2 {
		t.Fatalf("docs/recipes.md has %d commands of kubectl", len(commands))
	}
	run(commands[0][1]+"\n"+commands[1][1], map[string]string{"provider.pem": "of an authority"})
	// The sidecar finds it where the variable says.
	spec := jsonOf[struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Env          []struct{ Name, Value string }
						VolumeMounts []struct{ Name, MountPath string }
					}
					Volumes []struct {
						Name      string
						ConfigMap struct{ Name string }
					}
				}
			}
		}
	}](t, k.Kubectl(t, "", "get", "deployment", "bouncer", "--namespace=mcp", "--output=json")).Spec.Template.Spec
	mount, variable := spec.Containers[0].VolumeMounts[0], spec.Containers[0].Env[0]
	files := jsonOf[struct{ Data map[string]string }](t, k.Kubectl(t, "", "get", "configmap", spec.Volumes[0].ConfigMap.Name, "--namespace=mcp", "--output=json")).Data
	if variable.Name != "SSL_CERT_FILE" || mount.Name != spec.Volumes[0].Name || files[strings.TrimPrefix(variable.Value, mount.MountPath+"/")] != "of an authority" {
		t.Errorf("%v %v %v", variable, mount, files)
	}

	static := composeStatic(t)
	static["providers"] = map[string]any{"kubernetesCRD": provider}
	w := rig.New(t, rig.Options{Static: static, Containers: func(w *rig.World) []rig.Container {
		for _, tn := range w.Tenants() {
			text := strings.NewReplacer("mcp.example.com", "mcp.localhost", "https://accounts.google.com", tn.Provider.Issuer,
				"1234.apps.googleusercontent.com", tn.Provider.ClientID, "env:GOOGLE_CLIENT_SECRET", "env:"+tn.Provider.SecretEnv,
				"http://bouncer.mcp.svc:8080", w.Front.URL, "you@example.com", tn.Provider.Username).Replace(string(manifest))
			if tn == w.World {
				text = strings.ReplaceAll(text, "wiki", "world")
				typed := "generation: 3\n      hideTools: true\n      requiredScopes: [docs:read]\n      toolScopes: [delete_page=docs:write]\n"
				text = strings.Replace(text, "allowedEmails: ["+tn.Provider.Username+"]\n", typed, 1)
			}
			k.Kubectl(t, text, "apply", "--filename=-")
			k.Endpoints(t, "mcp", tn.Name, tn.MCP.URL)
		}
		return nil
	}})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name, func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTPS()) })
	}
	session, _, err := w.World.DialMCP(t.Context(), w.World.PublicHTTPS())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 1 || tools.Tools[0].Name != "whoami" {
		t.Errorf("with typed values one sees the tools %v: %v", tools, err)
	}

	k.Kubectl(t, "", "delete", "middleware", "mcpb-wiki", "--namespace=mcp")
	rig.WaitFor(t, "the route without its middleware", func() error {
		resp, err := w.HTTP().Get(w.Wiki.PublicHTTPS() + "/mcp")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return nil
		}
		if resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("meanwhile it answers %s", resp.Status)
		}
		return errors.New(resp.Status)
	})
}
