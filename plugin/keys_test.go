//go:build go1.21

package plugin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestUnknownKeyIDsCauseOneFetchIn30Seconds(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	good := goodToken("k1", nil)
	_, rest, _ := strings.Cut(good, ".")
	invented := 0
	invent := func(n int) {
		t.Helper()
		for i := 0; i < n; i++ {
			invented++
			header := strictBase64.EncodeToString([]byte(fmt.Sprintf(`{"typ":"at+jwt","alg":"EdDSA","kid":"random-%d"}`, invented)))
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(header+"."+rest)...); rec.Code != 401 {
				t.Fatalf("kid %d: status %d", invented, rec.Code)
			}
		}
	}
	ask(h, "POST", wikiURL+"/mcp", bearer(good)...) // fetches the keys
	before := sidecar.fetches.Load()
	invent(5000)
	clock.Add(29)
	invent(5000)
	if n := sidecar.fetches.Load() - before; n > 1 {
		t.Errorf("%d fetches within 30 seconds", n)
	}
	clock.Add(1)
	invent(100)
	if n := sidecar.fetches.Load() - before; n > 2 {
		t.Errorf("%d fetches, one 30 seconds after the other", n)
	}
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(good)...); rec.Code != 200 {
		t.Errorf("the good token: status %d", rec.Code)
	}
}

func TestKeysAreNotFetchedForGarbage(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	for _, token := range []string{"x", goodToken("k1", map[string]any{"iss": "https://evil.example"}), goodToken("k1", map[string]any{"aud": "x"}), goodToken("k1", map[string]any{"exp": 1})} {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 401 {
			t.Errorf("status %d", rec.Code)
		}
	}
	if n := sidecar.fetches.Load(); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

func TestKeyThatIsNewIsFoundAtOnce(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	sidecar.serveKeys(jwksOf("k1", "k2"))
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k2", nil))...); rec.Code != 200 {
		t.Errorf("status %d", rec.Code)
	}
}

func TestKeysAreFetchedAgainAfterTheTTLWithoutWaiting(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", nil)
	for i := 0; i < 3; i++ {
		ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
		clock.Add(100)
	}
	if n := sidecar.fetches.Load(); n != 1 {
		t.Errorf("%d fetches within the TTL", n)
	}
	hold := make(chan struct{})
	sidecar.mu.Lock()
	sidecar.hold = hold
	sidecar.mu.Unlock()
	clock.Add(100)
	// Neither a cached token nor a new one waits.
	for _, other := range []string{token, goodToken("k1", map[string]any{"jti": "b"})} {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(other)...); rec.Code != 200 {
			t.Errorf("status %d while the sidecar hangs", rec.Code)
		}
	}
	eventually(t, "one fetch", func() bool { return sidecar.fetches.Load() == 2 })
	close(hold)
}

func TestKeysServeForAnHourWhileTheSidecarIsAway(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	claims := map[string]any{"exp": clock.Load() + 20000}
	token := goodToken("k1", claims)
	ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
	sidecar.server.Close()
	for i := 0; i < 11; i++ {
		clock.Add(300)
		claims["jti"] = fmt.Sprint(i)
		for _, other := range []string{token, goodToken("k1", claims)} {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(other)...); rec.Code != 200 {
				t.Errorf("after %d s: status %d", clock.Load()-1800000000, rec.Code)
			}
		}
		want := i + 1
		eventually(t, "the fetch fails", func() bool { return failuresOfTheOne(t) == want })
	}
	rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("new", nil))...)
	if rec.Code != 503 {
		t.Errorf("a kid that may be a new one: status %d, want 503", rec.Code)
	}
	if rec := ask(h, "POST", wikiURL+"/mcp"); rec.Code != 401 {
		t.Errorf("no token: status %d", rec.Code)
	}
	clock.Add(300)
	rec = ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || rec.Body.String() != unavailable || len(challenges(rec)) != 0 {
		t.Errorf("after an hour: %d %s %v", rec.Code, rec.Body, rec.Header())
	}
	if !strings.Contains(log.String(), "signing keys cannot be fetched") {
		t.Errorf("logged %q", log)
	}
}

