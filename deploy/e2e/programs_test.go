package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// programs are MCP clients as people install them.
var programs = []realClient{
	{"mcp-remote", []string{dcrPublic, cimd}, useMCPRemote, "works"},
	{"MCP Inspector", []string{dcrPublic, preSecret}, useInspector, "works"},
	{"Codex", []string{cimdOwn, dcrPublic, preSecret}, useCodex, "works"},
	{"Gemini CLI", []string{dcrPublic}, useGemini, "works"},
	{"Claude Code", []string{cimdOwn}, useClaudeCode, "lists tools"},
	// It has no command that calls a tool.
	{"opencode", []string{dcrPublic}, useOpencode, "lists tools"},
}

// The same with whole programs, by their own commands. Each logs in and is started again with an access token that is no longer good, so that it must refresh.
func TestRealPrograms(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	w := rig.New(t, optionsForClients(host))
	compareTable(t, programs, logInAllClients(t, w, host, programs))
}

// installation is a program on the machine of a person who has nothing else: no browser, no keyring.
type installation struct {
	t    *testing.T
	tn   *rig.Tenant
	w    *rig.World
	name string
	home string
	env  []string
	runs int

	got loginResult
}

// install reads the version that is installed. The folder may be a pattern.
func install(t *testing.T, tn *rig.Tenant, w *rig.World, way way, name, folder string, env ...string) *installation {
	t.Helper()
	home := t.TempDir()
	p := &installation{t: t, tn: tn, w: w, name: strings.Join([]string{name, tn.Name, way.name}, " "), home: home, got: loginResult{Package: name}}
	p.env = append([]string{"HOME=" + home, "PATH=" + home, "NO_COLOR=1", "DO_NOT_TRACK=1"}, env...)
	b, err := os.ReadFile(rig.Installed(t, "programs/node_modules/"+folder+"/package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &p.got); err != nil {
		t.Fatal(err)
	}
	p.got.Version, _, _ = strings.Cut(p.got.Version, "-linux") // codex has one version for each platform
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

// command is a file of ../programs with arguments. JavaScript runs on the Node.js of ../node.
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
	return rig.StartProcess(p.t, p.w.Logs, fmt.Sprintf("%s %d", p.name, p.runs), cmd)
}

// onTerminal is start for a program that wants a terminal.
func (p *installation) onTerminal(cmd *exec.Cmd) *rig.Process {
	p.t.Helper()
	p.runs++
	return rig.StartOnTerminal(p.t, p.w.Logs, fmt.Sprintf("%s %d", p.name, p.runs), cmd)
}

// end waits until the process has ended well, and returns what it wrote.
func (p *installation) end(process *rig.Process) string {
	p.t.Helper()
	if code := process.Wait(p.t); code != 0 {
		p.t.Fatalf("%s ended with %d:\n%s", process.Name, code, p.w.Logs.Text(process.Name))
	}
	return p.w.Logs.Text(process.Name)
}

// authorizationURL is what programs print for a person whose browser did not open. On a terminal it
// may be a link (OSC 8), which ends with a control character.
var authorizationURL = regexp.MustCompile(`(http://localhost:\d+/\w+/oauth/authorize\?[^\s[:cntrl:]]+)[\s[:cntrl:]]`)

// logIn starts the program, opens the URL that it prints and waits until the program has ended.
func (p *installation) logIn(cmd *exec.Cmd) {
	p.t.Helper()
	p.logInBy(p.start(cmd))
}

// logInBy is logIn with a process that has been started.
func (p *installation) logInBy(process *rig.Process) {
	p.t.Helper()
	asked, err := url.Parse(process.Say(p.t, p.w.Logs, authorizationURL))
	if err != nil {
		p.t.Fatal(err)
	}
	p.got.ask(asked.Query())
	browser := p.tn.Browser()
	back, err := browser.Visit(p.t.Context(), asked.String(), asked.Query().Get("redirect_uri"))
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := browser.Load(p.t.Context(), back.String()); err != nil {
		p.t.Fatal(err)
	}
	p.end(process)
}

var accessToken = regexp.MustCompile(`(eyJ[\w-]+\.[\w-]+\.)[\w-]{10}`)

// spoil damages the access token that the program keeps. To the program it is one that has ended before its time.
func (p *installation) spoil() { p.t.Helper(); p.rewrite(accessToken, "${1}AAAAAAAAAA") }

// rewrite changes what the program keeps of its login.
func (p *installation) rewrite(what *regexp.Regexp, to string) {
	p.t.Helper()
	files := 0
	err := filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !accessToken.Match(b) || !what.Match(b) {
			return err
		}
		files++
		return os.WriteFile(path, what.ReplaceAll(b, []byte(to)), 0o600)
	})
	if err != nil || files != 1 {
		p.t.Fatalf("%d files were rewritten: %v", files, err)
	}
}

