package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/mcpbouncer/mcpbouncer/issuer"
)

// runtimeAPI is the variable by which AWS Lambda tells a program that it is to serve invocations.
const runtimeAPI = "AWS_LAMBDA_RUNTIME_API"

func onLambda() bool { return os.Getenv(runtimeAPI) != "" }

// serveInvocations answers HTTP requests that AWS Lambda delivers as events, with the handler that
// a container serves. Nothing runs between two of them: the environment is frozen then, and may
// never wake again.
func serveInvocations(out io.Writer) error {
	e, err := readEnvironment()
	if err != nil {
		return err
	}
	f := &function{streams: e.LambdaInvokeMode == streamMode, log: e.logger(out), now: time.Now}
	f.load = func(log *slog.Logger) (http.Handler, error) { return e.loadHandler(log, out) }
	if !isReference(e.EncryptionKey) {
		if f.handler, err = f.load(f.log); err != nil {
			return err
		}
	}
	lambda.Start(f.invoke)
	return errors.New("the runtime API has gone away") // Start does not return
}

// loadHandler reads what the variables name. Lines of metrics go to out.
func (e *environment) loadHandler(log *slog.Logger, out io.Writer) (http.Handler, error) {
	if err := e.load(); err != nil {
		return nil, err
	}
	iss, err := newIssuer(e, log)
	if err != nil {
		return nil, err
	}
	log.Info("serving invocations", "mode", e.LambdaInvokeMode, "version", version(), "masters", e.ring.MasterIDs(), "hop_keys", e.ring.HopKeyIDs())
	return atRest(iss.Handler(), func() {
		if err := iss.Metrics.WriteLines(out, iss.Now()); err != nil {
			log.Error("what was counted cannot be written, and is lost", "cause", err)
		}
		flushTraces(iss, freezeFlush)
		iss.CloseIdleConnections()
	}), nil
}

// atRest leaves nothing to be done when the answer goes out: the process is frozen then, may never
// wake, and finds idle connections dead if it does.
func atRest(handler http.Handler, rest func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer rest()
		handler.ServeHTTP(w, r)
	})
}

// invokeMode is the InvokeMode of the Function URL, in AWS's words. No event says it.
type invokeMode string

const (
	bufferedMode invokeMode = "BUFFERED"
	streamMode   invokeMode = "RESPONSE_STREAM"
)

func (m *invokeMode) Decode(text string) error {
	if *m = invokeMode(text); *m != bufferedMode && *m != streamMode {
		return errors.New("unknown mode")
	}
	return nil
}

// event is what an invocation brings. It has the members of three events: those of a Function URL
// and of an API Gateway HTTP API (payload 2.0) differ in nothing that is read here, and an
// Application Load Balancer's has a path where those have a rawPath.
type event struct {
	// Function URL and HTTP API
	RawPath        string   `json:"rawPath"`
	RawQueryString string   `json:"rawQueryString"`
	Cookies        []string `json:"cookies"`
	// load balancer
	HTTPMethod string            `json:"httpMethod"`
	Path       string            `json:"path"`
	Query      map[string]string `json:"queryStringParameters"`
	// in place of Query, where the target group has
	Queries map[string][]string `json:"multiValueQueryStringParameters"`
	// multi-value headers enabled; and of Headers
	MultiValue map[string][]string `json:"multiValueHeaders"`
	// all
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Base64  bool              `json:"isBase64Encoded"`
	Context struct {
		DomainName string `json:"domainName"`
		Stage      string `json:"stage"`
		HTTP       struct {
			Method   string `json:"method"`
			SourceIP string `json:"sourceIp"`
		} `json:"http"`
		ELB *struct{} `json:"elb"`
	} `json:"requestContext"`
}

func (e *event) fromLoadBalancer() bool { return e.Context.ELB != nil }

// isPayload1 says that this is an event of an API Gateway REST API, or of an HTTP API with payload
// format 1.0. They are not served: their paths and queries are decoded in ways of their own.
func (e *event) isPayload1() bool { return e.HTTPMethod != "" && !e.fromLoadBalancer() }

// fromFunctionURL says whether a Function URL sent the event, because only its answer can be a
// stream. The name is AWS's own; a Function URL answers to no other.
func (e *event) fromFunctionURL() bool { return strings.Contains(e.Context.DomainName, ".lambda-url.") }

