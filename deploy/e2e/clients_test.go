package e2e

import (
	"context"
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
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// callbackPath is where clients listen, on a port that is free when they log in.
const callbackPath = "/callback"

// way is how a client comes to its client_id. Its JSON form is the argument of node/login.mjs.
type way struct {
	name string

	Server       string           `json:"server"`
	Redirect     string           `json:"redirect"`
	MetadataURL  string           `json:"metadataUrl,omitempty"`
	ClientID     string           `json:"clientId,omitempty"`
	ClientSecret string           `json:"clientSecret,omitempty"`
	AuthMethod   string           `json:"authMethod,omitempty"`
	Key          *jose.JSONWebKey `json:"key,omitempty"`
}

// loginResult is what a client tells of its login, its tool call, its refresh and its second call.
type loginResult struct {
	Package        string `json:"package"`
	Version        string `json:"version"`
	Authentication string // of the client, at the token endpoint
	Revision       string `json:"revision"` // of MCP
	Sub            string `json:"sub"`
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
	cimdOwn   = "CIMD, its vendor's" // document: where that cannot be reached, what the sidecar knows of it
	prePublic = "pre-registered, public"
	preSecret = "pre-registered, with a secret"
)

var clients = []realClient{
	{"Go SDK", []string{dcrPublic, dcrSecret, cimd, prePublic, preSecret}, useGoSDK, "works"},
	{"TypeScript SDK 1.x", []string{dcrPublic, dcrSecret, cimd, cimdKey, prePublic, preSecret}, useNode("client-v1.mjs"), "works"},
	{"TypeScript client 2.x", []string{dcrPublic, dcrSecret, cimd, cimdKey, prePublic, preSecret}, useNode("client-v2.mjs"), "works"},
}

// Real clients log in through real Traefik, at both tenants, call a tool, refresh their token and call again: each in every
// way that it knows to come to a client_id. The table of docs/clients.md is what they did.
func TestRealClients(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	w := rig.New(t, optionsForClients(host))
	compareTable(t, clients, logInAllClients(t, w, host, clients))
}

// tableOf is what the clients did, as docs/clients.md shows it; "" when some have done nothing.
func tableOf(t *testing.T, clients []realClient, results map[clientAndWay]map[string]loginResult) string {
	t.Helper()
	table := "| client | version | way | authenticates by | asks for | at Dex, server with sessions | at zitadel/oidc, server without |\n|---|---|---|---|---|---|---|\n"
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
			asks := "`" + wiki.scopes + "`"
			if wiki.prompt != "" {
				asks += ", `prompt=" + wiki.prompt + "`"
			}
			table += fmt.Sprintf("| %s (`%s`) | %s | %s | %s | %s | %s, %s | %s, %s |\n",
				c.name, wiki.Package, wiki.Version, way, wiki.Authentication, asks, c.does, old, c.does, current)
		}
	}
	return table
}

