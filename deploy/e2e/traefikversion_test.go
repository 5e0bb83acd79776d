package e2e

import (
	"debug/buildinfo"
	"os"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// Otherwise the loop over versions in the Makefile could run one of them twice.
func TestTraefikIsOfTheVersionThatIsAskedFor(t *testing.T) {
	versions := rig.TraefikVersions(t)
	want := os.Getenv("TRAEFIK_VERSION")
	if want == "" {
		want = versions[len(versions)-1]
	}
	built, err := buildinfo.ReadFile(rig.TraefikTool(t))
	if err != nil {
		t.Fatal(err)
	}
	if built.Main.Path == "github.com/traefik/traefik/v3" && built.Main.Version == want {
		return
	}
	for _, m := range built.Deps {
		if m.Path == "github.com/traefik/traefik/v3" && m.Version == want {
			return
		}
	}
	t.Errorf("%s is not among the modules of the program", want)
}
