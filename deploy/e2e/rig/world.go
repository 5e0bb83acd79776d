package rig

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// Tenant is one MCP server under the protection of one provider.
type Tenant struct {
	Name     string // "wiki": label `resource` and first path segment
	Provider *Provider
	MCP      *MCPServer
	Scopes   string // asked upstream

	own   bool // has the host 127.0.0.1 of the plain entry point to itself
	world *World
}

// World is a whole installation: two providers, two MCP servers, replicas, front and Traefik.
type World struct {
	Logs      *Logs
	Secrets   *Secrets
	Keys      Keys
	Replicas  []*Replica
	Lambda    *Lambda    // nil without
	Extension *Extension // nil where the function's variables hold its secrets
	Front     *Front
	Traefik   *Traefik
	Docker    *Docker // nil with the file provider
	Edge      *Edge   // nil with the plugin in Traefik
	Wiki      *Tenant // Dex
	World     *Tenant // exampleop, or oidc-provider
	More      map[string]*Tenant

	host string // of the TLS entry point
	http *http.Client
	t    T
}

// Options are what differs between worlds. The zero value is two replicas and labels through the
// docker provider.
type Options struct {
	// configure by the file provider, with the original's narrow router rule
	File bool
	// further options of the middlewares: "requiredScopes" → "wiki:read"
	Labels   map[string]string
	Sidecar  map[string]string // further environment of the replicas
	Image    map[string][]byte // further files of the replicas' image, in its root or in etc
	Replicas int               // default 2
	// the replicas' clocks can be set, and a day of key rotation is a minute
	Clocks       bool
	Dex          map[string]any // further configuration of Dex; a list replaces the rig's
	OIDCProvider bool           // tenant world has oidc-provider instead of exampleop
	ClientKey    bool           // so, and the client there has a key instead of a secret
	// More names further tenants, on Dex and the MCP server of wiki unless their Labels say
	// otherwise.
	More []string
	// Stateless names the tenants whose MCP servers keep no sessions.
	Stateless []string
	// name of a tenant in More that has the host 127.0.0.1 of the plain entry point to itself, and
	// no TLS
	OwnHost string
	// name of the tenant whose router brings it the server metadata at the root, too
	Root string
	// port of the MCP server that stands in for the rig's, by tenant; it sees paths without the
	// tenant's prefix
	Servers map[string]string

	// Lambda puts the function beside the replicas; with Alone there are none beside it.
	// Proxy is what stands before the MCP servers without the plugin in Traefik: gateway, or
	// traefik, caddy or nginx that ask the sidecar. There is one sidecar, no front, and no TLS.
	Proxy string

	Lambda bool
	Alone  bool
	Named  bool // the function's variables name its secrets, and the extension reads them
	Signed bool // the function's URL has AuthType AWS_IAM; Traefik signs

	// Containers replaces the labels made here: what runs, given the world without its Traefik.
	Containers func(w *World) []Container
	Static     map[string]any // static configuration of Traefik to start from
	Host       string         // of the TLS entry point's public URLs; default "mcp.localhost"
	TLS        map[string]any // as in TraefikConfig
	CA         []byte
}

// Public URLs: PublicHTTP is the one on the plain entry point, where loopback allows http;
// PublicHTTPS the TLS one.
func (tn *Tenant) PublicHTTP() string {
	if tn.own {
		return strings.Replace(tn.world.Traefik.Web, "localhost", "127.0.0.1", 1)
	}
	return tn.world.Traefik.Web + "/" + tn.Name
}
func (tn *Tenant) PublicHTTPS() string { return "https://" + tn.world.host + "/" + tn.Name }

