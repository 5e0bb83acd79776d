package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// seenAt asks a server by itself, with nothing of doctor's.
type seenAt struct {
	t         *testing.T
	url       string // of the MCP server
	as        string // origin of the authorization server
	meta      map[string]any
	followNot *http.Client
	// by redirect URIs: one of the servers takes 20 registrations in an hour
	clients map[string]string
}

func lookAt(t *testing.T, mcp string) *seenAt {
	s := &seenAt{t: t, url: mcp, clients: map[string]string{}, followNot: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	challenge := s.ask("POST", mcp, nil, "{}").Header.Get("WWW-Authenticate")
	_, at, _ := strings.Cut(challenge, `resource_metadata="`)
	at, _, _ = strings.Cut(at, `"`)
	var resource struct {
		Servers []string `json:"authorization_servers"`
	}
	s.object(at, &resource)
	s.as = strings.TrimSuffix(resource.Servers[0], "/")
	s.object(s.as+"/.well-known/oauth-authorization-server", &s.meta)
	return s
}

type seenAnswer struct {
	*http.Response
	body string
}

func (s *seenAt) ask(method, at string, header map[string]string, body string) seenAnswer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := s.followNot.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, _ := io.ReadAll(resp.Body)
	return seenAnswer{resp, string(content)}
}

func (s *seenAt) object(at string, v any) {
	s.t.Helper()
	if a := s.ask("GET", at, nil, ""); json.Unmarshal([]byte(a.body), v) != nil {
		s.t.Fatalf("%s: %d %s", at, a.StatusCode, a.body)
	}
}

func (s *seenAt) endpoint(name string) string { e, _ := s.meta[name].(string); return e }

// register sends metadata beside what every client has.
func (s *seenAt) register(more string, redirects ...string) seenAnswer {
	s.t.Helper()
	uris, _ := json.Marshal(redirects)
	return s.ask("POST", s.endpoint("registration_endpoint"), nil, `{"client_name":"x","response_types":["code"],"token_endpoint_auth_method":"none"`+more+`,"redirect_uris":`+string(uris)+"}")
}

// authorize registers a client and sends a request of it, changed by pairs; an empty value leaves a
// parameter out.
func (s *seenAt) authorize(registered []string, changes ...string) seenAnswer {
	s.t.Helper()
	var client struct {
		ID string `json:"client_id"`
	}
	key := strings.Join(registered, " ")
	if s.clients[key] == "" {
		a := s.register("", registered...)
		if json.Unmarshal([]byte(a.body), &client) != nil || client.ID == "" {
			s.t.Fatalf("registration: %d %s", a.StatusCode, a.body)
		}
		s.clients[key] = client.ID
	}
	q := url.Values{"response_type": {"code"}, "client_id": {s.clients[key]}, "redirect_uri": {registered[0]}, "state": {"s"}, "resource": {s.url},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	for i := 0; i < len(changes); i += 2 {
		if q.Set(changes[i], changes[i+1]); changes[i+1] == "" {
			q.Del(changes[i])
		}
	}
	return s.ask("GET", s.endpoint("authorization_endpoint")+"?"+q.Encode(), nil, "")
}

// query is what an answer says to a client.
func (a seenAnswer) query() url.Values {
	u, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		return nil
	}
	return u.Query()
}

const (
	anyLoopback = "http://127.0.0.1:33418/callback"
	cors        = "Access-Control-Allow-Origin"
)

// claim is a line of doctor's, and what makes it true.
type claim struct {
	line []string
	isSo func(s *seenAt) bool
}

