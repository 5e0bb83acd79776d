package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// program is an MCP client as people install it.
type program struct {
	name string
	ways []string // the first of them is gone in every run, the others with -matrix alone
	// does is what it does by its own commands: "works" where one of them calls a tool.
	does    string
	install func(t *testing.T, s site, way way) *installation
	// fixedPort is held while a program listens on the one port that it knows.
	fixedPort *sync.Mutex
	// big is one of programs/big, which only runs with -tags big install.
	big bool
}

var allPrograms = []program{
	{"mcp-remote", []string{dcrPublic, cimd}, "works", installMCPRemote, nil, false},
	{"mcp-remote of 2025", []string{dcrPublic}, "works", installOldMCPRemote, nil, false},
	{"MCP Inspector", []string{dcrPublic, preSecret}, "works", installInspector, nil, false},
	{"mcpdo, of the Inspector", []string{dcrPublic}, "works", installMcpdo, nil, false},
	{"Codex", []string{cimdOwn, dcrPublic, preSecret}, "works", installCodex, nil, true},
	{"Gemini CLI", []string{dcrPublic}, "works", installGemini, nil, false},
	{"Qwen Code", []string{dcrPublic}, "lists tools", installQwen, new(sync.Mutex), true},
	{"Claude Code", []string{cimdOwn, dcrNoDocuments, prePublic, preSecret}, "lists tools", installClaudeCode, nil, true},
	{"opencode", []string{dcrPublic}, "lists tools", installOpencode, nil, true},
	{"mcp-use", []string{dcrPublic}, "works", installMCPUse, new(sync.Mutex), true},
	{"mcporter", []string{dcrPublic, dcrFixed}, "works", installMcporter, nil, false},
}

// installed are those that this run has.
func installed() (these []program) {
	for _, program := range allPrograms {
		if bigToo || !program.big {
			these = append(these, program)
		}
	}
	return these
}

// isInstalled says whether this run has a client, if it is one of the programs.
func isInstalled(name string) bool {
	i := slices.IndexFunc(allPrograms, func(p program) bool { return p.name == name })
	return i < 0 || bigToo || !allPrograms[i].big
}

// programs are the same as clients, for tests of all of them.
var programs = func() (all []realClient) {
	for _, program := range allPrograms {
		all = append(all, realClient{program.name, program.ways, func(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
			t.Helper()
			if program.fixedPort != nil {
				program.fixedPort.Lock()
				defer program.fixedPort.Unlock()
			}
			p := program.install(t, siteOf(t, tn, w), way)
			p.mustLogIn()
			p.spoil()
			if !p.use() {
				p.put(p.before) // it gives up
				p.rewrite(expiry, "${1}1")
				if !p.use() {
					t.Errorf("%s does not refresh", p.name)
				}
			}
			return p.result(tn)
		}, program.does})
	}
	return all
}()

// programResult is what a program did at one tenant.
type programResult struct {
	loginResult
	refused, clock string
}

// What a program does about an access token.
const (
	refreshes      = "refreshes"
	logsInAnew     = "logs in anew"
	programGivesUp = "gives up"
	keepsOn        = "goes on" // with the token that it has
)

