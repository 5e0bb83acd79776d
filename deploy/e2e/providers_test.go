package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// providerBench is one of two real providers, asked at every refresh: Dex, which keeps one refresh
// token for each person and client and answers errors of its own; oidc-provider, which ends a login
// whose refresh token it sees twice.
type providerBench struct {
	*testing.T
	w       *rig.World
	tn      *rig.Tenant
	user    string
	subject string           // of the login, once there was one
	remove  func(sub string) // by the provider's administrator
}

// TestRealProvidersAreAskedAtARefresh runs what a fake provider is asked in package issuer at real
// ones.
func TestRealProvidersAreAskedAtARefresh(t *testing.T) {
	t.Parallel()
	store := rig.StartRedis(t, &rig.Logs{})
	askProviders(t, rig.Options{Clocks: true, Sidecar: map[string]string{"BOUNCER_REPLAY_GUARD": store.URL}})
}

// The rows that need no store, with each request on another environment of the function.
func TestRealProvidersAreAskedAtARefreshOnLambda(t *testing.T) {
	t.Parallel()
	askProviders(t, rig.Options{Lambda: true, Alone: true})
}

// askProviders runs the rows at both providers; without replicas, those that need none.
func askProviders(t *testing.T, o rig.Options) {
	api, dex := rig.NewDexAPI(t)
	var users []any
	for i := range providerRows {
		users = append(users, rig.DexUser(providerUser(i), fmt.Sprint("id-", i)))
	}
	dex["staticPasswords"] = users
	o.Dex, o.OIDCProvider = dex, true
	o.Labels = map[string]string{"refresh": "upstream", "upstreamCheckInterval": "0s"}
	w := rig.New(t, o)
	for _, tn := range w.Tenants() {
		for i, row := range providerRows {
			if row.replicas && o.Alone {
				continue
			}
			t.Run(tn.Provider.Name+": "+row.name, func(t *testing.T) {
				b := &providerBench{T: t, w: w, tn: tn, user: providerUser(i)}
				// Dex with its storage in memory cannot look for a person while it renews their
				// refresh token, so that is what is taken away there.
				b.remove = func(sub string) { api.RevokeRefresh(sub, tn.Provider.ClientID) }
				if tn == w.World {
					b.remove = func(sub string) { tn.Provider.Disable(t, sub) }
				}
				row.run(b)
			})
		}
	}
}

// providerUser returns the user of one row, who has no other login.
func providerUser(row int) string { return fmt.Sprintf("person%d@example.com", row) }

func (b *providerBench) login() (*rig.OAuthClient, string) {
	b.Helper()
	browser := b.tn.Browser()
	browser.Username = b.user
	c := b.tn.Client()
	tokens := c.Tokens(browser)
	var id rig.Identity
	if answer := c.Get("/whoami", tokens.Member("access_token")); json.Unmarshal([]byte(answer.Body), &id) != nil || id.Sub == "" {
		b.Fatalf("whoami: %s", answer)
	}
	b.subject = id.Sub
	return c, tokens.Member("refresh_token")
}

