//go:build go1.21

package plugin

import (
	"log"
	"strings"
	"sync"
	"unicode"
)

// period is a time for which something holds, in Unix seconds. It ends early for a clock that is
// set back to before its beginning: otherwise it would last for as long as the clock had been
// ahead.
type period struct{ from, until int64 }

// during says whether a period holds. The clock must be read after the period was written, so under
// the lock of the period: an earlier reading looks like a clock that was set back.
func during(p period, at int64) bool { return at >= p.from && at < p.until }

const (
	quietPeriod   = 10 // seconds
	minComplaints = 1024
	maxLine       = 4096 // bytes of one line's text
)

// complaints holds for how long no line is written about a cause, for each middleware.
var complaints = struct {
	sync.Mutex
	quiet map[string]period // by middleware and cause: as many as there are, for quietPeriod
	sweep int               // how many there may be before those that are over go
}{quiet: map[string]period{}, sweep: minComplaints}

// complain logs a line for the operator. Strangers can cause it, so there is one line in ten
// seconds for each cause and middleware, whatever its text is. With a line for each text, whoever
// chooses a part of it could fill the log, or crowd the map.
func complain(middleware, cause, text string) {
	key := middleware + "\n" + cause
	complaints.Lock()
	at := now().Unix()
	quiet := during(complaints.quiet[key], at)
	if !quiet {
		if len(complaints.quiet) >= complaints.sweep {
			sweepComplaints(at)
		}
		complaints.quiet[key] = period{from: at, until: at + quietPeriod}
	}
	complaints.Unlock()
	if !quiet {
		log.Printf("mcpbouncer: middleware %q: %s", middleware, plainLine(text))
	}
}

// sweepComplaints needs complaints locked.
func sweepComplaints(at int64) {
	for key, quiet := range complaints.quiet {
		if !during(quiet, at) {
			delete(complaints.quiet, key)
		}
	}
	complaints.sweep = 2*len(complaints.quiet) + minComplaints
}

// plainLine cuts a text, and shows characters that are not printable as "?". Whatever answers at
// sidecarURL has chosen a part of some errors: net/http cites a malformed header, however long it
// is.
func plainLine(text string) string {
	if len(text) > maxLine {
		text = text[:maxLine] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
