package issuer_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

func TestWholeLogin(t *testing.T) {
	for _, c := range []struct {
		name     string
		provider *issuertest.Options
		be       issuertest.Behaviour
		base     string
		exchange string
		members  map[string]any
	}{
		{"a public client", nil, issuertest.Behaviour{}, "", "", nil},
		{"a confidential client that sends its secret in the header", nil, issuertest.Behaviour{}, "", "", map[string]any{"redirect_uris": []string{callback}}},
		{"a confidential client that sends its secret in the body", nil, issuertest.Behaviour{}, "", "", map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_post"}},
		{"the upstream code redeemed at the callback", nil, issuertest.Behaviour{}, "", "callback", nil},
		{"a server that owns its host", nil, issuertest.Behaviour{}, "https://wiki.example", "", nil},
		{"a developer's server without TLS", nil, issuertest.Behaviour{}, "http://localhost:8080/wiki", "", nil},
		{"a provider with TLS", &issuertest.Options{TLS: true}, issuertest.Behaviour{}, "", "", nil},
		{"a provider at which the sidecar is a public client", &issuertest.Options{Public: true}, issuertest.Behaviour{AcceptOnly: "post"}, "", "", nil},
		{"a provider that wants the secret in the body", nil, issuertest.Behaviour{AcceptOnly: "post", Discovery: map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}}, "", "", nil},
		{"a provider that wants the secret in the header", nil, issuertest.Behaviour{AcceptOnly: "basic"}, "", "", nil},
		{"a provider that sends iss", nil, issuertest.Behaviour{Iss: new(string)}, "", "", nil},
		{"a provider with codes as long as Entra's", nil, issuertest.Behaviour{CodeLength: 2400}, "", "", nil},
		{"a provider with long refresh tokens", nil, issuertest.Behaviour{RefreshLength: 2000}, "", "", nil},
		{"a provider that gives no refresh tokens", nil, issuertest.Behaviour{Refresh: "none"}, "", "", nil},
		{"a provider with several audiences and azp", nil, issuertest.Behaviour{Claims: func(m map[string]any) { m["aud"] = []string{"bouncer", "other"}; m["azp"] = "bouncer" }}, "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.provider, func(w *world) {
				if c.base != "" {
					w.wiki = w.tenant(c.base)
				}
				if c.exchange != "" {
					w.wiki.Exchange = c.exchange
				}
				if c.be.Iss != nil {
					c.be.Iss = &w.idp.Issuer
					c.be.Discovery = map[string]any{"authorization_response_iss_parameter_supported": true}
				}
				w.idp.Be(c.be)
			})
			a := w.register(w.wiki.PublicURL, c.members)
			first := a.login("resource", w.wiki.PublicURL+"/mcp", "scope", "mcp:read email")
			w.checkTokens(a, first, w.wiki.PublicURL+"/mcp", "mcp:read email")
			if n := w.idp.Posts(); n != 1 {
				t.Errorf("the provider was asked %d times, want 1", n)
			}
			second := a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
			w.checkTokens(a, second, w.wiki.PublicURL+"/mcp", "mcp:read email")
			if n := w.idp.Posts(); n != 1 {
				t.Errorf("the provider was asked %d times after a refresh, want 1", n)
			}
			if first.text("access_token") == second.text("access_token") {
				t.Error("the refresh gave the same access token")
			}
		})
	}
}

// checkTokens checks a token response (RFC 6749 §5.1) and what is in its access token (RFC 9068
// §2.2).
func (w *world) checkTokens(a *app, r reply, resource, scope string) {
	w.t.Helper()
	if r.text("token_type") != "Bearer" || r.JSON["expires_in"] != 3600.0 || r.text("scope") != scope || !strings.HasPrefix(r.text("refresh_token"), "mbr1_") {
		w.t.Errorf("token response %s", r.Body)
	}
	if r.Header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("Cache-Control %q", r.Header.Get("Cache-Control"))
	}
	claims := w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())
	jti, _ := claims["jti"].(string)
	sid, _ := claims["sid"].(string)
	born, _ := claims["auth_time"].(float64)
	want := map[string]any{
		"iss": a.base, "sub": "person-1", "aud": []any{"urn:" + a.base, resource}, "client_id": a.id, "scope": scope, "jti": jti,
		"iat": claims["nbf"], "nbf": claims["nbf"], "exp": claims["nbf"].(float64) + 3600,
		"sid": sid, "auth_time": born,
	}
	if !reflect.DeepEqual(claims, want) || len(jti) != 22 || len(sid) != 22 || born == 0 || born > claims["nbf"].(float64) {
		w.t.Errorf("claims %v, want %v", claims, want)
	}
}

