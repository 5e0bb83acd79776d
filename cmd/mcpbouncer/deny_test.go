package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// What the command writes is what the sidecar reads.
func TestDenyEditsADocument(t *testing.T) {
	now := time.Date(2026, 9, 21, 14, 30, 0, 500, time.UTC)
	const sid, dashed = "q83vASNFZ4kBI0VniavN7w", "-83vASNFZ4kBI0VniavN7w"
	file := filepath.Join(t.TempDir(), "deny.json")
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
		{"--file F family " + dashed + " --until 2026-09-21T14:00:00Z", "family " + dashed + " is denied until 2026-09-21T14:00:00Z; serial 7", `"` + dashed + `":"2026-09-21T14:00:00Z"`},
		{"--file F redirect-host Evil.example", "redirect host evil.example is denied; serial 8", `"redirectHosts":{"evil.example":""}`},
		{"--file F key " + sid, "key " + sid + " is denied; serial 9", `"keys":{"` + sid + `":""}`},
		{"--file F prune", "1 entries removed; serial 10", `"families":{"` + sid + `":""}`},
		{"--file F --remove family " + sid, "family " + sid + " is not denied any more; serial 11", `"families":{}`},
		{"--file F all --remove", "no mark for all logins; serial 12", `"notBefore":{"https://mcp.localhost/wiki":"2026-09-21T10:00:00Z"}`},
	} {
		var out strings.Builder
		if err := deny(strings.Fields(strings.Replace(c.args, "F", file, 1)), &out, now); err != nil || strings.TrimSpace(out.String()) != c.says {
			t.Fatalf("%d, %s: %q, %v", i, c.args, out.String(), err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bare := strings.Join(strings.Fields(string(content)), ""); !strings.Contains(bare, c.has) {
			t.Errorf("%s: %s, want %s", c.args, bare, c.has)
		}
		if _, err := issuer.OpenDenyList(file, nil); err != nil {
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

func TestDenyCommandsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"v":1,"client":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "deny.json")
	for _, c := range []struct{ name, args, says string }{
		{"nothing", "", "deny: say what; --help lists the words"},
		{"another word", "--file F everybody", `deny: "everybody" is not one of the words; --help lists them`},
		{"a client without its name", "--file F client", "deny: client: too few words or too many; --help lists them"},
		{"a user without a provider", "--file F user ada", "deny: user: too few words or too many; --help lists them"},
		{"a word too many", "--file F all of-them", "deny: all: too few words or too many; --help lists them"},
		{"no file", "all", "deny: --file is missing"},
		{"an unknown flag", "--file F all --now", "deny: flag provided but not defined: -now"},
		{"a fingerprint that is none", "--file F client claude", `deny: deny document: clients: "claude" cannot be one`},
		{"a family that is none", "--file F family abc", `deny: deny document: families: "abc" cannot be one`},
		{"a user of no provider", "--file F user idp ada", `deny: deny document: users: "idp|ada" cannot be one`},
		{"a tenant by its name", "--file F tenant wiki", `deny: deny document: notBefore: "wiki" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a host that is a URL", "--file F redirect-host https://evil.example", `deny: deny document: redirectHosts: "https://evil.example" cannot be one`},
		{"a time in words", "--file F key k --until tomorrow", `deny: --until: "tomorrow" is neither a time such as 2027-01-31T12:00:00Z nor a duration such as 90d or 12h`},
		{"an end of a mark", "--file F all --until 1d", "deny: --until does not go with a mark"},
		{"a mark's time for an entry", "--file F key k --at 1d", "deny: --at goes with all and tenant only"},
		{"what is not in it", "--file F key k --remove", `deny: there is no key "k" in it`},
		{"a mark that is not in it", "--file F all --remove", "deny: there is no mark for all logins"},
		{"a list of nothing", "--file F list", "deny: open " + file + ": no such file or directory"},
		{"a malformed document is not written over", "--file B all", `deny: deny document: unknown member "client"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, nil)
			var out strings.Builder
			args := strings.NewReplacer("--file F", "--file "+file, "--file B", "--file "+bad).Replace(c.args)
			if err := deny(strings.Fields(args), &out, time.Now()); err == nil || err.Error() != c.says || out.Len() > 0 {
				t.Errorf("error %v, out %q, want %s", err, out.String(), c.says)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("a document was written")
			}
		})
	}
}

// Of two edits at a time neither is lost: one is refused, or comes after the other.
func TestDenyEditsAtTheSameTime(t *testing.T) {
	clean(t, nil)
	file := filepath.Join(t.TempDir(), "deny.json")
	var wait sync.WaitGroup
	var done atomic.Int64
	for i := range 50 {
		wait.Go(func() {
			err := deny([]string{"--file", file, "key", fmt.Sprintf("k%d", i)}, io.Discard, time.Now())
			if err == nil {
				done.Add(1)
			} else if want := "deny: somebody else is editing this document; if not, remove " + filepath.Join(filepath.Dir(file), ".deny.json.new"); err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
	wait.Wait()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := issuer.ParseDenyDocument(content)
	if err != nil || int64(len(d.Keys)) != done.Load() || d.Serial != done.Load() || done.Load() == 0 {
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
	for _, c := range []struct{ name, variable, value, says string }{
		{"a guard of no known kind", "BOUNCER_REPLAY_GUARD", "memcached://cache", "BOUNCER_REPLAY_GUARD: must be none, memory, redis://HOST:PORT, rediss://HOST:PORT or dynamodb://TABLE"},
		{"a password in it", "BOUNCER_REPLAY_GUARD", "http://user:" + fragment + "@cache", "BOUNCER_REPLAY_GUARD: must be none, memory, redis://HOST:PORT, rediss://HOST:PORT or dynamodb://TABLE"},
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

// Which guard there is when nothing is said, and when something is.
func TestWhichGuardThereIs(t *testing.T) {
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
