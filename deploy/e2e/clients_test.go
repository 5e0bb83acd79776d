package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
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

	"github.com/go-jose/go-jose/v4"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// callbackPath is where clients listen, on a port that is free when they log in.
const callbackPath = "/callback"

// way is how a client comes to its client_id. Its JSON form is the argument of applications.
type way struct {
	name string

	Server       string           `json:"server"`
	Redirect     string           `json:"redirect"`
	MetadataURL  string           `json:"metadataUrl,omitempty"`
	ClientID     string           `json:"clientId,omitempty"`
	ClientSecret string           `json:"clientSecret,omitempty"`
	AuthMethod   string           `json:"authMethod,omitempty"`
	Key          *jose.JSONWebKey `json:"key,omitempty"`
	// algorithm of a key that the tokens are bound to
	DPoP string `json:"dpop,omitempty"`
	// of MCP, where the application insists
	Revision string `json:"revision,omitempty"`
	// of a client that shows no page: client_credentials, id-jag with an enterprise, or workload
	// with an assertion
	Grant      string         `json:"grant,omitempty"`
	AuthServer string         `json:"authServer,omitempty"`
	Enterprise *enterpriseWay `json:"enterprise,omitempty"`
	Assertion  string         `json:"assertion,omitempty"`
}

// loginResult is what a client tells of its login, its tool call, its refresh and its second call.
type loginResult struct {
	Package        string `json:"package"`
	Version        string `json:"version"`
	Authentication string // of the client, at the token endpoint
	Revision       string `json:"revision"` // of MCP
	Sub            string `json:"sub"`
	// What it does when its access token is refused before its time, and when the time is over.
	// Empty for whole programs.
	Refused, Aged  string
	scopes, prompt string // asked for
}

// ask notes what an authorization request asks for. The Go SDK names scopes in any order.
func (r *loginResult) ask(query url.Values) {
	scopes := strings.Fields(query.Get("scope"))
	slices.Sort(scopes)
	r.scopes, r.prompt = strings.Join(scopes, " "), query.Get("prompt")
}

