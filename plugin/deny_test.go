//go:build go1.21

package plugin

import (
	"fmt"
	"strings"
	"testing"
)

const denied = `error="invalid_token", error_description="the login of the access token was ended by the operator"`

func denyDocument(members string) string {
	return strings.Replace(`{"v":1,"serial":1,"notBefore":0,`+members+`}`, `"notBefore":0,"notBefore"`, `"notBefore"`, 1)
}

// login returns the claims of an access token of a refreshed login.
func login() map[string]any {
	return map[string]any{"sid": "family-1", "auth_time": int64(1799990000), "exp": clock.Load() + 20000}
}

func TestDenyDocumentAtThePlugin(t *testing.T) {
	for _, c := range []struct {
		name     string
		document string
		claims   map[string]any // over those of login
		want     int
	}{
		{"nobody", noDeny, nil, 200},
		{"logins before the mark", denyDocument(`"notBefore":1799990001`), nil, 401},
		{"a login at the mark", denyDocument(`"notBefore":1799990000`), nil, 200},
		{"a login after the mark", denyDocument(`"notBefore":1799980000`), nil, 200},
		{"a token from before the mark that says no time of its login", denyDocument(`"notBefore":1799990001`), map[string]any{"auth_time": nil, "iat": 1799990000}, 401},
		{"a client", denyDocument(`"clients":["` + fingerprint("client-1") + `"]`), nil, 401},
		{"another client", denyDocument(`"clients":["` + fingerprint("client-2") + `"]`), nil, 200},
		{"a user", denyDocument(`"users":["user-2","user-1"]`), nil, 401},
		{"a user whose name begins so", denyDocument(`"users":["user-11","user"]`), nil, 200},
		{"a user in other letters", denyDocument(`"users":["User-1"]`), nil, 200},
		{"a user beyond ASCII", denyDocument(`"users":["zoë"]`), map[string]any{"sub": "zoë"}, 401},
		{"a family", denyDocument(`"families":["family-1"]`), nil, 401},
		{"another family", denyDocument(`"families":["family-2"]`), nil, 200},
		{"a bearer key", denyDocument(`"keys":["family-1"]`), nil, 401},
		{"lists that are not there, and others that are new and empty", denyDocument(`"devices":[],"since":0`), nil, 200},
	} {
		start(t)
		sidecar := startSidecar(t)
		h, _ := guard(t, wikiConfig(sidecar.server.URL))
		claims := login()
		for name, value := range c.claims {
			claims[name] = value
		}
		token := goodToken("k1", claims)
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
			t.Fatalf("%s: before the document: status %d", c.name, rec.Code)
		}
		sidecar.setDeny(c.document)
		clock.Add(denyPeriod)
		// This request starts the fetch, and does not wait for it.
		ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
		eventually(t, c.name, func() bool { return sidecar.denyFetches.Load() == 2 && !flying() })
		claims["jti"] = "b"
		for _, other := range []string{token, goodToken("k1", claims)} { // used before, and not
			rec := ask(h, "POST", wikiURL+"/mcp", bearer(other)...)
			if rec.Code != c.want {
				t.Errorf("%s: status %d, want %d", c.name, rec.Code, c.want)
			}
			if c.want == 401 && !strings.Contains(strings.Join(challenges(rec), "|"), denied) {
				t.Errorf("%s: challenge %s", c.name, challenges(rec))
			}
		}
	}
}

// A copy judges for less than denyPatience: within it, a request has the new copy fetched and does
// not wait for it. With the 30 seconds of the sidecar's own copy that makes the 90 seconds of
// docs/runbooks/README.md.
func TestDenyDocumentJudgesForLessThanAMinute(t *testing.T) {
	if denyPatience != 60 {
		t.Errorf("%d seconds: docs/runbooks/README.md counts on 60", denyPatience)
	}
	for _, c := range []struct {
		age  int64 // of the copy, seconds
		want int
	}{{denyPeriod, 200}, {denyPatience - 1, 200}, {denyPatience, 401}} {
		start(t)
		sidecar := startSidecar(t)
		h, _ := guard(t, wikiConfig(sidecar.server.URL))
		token := bearer(goodToken("k1", login()))
		if rec := ask(h, "POST", wikiURL+"/mcp", token...); rec.Code != 200 {
			t.Fatalf("before the document: status %d", rec.Code)
		}
		sidecar.setDeny(denyDocument(`"families":["family-1"]`))
		clock.Add(c.age)
		waits := c.want != 200
		if !waits {
			sidecar.mu.Lock() // it answers after the request
		}
		rec := ask(h, "POST", wikiURL+"/mcp", token...)
		if !waits {
			sidecar.mu.Unlock()
		}
		if rec.Code != c.want {
			t.Errorf("a copy of %d seconds: status %d, want %d", c.age, rec.Code, c.want)
		}
		eventually(t, "the fetch ends", func() bool { return sidecar.denyFetches.Load() == 2 && !flying() })
		if rec := ask(h, "POST", wikiURL+"/mcp", token...); rec.Code != 401 {
			t.Errorf("the next request: status %d", rec.Code)
		}
	}
}