// The same with whole programs, by their own commands. Each logs in and is started again twice:
// with an access token that looks good to it, which Traefik's log shows to be answered 401, and
// with one whose time is over by what it has kept.
func TestRealPrograms(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	options := optionsForClients(host)
	log := filepath.Join(t.TempDir(), "access.log")
	options.Static = map[string]any{"accessLog": map[string]any{
		"filePath": log, "format": "json", "fields": map[string]any{"headers": map[string]any{"names": map[string]any{"Authorization": "redact"}}},
	}}
	worlds := map[bool]*rig.World{false: rig.New(t, options)}
	if *matrix {
		options.Sidecar["BOUNCER_METADATA_DOCUMENTS"] = "false"
		worlds[true] = rig.New(t, options)
	}
	results := map[clientAndWay]map[string]programResult{}
	var mu sync.Mutex
	t.Run("at", func(t *testing.T) {
		for _, tenant := range worlds[false].Tenants() {
			t.Run(tenant.Name, func(t *testing.T) {
				// but one login after the other: Dex has one refresh token for each user
				t.Parallel()
				for _, program := range installed() {
					for i, name := range program.ways {
						if i > 0 && !*matrix {
							break
						}
						t.Run(program.name+" by "+name, func(t *testing.T) {
							w, tn := worlds[name == dcrNoDocuments], tenant
							for _, other := range w.Tenants() {
								if other.Name == tenant.Name {
									tn = other
								}
							}
							way := newWay(t, tn, host, program.name, name)
							if name == dcrFixed || name == dcrNoDocuments {
								way = newWay(t, tn, host, program.name, dcrPublic)
								way.name = name
							}
							// it listens on localhost, not on 127.0.0.1
							if program.name == "Claude Code" && way.ClientID != "" {
								auth := "none"
								if way.ClientSecret != "" {
									auth = "client_secret_basic"
								}
								way.ClientID, way.ClientSecret = tn.CreateClient(program.name, auth, "http://localhost"+callbackPath)
							}
							if program.fixedPort != nil {
								program.fixedPort.Lock()
								defer program.fixedPort.Unlock()
							}
							got := useProgram(t, program, tn, w, way, log)
							if way.MetadataURL != "" && host.Reads(way.MetadataURL) == 0 {
								t.Error("nobody has read the client's metadata document")
							}
							mu.Lock()
							defer mu.Unlock()
							r := clientAndWay{program.name, name}
							if results[r] == nil {
								results[r] = map[string]programResult{}
							}
							results[r][tn.Name] = got
						})
					}
				}
			})
		}
	})
	var rows []string
	complete := true
	for _, program := range allPrograms {
		for _, way := range program.ways {
			wiki, world := results[clientAndWay{program.name, way}]["wiki"], results[clientAndWay{program.name, way}]["world"]
			if wiki.Sub == "" || world.Sub == "" {
				complete = false
				continue
			}
			old, current := wiki.Revision, world.Revision
			wiki.Sub, world.Sub, wiki.Revision, world.Revision = "", "", "", ""
			if wiki != world {
				t.Errorf("%s by %s differs between the tenants: %+v and %+v", program.name, way, wiki, world)
			}
			asks := "`" + wiki.scopes + "`"
			if wiki.prompt != "" {
				asks += ", `prompt=" + wiki.prompt + "`"
			}
			rows = append(rows, fmt.Sprintf("| %s (`%s`) | %s | %s | %s | %s | %s, %s | %s, %s | %s | %s |\n",
				program.name, wiki.Package, wiki.Version, way, wiki.Authentication, asks, program.does, old, program.does, current, wiki.refused, wiki.clock))
		}
	}
	compareRows(t, "clients.md", "| client | version | way | authenticates by | asks for | at Dex, server with sessions | at zitadel/oidc, server without | token refused before its time | its time over |\n|---|---|---|---|---|---|---|---|---|\n",
		rows, complete)
}

// compareRows compares rows of a table in a page of docs that the test generates, or writes them
// all.
func compareRows(t *testing.T, page, head string, rows []string, complete bool) {
	t.Helper()
	if t.Failed() {
		return
	}
	part := partOf(t, page)
	old := part.read(t)
	table := head + strings.Join(rows, "")
	if *update && complete {
		part.write(t, table)
		return
	}
	for _, row := range append(rows, head) {
		if !strings.Contains(old, row) {
			t.Errorf("docs/%s is stale: go test -tags big -run '^%s$' . -matrix -update. It has no row\n%s", page, t.Name(), row)
		}
	}
	if complete && old != table {
		t.Errorf("docs/%s has more than this:\n%s", page, table)
	}
}

