package issuer_test

import (
	"encoding/base64"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

const jwtBearerGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// confidential is what a client with a secret registers.
var confidential = map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_basic", "client_name": "Test App"}

// redeem brings an identity assertion.
func (a *app) redeem(assertion string, more ...string) reply {
	a.w.t.Helper()
	return a.token(with(url.Values{"grant_type": {jwtBearerGrant}, "assertion": {assertion}}, more...))
}

// newEnterprise returns a world that believes its provider and another issuer, and that issuer.
func newEnterprise(t *testing.T, change func(*world)) (*world, *issuertest.Provider) {
	var other *issuertest.Provider
	w := newWorld(t, nil, func(w *world) {
		other = issuertest.NewProvider(t, &issuertest.Options{Now: w.clock.Now})
		w.wiki.EnterpriseIssuers = []string{w.idp.Issuer, other.Issuer}
		if change != nil {
			change(w)
		}
	})
	return w, other
}

// An assertion of the provider is about the person who logs in there; one of another issuer is
// about nobody else's.
func TestIdentityAssertionsGiveATokenForThePerson(t *testing.T) {
	key := ecKey()
	const document = "https://app.example/client.json"
	for _, c := range []struct {
		name   string
		client func(w *world) *app
	}{
		{"client_secret_basic", func(w *world) *app { return w.register(w.wiki.PublicURL, confidential) }},
		{"client_secret_post", func(w *world) *app {
			return w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_post"})
		}},
		{"private_key_jwt of a document", func(w *world) *app {
			return w.publish(document, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(key.Public())}).withKey(jose.ES256, key)
		}},
		{"made by the operator", func(w *world) *app {
			info, err := issuer.RegisterClient(newRing(t, masterOne), w.id(w.wiki), nil, issuer.ClientMetadata{RedirectURIs: []string{callback}, TokenEndpointAuthMethod: "client_secret_basic"}, w.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			return &app{w: w, base: w.wiki.PublicURL, id: info.ClientID, secret: info.ClientSecret, basic: true}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, other := newEnterprise(t, nil)
			a := c.client(w)
			login := w.register(w.wiki.PublicURL, nil).login()
			person := w.verifiedToken(w.wiki.PublicURL, login.text("access_token"), w.clock.Now())
			for _, from := range []*issuertest.Provider{w.idp, other} {
				r := a.redeem(from.Assertion(w.wiki.PublicURL, a.id, nil, nil)).wants(t, 200, "")
				claims := w.verifiedToken(w.wiki.PublicURL, r.text("access_token"), w.clock.Now())
				sub := person["sub"]
				if from == other {
					sub = other.Issuer + "|person-1"
				}
				if claims["sub"] != sub || claims["client_id"] != a.id || claims["scope"] != "mcp:read mcp:write email" || r.JSON["expires_in"] != 3600.0 ||
					!reflect.DeepEqual(claims["aud"], []any{w.wiki.Audience, w.wiki.PublicURL}) {
					t.Errorf("%s: %v", r.Body, claims)
				}
				if _, sent := r.JSON["refresh_token"]; sent {
					t.Errorf("a refresh token: %s", r.Body)
				}
			}
			redeemed := eventsOf(t, w.log.String(), "assertion.redeemed")
			issued := eventsOf(t, w.log.String(), "token.issued")
			if len(redeemed) != 2 || redeemed[0]["subject"] != issued[0]["subject"] || redeemed[1]["subject"] == issued[0]["subject"] {
				t.Errorf("the log calls them %v, and whoever logged in %v", redeemed, issued)
			}
		})
	}
}

// Each assertion that is not exactly for this client here and now is refused, and the operator's
// log says why. None of what it says reaches the client.
func TestIdentityAssertionsThatAreRefused(t *testing.T) {
	minutes := func(n int) func(w *world) any {
		return func(w *world) any { return w.clock.Now().Add(time.Duration(n) * time.Minute).Unix() }
	}
	claim := func(name string, value any) func(w *world, a *app, other *issuertest.Provider) string {
		return func(w *world, a *app, _ *issuertest.Provider) string {
			v := value
			if later, ok := value.(func(w *world) any); ok {
				v = later(w)
			}
			return w.idp.Assertion(a.base, a.id, map[string]any{name: v}, nil)
		}
	}
	header := func(name string, value any) func(w *world, a *app, other *issuertest.Provider) string {
		return func(w *world, a *app, _ *issuertest.Provider) string {
			return w.idp.Assertion(a.base, a.id, nil, map[string]any{name: value})
		}
	}
	for _, c := range []struct {
		name  string
		make  func(w *world, a *app, other *issuertest.Provider) string
		cause string
	}{
		{"no typ, as an id_token", header("typ", nil), "its typ is not oauth-id-jag+jwt"},
		{"of another typ", header("typ", "JWT"), "its typ is not"},
		{"of a typ that is no text", header("typ", 5), "its typ is not"},
		{"an access token of this server", func(w *world, a *app, _ *issuertest.Provider) string {
			return a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).text("access_token")
		}, "its typ is not"},
		{"an assertion by which a client proves itself", func(w *world, a *app, _ *issuertest.Provider) string {
			return w.idp.Assertion(a.base, a.id, nil, map[string]any{"typ": "client-authentication+jwt"})
		}, "its typ is not"},
		{"unsigned", func(w *world, a *app, _ *issuertest.Provider) string {
			_, rest, _ := strings.Cut(w.idp.Assertion(a.base, a.id, nil, nil), ".")
			payload, _, _ := strings.Cut(rest, ".")
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"oauth-id-jag+jwt"}`)) + "." + payload + "."
		}, "it has no signature"},
		{"signed with the client's secret", func(w *world, a *app, _ *issuertest.Provider) string {
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"oauth-id-jag+jwt"}`)) + ".e30.AAAA"
		}, "it is signed with HS256"},
		{"changed", func(w *world, a *app, _ *issuertest.Provider) string {
			mine := strings.Split(w.idp.Assertion(a.base, a.id, nil, nil), ".")
			theirs := strings.Split(w.idp.Assertion(a.base, a.id, map[string]any{"sub": "another"}, nil), ".")
			return mine[0] + "." + theirs[1] + "." + mine[2]
		}, "its signature does not fit"},
		{"in the name of another issuer", func(w *world, a *app, _ *issuertest.Provider) string {
			now := w.clock.Now().Unix()
			return sign(t, jose.RS256, rsaKey(), map[string]any{"iss": w.idp.Issuer, "sub": "person-1", "aud": a.base, "client_id": a.id, "jti": "1", "iat": now, "exp": now + 60},
				map[string]any{"typ": "oauth-id-jag+jwt", "kid": nil})
		}, "its signature fits no key"},
		{"of an issuer that is not believed", claim("iss", "https://elsewhere.example"), `iss is "https://elsewhere.example", which the label enterpriseIssuers does not name`},
		{"without iss", claim("iss", nil), "enterpriseIssuers does not name"},
		{"for another server", claim("aud", "https://mcp.localhost/world"), "aud is not this server alone"},
		{"for two servers", claim("aud", []string{"https://mcp.localhost/wiki", "https://mcp.localhost/world"}), "aud is not this server alone"},
		{"for the resource instead of the issuer", claim("aud", "https://mcp.localhost/wiki/mcp"), "aud is not this server alone"},
		{"for nobody", claim("aud", nil), "aud is not this server alone"},
		{"aud is a number", claim("aud", 5), "aud is a number"},
		{"of another client", claim("client_id", "https://other.example/client.json"), "client_id is another client's"},
		{"of no client", claim("client_id", nil), "client_id is missing"},
		{"for another server's resource", claim("resource", "https://mcp.localhost/world/mcp"), "resource is not one of this server"},
		{"for two resources", claim("resource", []string{"https://mcp.localhost/wiki/mcp", "https://mcp.localhost/wiki/sse"}), "resource is not one of this server"},
		{"about nobody", claim("sub", nil), "sub is missing"},
		{"a long subject", claim("sub", strings.Repeat("x", 256)), "sub is missing, or has more than 255 bytes"},
		{"without jti", claim("jti", nil), "jti is missing"},
		{"a long jti", claim("jti", strings.Repeat("x", 256)), "jti is missing, or has more"},
		{"without exp", claim("exp", nil), "exp is missing"},
		{"without iat", claim("iat", nil), "iat is missing"},
		{"expired", func(w *world, a *app, _ *issuertest.Provider) string {
			return w.idp.Assertion(a.base, a.id, map[string]any{"iat": minutes(-9)(w), "exp": minutes(-2)(w)}, nil)
		}, "it expired 120 seconds ago"},
		{"for a day", claim("exp", minutes(24*60)), "it lives 86400 seconds, and may live 600"},
		{"for more than ten minutes", func(w *world, a *app, _ *issuertest.Provider) string {
			return w.idp.Assertion(a.base, a.id, map[string]any{"exp": w.clock.Now().Unix() + 601}, nil)
		}, "it lives 601 seconds, and may live 600"},
		{"of a typ that ends so", header("typ", "x+oauth-id-jag+jwt"), "its typ is not"},
		{"with an extension that must be understood", header("crit", []string{"exp"}), "assertion: it"},
		{"with a key of its own", func(w *world, a *app, _ *issuertest.Provider) string {
			now := w.clock.Now().Unix()
			key := rsaKey()
			return sign(t, jose.RS256, key, map[string]any{"iss": w.idp.Issuer, "sub": "person-1", "aud": a.base, "client_id": a.id, "jti": "1", "iat": now, "exp": now + 60},
				map[string]any{"typ": "oauth-id-jag+jwt", "kid": nil, "jwk": key.Public(), "jku": "https://evil.example/jwks.json"})
		}, "its signature fits no key"},
		{"with an algorithm that the issuer does not name", func(w *world, a *app, other *issuertest.Provider) string {
			other.Be(issuertest.Behaviour{Discovery: map[string]any{"id_token_signing_alg_values_supported": []string{"ES256"}}})
			return other.Assertion(a.base, a.id, nil, nil)
		}, "it is signed with RS256, which is not one of the algorithms that the provider names"},
		{"for ever", claim("exp", 1e300), "it lives 10000000000 seconds"},
		{"from the future", func(w *world, a *app, _ *issuertest.Provider) string {
			return w.idp.Assertion(a.base, a.id, map[string]any{"iat": minutes(7)(w), "exp": minutes(9)(w)}, nil)
		}, "it is from the future"},
		{"not yet", claim("nbf", minutes(7)), "it is from the future"},
		{"exp is a text", claim("exp", "soon"), "exp is a string"},
		{"scope is a number", claim("scope", 5), "scope is a number"},
		{"bound to a key", claim("cnf", map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), "it is bound to a key (cnf)"},
		{"with authorization details", claim("authorization_details", []any{map[string]any{"type": "read"}}), "it has authorization_details"},
		{"garbage", func(*world, *app, *issuertest.Provider) string { return "x.y.z" }, "malformed"},
		{"encrypted", func(*world, *app, *issuertest.Provider) string { return "e30.e30.e30.e30.e30" }, "it is encrypted"},
		{"too long", func(*world, *app, *issuertest.Provider) string { return strings.Repeat("x", 17<<10) }, "longer than 16384 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, other := newEnterprise(t, nil)
			a := w.register(w.wiki.PublicURL, confidential)
			r := a.redeem(c.make(w, a, other)).wants(t, 400, "invalid_grant")
			if got := w.log.last(); !strings.Contains(got, strings.ReplaceAll(c.cause, `"`, `\"`)) || !strings.Contains(got, `"tenant":"wiki"`) || !strings.Contains(got, `"client":"`) {
				t.Errorf("the log says %s, want %q", got, c.cause)
			}
			if r.text("error_description") != "the assertion is not accepted; the server's log says why" {
				t.Errorf("the client is told %s", r.Body)
			}
		})
	}
}

