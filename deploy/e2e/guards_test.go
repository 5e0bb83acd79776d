package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// guardKind is a way to tell the first use from the second.
type guardKind struct {
	name   string
	counts bool // it tells at all
	shared bool // what one replica has seen the other knows
	// Of a store; nil where there is none.
	kill, start func()
	age         func(time.Duration) // lets time pass for what it keeps
	keeps       bool                // over a kill
}

// guardBench is two replicas with one kind of guard.
type guardBench struct {
	*testing.T
	guardKind
	w     *rig.World
	clock time.Duration
}

// TestTheContractOfEachGuard takes each kind of guard through docs/replay.md at two real processes: Redis and DynamoDB
// are real programs.
func TestTheContractOfEachGuard(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"none", "memory", "redis", "dynamodb"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newGuardBench(t, name, nil)
			for _, row := range guardRows {
				if row.needs == nil || row.needs(b.guardKind) {
					t.Run(row.name, func(t *testing.T) {
						b.T = t
						row.run(b)
					})
				}
			}
		})
	}
}

func newGuardBench(t *testing.T, name string, labels map[string]string) *guardBench {
	b := &guardBench{T: t, guardKind: guardKind{name: name, counts: name != "none"}}
	env := map[string]string{"BOUNCER_REPLAY_GUARD": name}
	logs := &rig.Logs{}
	switch name {
	case "redis":
		store := rig.StartRedis(t, logs)
		b.shared, b.keeps, b.kill, b.start, b.age = true, true, store.Kill, func() { store.Start() }, store.Age
		env["BOUNCER_REPLAY_GUARD"] = store.URL
	case "dynamodb":
		store := rig.StartDynamoDB(t, logs)
		b.shared, b.kill, b.start = true, store.Kill, store.Start
		env["BOUNCER_REPLAY_GUARD"] = store.URL
		maps.Copy(env, store.Env)
	}
	b.w = rig.New(t, rig.Options{Clocks: true, Sidecar: env, Labels: labels})
	if !b.shared {
		b.w.Front.Only(b.w.Replicas[0].Name)
	}
	return b
}

// pass lets time pass for the replicas and the store. The plugin's clock stays: it looks at no refresh token.
func (b *guardBench) pass(d time.Duration) {
	b.clock += d
	for _, r := range b.w.Replicas {
		r.SetClock(b.clock)
	}
	if b.age != nil {
		b.age(d)
	}
}

// login is a new login at the example provider, which lets one person have many.
func (b *guardBench) login() (*rig.OAuthClient, string) {
	b.Helper()
	c := b.w.World.Client()
	return c, c.Tokens(b.w.World.Browser()).Member("refresh_token")
}

// use presents a refresh token that must be accepted, and returns what it gives.
func (b *guardBench) use(c *rig.OAuthClient, what, token string) string {
	b.Helper()
	answer := c.Refresh(token)
	if answer.Status != http.StatusOK || answer.Member("access_token") == "" {
		b.Fatalf("%s: %s", what, answer)
	}
	if next := answer.Member("refresh_token"); next != "" {
		return next
	}
	return token
}

// ended presents refresh tokens of a family that must have ended.
func (b *guardBench) ended(c *rig.OAuthClient, tokens ...string) {
	b.Helper()
	for i, token := range tokens {
		wantOAuthError(b.T, fmt.Sprintf("token %d of a family that ended", i+1), c.Refresh(token), "invalid_grant")
	}
}

var (
	thatCounts = func(g guardKind) bool { return g.counts }
	withStore  = func(g guardKind) bool { return g.shared }
)

