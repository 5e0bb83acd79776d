//go:build kubernetes

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
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
	definitions := traefikDefinitions(t)
	for _, file := range []string{definitions, filepath.Join(filepath.Dir(definitions), "kubernetes-crd-rbac.yml")} {
		k.Kubectl(t, "", "apply", "--server-side", "--filename="+file)
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

// pageCommands are the blocks of commands in deploy/kubernetes/README.md: keys, with Helm, without
// Helm, and an upgrade.
func pageCommands(t *testing.T) (keys, withHelm, without, upgrade string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "kubernetes", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s) *```sh\n(.*?) *```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 4 {
		t.Fatalf("README.md has %d blocks of commands", len(blocks))
	}
	return blocks[0][1], blocks[1][1], blocks[2][1], blocks[3][1]
}

// inPage runs commands to the letter, in a copy of the page's folder. Kubernetes may warn of
// nothing.
func inPage(t *testing.T, k *rig.Kubernetes, commands string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	err := os.CopyFS(dir, os.DirFS(filepath.Join(rig.Root(), "deploy", "kubernetes")))
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", commands)
	cmd.Env, cmd.Dir = k.Env(), dir
	if out, err := cmd.CombinedOutput(); err != nil || regexp.MustCompile("(?i)warn|violate|deprecated").Match(out) {
		t.Fatalf("%s: %v: %s", commands, err, out)
	}
}

// startPage is a cluster after the page's second step, whose namespaces are to be of Pod Security
// `restricted`.
func startPage(t *testing.T, logs *rig.Logs) (*rig.Kubernetes, map[string]any) {
	t.Helper()
	k := rig.StartKubernetes(t, logs)
	provider := traefikOf(t, k)
	k.Kubectl(t, "", "create", "namespace", "traefik")
	keys, _, _, _ := pageCommands(t)
	inPage(t, k, keys, map[string]string{"client.env": "GOOGLE_CLIENT_SECRET=from-google\nKEYCLOAK_CLIENT_SECRET=from-keycloak\n"})
	for of, want := range map[string][]string{"mcp/bouncer": {"BOUNCER_ENCRYPTION_KEY", "GOOGLE_CLIENT_SECRET", "KEYCLOAK_CLIENT_SECRET"}, "traefik/bouncer-hop": {"BOUNCER_HOP_KEY"}} {
		namespace, name, _ := strings.Cut(of, "/")
		secret := jsonOf[struct{ Data map[string][]byte }](t, k.Kubectl(t, "", "get", "secret", name, "--namespace="+namespace, "--output=json"))
		if got := slices.Sorted(maps.Keys(secret.Data)); !slices.Equal(got, want) {
			t.Errorf("the secret %s holds %q, want %q", of, got, want)
		}
	}
	k.Kubectl(t, "", "label", "namespace", "mcp", "pod-security.kubernetes.io/warn=restricted")
	return k, provider
}

// deployed is what the API server has of the sidecar.
type deployed struct {
	Spec struct {
		Replicas int
		Template struct {
			Spec struct {
				Containers []struct {
					Image         string
					Command, Args []string
					Env           []struct{ Name, Value string }
					EnvFrom       []struct{ SecretRef struct{ Name string } }
					VolumeMounts  []struct{ Name, MountPath string }
				}
				Volumes []struct {
					Name      string
					ConfigMap struct{ Name string }
				}
			}
		}
	}
}

func deployedIn(t *testing.T, k *rig.Kubernetes) deployed {
	t.Helper()
	return jsonOf[deployed](t, k.Kubectl(t, "", "get", "deployment", "bouncer", "--namespace=mcp", "--output=json"))
}

// deploy/kubernetes leads to logins, with Helm and without: its commands are run, a real API server
// takes what they send without a warning, and real Traefik reads it there, with the static
// configuration of the compose file. Names and addresses are replaced. There are no nodes, so the
// endpoints of services are the test's, and it starts the sidecars itself, with the variables that
// the Deployment has.
func TestLoginThroughKubernetes(t *testing.T) {
	for name, ofHelm := range map[string]bool{"helm": true, "plain": false} {
		t.Run(name, func(t *testing.T) { loginThroughKubernetes(t, ofHelm) })
	}
}

