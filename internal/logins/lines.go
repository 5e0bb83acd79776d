package logins

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"time"
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
	Before       raw       `json:"before"`
	Now          raw       `json:"now"`
}

// raw is a value of any type, as it was written: "before" is a text of a label and a number of a
// key.
type raw string

func (r *raw) UnmarshalJSON(text []byte) error {
	*r = raw(text)
	return nil
}

// maxLine bounds a line. The sidecar's have a few KB.
const maxLine = 1 << 20

// prefixes stand before a line. A text that only contains an event somewhere is not one: whoever
// can make another program log something could invent logins.
var prefixes = regexp.MustCompile(`^(?:[\w.-]+ +\| |\[pod/[\w./-]+\] )?(?:\d{4}-\d\d-\d\dT\S+ )?`)

// inFile is the rest of a line in Kubernetes' files (CRI), whose time prefixes has taken: P is a
// part that the next line of the stream goes on with, F the last one.
var inFile = regexp.MustCompile(`^(?:stdout|stderr) ([FP])(?::\S*)? `)

// readLines returns the events, and how many other lines there are.
func readLines(log io.Reader) (events []*line, skipped int, err error) {
	in := bufio.NewReaderSize(log, 64<<10)
	var parts []byte // of one line
	for {
		text, long, err := readLine(in)
		if errors.Is(err, io.EOF) {
			if len(parts) > 0 {
				skipped++
			}
			return events, skipped, nil
		}
		if err != nil {
			return nil, 0, err
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 && !long {
			continue
		}
		text = text[len(prefixes.Find(text)):]
		if found := inFile.FindSubmatch(text); found != nil {
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
		if e := readEvent(text); e != nil && !long {
			events = append(events, e)
		} else {
			skipped++
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

// readEvent returns nil for what is not an event.
func readEvent(text []byte) *line {
	if len(text) == 0 || text[0] != '{' {
		return nil
	}
	var file struct { // of Docker's json-file
		Log    string `json:"log"`
		Stream string `json:"stream"`
	}
	if json.Unmarshal(text, &file) == nil && file.Log != "" && file.Stream != "" {
		text = []byte(file.Log)
	}
	var e line
	if json.Unmarshal(text, &e) != nil || e.Event == "" || e.Time.IsZero() {
		return nil
	}
	e.Time, e.Expires, e.RefreshUntil, e.Ends = e.Time.UTC(), e.Expires.UTC(), e.RefreshUntil.UTC(), e.Ends.UTC()
	return &e
}
