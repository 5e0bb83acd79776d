package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the answers say of each login at the end.
func TestModelOfLogins(t *testing.T) {
	for _, c := range []struct {
		name     string
		guard    Guard
		upstream Upstream
		history  string
		want     string // id, fate, number of tokens, causes
	}{
		{"one that goes on", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 refresh r1 in L granted r2
			4-5 refresh r1 in L granted r2`, "L living 2"},
		{"one whose last answer was lost", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 refresh r1 cut unanswered`, "L living 1"},
		{"one that nobody was told of", Shared, Lenient, `
			0-1 redeem c unanswered`, ""},
		{"one that was revoked", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 revoke r1 granted
			4-5 refresh r1 refused`, "L ended 1 client"},
		{"one whose revocation had no answer", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 revoke r1 unanswered`, "L may live 1 client"},
		{"one whose refresh was on its way when it was revoked", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-4 refresh r1 in L granted r2
			3-5 revoke r1 granted`, "L may live 2 client"},
		{"one whose token came again", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 refresh r1 in L granted r2
			4-5 refresh r2 in L granted r3
			90-91 refresh r1 refused
			92-93 refresh r3 refused`, "L ended 3 reuse"},
		{"one that another process lets in", Memory, Lenient, `
			0-1 redeem c at a in L granted r1
			2-3 refresh r1 at a in L granted r2
			90-91 refresh r1 at a refused
			92-93 refresh r2 at b in L granted r3`, "L may live 3 reuse"},
		{"one that the store has forgotten", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 revoke r1 granted
			4-4 outage emptied
			5-6 refresh r1 in L granted r2`, "L may live 2 client"},
		{"one of somebody who was removed", None, Refuses, `
			0-1 redeem c of ada in L granted r1
			2-3 ends of ada by 5
			6-7 refresh r1 refused`, "L ended 1 provider"},
		{"one of somebody who was removed and did not come", None, Refuses, `
			0-1 redeem c of ada in L granted r1
			2-3 ends of ada by 5`, "L living 1"},
		{"one that was revoked at the provider", None, Lenient, `
			0-1 redeem c in L granted r1
			2-3 revoke r1 granted
			4-5 refresh r1 refused`, "L ended 1 client provider"},
		{"one whose refusal was perhaps lost", None, Ends, `
			0-1 redeem c in L granted r1
			2-3 refresh r1 in L granted r2
			4-5 refresh r1 cut unanswered`, "L may live 2 provider"},
		{"two of one code", Memory, Lenient, `
			0-1 redeem c at a in L granted r1
			0-1 redeem c at b in M granted s1
			2-3 revoke s1 granted`, "L living 1, M ended 1 client"},
		{"one that a thief without the key tried", Shared, Lenient, `
			0-1 redeem c in L granted r1
			2-3 refresh r1 in L granted r2
			90-91 refresh r1 forged refused`, "L living 2"},
		{"those of an assertion, each its own", Shared, Lenient, `
			0-1 assert j in L until 60 granted
			2-3 assert k in M until 62 granted`, "L living 0, M living 0"},
		{"a workload, which is one", Shared, Lenient, `
			0-1 work w in L until 60 granted
			2-3 work v in L until 62 granted`, "L living 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			of := contract[c.guard]
			of.Upstream, of.Interval = c.upstream, 2*time.Second
			standings := of.Standings(parse(t, c.history))
			var got []string
			for _, id := range []string{"L", "M"} {
				if s, ok := standings[id]; ok {
					text := fmt.Sprint(id, " ", s.Fate, " ", s.Tokens)
					for _, cause := range s.Causes {
						text += " " + string(cause)
					}
					got = append(got, text)
				}
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}
