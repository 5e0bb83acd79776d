//go:build go1.21

package plugin

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"time"
)

// How the plugin asks the sidecar: by the rule of the sidecar's own requests to others. A
// connection can have died since it was last used, and net/http then gives up a POST. A request
// that went out on a kept connection and got not one byte back is sent once more, on a new one. All
// that is asked here may arrive twice: codes and refresh tokens are counted by the guard and the
// provider, and the answer that is missing was lost before.

// sidecarTransport carries every request to a sidecar. It is global because New runs at each
// reload: a transport of its own for each middleware would leave its idle connections behind.
var sidecarTransport = newSidecarTransport(false)

// freshTransport is for second tries: no connection of it was used before.
var freshTransport = newSidecarTransport(true)

func newSidecarTransport(once bool) *http.Transport {
	return &http.Transport{
		Proxy:                 nil, // HTTP_PROXY of Traefik's environment must not see the hop
		DialContext:           dial,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second, // the sidecar's write time-out
		// Half of what load balancers allow: at the same time they would close what is just used.
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    16,
		DisableKeepAlives:      once,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
}

// sidecarWay is the rule as a transport.
type sidecarWay struct{}

// RoundTrip holds the body in memory, where it is already: see holdBody.
func (sidecarWay) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		held, err := io.ReadAll(io.LimitReader(req.Body, maxForwarded+1))
		if err != nil {
			return nil, err
		}
		body = held
	}
	known := &line{}
	trace := &httptrace.ClientTrace{
		GotConn:              func(got httptrace.GotConnInfo) { known.lend(got.Reused) },
		GotFirstResponseByte: func() { known.speak() },
	}
	first := withBody(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)), body)
	resp, err := sidecarTransport.RoundTrip(first)
	if err == nil || req.Context().Err() != nil || !known.wasDead(err) {
		return resp, err
	}
	return freshTransport.RoundTrip(withBody(req.WithContext(req.Context()), body))
}

func withBody(req *http.Request, body []byte) *http.Request {
	if req.Body != nil {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return req
}

// line is what is known of the connection that a request was last sent on.
type line struct {
	mu       sync.Mutex // guards the two below for one access: net/http has several goroutines
	kept     bool       // it was used before
	answered bool       // something came back
}

func (l *line) lend(kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = kept
}

func (l *line) speak() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = true
}

// wasDead says whether a kept connection broke before anything came back. One that is silent is not
// dead, and an HTTP/2 server that ends this stream has spoken.
func (l *line) wasDead(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept && !l.answered && !os.IsTimeout(err) && !strings.HasPrefix(err.Error(), "stream error")
}
