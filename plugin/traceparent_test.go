//go:build go1.21

package plugin

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

const clientsParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// parentAt returns the traceparent of the last request of a path, and forgets it.
func (f *fakeSidecar) parentAt(path string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	parent, ok := f.parents[path]
	delete(f.parents, path)
	if !ok {
		return "not asked"
	}
	return parent
}

// What the plugin asks the sidecar for a client's request belongs to the trace of that request.
func TestQuestionsBelongToTheTraceOfTheRequest(t *testing.T) {
	start(t)
	sidecar, _, _, _ := startKeys(t, map[string]string{aKey("ci"): "ci-bot"})
	sidecar.on("/hop/assertion", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Write([]byte(`{"access_token":"","assertion":"a.b.c","expires_in":300}`))
	})
	r := takeReports(t, sidecar)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	config.IdentityHeaders = "assertion"
	h, _ := guard(t, config)
	if rec := ask(h, "POST", wikiURL+"/mcp", append(bearer(aKey("ci")), parentHeader, clientsParent)...); rec.Code != 200 {
		t.Fatalf("status %d", rec.Code)
	}
	for _, path := range []string{"/hop/token", "/oauth/jwks.json", "/hop/deny", "/hop/assertion"} {
		if got := sidecar.parentAt(path); got != clientsParent {
			t.Errorf("%s: %q", path, got)
		}
	}
	// Nobody waits for these: the report of figures, and what a known token finds due.
	r.fire()
	clock.Add(denyPeriod)
	ask(h, "POST", wikiURL+"/mcp", append(bearer(aKey("ci")), parentHeader, clientsParent)...)
	eventually(t, "the deny document is fetched again", func() bool { return sidecar.denyFetches.Load() == 2 && !flying() })
	for _, path := range []string{"/hop/figures", "/hop/deny"} {
		if got := sidecar.parentAt(path); got != "" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// A client chooses its traceparent, and what the plugin asks is asked for others too. So one that
// is not well-formed must not make the sidecar refuse the question.
func TestQuestionsTakeNoTraceparentThatIsNotWellFormed(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   string
	}{
		{[]string{clientsParent}, clientsParent},
		{[]string{"cc" + clientsParent[2:] + "-what-comes-later"}, "cc" + clientsParent[2:] + "-what-comes-later"},
		{[]string{clientsParent, clientsParent}, ""},
		{[]string{""}, ""},
		{[]string{"garbage"}, ""},
		{[]string{strings.ToUpper(clientsParent)}, ""},
		{[]string{clientsParent + "x"}, ""},
		{[]string{clientsParent + "\n"}, ""},
		{[]string{clientsParent + "-\xff"}, ""},
		{[]string{clientsParent + "-" + strings.Repeat("x", 201)}, ""},
		{[]string{strings.Repeat("0", 1<<20)}, ""},
	} {
		start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		config.PublicURL = wikiURL
		h, _ := guard(t, config)
		headers := bearer(goodToken("k1", nil))
		for _, value := range c.values {
			headers = append(headers, parentHeader, value)
		}
		if rec := ask(h, "POST", wikiURL+"/mcp", headers...); rec.Code != 200 {
			t.Errorf("%.80q: status %d", c.values, rec.Code)
		}
		if got := sidecar.parentAt("/oauth/jwks.json"); got != c.want {
			t.Errorf("%.80q: the sidecar got %.80q", c.values, got)
		}
	}
}

// ownContext is the context of another middleware, with what that changes while it serves.
type ownContext struct {
	Context context.Context
	State   ownState
}

func (c *ownContext) Deadline() (time.Time, bool) { return c.Context.Deadline() }
func (c *ownContext) Done() <-chan struct{}       { return c.Context.Done() }
func (c *ownContext) Err() error                  { return c.Context.Err() }
func (c *ownContext) Value(key any) any           { return c.Context.Value(key) }

type ownState struct{ read *bool }

func (s ownState) String() string {
	*s.read = true
	return ""
}

// To read what another middleware keeps in its context, while that writes it, could end the Traefik
// process: Go lets nothing recover from a map that is read and written at once.
func TestContextsOfOthersAreNotRead(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	h, _ := guard(t, config)
	read := false
	around := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		h.ServeHTTP(rw, req.WithContext(&ownContext{Context: req.Context(), State: ownState{&read}}))
	})
	if rec := ask(around, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 200 || read {
		t.Errorf("status %d, read: %v", rec.Code, read)
	}
}
