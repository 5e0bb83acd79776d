package provider

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Where the label upstreamToken says so, the MCP server acts at the provider in the person's name.
// It gets the access token of the login, or one that the provider exchanges for that (RFC 8693).
// Nobody else gets either: they are kept sealed, and no log holds them.

// UpstreamToken is what the MCP server needs an access token of the provider for.
type UpstreamToken struct {
	Scopes   []string // asked for besides Client.Scopes
	Audience string   // of the token exchange; empty: none
}

// Mark stands for what the person was told that the token is for: a hash, cut short. A token with
// another mark was allowed for something else.
func (u *UpstreamToken) Mark() []byte {
	sum := sha256.Sum256(must(encoding.Marshal(append([]string{u.Audience}, u.Scopes...))))
	return sum[:markSize]
}

// AccessToken is an access token of the provider that the MCP server gets.
type AccessToken struct {
	Text string
	Ends int64  // Unix seconds; 0: the provider does not say
	Mark []byte // of what it is for; nil: there is no token
}

// Expired says whether the token works no more, as far as the provider has said.
func (a AccessToken) Expired(now time.Time) bool { return a.Ends != 0 && now.Unix() >= a.Ends }

const (
	// shortestLife is of an access token that a login begins with. A refresh whose answer is given
	// once more a minute later must still have one that works.
	shortestLife = 2 * time.Minute
	// rareLife is a life below which clients refresh before each request: widely used ones do so
	// while they have five minutes or less.
	rareLife = 8 * time.Minute
)

// TokenFault says why there is no access token for the MCP server. Its text is for the operator's
// log; Told has nothing that the provider wrote, and may be told to a client.
type TokenFault struct {
	Told  string
	cause error
}

func (f *TokenFault) Error() string { return f.Told + ": " + f.cause.Error() }
func (f *TokenFault) Unwrap() error { return f.cause }

func tokenFault(remedy, told string, args ...any) *TokenFault {
	return &TokenFault{fmt.Sprintf(told, args...), errors.New(remedy)}
}

// handOn gives a person who has just logged in the access token for the MCP server.
func (p *Provider) handOn(ctx context.Context, answer *Answer, who Person) (Person, error) {
	if p.client.UpstreamToken == nil {
		return who, nil
	}
	token, scope, err := p.upstreamToken(ctx, answer)
	life := time.Duration(token.Ends-p.all.Now().Unix()) * time.Second
	if err == nil && token.Ends != 0 && life < shortestLife {
		err = tokenFault("let it live for an hour there", "the sign-in provider's access token lives for %d seconds, which is too short to be handed on", max(life/time.Second, 0))
	}
	fault := (*TokenFault)(nil)
	switch {
	case errors.As(err, &fault):
		return Person{}, loginRefused(fault)
	case err != nil:
		return Person{}, err
	}
	who.Upstream, who.Said.UpstreamScope = token, scope
	first := func(what string) bool {
		return p.all.said.First(what, p.client.RedirectURI, p.issuer, p.client.ID)
	}
	switch {
	case token.Ends == 0:
	case who.RefreshToken == "" && first("upstream token ends"):
		p.all.Log.Warn("the MCP server needs an access token of the provider, and no refresh token came for the next one: each login ends with the first", p.client.Named,
			"provider", p.issuer, "seconds", int(life/time.Second), "remedy", p.noRefreshToken())
	case life < rareLife && first("upstream token short"):
		p.all.Log.Warn("the provider's access tokens live so short that clients refresh before each request, and the provider is asked each time", p.client.Named,
			"provider", p.issuer, "seconds", int(life/time.Second), "remedy", "let them live for an hour there")
	}
	return who, nil
}

