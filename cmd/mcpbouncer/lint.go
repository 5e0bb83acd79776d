//go:build !onlyserve

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/lint"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

const aboutLint = `Reads FILEs that together are one deployment, and says what is wrong with it, with file, line and
the corrected line: compose files, Traefik's dynamic and static files, Kubernetes manifests, in
YAML. Variables are taken from a file .env beside a compose file. It asks nobody without --online.
With --docker it reads the running containers instead of a compose file: it asks the Docker API for
two lists, and changes nothing.
Status 0: nothing wrong was found; 1: something was; 2: it could not run.
`

const usualSocket = "unix:///var/run/docker.sock"

// dockerFlag takes --docker alone, --docker=ADDRESS, and the address behind it.
type dockerFlag struct{ address string }

func (f *dockerFlag) String() string   { return f.address }
func (f *dockerFlag) IsBoolFlag() bool { return true }

func (f *dockerFlag) Set(text string) error {
	switch f.address = text; text {
	case "true":
		if f.address = os.Getenv("DOCKER_HOST"); f.address == "" {
			f.address = usualSocket
		}
	case "false":
		f.address = ""
	}
	return nil
}

func runLint(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("lint", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	asJSON := flags.Bool("json", false, "write JSON, for programs")
	var docker dockerFlag
	flags.Var(&docker, "docker", "read the running containers; `ADDRESS` of Docker's API if it is not that of\nDOCKER_HOST or "+usualSocket)
	var s lint.Sources
	flags.BoolVar(&s.Online, "online", false, "ask as well, from here: each sidecar for its health, each provider for its discovery document,\neach MCP server for its challenge")
	for rest := args; ; { // flags before and behind the files
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, "usage: mcpbouncer lint [--json] [--online] FILE...\n       mcpbouncer lint [--json] [--online] --docker [ADDRESS] [FILE...]\n\n"+aboutLint+"\n")
			flags.SetOutput(out)
			flags.PrintDefaults()
			return nil
		} else if err != nil {
			return unable("lint", err)
		}
		if rest = flags.Args(); len(rest) == 0 {
			break
		}
		if docker.address != "" && strings.Contains(rest[0], "://") {
			docker.address = rest[0]
		} else {
			s.Files = append(s.Files, rest[0])
		}
		rest = rest[1:]
	}
	if s.Docker = docker.address; len(s.Files) == 0 && s.Docker == "" {
		return unable("lint", errors.New("name the files of one deployment: mcpbouncer lint compose.yaml traefik.yaml dynamic.yaml"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	text := report.NewText(out)
	r := s.Run(ctx)
	if !*asJSON {
		for _, f := range r.Findings {
			text.Finding(f)
		}
	}
	return finish(r, out, text, *asJSON)
}
