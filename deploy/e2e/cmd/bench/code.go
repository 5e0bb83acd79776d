package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// packages are those whose benchmarks need no process but their own. :: name → folder
var packages = map[string]string{
	"plugin": "plugin", "issuer": "issuer", "sealing": "sealing", "cmd": "cmd/mcpbouncer",
	"yaegi": "deploy/e2e",
}

// apart are benchmarks that measure something else than the time of an operation, or a whole
// process.
var apart = regexp.MustCompile(`^Benchmark(MemoryGuard|RefreshesAtOnce|Lambda|PageFault)$`)

// code runs each Go benchmark alone, on one processor, for a tenth of a second at a time. The least
// time that an operation took in any round counts, since other work on the machine can only add to
// it; a row over its limit has three times the rounds before it is believed.
func (b *bench) code() {
	for _, s := range b.sides {
		for _, name := range slices.Sorted(maps.Keys(packages)) {
			s.testProgram(b.t, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		list, err := output(b.sides[0].root, b.sides[0].programs[name], "-test.list", "^Benchmark")
		if err != nil {
			b.t.Fatalf("%v", err)
		}
		for _, benchmark := range strings.Fields(list) {
			if apart.MatchString(benchmark) || !b.wants("code/"+name+" "+strings.TrimPrefix(benchmark, "Benchmark")) {
				continue
			}
			if err := b.benchmark(name, benchmark, max(1, b.rounds/2)); err != nil {
				b.t.Fatalf("%v", err)
			}
		}
	}
}

// testProgram builds the test program of a package of this revision.
func (s *side) testProgram(t rig.T, name string) {
	if s.programs == nil {
		s.programs = map[string]string{}
	}
	if s.programs[name] != "" {
		return
	}
	s.programs[name] = filepath.Join(s.dir, name+".test")
	cmd := exec.Command("go", "test", "-c", "-o", s.programs[name], ".")
	cmd.Dir = filepath.Join(s.root, packages[name])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", packages[name], err, out)
	}
}

// mostMore is how much time a run has for further rounds: a base that is much older is slower or
// faster in many rows.
const mostMore = 4 * time.Minute

// benchmark runs one in so many rounds, and in three times more while a row looks slower.
func (b *bench) benchmark(name, benchmark string, times int) error {
	began := len(b.rows)
	var more time.Time
	for round := range 4 * times {
		if round == times {
			if len(over(b.finished(b.rows[began:]))) == 0 {
				break
			}
			more = time.Now()
		}
		if round >= times && b.more+time.Since(more) > mostMore {
			fmt.Printf("code/%s %s: no time for more rounds, its rows may be slower by chance\n", name, benchmark)
			break
		}
		for turn := range b.sides {
			s := b.sides[(round+turn)%len(b.sides)]
			found, err := s.runBenchmark(name, "^"+benchmark+"$", "100ms")
			if err != nil {
				return err
			}
			for _, m := range found {
				row := "code/" + name + " " + m.name
				b.note(s, row, "ns", m.figures["ns/op"])
				b.note(s, row, "allocs", m.figures["allocs/op"])
				b.note(s, row, "alloc_kb", m.figures["B/op"]/1000)
			}
		}
	}
	if !more.IsZero() {
		b.more += time.Since(more)
	}
	return nil
}

// measured is a line of a Go benchmark. :: figures: unit → value
type measured struct {
	name    string // without "Benchmark"
	figures map[string]float64
}

var line = regexp.MustCompile(`(?m)^Benchmark(\S+)\s+\d+\s+(.*)$`)

// runBenchmark runs what matches once, for so long or so often.
func (s *side) runBenchmark(name, pattern, howLong string) (found []measured, err error) {
	cmd := exec.Command(s.programs[name], "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", howLong, "-test.cpu", "1", "-test.benchmem")
	cmd.Dir = filepath.Join(s.root, packages[name])
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %v: %s", name, pattern, err, bytes.TrimSpace(out))
	}
	for _, row := range line.FindAllStringSubmatch(string(out), -1) {
		m := measured{strings.ReplaceAll(row[1], "_", " "), map[string]float64{}}
		pairs := strings.Fields(row[2])
		for i := 0; i+1 < len(pairs); i += 2 {
			v, err := strconv.ParseFloat(pairs[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", row[1], row[2], err)
			}
			m.figures[pairs[i+1]] = v
		}
		found = append(found, m)
	}
	return found, nil
}

// lambda runs the benchmarks of the real zip over the real Runtime API; of this tree only, since
// they take what deploy/e2e/tools.sh has built of it.
func (b *bench) lambda() {
	s := b.sides[0]
	s.testProgram(b.t, "yaegi")
	named := map[string]string{
		"ms-to-next": "ms", "ms-to-next-at-least": "least_ms", "cpu-ms": "cpu_ms", "faults/op": "faults",
		"cpu-us/op": "cpu_us", "MB-peak": "rss_mb", "ns/op": "ns",
	}
	take := func(pattern, times string, only ...string) {
		found, err := s.runBenchmark("yaegi", pattern, times)
		if err != nil || len(found) == 0 {
			b.t.Fatalf("%s: %d rows, %v", pattern, len(found), err)
		}
		for _, m := range found {
			for unit, v := range m.figures {
				if slices.Contains(only, named[unit]) {
					b.note(s, "lambda/"+strings.ReplaceAll(strings.TrimPrefix(m.name, "Lambda/"), "/", ", "), named[unit], v)
				}
			}
		}
	}
	for range max(1, b.rounds/3) {
		take("^BenchmarkLambda$/^init$", "5x", "ms", "least_ms", "cpu_ms", "faults")
		take("^BenchmarkLambda$/^refused$", "200x", "cpu_us")
		take("^BenchmarkPageFault$", "100000x", "ns")
	}
	take("^BenchmarkLambda$/^login$", "1x", "rss_mb")
	info, err := os.Stat(rig.Tool(b.t, "lambda.zip"))
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	b.note(s, "lambda/zip", "mb", float64(info.Size())/1e6)
}
