package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// drill is people at work when something happens: ann with two applications, bob with one of hers,
// and carl at the other server.
type drill struct {
	*testing.T
	s         *stack
	logins    []*login
	block     map[string][]string // :: page → its commands
	variables map[string]string   // what the reader has put in
	stolen    string
	chatHost  string // another one in each stage: what was denied stays denied
	stages    int
}

// login is one of their logins.
type login struct {
	name            string
	tn              *rig.Tenant
	oauth           *rig.OAuthClient
	user            string
	access, refresh string
	claims          struct {
		Subject string `json:"sub"`
		Family  string `json:"sid"`
	}
}

const (
	annsEditor = "ann with the editor"
	annsChat   = "ann with the chat"
	bobsEditor = "bob with the editor"
	carl       = "carl at the other server"
)

var everybody = []string{annsEditor, annsChat, bobsEditor, carl}

// stage is some commands of a page, and who is in afterwards.
type stage struct {
	page    string
	blocks  []int
	with    func(*drill) map[string]string // what the reader puts in
	before  func(*drill)
	out     []string // whose tokens are worth nothing afterwards
	shut    []string // who cannot log in again with the client they have
	newOnly []string // who can, after registering anew
	same    bool     // the logins are those of the stage before
	patient bool     // waits until the plugin looks again by itself; else Traefik is started anew
	after   func(*drill)
}

var wikiLogins = []string{annsEditor, annsChat, bobsEditor}

var stages = []stage{
	{page: "everything", blocks: []int{0}, out: everybody, patient: true},
	{page: "tenant", blocks: []int{0}, out: wikiLogins,
		with: func(d *drill) map[string]string { return map[string]string{"TENANT": d.s.w.Wiki.PublicHTTPS()} }},
	{page: "tenant", blocks: []int{1}, out: wikiLogins, newOnly: wikiLogins},
	{page: "client", blocks: []int{0}, out: []string{annsEditor, bobsEditor}, shut: []string{annsEditor, bobsEditor},
		with: func(d *drill) map[string]string {
			return map[string]string{"CLIENT": sealing.Fingerprint(d.login(annsEditor).oauth.ClientID)}
		}},
	{page: "client", blocks: []int{1}, shut: []string{annsChat},
		with: func(d *drill) map[string]string { return map[string]string{"HOST": d.chatHost} }},
	{page: "user", blocks: []int{0}, out: []string{annsEditor, annsChat}, shut: []string{annsEditor, annsChat}, with: ann},
	{page: "user", blocks: []int{2}, with: ann, same: true},
	{page: "user", blocks: []int{1}, out: []string{annsEditor, annsChat}, shut: []string{annsEditor, annsChat}, with: ann},
	{page: "user", blocks: []int{2}, with: ann, same: true},
	{page: "login", blocks: []int{0}, out: []string{annsChat},
		with: func(d *drill) map[string]string { return map[string]string{"FAMILY": d.login(annsChat).claims.Family} }},
	{page: "client-secret", blocks: []int{0},
		with: func(d *drill) map[string]string {
			return map[string]string{"SECRET": d.s.w.Secrets.New("client secret", "new-")}
		},
		before: (*drill).rotateSecret},
	{page: "hop-key", blocks: []int{0}, out: everybody, newOnly: everybody, before: (*drill).stealHop, after: (*drill).wantStolenHopRefused},
	{page: "master", blocks: []int{0, 1}, out: everybody, newOnly: everybody, before: (*drill).forge, after: (*drill).wantForgedRefused},
}

// TestRunbooks runs the commands of every page in docs/runbooks against a running stack, and looks
// at who is in.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	d := &drill{T: t, s: newStack(t), block: commandsOfRunbooks(t)}
	d.people() // somebody is in the log
	for i, commands := range d.block["README"] {
		if out, err := d.s.run(commands, nil); err != nil {
			t.Fatalf("README, block %d: %v\n%s", i+1, err, out)
		}
	}
	ran := map[string]bool{}
	for _, stage := range stages {
		t.Run(fmt.Sprint(stage.page, stage.blocks), func(t *testing.T) {
			d.T = t
			d.play(stage)
		})
		for _, block := range stage.blocks {
			ran[fmt.Sprint(stage.page, block)] = true
		}
	}
	d.T = t
	for page, blocks := range d.block {
		for i := range blocks {
			if page != "README" && !ran[fmt.Sprint(page, i)] {
				t.Errorf("docs/runbooks/%s.md, block %d: no stage runs it", page, i+1)
			}
		}
	}
	d.runAlerts()
}

// runAlerts runs the commands on the pages of alerts, line by line. They only look, and grep says
// by its status 1 that there is nothing to see; TestLinesThatAlertsNameAreWritten looks at what
// they look for.
func (d *drill) runAlerts() {
	seen := 0
	for name, page := range pagesOfAlerts(d.T) {
		blocks := blocksOf(d.T, page)
		if len(blocks) == 0 {
			d.Errorf("docs/runbooks/alerts/%s has no commands", name)
		}
		for line := range strings.Lines(strings.Join(blocks, "\n")) {
			out, err := d.s.run(line, nil)
			if err != nil && (out != "" || !strings.Contains(line, "| grep ")) {
				d.Errorf("docs/runbooks/alerts/%s: %s: %v\n%s", name, line, err, out)
			}
			if out != "" {
				seen++
			}
		}
	}
	if seen < 8 {
		d.Errorf("the commands of the alerts' pages printed something %d times", seen)
	}
}

