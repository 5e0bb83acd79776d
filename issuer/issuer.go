// Package issuer is the sidecar: a stateless OAuth 2.1 authorization server that federates every
// login to the tenant's OpenID provider (package provider).
//
// It keeps nothing. It seals what it has to remember between two requests (package sealing), and
// hands that to the browser or the client. Each request says in its hop header which tenant is
// served (docs/hop.md). Any replica with the same master secret can answer any request. Only an
// optional replay guard remembers anything: which codes and refresh tokens were used (package
// replay, docs/replay.md). An optional deny document says whom the operator has shut out; it is
// read and never written here (package deny).
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
//	/oauth/token                                 token.go       RFC 6749 §3.2
//	    authorization_code                       code.go        RFC 6749 §4.1.3
//	    refresh_token                            refresh.go     RFC 6749 §6
//	    client_credentials                       machine.go     RFC 6749 §4.4
//	    and the client's proof of a key          dpop.go        RFC 9449 §5
//	/oauth/revoke                                revoke.go      RFC 7009
//	/healthz                                     operator.go    no hop header needed
//
// And, for the plugin itself, which forwards no client there (docs/hop.md):
//
//	/hop/deny                                    denied.go      whom the operator has shut out
//	/hop/token                                   machine.go     an access token for a bearer key
//	/hop/assertion                               accesstoken.go  a JWT for the MCP server
//
// docs/flow.md tells one login step by step.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/issuer/trace"
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

	// Metrics counts what happens. Default: nil, so nothing is counted.
	Metrics *metrics.Metrics

	// Trace records what a request did, and how long it took. Default: nil, so nothing is recorded.
	Trace *trace.Tracer

	// Version is what /healthz shows, other than on Lambda. Default: empty.
	Version string

	// Log is where everything is logged. Default: slog.Default().
	Log *slog.Logger

	// LogSubjects is whether the log names people by the provider's subject too, beside the
	// pseudonym. Default: false.
	LogSubjects bool

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
	hops   hopCache
	opened openedClients
	// hopLines and strangerLines bound the lines about hop headers that are refused.
	hopLines, strangerLines lineLimit

	providers provider.Providers
	documents clientdoc.Fetcher
	denied    *deny.List // nil: nothing is denied
	announced forget.Once
	presented forget.Once  // logins whose access token a plugin has seen
	asking    atomic.Int32 // tenants whose provider is asked ahead of a login
	met       lastTenants
	epoch     atomic.Uint32 // whose key signed last, as far as the log says
	inFlight  flights
	counters  counters
	keepsOld  forget.Once // tenants whose provider takes used refresh tokens again

	unfinished unfinished // codes that are spent and gave no login yet
	redeeming  turns
}

// New checks the configuration. Each of its errors would otherwise show later only, at the next
// rotation of keys or the next refresh.
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
		log := c.Log
		c.Background = func(f func()) { go survived(log, f) }
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
	s.epoch.Store(c.Schedule.Epoch(c.Now()))
	s.providers = provider.Providers{Ring: c.Ring, Transport: c.Transport, Now: c.Now, Wait: c.Wait, Getenv: c.Getenv, Log: c.Log, OnLambda: c.OnLambda, Asked: c.Metrics.Provider}
	s.documents = clientdoc.Fetcher{Transport: c.DocumentTransport, Reserved: s.reservedHost, Now: c.Now, Log: c.Log, Fetched: c.Metrics.Document}
	if c.Deny != nil {
		s.denied = &deny.List{Source: c.Deny, Now: c.Now, Log: c.Log, Failed: func() { s.counters.add(denyFailures); c.Metrics.DenyFailed() },
			Arrived: func(serial int64) { s.record(audit.DenyRead, about{}, "serial", serial) }}
	}
	s.Metrics.Show(metrics.Standing{Version: c.Version, AccessTokenTTL: c.AccessTokenTTL, Key: s.signingKey, Deny: s.denied.Standing})
	return s, nil
}

// CloseIdleConnections gives up all connections that nothing is using. It is for a process that is
// frozen between requests: the other end does not wait for it.
func (s *Issuer) CloseIdleConnections() {
	for _, client := range []any{s.Transport, s.Deny, s.ReplayGuard, s.Trace} {
		if c, ok := client.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// survived runs what no request waits for. A panic of a request ends that request alone: net/http
// sees to it. Here it would end the process, for all tenants.
func survived(log *slog.Logger, f func()) {
	defer func() {
		if cause := recover(); cause != nil {
			log.Error("panic", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
		}
	}()
	f()
}

// Caps on what a request may bring, so that what is too large is refused here, with a reason. The
// header cap is the server's MaxHeaderBytes; cmd/mcpbouncer sets it from here.
const (
	MaxHeaderBytes  = 32 << 10
	maxBody         = 64 << 10
	maxRegistration = 16 << 10
	maxClientID     = 1000 // characters; longer ones do not survive as part of a URL on Windows
	maxState        = 1024 // of the client
	// maxRequest is how many characters state, resource, scope and redirect URI have together:
	// sealed, they fit a cookie of 4 KB.
	maxRequest      = 2600
	maxRedirectURIs = 5
	maxScopes       = 1024 // of a tenant, which codes and tokens carry
)

// WallClock is time.Now without the monotonic clock, which stands still while a machine sleeps or
// is frozen: measured by that one, ages would leave the night out.
func WallClock() time.Time { return time.Now().Round(0) }

// LongestAnswer bounds what a request waits for, once it is here: its client's document and the
// keys that this names, the deny document, and a refresh (5 + 5 + 3 + 25 s). A redemption waits for
// less than a refresh: discovery, another request with its code, the provider and the guard.
const LongestAnswer = 2*clientdoc.Timeout + deny.Timeout + refreshTimeout
