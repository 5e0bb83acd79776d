package issuer_test

import (
	"encoding/json"
	"html"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

func TestRedirectURIsThatCanBeRegistered(t *testing.T) {
	w := newWorld(t, nil, nil)
	const no = "invalid_redirect_uri"
	for _, c := range []struct{ name, uri, want string }{
		{"https", "https://app.example/callback", ""},
		{"https with a port", "https://app.example:8443/callback", ""},
		{"https with a query", "https://app.example/callback?a=b&c=d", ""},
		{"https without a path", "https://app.example", ""},
		{"https on an address", "https://[2001:db8::1]/", ""},
		{"https in capitals", "HTTPS://app.example/", ""},
		{"a host in punycode", "https://xn--bcher-kva.example/", ""},
		{"localhost", "http://localhost/callback", ""},
		{"localhost with a port", "http://localhost:8787/callback", ""},
		{"127.0.0.1", "http://127.0.0.1:33418/", ""},
		{"[::1]", "http://[::1]:1/callback", ""},
		{"the highest port", "http://127.0.0.1:65535/", ""},
		{"a reverse-domain scheme", "com.example.app:/callback", ""},
		{"a reverse-domain scheme with an authority", "com.example.app://callback", ""},
		{"Cursor's scheme", "cursor://anysphere.cursor-mcp/oauth/callback", ""},
		{"Cline's address at VS Code", "vscode://saoudrizwan.claude-dev/mcp-auth/callback/3f2a9c", ""},
		{"Cline's at Cursor", "cursor://saoudrizwan.claude-dev/mcp-auth/callback/3f2a9c", ""},
		{"another thing that Cline does at Cursor", "cursor://saoudrizwan.claude-dev/task?prompt=delete", no},
		{"Warp's", "warp://mcp/oauth2callback", ""},
		{"Warp's of old", "warp://mcp/oauth2callback?server_id=65aebdca-613a-4b60-97d3-92548673bd03", ""},
		{"Raycast's", "raycast://oauth?package_name=mcp_server_wiki_(dev)", ""},
		{"another thing that Cline does", "vscode://saoudrizwan.claude-dev/task?prompt=delete", no},
		{"the same by a dot segment", "vscode://saoudrizwan.claude-dev/mcp-auth/callback/../../task?prompt=delete", no},
		{"the same by an encoded dot segment", "vscode://saoudrizwan.claude-dev/mcp-auth/callback/%2e%2e/%2E./task?prompt=delete", no},
		{"the same by an encoded slash", "vscode://saoudrizwan.claude-dev/mcp-auth/callback/..%2f..%2ftask?prompt=delete", no},
		{"a single dot at the end", "vscode://saoudrizwan.claude-dev/mcp-auth/callback/.", no},
		{"a path that only begins like Cline's", "vscode://saoudrizwan.claude-dev/mcp-auth/callback2", no},
		{"another extension of VS Code", "vscode://evil.extension/mcp-auth/callback/3f2a9c", no},
		{"another thing that Warp does", "warp://action/new_tab?path=/", no},
		{"another thing that Raycast does", "raycast://extensions/evil/command", no},
		{"Raycast's host with a port", "raycast://oauth:80?package_name=x", no},
		{"Raycast's host in capitals", "raycast://OAUTH?package_name=x", no},
		{"Raycast's without an authority", "raycast:oauth?package_name=x", no},
		{"200 characters", "https://app.example/" + strings.Repeat("a", 180), ""},
		{"201 characters", "https://app.example/" + strings.Repeat("a", 181), no},
		{"nothing", "", no},
		{"http elsewhere", "http://app.example/callback", no},
		{"a percent-encoded Cyrillic letter, which a page would show as Latin", "https://%D0%B0pple.com/cb", no},
		{"a percent-encoded slash look-alike", "https://good.com%E2%81%84login.evil.com/cb", no},
		{"a percent-encoded right-to-left override", "https://good.com%E2%80%AE/cb", no},
		{"a percent-encoded ASCII letter in the host", "https://%61pp.example/cb", no},
		{"the same in a private-use scheme", "com.example.app://%D0%B0pple.com/cb", no},
		{"user information before another host", "http://127.0.0.1:80@evil.example/", no},
		{"user information", "https://user:password@app.example/", no},
		{"empty user information", "https://@app.example/", no},
		{"a fragment", "https://app.example/#part", no},
		{"an empty fragment", "https://app.example/#", no},
		{"a backslash", `https://app.example\@evil.example/`, no},
		{"a backslash in the path", `https://app.example/\evil`, no},
		{"a space", "https://app.example/ a", no},
		{"a leading space", " https://app.example/", no},
		{"a line break", "https://app.example/\r\nSet-Cookie: a=b", no},
		{"a tab", "https://app.example/\t", no},
		{"a NUL", "https://app.example/\x00", no},
		{"a quotation mark", `https://app.example/"onload=`, no},
		{"markup", "https://app.example/<script>", no},
		{"a wildcard", "https://*.app.example/", no},
		{"a wildcard in the path", "https://app.example/*", no},
		{"letters that look alike", "https://аpp.example/", no},
		{"a host that begins like localhost", "http://localhost.evil.example/", no},
		{"a host that ends like localhost", "http://evil.localhost/", no},
		{"localhost in capitals", "http://LOCALHOST/", no},
		{"localhost with a dot", "http://localhost./", no},
		{"127.1", "http://127.1/", no},
		{"127.0.0.2", "http://127.0.0.2/", no},
		{"octal", "http://0177.0.0.1/", no},
		{"decimal", "http://2130706433/", no},
		{"hexadecimal", "http://0x7f000001/", no},
		{"0.0.0.0", "http://0.0.0.0/", no},
		{"a mapped address", "http://[::ffff:127.0.0.1]/", no},
		{"a long spelling of [::1]", "http://[0:0:0:0:0:0:0:1]/", no},
		{"[::1] with a zone", "http://[::1%25lo]/", no},
		{"port 0", "http://127.0.0.1:0/", no},
		{"port 99999", "http://127.0.0.1:99999/", no},
		{"port 65536", "http://127.0.0.1:65536/", no},
		{"an empty port", "http://127.0.0.1:/", no},
		{"a port that is no number", "http://127.0.0.1:http/", no},
		{"https with port 0", "https://app.example:0/", no},
		{"https with a trailing dot", "https://app.example./", no},
		{"https without a host", "https:///callback", no},
		{"https without an authority", "https:callback", no},
		{"https with an escape in the host", "https://app%2eexample/", no},
		{"https on an IPv4 address", "https://192.0.2.7/", ""},
		{"https on an address in decimal", "https://3221225991/", no},
		{"https on an address in hexadecimal", "https://0xc0000207/", no},
		{"https on an address in octal", "https://0300.0.2.7/", no},
		{"https on an address of two parts", "https://192.519/", no},
		{"https on an address of five parts", "https://192.0.2.7.1/", no},
		{"https on an address out of range", "https://192.0.2.256/", no},
		{"https on a name that ends in a number", "https://app.example.0x7/", no},
		{"https on a name that begins with a number", "https://7.app.example/", ""},
		{"https on a long spelling of IPv6", "https://[2001:db8:0:0:0:0:0:1]/", no},
		{"https on IPv6 in capitals", "https://[2001:DB8::1]/", ""},
		{"https on a mapped address", "https://[::ffff:192.0.2.7]/", no},
		{"https on a mapped address in hexadecimal", "https://[::ffff:c000:207]/", no},
		{"no scheme", "//app.example/callback", no},
		{"a path", "/callback", no},
		{"a word", "callback", no},
		{"javascript", "javascript:alert(1)", no},
		{"javascript in mixed case", "JaVaScRiPt:alert(1)", no},
		{"javascript with an authority", "javascript://app.example/%0aalert(1)", no},
		{"data", "data:text/html,hello", no},
		{"vbscript", "vbscript:x", no},
		{"file", "file:///etc/passwd", no},
		{"blob", "blob:https://app.example/1", no},
		{"about", "about:blank", no},
		{"view-source", "view-source:https://app.example/", no},
		{"intent", "intent://scan/;scheme=zxing;end", no},
		{"ms-word", "ms-word:ofe|u|https://evil.example/", no},
		{"ms-settings", "ms-settings:", no},
		{"vscode", "vscode:extension/evil.extension", no},
		{"Cursor's scheme with another host", "cursor://evil.extension/callback", no},
		{"Cursor's scheme without a host", "cursor:/callback", no},
		{"ftp", "ftp://app.example/", no},
		{"a scheme without a dot", "myapp:/callback", no},
		{"an opaque reverse-domain URI", "com.example.app:callback", no},
		{"a query with code", "https://app.example/?code=x", no},
		{"a query with iss", "https://app.example/?a=b&iss=https://evil.example", no},
		{"a query with an escaped state", "https://app.example/?%73tate=x", no},
		{"a query with error", "https://app.example/?error=x", no},
		{"a broken query", "https://app.example/?a=%zz", no},
		{"a query with semicolons", "https://app.example/?a=b;code=x", no},
		{"a broken escape in the path", "https://app.example/%zz", no},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, _ := json.Marshal(map[string]any{"redirect_uris": []string{c.uri}})
			status := 201
			if c.want != "" {
				status = 400
			}
			got := w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", string(body))).wants(t, status, c.want)
			if c.want == "" {
				return
			}
			// An address that cannot be registered cannot be requested either, whatever is
			// registered.
			a := w.register(w.wiki.PublicURL, nil)
			if p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL("redirect_uri", "") + "&redirect_uri=" + url.QueryEscape(c.uri)); c.uri != "" && (p.Status != 400 || p.Next() != "") {
				t.Errorf("authorize: status %d, leads to %q", p.Status, p.Next())
			}
			if strings.ContainsAny(got.Body, "\r\n") {
				t.Errorf("the answer repeats what was sent: %q", got.Body)
			}
		})
	}
}

