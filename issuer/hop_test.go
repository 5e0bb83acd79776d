package issuer_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

var everyPath = []string{
	"/", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/.well-known/oauth-protected-resource",
	"/.well-known/oauth-protected-resource/mcp", "/oauth/jwks.json", "/oauth/register", "/oauth/authorize", "/oauth/consent", "/oauth/callback",
	"/oauth/token", "/oauth/revoke", "/nothing", "/healthz/", "//healthz", "/./healthz", "/oauth/../healthz", "//oauth/token", "/oauth//token", "/oauth/token/", "/HEALTHZ",
}

// direct asks a replica without a plugin between.
func (w *world) direct(method, path string, hops ...string) reply {
	w.t.Helper()
	r := newRequest(w.t, method, "http://sidecar"+path, "", "")
	for _, hop := range hops {
		r.Header.Add("X-Mcpb-Hop", hop)
	}
	return w.read(issuertest.Serve(w.replica(), r))
}

func TestHopHeaderIsNeededForAllButHealth(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		// A header that opens makes the sidecar ask the provider for its document, which does not
		// matter here.
		w.config = func(c *issuer.Config) { c.Background = func(func()) {} }
	})
	now, good := w.clock.Now(), w.wiki.JSON()
	change := func(from, to string) []byte {
		s := strings.Replace(string(good), from, to, 1)
		if s == string(good) {
			t.Fatalf("%q is not in the payload", from)
		}
		return []byte(s)
	}
	sealed := func(payload []byte) []string { return []string{issuertest.SealHop(w.hopKey, now, payload)} }
	at := func(d time.Duration) []string { return []string{issuertest.SealHop(w.hopKey, now.Add(d), good)} }
	tenant := func(change func(*issuertest.Tenant)) []string {
		tn := w.wiki
		change(&tn)
		return sealed(tn.JSON())
	}
	flip := []byte(sealed(good)[0])
	flip[len(flip)/2] ^= 1
	for _, c := range []struct {
		name string
		hops []string
		ok   bool
	}{
		{"a good one", sealed(good), true},
		{"one that is five minutes ahead", at(5 * time.Minute), true},
		{"one that is six minutes old", at(-6 * time.Minute), true},
		{"none", nil, false},
		{"an empty one", []string{""}, false},
		{"one from the future", at(5*time.Minute + time.Second), false},
		{"an old one", at(-6*time.Minute - time.Second), false},
		{"one under another key", []string{issuertest.SealHop(newRing(t, masterTwo).HopKey(), now, good)}, false},
		{"a changed one", []string{string(flip)}, false},
		{"the payload in the clear", []string{string(good)}, false},
		{"two in one header", []string{sealed(good)[0] + ", " + sealed(good)[0]}, false},
		{"an unknown member", sealed(change(`{`, `{"colour":"red",`)), false},
		{"an unknown member that is empty", sealed(change(`{`, `{"colour":[],`)), false},
		{"another version", sealed(change(`"v":1`, `"v":2`)), false},
		{"no version, which is that of an older plugin", sealed(change(`"v":1,`, ``)), true},
		{"a member at its default", sealed(change(`{`, `{"generation":0,`)), true},
		{"a repeated member", sealed(change(`{`, `{"resource":"wiki",`)), false},
		{"a repeated member with another value", sealed(change(`{`, `{"publicURL":"https://evil.example",`)), false},
		{"a member in another case", sealed(change(`"publicURL"`, `"PublicURL"`)), false},
		{"a member with a long s", sealed(change(`"resource"`, `"re`+"\u017f"+`ource"`)), false},
		{"a missing member", sealed(change(`"resource":"wiki",`, ``)), false},
		{"a null member", sealed(change(`{`, `{"generation":null,`)), false},
		{"a null list", sealed(change(`["mcp:read","mcp:write"]`, `null`)), false},
		{"a member of another type", sealed(change(`{`, `{"generation":"0",`)), false},
		{"a negative generation", sealed(change(`{`, `{"generation":-1,`)), false},
		{"a generation that is too large", sealed(change(`{`, `{"generation":4294967296,`)), false},
		{"something behind the object", sealed(append(slices.Clone(good), '{', '}')), false},
		{"no JSON", sealed([]byte("wiki")), false},
		{"null", sealed([]byte("null")), false},
		{"a list", sealed([]byte("[" + string(good) + "]")), false},
		{"nothing inside", sealed(nil), false},
		{"a public URL with a trailing slash", tenant(func(t *issuertest.Tenant) { t.PublicURL += "/" }), false},
		{"a public URL with a query", tenant(func(t *issuertest.Tenant) { t.PublicURL += "?a=b" }), false},
		{"a public URL with an empty query", tenant(func(t *issuertest.Tenant) { t.PublicURL += "?" }), false},
		{"a public URL with a fragment", tenant(func(t *issuertest.Tenant) { t.PublicURL += "#a" }), false},
		{"a public URL with an empty fragment", tenant(func(t *issuertest.Tenant) { t.PublicURL += "#" }), false},
		{"a public URL with user information", tenant(func(t *issuertest.Tenant) { t.PublicURL = "https://a@mcp.localhost/wiki" }), false},
		{"a public URL of http elsewhere", tenant(func(t *issuertest.Tenant) { t.PublicURL = "http://mcp.example/wiki" }), false},
		{"a public URL of another scheme", tenant(func(t *issuertest.Tenant) { t.PublicURL = "ftp://mcp.localhost/wiki" }), false},
		{"a public URL without a host", tenant(func(t *issuertest.Tenant) { t.PublicURL = "https:///wiki" }), false},
		{"no public URL", tenant(func(t *issuertest.Tenant) { t.PublicURL = "" }), false},
		{"no resource", tenant(func(t *issuertest.Tenant) { t.Resource = "" }), false},
		{"no audience: it is the resource", tenant(func(t *issuertest.Tenant) { t.Audience = "" }), true},
		{"an empty audience", sealed(change(`"audience":"urn:https://mcp.localhost/wiki"`, `"audience":""`)), false},
		{"an empty resource", sealed(change(`"resource":"wiki"`, `"resource":""`)), false},
		{"no provider", tenant(func(t *issuertest.Tenant) { t.ProviderIssuer = "" }), false},
		{"no upstream client", tenant(func(t *issuertest.Tenant) { t.ClientID = "" }), false},
		{"another exchange", tenant(func(t *issuertest.Tenant) { t.Exchange = "eager" }), false},
		{"a public URL of http on a name below localhost", tenant(func(t *issuertest.Tenant) { t.PublicURL = "http://mcp.localhost/wiki" }), true},
		{"a logo that is an address", tenant(func(t *issuertest.Tenant) { t.Logo = "https://evil.example/logo.png" }), false},
		{"a logo that is a page", tenant(func(t *issuertest.Tenant) { t.Logo = "data:text/html,<script>alert(1)</script>" }), false},
		{"a logo that is a script", tenant(func(t *issuertest.Tenant) { t.Logo = "javascript:alert(1)" }), false},
		{"a logo in capitals", tenant(func(t *issuertest.Tenant) { t.Logo = "DATA:image/png;base64,AAAA" }), false},
		{"a logo that is too long", tenant(func(t *issuertest.Tenant) { t.Logo = "data:image/png;base64," + strings.Repeat("A", 2979) }), false},
		{"a logo of 3,000 characters", tenant(func(t *issuertest.Tenant) { t.Logo = "data:image/png;base64," + strings.Repeat("A", 2978) }), true},
		{"a rule for whom it does not know", tenant(func(t *issuertest.Tenant) { t.ScopeRules = []string{"country:CH=mcp:read"} }), false},
		{"an identity claim that it does not know", tenant(func(t *issuertest.Tenant) { t.IdentityClaims = []string{"mfa"} }), false},
		{"another refresh", tenant(func(t *issuertest.Tenant) { t.Refresh = "always" }), false},
		{"a check interval of two days", tenant(func(t *issuertest.Tenant) { t.UpstreamCheckInterval = 172800 }), false},
		{"a check interval of less than nothing", tenant(func(t *issuertest.Tenant) { t.UpstreamCheckInterval = -1 }), false},
		{"a consent that is remembered for 30 days", tenant(func(t *issuertest.Tenant) { t.RememberConsent = 30 * 86400 }), true},
		{"a consent that is remembered for longer", tenant(func(t *issuertest.Tenant) { t.RememberConsent = 30*86400 + 1 }), false},
		{"a consent that is remembered for less than nothing", tenant(func(t *issuertest.Tenant) { t.RememberConsent = -1 }), false},
		{"no check interval: every time", tenant(func(t *issuertest.Tenant) { t.UpstreamCheckInterval = 0 }), true},
		{"no display name", tenant(func(t *issuertest.Tenant) { t.DisplayName = "" }), true},
		{"no client secret", tenant(func(t *issuertest.Tenant) { t.ClientSecret = "" }), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			if c.ok {
				if got := w.direct("GET", "/oauth/jwks.json", c.hops...); got.Status != 200 {
					t.Errorf("status %d: %s", got.Status, got.Body)
				}
				return
			}
			for _, path := range everyPath {
				for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "PUT", "CONNECT"} {
					got := w.direct(method, path, c.hops...)
					if got.Status != 403 || got.Body != `{"error":"forbidden"}` || got.Header.Get("X-Mcpb-Hop") != "refused" {
						t.Fatalf("%s %s: %d %q, X-Mcpb-Hop %q", method, path, got.Status, got.Body, got.Header.Get("X-Mcpb-Hop"))
					}
					for name := range got.Header {
						if !slices.Contains([]string{"X-Mcpb-Hop", "X-Mcpb-Sidecar", "X-Mcpb-Reason", "Content-Type", "Cache-Control"}, name) {
							t.Fatalf("%s %s: it also says %s: %s", method, path, name, got.Header.Get(name))
						}
					}
					// The reason is for holders of the hop key. A stranger is not even told that
					// there is one.
					if got.Header.Get("X-Mcpb-Sidecar") != "1" || (got.Header.Get("X-Mcpb-Reason") != "") != authenticates(w, c.hops) {
						t.Fatalf("%s %s: mark %q, reason %q", method, path, got.Header.Get("X-Mcpb-Sidecar"), got.Header.Get("X-Mcpb-Reason"))
					}
				}
			}
			if got := w.direct("GET", "/healthz", c.hops...); got.Status != 200 || got.text("status") != "ok" {
				t.Errorf("healthz: %d %s", got.Status, got.Body)
			}
		})
	}
	if d, k, a := w.idp.Counts(); d+k+a+w.idp.Posts() != 0 {
		t.Error("the provider was asked")
	}
}

