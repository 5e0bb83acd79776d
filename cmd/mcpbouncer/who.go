//go:build !onlyserve

package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const whoUsage = `usage: mcpbouncer who --issuer URL --sub SUBJECT < LOG
       mcpbouncer who --pseudonym TEXT < LOG-AND-SUBJECTS

The sidecar's log calls people by pseudonyms, other ones at each server. This says which person is which.
It wants the master secret (BOUNCER_ENCRYPTION_KEY or BOUNCER_ENCRYPTION_KEY_FILE), and on standard
input the sidecar's log: its lines "who may come in" name the servers. What docker compose logs, or
another program, writes in front of a line is passed over.

With --pseudonym, standard input has the people to try as well, in any order: lines of Traefik's
access log with X-Mcp-Sub, or subjects, one a line. The answer is the person, and the command that
denies them.

`

// maxLogLine is longer than a line of either program can be: Traefik takes requests of 64 KiB here.
const maxLogLine = 4 << 20

// people is what was asked for, and what standard input said.
type people struct {
	issuer, sub, pseudonym string

	ring    *sealing.Ring
	tenants []loggedTenant
	known   map[loggedTenant]bool
	// logins are those of a pseudonym, in the order of their first lines; byID has the same, as a
	// machine may have very many.
	logins   map[string][]*loggedLogin
	byID     map[[2]string]*loggedLogin // by pseudonym and id
	subjects []string
	offered  map[string]bool
}

// loggedTenant is what a line "who may come in" says of a tenant.
type loggedTenant struct {
	id                  sealing.TenantID
	publicURL, provider string
}

// loggedLogin is a login that lines name beside a pseudonym.
type loggedLogin struct {
	id, client  string
	first, last time.Time
	ended       bool
}

// runWho says which pseudonym is which person.
func runWho(args []string, in io.Reader, out io.Writer) error {
	p := &people{known: map[loggedTenant]bool{}, logins: map[string][]*loggedLogin{}, byID: map[[2]string]*loggedLogin{}, offered: map[string]bool{}}
	flags := flag.NewFlagSet("who", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	flags.StringVar(&p.issuer, "issuer", "", "the label providerIssuer")
	flags.StringVar(&p.sub, "sub", "", "the person's `subject` at that provider: what MCP servers get as X-Mcp-Sub")
	flags.StringVar(&p.pseudonym, "pseudonym", "", "what the log has as \"subject\", 16 characters")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		io.WriteString(out, whoUsage)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return fmt.Errorf("who: %w", err)
	}
	named := p.issuer != "" && p.sub != ""
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("who: %q stands behind the flags; --help lists them", flags.Arg(0))
	case named == (p.pseudonym != ""), !named && p.issuer+p.sub != "":
		return errors.New("who: give either --issuer and --sub, or --pseudonym")
	case p.pseudonym != "" && !pseudonym.Get().MatchString(p.pseudonym):
		return fmt.Errorf("who: --pseudonym %q is not one: 16 letters, digits, - or _, as \"subject\" in the log", report.Printable(p.pseudonym, 40))
	}
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	p.ring = e.ring
	if err := p.read(in); err != nil {
		return fmt.Errorf("who: standard input: %w", err)
	}
	if len(p.tenants) == 0 {
		return errors.New(`who: no line "who may come in" with a tenant_id is on standard input: give the sidecar's log from its start on; after a restart of the sidecar, which logs nobody out, the line comes again with the first request`)
	}
	if named {
		return p.writePseudonyms(out)
	}
	return p.writePerson(out)
}

// logLine is what is read of a line, of either program's.
type logLine struct {
	Time, Msg        string
	Issuer, Provider string
	TenantID         string `json:"tenant_id"`
	Subject, Client  string
	Login            string `json:"family"`
	XMcpSub          string `json:"request_X-Mcp-Sub"`
}

func (p *people) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		line, ok := parseLogLine(lines.Bytes())
		if !ok {
			p.offer(strings.TrimSpace(lines.Text()))
			continue
		}
		if line.XMcpSub != "" { // percent-encoded (docs/identity.md)
			if sub, err := url.PathUnescape(line.XMcpSub); err == nil {
				p.offer(sub)
			}
		}
		if line.Msg == "who may come in" {
			p.meet(line)
		}
		if line.Subject != "" && line.Login != "" {
			p.note(line)
		}
	}
	return lines.Err()
}

// parseLogLine passes over what stands in front of the JSON: the name of a container, a time. A
// line of another form is not one.
func parseLogLine(text []byte) (line logLine, ok bool) {
	begin := bytes.IndexByte(text, '{')
	if begin < 0 || json.Unmarshal(text[begin:], &line) != nil {
		return logLine{}, false
	}
	return line, line.Msg != "" || line.XMcpSub != "" || line.Time != ""
}

