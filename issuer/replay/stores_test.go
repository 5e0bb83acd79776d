package replay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// table is DynamoDB as far as a replay store needs it. It evaluates the two conditions that are
// used, with its own clock, and checks signatures.
type table struct {
	t     *testing.T
	clock *testClock
	noAll bool // does not return the item that was in the way, as older implementations

	mu     sync.Mutex // guards the rest for one request
	items  map[string]dynamoItem
	calls  []string
	status int // answers this
	body   string
}

func (f *table) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
	f.calls = append(f.calls, operation)
	answer := func(status int, v any) (*http.Response, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: status, Header: http.Header{"Date": {f.clock.now().UTC().Format(http.TimeFormat)}}, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, nil
	}
	if f.status != 0 {
		return answer(f.status, map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + f.body})
	}
	// The same request signed again must have the same signature: everything that is sent is
	// signed.
	again, err := http.NewRequest("POST", r.URL.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Content-Type", "X-Amz-Target"} {
		again.Header.Set(name, r.Header.Get(name))
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return nil, err
	}
	signAWS(again, body, awsCredentials{id: "AKIDEXAMPLE", secret: "secret", session: "session"}, "eu-central-1", "dynamodb", at)
	if r.Header.Get("Authorization") != again.Header.Get("Authorization") || r.Header.Get("X-Amz-Security-Token") != "session" {
		f.t.Errorf("signed %q, want %q", r.Header.Get("Authorization"), again.Header.Get("Authorization"))
	}
	var request struct {
		TableName                           string
		Item, Key                           dynamoItem
		ConditionExpression                 string
		ExpressionAttributeValues           dynamoItem
		ExpressionAttributeNames            map[string]string
		ReturnValuesOnConditionCheckFailure string
		ConsistentRead                      bool
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&request); err != nil || request.TableName != "replay" {
		f.t.Errorf("request %s: %v", body, err)
	}
	switch operation {
	case "GetItem":
		if !request.ConsistentRead {
			f.t.Error("a read that may be old")
		}
		if item, ok := f.items[*request.Key["pk"].S]; ok {
			return answer(200, map[string]any{"Item": item})
		}
		return answer(200, struct{}{})
	case "DeleteItem":
		if request.ConditionExpression != "#num = :num" {
			f.t.Errorf("condition %q", request.ConditionExpression)
		}
		key := *request.Key["pk"].S
		if old, ok := f.items[key]; !ok || old["num"].number() != request.ExpressionAttributeValues[":num"].number() {
			return answer(400, map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"})
		}
		delete(f.items, key)
		return answer(200, struct{}{})
	case "PutItem":
		if request.ConditionExpression != "attribute_not_exists(#pk) OR #exp < :now OR #num <= :from" || request.ReturnValuesOnConditionCheckFailure != "ALL_OLD" {
			f.t.Errorf("condition %q", request.ConditionExpression)
		}
		key := *request.Item["pk"].S
		old, ok := f.items[key]
		v := request.ExpressionAttributeValues
		if ok && old["exp"].number() >= v[":now"].number() && old["num"].number() > v[":from"].number() {
			refusal := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}
			if !f.noAll {
				refusal["Item"] = old
			}
			return answer(400, refusal)
		}
		f.items[key] = request.Item
		return answer(200, struct{}{})
	}
	return answer(400, map[string]string{"__type": "com.amazon.coral.service#UnknownOperationException"})
}

// newTable is a table with guards of replicas over it, whose clocks differ from the table's.
func newTable(t *testing.T, skews ...time.Duration) (*table, []*Guard) {
	t.Helper()
	f := &table{t: t, clock: &testClock{time.Unix(1790000000, 0)}, items: map[string]dynamoItem{}}
	var guards []*Guard
	for _, skew := range skews {
		store, err := newDynamoStore("replay", func(name string) string {
			return map[string]string{"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session"}[name]
		}, func() time.Time { return f.clock.now().Add(skew) }, f)
		if err != nil {
			t.Fatal(err)
		}
		guards = append(guards, &Guard{store: store, kind: "dynamodb", life: 14 * 24 * time.Hour, ended: 30 * 24 * time.Hour})
	}
	return f, guards
}

