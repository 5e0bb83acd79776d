package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Each row shows how the sidecar authenticates at the provider, at a login, a refresh and a
// revocation. It depends on the label, on what the provider lists and on the characters of id and
// secret.
func TestClientAuthAtTheProvider(t *testing.T) {
	lists := func(methods ...string) map[string]any {
		return map[string]any{"token_endpoint_auth_methods_supported": methods}
	}
	both := lists("client_secret_basic", "client_secret_post")
	const plain, special = "upstream-secret-of-the-bouncer", "ab+cd/ef=="
	for _, c := range []struct {
		name, label, id, secret string
		discovery               map[string]any
		want                    string // how it comes; "public" means a client_id alone
	}{
		{"nothing is listed: Basic", "auto", "bouncer", plain, nil, "basic"},
		{"both are listed: Basic", "auto", "bouncer", plain, both, "basic"},
		{"post alone is listed", "auto", "bouncer", plain, lists("client_secret_post", "private_key_jwt"), "post"},
		{"a secret that encoding changes, and post is listed", "auto", "bouncer", special, both, "post"},
		{"an id that encoding changes, and post is listed", "auto", "https://mcp.localhost/wiki", plain, both, "post"},
		{"a secret that encoding changes, and post is not listed", "auto", "bouncer", special, lists("client_secret_basic"), "basic"},
		{"a secret that encoding changes, and nothing is listed", "auto", "bouncer", special, nil, "basic"},
		{"a secret that encoding changes, at Hydra, which decodes and is strict", "auto", "bouncer", special, both, "basic"},
		{"unreserved characters are not changed", "auto", "a.b-c_d~1", "A.b-c_d~1", both, "basic"},
		{"the label says post", "post", "bouncer", plain, lists("client_secret_basic"), "post"},
		{"the label says basic", "basic", "bouncer", special, lists("client_secret_post"), "basic"},
		{"no secret", "auto", "bouncer", "", both, "public"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, &issuertest.Options{ClientID: c.id, ClientSecret: c.secret, Public: c.secret == ""}, func(w *world) { w.wiki.ClientAuth = c.label })
			b := issuertest.Behaviour{Discovery: c.discovery, AcceptOnly: c.want, Revocation: true}
			if c.want == "public" {
				b.AcceptOnly = "post"
			}
			if strings.Contains(c.name, "Hydra") {
				b.Endpoints = map[string]string{"/authorize": "/oauth2/auth", "/token": "/oauth2/token", "/keys": "/.well-known/jwks.json"}
			}
			w.idp.Be(b)
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			w.clock.Add(time.Hour)
			token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
			a.revoke(url.Values{"token": {token}})
			if form := w.idp.LastPost(); (form.Get("client_id") != "") != (c.want != "basic") || (form.Get("client_secret") != "") != (c.want == "post") || form.Has("client_assertion") {
				t.Errorf("%v", form)
			}
			if len(w.idp.Revoked()) != 1 {
				t.Error("not revoked there")
			}
			if log := w.log.String(); c.secret != "" && strings.Contains(log, c.secret) {
				t.Errorf("the secret is logged: %s", log)
			}
		})
	}
}