// handOnAgain is handOn after a refresh. While the provider cannot exchange its new access token,
// the one before serves on.
func (p *Provider) handOnAgain(ctx context.Context, came *oauth2.Token, last, next Person) (Person, error) {
	if p.client.UpstreamToken == nil {
		next.Upstream = AccessToken{}
		return next, nil
	}
	token, scope, err := p.upstreamToken(ctx, p.answerOf(came))
	switch {
	case err == nil:
		next.Upstream, next.Said.UpstreamScope = token, scope
		return next, nil
	case (errors.Is(err, ErrAway) || errors.Is(err, ErrOurFault)) && last.Upstream.Mark != nil && !last.Upstream.Expired(p.all.Now()):
		p.all.Log.Warn("the provider gives no new access token for the MCP server; the last one serves on", p.client.Named, "provider", p.issuer, "cause", err)
		next.Upstream = last.Upstream
		return next, nil
	case errors.Is(err, ErrAway) || errors.Is(err, ErrOurFault):
		return Person{}, err
	}
	return Person{}, because(ErrUpstreamToken, err)
}

// upstreamToken is the access token for the MCP server, and its scope; nil if the provider did not
// say. The error is a *TokenFault, or one of ErrAway and ErrOurFault.
func (p *Provider) upstreamToken(ctx context.Context, answer *Answer) (AccessToken, *string, error) {
	wanted := p.client.UpstreamToken
	if wanted.Audience != "" {
		exchanged, err := p.exchangeToken(ctx, answer.AccessToken)
		if err != nil {
			return AccessToken{}, nil, err
		}
		answer = exchanged
	}
	switch kind := names.LowerASCII(answer.TokenType); {
	case kind == "dpop", kind == "mac", kind == "pop", kind == "n_a":
		// RFC 9449 §5 and others: nobody else can prove the key.
		return AccessToken{}, nil, tokenFault("let the provider give bearer tokens to this client", "the sign-in provider's access token is bound to a key or of no use by itself, so it cannot be handed on")
	case len(answer.AccessToken) > sealing.MaxUpstreamToken:
		return AccessToken{}, nil, tokenFault(ShorterToken, "the sign-in provider's access token has %d characters, and %d can be carried", len(answer.AccessToken), sealing.MaxUpstreamToken)
	case strings.ContainsFunc(answer.AccessToken, func(c rune) bool { return c <= ' ' || c > '~' }):
		// It becomes a header's value.
		return AccessToken{}, nil, tokenFault("RFC 6750 §2.1 has the characters that it may have", "the sign-in provider's access token holds characters that no header may hold")
	}
	return AccessToken{Text: answer.AccessToken, Ends: answer.Ends, Mark: wanted.Mark()}, p.granted(answer.token()), nil
}

// ShorterToken is the remedy for an access token that is too long.
const ShorterToken = "let the provider put fewer claims into it (groups and roles first), or give opaque access tokens"

// exchangeToken exchanges the access token of a login for one that is meant for another server (RFC
// 8693 §2). It is sent to the token endpoint and nowhere else. Nothing is used up: what got no
// answer may be asked again.
func (p *Provider) exchangeToken(ctx context.Context, subject string) (*Answer, error) {
	wanted := p.client.UpstreamToken
	form := url.Values{
		"grant_type":    {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {subject}, "subject_token_type": {accessTokenType}, "requested_token_type": {accessTokenType},
		"audience": {wanted.Audience},
	}
	if len(wanted.Scopes) > 0 {
		form.Set("scope", strings.Join(wanted.Scopes, " "))
	}
	token, err := p.postExchange(ctx, form)
	if pause, away := notTaken(err); away && p.all.Wait(ctx, max(pause, oncePause)) == nil {
		token, err = p.postExchange(ctx, form)
	}
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		return nil, exchangeError(refused)
	case errors.As(err, new(*TokenFault)):
		return nil, err
	case err != nil:
		return nil, unanswered(redact(err))
	}
	return token, nil
}

const accessTokenType = "urn:ietf:params:oauth:token-type:access_token" // RFC 8693 §3