var preflightOfPost = map[string]string{"Origin": "https://page.example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}

// refuses is of a server that does not take a redirect URI.
func refuses(redirect, client string) claim {
	return claim{[]string{"WRONG registration: ", "Invalid redirect URI: " + redirect, "breaks: " + client}, func(s *seenAt) bool { return s.register("", redirect).StatusCode == http.StatusBadRequest }}
}

// Claims that some of the servers share.
var (
	isGuarded = claim{[]string{"ok    access without a token: seen 401 to POST"}, func(s *seenAt) bool { return s.ask("POST", s.url, nil, "{}").StatusCode == http.StatusUnauthorized }}
	asksNoOne = claim{[]string{"WRONG consent: ", "nobody was asked", "fault: server"}, func(s *seenAt) bool {
		return s.authorize([]string{anyLoopback}).query().Get("code") != ""
	}}
	knowsRedirects = claim{[]string{"ok    unknown redirect URI: seen refused with 400"}, func(s *seenAt) bool {
		return s.authorize([]string{anyLoopback}, "redirect_uri", "https://attacker.invalid/callback").StatusCode == http.StatusBadRequest
	}}
	knowsClients = claim{[]string{"ok    token endpoint: seen refuses an unknown client with invalid_client"}, func(s *seenAt) bool {
		a := s.ask("POST", s.endpoint("token_endpoint"), map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, "grant_type=authorization_code&code=x&client_id=nobody&code_verifier="+strings.Repeat("x", 43))
		return strings.Contains(a.body, `"invalid_client"`)
	}}
	needsPKCE = claim{[]string{"ok    request without PKCE: seen refused"}, func(s *seenAt) bool {
		a := s.authorize([]string{anyLoopback}, "code_challenge", "", "code_challenge_method", "")
		return a.query().Get("code") == "" && (a.StatusCode/100 == 4 || a.query().Get("error") != "")
	}}
	promisesNoIss = claim{[]string{"note  metadata authorization_response_iss_parameter_supported: seen not promised", "hinders: Gemini CLI"}, func(s *seenAt) bool {
		return s.meta["authorization_response_iss_parameter_supported"] != true
	}}
	hasNoSlash = claim{[]string{"note  slash: seen the same URL with a slash more or less at its end has no document"}, func(s *seenAt) bool {
		u, _ := url.Parse(s.url)
		return s.ask("GET", "http://"+u.Host+"/.well-known/oauth-protected-resource/mcp/", nil, "").StatusCode == http.StatusNotFound
	}}
)

// What doctor says about authorization servers of other projects is true: each line was looked at
// by other requests, and each verdict is what the real client did there.
func TestDoctorIsTrueOfOtherServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		start   func(rig.T, *rig.Logs) *rig.OtherServer
		login   []string // lines of --login; none: it is not tried
		claims  []claim
		breaks  []string // all others work
		clients []string // real ones that are tried in every run
	}{
		{"the TypeScript SDK's demonstration", rig.StartTypeScriptDemo,
			[]string{"login: seen the person came back", "note  token: seen no refresh token", "token: seen opaque, for 3600 s, scope mcp:tools", "MCP initialize: seen simple-streamable-http-server speaks", "event stream: seen opens", "login: revocation: seen there is no revocation endpoint"},
			[]claim{isGuarded, asksNoOne, knowsRedirects, knowsClients, needsPKCE, promisesNoIss,
				{[]string{"note  slash: seen the document of ", "/mcp/ says "}, func(s *seenAt) bool {
					return strings.Contains(s.ask("GET", strings.Replace(s.url, "/mcp", "/.well-known/oauth-protected-resource/mcp/", 1), nil, "").body, `"resource":"`+s.url+`"`)
				}},
				{[]string{"WRONG CORS of preflight of the MCP server: ", "without Access-Control-Allow-Origin", "breaks: use-mcp and other pages of browsers"}, func(s *seenAt) bool {
					return s.ask("OPTIONS", s.url, preflightOfPost, "").Header.Get(cors) == ""
				}},
				{[]string{"WRONG CORS of 401 of the MCP server: ", "without Access-Control-Allow-Origin"}, func(s *seenAt) bool {
					return s.ask("POST", s.url, preflightOfPost, "{}").Header.Get(cors) == "" && s.ask("OPTIONS", s.endpoint("token_endpoint"), preflightOfPost, "").Header.Get(cors) == "*"
				}},
				{[]string{"WRONG authorization: ", "for http://127.0.0.1:51234/, which was registered with another port; seen the client is told: invalid_request Unregistered redirect_uri", "hinders: VS Code"}, func(s *seenAt) bool {
					return s.authorize([]string{anyLoopback}, "redirect_uri", strings.Replace(anyLoopback, "33418", "51234", 1)).query().Get("error") == "invalid_request"
				}},
				{[]string{"WRONG iss: expected iss in the answer with the code; seen none", "breaks: Gemini CLI"}, func(s *seenAt) bool { return !s.authorize([]string{anyLoopback}).query().Has("iss") }},
				{[]string{"note  request for another resource: seen 302", "not refused on the first page"}, func(s *seenAt) bool {
					return s.authorize([]string{anyLoopback}, "resource", "https://attacker.invalid/mcp").query().Get("code") != ""
				}},
			}, []string{"Gemini CLI", "use-mcp and other pages of browsers"}, []string{"Codex", "Claude Code", "Gemini CLI", "mcp-remote", "MCP Inspector", "TypeScript SDK", "Go SDK"}},
		{"Cloudflare's library", rig.StartCloudflaresLibrary,
			[]string{"login: seen the person came back", "token: seen opaque, for 3600 s, scope mcp:read offline_access", "MCP tools/list: seen 1 tools", "MCP tools/call: seen whoami answered", "event stream: seen 405", "login: second refresh: seen the new access token opens", "login: revocation: seen the login is over"},
			[]claim{isGuarded, asksNoOne, knowsRedirects, knowsClients, needsPKCE, hasNoSlash,
				{[]string{"note  clock: seen no Date header"}, func(s *seenAt) bool { return s.ask("GET", s.url, nil, "").Header.Get("Date") == "" }},
				{[]string{"ok    CORS: seen pages of browsers may read challenge"}, func(s *seenAt) bool {
					a := s.ask("POST", s.url, preflightOfPost, "{}")
					return a.Header.Get(cors) != "" && strings.Contains(strings.ToLower(a.Header.Get("Access-Control-Expose-Headers")), "www-authenticate") && s.ask("OPTIONS", s.url, preflightOfPost, "").Header.Get(cors) != ""
				}},
				{[]string{"WRONG registration: ", "Unsupported grant_type: urn:ietf:params:oauth:grant-type:device_code", "breaks: VS Code, Raycast, "}, func(s *seenAt) bool {
					return s.register(`,"grant_types":["authorization_code","urn:ietf:params:oauth:grant-type:device_code"]`, anyLoopback).StatusCode == http.StatusBadRequest &&
						s.register(`,"grant_types":["authorization_code"]`, anyLoopback).StatusCode == http.StatusCreated
				}},
				{[]string{"WRONG authorization: ", "for cursor://anysphere.cursor-mcp/oauth/callback; seen 400", "hinders: Cursor"}, func(s *seenAt) bool {
					return s.authorize([]string{"cursor://anysphere.cursor-mcp/oauth/callback", "http://localhost:8787/callback"}).StatusCode == http.StatusBadRequest
				}},
				{[]string{"ok    request for another resource: seen refused"}, func(s *seenAt) bool {
					return s.authorize([]string{anyLoopback}, "resource", "https://attacker.invalid/mcp").query().Get("code") == ""
				}},
			}, []string{"VS Code"}, nil},
		{"FastMCP", rig.StartFastMCP, nil,
			[]claim{isGuarded, knowsRedirects, knowsClients, promisesNoIss, hasNoSlash,
				{[]string{"note  access without a token by HEAD: seen 404, not 401", "hinders: Gemini CLI"}, func(s *seenAt) bool { return s.ask("HEAD", s.url, nil, "").StatusCode == http.StatusNotFound }},
				{[]string{"WRONG resource: ", "breaks: Claude, ChatGPT, Gemini CLI; hinders: VS Code, Go SDK"}, func(s *seenAt) bool {
					return strings.Contains(s.ask("GET", strings.Replace(s.url, "/mcp", "/.well-known/oauth-protected-resource", 1), nil, "").body, `"resource":"`+strings.TrimSuffix(s.url, "/mcp")+`"`)
				}},
				{[]string{"note  metadata token_endpoint_auth_methods_supported: seen client_secret_basic client_secret_post: no public clients"}, func(s *seenAt) bool {
					return !strings.Contains(fmt.Sprint(s.meta["token_endpoint_auth_methods_supported"]), "none")
				}},
				{[]string{"note  CORS: ", "of the 401 everything but WWW-Authenticate", "hinders: use-mcp and other pages of browsers"}, func(s *seenAt) bool {
					a := s.ask("POST", s.url, preflightOfPost, "{}")
					return a.StatusCode == http.StatusUnauthorized && a.Header.Get(cors) == "*" && !strings.Contains(strings.ToLower(a.Header.Get("Access-Control-Expose-Headers")), "www-authenticate")
				}},
				refuses("https://claude.ai/api/mcp/auth_callback", "Claude"), refuses("https://chatgpt.com/connector_platform_oauth_redirect", "ChatGPT"),
				refuses("https://insiders.vscode.dev/redirect", "VS Code"), refuses("cursor://anysphere.cursor-mcp/oauth/callback", "Cursor"), refuses("raycast://oauth?package_name=mcp_server_doctor", "Raycast, "),
				{[]string{"note  request without PKCE: seen 200 text/html: not refused on the first page"}, func(s *seenAt) bool {
					return s.authorize([]string{anyLoopback}, "code_challenge", "", "code_challenge_method", "").StatusCode == http.StatusOK
				}},
				{[]string{"note  request for another resource: seen 200 text/html"}, func(s *seenAt) bool {
					return s.authorize([]string{anyLoopback}, "resource", "https://attacker.invalid/mcp").StatusCode == http.StatusOK
				}},
			}, []string{"Claude", "ChatGPT", "VS Code", "Cursor", "Gemini CLI"}, []string{"Gemini CLI", "Go SDK"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			logs := &rig.Logs{}
			server := c.start(t, logs)
			o := doctor.Options{URL: server.URL, Timeout: 5 * time.Second, Register: true, Login: c.login != nil, Call: "whoami"}
			if strings.HasPrefix(c.name, "the TypeScript") {
				o.Call = "" // it has tools that want arguments
			}
			o.Visit = func(url string) { go visitAsNobody(t.Context(), url) }
			r := doctor.Run(t.Context(), o)
			var b strings.Builder
			if err := r.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			bodies := registrations(server.Asked(0))
			for _, line := range c.login {
				if !strings.Contains(text, line) {
					t.Errorf("no line with %q\n%s", line, text)
				}
			}
			s := lookAt(t, server.URL)
			claimed := 0
			for _, claim := range c.claims {
				if err := inOneLine(text, claim.line...); err != nil {
					t.Errorf("%v\n%s", err, text)
				}
				if !claim.isSo(s) {
					t.Errorf("doctor says %q, and that is not so", claim.line)
				}
				claimed += strings.Count(claim.line[0], "WRONG ")
			}
			wrong := 0
			for _, f := range r.Findings {
				if f.Wrong() {
					wrong++
				}
			}
			if claimed != wrong {
				t.Errorf("%d lines are WRONG, and %d were looked at\n%s", wrong, claimed, text)
			}
			t.Log(text)
			verdicts := map[string]bool{}
			for _, v := range r.Verdicts {
				verdicts[v.Client] = v.Works
				if v.Works == slices.Contains(c.breaks, v.Client) && !old(v) {
					t.Errorf("%+v", v)
				}
			}
			if server.Asked(0) != nil {
				// It takes 20 registrations in an hour, and doctor says that those were its own.
				o.Login = false
				again := doctor.Run(t.Context(), o)
				i := slices.IndexFunc(again.Findings, func(f report.Finding) bool { return strings.HasPrefix(f.Seen, "a rate limit (429) after ") })
				if i < 0 || !again.Findings[i].Note || s.register("", anyLoopback).StatusCode != http.StatusTooManyRequests {
					t.Errorf("when it has run twice: %+v", again.Findings)
				}
				server = c.start(t, logs)
			}
			realClientsAgree(t, logs, server, c.clients, verdicts, bodies)
		})
	}
}

