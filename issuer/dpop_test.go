package issuer_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

// newProving returns a world with that value of the label dpop.
func newProving(t *testing.T, label string, change func(*world)) *world {
	return newWorld(t, nil, func(w *world) {
		w.wiki.DPoP = label
		if change != nil {
			change(w)
		}
	})
}

// prover is a client's key, with the nonce that it knows.
type prover struct {
	*dpoptest.Key
	now   func() time.Time // the client's clock
	nonce string           // of each proof; empty: none
}

func newProver(alg string, now func() time.Time) *prover {
	return &prover{Key: dpoptest.NewKey(alg), now: now}
}

// proof makes a proof for a POST; change may alter header and claims before they are signed.
func (p *prover) proof(url string, change func(header, claims map[string]any)) string {
	header, claims := p.Header(), dpoptest.Claims("POST", url, "", p.nonce, p.now().Unix())
	if change != nil {
		change(header, claims)
	}
	return p.Sign(header, claims)
}

// learn keeps the nonce of an answer, if it has one, and says whether it had.
func (p *prover) learn(answer http.Header) bool {
	nonce := answer.Get("DPoP-Nonce")
	if nonce != "" {
		p.nonce = nonce
	}
	return nonce != ""
}

// proving gives the app a key.
func (a *app) proving(alg string) *app {
	a.prover = newProver(alg, a.w.clock.Now)
	return a
}

// by returns the same client with another key; nil: without one.
func (a *app) by(prover *prover) *app {
	other := *a
	other.prover = prover
	return &other
}

// boundTo checks that a token response is bound to the app's key, or to none if it has none.
func (a *app) boundTo(r reply) reply {
	a.w.t.Helper()
	r.wants(a.w.t, 200, "")
	want, kind := any(nil), "Bearer"
	if a.prover != nil {
		want, kind = map[string]any{"jkt": a.prover.Thumbprint()}, "DPoP"
	}
	claims := a.w.verifiedToken(a.base, r.text("access_token"), a.w.clock.Now())
	if got := claims["cnf"]; fmt.Sprint(got) != fmt.Sprint(want) || r.text("token_type") != kind {
		a.w.t.Fatalf("cnf %v, token_type %s, want %v, %s", got, r.text("token_type"), want, kind)
	}
	return r
}

// Each grant gives an access token that is bound to the key which the request proves.
func TestDPoPBindsEachGrant(t *testing.T) {
	key := ecKey()
	for name, grant := range map[string]func(w *world, a *app) (*app, url.Values){
		"code": func(w *world, a *app) (*app, url.Values) { return a, a.redemption(a.code()) },
		"refresh token": func(w *world, a *app) (*app, url.Values) {
			return a, a.refreshment(a.boundTo(a.login()).text("refresh_token"))
		},
		"client_credentials": func(w *world, _ *app) (*app, url.Values) {
			return w.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write"}, "client_secret_basic", nil), clientCredentials
		},
		"identity assertion": func(w *world, _ *app) (*app, url.Values) {
			w.relabel(func(l *labels) { l.EnterpriseIssuers = []string{w.idp.Issuer} })
			a := w.register(w.wiki.PublicURL, confidential)
			return a, url.Values{"grant_type": {jwtBearerGrant}, "assertion": {w.idp.Assertion(a.base, a.id, nil, nil)}}
		},
		"document": func(w *world, _ *app) (*app, url.Values) {
			a := w.publish(documentURL, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(key.Public())}).withKey(jose.ES256, key)
			return a, a.redemption(a.code())
		},
	} {
		for _, label := range []string{"accept", "require"} {
			for _, alg := range []string{"ES256", "EdDSA"} {
				t.Run(fmt.Sprintf("%s, %s, %s", name, label, alg), func(t *testing.T) {
					w := newProving(t, label, nil)
					first := w.register(w.wiki.PublicURL, nil).proving(alg)
					a, form := grant(w, first)
					a.prover = first.prover
					a.boundTo(a.token(form))
				})
			}
		}
	}
	for _, label := range []string{"accept", "require"} {
		t.Run("workload, "+label, func(t *testing.T) {
			w, ci := newWorkloads(t, oneRule("repository=acme/wiki => mcp:read mcp:write"), func(w *world) { w.wiki.DPoP = label })
			a := (&app{w: w, base: w.wiki.PublicURL}).proving("ES256")
			form := url.Values{"grant_type": {jwtBearerGrant}, "assertion": {workloadToken(ci, nil)}}
			send := func() reply {
				r := newRequest(t, "POST", a.base+"/oauth/token", formType, form.Encode())
				r.Header.Set("DPoP", a.prover.proof(a.base+"/oauth/token", nil))
				return w.do(r)
			}
			a.prover.learn(send().wants(t, 400, "use_dpop_nonce").Header)
			a.boundTo(send())
		})
	}
}