// flying says whether a fetch of keys or of a deny document is under way.
func flying() bool {
	sidecarStates.Lock()
	defer sidecarStates.Unlock()
	found := false
	for _, s := range allStates() {
		s.keys.mu.RLock()
		found = found || s.keys.inflight != nil
		s.keys.mu.RUnlock()
		s.deny.mu.RLock()
		found = found || s.deny.inflight != nil
		s.deny.mu.RUnlock()
		s.bearer.mu.Lock()
		found = found || len(s.bearer.inflight) > 0
		s.bearer.mu.Unlock()
	}
	return found
}

func TestFingerprintIsThatOfTheSidecar(t *testing.T) {
	// The value is from sealing/testdata/vectors/derive-fingerprint.txt.
	if got := fingerprint("https://client.example/metadata.json"); got != "HLtN6JYChr_f82I8" {
		t.Errorf("fingerprint %s", got)
	}
}

func TestDenyDocumentIsAskedForEvery30Seconds(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", login())
	for i := int64(0); i < 10; i++ {
		for j := int64(0); j < denyPeriod; j++ {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
				t.Fatalf("status %d", rec.Code)
			}
			if j == 0 {
				eventually(t, "the fetch ends", func() bool { return sidecar.denyFetches.Load() == i+1 && !flying() })
			}
			clock.Add(1)
		}
	}
	if n := sidecar.denyFetches.Load(); n != 10 {
		t.Errorf("%d fetches in 300 s", n)
	}
	if n := sidecar.unchanged.Load(); n != 9 {
		t.Errorf("%d of 9 answers said that nothing changed", n)
	}
	for _, s := range allStates() {
		if len(s.tokens.young) != 1 {
			t.Errorf("%d tokens are remembered: an unchanged document must not forget them", len(s.tokens.young))
		}
	}
	// Garbage and the absence of a token ask for nothing.
	start(t)
	for i := 0; i < 3; i++ {
		ask(h, "POST", wikiURL+"/mcp", bearer("x.y.z")...)
		ask(h, "POST", wikiURL+"/mcp")
	}
	if n := sidecar.denyFetches.Load(); n != 10 {
		t.Errorf("garbage caused %d fetches", n-10)
	}
}

// After a quiet time the first request waits for a new copy, because it could be the thief's.
func TestDenyDocumentAfterAQuietTime(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", login())
	ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
	sidecar.setDeny(denyDocument(`"families":["family-1"]`))
	clock.Add(denyPatience)
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 401 || behind.count() != 1 {
		t.Errorf("status %d, %d calls", rec.Code, behind.count())
	}
}

func TestDenyDocumentThatWasGoodIsKept(t *testing.T) {
	for _, c := range []struct{ name, document string }{
		{"the sidecar cannot read it", "503"},
		{"it is not JSON", "soon"},
		{"another version", `{"v":2}`},
		{"a list that is none", `{"v":1,"users":"user-1"}`},
		{"it is too long", `{"v":1,"users":["` + strings.Repeat("x", maxDenyBody) + `"]}`},
		{"what answers knows no such document", "404"},
		{"a list that is new", denyDocument(`"devices":["d-1"]`)},
		{"a list in other letters", denyDocument(`"Users":["user-2"]`)},
	} {
		log := start(t)
		sidecar := startSidecar(t)
		sidecar.setDeny(denyDocument(`"users":["user-2"]`))
		h, _ := guard(t, wikiConfig(sidecar.server.URL))
		claims := login()
		good := goodToken("k1", claims)
		claims["sub"] = "user-2"
		bad := goodToken("k1", claims)
		ask(h, "POST", wikiURL+"/mcp", bearer(good)...)
		sidecar.setDeny(c.document)
		for i := 0; i < 3; i++ {
			clock.Add(denyPatience)
			for token, want := range map[string]int{good: 200, bad: 401} {
				if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != want {
					t.Errorf("%s, after %d minutes: status %d, want %d", c.name, i+1, rec.Code, want)
				}
			}
		}
		if !strings.Contains(log.String(), `middleware "wiki@docker": the deny document cannot be fetched from the sidecar http://127.0.0.1:`) {
			t.Errorf("%s: logged %q", c.name, log)
		}
	}
}