// result is what the MCP server learned of the program's last connection. wrote is the answer of the tool whoami, or empty.
func (p *installation) result(wrote string) loginResult {
	p.t.Helper()
	seen := p.tn.MCP.Requests("/mcp")
	last := seen[len(seen)-1].Header
	p.got.Sub, p.got.Revision = last.Get("X-Mcp-Sub"), last.Get("Mcp-Protocol-Version")
	if p.got.Revision == "" {
		p.got.Revision = "names no revision"
	}
	if wrote != "" && !strings.Contains(wrote, p.got.Sub) {
		p.t.Errorf("the tool was not called by %s:\n%s", p.got.Sub, wrote)
	}
	return p.got
}

// loopback is a redirect URI for the program alone.
func loopback(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("http://127.0.0.1:%d%s", rig.FreePort(t), callbackPath)
}

// useMCPRemote logs in with its command for that, then puts the program between the Go SDK and the server, as it stands between desktop programs and servers.
func useMCPRemote(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	p := install(t, tn, w, way, "mcp-remote", "mcp-remote")
	args := []string{way.Server, fmt.Sprint(rig.FreePort(t)), "--host", "127.0.0.1", "--callback-path", callbackPath}
	if way.MetadataURL != "" {
		args = append(args, "--client-metadata-url", way.MetadataURL)
	}
	const dist = "node_modules/mcp-remote/dist/"
	p.logIn(p.command(dist+"client.js", args...))
	p.spoil()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "desktop", Version: "1"}, nil).
		Connect(t.Context(), &mcp.CommandTransport{Command: p.command(dist+"proxy.js", args...)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
	if err != nil {
		t.Fatal(err)
	}
	return p.result(fmt.Sprint(result.StructuredContent))
}

func useInspector(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	const name = "@modelcontextprotocol/inspector"
	p := install(t, tn, w, way, name, name, "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file")
	args := []string{"--cli", "--server-url", way.Server, "--transport", "http", "--protocol-era", "auto", "--callback-url", loopback(t), "--method", "tools/call", "--tool-name", "whoami"}
	if way.ClientID != "" {
		args = append(args, "--client-id", way.ClientID, "--client-secret", way.ClientSecret)
	}
	const program = "node_modules/" + name + "/clients/launcher/build/index.js"
	p.logIn(p.command(program, args...))
	p.spoil()
	return p.result(p.end(p.start(p.command(program, args...))))
}

// useCodex logs in with its commands for that. Its app server, which editors talk to, calls tools without a model.
func useCodex(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	p := install(t, tn, w, way, "@openai/codex", "codex-linux-*")
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
	args := []string{"mcp", "add", "mcp", "--url", way.Server}
	if way.name == dcrPublic {
		args = append(args, "--oauth-client-registration", "dcr")
	}
	if way.ClientID != "" {
		args = append(args, "--oauth-client-id", way.ClientID, "--oauth-client-secret", way.ClientSecret)
	}
	const program = "node_modules/codex-linux-*/vendor/*/bin/codex"
	p.logIn(p.command(program, args...))
	p.spoil()

	cmd := p.command(program, "app-server")
	in, out := io.Pipe()
	cmd.Stdin = in
	server := p.start(cmd)
	call := func(id int, method, params string) string {
		t.Helper()
		fmt.Fprintf(out, `{"id":%d,"method":%q,"params":%s}`+"\n", id, method, params)
		return server.Say(t, w.Logs, regexp.MustCompile(fmt.Sprintf(`(?m)^\{"id":%d,(.*)\}$`, id)))
	}
	call(1, "initialize", `{"clientInfo":{"name":"editor","version":"1"}}`)
	thread := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(call(2, "thread/start", `{"ephemeral":true}`))
	if thread == nil {
		t.Fatalf("no thread:\n%s", w.Logs.Text(server.Name))
	}
	answer := call(3, "mcpServer/tool/call", fmt.Sprintf(`{"threadId":%q,"server":"mcp","tool":"whoami","arguments":{}}`, thread[1]))
	out.Close()
	p.end(server)
	return p.result(answer)
}

func useGemini(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	p := install(t, tn, w, way, "@google/gemini-cli", "@google/gemini-cli")
	login := p.command("gemini.mjs", way.Server, "login")
	login.Stdin = strings.NewReader("y\n")
	p.logIn(login)
	// It refreshes a token whose time is over, and no other.
	p.rewrite(regexp.MustCompile(`"expiresAt": \d+`), `"expiresAt": 1`)
	return p.result(p.end(p.start(p.command("gemini.mjs", way.Server))))
}

func useOpencode(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	p := install(t, tn, w, way, "opencode-ai", "opencode-linux-*",
		"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1",
		"OPENCODE_PURE=1", "npm_config_offline=true")
	config, _ := json.Marshal(map[string]any{
		"autoupdate": false, "share": "disabled",
		"mcp": map[string]any{"mcp": map[string]any{"type": "remote", "url": way.Server, "oauth": map[string]any{"redirectUri": loopback(t)}}},
	})
	p.write(".config/opencode/opencode.json", string(config))
	const program = "node_modules/opencode-linux-*/bin/opencode"
	p.logIn(p.command(program, "mcp", "auth", "mcp"))
	p.spoil()
	if wrote := p.end(p.start(p.command(program, "mcp", "list"))); !strings.Contains(wrote, "connected") {
		t.Errorf("opencode mcp list:\n%s", wrote)
	}
	return p.result("")
}

// useClaudeCode logs in with its command for that, which wants a terminal. Its list of servers
// connects to each; only a model calls tools.
func useClaudeCode(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	p := install(t, tn, w, way, "@anthropic-ai/claude-code", "claude-code-linux-*", "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "TERM=xterm")
	const program = "node_modules/claude-code-linux-*/claude"
	p.end(p.start(p.command(program, "mcp", "add", "--transport", "http", "mcp", way.Server)))
	p.logInBy(p.onTerminal(p.command(program, "mcp", "login", "mcp")))
	p.spoil()
	if wrote := p.end(p.start(p.command(program, "mcp", "list"))); !strings.Contains(wrote, "Connected") {
		t.Errorf("claude mcp list:\n%s", wrote)
	}
	return p.result("")
}

// While the provider hangs, Claude Code goes on with an access token that bridges the outage: it
// waits once, and does not refresh before each request, as it does when a token has 300 seconds or
// less.
func TestClaudeCodeInAnOutageOfTheProvider(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	options := optionsForClients(host)
	options.Labels["world/upstreamCheckInterval"] = "0" // each refresh asks the provider
	w := rig.New(t, options)
	tn := w.World
	p := install(t, tn, w, newWay(t, tn, host, "Claude Code", cimdOwn), "@anthropic-ai/claude-code", "claude-code-linux-*",
		"DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "TERM=xterm", "MCP_TIMEOUT=60000")
	const program = "node_modules/claude-code-linux-*/claude"
	p.end(p.start(p.command(program, "mcp", "add", "--transport", "http", "mcp", tn.PublicHTTP()+"/mcp")))
	p.logInBy(p.onTerminal(p.command(program, "mcp", "login", "mcp")))
	refreshes := func() (n int) {
		for _, r := range tn.TokenRequests() {
			if r.Form.Get("grant_type") == "refresh_token" {
				n++
			}
		}
		return n
	}
	list := func(what string) {
		t.Helper()
		if wrote := p.end(p.start(p.command(program, "mcp", "list"))); !strings.Contains(wrote, "Connected") {
			t.Errorf("%s, claude mcp list:\n%s", what, wrote)
		}
	}
	tn.Provider.Fault(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer tn.Provider.Fault(nil)
	before := refreshes()
	p.spoil()
	list("when it must refresh")
	first := refreshes()
	if first == before {
		t.Fatal("it did not refresh")
	}
	for range 3 {
		list("with a token that bridges the outage")
	}
	if n := refreshes(); n != first {
		t.Errorf("%d more refreshes with a token that is good", n-first)
	}
}
