package issuer_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// logged counts the lines of the log that hold all parts.
func (w *world) logged(parts ...string) (n int) {
lines:
	for line := range strings.Lines(w.log.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		n++
	}
	return n
}

// No change of a provider's keys ends the login of a person who may still come in. The refresh
// after the change succeeds, or it is a short one and the next one succeeds.
func TestKeysThatChangeEndNoLogin(t *testing.T) {
	for _, c := range []struct {
		name   string
		be     issuertest.Behaviour
		cached bool   // the replica has the old keys
		want   string // at the first refresh after the rotation
		then   string // at the one after it
		log    string
	}{
		{"a new key, and the set has it", issuertest.Behaviour{}, true, "ok", "ok", ""},
		{"a new key, and only it is published", issuertest.Behaviour{ForgetKeys: true}, true, "ok", "ok", ""},
		{"a new key under the old kid (Hydra)", issuertest.Behaviour{KeepKeyID: true}, true, "ok", "ok", "signs with another key than its token names"},
		{"the same, at a replica that has just begun", issuertest.Behaviour{KeepKeyID: true}, false, "ok", "ok", "signs with another key than its token names"},
		{"the same, and the old key is published no more", issuertest.Behaviour{KeepKeyID: true, ForgetKeys: true}, true, "ok", "ok", "signs with another key than its token names"},
		{"one answer of the set is old", issuertest.Behaviour{StaleKeys: 1}, true, "ok", "ok", ""},
		{"one answer of the set is old, at a replica that has just begun", issuertest.Behaviour{StaleKeys: 1}, false, "ok", "ok", ""},
		{"two are old", issuertest.Behaviour{StaleKeys: 2}, true, "short", "ok", `the provider publishes no key of the kid \"provider-key-2\" that it names`},
		{"two are old, under the old kid", issuertest.Behaviour{StaleKeys: 2, KeepKeyID: true}, true, "short", "ok", `its signature does not fit the key that it names (kid \"provider-key\")`},
		{"no kid at all", issuertest.Behaviour{OmitKeyID: true}, true, "ok", "ok", ""},
	} {
		for _, guard := range []string{"none", "memory"} {
			t.Run(c.name+", guard "+guard, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) { w.guarded(guard); w.wiki.UpstreamCheckInterval = 0 })
				w.idp.Be(issuertest.Behaviour{KillOnReuse: true})
				a := w.register(w.wiki.PublicURL, nil)
				token := a.login().text("refresh_token")
				if !c.cached && guard == "none" { // a memory guard would be lost with the process
					w.replicas = nil
				}
				w.idp.RotateKeys()
				c.be.KillOnReuse = true
				w.idp.Be(c.be)
				for _, want := range []string{c.want, c.then, "ok"} {
					w.clock.Add(2 * time.Minute)
					got := a.token(a.refreshment(token))
					if outcome(got) != want {
						t.Fatalf("%s, want %s: %s", outcome(got), want, w.log)
					}
					token = got.text("refresh_token")
				}
				if c.log != "" && w.logged(c.log) == 0 || w.logged("login ended") > 0 {
					t.Errorf("the log should say %q: %s", c.log, w.log)
				}
				a.login()
			})
		}
	}
}

