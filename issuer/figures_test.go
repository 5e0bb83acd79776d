package issuer_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// figures sends a report as the plugin of the wiki does.
func (w *world) figures(body string) reply {
	w.t.Helper()
	r := httptest.NewRequest("POST", "/hop/figures", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON()))
	return w.read(issuertest.Serve(w.replica(), r))
}

func newMeasuredWorld(t *testing.T) (*world, func() string) {
	m := metrics.New()
	w := newWorld(t, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Metrics = m } })
	return w, func() string { return scrape(t, m) }
}

// Two reports add up, and a login that both tell counts once.
func TestFiguresOfThePluginAreCounted(t *testing.T) {
	w, scrape := newMeasuredWorld(t)
	a := w.register(w.wiki.PublicURL, map[string]any{"client_name": "Claude Code (wiki)", "redirect_uris": []string{"http://localhost:54545/callback"}, "token_endpoint_auth_method": "none"})
	body := fmt.Sprintf(`{"v":1,"refusals":{"expired":3,"invented":2},"failures":{"timeout":1,"no_token":1},"presented":[{"sid":"one","client_id":%q},`+
		`{"sid":"two","client_id":"https://vscode.dev/oauth/client-metadata.json"},{"sid":"three","client_id":""},{"sid":"four","client_id":"key:x"}],"presented_more":2}`, a.id)
	for range 2 {
		w.figures(body).wants(t, 204, "")
	}
	text := scrape()
	for _, want := range []string{
		`mcpbouncer_plugin_refusals_total{tenant="wiki",cause="expired"} 6`,
		`mcpbouncer_plugin_refusals_total{tenant="wiki",cause="other"} 4`,
		`mcpbouncer_plugin_sidecar_failures_total{tenant="wiki",cause="timeout"} 2`,
		`mcpbouncer_plugin_sidecar_failures_total{tenant="wiki",cause="other"} 2`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="presented"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="vscode",stage="presented"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="other",stage="presented"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="key",stage="presented"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("lacks %s", want)
		}
	}
	if lines := eventsOf(t, w.log.String(), "login.presented"); len(lines) != 4 {
		t.Errorf("%d lines, want 4: %v", len(lines), lines)
	}
}

// A report that is wrong anywhere counts nowhere, and the log says why.
func TestFiguresThatAreNotTaken(t *testing.T) {
	w, scrape := newMeasuredWorld(t)
	login := func(n int) string {
		return strings.Repeat(`{"sid":"s","client_id":""},`, n) + `{"sid":"s","client_id":""}`
	}
	var causes strings.Builder
	for i := range 66 {
		fmt.Fprintf(&causes, `"c%d":1,`, i)
	}
	for name, body := range map[string]string{
		"nothing": ``, "null": `null`, "an array": `[]`, "no version": `{}`, "another version": `{"v":2}`, "a version that is text": `{"v":"1"}`,
		"an unknown member": `{"v":1,"new":1}`, "other letter case": `{"v":1,"Refusals":{}}`, "repeated": `{"v":1,"refusals":{},"refusals":{}}`,
		"negative": `{"v":1,"refusals":{"expired":-1}}`, "a fraction": `{"v":1,"refusals":{"expired":1.5}}`, "too many": `{"v":1,"failures":{"timeout":1099511627777}}`,
		"too many more": `{"v":1,"presented_more":1099511627777}`, "causes": `{"v":1,"refusals":{` + strings.TrimSuffix(causes.String(), ",") + `}}`,
		"logins": `{"v":1,"presented":[` + login(100) + `]}`, "no sid": `{"v":1,"presented":[{"client_id":""}]}`, "no client_id": `{"v":1,"presented":[{"sid":"s"}]}`,
		"more of a login": `{"v":1,"presented":[{"sid":"s","client_id":"","sub":"x"}]}`, "a long sid": `{"v":1,"presented":[{"sid":"` + strings.Repeat("s", 65) + `","client_id":""}]}`,
		"a long client_id": `{"v":1,"refusals":{"expired":1},"presented":[{"sid":"s","client_id":"` + strings.Repeat("c", 2049) + `"}]}`,
	} {
		before := len(eventsOf(t, w.log.String(), "request.refused"))
		if r := w.figures(body); r.Status != 400 {
			t.Errorf("%s: %d", name, r.Status)
		}
		if lines := eventsOf(t, w.log.String(), "request.refused"); len(lines) != before+1 || lines[before]["endpoint"] != "/hop/figures" {
			t.Errorf("%s: no line", name)
		}
	}
	w.figures(`{"v":1}`+strings.Repeat(" ", 16<<10)).wants(t, 413, "invalid_request")
	w.figures(`{"v":1,"presented":[`+login(99)+`]}`+strings.Repeat(" ", 10)).wants(t, 204, "")
	w.direct("POST", "/hop/figures", "mbh1_x").wants(t, 403, "forbidden")
	if text := scrape(); strings.Contains(text, "mcpbouncer_plugin_") || strings.Count(text, `stage="presented"`) != 1 {
		t.Error(text)
	}
}

// The causes are those of docs/hop.md.
func TestFiguresHaveTheCausesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../docs/hop.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| causes of | are |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	refusals, failures, _ := strings.Cut(table, "| failures |")
	for text, causes := range map[string][]string{refusals: metrics.RefusalCauses, failures: metrics.FailureCauses} {
		var want []string
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(text, -1) {
			want = append(want, m[1])
		}
		if !slices.Equal(want, causes) {
			t.Errorf("the page has %v, the metrics %v", want, causes)
		}
	}
}
