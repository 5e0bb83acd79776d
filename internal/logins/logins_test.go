package logins

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var begin = time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)

// at writes an event that happened so many minutes after begin. Times in fields are minutes too.
func at(minutes int, event string, fields ...any) string {
	m := map[string]any{"time": begin.Add(time.Duration(minutes) * time.Minute), "level": "INFO", "msg": "x", "event": event, "tenant": "wiki", "issuer": "https://mcp.example/wiki"}
	for i := 0; i < len(fields); i += 2 {
		value := fields[i+1]
		if n, ok := value.(int); ok && (fields[i] == "expires" || fields[i] == "ends" || fields[i] == "refresh_until") {
			value = begin.Add(time.Duration(n) * time.Minute)
		}
		m[fields[i].(string)] = value
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}

func issued(minutes int, login string) string {
	return at(minutes, "token.issued", "client", "c1", "subject", "anna", "family", login, "expires", minutes+60, "refresh_until", minutes+300, "ends", minutes+600)
}

func refreshed(minutes int, login string, more ...any) string {
	return at(minutes, "login.refreshed", append([]any{"client", "c1", "subject", "anna", "family", login, "expires", minutes + 60, "ends", 600}, more...)...)
}

// Each row is a log, and what it says of its logins an hour and a half after it begins.
func TestLoginsOfALog(t *testing.T) {
	for _, c := range []struct{ name, log, want string }{
		{"a login", issued(0, "a"), "living a 0 refreshes"},
		{"a login and its refreshes", issued(0, "a") + refreshed(20, "a", "refresh_until", 320) + refreshed(50, "a", "refresh_until", 350), "living a 2 refreshes"},
		{"an answer that was given again is not a login, nor a refresh", issued(0, "a") + refreshed(20, "a", "refresh_until", 320) + refreshed(21, "a", "repeated", true), "living a 1 refreshes"},
		{"an answer that was given again, and the first is not in the log", refreshed(21, "a", "repeated", true), "living a 0 refreshes"},
		{"two logins of one person", issued(0, "a") + issued(1, "b"), "living a 0 refreshes, living b 0 refreshes"},
		{"lines of two replicas, out of order", refreshed(20, "a", "refresh_until", 320) + issued(0, "a"), "living a 1 refreshes"},
		{"a login from before the log", refreshed(20, "a", "refresh_until", 320), "living a 1 refreshes"},
		{"a login that was not used for too long", at(0, "token.issued", "family", "a", "expires", 60, "refresh_until", 80, "ends", 600), "expired a 0 refreshes"},
		{"a token that outlives its refresh token", at(0, "token.issued", "family", "a", "expires", 100, "refresh_until", 80, "ends", 80), "living a 0 refreshes"},
		{"a refresh token that stays as it is", at(0, "token.issued", "family", "a", "expires", 60, "refresh_until", 80, "ends", 600) + refreshed(70, "a", "expires", 77), "expired a 1 refreshes"},
		{"ended", issued(0, "a") + at(9, "login.ended", "family", "a", "because", "reuse"), "ended a 0 refreshes: reuse"},
		{"revoked", issued(0, "a") + at(9, "login.revoked", "family", "a", "because", "its client revoked it"), "ended a 0 refreshes: its client revoked it"},
		{"ended, and its client comes again", issued(0, "a") + at(9, "login.ended", "family", "a", "because", "reuse") +
			at(10, "request.refused", "family", "a", "error", "invalid_grant", "description", "over"), "ended a 0 refreshes: reuse"},
		{"the deny document names it", issued(0, "a") + at(9, "request.denied", "family", "a", "error", "invalid_grant", "cause", "deny document: families"), "refused a 0 refreshes: deny document: families"},
		{"the deny document names its client", issued(0, "a") + at(9, "request.denied", "client", "c1", "error", "invalid_client", "cause", "deny document: client c1"), "refused a 0 refreshes: deny document: client c1"},
		{"the provider is away", issued(0, "a") + at(9, "request.refused", "family", "a", "error", "temporarily_unavailable"), "living a 0 refreshes"},
		{"a bridge", issued(0, "a") + at(9, "login.bridged", "family", "a", "cause", "away") + refreshed(9, "a"), "living a 1 refreshes"},
		{"another scope", issued(0, "a") + at(9, "request.refused", "family", "a", "error", "invalid_scope"), "living a 0 refreshes"},
		{"a rule keeps the person out", issued(0, "a") + at(9, "person.refused", "family", "a", "error", "access_denied", "cause", "by the label allowedGroups"), "refused a 0 refreshes: by the label allowedGroups"},
		{"a rule that was mended", issued(0, "a") + at(9, "person.refused", "family", "a", "error", "access_denied", "cause", "x") + refreshed(12, "a", "refresh_until", 312), "living a 1 refreshes"},
		{"a person who never came in", at(9, "person.refused", "subject", "ben", "error", "access_denied", "cause", "by the label allowedEmails"), "refused  0 refreshes: by the label allowedEmails"},
		{"the generation was raised", issued(0, "a") + at(9, "label.changed", "label", "generation", "before", "0", "now", "1") + issued(10, "b") +
			at(11, "label.changed", "label", "generation", "before", "0", "now", "1"), "ended a 0 refreshes: the label generation was changed, living b 0 refreshes"},
		{"a label that ends nothing", issued(0, "a") + at(9, "label.changed", "label", "displayName", "before", "", "now", "x"), "living a 0 refreshes"},
		{"a key's number where a label's text stands", issued(0, "a") + at(9, "key.changed", "epoch", 5, "before", 4), "living a 0 refreshes"},
		{"a machine", at(0, "machine.admitted", "family", "m", "expires", 60) + at(50, "machine.admitted", "family", "m", "expires", 110), "living m 0 refreshes"},
		{"a machine that came long ago", at(0, "machine.admitted", "family", "m", "expires", 60), "expired m 0 refreshes"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := Read(strings.NewReader(c.log), begin.Add(90*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range list.Logins {
				text := fmt.Sprintf("%s %s %d refreshes", o.State, o.ID, o.Refreshes)
				if o.Cause != "" {
					text += ": " + o.Cause
				}
				got = append(got, text)
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got %s\nwant %s", text, c.want)
			}
		})
	}
}

// The same line as each tool writes it.
func TestLoginsReadEachFormOfLog(t *testing.T) {
	plain := strings.TrimSpace(issued(0, "a"))
	file := func(text string) string {
		return `{"log":` + string(mustMarshal(t, text+"\n")) + `,"stream":"stdout","time":"2026-11-30T08:00:00.1Z"}`
	}
	for _, c := range []struct {
		name, text      string
		logins, skipped int
	}{
		{"as it was written", plain, 1, 0},
		{"docker compose logs", "bouncer-1  | " + plain, 1, 0},
		{"docker compose logs -t", "mcpbouncer-bouncer-1  | 2026-11-30T08:00:00.123456789Z " + plain, 1, 0},
		{"docker logs -t", "2026-11-30T08:00:00.123456789Z " + plain, 1, 0},
		{"kubectl logs --prefix", "[pod/bouncer-5d8/bouncer] " + plain, 1, 0},
		{"Docker's json-file", file(plain), 1, 0},
		{"Kubernetes' files", "2026-11-30T08:00:00.123456789Z stdout F " + plain, 1, 0},
		{"Kubernetes' files, in two parts", "2026-11-30T08:00:00.1Z stdout P " + plain[:40] + "\n2026-11-30T08:00:00.2Z stdout F " + plain[40:], 1, 0},
		{"a part whose rest is lost", "2026-11-30T08:00:00.1Z stdout P " + plain[:40], 0, 1},
		{"with carriage returns and empty lines", "\r\n" + plain + "\r\n\n", 1, 0},
		{"a line of another program that cites one", "wiki-1  | error: " + plain, 0, 1},
		{"a warning that is not an event", `{"time":"2026-11-30T08:00:00Z","level":"WARN","msg":"clocks differ"}`, 0, 1},
		{"an event without a time", `{"event":"token.issued"}`, 0, 1},
		{"a line that was cut", plain[:60], 0, 1},
		{"a line that is too long", `{"x":"` + strings.Repeat("x", maxLine) + `"}` + "\n" + plain, 1, 1},
		{"another type", `{"time":"2026-11-30T08:00:00Z","event":"token.issued","family":5}`, 0, 1},
		{"Docker's file around text", file("hello"), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := Read(strings.NewReader(c.text), begin)
			if err != nil || len(list.Logins) != c.logins || list.Skipped != c.skipped {
				t.Errorf("logins %d, skipped %d, %v", len(list.Logins), list.Skipped, err)
			}
		})
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLoginsAreWrittenForPeople(t *testing.T) {
	log := at(0, "client.registered", "client", "c1", "name", "Evil\x1b[31m App") + issued(0, "a") + refreshed(20, "a", "refresh_until", 320) +
		at(5, "token.issued", "tenant", "crm", "issuer", "https://mcp.example/crm", "document", "https://app.example/c.json", "client", "c2", "subject", "ben", "sub", "ben-1",
			"family", "b", "expires", 65, "refresh_until", 305, "ends", 605) +
		issued(6, "c") + at(7, "login.ended", "family", "c", "because", "a refresh token was presented again") + "hello\n"
	write := func(tenant string, all bool) string {
		list, err := Read(strings.NewReader(log), begin.Add(30*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		list.Of(tenant, all)
		var b strings.Builder
		if err := list.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	text := write("", false)
	for _, want := range []string{"logins: 2, people and machines: 2", "lines that were skipped: 1", "anna", "ben-1", "https://app.example/c.json", "2026-11-30 08:20Z", "2026-11-30 18:00Z", Unknown[0]} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") || !strings.Contains(text, "Evil") || strings.Contains(text, "presented again") {
		t.Errorf("%s", text)
	}
	if all := write("", true); !strings.Contains(all, "a refresh token was presented again") {
		t.Errorf("%s", all)
	}
	for _, tenant := range []string{"crm", "https://mcp.example/crm", "https://mcp.example/crm/"} {
		if one := write(tenant, true); strings.Contains(one, "anna") || !strings.Contains(one, "ben-1") {
			t.Errorf("--tenant %s: %s", tenant, one)
		}
	}
	log = "hello\n"
	if text := write("", false); !strings.Contains(text, "The log holds no event") {
		t.Errorf("%s", text)
	}
}
