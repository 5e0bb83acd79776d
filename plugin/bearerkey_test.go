//go:build go1.21

package plugin

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// aKey is well-formed: only the sidecar knows whether it is good.
func aKey(name string) string {
	blob := append([]byte{1}, []byte(name+strings.Repeat("-", 60))...)
	return keyPrefix + base64.RawURLEncoding.EncodeToString(blob)
}

const brokenConnection = 1

// keyMaker answers /hop/token like the sidecar: the keys in good get a token of half an hour, all others are refused.
type keyMaker struct {
	asked atomic.Int64

	mu   sync.Mutex
	good map[string]string // key → sub
	ends int64             // Unix seconds at which they end; 0: never
	down int               // a status to answer instead, or brokenConnection
	says string            // with down: the body
	hold chan struct{}
}

func (m *keyMaker) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	m.asked.Add(1)
	m.mu.Lock()
	sub := m.good[req.PostFormValue("key")]
	expires := clock.Load() + 1800
	if m.ends != 0 && expires > m.ends {
		expires = m.ends
	}
	if clock.Load() >= expires {
		sub = ""
	}
	down := m.down
	says := m.says
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		<-hold
	}
	switch {
	case down == brokenConnection:
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	case down != 0:
		rw.WriteHeader(down)
		fmt.Fprint(rw, says)
	case req.Method != "POST" || sub == "":
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(rw, `{"error":"invalid_grant","error_description":"the key is not one of this server"}`)
	default:
		fmt.Fprintf(rw, `{"access_token":"%s","token_type":"Bearer","expires_in":1800,"scope":"openid mcp"}`,
			goodToken("k1", map[string]any{"sub": sub, "client_id": "key:" + sub, "exp": expires, "sid": "id-of-" + sub}))
	}
}

func startKeys(t testing.TB, good map[string]string) (*fakeSidecar, *keyMaker, http.Handler, *backend) {
	sidecar := startSidecar(t)
	m := &keyMaker{good: good}
	sidecar.on("/hop/token", m.ServeHTTP)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	return sidecar, m, h, behind
}

func TestABearerKeyComesIn(t *testing.T) {
	start(t)
	sidecar, m, h, behind := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
	for i := 0; i < 3; i++ {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 || behind.last.Get("X-Mcp-Sub") != "ci-bot" || behind.last.Get("X-Mcp-Scopes") != "openid mcp" {
			t.Fatalf("status %d, X-Mcp-Sub %q", rec.Code, behind.last.Get("X-Mcp-Sub"))
		}
		if behind.last["Authorization"] != nil {
			t.Error("the key reached the MCP server")
		}
	}
	if n := m.asked.Load(); n != 1 {
		t.Errorf("the sidecar was asked %d times", n)
	}
	clock.Add(1800)
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 || m.asked.Load() != 2 {
		t.Errorf("after half an hour: status %d, the sidecar was asked %d times", rec.Code, m.asked.Load())
	}
	// The operator ends the key: what is remembered of it goes.
	sidecar.setDeny(denyDocument(`"keys":["id-of-ci-bot"]`))
	clock.Add(denyPatience)
	rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
	if rec.Code != 401 {
		t.Errorf("an ended key: status %d", rec.Code)
	}
}

// To the second: the minute in which other access tokens are still honoured would be the key's.
func TestABearerKeyEndsWhenItSays(t *testing.T) {
	start(t)
	_, m, h, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
	m.ends = clock.Load() + 2000
	for _, c := range []struct {
		after int64
		want  int
		asked int64
	}{{0, 200, 1}, {1799, 200, 1}, {1, 200, 2}, {199, 200, 2}, {1, 401, 3}, {1, 401, 3}} {
		clock.Add(c.after)
		rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
		if rec.Code != c.want || m.asked.Load() != c.asked {
			t.Errorf("%d seconds before its end: status %d, want %d; the sidecar was asked %d times, want %d", m.ends-clock.Load(), rec.Code, c.want, m.asked.Load(), c.asked)
		}
	}
}

