//go:build go1.21

package plugin

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// A clock that was set back must not make anything last longer by the time that it was ahead.

func TestPeriods(t *testing.T) {
	p := period{from: 100, until: 110}
	for at, want := range map[int64]bool{-1: false, 0: false, 99: false, 100: true, 109: true, 110: false, 3700: false} {
		if during(p, at) != want {
			t.Errorf("at %d: %t", at, !want)
		}
	}
	if during(period{}, 0) || during(period{}, 1) {
		t.Error("no period lasts")
	}
}

func TestClockSetBackFreezesNeitherKeysNorDenyDocument(t *testing.T) {
	for _, back := range []int64{1, 120, 3600, 400 * 86400} {
		name := fmt.Sprintf("%d seconds back", back)
		start(t)
		sidecar := startSidecar(t)
		sidecar.serveKeys(jwksOf("k1", "k2"))
		h, behind := guard(t, wikiConfig(sidecar.server.URL))
		claims := login()
		claims["iat"] = clock.Load() - 500*86400
		claims["nbf"] = claims["iat"]
		denied := goodToken("k1", claims)
		claims["sid"] = "family-2"
		withdrawn := goodToken("k2", claims)
		claims["jti"] = "other"
		good := goodToken("k1", claims)
		statusOf := func(token string) int { return ask(h, "POST", wikiURL+"/mcp", bearer(token)...).Code }
		for _, token := range []string{denied, withdrawn, good} {
			if statusOf(token) != 200 {
				t.Fatalf("%s: refused before", name)
			}
		}
		sidecar.serveKeys(jwksOf("k1"))
		sidecar.setDeny(denyDocument(`"families":["family-1"]`))
		fetches := sidecar.fetches.Load()
		clock.Add(-back)
		before := behind.count()
		// The request waits for the deny document, and for the keys, since their age is unknown.
		if statusOf(denied) != 401 || statusOf(withdrawn) != 401 || behind.count() != before {
			t.Errorf("%s: denied %d, withdrawn %d", name, statusOf(denied), statusOf(withdrawn))
		}
		if statusOf(good) != 200 {
			t.Errorf("%s: a good token is refused", name)
		}
		// The second fetch is for the kid that is unknown now.
		if n := sidecar.fetches.Load() - fetches; n != 2 {
			t.Errorf("%s: the keys were fetched %d times", name, n)
		}
	}
}

// Every value that is remembered for a while is asked for again, once.
func TestClockSetBackEndsWhatIsRemembered(t *testing.T) {
	for _, back := range []int64{120, 3600} {
		name := fmt.Sprintf("%d seconds back", back)

		log := start(t)
		complain("wiki@docker", "test", "before")
		clock.Add(-back)
		complain("wiki@docker", "test", "after")
		complain("wiki@docker", "test", "again")
		if !strings.Contains(log.String(), "after") || strings.Contains(log.String(), "again") {
			t.Errorf("%s: the log is silenced, or floods: %q", name, log)
		}

		start(t)
		_, m, h, _ := startKeys(t, map[string]string{})
		ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...)
		m.mu.Lock()
		m.good[aKey("ci")] = "ci-bot"
		m.mu.Unlock()
		clock.Add(-back)
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(aKey("ci"))...); rec.Code != 200 {
			t.Errorf("%s: a refused bearer key stays refused: %d", name, rec.Code)
		}

		start(t)
		sidecar := startSidecar(t)
		h, _ = guard(t, wikiConfig(sidecar.server.URL))
		token := goodToken("k1", map[string]any{"exp": clock.Load() + 20000, "iat": clock.Load() - 10000, "nbf": clock.Load() - 10000})
		ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
		unknown := goodToken("k2", map[string]any{"iat": clock.Load() - 10000, "nbf": clock.Load() - 10000})
		// No other unknown kid causes a fetch for half a minute.
		ask(h, "POST", wikiURL+"/mcp", bearer(unknown)...)
		clock.Add(-back)
		ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
		eventually(t, name, func() bool { return !flying() })
		sidecar.serveKeys(jwksOf("k1", "k2"))
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(unknown)...); rec.Code != 200 {
			t.Errorf("%s: a new key is not looked for: %d", name, rec.Code)
		}

		start(t)
		sidecar = startSidecar(t)
		sidecar.serveKeys("not JSON")
		h, _ = guard(t, wikiConfig(sidecar.server.URL))
		ask(h, "POST", wikiURL+"/mcp", bearer(token)...)
		sidecar.serveKeys(jwksOf("k1"))
		clock.Add(-back)
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 {
			t.Errorf("%s: the pause after a failure goes on: %d", name, rec.Code)
		}

		start(t)
		os.Setenv("CLOCK_BACKEND_AUTHORIZATION", "Bearer first")
		secret := &backendSecret{variable: "CLOCK_BACKEND_AUTHORIZATION"}
		if _, err := secret.header(clock.Load()); err != nil {
			t.Fatal(err)
		}
		os.Setenv("CLOCK_BACKEND_AUTHORIZATION", "Bearer second")
		if value, err := secret.header(clock.Load() - back); err != nil || value != "Bearer second" {
			t.Errorf("%s: the MCP server's secret is %q, %v", name, value, err)
		}
		os.Unsetenv("CLOCK_BACKEND_AUTHORIZATION")
	}
}

