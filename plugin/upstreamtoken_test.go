//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
)

// The sidecar is told what it has to ask of the provider, and not which header the token goes into.
func TestUpstreamTokenLabelIsWrittenForTheSidecar(t *testing.T) {
	for _, c := range []struct{ label, header, told string }{
		{"", "", `[]`},
		{" \n", "", `[]`},
		{"header=X-Upstream-Access-Token", "X-Upstream-Access-Token", `["scopes="]`},
		{"header = x-github-token ;", "X-Github-Token", `["scopes="]`},
		{"scopes=repo  read:org", "X-Upstream-Access-Token", `["scopes=repo read:org"]`},
		{";exchange=https://api.example.com/?a=b", "X-Upstream-Access-Token", `["scopes=","exchange=https://api.example.com/?a=b"]`},
		{"exchange=orders; scopes=a; header=X-Orders-Token", "X-Orders-Token", `["scopes=a","exchange=orders"]`},
	} {
		config := wikiConfig("http://sidecar.localhost")
		config.UpstreamToken = c.label
		s, members, err := parseLabels(config)
		if err != nil {
			t.Fatalf("%q: %v", c.label, err)
		}
		header := ""
		if s.upstream != nil {
			header = s.upstream.header
		}
		told := ""
		for _, m := range members {
			if m.name == "upstreamToken" {
				told = m.value
			}
		}
		if header != c.header || told != c.told {
			t.Errorf("%q: header %q, the sidecar is told %s", c.label, header, told)
		}
		if sent := encodeMembers(members); strings.Contains(sent, "upstreamToken") != (c.header != "") {
			t.Errorf("%q: the payload is %s", c.label, sent)
		}
	}
}

// githubToken is a provider's token, in the form of GitHub's.
const githubToken = "gho_16C7e42F292c6912E7710c838347Ae178B4a"

const upstreamHeader = "X-Upstream-Access-Token"

// jtiOf is a jti as long as the sidecar's.
func jtiOf(n int) string { return fmt.Sprintf("token-%016d", n) }

// sealUpstream seals as docs/sealed-values.md says.
func sealUpstream(key []byte, publicURL, jti, token string) string {
	message := "mcpbouncer/v1/upstream-token"
	for _, text := range []string{publicURL, jti} {
		message += string([]byte{byte(len(text) >> 8), byte(len(text))}) + text
	}
	block, err := aes.NewCipher(hmacSHA256(key, message))
	if err != nil {
		panic("no cipher: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("no cipher: " + err.Error())
	}
	id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), key...))
	sealed := aead.Seal(nil, make([]byte, 12), []byte(token), []byte("mcpbouncer/v1/upstream-token"))
	return base64.RawURLEncoding.EncodeToString(append(id[:3], sealed...))
}