// use presents a refresh token that must be accepted, and returns the newest and how often the
// provider was asked.
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
	name     string
	replicas bool // and a guard that they share
	run      func(*providerBench)
}{
	{"each refresh asks once", false, func(b *providerBench) {
		c, token := b.login()
		for i := range 4 {
			var asked int
			if token, asked = b.use(c, fmt.Sprint("refresh ", i+1), token); asked != 1 {
				b.Errorf("refresh %d: the provider was asked %d times, want once", i+1, asked)
			}
		}
	}},
	{"20 refreshes at once over two replicas ask once, and each answer is good", true, func(b *providerBench) {
		c, token := b.login()
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
	{"all replicas are killed between two refreshes", true, func(b *providerBench) {
		c, token := b.login()
		for i := range 2 {
			for _, r := range b.w.Replicas {
				r.Restart(nil)
			}
			token, _ = b.use(c, fmt.Sprint("refresh ", i+1), token)
		}
	}},
	{"a stolen token used after its owner never reaches the provider", true, func(b *providerBench) {
		c, stolen := b.login()
		r2, _ := b.use(c, "owner", stolen)
		r3, _ := b.use(c, "owner again", r2)
		before := len(b.tn.Provider.Posts("refresh_token"))
		wantOAuthError(b.T, "thief", c.Refresh(stolen), "invalid_grant")
		wantOAuthError(b.T, "owner afterwards", c.Refresh(r3), "invalid_grant")
		if asked := len(b.tn.Provider.Posts("refresh_token")) - before; asked != 0 {
			b.Errorf("the provider was asked %d times", asked)
		}
	}},
	{"a person who is removed", false, func(b *providerBench) {
		c, token := b.login()
		token, _ = b.use(c, "before", token)
		b.remove(b.subject)
		wantOAuthError(b.T, "afterwards", c.Refresh(token), "invalid_grant")
		wantOAuthError(b.T, "and again", c.Refresh(token), "invalid_grant")
	}},
	{"the provider is down, and comes back", false, func(b *providerBench) {
		c, token := b.login()
		token, _ = b.use(c, "before", token)
		for _, status := range []int{http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusTooManyRequests} {
			b.tn.Provider.Fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			answer := c.Refresh(token)
			b.tn.Provider.Fault(nil)
			switch answer.Status {
			case http.StatusOK: // the person was let in a moment ago: a short access token
				if life := expiresIn(answer); life == 0 || life > 420 {
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

// A client without a secret authenticates at a real provider by the key that follows from the
// master, at a login, a refresh and a revocation, also with a new master; and a provider that wants
// its consent page for a refresh token is asked in that way.
func TestClientKeyInTraefik(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{ClientKey: true, Labels: map[string]string{"world/refresh": "upstream", "upstreamCheckInterval": "0s"}})
	b := &providerBench{T: t, w: w, tn: w.World, user: "person@example.com"}
	c, token := b.login()
	for i := range 3 {
		var asked int
		if token, asked = b.use(c, fmt.Sprint("refresh ", i+1), token); asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	}
	seen := map[string]bool{}
	for _, post := range append(w.World.Provider.Posts("authorization_code"), w.World.Provider.Posts("refresh_token")...) {
		assertion := post.Form.Get("client_assertion")
		if post.Form.Has("client_secret") || assertion == "" || seen[assertion] || post.Form.Get("client_id") != w.World.Provider.ClientID {
			t.Errorf("%v", post.Form)
		}
		seen[assertion] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d requests", len(seen))
	}
	form := url.Values{"token": {token}, "client_id": {c.ClientID}}
	answer := c.Do(http.MethodPost, c.Public+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	if answer.Status != http.StatusOK {
		t.Errorf("revocation: %s", answer)
	}
	wantOAuthError(t, "after it", c.Refresh(token), "invalid_grant")
	said := false
	for _, r := range w.Replicas {
		said = said || inOneLine(w.Logs.Text(r.Name), "who may come in", "JWKS URL to register at the provider", "/world/oauth/client-jwks.json") == nil
	}
	if !said {
		t.Error("no sidecar says what to register")
	}
}

// oidc-provider as it comes gives a refresh token where its consent page is asked for, and says
// nothing where it is not: then the log does.
func TestRefreshTokenThatWantsConsent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parameters string // the label; empty: not set
		asked      int
	}{{"", 1}, {"prompt=consent", 1}, {"prompt=", 0}} {
		t.Run(c.parameters, func(t *testing.T) {
			t.Parallel()
			labels := map[string]string{"upstreamCheckInterval": "0s"}
			if c.parameters != "" {
				labels["world/providerParameters"] = c.parameters
			}
			w := rig.New(t, rig.Options{OIDCProvider: true, Labels: labels})
			b := &providerBench{T: t, w: w, tn: w.World, user: "person@example.com"}
			client, token := b.login()
			if _, asked := b.use(client, "refresh", token); asked != c.asked {
				t.Errorf("the provider was asked %d times, want %d", asked, c.asked)
			}
			warned := false
			for _, r := range w.Replicas {
				warned = warned || inOneLine(w.Logs.Text(r.Name), "asked for a refresh token and got none", "set the label providerParameters to prompt=consent") == nil
			}
			if warned != (c.asked == 0) {
				t.Errorf("the log says so: %v", warned)
			}
		})
	}
}

// Dex keeps one refresh token for a person and a client, and all MCP clients are one client to it:
// a login at one of them takes the other's away. So by default nothing is asked of it between
// logins.
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
