package e2e

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// Without a replay guard the sidecar keeps nothing that could tell a code's second use from its
// first. The provider does: it is asked once for each redemption that passes all checks of ours,
// and its answer is the answer.
func TestCodeIsRedeemedOnce(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Sidecar: map[string]string{"BOUNCER_REPLAY_GUARD": "none"}})
	c, dex := w.Wiki.Client(), w.Wiki.Provider
	posts := func() int { return len(dex.Posts("authorization_code")) }

	t.Run("twice in sequence, at two replicas", func(t *testing.T) {
		f := c.Begin()
		code := c.Login(w.Wiki.Browser(), f)
		before := posts()
		if before != 0 {
			t.Fatalf("the provider saw %d redemptions before anybody redeemed", before)
		}
		first, second := c.Redeem(code, f), c.Redeem(code, f)
		if first.Status != http.StatusOK {
			t.Errorf("first: %s", first)
		}
		wantOAuthError(t, "second", second, "invalid_grant")
		if got := posts() - before; got != 2 {
			t.Errorf("the provider counted %d redemptions, want one for each of 2", got)
		}
	})

	t.Run("eight times in parallel, over two replicas", func(t *testing.T) {
		const attempts = 8
		f := c.Begin()
		code := c.Login(w.Wiki.Browser(), f)
		before := posts()
		answers := make([]*rig.Answer, attempts)
		var all sync.WaitGroup
		for i := range attempts {
			all.Go(func() { answers[i] = c.Redeem(code, f) })
		}
		all.Wait()
		won, unavailable := 0, 0
		for _, answer := range answers {
			switch answer.Status {
			case http.StatusOK:
				won++
			case http.StatusServiceUnavailable:
				unavailable++
			default:
				wantOAuthError(t, "a lost race", answer, "invalid_grant")
			}
		}
		if won != 1 {
			t.Errorf("%d of %d redemptions succeeded, want 1", won, attempts)
		}
		// Dex itself answers some of a race's losers with 500, which is not a verdict on the code:
		// only these are asked again. A request that comes while another redeems the code at the
		// same replica waits for that one and may not ask at all.
		failed, took := 0, 0
		for _, post := range dex.Posts("authorization_code")[before:] {
			switch {
			case post.Status >= 500:
				failed++
			case post.Status == http.StatusOK:
				took++
			}
		}
		if took != 1 || unavailable > failed {
			t.Errorf("the provider took the code %d times and failed %d times; %d answers of 503", took, failed, unavailable)
		}
		if got := posts() - before; got > attempts+failed {
			t.Errorf("the provider counted %d redemptions of %d attempts, of which %d failed", got, attempts, failed)
		}
	})

	// x/oauth2 tries a second authentication style after an error, unless told not to. That would
	// burn codes. A provider that has not taken the code, because it is busy or failed, is asked
	// again after a pause, twice (issuer/provider/redeem.go).
	for _, fault := range []struct {
		name   string
		status int
		body   string
		error  string
		posts  int
	}{
		{"the provider refuses the code", http.StatusBadRequest, `{"error":"invalid_grant"}`, "invalid_grant", 1},
		{"the provider refuses the sidecar", http.StatusUnauthorized, `{"error":"invalid_client"}`, "", 1},
		{"the provider forbids it", http.StatusForbidden, `{"error":"access_denied"}`, "", 1},
		{"the provider fails", http.StatusInternalServerError, `oops`, "", 3},
		{"the provider answers nonsense", http.StatusOK, `<html>`, "", 1},
	} {
		t.Run(fault.name, func(t *testing.T) {
			f := c.Begin()
			code := c.Login(w.Wiki.Browser(), f)
			before := posts()
			dex.Fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(fault.status)
				_, _ = w.Write([]byte(fault.body))
			}))
			answer := c.Redeem(code, f)
			dex.Fault(nil)
			if answer.Status/100 == 2 || answer.Member("error") == "" {
				t.Errorf("want an OAuth error, got %s", answer)
			}
			if fault.error != "" {
				wantOAuthError(t, fault.name, answer, fault.error)
			}
			if got := posts() - before; got != fault.posts {
				t.Errorf("the provider counted %d redemptions, want %d", got, fault.posts)
			}
		})
	}

	// A thief who only has the code can neither redeem nor burn it.
	t.Run("not at all when a check of ours fails", func(t *testing.T) {
		f := c.Begin()
		code := c.Login(w.Wiki.Browser(), f)
		before := posts()
		other := w.Wiki.Client()
		form := func(change func(url.Values)) url.Values {
			v := url.Values{
				"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {f.Verifier}, "client_id": {c.ClientID},
				"redirect_uri": {c.Redirect}, "resource": {c.Resource},
			}
			change(v)
			return v
		}
		for _, attempt := range []struct {
			name  string
			form  url.Values
			error string
		}{
			{"another verifier", form(func(v url.Values) { v.Set("code_verifier", rig.NewVerifier()) }), "invalid_grant"},
			{"no verifier", form(func(v url.Values) { v.Del("code_verifier") }), ""},
			{"another redirect URI", form(func(v url.Values) { v.Set("redirect_uri", "http://127.0.0.1:33418/other") }), "invalid_grant"},
			{"another client", form(func(v url.Values) { v.Set("client_id", other.ClientID) }), "invalid_grant"},
			{"another resource", form(func(v url.Values) { v.Set("resource", "https://elsewhere.example/mcp") }), "invalid_target"},
			{"a changed code", form(func(v url.Values) { v.Set("code", flip(code)) }), "invalid_grant"},
			{"a shortened code", form(func(v url.Values) { v.Set("code", code[:len(code)-1]) }), "invalid_grant"},
		} {
			answer := c.Token(attempt.form)
			if attempt.error != "" {
				wantOAuthError(t, attempt.name, answer, attempt.error)
			} else if answer.Status/100 == 2 || answer.Member("error") == "" {
				t.Errorf("%s: want an OAuth error, got %s", attempt.name, answer)
			}
		}
		if got := posts() - before; got != 0 {
			t.Errorf("the provider counted %d redemptions, want none", got)
		}
		if answer := c.Redeem(code, f); answer.Status != http.StatusOK {
			t.Errorf("afterwards its owner got %s", answer)
		}
	})

	t.Run("with exchange=callback at the callback", func(t *testing.T) {
		w := rig.New(t, rig.Options{Labels: map[string]string{"exchange": "callback"}})
		c := w.Wiki.Client()
		f := c.Begin()
		code := c.Login(w.Wiki.Browser(), f)
		if got := len(w.Wiki.Provider.Posts("authorization_code")); got != 1 {
			t.Errorf("after the login the provider counted %d redemptions, want 1", got)
		}
		if answer := c.Redeem(code, f); answer.Status != http.StatusOK {
			t.Errorf("code: %s", answer)
		}
		if got := len(w.Wiki.Provider.Posts("authorization_code")); got != 1 {
			t.Errorf("after the redemption the provider counted %d, want 1", got)
		}
	})
}

// wantOAuthError checks for a 400 with the error code of RFC 6749 §5.2.
func wantOAuthError(t *testing.T, what string, answer *rig.Answer, code string) {
	t.Helper()
	if answer.Status != http.StatusBadRequest || answer.Member("error") != code {
		t.Errorf("%s: want 400 %s, got %s", what, code, answer)
	}
}

// flip changes one character in the middle of a text.
func flip(s string) string {
	b := []byte(s)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
