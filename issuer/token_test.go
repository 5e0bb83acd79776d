package issuer_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

func TestRedemptionThatIsFirstIsTheProvidersDecision(t *testing.T) {
	for _, c := range []struct {
		name     string
		be       issuertest.Behaviour
		status   int // of the second redemption
		code     string
		exchange string
		posts    int
	}{
		{"a provider that refuses a used code", issuertest.Behaviour{}, 400, "invalid_grant", "token", 2},
		{"a provider that says invalid_code", issuertest.Behaviour{CodeReuse: "invalid_code"}, 400, "invalid_grant", "token", 2},
		{"a provider that takes a code as often as it comes: so do we", issuertest.Behaviour{CodeReuse: "allowed"}, 200, "", "token", 2},
		{"redeemed at the callback: the provider is asked once", issuertest.Behaviour{}, 200, "", "callback", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.skews, w.wiki.Exchange = []time.Duration{0, 0}, c.exchange })
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			code := a.code()
			a.token(a.redemption(code)).wants(t, 200, "")
			a.token(a.redemption(code)).wants(t, c.status, c.code)
			if n := w.idp.Posts(); n != c.posts {
				t.Errorf("%d posts, want %d", n, c.posts)
			}
		})
	}
}

func TestRedemptionsAtTheSameTime(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.skews = []time.Duration{0, 0} })
	a := w.register(w.wiki.PublicURL, nil)
	code := a.code()
	var wait sync.WaitGroup
	replies := make([]reply, 8)
	for i := range replies {
		r := a.tokenRequest(a.redemption(code))
		wait.Go(func() { replies[i] = w.do(r) })
	}
	wait.Wait()
	granted := 0
	for _, r := range replies {
		if r.Status == 200 {
			granted++
		} else {
			r.wants(t, 400, "invalid_grant")
		}
	}
	if granted != 1 || w.idp.Posts() != len(replies) {
		t.Errorf("%d granted with %d posts, want 1 with %d", granted, w.idp.Posts(), len(replies))
	}
}

// A request that fails at a check of the sidecar must not use the code up, or a thief could spoil
// it.
func TestRedemptionThatFailsDoesNotReachTheProvider(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.idp.Be(issuertest.Behaviour{BurnOnWrongProof: true})
	const basic, public = "basic", "public"
	clients := map[string]*app{
		basic:  w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback, callback + "/2"}}),
		public: w.register(w.wiki.PublicURL, nil),
	}
	stranger := w.register(w.wiki.PublicURL, nil)
	set := func(changes ...string) func(*app, url.Values, *http.Request) (url.Values, *http.Request) {
		return func(a *app, form url.Values, _ *http.Request) (url.Values, *http.Request) {
			return with(form, changes...), nil
		}
	}
	for _, c := range []struct {
		name   string
		client string
		change func(*app, url.Values, *http.Request) (url.Values, *http.Request)
		after  time.Duration
		status int
		code   string
	}{
		{"a wrong verifier", public, set("code_verifier", strings.Repeat("a", 43)), 0, 400, "invalid_grant"},
		{"no verifier", public, set("code_verifier", ""), 0, 400, "invalid_grant"},
		{"the challenge in place of the verifier", public, func(a *app, f url.Values, _ *http.Request) (url.Values, *http.Request) {
			return with(f, "code_verifier", challenge(a.verifier)), nil
		}, 0, 400, "invalid_grant"},
		{"another redirect_uri", public, set("redirect_uri", "https://app.example/other"), 0, 400, "invalid_grant"},
		{"another registered redirect_uri", basic, set("redirect_uri", callback+"/2"), 0, 400, "invalid_grant"},
		{"another resource", public, set("resource", "https://mcp.localhost/world"), 0, 400, "invalid_target"},
		{"a wider resource", public, set("resource", "https://mcp.localhost/wiki"), 0, 400, "invalid_target"},
		{"another path below the public URL", public, set("resource", "https://mcp.localhost/wiki/sse"), 0, 400, "invalid_target"},
		{"a code that is a minute and the skew old", public, set(), 6*time.Minute + time.Second, 400, "invalid_grant"},
		{"a changed code", public, func(a *app, f url.Values, _ *http.Request) (url.Values, *http.Request) {
			code := []byte(f.Get("code"))
			code[len(code)/2] ^= 1
			return with(f, "code", string(code)), nil
		}, 0, 400, "invalid_grant"},
		{"no code", public, set("code", ""), 0, 400, "invalid_grant"},
		{"another grant type", public, set("grant_type", "password"), 0, 400, "unsupported_grant_type"},
		{"the code as a refresh token", public, func(a *app, f url.Values, _ *http.Request) (url.Values, *http.Request) {
			return a.refreshment(f.Get("code")), nil
		}, 0, 400, "invalid_grant"},
		{"another client", public, func(_ *app, f url.Values, _ *http.Request) (url.Values, *http.Request) {
			return f, stranger.tokenRequest(f)
		}, 0, 400, "invalid_grant"},
		{"a wrong secret", basic, func(a *app, f url.Values, r *http.Request) (url.Values, *http.Request) {
			r.SetBasicAuth(a.id, stranger.id)
			return f, r
		}, 0, 401, "invalid_client"},
		{"no secret", basic, func(a *app, f url.Values, r *http.Request) (url.Values, *http.Request) {
			r.SetBasicAuth(a.id, "")
			return f, r
		}, 0, 401, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := clients[c.client]
			code := a.code("resource", w.wiki.PublicURL+"/mcp")
			before := w.idp.Posts()
			form := a.redemption(code)
			w.clock.Add(c.after)
			changed, r := c.change(a, form, a.tokenRequest(form))
			if r == nil {
				r = a.tokenRequest(changed)
			}
			w.do(r).wants(t, c.status, c.code)
			if n := w.idp.Posts() - before; n != 0 {
				t.Errorf("%d posts, want none", n)
			}
			if c.after == 0 {
				a.token(with(form, "resource", w.wiki.PublicURL+"/mcp")).wants(t, 200, "")
				if n := w.idp.Posts() - before; n != 1 {
					t.Errorf("%d posts after the right redemption, want 1", n)
				}
			}
		})
	}
}

