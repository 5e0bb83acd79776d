package logins

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// WriteText writes the list for people. Names in it come from strangers.
func (l *List) WriteText(out io.Writer) error {
	var b strings.Builder
	people, count := map[[2]string]bool{}, map[State]int{}
	for _, o := range l.Logins {
		count[o.State]++
		if o.State == Living {
			people[[2]string{o.Issuer, o.Subject}] = true
		}
	}
	if l.Events == 0 {
		fmt.Fprintf(&b, "The log holds no event: give it all lines of the sidecar, at BOUNCER_LOG_LEVEL info or debug. Lines that were skipped: %d.\n", l.Skipped)
		l.writeDoubts(&b)
		_, err := io.WriteString(out, b.String())
		return err
	}
	fmt.Fprintf(&b, "Logged in at %s: logins: %d, people and machines: %d.\n", clock(l.Now), count[Living], len(people))
	if n := count[Unclear]; n > 0 {
		fmt.Fprintf(&b, "Logins of which the log says that they ended, and that they went on: %d.\n", n)
	}
	fmt.Fprintf(&b, "The log goes from %s to %s; events: %d, lines that were skipped: %d. Times are UTC.\n", clock(l.From), clock(l.To), l.Events, l.Skipped)
	l.writeDoubts(&b)
	if len(l.Logins) > 0 {
		b.WriteString("\n")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		head := "STATE\tWHO\tTENANT\tCLIENT\tSINCE\tLAST REFRESH\tUNTIL\tLOGIN"
		if slices.ContainsFunc(l.Logins, func(o *Login) bool { return o.Cause != "" }) {
			head += "\tCAUSE"
		}
		fmt.Fprintln(table, head)
		for _, o := range l.Logins {
			until := later(o.Until, o.Token)
			if o.State != Living {
				until = o.Over
			}
			state := string(o.State)
			if o.Machine && o.State == Living {
				state = "machine"
			}
			since := short(o.Since)
			if o.Since.IsZero() && o.ID != "" {
				since = "before the log"
			}
			row := []string{state, name(cmp.Or(o.Sub, o.Subject)), name(o.Tenant), name(cmp.Or(o.Name, o.Client)), since, short(o.Refreshed),
				short(until), name(o.ID), report.Printable(o.Cause, 200)}
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

// writeDoubts names what may be missing.
func (l *List) writeDoubts(b *strings.Builder) {
	if l.Unreadable > 0 {
		places := make([]string, 0, len(l.UnreadableAt))
		for _, place := range l.UnreadableAt {
			places = append(places, report.Printable(place, 100))
		}
		if l.Unreadable > len(places) {
			places = append(places, "…")
		}
		fmt.Fprintf(b, "Lines that hold an event and cannot be read: %d (%s). What they say is missing here.\n", l.Unreadable, strings.Join(places, ", "))
	}
	if len(l.UnknownEvents) > 0 {
		var names []string
		for _, event := range slices.Sorted(maps.Keys(l.UnknownEvents)) {
			names = append(names, fmt.Sprintf("%s (%d)", name(event), l.UnknownEvents[event]))
		}
		fmt.Fprintf(b, "Events that this version does not know: %s. Use the version of the sidecar that wrote them.\n", strings.Join(names, ", "))
	}
	if l.Apart > 0 {
		fmt.Fprintf(b, "Lines contradict each other by up to %s: the clocks of replicas differ, one was set, or replicas have no replay guard in common.\n", time.Duration(l.Apart)*time.Second)
	}
}

func name(text string) string { return cmp.Or(report.Printable(text, 60), "-") }

// short is clock in the table, which has to fit a terminal: the line above it says UTC.
func short(t time.Time) string { return strings.TrimSuffix(clock(t), "Z") }

// clock is short, and sorts.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}
