//go:build go1.21

package plugin

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func forgetAlikes() {
	alikes.Lock()
	alikes.known = map[[32]byte]*alike{}
	alikes.Unlock()
}

// meant is all that labels mean, as text.
func meant(c *Config) string {
	s, err := parseConfig(c)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %x %x %q %q %q %s %d %q %q %q %q %d %q %q %q %q %v %v %v %v %v %v %v %v %q %v", s.told, s.access, s.origin, s.publicURL, s.host, s.prefix, s.sidecar, s.keysTTL,
		s.hopKeyFile, s.resource, s.audience, s.providerIssuer, s.generation, s.required, s.mcpPaths, s.inserted, s.wellKnown, s.identityHeaders, s.upstream != nil, s.own != nil, s.rules != nil,
		s.stepup != nil, s.hide, s.backend != nil, s.cors, s.dpop, s.special)
}

// What is read once for tenants that are alike means for each what it would mean for it alone.
func TestTenantsThatAreAlikeAreReadAsIfAlone(t *testing.T) {
	start(t)
	own := []map[string]any{
		{},
		{"publicURL": "https://a.example/wiki"},
		{"publicURL": "https://b.example/other", "resource": "other"},
		{"publicURL": "https://c.example", "clientID": "another", "clientSecret": "env:ANOTHER"},
		{"resource": "x", "pathPrefix": "/y", "audience": "z", "displayName": `a "name"`},
		{"displayName": "", "audience": " "},
		{"publicURL": "http://127.0.0.1:1/wiki"}, // the address of the sidecar
		{"publicURL": "http://a.example/wiki"},
		{"publicURL": "https://a.example/wiki", "pathPrefix": "/other"},
		{"pathPrefix": "/.well-known/x"},
		{"resource": "ä"},
		{"resource": ""},
		{"clientID": 42},
		{"clientSecret": nil},
		{"clientSecret": "\x01"},
		{"displayName": strings.Repeat("d", 65)},
		{"displayName": []any{"a", "b"}},
	}
	for _, common := range []map[string]any{
		{},
		{"scopes": "openid mcp", "requiredScopes": "mcp", "mcpPaths": "/a"},
		{"sidecarURL": "http://127.0.0.1:1/wiki/below"},
		{"clientAuth": "private_key_jwt"},
		{"toolScopes": "delete_page=mcp", "hideTools": true, "cors": "true", "auditCalls": "true"},
		{"identityHeaders": "email=X-Forwarded-User", "upstreamToken": "scopes=repo", "dpop": "accept"},
		{"authenticationRules": "*=acr_values:gold", "allowedEmails": []any{"a@example.com", "b@example.com"}, "generation": 7},
		{"backendAuthorization": "env:WIKI_BACKEND_AUTHORIZATION", "wellKnown": "openai-apps-challenge", "jwksCacheTTLSeconds": 60},
		{"sidecarAuth": "sigv4", "sidecarURL": "https://id.lambda-url.eu-west-1.on.aws"},
	} {
		config := func(own map[string]any) *Config {
			c := wikiConfig("http://127.0.0.1:1")
			if common["clientAuth"] != nil {
				c.ClientSecret = nil
			}
			for _, labels := range []map[string]any{common, own} {
				for label, value := range labels {
					if value == nil {
						c.ClientSecret = nil
						continue
					}
					putLabel(t, c, label, value)
				}
			}
			return c
		}
		for i, labels := range own {
			forgetAlikes()
			alone := meant(config(labels))
			forgetAlikes()
			first := meant(config(nil))
			if got := meant(config(labels)); got != alone {
				t.Errorf("%v, after one like it: %v is read as\n%s, want\n%s", common, labels, got, alone)
			}
			if got := meant(config(nil)); got != first {
				t.Errorf("%v, after %v: is read as\n%s, want\n%s", common, labels, got, first)
			}
			if i == 1 && !strings.Contains(alone, "a.example") && common["clientAuth"] == nil {
				t.Errorf("%v: %s", common, alone)
			}
		}
	}
}

