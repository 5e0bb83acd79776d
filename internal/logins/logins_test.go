package logins

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
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
		{"a thief without the key that it is bound to", issued(0, "a") + at(9, "binding.broken", "family", "a", "error", "invalid_grant", "cause", "bound to a key"), "living a 0 refreshes"},
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
			list, err := Read(begin.Add(90*time.Minute), Log{Text: strings.NewReader(c.log)})
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
		name, text                  string
		logins, skipped, unreadable int
	}{
		{"as it was written", plain, 1, 0, 0},
		{"docker compose logs", "bouncer-1  | " + plain, 1, 0, 0},
		{"docker compose logs -t", "mcpbouncer-bouncer-1  | 2026-11-30T08:00:00.123456789Z " + plain, 1, 0, 0},
		{"docker logs -t", "2026-11-30T08:00:00.123456789Z " + plain, 1, 0, 0},
		{"docker service logs", "mcp_bouncer.1.x7k2@node-1    | " + plain, 1, 0, 0},
		{"kubectl logs --prefix", "[pod/bouncer-5d8/bouncer] " + plain, 1, 0, 0},
		{"Docker's json-file", file(plain), 1, 0, 0},
		{"Kubernetes' files", "2026-11-30T08:00:00.123456789Z stdout F " + plain, 1, 0, 0},
		{"Kubernetes' files, in two parts", "2026-11-30T08:00:00.1Z stdout P " + plain[:40] + "\n2026-11-30T08:00:00.2Z stdout F " + plain[40:], 1, 0, 0},
		{"aws logs tail", "2026-11-30T08:00:00.123000+00:00 2026/11/30/[$LATEST]0a1b2c " + plain, 1, 0, 0},
		{"aws logs tail --format short", "2026-11-30T08:00:00 " + plain, 1, 0, 0},
		{"with carriage returns and empty lines", "\r\n" + plain + "\r\n\n", 1, 0, 0},
		{"a warning that is not an event", `{"time":"2026-11-30T08:00:00Z","level":"WARN","msg":"clocks differ"}`, 0, 1, 0},
		{"a line of another program", `time="2026-11-30T08:00:00Z" level=info`, 0, 1, 0},
		{"Docker's file around text", file("hello"), 0, 1, 0},
		{"a part whose rest is lost", "2026-11-30T08:00:00.1Z stdout P " + plain[:40], 0, 0, 1},
		{"a line of another program that cites one", "wiki-1  | error: " + plain, 0, 0, 1},
		{"an event without a time", `{"event":"token.issued"}`, 0, 0, 1},
		{"an event about a login that names none", at(0, "login.refreshed"), 0, 0, 1},
		{"a line that was cut", plain[:60], 0, 0, 1},
		{"a line whose beginning was cut", plain[20:], 0, 0, 1},
		{"a line that was cut in Docker's file", file(plain[:160]), 0, 0, 1},
		{"a line that is too long", `{"x":"` + strings.Repeat("x", maxLine) + `"}` + "\n" + plain, 1, 0, 1},
		{"another type", `{"time":"2026-11-30T08:00:00Z","event":"token.issued","family":5}`, 0, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := Read(begin, Log{Name: "a.log", Text: strings.NewReader("\n" + c.text)})
			if err != nil || len(list.Logins) != c.logins || list.Skipped != c.skipped || list.Unreadable != c.unreadable {
				t.Errorf("logins %d, skipped %d, unreadable %d, %v", len(list.Logins), list.Skipped, list.Unreadable, err)
			} else if c.unreadable > 0 && !strings.HasPrefix(list.UnreadableAt[0], "a.log:") {
				t.Errorf("at %q", list.UnreadableAt)
			}
		})
	}
}

// Lines are counted that say what this version cannot take in.
func TestLoginsCountWhatTheyDoNotKnow(t *testing.T) {
	log := issued(0, "a") + at(-3, "login.presented", "family", "a") + at(1, "login.paused\x1b[31m", "family", "a") + at(2, "login.paused\x1b[31m", "family", "a") + strings.Repeat(`{"time":"2026-`+"\n", 7)
	list, err := Read(begin, Log{Text: strings.NewReader(log)})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := list.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"logins: 1,", "events: 4, lines that were skipped: 0.",
		"Lines that hold an event and cannot be read: 7 (line:5, line:6, line:7, line:8, line:9, …).",
		"Events that this version does not know: login.paused·[31m (2).",
		"Lines contradict each other by up to 3m0s:",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	var many strings.Builder
	for i := range 2 * maxUnknown {
		many.WriteString(at(0, fmt.Sprintf("new.event%d", i)))
	}
	if list, err = Read(begin, Log{Text: strings.NewReader(many.String())}); err != nil || len(list.UnknownEvents) != maxUnknown+1 || list.UnknownEvents["others"] != maxUnknown {
		t.Errorf("%v: %v", err, list.UnknownEvents)
	}
}

