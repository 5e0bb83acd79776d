package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var matrix = flag.Bool("matrix", false, "tables of clients are filled in every cell, not in a few; -update needs it")

// badDay is what a server does to a client that has logged in.
type badDay struct {
	name  string
	begin func(*rig.MockMCP)
	ages  bool // the access token's time is over for the client, too
}

// mockRetryAfter is what the mock asks for, in seconds.
const mockRetryAfter = 3

// withoutEnd is when a bad day ends by itself: a client that asks so often asks without end.
const withoutEnd = 25

var badDays = func() []badDay {
	troubles := rig.MockTroubles(mockRetryAfter)
	answers := func(name string) *rig.Trouble {
		trouble := *troubles[name]
		trouble.Times = withoutEnd
		return &trouble
	}
	days := []badDay{
		{"401, the token has ended early", (*rig.MockMCP).EndTokens, false},
		{"the same, and the refresh token has", func(m *rig.MockMCP) { m.EndTokens(); m.EndRefreshTokens() }, false},
		{"401 without challenge", func(m *rig.MockMCP) { m.AnswerMCP(answers("401 without challenge")) }, false},
		{"403, and the person denies more", func(m *rig.MockMCP) { m.Require("docs:write"); m.Deny() }, false},
	}
	for _, status := range []string{"429", "500", "503"} {
		days = append(days, badDay{status, func(m *rig.MockMCP) { m.AnswerMCP(answers(status)) }, false})
	}
	for _, status := range []string{"429", "500", "503"} {
		days = append(days, badDay{status + " to a refresh", func(m *rig.MockMCP) { m.EndTokens(); m.AnswerToken(answers(status)) }, true})
	}
	return days
}()

// goodDay ends a bad one.
func goodDay(m *rig.MockMCP) {
	m.AnswerMCP(nil)
	m.AnswerToken(nil)
	m.Require("")
}

// didOn says what a client did on a bad day, for the table: from what it asked the mock, and from
// whether the call worked. afterwards is whether the next call works when the day is over, and what
// it costs.
func didOn(asked []rig.Asked, worked bool, afterwards string) string {
	var calls, refreshes []rig.Asked
	registered, logins := false, false
	for _, a := range asked {
		switch {
		case strings.HasPrefix(a.Method, "POST ") && a.What == "MCP":
			calls = append(calls, a)
		case a.What == "refresh":
			refreshes = append(refreshes, a)
		case a.What == "register":
			registered = true
		case a.What == "authorize":
			logins = true
		}
	}
	did := ""
	add := func(more string) {
		if did != "" {
			did += ", "
		}
		did += more
	}
	if len(refreshes) > 0 {
		switch last := refreshes[len(refreshes)-1]; {
		case len(calls) >= withoutEnd || len(refreshes) >= withoutEnd:
			add("refreshes and asks again without end")
		case last.Status/100 == 2:
			add("refreshes")
		default:
			add("tries to refresh" + often(refreshes))
		}
	} else if len(calls) > 1 && !logins {
		add("asks" + often(calls))
	}
	switch {
	case registered && logins:
		add("registers and asks for a login")
	case logins:
		add("asks for a login")
	}
	if !worked {
		add("fails")
	}
	if did == "" {
		did = "works"
	}
	if afterwards != "" {
		did += "; afterwards " + afterwards
	}
	return did
}

// often says how often something was asked, and whether the client waited as it was told.
func often(asked []rig.Asked) string {
	if len(asked) == 1 {
		return ""
	}
	waits := "waits as told"
	for i := range asked[1:] {
		if asked[i+1].At.Sub(asked[i].At) < mockRetryAfter*time.Second*95/100 {
			waits = "does not wait as told"
		}
	}
	if status := asked[0].Status; status != 429 && status != 503 { // which say when to ask again
		if len(asked) >= withoutEnd {
			return " without end"
		}
		return fmt.Sprintf(" %d times", len(asked))
	}
	if len(asked) >= withoutEnd {
		return " without end, " + waits
	}
	return fmt.Sprintf(" %d times, %s", len(asked), waits)
}

// sdkOnBadDays is an SDK in the table.
type sdkOnBadDays struct {
	name    string
	program string
	args    []string
	sample  bool // it stands for all where there is no time for every cell
}

var sdksOnBadDays = []sdkOnBadDays{
	{"Go SDK", "gosdk", nil, true},
	{"Go SDK, oldest", "gosdk-oldest", nil, false},
	{"TypeScript SDK 1.x", "client-v1.mjs", nil, false},
	{"TypeScript SDK 1.20", "client-v1.mjs", []string{"sdk-1.20.2"}, false},
	{"TypeScript SDK 1.12", "client-v1.mjs", []string{"sdk-1.12.3"}, false},
	{"TypeScript client 2.x", "client-v2.mjs", nil, true},
	{"AI SDK", "client-ai.mjs", nil, false},
	{"mcp-go", "mcpgo", nil, false},
	{"mcp-go, oldest", "mcpgo-oldest", nil, true},
}

