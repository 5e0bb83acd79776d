//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The tests of this package run compiled (go test) and interpreted (yaegi test), so they keep to
// the same Go as the package.

const wikiURL = "https://mcp.localhost/wiki"

// clock is what now returns, in Unix seconds.
var clock atomic.Int64

var testHopKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

func init() {
	checksAtLoad = false
	afterFunc = func(wait time.Duration, send func()) {}
	sweepLater = func(sweep func()) {}
	clock.Store(1800000000)
	now = func() time.Time { return time.Unix(clock.Load(), 0) }
	since = func(then time.Time) time.Duration { return now().Sub(then) }
	os.Setenv(hopVariable, testHopKey)
}

// logged collects the log lines of one test.
type logged struct {
	mu   sync.Mutex
	text string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(p)
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// last returns the last line, which says why a request was refused where the answer does not.
func (l *logged) last() string {
	text := strings.TrimSuffix(l.String(), "\n")
	return text[strings.LastIndex(text, "\n")+1:]
}

// start gives a test an empty world: no cached keys, the clock at 1800000000, a log of its own.
func start(t testing.TB) *logged {
	t.Helper()
	eventually(t, "the fetches of the test before end, which would complain in this one's log", func() bool { return !flying() })
	clock.Store(1800000000)
	sidecarStates.Lock()
	sidecarStates.named = map[string][]*sidecarState{}
	sidecarStates.strangers = map[string]*sidecarState{}
	sidecarStates.Unlock()
	loads.Lock()
	loads.seen = map[[32]byte]int64{}
	loads.sweep = false
	loads.Unlock()
	knownLock.Lock()
	sharedPlain = usualNames(nil)
	sharedLeft = usualNames(messageHeaders)
	knownLock.Unlock()
	complaints.Lock()
	complaints.quiet = map[string]period{}
	complaints.Unlock()
	l := &logged{}
	log.SetOutput(l)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the plugin's last log line: " + l.last())
		}
	})
	return l
}

// allStates needs sidecarStates locked.
func allStates() []*sidecarState {
	all := []*sidecarState{}
	for _, states := range sidecarStates.named {
		all = append(all, states...)
	}
	for _, s := range sidecarStates.strangers {
		all = append(all, s)
	}
	return all
}

// signingKey returns an Ed25519 key that depends only on its name, which is also its kid. It is
// made once: that takes nearly as long as to sign with it.
func signingKey(kid string) ed25519.PrivateKey {
	signingKeys.Lock()
	defer signingKeys.Unlock()
	key, made := signingKeys.byKid[kid]
	if !made {
		seed := sha256.Sum256([]byte(kid))
		key = ed25519.NewKeyFromSeed(seed[:])
		signingKeys.byKid[kid] = key
	}
	return key
}

var signingKeys = struct {
	sync.Mutex
	byKid map[string]ed25519.PrivateKey
}{byKid: map[string]ed25519.PrivateKey{}}

func jwksOf(kids ...string) string {
	keys := []string{}
	for _, kid := range kids {
		public := signingKey(kid).Public().(ed25519.PublicKey)
		keys = append(keys, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":"%s","x":"%s"}`, kid, base64.RawURLEncoding.EncodeToString(public)))
	}
	return `{"keys":[` + strings.Join(keys, ",") + `]}`
}

// goodToken returns a good token for wikiURL, with some claims changed; a nil value removes a
// claim.
func goodToken(kid string, changes map[string]any) string {
	at := clock.Load()
	claims := map[string]any{"iss": wikiURL, "sub": "user-1", "aud": []string{"wiki", wikiURL}, "exp": at + 3600, "iat": at, "nbf": at,
		"jti": "a1", "client_id": "client-1", "scope": "openid mcp"}
	for name, value := range changes {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	header, _ := json.Marshal(map[string]any{"typ": "at+jwt", "alg": "EdDSA", "kid": kid})
	body, _ := json.Marshal(claims)
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(signingKey(kid), []byte(text)))
}

const noDeny = `{"v":1,"serial":0,"notBefore":0,"clients":[],"users":[],"families":[],"keys":[]}`

// fakeSidecar serves a key set and a deny document, and answers every other request with 200 and
// the method and URI of the request.
type fakeSidecar struct {
	server      *httptest.Server
	fetches     atomic.Int64 // of the key set
	denyFetches atomic.Int64 // of the deny document
	unchanged   atomic.Int64 // answers that it has not changed

	mu       sync.Mutex
	jwks     string
	deny     string                      // a number: this status instead
	answers  map[string]http.HandlerFunc // for other paths
	unmarked string                      // answers at this path have no mark
	refuses  bool                        // answers like a sidecar that does not accept the hop key
	last     *http.Request               // other than for the key set
	hop      string                      // X-Mcpb-Hop of the last request of any kind
	hold     chan struct{}               // key sets are not served before it is closed
	parents  map[string]string           // path → traceparent of the last request
}

func startSidecar(t testing.TB) *fakeSidecar {
	f := &fakeSidecar{jwks: jwksOf("k1"), deny: noDeny, parents: map[string]string{}}
	f.server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() { f.server.Close() })
	return f
}