// Two replicas share nothing but the master secret. The requests alternate between them, and each
// request meets a process that has just started.
func TestReplicasRememberNothing(t *testing.T) {
	const minute, hour = time.Minute, time.Hour
	midnight := issuertest.Start.Truncate(24 * hour).Add(24 * hour)
	for _, c := range []struct {
		name     string
		skews    []time.Duration
		begin    time.Time
		atTurn   string // the step at which the epoch turns
		exchange string
	}{
		{"two replicas", []time.Duration{0, 0}, issuertest.Start, "", "token"},
		{"two replicas, redeeming at the callback", []time.Duration{0, 0}, issuertest.Start, "", "callback"},
		{"three replicas", []time.Duration{0, 0, 0}, issuertest.Start, "", "token"},
		{"the second is five minutes behind", []time.Duration{0, -5 * minute}, issuertest.Start, "", "token"},
		{"the second is five minutes ahead", []time.Duration{0, 5 * minute}, issuertest.Start, "", "token"},
		{"the first is five minutes behind", []time.Duration{-5 * minute, 0}, issuertest.Start, "", "token"},
		{"the epoch turns between authorize and token", []time.Duration{0, 0}, midnight.Add(-20 * time.Second), "token", "token"},
		{"the epoch turns between authorize and token, the second behind", []time.Duration{0, -5 * minute}, midnight.Add(-20 * time.Second), "token", "token"},
		{"the epoch turns between authorize and token, the second ahead", []time.Duration{0, 5 * minute}, midnight.Add(-20 * time.Second), "token", "token"},
		{"the epoch has turned for the second only", []time.Duration{0, 5 * minute}, midnight.Add(-4 * minute), "", "token"},
		{"the epoch has turned for the first only", []time.Duration{5 * minute, 0}, midnight.Add(-4 * minute), "", "token"},
		{"the epoch turns between token and use", []time.Duration{0, 0}, midnight.Add(-20 * time.Second), "use", "token"},
		{"the epoch turns between token and use, the second behind", []time.Duration{0, -5 * minute}, midnight.Add(-20 * time.Second), "use", "token"},
		{"the epoch turns between token and use, the second ahead", []time.Duration{0, 5 * minute}, midnight.Add(-20 * time.Second), "use", "token"},
	} {
		for _, odd := range []bool{false, true} { // who is asked first
			t.Run(fmt.Sprintf("%s, odd=%v", c.name, odd), func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.skews, w.restart, w.wiki.Exchange = c.skews, true, c.exchange
					w.clock.Set(c.begin)
					if odd {
						w.turn = 1
					}
				})
				// as in Keycloak's master realm
				w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { m["exp"] = w.clock.Now().Add(minute).Unix() }})
				a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}})
				code := a.code()
				if c.atTurn == "token" {
					w.clock.Add(40 * time.Second)
				}
				first := a.token(a.redemption(code)).wants(t, 200, "")
				if c.atTurn == "use" {
					w.clock.Add(59 * minute)
				}
				for range w.skews { // each replica's keys verify
					w.verifiedToken(a.base, first.text("access_token"), w.clock.Now())
				}
				w.clock.Add(3 * hour)
				second := a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
				for range w.skews {
					w.verifiedToken(a.base, second.text("access_token"), w.clock.Now())
				}
				if n := w.idp.Posts(); n != 2 {
					t.Errorf("the provider was asked %d times, want one redemption and one check", n)
				}
			})
		}
	}
}

