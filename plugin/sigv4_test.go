//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The rows are from AWS's published test suite for Signature Version 4 (aws-sig-v4-test-suite). Its
// requests differ in one thing each.
func TestAWSTestSuite(t *testing.T) {
	const unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	const token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
	cred := &awsCredentials{id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	for _, c := range []struct {
		name, method, path, query string
		headers                   []string // name and value
		body, signed, signature   string
	}{
		{"get-vanilla", "GET", "/", "", nil, "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-unreserved", "GET", "/" + unreserved, "", nil, "", "host;x-amz-date", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
		{"get-vanilla-query", "GET", "/", "Param1=value1", nil, "", "host;x-amz-date", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
		{"get-vanilla-query-order-key-case", "GET", "/", "Param2=value2&Param1=value1", nil, "", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"get-vanilla-query-order-key", "GET", "/", "Param1=value2&Param1=Value1", nil, "", "host;x-amz-date", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
		{"get-vanilla-query-order-value", "GET", "/", "Param1=value2&Param1=value1", nil, "", "host;x-amz-date", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
		{"get-vanilla-query-unreserved", "GET", "/", unreserved + "=" + unreserved, nil, "", "host;x-amz-date", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
		{"get-vanilla-utf8-query", "GET", "/", "ሴ=bar", nil, "", "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
		{"get-header-value-trim", "GET", "/", "", []string{"my-header1", " value1", "my-header2", ` "a   b   c"`}, "", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		{"post-vanilla", "POST", "/", "", nil, "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"post-header-key-sort", "POST", "/", "", []string{"my-header1", "value1"}, "", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
		{"post-sts-header-before", "POST", "/", "", []string{"x-amz-security-token", token}, "", "host;x-amz-date;x-amz-security-token", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
		{"post-x-www-form-urlencoded", "POST", "/", "", []string{"content-type", "application/x-www-form-urlencoded"}, "Param1=value1", "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	} {
		headers := map[string]string{"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}
		for i := 0; i+1 < len(c.headers); i += 2 {
			headers[c.headers[i]] = c.headers[i+1]
		}
		hash := sha256.Sum256([]byte(c.body))
		got := sigv4(cred, "us-east-1", "service", c.method, c.path, canonicalQuery(c.query), headers, hex.EncodeToString(hash[:]))
		want := "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=" + c.signed + ", Signature=" + c.signature
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

func TestCanonicalQueries(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"nothing", "", ""}, {"a name alone", "a", "a="}, {"empty pairs", "&a=1&&b=2&", "a=1&b=2"}, {"blanks", "a=b+c&d=e%20f", "a=b%20c&d=e%20f"},
		{"names of which one begins the other", "a-=1&a=2", "a=2&a-=1"}, {"repeated parameters stay repeated", "state=2&state=1", "state=1&state=2"},
		{"a broken escape stays broken to the eye", "a=%zz", "a=%25zz"}, {"a semicolon", "a=1;b=2", "a=1%3Bb%3D2"}, {"escapes in small letters", "a=%c3%bc", "a=%C3%BC"},
		{"what needs no escape", "a=%7E%2D", "a=~-"}, {"what a form escapes otherwise", "a=*", "a=%2A"},
	} {
		if got := canonicalQuery(c.raw); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// awsVariables sets Traefik's variables for AWS to these pairs, until the test ends. It also
// forgets the credentials of other tests.
func awsVariables(t *testing.T, pairs ...string) {
	t.Helper()
	all := []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
	unset := func() {
		for _, name := range all {
			os.Unsetenv(name)
		}
		awsCache.Lock()
		awsCache.cred = nil
		awsCache.err = nil
		awsCache.triedAt = 0
		awsCache.Unlock()
	}
	unset()
	t.Cleanup(unset)
	for i := 0; i+1 < len(pairs); i += 2 {
		os.Setenv(pairs[i], pairs[i+1])
	}
}

func TestRegionOfTheSignature(t *testing.T) {
	for _, c := range []struct {
		name, host string
		variables  []string
		want, err  string
	}{
		{"a Function URL's", "abc.lambda-url.eu-central-1.on.aws", nil, "eu-central-1", ""},
		{"not Traefik's then", "abc.lambda-url.eu-central-1.on.aws", []string{"AWS_REGION", "us-east-1"}, "eu-central-1", ""},
		{"Traefik's for another name", "sidecar.example", []string{"AWS_REGION", "us-east-1", "AWS_DEFAULT_REGION", "us-east-2"}, "us-east-1", ""},
		{"the default", "sidecar.example:8443", []string{"AWS_DEFAULT_REGION", "us-gov-east-1"}, "us-gov-east-1", ""},
		{"none", "sidecar.example", nil, "", "label sidecarAuth: the region is neither in sidecarURL (https://ID.lambda-url.REGION.on.aws) nor in Traefik's variable AWS_REGION"},
		{"one that is none", "sidecar.example", []string{"AWS_REGION", "eu/1"}, "", "label sidecarAuth: the region is neither in sidecarURL (https://ID.lambda-url.REGION.on.aws) nor in Traefik's variable AWS_REGION"},
	} {
		awsVariables(t, c.variables...)
		s, err := newAWSSigner(c.host)
		if err != nil && err.Error() != c.err || err == nil && (c.err != "" || s.region != c.want) {
			t.Errorf("%s: %v, %v", c.name, s, err)
		}
	}
}

// Both kinds of request to the sidecar are signed, and a client's own Authorization header stands
// beside the signature.
func TestRequestsToTheSidecarAreSigned(t *testing.T) {
	start(t)
	awsVariables(t, "AWS_REGION", "eu-central-1", "AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "secret", "AWS_SESSION_TOKEN", "session")
	var mu sync.Mutex
	seen := map[string]http.Header{}
	query := ""
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		mu.Lock()
		seen[req.URL.Path] = req.Header.Clone()
		if req.URL.RawQuery != "" {
			query = req.URL.RawQuery
		}
		mu.Unlock()
		markAnswer(rw, req)
		if req.URL.Path == "/hop/deny" {
			fmt.Fprint(rw, noDeny)
			return
		}
		fmt.Fprint(rw, jwksOf("k1"))
	}))
	defer server.Close()
	config := wikiConfig(server.URL)
	config.SidecarAuth = "sigv4"
	h, behind := guard(t, config)
	req := httptest.NewRequest("POST", "https://mcp.localhost/wiki/oauth/token?b=2&a=x+y", strings.NewReader("grant_type=x"))
	for name, value := range map[string]string{"Authorization": "Basic YTpi", "X-Forwarded-Proto": "https", "X-Mcpb-Authorization": "Basic forged", "X-Amz-Date": "20000101T000000Z",
		"X-Amz-Cf-Id": "of-cloudfront", "X_Mcpb_Authorization": "Basic forged"} {
		req.Header[name] = []string{value}
	}
	h.ServeHTTP(httptest.NewRecorder(), req)
	if rec := ask(h, "GET", wikiURL+"/mcp", bearer(goodToken("k1", nil))...); rec.Code != 200 || behind.count() != 1 {
		t.Errorf("with keys that a signed request brought: %d", rec.Code)
	}
	ask(h, "GET", wikiURL+"/oauth/x", "X-Mcpb-Authorization", "Basic forged", "X-Amz-Security-Token", "forged")

	const prefix = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/eu-central-1/lambda/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature="
	mu.Lock()
	defer mu.Unlock()
	for path, own := range map[string]string{"/oauth/token": "Basic YTpi", "/oauth/jwks.json": "", "/oauth/x": ""} {
		got := seen[path]
		if !strings.HasPrefix(got.Get("Authorization"), prefix) || got.Get("X-Amz-Date") != "20270115T080000Z" || got.Get("X-Amz-Security-Token") != "session" ||
			len(got["Authorization"]) != 1 || got["X-Amz-Cf-Id"] != nil || got["X_mcpb_authorization"] != nil || strings.Join(got["X-Mcpb-Authorization"], "|") != own || got.Get(hopHeader) == "" {
			t.Errorf("%s: %v", path, got)
		}
	}
	hash := sha256.Sum256([]byte("grant_type=x"))
	if seen["/oauth/token"].Get("X-Amz-Content-Sha256") != hex.EncodeToString(hash[:]) || query != "a=x%20y&b=2" {
		t.Errorf("%v, query %s", seen["/oauth/token"], query)
	}
}

// Without the label nothing is signed, and a client cannot say in the signer's header what it says
// in Authorization otherwise.
func TestClientHasOneAuthorization(t *testing.T) {
	start(t)
	var mu sync.Mutex
	var seen http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		seen = req.Header.Clone()
		mu.Unlock()
	}))
	defer server.Close()
	h, _ := guard(t, wikiConfig(server.URL))
	ask(h, "GET", wikiURL+"/oauth/x", "Authorization", "AWS4-HMAC-SHA256 x", "X-Mcpb-Authorization", "Basic YTpi")
	mu.Lock()
	defer mu.Unlock()
	if seen.Get("Authorization") != "AWS4-HMAC-SHA256 x" || seen["X-Mcpb-Authorization"] != nil || seen.Get(hopHeader) == "" {
		t.Errorf("%v", seen)
	}
}

func TestSidecarAuthThatCannotBe(t *testing.T) {
	log := start(t)
	awsVariables(t, "AWS_REGION", "eu-central-1")
	refuses := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		rw.WriteHeader(http.StatusForbidden)
	}))
	defer refuses.Close()
	config := wikiConfig(refuses.URL)
	h, _ := guard(t, config)
	if rec := ask(h, "GET", wikiURL+"/oauth/x"); rec.Code != 503 || rec.Body.String() != unavailable || !strings.Contains(log.String(), "compare the AuthType of the Function URL with the label sidecarAuth") {
		t.Errorf("AWS refuses: %d, log %s", rec.Code, log)
	}
	config.SidecarAuth = "sigv4"
	h, _ = guard(t, config)
	if rec := ask(h, "GET", wikiURL+"/oauth/x"); rec.Code != 503 || !strings.Contains(log.String(), "label sidecarAuth: no AWS credentials to sign with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for Traefik") {
		t.Errorf("no credentials: %d, log %s", rec.Code, log)
	}
}

// credentialsEndpoint is the credentials endpoint of a container. It gives out another key each
// time.
type credentialsEndpoint struct {
	mu     sync.Mutex
	asked  int
	token  string // of the last request
	expiry int64  // of the next credentials, Unix seconds
	answer string // instead
	status int    // instead of 200
}

func (e *credentialsEndpoint) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	e.token = strings.Join(req.Header["Authorization"], "|")
	if e.status != 0 {
		rw.WriteHeader(e.status)
	}
	if e.answer != "" {
		fmt.Fprint(rw, e.answer)
		return
	}
	fmt.Fprintf(rw, `{"RoleArn":"arn:aws:iam::123456789012:role/traefik","AccessKeyId":"ASIA%d","SecretAccessKey":"s","Token":"t/+=","Expiration":"%s"}`,
		e.asked, time.Unix(e.expiry, 0).UTC().Format(time.RFC3339))
}

func TestCredentialsOfAContainer(t *testing.T) {
	start(t)
	e := &credentialsEndpoint{}
	server := httptest.NewServer(e)
	defer server.Close()
	awsVariables(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL+"/role?x=1", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret of the container")
	at := clock.Load()
	e.expiry = at + 3600
	expect := func(what, id string, asked int) {
		t.Helper()
		cred, err := currentAWSCredentials(at)
		if err != nil || cred.id != id || e.asked != asked {
			t.Errorf("%s: %v, %v, asked %d times; want %s, %d", what, cred, err, e.asked, id, asked)
		}
	}
	expect("the first", "ASIA1", 1)
	if e.token != "secret of the container" {
		t.Errorf("token %q", e.token)
	}
	at += 3299
	expect("six minutes before they expire", "ASIA1", 1)
	at += 1
	e.status = 500
	expect("five minutes before, and the endpoint is ill", "ASIA1", 2)
	at += awsPause - 1
	expect("it is left alone for five seconds", "ASIA1", 2)
	at += 1
	e.status = 0
	e.expiry = at + 3600
	expect("well again", "ASIA3", 3)
	at += 3600
	e.status = 500
	if cred, err := currentAWSCredentials(at); err == nil || err.Error() != "label sidecarAuth: no AWS credentials to sign with: the container's endpoint answers 500" {
		t.Errorf("expired: %v, %v", cred, err)
	}
	at += awsPause
	e.status = 0
	if cred, err := currentAWSCredentials(at); err == nil || err.Error() != "label sidecarAuth: no AWS credentials to sign with: the container's endpoint gives expired ones" {
		t.Errorf("expired ones: %v, %v", cred, err)
	}
	asked := e.asked
	if _, err := currentAWSCredentials(at + awsPause - 1); err == nil || e.asked != asked {
		t.Errorf("expired ones, four seconds later: %v, asked %d times more", err, e.asked-asked)
	}
	at += awsPause
	e.expiry = at + 200
	expect("some that are nearly over", fmt.Sprintf("ASIA%d", asked+1), asked+1)
	at += awsPause - 1
	expect("they are used, and no others fetched for each request", fmt.Sprintf("ASIA%d", asked+1), asked+1)
	at -= 100
	expect("a clock that was set back keeps nobody from asking", fmt.Sprintf("ASIA%d", asked+2), asked+2)

	file := t.TempDir() + "/token"
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file)
	at += 10
	e.expiry = at + 3600
	if _, err := currentAWSCredentials(at); err != nil || e.token != "from a file" {
		t.Errorf("token %q, %v", e.token, err)
	}
	os.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	os.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	asked = e.asked
	expect("the environment goes first", "AKIDEXAMPLE", asked)
}

func TestVariablesOfAWSSetToNothingAreNotSet(t *testing.T) {
	for _, nothing := range []string{"", " ", " \t\n"} {
		start(t)
		e := &credentialsEndpoint{expiry: clock.Load() + 3600}
		server := httptest.NewServer(e)
		awsVariables(t, "AWS_ACCESS_KEY_ID", nothing, "AWS_SECRET_ACCESS_KEY", nothing, "AWS_SESSION_TOKEN", nothing, "AWS_REGION", nothing, "AWS_DEFAULT_REGION", "eu-west-1",
			"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", nothing, "AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL,
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", nothing, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "of the container")
		cred, err := currentAWSCredentials(clock.Load())
		if err != nil || cred.id != "ASIA1" || e.token != "of the container" {
			t.Errorf("%q: %v, %v, token %q", nothing, cred, err, e.token)
		}
		signer, err := newAWSSigner("sidecar.example")
		if err != nil || signer.region != "eu-west-1" {
			t.Errorf("%q: %v, %v", nothing, signer, err)
		}
		os.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", nothing)
		os.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", nothing)
		if _, err := fetchAWSCredentials(); err == nil || !strings.Contains(err.Error(), "give its container a role") {
			t.Errorf("%q, and no endpoint: %v", nothing, err)
		}
		os.Setenv("AWS_ACCESS_KEY_ID", " AKIDEXAMPLE\n")
		os.Setenv("AWS_SECRET_ACCESS_KEY", "secret\r\n")
		if cred, err := currentAWSCredentials(clock.Load()); err != nil || cred.id != "AKIDEXAMPLE" || cred.secret != "secret" || cred.token != "" {
			t.Errorf("%q, with keys: %v, %v", nothing, cred, err)
		}
		server.Close()
	}
}

func TestContainersThatGiveNoCredentials(t *testing.T) {
	const missing = "the container's endpoint does not answer with AccessKeyId, SecretAccessKey and Expiration"
	for _, c := range []struct{ name, answer, want string }{
		{"not JSON", "no", "the container's endpoint does not answer with its JSON"},
		{"a list", `[]`, "the container's endpoint does not answer with its JSON"},
		{"an error", `{"code":"AccessDenied"}`, missing},
		{"no key", `{"SecretAccessKey":"s","Expiration":"2036-01-01T00:00:00Z"}`, missing},
		{"no secret", `{"AccessKeyId":"a","Expiration":"2036-01-01T00:00:00Z"}`, missing},
		{"no end", `{"AccessKeyId":"a","SecretAccessKey":"s"}`, missing},
		{"an end that is none", `{"AccessKeyId":"a","SecretAccessKey":"s","Expiration":"soon"}`, missing},
		{"a header in the key", `{"AccessKeyId":"a\r\nb","SecretAccessKey":"s","Expiration":"2036-01-01T00:00:00Z"}`, "the container's endpoint answers with what is not printable ASCII"},
		{"far too much", `{"AccessKeyId":"` + strings.Repeat("a", 20000) + `"`, "the container's endpoint does not answer with its JSON"},
	} {
		start(t)
		e := &credentialsEndpoint{answer: c.answer}
		server := httptest.NewServer(e)
		awsVariables(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
		_, err := currentAWSCredentials(clock.Load())
		server.Close()
		if err == nil || err.Error() != "label sidecarAuth: no AWS credentials to sign with: "+c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for endpoint, may := range map[string]bool{
		"http://localhost/role": true, "http://127.0.0.1:1/": true, "http://[::1]/": true, "http://169.254.170.2/v2/x": true, "http://169.254.170.23/v1/credentials": true,
		"http://[fd00:ec2::23]/v1": true, "https://creds.example/": true, "http://creds.example/": false, "http://169.254.169.254/": false, "ftp://localhost/": false,
		"localhost": false, "http://u@localhost/": false, "http://localhost.evil.example/": false, "https://": false, "%": false,
	} {
		if mayGiveAWSCredentials(endpoint) != may {
			t.Errorf("%s: %v", endpoint, !may)
		}
	}
}

func TestRenamedChallengeGetsItsNameBack(t *testing.T) {
	start(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		markAnswer(rw, req)
		rw.Header().Set("x-amzn-Remapped-WWW-Authenticate", `Basic realm="token endpoint"`)
		rw.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	h, _ := guard(t, wikiConfig(server.URL))
	rec := ask(h, "POST", wikiURL+"/oauth/token")
	if got := rec.Header(); got.Get("WWW-Authenticate") != `Basic realm="token endpoint"` || got.Get("X-Amzn-Remapped-WWW-Authenticate") != "" || rec.Code != 401 {
		t.Errorf("%d %v", rec.Code, got)
	}
}