// The mark is derived from the header that was sent and the hop key, so nobody without the key can
// answer in the sidecar's place.
func TestMarkIsOnEveryAnswer(t *testing.T) {
	w := newWorld(t, nil, nil)
	marks := map[string]bool{}
	for range 2 {
		hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
		key, err := base64.StdEncoding.DecodeString(w.hopKey)
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("mcpbouncer/v1/hop-mark" + hop))
		want := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
		marks[want] = true
		for _, path := range append(everyPath, "/hop/deny", "/hop/token", "/hop/assertion") {
			for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "PUT"} {
				if got := w.direct(method, path, hop); strings.Join(got.Header.Values("X-Mcpb-Sidecar"), "|") != want {
					t.Errorf("%s %s: %d with mark %q", method, path, got.Status, got.Header.Values("X-Mcpb-Sidecar"))
				}
			}
		}
	}
	if len(marks) != 2 {
		t.Error("two headers have one mark")
	}
	if got := w.direct("GET", "/healthz"); got.Header.Get("X-Mcpb-Sidecar") != "1" {
		t.Errorf("health: %v", got.Header)
	}
}

func authenticates(w *world, hops []string) bool {
	if len(hops) == 0 {
		return false
	}
	hop, _ := newRing(w.t, w.masters[0]).OpenHop(hops[0], w.clock.Now())
	return hop != nil
}

