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

// aKey returns a well-formed key: only the sidecar knows whether it is good.
func aKey(name string) string {
	blob := append([]byte{1}, []byte(name+strings.Repeat("-", 60))...)
	return keyPrefix + base64.RawURLEncoding.EncodeToString(blob)
}

const brokenConnection = 1

// keyMaker answers /hop/token like the sidecar: the keys in good get a token of half an hour, all
// others are refused.
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
	await(hold, req)
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

func TestBearerKeyComesIn(t *testing.T) {
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
	// When the operator ends the key, what the plugin remembers of it is deleted.
	sidecar.setDeny(denyDocument(`"keys":["id-of-ci-bot"]`))
	clock.Add(denyPatience)
	rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
	if rec.Code != 401 {
		t.Errorf("an ended key: status %d", rec.Code)
	}
}

// The end of a key counts to the second. Otherwise the key would have the minute in which other
// access tokens are still honoured.
func TestBearerKeyEndsWhenItSays(t *testing.T) {
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

// In a flood of invented keys the plugin asks about a bounded number at a time, and remembers none
// of them.
func TestBearerKeysThatAreInventedDoNotHammerTheSidecar(t *testing.T) {
	log := start(t)
	patient(t)
	_, m, h, behind := startKeys(t, nil)
	m.hold = make(chan struct{})
	const crowd = keyPlaces + keysWaiting/2 + 100
	statuses := make([]int, crowd)
	var answered atomic.Int64
	var all sync.WaitGroup
	all.Add(crowd)
	startAll(crowd, func(i int) {
		defer all.Done()
		statuses[i-1] = ask(h, "POST", wikiURL+"/mcp", bearer(aKey(fmt.Sprint("invented-", i)))...).Code
		answered.Add(1)
	})
	bearerOfTheOne := func() *bearerKeys {
		sidecarStates.Lock()
		defer sidecarStates.Unlock()
		for _, s := range allStates() {
			return s.bearer
		}
		return newBearerKeys()
	}
	seen := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("before the sidecar answered: " + seen)
		}
	})
	eventually(t, "all are asked for, wait or are refused", func() bool {
		b := bearerOfTheOne()
		b.mu.Lock()
		defer b.mu.Unlock()
		seen = fmt.Sprintf("%d answered, %d places, %d queued, %d asked", answered.Load(), b.strange, b.queued, m.asked.Load())
		return answered.Load() == 100 && b.strange == keyPlaces && b.queued == keysWaiting/2 && m.asked.Load() == keyPlaces
	})
	close(m.hold)
	all.Wait()
	count := map[int]int{}
	for _, status := range statuses {
		count[status]++
	}
	if count[401] != keyPlaces+keysWaiting/2 || count[503] != 100 || behind.count() != 0 {
		t.Errorf("statuses %v", count)
	}
	if !strings.Contains(log.String(), `middleware "wiki@docker": so many bearer keys are asked for that are not known`) {
		t.Errorf("logged %q", log)
	}
	b := bearerOfTheOne()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.inflight) != 0 || len(b.waiting) != 0 || b.queued != 0 || b.strange != 0 || len(b.refused) > maxRefused {
		t.Errorf("%d flights, %d addresses, %d queued, %d places, %d refused", len(b.inflight), len(b.waiting), b.queued, b.strange, len(b.refused))
	}
}

// After a restart all keys are unknown. Somebody who invents others meanwhile, from the same
// address or another one, shuts none of them out.
func TestBearerKeysThatAreNewAreNotShutOut(t *testing.T) {
	for _, c := range []struct{ name, address string }{
		{"from the address of the good keys", "192.0.2.1"},
		{"from another", "198.51.100.7"},
	} {
		start(t)
		patient(t)
		good := map[string]string{}
		for i := 0; i < 20; i++ {
			good[aKey(fmt.Sprint("good-", i))] = fmt.Sprint("bot-", i)
		}
		_, _, h, _ := startKeys(t, good)
		stop := flood(h, c.address)
		for key := range good {
			if rec := ask(h, "POST", wikiURL+"/mcp", append(bearer(key), "X-Real-Ip", "192.0.2.1")...); rec.Code != 200 {
				t.Errorf("%s: a good key: status %d", c.name, rec.Code)
			}
		}
		stop()
	}
}