// Clocks differ a little, and each form of a claim that issuers use is understood.
func TestIdentityAssertionsThatAreAccepted(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims func(w *world) map[string]any
		header map[string]any
		aud    string
	}{
		{"aud is a list of one", func(w *world) map[string]any { return map[string]any{"aud": []string{w.wiki.PublicURL}} }, nil, ""},
		{"typ as a media type", func(*world) map[string]any { return nil }, map[string]any{"typ": "application/OAuth-ID-JAG+jwt"}, ""},
		{"no kid", func(*world) map[string]any { return nil }, map[string]any{"kid": nil}, ""},
		{"for the server", func(w *world) map[string]any { return map[string]any{"resource": w.wiki.PublicURL + "/"} }, nil, ""},
		{"for its host", func(w *world) map[string]any { return map[string]any{"resource": "https://MCP.localhost:443"} }, nil, ""},
		{"for one endpoint", func(w *world) map[string]any { return map[string]any{"resource": w.wiki.PublicURL + "/mcp"} }, nil, "https://mcp.localhost/wiki/mcp"},
		{"for one endpoint in a list", func(w *world) map[string]any { return map[string]any{"resource": []string{w.wiki.PublicURL + "/mcp"}} }, nil, "https://mcp.localhost/wiki/mcp"},
		{"half a minute after it expired", func(w *world) map[string]any {
			return map[string]any{"iat": w.clock.Now().Add(-5 * time.Minute).Unix(), "exp": w.clock.Now().Add(-30 * time.Second).Unix()}
		}, nil, ""},
		{"a fraction of seconds", func(w *world) map[string]any { return map[string]any{"exp": float64(w.clock.Now().Unix()) + 60.5} }, nil, ""},
		{"ten minutes", func(w *world) map[string]any {
			return map[string]any{"exp": w.clock.Now().Add(10 * time.Minute).Unix()}
		}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := newEnterprise(t, nil)
			a := w.register(w.wiki.PublicURL, confidential)
			r := a.redeem(w.idp.Assertion(a.base, a.id, c.claims(w), c.header)).wants(t, 200, "")
			claims := w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())
			want := c.aud
			if want == "" {
				want = w.wiki.PublicURL
			}
			if !reflect.DeepEqual(claims["aud"], []any{w.wiki.Audience, want}) {
				t.Errorf("aud is %v", claims["aud"])
			}
		})
	}
}

