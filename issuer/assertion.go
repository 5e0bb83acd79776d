package issuer

import (
	"context"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxAssertion     = 8 << 10
	maxAssertionLife = 10 * time.Minute
	keysRetry        = 30 * time.Second // an unknown kid may fetch the keys again, this often
)

var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA}

// assertedClient reads whom an assertion speaks of, before anything is verified: it selects the keys to verify it with.
func assertedClient(assertion string) (string, error) {
	token, err := parseAssertion(assertion)
	if err != nil {
		return "", err
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return "", errors.New("client_assertion: claims of unexpected types")
	}
	return claims.Subject, nil
}

func parseAssertion(assertion string) (*jwt.JSONWebToken, error) {
	if len(assertion) > maxAssertion {
		return nil, errors.New("client_assertion: too long")
	}
	token, err := jwt.ParseSigned(assertion, assertionAlgorithms)
	if err != nil {
		return nil, errors.New("client_assertion: not a JWT signed with RS256, PS256, ES256 or EdDSA")
	}
	return token, nil
}

// verifyAssertion is RFC 7523 §3: signed by a key of the client, about the client, for us, and short-lived. It does not
// check that an assertion is presented once: it travels beside a code or refresh token that nobody else has.
func (s *Issuer) verifyAssertion(ctx context.Context, t *tenant, c client, assertion string) error {
	token, err := parseAssertion(assertion)
	if err != nil {
		return err
	}
	if len(token.Headers) != 1 {
		return errors.New("client_assertion: must have one signature")
	}
	keys, err := s.clientKeys(ctx, c, token.Headers[0].KeyID)
	if err != nil {
		return err
	}
	var claims jwt.Claims
	verified := false
	for _, key := range keys {
		if key.Algorithm != "" && key.Algorithm != token.Headers[0].Algorithm || key.Use != "" && key.Use != "sig" {
			continue
		}
		if token.Claims(key, &claims) == nil {
			verified = true
			break
		}
	}
	now := s.Now()
	switch {
	case !verified:
		return errors.New("client_assertion: no key of the client verifies the signature")
	case claims.Issuer != c.id || claims.Subject != c.id:
		return errors.New("client_assertion: iss and sub must be the client_id")
	case !claims.Audience.Contains(t.PublicURL) && !claims.Audience.Contains(t.PublicURL+"/oauth/token"):
		return errors.New("client_assertion: aud is not this server")
	case claims.Expiry == nil || now.After(claims.Expiry.Time().Add(time.Minute)):
		return errors.New("client_assertion: exp is missing or past")
	case claims.Expiry.Time().After(now.Add(maxAssertionLife + sealing.Skew)):
		return errors.New("client_assertion: exp is too far in the future")
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(sealing.Skew)),
		claims.IssuedAt != nil && claims.IssuedAt.Time().After(now.Add(sealing.Skew)):
		return errors.New("client_assertion: from the future")
	}
	return nil
}

// clientKeys are the client's keys with this kid, or all when the assertion names none. An unknown kid may be a new key.
func (s *Issuer) clientKeys(ctx context.Context, c client, kid string) ([]jose.JSONWebKey, error) {
	if c.keys != nil {
		return keysNamed(c.keys, kid), nil
	}
	set, err := s.fetchKeys(ctx, c.keysURL)
	if err != nil {
		return nil, err
	}
	if keys := keysNamed(set, kid); len(keys) > 0 || !s.documents.expire(c.keysURL, s.Now(), keysRetry) {
		return keys, nil
	}
	if set, err = s.fetchKeys(ctx, c.keysURL); err != nil {
		return nil, err
	}
	return keysNamed(set, kid), nil
}

func keysNamed(set *jose.JSONWebKeySet, kid string) []jose.JSONWebKey {
	if kid == "" {
		return set.Keys
	}
	return set.Key(kid)
}

func (s *Issuer) fetchKeys(ctx context.Context, keysURL string) (*jose.JSONWebKeySet, error) {
	parse := func(body []byte) (*jose.JSONWebKeySet, error) {
		set := &jose.JSONWebKeySet{}
		if err := json.Unmarshal(body, set); err != nil || len(set.Keys) == 0 {
			return nil, errors.New("jwks_uri: not a JSON Web Key Set")
		}
		return set, publicKeysOnly(set)
	}
	body, err := s.document(ctx, keysURL, func(body []byte) error { _, err := parse(body); return err })
	if err != nil {
		return nil, err
	}
	return parse(body)
}

// publicKeysOnly refuses a set with a private or symmetric key: whoever reads the document could sign.
func publicKeysOnly(set *jose.JSONWebKeySet) error {
	for _, key := range set.Keys {
		if !key.IsPublic() || !key.Valid() {
			return errors.New("jwks: holds a key that is not a public one")
		}
	}
	return nil
}
