package sealing_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

func TestTenantIDFollowsFromEachFact(t *testing.T) {
	base := sealing.Tenant{PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "aud", UpstreamIssuer: "https://accounts.example", UpstreamClientID: "client", Generation: 1}
	with := func(change func(*sealing.Tenant)) sealing.Tenant {
		t := base
		change(&t)
		return t
	}
	seen := map[sealing.TenantID]string{base.ID(): "the first"}
	for _, c := range []struct {
		name   string
		tenant sealing.Tenant
	}{
		{"another public URL", with(func(t *sealing.Tenant) { t.PublicURL += "/" })},
		{"another resource", with(func(t *sealing.Tenant) { t.Resource = "Wiki" })},
		{"another audience", with(func(t *sealing.Tenant) { t.Audience = "" })},
		{"another upstream issuer", with(func(t *sealing.Tenant) { t.UpstreamIssuer = "http://accounts.example" })},
		{"another upstream client id", with(func(t *sealing.Tenant) { t.UpstreamClientID = "client2" })},
		{"another generation", with(func(t *sealing.Tenant) { t.Generation = 2 })},
		{"a generation in another byte", with(func(t *sealing.Tenant) { t.Generation = 1 << 24 })},
		{"resource and audience exchanged", with(func(t *sealing.Tenant) { t.Resource, t.Audience = t.Audience, t.Resource })},
		{`("ab","c")`, sealing.Tenant{Resource: "ab", Audience: "c"}},
		{`("a","bc")`, sealing.Tenant{Resource: "a", Audience: "bc"}},
		{`("abc","")`, sealing.Tenant{Resource: "abc"}},
		{`("","abc")`, sealing.Tenant{Audience: "abc"}},
		{"no facts at all", sealing.Tenant{}},
	} {
		id := c.tenant.ID()
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have one id", c.name, other)
		}
		seen[id] = c.name
		if id != c.tenant.ID() {
			t.Errorf("%s: the id changes", c.name)
		}
	}
}

func TestValueOpensForNoTenantThatDiffersInOneFact(t *testing.T) {
	r := ring(t, "one")
	a := sealing.Tenant{PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Generation: 1}
	b := a
	b.Generation = 2
	v := r.Seal(sealing.KindRefresh, a.ID(), aContext, []byte("payload"), now)
	opens(t, r, sealing.KindRefresh, a.ID(), aContext, v, now, []byte("payload"), now)
	refuses(t, r, sealing.KindRefresh, b.ID(), aContext, v, now)
}

func TestLoginSeed(t *testing.T) {
	seed := sealing.LoginSeed{1, 2, 3}
	seen := map[string]bool{}
	for _, c := range []struct {
		name   string
		text   string
		length int
	}{
		{"state", seed.State(), 22},
		{"nonce", seed.Nonce(), 22},
		{"code verifier, within the 43 to 128 of RFC 7636", seed.CodeVerifier(), 43},
		{"state of another seed", sealing.LoginSeed{1, 2, 4}.State(), 22},
		{"nonce of another seed", sealing.LoginSeed{1, 2, 4}.Nonce(), 22},
		{"code verifier of another seed", sealing.LoginSeed{1, 2, 4}.CodeVerifier(), 43},
	} {
		if len(c.text) != c.length || strings.Trim(c.text, urlAlphabet) != "" {
			t.Errorf("%s: %q is not %d base64url characters", c.name, c.text, c.length)
		}
		// No value may be the beginning of another, or the state would show half a verifier.
		if seen[c.text[:22]] {
			t.Errorf("%s: %q is shared", c.name, c.text)
		}
		seen[c.text[:22]] = true
	}
	if again := (sealing.LoginSeed{1, 2, 3}); again.State() != seed.State() || again.Nonce() != seed.Nonce() || again.CodeVerifier() != seed.CodeVerifier() {
		t.Error("the same seed gives other values")
	}
}

func TestNamesInTheLog(t *testing.T) {
	r := ring(t, "one")
	if both := ring(t, "new", "one").Pseudonyms(wiki, "alice"); len(both) != 2 || both[0] != ring(t, "new").Pseudonym(wiki, "alice") || both[1] != r.Pseudonym(wiki, "alice") {
		t.Errorf("under each master: %q", both)
	}
	alice := r.Pseudonym(wiki, "alice")
	for _, c := range []struct {
		name string
		got  string
		same bool
	}{
		{"the same subject", r.Pseudonym(wiki, "alice"), true},
		{"the same subject on another replica", ring(t, "one").Pseudonym(wiki, "alice"), true},
		{"while a new master is only accepted", ring(t, "one", "new").Pseudonym(wiki, "alice"), true},
		{"after a new master is promoted", ring(t, "new", "one").Pseudonym(wiki, "alice"), false},
		{"another subject", r.Pseudonym(wiki, "bob"), false},
		{"the same subject at another tenant", r.Pseudonym(world, "alice"), false},
		{"the fingerprint of the same text", sealing.Fingerprint("alice"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.got) != 16 || strings.Trim(c.got, urlAlphabet) != "" {
				t.Errorf("%q is not 16 base64url characters", c.got)
			}
			if (c.got == alice) != c.same {
				t.Errorf("%q, alice was %q", c.got, alice)
			}
		})
	}
	if sealing.Fingerprint("alice") == sealing.Fingerprint("bob") {
		t.Error("fingerprints do not tell clients apart")
	}
}