func TestClockSetBackRenewsTheAssertion(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	asked := 0
	sidecar.on("/hop/assertion", func(rw http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprintf(rw, `{"assertion":"a%d","expires_in":300}`, asked)
	})
	config := wikiConfig(sidecar.server.URL)
	config.IdentityHeaders = "assertion"
	h, behind := guard(t, config)
	token := goodToken("k1", map[string]any{"iat": clock.Load() - 10000, "nbf": clock.Load() - 10000})
	for _, want := range []string{"a1", "a2", "a2"} {
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(token)...); rec.Code != 200 || behind.last.Get("X-Mcp-Assertion") != want {
			t.Errorf("status %d, assertion %q, want %q", rec.Code, behind.last.Get("X-Mcp-Assertion"), want)
		}
		if want == "a1" {
			clock.Add(-3600)
		}
	}
}

// An older document stays out for an hour after the time to which the clock was set, and no longer.
func TestDenyDocumentThatIsOlderStaysOutWhenTheClockIsSetBack(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	sidecar.setDeny(strings.Replace(denyDocument(`"families":["family-1"]`), `"serial":1`, `"serial":2`, 1))
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	claims := login()
	claims["iat"] = clock.Load() - 90000
	claims["nbf"] = claims["iat"]
	token := goodToken("k1", claims)
	statusOf := func() int {
		status := ask(h, "POST", wikiURL+"/mcp", bearer(token)...).Code
		eventually(t, "the fetch ends", func() bool { return !flying() })
		return status
	}
	if statusOf() != 401 {
		t.Fatal("not denied before")
	}
	sidecar.setDeny(denyDocument(`"families":[]`))
	clock.Add(-86400)
	for i := 0; i < 6; i++ {
		if status := statusOf(); status != 401 {
			t.Errorf("after %d minutes: status %d", 10*i, status)
		}
		clock.Add(600)
	}
	statusOf()
	if status := statusOf(); status != 200 {
		t.Errorf("after an hour: status %d", status)
	}
}

// When there are too many invented hosts, those from before the clock was set back go first.
func TestClockSetBackKeepsTheKeysInUse(t *testing.T) {
	start(t)
	hop := &hopSealer{}
	stateOf := func(id string) *sidecarState {
		s, _ := sidecarStateFor(id, id, "", 300, hop, false)
		return s
	}
	for i := 0; i < maxStrangers; i++ {
		stateOf(fmt.Sprint("old-", i))
	}
	clock.Add(-3600)
	used := stateOf("new")
	stateOf("another")
	if stateOf("new") != used {
		t.Error("the set in use was dropped")
	}
}