// useProgram lets a program live: login, a refused token, a token that is over.
func useProgram(t *testing.T, program program, tn *rig.Tenant, w *rig.World, way way, log string) (got programResult) {
	t.Helper()
	asked := len(tn.TokenRequests())
	p := program.install(t, siteOf(t, tn, w), way)
	p.mustLogIn()
	p.got.Authentication = authenticationOf(tn.TokenRequests()[asked])
	once := func() string {
		t.Helper()
		logins, asked := len(p.asked), len(tn.TokenRequests())
		used := p.use()
		refreshed := slices.ContainsFunc(tn.TokenRequests()[asked:], func(r rig.TokenRequest) bool {
			return r.Form.Get("grant_type") == "refresh_token" && r.Status == http.StatusOK
		})
		switch {
		case !used:
			p.put(p.before)
			return programGivesUp
		case len(p.asked) > logins:
			return logsInAnew
		case refreshed:
			return refreshes
		}
		return keepsOn
	}
	refused := func() int { return refusedTokens(t, log, way.Server) }

	before := refused()
	p.spoil()
	got.refused = once()
	rig.WaitFor(t, "a token that is refused", func() error { // the log is written after the answer
		if refused() == before {
			return errors.New("Traefik's log has none")
		}
		return nil
	})
	if got.refused == keepsOn {
		t.Errorf("%s used the server with a token that is refused", p.name)
	}

	before = refused()
	got.clock = keepsOn // as it keeps no time
	if k := p.keeps(); expiry.Match(k.text) {
		p.rewrite(expiry, "${1}1")
		got.clock = once()
		if after := refused(); after != before && got.clock == refreshes {
			t.Errorf("%s: %d tokens were refused before it refreshed by the clock", p.name, after-before)
		}
	} else if o := once(); o != keepsOn {
		t.Errorf("%s, with a token that is good: %s", p.name, o)
	}
	got.loginResult = p.result(tn)
	return got
}

// refusedTokens counts in Traefik's log the requests to an MCP server with a token that were
// answered 401.
func refusedTokens(t *testing.T, log, server string) (n int) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var entry struct {
			RequestAddr, RequestPath string
			DownstreamStatus         int
			Authorization            string `json:"request_Authorization"`
		}
		if json.Unmarshal(line, &entry) == nil && "http://"+entry.RequestAddr+entry.RequestPath == server && entry.Authorization != "" && entry.DownstreamStatus == http.StatusUnauthorized {
			n++
		}
	}
	return n
}

// dcrFixed is for a program that listens on another port each time, unless it is told one.
const dcrFixed = "DCR, public, `oauthRedirectUrl` set"

// dcrNoDocuments is for one that registers only where the server takes no metadata documents.
const dcrNoDocuments = "DCR, public, `BOUNCER_METADATA_DOCUMENTS=false`"

// site is where a program goes, and the person in front of it.
type site struct {
	name string
	logs *rig.Logs
	// allow opens an authorization URL in a browser, logs in, and brings the answer to the program.
	allow func(ctx context.Context, asked *url.URL) error
	sub   func() string // of the person, as the MCP server knows them
}