// readReason opens a refusal's reason, as docs/hop.md says the plugin does.
func readReason(t *testing.T, key, hop string, got reply) string {
	t.Helper()
	k, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte("mcpbouncer/v1/hop-reason" + hop))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	sealed := got.Header.Get("X-Mcpb-Reason")
	if sealed == "" {
		return "key"
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(sealed, "mbe1_"))
	if err != nil {
		t.Fatal(err)
	}
	reason, err := gcm.Open(nil, b[:12], b[12:], []byte("mcpbouncer/v1/hop-reason"))
	if err != nil {
		t.Fatalf("the reason does not open: %v", err)
	}
	return string(reason)
}

// Each cause is logged once in ten seconds, however many requests come, with what an operator needs
// to find it.
func TestRefusedHopHeaderIsLogged(t *testing.T) {
	foreign := newRing(t, masterTwo)
	for _, c := range []struct {
		name string
		hop  func(w *world) string
		want string
	}{
		{"the key of another master", func(w *world) string { return issuertest.SealHop(foreign.HopKey(), w.clock.Now(), w.wiki.JSON()) },
			"hop header of another master (key id " + foreign.HopKeyIDs()[0] + "; mine: " + newRing(t, masterOne).HopKeyIDs()[0] + "; made at "},
		{"a clock that is behind", func(w *world) string {
			return issuertest.SealHop(w.hopKey, w.clock.Now().Add(-10*time.Minute), w.wiki.JSON())
		}, "made 600 s ago: the clock of Traefik is behind"},
		{"a clock that is ahead", func(w *world) string {
			return issuertest.SealHop(w.hopKey, w.clock.Now().Add(10*time.Minute), w.wiki.JSON())
		}, "made 600 s in the future: the clock of Traefik is ahead"},
		{"another version", func(w *world) string {
			return issuertest.SealHop(w.hopKey, w.clock.Now(), []byte(`{"v":2,"tenant":{}}`))
		}, "another version of the hop than 1: upgrade the sidecar first"},
		{"an unknown label", func(w *world) string {
			return issuertest.SealHop(w.hopKey, w.clock.Now(), []byte(strings.Replace(string(w.wiki.JSON()), `"v":1`, `"v":1,"allowedCountries":["CH"]`, 1)))
		}, `label \"allowedCountries\" is not known to this version of the sidecar: upgrade the sidecar first`},
		{"a value that is not taken", func(w *world) string {
			tn := w.wiki
			tn.Refresh = "always"
			return issuertest.SealHop(w.hopKey, w.clock.Now(), tn.JSON())
		}, "label refresh: must be auto, upstream or session"},
		{"none", func(*world) string { return "" }, "no hop header"},
		{"something else", func(*world) string { return "mbh1_x" }, "malformed"},
		{"a forged one", func(w *world) string {
			hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
			return hop[:100] + strings.Repeat("A", 20) + hop[120:]
		}, "changed, or is forged (key id " + newRing(t, masterOne).HopKeyIDs()[0] + ")"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			lines := func() int { return strings.Count(w.log.String(), "hop header refused") }
			for i, want := range []int{1, 1, 2} {
				if i == 2 {
					w.clock.Add(10 * time.Second)
				}
				for range 100 {
					if got := w.direct("GET", "/oauth/jwks.json", c.hop(w)); got.Status != 403 {
						t.Fatalf("status %d", got.Status)
					}
				}
				if lines() != want {
					t.Errorf("%d lines, want %d", lines(), want)
				}
			}
			w.clock.Add(-time.Hour)
			w.direct("GET", "/oauth/jwks.json", c.hop(w))
			if lines() != 3 {
				t.Error("a clock that was set back silences the log")
			}
			if !strings.Contains(w.log.String(), c.want) || strings.Contains(w.log.String(), w.wiki.ClientSecret) {
				t.Errorf("log %s", w.log.String())
			}
		})
	}
}

