//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
)

// sealReason seals a reason as a sidecar does that could open the header which it refuses.
func sealReason(hop, reason string) string {
	mac := hmac.New(sha256.New, bytes.Repeat([]byte{7}, 32))
	mac.Write([]byte("mcpbouncer/v1/hop-reason" + hop))
	block, _ := aes.NewCipher(mac.Sum(nil))
	aead, _ := cipher.NewGCM(block)
	nonce := bytes.Repeat([]byte{3}, 12)
	sealed := aead.Seal(nil, nonce, []byte(reason), []byte("mcpbouncer/v1/hop-reason"))
	return "mbe1_" + base64.RawURLEncoding.EncodeToString(append(nonce, sealed...))
}

// The line says what to do, and speaks of keys only if the key is wrong: an operator who reads
// otherwise would rotate keys in vain.
func TestRefusalSaysWhatIsToBeDone(t *testing.T) {
	const plain = "mbe1_" // no reason at all
	for _, c := range []struct {
		name   string
		mark   string
		reason string // of the sidecar, or a header as it is
		want   string
	}{
		{"another master", "1", "", "its master secret is not that of this hop key (key id b197b8; the sidecar's log names its own): give Traefik the BOUNCER_HOP_KEY"},
		{"a clock that is behind", "1", "clock 600", "the clock of Traefik is 600 s behind the sidecar's: set both (NTP); the hop key is right"},
		{"a clock that is ahead", "1", "clock -604", "the clock of Traefik is 604 s ahead of the sidecar's: set both (NTP); the hop key is right"},
		{"an older sidecar, as to the version", "1", "version 1", `it reads version "1" of the hop and this plugin speaks 1: upgrade the sidecar first, then the plugin; the hop key is right`},
		{"an older sidecar, as to a label", "1", "label allowedCountries", `it does not know the label "allowedCountries", which is set here: upgrade the sidecar first, or remove the label; the hop key is right`},
		{"a value", "1", "value exchange", `it does not take the value of "exchange": its log says why; the hop key is right`},
		{"no value in particular", "1", "value", "it cannot read what this plugin sends: its log says why; the hop key is right"},
		{"a reason of a later version", "1", "moon full", `for a reason that this plugin does not know ("moon full")`},
		{"a reason with a line break", "1", "moon\nfull", `for a reason that this plugin does not know ("moon\nfull")`},
		{"a sidecar before marks and reasons", "", "", "is a sidecar of a version before this plugin's: upgrade the sidecar first, then the plugin"},
		{"a reason for another header", "1", "mbe1_other", "its reason was changed on its way"},
		{"a reason that was made up", "1", plain + strings.Repeat("A", 60), "its reason was changed on its way"},
		{"a reason that is too long", "1", plain + strings.Repeat("A", 5000), "its reason was changed on its way"},
	} {
		log := start(t)
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			hop := req.Header.Get(hopHeader)
			switch {
			case c.reason == "mbe1_other":
				rw.Header().Set(reasonHeader, sealReason(hop+"A", "clock 600"))
			case strings.HasPrefix(c.reason, plain):
				rw.Header().Set(reasonHeader, c.reason)
			case c.reason != "":
				rw.Header().Set(reasonHeader, sealReason(hop, c.reason))
			}
			rw.Header().Set(hopHeader, "refused")
			if c.mark != "" {
				rw.Header().Set(markHeader, c.mark)
			}
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, `{"error":"forbidden"}`)
		}))
		h, behind := guard(t, wikiConfig(server.URL))
		for i := 0; i < 3; i++ {
			rec := ask(h, "GET", wikiURL+"/oauth/x")
			if rec.Code != 503 || rec.Body.String() != unavailable || rec.Header().Get(reasonHeader)+rec.Header().Get(markHeader)+rec.Header().Get(hopHeader) != "" {
				t.Errorf("%s: %d %s %v", c.name, rec.Code, rec.Body, rec.Header())
			}
		}
		text := log.String()
		if strings.Count(text, "\n") != 1 || !strings.Contains(text, "the sidecar refuses the hop header: "+c.want) && !strings.Contains(text, c.want) {
			t.Errorf("%s: logged %q", c.name, text)
		}
		if strings.Contains(text, "give Traefik the BOUNCER_HOP_KEY") != (c.name == "another master") || strings.Contains(text, testHopKey) {
			t.Errorf("%s: logged %q", c.name, text)
		}
		rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
		if rec.Code != 503 || behind.count() != 0 || strings.Count(log.String(), c.want) < 2 {
			t.Errorf("%s: with a token: %d, logged %q", c.name, rec.Code, log)
		}
		server.Close()
	}
}