// New starts a world and stops it when the test ends. A failed test shows the end of each log.
func New(t T, o Options) *World {
	t.Helper()
	w := &World{Logs: &Logs{}, Secrets: &Secrets{}, host: cmp.Or(o.Host, "mcp.localhost"), t: t}
	t.Cleanup(func() {
		if t.Failed() {
			w.ShowLogs(25)
		}
	})
	webPort := FreePort(t)
	redirects := func(name string) []string {
		return []string{
			fmt.Sprintf("http://localhost:%d/%s/oauth/callback", webPort, name),
			fmt.Sprintf("https://%s/%s/oauth/callback", w.host, name),
		}
	}
	w.Keys = Keygen(t, w.Secrets)
	callbacks := redirects("wiki")
	for _, name := range o.More {
		callbacks = append(callbacks, redirects(name)...)
	}
	if o.OwnHost != "" {
		callbacks = append(callbacks, fmt.Sprintf("http://127.0.0.1:%d/oauth/callback", webPort))
	}
	dex := StartDex(t, w.Logs, w.Secrets, callbacks, o.Dex)
	startOP := StartExampleOP
	switch {
	case o.ClientKey:
		startOP = func(t T, logs *Logs, secrets *Secrets, redirects []string) *Provider {
			return startOIDCProvider(t, logs, secrets, redirects, fmt.Sprintf("http://localhost:%d/world/oauth/client-jwks.json", webPort))
		}
	case o.OIDCProvider:
		startOP = StartOIDCProvider
	}
	op := startOP(t, w.Logs, w.Secrets, redirects("world"))
	w.Wiki = &Tenant{Name: "wiki", Provider: dex, MCP: StartMCPServer(t, slices.Contains(o.Stateless, "wiki")), Scopes: "openid email profile offline_access", world: w}
	w.World = &Tenant{Name: "world", Provider: op, MCP: StartMCPServer(t, slices.Contains(o.Stateless, "world")), Scopes: "openid email profile offline_access", world: w}
	w.More = map[string]*Tenant{}
	for _, name := range o.More {
		w.More[name] = &Tenant{Name: name, Provider: dex, MCP: w.Wiki.MCP, Scopes: w.Wiki.Scopes, own: name == o.OwnHost, world: w}
	}

	env := map[string]string{
		"BOUNCER_ENCRYPTION_KEY": w.Keys.Encryption,
		dex.SecretEnv:            dex.ClientSecret,
		op.SecretEnv:             op.ClientSecret,
	}
	maps.Copy(env, o.Sidecar)
	if o.Proxy != "" {
		w.startWithoutPlugin(o, webPort, env)
		return w
	}
	start := StartReplica
	if o.Clocks {
		start = StartClockReplica
	}
	var sidecars []Sidecar
	for i := range max(o.Replicas, 2) {
		if !o.Alone {
			r := start(t, w.Logs, "sidecar-"+string(rune('a'+i)), env, o.Image)
			w.Replicas = append(w.Replicas, r)
			sidecars = append(sidecars, Sidecar{r.Name, r.Addr, r.Process})
		}
	}
	if o.Lambda {
		if o.Named {
			w.Extension = StartExtension(t)
			w.Extension.Hide(env, "BOUNCER_ENCRYPTION_KEY", dex.SecretEnv, op.SecretEnv)
		}
		w.Lambda = StartLambda(t, w.Logs, env, o.Image)
		sidecars = append(sidecars, Sidecar{Name: "lambda", Addr: w.Lambda.Addr})
	}
	w.Front = StartFront(t, w.Secrets, sidecars...)
	var traefikEnv []string
	if o.Signed {
		traefikEnv = w.Lambda.RequireSignature(w.Secrets)
		o.Labels = maps.Clone(o.Labels)
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels["sidecarAuth"] = "sigv4"
	}

	config := TraefikConfig{WebPort: webPort, HopKey: w.Keys.Hop, Static: o.Static, Env: traefikEnv, TLS: o.TLS, CA: o.CA}
	switch {
	case o.File:
		config.File = w.fileConfig(o)
	case o.Containers != nil:
		w.Docker = StartDocker(t, o.Containers(w)...)
	default:
		var containers []Container
		for _, tn := range w.Tenants() {
			containers = append(containers, tn.container(o))
		}
		w.Docker = StartDocker(t, containers...)
	}
	config.Docker = w.Docker
	w.Traefik = StartTraefik(t, w.Logs, config)
	w.http = &http.Client{Transport: w.Secrets.Watch(w.transport())}
	for _, tn := range w.Tenants() {
		public := tn.PublicHTTPS()
		if tn.own {
			public = tn.PublicHTTP()
		}
		w.Traefik.proc.waitFor(t, w.Logs, func() error { return expect(w.http, public+"/anything", http.StatusUnauthorized) })
	}
	return w
}

