//go:build !onlyserve

package main

import (
	"bytes"
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

	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const denyUsage = `usage: mcpbouncer deny [--file FILE] WHAT [--until TIME] [--at TIME] [--remove]

Edits a deny document, which the sidecar reads (BOUNCER_DENY) and tells the plugin. Nothing else is needed
for it to take effect; the sidecar's line "deny document read" has the serial that is printed here.
What is denied already is never shortened.

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

// runDeny edits a deny document.
func runDeny(args []string, out io.Writer, now time.Time) error {
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

// editFile changes the document in its file and says what it did, once the file is known to say so
// too. The file itself is written, and no other put in its place: that would have another owner and
// mode, and would not be where a symbolic link, a second hard link or a container's mount leads, so
// the sidecar would go on with the old one (docs/decisions/0021).
func (c denyCommand) editFile(now time.Time) (said string, err error) {
	f, made, err := openDocument(c.file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	unlock, err := lock(f)
	if err != nil {
		return "", err
	}
	defer unlock()
	defer func() {
		if err != nil && made {
			if real, err := filepath.EvalSymlinks(c.file); err == nil {
				os.Remove(real)
			}
		}
	}()
	old, err := io.ReadAll(io.LimitReader(f, 2<<20)) // the document's own bound is lower
	if err != nil {
		return "", err
	}
	// A smaller serial than that of a document which stood here before would be taken for an old
	// copy.
	document := &deny.Document{Version: 1, Serial: now.Unix()}
	if len(old) > 0 {
		if document, err = deny.Parse(old); err != nil {
			return "", err
		}
	}
	said, changed, err := c.edit(document, now)
	if err != nil {
		return "", err
	}
	if !changed && len(old) > 0 {
		return fmt.Sprintf("%s; serial %d, as before", said, document.Serial), nil
	}
	document.Serial++
	if err := document.Check(); err != nil {
		return "", err
	}
	content, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return "", err
	}
	content = append(content, '\n')
	if err := rewrite(f, old, content); err != nil {
		return "", err
	}
	// By its name, as the sidecar reads it.
	if seen, err := os.ReadFile(c.file); err != nil || !bytes.Equal(seen, content) {
		return "", fmt.Errorf("%s does not hold what was just written to it: something else writes it too, or has put another file there; look at it, and try again", c.file)
	}
	said = fmt.Sprintf("%s; serial %d", said, document.Serial)
	if len(old) == 0 {
		said += "; the document " + c.file + " is new: see that the sidecar reads it (BOUNCER_DENY)"
	}
	return said, nil
}

// openDocument opens the file for an edit, and makes it if there is none.
func openDocument(name string) (f *os.File, made bool, err error) {
	f, err = os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Behind a symbolic link too: the sidecar reads what it leads to. It may run as somebody
		// else, and the document is not a secret.
		made = true
		if f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644); err == nil {
			err = f.Chmod(0o644) // whatever the umask says
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("%w; nothing was changed", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, false, fmt.Errorf("%s is not a regular file; nothing was changed", name)
	}
	return f, made, nil
}

// rewrite puts content in the place of old, in one write: the shorter of the two is filled up, so
// that no moment leaves less than one of them. On an error the old text stands there again.
func rewrite(f *os.File, old, content []byte) error {
	filled := append(bytes.Clone(content), bytes.Repeat([]byte("\n"), max(0, len(old)-len(content)))...)
	_, err := f.WriteAt(filled, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		return f.Truncate(int64(len(content)))
	}
	if _, again := f.WriteAt(old, 0); again != nil || f.Truncate(int64(len(old))) != nil {
		return fmt.Errorf("%w; and the document could not be put back: look at it before the sidecar is started anew", err)
	}
	return fmt.Errorf("%w; the document is as it was", err)
}

// denyWords is how many words each command has, itself included.
var denyWords = map[string]int{"all": 1, "tenant": 2, "client": 2, "user": 3, "family": 2, "redirect-host": 2, "key": 2, "list": 1, "prune": 1}

func parseDeny(args []string, out io.Writer) (c denyCommand, help bool, err error) {
	flags := flag.NewFlagSet("deny", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	source := strings.TrimSpace(os.Getenv("BOUNCER_DENY"))
	if strings.Contains(source, "://") || strings.HasPrefix(source, "{") {
		source = "" // no file
	}
	flags.StringVar(&c.file, "file", source, "`file` of the document; it is made if there is none, and else keeps its place, owner and mode.\nDefault: BOUNCER_DENY, if that is a file")
	flags.StringVar(&c.until, "until", "", "`time` at which the entry is over: 2027-01-31T12:00:00Z, or from now 90d or 12h. Default: never")
	flags.StringVar(&c.at, "at", "", "`time` of the mark of all and tenant: logins that began before are over. Default: now")
	flags.BoolVar(&c.remove, "remove", false, "take the entry out again")
	for len(args) > 0 { // flags may stand before and behind the words
		// One id of a login in 64 begins with a dash.
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

func (c denyCommand) read() (*deny.Document, error) {
	content, err := os.ReadFile(c.file)
	if err != nil {
		return nil, err
	}
	return deny.Parse(content)
}

// edit changes the document and says what it did, and whether that is a change.
func (c denyCommand) edit(d *deny.Document, now time.Time) (said string, changed bool, err error) {
	var until deny.Until
	if c.until != "" {
		at, err := moment(c.until, now)
		if err != nil {
			return "", false, fmt.Errorf("--until: %w", err)
		}
		if !at.After(now) {
			return "", false, fmt.Errorf("--until: %s is over, so this would deny nothing", at.Format(time.RFC3339))
		}
		until.Time = at
	}
	word := func(i int) string { return strings.TrimSpace(c.words[i]) }
	switch c.words[0] {
	case "prune":
		return fmt.Sprintf("%d entries removed", d.Prune(now)), true, nil
	case "all":
		return c.mark(d, "*", now)
	case "tenant":
		return c.mark(d, strings.TrimRight(word(1), "/"), now)
	case "client":
		fingerprint := word(1)
		if strings.HasPrefix(fingerprint, "mbc1_") || strings.HasPrefix(fingerprint, "https://") {
			fingerprint = sealing.Fingerprint(fingerprint)
		}
		return c.entry(d, deniedKind{"client", "clients", &d.Clients}, fingerprint, until)
	case "user":
		return c.user(d, word(1), c.words[2], until)
	case "family":
		return c.entry(d, deniedKind{"family", "families", &d.Logins}, word(1), until)
	case "redirect-host":
		return c.redirectHost(d, word(1), until, now)
	}
	return c.entry(d, deniedKind{"key", "keys", &d.Keys}, word(1), until)
}

// futureMark is as far as the clocks of replicas can be apart, and more.
const futureMark = time.Hour

// mark ends the logins that began before a moment. By default it is the next full second: a login
// of this one is meant too.
func (c denyCommand) mark(d *deny.Document, who string, now time.Time) (said string, changed bool, err error) {
	name := "logins at " + who
	if who == "*" {
		name = "all logins"
	}
	if c.remove {
		if _, ok := d.NotBefore[who]; !ok {
			return "", false, fmt.Errorf("there is no mark for %s", name)
		}
		delete(d.NotBefore, who)
		return "no mark for " + name, true, nil
	}
	at := now.UTC().Truncate(time.Second).Add(time.Second)
	if c.at != "" {
		if at, err = moment(c.at, now); err != nil {
			return "", false, fmt.Errorf("--at: %w", err)
		}
		if at.After(now.Add(futureMark)) {
			return "", false, fmt.Errorf("--at: %s is more than an hour ahead, and nobody could log in until then", at.Format(time.RFC3339))
		}
	}
	if c.until != "" {
		return "", false, errors.New("--until does not go with a mark")
	}
	if why := deny.Ineffective("notBefore", who); why != "" {
		return "", false, fmt.Errorf("%s: %s", who, why)
	}
	over := func(at time.Time) string {
		return name + " that began before " + at.UTC().Format(time.RFC3339) + " are over"
	}
	// A mark that goes back lets logins in again that somebody has ended.
	if before, ok := d.NotBefore[who]; ok && !before.Before(at) {
		return over(before) + ", by a mark that was there and stays; --remove takes it out", false, nil
	}
	if d.NotBefore == nil {
		d.NotBefore = map[string]time.Time{}
	}
	d.NotBefore[who] = at
	return over(at), true, nil
}

// deniedKind is a list of the document: what its entries are called, its JSON name, and the list.
type deniedKind struct {
	name, list string
	entries    *deny.Entries
}

// entry denies something, or takes that back.
func (c denyCommand) entry(d *deny.Document, kind deniedKind, entry string, until deny.Until) (said string, changed bool, err error) {
	if c.at != "" {
		return "", false, errors.New("--at goes with all and tenant only")
	}
	before, ok := (*kind.entries)[entry]
	if c.remove {
		if !ok {
			return "", false, fmt.Errorf("there is no %s %q in it", kind.name, entry)
		}
		delete(*kind.entries, entry)
		return fmt.Sprintf("%s %s is not denied any more", kind.name, entry), true, nil
	}
	if why := deny.Ineffective(kind.list, entry); why != "" {
		if len(entry) > 80 { // it may be a secret
			entry = entry[:8] + "…"
		}
		return "", false, fmt.Errorf("%s %q: %s", kind.name, entry, why)
	}
	denied := func(until deny.Until) string {
		said := fmt.Sprintf("%s %s is denied", kind.name, entry)
		if !until.IsZero() {
			said += " until " + until.UTC().Format(time.RFC3339)
		}
		return said
	}
	if ok && (before.IsZero() || !until.IsZero() && !before.Before(until.Time)) {
		return denied(before) + ", by an entry that was there and stays; --remove takes it out", false, nil
	}
	if *kind.entries == nil {
		*kind.entries = deny.Entries{}
	}
	(*kind.entries)[entry] = until
	return denied(until), true, nil
}

// user knows that a slash at the end of the provider's issuer makes no other person
// (package deny).
func (c denyCommand) user(d *deny.Document, provider, sub string, until deny.Until) (said string, changed bool, err error) {
	kind, entry := deniedKind{"user", "users", &d.Users}, provider+"|"+sub
	bare := strings.TrimSuffix(provider, "/")
	for _, written := range []string{bare + "|" + sub, bare + "/|" + sub} {
		if _, ok := d.Users[written]; ok && c.remove {
			delete(d.Users, written)
			said = fmt.Sprintf("user %s is not denied any more", entry)
		}
	}
	if said != "" {
		return said, true, nil
	}
	said, changed, err = c.entry(d, kind, entry, until)
	if err == nil && pseudonym.Get().MatchString(sub) {
		said += "; if this sub was copied from the log, it is a pseudonym and denies nobody: sub is what MCP servers get as X-Mcp-Sub"
	}
	return said, changed, err
}

// pseudonym is what people are called in the log.
var pseudonym = lazyregexp.Regexp{Text: `^[A-Za-z0-9_-]{16}$`}

// redirectHost writes the host as browsers read it. Entries of before may be spelt in other ways.
func (c denyCommand) redirectHost(d *deny.Document, text string, until deny.Until, now time.Time) (said string, changed bool, err error) {
	host, err := deny.HostEntry(text)
	if err != nil {
		return "", false, err
	}
	kind := deniedKind{"redirect host", "redirectHosts", &d.RedirectHosts}
	if _, ok := d.RedirectHosts[text]; ok && c.remove {
		host = text
	}
	said, changed, err = c.entry(d, kind, host, until)
	if err == nil && c.remove {
		for _, above, ok := strings.Cut(host, "."); ok; _, above, ok = strings.Cut(above, ".") {
			if other, denied := d.RedirectHosts[above]; denied && (other.IsZero() || other.After(now)) {
				said += " by itself, but " + above + " is, with all hosts below it"
			}
		}
	}
	return said, changed, err
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
