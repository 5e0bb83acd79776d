// Package report is how doctor and lint say what they found: a line for each check, a verdict for
// each client, and an exit status.
//
// What a finding holds may come from a stranger's server, so every text passes Printable on its
// way out: no terminal sees an escape sequence, and no line becomes two.
package report

import (
	"slices"
	"strings"
	"unicode"
)

// Fault is the part whose owner has to act.
type Fault string

const (
	Client   Fault = "client"
	Traefik  Fault = "traefik" // or what else stands in front: a name, a certificate, another proxy
	Label    Fault = "label"
	Sidecar  Fault = "sidecar"
	Provider Fault = "provider"
	Server   Fault = "server" // the MCP server, or an authorization server that is not MCPBouncer
)

// EveryClient stands in Breaks for all clients, also those without a verdict.
const EveryClient = "every client"

// Finding is what one check saw. Without a Fault all is as expected.
type Finding struct {
	Check    string `json:"check"`
	Expected string `json:"expected,omitempty"`
	Seen     string `json:"seen,omitempty"`
	Fault    Fault  `json:"fault,omitempty"`
	// Note says that nobody has to act: worth knowing, or not to be seen from here. It does not
	// change the exit status.
	Note bool `json:"note,omitempty"`
	// Breaks names the clients that cannot work while this stands.
	Breaks []string `json:"breaks,omitempty"`
	// Hinders names those that do without something, or work in some cases only.
	Hinders []string `json:"hinders,omitempty"`
	Remedy  string   `json:"remedy,omitempty"`
	// Page is a page of the documentation, from the root of the repository.
	Page string `json:"page,omitempty"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // from 1; 0 where there is none
}

// Wrong says that somebody has to act.
func (f Finding) Wrong() bool { return f.Fault != "" && !f.Note }

// Verdict is what the findings mean for one client.
type Verdict struct {
	Client string   `json:"client"`
	Works  bool     `json:"works"`
	Why    []string `json:"why,omitempty"` // the checks that break it
	But    []string `json:"but,omitempty"` // the checks that hinder it: it may fail for somebody
}

// Report is all that one run found.
type Report struct {
	Subject  string    `json:"subject"` // what was looked at
	Findings []Finding `json:"findings"`
	Verdicts []Verdict `json:"verdicts,omitempty"`
	// Unable is why it could not run to its end. Empty where it could.
	Unable string `json:"unable,omitempty"`
}

// Add takes findings in the order of the checks.
func (r *Report) Add(findings ...Finding) { r.Findings = append(r.Findings, findings...) }

// Judge makes the verdicts of these clients.
func (r *Report) Judge(clients ...string) {
	r.Verdicts = nil
	for _, client := range clients {
		v := Verdict{Client: client, Works: true}
		for _, f := range r.Findings {
			breaks := slices.Contains(f.Breaks, client) || slices.Contains(f.Breaks, EveryClient)
			if !breaks && !slices.Contains(f.Hinders, client) && !slices.Contains(f.Hinders, EveryClient) {
				continue
			}
			checks := &v.But
			if f.Wrong() && breaks {
				v.Works, checks = false, &v.Why
			}
			if !slices.Contains(*checks, f.Check) {
				*checks = append(*checks, f.Check)
			}
		}
		r.Verdicts = append(r.Verdicts, v)
	}
}

// The exit statuses of doctor and lint.
const (
	StatusGood   = 0 // nothing found
	StatusFound  = 1 // something found
	StatusUnable = 2 // it could not run
)

// Status is the exit status.
func (r *Report) Status() int {
	switch {
	case r.Unable != "":
		return StatusUnable
	case slices.ContainsFunc(r.Findings, Finding.Wrong):
		return StatusFound
	}
	return StatusGood
}

// maxText bounds one text of a finding, in characters.
const maxText = 600

// Printable makes of a stranger's text one that is safe on a terminal, on one line, and at most
// limit characters long. What is not printable is shown as a middle dot: escape sequences, control
// characters, and the marks that turn the direction of writing.
func Printable(text string, limit int) string {
	var b strings.Builder
	count := 0
	for _, r := range text {
		if count == limit {
			b.WriteString("…")
			break
		}
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case !unicode.IsPrint(r):
			r = '·'
		}
		b.WriteRune(r)
		count++
	}
	return b.String()
}

// printable is f with texts that are safe to show.
func (f Finding) printable() Finding {
	for _, text := range []*string{&f.Check, &f.Expected, &f.Seen, &f.Remedy, &f.Page, &f.File} {
		*text = Printable(*text, maxText)
	}
	for _, names := range []*[]string{&f.Breaks, &f.Hinders} {
		*names = slices.Clone(*names)
		for i := range *names {
			(*names)[i] = Printable((*names)[i], maxText)
		}
	}
	return f
}