// Tenants returns all tenants: wiki and world first.
func (w *World) Tenants() []*Tenant {
	all := []*Tenant{w.Wiki, w.World}
	for _, name := range slices.Sorted(maps.Keys(w.More)) {
		all = append(all, w.More[name])
	}
	return all
}

// Options of the tenant's middleware: the product's labels without their prefix.
func (tn *Tenant) options(o Options) map[string]string {
	m := map[string]string{
		"providerIssuer": tn.Provider.Issuer,
		"clientID":       tn.Provider.ClientID,
		"clientSecret":   "env:" + tn.Provider.SecretEnv,
		"resource":       tn.Name,
		"scopes":         tn.Scopes,
	}
	if tn.world.Front != nil {
		m["sidecarURL"] = tn.world.Front.URL
	}
	if tn.Provider.Keyed {
		delete(m, "clientSecret")
		m["clientAuth"] = "private_key_jwt"
	}
	for label, value := range o.Labels {
		tenant, own, ofOne := strings.Cut(label, "/")
		switch {
		case !ofOne:
			m[label] = value
		case tenant == tn.Name:
			m[own] = value
		}
	}
	return m
}

// TokenRequests lists what was asked of the tenant's token endpoint.
func (tn *Tenant) TokenRequests() []TokenRequest {
	t, f := tn.world.t, tn.world.Front
	t.Helper()
	if tn.world.Edge != nil {
		return tn.world.Edge.tokenRequests(tn.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var of []TokenRequest
	for _, r := range f.tokens {
		payload, err := OpenHop(tn.world.Keys.Hop, r.Header.Get("X-Mcpb-Hop"))
		var hop struct{ Resource string }
		if err == nil {
			err = json.Unmarshal(payload, &hop)
		}
		if err != nil {
			t.Fatalf("rig: %v", err)
		}
		if hop.Resource == tn.Name {
			of = append(of, r)
		}
	}
	return of
}

const hosts = "(Host(`localhost`) || Host(`mcp.localhost`))"

// narrowRule returns the original's rule: the prefix and nothing else.
func (tn *Tenant) narrowRule() string { return fmt.Sprintf("%s && PathPrefix(`/%s`)", hosts, tn.Name) }

// wideRule returns the recommended rule: whole segments of the path, and the path-inserted
// well-known documents as well.
func (tn *Tenant) wideRule() string { return hosts + " && " + PathRule("/"+tn.Name) }

// PathRule returns the recommended rule of docs/routes.md for an MCP server below prefix, as the
// file provider takes it. The prefix stands in a regular expression.
func PathRule(prefix string) string {
	return "PathRegexp(`^(/\\.well-known/[a-z-]+)?" + prefix + "(/|$)`)"
}

func (tn *Tenant) container(o Options) Container {
	labels := map[string]string{
		"traefik.enable": "true",
		"traefik.http.routers." + tn.Name + ".rule":                      tn.wideRule(),
		"traefik.http.routers." + tn.Name + ".entrypoints":               "web,websecure",
		"traefik.http.routers." + tn.Name + ".middlewares":               "mcpb-" + tn.Name + "@docker",
		"traefik.http.services." + tn.Name + ".loadbalancer.server.port": tn.MCP.Port,
	}
	if o.Root == tn.Name {
		labels["traefik.http.routers."+tn.Name+".rule"] = hosts + " && (PathRegexp(`^/\\.well-known/oauth-(authorization-server|protected-resource)$`) || " + PathRule("/"+tn.Name) + ")"
	}
	options := tn.options(o)
	if tn.own {
		labels["traefik.http.routers."+tn.Name+".rule"] = "Host(`127.0.0.1`)"
		labels["traefik.http.routers."+tn.Name+".entrypoints"] = "web"
		options["pathPrefix"] = "/"
	}
	for k, v := range options {
		labels["traefik.http.middlewares.mcpb-"+tn.Name+".plugin.mcpbouncer."+k] = v
	}
	port := tn.MCP.Port
	if other := o.Servers[tn.Name]; other != "" {
		port = other
		labels["traefik.http.middlewares.strip-"+tn.Name+".stripprefix.prefixes"] = "/" + tn.Name
		labels["traefik.http.routers."+tn.Name+".middlewares"] += ",strip-" + tn.Name + "@docker"
		labels["traefik.http.services."+tn.Name+".loadbalancer.server.port"] = port
	}
	return Container{Name: tn.Name, IP: "127.0.0.1", Port: port, Labels: labels}
}

func (w *World) fileConfig(o Options) map[string]any {
	routers, middlewares, services := map[string]any{}, map[string]any{}, map[string]any{}
	for _, tn := range w.Tenants() {
		routers[tn.Name] = map[string]any{
			"rule": tn.narrowRule(), "entryPoints": []string{"web", "websecure"},
			"middlewares": []string{"mcpb-" + tn.Name}, "service": tn.Name,
		}
		middlewares["mcpb-"+tn.Name] = map[string]any{"plugin": map[string]any{"mcpbouncer": tn.options(o)}}
		services[tn.Name] = map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": tn.MCP.URL}}}}
	}
	return map[string]any{"http": map[string]any{"routers": routers, "middlewares": middlewares, "services": services}}
}

// transport reaches the host's port 443 at Traefik's TLS entry point.
func (w *World) transport() *http.Transport {
	dialer := &net.Dialer{}
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.Traefik.Roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == w.host+":443" {
				addr = w.Traefik.WebSecure
			}
			return dialer.DialContext(ctx, network, addr)
		},
	}
}

