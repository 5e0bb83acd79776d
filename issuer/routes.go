package issuer

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// A route is a path with its one method. Cross-origin scripts may read the routes with cors. The
// pages are without it: RFC 9700 forbids CORS at the authorization endpoint.
type route struct {
	path, method string
	cors         bool
	handle       func(http.ResponseWriter, *http.Request, *tenant) error
}

// routes are those whose errors are JSON; pageRoutes are the rest. A new endpoint is a row of one
// of these tables, by the kind of caller.
func (s *Issuer) routes() []route {
	return slices.Concat(s.documentRoutes(), s.clientRoutes(), s.pluginRoutes())
}

// clientRoutes are for programs, which register and then authenticate in each request.
func (s *Issuer) clientRoutes() []route {
	return []route{
		{"/oauth/register", "POST", true, s.register},
		{"/oauth/token", "POST", true, s.tokenEndpoint},
		{"/oauth/revoke", "POST", true, s.authenticated(s.revoke)},
	}
}

// Handler serves all routes. It is not an http.ServeMux, which would redirect //oauth/token and its
// like before it asks for a hop header.
func (s *Issuer) Handler() http.Handler {
	// :: path → endpoint
	handlers := map[string]http.Handler{"/healthz": http.HandlerFunc(s.healthz)}
	for _, rt := range s.routes() {
		handlers[rt.path] = s.behindHop(rt, s.writeError)
	}
	for _, rt := range s.pageRoutes() {
		handlers[rt.path] = s.behindHop(rt, s.writeErrorPage)
	}
	unknown := s.behindHop(route{cors: true, handle: func(http.ResponseWriter, *http.Request, *tenant) error {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Description: "there is no such endpoint"}
	}}, s.writeError)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, below := splitDocument(r.URL.Path)
		if below != "" {
			path += "/"
		}
		if h, ok := handlers[path]; ok {
			h.ServeHTTP(w, r)
			return
		}
		unknown.ServeHTTP(w, r)
	})
}

// splitDocument splits the path of a well-known document, which has others below it, one for each
// MCP endpoint.
func splitDocument(path string) (document, below string) {
	const wellKnown = "/.well-known/"
	if name, ok := strings.CutPrefix(path, wellKnown); ok {
		if i := strings.IndexByte(name, '/'); i >= 0 {
			return wellKnown + name[:i], name[i:]
		}
	}
	return path, ""
}

// behindHop is the only way to a route: hop first, then method, then the endpoint. fail writes its
// errors.
func (s *Issuer) behindHop(rt route, fail func(http.ResponseWriter, *http.Request, *tenant, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hop, err := s.openHop(r.Header.Get(hopHeader), comesLate(rt.path))
		if err != nil {
			s.refuseHop(w, r, err)
			return
		}
		t := hop.tenant
		// Nobody but the plugin begins a span, so a stranger with no hop header costs no trace.
		w, r, span := s.Trace.Serve(w, r, cmp.Or(rt.path, "unknown"), t.Resource)
		defer span.End()
		t = t.tracedAs(span.TraceID())
		restoreAuthorization(r.Header)
		h := w.Header()
		h[MarkHeader] = hop.mark
		h["X-Content-Type-Options"] = nosniff
		h["Cache-Control"] = noStore
		h["Vary"] = varyByHop
		if rt.cors {
			h["Access-Control-Allow-Origin"] = anyOrigin
			h["Access-Control-Expose-Headers"] = exposedHeaders
			if t.DPoP != dpopOff {
				h["Access-Control-Expose-Headers"] = exposedWithNonce
			}
		}
		switch {
		case rt.method == "": // there is nothing here to have a method
			err = rt.handle(w, r, t)
		case rt.cors && r.Method == http.MethodOptions:
			h.Set("Access-Control-Allow-Methods", rt.method)
			h.Set("Access-Control-Allow-Headers", allowedHeaders(r.Header.Values("Access-Control-Request-Headers")))
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		case r.Method != rt.method && (r.Method != http.MethodHead || rt.method != http.MethodGet):
			h.Set("Allow", rt.method)
			err = &Error{Status: http.StatusMethodNotAllowed, Code: "invalid_request", Description: "this address cannot be opened like this: it takes " + rt.method}
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			err = rt.handle(w, r, t)
		}
		if err != nil {
			fail(w, r, t, err)
		}
	})
}

// allowedHeaders answers a preflight as the plugin does for the MCP server's paths: SDKs put
// headers of their own on every request, and none of them decides anything here.
func allowedHeaders(asked []string) string {
	allowed := []string{"Authorization", "Content-Type", "Mcp-Protocol-Version"}
	names := strings.Join(asked, ",")
	if len(names) > 1024 { // no browser asks for so many
		return strings.Join(allowed, ", ")
	}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		if len(name) <= 64 && len(allowed) < 32 && headerName.Get().MatchString(name) {
			allowed = append(allowed, name)
		}
	}
	return strings.Join(allowed, ", ")
}

// headerName is a token of RFC 9110 §5.6.2.
var headerName = lazyregexp.Regexp{Text: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("issuer: internal error: " + err.Error())
	}
	writeBody(w, status, jsonType, body)
}

func writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	w.Header()["Content-Type"] = contentType
	w.WriteHeader(status)
	w.Write(body)
}

// These values of headers are shared by all answers. Nobody changes them: Set and Add make new
// ones.
var (
	nosniff = []string{"nosniff"}
	noStore = []string{"no-store"} // RFC 6749 §5.1; public documents replace it
	// in seconds
	cacheable = []string{"public, max-age=300"}
	jsonType  = []string{"application/json"}
	htmlType  = []string{"text/html; charset=utf-8"}
	// All tenants' documents have one address here: a cache before the sidecar must not mix them
	// up.
	varyByHop      = []string{hopHeader}
	anyOrigin      = []string{"*"} // no cookie counts there, so no origin is special
	exposedHeaders = []string{"WWW-Authenticate"}
	// RFC 9449 §8: a client in a browser must read the nonce.
	exposedWithNonce = []string{"WWW-Authenticate, DPoP-Nonce"}
	refusedHop       = []string{"refused"}
	unboundMark      = []string{UnboundMark}
)

// tokenForm reads parameters from the body only, each at most once (RFC 6749 §3.2): one in the URL
// would stand in logs. It can be called again for the same request.
func tokenForm(r *http.Request) (url.Values, error) {
	if contentType := r.Header.Get("Content-Type"); contentType != formType {
		mediaType, _, err := mime.ParseMediaType(contentType)
		if err != nil || mediaType != formType {
			return nil, invalidRequest("the body must be " + formType)
		}
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong into the body")
	}
	if r.PostForm != nil {
		return r.PostForm, nil
	}
	body, err := readBody(r)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, err
	}
	form, errForm := url.ParseQuery(string(body))
	if err != nil || errForm != nil {
		return nil, invalidRequest("the body is not a well-formed form")
	}
	for name, values := range form {
		if len(values) > 1 && name != "resource" {
			return nil, invalidRequest("a parameter is repeated")
		}
	}
	r.PostForm = form
	return form, nil
}

const formType = "application/x-www-form-urlencoded"

// readBody reads a body, whose size the caller has bounded. Room is made for what the client
// announces, up to a page: whoever announces more gets it as the bytes come.
func readBody(r *http.Request) ([]byte, error) {
	// One byte more than announced, so that the end is found without more room.
	body := make([]byte, 0, min(max(r.ContentLength, 0), 4<<10)+1)
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return body, err
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}
