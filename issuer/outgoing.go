package issuer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// How the sidecar asks others: one rule for every HTTP request that it sends. A connection can have
// died since it was last used: whoever is asked closes idle ones, and a process that is frozen or a
// machine that sleeps does not notice. So none is used again after idleLimit, and a request that
// went out on a kept connection and got not one byte back is sent once more, on a new one.
// docs/decisions/0019-second-try.md says why that is safe for a code and a refresh token too.

const (
	// idleLimit is how long an idle connection may be used again: less than the 5 seconds after
	// which Node's servers close theirs. net/http compares it by the wall clock, so that a freeze
	// counts.
	idleLimit = 4 * time.Second
	// An HTTP/2 connection that stays silent for pingAfter while it is used is asked whether it
	// lives, and given up after pingTimeout. The request then still has time for another one.
	pingAfter   = 2 * time.Second
	pingTimeout = time.Second
)

// Outgoing is an http.RoundTripper by this rule. It is safe for concurrent use.
type Outgoing struct {
	kept  http.RoundTripper // may lend a connection that was used before
	fresh http.RoundTripper // never does
}

// NewOutgoing makes the rule's transport from another one, which it does not change. One that is
// not an *http.Transport is asked both times.
func NewOutgoing(base http.RoundTripper) *Outgoing {
	if o, ok := base.(*Outgoing); ok {
		return o
	}
	t, ok := base.(*http.Transport)
	if !ok {
		return &Outgoing{kept: base, fresh: base}
	}
	kept, fresh := t.Clone(), t.Clone()
	kept.IdleConnTimeout = idleLimit
	kept.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	fresh.DisableKeepAlives = true
	return &Outgoing{kept, fresh}
}

// RoundTrip is http.RoundTripper's.
func (o *Outgoing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.roundTrip(r)
	if err == nil && resp.Header.Get("Location") != "" {
		// An http.Client fails at one that is no address, before it asks whether to go there, and
		// its error holds all of it: a code, if somebody's login page repeats what it was sent.
		// Without it, this is an answer like any other.
		if _, broken := resp.Location(); broken != nil {
			resp.Header.Del("Location")
		}
	}
	return resp, err
}

func (o *Outgoing) roundTrip(r *http.Request) (*http.Response, error) {
	var line line
	resp, err := o.kept.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), line.trace())))
	if err == nil || isOver(r) || !line.isDead(err) || !line.kept.Load() && !repeatable(r.Context()) {
		return resp, err
	}
	again, ok := rewound(r)
	if !ok || !takeSecondTry(r.Context()) {
		return resp, err
	}
	return o.fresh.RoundTrip(again)
}

// CloseIdleConnections gives up the connections that nothing is using.
func (o *Outgoing) CloseIdleConnections() {
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

// isDead says whether the connection broke before anything came back. One that is silent is not
// dead, and an HTTP/2 server that ends this stream has spoken.
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

// rewound is the request with its body from the start, if it can be had.
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

// withSecondTry is for a question that may be asked twice wherever its answer is lost, also on a
// connection that was new. It has one second try, whoever takes it: the transport or the asker.
func withSecondTry(ctx context.Context) context.Context {
	return context.WithValue(ctx, secondTryKey{}, new(atomic.Bool))
}

// withoutSecondTry is for a question that must not arrive twice, whatever becomes of its answer.
func withoutSecondTry(ctx context.Context) context.Context {
	taken := new(atomic.Bool)
	taken.Store(true)
	return context.WithValue(ctx, secondTryKey{}, taken)
}

type secondTryKey struct{}

func repeatable(ctx context.Context) bool { return ctx.Value(secondTryKey{}) != nil }

// takeSecondTry says whether there is one left.
func takeSecondTry(ctx context.Context) bool {
	taken, ok := ctx.Value(secondTryKey{}).(*atomic.Bool)
	return !ok || taken.CompareAndSwap(false, true)
}

// detached is the context for what must be finished when a client hangs up half-way. The deadline
// stays: on Lambda it is the end of the process.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	if at, ok := ctx.Deadline(); ok {
		return context.WithDeadline(context.WithoutCancel(ctx), at)
	}
	return context.WithCancel(context.WithoutCancel(ctx))
}

// wait is a pause before something is asked again; it fails at once where the deadline comes first.
func wait(ctx context.Context, pause time.Duration) error {
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
