package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// grant is one of each kind of thing that a tenant hands out, all of them good at that tenant.
type grant struct {
	client  *rig.OAuthClient
	flow    *rig.Flow // of code
	code    string    // not redeemed
	refresh string
	jwt     string
	browser *rig.Browser // stands before the callback, which is callback
	back    *url.URL
	cookie  string // the flow cookie's value
}

func newGrant(t *testing.T, tn *rig.Tenant) *grant {
	t.Helper()
	g := &grant{client: tn.Client()}
	tokens := g.client.Tokens(tn.Browser())
	g.jwt, g.refresh = tokens.Member("access_token"), tokens.Member("refresh_token")
	if g.refresh == "" {
		t.Fatalf("no refresh token at %s: %s", tn.Name, tokens)
	}
	g.flow = g.client.Begin()
	g.code = g.client.Login(tn.Browser(), g.flow)

	g.browser = tn.Browser()
	var err error
	g.back, err = g.browser.Visit(t.Context(), g.client.Begin().URL, g.client.Public+"/oauth/callback")
	if err != nil {
		t.Fatalf("login up to the callback at %s: %v", tn.Name, err)
	}
	for _, c := range g.browser.Client.Jar.Cookies(g.back) {
		if strings.Contains(c.Name, "flow") {
			g.cookie = c.Value
		}
	}
	if g.cookie == "" {
		t.Fatalf("no flow cookie at %s, only %v", tn.Name, g.browser.Client.Jar.Cookies(g.back))
	}
	return g
}

func TestTenantsOpenNothingOfOneAnother(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	for _, pair := range [][2]*rig.Tenant{{w.Wiki, w.World}, {w.World, w.Wiki}} {
		from, to := newGrant(t, pair[0]), newGrant(t, pair[1])
		posts := len(pair[1].Provider.Posts("authorization_code"))
		t.Run(pair[0].Name+" at "+pair[1].Name, func(t *testing.T) {
			t.Run("code", func(t *testing.T) {
				wantOAuthError(t, "with the other's client", to.client.Redeem(from.code, from.flow), "invalid_grant")
			})
			t.Run("refresh token", func(t *testing.T) {
				wantOAuthError(t, "with the other's client", to.client.Refresh(from.refresh), "invalid_grant")
			})
			t.Run("client_id", func(t *testing.T) {
				stranger := *to.client
				stranger.ClientID = from.client.ClientID
				wantErrorPage(t, pair[1].Browser(), stranger.Begin().URL)
				wantInvalidClient(t, "code", stranger.Redeem(from.code, from.flow))
				wantInvalidClient(t, "refresh token", stranger.Refresh(from.refresh))
			})
			t.Run("flow cookie", func(t *testing.T) {
				// Everything of the one login, at the other's callback.
				at := to.client.Public + "/oauth/callback?"
				wantErrorPage(t, from.browser, at+from.back.RawQuery)
				// The one's cookie under the other's name, with the other's own state and code.
				forged := pair[1].Browser()
				var cookies []*http.Cookie
				for _, c := range to.browser.Client.Jar.Cookies(to.back) {
					cookies = append(cookies, &http.Cookie{Name: c.Name, Value: from.cookie, Path: "/"})
				}
				forged.Client.Jar.SetCookies(to.back, cookies)
				wantErrorPage(t, forged, to.back.String())
			})
			t.Run("JWT", func(t *testing.T) { wantInvalidToken(t, to.client.Get("/anything", from.jwt)) })

			if got := len(pair[1].Provider.Posts("authorization_code")); got != posts {
				t.Errorf("the provider was asked to redeem %d codes of the other tenant", got-posts)
			}
		})
		t.Run("and all of it is good at "+pair[0].Name, func(t *testing.T) {
			if answer := from.client.Get("/anything", from.jwt); answer.Status != http.StatusOK {
				t.Errorf("JWT: %s", answer)
			}
			if answer := from.client.Redeem(from.code, from.flow); answer.Status != http.StatusOK {
				t.Errorf("code: %s", answer)
			}
			if answer := from.client.Refresh(from.refresh); answer.Status != http.StatusOK {
				t.Errorf("refresh token: %s", answer)
			}
			if back, err := from.browser.Visit(t.Context(), from.back.String(), from.client.Redirect); err != nil || back.Query().Get("code") == "" {
				t.Errorf("callback: %v %v", back, err)
			}
		})
	}
}

