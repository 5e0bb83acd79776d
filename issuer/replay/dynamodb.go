package replay

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// dynamoStore is a Store in a DynamoDB table, which all replicas share. Items:
//
//	pk   S  the key, in hex
//	num  N  the number
//	exp  N  Unix seconds: the item is over, whether or not the table's TTL has removed it
//	note B  the note
//	till N  Unix seconds: the note is over
type dynamoStore struct {
	table, endpoint, region string
	identity                *awsIdentity
	client                  *http.Client
	now                     func() time.Time

	// ahead is the store's clock less ours, in nanoseconds, from the Date of its answers. It is nil
	// until the first answer. Replicas' clocks differ by minutes, and a lease lives for seconds.
	ahead atomic.Pointer[time.Duration]
}

const (
	dynamoTimeout = 1500 * time.Millisecond
	// dynamoDrift is how far apart, in seconds, two readings of the store's clock around one
	// request may be: a time-out, and twice the fraction of a second that a Date leaves out.
	dynamoDrift = 5
)

var dynamoTable = lazyregexp.Regexp{Text: `^[A-Za-z0-9_.-]+$`}

func newDynamoStore(table string, getenv func(string) string, now func() time.Time, transport http.RoundTripper) (*dynamoStore, error) {
	if len(table) < 3 || len(table) > 255 || !dynamoTable.Get().MatchString(table) {
		return nil, errors.New("dynamodb:// and the name of a table, of 3 to 255 characters")
	}
	first := func(names ...string) string {
		for _, name := range names {
			if v := getenv(name); v != "" {
				return v
			}
		}
		return ""
	}
	region := first("AWS_REGION", "AWS_DEFAULT_REGION")
	if region == "" {
		return nil, errors.New("dynamodb needs AWS_REGION")
	}
	endpoint := first("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL")
	if endpoint == "" {
		endpoint = "https://dynamodb." + region + ".amazonaws.com"
		if strings.HasPrefix(region, "cn-") {
			endpoint += ".cn"
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && !weburl.IsLocalHTTP(u) {
		return nil, errors.New("AWS_ENDPOINT_URL_DYNAMODB must be an https URL, or http on this machine")
	}
	direct := http.DefaultTransport.(*http.Transport).Clone()
	direct.Proxy = nil // HTTP_PROXY must not see the container's token, nor the credentials
	return &dynamoStore{
		table: table, endpoint: u.Scheme + "://" + u.Host + "/", region: region, now: now,
		client:   outgoing.NewClient(transport, dynamoTimeout),
		identity: &awsIdentity{getenv: getenv, client: outgoing.NewClient(direct, dynamoTimeout)},
	}, nil
}

// attribute is a DynamoDB value of one of the types that are used here.
type attribute struct {
	S *string `json:",omitempty"`
	N *string `json:",omitempty"`
	B []byte  `json:",omitempty"` // base64 in JSON, as Go writes it
}

func stringAttribute(s string) attribute { return attribute{S: &s} }
func numberAttribute(n int64) attribute  { s := strconv.FormatInt(n, 10); return attribute{N: &s} }

func (a attribute) number() int64 {
	if a.N == nil {
		return 0
	}
	n, _ := strconv.ParseInt(*a.N, 10, 64) // the table wrote it
	return n
}

type dynamoItem map[string]attribute

// record is what an item says at a time by the store's clock.
func (i dynamoItem) record(now int64) (known Record) {
	if i["exp"].number() < now {
		return known
	}
	known.Number = uint32(i["num"].number())
	if i["till"].number() > now {
		known.Note = i["note"].B
	}
	return known
}

func (s *dynamoStore) Raise(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration) (Record, bool, error) {
	if s.ahead.Load() == nil { // the answer to a look tells the store's time
		if _, err := s.Look(ctx, key); err != nil {
			return Record{}, false, err
		}
	}
	now := s.time()
	known, done, err := s.put(ctx, key, from, to, note, life, now)
	if drift := s.time() - now; err != nil || -dynamoDrift < drift && drift < dynamoDrift {
		return known, done, err
	}
	// Our clock was set since the store's last answer, so the times that were written and compared
	// are wrong. The write is repeated, over our own mark if there is one.
	if done {
		s.put(ctx, key, to, to, note, life, s.time()) // refused: another request has gone on
		return known, done, nil
	}
	return s.put(ctx, key, from, to, note, life, s.time())
}

// put is Raise at a time by the store's clock.
func (s *dynamoStore) put(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration, now int64) (Record, bool, error) {
	item := dynamoItem{"pk": stringAttribute(hex.EncodeToString(key[:])), "num": numberAttribute(int64(to)), "exp": numberAttribute(now + int64(life/time.Second))}
	if note != nil {
		item["note"], item["till"] = attribute{B: note}, numberAttribute(now+int64(Grace/time.Second))
	}
	var refused struct{ Item dynamoItem }
	err := s.call(ctx, "PutItem", map[string]any{
		"TableName": s.table, "Item": item,
		// TTL removes items hours late, so the condition compares their time itself.
		"ConditionExpression":                 "attribute_not_exists(#pk) OR #exp < :now OR #num <= :from",
		"ExpressionAttributeNames":            map[string]string{"#pk": "pk", "#exp": "exp", "#num": "num"},
		"ExpressionAttributeValues":           dynamoItem{":now": numberAttribute(now), ":from": numberAttribute(int64(from))},
		"ReturnValuesOnConditionCheckFailure": "ALL_OLD",
	}, &refused)
	if !conditionFailed(err) {
		return Record{}, err == nil, err
	}
	if refused.Item == nil { // not every implementation returns the item
		if refused.Item, err = s.item(ctx, key); err != nil {
			return Record{}, false, err
		}
	}
	known := refused.Item.record(s.time())
	return known, known.is(to, note), nil
}

func (s *dynamoStore) Look(ctx context.Context, key Key) (Record, error) {
	item, err := s.item(ctx, key)
	return item.record(s.time()), err
}

func (s *dynamoStore) item(ctx context.Context, key Key) (dynamoItem, error) {
	var answer struct{ Item dynamoItem }
	err := s.call(ctx, "GetItem", map[string]any{"TableName": s.table, "Key": dynamoItem{"pk": stringAttribute(hex.EncodeToString(key[:]))}, "ConsistentRead": true}, &answer)
	return answer.Item, err
}

func (s *dynamoStore) Drop(ctx context.Context, key Key, number uint32) error {
	err := s.call(ctx, "DeleteItem", map[string]any{
		"TableName": s.table, "Key": dynamoItem{"pk": stringAttribute(hex.EncodeToString(key[:]))},
		"ConditionExpression":       "#num = :num",
		"ExpressionAttributeNames":  map[string]string{"#num": "num"},
		"ExpressionAttributeValues": dynamoItem{":num": numberAttribute(int64(number))},
	}, &struct{}{})
	if conditionFailed(err) {
		return nil
	}
	return err
}

func conditionFailed(err error) bool {
	var answer *dynamoError
	return errors.As(err, &answer) && answer.kind == "ConditionalCheckFailedException"
}

// time is the time by the store's clock, in Unix seconds.
func (s *dynamoStore) time() int64 {
	now := s.now()
	if ahead := s.ahead.Load(); ahead != nil {
		now = now.Add(*ahead)
	}
	return now.Unix()
}

// dynamoError is an error that the store has answered.
type dynamoError struct {
	status int
	kind   string // of AWS, such as ResourceNotFoundException
}

func (e *dynamoError) Error() string { return fmt.Sprintf("dynamodb answered %d %s", e.status, e.kind) }

// call posts one request, and decodes into answer what comes back, also beside an error.
func (s *dynamoStore) call(ctx context.Context, operation string, request map[string]any, answer any) error {
	credentials, err := s.identity.credentials(ctx, s.now())
	if err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(outgoing.WithSecondTry(ctx), http.MethodPost, s.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	at := s.now()
	if ahead := s.ahead.Load(); ahead != nil {
		at = at.Add(*ahead) // the store refuses a signature of another time
	}
	signAWS(r, body, credentials, s.region, "dynamodb", at)
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		ahead := date.Sub(s.now())
		s.ahead.Store(&ahead)
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return &dynamoError{resp.StatusCode, "and no JSON"}
	}
	if resp.StatusCode != http.StatusOK {
		var kind struct {
			Type string `json:"__type"`
		}
		json.Unmarshal(content, &kind)
		return &dynamoError{resp.StatusCode, outgoing.SafeCode(kind.Type[strings.LastIndexByte(kind.Type, '#')+1:])}
	}
	return nil
}

// CloseIdleConnections gives up the connections that nothing is using.
func (s *dynamoStore) CloseIdleConnections() {
	s.client.CloseIdleConnections()
	s.identity.client.CloseIdleConnections()
}

// Check reads one item. An error that the store answers is final, except that it is too busy.
func (s *dynamoStore) Check(ctx context.Context) error {
	_, err := s.Look(ctx, Key{})
	var answer *dynamoError
	if errors.As(err, &answer) && answer.status < 500 && !strings.Contains(answer.kind, "Throttl") && answer.kind != "ProvisionedThroughputExceededException" && answer.kind != "RequestLimitExceeded" {
		return fmt.Errorf("%w: %w", ErrUnsafe, err)
	}
	return err
}
