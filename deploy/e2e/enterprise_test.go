package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

const (
	machineSecret = "client_credentials, with a secret"
	machineKey    = "client_credentials, with a key"
	workloadWay   = "a workload's token"
	assertionWay  = "identity assertion"
	assertionTLS  = "identity assertion, by https" // for programs that want that here too
	assertionCIMD = "identity assertion, CIMD with a key"
)

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

const workloadSubject = "repo:acme/wiki:ref:refs/heads/main"

// enterpriseWay is a client's at a company's identity provider, where a person has logged in.
type enterpriseWay struct {
	Issuer       string `json:"issuer"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
	IDToken      string `json:"idToken"`
	authority    []byte // that the client trusts
	idp          *rig.Enterprise
}

// pagelessClients come in without a page: programs of a company whose identity provider decides,
// and machines.
var pagelessClients = []realClient{
	{"Go SDK, `EnterpriseHandler`", []string{assertionWay}, usePageless("gosdk"), "works"},
	{"TypeScript client 2.x, `CrossAppAccessProvider`", []string{assertionWay, assertionCIMD}, usePageless("client-v2.mjs"), "works"},
	{"Claude Code", []string{assertionTLS}, usePagelessProgram(installClaudeCodeAtWork), "lists tools"},
	{"mcpdo, of the Inspector", []string{assertionWay}, usePagelessProgram(installMcpdoAtWork), "works"},
	{"Go SDK, `ClientCredentialsHandler`", []string{machineSecret}, usePageless("gosdk"), "works"},
	{"TypeScript client 2.x, `ClientCredentialsProvider`", []string{machineSecret}, usePageless("client-v2.mjs"), "works"},
	{"TypeScript client 2.x, `PrivateKeyJwtProvider`", []string{machineKey}, usePageless("client-v2.mjs"), "works"},
	{"TypeScript client 2.x, `CrossAppAccessProvider`", []string{workloadWay}, usePageless("client-v2.mjs"), "works"},
}

// Real clients that show no page get in through real Traefik at both tenants and call a tool: by an
// identity assertion of a company's provider, which is neither tenant's own, by client_credentials,
// and by the token of a workload. docs/clients.md has the table of what they did.
func TestClientsThatShowNoPage(t *testing.T) {
	t.Parallel()
	idp, host := rig.StartEnterprise(t), rig.StartDocumentHost(t)
	options := optionsForEnterprise(idp)
	options.Sidecar["BOUNCER_TRUSTED_METADATA_HOSTS"] = host.Addr
	options.Image["etc/enterprise.pem"] = slices.Concat(idp.CA, host.CA)
	w := rig.New(t, options)
	results := map[clientAndWay]map[string]pagelessResult{}
	var mu sync.Mutex
	t.Run("at", func(t *testing.T) {
		for _, tn := range w.Tenants() {
			t.Run(tn.Name, func(t *testing.T) {
				t.Parallel()
				for _, c := range pagelessClients {
					if !isInstalled(c.name) {
						continue
					}
					for _, name := range c.ways {
						t.Run(c.name+" by "+name, func(t *testing.T) {
							got := watchPageless(t, w, tn, idp, func(way way) loginResult { return c.use(t, tn, w, way) }, newPagelessWay(t, w, tn, idp, host, c.name, name))
							mu.Lock()
							defer mu.Unlock()
							r := clientAndWay{c.name, name}
							if results[r] == nil {
								results[r] = map[string]pagelessResult{}
							}
							results[r][tn.Name] = got
						})
					}
				}
			})
		}
	})
	if w.Secrets.Kinds()["assertion"] == 0 {
		t.Error("no assertion was noted, so none is looked for in the logs")
	}
	for _, found := range w.Secrets.In(w.Logs.Text("traefik") + w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b")) {
		t.Errorf("a log holds a %s", found)
	}
	comparePageless(t, pagelessClients, results)
}

func optionsForEnterprise(idp *rig.Enterprise) rig.Options {
	return rig.Options{
		Sidecar:   map[string]string{"SSL_CERT_FILE": "etc/enterprise.pem"},
		Image:     map[string][]byte{"etc/enterprise.pem": idp.CA},
		Labels:    map[string]string{"requiredScopes": "docs:read", "enterpriseIssuers": idp.Issuer, "workloadIssuers": idp.Issuer + " repository=acme/wiki => docs:read"},
		Stateless: []string{"world"},
	}
}

// pagelessResult is a row of the table.
type pagelessResult struct {
	loginResult
	exchange string // what it asks the company's provider for
}

// newPagelessWay makes the client, and lets the person log in at the company's provider. The host
// has the documents of those that have one.
func newPagelessWay(t *testing.T, w *rig.World, tn *rig.Tenant, idp *rig.Enterprise, host *rig.DocumentHost, client, name string) way {
	t.Helper()
	made := way{name: name, Server: tn.PublicHTTP() + "/mcp", Redirect: callbackPath, Grant: "client_credentials", AuthServer: tn.PublicHTTP()}
	switch name {
	case machineSecret:
		made.ClientID, made.ClientSecret = tn.CreateMachine("ci-bot", "docs:read")
	case machineKey:
		made.Key = newClientKey(t)
		keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{made.Key.Public()}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(file, keys, 0o600); err != nil {
			t.Fatal(err)
		}
		made.ClientID, _ = tn.CreateMachine("ci-bot", "docs:read", "--auth", "private_key_jwt", "--jwks", file)
	case workloadWay:
		token, err := idp.Sign(t.Context(), "JWT", map[string]any{
			"iss": idp.Issuer, "sub": workloadSubject, "aud": tn.PublicHTTP(), "repository": "acme/wiki",
			"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		// The SDK wants a client_id. Nobody here knows this one.
		made.Grant, made.ClientID, made.Assertion = "workload", "job", token
	default:
		public := tn.PublicHTTP()
		if name == assertionTLS {
			public = "https://" + strings.Replace(w.Traefik.WebSecure, "127.0.0.1", "localhost", 1) + "/" + tn.Name
		}
		made.Grant, made.Server, made.AuthServer = "id-jag", public+"/mcp", public
		if name == assertionCIMD {
			made.Key = newClientKey(t)
			made.ClientID = host.Publish(t, "/"+tn.Name+"-at-work.json", map[string]any{
				"client_name": client, "redirect_uris": []string{"http://127.0.0.1" + callbackPath}, "token_endpoint_auth_method": "private_key_jwt",
				"grant_types": []string{jwtBearer},
				"jwks":        jose.JSONWebKeySet{Keys: []jose.JSONWebKey{made.Key.Public()}},
			})
		} else {
			made.ClientID, made.ClientSecret = tn.CreateClientAt(public, client, "http://localhost"+callbackPath)
		}
		idp.Knows(public, made.ClientID)
		made.Enterprise = &enterpriseWay{idp.Issuer, idp.ClientID, idp.ClientSecret, idp.IDToken(t, w.Secrets), slices.Concat(idp.CA, w.Traefik.CA), idp}
	}
	return made
}

// watchPageless lets a client come in, and checks who came: the person of the company's provider,
// with its issuer in front unless it is the tenant's own, or the machine.
func watchPageless(t *testing.T, w *rig.World, tn *rig.Tenant, idp *rig.Enterprise, use func(way) loginResult, way way) (got pagelessResult) {
	t.Helper()
	requests, exchanges := len(tn.TokenRequests()), len(idp.Exchanges(strings.TrimSuffix(way.Server, "/mcp")))
	got.loginResult = use(way)
	if way.DPoP != "" { // the first answer gives it a nonce
		requests++
	}
	first := tn.TokenRequests()[requests]
	got.Authentication = authenticationOf(first)
	got.ask(first.Form)
	want, grant := "ci-bot", "client_credentials"
	switch way.Grant {
	case "workload":
		want, grant = idp.Issuer+"|"+workloadSubject, jwtBearer
	case "id-jag":
		want, grant = idp.Issuer+"|"+idp.Subject, jwtBearer
		if tn.Provider.Issuer == idp.Issuer {
			want = idp.Subject
		}
		asked := idp.Exchanges(strings.TrimSuffix(way.Server, "/mcp"))
		if len(asked) == exchanges {
			t.Fatal("nobody asked the company's provider")
		}
		got.exchange = "`" + strings.ReplaceAll(asked[exchanges].Get("resource"), strings.TrimSuffix(way.Server, "/mcp"), "…/NAME") + "`"
		if scope := strings.Fields(asked[exchanges].Get("scope")); len(scope) > 0 {
			slices.Sort(scope)
			got.exchange += ", `" + strings.Join(scope, " ") + "`"
		}
	}
	if got.Sub != want {
		t.Errorf("%q called the tool, not %q", got.Sub, want)
	}
	if first.Status != http.StatusOK || first.Form.Get("grant_type") != grant {
		t.Errorf("its first token request is %s, answered %d", first.Form.Get("grant_type"), first.Status)
	}
	for _, r := range tn.TokenRequests()[requests:] {
		w.Secrets.Add("assertion", r.Form.Get("assertion"))
		if other := r.Form.Get("grant_type"); other != grant {
			t.Errorf("it asked for a token by %s too", other)
		}
	}
	return got
}

// The company's provider is the tenant's own, and the tenant is at the root of its host. Whoever
// logs in there on a page, and lets programs bring assertions, is one person: by the same sub at
// the MCP server, and the same pseudonym in the log. The programs, and a client that reads no
// answer but the documents, get in without a 401 that leads the way.
func TestAssertionsOfTheTenantsProviderAreThePersonWhoLogsIn(t *testing.T) {
	t.Parallel()
	idp := rig.StartEnterprise(t)
	options := optionsForEnterprise(idp)
	options.More, options.OwnHost = []string{"own"}, "own"
	options.Labels = map[string]string{"requiredScopes": "docs:read", "own/providerIssuer": idp.Issuer, "own/clientID": idp.ClientID, "own/clientSecret": idp.ClientSecret, "own/enterpriseIssuers": idp.Issuer}
	w := rig.New(t, options)
	w.Secrets.Add("client secret", idp.ClientSecret)
	own := w.More["own"]
	own.Provider = &rig.Provider{Issuer: idp.Issuer, ClientID: idp.ClientID}
	idp.Redirects(own.PublicHTTP() + "/oauth/callback")

	page, browser := own.Client(), idp.Browser(t)
	flow := page.Begin()
	answer := page.Redeem(page.Login(browser, flow), flow)
	if who := whoami(t, w, own, answer.Member("access_token")); who.Sub != idp.Subject {
		t.Errorf("by the page %q called, not %q", who.Sub, idp.Subject)
	}

	program := newPagelessWay(t, w, own, idp, nil, "Program", assertionWay)
	resource, err := oauthex.GetProtectedResourceMetadata(t.Context(), own.PublicHTTP()+"/.well-known/oauth-protected-resource/mcp", program.Server, w.HTTP())
	if err != nil || !slices.Equal(resource.AuthorizationServers, []string{own.PublicHTTP()}) {
		t.Fatalf("%+v, %v", resource, err)
	}
	server, err := oauthex.GetAuthServerMeta(t.Context(), own.PublicHTTP()+"/.well-known/oauth-authorization-server", resource.AuthorizationServers[0], w.HTTP())
	if err != nil || !slices.Contains(server.GrantTypesSupported, jwtBearer) {
		t.Fatalf("%+v, %v", server, err)
	}
	assertion, err := idp.Sign(t.Context(), "oauth-id-jag+jwt", map[string]any{
		"iss": idp.Issuer, "sub": idp.Subject, "aud": server.Issuer, "client_id": program.ClientID, "resource": resource.Resource, "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Secrets.Add("assertion", assertion)
	answer = page.Do(http.MethodPost, server.TokenEndpoint, credentials{program.ClientID, program.ClientSecret}.header(), []byte(bearerForm(assertion).Encode()))
	if answer.Status != http.StatusOK {
		t.Fatal(answer)
	}
	if who := whoami(t, w, own, answer.Member("access_token")); who.Sub != idp.Subject {
		t.Errorf("by an assertion %q called, not %q", who.Sub, idp.Subject)
	}
	for _, c := range []struct{ name, program string }{{"Go SDK", "gosdk"}, {"TypeScript", "client-v2.mjs"}} {
		t.Run(c.name, func(t *testing.T) { // which checks who calls
			watchPageless(t, w, own, idp, func(way way) loginResult { return usePageless(c.program)(t, own, w, way) }, newPagelessWay(t, w, own, idp, nil, c.name, assertionWay))
		})
	}

	logs := map[string]string{}
	for _, r := range w.Replicas {
		logs[r.Name] = w.Logs.Text(r.Name)
		for _, found := range w.Secrets.In(logs[r.Name]) {
			t.Errorf("a log holds a %s", found)
		}
	}
	people := map[string]int{}
	for _, login := range listLogins(t, logs).Logins {
		people[login.Subject]++
	}
	if len(people) != 1 || people[""] > 0 {
		t.Errorf("logins by pseudonym: %v, want one", people)
	}
	for _, n := range people {
		if n < 4 {
			t.Errorf("%d logins in the log: that of the page, and one for each assertion", n)
		}
	}
}

// usePageless is useSDK for a client that shows no page.
func usePageless(program string) func(*testing.T, *rig.Tenant, *rig.World, way) loginResult {
	return func(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
		t.Helper()
		a := loginBySDK(t, tn, w, way.trust(t), way, program)
		got := *a.ready
		got.Sub = a.call()
		what := func(change string) string {
			t.Helper()
			before := len(tn.TokenRequests())
			if done := a.tell(change); done.Done == "" {
				t.Fatalf("%s: %s: %+v", a.process.Name, change, done)
			}
			switch answer := a.tell("call"); {
			case answer.Called == nil:
				return "fails, `" + lastPart(answer.Failed) + "`"
			case answer.Called.Sub != got.Sub:
				t.Errorf("%s, then %q called instead of %q", change, answer.Called.Sub, got.Sub)
			case len(tn.TokenRequests()) == before:
				return "goes on"
			}
			return "comes again"
		}
		got.Aged = what("age")
		got.Refused = what("refuse")
		return got
	}
}

// trust returns what lets a program believe the certificates that it meets.
func (w way) trust(t *testing.T) (env []string) {
	t.Helper()
	if w.Enterprise == nil {
		return nil
	}
	file := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(file, w.Enterprise.authority, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"SSL_CERT_FILE=" + file, "NODE_EXTRA_CA_CERTS=" + file}
}

// Programs keep the person's id_token beside the access token, which these leave alone.
var (
	keptAccessToken = regexp.MustCompile(`("access_?[tT]oken\\?": ?\\?"eyJ[\w-]+\.[\w-]+\.)[\w-]{10}`)
	keptExpiry      = regexp.MustCompile(`("access_?[tT]oken"[^{}]*"expires_?[aA]t": ?)\d+`)
)

// usePagelessProgram is the same for a whole program.
func usePagelessProgram(install func(*testing.T, site, way) *installation) func(*testing.T, *rig.Tenant, *rig.World, way) loginResult {
	return func(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
		t.Helper()
		p := install(t, siteOf(t, tn, w), way)
		if !p.login() {
			t.Fatalf("%s does not come in", p.name)
		}
		got := p.result(tn)
		what := func() string {
			before := len(tn.TokenRequests())
			switch used := p.use(); {
			case !used:
				p.put(p.before)
				return programGivesUp
			case len(tn.TokenRequests()) == before:
				return keepsOn
			}
			return "comes again"
		}
		p.rewrite(keptAccessToken, "${1}AAAAAAAAAA")
		got.Refused = what()
		if keptExpiry.Match(p.keeps().text) { // else it keeps no time
			p.rewrite(keptExpiry, "${1}1")
		}
		got.Aged = what()
		return got
	}
}

// installClaudeCodeAtWork sets Claude Code up for a company's provider. It keeps the id_token that
// it is given, as after a login there.
func installClaudeCodeAtWork(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "@anthropic-ai/claude-code", "big/node_modules/claude-code-linux-*", append(way.trust(t),
		"DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "TERM=xterm", "MCP_TIMEOUT=60000",
		"CLAUDE_CODE_ENABLE_XAA=1", "MCP_XAA_IDP_CLIENT_SECRET="+way.Enterprise.ClientSecret, "MCP_CLIENT_SECRET="+way.ClientSecret)...)
	run := func(line string, more ...string) bool {
		return p.ends(p.start(p.command(claudeCode, append(typed(t, "claude-code.md", line, 1, way), more...)...)), "")
	}
	p.use = func() bool {
		return p.ends(p.start(p.command(claudeCode, typed(t, "claude-code.md", "claude mcp list", 1, way)...)), "Connected")
	}
	p.login = func() bool {
		return run("claude mcp xaa setup --issuer https://idp.example.com --client-id IDP_CLIENT_ID --client-secret") &&
			run("claude mcp xaa login", "--id-token", way.Enterprise.IDToken) &&
			run("claude mcp add --transport http --xaa --client-id CLIENT_ID --client-secret wiki "+connectURL) && p.use()
	}
	return p
}

