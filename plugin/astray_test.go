//go:build go1.21

package plugin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Each row: the log lines and the answer for a request about which labels, router and other
// middlewares do not agree.
func TestRequestsThatGoAstrayAreNamedInTheLog(t *testing.T) {
	publicURL := func(url string) func(*Config) { return func(c *Config) { c.PublicURL = url } }
	none := func(c *Config) {}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		url     string
		headers []string
		status  int
		says    []string // all of them, in one line
	}{
		{"publicURL has another path than the router's rule", publicURL("https://mcp.localhost/wikis"), wikiURL + "/mcp", nil, 404,
			[]string{`a request for "/wiki/mcp" is answered 404`, `serves https://mcp.localhost/wikis `, `the path of publicURL, or pathPrefix, and the router's rule agree`}},
		{"a rule that takes a neighbour's path", none, "https://mcp.localhost/wikileaks", nil, 404,
			[]string{`a request for "/wikileaks" is answered 404`, `serves https://mcp.localhost/wiki `}},
		{"stripPrefix before it", none, "https://mcp.localhost/mcp", []string{"X-Forwarded-Prefix", "/wiki"}, 404,
			[]string{`"/mcp" is answered 404`, `has taken "/wiki" from the path (stripPrefix): put this middleware first`}},
		{"replacePath before it", none, "https://mcp.localhost/api", []string{"X-Replaced-Path", "/wiki/mcp"}, 404,
			[]string{`"/api" is answered 404`, `has replaced the path "/wiki/mcp" (replacePath): put this middleware first`}},
		{"a document of another path", none, "https://mcp.localhost/.well-known/oauth-protected-resource/other", nil, 404,
			[]string{`"/.well-known/oauth-protected-resource/other" is answered 404`, `those of https://mcp.localhost/wiki;`}},
		{"publicURL of another host", publicURL("https://mcp.example.com/wiki"), wikiURL + "/mcp", nil, 421,
			[]string{`a request for the host "mcp.localhost" is answered 421`, `publicURL is https://mcp.example.com/wiki: make the host of publicURL`}},
		{"publicURL without the port", publicURL("https://mcp.example.com/wiki"), "https://mcp.example.com:8443/wiki/mcp", nil, 421,
			[]string{`the host "mcp.example.com:8443" is answered 421`, `write publicURL with the port that clients use`}},
		{"publicURL with another port", publicURL("https://mcp.example.com:8443/wiki"), "https://mcp.example.com/wiki/mcp", nil, 421,
			[]string{`the host "mcp.example.com" is answered 421`, `write publicURL with the port that clients use`}},
		{"TLS ends before Traefik, without publicURL", none, "http://mcp.example.com/wiki/mcp", nil, 400,
			[]string{`the host "mcp.example.com" is answered 400`, `if TLS ends at a proxy before Traefik, set the label publicURL`, `forwardedHeaders.trustedIPs`}},
		{"a host that is none", none, wikiURL + "/mcp", []string{"X-Forwarded-Host", `a"b`}, 400,
			[]string{`the host "a\"b" is answered 400`, `X-Forwarded-Host`}},
		{"a path of two readings", none, "https://mcp.localhost/wiki/a;b", nil, 400,
			[]string{`a request for "/wiki/a;b" is answered 400`, `in more than one way`}},
		{"a path that is encoded without need", none, "https://mcp.localhost/w%69ki/mcp", nil, 400,
			[]string{`a request for "/w%69ki/mcp" is answered 400`, `must send it plain`}},
		{"TLS, and publicURL says http", publicURL("http://mcp.localhost/wiki"), wikiURL + "/mcp", nil, 401,
			[]string{`a request for "mcp.localhost" came by TLS, but publicURL is http://mcp.localhost/wiki`, `write https in publicURL`}},
		{"two bouncers, of which the first took the token", none, wikiURL + "/mcp", []string{"X-Mcp-Sub", "user-1"}, 401,
			[]string{`that has been through a bouncer already`, `leave one of them out`}},
		{"two bouncers, of which the first sent another token", none, wikiURL + "/mcp", []string{"X-Mcp-Sub", "user-1", "Authorization", "Bearer for-the-server"}, 401,
			[]string{`that has been through a bouncer already`}},
		{"too many headers", none, wikiURL + "/mcp", []string{"Cookie", strings.Repeat("a=b; ", maxCookies)}, 431,
			[]string{`a request is answered 431`}},
	} {
		log := start(t)
		sidecar := startSidecar(t)
		config := wikiConfig(sidecar.server.URL)
		c.change(config)
		h, behind := guard(t, config)
		for i := 0; i < 3; i++ {
			if rec := ask(h, "POST", c.url, c.headers...); rec.Code != c.status {
				t.Errorf("%s: status %d, want %d", c.name, rec.Code, c.status)
			}
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 1 || !strings.Contains(lines[0], `mcpbouncer: middleware "wiki@docker": `) {
			t.Errorf("%s: %d lines: %q", c.name, len(lines), lines)
		}
		for _, text := range c.says {
			if !strings.Contains(lines[0], text) {
				t.Errorf("%s: %q is not in %q", c.name, text, lines[0])
			}
		}
		if behind.count() != 0 {
			t.Errorf("%s: the MCP server was asked", c.name)
		}
	}
}

