package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// runs gives what a command writes, and its exit status.
func runs(t *testing.T, args ...string) (out string, status int, why string) {
	t.Helper()
	var b strings.Builder
	err := run(args, strings.NewReader(""), &b)
	var e *exit
	switch {
	case errors.As(err, &e):
		return b.String(), e.status, e.why
	case err != nil:
		t.Fatalf("%v: %v", args, err)
	}
	return b.String(), 0, ""
}

func TestDoctorsCommandLine(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		why  string
	}{
		{nil, "give the URL of one MCP server"},
		{[]string{"https://a.example/mcp", "https://b.example/mcp"}, "give the URL of one MCP server"},
		{[]string{"--nonsense", "https://a.example/mcp"}, "flag provided but not defined: -nonsense"},
		{[]string{"https://a.example/mcp", "--ca", notPEM}, "holds no certificate in PEM"},
		{[]string{"https://a.example/mcp", "--ca", notPEM + "-is-not-there"}, "no such file"},
		{[]string{"https://a.example/mcp", "--client-secret-file", notPEM + "-is-not-there"}, "no such file"},
		{[]string{"https://a.example/mcp", "--call", "whoami"}, "--call needs --login or --token"},
	} {
		if _, status, why := runs(t, append([]string{"doctor"}, c.args...)...); status != report.StatusUnable || !strings.Contains(why, c.why) {
			t.Errorf("%q: status %d, %q, want %q", c.args, status, why, c.why)
		}
	}
	if out, status, _ := runs(t, "doctor", "--help"); status != 0 || !strings.Contains(out, "usage: mcpbouncer doctor [FLAGS] URL") || !strings.Contains(out, "-no-register") {
		t.Errorf("status %d: %s", status, out)
	}
	if out, status, why := runs(t, "doctor", "--timeout", "1s", "http://127.0.0.1:1/mcp"); status != report.StatusUnable || why != "" || !strings.Contains(out, "could not go on: the server does not answer") {
		t.Errorf("status %d, %q: %s", status, why, out)
	}
	if out, status, _ := runs(t, "doctor", "--json", "http://mcp.example.com/mcp"); status != report.StatusFound || !strings.Contains(out, `"check": "address"`) {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestDoctorsCommandLineForAProvider(t *testing.T) {
	idp := issuertest.NewProvider(t, nil)
	t.Setenv("WIKI_CLIENT_SECRET", idp.Secret)
	ours := []string{"doctor", "--provider", idp.Issuer, "--client-id", idp.ClientID}
	if out, status, _ := runs(t, "doctor", "--provider", "--help"); status != 0 || !strings.Contains(out, "usage: mcpbouncer doctor --provider ISSUER") || !strings.Contains(out, "-redirect-uri URI") {
		t.Errorf("status %d: %s", status, out)
	}
	for _, c := range []struct {
		args []string
		why  string
	}{
		{[]string{"doctor", "--provider=https://id.example.com"}, "give both"},
		{append(ours, "https://mcp.example.com/mcp"), "no URL of an MCP server"},
		{append(ours, "--client-secret", idp.Secret), "takes env:NAME or a sealed secret"},
		{append(ours, "--client-auth", "digest"), "--client-auth is auto"},
		{append(ours, "--refresh", "no"), "--refresh is auto"},
		{append(ours, "--parameter", "prompt=none"), "must not hold prompt=none"},
		{append(ours, "--login"), "--login needs --redirect-uri"},
		{append(ours, "--rules", "allowedGroup"), `"allowedGroup" is none of`},
	} {
		if _, status, why := runs(t, c.args...); status != report.StatusUnable || !strings.Contains(why, c.why) || strings.Contains(why, idp.Secret) {
			t.Errorf("%q: status %d, %q, want %q", c.args, status, why, c.why)
		}
	}
	if out, status, _ := runs(t, "doctor", "--provider", "x", "--help"); status != 0 || !strings.Contains(out, "-redirect-uri") {
		t.Errorf("status %d: %s", status, out)
	}
	out, status, why := runs(t, append(ours, "--client-secret", "env:WIKI_CLIENT_SECRET", "--rules", "allowedDomains allowedGroups=a,b groupsClaim=roles")...)
	if status != report.StatusGood || !strings.Contains(out, "ok    client secret: ") || !strings.Contains(out, "note  redirect URI: seen not looked at") {
		t.Errorf("status %d, %q: %s", status, why, out)
	}
	// Nobody is there to paste anything.
	out, status, why = runs(t, append(ours, "--client-secret", "env:WIKI_CLIENT_SECRET", "--login", "--redirect-uri", "https://mcp.localhost/wiki/oauth/callback", "--rules", "allowedSubjects")...)
	if status != report.StatusGood || !strings.Contains(out, "note  login: seen nobody answers at standard input") {
		t.Errorf("status %d, %q: %s", status, why, out)
	}
}

// A line that the person writes answers what was asked last, and an end of the input is no.
func TestDoctorsPersonAtATerminal(t *testing.T) {
	var errs strings.Builder
	address := "https://mcp.localhost/wiki/oauth/callback?code=x"
	person := atTerminal(strings.NewReader(address+"\nY\n\n"), &errs, false)
	if got, err := person.Paste(t.Context()); got != address || err != nil {
		t.Errorf("pasted %q, %v", got, err)
	}
	for i, want := range []bool{true, false, false} {
		if got := person.Confirm(t.Context(), "Go on?"); got != want {
			t.Errorf("answer %d: %v", i+1, got)
		}
	}
	if _, err := person.Paste(t.Context()); err == nil || !strings.Contains(errs.String(), "Go on? [y/N] ") {
		t.Errorf("%v, after %q", err, errs.String())
	}
	waiting, cancel := context.WithCancel(t.Context())
	cancel()
	silent, w := io.Pipe()
	defer w.Close()
	if _, err := atTerminal(silent, &errs, false).Paste(waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt: %v", err)
	}
	if !atTerminal(strings.NewReader(""), &errs, true).Confirm(t.Context(), "Go on?") {
		t.Error("--yes is no")
	}
}
