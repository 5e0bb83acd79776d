//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"
)

// The label sidecarAuth=sigv4 is for a sidecar behind a Lambda Function URL with AuthType AWS_IAM.
// AWS lets only requests through that are signed (AWS Signature Version 4) by somebody who may
// invoke the URL. It is a second lock; the hop header stays the first.

// ownAuthorization carries the Authorization header of a client, whose place the signature takes
// (docs/hop.md).
const ownAuthorization = "X-Mcpb-Authorization"

const awsService = "lambda"

// awsSigner is a transport to the sidecar that signs requests.
type awsSigner struct{ region string }

// newAWSSigner finds the region in the name of a Function URL, or in Traefik's environment.
func newAWSSigner(host string) (*awsSigner, error) {
	_, after, isURL := strings.Cut(host, "."+awsService+"-url.")
	region, _, _ := strings.Cut(after, ".")
	if !isURL {
		region = either(variable("AWS_REGION"), variable("AWS_DEFAULT_REGION"))
	}
	if region == "" || strings.Trim(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, errors.New("label sidecarAuth: the region is neither in sidecarURL (https://ID.lambda-url.REGION.on.aws) nor in Traefik's variable AWS_REGION")
	}
	return &awsSigner{region: region}, nil
}

// RoundTrip signs a copy of the request. The body is in memory already (holdBody).
func (s *awsSigner) RoundTrip(req *http.Request) (*http.Response, error) {
	cred, err := currentAWSCredentials(now().Unix())
	if err != nil {
		return nil, err
	}
	var body []byte
	if req.Body != nil {
		body, err = io.ReadAll(io.LimitReader(req.Body, maxForwarded+1))
		if err != nil {
			return nil, err
		}
	}
	signed := req.Clone(req.Context())
	if req.Body != nil {
		signed.Body = io.NopCloser(bytes.NewReader(body))
	}
	signAWS(signed, body, cred, s.region, now())
	return sidecarWay{}.RoundTrip(signed)
}

func signAWS(req *http.Request, body []byte, cred *awsCredentials, region string, at time.Time) {
	h := req.Header
	// AWS refuses a request in which an x-amz- header is not signed. Clients send such headers, and
	// CloudFront adds X-Amz-Cf-Id.
	for name := range h {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			delete(h, name)
		}
	}
	if v := h["Authorization"]; v != nil {
		h[ownAuthorization] = v
	}
	// The query is sent in the form in which it is signed, so that AWS cannot read a + or a broken
	// escape differently.
	req.URL.RawQuery = canonicalQuery(req.URL.RawQuery)
	hash := sha256.Sum256(body)
	headers := map[string]string{
		"host":                 req.URL.Host,
		"x-amz-content-sha256": hex.EncodeToString(hash[:]),
		"x-amz-date":           at.UTC().Format("20060102T150405Z"),
	}
	if cred.token != "" {
		headers["x-amz-security-token"] = cred.token
	}
	for name, value := range headers {
		if name != "host" {
			h.Set(name, value)
		}
	}
	h["Authorization"] = []string{sigv4(cred, region, awsService, req.Method, req.URL.EscapedPath(), req.URL.RawQuery, headers, headers["x-amz-content-sha256"])}
}

// sigv4 is the algorithm itself. headers are the signed ones, by name in lower case; path and query
// are as on the wire.
//
//	https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func sigv4(cred *awsCredentials, region, service, method, path, query string, headers map[string]string, bodyHash string) string {
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	sort.Strings(names)
	lines := ""
	for _, name := range names {
		lines += name + ":" + strings.Join(strings.Fields(headers[name]), " ") + "\n"
	}
	signedNames := strings.Join(names, ";")
	// The path is escaped once more than on the wire, for every service except S3.
	canonical := strings.Join([]string{method, strings.ReplaceAll(escapeAWS(path), "%2F", "/"), query, lines, signedNames, bodyHash}, "\n")

	date := headers["x-amz-date"]
	scope := strings.Join([]string{date[:8], region, service, "aws4_request"}, "/")
	hash := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hex.EncodeToString(hash[:])}, "\n")

	key := []byte("AWS4" + cred.secret)
	for _, part := range []string{date[:8], region, service, "aws4_request", text} {
		key = hmacSHA256(key, part)
	}
	return "AWS4-HMAC-SHA256 Credential=" + cred.id + "/" + scope + ", SignedHeaders=" + signedNames + ", Signature=" + hex.EncodeToString(key)
}

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}

// canonicalQuery sorts a query by name and value, each escaped in one way. A part that cannot be
// unescaped is taken as it is.
func canonicalQuery(raw string) string {
	pairs := []string{}
	for _, pair := range strings.Split(raw, "&") {
		if pair != "" {
			name, value, _ := strings.Cut(pair, "=")
			pairs = append(pairs, escapeAWS(unescape(name))+"\x00"+escapeAWS(unescape(value)))
		}
	}
	sort.Strings(pairs) // the zero sorts "a" before "a-", which "=" would not
	return strings.ReplaceAll(strings.Join(pairs, "&"), "\x00", "=")
}

func unescape(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}

