package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// accessRow is a server of its own behind Traefik, with its labels, and one person who comes.
type accessRow struct {
	name string // of the tenant
	// what the provider says, a file of issuer/testdata/claims; empty: it is a real Dex, and the
	// person is admin@example.com
	claims  string
	labels  map[string]string
	asked   string // scopes
	scopes  string // that the MCP server sees
	refused string // label that the log names; empty: admitted
}

// Each row has rules, by label, for tokens that real Traefik lets through or never sees. The
// providers are Dex and, for groups, which Dex has only with other services behind it, one that
// says what real providers say.
func TestAccessRules(t *testing.T) {
	t.Parallel()
	rows := []accessRow{
		{"domain", "", map[string]string{"allowedDomains": "example.org, Example.com"}, "", "", ""},
		{"other-domain", "", map[string]string{"allowedDomains": "example.org"}, "", "", "allowedDomains"},
		{"email", "", map[string]string{"allowedEmails": "ADMIN@example.com second@example.com"}, "", "", ""},
		{"other-email", "", map[string]string{"allowedEmails": "second@example.com"}, "", "", "allowedEmails"},
		{"no-groups", "", map[string]string{"allowedGroups": "admins"}, "", "", "allowedGroups"},
		{"other-subject", "", map[string]string{"allowedSubjects": "somebody"}, "", "", "allowedSubjects"},
		{"both", "", map[string]string{"allowedDomains": "example.com", "allowedEmails": "second@example.com"}, "", "", "allowedEmails"},
		{"callback", "", map[string]string{"allowedDomains": "example.org", "exchange": "callback"}, "", "", "allowedDomains"},
		{"token", "", map[string]string{"allowedDomains": "example.org", "exchange": "token"}, "", "", "allowedDomains"},

		{"keycloak-role", "keycloak", map[string]string{"allowedGroups": "wiki-admin", "groupsClaim": "realm_access.roles"}, "", "", ""},
		{"keycloak-group", "keycloak", map[string]string{"allowedGroups": "/eng/devs, owners"}, "", "", ""},
		{"keycloak-other", "keycloak", map[string]string{"allowedGroups": "devs"}, "", "", "allowedGroups"},
		{"keycloak-unverified", "keycloak-unverified", map[string]string{"allowedDomains": "example.com"}, "", "", "allowedDomains"},
		{"zitadel-role", "zitadel", map[string]string{"allowedGroups": "wiki-admin", "groupsClaim": "urn:zitadel:iam:org:project:roles"}, "", "", ""},
		{"okta-group", "okta", map[string]string{"allowedGroups": "Wiki Admins"}, "", "", ""},
		{"authentik-group", "authentik", map[string]string{"allowedGroups": "authentik Admins"}, "", "", ""},
		{"entra-role", "entra", map[string]string{"allowedGroups": "Wiki.Admin", "groupsClaim": "roles"}, "", "", ""},
		{"entra-many", "entra-too-many-groups", map[string]string{"allowedGroups": "0760b6cf-170e-4a14-91b3-4b78e0739963"}, "", "", "allowedGroups"},
		{"dex-team", "dex", map[string]string{"allowedGroups": "acme:admins"}, "", "", ""},

		{"scopes-all", "", map[string]string{"scopeRules": "email:admin@example.com=wiki:write wiki:read; *=wiki:read"}, "", "wiki:write wiki:read", ""},
		{"scopes-asked", "", map[string]string{"scopeRules": "email:admin@example.com=wiki:write wiki:read; *=wiki:read"}, "wiki:read wiki:admin", "wiki:read", ""},
		{"scopes-group", "dex", map[string]string{"scopeRules": "group:acme:admins=wiki:write; group:other=wiki:admin; *=wiki:read"}, "", "wiki:write wiki:read", ""},
		{"scopes-required", "", map[string]string{"scopeRules": "email:second@example.com=wiki:read", "requiredScopes": "wiki:read"}, "", "", "scopeRules"},
	}
	options := rig.Options{Labels: map[string]string{}}
	people := map[string]*issuertest.Provider{}
	for _, row := range rows {
		options.More = append(options.More, row.name)
		for label, value := range row.labels {
			options.Labels[row.name+"/"+label] = value
		}
		if row.claims != "" {
			p := people[row.claims]
			if p == nil {
				p = providerThatSays(t, row.claims)
				people[row.claims] = p
			}
			options.Labels[row.name+"/providerIssuer"], options.Labels[row.name+"/clientID"], options.Labels[row.name+"/clientSecret"] = p.Issuer, p.ClientID, p.Secret
		}
	}
	w := rig.New(t, options)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			tn := w.More[row.name]
			c, b := tn.Client(), tn.Browser()
			f := c.Begin(strings.Fields(row.asked)...)
			back, err := b.Visit(t.Context(), f.URL, c.Redirect)
			if err != nil {
				t.Fatal(err)
			}
			answer := &rig.Answer{Status: http.StatusBadRequest, Body: `{"error":"` + back.Query().Get("error") + `"}`}
			if code := back.Query().Get("code"); code != "" {
				answer = c.Redeem(code, f)
			}
			if row.refused != "" {
				if answer.Status != http.StatusBadRequest || answer.Member("error") != "access_denied" || (row.labels["exchange"] == "token") != (back.Query().Get("code") != "") {
					t.Errorf("the client got %s and %s, want access_denied", back, answer)
				}
				if log := w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b"); !strings.Contains(log, "not admitted by the label "+row.refused+":") {
					t.Errorf("no log names %s", row.refused)
				}
				return
			}
			var id rig.Identity
			reached := c.Get("/whoami", answer.Member("access_token"))
			if err := json.Unmarshal([]byte(reached.Body), &id); err != nil || reached.Status != http.StatusOK || id.Sub == "" {
				t.Fatalf("token %s, whoami %s", answer, reached)
			}
			if row.scopes != "" && (id.Scopes != row.scopes || answer.Member("scope") != row.scopes) {
				t.Errorf("the MCP server saw the scopes %q, the client %q, want %q", id.Scopes, answer.Member("scope"), row.scopes)
			}
		})
	}
}

