package doctor_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
)

// foreign is another MCP server with its authorization server, which a test spoils. Nothing of it
// is as MCPBouncer has it.
type foreign struct {
	*httptest.Server
	resource, server map[string]any
	token            string // of its token endpoint
	// everywhere answers before all, and says whether that is the whole answer.
	everywhere func(http.ResponseWriter, *http.Request) bool

	mu   sync.Mutex
	seen []*http.Request
}

func newForeign(t *testing.T, spoil func(f *foreign, mux *http.ServeMux)) *foreign {
	t.Helper()
	f := &foreign{token: "opaque-token"}
	mux := http.NewServeMux()
	f.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.seen = append(f.seen, r)
		f.mu.Unlock()
		if f.everywhere == nil || !f.everywhere(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	f.resource = map[string]any{"resource": f.URL + "/mcp", "authorization_servers": []string{f.URL}}
	f.server = map[string]any{"issuer": f.URL, "authorization_endpoint": f.URL + "/authorize", "token_endpoint": f.URL + "/token", "registration_endpoint": f.URL + "/register",
		"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none", "client_secret_post"},
		"grant_types_supported": []string{"authorization_code", "refresh_token"}, "authorization_response_iss_parameter_supported": true}
	if spoil != nil {
		spoil(f, mux)
	}
	serve := func(path string, document map[string]any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(document)
		})
	}
	serve("/.well-known/oauth-protected-resource/mcp", f.resource)
	serve("/.well-known/oauth-authorization-server", f.server)
	mux.HandleFunc("/register", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		json.NewDecoder(r.Body).Decode(&body)
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"client_id": "c1", "redirect_uris": body["redirect_uris"]})
	})
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if strings.Contains(q.Get("redirect_uri"), "attacker") || q.Get("code_challenge") == "" || strings.Contains(q.Get("resource"), "attacker") {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<form>")
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_id") != "c1" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client"}`)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"access_token": f.token, "token_type": "bearer", "expires_in": 60})
	})
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+f.token {
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+f.URL+`/.well-known/oauth-protected-resource/mcp"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var message struct {
			Method string `json:"method"`
		}
		json.NewDecoder(r.Body).Decode(&message)
		switch message.Method {
		case "initialize":
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"foreign"}}}`)
		case "tools/list":
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}`)
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
	return f
}

func (f *foreign) examine(t *testing.T, change func(*doctor.Options)) (*report.Report, string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(f.Certificate())
	u, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := doctor.Options{URL: f.URL + "/mcp", Timeout: time.Second, CA: pool, Register: true, Connect: u.Host}
	if change != nil {
		change(&o)
	}
	r := doctor.Run(t.Context(), o)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	return r, text.String()
}