func failuresOfTheOne(t *testing.T) int {
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	if n := len(allStates()); n != 1 {
		t.Fatalf("%d states", n)
	}
	failures := 0
	for _, s := range allStates() {
		s.keys.mu.RLock()
		failures = s.keys.failures
		s.keys.mu.RUnlock()
	}
	return failures
}

func TestKeysThatNeverCameAre503(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	sidecar.serveKeys("not JSON")
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	at := int64(0)
	wait := int64(1)
	for i := int64(1); i <= 8; i++ {
		for j := 0; j < 5; j++ {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 503 {
				t.Fatalf("status %d", rec.Code)
			}
		}
		if n := sidecar.fetches.Load(); n != i {
			t.Errorf("%d fetches after %d s, want %d", n, at, i)
		}
		clock.Add(wait)
		at += wait
		wait *= 2
		if wait > retryAfter {
			wait = retryAfter
		}
	}
	sidecar.serveKeys(jwksOf("k1"))
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 200 || behind.count() != 1 {
		t.Errorf("when the sidecar is back: status %d", rec.Code)
	}
}

// However long an outage was, a client that waits for Retry-After comes in after it.
func TestRetryAfterIsTrueAfterAnOutage(t *testing.T) {
	for _, c := range []struct {
		name   string
		begin  func(*fakeSidecar)
		finish func(*fakeSidecar)
	}{
		{"of the keys, from a cold start", func(f *fakeSidecar) { f.serveKeys("not JSON") }, func(f *fakeSidecar) { f.serveKeys(jwksOf("k1")) }},
		{"of the deny document", func(f *fakeSidecar) { f.setDeny("503") }, func(f *fakeSidecar) { f.setDeny(noDeny) }},
		{"of the assertion", func(f *fakeSidecar) {
			f.on("/hop/assertion", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) })
		}, func(f *fakeSidecar) {
			f.on("/hop/assertion", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"assertion":"a1","expires_in":300}`) })
		}},
		{"of the hop key", func(f *fakeSidecar) { os.Unsetenv(hopVariable) }, func(f *fakeSidecar) { os.Setenv(hopVariable, testHopKey) }},
		{"of the MCP server's secret", func(f *fakeSidecar) { os.Unsetenv("RETRY_BACKEND_AUTHORIZATION") }, func(f *fakeSidecar) { os.Setenv("RETRY_BACKEND_AUTHORIZATION", "Bearer x") }},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.IdentityHeaders = "assertion"
		config.BackendAuthorization = "env:RETRY_BACKEND_AUTHORIZATION"
		os.Setenv("RETRY_BACKEND_AUTHORIZATION", "Bearer x")
		sidecar.on("/hop/assertion", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"assertion":"a1","expires_in":300}`) })
		h, _ := guard(t, config)
		token := goodToken("k1", map[string]any{"exp": clock.Load() + 20000})
		c.begin(sidecar)
		rec := &httptest.ResponseRecorder{}
		for i := 0; i < 570; i++ { // in the middle of a pause that doubles up to a minute
			rec = ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
			if rec.Code != 503 {
				t.Fatalf("%s: status %d", c.name, rec.Code)
			}
			clock.Add(1)
		}
		clock.Add(-1)
		c.finish(sidecar)
		wait, err := strconv.ParseInt(rec.Header().Get("Retry-After"), 10, 64)
		if err != nil || wait < 1 {
			t.Errorf("%s: Retry-After %q", c.name, rec.Header().Get("Retry-After"))
		}
		clock.Add(wait)
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
			t.Errorf("%s, and %d seconds later: status %d", c.name, wait, rec.Code)
		}
	}
	os.Unsetenv("RETRY_BACKEND_AUTHORIZATION")
}