// Relabel makes a tenant's container anew, with the labels that the options say.
func (w *World) Relabel(tn *Tenant, o Options) { w.Docker.Run(tn.container(o)) }

// Through makes the world's clients and browsers reach Traefik by another way.
func (w *World) Through(transport http.RoundTripper) {
	w.http = &http.Client{Transport: w.Secrets.Watch(transport)}
}

// HTTP returns a client that reaches both entry points and has no cookies.
func (w *World) HTTP() *http.Client { return w.http }

// Browser returns a new browser of the tenant's user.
func (tn *Tenant) Browser() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		tn.world.t.Fatalf("rig: %v", err)
	}
	return &Browser{
		Client:   &http.Client{Transport: tn.world.http.Transport, Jar: jar},
		Username: tn.Provider.Username, Password: tn.Provider.Password,
	}
}

// Client registers a new client at the tenant's plain entry point.
func (tn *Tenant) Client() *OAuthClient {
	tn.world.t.Helper()
	return NewOAuthClient(tn.world.t, tn.world.http, tn.PublicHTTP())
}

// DialMCP connects the Go SDK's client to public + "/mcp". The SDK finds out by itself that it must
// log in, and how; only the browser is ours.
func (tn *Tenant) DialMCP(ctx context.Context, public string) (*mcp.ClientSession, *Browser, error) {
	browser := tn.Browser()
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		Client: tn.world.http,
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{redirectURI},
			GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
			TokenEndpointAuthMethod: "none",
		}},
		RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			back, err := browser.Visit(ctx, args.URL, redirectURI)
			if err != nil {
				return nil, err
			}
			q := back.Query()
			if q.Get("code") == "" {
				return nil, fmt.Errorf("%s: %s", q.Get("error"), q.Get("error_description"))
			}
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "rig", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: public + "/mcp", HTTPClient: tn.world.http, OAuthHandler: handler,
		DisableStandaloneSSE: true, MaxRetries: -1,
	}, nil)
	return session, browser, err
}

// ShowLogs prints the end of each process's log.
func (w *World) ShowLogs(lines int) {
	if dir := os.Getenv("E2E_LOGS"); dir != "" {
		for _, name := range w.Logs.Names() {
			_ = os.WriteFile(filepath.Join(dir, name+".log"), []byte(w.Logs.Text(name)), 0o600)
		}
	}
	for _, name := range w.Logs.Names() {
		w.t.Logf("--- %s\n%s", name, w.Logs.Tail(name, lines))
	}
	if w.Front == nil {
		return
	}
	w.t.Logf("--- asked of the sidecar\n%s", strings.Join(w.Front.Asked(), "\n"))
}