// The sidecar's clock and the header's age are told apart: a header is sent for 20 seconds.
func TestHopHeaderAgeIsNotTakenForAClock(t *testing.T) {
	log := start(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set(reasonHeader, sealReason(req.Header.Get(hopHeader), "clock 615"))
		rw.Header().Set(hopHeader, "refused")
		rw.Header().Set(markHeader, "1")
		rw.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	h, _ := guard(t, wikiConfig(server.URL))
	ask(h, "GET", wikiURL+"/oauth/x")
	clock.Add(15)
	ask(h, "GET", wikiURL+"/oauth/x")
	if !strings.Contains(log.String(), "is 615 s behind") || !strings.Contains(log.String(), "is 600 s behind") {
		t.Errorf("logged %q", log)
	}
}

// If something else listens at sidecarURL, none of its answers reaches a client. The log names
// label, address, status and media type.
func TestMarkIsNeededToReachAClient(t *testing.T) {
	page := "<html>It works!</html>"
	for _, c := range []struct {
		name   string
		status int
		media  string
		mark   string
		want   string
		answer int // of an OAuth path
	}{
		{"a page", 200, "text/html; charset=utf-8", "", "(200 text/html)", 502},
		{"not found", 404, "text/html", "", "(404 text/html)", 502},
		{"JSON", 200, "application/json", "", "(200 application/json)", 502},
		{"a login page elsewhere", 302, "text/html", "", "(302 text/html)", 502},
		{"nothing", 204, "", "", "(204 without a media type)", 502},
		{"a gateway whose servers are away", 503, "text/html", "", "the sidecar cannot serve: what stands before it at", 503},
		{"a function that has too many requests", 429, "application/json", "", "(429 application/json): it is down or starting, or has too many requests at once", 503},
		{"forbidden", 403, "application/json", "", "(403 application/json)", 502},
		{"a media type that is none", 200, "text/<html>", "", "(200 without a media type)", 502},
		{"the mark of another header", 200, "text/html", "VoBz8sO7sLpzA2_Dk0tGvQ", "gives the answer to another request (200 text/html)", 502},
		{"a sidecar that cannot read its secret", 503, "application/json", "1", "the sidecar cannot serve: it answers 503", 503},
		{"a bouncer's middleware", 508, "application/json", "", "leads to a middleware of MCPBouncer", 502},
		{"a header that is too large for net/http", 431, "text/plain", "", "", 431},
	} {
		log := start(t)
		var mu sync.Mutex
		asked := map[string]bool{}
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			mu.Lock()
			asked[req.URL.Path] = true
			mu.Unlock()
			if c.media != "" {
				rw.Header()["Content-Type"] = []string{c.media}
			} else {
				rw.Header()["Content-Type"] = nil
			}
			if c.mark != "" {
				rw.Header().Set(markHeader, c.mark)
			}
			rw.Header().Set("Location", "https://other.localhost/")
			rw.Header().Set("Set-Cookie", "other=1")
			rw.WriteHeader(c.status)
			if c.status == 200 {
				fmt.Fprint(rw, page)
			}
		}))
		h, behind := guard(t, wikiConfig(server.URL))
		for _, path := range []string{"/oauth/x", "/.well-known/oauth-authorization-server", "/oauth/jwks.json", "/oauth/authorize"} {
			rec := ask(h, "GET", wikiURL+path)
			if rec.Code != c.answer || strings.Contains(rec.Body.String(), page) || rec.Header().Get("Location")+rec.Header().Get("Set-Cookie")+rec.Header().Get(markHeader) != "" {
				t.Errorf("%s: %s: %d %s %v", c.name, path, rec.Code, rec.Body, rec.Header())
			}
		}
		if !strings.Contains(log.String(), c.want) || c.answer == 502 && !strings.Contains(log.String(), "label sidecarURL: ") || c.answer == 502 && !strings.Contains(log.String(), server.URL) {
			t.Errorf("%s: logged %q", c.name, log)
		}
		if (log.String() == "") != (c.answer == 431) {
			t.Errorf("%s: logged %q", c.name, log)
		}
		rec := ask(h, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...)
		if rec.Code != 503 || behind.count() != 0 || !strings.Contains(log.String(), "the signing keys cannot be fetched from the sidecar ") || !strings.Contains(log.String(), c.want) {
			t.Errorf("%s: a token: %d, logged %q", c.name, rec.Code, log)
		}
		server.Close()
	}
}

