package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds against clients that are slow or send too much.
const (
	headerTimeout = 10 * time.Second
	// bodyTimeout is for the messages that the plugin holds. What goes to the MCP server as it
	// comes has a token, and may take its time.
	bodyTimeout    = 60 * time.Second
	writeTimeout   = 60 * time.Second // for one write: a stream may be open for days
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// Gateway is a reverse proxy with the plugin before each tenant's backend.
type Gateway struct {
	File    string // tenants file
	Sidecar string // URL of the sidecar of this process
	Log     *slog.Logger
	// TLS says that this process ends TLS.
	TLS bool
	// Behind says that TLS ends at a proxy of the operator, through which every request comes.
	Behind bool

	table atomic.Pointer[table]
	lines lines
}

// Load takes the content of the tenants file. One with a fault changes nothing.
func (g *Gateway) Load(content []byte) error {
	tenants, err := ParseTenants(g.File, content, g.Sidecar, Proxying)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		switch {
		case t.scheme == "https" && !g.TLS && !g.Behind:
			return fmt.Errorf("BOUNCER_TENANTS: %s: tenant %q has a public URL with https, and the gateway has no certificate: set BOUNCER_TLS_CERT and BOUNCER_TLS_KEY, or BOUNCER_ACME_DIR, or BOUNCER_TLS_ELSEWHERE=true where a proxy before it ends TLS", g.File, t.Name)
		case t.scheme == "http" && g.TLS:
			return fmt.Errorf("BOUNCER_TENANTS: %s: tenant %q has a public URL with http, and the gateway speaks TLS alone: write https there, or take the variables BOUNCER_TLS_… and BOUNCER_ACME_… away", g.File, t.Name)
		}
	}
	t, err := newTable(tenants, g.backend)
	if err != nil {
		return err
	}
	g.table.Store(t)
	g.Log.Info("tenants", "file", g.File, "tenants", namesOf(tenants))
	return nil
}

func namesOf(tenants []*Tenant) []string {
	names := []string{}
	for _, t := range tenants {
		names = append(names, t.Name)
	}
	return names
}

// Serves says whether a tenant has this host, without a port. It is the policy by which
// certificates are asked for: otherwise whoever invents host names would use up the authority's
// limits.
func (g *Gateway) Serves(_ context.Context, host string) error {
	for at := range g.table.Load().byHost {
		name, _, err := net.SplitHostPort(at)
		if at == host || err == nil && name == host {
			return nil
		}
	}
	return errors.New("no tenant has this host")
}

// Server is ready to serve. Its time-outs let no client hold a connection by being slow.
func (g *Gateway) Server() *http.Server {
	return &http.Server{
		Handler:           g,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// strangers cause these lines
		ErrorLog: slog.NewLogLogger(g.Log.Handler(), slog.LevelDebug),
	}
}

// ServeHTTP answers a host or a path that no tenant has without a word about those that there are.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, known := g.table.Load().find(r.Host, r.URL.Path)
	if route == nil {
		status, cause := http.StatusNotFound, "no tenant at this host has this path"
		if !known { // RFC 9110 §15.5.20
			status, cause = http.StatusMisdirectedRequest, "no tenant has this host and port"
		}
		if g.lines.allow(cause, time.Now()) {
			g.Log.Info("a request is for no tenant", "host", cut(r.Host), "path", cut(r.URL.Path), "status", status,
				"cause", cause+": if it is from a client of yours, make publicURL and what the client asks for agree")
		}
		refuse(w, status, "not_found")
		return
	}
	vouch(r.Header, route, g.Behind)
	control := http.NewResponseController(w)
	if r.ContentLength != 0 {
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	route.handler.ServeHTTP(&steadyWriter{ResponseWriter: w, control: control}, r)
}

func refuse(w http.ResponseWriter, status int, code string) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"error":"` + code + `"}`))
}

// steadyWriter ends an answer whose client does not read on. A stream that is silent goes on.
type steadyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	written int
}

// unread is what a client's side of a connection takes without reading, in bytes. Up to there no
// write waits, and a deadline would cost as much as the write.
const unread = 8 << 10

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (s *steadyWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *steadyWriter) Write(p []byte) (int, error) {
	if s.written += len(p); s.written <= unread {
		return s.ResponseWriter.Write(p)
	}
	s.hurry()
	n, err := s.ResponseWriter.Write(p)
	s.calm()
	return n, err
}

// FlushError is called by http.ResponseController.
func (s *steadyWriter) FlushError() error {
	if s.written <= unread {
		return s.control.Flush()
	}
	s.hurry()
	err := s.control.Flush()
	s.calm()
	return err
}

func (s *steadyWriter) hurry() { _ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) }

// calm takes the deadline away: HTTP/2 would end a stream that only waits.
func (s *steadyWriter) calm() { _ = s.control.SetWriteDeadline(time.Time{}) }

// backendTransport carries requests to all MCP servers. There is no limit for the time to an
// answer: a tool may take minutes, and the client may always go away.
var backendTransport = &http.Transport{
	Proxy:               nil, // HTTP_PROXY is for the way to the provider
	DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	TLSHandshakeTimeout: 5 * time.Second,
	IdleConnTimeout:     60 * time.Second,
	MaxIdleConns:        1024,
	MaxIdleConnsPerHost: 256,
	DisableCompression:  true,
	ForceAttemptHTTP2:   true,
}

// backend is what stands behind the plugin: the way to the MCP server.
func (g *Gateway) backend(t *Tenant) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: backendTransport,
		// Events, and whatever has no length, are flushed at once by ReverseProxy itself.
		BufferPool: buffers{},
		ErrorLog:   slog.NewLogLogger(g.Log.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			out := p.Out
			p.SetURL(t.Backend)
			out.Host = p.In.Host // as Traefik does: servers compare it
			// as it came: ReverseProxy would leave out what it cannot read
			out.URL.RawQuery = p.In.URL.RawQuery
			if before := p.In.Header["X-Forwarded-For"]; before != nil {
				out.Header["X-Forwarded-For"] = before
			}
			p.SetXForwarded()
			out.Header["X-Forwarded-Host"] = []string{t.host}
			out.Header["X-Forwarded-Proto"] = []string{t.scheme}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // otherwise the client went away
				if g.lines.allow(t.Name+" backend", time.Now()) {
					g.Log.Error("the MCP server cannot be reached", "tenant", t.Name, "backend", t.Backend.String(), "cause", err.Error())
				}
			}
			refuse(w, http.StatusBadGateway, "bad_gateway")
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
		if t.StripPrefix && t.prefix != "" && strings.HasPrefix(r.URL.Path, t.prefix) {
			r.URL.Path = "/" + strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, t.prefix), "/")
			r.URL.RawPath = ""
			r.Header["X-Forwarded-Prefix"] = []string{t.prefix}
		}
		proxy.ServeHTTP(w, r)
	})
}

// buffers are those by which answers are copied.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (buffers) Get() []byte  { return bufferPool.Get().(*[32 << 10]byte)[:] }
func (buffers) Put(b []byte) { bufferPool.Put((*[32 << 10]byte)(b)) }

// lines keeps strangers from filling the log: one line of a kind in ten seconds. Kinds are few.
type lines struct {
	mu      sync.Mutex
	written map[string]time.Time
}

func (l *lines) allow(kind string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := now.Sub(l.written[kind]); age >= 0 && age < 10*time.Second {
		return false
	}
	if l.written == nil {
		l.written = map[string]time.Time{}
	}
	l.written[kind] = now
	return true
}