// realClient is a real MCP client.
type realClient struct {
	name string
	ways []string // that it knows
	use  func(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult
	does string // in the table
}

const (
	dcrPublic = "DCR, public"
	dcrSecret = "DCR, with a secret"
	cimd      = "CIMD"
	cimdKey   = "CIMD, with a key"
	// document: where that cannot be reached, what the sidecar knows of it
	cimdOwn   = "CIMD, its vendor's"
	prePublic = "pre-registered, public"
	preSecret = "pre-registered, with a secret"
)

// clients are the newest SDKs of the MCP project.
var clients = []realClient{
	{"Go SDK", []string{dcrPublic, dcrSecret, cimd, prePublic, preSecret}, useSDK("gosdk"), "works"},
	{"TypeScript SDK 1.x", []string{dcrPublic, dcrSecret, cimd, cimdKey, prePublic, preSecret}, useSDK("client-v1.mjs"), "works"},
	{"TypeScript client 2.x", []string{dcrPublic, dcrSecret, cimd, cimdKey, prePublic, preSecret}, useSDK("client-v2.mjs"), "works"},
}

// otherSDKs are older ones, and those of others.
var otherSDKs = []realClient{
	{"Go SDK, oldest", []string{dcrPublic}, useSDK("gosdk-oldest"), "works"},
	{"TypeScript SDK 1.20", []string{dcrPublic, dcrSecret}, useSDK("client-v1.mjs", "sdk-1.20.2"), "works"},
	{"AI SDK", []string{dcrPublic, prePublic}, useSDK("client-ai.mjs"), "works"},
	{"mcp-go", []string{dcrPublic, prePublic}, useMCPGo, "works"},
}

// rootClients look at the root of the host, and nowhere else.
var rootClients = []realClient{
	{"TypeScript SDK 1.12", []string{dcrPublic}, useSDK("client-v1.mjs", "sdk-1.12.3"), "works"},
	{"mcp-go, oldest", []string{dcrPublic}, useSDK("mcpgo-oldest"), "works"},
}

// Real clients log in through real Traefik, at both tenants, call a tool, refresh their token and
// call again: each in every way that it knows to come to a client_id. The table of docs/clients.md
// is what they did.
func TestRealClients(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	w := rig.New(t, optionsForClients(host))
	all := slices.Concat(clients, otherSDKs)
	compareTable(t, all, logInAllClients(t, w, host, all))
}

// The same with clients that look at the root of the host and nowhere else, at a tenant whose
// router brings it the two documents there (docs/clients.md). Only one can have them: first wiki,
// then world.
func TestClientsThatLookAtTheRootOnly(t *testing.T) {
	t.Parallel()
	options := optionsForClients(rig.StartDocumentHost(t))
	options.Root = "wiki"
	w := rig.New(t, options)
	results := map[clientAndWay]map[string]loginResult{}
	for _, tn := range w.Tenants() {
		if tn != w.Wiki {
			options.Root = tn.Name
			for _, of := range w.Tenants() {
				w.Relabel(of, options)
			}
		}
		root := strings.TrimSuffix(tn.PublicHTTP(), "/"+tn.Name) + "/.well-known/oauth-authorization-server"
		rig.WaitFor(t, "the root to be "+tn.Name+"'s", func() error {
			resp, err := w.HTTP().Get(root)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var metadata struct{ Issuer string }
			if err := json.NewDecoder(resp.Body).Decode(&metadata); err != nil || metadata.Issuer != tn.PublicHTTP() {
				return fmt.Errorf("%d, issuer %q", resp.StatusCode, metadata.Issuer)
			}
			return nil
		})
		for _, c := range rootClients {
			for _, name := range c.ways {
				t.Run(tn.Name+"/"+c.name+" by "+name, func(t *testing.T) {
					before := len(tn.TokenRequests())
					got := c.use(t, tn, w, newWay(t, tn, nil, c.name, name))
					got.Authentication = checkTokenRequests(t, tn.TokenRequests()[before:])
					r := clientAndWay{c.name, name}
					if results[r] == nil {
						results[r] = map[string]loginResult{}
					}
					results[r][tn.Name] = got
				})
			}
		}
	}
	compareTable(t, rootClients, results)
}

// tableOf returns what the clients did, as docs/clients.md shows it; "" if some have done nothing.
func tableOf(t *testing.T, clients []realClient, results map[clientAndWay]map[string]loginResult) string {
	t.Helper()
	head, line := "| client | version | way | authenticates by | asks for | at Dex, server with sessions | at zitadel/oidc, server without |", "|---|---|---|---|---|---|---|"
	table := ""
	for _, c := range clients {
		for _, way := range c.ways {
			wiki, world := results[clientAndWay{c.name, way}]["wiki"], results[clientAndWay{c.name, way}]["world"]
			if wiki.Sub == "" || world.Sub == "" {
				return ""
			}
			old, current := wiki.Revision, world.Revision
			wiki.Sub, world.Sub, wiki.Revision, world.Revision = "", "", "", ""
			if wiki != world {
				t.Errorf("%s by %s differs between the tenants: %+v and %+v", c.name, way, wiki, world)
			}
			asks := "nothing"
			if wiki.scopes != "" {
				asks = "`" + wiki.scopes + "`"
			}
			if wiki.prompt != "" {
				asks += ", `prompt=" + wiki.prompt + "`"
			}
			table += fmt.Sprintf("| %s (`%s`) | %s | %s | %s | %s | %s, %s | %s, %s |",
				c.name, wiki.Package, wiki.Version, way, wiki.Authentication, asks, c.does, old, c.does, current)
			if wiki.Refused != "" {
				table += fmt.Sprintf(" %s | %s |", wiki.Refused, wiki.Aged)
			}
			table += "\n"
		}
	}
	if strings.Count(table, "\n") > 0 && strings.Count(strings.SplitN(table, "\n", 2)[0], " | ") > strings.Count(head, " | ") {
		head, line = head+" token refused before its time | its time over |", line+"---|---|"
	}
	return head + "\n" + line + "\n" + table
}

func optionsForClients(host *rig.DocumentHost) rig.Options {
	return rig.Options{
		Sidecar: map[string]string{"BOUNCER_TRUSTED_METADATA_HOSTS": host.Addr, "SSL_CERT_FILE": "etc/documents.pem"},
		Image:   map[string][]byte{"etc/documents.pem": host.CA},
		Labels:  map[string]string{"requiredScopes": "docs:read"},
		// One MCP server with sessions, for 2025-11-25, and one without, for whoever speaks
		// 2026-07-28.
		Stateless: []string{"world"},
	}
}

// clientAndWay is a row of the table.
type clientAndWay struct{ client, way string }

// logInAllClients returns what each client did, by tenant.
func logInAllClients(t *testing.T, w *rig.World, host *rig.DocumentHost, clients []realClient) map[clientAndWay]map[string]loginResult {
	results := map[clientAndWay]map[string]loginResult{} // by tenant
	var mu sync.Mutex
	t.Run("at", func(t *testing.T) {
		for _, tn := range w.Tenants() {
			t.Run(tn.Name, func(t *testing.T) {
				// but one login after the other: Dex has one refresh token for each user
				t.Parallel()
				for _, c := range clients {
					for _, name := range c.ways {
						t.Run(c.name+" by "+name, func(t *testing.T) {
							way := newWay(t, tn, host, c.name, name)
							before := len(tn.TokenRequests())
							got := c.use(t, tn, w, way)
							got.Authentication = checkTokenRequests(t, tn.TokenRequests()[before:])
							if way.MetadataURL != "" && host.Reads(way.MetadataURL) == 0 {
								t.Error("nobody has read the client's metadata document")
							}
							mu.Lock()
							defer mu.Unlock()
							r := clientAndWay{c.name, name}
							if results[r] == nil {
								results[r] = map[string]loginResult{}
							}
							results[r][tn.Name] = got
						})
					}
				}
			})
		}
	})
	return results
}

// checkTokenRequests returns how the first accepted request to the token endpoint authenticated its
// client. One that redeems a code and one that refreshes must be among them.
func checkTokenRequests(t *testing.T, requests []rig.TokenRequest) (authentication string) {
	t.Helper()
	grants := map[string]int{}
	for _, r := range requests {
		if r.Status != http.StatusOK {
			continue
		}
		grants[r.Form.Get("grant_type")]++
		if authentication == "" {
			authentication = authenticationOf(r)
		}
	}
	if grants["authorization_code"] == 0 || grants["refresh_token"] == 0 {
		t.Errorf("accepted at the token endpoint: %v", grants)
	}
	return authentication
}

func authenticationOf(r rig.TokenRequest) string {
	_, secret, basic := (&http.Request{Header: r.Header}).BasicAuth()
	switch {
	case basic && secret == "":
		return "client_secret_basic, empty"
	case basic:
		return "client_secret_basic"
	case r.Form.Has("client_assertion"):
		return "private_key_jwt"
	case r.Form.Has("client_secret"):
		return "client_secret_post"
	}
	return "none"
}

// newWay prepares a client_id, or what leads to one.
func newWay(t *testing.T, tn *rig.Tenant, host *rig.DocumentHost, client, name string) way {
	t.Helper()
	w := way{name: name, Server: tn.PublicHTTP() + "/mcp", Redirect: callbackPath}
	// No port: that of a loopback address is the client's own affair (RFC 8252 section 7.3).
	const redirect = "http://127.0.0.1" + callbackPath
	document := map[string]any{
		"client_name": client, "redirect_uris": []string{redirect}, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "token_endpoint_auth_method": "none",
	}
	path := "/" + url.PathEscape(strings.ReplaceAll(strings.ToLower(tn.Name+"-"+client), " ", "-"))
	switch name {
	case dcrPublic:
		w.AuthMethod = "none"
	case dcrSecret:
		w.AuthMethod = "client_secret_basic"
	case cimd:
		w.MetadataURL = host.Publish(t, path+".json", document)
	case cimdKey:
		w.Key = newClientKey(t)
		document["token_endpoint_auth_method"] = "private_key_jwt"
		document["jwks"] = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{w.Key.Public()}}
		w.MetadataURL = host.Publish(t, path+"-key.json", document)
	case prePublic:
		w.ClientID, _ = tn.CreateClient(client, "none", redirect)
	case preSecret:
		w.ClientID, w.ClientSecret = tn.CreateClient(client, "client_secret_basic", redirect)
	}
	return w
}

