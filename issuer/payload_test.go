package issuer_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// This master sealed these values, in a program with other rules or of another version. They must
// fail as a whole, not half open.
func TestPayloadsOfAnotherProgram(t *testing.T) {
	w := newWorld(t, nil, nil)
	ring := newRing(t, masterOne)
	id := sealing.Tenant{
		PublicURL: w.wiki.PublicURL, Resource: w.wiki.Resource, Audience: w.wiki.Audience,
		UpstreamIssuer: w.wiki.ProviderIssuer, UpstreamClientID: w.wiki.ClientID, Generation: w.wiki.Generation,
	}.ID()
	const uris, method, name = 1, 2, 3
	type fields = map[int]any
	for _, c := range []struct {
		name    string
		payload any
		ok      bool
	}{
		{"a registration of today", fields{uris: []string{callback}, method: 0, name: "x"}, true},
		{"a redirect URI that is not allowed any more", fields{uris: []string{"javascript:alert(1)"}, method: 0}, false},
		{"one such URI beside a good one", fields{uris: []string{callback, "http://evil.example/"}, method: 0}, false},
		{"an authentication method that does not exist", fields{uris: []string{callback}, method: 3}, false},
		{"a field that does not exist yet", fields{uris: []string{callback}, method: 0, 99: "x"}, false},
		{"a field of another type", fields{uris: callback, method: 0}, false},
		{"no map", []string{callback}, false},
		{"nothing", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			payload, err := cbor.Marshal(c.payload)
			if err != nil {
				t.Fatal(err)
			}
			a := w.register(w.wiki.PublicURL, nil)
			a.id = ring.Seal(sealing.KindClient, id, "", payload, w.clock.Now())
			p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL())
			if c.ok {
				if p.Status != 200 {
					t.Fatalf("status %d: the test does not seal as the program does", p.Status)
				}
				a.login()
				return
			}
			if p.Status != 400 || p.Next() != "" {
				t.Errorf("authorize: status %d, leads to %q", p.Status, p.Next())
			}
			a.token(a.refreshment("x")).wants(t, 401, "invalid_client")
		})
	}
	t.Run("bytes behind a payload", func(t *testing.T) {
		w.t = t
		payload, err := cbor.Marshal(fields{uris: []string{callback}, method: 0})
		if err != nil {
			t.Fatal(err)
		}
		a := w.register(w.wiki.PublicURL, nil)
		a.id = ring.Seal(sealing.KindClient, id, "", append(payload, 0xf6), w.clock.Now())
		a.token(a.refreshment("x")).wants(t, 401, "invalid_client")
	})
}