func loginThroughKubernetes(t *testing.T, ofHelm bool) {
	logs := &rig.Logs{}
	k, provider := startPage(t, logs)
	_, withHelm, without, upgrade := pageCommands(t)
	first := without
	if ofHelm {
		first = withHelm
	}
	inPage(t, k, first, nil)
	recipes, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "recipes.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile("`(kubectl [^`]+)`").FindAllStringSubmatch(string(recipes), -1)
	if len(commands) != 2 {
		t.Fatalf("docs/recipes.md has %d commands of kubectl", len(commands))
	}
	inPage(t, k, commands[0][1]+"\n"+commands[1][1], map[string]string{"provider.pem": "of an authority"})
	// The sidecar finds it where the variable says.
	pod := deployedIn(t, k).Spec.Template.Spec
	container := pod.Containers[0]
	if len(container.Command)+len(container.Args) > 0 || container.EnvFrom[0].SecretRef.Name != "bouncer" {
		t.Errorf("the sidecar is started by %q %q, with %v", container.Command, container.Args, container.EnvFrom)
	}
	mount, variable := container.VolumeMounts[0], container.Env[0]
	files := jsonOf[struct{ Data map[string]string }](t, k.Kubectl(t, "", "get", "configmap", pod.Volumes[0].ConfigMap.Name, "--namespace=mcp", "--output=json")).Data
	if variable.Name != "SSL_CERT_FILE" || mount.Name != pod.Volumes[0].Name || files[strings.TrimPrefix(variable.Value, mount.MountPath+"/")] != "of an authority" {
		t.Errorf("%v %v %v", variable, mount, files)
	}
	variables := map[string]string{}
	for _, variable := range container.Env {
		variables[variable.Name] = variable.Value
	}

	static := composeStatic(t)
	static["providers"] = map[string]any{"kubernetesCRD": provider}
	folder, edited := filepath.Join(rig.Root(), "deploy", "kubernetes"), ""
	w := rig.New(t, rig.Options{Static: static, Sidecar: variables, Containers: func(w *rig.World) []rig.Container {
		replace := strings.NewReplacer("mcp.example.com", "mcp.localhost", "https://accounts.google.com", w.Wiki.Provider.Issuer, "https://login.example.com:8443/realms/acme", w.World.Provider.Issuer,
			"1234.apps.googleusercontent.com", w.Wiki.Provider.ClientID, "mcp-world", w.World.Provider.ClientID,
			"env:GOOGLE_CLIENT_SECRET", "env:"+w.Wiki.Provider.SecretEnv, "env:KEYCLOAK_CLIENT_SECRET", "env:"+w.World.Provider.SecretEnv,
			"you@example.com", w.Wiki.Provider.Username)
		file, commands := "manifests.yaml", without[strings.Index(without, "kubectl"):]
		if ofHelm {
			file, commands = "values.yaml", upgrade
		}
		text, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		edited = replace.Replace(string(text))
		inPage(t, k, commands, map[string]string{file: edited})
		for _, tn := range w.Tenants() {
			k.Kubectl(t, `{"spec": {"plugin": {"mcpbouncer": {"sidecarURL": "`+w.Front.URL+`"}}}}`, "patch", "middleware", "bouncer-tenant-"+tn.Name, "--namespace=mcp", "--type=merge", "--patch-file=/dev/stdin")
			k.Kubectl(t, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: mcp}\nspec: {ports: [{port: 8000}]}\n", tn.Name), "apply", "--filename=-")
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
	// Beyond the limit nobody registers, and all else goes on.
	limited := false
	for range 90 {
		resp, err := w.HTTP().Post(w.Wiki.PublicHTTPS()+"/oauth/register", "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		limited = limited || resp.StatusCode == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("90 clients may register at once")
	}

	if ofHelm {
		inPage(t, k, strings.TrimSpace(upgrade)+" --force-conflicts --set tenants.wiki=null", map[string]string{"values.yaml": edited})
		k.Kubectl(t, "", "get", "middleware", "bouncer-tenant-world", "--namespace=mcp")
	} else {
		k.Kubectl(t, "", "delete", "middleware", "bouncer-tenant-wiki", "--namespace=mcp")
	}
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

// Real Helm renders what its packages render for `make test`, and the API server takes all that the
// chart can make, in a namespace that lets no other pods in. An upgrade changes what was changed,
// and takes away what is gone. A release that is refused leaves the one before as it was.
func TestChartInARealKubernetes(t *testing.T) {
	k, _ := startPage(t, &rig.Logs{})
	k.Kubectl(t, "", "apply", "--server-side", "--filename="+serviceMonitorDefinition(t))
	k.Kubectl(t, "", "create", "namespace", "other")
	k.Kubectl(t, "", "label", "--overwrite", "namespace", "mcp", "pod-security.kubernetes.io/enforce=restricted")
	helm := func(args ...string) (string, error) {
		t.Helper()
		cmd := exec.Command(rig.Tool(t, "helm"), append(args, "bouncer", chartFolder(), "--namespace=mcp", "--values="+twoServers())...)
		cmd.Env = k.Env()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, flags := range [][]string{nil, allValues} {
		if out, err := helm(append([]string{"template"}, flags...)...); err != nil || out != mustRender(t, append([]string{"--values=" + twoServers()}, flags...)...) {
			t.Errorf("helm renders something else: %v", err)
		}
	}
	if out, err := helm("install"); err != nil || !strings.Contains(out, "wiki: https://mcp.example.com/wiki") || strings.Contains(out, "would violate") {
		t.Fatalf("%v: %s", err, out)
	}
	// The pod of the Deployment, which no controller makes here.
	pod := jsonOf[map[string]any](t, k.Kubectl(t, "", "get", "deployment", "bouncer", "--namespace=mcp", "--output=json"))
	template := at(t, pod, "spec", "template").(map[string]any)
	template["apiVersion"], template["kind"] = "v1", "Pod"
	template["metadata"] = map[string]any{"name": "bouncer-1", "namespace": "mcp"}
	k.Kubectl(t, "", "create", "serviceaccount", "default", "--namespace=mcp")
	text, _ := json.Marshal(template)
	k.Kubectl(t, string(text), "create", "--filename=-")

	if out, err := helm(append([]string{"upgrade"}, allValues...)...); err != nil || strings.Contains(out, "would violate") {
		t.Fatalf("%v: %s", err, out)
	}
	names := func(kind, namespace string) []string {
		t.Helper()
		return strings.Fields(k.Kubectl(t, "", "get", kind, "--namespace="+namespace, "--output=jsonpath={.items[*].metadata.name}"))
	}
	env := func() map[string]string {
		all := map[string]string{}
		for _, variable := range deployedIn(t, k).Spec.Template.Spec.Containers[0].Env {
			all[variable.Name] = variable.Value
		}
		return all
	}
	if got := env(); got["BOUNCER_LOG_LEVEL"] != "debug" || got["BOUNCER_REPLAY_GUARD"] != "redis://redis.data.svc:6380" || got["BOUNCER_METRICS_ADDR"] != ":9090" {
		t.Errorf("after the upgrade the sidecar has %v", got)
	}
	for what, want := range map[string][]string{"servicemonitor mcp": {"bouncer"}, "hpa mcp": {"bouncer"}, "middleware other": {"bouncer-limit-world", "bouncer-tenant-world"}, "middleware mcp": {"bouncer-limit-wiki", "bouncer-tenant-wiki"}} {
		kind, namespace, _ := strings.Cut(what, " ")
		if got := names(kind, namespace); !slices.Equal(got, want) {
			t.Errorf("%s are %v, want %v", what, got, want)
		}
	}
	if out, err := helm("upgrade", "--set=replicas=3,tenants.world=null"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for what, want := range map[string][]string{"servicemonitor mcp": nil, "hpa mcp": nil, "middleware other": nil, "networkpolicy mcp": {"bouncer", "bouncer-tenant-wiki"}} {
		kind, namespace, _ := strings.Cut(what, " ")
		if got := names(kind, namespace); !slices.Equal(got, want) {
			t.Errorf("%s are %v, want %v", what, got, want)
		}
	}
	if got, want := deployedIn(t, k).Spec.Replicas, 3; got != want {
		t.Errorf("%d replicas, want %d", got, want)
	}
	if out, err := helm("upgrade", "--set=replicas=0"); err == nil || !strings.Contains(out, "at '/replicas'") {
		t.Errorf("%v: %s", err, out)
	}
	if got, want := deployedIn(t, k).Spec.Replicas, 3; got != want {
		t.Errorf("after a refused upgrade %d replicas, want %d", got, want)
	}
	// Nothing that Helm keeps of a release is a secret of ours.
	secrets := k.Kubectl(t, "", "get", "secret", "bouncer", "--namespace=mcp", "--output=jsonpath={.metadata.annotations}{.metadata.labels}")
	if strings.Contains(secrets, "helm") {
		t.Errorf("Helm took the Secret for its own: %s", secrets)
	}
}
