package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Path is where a proxy asks: Path, and the name of a tenant. The name stands in the proxy's own
// configuration, so that no header that a client sends can choose another tenant's rules.
const Path = "/forward-auth/"

// ForwardAuth is the sidecar as other proxies use it: Traefik's forwardAuth, Caddy's forward_auth,
// nginx's auth_request (docs/forward-auth.md). It says whether a request may pass, and who calls.
//
// Whoever reaches it may ask: what is said is about the token that comes with the question, so
// that nobody learns what the token does not say. That is why no secret of a backend is told here.
type ForwardAuth struct {
	File    string // tenants file
	Sidecar string // URL of the sidecar of this process
	Log     *slog.Logger
	// Hop serves requests of plugins, and whatever no tenant has.
	Hop http.Handler

	table atomic.Pointer[table]
	lines lines
}

// Load takes the content of the tenants file. One with a fault changes nothing.
func (a *ForwardAuth) Load(content []byte) error {
	tenants, err := ParseTenants(a.File, content, a.Sidecar, Answering)
	if err != nil {
		return err
	}
	t, err := newTable(tenants, a.verdict)
	if err != nil {
		return err
	}
	a.table.Store(t)
	a.Log.Info("tenants", "file", a.File, "tenants", namesOf(tenants))
	return nil
}

// ServeHTTP tells apart who asks: a plugin by its hop header, a proxy by the path, and a client
// whose request for an OAuth path the proxy has passed on.
func (a *ForwardAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header["X-Mcpb-Hop"] != nil || r.URL.Path == "/healthz" {
		a.Hop.ServeHTTP(w, r)
		return
	}
	t := a.table.Load()
	if name, asks := strings.CutPrefix(r.URL.Path, Path); asks {
		a.answer(w, r, t.byName[name], name)
		return
	}
	// Not X-Forwarded-Host: each of the three proxies passes the client's Host on, and a client can
	// choose that one anyway.
	route, _ := t.find(r.Host, r.URL.Path)
	if route == nil {
		a.Hop.ServeHTTP(w, r)
		return
	}
	vouch(r.Header, route, true) // the proxy has said who the client is
	route.handler.ServeHTTP(w, r)
}

// maxShown bounds the body that is passed over, in bytes.
const maxShown = 16 << 20

// question is a request that a proxy asks about.
type question struct {
	asked http.Header // as the client sent it
	yes   bool        // the plugin lets it through
}

type questionKey struct{}

func (a *ForwardAuth) answer(w http.ResponseWriter, r *http.Request, route *route, name string) {
	// Traefik shows the body with forwardBody, and fails where it cannot write all of it.
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxShown))
	if route == nil {
		a.refuse(w, "unknown", "a proxy asks for a tenant that the tenants file does not have: make the name in its configuration and that in the file agree", "path", cut(Path+name))
		return
	}
	req, fault := a.original(r, route)
	if fault != "" {
		a.refuse(w, name, fault, "tenant", name)
		return
	}
	q := &question{asked: req.Header.Clone()}
	answer := &answerWriter{ResponseWriter: w, question: q}
	route.handler.ServeHTTP(answer, req.WithContext(context.WithValue(req.Context(), questionKey{}, q)))
	// Where nothing was said, net/http would say 200.
	answer.WriteHeader(http.StatusOK)
}