// postExchange asks once. An error of the provider's is a *oauth2.RetrieveError.
func (p *Provider) postExchange(ctx context.Context, form url.Values) (*Answer, error) {
	// What is sent is the provider's own.
	ctx = context.WithValue(outgoing.WithSecondTry(withStep(ctx, "exchange")), strangersInput{}, nil)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint.TokenURL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	p.prove(r, form)
	client := p.provingClient()
	client.Transport = rewritten{client.Transport, readableTokens}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	if err != nil {
		return nil, err
	}
	var said struct {
		AccessToken string  `json:"access_token"`
		Issued      string  `json:"issued_token_type"`
		TokenType   string  `json:"token_type"`
		Scope       *string `json:"scope"`
		ExpiresIn   int64   `json:"expires_in"`
		Error       string  `json:"error"`
		Description string  `json:"error_description"`
	}
	unread := json.Unmarshal(body, &said)
	if resp.StatusCode != http.StatusOK || said.Error != "" {
		return nil, &oauth2.RetrieveError{Response: resp, Body: body, ErrorCode: said.Error, ErrorDescription: said.Description}
	}
	if unread != nil || said.AccessToken == "" {
		return nil, &strangeAnswer{resp.StatusCode, mediaTypeOf(resp.Header), "no token response"}
	}
	// §2.2.1 wants the member, and not all send it.
	if said.Issued != "" && said.Issued != accessTokenType && said.Issued != "urn:ietf:params:oauth:token-type:jwt" {
		return nil, tokenFault("let it give access tokens for this client and audience", "the sign-in provider exchanged its access token for something else")
	}
	answer := &Answer{AccessToken: said.AccessToken, Scope: said.Scope, TokenType: said.TokenType}
	if said.ExpiresIn > 0 {
		answer.Ends = p.all.Now().Unix() + said.ExpiresIn
	}
	return answer, nil
}

// exchangeError says what a refusal of the exchange means. Such a refusal is about the audience, or
// about this client: a person could do nothing about it.
func exchangeError(answer *oauth2.RetrieveError) error {
	cause := describe(answer)
	if passes(answer) {
		return because(ErrUnavailable, cause)
	}
	fault := &TokenFault{"the sign-in provider does not exchange its access token for the one that this server needs",
		fmt.Errorf("%w: let the client there exchange tokens for the audience of the label upstreamToken", cause)}
	if status := answer.Response.StatusCode; answer.ErrorCode == "" || status == http.StatusUnauthorized || slices.Contains(aboutUs, answer.ErrorCode) {
		return because(ErrOurFault, fault)
	}
	return fault
}

// Lacks are the scopes for the MCP server that the provider has just said it did not grant (RFC
// 6749 §5.1). Some write a scope that is a URL without what stands before its name, or the other
// way round, and some leave out what is part of a wider one (repo:status of repo).
func (u *UpstreamToken) Lacks(said *string) (lacking []string) {
	if u == nil || said == nil {
		return nil
	}
	// GitHub separates them by commas, which no scope of the label has.
	granted := strings.Fields(strings.ReplaceAll(*said, ",", " "))
	for _, scope := range u.Scopes {
		same := func(other string) bool {
			a, b := names.LowerASCII(scope), names.LowerASCII(other)
			return a == b || isURLOf(a, b) || isURLOf(b, a) || isPartOf(a, b)
		}
		if !slices.Contains(openIDScopes, scope) && !slices.ContainsFunc(granted, same) {
			lacking = append(lacking, scope)
		}
	}
	return lacking
}

// openIDScopes are answered in the providers' own spellings, or not at all.
var openIDScopes = []string{"openid", "email", "profile", "address", "phone", "offline_access"}

// isPartOf says whether a wider scope that was granted stands for another one. GitHub leaves out
// what is part of one that was asked for beside it ("Normalized scopes"):
// https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
func isPartOf(scope, wider string) bool {
	right, what, _ := strings.Cut(scope, ":")
	switch {
	case right == "read" && (wider == what || wider == "write:"+what || wider == "admin:"+what), right == "write" && wider == "admin:"+what:
		return true
	}
	return strings.HasPrefix(scope, wider+":") || wider == "repo" && slices.Contains(partsOfRepo, scope)
}

var partsOfRepo = []string{"repo_deployment", "public_repo", "security_events"}

func isURLOf(long, short string) bool {
	return strings.Contains(long, "://") && !strings.Contains(short, "/") && strings.HasSuffix(long, "/"+short)
}
