package rig

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Shape is one of the ways in which HTTP requests reach a Lambda function: what its events look
// like, and how its answers are read.
type Shape struct {
	Name string

	mode   string // InvokeMode
	event  func(r *http.Request, body []byte) ([]byte, error)
	answer func(w http.ResponseWriter, answer Invocation) error
}

// Event makes the event of a request.
func (s Shape) Event(t T, r *http.Request, body []byte) []byte {
	t.Helper()
	event, err := s.event(r, body)
	if err != nil {
		t.Fatalf("rig: %s: %v", s.Name, err)
	}
	return event
}

// Answer writes what a function made of an event, as the client gets it.
func (s Shape) Answer(w http.ResponseWriter, i Invocation) error { return s.answer(w, i) }

// The shapes that the sidecar knows.
var (
	FunctionURL       = Shape{"Function URL, buffered", "BUFFERED", functionURLEvent, bufferedAnswer}
	FunctionURLStream = Shape{"Function URL, stream", "RESPONSE_STREAM", functionURLEvent, streamedAnswer}
	HTTPAPI           = Shape{"API Gateway HTTP API with a stage", "BUFFERED", httpAPIEvent, bufferedAnswer}
	ALB               = Shape{"load balancer", "BUFFERED", albEvent, albAnswer}
	ALBMultiValue     = Shape{"load balancer, multi-value headers", "BUFFERED", albMultiValueEvent, albMultiValueAnswer}

	Shapes = []Shape{FunctionURL, FunctionURLStream, HTTPAPI, ALB, ALBMultiValue}
)

const (
	functionURLHost = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-central-1.on.aws"
	httpAPIHost     = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
	albHost         = "internal-mcpbouncer-1234567890.eu-central-1.elb.amazonaws.com"
	stage           = "prod"
)

var errHeaderTooLong = errors.New("the request's header is too long")

func functionURLEvent(r *http.Request, body []byte) ([]byte, error) {
	return payload2(r, body, functionURLHost, "$default", r.URL.EscapedPath())
}

// httpAPIEvent makes the event of https://ID.execute-api.REGION.amazonaws.com/STAGE: the front is
// the stage's address, which is not part of the URL here.
func httpAPIEvent(r *http.Request, body []byte) ([]byte, error) {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		n += len(name) + len(strings.Join(values, ","))
	}
	if n > 10240 { // API Gateway's quota for the request line and all header values
		return nil, errHeaderTooLong
	}
	return payload2(r, body, httpAPIHost, stage, "/"+stage+r.URL.Path)
}

// payload2 is API Gateway's payload format 2.0, which Function URLs use as well: names in lower
// case, repeated headers in one, cookies apart.
func payload2(r *http.Request, body []byte, host, stage, path string) ([]byte, error) {
	headers := map[string]string{"host": host, "x-forwarded-for": "192.0.2.7", "x-forwarded-port": "443", "x-forwarded-proto": "https"}
	var cookies []string
	for name, values := range r.Header {
		switch name = strings.ToLower(name); name {
		case "cookie":
			for _, c := range strings.Split(strings.Join(values, "; "), ";") {
				cookies = append(cookies, strings.TrimSpace(c))
			}
		case "x-forwarded-for":
		default:
			headers[name] = strings.Join(values, ",")
		}
	}
	query := map[string]string{}
	for name, values := range r.URL.Query() {
		query[name] = strings.Join(values, ",")
	}
	text, encoded := eventBody(r, body)
	event := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": r.URL.RawQuery, "headers": headers,
		"requestContext": map[string]any{
			"accountId": "anonymous", "apiId": strings.Split(host, ".")[0], "domainName": host, "domainPrefix": strings.Split(host, ".")[0],
			"http":      map[string]any{"method": r.Method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7", "userAgent": r.UserAgent()},
			"requestId": uuid(), "routeKey": "$default", "stage": stage, "time": "21/Sep/2026:14:30:00 +0000", "timeEpoch": 1790001000000,
		},
		"isBase64Encoded": encoded,
	}
	if len(cookies) > 0 {
		event["cookies"] = cookies
	}
	if len(query) > 0 {
		event["queryStringParameters"] = query
	}
	if text != "" {
		event["body"] = text
	}
	return json.Marshal(event)
}

// eventBody encodes a body that AWS does not take for text. A form is such a body.
func eventBody(r *http.Request, body []byte) (string, bool) {
	t := r.Header.Get("Content-Type")
	if len(body) == 0 || strings.HasPrefix(t, "text/") || strings.HasPrefix(t, "application/json") {
		return string(body), false
	}
	return base64.StdEncoding.EncodeToString(body), true
}

