package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

const metricsDoc = "../../docs/metrics.md"

// The table of docs/metrics.md is generated from what the package declares:
//
//	go test ./cmd/mcpbouncer -run TestMetricsDocIsCurrent -update
func TestMetricsDocIsCurrent(t *testing.T) {
	const begin, end = "<!-- begin of what TestMetricsDocIsCurrent writes -->\n", "<!-- end of what TestMetricsDocIsCurrent writes -->"
	var b strings.Builder
	b.WriteString("| metric | type | labels | says |\n|---|---|---|---|\n")
	for _, d := range metrics.Declarations {
		labels := "none"
		var names []string
		for _, l := range d.Labels {
			names = append(names, "`"+l.Name+"`")
		}
		if names != nil {
			labels = strings.Join(names, ", ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, labels, d.Meaning)
	}
	b.WriteString("\n| label | is one of |\n|---|---|\n")
	said := map[string]bool{}
	for _, d := range metrics.Declarations {
		for _, l := range d.Labels {
			row := "| `" + l.Name + "`"
			if l.Name == "cause" {
				row += " of `" + d.Name + "`"
			}
			if row += " | `" + strings.Join(l.Values, "`, `") + "` |\n"; l.Values != nil && !said[row] {
				said[row] = true
				b.WriteString(row)
			}
		}
	}
	page, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(page), begin)
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s has no place for the table", metricsDoc)
	}
	want := before + begin + b.String() + end + after
	if *update {
		if err := os.WriteFile(metricsDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(page) != want {
		t.Error("docs/metrics.md is stale: go test ./cmd/mcpbouncer -run TestMetricsDocIsCurrent -update")
	}
}

func TestMetricsAddressThatIsTakenEndsTheStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = serveMetrics(taken.Addr().String(), metrics.New(), (&environment{}).logger(t.Output()))
	if err == nil || !strings.Contains(err.Error(), "BOUNCER_METRICS_ADDR=") || !strings.Contains(err.Error(), "give a free address") {
		t.Errorf("got %v", err)
	}
}

// On Lambda the line is written before the answer goes out, by whatever the request ends, beside
// the lines of the log. Without the variable, and for a request that counts nothing, there is none.
func TestEMFLineIsWrittenBeforeAFunctionIsFrozen(t *testing.T) {
	provider := issuertest.NewProvider(t, nil)
	for _, set := range []string{"", "false", "true"} {
		t.Run("BOUNCER_METRICS_EMF="+set, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_METRICS_EMF": set, runtimeAPI: "127.0.0.1:9001", "AWS_LAMBDA_FUNCTION_NAME": "sidecar"})
			var out bytes.Buffer
			handler, err := functionHandler((&environment{}).logger(&out), &out)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"/healthz", "/oauth/nothing", "/healthz"} {
				r := httptest.NewRequest("GET", path, nil)
				r.Header.Set("X-Mcpb-Hop", hopOfWiki(t, provider.Issuer))
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
			var lines []string
			for line := range strings.Lines(out.String()) {
				var members map[string]any
				if err := json.Unmarshal([]byte(line), &members); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				if members["_aws"] != nil {
					lines = append(lines, line)
				} else if members["msg"] == nil {
					t.Errorf("neither a line of the log nor one of metrics: %s", line)
				}
			}
			switch {
			case set != "true" && lines != nil:
				t.Errorf("%q", lines)
			case set == "true" && (len(lines) != 1 || !strings.Contains(lines[0], `"function":"sidecar","refusals":1,"tenant":"wiki"`)):
				t.Errorf("%d lines: %q", len(lines), lines)
			}
		})
	}
}

// A variable that has no effect where it is set says so.
func TestMetricsVariableOfTheOtherKindIsNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		set  map[string]string
		want string
	}{
		{"an address on Lambda", map[string]string{runtimeAPI: "127.0.0.1:9001", "BOUNCER_METRICS_ADDR": ":9090"}, "nothing is counted: BOUNCER_METRICS_EMF is for AWS Lambda"},
		{"both on Lambda", map[string]string{runtimeAPI: "127.0.0.1:9001", "BOUNCER_METRICS_ADDR": ":9090", "BOUNCER_METRICS_EMF": "true"}, ""},
		{"lines in a container", map[string]string{"BOUNCER_METRICS_EMF": "true"}, "and BOUNCER_METRICS_ADDR for everywhere else"},
		{"an address in a container", map[string]string{"BOUNCER_METRICS_ADDR": ":9090"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set["BOUNCER_ENCRYPTION_KEY"] = keyOne
			clean(t, c.set)
			e, err := loadEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			if config := e.issuerConfig(e.logger(&log)); (config.Metrics != nil) != (c.want == "") {
				t.Errorf("counts: %v", config.Metrics != nil)
			}
			if got := log.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("log %q", got)
			}
		})
	}
}