// The contract holds in DynamoDB too, between replicas whose clocks are four minutes apart: the
// table's clock counts.
func TestReplayGuardInDynamoDB(t *testing.T) {
	for _, noAll := range []bool{false, true} {
		t.Run(fmt.Sprint("without the item in the way: ", noAll), func(t *testing.T) {
			f, guards := newTable(t, -2*time.Minute, 2*time.Minute)
			f.noAll = noAll
			fast, slow := guards[1], guards[0]
			login := Key{1}
			steps, answer := 0, ""
			expect := func(g *Guard, generation uint32, want Verdict) {
				t.Helper()
				given := map[Verdict]string{Repeated: answer}[want]
				if v, note, err := g.Look(t.Context(), login, generation); v != want || string(note) != given || err != nil {
					t.Errorf("look: %v, %q, %v, want %v, %q", v, note, err, want, given)
				}
				steps++
				mine := fmt.Sprint("answer ", steps)
				if v, note, err := g.Step(t.Context(), login, generation, []byte(mine)); v != want || string(note) != given || err != nil {
					t.Errorf("step: %v, %q, %v, want %v, %q", v, note, err, want, given)
				}
				if want == Fresh {
					answer = mine
				}
			}
			expect(slow, 0, Fresh)
			expect(fast, 0, Repeated)
			f.clock.add(59 * time.Second)
			expect(fast, 0, Repeated)
			expect(slow, 0, Repeated)
			f.clock.add(time.Second)
			expect(slow, 0, Reused)
			expect(fast, 1, Fresh)
			expect(slow, 9, Fresh)
			expect(fast, 8, Reused)
			if err := fast.End(t.Context(), login); err != nil {
				t.Fatal(err)
			}
			expect(slow, 10, Over)
			f.clock.add(30*24*time.Hour + time.Second) // over, though the table has not removed it
			expect(slow, 3, Fresh)

			for _, c := range []struct {
				name string
				use  func(g *Guard) (undo func(context.Context) error, first bool, err error)
				life time.Duration
			}{
				{"a code", func(g *Guard) (func(context.Context) error, bool, error) {
					u, err := g.Use(t.Context(), Key{2})
					return u.Undo, u.First, err
				}, CodeLife},
				{"a lease", func(g *Guard) (func(context.Context) error, bool, error) {
					l, taken, err := g.leased(t.Context(), Key{3})
					return l.Release, taken, err
				}, LeaseLife},
			} {
				uses := func(g *Guard, want bool) func(context.Context) error {
					t.Helper()
					undo, got, err := c.use(g)
					if got != want || err != nil {
						t.Errorf("%s: %v, %v, want %v", c.name, got, err, want)
					}
					return undo
				}
				before := uses(fast, true)
				uses(slow, false)
				f.clock.add(c.life)
				uses(slow, false)
				f.clock.add(time.Second)
				undo := uses(slow, true)
				uses(fast, false)
				if err := before(t.Context()); err != nil { // what another holds
					t.Error(err)
				}
				uses(fast, false)
				if err := undo(t.Context()); err != nil {
					t.Fatal(err)
				}
				uses(fast, true)
			}
		})
	}
}

