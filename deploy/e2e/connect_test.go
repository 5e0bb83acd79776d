package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/connect"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// connectURL is the MCP URL of the pages of docs/connect.
const connectURL = connect.URL

// connectPage returns the text of a page of docs/connect.
func connectPage(t *testing.T, page string) string {
	t.Helper()
	text, err := connect.Page(page)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// shellLines returns the commands that a page shows.
func shellLines(page string) (lines []string) {
	for _, block := range connect.Shell(page) {
		lines = append(lines, block...)
	}
	return lines
}

// typedLines are the commands of the pages that programs run in the tests.
var typedLines = map[string][]string{
	"claude-code.md": {
		"claude mcp add --transport http wiki " + connectURL,
		"claude mcp login wiki",
		"claude mcp list",
		"claude mcp add --transport http --client-id CLIENT_ID --callback-port 8123 wiki " + connectURL,
		"claude mcp xaa setup --issuer https://idp.example.com --client-id IDP_CLIENT_ID --client-secret",
		"claude mcp xaa login",
		"claude mcp add --transport http --xaa --client-id CLIENT_ID --client-secret wiki " + connectURL,
	},
	"codex.md": {
		"codex mcp add wiki --url " + connectURL,
		"codex mcp list",
		"codex mcp login wiki",
		"codex mcp add wiki --url " + connectURL + " --oauth-client-id CLIENT_ID --oauth-client-secret CLIENT_SECRET",
	},
	"gemini-cli.md": {"gemini mcp add --scope user --transport http wiki " + connectURL},
	"inspector.md":  {"npx @modelcontextprotocol/inspector --cli --server-url " + connectURL + " --transport http --method tools/list"},
	"others.md": {
		"npx -p mcp-remote mcp-remote-client " + connectURL,
		"opencode mcp auth wiki", "opencode mcp list",
		"qwen mcp add --scope user --transport http wiki " + connectURL, "qwen mcp reconnect --all",
		"mcporter auth wiki", "mcporter call wiki.whoami",
		"mcp-use client connect wiki " + connectURL, "mcp-use client wiki tools call whoami",
	},
}

// Nobody has tried a command on a page that no test runs.
func TestConnectPagesShowWhatIsRun(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(rig.Root(), "docs", "connect", "*.md"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	for _, path := range pages {
		page := filepath.Base(path)
		shown := shellLines(connectPage(t, page))
		for _, line := range typedLines[page] {
			if !slices.Contains(shown, line) {
				t.Errorf("docs/connect/%s does not show %s", page, line)
			}
		}
		for _, line := range shown {
			// The operator's commands have tests of their own; variables are compared by
			// TestCertificatesThatProgramsTrust.
			operators := strings.HasPrefix(line, "mcpbouncer ") || strings.HasPrefix(line, "    --") || strings.HasPrefix(line, "export ")
			if !operators && !slices.Contains(typedLines[page], line) {
				t.Errorf("docs/connect/%s shows what no test runs: %s", page, line)
			}
		}
	}
}

// The versions of the SDKs that docs/connect/sdks.md has people install are those that are tested.
func TestConnectPageOfTheSDKsNamesTheVersionsThatAreTested(t *testing.T) {
	page := connectPage(t, "sdks.md")
	for file, form := range map[string]string{
		"go.mod":            `(github\.com/modelcontextprotocol/go-sdk) (v[0-9.]+)\n`,
		"node/package.json": `"(@modelcontextprotocol/client)": "([0-9.]+)"`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(form).FindSubmatch(text)
		if m == nil {
			t.Fatalf("%s does not match %s", file, form)
		}
		if want := fmt.Sprintf("%s@%s`", m[1], m[2]); !strings.Contains(page, want) {
			t.Errorf("docs/connect/sdks.md does not install %s", want)
		}
	}
}

// typed returns a command as a page shows it, for this server: the words after skip of them, which
// name the program.
func typed(t *testing.T, page, line string, skip int, w way) []string {
	t.Helper()
	if !slices.Contains(typedLines[page], line) {
		t.Fatalf("typedLines of %s do not have %s", page, line)
	}
	words := strings.Fields(line)[skip:]
	for i, word := range words {
		switch word {
		case connectURL:
			words[i] = w.Server
		case "CLIENT_ID":
			words[i] = w.ClientID
		case "CLIENT_SECRET":
			words[i] = w.ClientSecret
		case "https://idp.example.com":
			words[i] = w.Enterprise.Issuer
		case "IDP_CLIENT_ID":
			words[i] = w.Enterprise.ClientID
		case "8123":
			words[i] = fmt.Sprint(rig.FreePort(t))
		}
	}
	return words
}

// shownJSON returns the configuration that a page shows for a program, for this server: the block
// that has the words.
func shownJSON(t *testing.T, page, words string, w way) (config map[string]any) {
	t.Helper()
	for _, block := range connect.JSON(connectPage(t, page)) {
		if !strings.Contains(block, words) {
			continue
		}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(block, connectURL, w.Server)), &config); err != nil {
			t.Fatalf("docs/connect/%s: %v", page, err)
		}
		return config
	}
	t.Fatalf("docs/connect/%s shows no configuration with %s", page, words)
	return nil
}

