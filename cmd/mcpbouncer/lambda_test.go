package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// functionHandler is the handler of a function whose variables are those of this process.
func functionHandler(log *slog.Logger, out io.Writer) (http.Handler, error) {
	e, err := readEnvironment()
	if err != nil {
		return nil, err
	}
	return e.loadHandler(log, out)
}

// sample returns an event of testdata/events, as AWS delivers it.
func sample(t testing.TB, name string) event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return parseEvent(t, string(text))
}

func parseEvent(t testing.TB, text string) (e event) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

var samples = []string{"function-url", "http-api", "alb", "alb-multi-value"}

// Each sample is one request, POST /oauth/token?a=1&b=x%20y with two cookies and a form; each
// brings it in its own way.
func TestLambdaEventIsTheRequestOfAContainer(t *testing.T) {
	for _, name := range samples {
		t.Run(name, func(t *testing.T) {
			e := sample(t, name)
			var got *http.Request
			var body []byte
			f := &function{log: slog.New(slog.DiscardHandler), handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = r
				body, _ = io.ReadAll(r.Body)
			})}
			if _, err := f.invoke(t.Context(), e); err != nil || got == nil {
				t.Fatal(err)
			}
			if got.Method != "POST" || got.URL.Path != "/oauth/token" || got.URL.RawQuery != "a=1&b=x%20y" {
				t.Errorf("%s %s?%s", got.Method, got.URL.Path, got.URL.RawQuery)
			}
			if string(body) != "grant_type=refresh_token&refresh_token=r" {
				t.Errorf("body %q", body)
			}
			first, err1 := got.Cookie("__Host-mcpb-flow-a")
			second, err2 := got.Cookie("__Host-mcpb-flow-b")
			if err1 != nil || err2 != nil || first.Value != "1" || second.Value != "2" {
				t.Errorf("cookies %q", got.Header["Cookie"])
			}
			if got.Header.Get("X-Mcpb-Hop") != "mbh1_x" || got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || !strings.Contains(got.Host, ".") {
				t.Errorf("headers %v, host %q", got.Header, got.Host)
			}
		})
	}
}

func TestLambdaEventPaths(t *testing.T) {
	const url = `{"rawPath":%q,"requestContext":{"stage":%q,"http":{"method":"GET"}}}`
	for _, c := range []struct {
		name, event, path string
	}{
		{"the default stage is no part of the path", fmt.Sprintf(url, "/oauth/token", "$default"), "/oauth/token"},
		{"a named stage is taken off", fmt.Sprintf(url, "/prod/oauth/token", "prod"), "/oauth/token"},
		{"once", fmt.Sprintf(url, "/prod/prod/oauth/token", "prod"), "/prod/oauth/token"},
		{"but not the beginning of another name", fmt.Sprintf(url, "/production/oauth/token", "prod"), "/production/oauth/token"},
		{"a custom domain has no stage in its path", fmt.Sprintf(url, "/oauth/token", "prod"), "/oauth/token"},
		{"no stage", `{"rawPath":"//oauth/token","requestContext":{}}`, "//oauth/token"},
		{"escapes are decoded, as net/http does", fmt.Sprintf(url, "/oauth%2Ftoken", "$default"), "/oauth/token"},
		{"a question mark in the path stays there", fmt.Sprintf(url, "/oauth/token%3Fa=1", "$default"), "/oauth/token?a=1"},
		{"a broken escape is refused", fmt.Sprintf(url, "/oauth/%zz", "$default"), ""},
		{"an event that is no request has an empty path", `{"source":"aws.events"}`, "empty"},
		{"a load balancer's path is its own", `{"httpMethod":"GET","path":"/healthz","requestContext":{"elb":{}}}`, "/healthz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := ""
			f := &function{log: slog.New(slog.DiscardHandler), handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if path = r.URL.Path; path == "" {
					path = "empty"
				}
				if r.URL.RawQuery != "" {
					t.Errorf("query %q", r.URL.RawQuery)
				}
			})}
			got, err := f.invoke(t.Context(), parseEvent(t, c.event))
			if err != nil || path != c.path {
				t.Errorf("path %q, want %q; %v", path, c.path, err)
			}
			if text := marshal(t, got); c.path == "" && !strings.Contains(text, `"statusCode":400`) {
				t.Error(text)
			}
		})
	}
}

