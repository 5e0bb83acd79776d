package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// guardKind is a way to tell the first use from the second, as one installation has it. What a kind
// does not have is nil.
type guardKind struct {
	name   string
	env    map[string]string // of the sidecar
	counts bool              // it tells at all
	shared bool              // what one replica has seen the others know
	keeps  bool              // what it knows, over a kill of the store

	kill, start, empty func()
	fill, drain        func()              // it refuses to write, and takes it back
	stall, wake        func()              // it does not answer, though it is there
	age                func(time.Duration) // lets time pass for what it keeps
}

var guardNames = []string{"none", "memory", "redis", "dynamodb"}

func newGuardKind(t *testing.T, name string) guardKind {
	g := guardKind{name: name, counts: name != "none", env: map[string]string{"BOUNCER_REPLAY_GUARD": name}}
	logs := &rig.Logs{}
	switch name {
	case "redis":
		store := rig.StartRedis(t, logs)
		g.env["BOUNCER_REPLAY_GUARD"], g.shared, g.keeps = store.URL, true, true
		g.kill, g.start, g.empty, g.fill, g.drain, g.stall, g.wake, g.age =
			store.Kill, func() { store.Start() }, store.Empty, store.Fill, store.Drain, store.Stall, store.Wake, store.Age
	case "dynamodb":
		store := rig.StartDynamoDB(t, logs)
		g.env["BOUNCER_REPLAY_GUARD"], g.shared = store.URL, true
		maps.Copy(g.env, store.Env)
		g.kill, g.start, g.stall, g.wake, g.age = store.Kill, store.Start, store.Stall, store.Wake, store.Age
		g.empty = func() { store.Kill(); store.Start() }
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, store := range logs.Names() {
				t.Logf("--- %s\n%s", store, logs.Tail(store, 25))
			}
		}
	})
	return g
}

// guardBench is two replicas with one kind of guard.
type guardBench struct {
	*testing.T
	guardKind
	w     *rig.World
	clock time.Duration
}

// TestContractOfEachGuard takes each kind of guard through docs/replay.md at two real processes:
// Redis is the real one, DynamoDB an implementation of its own.
func TestContractOfEachGuard(t *testing.T) {
	t.Parallel()
	for _, name := range guardNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newGuardBench(t, name, nil)
			for _, row := range guardRows {
				if row.needs == nil || row.needs(b.guardKind) {
					t.Run(row.name, func(t *testing.T) {
						b.T = t
						b.resetClock()
						row.run(b)
					})
				}
			}
		})
	}
}

func newGuardBench(t *testing.T, name string, labels map[string]string) *guardBench {
	b := &guardBench{T: t, guardKind: newGuardKind(t, name)}
	b.w = rig.New(t, rig.Options{Clocks: true, Sidecar: b.env, Labels: labels})
	if !b.shared {
		b.w.Front.Only(b.w.Replicas[0].Name)
	}
	return b
}

// pass lets time pass for the replicas and the store. The plugin's clock stays, so it may not be
// more than five minutes in a row: then its hop header is too old.
func (b *guardBench) pass(d time.Duration) {
	b.clock += d
	for _, r := range b.w.Replicas {
		r.SetClock(b.clock)
	}
	if b.age != nil {
		b.age(d)
	}
}

func (b *guardBench) resetClock() {
	b.clock = 0
	for _, r := range b.w.Replicas {
		r.SetClock(0)
	}
}

