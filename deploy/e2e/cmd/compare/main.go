// Command compare runs the benchmarks of two revisions alternately and says which became slower.
//
//	go run ./cmd/compare [-bench REGEXP] [-rounds N] [-limit 1.03] BASE [HEAD]
//
// BASE and HEAD are what git understands; without HEAD it is the working tree. Each benchmark runs
// alone, the two revisions in turn, on one processor, for a tenth of a second at a time. What
// counts is the least time an operation took in any round: other work on the machine can only add
// to it. Rows over the limit run again, with three times the rounds, before they are reported; the
// exit status is 1 when one stays over. "Process" in REGEXP stands for the rows of the sidecar as a
// process (process.go).
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// packages are those whose benchmarks need no process but their own. :: name → folder
var packages = map[string]string{
	"plugin": "plugin", "issuer": "issuer", "sealing": "sealing", "cmd": "cmd/mcpbouncer",
	"yaegi": "deploy/e2e",
}

// slow are benchmarks that measure something else than the time of an operation, or a whole
// process.
var slow = regexp.MustCompile(`^Benchmark(MemoryGuard|RefreshesAtOnce|Sidecar|Lambda|PageFault)$`)

// revision is one side of the comparison: its sources and its test programs. :: package → program
type revision struct {
	root     string
	programs map[string]string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
	pattern := flag.String("bench", ".", "benchmarks to run, a regular expression")
	rounds := flag.Int("rounds", 8, "rounds of each benchmark")
	limit := flag.Float64("limit", 1.03, "how much longer an operation may take")
	flag.Parse()
	if flag.NArg() < 1 || flag.NArg() > 2 {
		log.Fatal("give one or two revisions")
	}
	over, err := compare(flag.Arg(0), flag.Arg(1), regexp.MustCompile(*pattern), *rounds, *limit)
	if err != nil {
		log.Fatal(err)
	}
	if over > 0 {
		log.Fatalf("%d rows are over %g, or failed", over, *limit)
	}
}

// compare prints all rows of what is wanted, and says how many are over the limit.
func compare(base, head string, wanted *regexp.Regexp, rounds int, limit float64) (int, error) {
	over := 0
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	top, err := output("git", "rev-parse", "--show-toplevel")
	if err != nil {
		return 0, err
	}
	var sides [2]revision
	for i, name := range []string{base, head} {
		root := top
		if name != "" {
			root = filepath.Join(dir, fmt.Sprint("tree", i))
			if _, err := output("git", "worktree", "add", "--detach", root, name); err != nil {
				return 0, err
			}
			defer output("git", "worktree", "remove", "--force", root)
		}
		if sides[i], err = build(root, filepath.Join(dir, fmt.Sprint("side", i))); err != nil {
			return 0, err
		}
	}
	if wanted.MatchString("Process") {
		if over, err = compareProcesses(sides, dir); err != nil {
			return 0, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		list, err := output(sides[0].programs[name], "-test.list", "^Benchmark")
		if err != nil {
			return 0, err
		}
		for _, benchmark := range strings.Fields(list) {
			if slow.MatchString(benchmark) || !wanted.MatchString(benchmark) {
				continue
			}
			n, err := rows(sides, name, benchmark, rounds, limit)
			if err != nil {
				fmt.Println("FAILED", err)
				n = 1
			}
			over += n
		}
	}
	return over, nil
}

// build compiles the test programs of one revision.
func build(root, dir string) (revision, error) {
	r := revision{root, map[string]string{}}
	for name, folder := range packages {
		r.programs[name] = filepath.Join(dir, name)
		cmd := exec.Command("go", "test", "-c", "-o", r.programs[name], ".")
		cmd.Dir = filepath.Join(root, folder)
		if out, err := cmd.CombinedOutput(); err != nil {
			return r, fmt.Errorf("%s: %v: %s", folder, err, out)
		}
	}
	return r, nil
}

// rows prints the rows of one benchmark, and how many of them are over the limit.
func rows(sides [2]revision, name, benchmark string, rounds int, limit float64) (over int,
	err error) {
	least := [2]map[string]cost{{}, {}}
	looksSlower := func() bool {
		for row := range least[0] {
			if ratio(least, row) > limit {
				return true
			}
		}
		return false
	}
	for round := range 4 * rounds {
		// The rounds beyond the first are for rows that look slower.
		if round == rounds && !looksSlower() {
			break
		}
		for turn := range 2 {
			i := (round + turn) % 2 // each is first as often as the other
			if err := sides[i].run(name, benchmark, least[i]); err != nil {
				return 0, err
			}
		}
	}
	for _, row := range slices.Sorted(maps.Keys(least[0])) {
		if _, both := least[1][row]; !both {
			continue
		}
		mark := ""
		if ratio(least, row) > limit {
			mark = "  OVER"
			over++
		}
		before, after := least[0][row], least[1][row]
		fmt.Printf("%-8s %-48s %9.0f ns %9.0f ns %6.0f %6.0f allocations  %.3f%s\n", name,
			strings.TrimPrefix(row, "Benchmark"), before.ns, after.ns, before.allocs, after.allocs,
			ratio(least, row), mark)
	}
	return over, nil
}

// cost is what one operation takes: nanoseconds, and allocations, of which other work adds none.
type cost struct{ ns, allocs float64 }

func ratio(least [2]map[string]cost, row string) float64 {
	return least[1][row].ns / least[0][row].ns
}

var (
	line    = regexp.MustCompile(`(?m)^(Benchmark\S+)\s+\d+\s+([0-9.]+) ns/op(.*)$`)
	objects = regexp.MustCompile(`(\d+) allocs/op`)
)

// run runs one benchmark once and keeps the least time of each of its rows.
func (r revision) run(name, benchmark string, least map[string]cost) error {
	cmd := exec.Command(r.programs[name], "-test.run", "^$", "-test.bench", "^"+benchmark+"$",
		"-test.benchtime", "100ms", "-test.cpu", "1", "-test.benchmem")
	cmd.Dir = filepath.Join(r.root, packages[name])
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %v: %s", name, benchmark, err, bytes.TrimSpace(out))
	}
	for _, found := range line.FindAllStringSubmatch(string(out), -1) {
		took, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			return err
		}
		made := 0.0
		if n := objects.FindStringSubmatch(found[3]); n != nil {
			if made, err = strconv.ParseFloat(n[1], 64); err != nil {
				return err
			}
		}
		if before, is := least[found[1]]; is {
			took = min(took, before.ns)
			made = min(made, before.allocs)
		}
		least[found[1]] = cost{took, made}
	}
	return nil
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if failed, is := err.(*exec.ExitError); is {
		err = fmt.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
