package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// providerBench is one of two real providers, asked at every refresh: Dex, which keeps one refresh token for each person
// and client and answers errors of its own; oidc-provider, which ends a login whose refresh token it sees twice.
type providerBench struct {
	*testing.T
	w     *rig.World
	tn    *rig.Tenant
	store *rig.Redis
	// newUser makes a person who can be removed.
	newUser func() (name string, remove func())
}

// TestRealProvidersAreAskedAtARefresh runs what a fake provider is asked in package issuer at real ones.
func TestRealProvidersAreAskedAtARefresh(t *testing.T) {
	t.Parallel()
	api, dex := rig.NewDexAPI(t)
	store := rig.StartRedis(t, &rig.Logs{})
	w := rig.New(t, rig.Options{
		Dex: dex, OIDCProvider: true, Clocks: true,
		Sidecar: map[string]string{"BOUNCER_REPLAY_GUARD": store.URL},
		Labels:  map[string]string{"refresh": "upstream", "upstreamCheckInterval": "0s"},
	})
	for _, tn := range w.Tenants() {
		b := &providerBench{w: w, tn: tn, store: store}
		people := 0
		b.newUser = func() (string, func()) {
			people++
			name := fmt.Sprintf("person%d@example.com", people)
			if tn == w.World {
				return name, func() { tn.Provider.Disable(b.T, name) }
			}
			api.CreateUser(name, fmt.Sprint("id-", people))
			return name, func() { api.DeleteUser(name) }
		}
		for _, row := range providerRows {
			t.Run(tn.Provider.Name+": "+row.name, func(t *testing.T) {
				b.T = t
				row.run(b)
			})
		}
	}
}

// login is a login of somebody who has no other.
func (b *providerBench) login(user string) (*rig.OAuthClient, string) {
	b.Helper()
	browser := b.tn.Browser()
	browser.Username = user
	c := b.tn.Client()
	return c, c.Tokens(browser).Member("refresh_token")
}

// use presents a refresh token that must be accepted, and returns the newest and how often the provider was asked.
func (b *providerBench) use(c *rig.OAuthClient, what, token string) (string, int) {
	b.Helper()
	before := len(b.tn.Provider.Posts("refresh_token"))
	answer := c.Refresh(token)
	if answer.Status != http.StatusOK {
		b.Fatalf("%s: %s", what, answer)
	}
	if got := c.Get("/anything", answer.Member("access_token")); got.Status != http.StatusOK {
		b.Errorf("%s: the access token: %s", what, got)
	}
	if next := answer.Member("refresh_token"); next != "" {
		token = next
	}
	return token, len(b.tn.Provider.Posts("refresh_token")) - before
}

