package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/contract"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// listedLogin is what `mcpbouncer logins --json` says of a login.
type listedLogin struct {
	State, Tenant, Issuer, Login, Subject, Cause string
	Since                                        time.Time
	Refreshes                                    int
}

// loginsList is what it says of all.
type loginsList struct {
	Logins     []listedLogin
	Events     int
	Unreadable int
	Unknown    map[string]int `json:"unknown_events"`
	Apart      int            `json:"contradict_seconds"`
}

// causesInLog is how the log begins to say why a login ended.
var causesInLog = map[contract.Cause]string{
	contract.ByReuse:    "a refresh token was presented again",
	contract.ByClient:   "its client revoked it",
	contract.ByProvider: "the provider was asked about it: ",
}

// checkLogins holds what `mcpbouncer logins` makes of the replicas' logs against what their answers
// said, and shows that it would notice if the two differed.
func (s *swarm) checkLogins() {
	logs := map[string]string{}
	for _, r := range s.w.Replicas {
		logs[r.Name] = s.w.Logs.Text(r.Name)
	}
	standings := map[*rig.Tenant]map[string]contract.Standing{}
	count, unanswered := map[contract.Fate]int{}, 0
	for _, tn := range s.w.Tenants() {
		history := s.history(tn)
		standings[tn] = s.contract(tn).Standings(history)
		for _, standing := range standings[tn] {
			count[standing.Fate]++
		}
		for _, op := range history.Ops {
			if (op.Do == contract.Redeem || op.Do == contract.Assert) && op.Outcome == contract.Unanswered && !op.Forged {
				unanswered++
			}
		}
	}
	list := listLogins(s.t, logs)
	differ := s.compareLogins(list, standings, unanswered)
	s.t.Logf("mcpbouncer logins: %d events that contradict each other by %d s, %d logins; of those of the answers %v", list.Events, list.Apart, len(list.Logins), count)
	for i, text := range differ {
		if i == 20 {
			s.t.Errorf("logins: and %d more", len(differ)-i)
			break
		}
		s.t.Errorf("logins: %s", text)
	}
	for i, o := range listLogins(s.t, map[string]string{"": compose(logs)}).Logins {
		if i >= len(list.Logins) || o != list.Logins[i] {
			s.t.Errorf("the logs in one, as docker compose logs writes them, give %+v instead of %+v", o, list.Logins[min(i, len(list.Logins)-1)])
		}
	}
	if len(differ) > 0 {
		return
	}
	if count[contract.Living] < swarmClients || s.guard.shared && count[contract.Ended] < 3 {
		s.t.Errorf("the logins are %v: the run proves nothing", count)
	}
	for _, plant := range []struct {
		what string
		fate contract.Fate
		edit func(logs map[string]string, login string)
	}{
		{"the lines of a login are lost", contract.Living, func(logs map[string]string, login string) { dropLines(logs, login, "") }},
		{"a login ends that did not", contract.Living, func(logs map[string]string, login string) {
			addLine(logs, login, 0, `"event":"login.ended","because":"a refresh token was presented again"`)
		}},
		{"the lines of an end are lost", contract.Ended, func(logs map[string]string, login string) {
			for _, event := range []string{"login.ended", "login.revoked", "request.refused"} {
				dropLines(logs, login, event)
			}
		}},
		{"a login goes on that ended", contract.Ended, func(logs map[string]string, login string) {
			addLine(logs, login, 10*time.Minute, `"event":"login.refreshed","expires":"2999-01-01T00:00:00Z"`)
		}},
	} {
		login := ""
		for _, of := range standings {
			for id, standing := range of {
				if standing.Fate == plant.fate && standing.Until == 0 {
					login = id
				}
			}
		}
		if login == "" { // with this guard no end is certain
			continue
		}
		edited := maps.Clone(logs)
		plant.edit(edited, login)
		if found := s.compareLogins(listLogins(s.t, edited), standings, unanswered); !slices.ContainsFunc(found, func(text string) bool { return strings.HasPrefix(text, login) }) {
			s.t.Errorf("%s, and nothing notices it: %q", plant.what, found)
		}
	}
}