// A REST API, and an HTTP API that is set to it, send an event in which a request would have
// neither path nor hop header.
func TestLambdaEventsOfARESTAPIAreRefusedByName(t *testing.T) {
	for _, name := range []string{"rest-api", "http-api-1.0"} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			at := time.Now()
			f := &function{log: slog.New(slog.NewJSONHandler(&log, nil)), now: func() time.Time { return at }, handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				t.Error("the handler was asked")
			})}
			for range 3 {
				got, err := f.invoke(t.Context(), sample(t, name))
				const want = `{"statusCode":501,"headers":{"Cache-Control":"no-store","Content-Type":"application/json","X-Mcpb-Sidecar":"1"},"multiValueHeaders":null,"body":"{\"error\":\"unsupported_event\",\"error_description\":\"this function takes payload format 2.0: an HTTP API, a Function URL or a load balancer, and no REST API\"}"}`
				if err != nil || marshal(t, got) != want {
					t.Errorf("%s, %v", marshal(t, got), err)
				}
			}
			if n := strings.Count(log.String(), "use an HTTP API with payload format 2.0"); n != 1 {
				t.Errorf("%d lines: %s", n, log.String())
			}
			at = at.Add(-time.Hour) // a clock that is set back keeps nothing quiet
			if _, err := f.invoke(t.Context(), sample(t, name)); err != nil || strings.Count(log.String(), "payload format 2.0") != 2 {
				t.Errorf("%v: %s", err, log.String())
			}
		})
	}
}

// A repeated parameter must stay one: the endpoints refuse it (RFC 6749 §3.1).
func TestLambdaEventsWithRepeatedParameters(t *testing.T) {
	e := parseEvent(t, `{"httpMethod":"GET","path":"/oauth/authorize","multiValueQueryStringParameters":{"state":["1","2"],"a":[""]},"requestContext":{"elb":{}}}`)
	if got := e.query(); got != "a=&state=1&state=2" {
		t.Error(got)
	}
}