var providerRows = []struct {
	name string
	run  func(*providerBench)
}{
	{"each refresh asks once", func(b *providerBench) {
		user, _ := b.newUser()
		c, token := b.login(user)
		for i := range 4 {
			var asked int
			if token, asked = b.use(c, fmt.Sprint("refresh ", i+1), token); asked != 1 {
				b.Errorf("refresh %d: the provider was asked %d times, want once", i+1, asked)
			}
		}
	}},
	{"20 refreshes at once over two replicas ask once, and each answer is good", func(b *providerBench) {
		user, _ := b.newUser()
		c, token := b.login(user)
		before := len(b.tn.Provider.Posts("refresh_token"))
		g := guardBench{T: b.T}
		var next string
		for _, answer := range g.atOnce(20, func() *rig.Answer { return c.Refresh(token) }) {
			switch answer.Status {
			case http.StatusOK:
				next = answer.Member("refresh_token")
			case http.StatusServiceUnavailable: // one of them is asking; the client tries again
			default:
				b.Errorf("one of them: %s", answer)
			}
		}
		if asked := len(b.tn.Provider.Posts("refresh_token")) - before; asked != 1 {
			b.Errorf("the provider was asked %d times, want once", asked)
		}
		again, _ := b.use(c, "again, for who had no answer", token)
		if next != again {
			b.Error("the answers differ")
		}
		b.use(c, "and on", again)
	}},
	{"all replicas are killed between two refreshes", func(b *providerBench) {
		user, _ := b.newUser()
		c, token := b.login(user)
		for i := range 2 {
			for _, r := range b.w.Replicas {
				r.Restart(nil)
			}
			token, _ = b.use(c, fmt.Sprint("refresh ", i+1), token)
		}
	}},
	{"a stolen token used after its owner never reaches the provider", func(b *providerBench) {
		user, _ := b.newUser()
		c, stolen := b.login(user)
		r2, _ := b.use(c, "owner", stolen)
		r3, _ := b.use(c, "owner again", r2)
		before := len(b.tn.Provider.Posts("refresh_token"))
		wantOAuthError(b.T, "thief", c.Refresh(stolen), "invalid_grant")
		wantOAuthError(b.T, "owner afterwards", c.Refresh(r3), "invalid_grant")
		if asked := len(b.tn.Provider.Posts("refresh_token")) - before; asked != 0 {
			b.Errorf("the provider was asked %d times", asked)
		}
	}},
	{"a person who is removed", func(b *providerBench) {
		user, remove := b.newUser()
		c, token := b.login(user)
		token, _ = b.use(c, "before", token)
		remove()
		r := b.w.Replicas[0]
		defer r.SetClock(0)
		if b.tn == b.w.Wiki {
			// Dex answers 500, as it does when its directory is away for a moment: that is bridged for two hours.
			if answer := b.w.TokenAt(r, time.Hour, c.Public, c.RefreshForm(token)); answer.Status != http.StatusOK || expiresIn(answer) > 300 {
				b.Errorf("after an hour: %s, want a short access token", answer)
			}
			wantOAuthError(b.T, "after three hours", b.w.TokenAt(r, 3*time.Hour, c.Public, c.RefreshForm(token)), "invalid_grant")
		}
		wantOAuthError(b.T, "afterwards", c.Refresh(token), "invalid_grant")
		wantOAuthError(b.T, "and again", c.Refresh(token), "invalid_grant")
	}},
	{"the provider is down, and comes back", func(b *providerBench) {
		user, _ := b.newUser()
		c, token := b.login(user)
		token, _ = b.use(c, "before", token)
		for _, status := range []int{http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusTooManyRequests} {
			b.tn.Provider.Fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			answer := c.Refresh(token)
			b.tn.Provider.Fault(nil)
			switch answer.Status {
			case http.StatusOK: // the person was let in a moment ago: a short access token
				if life := expiresIn(answer); life == 0 || life > 300 {
					b.Errorf("while it answers %d: an access token of %d seconds", status, life)
				}
				if next := answer.Member("refresh_token"); next != "" {
					token = next
				}
			case http.StatusServiceUnavailable:
				if answer.Header.Get("Retry-After") == "" {
					b.Errorf("while it answers %d: 503 without Retry-After", status)
				}
			default:
				b.Errorf("while it answers %d: %s", status, answer)
			}
		}
		token, _ = b.use(c, "when it is back", token)
		b.use(c, "and on", token)
	}},
}

// Dex keeps one refresh token for a person and a client, and all MCP clients are one client to it: a login at one of them takes
// the other's away. So by default nothing is asked of it between logins.
func TestDexKeepsOneRefreshToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode    string
		asked   bool
		firstIn bool
	}{
		{"auto", false, true},
		{"session", false, true},
		{"upstream", true, false},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			w := rig.New(t, rig.Options{Labels: map[string]string{"refresh": c.mode, "upstreamCheckInterval": "0s"}})
			first, second := w.Wiki.Client(), w.Wiki.Client()
			one := first.Tokens(w.Wiki.Browser()).Member("refresh_token")
			two := second.Tokens(w.Wiki.Browser()).Member("refresh_token")
			if answer := first.Refresh(one); c.firstIn && answer.Status != http.StatusOK {
				t.Errorf("the first client: %s", answer)
			} else if !c.firstIn {
				wantOAuthError(t, "the first client", answer, "invalid_grant")
			}
			if answer := second.Refresh(two); answer.Status != http.StatusOK {
				t.Errorf("the second client: %s", answer)
			}
			if asked := len(w.Wiki.Provider.Posts("refresh_token")) > 0; asked != c.asked {
				t.Errorf("Dex was asked: %v, want %v", asked, c.asked)
			}
		})
	}
}
