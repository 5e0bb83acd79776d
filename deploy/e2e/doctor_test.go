package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// examine runs doctor against a URL of the world's, over TLS or not.
func examine(t *testing.T, w *rig.World, url string, change func(*doctor.Options)) (*report.Report, string) {
	t.Helper()
	o := doctor.Options{URL: url, Timeout: 5 * time.Second, Register: true}
	if strings.HasPrefix(url, "https://") {
		o.Connect, o.CA = w.Traefik.WebSecure, w.Traefik.Roots
	}
	if change != nil {
		change(&o)
	}
	r := doctor.Run(t.Context(), o)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	return r, text.String()
}

// nothingWrong fails for each finding that somebody would have to act on.
func nothingWrong(t *testing.T, r *report.Report, text string) {
	t.Helper()
	if r.Status() != report.StatusGood || len(r.Findings) < 12 {
		t.Errorf("status %d, %d checks, want nothing wrong:\n%s", r.Status(), len(r.Findings), text)
	}
	for _, v := range r.Verdicts {
		if !v.Works {
			t.Errorf("%s breaks: %v", v.Client, v.Why)
		}
	}
}

// Of a deployment in which clients log in there is nothing to say, at either provider, with TLS and
// on this computer without.
func TestDoctorFindsNothingWhereAllIsWell(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Stateless: []string{"world"}, Labels: map[string]string{"world/requiredScopes": "docs:read", "world/scopeRules": "*=docs:read"}})
	for _, tn := range w.Tenants() {
		for _, public := range []string{tn.PublicHTTP(), tn.PublicHTTPS()} {
			t.Run(public, func(t *testing.T) {
				r, text := examine(t, w, public+"/mcp", nil)
				nothingWrong(t, r, text)
				t.Log(text)
			})
			t.Run("log in at "+public, func(t *testing.T) {
				browser := tn.Browser()
				r, text := examine(t, w, public+"/mcp", func(o *doctor.Options) {
					o.Login, o.Call = true, "whoami"
					o.Visit = func(url string) { go visitAndLoad(t.Context(), browser, url) }
				})
				nothingWrong(t, r, text)
				for _, line := range []string{"login: seen the person came back", "token: seen a JWT of " + public, "MCP tools/list: seen 2 tools", "whoami answered", "event stream: ",
					"login: refresh: seen the new access token opens", "login: second refresh: seen the new access token opens", "login: revocation: seen "} {
					if !strings.Contains(text, line) {
						t.Errorf("no line with %q", line)
					}
				}
				t.Log(text)
			})
		}
	}
}

// visitAndLoad is the person, up to the address that doctor listens at, which it then loads.
func visitAndLoad(ctx context.Context, b *rig.Browser, url string) {
	back, err := b.Visit(ctx, url, "http://127.0.0.1:")
	if err == nil {
		_, err = b.Load(ctx, back.String())
	}
	if err != nil {
		fmt.Println("doctor's browser:", err)
	}
}
