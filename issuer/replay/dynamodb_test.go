package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// newTable makes a table with guards of replicas over it, whose clocks differ from the table's.
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
			f.clock.add(30*24*time.Hour + time.Second) // expired, but still in the table
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

// A table that cannot be used stops the start. A fault that may pass does not.
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