func optionsForClients(host *rig.DocumentHost) rig.Options {
	return rig.Options{
		Sidecar: map[string]string{"BOUNCER_TRUSTED_METADATA_HOSTS": host.Addr, "SSL_CERT_FILE": "etc/documents.pem"},
		Image:   map[string][]byte{"etc/documents.pem": host.CA},
		Labels:  map[string]string{"requiredScopes": "docs:read"},
		// One MCP server with sessions, for 2025-11-25, and one without, for whoever speaks 2026-07-28.
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
				t.Parallel() // but one login after the other: Dex has one refresh token for each user
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

// checkTokenRequests returns how the first accepted request to the token endpoint authenticated its client. One that redeems a code and
// one that refreshes must be among them.
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
	if grants["authorization_code"] != 1 || grants["refresh_token"] == 0 {
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
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.Key = &jose.JSONWebKey{Key: key, KeyID: "1", Algorithm: string(jose.ES256), Use: "sig"}
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

// opened is the URL that a script of node wants to have opened.
var opened = regexp.MustCompile(`(?m)^\{"open":("[^"]+")\}$`)

// resulted is how such a script ends.
var resulted = regexp.MustCompile(`(?m)^\{"result":(\{.*\})\}$`)

// useNode runs a script of node as the client.
func useNode(script string) func(*testing.T, *rig.Tenant, *rig.World, way) loginResult {
	return func(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
		t.Helper()
		argument, err := json.Marshal(way)
		if err != nil {
			t.Fatal(err)
		}
		name := script + " " + tn.Name + " " + way.name
		return logInByBrowser(t, tn, w, rig.Node(t, w.Logs, name, script, string(argument)))
	}
}

// logInByBrowser is the person in front of a program that opens a browser and listens on
// loopback. It waits for the program's end.
func logInByBrowser(t *testing.T, tn *rig.Tenant, w *rig.World, process *rig.Process) (got loginResult) {
	t.Helper()
	asked := bringCode(t, tn, w, process)
	if code := process.Wait(t); code != 0 {
		t.Fatalf("%s ended with %d:\n%s", process.Name, code, w.Logs.Text(process.Name))
	}
	m := resulted.FindStringSubmatch(w.Logs.Text(process.Name))
	if m == nil || json.Unmarshal([]byte(m[1]), &got) != nil {
		t.Fatalf("%s ended with no result:\n%s", process.Name, w.Logs.Text(process.Name))
	}
	got.ask(asked.Query())
	return got
}

// bringCode opens the URL that the program wants to have opened, and brings it the code.
func bringCode(t *testing.T, tn *rig.Tenant, w *rig.World, process *rig.Process) (asked *url.URL) {
	t.Helper()
	var start string
	if err := json.Unmarshal([]byte(process.Say(t, w.Logs, opened)), &start); err != nil {
		t.Fatal(err)
	}
	asked, err := url.Parse(start)
	if err != nil {
		t.Fatal(err)
	}
	browser := tn.Browser()
	back, err := browser.Visit(t.Context(), start, asked.Query().Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := browser.Load(t.Context(), back.String()); err != nil {
		t.Fatal(err)
	}
	return asked
}

// useGoSDK is the same with the Go SDK.
func useGoSDK(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	got := loginResult{Package: "github.com/modelcontextprotocol/go-sdk"}
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(gomod), got.Package+" v")
	got.Version, _, _ = strings.Cut(rest, "\n")
	redirect := fmt.Sprintf("http://127.0.0.1:%d%s", rig.FreePort(t), callbackPath)
	var expire func() string // forgets the access token and returns it
	config := &auth.AuthorizationCodeHandlerConfig{
		Client: w.HTTP(), RedirectURL: redirect, RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			asked, err := url.Parse(args.URL)
			if err != nil {
				return nil, err
			}
			got.ask(asked.Query())
			back, err := tn.Browser().Visit(ctx, args.URL, redirect)
			if err != nil {
				return nil, err
			}
			q := back.Query()
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
		NewTokenSource: func(ctx context.Context, c *oauth2.Config, token *oauth2.Token) (oauth2.TokenSource, error) {
			s := &tokenSource{c.TokenSource(ctx, token)}
			expire = func() string {
				last, err := s.Token()
				if err != nil {
					t.Fatal(err)
				}
				s.TokenSource = c.TokenSource(ctx, &oauth2.Token{RefreshToken: last.RefreshToken})
				return last.AccessToken
			}
			return s, nil
		},
	}
	switch {
	case way.MetadataURL != "":
		config.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: way.MetadataURL}
	case way.ClientID != "":
		config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: way.ClientID}
		if way.ClientSecret != "" {
			config.PreregisteredClient.ClientSecretAuth = &oauthex.ClientSecretAuth{ClientSecret: way.ClientSecret}
		}
	default:
		config.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{redirect}, ResponseTypes: []string{"code"},
			GrantTypes: []string{"authorization_code", "refresh_token"}, TokenEndpointAuthMethod: way.AuthMethod,
		}}
	}
	handler, err := auth.NewAuthorizationCodeHandler(config)
	if err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "go", Version: "1"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: way.Server, HTTPClient: w.HTTP(), OAuthHandler: handler, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	whoami := func() string {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(result.StructuredContent)
		var id rig.Identity
		if err := json.Unmarshal(b, &id); err != nil || id.Sub == "" {
			t.Fatalf("whoami answered %s", b)
		}
		return id.Sub
	}
	got.Revision, got.Sub = session.InitializeResult().ProtocolVersion, whoami()
	old := expire()
	if again := whoami(); again != got.Sub {
		t.Errorf("the refresh brought the subject %q instead of %q", again, got.Sub)
	}
	if expire() == old {
		t.Error("the refresh brought the old token")
	}
	return got
}

// tokenSource can be made to refresh.
type tokenSource struct{ oauth2.TokenSource }

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
	begin, end := "<!-- begin of what "+t.Name()+" writes -->\n", "<!-- end of what "+t.Name()+" writes -->\n"
	file := filepath.Join(rig.Root(), "docs", "clients.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no lines %q and %q", file, begin, end)
	}
	switch {
	case old == table:
	case *update:
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("docs/clients.md is stale: go test -run '^%s$' . -update. The clients did:\n%s", t.Name(), table)
	}
}

// docs/clients.md names no test that is not there.
func TestTheTestsThatImitateClientsExist(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, dir := range []string{"issuer", "plugin", "cmd/mcpbouncer", "deploy/e2e"} {
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
	for _, c := range slices.Concat(clients, programs) {
		if !strings.Contains(section, c.name) {
			t.Errorf("docs/clients.md does not say where %s looks", c.name)
		}
		if !strings.HasPrefix(c.name, "TypeScript") && c.name != "Claude Code" { // which never follows it
			c.ways = []string{dcrPublic}
			follow = append(follow, c)
		}
	}
	for _, script := range []string{"client-v1.mjs", "client-v2.mjs"} {
		t.Run(script, func(t *testing.T) {
			argument, err := json.Marshal(newWay(t, w.World, nil, script, dcrPublic))
			if err != nil {
				t.Fatal(err)
			}
			process := rig.Node(t, w.Logs, script, script, string(argument))
			bringCode(t, w.World, w, process)
			if code := process.Wait(t); code == 0 || !strings.Contains(w.Logs.Text(script), "404 page not found") || len(w.World.TokenRequests()) == 0 {
				t.Errorf("%s ended with %d:\n%s", script, code, w.Logs.Text(script))
			}
		})
	}
	for r, results := range logInAllClients(t, w, nil, follow) {
		if results["wiki"].Sub == "" || results["world"].Sub == "" {
			t.Errorf("%s did not log in at both tenants", r.client)
		}
	}
}
