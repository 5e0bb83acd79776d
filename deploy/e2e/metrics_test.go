package e2e

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// Prometheus' own parser reads each metric back, with its type, its help and the labels that are
// declared.
func TestMetricsAreReadByPrometheusParser(t *testing.T) {
	m := metrics.New()
	m.Show(metrics.Standing{
		Version: "1.2.3", AccessTokenTTL: time.Hour,
		Key:  func() (uint32, time.Duration) { return 700, time.Hour },
		Deny: func() (uint64, time.Duration, bool) { return 3, time.Second, true },
	})
	m.Stage("wiki", "claude", metrics.Token)
	m.Refused("wiki", "/oauth/token", "denied")
	m.LoginEnded("wiki", "reused")
	m.Provider("op.example", "redeem", 300*time.Millisecond, "refused")
	m.Guard("fresh")
	m.GuardFailed()
	m.DenyFailed()
	m.HopRefused("key")
	m.Document("read")
	m.PluginRefused("wiki", "expired", 2)
	m.SidecarFailed("wiki", "timeout", 1)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if format := expfmt.ResponseFormat(w.Header()); format.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("the parser takes the Content-Type for %s", format)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	read, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range metrics.Declarations {
		got, ok := read[d.Name]
		if !ok {
			t.Errorf("%s was not read", d.Name)
			continue
		}
		delete(read, d.Name)
		kind := map[string]string{"COUNTER": "counter", "GAUGE": "gauge", "HISTOGRAM": "histogram"}[got.GetType().String()]
		if kind != d.Type || got.GetHelp() != d.Meaning {
			t.Errorf("%s: read as %s, %q", d.Name, kind, got.GetHelp())
		}
		labels := got.GetMetric()[0].GetLabel()
		if len(labels) != len(d.Labels) {
			t.Errorf("%s: read with %v, declared with %v", d.Name, labels, d.Labels)
		}
	}
	for name := range read {
		t.Errorf("%s is not declared", name)
	}
}