// RFC 7636 §4.1: 43 to 128 unreserved characters. A shorter one could be guessed from its
// challenge.
func TestCodeVerifiers(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct {
		name, verifier string
		ok             bool
	}{
		{"43 characters", strings.Repeat("v", 43), true},
		{"128 characters", strings.Repeat("v", 128), true},
		{"every kind of character", "ABCXYZabcxyz0123456789-._~ABCXYZabcxyz01234", true},
		{"42 characters", strings.Repeat("v", 42), false},
		{"129 characters", strings.Repeat("v", 129), false},
		{"one character", "v", false},
		{"a blank", strings.Repeat("v", 43) + " ", false},
		{"a line break", strings.Repeat("v", 43) + "\n", false},
		{"a plus sign", strings.Repeat("v", 43) + "+", false},
		{"letters that are no ASCII", strings.Repeat("é", 43), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.register(w.wiki.PublicURL, nil)
			a.verifier = c.verifier
			got := a.token(a.redemption(a.code()))
			if c.ok {
				got.wants(t, 200, "")
			} else {
				got.wants(t, 400, "invalid_grant")
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	w := newWorld(t, nil, nil)
	basic := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}})
	post := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "client_secret_post"})
	public := w.register(w.wiki.PublicURL, nil)
	encode := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	refresh := map[*app]string{}
	for _, a := range []*app{basic, post, public} {
		refresh[a] = a.login().text("refresh_token")
	}
	const signature = "AWS4-HMAC-SHA256 Credential=…"
	for _, c := range []struct {
		name          string
		client        *app
		authorization string
		id, secret    string // in the body
		status        int
		code          string
		challenge     bool
	}{
		{"a public client names itself", public, "", public.id, "", 200, "", false},
		{"a public client in the header with an empty secret, as Go's oauth2 begins", public, encode(public.id, ""), "", "", 200, "", false},
		{"a public client in header and body", public, encode(public.id, ""), public.id, "", 200, "", false},
		{"a public client with a secret", public, "", public.id, basic.secret, 401, "invalid_client", false},
		{"a public client with a secret in the header", public, encode(public.id, "x"), "", "", 401, "invalid_client", true},
		{"a secret in the header", basic, encode(basic.id, basic.secret), "", "", 200, "", false},
		{"a secret in the header, form-encoded", basic, encode(url.QueryEscape(basic.id), url.QueryEscape(basic.secret)), "", "", 200, "", false},
		{"a secret in the header and client_id in the body, as the Python SDK does", basic, encode(basic.id, basic.secret), basic.id, "", 200, "", false},
		{"a secret registered for the header, sent in the body", basic, "", basic.id, basic.secret, 200, "", false},
		{"a secret in the body", post, "", post.id, post.secret, 200, "", false},
		{"a secret registered for the body, sent in the header", post, encode(post.id, post.secret), "", "", 200, "", false},
		{"the same secret in both", basic, encode(basic.id, basic.secret), basic.id, basic.secret, 200, "", false},
		{"two secrets", basic, encode(basic.id, basic.secret), basic.id, post.secret, 401, "invalid_client", true},
		{"two clients", basic, encode(basic.id, basic.secret), post.id, "", 401, "invalid_client", true},
		{"a wrong secret in the header", basic, encode(basic.id, post.secret), "", "", 401, "invalid_client", true},
		{"a wrong secret in the body", post, "", post.id, basic.secret, 401, "invalid_client", false},
		{"no secret in the header", basic, encode(basic.id, ""), "", "", 401, "invalid_client", true},
		{"no secret in the body", post, "", post.id, "", 401, "invalid_client", false},
		{"a confidential client that poses as a public one", basic, "", basic.id, "", 401, "invalid_client", false},
		{"a secret cut short", post, "", post.id, post.secret[:42], 401, "invalid_client", false},
		{"a secret with more behind it", post, "", post.id, post.secret + "A", 401, "invalid_client", false},
		{"the secret in another case", post, "", post.id, strings.ToUpper(post.secret), 401, "invalid_client", false},
		{"nobody", public, "", "", "", 401, "invalid_client", false},
		{"nobody in the header", public, encode("", ""), "", "", 401, "invalid_client", true},
		{"no client at all", public, "", "my-client", "", 401, "invalid_client", false},
		{"a client_id with more behind it", public, "", public.id + "A", "", 401, "invalid_client", false},
		{"a client_id with a line break", public, "", public.id + "\r\n", "", 401, "invalid_client", false},
		{"a client_id that is too long", public, "", public.id + strings.Repeat("A", 1000), "", 401, "invalid_client", false},
		{"a header that is not well-formed", public, "Basic %%%", "", "", 401, "invalid_client", false},
		{"nothing beside the plugin's signature for AWS", public, signature, public.id, "", 200, "", false},
		{"a secret in the header beside it", basic, signature + "\n" + encode(basic.id, basic.secret), "", "", 200, "", false},
		{"a wrong secret in the header beside it", basic, signature + "\n" + encode(basic.id, post.secret), "", "", 401, "invalid_client", true},
		{"a secret beside no signature", basic, "\n" + encode(basic.id, basic.secret), "", "", 401, "invalid_client", false},
		{"a header with a wrong escape", basic, encode(basic.id, "%zz"), "", "", 401, "invalid_client", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			form := with(c.client.refreshment(refresh[c.client]), "client_id", c.id, "client_secret", c.secret)
			r := newRequest(t, "POST", w.wiki.PublicURL+"/oauth/token", formType, form.Encode())
			authorization, own, _ := strings.Cut(c.authorization, "\n")
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			if own != "" {
				r.Header.Set("X-Mcpb-Authorization", own)
			}
			got := w.do(r).wants(t, c.status, c.code)
			if auth := got.Header.Get("WWW-Authenticate"); (auth != "") != c.challenge || c.challenge && !strings.HasPrefix(auth, "Basic ") {
				t.Errorf("WWW-Authenticate %q", auth)
			}
		})
	}
}

