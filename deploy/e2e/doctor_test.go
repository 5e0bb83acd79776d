package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
		if !v.Works && !old(v) {
			t.Errorf("%s breaks: %v", v.Client, v.Why)
		}
	}
}

// old clients look at the root of the host, where a server below a path has nothing.
func old(v report.Verdict) bool { return strings.HasPrefix(v.Client, "Raycast") }

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

// Where tokens may be bound to a key nothing changes for clients that have none. Where they must
// be, doctor says so, and goes the whole way with a key of its own.
func TestDoctorWhereTokensAreBoundToAKey(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"wiki/dpop": "accept", "world/dpop": "require"}})
	for _, tn := range w.Tenants() {
		browser := tn.Browser()
		r, text := examine(t, w, tn.PublicHTTPS()+"/mcp", func(o *doctor.Options) {
			o.Login, o.Call = true, "whoami"
			o.Visit = func(url string) { go visitAndLoad(t.Context(), browser, url) }
		})
		demanded := "WRONG metadata dpop_bound_access_tokens_required: expected false"
		if tn == w.Wiki {
			nothingWrong(t, r, text)
		} else if !strings.Contains(text, demanded) || strings.Count(text, "WRONG") != 1 {
			t.Errorf("not this alone is wrong: %s", demanded)
		}
		for _, line := range []string{"login: seen the person came back", "MCP tools/list: seen 2 tools", "whoami answered", "event stream: ",
			"login: refresh: seen the new access token opens", "login: second refresh: seen the new access token opens", "login: revocation: seen "} {
			if !strings.Contains(text, line) {
				t.Errorf("no line with %q", line)
			}
		}
		t.Log(text)
	}
}

// A server with its host to itself also serves those that look at the root only.
func TestDoctorFindsNothingAtAHostOfItsOwn(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{More: []string{"own"}, OwnHost: "own"})
	public := w.More["own"].PublicHTTP()
	for _, url := range []string{public + "/mcp", public, public + "/"} {
		r, text := examine(t, w, url, nil)
		nothingWrong(t, r, text)
		for _, v := range r.Verdicts {
			if !v.Works {
				t.Errorf("%s: %s breaks\n%s", url, v.Client, text)
			}
		}
	}
}