// original is the request that the proxy asks about. Each of its parts is said by one header that
// the proxy sets, and that is there once: if a client's own came through beside it, two programs
// could read two different requests.
func (a *ForwardAuth) original(r *http.Request, route *route) (req *http.Request, fault string) {
	said := map[string]string{}
	for _, name := range []string{"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host"} {
		values := r.Header[name]
		if len(values) != 1 || values[0] == "" || name != "X-Forwarded-Uri" && strings.ContainsAny(values[0], ", ") {
			return nil, "the proxy must send " + name + " once, and no client's: see docs/forward-auth.md"
		}
		said[name] = values[0]
	}
	u, err := url.ParseRequestURI(said["X-Forwarded-Uri"])
	if err != nil || !strings.HasPrefix(said["X-Forwarded-Uri"], "/") {
		return nil, "X-Forwarded-Uri is no path with a query: the proxy must send it as the client did: see docs/forward-auth.md"
	}
	if strings.Contains(u.Path, "/.well-known/") || strings.HasPrefix(u.Path, route.prefix+"/oauth/") {
		// The answer to these is the sidecar's own, and never that a server may answer.
		return nil, "the proxy asks about an OAuth path: have it pass these on to the sidecar: see docs/forward-auth.md"
	}
	for name := range r.Header {
		if slices.Contains(route.own, fold(name)) {
			return nil, forged
		}
	}
	header := r.Header.Clone()
	for _, name := range []string{"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Server", "X-Forwarded-Port", "Content-Length"} {
		delete(header, name)
	}
	// A connection that is upgraded is judged no more. With the plugin a WebSocket ends with its
	// token; here nobody could end it.
	for _, name := range []string{"Upgrade", "Http2-Settings", "Sec-Websocket-Key"} {
		if header[name] != nil {
			return nil, "a client wants to upgrade its connection, which only the plugin and the gateway can watch"
		}
	}
	delete(header, "Connection") // of the proxy
	host := said["X-Forwarded-Host"]
	vouch(header, route, true)
	header["X-Forwarded-Host"] = []string{host}
	req = &http.Request{Method: said["X-Forwarded-Method"], URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody, Host: host, RemoteAddr: r.RemoteAddr, RequestURI: said["X-Forwarded-Uri"]}
	return req.WithContext(r.Context()), ""
}

// refuse answers 403, which each proxy takes for a refusal. The client is not told why.
func (a *ForwardAuth) refuse(w http.ResponseWriter, kind, why string, args ...any) {
	if a.lines.allow(kind+" "+why, time.Now()) {
		a.Log.Warn("refused at /forward-auth/", append(args, "cause", why)...)
	}
	refuse(w, http.StatusForbidden, "forbidden")
}

const forged = "a client sent a header that only the bouncer may set"

// consumed are the headers that the plugin takes out of a good request, and that the pages have the
// proxy take out too.
var consumed = []string{"Authorization", "Cookie", "Dpop"}

// verdict stands behind the plugin. It is reached by requests that the plugin lets through, and
// says so to the proxy that asks.
func (a *ForwardAuth) verdict(t *Tenant) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, asks := r.Context().Value(questionKey{}).(*question)
		if !asks { // a client has come here by itself, with a token: there is nothing behind
			refuse(w, http.StatusNotFound, "not_found")
			return
		}
		// The plugin deletes headers that only it may set, in every spelling. The proxy overwrites
		// them in one, so a request that has any is refused as a whole.
		for name, values := range q.asked {
			if !slices.Contains(consumed, name) && !slices.Equal(r.Header[name], values) {
				a.refuse(w, t.Name, forged, "tenant", t.Name, "header", cut(name))
				return
			}
		}
		h := w.Header()
		for name, values := range r.Header {
			if _, sent := q.asked[name]; !sent || name == "Cookie" {
				h[name] = values
			}
		}
		q.yes = true
		w.WriteHeader(http.StatusOK)
	})
}

// cut bounds what a client has chosen, for the log.
func cut(text string) string { return text[:min(len(text), 64)] }

// answerWriter takes care that nothing but a verdict lets a request through: to a proxy, any status
// from 200 to 299 means yes. The plugin answers some requests itself (a preflight).
type answerWriter struct {
	http.ResponseWriter
	question *question
	begun    bool
	mute     bool
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answerWriter) WriteHeader(status int) {
	if a.begun {
		return
	}
	a.begun = true
	if status < http.StatusBadRequest && !a.question.yes {
		a.mute = true
		refuse(a.ResponseWriter, http.StatusForbidden, "forbidden")
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answerWriter) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.mute {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}
