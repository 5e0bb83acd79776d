package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// WriteJSON writes the whole report as one JSON object.
func (r *Report) WriteJSON(out io.Writer) error {
	shown := *r
	shown.Subject, shown.Unable = Printable(r.Subject, maxText), Printable(r.Unable, maxText)
	shown.Findings = make([]Finding, len(r.Findings)) // an empty list is [], never null
	for i, f := range r.Findings {
		shown.Findings[i] = f.printable()
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(shown)
}

// WriteText writes a line for each finding, the verdicts, and a last line that sums up.
func (r *Report) WriteText(out io.Writer) error {
	t := NewText(out)
	for _, f := range r.Findings {
		t.Finding(f)
	}
	t.End(r)
	return t.err
}

// Text writes findings while they are made. Colour appears only on a terminal, and not where
// NO_COLOR is set.
type Text struct {
	out    io.Writer
	colour bool
	// tall gives fault and remedy lines of their own, for a person at a terminal. Anywhere else a
	// finding is one line, which grep finds whole.
	tall bool
	err  error
}

func NewText(out io.Writer) *Text {
	terminal := Terminal(out)
	return &Text{out: out, tall: terminal, colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

const (
	green  = "32"
	yellow = "33"
	red    = "31"
)

func (t *Text) paint(colour, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (t *Text) write(text string) {
	if _, err := io.WriteString(t.out, text); err != nil && t.err == nil {
		t.err = err
	}
}

// Finding writes one line; at a terminal, up to three. Lines are not broken further, so that what a
// remedy says to write can be copied.
func (t *Text) Finding(f Finding) {
	f = f.printable()
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	switch {
	case f.Wrong():
		b.WriteString(t.paint(red, "WRONG"))
	case f.Note:
		b.WriteString(t.paint(yellow, "note "))
	default:
		b.WriteString(t.paint(green, "ok   "))
	}
	b.WriteString(" " + f.Check + ": ")
	var parts []string
	if f.Expected != "" && (f.Wrong() || f.Note || f.Seen == "") {
		parts = append(parts, "expected "+f.Expected)
	}
	if f.Seen != "" {
		parts = append(parts, "seen "+f.Seen)
	}
	var whose []string
	if f.Fault != "" {
		whose = append(whose, "fault: "+string(f.Fault))
	}
	if len(f.Breaks) > 0 {
		whose = append(whose, "breaks: "+strings.Join(f.Breaks, ", "))
	}
	if len(f.Hinders) > 0 {
		whose = append(whose, "hinders: "+strings.Join(f.Hinders, ", "))
	}
	rows := []string{strings.Join(parts, "; ")}
	if len(whose) > 0 {
		rows = append(rows, strings.Join(whose, "; "))
	}
	if f.Remedy != "" {
		rows = append(rows, "remedy: "+f.Remedy)
	}
	between := "; "
	if t.tall {
		between = "\n      "
	}
	b.WriteString(strings.Join(rows, between))
	if f.Page != "" {
		b.WriteString(" (" + f.Page + ")")
	}
	t.write(b.String() + "\n")
}

// End writes the verdicts and what all comes to.
func (t *Text) End(r *Report) {
	if len(r.Verdicts) > 0 {
		t.write("\n")
	}
	verdicts := r.Verdicts
	if why, ok := r.oneReason(); ok {
		t.write(t.paint(red, "BREAKS") + " " + EveryClient + ": " + Printable(why, maxText) + "\n")
		verdicts = nil
	}
	for i, v := range verdicts {
		why := strings.Join(v.Why, ", ")
		same := func(of Verdict) bool { return !of.Works && strings.Join(of.Why, ", ") == why }
		switch {
		case v.Works && len(v.But) > 0:
			t.write(t.paint(yellow, "works") + "  " + v.Client + ", but see " + Printable(strings.Join(v.But, ", "), maxText) + "\n")
		case v.Works:
			t.write(t.paint(green, "works") + "  " + v.Client + "\n")
		case !slices.ContainsFunc(verdicts[:i], same): // one line for all that break by the same
			var clients []string
			for _, of := range verdicts[i:] {
				if same(of) {
					clients = append(clients, of.Client)
				}
			}
			t.write(t.paint(red, "BREAKS") + " " + strings.Join(clients, ", ") + ": " + Printable(why, maxText) + "\n")
		}
	}
	t.write("\n" + r.sum() + "\n")
	// What is at the end of a terminal is read first.
	if f, ok := r.first(); ok && len(r.Verdicts) > 0 {
		f = f.printable()
		begin := "Begin with " + t.paint(red, f.Check) + " (fault: " + string(f.Fault) + "): " + f.Remedy
		if f.Page != "" {
			begin += " (" + f.Page + ")"
		}
		t.write(begin + "\n")
	}
}

// sum is the report in one line: what was looked at, and what that came to. lint tells of faults
// alone, so there the number of its findings is no number of checks.
func (r *Report) sum() string {
	wrong, notes := 0, 0
	for _, f := range r.Findings {
		if f.Wrong() {
			wrong++
		} else if f.Note {
			notes++
		}
	}
	var parts []string
	if r.Unable != "" {
		parts = append(parts, "could not go on: "+Printable(r.Unable, maxText))
	}
	if n := len(r.Findings); n > wrong+notes {
		parts = append(parts, count(n, "check"))
	}
	if wrong > 0 {
		parts = append(parts, fmt.Sprint(wrong, " wrong"))
	} else if r.Unable == "" {
		parts = append(parts, "nothing wrong")
	}
	if notes > 0 {
		parts = append(parts, count(notes, "note"))
	}
	return Printable(r.Subject, maxText) + ": " + strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// oneReason is why no client works, where it is the same for all.
func (r *Report) oneReason() (why string, ok bool) {
	for i, v := range r.Verdicts {
		if v.Works || i > 0 && strings.Join(v.Why, ", ") != why {
			return "", false
		}
		why = strings.Join(v.Why, ", ")
	}
	return why, len(r.Verdicts) > 1
}

// first is the finding to begin with: the first that breaks every client, or else the first of all.
// Later ones often follow from it.
func (r *Report) first() (Finding, bool) {
	for _, breaksAll := range []bool{true, false} {
		for _, f := range r.Findings {
			if f.Wrong() && (!breaksAll || slices.Contains(f.Breaks, EveryClient)) {
				return f, true
			}
		}
	}
	return Finding{}, false
}

// Terminal says whether a person watches.
func Terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Progress tells a person at a terminal what a slow step waits for, on a line that the next one
// overwrites. It writes nothing anywhere else. A nil Progress says nothing.
type Progress struct{ out io.Writer }

// NewProgress writes to out, standard error as a rule, if it is a terminal.
func NewProgress(out io.Writer) *Progress {
	if !Terminal(out) {
		return nil
	}
	return &Progress{out: out}
}

// Say replaces what stands there. An empty text takes it away.
func (p *Progress) Say(text string) {
	if p != nil {
		fmt.Fprintf(p.out, "\r\x1b[K%s", Printable(text, 100))
	}
}