// compareLogins returns where a list differs from what the answers said, login by login. Of a
// redemption that was not answered the log may have a login that nobody was told of.
func (s *swarm) compareLogins(list loginsList, standings map[*rig.Tenant]map[string]contract.Standing, unanswered int) (differ []string) {
	seen := map[string]bool{}
	unheard := 0
	for _, o := range list.Logins {
		i := slices.IndexFunc(s.w.Tenants(), func(tn *rig.Tenant) bool { return o.Tenant == tn.Name && strings.HasSuffix(o.Issuer, "/"+tn.Name) })
		if i < 0 || seen[o.Login] {
			differ = append(differ, fmt.Sprintf("%s is listed twice, or at no tenant: %+v", o.Login, o))
			continue
		}
		seen[o.Login] = true
		standing, told := standings[s.w.Tenants()[i]][o.Login]
		why := func(text string) {
			differ = append(differ, fmt.Sprintf("%s %s: listed as %s (%s), and by the answers %s (%v); last %v", o.Login, text, o.State, o.Cause, standing.Fate, standing.Causes, standing.Last))
		}
		switch {
		case !told:
			unheard++
			continue
		case standing.Until != 0 && standing.Until < s.now() && o.State == "expired":
		case standing.Fate == contract.Living && o.State != "living":
			why("lives")
		case standing.Fate == contract.Ended && o.State == "refused" && standing.Unheard:
		case standing.Fate == contract.Ended && o.State != "ended":
			why("ended")
		case standing.Fate == contract.Ended && !slices.ContainsFunc(standing.Causes, func(c contract.Cause) bool { return strings.HasPrefix(o.Cause, causesInLog[c]) }):
			why("ended for another cause")
		}
		if o.Since.IsZero() || o.Subject == "" || o.Refreshes+standing.Lost < standing.Tokens-1 {
			why(fmt.Sprintf("began %s, was refreshed %d times and has the pseudonym %q; it had %d tokens, and %d refreshes had no answer", o.Since, o.Refreshes, o.Subject, standing.Tokens, standing.Lost))
		}
	}
	for _, of := range standings {
		for id, standing := range of {
			if !seen[id] {
				differ = append(differ, fmt.Sprintf("%s is not listed; last %v", id, standing.Last))
			}
		}
	}
	if unheard > unanswered {
		differ = append(differ, fmt.Sprintf("%d logins are listed that no answer named, and %d redemptions had no answer", unheard, unanswered))
	}
	if list.Unreadable > 0 || len(list.Unknown) > 0 {
		differ = append(differ, fmt.Sprintf("%d lines cannot be read, and unknown events are %v", list.Unreadable, list.Unknown))
	}
	return differ
}

// listLogins runs the command over logs, each in a file of its own.
func listLogins(t *testing.T, logs map[string]string) (list loginsList) {
	t.Helper()
	dir := t.TempDir()
	args := []string{"logins", "--all", "--json"}
	for i, name := range slices.Sorted(maps.Keys(logs)) {
		file := filepath.Join(dir, fmt.Sprint(i, ".log"))
		if err := os.WriteFile(file, []byte(logs[name]), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	out, err := exec.Command(rig.Tool(t, "mcpbouncer"), args...).Output()
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		t.Fatalf("mcpbouncer %q: %v\n%.1000s", args, err, out)
	}
	return list
}

// compose mixes logs as docker compose logs does: each line with its replica's name.
func compose(logs map[string]string) string {
	var b strings.Builder
	left := map[string][]string{}
	for name, text := range logs {
		left[name] = slices.Collect(strings.Lines(text))
	}
	for more := true; more; {
		more = false
		for _, name := range slices.Sorted(maps.Keys(left)) {
			n := min(7, len(left[name]))
			for _, line := range left[name][:n] {
				b.WriteString(name + "  | " + line)
			}
			left[name] = left[name][n:]
			more = more || n > 0
		}
	}
	return b.String()
}

// dropLines takes the lines about a login out of the logs: those of an event, or all.
func dropLines(logs map[string]string, login, event string) {
	for name, text := range logs {
		var b strings.Builder
		for line := range strings.Lines(text) {
			if !strings.Contains(line, `"family":"`+login+`"`) || event != "" && !strings.Contains(line, `"event":"`+event+`"`) {
				b.WriteString(line)
			}
		}
		logs[name] = b.String()
	}
}

// addLine adds an event about a login to the log that has its beginning, so long after its last
// line.
func addLine(logs map[string]string, login string, after time.Duration, facts string) {
	for name, text := range logs {
		for line := range strings.Lines(text) {
			var began struct {
				Event, Tenant, Issuer, Family string
			}
			if json.Unmarshal([]byte(line), &began) == nil && began.Event == "token.issued" && began.Family == login {
				at := time.Now().Add(after).UTC().Format(time.RFC3339Nano)
				logs[name] = text + fmt.Sprintf(`{"time":%q,"msg":"added",%s,"tenant":%q,"issuer":%q,"family":%q}`+"\n", at, facts, began.Tenant, began.Issuer, login)
				return
			}
		}
	}
}
