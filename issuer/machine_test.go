package issuer_test

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
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// id returns the id of the tenant with these labels.
func (w *world) id(tn labels) sealing.TenantID {
	return sealing.Tenant{PublicURL: tn.PublicURL, Resource: tn.Resource, Audience: tn.Audience, UpstreamIssuer: tn.ProviderIssuer, UpstreamClientID: tn.ClientID, Generation: tn.Generation}.ID()
}

// machine creates a client as the operator would.
func (w *world) machine(m issuer.Machine, method string, keys []byte) *app {
	w.t.Helper()
	info, err := issuer.RegisterMachine(newRing(w.t, masterOne), w.id(w.wiki), m, "CI", method, keys, w.clock.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return &app{w: w, base: w.wiki.PublicURL, id: info.ClientID, secret: info.ClientSecret, basic: method == "client_secret_basic", redirect: callback, verifier: newVerifier()}
}

var clientCredentials = url.Values{"grant_type": {"client_credentials"}}

// hop sends what the plugin sends for itself.
func (w *world) hop(path string, form url.Values) reply {
	w.t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON()))
	return w.read(issuertest.Serve(w.replica(), r))
}

// Whoever runs the server reads in the log how a client with another grant is made.
func TestGrantThatAClientMayNotUseIsExplainedInTheLog(t *testing.T) {
	w := newWorld(t, nil, nil)
	machine, person := w.machine(issuer.Machine{Subject: "ci-bot", Scope: "wiki:read"}, "client_secret_basic", nil), w.register(w.wiki.PublicURL, nil)
	for _, c := range []struct {
		from        *app
		grant, says string
	}{
		{machine, "refresh_token", "make one without --grant"},
		{person, "client_credentials", "client create --grant client_credentials"},
	} {
		c.from.token(url.Values{"grant_type": {c.grant}}).wants(t, 400, "unauthorized_client")
		if !strings.Contains(w.log.last(), c.says) {
			t.Errorf("%s: the log says %s", c.grant, w.log.last())
		}
	}
}

// A machine logs in with the credentials that the operator made, and is who the operator said,
// whatever the rules about people are.
func TestClientCredentials(t *testing.T) {
	made := issuer.Machine{Subject: "ci-bot", Scope: "wiki:read wiki:write"}
	for _, c := range []struct {
		name   string
		form   url.Values
		labels labels
		scope  string
		aud    string // beside the audience of the label
		status int
		code   string
	}{
		{"all that it was given", nil, labels{}, "wiki:read wiki:write", "", 200, ""},
		{"less", url.Values{"scope": {"wiki:read"}}, labels{}, "wiki:read", "", 200, ""},
		{"more: it gets what it was given", url.Values{"scope": {"wiki:read wiki:admin"}}, labels{}, "wiki:read", "", 200, ""},
		{"for one endpoint", url.Values{"resource": {"https://mcp.localhost/wiki/mcp"}}, labels{}, "wiki:read wiki:write", "https://mcp.localhost/wiki/mcp", 200, ""},
		{"for another server", url.Values{"resource": {"https://mcp.localhost/world"}}, labels{}, "", "", 400, "invalid_target"},
		{"rules about people say nothing about it", nil,
			labels{AllowedEmails: []string{"a@b.example"}, AllowedGroups: []string{"x"}, AllowedSubjects: []string{"y"}, ScopeRules: []string{"group:x=other"}, IdentityClaims: []string{"email", "name", "groups"}},
			"wiki:read wiki:write", "", 200, ""},
	} {
		for _, method := range []string{"client_secret_basic", "client_secret_post"} {
			t.Run(c.name+", "+method, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.AllowedEmails, w.wiki.AllowedGroups, w.wiki.AllowedSubjects = c.labels.AllowedEmails, c.labels.AllowedGroups, c.labels.AllowedSubjects
					w.wiki.ScopeRules, w.wiki.IdentityClaims = c.labels.ScopeRules, c.labels.IdentityClaims
				})
				born := w.clock.Now().Unix()
				a := w.machine(made, method, nil)
				w.clock.Add(90 * 24 * time.Hour)
				form := with(clientCredentials)
				for name, v := range c.form {
					form[name] = v
				}
				r := a.token(form).wants(t, c.status, c.code)
				if c.code != "" {
					return
				}
				claims := w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())
				aud := c.aud
				if aud == "" {
					aud = w.wiki.PublicURL
				}
				again := w.verifiedToken(a.base, a.token(form).text("access_token"), w.clock.Now())
				if r.text("scope") != c.scope || claims["scope"] != c.scope || claims["sub"] != "ci-bot" || claims["client_id"] != a.id || claims["auth_time"] != float64(born) ||
					claims["sid"] == "" || claims["sid"] != again["sid"] || claims["jti"] == again["jti"] || !reflect.DeepEqual(claims["aud"], []any{w.wiki.Audience, aud}) {
					t.Errorf("%s: %v", r.Body, claims)
				}
				for _, none := range []string{"email", "name", "groups"} {
					if claims[none] != nil {
						t.Errorf("%s: %v", none, claims[none])
					}
				}
				// RFC 6749 §4.4.3
				if _, sent := r.JSON["refresh_token"]; sent || r.JSON["expires_in"] != 3600.0 {
					t.Errorf("%s", r.Body)
				}
				if n := w.idp.Posts(); n != 0 {
					t.Errorf("the provider was asked %d times", n)
				}
				if log := w.log.String(); !strings.Contains(log, `"grant":"client_credentials"`) || strings.Contains(log, "ci-bot") {
					t.Errorf("the log: %s", log)
				}
			})
		}
	}
}

