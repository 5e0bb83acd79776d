//go:build go1.21

// Package plugin is the Traefik middleware of MCPBouncer: it puts OAuth 2.1 in front of an MCP
// server.
//
// The middleware owns every path at and under its prefix P (default "/" + resource):
//
//	what the label wellKnown names       of the MCP server, for everybody, below P and at the root
//	P/.well-known/…, P/oauth/…           to the sidecar, with the sealed configuration (hop.go)
//	/.well-known/NAME + P + …            the same, path-inserted: RFC 8414 §3.1, RFC 9728 §3.1
//	CORS preflight                       answered here, never forwarded
//	everything else under P              needs an access token (RFC 9068), verified here; else 401
//	whatever is not under P              404: PathPrefix(`/wiki`) also matches /wikileaks
//
// The MCP server behind sees X-Mcp-Sub and X-Mcp-Scopes, and what else the labels ask for
// (identity.go, backendassertion.go, backendauthorization.go). It never sees the access token, the
// bouncer's cookies, or an identity header that a client made up.
//
// Labels may ask for scopes by tool, method, resource or prompt; then each message is read
// (message.go) and judged (package mcp). For itself the plugin asks the sidecar for its signing
// keys (keys.go), for what the operator has ended (deny.go), for an access token in exchange for a
// bearer key (bearerkey.go), and for the assertion (docs/hop.md). What it knows from there is a
// sidecarState for each tenant.
//
// Three words are used throughout. The sidecar is the authorization server, a process beside
// Traefik. A tenant is the configuration of one middleware under one public URL. The hop is the way
// from here to the sidecar.
//
// Traefik interprets this package with Yaegi, which compiles some ordinary Go into something else.
// The test in lint_test refuses such Go, and lists what would happen.
package plugin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// now is the clock of the package. Tests set it.
var now = time.Now

// bouncer is one middleware on one router.
type bouncer struct {
	name     string // of the middleware, for the log
	next     http.Handler
	settings *settings
	own      *ownHeaders // of settings: in Yaegi each step to a field costs
	special  bool        // of settings
	more     bool        // labels ask for more than subject and scopes
	judges   bool        // judgesAlone

	mu          sync.RWMutex
	byPublicURL map[string]*tenant // that the operator has named, or where a token was good
	strangers   map[string]*tenant // the others, by public URL; bounded by maxTenants
	// scheme and host as the request spelt them → one of byPublicURL; plain spellings only
	tenants map[string]*tenant
	// address as the request spelt it → protected endpoint; bounded by maxEndpoints + maxPassing
	endpoints   map[string]*endpoint
	passing     []string // addresses at which no token was good yet; bounded by maxPassing
	nextPassing int      // of which the next one goes

	known *knownRequests
}

// New makes the middleware. Traefik calls it in its only configuration goroutine, again at each
// reload. So New does no I/O, and catches a panic, which would end all reloads until a restart.
//
// The error is always nil: on an error Traefik drops the router, and another router that matches
// the same path would serve it unauthenticated. A bad configuration is logged and answered with 503
// instead, which keeps the path claimed.
func New(_ context.Context, next http.Handler, config *Config, name string) (handler http.Handler, err error) {
	defer func() {
		if r := recover(); r != nil {
			handler = misconfigured(name, fmt.Errorf("internal error: %v", r))
		}
	}()
	s, problem := parseConfig(config)
	if problem != nil {
		return misconfigured(name, problem), nil
	}
	b := newBouncer(name, next, s)
	if noteLoad(name, s) && checksAtLoad {
		startCheck(func() { b.check() })
	}
	return shortWay(b), nil
}

func newBouncer(name string, next http.Handler, s *settings) *bouncer {
	judges := s.rules != nil && judgesAlone(s) // most have no rules, and a call costs in Yaegi
	return &bouncer{name: name, next: next, settings: s, own: s.own, special: s.special, more: s.special || len(s.identityHeaders) > 0 || s.upstream != nil, judges: judges,
		tenants: map[string]*tenant{}, byPublicURL: map[string]*tenant{}, endpoints: map[string]*endpoint{}, known: newKnownRequests(s.own, judges)}
}

// misconfigured answers 503 to all requests. Only the operator is told the reason.
func misconfigured(name string, reason error) http.Handler {
	line := fmt.Sprintf("it is misconfigured and answers 503: %v", reason)
	complain(name, "misconfigured", line)
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		complain(name, "misconfigured", line)
		dropNamed(req.Header)
		answer(rw, req, http.StatusServiceUnavailable, `{"error":"misconfigured"}`)
	})
}