// hopKeyOf is the hop key of the tests for 7.
func hopKeyOf(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// carrying returns a good token with this jti that carries a token of the provider.
func carrying(n int, upstream string, changes map[string]any) string {
	claims := map[string]any{"jti": jtiOf(n), "upstream_token": sealUpstream(hopKeyOf(7), wikiURL, jtiOf(n), upstream)}
	for name, value := range changes {
		claims[name] = value
	}
	return goodToken("k1", claims)
}

// handsOn is a middleware with the label upstreamToken, in front of a new backend.
func handsOn(t testing.TB, labels func(*Config)) (http.Handler, *backend) {
	t.Helper()
	config := wikiConfig(startSidecar(t).server.URL)
	config.PublicURL = wikiURL
	config.UpstreamToken = "scopes=repo"
	if labels != nil {
		labels(config)
	}
	return guard(t, config)
}

// Whichever way a request takes, the MCP server gets the provider's token of the access token that
// the request brought, and nothing else of it.
func TestUpstreamTokenReachesTheServer(t *testing.T) {
	for name, labels := range map[string]func(*Config){
		"no other label":   nil,
		"a name":           func(c *Config) { c.UpstreamToken = "header=x-github-token" },
		"identity headers": func(c *Config) { c.IdentityHeaders = "client_id, sub=X-Forwarded-User" },
		"rules":            func(c *Config) { c.ToolScopes = "delete_page=wiki:write; *=mcp" },
		"rules and a name": func(c *Config) { c.ToolScopes = "*=mcp"; c.IdentityHeaders = "client_id" },
		"CORS":             func(c *Config) { c.CORS = "true" },
		"calls":            func(c *Config) { c.AuditCalls = "true" },
		"proofs":           func(c *Config) { c.DPoP = "accept" },
		"required scopes":  func(c *Config) { c.RequiredScopes = "mcp" },
	} {
		start(t)
		h, behind := handsOn(t, labels)
		header := upstreamHeader
		if name == "a name" {
			header = "X-Github-Token"
		}
		for i := 0; i < 4; i++ { // the long way, then that of the first sight
			for j := 0; j < 3; j++ { // then that of a request that is known
				for _, body := range []string{"", toolCall("search"), toolCall("search") + strings.Repeat(" ", maxUncounted)} {
					token := carrying(i, githubToken+strconv.Itoa(i), nil)
					req := httptest.NewRequest("POST", wikiURL+"/mcp", strings.NewReader(body))
					req.TLS = nil
					if body == "" {
						req = httptest.NewRequest("GET", wikiURL+"/mcp", nil)
						req.TLS = nil
					}
					req.Header = http.Header{"Authorization": {"Bearer " + token}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"mcp.localhost"}, "Content-Type": {"application/json"}}
					rec := httptest.NewRecorder()
					h.ServeHTTP(rec, req)
					if rec.Code != 200 {
						t.Fatalf("%s: token %d, request %d: %d %q", name, i, j, rec.Code, challenges(rec))
					}
					got := behind.last
					if len(got[header]) != 1 || got[header][0] != githubToken+strconv.Itoa(i) || got["Authorization"] != nil || got.Get("X-Mcp-Sub") != "user-1" {
						t.Fatalf("%s: token %d, request %d: the MCP server gets %v", name, i, j, got)
					}
					if name == "identity headers" && (got.Get("X-Mcp-Client-Id") != "client-1" || got.Get("X-Forwarded-User") != "user-1") {
						t.Errorf("%s: the MCP server gets %v", name, got)
					}
					for other, values := range got {
						if strings.Contains(strings.Join(values, ""), "gho_") && other != header {
							t.Errorf("%s: the token is also in %s", name, other)
						}
					}
					for other, values := range rec.Header() {
						if strings.Contains(strings.Join(values, "")+rec.Body.String(), "gho_") {
							t.Errorf("%s: the client gets it in %s", name, other)
						}
					}
				}
			}
		}
	}
}

// The token of one person never goes along with a request of another, whatever came before.
func TestUpstreamTokensOfPeopleStayApart(t *testing.T) {
	start(t)
	h, behind := handsOn(t, nil)
	for i := 0; i < 60; i++ {
		n := (i * 7) % 20
		sub := "user-" + strconv.Itoa(n)
		token := carrying(n, githubToken+sub, map[string]any{"sub": sub})
		if n%5 == 0 {
			token = goodToken("k1", map[string]any{"jti": jtiOf(n), "sub": sub, "upstream_token": ""})
		}
		rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
		want := githubToken + sub
		if n%5 == 0 {
			want = ""
		}
		if got := behind.last; rec.Code != 200 || got.Get("X-Mcp-Sub") != sub || got.Get(upstreamHeader) != want {
			t.Fatalf("request %d: %d, %s gets %q", i, rec.Code, got.Get("X-Mcp-Sub"), got.Get(upstreamHeader))
		}
	}
}

// A WebSocket and a token that is bound to a key bring it along too.
func TestUpstreamTokenComesAlongWithWebSocketsAndProofs(t *testing.T) {
	start(t)
	h, behind := handsOn(t, func(c *Config) { c.DPoP = "accept" })
	ask(h, "POST", mcpURL) // as in startProving
	clock.Add(dpop.Apart + 1)
	for i := 0; i < 3; i++ {
		rec := ask(h, "GET", wikiURL+"/mcp", append(bearer(carrying(1, githubToken, nil)), "Connection", "Upgrade", "Upgrade", "websocket")...)
		if rec.Code != 200 || behind.last.Get(upstreamHeader) != githubToken || behind.last.Get("Upgrade") != "websocket" {
			t.Errorf("a WebSocket: %d %v", rec.Code, behind.last)
		}
		k := dpoptest.NewKey("ES256")
		token := bound(k, map[string]any{"jti": jtiOf(5), "upstream_token": sealUpstream(hopKeyOf(7), wikiURL, jtiOf(5), githubToken+"-bound")})
		for j := 0; j < 2; j++ {
			rec = ask(h, "POST", mcpURL, proven(token, proofFor(k, token))...)
			if rec.Code != 200 || behind.last.Get(upstreamHeader) != githubToken+"-bound" {
				t.Errorf("a bound token: %d %q %v", rec.Code, challenges(rec), behind.last)
			}
		}
		// The proof of another key opens nothing.
		rec = ask(h, "POST", mcpURL, proven(token, proofFor(dpoptest.NewKey("ES256"), token))...)
		if rec.Code != 401 {
			t.Errorf("a bound token in other hands: %d", rec.Code)
		}
	}
}