// A machine can have a key of its own. Its client_id carries the public half.
func TestClientCredentialsWithAKey(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...crypto.Signer) []byte {
		var s jose.JSONWebKeySet
		for i, k := range keys {
			s.Keys = append(s.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: fmt.Sprint("key-", i), Use: "sig"})
		}
		return []byte(mustJSON(t, s))
	}
	for _, c := range []struct {
		name   string
		keys   []byte
		signer crypto.Signer
		alg    jose.SignatureAlgorithm
		change func(map[string]any)
		status int
		code   string
	}{
		{"Ed25519", set(ed), ed, jose.EdDSA, nil, 200, ""},
		{"P-256", set(ec), ec, jose.ES256, nil, 200, ""},
		{"RSA", set(rs), rs, jose.RS256, nil, 200, ""},
		{"two keys, the second", set(ec, ed), ed, jose.EdDSA, nil, 200, ""},
		{"somebody else's key", set(ec), ed, jose.EdDSA, nil, 401, "invalid_client"},
		{"for another server", set(ed), ed, jose.EdDSA, func(m map[string]any) { m["aud"] = "https://mcp.localhost/world" }, 401, "invalid_client"},
		{"expired", set(ed), ed, jose.EdDSA, func(m map[string]any) { m["exp"] = issuertest.Start.Add(-2 * time.Minute).Unix() }, 401, "invalid_client"},
		{"about another client", set(ed), ed, jose.EdDSA, func(m map[string]any) { m["sub"] = "https://app.example/client.json" }, 401, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			a := w.machine(issuer.Machine{Subject: "ci-bot", Scope: "wiki:read"}, "private_key_jwt", c.keys)
			if len(a.id) > 1000 || a.secret != "" {
				t.Errorf("client_id of %d characters, secret %q", len(a.id), a.secret)
			}
			a.assertion = func() string {
				claims := map[string]any{"iss": a.id, "sub": a.id, "aud": a.base, "exp": w.clock.Now().Add(time.Minute).Unix(), "jti": rand.Text()}
				if c.change != nil {
					c.change(claims)
				}
				signer, err := jose.NewSigner(jose.SigningKey{Algorithm: c.alg, Key: c.signer}, nil)
				if err != nil {
					t.Fatal(err)
				}
				signed, err := signer.Sign([]byte(mustJSON(t, claims)))
				if err != nil {
					t.Fatal(err)
				}
				text, err := signed.CompactSerialize()
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			a.token(clientCredentials).wants(t, c.status, c.code)
			a.assertion = nil
			a.token(clientCredentials).wants(t, 401, "invalid_client") // without it
			a.secret = "a-secret"
			a.token(clientCredentials).wants(t, 401, "invalid_client")
		})
	}
}