// Each question of the plugin's own goes through the same check.
func TestMarkIsNeededOnAnswersToThePluginItself(t *testing.T) {
	for _, c := range []struct{ name, path, headers, token, want string }{
		{"the key set", "/oauth/jwks.json", "", "", "the signing keys cannot be fetched from the sidecar "},
		{"the deny document", "/hop/deny", "", "", "the deny document cannot be fetched from the sidecar "},
		{"a token for a bearer key", "/hop/token", "", keyPrefix + base64.RawURLEncoding.EncodeToString(append([]byte{1}, bytes.Repeat([]byte{2}, 40)...)), " gives no access token for a bearer key: "},
		{"an assertion", "/hop/assertion", "assertion", "", " gives no assertion: "},
	} {
		log := start(t)
		sidecar := startSidecar(t)
		sidecar.unmarked = c.path
		sidecar.on("/hop/token", func(rw http.ResponseWriter, req *http.Request) {
			fmt.Fprintf(rw, `{"access_token":"%s","token_type":"Bearer","expires_in":3600}`, goodToken("k1", nil))
		})
		sidecar.on("/hop/assertion", func(rw http.ResponseWriter, req *http.Request) {
			fmt.Fprint(rw, `{"assertion":"a.b.c","expires_in":300}`)
		})
		config := wikiConfig(sidecar.server.URL)
		config.IdentityHeaders = c.headers
		h, behind := guard(t, config)
		rec := ask(h, "POST", wikiURL+"/mcp", bearer(either(c.token, goodToken("k1", nil)))...)
		if rec.Code != 503 || behind.count() != 0 || !strings.Contains(log.String(), c.want) || !strings.Contains(log.String(), "label sidecarURL: what answers at "+sidecar.server.URL+" is not the sidecar (200 ") {
			t.Errorf("%s: %d, logged %q", c.name, rec.Code, log)
		}
		sidecar.mu.Lock()
		sidecar.unmarked = ""
		sidecar.mu.Unlock()
		clock.Add(2)
		if rec := ask(h, "POST", wikiURL+"/mcp", bearer(either(c.token, goodToken("k1", nil)))...); rec.Code != 200 || behind.count() != 1 {
			t.Errorf("%s, with the mark: %d", c.name, rec.Code)
		}
	}
}

