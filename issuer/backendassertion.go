package issuer

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// backendAssertionType keeps an assertion from passing for an access token, and an access token
	// from passing for an assertion (RFC 8725 §3.11).
	backendAssertionType = "mcp-assertion+jwt"
	backendAssertionLife = 5 * time.Minute
)

// backendAssertion is for an MCP server that verifies who calls instead of trusting a header: it
// says what the access token says, signed for this server. The server never gets the access token
// itself, with which it could call in the person's name.
type backendAssertion struct {
	Assertion string `json:"assertion"`
	ExpiresIn int64  `json:"expires_in"`
}

// assertToBackend makes an assertion for the plugin from an access token of this tenant. The plugin
// has verified the token, but nothing here relies on that.
func (s *Issuer) assertToBackend(w http.ResponseWriter, r *http.Request, t *tenant) error {
	form, err := tokenForm(r)
	if err != nil {
		return err
	}
	claims, err := s.verifyAccessToken(t, form.Get("access_token"))
	if err != nil {
		return invalidGrant("the access token is not one of this server, or too old").because(err)
	}
	now := s.Now()
	expires := min(now.Add(backendAssertionLife).Unix(), claims.Expires)
	claims.Audience, claims.IssuedAt, claims.NotBefore, claims.Expires = []string{t.PublicURL}, now.Unix(), now.Unix(), expires
	claims.ID = base64.RawURLEncoding.EncodeToString(randomBytes(16))
	writeJSON(w, http.StatusOK, backendAssertion{s.sign(t, backendAssertionType, claims), expires - now.Unix()})
	return nil
}

// verifyAccessToken applies RFC 9068 §4 to our own tokens. It does not look into the deny document:
// the plugin does at each request.
func (s *Issuer) verifyAccessToken(t *tenant, text string) (claims accessTokenClaims, err error) {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(token.Headers) != 1 || token.Headers[0].ExtraHeaders[jose.HeaderType] != accessTokenType {
		return claims, errors.New("access_token: not a JWT of its type")
	}
	keys := s.Ring.VerificationKeys(t.id, s.Schedule, s.Now())
	i := slices.IndexFunc(keys, func(key ed25519.PublicKey) bool { return keyID(key) == token.Headers[0].KeyID })
	if i < 0 {
		return claims, errors.New("access_token: signed with no key of this server")
	}
	if err := token.Claims(keys[i], &claims); err != nil {
		return claims, errors.New("access_token: the signature is wrong")
	}
	if claims.Issuer != t.PublicURL || !slices.Contains(claims.Audience, t.Audience) || s.Now().Unix() >= claims.Expires {
		return claims, errors.New("access_token: of another server, or expired")
	}
	return claims, nil
}