func (p *people) offer(sub string) {
	if sub != "" && p.pseudonym != "" && !p.offered[sub] {
		p.offered[sub] = true
		p.subjects = append(p.subjects, sub)
	}
}

func (p *people) meet(line logLine) {
	id, err := hex.DecodeString(line.TenantID)
	if err != nil || len(id) != len(sealing.TenantID{}) {
		return // of an older sidecar
	}
	t := loggedTenant{sealing.TenantID(id), line.Issuer, line.Provider}
	if !p.known[t] {
		p.known[t] = true
		p.tenants = append(p.tenants, t)
	}
}

func (p *people) note(line logLine) {
	key := [2]string{line.Subject, line.Login}
	l := p.byID[key]
	if l == nil {
		l = &loggedLogin{id: line.Login, client: line.Client}
		p.byID[key] = l
		p.logins[line.Subject] = append(p.logins[line.Subject], l)
	}
	// The lines of several replicas come in no order.
	if at, err := time.Parse(time.RFC3339, line.Time); err == nil {
		if l.first.IsZero() || at.Before(l.first) {
			l.first = at
		}
		if at.After(l.last) {
			l.last = at
		}
	}
	l.ended = l.ended || line.Msg == "login ended"
}

// writePseudonyms says what the log calls a person, at each server and under each master.
func (p *people) writePseudonyms(out io.Writer) error {
	found := false
	for _, t := range p.tenants {
		// A slash at the end of the provider's issuer makes no other person (package deny).
		if strings.TrimSuffix(t.provider, "/") != strings.TrimSuffix(p.issuer, "/") {
			continue
		}
		found = true
		for i, name := range p.ring.Pseudonyms(t.id, p.sub) {
			note := ""
			if i > 0 {
				note = "  while " + p.ring.MasterIDs()[i] + " was the first master"
			}
			fmt.Fprintf(out, "%s  %s%s\n", name, report.Printable(t.publicURL, 200), note)
			p.writeLogins(out, name)
		}
	}
	if !found {
		return fmt.Errorf("who: no server in this log has the provider %q; there are: %s", report.Printable(p.issuer, 200), strings.Join(p.providers(), ", "))
	}
	return nil
}

func (p *people) providers() (all []string) {
	seen := map[string]bool{}
	for _, t := range p.tenants {
		if !seen[t.provider] {
			seen[t.provider] = true
			all = append(all, report.Printable(t.provider, 200))
		}
	}
	return all
}

// writeLogins lists what the log shows beside a pseudonym, so that one login can be denied by
// itself.
func (p *people) writeLogins(out io.Writer, name string) {
	for _, l := range p.logins[name] {
		over := ""
		if l.ended {
			over = ", ended"
		}
		fmt.Fprintf(out, "  login %s  client %s  first %s, last %s%s\n",
			report.Printable(l.id, 40), report.Printable(l.client, 40), l.first.UTC().Format(time.RFC3339), l.last.UTC().Format(time.RFC3339), over)
	}
}

// writePerson tries everybody that was offered at each server and under each master. A pseudonym
// cannot be turned round: it is a keyed hash.
func (p *people) writePerson(out io.Writer) error {
	found := false
	for _, t := range p.tenants {
		for _, sub := range p.subjects {
			for _, name := range p.ring.Pseudonyms(t.id, sub) {
				if name != p.pseudonym {
					continue
				}
				found = true
				fmt.Fprintf(out, "%s  %s at %s, of the provider %s\n", name, report.Printable(sub, 255), report.Printable(t.publicURL, 200), report.Printable(t.provider, 200))
				p.writeLogins(out, name)
				fmt.Fprintf(out, "to keep this person out:\n  mcpbouncer deny user %s %s\n", shellWord(t.provider), shellWord(sub))
			}
		}
	}
	if found {
		return nil
	}
	p.writeLogins(out, p.pseudonym)
	why := fmt.Sprintf("none of the %d subjects on standard input is this one, at %d servers and under %d masters of the ring", len(p.subjects), len(p.tenants), len(p.ring.MasterIDs()))
	if len(p.subjects) == 0 {
		why = "no subject is on standard input: add Traefik's access log with X-Mcp-Sub (docs/calls.md), or the subjects of your provider, one a line"
	}
	return errors.New("who: " + why + "; a login can be denied without a name: mcpbouncer deny family ID")
}

// shellWord quotes a text for a shell, and lets nothing reach the terminal that it obeys.
func shellWord(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(text) {
		if c == '\'' || c == '\\' || c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String() + "'"
}
