package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// RevokesOneLogin says whether a revocation at the provider ends a login, and no more than that.
func (p *Provider) RevokesOneLogin() bool {
	return (p.revocationURL != "" || p.client.IsGitHub()) && !p.dialect.revokesAll
}

// revokeAccess ends a login by its access token. A refresh token is used for that, and the one that
// comes in its place is thrown away: nobody has it then.
func (p *Provider) revokeAccess(ctx context.Context, last Person) error {
	ctx, cancel := p.exchange(withStep(ctx, "revoke"))
	defer cancel()
	accessToken := last.RefreshToken
	if !last.Unexpiring {
		known := p.all.standings.of(p.client, p.secret, p.all.Now())
		token, err := p.postRefresh(ctx, p.config(), last.RefreshToken)
		if err != nil {
			if err = p.refreshError(known, last, err); errors.Is(err, ErrEnded) {
				return nil
			}
			return err
		}
		accessToken = token.AccessToken
	}
	return p.people.revoke(ctx, p, accessToken)
}

// Revoke ends a login at the provider by the token that last carries: by RFC 7009 §2.1, or as
// GitHub does it. The error is ErrNotRevocable where the provider cannot do that, and otherwise for
// the log only: the login may have ended or not.
func (p *Provider) Revoke(ctx context.Context, last Person) error {
	if !p.RevokesOneLogin() {
		return ErrNotRevocable
	}
	if p.people != nil {
		return p.revokeAccess(ctx, last)
	}
	refreshToken := last.RefreshToken
	ctx, cancel := context.WithTimeout(outgoing.WithSecondTry(withStep(ctx, "revoke")), timeout)
	defer cancel()
	form := url.Values{"token": {refreshToken}, "token_type_hint": {"refresh_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.revocationURL, nil)
	if err != nil {
		return err
	}
	p.prove(r, form)
	resp, err := p.provingClient().Do(r)
	if err != nil {
		return redact(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %d", resp.StatusCode)
	}
	return nil
}
