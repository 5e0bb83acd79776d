package contract

import (
	"strings"
	"testing"
	"time"
)

var contract = map[Guard]Contract{
	None:   {Guard: None, Grace: time.Minute, Life: time.Hour, Claim: 15 * time.Second, Settle: time.Second},
	Memory: {Guard: Memory, Grace: time.Minute, Life: time.Hour, Claim: 15 * time.Second, Settle: time.Second},
	Shared: {Guard: Shared, Grace: time.Minute, Life: time.Hour, Claim: 15 * time.Second, Settle: time.Second},
}

// A checker that cannot fail proves nothing: each of these must be refused, for the reason given.
func TestModelRejects(t *testing.T) {
	for _, c := range []struct {
		name    string
		guards  []Guard
		history string
		says    string
	}{
		{"a code that was redeemed twice, one after the other", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 redeem c granted x1`, "a code was redeemed twice"},
		{"a code that was redeemed twice at the same time, with a shared guard", []Guard{Shared}, `
			0-3 redeem c granted r1
			1-2 redeem c granted x1`, "a code was redeemed twice"},
		{"a code that was redeemed twice at the same time at one process", []Guard{Memory}, `
			0-3 redeem c at a granted r1
			1-2 redeem c at a granted x1`, "a code was redeemed twice"},
		{"a code that works without its verifier", []Guard{None, Memory, Shared}, `
			0-1 redeem c forged granted r1`, "a code was redeemed without its verifier"},
		{"a first redemption that is refused", []Guard{None, Memory, Shared}, `
			0-1 redeem c refused`, "a code was refused without cause"},
		{"a code that a thief without the verifier has spoilt", []Guard{None, Memory, Shared}, `
			0-1 redeem c forged refused
			2-3 redeem c refused`, "a code was refused without cause"},
		{"a client that is logged out at its first refresh", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 refused`, "logged out without cause"},
		{"a client that is logged out by two refreshes at the same time", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-4 refresh r1 granted r2
			3-4 refresh r1 refused`, "logged out without cause"},
		{"a client that is logged out because an answer was lost", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 cut unanswered
			10-11 refresh r1 refused`, "logged out without cause"},
		{"a client that is logged out because the store was away", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-9 outage store
			3-4 refresh r1 refused`, "logged out without cause"},
		{"a client that is logged out because the store forgot", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-4 outage emptied
			5-6 refresh r2 refused`, "logged out without cause"},
		{"a client that is logged out by the reuse of another family", []Guard{Shared}, `
			0-1 redeem c granted r1
			0-1 redeem d granted s1
			2-3 refresh r1 granted r2
			90-91 refresh r1 refused
			92-93 refresh s1 refused`, "logged out without cause"},
		{"a client that is logged out after an hour while nobody reused anything", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			3000-3001 refresh r2 refused`, "logged out without cause"},
		{"a memory guard that is told what another process has seen", []Guard{Memory}, `
			0-1 redeem c at a granted r1
			2-3 refresh r1 at a granted r2
			90-91 refresh r1 at b refused`, "logged out without cause"},
		{"a reuse beyond the grace that goes through", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			90-91 refresh r1 granted r2`, "a refresh token was used again beyond the grace"},
		{"a reuse beyond the grace at the same process", []Guard{Memory}, `
			0-1 redeem c at a granted r1
			2-3 refresh r1 at a granted r2
			90-91 refresh r1 at a granted r2`, "a refresh token was used again beyond the grace"},
		{"a reuse within the grace, after the next one was used", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-5 refresh r2 granted r3
			6-7 refresh r1 granted r2`, "a refresh token was used again beyond the grace"},
		{"a client that keeps its token because the store did not answer, and comes back late", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-9 outage store
			3-4 refresh r1 granted
			300-301 refresh r1 refused`, "logged out without cause"},
		{"a reuse that goes through long after the store is back", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			10-20 outage store
			90-91 refresh r1 granted r2`, "a refresh token was used again beyond the grace"},
		{"a family that goes on after its reuse was seen", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			90-91 refresh r1 refused
			92-93 refresh r2 granted r3`, "a refresh token of a family that had ended was accepted"},
		{"a family that goes on after its revocation", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 revoke r1 granted
			4-5 refresh r1 granted r2`, "a refresh token of a family that had ended was accepted"},
		{"a family that goes on after its life", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			4000-4001 refresh r1 granted r2`, "a refresh token of a family that had ended was accepted"},
		{"a family that goes on after the operator ended it", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			10 ends c by 40
			41-42 refresh r1 granted r2`, "a refresh token of a family that had ended was accepted"},
		{"two successors of one token", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			2-4 refresh r1 granted x2`, "one refresh token had two successors"},
		{"two successors of one token at one process", []Guard{Memory}, `
			0-1 redeem c at a granted r1
			2-3 refresh r1 at a granted r2
			2-4 refresh r1 at a granted x2`, "one refresh token had two successors"},
		{"a refresh token out of nowhere", []Guard{None, Memory, Shared}, `
			2-3 refresh x granted r2`, "a refresh token that was never given was accepted"},
		{"no answer while everything works", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			1-2 outage sidecar
			9-10 refresh r1 unanswered`, "no answer, though everything worked"},
		{"no answer long after a process died, and for another login", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			0-1 redeem d granted s1
			2-3 outage sidecar
			2-3 refresh r1 unanswered
			10-11 refresh s1 unanswered`, "no answer, though everything worked"},
		{"no answer longer after a process died than a claim lasts", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 outage sidecar
			2-3 refresh r1 unanswered
			19-20 refresh r1 unanswered`, "no answer, though everything worked"},
		{"no answer to a revocation while everything works", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			9-10 revoke r1 unanswered`, "no answer, though everything worked"},
		{"a login that is refused", []Guard{None, Memory, Shared}, `
			0-1 login someone refused`, "a login was refused"},
		{"a login that fails while everything works", []Guard{None, Memory, Shared}, `
			0-1 login someone unanswered`, "no answer, though everything worked"},
		{"an answer that is none", []Guard{None, Memory, Shared}, `
			0-1 redeem c broken`, "an answer that is none"},
		{"a revocation that is refused", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 revoke r1 refused`, "a revocation was refused"},
		{"an access token that is refused before its end", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 call r1 until 60 refused`, "an access token was refused without cause"},
		{"an access token that is refused because its family was revoked", []Guard{Shared}, `
			0-1 redeem c granted r1
			1-2 revoke r1 granted
			2-3 call r1 until 60 refused`, "an access token was refused without cause"},
		{"an access token that works for ever", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			200-201 call r1 until 60 granted`, "an access token worked after its end"},
		{"an assertion that is taken twice", []Guard{Shared}, `
			0-1 assert j in L until 60 granted
			2-3 assert j in M until 60 granted`, "an assertion was taken twice"},
		{"an assertion that is taken twice at the same time", []Guard{Shared}, `
			0-3 assert j in L until 60 granted
			1-2 assert j in M until 60 granted`, "an assertion was taken twice"},
		{"an assertion that is taken twice at one process", []Guard{Memory}, `
			0-1 assert j at a in L until 60 granted
			2-3 assert j at a in M until 60 granted`, "an assertion was taken twice"},
		{"an assertion of another client's", []Guard{None, Memory, Shared}, `
			0-1 assert j forged granted`, "an assertion was taken from a client that it does not name"},
		{"a new assertion that is refused", []Guard{None, Memory, Shared}, `
			0-1 assert j refused`, "an assertion was refused without cause"},
		{"an assertion that another client has spoilt", []Guard{None, Memory, Shared}, `
			0-1 assert j forged refused
			2-3 assert j refused`, "an assertion was refused without cause"},
		{"an assertion that another client has spoilt, whose answer was lost", []Guard{Memory, Shared}, `
			0-1 assert j forged cut unanswered
			2-3 assert j refused`, "an assertion was refused without cause"},
		{"an assertion that is refused before its first use", []Guard{Memory, Shared}, `
			0-1 assert j refused
			2-3 assert j granted`, "an assertion was refused without cause"},
		{"an assertion that is refused where nobody remembers it", []Guard{None}, `
			0-1 assert j in L until 60 granted
			2-3 assert j refused`, "an assertion was refused without cause"},
		{"an assertion that another process has seen", []Guard{Memory}, `
			0-1 assert j at a in L until 60 granted
			2-3 assert j at b refused`, "an assertion was refused without cause"},
		{"no answer to an assertion while the tenant's provider is away", []Guard{None, Memory, Shared}, `
			0-5 outage provider
			1-2 assert j unanswered`, "no answer, though everything worked"},
		{"a workload that is refused", []Guard{None, Memory, Shared}, `
			0-1 work w in L until 60 granted
			2-3 work w refused`, "a workload was refused without cause"},
		{"a workload of another server", []Guard{None, Memory, Shared}, `
			0-1 work w forged granted`, "a workload's JWT was taken that is for another server"},
		{"no answer to a workload while the store is away", []Guard{Shared}, `
			0-5 outage store
			1-2 work w unanswered`, "no answer, though everything worked"},
		{"a machine's access token that is refused before its end", []Guard{None, Memory, Shared}, `
			0-1 work w in L until 60 granted
			2-3 call w until 60 refused`, "an access token was refused without cause"},
		{"an assertion's access token that is refused because the provider ended somebody's login", []Guard{None, Memory, Shared}, `
			0-1 assert j in L until 60 granted
			2-3 ends of ada by 5
			6-7 call j until 60 refused`, "an access token was refused without cause"},
		{"a bound refresh token that works without its key", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 forged granted r2`, "a bound refresh token was taken without its key"},
		{"a bound access token that works without its key", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 call r1 until 60 forged granted`, "a bound access token was taken without its key, or with a proof that was used"},
		{"a login that a thief without the key has ended", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			90-91 refresh r1 forged refused
			92-93 refresh r2 refused`, "logged out without cause"},
		{"a step that a thief without the key has used", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 forged cut unanswered
			90-91 refresh r1 refused`, "logged out without cause"},
	} {
		for _, guard := range c.guards {
			t.Run(c.name+", guard "+string(guard), func(t *testing.T) {
				found := contract[guard].Check(parse(t, c.history))
				if len(found) != 1 || found[0].Says != c.says {
					t.Errorf("found %v, want one: %s", found, c.says)
				}
			})
		}
	}
}

// What the contract leaves open, or asks for, must pass: a checker that cries wolf is turned off.
func TestModelPermits(t *testing.T) {
	for _, c := range []struct {
		name    string
		guards  []Guard
		history string
	}{
		{"a login and its refreshes", []Guard{None, Memory, Shared}, `
			0-1 login someone granted
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			3-4 call r2 until 60 granted
			5-6 refresh r2 granted r3
			200-201 call r2 until 60 refused
			4000-4001 refresh r3 refused`},
		{"the same answer for a retry within the grace", []Guard{Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 at a granted r2
			50-51 refresh r1 at a granted r2`},
		{"any answer for a retry without a guard", []Guard{None}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			900-901 refresh r1 granted x2
			950-951 refresh r2 granted r3`},
		{"what another process does not know", []Guard{Memory}, `
			0-1 redeem c at a granted r1
			2-3 refresh r1 at a granted r2
			90-91 refresh r1 at b granted x2`},
		{"either answer at the edge of the grace", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-9 refresh r1 granted r2
			64-65 refresh r1 refused
			0-1 redeem d granted s1
			2-9 refresh s1 granted s2
			64-65 refresh s1 granted s2`},
		{"the end of a family by reuse, and its owner's logout", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			90-91 refresh r1 refused
			92-93 refresh r2 refused`},
		{"a logout while the thief's refusal is still on its way", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			90-95 refresh r1 refused
			92-93 refresh r2 refused
			0-1 redeem d granted s1
			2-3 refresh s1 granted s2
			90-95 refresh s1 refused
			92-93 refresh s2 granted s3`},
		{"a code that is lost with its answer", []Guard{None, Memory, Shared}, `
			0-2 outage sidecar
			0-1 redeem c unanswered
			1-2 redeem c refused`},
		{"one winner of a race for a code, and losers without an answer", []Guard{None, Memory, Shared}, `
			0-5 redeem c granted r1
			1-4 redeem c refused
			1-4 redeem c unanswered`},
		{"two winners of a race where nobody counts", []Guard{None, Memory}, `
			0-5 redeem c at a granted r1
			1-4 redeem c at b granted x1`},
		{"a stale answer while the store is away", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			80-99 outage store
			90-91 refresh r1 granted r1
			92-93 refresh r2 unanswered
			94-95 refresh r2 granted`},
		{"a reuse that the store has forgotten", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-4 outage emptied
			90-91 refresh r1 granted x2`},
		{"no answer while something is out of order, and soon after", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			5-6 outage sidecar
			5-5.5 refresh r1 unanswered
			6.5-7 call r1 until 60 unanswered
			8-9 refresh r1 granted r2`},
		{"the end of a family by an older token", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-5 refresh r2 granted r3
			6-7 refresh r1 refused
			8-9 refresh r3 refused`},
		{"an old token that is late by itself", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-8 refresh r2 granted r3
			5-6 refresh r1 refused
			0-1 redeem d granted s1
			2-3 refresh s1 granted s2
			4-8 refresh s2 granted s3
			5-6 refresh s1 granted s2`},
		{"twins from when the store had forgotten", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-4 outage emptied
			5-6 refresh r1 granted x2
			7-8 refresh r2 granted r3
			9-10 refresh x2 refused`},
		{"no answer for a while after a process died that was asking about this login", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 outage sidecar
			2-3 refresh r1 unanswered
			10-11 refresh r1 unanswered
			19-20 refresh r1 granted r2`},
		{"a revoked family", []Guard{Shared}, `
			0-1 redeem c granted r1
			2-3 revoke r1 granted
			4-5 refresh r1 refused
			5-6 call r1 until 60 granted`},
		{"a family that the operator ended, before and after it must be", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			10 ends c by 40
			11-12 refresh r1 granted r2
			13-14 call r2 until 60 refused
			41-42 refresh r2 refused`},
		{"an assertion, and its copy", []Guard{Memory, Shared}, `
			0-1 assert j forged refused
			0-1 assert j at a in L until 60 granted
			2-3 assert j at a refused
			4-5 call j until 60 granted`},
		{"a copy where nobody remembers", []Guard{None}, `
			0-1 assert j in L until 60 granted
			2-3 assert j in M until 60 granted`},
		{"a copy that the store has forgotten", []Guard{Shared}, `
			0-1 assert j in L until 60 granted
			1.5-1.5 outage emptied
			2-3 assert j in M until 60 granted`},
		{"an assertion whose answer was lost", []Guard{Memory, Shared}, `
			0-1 assert j cut unanswered
			2-3 assert j refused`},
		{"a workload that comes again and again", []Guard{None, Memory, Shared}, `
			0-1 work w in L until 60 granted
			0-1 work w forged refused
			2-3 work w in L until 62 granted
			3-4 call w until 62 granted`},
		{"a thief without the key, and an owner who goes on", []Guard{None, Memory, Shared}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			90-91 refresh r1 forged refused
			91-92 refresh r2 forged refused
			91-92 call r2 until 150 forged refused
			92-93 refresh r2 granted r3`},
	} {
		for _, guard := range c.guards {
			t.Run(c.name+", guard "+string(guard), func(t *testing.T) {
				if found := contract[guard].Check(parse(t, c.history)); len(found) > 0 {
					t.Errorf("found %v", found)
				}
			})
		}
	}
}

// A provider that honours one of several simultaneous redemptions is held to it without a guard
// too.
func TestModelHoldsTheProviderToItsWord(t *testing.T) {
	c := contract[None]
	c.CodeOnce = true
	found := c.Check(parse(t, `
		0-5 redeem c at a granted r1
		1-4 redeem c at b granted x1`))
	if len(found) != 1 || found[0].Says != "a code was redeemed twice" {
		t.Errorf("found %v", found)
	}
}

// Where nobody but the guard counts codes, it is held to what it knows, and to no more.
func TestModelOfCodesThatOnlyTheGuardCounts(t *testing.T) {
	for _, c := range []struct {
		name, history string
		guard         Guard
		found         int
	}{
		{"one after the other", "0-1 redeem c granted r1\n2-3 redeem c granted x1", Shared, 1},
		{"at the same time", "0-3 redeem c granted r1\n1-2 redeem c granted x1", Shared, 1},
		{"after the store forgot", "0-1 redeem c granted r1\n1.5-1.5 outage emptied\n2-3 redeem c granted x1", Shared, 0},
		{"at two processes", "0-1 redeem c at a granted r1\n2-3 redeem c at b granted x1", Memory, 0},
		{"without a guard", "0-1 redeem c granted r1\n2-3 redeem c granted x1", None, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			promised := contract[c.guard]
			promised.CodesByGuard = true
			if found := promised.Check(parse(t, c.history)); len(found) != c.found {
				t.Errorf("found %v", found)
			}
		})
	}
}

// What a failing run prints is a record that can be checked again.
func TestNotation(t *testing.T) {
	const text = `5.000-6.000 outage store
10.000 ends c by 40.000
0.000-1.000 redeem c forged refused
2.000-3.500 refresh r1 cut at a unanswered
4.000-5.000 call r2 until 60.000 at b granted
5.000-6.000 refresh r1 granted r2
6.000-7.000 refresh r2 at a in L granted r3
7.000-8.000 assert j until 60.000 at a in M granted
8.000-9.000 work w forged refused
9.000-10.000 call r3 forged until 60.000 refused
`
	if got := parse(t, text).String(); got != text {
		t.Errorf("got\n%swant\n%s", got, text)
	}
	for _, bad := range []string{"0-1 redeem c", "0-1 redeem", "x-1 redeem c granted", "0-1 eat c granted", "0-1 redeem c granted r1 r2", "0-1 redeem c perhaps"} {
		if _, err := Parse(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func parse(t *testing.T, text string) History {
	t.Helper()
	h, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What a provider does about its own refresh tokens permits some logouts, and forbids some tokens.
func TestModelOfProviders(t *testing.T) {
	all := []Upstream{Lenient, Refuses, Ends, EndsAll}
	for _, c := range []struct {
		name     string
		guard    Guard
		upstream []Upstream
		history  string
		says     string // empty: it is permitted
	}{
		{"the owner is logged out after a thief came", None, []Upstream{Ends, EndsAll}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-5 refresh r1 refused
			6-7 refresh r2 refused`, ""},
		{"the same at a provider that minds nothing", None, []Upstream{Lenient}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-5 refresh r1 refused`, "logged out without cause"},
		{"an old token is refused, and the owner logged out", None, []Upstream{Refuses}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-5 refresh r1 refused
			6-7 refresh r2 refused`, "logged out without cause"},
		{"thief and owner go on", None, []Upstream{Ends, EndsAll}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			70-71 refresh r1 granted x2`, "a refresh token was used again beyond the grace"},
		{"the owner goes on after the provider ended the login", None, []Upstream{Ends, EndsAll}, `
			0-1 redeem c granted r1
			2-3 refresh r1 granted r2
			4-5 refresh r1 refused
			20-21 refresh r2 granted r3`, "a refresh token of a family that had ended was accepted"},
		{"a guard that knows keeps a second use from the provider", Shared, []Upstream{Ends, EndsAll}, `
			0-1 redeem c granted r1
			2-4 refresh r1 granted r2
			3-4 refresh r1 granted r2
			6-7 refresh r2 refused`, "logged out without cause"},
		{"a guard that was away", Shared, []Upstream{Ends, EndsAll}, `
			0-1 redeem c granted r1
			2-4 outage store
			2-4 refresh r1 granted r2
			3-4 refresh r1 granted r2
			6-7 refresh r2 refused`, ""},
		{"a provider's answer that was lost", Shared, []Upstream{Ends, EndsAll}, `
			0-1 redeem c granted r1
			2-4 outage lost
			2-4 refresh r1 refused`, ""},
		{"the same at a provider that takes the token again", Shared, []Upstream{Lenient, Refuses}, `
			0-1 redeem c granted r1
			2-4 outage lost
			2-4 refresh r1 refused`, "logged out without cause"},
		{"another login of the person", None, []Upstream{EndsAll}, `
			0-1 redeem c of ada granted r1
			0-1 redeem d of ada granted s1
			2-3 refresh r1 granted r2
			4-5 refresh r1 refused
			6-7 refresh s1 refused`, ""},
		{"another login of the person, elsewhere", None, []Upstream{Lenient, Refuses, Ends}, `
			0-1 redeem c of ada granted r1
			0-1 redeem d of ada granted s1
			2-3 refresh r1 granted r2
			6-7 refresh s1 refused`, "logged out without cause"},
		{"another login of the person, for a lost answer", None, []Upstream{EndsAll}, `
			0-1 redeem c of ada granted r1
			0-1 redeem d of ada granted s1
			2-3 outage lost
			2-3 refresh r1 refused
			16-17 refresh s1 refused`, "logged out without cause"},
		{"another person's login", None, []Upstream{EndsAll}, `
			0-1 redeem c of ada granted r1
			0-1 redeem d of bob granted s1
			2-3 refresh r1 granted r2
			4-5 refresh r1 refused
			6-7 refresh s1 refused`, "logged out without cause"},
		{"somebody whom the provider removed", None, all, `
			0-1 redeem c of ada granted r1
			5-6 ends of ada by 8
			7-8 refresh r1 refused`, ""},
		{"somebody who stays in", None, all, `
			0-1 redeem c of ada granted r1
			5-6 ends of ada by 8
			9-10 refresh r1 granted r2`, "a refresh token of a family that had ended was accepted"},
		{"somebody who comes back", None, all, `
			5-6 ends of ada by 8
			7-8 redeem c of ada granted r1
			9-10 refresh r1 granted r2`, ""},
		{"and is logged out", None, all, `
			5-6 ends of ada by 8
			7-8 redeem c of ada granted r1
			9-10 refresh r1 refused`, "logged out without cause"},
	} {
		for _, upstream := range c.upstream {
			t.Run(c.name+" "+string(upstream), func(t *testing.T) {
				h, err := Parse(c.history)
				if err != nil {
					t.Fatal(err)
				}
				of := contract[c.guard]
				of.Upstream, of.Interval = upstream, 2*time.Second
				broken := of.Check(h)
				if c.says == "" && len(broken) > 0 || c.says != "" && (len(broken) == 0 || broken[0].Says != c.says) {
					t.Errorf("%v, want %q", broken, c.says)
				}
			})
		}
	}
}
