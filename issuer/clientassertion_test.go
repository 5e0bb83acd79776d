package issuer_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertionClaims returns the claims of a good assertion.
func (a *app) assertionClaims() map[string]any {
	now := a.w.clock.Now().Unix()
	return map[string]any{"iss": a.id, "sub": a.id, "aud": a.base, "iat": now, "exp": now + 60, "jti": newVerifier()}
}

// sign makes a JWT. header is merged over alg and kid; a nil member is removed.
func sign(t testing.TB, alg jose.SignatureAlgorithm, key *jose.JSONWebKey, claims, header map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	signing := any(key)
	for name, v := range header {
		if name == "kid" && v == nil {
			signing = key.Key
			continue
		}
		options.ExtraHeaders[jose.HeaderKey(name)] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: signing}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(mustJSON(t, claims)))
	if err != nil {
		t.Fatal(err)
	}
	return must(signed.CompactSerialize())
}

// withKey makes the app authenticate with a key.
func (a *app) withKey(alg jose.SignatureAlgorithm, key *jose.JSONWebKey) *app {
	a.assertion = func() string { return sign(a.w.t, alg, key, a.assertionClaims(), nil) }
	return a
}

const keysURL = "https://app.example/jwks.json"

// Whole logins of clients with a metadata document, in each way to authenticate.
func TestLoginsOfDocuments(t *testing.T) {
	const chatGPT = "https://chatgpt.com/oauth/client.json"
	inline := func(key *jose.JSONWebKey) map[string]any {
		return map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(key.Public())}
	}
	atURL := func(more map[string]any) map[string]any {
		m := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": keysURL}
		maps.Copy(m, more)
		return m
	}
	negotiated := map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}}
	for _, c := range []struct {
		name     string
		document map[string]any
		alg      jose.SignatureAlgorithm // empty: it sends no assertion
		key      *jose.JSONWebKey
		noID     bool // RFC 7521 §4.2: the assertion names the client
		refused  bool // without a key
	}{
		{"none", nil, "", nil, false, false},
		{"no word of a method", map[string]any{"token_endpoint_auth_method": nil}, "", nil, false, false},
		{"RS256, inline", inline(rsaKey()), jose.RS256, rsaKey(), false, true},
		{"PS256, inline", inline(rsaKey()), jose.PS256, rsaKey(), false, true},
		{"ES256, inline", inline(ecKey()), jose.ES256, ecKey(), false, true},
		{"EdDSA, inline", inline(edKey()), jose.EdDSA, edKey(), false, true},
		{"RS256, at a URL", atURL(nil), jose.RS256, rsaKey(), false, true},
		{"ES256, at a URL", atURL(nil), jose.ES256, ecKey(), false, true},
		{"EdDSA, at a URL", atURL(nil), jose.EdDSA, edKey(), false, true},
		{"without client_id beside the assertion", inline(ecKey()), jose.ES256, ecKey(), true, true},
		{"negotiated, with its key", atURL(negotiated), jose.RS256, rsaKey(), false, false},
		{"negotiated, without", atURL(negotiated), "", nil, false, false},
		{"only a key in the list, whatever the preference", map[string]any{"token_endpoint_auth_method": "none", "token_endpoint_auth_methods_supported": []string{"private_key_jwt"}, "jwks": jwks(ecKey().Public())}, jose.ES256, ecKey(), false, true},
		{"a key that is in the list, and not the preference", map[string]any{"token_endpoint_auth_method": "none", "token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks": jwks(ecKey().Public())}, jose.ES256, ecKey(), false, false},
		{"a key without being asked for one: the list has both", map[string]any{"token_endpoint_auth_method": nil, "token_endpoint_auth_methods_supported": []string{"private_key_jwt", "none"}, "jwks": jwks(ecKey().Public())}, jose.ES256, ecKey(), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			id := documentURL
			w.docs.put(keysURL, 200, mustJSON(t, jwks(rsaKey().Public(), ecKey().Public(), edKey().Public())))
			a := w.publish(id, c.document)
			bare := *a
			if c.alg != "" {
				a.withKey(c.alg, c.key)
			}
			request := func(form url.Values) *http.Request {
				if !c.noID {
					return a.tokenRequest(form)
				}
				form = with(form, "client_assertion_type", assertionType, "client_assertion", a.assertion())
				return newRequest(t, "POST", a.base+"/oauth/token", formType, form.Encode())
			}
			code := a.code("resource", w.wiki.PublicURL+"/mcp", "scope", "mcp:read email")
			if c.refused {
				bare.token(bare.redemption(code)).wants(t, 401, "invalid_client")
				if w.idp.Posts() != 0 {
					t.Error("the provider was asked for a client that proved nothing")
				}
			}
			first := w.do(request(a.redemption(code))).wants(t, 200, "")
			w.checkTokens(a, first, w.wiki.PublicURL+"/mcp", "mcp:read email")
			second := w.do(request(a.refreshment(first.text("refresh_token")))).wants(t, 200, "")
			w.checkTokens(a, second, w.wiki.PublicURL+"/mcp", "mcp:read email")
			// a login that began with a key goes on with one, whatever the document allows
			if c.alg != "" {
				for _, token := range []string{first.text("refresh_token"), second.text("refresh_token")} {
					bare.token(bare.refreshment(token)).wants(t, 401, "invalid_client")
					bare.revoke(url.Values{"token": {token}}).wants(t, 401, "invalid_client")
				}
			}
			if n := w.docs.count(id); n != 1 {
				t.Errorf("%d fetches, want 1", n)
			}
		})
	}
	t.Run("ChatGPT, whose document cannot be read when it redeems", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		w.docs.put(chatGPT, 403, "")
		a := w.documentApp(chatGPT).withKey(jose.RS256, rsaKey())
		a.redirect = "https://chatgpt.com/connector_platform_oauth_redirect"
		code := a.code()
		// and not that it has no key
		a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
		w.docs.put("https://chatgpt.com/oauth/jwks.json", 200, mustJSON(t, jwks(rsaKey().Public())))
		w.docs.put(chatGPT, 200, mustJSON(t, documentMembers(chatGPT, map[string]any{
			"redirect_uris": []string{a.redirect}, "token_endpoint_auth_method": "private_key_jwt",
			"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
		})))
		a.token(a.redemption(code)).wants(t, 200, "")
	})
}

