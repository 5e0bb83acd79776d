package issuer_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// handingOn is a world whose MCP server acts at the provider.
func handingOn(t *testing.T, change func(*world), label ...string) *world {
	t.Helper()
	if len(label) == 0 {
		label = []string{"scopes=drive:read"}
	}
	w := newWorld(t, nil, func(w *world) {
		w.wiki.UpstreamToken = label
		if change != nil {
			change(w)
		}
	})
	t.Cleanup(func() { w.holdsNoSecret(t) })
	return w
}

// holdsNoSecret says that no line of the log holds what the provider gave, or what was sent to it.
func (w *world) holdsNoSecret(t *testing.T) {
	t.Helper()
	log := w.log.String()
	for _, secret := range w.idp.Secrets() {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %.30s…", secret)
		}
	}
}

// upstreamToken opens the provider's access token inside one of ours, as the plugin does. Nobody
// reads it in the copy that the client has.
func (w *world) upstreamToken(t testing.TB, r reply, hopKey string) (token string, claims map[string]any) {
	t.Helper()
	at := r.wants(t, 200, "").text("access_token")
	claims = w.verifiedToken(w.wiki.PublicURL, at, w.clock.Now())
	sealed, _ := claims["upstream_token"].(string)
	token, err := sealing.OpenUpstreamToken(hopKey, w.wiki.PublicURL, claims["jti"].(string), sealed)
	if err != nil {
		t.Fatalf("upstream_token %.40q: %v", sealed, err)
	}
	_, payload, _ := strings.Cut(at, ".")
	payload, _, _ = strings.Cut(payload, ".")
	plain, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, seen := range []string{r.Body, string(plain)} {
		for _, form := range []string{token, base64.RawURLEncoding.EncodeToString([]byte(token)), base64.StdEncoding.EncodeToString([]byte(token))} {
			if strings.Contains(seen, strings.TrimRight(form, "=")) {
				t.Errorf("the client can read the provider's access token in %s", seen)
			}
		}
	}
	return token, claims
}

// gives wants an access token with the provider's newest inside, that ends before it.
func (w *world) gives(t *testing.T, r reply, seconds float64) reply {
	t.Helper()
	got, claims := w.upstreamToken(t, r, w.hopKey)
	if want := w.idp.AccessToken(); got != want {
		t.Errorf("the MCP server gets %q, and the provider gave %q", got, want)
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != seconds || r.JSON["expires_in"] != seconds {
		t.Errorf("the access token lives %v s (expires_in %v), want %v", life, r.JSON["expires_in"], seconds)
	}
	return r
}

func TestUpstreamTokenIsInEachAccessToken(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		for _, guard := range []string{"none", "memory", "shared"} {
			t.Run(exchange+" "+guard, func(t *testing.T) {
				w := handingOn(t, func(w *world) {
					w.guarded(guard)
					w.wiki.Exchange = exchange
				})
				a := w.register(w.wiki.PublicURL, nil)
				r := w.gives(t, a.login(), 3570)
				for i := range 3 {
					w.clock.Add(10 * time.Minute) // and the kept one serves
					left := float64(3570 - 600*(i+1))
					r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), left)
				}
				if n := w.idp.Refreshes(); n != 0 {
					t.Errorf("the provider was asked %d times", n)
				}
				w.clock.Add(time.Minute) // 29 minutes are left
				r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3570)
				if n := w.idp.Refreshes(); n != 1 {
					t.Errorf("the provider was asked %d times", n)
				}
				if log := w.log.String(); !strings.Contains(log, `"upstream_seconds":3600`) {
					t.Error("the log does not say how long the provider's token lives")
				}
				// What is wrapped by another plugin's key opens for that one alone.
				w.hopKey = newRing(t, masterTwo+","+masterOne).HopKey()
				w.masters, w.replicas = []string{masterTwo + "," + masterOne}, nil
				other := &issuertest.Front{Tenant: w.wiki, HopKey: w.hopKey, Now: w.clock.Now, Replica: w.replica}
				request := a.tokenRequest(a.refreshment(r.text("refresh_token")))
				r = w.read(issuertest.Serve(other, request))
				token, claims := w.upstreamToken(t, r, w.hopKey)
				if token != w.idp.AccessToken() {
					t.Errorf("after the rotation the MCP server gets %q", token)
				}
				if _, err := sealing.OpenUpstreamToken(newRing(t, masterOne).HopKey(), w.wiki.PublicURL, claims["jti"].(string), claims["upstream_token"].(string)); err == nil {
					t.Error("the plugin with the hop key of before can read it")
				}
			})
		}
	}
}