func siteOf(t *testing.T, tn *rig.Tenant, w *rig.World) site {
	return site{tn.Name, w.Logs, func(ctx context.Context, asked *url.URL) error {
		browser := tn.Browser()
		back, err := browser.Visit(ctx, asked.String(), asked.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		// Some print the URL before they listen. No person is as fast.
		rig.WaitFor(t, asked.Query().Get("redirect_uri"), func() error {
			_, err = browser.Load(ctx, back.String())
			return err
		})
		return nil
	}, func() string {
		seen := tn.MCP.Requests("/mcp")
		return seen[len(seen)-1].Header.Get("X-Mcp-Sub")
	}}
}

// installation is a program on the machine of a person who has nothing else: no browser, no
// keyring.
type installation struct {
	t     *testing.T
	site  site
	name  string
	home  string
	env   []string
	runs  int
	asked []*url.URL // that the program wanted to have opened

	got loginResult

	// What it takes to log in, and to use the server with what the program has kept. Both return
	// whether that went well.
	login, use func() bool
	before     kept // what it kept before the last change

	patience time.Duration // with a program that does not end; 0 is: a fault of the test
	waiting  bool          // after it has ended
}

// install reads the version that is installed. The folder may be a pattern.
func install(t *testing.T, s site, way way, name, folder string, env ...string) *installation {
	t.Helper()
	home := t.TempDir()
	p := &installation{t: t, site: s, name: s.name + " " + path.Base(t.Name()), home: home, got: loginResult{Package: name}}
	p.env = append([]string{"HOME=" + home, "PATH=" + home, "NO_COLOR=1", "DO_NOT_TRACK=1"}, env...)
	b, err := os.ReadFile(rig.Installed(t, "programs/"+folder+"/package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &p.got); err != nil {
		t.Fatal(err)
	}
	// codex has one version for each platform
	p.got.Version, _, _ = strings.Cut(p.got.Version, "-linux")
	return p
}

// write puts a configuration file into the home directory.
func (p *installation) write(name, content string) {
	p.t.Helper()
	file := filepath.Join(p.home, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// command runs a file of ../programs with arguments. JavaScript runs on the Node.js of ../node.
func (p *installation) command(file string, args ...string) *exec.Cmd {
	p.t.Helper()
	args = append([]string{rig.Installed(p.t, "programs/"+file)}, args...)
	if strings.HasSuffix(file, "js") {
		args = append([]string{rig.Installed(p.t, "node/node_modules/node-linux-*/bin/node")}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = p.home, p.env
	return cmd
}

func (p *installation) start(cmd *exec.Cmd) *rig.Process {
	p.t.Helper()
	p.runs++
	return rig.StartProcess(p.t, p.site.logs, fmt.Sprintf("%s %d", p.name, p.runs), cmd)
}

// onTerminal starts a program that wants a terminal.
func (p *installation) onTerminal(cmd *exec.Cmd) *rig.Process {
	p.t.Helper()
	p.runs++
	return rig.StartOnTerminal(p.t, p.site.logs, fmt.Sprintf("%s %d", p.name, p.runs), cmd)
}

// authorizationURL is what programs print for a person whose browser did not open. On a terminal it
// may be a link (OSC 8), which ends with a control character; in JSON it is a string.
var authorizationURL = regexp.MustCompile(`((?:http://localhost|https://127\.0\.0\.1):\d+/(?:\w+/)*authorize\?[^\s"[:cntrl:]]+)["\s[:cntrl:]]`)

// attend waits until the process has ended, or until it has written what until matches, as somebody
// does who opens the URL that it prints. It returns what it wrote.
func (p *installation) attend(process *rig.Process, until *regexp.Regexp) string {
	p.t.Helper()
	p.watch(process.Name, func() (string, bool) {
		ended := process.Exited()
		wrote := p.site.logs.Text(process.Name)
		return wrote, ended || until != nil && until.MatchString(wrote)
	})
	return p.site.logs.Text(process.Name)
}

// watch opens the URL that is in what a program wrote, until the program has done what it should,
// or patience ends.
func (p *installation) watch(name string, program func() (wrote string, done bool)) {
	p.t.Helper()
	var opened bool
	began := time.Now()
	for {
		wrote, done := program()
		if m := authorizationURL.FindStringSubmatch(wrote); m != nil && !opened {
			opened = true
			p.open(m[1])
		}
		if done {
			return
		}
		if time.Since(began) > cmp.Or(p.patience, 2*time.Minute) {
			p.waiting = true
			if p.patience == 0 {
				p.t.Fatalf("%s is still running:\n%s", name, wrote)
			}
			return
		}
		<-time.After(rig.Pause(began))
	}
}

func (p *installation) open(authorizationURL string) {
	p.t.Helper()
	asked, err := url.Parse(strings.ReplaceAll(authorizationURL, `\u0026`, "&"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.asked = append(p.asked, asked)
	switch err := p.site.allow(p.t.Context(), asked); {
	case err != nil && p.patience == 0:
		p.t.Fatal(err)
	case err != nil:
		p.t.Logf("%s asked for a login and did not want it: %v", p.name, err)
	}
}

// ends is attend until the end, which has to be a good one, with these words.
func (p *installation) ends(process *rig.Process, words string) bool {
	p.t.Helper()
	wrote := p.attend(process, nil)
	if !process.Exited() {
		process.Kill()
		return false
	}
	return process.Wait(p.t) == 0 && strings.Contains(wrote, words)
}

// calls is ends for a program that calls the tool whoami.
func (p *installation) calls(process *rig.Process) bool {
	p.t.Helper()
	return p.ends(process, "") && strings.Contains(p.site.logs.Text(process.Name), p.site.sub())
}

// aToken is before an access token in what programs keep; in one of them that is JSON in JSON.
var aToken = regexp.MustCompile(`"access_?[tT]oken\\?": ?\\?"`)

// accessToken is one of the sidecar's.
var accessToken = regexp.MustCompile(`(eyJ[\w-]+\.[\w-]+\.)[\w-]{10}`)

// kept is what a program keeps of its login.
type kept struct {
	file string
	text []byte
}

// keeps finds the file with the access token.
func (p *installation) keeps() kept {
	p.t.Helper()
	var found []kept
	err := filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if json.Valid(b) && aToken.Match(b) {
			found = append(found, kept{path, b})
		}
		return err
	})
	if err != nil || len(found) != 1 {
		p.t.Fatalf("%d files have an access token: %v", len(found), err)
	}
	return found[0]
}

// rewrite changes it.
func (p *installation) rewrite(what *regexp.Regexp, to string) {
	p.t.Helper()
	p.before = p.keeps()
	if !what.Match(p.before.text) {
		p.t.Fatalf("%s has no %s", p.before.file, what)
	}
	p.put(kept{p.before.file, what.ReplaceAll(p.before.text, []byte(to))})
}

func (p *installation) put(k kept) {
	p.t.Helper()
	if err := os.WriteFile(k.file, k.text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// expiry is when an access token ends, in seconds or milliseconds, as programs keep it.
var expiry = regexp.MustCompile(`("expires_?[aA]t": ?)\d+(\.\d+)?`)

// spoil damages the access token that the program keeps: to the program it is one that has ended
// before its time.
func (p *installation) spoil() { p.t.Helper(); p.rewrite(accessToken, "${1}AAAAAAAAAA") }

// result returns what the MCP server learned of the program's last connection.
func (p *installation) result(tn *rig.Tenant) loginResult {
	p.t.Helper()
	seen := tn.MCP.Requests("/mcp")
	last := seen[len(seen)-1].Header
	p.got.Sub, p.got.Revision = last.Get("X-Mcp-Sub"), last.Get("Mcp-Protocol-Version")
	if p.got.Revision == "" {
		p.got.Revision = "names no revision"
	}
	return p.got
}

// mustLogIn fails the test when the login does.
func (p *installation) mustLogIn() {
	p.t.Helper()
	if !p.login() || len(p.asked) == 0 {
		p.t.Fatalf("%s does not log in", p.name)
	}
	p.got.ask(p.asked[0].Query())
}

// loopback returns a redirect URI for the program alone.
func loopback(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("http://127.0.0.1:%d%s", rig.FreePort(t), callbackPath)
}

// installMCPRemote logs in with its command for that. Then it stands between a desktop program,
// here the Go SDK, and the server.
func installMCPRemote(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "mcp-remote", "node_modules/mcp-remote")
	args := append(typed(t, "others.md", "npx -p mcp-remote mcp-remote-client "+connectURL, 4, way), fmt.Sprint(rig.FreePort(t)), "--host", "127.0.0.1", "--callback-path", callbackPath)
	if way.MetadataURL != "" {
		args = append(args, "--client-metadata-url", way.MetadataURL)
	}
	const dist = "node_modules/mcp-remote/dist/"
	p.login = func() bool { return p.ends(p.start(p.command(dist+"client.js", args...)), "") }
	p.use = func() bool { return p.standsBetween(p.command(dist+"proxy.js", args...)) }
	return p
}

func (p *installation) standsBetween(cmd *exec.Cmd) bool {
	p.t.Helper()
	said, err := os.Create(filepath.Join(p.home, "said"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer said.Close()
	cmd.Stderr = said
	ctx, cancel := context.WithCancel(p.t.Context())
	used := make(chan bool, 1)
	go func() {
		session, err := mcp.NewClient(&mcp.Implementation{Name: "desktop", Version: "1"}, nil).
			Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			used <- false
			return
		}
		defer session.Close()
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "whoami"})
		used <- err == nil && strings.Contains(fmt.Sprint(result.StructuredContent), p.site.sub())
	}()
	ended, ok := false, false
	p.watch(p.name, func() (string, bool) {
		b, err := os.ReadFile(said.Name())
		if err != nil {
			p.t.Fatal(err)
		}
		select {
		case ok = <-used:
			ended = true
		default:
		}
		return string(b), ended
	})
	cancel()
	if !ended {
		<-used
	}
	return ok
}

// installOldMCPRemote installs a release that asks for `openid email profile`, and for nothing
// else. It does not answer a desktop program that asks for server/discover, so the one here does
// not.
func installOldMCPRemote(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "mcp-remote", "node_modules/mcp-remote-0.1.31")
	const dist = "node_modules/mcp-remote-0.1.31/dist/"
	args := []string{way.Server, fmt.Sprint(rig.FreePort(t)), "--host", "127.0.0.1"}
	p.login = func() bool { return p.ends(p.start(p.command(dist+"client.js", args...)), "") }
	p.use = func() bool {
		c := p.converse(p.command(dist+"proxy.js", args...))
		defer c.end()
		c.call(1, "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"desktop","version":"1"}}`)
		c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		return strings.Contains(c.call(2, "tools/call", `{"name":"whoami","arguments":{}}`), p.site.sub())
	}
	return p
}

// conversation is with a program that reads JSON-RPC from standard input.
type conversation struct {
	p       *installation
	process *rig.Process
	in      *io.PipeWriter
}

func (p *installation) converse(cmd *exec.Cmd) *conversation {
	p.t.Helper()
	in, out := io.Pipe()
	cmd.Stdin = in
	return &conversation{p, p.start(cmd), out}
}

// nobody reads when the program has ended
func (c *conversation) send(line string) { go fmt.Fprintln(c.in, line) }

// call returns the answer; "" when the program has ended without one.
func (c *conversation) call(id int, method, params string) string {
	c.p.t.Helper()
	c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params))
	answer := regexp.MustCompile(fmt.Sprintf(`(?m)^\{.*"id":%d[,}].*$`, id))
	return answer.FindString(c.p.attend(c.process, answer))
}

func (c *conversation) end() {
	c.in.Close()
	c.process.Terminate(c.p.t)
}

func installInspector(t *testing.T, s site, way way) *installation {
	t.Helper()
	const name = "@modelcontextprotocol/inspector"
	p := install(t, s, way, name, "node_modules/"+name, "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file")
	list := typed(t, "inspector.md", "npx @modelcontextprotocol/inspector --cli --server-url "+connectURL+" --transport http --method tools/list", 2, way)
	more := []string{"--protocol-era", "auto", "--callback-url", loopback(t)}
	if way.ClientID != "" {
		more = append(more, "--client-id", way.ClientID, "--client-secret", way.ClientSecret)
	}
	inspector := func(args ...string) *rig.Process {
		return p.start(p.command("node_modules/"+name+"/clients/launcher/build/index.js", append(args, more...)...))
	}
	p.login = func() bool { return p.ends(inspector(list...), "whoami") }
	p.use = func() bool {
		return p.calls(inspector(append(list[:len(list)-1:len(list)-1], "tools/call", "--tool-name", "whoami")...))
	}
	return p
}

// installMcpdo installs the Inspector's other command, which keeps connections in a daemon. The
// daemon ends before its tokens are looked at.
func installMcpdo(t *testing.T, s site, way way) *installation {
	t.Helper()
	const name = "@modelcontextprotocol/inspector"
	p := install(t, s, way, name, "node_modules/"+name, "MCP_INSPECTOR_SECRET_STORE=file", "MCP_OAUTH_CALLBACK_URL="+loopback(t))
	do := func(args ...string) *rig.Process {
		return p.start(p.command("node_modules/"+name+"/clients/mcpdo/build/mcp-bin.js", append([]string{"--catalog", filepath.Join(p.home, "mcp.json")}, args...)...))
	}
	catalog, _ := json.Marshal(map[string]any{"mcpServers": map[string]any{"mcp": map[string]any{"type": "streamable-http", "url": way.Server, "protocolEra": "auto"}}})
	p.write("mcp.json", string(catalog))
	p.use = func() bool {
		asked := len(p.asked)
		defer p.stopDaemon(do)
		ok := p.ends(do("connect", "mcp"), "")
		if len(p.asked) > asked {
			ok = p.ends(do("connections/show", "@mcp"), "")
		}
		return ok && p.calls(do("@mcp", "tools/call", "whoami"))
	}
	p.login = p.use
	return p
}

// stopDaemon ends mcpdo's daemon. The command comes back before the daemon is gone, and the next
// one would meet it at its end.
func (p *installation) stopDaemon(do func(...string) *rig.Process) {
	p.t.Helper()
	p.attend(do("daemon", "stop"), nil)
	rig.WaitFor(p.t, "mcpdo's daemon to be gone", func() error {
		conn, err := net.Dial("unix", filepath.Join(p.home, ".mcp-inspector", "mcpdod.sock"))
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("it listens")
	})
}

const codex = "big/node_modules/codex-linux-*/vendor/*/bin/codex"

// installCodex logs in with its commands for that. Its app server, which editors talk to, calls
// tools without a model.
func installCodex(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "@openai/codex", "big/node_modules/codex-linux-*")
	// The model is asked nothing, and nobody listens there.
	p.write(".codex/config.toml", `check_for_update_on_startup = false
mcp_oauth_credentials_store = "file"
model_provider = "nobody"
[model_providers.nobody]
name = "nobody"
base_url = "http://127.0.0.1:9"
[analytics]
enabled = false
[feedback]
enabled = false
`)
	line := "codex mcp add wiki --url " + connectURL
	if way.ClientID != "" {
		line += " --oauth-client-id CLIENT_ID --oauth-client-secret CLIENT_SECRET"
	}
	args := typed(t, "codex.md", line, 1, way)
	if way.name == dcrPublic {
		args = append(args, "--oauth-client-registration", "dcr")
	}
	added := false
	p.login = func() bool {
		if added {
			return p.ends(p.start(p.command(codex, typed(t, "codex.md", "codex mcp login wiki", 1, way)...)), "")
		}
		added = true
		return p.ends(p.start(p.command(codex, args...)), "") && p.ends(p.start(p.command(codex, typed(t, "codex.md", "codex mcp list", 1, way)...)), "OAuth")
	}
	p.use = func() bool {
		c := p.converse(p.command(codex, "app-server"))
		defer c.end()
		c.call(1, "initialize", `{"clientInfo":{"name":"editor","version":"1"}}`)
		thread := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(c.call(2, "thread/start", `{"ephemeral":true}`))
		if thread == nil {
			t.Fatalf("no thread:\n%s", s.logs.Text(c.process.Name))
		}
		answer := c.call(3, "mcpServer/tool/call", fmt.Sprintf(`{"threadId":%q,"server":"wiki","tool":"whoami","arguments":{}}`, thread[1]))
		return strings.Contains(answer, s.sub())
	}
	return p
}

// installGemini adds the server by the program's own command. The rest is its own code for MCP
// servers, which gemini.mjs finds in the program.
func installGemini(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "@google/gemini-cli", "node_modules/@google/gemini-cli")
	add := typed(t, "gemini-cli.md", "gemini mcp add --scope user --transport http wiki "+connectURL, 1, way)
	if !p.ends(p.start(p.command("node_modules/@google/gemini-cli/bundle/gemini.js", add...)), "") {
		t.Fatal("gemini mcp add")
	}
	p.login = func() bool {
		login := p.command("gemini.mjs", way.Server, "login")
		login.Stdin = strings.NewReader("y\n")
		return p.calls(p.start(login))
	}
	p.use = func() bool { return p.calls(p.start(p.command("gemini.mjs", way.Server))) }
	return p
}

func installQwen(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "@qwen-code/qwen-code", "big/node_modules/@qwen-code/qwen-code", "TERM=xterm")
	const program = "big/node_modules/@qwen-code/qwen-code/cli-entry.js"
	p.ends(p.start(p.command(program, typed(t, "others.md", "qwen mcp add --scope user --transport http wiki "+connectURL, 1, way)...)), "")
	p.login = func() bool { return p.ends(p.start(p.command("big/qwen.mjs", way.Server)), "") }
	p.use = func() bool {
		return p.ends(p.start(p.command(program, typed(t, "others.md", "qwen mcp reconnect --all", 1, way)...)), "Reconnected successfully")
	}
	return p
}

func installOpencode(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "opencode-ai", "big/node_modules/opencode-linux-*", opencodeEnv...)
	shown := shownJSON(t, "others.md", `"type": "remote"`, way)
	shown["autoupdate"], shown["share"] = false, "disabled"
	shown["mcp"].(map[string]any)["wiki"].(map[string]any)["oauth"] = map[string]any{"redirectUri": loopback(t)}
	config, _ := json.Marshal(shown)
	p.write(".config/opencode/opencode.json", string(config))
	p.login = func() bool {
		return p.ends(p.start(p.command(opencode, typed(t, "others.md", "opencode mcp auth wiki", 1, way)...)), "")
	}
	// It has no command that calls a tool.
	p.use = func() bool {
		return p.ends(p.start(p.command(opencode, typed(t, "others.md", "opencode mcp list", 1, way)...)), "connected")
	}
	return p
}

