package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

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