// Each caller gets the handler's answer in the form that it reads.
func TestLambdaAnswersInEachForm(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2; Path=/")
		w.Header().Add("Set-Cookie", "c=3; Path=/")
		w.Header().Add("Vary", "Origin")
		w.Header().Add("Vary", "Cookie")
		w.Header()["WWW-Authenticate"] = []string{"Basic"}
		if r.URL.Path == "/binary" {
			w.Write([]byte{0xff, 0x00})
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		w.WriteHeader(http.StatusOK) // too late, as in net/http
		io.WriteString(w, "täxt")
	})
	const single = `"Vary":"Origin, Cookie","WWW-Authenticate":"Basic"`
	const cookies = `"cookies":["a=1; Path=/","b=2; Path=/","c=3; Path=/"]`
	const url = `{"rawPath":%q,"requestContext":{"domainName":%q,"http":{"method":%q}}}`
	const lambdaURL, api = "abc.lambda-url.eu-central-1.on.aws", "abc.execute-api.eu-central-1.amazonaws.com"
	const alb = `{"httpMethod":"GET","path":"/","requestContext":{"elb":{}},%s}`
	for _, c := range []struct {
		name    string
		streams bool
		event   string
		want    string
	}{
		{"a Function URL", false, fmt.Sprintf(url, "/", lambdaURL, "GET"),
			`{"statusCode":401,"headers":{` + single + `},"body":"täxt","isBase64Encoded":false,` + cookies + `}`},
		{"an HTTP API, although the Function URL streams", true, fmt.Sprintf(url, "/", api, "GET"),
			`{"statusCode":401,"headers":{` + single + `},"body":"täxt","isBase64Encoded":false,` + cookies + `}`},
		{"bytes that are no text", false, fmt.Sprintf(url, "/binary", api, "GET"),
			`{"statusCode":200,"headers":{` + single + `},"body":"/wA=","isBase64Encoded":true,` + cookies + `}`},
		{"no body at HEAD", false, fmt.Sprintf(url, "/", api, "HEAD"),
			`{"statusCode":401,"headers":{` + single + `},"body":"","isBase64Encoded":false,` + cookies + `}`},
		{"a Function URL that streams", true, fmt.Sprintf(url, "/", lambdaURL, "GET"),
			`{"statusCode":401,"headers":{` + single + `},` + cookies + `}` + strings.Repeat("\x00", 8) + "täxt"},
		{"a load balancer", false, fmt.Sprintf(alb, `"headers":{}`),
			`{"statusCode":401,"statusDescription":"401 Unauthorized","headers":{"SEt-cookie":"unused"},"multiValueHeaders":null,"body":"täxt","isBase64Encoded":false}`},
		{"a load balancer with multi-value headers", false, fmt.Sprintf(alb, `"multiValueHeaders":{}`),
			`{"statusCode":401,"statusDescription":"401 Unauthorized","headers":null,"multiValueHeaders":{"Set-Cookie":["a=1; Path=/","b=2; Path=/","c=3; Path=/"],"Vary":["Origin","Cookie"],"WWW-Authenticate":["Basic"]},"body":"täxt","isBase64Encoded":false}`},
	} {
		if c.name == "a load balancer" {
			c.want = strings.Replace(c.want, `"SEt-cookie":"unused"`, `"Set-cookie":"b=2; Path=/",`+single+`,"sEt-cookie":"c=3; Path=/","set-cookie":"a=1; Path=/"`, 1)
		}
		t.Run(c.name, func(t *testing.T) {
			f := &function{handler: handler, streams: c.streams, log: slog.New(slog.DiscardHandler)}
			got, err := f.invoke(t.Context(), parseEvent(t, c.event))
			if err != nil {
				t.Fatal(err)
			}
			if text := marshal(t, got); text != c.want {
				t.Errorf("%s\nwant %s", text, c.want)
			}
		})
	}
}

// A line break in a header's value must not begin another header, in no form of an answer. What
// net/http makes of it is what is wanted.
func TestLambdaAnswersHaveSpacesForLineBreaks(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://app.example/\r\nSet-Cookie: evil=1")
		w.Header().Set("X-Ends", "\t value\n")
		w.Header().Add("Set-Cookie", "a=1\nSet-Cookie: evil=1")
		w.Header().Add("Set-Cookie", "b=2\r; Path=/")
	})
	container := httptest.NewServer(handler)
	defer container.Close()
	resp, err := container.Client().Get(container.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Location"); got != "https://app.example/  Set-Cookie: evil=1" {
		t.Fatalf("a container says %q", got)
	}
	for _, name := range samples {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streams %v", name, streams), func(t *testing.T) {
				f := &function{handler: handler, streams: streams, log: slog.New(slog.DiscardHandler)}
				got, err := f.invoke(t.Context(), sample(t, name))
				if err != nil {
					t.Fatal(err)
				}
				var a struct {
					Headers    map[string]string
					MultiValue map[string][]string `json:"multiValueHeaders"`
					Cookies    []string
				}
				text, _, _ := strings.Cut(marshal(t, got), "\x00")
				if err := json.Unmarshal([]byte(text), &a); err != nil {
					t.Fatal(err)
				}
				header := http.Header{"Set-Cookie": a.Cookies}
				for name, value := range a.Headers {
					header.Add(name, value)
				}
				for name, values := range a.MultiValue {
					header[name] = values
				}
				slices.Sort(header["Set-Cookie"]) // a load balancer's spellings come in any order
				for _, name := range []string{"Location", "X-Ends", "Set-Cookie"} {
					if !slices.Equal(header[name], resp.Header[name]) {
						t.Errorf("%s: %q, a container says %q", name, header[name], resp.Header[name])
					}
				}
			})
		}
	}
}