// The part of a request that is logged is bounded, whoever chose it, and a label's name fits into a
// reason.
func TestHopHeaderLinesAreBounded(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := newRequest(t, "GET", "http://sidecar/oauth/jwks.json", "", "")
	r.Header.Set("X-Forwarded-For", strings.Repeat("1", 5000))
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), []byte(`{"v":1,"`+strings.Repeat("x", 5000)+`":1}`))
	r.Header.Set("X-Mcpb-Hop", hop)
	got := readReply(t, issuertest.Serve(w.replica(), r))
	if reason := readReason(t, w.hopKey, hop, got); reason != "label "+strings.Repeat("x", 100) || len(got.Header.Get("X-Mcpb-Reason")) > 600 {
		t.Errorf("reason %s", reason)
	}
	if n := len(w.log.String()); n == 0 || n > 600 {
		t.Errorf("the line has %d characters", n)
	}
}

// A log is read at terminals. JSON escapes the control characters of ASCII alone; terminals obey
// others as well, and marks that turn the direction of writing.
func TestAddressesInTheLogHoldNothingThatATerminalObeys(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := newRequest(t, "GET", "http://sidecar/oauth/jwks.json", "", "")
	r.Header.Set("X-Forwarded-For", "192.0.2.1\u009b31m\u202e\xff")
	readReply(t, issuertest.Serve(w.replica(), r))
	if line := w.log.String(); !strings.Contains(line, `"remote":"192.0.2.1?31m??"`) {
		t.Errorf("%q", line)
	}
}

