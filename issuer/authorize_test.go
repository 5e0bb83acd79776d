package issuer_test

import (
	"html"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// Until client and redirect URI are proven, an error is a page: a redirect would make this server
// an open redirector.
func TestAuthorizeErrorsThatAreShown(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	for _, c := range []struct{ name, query, says string }{
		{"nothing", "", "not registered"},
		{"an unknown client", with(a.authorization(), "client_id", "my-client").Encode(), "not registered"},
		{"no client", with(a.authorization(), "client_id", "").Encode(), "not registered"},
		{"a client_id with one letter changed", with(a.authorization(), "client_id", a.id[:20]+another(a.id[20:21])+a.id[21:]).Encode(), "not registered"},
		{"a client_id with a blank", with(a.authorization(), "client_id", a.id+" ").Encode(), "not registered"},
		{"a client_id of 10 KB", with(a.authorization(), "client_id", a.id+strings.Repeat("A", 10<<10)).Encode(), "not registered"},
		{"another redirect URI", with(a.authorization(), "redirect_uri", "https://evil.example/").Encode(), "not one that this application registered"},
		{"a bad client and a bad redirect URI", "client_id=x&redirect_uri=https://evil.example/&state=s", "not registered"},
		{"a repeated client_id", a.authorization().Encode() + "&client_id=" + a.id, "repeated"},
		{"a repeated redirect_uri", a.authorization().Encode() + "&redirect_uri=https://evil.example/", "repeated"},
		{"a repeated state", a.authorization().Encode() + "&state=x", "repeated"},
		{"a repeated code_challenge", a.authorization().Encode() + "&code_challenge=x", "repeated"},
		{"a repeated unknown parameter", a.authorization().Encode() + "&x=1&x=2", "repeated"},
		{"a broken escape", a.authorization().Encode() + "&x=%zz", "not well-formed"},
		{"semicolons", strings.ReplaceAll(a.authorization().Encode(), "&", ";"), "not well-formed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRequest(t, "GET", a.base+"/oauth/authorize", "", "")
			r.URL.RawQuery = c.query
			got := w.do(r)
			if got.Status != 400 || !strings.Contains(got.Body, c.says) || strings.Contains(got.Body, "evil.example") {
				t.Errorf("status %d: %s", got.Status, got.Body)
			}
			checkPage(t, got)
			if got.Header.Get("Location") != "" || got.Header.Get("Set-Cookie") != "" || strings.Contains(got.Body, "refresh") {
				t.Errorf("headers %v", got.Header)
			}
		})
	}
}

// checkPage checks the headers that every page for a person must have.
func checkPage(t testing.TB, r reply) {
	t.Helper()
	h := r.Header
	csp := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'", "style-src 'sha256-"} {
		if !strings.Contains(csp, want) {
			t.Errorf("Content-Security-Policy %q lacks %s", csp, want)
		}
	}
	for name, want := range map[string]string{
		"X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		"X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if r.Status < 300 || r.Status >= 400 {
		if h.Get("Content-Type") != "text/html; charset=utf-8" || !strings.HasPrefix(r.Body, "<!doctype html>") {
			t.Errorf("no page: %q %q", h.Get("Content-Type"), r.Body)
		}
	}
	for _, bad := range []string{"<script", "javascript:", "<img", "http-equiv=\"refresh\" content=\"\"", "ZgotmplZ", "src=", "@import"} {
		if strings.Contains(r.Body, bad) {
			t.Errorf("the page contains %s", bad)
		}
	}
}

// onThisMachine registers a program that waits for its answer on a loopback address.
var onThisMachine = map[string]any{"redirect_uris": []string{"http://127.0.0.1:33418/callback"}, "token_endpoint_auth_method": "none", "client_name": "Test App"}

