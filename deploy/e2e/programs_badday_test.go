package e2e

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// Where there is no time for every cell of the table, these programs are measured on these days.
var (
	sampleOfPrograms = []string{"Codex", "MCP Inspector", "mcporter"}
	sampleOfDays     = []string{"401, the token has ended early", "503", "503 to a refresh"}
)

// howLong is how long somebody waits who does not know whether a program still does something.
const howLong = 30 * time.Second

// What whole programs do on bad days, at a server in which nothing is of the product: each is
// started for a call, on the bad day and after it. docs/bad-days.md has the table; with -matrix
// every cell is measured, else those of a few programs.
func TestProgramsOnBadDays(t *testing.T) {
	t.Parallel()
	table := newTable("bad-days.md", "program", "version")
	for _, day := range badDays {
		table.columns = append(table.columns, day.name)
	}
	var rows []string
	for _, program := range allPrograms {
		rows = append(rows, program.name)
	}
	t.Run("each", func(t *testing.T) {
		for _, program := range installed() {
			if !*matrix && !slices.Contains(sampleOfPrograms, program.name) {
				continue
			}
			t.Run(program.name, func(t *testing.T) {
				t.Parallel()
				if program.fixedPort != nil {
					program.fixedPort.Lock()
					defer program.fixedPort.Unlock()
				}
				var p *installation // as it is after a day that did no harm
				var m *rig.MockMCP
				for _, day := range badDays {
					if !*matrix && !slices.Contains(sampleOfDays, day.name) {
						continue
					}
					// what a program keeps may depend on how often it was started
					if p == nil || day.ages {
						m = rig.StartMockMCP(t, false)
						p = program.install(t, siteOfMock(m), way{name: dcrPublic, Server: m.URL, Redirect: callbackPath, AuthMethod: "none"})
						p.mustLogIn()
					}
					did, harm := onBadDay(p, m, day)
					t.Logf("%s: %s", day.name, did)
					table.set([]string{program.name, p.got.Version}, day.name, did)
					if harm {
						p = nil
					}
				}
			})
		}
	})
	table.compare(t, rows)
}

// onBadDay says what a program that has logged in does, and whether the day did it or the mock harm
// that lasts.
func onBadDay(p *installation, m *rig.MockMCP, day badDay) (did string, harm bool) {
	p.t.Helper()
	p.patience, p.waiting = howLong, false
	if k := p.keeps(); day.ages && expiry.Match(k.text) {
		p.rewrite(expiry, "${1}1")
	}
	day.begin(m)
	if strings.HasPrefix(day.name, "403") {
		m.Require("docs:delete") // some ask for all that the mock's documents name
	}
	before := len(m.Asked())
	worked := p.use()
	asked := m.Asked()[before:]
	waiting := p.waiting
	goodDay(m)

	before = len(m.Asked())
	again := p.use()
	afterwards := ""
	switch {
	case slices.ContainsFunc(m.Asked()[before:], func(a rig.Asked) bool { return a.What == "authorize" }):
		afterwards = "asks for a login"
	case !again:
		afterwards = "fails until its login command"
	}
	p.t.Logf("%s\nasked: %v\nafterwards, %v: %v", day.name, asked, again, m.Asked()[before:])
	did = didOn(repeated(asked), worked, afterwards)
	if waiting {
		did = strings.Replace(did, "fails", "still waits after 30 s", 1)
	}
	// From then on the person denies everything, or the program may be another client with other
	// scopes.
	harm = afterwards != "" || strings.HasPrefix(day.name, "403") || slices.ContainsFunc(asked, func(a rig.Asked) bool { return a.What == "authorize" })
	return did, harm
}

// repeated leaves out what a program asks for one call: it begins anew each time. Of the refused
// requests those remain that it makes most often.
func repeated(asked []rig.Asked) (left []rig.Asked) {
	refused := map[string]int{}
	most := ""
	for _, a := range asked {
		if a.What == "MCP" && a.Status >= 400 && strings.HasPrefix(a.Method, "POST ") {
			if refused[a.Method]++; refused[a.Method] > refused[most] {
				most = a.Method
			}
		}
	}
	for _, a := range asked {
		if a.What != "MCP" || a.Status >= 400 && a.Method == most {
			left = append(left, a)
		}
	}
	return left
}

func siteOfMock(m *rig.MockMCP) site {
	logs := &rig.Logs{}
	return site{"mock", logs, func(ctx context.Context, asked *url.URL) (err error) {
		// Some print the URL before they listen, and some never listen.
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 100 {
			if err = m.Allow(ctx, asked.String()); err == nil {
				return nil
			}
			<-tick.C
		}
		return err
	}, func() string { return "somebody" }}
}
