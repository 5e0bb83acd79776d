package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// Prometheus' own parser reads what /metrics answered while the issuer's test made each metric
// happen with each value of its labels: nothing else, each with its type and help, and none of the
// values is missing.
func TestMetricsAreReadByPrometheusParser(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	made := exec.Command("go", "test", "-count=1", "-run", "^TestMetricsAllHappen$", "./issuer", "-args", "-expositions", folder)
	made.Dir = rig.Root()
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	answers, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(answers) == 0 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	seen := map[string]bool{} // "metric", and "metric label=value"
	for _, answer := range answers {
		for name, family := range parsedMetrics(t, answer) {
			i := slices.IndexFunc(metrics.Declarations, func(d metrics.Declaration) bool { return d.Name == name })
			if i < 0 {
				t.Errorf("%s is not declared", name)
				continue
			}
			seen[name] = true
			d := metrics.Declarations[i]
			if kind := strings.ToLower(family.GetType().String()); kind != d.Type || family.GetHelp() != d.Meaning {
				t.Errorf("%s: read as %s, %q", name, kind, family.GetHelp())
			}
			for _, sample := range family.GetMetric() {
				for i, label := range sample.GetLabel() {
					if len(sample.GetLabel()) != len(d.Labels) || label.GetName() != d.Labels[i].Name {
						t.Fatalf("%s: read with %v, declared with %v", name, sample.GetLabel(), d.Labels)
					}
					seen[name+" "+label.GetName()+"="+label.GetValue()] = true
				}
			}
		}
	}
	for _, d := range metrics.Declarations {
		if !seen[d.Name] {
			t.Errorf("%s was not read", d.Name)
		}
		for _, label := range d.Labels {
			for _, value := range label.Values {
				if !seen[d.Name+" "+label.Name+"="+value] {
					t.Errorf("%s was not read with %s=%q", d.Name, label.Name, value)
				}
			}
		}
	}
	t.Logf("%d answers, %d metrics and values of their labels", len(answers), len(seen))
}

// parsedMetrics reads a file as Prometheus reads an answer of the format that ContentType names.
func parsedMetrics(t *testing.T, name string) map[string]*dto.MetricFamily {
	t.Helper()
	format := expfmt.ResponseFormat(map[string][]string{"Content-Type": {metrics.ContentType}})
	if format.FormatType() != expfmt.TypeTextPlain {
		t.Fatalf("the parser takes the Content-Type for %s", format)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	read, err := parser.TextToMetricFamilies(file)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return read
}
