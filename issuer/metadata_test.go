package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

func TestServerMetadata(t *testing.T) {
	for _, c := range []struct{ name, base string }{
		{"below a host", "https://mcp.localhost/wiki"},
		{"a host of its own", "https://wiki.example"},
		{"http on this machine", "http://localhost:8080/wiki"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki = w.tenant(c.base) })
			u, _ := url.Parse(c.base)
			addresses := []string{
				c.base + "/.well-known/oauth-authorization-server", c.base + "/.well-known/openid-configuration",
				u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" + u.Path, u.Scheme + "://" + u.Host + "/.well-known/openid-configuration" + u.Path,
			}
			// clients ask here if they do not know the resource's metadata
			for _, endpoint := range []string{"/mcp", "/sse", "/mcp/"} {
				addresses = append(addresses, addresses[0]+endpoint, addresses[2]+endpoint, addresses[3]+endpoint)
			}
			want := map[string]any{
				"issuer": c.base, "authorization_endpoint": c.base + "/oauth/authorize", "token_endpoint": c.base + "/oauth/token",
				"registration_endpoint": c.base + "/oauth/register", "jwks_uri": c.base + "/oauth/jwks.json",
				"scopes_supported":         []any{"mcp:read", "mcp:write", "email", "offline_access"},
				"response_types_supported": []any{"code"}, "response_modes_supported": []any{"query"},
				"grant_types_supported":                 []any{"authorization_code", "refresh_token", "client_credentials"},
				"token_endpoint_auth_methods_supported": []any{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"},
				"code_challenge_methods_supported":      []any{"S256"},
				// RFC 8414 §2: required beside private_key_jwt
				"token_endpoint_auth_signing_alg_values_supported": []any{"RS256", "PS256", "ES256", "EdDSA"},
				// OpenID Discovery §3: missing means true
				"request_uri_parameter_supported":                false,
				"client_id_metadata_document_supported":          true,
				"authorization_response_iss_parameter_supported": true,
				"subject_types_supported":                        []any{"public"}, "id_token_signing_alg_values_supported": []any{"EdDSA"},
			}
			for _, address := range addresses {
				got := w.get(address).wants(t, 200, "")
				if !reflect.DeepEqual(got.JSON, want) {
					t.Errorf("%s: %s, want %v", address, got.Body, want)
				}
				if got.Header.Get("Cache-Control") != "public, max-age=300" || got.Header.Get("Vary") != "X-Mcpb-Hop" {
					t.Errorf("Cache-Control %q, Vary %q: a cache must not mix tenants up", got.Header.Get("Cache-Control"), got.Header.Get("Vary"))
				}
			}
		})
	}
}

// Lists are arrays even if the labels give nothing, because clients fail on null.
func TestMetadataOfATenantWithoutScopes(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Scopes, w.wiki.RequiredScopes, w.wiki.MCPPaths = []string{}, []string{}, []string{}
	})
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource", "/oauth/jwks.json"} {
		got := w.get(w.wiki.PublicURL+path).wants(t, 200, "")
		if strings.Contains(got.Body, "null") {
			t.Errorf("%s: %s", path, got.Body)
		}
	}
	if got := w.get(w.wiki.PublicURL + "/.well-known/oauth-protected-resource"); strings.Contains(got.Body, "scopes_supported") {
		t.Errorf("what has no elements is left out (RFC 9728 §3.2): %s", got.Body)
	}
	w.get(w.wiki.PublicURL+"/.well-known/oauth-protected-resource/mcp").wants(t, 404, "not_found")
	a := w.register(w.wiki.PublicURL, nil)
	if scope := a.login().text("scope"); scope != "" {
		t.Errorf("scope %q", scope)
	}
	if !strings.Contains(w.get(w.wiki.PublicURL+"/.well-known/oauth-authorization-server").Body, `"scopes_supported":["offline_access"]`) {
		t.Error("scopes_supported")
	}
}

// Each MCP endpoint has a document of its own, whose resource is the URL that a person types.
func TestProtectedResourceMetadata(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct{ address, resource string }{
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource", "https://mcp.localhost/wiki"},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp", "https://mcp.localhost/wiki/mcp"},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/sse", "https://mcp.localhost/wiki/sse"},
		{"https://mcp.localhost/.well-known/oauth-protected-resource/wiki", "https://mcp.localhost/wiki"},
		{"https://mcp.localhost/.well-known/oauth-protected-resource/wiki/mcp", "https://mcp.localhost/wiki/mcp"},
		// A person may type the URL with a slash at the end. Clients compare it too.
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/", "https://mcp.localhost/wiki/"},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp/", "https://mcp.localhost/wiki/mcp/"},
		{"https://mcp.localhost/.well-known/oauth-protected-resource/wiki/", "https://mcp.localhost/wiki/"},
		{"https://mcp.localhost/.well-known/oauth-protected-resource/wiki/mcp/", "https://mcp.localhost/wiki/mcp/"},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp//", ""},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource//", ""},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/other/", ""},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/other", ""},
		{"https://mcp.localhost/wiki/.well-known/oauth-protected-resource/mcp/more", ""},
	} {
		t.Run(c.address, func(t *testing.T) {
			got := w.get(c.address)
			if c.resource == "" {
				got.wants(t, 404, "not_found")
				return
			}
			want := map[string]any{
				"resource": c.resource, "authorization_servers": []any{"https://mcp.localhost/wiki"}, "scopes_supported": []any{"mcp:read", "mcp:write"},
				"bearer_methods_supported": []any{"header"}, "resource_name": "wiki",
			}
			if got.wants(t, 200, ""); !reflect.DeepEqual(got.JSON, want) {
				t.Errorf("%s, want %v", got.Body, want)
			}
			if got.Header.Get("Cache-Control") != "public, max-age=300" {
				t.Errorf("Cache-Control %q", got.Header.Get("Cache-Control"))
			}
		})
	}
	w = newWorld(t, nil, func(w *world) { w.wiki.DisplayName = "Meadow Wiki" })
	if name := w.get("https://mcp.localhost/wiki/.well-known/oauth-protected-resource").text("resource_name"); name != "Meadow Wiki" {
		t.Errorf("resource_name %q", name)
	}
}

