//go:build go1.21

package dpop

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// key is the public key that a proof shows. One of ec and ed is set.
type key struct {
	thumbprint string
	ec         *ecdsa.PublicKey
	ed         ed25519.PublicKey
}

// readHeader reads the header of a proof (RFC 9449 §4.2), and the key in it.
func readHeader(encoded string) (*key, error) {
	text, err := strictBase64.DecodeString(encoded)
	if err != nil {
		return nil, ErrMalformed
	}
	var header map[string]any
	if json.Unmarshal(text, &header) != nil {
		return nil, ErrMalformed
	}
	if header["typ"] != "dpop+jwt" { // RFC 8725 §3.11: no other JWT of the client is a proof
		return nil, ErrType
	}
	jwk, isObject := header["jwk"].(map[string]any)
	// Nothing but a key is taken from a header. A parameter that changes what is signed (crit, b64)
	// or points at a key (jku, x5u) is refused without being known here by name. kid names a key,
	// and the one that counts is shown.
	known := 3
	if header["kid"] != nil {
		known = 4
	}
	alg := header["alg"]
	if alg != "ES256" && alg != "EdDSA" && alg != "Ed25519" {
		return nil, ErrAlgorithm
	}
	if !isObject {
		return nil, ErrKey
	}
	if len(header) != known {
		return nil, ErrHeader
	}
	// RFC 9449 §4.3 item 7. Whoever reads the request has the key then, and what is bound to it is
	// bound to nobody.
	_, private := jwk["d"]
	if private {
		return nil, ErrPrivateKey
	}
	if alg == "ES256" {
		return readEC(jwk)
	}
	return readOKP(jwk)
}

// readEC reads a public key on the curve P-256 (RFC 7518 §6.2.1).
func readEC(jwk map[string]any) (*key, error) {
	textX := textOf(jwk["x"])
	textY := textOf(jwk["y"])
	if jwk["kty"] != "EC" || jwk["crv"] != "P-256" || len(textX) != 43 || len(textY) != 43 {
		return nil, ErrKey
	}
	point, err := strictBase64.DecodeString(textX)
	if err != nil || len(point) != 32 {
		return nil, ErrKey
	}
	y, err := strictBase64.DecodeString(textY)
	if err != nil || len(y) != 32 {
		return nil, ErrKey
	}
	//lint:ignore SA1019 Yaegi does not know ecdsa.ParseUncompressedPublicKey
	k := &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(point), Y: new(big.Int).SetBytes(y)}
	// The point must be on the curve. ecdh is asked, because elliptic's own test is deprecated.
	_, err = ecdh.P256().NewPublicKey(append(append([]byte{4}, point...), y...))
	if err != nil {
		return nil, ErrKey
	}
	return &key{ec: k, thumbprint: thumbprint(`{"crv":"P-256","kty":"EC","x":"` + textX + `","y":"` + textY + `"}`)}, nil
}

// readOKP reads a public key of Ed25519 (RFC 8037 §2).
func readOKP(jwk map[string]any) (*key, error) {
	text := textOf(jwk["x"])
	if jwk["kty"] != "OKP" || jwk["crv"] != "Ed25519" || len(text) != 43 {
		return nil, ErrKey
	}
	public, err := strictBase64.DecodeString(text)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return nil, ErrKey
	}
	return &key{ed: public, thumbprint: thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"` + text + `"}`)}, nil
}

// thumbprint hashes the members that RFC 7638 §3.2 requires, in the order of their names. Their
// values came out of a strict decoder, so a key has one thumbprint.
func thumbprint(members string) string {
	hash := sha256.Sum256([]byte(members))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// IsThumbprint says whether a text has the form of a thumbprint, as dpop_jkt must (RFC 9449 §10).
func IsThumbprint(text string) bool {
	hash, err := strictBase64.DecodeString(text)
	return err == nil && len(text) == 43 && len(hash) == sha256.Size
}

// verifySignature checks a JWS signature (RFC 7518 §3.4, RFC 8037 §3.1). Of an ECDSA signature
// there is a second form that is as good; a proof is known by its jti and not by its signature.
func verifySignature(k *key, signed string, signature []byte) bool {
	if k.ed != nil {
		return ed25519.Verify(k.ed, []byte(signed), signature)
	}
	if len(signature) != 64 {
		return false
	}
	hash := sha256.Sum256([]byte(signed))
	return ecdsa.Verify(k.ec, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}