// visitAsNobody is the person at a server that asks nobody.
func visitAsNobody(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if strings.HasSuffix(resp.Request.URL.Path, "/authorize") {
		return errors.New("the server asks the person")
	}
	return nil
}

// registrations are the bodies that were posted, by client_name.
func registrations(asked []rig.Passed) map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, a := range asked {
		var body map[string]any
		if a.Method == http.MethodPost && a.Path == "/register" && json.Unmarshal(a.Body, &body) == nil {
			name, _ := body["client_name"].(string)
			name, _, _ = strings.Cut(name, " (")
			// of mcp-remote, which has one for each of its programs
			name = strings.TrimSuffix(strings.TrimSuffix(name, " Client"), " Proxy")
			all[name] = body
		}
	}
	return all
}

// realClientsAgree lets real clients log in: they get as far as doctor says, and where the requests
// are kept, they send what doctor sends in their name.
func realClientsAgree(t *testing.T, logs *rig.Logs, server *rig.OtherServer, names []string, verdicts map[string]bool, bodies map[string]map[string]any) {
	t.Helper()
	known := map[string]doctor.Fact{}
	for _, f := range doctor.Facts() {
		known[f.Client] = f
	}
	reached := 0
	s := site{"other", logs, func(ctx context.Context, asked *url.URL) error {
		reached++
		return visitAsNobody(ctx, asked.String())
	}, func() string { return "" }}
	way := way{name: dcrPublic, Server: server.URL, Redirect: callbackPath, AuthMethod: "none"}
	argument, err := json.Marshal(way)
	if err != nil {
		t.Fatal(err)
	}
	sdks := map[string]string{"TypeScript SDK": "client-v1.mjs", "Go SDK": "gosdk"}
	for _, name := range names {
		if !isInstalled(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			before, version := len(server.Asked(0)), ""
			reached = 0
			if script := sdks[name]; script != "" {
				a := startApplication(t, logs, name, sdkCommand(t, nil, script, string(argument)), func(ctx context.Context, start string) error {
					asked, err := url.Parse(start)
					if err != nil {
						return err
					}
					return s.allow(ctx, asked)
				})
				if ready := a.answer().Ready; ready != nil {
					version = ready.Version
				}
			} else {
				i := slices.IndexFunc(allPrograms, func(p program) bool { return p.name == name })
				p := allPrograms[i].install(t, s, way)
				p.patience = 8 * time.Second
				p.login()
				version = p.got.Version
			}
			asked := server.Asked(before)
			works := slices.ContainsFunc(asked, func(a rig.Passed) bool { return a.Path == "/token" && a.Status == http.StatusOK })
			if len(asked) == 0 { // nobody keeps them
				works = reached > 0
			}
			if works != verdicts[name] {
				t.Errorf("works: %v; doctor says %v\n%s", works, verdicts[name], logs.Tail(name, 20))
			}
			if version != "" && known[name].Known != "measured with "+version {
				t.Errorf("is %s, and doctor's facts are %s", version, known[name].Known)
			}
			if len(asked) == 0 {
				return
			}
			if first := asked[0]; known[name].First != "" && (first.Method != known[name].First || first.Path != "/mcp") || known[name].First == "" && first.Path == "/mcp" {
				t.Errorf("begins with %s %s; doctor believes %q", first.Method, first.Path, known[name].First)
			}
			for client, body := range registrations(asked) {
				sent := bodies[client]
				if sdks[name] != "" { // its name is the application's
					continue
				}
				for _, member := range []string{"redirect_uris", "client_name"} {
					delete(sent, member)
					delete(body, member)
				}
				if fmt.Sprint(sent) != fmt.Sprint(body) {
					t.Errorf("%s registers with\n%v, doctor with\n%v", client, body, sent)
				}
			}
		})
	}
}

