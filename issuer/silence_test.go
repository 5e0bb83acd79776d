package issuer_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// mute is a transport to a provider on which some paths are not answered: time goes by, and then
// the caller gives up.
type mute struct {
	next  http.RoundTripper
	clock *issuertest.Clock

	mu    sync.Mutex // guards the rest for one request
	paths string     // that are not answered
	after time.Duration
	err   error
	asked []string // the paths of all requests
}

func (m *mute) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	m.asked = append(m.asked, r.URL.Path)
	silent, after, err := m.paths != "" && strings.Contains(m.paths, r.URL.Path), m.after, m.err
	m.mu.Unlock()
	if !silent {
		return m.next.RoundTrip(r)
	}
	m.clock.Add(after)
	return nil, err
}

// is makes paths silent, and forgets what was asked.
func (m *mute) is(paths string, after time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paths, m.after, m.err, m.asked = paths, after, err, nil
}

func (m *mute) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.asked)
}

const everything = "/token /keys /userinfo /.well-known/openid-configuration"

// newMuteWorld builds two tenants at one provider, and one at another.
func newMuteWorld(t *testing.T) (w *world, m *mute, apps []*app) {
	other := issuertest.NewProvider(t, &issuertest.Options{})
	w = newWorld(t, nil, func(w *world) {
		m = &mute{next: w.idp.Transport, clock: w.clock}
		w.config = func(c *issuer.Config) { c.Transport = m }
		world, third := w.tenant("https://mcp.localhost/world"), w.tenant("https://mcp.localhost/third")
		world.ClientSecret = "upstream-secret-of-the-bouncer"
		third.ProviderIssuer, third.ClientID, third.ClientSecret = other.Issuer, other.ClientID, other.Secret
		w.serve(world)
		w.serve(third)
	})
	for _, base := range []string{"https://mcp.localhost/wiki", "https://mcp.localhost/world", "https://mcp.localhost/third"} {
		apps = append(apps, w.register(base, nil))
	}
	return w, m, apps
}

// The first request waits in vain for all others: for some seconds no other request waits, at any
// tenant of that provider, and nobody is logged out.
func TestSilenceOfAProviderIsWaitedForOnce(t *testing.T) {
	w, m, apps := newMuteWorld(t)
	wiki, other, third := apps[0], apps[1], apps[2]
	tokens := []string{wiki.login().text("refresh_token"), other.login().text("refresh_token"), third.login().text("refresh_token")}
	code := wiki.code()
	w.clock.Add(time.Hour)
	code2 := other.code()
	m.is(everything, 8*time.Second, context.DeadlineExceeded)
	refresh := func(a *app, token string, seconds float64) string {
		t.Helper()
		got := a.token(a.refreshment(token)).wants(t, 200, "")
		if got.JSON["expires_in"] != seconds {
			t.Errorf("a token of %v seconds, want %v", got.JSON["expires_in"], seconds)
		}
		return got.text("refresh_token")
	}
	refresh(wiki, tokens[0], 420)
	if n := m.count(); n == 0 {
		t.Fatal("the provider was not asked")
	}
	before, asked := w.clock.Now(), m.count()
	for range 5 {
		tokens[0] = refresh(wiki, tokens[0], 420)
		tokens[1] = refresh(other, tokens[1], 420)
	}
	if got := other.token(other.redemption(code2)).wants(t, 503, "temporarily_unavailable"); got.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", got.Header.Get("Retry-After"))
	}
	wiki.token(wiki.redemption(code))
	if n := m.count(); n != asked || !w.clock.Now().Equal(before) {
		t.Errorf("%d requests waited %v after the first", n-asked, w.clock.Now().Sub(before))
	}
	if w.logged("the provider does not answer, so nobody waits") != 1 || w.logged("so nobody waits", `: context deadline exceeded"`) != 1 {
		t.Errorf("the log: %s", w.log)
	}
	m.is("", 0, nil)
	refresh(third, tokens[2], 3600) // another provider
	tokens[0] = refresh(wiki, tokens[0], 420)

	// After the pause one request asks. It waits in vain, and again no other does.
	w.clock.Add(5 * time.Second)
	m.is(everything, 8*time.Second, context.DeadlineExceeded)
	tokens[0] = refresh(wiki, tokens[0], 420)
	if m.count() == 0 {
		t.Error("nobody asks after the pause")
	}
	asked = m.count()
	tokens[1] = refresh(other, tokens[1], 420)
	if m.count() != asked {
		t.Error("a second one waits after the pause")
	}

	// When the provider is well again, all goes on as before.
	w.clock.Add(5 * time.Second)
	m.is("", 0, nil)
	refresh(wiki, tokens[0], 3600)
	refresh(other, tokens[1], 3600)
	other.token(other.redemption(code2)).wants(t, 200, "")
}