// The test breaks each rule of RFC 7523 §3 and RFC 8725 once. None of the refused requests may use
// the code up.
func TestAssertionsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.idp.Be(issuertest.Behaviour{BurnOnWrongProof: true})
	a := w.publish(documentURL, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(rsaKey().Public(), ecKey().Public())}).withKey(jose.ES256, ecKey())
	other := w.publish("https://other.example/client.json", map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(edKey().Public())}).withKey(jose.EdDSA, edKey())
	registered := w.register(w.wiki.PublicURL, nil)
	confidential := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_post"})
	now := func() int64 { return w.clock.Now().Unix() }
	claim := func(name string, v any) func() string {
		return func() string {
			claims := a.assertionClaims()
			if claims[name] = v; v == nil {
				delete(claims, name)
			}
			return sign(t, jose.ES256, ecKey(), claims, nil)
		}
	}
	at := func(name string, seconds int64) func() string {
		return func() string { return claim(name, now()+seconds)() }
	}
	header := func(name string, v any) func() string {
		return func() string { return sign(t, jose.ES256, ecKey(), a.assertionClaims(), map[string]any{name: v}) }
	}
	part := func(v any) string { return base64.RawURLEncoding.EncodeToString([]byte(mustJSON(t, v))) }
	unsigned := func(alg string) func() string {
		return func() string {
			return part(map[string]any{"alg": alg, "kid": "ec"}) + "." + part(a.assertionClaims()) + "."
		}
	}
	split := func(token string) []string { return strings.Split(token, ".") }
	for _, c := range []struct {
		name      string
		assertion func() string
		change    []string // of the form
		ok        bool
	}{
		{"a good one", claim("x", 1), nil, true},
		{"aud is the token endpoint", claim("aud", a.base+"/oauth/token"), nil, true},
		{"aud is a list of the two", claim("aud", []string{a.base, a.base + "/oauth/token"}), nil, true},
		{"no iat and no jti", func() string {
			claims := a.assertionClaims()
			delete(claims, "iat")
			delete(claims, "jti")
			return sign(t, jose.ES256, ecKey(), claims, nil)
		}, nil, true},
		{"no kid: each key of the client is tried", header("kid", nil), nil, true},
		{"typ JWT", header("typ", "JWT"), nil, true},
		{"typ of RFC 7523bis", header("typ", "client-authentication+jwt"), nil, true},
		{"expired by less than a minute", at("exp", -59), nil, true},
		{"as long as ten minutes", at("exp", 600), nil, true},

		{"another iss", claim("iss", other.id), nil, false},
		{"no iss", claim("iss", nil), nil, false},
		{"iss of another case", claim("iss", strings.Replace(a.id, "app", "APP", 1)), nil, false},
		{"another sub", claim("sub", other.id), nil, false},
		{"no sub", claim("sub", nil), nil, false},
		{"sub and iss that are no strings", claim("sub", 1), nil, false},
		{"another aud", claim("aud", "https://evil.example"), nil, false},
		{"aud of another tenant", claim("aud", "https://mcp.localhost/world"), nil, false},
		{"aud of the host", claim("aud", "https://mcp.localhost"), nil, false},
		{"aud with a slash at the end", claim("aud", a.base+"/"), nil, false},
		{"aud of another endpoint", claim("aud", a.base+"/oauth/authorize"), nil, false},
		{"no aud", claim("aud", nil), nil, false},
		{"an empty aud", claim("aud", []string{}), nil, false},
		{"aud of ours and of somebody who may have received it first", claim("aud", []string{a.base, "https://evil.example"}), nil, false},
		{"no exp", claim("exp", nil), nil, false},
		{"exp that is no number", claim("exp", "soon"), nil, false},
		{"expired by more than a minute", at("exp", -62), nil, false},
		{"a life beyond ten minutes and the clocks' allowance", at("exp", 600+300+2), nil, false},
		{"a life of years", at("exp", 1<<30), nil, false},
		{"issued in the future", at("iat", 302), nil, false},
		{"not valid before the future", at("nbf", 302), nil, false},

		{"alg none", unsigned("none"), nil, false},
		{"alg None", unsigned("None"), nil, false},
		{"alg HS256 with the public key as the secret", func() string {
			text := part(map[string]any{"alg": "HS256", "kid": "ec"}) + "." + part(a.assertionClaims())
			mac := hmac.New(sha256.New, []byte(mustJSON(t, ecKey().Public())))
			mac.Write([]byte(text))
			return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		}, nil, false},
		{"alg RS512, which is not announced", func() string { return sign(t, jose.RS512, rsaKey(), a.assertionClaims(), nil) }, nil, false},
		{"the key of another client", func() string { return sign(t, jose.EdDSA, edKey(), a.assertionClaims(), nil) }, nil, false},
		{"the key of another client under a kid of this one", func() string {
			return sign(t, jose.EdDSA, &jose.JSONWebKey{Key: edKey().Key, KeyID: "ec"}, a.assertionClaims(), nil)
		}, nil, false},
		{"the key of another client without a kid", func() string { return sign(t, jose.EdDSA, edKey(), a.assertionClaims(), map[string]any{"kid": nil}) }, nil, false},
		{"the assertion of another client", other.assertion, nil, false},
		{"a kid of another key of this client", func() string {
			return sign(t, jose.ES256, &jose.JSONWebKey{Key: ecKey().Key, KeyID: "rsa"}, a.assertionClaims(), nil)
		}, nil, false},
		{"a key in its own header", func() string {
			return sign(t, jose.EdDSA, edKey(), a.assertionClaims(), map[string]any{"kid": nil, "jwk": edKey().Public()})
		}, nil, false},
		// and it is not asked
		{"a URL of keys in its header", header("jku", "https://evil.example/jwks.json"), nil, true},
		{"a critical header that nobody knows", func() string {
			return part(map[string]any{"alg": "ES256", "kid": "ec", "crit": []string{"x"}, "x": 1}) + "." + strings.Join(split(a.assertion())[1:], ".")
		}, nil, false},
		{"no signature", func() string { return strings.Join(split(a.assertion())[:2], ".") + "." }, nil, false},
		{"the signature of other claims", func() string {
			return split(a.assertion())[0] + "." + part(a.assertionClaims()) + "." + split(a.assertion())[2]
		}, nil, false},
		{"the JSON serialisation", func() string {
			p := split(a.assertion())
			return mustJSON(t, map[string]any{"payload": p[1], "protected": p[0], "signature": p[2]})
		}, nil, false},
		{"two signatures", func() string {
			p, q := split(a.assertion()), split(other.assertion())
			return mustJSON(t, map[string]any{"payload": p[1], "signatures": []any{map[string]any{"protected": p[0], "signature": p[2]}, map[string]any{"protected": q[0], "signature": q[2]}}})
		}, nil, false},
		{"an encrypted one", func() string {
			return "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwiemlwIjoiREVGIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"
		}, nil, false},
		{"an access token's typ", header("typ", "at+jwt"), nil, false},
		{"a DPoP proof's typ", header("typ", "dpop+jwt"), nil, false},
		{"a logout token's typ, as a media type", header("typ", "application/logout+jwt"), nil, false},
		{"claims that are a list", func() string {
			p := split(a.assertion())
			return p[0] + "." + part([]int{1}) + "." + p[2]
		}, nil, false},
		{"text", func() string { return "hunter2" }, nil, false},
		{"9 KB", func() string { return claim("x", strings.Repeat("x", 9<<10))() }, nil, false},

		{"another type of assertion", a.assertion, []string{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, false},
		{"no type of assertion", a.assertion, []string{"client_assertion_type", ""}, false},
		{"a secret beside it", a.assertion, []string{"client_secret", "s"}, false},
		{"the client_id of another client beside it", a.assertion, []string{"client_id", other.id}, false},
		{"the client_id of a registered client beside it", a.assertion, []string{"client_id", registered.id}, false},
		{"the client_id of a confidential client beside it", a.assertion, []string{"client_id", confidential.id}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			code := a.code()
			before := w.idp.Posts()
			form := with(a.redemption(code), append([]string{"client_id", a.id, "client_assertion_type", assertionType, "client_assertion", c.assertion()}, c.change...)...)
			got := w.do(newRequest(t, "POST", a.base+"/oauth/token", formType, form.Encode()))
			if c.ok {
				got.wants(t, 200, "")
			} else {
				got.wants(t, 401, "invalid_client")
				if w.idp.Posts() != before {
					t.Error("the provider was asked")
				}
				a.token(a.redemption(code)).wants(t, 200, "") // nothing was used up
			}
			if w.docs.count("https://evil.example/jwks.json") != 0 {
				t.Error("a URL in a header was asked for")
			}
		})
	}
	t.Run("beside a secret in the Authorization header", func(t *testing.T) {
		w.t = t
		r := a.tokenRequest(a.redemption(a.code()))
		r.SetBasicAuth(url.QueryEscape(a.id), "s")
		if got := w.do(r).wants(t, 401, "invalid_client"); got.Header.Get("WWW-Authenticate") == "" {
			t.Error("no WWW-Authenticate for who used the Authorization header (RFC 6749 §5.2)")
		}
	})
	// An assertion in the log could be used for minutes. The test looks for more than three
	// letters, which could stand in a random jti.
	for _, bad := range []string{"eyJhbGciOi", "hunter2", "mba1_", "mbr1_"} {
		if log := w.log.String(); strings.Contains(log, bad) || !strings.Contains(log, "client_assertion: ") {
			t.Errorf("%s is in the log, or no reason is", bad)
		}
	}
}

