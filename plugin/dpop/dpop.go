//go:build go1.21

// Package dpop checks proofs of possession (RFC 9449) and makes the nonces that they must carry.
//
// A proof is a small JWT by which a client shows, with each request, that it has the key to which
// its token is bound. The plugin checks the proofs of requests to the MCP server, the sidecar those
// of requests for a token. Both do it here, so that they cannot differ.
//
// Nothing is stored for a nonce: it is a time with a MAC (see Nonces). The package knows neither
// tokens nor sealed values, and remembers no proof: whoever must see each proof only once keeps
// what Verify returns of it.
//
// Traefik interprets this package with Yaegi, as it does the plugin.
package dpop

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// These errors say why a proof is refused. Their texts may be sent as error_description, so they
// hold neither quotes nor any part of the proof.
var (
	ErrNone        = errors.New("the request has no DPoP proof")
	ErrRepeated    = errors.New("the request has more than one DPoP header")
	ErrTooLong     = errors.New("the DPoP proof is too long")
	ErrMalformed   = errors.New("the DPoP proof is malformed")
	ErrType        = errors.New("the DPoP header holds another JWT than a proof")
	ErrAlgorithm   = errors.New("the DPoP proof is signed with an algorithm that is not accepted")
	ErrHeader      = errors.New("the DPoP proof has a header parameter that is not accepted")
	ErrKey         = errors.New("the key of the DPoP proof is malformed or of another kind than its algorithm")
	ErrPrivateKey  = errors.New("the DPoP proof shows a private key")
	ErrID          = errors.New("the DPoP proof has no jti or one that is too long")
	ErrMethod      = errors.New("the DPoP proof is for another method")
	ErrURL         = errors.New("the DPoP proof is for another URL")
	ErrIssued      = errors.New("the DPoP proof has no iat")
	ErrToken       = errors.New("the DPoP proof is for another access token")
	ErrSignature   = errors.New("the signature of the DPoP proof is wrong")
	ErrNoNonce     = errors.New("the DPoP proof has no nonce")
	ErrNonce       = errors.New("the nonce of the DPoP proof is not from here")
	ErrNonceOld    = errors.New("the nonce of the DPoP proof is too old")
	ErrNonceFuture = errors.New("the nonce of the DPoP proof is from the future")
)

const (
	// MaxProof is the length of the longest proof that is read, in characters. One of a key that
	// is accepted has about 500.
	MaxProof = 4 << 10
	maxID    = 128 // characters
	maxDate  = 1 << 40
)

// Algorithms are the algorithms by which a proof may be signed, as metadata and challenges name
// them. Ed25519 is what RFC 9864 calls EdDSA with this curve; it is accepted too.
const Algorithms = "ES256 EdDSA"

// Want is what a proof must be for.
type Want struct {
	// Method and URL are those of the request. The URL is the one that the client used, without
	// query and fragment.
	Method, URL string
	// AccessToken is the token that came with the proof. Empty: there is none, as in a token
	// request, and ath is not looked at.
	AccessToken string
	Nonces      *Nonces
	Now         int64 // Unix seconds
	// Ahead is how far ahead of Now a nonce may be, in seconds. 0: NonceAhead, for whoever keeps
	// what Verify returns as long as the nonce is good.
	Ahead int64
}

// Proof is what a proof that was verified says.
type Proof struct {
	// Thumbprint is that of the key which signed the proof (RFC 7638): base64url of SHA-256, 43
	// characters. A bound token names it in cnf.jkt.
	Thumbprint string
	ID         string // jti
	NonceTime  int64  // when the nonce was made, Unix seconds
}

// Verify checks a proof by the list of RFC 9449 §4.3, but for the binding of a token: the caller
// compares the thumbprint with the token's.
//
// iat must be there, and is not compared with the clock. The nonce says how fresh the proof is
// (§4.3 item 11), so a client whose clock is wrong is let in, and proofs that somebody made for
// later are not.
//
// What costs little is checked first: the signature comes last.
func Verify(proof string, want *Want) (*Proof, error) {
	if len(proof) > MaxProof {
		return nil, ErrTooLong
	}
	parts := strings.SplitN(proof, ".", 4)
	// The base64 decoder of Go skips CR and LF even in strict mode.
	if len(parts) != 3 || strings.ContainsAny(proof, "\r\n") {
		return nil, ErrMalformed
	}
	k, err := readHeader(parts[0])
	if err != nil {
		return nil, err
	}
	text, err := strictBase64.DecodeString(parts[1])
	if err != nil {
		return nil, ErrMalformed
	}
	// A map keeps the names of members exact: a struct would take "HTU" for "htu".
	var claims map[string]any
	if json.Unmarshal(text, &claims) != nil {
		return nil, ErrMalformed
	}
	id := textOf(claims["jti"])
	if id == "" || len(id) > maxID {
		return nil, ErrID
	}
	if claims["htm"] != want.Method {
		return nil, ErrMethod
	}
	if claims["htu"] != want.URL && !sameURL(textOf(claims["htu"]), want.URL) {
		return nil, ErrURL
	}
	issued, _ := claims["iat"].(float64)
	if issued < 1 || issued > maxDate {
		return nil, ErrIssued
	}
	if want.AccessToken != "" {
		hash := sha256.Sum256([]byte(want.AccessToken))
		if claims["ath"] != base64.RawURLEncoding.EncodeToString(hash[:]) {
			return nil, ErrToken
		}
	}
	nonce := textOf(claims["nonce"])
	if nonce == "" {
		return nil, ErrNoNonce
	}
	ahead := want.Ahead
	if ahead == 0 {
		ahead = NonceAhead
	}
	made, err := readNonce(want.Nonces, nonce, want.Now, ahead)
	if err != nil {
		return nil, err
	}
	signature, err := strictBase64.DecodeString(parts[2])
	if err != nil {
		return nil, ErrMalformed
	}
	if !verifySignature(k, proof[:len(proof)-len(parts[2])-1], signature) {
		return nil, ErrSignature
	}
	return &Proof{Thumbprint: k.thumbprint, ID: id, NonceTime: made}, nil
}

// WantsNonce says whether a proof is refused for its nonce alone as far as was looked: then the
// answer is use_dpop_nonce with a new one (RFC 9449 §8, §9), and the client asks again. That goes
// also for a nonce from elsewhere: the hop key may have been replaced.
func WantsNonce(err error) bool {
	return errors.Is(err, ErrNoNonce) || errors.Is(err, ErrNonce) || errors.Is(err, ErrNonceOld) || errors.Is(err, ErrNonceFuture)
}

var strictBase64 = base64.RawURLEncoding.Strict()

// textOf returns a JSON value that is a string, and "" for any other.
func textOf(value any) string {
	text, _ := value.(string)
	return text
}