// While the label is off, proofs are not looked at and nothing says that they could be.
func TestDPoPIsOffByDefault(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true})
	if a.registration.JSON["dpop_bound_access_tokens"] != nil {
		t.Errorf("registered %s", a.registration.Body)
	}
	code := a.code("dpop_jkt", "not a thumbprint")
	r := a.tokenRequest(a.redemption(code))
	r.Header["Dpop"] = []string{"not a proof", "nor this"}
	got := a.boundTo(w.do(r))
	if got.Header.Get("DPoP-Nonce") != "" {
		t.Errorf("headers %v", got.Header)
	}
	for _, document := range []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp"} {
		if body := w.get(w.wiki.PublicURL + document).Body; strings.Contains(body, "dpop") {
			t.Errorf("%s says %s", document, body)
		}
	}
}

// The metadata says what proofs may be signed with (RFC 9449 §5.1, RFC 9728 §2).
func TestDPoPInTheMetadata(t *testing.T) {
	for label, required := range map[string]any{"accept": nil, "require": true} {
		w := newProving(t, label, nil)
		server := w.get(w.wiki.PublicURL+"/.well-known/oauth-authorization-server").wants(t, 200, "").JSON
		resource := w.get(w.wiki.PublicURL+"/.well-known/oauth-protected-resource/mcp").wants(t, 200, "").JSON
		for name, document := range map[string]map[string]any{"server": server, "resource": resource} {
			if algs := document["dpop_signing_alg_values_supported"]; fmt.Sprint(algs) != "[ES256 EdDSA]" {
				t.Errorf("%s, %s: %v", label, name, algs)
			}
		}
		if got := resource["dpop_bound_access_tokens_required"]; got != required {
			t.Errorf("%s: required %v", label, got)
		}
	}
}