// A clock can be set at any time, by minutes and in either direction. The first request afterwards
// must not write, or compare, times of the old clock.
func TestDynamoDBWhenTheClockIsSet(t *testing.T) {
	for _, jump := range []time.Duration{2 * time.Minute, -2 * time.Minute} {
		t.Run(jump.String(), func(t *testing.T) {
			f, guards := newTable(t, 0, 0)
			jumping, steady := guards[0], guards[1]
			var skew time.Duration
			jumping.store.(*dynamoStore).now = func() time.Time { return f.clock.now().Add(skew) }
			want := func(g *Guard, generation uint32, answer string, want Verdict, given string) {
				t.Helper()
				if v, note, err := g.Step(t.Context(), Key{1}, generation, []byte(answer)); v != want || string(note) != given || err != nil {
					t.Errorf("%v, %q, %v, want %v, %q", v, note, err, want, given)
				}
			}
			want(jumping, 0, "a", Fresh, "")
			skew = jump
			want(jumping, 0, "b", Repeated, "a") // compares
			skew = 0
			want(jumping, 1, "c", Fresh, "") // writes
			want(steady, 1, "d", Repeated, "c")
			f.clock.add(59 * time.Second)
			want(steady, 1, "e", Repeated, "c")
			f.clock.add(time.Second)
			want(steady, 1, "f", Reused, "")

			if _, leased, err := jumping.leased(t.Context(), Key{2}); !leased || err != nil {
				t.Fatal(leased, err)
			}
			f.clock.add(LeaseLife + time.Second)
			skew = jump
			if _, leased, err := jumping.leased(t.Context(), Key{2}); !leased || err != nil {
				t.Errorf("a lease that has ended is in the way: %v, %v", leased, err)
			}
			f.clock.add(LeaseLife)
			if _, leased, err := steady.leased(t.Context(), Key{2}); leased || err != nil {
				t.Errorf("a lease that has not ended is not: %v, %v", leased, err)
			}
		})
	}
}

