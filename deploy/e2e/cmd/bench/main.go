// Command bench measures what people wait for, on one machine, everything in turn.
//
//	go run ./cmd/bench [-base REVISION] [-rows REGEXP] [-rounds N] [-out FILE]
//	go run ./cmd/bench -page
//
// A row is named group/what. The groups: traefik, what a request costs in a real Traefik;
// middlewares, how that and memory grow with their number; reloads, streams and identities, the
// same Traefik under strain; start, sidecar, strangers, the sidecar as a process; lambda, the same
// there; gateway, what does without the plugin in Traefik; code, the Go benchmarks of all packages,
// compiled and in Yaegi.
//
// In each round each row has its turn, so that other work on the machine meets all of them, and a
// figure is the median of the rounds; for Traefik's rows, which have four times as many, processor
// time and rate are means (shortTurns says why). With a base both revisions are built and driven by
// this program, pair by pair. What became slower by more than its limit is named, and the exit
// status is 1.
//
// A whole run is written to docs/benchmarks.json, and what follows from it to the pages: -page does
// the same without a run. A part of one goes to build/benchmarks.json. A request that is answered
// wrongly, and an identity that is another's, end the run.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// rounds of a whole run. With fewer it is none.
const rounds = 9

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	if len(os.Args) == 3 && os.Args[1] == "answer" {
		log.Fatal(answer(os.Args[2]))
	}
	if len(os.Args) == 4 && os.Args[1] == "proxy" {
		log.Fatal(proxy(os.Args[2], os.Args[3]))
	}
	base := flag.String("base", "", "revision to compare with")
	rows := flag.String("rows", ".", "rows to measure, a regular expression")
	times := flag.Int("rounds", rounds, "how often each row has its turn")
	out := flag.String("out", "", "file of the results")
	page := flag.Bool("page", false, "measure nothing, write the page of the last whole run")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("what is %q?", flag.Args())
	}
	if *page {
		if err := writePage(rig.Root()); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *out == "" {
		*out = filepath.Join(rig.Root(), "build", "benchmarks.json")
		if *rows == "." && *times >= rounds {
			*out = resultsFile(rig.Root())
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	over, err := run(ctx, *base, regexp.MustCompile(*rows), *times, *out)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("\n%s\n", *out)
	if over > 0 {
		log.Fatalf("%d rows are over their limit", over)
	}
}

// run measures, prints and writes. It says how many rows are over their limits.
func run(ctx context.Context, base string, wanted *regexp.Regexp, times int, out string) (over int, err error) {
	t := rig.NewLife(ctx, "bench")
	defer t.End(&err)
	began := time.Now()
	b := &bench{t: t, rounds: times, wanted: wanted}
	b.sides = newSides(t, base)
	for _, group := range []struct {
		name    string
		measure func(b *bench)
	}{
		{"traefik", (*bench).traefik}, {"middlewares", (*bench).middlewares}, {"reloads", (*bench).reloads},
		{"streams", (*bench).streams}, {"identities", (*bench).identities}, {"start", (*bench).starts},
		{"sidecar", (*bench).sidecar}, {"strangers", (*bench).strangers}, {"lambda", (*bench).lambda}, {"gateway", (*bench).gateway}, {"code", (*bench).code},
	} {
		if !b.wants(group.name) {
			continue
		}
		at := time.Now()
		before := len(b.rows)
		// What a group starts ends with it.
		life := rig.NewLife(ctx, "bench")
		b.t = life
		if err := func() (err error) {
			defer life.End(&err)
			group.measure(b)
			return nil
		}(); err != nil {
			return 0, fmt.Errorf("%s: %w", group.name, err)
		}
		fmt.Printf("\n%s (%.0f s)\n\n%s", group.name, time.Since(at).Seconds(), table(b.finished(b.rows[before:])))
	}
	r := results{
		Made: began.UTC().Format(time.DateOnly), Revision: b.sides[0].revision, Machine: thisMachine(),
		Rounds: times, Seconds: int(time.Since(began).Seconds()), Rows: b.finished(b.rows),
	}
	if base != "" {
		r.Base = b.sides[1].revision
	}
	if err = r.write(out); err == nil && out == resultsFile(rig.Root()) {
		err = writePage(rig.Root())
	}
	return printOver(r.Rows), err
}