// What the token endpoint refuses. The proofs of each row are good but for what the row says, and
// the log says the cause.
func TestDPoPHostileTokenRequests(t *testing.T) {
	const elsewhere = "https://elsewhere.example/wiki/oauth/token"
	for _, c := range []struct {
		name   string
		label  string
		send   func(w *world, a *app, r *http.Request)
		status int
		code   string
		cause  string // in the log
		event  string
	}{
		{"no proof", "require", func(_ *world, _ *app, r *http.Request) { r.Header.Del("DPoP") }, 400, "invalid_dpop_proof", "the label dpop is require", "proof.refused"},
		{"no nonce", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { delete(claims, "nonce") })
		},
			400, "use_dpop_nonce", dpop.ErrNoNonce.Error(), "nonce.asked"},
		{"an old nonce", "accept", func(w *world, a *app, r *http.Request) {
			w.clock.Add(5*time.Minute + time.Second)
			a.proof(r, nil)
		}, 400, "use_dpop_nonce", dpop.ErrNonceOld.Error(), "nonce.asked"},
		{"a nonce of another server", "accept", func(w *world, a *app, r *http.Request) {
			a.prover.nonce = w.otherNonce()
			a.proof(r, nil)
		}, 400, "use_dpop_nonce", dpop.ErrNonce.Error(), "nonce.asked"},
		{"an invented nonce", "accept", func(_ *world, a *app, r *http.Request) {
			a.prover.nonce = "an-invented-nonce"
			a.proof(r, nil)
		}, 400, "use_dpop_nonce", dpop.ErrNonce.Error(), "nonce.asked"},
		{"two headers", "accept", func(_ *world, a *app, r *http.Request) {
			r.Header.Add("DPoP", a.prover.proof(a.base+"/oauth/token", nil))
		}, 400, "invalid_dpop_proof", dpop.ErrRepeated.Error(), "proof.refused"},
		{"another method", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { claims["htm"] = "GET" })
		}, 400, "invalid_dpop_proof", dpop.ErrMethod.Error(), "proof.refused"},
		{"another endpoint", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { claims["htu"] = a.base + "/oauth/revoke" })
		}, 400, "invalid_dpop_proof", dpop.ErrURL.Error() + "; its htu must be https://mcp.localhost/wiki/oauth/token", "proof.refused"},
		{"another server", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { claims["htu"] = elsewhere })
		}, 400, "invalid_dpop_proof", dpop.ErrURL.Error() + "; its htu must be https://mcp.localhost/wiki/oauth/token", "proof.refused"},
		{"another algorithm", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(header, _ map[string]any) { header["alg"] = "RS256" })
		}, 400, "invalid_dpop_proof", dpop.ErrAlgorithm.Error(), "proof.refused"},
		{"no algorithm", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(header, _ map[string]any) { header["alg"] = "none" })
		}, 400, "invalid_dpop_proof", dpop.ErrAlgorithm.Error(), "proof.refused"},
		{"another type", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(header, _ map[string]any) { header["typ"] = "jwt" })
		}, 400, "invalid_dpop_proof", dpop.ErrType.Error(), "proof.refused"},
		{"signed by another key", "accept", func(w *world, a *app, r *http.Request) {
			mine := r.Header.Get("DPoP")
			a.by(newProver("ES256", w.clock.Now)).proof(r, nil)
			other := r.Header.Get("DPoP")
			r.Header.Set("DPoP", mine[:strings.LastIndexByte(mine, '.')]+other[strings.LastIndexByte(other, '.'):])
		}, 400, "invalid_dpop_proof", dpop.ErrSignature.Error(), "proof.refused"},
		{"another tenant's proof", "accept", func(w *world, a *app, r *http.Request) {
			a.prover.nonce = w.otherNonce()
			r.Header.Set("DPoP", a.prover.proof("https://mcp.localhost/world/oauth/token", nil))
		}, 400, "invalid_dpop_proof", dpop.ErrURL.Error() + "; its htu must be https://mcp.localhost/wiki/oauth/token", "proof.refused"},
		{"a private key", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(header, _ map[string]any) { header["jwk"].(map[string]any)["d"] = "AA" })
		}, 400, "invalid_dpop_proof", dpop.ErrPrivateKey.Error(), "proof.refused"},
		{"a critical extension", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(header, _ map[string]any) { header["crit"] = []string{"b64"} })
		}, 400, "invalid_dpop_proof", dpop.ErrHeader.Error(), "proof.refused"},
		{"no jti", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { delete(claims, "jti") })
		}, 400, "invalid_dpop_proof", dpop.ErrID.Error(), "proof.refused"},
		{"a proof that is too long", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { claims["x"] = strings.Repeat("x", 4<<10) })
		}, 400, "invalid_dpop_proof", dpop.ErrTooLong.Error(), "proof.refused"},
		{"not a proof", "accept", func(_ *world, _ *app, r *http.Request) { r.Header.Set("DPoP", "x") }, 400, "invalid_dpop_proof", dpop.ErrMalformed.Error(), "proof.refused"},
		{"an empty header", "accept", func(_ *world, _ *app, r *http.Request) { r.Header.Set("DPoP", "") }, 400, "invalid_dpop_proof", dpop.ErrMalformed.Error(), "proof.refused"},
		{"nothing wrong", "accept", func(_ *world, a *app, r *http.Request) { a.proof(r, nil) }, 200, "", "", ""},
		{"a clock that is a day wrong", "accept", func(_ *world, a *app, r *http.Request) {
			a.proof(r, func(_, claims map[string]any) { claims["iat"] = claims["iat"].(int64) - 86400 })
		}, 200, "", "", ""},
	} {
		for _, grant := range []string{"code", "refresh token"} {
			t.Run(c.name+", "+grant, func(t *testing.T) {
				w := newProving(t, c.label, func(w *world) { w.guarded("memory") })
				a := w.register(w.wiki.PublicURL, nil).proving("ES256")
				token := a.boundTo(a.login()).text("refresh_token")
				form := a.refreshment(token)
				if grant == "code" {
					form = a.redemption(a.code())
				}
				r := a.tokenRequest(form)
				posts, nonce := w.idp.Posts(), a.prover.nonce
				c.send(w, a, r)
				got := w.do(r).wants(t, c.status, c.code)
				if c.code == "" {
					a.boundTo(got)
					return
				}
				if got.Header.Get("DPoP-Nonce") == "" || got.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("headers %v", got.Header)
				}
				if lines := eventsOf(t, w.log.String(), c.event); len(lines) == 0 || !strings.Contains(fmt.Sprint(lines[len(lines)-1]["cause"]), c.cause) {
					t.Errorf("the log says %v, want %q", lines, c.cause)
				}
				if strings.Contains(w.log.String(), nonce) {
					t.Error("the log has a nonce")
				}
				// Nothing was used up.
				if n := w.idp.Posts() - posts; n != 0 {
					t.Errorf("the provider was asked %d times", n)
				}
				a.boundTo(a.token(form))
			})
		}
	}
}

// proof replaces the proof of a token request.
func (a *app) proof(r *http.Request, change func(header, claims map[string]any)) {
	r.Header.Set("DPoP", a.prover.proof(a.base+"/oauth/token", change))
}

// otherNonce returns a nonce that another tenant of the sidecar has just made.
func (w *world) otherNonce() string {
	w.t.Helper()
	other := w.tenant("https://mcp.localhost/world")
	other.DPoP = "require"
	w.serve(other)
	return w.nonce(w.register(other.PublicURL, nil))
}