// providerThatSays starts an OpenID provider at which the person of a file of
// issuer/testdata/claims is signed in.
func providerThatSays(t *testing.T, file string) *issuertest.Provider {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(rig.Root(), "issuer", "testdata", "claims", file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		IDToken  map[string]any `json:"id_token"`
		UserInfo map[string]any
	}
	if err := json.Unmarshal(b, &said); err != nil || said.IDToken["sub"] == nil {
		t.Fatalf("%s: %v", file, err)
	}
	p := issuertest.NewProvider(t, nil)
	p.Be(issuertest.Behaviour{Claims: func(m map[string]any) { delete(m, "email"); maps.Copy(m, said.IDToken) }, UserInfo: said.UserInfo})
	return p
}

// A machine comes in with the credentials that the operator made, at its server and nowhere else.
func TestMachineComesIn(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"requiredScopes": "wiki:read", "wiki/allowedDomains": "example.org"}})
	id, secret := w.Wiki.CreateMachine("ci-bot", "wiki:read wiki:write")
	token := func(tn *rig.Tenant, form url.Values) *rig.Answer {
		form.Set("grant_type", "client_credentials")
		h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
		return tn.Client().Do(http.MethodPost, tn.PublicHTTP()+"/oauth/token", h, []byte(form.Encode()))
	}
	c := w.Wiki.Client()
	for scope, want := range map[string]string{"": "wiki:read wiki:write", "wiki:read": "wiki:read"} {
		answer := token(w.Wiki, url.Values{"scope": {scope}})
		var who rig.Identity
		reached := c.Get("/whoami", answer.Member("access_token"))
		if err := json.Unmarshal([]byte(reached.Body), &who); err != nil || who.Sub != "ci-bot" || who.Scopes != want || answer.Member("refresh_token") != "" {
			t.Errorf("asked for %q: token %s, whoami %s", scope, answer, reached)
		}
	}
	if answer := token(w.Wiki, url.Values{"scope": {"wiki:write"}}); c.Get("/whoami", answer.Member("access_token")).Status != http.StatusForbidden {
		t.Errorf("without a required scope it came in: %s", answer)
	}
	if answer := token(w.World, url.Values{}); answer.Status != http.StatusUnauthorized || answer.Member("error") != "invalid_client" {
		t.Errorf("at the other server: %s", answer)
	}
	secret = strings.ToUpper(secret)
	if answer := token(w.Wiki, url.Values{}); answer.Status != http.StatusUnauthorized || answer.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("with a wrong secret: %s", answer)
	}
}