func (f *fakeSidecar) serve(rw http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	f.hop = strings.Join(req.Header[hopHeader], "|")
	f.parents[req.URL.Path] = strings.Join(req.Header[parentHeader], "|")
	jwks := f.jwks
	deny := f.deny
	answers := f.answers[req.URL.Path]
	refuses := f.refuses
	unmarked := f.unmarked == req.URL.Path
	hold := f.hold
	if req.URL.Path != "/oauth/jwks.json" && req.URL.Path != "/hop/deny" {
		f.last = req.Clone(context.Background())
	}
	f.mu.Unlock()
	if !unmarked {
		markAnswer(rw, req)
	}
	if refuses {
		rw.Header().Set(hopHeader, "refused")
		rw.Header().Set(markHeader, "1")
		rw.WriteHeader(http.StatusForbidden)
		return
	}
	if req.URL.Path == "/oauth/jwks.json" {
		f.fetches.Add(1)
		await(hold, req)
		fmt.Fprint(rw, jwks)
		return
	}
	if req.URL.Path == "/hop/deny" {
		f.denyFetches.Add(1)
		f.serveDeny(rw, req, deny)
		return
	}
	if answers != nil {
		answers(rw, req)
		return
	}
	rw.Header().Set("X-Served-By", "sidecar")
	fmt.Fprint(rw, req.Method+" "+req.URL.RequestURI())
}

// markAnswer sets the mark that proves an answer to be the sidecar's, which holds the hop key that
// the header names.
func markAnswer(rw http.ResponseWriter, req *http.Request) {
	hop := strings.Join(req.Header[hopHeader], "|")
	blob, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(hop, "mbh1_"))
	if err != nil || len(blob) < 36 {
		return
	}
	for i := byte(1); i < 10; i++ {
		key := bytes.Repeat([]byte{i}, 32)
		id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), key...))
		if bytes.Equal(blob[1:4], id[:3]) {
			rw.Header().Set(markHeader, markOf(key, hop))
		}
	}
}

func (f *fakeSidecar) serveDeny(rw http.ResponseWriter, req *http.Request, deny string) {
	status, err := strconv.Atoi(deny)
	if err == nil {
		rw.WriteHeader(status)
		return
	}
	sum := sha256.Sum256([]byte(deny))
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	rw.Header().Set("ETag", etag)
	if req.Header.Get("If-None-Match") == etag {
		f.unchanged.Add(1)
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	fmt.Fprint(rw, deny)
}

// setDeny replaces the deny document.
func (f *fakeSidecar) setDeny(deny string) {
	f.mu.Lock()
	f.deny = deny
	f.mu.Unlock()
}

// on sets the handler of a path.
func (f *fakeSidecar) on(path string, answers http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answers == nil {
		f.answers = map[string]http.HandlerFunc{}
	}
	f.answers[path] = answers
}

func (f *fakeSidecar) serveKeys(jwks string) {
	f.mu.Lock()
	f.jwks = jwks
	f.mu.Unlock()
}

func (f *fakeSidecar) forget() {
	f.mu.Lock()
	f.last = nil
	f.mu.Unlock()
}

func (f *fakeSidecar) lastRequest() *http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// wikiConfig holds the labels of the tenant wikiURL.
func wikiConfig(sidecar string) *Config {
	c := CreateConfig()
	c.ProviderIssuer = "https://accounts.google.com"
	c.ClientID = "client.apps.googleusercontent.com"
	c.ClientSecret = "secret-of-the-upstream-client"
	c.Resource = "wiki"
	c.SidecarURL = sidecar
	return c
}

// backend is the MCP server behind the middleware: it remembers what reached it.
type backend struct {
	mu    sync.Mutex
	calls int
	last  http.Header
	rw    http.ResponseWriter
}

func (b *backend) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	b.mu.Lock()
	b.calls++
	b.last = req.Header.Clone()
	b.rw = rw
	b.mu.Unlock()
	rw.WriteHeader(http.StatusOK)
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// guard puts the middleware in front of a new backend.
func guard(t testing.TB, c *Config) (http.Handler, *backend) {
	t.Helper()
	behind := &backend{}
	var next http.Handler = behind
	h, err := New(context.Background(), next, c, "wiki@docker")
	if err != nil {
		t.Fatalf("New returned an error, on which Traefik drops the router: %v", err)
	}
	return h, behind
}

// ask sends a request as Traefik hands it over: headers are pairs of name and value, names as they
// stand on the wire.
func ask(h http.Handler, method, url string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, url, nil)
	req.TLS = nil
	if strings.HasPrefix(url, "https:") {
		req.Header.Set("X-Forwarded-Proto", "https")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	if req.Header["X-Forwarded-Host"] == nil { // as Traefik does, without which nothing is known
		req.Header["X-Forwarded-Host"] = []string{req.Host}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// challenges returns the WWW-Authenticate lines in this spelling: Header.Get would look for
// Www-Authenticate.
func challenges(rec *httptest.ResponseRecorder) []string {
	var values []string
	for have, v := range rec.Header() {
		if have == "WWW-Authenticate" {
			values = v
		}
	}
	return values
}

// await holds an answer back until hold is closed, or until nobody waits for the answer: when a
// test fails before it closes hold, the server must be able to end.
func await(hold chan struct{}, req *http.Request) {
	if hold == nil {
		return
	}
	select {
	case <-hold:
	case <-req.Context().Done():
	}
}

// patient makes requests wait for the sidecar longer than sidecarDeadline. A crowd needs longer
// than that to come, in Yaegi on a busy machine, and the first of it would be answered 503.
func patient(t testing.TB) {
	deadline = time.Minute
	t.Cleanup(func() { deadline = sidecarDeadline })
}

// eventually waits for what a fetch in another goroutine brings about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-end:
			t.Fatal("not within a minute: " + what)
		case <-tick.C:
		}
	}
}
