package gateway_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
)

const wikiTenant = `tenants:
  wiki:
    publicURL: https://mcp.example.com/wiki
    resource: wiki
    providerIssuer: https://idp.invalid
    clientID: 1234
    clientSecret: env:WIKI_CLIENT_SECRET
`

// Each fault of a tenants file ends the start, and says file, line, tenant, label and remedy.
func TestTenantsFileIsRefusedWithCauseAndRemedy(t *testing.T) {
	const backend = "    backend: http://wiki:8000\n"
	for _, c := range []struct {
		name, content string
		use           gateway.Use
		says          []string
	}{
		{"no tenants", "tenants: {}\n", gateway.Proxying, []string{"t.yaml holds no tenant", "write at least one"}},
		{"an empty file", "", gateway.Proxying, []string{"holds no tenant"}},
		{"another word at the top", "tenant:\n  wiki: {}\n", gateway.Proxying, []string{"line 2", `below "tenant" means nothing`, "below the word tenants"}},
		{"two documents", wikiTenant + backend + "---\n" + wikiTenant, gateway.Proxying, []string{"more than one document"}},
		{"no YAML", "tenants: [\n", gateway.Proxying, []string{"line", "as docs/gateway.md shows"}},
		{"tabs", strings.Replace(wikiTenant, "  wiki", "\twiki", 1), gateway.Proxying, []string{"line 2", "by spaces and not by tabs"}},
		{"text alone", "wiki\n", gateway.Proxying, []string{"line 1", "begin the file with the word tenants"}},
		{"a list of tenants", "tenants:\n- name: wiki\n", gateway.Proxying, []string{"line 2", "write the name of each tenant here"}},
		{"an address in place of labels", "tenants:\n  wiki: http://wiki:8000\n", gateway.Proxying, []string{"line 2", `tenant "wiki": line 2: write its labels below its name`}},
		{"one name for two", wikiTenant + backend + strings.TrimPrefix(wikiTenant, "tenants:\n"), gateway.Proxying, []string{"line 9", `"wiki" already defined at line 2`}},
		{"a label twice", wikiTenant + backend + "    resource: other\n", gateway.Proxying, []string{"line", "resource", "already"}},
		{"a tenant without labels", "tenants:\n  wiki:\n", gateway.Proxying, []string{"line 2", `tenant "wiki"`}},
		{"a misspelt label", wikiTenant + backend + "    requiredScope: read\n", gateway.Proxying, []string{"line 9", `tenant "wiki"`, "requiredScope"}},
		{"a misspelt label without a value", wikiTenant + backend + "    allowedEmail:\n", gateway.Proxying, []string{`tenant "wiki"`, "allowedEmail"}},
		{"a list of people without any", wikiTenant + backend + "    allowedEmails:\n    # - you@example.com\n", gateway.Proxying, []string{"line 9", "label allowedEmails: names nobody"}},
		{"no backend", wikiTenant, gateway.Proxying, []string{"line 3", `tenant "wiki": backend: say where`, "http://wiki:8000"}},
		{"a backend without a scheme", wikiTenant + "    backend: wiki:8000\n", gateway.Proxying, []string{"line 8", "backend: give an http(s) URL"}},
		{"a backend for another proxy", wikiTenant + backend, gateway.Answering, []string{"line 8", "backend: it is for `mcpbouncer gateway`", "remove it"}},
		{"stripPrefix that is no boolean", wikiTenant + backend + "    stripPrefix: maybe\n", gateway.Proxying, []string{"line 9", "stripPrefix: give true or false"}},
		{"an address of the sidecar", wikiTenant + backend + "    sidecarURL: http://bouncer:8080\n", gateway.Proxying, []string{"line 9", "label sidecarURL: the sidecar is in this process: remove it"}},
		{"no public URL", strings.Replace(wikiTenant, "    publicURL: https://mcp.example.com/wiki\n", "", 1) + backend, gateway.Proxying, []string{"label publicURL: say under which URL"}},
		{"plain http", strings.Replace(wikiTenant, "https://mcp", "http://mcp", 1) + backend, gateway.Proxying, []string{"line 3", "label publicURL: plain http"}},
		{"one public URL for two", wikiTenant + backend + strings.TrimPrefix(strings.Replace(wikiTenant, "  wiki:", "  wiki2:", 1), "tenants:\n") + backend, gateway.Proxying,
			[]string{`line 10: tenant "wiki2": label publicURL: the tenant "wiki" has it too`, "give each its own"}},
		{"a table", wikiTenant + backend + "    scopes: {a: b}\n", gateway.Proxying, []string{"line 9", "label scopes: a table cannot stand here"}},
		{"a list of lists", wikiTenant + backend + "    scopes: [[a]]\n", gateway.Proxying, []string{"line 9", "label scopes: give texts"}},
		{"a name with a slash", strings.Replace(wikiTenant, "  wiki:", "  a/b:", 1) + backend, gateway.Proxying, []string{`tenant "a/b": give a name`}},
		{"a rule for tools", wikiTenant + "    toolScopes: delete_page=write\n", gateway.Answering, []string{"line 8", "label toolScopes: a proxy that asks at /forward-auth does not show the message", "remove the label"}},
		{"a rule for methods", wikiTenant + "    methodScopes: tools/call=use\n", gateway.Answering, []string{"label methodScopes"}},
		{"a rule for resources", wikiTenant + "    resourceScopes: \"*=read\"\n", gateway.Answering, []string{"label resourceScopes"}},
		{"a rule for prompts", wikiTenant + "    promptScopes: a=read\n", gateway.Answering, []string{"label promptScopes"}},
		{"hidden tools", wikiTenant + "    hideTools: true\n", gateway.Answering, []string{"label hideTools", "the answer of the MCP server"}},
		{"calls in the log", wikiTenant + "    auditCalls: true\n", gateway.Answering, []string{"label auditCalls"}},
		{"CORS", wikiTenant + "    cors: true\n", gateway.Answering, []string{"label cors"}},
		{"documents for everybody", wikiTenant + "    wellKnown: openai-apps-challenge\n", gateway.Answering, []string{"label wellKnown"}},
		{"the provider's token", wikiTenant + "    upstreamToken: scopes=repo\n", gateway.Answering, []string{"label upstreamToken", "would be told the provider's token", "use `mcpbouncer gateway` or the plugin"}},
		{"a secret for the server", wikiTenant + "    backendAuthorization: env:WIKI_BACKEND_AUTHORIZATION\n", gateway.Answering, []string{"label backendAuthorization", "let the proxy add the header itself"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := gateway.ParseTenants("t.yaml", []byte(c.content), "http://127.0.0.1:8080", c.use)
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, part := range append(c.says, "BOUNCER_TENANTS", "t.yaml") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "yaml.Node") || strings.Contains(err.Error(), "line 0") {
				t.Errorf("%q helps nobody", err)
			}
		})
	}
}

