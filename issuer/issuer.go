// Package issuer is the sidecar: a stateless OAuth 2.1 authorization server that federates every
// login to the tenant's OpenID provider (package provider).
//
// It keeps nothing. What it has to remember between two requests it seals (package sealing) and
// hands to the browser or the client; which tenant it serves arrives with each request in the hop
// header (docs/hop.md). Any replica with the same master secret can answer any request. Only an
// optional replay guard remembers anything: which codes and refresh tokens were used (package
// replay, docs/replay.md). Whom the operator has shut out stands in an optional deny document,
// which is read and never written here (package deny).
//
//	/.well-known/oauth-authorization-server[/…]  metadata.go    RFC 8414
//	/.well-known/openid-configuration[/…]        metadata.go    the same document
//	/.well-known/oauth-protected-resource[/…]    metadata.go    RFC 9728
//	/oauth/jwks.json                             metadata.go    RFC 7517
//	/oauth/client-jwks.json                      metadata.go    our client's keys
//	/oauth/register                              register.go    RFC 7591
//	/oauth/authorize                             authorize.go   RFC 6749 §4.1.1, 7636, 8707
//	/oauth/consent                               consent.go     the person's answer
//	/oauth/callback                              callback.go    back from the provider
//	/oauth/token                                 token.go       RFC 6749 §4.1.3, §4.4 and §6
//	/oauth/revoke                                revoke.go      RFC 7009
//	/healthz                                     issuer.go      no hop header needed
//
// And, for the plugin itself, which forwards no client there (docs/hop.md):
//
//	/hop/deny                                    denied.go      whom the operator has shut out
//	/hop/token                                   machine.go     an access token for a bearer key
//	/hop/assertion                               backend.go     a JWT for the MCP server
//
// docs/flow.md tells one login step by step.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Config is all that the sidecar knows besides what a request brings. A field may be left at its
// zero value where its comment names a default.
type Config struct {
	// # Secrets and keys

	// Ring holds the master secrets, from which everything else follows. Required.
	Ring *sealing.Ring

	// Schedule says how long one signing key signs, and how long it is published afterwards.
	// Required.
	Schedule sealing.Schedule

	// # How long tokens and logins last

	// AccessTokenTTL is the life of an access token, at least a minute. Required.
	AccessTokenTTL time.Duration

	// RefreshTokenTTL is how long a login lasts at most, however often it is refreshed: at least
	// AccessTokenTTL. Required.
	RefreshTokenTTL time.Duration

	// SessionTTL is the same for a login whose provider gave no refresh token to ask it again with:
	// at least AccessTokenTTL. Required.
	SessionTTL time.Duration

	// RefreshIdleTTL is for how long a refresh token is accepted that is not used: at least
	// AccessTokenTTL. Default: RefreshTokenTTL.
	RefreshIdleTTL time.Duration

	// # What is remembered, and who is shut out

	// ReplayGuard remembers which codes and refresh tokens were used, for at least RefreshIdleTTL.
	// Default: nil, so nothing is remembered.
	ReplayGuard *replay.Guard

	// Deny is whom the operator has shut out. Default: nil, so nobody is.
	Deny *deny.Source

	// # Client metadata documents

	// MetadataDocuments is whether a client_id may be the URL of a client metadata document. False
	// is for a sidecar that cannot reach the internet. Default: nil, which is true.
	MetadataDocuments *bool

	// TrustedDocumentHosts are the hosts, as host:port, of client metadata documents that may have
	// a special-use address: those inside the operator's network. Default: none.
	TrustedDocumentHosts []string

	// DocumentTransport reaches client metadata documents. One that is given decides by itself what
	// it dials. Default: one that dials public addresses and TrustedDocumentHosts.
	DocumentTransport http.RoundTripper

	// # The process

	// OnLambda is whether this process is one of many short-lived ones of AWS Lambda. The URL is
	// then open to everybody, and each process says anew what it has to say. Default: false.
	OnLambda bool

	// Version is what /healthz shows, other than on Lambda. Default: empty.
	Version string

	// Log is where everything is logged. Default: slog.Default().
	Log *slog.Logger

	// Getenv reads the variable of a client secret that a label names as env:NAME. It returns an
	// empty text for one that is not set. Default: os.Getenv.
	Getenv func(string) string

	// Transport reaches the providers (package outgoing). Default: http.DefaultTransport.
	Transport http.RoundTripper

	// # Time and goroutines, which tests replace

	// Now is the time, without the monotonic clock. Default: WallClock.
	Now func() time.Time

	// Wait waits before a provider is asked again. It fails where the request would end before
	// that. Default: a timer.
	Wait func(context.Context, time.Duration) error

	// Background runs what no request waits for. Default: in a goroutine.
	Background func(func())
}