// A copy of an assertion is worth nothing where there is a guard; without one it is worth something
// to whoever has the client's secret too, until it expires.
func TestIdentityAssertionsComeOnce(t *testing.T) {
	w, other := newEnterprise(t, func(w *world) { w.guarded("shared") })
	a := w.register(w.wiki.PublicURL, confidential)
	assertion := w.idp.Assertion(a.base, a.id, map[string]any{"jti": "one"}, nil)
	a.redeem(assertion).wants(t, 200, "")
	a.redeem(assertion).wants(t, 400, "invalid_grant")
	if !strings.Contains(w.log.last(), "its jti came before") {
		t.Errorf("the log says %s", w.log.last())
	}
	a.redeem(w.idp.Assertion(a.base, a.id, map[string]any{"jti": "two"}, nil)).wants(t, 200, "")
	a.redeem(other.Assertion(a.base, a.id, map[string]any{"jti": "one"}, nil)).wants(t, 200, "")

	w, _ = newEnterprise(t, nil)
	a = w.register(w.wiki.PublicURL, confidential)
	assertion = w.idp.Assertion(a.base, a.id, nil, nil)
	a.redeem(assertion).wants(t, 200, "")
	a.redeem(assertion).wants(t, 200, "")
	w.clock.Add(6*time.Minute + 2*time.Second)
	a.redeem(assertion).wants(t, 400, "invalid_grant")
}

