package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The vectors are those of AWS's published test suite (post-vanilla and
// post-x-www-form-urlencoded).
func TestAWSSignatures(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body, want string
	}{
		{"post-vanilla", "", "", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"post-x-www-form-urlencoded", "application/x-www-form-urlencoded", "Param1=value1", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequest("POST", "https://example.amazonaws.com/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			signAWS(r, []byte(c.body), awsCredentials{id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}, "us-east-1", "service", time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC))
			if got := r.Header.Get("Authorization"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// roundTrip makes a transport of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAWSCredentialsComeFrom(t *testing.T) {
	now := time.Unix(1790000000, 0)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		environment map[string]string
		asked, auth string
		status      int
		want        string // the session token, or the error
		asks        int    // for two uses
	}{
		{"the environment", map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "from-the-environment", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, "", "", 0, "from-the-environment", 0},
		{"a container of ECS", map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"}, "http://169.254.170.2/v2/credentials/1", "", 200, "from-the-container", 1},
		{"a container of EKS", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file}, "http://169.254.170.23/v1/credentials", "from-a-file", 200, "from-the-container", 1},
		{"another endpoint over https", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "https://vault.example/c", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token"}, "https://vault.example/c", "token", 200, "from-the-container", 1},
		{"another endpoint over http", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://vault.example/c"}, "", "", 200, "AWS_CONTAINER_CREDENTIALS_FULL_URI: neither https nor a container's endpoint", 0},
		{"an endpoint that refuses", map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, "http://169.254.170.2/x", "", 403, "the container's endpoint answered 403 and no credentials", 1},
		{"nothing", nil, "", "", 0, "no AWS credentials: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor a container's endpoint", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			asks := 0
			client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				asks++
				if r.URL.String() != c.asked || r.Header.Get("Authorization") != c.auth {
					t.Errorf("asked %s with %q", r.URL, r.Header.Get("Authorization"))
				}
				body := fmt.Sprintf(`{"AccessKeyId":"id","SecretAccessKey":"secret","Token":"from-the-container","Expiration":%q}`, now.Add(time.Hour).Format(time.RFC3339))
				return &http.Response{StatusCode: c.status, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			})}
			a := &awsIdentity{getenv: func(name string) string { return c.environment[name] }, client: client}
			for range 2 {
				got, err := a.credentials(t.Context(), now)
				if got.session != c.want && (err == nil || err.Error() != c.want) {
					t.Errorf("%+v, %v, want %s", got, err, c.want)
				}
			}
			if asks != c.asks {
				t.Errorf("asked %d times, want %d", asks, c.asks)
			}
			// requests must not wait for a hanging endpoint one after the other
			if c.status == 403 {
				if _, err := a.credentials(t.Context(), now.Add(awsRetry)); err == nil || asks != 2 {
					t.Errorf("a moment later: asked %d times, %v", asks, err)
				}
			}
			if c.want == "from-the-container" { // and again before they expire
				if _, err := a.credentials(t.Context(), now.Add(56*time.Minute)); err != nil || asks != 2 {
					t.Errorf("asked %d times: %v", asks, err)
				}
				a.known.expires = now.Add(time.Hour)
				c.status = 500
				if got, err := a.credentials(t.Context(), now.Add(59*time.Minute)); err != nil || got.session != c.want || asks != 3 {
					t.Errorf("the endpoint is ill a minute before they expire: %+v, %v, asked %d times", got, err, asks)
				}
				if got, err := a.credentials(t.Context(), now.Add(time.Hour)); err == nil || got.session != "" {
					t.Errorf("and still when they have: %+v", got)
				}
			}
		})
	}
}

// A client that hangs up must not make the fetch fail for the others, which share it.
func TestAWSCredentialsWhenAClientHangsUp(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	a := &awsIdentity{
		getenv: func(name string) string {
			return map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}[name]
		},
		client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			close(asked)
			<-goOn
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"AccessKeyId":"id","SecretAccessKey":"secret","Token":"session","Expiration":"2099-01-01T00:00:00Z"}`)), Request: r}, nil
		})},
	}
	now := time.Unix(1790000000, 0)
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = a.credentials(ctx, now)
	}()
	<-asked
	hangUp()
	close(goOn)
	<-done
	if got, err := a.credentials(t.Context(), now); err != nil || got.session != "session" {
		t.Errorf("the next request: %+v, %v", got, err)
	}
}

// A proxy would see the token of the container and the credentials, in plain http.
func TestAWSCredentialsPassNoProxy(t *testing.T) {
	var proxied atomic.Bool
	usual := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = usual })
	http.DefaultTransport = &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
		proxied.Store(true)
		return nil, errors.New("a proxy")
	}}
	asked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer asked.Close()
	env := map[string]string{"AWS_REGION": "eu-central-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": asked.URL}
	s, err := newDynamoStore("guard", func(name string) string { return env[name] }, time.Now, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.identity.credentials(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "302") || proxied.Load() {
		t.Errorf("proxied %v, error %v", proxied.Load(), err)
	}
	if s.identity.client.Timeout == 0 {
		t.Error("it may wait for ever")
	}
}

// Whoever knows the URI and reaches the endpoint gets the credentials, so it stands in no log.
func TestAWSCredentialsEndpointIsNotNamedInFull(t *testing.T) {
	env := map[string]string{"AWS_REGION": "eu-central-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/v2/credentials/5ecre7-1d"}
	store, err := newDynamoStore("replay", func(name string) string { return env[name] }, time.Now, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	g := &Guard{store: store, kind: "dynamodb", life: time.Hour}
	if _, err := g.firstUse(t.Context(), Key{1}, 5); err == nil || strings.Contains(err.Error(), "5ecre7-1d") {
		t.Errorf("the log gets: %v", err)
	}
}
