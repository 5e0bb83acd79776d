package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// post sends a form to an address of the bench.
func (b *bench) post(t *testing.T, address string, form url.Values, user, password string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequest("POST", address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	resp, err := b.net.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// A machine's client works as it is printed, at the server of those labels and at no other.
func TestMachinesThatAreCreatedLogIn(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "ci"}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"with a secret", nil},
		{"with a key", []string{"--auth", "private_key_jwt", "--jwks", file}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			var out strings.Builder
			if err := run(b.flags(append(c.flags, "--grant", "client_credentials", "--subject", "ci-bot", "--scope", "wiki:read wiki:write")...), nil, &out); err != nil {
				t.Fatal(err)
			}
			var info issuer.ClientInformation
			if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
				t.Fatal(err)
			}
			if len(info.GrantTypes) != 1 || info.GrantTypes[0] != "client_credentials" || info.Scope != "wiki:read wiki:write" || len(info.RedirectURIs) != 0 || len(info.ClientID) > 1000 {
				t.Errorf("%s", out.String())
			}
			for base, want := range map[string]int{b.tenant.PublicURL: 200, "https://mcp.localhost/world": 401} {
				form := url.Values{"grant_type": {"client_credentials"}}
				user := info.ClientID
				if info.ClientSecret == "" {
					user = ""
					signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: "ci"}}, nil)
					if err != nil {
						t.Fatal(err)
					}
					claims, _ := json.Marshal(map[string]any{"iss": info.ClientID, "sub": info.ClientID, "aud": base, "exp": time.Now().Add(time.Minute).Unix()})
					signed, err := signer.Sign(claims)
					if err != nil {
						t.Fatal(err)
					}
					text, _ := signed.CompactSerialize()
					form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
					form.Set("client_assertion", text)
				}
				if status, body := b.post(t, base+"/oauth/token", form, user, info.ClientSecret); status != want || want == 200 && body["scope"] != "wiki:read wiki:write" {
					t.Errorf("%s: status %d, want %d: %v", base, status, want, body)
				}
			}
		})
	}
}

func TestKeysThatAreCreatedOpen(t *testing.T) {
	b := newBench(t)
	e, err := loadEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		expires string
		life    time.Duration
	}{{"90d", 90 * 24 * time.Hour}, {"12h", 12 * time.Hour}, {"7", 7 * 24 * time.Hour}} {
		var out strings.Builder
		flags := append([]string{"key", "create"}, b.flags("--subject", "backup", "--scope", "wiki:read", "--expires", c.expires)[2:]...)
		if err := run(flags, nil, &out); err != nil {
			t.Fatal(err)
		}
		var info issuer.KeyInformation
		if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(time.Unix(info.ExpiresAt, 0)); (left-c.life).Abs() > time.Minute || info.Subject != "backup" || info.Scope != "wiki:read" {
			t.Errorf("%s: %s", c.expires, out.String())
		}
		id := sealing.Tenant{PublicURL: b.tenant.PublicURL, Resource: b.tenant.Resource, Audience: b.tenant.Audience,
			UpstreamIssuer: b.tenant.ProviderIssuer, UpstreamClientID: b.tenant.ClientID, Generation: b.tenant.Generation}.ID()
		if _, _, err := e.ring.Open(sealing.KindBearer, id, "", info.Key, time.Now()); err != nil {
			t.Errorf("%s: %v", c.expires, err)
		}
		// The sidecar of these labels accepts it.
		s, err := issuer.New(e.issuerConfig(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", "/hop/token", strings.NewReader(url.Values{"key": {info.Key}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(e.ring.HopKey(), time.Now(), b.tenant.JSON()))
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != 200 {
			t.Errorf("%s: status %d: %s", c.expires, w.Code, w.Body)
		}
	}
}

func TestMachinesThatAreNotCreated(t *testing.T) {
	tenant := []string{"--public-url", "https://mcp.localhost/wiki", "--resource", "wiki", "--provider-issuer", "https://idp.example", "--provider-client-id", "c"}
	machine := append([]string{"client", "create", "--grant", "client_credentials"}, tenant...)
	key := append([]string{"key", "create"}, tenant...)
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"a machine without a subject", machine, "client create: --subject missing"},
		{"a machine with a redirect URI", append(machine[:len(machine):len(machine)], "--subject", "x", "--redirect-uri", "https://app.example/"), "client create: --redirect-uri does not go with --grant client_credentials"},
		{"a person's client with a subject", append([]string{"client", "create", "--redirect-uri", "https://app.example/", "--subject", "x"}, tenant...), "client create: --subject does not go with --grant authorization_code"},
		{"another grant", append([]string{"client", "create", "--grant", "password"}, tenant...), "client create: --grant must be authorization_code or client_credentials"},
		{"a machine without proof", append(machine[:len(machine):len(machine)], "--subject", "x", "--auth", "none"), "client create: auth: must be client_secret_basic,"},
		{"a key file that is not there", append(machine[:len(machine):len(machine)], "--subject", "x", "--auth", "private_key_jwt", "--jwks", "/nowhere/jwks.json"), "client create: --jwks: open /nowhere/jwks.json"},
		{"a key's method without a key", append(machine[:len(machine):len(machine)], "--subject", "x", "--auth", "private_key_jwt"), "client create: jwks: belongs to private_key_jwt"},
		{"no command of keys", []string{"key"}, "key: the command is `key create`"},
		{"a bearer key without subject and life", key, "key create: --subject, --expires missing"},
		{"a bearer key of no tenant", []string{"key", "create", "--subject", "x", "--expires", "1d"}, "key create: --public-url, --resource, --provider-issuer, --provider-client-id missing"},
		{"a bearer key for ever", append(key[:len(key):len(key)], "--subject", "x", "--expires", "never"), "key create: --expires must be from 1m to ten years"},
		{"a bearer key for twenty years", append(key[:len(key):len(key)], "--subject", "x", "--expires", "7300d"), "key create: --expires must be from 1m to ten years"},
		{"a bearer key for a subject with a blank", append(key[:len(key):len(key)], "--subject", "x y", "--expires", "1d"), "key create: subject: "},
		{"a word too many", append(key[:len(key):len(key)], "now"), `key create: "now" is no flag`},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
			var out strings.Builder
			if err := run(c.args, nil, &out); err == nil || !strings.HasPrefix(err.Error(), c.says) || out.Len() > 0 {
				t.Errorf("error %v, out %q, want %s", err, out.String(), c.says)
			}
		})
	}
}

func TestHelpOfKeyCreate(t *testing.T) {
	clean(t, nil)
	var out strings.Builder
	if err := run([]string{"key", "create", "--help"}, nil, &out); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"-public-url URL", "-subject sub", "-scope scopes", "-expires life"} {
		if !strings.Contains(out.String(), "  "+name+"\n") {
			t.Errorf("it does not explain %s: %s", name, out.String())
		}
	}
}