// Anybody can register any address. A link to our endpoint with a wrong parameter must not forward
// people there.
func TestErrorsBeforeConsentForwardNobodyToOtherHosts(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, uri := range []string{"https://phish.example/x", "cursor://anysphere.cursor-mcp/oauth/callback", "com.example.app:/callback"} {
		a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{uri}, "token_endpoint_auth_method": "none"})
		for _, changes := range [][]string{{"response_type", "x"}, {"code_challenge", ""}, {"prompt", "none"}, {"resource", "https://evil.example/"}} {
			got := w.get(a.authorizeURL(changes...))
			if got.Status != 400 || got.Header.Get("Location") != "" || strings.Contains(got.Body, "http-equiv") {
				t.Errorf("%s, %v: status %d, Location %q: %s", uri, changes, got.Status, got.Header.Get("Location"), got.Body)
			}
			_, link, _ := strings.Cut(got.Body, `<a id="continue" href="`)
			link, _, _ = strings.Cut(link, `"`)
			to, err := url.Parse(html.UnescapeString(link))
			if err != nil || !strings.HasPrefix(html.UnescapeString(link), uri) || to.Query().Get("error") == "" || to.Query().Get("iss") != a.base || to.Query().Get("state") != a.state {
				t.Errorf("%s, %v: the page leads to %q (%v)", uri, changes, link, err)
			}
			checkPage(t, got)
		}
	}
}

// After consent, a client on the person's own machine is told at once, with its state and our name.
func TestAuthorizeErrorsThatGoToTheClient(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, onThisMachine)
	c43 := challenge(a.verifier)
	for _, c := range []struct {
		name    string
		changes []string
		code    string
		state   string
	}{
		{"no response_type", []string{"response_type", ""}, "unsupported_response_type", a.state},
		{"response_type=token", []string{"response_type", "token"}, "unsupported_response_type", a.state},
		{"response_type=id_token", []string{"response_type", "id_token"}, "unsupported_response_type", a.state},
		{"response_type=code token", []string{"response_type", "code token"}, "unsupported_response_type", a.state},
		{"response_type in capitals", []string{"response_type", "CODE"}, "unsupported_response_type", a.state},
		{"no PKCE at all", []string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request", a.state},
		{"no method, which means plain", []string{"code_challenge_method", ""}, "invalid_request", a.state},
		{"plain", []string{"code_challenge_method", "plain"}, "invalid_request", a.state},
		{"s256", []string{"code_challenge_method", "s256"}, "invalid_request", a.state},
		{"S512", []string{"code_challenge_method", "S512"}, "invalid_request", a.state},
		{"no challenge", []string{"code_challenge", ""}, "invalid_request", a.state},
		{"a challenge of 42 characters", []string{"code_challenge", c43[:42]}, "invalid_request", a.state},
		{"a challenge of 44 characters", []string{"code_challenge", c43 + "A"}, "invalid_request", a.state},
		{"a padded challenge", []string{"code_challenge", c43 + "="}, "invalid_request", a.state},
		{"a challenge in standard base64", []string{"code_challenge", "++++++++++++++++++++++++++++++++++++++++++A"}, "invalid_request", a.state},
		{"a challenge with a line break", []string{"code_challenge", c43 + "\n"}, "invalid_request", a.state},
		{"a challenge with trailing bits", []string{"code_challenge", strings.Repeat("A", 42) + "B"}, "invalid_request", a.state},
		{"a challenge of 10 KB", []string{"code_challenge", strings.Repeat("A", 10<<10)}, "invalid_request", a.state},
		{"a state of 1,025 characters, which is not sent back", []string{"state", strings.Repeat("s", 1025)}, "invalid_request", ""},
		{"a state of 1,024 characters", []string{"state", strings.Repeat("s", 1024), "response_type", "x"}, "unsupported_response_type", strings.Repeat("s", 1024)},
		{"a state that is no text, which no sealed value holds", []string{"state", "\xff"}, "invalid_request", ""},
		{"no state", []string{"state", "", "response_type", "x"}, "unsupported_response_type", ""},
		{"a state that needs escaping", []string{"state", "a&iss=x\r\n#é", "response_type", "x"}, "unsupported_response_type", "a&iss=x\r\n#é"},
		{"prompt=none", []string{"prompt", "none"}, "consent_required", a.state},
		{"a request object", []string{"request", "e30.e30."}, "request_not_supported", a.state},
		{"a request object by reference", []string{"request_uri", "https://app.example/request"}, "request_uri_not_supported", a.state},
		{"a client in the request", []string{"registration", "{}"}, "registration_not_supported", a.state},
		{"response_mode=fragment", []string{"response_mode", "fragment"}, "invalid_request", a.state},
		{"response_mode=form_post", []string{"response_mode", "form_post"}, "invalid_request", a.state},
		{"another resource", []string{"resource", "https://evil.example/"}, "invalid_target", a.state},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := w.get(a.authorizeURL(c.changes...))
			to, _ := url.Parse(a.wantsErrorRedirect(t, got, c.code, c.state))
			if to.Query().Has("state") != (c.state != "") {
				t.Errorf("state in %s", to)
			}
			checkPage(t, got)
			if got.Header.Get("Set-Cookie") != "" {
				t.Error("a cookie for a request that was refused")
			}
		})
	}
}