// commandsOfRunbooks reads the blocks of commands of each page.
func commandsOfRunbooks(t *testing.T) map[string][]string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(rig.Root(), "docs", "runbooks", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no runbooks: %v", err)
	}
	blocks := map[string][]string{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		blocks[name] = blocksOf(t, string(text))
		if len(blocks[name]) == 0 {
			t.Errorf("%s has no commands", page)
		}
	}
	return blocks
}

// blocksOf returns the blocks of commands of a page.
func blocksOf(t *testing.T, page string) (blocks []string) {
	t.Helper()
	for _, rest := range strings.Split(page, "\n```sh\n")[1:] {
		commands, _, closed := strings.Cut(rest, "\n```")
		if !closed {
			t.Fatalf("a block without an end: %s", rest)
		}
		blocks = append(blocks, commands)
	}
	return blocks
}

func (d *drill) play(stage stage) {
	if !stage.same {
		d.logins = d.people()
	}
	for _, l := range d.logins {
		d.wantIn(l, "before", !stage.same || !slices.Contains([]string{annsEditor, annsChat}, l.name))
	}
	variables := map[string]string{}
	if stage.with != nil {
		variables = stage.with(d)
	}
	d.variables = variables
	if stage.before != nil {
		stage.before(d)
	}
	for _, block := range stage.blocks {
		if block >= len(d.block[stage.page]) {
			d.Fatalf("docs/runbooks/%s.md has %d blocks", stage.page, len(d.block[stage.page]))
		}
		if out, err := d.s.run(d.block[stage.page][block], variables); err != nil {
			d.Fatalf("block %d: %v\n%s", block+1, err, out)
		}
	}
	// A mark is the next full second: a login of this one is meant too.
	marked := time.Now().Unix()
	rig.WaitFor(d.T, "that second to be over", func() error {
		if time.Now().Unix() == marked {
			return errors.New("it is not")
		}
		return nil
	})
	if !stage.patient {
		d.s.restart("bouncer")
		d.s.restart("traefik")
	}
	for _, l := range d.logins {
		d.wantIn(l, "afterwards", !slices.Contains(stage.out, l.name))
	}
	for _, l := range d.logins {
		switch {
		case slices.Contains(stage.shut, l.name):
			d.wantShut(l)
		case slices.Contains(stage.newOnly, l.name):
			d.wantShut(l)
			d.enter(l.name, l.tn, d.register(l.tn, l.oauth.Redirect), l.user)
		default:
			d.enter(l.name, l.tn, l.oauth, l.user)
		}
	}
	if stage.after != nil {
		stage.after(d)
	}
}

// people log in.
func (d *drill) people() []*login {
	wiki, world := d.s.w.Wiki, d.s.w.World
	editor := d.register(wiki, "")
	d.stages++
	d.chatHost = fmt.Sprintf("chat%d.example", d.stages)
	return []*login{
		d.enter(annsEditor, wiki, editor, "admin@example.com"),
		d.enter(annsChat, wiki, d.register(wiki, "https://app."+d.chatHost+"/callback"), "admin@example.com"),
		d.enter(bobsEditor, wiki, editor, "second@example.com"),
		d.enter(carl, world, d.register(world, ""), world.Provider.Username),
	}
}

func (d *drill) login(name string) *login {
	d.Helper()
	for _, l := range d.logins {
		if l.name == name {
			return l
		}
	}
	d.Fatalf("nobody is %s", name)
	return nil
}

// register makes a client, with a redirect URI of its own if one is given.
func (d *drill) register(tn *rig.Tenant, redirect string) *rig.OAuthClient {
	d.Helper()
	// it may live longer than a stage
	c := rig.NewOAuthClient(d.s.t, d.s.w.HTTP(), tn.PublicHTTPS())
	if redirect != "" {
		answer := c.Register(map[string]any{"client_name": "Chat", "redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none"})
		c.Redirect, c.ClientID = redirect, answer.Member("client_id")
		if c.ClientID == "" {
			d.Fatalf("registration: %s", answer)
		}
	}
	return c
}

// enter logs somebody in, which must work.
func (d *drill) enter(name string, tn *rig.Tenant, c *rig.OAuthClient, user string) *login {
	d.Helper()
	l := &login{name: name, tn: tn, oauth: c, user: user}
	browser := tn.Browser()
	browser.Username = user
	f := c.Begin()
	back, err := browser.Visit(d.Context(), f.URL, c.Redirect)
	if err != nil {
		d.Fatalf("%s: login: %v", name, err)
	}
	answer := c.Redeem(back.Query().Get("code"), f)
	l.access, l.refresh = answer.Member("access_token"), answer.Member("refresh_token")
	if answer.Status != http.StatusOK || l.access == "" || l.refresh == "" {
		d.Fatalf("%s: token: %s", name, answer)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(l.access, ".")[1])
	if err != nil || json.Unmarshal(payload, &l.claims) != nil {
		d.Fatalf("%s: access token: %v", name, err)
	}
	return l
}