// Strangers can invent key ids. Their log lines are bounded, and a refusal of the plugin's own
// header is logged all the same.
func TestHopHeadersThatAreInventedDoNotFillTheLog(t *testing.T) {
	w := newWorld(t, nil, nil)
	for i := range 1000 {
		key := sha256.Sum256(fmt.Append(nil, i))
		w.direct("GET", "/oauth/jwks.json", issuertest.SealHop(base64.StdEncoding.EncodeToString(key[:]), w.clock.Now(), w.wiki.JSON()))
	}
	if lines := strings.Count(w.log.String(), "\n"); lines == 0 || lines > 16 {
		t.Errorf("%d lines", lines)
	}
	w.direct("GET", "/oauth/jwks.json", issuertest.SealHop(w.hopKey, w.clock.Now().Add(time.Hour), w.wiki.JSON()))
	if !strings.Contains(w.log.String(), "made 3600 s in the future") {
		t.Error("the plugin's own refusal is not logged")
	}
}

func TestClocksThatDifferAreNamedBeforeTheyMatter(t *testing.T) {
	for _, c := range []struct {
		name string
		age  time.Duration
		want string
	}{
		{"alike", 0, ""},
		{"behind by two minutes, and a header that is reused", 140 * time.Second, ""},
		{"behind by more", 141 * time.Second, "made 141 s ago: the clock of Traefik is behind"},
		{"ahead by two minutes", -120 * time.Second, ""},
		{"ahead by more", -121 * time.Second, "made 121 s in the future: the clock of Traefik is ahead"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			for i, lines := range []int{1, 1, 2} {
				if i == 2 {
					w.clock.Add(10 * time.Minute)
				}
				hop := issuertest.SealHop(w.hopKey, w.clock.Now().Add(-c.age), w.wiki.JSON())
				if got := w.direct("GET", "/oauth/jwks.json", hop); got.Status != 200 {
					t.Fatalf("status %d", got.Status)
				}
				if n := strings.Count(w.log.String(), "clocks differ"); (c.want == "") != (n == 0) || n > 0 && n != lines {
					t.Errorf("%d lines, want %d", n, lines)
				}
			}
			if !strings.Contains(w.log.String(), c.want) {
				t.Errorf("log %s", w.log.String())
			}
		})
	}
}

func TestHealthShowsTheMasters(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.masters = []string{masterTwo + "," + masterOne} })
	got := w.direct("GET", "/healthz")
	if counters, ok := got.JSON["counters"].(map[string]any); !ok || counters["upstream_checks"] != float64(0) {
		t.Errorf("counters: %s", got.Body)
	}
	delete(got.JSON, "counters")
	delete(got.JSON, "signing_key") // TestLogSaysWhenAnotherKeySigns
	got.Body = mustJSON(t, got.JSON)
	want := fmt.Sprintf(`{"masters":["%s","%s"],"status":"ok","version":"test"}`, newRing(t, masterTwo).MasterIDs()[0], newRing(t, masterOne).MasterIDs()[0])
	if got.Body != want {
		t.Errorf("%s, want %s", got.Body, want)
	}
}

// docs/replay.md lists exactly these counters.
func TestHealthCountersAreOnThePage(t *testing.T) {
	page, err := os.ReadFile("../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Counters\n")
	var listed []string
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	counters, _ := newWorld(t, nil, nil).direct("GET", "/healthz").JSON["counters"].(map[string]any)
	slices.Sort(listed)
	if shown := slices.Sorted(maps.Keys(counters)); len(shown) == 0 || !slices.Equal(listed, shown) {
		t.Errorf("the page lists %q, /healthz shows %q", listed, shown)
	}
}

// A Function URL is public, so health tells strangers nothing, whatever hop header they send.
func TestHealthOnLambdaShowsNothing(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.config = func(c *issuer.Config) { c.OnLambda = true } })
	for _, hops := range [][]string{nil, {"mbh1_forged"}, {issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())}} {
		if got := w.direct("GET", "/healthz", hops...); got.Status != 200 || got.Body != `{"status":"ok"}` {
			t.Errorf("with %q: %d %s", hops, got.Status, got.Body)
		}
	}
}