func TestRedirectURIMatches(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct {
		name, registered, asked string
		matches                 bool
	}{
		{"the same", "https://app.example/cb", "https://app.example/cb", true},
		{"none, when one is registered", "https://app.example/cb", "", true},
		{"another port of a loopback address", "http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", true},
		{"another port than the registered one", "http://127.0.0.1:33418/", "http://127.0.0.1:5000/", true},
		{"no port where one is registered", "http://127.0.0.1:33418/", "http://127.0.0.1/", true},
		{"another port of localhost", "http://localhost/callback", "http://localhost:3118/callback", true},
		{"another port of [::1]", "http://[::1]/callback", "http://[::1]:3118/callback", true},
		{"a loopback address with the same query", "http://127.0.0.1/cb?a=b", "http://127.0.0.1:1/cb?a=b", true},
		{"a loopback address without a path, and one with a slash", "http://127.0.0.1:33418", "http://127.0.0.1:33418/", true},
		{"a loopback address with a slash, and one without a path on another port", "http://localhost/", "http://localhost:7777", true},
		{"a loopback address without a path, with a query", "http://localhost?a=b", "http://localhost:1/?a=b", true},
		{"another host without a path", "https://app.example", "https://app.example/", false},
		{"a slash at the end of a loopback address's path", "http://localhost/cb", "http://localhost:1/cb/", false},
		{"another path", "https://app.example/cb", "https://app.example/cb/2", false},
		{"a path that goes up", "https://app.example/cb", "https://app.example/cb/../evil", false},
		{"a trailing slash", "https://app.example/cb", "https://app.example/cb/", false},
		{"another query", "https://app.example/cb", "https://app.example/cb?a=b", false},
		{"another case", "https://app.example/cb", "https://app.example/CB", false},
		{"the host in another case", "https://app.example/cb", "https://APP.example/cb", false},
		{"another port of https", "https://app.example/cb", "https://app.example:8443/cb", false},
		{"the default port written out", "https://app.example/cb", "https://app.example:443/cb", false},
		{"another host", "https://app.example/cb", "https://evil.example/cb", false},
		{"a longer host", "https://app.example", "https://app.example.evil.example", false},
		{"http for https", "https://app.example/cb", "http://app.example/cb", false},
		{"https for loopback http", "http://127.0.0.1/cb", "https://127.0.0.1/cb", false},
		{"localhost for 127.0.0.1", "http://127.0.0.1/cb", "http://localhost/cb", false},
		{"127.0.0.1 for localhost", "http://localhost/cb", "http://127.0.0.1:1/cb", false},
		{"[::1] for 127.0.0.1", "http://127.0.0.1/cb", "http://[::1]/cb", false},
		{"another path of a loopback address", "http://127.0.0.1/cb", "http://127.0.0.1:1/other", false},
		{"an escaped path of a loopback address", "http://127.0.0.1/a/b", "http://127.0.0.1:1/a%2Fb", false},
		{"another query of a loopback address", "http://127.0.0.1/cb?a=b", "http://127.0.0.1:1/cb?a=c", false},
		{"port 0", "http://127.0.0.1/cb", "http://127.0.0.1:0/cb", false},
		{"port 99999", "http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", false},
		{"an empty port", "http://127.0.0.1/cb", "http://127.0.0.1:/cb", false},
		{"user information", "http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb", false},
		{"user information on a loopback address", "http://127.0.0.1/cb", "http://evil@127.0.0.1/cb", false},
		{"a fragment", "http://127.0.0.1/cb", "http://127.0.0.1/cb#x", false},
		{"another address of this machine", "http://127.0.0.1/cb", "http://127.0.0.2/cb", false},
		{"a private scheme with another path", "com.example.app:/cb", "com.example.app:/other", false},
		{"a private scheme", "com.example.app:/cb", "com.example.app:/cb", true},
		{"a prefix of what is registered", "https://app.example/callback", "https://app.example/call", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{c.registered}, "token_endpoint_auth_method": "none"})
			browser := issuertest.NewBrowser(t, w.net)
			p := browser.Get(a.authorizeURL("redirect_uri", c.asked))
			if !c.matches {
				if p.Status != 400 || p.Next() != "" {
					t.Fatalf("status %d, leads to %q, want a page", p.Status, p.Next())
				}
				return
			}
			if p.Status != 200 {
				t.Fatalf("status %d: %s", p.Status, p.Body)
			}
			to := c.asked
			if to == "" {
				to = c.registered
			}
			back := browser.Follow(browser.Decide(p, "allow"))
			if !strings.HasPrefix(back.String(), to) {
				t.Fatalf("the code went to %s", back)
			}
			form := a.redemption(back.Query().Get("code"))
			if c.asked == "" {
				form.Del("redirect_uri")
			} else {
				form.Set("redirect_uri", c.asked)
			}
			a.token(form).wants(t, 200, "")
		})
	}
}

