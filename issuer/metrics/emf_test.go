package metrics_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func linesOf(t testing.TB, m *metrics.Metrics) []string {
	t.Helper()
	return linesAt(t, m, noon)
}

func linesAt(t testing.TB, m *metrics.Metrics, now time.Time) (lines []string) {
	t.Helper()
	var b strings.Builder
	if err := m.WriteLines(&b, now); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// What an invocation does is one line, and the next line has only what came later.
func TestEMFLineHasWhatCameSinceTheLast(t *testing.T) {
	m := metrics.NewForLines("sidecar")
	m.Stage("wiki", "claude", metrics.Token)
	m.Stage("wiki", "other", metrics.Token)
	m.Provider("op.example", "redeem", 250*time.Millisecond, "")
	m.Provider("op.example", "redeem", 500*time.Millisecond, "busy")
	m.Provider("op.example", "keys", -1, "paused")
	m.Guard("code_fresh")
	m.Refused("wiki", "/oauth/token", "denied")
	const first = `{"_aws":{"CloudWatchMetrics":[` +
		`{"Dimensions":[["function"]],"Metrics":[{"Name":"guard_answers_code_fresh","Unit":"Count"}],"Namespace":"mcpbouncer"},` +
		`{"Dimensions":[["function","tenant"]],"Metrics":[{"Name":"logins_token","Unit":"Count"},{"Name":"refusals","Unit":"Count"}],"Namespace":"mcpbouncer"},` +
		`{"Dimensions":[["function","provider"]],"Metrics":[{"Name":"provider_request_duration_seconds_redeem","Unit":"Seconds"},{"Name":"provider_errors","Unit":"Count"}],"Namespace":"mcpbouncer"}],` +
		`"Timestamp":1796040000000},` +
		`"details":[{"client":"claude","count":1,"metric":"logins_token"},{"client":"other","count":1,"metric":"logins_token"},` +
		`{"cause":"busy","count":1,"metric":"provider_errors","step":"redeem"},{"cause":"paused","count":1,"metric":"provider_errors","step":"keys"},` +
		`{"cause":"denied","count":1,"endpoint":"/oauth/token","metric":"refusals"}],` +
		`"function":"sidecar","guard_answers_code_fresh":1,"logins_token":2,"provider":"op.example","provider_errors":2,` +
		`"provider_request_duration_seconds_redeem":[0.25,0.5],"refusals":1,"tenant":"wiki"}`
	if got := linesOf(t, m); len(got) != 1 || got[0] != first {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), first)
	}
	if got := linesOf(t, m); got != nil {
		t.Errorf("nothing has happened since: %q", got)
	}
	m.GuardFailed()
	const second = `{"_aws":{"CloudWatchMetrics":[{"Dimensions":[["function"]],"Metrics":[{"Name":"guard_failures","Unit":"Count"}],"Namespace":"mcpbouncer"}],"Timestamp":1796040000000},"function":"sidecar","guard_failures":1}`
	if got := linesOf(t, m); len(got) != 1 || got[0] != second {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), second)
	}
}

