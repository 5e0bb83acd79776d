package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/plugin"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop/dpoptest"
	"github.com/traefik/yaegi/interp"
	"github.com/traefik/yaegi/stdlib"
)

// Yaegi compiles some ordinary Go into something else without a word, so the plugin's own tests run
// in it too.
func TestPluginTestsInYaegi(t *testing.T) {
	gopath := t.TempDir()
	rig.PutPlugin(t, gopath, true)
	root := filepath.Join(gopath, "src", filepath.FromSlash(rig.Module))
	packages := map[string]bool{}
	err := fs.WalkDir(os.DirFS(root), "plugin", func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "testdata" || d.Name() == "lint_test") {
			return fs.SkipDir // these are for the compiler
		}
		if strings.HasSuffix(file, ".go") {
			packages[path.Dir(file)] = packages[path.Dir(file)] || strings.HasSuffix(file, "_test.go")
		}
		return err
	})
	if err != nil || !packages["plugin"] || !packages["plugin/mcp"] || !packages["plugin/dpop"] {
		t.Fatalf("packages %v: %v", packages, err)
	}
	for name, tested := range packages {
		t.Run(name, func(t *testing.T) {
			if !tested {
				t.Fatal("no test shows that Yaegi runs it as it stands")
			}
			testInYaegi(t, gopath, name)
		})
	}
}

func testInYaegi(t *testing.T, gopath, name string) {
	// On a busy machine the tests take four times as long as on an idle one.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, rig.Tool(t, "yaegi"), "test", "-v", rig.Module+"/"+name)
	// The tests read their vectors relative to the package.
	cmd.Dir = filepath.Join(gopath, "src", filepath.FromSlash(rig.Module), filepath.FromSlash(name))
	// A fifth of its time went into the collection of garbage.
	cmd.Env = append(os.Environ(), "GOPATH="+gopath, "GO111MODULE=off", "GOGC=400")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("yaegi test: %v", err)
	}
	ran := regexp.MustCompile(`(?m)^=== RUN   (Test\w+)$`).FindAllStringSubmatch(string(out), -1)
	passed := len(regexp.MustCompile(`(?m)^--- PASS: Test\w+ `).FindAllString(string(out), -1))
	if passed == 0 || passed != len(ran) || err != nil {
		t.Errorf("%d of %d tests passed in Yaegi:\n%s", passed, len(ran), out)
	}
	// Each test function of the sources is among them: one that the interpreter passes over would
	// not be missed otherwise.
	sources, _ := filepath.Glob(filepath.Join(cmd.Dir, "*_test.go"))
	for _, file := range sources {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(out), "=== RUN   "+test[1]+"\n") {
				t.Errorf("%s did not run", test[1])
			}
		}
	}
	t.Logf("%d tests in Yaegi", passed)
}

// handlers makes the middleware twice: compiled, and interpreted exactly as Traefik does it.
func handlers(tb testing.TB, labels map[string]string, next http.Handler) map[string]http.Handler {
	tb.Helper()
	config := plugin.CreateConfig()
	setLabels(reflect.ValueOf(config).Elem(), labels)
	native, err := plugin.New(tb.Context(), next, config, "native")
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]http.Handler{"native": native, "yaegi": interpreter(tb)(labels, next, "yaegi")}
}

// interpreter reads the plugin as Traefik does, once for all middlewares, and returns what makes
// one of labels and a name.
func interpreter(tb testing.TB) func(labels map[string]string, next http.Handler, name string) http.Handler {
	tb.Helper()
	gopath := tb.TempDir()
	rig.PutPlugin(tb, gopath, false)
	i := interp.New(interp.Options{GoPath: gopath, Env: os.Environ()})
	if err := i.Use(stdlib.Symbols); err != nil {
		tb.Fatal(err)
	}
	eval := func(code string) reflect.Value {
		v, err := i.Eval(code)
		if err != nil {
			tb.Fatalf("yaegi: %s: %v", code, err)
		}
		return v
	}
	eval(fmt.Sprintf("import %q", rig.Module+"/plugin"))
	create, make := eval("plugin.CreateConfig"), eval("plugin.New")
	return func(labels map[string]string, next http.Handler, name string) http.Handler {
		config := create.Call(nil)[0]
		setLabels(config.Elem(), labels)
		made := make.Call([]reflect.Value{reflect.ValueOf(tb.Context()), reflect.ValueOf(next), config, reflect.ValueOf(name)})
		return made[0].Interface().(http.Handler)
	}
}

func setLabels(config reflect.Value, labels map[string]string) {
	for name, value := range labels {
		config.FieldByName(name).Set(reflect.ValueOf(value))
	}
}

// authority makes tokens of one tenant.
type authority struct{ *rig.Authority }

func newAuthority(tb testing.TB) *authority { return &authority{rig.StartAuthority(tb)} }

// token returns an access token; each n gives another one.
func (a *authority) token(n int) string { return a.Token("https://mcp.localhost/wiki", "bench", n) }

// carrying is token with one of the provider inside.
func (a *authority) carrying(tb testing.TB, n int) string {
	return a.Carrying(tb, "https://mcp.localhost/wiki", "bench", n, strings.Repeat("t", 1000))
}

// bound returns an access token that is bound to a key (RFC 9449 §6.1).
func (a *authority) bound(key *dpoptest.Key) string {
	return a.Bound("https://mcp.localhost/wiki", "bench", key.Thumbprint())
}