// A header that was accepted is remembered, but not beyond its time.
func TestHopHeaderThatWasAcceptedExpires(t *testing.T) {
	w := newWorld(t, nil, nil)
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	for _, c := range []struct {
		after  time.Duration
		status int
	}{{0, 200}, {6 * time.Minute, 200}, {time.Second, 403}} {
		w.clock.Add(c.after)
		if got := w.direct("GET", "/oauth/jwks.json", hop); got.Status != c.status {
			t.Errorf("status %d, want %d", got.Status, c.status)
		}
	}
}

// Many tenants, and many headers of each, do not fill the memory or mix anything up.
func TestHopHeadersOfManyTenants(t *testing.T) {
	w := newWorld(t, nil, nil)
	for i := range 600 {
		tn := w.tenant(fmt.Sprintf("https://mcp.localhost/t%d", i%300))
		hop := issuertest.SealHop(w.hopKey, w.clock.Now(), tn.JSON())
		for range 2 {
			if got := w.direct("GET", "/.well-known/oauth-authorization-server", hop); got.text("issuer") != tn.PublicURL {
				t.Fatalf("%s was answered as %q", tn.PublicURL, got.text("issuer"))
			}
		}
	}
}

// The sidecar reads the vectors of the plugin's suite as they are, with the master secret to which
// their key belongs.
func TestHopVectorsAtTheSidecar(t *testing.T) {
	vectors, err := loadHopVectors(os.DirFS("../plugin/testdata/hop"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for name, v := range vectors {
		t.Run(name, func(t *testing.T) {
			seconds, err := strconv.ParseInt(v["now"], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			ring := newRing(t, v["master"])
			if ring.HopKey() != v["key"] {
				t.Fatalf("the hop key of this master is %s, not %s", ring.HopKey(), v["key"])
			}
			w := newWorld(t, nil, func(w *world) {
				w.masters = []string{v["master"]}
				w.clock.Set(time.Unix(seconds, 0))
			})
			seen[v["expect"]]++
			hop, err := ring.OpenHop(v["value"], w.clock.Now())
			var payload []byte
			if err == nil {
				payload = hop.Payload
			}
			// the header opens, and is refused for what it says
			inside := strings.HasPrefix(name, "member-") || strings.HasPrefix(name, "version-") || name == "trailing-data"
			if (err == nil) != (v["expect"] == "ok" || inside) || err == nil && string(payload) != v["payload"] {
				t.Fatalf("opened with error %v: %s", err, payload)
			}
			got := w.direct("GET", "/.well-known/oauth-authorization-server", v["value"])
			if v["expect"] == "refused" {
				if got.Status != 403 || got.Header.Get("X-Mcpb-Hop") != "refused" || got.Header.Get("X-Mcpb-Sidecar") != "1" {
					t.Errorf("status %d, %v", got.Status, got.Header)
				}
				if reason := readReason(t, v["key"], v["value"], got); reason != v["reason"] {
					t.Errorf("reason %s, want %s", reason, v["reason"])
				}
				return
			}
			var tn issuertest.Tenant
			if err := json.Unmarshal(payload, &tn); err != nil {
				t.Fatal(err)
			}
			if got.Status != 200 || got.text("issuer") != tn.PublicURL || got.Header.Get("X-Mcpb-Sidecar") != v["mark"] {
				t.Errorf("status %d, issuer %q, mark %s", got.Status, got.text("issuer"), got.Header.Get("X-Mcpb-Sidecar"))
			}
		})
	}
	if seen["ok"] == 0 || seen["refused"] == 0 {
		t.Errorf("vectors %v", seen)
	}
}

// The kit's Tenant is written from docs/hop.md alone, and produces what the plugin produces.
func TestHopVectorOfAllLabelsIsWhatTheKitWrites(t *testing.T) {
	vectors, err := loadHopVectors(os.DirFS("../plugin/testdata/hop"))
	if err != nil {
		t.Fatal(err)
	}
	want := vectors["valid-all-labels"]["payload"]
	var tn issuertest.Tenant
	if err := json.Unmarshal([]byte(want), &tn); err != nil {
		t.Fatal(err)
	}
	if got := string(tn.JSON()); got != want {
		t.Errorf("the kit writes %s\nthe vector is  %s", got, want)
	}
}

func loadHopVectors(files fs.FS) (map[string]map[string]string, error) {
	names, err := fs.Glob(files, "*.txt")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("no vectors (%v)", err)
	}
	vectors := map[string]map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		head, value, ok := strings.Cut(string(text), "\n\n")
		if !ok || !strings.HasSuffix(value, "\n") {
			return nil, fmt.Errorf("%s: no empty line, or no line feed at the end", name)
		}
		v := map[string]string{"value": strings.ReplaceAll(strings.TrimSuffix(value, "\n"), `\r\n`, "\r\n")}
		for line := range strings.SplitSeq(head, "\n") {
			member, text, ok := strings.Cut(line, ": ")
			if _, twice := v[member]; !ok || twice {
				return nil, fmt.Errorf("%s: %q", name, line)
			}
			v[member] = text
		}
		if got := slices.Sorted(maps.Keys(v)); !slices.Equal(got, []string{"expect", "key", "mark", "master", "now", "payload", "reason", "value"}) || v["expect"] != "ok" && v["expect"] != "refused" {
			return nil, fmt.Errorf("%s: members %q, expect %q", name, got, v["expect"])
		}
		vectors[strings.TrimSuffix(name, ".txt")] = v
	}
	return vectors, nil
}

func TestVectorLoaderRefuses(t *testing.T) {
	const good = "expect: ok\nreason: none\nmark: x\nkey: k\nmaster: m\nnow: 1\npayload: {}\n\nvalue\n"
	for _, c := range []struct{ name, file, text string }{
		{"a folder without vectors", "a.md", good},
		{"an unknown member", "a.txt", "colour: red\n" + good},
		{"a missing member", "a.txt", strings.Replace(good, "now: 1\n", "", 1)},
		{"a repeated member", "a.txt", "now: 1\n" + good},
		{"another expectation", "a.txt", strings.Replace(good, "ok", "perhaps", 1)},
		{"a file cut short", "a.txt", strings.TrimSuffix(good, "\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := loadHopVectors(fstest.MapFS{c.file: {Data: []byte(c.text)}}); err == nil {
				t.Error("accepted")
			}
		})
	}
	if _, err := loadHopVectors(fstest.MapFS{"a.txt": {Data: []byte(good)}}); err != nil {
		t.Error(err)
	}
}

