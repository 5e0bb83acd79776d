package issuer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// upstream is an OpenID provider as its discovery document describes it.
type upstream struct {
	provider  *oidc.Provider
	endpoint  oauth2.Endpoint
	issuer    string
	sendsIss  bool
	fetchedAt time.Time

	keysURL         string
	keys            *keySet
	algorithms      []jose.SignatureAlgorithm // of id_tokens
	userinfoURL     string                    // empty if there is none
	revocationURL   string                    // RFC 7009; empty if there is none
	scopesSupported []string

	promptsSupported            []string // OpenID Connect Prompt Create §4; most say nothing of it
	authMethods, authAlgorithms []string // of the token endpoint; empty if it does not say
}

const (
	upstreamTimeout = 8 * time.Second // three in a row stay below refreshTimeout
	upstreamMaxBody = 1 << 20
	discoveryMaxAge = time.Hour
	// a provider that hangs must not make one request wait after the other
	discoveryRetry = 2 * time.Second
	// The same while an older document serves: nobody should wait long for what is not needed.
	rediscoveryTimeout = 2 * time.Second
	rediscoveryRetry   = time.Minute
	upstreamsAtATime   = 256
)

// upstreamCache maps an issuer to its discovery document. Losing it costs a request.
type upstreamCache struct {
	mu sync.Mutex // guards m for one map access; never held while asking a provider
	m  map[string]*upstreamEntry
}

type upstreamEntry struct {
	current  atomic.Pointer[upstream] // nil until the first success
	silence  silence
	mu       sync.Mutex // held while one request asks the provider
	err      error      // of the last attempt, which those who waited share
	failedAt time.Time
}

// upstream returns the tenant's provider. The first document is waited for; one that is older than
// an hour is fetched again by one request, while the old one serves all others, and serves on when
// the provider does not answer.
func (s *Issuer) upstream(ctx context.Context, t *tenant) (*upstream, error) {
	entry := s.upstreams.entry(t.ProviderIssuer)
	old := entry.current.Load()
	if old != nil {
		if s.Now().Sub(old.fetchedAt).Abs() < discoveryMaxAge || !entry.mu.TryLock() {
			return old, nil
		}
	} else {
		entry.mu.Lock()
	}
	defer entry.mu.Unlock()
	now := s.Now()
	if up := entry.current.Load(); up != nil && now.Sub(up.fetchedAt).Abs() < discoveryMaxAge {
		return up, nil // somebody else was faster
	}
	timeout, retry := upstreamTimeout, discoveryRetry
	if old != nil {
		timeout, retry = rediscoveryTimeout, rediscoveryRetry
	}
	if entry.err == nil || now.Sub(entry.failedAt).Abs() >= retry {
		up, err := s.discover(ctx, t.ProviderIssuer, timeout)
		if entry.err = err; err == nil {
			up.fetchedAt = now
			entry.current.Store(up)
			return up, nil
		}
		entry.failedAt = s.Now()
		s.Log.Warn("discovery failed", t.named(), "provider", t.ProviderIssuer, "older document", old != nil, "cause", err)
	}
	if old != nil {
		return old, nil
	}
	return nil, entry.err
}

func (s *Issuer) upstreamWithSecret(ctx context.Context, t *tenant) (*upstream, string, error) {
	up, err := s.upstream(ctx, t)
	if err != nil {
		return nil, "", noProvider(err)
	}
	secret, err := s.clientSecret(t)
	if err == nil {
		err = up.keyFault(t)
	}
	if err != nil {
		return nil, "", serverError("the sign-in provider is not configured correctly", err)
	}
	return up, secret, nil
}

func (c *upstreamCache) entry(issuer string) *upstreamEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.m[issuer]
	if !ok {
		entry = &upstreamEntry{}
		forget.Put(&c.m, issuer, entry, upstreamsAtATime)
	}
	return entry
}

// discoveryMembers are those of a discovery document that are read here, beside go-oidc's.
// readable.go sees to their types.
type discoveryMembers struct {
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	SendsIss    bool     `json:"authorization_response_iss_parameter_supported"`
	JWKSURI     string   `json:"jwks_uri"`
	Revocation  string   `json:"revocation_endpoint"`
	Scopes      []string `json:"scopes_supported"`
	UserInfo    string   `json:"userinfo_endpoint"`
	Algorithms  []string `json:"id_token_signing_alg_values_supported"`
	Prompts     []string `json:"prompt_values_supported"`

	AuthAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported"`
}

