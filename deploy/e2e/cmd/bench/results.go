package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// bench is one run.
type bench struct {
	t      rig.T
	sides  []*side // the first is this tree, the second the base if there is one
	rounds int
	wanted *regexp.Regexp
	rows   []*samples
	more   time.Duration // spent in further rounds
}

// samples are what the rounds of one row gave, by unit and side.
type samples struct {
	name  string
	units map[string]*[2][]float64
	short bool // see shortTurns
}

// wants says whether a row is to be measured, or a row of the group.
func (b *bench) wants(name string) bool {
	if strings.Contains(name, "/") {
		return b.wanted.MatchString(name)
	}
	// A group begins like its rows. An alternative that names another group does not want it.
	for _, alternative := range alternatives(b.wanted.String()) {
		group, _, named := strings.Cut(strings.TrimPrefix(alternative, "^"), "/")
		if is, err := regexp.MatchString("^(?:"+group+")$", name); !named || err != nil || is {
			return true
		}
	}
	return false
}

// alternatives of a regular expression, without those in parentheses.
func alternatives(pattern string) (found []string) {
	from, depth := 0, 0
	for i, c := range pattern + "|" {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '|' && (depth == 0 || i == len(pattern)):
			found = append(found, pattern[from:i])
			from = i + 1
		}
	}
	return found
}

// note keeps a figure of one side.
func (b *bench) note(s *side, name, unit string, value float64) {
	kept := b.row(name).units
	if kept[unit] == nil {
		kept[unit] = &[2][]float64{}
	}
	at := slices.Index(b.sides, s)
	kept[unit][at] = append(kept[unit][at], value)
}

// row finds the samples of a row. Rows stand in the order in which they are first asked for.
func (b *bench) row(name string) *samples {
	for _, r := range b.rows {
		if r.name == name {
			return r
		}
	}
	r := &samples{name: name, units: map[string]*[2][]float64{}}
	b.rows = append(b.rows, r)
	return r
}

// turns calls f for each round, row and side. The first round warms up: what it notes is dropped by
// f. Each round has another order, the same in each run, so that no row always pays for the garbage
// of the one before it. Sides take turns in being first.
func (b *bench) turns(names []string, f func(round int, row int, s *side)) {
	b.take(names, b.rounds, f)
}

// shortTurns is turns for rows of Traefik: four times as many rounds, of fewer requests each. What
// a request costs there drifts by a fifth within half a minute, so rows must follow one another
// soon. In such a round Traefik collects its garbage once or not at all, and a median would say
// which of both is more frequent: that made a plugin that does nothing cost 2 µs in one run, and 34
// in another. So the mean counts (see finished).
func (b *bench) shortTurns(names []string, f func(round int, row int, s *side)) {
	for _, name := range names {
		if b.wants(name) {
			b.row(name).short = true
		}
	}
	b.take(names, 4*b.rounds, f)
}

func (b *bench) take(names []string, rounds int, f func(round int, row int, s *side)) {
	for _, name := range names {
		if b.wants(name) {
			b.row(name)
		}
	}
	for round := range rounds + 1 {
		for _, row := range rand.New(rand.NewPCG(1, uint64(round))).Perm(len(names)) {
			if !b.wants(names[row]) {
				continue
			}
			for j := range b.sides {
				f(round, row, b.sides[(j+round)%len(b.sides)])
			}
		}
	}
}

