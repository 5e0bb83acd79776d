package provider

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// StaleWindow is for how long a provider's last word on a person stands when no newer one can be
// had.
const StaleWindow = 2 * time.Hour

// Refresh presents the refresh token of a person who logged in earlier, and returns what the
// provider says of them now, with the refresh token to present next (RFC 6749 §6, OpenID Connect
// Core §12). login names the login; requests for one login must not come at the same time.
//
// Where the provider grants the refresh and what it says of the person cannot be read, the last
// known claims stand for StaleWindow, since UnreadSince. The error is one of ErrEnded, ErrRefused,
// ErrAway and ErrOurFault. After the last two nothing has moved, as far as can be known.
func (p *Provider) Refresh(ctx context.Context, login [16]byte, last Person) (Person, error) {
	ctx, cancel := p.exchange(withStep(ctx, "refresh"))
	defer cancel()
	known := p.all.standings.of(p.client, p.secret, p.all.Now())
	token, who, noNews, err := p.goOn(ctx, known, login, last)
	if token == nil {
		return Person{}, err
	}
	known.takes(last.RefreshToken, p.all.Now())
	var next Person
	used := false // the new access token
	switch {
	case err != nil:
	case noNews && p.client.Needs.Within(last.Needs): // which takes nothing back
		next, next.UnreadSince = last, 0
	case noNews:
		err = ErrNeedsMore
	default:
		next, err = p.learn(ctx, token, who)
		used = err == nil && p.userinfoURL != "" && p.client.Needs.lacks(who.claims)
	}
	checkedAt := checkedAfter(last.CheckedAt, p.all.Now())
	if err == nil {
		known.reads(login)
	} else {
		since := known.unreadSince(login, time.Unix(last.CheckedAt, 0), p.all.Now())
		if sealed := time.Unix(last.UnreadSince, 0); last.UnreadSince != 0 && sealed.Before(since) {
			since = sealed
		}
		silent := p.all.Now().Sub(since) > StaleWindow
		if !errors.Is(err, ErrAway) || silent || !p.client.Needs.Within(last.Needs) {
			if silent && errors.Is(err, errUnusable) { // waiting did not mend it
				err = because(ErrNeverRead, causeOf(err))
			}
			return Person{}, err
		}
		// The provider may have replaced its refresh token: losing the new one would end the login.
		// The next refresh asks again. The last known claims do not stand for ever: a person who
		// was taken out of a group would stay in as long as userinfo fails.
		p.all.Log.Warn("what the provider says of the person cannot be read; the last known claims stand", p.client.Named, "provider", p.issuer, "cause", err)
		next, checkedAt = last, last.CheckedAt
		next.UnreadSince = since.Unix()
	}
	next.RefreshToken, next.CheckedAt, next.Unsaid = token.RefreshToken, checkedAt, last.Unsaid
	// A refresh is no sign-in, whatever its id_token says (OpenID Connect Core §12.2).
	next.ACR, next.AuthTime = last.ACR, last.AuthTime
	if next.Said.Scope = p.granted(token); next.Said.Scope != nil {
		next.Unsaid = ""
	}
	next.Unexpiring = last.Unexpiring && next.RefreshToken == ""
	if next.RefreshToken == "" {
		next.RefreshToken = last.RefreshToken // RFC 6749 §6: none sent means the old one stays
	}
	if next.RefreshToken != last.RefreshToken && len(next.RefreshToken)+next.size() > MaxValue {
		p.all.Log.Warn("the provider's new refresh token is too long to carry, so the one before it stays; if the provider has ended that one, the login ends at the next check", p.client.Named, "provider", p.issuer, "characters", len(next.RefreshToken))
		next.RefreshToken = last.RefreshToken
	}
	if !used && next.RefreshToken != last.RefreshToken {
		p.endOldToken(ctx, token, last.Subject)
	}
	return p.handOnAgain(ctx, token, last, next)
}