// flood sends invented keys from an address, more at a time than there are places, until it is
// stopped.
func flood(h http.Handler, address string) func() {
	const crowd = keyPlaces + 16
	stop := make(chan struct{})
	var strangers sync.WaitGroup
	strangers.Add(crowd)
	startAll(crowd, func(i int) {
		defer strangers.Done()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			key := append(bearer(aKey(fmt.Sprint("invented-", i, "-", n))), "X-Real-Ip", address)
			ask(h, "POST", wikiURL+"/mcp", key...)
		}
	})
	return func() {
		close(stop)
		strangers.Wait()
	}
}

// A place that becomes free goes to each address alike, however many keys it has in the queue.
func TestBearerKeyFloodFromOneAddressWaits(t *testing.T) {
	start(t)
	b := newBearerKeys()
	b.strange = keyPlaces
	tn := &tenant{hop: &hopSealer{name: "wiki@docker"}}
	for i := 0; i < keysWaiting/2; i++ {
		if _, err := b.launch(tn, aKey(fmt.Sprint("invented-", i)), "198.51.100.7", ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.launch(tn, aKey("one too many"), "198.51.100.7", ""); err != errKeysUnavailable {
		t.Errorf("one too many: %v", err)
	}
	want, err := b.launch(tn, aKey("good"), "192.0.2.1", "")
	if err != nil {
		t.Fatal(err)
	}
	draws := 0
	for b.draw() != want {
		draws++
	}
	if draws > 60 { // one in 2^60
		t.Errorf("it was drawn after %d others", draws)
	}
	// The plugin does not ask about the key of a client that gave up.
	clock.Add(5)
	b.strange = 0
	b.startNext(clock.Load())
	if b.queued != 0 || b.strange != 0 {
		t.Errorf("%d wait, %d are asked for", b.queued, b.strange)
	}
}

// Two addresses, or some hundred, cannot fill the queue for a third.
func TestBearerKeyFloodFromSomeAddressesLeavesRoom(t *testing.T) {
	for _, addresses := range []int{2, 500} {
		start(t)
		b := newBearerKeys()
		b.strange = keyPlaces
		tn := &tenant{hop: &hopSealer{name: "wiki@docker"}}
		for i := 0; i < keysWaiting; i++ {
			if _, err := b.launch(tn, aKey(fmt.Sprint("invented-", i)), fmt.Sprint("stranger ", i%addresses), ""); err != nil {
				t.Fatal(err)
			}
		}
		good, err := b.launch(tn, aKey("good"), "192.0.2.1", "")
		if err != nil {
			t.Errorf("%d addresses: %v", addresses, err)
			continue
		}
		if b.queued != keysWaiting || len(b.inflight) != keysWaiting || b.waiting["192.0.2.1"][0] != good {
			t.Errorf("%d addresses: %d wait of %d", addresses, b.queued, len(b.inflight))
		}
		// The other addresses take no place from each other, nor from this one.
		if _, err := b.launch(tn, aKey("one too many"), "stranger 0", ""); addresses == 2 && err != errKeysUnavailable {
			t.Errorf("%d addresses: one too many: %v", addresses, err)
		}
		clock.Add(5)
		b.strange = 0
		b.startNext(clock.Load())
		if b.queued != 0 || len(b.inflight) != 0 || len(b.waiting) != 0 {
			t.Errorf("%d addresses: %d still wait, %d flights", addresses, b.queued, len(b.inflight))
		}
	}
}

func TestBearerKeyAddress(t *testing.T) {
	for _, c := range []struct{ name, realIP, remote, want string }{
		{"Traefik says it", "192.0.2.7", "10.0.0.1:80", "192.0.2.7"},
		{"nobody says it", "", "192.0.2.8:4711", "192.0.2.8"},
		{"IPv6, of which one subscriber has a /64", "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"},
		{"IPv4 written as IPv6", "::ffff:192.0.2.7", "", "192.0.2.7"},
		{"nonsense", "x", "", ""},
	} {
		req, _ := http.NewRequest("POST", wikiURL, nil)
		req.RemoteAddr = c.remote
		if c.realIP != "" {
			req.Header.Set("X-Real-Ip", c.realIP)
		}
		if got := addressOf(req); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Strangers who occupy all questions do not hold up a key that was good before.
func TestBearerKeysThatAreKnownDoNotWait(t *testing.T) {
	start(t)
	patient(t)
	_, m, h, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
	ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
	clock.Add(1800)
	ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...) // fetches what is due
	hold := make(chan struct{})
	m.mu.Lock()
	m.hold = hold
	m.mu.Unlock()
	var all sync.WaitGroup
	all.Add(keyPlaces)
	startAll(keyPlaces, func(i int) {
		defer all.Done()
		ask(h, "POST", wikiURL+"/mcp", bearer(aKey(fmt.Sprint("invented-", i)))...)
	})
	eventually(t, "the questions", func() bool { return m.asked.Load() == 1+keyPlaces })
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

func TestBearerKeysThatAreGoodAreNotCounted(t *testing.T) {
	start(t)
	good := map[string]string{}
	for i := 0; i < 2*keyPlaces; i++ {
		good[aKey(fmt.Sprint("k", i))] = fmt.Sprint("bot-", i)
	}
	_, _, h, _ := startKeys(t, good)
	for key := range good {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(key)...); rec.Code != 200 {
			t.Fatalf("status %d", rec.Code)
		}
	}
}

func TestBearerKeyQuestionIsShared(t *testing.T) {
	start(t)
	sidecar, m, _, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot", aKey("other"): "other-bot"})
	m.hold = make(chan struct{})
	hop := &hopSealer{payload: []byte("{}")}
	state, _ := sidecarStateFor("test", "test", sidecar.server.URL, 300, hop, true)
	tn := &tenant{hop: hop, sidecar: state}
	first, err1 := state.bearer.launch(tn, aKey("ci"), "", "")
	second, err2 := state.bearer.launch(tn, aKey("ci"), "", "")
	other, err3 := state.bearer.launch(tn, aKey("other"), "", "")
	if err1 != nil || err2 != nil || err3 != nil || first != second || first == other {
		t.Errorf("%v, %v, %v; one flight for both: %t", err1, err2, err3, first == second)
	}
	close(m.hold)
	<-first.flight.ended
	<-other.flight.ended
	if first.flight.result() != nil || other.flight.result() != nil || first.token == "" || first.token == other.token {
		t.Errorf("%v %v", first.flight.result(), other.flight.result())
	}
	if n := m.asked.Load(); n != 2 {
		t.Errorf("%d questions for two keys", n)
	}
}

// A client that gets 401 throws its key away. So only invalid_grant of the sidecar is a verdict,
// and another answer is not remembered.
func TestBearerKeyWhileTheSidecarIsAway(t *testing.T) {
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
		if !strings.Contains(log.String(), " gives no access token for a bearer key: ") || strings.Contains(log.String(), "mbb1_") {
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

// A sidecar whose clock is half a minute behind exchanges the key for a token that has expired
// here.
func TestBearerKeyWhoseTokenHasExpired(t *testing.T) {
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

// A new entry, of a stranger's key or of a good one, pushes out one other entry and not all.
func TestBearerKeyMemoriesThatAreFullLoseOneEntry(t *testing.T) {
	b := newBearerKeys()
	b.prepare()
	name := func(i int) [32]byte {
		var hash [32]byte
		hash[0] = byte(i)
		hash[1] = byte(i >> 8)
		hash[2] = byte(i >> 16)
		return hash
	}
	for i := 0; i < maxGoodKeys-5; i++ {
		b.good[name(i)] = true
	}
	for i := maxGoodKeys - 5; i < maxGoodKeys+5; i++ {
		b.land(&exchange{hash: name(i), flight: newFlight()}, "token", nil)
	}
	for i := 0; i < maxRefused+5; i++ {
		b.land(&exchange{hash: name(1<<20 + i), flight: newFlight()}, "", errKey)
	}
	if len(b.good) != maxGoodKeys || len(b.refused) != maxRefused {
		t.Errorf("%d good and %d refused keys are known, want %d and %d", len(b.good), len(b.refused), maxGoodKeys, maxRefused)
	}
}