func hasLine(text string, parts ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

// What stands in the documents of MCPBouncer is not looked for in those of others.
func TestDoctorFindsNothingWrongWithAnotherGoodServer(t *testing.T) {
	f := newForeign(t, nil)
	r, text := f.examine(t, func(o *doctor.Options) {
		o.Login = true
		o.Visit = func(raw string) {
			u, _ := url.Parse(raw)
			q := u.Query()
			go http.Get(q.Get("redirect_uri") + "?code=x&iss=" + url.QueryEscape(f.URL) + "&state=" + q.Get("state"))
		}
	})
	if r.Status() != report.StatusGood || !hasLine(text, "login: seen the person came back") || strings.Contains(text, "Traefik") || strings.Contains(text, "sidecar") {
		t.Error(text)
	}
}

func TestDoctorsPageSaysHowEachClientIsKnown(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range doctor.Facts() {
		if row := "\n| " + f.Client + " | " + f.Known + " |\n"; f.Known == "" || !strings.Contains(string(page), row) {
			t.Errorf("docs/doctor.md has no row %q", row)
		}
	}
}

// Each fault is planted in a server that is not ours, and has its line.
func TestDoctorNamesFaultsOfAnyServer(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(f *foreign, mux *http.ServeMux)
		line  []string
		wrong bool
	}{
		{"no PKCE", func(f *foreign, _ *http.ServeMux) { delete(f.server, "code_challenge_methods_supported") },
			[]string{"WRONG metadata code_challenge_methods_supported: expected S256; seen none", "fault: server", "every client"}, true},
		{"another issuer", func(f *foreign, _ *http.ServeMux) { f.server["issuer"] = f.URL + "/" },
			[]string{"WRONG metadata issuer: "}, true},
		{"nobody can register", func(f *foreign, _ *http.ServeMux) { delete(f.server, "registration_endpoint") },
			[]string{"WRONG ways to a client_id: "}, true},
		{"resource of another", func(f *foreign, _ *http.ServeMux) { f.resource["resource"] = "https://other.example/mcp" },
			[]string{"WRONG resource: expected ", "seen https://other.example/mcp"}, true},
		{"resource above", func(f *foreign, _ *http.ServeMux) { f.resource["resource"] = f.URL },
			[]string{"WRONG resource: ", "breaks: Claude, ChatGPT, Gemini CLI; hinders: VS Code, Go SDK;"}, true},
		{"resource with a slash more", func(f *foreign, _ *http.ServeMux) { f.resource["resource"] = f.URL + "/mcp/" },
			[]string{"WRONG resource: ", "breaks: Claude, Claude Code, ChatGPT, Cursor, Codex, Gemini CLI, mcp-remote, MCP Inspector, TypeScript SDK, Python SDK, Rust SDK, use-mcp and other pages of browsers; hinders: VS Code, Go SDK;"}, true},
		{"challenge to another origin", func(f *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="https://elsewhere.invalid/.well-known/oauth-protected-resource/mcp"`)
				w.WriteHeader(http.StatusUnauthorized)
			})
		}, []string{"WRONG challenge: expected resource_metadata on the server's own origin", "breaks: Gemini CLI; hinders: Codex, Rust SDK;"}, true},
		{"no authorization server", func(f *foreign, _ *http.ServeMux) { f.resource["authorization_servers"] = []string{} },
			[]string{"WRONG authorization_servers at "}, true},
		{"token endpoint of plain http", func(f *foreign, _ *http.ServeMux) { f.server["token_endpoint"] = "http://as.example.com/token" },
			[]string{"WRONG metadata token_endpoint: expected an https URL"}, true},
		{"endpoint of another scheme", func(f *foreign, _ *http.ServeMux) { f.server["authorization_endpoint"] = "javascript:alert(1)" },
			[]string{"WRONG metadata authorization_endpoint: expected an https URL"}, true},
		{"open redirector", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.FormValue("redirect_uri")+"?code=x", http.StatusFound)
			})
		}, []string{"WRONG unknown redirect URI: expected a refusal on a page; seen the answer goes there"}, true},
		{"registration drops the address", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, `{"client_id":"c1","redirect_uris":["https://claude.ai/api/mcp/auth_callback"]}`)
			})
		}, []string{"WRONG registration: expected the redirect URIs as they were sent; seen without http://localhost:8090/callback"}, true},
		{"token endpoint without a word", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		}, []string{"WRONG token endpoint: expected 400 or 401 with a JSON error; seen 500"}, true},
		{"document that moved to another server", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("GET /.well-known/oauth-protected-resource/mcp", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://elsewhere.invalid/?secret=1", http.StatusFound)
			})
		}, []string{"WRONG the resource's document at ", "seen 302 text/html to https://elsewhere.invalid/;"}, true},
		{"clock", func(f *foreign, mux *http.ServeMux) {
			mux.HandleFunc("GET /mcp", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				w.WriteHeader(http.StatusUnauthorized)
			})
		}, []string{"WRONG clock: ", "ahead of it", "fault: server"}, true},
		{"open", func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"serverInfo":{"name":"x"}}}`)
			})
		}, []string{"WRONG access without a token: expected 401 to POST; seen 200: THE SERVER IS OPEN TO EVERYBODY"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, text := newForeign(t, c.spoil).examine(t, nil)
			if !hasLine(text, c.line...) {
				t.Errorf("no line with %q\n%s", c.line, text)
			}
			if c.wrong && r.Status() != report.StatusFound {
				t.Errorf("status %d\n%s", r.Status(), text)
			}
		})
	}
}

