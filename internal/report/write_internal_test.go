package report

import (
	"bytes"
	"testing"
)

// A person reads the remedy at the beginning of a line; a program reads one line for each finding.
func TestTextGivesThePersonAtATerminalALineForTheRemedy(t *testing.T) {
	f := Finding{Check: "challenge", Expected: "401", Seen: "200", Fault: Label, Breaks: []string{EveryClient}, Remedy: "name the middleware", Page: "docs/routes.md"}
	for _, c := range []struct {
		tall bool
		f    Finding
		want string
	}{
		{true, f, "WRONG challenge: expected 401; seen 200\n      fault: label; breaks: every client\n      remedy: name the middleware (docs/routes.md)\n"},
		{false, f, "WRONG challenge: expected 401; seen 200; fault: label; breaks: every client; remedy: name the middleware (docs/routes.md)\n"},
		{true, Finding{Check: "clock", Seen: "0s off"}, "ok    clock: seen 0s off\n"},
	} {
		var out bytes.Buffer
		text := &Text{out: &out, tall: c.tall}
		if text.Finding(c.f); out.String() != c.want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
		}
	}
}
