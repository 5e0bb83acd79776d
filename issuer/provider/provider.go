// Package provider asks the providers of all tenants who a person is, and whether they may still
// come in: discovery, the authorization request, the exchange of a code, refreshes, userinfo and
// revocation. They speak OpenID Connect or, without it, OAuth 2.0 (people.go).
//
// It promises:
//   - A provider's word is told from its silence. Only an answer that means so ends a login
//     (ErrEnded) or refuses one (ErrRefused); an outage, a proxy's page and a refusal of this
//     server say nothing about a person (ErrAway, ErrOurFault).
//   - Nothing of an answer's body reaches a client or a person. The errors here are for the
//     operator's log: bounded, on one line, and without what was sent.
//   - Keys are read one by one: an odd key is passed over and named in the log, and shuts out
//     nobody. Only signatures of key pairs are verified.
//   - A code and a refresh token are presented as often as docs/decisions/0019-second-try.md says,
//     and no answer that was given for one is thrown away by a client that hangs up.
//   - No request to a provider follows a redirect, but for its discovery document within its own
//     origin; no answer is read beyond 1 MB; nobody waits twice for a provider that is silent.
//   - What the providers do each in their own way stands in one table (dialect.go).
//
// It does not decide who may come in, what an access token may be used for, or what a client is
// told: it knows neither the tenant's rules nor OAuth's errors. It stores nothing. What it
// remembers of a provider (documents, keys, silence, how the provider treats this server) is this
// process's own, and may be lost at any time.
package provider

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Client is the operator's client at one provider, as the labels of one tenant describe it, and
// what that tenant wants to know of a person.
type Client struct {
	Issuer      string   // label providerIssuer
	IssuerLabel string   // another label that names the issuer; empty: providerIssuer
	ID          string   // label clientID
	Secret      string   // label clientSecret: a text, env:NAME, or a sealed secret
	Auth        string   // label clientAuth
	RedirectURI string   // one for each tenant
	Scopes      []string // label scopes
	Parameters  []string // label providerParameters: NAME=VALUE each
	Refresh     string   // label refresh

	// Type is the label providerType. The next four are labels that belong to oauth2.
	Type                                                   string
	AuthorizationEndpoint, TokenEndpoint, UserinfoEndpoint string
	ClaimNames                                             []string // NAME=CLAIM each

	// UpstreamToken is what the MCP server needs to act at the provider; nil: it does not.
	UpstreamToken *UpstreamToken

	SignIn bool // how and when a person signed in is read, for the label authenticationRules

	Needs     Needs // of all labels
	RuleNeeds Needs // of those labels that decide who may come in and what they may do

	Tenant sealing.TenantID // for the pseudonyms of people in the log
	Named  slog.Attr        // names the tenant in each line of the log
}

// Providers asks the providers of all tenants. All exported fields must be set. It is safe for
// concurrent use, and must not be copied.
type Providers struct {
	Ring      *sealing.Ring // has the client's keys, and opens sealed secrets
	Transport http.RoundTripper
	Now       func() time.Time
	// Wait pauses before a provider is asked again; it fails where that would be too late.
	Wait   func(context.Context, time.Duration) error
	Getenv func(string) string // reads env:NAME
	Log    *slog.Logger
	// OnLambda says that a process lives too short to remember since when a provider has refused
	// this server.
	OnLambda bool
	// Asked is told of each request: the host, the step of it, how long the answer took to begin
	// (negative: it was not sent), and what went wrong. Nil: nobody is.
	Asked func(host, step string, took time.Duration, cause string)

	documents documentCache
	standings standings
	said      forget.Once // lines of the log that are written once for each tenant
	oddKeys   forget.Once // keys that are passed over, or named for another
}

// Provider is one provider for one tenant's client: what its discovery document says, and what
// proves the client there. It serves one request.
type Provider struct {
	*document
	all    *Providers
	client *Client
	secret string // of the client; Connect sets it
}

const (
	timeout         = 8 * time.Second // three in a row stay below the caller's time for a refresh
	maxBody         = 1 << 20         // bytes of an answer
	discoveryMaxAge = time.Hour
	// discoveryRetry keeps requests from waiting one after the other for a provider that hangs.
	discoveryRetry = 2 * time.Second
	// The same while an older document serves: nobody should wait long for what is not needed.
	rediscoveryTimeout = 2 * time.Second
	rediscoveryRetry   = time.Minute
	// unusedFor is how long what is known of a provider, or of how it treats a client, stays
	// without being used, and at most twice that. There are as many as the operator's labels name:
	// strangers name none.
	unusedFor = 7 * 24 * time.Hour
)