func TestBearerKeysThatAreRefused(t *testing.T) {
	log := start(t)
	_, m, h, behind := startKeys(t, nil)
	for _, c := range []struct {
		name, key string
		asks      bool
	}{
		{"one that the sidecar does not open", aKey("x"), true},
		{"the prefix alone", keyPrefix, false},
		{"too short", keyPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 35)), false},
		{"of another suite", keyPrefix + base64.RawURLEncoding.EncodeToString(append([]byte{2}, make([]byte, 60)...)), false},
		{"no base64url", keyPrefix + strings.Repeat("+", 80), false},
		{"padded", keyPrefix + base64.URLEncoding.EncodeToString(append([]byte{1}, make([]byte, 60)...)) + "=", false},
		{"too long", keyPrefix + base64.RawURLEncoding.EncodeToString(append([]byte{1}, make([]byte, 2000)...)), false},
		{"a refresh token", strings.Replace(aKey("x"), "mbb1_", "mbr1_", 1), false},
	} {
		before := m.asked.Load()
		for i := 0; i < 3; i++ {
			rec := ask(h, "POST", wikiURL+"/mcp", bearer(c.key)...)
			if rec.Code != 401 || !strings.Contains(strings.Join(challenges(rec), "|"), `error="invalid_token"`) {
				t.Errorf("%s: status %d %s", c.name, rec.Code, challenges(rec))
			}
		}
		asked := m.asked.Load() - before
		if c.asks && asked != 1 || !c.asks && asked != 0 {
			t.Errorf("%s: the sidecar was asked %d times", c.name, asked)
		}
	}
	clock.Add(refusedPeriod)
	before := m.asked.Load()
	ask(h, "POST", wikiURL+"/mcp", bearer(aKey("x"))...)
	if m.asked.Load() != before+1 {
		t.Error("a refused key is never asked for again")
	}
	if behind.count() != 0 || log.String() != "" {
		t.Errorf("%d calls, log %q", behind.count(), log)
	}
}

// Invented keys cost the sidecar a bounded number of questions, and known keys nothing.
func TestInventedBearerKeysDoNotHammerTheSidecar(t *testing.T) {
	start(t)
	_, m, h, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot", aKey("new"): "new-bot"})
	ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
	clock.Add(1800) // it must be asked for again, in the middle of the flood
	before := m.asked.Load()
	limited := 0
	for i := 0; i < 2000; i++ {
		rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey(fmt.Sprint("invented-", i)))...)
		if rec.Code == 503 {
			limited++
		} else if rec.Code != 401 {
			t.Fatalf("status %d", rec.Code)
		}
	}
	if asked := m.asked.Load() - before; asked != strangeKeys || limited != 2000-strangeKeys {
		t.Errorf("2000 invented keys: the sidecar was asked %d times, %d answers 503", asked, limited)
	}
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 {
		t.Errorf("a known key meanwhile: status %d", rec.Code)
	}
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("new"))...); rec.Code != 503 || len(challenges(rec)) != 0 {
		t.Errorf("a new key meanwhile: status %d; a 401 would say that it is bad", rec.Code)
	}
	clock.Add(strangePeriod)
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("new"))...); rec.Code != 200 {
		t.Errorf("a new key after the period: status %d", rec.Code)
	}
	for _, k := range keysets.byID {
		if len(k.bearer.refused) > maxRefused || len(k.bearer.flights) != 0 {
			t.Errorf("%d refused, %d flights", len(k.bearer.refused), len(k.bearer.flights))
		}
	}
}

// A stranger with ten invented keys a second cannot shut out those whose keys are not known yet, as after a restart.
func TestAStrangerDoesNotShutOutNewKeys(t *testing.T) {
	start(t)
	_, _, h, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
	for second := 0; second < 55; second++ {
		for i := 0; i < 10; i++ {
			ask(h, "POST", wikiURL+"/mcp", bearer(aKey(fmt.Sprint("invented-", second, "-", i)))...)
		}
		clock.Add(1)
	}
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 {
		t.Errorf("a good key after 55 seconds of it: status %d", rec.Code)
	}
}

// Strangers who occupy all questions do not hold up a key that was good before.
func TestKnownKeysDoNotWaitForStrangers(t *testing.T) {
	start(t)
	_, m, h, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
	ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
	clock.Add(1800)
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...) // fetches what is due
	hold := make(chan struct{})
	m.mu.Lock()
	m.hold = hold
	m.mu.Unlock()
	var all sync.WaitGroup
	all.Add(keyFlights)
	startAll(keyFlights, func(i int) {
		defer all.Done()
		ask(h, "POST", wikiURL+"/mcp", bearer(aKey(fmt.Sprint("invented-", i)))...)
	})
	eventually(t, "the questions", func() bool { return m.asked.Load() == 1+keyFlights })
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("new"))...); rec.Code != 503 {
		t.Errorf("one question too many: status %d", rec.Code)
	}
	m.mu.Lock()
	m.hold = nil
	m.mu.Unlock()
	rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
	close(hold)
	all.Wait()
	if rec.Code != 200 {
		t.Errorf("a known key meanwhile: status %d", rec.Code)
	}
}