// goOn asks whether a login may go on, and whose it is. token is nil where it may not, or where
// nothing has moved. Otherwise the error is about what was said of the person. noNews: nothing was.
func (p *Provider) goOn(ctx context.Context, known *standing, login [16]byte, last Person) (token *oauth2.Token, who idToken, noNews bool, err error) {
	if last.Unexpiring {
		token, who, err = p.askWithToken(ctx, known, login, last)
		return token, who, false, err
	}
	token, err = p.postRefresh(ctx, p.config(), last.RefreshToken)
	switch {
	case errors.Is(err, ErrLost):
		return nil, who, false, err
	case err != nil:
		return nil, who, false, p.refreshError(known, last, err)
	case p.people != nil:
		who, err = p.whoAgain(ctx, token, last.Subject)
		return token, who, false, err
	}
	// OpenID Connect Core §12.2: an id_token may be missing here, and userinfo answers then.
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return token, idToken{subject: last.Subject}, p.userinfoURL == "", nil
	}
	who, err = p.refreshedIDToken(ctx, raw, last.Subject)
	return token, who, false, err
}

// checkedAfter is the time of a check. It differs from the time of the check before, which may have
// been in the same second: requests that hold one provider's token of one check share a question.
// Checks that come much faster than one each second share some.
func checkedAfter(last int64, now time.Time) int64 {
	const ahead = 60
	return max(now.Unix(), min(last+1, now.Unix()+ahead))
}

// endOldToken uses a new access token once, where the provider ends the refresh token before only
// then: a stolen older one would work on, also after its owner has revoked the newest.
func (p *Provider) endOldToken(ctx context.Context, token *oauth2.Token, subject string) {
	if !p.dialect.endsOldAtUse {
		return
	}
	if _, err := p.userinfo(ctx, token, subject); err != nil && p.all.said.First("used access token", p.client.RedirectURI) {
		p.all.Log.Warn("the provider ends a refresh token when the access token that came with the next one is used, and it cannot be used: a stolen refresh token may work on; see BOUNCER_REPLAY_GUARD",
			p.client.Named, "provider", p.issuer, "cause", err)
	}
}

// errAnswerLost: the provider may have replaced its refresh token, and must not be asked again.
var errAnswerLost = errors.New("the provider's answer was lost, and to ask it again would end all logins of this person there")

// postRefresh posts a refresh token. When the answer is lost it is posted once more: if the
// provider has not replaced it, or has a leeway, nothing is lost, and otherwise the login is over
// anyway. Where the second time would end other logins too, this one is given up
// (docs/decisions/0024-what-a-provider-said.md).
func (p *Provider) postRefresh(ctx context.Context, config *oauth2.Config, refreshToken string) (*oauth2.Token, error) {
	ask := func(ctx context.Context) (*oauth2.Token, error) {
		token, err := askToken(ctx, func(ctx context.Context) (*oauth2.Token, error) {
			// A token without an access token makes the source refresh at once.
			return config.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
		})
		if err == nil && token.RefreshToken == "" {
			token.RefreshToken = refreshToken // as x/oauth2 has it
		}
		return token, err
	}
	if p.dialect.reuseEndsAll {
		client := p.provingClient()
		seen := &witness{next: client.Transport}
		client.Transport = rewritten{seen, readableTokens}
		token, err := ask(oidc.ClientContext(outgoing.WithoutSecondTry(ctx), client))
		if isLost(err) && seen.sent.Load() && !seen.wasElse.Load() {
			err = because(ErrLost, errAnswerLost)
		}
		return token, err
	}
	ctx = outgoing.WithSecondTry(ctx)
	token, err := ask(ctx)
	if isLost(err) && ctx.Err() == nil && outgoing.TakeSecondTry(ctx) {
		// Many still take the old one for half a minute; our client comes again after that.
		token, err = ask(ctx)
	}
	return token, err
}

// witness is an http.RoundTripper that knows whether a request went out, and whether something else
// than an API has answered it: a page says nothing of what became of a refresh token.
type witness struct {
	next          http.RoundTripper
	sent, wasElse atomic.Bool
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			w.sent.Store(true)
		}
	}}
	resp, err := w.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err == nil {
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		w.wasElse.Store(kind != "application/json")
	}
	return resp, err
}

// isLost says that there was no answer that could be read, other than because time ran out.
func isLost(err error) bool {
	var answer *oauth2.RetrieveError
	var broken *url.Error
	return err != nil && !errors.As(err, &answer) && !(errors.As(err, &broken) && broken.Timeout())
}