// With private_key_jwt there is no secret: the sidecar signs, and the provider reads the key at an
// address of the sidecar. The provider here verifies nothing; deploy/e2e tests that a real one
// accepts it.
func TestClientKeyAtTheProvider(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.ClientAuth, w.wiki.ClientSecret = "private_key_jwt", ""
	})
	be := issuertest.Behaviour{AcceptOnly: "private_key_jwt", Revocation: true, Discovery: map[string]any{"token_endpoint_auth_signing_alg_values_supported": []string{"RS256", "ES256"}}}
	w.idp.Be(be)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	login := w.idp.LastPost()
	w.clock.Add(time.Hour)
	token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	refresh := w.idp.LastPost()
	be.LoseResponses, be.Refresh = 1, "static"
	w.idp.Be(be)
	w.clock.Add(time.Hour)
	token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	lost := w.idp.LastPost()
	a.revoke(url.Values{"token": {token}})

	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(w.get(a.base+"/oauth/client-jwks.json").wants(t, 200, "").Body), &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%v: %v", set, err)
	}
	if k := set.Keys[0]; !k.IsPublic() || k.Algorithm != "ES256" || k.Use != "sig" || len(k.KeyID) != 16 {
		t.Errorf("%+v", k)
	}
	for i, form := range []url.Values{login, refresh, lost} {
		if form.Get("client_id") != "bouncer" || form.Has("client_secret") || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			t.Errorf("%v", form)
		}
		token, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Iss string `json:"iss"`
			Sub string `json:"sub"`
			Jti string `json:"jti"`
			Aud any    `json:"aud"` // one text: Keycloak refuses a list of several
			Iat int64  `json:"iat"`
			Exp int64  `json:"exp"`
		}
		if err := token.Claims(set.Keys[0], &claims); err != nil || token.Headers[0].KeyID != set.Keys[0].KeyID {
			t.Fatal(err)
		}
		at := issuertest.Start.Add(time.Duration(i) * time.Hour).Unix()
		if claims.Iss != "bouncer" || claims.Sub != "bouncer" || claims.Aud != w.idp.Issuer || claims.Iat != at-25 || claims.Exp != at+30 || len(claims.Jti) != 22 {
			t.Errorf("%+v", claims)
		}
	}
	if seen := w.idp.Assertions(); len(seen) != 5 || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != 5 {
		t.Errorf("%d assertions: each request, also one that is sent again and a revocation, has its own", len(seen))
	}
	// This key is not a key of access tokens, and signs none.
	var jwks jose.JSONWebKeySet
	json.Unmarshal([]byte(w.get(a.base+"/oauth/jwks.json").Body), &jwks)
	for _, k := range jwks.Keys {
		if k.Algorithm != "EdDSA" || k.KeyID == set.Keys[0].KeyID {
			t.Errorf("%+v stands among the keys of access tokens", k)
		}
	}
	header, _, _ := strings.Cut(a.login().text("access_token"), ".")
	if text, _ := base64.RawURLEncoding.DecodeString(header); strings.Contains(string(text), set.Keys[0].KeyID) {
		t.Errorf("an access token is signed with it: %s", text)
	}
	who := linesOf(t, w.log.String(), "who may come in")
	if len(who) != 1 || who[0]["JWKS URL to register at the provider"] != a.base+"/oauth/client-jwks.json" || len(linesOf(t, w.log.String(), "nobody can log in: there is no client secret for the provider")) != 0 {
		t.Errorf("%v", who)
	}
	if log := w.log.String(); strings.Contains(log, login.Get("client_assertion")) {
		t.Errorf("the assertion is logged: %s", log)
	}
}

// Traefik loads new labels while the sidecar runs. The log then says, as at a start, what must be
// registered at the provider, and that this provider accepts no such key.
func TestKeyInPlaceOfASecretIsAnnounced(t *testing.T) {
	for _, c := range []struct {
		name       string
		algorithms []string
		refused    int
	}{
		{"a provider that lists nothing", nil, 0},
		{"one that takes ES256", []string{"RS256", "ES256"}, 0},
		{"Entra ID", []string{"RS256", "PS256"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			if c.algorithms != nil {
				w.idp.Be(issuertest.Behaviour{Discovery: map[string]any{"token_endpoint_auth_signing_alg_values_supported": c.algorithms}})
			}
			keys := w.wiki.PublicURL + "/oauth/jwks.json"
			w.get(keys).wants(t, 200, "")
			after := w.wiki
			after.ClientAuth, after.ClientSecret = "private_key_jwt", ""
			w.net = &issuertest.Internet{}
			w.serve(after)
			w.get(keys).wants(t, 200, "")
			who := linesOf(t, w.log.String(), "who may come in")
			if len(who) != 2 || who[1]["JWKS URL to register at the provider"] != w.wiki.PublicURL+"/oauth/client-jwks.json" {
				t.Errorf("%v", who)
			}
			if lines := linesOf(t, w.log.String(), "nobody can log in: the client cannot prove itself at the provider"); len(lines) != c.refused {
				t.Errorf("%v", lines)
			}
		})
	}
}

// Hydra requires the address of its token endpoint in aud.
func TestAudienceOfAnAssertionAtHydra(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.ClientAuth, w.wiki.ClientSecret = "private_key_jwt", "" })
	w.idp.Be(issuertest.Behaviour{AcceptOnly: "private_key_jwt", Endpoints: map[string]string{
		"/authorize": "/oauth2/auth", "/token": "/oauth2/token", "/keys": "/.well-known/jwks.json"}})
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
	token, err := jwt.ParseSigned(w.idp.LastPost().Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
	var claims map[string]any
	if err != nil || token.UnsafeClaimsWithoutVerification(&claims) != nil || claims["aud"] != w.idp.Issuer+"/oauth2/token" {
		t.Errorf("%v, %v", claims, err)
	}
}