// Whatever the reason of a refusal, the log names the client.
func TestRefusalInTheLogNamesTheClient(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	document, unknown := w.publish(documentURL, nil), w.documentApp("mbc1_unknown")
	for _, c := range []struct {
		name   string
		client *app
		refuse func(*app) int
	}{
		{"a wrong secret", a, func(a *app) int {
			return w.do((&app{w: w, base: a.base, id: a.id, secret: "wrong", basic: true}).tokenRequest(a.refreshment("mbr1_x"))).Status
		}},
		{"a secret that it does not have", document, func(a *app) int {
			return w.do(a.tokenRequest(with(a.refreshment("mbr1_x"), "client_secret", "any"))).Status
		}},
		{"a registration that does not open", unknown, func(a *app) int { return w.do(a.tokenRequest(a.refreshment("mbr1_x"))).Status }},
		{"the same, before a person", unknown, func(a *app) int { return a.page().Status }},
		{"a code that is none", a, func(a *app) int { return w.do(a.tokenRequest(a.redemption("mba1_x"))).Status }},
		{"a refresh token that is none", document, func(a *app) int { return w.do(a.tokenRequest(a.refreshment("mbr1_x"))).Status }},
		{"a grant type that is unknown", a, func(a *app) int { return w.do(a.tokenRequest(url.Values{"grant_type": {"password"}})).Status }},
		{"a machine's grant", document, func(a *app) int {
			return w.do(a.tokenRequest(url.Values{"grant_type": {"client_credentials"}})).Status
		}},
		{"a revocation of nothing", a, func(a *app) int { return a.revoke(url.Values{}).Status }},
		{"an address that it did not register", a, func(a *app) int { return a.page("redirect_uri", "https://evil.example/").Status }},
		{"an address that no client can register", document, func(a *app) int { return a.page("redirect_uri", "javascript:alert(1)").Status }},
		{"a malformed authorization request", document, func(a *app) int { return a.page("response_type", "token").Status }},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := `"client":"` + sealing.Fingerprint(c.client.id) + `"`
			if c.client == document {
				want += `,"document":"` + documentURL + `"`
			}
			logged := len(w.log.String())
			if status := c.refuse(c.client); status != 400 && status != 401 {
				t.Errorf("status %d", status)
			}
			if log := w.log.String()[logged:]; strings.Count(log, `"request refused"`) != 1 || !strings.Contains(log, want) {
				t.Errorf("logged %s", log)
			}
		})
	}
}

