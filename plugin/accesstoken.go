//go:build go1.21

package plugin

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// Why a request is refused. The texts are sent to the client as error_description (RFC 6750 §3), so they hold neither quotes
// nor anything of the token.
var (
	errNoToken     = errors.New("no access token")
	errMalformed   = errors.New("the access token is malformed")
	errType        = errors.New("the token is not an access token")
	errHeader      = errors.New("the token has a header parameter that is not accepted")
	errAlgorithm   = errors.New("the token is signed with an algorithm that is not accepted")
	errIssuer      = errors.New("the access token is from another issuer")
	errAudience    = errors.New("the access token is for another audience")
	errExpired     = errors.New("the access token has expired")
	errNotYetValid = errors.New("the access token is not valid yet")
	errSubject     = errors.New("the access token names no subject")
	errClient      = errors.New("the access token names no client")
	errKeyUnknown  = errors.New("the access token is signed with an unknown key")
	errSignature   = errors.New("the signature of the access token is wrong")
	errScope       = errors.New("the access token lacks a required scope")
)

const (
	maxToken   = 8 << 10 // characters
	maxKeyID   = 64      // characters
	expirySkew = 60      // seconds that a token is honoured after exp
	futureSkew = 300     // seconds that iat and nbf may be ahead of our clock
	maxDate    = 1 << 40 // Unix seconds; larger dates are nonsense and would not fit an int64 with care
)

// identity is what a verified token says.
type identity struct {
	subject string // as X-Mcp-Sub carries it
	scopes  string // separated by single spaces
	expires int64  // Unix seconds, skew included
}

// recall returns who sends a request whose credentials were verified a moment ago, else nil.
func (t *tenant) recall(credentials []string) *identity {
	if len(credentials) != 1 {
		return nil
	}
	return t.keys.recall(sha256.Sum256([]byte(credentials[0])), now().Unix())
}

// authenticate finds out who sends a request. The errors are the ones above and errKeysUnavailable.
func (t *tenant) authenticate(req *http.Request) (*identity, error) {
	credentials := req.Header["Authorization"]
	token, err := bearerToken(credentials)
	if err != nil {
		return nil, err
	}
	find := func(kid string) (*verifyKey, error) { return t.keys.find(req.Context(), kid) }
	id, key, err := verifyAccessToken(token, t.publicURL, t.audience, now().Unix(), find)
	if err != nil {
		return nil, err
	}
	if !hasScopes(id.scopes, t.required) {
		return nil, errScope
	}
	t.keys.remember(sha256.Sum256([]byte(credentials[0])), id, key)
	return id, nil
}

// bearerToken takes the token from the Authorization header, and from nowhere else: RFC 6750 §2.2 and §2.3 (body and query) are
// forbidden to MCP clients, and URLs end up in logs.
func bearerToken(values []string) (string, error) {
	if len(values) == 0 {
		return "", errNoToken
	}
	// Two headers: this plugin and the server behind might each believe another one.
	if len(values) > 1 || len(values[0]) > maxToken+len("Bearer ") {
		return "", errMalformed
	}
	value := values[0]
	if !strings.HasPrefix(value, "Bearer ") {
		scheme, rest, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Bearer") { // RFC 9110 §11.1: schemes ignore case
			return "", errNoToken
		}
		value = "Bearer " + rest
	}
	return value[len("Bearer "):], nil
}