// Where the router has the original's rule, every client that follows the 401 works, and the others
// are named.
func TestDoctorNamesWhoNeedsTheWholeRule(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	r, text := examine(t, w, w.Wiki.PublicHTTP()+"/mcp", nil)
	for _, v := range r.Verdicts {
		if v.Works == (v.Client == "Claude Code" || old(v)) {
			t.Errorf("%s: works %v\n%s", v.Client, v.Works, text)
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

// planted is a set-up that is broken in one way, on a route of its own.
type planted struct {
	name    string
	options map[string]string // of the middleware
	without string            // an option that is left out
	front   map[string]any    // a middleware of Traefik's in front, by its kind
	rule    string            // of the router; default: the recommended one
	more    map[string]any    // a further router, with the rig's service or another
	bare    bool              // the router has no middleware of ours

	path   string // of the URL that doctor is given; default: /NAME/mcp
	change func(*doctor.Options)
	host   string         // default: mcp.localhost
	tls    map[string]any // of the router

	// A line with all of these must be printed, and where clients are named, the verdict of each of
	// them alone is that it breaks.
	line   []string
	breaks []string
	note   bool // nobody has to act
}

// Each set-up is broken in one way, beside the others, on real Traefik. The line is what an
// operator reads.
func TestDoctorFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	stranger := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(rw, "<title>Welcome\x1b[2J to nginx!</title>")
	}))
	t.Cleanup(stranger.Close)
	gate := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://sso.example.com/login?rd=secret", http.StatusFound)
	}))
	t.Cleanup(gate.Close)
	otherKey := filepath.Join(t.TempDir(), "hop")
	if err := os.WriteFile(otherKey, []byte(rig.Keygen(t, w.Secrets).Hop), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	const host = "https://mcp.localhost"
	const labels = "fault: label"
	const traefik = "fault: traefik"
	token := rig.NewOAuthClient(t, w.HTTP(), w.Wiki.PublicHTTPS()).Tokens(w.Wiki.Browser()).Member("access_token")
	// of the tenant wiki, whose token opens what has its public URL
	asWiki := map[string]string{"publicURL": w.Wiki.PublicHTTPS(), "resource": "wiki"}
	bare := func(rule, service string) map[string]any {
		return map[string]any{"rule": rule, "entryPoints": []string{"websecure"}, "service": service, "priority": 2000}
	}
	behind := func(name, rule, service string) map[string]any {
		r := bare(rule, service)
		r["middlewares"] = []string{"mcpb-" + name}
		return r
	}
	authority, certificates := plantedCertificates(t)
	trusts := func(o *doctor.Options) { o.CA = authority }
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.Close)
	inFront := func(rule string) map[string]any {
		r := bare(rule, "mcp")
		r["middlewares"] = []string{"front-block", "mcpb-registration-is-blocked"}
		return r
	}

	faults := []planted{
		{name: "no-middleware", bare: true,
			line: []string{"WRONG access without a token: ", "THE SERVER IS OPEN TO EVERYBODY", traefik, "breaks: every client", "name the middleware in the label `middlewares`", "docs/troubleshooting.md#404-421-or-400"}},
		{name: "one-method-without-it", more: bare("Host(`mcp.localhost`) && Method(`GET`) && PathPrefix(`/one-method-without-it/mcp`)", "open"),
			line: []string{"WRONG access without a token by GET: expected 401; seen 200", traefik, "let one router with the middleware take all methods"}},
		{name: "another-program", bare: true, more: bare("Host(`mcp.localhost`) && PathPrefix(`/another-program`)", "stranger"),
			line: []string{"WRONG access without a token: ", "200 text/html, which is not an MCP server's answer", "another program answers here without a token"}},
		{name: "no-router", rule: "Host(`mcp.localhost`) && Path(`/nowhere`)",
			line: []string{"WRONG access without a token: ", `404 text/plain "404 page not found"`, traefik, "no router takes this path", "docs/routes.md"}},
		{name: "no-well-known", rule: "Host(`mcp.localhost`) && PathPrefix(`/no-well-known`)",
			line:   []string{"WRONG the resource's document at https://mcp.localhost/.well-known/oauth-protected-resource/no-well-known/mcp: ", `"404 page not found"`, traefik, "breaks: Claude Code;", "PathRegexp(`^(/\\.well-known/[a-z-]+)?/no-well-known(/|$)`)", "docs/routes.md"},
			breaks: []string{"Claude Code"}},
		{name: "well-known-of-another", more: bare("Host(`mcp.localhost`) && PathRegexp(`^/.well-known/[a-z-]+/well-known-of-another`)", "stranger"),
			line:   []string{"WRONG the resource's document at https://mcp.localhost/.well-known/oauth-protected-resource/well-known-of-another/mcp: ", "seen 200 text/html", "another program answers this path"},
			breaks: []string{"Claude Code"}},
		{name: "sidecar-is-down", options: map[string]string{"sidecarURL": "http://" + closed},
			line: []string{"WRONG the resource's document at", "seen 502", "fault: sidecar", "the sidecar is down, or something else listens at sidecarURL", "docs/troubleshooting.md#500-to-508"}},
		{name: "something-else-is-there", options: map[string]string{"sidecarURL": stranger.URL},
			line: []string{"WRONG the resource's document at", "seen 502", "fault: sidecar", "something else listens at sidecarURL"}},
		{name: "hop-key-of-another-master", options: map[string]string{"hopKeyFile": otherKey},
			line: []string{"WRONG the resource's document at", "seen 503", "fault: sidecar", "hop key of another master, clocks apart, or versions apart"}},
		{name: "no-hop-key", options: map[string]string{"hopKeyFile": otherKey + "-is-not-there"},
			line: []string{"WRONG the resource's document at", "seen 503", "fault: sidecar", "Traefik's log says which"}},
		{name: "sidecar-is-traefik", options: map[string]string{"sidecarURL": w.Traefik.Web + "/wiki"},
			line: []string{"WRONG the resource's document at", "fault: ", "docs/troubleshooting.md#500-to-508"}},
		{name: "unknown-label", options: map[string]string{"requiredScope": "wiki:read"},
			line: []string{"WRONG access without a token: ", `503 application/json "{"error":"misconfigured"}"`, labels, "a label is misspelt, missing or of a wrong form", "mcpbouncer lint"}},
		{name: "missing-label", without: "clientID",
			line: []string{"WRONG access without a token: ", "misconfigured", labels}},
		{name: "public-host", options: map[string]string{"publicURL": "https://mcp.example.com/public-host"},
			line: []string{"WRONG access without a token: ", "421", labels, "publicURL has another host or port"}},
		{name: "public-port", options: map[string]string{"publicURL": host + ":8443/public-port"},
			line: []string{"WRONG access without a token: ", "421", labels, "publicURL has another host or port"}},
		{name: "public-path", options: map[string]string{"publicURL": host + "/public-paths"},
			line: []string{"WRONG access without a token: ", "404", labels, "the path of publicURL is not that of the router's rule"}},
		{name: "public-http", options: map[string]string{"publicURL": "http://mcp.localhost/public-http"},
			line: []string{"WRONG challenge: expected resource_metadata by https", "seen http://mcp.localhost/public-http/", labels, "write https in the label publicURL"}},
		{name: "stripped", front: map[string]any{"stripPrefix": map[string]any{"prefixes": []string{"/stripped"}}},
			line: []string{"WRONG access without a token: ", "404", labels, "stripPrefix or replacePath stands before the bouncer"}},
		{name: "replaced", front: map[string]any{"replacePath": map[string]any{"path": "/api"}},
			line: []string{"WRONG access without a token: ", "404", labels, "stripPrefix or replacePath stands before the bouncer"}},
		{name: "basic-auth", front: map[string]any{"basicAuth": map[string]any{"users": []string{"ada:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"}}},
			line: []string{"WRONG challenge: expected a challenge that begins with Bearer; seen Basic realm", "take it off this route"}},
		{name: "forward-auth", front: map[string]any{"forwardAuth": map[string]any{"address": gate.URL}},
			line: []string{"WRONG access without a token: ", "302 text/html to https://sso.example.com/login;", "something in front redirects"}},
		{name: "no-challenge", front: map[string]any{"headers": map[string]any{"customResponseHeaders": map[string]any{"Www-Authenticate": ""}}},
			line: []string{"WRONG challenge: expected WWW-Authenticate with Bearer; seen a 401 without it", traefik, "something in front takes the header out"}},
		{name: "address-not-allowed", front: map[string]any{"ipAllowList": map[string]any{"sourceRange": []string{"192.0.2.1/32"}}},
			line: []string{"WRONG access without a token: ", "403", "ipAllowList"}},
		{name: "registration-is-blocked", more: inFront("Host(`mcp.localhost`) && Path(`/registration-is-blocked/oauth/register`)"),
			line:   []string{"WRONG registration: ", "403", "breaks: Cursor, Gemini CLI, mcp-remote, MCP Inspector, TypeScript SDK, Python SDK, Go SDK, Rust SDK, use-mcp and other pages of browsers"},
			breaks: []string{"Cursor", "Gemini CLI", "mcp-remote", "MCP Inspector", "TypeScript SDK", "Python SDK", "Go SDK", "Rust SDK", "use-mcp and other pages of browsers"}},
		{name: "registration-is-closed", options: map[string]string{"registration": "created"},
			line: []string{"WRONG ways to a client_id: ", labels, "breaks: every client", "the label registration is", "docs/clients.md#which-clients-may-come"}},
		{name: "clients-are-named", options: map[string]string{"allowedClients": "document:claude.ai"},
			line: []string{"WRONG authorization: ", labels, "VS Code, Codex", "the label allowedClients leaves it out", "docs/clients.md#which-clients-may-come"}},
		{name: "rate-limit", front: map[string]any{"rateLimit": map[string]any{"average": 1, "period": "1h", "burst": 4}},
			line: []string{"WRONG ", "429", "a rate limit: put it in front of registration and nothing else", "docs/routes.md#a-rate-limit"}},
		{name: "cors-of-another", front: map[string]any{"headers": map[string]any{"accessControlAllowOriginList": []string{"https://app.example.com"}, "accessControlAllowMethods": []string{"GET", "POST"}}},
			line:   []string{"WRONG CORS of preflight of the MCP server: expected any origin is allowed", traefik, "breaks: use-mcp and other pages of browsers", "docs/clients.md#clients-in-browsers"},
			breaks: []string{"use-mcp and other pages of browsers"}},
		{name: "error-pages", front: map[string]any{"errors": map[string]any{"status": []string{"400-599"}, "service": "stranger", "query": "/"}},
			line: []string{"WRONG token endpoint: expected 400 or 401 with a JSON error", "text/html", "breaks: every client"}},
		{name: "date", front: map[string]any{"headers": map[string]any{"customResponseHeaders": map[string]any{"Date": "Mon, 02 Jan 2006 15:04:05 GMT"}}},
			line: []string{"WRONG clock: ", "the server's clock is ", "behind it", "set both clocks by NTP"}},
		{name: "clock-ahead", front: map[string]any{"headers": map[string]any{"customResponseHeaders": map[string]any{"Date": time.Now().Add(5 * time.Minute).UTC().Format(http.TimeFormat)}}},
			line: []string{"WRONG clock: ", "the server's clock is 4m", " ahead of it", "set both clocks by NTP"}},
		{name: "expired", host: "expired.localhost", change: trusts,
			line: []string{"WRONG certificate: expected one that is valid now; seen good from ", traefik, "breaks: every client", "renew it; Traefik's log says why its resolver did not"}},
		{name: "not-yet-valid", host: "early.localhost", change: trusts,
			line: []string{"WRONG certificate: expected one that is valid now; seen good from ", traefik}},
		{name: "ends-soon", host: "soon.localhost", change: trusts, note: true,
			line: []string{"note  certificate: seen of the authority that --ca names, which no client knows by itself; it ends on "}},
		{name: "another-name", host: "other.localhost", change: trusts,
			line: []string{"WRONG certificate: expected one for other.localhost; seen one for mcp.localhost localhost", traefik, "give the router a certificate of this name (tls.certresolver); Traefik shows its own default where it has none"}},
		{name: "self-signed", host: "self.localhost", change: trusts,
			line: []string{"WRONG certificate: expected one that clients trust; seen signed by CN=self.localhost, which is not trusted here", traefik, "breaks: every client", "docs/connect/README.md#a-certificate-that-no-public-authority-signed"}},
		{name: "http1", host: "old.localhost", change: trusts, tls: map[string]any{"options": "old"}, note: true,
			line: []string{"note  HTTP/2: seen HTTP/1.1 only", "let the proxy offer h2"}},
		{name: "slow-sidecar", options: map[string]string{"sidecarURL": hangs.URL}, change: func(o *doctor.Options) { o.Timeout = 200 * time.Millisecond },
			line: []string{"WRONG the resource's document at", "seen no answer in time", "fault: sidecar", "the sidecar does not answer in time"}},
		{name: "stream-is-cut", options: asWiki, path: "/wiki/mcp", change: func(o *doctor.Options) { o.Token = token }, note: true,
			more: behind("stream-is-cut", "Host(`mcp.localhost`) && Method(`GET`) && Path(`/wiki/mcp`)", "open"),
			line: []string{"note  event stream: seen opens after ", "and is closed after ", "a proxy's time limit"}},
		{name: "path-that-is-not-an-endpoint", path: "/path-that-is-not-an-endpoint/other",
			line: []string{"WRONG the resource's document at", "404", labels}},
		{name: "compressed", front: map[string]any{"compress": map[string]any{"minResponseBodyBytes": 1}}, note: true,
			line: []string{"note  stream: seen answers are compressed (", "compress.excludedContentTypes"}},
		{name: "head-is-lost", note: true, rule: "Host(`mcp.localhost`) && !Method(`HEAD`) && " + rig.PathRule("/head-is-lost"),
			line: []string{"note  access without a token by HEAD: seen 404", "hinders: Gemini CLI"}},
		{name: "buffered", options: asWiki, path: "/wiki/mcp/", change: func(o *doctor.Options) { o.Token = token }, rule: "Host(`mcp.localhost`) && PathPrefix(`/wiki/mcp/`)", front: map[string]any{"buffering": map[string]any{"memRequestBodyBytes": 1}},
			line: []string{"WRONG event stream: expected headers at once; seen no answer in time", "buffering"}},
		{name: "untrusted", change: func(o *doctor.Options) { o.CA = nil },
			line: []string{"WRONG certificate: expected one that clients trust", traefik, "breaks: every client", "docs/connect/README.md#a-certificate-that-no-public-authority-signed"}},
		{name: "nothing-listens", change: func(o *doctor.Options) { o.Connect = closed },
			line: []string{"WRONG certificate: expected a TLS connection", "connection refused", "breaks: every client"}},
		{name: "client-of-another-address", change: func(o *doctor.Options) {
			o.ClientID, o.RedirectURI = rig.NewOAuthClient(t, w.HTTP(), host+"/client-of-another-address").ClientID, "https://app.example.com/callback"
		}, line: []string{"WRONG authorization: expected a page to sign in or to allow, for https://app.example.com/callback; seen 400 text/html", "does not take this client's request"}},
		{name: "no-such-client", change: func(o *doctor.Options) {
			o.ClientID, o.RedirectURI = "mbc1_nobody", "http://127.0.0.1/callback"
		}, line: []string{"WRONG authorization: ", `seen 400 text/html "This application is not known here`}},
	}

	routers := map[string]any{}
	middlewares := map[string]any{"front-block": map[string]any{"ipAllowList": map[string]any{"sourceRange": []string{"192.0.2.1/32"}}}}
	for _, f := range faults {
		if f.host == "" {
			f.host = "mcp.localhost"
		}
		options := map[string]string{
			"providerIssuer": w.Wiki.Provider.Issuer, "clientID": w.Wiki.Provider.ClientID, "clientSecret": "env:" + w.Wiki.Provider.SecretEnv,
			"resource": f.name, "scopes": w.Wiki.Scopes, "sidecarURL": w.Front.URL, "publicURL": "https://" + f.host + "/" + f.name,
		}
		maps.Copy(options, f.options)
		delete(options, f.without)
		if f.rule == "" {
			f.rule = "Host(`" + f.host + "`) && " + rig.PathRule("/"+f.name)
		}
		router := map[string]any{"rule": f.rule, "entryPoints": []string{"websecure"}, "service": "mcp", "priority": 1000}
		if f.tls != nil {
			router["tls"] = f.tls
		}
		if !f.bare {
			names := []string{"mcpb-" + f.name}
			if f.front != nil {
				names = []string{"front-" + f.name, "mcpb-" + f.name}
				middlewares["front-"+f.name] = f.front
			}
			router["middlewares"] = names
			middlewares["mcpb-"+f.name] = map[string]any{"plugin": map[string]any{"mcpbouncer": options}}
		}
		routers[f.name] = router
		if f.more != nil {
			routers[f.name+"-more"] = f.more
		}
	}
	to := func(url string) map[string]any {
		return map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": url}}}}
	}
	open := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
	}))
	t.Cleanup(open.Close)
	w.Traefik.SetFile(t, "planted.yaml", map[string]any{"tls": map[string]any{"certificates": certificates, "options": map[string]any{"old": map[string]any{"alpnProtocols": []string{"http/1.1"}}}}, "http": map[string]any{
		"routers": routers, "middlewares": middlewares, "services": map[string]any{"mcp": to(w.Wiki.MCP.URL), "stranger": to(stranger.URL), "open": to(open.URL)},
	}})
	rig.WaitFor(t, "Traefik to read the file", func() error {
		resp, err := w.HTTP().Get(host + "/unknown-label/mcp")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			return errors.New(resp.Status)
		}
		return nil
	})
	var printed strings.Builder
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			path := f.path
			if path == "" {
				path = "/" + f.name + "/mcp"
			}
			at := host
			if f.host != "" {
				at = "https://" + f.host
			}
			r, text := examine(t, w, at+path, f.change)
			printed.WriteString(text)
			if err := inOneLine(text, f.line...); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
			want := report.StatusFound
			if f.note {
				want = report.StatusGood
			}
			if got := r.Status(); got != want && got != report.StatusUnable {
				t.Errorf("status %d, want %d\n%s", got, want, text)
			}
			if f.breaks != nil {
				var broken []string
				for _, v := range r.Verdicts {
					if !v.Works && !old(v) {
						broken = append(broken, v.Client)
					}
				}
				if strings.Join(broken, ", ") != strings.Join(f.breaks, ", ") {
					t.Errorf("breaks %q, want %q\n%s", broken, f.breaks, text)
				}
			}
			if strings.ContainsAny(text, "\x1b\r") || strings.Contains(text, "rd=secret") || strings.Contains(text, token) {
				t.Error("a server's text reached the terminal as it was")
			}
		})
	}
	// The examples of the page are lines of these.
	for line := range strings.Lines(textBetween(t, doctorPage(t), "```text\n", "```")) {
		if err := inOneLine(printed.String(), strings.Split(strings.TrimSpace(line), "…")...); err != nil {
			t.Error(err)
		}
	}
}

