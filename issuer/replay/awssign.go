package replay

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// This file has the part of AWS's protocol that one DynamoDB table needs: Signature Version 4 of a
// POST to the root, and credentials from where Lambda and the container services put them.
// docs/decisions/0007-replay-stores.md says why the SDK is not used.

// awsCredentials sign requests until they expire. The zero time means never.
type awsCredentials struct {
	id, secret, session string
	expires             time.Time
}

// signAWS adds X-Amz-Date and Authorization to a POST whose path is "/" and whose URL has no query.
// All headers that are set are signed.
func signAWS(r *http.Request, body []byte, c awsCredentials, region, service string, now time.Time) {
	date := now.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", date)
	if c.session != "" {
		r.Header.Set("X-Amz-Security-Token", c.session)
	}
	headers := map[string]string{"host": r.URL.Host} // :: name → value
	for name, values := range r.Header {
		if len(values) > 0 {
			headers[strings.ToLower(name)] = strings.TrimSpace(values[0])
		}
	}
	names := slices.Sorted(maps.Keys(headers))
	var canonical strings.Builder
	canonical.WriteString("POST\n/\n\n")
	for _, name := range names {
		canonical.WriteString(name + ":" + headers[name] + "\n")
	}
	signed := strings.Join(names, ";")
	canonical.WriteString("\n" + signed + "\n" + hexSum(body))

	scope := date[:8] + "/" + region + "/" + service + "/aws4_request"
	key := []byte("AWS4" + c.secret)
	for _, part := range []string{date[:8], region, service, "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	signature := hmacSHA256(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hexSum([]byte(canonical.String())))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.id+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(signature))
}

func hmacSHA256(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// awsIdentity finds credentials: in the environment, as on Lambda, or at the container's endpoint,
// as on ECS and EKS.
type awsIdentity struct {
	getenv func(string) string
	client *http.Client

	mu       sync.Mutex // held while one request fetches
	known    awsCredentials
	failedAt time.Time // when the fetch began that failed with err
	err      error
}

const (
	// awsRenewal is how long before credentials expire new ones are fetched.
	awsRenewal = 5 * time.Minute
	// awsRetry is more than dynamoTimeout: requests that wait for an endpoint that hangs share its
	// failure.
	awsRetry = 5 * time.Second
)

func (a *awsIdentity) credentials(ctx context.Context, now time.Time) (awsCredentials, error) {
	if id, secret := a.getenv("AWS_ACCESS_KEY_ID"), a.getenv("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
		return awsCredentials{id: id, secret: secret, session: a.getenv("AWS_SESSION_TOKEN")}, nil
	}
	endpoint := a.getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := a.getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		endpoint = "http://169.254.170.2" + relative
	}
	if endpoint == "" {
		return awsCredentials{}, errors.New("no AWS credentials: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor a container's endpoint")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known.id != "" && now.Before(a.known.expires.Add(-awsRenewal)) {
		return a.known, nil
	}
	if a.err == nil || now.Sub(a.failedAt).Abs() >= awsRetry {
		// a client that hangs up must not make the fetch fail for all
		next, err := a.fetch(context.WithoutCancel(ctx), endpoint)
		if err == nil {
			a.known = next
		}
		a.failedAt, a.err = now, err
	}
	// before that, the endpoint has minutes to get well
	if a.err != nil && !now.Before(a.known.expires) {
		return awsCredentials{}, a.err
	}
	return a.known, nil
}

// awsEndpoints are the hosts that may be asked over plain http: the endpoints of the container
// itself, which nobody outside can pretend to be.
var awsEndpoints = []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "127.0.0.1", "localhost", "::1"}

func (a *awsIdentity) fetch(ctx context.Context, endpoint string) (awsCredentials, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && slices.Contains(awsEndpoints, u.Hostname())) {
		return awsCredentials{}, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI: neither https nor a container's endpoint")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return awsCredentials{}, err
	}
	token := a.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := a.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return awsCredentials{}, err
		}
		token = strings.TrimSpace(string(content))
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return awsCredentials{}, outgoing.Redact(err) // whoever knows the URI can ask too
	}
	defer resp.Body.Close()
	var answer struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      time.Time
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK || answer.AccessKeyID == "" {
		return awsCredentials{}, fmt.Errorf("the container's endpoint answered %d and no credentials", resp.StatusCode)
	}
	return awsCredentials{answer.AccessKeyID, answer.SecretAccessKey, answer.Token, answer.Expiration}, nil
}