// A client cannot put in a token of its own, in any spelling, nor have a proxy behind take it out.
func TestUpstreamTokenOfAClientNeverPasses(t *testing.T) {
	start(t)
	for _, label := range []string{"scopes=repo", "header=X-Github-Token"} {
		h, behind := handsOn(t, func(c *Config) { c.UpstreamToken = label })
		own := upstreamHeader
		if label != "scopes=repo" {
			own = "X-Github-Token"
		}
		machine := goodToken("k1", map[string]any{"jti": jtiOf(1), "upstream_token": ""})
		person := carrying(2, githubToken, nil)
		for i := 0; i < 3; i++ {
			for _, name := range []string{own, strings.ToLower(own), strings.ToUpper(own), strings.ReplaceAll(own, "-", "_"), strings.ReplaceAll(own, "-", "."), strings.Replace(own, "-", "_", 1)} {
				for _, token := range []string{machine, person} {
					rec := ask(h, "GET", wikiURL+"/mcp", append(bearer(token), name, "gho_of_the_client", "Connection", own)...)
					want := ""
					if token == person {
						want = githubToken
					}
					seen := []string{}
					for other, values := range behind.last {
						if foldHeader(other) == foldHeader(own) {
							seen = append(seen, values...)
						}
					}
					if rec.Code != 200 || strings.Join(seen, "|") != want || behind.last["Connection"] != nil {
						t.Errorf("%s: %s: %d, the MCP server gets %v", label, name, rec.Code, behind.last)
					}
				}
			}
			// without: the next one takes the short way
			ask(h, "GET", wikiURL+"/mcp", bearer(machine)...)
			ask(h, "GET", wikiURL+"/mcp", bearer(person)...)
		}
	}
}

// Where the label is off, a token may bring the claim, whatever it is. Nothing is made of it.
func TestUpstreamTokenIsIgnoredWithoutTheLabel(t *testing.T) {
	start(t)
	h, behind := handsOn(t, func(c *Config) { c.UpstreamToken = "" })
	for i, claim := range []any{sealUpstream(hopKeyOf(7), wikiURL, jtiOf(0), githubToken), "", "x", 7, nil, []string{"a"}, map[string]any{"a": 1}} {
		for j := 0; j < 3; j++ {
			rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", map[string]any{"jti": jtiOf(i * 7), "upstream_token": claim}))...)
			if rec.Code != 200 || behind.last[upstreamHeader] != nil {
				t.Errorf("%v: %d %v", claim, rec.Code, behind.last)
			}
		}
	}
}