// function is the handler behind a Lambda function.
type function struct {
	handler http.Handler
	streams bool // the Function URL has InvokeMode RESPONSE_STREAM
	log     *slog.Logger

	// Where the master secret is only named, there is no handler before the first request: nothing
	// can be read earlier.
	load     func(*slog.Logger) (http.Handler, error)
	now      func() time.Time
	mu       sync.Mutex // guards all below, and handler
	failedAt time.Time
	quiet    time.Time // until then the log does not say again which payload is meant
}

// ready returns the handler, or nil when it cannot be made. After a failure it is not tried again
// for a second: strangers can ask.
func (f *function) ready() http.Handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Abs: a clock may be set back.
	if f.handler != nil || f.now().Sub(f.failedAt).Abs() < time.Second {
		return f.handler
	}
	handler, err := f.load(f.log)
	if err != nil {
		f.failedAt = f.now()
		f.log.Error("not ready", "cause", err)
		return nil
	}
	f.handler = handler
	return handler
}

// invoke answers one event. It returns no error: Lambda would answer 502 with nothing in it, and
// log the event's failure for us.
func (f *function) invoke(ctx context.Context, e event) (any, error) {
	if e.isPayload1() {
		return f.refusePayload1(), nil
	}
	a := &answer{header: http.Header{}, status: http.StatusOK}
	r, err := e.request(ctx)
	handler := f.ready()
	switch {
	case handler == nil:
		a.header.Set("Retry-After", "5")
		a.refuse(http.StatusServiceUnavailable, "temporarily_unavailable")
	case err != nil:
		a.refuse(http.StatusBadRequest, "invalid_request")
	case headerBytes(r.Header) > issuer.MaxHeaderBytes: // net/http's own check in a container
		a.refuse(http.StatusRequestHeaderFieldsTooLarge, "invalid_request")
	default:
		f.serve(handler, a, r)
	}
	a.unfold()
	switch {
	case e.fromLoadBalancer():
		return a.forLoadBalancer(e.MultiValue != nil), nil
	case f.streams && e.fromFunctionURL():
		return a.stream(), nil
	}
	return a.buffered(), nil
}

const wrongPayload = "the event has API Gateway's payload format 1.0: use an HTTP API with payload format 2.0, a Function URL or a load balancer; REST APIs have no other format (deploy/lambda/README.md)"

// refusePayload1 says so to whoever set it up. Strangers can ask as well, so that the log says it
// once in a minute.
func (f *function) refusePayload1() *events.APIGatewayProxyResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	// a clock may be set back
	if now := f.now(); now.After(f.quiet) || f.quiet.Sub(now) > time.Minute {
		f.quiet = now.Add(time.Minute)
		f.log.Error("request refused", "status", http.StatusNotImplemented, "cause", wrongPayload)
	}
	return &events.APIGatewayProxyResponse{
		StatusCode: http.StatusNotImplemented,
		Headers:    map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", issuer.MarkHeader: issuer.UnboundMark},
		Body:       `{"error":"unsupported_event","error_description":"this function takes payload format 2.0: an HTTP API, a Function URL or a load balancer, and no REST API"}`,
	}
}