func albEvent(r *http.Request, body []byte) ([]byte, error) {
	headers, query := map[string]string{"host": albHost, "x-forwarded-proto": "https", "x-forwarded-port": "443"}, map[string]string{}
	for name, values := range r.Header { // the last one stays
		headers[strings.ToLower(name)] = values[len(values)-1]
	}
	for _, pair := range pairs(r) {
		query[pair[0]] = pair[1]
	}
	return lambdaTarget(r, body, map[string]any{"headers": headers, "queryStringParameters": query})
}

func albMultiValueEvent(r *http.Request, body []byte) ([]byte, error) {
	headers, query := map[string][]string{"host": {albHost}, "x-forwarded-proto": {"https"}, "x-forwarded-port": {"443"}}, map[string][]string{}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = values
	}
	for _, pair := range pairs(r) {
		query[pair[0]] = append(query[pair[0]], pair[1])
	}
	return lambdaTarget(r, body, map[string]any{"multiValueHeaders": headers, "multiValueQueryStringParameters": query})
}

// pairs takes a query apart and decodes nothing, as a load balancer does.
func pairs(r *http.Request) (all [][2]string) {
	for _, pair := range strings.Split(r.URL.RawQuery, "&") {
		if name, value, _ := strings.Cut(pair, "="); name != "" {
			all = append(all, [2]string{name, value})
		}
	}
	return all
}

func lambdaTarget(r *http.Request, body []byte, event map[string]any) ([]byte, error) {
	event["requestContext"] = map[string]any{"elb": map[string]any{"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/mcpbouncer/0123456789abcdef"}}
	event["httpMethod"], event["path"] = r.Method, r.URL.EscapedPath()
	event["body"], event["isBase64Encoded"] = eventBody(r, body)
	return json.Marshal(event)
}

// httpAnswer is the answer to payload 2.0.
type httpAnswer struct {
	StatusCode      int               `json:"statusCode"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	Cookies         []string          `json:"cookies"`
}

func bufferedAnswer(w http.ResponseWriter, i Invocation) error {
	if i.Err != nil {
		return i.Err
	}
	var a httpAnswer
	if err := decode(i.Body, &a); err != nil {
		return err
	}
	return a.write(w)
}

func (a httpAnswer) write(w http.ResponseWriter) error {
	if a.StatusCode < 200 || a.StatusCode > 599 {
		return fmt.Errorf("statusCode %d", a.StatusCode)
	}
	body := []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			return err
		}
	}
	for name, value := range a.Headers {
		if strings.EqualFold(name, "WWW-Authenticate") { // AWS keeps this name for itself
			name = "x-amzn-Remapped-WWW-Authenticate"
		}
		w.Header().Set(name, value)
	}
	for _, cookie := range a.Cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	w.WriteHeader(a.StatusCode)
	_, err := w.Write(body)
	return err
}

// streamedAnswer reads JSON, eight zeros and the body.
func streamedAnswer(w http.ResponseWriter, i Invocation) error {
	if i.Err != nil {
		return i.Err
	}
	prelude, body, ok := bytes.Cut(i.Body, make([]byte, 8))
	if !ok || i.ContentType != "application/vnd.awslambda.http-integration-response" {
		return fmt.Errorf("no stream: %s %.200q", i.ContentType, i.Body)
	}
	var a httpAnswer
	if err := decode(prelude, &a); err != nil {
		return err
	}
	a.Body = string(body)
	return a.write(w)
}

// albReply is the answer to a load balancer.
type albReply struct {
	StatusCode        int                 `json:"statusCode"`
	StatusDescription string              `json:"statusDescription"`
	Headers           map[string]string   `json:"headers"`
	MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
	Body              string              `json:"body"`
	IsBase64Encoded   bool                `json:"isBase64Encoded"`
}

// albAnswer reads only single headers: the others are ignored then.
func albAnswer(w http.ResponseWriter, i Invocation) error {
	return albWrite(w, i, func(a albReply) {
		for name, value := range a.Headers {
			w.Header().Add(name, value)
		}
	})
}

func albMultiValueAnswer(w http.ResponseWriter, i Invocation) error {
	return albWrite(w, i, func(a albReply) {
		for name, values := range a.MultiValueHeaders {
			for _, value := range values {
				w.Header().Add(name, value)
			}
		}
	})
}

func albWrite(w http.ResponseWriter, i Invocation, headers func(albReply)) error {
	if i.Err != nil {
		return i.Err
	}
	var a albReply
	if err := decode(i.Body, &a); err != nil {
		return err
	}
	headers(a)
	return httpAnswer{StatusCode: a.StatusCode, Body: a.Body, IsBase64Encoded: a.IsBase64Encoded}.write(w)
}
