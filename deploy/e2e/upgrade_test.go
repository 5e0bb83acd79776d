package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The next version of plugin and sidecar has a label more than this one: allowedCountries, made
// from the lines about logo. Its sources are these with that edit.
var linesAboutLogo = regexp.MustCompile("(?m)^\t(Logo +(any|string).*|\tLogo: .*|\t\\{\"logo\", .*)$")

func withOneLabelMore(text string) string {
	return linesAboutLogo.ReplaceAllStringFunc(text, func(line string) string {
		return line + "\n" + strings.NewReplacer("Logo", "AllowedCountries", "logo", "allowedCountries").Replace(line)
	})
}

// successorPlugin counts the edits, which must meet something.
func successorPlugin(edited map[string]int) func(file, text string) string {
	return func(file, text string) string {
		edited[file] += len(linesAboutLogo.FindAllString(text, -1))
		return withOneLabelMore(text)
	}
}

// pluginOfNovember writes the payload as the plugin of 24 November 2026 did: every member, and no
// version.
func pluginOfNovember(t *testing.T) func(file, text string) string {
	return func(file, text string) string {
		if file != "plugin/payload.go" {
			return text
		}
		// the version of one digit is cut off: its import must stay in use
		for old, new := range map[string]string{
			"if m.value != m.standard {":                "if m.name != \"\" {",
			"`{\"v\":` + strconv.Itoa(hopVersion) + `,": "`{` + strconv.Itoa(hopVersion)[1:] + `",
		} {
			if strings.Count(text, old) != 1 {
				t.Fatalf("%s does not hold %q once", file, old)
			}
			text = strings.Replace(text, old, new, 1)
		}
		return text
	}
}

// fleet is several Traefiks under one public URL: whoever asks meets each in turn.
type fleet struct {
	t         *testing.T
	w         *rig.World
	transport *http.Transport

	mu   sync.Mutex
	next int
	all  []string       // addresses
	open map[string]int // connections, by address
}

func newFleet(t *testing.T, w *rig.World, others ...*rig.Traefik) *fleet {
	f := &fleet{t: t, w: w, open: map[string]int{}}
	for _, traefik := range append([]*rig.Traefik{w.Traefik}, others...) {
		f.all = append(f.all, strings.TrimPrefix(traefik.Web, "http://"))
	}
	first := f.all[0]
	// No connection is kept, so each request is a turn.
	f.transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != first {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		f.mu.Lock()
		to := f.all[f.next%len(f.all)]
		f.next++
		f.open[to]++
		f.mu.Unlock()
		ended := sync.OnceFunc(func() {
			f.mu.Lock()
			f.open[to]--
			f.mu.Unlock()
		})
		conn, err := (&net.Dialer{}).DialContext(ctx, network, to)
		if err != nil {
			ended()
			return nil, err
		}
		return connOfFleet{conn, ended}, nil
	}}
	return f
}

// connOfFleet is a connection that says when it is closed.
type connOfFleet struct {
	net.Conn
	ended func()
}

func (c connOfFleet) Close() error {
	c.ended()
	return c.Conn.Close()
}

// only sends everything to these Traefiks from now on.
func (f *fleet) only(these ...*rig.Traefik) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = nil
	for _, traefik := range these {
		f.all = append(f.all, strings.TrimPrefix(traefik.Web, "http://"))
	}
}

func (f *fleet) client(tn *rig.Tenant) *rig.OAuthClient {
	f.t.Helper()
	return rig.NewOAuthClient(f.t, &http.Client{Transport: f.transport}, tn.PublicHTTP())
}

func (f *fleet) browser(tn *rig.Tenant) *rig.Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return &rig.Browser{Client: &http.Client{Transport: f.transport, Jar: jar}, Username: tn.Provider.Username, Password: tn.Provider.Password}
}

// personLogin is one that a test can stop at the provider, where a person takes their time.
type personLogin struct {
	t    *testing.T
	c    *rig.OAuthClient
	b    *rig.Browser
	flow *rig.Flow
	at   *url.URL // where the browser is
}

// begin brings a person to the provider: authorize and consent.
func (f *fleet) begin(c *rig.OAuthClient, tn *rig.Tenant) *personLogin {
	f.t.Helper()
	l := &personLogin{t: f.t, c: c, b: f.browser(tn), flow: c.Begin()}
	at, err := l.b.Visit(f.t.Context(), l.flow.URL, tn.Provider.Issuer)
	if err != nil {
		f.t.Fatalf("to the provider: %v", err)
	}
	l.at = at
	return l
}

// callback brings the person back: the client has a code.
func (l *personLogin) callback() string {
	l.t.Helper()
	back, err := l.b.Visit(l.t.Context(), l.at.String(), l.c.Redirect)
	if err != nil || back.Query().Get("code") == "" {
		l.t.Fatalf("back from the provider: %v, %v", back, err)
	}
	return back.Query().Get("code")
}