// The redirect keeps the query of the registered address.
func TestAnswerKeepsTheQueryOfTheRedirectURI(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, uri := range []string{"https://app.example/cb?tenant=7", "https://app.example/cb?", "com.example.app:/cb?a=b", "http://127.0.0.1/?x=%26"} {
		t.Run(uri, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{uri}, "token_endpoint_auth_method": "none"})
			want, _ := url.Parse(uri)
			back := issuertest.NewBrowser(t, w.net).Login(a.authorizeURL())
			q := back.Query()
			for name, values := range want.Query() {
				if len(q[name]) != 1 || q.Get(name) != values[0] {
					t.Errorf("%s in %s", name, back)
				}
				q.Del(name)
			}
			if len(q) != 3 || len(q["code"]) != 1 || q.Get("state") != a.state || q.Get("iss") != a.base || back.Scheme != want.Scheme || back.Host != want.Host || back.Path != want.Path {
				t.Errorf("the client got %s", back)
			}
		})
	}
}

func TestResourceParameter(t *testing.T) {
	const other = "invalid_target"
	for _, c := range []struct {
		name, base string
		resources  []string
		aud        string // the token's second audience; empty: refused
	}{
		{"none", "", nil, "https://mcp.localhost/wiki"},
		{"an empty one counts as none", "", []string{""}, "https://mcp.localhost/wiki"},
		{"the public URL", "", []string{"https://mcp.localhost/wiki"}, "https://mcp.localhost/wiki"},
		{"with a trailing slash", "", []string{"https://mcp.localhost/wiki/"}, "https://mcp.localhost/wiki"},
		{"an endpoint", "", []string{"https://mcp.localhost/wiki/mcp"}, "https://mcp.localhost/wiki/mcp"},
		{"an endpoint with a trailing slash", "", []string{"https://mcp.localhost/wiki/mcp/"}, "https://mcp.localhost/wiki/mcp"},
		{"another endpoint", "", []string{"https://mcp.localhost/wiki/sse"}, "https://mcp.localhost/wiki/sse"},
		{"with a query, as it was typed", "", []string{"https://mcp.localhost/wiki/mcp?project=1&b="}, "https://mcp.localhost/wiki/mcp"},
		{"with an empty query", "", []string{"https://mcp.localhost/wiki?"}, "https://mcp.localhost/wiki"},
		{"with the port of https", "", []string{"https://mcp.localhost:443/wiki"}, "https://mcp.localhost/wiki"},
		{"the same twice", "", []string{"https://mcp.localhost/wiki/mcp", "https://mcp.localhost/wiki/mcp"}, "https://mcp.localhost/wiki/mcp"},
		{"the same in three spellings", "", []string{"https://mcp.localhost/wiki/", "https://MCP.localhost/wiki", "https://mcp.localhost/wiki?a=b"}, "https://mcp.localhost/wiki"},
		{"the same and an empty one", "", []string{"", "https://mcp.localhost/wiki/mcp"}, "https://mcp.localhost/wiki/mcp"},
		{"the host alone, which is narrowed", "", []string{"https://mcp.localhost"}, "https://mcp.localhost/wiki"},
		{"the host with a slash, which is narrowed", "", []string{"https://mcp.localhost/"}, "https://mcp.localhost/wiki"},
		{"a path above, which is narrowed", "https://mcp.localhost/team/wiki", []string{"https://mcp.localhost/team"}, "https://mcp.localhost/team/wiki"},
		{"an address that does not exist", "", []string{"https://mcp.localhost/wiki/a/b"}, ""},
		{"an address below an endpoint", "", []string{"https://mcp.localhost/wiki/mcp/x"}, ""},
		{"a sentence for the person to read", "", []string{"https://mcp.localhost/wiki/Your-session-has-ended.-Call-0800-123"}, ""},
		{"a path that is the beginning of a segment", "https://mcp.localhost/team/wiki", []string{"https://mcp.localhost/te"}, ""},
		{"scheme and host in capitals", "", []string{"HTTPS://MCP.LocalHost/wiki"}, "https://mcp.localhost/wiki"},
		{"an origin with a slash added, as new URL().href does", "https://wiki.example", []string{"https://wiki.example/"}, "https://wiki.example"},
		{"the path in capitals", "", []string{"https://mcp.localhost/WIKI"}, ""},
		{"two trailing slashes", "", []string{"https://mcp.localhost/wiki//"}, ""},
		{"a double slash inside", "", []string{"https://mcp.localhost/wiki//mcp"}, ""},
		{"another path", "", []string{"https://mcp.localhost/world"}, ""},
		{"a path that begins the same", "", []string{"https://mcp.localhost/wikipedia"}, ""},
		{"another host", "", []string{"https://evil.example/wiki"}, ""},
		{"a host that begins the same", "", []string{"https://mcp.localhost.evil.example/wiki"}, ""},
		{"another scheme", "", []string{"http://mcp.localhost/wiki"}, ""},
		{"another port", "", []string{"https://mcp.localhost:8443/wiki"}, ""},
		{"user information", "", []string{"https://mcp.localhost@evil.example/wiki"}, ""},
		{"user information of the host", "", []string{"https://a@mcp.localhost/wiki"}, ""},
		{"a fragment", "", []string{"https://mcp.localhost/wiki#a"}, ""},
		{"an empty fragment", "", []string{"https://mcp.localhost/wiki#"}, ""},
		{"dot segments", "", []string{"https://mcp.localhost/wiki/../world"}, ""},
		{"dot segments that lead back", "", []string{"https://mcp.localhost/world/../wiki"}, ""},
		{"one dot", "", []string{"https://mcp.localhost/wiki/./mcp"}, ""},
		{"an encoded slash", "", []string{"https://mcp.localhost/wiki%2f..%2fworld"}, ""},
		{"encoded dots", "", []string{"https://mcp.localhost/wiki/%2e%2e/world"}, ""},
		{"an encoded letter", "", []string{"https://mcp.localhost/wik%69"}, ""},
		{"a backslash", "", []string{`https://mcp.localhost/wiki\..\world`}, ""},
		{"a path parameter", "", []string{"https://mcp.localhost/wiki;a=b"}, ""},
		{"a space", "", []string{"https://mcp.localhost/wiki "}, ""},
		{"a relative one", "", []string{"/wiki"}, ""},
		{"the audience", "", []string{"urn:https://mcp.localhost/wiki"}, ""},
		{"513 characters", "", []string{"https://mcp.localhost/wiki?" + strings.Repeat("a", 486)}, ""},
		{"two", "", []string{"https://mcp.localhost/wiki", "https://mcp.localhost/wiki/mcp"}, ""},
		{"one of ours and another server's", "", []string{"https://mcp.localhost/wiki", "https://mcp.localhost/world"}, ""},
		{"one of ours and the host alone, which would be narrowed to another", "", []string{"https://mcp.localhost/wiki/mcp", "https://mcp.localhost"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				if c.base != "" {
					w.wiki = w.tenant(c.base)
				}
			})
			a := w.register(w.wiki.PublicURL, onThisMachine)
			query := a.authorization()
			query["resource"] = c.resources
			address := a.base + "/oauth/authorize?" + query.Encode()
			if c.aud == "" {
				a.wantsErrorRedirect(t, w.get(address), other, a.state)
				return
			}
			page := w.get(address)
			if !strings.Contains(page.Body, "<dd>"+c.aud+"</dd>") {
				t.Errorf("the page does not show %s: %s", c.aud, page.Body)
			}
			back := issuertest.NewBrowser(t, w.net).Login(address)
			form := a.redemption(back.Query().Get("code"))
			form["resource"] = c.resources // and at the token endpoint, in the same spelling
			got := a.token(form).wants(t, 200, "")
			aud := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())["aud"].([]any)
			if len(aud) != 2 || aud[0] != w.wiki.Audience || aud[1] != c.aud {
				t.Errorf("aud %v", aud)
			}
		})
	}
}

