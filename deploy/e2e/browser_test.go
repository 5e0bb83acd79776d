package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var update = flag.Bool("update", false, "write docs/images again")

// visit is one authorization URL that the browser opens, and what it needs to know to go on from
// there.
type visit struct {
	URL      string `json:"url"`
	Redirect string `json:"redirect"` // where the client waits
	Provider string `json:"provider"`
	Username string `json:"username"`
	Password string `json:"password"`

	client *rig.OAuthClient
	flow   *rig.Flow
}

// scenario is something that a person does; browser/driver.mjs knows how.
type scenario struct {
	Name    string         `json:"name"`
	Run     string         `json:"run"` // the driver's function
	Flows   []visit        `json:"flows"`
	Options map[string]any `json:"options,omitempty"` // of playwright's browser context

	Order  []int      `json:"order,omitempty"`
	Scheme string     `json:"scheme,omitempty"`
	Texts  [][]string `json:"texts,omitempty"`
	Shown  []string   `json:"shown,omitempty"` // a name, and what stands for it in a picture
	File   string     `json:"file,omitempty"`
	After  string     `json:"prepare,omitempty"`

	ends       []string // by flow: "code", or the error that the client is told
	scope      string   // of the tokens, where it is looked at
	references int      // of error pages, each of which must stand in the sidecar's log
}

type outcome struct {
	Name         string   `json:"name"`
	Error        string   `json:"error"`
	Ends         []string `json:"ends"`
	References   []string `json:"references"`
	Milliseconds int      `json:"milliseconds"`
}

// browserWorld is a world, the clients that wait for answers in it, and a tenant with a brand.
type browserWorld struct {
	*rig.World
	t               *testing.T
	loopback, https string // redirect URIs
	secureClients   *httptest.Server
	http            *http.Client // leads every https host to Traefik
}

const (
	customScheme = "cursor://anysphere.cursor-mcp/oauth/callback"
	brandHost    = "mcp.example.com"

	// A document that is known without being read: the sidecar of this test can reach nothing.
	claude = "https://claude.ai/oauth/mcp-oauth-client-metadata"
)

// brandLogo is a picture as an operator would write it into a label.
const brandLogo = "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20viewBox='0%200%20152%2040'%3E%3Crect%20width='40'%20height='40'%20rx='9'%20fill='%230b7a75'/%3E%3Cpath%20d='M10%2029V12l10%209%2010-9v17'%20fill='none'%20stroke='%23fff'%20stroke-width='4'/%3E%3Ctext%20x='50'%20y='28'%20font-family='sans-serif'%20font-weight='700'%20font-size='22'%20fill='%230b7a75'%3Emeadow%3C/text%3E%3C/svg%3E"

// longPath is an MCP endpoint whose name fits no line of a phone.
var longPath = strings.Repeat("w", 300)

// documentsOf is a world that reads metadata documents at one host.
func documentsOf(host *rig.DocumentHost, labels map[string]string) rig.Options {
	return rig.Options{
		Labels:  labels,
		Sidecar: map[string]string{"BOUNCER_TRUSTED_METADATA_HOSTS": host.Addr, "SSL_CERT_FILE": "etc/documents.pem"},
		Image:   map[string][]byte{"etc/documents.pem": host.CA},
	}
}