func TestUpstreamTokenBoundsTheLifeOfOurs(t *testing.T) {
	for said, seconds := range map[any]float64{3600: 3570, 600: 570, "600": 570, 600.7: 570, 120: 90, 86400: 3600, nil: 3600, "soon": 3600, -5: 3600} {
		t.Run(fmt.Sprint(said), func(t *testing.T) {
			w := handingOn(t, nil)
			w.idp.Be(issuertest.Behaviour{Answer: map[string]any{"expires_in": said}})
			a := w.register(w.wiki.PublicURL, nil)
			r := w.gives(t, a.login(), seconds)
			again := a.token(a.refreshment(r.text("refresh_token")))
			w.gives(t, again, seconds)
			due := seconds < 1800
			if asked := w.idp.Refreshes() == 1; asked != due {
				t.Errorf("the provider was asked: %v", asked)
			}
			if short := strings.Contains(w.log.String(), "clients refresh before each request"); short != (seconds == 90) {
				t.Errorf("the log warns of a short life: %v", short)
			}
		})
	}
	t.Run("a token of unknown end serves until the next check", func(t *testing.T) {
		w := handingOn(t, nil)
		w.idp.Be(issuertest.Behaviour{Answer: map[string]any{"expires_in": nil}})
		a := w.register(w.wiki.PublicURL, nil)
		r := a.login()
		w.clock.Add(59 * time.Minute)
		r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3600)
		w.clock.Add(time.Minute)
		w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3600)
		if n := w.idp.Refreshes(); n != 1 {
			t.Errorf("the provider was asked %d times", n)
		}
	})
}

// While the provider is away the kept token serves for as long as it lives. Then nobody gets a
// token without one, and nobody is logged out.
func TestUpstreamTokenWhileTheProviderIsAway(t *testing.T) {
	for _, guard := range []string{"none", "memory", "shared"} {
		t.Run(guard, func(t *testing.T) {
			w := handingOn(t, func(w *world) { w.guarded(guard) })
			a := w.register(w.wiki.PublicURL, nil)
			r := a.login()
			w.idp.Be(issuertest.Behaviour{Status: 502})
			w.clock.Add(50 * time.Minute)
			short := w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 420)
			if short.text("refresh_token") != r.text("refresh_token") {
				t.Error("another refresh token, though nobody was asked")
			}
			w.clock.Add(9 * time.Minute)
			w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 30) // half of what is left
			w.clock.Add(time.Minute)
			a.token(a.refreshment(r.text("refresh_token"))).wants(t, 503, "temporarily_unavailable")
			w.clock.Add(30 * time.Minute)
			a.token(a.refreshment(r.text("refresh_token"))).wants(t, 503, "temporarily_unavailable")
			w.idp.Be(issuertest.Behaviour{})
			w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3570)
		})
	}
}

func TestUpstreamTokenIsTheLastThatALoginWithoutChecksHas(t *testing.T) {
	for _, c := range []struct{ refresh, gives string }{{"session", ""}, {"auto", "none"}} {
		w := handingOn(t, func(w *world) {
			w.wiki.Refresh = c.refresh
			w.guarded("memory")
		})
		w.idp.Be(issuertest.Behaviour{Refresh: c.gives})
		a := w.register(w.wiki.PublicURL, nil)
		r := w.gives(t, a.login(), 3570)
		w.clock.Add(50 * time.Minute)
		r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 570)
		w.clock.Add(10 * time.Minute)
		got := a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant")
		if !strings.Contains(got.Body, "has expired; authorize again") {
			t.Errorf("%s", got.Body)
		}
		a.login()
		const line = "each login ends with the first"
		if n := strings.Count(w.log.String(), line); n != 1 {
			t.Errorf("the log says %d times that logins end early", n)
		}
	}
	// One that never ends keeps its login as long as any other.
	w := handingOn(t, nil)
	w.idp.Be(issuertest.Behaviour{Refresh: "none", Answer: map[string]any{"expires_in": nil}})
	a := w.register(w.wiki.PublicURL, nil)
	r := a.login()
	for range 23 {
		w.clock.Add(time.Hour)
		r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3600)
	}
	w.clock.Add(2 * time.Hour)
	a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant")
}

