package issuer_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Each row is a registration that a real client sends, as far as it is known.
func TestRealRegistrations(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct {
		name, body string
		uris       []string
		method     string
	}{
		{"Claude", `{"client_name":"Claude","grant_types":["authorization_code","refresh_token"],"redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"response_types":["code"],"scope":"claudeai","token_endpoint_auth_method":"none","client_uri":"https://claude.ai"}`,
			[]string{"https://claude.ai/api/mcp/auth_callback"}, "none"},
		{"Claude Code", `{"client_name":"Claude Code (wiki)","redirect_uris":["http://localhost:54545/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
			[]string{"http://localhost:54545/callback"}, "none"},
		{"VS Code", `{"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://127.0.0.1/","http://127.0.0.1:33418/"],"scope":"","token_endpoint_auth_method":"none","application_type":"native"}`,
			[]string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/"}, "none"},
		{"VS Code of 2025, with six", `{"client_name":"Visual Studio Code","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://localhost/","http://127.0.0.1/","http://localhost:33418/","http://127.0.0.1:33418/"],"token_endpoint_auth_method":"none"}`,
			[]string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://localhost/", "http://127.0.0.1/", "http://localhost:33418/", "http://127.0.0.1:33418/"}, "none"},
		{"a program that names twelve ports", `{"client_name":"A","redirect_uris":["http://localhost:1455/cb","http://localhost:1456/cb","http://localhost:1457/cb","http://localhost:1458/cb","http://localhost:1459/cb","http://localhost:1460/cb","http://localhost:1461/cb","http://localhost:1462/cb","http://localhost:1463/cb","http://localhost:1464/cb","http://localhost:1465/cb","http://localhost:1466/cb"],"token_endpoint_auth_method":"none"}`,
			[]string{"http://localhost:1455/cb", "http://localhost:1456/cb", "http://localhost:1457/cb", "http://localhost:1458/cb", "http://localhost:1459/cb", "http://localhost:1460/cb", "http://localhost:1461/cb", "http://localhost:1462/cb", "http://localhost:1463/cb", "http://localhost:1464/cb", "http://localhost:1465/cb", "http://localhost:1466/cb"}, "none"},
		{"Cursor", `{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback","https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
			[]string{"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"}, "none"},
		{"Cline", `{"client_name":"Cline","client_uri":"https://cline.bot","redirect_uris":["vscode://saoudrizwan.claude-dev/mcp-auth/callback/3f2a9c"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","software_id":"cline"}`,
			[]string{"vscode://saoudrizwan.claude-dev/mcp-auth/callback/3f2a9c"}, "none"},
		{"Warp, which is made with the Rust SDK", `{"client_name":"Warp","redirect_uris":["warp://mcp/oauth2callback"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none","response_types":["code"]}`,
			[]string{"warp://mcp/oauth2callback"}, "none"},
		{"Raycast", `{"client_name":"Raycast MCP: Wiki (dev)","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"redirect_uris":["raycast://oauth?package_name=mcp_server_wiki_(dev)"]}`,
			[]string{"raycast://oauth?package_name=mcp_server_wiki_(dev)"}, "client_secret_basic"},
		{"mcp-remote", `{"redirect_uris":["http://localhost:3335/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP CLI Proxy","client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.1.38"}`,
			[]string{"http://localhost:3335/oauth/callback"}, "none"},
		{"Gemini CLI", `{"client_name":"Gemini CLI (Google ADK)","redirect_uris":["http://localhost:7777/oauth/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","code_challenge_method":["S256"],"scope":""}`,
			[]string{"http://localhost:7777/oauth/callback"}, "none"},
		{"Gemini CLI at any port", `{"client_name":"Gemini CLI MCP Client","redirect_uris":["http://localhost:40123/oauth/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","scope":""}`,
			[]string{"http://localhost:40123/oauth/callback"}, "none"},
		{"the Inspector", `{"redirect_uris":["http://localhost:6274/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP Inspector","client_uri":"https://github.com/modelcontextprotocol/inspector","application_type":"native"}`,
			[]string{"http://localhost:6274/oauth/callback"}, "none"},
		{"Copilot Studio, with a secret", `{"client_name":"Copilot Studio","redirect_uris":["https://global.consent.azure-apim.net/redirect/x"],"grant_types":["authorization_code"],"token_endpoint_auth_method":"client_secret_post"}`,
			[]string{"https://global.consent.azure-apim.net/redirect/x"}, "client_secret_post"},
		{"Cursor of old, whose only address has a scheme without a dot", `{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-retrieval/oauth/user-x/callback","cursor://anysphere.cursor-mcp/oauth/callback"],"token_endpoint_auth_method":"none"}`,
			[]string{"cursor://anysphere.cursor-mcp/oauth/callback"}, "none"},
		{"a web application with a loopback address: not enforced without OpenID Connect", `{"redirect_uris":["http://localhost:3000/cb"],"application_type":"web","token_endpoint_auth_method":"none"}`,
			[]string{"http://localhost:3000/cb"}, "none"},
		{"only the redirect URI: a secret by default, RFC 7591 §2", `{"redirect_uris":["https://app.example/cb"]}`,
			[]string{"https://app.example/cb"}, "client_secret_basic"},
		{"members of unknown names and types", `{"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"none","client_name":"A","grant_types":["implicit","urn:x"],"response_types":["token","id_token"],"scope":["not","a","string"],"application_type":7,"logo_uri":{},"software_statement":"x.y.z","x":[{"y":null}]}`,
			[]string{"https://app.example/cb"}, "none"},
		{"wildcards, fragments and http elsewhere are dropped beside a good one", `{"redirect_uris":["https://*.app.example/cb","https://app.example/cb#a","http://app.example/cb","https://app.example/cb"],"token_endpoint_auth_method":"none"}`,
			[]string{"https://app.example/cb"}, "none"},
		{"the Go SDK", `{"redirect_uris":["http://127.0.0.1:39123/callback"],"token_endpoint_auth_method":"client_secret_post","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"go client","application_type":"native"}`,
			[]string{"http://127.0.0.1:39123/callback"}, "client_secret_post"},
		{"the TypeScript SDK", `{"redirect_uris":["http://localhost:8090/callback"],"client_name":"Simple OAuth MCP Client","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"client_secret_post","scope":"openid offline_access"}`,
			[]string{"http://localhost:8090/callback"}, "client_secret_post"},
		{"members that are null", `{"redirect_uris":["http://localhost:3030/callback"],"token_endpoint_auth_method":null,"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"scope":null,"client_name":"Simple Auth Client","client_uri":null,"logo_uri":null,"contacts":null,"tos_uri":null,"policy_uri":null,"jwks_uri":null,"jwks":null,"software_id":null,"software_version":null}`,
			[]string{"http://localhost:3030/callback"}, "client_secret_basic"},
		{"one with jwt-bearer and no name", `{"redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"grant_types":["urn:ietf:params:oauth:grant-type:jwt-bearer"],"token_endpoint_auth_method":"none"}`,
			[]string{"https://claude.ai/api/mcp/auth_callback"}, "none"},
		{"one good address among bad ones", `{"redirect_uris":["myapp:/cb","javascript:alert(1)","https://app.example/cb","https://app.example/cb"],"token_endpoint_auth_method":"none"}`,
			[]string{"https://app.example/cb"}, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", c.body)).wants(t, 201, "")
			want := map[string]any{
				"client_id": r.text("client_id"), "client_id_issued_at": float64(w.clock.Now().Unix()), "token_endpoint_auth_method": c.method,
				"grant_types": []any{"authorization_code", "refresh_token"}, "response_types": []any{"code"},
				"scope": strings.Join(w.wiki.RequiredScopes, " "),
			}
			var uris []any
			for _, u := range c.uris {
				uris = append(uris, u)
			}
			want["redirect_uris"] = uris
			var asked map[string]any
			json.Unmarshal([]byte(c.body), &asked)
			if name, ok := asked["client_name"]; ok {
				want["client_name"] = name
			}
			if c.method != "none" {
				want["client_secret"], want["client_secret_expires_at"] = r.text("client_secret"), 0.0
				if len(r.text("client_secret")) != 43 {
					t.Errorf("client_secret of %d characters", len(r.text("client_secret")))
				}
			}
			if !reflect.DeepEqual(r.JSON, want) {
				t.Errorf("registered %s, want %v", r.Body, want)
			}
			if id := r.text("client_id"); !strings.HasPrefix(id, "mbc1_") || len(id) > 500 {
				t.Errorf("client_id of %d characters: %s", len(id), id)
			}
			if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", r.Header)
			}
			if !regexp.MustCompile(`"client_id_issued_at":[0-9]+,`).MatchString(r.Body) || strings.Contains(r.Body, "null") {
				t.Errorf("no integer, or a null: %s", r.Body)
			}
			// Clients disagree on how to encode id and secret in an Authorization header, so no
			// character may need encoding.
			if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(r.text("client_id") + r.text("client_secret")) {
				t.Errorf("client_id %s, client_secret %s", r.text("client_id"), r.text("client_secret"))
			}
			a := w.register(w.wiki.PublicURL, asked)
			a.login()
		})
	}
}