// A key that the client has just made is found. Strangers who invent key ids make the sidecar fetch
// the set at most every 30 seconds.
func TestKeyRotation(t *testing.T) {
	for _, c := range []struct {
		name     string
		source   string
		document func(...any) map[string]any
	}{
		{"at a URL", keysURL, func(...any) map[string]any {
			return map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": keysURL}
		}},
		{"inline", documentURL, func(keys ...any) map[string]any {
			return map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(keys...)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			publish := func(keys ...any) *app {
				w.docs.put(keysURL, 200, mustJSON(t, jwks(keys...)), "Cache-Control", "max-age=86400")
				w.docs.put(documentURL, 200, mustJSON(t, documentMembers(documentURL, c.document(keys...))), "Cache-Control", "max-age=86400")
				return w.documentApp(documentURL)
			}
			a := publish(ecKey().Public()).withKey(jose.ES256, ecKey())
			token := a.login().text("refresh_token")
			refresh := func(key *jose.JSONWebKey, alg jose.SignatureAlgorithm, status int, code string, fetches int) {
				t.Helper()
				b := *a
				b.withKey(alg, key)
				b.token(b.refreshment(token)).wants(t, status, code)
				if n := w.docs.count(c.source); n != fetches {
					t.Errorf("%d fetches, want %d", n, fetches)
				}
			}
			publish(edKey().Public())
			refresh(edKey(), jose.EdDSA, 401, "invalid_client", 1) // asked for a moment ago
			refresh(ecKey(), jose.ES256, 200, "", 1)               // the old one is still known
			w.clock.Add(30 * time.Second)
			refresh(edKey(), jose.EdDSA, 200, "", 2)
			refresh(ecKey(), jose.ES256, 401, "invalid_client", 2) // withdrawn
			for range 20 {
				refresh(clientKey("invented", newEdKey()), jose.EdDSA, 401, "invalid_client", 2)
			}
			w.clock.Add(30 * time.Second)
			for range 20 {
				refresh(clientKey("invented", newEdKey()), jose.EdDSA, 401, "invalid_client", 3)
			}
			// The new key is also found if the client names no kid.
			unnamed := clientKey("", newEdKey())
			publish(edKey().Public(), unnamed.Public())
			refresh(unnamed, jose.EdDSA, 401, "invalid_client", 3)
			w.clock.Add(30 * time.Second)
			refresh(unnamed, jose.EdDSA, 200, "", 4)
			// The host is away. Known keys still work. An unknown key may be a new one, so the
			// client is not told that the key is invalid.
			w.docs.fail(c.source)
			w.clock.Add(30 * time.Second)
			for range 20 {
				refresh(clientKey("invented", newEdKey()), jose.EdDSA, 503, "temporarily_unavailable", 5)
			}
			refresh(edKey(), jose.EdDSA, 200, "", 5)
			// Asking for unknown keys again and again does not keep the last copy alive.
			for range 26 {
				w.clock.Add(time.Hour)
				b := *a
				b.withKey(jose.EdDSA, clientKey("invented", newEdKey()))
				b.token(b.refreshment(token))
			}
			b := *a
			b.withKey(jose.EdDSA, edKey())
			b.token(b.refreshment(token)).wants(t, 503, "temporarily_unavailable")
		})
	}
}