func newBrowserWorld(t *testing.T, o rig.Options) *browserWorld {
	t.Helper()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>client</title><link rel="icon" href="data:,"><h1>You are back at the client</h1>`)
	})
	plain, secure := httptest.NewServer(page), httptest.NewUnstartedServer(page)
	// Chromium says of each certificate first that it does not know it
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	w := &browserWorld{World: rig.New(t, o), t: t, loopback: plain.URL + "/callback", https: "https://app.example/callback", secureClients: secure}

	w.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // its certificate has other names
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasSuffix(addr, ":443") {
				addr = w.Traefik.WebSecure
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}

	// A server with a name, a logo and scopes of its own. Its provider is never asked: nobody
	// allows anything there.
	option := "traefik.http.middlewares.brand.plugin.mcpbouncer."
	w.Docker.Run(rig.Container{Name: "brand", IP: "127.0.0.1", Port: w.Wiki.MCP.Port, Labels: map[string]string{
		"traefik.enable":                                       "true",
		"traefik.http.routers.brand.rule":                      "Host(`" + brandHost + "`)",
		"traefik.http.routers.brand.entrypoints":               "websecure",
		"traefik.http.routers.brand.middlewares":               "brand@docker",
		"traefik.http.services.brand.loadbalancer.server.port": w.Wiki.MCP.Port,
		option + "providerIssuer":                              "https://login.example.com",
		option + "clientID":                                    "mcpbouncer",
		option + "clientSecret":                                "env:" + w.Wiki.Provider.SecretEnv,
		option + "resource":                                    "wiki",
		option + "publicURL":                                   "https://" + brandHost + "/wiki",
		option + "scopes":                                      "openid email profile offline_access",
		option + "requiredScopes":                              "wiki:read wiki:write",
		option + "sidecarURL":                                  w.Front.URL,
		option + "displayName":                                 "Meadow Wiki",
		option + "logo":                                        brandLogo,
		option + "rememberConsent":                             "24h",
	}})
	return w
}

// visit begins a login of a client with this redirect URI.
func (w *browserWorld) visit(tn *rig.Tenant, public, redirect string) visit {
	w.t.Helper()
	return w.visitAs(tn, public, map[string]any{"client_name": "Example Client", "redirect_uris": []string{redirect}}, nil)
}

// visitAs begins a login of a client that registers like this, with changes of the request.
func (w *browserWorld) visitAs(tn *rig.Tenant, public string, metadata map[string]any, change url.Values) visit {
	w.t.Helper()
	c := rig.NewOAuthClient(w.t, w.http, public)
	metadata["token_endpoint_auth_method"] = "none"
	c.ClientID = c.Register(metadata).Member("client_id")
	c.Redirect = metadata["redirect_uris"].([]string)[0]
	c.Resource = public
	f := c.Begin()
	u, err := url.Parse(f.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	query := u.Query()
	maps.Copy(query, change)
	u.RawQuery = query.Encode()
	f.URL = u.String()
	return visit{f.URL, c.Redirect, tn.Provider.Issuer, tn.Provider.Username, tn.Provider.Password, c, f}
}

// document makes a visit that of a client whose client_id is a URL.
func (w *browserWorld) document(v visit, clientID, redirect string) visit {
	w.t.Helper()
	u, err := url.Parse(v.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	query := u.Query()
	query.Set("client_id", clientID)
	query.Set("redirect_uri", redirect)
	u.RawQuery = query.Encode()
	v.URL, v.Redirect = u.String(), redirect
	return v
}

// drive runs the scenarios in Chromium.
func (w *browserWorld) drive(scenarios []scenario) map[string]outcome {
	w.t.Helper()
	dir := filepath.Join(rig.Root(), "deploy", "e2e", "browser")
	const hint = "run deploy/e2e/browser/install.sh"
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "/usr/bin/chromium"
	}
	if _, err := exec.LookPath(chromium); err != nil {
		w.t.Fatalf("no Chromium: %v; %s, or let CHROMIUM name one", err, hint)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "playwright-core")); err != nil {
		w.t.Fatalf("no playwright-core: %v; %s", err, hint)
	}
	wiki, op := w.Wiki.Provider.Issuer, w.World.World.Provider.Issuer
	origin := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil {
			w.t.Fatal(err)
		}
		return u.Scheme + "://" + u.Host
	}
	bouncers := []string{w.Traefik.Web, "https://mcp.localhost", "https://" + brandHost}
	plan, err := json.Marshal(map[string]any{
		"chromium": chromium,
		// No name leads anywhere but to this test.
		"resolve": strings.Join([]string{
			"MAP mcp.localhost:443 " + w.Traefik.WebSecure, "MAP " + brandHost + ":443 " + w.Traefik.WebSecure,
			"MAP app.example:443 " + w.secureClients.Listener.Addr().String(),
			"MAP * ~NOTFOUND", "EXCLUDE localhost", "EXCLUDE 127.0.0.1",
		}, ", "),
		"bouncers":  bouncers,
		"origins":   append(bouncers, origin(wiki), origin(op), origin(w.loopback), origin(w.https)),
		"evil":      "https://evil.example/",
		"pictures":  filepath.Join(rig.Root(), "docs", "images"),
		"scenarios": scenarios,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), "node", "driver.mjs")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(plan)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Errorf("driver.mjs: %v\n%s", err, stderr.Bytes())
	}
	outcomes := map[string]outcome{}
	for line := range bytes.Lines(out) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil {
			w.t.Fatalf("driver.mjs wrote %q: %v", line, err)
		}
		outcomes[o.Name] = o
	}
	return outcomes
}

func TestPagesInChromium(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	w := newBrowserWorld(t, documentsOf(host, map[string]string{"mcpPaths": "/mcp,/sse,/" + longPath}))
	wiki, world := w.Wiki, w.World.World
	plain := func() visit { return w.visit(wiki, wiki.PublicHTTP(), w.loopback) }
	secure := func() visit { return w.visit(wiki, wiki.PublicHTTPS(), w.https) }
	long := func() visit {
		public := wiki.PublicHTTPS()
		return w.visitAs(wiki, public, map[string]any{
			"client_name":   strings.Repeat("W", 64),
			"redirect_uris": []string{"https://" + strings.Repeat(strings.Repeat("w", 50)+".", 3) + "example/callback"},
		}, url.Values{"resource": {public + "/" + longPath}})
	}
	stacked := func() visit {
		return w.visitAs(wiki, wiki.PublicHTTPS(), map[string]any{"client_name": "Example Client" + strings.Repeat("\u0323\u0330", 25), "redirect_uris": []string{w.https}}, nil)
	}
	broken := func(v visit) visit {
		v.URL = strings.Replace(v.URL, "client_id=", "client_id=x", 1)
		return v
	}
	// What the pages of the server with a brand show: a verified application, a self-registered
	// one, one on this computer.
	brandURL := "https://" + brandHost + "/wiki"
	brand := func(redirect string) visit {
		return w.visitAs(wiki, brandURL, map[string]any{"client_name": "Claude", "redirect_uris": []string{redirect}}, nil)
	}
	rig.WaitFor(t, "the branded server", func() error {
		resp, err := w.http.Get(brandURL + "/mcp")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
	verified := func() visit {
		return w.document(brand("https://app.example/x"), claude, "https://claude.ai/api/mcp/auth_callback")
	}

	code, denied := "code", "access_denied"
	scenarios := []scenario{
		{Name: "allow, plain, Dex", Run: "allow", Flows: []visit{plain()}, ends: []string{code}},
		{Name: "allow, TLS, Dex", Run: "allow", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "allow, plain, example OP", Run: "allow", Flows: []visit{w.visit(world, world.PublicHTTP(), w.loopback)}, ends: []string{code}},
		{Name: "allow, TLS, example OP", Run: "allow", Flows: []visit{w.visit(world, world.PublicHTTPS(), w.loopback)}, ends: []string{code}},
		{Name: "deny, plain", Run: "deny", Flows: []visit{plain()}, ends: []string{denied}},
		{Name: "deny, TLS", Run: "deny", Flows: []visit{secure()}, ends: []string{denied}},
		{Name: "keyboard only", Run: "keyboard", Flows: []visit{secure(), secure()}, ends: []string{code, denied}},
		{Name: "a right left out", Run: "leave out", Flows: []visit{secure()}, ends: []string{code}, scope: "profile"},
		{Name: "two tabs, first one first", Run: "tabs", Order: []int{0, 1}, Flows: []visit{secure(), secure()}, ends: []string{code, code}},
		{Name: "two tabs, last one first", Run: "tabs", Order: []int{1, 0}, Flows: []visit{plain(), plain()}, ends: []string{code, code}},
		{Name: "back button after allow", Run: "back after allow", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "back button after deny", Run: "back after deny", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "the callback again after the login", Run: "back after the login", Flows: []visit{secure()}, ends: []string{code}, references: 1},
		{Name: "in a window that a web application opened", Run: "popup", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "the form's address opened by itself", Run: "opened by itself", Flows: []visit{secure()}, references: 1},
		{Name: "double click on allow", Run: "double click", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "a click again after the answer", Run: "click again", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "a click in the first moment", Run: "hurry", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "animations switched off", Run: "no animations", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "every page reloaded", Run: "reload", Flows: []visit{secure()}, ends: []string{code}},
		{Name: "a name of stacked marks", Run: "spill", Flows: []visit{secure(), stacked()}},
		{Name: "one page answered twice", Run: "answered again", Flows: []visit{secure(), secure()}, ends: []string{code, denied}, references: 4},
		{Name: "the form in another browser", Run: "another browser", Flows: []visit{secure(), secure()}, references: 2},
		{Name: "the form on another site", Run: "another site", Flows: []visit{secure(), secure()}, references: 1},
		{Name: "320 pixels", Run: "narrow", Options: phone, Flows: []visit{long(), broken(secure())}},
		{Name: "no JavaScript", Run: "allow", Options: map[string]any{"javaScriptEnabled": false}, Flows: []visit{secure()}, ends: []string{code}},
		{Name: "accessible, light", Run: "accessible", Scheme: "light", Options: map[string]any{"colorScheme": "light"}, Flows: []visit{secure(), plain(), verified(), broken(secure())}},
		{Name: "accessible, dark", Run: "accessible", Scheme: "dark", Options: map[string]any{"colorScheme": "dark"}, Flows: []visit{secure(), plain(), verified(), broken(secure())}},
		{Name: "out to https", Run: "out", Flows: []visit{secure(), secure()}, ends: []string{denied, code}},
		{Name: "out to loopback", Run: "out", Flows: []visit{plain(), plain()}, ends: []string{denied, code}},
		{Name: "out to a custom scheme", Run: "out", ends: []string{denied, code}, Flows: []visit{
			w.visit(wiki, wiki.PublicHTTPS(), customScheme), w.visit(wiki, wiki.PublicHTTPS(), customScheme),
		}},
		{
			Name: "what is shown", Run: "what is shown", Flows: []visit{verified(), brand("http://127.0.0.1:33418/callback"), w.visit(wiki, wiki.PublicHTTPS(), customScheme)},
			Texts: [][]string{
				{"Allow “Claude” to use Meadow Wiki in your name?", "Not verified at the moment: claude.ai", "Your answer goes to claude.ai", brandURL, "wiki:read (needed) wiki:write (needed) know who you are (needed) see your e-mail address see your name and picture", "sign in at login.example.com"},
				{"Unverified: this name is what the application calls itself.", "Your answer goes to 127.0.0.1:33418", "a program on your own computer"},
				{"Allow “Example Client” to use wiki in your name?", "cursor://anysphere.cursor-mcp An app on this device"},
			},
		},
		{Name: "the driver's alarm", Run: "the alarm rings", Flows: []visit{secure()}},
	}
	if *update {
		app := "https://app.example/callback"
		desktop := func(scheme string) map[string]any {
			return map[string]any{"viewport": map[string]int{"width": 640, "height": 480}, "colorScheme": scheme}
		}
		// A document of Claude's that was read, at an address of this machine. The pictures
		// show the name of its real host.
		const back = "https://claude.ai/api/mcp/auth_callback"
		read := host.Publish(t, "/oauth/mcp-oauth-client-metadata", map[string]any{"client_name": "Claude", "redirect_uris": []string{back}, "token_endpoint_auth_method": "none"})
		published := func() visit { return w.document(brand(app), read, back) }
		picture := func(file string, options map[string]any, after string, v visit) {
			shown := []string{host.Addr, "claude.ai"}
			scenarios = append(scenarios, scenario{Name: "picture " + file, Run: "picture", Options: options, After: after, File: file, Shown: shown, Flows: []visit{v}})
		}
		picture("consent-light.png", desktop("light"), "", w.visitAs(wiki, brandURL, map[string]any{"client_name": "Notebook", "redirect_uris": []string{app}}, nil))
		picture("consent-dark.png", desktop("dark"), "", published())
		picture("consent-phone.png", phone, "", published())
		picture("consent-loopback.png", desktop("light"), "", w.visitAs(wiki, brandURL, map[string]any{"client_name": "Claude Code", "redirect_uris": []string{"http://127.0.0.1:33418/callback"}}, nil))
		picture("back-to-the-application.png", desktop("light"), "deny", w.visitAs(wiki, brandURL, map[string]any{"client_name": "Cursor", "redirect_uris": []string{customScheme}}, nil))
		picture("error-light.png", desktop("light"), "", broken(brand(app)))
		picture("error-dark.png", desktop("dark"), "", broken(brand(app)))
		picture("error-phone.png", phone, "", w.document(brand(app), claude, "https://evil.example/callback"))
		if err := os.MkdirAll(filepath.Join(rig.Root(), "docs", "images"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	outcomes := w.drive(scenarios)
	for _, s := range scenarios {
		t.Run(s.Name, func(t *testing.T) { w.judge(t, s, outcomes[s.Name]) })
	}
}

// Who has their consent remembered goes past the page when they come by a click on the client's own
// page, and by nothing else: what Chromium says of a navigation passes Traefik and the plugin.
func TestRememberedConsentInChromium(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	w := newBrowserWorld(t, documentsOf(host, map[string]string{"rememberConsent": "24h"}))
	id := host.Publish(t, "/client.json", map[string]any{"client_name": "Example Client", "redirect_uris": []string{w.https}, "token_endpoint_auth_method": "none"})
	begin := func() visit {
		c := rig.NewOAuthClient(t, w.http, w.Wiki.PublicHTTPS())
		c.ClientID, c.Redirect, c.Resource = id, w.https, w.Wiki.PublicHTTPS()
		f, p := c.Begin(), w.Wiki.Provider
		return visit{f.URL, c.Redirect, p.Issuer, p.Username, p.Password, c, f}
	}
	s := scenario{Name: "remembered", Run: "remembered", Flows: []visit{begin(), begin(), begin(), begin(), begin()}, ends: []string{"code", "code"}}
	w.judge(t, s, w.drive([]scenario{s})[s.Name])
	said := w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b")
	for event, want := range map[string]int{`"event":"consent.remembered"`: 1, `"event":"consent.given"`: 1, `"because":"no click and no key began it`: 0, `"because":"the browser does not send Sec-Fetch-User"`: 1,
		`"because":"it comes from a page of another site (Referer)"`: 1, `"because":"it was opened by no page (Sec-Fetch-Site)"`: 1} {
		if n := strings.Count(said, event); n != want {
			t.Errorf("the log has %d times %s, want %d", n, event, want)
		}
	}
}

