package issuer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

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
	verifier := up.provider.Verifier(&oidc.Config{ClientID: t.ClientID, SkipExpiryCheck: true})
	verified, err := verifier.Verify(ctx, raw)
	if keysAway(err) && s.Wait(ctx, oncePause) == nil {
		verified, err = verifier.Verify(ctx, raw)
	}
	if err != nil {
		if keysAway(err) { // nothing was refused: the client may try again with what it holds
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
	s.Log.Debug("id_token verified", t.named(), "provider", up.issuer, "subject", s.Ring.Pseudonym(t.id, verified.Subject))
	return idToken{verified.Subject, verified.Nonce, all}, nil
}

// keysAway says that the provider's keys could not be read. go-oidc has no error value for it.
func keysAway(err error) bool { return err != nil && strings.Contains(err.Error(), "fetching keys") }
