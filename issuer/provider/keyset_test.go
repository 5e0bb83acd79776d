package provider

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/rsabits"
)

// signedBy returns a JWT as a provider would sign it.
func signedBy(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(`{"sub":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// publicSet returns a key set as a provider publishes it: n others of the same key under other
// kids, then the key itself.
func publicSet(t testing.TB, key crypto.Signer, others int, kid, alg string) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for n := range others {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: fmt.Sprint("other-", n), Algorithm: alg})
	}
	set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: alg})
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// algorithmKeys are keys of each kind that is verified.
func algorithmKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		keys[alg] = rsaKey
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if keys[alg], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["EdDSA"] = edKey
	return keys
}

// Each algorithm is verified with its own kind of key, also if the set does not name the algorithm,
// and with no other kind.
func TestKeysOfEachAlgorithm(t *testing.T) {
	keys := algorithmKeys(t)
	if len(keys) != len(signatureAlgorithms) {
		t.Fatalf("%d algorithms, and keys for %d", len(signatureAlgorithms), len(keys))
	}
	kind := func(alg string) string { // RS and PS share their keys
		if alg[0] == 'R' || alg[0] == 'P' {
			return "RSA"
		}
		return alg
	}
	for alg, key := range keys {
		token, err := readSigned(signedBy(t, jose.SignatureAlgorithm(alg), key, "k"), signatureAlgorithms)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		for other, published := range keys {
			for _, named := range []string{"", other} {
				set, ok := readProviderKeys(publicSet(t, published, 0, "k", named))
				if !ok || len(set.odd) > 0 {
					t.Fatalf("the key for %s: %+v", other, set)
				}
				if _, _, err := set.verify(token, true); (err == nil) != (kind(alg) == kind(other)) {
					t.Errorf("%s with the key for %s: %v", alg, other, err)
				}
			}
		}
	}
}

// One signature costs a bounded number of verifications, however many keys a set has.
func TestKeysThatAreTriedAreFew(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		before int    // other keys before the one that signed
		kid    string // that the token names
		anyKey bool
		good   bool
	}{
		{"the named one is the last of a thousand", 1000, "k", false, true},
		{"another one is named, and few are before it", keysTried - 1, "gone", true, true},
		{"another one is named, and many are before it", keysTried, "gone", true, false},
		{"another one is named, at a login", 0, "gone", false, false},
		{"none is named, and few are before it", keysTried - 1, "", false, true},
		{"none is named, and many are before it", keysTried, "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, _ := readProviderKeys(publicSet(t, stranger, c.before, "stranger", ""))
			own, _ := readProviderKeys(publicSet(t, key, 0, "k", ""))
			set.keys = append(set.keys[:c.before], own.keys...)
			token, err := readSigned(signedBy(t, jose.EdDSA, key, c.kid), signatureAlgorithms)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := set.verify(token, c.anyKey); (err == nil) != c.good {
				t.Error(err)
			}
		})
	}
}

// FuzzProviderKeys checks that each published key is read or passed over with a cause, and that
// each key that was read can verify.
func FuzzProviderKeys(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(publicSet(f, key, 1, "k", "RS256"))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"1"}]}`))
	f.Add([]byte(`{"keys":[null,7,"x",[],{"kty":"RSA","n":"` + strings.Repeat("_", 342) + `","e":"AA"},{"kty":"RSA","n":"` + strings.Repeat("_", 342) + `","e":"` + strings.Repeat("_", 40) + `"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("_", 340) + `_A","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`))
	var tokens []*signedToken
	for alg, key := range algorithmKeys(f) {
		token, err := readSigned(signedBy(f, jose.SignatureAlgorithm(alg), key, ""), signatureAlgorithms)
		if err != nil {
			f.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		set, ok := readProviderKeys(body)
		if !ok {
			return
		}
		for _, odd := range set.odd {
			if odd.cause == "" {
				t.Errorf("no cause: %+v", odd)
			}
		}
		for _, token := range tokens {
			if _, _, err := set.verify(token, true); err == nil {
				t.Error("a signature of a key that is not in the set fits")
			}
		}
	})
}

// A set is fetched at many logins and changes once in weeks: it is read when it has changed.
func TestKeysThatAreTheSameAreNotReadAgain(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	body := publicSet(t, key, 1, "k", "RS256")
	all := &Providers{Now: time.Now, Log: slog.New(slog.DiscardHandler), Transport: answering(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
	})}
	k := all.newKeySet("https://id.example", "https://id.example/keys")
	fetched := func() *providerKeys {
		keys, err := k.refetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	first := fetched()
	if fetched() != first {
		t.Error("the same set is read again")
	}
	body = publicSet(t, key, 1, "another", "RS256")
	if changed := fetched(); changed == first || changed.keys[1].kid != "another" {
		t.Error("a set that has changed is not read")
	}
}

// A discovery document is made readable before its members are read.
func TestDiscoveryMembersAreMadeReadable(t *testing.T) {
	members := reflect.TypeFor[discoveryMembers]()
	for i := range members.NumField() {
		name, kind := members.Field(i).Tag.Get("json"), members.Field(i).Type.Kind()
		ok := map[reflect.Kind]bool{
			reflect.String: slices.Contains(discoveryTexts, name), reflect.Slice: slices.Contains(discoveryLists, name), reflect.Bool: name == sendsIss,
		}[kind]
		if !ok {
			t.Errorf("%s, %v", name, kind)
		}
	}
}

// FuzzPlainToken checks that in a token response that is called plain nothing has to be mended, and
// that it is read as x/oauth2 reads it.
func FuzzPlainToken(f *testing.F) {
	plain := []string{
		`{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"","x":7}`,
		`{"access_token":"a","error":"invalid_grant","error_description":""}`, `{"error":"","access_token":"a","access_token":"b","x":"1","x":123456789}`,
		" {\n \"access_token\" : \"a\" ,\t\"id_token\":\"e.y.j\" } ",
	}
	for _, text := range plain {
		if _, plain := plainToken([]byte(text)); !plain {
			f.Errorf("%s is not plain", text)
		}
		f.Add([]byte(text))
	}
	for _, text := range []string{
		``, `{`, `{}`, `[]`, `{"access_token":"a"`, `{"access_token":"a",}`, `{"access_token":""}`, `{"access_token":7}`, `{"access_token":"a"} {}`, `{"access_token":"a" "b":"c"}`,
		`{"access_token":"a","Scope":"b"}`, `{"access_token":"a","scope":["b"]}`, `{"access_token":"a","scope":null}`, `{"access_token":"a","expires_in":"7"}`, `{"access_token":"a","expires_in":07}`,
		`{"access_token":"a","expires_in":7.0}`, `{"access_token":"a","expires_in":7e3}`, `{"access_token":"a\u0062"}`, `{"access_token":"ä"}`, `{"acce\u017fs_token":"a"}`, `{"access_token":"a","refresh_token":7}`,
		"{\v\"access_token\":\"a\"}", `{"access_token":"a","access_token":7}`, `{"x":{"access_token":"a"}}`,
	} {
		if _, plain := plainToken([]byte(text)); plain {
			f.Errorf("%s is plain", text)
		}
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, plain := plainToken(body)
		if !plain {
			return
		}
		if mended, err := mendedTokens(&http.Response{StatusCode: 200, Header: http.Header{}}, true, body); err != nil || string(mended) != string(body) {
			t.Errorf("%q becomes %q, %v", body, mended, err)
		}
		client := &http.Client{Transport: answering(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
		})}
		read, err := (&oauth2.Config{}).Exchange(oidc.ClientContext(t.Context(), client), "code")
		if (token == nil) != (err != nil) {
			t.Fatalf("%q is read as %+v, and by x/oauth2 as %+v, %v", body, token, read, err)
		}
		if err != nil {
			return
		}
		// The rest is what x/oauth2 keeps for itself, and what is nowhere asked for.
		for _, name := range []string{"id_token", "scope", "x", ""} {
			if token.Extra(name) != read.Extra(name) {
				t.Errorf("%q: %s is %v, and with x/oauth2 %v", body, name, token.Extra(name), read.Extra(name))
			}
		}
		if token.AccessToken != read.AccessToken || token.RefreshToken != read.RefreshToken || token.TokenType != read.TokenType || token.ExpiresIn != read.ExpiresIn {
			t.Errorf("%q is read as %+v, and by x/oauth2 as %+v", body, token, read)
		}
	})
}

// FuzzReadableAnswers checks that a mended answer holds nothing that a library does not expect, and
// has lost nothing that it does expect.
func FuzzReadableAnswers(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://sso.example.com","authorization_endpoint":7,"scopes_supported":null,"id_token_signing_alg_values_supported":"RS256 ES256","authorization_response_iss_parameter_supported":"true"}`))
	f.Add([]byte(`{"access_token":"a","expires_in":3600.0,"scope":["a","b"],"refresh_token":null,"error":{}}`))
	f.Add([]byte(`{"issuer":"a","ISSUER":7,"\u017fcopes_supported":"x"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var document struct {
			Issuer     string   `json:"issuer"`
			Scopes     []string `json:"scopes_supported"`
			Algorithms []string `json:"id_token_signing_alg_values_supported"`
			SendsIss   bool     `json:"authorization_response_iss_parameter_supported"`
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil || object == nil {
			return
		}
		if err := json.Unmarshal(readableDiscovery(body), &document); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		var issuer string
		if json.Unmarshal(object["issuer"], &issuer) == nil && document.Issuer != issuer {
			t.Errorf("issuer %q became %q", issuer, document.Issuer)
		}
	})
}

// go-jose's limit is a variable that others can change, so the promise must not rest on it.
func TestRSAKeyLimitsAreOurs(t *testing.T) {
	if jose.MaxRSAModulusBits < rsabits.Max {
		t.Errorf("go-jose verifies with keys of at most %d bits, %d are promised", jose.MaxRSAModulusBits, rsabits.Max)
	}
	theirs := jose.MaxRSAModulusBits
	defer func() { jose.MaxRSAModulusBits = theirs }()
	jose.MaxRSAModulusBits = 1 << 20
	for _, c := range []struct {
		bits int
		want bool
	}{{2047, false}, {2048, true}, {4096, true}, {4097, false}, {4104, false}, {8192, false}} {
		n := new(big.Int).Lsh(big.NewInt(1), uint(c.bits-1))
		key := jose.JSONWebKey{Key: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}, KeyID: "k"}
		body := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}}))
		keys, _ := readProviderKeys(body)
		if got := len(keys.keys) == 1; got != c.want {
			t.Errorf("a provider's key of %d bits is taken: %t", c.bits, got)
		}
	}
}
