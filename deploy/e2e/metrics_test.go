package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/santhosh-tekuri/jsonschema/v6"

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
		text, err := os.ReadFile(answer)
		if err != nil {
			t.Fatal(err)
		}
		for name, family := range parsedMetrics(t, metrics.ContentType, string(text)) {
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

// parsedMetrics reads an answer as Prometheus does.
func parsedMetrics(t *testing.T, contentType, text string) map[string]*dto.MetricFamily {
	t.Helper()
	if format := expfmt.ResponseFormat(http.Header{"Content-Type": {contentType}}); format.FormatType() != expfmt.TypeTextPlain {
		t.Fatalf("the parser takes the Content-Type for %s", format)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	read, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return read
}

// metricsAddresses are where the replicas serve /metrics, as they say in their logs.
func metricsAddresses(t *testing.T, w *rig.World) (addresses []string) {
	t.Helper()
	for _, r := range w.Replicas {
		m := regexp.MustCompile(`"msg":"serving metrics","addr":"([^"]+)"`).FindStringSubmatch(w.Logs.Text(r.Name))
		if m == nil {
			t.Fatalf("%s serves no metrics", r.Name)
		}
		addresses = append(addresses, m[1])
	}
	return addresses
}

// The whole way, with a real plugin, a real Redis and the address that Prometheus asks.
func TestMetricsOfARealInstallation(t *testing.T) {
	t.Parallel()
	redis := rig.StartRedis(t, &rig.Logs{})
	w := rig.New(t, rig.Options{Sidecar: map[string]string{
		"BOUNCER_METRICS_ADDR": "127.0.0.1:0", "BOUNCER_REPLAY_GUARD": redis.URL, "BOUNCER_DENY": `{"v":1,"serial":7}`,
	}})
	addresses := metricsAddresses(t, w)
	// value is the sum over both replicas; 0 where there is no such sample.
	value := func(metric string, labels map[string]string) (sum float64) {
		t.Helper()
		for _, addr := range addresses {
			resp, err := http.Get("http://" + addr + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s, %v", resp.Status, err)
			}
			for _, sample := range parsedMetrics(t, resp.Header.Get("Content-Type"), string(text))[metric].GetMetric() {
				fits := 0
				for _, label := range sample.GetLabel() {
					if labels[label.GetName()] == label.GetValue() {
						fits++
					}
				}
				if fits == len(labels) {
					sum += sample.GetCounter().GetValue() + sample.GetGauge().GetValue() + float64(sample.GetHistogram().GetSampleCount())
				}
			}
		}
		return sum
	}

	c := w.Wiki.Client()
	f := c.Begin()
	code := c.Login(w.Wiki.Browser(), f)
	tokens := c.Redeem(code, f)
	c.Redeem(code, f)
	c.Get("/anything", tokens.Member("access_token"))
	c.Get("/anything", "no token of ours")
	first := tokens.Member("refresh_token")
	second := c.Refresh(first).Member("refresh_token")
	c.Refresh(first)
	revoked := url.Values{"token": {second}, "client_id": {c.ClientID}}
	c.Do(http.MethodPost, c.Meta.Issuer+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(revoked.Encode()))
	c.Refresh(second)
	redis.Kill()
	c.Refresh(c.Redeem(c.Login(w.Wiki.Browser(), f), f).Member("refresh_token"))

	wiki := map[string]string{"tenant": "wiki"}
	with := func(more ...string) map[string]string {
		labels := maps.Clone(wiki)
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		return labels
	}
	for _, want := range []struct {
		metric string
		labels map[string]string
		n      float64
	}{
		{"mcpbouncer_logins_total", with("stage", "registered"), 1}, {"mcpbouncer_logins_total", with("stage", "authorized"), 2},
		{"mcpbouncer_logins_total", with("stage", "returned"), 2}, {"mcpbouncer_guard_answers_total", map[string]string{"answer": "code_fresh"}, 1},
		{"mcpbouncer_guard_answers_total", map[string]string{"answer": "code_used"}, 1}, {"mcpbouncer_guard_answers_total", map[string]string{"answer": "fresh"}, 1},
		{"mcpbouncer_guard_answers_total", map[string]string{"answer": "repeated"}, 1}, {"mcpbouncer_logins_ended_total", with("cause", "revoked"), 1},
		{"mcpbouncer_deny_serial", nil, 2 * 7}, {"mcpbouncer_access_token_ttl_seconds", nil, 2 * 3600}, {"mcpbouncer_build_info", nil, 2},
	} {
		if got := value(want.metric, want.labels); got != want.n {
			t.Errorf("%s %v: %v, want %v", want.metric, want.labels, got, want.n)
		}
	}
	for metric, labels := range map[string]map[string]string{
		"mcpbouncer_guard_failures_total": nil, "mcpbouncer_provider_request_duration_seconds": {"step": "redeem"}, "mcpbouncer_signing_key_epoch": nil,
		"mcpbouncer_signing_key_next_seconds": nil, "mcpbouncer_refusals_total": with("endpoint", "/oauth/token", "cause", "invalid_grant"),
	} {
		if got := value(metric, labels); got < 1 {
			t.Errorf("%s %v: %v", metric, labels, got)
		}
	}
	rig.WaitFor(t, "the plugin's figures", func() error {
		presented, refused := value("mcpbouncer_logins_total", with("stage", "presented")), value("mcpbouncer_plugin_refusals_total", with("cause", "malformed"))
		if presented != 1 || refused != 1 {
			return fmt.Errorf("presented %v, refused %v", presented, refused)
		}
		return nil
	})
}

// emfSchema is what a schema can say of CloudWatch's embedded metric format, by the specification
// that docs/metrics.md names.
const emfSchema = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"required": ["_aws"],
	"properties": {
		"_aws": {
			"type": "object",
			"required": ["Timestamp", "CloudWatchMetrics"],
			"additionalProperties": false,
			"properties": {
				"Timestamp": {"type": "integer", "minimum": 1600000000000, "maximum": 9999999999999},
				"CloudWatchMetrics": {
					"type": "array",
					"minItems": 1,
					"items": {
						"type": "object",
						"required": ["Namespace", "Dimensions", "Metrics"],
						"additionalProperties": false,
						"properties": {
							"Namespace": {"type": "string", "pattern": "^[0-9A-Za-z._/#:-]{1,255}$"},
							"Dimensions": {
								"type": "array",
								"minItems": 1,
								"items": {"type": "array", "maxItems": 30, "uniqueItems": true, "items": {"type": "string", "pattern": "^[!-9;-~][ -~]{0,249}$"}}
							},
							"Metrics": {
								"type": "array",
								"minItems": 1,
								"maxItems": 100,
								"items": {
									"type": "object",
									"required": ["Name"],
									"additionalProperties": false,
									"properties": {
										"Name": {"type": "string", "minLength": 1, "maxLength": 255},
										"Unit": {"enum": ["Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits", "Kilobits",
											"Megabits", "Gigabits", "Terabits", "Percent", "Count", "Count/Second", "None"]},
										"StorageResolution": {"enum": [1, 60]}
									}
								}
							}
						}
					}
				}
			}
		}
	}
}`

// emfCount is what CloudWatch would add up: the sum of the numbers, or how many there are.
type emfCount map[string]float64

// readEMF reads a line by the rules of the specification that are words there, and adds it up by
// the name and the values of the dimensions. It refuses what CloudWatch would drop.
func (sums emfCount) readEMF(schema *jsonschema.Schema, line string) error {
	if len(line) > 256<<10 {
		return fmt.Errorf("%d bytes", len(line))
	}
	root, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		return err
	}
	if err := schema.Validate(root); err != nil {
		return err
	}
	members := root.(map[string]any)
	for _, each := range members["_aws"].(map[string]any)["CloudWatchMetrics"].([]any) {
		directive := each.(map[string]any)
		for _, set := range directive["Dimensions"].([]any) {
			var of []string
			for _, key := range set.([]any) {
				value, ok := members[key.(string)].(string) // a target is a member of the root
				odd := func(c rune) bool { return c < ' ' || c > '~' }
				if !ok || strings.TrimSpace(value) == "" || len(value) > 1024 || strings.ContainsFunc(value, odd) {
					return fmt.Errorf("dimension %s is %q", key, members[key.(string)])
				}
				of = append(of, value)
			}
			for _, each := range directive["Metrics"].([]any) {
				name := each.(map[string]any)["Name"].(string)
				numbers, isList := members[name].([]any)
				if !isList {
					numbers = []any{members[name]}
				}
				if len(numbers) == 0 || len(numbers) > 100 {
					return fmt.Errorf("%s has %d numbers", name, len(numbers))
				}
				for _, number := range numbers {
					n, ok := number.(json.Number)
					value, err := n.Float64()
					if !ok || err != nil || value < 0 {
						return fmt.Errorf("%s is %v", name, number)
					}
					if isList {
						value = 1
					}
					sums[strings.Join(append(of, name), " ")] += value
				}
			}
		}
	}
	return nil
}

func newEMFSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(emfSchema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("emf.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("emf.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// What TestEMFOnLambda reads with sees the faults for which CloudWatch would drop a metric.
func TestEMFReaderSeesFaults(t *testing.T) {
	t.Parallel()
	schema := newEMFSchema(t)
	m := metrics.NewForLines("sidecar")
	m.Stage("wiki", "claude", metrics.Token)
	m.Provider("op.example", "redeem", time.Second, "")
	var b strings.Builder
	if err := m.WriteLines(&b, time.Now()); err != nil {
		t.Fatal(err)
	}
	good := regexp.MustCompile(`"Timestamp":\d+`).ReplaceAllString(b.String(), `"Timestamp":1796040000000`)
	for _, c := range []struct{ name, from, to string }{
		{"nothing is wrong", "", ""},
		{"a unit", `"Unit":"Count"`, `"Unit":"Counts"`},
		{"no time", `"Timestamp"`, `"Time"`},
		{"seconds instead of milliseconds", `1796040000000`, `1796040000`},
		{"a number that is missing", `"logins_token":1`, `"logins":1`},
		{"a number that is a text", `"logins_token":1`, `"logins_token":"1"`},
		{"no number in a list", `[1]`, `[]`},
		{"too many numbers", `[1]`, `[` + strings.Repeat("1,", 100) + `1]`},
		{"a dimension that is missing", `"tenant":"wiki"`, `"resource":"wiki"`},
		{"a dimension that is empty", `"tenant":"wiki"`, `"tenant":" "`},
		{"a dimension that is not ASCII", `"tenant":"wiki"`, `"tenant":"wäki"`},
		{"too many metrics", `{"Name":"logins_token","Unit":"Count"}`, strings.Repeat(`{"Name":"logins_token"},`, 100) + `{"Name":"logins_token"}`},
		{"no namespace", `"Namespace":"mcpbouncer"`, `"Namespace":""`},
		{"two lines in one", "\n", "{}\n"},
		{"a line that is too long", `"tenant":"wiki"`, `"tenant":"wiki","more":"` + strings.Repeat("x", 256<<10) + `"`},
	} {
		line := strings.Replace(good, c.from, c.to, 1)
		if err := (emfCount{}).readEMF(schema, line); (err == nil) != (line == good) || (line == good) != (c.from == "") {
			t.Errorf("%s: %v: %.600s", c.name, err, line)
		}
	}
}

// A function writes what it counted before it is frozen, as lines that CloudWatch takes for
// metrics. All environments together have counted each step of a login once, and the log around
// the lines is as it was.
func TestEMFOnLambda(t *testing.T) {
	t.Parallel()
	schema := newEMFSchema(t)
	w := rig.New(t, rig.Options{Lambda: true, Alone: true, Sidecar: map[string]string{"BOUNCER_METRICS_EMF": "true"}})
	for _, tn := range w.Tenants() {
		c := tn.Client()
		loginAndRefresh(t, c, tn.Browser())
		if answer := c.Refresh("nothing"); answer.Status != http.StatusBadRequest {
			t.Errorf("a refresh token of nobody: %s", answer)
		}
	}
	text := w.Logs.Text("lambda")
	sums, lines, environments := emfCount{}, 0, len(w.Lambda.Environments())
	for line := range strings.Lines(text) {
		var members map[string]any
		if err := json.Unmarshal([]byte(line), &members); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case members["_aws"] != nil:
			lines++
			if err := sums.readEMF(schema, line); err != nil {
				t.Errorf("%v: %s", err, line)
			}
		case members["time"] == nil || members["level"] == nil || members["msg"] == nil:
			t.Errorf("neither metrics nor a line of the log: %s", line)
		}
	}
	if n := w.Lambda.Requests(); lines == 0 || lines > n {
		t.Errorf("%d lines of %d requests", lines, n)
	}
	for _, tn := range w.Tenants() {
		for _, name := range []string{"logins_registered", "logins_authorized", "logins_consented", "logins_returned", "logins_token", "logins_refreshed", "refusals"} {
			if got := sums["mcpbouncer "+tn.Name+" "+name]; got != 1 {
				t.Errorf("%s of %s: %v, want 1", name, tn.Name, got)
			}
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(maps.Keys(sums)))
	}
	t.Logf("%d lines of %d requests in %d environments, %d metrics", lines, w.Lambda.Requests(), environments, len(sums))
}
