//go:build go1.21

package plugin

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// lookers are two tenants that know nothing of each other. One verifies tokens by firstSight, the
// other by verifyToken alone.
type lookers struct {
	short, long *twin
	a, b        *tenant
}

// newLookers makes header and scopes of the tokens of k1 and k2 known to the first.
func newLookers(t testing.TB, labels func(*Config)) *lookers {
	l := &lookers{short: newTwin(t, labels), long: newTwin(t, labels)}
	l.short.sidecar.serveKeys(jwksOf("k1", "k2"))
	l.long.sidecar.serveKeys(jwksOf("k1", "k2"))
	l.a = l.short.b.tenantAt(wikiURL)
	l.b = l.long.b.tenantAt(wikiURL)
	for _, key := range []string{"k1", "k2"} {
		for _, scope := range []string{"openid mcp", "mcp", ""} {
			token := goodToken(key, map[string]any{"scope": scope})
			_, _ = verifyToken(l.a, wikiRequest(), "Bearer "+token, token, asBearer)
		}
	}
	_, _ = findKey(wikiRequest(), l.b, "k1")
	return l
}

func wikiRequest() *http.Request { return httptest.NewRequest("GET", wikiURL+"/mcp", nil) }

// sight is what firstSight says of credentials.
func (w *twin) sight(credentials string) *identity {
	var lines bytes.Buffer
	_ = http.Header{"Authorization": {credentials}, "X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}}.WriteSubset(&lines, nil)
	parts := strings.SplitN(lines.String(), ".", 3)
	if len(parts) != 3 || len(parts[2]) < lastLength { // as in serveUnknown
		return nil
	}
	knownLock.RLock()
	return firstSight(w.b.tenantAt(wikiURL).sight, credentials, lines.String(), parts, since(epoch))
}

// compare says what firstSight did, and fails where verifyToken does not agree.
func (l *lookers) compare(t testing.TB, token string) string {
	credentials := "Bearer " + token
	got := l.short.sight(credentials)
	if got == nil {
		return "left to the long way"
	}
	text, err := bearerToken([]string{credentials})
	var want *identity
	if err == nil {
		want, err = verifyToken(l.b, wikiRequest(), credentials, text, asBearer)
	}
	if got == forged {
		if !errors.Is(err, errSignature) {
			t.Fatalf("firstSight: forged; verifyToken: %v, %v: %q", want, err, token)
		}
		return "forged"
	}
	if err != nil {
		t.Fatalf("firstSight accepts what verifyToken refuses (%v): %q", err, token)
	}
	if said(got) != said(want) {
		t.Fatalf("firstSight: %s; verifyToken: %s: %q", said(got), said(want), token)
	}
	return "accepted"
}

func said(id *identity) string {
	return fmt.Sprintf("%q %q %d %q %v %t", id.subject, id.scopes, id.expires, id.thumbprint, id.more, id.assertion != nil)
}

// signed makes a token of texts, with the signature of a key.
func signed(kid, header, payload string) string {
	return signedAs(kid, header, base64.RawURLEncoding.EncodeToString([]byte(payload)))
}

// signedAs is signed for a payload that is encoded already.
func signedAs(kid, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + payload
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(signingKey(kid), []byte(text)))
}

// headerOf is the header of goodToken.
func headerOf(kid string) string { return `{"alg":"EdDSA","kid":"` + kid + `","typ":"at+jwt"}` }