// finished are the medians. Of "ns" the least counts: it is of one thread that waits for nobody, so
// that other work can only add to it. Of processor time and rate in shortTurns the mean does,
// without the lowest and the highest eighteenth.
func (b *bench) finished(all []*samples) []row {
	var rows []row
	for _, s := range all {
		r := row{Name: s.name, Values: map[string]float64{}}
		for unit, values := range s.units {
			for side, of := range values {
				if len(of) == 0 {
					continue
				}
				v := median(of)
				if unit == "ns" {
					v = slices.Min(of)
				}
				if s.short && (unit == "cpu_us" || unit == "helper_us" || unit == "per_second") {
					v = mean(of)
				}
				v = round(v)
				if side == 0 {
					r.Values[unit] = v
					continue
				}
				if r.Base == nil {
					r.Base = map[string]float64{}
				}
				r.Base[unit] = v
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// mean of values without the lowest and the highest eighteenth.
func mean(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	out := len(sorted) / 18
	sum := 0.0
	for _, v := range sorted[out : len(sorted)-out] {
		sum += v
	}
	return sum / float64(len(sorted)-2*out)
}

// percentile of values that are sorted.
func percentile(sorted []float64, p float64) float64 {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// round leaves four digits, which is more than any figure here is worth.
func round(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return r
}

// results are a run as it is published. Nothing in it names the machine.
type results struct {
	Made     string  `json:"made"` // YYYY-MM-DD
	Revision string  `json:"revision"`
	Base     string  `json:"base,omitempty"` // the revision that it is compared with
	Machine  machine `json:"machine"`
	Rounds   int     `json:"rounds"`
	Seconds  int     `json:"seconds"` // how long the run took
	Rows     []row   `json:"rows"`
}

// row holds figures by unit; units says which there are.
type row struct {
	Name   string             `json:"name"`
	Values map[string]float64 `json:"values"`
	Base   map[string]float64 `json:"base,omitempty"`
}

type machine struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	MemoryGB   int    `json:"memory_gb"`
	System     string `json:"system"`
	Go         string `json:"go"`
	Traefik    string `json:"traefik"`
}

func thisMachine() machine {
	m := machine{Processors: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	text, _ := os.ReadFile("/proc/cpuinfo")
	if found := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(text); found != nil {
		m.Processor = string(found[1])
	}
	text, _ = os.ReadFile("/proc/meminfo")
	if found := regexp.MustCompile(`MemTotal:\s*(\d+) kB`).FindSubmatch(text); found != nil {
		kb, _ := strconv.ParseFloat(string(found[1]), 64)
		m.MemoryGB = int(math.Round(kb / 1e6))
	}
	m.Traefik = newestTraefik(rig.Root())
	return m
}

// newestTraefik is the last version of the list.
func newestTraefik(root string) string {
	text, _ := os.ReadFile(filepath.Join(root, "deploy", "e2e", "traefik", "versions.txt"))
	lines := strings.Fields(string(text))
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

func resultsFile(root string) string { return filepath.Join(root, "docs", "benchmarks.json") }

// write writes one row a line, so that a difference between two runs can be read.
func (r results) write(file string) error {
	rows := r.Rows
	r.Rows = nil
	head, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(strings.TrimSuffix(string(head), "null\n}"))
	text.WriteString("[")
	for i, one := range rows {
		line, err := json.Marshal(one)
		if err != nil {
			return err
		}
		if i > 0 {
			text.WriteString(",")
		}
		fmt.Fprintf(&text, "\n    %s", line)
	}
	text.WriteString("\n  ]\n}\n")
	return os.WriteFile(file, []byte(text.String()), 0o644)
}

// readResults reads a file of results.
func readResults(file string) (r results, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// value finds one figure.
func (r results) value(name, unit string) (float64, error) {
	for _, one := range r.Rows {
		if one.Name != name {
			continue
		}
		if v, has := one.Values[unit]; has {
			return v, nil
		}
		return 0, fmt.Errorf("the row %q has no %q", name, unit)
	}
	return 0, fmt.Errorf("there is no row %q", name)
}

// units are what figures are in, in the order of the columns of a table.
var units = []struct{ name, head string }{
	{"cpu_us", "processor, µs"},
	{"helper_us", "of the server it asks, µs"},
	{"ns", "least, ns"},
	{"allocs", "allocations"},
	{"alloc_kb", "KB allocated"},
	{"per_second", "a second"},
	{"p50_us", "median, µs"},
	{"p99_us", "99 %, µs"},
	{"max_ms", "longest, ms"},
	{"ms", "ms"},
	{"least_ms", "least, ms"},
	{"cpu_ms", "processor, ms"},
	{"faults", "new pages"},
	{"rss_mb", "resident, MB"},
	{"grown_mb", "grown by, MB"},
	{"heap_mb", "live heap, MB"},
	{"goroutines", "goroutines"},
	{"mb", "MB"},
	{"requests", "requests"},
	{"mixed", "identities mixed up"},
}

// limits are how many times as much as the base a row may take, by its beginning and unit.
var limits = []struct {
	row, unit string
	limit     float64
}{
	{"code/", "ns", 1.03},
	{"start/program", "mb", 1.15},
	{"start/ready", "ms", 1.1},
	{"start/", "rss_mb", 1.15},
}

// over are the rows that take more than they may, each with a sentence.
func over(rows []row) (said []string) {
	for _, r := range rows {
		for _, l := range limits {
			if base := r.Base[l.unit]; strings.HasPrefix(r.Name, l.row) && base > 0 && r.Values[l.unit]/base > l.limit {
				said = append(said, fmt.Sprintf("OVER %s: %g and not %g %s, %.3f times, limit %g", r.Name, r.Values[l.unit], base, l.unit, r.Values[l.unit]/base, l.limit))
			}
		}
	}
	return said
}

func printOver(rows []row) int {
	said := over(rows)
	for _, line := range said {
		fmt.Println(line)
	}
	return len(said)
}
