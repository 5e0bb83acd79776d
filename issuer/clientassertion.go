package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/rsabits"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const (
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxAssertion     = 8 << 10
	maxAssertionLife = 10 * time.Minute
	maxKeys          = 20 // of one client: an assertion that names none is tried with each
)

var assertionAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA}

// assertedClient reads which client an assertion is about, before anything is verified: the client
// has the keys to verify it with.
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

// verifyAssertion applies RFC 7523 §3: an assertion is signed by a key of the client, about the
// client, for us, and short-lived. It does not check that an assertion comes only once. An
// assertion travels beside a code or refresh token that nobody else has or, with
// client_credentials, to us alone, as a secret would.
func (s *Issuer) verifyAssertion(ctx context.Context, t *tenant, c client, assertion string) error {
	token, err := parseAssertion(assertion)
	if err != nil {
		return err
	}
	if len(token.Headers) != 1 {
		return errors.New("client_assertion: must have one signature")
	}
	// RFC 8725 §3.11: a JWT that says it is something else (an access token, a DPoP proof, a logout
	// token) is not an assertion.
	typ, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string)
	if typ = strings.TrimPrefix(strings.ToLower(typ), "application/"); typ != "" && typ != "jwt" && typ != "client-authentication+jwt" {
		return errors.New("client_assertion: typ of something else")
	}
	var claims jwt.Claims
	verified, err := s.verifySignature(ctx, c, token, &claims)
	if err != nil {
		return err
	}
	now := s.Now()
	switch {
	case !verified:
		return errors.New("client_assertion: no key of the client verifies the signature")
	case claims.Issuer != c.id || claims.Subject != c.id:
		return errors.New("client_assertion: iss and sub must be the client_id")
	case !t.isAudience(claims.Audience):
		return errors.New("client_assertion: aud is not this server alone")
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

// isAudience wants this server in every place of aud. An assertion that is good elsewhere too could
// have been sent there first, and whoever got it there could present it here.
func (t *tenant) isAudience(aud jwt.Audience) bool {
	return len(aud) > 0 && !slices.ContainsFunc(aud, func(a string) bool { return a != t.PublicURL && a != t.PublicURL+"/oauth/token" })
}

// verifySignature says whether a key of the client signed the token, and reads its claims. If no
// known key verifies the signature, it may be a new key's: then the document with the keys is read
// again, though not more often than clientdoc.Retry.
func (s *Issuer) verifySignature(ctx context.Context, c client, token *jwt.JSONWebToken, claims *jwt.Claims) (bool, error) {
	if !c.byDocument() {
		return verifiedBy(c.keys, token, claims), nil
	}
	source := clientdoc.Document(c.id)
	read := func() (*jose.JSONWebKeySet, error) {
		reg, err := s.documentClient(ctx, c.id)
		if err == nil && reg.keys == nil {
			err = errors.New("client_assertion: the client has no key any more")
		}
		return reg.keys, err
	}
	if c.keysURL != "" {
		source = clientdoc.Keys(c.keysURL)
		read = func() (*jose.JSONWebKeySet, error) { return s.fetchKeys(ctx, source) }
	}
	set, err := read()
	if err != nil || verifiedBy(set, token, claims) {
		return err == nil, err
	}
	if s.documents.Expire(source) {
		if set, err = read(); err != nil || verifiedBy(set, token, claims) {
			return err == nil, err
		}
	}
	if s.documents.Stale(source) {
		return false, fmt.Errorf("%w: it may have this key by now", clientdoc.ErrUnreadable)
	}
	return false, nil
}

// verifiedBy tries the keys that the token may mean: the keys with its kid, or all keys when it has
// no kid.
func verifiedBy(set *jose.JSONWebKeySet, token *jwt.JSONWebToken, claims *jwt.Claims) bool {
	header := token.Headers[0]
	return slices.ContainsFunc(set.Keys, func(key jose.JSONWebKey) bool {
		return (header.KeyID == "" || key.KeyID == header.KeyID) &&
			(key.Algorithm == "" || key.Algorithm == header.Algorithm) && (key.Use == "" || key.Use == "sig") &&
			token.Claims(key, claims) == nil
	})
}

func (s *Issuer) fetchKeys(ctx context.Context, source clientdoc.Source) (*jose.JSONWebKeySet, error) {
	body, err := s.documents.Fetch(ctx, source, func(body []byte) error { _, err := parseKeys(body); return err })
	if err != nil {
		return nil, err
	}
	return parseKeys(body)
}

var errNoKey = errors.New("jwks: holds no key that can be used")

// parseKeys reads a JWK Set. It passes over keys of unknown kinds (RFC 7517 §5), and RSA keys that
// are too short or too long. A private or symmetric key spoils the set, because whoever reads it
// can sign.
func parseKeys(body []byte) (*jose.JSONWebKeySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, errors.New("jwks: not a JSON Web Key Set")
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("jwks: at most %d keys", maxKeys)
	}
	set := &jose.JSONWebKeySet{}
	for _, text := range raw.Keys {
		var secret struct {
			D    json.RawMessage `json:"d"`
			K    json.RawMessage `json:"k"`
			Priv json.RawMessage `json:"priv"` // of RFC 9964 (ML-DSA)
		}
		if err := json.Unmarshal(text, &secret); err != nil {
			return nil, errors.New("jwks: not a JSON Web Key Set")
		}
		if secret.D != nil || secret.K != nil || secret.Priv != nil {
			return nil, errors.New("jwks: holds a key that is not a public one")
		}
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && key.IsPublic() && key.Valid() && !rsabits.IsShort(key.Key) && !rsabits.IsLong(key.Key) {
			set.Keys = append(set.Keys, key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errNoKey
	}
	return set, nil
}