// docs/replay.md promises a window: an id_token that nobody can verify is bridged for two hours,
// and then the person logs in again. Another person's id_token ends the login at once, verified or
// not.
func TestIDTokenThatStaysBroken(t *testing.T) {
	for _, c := range []struct {
		name  string
		be    issuertest.Behaviour
		cause string
	}{
		{"signed by somebody else", issuertest.Behaviour{WrongKey: true}, "its signature does not fit"},
		{"a key that is never published", issuertest.Behaviour{StaleKeys: 1000}, "publishes no key of the kid"},
		{"HS256", issuertest.Behaviour{Alg: "HS256"}, "it is signed with HS256, for which the client secret is the key: set this client at the provider to RS256 or ES256"},
		{"encrypted", issuertest.Behaviour{Encrypted: true}, "it is encrypted"},
		{"unsigned", issuertest.Behaviour{Unsigned: true}, "it has no signature"},
		{"expired", issuertest.Behaviour{Claims: func(m map[string]any) { m["exp"] = issuertest.Start.Unix() }}, "seconds ago (exp)"},
		{"no JWT", issuertest.Behaviour{IDToken: "x"}, "it is malformed"},
		{"of another issuer", issuertest.Behaviour{Claims: func(m map[string]any) { m["iss"] = "https://evil.example" }}, "and the label providerIssuer is"},
		{"userinfo refuses", issuertest.Behaviour{OmitNewIDToken: true, UserInfo: map[string]any{}, UserInfoStatus: 403}, "userinfo: the provider answered 403"},
		{"userinfo is a page", issuertest.Behaviour{OmitNewIDToken: true, UserInfo: map[string]any{}, UserInfoBody: "<html>Sign in", UserInfoType: "text/html"}, "userinfo: the provider answered 200 text/html: it holds no JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.IdentityClaims = []string{"name"} })
			w.idp.Be(issuertest.Behaviour{UserInfo: map[string]any{"sub": "person-1"}, KillOnReuse: true})
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			w.idp.RotateKeys()
			c.be.KillOnReuse, c.be.UserInfo = true, map[string]any{"sub": "person-1"}
			w.idp.Be(c.be)
			for n, want := range []string{"short", "short", "short", "invalid_grant"} {
				w.clock.Add(time.Hour)
				got := a.token(a.refreshment(token))
				if outcome(got) != want {
					t.Fatalf("refresh %d: %s, want %s: %s", n, outcome(got), want, w.log)
				}
				token = got.text("refresh_token")
			}
			if w.logged("the last known claims stand", c.cause) != 3 || w.logged("login ended", c.cause) != 1 {
				t.Errorf("the log should say %q: %s", c.cause, w.log)
			}
		})
	}
}

// One odd key in the set shuts out nobody: it is passed over, and the log names it once.
func TestKeysThatAreOddArePassedOver(t *testing.T) {
	const x, y = `"x":"qlhwsjtqv8OwZFzOn5xNlIAMG2fRTPpDPZLhQEXgJdg"`, `"y":"A4ZTZkYGX1PDHaZHgLq8rfHSdBlCWCLBCJqKSkwtOVg"`
	rsa1024 := `"n":"` + strings.Repeat("v", 171) + `","e":"AQAB"`
	for _, c := range []struct {
		name, key string
		cause     string // in the log; none if empty
	}{
		{"secp256k1 without alg", `{"kty":"EC","crv":"secp256k1","kid":"odd",` + x + `,` + y + `}`, "its crv is not one of those that are verified"},
		{"secp256k1 with its alg", `{"kty":"EC","crv":"secp256k1","alg":"ES256K","kid":"odd",` + x + `,` + y + `}`, `its alg \"ES256K\" is not one of the signatures that are verified`},
		{"EC with a short coordinate", `{"kty":"EC","crv":"P-256","kid":"odd","x":"qlhwsjtqv8OwZFzOn5xNlIAMG2fRTPpDPZLhQEXgJQ",` + y + `}`, "x has 31 bytes instead of 32"},
		{"EC off the curve", `{"kty":"EC","crv":"P-256","kid":"odd",` + x + `,` + y + `}`, "its numbers are not those of a key"},
		{"EC without y", `{"kty":"EC","crv":"P-256","kid":"odd",` + x + `}`, "y is missing, or not base64url"},
		{"an unknown kty", `{"kty":"LMS","kid":"odd"}`, "its kty is not one of those that are verified"},
		{"post-quantum", `{"kty":"AKP","alg":"ML-DSA-44","kid":"odd","pub":"AAAA"}`, `its alg \"ML-DSA-44\" is not one`},
		{"no kty", `{"kid":"odd"}`, "it has no kty"},
		{"a kty that is a number", `{"kty":7,"kid":"odd"}`, "it has no kty"},
		{"oct", `{"kty":"oct","kid":"odd","k":"c2VjcmV0"}`, "it is no public key"},
		{"a private key", `{"kty":"OKP","crv":"Ed25519","kid":"odd","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`, "it holds a private part"},
		{"RSA too small", `{"kty":"RSA","kid":"odd",` + rsa1024 + `}`, "it is shorter than 2048 bits"},
		{"RSA too large", `{"kty":"RSA","kid":"odd","n":"` + strings.Repeat("v", 1366) + `","e":"AQAB"}`, "it is longer than 4096 bits"},
		{"RSA without a number", `{"kty":"RSA","kid":"odd","e":"AQAB"}`, "n is missing, or not base64url"},
		{"RSA in base64 of another alphabet", `{"kty":"RSA","kid":"odd","n":"+/+/","e":"AQAB"}`, "n is missing, or not base64url"},
		{"Ed448", `{"kty":"OKP","crv":"Ed448","kid":"odd","x":"AAAA"}`, "its crv is not one of those that are verified"},
		{"for encryption, which is as it should be", `{"kty":"RSA","use":"enc","alg":"RSA-OAEP","kid":"odd",` + rsa1024 + `}`, ""},
		{"null", `null`, "it is not an object"},
		{"a string", `"key"`, "it is not an object"},
		{"two of one kid, the other's own", `{"kty":"OKP","crv":"Ed25519","kid":"provider-key","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, ""},
		{"a certificate that is none", `{"kty":"OKP","crv":"Ed25519","kid":"odd","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","x5c":"none","x5t":7}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(issuertest.Behaviour{OddKeys: []string{c.key}})
			a := w.register(w.wiki.PublicURL, nil)
			a.login()
			// the discovery document is read again, and the key set with it
			w.clock.Add(2 * time.Hour)
			a.login()
			want := 1
			if c.cause == "" {
				want = 0
			}
			if n := w.logged("a key of the provider is passed over"); n != want || c.cause != "" && w.logged(c.cause) != 1 {
				t.Errorf("%d lines: %s", n, w.log)
			}
			if _, fetches, _ := w.idp.Counts(); fetches != 2 {
				t.Errorf("%d fetches of the key set, want 2", fetches)
			}
		})
	}
}