// The provider's token in the grant goes where the grant goes: to those who ask at once, and to who
// comes again because our answer was lost.
func TestUpstreamTokenOfOneCheckIsSharedByAllWhoAsk(t *testing.T) {
	for _, guard := range []string{"none", "memory", "shared"} {
		t.Run(guard, func(t *testing.T) {
			w := handingOn(t, func(w *world) {
				w.guarded(guard)
				if guard == "shared" {
					w.skews = []time.Duration{0, 0}
				}
			})
			w.idp.Be(issuertest.Behaviour{KillOnReuse: true})
			a := w.register(w.wiki.PublicURL, nil)
			r := a.login()
			w.clock.Add(time.Hour)
			form := a.refreshment(r.text("refresh_token"))
			replies := make([]reply, 4)
			var all sync.WaitGroup
			for i := range replies {
				request := a.tokenRequest(form)
				all.Go(func() {
					resp, err := w.net.RoundTrip(request)
					if err == nil {
						replies[i] = readReply(t, resp)
					}
				})
			}
			all.Wait()
			w.clock.Add(30 * time.Second)
			replies = append(replies, a.token(form))
			for _, r := range replies[:4] {
				w.gives(t, r, 3570)
			}
			w.gives(t, replies[4], 3540)
			if n := w.idp.Refreshes(); n != 1 {
				t.Errorf("the provider was asked %d times", n)
			}
			w.clock.Add(time.Hour)
			w.gives(t, a.token(a.refreshment(replies[4].text("refresh_token"))), 3570)
		})
	}
}

// Who allowed a login before the server acted at the provider, or for other scopes or another
// audience, has not allowed that.
func TestUpstreamTokenIsForWhatWasAllowed(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
	w.idp.Be(issuertest.Behaviour{Exchange: "urn:api"})
	a := w.register(w.wiki.PublicURL, nil)
	before := a.login().text("refresh_token")
	change := func(label ...string) {
		w.wiki.UpstreamToken = label
		w.net.Handle(w.wiki.PublicURL, nil) // in vain: the first counts
		w.net = &issuertest.Internet{}
		w.serve(w.wiki)
	}
	refresh := func(token string) reply { return a.token(a.refreshment(token)) }
	refusal := func(r reply) {
		t.Helper()
		if !strings.Contains(r.wants(t, 400, "invalid_grant").Body, "in another way than was allowed at this login; authorize again") {
			t.Errorf("%s", r.Body)
		}
	}
	change("scopes=drive:read")
	refusal(refresh(before))
	first := a.login().text("refresh_token")
	change("scopes=drive:read drive:write")
	refusal(refresh(first))
	change("scopes=drive:read", "exchange=urn:api")
	refusal(refresh(first))
	if n := w.idp.Refreshes(); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	change("scopes=drive:read")
	r := w.gives(t, refresh(first), 3570)
	// Without the label nothing of it is left.
	change()
	r = refresh(r.text("refresh_token")).wants(t, 200, "")
	w.clock.Add(time.Hour)
	r = refresh(r.text("refresh_token")).wants(t, 200, "")
	if claims := w.verifiedToken(w.wiki.PublicURL, r.text("access_token"), w.clock.Now()); claims["upstream_token"] != nil {
		t.Errorf("claims %v", claims)
	}
	change("scopes=drive:read")
	refusal(refresh(r.text("refresh_token")))
	w.holdsNoSecret(t)
}