// oddMembers are members of a payload that tokens of the sidecar do not have, or not so. AT is the
// time.
var oddMembers = []string{
	`"iss":"` + wikiURL + `/"`, `"iss":"https:\/\/mcp.localhost\/wiki"`, `"iss":null`, `"iss":1`, `"ISS":"https://other.example"`, `"Iss":null`,
	`"aud":"wiki"`, `"aud":["wiki"]`, `"aud":[ "wiki"]`, `"aud":["other","wiki"]`, `"aud":["wiki2"]`, `"aud":["wiki\u0000"]`, `"aud":["w\u0069ki"]`,
	`"aud":[]`, `"aud":null`, `"aud":["wiki",null]`, `"aud":["wiki",{"a":1}]`, `"aud":{"wiki":1}`, `"aud":["WIKI"]`, `"AUD":["other"]`, `"aud":"other"`, `"aud":[null]`,
	`"exp":AT`, `"exp":AT.5`, `"exp":1`, `"exp":-1`, `"exp":0`, `"exp":1e300`, `"exp":1099511627776`, `"exp":1099511627777`, `"exp":"AT"`, `"exp":null`, `"EXP":1`,
	`"iat":0`, `"iat":0.5`, `"iat":-5`, `"iat":99999999999`, `"iat":null`, `"iat":1e309`, `"nbf":99999999999`, `"nbf":-1e300`, `"nbf":null`, `"nbf":"x"`,
	`"sub":""`, `"sub":"a b"`, `"sub":"a%20b"`, `"sub":"ä"`, `"sub":"a\nb"`, `"sub":"\ud800"`, `"sub":null`, `"sub":7`, `"Sub":"admin"`, `"sub":"user-2"`, `"sub":"ended"`,
	`"client_id":""`, `"client_id":null`, `"client_id":"ended"`, `"client_id":{}`, `"CLIENT_ID":""`,
	`"scope":"mcp"`, `"scope":"openid"`, `"scope":""`, `"scope":"mcp mcp"`, `"scope":"mcp\"x"`, `"scope":"mcp\\"`, `"scope":null`, `"scope":["mcp"]`, `"Scope":"mcp admin"`,
	`"cnf":null`, `"cnf":{}`, `"cnf":{"jkt":"x"}`, `"cnf":7`, `"CNF":{"jkt":"x"}`,
	`"sid":"login-1"`, `"sid":"ended"`, `"sid":null`, `"sid":7`, `"auth_time":1`, `"auth_time":"x"`, `"auth_time":1799999000`,
	`"email":"e@example.com"`, `"email":7`, `"name":"A B"`, `"groups":["a","b,c"]`, `"groups":"a"`, `"groups":[1]`, `"other":{"a":[1,2]}`, `"other":` + strings.Repeat("[", 200) + strings.Repeat("]", 200),
}