// wantIn says whether a login must be good for a call and a refresh.
func (d *drill) wantIn(l *login, when string, in bool) {
	d.Helper()
	call := func() error {
		if answer := l.oauth.Get("/anything", l.access); (answer.Status == http.StatusOK) != in {
			return fmt.Errorf("%s, %s: call: %s, want in: %v", l.name, when, answer, in)
		}
		return nil
	}
	refresh := func() error {
		answer := l.oauth.Refresh(l.refresh)
		if answer.Status == http.StatusOK {
			l.access, l.refresh = answer.Member("access_token"), answer.Member("refresh_token")
		}
		if (answer.Status == http.StatusOK) != in {
			return fmt.Errorf("%s, %s: refresh: %s, want in: %v", l.name, when, answer, in)
		}
		return nil
	}
	for _, check := range []func() error{call, refresh} {
		// docs/runbooks/README.md says a minute; the rest is for full seconds and a slow machine
		if !in {
			rig.WaitWithin(d.T, 70*time.Second, "the sidecar and the plugin to look again", check)
		} else if err := check(); err != nil {
			d.Error(err)
		}
	}
}

// wantShut expects that somebody does not get in with the client they have.
func (d *drill) wantShut(l *login) {
	d.Helper()
	browser := l.tn.Browser()
	browser.Username = l.user
	f := l.oauth.Begin()
	back, err := browser.Visit(d.Context(), f.URL, l.oauth.Redirect)
	if err != nil {
		return // on a page of its own
	}
	if answer := l.oauth.Redeem(back.Query().Get("code"), f); answer.Status == http.StatusOK {
		d.Errorf("%s logged in again", l.name)
	}
}

func ann(d *drill) map[string]string {
	l := d.login(annsEditor)
	return map[string]string{"ISSUER": l.tn.Provider.Issuer, "SUB": l.claims.Subject}
}

// rotateSecret does what the provider's console does. Until the sidecar has the new secret nobody
// logs in.
func (d *drill) rotateSecret() {
	d.s.w.Wiki.Provider.Rotate(d.variables["SECRET"])
	d.wantShut(d.login(annsEditor))
}

// stealHop takes a hop header as it was before, which is good.
func (d *drill) stealHop() {
	hops := d.s.w.Front.Hops()
	d.stolen = hops[len(hops)-1]
	if status := d.askWithHop(); status != http.StatusOK {
		d.Fatalf("a hop header that is good: status %d", status)
	}
}

func (d *drill) wantStolenHopRefused() {
	if status := d.askWithHop(); status != http.StatusForbidden {
		d.Errorf("a hop header under the old key: status %d, want 403", status)
	}
}

func (d *drill) askWithHop() int {
	status, _, err := rig.AskReplica(d.Context(), d.s.w.Replicas[0], http.MethodGet, "/.well-known/oauth-authorization-server", d.stolen)
	if err != nil {
		d.Fatal(err)
	}
	return status
}

// forge does what anybody with the master can do: bob's access token says that he is ann. The
// plugin believes it.
func (d *drill) forge() {
	ring, err := sealing.ParseRing(d.s.variables()["BOUNCER_ENCRYPTION_KEY"])
	if err != nil {
		d.Fatal(err)
	}
	bob := d.login(bobsEditor)
	header, payload, _ := strings.Cut(bob.access, ".")
	payload, _, _ = strings.Cut(payload, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		d.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		d.Fatal(err)
	}
	issued := time.Unix(int64(claims["iat"].(float64)), 0)
	claims["sub"] = d.login(annsEditor).claims.Subject
	if raw, err = json.Marshal(claims); err != nil {
		d.Fatal(err)
	}
	tenant := sealing.Tenant{
		PublicURL: bob.tn.PublicHTTPS(), Resource: bob.tn.Name, Audience: bob.tn.Name,
		// since the page tenant
		UpstreamIssuer: bob.tn.Provider.Issuer, UpstreamClientID: bob.tn.Provider.ClientID, Generation: 1,
	}
	// The defaults.
	key := ring.SigningKey(tenant.ID(), sealing.Schedule{Rotation: 30 * 24 * time.Hour, Overlap: 24 * time.Hour}, issued)
	signed := header + "." + base64.RawURLEncoding.EncodeToString(raw)
	d.stolen = signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
	if answer := bob.oauth.Get("/whoami", d.stolen); answer.Status != http.StatusOK || !strings.Contains(answer.Body, `"`+d.login(annsEditor).claims.Subject+`"`) {
		d.Fatalf("a token forged under the real master: %s", answer)
	}
}

func (d *drill) wantForgedRefused() {
	wantInvalidToken(d.T, d.login(bobsEditor).oauth.Get("/whoami", d.stolen))
}