// login makes a new login at the example provider, which lets one person have many.
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
	// The example provider honours up to three simultaneous redemptions: without a guard nobody
	// counts better.
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
	// Killed replicas forget what only they knew. A store does not forget.
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
		if life := expiresIn(answer); life == 0 || life > 420 {
			b.Errorf("meanwhile an access token lives %d seconds, want at most 420", life)
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

// expiresIn returns the member expires_in of a token response.
func expiresIn(answer *rig.Answer) int {
	_, rest, _ := strings.Cut(answer.Body, `"expires_in":`)
	digits, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.Atoi(strings.Trim(digits, " }"))
	return n
}

// A Redis that is out of order in each of its ways, under a tenant whose codes the provider counts
// and one whose codes only the guard does.
func TestRedisOutOfOrder(t *testing.T) {
	t.Parallel()
	b := newGuardBench(t, "redis", map[string]string{"world/exchange": "callback"})
	for _, c := range []struct {
		name       string
		begin, end func()
		uncertain  bool // what was asked of it may yet be done
	}{
		{"killed", b.kill, b.start, false},
		{"full", b.fill, b.drain, false},
		{"stalled", b.stall, b.wake, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			b.resetClock()
			client, r1 := b.login()
			r2 := b.use(client, "before", r1)
			code := func(tn *rig.Tenant) (*rig.OAuthClient, *rig.Flow, string) {
				oauth := tn.Client()
				f := oauth.Begin()
				return oauth, f, oauth.Login(tn.Browser(), f)
			}
			open, openFlow, openCode := code(b.w.Wiki)
			closed, closedFlow, closedCode := code(b.w.World)

			c.begin()
			start := time.Now()
			refreshed := client.Refresh(r2)
			redeemed := open.Redeem(openCode, openFlow)
			held := closed.Redeem(closedCode, closedFlow)
			took := time.Since(start)
			c.end()

			if refreshed.Status != http.StatusOK || expiresIn(refreshed) == 0 || expiresIn(refreshed) > 420 {
				t.Errorf("refresh: %s, want an access token of at most 420 seconds", refreshed)
			}
			if redeemed.Status != http.StatusOK {
				t.Errorf("a code that the provider counts: %s", redeemed)
			}
			if held.Status != http.StatusServiceUnavailable {
				t.Errorf("a code that only the guard counts: %s, want 503", held)
			}
			if took > 10*time.Second {
				t.Errorf("three answers took %s", took)
			}
			// Afterwards everybody goes on with what they hold, however late.
			r3 := refreshed.Member("refresh_token")
			if r3 == "" {
				r3 = r2
			}
			b.pass(2 * time.Minute)
			r4 := b.use(client, "afterwards", r3)
			b.use(client, "and on", r4)
			b.use(open, "of the login meanwhile", redeemed.Member("refresh_token"))
			again := closed.Redeem(closedCode, closedFlow)
			if again.Status != http.StatusOK && !c.uncertain {
				t.Errorf("the code that was held, now: %s", again)
			}
			wantOAuthError(t, "and once more", closed.Redeem(closedCode, closedFlow), "invalid_grant")
			// Redis takes everything as before: a stolen token ends the login.
			wantOAuthError(t, "a token before the last", client.Refresh(r1), "invalid_grant")
		})
	}
}

// A store that may forget under pressure is not a guard, and a program that was told to use one
// must not run as if it were. A store that is only away may come back.
func TestStoresThatTheSidecarDoesNotStartWith(t *testing.T) {
	t.Parallel()
	logs := &rig.Logs{}
	secrets := &rig.Secrets{}
	keys := rig.Keygen(t, secrets)
	for _, c := range []struct {
		name  string
		store func() string
		says  string
	}{
		{"evicts what was not used", func() string { return rig.StartRedis(t, logs, "--maxmemory-policy", "allkeys-lru").URL }, "noeviction"},
		{"evicts anything", func() string { return rig.StartRedis(t, logs, "--maxmemory-policy", "allkeys-random").URL }, "noeviction"},
		{"evicts what ends soonest", func() string { return rig.StartRedis(t, logs, "--maxmemory-policy", "volatile-ttl").URL }, "noeviction"},
		{"does not know the user", func() string {
			return strings.Replace(rig.StartRedis(t, logs).URL, "redis://", "redis://"+secrets.New("user", "u")+":"+secrets.New("password", "p")+"@", 1)
		}, "WRONGPASS"},
		{"is none", func() string { return "memcached://127.0.0.1:11211" }, "must be none, memory, redis://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, rig.Tool(t, "mcpbouncer"), "serve")
			cmd.Env = []string{
				"BOUNCER_ENCRYPTION_KEY=" + keys.Encryption, "BOUNCER_REPLAY_GUARD=" + c.store(),
				fmt.Sprintf("BOUNCER_LISTEN_ADDR=127.0.0.1:%d", rig.FreePort(t)),
			}
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit status 1", err)
			}
			for _, says := range []string{"BOUNCER_REPLAY_GUARD", c.says} {
				if !strings.Contains(string(out), says) {
					t.Errorf("does not say %q:\n%s", says, out)
				}
			}
			for _, found := range secrets.In(string(out)) {
				t.Errorf("prints a %s", found)
			}
		})
	}
	t.Run("but with one that is away", func(t *testing.T) {
		store := rig.StartRedis(t, logs)
		store.Kill()
		r := rig.StartReplica(t, logs, "sidecar", map[string]string{"BOUNCER_ENCRYPTION_KEY": keys.Encryption, "BOUNCER_REPLAY_GUARD": store.URL}, nil)
		if code := r.Terminate(); code != 0 {
			t.Errorf("ended with %d", code)
		}
	})
}
