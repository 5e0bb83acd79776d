package issuer_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// revoke sends a client's token to the revocation endpoint.
func (a *app) revoke(form url.Values) reply {
	a.w.t.Helper()
	r := a.tokenRequest(form)
	r.URL.Path = strings.TrimSuffix(r.URL.Path, "/token") + "/revoke"
	return a.w.do(r)
}

// Each row: what revoking a refresh token ends, by guard and provider. The endpoint is advertised
// exactly where it ends something.
func TestRevocation(t *testing.T) {
	for _, c := range []struct {
		name     string
		guard    string
		refresh  string // the label
		be       issuertest.Behaviour
		issuer   string
		status   int
		code     string
		now      string // a refresh directly afterwards
		later    string // and after the next check
		upstream int    // revocations at the provider
		metadata bool
	}{
		{"a guard and a provider with an endpoint: at once, and there too", "memory", "auto", issuertest.Behaviour{Revocation: true}, "", 200, "", "invalid_grant", "invalid_grant", 1, true},
		{"a guard and a provider without one: at once", "memory", "auto", issuertest.Behaviour{}, "", 200, "", "invalid_grant", "invalid_grant", 0, true},
		{"a guard and a session: at once", "memory", "session", issuertest.Behaviour{Revocation: true}, "", 200, "", "invalid_grant", "invalid_grant", 0, true},
		{"a guard and a provider whose endpoint fails: at once", "memory", "auto", issuertest.Behaviour{Revocation: true, RevokeStatus: 500}, "", 200, "", "invalid_grant", "invalid_grant", 1, true},
		{"no guard, and a provider with an endpoint: at the next check", "none", "auto", issuertest.Behaviour{Revocation: true}, "", 200, "", "ok", "invalid_grant", 1, true},
		{"no guard, and a provider whose endpoint fails: not, and the client is told", "none", "auto", issuertest.Behaviour{Revocation: true, RevokeStatus: 503}, "", 503, "temporarily_unavailable", "ok", "ok", 1, true},
		{"no guard, and a provider without an endpoint: not, and the client is told", "none", "auto", issuertest.Behaviour{}, "", 400, "unsupported_token_type", "ok", "ok", 0, false},
		{"no guard, and a provider whose endpoint has no TLS: not, and secret and token are not sent there", "none", "auto", issuertest.Behaviour{Revocation: true, Discovery: map[string]any{"revocation_endpoint": "http://idp.example/revoke"}}, "", 400, "unsupported_token_type", "ok", "ok", 0, false},
		{"no guard, and a session: not, and the client is told", "none", "session", issuertest.Behaviour{Revocation: true}, "", 400, "unsupported_token_type", "ok", "ok", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.guarded(c.guard)
				w.wiki.Refresh = c.refresh
			})
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			doc := w.get(a.base+"/.well-known/oauth-authorization-server").wants(t, 200, "")
			if want := a.base + "/oauth/revoke"; c.metadata != (doc.text("revocation_endpoint") == want) || c.metadata != (doc.JSON["revocation_endpoint_auth_methods_supported"] != nil) || c.metadata != (doc.JSON["revocation_endpoint_auth_signing_alg_values_supported"] != nil) {
				t.Errorf("metadata: %s", doc.Body)
			}
			got := a.revoke(url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}).wants(t, c.status, c.code)
			if got.Status == 200 && got.Body != "" {
				t.Errorf("body %q", got.Body)
			}
			log := w.log.String()
			if n := strings.Count(log, "its client revoked it"); n != map[bool]int{true: 1}[c.status == 200] {
				t.Errorf("the log says %d times that the login ended: %s", n, log)
			}
			left := c.status == 200 && c.refresh == "auto" && (!c.be.Revocation || c.be.RevokeStatus != 0)
			if n := strings.Count(log, "has not been revoked"); n != map[bool]int{true: 1}[left] || strings.Contains(log, "neither") {
				t.Errorf("the log says %d times that the provider's token lives on: %s", n, log)
			}
			if revoked := w.idp.Revoked(); len(revoked) != c.upstream || c.upstream > 0 && !strings.HasPrefix(revoked[0], "upstream-refresh-") {
				t.Errorf("revoked at the provider: %q", revoked)
			}
			r := a.token(a.refreshment(token))
			if outcome(r) != c.now {
				t.Errorf("directly afterwards %s, want %s", outcome(r), c.now)
			}
			if r.Status == 200 {
				token = r.text("refresh_token")
			}
			w.clock.Add(time.Hour)
			if got := outcome(a.token(a.refreshment(token))); got != c.later {
				t.Errorf("after an hour %s, want %s", got, c.later)
			}
		})
	}
}