// A change of a label that does not concern access changes neither keys nor verified tokens. No
// label throws away signing keys that are still good.
func TestLabelsThatChangeDuringAnOutage(t *testing.T) {
	for _, c := range []struct {
		name      string
		change    func(*Config)
		seen      int // status of a token that was used before
		fresh     int // of a token that was not
		bearerKey int // of a bearer key that was used before
	}{
		{"displayName", func(c *Config) { c.DisplayName = "Our Wiki" }, 200, 200, 200},
		{"logo", func(c *Config) { c.Logo = "data:image/png;base64,AAAA" }, 200, 200, 200},
		{"mcpPaths", func(c *Config) { c.MCPPaths = "/other" }, 200, 200, 200},
		{"clientSecret", func(c *Config) { c.ClientSecret = "another" }, 200, 200, 200},
		{"clientAuth", func(c *Config) { c.ClientAuth = "post" }, 200, 200, 200},
		{"providerParameters", func(c *Config) { c.ProviderParameters = "prompt=consent" }, 200, 200, 200},
		{"exchange", func(c *Config) { c.Exchange = "callback" }, 200, 200, 200},
		{"refresh", func(c *Config) { c.Refresh = "session" }, 200, 200, 200},
		{"upstreamCheckInterval", func(c *Config) { c.UpstreamCheckInterval = "5m" }, 200, 200, 200},
		{"rememberConsent", func(c *Config) { c.RememberConsent = "24h" }, 200, 200, 200},
		{"scopesSupported", func(c *Config) { c.ScopesSupported = "mcp" }, 200, 200, 200},
		{"privateRedirectURIs", func(c *Config) { c.PrivateRedirectURIs = "myapp://callback" }, 200, 200, 200},
		{"jwksCacheTTLSeconds", func(c *Config) { c.JWKSCacheTTLSeconds = "60" }, 200, 200, 200},
		// Only the sidecar can say what a bearer key is good for under other rules of access.
		{"a scope that the tokens have", func(c *Config) { c.RequiredScopes = "mcp" }, 200, 200, 503},
		{"a scope that they lack", func(c *Config) { c.RequiredScopes = "wiki:admin" }, 403, 403, 503},
		{"who may log in", func(c *Config) { c.AllowedEmails = "a@example.com" }, 200, 200, 503},
		{"scopeRules", func(c *Config) { c.ScopeRules = "*=mcp" }, 200, 200, 503},
		{"identityHeaders", func(c *Config) { c.IdentityHeaders = "client_id" }, 200, 200, 503},
		// A token from before the label holds none of the provider.
		{"upstreamToken", func(c *Config) { c.UpstreamToken = "scopes=repo" }, 401, 401, 503},
		// Other keys: the sidecar has to be asked.
		{"generation", func(c *Config) { c.Generation = "1" }, 503, 503, 503},
		{"the provider", func(c *Config) { c.ProviderIssuer = "https://other.example" }, 503, 503, 503},
		{"clientID", func(c *Config) { c.ClientID = "other" }, 503, 503, 503},
		{"sidecarURL", func(c *Config) { c.SidecarURL = c.SidecarURL.(string) + "/elsewhere" }, 503, 503, 503},
	} {
		start(t)
		sidecar, _, h, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
		seen := goodToken("k1", map[string]any{"jti": "seen"})
		for _, credentials := range []string{seen, aKey("ci")} {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(credentials)...); rec.Code != 200 {
				t.Fatalf("%s, before: status %d", c.name, rec.Code)
			}
		}
		sidecar.server.Close()
		sidecarTransport.CloseIdleConnections()
		config := wikiConfig(sidecar.server.URL)
		c.change(config)
		h, behind := guard(t, config)
		for _, x := range []struct {
			what, credentials string
			want              int
		}{{"a token used before", seen, c.seen}, {"another", goodToken("k1", nil), c.fresh}, {"a bearer key", aKey("ci"), c.bearerKey}} {
			rec := ask(h, "POST", wikiURL+"/mcp", bearer(x.credentials)...)
			if rec.Code != x.want {
				t.Errorf("%s: %s: status %d, want %d", c.name, x.what, rec.Code, x.want)
			}
			if rec.Code == 200 && c.name == "identityHeaders" && behind.last.Get("X-Mcp-Client-Id") == "" {
				t.Errorf("%s: %s: passed without the new header", c.name, x.what)
			}
		}
	}
}