// Sidecar first, then plugin; and every state in between serves, one replica and one Traefik after
// the other, while people log in.
func TestVersionsAreReplacedOneByOneUnderRunningLogins(t *testing.T) {
	t.Parallel()
	edited := map[string]int{}
	more := rig.BuildSidecar(t, map[string]func(string) string{"issuer/tenant.go": withOneLabelMore})
	last := rig.BuildBefore(t)
	w := rig.New(t, rig.Options{})
	this := rig.Tool(t, "mcpbouncer")
	start := func(root string, plugin func(file, text string) string) *rig.Traefik {
		return rig.StartTraefik(t, w.Logs, rig.TraefikConfig{WebPort: rig.FreePort(t), HopKey: w.Keys.Hop, Docker: w.Docker, PluginRoot: root, Plugin: plugin})
	}
	first, before, after := start("", pluginOfNovember(t)), start(last.Root, nil), start("", successorPlugin(edited))
	if edited["plugin/config.go"] != 3 {
		t.Fatalf("the successor is not made: %v", edited)
	}
	for _, traefik := range []*rig.Traefik{first, before, after} {
		rig.WaitFor(t, "the routes", func() error { return statusIs(traefik.Web+"/wiki/anything", http.StatusUnauthorized) })
	}
	f := newFleet(t, w, first, before, after)
	c := f.client(w.Wiki)
	lasting := c.Redeem(f.begin(c, w.Wiki).callbackFor(f))
	for _, step := range []struct {
		name    string
		program string
		replica int
	}{
		{"the first replica has a label more", more, 0},
		{"both have it", more, 1},
		{"the second goes back", this, 1},
		{"both are as at the beginning", this, 0},
		{"the first is the version before", last.Sidecar, 0},
		{"both are the version before", last.Sidecar, 1},
		{"the second goes forth again", this, 1},
		{"both are of today", this, 0},
	} {
		t.Run(step.name, func(t *testing.T) {
			f.t = t
			if step.program == last.Sidecar && !first.Ended() { // which is older than one version
				f.only(w.Traefik, before, after)
				first.Terminate(t)
			}
			atProvider, withCode := f.begin(c, w.Wiki), f.begin(c, w.Wiki)
			code := withCode.callback()
			fresh := c.Redeem(f.begin(c, w.Wiki).callbackFor(f))

			w.Replicas[step.replica].Replace(step.program)

			for name, tokens := range map[string]*rig.Answer{
				"a person at the provider":   c.Redeem(atProvider.callback(), atProvider.flow),
				"a client with a code":       c.Redeem(code, withCode.flow),
				"a login of a moment ago":    c.Refresh(fresh.Member("refresh_token")),
				"a login from the beginning": c.Refresh(lasting.Member("refresh_token")),
			} {
				if tokens.Status != http.StatusOK {
					t.Errorf("%s: %s", name, tokens)
				}
				if name == "a login from the beginning" {
					lasting = tokens
				}
				for range 4 { // each Traefik
					if answer := c.Get("/anything", tokens.Member("access_token")); answer.Status != http.StatusOK {
						t.Errorf("%s, with the token: %s", name, answer)
					}
				}
			}
			other := f.client(w.Wiki) // a client of this moment
			if tokens := other.Redeem(f.begin(other, w.Wiki).callbackFor(f)); tokens.Status != http.StatusOK {
				t.Errorf("a new client: %s", tokens)
			}
		})
	}
	for _, name := range w.Logs.Names() {
		if text := w.Logs.Text(name); strings.Contains(text, "hop header") {
			t.Errorf("%s speaks of a hop header that was refused:\n%s", name, w.Logs.Tail(name, 30))
		}
	}
}

// callbackFor is callback with the flow, as Redeem takes them.
func (l *personLogin) callbackFor(f *fleet) (string, *rig.Flow) {
	l.t = f.t
	return l.callback(), l.flow
}