func TestTokenRequestForm(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	good := with(a.refreshment(token), "client_id", a.id).Encode()
	for _, c := range []struct {
		name        string
		contentType string
		query, body string
		status      int
		code        string
	}{
		{"a good one", formType, "", good, 200, ""},
		{"with a charset", formType + "; charset=UTF-8", "", good, 200, ""},
		{"with an unknown parameter", formType, "", good + "&audience=x", 200, ""},
		{"with an empty resource, which counts as none", formType, "", good + "&resource=", 200, ""},
		{"JSON", "application/json", "", `{"grant_type":"refresh_token"}`, 400, "invalid_request"},
		{"multipart", "multipart/form-data; boundary=x", "", "--x--", 400, "invalid_request"},
		{"no content type", "", "", good, 400, "invalid_request"},
		{"an unreadable content type", ";;", "", good, 400, "invalid_request"},
		{"everything in the URL", formType, "?" + good, "", 400, "invalid_request"},
		{"one parameter in the URL", formType, "?client_id=" + a.id, good, 400, "invalid_request"},
		{"a repeated grant_type", formType, "", good + "&grant_type=refresh_token", 400, "invalid_request"},
		{"a repeated client_id", formType, "", good + "&client_id=" + a.id, 400, "invalid_request"},
		{"a repeated unknown parameter", formType, "", good + "&x=1&x=2", 400, "invalid_request"},
		{"one resource twice", formType, "", good + "&resource=" + w.wiki.PublicURL + "&resource=" + w.wiki.PublicURL + "/", 200, ""},
		{"two resources", formType, "", good + "&resource=" + w.wiki.PublicURL + "&resource=" + w.wiki.PublicURL + "/mcp", 400, "invalid_target"},
		{"a broken escape", formType, "", good + "&x=%zz", 400, "invalid_request"},
		{"semicolons", formType, "", strings.ReplaceAll(good, "&", ";"), 400, "invalid_request"},
		{"64 KB and a little", formType, "", good + "&x=" + strings.Repeat("a", 64<<10), 413, "invalid_request"},
		{"nothing", formType, "", "", 401, "invalid_client"},
		{"no grant_type", formType, "", "client_id=" + a.id, 400, "invalid_request"},
		{"an unknown grant_type", formType, "", "client_id=" + a.id + "&grant_type=password", 400, "unsupported_grant_type"},
		{"grant_type in another case", formType, "", "client_id=" + a.id + "&grant_type=Refresh_Token", 400, "unsupported_grant_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/token"+c.query, c.contentType, c.body)).wants(t, c.status, c.code)
			if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("Cache-Control %q, Content-Type %q", got.Header.Get("Cache-Control"), got.Header.Get("Content-Type"))
			}
		})
	}
}

func TestRefreshScopeNeverWidens(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	first := a.login("scope", "mcp:read email")
	for _, c := range []struct{ name, asked, want string }{
		{"nothing asked keeps what was granted", "", "mcp:read email"},
		{"less", "mcp:read", "mcp:read"},
		{"identity scopes alone ask for no right in particular", "openid email", "mcp:read email"},
		{"the same in another order", "email mcp:read", "mcp:read email"},
		{"more", "mcp:read mcp:write email openid", "mcp:read email"},
		{"only what was not granted", "mcp:write", "invalid_scope"},
		{"in another case", "MCP:READ", "mcp:read"},
		{"only what nobody knows", "claudeai", "mcp:read"},
		{"white space", "  ", "mcp:read email"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := a.token(with(a.refreshment(first.text("refresh_token")), "scope", c.asked))
			if c.want == "invalid_scope" {
				if got.wants(t, 400, "invalid_scope"); got.text("error_description") != "nothing of what scope names was granted; granted is mcp:read email" {
					t.Errorf("%s", got.Body)
				}
				return
			}
			if got.wants(t, 200, ""); got.text("scope") != c.want || w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())["scope"] != c.want {
				t.Errorf("scope %q, want %q", got.text("scope"), c.want)
			}
			again := a.token(with(a.refreshment(got.text("refresh_token")), "scope", "mcp:read mcp:write email openid")).wants(t, 200, "")
			if again.text("scope") != "mcp:read email" {
				t.Errorf("then scope %q", again.text("scope"))
			}
		})
	}
}

func TestRefreshIsBound(t *testing.T) {
	w := newWorld(t, nil, nil)
	a, b := w.register(w.wiki.PublicURL, nil), w.register(w.wiki.PublicURL, onThisMachine)
	token := a.login("resource", w.wiki.PublicURL+"/mcp").text("refresh_token")
	for _, c := range []struct {
		name   string
		client *app
		form   url.Values
		status int
		code   string
	}{
		{"to its client", b, b.refreshment(token), 400, "invalid_grant"},
		{"to its resource", a, with(a.refreshment(token), "resource", w.wiki.PublicURL), 400, "invalid_target"},
		{"to its kind", a, with(a.redemption(token)), 400, "invalid_grant"},
		{"and may name its resource", a, with(a.refreshment(token), "resource", w.wiki.PublicURL+"/mcp"), 200, ""},
		{"to every byte of it", a, a.refreshment(token[:len(token)-1]), 400, "invalid_grant"},
		{"to one spelling", a, a.refreshment(token + "\n"), 400, "invalid_grant"},
		{"and must be there", a, a.refreshment(""), 400, "invalid_grant"},
	} {
		t.Run(c.name, func(t *testing.T) { c.client.token(c.form).wants(t, c.status, c.code) })
	}
}

