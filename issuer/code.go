package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"regexp"

	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// redeemCode handles RFC 6749 §4.1.3. Each check of ours comes before the provider's code is used
// up, so a thief without the verifier cannot spoil it. The provider decides, last, whether this is
// the first time.
func (s *Issuer) redeemCode(ctx context.Context, t *tenant, c client, form url.Values) (tokenResponse, error) {
	var code authorizationCode
	sealedAt, err := s.openDated(sealing.KindCode, t, clientContext(c.hash()), form.Get("code"), &code)
	if err != nil {
		return tokenResponse{}, invalidGrant("the authorization code is not valid for this client, or too old").because(err)
	}
	if code.KeyRequired && !c.proved {
		return tokenResponse{}, errKeyMissing
	}
	// OAuth 2.1 §4.1.3 no longer asks for redirect_uri here. A client that sends it must send the
	// same.
	if uri := form.Get("redirect_uri"); uri != "" && !redirecturi.Same(uri, code.RedirectURI) {
		return tokenResponse{}, invalidGrant("redirect_uri is not the one of the authorization request")
	}
	resource, err := t.narrowResource(form, code.Resource)
	if err != nil {
		return tokenResponse{}, err
	}
	if !verifyChallenge(code.Challenge, form.Get("code_verifier")) {
		return tokenResponse{}, invalidGrant("code_verifier does not match the code_challenge")
	}
	if err := s.redirectDenied(ctx, code.RedirectURI); err != nil {
		return tokenResponse{}, err
	}
	mark := code.mark(t)
	done, err := s.redeeming.turn(ctx, mark)
	if err != nil {
		return tokenResponse{}, temporarilyUnavailable("another request with this code is being answered; try again", err)
	}
	defer done()
	handBack, err := s.markCode(ctx, t, code, mark)
	if err != nil {
		return tokenResponse{}, err
	}
	var who identity
	var withheld []string
	if code.Identity != nil {
		who = *code.Identity
	} else {
		if who, withheld, err = s.redeem(ctx, t, code.Seed, string(code.UpstreamCode), false); err != nil {
			// Nothing was given for the code. It may still be good. Or it never was, and strangers
			// who invent codes would fill the guard with them.
			handBack()
			return tokenResponse{}, err
		}
		code.Scope = withoutScopes(code.Scope, withheld)
	}
	g := grant{Identity: who, Scope: code.Scope, Resource: code.Resource, Login: [16]byte(randomBytes(16)), Born: min(sealedAt.Unix(), s.Now().Unix()), KeyRequired: c.proved}
	if c.interchangeable() {
		g.Client, _ = base64.RawURLEncoding.DecodeString(sealing.Fingerprint(c.id))
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return tokenResponse{}, err
	}
	if err := s.admitLogin(t, who, withheld); err != nil {
		return tokenResponse{}, err
	}
	if err := t.givesScope(g, ""); err != nil {
		return tokenResponse{}, err
	}
	next := renewal{grant: g, token: s.sealGrant(t, c, g)}
	next.Resource = resource // of the access token only
	return s.issue(t, c, next, "", "authorization_code")
}

var codeVerifier = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)

// verifyChallenge applies RFC 7636 §4.6 for S256, the only method. An empty verifier never matches:
// each code has a challenge.
func verifyChallenge(challenge [sha256.Size]byte, verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && len(verifier) <= 128 && codeVerifier.MatchString(verifier) && subtle.ConstantTimeCompare(sum[:], challenge[:]) == 1
}