// randomToken returns a token that is as the sidecar makes it but for one thing or two.
func randomToken(random *rand.Rand, serial int) string {
	at := strconv.FormatInt(clock.Load(), 10)
	near := strconv.FormatInt(clock.Load()+[]int64{-61, -60, -59, -1, 0, 1, 299, 300, 301, 3600}[random.Intn(10)], 10)
	kid := []string{"k1", "k1", "k1", "k2", "k3"}[random.Intn(5)]
	members := []string{`"iss":"` + wikiURL + `"`, `"sub":"user-1"`, `"aud":["wiki","` + wikiURL + `"]`, `"exp":` + strconv.FormatInt(clock.Load()+3600, 10),
		`"iat":` + at, `"nbf":` + at, `"jti":"` + strconv.Itoa(serial) + `"`, `"client_id":"client-1"`, `"scope":"openid mcp"`}
	for n := random.Intn(3); n > 0; n-- {
		odd := strings.ReplaceAll(oddMembers[random.Intn(len(oddMembers))], "AT", at)
		switch random.Intn(5) {
		case 0: // in place of another
			members[random.Intn(len(members))] = odd
		case 1:
			members = append([]string{odd}, members...)
		case 2:
			members = append(members, `"`+[]string{"exp", "iat", "nbf"}[random.Intn(3)]+`":`+near)
		case 3:
			members = append(members[:random.Intn(len(members))], odd)
		default:
			members = append(members, odd)
		}
	}
	payload := "{" + strings.Join(members, ",") + "}"
	header := headerOf(kid)
	if random.Intn(6) == 0 {
		header = []string{`{"typ":"at+jwt","alg":"EdDSA","kid":"k1"}`, `{"alg":"EdDSA","kid":"k1","typ":"JWT"}`, `{"alg":"none","kid":"k1","typ":"at+jwt"}`,
			`{"alg":"RS256","kid":"k1","typ":"at+jwt"}`, `{"alg":"EdDSA","kid":"k1","typ":"at+jwt","crit":"b64"}`, `{"alg":"EdDSA","kid":"k1","typ":"at+jwt"} `,
			`{"alg":"EdDSA","kid":"k9","typ":"at+jwt"}`, `{}`, ``}[random.Intn(9)]
	}
	switch random.Intn(12) {
	case 0:
		payload += []string{" ", "x", "{}", "\n"}[random.Intn(4)]
	case 1:
		payload = strings.Replace(payload, ":", ": ", 1)
	case 2:
		payload = strings.Repeat(" ", random.Intn(7000)) + payload
	case 3:
		payload = payload[:random.Intn(len(payload))]
	}
	token := signed(kid, header, payload)
	if random.Intn(10) == 0 {
		token = signed("k3", header, payload) // which nobody publishes
	}
	// Another spelling of the same bytes, or what is nearly base64.
	if random.Intn(10) == 0 && payload != "" {
		encoded := base64.RawURLEncoding.EncodeToString([]byte(payload))
		token = signedAs(kid, header, []string{encoded + "!", encoded + "=", encoded + "\n", encoded[:len(encoded)-1] + "_", encoded[:len(encoded)-1] + "R", encoded + "A"}[random.Intn(6)])
	}
	at2 := random.Intn(len(token))
	switch random.Intn(14) {
	case 0:
		token = token[:at2] + []string{"A", ".", "\n", "\r", "=", "", " ", "-"}[random.Intn(8)] + token[at2+1:]
	case 1:
		token = token[:at2] + []string{"A", ".", "\n", "\r\n", "=", " "}[random.Intn(6)] + token[at2:]
	case 2:
		token += []string{"A", "=", ".", "\n", "\r", ".x", "AAAA", " "}[random.Intn(8)]
	case 3:
		token = token[:len(token)-1-random.Intn(90)]
	case 4:
		token = token[:len(token)-1] + string(rune('A'+random.Intn(26)))
	}
	return token
}

// Whatever a token says, firstSight lets in nobody whom the long way would not let in, and nobody
// under another name.
func TestFirstSightAcceptsWhatTheLongWayAccepts(t *testing.T) {
	for name, labels := range map[string]func(*Config){
		"no label":         func(c *Config) { c.PublicURL = wikiURL },
		"identity headers": func(c *Config) { c.PublicURL = wikiURL; c.IdentityHeaders = "email,name,groups,assertion" },
		"required scopes":  func(c *Config) { c.PublicURL = wikiURL; c.RequiredScopes = "mcp" },
	} {
		start(t)
		l := newLookers(t, labels)
		random := rand.New(rand.NewSource(7))
		counts := map[string]int{}
		serial := 0
		for i := 0; i < 2500; i++ {
			if i%500 == 400 { // somebody is denied, or nobody any more
				serial++
				deny := strings.Replace(noDeny, `"serial":0`, `"serial":`+strconv.Itoa(serial), 1)
				if serial%2 == 1 {
					deny = strings.Replace(deny, `"users":[]`, `"users":["ended"]`, 1)
					deny = strings.Replace(deny, `"families":[]`, `"families":["ended"]`, 1)
					deny = strings.Replace(deny, `"notBefore":0`, `"notBefore":1500000000`, 1)
				}
				l.short.sidecar.setDeny(deny)
				l.long.sidecar.setDeny(deny)
				clock.Add(denyPatience)
				askSidecars(t)
				for _, key := range []string{"k1", "k2"} {
					token := goodToken(key, map[string]any{"jti": "again-" + strconv.Itoa(i)})
					_, _ = verifyToken(l.a, wikiRequest(), "Bearer "+token, token, asBearer)
				}
			}
			counts[l.compare(t, randomToken(random, i))]++
		}
		if counts["accepted"] < 300 || counts["forged"] < 30 || counts["left to the long way"] < 300 {
			t.Errorf("%s: %v", name, counts)
		}
	}
}

