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

// These errors say why a request is refused. Their texts are sent to the client as
// error_description (RFC 6750 §3), so they hold neither quotes nor any part of the token.
var (
	errNoToken     = errors.New("no access token")
	errRepeated    = errors.New("the request has more than one Authorization header")
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
	// Unix seconds. Larger dates are nonsense, and sums with them could overflow an int64.
	maxDate = 1 << 40
)

// identity is what a verified token says.
type identity struct {
	subject string // as X-Mcp-Sub carries it
	scopes  string // separated by spaces
	expires int64  // Unix seconds, skew included
	// of the key that the token is bound to; empty: none
	thumbprint string

	more      []headerValue // what the labels identityHeaders and upstreamToken ask for
	assertion *assertion    // nil: the label asks for none
	life      *lifetime     // nil until it is remembered: see tokenCache
	signIn    *signIn       // nil: the label authenticationRules is not set, or nobody signed in
}

// authenticate finds out who sends a request. Its errors are those above, errKey, errDenied and
// errKeysUnavailable.
func authenticate(t *tenant, req *http.Request) (*identity, error) {
	credentials := req.Header["Authorization"]
	// Where proofs are taken, protect goes another way.
	if comesWithProof(credentials) {
		return refuseScheme(t, req, credentials)
	}
	text, err := bearerToken(credentials)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(text, keyPrefix) {
		return verifyToken(t, req, credentials[0], text, asBearer)
	}
	if err := refuseKey(t); err != nil {
		return nil, err
	}
	text, err = exchangeKey(req.Context(), t, text, addressOf(req), traceparentOf(req))
	if err != nil {
		return nil, err
	}
	return verifyToken(t, req, credentials[0], text, asKey)
}

// verifyToken verifies an access token that came in one of the ways of dpop.go. name is under what
// it is remembered.
func verifyToken(t *tenant, req *http.Request, name, text string, way int) (*identity, error) {
	at := now().Unix()
	token, err := readAccessToken(text, t.publicURL, t.audience, at)
	if err != nil {
		return nil, err
	}
	// The access token may end together with its key, and the plugin gets another one at any time:
	// there are no seconds of grace.
	if way == asKey {
		token.identity.expires -= expirySkew
		if at >= token.identity.expires {
			return nil, errExpired
		}
	}
	// Everything that can be checked without the signing key is checked before it is looked up, so
	// that garbage never causes a request to the sidecar.
	key, denied := judges(t.sidecar.tokens, token.kid, at)
	if key == nil {
		key, err = findKey(req, t, token.kid)
		if err != nil {
			return nil, err
		}
	}
	if err := checkSignature(token, key); err != nil {
		return nil, err
	}
	if t.dpop != proofsOff || token.claims.Confirmation != nil || way == proofKnown {
		if err := bind(t, token, way); err != nil {
			return nil, err
		}
	}
	if len(t.required) > 0 && !hasScopes(token.identity.scopes, t.required) {
		return nil, errScope
	}
	if t.stepup != nil {
		if err := judgeSignIn(t, token, at); err != nil {
			return nil, err
		}
	}
	if denied == nil {
		denied, err = findDenyList(req, t)
		if err != nil {
			return nil, err
		}
	}
	if denies(denied, &token.claims) {
		return nil, errDenied
	}
	if len(t.identityHeaders) > 0 {
		identifyMore(t, &token.claims, token.identity)
	}
	var o *opener
	if t.upstream != nil {
		o, err = handOn(t, token.payload, token.identity)
		if err != nil {
			return nil, err
		}
	}
	if token.claims.Login != "" {
		present(t.sidecar.figures, &token.claims)
	}
	id := remember(t.sidecar.tokens, name, token.identity, key, denied)
	if t.sight != nil && id.life != nil {
		acquaint(id.life, name, key, denied, id.scopes, len(t.identityHeaders) > 0, o)
	}
	return id, nil
}