// nonce returns one that the app's server has just made.
func (w *world) nonce(a *app) string {
	w.t.Helper()
	got := w.do(a.by(newProver("ES256", w.clock.Now)).tokenRequest(a.refreshment("x"))).wants(w.t, 400, "use_dpop_nonce")
	return got.Header.Get("DPoP-Nonce")
}

// A stolen refresh token of a public client is worth nothing without its key. Whoever tries uses
// nothing up, is not taken for the client that comes a second time, and is seen.
func TestDPoPStolenRefreshToken(t *testing.T) {
	for _, guard := range []string{"none", "memory", "shared"} {
		for provider := range refreshProviders {
			for _, thief := range []string{"without a key", "with another key"} {
				t.Run(fmt.Sprintf("%s, guard %s, provider %s", thief, guard, provider), func(t *testing.T) {
					w := newProving(t, "accept", func(w *world) { w.guarded(guard) })
					w.idp.Be(refreshProviders[provider])
					a := w.register(w.wiki.PublicURL, nil).proving("EdDSA")
					old := a.boundTo(a.login()).text("refresh_token")
					w.clock.Add(time.Hour)
					token := a.boundTo(a.token(a.refreshment(old))).text("refresh_token")
					w.clock.Add(2 * time.Hour)
					stolen, code := a.by(nil), "invalid_dpop_proof"
					if thief == "with another key" {
						stolen, code = a.by(newProver("EdDSA", w.clock.Now)), "invalid_grant"
					}
					asked := w.idp.Refreshes()
					for _, one := range []string{token, old, token} {
						stolen.token(stolen.refreshment(one)).wants(t, 400, code)
					}
					if n := w.idp.Refreshes() - asked; n != 0 {
						t.Errorf("the provider was asked %d times", n)
					}
					if lines := eventsOf(t, w.log.String(), "binding.broken"); len(lines) != 3 || lines[0]["family"] == nil || lines[0]["level"] != "WARN" {
						t.Errorf("the log has %v", lines)
					}
					if lines := eventsOf(t, w.log.String(), "login.ended"); len(lines) != 0 {
						t.Errorf("a login ended: %v", lines)
					}
					a.boundTo(a.token(a.refreshment(token)))
				})
			}
		}
	}
}

// A JWT that is bound to a key by its issuer counts for whoever proves that key.
func TestDPoPAssertionsThatAreBound(t *testing.T) {
	for _, c := range []struct {
		name, label string
		cnf         func(mine string) map[string]any
		proves      bool
		ok          bool
	}{
		{"the key that the request proves", "accept", func(mine string) map[string]any { return map[string]any{"jkt": mine} }, true, true},
		{"the same, and the request proves none", "accept", func(mine string) map[string]any { return map[string]any{"jkt": mine} }, false, false},
		{"the same, while the label is off", "off", func(mine string) map[string]any { return map[string]any{"jkt": mine} }, true, false},
		{"another key", "accept", func(string) map[string]any { return map[string]any{"jkt": newProver("ES256", nil).Thumbprint()} }, true, false},
		{"the key, and something that is not known", "accept", func(mine string) map[string]any { return map[string]any{"jkt": mine, "x5t#S256": "x"} }, true, false},
		{"an empty thumbprint, and the request proves no key", "accept", func(string) map[string]any { return map[string]any{"jkt": ""} }, false, false},
		{"nothing", "accept", func(string) map[string]any { return map[string]any{} }, true, false},
	} {
		check := func(t *testing.T, w *world, got reply) {
			t.Helper()
			if c.ok {
				got.wants(t, 200, "")
				return
			}
			got.wants(t, 400, "invalid_grant")
			if !strings.Contains(w.log.last(), "it is bound to a key (cnf)") {
				t.Errorf("the log says %s", w.log.last())
			}
		}
		t.Run("assertion, "+c.name, func(t *testing.T) {
			w := newProving(t, c.label, nil)
			w.relabel(func(l *labels) { l.EnterpriseIssuers = []string{w.idp.Issuer} })
			a := w.register(w.wiki.PublicURL, confidential)
			key := newProver("ES256", w.clock.Now)
			if c.proves {
				a.prover = key
			}
			check(t, w, a.redeem(w.idp.Assertion(a.base, a.id, map[string]any{"cnf": c.cnf(key.Thumbprint())}, nil)))
		})
		t.Run("workload, "+c.name, func(t *testing.T) {
			w, ci := newWorkloads(t, oneRule("repository=acme/wiki => mcp:read mcp:write"), func(w *world) { w.wiki.DPoP = c.label })
			key := newProver("ES256", w.clock.Now)
			form := url.Values{"grant_type": {jwtBearerGrant}, "assertion": {workloadToken(ci, map[string]any{"cnf": c.cnf(key.Thumbprint())})}}
			send := func() reply {
				r := newRequest(t, "POST", w.wiki.PublicURL+"/oauth/token", formType, form.Encode())
				if c.proves {
					r.Header.Set("DPoP", key.proof(w.wiki.PublicURL+"/oauth/token", nil))
				}
				return w.do(r)
			}
			got := send()
			if key.learn(got.Header) && got.text("error") == "use_dpop_nonce" {
				got = send()
			}
			check(t, w, got)
		})
	}
}