func TestDynamoDBStepsAtTheSameTime(t *testing.T) {
	_, guards := newTable(t, 0, time.Minute)
	var wait sync.WaitGroup
	Verdicts := make([]Verdict, 16)
	for i := range Verdicts {
		wait.Go(func() {
			var err error
			if Verdicts[i], _, err = guards[i%2].Step(context.Background(), Key{1}, 4, []byte{byte(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	first := 0
	for _, v := range Verdicts {
		if v == Fresh {
			first++
		} else if v != Repeated {
			t.Errorf("Verdict %v", v)
		}
	}
	if first != 1 {
		t.Errorf("%d were the first", first)
	}
}

// What the table says against us stops the start; what may pass does not.
func TestDynamoDBTablesThatCannotBeUsed(t *testing.T) {
	for _, c := range []struct {
		status int
		kind   string
		unsafe bool
		want   string
	}{
		{400, "ResourceNotFoundException", true, "dynamodb answered 400 ResourceNotFoundException"},
		{400, "AccessDeniedException", true, "dynamodb answered 400 AccessDeniedException"},
		{400, "ValidationException", true, "dynamodb answered 400 ValidationException"},
		{400, "ProvisionedThroughputExceededException", false, "dynamodb answered 400 ProvisionedThroughputExceededException"},
		{400, "ThrottlingException", false, "dynamodb answered 400 ThrottlingException"},
		{500, "InternalServerError", false, "dynamodb answered 500 InternalServerError"},
		{503, "<html>", false, "dynamodb answered 503 an error code that is not one"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			f, guards := newTable(t, 0)
			f.status, f.body = c.status, c.kind
			if err := guards[0].Check(t.Context()); err == nil || errors.Is(err, ErrUnsafe) != c.unsafe || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if _, err := guards[0].firstUse(t.Context(), Key{1}, 5); err == nil {
				t.Error("a code was marked")
			}
		})
	}
	f, guards := newTable(t, 0)
	if err := guards[0].Check(t.Context()); err != nil || len(f.calls) != 1 {
		t.Errorf("%v, %q", err, f.calls)
	}
}

func TestDynamoDBPlacesOfATable(t *testing.T) {
	for _, c := range []struct {
		name, table string
		environment map[string]string
		endpoint    string
		want        string
	}{
		{"a region", "mcpbouncer-replay", map[string]string{"AWS_REGION": "eu-central-1"}, "https://dynamodb.eu-central-1.amazonaws.com/", ""},
		{"another name of the variable", "replay", map[string]string{"AWS_DEFAULT_REGION": "us-east-1"}, "https://dynamodb.us-east-1.amazonaws.com/", ""},
		{"China", "replay", map[string]string{"AWS_REGION": "cn-north-1"}, "https://dynamodb.cn-north-1.amazonaws.com.cn/", ""},
		{"an endpoint of its own", "replay", map[string]string{"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:8000", "AWS_ENDPOINT_URL": "https://other.example"}, "http://127.0.0.1:8000/", ""},
		{"no region", "replay", nil, "", "dynamodb needs AWS_REGION"},
		{"plain http elsewhere", "replay", map[string]string{"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "http://db.example"}, "", "AWS_ENDPOINT_URL_DYNAMODB must be an https URL, or http on this machine"},
		{"a name that is too short", "db", map[string]string{"AWS_REGION": "eu-central-1"}, "", "dynamodb:// and the name of a table, of 3 to 255 characters"},
		{"an ARN", "arn:aws:dynamodb:eu-central-1:1:table/replay", map[string]string{"AWS_REGION": "eu-central-1"}, "", "dynamodb:// and the name of a table, of 3 to 255 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := newDynamoStore(c.table, func(name string) string { return c.environment[name] }, time.Now, nil)
			if c.want != "" && (err == nil || err.Error() != c.want) || c.want == "" && (err != nil || s.endpoint != c.endpoint) {
				t.Errorf("%+v, error %v", s, err)
			}
		})
	}
}

// A server that takes connections and says nothing must not hold requests for longer than one that
// is down.
func TestRedisThatHangsInTheHandshake(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	g, err := Open("rediss://"+listener.Addr().String(), time.Hour, time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := g.firstUse(t.Context(), Key{1}, 5); err == nil || errors.Is(err, ErrUnsafe) {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(begun); waited > 5*time.Second {
		t.Errorf("waited %v", waited)
	}
}

// rediss proves who the server is: otherwise whoever is between could say that everything is the
// first use, and read the password.
func TestRedisThatCannotProveItself(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake that fails
	server.StartTLS()
	defer server.Close()
	g, err := Open("rediss://user:s3cr3t@"+server.Listener.Addr().String(), time.Hour, time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := g.firstUse(t.Context(), Key{1}, 5); !errors.As(err, &unknown) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error %v", err)
	}
}

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

// roundTrip is a transport in one function.
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
			// one that hangs must not make each request wait for the one before
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

// A client that hangs up must not make it fail for the others: they share what its request fetched.
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

// A write whose answer got lost on a kept connection is sent again. The second attempt must know
// the mark of the first as its own.
func TestDynamoDBWriteThatArrivesTwice(t *testing.T) {
	var mu sync.Mutex
	items, puts, lose := map[string]dynamoItem{}, 0, false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		var request struct{ Item, Key dynamoItem }
		json.Unmarshal(body, &request)
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "PutItem") {
			puts++
			key := *request.Item["pk"].S
			if old, ok := items[key]; ok {
				w.WriteHeader(400)
				json.NewEncoder(w).Encode(map[string]any{"__type": "x#ConditionalCheckFailedException", "Item": old})
				return
			}
			items[key] = request.Item
			if lose {
				lose = false
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					conn.Close()
				}
				return
			}
		}
		w.Write([]byte("{}"))
	}))
	defer server.Close()
	env := map[string]string{"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL_DYNAMODB": server.URL}
	store, err := newDynamoStore("replay", func(name string) string { return env[name] }, time.Now, &http.Transport{})
	if err != nil {
		t.Fatal(err)
	}
	g := &Guard{store: store, kind: "dynamodb", life: time.Hour}
	if first, err := g.firstUse(t.Context(), Key{1}, 5); !first || err != nil {
		t.Fatalf("a code: %v, %v", first, err)
	}
	lose = true
	if first, err := g.firstUse(t.Context(), Key{2}, 6); !first || err != nil || puts != 3 {
		t.Errorf("the first use of a code: %v, %v, %d writes for two codes", first, err, puts)
	}
	lose = true
	if v, _, err := g.Step(t.Context(), Key{3}, 0, []byte("sealed once")); v != Fresh || err != nil || puts != 5 {
		t.Errorf("the first use of a refresh token: %v, %v, %d writes", v, err, puts)
	}
	if first, err := g.firstUse(t.Context(), Key{2}, 7); first || err != nil {
		t.Errorf("another's use of the code: %v, %v", first, err)
	}
	if v, note, err := g.Step(t.Context(), Key{3}, 0, []byte("sealed again")); v != Repeated || string(note) != "sealed once" || err != nil {
		t.Errorf("another's use of the refresh token: %v, %q, %v", v, note, err)
	}
}

// fakeRedis is as much of Redis as a raise needs, and loses answers: the command is done, and the
// connection is closed.
type fakeRedis struct {
	net.Listener
	mu     sync.Mutex
	number map[string]int64
	note   map[string]string
	lose   int
	raises int
	dials  int
}

func newFakeRedis(t *testing.T) *fakeRedis {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &fakeRedis{Listener: l, number: map[string]int64{}, note: map[string]string{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.dials++
			f.mu.Unlock()
			go f.serve(conn)
		}
	}()
	return f
}

func (f *fakeRedis) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var words int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
			return
		}
		command := make([]string, words)
		for i := range command {
			var size int
			if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
				return
			}
			word := make([]byte, size+2)
			if _, err := io.ReadFull(in, word); err != nil {
				return
			}
			command[i] = string(word[:size])
		}
		answer, lost := f.do(command)
		if lost {
			return
		}
		io.WriteString(conn, answer)
	}
}

