//go:build !onlyserve

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/logins"
)

const aboutLogins = `Says who is logged in, since when, with which client and until when, from the sidecar's log: files,
or standard input. Give it the log of each replica, as it is or as docker compose logs, kubectl
logs, aws logs tail, Docker's files or Kubernetes' files have it. Give it the sidecar's lines alone:
whatever else writes lines of that form could invent logins.
`

func runLogins(args []string, in io.Reader, out io.Writer, now time.Time) error {
	flags := flag.NewFlagSet("logins", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	all := flags.Bool("all", false, "also those that are over, and people who were refused, with the cause")
	tenant := flags.String("tenant", "", "only `NAME`: a tenant as the log names it, or its public URL")
	asJSON := flags.Bool("json", false, "write JSON, for programs")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, "usage: mcpbouncer logins [FLAGS] [LOG...]\n       mcpbouncer logins [FLAGS] < LOG\n\n"+aboutLogins+"\n")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return err
	}
	logs := []logins.Log{{Text: in}}
	for i, name := range flags.Args() {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("logins: %w; flags stand before the logs", err)
		}
		defer file.Close()
		logs = append(logs[:i], logins.Log{Name: name, Text: file})
	}
	list, err := logins.Read(now, logs...)
	if err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	list.Of(*tenant, *all)
	if !*asJSON {
		return list.WriteText(out)
	}
	return writeIndented(out, struct {
		*logins.List
		Unknown []string `json:"unknown"`
	}{list, logins.Unknown})
}