// Only clients that prove themselves bring assertions, and only where the label says so.
func TestIdentityAssertionsNeedAClientThatProvesItself(t *testing.T) {
	w, _ := newEnterprise(t, nil)
	public := w.register(w.wiki.PublicURL, nil)
	public.redeem(w.idp.Assertion(public.base, public.id, nil, nil)).wants(t, 400, "unauthorized_client")
	machine := w.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write"}, "client_secret_basic", nil)
	machine.redeem(w.idp.Assertion(machine.base, machine.id, nil, nil)).wants(t, 400, "unauthorized_client")
	key := ecKey()
	either := w.publish("https://app.example/client.json", map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks": jwks(key.Public())})
	either.redeem(w.idp.Assertion(either.base, either.id, nil, nil)).wants(t, 400, "unauthorized_client")
	either.withKey(jose.ES256, key).redeem(w.idp.Assertion(either.base, either.id, nil, nil)).wants(t, 200, "")
	a := w.register(w.wiki.PublicURL, confidential)
	wrong := *a
	wrong.secret = "x"
	wrong.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 401, "invalid_client")
	a.redeem("").wants(t, 400, "invalid_request")

	w.relabel(func(l *labels) { l.EnterpriseIssuers = nil })
	a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 400, "unsupported_grant_type")
}

