package issuer_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// denyFile is a deny document that a world reads.
type denyFile struct{ name string }

func (f denyFile) write(t testing.TB, document string) {
	t.Helper()
	if err := os.WriteFile(f.name, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newDenyWorld(t testing.TB, document string) (*world, denyFile) {
	t.Helper()
	f := denyFile{filepath.Join(t.TempDir(), "deny.json")}
	f.write(t, document)
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) {
			list, err := deny.Open(f.name, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Deny = list
		}
	})
	return w, f
}

// Whatever the document names is refused within half a minute, wherever it would be served.
// Everything else goes on.
func TestDenyDocumentAtTheSidecar(t *testing.T) {
	const nothing = `{"v":1,"serial":1}`
	const other, family = "AAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA"
	for _, c := range []struct {
		name      string
		document  func(w *world, a *app, sid string) string
		authorize int    // status of a new authorization request
		redeem    string // a code that was given before
		refresh   string
		again     string // a whole new login with another client
	}{
		{"nothing", func(*world, *app, string) string { return nothing }, 200, "ok", "ok", "ok"},
		{"everybody", func(w *world, _ *app, _ string) string {
			return fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"*":%q}}`, w.clock.Now().Add(time.Second).Format(time.RFC3339))
		}, 200, "invalid_grant", "invalid_grant", "ok"},
		{"everybody of this tenant", func(w *world, _ *app, _ string) string {
			return fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"https://mcp.localhost/wiki":%q,"*":"2020-01-01T00:00:00Z"}}`, w.clock.Now().Add(time.Second).Format(time.RFC3339))
		}, 200, "invalid_grant", "invalid_grant", "ok"},
		{"everybody of another tenant", func(w *world, _ *app, _ string) string {
			return fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"https://mcp.localhost/world":%q}}`, w.clock.Now().Add(time.Second).Format(time.RFC3339))
		}, 200, "ok", "ok", "ok"},
		{"this client", func(_ *world, a *app, _ string) string {
			return `{"v":1,"serial":2,"clients":{"` + sealing.Fingerprint(a.id) + `":""}}`
		}, 401, "invalid_client", "invalid_client", "ok"},
		{"another client", func(*world, *app, string) string { return `{"v":1,"serial":2,"clients":{"` + other + `":""}}` }, 200, "ok", "ok", "ok"},
		{"this client until yesterday", func(w *world, a *app, _ string) string {
			return fmt.Sprintf(`{"v":1,"serial":2,"clients":{%q:%q}}`, sealing.Fingerprint(a.id), w.clock.Now().Format(time.RFC3339))
		}, 200, "ok", "ok", "ok"},
		{"this person", func(w *world, _ *app, _ string) string {
			return `{"v":1,"serial":2,"users":{"` + w.idp.Issuer + `|person-1":""}}`
		}, 200, "invalid_grant", "invalid_grant", "invalid_grant"},
		{"this person, the provider written with a slash", func(w *world, _ *app, _ string) string {
			return `{"v":1,"serial":2,"users":{"` + w.idp.Issuer + `/|person-1":""}}`
		}, 200, "invalid_grant", "invalid_grant", "invalid_grant"},
		{"everybody until a moment within this second", func(w *world, _ *app, _ string) string {
			return fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"*":%q}}`, w.clock.Now().Add(time.Millisecond).Format(time.RFC3339Nano))
		}, 200, "invalid_grant", "invalid_grant", "ok"},
		{"a person of the same name at another provider", func(*world, *app, string) string {
			return `{"v":1,"serial":2,"users":{"https://idp.example|person-1":""}}`
		}, 200, "ok", "ok", "ok"},
		{"this login", func(_ *world, _ *app, sid string) string { return `{"v":1,"serial":2,"families":{"` + sid + `":""}}` }, 200, "ok", "invalid_grant", "ok"},
		{"another login", func(*world, *app, string) string { return `{"v":1,"serial":2,"families":{"` + family + `":""}}` }, 200, "ok", "ok", "ok"},
		{"this redirect host", func(*world, *app, string) string { return `{"v":1,"serial":2,"redirectHosts":{"app.example":""}}` }, 403, "access_denied", "ok", ""},
		{"a host above it", func(*world, *app, string) string { return `{"v":1,"serial":2,"redirectHosts":{"example":""}}` }, 403, "access_denied", "ok", ""},
		{"a host that ends in the same letters", func(*world, *app, string) string { return `{"v":1,"serial":2,"redirectHosts":{"pp.example":""}}` }, 200, "ok", "ok", "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f := newDenyWorld(t, nothing)
			a := w.register(w.wiki.PublicURL, nil)
			tokens := a.login()
			code := a.code()
			sid := w.verifiedToken(a.base, tokens.text("access_token"), w.clock.Now())["sid"].(string)
			f.write(t, c.document(w, a, sid))
			w.clock.Add(29 * time.Second)
			// the copy is not yet old enough to be read again
			tokens = a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
			w.clock.Add(time.Second)
			if p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL()); p.Status != c.authorize || c.authorize != 200 && p.Next() != "" {
				t.Errorf("authorize: status %d, leads to %q", p.Status, p.Next())
			}
			if got := outcome(a.token(a.redemption(code))); got != c.redeem {
				t.Errorf("a code: %s, want %s", got, c.redeem)
			}
			if got := outcome(a.token(a.refreshment(tokens.text("refresh_token")))); got != c.refresh {
				t.Errorf("a refresh token: %s, want %s", got, c.refresh)
			}
			if c.again != "" {
				b := w.register(w.wiki.PublicURL, nil)
				if got := outcome(b.token(b.redemption(b.code()))); got != c.again {
					t.Errorf("a new login: %s, want %s", got, c.again)
				}
			}
			// an entry made by mistake is taken out again
			f.write(t, strings.Replace(nothing, "1}", "3}", 1))
			w.clock.Add(30 * time.Second)
			a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
		})
	}
}

