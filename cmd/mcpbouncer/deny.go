package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const denyUsage = `usage: mcpbouncer deny [--file FILE] WHAT [--until TIME] [--at TIME] [--remove]

Edits a deny document, which the sidecar reads (BOUNCER_DENY) and tells the plugin. Nothing else is needed for it to take effect.

  all                      all logins until now
  tenant URL               all logins until now at the server with this public URL
  client ID                a client: its client_id, or the fingerprint in the log
  user ISSUER SUB          a person, as the provider names them
  family SID               one login: "family" in the log, "sid" in the access token
  redirect-host HOST       clients whose redirect URI is at this host or below it
  key ID                   a bearer key: its key_id
  list                     print the document
  prune                    remove entries whose --until is past

`

// denyCommand is what was asked for, after the flags.
type denyCommand struct {
	file, until, at string
	remove          bool
	words           []string
}

// deny edits a deny document.
func deny(args []string, out io.Writer, now time.Time) error {
	c, help, err := parseDeny(args, out)
	if help || err != nil {
		return err
	}
	if c.words[0] == "list" {
		document, err := c.read()
		if err != nil {
			return fmt.Errorf("deny: %w", err)
		}
		return writeIndented(out, document)
	}
	said, err := c.editFile(now)
	if err != nil {
		return fmt.Errorf("deny: %w", err)
	}
	_, err = fmt.Fprintln(out, said)
	return err
}

// editFile changes the document in its file and says what it did.
func (c denyCommand) editFile(now time.Time) (string, error) {
	f, err := newFile(c.file)
	if err != nil {
		return "", err
	}
	written := false
	defer func() {
		f.Close()
		if !written { // else the name is free, or the next edit's by now
			os.Remove(f.Name())
		}
	}()
	document, err := c.read()
	if err != nil {
		return "", err
	}
	said, err := c.edit(document, now)
	if err != nil {
		return "", err
	}
	document.Serial++
	if err := document.Check(); err != nil {
		return "", err
	}
	if err := replace(c.file, f, document); err != nil {
		return "", err
	}
	written = true
	return fmt.Sprintf("%s; serial %d", said, document.Serial), nil
}

// denyWords is how many words each command has, itself included.
var denyWords = map[string]int{"all": 1, "tenant": 2, "client": 2, "user": 3, "family": 2, "redirect-host": 2, "key": 2, "list": 1, "prune": 1}

func parseDeny(args []string, out io.Writer) (c denyCommand, help bool, err error) {
	flags := flag.NewFlagSet("deny", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	source := os.Getenv("BOUNCER_DENY")
	if strings.Contains(source, "://") || strings.HasPrefix(strings.TrimSpace(source), "{") {
		source = "" // no file
	}
	flags.StringVar(&c.file, "file", source, "`file` of the document; it is made if there is none. Default: BOUNCER_DENY, if that is a file")
	flags.StringVar(&c.until, "until", "", "`time` at which the entry is over: 2027-01-31T12:00:00Z, or from now 90d or 12h. Default: never")
	flags.StringVar(&c.at, "at", "", "`time` of the mark of all and tenant: logins that began before are over. Default: now")
	flags.BoolVar(&c.remove, "remove", false, "take the entry out again")
	for len(args) > 0 { // flags may stand before and behind the words
		// One family in 64 begins with a dash.
		if len(c.words) > 0 && len(c.words) < denyWords[c.words[0]] && strings.HasPrefix(args[0], "-") && !isFlag(flags, args[0]) {
			c.words, args = append(c.words, args[0]), args[1:]
			continue
		}
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			io.WriteString(out, denyUsage)
			flags.SetOutput(out)
			flags.PrintDefaults()
			return c, true, nil
		} else if err != nil {
			return c, false, fmt.Errorf("deny: %w", err)
		}
		args = flags.Args()
		if len(args) > 0 {
			c.words, args = append(c.words, args[0]), args[1:]
		}
	}
	switch {
	case len(c.words) == 0:
		return c, false, errors.New("deny: say what; --help lists the words")
	case denyWords[c.words[0]] == 0:
		return c, false, fmt.Errorf("deny: %q is not one of the words; --help lists them", c.words[0])
	case denyWords[c.words[0]] != len(c.words):
		return c, false, fmt.Errorf("deny: %s: too few words or too many; --help lists them", c.words[0])
	case c.file == "":
		return c, false, errors.New("deny: --file is missing")
	}
	return c, false, nil
}

func isFlag(flags *flag.FlagSet, arg string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	return name == "h" || name == "help" || flags.Lookup(name) != nil
}