func statusIs(u string, want int) error {
	resp, err := http.Get(u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// A label of the next version that is set while a replica does not know it: that tenant is refused
// there, by name in both logs, and all others are served. Nobody is let in by a rule that was not
// understood, and nobody is told to change keys.
func TestLabelThatTheSidecarDoesNotKnowIsNamed(t *testing.T) {
	t.Parallel()
	more := rig.BuildSidecar(t, map[string]func(string) string{"issuer/tenant.go": withOneLabelMore})
	w := rig.New(t, rig.Options{})
	next := rig.StartTraefik(t, w.Logs, rig.TraefikConfig{WebPort: rig.FreePort(t), HopKey: w.Keys.Hop, Docker: w.Docker, Plugin: successorPlugin(map[string]int{})})
	rig.WaitFor(t, "the routes", func() error { return statusIs(next.Web+"/world/anything", http.StatusUnauthorized) })
	f := newFleet(t, w)
	f.only(next)
	wiki, world := f.client(w.Wiki), f.client(w.World)
	w.Replicas[0].Replace(more)

	atProvider := f.begin(world, w.World)
	labels := rig.Options{Labels: map[string]string{"world/allowedCountries": "CH"}}
	w.Relabel(w.World, labels)
	metadata := func(c *rig.OAuthClient) *rig.Answer {
		return c.Do(http.MethodGet, c.Public+"/.well-known/oauth-authorization-server", nil, nil)
	}
	w.Front.Only(w.Replicas[1].Name)
	rig.WaitFor(t, "the label to be read", func() error {
		if answer := metadata(world); answer.Status != http.StatusServiceUnavailable || answer.Member("error") != "temporarily_unavailable" {
			return fmt.Errorf("%s", answer)
		}
		return nil
	})
	for range 4 {
		if answer := metadata(wiki); answer.Status != http.StatusOK {
			t.Errorf("a tenant without the label: %s", answer)
		}
	}
	w.Front.Only("")
	statuses := map[int]int{}
	for range 10 {
		statuses[metadata(world).Status]++
	}
	if !maps.Equal(statuses, map[int]int{200: 5, 503: 5}) {
		t.Errorf("one replica knows the label and one does not: %v", statuses)
	}
	if text := w.Logs.Text("traefik"); !strings.Contains(text, `it does not know the label \"allowedCountries\", which is set here: upgrade the sidecar first`) && !strings.Contains(text, `it does not know the label "allowedCountries", which is set here: upgrade the sidecar first`) {
		t.Errorf("Traefik's log does not name the label:\n%s", w.Logs.Tail("traefik", 20))
	}
	if text := w.Logs.Text("traefik"); strings.Contains(text, "give Traefik the BOUNCER_HOP_KEY") {
		t.Error("Traefik's log blames the hop key")
	}
	if text := w.Logs.Text(w.Replicas[1].Name); !strings.Contains(text, `label \"allowedCountries\" is not known to this version of the sidecar: upgrade the sidecar first`) {
		t.Errorf("the sidecar's log does not name the label:\n%s", w.Logs.Tail(w.Replicas[1].Name, 20))
	}

	w.Replicas[1].Replace(more)
	if tokens := world.Redeem(atProvider.callback(), atProvider.flow); tokens.Status != http.StatusOK {
		t.Errorf("a person who was at the provider meanwhile: %s", tokens)
	}
	for range 10 {
		if answer := metadata(world); answer.Status != http.StatusOK {
			t.Errorf("both know the label: %s", answer)
		}
	}
}

// The version before knows nothing of the label dpop. Its sidecar refuses this plugin where the
// label is set, and its plugin refuses the label itself: each time by name, with 503, and the
// server of that tenant is open to nobody. Without the label they serve. Going back costs the
// logins that the label has sealed, and no others.
func TestVersionBeforeRefusesALabelOfTodayByName(t *testing.T) {
	t.Parallel()
	last := rig.BuildBefore(t)
	w := rig.New(t, rig.Options{})
	for _, replica := range w.Replicas {
		replica.Replace(last.Sidecar)
	}
	old := rig.StartTraefik(t, w.Logs, rig.TraefikConfig{WebPort: rig.FreePort(t), HopKey: w.Keys.Hop, Docker: w.Docker, PluginRoot: last.Root})
	for _, tn := range w.Tenants() {
		rig.WaitFor(t, "the routes", func() error { return statusIs(old.Web+"/"+tn.Name+"/anything", http.StatusUnauthorized) })
	}
	world := w.World.Client()
	tokens := world.Tokens(w.World.Browser())

	w.Relabel(w.World, rig.Options{Labels: map[string]string{"world/dpop": "require"}})
	metadata := func(tn *rig.Tenant) *rig.Answer {
		return world.Do(http.MethodGet, tn.PublicHTTP()+"/.well-known/oauth-authorization-server", nil, nil)
	}
	rig.WaitFor(t, "the label to be read", func() error {
		if answer := metadata(w.World); answer.Status != http.StatusServiceUnavailable || answer.Member("error") != "temporarily_unavailable" {
			return fmt.Errorf("%s", answer)
		}
		return nil
	})
	if answer := metadata(w.Wiki); answer.Status != http.StatusOK {
		t.Errorf("the tenant without the label: %s", answer)
	}
	if answer := world.Refresh(tokens.Member("refresh_token")); answer.Status != http.StatusServiceUnavailable {
		t.Errorf("a refresh where the label is set: %s", answer)
	}
	if answer := world.Get("/anything", tokens.Member("access_token")); answer.Status == http.StatusOK {
		t.Errorf("a token without a key, where the label asks for one: %s", answer)
	}
	rig.WaitFor(t, "the plugin before to refuse the label", func() error { return statusIs(old.Web+"/world/anything", http.StatusServiceUnavailable) })
	if err := statusIs(old.Web+"/wiki/anything", http.StatusUnauthorized); err != nil {
		t.Errorf("the plugin before, at the tenant without the label: %v", err)
	}
	traefik := strings.ReplaceAll(w.Logs.Text("traefik"), `\"`, `"`)
	for _, line := range []string{
		// this plugin, and the one before
		`it does not know the label "dpop", which is set here: upgrade the sidecar first, or remove the label`,
		`unknown label "dpop"`,
	} {
		if !strings.Contains(traefik, line) {
			t.Errorf("Traefik's log lacks %q:\n%s", line, w.Logs.Tail("traefik", 20))
		}
	}
	if strings.Contains(traefik, "give Traefik the BOUNCER_HOP_KEY") {
		t.Error("Traefik's log blames the hop key")
	}
	sidecars := strings.ReplaceAll(w.Logs.Text(w.Replicas[0].Name)+w.Logs.Text(w.Replicas[1].Name), `\"`, `"`)
	if !strings.Contains(sidecars, `label "dpop" is not known to this version of the sidecar: upgrade the sidecar first, then the plugin`) {
		t.Errorf("no sidecar's log names the label:\n%s", w.Logs.Tail(w.Replicas[0].Name, 20))
	}

	for _, replica := range w.Replicas {
		replica.Replace(rig.Tool(t, "mcpbouncer"))
	}
	works := func() error {
		if answer := metadata(w.World); answer.Status != http.StatusOK {
			return fmt.Errorf("%s", answer)
		}
		return nil
	}
	rig.WaitFor(t, "sidecars that know the label", works)

	// What the label has sealed, the version before does not open; all else it does.
	bound := w.World.Client()
	bound.Prover = rig.NewProver("ES256")
	sealed := bound.Tokens(w.World.Browser()).Member("refresh_token")
	w.Relabel(w.World, rig.Options{})
	for _, replica := range w.Replicas {
		replica.Replace(last.Sidecar)
	}
	rig.WaitFor(t, "the label to be gone", works)
	if answer := bound.Refresh(sealed); answer.Status != http.StatusBadRequest || answer.Member("error") != "invalid_grant" {
		t.Errorf("a login of the label, at the version before: %s", answer)
	}
	if answer := world.Refresh(tokens.Member("refresh_token")); answer.Status != http.StatusOK {
		t.Errorf("a login without the label, at the version before: %s", answer)
	}
}

// One anonymous request makes one other in real Traefik, though the sidecar's address is spelt
// otherwise than the public URL.
func TestLoopInTraefikEndsAtItsSecondRequest(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Static: map[string]any{"accessLog": map[string]any{}}})
	port := w.Traefik.Web[strings.LastIndex(w.Traefik.Web, ":"):]
	w.Relabel(w.Wiki, rig.Options{Labels: map[string]string{
		"wiki/publicURL": "http://mcp.localhost" + port + "/wiki", "wiki/sidecarURL": w.Traefik.Web + "/wiki",
	}})
	ask := func(path string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, w.Traefik.Web+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "mcp.localhost" + port
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	rig.WaitFor(t, "the labels to be read", func() error {
		if status, body := ask("/wiki/.well-known/oauth-authorization-server"); status != http.StatusBadGateway {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	if status, body := ask("/wiki/oauth/once"); status != http.StatusBadGateway || !strings.Contains(body, `"temporarily_unavailable"`) {
		t.Errorf("the client got %d %s", status, body)
	}
	arrived := func() int { return strings.Count(w.Logs.Text("traefik"), `"GET /wiki/oauth/once HTTP/1.1"`) }
	rig.WaitFor(t, "the access log", func() error {
		if n := arrived(); n < 2 {
			return fmt.Errorf("%d lines", n)
		}
		return nil
	})
	ask("/wiki/anything") // its line comes after all others
	rig.WaitFor(t, "the access log", func() error {
		if !strings.Contains(w.Logs.Text("traefik"), `"GET /wiki/anything HTTP/1.1" 401`) {
			return errors.New("no line yet")
		}
		return nil
	})
	if n := arrived(); n != 2 {
		t.Errorf("one request became %d", n)
	}
	for _, line := range []string{"leads to a middleware of MCPBouncer and not to the sidecar", "a request for the sidecar came back to a middleware of MCPBouncer"} {
		if !strings.Contains(w.Logs.Text("traefik"), line) {
			t.Errorf("Traefik's log lacks %q:\n%s", line, w.Logs.Tail("traefik", 20))
		}
	}
}