// Keys are kept and shared by all requests: no request may get a name that another asked for.
func TestNamesMadeAtOnceAreThoseMadeAlone(t *testing.T) {
	shared := ring(t, "new", "one")
	tenants := []sealing.TenantID{wiki, world}
	var at sync.WaitGroup
	for n := range 32 {
		tenant, subject := tenants[n%2], fmt.Sprint("subject ", n/2)
		id := ring(t, []string{"new", "one"}[n%4/2]).Seal(sealing.KindClient, tenant, "", []byte(subject), now)
		secret, err := ring(t, "new", "one").ClientSecret(tenant, id)
		if err != nil {
			t.Fatal(err)
		}
		names := ring(t, "new", "one").Pseudonyms(tenant, subject)
		at.Go(func() {
			for range 50 {
				if got, err := shared.ClientSecret(tenant, id); got != secret || err != nil {
					t.Errorf("secret %q, %v, alone %q", got, err, secret)
				}
				if got := shared.Pseudonyms(tenant, subject); !slices.Equal(got, names) || got[0] != shared.Pseudonym(tenant, subject) {
					t.Errorf("pseudonyms %q, alone %q", got, names)
				}
			}
		})
	}
	at.Wait()
}

// A replay store must not be able to read what it keeps, nor mistake one thing for another.
func TestReplayMarksAndAnswers(t *testing.T) {
	a, b := sealing.Tenant{Resource: "a"}.ID(), sealing.Tenant{Resource: "b"}.ID()
	seen := map[[16]byte]string{}
	for _, c := range []struct {
		name, use, value string
		tenant           sealing.TenantID
	}{
		{"a code", "code", "value", a}, {"of another tenant", "code", "value", b}, {"another use", "family", "value", a}, {"another code", "code", "value2", a},
		{"use and value run together", "codev", "alue", a},
	} {
		mark := sealing.ReplayMark(c.tenant, c.use, c.value)
		if other, ok := seen[mark]; ok || mark != sealing.ReplayMark(c.tenant, c.use, c.value) {
			t.Errorf("%s has the mark of %s", c.name, other)
		}
		seen[mark] = c.name
	}
	sealed := sealing.SealAnswer(a, "the token presented", []byte("the answer"))
	if got, err := sealing.OpenAnswer(a, "the token presented", sealed); err != nil || string(got) != "the answer" || strings.Contains(string(sealed), "answer") {
		t.Errorf("opens as %q, %v; sealed %q", got, err, sealed)
	}
	changed := []byte(string(sealed))
	changed[len(changed)/2] ^= 1
	for _, c := range []struct {
		name, presented string
		tenant          sealing.TenantID
		sealed          []byte
	}{
		{"another token", "another token", a, sealed}, {"another tenant", "the token presented", b, sealed}, {"a changed answer", "the token presented", a, changed},
		{"half an answer", "the token presented", a, sealed[:len(sealed)/2]}, {"nothing", "the token presented", a, nil},
	} {
		if got, err := sealing.OpenAnswer(c.tenant, c.presented, c.sealed); err != sealing.ErrNotOpened || got != nil {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

// The key of a client at a provider is the same for all tenants that share the client. It differs
// for every other client, provider and master, and is not a key that signs tokens.
func TestClientKeys(t *testing.T) {
	both, one := ring(t, "one", "two"), ring(t, "one")
	keys := both.ClientKeys("https://sso.example", "client")
	if len(keys) != 2 || !keys[0].Equal(one.ClientKeys("https://sso.example", "client")[0]) || !keys[1].Equal(ring(t, "two").ClientKeys("https://sso.example", "client")[0]) {
		t.Fatal("the first master's key does not come first")
	}
	seen := map[string]string{}
	for _, c := range []struct{ name, issuer, client string }{
		{"the first", "https://sso.example", "client"},
		{"another client", "https://sso.example", "client2"},
		{"another provider", "https://sso.example/", "client"},
		{"names that run together the same", "https://sso.examplec", "lient"},
		{"nothing", "", ""},
	} {
		for i, key := range both.ClientKeys(c.issuer, c.client) {
			scalar, err := key.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[string(scalar)]; ok {
				t.Errorf("%s has the key of %s", c.name, other)
			}
			seen[string(scalar)] = fmt.Sprint(c.name, ", master ", i)
		}
	}
}

// A mark or a client for another spelling of the server's URL would match no tenant.
func TestPublicURLsHaveOneForm(t *testing.T) {
	for url, want := range map[string]bool{
		"https://mcp.example/wiki": true, "https://mcp.example": true, "https://mcp.example:8443/wiki": true, "http://mcp.localhost:8080": true,
		"http://mcp.example:443": true, "https://mcp.example:80": true, "https://[2001:db8::1]/wiki": true,
		"https://mcp.example/": false, "https://MCP.example": false, "https://mcp.example:443/wiki": false, "http://mcp.example:80": false,
		"https://user@mcp.example": false, "https://mcp.example?x": false, "https://mcp.example/wiki#x": false,
		"mcp.example": false, "ftp://mcp.example": false, "https:///wiki": false, "": false, "*": false, "https://mcp.example/%zz": false,
	} {
		if got := sealing.IsPublicURL(url); got != want {
			t.Errorf("%q: %v, want %v", url, got, want)
		}
	}
}