func TestUpstreamTokenHasScopesThatOursHasNot(t *testing.T) {
	w := handingOn(t, nil, "scopes=drive:read email")
	a := w.register(w.wiki.PublicURL, nil)
	b := issuertest.NewBrowser(t, w.net)
	consent := b.Get(a.authorizeURL("scope", "drive:read mcp:read mcp:write"))
	for _, words := range []string{"wiki may act in your name at", "<li>drive:read</li>", "<li>see your e-mail address</li>"} {
		if !strings.Contains(consent.Body, words) {
			t.Errorf("the page does not say %q: %s", words, consent.Body)
		}
	}
	upstream, err := url.Parse(b.Decide(consent, "allow").Next())
	if err != nil {
		t.Fatal(err)
	}
	if got := upstream.Query().Get("scope"); got != "openid email drive:read offline_access" {
		t.Errorf("the provider is asked for %q", got)
	}
	claims := w.verifiedToken(w.wiki.PublicURL, a.login("scope", "drive:read mcp:read mcp:write").text("access_token"), w.clock.Now())
	if claims["scope"] != "mcp:read mcp:write" {
		t.Errorf("our scope is %q", claims["scope"])
	}
	for _, document := range []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp"} {
		if r := w.get(w.wiki.PublicURL+document).wants(t, 200, ""); strings.Contains(r.Body, "drive:read") {
			t.Errorf("%s: %s", document, r.Body)
		}
	}
	other := newWorld(t, nil, nil)
	plain := issuertest.NewBrowser(t, other.net).Get(other.register(other.wiki.PublicURL, nil).authorizeURL())
	if strings.Contains(plain.Body, "act in your name") {
		t.Error("the page of a server that does not act says that it does")
	}
}

func TestUpstreamTokenWithoutItsScopesIsOfNoUse(t *testing.T) {
	for _, c := range []struct {
		label, granted, lacks string
	}{
		{"drive:read mail", "openid drive:read", "mail"},
		{"drive:read mail", "openid", "drive:read mail"},
		{"drive:read", "", "drive:read"},
		{"drive:read", "drive", ""}, // a part of a wider one
		{"https://graph.example/Mail.Read", "openid mail.read", ""},
		{"Mail.Read", "https://graph.example/Mail.Read", ""},
		{"https://graph.example/Mail.Read", "https://other.example/Mail.Read", "https://graph.example/Mail.Read"},
		{"email openid", "drive", ""},
		{"drive:read", "drive:rea", "drive:read"},
		{"gist repo", "repo,gist", ""},
		{"gist repo", "repo,user", "gist"},
	} {
		for _, exchange := range []string{"token", "callback"} {
			w := handingOn(t, func(w *world) { w.wiki.Exchange = exchange }, "scopes="+c.label)
			w.idp.Be(issuertest.Behaviour{Scope: &c.granted})
			a := w.register(w.wiki.PublicURL, nil)
			if c.lacks == "" {
				a.login()
				continue
			}
			says := "the sign-in provider did not grant " + c.lacks + ", without which this server cannot act for anybody there"
			if exchange == "token" {
				if r := a.token(a.redemption(a.code())).wants(t, 400, "access_denied"); !strings.Contains(r.Body, says) {
					t.Errorf("%s", r.Body)
				}
			} else {
				b := issuertest.NewBrowser(t, w.net)
				p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow")))
				if p.Status != 403 || !strings.Contains(p.Body, "did not grant "+c.lacks) || !strings.Contains(p.Body, "error=access_denied") {
					t.Errorf("status %d: %s", p.Status, p.Body)
				}
			}
			if log := w.log.String(); !strings.Contains(log, "which the label upstreamToken asks for: let its client there have that scope, or take it out of the label") {
				t.Errorf("the log: %s", log)
			}
		}
	}
	t.Run("taken back", func(t *testing.T) {
		w := handingOn(t, func(w *world) { w.guarded("memory") })
		a := w.register(w.wiki.PublicURL, nil)
		r := a.login()
		w.clock.Add(time.Hour)
		scope := "openid email"
		w.idp.Be(issuertest.Behaviour{Scope: &scope})
		if got := a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant"); !strings.Contains(got.Body, "did not grant drive:read") {
			t.Errorf("%s", got.Body)
		}
	})
}

