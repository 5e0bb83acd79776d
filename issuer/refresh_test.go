package issuer_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

const idle = 14 * 24 * time.Hour

// guarded gives the replicas a replay guard: "none", "memory" (one for each replica) or "shared" (one for all, as Redis or DynamoDB is).
func (w *world) guarded(kind string) {
	open := func() *issuer.ReplayGuard {
		g, err := issuer.OpenReplayGuard("memory", idle, w.clock.Now)
		if err != nil {
			w.t.Fatal(err)
		}
		return g
	}
	shared := open()
	w.config = func(c *issuer.Config) {
		c.RefreshIdleTTL = idle
		switch kind {
		case "memory":
			c.ReplayGuard = open()
		case "shared":
			c.ReplayGuard = shared
		}
	}
}

// outcome of a refresh in a word.
func outcome(r reply) string {
	switch {
	case r.Status == 200 && r.JSON["expires_in"] == float64(300):
		return "short"
	case r.Status == 200:
		return "ok"
	}
	return r.text("error")
}

// story is what a client does with its refresh token, and what came of it.
type story struct {
	*world
	provider string
	a        *app
	said     []string
	last     string // the newest refresh token that was answered
}

func (s *story) refresh(token string) string {
	r := s.a.token(s.a.refreshment(token))
	s.said = append(s.said, outcome(r))
	if r.Status == 200 {
		s.last = r.text("refresh_token")
	}
	return s.last
}

// atOnce presents one token many times at the same time, and the newest answer later.
func (s *story) atOnce(token string, times int) {
	replies := make([]reply, times)
	var wait sync.WaitGroup
	for i := range replies {
		r := s.a.tokenRequest(s.a.refreshment(token))
		wait.Go(func() { replies[i] = s.do(r) })
	}
	wait.Wait()
	count, tokens := map[string]int{}, map[string]bool{}
	for _, r := range replies {
		count[outcome(r)]++
		if r.Status == 200 {
			s.last = r.text("refresh_token")
			tokens[s.last] = true
		}
	}
	for _, word := range slices.Sorted(maps.Keys(count)) {
		s.said = append(s.said, fmt.Sprint(count[word], "×", word))
	}
	s.said = append(s.said, fmt.Sprint(len(tokens), " tokens"))
}

// The providers of the table.
var refreshProviders = map[string]issuertest.Behaviour{
	"leeway": {KillOnReuse: true, Leeway: 30 * time.Second}, // rotates, as Okta does
	"strict": {KillOnReuse: true},                           // rotates, as Auth0 does unless told otherwise
	"static": {Refresh: "static"},                           // as Google and Entra ID do in effect
	"none":   {Refresh: "none"},                             // sessions
}

// The scenes of the table. Each begins with the refresh token of a login at which an hour has gone by, so that the provider is due.
var refreshScenes = map[string]func(s *story, token string){
	"20 at once": func(s *story, token string) {
		s.atOnce(token, 20)
		s.clock.Add(time.Hour)
		s.refresh(s.last)
	},
	"two processes": func(s *story, token string) {
		b := refreshProviders[s.provider]
		b.Delay = 100 * time.Millisecond
		s.idp.Be(b)
		s.atOnce(token, 2)
		s.clock.Add(time.Hour)
		s.refresh(s.last)
	},
	"the client loses an answer": func(s *story, token string) {
		s.refresh(token)
		s.clock.Add(10 * time.Second)
		s.refresh(token) // the client never saw the first
		s.clock.Add(time.Hour)
		s.refresh(s.last)
	},
	"we lose an answer": func(s *story, token string) {
		b := refreshProviders[s.provider]
		b.LoseResponse = true
		s.idp.Be(b)
		s.refresh(token)
		s.idp.Be(refreshProviders[s.provider])
		s.clock.Add(10 * time.Second)
		s.refresh(s.last)
		s.clock.Add(time.Hour)
		s.refresh(s.last)
	},
	"replay after 10 s":  func(s *story, token string) { s.replay(token, 10*time.Second) },
	"replay after 2 min": func(s *story, token string) { s.replay(token, 2*time.Minute) },
	"replay after 1 day": func(s *story, token string) { s.replay(token, 24*time.Hour) },
	"disabled": func(s *story, token string) {
		b := refreshProviders[s.provider]
		b.Gone = true
		s.idp.Be(b)
		s.refresh(token)
		s.idp.Be(refreshProviders[s.provider])
		s.clock.Add(2 * time.Minute)
		s.refresh(token)
	},
	"forgotten": func(s *story, token string) {
		s.idp.Forget()
		s.refresh(token)
	},
	"another person": func(s *story, token string) {
		b := refreshProviders[s.provider]
		b.SubOnRefresh = "person-2"
		s.idp.Be(b)
		s.refresh(token)
	},
	"down for an hour": func(s *story, token string) {
		b := refreshProviders[s.provider]
		b.RefreshStatus = 503
		s.idp.Be(b)
		for range 4 { // 60 to 120 minutes after the provider's last word
			token = s.refresh(token)
			s.clock.Add(20 * time.Minute)
		}
		s.refresh(token)
		s.idp.Be(refreshProviders[s.provider])
		s.refresh(token)
	},
}