// A new master is first accepted everywhere, then promoted; the old one stays in the ring.
func TestMasterRotatesInTheMiddleOfALogin(t *testing.T) {
	const accepting, promoted = masterOne + "," + masterTwo, masterTwo + "," + masterOne
	for _, c := range []struct {
		name string
		// the masters of the two replicas: at registration, at login, at redemption, at refresh
		masters [][]string
	}{
		{"accepted, then promoted at once", [][]string{{masterOne}, {accepting}, {promoted}, {promoted}}},
		{"promoted on one replica before the other", [][]string{{masterOne}, {accepting}, {promoted, accepting}, {promoted}}},
		{"promoted between consent and callback on one", [][]string{{accepting}, {accepting, promoted}, {accepting, promoted}, {promoted}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.restart, w.skews = true, []time.Duration{0, 0} })
			w.masters = c.masters[0]
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}})
			w.masters = c.masters[1]
			code := a.code()
			w.masters = c.masters[2]
			first := a.token(a.redemption(code)).wants(t, 200, "")
			w.verifiedToken(a.base, first.text("access_token"), w.clock.Now())
			w.verifiedToken(a.base, first.text("access_token"), w.clock.Now())
			w.masters = c.masters[3]
			w.verifiedToken(a.base, first.text("access_token"), w.clock.Now())
			second := a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")

			// The old master is removed. Values that the new one sealed still open; the old
			// client_id does not.
			w.masters = []string{masterTwo}
			w.hopKey = newRing(t, masterTwo).HopKey()
			w.net = &issuertest.Internet{}
			w.serve(w.wiki)
			w.verifiedToken(a.base, second.text("access_token"), w.clock.Now())
			a.token(a.refreshment(second.text("refresh_token"))).wants(t, 401, "invalid_client")
			b := w.register(w.wiki.PublicURL, nil)
			b.login()
		})
	}
}

func TestReplicaWithAnotherMasterKnowsNothing(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login()
	w.masters, w.hopKey, w.replicas, w.net = []string{masterTwo}, newRing(t, masterTwo).HopKey(), nil, &issuertest.Internet{}
	w.serve(w.wiki)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 401, "invalid_client")
	if p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL()); p.Status != 400 || p.Next() != "" {
		t.Errorf("status %d, leads to %q", p.Status, p.Next())
	}
}

// Every value of /wiki is invalid at /world, though provider, upstream client and master are the
// same.
func TestTenantsShareNothing(t *testing.T) {
	w := newWorld(t, nil, nil)
	world := w.tenant("https://mcp.localhost/world")
	w.serve(world)
	a, b := w.register(w.wiki.PublicURL, nil), w.register(world.PublicURL, nil)
	tokens := a.login()
	there := *a // the client of /wiki, talking to /world
	there.base = world.PublicURL

	page := func(t *testing.T, p *issuertest.Page, status int) {
		t.Helper()
		if p.Status != status || p.Next() != "" {
			t.Errorf("status %d, leads to %q, want a page with %d", p.Status, p.Next(), status)
		}
	}
	t.Run("client_id at authorize", func(t *testing.T) {
		page(t, issuertest.NewBrowser(t, w.net).Get(there.authorizeURL()), 400)
	})
	t.Run("client_id at token", func(t *testing.T) {
		there.token(a.redemption(a.code())).wants(t, 401, "invalid_client")
	})
	t.Run("code", func(t *testing.T) {
		b.verifier = a.verifier
		b.token(b.redemption(a.code())).wants(t, 400, "invalid_grant")
	})
	t.Run("refresh token", func(t *testing.T) {
		b.token(b.refreshment(tokens.text("refresh_token"))).wants(t, 400, "invalid_grant")
	})
	t.Run("consent value", func(t *testing.T) {
		browser := issuertest.NewBrowser(t, w.net)
		r := browser.DecisionRequest(browser.Get(a.authorizeURL()), "allow")
		r.URL.Path = "/world/oauth/consent"
		page(t, browser.Do(r), 400)
	})
	t.Run("flow cookie", func(t *testing.T) {
		browser := issuertest.NewBrowser(t, w.net)
		back := browser.Upstream(browser.Decide(browser.Get(a.authorizeURL()), "allow"))
		page(t, browser.Get(strings.Replace(back, "/wiki/", "/world/", 1)), 400)
	})
	t.Run("access token", func(t *testing.T) {
		for _, key := range w.get(world.PublicURL + "/oauth/jwks.json").JSON["keys"].([]any) {
			kid := key.(map[string]any)["kid"].(string)
			if strings.Contains(w.get(w.wiki.PublicURL+"/oauth/jwks.json").Body, kid) {
				t.Errorf("key %s is published by both", kid)
			}
		}
	})
	t.Run("client secret", func(t *testing.T) {
		confidential := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}})
		confidential.base = world.PublicURL
		confidential.token(confidential.refreshment("x")).wants(t, 401, "invalid_client")
	})
}