// A jwks_uri is fetched by the rules of a document; with other faults, it is not a key set.
func TestKeySetsThatCannotBeRead(t *testing.T) {
	good := mustJSON(t, jwks(ecKey().Public()))
	for _, c := range []struct {
		name   string
		host   func(*documentHosts)
		status int
		code   string
	}{
		{"a good one", func(d *documentHosts) { d.put(keysURL, 200, good) }, 200, ""},
		{"of type jwk-set+json", func(d *documentHosts) { d.put(keysURL, 200, good, "Content-Type", "application/jwk-set+json") }, 200, ""},
		{"of 32 KB", func(d *documentHosts) { d.put(keysURL, 200, good+strings.Repeat(" ", 32<<10-len(good))) }, 200, ""},
		{"beyond 32 KB", func(d *documentHosts) { d.put(keysURL, 200, good+strings.Repeat(" ", 32<<10)) }, 503, "temporarily_unavailable"},
		{"redirected", func(d *documentHosts) { d.put(keysURL, 302, "", "Location", "http://169.254.169.254/") }, 503, "temporarily_unavailable"},
		{"not to be had", func(d *documentHosts) { d.fail(keysURL) }, 503, "temporarily_unavailable"},
		{"with 500", func(d *documentHosts) { d.put(keysURL, 500, good) }, 503, "temporarily_unavailable"},
		{"withdrawn", func(d *documentHosts) { d.put(keysURL, 404, good) }, 401, "invalid_client"},
		{"with a private key", func(d *documentHosts) { d.put(keysURL, 200, mustJSON(t, jwks(ecKey()))) }, 401, "invalid_client"},
		{"with no key", func(d *documentHosts) { d.put(keysURL, 200, `{"keys":[]}`) }, 401, "invalid_client"},
		{"the document itself", func(d *documentHosts) { d.put(keysURL, 200, mustJSON(t, documentMembers(documentURL, nil))) }, 401, "invalid_client"},
		{"with an encryption key only", func(d *documentHosts) {
			key := ecKey().Public()
			key.Use = "enc"
			d.put(keysURL, 200, mustJSON(t, jwks(key)))
		}, 401, "invalid_client"},
		{"with a key for another algorithm", func(d *documentHosts) {
			key := ecKey().Public()
			key.Algorithm = "ES384"
			d.put(keysURL, 200, mustJSON(t, jwks(key)))
		}, 401, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			c.host(w.docs)
			a := w.publish(documentURL, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": keysURL}).withKey(jose.ES256, ecKey())
			code := a.code()
			a.token(a.redemption(code)).wants(t, c.status, c.code)
			if c.status != 200 {
				w.docs.put(keysURL, 200, good)
				w.clock.Add(30 * time.Second) // a set that was read is not read again at once
				a.token(a.redemption(code)).wants(t, 200, "")
			}
		})
	}
}

