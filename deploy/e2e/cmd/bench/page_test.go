package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// What the pages say is what the last whole run measured, rounded as it is written.
func TestPublishedFiguresAreThoseOfTheResults(t *testing.T) {
	files, err := published(rig.Root())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(rig.Root(), name)); err != nil || string(got) != want {
			t.Errorf("%s is not that of docs/benchmarks.json: cd deploy/e2e && go run ./cmd/bench -page (%v)", name, err)
		}
	}
	r, err := readResults(resultsFile(rig.Root()))
	if err != nil || r.Rounds < rounds || r.Made == "" || r.Revision == "" {
		t.Errorf("the results are of no whole run: %d rounds, %v", r.Rounds, err)
	}
}

// written is what a command writes into a page.
var written = regexp.MustCompile(`(?s)<!-- [a-z]+: .*? -->\n.*?<!-- end -->`)

// A figure about speed that is no claim would stay as it is whatever the next run measures.
// Decisions are records of their day, and what is written between markers is held by who writes it.
func TestFiguresAboutSpeedAreClaims(t *testing.T) {
	p, err := readClaims(rig.Root())
	if err != nil {
		t.Fatal(err)
	}
	pages, found := 0, 0
	look := func(name, text string) {
		pages++
		for _, c := range p.Claims {
			if c.Page == name {
				found += strings.Count(text, c.sentence(c.Figure))
				text = strings.ReplaceAll(text, c.sentence(c.Figure), "")
			}
		}
		text = written.ReplaceAllString(text, "")
		for line := range strings.Lines(text) {
			if strings.Contains(line, "µs") {
				t.Errorf("%s has a figure that docs/claims.json does not know: %s", name, line)
			}
		}
	}
	err = fs.WalkDir(os.DirFS(rig.Root()), "docs", func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".md" || strings.HasPrefix(name, "docs/decisions/") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(rig.Root(), name))
		look(name, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(rig.Root(), "README.md"))
	if look("README.md", string(text)); err != nil || pages < 20 || found != len(p.Claims) {
		t.Errorf("%d pages, %d claims of %d are on them: %v", pages, found, len(p.Claims), err)
	}
}

