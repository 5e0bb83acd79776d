package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"go.yaml.in/yaml/v3"
)

func composeFolder() string { return filepath.Join(rig.Root(), "deploy", "compose") }

func readYAML(t *testing.T, file string) (content map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &content)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return content
}

// Plugin and image are of one version, which every file and page names.
func TestComposeFilesAreOfOneVersion(t *testing.T) {
	t.Parallel()
	plugins := readYAML(t, filepath.Join(composeFolder(), "traefik.yaml"))["experimental"].(map[string]any)["plugins"].(map[string]any)
	plugin := plugins["mcpbouncer"].(map[string]any)
	version, _ := plugin["version"].(string)
	if !regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`).MatchString(version) || plugin["moduleName"] != rig.Module {
		t.Fatalf("the plugin is %v", plugin)
	}
	for _, file := range []string{"compose.yaml", "swarm.yaml"} {
		env := exampleEnv()
		env["MCP_HOST"] = "mcp.example.com"
		if image := loadComposeIn(t, composeFolder(), env, file).Services["bouncer"].Image; image != "ghcr.io/mcpbouncer/mcpbouncer:"+version {
			t.Errorf("%s: the sidecar is %s, and the plugin %s", file, image, version)
		}
	}
	named := regexp.MustCompile(`(?:mcpbouncer/mcpbouncer:|refs/tags/|version: )(v[0-9][0-9.]*[0-9])`)
	for _, file := range []string{"README.md", "deploy/compose/README.md"} {
		text, err := os.ReadFile(filepath.Join(rig.Root(), filepath.FromSlash(file)))
		found := named.FindAllStringSubmatch(string(text), -1)
		if err != nil || len(found) < 2 {
			t.Errorf("%s names %q (%v)", file, found, err)
		}
		for _, of := range found {
			if of[1] != version {
				t.Errorf("%s: %s, and the files have %s", file, of[0], version)
			}
		}
	}
}

// Without a checkout there are the files of deploy/compose, and of deploy/observe beside it. With
// the file for development over it, the checkout is all there is.
func TestComposeFilesNeedNoCheckout(t *testing.T) {
	t.Parallel()
	project := loadCompose(t, exampleEnv())
	for name, service := range project.Services {
		if service.Build != nil || service.Image == "" {
			t.Errorf("%s is built", name)
		}
		for _, volume := range service.Volumes {
			beside := strings.HasPrefix(volume.Source, composeFolder()+"/") || strings.HasPrefix(volume.Source, filepath.Join(rig.Root(), "deploy", "observe")+"/")
			if !beside && volume.Source != "/var/run/docker.sock" {
				t.Errorf("%s mounts %s", name, volume.Source)
			}
		}
	}
	if health := project.Services["bouncer"].HealthCheck; health == nil || !slices.Equal(health.Test, []string{"CMD", "/mcpbouncer", "healthcheck"}) {
		t.Errorf("Traefik waits for a health that nobody looks at: %v", health)
	}

	dev := loadComposeIn(t, composeFolder(), exampleEnv(), "compose.yaml", "compose.dev.yaml")
	mounts := map[string]string{} // :: path in Traefik's container → here
	for _, volume := range dev.Services["traefik"].Volumes {
		here, err := filepath.Rel(composeFolder(), volume.Source)
		if err != nil {
			t.Fatal(err)
		}
		mounts[volume.Target] = filepath.ToSlash(here)
	}
	const plugin = "/plugins-local/src/" + rig.Module + "/"
	for target, want := range map[string]string{
		"/etc/traefik/traefik.yaml": "traefik.dev.yaml", "/etc/traefik/dynamic.yaml": "dynamic.yaml",
		plugin + ".traefik.yml": "../../.traefik.yml", plugin + "go.mod": "../../go.mod", plugin + "plugin": "../../plugin",
	} {
		if mounts[target] != want {
			t.Errorf("in development %s is %q, want %q", target, mounts[target], want)
		}
	}
	for name, target := range map[string]string{"bouncer": "sidecar", "wiki": "example", "world": "example"} {
		if build := dev.Services[name].Build; build == nil || build.Target != target || build.Context != rig.Root() {
			t.Errorf("in development %s is built as %+v", name, build)
		}
	}
	// traefik.dev.yaml differs in the plugin alone
	static, made := readYAML(t, filepath.Join(composeFolder(), "traefik.yaml")), madeBySed(t, "traefik.dev.yaml")
	local := made["experimental"].(map[string]any)["localPlugins"]
	if !reflect.DeepEqual(local, map[string]any{"mcpbouncer": map[string]any{"moduleName": rig.Module}}) {
		t.Errorf("traefik.dev.yaml has the plugin as %v", local)
	}
	delete(static["experimental"].(map[string]any), "plugins")
	delete(made["experimental"].(map[string]any), "localPlugins")
	if !reflect.DeepEqual(static, made) {
		t.Errorf("traefik.dev.yaml is %v, traefik.yaml %v", made, static)
	}
}

// inFiles gives the sidecars a service's secrets as files, and the variables that name them.
func inFiles(t *testing.T, w *rig.World, service types.ServiceConfig, content map[string]string) {
	t.Helper()
	env := map[string]string{"BOUNCER_ENCRYPTION_KEY": ""} // the rig's own
	for name, value := range service.Environment {
		if value == nil {
			t.Errorf("%s is not set at all", name)
		} else if strings.HasSuffix(name, "_FILE") || *value == "" {
			env[name] = *value
		}
	}
	for _, secret := range service.Secrets {
		if content[secret.Source] == "" {
			t.Errorf("README.md makes no secrets/%s", secret.Source)
		}
		for _, r := range w.Replicas {
			r.PutFile("run/secrets/"+secret.Source, []byte(content[secret.Source]+"\n"))
		}
	}
	// Before, or a plugin that finds no sidecar waits for seconds until it asks again.
	rig.WaitFor(t, "each plugin has found the sidecar", func() error {
		found := map[string]bool{}
		for _, line := range foundSidecar.FindAllStringSubmatch(w.Logs.Text("traefik"), -1) {
			found[line[1]] = true
		}
		if len(found) < len(w.Tenants()) {
			return fmt.Errorf("only %v have", found)
		}
		return nil
	})
	for _, r := range w.Replicas {
		r.Restart(env)
	}
}

var foundSidecar = regexp.MustCompile(`middleware "([^"]+)": the sidecar \S+ answers`)