func TestDenyOfAClientThatRevokes(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	f.write(t, `{"v":1,"serial":2,"clients":{"`+sealing.Fingerprint(a.id)+`":""}}`)
	w.clock.Add(30 * time.Second)
	refused := a.token(a.refreshment(token))
	a.revoke(url.Values{"token": {token}}).wants(t, refused.Status, refused.text("error"))
}

// A denied client cannot go on by registering once more, because the login that it began ends.
func TestDenyOfAClientThatRegistersAgain(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	a, b := w.register(w.wiki.PublicURL, onThisMachine), w.register(w.wiki.PublicURL, onThisMachine)
	ofA, ofB := a.login().text("refresh_token"), b.login().text("refresh_token")
	ofA = b.token(b.refreshment(ofA)).wants(t, 200, "").text("refresh_token")
	f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"clients":{%q:""}}`, sealing.Fingerprint(a.id)))
	w.clock.Add(time.Minute)
	b.token(b.refreshment(ofA)).wants(t, 400, "invalid_grant")
	a.token(a.refreshment(ofB)).wants(t, 401, "invalid_client")
	b.token(b.refreshment(ofB)).wants(t, 200, "")
}

// notBefore is compared with the beginning of the login, so a thief cannot outrun it by refreshing.
func TestDenyNotBeforeIsNotOutrunByRefreshes(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	mark := w.clock.Now().Add(30 * time.Minute)
	w.clock.Add(time.Hour)
	// issued after the mark
	token = a.token(a.refreshment(token)).wants(t, 200, "").text("refresh_token")
	f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"*":%q}}`, mark.Format(time.RFC3339)))
	w.clock.Add(time.Minute)
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
}

