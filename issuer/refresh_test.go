package issuer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
)

const idle = 14 * 24 * time.Hour

// guarded gives the replicas a replay guard: "none", "memory" (one for each replica) or "shared"
// (one for all, as Redis or DynamoDB is).
func (w *world) guarded(kind string) {
	open := func() *replay.Guard {
		g, err := replay.Open("memory", idle, 30*24*time.Hour, w.clock.Now)
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

// outcome returns the outcome of a refresh in a word.
func outcome(r reply) string {
	switch {
	case r.Status == 200 && r.JSON["expires_in"] == float64(420):
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

// refreshProviders are the providers of the table.
var refreshProviders = map[string]issuertest.Behaviour{
	"leeway": {KillOnReuse: true, Leeway: 30 * time.Second}, // rotates, as Okta does
	// this one rotates, as Auth0 does by default
	"strict": {KillOnReuse: true},
	"static": {Refresh: "static"}, // as Google and Entra ID do in effect
	"none":   {Refresh: "none"},   // sessions
}

// refreshScenes are the scenes of the table. Each begins with the refresh token of a login an hour
// ago, so that a check is due.
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
	"two processes that both go on at the same moments": func(s *story, token string) {
		tokens := []string{token, token}
		for round := range 2 {
			for i := range tokens {
				tokens[i] = s.refresh(tokens[i])
				if round > 0 && len(s.skews) > 1 {
					s.replica() // both meet one replica now
				}
			}
			s.clock.Add(time.Hour)
		}
		s.refresh(tokens[0])
	},
	"two processes that both go on, each in its own time": func(s *story, token string) {
		tokens := []string{token, token}
		for i := range tokens {
			tokens[i] = s.refresh(tokens[i])
		}
		s.clock.Add(time.Hour)
		for i := range tokens {
			tokens[i] = s.refresh(tokens[i])
			s.replica()
			s.clock.Add(2 * time.Minute)
		}
		s.refresh(tokens[0])
	},
	"the client loses an answer": func(s *story, token string) {
		s.refresh(token)
		s.clock.Add(10 * time.Second)
		s.refresh(token) // the client never saw the first
		s.clock.Add(time.Hour)
		s.refresh(s.last)
	},
	"we lose an answer":   func(s *story, token string) { s.lose(1, token) },
	"we lose two answers": func(s *story, token string) { s.lose(2, token) },
	"replay after 10 s":   func(s *story, token string) { s.replay(token, 10*time.Second) },
	"replay after 2 min":  func(s *story, token string) { s.replay(token, 2*time.Minute) },
	"replay after 1 day":  func(s *story, token string) { s.replay(token, 24*time.Hour) },
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

// lose makes so many of the provider's answers to a refresh get lost. The client comes again when
// its access token ends; by then every leeway is over.
func (s *story) lose(answers int, token string) {
	b := refreshProviders[s.provider]
	b.LoseResponses = answers
	s.idp.Be(b)
	s.refresh(token)
	s.clock.Add(7 * time.Minute)
	s.refresh(s.last)
	s.clock.Add(time.Hour)
	s.refresh(s.last)
}

// replay presents a token, presents it again later, and an hour after that presents the token from
// the first answer.
func (s *story) replay(token string, after time.Duration) {
	rightful := s.refresh(token)
	s.clock.Add(after)
	s.refresh(token)
	s.clock.Add(time.Hour)
	s.refresh(rightful)
}

func TestRefreshTokenContract(t *testing.T) {
	for _, c := range refreshTable {
		for _, provider := range strings.Fields(c.providers) {
			for _, guard := range strings.Fields(c.guards) {
				t.Run(c.scene+", provider "+provider+", guard "+guard, func(t *testing.T) {
					w := newWorld(t, nil, func(w *world) {
						w.guarded(guard)
						if guard == "shared" || strings.HasPrefix(c.scene, "two processes") {
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
	{"two processes that both go on at the same moments", "none", "none shared", "ok, ok, ok, ok, ok", 0},
	{"two processes that both go on at the same moments", "none", "memory", "ok, ok, ok, invalid_grant, invalid_grant", 0},
	{"two processes that both go on, each in its own time", "none", "none", "ok, ok, ok, ok, ok", 0},
	{"two processes that both go on, each in its own time", "none", "memory shared", "ok, ok, ok, invalid_grant, invalid_grant", 0},
	{"the client loses an answer", "leeway strict static", "none memory shared", "ok, ok, ok", 2},
	{"the client loses an answer", "none", "none memory shared", "ok, ok, ok", 0},
	{"we lose an answer", "leeway static", "none memory shared", "ok, ok, ok", 3},
	{"we lose an answer", "strict", "none", "invalid_grant, invalid_grant, invalid_grant", 4},
	{"we lose an answer", "strict", "memory shared", "invalid_grant, invalid_grant, invalid_grant", 2},
	{"we lose two answers", "static", "none memory shared", "short, ok, ok", 4},
	{"we lose two answers", "leeway", "none", "short, invalid_grant, invalid_grant", 4},
	{"we lose two answers", "leeway", "memory shared", "short, invalid_grant, invalid_grant", 3},
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

// newFaultyWorld has two replicas and one store for both, which can be broken.
func newFaultyWorld(t testing.TB, change func(*world)) (*world, *issuer.FaultyStore) {
	t.Helper()
	var store *issuer.FaultyStore
	w := newWorld(t, nil, func(w *world) {
		w.skews = []time.Duration{0, 0}
		var guard *replay.Guard
		guard, store = issuer.NewFaultyGuard(idle, w.clock.Now)
		w.config = func(c *issuer.Config) { c.ReplayGuard, c.RefreshIdleTTL = guard, idle }
		if change != nil {
			change(w)
		}
	})
	return w, store
}

// While the store is away nobody is logged out: refreshes are answered with short access tokens.
// Nobody is logged out afterwards either, whatever the store did without confirming it.
func TestReplayGuardIsAway(t *testing.T) {
	away := errors.New("the store is away")
	for _, c := range []struct {
		name          string
		before, after error
	}{{"it does nothing", away, nil}, {"it does it, and the answer is lost", nil, away}} {
		t.Run(c.name, func(t *testing.T) {
			w, store := newFaultyWorld(t, nil)
			w.idp.Be(issuertest.Behaviour{KillOnReuse: true})
			s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
			token := s.a.login().text("refresh_token")
			s.refresh(token)
			store.Fail(c.before, c.after)
			for range 5 { // 4 of them within the hour, the fifth when the provider is due
				s.refresh(s.last)
				w.clock.Add(15 * time.Minute)
			}
			store.Fail(nil, nil)
			w.clock.Add(time.Minute)
			s.refresh(s.last)
			s.refresh(s.last)
			if got := strings.Join(s.said, " "); got != "ok short short short short short ok ok" {
				t.Errorf("%s", got)
			}
			if n := w.idp.Refreshes(); n != 1 {
				t.Errorf("the provider was asked %d times", n)
			}
			counters := w.direct("GET", "/healthz").JSON["counters"].(map[string]any)
			if counters["guard_failures"] == float64(0) || counters["stale_answers"] == float64(0) {
				t.Errorf("counters %v", counters)
			}
			if !strings.Contains(w.log.String(), "the store is away") {
				t.Error("the log does not say so")
			}
		})
	}
	t.Run("for longer than the provider's word holds", func(t *testing.T) {
		w, store := newFaultyWorld(t, nil)
		s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
		token := s.a.login().text("refresh_token")
		store.Fail(away, nil)
		w.clock.Add(2*time.Hour + time.Second)
		s.refresh(token)
		store.Fail(nil, nil)
		s.refresh(token)
		if got := strings.Join(s.said, " "); got != "temporarily_unavailable ok" {
			t.Errorf("%s", got)
		}
	})
}

// A full memory must not lose the refresh token that a rotating provider has just issued.
func TestReplayGuardIsFullAfterTheProviderAnswered(t *testing.T) {
	w, store := newFaultyWorld(t, nil)
	w.idp.Be(issuertest.Behaviour{KillOnReuse: true})
	s := &story{world: w, a: w.register(w.wiki.PublicURL, nil)}
	s.last = s.a.login().text("refresh_token")
	store.Full(true)
	s.refresh(s.last) // nothing has moved
	w.clock.Add(time.Hour)
	s.refresh(s.last)
	store.Full(false)
	s.refresh(s.last)
	w.clock.Add(time.Hour)
	s.refresh(s.last)
	if got := strings.Join(s.said, " "); got != "temporarily_unavailable short ok ok" || w.idp.Refreshes() != 2 {
		t.Errorf("%s; %d calls", got, w.idp.Refreshes())
	}
}

// The provider guards a code too, unless the code was redeemed at the callback: then only the guard
// counts.
func TestReplayGuardIsAwayWhenACodeComes(t *testing.T) {
	for _, c := range []struct {
		exchange string
		status   int
		code     string
		then     string // when the guard is back
	}{{"token", 200, "", "invalid_grant"}, {"callback", 503, "temporarily_unavailable", "ok"}} {
		t.Run("exchange="+c.exchange, func(t *testing.T) {
			w, store := newFaultyWorld(t, func(w *world) { w.wiki.Exchange = c.exchange })
			a := w.register(w.wiki.PublicURL, nil)
			code := a.code()
			store.Fail(errors.New("the store is away"), nil)
			a.token(a.redemption(code)).wants(t, c.status, c.code)
			store.Fail(nil, nil)
			if got := outcome(a.token(a.redemption(code))); got != c.then {
				t.Errorf("then %s, want %s", got, c.then)
			}
		})
	}
}

// A full guard could not count the code, so it is not redeemed, and stays good.
func TestReplayGuardIsFullWhenACodeComes(t *testing.T) {
	w, store := newFaultyWorld(t, nil)
	a := w.register(w.wiki.PublicURL, nil)
	code := a.code()
	store.Fail(replay.ErrFull, nil)
	before := w.idp.Posts()
	a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
	if n := w.idp.Posts() - before; n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	store.Fail(nil, nil)
	a.token(a.redemption(code)).wants(t, 200, "")
}

// With a guard a code is redeemed once, whatever the provider does, and the provider is asked once.
func TestReplayGuardCountsCodes(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		for _, guard := range []string{"memory", "shared"} {
			t.Run("exchange="+exchange+", guard "+guard, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.guarded(guard)
					w.wiki.Exchange = exchange
					if guard == "shared" {
						w.skews = []time.Duration{0, 0}
					}
				})
				w.idp.Be(issuertest.Behaviour{CodeReuse: "allowed"})
				a := w.register(w.wiki.PublicURL, nil)
				code := a.code()
				// a thief without the verifier does not use the code up
				a.token(with(a.redemption(code), "code_verifier", newVerifier())).wants(t, 400, "invalid_grant")
				var wait sync.WaitGroup
				replies := make([]reply, 8)
				for i := range replies {
					r := a.tokenRequest(a.redemption(code))
					wait.Go(func() { replies[i] = w.do(r) })
				}
				wait.Wait()
				granted := 0
				for _, r := range replies {
					if r.Status == 200 {
						granted++
					} else {
						r.wants(t, 400, "invalid_grant")
					}
				}
				a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
				if granted != 1 || w.idp.Posts() != 1 {
					t.Errorf("%d granted, %d posts", granted, w.idp.Posts())
				}
			})
		}
	}
	t.Run("a code is still good when the provider could not be asked", func(t *testing.T) {
		w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
		a := w.register(w.wiki.PublicURL, nil)
		code := a.code()
		w.idp.Be(issuertest.Behaviour{Status: 503})
		a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
		w.idp.Be(issuertest.Behaviour{})
		a.token(a.redemption(code)).wants(t, 200, "")
		a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
	})
	t.Run("an invented code leaves nothing behind", func(t *testing.T) {
		w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
		a := w.register(w.wiki.PublicURL, nil)
		code := a.code()
		w.idp.Be(issuertest.Behaviour{Status: 400, Error: "invalid_grant"})
		for want := 1; want <= 3; want++ {
			a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
			if n := w.idp.Posts(); n != want {
				t.Errorf("the provider was asked %d times, want %d: the guard remembers a code that was never good", n, want)
			}
		}
	})
	t.Run("one code of the provider in several of ours", func(t *testing.T) {
		for _, exchange := range []string{"token", "callback"} {
			w := newWorld(t, nil, func(w *world) { w.guarded("memory"); w.wiki.Exchange = exchange })
			w.idp.Be(issuertest.Behaviour{CodeReuse: "allowed"})
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			back := b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow"))
			u, err := url.Parse(back)
			if err != nil {
				t.Fatal(err)
			}
			cookies := b.Jar.Cookies(u)
			var codes []string
			for range 2 { // the callback again, with the cookie that it deletes
				b.Jar.SetCookies(u, cookies)
				next, err := url.Parse(b.Get(back).Next())
				if err != nil {
					t.Fatal(err)
				}
				codes = append(codes, next.Query().Get("code"))
			}
			if codes[0] == codes[1] || codes[1] == "" {
				t.Fatalf("codes %q", codes)
			}
			a.token(a.redemption(codes[0])).wants(t, 200, "")
			a.token(a.redemption(codes[1])).wants(t, 400, "invalid_grant")
		}
	})
}

// A login without checks ends then too, though BOUNCER_SESSION_TTL is longer here.
func TestLoginEndsWithTheRefreshTokenTTL(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		// SessionTTL is the default, 24 hours
		w.config = func(c *issuer.Config) { c.RefreshTokenTTL = 12 * time.Hour }
	})
	w.idp.Be(refreshProviders["none"])
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	w.clock.Add(6 * time.Hour)
	token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	w.clock.Add(6*time.Hour + time.Second)
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
}

// A person who is not admitted keeps the login, and comes in again when the rules are mended. At a
// provider that rotates the login is lost: the new refresh token went with the refusal.
func TestLoginIsKeptByWhoIsNotAdmitted(t *testing.T) {
	for _, guard := range []string{"none", "memory", "shared"} {
		for provider, want := range map[string]string{"static": "ok", "leeway": "invalid_grant", "strict": "invalid_grant"} {
			t.Run("guard "+guard+", provider "+provider, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.guarded(guard)
					w.wiki.AllowedSubjects = []string{"person-1"}
				})
				w.idp.Be(refreshProviders[provider])
				a := w.register(w.wiki.PublicURL, nil)
				token := a.login().text("refresh_token")
				w.clock.Add(time.Hour)
				// the operator's slip
				w.relabel(func(t *labels) { t.AllowedSubjects = []string{"person-one"} })
				a.token(a.refreshment(token)).wants(t, 400, "access_denied")
				w.clock.Add(7 * time.Minute)
				w.relabel(func(t *labels) { t.AllowedSubjects = []string{"person-1"} })
				if got := outcome(a.token(a.refreshment(token))); got != want {
					t.Errorf("when the label is mended: %s, want %s", got, want)
				}
			})
		}
	}
}

// Within a minute a refusal is judged anew on the provider's last answer. The provider is not asked
// again, however often the client comes, and its new refresh token is not lost yet.
func TestRefreshCountsARuleThatIsMended(t *testing.T) {
	for _, provider := range []string{"static", "strict"} {
		for _, guard := range []string{"none", "memory"} {
			t.Run(provider+", guard "+guard, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.guarded(guard)
					w.wiki.AllowedSubjects = []string{"person-1"}
				})
				w.idp.Be(refreshProviders[provider])
				a := w.register(w.wiki.PublicURL, nil)
				token := a.login().text("refresh_token")
				w.clock.Add(time.Hour)
				w.relabel(func(t *labels) { t.AllowedSubjects = []string{"person-one"} })
				before := w.idp.Posts()
				for range 3 {
					a.token(a.refreshment(token)).wants(t, 400, "access_denied")
				}
				w.clock.Add(5 * time.Second)
				w.relabel(func(t *labels) { t.AllowedSubjects = []string{"person-1"} })
				token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
				if n := w.idp.Posts() - before; n != 1 {
					t.Errorf("the provider was asked %d times", n)
				}
				w.clock.Add(time.Hour)
				a.token(a.refreshment(token)).wants(t, 200, "")
			})
		}
	}
}

// Unless it is taken back, the lease of a request that ended long ago would keep all others from
// asking about the login.
func TestLeaseWhoseAnswerWasLostIsTakenBack(t *testing.T) {
	w, store := newFaultyWorld(t, nil)
	w.idp.Be(issuertest.Behaviour{Refresh: "static"})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	w.clock.Add(time.Hour)
	store.FailRaises(1, errors.New("the answer is lost"))
	if got := outcome(a.token(a.refreshment(token))); got != "short" {
		t.Fatalf("the store's answer is lost: %s", got)
	}
	// another process of the client asks, or the same one after its access token was refused
	w.clock.Add(5 * time.Second)
	a.token(a.refreshment(token)).wants(t, 200, "")
}

// cutAnswers cuts off the second half of the next answers of the token endpoint.
type cutAnswers struct {
	http.RoundTripper
	cut int
}

func (c *cutAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost && c.cut > 0 {
		c.cut--
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), brokenReader{}))
	}
	return resp, err
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// An answer whose connection breaks after the header is as lost as one that breaks before.
func TestRefreshAsksAgainForAnAnswerThatIsCutOff(t *testing.T) {
	var cut *cutAnswers
	w := newWorld(t, nil, func(w *world) {
		cut = &cutAnswers{RoundTripper: w.idp.Transport}
		w.guarded("memory")
		guarded := w.config
		w.config = func(c *issuer.Config) { guarded(c); c.Transport = cut }
	})
	w.idp.Be(refreshProviders["leeway"])
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	w.clock.Add(time.Hour)
	cut.cut = 1
	got := a.token(a.refreshment(token))
	if outcome(got) != "ok" {
		t.Errorf("the answer is cut off: %s, want ok", outcome(got))
	}
	// The client comes again when its access token ends, and the leeway is over.
	w.clock.Add(7 * time.Minute)
	if outcome(a.token(a.refreshment(got.text("refresh_token")))) != "ok" {
		t.Errorf("the login is lost: %.400s", w.log.String()[strings.LastIndex(w.log.String(), "login ended"):])
	}
}
