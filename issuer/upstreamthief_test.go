package issuer_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Each takes one of the values that a login leaves somewhere, and looks for the provider's token in
// it. docs/threats.md has a row for each.
func TestThievesOfTheProvidersToken(t *testing.T) {
	w := handingOn(t, func(w *world) { w.guarded("shared") })
	a := w.register(w.wiki.PublicURL, nil)
	r := a.login()
	first := r.text("refresh_token")
	r = a.token(a.refreshment(first)).wants(t, 200, "")
	access, refresh, wanted := r.text("access_token"), r.text("refresh_token"), w.idp.AccessToken()
	claims := w.verifiedToken(w.wiki.PublicURL, access, w.clock.Now())
	claim, jti := claims["upstream_token"].(string), claims["jti"].(string)
	tenant := sealing.Tenant{
		PublicURL: w.wiki.PublicURL, Resource: w.wiki.Resource, Audience: w.wiki.Audience, UpstreamIssuer: w.wiki.ProviderIssuer, UpstreamClientID: w.wiki.ClientID,
	}
	// holds says whether a text holds the token, as it is or as any part of it decodes.
	holds := func(text string) bool {
		for _, part := range append(strings.FieldsFunc(text, func(c rune) bool { return c == '.' || c == '_' }), text, strings.TrimPrefix(text, "mbr1_")) {
			raw, _ := base64.RawURLEncoding.DecodeString(part)
			if bytes.Contains(raw, []byte(wanted)) || strings.Contains(part, wanted) {
				return true
			}
		}
		return false
	}
	open := func(hopKey, sealed string) string {
		token, _ := sealing.OpenUpstreamToken(hopKey, w.wiki.PublicURL, jti, sealed)
		return token
	}
	if !holds("x."+base64.RawURLEncoding.EncodeToString([]byte(`{"a":"`+wanted+`"}`))+".y") || open(w.hopKey, claim) != wanted {
		t.Fatal("this test would find nothing")
	}

	t.Run("our access token", func(t *testing.T) {
		if holds(access) || holds(claim) {
			t.Error("it can be read")
		}
		for _, key := range []string{newRing(t, masterTwo).HopKey(), base64.StdEncoding.EncodeToString(make([]byte, 32)), masterOne} {
			if open(key, claim) != "" {
				t.Errorf("it opens with %s", key)
			}
		}
		// What it gives: its owner's calls at this MCP server.
		if claims["sub"] != "person-1" {
			t.Errorf("claims %v", claims)
		}
	})
	t.Run("our refresh token", func(t *testing.T) {
		if holds(refresh) || open(w.hopKey, strings.TrimPrefix(refresh, "mbr1_")) != "" {
			t.Error("it can be read")
		}
		// What it gives: access tokens, in which it is sealed.
		w.clock.Add(time.Minute)
		next := a.token(a.refreshment(refresh)).wants(t, 200, "")
		if holds(next.text("access_token")) || holds(next.text("refresh_token")) || holds(next.Body) {
			t.Error("what it gives can be read")
		}
		refresh = next.text("refresh_token")
	})
	t.Run("the hop key", func(t *testing.T) {
		ring := newRing(t, w.hopKey) // as if it were a master
		for _, id := range []sealing.TenantID{tenant.ID(), {}} {
			if payload, _, err := ring.Open(sealing.KindRefresh, id, "", refresh, w.clock.Now()); err != sealing.ErrNotOpened {
				t.Errorf("it opens a refresh token: %x", payload)
			}
		}
	})
	t.Run("the hop key and an access token", func(t *testing.T) {
		if open(w.hopKey, claim) != wanted {
			t.Error("the plugin could not read it either")
		}
	})
	t.Run("the hop key and a refresh token", func(t *testing.T) {
		thief := &issuertest.Front{Tenant: w.wiki, HopKey: w.hopKey, Now: w.clock.Now, Replica: w.replica}
		w.clock.Add(time.Minute)
		got := w.read(issuertest.Serve(thief, a.tokenRequest(a.refreshment(refresh)))).wants(t, 200, "")
		if token, _ := w.upstreamToken(t, got, w.hopKey); token != w.idp.AccessToken() {
			t.Errorf("gets %q", token)
		}
	})
	t.Run("the master", func(t *testing.T) {
		if open(newRing(t, masterOne).HopKey(), claim) != wanted {
			t.Error("the hop key does not follow from it")
		}
		c := issuer.Config{Ring: newRing(t, masterOne), RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour, RefreshIdleTTL: idle}
		if _, err := c.Inspect(sealing.KindRefresh, issuer.Beside{ClientID: a.id, Tenant: tenant}, refresh); err != nil {
			t.Errorf("it does not open a refresh token: %v", err)
		}
	})
	t.Run("the MCP server", func(t *testing.T) {
		// It has the token, and nothing of ours by which it would get the next one.
		a.token(a.refreshment(wanted)).wants(t, 400, "invalid_grant")
		if w.idp.AccessToken() == "" || strings.Contains(wanted, "mbr1_") {
			t.Errorf("it gets %q", wanted)
		}
	})
	t.Run("a log", func(t *testing.T) {
		if w.log.String() == "" {
			t.Fatal("nothing was logged")
		}
		w.holdsNoSecret(t)
		if log := w.log.String(); strings.Contains(log, claim) || strings.Contains(log, access) || strings.Contains(log, refresh) {
			t.Error("it holds a token of ours")
		}
	})
	t.Run("Redis or DynamoDB", func(t *testing.T) {
		// What a refresh leaves there is its answer, under a key of the refresh token presented.
		kept := sealing.SealAnswer(tenant.ID(), first, []byte(refresh))
		if holds(base64.RawURLEncoding.EncodeToString(kept)) || bytes.Contains(kept, []byte(refresh[:20])) {
			t.Error("it can be read")
		}
		for _, presented := range []string{"", refresh, w.hopKey, masterOne} {
			if _, err := sealing.OpenAnswer(tenant.ID(), presented, kept); err == nil {
				t.Errorf("it opens with %.20s", presented)
			}
		}
	})
}
