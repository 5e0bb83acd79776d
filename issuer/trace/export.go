package trace

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// collector is where spans are sent.
type collector struct {
	url     string
	header  http.Header
	client  *http.Client
	timeout time.Duration
	about   []attribute // of the resource
	version string
	log     *slog.Logger
	now     func() time.Time

	sending chan struct{} // holds one while something is sent; all below is guarded by it
	saidAt  time.Time
	unsent  int   // spans since then
	cause   error // of the last of them
	pausing time.Time
}

const (
	sayAgain = 10 * time.Minute
	// pause is how long nothing is sent after a failure: on Lambda each answer would wait for a
	// collector that hangs.
	pause = 15 * time.Second
)

// The JSON of OTLP: ids are in hexadecimal, other than in JSON of protocol buffers, and 64-bit
// numbers are texts.
type (
	attribute struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		Text   *string `json:"stringValue,omitempty"`
		Number string  `json:"intValue,omitempty"`
	}
	status struct {
		Code int `json:"code"`
	}
	span struct {
		TraceID    string      `json:"traceId"`
		SpanID     string      `json:"spanId"`
		State      string      `json:"traceState,omitempty"`
		Parent     string      `json:"parentSpanId,omitempty"`
		Flags      uint32      `json:"flags"`
		Name       string      `json:"name"`
		Kind       int         `json:"kind"`
		Start      string      `json:"startTimeUnixNano"`
		End        string      `json:"endTimeUnixNano"`
		Attributes []attribute `json:"attributes,omitempty"`
		Status     *status     `json:"status,omitempty"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	resource struct {
		Attributes []attribute `json:"attributes"`
	}
	resourceSpans struct {
		Resource resource     `json:"resource"`
		Scopes   []scopeSpans `json:"scopeSpans"`
	}
	request struct {
		Resources []resourceSpans `json:"resourceSpans"`
	}
)

func textAttribute(name, text string) attribute { return attribute{name, value{Text: &text}} }

// asJSON writes a batch as an ExportTraceServiceRequest.
func (c *collector) asJSON(batch []*Span) ([]byte, error) {
	spans := make([]span, len(batch))
	for i, s := range batch {
		end := s.began.Add(s.took)
		out := span{
			TraceID: hex.EncodeToString(s.parent.trace[:]), SpanID: hex.EncodeToString(s.id[:]), State: s.parent.state, Flags: 1,
			Name: s.name, Kind: s.kind, Start: strconv.FormatInt(s.began.UnixNano(), 10), End: strconv.FormatInt(end.UnixNano(), 10),
		}
		if s.parent.span != [8]byte{} {
			out.Parent = hex.EncodeToString(s.parent.span[:])
		}
		if s.failed != "" {
			out.Status = &status{2} // STATUS_CODE_ERROR
		}
		for _, f := range s.facts {
			if f.number != 0 {
				out.Attributes = append(out.Attributes, attribute{f.name, value{Number: strconv.Itoa(f.number)}})
			} else {
				out.Attributes = append(out.Attributes, textAttribute(f.name, f.text))
			}
		}
		spans[i] = out
	}
	return json.Marshal(request{[]resourceSpans{{resource{c.about}, []scopeSpans{{scope{"github.com/mcpbouncer/mcpbouncer", c.version}, spans}}}}})
}

// send sends a batch once. What is not taken is lost: traces are no record.
func (c *collector) send(ctx context.Context, batch []*Span, lost int) {
	now := c.now()
	lose := func(spans int, cause error) {
		if spans > 0 {
			c.unsent, c.cause = c.unsent+spans, cause
		}
	}
	lose(lost, errMany)
	if now.Before(c.pausing) {
		c.unsent += len(batch)
		return
	}
	if refused, err := c.post(ctx, batch); err != nil {
		lose(len(batch), err)
		c.pausing = c.now().Add(pause)
	} else {
		lose(refused, errPartial)
	}
	if c.unsent > 0 && now.Sub(c.saidAt) >= sayAgain {
		c.log.Warn("traces are lost: the collector does not take them, or there are too many", "spans", c.unsent, "cause", c.cause, "remedy", remedyOf(c.cause))
		c.saidAt, c.unsent = now, 0
	}
}

// CloseIdleConnections gives up the connections that nothing is using. A nil *Tracer has none.
func (t *Tracer) CloseIdleConnections() {
	if t != nil {
		t.client.CloseIdleConnections()
	}
}

var (
	errMany = errors.New("more than 2048 spans waited") // mostWaiting
	// What the collector says of it is not shown.
	errPartial = errors.New("the collector took a part only")
)

// refusal is an HTTP status of the collector that is no success.
type refusal int

func (r refusal) Error() string { return fmt.Sprintf("the collector answered %d", int(r)) }

// post returns how many spans of a batch were refused in an answer that is a success (OTLP/HTTP,
// Partial Success).
func (c *collector) post(ctx context.Context, batch []*Span) (refused int, err error) {
	text, err := c.asJSON(batch)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	r.Header = c.header.Clone()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "mcpbouncer")
	resp, err := c.client.Do(r)
	if err != nil {
		return 0, outgoing.Redact(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return 0, refusal(resp.StatusCode)
	}
	var answer struct {
		Partial struct {
			Rejected json.Number `json:"rejectedSpans"` // a number, or one in a text
		} `json:"partialSuccess"`
	}
	json.Unmarshal(body, &answer) // an answer that is none says that all were taken
	n, _ := answer.Partial.Rejected.Int64()
	return int(min(max(n, 0), int64(len(batch)))), nil
}

// remedyOf says what the operator can do about spans that were lost.
func remedyOf(cause error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		answered  refusal
	)
	switch {
	case cause == errMany:
		return "trace a share: set OTEL_TRACES_SAMPLER to traceidratio and OTEL_TRACES_SAMPLER_ARG to less than 1"
	case cause == errPartial:
		return "see the collector's log"
	case errors.As(cause, &authority):
		return "set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file of the authority that signed the collector's certificate"
	case errors.As(cause, &name):
		return "give in OTEL_EXPORTER_OTLP_ENDPOINT the name that stands in the collector's certificate"
	case errors.As(cause, &invalid):
		return "renew the collector's certificate; if it is good, set the clocks (NTP)"
	case errors.Is(cause, http.ErrSchemeMismatch):
		return "the collector speaks no TLS: let OTEL_EXPORTER_OTLP_ENDPOINT begin with http://"
	case !errors.As(cause, &answered):
		return "see whether the collector runs, and whether OTEL_EXPORTER_OTLP_ENDPOINT is its address for HTTP: that has port 4318 as a rule, and 4317 is for gRPC"
	}
	switch answered {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "give the credential that the collector wants in OTEL_EXPORTER_OTLP_HEADERS"
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return "what answers takes no OTLP/HTTP with JSON there: see scheme, port and path of OTEL_EXPORTER_OTLP_ENDPOINT; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken with its path"
	}
	return "see the collector's log"
}