// Programs register again when their loopback port changes, and keep their refresh token. The token
// is bound to what is registered and not to one client_id. It still does not work for a different
// client.
func TestRefreshAfterAnotherRegistration(t *testing.T) {
	program := func(name, method string, uris ...string) map[string]any {
		return map[string]any{"client_name": name, "token_endpoint_auth_method": method, "redirect_uris": uris}
	}
	for _, c := range []struct {
		name         string
		first, again map[string]any
		status       int
	}{
		{"the same once more", program("A", "none", callback), program("A", "none", callback), 200},
		{"another loopback port", program("A", "none", "http://localhost:4711/cb"), program("A", "none", "http://localhost:4712/cb"), 200},
		{"with a slash, and in another order", program("A", "none", "http://localhost:1", callback), program("A", "none", callback, "http://localhost:2/"), 200},
		{"with what counts once", program("A", "none", "http://localhost:1/cb"), program("A", "none", "http://localhost:2/cb", "http://localhost:3/cb"), 200},
		{"another name", program("A", "none", callback), program("B", "none", callback), 400},
		{"no name", program("A", "none", callback), program("", "none", callback), 400},
		{"another path", program("A", "none", "http://localhost:1/a"), program("A", "none", "http://localhost:1/b"), 400},
		{"another host of this machine", program("A", "none", "http://localhost:1/a"), program("A", "none", "http://127.0.0.1:1/a"), 400},
		{"another port of https", program("A", "none", "https://app.example/cb"), program("A", "none", "https://app.example:8443/cb"), 400},
		{"one address more", program("A", "none", callback), program("A", "none", callback, callback+"/2"), 400},
		{"a secret", program("A", "client_secret_post", callback), program("A", "client_secret_post", callback), 400},
		{"a public one for one with a secret", program("A", "client_secret_post", callback), program("A", "none", callback), 400},
		{"one with a secret for a public one", program("A", "none", callback), program("A", "client_secret_post", callback), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.guarded("memory") })
			a, b := w.register(w.wiki.PublicURL, c.first), w.register(w.wiki.PublicURL, c.again)
			code := map[int]string{400: "invalid_grant"}[c.status]
			// A code is only for the registration that asked for it.
			b.token(with(b.redemption(a.code()), "redirect_uri", "", "code_verifier", a.verifier)).wants(t, 400, "invalid_grant")
			token := a.login().text("refresh_token")
			next := b.token(b.refreshment(token)).wants(t, c.status, code)
			if c.status != 200 {
				a.token(a.refreshment(token)).wants(t, 200, "")
				return
			}
			if claims := w.verifiedToken(b.base, next.text("access_token"), w.clock.Now()); claims["client_id"] != b.id {
				t.Errorf("client_id %v", claims["client_id"])
			}
			if again := a.token(a.refreshment(token)).wants(t, 200, ""); again.text("refresh_token") != next.text("refresh_token") {
				t.Error("a lost answer was not repeated to the first registration")
			}
			a.revoke(url.Values{"token": {next.text("refresh_token")}}).wants(t, 200, "")
			b.token(b.refreshment(next.text("refresh_token"))).wants(t, 400, "invalid_grant")
		})
	}
	world := newWorld(t, nil, nil)
	document := world.publish(documentURL, map[string]any{"client_name": "A", "redirect_uris": []string{callback}})
	registered := world.register(world.wiki.PublicURL, program("A", "none", callback))
	registered.token(registered.refreshment(document.login().text("refresh_token"))).wants(t, 400, "invalid_grant")
	document.token(document.refreshment(registered.login().text("refresh_token"))).wants(t, 400, "invalid_grant")
}

// RFC 8707 §2.2: a token request may name a resource within the granted one. The parameter narrows
// this access token and not the login: the next token may be for the whole resource again.
func TestTokenRequestMayNarrowTheResource(t *testing.T) {
	for _, guard := range []string{"none", "memory"} {
		t.Run("guard "+guard, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.guarded(guard) })
			a := w.register(w.wiki.PublicURL, nil)
			mcp, sse := w.wiki.PublicURL+"/mcp", w.wiki.PublicURL+"/sse"
			token, newest := "", ""
			for _, c := range []struct {
				name, asked, aud string
				after            time.Duration // an hour: a check is due
				again            bool          // the same refresh token as before, within the grace
			}{
				{"a code for one path", mcp, mcp, 0, false},
				{"a refresh for another", sse, sse, 0, false},
				{"a refresh that names none is for the whole server", "", w.wiki.PublicURL, 0, false},
				{"a check at the provider for one path", mcp, mcp, time.Hour, false},
				{"the same again for the whole server", w.wiki.PublicURL, w.wiki.PublicURL, time.Second, true},
				{"the same again for the other path", sse, sse, time.Second, true},
				{"and the next one for the whole server", w.wiki.PublicURL, w.wiki.PublicURL, time.Second, false},
			} {
				w.clock.Add(c.after)
				if !c.again {
					token = newest
				}
				form := a.refreshment(token)
				if token == "" {
					form = a.redemption(a.code())
				}
				got := a.token(with(form, "resource", c.asked)).wants(t, 200, "")
				if aud := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())["aud"].([]any); len(aud) != 2 || aud[1] != c.aud {
					t.Errorf("%s: aud %v", c.name, aud)
				}
				newest = got.text("refresh_token")
			}
			a.token(with(a.redemption(a.code()), "resource", "https://evil.example/")).wants(t, 400, "invalid_target")
			// the person consented to that much
			narrow := a.login("resource", mcp).text("refresh_token")
			a.token(with(a.refreshment(narrow), "resource", w.wiki.PublicURL)).wants(t, 400, "invalid_target")
			a.token(with(a.refreshment(narrow), "resource", sse)).wants(t, 400, "invalid_target")
		})
	}
}

