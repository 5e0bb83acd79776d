//go:build go1.21

package plugin

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// load makes a middleware as Traefik does, and waits for the line of its check.
func load(t *testing.T, c *Config) {
	t.Helper()
	checksAtLoad = true
	guard(t, c)
	checksAtLoad = false
}

func TestAtLoadTheLogSaysWhetherHopKeyAndSidecarAnswer(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("hello")) }))
	defer stranger.Close()
	for _, c := range []struct {
		name, publicURL, hopKey string
		sidecar                 func(*fakeSidecar) string // its address
		says                    string
	}{
		{"all is well", wikiURL, testHopKey, func(f *fakeSidecar) string { return f.server.URL }, " answers and accepts the hop key"},
		{"without publicURL", "", testHopKey, func(f *fakeSidecar) string { return f.server.URL }, " answers; the first request will show whether it accepts the hop key"},
		{"no hop key", wikiURL, "", func(f *fakeSidecar) string { return f.server.URL }, "the variable BOUNCER_HOP_KEY of Traefik holds no hop key (32 bytes in base64): set it"},
		{"no hop key, without publicURL", "", "", func(f *fakeSidecar) string { return f.server.URL }, "the variable BOUNCER_HOP_KEY of Traefik holds no hop key"},
		{"another hop key", wikiURL, testHopKey, func(f *fakeSidecar) string { f.refuses = true; return f.server.URL }, "the sidecar refuses the hop header: its master secret is not that of this hop key"},
		{"the sidecar is away", wikiURL, testHopKey, func(f *fakeSidecar) string { f.server.Close(); return f.server.URL }, "connection refused"},
		{"it is away, without publicURL", "", testHopKey, func(f *fakeSidecar) string { f.server.Close(); return f.server.URL }, " does not answer (label sidecarURL): "},
		{"something else", wikiURL, testHopKey, func(f *fakeSidecar) string { return stranger.URL }, "the signing keys cannot be fetched from the sidecar "},
		{"something else, without publicURL", "", testHopKey, func(f *fakeSidecar) string { return stranger.URL }, "is not the sidecar"},
	} {
		log := start(t)
		sidecar := startSidecar(t)
		sidecar.on("/healthz", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set(markHeader, "1")
			rw.WriteHeader(http.StatusOK)
		})
		os.Setenv(hopVariable, c.hopKey)
		config := wikiConfig(c.sidecar(sidecar))
		config.PublicURL = c.publicURL
		load(t, config)
		eventually(t, c.name+": the line", func() bool { return strings.Contains(log.String(), "\n") })
		os.Setenv(hopVariable, testHopKey)
		line := strings.TrimSpace(log.String())
		if strings.Contains(line, "\n") || !strings.Contains(line, `middleware "wiki@docker": `) || !strings.Contains(line, c.says) {
			t.Errorf("%s: logged %q", c.name, line)
		}
		eventually(t, "it lands", func() bool { return !flying() })
	}
}

// Traefik makes each middleware several times, and again at each reload.
func TestAtLoadEachConfigurationIsCheckedOnce(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	for i := 0; i < 3; i++ {
		load(t, config)
	}
	eventually(t, "the line", func() bool { return strings.Contains(log.String(), " answers and accepts") && !flying() })
	load(t, config)
	config.DisplayName = "Our Wiki"
	load(t, config)
	eventually(t, "the line of the changed one", func() bool { return strings.Count(log.String(), " answers and accepts") == 2 })
	if n := sidecar.fetches.Load(); n != 2 || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("%d fetches, log %q", n, log)
	}
	// The keys are there before the first request comes.
	h, _ := guard(t, config)
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 200 || sidecar.fetches.Load() != 2 {
		t.Errorf("status %d, %d fetches", rec.Code, sidecar.fetches.Load())
	}
}

// The sidecar may be started after Traefik. The log then says so as soon as it answers.
func TestSidecarThatComesLaterIsSaid(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	sidecar.serveKeys("not JSON")
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	load(t, config)
	eventually(t, "the failure", func() bool { return strings.Contains(log.String(), "cannot be fetched") && !flying() })
	sidecar.serveKeys(jwksOf("k1"))
	clock.Add(retryAfter)
	h, _ := guard(t, config)
	if rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 200 {
		t.Errorf("status %d", rec.Code)
	}
	eventually(t, "the line", func() bool { return strings.Count(log.String(), " answers and accepts the hop key") == 1 })
}

// New may not wait: Traefik loads all its configuration in one goroutine.
func TestLoadingDoesNotWaitForTheSidecar(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	hold := make(chan struct{})
	sidecar.mu.Lock()
	sidecar.hold = hold
	sidecar.mu.Unlock()
	config := wikiConfig(sidecar.server.URL)
	config.PublicURL = wikiURL
	load(t, config)
	eventually(t, "the question", func() bool { return sidecar.fetches.Load() == 1 })
	if !flying() {
		t.Error("New came back after the answer")
	}
	close(hold)
}

// A Traefik with many middlewares asks the sidecar for all their keys when it loads them: some at a
// time, so that the answers to none come too late.
func TestAtLoadTheSidecarIsAskedForAFewTenantsAtATime(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	hold := make(chan struct{})
	sidecar.mu.Lock()
	sidecar.hold = hold
	sidecar.mu.Unlock()
	const many = 30
	for i := 0; i < many; i++ {
		config, _, _ := tenantConfig(sidecar.server.URL, i)
		load(t, config)
	}
	waiting := func() int {
		checks.Lock()
		defer checks.Unlock()
		return len(checks.waiting)
	}
	eventually(t, "the first are asked for", func() bool { return sidecar.fetches.Load() == checksAtATime && waiting() == many-checksAtATime })
	close(hold)
	eventually(t, "all are asked for", func() bool { return sidecar.fetches.Load() == many && waiting() == 0 && !flying() })
}