// The same for texts that nobody has thought of: header and payload are signed as they are, and
// what follows is put behind the token.
func FuzzFirstSight(f *testing.F) {
	start(f)
	l := newLookers(f, func(c *Config) { c.PublicURL = wikiURL })
	at := strconv.FormatInt(clock.Load(), 10)
	good := `{"iss":"` + wikiURL + `","sub":"user-1","aud":["wiki","` + wikiURL + `"],"exp":` + strconv.FormatInt(clock.Load()+3600, 10) + `,"iat":` + at + `,"client_id":"c","scope":"mcp"}`
	for _, odd := range oddMembers {
		f.Add(headerOf("k1"), strings.TrimSuffix(good, "}")+","+strings.ReplaceAll(odd, "AT", at)+"}", "")
	}
	f.Add(headerOf("k2"), good, "A")
	f.Fuzz(func(t *testing.T, header, payload, behind string) {
		l.compare(t, signed("k1", header, payload)+behind)
	})
}

// What firstSight knows of a key ends with the key, and what it knows of the deny document with the
// document.
func TestFirstSightEndsWithKeysAndDenials(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) { c.PublicURL = wikiURL })
	serial := 0
	sight := func(kid, user string) int {
		serial++
		return ask(w.h, "GET", wikiURL+"/mcp", bearer(goodToken(kid, map[string]any{"jti": strconv.Itoa(serial), "sub": user}))...).Code
	}
	known := func() bool { return len(w.b.tenantAt(wikiURL).sidecar.tokens.life.headers) > 0 }
	ask(w.h, "GET", wikiURL+"/mcp")
	if sight("k1", "user-1") != 200 || !known() || sight("k1", "user-2") != 200 {
		t.Fatal("a good token was refused, or taught nothing")
	}
	w.sidecar.setDeny(strings.Replace(strings.Replace(noDeny, `"serial":0`, `"serial":1`, 1), `"users":[]`, `"users":["user-3"]`, 1))
	clock.Add(denyPatience)
	askSidecars(t)
	if known() {
		t.Error("a header is known that was judged by the old document")
	}
	if sight("k1", "user-1") != 200 || !known() || sight("k1", "user-3") != 401 || sight("k1", "user-2") != 200 {
		t.Error("the deny document is not looked at")
	}
	w.sidecar.serveKeys(jwksOf("k2"))
	clock.Add(keysUsable)
	askSidecars(t)
	if known() || sight("k1", "user-1") != 401 || sight("k2", "user-1") != 200 {
		t.Error("a key that is gone still counts")
	}
}