func TestLoginEnds(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
		life time.Duration
	}{
		{"after its life", issuertest.Behaviour{Refresh: "static"}, 30 * day},
		{"after its life, however the provider rotates", issuertest.Behaviour{}, 30 * day},
		{"after the shorter life of a session, where nobody can be asked again", issuertest.Behaviour{Refresh: "none"}, day},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			for range 4 { // refreshing does not make it longer
				w.clock.Add(c.life / 4)
				token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
			}
			w.clock.Add(time.Second)
			posts := w.idp.Posts()
			a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
			if w.idp.Posts() != posts {
				t.Error("the provider was asked about a login that is over")
			}
			a.login()
		})
	}
}

// A refresh token that nobody used for the idle time is not accepted. A login that is used goes on.
func TestLoginThatIsNotUsedEnds(t *testing.T) {
	const day = 24 * time.Hour
	w := newWorld(t, nil, func(w *world) { w.config = func(c *issuer.Config) { c.RefreshIdleTTL = 7 * day } })
	w.idp.Be(issuertest.Behaviour{Refresh: "static"})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	for range 3 {
		w.clock.Add(7 * day)
		token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	}
	w.clock.Add(7*day + time.Second)
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
}

func TestProviderIsAskedAgainAfterAnHour(t *testing.T) {
	const short = "short" // an access token of five minutes and the same refresh token
	for _, c := range []struct {
		name  string
		be    issuertest.Behaviour
		want  string // an hour after the provider's last word
		old   string // more than two hours after it
		cause string // in the log
		// the next attempt, when the provider is well again; empty if its refresh token was carried
		later string
	}{
		{"it rotates", issuertest.Behaviour{}, "ok", "ok", "", ""},
		{"it keeps the token", issuertest.Behaviour{Refresh: "static"}, "ok", "ok", "", ""},
		{"it sends no refresh token", issuertest.Behaviour{OmitNewRefresh: true}, "ok", "ok", "", ""},
		{"it sends no id_token", issuertest.Behaviour{OmitNewIDToken: true}, "ok", "ok", "", ""},
		{"it says invalid_grant", issuertest.Behaviour{RefreshStatus: 400, RefreshError: "invalid_grant"}, "invalid_grant", "invalid_grant", "the provider answered 400 invalid_grant", "ok"},
		{"it says invalid_grant with 401", issuertest.Behaviour{RefreshStatus: 401, RefreshError: "invalid_grant"}, "invalid_grant", "invalid_grant", "the provider answered 401 invalid_grant", "ok"},
		{"it says invalid_client: the operator's matter", issuertest.Behaviour{RefreshStatus: 401, RefreshError: "invalid_client"}, short, "server_error", "the provider answered 401 invalid_client", "ok"},
		{"it says invalid_request and is not Dex", issuertest.Behaviour{RefreshStatus: 400, RefreshError: "invalid_request"}, short, "invalid_grant", "the provider answered 400 invalid_request", "ok"},
		{"it fails", issuertest.Behaviour{RefreshStatus: 500}, short, "temporarily_unavailable", "the provider answered 500", "ok"},
		{"it is busy", issuertest.Behaviour{RefreshStatus: 429, RefreshError: "slow_down"}, short, "temporarily_unavailable", "the provider answered 429 slow_down", "ok"},
		{"it hangs", issuertest.Behaviour{Hang: true}, short, "temporarily_unavailable", "deadline exceeded", "ok"},
		{"it hangs up", issuertest.Behaviour{Reset: true}, short, "temporarily_unavailable", "EOF", "ok"},
		{"it names another person", issuertest.Behaviour{SubOnRefresh: "person-2"}, "access_denied", "access_denied", "another person", "invalid_grant"},
		{"it signs with another key", issuertest.Behaviour{WrongKey: true}, short, short, "its signature does not fit the key that it names", ""},
		{"it answers for another client", issuertest.Behaviour{Claims: func(m map[string]any) { m["aud"] = "somebody" }}, short, short, "aud does not name this client", ""},
		{"it names another person, and signs with another key", issuertest.Behaviour{WrongKey: true, SubOnRefresh: "person-2"}, "access_denied", "access_denied", "another person", "invalid_grant"},
		{"its keys cannot be fetched: its token is kept, the claims stand", issuertest.Behaviour{KeysStatus: 500}, short, short, "the provider's keys cannot be read: the provider answered 500", ""},
		{"its words are not JSON", issuertest.Behaviour{Body: "<html>"}, short, "temporarily_unavailable", ": no token response", "ok"},
	} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", after a longer silence: ", old), func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.restart = true // so that no cached key helps
					patience := time.Minute
					if c.be.Hang { // otherwise a machine that is slow would make silence of a word
						patience = time.Second
					}
					w.config = func(config *issuer.Config) { config.Transport = impatient{config.Transport, patience} }
				})
				want := c.want
				if old {
					want = c.old
				}
				w.idp.Be(issuertest.Behaviour{Refresh: c.be.Refresh})
				a := w.register(w.wiki.PublicURL, nil)
				first := a.login().text("refresh_token")
				w.clock.Add(time.Hour - time.Second)
				w.idp.Be(c.be)
				token := a.token(a.refreshment(first)).wants(t, 200, "").text("refresh_token")
				if n := w.idp.Posts(); n != 1 {
					t.Fatalf("%d posts within the hour, want the login's", n)
				}
				w.clock.Add(time.Second)
				if old {
					w.clock.Add(time.Hour + time.Second)
				}
				got := a.token(a.refreshment(token))
				if outcome(got) != want {
					t.Fatalf("%s, want %s: %s", outcome(got), want, got.Body)
				}
				asked := 1
				if c.be.Reset || c.be.Body != "" {
					asked = 2 // the answer may have been lost
				}
				if n := w.idp.Posts(); n != 1+asked {
					t.Errorf("%d posts, want one for the login and %d for this", n, asked)
				}
				if (got.Status == 503) != (got.Header.Get("Retry-After") != "") || outcome(got) == short && (got.text("refresh_token") != token) != (c.later == "") {
					t.Errorf("Retry-After %q, %s", got.Header.Get("Retry-After"), got.Body)
				}
				if c.cause != "" && !strings.Contains(w.log.String(), c.cause) {
					t.Errorf("the log does not say %q: %s", c.cause, w.log)
				}
				w.idp.Be(issuertest.Behaviour{Refresh: c.be.Refresh})
				if c.later != "" {
					if got := a.token(a.refreshment(token)); outcome(got) != c.later {
						t.Errorf("afterwards %s, want %s: %s", outcome(got), c.later, got.Body)
					}
					return
				}
				// The next check presents the refresh token that the provider gave.
				next := a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "")
				w.clock.Add(time.Hour)
				a.token(a.refreshment(next.text("refresh_token"))).wants(t, 200, "")
			})
		}
	}
}