// The metadata names the grant exactly where it is offered: clients that do not see it do not ask.
func TestMetadataNamesAssertionsWhereTheyAreBelieved(t *testing.T) {
	w, _ := newEnterprise(t, nil)
	for _, believed := range []bool{true, false} {
		if !believed {
			w.relabel(func(l *labels) { l.EnterpriseIssuers = nil })
		}
		m := w.get("https://mcp.localhost/.well-known/oauth-authorization-server/wiki").wants(t, 200, "").JSON
		grants := slices.Contains(m["grant_types_supported"].([]any), any(jwtBearerGrant))
		profiles, _ := m["authorization_grant_profiles_supported"].([]any)
		if grants != believed || believed != slices.Contains(profiles, any("urn:ietf:params:oauth:grant-profile:id-jag")) || !believed && profiles != nil {
			t.Errorf("believed: %t, grants %v, profiles %v", believed, m["grant_types_supported"], profiles)
		}
	}
}

// The rules about people hold for whoever is asserted, and read the assertion's claims.
func TestIdentityAssertionsKeepTheAccessRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels func(*labels)
		claims map[string]any
		form   []string
		scope  string // empty: refused
		code   string
	}{
		{"a scope gives no other", nil, map[string]any{"scope": "mcp:read mcp:write"}, nil, "mcp:read mcp:write", ""},
		{"a scope that lacks a required one", nil, map[string]any{"scope": "mcp:read"}, nil, "", "access_denied"},
		{"an empty scope", nil, map[string]any{"scope": ""}, nil, "", "access_denied"},
		{"more than can be had", nil, map[string]any{"scope": "mcp:read mcp:write root"}, nil, "mcp:read mcp:write", ""},
		{"no scope: what the provider would have to grant is not given", func(l *labels) { l.Scopes = []string{"openid", "wiki:admin"} }, nil, nil, "mcp:read mcp:write", ""},
		{"a scope of the provider", func(l *labels) { l.Scopes = []string{"openid", "wiki:admin"} }, map[string]any{"scope": "wiki:admin mcp:read mcp:write"}, nil, "mcp:read mcp:write wiki:admin", ""},
		{"no scope, and one is required", func(l *labels) { l.Scopes, l.RequiredScopes = []string{"openid", "wiki:use"}, []string{"wiki:use"} }, nil, nil, "", "access_denied"},
		{"the client asks for less", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"*=a b"} }, nil, []string{"scope", "a"}, "a", ""},
		{"rules give scopes by groups", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"group:editors=w", "*=r"} }, map[string]any{"groups": []string{"editors"}}, nil, "w r", ""},
		{"rules give scopes to others", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"group:editors=w", "*=r"} }, nil, nil, "r", ""},
		{"rules and a scope: both must give it", func(l *labels) { l.RequiredScopes, l.ScopeRules = nil, []string{"*=r w"} }, map[string]any{"scope": "r"}, nil, "r", ""},
		{"a verified address", func(l *labels) { l.AllowedEmails = []string{"a@example.com"} }, map[string]any{"email": "a@example.com", "email_verified": true}, nil, "mcp:read mcp:write email", ""},
		{"an address that is not verified", func(l *labels) { l.AllowedEmails = []string{"a@example.com"} }, map[string]any{"email": "a@example.com"}, nil, "", "access_denied"},
		{"another subject", func(l *labels) { l.AllowedSubjects = []string{"another"} }, nil, nil, "", "access_denied"},
		{"another resource in the form", nil, nil, []string{"resource", "https://mcp.localhost/world"}, "", "invalid_target"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := newEnterprise(t, func(w *world) {
				if c.labels != nil {
					c.labels(&w.wiki)
				}
			})
			a := w.register(w.wiki.PublicURL, confidential)
			status := 200
			if c.code != "" {
				status = 400
			}
			r := a.redeem(w.idp.Assertion(a.base, a.id, c.claims, nil), c.form...).wants(t, status, c.code)
			if r.text("scope") != c.scope {
				t.Errorf("scope %q, want %q", r.text("scope"), c.scope)
			}
		})
	}
}