// serve decides which kind a request is. Forged headers are dropped first, so that no route can
// pass them on. Requests whose outcome is known take the short way instead (known.go).
//
// What most requests need is done by functions and not by methods: in Yaegi a call costs an
// allocation for each variable and each intermediate result of the callee, and a method call also
// makes a new function by reflection.
func serve(b *bouncer, rw http.ResponseWriter, req *http.Request) {
	if tooManyHeaders(req.Header) { // before any loop over them
		refuseSize(b, rw, req)
		return
	}
	if dropForged(req.Header) {
		refuseLoop(b, rw, req)
		return
	}
	if b.own != nil {
		dropOwn(req.Header, b.own)
	}
	e := recallEndpoint(b, req)
	if e == nil {
		serveFirst(b, rw, req)
		return
	}
	if e.kept && req.Header["Cookie"] == nil && req.Header[proofHeader] == nil {
		learnEndpoint(b, req, e)
	}
	id := recallIdentity(e.sidecar, req.Header["Authorization"])
	if id == nil {
		protect(b, rw, req, e)
		return
	}
	learn(b, req, e, id)
	pass(b, rw, req, e, id)
}

// servePlainly is serve for a request with plain headers and with credentials, of which
// plainEndpoint has found the endpoint.
func servePlainly(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint) {
	id, known := recall(e.sidecar, req.Header["Authorization"])
	if id == nil {
		if known || e.proofs {
			protect(b, rw, req, e)
			return
		}
		admit(b, rw, req, e)
		return
	}
	learn(b, req, e, id)
	pass(b, rw, req, e, id)
}

// refuseLoop answers a request that was meant for the sidecar (RFC 5842 §7.2). Otherwise each such
// request would make the next one, until Traefik has no file descriptors left. A client that sends
// such a header only has its own request refused.
func refuseLoop(b *bouncer, rw http.ResponseWriter, req *http.Request) {
	b.countAstray("loop")
	complain(b.name, "loop", "a request for the sidecar came back to a middleware of MCPBouncer (this one's label sidecarURL is "+b.settings.sidecar.String()+"): give the address of the sidecar itself")
	answer(rw, req, http.StatusLoopDetected, `{"error":"loop_detected","error_description":"a request for the authorization server came back"}`)
}

// serveFirst is serve for an address that is not known to be protected. It makes the whole
// decision.
func serveFirst(b *bouncer, rw http.ResponseWriter, req *http.Request) {
	t, err := b.tenantOf(req)
	if err != nil {
		b.refuseHost(rw, req, hostOf(req), err)
		return
	}
	kind, path := b.settings.route(req.URL)
	if kind == routePublic && !isPlainRead(req) {
		kind = routeSidecar // it has no such document either, and answers so
	}
	switch {
	case kind == routeProtected && req.Method == http.MethodOptions && isPreflight(req.Header):
		answerPreflight(rw, req.Header)
	case kind == routeProtected:
		e := b.newEndpoint(req, t, path)
		id := recallIdentity(e.sidecar, req.Header["Authorization"])
		if id == nil {
			protect(b, rw, req, e)
			return
		}
		if !e.kept {
			keepEndpoint(b, req, e)
		}
		pass(b, rw, req, e, id)
	case kind == routeSidecar:
		b.forward(rw, req, t, path)
	case kind == routePublic:
		passPublic(b, rw, req)
	case kind == routeMalformed:
		b.refuseMalformed(rw, req)
	default:
		b.refuseForeign(rw, req, t)
	}
}

// isPlainRead says that a request asks for a document, and holds nothing that a server could take
// for more.
func isPlainRead(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) && req.URL.RawQuery == "" && !carriesMessage(req)
}

// passPublic hands on a request for a document that anybody may read. The request has no identity,
// because nobody was asked for a token.
func passPublic(b *bouncer, rw http.ResponseWriter, req *http.Request) {
	for _, name := range []string{"Authorization", proofHeader, "Cookie", subjectHeader} {
		delete(req.Header, name)
	}
	dropUpgrade(req.Header)
	dropRedirections(req.Header)
	if b.settings.cors { // for all requests: a cache may show the answer to a script
		allowScripts(rw.Header())
	}
	a := &publicAnswer{client: rw}
	b.next.ServeHTTP(a, req)
	a.WriteHeader(http.StatusOK) // if nothing was written: an answer has headers
	if b.settings.cors {
		complainOfOwnCORS(b.name, rw.Header())
	}
}

// keptByBrowsers are headers by which one answer changes what a browser does with others of its
// origin. A cookie could replace that of a login. Reports (Network Error Logging, Reporting API)
// would tell the MCP server each URL, and at the callback the provider's code stands in it.
var keptByBrowsers = []string{"Set-Cookie", "Clear-Site-Data", "Nel", "Report-To", "Reporting-Endpoints"}

// publicAnswer is the MCP server's answer to a request that needs no token. Any browser may open
// it, and the consent page has the same origin: a script there could press its Allow, and a cookie
// could replace that of a login. The answer is a document, never a stream, so the wrapper that
// loses Flusher in Yaegi loses nothing.
type publicAnswer struct {
	client http.ResponseWriter
	begun  bool
}

func (a *publicAnswer) Header() http.Header { return a.client.Header() }