// A code from a replica whose clock is ahead can be redeemed before its own time. That does not
// make the login younger.
func TestDenyNotBeforeCountsLoginsOfClocksAhead(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	a := w.register(w.wiki.PublicURL, nil)
	w.clock.Add(2 * time.Minute)
	code := a.code()
	w.clock.Add(-2 * time.Minute)
	token := a.token(a.redemption(code)).wants(t, 200, "").text("refresh_token")
	f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"*":%q}}`, w.clock.Now().Add(time.Minute).Format(time.RFC3339)))
	w.clock.Add(3 * time.Minute)
	a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
}

func TestDenyDocumentForThePlugin(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	ask := func(base, etag string) reply {
		t.Helper()
		r := newRequest(t, "GET", "http://bouncer:8080/hop/deny", "", "")
		tn := w.wiki
		tn.PublicURL = base
		r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), tn.JSON()))
		if etag != "" {
			r.Header.Set("If-None-Match", etag)
		}
		return readReply(t, issuertest.Serve(w.replica(), r))
	}
	empty := ask(w.wiki.PublicURL, "").wants(t, 200, "")
	if empty.Body != `{"v":1,"serial":1,"notBefore":0,"clients":[],"users":[],"families":[],"keys":[]}` {
		t.Errorf("nothing denied: %s", empty.Body)
	}
	f.write(t, `{"v":1,"serial":2,"notBefore":{"https://mcp.localhost/wiki":"2026-01-02T03:04:05Z","*":"2026-01-01T00:00:00Z"},"clients":{"BBBBBBBBBBBBBBBB":"","AAAAAAAAAAAAAAAA":"2000-01-01T00:00:00Z"},
		"users":{"`+w.idp.Issuer+`|auth0|7":"","`+w.idp.Issuer+`/|auth0|7":"","`+w.idp.Issuer+`/|9":"","https://idp.example|8":""},"families":{"AAAAAAAAAAAAAAAAAAAAAA":"2100-01-01T00:00:00Z"},"redirectHosts":{"evil.example":""},"keys":{"key-1":""}}`)
	w.clock.Add(30 * time.Second)
	got := ask(w.wiki.PublicURL, empty.Header.Get("ETag")).wants(t, 200, "")
	if got.Body != `{"v":1,"serial":2,"notBefore":1767323045,"clients":["BBBBBBBBBBBBBBBB"],"users":["9","auth0|7"],"families":["AAAAAAAAAAAAAAAAAAAAAA"],"keys":["key-1"]}` {
		t.Errorf("%s", got.Body)
	}
	if same := ask(w.wiki.PublicURL, got.Header.Get("ETag")); same.Status != 304 || same.Body != "" {
		t.Errorf("status %d, %q", same.Status, same.Body)
	}
	if other := ask("https://mcp.localhost/world", "").wants(t, 200, ""); other.JSON["notBefore"] != float64(1767225600) {
		t.Errorf("another tenant: %s", other.Body)
	}
	r := newRequest(t, "GET", "http://bouncer:8080/hop/deny", "", "")
	if bare := readReply(t, issuertest.Serve(w.replica(), r)); bare.Status != 403 || bare.text("error") != "forbidden" {
		t.Errorf("without a hop header: %d %s", bare.Status, bare.Body)
	}
}

// denyHost is where a deny document is published.
type denyHost struct {
	mu     sync.Mutex // guards the rest for one request
	status int
	body   string
	etag   string
	asked  []string // If-None-Match of each request
}

func (h *denyHost) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, r.Header.Get("If-None-Match"))
	if h.status == 0 {
		return nil, errors.New("no route to host")
	}
	status, body := h.status, h.body
	if h.etag != "" && r.Header.Get("If-None-Match") == h.etag {
		status, body = 304, ""
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Etag": {h.etag}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (h *denyHost) is(status int, serial int, rest, etag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.etag, h.body = status, etag, fmt.Sprintf(`{"v":1,"serial":%d%s}`, serial, rest)
}

// The last good copy counts however long the place is away: without it, denied people would be let
// in again. Without any copy nobody is served.
func TestDenyDocumentThatCannotBeRead(t *testing.T) {
	host := &denyHost{}
	w := newWorld(t, nil, func(w *world) {
		list, err := deny.Open("https://revocations.example/deny.json?signature=s3cr3t", host)
		if err != nil {
			t.Fatal(err)
		}
		w.config = func(c *issuer.Config) { c.Deny = list }
	})
	a := w.register(w.wiki.PublicURL, nil)
	if p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL()); p.Status != 503 {
		t.Errorf("before it was ever read: status %d", p.Status)
	}
	host.is(200, 5, "", `"five"`)
	w.clock.Add(2 * time.Second)
	tokens := a.login()
	denied := `,"clients":{"` + sealing.Fingerprint(a.id) + `":""}`
	for _, c := range []struct {
		name    string
		is      func()
		refresh string
		asks    string // with this If-None-Match
	}{
		{"unchanged", func() {}, "ok", `"five"`},
		{"the client is denied", func() { host.is(200, 6, denied, `"six"`) }, "invalid_client", `"five"`},
		{"it fails", func() { host.is(500, 7, "", "") }, "invalid_client", `"six"`},
		{"it is not found", func() { host.is(404, 7, "", "") }, "invalid_client", `"six"`},
		{"it leads elsewhere", func() { host.is(302, 7, "", "") }, "invalid_client", `"six"`},
		{"it is out of reach", func() { host.is(0, 7, "", "") }, "invalid_client", `"six"`},
		{"it is malformed", func() { host.is(200, 7, `,"client":{}`, "") }, "invalid_client", `"six"`},
		{"an older copy", func() { host.is(200, 5, "", `"five"`) }, "invalid_client", `"six"`},
		{"nothing is denied any more", func() { host.is(200, 7, "", `"seven"`) }, "ok", `"six"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.is()
			w.clock.Add(30 * time.Second)
			for range 3 {
				got := a.token(a.refreshment(tokens.text("refresh_token")))
				if outcome(got) != c.refresh {
					t.Errorf("%s, want %s", outcome(got), c.refresh)
				}
			}
			if n := len(host.asked); host.asked[n-1] != c.asks || n < 2 {
				t.Errorf("asked with %q", host.asked)
			}
		})
	}
	if n := len(host.asked); n != 11 {
		t.Errorf("asked %d times, want once each half minute and twice at the beginning", n)
	}
	if log := w.log.String(); strings.Contains(log, "s3cr3t") || !strings.Contains(log, "serial went back from 6 to 5") {
		t.Errorf("the log: %s", log)
	}
}

