package trace

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
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
	unsent  int // spans since then
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
	c.unsent += lost
	var err error
	if now.Before(c.pausing) {
		c.unsent += len(batch)
		return
	}
	if err = c.post(ctx, batch); err != nil {
		c.unsent += len(batch)
		c.pausing = c.now().Add(pause)
	}
	if c.unsent > 0 && now.Sub(c.saidAt) >= sayAgain {
		c.log.Warn("traces are lost: the collector does not take them, or there are too many", "spans", c.unsent, "cause", err)
		c.saidAt, c.unsent = now, 0
	}
}

// CloseIdleConnections gives up the connections that nothing is using. A nil *Tracer has none.
func (t *Tracer) CloseIdleConnections() {
	if t != nil {
		t.client.CloseIdleConnections()
	}
}

func (c *collector) post(ctx context.Context, batch []*Span) error {
	text, err := c.asJSON(batch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header = c.header.Clone()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "mcpbouncer")
	resp, err := c.client.Do(r)
	if err != nil {
		return outgoing.Redact(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %d", resp.StatusCode)
	}
	return nil
}
