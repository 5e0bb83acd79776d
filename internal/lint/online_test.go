package lint

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest/github"
)

// threeServers are a deployment whose three addresses answer, and count.
type threeServers struct {
	sidecar, provider, public atomic.Int32
	file                      string
}

// newThreeServers starts them. Each may be spoiled: what it answers instead of what is right.
func newThreeServers(t *testing.T, spoilt string) *threeServers {
	a := &threeServers{}
	serve := func(name string, count *atomic.Int32, good http.HandlerFunc) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			count.Add(1)
			if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
				t.Errorf("%s is sent a credential", name)
			}
			if spoilt == name {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, "<title>Welcome</title>")
				return
			}
			good(w, r)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	sidecar := serve("sidecar", &a.sidecar, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(issuer.MarkHeader, issuer.UnboundMark)
		if r.URL.Path != "/healthz" {
			t.Errorf("the sidecar is asked %s", r.URL)
		}
		if spoilt == "health" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	if spoilt == "name" {
		sidecar = "http://bouncer.invalid:8080"
	}
	provider := serve("provider", &a.provider, func(w http.ResponseWriter, r *http.Request) {
		at := "http://" + r.Host
		if spoilt == "issuer" {
			at += "/other"
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"%[1]s/a","token_endpoint":"%[1]s/t","jwks_uri":"%[1]s/k","response_types_supported":["code"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256"]}`, at)
	})
	public := serve("public", &a.public, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="http://`+r.Host+`/.well-known/oauth-protected-resource/wiki/mcp"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	a.file = filepath.Join(t.TempDir(), "dynamic.yaml")
	content := "http:\n  routers:\n    wiki: {rule: PathPrefix(`/`), middlewares: [m], service: s}\n  middlewares:\n    m:\n      plugin:\n        mcpbouncer:\n          resource: wiki\n" +
		"          clientID: x\n          clientSecret: env:X\n          allowedEmails: you@example.com\n          publicURL: " + public + "/wiki\n          providerIssuer: " + provider + "\n          sidecarURL: " + sidecar + "\n"
	if err := os.WriteFile(a.file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLintAsksNobodyUnlessItIsToldTo(t *testing.T) {
	a := newThreeServers(t, "")
	if r := Run([]string{a.file}); r.Unable != "" {
		t.Fatal(r.Unable)
	}
	if a.sidecar.Load()+a.provider.Load()+a.public.Load() != 0 {
		t.Errorf("sidecar %d, provider %d, MCP server %d times", a.sidecar.Load(), a.provider.Load(), a.public.Load())
	}
	r := Sources{Files: []string{a.file}, Online: true}.Run(t.Context())
	if a.sidecar.Load() != 1 || a.provider.Load() != 1 || a.public.Load() == 0 {
		t.Errorf("told to: sidecar %d, provider %d, MCP server %d times", a.sidecar.Load(), a.provider.Load(), a.public.Load())
	}
	if r.Status() != report.StatusGood {
		t.Errorf("%s %+v", r.Unable, r.Findings)
	}
}

// A provider without OpenID Connect has no discovery document, and is not asked for one.
func TestLintAsksGitHubWhoseATokenIs(t *testing.T) {
	a := newThreeServers(t, "")
	h := github.Start(t, nil, github.Octocat())
	content, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile("providerIssuer: .*").ReplaceAllString(string(content), "providerIssuer: "+h.URL+"\n          providerType: github")
	if err := os.WriteFile(a.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Sources{Files: []string{a.file}, Online: true}.Run(t.Context())
	if seen := h.Seen(0); len(seen) != 1 || seen[0].Path != "/api/v3/user" {
		t.Errorf("GitHub was asked %+v", seen)
	}
	if r.Status() != report.StatusGood {
		t.Errorf("%s %+v", r.Unable, r.Findings)
	}
}

func TestLintSaysWhatIsAsked(t *testing.T) {
	for spoilt, c := range map[string]struct {
		wrong              bool
		check, seen, label string
	}{
		"":         {false, "sidecar", "it serves, asked from here", "sidecarURL:"},
		"sidecar":  {true, "sidecar", "200 of something that is not the sidecar, asked from here", "sidecarURL:"},
		"health":   {true, "sidecar", "503, asked from here", "sidecarURL:"},
		"name":     {false, "sidecar", ", asked from here", "sidecarURL:"},
		"provider": {true, "discovery", "", "providerIssuer:"},
		"issuer":   {true, "discovery", "", "providerIssuer:"},
		"public":   {true, "access without a token", "200 text/html", "publicURL:"},
	} {
		t.Run(spoilt, func(t *testing.T) {
			a := newThreeServers(t, spoilt)
			r := Sources{Files: []string{a.file}, Online: true}.Run(t.Context())
			content, err := os.ReadFile(a.file)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Split(string(content), "\n")
			more, found := false, false
			for _, f := range r.Findings {
				more = more || f.Note && strings.Contains(f.Seen, "mcpbouncer doctor http://127.0.0.1:") && strings.HasSuffix(f.Seen, "/wiki/mcp")
				found = found || f.Check == c.check && strings.Contains(f.Seen, c.seen) && f.Wrong() == c.wrong && f.File == a.file && strings.Contains(all[f.Line-1], c.label)
			}
			if !found || !more || r.Status() != map[bool]int{true: report.StatusFound, false: report.StatusGood}[c.wrong] {
				t.Errorf("%v %d %s %+v", more, r.Status(), r.Unable, r.Findings)
			}
		})
	}
}