// Who else than a public client is bound to what.
func TestDPoPRefreshTokensAreBoundWhereTheClientIsPublic(t *testing.T) {
	key := ecKey()
	both := map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(key.Public())}
	for _, c := range []struct {
		name  string
		make  func(w *world) *app
		bound bool
	}{
		{"registered", func(w *world) *app { return w.register(w.wiki.PublicURL, nil) }, true},
		{"with a document", func(w *world) *app { return w.publish(documentURL, nil) }, true},
		{"with a document that names a key, not used", func(w *world) *app { return w.publish(documentURL, both) }, true},
		{"with a document that names a key, used", func(w *world) *app { return w.publish(documentURL, both).withKey(jose.ES256, key) }, false},
		{"with a secret", func(w *world) *app { return w.register(w.wiki.PublicURL, confidential) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newProving(t, "accept", nil)
			a := c.make(w).proving("ES256")
			token := a.boundTo(a.login()).text("refresh_token")
			other, none := a.by(newProver("ES256", w.clock.Now)), a.by(nil)
			if c.bound {
				other.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
				none.token(a.refreshment(token)).wants(t, 400, "invalid_dpop_proof")
				a.boundTo(a.token(a.refreshment(token)))
				return
			}
			other.boundTo(other.token(a.refreshment(token)))
			none.boundTo(none.token(a.refreshment(token)))
		})
	}
}

// A code whose request named a key (dpop_jkt, RFC 9449 §10) is redeemed by that key alone.
func TestDPoPCodeForAKey(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			w := newProving(t, "accept", func(w *world) { w.wiki.Exchange = exchange })
			a := w.register(w.wiki.PublicURL, nil).proving("ES256")
			code := a.code("dpop_jkt", a.prover.Thumbprint())
			other := a.by(newProver("ES256", w.clock.Now))
			other.token(a.redemption(code)).wants(t, 400, "invalid_grant")
			a.by(nil).token(a.redemption(code)).wants(t, 400, "invalid_dpop_proof")
			if lines := eventsOf(t, w.log.String(), "binding.broken"); len(lines) != 2 {
				t.Errorf("the log has %v", lines)
			}
			a.boundTo(a.token(a.redemption(code)))
		})
	}
	w := newProving(t, "accept", nil)
	a := w.register(w.wiki.PublicURL, nil)
	good := newProver("ES256", nil).Thumbprint()
	for name, jkt := range map[string]string{
		"too short": good[:42], "too long": good + "A", "another alphabet": "+" + good[1:], "bits behind the end": good[:42] + "B",
		"a line break": good[:42] + "\n", "words": "my key",
	} {
		back, err := url.Parse(a.page("dpop_jkt", jkt).Link())
		if err != nil || back.Query().Get("error") != "invalid_request" || !strings.Contains(back.Query().Get("error_description"), "dpop_jkt") {
			t.Errorf("%s: %v, %v", name, back, err)
		}
	}
}

// A client that registers that it always proves a key (RFC 9449 §5.2) gets nothing without a proof.
func TestDPoPClientThatAlwaysProves(t *testing.T) {
	for name, make := range map[string]func(w *world) *app{
		"registered": func(w *world) *app {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true})
			if a.registration.JSON["dpop_bound_access_tokens"] != true {
				w.t.Errorf("registered %s", a.registration.Body)
			}
			return a
		},
		"with a document": func(w *world) *app {
			return w.publish(documentURL, map[string]any{"dpop_bound_access_tokens": true})
		},
		"made by the operator": func(w *world) *app {
			info, err := issuer.RegisterClient(newRing(w.t, masterOne), w.id(w.wiki), nil, issuer.ClientMetadata{RedirectURIs: []string{callback}, TokenEndpointAuthMethod: "none", DPoPBound: true}, w.clock.Now())
			if err != nil {
				w.t.Fatal(err)
			}
			return &app{w: w, base: w.wiki.PublicURL, id: info.ClientID, redirect: callback, verifier: newVerifier(), state: "client-state"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newProving(t, "accept", nil)
			a := make(w)
			code := a.code()
			a.token(a.redemption(code)).wants(t, 400, "invalid_dpop_proof")
			if !strings.Contains(w.log.last(), "dpop_bound_access_tokens") {
				t.Errorf("the log says %s", w.log.last())
			}
			a.proving("ES256")
			token := a.boundTo(a.token(a.redemption(code))).text("refresh_token")
			a.boundTo(a.token(a.refreshment(token)))
		})
	}
	w := newProving(t, "accept", nil)
	w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", `{"redirect_uris":["`+callback+`"],"dpop_bound_access_tokens":"yes"}`)).wants(t, 400, "invalid_client_metadata")
	// Not a boolean, so it was not said.
	a := w.publish(documentURL, map[string]any{"dpop_bound_access_tokens": "true"})
	a.boundTo(a.login())
}