// Issuer answers for all tenants. It is safe for concurrent use.
type Issuer struct {
	Config
	hops hopCache
	// hopLines and strangerLines bound the lines about hop headers that are refused.
	hopLines, strangerLines lineLimit

	providers provider.Providers
	documents clientdoc.Fetcher
	denied    *deny.List // nil: nothing is denied
	announced forget.Once
	asking    atomic.Int32 // tenants whose provider is asked ahead of a login
	met       lastTenants
	inFlight  flights
	counters  counters
	keepsOld  forget.Once // tenants whose provider takes used refresh tokens again

	unfinished unfinished // codes that are spent and gave no login yet
	redeeming  turns
}

// New checks the configuration that could break tokens later: every error is one that would show
// only at the next rotation.
func New(c Config) (*Issuer, error) {
	if c.Ring == nil {
		return nil, errors.New("issuer: no master secret")
	}
	if err := c.Schedule.Check(c.AccessTokenTTL); err != nil {
		return nil, err
	}
	if c.AccessTokenTTL < time.Minute || c.RefreshTokenTTL < c.AccessTokenTTL || c.SessionTTL < c.AccessTokenTTL {
		return nil, errors.New("token lives must be at least one minute, and a login must outlive an access token")
	}
	if c.RefreshIdleTTL == 0 {
		c.RefreshIdleTTL = c.RefreshTokenTTL
	}
	if c.RefreshIdleTTL < c.AccessTokenTTL {
		return nil, errors.New("a refresh token must be good for longer than an access token, also when it is not used")
	}
	if !c.ReplayGuard.Remembers(c.RefreshIdleTTL, c.RefreshTokenTTL) {
		return nil, errors.New("the replay guard would forget refresh tokens that are still good")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = WallClock
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = outgoing.NewTransport(c.Transport)
	if c.Wait == nil {
		c.Wait = outgoing.Wait
	}
	if c.Background == nil {
		c.Background = func(f func()) { go f() }
	}
	if c.MetadataDocuments == nil {
		c.MetadataDocuments = new(true)
	}
	if c.DocumentTransport == nil {
		c.DocumentTransport = clientdoc.NewTransport(c.TrustedDocumentHosts)
	}
	if c.AccessTokenTTL <= refreshAhead {
		c.Log.Warn("access tokens live so short that widely used clients refresh before each request: let BOUNCER_ACCESS_TOKEN_TTL be more than 5 minutes", "seconds", int64(c.AccessTokenTTL/time.Second))
	}
	s := &Issuer{Config: c}
	s.providers = provider.Providers{Ring: c.Ring, Transport: c.Transport, Now: c.Now, Wait: c.Wait, Getenv: c.Getenv, Log: c.Log, OnLambda: c.OnLambda}
	s.documents = clientdoc.Fetcher{Transport: c.DocumentTransport, Reserved: s.reservedHost, Now: c.Now, Log: c.Log}
	if c.Deny != nil {
		s.denied = &deny.List{Source: c.Deny, Now: c.Now, Log: c.Log, Failed: func() { s.counters.add(denyFailures) }}
	}
	return s, nil
}

// CloseIdleConnections gives up all connections that nothing is using. It is for a process that is
// frozen between requests: whoever is at the other end does not wait for it.
func (s *Issuer) CloseIdleConnections() {
	for _, client := range []any{s.Transport, s.Deny, s.ReplayGuard} {
		if c, ok := client.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// Caps on what a request may bring, so that what is too large is refused here, with a reason. The
// header cap is the server's MaxHeaderBytes; cmd/mcpbouncer sets it from here.
const (
	MaxHeaderBytes  = 32 << 10
	maxBody         = 64 << 10
	maxRegistration = 16 << 10
	maxClientID     = 1000 // characters; longer ones do not survive as part of a URL on Windows
	maxState        = 1024 // of the client
	// characters of state, resource, scope and redirect URI together: sealed, they fit a cookie of
	// 4 KB
	maxRequest       = 2600
	maxRedirectURIs  = 5
	maxScopes        = 1024 // of a tenant, which codes and tokens carry
	cacheableSeconds = "300"
)

// WallClock is time.Now without the monotonic clock, which stands still while a machine sleeps or
// is frozen: ages would leave the night out.
func WallClock() time.Time { return time.Now().Round(0) }

// LongestAnswer bounds what a request waits for, once it is here: its client's document and the
// keys that this names, the deny document, and a refresh (5 + 5 + 3 + 25 s). A redemption waits for
// less than a refresh: discovery, another request with its code, the provider and the guard.
const LongestAnswer = 2*clientdoc.Timeout + deny.Timeout + refreshTimeout

// A route is a path with its one method. Cross-origin scripts may read those that hold no page: RFC
// 9700 forbids CORS at the authorization endpoint.
type route struct {
	path, method string
	cors         bool
	handle       func(http.ResponseWriter, *http.Request, *tenant) error
}

func (s *Issuer) routes() []route {
	return []route{
		{"/.well-known/oauth-authorization-server", "GET", true, s.metadata},
		{"/.well-known/oauth-authorization-server/", "GET", true, s.metadata},
		{"/.well-known/openid-configuration", "GET", true, s.metadata},
		{"/.well-known/openid-configuration/", "GET", true, s.metadata},
		{"/.well-known/oauth-protected-resource", "GET", true, s.protectedResource},
		{"/.well-known/oauth-protected-resource/", "GET", true, s.protectedResource},
		{"/oauth/jwks.json", "GET", true, s.jwks},
		{provider.ClientKeysPath, "GET", true, s.clientKeys},
		{"/oauth/register", "POST", true, s.register},
		{"/oauth/token", "POST", true, s.authenticated(s.token)},
		{"/oauth/revoke", "POST", true, s.authenticated(s.revoke)},
		{"/hop/token", "POST", false, s.exchangeKey},
		{"/hop/assertion", "POST", false, s.assertToBackend},
		{"/hop/deny", "GET", false, s.hopDeny},
	}
}

// pageRoutes are for people: whatever goes wrong there is a page too.
func (s *Issuer) pageRoutes() []route {
	return []route{
		{"/oauth/authorize", "GET", false, s.page(s.authorize)},
		{"/oauth/consent", "POST", false, s.page(s.consent)},
		{"/oauth/callback", "GET", false, s.page(s.callback)},
	}
}

// Handler serves all routes. It is no http.ServeMux, which redirects //oauth/token and its like by
// itself: before any hop header was asked for.
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
		hop, err := s.openHop(r.Header.Get(hopHeader))
		if err != nil {
			s.refuseHop(w, r, err)
			return
		}
		t := hop.tenant
		restoreAuthorization(r.Header)
		h := w.Header()
		h[MarkHeader] = hop.mark
		h["X-Content-Type-Options"] = nosniff
		h["Cache-Control"] = noStore
		h["Vary"] = varyByHop
		if rt.cors {
			h["Access-Control-Allow-Origin"] = anyOrigin
			h["Access-Control-Expose-Headers"] = exposedHeaders
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

// Values of headers that every answer has, shared by all: Set and Add make new ones, and what else
// changes a header makes a copy.
var (
	nosniff = []string{"nosniff"}
	noStore = []string{"no-store"} // RFC 6749 §5.1; public documents replace it
	// All tenants' documents have one address here: a cache before the sidecar must not mix them
	// up.
	varyByHop      = []string{hopHeader}
	anyOrigin      = []string{"*"} // no cookies count here, so no origin is special
	exposedHeaders = []string{"WWW-Authenticate"}
	refusedHop     = []string{"refused"}
	unboundMark    = []string{UnboundMark}
)

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
		if len(name) <= 64 && len(allowed) < 32 && headerName.MatchString(name) {
			allowed = append(allowed, name)
		}
	}
	return strings.Join(allowed, ", ")
}

// headerName is a token of RFC 9110 §5.6.2.
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// healthz shows which masters this replica holds, so that an operator can compare replicas before a
// new master is promoted. Master ids are public: they stand in every sealed value. The counters are
// this replica's own. A function's URL is for strangers too, who learn nothing from it; its log
// shows the masters.
func (s *Issuer) healthz(w http.ResponseWriter, r *http.Request) {
	health := map[string]any{"status": "ok"}
	if !s.OnLambda {
		health["version"], health["masters"], health["counters"] = s.Version, s.Ring.MasterIDs(), s.counters.snapshot()
	}
	w.Header().Set(MarkHeader, UnboundMark)
	writeJSON(w, http.StatusOK, health)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("issuer: internal error: " + err.Error())
	}
	writeBody(w, status, "application/json", body)
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(body)
}