func (s *Issuer) discover(ctx context.Context, issuer string, timeout time.Duration) (*upstream, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !weburl.IsLocalHTTP(u) {
		return nil, &unusable{why: "providerIssuer must be an https URL"}
	}
	// A client that hangs up must not make discovery fail for those who wait with it.
	ctx, cancel := context.WithTimeout(outgoing.WithSecondTry(context.WithoutCancel(ctx)), timeout)
	defer cancel()
	client := s.upstreamClient(issuer)
	answer := &discoveryAnswer{next: client.Transport}
	client.Transport = rewritten{answer, func(_ *http.Response, body []byte) ([]byte, error) { return readableDiscovery(body), nil }}
	client.CheckRedirect = sameOriginOnly
	ask := func() (*oidc.Provider, error) { return oidc.NewProvider(oidc.ClientContext(ctx, client), issuer) }
	provider, err := ask()
	// Without any document this is a login's matter: its client comes once.
	if err != nil && timeout == upstreamTimeout && answer.mayPass(err) && s.Wait(ctx, oncePause) == nil {
		provider, err = ask()
	}
	if err != nil {
		return nil, fmt.Errorf("discovery of %s failed: %w", issuer, answer.explain(err))
	}
	var metadata discoveryMembers
	if err := provider.Claims(&metadata); err != nil {
		return nil, fmt.Errorf("discovery of %s failed: %w", issuer, &unusable{why: "a member of its document is of another type than OpenID Connect Discovery says"})
	}
	endpoint := provider.Endpoint()
	endpoints := map[string]string{"authorization_endpoint": endpoint.AuthURL, "token_endpoint": endpoint.TokenURL, "jwks_uri": metadata.JWKSURI}
	if metadata.UserInfo != "" {
		endpoints["userinfo_endpoint"] = metadata.UserInfo
	}
	safe := func(raw string) bool {
		e, err := url.Parse(raw)
		return err == nil && e.Host != "" && (e.Scheme == "https" || weburl.IsLocalHTTP(e) && weburl.IsLocalHTTP(u))
	}
	for name, raw := range endpoints {
		if !safe(raw) {
			return nil, fmt.Errorf("discovery of %s failed: %w", issuer, &unusable{why: name + " is not an https URL in its document: set the provider's own public URL, also where a proxy in front of it ends TLS"})
		}
	}
	if !safe(metadata.Revocation) {
		metadata.Revocation = "" // as if there were none: it would be sent the secret
	}
	return &upstream{
		provider: provider, endpoint: endpoint, issuer: issuer, sendsIss: metadata.SendsIss,
		keys: s.newKeySet(issuer, metadata.JWKSURI), algorithms: readableAlgorithms(metadata.Algorithms), userinfoURL: metadata.UserInfo,
		keysURL: metadata.JWKSURI, revocationURL: metadata.Revocation, scopesSupported: metadata.Scopes, promptsSupported: metadata.Prompts,
		authMethods: metadata.AuthMethods, authAlgorithms: metadata.AuthAlgorithms,
	}, nil
}

// upstreamClient is for one provider: all that asks it shares what is known of its silence.
func (s *Issuer) upstreamClient(issuer string) *http.Client {
	return &http.Client{
		Timeout:       upstreamTimeout,
		Transport:     limitedTransport{attentive{s.Transport, s, issuer, &s.upstreams.entry(issuer).silence}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limitedTransport caps what a provider can make us read: go-oidc reads bodies whole.
type limitedTransport struct{ next http.RoundTripper }

func (l limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, upstreamMaxBody), resp.Body}
	}
	return resp, err
}

// config never has x/oauth2 detect how the client proves itself: it would post a code or a refresh
// token a second time after an error, and a rotating provider takes the second time for theft.
func (u *upstream) config(t *tenant, secret string) *oauth2.Config {
	endpoint := u.endpoint
	// a public client, and one with a key, name themselves in the body
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	if u.clientAuth(t, secret) == basicAuth {
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{
		ClientID: t.ClientID, ClientSecret: secret, Endpoint: endpoint,
		RedirectURL: t.callbackURL(),
	}
}

// upstreamScopes are the label's scopes, with openid: without it there is no id_token.
func (t *tenant) upstreamScopes() []string {
	if slices.Contains(t.Scopes, "openid") {
		return t.Scopes
	}
	return append([]string{"openid"}, t.Scopes...)
}

func (u *upstream) authorizationURL(t *tenant, seed sealing.LoginSeed) string {
	config := u.config(t, "")
	scopes, options := u.offlineAccess(t)
	config.Scopes = scopes
	return t.addParameters(config.AuthCodeURL(seed.State(), append(options, oidc.Nonce(seed.Nonce()), oauth2.S256ChallengeOption(seed.CodeVerifier()))...))
}

// checkIssParameter is RFC 9207 §2.4: a provider that promises `iss` must send it, and whatever was
// sent must be right.
func (u *upstream) checkIssParameter(query url.Values) error {
	iss, sent := query.Get("iss"), query.Has("iss")
	if sent && iss != u.issuer || !sent && u.sendsIss {
		return errors.New("iss of the authorization response is not " + u.issuer)
	}
	return nil
}