// A client may write a loopback address without a path in one request and with a slash in the next.
// The port must be that of the authorization request, because at another port there is another
// program.
func TestRedirectURIAtTheTokenEndpoint(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct {
		name, authorized, redeemed string
		same                       bool
	}{
		{"the same", "http://localhost:7777", "http://localhost:7777", true},
		{"a slash more", "http://localhost:7777", "http://localhost:7777/", true},
		{"a slash less", "http://localhost:7777/", "http://localhost:7777", true},
		{"another port", "http://localhost:7777", "http://localhost:7778", false},
		{"another host of this machine", "http://localhost:7777", "http://127.0.0.1:7777", false},
		{"another path", "http://localhost:7777", "http://localhost:7777/cb", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"http://localhost", "http://127.0.0.1"}, "token_endpoint_auth_method": "none"})
			a.redirect = c.authorized
			form := with(a.redemption(a.code()), "redirect_uri", c.redeemed)
			if c.same {
				a.token(form).wants(t, 200, "")
			} else {
				a.token(form).wants(t, 400, "invalid_grant")
			}
		})
	}
}

// With two registered addresses the request must say which.
func TestRedirectURIMustBeNamedWhenThereAreTwo(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback, callback + "/2"}, "token_endpoint_auth_method": "none"})
	if p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL("redirect_uri", "")); p.Status != 400 || p.Next() != "" {
		t.Errorf("status %d, leads to %q", p.Status, p.Next())
	}
	a.redirect = callback + "/2"
	a.login()
}