// A person's client gets nothing without a person, and a machine gets nothing as a person.
func TestGrantsOfEachClient(t *testing.T) {
	w := newWorld(t, nil, nil)
	machine := w.machine(issuer.Machine{Subject: "ci-bot"}, "client_secret_post", nil)
	person := w.register(w.wiki.PublicURL, nil)
	confidential := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "grant_types": []string{"client_credentials"}, "scope": "wiki:admin", "subject": "admin"})
	if types := confidential.registration.JSON["grant_types"]; !reflect.DeepEqual(types, []any{"authorization_code", "refresh_token"}) {
		t.Errorf("a stranger registered for %v", types)
	}
	tokens := person.login()
	for _, c := range []struct {
		name string
		a    *app
		form url.Values
		code string
	}{
		{"a public client as a machine", person, clientCredentials, "unauthorized_client"},
		{"a registered client with a secret as a machine", confidential, clientCredentials, "unauthorized_client"},
		{"a machine with a code", machine, machine.redemption(person.code()), "unauthorized_client"},
		{"a machine with a refresh token", machine, machine.refreshment(tokens.text("refresh_token")), "unauthorized_client"},
		{"a machine with a grant that does not exist", machine, url.Values{"grant_type": {"password"}}, "unsupported_grant_type"},
		{"a machine that repeats a parameter", machine, url.Values{"grant_type": {"client_credentials", "client_credentials"}}, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) { w.t = t; c.a.token(c.form).wants(t, 400, c.code) })
	}
	machine.secret = machine.secret[:42] + "_"
	machine.token(clientCredentials).wants(t, 401, "invalid_client")
	machine.secret = ""
	machine.token(clientCredentials).wants(t, 401, "invalid_client")
	if p := issuertest.NewBrowser(t, w.net).Get(machine.authorizeURL()); p.Status != 400 || p.Next() != "" {
		t.Errorf("a machine at authorize: status %d, leads to %q", p.Status, p.Next())
	}
}

// A client_id can claim to be a machine's, sealed by a program with other rules. Such an id is
// refused.
func TestMachinesThatAreForged(t *testing.T) {
	w := newWorld(t, nil, nil)
	const uris, method, subject, keys = 1, 2, 4, 6
	for name, payload := range map[string]map[int]any{
		"without a secret":           {uris: nil, method: 0, subject: "ci-bot"},
		"with a redirect URI":        {uris: []string{callback}, method: 1, subject: "ci-bot"},
		"with a method unknown":      {uris: nil, method: 9, subject: "ci-bot"},
		"with a key's, without key":  {uris: nil, method: 3, subject: "ci-bot"},
		"with a secret's, and a key": {uris: nil, method: 1, subject: "ci-bot", keys: []byte(mustJSON(t, jwks(edKey().Public())))},
		"with keys that are none":    {uris: nil, method: 3, subject: "ci-bot", keys: []byte(`{"keys":[]}`)},
		"a person's with keys":       {uris: []string{callback}, method: 1, keys: []byte(`{"keys":[]}`)},
	} {
		b, err := cbor.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		ring := newRing(t, masterOne)
		id := ring.Seal(sealing.KindClient, w.id(w.wiki), "", b, w.clock.Now())
		secret, err := ring.ClientSecret(w.id(w.wiki), id)
		if err != nil {
			t.Fatal(err)
		}
		a := &app{w: w, base: w.wiki.PublicURL, id: id, secret: secret}
		if r := a.token(clientCredentials); r.Status != 401 || r.text("error") != "invalid_client" {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
}

// The table lists machines that an operator may not create.
func TestMachinesThatAreNotMade(t *testing.T) {
	ring := newRing(t, masterOne)
	// No machine has this key, which would take a second to find: it is long, and that is all.
	long := &rsa.PublicKey{N: new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, 4096/8)), E: 65537}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	public := func(key any) []byte {
		return []byte(mustJSON(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key}}}))
	}
	for _, c := range []struct {
		name   string
		m      issuer.Machine
		method string
		keys   []byte
		why    string
	}{
		{"no subject", issuer.Machine{}, "client_secret_basic", nil, "subject: "},
		{"a blank in the subject", issuer.Machine{Subject: "ci bot"}, "client_secret_basic", nil, "subject: "},
		{"a line break in the subject", issuer.Machine{Subject: "ci\r\nX: y"}, "client_secret_basic", nil, "subject: "},
		{"a subject of 256 characters", issuer.Machine{Subject: strings.Repeat("x", 256)}, "client_secret_basic", nil, "subject: "},
		{"a comma between scopes", issuer.Machine{Subject: "x", Scope: "wiki:read,wiki:write"}, "client_secret_basic", nil, "scope: "},
		{"a semicolon between scopes", issuer.Machine{Subject: "x", Scope: "wiki:read; wiki:write"}, "client_secret_basic", nil, "scope: "},
		{"a quote in the scope", issuer.Machine{Subject: "x", Scope: `a"b`}, "client_secret_basic", nil, "scope: "},
		{"a long scope", issuer.Machine{Subject: "x", Scope: strings.Repeat("x", 1025)}, "client_secret_basic", nil, "scope: "},
		{"a scope that does not fit", issuer.Machine{Subject: "x", Scope: strings.Repeat("x", 1000)}, "client_secret_basic", nil, "the client_id would be longer"},
		{"no proof", issuer.Machine{Subject: "x"}, "none", nil, "auth: "},
		{"a method unknown", issuer.Machine{Subject: "x"}, "tls_client_auth", nil, "auth: "},
		{"a key's method without a key", issuer.Machine{Subject: "x"}, "private_key_jwt", nil, "jwks: belongs"},
		{"a key with a secret's method", issuer.Machine{Subject: "x"}, "client_secret_basic", public(ed.Public()), "jwks: belongs"},
		{"a private key", issuer.Machine{Subject: "x"}, "private_key_jwt", public(ed), "jwks: holds a key that is not a public one"},
		{"no JWK Set", issuer.Machine{Subject: "x"}, "private_key_jwt", []byte("-----BEGIN"), "jwks: not a JSON Web Key Set"},
		{"a key that does not fit", issuer.Machine{Subject: "x"}, "private_key_jwt", public(long), "the client_id would be longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := issuer.RegisterMachine(ring, sealing.TenantID{}, c.m, "", c.method, c.keys, time.Now())
			if err == nil || !strings.HasPrefix(err.Error(), c.why) {
				t.Errorf("error %v, want %q", err, c.why)
			}
			if c.keys == nil && strings.Contains("subject: scope: ", c.why) {
				if _, err := issuer.CreateKey(ring, sealing.TenantID{}, c.m, time.Hour, time.Now()); err == nil || !strings.HasPrefix(err.Error(), c.why) {
					t.Errorf("as a bearer key: error %v, want %q", err, c.why)
				}
			}
		})
	}
}