// The key set holds old keys whose tokens may still be valid, the current one and the next one. It
// holds nothing private.
func TestKeySet(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.masters = []string{masterOne + "," + masterTwo} })
	midnight := w.clock.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)
	for _, c := range []struct {
		name string
		at   time.Time
		keys int // of each master
	}{
		{"in the middle of an epoch", midnight.Add(-10 * time.Hour), 2},
		{"directly before its turn", midnight.Add(-time.Second), 2},
		{"after its turn", midnight, 3},
		{"at the end of the overlap", midnight.Add(2*time.Hour - time.Second), 3},
		{"after the overlap", midnight.Add(2 * time.Hour), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.clock.Set(c.at)
			got := w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
			var set struct{ Keys []map[string]string }
			if err := json.Unmarshal([]byte(got.Body), &set); err != nil {
				t.Fatal(err)
			}
			if len(set.Keys) != 2*c.keys {
				t.Errorf("%d keys, want %d of each of two masters", len(set.Keys), c.keys)
			}
			seen := map[string]bool{}
			for _, k := range set.Keys {
				if len(k) != 6 || k["kty"] != "OKP" || k["crv"] != "Ed25519" || k["alg"] != "EdDSA" || k["use"] != "sig" || len(k["kid"]) != 16 || len(k["x"]) != 43 || seen[k["kid"]] {
					t.Errorf("key %v", k)
				}
				seen[k["kid"]] = true
			}
			if got.Header.Get("Cache-Control") != "public, max-age=300" {
				t.Errorf("Cache-Control %q", got.Header.Get("Cache-Control"))
			}
		})
	}
}

// A key signs tokens only after it was in the published set for an hour.
func TestKeyIsPublishedBeforeItSigns(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	for range 30 {
		before := w.get(a.base + "/oauth/jwks.json").Body
		w.clock.Add(59 * time.Minute)
		got := a.token(a.refreshment(token)).wants(t, 200, "")
		token = got.text("refresh_token")
		var header struct{ Kid string }
		head, _, _ := strings.Cut(got.text("access_token"), ".")
		decodePart(t, head, &header)
		if !strings.Contains(before, `"`+header.Kid+`"`) {
			t.Fatalf("at %v kid %s was not published an hour before", w.clock.Now(), header.Kid)
		}
		w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())
	}
}

// A log, a cache or a proxy may keep the public documents and nothing else.
func TestCachingOfPublicDocumentsOnly(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	for _, r := range []reply{
		a.registration, a.login(), a.token(a.refreshment("x")), w.get(a.authorizeURL()), w.get(a.authorizeURL("client_id", "x")),
		w.get(a.authorizeURL("response_type", "x")), w.get(a.base + "/oauth/callback?state=x"), w.get(a.base + "/oauth/nothing"), w.get(a.base + "/.well-known/oauth-protected-resource/x"),
	} {
		if r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control %q of status %d: %.80s", r.Header.Get("Cache-Control"), r.Status, r.Body)
		}
	}
}

// A replica keeps documents and the header of its tokens while a hop header serves. The keys move
// on all the same, and a token names one that is published.
func TestKeptDocumentsFollowTheKeys(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) {
			c.AccessTokenTTL, c.Schedule = time.Minute, sealing.Schedule{Rotation: time.Minute, Overlap: 6 * time.Minute}
		}
	})
	w.idp.Be(issuertest.Behaviour{Refresh: "static"})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("X-Mcpb-Hop", hop)
		r.Header.Set("Content-Type", formType)
		rec := httptest.NewRecorder()
		w.replica().ServeHTTP(rec, r)
		if rec.Code != 200 {
			t.Fatalf("%s: status %d: %s", path, rec.Code, rec.Body)
		}
		return rec
	}
	used, sets := map[string]bool{}, map[string]bool{}
	for minute := range 5 {
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		form := with(a.refreshment(token), "client_id", a.id)
		if err := json.Unmarshal(ask("POST", "/oauth/token", form.Encode()).Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut(answer.AccessToken, ".")
		text, err := base64.RawURLEncoding.DecodeString(header)
		var named struct{ Kid string }
		if err != nil || json.Unmarshal(text, &named) != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for range 2 { // made, and kept
			set := ask("GET", "/oauth/jwks.json", "").Body.String()
			if !strings.Contains(set, `"`+named.Kid+`"`) {
				t.Errorf("minute %d: the token's key %q is not in %s", minute, named.Kid, set)
			}
			sets[set] = true
		}
		used[named.Kid] = true
		w.clock.Add(time.Minute)
	}
	if len(used) != 5 || len(sets) != 5 {
		t.Errorf("%d keys signed and %d sets were published in 5 minutes of one key each", len(used), len(sets))
	}
}