const opencode = "big/node_modules/opencode-linux-*/bin/opencode"

var opencodeEnv = []string{
	"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1",
	"OPENCODE_PURE=1", "npm_config_offline=true",
}

const claudeCode = "big/node_modules/claude-code-linux-*/claude"

// installClaudeCode logs in with its command for that, which wants a terminal. Its list of servers
// connects to each; only a model calls tools.
func installClaudeCode(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "@anthropic-ai/claude-code", "big/node_modules/claude-code-linux-*",
		"DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "TERM=xterm", "MCP_TIMEOUT=60000")
	const page = "claude-code.md"
	line := "claude mcp add --transport http wiki " + connectURL
	if way.ClientID != "" {
		line = "claude mcp add --transport http --client-id CLIENT_ID --callback-port 8123 wiki " + connectURL
	}
	args := typed(t, page, line, 1, way)
	if way.ClientSecret != "" {
		args = slices.Insert(args, 2, "--client-secret")
		p.env = append(p.env, "MCP_CLIENT_SECRET="+way.ClientSecret)
	}
	if !p.ends(p.start(p.command(claudeCode, args...)), "") {
		t.Fatal("claude mcp add")
	}
	p.login = func() bool {
		return p.ends(p.onTerminal(p.command(claudeCode, typed(t, page, "claude mcp login wiki", 1, way)...)), "")
	}
	p.use = func() bool {
		return p.ends(p.start(p.command(claudeCode, typed(t, page, "claude mcp list", 1, way)...)), "Connected")
	}
	return p
}