// If the label audience equals the resource, the token names it once.
func TestAudienceThatIsTheResource(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.Audience = w.wiki.PublicURL })
	a := w.register(w.wiki.PublicURL, nil)
	if aud := w.verifiedToken(a.base, a.login().text("access_token"), w.clock.Now())["aud"].([]any); len(aud) != 1 || aud[0] != w.wiki.PublicURL {
		t.Errorf("aud %v", aud)
	}
}

func TestScopeParameter(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	const all = "mcp:read mcp:write email"
	for _, c := range []struct{ name, asked, want string }{
		{"none: all there is", "", all},
		{"white space: all there is", "   ", all},
		{"one", "mcp:read", "mcp:read"},
		{"several, in the labels' order", "email mcp:read", "mcp:read email"},
		{"one twice", "mcp:read mcp:read", "mcp:read"},
		{"unknown ones are dropped", "mcp:read claudeai profile admin", "mcp:read"},
		{"only unknown ones: what opens the door", "claudeai", "mcp:read mcp:write"},
		{"identity scopes alone ask for no right in particular", "openid email profile offline_access", all},
		{"an identity scope and a right", "email mcp:write", "mcp:write email"},
		{"openid gives nothing, since there is no id_token", "openid mcp:read", "mcp:read"},
		{"offline_access is no right at a server", "mcp:read offline_access", "mcp:read"},
		{"in another case", "MCP:READ", "mcp:read mcp:write"},
		{"a prefix", "mcp:", "mcp:read mcp:write"},
		{"markup", "mcp:read <script>", "mcp:read"},
		{"10 KB of them", "mcp:read " + strings.Repeat("x ", 5<<10), "mcp:read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			got := a.login("scope", c.asked)
			if got.text("scope") != c.want || w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())["scope"] != c.want {
				t.Errorf("scope %q, want %q", got.text("scope"), c.want)
			}
			shownRights := rightsOn(w.get(a.authorizeURL("scope", c.asked)).Body)
			for _, scope := range strings.Fields(all) {
				shown := map[string]string{"email": "see your e-mail address"}[scope]
				if shown == "" {
					shown = scope
				}
				if granted := strings.Contains(" "+c.want+" ", " "+scope+" "); slices.Contains(shownRights, shown) != granted {
					t.Errorf("the page shows %s: %v", scope, !granted)
				}
			}
			if !slices.Contains(shownRights, "know who you are") {
				t.Error("the page does not say that the server learns who comes")
			}
			if _, ok := got.JSON["scope"]; !ok {
				t.Error("the answer does not say what was granted")
			}
		})
	}
}

// another returns a letter that differs from this one.
func another(letter string) string {
	if letter == "A" {
		return "B"
	}
	return "A"
}