func TestMethodsAndCORS(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct {
		path   string
		method string
		cors   bool
	}{
		{"/.well-known/oauth-authorization-server", "GET", true},
		{"/.well-known/oauth-authorization-server/mcp", "GET", true},
		{"/.well-known/openid-configuration", "GET", true},
		{"/.well-known/oauth-protected-resource", "GET", true},
		{"/.well-known/oauth-protected-resource/mcp", "GET", true},
		{"/oauth/jwks.json", "GET", true},
		{"/oauth/register", "POST", true},
		{"/oauth/token", "POST", true},
		{"/oauth/revoke", "POST", true},
		{"/oauth/authorize", "GET", false},
		{"/oauth/consent", "POST", false},
		{"/oauth/callback", "GET", false},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"} {
			t.Run(method+" "+c.path, func(t *testing.T) {
				r := newRequest(t, method, "http://sidecar"+c.path, "", "")
				r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON()))
				r.Header.Set("Origin", "https://inspector.example")
				r.Header.Set("Access-Control-Request-Method", c.method)
				r.Header.Set("Access-Control-Request-Headers", "x-custom, a b,mcp-name")
				got := readReply(t, issuertest.Serve(w.replica(), r))
				allowed := method == c.method || method == "HEAD" && c.method == "GET"
				switch {
				case method == "OPTIONS" && c.cors:
					if got.Status != 204 || got.Header.Get("Access-Control-Allow-Methods") != c.method || got.Header.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, Mcp-Protocol-Version, x-custom, mcp-name" {
						t.Errorf("preflight: %d %v", got.Status, got.Header)
					}
				case !allowed:
					if got.Status != 405 || got.Header.Get("Allow") != c.method {
						t.Errorf("status %d, Allow %q", got.Status, got.Header.Get("Allow"))
					}
					if c.cors {
						got.wants(t, 405, "invalid_request")
					} else if checkPage(t, got); method != "HEAD" && !strings.Contains(got.Body, "This address cannot be opened like this: it takes "+c.method+".") {
						t.Errorf("the page says %s", got.Body)
					}
				case got.Status == 405 || got.Status >= 500:
					t.Errorf("status %d", got.Status)
				}
				origin := got.Header.Get("Access-Control-Allow-Origin")
				if c.cors && origin != "*" || !c.cors && origin != "" || got.Header.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("Access-Control-Allow-Origin %q, credentials %q", origin, got.Header.Get("Access-Control-Allow-Credentials"))
				}
				if exposed := got.Header.Get("Access-Control-Expose-Headers"); (exposed == "WWW-Authenticate") != c.cors {
					t.Errorf("Access-Control-Expose-Headers %q", exposed)
				}
				if got.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Error("no nosniff")
				}
			})
		}
	}
}

