package issuer_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// sign makes a good client assertion of a client with some claims changed; nil removes one.
func (a *app) sign(alg jose.SignatureAlgorithm, key *jose.JSONWebKey, typ string, changes map[string]any) string {
	a.w.t.Helper()
	now := a.w.clock.Now()
	claims := map[string]any{"iss": a.id, "sub": a.id, "aud": a.base, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": newVerifier()}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	options := &jose.SignerOptions{}
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options))
	return must(jwt.Signed(signer).Claims(claims).Serialize())
}

func (a *app) proven(form url.Values, assertion string) url.Values {
	return with(form, "client_assertion", assertion, "client_assertion_type", assertionType)
}

func keyed(key *jose.JSONWebKey, members map[string]any) map[string]any {
	all := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(key.Public())}
	for name, v := range members {
		all[name] = v
	}
	return all
}

func TestLoginWithAClientKey(t *testing.T) {
	for _, c := range []struct {
		alg jose.SignatureAlgorithm
		key *jose.JSONWebKey
	}{{jose.RS256, rsaKey()}, {jose.PS256, rsaKey()}, {jose.ES256, ecKey()}, {jose.EdDSA, edKey()}} {
		for _, where := range []string{"jwks", "jwks_uri"} {
			t.Run(string(c.alg)+", "+where, func(t *testing.T) {
				w := newWorld(t, nil, nil)
				changes := keyed(c.key, nil)
				if where == "jwks_uri" {
					const keys = "https://app.example/keys.json"
					w.docs.put(keys, 200, mustJSON(t, jwks(c.key.Public())))
					delete(changes, "jwks")
					changes["jwks_uri"] = keys
				}
				a := w.publish(documentURL, changes)
				got := a.token(a.proven(a.redemption(a.code()), a.sign(c.alg, c.key, "", nil))).wants(t, 200, "")
				refresh := a.refreshment(got.text("refresh_token"))
				a.token(refresh).wants(t, 401, "invalid_client") // a stolen refresh token is worth nothing without the key
				a.token(a.proven(refresh, a.sign(c.alg, c.key, "JWT", map[string]any{"aud": a.base + "/oauth/token"}))).wants(t, 200, "")
			})
		}
	}
}

// A client such as ChatGPT's prefers its key and allows to do without. Who has used it once must go on using it.
func TestAKeyThatMayBeDoneWithout(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.publish(documentURL, keyed(rsaKey(), map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}}))
	without := a.token(a.redemption(a.code())).wants(t, 200, "")
	a.token(a.refreshment(without.text("refresh_token"))).wants(t, 200, "")
	proof := func() string { return a.sign(jose.RS256, rsaKey(), "", nil) }
	proved := a.token(a.proven(a.redemption(a.code()), proof())).wants(t, 200, "")
	a.token(a.refreshment(proved.text("refresh_token"))).wants(t, 401, "invalid_client")
	a.token(a.proven(a.refreshment(proved.text("refresh_token")), proof())).wants(t, 200, "")
}

// The document is read again at the token endpoint. It must not make a login weaker than the one that was consented to.
func TestADocumentThatDropsItsKeyAfterConsent(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.restart = true }) // no replica remembers the document
	a := w.publish(documentURL, keyed(rsaKey(), nil))
	code := a.code()
	w.publish(documentURL, nil) // none
	a.token(a.redemption(code)).wants(t, 401, "invalid_client")
	posts := w.idp.Posts()
	if posts != 0 {
		t.Errorf("%d requests at the provider", posts)
	}
}

func TestClientAssertionsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.publish(documentURL, keyed(rsaKey(), nil))
	at := func(d time.Duration) int64 { return w.clock.Now().Add(d).Unix() }
	sign := func(changes map[string]any) string { return a.sign(jose.RS256, rsaKey(), "", changes) }
	other := clientKey("rsa", must(rsa.GenerateKey(rand.Reader, 2048)))
	symmetric := &jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "rsa"}
	good := sign(nil)
	parts := strings.Split(good, ".")
	code := a.code()
	form := a.redemption(code)
	for _, c := range []struct {
		name string
		form url.Values
	}{
		{"none at all", form},
		{"another issuer", a.proven(form, sign(map[string]any{"iss": "https://other.example/"}))},
		{"no issuer", a.proven(form, sign(map[string]any{"iss": nil}))},
		{"about another client", a.proven(form, sign(map[string]any{"sub": "https://other.example/client.json"}))},
		{"about nobody", a.proven(form, sign(map[string]any{"sub": nil}))},
		{"for another server", a.proven(form, sign(map[string]any{"aud": "https://mcp.localhost/world"}))},
		{"for another server as well", a.proven(form, sign(map[string]any{"aud": []string{a.base, "https://evil.example"}}))},
		{"for nobody", a.proven(form, sign(map[string]any{"aud": nil}))},
		{"expired", a.proven(form, sign(map[string]any{"exp": at(-2 * time.Minute)}))},
		{"that never expires", a.proven(form, sign(map[string]any{"exp": nil}))},
		{"that lives an hour", a.proven(form, sign(map[string]any{"exp": at(time.Hour)}))},
		{"not valid yet", a.proven(form, sign(map[string]any{"nbf": at(10 * time.Minute)}))},
		{"from the future", a.proven(form, sign(map[string]any{"iat": at(10 * time.Minute)}))},
		{"signed with another key under the same kid", a.proven(form, a.sign(jose.RS256, other, "", nil))},
		{"signed with an unknown kid", a.proven(form, a.sign(jose.RS256, clientKey("other", other.Key), "", nil))},
		{"signed with a symmetric key", a.proven(form, a.sign(jose.HS256, symmetric, "", nil))},
		{"unsigned", a.proven(form, "eyJhbGciOiJub25lIn0."+parts[1]+".")},
		{"with a changed claim", a.proven(form, parts[0]+"."+parts[1]+"A."+parts[2])},
		{"that is an access token", a.proven(form, a.sign(jose.RS256, rsaKey(), "at+jwt", nil))},
		{"of another type", with(a.proven(form, good), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")},
		{"without its type", with(a.proven(form, good), "client_assertion_type", "")},
		{"beside a secret", with(a.proven(form, good), "client_secret", "x")},
		{"of 9 KB", a.proven(form, good+strings.Repeat("A", 9<<10))},
		{"that is no JWT", a.proven(form, "x")},
	} {
		t.Run(c.name, func(t *testing.T) { a.token(c.form).wants(t, 401, "invalid_client") })
	}
	if posts := w.idp.Posts(); posts != 0 {
		t.Errorf("%d requests at the provider", posts)
	}
	a.token(a.proven(form, good)).wants(t, 200, "") // nothing of it has used the code up
}

// A client that registered here has no key: an assertion proves nothing for it.
func TestAnAssertionOfAClientWithoutAKey(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	a.token(a.proven(a.redemption(a.code()), a.sign(jose.RS256, rsaKey(), "", nil))).wants(t, 401, "invalid_client")
}

// What `mcpbouncer client create` prints is all that a client needs, at its tenant and nowhere else.
func TestPreRegisteredClients(t *testing.T) {
	w := newWorld(t, nil, nil)
	world := w.tenant("https://mcp.localhost/world")
	w.serve(world)
	a := w.register(w.wiki.PublicURL, nil)
	ring := must(sealing.ParseRing(masterOne))
	for _, method := range []string{"none", "client_secret_basic", "client_secret_post"} {
		info, err := issuer.RegisterClient(ring, tenantID(w.wiki), issuer.ClientMetadata{
			RedirectURIs: []string{callback}, TokenEndpointAuthMethod: method, ClientName: "Batch",
		}, w.clock.Now())
		if err != nil || (info.ClientSecret == "") != (method == "none") {
			t.Fatalf("%s: %v, secret of %d characters", method, err, len(info.ClientSecret))
		}
		b := *a
		b.id, b.secret, b.basic = info.ClientID, info.ClientSecret, method == "client_secret_basic"
		b.login()
		b.base = world.PublicURL
		b.token(b.refreshment("x")).wants(t, 401, "invalid_client")
	}
	if _, err := issuer.RegisterClient(ring, tenantID(w.wiki), issuer.ClientMetadata{RedirectURIs: []string{"javascript:alert(1)"}}, w.clock.Now()); err == nil {
		t.Error("a client with a script for a redirect URI")
	}
}

func tenantID(tn issuertest.Tenant) sealing.TenantID {
	return sealing.Tenant{PublicURL: tn.PublicURL, Resource: tn.Resource, Audience: tn.Audience, UpstreamIssuer: tn.ProviderIssuer,
		UpstreamClientID: tn.ClientID, Generation: uint32(tn.Generation)}.ID()
}

// Whatever stands in an assertion, the answer is a plain refusal.
func FuzzAssertion(f *testing.F) {
	w := newWorld(f, nil, nil)
	a := w.publish(documentURL, keyed(rsaKey(), nil))
	f.Add(a.sign(jose.RS256, rsaKey(), "", map[string]any{"aud": "x"}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(`{"payload":"e30","signatures":[]}`)
	f.Fuzz(func(t *testing.T, assertion string) {
		w.t = t
		if assertion == "" {
			return
		}
		a.token(a.proven(a.refreshment("x"), assertion)).wants(t, 401, "invalid_client")
	})
}
