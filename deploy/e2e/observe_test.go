package e2e

import (
	"errors"
	"fmt"
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
	"unicode"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// rule is an alert of deploy/observe/rules.yml.
type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func observeFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "observe", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func alerts(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(observeFile(t, "rules.yml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

// pageOf is the file of an alert's page: ProviderSlow has provider-slow.md.
func pageOf(alert string) string {
	var b strings.Builder
	for i, c := range alert {
		if unicode.IsUpper(c) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String() + ".md"
}

func pagesOfAlerts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(rig.Root(), "docs", "runbooks", "alerts", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.Base(file)] = string(text)
	}
	return pages
}

// Whoever is called at night finds the page by the alert's name, and in the list.
func TestAlertsHaveTheirPages(t *testing.T) {
	t.Parallel()
	pages := pagesOfAlerts(t)
	index, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "runbooks", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts(t) {
		name := pageOf(a.Alert)
		page, ok := pages[name]
		if !ok || !strings.HasPrefix(page, "# "+a.Alert+"\n") || !strings.Contains(page, "\n## Look here\n") || !strings.Contains(page, "\n## Do this\n") {
			t.Errorf("%s: docs/runbooks/alerts/%s is not its page", a.Alert, name)
		}
		delete(pages, name)
		if !strings.Contains(string(index), "["+a.Alert+"](alerts/"+name+")") {
			t.Errorf("%s: not in the list of docs/runbooks/README.md", a.Alert)
		}
		if got := a.Annotations["runbook_url"]; got != "https://github.com/mcpbouncer/mcpbouncer/blob/main/docs/runbooks/alerts/"+name {
			t.Errorf("%s: runbook_url %s", a.Alert, got)
		}
		if severity := a.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity %q", a.Alert, severity)
		}
		if _, remedy, _ := strings.Cut(a.Annotations["summary"], ": "); len(remedy) < 20 {
			t.Errorf("%s: the summary names no remedy: %s", a.Alert, a.Annotations["summary"])
		}
	}
	for name := range pages {
		t.Errorf("docs/runbooks/alerts/%s belongs to no alert", name)
	}
}

var (
	grepped   = regexp.MustCompile(`(?m)\| grep .*?'(.*)'$`)
	words     = regexp.MustCompile(`[A-Za-z' ]{8,}`)
	namedLine = regexp.MustCompile("`([a-z ]{10,})`")
)

// A page that greps for a line which nobody writes would show nothing on the day it is needed.
func TestLinesThatAlertsNameAreWritten(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, dir := range []string{"issuer", "plugin", "cmd"} {
		if err := filepath.WalkDir(filepath.Join(rig.Root(), dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			sources.Write(text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(where, line string) {
		if line != "DownstreamStatus" && !strings.Contains(sources.String(), line) { // Traefik's
			t.Errorf("%s: nothing writes %q", where, line)
		}
	}
	checked := 0
	for name, page := range pagesOfAlerts(t) {
		for _, m := range grepped.FindAllStringSubmatch(page, -1) {
			for _, line := range words.FindAllString(m[1], -1) {
				checked++
				want(name, line)
			}
		}
	}
	for _, a := range alerts(t) {
		for _, m := range namedLine.FindAllStringSubmatch(a.Annotations["summary"], -1) {
			checked++
			want(a.Alert, m[1])
		}
	}
	if checked < 20 {
		t.Errorf("only %d lines were found", checked)
	}
}

// promtool is Prometheus' own judge of its files.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(rig.Tool(t, "promtool"), args...)
	cmd.Dir = filepath.Join(rig.Root(), "deploy", "observe")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

func TestPromtoolTakesRulesAndConfiguration(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "rules.yml")
}

// Each alert fires in rules_test.yml, in which a day on which nothing is wrong fires none.
func TestAlertsFireOnWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "rules_test.yml")
	cases := observeFile(t, "rules_test.yml")
	for _, a := range alerts(t) {
		if !strings.Contains(cases, `'ALERTS{alertname="`+a.Alert+`"`) {
			t.Errorf("%s fires in no case", a.Alert)
		}
	}
}

// Grafana's own types read the dashboard strictly: every member is known, of the right type, and
// none that is required is missing. They do not know the values of enumerations.
func TestDashboardIsOfGrafanasSchema(t *testing.T) {
	t.Parallel()
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterPanelcfgVariant(bargauge.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	text := observeFile(t, "grafana/mcpbouncer.json")
	read := func(text string) string {
		//lint:ignore SA1019 the file has this form, which older Grafanas read too
		var d dashboard.Dashboard
		var problems []string
		// An error without a text is none: the package returns a list that is empty.
		for _, err := range []error{d.UnmarshalJSONStrict([]byte(text)), d.Validate()} {
			if err != nil && err.Error() != "" {
				problems = append(problems, err.Error())
			}
		}
		return strings.Join(problems, "\n")
	}
	if problems := read(text); problems != "" {
		t.Error(problems)
	}
	for _, member := range []string{"legendFormat", "fillOpacity", "graphMode", "includeAll"} {
		if read(strings.ReplaceAll(text, `"`+member+`"`, `"no`+member+`"`)) == "" {
			t.Errorf("a dashboard whose %s is misspelt is taken", member)
		}
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range rig.Dashboard(t) {
		if ids[p.ID] {
			t.Errorf("%s: its id %d is another panel's", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if !slices.Contains([]string{"timeseries", "bargauge", "stat"}, p.Type) || len(p.Targets) == 0 {
			t.Errorf("%s: a panel of type %q with %d queries", p.Title, p.Type, len(p.Targets))
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.Instant == target.Range {
				t.Errorf("%s: a query of %+v", p.Title, target)
			}
			if rest := rig.Filled(target.Expr, "", "", ""); strings.Contains(rest, "$") {
				t.Errorf("%s: a variable that the dashboard does not have: %s", p.Title, rest)
			}
		}
	}
}

// The picture in deploy/observe/README.md is drawn by `make picture`. After a change of the
// dashboard it has to be drawn again.
func TestPictureShowsThePanelsOfTheDashboard(t *testing.T) {
	t.Parallel()
	picture, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "images", "dashboard.svg"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`<text class="[rt]"[^>]*>([^<]*)</text>`).FindAllStringSubmatch(string(picture), -1) {
		shown[m[1]] = true
	}
	for _, p := range rig.Dashboard(t) {
		if !shown[p.Title] {
			t.Errorf("the picture does not show %q: make picture", p.Title)
		}
		delete(shown, p.Title)
	}
	for title := range shown {
		t.Errorf("the picture shows %q, which the dashboard has not: make picture", title)
	}
}

// The profile of compose.yaml starts nothing unless it is asked for, publishes nothing to others,
// and gives Grafana and Prometheus the files where they look for them.
func TestObserveProfileOfTheComposeFile(t *testing.T) {
	t.Parallel()
	// The first command of README.md writes what the second needs.
	commands := strings.Split(blocksOf(t, observeFile(t, "README.md"))[0], "\n")
	if len(commands) != 2 || commands[1] != "docker compose -p mcpbouncer --profile observe up -d" {
		t.Fatalf("README.md has the commands %q", commands)
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-eu", "-c", commands[0])
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	written, err := dotenv.Read(filepath.Join(dir, ".env"))
	if err != nil || len(written["GRAFANA_PASSWORD"]) != 32 {
		t.Fatalf("it writes %q: %v", written, err)
	}
	project := loadCompose(t, exampleEnv(), written)
	if addr := project.Services["bouncer"].Environment["BOUNCER_METRICS_ADDR"]; addr == nil || *addr != ":9090" {
		t.Error("the sidecar serves no metrics at port 9090")
	}
	for _, name := range []string{"prometheus", "grafana"} {
		if _, on := project.Services[name]; on {
			t.Errorf("%s starts without the profile", name)
		}
	}
	if project, err = project.WithProfiles([]string{"observe"}); err != nil {
		t.Fatal(err)
	}
	server, grafana := project.Services["prometheus"], project.Services["grafana"]
	networks := func(s types.ServiceConfig) []string { return slices.Sorted(maps.Keys(s.Networks)) }
	if got := networks(server); !slices.Equal(got, []string{"bouncer", "observe"}) || len(server.Ports) != 0 {
		t.Errorf("prometheus is on %q and publishes %v", got, server.Ports)
	}
	if got := networks(grafana); !slices.Equal(got, []string{"observe"}) {
		t.Errorf("grafana is on %q", got)
	}
	if len(grafana.Ports) != 1 || grafana.Ports[0].HostIP != "127.0.0.1" {
		t.Errorf("grafana publishes %v", grafana.Ports)
	}
	for _, s := range []types.ServiceConfig{server, grafana} {
		if !regexp.MustCompile(`:v?\d+\.\d+\.\d+$`).MatchString(s.Image) || !slices.Contains(s.CapDrop, "ALL") {
			t.Errorf("%s: the image %s, without %v", s.Name, s.Image, s.CapDrop)
		}
		for _, volume := range s.Volumes {
			if _, err := os.Stat(volume.Source); err != nil || !volume.ReadOnly {
				t.Errorf("%s: %s: %v", s.Name, volume, err)
			}
		}
	}
	// The tests run this version of Prometheus: its Go module v0.316.0 is 3.16.0.
	module, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "e2e", "prometheus", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)`).FindStringSubmatch(string(module))
	if minor := strings.TrimPrefix(version[2], "0"); server.Image != "prom/prometheus:v"+version[1]+"."+minor+"."+version[3] {
		t.Errorf("%s is not the version that is tested, %s", server.Image, version[0])
	}
	// Without the variable there is nothing to make the secret of, and no password that is known.
	if secret := project.Secrets["grafana"]; secret.Environment != "GRAFANA_PASSWORD" || *grafana.Environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] != "/run/secrets/grafana" {
		t.Errorf("the password is %+v", secret)
	}
	var sources struct {
		Datasources []struct{ UID, Type, URL string }
	}
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	var scrape struct {
		Jobs []struct {
			Name string `yaml:"job_name"`
			DNS  []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	for file, into := range map[string]any{"grafana/datasource.yaml": &sources, "grafana/dashboards.yaml": &dashboards, "prometheus.yml": &scrape} {
		if err := yaml.Unmarshal([]byte(observeFile(t, file)), into); err != nil {
			t.Fatal(file, err)
		}
	}
	if got := sources.Datasources[0]; got.URL != "http://"+server.Name+":9090" || got.Type != "prometheus" {
		t.Errorf("the data source is %+v", got)
	}
	path := dashboards.Providers[0].Options.Path
	if !slices.ContainsFunc(grafana.Volumes, func(v types.ServiceVolumeConfig) bool { return filepath.Dir(v.Target) == path }) {
		t.Errorf("no dashboard is at %s", path)
	}
	if dns := scrape.Jobs[0].DNS[0]; project.Services[dns.Names[0]].Name != "bouncer" || dns.Port != 9090 {
		t.Errorf("prometheus looks for %+v", dns)
	}
}

var namedMetric = regexp.MustCompile(`mcpbouncer_[a-z_]+[a-z]`)

// declaredMetrics are the metrics and their labels, as Prometheus stores them.
func declaredMetrics() map[string]map[string][]string {
	all := map[string]map[string][]string{}
	for _, d := range metrics.Declarations {
		labels := map[string][]string{}
		for _, l := range d.Labels {
			labels[l.Name] = l.Values
		}
		if d.Type != "histogram" {
			all[d.Name] = labels
			continue
		}
		all[d.Name+"_count"], all[d.Name+"_sum"] = labels, labels
		all[d.Name+"_bucket"] = maps.Clone(labels)
		all[d.Name+"_bucket"]["le"] = nil
	}
	return all
}

// A page, alert or panel about a metric that was renamed away shows nothing, and says nothing.
func TestMetricsThatPagesNameAreDeclared(t *testing.T) {
	t.Parallel()
	known, seen := declaredMetrics(), map[string]bool{}
	for _, pattern := range []string{"docs/metrics.md", "docs/runbooks/*.md", "docs/runbooks/alerts/*.md", "deploy/observe/*", "deploy/observe/grafana/*"} {
		files, err := filepath.Glob(filepath.Join(rig.Root(), filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				if info, _ := os.Stat(file); info != nil && info.IsDir() {
					continue
				}
				t.Fatal(err)
			}
			for _, name := range namedMetric.FindAllString(string(text), -1) {
				seen[name] = true
				if known[name] == nil && known[name+"_count"] == nil {
					t.Errorf("%s names %s, which is not declared", file, name)
				}
			}
		}
	}
	for _, d := range metrics.Declarations {
		if !seen[d.Name] {
			t.Errorf("no page, alert or panel has %s", d.Name)
		}
	}
}

// traefikMetrics returns what traefik.yaml has in comments for metrics.
func traefikMetrics(t *testing.T) map[string]any {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "traefik.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(file), "\n#metrics:")
	section, _, _ = strings.Cut("#metrics:"+section, "\n\n")
	var static map[string]any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll("\n"+section, "\n#", "\n")), &static); err != nil || !ok {
		t.Fatalf("traefik.yaml shows no metrics: %v", err)
	}
	return static
}

// A real Prometheus asks real sidecars and a real Traefik, which have had logins, calls and
// refusals. It evaluates every alert and every query of the dashboard. All metrics, labels and
// values in them are those that are declared, or those of that Traefik. A query whose metrics are
// there gives an answer.
func TestPrometheusEvaluatesAlertsAndDashboard(t *testing.T) {
	t.Parallel()
	static, port := traefikMetrics(t), rig.FreePort(t)
	// Where Traefik serves metrics by itself is port 8080 of its container.
	static["entryPoints"] = map[string]any{"traefik": map[string]any{"address": fmt.Sprintf("127.0.0.1:%d", port)}}
	w := rig.New(t, rig.Options{Static: static, Sidecar: map[string]string{"BOUNCER_METRICS_ADDR": "127.0.0.1:0", "BOUNCER_DENY": `{"v":1,"serial":17}`}})
	server := rig.StartPrometheus(t, w.Logs, metricsAddresses(t, w), fmt.Sprintf("127.0.0.1:%d", port))

	for range 2 { // in between Prometheus sees that the counters are there
		c := w.Wiki.Client()
		answer := c.Tokens(w.Wiki.Browser())
		if got := c.Get("/anything", answer.Member("access_token")); got.Status != http.StatusOK {
			t.Fatalf("a call: %s", got)
		}
		if got := c.Get("/anything", ""); got.Status != http.StatusUnauthorized {
			t.Fatalf("a call without a token: %s", got)
		}
		refreshed := c.Refresh(answer.Member("refresh_token"))
		c.Refresh("mbr1_nothing")
		if got := c.Do("POST", c.Public+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
			[]byte(url.Values{"token": {refreshed.Member("refresh_token")}, "client_id": {c.ClientID}}.Encode())); got.Status != http.StatusOK {
			t.Fatalf("a revocation: %s", got)
		}
		// Somebody else reaches a sidecar.
		resp, err := http.Get("http://" + w.Replicas[0].Addr + "/oauth/jwks.json")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		asked := time.Now()
		rig.WaitFor(t, "Prometheus to ask after it, and the plugin's figures", func() error {
			series, err := server.Query(`min(timestamp(up)) and sum(mcpbouncer_logins_total{stage="presented"}) > 0`, nil)
			if err != nil || len(series) == 0 {
				return errors.Join(err, errors.New("none"))
			}
			if at := series[0].Value[1].(string); at <= fmt.Sprintf("%d", asked.Unix()+1) {
				return fmt.Errorf("at %s", at)
			}
			return nil
		})
	}

	labels, absent := declaredMetrics(), map[string]map[string][]string{}
	rig.WaitFor(t, "Prometheus to have all that happened", func() error {
		var own, there []map[string]string
		if err := errors.Join(server.Ask("series", url.Values{"match[]": {`{job="traefik"}`}}, &own), server.Ask("series", url.Values{"match[]": {`{job="mcpbouncer"}`}}, &there)); err != nil {
			return err
		}
		for _, series := range own {
			name := series["__name__"]
			if !strings.HasPrefix(name, "traefik_") {
				continue
			}
			if labels[name] == nil {
				labels[name] = map[string][]string{}
			}
			for label := range series {
				labels[name][label] = nil
			}
		}
		absent = declaredMetrics()
		for _, series := range there {
			delete(absent, series["__name__"])
		}
		if got, want := slices.Sorted(maps.Keys(absent)), []string{"mcpbouncer_client_documents_total", "mcpbouncer_deny_failures_total", "mcpbouncer_guard_failures_total",
			"mcpbouncer_plugin_sidecar_failures_total", "mcpbouncer_provider_errors_total"}; !slices.Equal(got, want) || labels["traefik_router_requests_total"] == nil {
			return fmt.Errorf("it lacks %q, want that of %q alone", got, want)
		}
		return nil
	})
	labels["up"], labels["ALERTS"] = map[string][]string{}, map[string][]string{"alertname": nil, "alertstate": nil, "severity": nil}

	rig.WaitFor(t, "the rules to be evaluated, and somebody to be noticed", func() error {
		var rules struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
		if err := server.Ask("rules", nil, &rules); err != nil {
			return err
		}
		if got, want := len(rules.Groups[0].Rules), len(alerts(t)); got != want {
			return fmt.Errorf("%d rules, want %d", got, want)
		}
		for _, r := range rules.Groups[0].Rules {
			if r.Health != "ok" || (r.State == "firing") != (r.Name == "SidecarReachedByOthers") {
				return fmt.Errorf("%s is %s and %s: %s", r.Name, r.Health, r.State, r.LastError)
			}
		}
		return nil
	})
	// It finds what is wrong.
	for expr, want := range map[string]string{
		`mcpbouncer_nothing_total`:                                     "no metric mcpbouncer_nothing_total",
		`rate(mcpbouncer_logins_total{stages="token"}[5m])`:            "has no label stages",
		`mcpbouncer_logins_total{stage=~"token|presentd"}`:             "stage of mcpbouncer_logins_total is never presentd",
		`sum by (because) (increase(mcpbouncer_logins_total[5m]))`:     "grouped by because",
		`sum by (route) (increase(traefik_router_requests_total[1m]))`: "grouped by route",
		`sum by (`: "parse error",
	} {
		if _, problems := checkNames(server, expr, labels); !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("%s: %q, want %s", expr, problems, want)
		}
	}
	for _, a := range alerts(t) {
		if _, problems := checkNames(server, a.Expr, labels); problems != nil {
			t.Errorf("%s: %q", a.Alert, problems)
		}
	}
	for _, p := range rig.Dashboard(t) {
		for _, target := range p.Targets {
			for _, chosen := range []string{".*", "(wiki|world|vscode|other)"} {
				expr := rig.Filled(target.Expr, "30s", "1m", chosen)
				named, problems := checkNames(server, expr, labels)
				if problems != nil {
					t.Errorf("%s: %q", p.Title, problems)
				}
				if slices.ContainsFunc(named, func(name string) bool { return absent[name] != nil }) {
					if err := shows(server, expr, target.Range); err != nil && !errors.Is(err, errNothing) {
						t.Errorf("%s: %v", p.Title, err)
					}
					continue
				}
				// A rate needs two samples, and a busy machine may lose one.
				rig.WaitFor(t, p.Title, func() error { return shows(server, expr, target.Range) })
			}
		}
	}
	if series, err := server.Query(rig.Filled(rig.Dashboard(t)[1].Targets[4].Expr, "30s", "1m", ".*"), nil); err != nil || series[0].Value[1] == "0" {
		t.Errorf("no login got a token: %v %v", series, err)
	}
}

var errNothing = errors.New("it shows nothing")

// shows evaluates a query of a panel: over the last minute, or now.
func shows(server *rig.Prometheus, expr string, over bool) error {
	var span url.Values
	if over {
		now := time.Now().Unix()
		span = url.Values{"start": {fmt.Sprint(now - 60)}, "end": {fmt.Sprint(now + 1)}, "step": {"1"}}
	}
	series, err := server.Query(expr, span)
	if err == nil && len(series) == 0 {
		err = errNothing
	}
	if err != nil {
		return fmt.Errorf("%s: %w", expr, err)
	}
	return nil
}

// checkNames looks at the expression as Prometheus parses it: each metric is known, and has the
// labels by which it is chosen, with the values, and those by which it is grouped. It returns the
// metrics.
func checkNames(server *rig.Prometheus, expr string, labels map[string]map[string][]string) (named, problems []string) {
	var tree any
	if err := server.Ask("parse_query", url.Values{"query": {expr}}, &tree); err != nil {
		return nil, []string{err.Error()}
	}
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	// The last is what label_replace makes.
	of := map[string]bool{"job": true, "instance": true, "metric": true}
	each(tree, func(node map[string]any) {
		kind, _ := node["type"].(string)
		if kind != "vectorSelector" && kind != "matrixSelector" {
			return
		}
		name, _ := node["name"].(string)
		if name != "" {
			named = append(named, name)
			if labels[name] == nil {
				complain("there is no metric %s", name)
			}
		}
		for label := range labels[name] {
			of[label] = true
		}
		for _, matcher := range node["matchers"].([]any) {
			m := matcher.(map[string]any)
			label, value := m["name"].(string), m["value"].(string)
			if label == "__name__" || label == "job" || label == "instance" || name == "" {
				continue
			}
			values, ok := labels[name][label]
			if !ok {
				complain("%s has no label %s", name, label)
			}
			if strings.Contains(value, "*") || strings.HasPrefix(value, "(") || values == nil || value == metrics.Other {
				continue
			}
			for _, one := range strings.Split(value, "|") {
				if !slices.Contains(values, one) {
					complain("%s of %s is never %s", label, name, one)
				}
			}
		}
	})
	each(tree, func(node map[string]any) {
		grouping, _ := node["grouping"].([]any)
		for _, label := range grouping {
			if !of[label.(string)] {
				complain("grouped by %s, which none of its metrics has", label)
			}
		}
	})
	return named, problems
}

// each visits every object of a JSON value.
func each(value any, visit func(map[string]any)) {
	switch v := value.(type) {
	case map[string]any:
		visit(v)
		for _, member := range v {
			each(member, visit)
		}
	case []any:
		for _, member := range v {
			each(member, visit)
		}
	}
}