// A login that needs a key that was passed over is refused, with the reason.
func TestKeysThatAreOddAndNeeded(t *testing.T) {
	for _, c := range []struct {
		name  string
		be    issuertest.Behaviour
		cause string
	}{
		{"secp256k1", issuertest.Behaviour{KeysBody: `{"keys":[{"kty":"EC","crv":"secp256k1","kid":"provider-key"}]}`}, `the key that it names (kid \"provider-key\") is passed over: its crv is not one of those that are verified`},
		{"for encryption", issuertest.Behaviour{KeysBody: `{"keys":[{"kty":"RSA","use":"enc","kid":"provider-key"}]}`}, `is passed over: it is for encryption (use)`},
		{"no kid, and an empty set", issuertest.Behaviour{OmitKeyID: true, KeysBody: `{"keys":[]}`}, "it names no key, and the provider publishes none for RS256"},
		{"no kid, and somebody else's signature", issuertest.Behaviour{OmitKeyID: true, KeysBody: `{"keys":[` + strings.Repeat(ed25519JWK+",", 30) + ed25519JWK + `]}`}, "it names no key, and the provider publishes none for RS256"},
		{"another kind of key", issuertest.Behaviour{KeysBody: `{"keys":[` + ed25519JWK + `]}`}, `the key that it names (kid \"provider-key\") is not one for RS256`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
			if w.logged("request refused", c.cause) != 1 {
				t.Errorf("the log should say %q: %s", c.cause, w.log)
			}
		})
	}
}

