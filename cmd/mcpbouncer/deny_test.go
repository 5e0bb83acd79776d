package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The sidecar reads what the command writes.
func TestDenyEditsADocument(t *testing.T) {
	now := time.Date(2026, 9, 21, 14, 30, 0, 500, time.UTC)
	const sid, dashed = "q83vASNFZ4kBI0VniavN7w", "-83vASNFZ4kBI0VniavN7w"
	file := emptyDocument(t)
	clean(t, nil)
	for i, c := range []struct {
		args string
		says string
		has  string // the document, without white space
	}{
		{"--file F all", "all logins that began before 2026-09-21T14:30:01Z are over; serial 1", `"notBefore":{"*":"2026-09-21T14:30:01Z"}`},
		{"--file F tenant https://mcp.localhost/wiki/ --at 2026-09-21T12:00:00+02:00", "logins at https://mcp.localhost/wiki that began before 2026-09-21T10:00:00Z are over; serial 2", `"https://mcp.localhost/wiki":"2026-09-21T10:00:00Z"`},
		{"client https://claude.ai/oauth/mcp --file F", "client " + sealing.Fingerprint("https://claude.ai/oauth/mcp") + " is denied; serial 3", `"clients":{"` + sealing.Fingerprint("https://claude.ai/oauth/mcp") + `":""}`},
		{"client AAAAAAAAAAAAAAAA --until 90d --file=F", "client AAAAAAAAAAAAAAAA is denied until 2026-12-20T14:30:00Z; serial 4", `"AAAAAAAAAAAAAAAA":"2026-12-20T14:30:00Z"`},
		{"--file F user https://idp.example auth0|7", "user https://idp.example|auth0|7 is denied; serial 5", `"users":{"https://idp.example|auth0|7":""}`},
		{"--file F family " + sid, "family " + sid + " is denied; serial 6", `"families":{"` + sid + `":""}`},
		{"--file F family " + dashed + " --until 2026-09-21T14:30:08Z", "family " + dashed + " is denied until 2026-09-21T14:30:08Z; serial 7", `"` + dashed + `":"2026-09-21T14:30:08Z"`},
		{"--file F redirect-host Evil.example", "redirect host evil.example is denied; serial 8", `"redirectHosts":{"evil.example":""}`},
		{"--file F key " + sid, "key " + sid + " is denied; serial 9", `"keys":{"` + sid + `":""}`},
		{"--file F prune", "1 entries removed; serial 10", `"families":{"` + sid + `":""}`},
		{"--file F --remove family " + sid, "family " + sid + " is not denied any more; serial 11", `"families":{}`},
		{"--file F all --remove", "no mark for all logins; serial 12", `"notBefore":{"https://mcp.localhost/wiki":"2026-09-21T10:00:00Z"}`},
	} {
		var out strings.Builder
		if err := runDeny(strings.Fields(strings.Replace(c.args, "F", file, 1)), &out, now.Add(time.Duration(i/9)*9*time.Second)); err != nil || strings.TrimSpace(out.String()) != c.says {
			t.Fatalf("%d, %s: %q, %v", i, c.args, out.String(), err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bare := strings.Join(strings.Fields(string(content)), ""); !strings.Contains(bare, c.has) {
			t.Errorf("%s: %s, want %s", c.args, bare, c.has)
		}
		if _, err := deny.Open(file, nil); err != nil {
			t.Errorf("%s: the sidecar says %v", c.args, err)
		}
	}
	t.Setenv("BOUNCER_DENY", file)
	var out strings.Builder
	if err := run([]string{"deny", "list"}, nil, &out); err != nil || !strings.Contains(out.String(), `"serial": 12`) {
		t.Errorf("list: %q, %v", out.String(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// emptyDocument is a document that denies nothing yet.
func emptyDocument(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "deny.json")
	if err := os.WriteFile(file, []byte(`{"v":1,"serial":0}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A document that was lost or emptied, and is created anew, must not look like an old copy of the
// previous one, because the sidecar would go on with the previous one. An operator who has mistyped
// its name is told.
func TestDenyMakesADocumentThatIsTaken(t *testing.T) {
	for name, lose := range map[string]func(string) error{
		"removed": os.Remove,
		"emptied": func(file string) error { return os.Truncate(file, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			clean(t, nil)
			now := time.Date(2026, 9, 21, 14, 30, 0, 0, time.UTC)
			file := filepath.Join(t.TempDir(), "deny.json")
			serial := func(args string, isNew bool) int64 {
				t.Helper()
				now = now.Add(time.Minute)
				var out strings.Builder
				if err := runDeny(strings.Fields(args+" --file "+file), &out, now); err != nil || strings.Contains(out.String(), file+" is new") != isNew {
					t.Fatalf("%s: %q, %v", args, out.String(), err)
				}
				document, err := denyCommand{file: file}.read()
				if err != nil {
					t.Fatal(err)
				}
				return document.Serial
			}
			serial("all", true)
			before := serial("redirect-host evil.example", false)
			if err := lose(file); err != nil {
				t.Fatal(err)
			}
			if after := serial("all", true); after <= before {
				t.Errorf("serial %d after %d", after, before)
			}
		})
	}
}

func TestDenyCommandsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"v":1,"client":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "deny.json")
	if err := os.Symlink(os.DevNull, filepath.Join(dir, "null")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, args, says string }{
		{"nothing", "", "deny: say what; --help lists the words"},
		{"another word", "--file F everybody", `deny: "everybody" is not one of the words; --help lists them`},
		{"a client without its name", "--file F client", "deny: client: too few words or too many; --help lists them"},
		{"a user without a provider", "--file F user ada", "deny: user: too few words or too many; --help lists them"},
		{"a word too many", "--file F all of-them", "deny: all: too few words or too many; --help lists them"},
		{"no file", "all", "deny: --file is missing"},
		{"an unknown flag", "--file F all --now", "deny: flag provided but not defined: -now"},
		{"a fingerprint that is none", "--file F client claude", `deny: deny document: clients: "claude" cannot be one`},
		{"a family that is none", "--file F family abc", `deny: family "abc": this is not the whole name of a login: copy "family" from the log, or "sid" from an access token`},
		{"a family with a letter mistyped at its end", "--file F family q83vASNFZ4kBI0VniavN7x", `deny: family "q83vASNFZ4kBI0VniavN7x": this is not the whole name of a login: copy "family" from the log, or "sid" from an access token`},
		{"a key's name that is none", "--file F key ci-bot", `deny: key "ci-bot": a key_id has 22 characters: mcpbouncer key create printed it, and the log has it as "family"`},
		{"the key itself", "--file F key mbb1_" + strings.Repeat("s3cr3t", 20), `deny: key "mbb1_s3c…": this is the key itself, which must not stand in a list: give its key_id, which mcpbouncer key create printed and the log has as "family"`},
		{"a server by http", "--file F tenant http://mcp.example/wiki", "deny: http://mcp.example/wiki: no server has a public URL with http, other than on localhost"},
		{"an entry that is over", "--file F key AAAAAAAAAAAAAAAAAAAAAA --until 2020-01-01T00:00:00Z", "deny: --until: 2020-01-01T00:00:00Z is over, so this would deny nothing"},
		{"a mark that shuts everybody out for a month", "--file F all --at 2999-01-01T00:00:00Z", "deny: --at: 2999-01-01T00:00:00Z is more than an hour ahead, and nobody could log in until then"},
		{"a host with a port", "--file F redirect-host evil.example:8443", `deny: "evil.example:8443" has a port: an entry is for all ports of evil.example`},
		{"hosts by a wildcard", "--file F redirect-host *.evil.example", `deny: "*.evil.example" must be a plain name; it denies all hosts below it as well`},
		{"a host in Cyrillic", "--file F redirect-host аpple.com", `deny: "аpple.com" must be written as in redirect URIs: in ASCII, as xn--…`},
		{"an address that is none", "--file F redirect-host 1.2.3.4.5", `deny: "1.2.3.4.5" is not an address that browsers open`},
		{"a network", "--file F redirect-host 192.0.2.0/24", `deny: deny document: redirectHosts: "192.0.2.0/24" cannot be one`},
		{"a directory", "--file D all", "deny: open " + dir + ": is a directory; nothing was changed"},
		{"a link to what is not a file", "--file L all", "deny: " + filepath.Join(dir, "null") + " is not a regular file; nothing was changed"},
		{"a user of no provider", "--file F user idp ada", `deny: deny document: users: "idp|ada" cannot be one`},
		{"a tenant by its name", "--file F tenant wiki", `deny: deny document: notBefore: "wiki" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a host that is a URL", "--file F redirect-host https://evil.example", `deny: "https://evil.example" is a URI: give its host, evil.example`},
		{"a time in words", "--file F key AAAAAAAAAAAAAAAAAAAAAA --until tomorrow", `deny: --until: "tomorrow" is neither a time such as 2027-01-31T12:00:00Z nor a duration such as 90d or 12h`},
		{"an end of a mark", "--file F all --until 1d", "deny: --until does not go with a mark"},
		{"a mark's time for an entry", "--file F key AAAAAAAAAAAAAAAAAAAAAA --at 1d", "deny: --at goes with all and tenant only"},
		{"what is not in it", "--file F key AAAAAAAAAAAAAAAAAAAAAA --remove", `deny: there is no key "AAAAAAAAAAAAAAAAAAAAAA" in it`},
		{"a mark that is not in it", "--file F all --remove", "deny: there is no mark for all logins"},
		{"a list of nothing", "--file F list", "deny: open " + file + ": no such file or directory"},
		{"a malformed document is not written over", "--file B all", `deny: deny document: unknown member "client"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, nil)
			var out strings.Builder
			args := strings.NewReplacer("--file F", "--file "+file, "--file B", "--file "+bad, "--file D", "--file "+dir, "--file L", "--file "+filepath.Join(dir, "null")).Replace(c.args)
			if err := runDeny(strings.Fields(args), &out, time.Now()); err == nil || err.Error() != c.says || out.Len() > 0 {
				t.Errorf("error %v, out %q, want %s", err, out.String(), c.says)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("a document was written")
			}
		})
	}
}

// issuerID returns a name of a login or a key.
func issuerID(i int) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i)))
}

// An edit takes effect where the sidecar reads: it keeps the file that is there, whatever leads to
// it.
func TestDenyKeepsTheFile(t *testing.T) {
	clean(t, nil)
	now := time.Date(2026, 9, 21, 14, 30, 0, 0, time.UTC)
	const before = `{"v":1,"serial":7,"notBefore":{"*":"2026-09-20T00:00:00Z"}}`
	for _, c := range []struct {
		name string
		lead func(t *testing.T, file, name string) error // makes name lead to file
	}{
		{"a plain file", func(_ *testing.T, file, name string) error { return os.Rename(file, name) }},
		{"a symbolic link", func(_ *testing.T, file, name string) error { return os.Symlink(file, name) }},
		{"a relative link by way of another", func(_ *testing.T, file, name string) error {
			return errors.Join(os.Symlink(filepath.Base(file), name+".1"), os.Symlink(filepath.Base(name)+".1", name))
		}},
		{"a second hard link", func(_ *testing.T, file, name string) error { return os.Link(file, name) }},
		{"a link in a directory that is linked", func(_ *testing.T, file, name string) error {
			real := filepath.Join(filepath.Dir(file), "real", "..data")
			return errors.Join(os.MkdirAll(real, 0o755), os.Rename(file, filepath.Join(real, "deny.json")),
				os.Symlink("..data", filepath.Join(filepath.Dir(real), "now")), os.Symlink("real/now/deny.json", name))
		}},
		{"a file of another mode", func(_ *testing.T, file, name string) error {
			return errors.Join(os.Chmod(file, 0o646), os.Rename(file, name))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file, name := filepath.Join(dir, "target.json"), filepath.Join(dir, "deny.json")
			if err := errors.Join(os.WriteFile(file, []byte(before), 0o640), c.lead(t, file, name)); err != nil {
				t.Fatal(err)
			}
			real, err := filepath.EvalSymlinks(name)
			if err != nil {
				t.Fatal(err)
			}
			was, err := os.Stat(real)
			if err != nil {
				t.Fatal(err)
			}
			// the second is shorter
			for i, args := range [][]string{{"key", issuerID(1)}, {"key", issuerID(1), "--remove"}} {
				if err := runDeny(append([]string{"--file", name}, args...), io.Discard, now); err != nil {
					t.Fatal(err)
				}
				is, err := os.Stat(real)
				if err != nil || !os.SameFile(was, is) || is.Mode() != was.Mode() {
					t.Errorf("another file is there, or one of mode %v instead of %v: %v", is.Mode(), was.Mode(), err)
				}
				d, err := readDocument(real)
				if err != nil || d.Serial != int64(8+i) || len(d.Keys) != 1-i {
					t.Errorf("edit %d: the document is %+v, %v", i, d, err)
				}
			}
			if link, err := os.Lstat(name); err != nil || strings.Contains(c.name, "link") && c.name != "a second hard link" && link.Mode()&os.ModeSymlink == 0 {
				t.Errorf("the link was replaced: %v, %v", link.Mode(), err)
			}
		})
	}
	t.Run("a link to a file that is not there yet", func(t *testing.T) {
		dir := t.TempDir()
		name, target := filepath.Join(dir, "deny.json"), filepath.Join(dir, "target.json")
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		if err := runDeny([]string{"--file", name, "family", "short"}, io.Discard, now); err == nil {
			t.Error("an entry that denies nothing was taken")
		}
		if _, err := os.Lstat(target); err == nil {
			t.Error("a refused edit left a file behind")
		}
		if err := runDeny([]string{"--file", name, "all"}, io.Discard, now); err != nil {
			t.Fatal(err)
		}
		if d, err := readDocument(target); err != nil || len(d.NotBefore) != 1 {
			t.Errorf("the target is %+v, %v", d, err)
		}
	})
}

func readDocument(name string) (*deny.Document, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return deny.Parse(content)
}

// A file that cannot be written stays as it was, and the error says so.
func TestDenyPutsBackWhatItCannotWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "deny.json")
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name) // for reading
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := rewrite(f, []byte("old"), []byte("newer")); err == nil || !strings.Contains(err.Error(), "could not be put back") {
		t.Errorf("error %v", err)
	}
	if content, err := os.ReadFile(name); err != nil || string(content) != "old" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}

// An edit in place may be seen halfway. The sidecar waits for its end, and takes no mix of two
// texts.
func TestDenyEditIsReadWholeByTheSidecar(t *testing.T) {
	name := filepath.Join(t.TempDir(), "deny.json")
	const half = `{"v":1,"serial":2,"keys":{}}` // which reads as a whole
	if err := os.WriteFile(name, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := openDocument(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unlock, err := lock(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deny.Open(name, nil); err == nil || err.Error() != "deny document: somebody has been editing the file all the time" {
		t.Errorf("during an edit: error %v", err)
	}
	if err := rewrite(f, []byte(half), []byte(`{"v":1}`)); err != nil {
		t.Fatal(err)
	}
	unlock()
	f.Close()
	if _, err := deny.Open(name, nil); err != nil {
		t.Errorf("after it: error %v", err)
	}
}

// Another edit does not shorten a longer denial, and the output does not claim otherwise.
func TestDenyShortensNothing(t *testing.T) {
	clean(t, nil)
	now := time.Date(2026, 9, 21, 14, 30, 0, 0, time.UTC)
	name := emptyDocument(t)
	id := issuerID(1)
	for _, c := range []struct{ args, says string }{
		{"all", "all logins that began before 2026-09-21T14:30:01Z are over; serial 1"},
		{"all --at 2026-09-20T00:00:00Z", "all logins that began before 2026-09-21T14:30:01Z are over, by a mark that was there and stays; --remove takes it out; serial 1, as before"},
		{"all --at 2026-09-21T15:00:00Z", "all logins that began before 2026-09-21T15:00:00Z are over; serial 2"},
		{"all", "all logins that began before 2026-09-21T15:00:00Z are over, by a mark that was there and stays; --remove takes it out; serial 2, as before"},
		{"tenant https://mcp.localhost/wiki", "logins at https://mcp.localhost/wiki that began before 2026-09-21T14:30:01Z are over; serial 3"},
		{"tenant https://mcp.localhost/wiki --at 2026-09-20T00:00:00Z", "logins at https://mcp.localhost/wiki that began before 2026-09-21T14:30:01Z are over, by a mark that was there and stays; --remove takes it out; serial 3, as before"},
		{"key " + id + " --until 1d", "key " + id + " is denied until 2026-09-22T14:30:00Z; serial 4"},
		{"key " + id + " --until 12h", "key " + id + " is denied until 2026-09-22T14:30:00Z, by an entry that was there and stays; --remove takes it out; serial 4, as before"},
		{"key " + id, "key " + id + " is denied; serial 5"},
		{"key " + id + " --until 90d", "key " + id + " is denied, by an entry that was there and stays; --remove takes it out; serial 5, as before"},
		{"redirect-host 0x5db8d822", "redirect host 93.184.216.34 is denied; serial 6"},
		{"redirect-host [::FFFF:93.184.216.34]", "redirect host 93.184.216.34 is denied, by an entry that was there and stays; --remove takes it out; serial 6, as before"},
		{"redirect-host [2001:DB8:0:0::1]", "redirect host 2001:db8::1 is denied; serial 7"},
		{"redirect-host evil.example.", "redirect host evil.example is denied; serial 8"},
		{"redirect-host app.evil.example", "redirect host app.evil.example is denied; serial 9"},
		{"redirect-host app.evil.example --remove", "redirect host app.evil.example is not denied any more by itself, but evil.example is, with all hosts below it; serial 10"},
		{"user https://idp.example/ 7", "user https://idp.example/|7 is denied; serial 11"},
		{"user https://idp.example 7", "user https://idp.example|7 is denied; serial 12"},
		{"user https://idp.example 7 --remove", "user https://idp.example|7 is not denied any more; serial 13"},
		{"user https://idp.example W1-aUjfK29sL0qPx", "user https://idp.example|W1-aUjfK29sL0qPx is denied; if this sub was copied from the log, it is a pseudonym and denies nobody: sub is what MCP servers get as X-Mcp-Sub; serial 14"},
	} {
		var out strings.Builder
		if err := runDeny(append(strings.Fields(c.args), "--file", name), &out, now); err != nil || strings.TrimSpace(out.String()) != c.says {
			t.Errorf("%s: %q, %v\nwant %q", c.args, strings.TrimSpace(out.String()), err, c.says)
		}
	}
	if d, err := readDocument(name); err != nil || len(d.Users) != 1 || len(d.RedirectHosts) != 3 {
		t.Errorf("the document: %+v, %v", d, err)
	}
}

// If two edits come at one time, neither is lost: one is refused, or comes after the other.
func TestDenyEditsAtTheSameTime(t *testing.T) {
	clean(t, nil)
	file := filepath.Join(t.TempDir(), "deny.json")
	var wait sync.WaitGroup
	var done atomic.Int64
	now := time.Now()
	for i := range 50 {
		wait.Go(func() {
			err := runDeny([]string{"--file", file, "key", issuerID(i)}, io.Discard, now)
			if err == nil {
				done.Add(1)
			} else if want := "deny: somebody else is editing this document"; err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
	wait.Wait()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := deny.Parse(content)
	if err != nil || int64(len(d.Keys)) != done.Load() || d.Serial != now.Unix()+done.Load() || done.Load() == 0 {
		t.Errorf("%d edits succeeded, and the document is %s, %v", done.Load(), content, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestHelpOfDeny(t *testing.T) {
	clean(t, nil)
	for _, flag := range []string{"--help", "-h"} {
		var out strings.Builder
		if err := run([]string{"deny", flag}, nil, &out); err != nil || !strings.Contains(out.String(), "redirect-host HOST") || !strings.Contains(out.String(), "-until time") {
			t.Errorf("%s: %v: %s", flag, err, out.String())
		}
	}
}

// A mistake in a variable stops the start and is named.
func TestStoresThatAreRefused(t *testing.T) {
	_, _, unknown := replay.OpenStore("another", time.Hour, time.Hour, time.Now)
	unknownStore := "BOUNCER_REPLAY_GUARD: " + unknown.Error()
	for _, c := range []struct{ name, variable, value, says string }{
		{"a guard of no known kind", "BOUNCER_REPLAY_GUARD", "memcached://cache", unknownStore},
		{"a password in it", "BOUNCER_REPLAY_GUARD", "http://user:" + fragment + "@cache", unknownStore},
		{"a database of Redis that is no number", "BOUNCER_REPLAY_GUARD", "redis://127.0.0.1/cache", "BOUNCER_REPLAY_GUARD: not a URL such as rediss://user:password@host:6379/0"},
		{"a deny document that is not there", "BOUNCER_DENY", "/nowhere/deny.json", "BOUNCER_DENY: open /nowhere/deny.json: no such file or directory"},
		{"a malformed deny document", "BOUNCER_DENY", `{"v":1,"client":{}}`, `BOUNCER_DENY: deny document: unknown member "client"`},
		{"a deny document over http", "BOUNCER_DENY", "http://example.com/deny.json", "BOUNCER_DENY: a URL must be a well-formed one, and https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, c.variable: c.value})
			err := serve(&strings.Builder{})
			if err == nil || err.Error() != c.says || strings.Contains(err.Error(), fragment) {
				t.Errorf("error %v, want %s", err, c.says)
			}
		})
	}
}

// The table says which guard there is by default, and with the variable.
func TestReplayGuardOfTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		name, value string
		lambda      bool
		kind        string
		denies      bool
	}{
		{"in a container", "", false, "memory", false},
		{"on Lambda", "", true, "none", false},
		{"on Lambda with a table", "dynamodb://replay", true, "dynamodb", false},
		{"none", "none", false, "none", false},
		{"Redis", "redis://127.0.0.1:6379", false, "redis", false},
		{"Redis over TLS, and a deny document", "rediss://user:secret@cache:6379/2", false, "rediss", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_REPLAY_GUARD": c.value, "AWS_REGION": "eu-central-1"})
			t.Setenv(runtimeAPI, "")
			if c.lambda {
				t.Setenv(runtimeAPI, "127.0.0.1:9001")
			}
			if c.denies {
				t.Setenv("BOUNCER_DENY", `{"v":1,"serial":1}`)
			}
			e, err := loadEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			config := e.issuerConfig(slog.New(slog.DiscardHandler))
			if err := e.openStores(&config); err != nil || config.ReplayGuard.Kind() != c.kind || (config.Deny != nil) != c.denies {
				t.Errorf("guard %s, deny %v, error %v", config.ReplayGuard.Kind(), config.Deny, err)
			}
		})
	}
}

// Each store is named on a page, or nobody would find it.
func TestStoresAreOnThePages(t *testing.T) {
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	configuration, page := read("configuration.md"), read("replay.md")
	for _, form := range replay.Forms() {
		scheme, _, hasPlace := strings.Cut(form, "://")
		if !strings.Contains(configuration, "`"+form+"`") {
			t.Errorf("docs/configuration.md does not name %s", form)
		}
		if hasPlace && !strings.Contains(page, "`"+scheme+"://") || !strings.Contains(page, "`"+scheme) {
			t.Errorf("docs/replay.md does not name %s", form)
		}
	}
}