func escapeAWS(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

var (
	errSignatureRefused = errors.New("AWS does not let Traefik ask the sidecar: compare the AuthType of the Function URL with the label sidecarAuth, and see that Traefik's role may do lambda:InvokeFunctionUrl and lambda:InvokeFunction")
	errNoAWSCredentials = errors.New("label sidecarAuth: no AWS credentials to sign with")
)

// awsCredentials are the credentials of Traefik.
type awsCredentials struct {
	id, secret, token string
	expires           int64 // Unix seconds
}

const (
	awsEarly = 300 // seconds before the end of credentials that new ones are fetched
	// awsPause is the number of seconds between two attempts, whether the first one failed or not:
	// requests of strangers are signed too.
	awsPause    = retryAfter
	awsDeadline = 2 * time.Second
	maxAWSBody  = 16 << 10 // bytes
)

// awsCache holds the credentials of the container. It is global, as the environment is.
var awsCache = struct {
	sync.Mutex // held during a fetch: requests that wait need the credentials too
	cred       *awsCredentials
	err        error
	triedAt    int64 // Unix seconds of the last attempt
}{}

// currentAWSCredentials takes the credentials from the environment or, if it has none, from the
// endpoint of the container (ECS, EKS Pod Identity).
func currentAWSCredentials(at int64) (*awsCredentials, error) {
	id := variable("AWS_ACCESS_KEY_ID")
	secret := variable("AWS_SECRET_ACCESS_KEY")
	if id != "" && secret != "" {
		return &awsCredentials{id: id, secret: secret, token: variable("AWS_SESSION_TOKEN")}, nil
	}
	awsCache.Lock()
	defer awsCache.Unlock()
	cred := awsCache.cred
	if cred != nil && at < cred.expires-awsEarly {
		return cred, nil
	}
	if !during(period{from: awsCache.triedAt, until: awsCache.triedAt + awsPause}, at) {
		fresh, err := fetchAWSCredentials()
		awsCache.err = err
		awsCache.triedAt = at
		if err == nil {
			awsCache.cred = fresh
			cred = fresh
		}
	}
	if cred != nil && at < cred.expires {
		return cred, nil
	}
	if awsCache.err == nil {
		return nil, fmt.Errorf("%w: the container's endpoint gives expired ones", errNoAWSCredentials)
	}
	return nil, fmt.Errorf("%w: %v", errNoAWSCredentials, awsCache.err)
}

// awsTransport is for that endpoint, which is on this machine and needs no proxy.
var awsTransport = &http.Transport{Proxy: nil, DialContext: dial, ResponseHeaderTimeout: awsDeadline, IdleConnTimeout: time.Minute, DisableKeepAlives: true}

func fetchAWSCredentials() (*awsCredentials, error) {
	endpoint := variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if path := variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		endpoint = "http://169.254.170.2" + path
	}
	if endpoint == "" {
		return nil, errors.New("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for Traefik, or give its container a role (AWS_CONTAINER_CREDENTIALS_FULL_URI)")
	}
	if !mayGiveAWSCredentials(endpoint) {
		return nil, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this machine")
	}
	token := variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	var err error
	if file := variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		token, err = readStart(file)
		if err != nil {
			return nil, fmt.Errorf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), awsDeadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return nil, err
	}
	if token = strings.TrimSpace(token); token != "" {
		req.Header["Authorization"] = []string{token}
	}
	resp, err := awsTransport.RoundTrip(req)
	if err != nil {
		return nil, errors.New("the container's endpoint cannot be reached: " + reason(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the container's endpoint answers %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAWSBody))
	if err != nil {
		return nil, errors.New("the container's endpoint answers incompletely")
	}
	return parseAWSCredentials(body)
}

// mayGiveAWSCredentials allows plain http only to this machine and to the addresses that ECS and
// EKS keep for the endpoint. Whoever answers there is shown the token, and chooses the credentials
// that requests are signed with.
func mayGiveAWSCredentials(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	if u.Scheme == "https" || isLoopback(u.Host) {
		return u.Scheme == "https" || u.Scheme == "http"
	}
	host := u.Hostname()
	return u.Scheme == "http" && (host == "169.254.170.2" || host == "169.254.170.23" || host == "fd00:ec2::23")
}

func parseAWSCredentials(body []byte) (*awsCredentials, error) {
	var answer struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string `json:"SecretAccessKey"`
		Token           string `json:"Token"`
		Expiration      string `json:"Expiration"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return nil, errors.New("the container's endpoint does not answer with its JSON")
	}
	expires, err := time.Parse(time.RFC3339, answer.Expiration)
	if err != nil || answer.AccessKeyID == "" || answer.SecretAccessKey == "" {
		return nil, errors.New("the container's endpoint does not answer with AccessKeyId, SecretAccessKey and Expiration")
	}
	// The credentials become parts of headers.
	if strings.Trim(answer.AccessKeyID+answer.Token, printable) != "" {
		return nil, errors.New("the container's endpoint answers with what is not printable ASCII")
	}
	return &awsCredentials{id: answer.AccessKeyID, secret: answer.SecretAccessKey, token: answer.Token, expires: expires.Unix()}, nil
}