func TestGoodBearerKeysAreNotCounted(t *testing.T) {
	start(t)
	good := map[string]string{}
	for i := 0; i < 2*strangeKeys; i++ {
		good[aKey(fmt.Sprint("k", i))] = fmt.Sprint("bot-", i)
	}
	_, _, h, _ := startKeys(t, good)
	for key := range good {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(key)...); rec.Code != 200 {
			t.Fatalf("status %d", rec.Code)
		}
	}
}

func TestRequestsWithOneKeyShareOneQuestion(t *testing.T) {
	start(t)
	sidecar, m, _, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot", aKey("other"): "other-bot"})
	m.hold = make(chan struct{})
	k := keysetFor("test", sidecar.server.URL, 300, &hopSealer{payload: []byte("{}")})
	at := clock.Load()
	first, err1 := k.bearer.launch(k, aKey("ci"), at)
	second, err2 := k.bearer.launch(k, aKey("ci"), at)
	other, err3 := k.bearer.launch(k, aKey("other"), at)
	if err1 != nil || err2 != nil || err3 != nil || first != second || first == other {
		t.Errorf("%v, %v, %v; one flight for both: %t", err1, err2, err3, first == second)
	}
	for i := 0; i < 20; i++ {
		_, err := k.bearer.launch(k, aKey(fmt.Sprint("k", i)), at)
		if (err == nil) != (i < keyFlights-2) {
			t.Errorf("key %d beside two others: %v", i, err)
		}
	}
	close(m.hold)
	<-first.done
	<-other.done
	if first.err != nil || other.err != nil || first.token == "" || first.token == other.token {
		t.Errorf("%v %v", first.err, other.err)
	}
	eventually(t, "all flights land", func() bool { return m.asked.Load() == keyFlights })
}

// A client that gets 401 throws its key away. So nothing but the sidecar's own invalid_grant is a verdict, and what was none is not remembered.
func TestSidecarAwayIsNoVerdictOnAKey(t *testing.T) {
	for _, c := range []struct {
		name string
		down int
		says string
	}{
		{"an error", 500, ""},
		{"busy", 503, `{"error":"temporarily_unavailable"}`},
		{"a sidecar that knows no keys", 404, ""},
		{"an error with the words of a refusal", 500, `{"error":"invalid_grant"}`},
		{"a body that was cut off on its way", 400, `{"error":"invalid_request"}`},
		{"a proxy before it", 400, "<html>Bad Request</html>"},
		{"a proxy that wants a login", 401, `{"error":"invalid_grant"}`},
		{"the hop is refused", 403, `{"error":"forbidden"}`},
		{"an answer without a token", 200, `{"token_type":"Bearer"}`},
		{"an answer that is no JSON", 200, "OK"},
		{"an answer that is too long", 200, strings.Repeat(" ", maxAnswer+1)},
		{"a connection that breaks", brokenConnection, ""},
		{"away", 0, ""},
	} {
		log := start(t)
		sidecar, m, h, behind := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
		m.down = c.down
		m.says = c.says
		if c.down == 0 {
			sidecar.server.Close()
			sidecarTransport.CloseIdleConnections()
		}
		rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
		if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || len(challenges(rec)) != 0 || behind.count() != 0 {
			t.Errorf("%s: status %d %s", c.name, rec.Code, challenges(rec))
		}
		if !strings.Contains(log.String(), "the sidecar gives no access token for a bearer key: ") || strings.Contains(log.String(), "mbb1_") {
			t.Errorf("%s: logged %q", c.name, log)
		}
		m.mu.Lock()
		m.down = 0
		m.mu.Unlock()
		if c.down != 0 {
			if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 {
				t.Errorf("%s, and back: status %d", c.name, rec.Code)
			}
		}
	}
}

// A sidecar whose clock is half a minute behind exchanges the key for a token that has expired here.
func TestAKeysTokenThatHasExpiredIsNotAccepted(t *testing.T) {
	start(t)
	sidecar, _, h, behind := startKeys(t, nil)
	asked := 0
	sidecar.on("/hop/token", func(rw http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprintf(rw, `{"access_token":"%s"}`, goodToken("k1", map[string]any{"sub": "ci-bot", "client_id": "key:ci", "exp": clock.Load() - 30, "sid": "id-of-ci"}))
	})
	for i := 0; i < 3; i++ {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code == 200 {
			t.Errorf("status %d with a token that expired 30 seconds ago; the sidecar was asked %d times, the MCP server %d", rec.Code, asked, behind.count())
		}
	}
}