// MaxValue is how many characters a code or a refresh token may have, together with what is known
// of the person. Longer ones are not carried.
const MaxValue = 4096

// documentCache maps an issuer to its discovery document. Losing it costs a request.
type documentCache struct {
	mu sync.Mutex // guards m for one map access; never held while asking a provider
	m  forget.Aged[string, *documentEntry]
}

type documentEntry struct {
	current  atomic.Pointer[document] // nil until the first success
	silence  silence
	mu       sync.Mutex // held while one request asks the provider
	err      error      // of the last attempt, which those who waited share
	failedAt time.Time
}

func (c *documentCache) entry(issuer string, now time.Time) *documentEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.Width = unusedFor
	c.m.Turn(now)
	entry, ok := c.m.Use(issuer)
	if !ok {
		entry = &documentEntry{}
		c.m.Set(issuer, entry)
	}
	return entry
}

// Discover returns the client's provider. The error is one of ErrAway.
//
// The first document is waited for. One that is older than an hour is fetched again by one request,
// while the old one serves all others, and serves on when the provider does not answer.
func (all *Providers) Discover(ctx context.Context, c *Client) (*Provider, error) {
	d, err := all.document(ctx, c, true)
	if err != nil {
		return nil, notDiscovered(err)
	}
	return &Provider{document: d, all: all, client: c}, nil
}

// DiscoverKeys is Discover for an issuer at which nobody needs to log in: only its keys are used.
func (all *Providers) DiscoverKeys(ctx context.Context, c *Client) (*Provider, error) {
	d, err := all.document(ctx, c, false)
	if err != nil {
		return nil, notDiscovered(err)
	}
	return &Provider{document: d, all: all, client: c}, nil
}

// Connect is Discover for a request that proves the client: it reads the client's secret too. The
// error is one of ErrAway, or ErrConfiguration.
func (all *Providers) Connect(ctx context.Context, c *Client) (*Provider, error) {
	p, err := all.Discover(ctx, c)
	if err != nil {
		return nil, err
	}
	if p.secret, err = all.clientSecret(c); err != nil {
		return nil, because(ErrConfiguration, err)
	}
	return p, p.KeyFault()
}

// Known returns the client's provider if its document was read before, and nil otherwise. Nobody is
// asked.
func (all *Providers) Known(c *Client) *Provider {
	d, err := c.known()
	if d == nil && err == nil {
		d = all.documents.entry(c.Issuer, all.Now()).current.Load()
	}
	if d == nil || d.noLogin != nil {
		return nil
	}
	return &Provider{document: d, all: all, client: c}
}

// document returns the document of the client's issuer; with login one at which people can log in.
func (all *Providers) document(ctx context.Context, c *Client, login bool) (*document, error) {
	if d, err := c.known(); d != nil || err != nil {
		return d, err
	}
	entry := all.documents.entry(c.Issuer, all.Now())
	current := func() *document {
		if d := entry.current.Load(); d != nil && (d.noLogin == nil || !login) {
			return d
		}
		return nil
	}
	old := current()
	if old != nil {
		if all.Now().Sub(old.fetchedAt).Abs() < discoveryMaxAge || !entry.mu.TryLock() {
			return old, nil
		}
	} else {
		entry.mu.Lock()
	}
	defer entry.mu.Unlock()
	now := all.Now()
	if d := current(); d != nil && now.Sub(d.fetchedAt).Abs() < discoveryMaxAge {
		return d, nil // another request was faster
	}
	timeout, retry := timeout, discoveryRetry
	if old != nil {
		timeout, retry = rediscoveryTimeout, rediscoveryRetry
	}
	if entry.err == nil || now.Sub(entry.failedAt).Abs() >= retry {
		d, err := all.discover(ctx, c, timeout, old == nil)
		if err == nil && d.noLogin != nil && (login || old != nil && old.noLogin == nil) {
			err = d.noLogin
		}
		if d != nil && (err == nil || entry.current.Load() == nil) {
			d.fetchedAt = now
			entry.current.Store(d)
		}
		if entry.err = err; err == nil {
			return d, nil
		}
		entry.failedAt = all.Now()
		all.Log.Warn("discovery failed", c.Named, "provider", c.Issuer, "older document", old != nil, "cause", err)
	}
	if old != nil {
		return old, nil
	}
	return nil, entry.err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("provider: internal error: " + err.Error())
	}
	return v
}