// What becomes of logins in flight when the label changes.
func TestDPoPLabelChangesWithLoginsInFlight(t *testing.T) {
	for _, c := range []struct {
		before, after string
		bound         bool   // the login began with a proof
		proof         bool   // the refresh brings one
		want          string // "DPoP", "Bearer" or an error
	}{
		{"off", "accept", false, false, "Bearer"},
		{"off", "accept", false, true, "DPoP"},
		{"off", "require", false, false, "invalid_dpop_proof"},
		{"off", "require", false, true, "DPoP"},
		{"accept", "require", false, false, "invalid_dpop_proof"},
		{"accept", "require", false, true, "DPoP"},
		{"accept", "require", true, true, "DPoP"},
		{"accept", "require", true, false, "invalid_dpop_proof"},
		{"accept", "off", false, false, "Bearer"},
		{"accept", "off", false, true, "Bearer"},
		{"accept", "off", true, false, "invalid_grant"},
		{"accept", "off", true, true, "invalid_grant"},
		{"require", "off", true, true, "invalid_grant"},
		{"require", "off", true, false, "invalid_grant"},
		{"require", "accept", true, true, "DPoP"},
		{"require", "accept", true, false, "invalid_dpop_proof"},
	} {
		t.Run(fmt.Sprintf("%s to %s, bound %v, proof %v", c.before, c.after, c.bound, c.proof), func(t *testing.T) {
			w := newProving(t, c.before, func(w *world) { w.guarded("memory") })
			a := w.register(w.wiki.PublicURL, nil).proving("ES256")
			begin := a
			if !c.bound {
				begin = a.by(nil)
			}
			token := begin.boundTo(begin.login()).text("refresh_token")
			code := begin.code()
			if c.bound {
				code = begin.code("dpop_jkt", begin.prover.Thumbprint())
			}
			w.relabel(func(l *labels) { l.DPoP = c.after })
			if !c.proof {
				a = a.by(nil)
			}
			for name, form := range map[string]url.Values{"refresh token": a.refreshment(token), "code": a.redemption(code)} {
				got := a.token(form)
				if got.Status != 200 {
					got.wants(t, 400, c.want)
				} else if got.text("token_type") != c.want {
					t.Errorf("%s: %s, want %s", name, got.text("token_type"), c.want)
				}
				if c.want == "invalid_grant" && !strings.Contains(w.log.last(), "the label dpop is off") {
					t.Errorf("%s: the log says %s", name, w.log.last())
				}
				if c.want == "DPoP" { // it is bound from here on, whatever it was
					next := a.refreshment(got.text("refresh_token"))
					a.by(nil).token(next).wants(t, 400, "invalid_dpop_proof")
					a.boundTo(a.token(next))
				}
			}
			// Nobody is logged out for good: the label back, everything goes on.
			if c.want == "invalid_grant" {
				w.relabel(func(l *labels) { l.DPoP = "accept" })
				begin.boundTo(begin.token(begin.refreshment(token)))
			}
		})
	}
}

// A refresh token from before the label is used by its client with a proof, and by a thief who has
// an old copy.
func TestDPoPOldCopyOfAnUnboundRefreshToken(t *testing.T) {
	setUp := func(t *testing.T, guard string) (w *world, owner, thief *app, token string) {
		w = newProving(t, "accept", func(w *world) { w.guarded(guard) })
		a := w.register(w.wiki.PublicURL, nil)
		return w, a.by(newProver("ES256", w.clock.Now)), a.by(newProver("ES256", w.clock.Now)), a.boundTo(a.login()).text("refresh_token")
	}
	t.Run("within the minute the thief gets nothing, and the client goes on", func(t *testing.T) {
		w, owner, thief, token := setUp(t, "memory")
		next := owner.boundTo(owner.token(owner.refreshment(token))).text("refresh_token")
		thief.token(thief.refreshment(token)).wants(t, 400, "invalid_grant")
		thief.by(nil).token(thief.refreshment(token)).wants(t, 400, "invalid_dpop_proof")
		again := owner.boundTo(owner.token(owner.refreshment(token))) // an answer that was lost
		if again.text("refresh_token") != next {
			t.Error("another refresh token for the same one")
		}
		owner.boundTo(owner.token(owner.refreshment(next)))
		if lines := eventsOf(t, w.log.String(), "login.ended"); len(lines) != 0 {
			t.Errorf("a login ended: %v", lines)
		}
	})
	t.Run("later the login ends", func(t *testing.T) {
		w, owner, thief, token := setUp(t, "memory")
		next := owner.boundTo(owner.token(owner.refreshment(token))).text("refresh_token")
		w.clock.Add(2 * time.Minute)
		thief.token(thief.refreshment(token)).wants(t, 400, "invalid_grant")
		owner.token(owner.refreshment(next)).wants(t, 400, "invalid_grant")
	})
	t.Run("whose check is due, at the same moment", func(t *testing.T) {
		w, owner, thief, token := setUp(t, "none")
		w.clock.Add(time.Hour)
		owner.boundTo(owner.token(owner.refreshment(token)))
		thief.token(thief.refreshment(token)).wants(t, 400, "invalid_grant")
	})
}