// marshal is what aws-lambda-go sends: JSON, or what a response reads as.
func marshal(t testing.TB, response any) string {
	t.Helper()
	if stream, ok := response.(interface {
		io.Reader
		ContentType() string
	}); ok {
		if stream.ContentType() != "application/vnd.awslambda.http-integration-response" {
			t.Errorf("content type %s", stream.ContentType())
		}
		text, err := io.ReadAll(stream)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(response); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestLambdaAnswersSpellEachCookieApart(t *testing.T) {
	seen := map[string]bool{}
	for n := range 64 {
		s := spelling("set-cookie", n)
		if seen[s] || !strings.EqualFold(s, "set-cookie") {
			t.Errorf("%d is %s", n, s)
		}
		seen[s] = true
	}
}

func TestLambdaPanicIsAnsweredAndLogged(t *testing.T) {
	var log bytes.Buffer
	f := &function{log: slog.New(slog.NewJSONHandler(&log, nil)), handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "half=1")
		io.WriteString(w, "half")
		panic("issuer: internal error")
	})}
	got, err := f.invoke(t.Context(), sample(t, "function-url"))
	const want = `{"statusCode":500,"headers":{"Cache-Control":"no-store","Content-Type":"application/json","X-Mcpb-Sidecar":"1"},"body":"{\"error\":\"server_error\"}","isBase64Encoded":false,"cookies":null}`
	if err != nil || marshal(t, got) != want {
		t.Errorf("%v, %v", marshal(t, got), err)
	}
	if !strings.Contains(log.String(), "issuer: internal error") || !strings.Contains(log.String(), "lambda_test.go") {
		t.Errorf("log %s", log.String())
	}
}

// realFunction is the sidecar's handler as Lambda gets it, with an own provider, and its log.
func realFunction(t testing.TB) (f *function, hop string, log *bytes.Buffer, provider *issuertest.Provider) {
	t.Helper()
	t.Setenv(runtimeAPI, "127.0.0.1:9001")
	ring, err := sealing.ParseRing(keyOne)
	if err != nil {
		t.Fatal(err)
	}
	provider = issuertest.NewProvider(t, nil)
	log = &bytes.Buffer{}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e := &environment{ring: ring, KeyRotationDays: 30, KeyOverlapHours: 24, AccessTokenTTL: hours(time.Hour), RefreshTokenTTL: days(24 * time.Hour), SessionTTL: hours(time.Hour)}
	iss, err := newIssuer(e, logger)
	if err != nil {
		t.Fatal(err)
	}
	hop = issuertest.SealHop(ring.HopKey(), time.Now(), issuertest.Tenant{
		PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "wiki", ProviderIssuer: provider.Issuer, ClientID: "c", Exchange: "token",
	}.JSON())
	return &function{handler: iss.Handler(), log: logger}, hop, log, provider
}

func status(t testing.TB, response any) int {
	t.Helper()
	var a struct {
		StatusCode int `json:"statusCode"`
	}
	if err := json.Unmarshal([]byte(marshal(t, response)), &a); err != nil {
		t.Fatal(err)
	}
	return a.StatusCode
}