// Some clients ask for the scope in the answer to their registration, if it has one.
func TestRegistrationSaysWhatToAskFor(t *testing.T) {
	for _, c := range []struct {
		name                string
		required, supported []string
		want                string
	}{
		{"what is required", []string{"wiki:read", "wiki:use"}, nil, "wiki:read wiki:use"},
		{"what is advertised", []string{"wiki:read"}, []string{"wiki:read", "wiki:write"}, "wiki:read wiki:write"},
		{"nothing in particular", nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.RequiredScopes, w.wiki.ScopesSupported = c.required, c.supported })
			got := w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", `{"redirect_uris":["http://localhost/cb"],"scope":"openid email","token_endpoint_auth_method":"none"}`)).wants(t, 201, "")
			if scope, sent := got.JSON["scope"]; got.text("scope") != c.want || sent != (c.want != "") {
				t.Errorf("scope %v, want %q", scope, c.want)
			}
		})
	}
}

// Most clients register once in their life. An id that expired would leave them with an error page
// and no way on.
func TestRegistrationDoesNotEnd(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "client_name": "Old Friend"})
	for range 10 {
		w.clock.Add(365 * 24 * time.Hour)
		w.replicas = nil
		a.login()
	}
	w.masters = []string{masterTwo + "," + masterOne}
	w.replicas = nil
	a.login()
}