// A hostile server gets nothing of the operator's: no token, no request to another address, no line
// of the terminal, and not more memory than is allotted to it.
func TestDoctorIsSafeWithAHostileServer(t *testing.T) {
	var asked []string
	var mu sync.Mutex
	inside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
	}))
	t.Cleanup(inside.Close)
	f := newForeign(t, func(f *foreign, mux *http.ServeMux) {
		// plain http beyond this computer, and a redirect to what only the operator reaches
		f.resource["resource"] = "https://x/\x1b[2J\r\nok    all is well"
		f.server["registration_endpoint"] = "http://192.0.2.1/register"
		f.server["revocation_endpoint"] = "file:///etc/passwd"
		f.server["jwks_uri"] = f.URL + "/long"
		mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
			piece := []byte(strings.Repeat("[", 1<<16))
			for range 1 << 10 {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		})
		mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL+"/authorize", http.StatusFound)
		})
		mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				http.Redirect(w, r, inside.URL+"/stolen", http.StatusTemporaryRedirect)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+inside.URL+`/metadata"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL+"/moved", http.StatusFound)
		})
	})
	_, text := f.examine(t, func(o *doctor.Options) { o.Token = "secret-token" })
	for _, bad := range []string{"\x1b", "\r", "\nok    all is well", "secret-token"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is printed:\n%s", bad, text)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, request := range asked {
		if strings.Contains(request, "stolen") || strings.Contains(request, "moved") || strings.Contains(request, "authorize") {
			t.Errorf("a redirect was followed: %s", request)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.seen {
		if r.Header.Get("Authorization") != "" && r.URL.Path != "/mcp" {
			t.Errorf("the token went to %s", r.URL.Path)
		}
	}
}

// What doctor was given, and what it got, is in no line: those are sent to whoever shall help.
func TestDoctorShowsNoSecretThatAServerRepeats(t *testing.T) {
	repeat := func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		_, password, _ := r.BasicAuth()
		w.Header().Set("WWW-Authenticate", `Bearer error_description="`+r.Header.Get("Authorization")+`"`)
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "%s %s %v", password, r.Header.Get("Authorization"), r.Form)
	}
	for name, c := range map[string]struct {
		spoil  func(f *foreign, mux *http.ServeMux)
		change func(*doctor.Options)
		line   string
	}{
		"a registration without client_id": {func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, `{"client_secret":"secret-of-it"}`)
			})
		}, nil, "WRONG registration: "},
		"tokens with 201": {func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, `{"access_token":"secret-token"}`)
			})
		}, func(o *doctor.Options) { o.Login = true }, "WRONG login: token: "},
		"code and client secret": {func(f *foreign, mux *http.ServeMux) {
			f.server["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
			mux.HandleFunc("POST /token", repeat)
		}, func(o *doctor.Options) { o.Login, o.ClientID, o.ClientSecret = true, "c1", "secret-of-client" }, "WRONG login: token: "},
		"an access token": {func(_ *foreign, mux *http.ServeMux) {
			mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) { repeat(w, r) })
		}, func(o *doctor.Options) { o.Token = "secret-token" }, "WRONG MCP initialize: "},
	} {
		f := newForeign(t, c.spoil)
		_, text := f.examine(t, func(o *doctor.Options) {
			o.Visit = func(raw string) {
				u, _ := url.Parse(raw)
				q := u.Query()
				go http.Get(q.Get("redirect_uri") + "?code=secret-code&iss=" + url.QueryEscape(f.URL) + "&state=" + q.Get("state"))
			}
			if c.change != nil {
				c.change(o)
			}
		})
		if !hasLine(text, c.line) || strings.Contains(text, "secret-") || strings.Contains(text, "c2VjcmV0") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// resolveBy answers each question for an IPv4 address with the next of these, and then with the
// last.
func resolveBy(t *testing.T, addresses ...[4]byte) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before; server.Close() })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	go func() {
		for asked := make([]byte, 512); ; {
			n, from, err := server.ReadFrom(asked)
			if err != nil {
				return
			}
			end := 12 // RFC 1035 section 4.1: a header of 12 bytes, the name, type and class
			for end < n && asked[end] != 0 {
				end += 1 + int(asked[end])
			}
			said := append([]byte{asked[0], asked[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, asked[12:end+5]...)
			if asked[end+2] == 1 { // A
				said[7] = 1
				said = append(said, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				said = append(said, addresses[0][:]...)
				addresses = addresses[min(1, len(addresses)-1):]
			}
			server.WriteTo(said, from)
		}
	}()
}

// Whoever has the name of the server cannot send doctor to an address of the operator's network,
// nor get leave for that by an address that it has for a moment.
func TestDoctorAsksANameWhereItWasLookedUp(t *testing.T) {
	f := newForeign(t, nil)
	_, port, _ := strings.Cut(strings.TrimPrefix(f.URL, "https://"), ":")
	for name, c := range map[string]struct {
		addresses [][4]byte
		seen      string
	}{
		"a public one, then a private one": {[][4]byte{{8, 8, 8, 8}, {127, 0, 0, 1}}, "a private address, which is not asked"},
		"a private one, then a public one": {[][4]byte{{127, 0, 0, 1}, {8, 8, 8, 8}}, "a name that has a private one too"},
	} {
		resolveBy(t, c.addresses...)
		r, text := f.examine(t, func(o *doctor.Options) { o.URL, o.Connect = "https://example.com:"+port+"/mcp", "" })
		if !hasLine(text, "WRONG connection: ", c.seen) || r.Status() != report.StatusUnable || len(f.seen) > 0 {
			t.Errorf("%s: %d requests\n%s", name, len(f.seen), text)
		}
	}
}

// A token goes to nobody whose certificate is not good.
func TestDoctorSendsNoTokenOverABadCertificate(t *testing.T) {
	f := newForeign(t, nil)
	_, text := f.examine(t, func(o *doctor.Options) { o.Token, o.CA = "secret-token", nil })
	if !hasLine(text, "WRONG certificate: ") || !hasLine(text, "note  login: seen not tried: the certificate is not good") {
		t.Error(text)
	}
	for _, r := range f.seen {
		if r.Header.Get("Authorization") != "" {
			t.Error("the token was sent")
		}
	}
}

func TestDoctorSaysWhyItCannotRun(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"mcp.example.com/wiki", "not the URL of an MCP server"},
		{"ftp://mcp.example.com/wiki", "not the URL of an MCP server"},
		{"https://ada:secret@mcp.example.com/wiki", "not the URL of an MCP server"},
		{"https://nobody.invalid/mcp", "the name nobody.invalid has no address"},
		{"http://127.0.0.1:1/mcp", "the server does not answer"},
	} {
		r := doctor.Run(t.Context(), doctor.Options{URL: c.url, Timeout: time.Second})
		if r.Status() != report.StatusUnable || !strings.Contains(r.Unable, c.want) {
			t.Errorf("%s: status %d, %q, want %q", c.url, r.Status(), r.Unable, c.want)
		}
	}
	r := doctor.Run(t.Context(), doctor.Options{URL: "http://mcp.example.com/mcp"})
	if r.Status() != report.StatusFound || r.Findings[0].Check != "address" {
		t.Errorf("plain http: %+v", r)
	}
}

// What comes back to the listener is believed only with our state, and only from the server that
// was asked.
func TestDoctorsLoginBelievesOneAnswer(t *testing.T) {
	for _, c := range []struct {
		name, query string
		line        []string
	}{
		{"of another server", "code=x&iss=https%3A%2F%2Fattacker.invalid", []string{"WRONG login: iss: expected https://127.0.0.1", "attacker.invalid"}},
		{"without iss, which was promised", "code=x", []string{"WRONG login: iss: "}},
		{"an error", "error=access_denied&error_description=no%1b%5B2Jway", []string{"WRONG login: answer: expected a code; seen access_denied no·[2Jway"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newForeign(t, nil)
			_, text := f.examine(t, func(o *doctor.Options) {
				o.Login = true
				o.Visit = func(raw string) {
					u, _ := url.Parse(raw)
					q := u.Query()
					go func() {
						// a page of somebody else's tries first
						for _, guess := range []string{"", "guess"} {
							resp, err := http.Get(q.Get("redirect_uri") + "?code=stolen&state=" + guess)
							if err != nil || resp.StatusCode != http.StatusNotFound {
								t.Errorf("state %q: %v %v", guess, resp, err)
							}
						}
						http.Get(q.Get("redirect_uri") + "?" + c.query + "&state=" + q.Get("state"))
					}()
				}
			})
			if !hasLine(text, c.line...) {
				t.Errorf("no line with %q\n%s", c.line, text)
			}
			if r := f.requests("POST", "/token"); len(r) > 1 { // one has a code of nobody's
				t.Errorf("%d requests for a token", len(r))
			}
		})
	}
}

// Of a server that hands out tokens which it then refuses, the line is at the MCP server.
func TestDoctorSaysThatATokenIsRefused(t *testing.T) {
	f := newForeign(t, nil)
	r, text := f.examine(t, func(o *doctor.Options) { o.Token = "expired-token" })
	if r.Status() != report.StatusFound || !hasLine(text, "WRONG MCP initialize: expected 200 with a result; seen 401", "the challenge says why: Bearer resource_metadata=") {
		t.Error(text)
	}
	if strings.Contains(text, "expired-token") {
		t.Error("the token is printed")
	}
}

// A server that takes no tokens but bound ones gets a login with proofs by a key of doctor's own.
// The verdict is that of the clients, which have no such key.
func TestDoctorProvesAKeyWhereTheServerDemandsIt(t *testing.T) {
	nonces := dpop.NewNonces(make([]byte, 32))
	var key string
	// proved checks a proof as a server does, and sends the client back for the nonce.
	proved := func(w http.ResponseWriter, r *http.Request, url, token string, status int) bool {
		proof, err := dpop.Verify(r.Header.Get("DPoP"), &dpop.Want{Method: r.Method, URL: url, AccessToken: token, Nonces: nonces, Now: time.Now().Unix()})
		if err == nil && (key == "" || key == proof.Thumbprint) {
			key = proof.Thumbprint
			return true
		}
		w.Header().Set("DPoP-Nonce", nonces.Make(time.Now().Unix()))
		code := "invalid_dpop_proof"
		if dpop.WantsNonce(err) {
			code = "use_dpop_nonce"
		}
		w.Header().Set("WWW-Authenticate", `DPoP error="`+code+`"`)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":%q}`, code)
		return false
	}
	for _, spoilt := range []bool{false, true} {
		key = ""
		f := newForeign(t, func(f *foreign, _ *http.ServeMux) { f.resource["dpop_bound_access_tokens_required"] = true })
		f.everywhere = func(w http.ResponseWriter, r *http.Request) bool {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			switch {
			case r.URL.Path == "/token" && r.FormValue("client_id") == "c1":
				if proved(w, r, f.URL+"/token", "", http.StatusBadRequest) {
					kind := "DPoP"
					if spoilt {
						kind = "Bearer"
					}
					json.NewEncoder(w).Encode(map[string]any{"access_token": f.token, "token_type": kind, "expires_in": 60})
				}
				return true
			case r.URL.Path == "/mcp" && scheme != "DPoP":
				w.Header().Set("WWW-Authenticate", `DPoP resource_metadata="`+f.URL+`/.well-known/oauth-protected-resource/mcp"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			case r.URL.Path == "/mcp":
				if token != f.token || !proved(w, r, f.URL+"/mcp", token, http.StatusUnauthorized) {
					return true
				}
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return false
		}
		_, text := f.examine(t, func(o *doctor.Options) {
			o.Login = true
			o.Visit = func(raw string) {
				u, _ := url.Parse(raw)
				q := u.Query()
				go http.Get(q.Get("redirect_uri") + "?code=x&iss=" + url.QueryEscape(f.URL) + "&state=" + q.Get("state"))
			}
		})
		for _, line := range [][]string{
			{"ok    challenge: seen DPoP with resource_metadata"},
			{"WRONG metadata dpop_bound_access_tokens_required: expected false", "breaks: every client", "the label dpop"},
			{"ok    login: seen the person came back, and the code brought a token"},
			{"ok    MCP tools/list: seen 0 tools"},
		} {
			if !hasLine(text, line...) {
				t.Errorf("no line with %q\n%s", line, text)
			}
		}
		if hasLine(text, "WRONG login: token_type: expected DPoP; seen Bearer") != spoilt {
			t.Errorf("spoilt %v\n%s", spoilt, text)
		}
		if _, text = f.examine(t, func(o *doctor.Options) { o.Token = "somebodys-token" }); !hasLine(text, "note  login: seen not tried", "only from whoever has its key") {
			t.Error(text)
		}
	}
}

func (f *foreign) requests(method, path string) (of []*http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.seen {
		if r.Method == method && r.URL.Path == path {
			of = append(of, r)
		}
	}
	return of
}
