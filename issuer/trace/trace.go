// Package trace records what the sidecar does for a request, as spans of OpenTelemetry, and sends
// them to a collector by OTLP/HTTP with JSON (docs/traces.md).
//
// It promises that a nil *Tracer and a nil *Span do nothing; that no request waits for the
// collector; that what waits to be sent is bounded; and that of a stranger's headers nothing but a
// well-formed traceparent and tracestate is taken. It has no way to record a URL's query, a header
// or a body. It does not know what a login is: the endpoints say what they do.
package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of spans, by the numbers of OTLP.
const (
	serverKind = 2
	clientKind = 3
)

// A Span is one thing that took time. Nil is one that nobody records.
type Span struct {
	tracer   *Tracer
	parent   parent
	id       [8]byte
	name     string
	kind     int
	began    time.Time
	took     time.Duration
	facts    []fact
	failed   string
	finished atomic.Bool
}

// A fact is an attribute. number counts where text is empty.
type fact struct {
	name, text string
	number     int
}

type inContext struct{}

// maxFact is how many bytes of a text a span has.
const maxFact = 200

// Serve begins the span of a request, whose answer is to be written to the returned writer. route
// and tenant are the operator's words. Each caller ends the span.
func (t *Tracer) Serve(w http.ResponseWriter, r *http.Request, route, tenant string) (http.ResponseWriter, *http.Request, *Span) {
	if t == nil {
		return w, r, nil
	}
	p, given := parseParent(r.Header)
	if !given {
		p = parent{}
		rand.Read(p.trace[:])
	}
	p.sampled = t.samples(p, given)
	method := methodOf(r.Method)
	s := &Span{tracer: t, parent: p, name: method + " " + route, kind: serverKind, began: t.now()}
	rand.Read(s.id[:])
	s.Note("http.request.method", method)
	s.Note("http.route", route)
	s.Note("mcpbouncer.tenant", tenant)
	return &answer{w, s, 0}, r.WithContext(context.WithValue(r.Context(), inContext{}, s)), s
}

// methodOf bounds what a stranger chooses.
func methodOf(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "_OTHER"
}