// bearerToken takes the token from the Authorization header, and from nowhere else. MCP forbids
// clients to send it in body or query (RFC 6750 §2.2, §2.3), and URLs end up in logs.
func bearerToken(values []string) (string, error) {
	if len(values) == 0 {
		return "", errNoToken
	}
	// With two headers, the plugin and the server behind it might each believe another one.
	if len(values) > 1 {
		return "", errRepeated
	}
	if len(values[0]) > maxToken+len("Bearer ") {
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

// accessToken is a token that readAccessToken has accepted. None of its claims may be believed
// before checkSignature.
type accessToken struct {
	kid       string
	algorithm string
	signed    string // header and claims as they stand in the token
	signature []byte
	payload   []byte // JSON, of which claims are a part
	claims    claims
	identity  *identity
}

// claims are the claims of RFC 9068 §2.2 that are looked at. Dates may have a fraction (RFC 7519
// §2). A claim that decodes to the zero value counts as absent. encoding/json also takes "ISS" for
// "iss". That is for the signer to decide, since no claim is believed before the signature.
type claims struct {
	Issuer    string          `json:"iss"`
	Subject   string          `json:"sub"`
	Audience  json.RawMessage `json:"aud"`
	Expires   float64         `json:"exp"`
	Issued    float64         `json:"iat"`
	NotBefore float64         `json:"nbf"`
	ClientID  string          `json:"client_id"`
	Scope     string          `json:"scope"`

	// RFC 7800 §3.1; RFC 9449 §6.1
	Confirmation any `json:"cnf"`

	Login    string  `json:"sid"`
	AuthTime float64 `json:"auth_time"`

	Email  string   `json:"email"`
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
}

// readAccessToken checks a JWT access token (RFC 9068 §4) at a time in Unix seconds: everything
// except its signature and its scopes.
func readAccessToken(token, issuer, audience string, at int64) (*accessToken, error) {
	parts := strings.Split(token, ".")
	// The base64 decoder of Go skips CR and LF even in strict mode. Both would give one token many
	// spellings.
	if len(parts) != 3 || strings.ContainsAny(token, "\r\n") {
		return nil, errMalformed
	}
	text, err := strictBase64.DecodeString(parts[0])
	if err != nil {
		return nil, errMalformed
	}
	// A map keeps the names of members exact: a struct would take "ALG" for "alg".
	var header map[string]string
	if json.Unmarshal(text, &header) != nil {
		return nil, errMalformed
	}
	// RFC 9068 §4: an id token or a refresh token of the same issuer has another type.
	if header["typ"] != "at+jwt" {
		return nil, errType
	}
	if header["alg"] != "EdDSA" && header["alg"] != "RS256" {
		return nil, errAlgorithm
	}
	kid := header["kid"]
	if kid == "" || len(kid) > maxKeyID {
		return nil, errKeyUnknown
	}
	// RFC 8725 §3.10, RFC 7515 §4.1.11: the sidecar sends these three header parameters and no
	// others. So no parameter that brings a key, points at one or changes what is signed (jwk, jku,
	// x5u, crit, b64, zip) needs to be known here by name.
	if len(header) != 3 {
		return nil, errHeader
	}

	text, err = strictBase64.DecodeString(parts[1])
	if err != nil {
		return nil, errMalformed
	}
	var c claims
	if json.Unmarshal(text, &c) != nil {
		return nil, errMalformed
	}
	if c.Issuer != issuer {
		return nil, errIssuer
	}
	if !namesAudience(c.Audience, audience) {
		return nil, errAudience
	}
	if c.Expires < 1 || c.Expires > maxDate || c.Issued < 1 || c.Issued > maxDate || c.NotBefore > maxDate {
		return nil, errMalformed
	}
	deadline := int64(c.Expires) + expirySkew
	if at >= deadline {
		return nil, errExpired
	}
	latest := float64(at + futureSkew)
	if c.Issued > latest || c.NotBefore > latest {
		return nil, errNotYetValid
	}
	if c.Subject == "" {
		return nil, errSubject
	}
	if c.ClientID == "" {
		return nil, errClient
	}
	if strings.Trim(c.Scope, scopeChars+" ") != "" {
		return nil, errMalformed
	}

	signature, err := strictBase64.DecodeString(parts[2])
	if err != nil {
		return nil, errMalformed
	}
	return &accessToken{
		kid:       kid,
		algorithm: header["alg"],
		signed:    token[:len(token)-len(parts[2])-1],
		signature: signature,
		payload:   text,
		claims:    c,
		identity:  &identity{subject: encodeValue(c.Subject), scopes: c.Scope, expires: deadline},
	}, nil
}

// checkSignature checks the signature of a token with the key that the token names by its kid.
func checkSignature(t *accessToken, key *verifyKey) error {
	// RFC 8725 §3.1: the key says which algorithm it is for. The header may only agree.
	if t.algorithm != key.algorithm {
		return errAlgorithm
	}
	if key.algorithm == "EdDSA" {
		if !ed25519.Verify(key.ed25519, []byte(t.signed), t.signature) {
			return errSignature
		}
		return nil
	}
	hash := sha256.Sum256([]byte(t.signed))
	if rsa.VerifyPKCS1v15(key.rsa, crypto.SHA256, hash[:], t.signature) != nil {
		return errSignature
	}
	return nil
}

var strictBase64 = base64.RawURLEncoding.Strict()

// namesAudience accepts both forms of aud: a string, and an array (RFC 7519 §4.1.3).
func namesAudience(text []byte, audience string) bool {
	var claim any
	if len(text) == 0 || json.Unmarshal(text, &claim) != nil {
		return false
	}
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