// The file with secrets over compose.yaml: no variable holds one, and people log in.
func TestLoginWithSecretsInFiles(t *testing.T) {
	t.Parallel()
	hop := filepath.Join(t.TempDir(), "hop_key")
	var project *types.Project
	w := rig.New(t, rig.Options{Containers: func(w *rig.World) []rig.Container {
		if err := os.WriteFile(hop, []byte("BOUNCER_HOP_KEY="+w.Keys.Hop+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		google, zitadel := w.Wiki.Provider, w.World.Provider
		env := exampleEnv()
		maps.Copy(env, map[string]string{
			"MCP_HOST": "mcp.localhost", "WIKI_ISSUER": google.Issuer, "GOOGLE_CLIENT_ID": google.ClientID, "WIKI_EMAILS": google.Username,
			"WORLD_ISSUER": zitadel.Issuer, "ZITADEL_CLIENT_ID": zitadel.ClientID,
			"BOUNCER_ENCRYPTION_KEY": "file", "BOUNCER_HOP_KEY": "file", "GOOGLE_CLIENT_SECRET": "file", "ZITADEL_CLIENT_SECRET": "file",
		})
		project = loadComposeIn(t, composeFolder(), env, "compose.yaml", "compose.secrets.yaml")
		containers := composeContainers(t, w, project)
		for _, c := range containers {
			label := "traefik.http.middlewares.mcpb-" + c.Name + ".plugin.mcpbouncer.hopKeyFile"
			if c.Labels[label] != "/run/secrets/hop_key" {
				t.Errorf("%s reads the hop key from %q", c.Name, c.Labels[label])
			}
			c.Labels[label] = hop
		}
		return containers
	}})
	for name, service := range project.Services {
		for variable, value := range service.Environment {
			if value != nil && *value == "file" {
				t.Errorf("%s has %s in a variable", name, variable)
			}
		}
	}
	if given := project.Services["traefik"].Secrets; len(given) != 1 || given[0].Source != "hop_key" {
		t.Errorf("Traefik is given %v", given)
	}
	inFiles(t, w, project.Services["bouncer"], map[string]string{
		"master": "BOUNCER_ENCRYPTION_KEY=" + w.Keys.Encryption, "google": w.Wiki.Provider.ClientSecret, "zitadel": w.World.Provider.ClientSecret,
	})
	for _, tn := range w.Tenants() {
		callWhoami(t, tn, tn.PublicHTTPS())
	}
}

// The stack's labels, variables and files, in real Traefik behind its Docker provider: the rig has
// no Swarm.
func TestLoginWithTheLabelsOfTheSwarmFile(t *testing.T) {
	t.Parallel()
	made := madeBySed(t, "traefik.swarm.yaml")
	providers := made["providers"].(map[string]any)
	if !reflect.DeepEqual(providers, map[string]any{"swarm": map[string]any{"exposedByDefault": false}}) {
		t.Errorf("Traefik reads %v", providers)
	}
	hop := filepath.Join(t.TempDir(), "hop_key")
	var project *types.Project
	w := rig.New(t, rig.Options{Containers: func(w *rig.World) []rig.Container {
		if err := os.WriteFile(hop, []byte("BOUNCER_HOP_KEY="+w.Keys.Hop+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		google, zitadel := w.Wiki.Provider, w.World.Provider
		env := exampleEnv()
		maps.Copy(env, map[string]string{
			"MCP_HOST": "mcp.localhost", "WIKI_ISSUER": google.Issuer, "GOOGLE_CLIENT_ID": google.ClientID, "WIKI_EMAILS": google.Username,
			"WORLD_ISSUER": zitadel.Issuer, "ZITADEL_CLIENT_ID": zitadel.ClientID,
		})
		world := composeContainer(t, w, loadCompose(t, env), w.World)
		world.Labels["traefik.http.middlewares.mcpb-world.plugin.mcpbouncer.clientSecret"] = "env:" + zitadel.SecretEnv
		world.Labels["traefik.http.middlewares.mcpb-world.plugin.mcpbouncer.hopKeyFile"] = hop
		project = loadComposeIn(t, composeFolder(), env, "swarm.yaml")
		service := project.Services["wiki"]
		if len(service.Labels) != 0 {
			t.Errorf("Traefik does not see the labels %v", service.Labels)
		}
		service.Labels = types.Labels(service.Deploy.Labels)
		if got, want := service.Labels["traefik.swarm.network"], project.Networks["wiki"].Name; got != want {
			t.Errorf("Traefik looks for the server on %q, and it is on %q", got, want)
		}
		project.Services["wiki"] = service
		wiki := composeContainer(t, w, project, w.Wiki)
		label := "traefik.http.middlewares.mcpb-wiki.plugin.mcpbouncer.hopKeyFile"
		if wiki.Labels[label] != "/run/secrets/hop_key" {
			t.Errorf("the hop key is read from %q", wiki.Labels[label])
		}
		wiki.Labels[label] = hop
		return []rig.Container{wiki, world}
	}})
	bouncer := project.Services["bouncer"]
	if !bouncer.ReadOnly || len(bouncer.Ports) != 0 || *bouncer.Deploy.Replicas < 2 || !project.Networks["wiki"].Internal {
		t.Errorf("the sidecar of the stack is %+v", bouncer)
	}
	for _, secret := range bouncer.Secrets {
		if secret.UID != "65532" {
			t.Errorf("the sidecar cannot read %s, which is %q's", secret.Source, secret.UID)
		}
	}
	for name := range bouncer.Environment {
		if strings.HasSuffix(name, "SECRET") || strings.HasSuffix(name, "KEY") {
			t.Errorf("%s is in a variable", name)
		}
	}
	inFiles(t, w, bouncer, map[string]string{"master": "BOUNCER_ENCRYPTION_KEY=" + w.Keys.Encryption, "google": w.Wiki.Provider.ClientSecret})
	callWhoami(t, w.Wiki, w.Wiki.PublicHTTPS())
	if err := statusIs(w.Traefik.Web+"/wiki/anything", http.StatusNotFound); err != nil {
		t.Errorf("the stack serves without TLS, or another host: %v", err)
	}
}