// answer notes the status of what is written.
type answer struct {
	http.ResponseWriter
	span   *Span
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
		a.span.status(status, http.StatusInternalServerError)
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Step begins a span for something that a request waits for. It is nil where the context has no
// span, as outside of requests.
func Step(ctx context.Context, name string) (context.Context, *Span) {
	above, _ := ctx.Value(inContext{}).(*Span)
	if above == nil {
		return ctx, nil
	}
	p := above.parent
	p.span = above.id
	s := &Span{tracer: above.tracer, parent: p, name: name, kind: clientKind, began: above.tracer.now()}
	rand.Read(s.id[:])
	return context.WithValue(ctx, inContext{}, s), s
}

// Carry returns ctx with the span of from: for what a request begins and does not own.
func Carry(ctx, from context.Context) context.Context {
	if s, _ := from.Value(inContext{}).(*Span); s != nil {
		return context.WithValue(ctx, inContext{}, s)
	}
	return ctx
}

// Note adds an attribute. The text must not be a secret, and is cut at 200 bytes.
func (s *Span) Note(name, text string) {
	if s != nil {
		s.facts = append(s.facts, fact{name: name, text: plain(text)})
	}
}

// status notes an HTTP status, which from least on is an error.
func (s *Span) status(status, least int) {
	if s == nil {
		return
	}
	s.facts = append(s.facts, fact{name: "http.response.status_code", number: status})
	if status >= least {
		s.Fail(strconv.Itoa(status))
	}
}

// Fail says that this went wrong, in a word of ours: an error's text may hold what others sent.
func (s *Span) Fail(word string) {
	if s != nil {
		s.failed = word
		s.Note("error.type", word)
	}
}

// End ends the span, and hands it over to be sent. It never waits. A second End does nothing.
func (s *Span) End() {
	if s == nil || s.finished.Swap(true) || !s.parent.sampled {
		return
	}
	s.took = s.tracer.now().Sub(s.began)
	s.tracer.put(s)
}

// EndWith is End, after Fail where there is an error.
func (s *Span) EndWith(err error) {
	if err != nil {
		s.Fail("failed")
	}
	s.End()
}

// TraceID is 32 hexadecimal digits, for the log; empty where the trace is not recorded.
func (s *Span) TraceID() string {
	if s == nil || !s.parent.sampled {
		return ""
	}
	return hex.EncodeToString(s.parent.trace[:])
}

// traceparent is the header for those who are asked in this span.
func (s *Span) traceparent() string {
	flags := "-00"
	if s.parent.sampled {
		flags = "-01"
	}
	return "00-" + hex.EncodeToString(s.parent.trace[:]) + "-" + hex.EncodeToString(s.id[:]) + flags
}

// Transport records each request of another http.RoundTripper. The one who is asked gets the
// header traceparent, and no tracestate: that is for the systems of whoever wrote it.
type Transport struct {
	Next http.RoundTripper
	Name func(context.Context) string // of the span
	// Wrong says in a word what was wrong with an answer or its absence, or nothing.
	Wrong func(*http.Response, error) string
}

// RoundTrip asks. The span ends when the body is closed.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	above, _ := r.Context().Value(inContext{}).(*Span)
	if above == nil {
		return t.Next.RoundTrip(r)
	}
	ctx, s := Step(r.Context(), t.Name(r.Context()))
	s.Note("server.address", r.URL.Hostname())
	s.Note("http.request.method", methodOf(r.Method))
	r = r.Clone(ctx)
	r.Header.Set("Traceparent", s.traceparent())
	resp, err := t.Next.RoundTrip(r)
	if err == nil {
		s.status(resp.StatusCode, 1000) // Wrong has the word
	}
	if word := t.Wrong(resp, err); word != "" {
		s.Fail(word)
	}
	if err != nil {
		s.End()
		return nil, err
	}
	resp.Body = &body{resp.Body, s}
	return resp, nil
}

type body struct {
	io.ReadCloser
	span *Span
}

func (b *body) Close() error {
	defer b.span.End()
	return b.ReadCloser.Close()
}

// Tracer records and sends. It is safe for concurrent use, and Nil records nothing.
type Tracer struct {
	samples func(p parent, given bool) bool
	collector

	mu      sync.Mutex // guards all below for one access
	waiting []*Span
	lost    int // spans that found no room
	timer   *time.Timer
	soon    bool // the timer goes off at once
}

const (
	mostWaiting = 2048
	batchSize   = 512
	batchDelay  = 5 * time.Second
)

// put never waits: without room the span is lost, and counted.
func (t *Tracer) put(s *Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= mostWaiting {
		t.lost++
		return
	}
	t.waiting = append(t.waiting, s)
	switch {
	case t.timer == nil:
		t.timer = time.AfterFunc(batchDelay, func() { t.Flush(context.Background()) })
	case len(t.waiting) >= batchSize && !t.soon:
		t.soon = true
		t.timer.Reset(0)
	}
}

// take returns the next batch, and how many spans were lost since the last.
func (t *Tracer) take() (batch []*Span, lost int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.waiting), batchSize)
	batch, lost = t.waiting[:n:n], t.lost
	t.waiting, t.lost = t.waiting[n:], 0
	if len(t.waiting) == 0 {
		t.waiting = nil
		if t.timer != nil {
			t.timer.Stop()
		}
		t.timer, t.soon = nil, false
	}
	return batch, lost
}

// Flush sends what waits, for as long as the context allows.
func (t *Tracer) Flush(ctx context.Context) {
	if t == nil {
		return
	}
	select { // one at a time
	case t.sending <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-t.sending }()
	for {
		batch, lost := t.take()
		if len(batch) == 0 {
			return
		}
		t.send(ctx, batch, lost)
	}
}