// Which of the two variables on docs/connect/README.md makes a program trust a private authority.
// The server only has to see that a request came: the handshake is over by then.
func TestCertificatesThatProgramsTrust(t *testing.T) {
	t.Parallel()
	authority, _ := composeCertificate(t, "localhost")
	pair, err := tls.LoadX509KeyPair(filepath.Join(filepath.Dir(authority), "traefik", "cert.pem"), filepath.Join(filepath.Dir(authority), "traefik", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	variables := []string{"", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"}
	page := connectPage(t, "README.md")
	for _, name := range variables[1:] {
		if !strings.Contains(page, "\nexport "+name+"=") {
			t.Errorf("docs/connect/README.md does not show %s", name)
		}
	}
	asks := []struct {
		name string
		ask  func(p *installation, server string) *rig.Process
	}{
		{"Claude Code", func(p *installation, server string) *rig.Process {
			p.attend(p.start(p.command(claudeCode, "mcp", "add", "--transport", "http", "wiki", server)), nil)
			return p.start(p.command(claudeCode, "mcp", "list"))
		}},
		{"Codex", func(p *installation, server string) *rig.Process {
			return p.start(p.command(codex, "mcp", "add", "wiki", "--url", server))
		}},
		{"Gemini CLI", func(p *installation, server string) *rig.Process {
			return p.start(p.command("gemini.mjs", server))
		}},
		{"MCP Inspector", func(p *installation, server string) *rig.Process {
			p.env = append(p.env, "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file")
			return p.start(p.command("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli", "--server-url", server, "--transport", "http", "--method", "tools/list"))
		}},
		{"mcp-remote", func(p *installation, server string) *rig.Process {
			return p.start(p.command("node_modules/mcp-remote/dist/client.js", server, fmt.Sprint(rig.FreePort(p.t))))
		}},
		{"opencode", func(p *installation, server string) *rig.Process {
			p.env = append(p.env, opencodeEnv...)
			p.write(".config/opencode/opencode.json", fmt.Sprintf(`{"autoupdate":false,"mcp":{"wiki":{"type":"remote","url":%q}}}`, server))
			return p.start(p.command(opencode, "mcp", "list"))
		}},
	}
	var rows []string
	for _, c := range asks {
		if !isInstalled(c.name) {
			continue
		}
		row := "| " + c.name
		for _, variable := range variables {
			var requests atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				http.NotFound(w, nil)
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.StartTLS()
			_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
			p := &installation{t: t, site: site{name: "localhost", logs: &rig.Logs{}}, name: c.name, home: t.TempDir(), patience: 20 * time.Second}
			p.env = []string{"HOME=" + p.home, "PATH=" + p.home, "NO_COLOR=1", "TERM=xterm", "DO_NOT_TRACK=1", "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"}
			if variable != "" {
				p.env = append(p.env, variable+"="+authority)
			}
			process := c.ask(p, "https://localhost:"+port+"/wiki/mcp")
			p.attend(process, nil)
			process.Kill()
			server.Close()
			switch trusts := requests.Load() > 0; {
			case variable != "" && trusts:
				row += " | trusts"
			case variable != "":
				row += " | does not"
			case trusts:
				t.Errorf("%s trusts a certificate that nobody vouches for", c.name)
			}
		}
		rows = append(rows, row+" |\n")
	}
	compareRows(t, "connect/README.md", "| program | `NODE_EXTRA_CA_CERTS` | `SSL_CERT_FILE` |\n|---|---|---|\n", rows, len(rows) == len(asks))
}

// The two programs of docs/connect/sdks.md log in and list the tools, and the page shows them as
// they are.
func TestExamplesOfTheSDKs(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	var shown strings.Builder
	for _, c := range []struct {
		heading, language, file string
		start                   func(server string) *rig.Process
	}{
		{"Go", "go", "sdks/example/main.go", func(server string) *rig.Process {
			return rig.StartProcess(t, w.Logs, "Go example", sdkCommand(t, nil, "gosdk-example", server))
		}},
		{"TypeScript", "js", "node/example.mjs", func(server string) *rig.Process {
			return rig.StartProcess(t, w.Logs, "TypeScript example", sdkCommand(t, nil, "example.mjs", server))
		}},
	} {
		text, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "e2e", filepath.FromSlash(c.file)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&shown, "## %s\n\n```%s\n%s```\n\n", c.heading, c.language, text)
		tn := w.Wiki
		p := &installation{t: t, site: siteOf(t, tn, w), name: c.heading}
		process := c.start(tn.PublicHTTP() + "/mcp")
		if said := p.attend(process, nil); process.Wait(t) != 0 || !strings.Contains(said, "\nwhoami\n") {
			t.Errorf("%s:\n%s", c.file, said)
		}
	}
	part := partOf(t, "connect/sdks.md")
	if *update {
		part.write(t, shown.String())
	}
	if part.read(t) != shown.String() {
		t.Errorf("docs/connect/sdks.md does not show the examples as they are: go test -run '^%s$' . -update", t.Name())
	}
}