// A secret that stands where a tenant should is not cited.
func TestTenantsFileWithASecretInTheWrongPlace(t *testing.T) {
	for _, secret := range []string{"hunter2", "'hun`ter2'", "GOCSPX-hunter2"} {
		_, err := gateway.ParseTenants("t.yaml", []byte(wikiTenant+"  clientSecret: "+secret+"\n"), "http://127.0.0.1:8080", gateway.Answering)
		if err == nil || !strings.Contains(err.Error(), "t.yaml") || !strings.Contains(err.Error(), "line 8") || strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "GOCSPX") {
			t.Errorf("%v", err)
		}
	}
}

// A value means what is written, whatever YAML would make of it, and what many tenants share is
// written once.
func TestTenantsFileTakesValuesAsTheyAreWritten(t *testing.T) {
	const content = `tenants:
  wiki: &wiki
    publicURL: https://MCP.example.com:443/wiki/
    backend: http://wiki:8000
    resource: wiki
    providerIssuer: https://idp.invalid
    clientID: 0123
    clientSecret: 110169484474386276334
    scopes: [openid, email]
    dpop: off
    hideTools: no
    logo:
  world:
    <<: *wiki
    publicURL: https://mcp.example.com/world
    clientID: 259242039378444290
`
	if _, err := gateway.ParseTenants("t.yaml", []byte(content), "http://127.0.0.1:8080", gateway.Proxying); err == nil || !strings.Contains(err.Error(), "label hideTools: give true or false") {
		t.Fatalf("hideTools: no: %v", err)
	}
	tenants, err := gateway.ParseTenants("t.yaml", []byte(strings.Replace(content, "hideTools: no", "hideTools: false", 1)), "http://127.0.0.1:8080", gateway.Proxying)
	if err != nil || len(tenants) != 2 {
		t.Fatal(len(tenants), err)
	}
	wiki, world := tenants[0].Labels, tenants[1].Labels
	if wiki.ClientID != "0123" || wiki.ClientSecret != "110169484474386276334" || world.ClientID != "259242039378444290" || world.Resource != "wiki" || wiki.Logo != nil {
		t.Errorf("%+v, %+v", wiki, world)
	}
}

// Aliases are not followed into lists, so a short file cannot become a long one.
func TestTenantsFileHasNoListsOfLists(t *testing.T) {
	const text = "a: &a [x, x]\nb: &b [*a, *a]\ntenants: {wiki: {scopes: *b}}\n"
	if _, err := gateway.ParseTenants("t.yaml", []byte(text), "", gateway.Proxying); err == nil {
		t.Error("taken")
	}
	if _, err := gateway.ParseTenants("t.yaml", []byte("tenants:\n  wiki:\n    scopes: &a [[x]]\n"), "", gateway.Proxying); err == nil || !strings.Contains(err.Error(), "give texts as the elements of the list") {
		t.Error(err)
	}
}