// A flood of registrations leaves nothing behind: there is no list that it could fill, and the
// clients that registered before go on working.
func TestFloodOfRegistrationsCostsNoMemory(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	before := w.register(w.wiki.PublicURL, nil)
	flood := func(n int) uint64 {
		for i := range n {
			body := fmt.Sprintf(`{"redirect_uris":["https://flood.example/%d"],"client_name":"%d"}`, i, i)
			readReply(t, mustRoundTrip(t, w, newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", body))).wants(t, 201, "")
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	// The first ones fill pools, and the memory for hop headers: here each request has one of its
	// own.
	start := flood(10_000)
	if end := flood(2500); end > start+1<<18 {
		t.Errorf("2,500 registrations left %d bytes", end-start)
	}
	before.login()
}

func TestRegistrationsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	const good = `"redirect_uris":["https://app.example/cb"]`
	long := func(n int) string { return fmt.Sprintf("%q", "https://app.example/"+strings.Repeat("a", n)) }
	for _, c := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"nothing", ``, 400, "invalid_client_metadata"},
		{"no object", `[]`, 400, "invalid_client_metadata"},
		{"a string", `"https://app.example/cb"`, 400, "invalid_client_metadata"},
		{"null", `null`, 400, "invalid_redirect_uri"},
		{"an empty object", `{}`, 400, "invalid_redirect_uri"},
		{"no redirect URIs", `{"redirect_uris":[]}`, 400, "invalid_redirect_uri"},
		{"null redirect URIs", `{"redirect_uris":null}`, 400, "invalid_redirect_uri"},
		{"a null redirect URI", `{"redirect_uris":[null]}`, 400, "invalid_redirect_uri"},
		{"redirect URIs that are no list", `{"redirect_uris":"https://app.example/cb"}`, 400, "invalid_client_metadata"},
		{"redirect URIs that are no strings", `{"redirect_uris":[1]}`, 400, "invalid_client_metadata"},
		{"the member in capitals", `{"REDIRECT_URIS":["https://app.example/cb"]}`, 400, "invalid_redirect_uri"},
		{"the member with a long s", `{"redirect_uri` + "\u017f" + `":["https://app.example/cb"]}`, 400, "invalid_redirect_uri"},
		{"a repeated member", `{` + good + `,"redirect_uris":["https://evil.example/"]}`, 400, "invalid_client_metadata"},
		{"a repeated unknown member", `{` + good + `,"x":1,"x":2}`, 400, "invalid_client_metadata"},
		{"a second object behind it", `{` + good + `}{}`, 400, "invalid_client_metadata"},
		{"something behind it", `{` + good + `}x`, 400, "invalid_client_metadata"},
		{"half of it", `{` + good, 400, "invalid_client_metadata"},
		{"a form", `redirect_uris=https://app.example/cb`, 400, "invalid_client_metadata"},
		{"an unknown authentication method", `{` + good + `,"token_endpoint_auth_method":"private_key_jwt"}`, 400, "invalid_client_metadata"},
		{"an authentication method in capitals", `{` + good + `,"token_endpoint_auth_method":"NONE"}`, 400, "invalid_client_metadata"},
		{"a name that is no string", `{` + good + `,"client_name":{"en":"x"}}`, 400, "invalid_client_metadata"},
		{"six redirect URIs", `{"redirect_uris":["https://a.example/1","https://a.example/2","https://a.example/3","https://a.example/4","https://a.example/5","https://a.example/6"]}`, 400, "invalid_redirect_uri"},
		{"six loopback paths", `{"redirect_uris":["http://localhost/1","http://localhost/2","http://localhost/3","http://localhost/4","http://localhost/5","http://localhost/6"]}`, 400, "invalid_redirect_uri"},
		{"redirect URIs that are together too long for a client_id", `{"redirect_uris":[` + long(170) + `,` + long(171) + `,` + long(172) + `,` + long(173) + `]}`, 400, "invalid_client_metadata"},
		{"an address with a quotation mark, of which the answer must hold none", `{"redirect_uris":["https://app.example/\"cb"]}`, 400, "invalid_redirect_uri"},
		{"16 KB and a little", `{` + good + `,"x":"` + strings.Repeat("a", 16<<10) + `"}`, 413, "invalid_request"},
		{"very deep JSON", `{` + good + `,"x":` + strings.Repeat("[", 8000) + strings.Repeat("]", 8000) + `}`, 201, ""},
		{"invalid UTF-8 in a name", "{" + good + ",\"client_name\":\"a\xff\"}", 201, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", c.body)).wants(t, c.status, c.code)
		})
	}
}