// The client authenticates, and can end only its own login (RFC 7009 §2.1).
func TestRevocationByWhom(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
	w.idp.Be(issuertest.Behaviour{Revocation: true})
	a, other := w.register(w.wiki.PublicURL, nil), w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}})
	tokens := a.login()
	token := tokens.text("refresh_token")
	for _, c := range []struct {
		name   string
		client *app
		form   url.Values
		status int
		code   string
	}{
		{"another client's token", other, url.Values{"token": {token}}, 200, ""},
		{"what is no token", a, url.Values{"token": {"abc"}}, 200, ""},
		{"a changed token", a, url.Values{"token": {token[:len(token)-1]}}, 200, ""},
		{"a client_id", a, url.Values{"token": {a.id}}, 200, ""},
		{"no token", a, url.Values{"token_type_hint": {"refresh_token"}}, 400, "invalid_request"},
		{"an access token", a, url.Values{"token": {tokens.text("access_token")}, "token_type_hint": {"access_token"}}, 400, "unsupported_token_type"},
		{"two tokens", a, url.Values{"token": {token, token}}, 400, "invalid_request"},
		{"a wrong secret", other, url.Values{"token": {token}, "client_secret": {a.id}}, 401, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.client.revoke(c.form).wants(t, c.status, c.code)
			// the login goes on
			token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
		})
	}
	if n := len(w.idp.Revoked()); n != 0 {
		t.Errorf("%d revocations at the provider", n)
	}
	t.Run("a token of the login that was used before", func(t *testing.T) {
		newer := a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
		a.revoke(url.Values{"token": {token}}).wants(t, 200, "")
		a.revoke(url.Values{"token": {token}}).wants(t, 200, "") // again
		a.token(a.refreshment(newer)).wants(t, 400, "invalid_grant")
	})
	r := newRequest(t, "GET", a.base+"/oauth/revoke?token="+token, "", "")
	if got := w.do(r); got.Status != 405 {
		t.Errorf("GET: status %d", got.Status)
	}
}

// A store that fails must not look as if it had revoked.
func TestRevocationThatTheGuardDidNotTake(t *testing.T) {
	w, store := newFaultyWorld(t, nil)
	store.Fail(errors.New("the store is away"), nil)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	if got := a.revoke(url.Values{"token": {token}}).wants(t, 503, "temporarily_unavailable"); got.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// The counter and the warning of reuse mean a theft, or a client out of order. They do not mean a
// client that was not told of the end.
func TestRevocationIsNotReportedAsReuse(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
	w.idp.Be(issuertest.Behaviour{})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	a.revoke(url.Values{"token": {token}}).wants(t, 200, "")
	for range 3 { // a token that was never used before
		a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
	}
	counters := w.direct("GET", "/healthz").JSON["counters"].(map[string]any)
	if n := strings.Count(w.log.String(), "a refresh token was presented again"); counters["families_reused"] != float64(0) || n != 0 {
		t.Errorf("families_reused %v, and %d lines of the log say that a refresh token was presented again", counters["families_reused"], n)
	}
}

// A refresh while the store is away makes a token that is younger than the mark of the revocation.
func TestRevocationOutlastsALateRefresh(t *testing.T) {
	// how long the guard keeps a login; a memory counts from its first use, and keeps it at least
	// so long
	const life = idle + 2*sealing.Skew
	w, store := newFaultyWorld(t, nil)
	w.idp.Be(refreshProviders["static"])
	a, other := w.register(w.wiki.PublicURL, nil), w.register(w.wiki.PublicURL, nil)
	other.token(other.refreshment(other.login().text("refresh_token"))).wants(t, 200, "")
	w.clock.Add(life - 10*time.Minute)
	token := a.login().text("refresh_token")
	a.revoke(url.Values{"token": {token}}).wants(t, 200, "")
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
	w.clock.Add(11 * time.Minute)
	other.login()
	w.clock.Add(39 * time.Minute)
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
	store.Fail(errors.New("the store is away"), nil)
	// the access token is short, because nobody counts meanwhile
	token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	store.Fail(nil, nil)
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
	w.clock.Add(life - 35*time.Minute)
	r := a.token(a.refreshment(token))
	if r.Status == 200 {
		t.Errorf("two weeks after it was revoked, the login is back: %s", outcome(r))
	}
}