// Tenants are alike only where each label but their own ones has one value, of one type.
func TestTenantsThatDifferAreNotAlike(t *testing.T) {
	for _, f := range labelFields {
		keys := map[[32]byte]any{}
		values := []any{nil, "", "1", "true", "a b", "a", 1, true, 2000000, 3000000, 1.5, []any{"1"}, []any{"a b"}, []any{"a", "b"}, []any{1}, map[string]any{"a": "b"}}
		for _, value := range values {
			c := wikiConfig("http://127.0.0.1:1")
			field := reflect.ValueOf(c).Elem().Field(f.from)
			field.Set(reflect.Zero(field.Type()))
			if value != nil {
				putLabel(t, c, f.label, value)
			}
			keys[keyOfAlike(c)] = value
		}
		want := len(values)
		if ownLabels[f.label] {
			want = 1
		}
		if len(keys) != want {
			t.Errorf("%s: %d values have %d keys: %v", f.label, len(values), len(keys), keys)
		}
	}
}

// A region that stands in Traefik's environment is that of the moment.
func TestRegionIsLookedUpForEachTenant(t *testing.T) {
	start(t)
	defer os.Setenv("AWS_REGION", "") // t.Setenv sets another environment than Yaegi's
	for _, region := range []string{"eu-west-1", "us-east-1"} {
		os.Setenv("AWS_REGION", region)
		c := wikiConfig("https://sidecar.example")
		c.SidecarAuth = "sigv4"
		s, err := parseConfig(c)
		if err != nil || s.signer.region != region {
			t.Errorf("%v, %v, want %s", s, err, region)
		}
	}
}

// What is kept for others holds nothing of the tenant from whose labels it was read.
func TestTenantsThatAreAlikeKeepNoSecretOfOneAnother(t *testing.T) {
	start(t)
	forgetAlikes()
	c := wikiConfig("http://127.0.0.1:1")
	c.PublicURL = "https://own.example/own"
	c.Resource = "own-resource"
	c.PathPrefix = "/own"
	c.Audience = "own-audience"
	c.ClientID = "own-client"
	c.ClientSecret = "own-secret"
	c.DisplayName = "Own name"
	if got := meant(c); !strings.Contains(got, "own-secret") {
		t.Fatal(got)
	}
	c.ClientSecret = "own-other-secret"
	if got := meant(c); !strings.Contains(got, "own-other-secret") {
		t.Fatal(got)
	}
	if len(alikes.known) != 1 {
		t.Fatalf("%d kinds of tenants are remembered", len(alikes.known))
	}
	for _, a := range alikes.known {
		kept := fmt.Sprintf("%v %v %v", *a.texts, *a.settings, a.members)
		if strings.Contains(strings.ToLower(kept), "own") {
			t.Errorf("it keeps %s", kept)
		}
	}
}

func TestTenantsThatAreAlikeAreBounded(t *testing.T) {
	start(t)
	forgetAlikes()
	for i := 0; i < 3*maxAlike; i++ {
		c := wikiConfig("http://127.0.0.1:1")
		c.RequiredScopes = "scope-" + strconv.Itoa(i)
		meant(c)
		if n := len(alikes.known); n > maxAlike || n == 0 {
			t.Fatalf("%d kinds of tenants are remembered", n)
		}
	}
	// What is a load's is forgotten in the next.
	clock.Add(2 * loadPause)
	guard(t, wikiConfig("http://127.0.0.1:1"))
	clock.Add(2 * loadPause)
	guard(t, wikiConfig("http://127.0.0.1:2"))
	guard(t, wikiConfig("http://127.0.0.1:2"))
	if n := len(alikes.known); n != 1 {
		t.Errorf("%d kinds of tenants are remembered after the next load", n)
	}
}