// emfLine is a line as far as numbers go.
type emfLine struct {
	AWS struct {
		CloudWatchMetrics []struct {
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	} `json:"_aws"`
	root map[string]any
}

func parsed(t testing.TB, line string) (l emfLine) {
	t.Helper()
	if err := errors.Join(json.Unmarshal([]byte(line), &l), json.Unmarshal([]byte(line), &l.root)); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return l
}

// A line has one tenant and one provider, and a hundred numbers for a metric. What is more gets
// lines of its own, and nothing is lost.
func TestEMFLinesLoseNothing(t *testing.T) {
	m := metrics.NewForLines("sidecar")
	for i := range 3 {
		m.Stage(fmt.Sprint("tenant ", i), "claude", metrics.Token)
	}
	for i := range 250 {
		m.Provider(fmt.Sprintf("op%d.example", i%2), "redeem", time.Second, "")
	}
	lines := linesOf(t, m)
	sums := map[string]float64{}
	for _, text := range lines {
		l := parsed(t, text)
		for _, d := range l.AWS.CloudWatchMetrics {
			for _, metric := range d.Metrics {
				of := fmt.Sprint(l.root[d.Dimensions[0][1]], " ", metric.Name)
				switch v := l.root[metric.Name].(type) {
				case float64:
					sums[of] += v
				case []any:
					if len(v) > 100 {
						t.Errorf("%d numbers", len(v))
					}
					sums[of] += float64(len(v))
				}
			}
		}
	}
	want := map[string]float64{"tenant 0 logins_token": 1, "tenant 1 logins_token": 1, "tenant 2 logins_token": 1,
		"op0.example provider_request_duration_seconds_redeem": 125, "op1.example provider_request_duration_seconds_redeem": 125}
	if !maps.Equal(sums, want) || len(lines) != 4 {
		t.Errorf("%d lines: %v, want 4: %v", len(lines), sums, want)
	}
}

// Whatever has happened, the line is one that CloudWatch takes, and the number of metrics is the
// one of docs/metrics.md: it is what they cost.
func TestEMFLineIsBounded(t *testing.T) {
	m := metrics.NewForLines("sidecar")
	long := strings.Repeat("ä", 100)
	for _, client := range metrics.Values("mcpbouncer_logins_total", "client") {
		for _, stage := range metrics.Values("mcpbouncer_logins_total", "stage") {
			m.Stage(long, client, stage)
		}
	}
	each := func(metric, label string, f func(value string)) {
		for _, value := range metrics.Values(metric, label) {
			f(value)
		}
	}
	each("mcpbouncer_refusals_total", "endpoint", func(endpoint string) {
		each("mcpbouncer_refusals_total", "cause", func(cause string) { m.Refused(long, endpoint, cause) })
	})
	each("mcpbouncer_logins_ended_total", "cause", func(cause string) { m.LoginEnded(long, cause) })
	each("mcpbouncer_provider_errors_total", "step", func(step string) {
		each("mcpbouncer_provider_errors_total", "cause", func(cause string) { m.Provider(long, step, time.Second, cause) })
	})
	each("mcpbouncer_guard_answers_total", "answer", m.Guard)
	m.GuardFailed()
	m.DenyFailed()
	each("mcpbouncer_hop_refusals_total", "cause", m.HopRefused)
	each("mcpbouncer_client_documents_total", "result", m.Document)
	each("mcpbouncer_plugin_refusals_total", "cause", func(cause string) { m.PluginRefused(long, cause, 1<<40) })
	each("mcpbouncer_plugin_sidecar_failures_total", "cause", func(cause string) { m.SidecarFailed(long, cause, 1<<40) })
	lines := linesOf(t, m)
	if len(lines) != 1 || len(lines[0]) > 256<<10 {
		t.Fatalf("%d lines, the first of %d bytes", len(lines), len(lines[0]))
	}
	l := parsed(t, lines[0])
	series := map[string]int{}
	for _, d := range l.AWS.CloudWatchMetrics {
		series[strings.Join(d.Dimensions[0], " ")] = len(d.Metrics)
	}
	if want := map[string]int{"function": 14, "function tenant": 13, "function provider": 8}; !maps.Equal(series, want) {
		t.Errorf("%v, want %v", series, want)
	}
	// Every counter and histogram is among them, and no gauge.
	for _, d := range metrics.Declarations {
		name := strings.TrimSuffix(strings.TrimPrefix(d.Name, "mcpbouncer_"), "_total")
		among := slices.ContainsFunc(slices.Collect(maps.Keys(l.root)), func(n string) bool { return strings.HasPrefix(n, name) })
		if among == (d.Type == "gauge") {
			t.Errorf("%s %s: in the line %v", d.Type, d.Name, among)
		}
	}
}

// Whoever finds the function's URL can cause refusals of hop headers, a line in a minute and no
// more. None of them is lost.
func TestEMFLinesAreNotStrangersToMake(t *testing.T) {
	m := metrics.NewForLines("sidecar")
	var lines []string
	for i := range 600 { // in ten minutes
		m.HopRefused("missing")
		lines = append(lines, linesAt(t, m, noon.Add(time.Duration(i)*time.Second))...)
	}
	m.HopRefused("forged")
	m.GuardFailed() // is worth a line at once
	lines = append(lines, linesAt(t, m, noon.Add(10*time.Minute))...)
	if len(lines) != 11 {
		t.Errorf("%d lines, want 11", len(lines))
	}
	sum := 0.0
	for _, line := range lines {
		sum += parsed(t, line).root["hop_refusals"].(float64)
	}
	if sum != 601 {
		t.Errorf("%v refusals, want 601", sum)
	}
}

// CloudWatch drops a metric whose dimension is not ASCII, or is empty.
func TestEMFDimensionsAreText(t *testing.T) {
	m := metrics.NewForLines("")
	for _, odd := range []string{"", " ", "Käse 中", "\xff", "a\"} 1\nb", "\u2028", "\x00", "_"} {
		m.Stage(odd, odd, odd)
		m.Provider(odd, odd, time.Second, odd)
	}
	for _, line := range linesOf(t, m) {
		l := parsed(t, line)
		for _, name := range []string{"function", "tenant", "provider"} {
			value, ok := l.root[name].(string)
			odd := func(c rune) bool { return c < ' ' || c > '~' }
			if ok && (strings.TrimSpace(value) == "" || strings.ContainsFunc(value, odd)) {
				t.Errorf("%s %q", name, value)
			}
		}
	}
}

// A sidecar that serves /metrics writes no lines, and one that counts nothing neither.
func TestEMFLinesAreOnlyForFunctions(t *testing.T) {
	served := metrics.New()
	served.GuardFailed()
	for _, m := range []*metrics.Metrics{nil, served} {
		if got := linesOf(t, m); got != nil {
			t.Errorf("%q", got)
		}
	}
	metrics.NewForLines("sidecar").Show(metrics.Standing{}) // has nobody to show it to
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestEMFLineThatCannotBeWrittenIsAnError(t *testing.T) {
	m := metrics.NewForLines("sidecar")
	m.GuardFailed()
	if err := m.WriteLines(brokenPipe{}, noon); err == nil {
		t.Error("no error")
	}
}
