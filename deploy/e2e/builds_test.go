package e2e

import (
	"debug/buildinfo"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The programs of others are built without what is large and what no test drives (tools.sh), and
// they share what they have in common: each further version of a large module is loaded and
// compiled once more. Traefik keeps the versions of its release.
func TestToolsAreBuiltWithoutWhatNothingDrives(t *testing.T) {
	t.Parallel()
	versions := map[string]map[string]bool{} // by module, without Traefik's
	archives := map[string]bool{}
	tools := []string{"traefik", "dex", "yaegi", "prometheus", "promtool", "exampleop", "everything-server", "gosdk", "mcpgo", "gosdk-example"}
	most := 300
	if bigToo {
		tools, most = append(tools, "hydra"), 420
	}
	for _, tool := range tools {
		info, err := buildinfo.ReadFile(rig.Tool(t, tool))
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			if m.Version == "" { // one of our folders
				continue
			}
			archives[m.Path+"@"+m.Version] = true
			for _, left := range []string{
				"google.golang.org/api", "cloud.google.com/go/auth", "github.com/Azure/azure-sdk-for-go", "github.com/aws/aws-sdk-go-v2/service/ec2",
				"go.etcd.io/etcd/client/v3", "ariga.io/atlas", "k8s.io/api", "sigs.k8s.io/gateway-api", "knative.dev/pkg", "github.com/hashicorp/nomad/api",
				"github.com/influxdata/influxdb-client-go/v2", "github.com/google/go-github", "github.com/tetratelabs/wazero", "github.com/pb33f/libopenapi",
				"go.opentelemetry.io/collector/pdata", "github.com/prometheus/alertmanager",
			} {
				if strings.HasPrefix(m.Path+"/", left+"/") && (tool != "traefik" || left != "k8s.io/api") {
					t.Errorf("%s links %s again", tool, m.Path)
				}
			}
			if tool == "traefik" && m.Path != "github.com/klauspost/compress" {
				continue
			}
			if versions[m.Path] == nil {
				versions[m.Path] = map[string]bool{}
			}
			versions[m.Path][m.Version] = true
		}
	}
	for _, large := range []string{
		"github.com/klauspost/compress", "golang.org/x/text", "golang.org/x/crypto", "golang.org/x/net", "golang.org/x/sys", "google.golang.org/grpc",
		"google.golang.org/protobuf", "go.opentelemetry.io/otel", "github.com/prometheus/client_golang", "github.com/prometheus/procfs",
	} {
		// two, so that a newer one in the go.mod of the tests does not ask for all the others
		if n := len(versions[large]); n == 0 || n > 2 {
			t.Errorf("%s is built in the versions %v: raise it in the go.mod of each tool", large, versions[large])
		}
	}
	if n := len(archives); n < 200 || n > most {
		t.Errorf("%d module archives are linked into the tools, want at most %d: CONTRIBUTING.md says what the first run costs", n, most)
	}
}
