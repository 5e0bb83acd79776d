package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/mcpbouncer/mcpbouncer/internal/lint"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

const aboutLint = `Reads FILEs that together are one deployment, and says what is wrong with it, with file, line and the corrected line: compose files,
and Traefik's dynamic and static files, in YAML. Variables are taken from a file .env beside a compose file. It asks nobody.
Status 0: nothing wrong was found; 1: something was; 2: it could not run.
`

func runLint(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("lint", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	asJSON := flags.Bool("json", false, "write JSON, for programs")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, "usage: mcpbouncer lint [--json] FILE...\n\n"+aboutLint+"\n")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return unable("lint", err)
	}
	if flags.NArg() == 0 {
		return unable("lint", errors.New("name the files of one deployment: mcpbouncer lint compose.yaml traefik.yaml dynamic.yaml"))
	}
	text := report.NewText(out)
	r := lint.Run(flags.Args())
	if !*asJSON {
		for _, f := range r.Findings {
			text.Finding(f)
		}
	}
	return finish(r, out, text, *asJSON)
}
