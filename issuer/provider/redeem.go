package provider

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Answer is the part of a token response (RFC 6749 §5.1) that a login is made of. It may be kept,
// and stands for the code that it was given for: that one is spent.
type Answer struct {
	AccessToken  string
	RefreshToken string
	IDToken      string
	Scope        *string // nil if the provider did not say
	TokenType    string
	ExpiresIn    int64 // of the access token, in seconds; 0: the provider did not say
	Ends         int64 // of the access token, in Unix seconds, where it is handed on; 0: the same
}

func (p *Provider) answerOf(token *oauth2.Token) *Answer {
	a := &Answer{AccessToken: token.AccessToken, RefreshToken: token.RefreshToken, Scope: grantedScope(token), TokenType: token.TokenType, ExpiresIn: token.ExpiresIn}
	a.IDToken, _ = token.Extra("id_token").(string)
	// By our clock: x/oauth2 has one of its own.
	if p.client.UpstreamToken != nil && token.ExpiresIn > 0 {
		a.Ends = p.all.Now().Unix() + token.ExpiresIn
	}
	return a
}

func (a *Answer) token() *oauth2.Token {
	extra := map[string]any{"id_token": a.IDToken}
	if a.Scope != nil {
		extra["scope"] = *a.Scope
	}
	return (&oauth2.Token{AccessToken: a.AccessToken, RefreshToken: a.RefreshToken, TokenType: a.TokenType, ExpiresIn: a.ExpiresIn}).WithExtra(extra)
}

// grantedScope is the scope that a provider's answer names; nil if it names none.
func grantedScope(token *oauth2.Token) *string {
	if scope, said := token.Extra("scope").(string); said {
		return &scope
	}
	return nil
}

// Redeem exchanges the code of an authorization response and returns who logged in (RFC 6749
// §4.1.3, OpenID Connect Core §3.1.3). kept is what an earlier Redeem returned for the code; with
// it no code is presented.
//
// The answer is nil if the code gave none. The error is ErrRefused, ErrCode, or one of ErrAway and
// ErrOurFault. After ErrAway the same call may succeed a moment later: with the code if the answer
// is nil, and otherwise with the answer only.
//
// The context should not end when a client hangs up: the code is spent by then.
func (p *Provider) Redeem(ctx context.Context, seed sealing.LoginSeed, code string, kept *Answer) (Person, *Answer, error) {
	ctx, cancel := p.exchange(withStep(withStrangersInput(ctx), "redeem"))
	defer cancel()
	if kept != nil {
		who, err := p.login(ctx, seed, kept.token(), kept)
		return who, kept, err
	}
	known := p.all.standings.of(p.client, p.secret, p.all.Now())
	token, err := p.postCode(ctx, p.config(), code, oauth2.VerifierOption(seed.CodeVerifier()))
	if err != nil {
		return Person{}, nil, p.codeError(known, err)
	}
	known.takesCode()
	answer := p.answerOf(token)
	who, err := p.login(ctx, seed, token, answer)
	return who, answer, err
}

// login makes a login of the provider's answer to a code, with what the MCP server gets of it.
func (p *Provider) login(ctx context.Context, seed sealing.LoginSeed, token *oauth2.Token, answer *Answer) (Person, error) {
	who, err := p.loginOf(ctx, seed, token)
	if err != nil {
		return Person{}, err
	}
	return p.handOn(ctx, answer, who)
}

// exchange is the context of one exchange with the provider's token endpoint, and what follows from
// it.
func (p *Provider) exchange(ctx context.Context) (context.Context, context.CancelFunc) {
	client := p.provingClient()
	client.Transport = rewritten{client.Transport, readableTokens}
	client.Timeout = 0 // the context's ends all of it, without a goroutine for each request
	return context.WithTimeout(oidc.ClientContext(ctx, client), timeout)
}