// WriteHeader leaves out interim answers: what they hint at is for pages.
func (a *publicAnswer) WriteHeader(status int) {
	if a.begun || status < http.StatusOK {
		return
	}
	a.begun = true
	h := a.client.Header()
	for _, name := range keptByBrowsers {
		delete(h, name)
	}
	// A page in a sandbox has an origin of its own and runs no script (HTML §7.1.6). Browsers obey
	// each policy of an answer: the server keeps its own.
	h["Content-Security-Policy"] = append(h["Content-Security-Policy"], "sandbox")
	h["X-Content-Type-Options"] = []string{"nosniff"} // no document is a script to another page
	a.client.WriteHeader(status)
}

func (a *publicAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK) // if nothing was written yet
	return a.client.Write(p)
}

// protect lets a request through to the MCP server if its token is good.
func protect(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint) {
	var id *identity
	if req.Header["Authorization"] != nil {
		if e.proofs && comesWithProof(req.Header["Authorization"]) {
			protectByProof(b, rw, req, e)
			return
		}
		id = reviveIdentity(e.tenant, req, req.Header["Authorization"])
	}
	if id == nil {
		admit(b, rw, req, e)
		return
	}
	if !e.kept {
		keepEndpoint(b, req, e)
	}
	pass(b, rw, req, e, id)
	complainOfOwnChallenge(b, rw.Header(), e)
}

// admit is protect for a token that is not remembered.
func admit(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint) {
	id, err := authenticate(e.tenant, req)
	if err != nil {
		if err == errNoToken {
			learnEndpoint(b, req, e)
		}
		refuse(e, rw, req, err)
		return
	}
	if !e.kept {
		keepEndpoint(b, req, e)
	}
	pass(b, rw, req, e, id)
	complainOfOwnChallenge(b, rw.Header(), e)
}

// pass hands a request on to the MCP server, with the identity of the caller. A message is read
// first: see holdBody.
func pass(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) {
	if req.Header["Connection"] != nil {
		passConnection(b, rw, req, e, id)
		return
	}
	n := req.ContentLength
	if n > maxUncounted || n < 0 {
		passCounted(b, rw, req, e, id)
		return
	}
	if b.special {
		passSpecially(b, rw, req, e, id, nil)
		return
	}
	if n > 0 {
		if _, status := holdBody(req, maxMessage, nil); status != 0 {
			answerUnread(b.name, rw, req, status)
			return
		}
	}
	identify(req.Header, id)
	// rw is handed on as it came: a wrapper made in Yaegi would lose Flusher and Hijacker, and with
	// them SSE and WebSocket.
	b.next.ServeHTTP(rw, req)
}

// passSpecially is pass for a middleware whose labels ask for more: rules, an assertion, an
// Authorization header for the MCP server, CORS. s is the share of the budget of a message that is
// counted.
func passSpecially(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, s *share) {
	r := b.settings.rules
	lists := false
	if r != nil {
		ok, listing := permit(r, rw, req, e, id, s)
		if !ok {
			return
		}
		lists = listing
	} else if !holdOrStream(b.name, rw, req, s) {
		return
	}
	if id.assertion == nil && b.settings.backend == nil {
		identify(req.Header, id)
	} else if !credentialize(b, rw, req, e, id) {
		return
	}
	if b.settings.cors {
		shareWithScripts(rw, req)
	}
	if lists && b.settings.hide {
		serveListing(b, rw, req, id.scopes)
		return
	}
	b.next.ServeHTTP(rw, req)
	if b.settings.cors {
		complainOfOwnCORS(b.name, rw.Header())
	}
}

// credentialize is identify for an MCP server that wants an assertion, or an Authorization header
// of its own. A request without them is not passed on.
func credentialize(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) bool {
	text := ""
	if id.assertion != nil {
		signed, err := assertionFor(req, e.tenant, id.assertion)
		if err != nil {
			refuse(e, rw, req, err)
			return false
		}
		text = signed
	}
	secret := ""
	if b.settings.backend != nil {
		value, err := b.settings.backend.header(now().Unix())
		if err != nil {
			complain(b.name, "backend", err.Error())
			dropSaid(req.Header)
			rw.Header()["Retry-After"] = []string{strconv.Itoa(retryAfter)}
			answer(rw, req, http.StatusServiceUnavailable, `{"error":"misconfigured"}`)
			return false
		}
		secret = value
	}
	identify(req.Header, id)
	for _, h := range e.tenant.identityHeaders {
		if h.claim == "assertion" {
			req.Header[h.name] = []string{text}
		}
	}
	if secret != "" {
		req.Header["Authorization"] = []string{secret}
	}
	return true
}

// answer sends a JSON body. With no-store, no cache may give the answer to somebody else. Scripts
// of a page may read it, as they may read answers of the sidecar: otherwise a client in a browser
// sees nothing but "failed to fetch".
func answer(rw http.ResponseWriter, req *http.Request, status int, body string) {
	shareWithScripts(rw, req)
	answerAs(rw, status, "application/json", body)
}

func answerAs(rw http.ResponseWriter, status int, mediaType, body string) {
	h := rw.Header()
	h["Content-Type"] = []string{mediaType}
	h["Cache-Control"] = []string{"no-store"}
	rw.WriteHeader(status)
	_, _ = rw.Write([]byte(body))
}