// Keys that a state adopts after a change of labels stand under the same deny document, and expire
// at the same time.
func TestKeysThatAreAdoptedKeepTheirAge(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	sidecar.setDeny(denyDocument(`"users":["user-2"]`))
	config := wikiConfig(sidecar.server.URL)
	h, _ := guard(t, config)
	good := goodToken("k1", map[string]any{"exp": clock.Load() + 20000})
	bad := goodToken("k1", map[string]any{"sub": "user-2", "exp": clock.Load() + 20000})
	ask(h, "POST", wikiURL+"/mcp", bearer(good)...)
	sidecar.server.Close()
	sidecarTransport.CloseIdleConnections()
	for _, c := range []struct {
		rule     string
		wait     int64
		good, no int
	}{{"*=mcp", 1000, 200, 401}, {"*=other", 2599, 200, 401}, {"*=third", 1, 503, 503}} {
		clock.Add(c.wait)
		config.ScopeRules = c.rule
		h, _ = guard(t, config)
		if a, b := ask(h, "POST", wikiURL+"/mcp", bearer(good)...).Code, ask(h, "POST", wikiURL+"/mcp", bearer(bad)...).Code; a != c.good || b != c.no {
			t.Errorf("%s: %d, %d; want %d, %d", c.rule, a, b, c.good, c.no)
		}
	}
}

func TestRefusedHopKeyIsNamedWhenKeysAreFetched(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	sidecar.refuses = true
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
	if rec.Code != 503 || !strings.Contains(log.String(), "the sidecar refuses the hop header: its master secret is not that of this hop key (key id ") {
		t.Errorf("status %d, log %q", rec.Code, log)
	}
}

func TestCachedTokenGoesWithItsKey(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	sidecar.serveKeys(jwksOf("k1", "k2"))
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	one := goodToken("k1", nil)
	two := goodToken("k2", nil)
	statusOf := func(token string) int { return ask(h, "POST", wikiURL+"/mcp", bearer(token)...).Code }
	if statusOf(one) != 200 || statusOf(two) != 200 {
		t.Fatal("refused before the change")
	}
	sidecar.serveKeys(jwksOf("k2"))
	clock.Add(300)
	statusOf(one)
	eventually(t, "the token of the key that went is refused", func() bool { return statusOf(one) == 401 })
	if statusOf(two) != 200 {
		t.Error("the token of the key that stayed is refused")
	}
}

func TestKidWithAnotherKeyDropsCachedTokens(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", nil)
	statusOf := func() int { return ask(h, "POST", wikiURL+"/mcp", bearer(token)...).Code }
	if statusOf() != 200 {
		t.Fatal("refused before the change")
	}
	sidecar.serveKeys(strings.ReplaceAll(jwksOf("k2"), `"k2"`, `"k1"`))
	clock.Add(300)
	statusOf()
	eventually(t, "the token is refused", func() bool { return statusOf() == 401 })
}

func TestCachedTokenExpires(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", map[string]any{"exp": clock.Load() + 100})
	for _, c := range []struct{ after, want int }{{0, 200}, {99, 200}, {159, 200}, {160, 401}, {161, 401}} {
		clock.Store(1800000000 + int64(c.after))
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != c.want {
			t.Errorf("after %d s: status %d, want %d", c.after, rec.Code, c.want)
		}
	}
}

func TestCachedTokenIsNotHonouredByAnotherTenant(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	wiki, _ := guard(t, wikiConfig(sidecar.server.URL))
	strict := wikiConfig(sidecar.server.URL)
	strict.RequiredScopes = "admin"
	admin, _ := guard(t, strict)
	world := wikiConfig(sidecar.server.URL)
	world.Resource = "world"
	other, _ := guard(t, world)
	token := goodToken("k1", nil)
	for _, c := range []struct {
		name string
		rec  *httptest.ResponseRecorder
		want int
	}{
		{"its own", ask(wiki, "POST", wikiURL+"/mcp", bearer(token)...), 200},
		{"the same with a required scope", ask(admin, "POST", wikiURL+"/mcp", bearer(token)...), 403},
		{"another", ask(other, "POST", "https://mcp.localhost/world/mcp", bearer(token)...), 401},
		{"another host", ask(wiki, "POST", "https://other.localhost/wiki/mcp", bearer(token)...), 401},
	} {
		if c.rec.Code != c.want {
			t.Errorf("%s: status %d, want %d", c.name, c.rec.Code, c.want)
		}
	}
}