func TestResultsAreOfThisCode(t *testing.T) {
	r, err := readResults(resultsFile(rig.Root()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := readClaims(rig.Root())
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range stale(r, count(t, p.Counted), programMB(t), newestTraefik(rig.Root())) {
		t.Errorf("docs/benchmarks.json is stale, run make bench: %s", why)
	}
}

func TestResultsAreStaleWhen(t *testing.T) {
	r := results{Machine: machine{Traefik: "v3"}, Rows: []row{
		{Name: "code/a A", Values: map[string]float64{"allocs": 100}}, {Name: "start/program", Values: map[string]float64{"mb": 10}},
	}}
	for _, c := range []struct {
		name, row, traefik string
		allocations, mb    float64
		stale              bool
	}{
		{"they are those of this code", "code/a A", "v3", 100, 10, false},
		{"little has changed", "code/a A", "v3", 105, 10.4, false},
		{"an operation allocates more", "code/a A", "v3", 107, 10, true},
		{"an operation allocates less", "code/a A", "v3", 90, 10, true},
		{"the program has grown", "code/a A", "v3", 100, 10.6, true},
		{"Traefik is another", "code/a A", "v4", 100, 10, true},
		{"the row is not in them", "code/a B", "v3", 100, 10, true},
	} {
		if why := stale(r, map[string]float64{c.row: c.allocations}, c.mb, c.traefik); (len(why) > 0) != c.stale {
			t.Errorf("%s: %q", c.name, why)
		}
	}
	if why := stale(r, nil, 10, "v3"); len(why) != 1 {
		t.Errorf("nothing was counted: %q", why)
	}
}

func TestClaimsAndBudgetsFollowFromRows(t *testing.T) {
	r := results{Base: "x", Rows: []row{
		{Name: "a", Values: map[string]float64{"cpu_us": 1234.6, "helper_us": 100}, Base: map[string]float64{"cpu_us": 2000, "helper_us": 90}},
		{Name: "b", Values: map[string]float64{"cpu_us": 234}, Base: map[string]float64{"cpu_us": 1000}},
	}}
	for _, c := range []struct {
		claim claim
		want  string
	}{
		{claim{Step: 1, measure: measure{Row: "a", Unit: "cpu_us"}}, "1,235"},
		{claim{Step: 10, measure: measure{Row: "b", Unit: "cpu_us"}}, "230"},
		{claim{Step: 100, measure: measure{Row: "a", Unit: "cpu_us", Minus: "b"}}, "1,000"},
		{claim{Step: 1, measure: measure{Row: "b", Unit: "cpu_us", Plus: "a:helper_us"}}, "334"},
		{claim{Step: 0.1, measure: measure{Row: "a", Unit: "cpu_us", Over: "b"}}, "5.3"},
		{claim{Step: 0.1, measure: measure{Row: "a", Unit: "cpu_us", Over: "b", OverMinus: "a:helper_us"}}, "9.2"},
		{claim{Step: 0.01, measure: measure{Row: "a", Unit: "cpu_us", Minus: "b", OfBase: true}}, "1.00"},
	} {
		c.claim.Text = "{}"
		if got, err := c.claim.written(r); err != nil || got != c.want {
			t.Errorf("%+v: want %s, got %s, %v", c.claim.measure, c.want, got, err)
		}
	}
	for _, bad := range []measure{{Row: "c", Unit: "cpu_us"}, {Row: "b", Unit: "helper_us"}, {Row: "a", Unit: "cpu_us", Over: "c"}} {
		if got, err := (claim{Text: "{}", Step: 1, measure: bad}).written(r); err == nil {
			t.Errorf("%+v: %s", bad, got)
		}
	}
	table, err := (claims{Budgets: []budget{
		{What: "kept", measure: measure{Row: "b", Unit: "cpu_us"}, AtMost: 234},
		{What: "slow", measure: measure{Row: "b", Unit: "cpu_us"}, AtMost: 200},
		{What: "few", measure: measure{Row: "b", Unit: "cpu_us"}, AtLeast: 300},
	}}).budgets(r)
	for _, want := range []string{"| kept | at most 234 | 234 | kept |", "| slow | at most 200 | 234 | **missed**, by 17 % |", "| few | at least 300 | 234 | **missed**, by 22 % |"} {
		if err != nil || !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s%v", want, table, err)
		}
	}
}

// A row that nobody wants to show has to stand on the page all the same.
func TestRowsAreAllPublished(t *testing.T) {
	r := results{Rows: []row{{Name: "a/x", Values: map[string]float64{"ms": 1}}, {Name: "b/y", Values: map[string]float64{"ms": 2}}}}
	if page, err := filled("<!-- figures: a -->\nold<!-- end -->", r, claims{}); err == nil {
		t.Errorf("a group is missing: %s", page)
	}
	page, err := filled("1 <!-- figures: a -->\nold<!-- end --> 2\n<!-- figures: b -->\n<!-- end -->", r, claims{})
	if err != nil || !strings.Contains(page, "| x | 1 |") || !strings.Contains(page, "| y | 2 |") || strings.Contains(page, "old") {
		t.Errorf("%s, %v", page, err)
	}
}

func TestMixedIdentityEndsTheRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		saw    string
		status int
		asks   int
		ends   bool
	}{
		{"the owner of the token", person(3), 200, 3, false},
		{"somebody else", person(4), 200, 3, true},
		{"nobody", "", 200, 3, true},
		{"a refusal of a good token", "", 401, 3, true},
		{"a stranger who is refused", "", 401, 9, false},
		{"a stranger who is let in", person(0), 200, 9, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.saw != "" {
				w.Header().Set("X-Saw", c.saw)
			}
			w.WriteHeader(c.status)
		}))
		l := &load{addr: server.Listener.Addr().String(), connections: 2, each: 3}
		l.request = func(int, int) []byte { return text(http.MethodGet, "/", mcpHost, "") }
		l.check = func(_, _ int, answer *http.Response) error { return isSeenAs(c.asks, 9, answer) }
		if _, err := l.run(); (err != nil) != c.ends {
			t.Errorf("%s: %v", c.name, err)
		}
		server.Close()
	}
}

// 200 people on 32 connections of a real Traefik, with strangers in between, and each who says to
// be somebody else.
func TestIdentitiesAreNotMixedUpUnderLoad(t *testing.T) {
	b := &bench{t: t, sides: []*side{{root: rig.Root(), dir: t.TempDir()}}, rounds: 1, wanted: regexp.MustCompile(".")}
	b.identities()
	rows := b.finished(b.rows)
	if len(rows) != 1 || rows[0].Values["requests"] < 10_000 || rows[0].Values["mixed"] != 0 {
		t.Errorf("%+v", rows)
	}
}

// A round in four has a collection of garbage. A median would leave it out.
func TestShortTurnsCountTheCollectionOfGarbage(t *testing.T) {
	here := &side{}
	b := &bench{t: t, sides: []*side{here}, rounds: 9, wanted: regexp.MustCompile(".")}
	warm, asked, first := 0, 0, 0
	b.shortTurns([]string{"traefik/a", "traefik/b"}, func(round, row int, s *side) {
		if round == 0 {
			warm++
			return
		}
		asked++
		if asked%2 == 1 && row == 0 {
			first++
		}
		cost := 80.0
		if round%4 == 0 {
			cost = 120
		}
		b.note(s, []string{"traefik/a", "traefik/b"}[row], "cpu_us", cost)
		b.note(s, []string{"traefik/a", "traefik/b"}[row], "p50_us", cost)
	})
	b.row("traefik/a").units["cpu_us"][0][0] = 1e6 // a round in which the machine stood still
	for _, r := range b.finished(b.rows) {
		if cost := r.Values["cpu_us"]; cost < 86 || cost > 90 || r.Values["p50_us"] != 80 {
			t.Errorf("%+v", r)
		}
	}
	if warm != 2 || asked != 72 || first < 9 || first > 27 {
		t.Errorf("%d rounds to warm up, %d measured, in %d of which the same row is first", warm, asked, first)
	}
}