// A token that cannot be handed on is refused by its name, at the login and at a refresh.
func TestUpstreamTokenThatCannotBeHandedOn(t *testing.T) {
	long := "upstream-access-" + strings.Repeat("Ab0_", 1024) // 4,112 characters
	for _, c := range []struct {
		name   string
		answer map[string]any
		says   string
		log    string
	}{
		{"4,112 characters", map[string]any{"access_token": long}, "access token has 4112 characters, and 4096 can be carried", "fewer claims into it"},
		{"too long together", map[string]any{"access_token": long[:3900], "refresh_token": "upstream-refresh-" + strings.Repeat("+/", 1900)}, "access token has 3900 characters, and its refresh token 3817", "fewer claims into it"},
		{"bound to a key", map[string]any{"token_type": "DPoP"}, "access token is bound to a key", "let the provider give bearer tokens"},
		{"characters of no header", map[string]any{"access_token": "upstream-access-\tä"}, "holds characters that no header may hold", "RFC 6750"},
		{"a blank", map[string]any{"access_token": "upstream-access- x"}, "holds characters that no header may hold", "RFC 6750"},
		{"a life of 119 seconds", map[string]any{"expires_in": 119}, "lives for 119 seconds, which is too short", "let it live for an hour"},
	} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(c.name+" "+exchange, func(t *testing.T) {
				w := handingOn(t, func(w *world) {
					w.wiki.Exchange = exchange
					if exchange == "token" { // with a guard the callback leaves what is long to it
						w.guarded("memory")
					}
				})
				a := w.register(w.wiki.PublicURL, nil)
				r := a.login()
				w.idp.Be(issuertest.Behaviour{Answer: c.answer})
				if exchange == "token" {
					if got := a.token(a.redemption(a.code())).wants(t, 400, "access_denied"); !strings.Contains(got.Body, c.says) {
						t.Errorf("%s", got.Body)
					}
				} else {
					b := issuertest.NewBrowser(t, w.net)
					p := b.Get(b.Upstream(b.Decide(b.Get(a.authorizeURL()), "allow")))
					if back, err := url.Parse(p.Next()); err != nil || back.Query().Get("error") != "access_denied" || !strings.Contains(back.Query().Get("error_description"), c.says) {
						t.Errorf("status %d: %s: %s", p.Status, p.Next(), p.Body)
					}
				}
				if log := w.log.String(); !strings.Contains(log, c.log) {
					t.Errorf("the log: %s", log)
				}
				if c.answer["expires_in"] != nil { // at a refresh it serves for as long as it lives
					return
				}
				w.clock.Add(time.Hour)
				if got := a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant"); !strings.Contains(got.Body, c.says) {
					t.Errorf("at a refresh: %s", got.Body)
				}
			})
		}
	}
	// The tokens of Entra ID fit. With a shared guard they do not stand in the URL that leads to
	// the client.
	for _, c := range []struct {
		exchange, guard string
		short           bool
	}{{"token", "memory", true}, {"callback", "none", false}, {"callback", "memory", false}, {"callback", "redis", true}, {"auto", "redis", true}} {
		w := handingOn(t, func(w *world) {
			w.wiki.Exchange, w.wiki.AllowedSubjects = c.exchange, []string{"person-1"}
			w.guarded(c.guard)
			// The kind of Redis; the entries are kept in memory.
			if c.guard == "redis" {
				_, memory, err := replay.OpenStore("memory", idle, 30*24*time.Hour, w.clock.Now)
				if err != nil {
					t.Fatal(err)
				}
				w.skews = []time.Duration{0, 0}
				w.config = func(config *issuer.Config) {
					config.ReplayGuard, config.RefreshIdleTTL = replay.New("redis", memory, idle, 30*24*time.Hour), idle
				}
			}
		})
		w.idp.Be(issuertest.Behaviour{RefreshLength: 1500, CodeReuseEnds: true, CodeLength: 900, Answer: map[string]any{"access_token": long[:2500]}})
		a := w.register(w.wiki.PublicURL, nil)
		code := a.code()
		if here := w.idp.Posts() == 1; here != (c.exchange != "token") {
			t.Errorf("exchange=%s: redeemed at the callback: %v", c.exchange, here)
		}
		if short := len(code) <= 2000; short != c.short {
			t.Errorf("exchange=%s, guard %s: a code of %d characters", c.exchange, c.guard, len(code))
		}
		r := w.gives(t, a.token(a.redemption(code)), 3570)
		if n := w.idp.Posts(); n != 1 {
			t.Errorf("the provider's token endpoint was asked %d times", n)
		}
		if c.guard != "none" {
			a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
		}
		w.clock.Add(time.Hour)
		r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3570)
		if n := len(r.text("access_token")); n > 8192 {
			t.Errorf("our access token has %d characters", n)
		}
	}
}