// The deny document ends people and clients also here.
func TestIdentityAssertionsHeedTheDenyDocument(t *testing.T) {
	f := denyFile{t.TempDir() + "/deny.json"}
	f.write(t, `{"v":1,"serial":1}`)
	w, other := newEnterprise(t, func(w *world) {
		w.config = func(c *issuer.Config) { c.Deny = must(deny.Open(f.name, nil)) }
	})
	a := w.register(w.wiki.PublicURL, confidential)
	a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
	f.write(t, `{"v":1,"serial":2,"users":{"`+w.idp.Issuer+`|person-1":""}}`)
	w.clock.Add(time.Hour)
	a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 400, "invalid_grant")
	a.redeem(other.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
	// With a slash too many.
	f.write(t, `{"v":1,"serial":3,"users":{"`+other.Issuer+`/|person-1":""}}`)
	w.clock.Add(time.Hour)
	a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
	a.redeem(other.Assertion(a.base, a.id, nil, nil)).wants(t, 400, "invalid_grant")
	if part := w.direct("GET", "/hop/deny", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())); !strings.Contains(part.Body, `"users":["`+other.Issuer+`|person-1"]`) {
		t.Errorf("the plugin is told %s", part.Body)
	}
}

// An issuer that is away refuses nobody: the client may try again.
func TestIdentityAssertionsOfAnIssuerThatIsAway(t *testing.T) {
	for name, be := range map[string]issuertest.Behaviour{
		"no document": {DiscoveryStatus: 503}, "no keys": {KeysStatus: 503},
	} {
		w, other := newEnterprise(t, nil)
		a := w.register(w.wiki.PublicURL, confidential)
		other.Be(be)
		r := a.redeem(other.Assertion(a.base, a.id, nil, nil))
		if r.Status != 503 || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
		other.Be(issuertest.Behaviour{})
		w.clock.Add(time.Minute)
		a.redeem(other.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
		a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
	}
}

// A guard that does not answer cannot say whether an assertion is new.
func TestIdentityAssertionsWaitForTheGuard(t *testing.T) {
	w, _ := newEnterprise(t, func(w *world) {
		guard, store := issuer.NewFaultyGuard(idle, w.clock.Now)
		store.Fail(errors.New("no route to the store"), nil)
		w.config = func(c *issuer.Config) { c.RefreshIdleTTL, c.ReplayGuard = idle, guard }
	})
	a := w.register(w.wiki.PublicURL, confidential)
	if r := a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)); r.Status != 503 || !strings.Contains(w.log.String(), "the replay guard did not answer") {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// A provider, or a person who chooses a sub there, cannot speak of people of another issuer.
func TestPeopleAreNotNamedLikeThoseOfAnotherIssuer(t *testing.T) {
	w, other := newEnterprise(t, nil)
	a := w.register(w.wiki.PublicURL, confidential)
	const cause = "begins as the people of"
	name := other.Issuer + "|person-1"
	a.redeem(w.idp.Assertion(a.base, a.id, map[string]any{"sub": name}, nil)).wants(t, 400, "invalid_grant")
	if !strings.Contains(w.log.last(), "sub begins as the people of another issuer are called") {
		t.Errorf("the log says %s", w.log.last())
	}
	a.redeem(other.Assertion(a.base, a.id, map[string]any{"sub": w.idp.Issuer + "|person-1"}, nil)).wants(t, 200, "")
	// A login from before the label ends with it.
	w.relabel(func(l *labels) { l.EnterpriseIssuers = nil })
	w.idp.Be(issuertest.Behaviour{Claims: func(c map[string]any) { c["sub"] = name }})
	token := a.login().text("refresh_token")
	w.relabel(func(l *labels) { l.EnterpriseIssuers = []string{other.Issuer} })
	a.token(a.refreshment(token)).wants(t, 400, "access_denied")
	a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
	if !strings.Contains(w.log.last(), cause) {
		t.Errorf("the log says %s", w.log.last())
	}

	ci, c := newWorkloads(t, func(issuer string) []string { return []string{issuer + " repository=acme/wiki => r"} }, nil)
	ci.relabel(func(l *labels) {
		l.EnterpriseIssuers = []string{"https://other.example"}
		l.WorkloadIssuers = append(l.WorkloadIssuers, ci.idp.Issuer+" repository=acme/wiki => r")
	})
	ci.bring(workloadToken(ci.idp, map[string]any{"sub": c.Issuer + "|x"})).wants(t, 400, "invalid_grant")
	ci.bring(workloadToken(ci.idp, map[string]any{"sub": "x"})).wants(t, 200, "")
}

// A domain is vouched for as its issuer vouches for it: at Google by the Workspace alone, whoever
// the tenant's own provider is.
func TestDomainsOfIdentityAssertionsAreTheirIssuers(t *testing.T) {
	const google = "https://accounts.google.com"
	mail := map[string]any{"email": "anna@example.com", "email_verified": true}
	w, _ := newEnterprise(t, func(w *world) {
		w.wiki.ProviderIssuer, w.wiki.AllowedDomains = google, []string{"example.com"}
	})
	a := w.register(w.wiki.PublicURL, confidential)
	a.redeem(w.idp.Assertion(a.base, a.id, mail, nil)).wants(t, 200, "")

	w, other := newEnterprise(t, func(w *world) { w.asGoogle() })
	w.relabel(func(l *labels) {
		l.ProviderIssuer, l.EnterpriseIssuers, l.AllowedDomains = other.Issuer, []string{google}, []string{"example.com"}
	})
	a = w.register(w.wiki.PublicURL, confidential)
	mail["iss"] = google
	a.redeem(w.idp.Assertion(a.base, a.id, mail, nil)).wants(t, 400, "access_denied")
	mail["hd"] = "example.com"
	a.redeem(w.idp.Assertion(a.base, a.id, mail, nil)).wants(t, 200, "")
}

// A client that asks for a right which this person does not have hears so, and its assertion can
// still be used.
func TestIdentityAssertionsGiveNoScopeThatWasNotGranted(t *testing.T) {
	w, _ := newEnterprise(t, func(w *world) {
		w.guarded("shared")
		w.wiki.ScopeRules = []string{"*=mcp:read mcp:write", "sub:nobody=admin"}
	})
	a := w.register(w.wiki.PublicURL, confidential)
	assertion := w.idp.Assertion(a.base, a.id, nil, nil)
	a.redeem(assertion, "scope", "admin").wants(t, 400, "invalid_scope")
	if r := a.redeem(assertion, "scope", "mcp:read admin").wants(t, 200, ""); r.text("scope") != "mcp:read" {
		t.Errorf("%s", r.Body)
	}
}