// installMcpdoAtWork sets the Inspector's command up for a company's provider, and logs in there
// with it.
func installMcpdoAtWork(t *testing.T, s site, way way) *installation {
	t.Helper()
	e := way.Enterprise
	s.allow = func(ctx context.Context, asked *url.URL) error {
		browser := e.idp.Browser(t)
		back, err := browser.Visit(ctx, asked.String(), asked.Query().Get("redirect_uri"))
		if err == nil {
			_, err = browser.Load(ctx, back.String())
		}
		return err
	}
	const name = "@modelcontextprotocol/inspector"
	callback := loopback(t)
	e.idp.Redirects(callback)
	home := t.TempDir()
	p := install(t, s, way, name, "node_modules/"+name, append(way.trust(t), "MCP_INSPECTOR_SECRET_STORE=file", "MCP_OAUTH_CALLBACK_URL="+callback, "MCP_CLIENT_CONFIG_PATH="+filepath.Join(home, "client.json"))...)
	do := func(args ...string) *rig.Process {
		return p.start(p.command("node_modules/"+name+"/clients/mcpdo/build/mcp-bin.js", append([]string{"--catalog", filepath.Join(home, "mcp.json")}, args...)...))
	}
	for file, config := range map[string]map[string]any{
		"client.json": {"enterpriseManagedAuth": map[string]any{"idp": map[string]any{"issuer": e.Issuer, "clientId": e.ClientID, "clientSecret": e.ClientSecret}}},
		"mcp.json": {"mcpServers": map[string]any{"mcp": map[string]any{
			"type": "streamable-http", "url": way.Server, "protocolEra": "auto",
			"oauth": map[string]any{"clientId": way.ClientID, "clientSecret": way.ClientSecret, "enterpriseManaged": true},
		}}},
	} {
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.use = func() bool {
		defer p.stopDaemon(do) // which would go on with what it has
		return p.ends(do("connect", "mcp"), "") && p.calls(do("@mcp", "tools/call", "whoami"))
	}
	p.login = func() bool {
		if !p.ends(do("auth/ema-login"), "") {
			return false
		}
		rig.WaitFor(t, "mcpdo to be logged in", func() error {
			status := do("auth/ema-status")
			if !p.ends(status, "logged_in") {
				return errors.New(s.logs.Text(status.Name))
			}
			return nil
		})
		return p.use()
	}
	return p
}

// comparePageless compares the table in docs/clients.md, or writes it.
func comparePageless(t *testing.T, clients []realClient, results map[clientAndWay]map[string]pagelessResult) {
	t.Helper()
	var rows []string
	complete := true
	for _, c := range clients {
		for _, way := range c.ways {
			wiki, world := results[clientAndWay{c.name, way}]["wiki"], results[clientAndWay{c.name, way}]["world"]
			if wiki.Sub == "" || world.Sub == "" {
				complete = false
				continue
			}
			old, current := wiki.Revision, world.Revision
			wiki.Revision, world.Revision = "", ""
			if wiki != world {
				t.Errorf("%s by %s differs between the tenants: %+v and %+v", c.name, way, wiki, world)
			}
			asks, exchange := "nothing", "–"
			if wiki.scopes != "" {
				asks = "`" + wiki.scopes + "`"
			}
			if wiki.exchange != "" {
				exchange = wiki.exchange
			}
			rows = append(rows, fmt.Sprintf("| %s (`%s`) | %s | %s | %s | %s | %s | %s, %s | %s, %s | %s | %s |\n",
				c.name, wiki.Package, wiki.Version, way, exchange, wiki.Authentication, asks, c.does, old, c.does, current, wiki.Refused, wiki.Aged))
		}
	}
	compareRows(t, "clients.md", "| client | version | way | asks the company's provider for | authenticates by | asks for | at wiki, server with sessions | at world, server without | token refused before its time | its time over |\n"+
		"|---|---|---|---|---|---|---|---|---|---|\n", rows, complete)
}