func (f *fakeRedis) do(command []string) (answer string, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if command[0] == "INFO" {
		return "$0\r\n\r\n", false
	}
	// EVALSHA script 2 number note from to life sealed grace
	f.raises++
	key := command[3]
	from, _ := strconv.ParseInt(command[5], 10, 64)
	to, _ := strconv.ParseInt(command[6], 10, 64)
	if f.number[key] > from {
		note := "$-1\r\n"
		if f.note[key] != "" {
			note = fmt.Sprintf("$%d\r\n%s\r\n", len(f.note[key]), f.note[key])
		}
		number := fmt.Sprint(f.number[key])
		answer = fmt.Sprintf("*2\r\n$%d\r\n%s\r\n%s", len(number), number, note)
	} else {
		f.number[key], f.note[key] = to, command[8]
		answer = "*0\r\n"
	}
	if f.lose > 0 {
		f.lose--
		return "", true
	}
	return answer, false
}

// A Redis that was restarted, or a proxy before it, closes the connection with the answer: the mark
// that was made is the caller's own.
func TestRedisMarkWhoseAnswerWasLost(t *testing.T) {
	f := newFakeRedis(t)
	store, err := newRedisStore("redis://" + f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g := &Guard{store: store, kind: "redis", life: time.Hour, ended: time.Hour}
	if first, err := g.firstUse(t.Context(), Key{1}, 5); !first || err != nil {
		t.Fatalf("a code: %v, %v", first, err)
	}
	lose := func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lose = n
	}
	lose(1)
	if first, err := g.firstUse(t.Context(), Key{2}, 6); !first || err != nil {
		t.Errorf("a code whose mark's answer was lost: %v, %v", first, err)
	}
	if first, err := g.firstUse(t.Context(), Key{2}, 7); first || err != nil {
		t.Errorf("another's use of it: %v, %v", first, err)
	}
	lose(1)
	if v, _, err := g.Step(t.Context(), Key{3}, 0, []byte("sealed once")); v != Fresh || err != nil {
		t.Errorf("a refresh token: %v, %v", v, err)
	}
	if v, note, err := g.Step(t.Context(), Key{3}, 0, []byte("sealed again")); v != Repeated || string(note) != "sealed once" || err != nil {
		t.Errorf("another's use of it: %v, %q, %v", v, note, err)
	}
	lose(1)
	if err := g.End(t.Context(), Key{3}); err != nil {
		t.Errorf("the end of a login: %v", err)
	}
	raises := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.raises
	}
	before := raises()
	lose(9)
	if _, err := g.firstUse(t.Context(), Key{4}, 8); err == nil || raises()-before != 2 {
		t.Errorf("a store that never answers: %v after %d tries", err, raises()-before)
	}
}