func TestUpstreamTokenThatWasExchanged(t *testing.T) {
	label := []string{"scopes=orders:read", "exchange=https://api.example.com"}
	kind := func() issuertest.Behaviour { return issuertest.Behaviour{Exchange: "https://api.example.com"} }
	t.Run("each new token", func(t *testing.T) {
		for _, auth := range []string{"basic", "post", "private_key_jwt"} {
			w := handingOn(t, func(w *world) {
				w.wiki.ClientAuth = auth
				if auth == "private_key_jwt" {
					w.wiki.ClientSecret = ""
				}
			}, label...)
			b := kind()
			b.AcceptOnly = auth
			w.idp.Be(b)
			a := w.register(w.wiki.PublicURL, nil)
			r := w.gives(t, a.login(), 3570)
			post := w.idp.LastPost()
			if post.Get("scope") != "orders:read" || post.Get("audience") != "https://api.example.com" || post.Get("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token" {
				t.Errorf("the provider was asked %v", post)
			}
			w.clock.Add(10 * time.Minute)
			r = w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 2970)
			w.clock.Add(time.Hour)
			w.gives(t, a.token(a.refreshment(r.text("refresh_token"))), 3570)
			if n := w.idp.Exchanges(); n != 2 {
				t.Errorf("%d exchanges", n)
			}
		}
	})
	t.Run("refused at a login", func(t *testing.T) {
		for _, c := range []struct {
			change func(*issuertest.Behaviour)
			log    string
		}{
			{func(b *issuertest.Behaviour) { b.Exchange = "urn:another" }, "invalid_target"},
			{func(b *issuertest.Behaviour) { b.Exchange = "" }, "unsupported_grant_type"},
			{func(b *issuertest.Behaviour) { b.ExchangeStatus, b.ExchangeError = 403, "access_denied" }, "access_denied"},
			{func(b *issuertest.Behaviour) { b.ExchangeAnswer = map[string]any{"token_type": "N_A"} }, "bound to a key or of no use by itself"},
			{func(b *issuertest.Behaviour) {
				b.ExchangeAnswer = map[string]any{"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"}
			}, "exchanged its access token for something else"},
		} {
			w := handingOn(t, nil, label...)
			b := kind()
			c.change(&b)
			w.idp.Be(b)
			a := w.register(w.wiki.PublicURL, nil)
			a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
			if log := w.log.String(); !strings.Contains(log, c.log) {
				t.Errorf("the log does not say %s: %s", c.log, log)
			}
		}
	})
	t.Run("away at a login, and the same code works again", func(t *testing.T) {
		for _, exchange := range []string{"token", "callback"} {
			w := handingOn(t, func(w *world) {
				w.guarded("memory")
				w.wiki.Exchange = exchange
			}, label...)
			b := kind()
			b.ExchangeStatus = 503
			w.idp.Be(b)
			a := w.register(w.wiki.PublicURL, nil)
			code := a.code()
			a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
			w.idp.Be(kind())
			w.gives(t, a.token(a.redemption(code)), 3570)
		}
	})
	t.Run("away at a refresh", func(t *testing.T) {
		for status, code := range map[int]string{503: "temporarily_unavailable", 400: "server_error"} {
			w := handingOn(t, func(w *world) { w.guarded("memory") }, label...)
			w.idp.Be(kind())
			a := w.register(w.wiki.PublicURL, nil)
			r := a.login()
			last := w.idp.AccessToken()
			b := kind()
			b.ExchangeStatus, b.ExchangeError = status, "invalid_target"
			w.idp.Be(b)
			w.clock.Add(50 * time.Minute)
			r = a.token(a.refreshment(r.text("refresh_token")))
			if got, _ := w.upstreamToken(t, r, w.hopKey); got != last {
				t.Errorf("the MCP server gets %q, not the last one", got)
			}
			w.clock.Add(10 * time.Minute)
			a.token(a.refreshment(r.text("refresh_token"))).wants(t, 500+status%100, code)
		}
	})
	t.Run("refused at a refresh", func(t *testing.T) {
		w := handingOn(t, func(w *world) { w.guarded("memory") }, label...)
		w.idp.Be(kind())
		a := w.register(w.wiki.PublicURL, nil)
		r := a.login()
		b := kind()
		b.ExchangeStatus, b.ExchangeError = 400, "access_denied"
		w.idp.Be(b)
		w.clock.Add(50 * time.Minute)
		a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant")
		a.token(a.refreshment(r.text("refresh_token"))).wants(t, 400, "invalid_grant")
	})
}