// A machine with a key of its own authenticates by signed assertions, and calls a tool. They are
// good for this server, from this key, and until they expire: nothing here counts how often one
// comes (decision 4).
func TestMachineComesInWithAKey(t *testing.T) {
	t.Parallel()
	newKey := func() *jose.JSONWebKey {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &jose.JSONWebKey{Key: key, KeyID: "ci", Algorithm: string(jose.EdDSA), Use: "sig"}
	}
	key := newKey()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	s := startToolServer(t, true)
	w := rig.New(t, rig.Options{
		Labels:  map[string]string{"requiredScopes": "wiki:read", "wiki/toolScopes": "delete_page=wiki:write; *=wiki:read"},
		Servers: map[string]string{"wiki": s.port},
	})
	id, secret := w.Wiki.CreateMachine("ci-bot", "wiki:read", "--auth", "private_key_jwt", "--jwks", file)
	if secret != "" {
		t.Error("a client with a key got a secret too")
	}
	assertion := func(key *jose.JSONWebKey, audience string, expires time.Time) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: id, Subject: id, Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(expires), ID: rand.Text()}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		w.Secrets.Add("client assertion", text)
		return text
	}
	public, soon := w.Wiki.PublicHTTP(), time.Now().Add(5*time.Minute)
	good := assertion(key, public, soon)
	for _, c := range []struct {
		name, assertion string
		at              *rig.Tenant
		status          int
	}{
		{"by the public URL", good, w.Wiki, http.StatusOK},
		{"the same again before it expires", good, w.Wiki, http.StatusOK},
		{"by the URL of the token endpoint", assertion(key, public+"/oauth/token", soon), w.Wiki, http.StatusOK},
		{"with another key of the same name", assertion(newKey(), public, soon), w.Wiki, http.StatusUnauthorized},
		{"for another server", assertion(key, w.World.PublicHTTP(), soon), w.Wiki, http.StatusUnauthorized},
		{"at the other server", good, w.World, http.StatusUnauthorized},
		{"for the other server, at it", assertion(key, w.World.PublicHTTP(), soon), w.World, http.StatusUnauthorized},
		{"again after it expired", assertion(key, public, time.Now().Add(-2*time.Minute)), w.Wiki, http.StatusUnauthorized},
		{"of a life that is too long", assertion(key, public, time.Now().Add(time.Hour)), w.Wiki, http.StatusUnauthorized},
		{"without a signature", good[:strings.LastIndexByte(good, '.')+1], w.Wiki, http.StatusUnauthorized},
		{"without any", "", w.Wiki, http.StatusUnauthorized},
	} {
		form := url.Values{"grant_type": {"client_credentials"}}
		if c.assertion == "" {
			form.Set("client_id", id)
		} else { // which says who the client is
			form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
			form.Set("client_assertion", c.assertion)
		}
		h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		answer := c.at.Client().Do(http.MethodPost, c.at.PublicHTTP()+"/oauth/token", h, []byte(form.Encode()))
		if c.status != http.StatusOK {
			if answer.Status != c.status || answer.Member("error") != "invalid_client" {
				t.Errorf("%s: %s, want %d", c.name, answer, c.status)
			}
			continue
		}
		if answer.Status != c.status || answer.Member("scope") != "wiki:read" || answer.Member("refresh_token") != "" {
			t.Errorf("%s: %s", c.name, answer)
			continue
		}
		client := w.Wiki.Client()
		for tool, status := range map[string]int{"search": http.StatusOK, "delete_page": http.StatusForbidden} {
			call := client.Do(http.MethodPost, client.Public+"/mcp", messageHeader(answer.Member("access_token")), []byte(toolCall(tool)))
			if call.Status != status || (status == http.StatusOK) != strings.Contains(call.Body, "called "+tool) {
				t.Errorf("%s: %s answers %s, want %d", c.name, tool, call, status)
			}
		}
		if seen, _ := s.seen(); seen.Get("X-Mcp-Sub") != "ci-bot" || seen.Get("X-Mcp-Scopes") != "wiki:read" || seen.Get("Authorization") != "" {
			t.Errorf("%s: the MCP server saw %v", c.name, seen)
		}
	}
	for _, found := range w.Secrets.In(w.Logs.Text("traefik") + w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b")) {
		t.Errorf("a log holds a %s", found)
	}
}