// The addresses that the label privateRedirectURIs names, and those below them, may be registered.
// No others may, and none at another server.
func TestRedirectURIsThatTheOperatorAllows(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.PrivateRedirectURIs = []string{"workbuddy://workbuddy/mcp", "myapp:/callback"} })
	world := w.tenant("https://mcp.localhost/world")
	w.serve(world)
	for _, c := range []struct {
		name, uri string
		allowed   bool
	}{
		{"what is named", "myapp:/callback", true},
		{"with a query", "myapp:/callback?server=1", true},
		{"below it", "workbuddy://workbuddy/mcp/connector/oauth/callback", true},
		{"another path", "workbuddy://workbuddy/install?url=https://evil.example", false},
		{"a path that only begins like it", "workbuddy://workbuddy/mcp2", false},
		{"above it", "workbuddy://workbuddy/mcp/../install", false},
		{"above it, encoded", "workbuddy://workbuddy/mcp/%2e%2e/install", false},
		{"another host", "workbuddy://evil/mcp", false},
		{"a longer host", "workbuddy://workbuddy.evil.example/mcp", false},
		{"the path as a host", "myapp://callback", false},
		{"another scheme", "otherapp:/callback", false},
		{"a fragment", "myapp:/callback#x", false},
		{"a query with code", "myapp:/callback?code=x", false},
		{"user information", "workbuddy://me@workbuddy/mcp", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			metadata := map[string]any{"redirect_uris": []string{c.uri}, "token_endpoint_auth_method": "none"}
			body, _ := json.Marshal(metadata)
			w.do(newRequest(t, "POST", world.PublicURL+"/oauth/register", "application/json", string(body))).wants(t, 400, "invalid_redirect_uri")
			if !c.allowed {
				w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", string(body))).wants(t, 400, "invalid_redirect_uri")
				return
			}
			a := w.register(w.wiki.PublicURL, metadata)
			a.redirect = c.uri
			a.login()
		})
	}
	document := w.publish(documentURL, map[string]any{"redirect_uris": []string{callback, "myapp:/callback"}})
	document.login()
	if p := document.page("redirect_uri", "myapp:/callback"); p.Status != 400 || p.Next() != "" {
		t.Errorf("of a metadata document: status %d, leads to %q", p.Status, p.Next())
	}
	a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"myapp:/callback"}, "token_endpoint_auth_method": "none"})
	a.redirect = "myapp:/callback"
	w.relabel(func(t *labels) { t.PrivateRedirectURIs = nil })
	if p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL()); p.Status != 400 || p.Next() != "" {
		t.Errorf("without the label, what was registered before: status %d, leads to %q", p.Status, p.Next())
	}
}