func TestMarkReachesNoClient(t *testing.T) {
	start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	rec := ask(h, "GET", wikiURL+"/oauth/x")
	if rec.Code != 200 || rec.Header().Get("X-Served-By") != "sidecar" || rec.Header().Get(markHeader) != "" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

// A request that a middleware has sent to its sidecar ends at the next middleware, whatever its
// path. If somebody makes the header up, only that request is refused.
func TestRequestThatComesBackIsALoop(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	ask(h, "GET", wikiURL+"/oauth/x")
	hop := sidecar.lastRequest().Header.Get(hopHeader)
	good := "Bearer " + goodToken("k1", nil)
	if rec := ask(h, "POST", wikiURL+"/mcp", "Authorization", good); rec.Code != 200 {
		t.Fatalf("status %d", rec.Code)
	}
	sidecar.forget()
	for _, c := range []struct {
		name, path, value string
		want              int
	}{
		{"this tenant's", "/oauth/x", hop, 508},
		{"at the path of a document", "/.well-known/oauth-authorization-server", hop, 508},
		{"at a path that needs a token", "/mcp", hop, 508},
		{"at a path of the plugin's own questions", "/hop/deny", hop, 508},
		{"at no path of this tenant", "leaks", hop, 508},
		{"one that is made up", "/oauth/x", "mbh1_x", 508},
		{"one of a later version", "/oauth/x", "mbh2_x", 508},
		{"what was never one is dropped", "/oauth/x", "forged", 200},
		{"what was never one, with a good token", "/mcp", "forged", 200},
	} {
		rec := ask(h, "GET", wikiURL+c.path, hopHeader, c.value, "Authorization", good)
		if rec.Code != c.want {
			t.Errorf("%s: status %d %s", c.name, rec.Code, rec.Body)
		}
		if c.want == 508 && (sidecar.lastRequest() != nil || behind.count() != 1 || rec.Header().Get("Retry-After") != "") {
			t.Errorf("%s: it was passed on", c.name)
		}
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "came back to a middleware of MCPBouncer (this one's label sidecarURL is "+sidecar.server.URL+")") {
		t.Errorf("logged %q", log)
	}
}

// One anonymous request makes one other, however the sidecar's address is spelt.
func TestLoopEndsAtItsSecondRequest(t *testing.T) {
	for _, path := range []string{"/oauth/register", "/.well-known/oauth-authorization-server", "/mcp"} {
		log := start(t)
		var mu sync.Mutex
		arrived := 0
		var h http.Handler
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			mu.Lock()
			arrived++
			mu.Unlock()
			req.Header.Set("X-Forwarded-Host", "mcp.localhost")
			req.Header.Set("X-Forwarded-Proto", "https")
			h.ServeHTTP(rw, req)
		}))
		config := wikiConfig(server.URL + "/wiki")
		config.PublicURL = wikiURL
		h, _ = guard(t, config)
		resp, err := http.Get(server.URL + "/wiki" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := 502
		requests := 2
		if path == "/mcp" {
			want = 401
			requests = 1
		}
		server.Close()
		mu.Lock()
		if resp.StatusCode != want || arrived != requests {
			t.Errorf("%s: status %d, %d requests", path, resp.StatusCode, arrived)
		}
		mu.Unlock()
		if path != "/mcp" && (!strings.Contains(log.String(), "leads to a middleware of MCPBouncer") || !strings.Contains(log.String(), "came back")) {
			t.Errorf("%s: logged %q", path, log)
		}
	}
}

func TestSidecarURLThatLeadsBackIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, public, prefix, sidecar string
		refused                       bool
	}{
		{"the public URL itself", "https://mcp.example/wiki", "", "https://mcp.example/wiki", true},
		{"with a slash", "https://mcp.example/wiki", "", "https://mcp.example/wiki/", true},
		{"below it", "https://mcp.example/wiki", "", "https://mcp.example/wiki/bouncer", true},
		{"with the default port", "https://mcp.example/wiki", "", "https://mcp.example:443/wiki", true},
		{"without it", "https://mcp.example:443/wiki", "", "https://mcp.example/wiki", true},
		{"in another case", "https://mcp.example/wiki", "", "HTTPS://MCP.example/wiki", true},
		{"with the root's dot", "https://mcp.example/wiki", "", "https://mcp.example./wiki", true},
		{"before TLS", "https://mcp.example/wiki", "", "http://mcp.example/wiki", true},
		{"a host of its own", "https://mcp.example", "/", "https://mcp.example", true},
		{"below a host of its own", "https://mcp.example", "/", "https://mcp.example/bouncer", true},
		{"with a port", "https://mcp.example:8443/wiki", "", "https://mcp.example:8443/wiki", true},
		{"another port", "https://mcp.example/wiki", "", "https://mcp.example:8443/wiki", false},
		{"another host", "https://mcp.example/wiki", "", "https://bouncer.example/wiki", false},
		{"beside it", "https://mcp.example/wiki", "", "https://mcp.example/bouncer", false},
		{"a path that begins alike", "https://mcp.example/wiki", "", "https://mcp.example/wikibouncer", false},
		{"above it", "https://mcp.example/wiki", "", "https://mcp.example", false},
		{"in another case of the path", "https://mcp.example/wiki", "", "https://mcp.example/Wiki", false},
	} {
		log := start(t)
		config := wikiConfig(c.sidecar)
		config.PublicURL = c.public
		config.PathPrefix = c.prefix
		h, _ := guard(t, config)
		refused := strings.Contains(log.String(), "label sidecarURL: this is an address of the MCP server itself")
		if refused != c.refused || (log.String() != "") != c.refused {
			t.Errorf("%s: refused %v, logged %q", c.name, refused, log)
		}
		if rec := ask(h, "GET", c.public+"/mcp"); c.refused != (rec.Code == 503) {
			t.Errorf("%s: status %d", c.name, rec.Code)
		}
		// Without publicURL it is known when the first request names the host.
		log = start(t)
		config.PublicURL = ""
		config.PathPrefix = either(c.prefix, "/wiki")
		h, _ = guard(t, config)
		if log.String() != "" {
			t.Errorf("%s: at load, logged %q", c.name, log)
		}
		rec := ask(h, "GET", c.public+"/mcp")
		if c.refused != (rec.Code == 508) || c.refused != strings.Contains(log.String(), "label sidecarURL: this is an address of the MCP server itself") {
			t.Errorf("%s, without publicURL: status %d, logged %q", c.name, rec.Code, log)
		}
	}
}