// busyPauses are waited before a provider that cannot answer at the moment gets a code again:
// whoever brings the code comes once. All fit into timeout.
var busyPauses = []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond}

// oncePause is the same, once, for the provider's keys and its userinfo.
const oncePause = 500 * time.Millisecond

// postCode posts a code. When that is not answered it is posted once more, on a new connection: if
// the provider has seen the first, nothing is lost that was not lost before. When the provider has
// not taken it, because it is busy or cannot be reached, it is posted again after a while.
func (p *Provider) postCode(ctx context.Context, config *oauth2.Config, code string, option oauth2.AuthCodeOption) (*oauth2.Token, error) {
	for busy := 0; ; {
		token, err := askToken(outgoing.WithSecondTry(ctx), func(ctx context.Context) (*oauth2.Token, error) {
			return config.Exchange(ctx, code, option)
		})
		pause, away := notTaken(err)
		if !away || busy == len(busyPauses) || p.all.Wait(ctx, max(pause, busyPauses[busy])) != nil {
			return token, err
		}
		busy++
	}
}

// notTaken says whether a provider has not done what it was asked for and may do it a little later,
// and how much later by its own word: Retry-After in seconds (RFC 9110 §10.2.3), if it is sent.
func notTaken(err error) (time.Duration, bool) {
	var answer *oauth2.RetrieveError
	var network *net.OpError
	switch {
	case errors.As(err, &answer):
		seconds, _ := strconv.ParseUint(answer.Response.Header.Get("Retry-After"), 10, 16)
		return time.Duration(seconds) * time.Second, passes(answer)
	case errors.As(err, &network):
		return 0, network.Op == "dial" && !network.Timeout()
	}
	return 0, false
}

// loginOf says who logged in, by the provider's answer to a code.
func (p *Provider) loginOf(ctx context.Context, seed sealing.LoginSeed, token *oauth2.Token) (Person, error) {
	who, err := p.whoLoggedIn(ctx, seed, token)
	if err != nil {
		return Person{}, err
	}
	known, err := p.learn(ctx, token, who)
	if err != nil {
		if !errors.Is(err, ErrAway) || p.client.RuleNeeds.lacks(who.claims) {
			return Person{}, err
		}
		// No rule looks at what is missing. The access token is short, and the next refresh asks
		// for it.
		p.all.Log.Warn("what the MCP server is told of the person cannot be read at the moment; the login begins without it", p.client.Named, "provider", p.issuer, "cause", err)
		known = p.personOf(who.subject, who.claims)
		known.Needs = p.client.RuleNeeds.Marks()
	}
	known.RefreshToken = token.RefreshToken
	if p.canAskAgain(token) {
		known.RefreshToken, known.Unexpiring = token.AccessToken, true
	}
	switch {
	case p.RefreshMode() == "session":
		known.RefreshToken = "" // nothing to steal
	case known.RefreshToken == "" && p.RefreshMode() == "upstream":
		return Person{}, loginRefused(errors.New("the label refresh=upstream wants a refresh token of the provider, and it gave none: " + p.noRefreshToken() + "; or set refresh=session"))
	case known.RefreshToken == "":
		p.warnOfNoRefreshToken()
	}
	if len(known.RefreshToken)+known.size() > MaxValue {
		p.all.Log.Warn("the provider's refresh token is too long to carry, so the login lives only BOUNCER_SESSION_TTL", p.client.Named, "provider", p.issuer, "characters", len(known.RefreshToken))
		known.RefreshToken = ""
	}
	if known.RefreshToken == "" && p.RefreshMode() == "upstream" {
		return Person{}, loginRefused(errors.New("the label refresh=upstream wants a refresh token of the provider, and it gave one that is too long to carry: set refresh=session"))
	}
	known.Unexpiring = known.Unexpiring && known.RefreshToken != ""
	known.CheckedAt, known.Said.Scope = p.all.Now().Unix(), p.granted(token)
	return known, nil
}
