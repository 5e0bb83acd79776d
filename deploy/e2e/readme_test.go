package e2e

import (
	"maps"
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

// readmeBlock returns the YAML of README.md that begins with a line.
func readmeBlock(t *testing.T, first string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(rig.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(text), "\n```yaml\n"+first+"\n")
	block, _, ends := strings.Cut(rest, "\n```\n")
	if !begins || !ends {
		t.Fatalf("README.md has no block that begins with %s", first)
	}
	return first + "\n" + block + "\n"
}

// readmeProject returns compose.yaml of README.md, with .env of somebody who has followed it.
func readmeProject(t *testing.T, replace ...string) *types.Project {
	t.Helper()
	dir := t.TempDir()
	text := strings.NewReplacer(replace...).Replace(readmeBlock(t, "services:"))
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return loadComposeIn(t, dir, map[string]string{
		"BOUNCER_ENCRYPTION_KEY": "master", "BOUNCER_HOP_KEY": "hop",
		"GOOGLE_CLIENT_ID": "google", "GOOGLE_CLIENT_SECRET": "google-secret",
	})
}

// The two files of README.md, as they are, in real Traefik. Replaced is only where things are, who
// signs the certificate, and the provider. The other tenant is the example's.
func TestServerOfTheReadme(t *testing.T) {
	t.Parallel()
	const host = "mcp.example.com"
	authority, dynamicTLS := composeCertificate(t, host)
	ca, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	var static map[string]any
	if err := yaml.Unmarshal([]byte(readmeBlock(t, "entryPoints:")), &static); err != nil {
		t.Fatal(err)
	}
	// TestExampleAsksAPublicAuthority has shown that these work.
	entryPoint := static["entryPoints"].(map[string]any)["websecure"].(map[string]any)["http"].(map[string]any)
	resolvers, tls := publicCertificates(t)
	if !reflect.DeepEqual(static["certificatesResolvers"], resolvers["certificatesResolvers"]) || !reflect.DeepEqual(entryPoint["tls"], tls) {
		t.Errorf("README.md has certificates by %v and %v, the example by %v and %v", static["certificatesResolvers"], entryPoint["tls"], resolvers["certificatesResolvers"], tls)
	}
	delete(static["experimental"].(map[string]any), "plugins") // the rig has that of the checkout
	delete(static, "certificatesResolvers")
	entryPoint["tls"] = map[string]any{}
	w := rig.New(t, rig.Options{Static: static, Host: host, TLS: dynamicTLS, CA: ca, Containers: func(w *rig.World) []rig.Container {
		google, zitadel := w.Wiki.Provider, w.World.Provider
		env := exampleEnv()
		maps.Copy(env, map[string]string{
			"MCP_HOST": host, "WORLD_ISSUER": zitadel.Issuer, "ZITADEL_CLIENT_ID": zitadel.ClientID,
		})
		example := loadCompose(t, env)
		world := composeContainer(t, w, example, w.World)
		world.Labels["traefik.http.middlewares.mcpb-world.plugin.mcpbouncer.clientSecret"] = "env:" + zitadel.SecretEnv
		project := readmeProject(t, "https://accounts.google.com", google.Issuer, "${GOOGLE_CLIENT_ID:?}", google.ClientID,
			"env:GOOGLE_CLIENT_SECRET", "env:"+google.SecretEnv, "you@example.com", google.Username)
		return []rig.Container{composeContainer(t, w, project, w.Wiki), world}
	}})
	callWhoami(t, w.Wiki, w.Wiki.PublicHTTPS())
}

// What README.md's compose file promises besides labels.
func TestComposeFileOfTheReadme(t *testing.T) {
	t.Parallel()
	project, example := readmeProject(t), loadCompose(t, exampleEnv())
	traefik, bouncer, wiki := project.Services["traefik"], project.Services["bouncer"], project.Services["wiki"]
	if traefik.Image != example.Services["traefik"].Image {
		t.Errorf("Traefik is %s, in the example %s", traefik.Image, example.Services["traefik"].Image)
	}
	if bouncer.Image != example.Services["bouncer"].Image {
		t.Errorf("the sidecar is %s, in the example %s", bouncer.Image, example.Services["bouncer"].Image)
	}
	for name, service := range map[string]types.ServiceConfig{"bouncer": bouncer, "wiki": wiki} {
		if len(service.Ports) != 0 {
			t.Errorf("%s publishes a port", name)
		}
		if len(service.Networks) != 1 {
			t.Errorf("%s is on %d networks", name, len(service.Networks))
		}
		if service.Build != nil {
			t.Errorf("%s is built from %v", name, service.Build)
		}
	}
	if !project.Networks["wiki"].Internal {
		t.Error("the MCP server's network leads out")
	}
	if got, want := wiki.Labels["traefik.docker.network"], project.Networks["wiki"].Name; got != want {
		t.Errorf("Traefik looks for the server on %s, and it is on %s", got, want)
	}
	// each secret goes to whom README.md says
	for name, want := range map[string][]string{
		"traefik": {"BOUNCER_HOP_KEY"}, "bouncer": {"BOUNCER_ENCRYPTION_KEY", "GOOGLE_CLIENT_SECRET"}, "wiki": nil,
	} {
		if got := slices.Sorted(maps.Keys(project.Services[name].Environment)); !slices.Equal(got, want) {
			t.Errorf("%s is given %q, want %q", name, got, want)
		}
	}
	// and every mount of a file beside it is one that README.md makes
	made := regexp.MustCompile(`^(traefik\.yaml|acme)$`)
	for _, volume := range traefik.Volumes {
		here, err := filepath.Rel(project.WorkingDir, volume.Source)
		if err != nil || !strings.HasPrefix(here, "..") && !made.MatchString(filepath.ToSlash(here)) {
			t.Errorf("README.md makes no %s (%v)", volume.Source, err)
		}
	}
}