// Replicas whose clocks differ, each with a log of its own. The order in which they are read, and
// whether they come in one log, does not matter.
func TestLoginsOfSeveralReplicas(t *testing.T) {
	ended := func(minutes int, because string) string {
		return at(minutes, "login.ended", "family", "a", "because", because)
	}
	denied := func(minutes int) string {
		return at(minutes, "request.denied", "family", "a", "error", "invalid_grant", "cause", "deny document")
	}
	for _, c := range []struct {
		name  string
		logs  []string
		want  State
		cause string
		apart int
	}{
		{"one ends what another has given a token, whose clock is ahead", []string{issued(10, "a") + refreshed(12, "a"), ended(9, "reuse")}, Ended, "reuse", 180},
		{"a refusal that seems to come before the end", []string{issued(0, "a") + ended(5, "its client revoked it"), at(4, "request.refused", "family", "a", "error", "invalid_grant", "description", "this login was ended")},
			Ended, "its client revoked it", 0},
		{"a login that another one lets in long after its end", []string{issued(0, "a") + ended(5, "reuse"), refreshed(12, "a")}, Unclear, "reuse; and yet a token was given at 2026-11-30T08:12:00Z", 0},
		{"a token that was on its way when the login ended", []string{issued(0, "a") + ended(5, "reuse") + strings.Replace(refreshed(5, "a"), "08:05:00", "08:05:20", 1)}, Ended, "reuse", 0},
		{"a replica that lets a login in after it ended it", []string{issued(0, "a") + ended(5, "reuse") + refreshed(6, "a")}, Unclear, "reuse; and yet a token was given at 2026-11-30T08:06:00Z", 0},
		{"the same, and it ended again", []string{issued(0, "a") + ended(5, "reuse") + refreshed(6, "a") + ended(7, "the provider was asked")}, Ended, "the provider was asked", 0},
		{"an end of which two replicas speak", []string{issued(0, "a") + ended(6, "again"), ended(5, "first")}, Ended, "first", 0},
		{"a clock that was set back behind the end", []string{issued(8, "a") + ended(9, "reuse") + at(2, "deny.read", "serial", 1), refreshed(12, "a")}, Ended, "reuse", 180},
		{"denied after all", []string{issued(0, "a") + refreshed(4, "a"), denied(5)}, Refused, "deny document", 0},
		{"denied, and given a token within what clocks may differ", []string{issued(0, "a") + refreshed(7, "a"), denied(5)}, Unclear, "deny document; and yet a token was given at 2026-11-30T08:07:00Z", 0},
		{"denied, and given a token long after", []string{issued(0, "a") + refreshed(20, "a"), denied(5)}, Living, "", 0},
		{"denied by the replica that gave a token afterwards", []string{issued(0, "a") + denied(5) + refreshed(6, "a")}, Living, "", 0},
		{"a client that is denied at another replica", []string{issued(0, "a"), at(5, "request.denied", "client", "c1", "error", "invalid_client", "cause", "deny document")}, Refused, "deny document", 0},
		{"a label that is changed back", []string{issued(0, "a") + at(1, "label.changed", "label", "generation", "now", "1") + at(20, "label.changed", "label", "generation", "now", "0"),
			at(2, "label.changed", "label", "generation", "now", "1") + refreshed(21, "a") + at(22, "label.changed", "label", "generation", "now", "0")}, Living, "", 0},
		{"the same change of a label, another day", []string{at(1, "label.changed", "label", "generation", "now", "1") + at(20, "label.changed", "label", "generation", "now", "0") + issued(21, "a") +
			at(40, "label.changed", "label", "generation", "now", "1")}, Ended, "the label generation was changed", 0},
		{"a refresh that seems to come before its login", []string{issued(8, "a"), refreshed(6, "a")}, Living, "", 120},
		{"a token that seems to be presented before it was issued", []string{issued(8, "a"), at(7, "login.presented", "family", "a")}, Living, "", 60},
		{"a login that was presented", []string{issued(1, "a"), at(2, "login.presented", "family", "a")}, Living, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var logs, composed []Log
			compose := ""
			for i, text := range c.logs {
				logs = append(logs, Log{Text: strings.NewReader(text)})
				for line := range strings.Lines(text) {
					compose += fmt.Sprintf("bouncer-%d  | %s", i+1, line)
				}
			}
			composed = []Log{{Text: strings.NewReader(compose)}}
			var backwards []Log
			for i := range c.logs {
				backwards = append(backwards, Log{Text: strings.NewReader(c.logs[len(c.logs)-1-i])})
			}
			for how, logs := range map[string][]Log{"in order": logs, "backwards": backwards, "in one log": composed} {
				list, err := Read(begin.Add(50*time.Minute), logs...)
				if err != nil || len(list.Logins) != 1 {
					t.Fatalf("%s: %v, %v", how, list, err)
				}
				if o := list.Logins[0]; o.State != c.want || o.Cause != c.cause || list.Apart != c.apart {
					t.Errorf("%s: %s (%s), apart %d; want %s (%s), %d", how, o.State, o.Cause, list.Apart, c.want, c.cause, c.apart)
				}
			}
		})
	}
}