func installMCPUse(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "mcp-use", "big/node_modules/mcp-use", "MCP_USE_ANONYMIZED_TELEMETRY=false")
	const program = "big/node_modules/@mcp-use/cli/dist/index.cjs"
	run := func(line string) *rig.Process {
		return p.start(p.command(program, typed(t, "others.md", line, 1, way)...))
	}
	p.login = func() bool { return p.ends(run("mcp-use client connect wiki "+connectURL), "") }
	p.use = func() bool { return p.calls(run("mcp-use client wiki tools call whoami")) }
	return p
}

func installMcporter(t *testing.T, s site, way way) *installation {
	t.Helper()
	p := install(t, s, way, "mcporter", "node_modules/mcporter", "MCPORTER_OAUTH_NO_BROWSER=1")
	shown := shownJSON(t, "others.md", `"auth": "oauth"`, way)
	if way.name == dcrFixed {
		shown["mcpServers"].(map[string]any)["wiki"].(map[string]any)["oauthRedirectUrl"] = loopback(t)
	}
	config, _ := json.Marshal(shown)
	p.write("config/mcporter.json", string(config))
	const program = "node_modules/mcporter/dist/cli.js"
	run := func(line string) *rig.Process {
		return p.start(p.command(program, typed(t, "others.md", line, 1, way)...))
	}
	p.login = func() bool { return p.ends(run("mcporter auth wiki"), "") }
	p.use = func() bool { return p.calls(run("mcporter call wiki.whoami")) }
	return p
}
