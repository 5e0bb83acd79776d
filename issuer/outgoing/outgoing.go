// Package outgoing is how the sidecar asks others: one rule for every HTTP request that it sends,
// and what of a failure may stand in a log.
//
// It promises that no connection is used again after it was idle for IdleLimit; that a request is
// sent a second time only where that does no harm, and at most once; that a Client follows no
// redirect; and that the text of an error from here holds no URL and is short. It does not say who
// may be asked: addresses, proxies and certificates are those of the caller's transport.
//
// A connection can have died since it was last used: servers close idle ones, and a process that is
// frozen or a machine that sleeps does not notice. docs/decisions/0019-second-try.md says why a
// second try is safe for a code and a refresh token too.
package outgoing

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

const (
	// IdleLimit is how long an idle connection may be used again: less than the 5 seconds after
	// which Node's servers close theirs. net/http compares it by the wall clock, so that a freeze
	// counts.
	IdleLimit = 4 * time.Second
	// idlePerHost is how many connections to one provider wait for the next request. net/http has
	// two wait: of more people who log in or refresh at once, each further one would pay for a
	// connection of its own, with TLS.
	idlePerHost = 32
	// An HTTP/2 connection that stays silent for pingAfter while it is used is asked whether it
	// lives, and given up after pingTimeout. The request then still has time for another one.
	pingAfter   = 2 * time.Second
	pingTimeout = time.Second
)

// Transport is an http.RoundTripper by the rule. It is safe for concurrent use.
type Transport struct {
	kept  http.RoundTripper // may lend a connection that was used before
	fresh http.RoundTripper // never does
}

// NewTransport makes the rule's transport from another one, which it does not change. A base that
// is not an *http.Transport is asked both times.
func NewTransport(base http.RoundTripper) *Transport {
	if o, ok := base.(*Transport); ok {
		return o
	}
	t, ok := base.(*http.Transport)
	if !ok {
		return &Transport{kept: base, fresh: base}
	}
	kept, fresh := t.Clone(), t.Clone()
	kept.IdleConnTimeout, kept.MaxIdleConnsPerHost = IdleLimit, idlePerHost
	kept.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	fresh.DisableKeepAlives = true
	return &Transport{kept, fresh}
}

// NewClient returns a client that asks through NewTransport(base) and follows no redirect: what it
// sends is for the host that the operator named. A timeout of 0 means none.
func NewClient(base http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     NewTransport(base),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTrip sends a request, and sends it again where the rule allows it.
func (o *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.roundTrip(r)
	if err == nil && resp.Header.Get("Location") != "" {
		// An http.Client fails at a Location that is not an address, before it asks whether to go
		// there, and its error holds all of it: a code, if a login page repeats what it was sent.
		// Without the header, this is an answer like any other.
		if _, broken := resp.Location(); broken != nil {
			resp.Header.Del("Location")
		}
	}
	return resp, err
}

func (o *Transport) roundTrip(r *http.Request) (*http.Response, error) {
	var line line
	resp, err := o.kept.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), line.trace())))
	if err == nil || isOver(r) || !line.isDead(err) || !line.kept.Load() && !repeatable(r.Context()) {
		return resp, err
	}
	again, ok := rewound(r)
	if !ok || !TakeSecondTry(r.Context()) {
		return resp, err
	}
	return o.fresh.RoundTrip(again)
}

// CloseIdleConnections gives up the connections that nothing is using.
func (o *Transport) CloseIdleConnections() {
	if t, ok := o.kept.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// line is what is known of the connection that a request was last sent on. net/http itself may try
// several that turn out to be closed.
type line struct {
	found    atomic.Bool // there was one
	kept     atomic.Bool // it was used before
	answered atomic.Bool // something came back
}

func (l *line) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:              func(string) { l.found.Store(false); l.kept.Store(false) },
		GotConn:              func(got httptrace.GotConnInfo) { l.found.Store(true); l.kept.Store(got.Reused) },
		GotFirstResponseByte: func() { l.answered.Store(true) },
	}
}

// isDead says whether the connection broke before anything came back. A connection that is silent
// is not dead, and an HTTP/2 server that ends this stream has spoken.
func (l *line) isDead(err error) bool {
	var timeout net.Error
	var ended streamError
	return l.found.Load() && !l.answered.Load() && !(errors.As(err, &timeout) && timeout.Timeout()) && !errors.As(err, &ended)
}

// streamError has the shape of net/http's own, which is not exported and converts itself to any
// type of that shape.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "http2: stream error" }

// isOver says whether nobody waits any longer. A Client's Timeout speaks through Cancel where it
// does not know the transport.
func isOver(r *http.Request) bool {
	select {
	case <-r.Cancel: //lint:ignore SA1019 net/http itself sets it
		return true
	default:
		return r.Context().Err() != nil
	}
}

// rewound returns the request with its body from the start, if the body can be had again.
func rewound(r *http.Request) (*http.Request, bool) {
	again := r.WithContext(r.Context())
	if r.Body == nil || r.Body == http.NoBody {
		return again, true
	}
	if r.GetBody == nil {
		return nil, false
	}
	body, err := r.GetBody()
	again.Body = body
	return again, err == nil
}

// WithSecondTry is for a question that may be asked twice wherever its answer is lost, also on a
// connection that was new. It has one second try, whoever takes it: the transport or the asker.
func WithSecondTry(ctx context.Context) context.Context {
	return context.WithValue(ctx, secondTryKey{}, new(atomic.Bool))
}

// WithoutSecondTry is for a question that must not arrive twice, whatever becomes of its answer.
func WithoutSecondTry(ctx context.Context) context.Context {
	taken := new(atomic.Bool)
	taken.Store(true)
	return context.WithValue(ctx, secondTryKey{}, taken)
}

type secondTryKey struct{}

func repeatable(ctx context.Context) bool { return ctx.Value(secondTryKey{}) != nil }

// TakeSecondTry says whether the question may be asked again, and takes its second try.
func TakeSecondTry(ctx context.Context) bool {
	taken, ok := ctx.Value(secondTryKey{}).(*atomic.Bool)
	return !ok || taken.CompareAndSwap(false, true)
}

// Detached returns the context for what must be finished when a client hangs up half-way. The
// deadline stays: on Lambda it is the end of the process.
func Detached(ctx context.Context) (context.Context, context.CancelFunc) {
	if at, ok := ctx.Deadline(); ok {
		return context.WithDeadline(context.WithoutCancel(ctx), at)
	}
	return context.WithCancel(context.WithoutCancel(ctx))
}

// Wait pauses before something is asked again. It fails at once where the deadline comes first.
func Wait(ctx context.Context, pause time.Duration) error {
	if at, ok := ctx.Deadline(); ok && time.Until(at) <= pause {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