// One MCP server under two public URLs is two tenants.
func TestTokenOfAnotherHost(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	g := newGrant(t, w.Wiki)
	answer := g.client.Do(http.MethodGet, w.Wiki.PublicHTTPS()+"/anything", http.Header{"Authorization": {"Bearer " + g.jwt}}, nil)
	wantInvalidToken(t, answer)
	other := rig.NewOAuthClient(t, w.HTTP(), w.Wiki.PublicHTTPS())
	wantOAuthError(t, "refresh token", other.Refresh(g.refresh), "invalid_grant")
	wantOAuthError(t, "code", other.Redeem(g.code, g.flow), "invalid_grant")
}

func TestKindsDoNotOpenForOneAnother(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	g := newGrant(t, w.Wiki)
	kinds := map[string]string{
		"client_id": g.client.ClientID, "code": g.code, "refresh token": g.refresh, "JWT": g.jwt, "flow cookie": g.cookie,
	}
	places := map[string]func(t *testing.T, value string){
		"client_id": func(t *testing.T, value string) {
			stranger := *g.client
			stranger.ClientID = value
			wantErrorPage(t, w.Wiki.Browser(), stranger.Begin().URL)
			wantInvalidClient(t, "code", stranger.Redeem(g.code, g.flow))
		},
		"code": func(t *testing.T, value string) {
			wantOAuthError(t, "code", g.client.Redeem(value, g.flow), "invalid_grant")
		},
		"refresh token": func(t *testing.T, value string) {
			wantOAuthError(t, "refresh", g.client.Refresh(value), "invalid_grant")
		},
		"JWT": func(t *testing.T, value string) { wantInvalidToken(t, g.client.Get("/anything", value)) },
		"flow cookie": func(t *testing.T, value string) {
			forged := w.Wiki.Browser()
			for _, c := range g.browser.Client.Jar.Cookies(g.back) {
				forged.Client.Jar.SetCookies(g.back, []*http.Cookie{{Name: c.Name, Value: value, Path: "/"}})
			}
			wantErrorPage(t, forged, g.back.String())
		},
	}
	for kind, value := range kinds {
		for place, refused := range places {
			if kind != place {
				t.Run(kind+" as "+place, func(t *testing.T) { refused(t, value) })
			}
		}
	}
}