// An application on the TypeScript SDK reads with the required scopes, and calls a tool that needs
// more. It is told so, asks the person again, and calls the tool.
func TestSDKStepsUpFromReadToWrite(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{
		"requiredScopes": "wiki:read", "scopeRules": "*=wiki:read wiki:write wiki:admin", "toolScopes": "delete_page=wiki:write; *=wiki:read",
	}})
	secondOpened := regexp.MustCompile(`(?ms)^\{"open":"[^"]+"\}$.*^\{"open":("[^"]+")\}$`)
	for _, sdk := range []string{"v1", "v2"} {
		t.Run(sdk, func(t *testing.T) {
			process := rig.Node(t, w.Logs, "stepup-"+sdk, "stepup.mjs", sdk, w.Wiki.PublicHTTP()+"/mcp", callbackPath)
			allow := func(say *regexp.Regexp) (asked string) {
				t.Helper()
				var start string
				if err := json.Unmarshal([]byte(process.Say(t, w.Logs, say)), &start); err != nil {
					t.Fatal(err)
				}
				u, err := url.Parse(start)
				if err != nil {
					t.Fatal(err)
				}
				browser := w.Wiki.Browser()
				back, err := browser.Visit(t.Context(), start, u.Query().Get("redirect_uri"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := browser.Load(t.Context(), back.String()); err != nil {
					t.Fatal(err)
				}
				scopes := strings.Fields(u.Query().Get("scope"))
				scopes = slices.DeleteFunc(scopes, func(s string) bool { return s == "offline_access" })
				slices.Sort(scopes)
				return strings.Join(scopes, " ")
			}
			if asked := allow(opened); asked != "wiki:read" {
				t.Errorf("the first login asked for %q", asked)
			}
			if asked := allow(secondOpened); asked != "wiki:read wiki:write" {
				t.Errorf("the step-up asked for %q", asked)
			}
			if code := process.Wait(t); code != 0 {
				t.Fatalf("it ended with %d:\n%s", code, w.Logs.Text("stepup-"+sdk))
			}
			var result struct{ Before, After, Sub string }
			if err := json.Unmarshal([]byte(resulted.FindStringSubmatch(w.Logs.Text("stepup-" + sdk))[1]), &result); err != nil {
				t.Fatal(err)
			}
			if result.Before != "wiki:read" || result.After != "wiki:read wiki:write" || result.Sub == "" {
				t.Errorf("the MCP server saw %+v", result)
			}
		})
	}
}

// Real Traefik tells the MCP server of a person what labels ask for and the provider vouches for.
// It tells nothing that the client says of itself, in any spelling and on any path.
func TestIdentityHeadersInTraefik(t *testing.T) {
	t.Parallel()
	person := issuertest.NewProvider(t, nil)
	verified := true
	person.Be(issuertest.Behaviour{Claims: func(m map[string]any) {
		m["name"], m["groups"], m["email_verified"] = "Ada Lövelace", []string{"acme:admins", "Wiki, Readers"}, verified
	}})
	w := rig.New(t, rig.Options{Labels: map[string]string{
		"wiki/providerIssuer": person.Issuer, "wiki/clientID": person.ClientID, "wiki/clientSecret": person.Secret,
		"wiki/identityHeaders": "email, name, groups, client_id, issuer, sub=X-Forwarded-User, email=X-Forwarded-Email", "wiki/allowedGroups": "acme:admins",
		"wiki/scopeRules": "group:acme:admins=wiki:read",
	}})
	c := w.Wiki.Client()
	names := []string{"X-Mcp-Sub", "X-Mcp-Scopes", "X-Mcp-Email", "X-Mcp-Name", "X-Mcp-Groups", "X-Mcp-Client-Id", "X-Mcp-Issuer", "X-Mcp-Assertion", "X-Forwarded-User", "X-Forwarded-Email"}
	want := map[string]string{
		"X-Mcp-Sub": "person-1", "X-Mcp-Scopes": "wiki:read", "X-Mcp-Email": "person@example.com", "X-Mcp-Name": "Ada%20L%C3%B6velace",
		"X-Mcp-Groups": "acme:admins,Wiki%2C%20Readers", "X-Mcp-Client-Id": c.ClientID, "X-Mcp-Issuer": person.Issuer,
		"X-Forwarded-User": "person-1", "X-Forwarded-Email": "person@example.com",
	}
	check := func(token string) {
		t.Helper()
		for _, path := range []string{"/whoami", "/elsewhere", "/mcp"} {
			h := http.Header{"Authorization": {"Bearer " + token}}
			for _, name := range names {
				for _, spelling := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", "_"))} {
					h[spelling] = []string{"spoofed", "spoofed again"}
				}
			}
			before := len(w.Wiki.MCP.Requests(path))
			c.Do(http.MethodGet, c.Public+path, h, nil)
			seen := w.Wiki.MCP.Requests(path)
			if len(seen) != before+1 {
				t.Fatalf("%s: the MCP server saw %d requests more", path, len(seen)-before)
			}
			got := seen[before].Header
			for _, name := range names {
				if values := got.Values(name); want[name] == "" && len(values) > 0 || want[name] != "" && (len(values) != 1 || values[0] != want[name]) {
					t.Errorf("%s: the MCP server saw %s: %q, want %q", path, name, values, want[name])
				}
			}
			for name, values := range got {
				if strings.Contains(strings.Join(values, ""), "spoofed") {
					t.Errorf("%s: the MCP server saw %s: %q", path, name, values)
				}
			}
		}
	}
	check(c.Tokens(w.Wiki.Browser()).Member("access_token"))

	verified = false // the server does not get an unverified address
	delete(want, "X-Mcp-Email")
	delete(want, "X-Forwarded-Email")
	check(c.Tokens(w.Wiki.Browser()).Member("access_token"))
}

