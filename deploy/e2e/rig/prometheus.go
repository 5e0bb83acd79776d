package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Prometheus is the real server with the files of deploy/observe. It asks once in a second.
type Prometheus struct{ URL string }

// StartPrometheus starts it. sidecars and traefik are addresses that serve metrics; they replace
// what deploy/observe/prometheus.yml has for containers, where Traefik's job is in comments.
func StartPrometheus(t T, logs *Logs, sidecars []string, traefik string) *Prometheus {
	t.Helper()
	observe := filepath.Join(Root(), "deploy", "observe")
	text, err := os.ReadFile(filepath.Join(observe, "prometheus.yml"))
	var config map[string]any
	if err == nil {
		err = yaml.Unmarshal([]byte(strings.NewReplacer("\n  #-", "\n  -", "\n  #  ", "\n    ").Replace(string(text))), &config)
	}
	if err != nil {
		t.Fatalf("rig: prometheus.yml: %v", err)
	}
	config["global"] = map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"}
	for i, file := range config["rule_files"].([]any) {
		config["rule_files"].([]any)[i] = filepath.Join(observe, file.(string))
	}
	targets := map[string][]string{"mcpbouncer": sidecars, "traefik": {traefik}}
	for _, job := range config["scrape_configs"].([]any) {
		job := job.(map[string]any)
		name, _ := job["job_name"].(string)
		if targets[name] == nil {
			t.Fatalf("rig: prometheus.yml has the job %q", name)
		}
		delete(job, "dns_sd_configs")
		job["static_configs"] = []any{map[string]any{"targets": targets[name]}}
		delete(targets, name)
	}
	if len(targets) > 0 {
		t.Fatalf("rig: prometheus.yml lacks a job: %v", targets)
	}
	p := &Prometheus{URL: fmt.Sprintf("http://127.0.0.1:%d", FreePort(t))}
	proc := StartProcess(t, logs, "prometheus", exec.Command(Tool(t, "prometheus"), "--config.file="+writeJSON(t, "prometheus.yml", config),
		"--storage.tsdb.path="+filepath.Join(t.TempDir(), "data"), "--web.listen-address="+strings.TrimPrefix(p.URL, "http://")))
	proc.waitFor(t, logs, func() error { return expectStatus(p.URL+"/-/ready", http.StatusOK) })
	return p
}

// Ask asks the HTTP API, and reads data of the answer.
func (p *Prometheus) Ask(path string, params url.Values, data any) error {
	resp, err := http.Get(p.URL + "/api/v1/" + path + "?" + params.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Warnings      []string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" || len(answer.Warnings) > 0 {
		return fmt.Errorf("prometheus: %s: %s: %.500s", path, resp.Status, body)
	}
	return nil
}

// Series is one of a query's answer: its labels, and pairs of Unix time and value.
type Series struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

// Query evaluates an expression now; with the parameters start, end and step over a time.
func (p *Prometheus) Query(expr string, over url.Values) ([]Series, error) {
	path, params := "query", url.Values{"query": {expr}}
	if over != nil {
		path = "query_range"
	}
	for name, values := range over {
		params[name] = values
	}
	var data struct{ Result []Series }
	err := p.Ask(path, params, &data)
	return data.Result, err
}

// Panel is one of deploy/observe/grafana/mcpbouncer.json.
type Panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               struct{ UID string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Datasource         struct{ UID string }
		Expr, LegendFormat string
		Instant, Range     bool
	}
}

// Dashboard reads the panels.
func Dashboard(t T) []Panel {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), "deploy", "observe", "grafana", "mcpbouncer.json"))
	var dashboard struct{ Panels []Panel }
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	if err != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("rig: dashboard: %v", err)
	}
	return dashboard.Panels
}

// Filled puts values in place of the dashboard's variables, as Grafana does. chosen is what it puts
// where several tenants or clients are chosen.
func Filled(expr, rateInterval, span, chosen string) string {
	return strings.NewReplacer("$__rate_interval", rateInterval, "$__range", span, "$tenant", chosen, "$client", chosen).Replace(expr)
}