// One of several replicas may have an old copy, or none. It must not let in again a person whom
// another replica keeps out.
func TestDenyDocumentThatIsOlderIsNotTaken(t *testing.T) {
	for _, c := range []struct{ name, document string }{
		{"an older serial", denyDocument(`"users":["user-2"]`)},
		{"a sidecar that was started without one", noDeny},
	} {
		log := start(t)
		sidecar := startSidecar(t)
		sidecar.setDeny(strings.Replace(denyDocument(`"users":["user-1"]`), `"serial":1`, `"serial":2`, 1))
		h, _ := guard(t, wikiConfig(sidecar.server.URL))
		token := goodToken("k1", login())
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 401 {
			t.Errorf("%s, before: status %d", c.name, rec.Code)
		}
		sidecar.setDeny(c.document)
		for i := int64(0); i < 3600; i += 600 {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 401 {
				t.Errorf("%s, after %d s: status %d", c.name, i, rec.Code)
			}
			eventually(t, c.name, func() bool { return !flying() })
			clock.Add(600)
		}
		if !strings.Contains(log.String(), "older than the one before") {
			t.Errorf("%s: logged %q", c.name, log)
		}
		// Nobody has confirmed the newer document for an hour: the operator has begun a new one.
		ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
		eventually(t, c.name, func() bool { return !flying() })
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
			t.Errorf("%s, after an hour: status %d", c.name, rec.Code)
		}
	}
}

// A list that was never read is not an empty one.
func TestDenyDocumentThatNeverCameLetsNobodyPass(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	sidecar.setDeny("503")
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", login())
	for i := int64(1); i <= 3; i++ {
		for j := 0; j < 5; j++ {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
				t.Fatalf("status %d", rec.Code)
			}
		}
		if n := sidecar.denyFetches.Load(); n != i {
			t.Errorf("%d fetches, want %d: it backs off", n, i)
		}
		clock.Add(int64(1) << uint(i-1))
	}
	sidecar.setDeny(noDeny)
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 || behind.count() != 1 {
		t.Errorf("once it was read: status %d", rec.Code)
	}
	// A member of a later version is named, and nobody passes: ignoring it would let in those whom
	// it names.
	log := start(t)
	sidecar.setDeny(denyDocument(`"devices":["d-1"]`))
	h, behind = guard(t, wikiConfig(sidecar.server.URL))
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 503 || behind.count() != 0 ||
		!strings.Contains(log.String(), `the deny document has the member "devices", which this version of the plugin does not know: upgrade the plugin too`) {
		t.Errorf("a list that is not known: status %d, logged %q", rec.Code, log)
	}
}

// A token that was verified by the old document must not be remembered under the new one.
func TestDenyDocumentThatChangesDuringAVerification(t *testing.T) {
	start(t)
	c := newTokenCache()
	key := &verifyKey{kid: "k1"}
	old := &denyList{}
	current := &denyList{}
	c.useKeys(map[string]*verifyKey{"k1": key}, period{})
	c.useDenied(current, period{})
	remember(c, "Bearer x", &identity{}, key, old)
	if len(c.young) != 0 {
		t.Error("it was remembered")
	}
	remember(c, "Bearer x", &identity{}, key, current)
	if len(c.young) != 1 {
		t.Error("a token of the new document was not remembered")
	}
	// A token whose key went or was replaced is not remembered either.
	remember(c, "Bearer y", &identity{}, &verifyKey{kid: "k1"}, current)
	remember(c, "Bearer z", &identity{}, &verifyKey{kid: "k2"}, current)
	if len(c.young) != 1 {
		t.Error("a token of another key was remembered")
	}
}

func TestDenyDocumentOfManyEntries(t *testing.T) {
	users := []string{}
	for i := 0; i < 10000; i++ {
		users = append(users, fmt.Sprintf(`"user-%d"`, i))
	}
	d, err := parseDenyList([]byte(denyDocument(`"users":[`+strings.Join(users, ",")+`]`)), "")
	if err != nil || len(d.users) != 10000 {
		t.Errorf("%v, %v", d, err)
	}
}

// JSON may write one character of the document as six, so the document may be longer here than at
// the sidecar.
func TestDenyDocumentThatIsLarge(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	sidecar.setDeny(denyDocument(`"users":["` + strings.Repeat(`\u0026`, 1<<20) + `"],"families":["family-1"]`))
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	credentials := bearer(goodToken("k1", login()))
	ask(h, "POST", wikiURL+"/mcp", credentials...)
	// a slow machine may take longer than a request waits
	eventually(t, "the document is read", func() bool { return !flying() })
	if rec := ask(h, "POST", wikiURL+"/mcp", credentials...); rec.Code != 401 {
		t.Errorf("status %d", rec.Code)
	}
}

// A failure before the quiet time, such as the old copy of a replica that lags, must not make the
// plugin judge the first request after it by the old copy.
func TestDenyDocumentAfterAFailureAndAQuietTime(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	token := goodToken("k1", login())
	ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
	sidecar.setDeny("503")
	clock.Add(denyPeriod)
	ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
	eventually(t, "the fetch fails", func() bool { return sidecar.denyFetches.Load() == 2 && !flying() })
	calls := behind.count()
	// The sidecar is well again, and somebody is denied.
	sidecar.setDeny(denyDocument(`"families":["family-1"]`))
	clock.Add(20 * denyPatience) // a quiet time
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 401 || behind.count() != calls {
		t.Errorf("status %d, %d calls more", rec.Code, behind.count()-calls)
	}
}