// serve treats a handler that panics as net/http does, except that the client gets an answer.
func (f *function) serve(handler http.Handler, a *answer, r *http.Request) {
	defer func() {
		if cause := recover(); cause != nil {
			f.log.Error("panic", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			*a = answer{header: http.Header{}}
			a.refuse(http.StatusInternalServerError, "server_error")
		}
	}()
	handler.ServeHTTP(a, r)
	if r.Method == http.MethodHead {
		a.body.Reset()
	}
}

// request makes the request that a container would have got.
func (e *event) request(ctx context.Context) (*http.Request, error) {
	method, path, query := e.Context.HTTP.Method, e.RawPath, e.RawQueryString
	if e.fromLoadBalancer() {
		method, path, query = e.HTTPMethod, e.Path, e.query()
	} else if stage := e.Context.Stage; stage != "" && stage != "$default" && strings.HasPrefix(path, "/"+stage+"/") {
		// https://ID.execute-api.REGION.amazonaws.com/STAGE/oauth/token
		path = path[len("/"+stage):]
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	body := io.Reader(strings.NewReader(e.Body))
	if e.Base64 {
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "/", body)
	if err != nil {
		return nil, err
	}
	r.URL.Path, r.URL.RawQuery = path, query
	r.RemoteAddr = e.Context.HTTP.SourceIP
	for name, value := range e.Headers {
		r.Header.Add(name, value)
	}
	for name, values := range e.MultiValue {
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	if len(e.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	r.Host = r.Header.Get("Host")
	return r, nil
}

// query puts together what a load balancer took apart and did not decode. Without multi-value
// headers it has dropped all but the last of a repeated parameter, which the endpoints would have
// refused.
func (e *event) query() string {
	var pairs []string
	for name, value := range e.Query {
		pairs = append(pairs, name+"="+value)
	}
	for name, values := range e.Queries {
		for _, value := range values {
			pairs = append(pairs, name+"="+value)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// headerBytes is the size that a request's header has on the wire.
func headerBytes(h http.Header) (n int) {
	for name, values := range h {
		for _, value := range values {
			n += len(name) + len(value) + len(": \r\n")
		}
	}
	return n
}

// answer holds a whole response: the largest is a key set of some 100 KB.
type answer struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if !a.wrote {
		a.status, a.wrote = status, true
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.wrote = true
	return a.body.Write(p)
}

func (a *answer) refuse(status int, code string) {
	a.header.Set(issuer.MarkHeader, issuer.UnboundMark)
	a.header.Set("Content-Type", "application/json")
	a.header.Set("Cache-Control", "no-store")
	a.WriteHeader(status)
	a.body.WriteString(`{"error":"` + code + `"}`)
}

// unfold does to the header's values what net/http does to those of a container: a line break
// becomes a space. To some receiver further on, the rest of such a value would be a header of its
// own. Values are shared by the answers of all requests, so none is written into.
func (a *answer) unfold() {
	for name, values := range a.header {
		for i, value := range values {
			if plain := textproto.TrimString(lineBreaks.Replace(value)); plain != value {
				values = slices.Clone(values)
				values[i] = plain
				a.header[name] = values
			}
		}
	}
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

// single joins what may be joined (RFC 9110 §5.3): all but Set-Cookie.
func (a *answer) single() map[string]string {
	single := make(map[string]string, len(a.header))
	for name, values := range a.header {
		if name != "Set-Cookie" {
			single[name] = strings.Join(values, ", ")
		}
	}
	return single
}

// text returns the body, and whether it had to be encoded.
func (a *answer) text() (string, bool) {
	if b := a.body.Bytes(); !utf8.Valid(b) {
		return base64.StdEncoding.EncodeToString(b), true
	}
	return a.body.String(), false
}

// buffered is the answer to a Function URL and to an HTTP API.
func (a *answer) buffered() *events.LambdaFunctionURLResponse {
	body, encoded := a.text()
	return &events.LambdaFunctionURLResponse{StatusCode: a.status, Headers: a.single(), Cookies: a.header["Set-Cookie"], Body: body, IsBase64Encoded: encoded}
}

func (a *answer) stream() *events.LambdaFunctionURLStreamingResponse {
	return &events.LambdaFunctionURLStreamingResponse{StatusCode: a.status, Headers: a.single(), Cookies: a.header["Set-Cookie"], Body: &a.body}
}

func (a *answer) forLoadBalancer(multiValue bool) *events.ALBTargetGroupResponse {
	body, encoded := a.text()
	response := &events.ALBTargetGroupResponse{
		StatusCode: a.status, StatusDescription: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), Body: body, IsBase64Encoded: encoded,
	}
	if multiValue {
		response.MultiValueHeaders = maps.Clone(a.header)
		return response
	}
	response.Headers = a.single()
	for i, cookie := range a.header["Set-Cookie"] {
		response.Headers[spelling("set-cookie", i)] = cookie
	}
	return response
}

// spelling writes a header's name in capitals where n has ones. Without multi-value headers a load
// balancer takes one value for each name, but names that differ only in case it sends as they are,
// and for clients they are one.
func spelling(name string, n int) string {
	b := []byte(name)
	for i := range b {
		if 'a' <= b[i] && b[i] <= 'z' {
			if n&1 == 1 {
				b[i] -= 'a' - 'A'
			}
			n >>= 1
		}
	}
	return string(b)
}