// The sidecar may stand in the open: without a hop header that the plugin made just now it answers
// /healthz and nothing else.
func TestSidecarAnswersOnlyThePlugin(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	w.Wiki.Client()
	captured := w.Front.Hops()[0]
	payload, err := rig.OpenHop(w.Keys.Hop, captured)
	if err != nil {
		t.Fatalf("the plugin's hop header is not as docs/hop.md says: %v", err)
	}
	var config map[string]any
	if err := json.Unmarshal(payload, &config); err != nil {
		t.Fatalf("the plugin's hop payload: %v", err)
	}
	if strings.Contains(string(payload), w.Wiki.Provider.ClientSecret) {
		t.Error("the hop header holds the client secret, though the label says env:NAME")
	}
	hop := func(key string, age time.Duration, payload string) string {
		t.Helper()
		h, err := rig.SealHop(key, time.Now().Add(-age), []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	with := func(change func(map[string]any)) string {
		changed := map[string]any{}
		for k, v := range config {
			changed[k] = v
		}
		change(changed)
		b, _ := json.Marshal(changed)
		return string(b)
	}
	good := string(payload)
	otherKey := rig.Keygen(t, w.Secrets).Hop

	paths := []struct{ method, path string }{
		{http.MethodGet, "/.well-known/oauth-authorization-server"},
		{http.MethodGet, "/.well-known/openid-configuration"},
		{http.MethodGet, "/.well-known/oauth-protected-resource"},
		{http.MethodGet, "/.well-known/oauth-protected-resource/mcp"},
		{http.MethodGet, "/oauth/jwks.json"},
		{http.MethodPost, "/oauth/register"},
		{http.MethodGet, "/oauth/authorize"},
		{http.MethodPost, "/oauth/consent"},
		{http.MethodGet, "/oauth/callback"},
		{http.MethodPost, "/oauth/token"},
		{http.MethodGet, "/"},
		{http.MethodGet, "/metrics"},
		{http.MethodOptions, "/oauth/token"},
	}
	for _, r := range w.Replicas {
		for _, p := range paths {
			wantForbidden(t, r, p.method, p.path, "")
		}
		if status, body, err := rig.AskReplica(t.Context(), r, http.MethodGet, "/healthz", ""); err != nil || status != http.StatusOK {
			t.Errorf("/healthz without a hop: %d %s %v", status, body, err)
		}
	}
	replica := w.Replicas[1]
	for _, forged := range []struct{ name, hop string }{
		{"not one", "x"},
		{"only the prefix", "mbh1_"},
		{"captured, one bit changed", flip(captured)},
		{"captured, cut short", captured[:len(captured)-4]},
		{"captured, with something behind", captured + "AAAA"},
		{"captured, with padding", captured + "=="},
		{"captured, without its prefix", strings.TrimPrefix(captured, "mbh1_")},
		{"under another key", hop(otherKey, 0, good)},
		{"seven minutes old", hop(w.Keys.Hop, 7*time.Minute, good)},
		{"six minutes in the future", hop(w.Keys.Hop, -6*time.Minute, good)},
		{"an unknown member", hop(w.Keys.Hop, 0, with(func(m map[string]any) { m["surprise"] = 1 }))},
		{"a missing member", hop(w.Keys.Hop, 0, with(func(m map[string]any) { delete(m, "resource") }))},
		{"another version", hop(w.Keys.Hop, 0, with(func(m map[string]any) { m["v"] = 2 }))},
		{"a member twice", hop(w.Keys.Hop, 0, `{"publicURL":"https://evil.example",`+good[1:])},
		{"a member spelt differently", hop(w.Keys.Hop, 0, strings.Replace(good, `"publicURL"`, `"PublicURL"`, 1))},
		{"something behind the JSON", hop(w.Keys.Hop, 0, good+"{}")},
		{"no JSON", hop(w.Keys.Hop, 0, "tenant")},
		{"plain http on a host that is not loopback", hop(w.Keys.Hop, 0, with(func(m map[string]any) { m["publicURL"] = "http://mcp.example.com/wiki" }))},
		{"longer than 8,192 characters", hop(w.Keys.Hop, 0, with(func(m map[string]any) { m["resource"] = strings.Repeat("x", 8192) }))},
	} {
		t.Run(forged.name, func(t *testing.T) {
			wantForbidden(t, replica, http.MethodGet, "/oauth/jwks.json", forged.hop)
			wantForbidden(t, replica, http.MethodPost, "/oauth/token", forged.hop)
		})
	}
	for _, accepted := range []struct{ name, hop string }{
		{"captured", captured},
		{"made here as docs/hop.md says", hop(w.Keys.Hop, 0, good)},
		{"without version, as an older plugin's", hop(w.Keys.Hop, 0, with(func(m map[string]any) { delete(m, "v") }))},
		{"five minutes old", hop(w.Keys.Hop, 5*time.Minute, good)},
		{"from a clock four minutes ahead", hop(w.Keys.Hop, -4*time.Minute, good)},
	} {
		t.Run(accepted.name+" is accepted", func(t *testing.T) {
			if status, body, err := rig.AskReplica(t.Context(), replica, http.MethodGet, "/oauth/jwks.json", accepted.hop); err != nil || status != http.StatusOK {
				t.Errorf("%d %s %v", status, body, err)
			}
		})
	}

	// Whoever has the hop key can ask as any tenant, but any change makes another tenant, with keys
	// that the plugin never sees.
	t.Run("another configuration has other keys", func(t *testing.T) {
		keys := func(payload string) []string {
			_, body, err := rig.AskReplica(t.Context(), replica, http.MethodGet, "/oauth/jwks.json", hop(w.Keys.Hop, 0, payload))
			var set struct {
				Keys []struct {
					Kid string `json:"kid"`
				} `json:"keys"`
			}
			if err != nil || json.Unmarshal([]byte(body), &set) != nil || len(set.Keys) == 0 {
				t.Fatalf("JWKS: %s %v", body, err)
			}
			var kids []string
			for _, k := range set.Keys {
				kids = append(kids, k.Kid)
			}
			return kids
		}
		real := keys(good)
		for member, value := range map[string]any{
			"publicURL": "https://mcp.localhost/wiki", "resource": "other", "audience": "other",
			"providerIssuer": "https://evil.example", "clientID": "other", "generation": 1,
		} {
			for _, kid := range keys(with(func(m map[string]any) { m[member] = value })) {
				if slices.Contains(real, kid) {
					t.Errorf("another %s has the key %s of the real tenant", member, kid)
				}
			}
		}
	})
}

// A client's own hop header, however good, is never passed on. One that can only be a bouncer's is
// taken for a loop, which ends here; in another spelling, which no bouncer sends, or with another
// value it is dropped.
func TestHopHeaderOfAClientIsNotPassedOn(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	c := w.Wiki.Client()
	w.World.Client()
	hops := w.Front.Hops()
	foreign := hops[len(hops)-1] // world's
	for _, tried := range []struct {
		name, value string
		loop        bool
	}{
		{"X-Mcpb-Hop", foreign, true}, {"X_Mcpb_Hop", foreign, false}, {"x.mcpb.hop", foreign, false},
		{"X-Mcpb-Hop", "x", false}, {"X_Mcpb_Hop", "x", false}, {"x.mcpb.hop", "x", false},
	} {
		asked := len(w.Front.Asked())
		answer := c.Do(http.MethodGet, c.Public+"/.well-known/oauth-authorization-server", http.Header{tried.name: {tried.value}}, nil)
		if tried.loop {
			if answer.Status != http.StatusLoopDetected || len(w.Front.Asked()) != asked {
				t.Errorf("%s: want 508, and the sidecar not asked; got %s", tried.name, answer)
			}
		} else if answer.Status != http.StatusOK || answer.Member("issuer") != c.Public {
			t.Errorf("%s: want wiki's metadata, got %s", tried.name, answer)
		}
	}
}

func wantForbidden(t *testing.T, r *rig.Replica, method, path, hop string) {
	t.Helper()
	status, body, err := rig.AskReplica(t.Context(), r, method, path, hop)
	if err != nil || status != http.StatusForbidden || strings.TrimSpace(body) != `{"error":"forbidden"}` {
		t.Errorf(`%s %s: want 403 {"error":"forbidden"}, got %d %s %v`, method, path, status, body, err)
	}
}

// wantErrorPage checks that a browser is shown an error and sent nowhere.
func wantErrorPage(t *testing.T, b *rig.Browser, u string) {
	t.Helper()
	page, err := b.Load(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if page.Status < 400 || page.Status > 499 || page.Header.Get("Location") != "" || strings.Contains(page.Body, "http-equiv=\"refresh\"") {
		t.Errorf("want an error page, got %d, Location %q: %s", page.Status, page.Header.Get("Location"), page.Body)
	}
	if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a person was shown %s", page.Header.Get("Content-Type"))
	}
}

// wantInvalidClient: RFC 6749 §5.2 allows 400 and 401.
func wantInvalidClient(t *testing.T, what string, answer *rig.Answer) {
	t.Helper()
	if (answer.Status != http.StatusBadRequest && answer.Status != http.StatusUnauthorized) || answer.Member("error") != "invalid_client" {
		t.Errorf("%s: want invalid_client, got %s", what, answer)
	}
}

// wantInvalidToken: RFC 6750 §3.1.
func wantInvalidToken(t *testing.T, answer *rig.Answer) {
	t.Helper()
	if answer.Status != http.StatusUnauthorized || !strings.Contains(answer.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("want 401 invalid_token, got %s with %q", answer, answer.Header.Get("WWW-Authenticate"))
	}
}