// The discovery document may spell an address differently than a request does.
func TestAssertionAtAnAddressThatIsSpeltOddly(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.ClientAuth, w.wiki.ClientSecret, w.wiki.UpstreamCheckInterval = "private_key_jwt", "", 0
		w.guarded("memory")
	})
	odd := strings.Replace(w.idp.Issuer, "http://", "HTTP://", 1)
	w.idp.Be(issuertest.Behaviour{AcceptOnly: "private_key_jwt", Revocation: true, Discovery: map[string]any{"token_endpoint": odd + "/token?a=ü", "revocation_endpoint": odd + "/revoke?a=ü"}})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.token(a.refreshment(a.login().text("refresh_token"))).wants(t, 200, "").text("refresh_token")
	a.revoke(url.Values{"token": {token}}).wants(t, 200, "")
	if n := w.logged("has not been revoked"); n != 0 || len(w.idp.Revoked()) != 1 {
		t.Errorf("it was not revoked at the provider: %s", w.log)
	}
}

// When the ring turns, a provider that reads the address knows the new key before that key signs.
func TestClientsKeyTurnsWithTheRing(t *testing.T) {
	kids := func(masters string) (published []string, signs string) {
		w := newWorld(t, nil, func(w *world) {
			w.wiki.ClientAuth, w.wiki.ClientSecret, w.masters = "private_key_jwt", "", []string{masters}
			w.wiki.ProviderIssuer = "https://sso.example"
			w.config = func(c *issuer.Config) { c.Background = func(func()) {} }
		})
		var set jose.JSONWebKeySet
		json.Unmarshal([]byte(w.get(w.wiki.PublicURL+"/oauth/client-jwks.json").wants(t, 200, "").Body), &set)
		for _, k := range set.Keys {
			published = append(published, k.KeyID)
		}
		return published, published[0]
	}
	_, old := kids(masterOne)
	step1, signs1 := kids(masterOne + "," + masterTwo)
	step2, signs2 := kids(masterTwo + "," + masterOne)
	if len(step1) != 2 || signs1 != old || signs2 == old || !slices.Contains(step1, signs2) || !slices.Contains(step2, old) {
		t.Errorf("%q; %q, %q", old, step1, step2)
	}
}

// A client without a key has no document of keys.
func TestClientKeysNeedTheLabel(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.get(w.wiki.PublicURL+"/oauth/client-jwks.json").wants(t, 404, "not_found")
}

// What does not fit is named in the log: when the tenant is first seen, and with the provider's
// refusal.
func TestClientAuthThatDoesNotFitIsNamed(t *testing.T) {
	discovery := func(member string, values ...string) issuertest.Behaviour {
		return issuertest.Behaviour{Discovery: map[string]any{member: values}}
	}
	refuses := issuertest.Behaviour{Status: 401, Error: "invalid_client"}
	for _, c := range []struct {
		name, label string
		be          issuertest.Behaviour
		atFirst     string // in the line that says who may come in, or after it
		atLogin     string
	}{
		{"a provider that wants RS256", "private_key_jwt", discovery("token_endpoint_auth_signing_alg_values_supported", "RS256", "PS256"),
			"the provider takes assertions signed with RS256, PS256, and the sidecar's key is for ES256: use a client secret there", "the provider takes assertions signed with RS256, PS256"},
		{"a provider that does not list keys", "private_key_jwt", discovery("token_endpoint_auth_methods_supported", "client_secret_basic"),
			"it does not list private_key_jwt, which clientAuth=private_key_jwt is, but client_secret_basic", ""},
		{"one that does not list post", "post", discovery("token_endpoint_auth_methods_supported", "client_secret_basic"), "it does not list client_secret_post", ""},
		{"Basic is refused", "auto", refuses, "", "had proved itself by client_secret_basic: compare the labels clientSecret and clientID with what the provider shows; if both are right"},
		{"post is refused", "post", refuses, "", "had proved itself by client_secret_post: compare the labels clientSecret and clientID with what the provider shows; if both are right"},
		{"the key is refused", "private_key_jwt", refuses, "", "had proved itself by private_key_jwt (ES256, aud ISSUER)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				if w.wiki.ClientAuth = c.label; c.label == "private_key_jwt" {
					w.wiki.ClientSecret = ""
				}
			})
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			if !strings.Contains(w.log.String(), c.atFirst) {
				t.Errorf("the log does not say %q: %s", c.atFirst, w.log)
			}
			b := issuertest.NewBrowser(t, w.net)
			p := b.Decide(b.Get(a.authorizeURL()), "allow")
			switch {
			case strings.Contains(c.name, "RS256"): // nobody is sent there in vain
				if p.Status != 500 || p.Next() != "" {
					t.Errorf("status %d, leads to %q", p.Status, p.Next())
				}
			case c.atLogin == "":
				return
			default:
				a.token(a.redemption(a.code())).wants(t, 500, "server_error")
			}
			if want := strings.ReplaceAll(c.atLogin, "ISSUER", w.idp.Issuer); !strings.Contains(w.log.String(), want) {
				t.Errorf("the log does not say %q: %s", want, w.log)
			}
		})
	}
}
