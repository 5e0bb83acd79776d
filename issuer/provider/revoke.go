package provider

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// RevokesOneLogin says whether a revocation at the provider ends a login, and no more than that.
func (p *Provider) RevokesOneLogin() bool {
	return p.revocationURL != "" && !p.dialect.revokesAll
}

// Revoke ends a login at the provider by its refresh token (RFC 7009 §2.1). The error is
// ErrNotRevocable where the provider cannot do that, and otherwise for the log only: the login may
// have ended or not.
func (p *Provider) Revoke(ctx context.Context, refreshToken string) error {
	if !p.RevokesOneLogin() {
		return ErrNotRevocable
	}
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