// A tenant that changes in one fact is another tenant: everything issued before ends.
func TestTenantOfAnotherGeneration(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login()
	w.wiki.Generation++
	w.net = &issuertest.Internet{}
	w.serve(w.wiki)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 401, "invalid_client")
}

func TestKindsDoNotPassForOneAnother(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	browser := issuertest.NewBrowser(t, w.net)
	consent := browser.Get(a.authorizeURL())
	_, form, _ := consent.Form()
	browser.Decide(consent, "allow")
	var flow string
	for _, c := range browser.Cookies(w.wiki.PublicURL) {
		if name, v, _ := strings.Cut(c, "="); strings.Contains(name, "flow") {
			flow = v
		}
	}
	code := a.code()
	tokens := a.login()
	secret := provider.SealSecret(newRing(t, masterOne), w.wiki.ProviderIssuer, w.wiki.ClientID, "s", w.clock.Now())
	values := map[string]string{
		"client": a.id, "consent": form.Get("request"), "flow": flow, "code": code, "refresh": tokens.text("refresh_token"),
		"secret": secret, "jwt": tokens.text("access_token"),
	}
	// with the prefix that the place expects
	respell := func(value string, kind sealing.Kind) string {
		if len(value) < 5 {
			return value
		}
		return "mb" + string(rune(kind)) + "1_" + value[5:]
	}
	for name, value := range values {
		if value == "" {
			t.Fatalf("no %s value", name)
		}
		for _, v := range []string{value, respell(value, sealing.KindClient)} {
			if name != "client" {
				other := *a
				other.id = v
				r := other.tokenRequest(a.redemption(code))
				if got := w.do(r); got.Status != 401 || got.text("error") != "invalid_client" {
					t.Errorf("%s as client_id: %d %s", name, got.Status, got.Body)
				}
				if p := issuertest.NewBrowser(t, w.net).Get(other.authorizeURL()); p.Status != 400 || p.Next() != "" {
					t.Errorf("%s as client_id at authorize: %d %q", name, p.Status, p.Next())
				}
			}
		}
		for _, v := range []string{value, respell(value, sealing.KindCode)} {
			if name != "code" {
				a.token(a.redemption(v)).wants(t, 400, "invalid_grant")
			}
		}
		for _, v := range []string{value, respell(value, sealing.KindRefresh)} {
			if name != "refresh" {
				a.token(a.refreshment(v)).wants(t, 400, "invalid_grant")
			}
		}
		for _, v := range []string{value, respell(value, sealing.KindConsent)} {
			if name != "consent" {
				b := issuertest.NewBrowser(t, w.net)
				p := b.Get(a.authorizeURL())
				r := b.DecisionRequest(p, "allow")
				_, fields, _ := p.Form()
				fields.Set("request", v)
				fields.Set("decision", "allow")
				changed := newRequest(t, "POST", r.URL.String(), formType, fields.Encode())
				changed.Header = r.Header
				if got := b.Do(changed); got.Status != 400 || got.Next() != "" {
					t.Errorf("%s as consent: %d %q", name, got.Status, got.Next())
				}
			}
		}
		for _, v := range []string{value, respell(value, sealing.KindFlow)} {
			if name != "flow" {
				r := newRequest(t, "GET", w.wiki.PublicURL+"/oauth/callback?code=x&state=AAAAAAAAAAAAAAAAAAAAAA", "", "")
				r.AddCookie(&http.Cookie{Name: "__Host-mcpb-flow-AAAAAA", Value: v})
				if got := w.do(r); got.Status != 400 || got.Header.Get("Location") != "" {
					t.Errorf("%s as flow: %d", name, got.Status)
				}
			}
		}
	}
	a.token(a.redemption(code)).wants(t, 200, "") // none of it used the code up
	if n := w.idp.PostsOf(w.idp.LastPost().Get("code")); n != 1 {
		t.Errorf("%d posts of the code, want 1", n)
	}
}