// This is the real chain: the first bouncer lets the request through, and the second refuses what
// is left of it.
func TestBouncersInOneChain(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	second, behind := guard(t, wikiConfig(sidecar.server.URL))
	first := bouncerNamed(t, "first@docker", second, sidecar)
	if rec := ask(first, "POST", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 401 || behind.count() != 0 {
		t.Errorf("status %d", rec.Code)
	}
	if !strings.Contains(log.String(), `middleware "wiki@docker": a request is refused that has been through a bouncer already`) {
		t.Errorf("logged %q", log)
	}
	// With one bouncer alone, nothing is left of a header that a client makes up, and nothing is
	// logged.
	log = start(t)
	h, behind := guard(t, wikiConfig(sidecar.server.URL))
	rec := ask(h, "POST", wikiURL+"/mcp", append(bearer(goodToken("k1", nil)), "X-Mcp-Sub", "root")...)
	if rec.Code != 200 || strings.Join(behind.last["X-Mcp-Sub"], "|") != "user-1" || log.String() != "" {
		t.Errorf("status %d, X-Mcp-Sub %q, log %q", rec.Code, behind.last["X-Mcp-Sub"], log)
	}
	ask(h, "GET", wikiURL+"/oauth/authorize", "X-Mcp-Sub", "root")
	if got := sidecar.lastRequest().Header["X-Mcp-Sub"]; got != nil {
		t.Errorf("the sidecar was sent X-Mcp-Sub %q", got)
	}
}

func bouncerNamed(t *testing.T, name string, next http.Handler, sidecar *fakeSidecar) http.Handler {
	h, err := New(context.Background(), next, wikiConfig(sidecar.server.URL), name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Strangers choose what a request brings. They must neither fill the log nor silence it for others.
func TestLogIsNeitherFilledNorSilencedByStrangers(t *testing.T) {
	log := start(t)
	sidecar := startSidecar(t)
	h, _ := guard(t, wikiConfig(sidecar.server.URL))
	for i := 0; i < 500; i++ {
		path := strings.Repeat("x", i)
		ask(h, "GET", "https://mcp.localhost/"+path)
		ask(h, "GET", "https://mcp.localhost/wiki/;"+path)
		ask(h, "GET", wikiURL, "X-Forwarded-Host", path+"_\x00")
		ask(h, "GET", "https://mcp.localhost/"+path, "X-Forwarded-Prefix", "/"+path+"\n")
	}
	if n := strings.Count(log.String(), "\n"); n != 4 || len(log.String()) > 4*700 {
		t.Errorf("%d lines, %d bytes", n, len(log.String()))
	}
	if strings.ContainsAny(strings.ReplaceAll(log.String(), "\n", ""), controlChars) {
		t.Errorf("control characters in %q", log)
	}
	// Another cause, and the same cause at another middleware, are logged nevertheless.
	before := len(log.String())
	sidecar.server.Close()
	ask(h, "GET", wikiURL+"/oauth/authorize")
	other := bouncerNamed(t, "other@docker", http.NotFoundHandler(), sidecar)
	ask(other, "GET", "https://mcp.localhost/x")
	after := log.String()[before:]
	if !strings.Contains(after, "cannot be reached (label sidecarURL)") || !strings.Contains(after, `middleware "other@docker": a request for "/x"`) {
		t.Errorf("logged %q", after)
	}
	clock.Add(quietPeriod)
	before = len(log.String())
	ask(h, "GET", "https://mcp.localhost/again")
	if !strings.Contains(log.String()[before:], `"/again"`) {
		t.Errorf("nothing is said ten seconds later: %q", log.String()[before:])
	}
}

// A signature is made piece by piece, in Yaegi some 20 microseconds each. A stranger must not be
// able to occupy Traefik for seconds with one request.
func TestLongQueriesForTheSidecarAreRefusedUnread(t *testing.T) {
	awsVariables(t, "AWS_REGION", "eu-central-1", "AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "secret")
	for _, c := range []struct {
		name, query string
		want        int
	}{
		{"many parameters", strings.Repeat("a&", 1000), 414},
		{"as many as may be", strings.Repeat("a&", maxParameters), 200},
		{"one that is long", "state=" + strings.Repeat("x", maxQuery), 414},
		{"a long state", "state=" + strings.Repeat("x", 8000), 200},
	} {
		for _, auth := range []string{"none", "sigv4"} {
			log := start(t)
			sidecar := startSidecar(t)
			config := wikiConfig(sidecar.server.URL)
			config.SidecarAuth = auth
			h, _ := guard(t, config)
			rec := ask(h, "GET", wikiURL+"/oauth/authorize?"+c.query)
			if rec.Code != c.want || (sidecar.lastRequest() == nil) != (c.want == 414) || strings.Contains(log.String(), "is answered 414") != (c.want == 414) {
				t.Errorf("%s, %s: %d, logged %s", c.name, auth, rec.Code, log)
			}
		}
	}
}

func TestMisconfiguredMiddlewareSaysSoWhenItIsAsked(t *testing.T) {
	log := start(t)
	config := wikiConfig("http://sidecar.localhost")
	config.Exchange = "never"
	h, _ := guard(t, config)
	for i := 0; i < 3; i++ {
		if rec := ask(h, "GET", wikiURL); rec.Code != 503 {
			t.Errorf("status %d", rec.Code)
		}
		clock.Add(quietPeriod)
	}
	const line = `middleware "wiki@docker": it is misconfigured and answers 503: label exchange: `
	if n := strings.Count(log.String(), line); n != 3 { // the load and the first request share one
		t.Errorf("%d lines: %s", n, log)
	}
}

func TestRuntimeLinesNameMiddlewareAndSidecar(t *testing.T) {
	start(t) // before a token is made
	for _, c := range []struct {
		name, method, path string
		headers            []string
		says               string
	}{
		{"an OAuth path", "GET", "/oauth/authorize", nil, "cannot be reached (label sidecarURL): "},
		{"keys", "POST", "/mcp", bearer(goodToken("k1", nil)), "the signing keys cannot be fetched from the sidecar http://127.0.0.1:"},
		{"a bearer key", "POST", "/mcp", bearer(aKey("ci")), "gives no access token for a bearer key: "},
	} {
		log := start(t)
		sidecar := httptest.NewServer(http.NotFoundHandler())
		sidecar.Close()
		h, _ := guard(t, wikiConfig(sidecar.URL))
		ask(h, c.method, wikiURL+c.path, c.headers...)
		line := strings.TrimSpace(log.String())
		if strings.Contains(line, "\n") || !strings.Contains(line, `middleware "wiki@docker": `) || !strings.Contains(line, sidecar.URL) || !strings.Contains(line, c.says) || !strings.Contains(line, "connection refused") {
			t.Errorf("%s: logged %q", c.name, line)
		}
	}
}