// An interim answer bears no mark, so none is passed on. A client that goes away ends the request
// to the sidecar.
func TestInterimAnswersReachNobody(t *testing.T) {
	start(t)
	asked := make(chan bool, 1)
	ended := make(chan bool, 1)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		markAnswer(rw, req)
		if req.URL.Path == "/oauth/slow" {
			asked <- true
			<-req.Context().Done()
			ended <- true
			return
		}
		rw.Header().Set("Link", "</style.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Del("Link")
		fmt.Fprint(rw, "ok")
	}))
	defer server.Close()
	h, _ := guard(t, wikiConfig(server.URL))
	front := httptest.NewServer(h)
	defer front.Close()
	interim := 0
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		interim++
		return nil
	}}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	req, _ := http.NewRequestWithContext(ctx, "GET", front.URL+"/wiki/oauth/x", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if interim != 0 || resp.StatusCode != 200 || string(body) != "ok" || resp.Header.Get("Link") != "" {
		t.Errorf("%d interim answers, then %d %q %v", interim, resp.StatusCode, body, resp.Header)
	}
	ctx, cancel := context.WithCancel(context.Background())
	req, _ = http.NewRequestWithContext(ctx, "GET", front.URL+"/wiki/oauth/slow", nil)
	go http.DefaultClient.Do(req)
	eventually(t, "the sidecar is asked", func() bool { return len(asked) == 1 })
	cancel()
	eventually(t, "the request to the sidecar ends", func() bool { return len(ended) == 1 })
}

// Errors of net/http hold, at full length, what cannot be read as HTTP. The log has it cut short,
// and no line holds control sequences of a terminal.
func TestLogCutsWhatNobodyCanRead(t *testing.T) {
	log := start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go answerRaw(listener, "HTTP/1.1 200 OK\r\nodd \x1b[2Jheader "+strings.Repeat("x", 50000)+"\r\n\r\n")
	h, _ := guard(t, wikiConfig("http://"+listener.Addr().String()))
	rec := ask(h, "GET", wikiURL+"/oauth/authorize")
	line := strings.TrimSuffix(log.String(), "\n")
	if rec.Code != 502 || !strings.Contains(line, "cannot be reached (label sidecarURL): ") || !strings.Contains(line, "malformed MIME header") {
		t.Errorf("%d, logged %.300q", rec.Code, line)
	}
	if strings.ContainsAny(line, controlChars) || len(line) > 4500 {
		t.Errorf("logged %d bytes: %.300q", len(line), line)
	}
	before := len(log.String())
	complain("wiki@docker", "odd", "odd \x1b[2J\r\nline \u202e\xff – of “ü”")
	if !strings.Contains(log.String()[before:], "odd ?[2J??line ?\ufffd – of “ü”\n") {
		t.Errorf("logged %q", log.String()[before:])
	}
}

// answerRaw answers each connection with the same bytes.
func answerRaw(listener net.Listener, text string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write([]byte(text))
		_ = conn.Close()
	}
}

// A stranger's odd header is not the sidecar's fault, and not worth a line.
func TestOddUpgradeIsNotBlamedOnTheSidecar(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	for _, kind := range []string{"\u00e9" + strings.Repeat("x", 100000), "websocket", "h2c"} {
		sidecar.forget()
		rec := ask(h, "GET", wikiURL+"/oauth/x", "Connection", "Upgrade", "Upgrade", kind)
		if rec.Code != 200 || sidecar.lastRequest() == nil || sidecar.lastRequest().Header["Upgrade"] != nil || log.String() != "" {
			t.Errorf("%.20q: %d, logged %d bytes: %.200q", kind, rec.Code, len(log.String()), log)
		}
	}
}
