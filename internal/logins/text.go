package logins

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// WriteText writes the list for people. Names in it come from strangers.
func (l *List) WriteText(out io.Writer) error {
	var b strings.Builder
	people, living := map[[2]string]bool{}, 0
	for _, o := range l.Logins {
		if o.State == Living {
			living++
			people[[2]string{o.Issuer, o.Subject}] = true
		}
	}
	if l.Events == 0 {
		fmt.Fprintf(&b, "The log holds no event: give it all lines of the sidecar, at BOUNCER_LOG_LEVEL info or debug. Lines that were skipped: %d.\n", l.Skipped)
		_, err := io.WriteString(out, b.String())
		return err
	}
	fmt.Fprintf(&b, "Logged in at %s: logins: %d, people and machines: %d.\n", moment(l.Now), living, len(people))
	fmt.Fprintf(&b, "The log goes from %s to %s; events: %d, lines that were skipped: %d.\n", moment(l.From), moment(l.To), l.Events, l.Skipped)
	if len(l.Logins) > 0 {
		b.WriteString("\n")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "STATE\tWHO\tTENANT\tCLIENT\tSINCE\tLAST REFRESH\tUNTIL\tLATEST END\tLOGIN\tCAUSE")
		for _, o := range l.Logins {
			until := later(o.Until, o.Token)
			if o.State != Living {
				until = o.Over
			}
			state := string(o.State)
			if o.Machine && o.State == Living {
				state = "machine"
			}
			since := moment(o.Since)
			if o.Since.IsZero() && o.ID != "" {
				since = "before the log"
			}
			row := []string{state, name(cmp.Or(o.Sub, o.Subject)), name(o.Tenant), name(cmp.Or(o.Name, o.Client)), since, moment(o.Refreshed),
				moment(until), moment(o.Ends), name(o.ID), report.Printable(o.Cause, 200)}
			fmt.Fprintln(table, strings.TrimRight(strings.Join(row, "\t"), "\t "))
		}
		table.Flush()
	}
	b.WriteString("\nThe log does not say:\n")
	for _, what := range Unknown {
		b.WriteString("- " + what + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func name(text string) string { return cmp.Or(report.Printable(text, 60), "-") }

// moment is short, and sorts.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}