// A machine, a workload, a bearer key and a person of an assertion are nobody at the provider.
func TestUpstreamTokenOfWhoDidNotLogInThere(t *testing.T) {
	w := handingOn(t, func(w *world) { w.wiki.EnterpriseIssuers = []string{w.idp.Issuer} })
	claim := func(token string) any {
		return w.verifiedToken(w.wiki.PublicURL, token, w.clock.Now())["upstream_token"]
	}
	machine := w.machine(issuer.Machine{Subject: "ci-bot", Scope: "mcp:read mcp:write"}, "client_secret_basic", nil)
	if got := claim(machine.token(clientCredentials).wants(t, 200, "").text("access_token")); got != "" {
		t.Errorf("a machine's upstream_token is %v", got)
	}
	key, err := issuer.CreateKey(newRing(t, masterOne), w.id(w.wiki), issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write"}, 24*time.Hour, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := claim(w.hop("/hop/token", url.Values{"key": {key.Key}}).wants(t, 200, "").text("access_token")); got != "" {
		t.Errorf("a bearer key's upstream_token is %v", got)
	}
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_basic"})
	assertion := w.idp.Assertion(w.wiki.PublicURL, a.id, map[string]any{"resource": w.wiki.PublicURL, "scope": "mcp:read mcp:write"}, nil)
	r := a.token(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}).wants(t, 200, "")
	if got := claim(r.text("access_token")); got != "" {
		t.Errorf("upstream_token of a person of an assertion is %v", got)
	}
}

// The MCP server's assertion is made from an access token, and has nothing of the provider's in it.
func TestUpstreamTokenIsNotInTheAssertionForTheMCPServer(t *testing.T) {
	w := handingOn(t, nil)
	a := w.register(w.wiki.PublicURL, nil)
	assertion := w.hop("/hop/assertion", url.Values{"access_token": {a.login().text("access_token")}}).wants(t, 200, "").text("assertion")
	var claims map[string]any
	decodePart(t, strings.Split(assertion, ".")[1], &claims)
	if claims["sub"] != "person-1" || claims["upstream_token"] != nil {
		t.Errorf("claims %v", claims)
	}
}

func TestUpstreamTokenIsShownToNoOperator(t *testing.T) {
	w := handingOn(t, nil)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	c := issuer.Config{Ring: newRing(t, masterOne), RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour, RefreshIdleTTL: idle}
	i, err := c.Inspect(sealing.KindRefresh, issuer.Beside{ClientID: a.id, Tenant: sealing.Tenant{
		PublicURL: w.wiki.PublicURL, Resource: w.wiki.Resource, Audience: w.wiki.Audience, UpstreamIssuer: w.wiki.ProviderIssuer, UpstreamClientID: w.wiki.ClientID,
	}}, token)
	if err != nil {
		t.Fatal(err)
	}
	shown := false
	for _, f := range i.Facts {
		if f.Name == "provider's access token" {
			shown = f.Value == fmt.Sprintf("%d characters", len(w.idp.AccessToken())) && strings.Contains(f.Meaning, "until 20")
		}
	}
	if text := fmt.Sprint(i); !shown || strings.Contains(text, w.idp.AccessToken()[:12]) {
		t.Errorf("shown: %v: %s", shown, text)
	}
}