// verifyAccessToken checks a JWT access token (RFC 9068 §4) at a time in Unix seconds. The key is looked up after everything
// that can be checked without it, so that garbage never causes a request to the sidecar. It does not check scopes.
func verifyAccessToken(token, issuer, audience string, at int64, find func(kid string) (*verifyKey, error)) (*identity, *verifyKey, error) {
	parts := strings.Split(token, ".")
	// Go's base64 decoder skips CR and LF even in strict mode; both would give one token many spellings.
	if len(parts) != 3 || strings.ContainsAny(token, "\r\n") {
		return nil, nil, errMalformed
	}
	header, err := decodeObject(parts[0])
	if err != nil {
		return nil, nil, err
	}
	claims, err := decodeObject(parts[1])
	if err != nil {
		return nil, nil, err
	}
	signature, err := strictBase64.DecodeString(parts[2])
	if err != nil {
		return nil, nil, errMalformed
	}

	// RFC 9068 §4: an id token or a refresh token of the same issuer has another type.
	if header["typ"] != "at+jwt" {
		return nil, nil, errType
	}
	// RFC 8725 §3.10, RFC 7515 §4.1.11: no parameter that brings a key, points at one or changes what is signed.
	for _, name := range refusedParameters {
		if _, present := header[name]; present {
			return nil, nil, errHeader
		}
	}
	algorithm := header["alg"]
	if algorithm != "EdDSA" && algorithm != "RS256" {
		return nil, nil, errAlgorithm
	}
	kid, _ := header["kid"].(string)
	if kid == "" || len(kid) > maxKeyID {
		return nil, nil, errKeyUnknown
	}

	if claims["iss"] != issuer {
		return nil, nil, errIssuer
	}
	if !namesAudience(claims["aud"], audience) {
		return nil, nil, errAudience
	}
	expires, _ := claims["exp"].(float64)
	if expires < 1 || expires > maxDate {
		return nil, nil, errMalformed
	}
	deadline := int64(expires) + expirySkew
	if at >= deadline {
		return nil, nil, errExpired
	}
	issued, _ := claims["iat"].(float64)
	if issued < 1 || issued > maxDate {
		return nil, nil, errMalformed
	}
	latest := float64(at + futureSkew)
	if issued > latest {
		return nil, nil, errNotYetValid
	}
	if value, present := claims["nbf"]; present {
		notBefore, ok := value.(float64)
		if !ok {
			return nil, nil, errMalformed
		}
		if notBefore > latest {
			return nil, nil, errNotYetValid
		}
	}
	subject, _ := claims["sub"].(string)
	if subject == "" {
		return nil, nil, errSubject
	}
	if client, _ := claims["client_id"].(string); client == "" {
		return nil, nil, errClient
	}
	scope, ok := claims["scope"].(string)
	if !ok && claims["scope"] != nil {
		return nil, nil, errMalformed
	}
	scopes := strings.Join(strings.Fields(scope), " ")
	if strings.Trim(scopes, scopeChars+" ") != "" {
		return nil, nil, errMalformed
	}

	key, err := find(kid)
	if err != nil {
		return nil, nil, err
	}
	// RFC 8725 §3.1: the key says which algorithm it is for. The header may only agree.
	if algorithm != key.algorithm {
		return nil, nil, errAlgorithm
	}
	if !key.verifies(token[:len(token)-len(parts[2])-1], signature) {
		return nil, nil, errSignature
	}
	return &identity{subject: headerSubject(subject), scopes: scopes, expires: deadline}, key, nil
}

var refusedParameters = []string{"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip"}

var strictBase64 = base64.RawURLEncoding.Strict()

// decodeObject decodes a part of a token. A map keeps member names exact, where a struct would take "ALG" for "alg".
func decodeObject(part string) (map[string]any, error) {
	text, err := strictBase64.DecodeString(part)
	if err != nil {
		return nil, errMalformed
	}
	var object map[string]any
	if json.Unmarshal(text, &object) != nil || object == nil {
		return nil, errMalformed
	}
	return object, nil
}

// namesAudience accepts the two forms of RFC 7519 §4.1.3: one string, or an array of strings.
func namesAudience(claim any, audience string) bool {
	if claim == audience {
		return true
	}
	list, _ := claim.([]any)
	for _, a := range list {
		if a == audience {
			return true
		}
	}
	return false
}

// hasScopes says whether a scope claim holds all required scopes.
func hasScopes(scopes string, required []string) bool {
	for _, scope := range required {
		if !strings.Contains(" "+scopes+" ", " "+scope+" ") {
			return false
		}
	}
	return true
}

// verifies checks a signature over header and claims as they stand in the token.
func (k *verifyKey) verifies(signed string, signature []byte) bool {
	if k.algorithm == "EdDSA" {
		return ed25519.Verify(k.ed25519, []byte(signed), signature)
	}
	hash := sha256.Sum256([]byte(signed))
	return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, hash[:], signature) == nil
}