// What ended stays ended, in whatever order the lines are.
func TestLoginsEndIsFinalInWhateverOrder(t *testing.T) {
	lines := []string{issued(3, "a"), refreshed(4, "a"), refreshed(6, "a"), at(2, "login.revoked", "family", "a", "because", "its client revoked it"),
		at(1, "request.refused", "family", "a", "error", "invalid_grant", "description", "this login was ended")}
	n, unclear := 0, []string{}
	var each func(left []string, log string)
	each = func(left []string, log string) {
		if len(left) == 0 {
			n++
			list, err := Read(begin.Add(time.Hour), Log{Text: strings.NewReader(log)})
			if err != nil || len(list.Logins) != 1 {
				t.Fatal(list, err)
			}
			if o := list.Logins[0]; o.Refreshes != 2 {
				t.Errorf("%d refreshes:\n%s", o.Refreshes, log)
			} else if o.State == Unclear {
				unclear = append(unclear, log)
			} else if o.State != Ended || !strings.Contains(o.Cause, "revoked") {
				t.Errorf("%s (%s):\n%s", o.State, o.Cause, log)
			}
			return
		}
		for i := range left {
			each(slices.Concat(left[:i], left[i+1:]), log+left[i])
		}
	}
	each(lines, "")
	// In one order nothing goes back in time: one replica may have written that, and then a token
	// came long after the end.
	if n != 120 || len(unclear) != 1 {
		t.Errorf("of %d orders these are unclear: %q", n, unclear)
	}
}

// docs/logins.md has each event, and says of each whether it changes the list.
func TestLoginsPageSaysWhichEventsCount(t *testing.T) {
	page, err := os.ReadFile("../../docs/logins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Which events count\n")
	table, _, _ = strings.Cut(table, "\n## ")
	read := func(log string) string {
		list, err := Read(begin.Add(50*time.Minute), Log{Text: strings.NewReader(log)})
		if err != nil || list.Unreadable > 0 || len(list.UnknownEvents) > 0 {
			t.Fatalf("%v: %+v", err, list)
		}
		return string(mustMarshal(t, list.Logins))
	}
	before := read(issued(0, "a"))
	rows := map[string]bool{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 3 {
			continue
		}
		for i, event := range strings.Split(cells[1], "`") {
			if i%2 == 0 {
				continue
			}
			rows[event] = true
			after := read(issued(0, "a") + at(9, event, "client", "c1", "subject", "anna", "family", "a", "name", "App", "because", "x", "cause", "y", "error", "invalid_grant",
				"label", "generation", "now", "1", "request", "r", "expires", 70, "refresh_until", 310, "ends", 610))
			if (after == before) != (strings.TrimSpace(cells[2]) == "nothing") {
				t.Errorf("%s: the page says %q\n%s\n%s", event, cells[2], before, after)
			}
		}
	}
	for _, e := range audit.All() {
		if !rows[e.Name] {
			t.Errorf("the page has no %s", e.Name)
		}
	}
}

// Another master makes another pseudonym. The list has that of today, which the next line has too.
func TestLoginsHaveTheNewestPseudonym(t *testing.T) {
	logs := []string{issued(0, "a"), refreshed(30, "a", "subject", "anna2"), refreshed(20, "a")}
	for range logs {
		list, err := Read(begin, Log{Text: strings.NewReader(strings.Join(logs, ""))})
		if err != nil || len(list.Logins) != 1 || list.Logins[0].Subject != "anna2" {
			t.Errorf("%v: %+v", err, list.Logins)
		}
		logs = append(logs[1:], logs[0])
	}
}

// repeated gives the same lines again and again, and notes how much memory is in use meanwhile.
type repeated struct {
	lines       string
	left        int
	sent, limit uint64
}

func (r *repeated) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.limit = max(r.limit, m.HeapAlloc)
	r.sent += uint64(len(r.lines))
	return copy(b, r.lines), nil
}

// The memory is that of the logins, however long the log is.
func TestLoginsKeepNoLines(t *testing.T) {
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	in := &repeated{lines: strings.Repeat(refreshed(1, "a")+refreshed(2, "b"), 100), left: 500}
	list, err := Read(begin, Log{Text: in})
	if err != nil || len(list.Logins) != 2 || list.Events != 100_000 || in.sent < 20<<20 {
		t.Fatalf("%v: %d logins of %d events in %d bytes", err, len(list.Logins), list.Events, in.sent)
	}
	if more := in.limit - min(in.limit, before.HeapAlloc); more > 8<<20 {
		t.Errorf("%d bytes of log take %d bytes of memory", in.sent, more)
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
		list, err := Read(begin.Add(30*time.Minute), Log{Text: strings.NewReader(log)})
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
	for _, want := range []string{"logins: 2, people and machines: 2", "lines that were skipped: 1", "anna", "ben-1", "https://app.example/c.json", "2026-11-30 08:20Z", "  2026-11-30 13:20  a", Unknown[0]} {
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