var phone = map[string]any{"viewport": map[string]int{"width": 320, "height": 640}, "isMobile": true, "hasTouch": true}

// judge checks what the clients got, and that what people were told stands in the log.
func (w *browserWorld) judge(t *testing.T, s scenario, o outcome) {
	if o.Name == "" {
		t.Fatal("the driver did not come to this")
	}
	t.Logf("%d ms", o.Milliseconds)
	if o.Error != "" {
		t.Fatal(o.Error)
	}
	if len(o.Ends) != len(s.ends) || len(o.References) != s.references {
		t.Fatalf("%d answers and %d error pages, want %d and %d", len(o.Ends), len(o.References), len(s.ends), s.references)
	}
	for i, want := range s.ends {
		v := s.Flows[i]
		to, err := url.Parse(o.Ends[i])
		if err != nil || !strings.HasPrefix(o.Ends[i], v.Redirect+"?") {
			t.Fatalf("the answer went to %s, want %s", o.Ends[i], v.Redirect)
		}
		q := to.Query()
		if q.Get("state") != v.flow.State || q.Get("iss") != v.client.Public {
			t.Errorf("answer %d has state %q and iss %q", i, q.Get("state"), q.Get("iss"))
		}
		if want != "code" {
			if q.Get("error") != want || q.Has("code") {
				t.Errorf("answer %d is %v, want %s", i, q, want)
			}
			continue
		}
		answer := v.client.Redeem(q.Get("code"), v.flow)
		if answer.Status != http.StatusOK {
			t.Errorf("the code of answer %d: %s", i, answer)
		} else if s.scope != "" && answer.Member("scope") != s.scope {
			t.Errorf("scope %q of answer %d, want %q", answer.Member("scope"), i, s.scope)
		}
	}
	said := ""
	for _, r := range w.Replicas {
		said += w.Logs.Text(r.Name)
	}
	for _, reference := range o.References {
		lines := slices.DeleteFunc(strings.Split(said, "\n"), func(line string) bool { return !strings.Contains(line, reference) })
		if len(lines) != 1 || !strings.Contains(lines[0], "request refused") {
			t.Errorf("the reference %s stands in the log as %q", reference, lines)
		}
	}
	if s.File != "" {
		if size, err := shrink(filepath.Join(rig.Root(), "docs", "images", s.File)); err != nil || size > 60<<10 {
			t.Errorf("picture %s of %d bytes: %v, want at most 60 KB", s.File, size, err)
		}
	}
}

// shrink writes a PNG again with a palette of its most frequent colours: of letters' edges the
// nearest will do. It returns the new size.
func shrink(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	from, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	count := map[color.Color]int{}
	bounds := from.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[from.At(x, y)]++
		}
	}
	palette := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int {
		return cmp.Or(count[b]-count[a], strings.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	to := image.NewPaletted(bounds, palette[:min(len(palette), 128)])
	draw.Draw(to, bounds, from, bounds.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		return 0, err
	}
	return out.Len(), os.WriteFile(file, out.Bytes(), 0o644)
}