// A changed file is loaded once it is the same at two looks. One with a fault changes nothing, and
// the log says so until it is mended.
func TestTenantsFileIsReadAgain(t *testing.T) {
	w := newWorld(t)
	w.write("one")
	var loaded []string
	watcher := &gateway.Watcher{File: w.file, Content: []byte("one"), Log: slog.New(slog.NewTextHandler(w.log, nil)), Load: func(content []byte) error {
		if strings.HasPrefix(string(content), "bad") {
			return errBad
		}
		loaded = append(loaded, string(content))
		return nil
	}}
	at := time.Now()
	look := func(later time.Duration, asked bool, wantLoaded string, wantLines int) {
		t.Helper()
		at = at.Add(later)
		watcher.Look(at, asked)
		if got := strings.Join(loaded, " "); got != wantLoaded {
			t.Errorf("loaded %q, want %q", got, wantLoaded)
		}
		if n := strings.Count(w.log.String(), "the tenants stay as they were"); n != wantLines {
			t.Errorf("%d lines in the log, want %d:\n%s", n, wantLines, w.log)
		}
	}
	look(5*time.Second, false, "", 0)
	w.write("two")
	look(5*time.Second, false, "", 0)
	look(5*time.Second, false, "two", 0)
	look(5*time.Second, false, "two", 0)
	look(5*time.Second, true, "two two", 0) // asked for
	w.write("bad")
	look(5*time.Second, false, "two two", 0)
	look(5*time.Second, false, "two two", 1)
	look(5*time.Second, false, "two two", 1)
	look(time.Minute, false, "two two", 2) // still
	look(time.Second, true, "two two", 3)
	w.write("bad again")
	look(time.Second, false, "two two", 3)
	look(time.Second, false, "two two", 4)
	w.write("two") // as before
	look(5*time.Second, false, "two two", 4)
	look(5*time.Second, false, "two two two", 4)
	look(time.Hour, false, "two two two", 4)
	w.write("thr") // whoever writes is not done
	look(5*time.Second, false, "two two two", 4)
	w.write("three")
	look(5*time.Second, false, "two two two", 4)
	look(5*time.Second, false, "two two two three", 4)
	if err := os.Remove(w.file); err != nil { // as some programs do before they write
		t.Fatal(err)
	}
	look(5*time.Second, false, "two two two three", 5)
	w.write("three")
	look(time.Hour, false, "two two two three", 5)
	w.write("bad")
	look(5*time.Second, true, "two two two three", 6) // asked for
	if err := os.Remove(w.file); err != nil {
		t.Fatal(err)
	}
	look(time.Hour, false, "two two two three", 7)
	w.write("bad") // and so it still has a fault
	look(time.Hour, false, "two two two three", 8)
}

type badFile struct{}

func (badFile) Error() string { return "it is bad" }

var errBad = badFile{}

// Tenants that are added and taken away are so for the next request, and one that stays keeps its
// tokens.
func TestGatewayServesTheTenantsOfTheNewFile(t *testing.T) {
	w := newWorld(t)
	g := &gateway.Gateway{File: w.file, Sidecar: w.sidecar.URL, Log: w.logger(), TLS: true}
	load := func(content string) error { return g.Load([]byte(content)) }
	if err := load(w.tenants()); err != nil {
		t.Fatal(err)
	}
	addr := listen(t, g.Server())
	wiki, world := w.wikiKey(), w.worldKey()
	status := func(path, token string) int {
		resp, _ := ask(t, addr, "GET", wikiHost, path, token, nil)
		return resp.StatusCode
	}
	if a, b := status("/wiki/mcp", wiki), status("/world/mcp", world); a != 200 || b != 200 {
		t.Fatal(a, b)
	}
	if err := load("tenants:\n"); err == nil {
		t.Fatal("a file without tenants is taken")
	}
	if a, b := status("/wiki/mcp", wiki), status("/world/mcp", world); a != 200 || b != 200 {
		t.Error("a file with a fault changed something", a, b)
	}
	before, after, _ := strings.Cut(w.tenants(), "  world:\n")
	_, after, _ = strings.Cut(after, "  alone:\n")
	if err := load(before + "  alone:\n" + after); err != nil {
		t.Fatal(err)
	}
	w.sidecar.Close() // what is known is known
	if a, b := status("/wiki/mcp", wiki), status("/world/mcp", world); a != 200 || b == 200 {
		t.Error("after world was taken away", a, b)
	}
}
