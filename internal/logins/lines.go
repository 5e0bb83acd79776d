package logins

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// line is what is read of an event (docs/audit.md).
type line struct {
	Time         time.Time `json:"time"`
	Event        string    `json:"event"`
	Tenant       string    `json:"tenant"`
	Issuer       string    `json:"issuer"`
	Client       string    `json:"client"`
	Document     string    `json:"document"`
	Subject      string    `json:"subject"`
	Sub          string    `json:"sub"`
	Family       string    `json:"family"`
	Name         string    `json:"name"`
	Expires      time.Time `json:"expires"`
	RefreshUntil time.Time `json:"refresh_until"`
	Ends         time.Time `json:"ends"`
	Repeated     bool      `json:"repeated"`
	Because      string    `json:"because"`
	Cause        string    `json:"cause"`
	Error        string    `json:"error"`
	Description  string    `json:"description"`
	Label        string    `json:"label"`
	Now          raw       `json:"now"`

	from moment
}

// raw is a value of any type, as it was written.
type raw string

func (r *raw) UnmarshalJSON(text []byte) error {
	*r = raw(text)
	return nil
}

// A source is what one replica wrote, or whatever came together without a name of who wrote it.
type source struct {
	lines int
	last  time.Time
	// mixed says that its times go back: several replicas wrote it, or a clock was set. Then the
	// order of its lines says no more than their times do.
	mixed bool
}

// A moment is the time of a line, by the clock of whoever wrote it, and the line's place among that
// one's lines.
type moment struct {
	at    time.Time
	from  *source
	place int
}

// backwards is by how much lines of one process can be out of order: their times are taken before
// they wait for one another.
const backwards = time.Second

func (s *source) next(at time.Time) moment {
	s.lines++
	if at.Add(backwards).Before(s.last) {
		s.mixed = true
	}
	s.last = at
	return moment{at, s, s.lines}
}

// maxLine bounds a line. The sidecar's have a few KB.
const maxLine = 1 << 20

// prefixes stand before a line, and may name who wrote it: that of docker compose or of kubectl,
// then a time, then the stream's name of aws logs tail. A text that only contains an event
// somewhere is not one: whoever can make another program log something could invent logins.
var prefixes = lazyregexp.Regexp{Text: `^(?:([\w.@-]+) +\| |\[pod/([\w./-]+)\] )?(?:\d{4}-\d\d-\d\dT\S+ (?:([\w.$/[\]-]*/[\w.$/[\]-]*) )?)?`}

// inFile is the rest of a line in Kubernetes' files (CRI), whose time prefixes has taken: P is a
// part that the next line of the stream goes on with, F the last one.
var inFile = lazyregexp.Regexp{Text: `^(?:stdout|stderr) ([FP])(?::\S*)? `}

// maxPlaces is how many lines that cannot be read are named.
const maxPlaces = 5

// readLines calls event with each event. What it cannot read it counts in the list.
func (l *List) readLines(log Log, event func(*line)) error {
	in := bufio.NewReaderSize(log.Text, 64<<10)
	sources := map[string]*source{}
	var parts []byte // of one line
	for number := 1; ; number++ {
		unreadable := func() {
			l.Unreadable++
			if len(l.UnreadableAt) < maxPlaces {
				l.UnreadableAt = append(l.UnreadableAt, fmt.Sprintf("%s:%d", cmp.Or(log.Name, "line"), number))
			}
		}
		text, long, err := readLine(in)
		if errors.Is(err, io.EOF) {
			if len(parts) > 0 {
				unreadable()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s, behind line %d: %w", cmp.Or(log.Name, "the log"), number-1, err)
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 && !long {
			continue
		}
		found := prefixes.Get().FindSubmatchIndex(text)
		name := ""
		for i := 2; i < len(found); i += 2 {
			if found[i] >= 0 {
				name += string(text[found[i]:found[i+1]])
			}
		}
		text = text[found[1]:]
		if found := inFile.Get().FindSubmatch(text); found != nil {
			text = text[len(found[0]):]
			if len(parts)+len(text) > maxLine {
				parts, long = nil, true
			} else if found[1][0] == 'P' {
				parts = append(parts, text...)
				continue
			} else if parts != nil {
				text, parts = append(parts, text...), nil
			}
		}
		e, broken := readEvent(text)
		switch {
		case long, broken:
			unreadable()
		case e == nil:
			l.Skipped++
		default:
			from := sources[name]
			if from == nil {
				from = &source{}
				sources[name] = from
			}
			e.from = from.next(e.Time)
			event(e)
		}
	}
}

// readLine returns a line without its end; long says that it was cut off.
func readLine(in *bufio.Reader) (text []byte, long bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(text)+len(part) <= maxLine {
			text = append(text, part...)
		} else {
			long = true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(text) > 0 || long):
			return text, long, nil
		}
		return text, long, err
	}
}

// hasEvent stands in each event as the sidecar writes it, and as Docker's json-file quotes it.
var hasEvent = lazyregexp.Regexp{Text: `\\?"event\\?":`}

// readEvent returns nil for what is not an event. broken says that it is a piece of one, or one
// that says less than its kind does.
func readEvent(text []byte) (e *line, broken bool) {
	whole := text
	if bytes.HasPrefix(text, []byte(`{"log":`)) { // Docker's json-file
		var file struct {
			Log    string `json:"log"`
			Stream string `json:"stream"`
		}
		if json.Unmarshal(text, &file) == nil && file.Stream != "" {
			text = []byte(file.Log)
		}
	}
	if len(text) == 0 || text[0] != '{' || json.Unmarshal(text, &e) != nil {
		return nil, len(whole) > 0 && whole[0] == '{' && !json.Valid(whole) || hasEvent.Get().Match(whole)
	}
	if e.Event == "" {
		return nil, false
	}
	if e.Time.IsZero() || needsLogin[e.Event] && (e.Family == "" || e.Issuer == "") {
		return nil, true
	}
	e.Time, e.Expires, e.RefreshUntil, e.Ends = e.Time.UTC(), e.Expires.UTC(), e.RefreshUntil.UTC(), e.Ends.UTC()
	return e, false
}
