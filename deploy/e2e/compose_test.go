package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"go.yaml.in/yaml/v3"
)

// loadCompose reads deploy/compose/compose.yaml as docker compose does, with the given variables in place of .env.
func loadCompose(t *testing.T, env map[string]string) *types.Project {
	t.Helper()
	return loadComposeIn(t, filepath.Join(rig.Root(), "deploy", "compose"), env)
}

func loadComposeIn(t *testing.T, dir string, env map[string]string) *types.Project {
	t.Helper()
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}},
		Environment: env,
	}, func(o *loader.Options) { o.SetProjectName("mcpbouncer", true) })
	if err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	return project
}

// exampleEnv is the .env of somebody who has followed the README.
func exampleEnv() map[string]string {
	return map[string]string{
		"BOUNCER_ENCRYPTION_KEY": "master", "BOUNCER_HOP_KEY": "hop", "WORLD_ISSUER": "https://example.zitadel.cloud",
		"GOOGLE_CLIENT_ID": "google", "GOOGLE_CLIENT_SECRET": "google-secret", "WIKI_EMAILS": "ada@example.com",
		"ZITADEL_CLIENT_ID": "zitadel", "ZITADEL_CLIENT_SECRET": "zitadel-secret",
	}
}

// The labels of deploy/compose/compose.yaml and the static configuration of deploy/compose/traefik.yaml, as they are
// there, in real Traefik. Replaced is only where things are: ports, addresses, and the providers, by the file's own variables.
func TestLoginWithTheLabelsOfTheComposeFile(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Static: composeStatic(t), Containers: func(w *rig.World) []rig.Container {
		google, zitadel := w.Wiki.Provider, w.World.Provider
		project := loadCompose(t, map[string]string{
			"BOUNCER_ENCRYPTION_KEY": w.Keys.Encryption, "BOUNCER_HOP_KEY": w.Keys.Hop,
			"WIKI_ISSUER": google.Issuer, "GOOGLE_CLIENT_ID": google.ClientID, "GOOGLE_CLIENT_SECRET": google.ClientSecret, "WIKI_EMAILS": google.Username,
			"WORLD_ISSUER": zitadel.Issuer, "ZITADEL_CLIENT_ID": zitadel.ClientID, "ZITADEL_CLIENT_SECRET": zitadel.ClientSecret,
		})
		return composeContainers(t, w, project)
	}})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name, func(t *testing.T) { callWhoami(t, tn, tn.PublicHTTPS()) })
	}
	// This configuration has an access log, which sees every callback's query.
	if text := w.Logs.Text("traefik"); !strings.Contains(text, `"RequestMethod":"POST"`) {
		t.Error("Traefik wrote no access log")
	} else {
		for _, found := range w.Secrets.In(text) {
			t.Errorf("traefik logged a %s", found)
		}
	}
}

// composeStatic is deploy/compose/traefik.yaml.
func composeStatic(t *testing.T) (static map[string]any) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "traefik.yaml"))
	if err == nil {
		err = yaml.Unmarshal(file, &static)
	}
	if err != nil {
		t.Fatalf("traefik.yaml: %v", err)
	}
	return static
}

// composeContainers are the MCP servers of a compose file, with the rig's ports and addresses.
func composeContainers(t *testing.T, w *rig.World, project *types.Project) (containers []rig.Container) {
	t.Helper()
	for _, tn := range w.Tenants() {
		service, err := project.GetService(tn.Name)
		if err != nil {
			t.Fatalf("compose.yaml: %v", err)
		}
		c := rig.Container{Name: tn.Name, IP: "127.0.0.1", Port: tn.MCP.Port, Labels: map[string]string{}}
		for name, value := range service.Labels {
			switch {
			case strings.HasSuffix(name, ".loadbalancer.server.port"):
				value = tn.MCP.Port
			case strings.HasSuffix(name, ".sidecarURL"):
				value = w.Front.URL
			}
			c.Labels[name] = value
		}
		for name := range service.Networks {
			c.Networks = append(c.Networks, project.Networks[name].Name)
		}
		containers = append(containers, c)
	}
	return containers
}

func TestComposeFileKeepsItsPromises(t *testing.T) {
	t.Parallel()
	project := loadCompose(t, exampleEnv())
	service := func(name string) types.ServiceConfig {
		t.Helper()
		s, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bouncer := service("bouncer")
	if !bouncer.ReadOnly {
		t.Error("the sidecar's file system can be written")
	}
	for _, volume := range bouncer.Volumes {
		if volume.Type != types.VolumeTypeBind || !volume.ReadOnly || filepath.Base(volume.Source) != "deny" {
			t.Errorf("the sidecar has the volume %s", volume)
		}
	}
	if len(project.Volumes) != 0 {
		t.Error("there is a volume that stays")
	}
	if len(bouncer.Ports) != 0 {
		t.Error("the sidecar publishes a port")
	}
	if user, _, _ := strings.Cut(bouncer.User, ":"); user == "" || user == "0" || user == "root" {
		t.Errorf("the sidecar runs as %q", bouncer.User)
	}
	if !slices.Contains(bouncer.CapDrop, "ALL") {
		t.Error("the sidecar keeps capabilities")
	}
	for _, name := range []string{"wiki", "world"} {
		for network := range service(name).Networks {
			if _, shared := bouncer.Networks[network]; shared {
				t.Errorf("%s can reach the sidecar over the network %s", name, network)
			}
		}
		for label, value := range service(name).Labels {
			if strings.HasSuffix(label, ".clientSecret") && !strings.HasPrefix(value, "env:") {
				t.Errorf("%s: a secret in a label", label)
			}
			if variable, ok := strings.CutPrefix(value, "env:"); ok && bouncer.Environment[variable] == nil {
				t.Errorf("%s names %s, which the sidecar is not given", label, variable)
			}
		}
	}
	// Identity headers are all the authentication that an MCP server has: a neighbour on its network could be anybody.
	for network := range service("wiki").Networks {
		if _, shared := service("world").Networks[network]; shared {
			t.Errorf("wiki and world share the network %s", network)
		}
		if !project.Networks[network].Internal {
			t.Errorf("wiki has a way out over the network %s", network)
		}
	}
	traefik := service("traefik")
	for name, s := range project.Services {
		if len(s.Networks) == 0 || s.Logging == nil || s.Logging.Options["max-size"] == "" {
			t.Errorf("%s: no network, or a log without bound", name)
		}
	}
	for name, s := range project.Services {
		for _, secret := range []string{"BOUNCER_ENCRYPTION_KEY", "GOOGLE_CLIENT_SECRET", "ZITADEL_CLIENT_SECRET"} {
			if _, has := s.Environment[secret]; has && name != "bouncer" {
				t.Errorf("%s is given %s", name, secret)
			}
		}
	}
	if hop := traefik.Environment["BOUNCER_HOP_KEY"]; hop == nil || *hop != "hop" {
		t.Error("Traefik is not given the hop key")
	}
}

func TestComposeFileRefusesAMissingValue(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(rig.Root(), "deploy", "compose")
	for name := range exampleEnv() {
		t.Run(name, func(t *testing.T) {
			env := exampleEnv()
			delete(env, name)
			_, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
				WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}}, Environment: env,
			}, func(o *loader.Options) { o.SetProjectName("mcpbouncer", true) })
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("want an error that names %s, got %v", name, err)
			}
		})
	}
}