const ed25519JWK = `{"kty":"OKP","crv":"Ed25519","kid":"provider-key","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

// At a login the signature must be by the key that the id_token names. If that key is missing from
// an older copy of the set, the set is fetched again.
func TestKeysAtALogin(t *testing.T) {
	for _, c := range []struct {
		name    string
		be      issuertest.Behaviour
		status  int
		code    string
		fetches int // after the rotation
		cause   string
	}{
		{"the set is old once", issuertest.Behaviour{StaleKeys: 1}, 200, "", 2, ""},
		{"the set is old twice", issuertest.Behaviour{StaleKeys: 2}, 503, "temporarily_unavailable", 2, "publishes no key of the kid"},
		{"the set is not there", issuertest.Behaviour{KeysStatus: 404}, 503, "temporarily_unavailable", 2, "the provider's keys cannot be read: the provider answered 404"},
		{"the set is a page", issuertest.Behaviour{KeysBody: "<html>", KeysType: "text/html; charset=utf-8"}, 503, "temporarily_unavailable", 2, "the provider's keys cannot be read: the provider answered 200 text/html: no JSON Web Key Set"},
		{"the set is another document", issuertest.Behaviour{KeysBody: `{"issuer":"x"}`}, 503, "temporarily_unavailable", 2, "no JSON Web Key Set"},
		{"the set is a list", issuertest.Behaviour{KeysBody: `[]`}, 503, "temporarily_unavailable", 2, "no JSON Web Key Set"},
		{"HS256", issuertest.Behaviour{Alg: "HS256"}, 400, "access_denied", 0, "it is signed with HS256, for which the client secret is the key: set this client at the provider to RS256 or ES256"},
		{"an algorithm that discovery does not name", issuertest.Behaviour{Alg: "RS512"}, 400, "access_denied", 0, "it is signed with RS512, which is not one of the algorithms that the provider names and this server verifies (RS256)"},
		{"the same, where discovery names none", issuertest.Behaviour{Alg: "PS384", Discovery: map[string]any{"id_token_signing_alg_values_supported": nil}}, 200, "", 1, ""},
		{"encrypted", issuertest.Behaviour{Encrypted: true}, 400, "access_denied", 0, "it is encrypted, and this server has no key for that"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(issuertest.Behaviour{Discovery: c.be.Discovery})
			a := w.register(w.wiki.PublicURL, nil)
			a.login()
			w.idp.RotateKeys()
			w.idp.Be(c.be)
			_, before, _ := w.idp.Counts()
			got := a.token(a.redemption(a.code())).wants(t, c.status, c.code)
			if _, after, _ := w.idp.Counts(); after-before != c.fetches {
				t.Errorf("%d fetches of the key set, want %d", after-before, c.fetches)
			}
			if c.cause != "" && w.logged("request refused", c.cause) != 1 || strings.Contains(got.Body, "cannot be reached") {
				t.Errorf("%s; the log should say %q: %s", got.Body, c.cause, w.log)
			}
		})
	}
}

// If the provider serves an old key set for longer than the sidecar waits, no login is lost: the
// code is spent at the provider, and a client that repeats its request within the minute gets its
// tokens.
func TestKeysThatComeLateCostNoLogin(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Exchange = exchange
				w.guarded("memory")
			})
			a := w.register(w.wiki.PublicURL, nil)
			a.login()
			w.idp.RotateKeys()
			w.idp.Be(issuertest.Behaviour{StaleKeys: 4})
			redemption := a.redemption(a.code())
			first := a.token(redemption).wants(t, 503, "temporarily_unavailable")
			if first.Header.Get("Retry-After") == "" || w.logged("request refused", "publishes no key of the kid") != 1 {
				t.Errorf("%v; the log: %s", first.Header, w.log)
			}
			w.idp.Be(issuertest.Behaviour{})
			w.clock.Add(30 * time.Second)
			a.token(redemption).wants(t, 200, "")
			if n := w.idp.Posts(); n != 2 {
				t.Errorf("the provider was posted %d codes, want one for each login", n)
			}
		})
	}
}

// "Cannot be reached" is said only if nothing came.
func TestKeysThatCannotBeReached(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {})
	w.idp.Be(issuertest.Behaviour{Discovery: map[string]any{"jwks_uri": "http://127.0.0.1:1/keys"}})
	a := w.register(w.wiki.PublicURL, nil)
	got := a.token(a.redemption(a.code())).wants(t, 503, "temporarily_unavailable")
	if !strings.Contains(got.Body, "cannot be reached") || w.logged("request refused", "the provider's keys cannot be read: 127.0.0.1:1: dial tcp") != 1 {
		t.Errorf("%s: %s", got.Body, w.log)
	}
}

// A set of a thousand keys does not cost a thousand verifications, and refreshes that come at once
// share a fetch.
func TestKeysAreFetchedOnceForAll(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.UpstreamCheckInterval = 0 })
	const many = 8
	apps, tokens := make([]*app, many), make([]string, many)
	for i := range apps {
		apps[i] = w.register(w.wiki.PublicURL, nil)
		tokens[i] = apps[i].login().text("refresh_token")
	}
	w.idp.RotateKeys()
	w.clock.Add(2 * time.Minute)
	_, before, _ := w.idp.Counts()
	var wait sync.WaitGroup
	replies := make([]reply, many)
	for i, a := range apps {
		r := a.tokenRequest(a.refreshment(tokens[i]))
		wait.Go(func() { replies[i] = w.do(r) })
	}
	wait.Wait()
	for _, r := range replies {
		r.wants(t, http.StatusOK, "")
	}
	if _, after, _ := w.idp.Counts(); after-before > many/2 {
		t.Errorf("%d fetches for %d refreshes at once", after-before, many)
	}
}

// Signed userinfo (OpenID Connect Core §5.3.2) is verified with the same keys.
func TestSignedUserInfo(t *testing.T) {
	info := map[string]any{"sub": "person-1", "name": "Ada"}
	for _, c := range []struct {
		name  string
		be    issuertest.Behaviour
		cause string
	}{
		{"good", issuertest.Behaviour{UserInfoSigned: true}, ""},
		{"the set is old once", issuertest.Behaviour{UserInfoSigned: true, StaleKeys: 1}, ""},
		{"no JWT", issuertest.Behaviour{UserInfoBody: "no", UserInfoType: "application/jwt"}, "userinfo: the provider answered 200 application/jwt: it is malformed: no JWT"},
		{"encrypted", issuertest.Behaviour{UserInfoBody: "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d", UserInfoType: "application/jwt"}, "userinfo: the provider answered 200 application/jwt: it is encrypted"},
		{"unsigned", issuertest.Behaviour{UserInfoBody: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwZXJzb24tMSJ9.", UserInfoType: "application/jwt"}, "it has no signature"},
		{"for another person", issuertest.Behaviour{UserInfoSigned: true, UserInfo: map[string]any{"sub": "person-2"}}, "userinfo: sub is not the one of the id_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.AllowedEmails = []string{"ada@example.com"} })
			be := c.be
			if be.UserInfo == nil {
				be.UserInfo = maps.Clone(info)
			}
			be.UserInfo["email"], be.UserInfo["email_verified"] = "ada@example.com", true
			be.Claims = func(m map[string]any) { delete(m, "email") }
			w.idp.RotateKeys()
			w.idp.Be(be)
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code()))
			if (got.Status == 200) != (c.cause == "") || c.cause != "" && w.logged(c.cause) == 0 {
				t.Errorf("%d, the log should say %q: %s", got.Status, c.cause, w.log)
			}
		})
	}
}

// Members of an answer that nobody here needs may have any type.
func TestProviderAnswersOfOddTypes(t *testing.T) {
	odd := []any{nil, 7, 7.5, "", "x", true, []any{nil, 7}, map[string]any{"x": 1}}
	for _, name := range []string{
		"service_documentation", "scopes_supported", "claims_supported", "token_endpoint_auth_methods_supported", "revocation_endpoint", "device_authorization_endpoint",
		"id_token_signing_alg_values_supported", "authorization_response_iss_parameter_supported", "end_session_endpoint", "response_types_supported", "prompt_values_supported",
		"token_endpoint_auth_signing_alg_values_supported",
	} {
		t.Run("discovery, "+name, func(t *testing.T) {
			for _, v := range odd {
				if name == "authorization_response_iss_parameter_supported" && v == true {
					continue // true promises iss in each answer, and this provider sends none
				}
				w := newWorld(t, nil, nil)
				w.idp.Be(issuertest.Behaviour{DiscoveryMembers: map[string]any{name: v}})
				a := w.register(w.wiki.PublicURL, nil)
				if got := a.token(a.redemption(a.code())); got.Status != 200 {
					t.Errorf("%v: %d %s: %s", v, got.Status, got.Body, w.log)
				}
			}
		})
	}
	for _, name := range []string{"expires_in", "token_type", "error", "error_description", "error_uri", "refresh_expires_in", "id_token_type"} {
		t.Run("token response, "+name, func(t *testing.T) {
			for _, v := range append(odd, 3600.0, "3600", "3600.0", -1, 1e30) {
				if text, ok := v.(string); ok && text != "" && (name == "error" || name == "token_type") {
					continue // that is an error, and another way to use the token
				}
				w := newWorld(t, nil, func(w *world) { w.wiki.UpstreamCheckInterval = 0 })
				w.idp.Be(issuertest.Behaviour{Answer: map[string]any{name: v}})
				a := w.register(w.wiki.PublicURL, nil)
				got := a.token(a.redemption(a.code()))
				if got.Status == 200 {
					w.clock.Add(2 * time.Minute)
					got = a.token(a.refreshment(got.text("refresh_token")))
				}
				if outcome(got) != "ok" {
					t.Errorf("%v: %s: %s", v, got.Body, w.log)
				}
			}
		})
	}
	t.Run("token response that says it is plain text", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.idp.Be(issuertest.Behaviour{AnswerType: "text/plain"})
		w.register(w.wiki.PublicURL, nil).login()
	})
	// A form that is silent about scopes means the same: at a refresh the scopes are as before (RFC
	// 6749 §6).
	t.Run("token response that is a form without scope", func(t *testing.T) {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.Scopes, w.wiki.RequiredScopes, w.wiki.UpstreamCheckInterval = []string{"openid", "mcp:read"}, []string{"mcp:read"}, 0
		})
		w.idp.Be(issuertest.Behaviour{Discovery: map[string]any{"scopes_supported": []string{"openid", "mcp:read"}}})
		a := w.register(w.wiki.PublicURL, nil)
		got := a.login()
		for _, c := range []struct{ body, scope string }{
			{"access_token=x&token_type=bearer&expires_in=3600", "mcp:read"},
			{"access_token=x&token_type=bearer&scope=openid+mcp%3Aread", "mcp:read"},
			{"access_token=x&token_type=bearer&scope=openid", ""},
		} {
			w.clock.Add(2 * time.Minute)
			w.idp.Be(issuertest.Behaviour{Body: c.body, BodyType: "application/x-www-form-urlencoded"})
			next := a.token(a.refreshment(got.text("refresh_token")))
			if next.text("scope") != c.scope || (next.Status == 200) != (c.scope != "") {
				t.Errorf("%s: %s, want scope %q: %s", c.body, next.Body, c.scope, w.log)
			}
			got = next
		}
	})
	for _, c := range []struct {
		name  string
		v     any
		cause string
	}{
		{"access_token", 7, "the provider answered 200 application/json: access_token is a number"},
		{"access_token", nil, "access_token is missing"},
		{"access_token", "", "access_token is missing"},
		{"id_token", 7, "the id_token that the provider sent is a number"},
		{"id_token", nil, "the provider sent no id_token"},
	} {
		t.Run(fmt.Sprint("needed, ", c.name, " ", c.v), func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(issuertest.Behaviour{Answer: map[string]any{c.name: c.v}})
			a := w.register(w.wiki.PublicURL, nil)
			if got := a.token(a.redemption(a.code())); got.Status == 200 || strings.Contains(got.Body, "cannot be reached") || w.logged(c.cause) == 0 {
				t.Errorf("%s; the log should say %q: %s", got.Body, c.cause, w.log)
			}
		})
	}
}

// If scope is not a string, it grants nothing that was not understood.
func TestProviderScopesOfOddTypes(t *testing.T) {
	for _, c := range []struct {
		name string
		v    any
		want string // "" if the login is refused
	}{
		{"a list", []any{"openid", "mcp:read"}, "mcp:read"},
		{"an empty list", []any{}, ""},
		{"an object", map[string]any{"mcp:read": true}, ""},
		{"a number", 7, ""},
		{"null, which is silence about a scope that discovery does not list", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.Scopes, w.wiki.RequiredScopes = []string{"openid", "mcp:read"}, []string{"mcp:read"}
			})
			w.idp.Be(issuertest.Behaviour{Answer: map[string]any{"scope": c.v}})
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code()))
			if got.text("scope") != c.want || (got.Status == 200) != (c.want != "") {
				t.Errorf("%d, scope %q, want %q", got.Status, got.text("scope"), c.want)
			}
		})
	}
}