// tokenOf returns an access token of a person that ends in so much time.
func (a *authority) tokenOf(person string, left time.Duration) string {
	now := time.Now()
	return a.TokenOf("https://mcp.localhost/wiki", person, person, now.Add(-time.Hour), now.Add(left))
}

func (a *authority) labels() map[string]string {
	return map[string]string{
		"ProviderIssuer": "https://accounts.google.com", "ClientID": "client", "ClientSecret": "env:GOOGLE_CLIENT_SECRET",
		"Resource": "wiki", "SidecarURL": a.URL, "PublicURL": "https://mcp.localhost/wiki",
	}
}

const benchHopKey = rig.AuthorityHopKey

func get(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://mcp.localhost/wiki/anything", nil)
	r.Header.Set("X-Forwarded-Proto", "https") // as Traefik sets them
	r.Header.Set("X-Forwarded-Host", "mcp.localhost")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// proven is get with a bound token and a proof of its key, under a nonce that a plugin takes from
// its first moment on.
func proven(key *dpoptest.Key, token string) *http.Request {
	r := get(token)
	hopKey, _ := base64.StdEncoding.DecodeString(benchHopKey)
	at := time.Now().Unix()
	nonce := dpop.NewNonces(dpop.NonceKey(hopKey, "https://mcp.localhost/wiki")).Make(at + dpop.Apart + 1)
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", key.Proof(r.Method, r.URL.String(), token, nonce, at))
	return r
}

// Compiled and interpreted must agree, or the unit tests say nothing about what Traefik runs.
func TestNativeAndYaegiAgree(t *testing.T) {
	t.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	a := newAuthority(t)
	good := a.token(1)
	var seen http.Header
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() })
	for name, h := range handlers(t, a.labels(), next) {
		for _, c := range []struct {
			name, token string
			want        int
		}{
			{"a good token, first sight", good, http.StatusOK},
			{"a good token again", good, http.StatusOK},
			{"another good token", a.token(2), http.StatusOK},
			{"no token", "", http.StatusUnauthorized},
			{"a changed token", flip(good), http.StatusUnauthorized},
			{"no JWT", "x", http.StatusUnauthorized},
		} {
			t.Run(name+": "+c.name, func(t *testing.T) {
				seen = nil
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, get(c.token))
				if rec.Code != c.want {
					t.Fatalf("want %d, got %d %s", c.want, rec.Code, rec.Body)
				}
				if c.want == http.StatusOK && (seen.Get("X-Mcp-Sub") != "bench" || seen.Get("Authorization") != "") {
					t.Errorf("the MCP server saw %v", seen)
				}
				if c.want != http.StatusOK && seen != nil {
					t.Error("the MCP server was reached")
				}
			})
		}
	}
}

// net/http closes the body of an incoming request as soon as its answer begins. A proxy that hands
// that body to its own transport is then still looking for the body's end, takes the closing for an
// error and cuts the answer off: one login in some hundreds on a busy machine. So the plugin must
// hold a body before it passes it on.
func TestForwardedFormIsReadBeforeItsAnswerBegins(t *testing.T) {
	t.Setenv("BOUNCER_HOP_KEY", benchHopKey)
	const want = "the beginning, and the end"
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		rig.MarkAnswer(benchHopKey, w, r)
		_, _ = io.WriteString(w, want[:10])
		_ = http.NewResponseController(w).Flush()
		// The end comes when the transport has had the time to give up.
		select {
		case <-r.Context().Done():
		case <-time.After(300 * time.Millisecond):
		}
		_, _ = io.WriteString(w, want[10:])
	}))
	defer sidecar.Close()
	labels := newAuthority(t).labels()
	labels["SidecarURL"] = sidecar.URL
	for name, h := range handlers(t, labels, http.NotFoundHandler()) {
		t.Run(name, func(t *testing.T) {
			rw := &announcing{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{})}
			form := "decision=allow"
			r := httptest.NewRequest(http.MethodPost, "https://mcp.localhost/wiki/oauth/consent", nil)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Body = &serverBody{text: form, begun: rw.begun}
			r.ContentLength = int64(len(form))
			h.ServeHTTP(rw, r)
			if got := rw.Body.String(); got != want {
				t.Errorf("the answer arrived as %q, want %q", got, want)
			}
		})
	}
}

// announcing tells when the answer begins.
type announcing struct {
	*httptest.ResponseRecorder
	begun chan struct{}
	once  sync.Once
}

func (a *announcing) WriteHeader(status int) {
	a.once.Do(func() { close(a.begun) })
	a.ResponseRecorder.WriteHeader(status)
}

// serverBody is the body of an incoming request, with the worst timing that net/http allows:
// whoever looks for its end is held up until the answer has begun.
type serverBody struct {
	text  string
	begun chan struct{}
}

func (b *serverBody) Read(p []byte) (int, error) {
	if b.text != "" {
		n := copy(p, b.text)
		b.text = b.text[n:]
		return n, nil
	}
	select {
	case <-b.begun:
		return 0, http.ErrBodyReadAfterClose
	case <-time.After(100 * time.Millisecond):
		// nothing was sent yet: this reader wants it all first
		return 0, io.EOF
	}
}

func (b *serverBody) Close() error { return nil }