func TestPathsThatAreUnknown(t *testing.T) {
	w := newWorld(t, nil, nil)
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	for _, path := range []string{"/", "/nothing", "/oauth", "/oauth/", "/oauth/token/", "/oauth//token", "//oauth/token", "/oauth/Token", "/oauth/revoke/", "/oauth/x/../token", "/.well-known/", "/.well-known/security.txt", "/.well-known/oauth-authorization-server/x", "/.well-known/oauth-protected-resource//", "/.well-known/oauth-protected-resource/other", "/.well-known/oauth-protected-resource/mcp//", "/.well-known/oauth-authorization-server/mcp/more", "/.well-known/openid-configuration/other", "/.well-known/oauth-authorization-server/mcp//", "/.well-known/oauth-authorization-server//", "/.well-known/oauth-authorization-servermcp", "/.well-known/security.txt/mcp", "/.well-known/oauth-protected-resourcemcp", "/healthz/"} {
		for _, method := range []string{"GET", "HEAD"} {
			got := w.direct(method, path, hop)
			got.wants(t, 404, "not_found")
			if got.Header.Get("Location") != "" || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %v", method, path, got.Header)
			}
		}
	}
	w.direct("POST", "/nothing", hop).wants(t, 404, "not_found")
}

// Over a real connection: HEAD has no body, and a request line does not become another path on the
// way.
func TestHandlerOverARealConnection(t *testing.T) {
	w := newWorld(t, nil, nil)
	server := newServer(t, w)
	for _, c := range []struct {
		method, path string
		status       int
		length       bool
	}{
		{"GET", "/.well-known/oauth-authorization-server", 200, true},
		{"HEAD", "/.well-known/oauth-authorization-server", 200, false},
		{"HEAD", "/oauth/jwks.json", 200, false},
		{"GET", "//oauth/jwks.json", 404, true},
		{"GET", "/oauth/%6awks.json", 200, true},
	} {
		r := newRequest(t, c.method, server+c.path, "", "")
		r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON()))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if c.method == "HEAD" {
			resp.Body.Close()
			if resp.StatusCode != c.status || resp.ContentLength == 0 {
				t.Errorf("%s %s: %d, length %d", c.method, c.path, resp.StatusCode, resp.ContentLength)
			}
			continue
		}
		if got := readReply(t, resp); got.Status != c.status || (got.Body != "") != c.length {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.Status, got.Body)
		}
	}
}

// tenantMemory is what docs/limits.md states for a tenant that is in use.
const tenantMemory = 32 << 10

func TestTenantInUseTakesAsMuchMemoryAsIsStated(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	const many = 200
	use := func(from, until int) uint64 {
		for i := from; i < until; i++ {
			tn := w.tenant(fmt.Sprintf("https://mcp.localhost/server%d", i))
			w.serve(tn)
			w.register(tn.PublicURL, nil).login()
		}
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := use(0, 20) // what the first ones make for all
	each := (use(20, 20+many) - before) / many
	t.Logf("%d bytes for each tenant, with what the test itself holds", each)
	if each > tenantMemory {
		t.Errorf("%d bytes for each tenant, %d are stated", each, tenantMemory)
	}
	page, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("in the sidecar at most %d KB", tenantMemory>>10); !strings.Contains(string(page), want) {
		t.Errorf("docs/limits.md lacks %q", want)
	}
}