// What SDKs do on bad days, at a server in which nothing is of the product. docs/bad-days.md has
// the table; with -matrix every cell is measured, else those of a few SDKs.
func TestSDKsOnBadDays(t *testing.T) {
	t.Parallel()
	table := newTable("bad-days.md", "SDK", "version")
	var logs rig.Logs
	for _, day := range badDays {
		table.columns = append(table.columns, day.name)
	}
	t.Run("each", func(t *testing.T) {
		for _, sdk := range sdksOnBadDays {
			if !*matrix && !sdk.sample {
				continue
			}
			t.Run(sdk.name, func(t *testing.T) {
				t.Parallel()
				for _, day := range badDays {
					t.Run(day.name, func(t *testing.T) {
						m := rig.StartMockMCP(t, false)
						way := way{Server: m.URL, Redirect: callbackPath, AuthMethod: "none"}
						if sdk.program == "mcpgo" {
							way.Revision = "2025-11-25"
						}
						argument, err := json.Marshal(way)
						if err != nil {
							t.Fatal(err)
						}
						a := startApplication(t, &logs, sdk.name+" "+day.name, sdkCommand(t, nil, sdk.program, string(argument), sdk.args...), m.Allow)
						ready := a.answer()
						if ready.Ready == nil {
							t.Fatalf("%+v\n%s", ready, logs.Tail(a.process.Name, 20))
						}
						a.call()
						a.call() // by now those that keep a stream open have opened it
						if day.ages {
							a.tell("age")
						}
						day.begin(m)
						before := len(m.Asked())
						answer := a.tell("call")
						asked := m.Asked()[before:]
						goodDay(m)
						before = len(m.Asked())
						afterwards := ""
						if again := a.tell("call"); again.Called == nil {
							afterwards = "fails until it is started again"
							t.Logf("afterwards: %s", again.Failed)
						} else if slices.ContainsFunc(m.Asked()[before:], func(a rig.Asked) bool { return a.What == "authorize" }) {
							afterwards = "asks for a login"
						}
						did := didOn(asked, answer.Called != nil, afterwards)
						t.Logf("%s: %v\nasked: %v", did, answer, asked)
						table.set([]string{sdk.name, ready.Ready.Version}, day.name, did)
					})
				}
			})
		}
	})
	var rows []string
	for _, sdk := range sdksOnBadDays {
		rows = append(rows, sdk.name)
	}
	table.compare(t, rows)
}

// clientTable is a table of a page that a run fills, cell by cell.
type clientTable struct {
	page    string   // "clients.md", of docs
	heads   []string // of the columns that name the row
	columns []string

	mu    sync.Mutex
	rows  map[string][]string          // by its first cell
	cells map[string]map[string]string // by the row's first cell, by column
}

func newTable(page string, heads ...string) *clientTable {
	return &clientTable{page: page, heads: heads, rows: map[string][]string{}, cells: map[string]map[string]string{}}
}

func (table *clientTable) set(row []string, column, cell string) {
	table.mu.Lock()
	defer table.mu.Unlock()
	if table.cells[row[0]] == nil {
		table.rows[row[0]], table.cells[row[0]] = row, map[string]string{}
	}
	table.cells[row[0]][column] = cell
}

// compare compares the cells that were filled with those of the page. With -matrix and -update it
// writes the rows that were measured, in this order; those that -run has left out stay as they are.
func (table *clientTable) compare(t *testing.T, order []string) {
	t.Helper()
	if t.Failed() {
		return
	}
	part := partOf(t, table.page)
	lines := strings.Split(part.read(t), "\n")
	written := map[string][]string{} // rows, by their first cell
	for _, text := range lines {
		cells := strings.Split(strings.Trim(text, "| "), " | ")
		written[cells[0]] = cells
	}
	line := func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }
	head := slices.Concat(table.heads, table.columns)
	text := line(head) + "|" + strings.Repeat("---|", len(head)) + "\n"
	whole := true
	for _, name := range order {
		row, cells := slices.Clone(table.rows[name]), table.cells[name]
		if cells == nil && *update { // -run has left it out
			if len(written[name]) == len(head) {
				text += line(written[name])
			}
			continue
		}
		for _, column := range table.columns {
			whole = whole && cells[column] != ""
			row = append(row, cells[column])
		}
		text += line(row)
	}
	if *update && whole {
		part.write(t, text)
		return
	}
	if lines[0]+"\n" != line(head) {
		t.Errorf("the table of docs/%s is stale: go test -run '^%s$' . -matrix -update", table.page, t.Name())
		return
	}
	compared := 0
	for _, text := range lines[1:] {
		cells := strings.Split(strings.Trim(text, "| "), " | ")
		filled := table.cells[cells[0]]
		for i, column := range table.columns {
			if filled[column] == "" {
				continue
			}
			compared++
			if got := cells[len(table.heads)+i]; got != filled[column] {
				t.Errorf("docs/%s, %s, %s: %q; it did: %q (go test -run '^%s$' . -matrix -update)", table.page, cells[0], column, got, filled[column], t.Name())
			}
		}
	}
	filled := 0
	for _, cells := range table.cells {
		filled += len(cells)
	}
	if compared != filled {
		t.Errorf("docs/%s: %d cells of %d were compared: go test -run '^%s$' . -matrix -update", table.page, compared, filled, t.Name())
	}
}