func TestLambdaCapsAreThoseOfAContainer(t *testing.T) {
	f, hop, _, _ := realFunction(t)
	long := func(n int) map[string]string { return map[string]string{"X-Long": strings.Repeat("x", n)} }
	plain := map[string]string{"Content-Type": "application/json", "X-Mcpb-Hop": hop}
	for _, c := range []struct {
		name    string
		path    string
		headers map[string]string
		body    string
		want    int
	}{
		{"31 KB of header, no hop", "/oauth/token", long(31 << 10), "", 403},
		{"33 KB of header", "/healthz", long(33 << 10), "", 431},
		{"a registration", "/oauth/register", plain, `{"redirect_uris":["https://app.example/cb"]}`, 201},
		{"16 KB of registration", "/oauth/register", plain, `{"redirect_uris":["https://app.example/cb"],"x":"` + strings.Repeat("x", 17<<10) + `"}`, 413},
		{"64 KB of body", "/oauth/register", plain, strings.Repeat("x", 65<<10), 413},
	} {
		for _, name := range samples {
			for _, encoded := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s by %s, base64 %v", c.name, name, encoded), func(t *testing.T) {
					e := sample(t, name)
					if e.fromLoadBalancer() {
						e.Path = c.path
					} else {
						e.RawPath = c.path
					}
					e.Headers, e.MultiValue = c.headers, nil
					if e.Body, e.Base64 = c.body, encoded; encoded {
						e.Body = base64.StdEncoding.EncodeToString([]byte(c.body))
					}
					got, err := f.invoke(t.Context(), e)
					if err != nil || status(t, got) != c.want {
						t.Errorf("%s, %v; want %d", marshal(t, got), err, c.want)
					}
				})
			}
		}
	}
}

// A Function URL is public. Strangers get only these answers.
func TestLambdaInvocationsWithoutAHop(t *testing.T) {
	f, hop, log, provider := realFunction(t)
	headers := []map[string]string{
		{}, {"x-mcpb-hop": ""}, {"x-mcpb-hop": "mbh1_" + strings.Repeat("A", 700)}, {"x-mcpb-hop": hop[:len(hop)-1]}, {"x-mcpb-hop": hop + "A"},
		{"authorization": "Bearer " + hop}, {"x-mcpb-hop": strings.Repeat("A", 30<<10)}, {"x-mcpb_hop": hop},
	}
	paths := []string{"/", "/oauth/token", "/oauth/authorize", "/oauth/callback", "/oauth/register", "/oauth/jwks.json", "/oauth/consent",
		"/.well-known/oauth-authorization-server", "//oauth/token", "/healthz/", "/Healthz", "/hop/token"}
	began := time.Now()
	for i := range 10_000 {
		e := sample(t, samples[i%len(samples)])
		e.Headers, e.MultiValue = headers[i/7%len(headers)], nil
		if e.fromLoadBalancer() {
			e.Path = paths[i%len(paths)]
		} else {
			e.RawPath = paths[i%len(paths)]
		}
		got, err := f.invoke(context.Background(), e)
		if err != nil || status(t, got) != 403 {
			t.Fatalf("%s with %v: %s, %v", paths[i%len(paths)], slices.Collect(maps.Keys(e.Headers)), marshal(t, got), err)
		}
	}
	if discoveries, keys, authorizations := provider.Counts(); discoveries+keys+authorizations+provider.Posts() != 0 {
		t.Errorf("the provider was asked: %d, %d, %d, %d", discoveries, keys, authorizations, provider.Posts())
	}
	// No header, a malformed one, one that is forged: a line each in ten seconds.
	if lines := strings.Count(log.String(), "\n"); lines < 2 || lines > 3*(1+int(time.Since(began)/(10*time.Second))) || strings.Contains(log.String(), hop[:40]) {
		t.Errorf("strangers fill the log: %d lines: %.900s", lines, log.String())
	}
	health := sample(t, "function-url")
	health.RawPath, health.Headers = "/healthz", nil
	if got, err := f.invoke(t.Context(), health); err != nil || status(t, got) != 200 || !strings.Contains(marshal(t, got), `"body":"{\"status\":\"ok\"}"`) {
		t.Errorf("health: %s, %v", marshal(t, got), err)
	}
}

// BenchmarkInvocationWithoutHop measures what a stranger costs, from the event's JSON to the
// answer's. aws-lambda-go's own part is measured in deploy/e2e.
func BenchmarkInvocationWithoutHop(b *testing.B) {
	f, _, _, _ := realFunction(b)
	text, err := os.ReadFile("testdata/events/function-url.json")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var e event
		if err := json.Unmarshal(text, &e); err != nil {
			b.Fatal(err)
		}
		got, err := f.invoke(context.Background(), e)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(got); err != nil {
			b.Fatal(err)
		}
	}
}
