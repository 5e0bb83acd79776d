package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeExtension is AWS's extension: it answers the function alone, and knows one parameter and one
// secret.
type fakeExtension struct {
	key string

	mu     sync.Mutex       // a request that the client has given up may still be read here
	unkind http.HandlerFunc // answers in its place
	asked  []string
}

func (x *fakeExtension) be(unkind http.HandlerFunc) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unkind = unkind
}

const (
	keyARN       = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mcpbouncer-a1b2c3"
	sessionToken = "token-of-the-function+/="
)

// startExtension makes the test an environment of AWS Lambda with an extension.
func startExtension(t *testing.T) *fakeExtension {
	t.Helper()
	x := &fakeExtension{key: keyOne}
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, map[string]string{runtimeAPI: "127.0.0.1:9001", "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": u.Port(), "AWS_SESSION_TOKEN": sessionToken})
	return x
}

func (x *fakeExtension) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	x.asked = append(x.asked, r.URL.RequestURI())
	unkind := x.unkind
	x.mu.Unlock()
	q := r.URL.Query()
	switch {
	case r.Header.Get("X-Aws-Parameters-Secrets-Token") != sessionToken:
		http.Error(w, "not the function", http.StatusUnauthorized)
	case unkind != nil:
		unkind(w, r)
	case r.URL.Path == "/systemsmanager/parameters/get" && q.Get("name") == "/mcpbouncer/key" && q.Get("withDecryption") == "true":
		fmt.Fprintf(w, `{"Parameter":{"ARN":"arn:aws:ssm:…","DataType":"text","LastModifiedDate":"2026-09-21T14:30:00Z","Name":"/mcpbouncer/key","Selector":null,"SourceResult":null,"Type":"SecureString","Value":%q,"Version":1},"ResultMetadata":{}}`, x.key)
	case r.URL.Path == "/secretsmanager/get" && q.Get("secretId") == keyARN:
		fmt.Fprintf(w, `{"ARN":%q,"CreatedDate":"2026-09-21T14:30:00Z","Name":"mcpbouncer","SecretBinary":null,"SecretString":%q,"VersionId":"v","VersionStages":["AWSCURRENT"],"ResultMetadata":{}}`, keyARN, x.key)
	default:
		http.Error(w, "an unexpected error occurred while executing request: AccessDeniedException", http.StatusBadRequest)
	}
}

func TestKeyMayBeNamed(t *testing.T) {
	for _, reference := range []string{"ssm:/mcpbouncer/key", "secretsmanager:" + keyARN} {
		for _, content := range []string{keyOne, keyOne + "\n", keyTwo + "," + keyOne, "BOUNCER_ENCRYPTION_KEY=" + keyOne} {
			x := startExtension(t)
			x.key = content
			t.Setenv("BOUNCER_ENCRYPTION_KEY", reference)
			if _, err := loadEnvironment(); err != nil || len(x.asked) != 1 {
				t.Errorf("%s with %q: %v, asked %q", reference, content, err, x.asked)
			}
		}
	}
}