func TestNameThatThePersonSees(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct{ name, sent, want string }{
		{"a plain name", "Claude", "Claude"},
		{"letters of the world", "Büro 電卓 Ωmega", "Büro 電卓 Ωmega"},
		{"white space around and inside", "  a \t\n b  ", "a b"},
		{"a right-to-left override", "Claude\u202egpj.exe", "Claudegpj.exe"},
		{"isolates and marks", "\u2066a\u2069\u200eb\u200fc\u061c", "abc"},
		{"zero-width characters", "Cla\u200bu\u200cd\u200de\ufeff", "Claude"},
		{"a soft hyphen", "Cla\u00adude", "Claude"},
		{"control characters", "Cla\x00u\x1bde\x7f", "Claude"},
		{"line and paragraph separators", "a\u2028b\u2029c", "a b c"},
		{"fillers that show nothing", "\u3164\u115f\u1160\uffa0", ""},
		{"variation selectors and joiners", "a\ufe0f\u034fb\U000e0100", "ab"},
		{"private use", "a\ue000b", "ab"},
		{"tag characters", "a\U000e0041b", "ab"},
		{"64 letters", strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{"10 KB", strings.Repeat("é", 5<<10), strings.Repeat("é", 64)},
		{"nothing", "", ""},
		{"only what is not shown", "\u202e\u200b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "client_name": c.sent, "token_endpoint_auth_method": "none"})
			if got := a.registration.text("client_name"); got != c.want || !utf8.ValidString(got) {
				t.Errorf("registered as %q, want %q", got, c.want)
			}
			page := w.get(a.authorizeURL())
			want := c.want
			if want == "" {
				want = "An application without a name"
			}
			if page.Status != 200 || !strings.Contains(page.Body, "Allow <bdi>“"+want+"”</bdi> to use") {
				t.Errorf("the page does not name %q: %s", want, page.Body)
			}
		})
	}
}