// The way in which a login began to authenticate holds to its end, whatever the document says
// meanwhile.
func TestDocumentThatChangesDuringALogin(t *testing.T) {
	withKey := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(ecKey().Public())}
	either := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_methods_supported": []string{"none"}, "jwks": jwks(ecKey().Public())}
	for _, c := range []struct {
		name          string
		before, after map[string]any
		redirect      string
		key           bool // the client sends an assertion
		status        int
		code          string
	}{
		{"nothing changes", nil, nil, "", false, 200, ""},
		{"the redirect URI is gone: this login had it", nil, map[string]any{"redirect_uris": []string{"https://app.example/new"}}, "", false, 200, ""},
		{"the name changes", nil, map[string]any{"client_name": "Another App"}, "", false, 200, ""},
		{"a key was demanded and no longer is: a taken-over host gains nothing", withKey, nil, "", false, 401, "invalid_client"},
		{"the same, and the client still sends its assertion", withKey, nil, "", true, 401, "invalid_client"},
		{"a key was demanded and is now a choice", withKey, either, "", false, 401, "invalid_client"},
		{"the same, with the key", withKey, either, "", true, 200, ""},
		{"the key was replaced by another", withKey, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(edKey().Public())}, "", true, 401, "invalid_client"},
		{"no key was needed and now one is", nil, withKey, "", false, 401, "invalid_client"},
		{"the same, with the key", nil, withKey, "", true, 200, ""},
		{"a choice stays one", either, either, "", false, 200, ""},
		{"it becomes no document at all: the last copy serves", nil, map[string]any{"client_id": "x"}, "", false, 200, ""},
	} {
		for _, restarted := range []bool{false, true} {
			name := c.name
			if restarted {
				name += ", on a replica that has just started"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, nil, nil)
				put := func(changes map[string]any) {
					w.docs.put(documentURL, 200, mustJSON(t, documentMembers(documentURL, changes)), "Cache-Control", "max-age=60")
				}
				put(c.before)
				a := w.documentApp(documentURL)
				if c.key {
					a.withKey(jose.ES256, ecKey())
				}
				code := a.code()
				put(c.after)
				status, want := c.status, c.code
				if restarted {
					if w.replicas = nil; c.after["client_id"] != nil {
						status, want = 401, "invalid_client" // and no copy is there
					}
				} else {
					w.clock.Add(time.Minute) // the copy is due, the code still good
				}
				a.token(a.redemption(code)).wants(t, status, want)
			})
		}
	}
	t.Run("the next login follows the document", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		a := w.publish(documentURL, nil)
		first := a.login()
		w.publish(documentURL, map[string]any{"redirect_uris": []string{"https://app.example/new"}})
		w.clock.Add(time.Hour)
		if p := a.page(); p.Status != 400 || p.Next() != "" {
			t.Errorf("the old redirect URI: status %d, leads to %q", p.Status, p.Next())
		}
		a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
	})
	t.Run("a refresh token that was earned with a key needs one", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		a := w.publish(documentURL, withKey).withKey(jose.ES256, ecKey())
		token := a.login().text("refresh_token")
		w.publish(documentURL, nil)
		w.clock.Add(time.Hour)
		bare := w.documentApp(documentURL)
		bare.token(bare.refreshment(token)).wants(t, 401, "invalid_client")
		w.docs.fail(documentURL)
		bare.token(bare.refreshment(token)).wants(t, 401, "invalid_client")
	})
}