// Whom a document breaks that is not quite as it should be, doctor says as real clients do.
func TestDoctorComparesAsRealClientsDo(t *testing.T) {
	t.Parallel()
	serve := func(w http.ResponseWriter, document map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(document)
	}
	for _, c := range []struct {
		name      string
		resource  string // behind the origin
		elsewhere bool   // the 401 points to another origin
		dead      bool   // what the 401 points to is not there
		often     bool   // also without -matrix
	}{
		{name: "a slash more", resource: "/mcp/", often: true},
		{name: "the origin", resource: "/"},
		{name: "a sibling", resource: "/else"},
		{name: "below", resource: "/mcp/deeper"},
		{name: "the 401 points to another origin", resource: "/mcp", elsewhere: true},
		{name: "the 401 points to nothing", resource: "/mcp", dead: true},
	} {
		if !c.often && !*matrix {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var url, other string
			as := http.NewServeMux()
			as.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
				serve(w, map[string]any{"issuer": other, "authorization_endpoint": other + "/authorize", "token_endpoint": other + "/token", "registration_endpoint": other + "/register",
					"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none"}})
			})
			as.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
				var body map[string]any
				_ = json.NewDecoder(r.Body).Decode(&body)
				body["client_id"] = "c1"
				w.WriteHeader(http.StatusCreated)
				serve(w, body)
			})
			as.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<form>") })
			as.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				serve(w, map[string]any{"error": "invalid_client"})
			})
			mcp := http.NewServeMux()
			resource := func(w http.ResponseWriter, _ *http.Request) {
				serve(w, map[string]any{"resource": url + c.resource, "authorization_servers": []string{other}})
			}
			mcp.HandleFunc("/mcp", func(w http.ResponseWriter, _ *http.Request) {
				at := url
				if c.elsewhere {
					at = other
				}
				w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+at+`/document"`)
				w.WriteHeader(http.StatusUnauthorized)
			})
			mcp.HandleFunc("GET /.well-known/oauth-protected-resource/mcp", resource)
			if as.HandleFunc("GET /document", resource); !c.dead {
				mcp.HandleFunc("GET /document", resource)
			}
			for at, handler := range map[*string]http.Handler{&url: mcp, &other: as} {
				server := httptest.NewServer(handler)
				t.Cleanup(server.Close)
				*at = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
			}
			r := doctor.Run(t.Context(), doctor.Options{URL: url + "/mcp", Timeout: 5 * time.Second, Register: true})
			verdicts := map[string]bool{}
			for _, v := range r.Verdicts {
				verdicts[v.Client] = v.Works
			}
			realClientsAgree(t, &rig.Logs{}, &rig.OtherServer{URL: url + "/mcp"}, []string{"Codex", "Claude Code", "Gemini CLI", "mcp-remote", "MCP Inspector", "TypeScript SDK", "Go SDK"}, verdicts, nil)
		})
	}
}