// plantedCertificates are of an authority of the test's own, but for the one that signed itself.
func plantedCertificates(t *testing.T) (authority *x509.CertPool, files []map[string]string) {
	t.Helper()
	now := time.Now()
	issue := func(name string, from, until time.Time, by *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until, BasicConstraintsValid: true}
		if strings.HasSuffix(name, ".localhost") {
			template.DNSNames, template.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		} else {
			template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		}
		if by == nil {
			by, key = template, own
		}
		der, err := x509.CreateCertificate(rand.Reader, template, by, &own.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		pair := map[string]string{"certFile": filepath.Join(t.TempDir(), "cert.pem"), "keyFile": filepath.Join(t.TempDir(), "key.pem")}
		if err := errors.Join(os.WriteFile(pair["certFile"], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
			os.WriteFile(pair["keyFile"], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)); err != nil {
			t.Fatal(err)
		}
		if !template.IsCA {
			files = append(files, pair)
		}
		return made, own
	}
	const day = 24 * time.Hour
	ca, key := issue("planted", now.Add(-400*day), now.Add(400*day), nil, nil)
	issue("expired.localhost", now.Add(-90*day), now.Add(-day), ca, key)
	issue("early.localhost", now.Add(day), now.Add(90*day), ca, key)
	issue("soon.localhost", now.Add(-day), now.Add(50*time.Hour), ca, key)
	issue("old.localhost", now.Add(-day), now.Add(90*day), ca, key)
	issue("self.localhost", now.Add(-day), now.Add(90*day), nil, nil)
	authority = x509.NewCertPool()
	authority.AddCert(ca)
	return authority, files
}

func doctorPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func textBetween(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, begins := strings.Cut(text, from)
	inside, _, ends := strings.Cut(rest, to)
	if !begins || !ends || inside == "" {
		t.Fatalf("nothing between %q and %q", from, to)
	}
	return inside
}

var doctorCommand = regexp.MustCompile("(?m)^mcpbouncer doctor .*$|`(mcpbouncer doctor [^`]*/mcp[^`]*)`")

// Each command of the page is run as it stands there, by the program itself. Replaced is only where
// the server is.
func TestDoctorCommandsOnThePage(t *testing.T) {
	t.Parallel()
	authority, dynamicTLS := composeCertificate(t, "mcp.localhost")
	ca, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	w := rig.New(t, rig.Options{TLS: dynamicTLS, CA: ca})
	dir := t.TempDir()
	client := w.Wiki.Client()
	token := client.Tokens(w.Wiki.Browser()).Member("access_token")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tls"), 0o700), os.WriteFile(filepath.Join(dir, "tls", "ca.pem"), ca, 0o600),
		os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600), os.Symlink(rig.Tool(t, "mcpbouncer"), filepath.Join(dir, "mcpbouncer"))); err != nil {
		t.Fatal(err)
	}
	found := doctorCommand.FindAllStringSubmatch(doctorPage(t), -1)
	if len(found) < 7 {
		t.Fatalf("%d commands on the page", len(found))
	}
	for _, m := range found {
		command := m[0]
		if m[1] != "" {
			command = m[1]
		}
		if strings.Contains(command, "--provider") {
			continue // TestDoctorOnRealProviders runs it
		}
		t.Run(command, func(t *testing.T) {
			command = strings.NewReplacer("https://mcp.example.com/wiki", w.Wiki.PublicHTTP(), "127.0.0.1:443", w.Traefik.WebSecure).Replace(command)
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
			cmd.Dir = dir
			// no xdg-open here: the address is printed
			cmd.Env = []string{"PATH=" + dir, "CLIENT_ID=" + client.ClientID}
			var out strings.Builder
			cmd.Stdout = &out
			errs, err := cmd.StderrPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			browser := w.Wiki.Browser()
			for lines := bufio.NewScanner(errs); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "http") {
					visitAndLoad(t.Context(), browser, lines.Text())
				}
			}
			text := &out
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
			if _, file, ok := strings.Cut(command, "> "); ok {
				content, err := os.ReadFile(filepath.Join(dir, file))
				var r report.Report
				if err != nil || json.Unmarshal(content, &r) != nil || len(r.Verdicts) < 13 || len(r.Findings) < 12 {
					t.Errorf("no report: %v\n%s", err, content)
				}
				return
			}
			for _, part := range []string{"\nworks  Codex\n", ", nothing wrong"} {
				if !strings.Contains(text.String(), part) {
					t.Errorf("no %q in\n%s", part, text)
				}
			}
			if strings.Contains(command, "--login") && !strings.Contains(text.String(), "whoami answered") || strings.Contains(command, "--token") && !strings.Contains(text.String(), "MCP tools/list: seen 2 tools") {
				t.Errorf("no tools\n%s", text)
			}
		})
	}
}

// On AWS Lambda there is nothing to say either, in each way in which requests reach a function.
func TestDoctorFindsNothingOnLambda(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true, Alone: true})
	for _, shape := range rig.Shapes {
		t.Run(shape.Name, func(t *testing.T) {
			w.Lambda.Deliver(shape)
			for _, tn := range w.Tenants() {
				r, text := examine(t, w, tn.PublicHTTP()+"/mcp", nil)
				nothingWrong(t, r, text)
			}
		})
	}
}
