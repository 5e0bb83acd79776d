//go:build go1.21

package plugin

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// sidecarAnswer is an answer of the sidecar to the plugin itself.
type sidecarAnswer struct {
	status int
	body   []byte
	etag   string
}

// question is one request of the plugin itself.
type question struct {
	method string
	url    string
	form   string // posted; empty: none
	report string // JSON, posted; empty: none
	etag   string // makes the request conditional; empty: it is not
	limit  int64  // bytes of the answer
	parent string // traceparentOf; empty: no client's request waits for the answer
	// Where a failure is counted; nil: nowhere. A hopSealer cannot know it: in Yaegi, two structs
	// that hold pointers to each other cannot be assigned.
	figures *figures
}

// askSidecar sends one request of the plugin itself, within sidecarDeadline. It uses RoundTrip and
// not a Client, so that redirects are not followed.
func askSidecar(hop *hopSealer, q *question) (*sidecarAnswer, error) {
	ticket, err := hop.header(now().Unix())
	if err != nil {
		countQuestion(q, "hop_key")
		return nil, err
	}
	got, err := sendQuestion(hop, ticket, q)
	switch {
	case err != nil:
		countQuestion(q, failureOf(err))
	case got.status >= http.StatusInternalServerError:
		countQuestion(q, "status")
	}
	return got, err
}

func countQuestion(q *question, cause string) {
	if q.figures != nil {
		countFailure(q.figures, cause)
	}
}

func sendQuestion(hop *hopSealer, ticket *hopTicket, q *question) (*sidecarAnswer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, strings.NewReader(q.form+q.report))
	if err != nil {
		return nil, err
	}
	req.Header[hopHeader] = []string{ticket.value}
	if q.form != "" {
		req.Header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
	}
	if q.report != "" {
		req.Header["Content-Type"] = []string{"application/json"}
	}
	if q.etag != "" {
		req.Header["If-None-Match"] = []string{q.etag}
	}
	if q.parent != "" {
		req.Header[parentHeader] = []string{q.parent}
	}
	resp, err := hop.transport().RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := checkAnswer(hop, ticket, resp); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, q.limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > q.limit {
		return nil, errors.New("the answer is too long")
	}
	return &sidecarAnswer{status: resp.StatusCode, body: body, etag: resp.Header.Get("ETag")}, nil
}

// These errors stand for answers that are not the sidecar's, or no answer to a request. Each is for
// the operator to mend, so a client is only told that the authorization server is away.
var (
	errHopRefused      = errors.New("the sidecar refuses the hop header")
	errSidecarFails    = errors.New("the sidecar cannot serve")
	errNotSidecar      = errors.New("label sidecarURL")
	errHeadersTooLarge = errors.New("the request's headers are too large for the sidecar")
)

// checkAnswer refuses every answer that the sidecar has not marked as its answer to this hop
// header. Otherwise the pages of whatever else listens at sidecarURL would reach clients under the
// name of the MCP server, and its key set would be believed. The answers to all requests to the
// sidecar come here.
func checkAnswer(hop *hopSealer, ticket *hopTicket, resp *http.Response) error {
	mark := resp.Header.Get(markHeader)
	delete(resp.Header, markHeader)
	if !hmac.Equal([]byte(mark), []byte(ticket.mark)) {
		return explainAnswer(hop, ticket, resp, mark)
	}
	// RFC 6749 §5.2: a client that authenticates by Basic is challenged by Basic. API Gateway and
	// Function URLs rename the header.
	if challenge := resp.Header[renamedChallenge]; challenge != nil {
		resp.Header["Www-Authenticate"] = challenge
		delete(resp.Header, renamedChallenge)
	}
	return nil
}

const renamedChallenge = "X-Amzn-Remapped-Www-Authenticate"

// explainAnswer says what came instead. mark is the mark of the answer: a sidecar that did not open
// the hop header can only say that it is one.
func explainAnswer(hop *hopSealer, ticket *hopTicket, resp *http.Response, mark string) error {
	status := resp.StatusCode
	refused := status == http.StatusForbidden && resp.Header.Get(hopHeader) == "refused"
	switch {
	case refused && mark == "":
		return fmt.Errorf("%w: what answers at %s is a sidecar of a version before this plugin's: upgrade the sidecar first, then the plugin", errHopRefused, hop.sidecar)
	case refused && resp.Header.Get(reasonHeader) == "":
		return fmt.Errorf("%w: its master secret is not that of this hop key (key id %s; the sidecar's log names its own): give Traefik the %s that `mcpbouncer hop-key` prints for the sidecar's BOUNCER_ENCRYPTION_KEY", errHopRefused, hopKeyID(ticket.key), hopVariable)
	case refused:
		reason, ok := openReason(ticket, resp.Header.Get(reasonHeader))
		if !ok {
			return fmt.Errorf("%w: its reason was changed on its way: see what stands between Traefik and %s", errHopRefused, hop.sidecar)
		}
		return fmt.Errorf("%w: %s", errHopRefused, explainRefusal(ticket, reason, now().Unix()))
	case status == http.StatusForbidden && resp.Header.Get("X-Amzn-Errortype") != "":
		return errSignatureRefused
	case status == http.StatusRequestHeaderFieldsTooLarge:
		// net/http of the sidecar says so, before the sidecar's own code runs.
		return errHeadersTooLarge
	case mark == "1":
		return fmt.Errorf("%w: it answers %d: its log says why", errSidecarFails, status)
	case mark != "":
		return fmt.Errorf("%w: what answers at %s gives the answer to another request (%d %s): it must not keep the sidecar's answers", errNotSidecar, hop.sidecar, status, mediaTypeOf(resp))
	case status == http.StatusLoopDetected:
		return fmt.Errorf("%w: %s leads to a middleware of MCPBouncer and not to the sidecar, so that requests come back: give the address of the sidecar itself", errNotSidecar, hop.sidecar)
	case status == http.StatusTooManyRequests || status >= http.StatusBadGateway && status <= http.StatusGatewayTimeout:
		// AWS Lambda or a gateway says so: the sidecar was not reached.
		return fmt.Errorf("%w: what stands before it at %s says so (%d %s): it is down or starting, or has too many requests at once", errSidecarFails, hop.sidecar, status, mediaTypeOf(resp))
	}
	return fmt.Errorf("%w: what answers at %s is not the sidecar (%d %s): correct the address, or see what stands in front of the sidecar", errNotSidecar, hop.sidecar, status, mediaTypeOf(resp))
}

// mediaTypeOf returns the media type of an answer for the log. Whoever answered has chosen it.
func mediaTypeOf(resp *http.Response) string {
	name, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	name = strings.TrimSpace(name)
	if name == "" || len(name) > 80 || strings.Trim(name, tokenChars+"/") != "" {
		return "without a media type"
	}
	return name
}