// While nobody can be asked about a login its refresh token stays as it is. So somebody who tries a
// copy of it with a key, at the same moment, binds nothing and keeps nobody out.
func TestDPoPOldCopyWhileTheProviderIsAway(t *testing.T) {
	for _, guard := range []string{"none", "memory"} {
		t.Run("guard "+guard, func(t *testing.T) {
			var away atomic.Bool
			asked, release := make(chan struct{}, 9), make(chan struct{})
			w := newProving(t, "accept", func(w *world) {
				w.guarded(guard)
				guarded, next := w.config, w.idp.Transport
				w.config = func(c *issuer.Config) {
					guarded(c)
					c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
						if r.URL.Path != "/token" || !away.Load() {
							return next.RoundTrip(r)
						}
						asked <- struct{}{}
						<-release
						return nil, errors.New("away")
					})
				}
			})
			owner := w.register(w.wiki.PublicURL, nil)
			token := owner.boundTo(owner.login()).text("refresh_token")
			w.clock.Add(time.Hour)
			thief := owner.by(newProver("ES256", w.clock.Now))
			thief.prover.nonce = w.nonce(owner)
			away.Store(true)
			send := func(a *app) chan reply {
				done, r := make(chan reply, 1), a.tokenRequest(a.refreshment(token))
				go func() { done <- w.do(r) }()
				return done
			}
			first := send(thief)
			<-asked
			second := send(owner)
			select {
			case got := <-second:
				t.Fatalf("the second did not wait: %d %s", got.Status, got.Body)
			case <-time.After(100 * time.Millisecond):
			}
			close(release)
			thief.boundTo(<-first)
			if got := owner.boundTo(<-second); got.text("refresh_token") != token {
				t.Error("the refresh token is another one")
			}
		})
	}
}

// A whole token request that is recorded and sent again, proof and all, gets nothing that its
// sender could use.
func TestDPoPRequestThatIsSentAgain(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			w := newProving(t, "require", func(w *world) { w.guarded("memory"); w.wiki.Exchange = exchange })
			a := w.register(w.wiki.PublicURL, nil).proving("ES256")
			a.prover.nonce = w.nonce(a)
			form, proof := a.redemption(a.code()), a.prover.proof(a.base+"/oauth/token", nil)
			send := func(form url.Values) reply {
				r := a.tokenRequest(form)
				r.Header.Set("DPoP", proof)
				return w.do(r)
			}
			token := a.boundTo(send(form)).text("refresh_token")
			send(form).wants(t, 400, "invalid_grant")
			// A refresh within its minute gets the same answer, which is bound to the client's key.
			refresh := a.refreshment(token)
			first, second := a.boundTo(send(refresh)), a.boundTo(send(refresh))
			if first.text("refresh_token") != second.text("refresh_token") {
				t.Error("two refresh tokens")
			}
			w.clock.Add(2 * time.Minute)
			send(refresh).wants(t, 400, "invalid_grant")
		})
	}
}