// The extension as it is on a bad day. No error shows a secret, and none is kept.
func TestSecretsOfAnUnkindExtension(t *testing.T) {
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name   string
		unkind http.HandlerFunc
		want   string
	}{
		{"before the first invocation", status(400, "not ready to serve traffic, please wait"), `the extension answers 400: "not ready to serve traffic, please wait"`},
		{"no permission", status(400, "AccessDeniedException"), `the extension answers 400: "AccessDeniedException"`},
		{"a long reason with line breaks", status(500, strings.Repeat("x\n", 10000)), `the extension answers 500: "` + strings.Repeat(`x\n`, 150) + `"`},
		{"another token", status(401, "not authorized"), `the extension answers 401: "not authorized"`},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}, `the extension answers 302: "<a href=\"http://192.0.2.1/\">Found</a>.\n\n"`},
		{"no JSON", status(200, keyOne), "the extension's answer is not its JSON"},
		{"half its JSON", status(200, `{"Parameter":{"Value":"`+keyOne), "the extension's answer is not its JSON"},
		{"other JSON", status(200, `{"Parameter":"`+keyOne+`"}`), "the extension's answer is not its JSON"},
		{"JSON without a value", status(200, `{"Parameter":{"value ":"`+keyOne+`"}}`), "it is empty"},
		{"an empty value", status(200, `{"Parameter":{"Value":" "}}`), "it is empty"},
		{"nothing", status(200, ""), "the extension's answer is not its JSON"},
		{"far too much", status(200, `{"Parameter":{"Value":"`+strings.Repeat("A", 1<<20)+`"}}`), "the extension's answer is too long"},
		{"less than it promised", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"Parameter":`)
		}, "the extension's answer ends early"},
		{"no answer in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"context deadline exceeded; is the layer AWS-Parameters-and-Secrets-Lambda-Extension there?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := startExtension(t)
			x.be(c.unkind)
			real := newExtension()
			// the others have all the time that a slow machine needs
			if c.name == "no answer in time" {
				real.deadline = 200 * time.Millisecond
			}
			_, err := real.read("ssm:/mcpbouncer/key")
			if want := "ssm:/mcpbouncer/key: " + c.want; err == nil || err.Error() != want {
				t.Fatalf("error %v\nwant  %s", err, want)
			}
			if strings.Contains(err.Error(), keyOne) {
				t.Error("the error holds the secret")
			}
			x.be(nil)
			real.deadline = extensionDeadline
			if got, err := real.read("ssm:/mcpbouncer/key"); err != nil || got != keyOne {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		startExtension(t)
		t.Setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "1")
		_, err := newExtension().read("ssm:/mcpbouncer/key")
		if err == nil || !strings.HasPrefix(err.Error(), "ssm:/mcpbouncer/key: dial tcp") || !strings.HasSuffix(err.Error(), "connect: connection refused; is the layer AWS-Parameters-and-Secrets-Lambda-Extension there?") {
			t.Error(err)
		}
	})
}

// Requests are answered 503 until the master secret could be read, and it is not asked for more
// than once a second. One that is no key can be mended without a new environment.
func TestLambdaWaitsForItsKey(t *testing.T) {
	x := startExtension(t)
	t.Setenv("BOUNCER_ENCRYPTION_KEY", "ssm:/mcpbouncer/key")
	x.be(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not ready", http.StatusBadRequest) })
	var log bytes.Buffer
	now := time.Unix(1_790_000_000, 0)
	e, err := readEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	f := &function{log: slog.New(slog.NewJSONHandler(&log, nil)), load: func(log *slog.Logger) (http.Handler, error) { return e.loadHandler(log, io.Discard) }, now: func() time.Time { return now }}
	health := sample(t, "function-url")
	health.RawPath = "/healthz"
	invoke := func(want, asked int) {
		t.Helper()
		got, err := f.invoke(t.Context(), health)
		if err != nil || status(t, got) != want || len(x.asked) != asked {
			t.Errorf("%s, %v, asked %q; want %d and %d", marshal(t, got), err, x.asked, want, asked)
		}
		if text := marshal(t, got); want == 503 && !strings.Contains(text, `"Retry-After":"5"`) {
			t.Error(text)
		}
	}
	invoke(503, 1)
	invoke(503, 1)
	now = now.Add(time.Second)
	invoke(503, 2)
	x.be(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"Parameter":{"Value":"no key"}}`) })
	now = now.Add(time.Second)
	invoke(503, 3)
	x.be(nil)
	invoke(503, 3)
	now = now.Add(time.Second)
	invoke(200, 4)
	invoke(200, 4)
	if text := log.String(); strings.Count(text, `"not ready"`) != 3 || !strings.Contains(text, `BOUNCER_ENCRYPTION_KEY: ssm:/mcpbouncer/key: the extension answers 400: `) ||
		!strings.Contains(text, "serving invocations") || strings.Contains(text, keyOne) {
		t.Error(text)
	}
}

func TestClientSecretsMayBeNamed(t *testing.T) {
	x := startExtension(t)
	t.Setenv("BOUNCER_ENCRYPTION_KEY", keyOne)
	t.Setenv("WIKI_CLIENT_SECRET", "secretsmanager:"+keyARN)
	x.key = "secret-of-the-upstream-client"
	e, err := loadEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	getenv := e.issuerConfig(slog.New(slog.NewJSONHandler(&log, nil))).Getenv
	for range 3 {
		if got := getenv("WIKI_CLIENT_SECRET"); got != x.key {
			t.Errorf("%q", got)
		}
	}
	if len(x.asked) != 1 {
		t.Errorf("asked %q", x.asked)
	}
	t.Setenv("WORLD_CLIENT_SECRET", "ssm:/unknown")
	if got := getenv("WORLD_CLIENT_SECRET"); got != "" || !strings.Contains(log.String(), `"variable":"WORLD_CLIENT_SECRET","cause":"ssm:/unknown: the extension answers 400: `) {
		t.Errorf("%q, log %s", got, log.String())
	}
}