var guardRows = []struct {
	name  string
	needs func(guardKind) bool // nil: every kind
	run   func(*guardBench)
}{
	{"each refresh token gives the next one", nil, func(b *guardBench) {
		c, r1 := b.login()
		r2 := b.use(c, "first", r1)
		r3 := b.use(c, "second", r2)
		if r1 == r2 || r2 == r3 {
			b.Error("a refresh gave the same token again")
		}
	}},
	{"a lost answer is had again", nil, func(b *guardBench) {
		c, r1 := b.login()
		lost := b.use(c, "lost", r1)
		b.pass(10 * time.Second)
		again := b.use(c, "again", r1)
		if b.counts && again != lost {
			b.Error("the second answer is not the first")
		}
		b.use(c, "and on", again)
	}},
	{"20 refreshes at once are one", nil, func(b *guardBench) {
		c, r1 := b.login()
		next := b.atOnce(20, func() *rig.Answer { return c.Refresh(r1) })
		distinct := map[string]bool{}
		for _, answer := range next {
			if answer.Status != http.StatusOK {
				b.Errorf("one of them: %s", answer)
			}
			distinct[answer.Member("refresh_token")] = true
		}
		if b.counts && len(distinct) != 1 {
			b.Errorf("%d successors of one token", len(distinct))
		}
		for token := range distinct { // without a guard each of them is good
			b.use(c, "a successor", token)
		}
	}},
	{"a token before the last", nil, func(b *guardBench) {
		c, r1 := b.login()
		r2 := b.use(c, "first", r1)
		r3 := b.use(c, "second", r2)
		if b.counts {
			b.ended(c, r1, r3, r2)
		} else {
			b.use(c, "an old one, which nobody can tell from the newest", r1)
		}
	}},
	{"a token again after the grace", nil, func(b *guardBench) {
		c, r1 := b.login()
		other, s1 := b.login()
		r2 := b.use(c, "first", r1)
		b.pass(90 * time.Second)
		if b.counts {
			b.ended(c, r1, r2)
		} else {
			b.use(c, "an old one, which nobody can tell from the newest", r1)
		}
		b.use(other, "another login of the same person", s1)
	}},
	{"a token that rests longer than the grace", nil, func(b *guardBench) {
		c, r1 := b.login()
		b.pass(2 * time.Minute)
		r2 := b.use(c, "first", r1)
		b.pass(2 * time.Minute)
		b.use(c, "second", r2)
	}},
	{"a code twice", nil, func(b *guardBench) {
		for _, tn := range b.w.Tenants() {
			c := tn.Client()
			f := c.Begin()
			code := c.Login(tn.Browser(), f)
			first := c.Redeem(code, f)
			if first.Status != http.StatusOK {
				b.Fatalf("first: %s", first)
			}
			wantOAuthError(b.T, "second", c.Redeem(code, f), "invalid_grant")
			b.use(c, "the first one's refresh token", first.Member("refresh_token"))
		}
	}},
	// The example provider honours up to three simultaneous redemptions: without a guard nobody counts better.
	{"a code eight times at once", nil, func(b *guardBench) {
		c := b.w.World.Client()
		f := c.Begin()
		code := c.Login(b.w.World.Browser(), f)
		won := 0
		for _, answer := range b.atOnce(8, func() *rig.Answer { return c.Redeem(code, f) }) {
			if answer.Status == http.StatusOK {
				won++
			} else if answer.Status < 500 {
				wantOAuthError(b.T, "a lost race", answer, "invalid_grant")
			}
		}
		if won == 0 || b.counts && won != 1 {
			b.Errorf("%d of 8 redemptions succeeded", won)
		}
		if b.counts {
			if posts := len(b.w.World.Provider.Posts("authorization_code")); posts == 0 {
				b.Error("the provider was not asked")
			}
		}
	}},
	// Killed replicas forget what only they knew; a store does not.
	{"a token before the last, after all replicas were killed", thatCounts, func(b *guardBench) {
		c, r1 := b.login()
		r3 := b.use(c, "second", b.use(c, "first", r1))
		for _, r := range b.w.Replicas {
			r.Restart(nil)
		}
		if b.shared {
			b.ended(c, r1, r3)
		} else {
			b.use(c, "an old one, which this process has not seen", r1)
		}
	}},
	{"at the other replica", thatCounts, func(b *guardBench) {
		c, r1 := b.login()
		b.w.Front.Only(b.w.Replicas[0].Name)
		r3 := b.use(c, "second", b.use(c, "first", r1))
		b.w.Front.Only(b.w.Replicas[1].Name)
		if b.shared {
			b.ended(c, r1, r3)
			b.w.Front.Only("")
		} else {
			b.use(c, "an old one, which this process has not seen", r1)
			b.w.Front.Only(b.w.Replicas[0].Name)
		}
	}},
	{"the store is down: logins and refreshes go on, and nobody is logged out afterwards", withStore, func(b *guardBench) {
		c, r1 := b.login()
		r2 := b.use(c, "before", r1)
		b.kill()
		b.login()
		answer := c.Refresh(r2)
		if answer.Status != http.StatusOK {
			b.Fatalf("meanwhile: %s", answer)
		}
		if life := expiresIn(answer); life == 0 || life > 300 {
			b.Errorf("meanwhile an access token lives %d seconds, want at most 300", life)
		}
		kept := answer.Member("refresh_token")
		if kept == "" {
			kept = r2
		}
		kept = b.use(c, "meanwhile, again", kept)
		b.start()
		b.pass(2 * time.Minute)
		kept = b.use(c, "afterwards", kept)
		kept = b.use(c, "and on", kept)
		if b.keeps {
			b.ended(c, r1, kept)
		}
	}},
}

func (b *guardBench) atOnce(n int, do func() *rig.Answer) []*rig.Answer {
	answers := make([]*rig.Answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { answers[i] = do() })
	}
	all.Wait()
	return answers
}

// expiresIn is the member expires_in of a token response.
func expiresIn(answer *rig.Answer) int {
	_, rest, _ := strings.Cut(answer.Body, `"expires_in":`)
	digits, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.Atoi(strings.Trim(digits, " }"))
	return n
}

// A Redis that is out of order in a way of its own.
func TestRedisOutOfOrder(t *testing.T) {
	t.Parallel()
	b := newGuardBench(t, "redis", map[string]string{"world/exchange": "callback"})
	_ = b
}