func (c denyCommand) read() (*issuer.DenyDocument, error) {
	content, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) && c.words[0] != "list" {
		return &issuer.DenyDocument{Version: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	return issuer.ParseDenyDocument(content)
}

// edit changes the document and says what it did.
func (c denyCommand) edit(d *issuer.DenyDocument, now time.Time) (string, error) {
	var until issuer.DenyUntil
	if c.until != "" {
		at, err := moment(c.until, now)
		if err != nil {
			return "", fmt.Errorf("--until: %w", err)
		}
		until.Time = at
	}
	word := func(i int) string { return strings.TrimSpace(c.words[i]) }
	switch c.words[0] {
	case "prune":
		return fmt.Sprintf("%d entries removed", d.Prune(now)), nil
	case "all":
		return c.mark(d, "*", now)
	case "tenant":
		return c.mark(d, strings.TrimRight(word(1), "/"), now)
	case "client":
		fingerprint := word(1)
		if strings.HasPrefix(fingerprint, "mbc1_") || strings.HasPrefix(fingerprint, "https://") {
			fingerprint = sealing.Fingerprint(fingerprint)
		}
		return c.entry("client", &d.Clients, fingerprint, until)
	case "user":
		return c.entry("user", &d.Users, strings.TrimSpace(word(1))+"|"+c.words[2], until)
	case "family":
		return c.entry("family", &d.Families, word(1), until)
	case "redirect-host":
		return c.entry("redirect host", &d.RedirectHosts, strings.ToLower(word(1)), until)
	}
	return c.entry("key", &d.Keys, word(1), until)
}

// mark ends the logins that began before a moment. By default it is the next full second: a login of this one is meant too.
func (c denyCommand) mark(d *issuer.DenyDocument, who string, now time.Time) (string, error) {
	name := "logins at " + who
	if who == "*" {
		name = "all logins"
	}
	if c.remove {
		if _, ok := d.NotBefore[who]; !ok {
			return "", fmt.Errorf("there is no mark for %s", name)
		}
		delete(d.NotBefore, who)
		return "no mark for " + name, nil
	}
	at := now.UTC().Truncate(time.Second).Add(time.Second)
	if c.at != "" {
		var err error
		if at, err = moment(c.at, now); err != nil {
			return "", fmt.Errorf("--at: %w", err)
		}
	}
	if c.until != "" {
		return "", errors.New("--until does not go with a mark")
	}
	if d.NotBefore == nil {
		d.NotBefore = map[string]time.Time{}
	}
	d.NotBefore[who] = at
	return name + " that began before " + at.Format(time.RFC3339) + " are over", nil
}

func (c denyCommand) entry(kind string, entries *issuer.DenyEntries, entry string, until issuer.DenyUntil) (string, error) {
	if c.at != "" {
		return "", errors.New("--at goes with all and tenant only")
	}
	if c.remove {
		if _, ok := (*entries)[entry]; !ok {
			return "", fmt.Errorf("there is no %s %q in it", kind, entry)
		}
		delete(*entries, entry)
		return fmt.Sprintf("%s %s is not denied any more", kind, entry), nil
	}
	if *entries == nil {
		*entries = issuer.DenyEntries{}
	}
	(*entries)[entry] = until
	said := fmt.Sprintf("%s %s is denied", kind, entry)
	if !until.IsZero() {
		said += " until " + until.Format(time.RFC3339)
	}
	return said, nil
}

// moment is a time, or a duration from now.
func moment(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UTC(), nil
	}
	var d days
	if d.Decode(strings.TrimSuffix(text, "d")) != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2027-01-31T12:00:00Z nor a duration such as 90d or 12h", text)
	}
	return now.UTC().Truncate(time.Second).Add(time.Duration(d)), nil
}

// newFile is the file that will take the place of another, in one step: the sidecar reads the old one or the new one, never half of one. It is
// made before the old one is read, and only one can be: of two edits at a time the first would be lost.
func newFile(name string) (*os.File, error) {
	dir, base := filepath.Split(name)
	f, err := os.OpenFile(filepath.Join(dir, "."+base+".new"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("somebody else is editing this document; if not, remove %s", err.(*fs.PathError).Path)
	}
	return f, err
}

// replace writes a document into the new file and puts that in the place of the old one.
func replace(name string, f *os.File, document *issuer.DenyDocument) error {
	content, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644) // the sidecar may run as somebody else; it is no secret
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	if _, err := f.Write(append(content, '\n')); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