// FuzzRedirectURI checks that every registered address leads to the host that it names and gets
// exactly one of each parameter.
func FuzzRedirectURI(f *testing.F) {
	for _, seed := range []string{callback, "http://127.0.0.1/", "com.example.app:/cb", "cursor://anysphere.cursor-mcp/oauth/callback", "vscode://saoudrizwan.claude-dev/mcp-auth/callback/x", "raycast://oauth?a", "https://app.example/?a=b", "https://a@b/", "https://a/#", "javascript:x", "https://a/?", "http://[::1]:1/", "https://a/?code", "x.y://?&&", "https://a\\b/"} {
		f.Add(seed)
	}
	w := newWorld(f, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	w.register(w.wiki.PublicURL, nil) // starts the replica
	f.Fuzz(func(t *testing.T, raw string) {
		body, err := json.Marshal(map[string]any{"redirect_uris": []string{raw}, "token_endpoint_auth_method": "none"})
		if err != nil {
			return // no such request can be written
		}
		r := readReply(t, mustRoundTrip(t, w, newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", string(body))))
		if r.Status == 413 {
			return
		}
		if r.Status != 201 {
			r.wants(t, 400, "invalid_redirect_uri")
			return
		}
		raw = r.JSON["redirect_uris"].([]any)[0].(string)
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q was accepted: %v", raw, err)
		}
		isLoopback := func(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }
		private := strings.Contains(u.Scheme, ".") || slices.Contains([]string{"cursor://anysphere.cursor-mcp", "warp://mcp", "raycast://oauth", "vscode://saoudrizwan.claude-dev",
			"vscode-insiders://saoudrizwan.claude-dev", "cursor://saoudrizwan.claude-dev", "windsurf://saoudrizwan.claude-dev"}, u.Scheme+"://"+u.Host)
		if u.User != nil || u.Fragment != "" || strings.Contains(raw, "#") || !(u.Scheme == "https" && u.Hostname() != "" || u.Scheme == "http" && isLoopback(u.Hostname()) || private) {
			t.Fatalf("%q was accepted", raw)
		}
		a := &app{w: w, base: w.wiki.PublicURL, id: r.text("client_id"), redirect: raw, verifier: strings.Repeat("v", 43), state: "s"}
		answer := readReply(t, mustRoundTrip(t, w, newRequest(t, "GET", a.authorizeURL("response_type", "token"), "", "")))
		next := answer.Header.Get("Location") // to this machine at once, elsewhere by a link
		if private || !isLoopback(strings.ToLower(u.Hostname())) {
			_, next, _ = strings.Cut(answer.Body, `<a id="continue" href="`)
			next, _, _ = strings.Cut(next, `"`)
			next = html.UnescapeString(next)
			_, shown, _ := strings.Cut(answer.Body, `">Go back to `)
			shown, _, _ = strings.Cut(shown, "</a>")
			if shown = html.UnescapeString(shown); !strings.Contains(strings.ToLower(raw), strings.TrimPrefix(shown, u.Scheme+"://")) {
				t.Fatalf("%q is shown as %q", raw, shown)
			}
		}
		to, err := url.Parse(next)
		if err != nil || to.Scheme != u.Scheme || to.Host != u.Host || to.Opaque != u.Opaque || to.Path != u.Path || to.Fragment != "" {
			t.Fatalf("%q led to %q (status %d, %v)", raw, next, answer.Status, err)
		}
		for name, want := range map[string]string{"error": "unsupported_response_type", "state": "s", "iss": a.base} {
			if got := to.Query()[name]; len(got) != 1 || got[0] != want {
				t.Fatalf("%q led to %q: %s is %q", raw, to, name, got)
			}
		}
	})
}