// Without the label the payloads of a login are what they were, to the member.
func TestUpstreamTokenIsKeptNowhereWithoutTheLabel(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	r := a.login()
	claims := w.verifiedToken(w.wiki.PublicURL, r.text("access_token"), w.clock.Now())
	if _, there := claims["upstream_token"]; there {
		t.Errorf("claims %v", maps.Clone(claims))
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.text("refresh_token"), "mbr1_"))
	if err != nil {
		t.Fatal(err)
	}
	with := handingOn(t, nil)
	b := with.register(with.wiki.PublicURL, nil)
	more, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(b.login().text("refresh_token"), "mbr1_"))
	if err != nil {
		t.Fatal(err)
	}
	if grown := len(more) - len(raw); grown < len(with.idp.AccessToken())*3/4 {
		t.Errorf("with the label a refresh token has %d bytes more", grown)
	}
}

// The labels may change while a person reads the page, is at the provider, or waits for the client.
// Who was not told what the server may do there now has not allowed it. What was told and is not
// done keeps nobody out.
func TestUpstreamTokenIsNotForWhoWasToldSomethingElse(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now []string
		more        string // of the label scopes, now
		good        bool
	}{
		{"nothing has changed", []string{"scopes=drive:read"}, []string{"scopes=drive:read"}, "", true},
		{"the label is new", nil, []string{"scopes="}, "", false},
		{"more scopes", []string{"scopes=drive:read"}, []string{"scopes=drive:read drive:write"}, "", false},
		{"more scopes of the login", []string{"scopes=drive:read"}, []string{"scopes=drive:read"}, "drive:write", false},
		{"another audience", []string{"scopes=drive:read", "exchange=urn:other"}, []string{"scopes=drive:read", "exchange=urn:api"}, "", false},
		{"the label is gone", []string{"scopes=drive:read"}, nil, "", true},
	} {
		for _, exchange := range []string{"token", "callback"} {
			for _, stage := range []string{"page", "provider", "code"} {
				t.Run(c.name+" "+exchange+" "+stage, func(t *testing.T) {
					w := newWorld(t, nil, func(w *world) {
						w.wiki.UpstreamToken, w.wiki.Exchange = c.before, exchange
						w.guarded("memory")
					})
					audience := "urn:api"
					if stage == "code" && exchange == "callback" && len(c.before) > 1 {
						audience = "urn:other" // it is asked before the label changes
					}
					w.idp.Be(issuertest.Behaviour{Exchange: audience})
					a, b := w.register(w.wiki.PublicURL, nil), issuertest.NewBrowser(t, w.net)
					change := func(at string) {
						if at == stage {
							w.relabelFor(b, func(l *labels) {
								l.UpstreamToken = c.now
								if c.more != "" {
									l.Scopes = append(slices.Clone(l.Scopes), c.more)
								}
							})
						}
					}
					p := b.Get(a.authorizeURL())
					change("page")
					p = b.Decide(p, "allow")
					if stage == "page" && !c.good {
						w.tellsToBeginAgain(p)
						return
					}
					at := b.Upstream(p)
					change("provider")
					p = b.Get(at)
					if stage == "provider" && !c.good {
						w.tellsToBeginAgain(p)
						return
					}
					code := b.Follow(p).Query().Get("code")
					change("code")
					r := a.token(a.redemption(code))
					if !c.good {
						r.wants(t, 400, "invalid_grant")
						return
					}
					claims := w.verifiedToken(a.base, r.wants(t, 200, "").text("access_token"), w.clock.Now())
					if handed := claims["upstream_token"] != nil; handed != (c.now != nil) {
						t.Errorf("claims %v", claims)
					}
				})
			}
		}
	}
}

// tellsToBeginAgain wants a page that leads nowhere.
func (w *world) tellsToBeginAgain(p *issuertest.Page) {
	w.t.Helper()
	if p.Status != 400 || p.Next() != "" || !strings.Contains(p.Body, "is no longer valid") {
		w.t.Errorf("status %d leads to %q: %s", p.Status, p.Next(), p.Body)
	}
}
