package main

import (
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// drift is how far what is counted may be from the results.
const drift = 0.05

// stale says why results are not of this code, or of another Traefik than the tests run. It looks
// at what neither time nor other work on the machine changes: results do not grow old by
// themselves.
func stale(r results, allocations map[string]float64, programMB float64, traefik string) (why []string) {
	apart := func(then, now float64) bool { return math.Abs(now-then) > drift*then+1 }
	if len(allocations) == 0 {
		why = append(why, "nothing was counted")
	}
	for name, now := range allocations {
		then, err := r.value(name, "allocs")
		if err != nil {
			why = append(why, err.Error())
		} else if apart(then, now) {
			why = append(why, fmt.Sprintf("%s: %g allocations, and %g in the results", name, now, then))
		}
	}
	then, err := r.value("start/program", "mb")
	if err != nil {
		why = append(why, err.Error())
	} else if math.Abs(programMB-then) > drift*then {
		why = append(why, fmt.Sprintf("the program has %.2f MB, and %.2f in the results", programMB, then))
	}
	if r.Machine.Traefik != traefik {
		why = append(why, fmt.Sprintf("the results are of Traefik %s, the tests run %s", r.Machine.Traefik, traefik))
	}
	return why
}

// count runs the benchmarks of this tree that are named as rows are, for a moment each, and often
// enough that what the first runs prepare for the others does not count.
func count(t rig.T, named []string) map[string]float64 {
	here := &side{root: rig.Root(), dir: t.TempDir()}
	counted := map[string]float64{}
	for _, one := range named {
		name, benchmark, _ := strings.Cut(strings.TrimPrefix(one, "code/"), " ")
		here.testProgram(t, name)
		found, err := here.runBenchmark(name, "^Benchmark"+benchmark+"$", "3000x")
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d rows, %v", one, len(found), err)
		}
		for _, m := range found {
			counted["code/"+name+" "+m.name] = m.figures["allocs/op"]
		}
	}
	return counted
}

// programMB is the size of the sidecar of this tree.
func programMB(t rig.T) float64 {
	info, err := os.Stat((&side{root: rig.Root(), dir: t.TempDir()}).sidecar(t))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return float64(info.Size()) / 1e6
}