// FuzzRegister checks that every answer is a registration or an error of the client's.
func FuzzRegister(f *testing.F) {
	for _, seed := range []string{`{}`, `{"redirect_uris":["https://app.example/cb"]}`, `[`, `{"redirect_uris":["a","b"],"client_name":"\u202e"}`, `{"redirect_uris":[1e999]}`, `{"redirect_uris":[{}]}`} {
		f.Add([]byte(seed))
	}
	w := newWorld(f, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	w.register(w.wiki.PublicURL, nil) // starts the replica
	f.Fuzz(func(t *testing.T, body []byte) {
		r := readReply(t, mustRoundTrip(t, w, newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", string(body))))
		switch r.Status {
		case 201:
			if len(r.text("client_id")) > 1000 || len(r.JSON["redirect_uris"].([]any)) == 0 {
				t.Fatalf("%q gave %s", body, r.Body)
			}
		case 400, 413:
			if r.text("error") == "" || r.text("error_description") == "" {
				t.Fatalf("%q gave %s", body, r.Body)
			}
		default:
			t.Fatalf("%q gave %d: %s", body, r.Status, r.Body)
		}
	})
}

// FuzzTokenForm checks that no input yields an access token or makes the sidecar fail.
func FuzzTokenForm(f *testing.F) {
	w := newWorld(f, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	a := w.register(w.wiki.PublicURL, nil)
	for _, seed := range []string{"", "grant_type=authorization_code&code=mba1_x&client_id=" + a.id, "grant_type=refresh_token&refresh_token=mbr1_x&client_id=" + a.id, "a=1&a=2", "%zz", "client_id=" + a.id + "&grant_type=x"} {
		f.Add(seed, "")
	}
	f.Add("grant_type=refresh_token", "Basic Og==")
	f.Fuzz(func(t *testing.T, body, authorization string) {
		r := newRequest(t, "POST", w.wiki.PublicURL+"/oauth/token", formType, body)
		r.Header.Set("Authorization", authorization)
		got := readReply(t, mustRoundTrip(t, w, r))
		if got.Status < 400 || got.Status >= 500 || got.text("error") == "" || got.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%q with %q gave %d: %s", body, authorization, got.Status, got.Body)
		}
	})
}

// A body that is cut off is the sender's fault, so it does not alarm the operator.
func TestRegistrationThatIsCutOff(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := newRequest(t, "POST", "http://sidecar/oauth/register", "application/json", "")
	r.Body = io.NopCloser(broken{})
	r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON()))
	readReply(t, issuertest.Serve(w.replica(), r)).wants(t, 400, "invalid_request")
}