// Only what the long way has found good is known, and never more of it than so much.
func TestFirstSightKnowsFewSpellings(t *testing.T) {
	start(t)
	l := newLookers(t, func(c *Config) { c.PublicURL = wikiURL })
	look := func(token string) {
		_, _ = verifyToken(l.a, wikiRequest(), "Bearer "+token, token, asBearer)
	}
	life := func() *lifetime { return l.a.sidecar.tokens.life }
	before := fmt.Sprint(life().headers)
	payload := `{"iss":"` + wikiURL + `","sub":"u","aud":["wiki"],"exp":1800003600,"iat":1800000000,"client_id":"c","scope":"SCOPE"}`
	look(signed("k3", headerOf("k1"), strings.Replace(payload, "SCOPE", "admin", 1)))
	look(signed("k1", headerOf("k1"), strings.Replace(payload, "wiki", "other", 1)))
	look(signed("k1", headerOf("k1")+strings.Repeat(" ", maxSpelling), payload))
	look(signed("k1", headerOf("k1"), strings.Replace(payload, "SCOPE", strings.Repeat("s", maxSpelling+1), 1)))
	if after := fmt.Sprint(life().headers); after != before {
		t.Errorf("learned %s", after)
	}
	for i := 0; i < 3*maxSpellings; i++ {
		look(signed("k1", headerOf("k1")+strings.Repeat(" ", i), payload))
		look(signed("k1", headerOf("k1"), strings.Replace(payload, "SCOPE", "s"+strconv.Itoa(i), 1)))
		if n := len(life().headers); n == 0 || n > maxSpellings {
			t.Fatalf("%d headers", n)
		}
		for _, s := range life().headers {
			if n := len(s.scopes); n == 0 || n > maxSpellings {
				t.Fatalf("%d scopes", n)
			}
		}
	}
}

// Tokens that firstSight remembers become old as others do, and each is verified once.
func TestFirstSightRemembersTokens(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) { c.PublicURL = wikiURL })
	ask(w.h, "GET", wikiURL+"/mcp")
	c := w.b.tenantAt(wikiURL).sidecar.tokens
	first := ""
	for i := 0; i < 4; i++ {
		token := goodToken("k1", map[string]any{"jti": strconv.Itoa(i), "sid": "login-" + strconv.Itoa(i/2), "exp": clock.Load() + 3*maxAge})
		first = either(first, token)
		if ask(w.h, "GET", wikiURL+"/mcp", bearer(token)...).Code != 200 || len(c.young) != i+1 {
			t.Fatalf("%d tokens are remembered, want %d", len(c.young), i+1)
		}
	}
	if w.sight("Bearer "+first) != nil {
		t.Error("a token that is remembered was verified again")
	}
	if n := len(w.b.tenantAt(wikiURL).sidecar.figures.presented); n != 2 {
		t.Errorf("%d logins were counted, want 2", n)
	}
	other := "Bearer " + goodToken("k1", map[string]any{"jti": "other"})
	for _, seconds := range []int64{-1, denyPeriod} { // the clock was set back, a fetch is due
		clock.Add(seconds)
		if w.sight(other) != nil {
			t.Error("a token was verified while a fetch is due")
		}
		clock.Add(-seconds)
	}
	clock.Add(maxAge)
	askSidecars(t)
	if w.sight("Bearer "+first) != nil {
		t.Error("an old token that is remembered was verified again")
	}
	if len(c.young) != 0 || len(c.old) != 4 {
		t.Errorf("after an hour %d tokens are young, %d old", len(c.young), len(c.old))
	}
}