func TestParallelRefreshesWithinTheHourDisturbNothing(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.skews = []time.Duration{0, 0} })
	w.idp.Be(issuertest.Behaviour{KillOnReuse: true})
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	var wait sync.WaitGroup
	replies := make([]reply, 8)
	for i := range replies {
		r := a.tokenRequest(a.refreshment(token))
		wait.Go(func() { replies[i] = w.do(r) })
	}
	wait.Wait()
	w.clock.Add(time.Hour)
	a.token(a.refreshment(replies[3].wants(t, 200, "").text("refresh_token"))).wants(t, 200, "")
	for _, r := range replies {
		r.wants(t, 200, "")
	}
	if n := w.idp.Posts(); n != 2 {
		t.Errorf("%d posts, want 2", n)
	}
}

// Registrations and refreshes of several people meet in one process, and share what it keeps for
// later: nobody gets a piece of another's answer.
func TestAnswersMadeAtOnceDoNotMix(t *testing.T) {
	w := newWorld(t, nil, nil)
	h := w.replica()
	hop := issuertest.SealHop(w.hopKey, w.clock.Now(), w.wiki.JSON())
	post := func(path, contentType, body string) (status int, answer map[string]any) {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("X-Mcpb-Hop", hop)
		r.Header.Set("Content-Type", contentType)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		_ = json.Unmarshal(rec.Body.Bytes(), &answer) // what is no JSON is not what is wanted
		return rec.Code, answer
	}
	var wait sync.WaitGroup
	for n := range 8 {
		a, b, person := w.register(w.wiki.PublicURL, nil), issuertest.NewBrowser(t, w.net), fmt.Sprint("person-", 10+n)
		w.signInAs(b, person)
		token := a.token(a.redemption(a.codeIn(b))).wants(t, 200, "").text("refresh_token")
		name, uri := fmt.Sprint("App ", n, strings.Repeat("x", 3*n)), fmt.Sprintf("https://app%d.example/%s", n, strings.Repeat("y", 11*n))
		wait.Go(func() {
			for range 200 {
				status, got := post("/oauth/register", "application/json", fmt.Sprintf(`{"client_name":%q,"redirect_uris":[%q]}`, name, uri))
				if status != 201 || got["client_name"] != name || fmt.Sprint(got["redirect_uris"]) != "["+uri+"]" {
					t.Errorf("the registration of %s: status %d, %s", name, status, got)
				}
				status, got = post("/oauth/token", formType, with(a.refreshment(token), "client_id", a.id).Encode())
				access, _ := got["access_token"].(string)
				var claims map[string]any
				if parts := strings.Split(access, "."); len(parts) == 3 {
					decodePart(t, parts[1], &claims)
				}
				if status != 200 || claims["sub"] != person || claims["client_id"] != a.id {
					t.Errorf("the refresh of %s: status %d, %s", person, status, got)
					return
				}
				token = got["refresh_token"].(string)
			}
		})
	}
	wait.Wait()
}

