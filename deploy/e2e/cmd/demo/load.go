package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// picture draws the dashboard of deploy/observe, of a real Prometheus' answers about what happens
// here under load.
type picture struct {
	file    string
	lasts   time.Duration
	figures *metrics.Metrics
	sidecar string // where metrics are
	traefik string
	began   time.Time
}

// slow makes the demo's provider one over a network: it takes its time, and has a bad minute.
func (p *picture) slow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait := time.Duration(20+rand.IntN(180)) * time.Millisecond
		if gone := time.Since(p.began); gone > p.lasts/2 && gone < p.lasts*7/10 {
			wait *= 8
			if r.URL.Path == "/oauth/token" && rand.IntN(4) == 0 {
				http.Error(w, "a bad minute", http.StatusServiceUnavailable)
				return
			}
		}
		select {
		case <-time.After(wait):
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// take puts load on the demo while Prometheus looks, and writes the picture.
func (p *picture) take(t *rig.Life, public, sidecar string) error {
	logs := &rig.Logs{}
	server := rig.StartPrometheus(t, logs, []string{p.sidecar}, p.traefik)
	fmt.Printf("\nLoad for %v, at which %s looks.\n", p.lasts, server.URL)
	p.began = time.Now()
	names := []string{"Claude Code", "Claude Code", "Claude Code", "Cursor", "Cursor", "Codex", "Visual Studio Code", "MCP Inspector", "a program"}
	c := rig.NewOAuthClient(t, http.DefaultClient, public)
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for time.Since(p.began) < p.lasts {
				p.login(t, *c, sidecar, names[rand.IntN(len(names))])
			}
		}()
	}
	for range 4 {
		<-done
	}
	svg, err := draw(t, server, p.began, p.lasts)
	if err != nil {
		return err
	}
	return os.WriteFile(p.file, svg, 0o644)
}

// login is one person with one program, as they come: some give up, some programs forget their
// token, some come with an old one.
func (p *picture) login(t *rig.Life, c rig.OAuthClient, sidecar, name string) {
	c.Get("/anything", "") // how every client begins
	c.Redirect = "http://127.0.0.1:49152/callback"
	c.ClientID = c.Register(map[string]any{"client_name": name, "redirect_uris": []string{c.Redirect}, "token_endpoint_auth_method": "none"}).Member("client_id")
	browser, err := newBrowser()
	if err != nil {
		t.Logf("%v", err)
		return
	}
	if rand.IntN(12) == 0 {
		browser.Decision = "deny"
	}
	f := c.Begin()
	back, err := browser.Visit(t.Context(), f.URL, c.Redirect)
	if err != nil || back.Query().Get("code") == "" {
		return
	}
	answer := c.Redeem(back.Query().Get("code"), f)
	token, refresh := answer.Member("access_token"), answer.Member("refresh_token")
	if token == "" || name == "a program" { // which keeps its token
		return
	}
	for range 3 + rand.IntN(20) {
		c.Get("/anything", token)
	}
	for range rand.IntN(4) {
		if next := c.Refresh(refresh); next.Status == http.StatusOK {
			token, refresh = next.Member("access_token"), next.Member("refresh_token")
			c.Get("/anything", token)
		}
	}
	switch rand.IntN(12) {
	case 0:
		c.Refresh("mbr1_of-another-time")
	case 1:
		c.Get("/anything", token+"x")
	case 2, 3:
		c.Do("POST", c.Public+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
			[]byte(url.Values{"token": {refresh}, "client_id": {c.ClientID}}.Encode()))
	case 4: // who has found the sidecar
		if resp, err := http.Get(sidecar + "/oauth/jwks.json"); err == nil {
			resp.Body.Close()
		}
	}
}