// Nonces are made and taken by every replica, by one that has just begun, and under each hop key of
// the ring.
func TestDPoPNonces(t *testing.T) {
	t.Run("replicas", func(t *testing.T) {
		w := newProving(t, "require", func(w *world) { w.skews = []time.Duration{0, 2 * time.Minute, -2 * time.Minute} })
		a := w.register(w.wiki.PublicURL, nil).proving("ES256")
		token := a.login().text("refresh_token")
		for range 6 {
			got := w.do(a.tokenRequest(a.refreshment(token)))
			token = a.boundTo(got).text("refresh_token")
			a.prover.learn(got.Header)
		}
	})
	t.Run("a process that has just begun", func(t *testing.T) {
		w := newProving(t, "require", func(w *world) { w.restart = true })
		a := w.register(w.wiki.PublicURL, nil).proving("ES256")
		token := a.login().text("refresh_token")
		a.boundTo(w.do(a.tokenRequest(a.refreshment(token))))
	})
	t.Run("a new hop key", func(t *testing.T) {
		w := newProving(t, "require", func(w *world) { w.masters = []string{masterTwo + "," + masterOne} })
		a := w.register(w.wiki.PublicURL, nil).proving("ES256") // the plugin has the old one
		token := a.login().text("refresh_token")
		w.hopKey = newRing(t, masterTwo).HopKey()
		w.relabel(func(*labels) {})
		token = a.boundTo(w.do(a.tokenRequest(a.refreshment(token)))).text("refresh_token")
		w.clock.Add(6 * time.Minute)
		a.boundTo(a.token(a.refreshment(token)))
		w.hopKey = newRing(t, masterOne).HopKey()
		w.relabel(func(*labels) {})
	})
	t.Run("a good answer has a new one when the old one is half over", func(t *testing.T) {
		w := newProving(t, "require", nil)
		a := w.register(w.wiki.PublicURL, nil).proving("ES256")
		token := a.login().text("refresh_token")
		for _, c := range []struct {
			after time.Duration
			fresh bool
		}{{2 * time.Minute, false}, {time.Minute, true}} {
			w.clock.Add(c.after)
			got := a.boundTo(w.do(a.tokenRequest(a.refreshment(token))))
			token = got.text("refresh_token")
			if fresh := got.Header.Get("DPoP-Nonce") != ""; fresh != c.fresh {
				t.Errorf("%v later: a new nonce: %v", c.after, fresh)
			}
		}
	})
	t.Run("a client that never asks for one gets none", func(t *testing.T) {
		w := newProving(t, "accept", nil)
		a := w.register(w.wiki.PublicURL, nil)
		if got := a.boundTo(a.login()); got.Header.Get("DPoP-Nonce") != "" {
			t.Errorf("headers %v", got.Header)
		}
	})
}

// A client in a browser may send the header and read the nonce.
func TestDPoPForClientsInBrowsers(t *testing.T) {
	w := newProving(t, "require", nil)
	r := newRequest(t, "OPTIONS", w.wiki.PublicURL+"/oauth/token", "", "")
	r.Header.Set("Origin", "https://app.example")
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "dpop")
	if allowed := w.do(r).Header.Get("Access-Control-Allow-Headers"); !slices.Contains(strings.Split(strings.ToLower(allowed), ", "), "dpop") {
		t.Errorf("allowed %q", allowed)
	}
	a := w.register(w.wiki.PublicURL, nil)
	got := a.token(a.refreshment("x")).wants(t, 400, "invalid_dpop_proof")
	if exposed := got.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "DPoP-Nonce") || got.Header.Get("DPoP-Nonce") == "" {
		t.Errorf("exposed %q: %v", exposed, got.Header)
	}
}

// A bearer key works as a copy, so it is not taken where nothing else may.
func TestDPoPRequireRefusesBearerKeys(t *testing.T) {
	for label, status := range map[string]int{"off": 200, "accept": 200, "require": 400} {
		w := newProving(t, label, nil)
		key, err := issuer.CreateKey(newRing(t, masterOne), w.id(w.wiki), issuer.Machine{Subject: "ci", Scope: "mcp:read"}, 24*time.Hour, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		got := w.hop("/hop/token", url.Values{"key": {key.Key}})
		if got.Status != status || status == 400 && !strings.Contains(w.log.last(), "the label dpop is require") {
			t.Errorf("%s: %d: %s", label, got.Status, w.log.last())
		}
	}
}

// The MCP server gets no proof, so what it is told of a caller asks for none.
func TestDPoPAssertionForTheMCPServerIsNotBound(t *testing.T) {
	w := newProving(t, "require", nil)
	a := w.register(w.wiki.PublicURL, nil).proving("ES256")
	token := a.boundTo(a.login()).text("access_token")
	assertion := w.hop("/hop/assertion", url.Values{"access_token": {token}}).wants(t, 200, "").text("assertion")
	var claims map[string]any
	decodePart(t, strings.Split(assertion, ".")[1], &claims)
	if claims["sub"] != "person-1" || claims["cnf"] != nil {
		t.Errorf("claims %v", claims)
	}
}

// A client ends its login without a proof: whoever has its refresh token can do no other harm.
func TestDPoPRevocationNeedsNoProof(t *testing.T) {
	w := newProving(t, "require", func(w *world) { w.guarded("memory") })
	a := w.register(w.wiki.PublicURL, nil).proving("ES256")
	token := a.boundTo(a.login()).text("refresh_token")
	a.revoke(url.Values{"token": {token}}).wants(t, 200, "")
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
}