// While there is no copy and the place hangs, requests share one wait: if each waited for the one
// before it, they would pile up.
func TestDenyDocumentThatHangs(t *testing.T) {
	host := &denyHost{}
	w := newWorld(t, nil, func(w *world) {
		list, err := deny.Open("https://revocations.example/deny.json", slowly{host, func() { w.clock.Add(3 * time.Second) }})
		if err != nil {
			t.Fatal(err)
		}
		w.config = func(c *issuer.Config) { c.Deny = list }
	})
	a := w.register(w.wiki.PublicURL, nil)
	for range 3 {
		a.token(a.refreshment("mbr1_x")).wants(t, 503, "temporarily_unavailable")
	}
	if n := len(host.asked); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// slowly lets time go by before it answers.
type slowly struct {
	http.RoundTripper
	passes func()
}

func (s slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	s.passes()
	return s.RoundTripper.RoundTrip(r)
}

// The document also ends a bearer key and a machine's client.
func TestDenyDocumentDeniesMachines(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	info, err := issuer.CreateKey(newRing(t, masterOne), tenantID(w.wiki), issuer.Machine{Subject: "backup", Scope: "mcp:read"}, 24*time.Hour, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	key := url.Values{"key": {info.Key}}
	w.hop("/hop/token", key).wants(t, 200, "")
	serial := 1
	for _, denied := range []string{
		`"keys":{"` + info.KeyID + `":""}`, `"families":{"` + info.KeyID + `":""}`, `"notBefore":{"*":"` + w.clock.Now().Add(time.Second).Format(time.RFC3339) + `"}`,
		// an MCP server that sees this subject cannot tell it from a person's, nor can the plugin
		`"users":{"` + w.idp.Issuer + `|backup":""}`,
	} {
		serial++
		f.write(t, fmt.Sprintf(`{"v":1,"serial":%d,%s}`, serial, denied))
		w.clock.Add(30 * time.Second)
		w.hop("/hop/token", key).wants(t, 400, "invalid_grant")
	}
	f.write(t, fmt.Sprintf(`{"v":1,"serial":%d,"users":{"%s|backup-2":"","https://idp.example|backup":""}}`, serial+1, w.idp.Issuer))
	w.clock.Add(30 * time.Second)
	w.hop("/hop/token", key).wants(t, 200, "")
}

// A login begins when the person comes back from the provider, not when its code is redeemed.
func TestDenyNotBeforeCountsForCodes(t *testing.T) {
	for _, exchange := range []string{"token", "callback"} {
		t.Run("exchange="+exchange, func(t *testing.T) {
			w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
			w.wiki.Exchange = exchange
			w.relabel(func(*labels) {})
			a := w.register(w.wiki.PublicURL, nil)
			a.token(a.refreshment("mbr1_x")) // the document is read
			// the person has signed in at the provider, and the thief has the code and its verifier
			code := a.code()
			w.clock.Add(5 * time.Second)
			// mcpbouncer deny all
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"notBefore":{"*":%q}}`, w.clock.Now().Format(time.RFC3339)))
			w.clock.Add(35 * time.Second)
			a.token(a.redemption(code)).wants(t, 400, "invalid_grant")
		})
	}
}

// gate holds requests back until it is opened.
type gate struct {
	http.RoundTripper
	reached, open chan struct{}
}

func (g gate) RoundTrip(r *http.Request) (*http.Response, error) {
	g.reached <- struct{}{}
	<-g.open
	return g.RoundTripper.RoundTrip(r)
}

// One request reads the document again, and meanwhile the other requests use the copy, unless the
// copy is hours old after a quiet night.
func TestDenyDocumentThatIsOldIsReadBeforeItJudges(t *testing.T) {
	host := &denyHost{}
	g := gate{host, make(chan struct{}, 4), make(chan struct{}, 4)}
	w := newWorld(t, nil, func(w *world) {
		list, err := deny.Open("https://revocations.example/deny.json", g)
		if err != nil {
			t.Fatal(err)
		}
		w.config = func(c *issuer.Config) { c.Deny = list }
	})
	host.is(200, 1, "", "")
	g.open <- struct{}{}
	a := w.register(w.wiki.PublicURL, nil)
	token := a.login().text("refresh_token")
	<-g.reached

	host.is(200, 2, `,"users":{"`+w.idp.Issuer+`|person-1":""}`, "") // at once
	w.clock.Add(12 * time.Hour)                                      // a quiet night
	first := a.tokenRequest(a.refreshment(token))
	done := make(chan reply)
	go func() { done <- w.do(first) }()
	<-g.reached // the first request of the morning reads the document
	second := a.tokenRequest(a.refreshment(token))
	answer := make(chan reply, 1)
	go func() { answer <- w.do(second) }()
	select {
	case got := <-answer:
		t.Fatalf("the second did not wait: status %d", got.Status)
	case <-time.After(300 * time.Millisecond): // it waits
	}
	g.open <- struct{}{}
	g.open <- struct{}{}
	for _, answers := range []chan reply{done, answer} {
		if got := <-answers; got.Status == 200 {
			t.Errorf("a person who has been denied for twelve hours got %s", got.Body)
		}
	}
}

// The operator can deny every address that a client may register, by what the consent page shows.
// One address has many spellings.
func TestDenyOfEachRedirectHostThatIsTaken(t *testing.T) {
	for _, c := range []struct{ uri, entry string }{
		{"https://[2001:db8::1]/callback", "2001:db8::1"},
		{"https://[2001:DB8::1]/callback", "2001:db8::1"},
		{"https://[2001:db8::1]/callback", "2001:db8:0::1"},
		{"https://192.0.2.7:8443/callback", "192.0.2.7"},
		{"https://192.0.2.7/callback", "3221225991"},
		{"https://EVIL.example:443/callback", "evil.example"},
		{"com.evil+x.app:/callback", "com.evil+x.app"},
	} {
		t.Run(c.uri+" and "+c.entry, func(t *testing.T) {
			w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
			a := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{c.uri}})
			w.clock.Add(31 * time.Second)
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"redirectHosts":{%q:""}}`, c.entry))
			if got := a.page(); got.Status != 403 {
				t.Errorf("status %d", got.Status)
			}
		})
	}
}

