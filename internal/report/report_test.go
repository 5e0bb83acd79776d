package report_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

var wrong = report.Finding{
	Check: "challenge", Expected: "401", Seen: "200", Fault: report.Label, Breaks: []string{report.EveryClient},
	Remedy: "name the middleware in the label", Page: "docs/routes.md", File: "compose.yaml", Line: 12,
}

func TestReportWritesOneLineForEachFinding(t *testing.T) {
	r := &report.Report{Subject: "https://mcp.example.com/wiki"}
	r.Add(report.Finding{Check: "certificate", Expected: "one that is trusted", Seen: "until 2027-01-01"}, wrong,
		report.Finding{Check: "stream", Seen: "nothing without a token", Note: true})
	r.Judge("Claude", "Codex")
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	const want = `ok    certificate: seen until 2027-01-01
compose.yaml:12: WRONG challenge: expected 401; seen 200; fault: label; breaks: every client; remedy: name the middleware in the label (docs/routes.md)
note  stream: seen nothing without a token

BREAKS every client: challenge

https://mcp.example.com/wiki: 3 checks, 1 wrong, 1 note
Begin with challenge (fault: label): name the middleware in the label (docs/routes.md)
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// The last line is what a person reads first.
func TestReportEndsWithWhatToBeginWith(t *testing.T) {
	part := wrong
	part.Check, part.Breaks, part.Fault, part.Page = "CORS", []string{"Codex"}, report.Traefik, ""
	for _, c := range []struct {
		findings []report.Finding
		ends     string
	}{
		{[]report.Finding{part, wrong}, "\nBREAKS Claude: challenge\nBREAKS Codex: CORS, challenge\n\nx: 2 wrong\nBegin with challenge (fault: label): name the middleware in the label (docs/routes.md)\n"},
		{[]report.Finding{part}, "\nworks  Claude\nBREAKS Codex: CORS\n\nx: 1 wrong\nBegin with CORS (fault: traefik): name the middleware in the label\n"},
		{nil, "\nworks  Claude\nworks  Codex\n\nx: nothing wrong\n"},
	} {
		r := &report.Report{Subject: "x"}
		r.Add(c.findings...)
		r.Judge("Claude", "Codex")
		var out bytes.Buffer
		if err := r.WriteText(&out); err != nil || !strings.HasSuffix(out.String(), c.ends) {
			t.Errorf("%v: got\n%s\nwant at its end\n%s", err, out.String(), c.ends)
		}
	}
}

func TestReportNamesClientsThatBreakByTheSameInOneLine(t *testing.T) {
	part := wrong
	part.Check, part.Breaks = "document", []string{"Claude", "Codex"}
	other := wrong
	other.Check, other.Breaks = "CORS", []string{"use-mcp"}
	r := &report.Report{Subject: "x"}
	r.Add(part, other)
	r.Judge("Claude", "Gemini CLI", "Codex", "use-mcp")
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil || !strings.Contains(out.String(), "\n\nBREAKS Claude, Codex: document\nworks  Gemini CLI\nBREAKS use-mcp: CORS\n\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestReportSumsUpInOneLine(t *testing.T) {
	good, note := report.Finding{Check: "clock"}, report.Finding{Check: "stream", Note: true}
	for want, r := range map[string]report.Report{
		"x: nothing wrong":                                    {},
		"x: nothing wrong, 1 note":                            {Findings: []report.Finding{note}},
		"x: 1 check, nothing wrong":                           {Findings: []report.Finding{good}},
		"x: 3 checks, 1 wrong, 1 note":                        {Findings: []report.Finding{good, wrong, note}},
		"x: 2 wrong, 2 notes":                                 {Findings: []report.Finding{wrong, note, wrong, note}},
		"x: could not go on: no such host":                    {Unable: "no such host"},
		"x: could not go on: no such host, 2 checks, 1 wrong": {Findings: []report.Finding{good, wrong}, Unable: "no such host"},
	} {
		r.Subject = "x"
		var out bytes.Buffer
		if err := r.WriteText(&out); err != nil || !strings.HasSuffix(out.String(), "\n"+want+"\n") {
			t.Errorf("%v: got\n%s\nwant at its end\n%s", err, out.String(), want)
		}
	}
}

func TestReportsStatusSaysWhatWasFound(t *testing.T) {
	note := wrong
	note.Note = true
	for name, c := range map[string]struct {
		report report.Report
		want   int
	}{
		"nothing":          {report.Report{}, report.StatusGood},
		"a note":           {report.Report{Findings: []report.Finding{note}}, report.StatusGood},
		"something wrong":  {report.Report{Findings: []report.Finding{wrong}}, report.StatusFound},
		"it could not run": {report.Report{Findings: []report.Finding{wrong}, Unable: "no such host"}, report.StatusUnable},
	} {
		if got := c.report.Status(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestVerdictNamesTheChecksThatBreakAClient(t *testing.T) {
	r := &report.Report{}
	one, two, note := wrong, wrong, wrong
	one.Check, one.Breaks = "root document", []string{"Raycast"}
	two.Check, two.Breaks = "path document", []string{"Claude Code", "Raycast"}
	note.Note, note.Breaks, note.Hinders = true, nil, []string{"Codex"}
	r.Add(one, two, two, note)
	r.Judge("Claude Code", "Raycast", "Codex")
	for i, want := range []string{"path document", "root document, path document", ""} {
		v := r.Verdicts[i]
		if got := strings.Join(v.Why, ", "); got != want || v.Works != (want == "") {
			t.Errorf("%s: works %v, %q, want %q", v.Client, v.Works, got, want)
		}
	}
	if got := strings.Join(r.Verdicts[2].But, ", "); got != "challenge" {
		t.Errorf("Codex works, but %q", got)
	}
}

// A server may try to write to the operator's terminal, to hide a line, or to make one.
func TestReportShowsNothingThatATerminalObeys(t *testing.T) {
	hostile := "a\x1b[2Jb\nWRONG c\r\u009b31md\u202ee\x00\xff"
	f := report.Finding{Check: hostile, Expected: hostile, Seen: hostile, Breaks: []string{hostile}, Remedy: hostile, Page: hostile, File: hostile, Fault: report.Server}
	r := &report.Report{Subject: hostile, Unable: hostile}
	r.Add(f)
	var text, object bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&object); err != nil {
		t.Fatal(err)
	}
	var read report.Report
	if err := json.Unmarshal(object.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(text.String(), "\n"); got != 3 {
		t.Errorf("%d lines, want 3:\n%q", got, text.String())
	}
	for name, out := range map[string]string{"text": text.String(), "JSON": object.String(), "what JSON says": read.Findings[0].Seen} {
		for _, bad := range []string{"\x1b", "\r", "\u009b", "\u202e", "\x00", `\u001b`, `\u009b`} {
			if strings.Contains(out, bad) {
				t.Errorf("%s has %q: %q", name, bad, out)
			}
		}
	}
}

func TestPrintableBoundsAText(t *testing.T) {
	if got := report.Printable(strings.Repeat("ä", 1000), 10); got != strings.Repeat("ä", 10)+"…" {
		t.Error(got)
	}
	if got := report.Printable("ä", 1); got != "ä" {
		t.Error(got)
	}
}