func TestReloadKeepsKeysAndTokens(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	token := goodToken("k1", nil)
	for i := 0; i < 3; i++ {
		h, _ := guard(t, wikiConfig(sidecar.server.URL))
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
			t.Errorf("status %d", rec.Code)
		}
	}
	if n := sidecar.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestTokenCacheIsBounded(t *testing.T) {
	start(t)
	c := newTokenCache()
	id := &identity{}
	name := func(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := 0; i < 3*maxYoung; i++ {
		if len(c.young) == 10 { // the rest of a generation, without its price in Yaegi
			for ; len(c.young) < maxYoung; i++ {
				c.young[name(i)] = id
			}
		}
		addToken(c, name(i), id)
	}
	if n := len(c.young) + len(c.old); n > 2*maxYoung || len(c.old) != maxYoung {
		t.Errorf("%d tokens", n)
	}
	last := name(5 * maxYoung)
	addToken(c, last, id)
	if c.young[last] == nil {
		t.Error("the newest token is gone")
	}
	// What nobody needs any more goes with time.
	for _, want := range []int{2, 1, 1} {
		clock.Add(maxAge)
		addToken(c, name(6*maxYoung+want), id)
		if len(c.young) != 1 || want == 1 && len(c.old) != 1 {
			t.Errorf("%d young and %d old tokens", len(c.young), len(c.old))
		}
	}
}

func TestKeySets(t *testing.T) {
	const ed = `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	for _, c := range []struct {
		name string
		set  string
		want int // usable keys; 0: an error
	}{
		{"one key", `{"keys":[` + ed + `]}`, 1},
		{"a key of another kind beside it", `{"keys":[{"kty":"EC","kid":"b","crv":"P-256"},` + ed + `]}`, 1},
		{"a key that does not decode beside it", `{"keys":[{"kty":7},` + ed + `]}`, 1},
		{"the same kid twice", `{"keys":[` + ed + `,` + strings.Replace(ed, "11q", "22q", 1) + `]}`, 1},
		{"no kid", `{"keys":[` + strings.Replace(ed, `"a"`, `""`, 1) + `]}`, 0},
		{"another algorithm for the key", `{"keys":[` + strings.Replace(ed, `"kty"`, `"alg":"HS256","kty"`, 1) + `]}`, 0},
		{"a short key", `{"keys":[` + strings.Replace(ed, "11qY", "", 1) + `]}`, 0},
		{"a symmetric key", `{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`, 0},
		{"RSA with an even exponent", `{"keys":[{"kty":"RSA","kid":"a","n":"` + strings.Repeat("_", 342) + `","e":"AQAA"}]}`, 0},
		{"RSA of 16384 bits", `{"keys":[{"kty":"RSA","kid":"a","n":"` + strings.Repeat("_", 2730) + `","e":"AQAB"}]}`, 0},
		{"no keys", `{"keys":[]}`, 0},
		{"not a set", `[]`, 0},
		{"40 keys", `{"keys":[` + strings.TrimSuffix(strings.Repeat(ed+",", 40), ",") + `]}`, 1},
		{"a key behind too many others", `{"keys":[` + strings.Repeat(`{"kty":"EC"},`, maxKeys) + ed + `]}`, 0},
	} {
		keys, err := parseKeys([]byte(c.set))
		if len(keys) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d keys, %v", c.name, len(keys), err)
		}
	}
}

// Where publicURL is not set, strangers choose the host, and so the tenant. They must not push out
// the keys of another tenant, which a reload of Traefik needs while the sidecar is away.
func TestKeysAreNotPushedOutByInventedHosts(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	h, _ := guard(t, config)
	token := bearer(goodToken("k1", nil))
	if rec := ask(h, "POST", wikiURL+"/mcp", token...); rec.Code != 200 {
		t.Fatalf("status %d", rec.Code)
	}
	clock.Add(10)
	open, _ := guard(t, wikiConfig(sidecar.server.URL))
	for i := 0; i < maxStrangers+10; i++ {
		host := fmt.Sprintf("https://h%d.example", i)
		invented := bearer(goodToken("k9", map[string]any{"iss": host + "/wiki"}))
		if rec := ask(open, "POST", host+"/wiki/mcp", invented...); rec.Code != 401 {
			t.Fatalf("%s: status %d", host, rec.Code)
		}
	}
	sidecar.server.Close()
	sidecarTransport.CloseIdleConnections()
	again, _ := guard(t, config)
	if rec := ask(again, "POST", wikiURL+"/mcp", token...); rec.Code != 200 {
		t.Errorf("after a reload: status %d", rec.Code)
	}
}
