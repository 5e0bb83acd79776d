package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// revoke handles RFC 7009: a client ends its login. The login ends at once at the replay guard, and
// at the provider, where the next check meets it. Without either nothing here can end it, and the
// client is told so.
func (s *Issuer) revoke(w http.ResponseWriter, r *http.Request, t *tenant, c client, form url.Values) error {
	token := form.Get("token")
	switch {
	case token == "":
		return invalidRequest("token is missing")
	case strings.Count(token, ".") == 2:
		return badRequest("unsupported_token_type", "an access token ends by itself; revoke the refresh token")
	}
	g, _, err := s.openGrant(t, c, token)
	if err != nil {
		// RFC 7009 §2.2: a value that is not a token, or not any more, needs no revoking. Another
		// client's token does not open either.
		s.record(audit.RevocationIgnored, about{tenant: t, client: c.id})
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if g.KeyRequired && !c.proved {
		return errKeyMissing
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), refreshTimeout)
	defer cancel()
	if err := s.endAtGuard(ctx, t, g); err != nil {
		return temporarilyUnavailable("the login cannot be ended at the moment; try again", err)
	}
	err = s.revokeUpstream(ctx, t, g)
	switch guarded := s.ReplayGuard != nil; {
	case err == nil:
	case guarded && g.Identity.RefreshToken == "": // the provider has nothing to revoke
	case guarded: // it has ended here, whatever the provider thinks
		s.Log.Warn("a revoked login has ended here, but its refresh token at the provider has not been revoked", t.named(), "family", g.loginID(), "cause", err)
	case errors.Is(err, provider.ErrNotRevocable):
		return badRequest("unsupported_token_type", "this server cannot end a login before its time").because(fmt.Errorf("there is no replay guard, and %w", err))
	default:
		return temporarilyUnavailable("the sign-in provider cannot be reached; try again", err)
	}
	s.loginEnded(t, c, g, "revoked", "its client revoked it")
	s.counters.add(loginsRevoked)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Issuer) revokeUpstream(ctx context.Context, t *tenant, g grant) error {
	if g.Identity.RefreshToken == "" {
		return fmt.Errorf("the login has no refresh token of the provider: %w", provider.ErrNotRevocable)
	}
	up, err := s.providers.Connect(ctx, &t.provider)
	if err != nil {
		return err
	}
	return up.Revoke(ctx, g.Identity.person())
}

// revocable says whether the revocation endpoint has an effect here, as far as is known without
// asking the provider.
func (s *Issuer) revocable(t *tenant) bool {
	if s.ReplayGuard != nil {
		return true
	}
	up := s.providers.Known(&t.provider)
	return up != nil && up.RevokesOneLogin() && up.RefreshMode() != "session"
}