// Logins that a second implementation began, from the page alone, go on here.
func TestPayloadVectorsAtTheEndpoints(t *testing.T) {
	vectors := map[string]issuer.PayloadVector{}
	for _, v := range issuer.ReadPayloadVectors(t) {
		vectors[v.Name] = v
	}
	one := vectors["ok-client-with-a-secret"]
	provider := &issuertest.Options{Issuer: "https://accounts.example", ClientID: "client-1"}
	w := newWorld(t, provider, func(w *world) {
		w.clock.Set(one.At(t))
		w.masters = []string{one.Header["master"]}
		w.hopKey = newRing(t, w.masters[0]).HopKey()
		w.wiki = w.tenant("https://mcp.example/wiki")
		w.wiki.Audience = "wiki"
	})
	ring := newRing(t, w.masters[0])
	tenant := sealing.TenantID(one.Bytes(t, "tenant"))
	clientOf := func(name string) *app {
		a := &app{w: w, base: w.wiki.PublicURL, id: vectors[name].Value, redirect: callback, verifier: "a-code-verifier-of-the-payload-vectors-43-long"}
		if name != "ok-client-public" {
			var err error
			if a.secret, err = ring.ClientSecret(tenant, a.id); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	a, public := clientOf("ok-client-with-a-secret"), clientOf("ok-client-public")

	t.Run("client", func(t *testing.T) {
		w.t = t
		if page := w.get(a.authorizeURL()); page.Status != 200 || !strings.Contains(page.Body, "Test App") {
			t.Errorf("status %d", page.Status)
		}
		if page := w.get(public.authorizeURL("redirect_uri", "http://localhost:1/")); page.Status != 200 || !strings.Contains(page.Body, "Ünïcode program") {
			t.Errorf("status %d", page.Status)
		}
		machine := clientOf("ok-client-machine")
		token := machine.token(clientCredentials).wants(t, 200, "").text("access_token")
		if claims := w.verifiedToken(a.base, token, w.clock.Now()); claims["sub"] != "ci" || claims["scope"] != "mcp:read" {
			t.Errorf("claims %v", claims)
		}
	})
	withCookie := func(r *http.Request, kind, id, value string) *http.Request {
		r.AddCookie(&http.Cookie{Name: "__Host-mcpb-" + kind + "-" + id[:6], Value: value})
		return r
	}
	leadsBack := func(t *testing.T, address string) {
		t.Helper()
		u, err := url.Parse(address)
		if err != nil || !strings.HasPrefix(address, callback) || u.Query().Get("error") != "access_denied" || u.Query().Get("state") != "client state" {
			t.Errorf("it leads to %q: %v", address, err)
		}
	}
	t.Run("consent", func(t *testing.T) {
		w.t = t
		v := vectors["ok-consent"]
		id := string(v.Bytes(t, "context"))
		form := url.Values{"request": {v.Value}, "cookie": {id}, "decision": {"deny"}}
		r := newRequest(t, "POST", a.base+"/oauth/consent", formType, form.Encode())
		page := issuertest.NewBrowser(t, w.net).Do(withCookie(r, "consent", id, id))
		leadsBack(t, page.Link())
	})
	t.Run("flow", func(t *testing.T) {
		w.t = t
		v := vectors["ok-flow"]
		state := string(v.Bytes(t, "context"))
		answer := url.Values{"state": {state}, "error": {"access_denied"}, "iss": {provider.Issuer}}
		r := newRequest(t, "GET", a.base+"/oauth/callback?"+answer.Encode(), "", "")
		leadsBack(t, w.do(withCookie(r, "flow", state, v.Value)).Header.Get("Location"))
	})
	login := func(t *testing.T, got reply, wantScope string) {
		t.Helper()
		claims := w.verifiedToken(a.base, got.wants(t, 200, "").text("access_token"), w.clock.Now())
		if claims["sub"] != "248289761001" || got.text("scope") != wantScope {
			t.Errorf("claims %v, scope %q", claims, got.text("scope"))
		}
	}
	const scope = "mcp:read mcp:write"
	t.Run("code", func(t *testing.T) {
		w.t = t
		login(t, a.token(a.redemption(vectors["ok-code-redeemed"].Value)), scope)
		// This code requires the client's key, and so does the refresh token below.
		a.token(a.redemption(vectors["ok-code-redeemed-of-a-person"].Value)).wants(t, 401, "invalid_client")
	})
	t.Run("refresh", func(t *testing.T) {
		w.t = t
		login(t, a.token(a.refreshment(vectors["ok-refresh"].Value)), scope)
		login(t, public.token(public.refreshment(vectors["ok-refresh-of-a-public-client"].Value)), scope)
		a.token(a.refreshment(vectors["ok-refresh-with-everything"].Value)).wants(t, 401, "invalid_client")
	})
	t.Run("bearer", func(t *testing.T) {
		w.t = t
		got := w.hop("/hop/token", url.Values{"key": {vectors["ok-bearer"].Value}}).wants(t, 200, "")
		if claims := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now()); claims["sub"] != "ci" || claims["scope"] != "mcp:read" {
			t.Errorf("claims %v", claims)
		}
		w.hop("/hop/token", url.Values{"key": {vectors["refused-tagged"].Value}}).wants(t, 400, "invalid_grant")
	})
}
