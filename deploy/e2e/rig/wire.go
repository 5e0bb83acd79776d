package rig

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Wire stands before a provider: its URL is the provider's issuer, so that whatever the sidecar and
// the browser ask passes here, is kept, and can be spoilt.
type Wire struct {
	URL string // http://localhost:PORT

	mu    sync.Mutex
	kept  []Exchange
	fault func(*http.Request) http.Handler
}

// Exchange is one request and its answer.
type Exchange struct {
	Method, Path, Authorization string
	Form                        url.Values // of the body
	Status                      int
	Answer                      []byte
}

// NewWire starts a wire to host:port, where the provider may listen later.
func NewWire(t T, backend string) *Wire {
	w := &Wire{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	proxy.Transport = frontTransport
	proxy.ErrorHandler = func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := Hold(r)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		form, _ := url.ParseQuery(string(body))
		// What is kept must be readable.
		r.Header.Del("Accept-Encoding")
		r.Header.Set("X-Forwarded-Proto", "http")
		r.Header.Set("X-Forwarded-Host", r.Host)
		rec := httptest.NewRecorder()
		h := w.instead(r)
		if h == nil {
			h = proxy
		}
		h.ServeHTTP(rec, r)
		w.mu.Lock()
		w.kept = append(w.kept, Exchange{r.Method, r.URL.Path, r.Header.Get("Authorization"), form, rec.Code, rec.Body.Bytes()})
		w.mu.Unlock()
		if rec.Code == lostAnswer {
			panic(http.ErrAbortHandler)
		}
		for name, values := range rec.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(rec.Body.Bytes())
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	// The providers name themselves by host name, as real ones do.
	w.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return w
}

// lostAnswer is what Lose answers: the connection is closed instead.
const lostAnswer = 599

// Lose asks the provider and drops its answer.
func (w *Wire) Lose(backend string) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	proxy.Transport = frontTransport
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		rw.WriteHeader(lostAnswer)
	})
}

// Together is for Fault: of the next two requests to path, neither is answered before the provider
// has seen both, one after the other.
func (w *Wire) Together(path, backend string) func(*http.Request) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	proxy.Transport = frontTransport
	var n atomic.Int32
	seen := []chan struct{}{make(chan struct{}), make(chan struct{})}
	wait := func(r *http.Request, i int) {
		select {
		case <-seen[i]:
		case <-r.Context().Done():
		}
	}
	return func(r *http.Request) http.Handler {
		if r.URL.Path != path {
			return nil
		}
		i := int(n.Add(1)) - 1
		if i > 1 {
			return nil
		}
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if i == 1 {
				wait(r, 0)
			}
			proxy.ServeHTTP(rw, r) // into the wire's recorder
			close(seen[i])
			wait(r, 1)
		})
	}
}

func (w *Wire) instead(r *http.Request) http.Handler {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == nil {
		return nil
	}
	return w.fault(r)
}

// Fault lets the handler that choose returns answer in the provider's place; where it returns nil,
// the provider answers. A nil choose ends that.
func (w *Wire) Fault(choose func(*http.Request) http.Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = choose
}

// Kept lists what passed, after the first n exchanges.
func (w *Wire) Kept(n int) []Exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.kept[min(n, len(w.kept)):])
}
