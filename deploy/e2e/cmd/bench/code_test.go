package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// program stands for a test program: its n-th run takes the n-th of times, and the last one from
// then on.
func program(t *testing.T, times ...int) *side {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	script := fmt.Sprintf(`#!/bin/sh
cd %s
echo run >>runs
set -- %s
n=$(wc -l <runs)
[ "$n" -le $# ] || n=$#
shift $((n - 1))
echo "BenchmarkA/row   1000   $1 ns/op   3 B/op"
echo "BenchmarkA/other   1000   7.5 ns/op"
`, dir, strings.Trim(fmt.Sprint(times), "[]"))
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "sealing"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &side{root: root, programs: map[string]string{"sealing": file}}
}

func TestBenchCountsAsSlower(t *testing.T) {
	for _, c := range []struct {
		name         string
		base, head   []int
		over, rounds int
	}{
		{"the same", []int{100}, []int{100}, 0, 2},
		{"three hundredths more", []int{100}, []int{103}, 0, 2},
		{"more than that, whenever it runs", []int{100}, []int{104}, 1, 8},
		{"slower in one round only", []int{100}, []int{150, 100}, 0, 2},
		{"slower until the rounds beyond the first", []int{100}, []int{150, 150, 150, 100}, 0, 8},
		{"faster", []int{100}, []int{50}, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{t: t, sides: []*side{program(t, c.head...), program(t, c.base...)}}
			err := b.benchmark("sealing", "BenchmarkA", 2)
			if got := over(b.finished(b.rows)); err != nil || len(got) != c.over {
				t.Errorf("want %d over, got %q, %v", c.over, got, err)
			}
			runs, _ := os.ReadFile(filepath.Join(filepath.Dir(b.sides[0].programs["sealing"]), "runs"))
			if n := strings.Count(string(runs), "run"); n != c.rounds {
				t.Errorf("want %d rounds, got %d", c.rounds, n)
			}
		})
	}
}

func TestBenchMeasuresTheRowsThatAreWanted(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		wanted        bool
	}{
		{".", "traefik", true},
		{".", "traefik/GET, bare", true},
		{"traefik/", "traefik", true},
		{"traefik/", "sidecar", false},
		{"traefik/GET", "traefik/1 KB, bare", false},
		{"traefik/|sidecar/refresh", "sidecar", true},
		{"traefik/|sidecar/refresh", "start", false},
		{"sidecar/(keys|login)", "sidecar", true},
		{"sidecar/(keys|login)", "lambda", false},
		{"refresh", "sidecar", true},
		{"refresh", "sidecar/register", false},
		{"^code/yaegi", "code", true},
	} {
		b := &bench{wanted: regexp.MustCompile(c.pattern)}
		if b.wants(c.name) != c.wanted {
			t.Errorf("ROWS=%s: %s: want %t", c.pattern, c.name, c.wanted)
		}
	}
}