// A document is the same client at every server, but what one server issues to it is invalid at
// another.
func TestDocumentAtTwoServers(t *testing.T) {
	w := newWorld(t, nil, nil)
	world := w.tenant("https://mcp.localhost/world")
	w.serve(world)
	a := w.publish(documentURL, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(ecKey().Public())}).withKey(jose.ES256, ecKey())
	there := *a
	there.base = world.PublicURL
	there.withKey(jose.ES256, ecKey())
	code := a.code()
	there.token(there.redemption(code)).wants(t, 400, "invalid_grant")
	first := a.token(a.redemption(code)).wants(t, 200, "")
	there.token(there.refreshment(first.text("refresh_token"))).wants(t, 400, "invalid_grant")
	form := a.tokenRequest(a.refreshment(first.text("refresh_token")))
	form.URL.Path = "/world/oauth/token" // with the assertion that was made for /wiki
	w.do(form).wants(t, 401, "invalid_client")
	other := w.publish("https://other.example/client.json", nil)
	other.verifier = a.verifier
	other.token(other.redemption(a.code())).wants(t, 400, "invalid_grant")
	there.login()
	if n := w.docs.count(documentURL); n != 1 {
		t.Errorf("%d fetches for two servers, want 1", n)
	}
}

// FuzzAssertion checks that no input yields a token or makes the sidecar fail.
func FuzzAssertion(f *testing.F) {
	w := newWorld(f, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	a := w.publish(documentURL, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(ecKey().Public(), rsaKey().Public())}).withKey(jose.ES256, ecKey())
	token := a.login().text("refresh_token")
	stolen := clientKey("ec", newEdKey())
	for _, seed := range []string{"", "a.b.c", sign(f, jose.EdDSA, stolen, a.assertionClaims(), nil), strings.Replace(a.assertion(), ".", "..", 1), `{"payload":""}`, "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed, assertionType, documentURL)
	}
	f.Fuzz(func(t *testing.T, assertion, kind, id string) {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {id}, "client_assertion_type": {kind}, "client_assertion": {assertion}}
		got := readReply(t, mustRoundTrip(t, w, newRequest(t, "POST", a.base+"/oauth/token", formType, form.Encode())))
		if got.Status != 401 && got.Status != 503 || got.text("error") == "" {
			t.Fatalf("%q of type %q for %q gave %d: %s", assertion, kind, id, got.Status, got.Body)
		}
	})
}