// The plugin gets an access token for a bearer key. The token ends with the key.
func TestBearerKeys(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		// about people
		w.wiki.AllowedGroups, w.wiki.ScopeRules = []string{"x"}, []string{"group:x=other"}
	})
	create := func(life time.Duration) issuer.KeyInformation {
		t.Helper()
		info, err := issuer.CreateKey(newRing(t, masterOne), w.id(w.wiki), issuer.Machine{Subject: "backup", Scope: "wiki:read"}, life, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	info := create(90 * time.Minute)
	born := w.clock.Now().Unix()
	if !strings.HasPrefix(info.Key, "mbb1_") || info.ExpiresAt != born+5400 || len(info.KeyID) != 22 {
		t.Fatalf("%+v", info)
	}
	for _, c := range []struct {
		after time.Duration
		life  float64
	}{{0, 3600}, {60 * time.Minute, 1800}, {29*time.Minute + 59*time.Second, 1}} {
		w.clock.Add(c.after)
		r := w.hop("/hop/token", url.Values{"key": {info.Key}}).wants(t, 200, "")
		claims := w.verifiedToken(w.wiki.PublicURL, r.text("access_token"), w.clock.Now())
		if claims["sub"] != "backup" || claims["scope"] != "wiki:read" || claims["client_id"] != "key:"+info.KeyID || claims["sid"] != info.KeyID || claims["auth_time"] != float64(born) ||
			r.JSON["expires_in"] != c.life || claims["exp"] != float64(w.clock.Now().Unix())+c.life || r.JSON["refresh_token"] != nil {
			t.Errorf("after %v: %s: %v", c.after, r.Body, claims)
		}
	}
	w.clock.Add(time.Second)
	w.hop("/hop/token", url.Values{"key": {info.Key}}).wants(t, 400, "invalid_grant")
	if log := w.log.String(); !strings.Contains(log, info.KeyID) || strings.Contains(log, info.Key) {
		t.Errorf("the log should name the key by its id only: %s", log)
	}

	info = create(time.Hour)
	person := w.register(w.wiki.PublicURL, nil)
	for name, form := range map[string]url.Values{
		"nothing": {}, "an empty key": {"key": {""}}, "no key": {"key": {"mbb1_AAAA"}}, "a client_id": {"key": {person.id}},
		"a client_id with the prefix": {"key": {"mbb1_" + person.id[5:]}}, "a changed letter": {"key": {info.Key[:60] + "A" + info.Key[61:] + "A"}},
		"a line break": {"key": {info.Key + "\n"}},
	} {
		if r := w.hop("/hop/token", form); r.Status != 400 || r.text("error") != "invalid_grant" {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	w.hop("/hop/token", url.Values{"key": {info.Key, info.Key}}).wants(t, 400, "invalid_request")
	t.Run("another tenant", func(t *testing.T) {
		w.wiki = w.tenant("https://mcp.localhost/world")
		w.hop("/hop/token", url.Values{"key": {info.Key}}).wants(t, 400, "invalid_grant")
	})
}

// An MCP server that verifies who calls gets an assertion: the access token's claims, for this
// server alone, for five minutes.
func TestAssertionForTheMCPServer(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.IdentityClaims = []string{"email", "groups"}
		w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { m["email_verified"], m["groups"] = true, []string{"admins"} }})
	})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login("resource", w.wiki.PublicURL+"/mcp").text("access_token")
	of := w.verifiedToken(a.base, token, w.clock.Now())
	ask := func(token string) reply { return w.hop("/hop/assertion", url.Values{"access_token": {token}}) }
	for _, c := range []struct {
		after time.Duration
		life  float64
	}{{0, 300}, {58 * time.Minute, 120}} {
		w.clock.Add(c.after)
		r := ask(token).wants(t, 200, "")
		parts := strings.Split(r.text("assertion"), ".")
		var header, claims map[string]any
		decodePart(t, parts[0], &header)
		decodePart(t, parts[1], &claims)
		now := float64(w.clock.Now().Unix())
		want := map[string]any{
			"iss": a.base, "aud": []any{a.base}, "sub": "person-1", "client_id": a.id, "scope": of["scope"], "sid": of["sid"], "auth_time": of["auth_time"],
			"email": "person@example.com", "groups": []any{"admins"}, "iat": now, "nbf": now, "exp": now + c.life, "jti": claims["jti"],
		}
		if header["typ"] != "mcp-assertion+jwt" || !reflect.DeepEqual(claims, want) || claims["jti"] == of["jti"] || r.JSON["expires_in"] != c.life {
			t.Errorf("header %v, claims %v, want %v; %s", header, claims, want, r.Body)
		}
		if !w.signedHere(r.text("assertion")) {
			t.Error("no published key verifies it")
		}
		ask(r.text("assertion")).wants(t, 400, "invalid_grant") // it is not an access token
	}
	for name, text := range map[string]string{
		"nothing": "", "no JWT": "x", "a changed signature": token[:len(token)-40] + another(token[len(token)-40:len(token)-39]) + token[len(token)-39:], "an unsigned one": unsigned(t, token),
	} {
		if r := ask(text); r.Status != 400 || r.text("error") != "invalid_grant" {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	t.Run("another tenant", func(t *testing.T) {
		wiki := w.wiki
		defer func() { w.wiki = wiki }()
		w.wiki = w.tenant("https://mcp.localhost/world")
		ask(token).wants(t, 400, "invalid_grant")
	})
	w.clock.Add(2 * time.Minute)
	ask(token).wants(t, 400, "invalid_grant")
}

// signedHere says whether a published key of the tenant verifies a JWT.
func (w *world) signedHere(text string) bool {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(w.get(w.wiki.PublicURL+"/oauth/jwks.json").Body), &set); err != nil {
		w.t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range set.Key(signed.Signatures[0].Header.KeyID) {
		if _, err := signed.Verify(key); err == nil {
			return true
		}
	}
	return false
}

func unsigned(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	return "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + "."
}

// The paths of the plugin itself need its hop header and POST, like all others.
func TestHopPathsAreThePlugins(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, path := range []string{"/hop/token", "/hop/assertion"} {
		r := httptest.NewRequest("POST", path, strings.NewReader("key=x"))
		r.Header.Set("Content-Type", formType)
		if got := readReply(t, issuertest.Serve(w.replica(), r)); got.Status != 403 {
			t.Errorf("%s without a hop header: %d", path, got.Status)
		}
		for _, method := range []string{"GET", "OPTIONS"} {
			r := httptest.NewRequest(method, path, http.NoBody)
			r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON()))
			got := readReply(t, issuertest.Serve(w.replica(), r))
			if got.Status != 405 || got.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s: %d, %q", method, path, got.Status, got.Header.Get("Access-Control-Allow-Origin"))
			}
		}
	}
}