// The log names an entry that can deny nothing, once for each edit. Such an entry denies nobody
// else.
func TestDenyEntriesThatDenyNothingAreNamed(t *testing.T) {
	w, f := newDenyWorld(t, `{"v":1,"serial":1}`)
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
	f.write(t, `{"v":1,"serial":2,"notBefore":{"http://mcp.example/wiki":"2026-01-01T00:00:00Z"},"families":{"abc":"","q83vASNFZ4kBI0VniavN7w":"","q83vASNFZ4kBI0VniavN7x":""},
		"redirectHosts":{"1.2.3.4.5":"","1572395042":""},"keys":{"ci-bot":"","mbb1_`+strings.Repeat("s3cr3t", 20)+`":""}}`)
	if _, err := deny.Open(f.name, nil); err == nil {
		t.Error("a login's name of three characters was always refused")
	}
	f.write(t, `{"v":1,"serial":2,"notBefore":{"http://mcp.example/wiki":"2026-01-01T00:00:00Z"},"families":{"q83vASNFZ4kBI0VniavN7w":"","q83vASNFZ4kBI0VniavN7x":""},
		"redirectHosts":{"1.2.3.4.5":"","1572395042":""},"keys":{"ci-bot":"","mbb1_`+strings.Repeat("s3cr3t", 20)+`":""}}`)
	for range 3 {
		w.clock.Add(30 * time.Second)
		a.login()
	}
	log := w.log.String()
	for _, want := range []string{`notBefore: \"http://mcp.example/wiki\": no server has a public URL with http`, `families: \"q83vASNFZ4kBI0VniavN7x\": this is not the whole name`,
		`redirectHosts: \"1.2.3.4.5\": browsers open no such address`, `keys: \"ci-bot\": a key_id has 22 characters`, `keys: \"mbb1_s3c…\": this is the key itself`} {
		if n := strings.Count(log, want); n != 1 {
			t.Errorf("%s: %d lines\n%s", want, n, log)
		}
	}
	if n := strings.Count(log, "can deny nothing"); n != 5 || strings.Contains(log, "s3cr3ts3cr3t") {
		t.Errorf("%d entries are named, or a key is shown: %s", n, log)
	}
	if !strings.Contains(log, `"deny document read","event":"deny.read","serial":2`) {
		t.Errorf("the log does not say that the edit has arrived: %s", log)
	}
}