// Who has to stop half-way leaves what it has learnt: one of those who come next gets it, in each
// store.
func TestReplayGuardKeepsWhatACallerLeaves(t *testing.T) {
	fake := newFakeRedis(t)
	redis, err := newRedisStore("redis://" + fake.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, tables := newTable(t, 0)
	memory, err := Open("memory", time.Hour, time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*Guard{
		"memory": memory, "dynamodb": tables[0], "redis": {store: redis, kind: "redis", life: time.Hour, ended: time.Hour},
	} {
		use := func(caller uint32) (bool, string, uint32) {
			t.Helper()
			u, err := g.useAs(t.Context(), Key{9}, caller)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return u.First, string(u.Left), u.mark
		}
		if first, left, mark := use(7); !first || left != "" || mark != 7 {
			t.Errorf("%s: the first: %v, %q, %d", name, first, left, mark)
		}
		if first, left, _ := use(8); first || left != "" {
			t.Errorf("%s: the second, while the first is at it: %v, %q", name, first, left)
		}
		if err := g.leave(t.Context(), Key{9}, 7, 7, []byte("learnt")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		first, left, mark := use(3)
		if !first || left != "learnt" {
			t.Errorf("%s: the next: %v, %q", name, first, left)
		}
		if first, left, _ := use(4); first || left != "" {
			t.Errorf("%s: the one after that: %v, %q", name, first, left)
		}
		// Again and again, whatever its number.
		if err := g.leave(t.Context(), Key{9}, mark, mark, []byte("learnt")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if first, left, _ := use(2); !first || left != "learnt" {
			t.Errorf("%s: after it was left twice: %v, %q", name, first, left)
		}
		// What nobody has marked can be left too, unless somebody has by now.
		if err := g.leave(t.Context(), Key{9}, 0, 5, []byte("late")); err == nil {
			t.Errorf("%s: a mark was overwritten", name)
		}
	}
}

// between runs something once, after a raise that has found what an earlier caller left.
type between struct {
	Store
	then func()
}

func (b *between) Raise(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration) (Record, bool, error) {
	known, done, err := b.Store.Raise(ctx, key, from, to, note, life)
	if then := b.then; then != nil && known.Note != nil {
		b.then = nil
		then()
	}
	return known, done, err
}

// Two replicas find what was left at the same moment: one gets it, and the other takes nothing back
// of that one's.
func TestReplayGuardGivesWhatWasLeftToOneOfTwo(t *testing.T) {
	fake := newFakeRedis(t)
	redis, err := newRedisStore("redis://" + fake.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, tables := newTable(t, 0)
	for name, store := range map[string]Store{"dynamodb": tables[0].store, "redis": redis} {
		one, other := &Guard{store: store}, &between{Store: store}
		key := Key{9}
		if err := one.leave(t.Context(), key, 0, 7, []byte("learnt")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var mark uint32
		other.then = func() {
			u, err := one.Use(t.Context(), key)
			if !u.First || string(u.Left) != "learnt" || err != nil {
				t.Errorf("%s: the faster one: %+v, %v", name, u, err)
			}
			mark = u.mark
		}
		late, err := (&Guard{store: other}).Use(t.Context(), key)
		if late.First || err != nil {
			t.Errorf("%s: the slower one got it too: %+v, %v", name, late, err)
		}
		if late.mark == mark {
			t.Errorf("%s: both have the mark %d, which either would take back", name, mark)
		}
	}
}