// replay presents a token, later again, and an hour later the one that the first answer gave.
func (s *story) replay(token string, after time.Duration) {
	rightful := s.refresh(token)
	s.clock.Add(after)
	s.refresh(token)
	s.clock.Add(time.Hour)
	s.refresh(rightful)
}

func TestEverythingThatCanHappenToARefreshToken(t *testing.T) {
	for _, c := range refreshTable {
		for _, provider := range strings.Fields(c.providers) {
			for _, guard := range strings.Fields(c.guards) {
				t.Run(c.scene+", provider "+provider+", guard "+guard, func(t *testing.T) {
					w := newWorld(t, nil, func(w *world) {
						w.guarded(guard)
						if guard == "shared" || c.scene == "two processes" {
							w.skews = []time.Duration{0, 0}
						}
					})
					w.idp.Be(refreshProviders[provider])
					s := &story{world: w, provider: provider, a: w.register(w.wiki.PublicURL, nil)}
					token := s.a.login().text("refresh_token")
					s.last = token
					w.clock.Add(time.Hour)
					refreshScenes[c.scene](s, token)
					if got := strings.Join(s.said, ", "); got != c.want || w.idp.Refreshes() != c.calls {
						t.Errorf("%s; %d calls, want %s; %d calls", got, w.idp.Refreshes(), c.want, c.calls)
					}
				})
			}
		}
	}
}

var refreshTable = []struct {
	scene, providers, guards string
	want                     string
	calls                    int // of the provider, for a refresh
}{
	{"20 at once", "leeway strict static", "none memory shared", "20×ok, 1 tokens, ok", 2},
	{"20 at once", "none", "none", "20×ok, 20 tokens, ok", 0},
	{"20 at once", "none", "memory shared", "20×ok, 1 tokens, ok", 0},
	{"two processes", "leeway static", "none memory", "2×ok, 2 tokens, ok", 3},
	{"two processes", "leeway strict static", "shared", "2×ok, 1 tokens, ok", 2},
	{"two processes", "strict", "none", "1×invalid_grant, 1×ok, 1 tokens, invalid_grant", 3},
	{"two processes", "none", "none memory", "2×ok, 2 tokens, ok", 0},
	{"two processes", "none", "shared", "2×ok, 1 tokens, ok", 0},
	{"the client loses an answer", "leeway strict static", "none memory shared", "ok, ok, ok", 2},
	{"the client loses an answer", "none", "none memory shared", "ok, ok, ok", 0},
	{"we lose an answer", "leeway static", "none memory shared", "short, ok, ok", 3},
	{"we lose an answer", "strict", "none", "short, invalid_grant, invalid_grant", 3},
	{"we lose an answer", "strict", "memory shared", "short, invalid_grant, invalid_grant", 2},
	{"replay after 10 s", "leeway strict static", "none memory shared", "ok, ok, ok", 2},
	{"replay after 10 s", "none", "none memory shared", "ok, ok, ok", 0},
	{"replay after 2 min", "leeway strict", "none", "ok, invalid_grant, invalid_grant", 3},
	{"replay after 2 min", "leeway strict static", "memory shared", "ok, invalid_grant, invalid_grant", 1},
	{"replay after 2 min", "static", "none", "ok, ok, ok", 3},
	{"replay after 2 min", "none", "none", "ok, ok, ok", 0},
	{"replay after 2 min", "none", "memory shared", "ok, invalid_grant, invalid_grant", 0},
	{"replay after 1 day", "leeway strict", "none", "ok, invalid_grant, invalid_grant", 3},
	{"replay after 1 day", "leeway strict static", "memory shared", "ok, invalid_grant, invalid_grant", 1},
	{"replay after 1 day", "static", "none", "ok, ok, ok", 3},
	{"replay after 1 day", "none", "none memory shared", "ok, invalid_grant, invalid_grant", 0},
	{"disabled", "leeway strict static", "none", "invalid_grant, ok", 2},
	{"disabled", "leeway strict static", "memory shared", "invalid_grant, invalid_grant", 1},
	{"forgotten", "leeway strict static", "none memory shared", "invalid_grant", 1},
	{"another person", "leeway strict static", "none memory shared", "access_denied", 1},
	{"down for an hour", "leeway strict static", "none memory shared", "short, short, short, short, temporarily_unavailable, ok", 6},
}
