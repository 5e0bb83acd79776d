package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoginsCommand(t *testing.T) {
	now := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	const log = `bouncer-1  | {"time":"2026-11-30T08:00:00Z","msg":"token issued","event":"token.issued","tenant":"wiki","issuer":"https://mcp.example/wiki","client":"c","subject":"anna","family":"one","expires":"2026-11-30T09:00:00Z","refresh_until":"2026-12-14T08:00:00Z","ends":"2026-12-30T08:00:00Z"}
bouncer-1  | {"time":"2026-11-30T08:30:00Z","msg":"token issued","event":"token.issued","tenant":"wiki","issuer":"https://mcp.example/wiki","client":"c","subject":"ben","family":"two","expires":"2026-11-30T09:30:00Z","refresh_until":"2026-12-14T08:30:00Z","ends":"2026-12-30T08:30:00Z"}
bouncer-1  | {"time":"2026-11-30T08:40:00Z","msg":"login ended","event":"login.revoked","tenant":"wiki","issuer":"https://mcp.example/wiki","client":"c","subject":"ben","family":"two","because":"its client revoked it"}
traefik-1  | time="2026-11-30T08:00:00Z"
`
	for _, c := range []struct {
		args  []string
		want  []string
		never string
	}{
		{nil, []string{"logins: 1,", "lines that were skipped: 1", "anna", "2026-12-14 08:00", "The log does not say:"}, "ben"},
		{[]string{"--all"}, []string{"anna", "ben", "its client revoked it"}, "no event"},
		{[]string{"--all", "--tenant", "other"}, []string{"logins: 0,"}, "anna"},
		{[]string{"--help"}, []string{"usage: mcpbouncer logins", "-tenant NAME"}, "anna"},
	} {
		var out strings.Builder
		if err := runLogins(c.args, strings.NewReader(log), &out, now); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) || strings.Contains(out.String(), c.never) {
				t.Errorf("%q: no %q, or %q, in\n%s", c.args, want, c.never, out.String())
			}
		}
	}
	var out strings.Builder
	if err := runLogins([]string{"--json"}, strings.NewReader(log), &out, now); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Logins []struct {
			State, Login string
			Until        time.Time `json:"refresh_until"`
		}
		Unknown []string
	}
	if err := json.Unmarshal([]byte(out.String()), &list); err != nil || len(list.Logins) != 1 || list.Logins[0].Login != "one" ||
		!list.Logins[0].Until.Equal(time.Date(2026, 12, 14, 8, 0, 0, 0, time.UTC)) || len(list.Unknown) == 0 {
		t.Errorf("%v: %s", err, out.String())
	}
	dir := t.TempDir()
	var files []string
	for i, line := range strings.SplitAfter(log, "\n")[:3] {
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".log")))
		if err := os.WriteFile(files[i], []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out.Reset()
	if err := runLogins(append([]string{"--all"}, files...), strings.NewReader("nobody reads this"), &out, now); err != nil ||
		!strings.Contains(out.String(), "logins: 1,") || !strings.Contains(out.String(), "skipped: 0") || !strings.Contains(out.String(), "its client revoked it") {
		t.Errorf("%v: %s", err, out.String())
	}
	for _, c := range []struct {
		args []string
		want string
	}{{[]string{filepath.Join(dir, "none.log")}, "none.log"}, {[]string{dir}, "directory"}, {[]string{files[0], "--all"}, "flags stand before the logs"}, {[]string{"--nothing"}, "nothing"}} {
		if err := runLogins(c.args, strings.NewReader(log), &out, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

// The page has each flag.
func TestLoginsPageHasEachFlag(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "logins.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"`--all`", "`--tenant NAME`", "`--json`"} {
		if !strings.Contains(string(page), flag) {
			t.Errorf("no %s", flag)
		}
	}
}
