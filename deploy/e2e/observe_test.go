package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
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