// A failure that is not a silence of the provider delays nobody.
func TestSilenceIsNotAnyFailure(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails func(*world, *mute, *app)
		pause bool
	}{
		{"a time-out at a refresh", func(w *world, m *mute, _ *app) { m.is("/token", 8*time.Second, context.DeadlineExceeded) }, true},
		{"a connection that breaks after a while", func(w *world, m *mute, _ *app) { m.is("/token", 3*time.Second, errors.New("connection reset by peer")) }, true},
		{"a refused connection", func(w *world, m *mute, _ *app) { m.is("/token", 0, errors.New("connection refused")) }, false},
		{"a tenant's bad secret", func(w *world, _ *mute, _ *app) {
			w.idp.Be(issuertest.Behaviour{RefreshStatus: 401, RefreshError: "invalid_client"})
		}, false},
		{"a provider that is busy", func(w *world, _ *mute, _ *app) {
			w.idp.Be(issuertest.Behaviour{RefreshStatus: 503, RefreshError: "temporarily_unavailable"})
		}, false},
		{"a request that had no time left", func(w *world, m *mute, _ *app) { m.is("/token", time.Second, context.DeadlineExceeded) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, m, apps := newMuteWorld(t)
			first, second := apps[0].login().text("refresh_token"), apps[1].login().text("refresh_token")
			w.clock.Add(time.Hour)
			c.fails(w, m, apps[0])
			apps[0].token(apps[0].refreshment(first)).wants(t, 200, "")
			m.is("", 0, nil)
			w.idp.Be(issuertest.Behaviour{})
			got := apps[1].token(apps[1].refreshment(second)).wants(t, 200, "")
			if paused := got.JSON["expires_in"] == 420.0; paused != c.pause {
				t.Errorf("the next one gets %v seconds", got.JSON["expires_in"])
			}
		})
	}
}

// A firewall on the way may swallow a stranger's code because of its text. No other request must
// wait for that. A provider counts as silent only if it does not answer a plain question either.
func TestSilenceIsNotMadeByAStrangersCode(t *testing.T) {
	for _, c := range []struct {
		name, silent string
		pause        bool
	}{
		{"only the stranger's request is not answered", "/token", false},
		{"the provider does not answer at all", everything, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, m, apps := newMuteWorld(t)
			stranger, other := apps[0], apps[1]
			token := other.login().text("refresh_token")
			w.clock.Add(time.Hour)
			code := stranger.code()
			m.is(c.silent, 8*time.Second, context.DeadlineExceeded)
			stranger.token(stranger.redemption(code)).wants(t, 503, "temporarily_unavailable")
			m.is("", 0, nil)
			got := other.token(other.refreshment(token)).wants(t, 200, "")
			if paused := got.JSON["expires_in"] == 420.0; paused != c.pause {
				t.Errorf("another person's refresh gives %v seconds", got.JSON["expires_in"])
			}
		})
	}
}