// hostileClaims are claims that do not open, with the error for the client, the cause in the
// figures, and what the operator's log says.
func hostileClaims() []struct {
	name  string
	claim any
	err   error
	cause string
	log   string
} {
	good := sealUpstream(hopKeyOf(7), wikiURL, jtiOf(1), githubToken)
	flipped := func(at int) string {
		blob, _ := base64.RawURLEncoding.DecodeString(good)
		blob[(at+len(blob))%len(blob)] ^= 1
		return base64.RawURLEncoding.EncodeToString(blob)
	}
	const before, other, unreadable = "from before the label upstreamToken", "two Traefiks have different hop keys", "its hop key is the right one"
	return []struct {
		name  string
		claim any
		err   error
		cause string
		log   string
	}{
		{"none", nil, errUpstreamMissing, "upstream_missing", before},
		{"sealed under another hop key", sealUpstream(hopKeyOf(8), wikiURL, jtiOf(1), githubToken), errUpstreamKey, "upstream_key", other},
		{"another key id", flipped(0), errUpstreamKey, "upstream_key", other},
		{"a changed token", flipped(5), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a changed tag", flipped(-1), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"that of another tenant", sealUpstream(hopKeyOf(7), "https://mcp.localhost/world", jtiOf(1), githubToken), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"that of another access token", sealUpstream(hopKeyOf(7), wikiURL, jtiOf(2), githubToken), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a truncated one", good[:len(good)-4], errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a key id alone", good[:4], errUpstreamSealed, "upstream_unreadable", unreadable},
		{"one letter", "A", errUpstreamSealed, "upstream_unreadable", unreadable},
		{"not base64url", good[:10] + "+/" + good[12:], errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a padded one", good + "=", errUpstreamSealed, "upstream_unreadable", unreadable},
		{"one with a line break", good[:20] + "\n" + good[20:], errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a token that is too long", sealUpstream(hopKeyOf(7), wikiURL, jtiOf(1), strings.Repeat("a", 4097)), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a token of two lines", sealUpstream(hopKeyOf(7), wikiURL, jtiOf(1), githubToken+"\r\nX-Mcp-Sub: root"), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"an empty token", sealUpstream(hopKeyOf(7), wikiURL, jtiOf(1), ""), errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a number", 7, errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a boolean", true, errUpstreamSealed, "upstream_unreadable", unreadable},
		{"a list", []string{good}, errUpstreamSealed, "upstream_unreadable", unreadable},
		{"an object", map[string]any{"upstream_token": good}, errUpstreamSealed, "upstream_unreadable", unreadable},
		{"the token itself", githubToken, errUpstreamKey, "upstream_key", other},
	}
}

// The client is told to refresh, and the operator why. The token reaches neither log nor answer,
// and the request does not reach the MCP server.
func TestUpstreamTokensThatDoNotOpen(t *testing.T) {
	for _, c := range hostileClaims() {
		for _, known := range []bool{false, true} { // header and scopes, for the first sight
			log := start(t)
			h, behind := handsOn(t, nil)
			if known {
				ask(h, "GET", wikiURL+"/mcp")
				for i := 10; i < 12; i++ {
					if rec := ask(h, "GET", wikiURL+"/mcp", bearer(carrying(i, githubToken, nil))...); rec.Code != 200 {
						t.Fatalf("a good one: %d", rec.Code)
					}
				}
			}
			before := behind.count()
			token := goodToken("k1", map[string]any{"jti": jtiOf(1), "upstream_token": c.claim})
			for i := 0; i < 3; i++ {
				rec := ask(h, "GET", wikiURL+"/mcp", bearer(token)...)
				answer := strings.Join(challenges(rec), "|")
				if rec.Code != 401 || !strings.Contains(answer, `error="invalid_token", error_description="`+c.err.Error()+`"`) {
					t.Errorf("%s: %d %s", c.name, rec.Code, answer)
				}
				if strings.Contains(answer+rec.Body.String(), "gho_") {
					t.Errorf("%s: the answer holds the token: %s", c.name, answer)
				}
			}
			if behind.count() != before {
				t.Errorf("%s: it reached the MCP server", c.name)
			}
			if causes[c.err.Error()] != c.cause {
				t.Errorf("%s: counted as %q", c.name, causes[c.err.Error()])
			}
			lines := log.String()
			if strings.Count(lines, c.log) != 1 || strings.Contains(lines, "gho_") {
				t.Errorf("%s: the log is %q", c.name, lines)
			}
		}
	}
}

// What firstSight makes of the claim is what the long way makes of it.
func TestFirstSightOpensUpstreamTokensAsTheLongWayDoes(t *testing.T) {
	start(t)
	l := newLookers(t, func(c *Config) {
		c.PublicURL = wikiURL
		c.UpstreamToken = "scopes=repo"
		c.IdentityHeaders = "client_id"
	})
	for i := 0; i < 3; i++ { // newLookers shows tokens without the claim
		token := carrying(100+i, githubToken, map[string]any{"scope": []string{"openid mcp", "mcp", ""}[i]})
		_, _ = verifyToken(l.a, wikiRequest(), "Bearer "+token, token, asBearer)
	}
	if got := l.compare(t, carrying(1, githubToken, nil)); got != "accepted" {
		t.Errorf("a token as the sidecar makes it is %s", got)
	}
	if got := l.compare(t, goodToken("k1", map[string]any{"jti": jtiOf(2), "upstream_token": ""})); got != "accepted" {
		t.Errorf("a machine's is %s", got)
	}
	for _, c := range hostileClaims() {
		if got := l.compare(t, goodToken("k1", map[string]any{"jti": jtiOf(1), "upstream_token": c.claim})); got != "left to the long way" {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	at := strconv.FormatInt(clock.Load(), 10)
	claims := func(more string) string {
		return signed("k1", headerOf("k1"), `{"iss":"`+wikiURL+`","sub":"user-1","aud":["wiki"],"exp":`+strconv.FormatInt(clock.Load()+3600, 10)+`,"iat":`+at+`,"client_id":"c","scope":"mcp",`+more+`}`)
	}
	sealed := sealUpstream(hopKeyOf(7), wikiURL, jtiOf(1), githubToken)
	for _, c := range []struct{ more, want string }{
		{`"jti":"` + jtiOf(1) + `","upstream_token":"` + sealed + `"`, "accepted"},
		{`"jti":"` + jtiOf(1) + `","upstream_token":"` + sealed + `","name":"x"`, "left to the long way"},
		{`"upstream_token":"` + sealed + `","jti":"` + jtiOf(1) + `"`, "left to the long way"},
		{`"jti":"` + jtiOf(1) + `","upstream_token": "` + sealed + `"`, "left to the long way"},
		{`"jti":"` + jtiOf(1) + `","upstream_token":"` + sealed + `","upstream_token":""`, "left to the long way"},
		{`"jti":"` + jtiOf(1) + `","upstream_token":"","upstream_token":"` + sealed + `"`, "left to the long way"},
		{`"name":"\"jti\":\"` + jtiOf(2) + `","jti":"` + jtiOf(1) + `","upstream_token":"` + sealed + `"`, "accepted"},
		{`"jti":"` + jtiOf(1) + `","upstream_token":"` + sealed + `","name":"\"upstream_token\":\""`, "left to the long way"},
		{`"jti":"` + jtiOf(1) + `","upstream_token":"x`, "left to the long way"},
		{`"jti":"short","upstream_token":"` + sealed + `"`, "left to the long way"},
		{`"upstream_token":"` + sealed + `"`, "left to the long way"},
	} {
		if got := l.compare(t, claims(c.more)); got != c.want {
			t.Errorf("%s: %s, want %s", c.more, got, c.want)
		}
	}
}

// A new hop key is taken from its file within 20 seconds. Tokens that are sealed for the old one
// have to be refreshed then, those that are known go on, and those for the new one are let in.
func TestUpstreamTokensWhileTheHopKeyChanges(t *testing.T) {
	log := start(t)
	file := filepath.Join(t.TempDir(), "hop.key")
	write := func(n byte) {
		if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(hopKeyOf(n))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(7)
	h, behind := handsOn(t, func(c *Config) { c.HopKeyFile = file })
	ask(h, "GET", wikiURL+"/mcp")
	serial := 0
	fresh := func(n byte) int {
		serial++
		claim := sealUpstream(hopKeyOf(n), wikiURL, jtiOf(serial), githubToken)
		rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", map[string]any{"jti": jtiOf(serial), "upstream_token": claim}))...)
		if rec.Code == 200 && behind.last.Get(upstreamHeader) != githubToken {
			t.Fatalf("passed with %q", behind.last.Get(upstreamHeader))
		}
		return rec.Code
	}
	seen := bearer(carrying(1000, githubToken, nil))
	if ask(h, "GET", wikiURL+"/mcp", seen...).Code != 200 || fresh(7) != 200 || fresh(7) != 200 || fresh(8) != 401 {
		t.Fatal("before the change")
	}
	write(8)
	clock.Add(hopReuse + 1)
	if a, b, c, d := fresh(7), fresh(8), fresh(8), fresh(7); a != 401 || b != 200 || c != 200 || d != 401 {
		t.Errorf("after the change %d for the old one, %d and %d for the new one, %d for the old one", a, b, c, d)
	}
	if ask(h, "GET", wikiURL+"/mcp", seen...).Code != 200 || behind.last.Get(upstreamHeader) != githubToken {
		t.Error("a token that was known has ended")
	}
	if !strings.Contains(log.String(), "sealed for another hop key than this one (key id ") {
		t.Errorf("the log is %q", log)
	}
	// No hop key at all: nothing is known of the token, so it is not the token that is refused.
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	clock.Add(hopReuse + 1)
	if got := fresh(8); got != 503 {
		t.Errorf("without a hop key: %d", got)
	}
}

// An identity that was remembered under other labels brings no token along, and none into another
// header, however the middlewares come and go.
func TestUpstreamTokenFollowsTheLabel(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	token := bearer(carrying(1, githubToken, nil))
	for i, c := range []struct{ label, header string }{
		{"", ""}, {"scopes=repo", upstreamHeader}, {"", ""}, {"scopes=repo; header=X-Github-Token", "X-Github-Token"}, {"scopes=repo", upstreamHeader},
		{"exchange=orders", upstreamHeader}, {"", ""}, {"scopes=repo", upstreamHeader},
	} {
		config := wikiConfig(sidecar.server.URL)
		config.UpstreamToken = c.label
		h, behind := guard(t, config)
		for j := 0; j < 3; j++ {
			rec := ask(h, "GET", wikiURL+"/mcp", token...)
			seen := ""
			for name, values := range behind.last {
				if strings.Contains(strings.Join(values, ""), "gho_") {
					seen += name
				}
			}
			if rec.Code != 200 || seen != c.header {
				t.Errorf("label %d (%s), request %d: %d, the token is in %q", i, c.label, j, rec.Code, seen)
			}
		}
	}
}

// People with long tokens do not fill Traefik's memory: the tokens that are remembered are bounded
// in bytes. One that was forgotten is opened again.
func TestUpstreamTokensThatAreHeldAreBounded(t *testing.T) {
	start(t)
	w := newTwin(t, func(c *Config) {
		c.PublicURL = wikiURL
		c.UpstreamToken = "scopes=repo"
	})
	const length = 4096
	tokenOf := func(n int) string { return strings.Repeat("x", length-8) + fmt.Sprintf("%08d", n) }
	many := 3*maxHeldTokens/length + 10
	most, mostKnown := 0, 0
	held := func() (cached, known int) {
		c := w.b.tenantAt(wikiURL).sidecar.tokens
		for _, id := range c.young {
			cached += heldBy(id)
		}
		for _, id := range c.old {
			cached += heldBy(id)
		}
		for _, byHash := range w.b.known.byPath {
			for _, k := range byHash {
				known += heldBy(k.id)
			}
		}
		return cached, known
	}
	tokens := make([]string, many)
	for i := range tokens {
		tokens[i] = carrying(i, tokenOf(i), nil)
	}
	for round := 0; round < 2; round++ {
		for i := 0; i < many; i++ {
			for j := 0; j < 2; j++ {
				rec := ask(w.h, "GET", wikiURL+"/mcp", bearer(tokens[i])...)
				if rec.Code != 200 || w.behind.last.Get(upstreamHeader) != tokenOf(i) {
					t.Fatalf("round %d, token %d: %d", round, i, rec.Code)
				}
			}
			if i%100 == 99 {
				cached, known := held()
				if cached > most {
					most = cached
				}
				if known > mostKnown {
					mostKnown = known
				}
			}
		}
	}
	if most > 2*maxHeldTokens || most < maxHeldTokens || mostKnown > maxKnown*heldUnit || mostKnown < maxHeldTokens {
		t.Errorf("%d bytes are remembered, and %d with known requests", most, mostKnown)
	}
	// Short ones are bounded by their number alone.
	for i := 0; i < 1000; i++ {
		ask(w.h, "GET", wikiURL+"/mcp", bearer(carrying(10_000+i, githubToken, nil))...)
	}
	if n := len(w.b.tenantAt(wikiURL).sidecar.tokens.young); n < 1000 {
		t.Errorf("only %d are remembered", n)
	}
}

// A server that refuses the provider's token may cite it in its challenge, which the log does not
// show.
func TestUpstreamTokenInAChallengeOfTheServer(t *testing.T) {
	log := start(t)
	config := wikiConfig(startSidecar(t).server.URL)
	config.UpstreamToken = "scopes=repo"
	var next http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("WWW-Authenticate", `Bearer error="`+req.Header.Get(upstreamHeader)+`"`)
		rw.WriteHeader(http.StatusUnauthorized)
	})
	h, err := New(context.Background(), next, config, "wiki@docker")
	if err != nil {
		t.Fatal(err)
	}
	ask(h, "GET", wikiURL+"/mcp", bearer(carrying(1, githubToken, nil))...)
	if text := log.String(); !strings.Contains(text, "what the label upstreamToken gives it") || strings.Contains(text, "gho_") {
		t.Errorf("the log is %q", text)
	}
}