// newClientKey makes a key that a client proves itself with.
func newClientKey(t *testing.T) *jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &jose.JSONWebKey{Key: key, KeyID: "1", Algorithm: string(jose.ES256), Use: "sig"}
}

// resulted is how a script of node ends.
var resulted = regexp.MustCompile(`(?m)^\{"result":(\{.*\})\}$`)

// opened is the URL that such a script wants to have opened.
var opened = regexp.MustCompile(`(?m)^\{"open":("[^"]+")\}$`)

// compareTable compares the part of docs/clients.md that the test generates, or writes it.
func compareTable(t *testing.T, clients []realClient, results map[clientAndWay]map[string]loginResult) {
	t.Helper()
	if t.Failed() {
		return
	}
	table := tableOf(t, clients, results)
	if table == "" {
		t.Log("the table is not compared: -run has left clients out")
		return
	}
	switch part := partOf(t, "clients.md"); {
	case part.read(t) == table:
	case *update:
		part.write(t, table)
	default:
		t.Errorf("docs/clients.md is stale: go test -run '^%s$' . -update. The clients did:\n%s", t.Name(), table)
	}
}

// docs/clients.md names no test that is not there.
func TestTestsThatImitateClientsExist(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, dir := range []string{"issuer", "issuer/*", "plugin", "plugin/*", "cmd/mcpbouncer", "deploy/e2e"} {
		files, err := filepath.Glob(filepath.Join(rig.Root(), filepath.FromSlash(dir), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	names := regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(string(doc), -1)
	if len(names) < 20 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(tests.String(), "\nfunc "+name+"(t *testing.T)") {
			t.Errorf("there is no %s", name)
		}
	}
}

// docs/clients.md, "Where they look": with the original's rule, the prefix and nothing else,
// these clients log in, call and refresh, since they follow the 401. An application on a
// TypeScript SDK that refreshes by itself, without a 401, looks for the server at the standards'
// places, which that rule does not bring.
func TestClientsThatFollowThe401(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{File: true, Labels: map[string]string{"requiredScopes": "docs:read"}, Stateless: []string{"world"}})
	doc, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Where they look\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var follow []realClient
	for _, c := range slices.Concat(clients, otherSDKs, programs) {
		if !strings.Contains(section, c.name) {
			t.Errorf("docs/clients.md does not say where %s looks", c.name)
		}
		// which never follow it
		if !strings.HasPrefix(c.name, "TypeScript") && c.name != "Claude Code" && c.name != "mcp-go" && c.name != "mcp-use" && isInstalled(c.name) {
			c.ways = []string{dcrPublic}
			follow = append(follow, c)
		}
	}
	for _, script := range []string{"client-v1.mjs", "client-v2.mjs"} {
		t.Run(script, func(t *testing.T) {
			a := loginBySDK(t, w.World, w, nil, newWay(t, w.World, nil, script, dcrPublic), script)
			a.call()
			if done := a.tell("refresh"); done.Failed == "" || !strings.Contains(done.Failed, "404") {
				t.Errorf("%s refreshed by itself: %+v", script, done)
			}
		})
	}
	for r, results := range logInAllClients(t, w, nil, follow) {
		if results["wiki"].Sub == "" || results["world"].Sub == "" {
			t.Errorf("%s did not log in at both tenants", r.client)
		}
	}
}