// Claude Code (2.1) refreshes before each request while its access token has 300 seconds or less.
func TestShortTokensLiveLongerThanClientsRefreshAhead(t *testing.T) {
	w, m, apps := newMuteWorld(t)
	token := apps[0].login().text("refresh_token")
	w.clock.Add(time.Hour)
	m.is(everything, 8*time.Second, context.DeadlineExceeded)
	got := apps[0].token(apps[0].refreshment(token)).wants(t, 200, "")
	if life, _ := got.JSON["expires_in"].(float64); life < 360 {
		t.Errorf("a token of %v seconds", life)
	}
	claims := w.verifiedToken(apps[0].base, got.text("access_token"), w.clock.Now())
	if claims["exp"].(float64)-claims["iat"].(float64) != got.JSON["expires_in"] {
		t.Errorf("the token says %v to %v", claims["iat"], claims["exp"])
	}
}

// The operator is told when the program starts, whatever the platform.
func TestShortTokensAreWarnedOf(t *testing.T) {
	for life, warned := range map[time.Duration]bool{time.Minute: true, 5 * time.Minute: true, 5*time.Minute + time.Second: false, time.Hour: false} {
		log := &logBuffer{}
		_, err := issuer.New(issuer.Config{
			Ring: newRing(t, masterOne), Schedule: sealing.Schedule{Rotation: 24 * time.Hour, Overlap: 2 * time.Hour},
			AccessTokenTTL: life, RefreshTokenTTL: 24 * time.Hour, SessionTTL: 24 * time.Hour, Log: slog.New(slog.NewJSONHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "let BOUNCER_ACCESS_TOKEN_TTL be more than 5 minutes"); got != warned {
			t.Errorf("%v: warned %v; the log: %s", life, got, log)
		}
	}
}

// slow is a transport to a provider that thinks before it answers.
type slow struct {
	next  http.RoundTripper
	clock *issuertest.Clock
	takes time.Duration
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	s.clock.Add(s.takes)
	return s.next.RoundTrip(r)
}

func TestProviderThatIsSlowIsNamedOnceInTenMinutes(t *testing.T) {
	var s *slow
	w := newWorld(t, nil, func(w *world) {
		s = &slow{next: w.idp.Transport, clock: w.clock}
		w.config = func(c *issuer.Config) { c.Transport = s }
	})
	const warning = "the provider is slow: people wait for it at each login and refresh"
	a := w.register(w.wiki.PublicURL, nil)
	s.takes = 1999 * time.Millisecond
	a.login()
	if lines := linesOf(t, w.log.String(), warning); len(lines) != 0 {
		t.Fatalf("%v", lines)
	}
	if lines := linesOf(t, w.log.String(), "provider asked"); len(lines) != 3 || lines[2]["milliseconds"] != 1999.0 || lines[2]["path"] != "/token" || lines[2]["provider"] != w.idp.Issuer || lines[2]["answered"] != true {
		t.Fatalf("%v", lines)
	}
	s.takes = 2 * time.Second
	a.login()
	a.login()
	lines := linesOf(t, w.log.String(), warning)
	if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["milliseconds"] != 2000.0 || lines[0]["provider"] != w.idp.Issuer {
		t.Fatalf("%v", lines)
	}
	w.clock.Add(10 * time.Minute)
	a.login()
	if lines := linesOf(t, w.log.String(), warning); len(lines) != 2 {
		t.Errorf("%v", lines)
	}
}

// What a login needs of the provider is read while the person signs in there, and not when the
// client waits for its token. A process that is frozen meanwhile would not get it.
func TestKeysAreReadAheadOfALogin(t *testing.T) {
	for _, lambda := range []bool{false, true} {
		w := newWorld(t, nil, func(w *world) { w.config = func(c *issuer.Config) { c.OnLambda = lambda } })
		read := func() (n int) {
			for _, line := range linesOf(t, w.log.String(), "provider asked") {
				if line["path"] == "/keys" {
					n++
				}
			}
			return n
		}
		ahead := 1
		if lambda {
			ahead = 0
		}
		a := w.register(w.wiki.PublicURL, nil)
		w.idp.Be(issuertest.Behaviour{KeysStatus: 500})
		for range 3 { // a stranger begins logins while the keys cannot be read
			a.begun(issuertest.NewBrowser(t, w.net))
		}
		if n := read(); n != ahead {
			t.Errorf("lambda %v: read %d times at once", lambda, n)
		}
		w.clock.Add(10 * time.Second)
		w.idp.Be(issuertest.Behaviour{})
		code := a.code()
		if n := read(); n != 2*ahead {
			t.Errorf("lambda %v: read %d times before the code is redeemed", lambda, n)
		}
		a.token(a.redemption(code)).wants(t, 200, "")
		a.login()
		if n := read(); n != ahead+1 {
			t.Errorf("lambda %v: read %d times in all", lambda, n)
		}
	}
}

// When the person comes back, a connection to the provider is opened for the client's token
// request: that waits for its own round trip and for no other. Where one is open, where the token
// request will not come, and where the process may be frozen, nothing is asked.
func TestTokenRequestWaitsForOneRoundTrip(t *testing.T) {
	away := 5 * time.Second // longer than an idle connection is kept
	for name, c := range map[string]struct {
		away     time.Duration
		exchange string
		lambda   bool
		keys     string // host of the keys
		back     string // what is asked and dialed when the person comes back,
		token    string // and for the token request
	}{
		"the connection has closed":    {away, "token", false, "127.0.0.1", "dial /keys", "/token"},
		"it is still open":             {time.Second, "token", false, "127.0.0.1", "", "/token"},
		"on Lambda":                    {away, "token", true, "127.0.0.1", "", "dial /token"},
		"the keys are at another host": {away, "token", false, "localhost", "", "dial /token"},
		"the code is redeemed here":    {away, "callback", false, "127.0.0.1", "dial /token", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var happened []string
			var open []net.Conn
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Exchange = c.exchange
				w.config = func(config *issuer.Config) {
					config.OnLambda = c.lambda
					transport := http.DefaultTransport.(*http.Transport).Clone()
					transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
						conn, err := new(net.Dialer).DialContext(ctx, network, address)
						mu.Lock()
						defer mu.Unlock()
						happened, open = append(happened, "dial"), append(open, conn)
						return conn, err
					}
					config.Transport = transport
				}
			})
			w.idp.Be(issuertest.Behaviour{Discovery: map[string]any{"jwks_uri": strings.Replace(w.idp.Issuer, "127.0.0.1", c.keys, 1) + "/keys"}})
			seenLines := 0
			since := func() string {
				mu.Lock()
				defer mu.Unlock()
				lines := linesOf(t, w.log.String(), "provider asked")
				for _, line := range lines[seenLines:] {
					happened = append(happened, line["path"].(string))
				}
				all := strings.Join(happened, " ")
				happened, seenLines = nil, len(lines)
				return all
			}
			a := w.register(w.wiki.PublicURL, nil)
			a.login() // keys are known from here on
			if first := since(); strings.Count(first, "/keys") != 1 {
				t.Errorf("the first login: %q", first)
			}
			b := issuertest.NewBrowser(t, w.net)
			back := a.begun(b)
			if w.clock.Add(c.away); c.away == away {
				mu.Lock()
				for _, conn := range open {
					conn.Close()
				}
				mu.Unlock()
			}
			since()
			code := a.wantsCode(t, seen(b.Get(back)))
			if got := since(); got != c.back {
				t.Errorf("when the person comes back: %q, want %q", got, c.back)
			}
			a.token(a.redemption(code)).wants(t, 200, "")
			if got := since(); got != c.token {
				t.Errorf("for the token request: %q, want %q", got, c.token)
			}
		})
	}
}

// The question that opens the connection is nobody's: where the provider does not answer it, and
// answers others, nobody is sent away.
func TestKeysThatHangStopNoLoginOnceTheyAreKnown(t *testing.T) {
	w, m, apps := newMuteWorld(t)
	apps[0].login()
	m.is("/keys", 8*time.Second, context.DeadlineExceeded)
	for range 3 {
		w.clock.Add(10 * time.Second)
		apps[0].login()
	}
	if hung := strings.Count(strings.Join(m.asked, " "), "/keys"); hung != 3 {
		t.Errorf("the keys were asked for %d times", hung)
	}
}
