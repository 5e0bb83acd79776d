package issuer_test

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// What a check has answered is kept for replay.Grace, for clients that come again. A login that was
// revoked meanwhile is over for them too.
func TestCheckWhoseAnswerIsKeptOutlivesNoRevocation(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	w.clock.Add(time.Hour)
	next := a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	a.token(a.refreshment(token)).wants(t, 200, "") // its answer was lost
	a.revoke(url.Values{"token": {next}}).wants(t, 200, "")
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
}

// twoOfOneCheck returns two refresh tokens of one login that hold the same token of the provider,
// as there are without a replay guard, when the next check is due.
func (a *app) twoOfOneCheck() (older, newer string) {
	older = a.login().text("refresh_token")
	a.w.clock.Add(30 * time.Minute)
	newer = a.token(a.refreshment(older)).wants(a.w.t, 200, "").text("refresh_token")
	a.w.clock.Add(31 * time.Minute)
	return older, newer
}

// A check is shared by all refresh tokens that hold one token of the provider: none of them keeps a
// scope that the provider has taken back.
func TestCheckTakesAScopeBackFromAllItsTokens(t *testing.T) {
	all, less := "openid wiki:read wiki:write", "openid wiki:read"
	w := newWorld(t, nil, func(w *world) {
		w.guarded("none")
		w.wiki.Scopes = []string{"openid", "wiki:read", "wiki:write"}
	})
	w.idp.Be(issuertest.Behaviour{Scope: &all})
	a := w.register(w.wiki.PublicURL, nil)
	older, newer := a.twoOfOneCheck()
	w.idp.Be(issuertest.Behaviour{Scope: &less})
	before := w.idp.Posts()
	first, second := a.token(a.refreshment(older)).wants(t, 200, ""), a.token(a.refreshment(newer)).wants(t, 200, "")
	for _, got := range []reply{first, second} {
		if slices.Contains(strings.Fields(got.text("scope")), "wiki:write") {
			t.Errorf("scope %q", got.text("scope"))
		}
	}
	if n := w.idp.Posts() - before; n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	if first.text("refresh_token") == second.text("refresh_token") {
		t.Error("two refresh tokens became one")
	}
}

// While the provider is out of order, each of them gives a short access token, and stays.
func TestCheckDuringAnOutageBridgesAllItsTokens(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("none") })
	a := w.register(w.wiki.PublicURL, nil)
	older, newer := a.twoOfOneCheck()
	w.idp.Be(issuertest.Behaviour{Status: 503, Delay: 300 * time.Millisecond})
	var both sync.WaitGroup
	for name, token := range map[string]string{"the older": older, "the newer": newer} {
		both.Go(func() {
			got := a.token(a.refreshment(token))
			if got.Status != 200 || got.text("refresh_token") != token || got.JSON["expires_in"] != 420. {
				t.Errorf("%s token: %d, refreshed %v, %v s", name, got.Status, got.text("refresh_token") != token, got.JSON["expires_in"])
			}
		})
	}
	both.Wait()
}

// A stolen refresh token of a client that proves itself by a key is worth nothing without the key:
// that no guard notices it is not worth a warning.
func TestCheckOfAClientWithAKeyWarnsOfNoStolenToken(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("none") })
	w.idp.Be(issuertest.Behaviour{Refresh: "static"})
	key := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(ecKey().Public())}
	a := w.publish(documentURL, key).withKey(jose.ES256, ecKey())
	token := a.login().text("refresh_token")
	w.clock.Add(time.Hour)
	a.token(a.refreshment(token)).wants(t, 200, "")
	if log := w.log.String(); strings.Contains(log, "a stolen refresh token") {
		t.Error(log)
	}
}
