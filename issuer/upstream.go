package issuer

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

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
	revocationURL   string // RFC 7009; empty if there is none
	scopesSupported []string
}

const (
	upstreamTimeout = 8 * time.Second // three in a row stay below refreshTimeout
	upstreamMaxBody = 1 << 20
	discoveryMaxAge = time.Hour
	discoveryRetry  = 2 * time.Second // a provider that hangs must not make one request wait after the other
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
	mu       sync.Mutex               // held while one request asks the provider
	err      error                    // of the last attempt, which those who waited share
	failedAt time.Time
}

// upstream returns the tenant's provider. The first document is waited for; one that is older than an hour is fetched again by one
// request, while the old one serves all others, and serves on when the provider does not answer.
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
		s.Log.Warn("discovery failed", "provider", t.ProviderIssuer, "older document", old != nil, "cause", err)
	}
	if old != nil {
		return old, nil
	}
	return nil, entry.err
}

func (c *upstreamCache) entry(issuer string) *upstreamEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= upstreamsAtATime {
		c.m = make(map[string]*upstreamEntry)
	}
	entry, ok := c.m[issuer]
	if !ok {
		entry = &upstreamEntry{}
		c.m[issuer] = entry
	}
	return entry
}

func (s *Issuer) discover(ctx context.Context, issuer string, timeout time.Duration) (*upstream, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !isLocalHTTP(u) {
		return nil, errors.New("providerIssuer must be an https URL")
	}
	// A client that hangs up must not make discovery fail for those who wait with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, s.upstreamClient()), issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery of %s failed: %w", issuer, redactUpstream(err))
	}
	var metadata struct {
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
		SendsIss    bool     `json:"authorization_response_iss_parameter_supported"`
		JWKSURI     string   `json:"jwks_uri"`
		Revocation  string   `json:"revocation_endpoint"`
		Scopes      []string `json:"scopes_supported"`
		UserInfo    string   `json:"userinfo_endpoint"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, fmt.Errorf("discovery of %s: %w", issuer, err)
	}
	endpoint := provider.Endpoint()
	endpoints := map[string]string{"authorization_endpoint": endpoint.AuthURL, "token_endpoint": endpoint.TokenURL, "jwks_uri": metadata.JWKSURI}
	if metadata.UserInfo != "" {
		endpoints["userinfo_endpoint"] = metadata.UserInfo
	}
	safe := func(raw string) bool {
		e, err := url.Parse(raw)
		return err == nil && e.Host != "" && (e.Scheme == "https" || isLocalHTTP(e) && isLocalHTTP(u))
	}
	for name, raw := range endpoints {
		if !safe(raw) {
			return nil, fmt.Errorf("discovery of %s: %s is not an https URL", issuer, name)
		}
	}
	if !safe(metadata.Revocation) {
		metadata.Revocation = "" // as if there were none: it would be sent the secret
	}
	// Never AutoDetect: x/oauth2 would post a code or a refresh token a second time after an error, and a
	// rotating provider takes the second time for theft.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if len(metadata.AuthMethods) > 0 && !slices.Contains(metadata.AuthMethods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &upstream{
		provider: provider, endpoint: endpoint, issuer: issuer, sendsIss: metadata.SendsIss,
		keysURL: metadata.JWKSURI, revocationURL: metadata.Revocation, scopesSupported: metadata.Scopes,
	}, nil
}

func (s *Issuer) upstreamClient() *http.Client {
	return &http.Client{
		Timeout:       upstreamTimeout,
		Transport:     limitedTransport{s.Transport},
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

func (u *upstream) config(t *tenant, secret string) *oauth2.Config {
	endpoint := u.endpoint
	if secret == "" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client names itself in the body
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
	return config.AuthCodeURL(seed.State(), append(options, oidc.Nonce(seed.Nonce()), oauth2.S256ChallengeOption(seed.CodeVerifier()))...)
}

// checkIssParameter is RFC 9207 §2.4: a provider that promises `iss` must send it, and whatever was sent must be right.
func (u *upstream) checkIssParameter(query url.Values) error {
	iss, sent := query.Get("iss"), query.Has("iss")
	if sent && iss != u.issuer || !sent && u.sendsIss {
		return errors.New("iss of the authorization response is not " + u.issuer)
	}
	return nil
}

// redeem posts the upstream code, once, and returns who logged in, and which scopes of the label the provider withheld.
func (s *Issuer) redeem(ctx context.Context, t *tenant, seed sealing.LoginSeed, code string) (identity, []string, error) {
	up, secret, err := s.upstreamWithSecret(ctx, t)
	if err != nil {
		return identity{}, nil, err
	}
	ctx, cancel := s.upstreamContext(ctx)
	defer cancel()
	token, err := up.config(t, secret).Exchange(ctx, code, oauth2.VerifierOption(seed.CodeVerifier()))
	if err != nil {
		return identity{}, nil, upstreamTokenError(err, "the authorization code is no longer valid; authorize again")
	}
	who, err := s.verifyIDToken(ctx, t, up, token)
	if err != nil {
		return identity{}, nil, err
	}
	if who.nonce == "" || subtle.ConstantTimeCompare([]byte(who.nonce), []byte(seed.Nonce())) != 1 {
		return identity{}, nil, loginRefused(errors.New("nonce of the id_token is not the one sent"))
	}
	known, err := s.learn(ctx, t, up, token, who)
	if err != nil {
		return identity{}, nil, err
	}
	if up.refreshMode(t) == "session" {
		token.RefreshToken = "" // nothing to steal
	}
	if len(token.RefreshToken)+known.size() > maxUpstreamValue {
		s.Log.Warn("the provider's refresh token is too long to carry, so the login lives only BOUNCER_SESSION_TTL", "tenant", t.Resource, "provider", up.issuer, "characters", len(token.RefreshToken))
		token.RefreshToken = ""
	}
	if token.RefreshToken == "" && up.refreshMode(t) == "upstream" {
		return identity{}, nil, loginRefused(errors.New("the label refresh=upstream wants a refresh token of the provider, and it gave none that can be carried: let the client there have one, or set refresh=session"))
	}
	known.RefreshToken, known.CheckedAt = packed(token.RefreshToken), s.Now().Unix()
	return known, t.withheldScopes(token), nil
}

// askAgain refreshes upstream and returns what the provider says of the person now, as redeem does.
func (s *Issuer) askAgain(ctx context.Context, t *tenant, up *upstream, secret string, last identity) (identity, []string, error) {
	ctx, cancel := s.upstreamContext(ctx)
	defer cancel()
	ask := func() (*oauth2.Token, error) {
		// A token without an access token makes the source refresh at once.
		return up.config(t, secret).TokenSource(ctx, &oauth2.Token{RefreshToken: string(last.RefreshToken)}).Token()
	}
	token, err := ask()
	if isLost(err) && ctx.Err() == nil {
		// The provider may have replaced its refresh token. Many still take the old one for half a minute; our client comes again after that.
		token, err = ask()
	}
	if err != nil {
		return identity{}, nil, up.refreshError(err, s.Now().Sub(time.Unix(last.CheckedAt, 0)) > staleWindow)
	}
	who := idToken{subject: last.Subject} // OpenID Connect Core §12.2: an id_token may be missing here, and userinfo answers then
	raw, _ := token.Extra("id_token").(string)
	if raw != "" {
		if who, err = s.verifyIDToken(ctx, t, up, token); err == nil && who.subject != last.Subject {
			err = loginRefused(errors.New("sub of the refreshed id_token is another person's"))
		}
	}
	var next identity
	switch noNews := raw == "" && up.provider.UserInfoEndpoint() == ""; {
	case err != nil:
	case noNews && t.claimNeeds.within(last.Needs): // which takes nothing back
		next, next.UnreadSince = last, 0
	case noNews:
		err = rulesChanged()
	default:
		next, err = s.learn(ctx, t, up, token, who)
	}
	checkedAt := s.Now().Unix()
	if err != nil {
		silent := last.UnreadSince != 0 && s.Now().Sub(time.Unix(last.UnreadSince, 0)) > staleWindow
		if asError(err).Status != http.StatusServiceUnavailable || silent || !t.claimNeeds.within(last.Needs) {
			return identity{}, nil, err
		}
		// The provider may have replaced its refresh token: losing the new one would end the login. The next refresh asks again. Not for ever:
		// who was taken out of a group would stay in as long as userinfo fails.
		s.Log.Warn("what the provider says of the person cannot be read; the last known claims stand", "tenant", t.Resource, "provider", up.issuer, "cause", errors.Unwrap(err))
		next, checkedAt = last, last.CheckedAt
		if next.UnreadSince == 0 {
			next.UnreadSince = s.Now().Unix()
		}
	}
	next.RefreshToken, next.CheckedAt = packed(token.RefreshToken), checkedAt
	if next.RefreshToken == "" {
		next.RefreshToken = last.RefreshToken // RFC 6749 §6: none sent means the old one stays
	}
	if next.RefreshToken != last.RefreshToken && len(next.RefreshToken)+next.size() > maxUpstreamValue {
		s.Log.Warn("the provider's new refresh token is too long to carry, so the one before it stays; if the provider has ended that one, the login ends at the next check", "tenant", t.Resource, "provider", up.issuer, "characters", len(next.RefreshToken))
		next.RefreshToken = last.RefreshToken
	}
	return next, t.withheldScopes(token), nil
}

// isLost says that there was no answer that could be read, other than because time ran out.
func isLost(err error) bool {
	var answer *oauth2.RetrieveError
	var broken *url.Error
	return err != nil && !errors.As(err, &answer) && !(errors.As(err, &broken) && broken.Timeout())
}

// upstreamContext is for one exchange with a provider.
func (s *Issuer) upstreamContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(oidc.ClientContext(ctx, s.upstreamClient()), upstreamTimeout)
}

// identityScopes are OpenID Connect's own (Core §5.4). Providers answer them in spellings of their own, and no right at an MCP server
// hangs on them.
var identityScopes = []string{"openid", "email", "profile", "address", "phone", "offline_access"}

// withheldScopes are the scopes of the label that the provider did not grant: it must say so when it granted other ones
// than were asked (RFC 6749 §5.1).
func (t *tenant) withheldScopes(token *oauth2.Token) (withheld []string) {
	granted, sent := token.Extra("scope").(string)
	if !sent {
		return nil
	}
	for _, scope := range t.Scopes {
		if !slices.Contains(identityScopes, scope) && !slices.Contains(strings.Fields(granted), scope) {
			withheld = append(withheld, scope)
		}
	}
	return withheld
}

func (s *Issuer) upstreamWithSecret(ctx context.Context, t *tenant) (*upstream, string, error) {
	up, err := s.upstream(ctx, t)
	if err != nil {
		return nil, "", temporarilyUnavailable("the sign-in provider cannot be reached", err)
	}
	secret, err := s.clientSecret(t)
	if err != nil {
		return nil, "", serverError("the sign-in provider is not configured correctly", err)
	}
	return up, secret, nil
}

// idToken is what is used of a verified id_token.
type idToken struct {
	subject, nonce string
	claims         claims // all of them
}

// verifyIDToken checks signature, iss and aud through go-oidc, then azp, sub and, with the allowance for clocks that go-oidc's exp does not
// have, exp and nbf. The nonce is the caller's: a refreshed id_token need not have one.
func (s *Issuer) verifyIDToken(ctx context.Context, t *tenant, up *upstream, token *oauth2.Token) (idToken, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return idToken{}, loginRefused(errors.New("the provider sent no id_token"))
	}
	// Verifier, not VerifierContext: it shares the provider's cached keys.
	verified, err := up.provider.Verifier(&oidc.Config{ClientID: t.ClientID, SkipExpiryCheck: true}).Verify(ctx, raw)
	if err != nil {
		// go-oidc has no error value for this. Nothing was refused: the client may try again with what it holds.
		if strings.Contains(err.Error(), "fetching keys") {
			return idToken{}, temporarilyUnavailable("the sign-in provider cannot be reached", errors.New("the provider's keys cannot be fetched"))
		}
		return idToken{}, loginRefused(fmt.Errorf("id_token: %w", redactUpstream(err)))
	}
	var more struct {
		AuthorizedParty string  `json:"azp"`
		NotBefore       float64 `json:"nbf"`
	}
	var all claims
	if err := errors.Join(verified.Claims(&more), verified.Claims(&all)); err != nil {
		return idToken{}, loginRefused(errors.New("id_token: claims of unexpected types"))
	}
	now := s.Now()
	switch {
	case now.After(verified.Expiry.Add(sealing.Skew)): // or exp is missing
		return idToken{}, loginRefused(errors.New("id_token: expired"))
	case more.NotBefore > float64(now.Add(sealing.Skew).Unix()):
		return idToken{}, loginRefused(errors.New("id_token: not valid before its nbf"))
	case more.AuthorizedParty != "" && more.AuthorizedParty != t.ClientID,
		more.AuthorizedParty == "" && len(verified.Audience) > 1: // OpenID Connect Core §3.1.3.7
		return idToken{}, loginRefused(errors.New("id_token: azp is not this client"))
	case verified.Subject == "" || len(verified.Subject) > 255: // Core §2
		return idToken{}, loginRefused(errors.New("id_token: sub is empty or too long"))
	}
	if apart := now.Sub(verified.IssuedAt).Abs(); apart > sealing.Skew {
		s.Log.Warn("this clock and the provider's differ", "provider", up.issuer, "seconds", int(apart/time.Second))
	}
	s.Log.Debug("id_token verified", "tenant", t.Resource, "provider", up.issuer, "subject", s.Ring.Pseudonym(t.id, verified.Subject))
	return idToken{verified.Subject, verified.Nonce, all}, nil
}

// loginRefused is access_denied, not invalid_grant: at invalid_grant SDKs begin a new login, which would end the same way.
func loginRefused(cause error) *Error {
	return badRequest("access_denied", "the sign-in provider's answer was not accepted; the server's log says why").because(cause)
}

// upstreamTokenError maps a failed request to the provider's token endpoint. invalid_client is never
// relayed: it is about the operator's client, and SDKs would throw away their own.
func upstreamTokenError(err error, expired string) *Error {
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return temporarilyUnavailable("the sign-in provider cannot be reached", redactUpstream(err))
	}
	cause := fmt.Errorf("the provider answered %d %s", answer.Response.StatusCode, safeCode(answer.ErrorCode))
	switch {
	case answer.ErrorCode == "invalid_grant", answer.ErrorCode == "invalid_code": // some say so of a used code
		return invalidGrant(expired).because(cause)
	case answer.Response.StatusCode >= 500 || answer.Response.StatusCode == http.StatusTooManyRequests:
		return temporarilyUnavailable("the sign-in provider is not available", cause)
	}
	return serverError("the sign-in provider did not accept this server; its operator must act", cause)
}

// redactUpstream keeps what a provider sent, and the URLs it was sent to, out of the log: x/oauth2 and go-oidc put whole
// bodies into their errors.
func redactUpstream(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return fmt.Errorf("%s: %w", hostOf(urlErr.URL), urlErr.Err)
	}
	text := err.Error()
	for _, known := range []string{"audience", "signature", "issuer did not match", "malformed", "unsupported algorithm", "different provider"} {
		if strings.Contains(text, known) {
			return errors.New("refused: " + known)
		}
	}
	return errors.New("unexpected answer")
}

var errorCode = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// safeCode is an error code of a provider as it may stand in a log.
func safeCode(code string) string {
	if len(code) <= 40 && errorCode.MatchString(code) {
		return code
	}
	return "an error code that is not one"
}

// secretName is which environment variables a label may name: without the rule, whoever may write labels could
// have the sidecar send any of its variables to a provider of theirs.
var secretName = regexp.MustCompile(`^[A-Z0-9_]*CLIENT_SECRET$`)

// clientSecret is the upstream client's secret: the label's text, a variable of the sidecar (env:NAME), or a text
// that `mcpbouncer seal-secret` made for this provider and client only.
func (s *Issuer) clientSecret(t *tenant) (string, error) {
	if name, ok := strings.CutPrefix(t.ClientSecret, "env:"); ok {
		if !secretName.MatchString(name) {
			return "", errors.New("clientSecret: the name of the variable must end in CLIENT_SECRET")
		}
		if secret := s.Getenv(name); secret != "" {
			return secret, nil
		}
		return "", errors.New("clientSecret: the sidecar has no variable " + name)
	}
	if strings.HasPrefix(t.ClientSecret, "mbs1_") {
		secret, err := OpenSecret(s.Ring, t.ProviderIssuer, t.ClientID, t.ClientSecret, s.Now())
		if err != nil {
			return "", errors.New("clientSecret: was sealed for another provider, client or master secret")
		}
		return secret, nil
	}
	return t.ClientSecret, nil
}

// SealSecret makes a label's clientSecret that only a sidecar with this ring can read, and only for this
// provider and client: copied into another tenant's label it does not open.
func SealSecret(ring *sealing.Ring, providerIssuer, clientID, secret string, now time.Time) string {
	return ring.Seal(sealing.KindSecret, sealing.TenantID{}, secretContext(providerIssuer, clientID), []byte(secret), now)
}

// OpenSecret is the reverse of SealSecret; it fails with sealing.ErrNotOpened.
func OpenSecret(ring *sealing.Ring, providerIssuer, clientID, value string, now time.Time) (string, error) {
	secret, _, err := ring.Open(sealing.KindSecret, sealing.TenantID{}, secretContext(providerIssuer, clientID), value, now)
	return string(secret), err
}

// secretContext is LP(issuer) ‖ LP(client id) of docs/sealed-values.md.
func secretContext(providerIssuer, clientID string) string {
	var b []byte
	for _, s := range []string{providerIssuer, clientID} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return string(b)
}