func TestLivesAreChecked(t *testing.T) {
	good := func() issuer.Config {
		c := issuer.Config{Ring: newRing(t, masterOne), AccessTokenTTL: time.Hour, RefreshTokenTTL: time.Hour, SessionTTL: time.Hour}
		c.Schedule.Rotation, c.Schedule.Overlap = 24*time.Hour, 2*time.Hour
		return c
	}
	for _, c := range []struct {
		name   string
		change func(*issuer.Config)
		want   string
	}{
		{"the shortest lives that go together", func(*issuer.Config) {}, ""},
		{"no master", func(c *issuer.Config) { c.Ring = nil }, "issuer: no master secret"},
		{"an overlap shorter than a token's life", func(c *issuer.Config) { c.Schedule.Overlap = time.Hour }, "overlap 1h0m0s is shorter than access-token life + clock skew (1h5m0s): tokens would outlive their key"},
		{"no rotation", func(c *issuer.Config) { c.Schedule.Rotation = 0 }, "rotation must be at least one minute"},
		{"a refresh token that ends before its access token", func(c *issuer.Config) { c.RefreshTokenTTL = time.Minute }, "token lives must be at least one minute, and a login must outlive an access token"},
		{"a session that ends before its access token", func(c *issuer.Config) { c.SessionTTL = time.Minute }, "token lives must be at least one minute, and a login must outlive an access token"},
		{"a token that lives a second", func(c *issuer.Config) { c.AccessTokenTTL = time.Second }, "token lives must be at least one minute, and a login must outlive an access token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good()
			c.change(&config)
			_, err := issuer.New(config)
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The store made the mark, and its answer was lost. The client is told to try again, and the code
// still works.
func TestRedemptionThatGaveNothingLeavesTheCodeGood(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			w, store := newFaultyWorld(t, func(w *world) { w.wiki.Exchange = exchange })
			a := w.register(w.wiki.PublicURL, nil)
			code := a.code()
			store.Fail(nil, errors.New("the answer is lost"))
			if exchange == "token" {
				w.idp.Be(issuertest.Behaviour{Status: 503}) // the network is away
			}
			a.token(a.redemption(code)).wants(t, 503, "temporarily_unavailable")
			store.Fail(nil, nil)
			w.idp.Be(issuertest.Behaviour{})
			a.token(a.redemption(code)).wants(t, 200, "")
		})
	}
}

// The provider's code can be wrapped in a new code of the sidecar's as long as the login's cookie
// lives. The cookie may come from a replica whose clock is a skew ahead, and lives a skew longer.
func TestCodeOfTheProviderIsCountedAsLongAsItCanBeWrapped(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		for _, minutes := range []time.Duration{11, 16, 21, 26, 28, 30} {
			t.Run(fmt.Sprintf("exchange=%s, %d minutes", exchange, minutes), func(t *testing.T) { wrappedAgain(t, exchange, minutes*time.Minute) })
		}
	}
}

// wrappedAgain presents a code to a memory that keeps marks for the given time, in its most
// forgetful moment: it empties its older half just after a mark was made.
func wrappedAgain(t *testing.T, exchange string, mark time.Duration) {
	w := newWorld(t, nil, func(w *world) { w.guarded("memory"); w.wiki.Exchange = exchange })
	w.idp.Be(issuertest.Behaviour{CodeReuse: "allowed"})
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
	w.clock.Add(mark - 10*time.Second)
	b := issuertest.NewBrowser(t, w.net)
	w.clock.Add(sealing.Skew) // a replica whose clock is ahead begins the login
	sent := b.Decide(b.Get(a.authorizeURL()), "allow")
	w.clock.Add(-sealing.Skew)
	back := b.Upstream(sent)
	u, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	cookies := b.Jar.Cookies(u)
	wrap := func() string {
		b.Jar.SetCookies(u, cookies)
		next, err := url.Parse(b.Get(back).Next())
		if err != nil {
			t.Fatal(err)
		}
		return next.Query().Get("code")
	}
	a.token(a.redemption(wrap())).wants(t, 200, "")
	w.clock.Add(11 * time.Second)
	a.login()
	w.clock.Add(24*time.Minute + 40*time.Second) // the cookie's last moment
	code := wrap()
	if exchange == "callback" { // there the guard is asked before anything is wrapped
		if code != "" {
			t.Error("a code that was used is wrapped again")
		}
		return
	}
	w.clock.Add(5*time.Minute + 59*time.Second) // the code's
	a.login()
	a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
	if counters := w.direct("GET", "/healthz").JSON["counters"].(map[string]any); counters["codes_reused"] != float64(1) {
		t.Errorf("it was refused for another reason: %v", counters)
	}
}
