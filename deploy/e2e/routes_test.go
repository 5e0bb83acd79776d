package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// Who answered a request that went through Traefik.
const (
	theBouncer   = "the bouncer's 401"
	theDocument  = "a metadata document"
	theNeighbour = "the neighbour"
	theServer    = "the MCP server, unprotected"
	nobody       = "nobody: Traefik's 404"
)

// visitor asks Traefik's plain entry point under any host name.
type visitor struct {
	t    *testing.T
	http *http.Client
}

func newVisitor(t *testing.T, w *rig.World) *visitor {
	addr := strings.TrimPrefix(w.Traefik.Web, "http://")
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	return &visitor{t, &http.Client{
		Transport:     &http.Transport{DialContext: dial},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get asks for a path as it is written, without a token.
func (v *visitor) get(host, path string) *rig.Answer {
	v.t.Helper()
	return v.do(http.MethodGet, host, path, nil, "")
}

func (v *visitor) do(method, host, path string, header http.Header, body string) *rig.Answer {
	v.t.Helper()
	answer, err := v.try(method, host, path, header, body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer
}

func (v *visitor) try(method, host, path string, header http.Header, body string) (*rig.Answer, error) {
	req, err := http.NewRequestWithContext(v.t.Context(), method, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return &rig.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, err
}

// who returns whose answer it is.
func who(a *rig.Answer) string {
	switch {
	case a.Status == http.StatusUnauthorized && challengeOf(a) != "":
		return theBouncer
	case a.Status == http.StatusOK && (a.Member("resource") != "" || a.Member("issuer") != ""):
		return theDocument
	case a.Body == theNeighbour, a.Body == theServer:
		return a.Body
	case a.Status == http.StatusNotFound && a.Body == "404 page not found\n":
		return nobody
	}
	return a.String()
}

func challengeOf(a *rig.Answer) string { return a.Header.Get("WWW-Authenticate") }

// wait asks until somebody answers so: Traefik reads its configuration a moment after it is
// written.
func (v *visitor) wait(host, path, want string) {
	v.t.Helper()
	rig.WaitFor(v.t, host+path, func() error {
		answer, err := v.try(http.MethodGet, host, path, nil, "")
		if err == nil && who(answer) != want {
			err = fmt.Errorf("%s, want %s", who(answer), want)
		}
		return err
	})
}

// says starts a server that answers everything with one text.
func says(t *testing.T, text string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	t.Cleanup(srv.Close)
	return srv.URL
}

// dynamic is a dynamic configuration of Traefik.
type dynamic struct{ routers, middlewares, services map[string]any }

func newDynamic() *dynamic {
	return &dynamic{map[string]any{}, map[string]any{}, map[string]any{}}
}

func (d *dynamic) router(name, rule, service string, middlewares ...string) map[string]any {
	r := map[string]any{"rule": rule, "entryPoints": []string{"web"}, "service": service}
	if len(middlewares) > 0 {
		r["middlewares"] = middlewares
	}
	d.routers[name] = r
	return r
}

func (d *dynamic) service(name string, urls ...string) {
	servers := []any{}
	for _, u := range urls {
		servers = append(servers, map[string]any{"url": u})
	}
	d.services[name] = map[string]any{"loadBalancer": map[string]any{"servers": servers}}
}

// bouncer adds a middleware of the product, on the tenant's provider.
func (d *dynamic) bouncer(name string, w *rig.World, labels map[string]any) {
	options := map[string]any{
		"providerIssuer": w.Wiki.Provider.Issuer, "clientID": w.Wiki.Provider.ClientID,
		"clientSecret": "env:" + w.Wiki.Provider.SecretEnv, "resource": "wiki", "sidecarURL": w.Front.URL,
	}
	for label, value := range labels {
		options[label] = value
	}
	d.middlewares[name] = map[string]any{"plugin": map[string]any{"mcpbouncer": options}}
}

func (d *dynamic) config() map[string]any {
	all := map[string]any{"routers": d.routers, "services": d.services}
	if len(d.middlewares) > 0 {
		all["middlewares"] = d.middlewares
	}
	return map[string]any{"http": all}
}

// pageRule is a router's rule as a page or an example shows it.
type pageRule struct{ file, tenant, rule string }

var (
	ruleOfPage  = regexp.MustCompile(`(?m)^ *traefik\.http\.routers\.(\w+)\.rule: (.+)$`)
	hostOfRule  = regexp.MustCompile("Host\\(`[^`]*`\\)")
	pathsOfRule = regexp.MustCompile(`Path[A-Za-z]*\(`)
)

// pageRules returns all rules that the project shows: pages, the compose example, and what the demo
// and these tests use.
func pageRules(t *testing.T) []pageRule {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*/*.md", "deploy/compose/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(rig.Root(), filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	rules := []pageRule{{"rig", "wiki", "Host(`mcp.localhost`) && " + rig.PathRule("/wiki")}}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ruleOfPage.FindAllStringSubmatch(string(text), -1) {
			rules = append(rules, pageRule{filepath.Base(file), m[1], strings.ReplaceAll(m[2], "$$", "$")})
		}
	}
	return rules
}

// Every rule that the project shows for a server below a path, in real Traefik, beside routers of
// others.
func TestRouterRuleTakesWholeSegments(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	d := newDynamic()
	d.service("neighbour", says(t, theNeighbour))
	d.service("mcp", says(t, theServer))
	type variant struct {
		pageRule
		host string
	}
	var variants []variant
	shown := map[string]bool{}
	for _, r := range pageRules(t) {
		if !pathsOfRule.MatchString(r.rule) {
			continue // a host to itself
		}
		shown[r.file] = true
		v := variant{r, fmt.Sprintf("rule%d.localhost", len(variants))}
		variants = append(variants, v)
		rule := hostOfRule.ReplaceAllLiteralString(r.rule, "Host(`"+v.host+"`)")
		d.router(v.host, rule, "mcp", v.host)
		d.bouncer(v.host, w, map[string]any{"resource": r.tenant})
		for i, path := range []string{"", "/" + r.tenant + "-docs", "/" + r.tenant + "s", "/.well-known/oauth-protected-resource/" + r.tenant + "-docs"} {
			other := "Host(`" + v.host + "`)"
			if path != "" {
				other += " && PathPrefix(`" + path + "`)"
			}
			d.router(fmt.Sprintf("%s-%d", v.host, i), other, "neighbour")
		}
	}
	for _, file := range []string{"README.md", "compose.yaml", "routes.md", "clients.md", "rig"} {
		if !shown[file] {
			t.Errorf("%s shows no rule", file)
		}
	}
	w.Traefik.SetFile(t, "rules.yaml", d.config())
	ask := newVisitor(t, w)
	for _, v := range variants {
		t.Run(v.file+" for "+v.tenant, func(t *testing.T) {
			ask.wait(v.host, "/"+v.tenant, theBouncer)
			atRoot := theNeighbour
			if v.file == "clients.md" { // for clients that look at the root only
				atRoot = theDocument
			}
			for _, c := range []struct{ path, want string }{
				{"/%s", theBouncer},
				{"/%s/", theBouncer},
				{"/%s/mcp", theBouncer},
				{"/%s/any/thing?x=/y", theBouncer},
				{"/%s/.well-known/oauth-protected-resource", theDocument},
				{"/%s/.well-known/oauth-authorization-server", theDocument},
				{"/.well-known/oauth-protected-resource/%s", theDocument},
				{"/.well-known/oauth-protected-resource/%s/mcp", theDocument},
				{"/.well-known/oauth-authorization-server/%s", theDocument},
				{"/.well-known/openid-configuration/%s", theDocument},
				{"/%s-docs", theNeighbour},
				{"/%s-docs/x", theNeighbour},
				{"/%ss", theNeighbour},
				{"/%s.html", theNeighbour},
				{"/%s2/mcp", theNeighbour},
				{"/x/%s/mcp", theNeighbour},
				{"/", theNeighbour},
				{"/.well-known/oauth-protected-resource/%s-docs", theNeighbour},
				{"/.well-known/oauth-protected-resource/%s-docs/mcp", theNeighbour},
				{"/.well-known/oauth-protected-resource", atRoot},
				{"/.well-known/oauth-authorization-server", atRoot},
				{"/.well-known/openid-configuration", theNeighbour},
				{"/.well-known/oauth-protected-resource/x/%s", theNeighbour},
				{"/x/.well-known/oauth-protected-resource/%s", theNeighbour},
			} {
				path := strings.ReplaceAll(c.path, "%s", v.tenant)
				if got := who(ask.get(v.host, path)); got != c.want {
					t.Errorf("%s: %s, want %s", path, got, c.want)
				}
			}
		})
	}
}

// ruleOfToolsPage returns the rule that docs/tools.md gives for a server with other endpoints than
// those of MCP.
func ruleOfToolsPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "tools.md"))
	rule := regexp.MustCompile("``(PathRegexp\\(`\\^/wiki/[^ ]+`\\))``").FindSubmatch(text)
	if err != nil || rule == nil {
		t.Fatalf("docs/tools.md shows no rule: %v", err)
	}
	return string(rule[1])
}

// docs/routes.md: which of two routers gets a request, and the other layouts that the page shows.
func TestRoutersBesideTheBouncers(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	d := newDynamic()
	d.service("neighbour", says(t, theNeighbour))
	d.service("mcp", says(t, theServer))
	host := func(name string) string { return "Host(`" + name + ".localhost`)" }
	wiki := func(name string) string { return host(name) + " && " + rig.PathRule("/wiki") }

	d.bouncer("wiki", w, nil)
	d.router("same", wiki("same"), "mcp", "wiki")
	d.router("same-docs", host("same")+" && "+rig.PathRule("/wiki-docs"), "neighbour")
	d.router("same-v2", host("same")+" && "+rig.PathRule("/wiki/v2"), "neighbour")
	d.router("short", wiki("short"), "mcp", "wiki")
	d.router("short-v2", host("short")+" && PathPrefix(`/wiki/v2`)", "neighbour")
	d.router("first", wiki("first"), "mcp", "wiki")
	d.router("first-v2", host("first")+" && PathPrefix(`/wiki/v2`)", "neighbour")["priority"] = 1000
	d.router("original", host("original")+" && PathPrefix(`/wiki`)", "mcp", "wiki")
	d.router("original-docs", host("original")+" && PathPrefix(`/wiki-docs`)", "neighbour")

	d.bouncer("own", w, map[string]any{"publicURL": "http://own.localhost"})
	d.router("own", host("own"), "mcp", "own")
	d.bouncer("deep", w, map[string]any{"publicURL": "http://deep.localhost/team/wiki.v2"})
	d.router("deep", host("deep")+" && "+rig.PathRule(`/team/wiki\.v2`), "mcp", "deep")
	d.bouncer("paths", w, map[string]any{"mcpPaths": "/v1/mcp,/sse"})
	d.router("paths", wiki("paths"), "mcp", "paths")

	d.router("narrow", host("narrow")+" && "+ruleOfToolsPage(t), "mcp", "wiki")

	w.Traefik.SetFile(t, "beside.yaml", d.config())
	ask := newVisitor(t, w)
	ask.wait("paths.localhost", "/wiki/mcp", theBouncer)
	const documentOf = "/.well-known/oauth-protected-resource"
	for _, c := range []struct{ name, host, path, want string }{
		{"the same form for a name that begins alike", "same", "/wiki-docs/x", theNeighbour},
		{"the same form below: the longer one", "same", "/wiki/v2/x", theNeighbour},
		{"the same form below: its document", "same", documentOf + "/wiki/v2", theNeighbour},
		{"the same form below: the rest stays", "same", "/wiki/v1", theBouncer},
		{"a shorter rule below", "short", "/wiki/v2/x", theBouncer},
		{"a shorter rule below with a priority", "first", "/wiki/v2/x", theNeighbour},
		{"the original's rule", "original", "/wiki/mcp", theBouncer},
		{"the original's rule: its documents", "original", "/wiki" + documentOf + "/mcp", theDocument},
		{"the original's rule beside a name that begins alike", "original", "/wiki-docs/x", theNeighbour},
		{"the original's rule does not bring the standards' form", "original", documentOf + "/wiki", nobody},
		{"a host to itself", "own", "/mcp", theBouncer},
		{"a host to itself: its document", "own", documentOf + "/mcp", theDocument},
		{"a host to itself: where older clients look", "own", "/.well-known/oauth-authorization-server", theDocument},
		{"two segments and a dot", "deep", "/team/wiki.v2/mcp", theBouncer},
		{"two segments and a dot: the document", "deep", documentOf + "/team/wiki.v2/mcp", theDocument},
		{"two segments and a dot: the dot is a dot", "deep", "/team/wikixv2/mcp", nobody},
		{"MCP only: the endpoint", "narrow", "/wiki/mcp", theBouncer},
		{"MCP only: what begins alike", "narrow", "/wiki/mcp-admin", nobody},
		{"MCP only: other endpoints", "narrow", "/wiki/pages/1", nobody},
		{"MCP only: its document", "narrow", documentOf + "/wiki/mcp", theDocument},
		{"MCP only: its server's document", "narrow", "/.well-known/oauth-authorization-server/wiki", theDocument},
		{"MCP only: where the 401 points", "narrow", "/wiki" + documentOf + "/mcp", theDocument},
		{"mcpPaths: the document", "paths", documentOf + "/wiki/v1/mcp", theDocument},
		{"mcpPaths: the endpoint", "paths", "/wiki/v1/mcp", theBouncer},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := who(ask.get(c.host+".localhost", c.path)); got != c.want {
				t.Errorf("%s%s: %s, want %s", c.host, c.path, got, c.want)
			}
		})
	}
}

// docs/routes.md: documents of the MCP server that anybody may read, below its path and at the root
// of the host, with stripPrefix and without.
func TestDocumentsOfTheServerInTraefik(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	d := newDynamic()
	server := newWitness(t, "server")
	d.service("mcp", server.url)
	d.service("neighbour", says(t, theNeighbour))
	d.middlewares["strip"] = map[string]any{"stripPrefix": map[string]any{"prefixes": []string{"/wiki"}}}
	for name, chain := range map[string][]string{"plain": {"plain"}, "stripped": {"stripped", "strip"}} {
		host := "Host(`" + name + ".localhost`)"
		d.bouncer(name, w, map[string]any{"wellKnown": "openai-apps-challenge, agent-card.json", "identityHeaders": "email=X-User"})
		d.router(name, host+" && (Path(`/.well-known/openai-apps-challenge`) || "+rig.PathRule("/wiki")+")", "mcp", chain...)
		d.router(name+"-other", host, "neighbour")
	}
	w.Traefik.SetFile(t, "known.yaml", d.config())
	ask := newVisitor(t, w)
	ask.wait("plain.localhost", "/wiki/mcp", theBouncer)
	ask.wait("stripped.localhost", "/wiki/mcp", theBouncer)
	forged := http.Header{"X-Mcp-Sub": {"admin"}, "X_mcp_scopes": {"all"}, "X-User": {"admin"}, "Authorization": {"Bearer x"}, "Cookie": {"a=b"}}
	for _, c := range []struct {
		method, host, path string
		reaches            string // path that the server sees; empty: it is not asked
		status             int
	}{
		{"GET", "plain", "/wiki/.well-known/openai-apps-challenge", "/wiki/.well-known/openai-apps-challenge", 200},
		{"GET", "plain", "/.well-known/openai-apps-challenge", "/.well-known/openai-apps-challenge", 200},
		{"HEAD", "plain", "/wiki/.well-known/agent-card.json", "/wiki/.well-known/agent-card.json", 200},
		{"GET", "plain", "/.well-known/agent-card.json", "", 200}, // the router does not bring it
		{"GET", "stripped", "/wiki/.well-known/openai-apps-challenge", "/.well-known/openai-apps-challenge", 200},
		{"GET", "stripped", "/.well-known/openai-apps-challenge", "/.well-known/openai-apps-challenge", 200},
		{"GET", "plain", "/wiki/.well-known/openai-apps-challenge?a=b", "", 404},
		{"GET", "plain", "/wiki/.well-known/openai-apps-challenge/x", "", 404},
		{"GET", "plain", "/wiki/.well-known/other", "", 404},
		{"POST", "plain", "/wiki/.well-known/openai-apps-challenge", "", 404},
		{"GET", "plain", "/wiki/.well-known/oauth-protected-resource", "", 200},
		{"GET", "plain", "/wiki/mcp", "", 401},
	} {
		before := len(server.of(""))
		got := ask.do(c.method, c.host+".localhost", c.path, forged, "")
		seen := server.of("")[before:]
		if got.Status != c.status || len(seen) > 0 != (c.reaches != "") {
			t.Errorf("%s %s%s: %s, and the server was asked %d times", c.method, c.host, c.path, got, len(seen))
			continue
		}
		if len(seen) == 0 {
			continue
		}
		if seen[0].path != c.reaches {
			t.Errorf("%s %s%s: the server was asked for %s", c.method, c.host, c.path, seen[0].path)
		}
		for _, name := range []string{"X-Mcp-Sub", "X_mcp_scopes", "X-Mcp-Scopes", "X-User", "Authorization", "Cookie"} {
			if v, told := seen[0].header[name]; told {
				t.Errorf("%s %s%s: the server was told %s %q", c.method, c.host, c.path, name, v)
			}
		}
	}
}

// A document that anybody may read has the origin of the consent page. A real browser runs no
// script of it, and keeps no cookie, whatever policy the MCP server sends. Beside the bouncer the
// same page runs.
func TestDocumentsOfTheServerRunNoScript(t *testing.T) {
	t.Parallel()
	chromium := cmp.Or(os.Getenv("CHROMIUM"), "/usr/bin/chromium")
	page := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.Header().Set("Content-Security-Policy", "script-src 'unsafe-inline'")
		rw.Header().Set("Set-Cookie", "a=b; Path=/")
		fmt.Fprint(rw, `<body>nothing ran<script>document.body.textContent = "a script " + "ran"</script>`)
	}))
	t.Cleanup(page.Close)
	w := rig.New(t, rig.Options{File: true})
	d := newDynamic()
	d.service("mcp", page.URL)
	d.bouncer("plain", w, map[string]any{"wellKnown": "page.html"})
	d.router("plain", "Host(`plain.localhost`) && "+rig.PathRule("/wiki"), "mcp", "plain")
	d.router("beside", "Host(`beside.localhost`)", "mcp")
	w.Traefik.SetFile(t, "known.yaml", d.config())
	newVisitor(t, w).wait("plain.localhost", "/wiki/mcp", theBouncer)
	addr := strings.TrimPrefix(w.Traefik.Web, "http://")
	for host, want := range map[string]string{"plain.localhost": "nothing ran", "beside.localhost": "a script ran"} {
		got := newVisitor(t, w).do(http.MethodGet, host, "/wiki/.well-known/page.html", nil, "")
		if kept := got.Header.Get("Set-Cookie") != ""; kept != (host == "beside.localhost") {
			t.Errorf("%s: Set-Cookie %q", host, got.Header.Get("Set-Cookie"))
		}
		out, err := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--user-data-dir="+t.TempDir(),
			"--host-resolver-rules=MAP "+host+" "+addr, "--dump-dom", "http://"+host+"/wiki/.well-known/page.html").Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, the page is %s, want %q", host, err, out, want)
		}
	}
}

// The check of README.md: which answers there are, each with its row in docs/troubleshooting.md. A
// 401 says nothing of sidecar and key.
func TestCheckOfTheReadme(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	otherKey := filepath.Join(t.TempDir(), "hop")
	if err := os.WriteFile(otherKey, []byte(rig.Keygen(t, w.Secrets).Hop), 0o600); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(rig.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"$ curl https://mcp.example.com/.well-known/oauth-authorization-server/wiki\n{\"issuer\":\"https://mcp.example.com/wiki\"",
		"**the router lacks the middleware, and the server is open to everybody**",
	} {
		if !strings.Contains(string(readme), words) {
			t.Errorf("README.md does not say %s", words)
		}
	}
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Begin here\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var answers []string // the first column of the page's table
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(table, -1) {
		answers = append(answers, strings.Split(row[1], ", ")...)
	}
	d := newDynamic()
	d.service("mcp", says(t, theServer))
	type labels = map[string]any
	cases := []struct {
		name   string
		labels labels
		change func(router map[string]any)
		status int
		body   string // how it begins
		answer string // in the page's table
		token  int    // what a request without a token gets at the MCP endpoint
	}{
		{"works", nil, nil, 200, `{"issuer":"http://works.localhost/wiki"`, "200", 401},
		{"no-sidecar", labels{"sidecarURL": "http://127.0.0.1:9"}, nil, 502, `{"error":`, "502", 401},
		{"no-key", labels{"hopKeyFile": otherKey + "x"}, nil, 503, `{"error":`, "503", 401},
		{"other-key", labels{"hopKeyFile": otherKey}, nil, 503, `{"error":`, "503", 401},
		{"bad-label", labels{"exchange": "never"}, nil, 503, `{"error":`, "503", 503},
		{"other-path", labels{"publicURL": "http://other-path.localhost/docs"}, nil, 404, `{"error":"not_found"}`, "404 `not_found`", 404},
		{"other-host", labels{"publicURL": "http://127.0.0.1/wiki"}, nil, 421, `{"error":"misdirected_request"`, "421", 421},
		{"other-rule", nil, func(r map[string]any) { r["rule"] = "Host(`other-rule.localhost`) && PathRegexp(`^/wikis(/|$)`)" }, 404, "404 page not found", "404 `page not found`", 404},
		{"other-name", nil, func(r map[string]any) { r["middlewares"] = []string{"mcpb-wikis"} }, 404, "404 page not found", "404 `page not found`", 404},
		{"no-middleware", nil, func(r map[string]any) { delete(r, "middlewares") }, 200, theServer, "anything else", 200},
	}
	for _, c := range cases {
		d.bouncer(c.name, w, c.labels)
		router := d.router(c.name, "Host(`"+c.name+".localhost`) && "+rig.PathRule("/wiki"), "mcp", c.name)
		if c.change != nil {
			c.change(router)
		}
	}
	w.Traefik.SetFile(t, "checks.yaml", d.config())
	ask := newVisitor(t, w)
	ask.wait("works.localhost", "/wiki/mcp", theBouncer)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := ask.get(c.name+".localhost", "/.well-known/oauth-authorization-server/wiki")
			if got.Status != c.status || !strings.HasPrefix(got.Body, c.body) {
				t.Errorf("the check is answered %s, want %d %s", got, c.status, c.body)
			}
			if !slices.Contains(answers, c.answer) {
				t.Errorf("docs/troubleshooting.md has no row for %s", c.answer)
			}
			if got := ask.get(c.name+".localhost", "/wiki/mcp"); got.Status != c.token {
				t.Errorf("without a token: %s, want %d", got, c.token)
			}
		})
	}
}

// docs/middlewares.md: what a wider router to the same server gets when the bouncer's own router
// has a mistake. The bouncer claims its path with whatever it is told; what Traefik itself cannot
// build it leaves out.
func TestWiderRoutersBesideABrokenMiddleware(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true})
	d := newDynamic()
	d.service("mcp", says(t, theServer))
	broken := []struct {
		name, want string
		set        func(name string) (middlewares []string)
	}{
		{"sound", theBouncer, func(name string) []string { return []string{"sound"} }},
		{"bad-label", `503 {"error":"misconfigured"}`, func(name string) []string {
			d.bouncer(name, w, map[string]any{"exchange": "never"})
			return []string{name}
		}},
		{"unknown-label", `503 {"error":"misconfigured"}`, func(name string) []string {
			d.bouncer(name, w, map[string]any{"publicURL": "ftp://x"})
			return []string{name}
		}},
		{"no-options", `503 {"error":"misconfigured"}`, func(name string) []string {
			d.middlewares[name] = map[string]any{"plugin": map[string]any{"mcpbouncer": map[string]any{"resource": ""}}}
			return []string{name}
		}},
		{"no-sidecar", theBouncer, func(name string) []string {
			d.bouncer(name, w, map[string]any{"sidecarURL": "http://127.0.0.1:9"})
			return []string{name}
		}},
		{"no-hop-key", theBouncer, func(name string) []string {
			d.bouncer(name, w, map[string]any{"hopKeyFile": filepath.Join(t.TempDir(), "none")})
			return []string{name}
		}},
		{"misspelt-middleware", theServer, func(name string) []string { return []string{"mcpb-wikis"} }},
		{"misspelt-plugin", theServer, func(name string) []string {
			d.middlewares[name] = map[string]any{"plugin": map[string]any{"mcpbouncr": map[string]any{"resource": "wiki"}}}
			return []string{name}
		}},
		{"broken-neighbour", theServer, func(name string) []string {
			d.middlewares[name] = map[string]any{"ipAllowList": map[string]any{"sourceRange": []string{"nonsense"}}}
			return []string{"sound", name}
		}},
	}
	d.bouncer("sound", w, nil)
	for _, b := range broken {
		d.router(b.name, "Host(`"+b.name+".localhost`) && "+rig.PathRule("/wiki"), "mcp", b.set(b.name)...)
		d.router(b.name+"-wide", "Host(`"+b.name+".localhost`)", "mcp")
	}
	w.Traefik.SetFile(t, "broken.yaml", d.config())
	ask := newVisitor(t, w)
	ask.wait("sound.localhost", "/wiki/mcp", theBouncer)
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			if got := who(ask.get(b.name+".localhost", "/wiki/mcp")); got != b.want {
				t.Errorf("%s, want %s", got, b.want)
			}
		})
	}
}

// docs/middlewares.md: a plugin that does not load, with abortOnPluginFailure and without.
func TestPluginThatDoesNotLoad(t *testing.T) {
	t.Parallel()
	for name, abort := range map[string]bool{"abortOnPluginFailure": true, "without it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, port := t.TempDir(), rig.FreePort(t)
			d := newDynamic()
			d.service("mcp", says(t, theServer))
			d.middlewares["wiki"] = map[string]any{"plugin": map[string]any{"mcpbouncer": map[string]any{"resource": "wiki"}}}
			d.router("wiki", rig.PathRule("/wiki"), "mcp", "wiki")
			d.router("wide", "PathPrefix(`/`)", "mcp")
			write := func(file string, config map[string]any) string {
				b, err := json.Marshal(config)
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, file), b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				return filepath.Join(dir, file)
			}
			static := write("traefik.yaml", map[string]any{
				"global":      map[string]any{"checkNewVersion": false, "sendAnonymousUsage": false},
				"entryPoints": map[string]any{"web": map[string]any{"address": fmt.Sprintf("127.0.0.1:%d", port)}},
				"providers":   map[string]any{"file": map[string]any{"filename": write("dynamic.yaml", d.config())}},
				"experimental": map[string]any{ // the folder plugins-local is not there
					"abortOnPluginFailure": abort, "localPlugins": map[string]any{"mcpbouncer": map[string]any{"moduleName": rig.Module}},
				},
			})
			logs := &rig.Logs{}
			cmd := exec.Command(rig.Tool(t, "traefik"), "--configFile="+static)
			cmd.Dir = dir
			process := rig.StartProcess(t, logs, "traefik", cmd)
			if abort {
				if code := process.Wait(t); code == 0 || !strings.Contains(logs.Text("traefik"), "plugin") {
					t.Errorf("Traefik ended with %d: %s", code, logs.Tail("traefik", 3))
				}
				return
			}
			rig.WaitFor(t, "the wider router", func() error {
				resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/wiki/mcp", port))
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				if body, _ := io.ReadAll(resp.Body); string(body) != theServer {
					return fmt.Errorf("%d %s", resp.StatusCode, body)
				}
				return nil
			})
		})
	}
}