// A program that can only send a header comes in with a bearer key, at its server and nowhere else.
// The key itself does not reach the server.
func TestBearerKeyInTraefik(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"requiredScopes": "wiki:read", "allowedDomains": "example.org", "identityHeaders": "client_id"}})
	key, id := w.Wiki.CreateKey("backup", "wiki:read", "90d")
	useless, _ := w.Wiki.CreateKey("backup", "wiki:other", "90d")
	wiki, world := w.Wiki.Client(), w.World.Client()
	for range 5 {
		var who rig.Identity
		reached := wiki.Get("/whoami", key)
		if err := json.Unmarshal([]byte(reached.Body), &who); err != nil || who.Sub != "backup" || who.Scopes != "wiki:read" || who.Authorization {
			t.Fatalf("whoami %s", reached)
		}
	}
	asked := 0
	for _, line := range w.Front.Asked() {
		if strings.Contains(line, "/hop/token") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the key was exchanged %d times for 5 requests", asked)
	}
	for _, seen := range w.Wiki.MCP.Requests("/whoami") {
		if got := seen.Header.Get("X-Mcp-Client-Id"); got != "key:"+id {
			t.Errorf("the MCP server saw the client %q", got)
		}
		for name, values := range seen.Header {
			if strings.Contains(strings.Join(values, ""), "mbb1_") {
				t.Errorf("the MCP server saw the key in %s", name)
			}
		}
	}
	for _, c := range []struct {
		name   string
		answer *rig.Answer
		status int
	}{
		{"at the other server", world.Get("/whoami", key), http.StatusUnauthorized},
		{"with a letter changed", wiki.Get("/whoami", key[:len(key)-3]+"AAA"), http.StatusUnauthorized},
		{"cut", wiki.Get("/whoami", key[:40]), http.StatusUnauthorized},
		{"without a required scope", wiki.Get("/whoami", useless), http.StatusForbidden},
	} {
		if c.answer.Status != c.status || !strings.HasPrefix(c.answer.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: %s, %q, want %d", c.name, c.answer, c.answer.Header.Get("WWW-Authenticate"), c.status)
		}
	}
}

// An MCP server that trusts no header verifies who calls, as docs/access.md says.
func TestMCPServerVerifiesWhoCalls(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"identityHeaders": "assertion, email", "scopes": "openid email"}})
	c := w.Wiki.Client()
	c.Get("/whoami", c.Tokens(w.Wiki.Browser()).Member("access_token"))
	seen := w.Wiki.MCP.Requests("/whoami")
	if len(seen) != 1 {
		t.Fatalf("the MCP server saw %d requests", len(seen))
	}
	assertion, err := jose.ParseSignedCompact(seen[0].Header.Get("X-Mcp-Assertion"), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatalf("%v: %q", err, seen[0].Header)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(c.Get("/oauth/jwks.json", "").Body), &keys); err != nil {
		t.Fatal(err)
	}
	header := assertion.Signatures[0].Header
	key := keys.Key(header.KeyID)
	if len(key) != 1 || header.ExtraHeaders[jose.HeaderType] != "mcp-assertion+jwt" {
		t.Fatalf("%d keys, typ %v", len(key), header.ExtraHeaders[jose.HeaderType])
	}
	payload, err := assertion.Verify(key[0])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Iss, Sub, Email string
		Aud             []string
		Iat, Exp        int64
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Iss != c.Public || !slices.Equal(claims.Aud, []string{c.Public}) || claims.Sub != seen[0].Header.Get("X-Mcp-Sub") || claims.Email != "admin@example.com" || claims.Exp-claims.Iat != 300 {
		t.Errorf("the assertion says %s", payload)
	}
	if answer := c.Get("/whoami", seen[0].Header.Get("X-Mcp-Assertion")); answer.Status != http.StatusUnauthorized {
		t.Errorf("as an access token: %s", answer)
	}
}
