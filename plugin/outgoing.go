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

// The plugin sends requests to the sidecar by the same rule by which the sidecar asks others. A
// connection can have died since it was last used, and net/http does not repeat a POST. So a
// request that went out on a kept connection, and got not one byte back, is sent once more on a new
// one. Everything that is asked here may arrive twice: the replay guard and the provider count
// codes and refresh tokens, and the answer that is missing would be lost without the second try as
// well.

// sidecarTransport carries every request to a sidecar. It is global because New runs at each
// reload: a transport for each middleware would leave its idle connections behind.
var sidecarTransport = newSidecarTransport(false)

// freshTransport is for second tries. It keeps no connections, so each is a new one.
var freshTransport = newSidecarTransport(true)

func newSidecarTransport(once bool) *http.Transport {
	return &http.Transport{
		Proxy:                 nil, // HTTP_PROXY of Traefik's environment must not see the hop
		DialContext:           dial,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second, // the sidecar's write time-out
		// Half of what load balancers allow. With the same time they would close a connection that
		// is just being used.
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    16,
		DisableKeepAlives:      once,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
}

// sidecarWay is that rule as a transport.
type sidecarWay struct{}

// RoundTrip keeps the body in memory, where it is already (holdBody).
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

// line is the connection on which a request was last sent.
type line struct {
	mu       sync.Mutex // net/http calls from several goroutines
	kept     bool       // the connection was used before
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

// wasDead says whether a kept connection broke before anything came back. A connection that is only
// silent is not dead, and an HTTP/2 server that ends the stream has answered.
func (l *line) wasDead(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept && !l.answered && !os.IsTimeout(err) && !strings.HasPrefix(err.Error(), "stream error")
}