// Credentials without dots, as bearer keys are, leave it to other headers to bring them. Then what
// follows is not taken for a token's signature and the lines of an endpoint, or a header that only
// the bouncer may set would pass.
func TestDotsOfOtherHeadersPartNoToken(t *testing.T) {
	start(t)
	labels := func(c *Config) {
		c.PublicURL = wikiURL
		c.IdentityHeaders = "email=X-Auth-Email"
	}
	short := newTwin(t, labels)
	long := newTwin(t, labels)
	const key = "Bearer " + keyPrefix + "anna"
	for _, w := range []*twin{short, long} {
		ask(w.h, "GET", wikiURL+"/mcp")
		ask(w.h, "GET", wikiURL+"/mcp")
		if _, err := verifyToken(w.b.tenantAt(wikiURL), wikiRequest(), key, goodToken("k1", map[string]any{"email": nil}), asKey); err != nil {
			t.Fatal(err)
		}
	}
	if len(short.b.known.endpoints) == 0 {
		t.Fatal("no endpoint is known")
	}
	signature := strings.Repeat("A", signatureLength)
	for _, name := range []string{"X-Auth-Email", "Remote-User", "Cookie", "Connection", "Authorisation", "Accept"} {
		for _, value := range []string{"boss.example." + signature, "." + "." + signature, signature, "boss@example.com"} {
			for _, credentials := range []string{key, "Bearer " + keyPrefix + "nobody", "Bearer a.b." + signature, "Bearer a.b." + signature + " "} {
				h := http.Header{"Authorization": {credentials}, name: {value}, "X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}}
				req := &http.Request{Method: "GET", Host: "mcp.localhost", URL: &url.URL{Path: "/wiki/mcp"}, Header: h, ProtoMajor: 1}
				got := short.ask(req, "", false)
				if want := long.ask(req, "", true); got != want {
					t.Errorf("%s: %s, with %s:\n%s, want\n%s", name, value, credentials, got, want)
				}
				if strings.Contains(got, "boss") && name == "X-Auth-Email" {
					t.Errorf("%s: %s passed: %s", name, value, got)
				}
			}
		}
	}
}

// What a stranger sends costs no more than a few copies of it, wherever it ends.
func TestFirstSightTakesLittleForAStranger(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) { c.PublicURL = wikiURL })
	ask(w.h, "GET", wikiURL+"/mcp")
	ask(w.h, "GET", wikiURL+"/mcp")
	credentials := "Bearer " + strings.Repeat(".", 200_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if code := ask(w.h, "GET", wikiURL+"/mcp", "Authorization", credentials).Code; code != 401 {
		t.Errorf("status %d", code)
	}
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 7*uint64(len(credentials)) {
		t.Errorf("%d bytes for credentials of %d", bytes, len(credentials))
	}
}

// A token that comes for the first time is let in at the path as it was known, in no other
// spelling, with its whole message and with all headers that labels ask for.
func TestFirstSightDecidesNothingButTheToken(t *testing.T) {
	start(t)
	labels := func(c *Config) { c.PublicURL = wikiURL; c.IdentityHeaders = "email=X-Auth-Email" }
	for name, labels := range map[string]func(*Config){"no label": func(c *Config) { c.PublicURL = wikiURL }, "identity headers": labels} {
		short := newTwin(t, labels)
		long := newTwin(t, labels)
		serial := 0
		fresh := func() string {
			serial++
			return "Bearer " + goodToken("k1", map[string]any{"jti": name + strconv.Itoa(serial), "email": "e@example.com"})
		}
		for i := 0; i < 3; i++ {
			for _, w := range []*twin{short, long} {
				ask(w.h, "GET", wikiURL+"/mcp")
				ask(w.h, "GET", wikiURL+"/mcp", "Authorization", fresh())
			}
		}
		for _, c := range []struct {
			raw, body string
			length    int64
		}{{"", "", 0}, {"/wiki/%6dcp", "", 0}, {"/wiki/%6dcp", "{}", 2}, {"", "{}", 2}, {"", "{}", 3}, {"", "{}", -1}} {
			h := http.Header{"Authorization": {fresh()}, "X-Forwarded-Host": {"mcp.localhost"}, "X-Forwarded-Proto": {"https"}}
			req := &http.Request{Method: "POST", Host: "mcp.localhost", URL: &url.URL{Path: "/wiki/mcp", RawPath: c.raw}, Header: h, ProtoMajor: 1, ContentLength: c.length}
			known := len(short.b.tenantAt(wikiURL).sidecar.tokens.life.headers)
			got := short.ask(req, c.body, false)
			want := long.ask(req, c.body, true)
			if got != want || known == 0 {
				t.Errorf("%s, %v:\n%s, want\n%s", name, c, got, want)
			}
			if c.raw != "" && !strings.HasPrefix(got, "400 ") || c.raw == "" && name != "no label" && c.length <= 2 && !strings.Contains(got, "X-Auth-Email:[e@example.com]") {
				t.Errorf("%s, %v: %s", name, c, got)
			}
		}
	}
}
