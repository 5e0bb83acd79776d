//go:build go1.21

// Package dpoptest makes proofs of possession (RFC 9449) for tests, good ones and any others. It
// shares no code with package dpop, so that the two check each other.
package dpoptest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"sync/atomic"
)

// Key is the key of a client.
type Key struct {
	alg string
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

// NewKey makes a key for an algorithm: ES256 or EdDSA.
func NewKey(alg string) *Key {
	k := &Key{alg: alg}
	var err error
	if alg == "EdDSA" {
		_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	} else {
		k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		panic("dpoptest: " + err.Error())
	}
	return k
}

// JWK is the public key (RFC 7517). The caller may change the map.
func (k *Key) JWK() map[string]any {
	if k.ed != nil {
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(k.ed[32:])}
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "x": encode(k.ec.X.FillBytes(make([]byte, 32))), "y": encode(k.ec.Y.FillBytes(make([]byte, 32)))}
}

// Thumbprint is that of RFC 7638.
func (k *Key) Thumbprint() string {
	members, _ := json.Marshal(k.JWK()) // sorted by name, without blanks
	hash := sha256.Sum256(members)
	return encode(hash[:])
}

// Sign makes a JWT of these members, signed with the key whatever they say.
func (k *Key) Sign(header, claims map[string]any) string {
	first, _ := json.Marshal(header)
	second, _ := json.Marshal(claims)
	return k.SignText(string(first), string(second))
}

// SignText is Sign for JSON as it stands.
func (k *Key) SignText(header, claims string) string {
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	if k.ed != nil {
		return text + "." + encode(ed25519.Sign(k.ed, []byte(text)))
	}
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.ec, hash[:])
	if err != nil {
		panic("dpoptest: " + err.Error())
	}
	return text + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// Header is that of a good proof.
func (k *Key) Header() map[string]any {
	return map[string]any{"typ": "dpop+jwt", "alg": k.alg, "jwk": k.JWK()}
}

var serial int64

// Claims are those of a good proof that was made at a time in Unix seconds, with a jti that no
// other has. Without a token there is no ath, without a nonce no nonce.
func Claims(method, url, token, nonce string, at int64) map[string]any {
	c := map[string]any{"jti": "proof-" + strconv.FormatInt(atomic.AddInt64(&serial, 1), 10), "htm": method, "htu": url, "iat": at}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		c["ath"] = encode(hash[:])
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	return c
}

// Proof makes a good proof: see Claims.
func (k *Key) Proof(method, url, token, nonce string, at int64) string {
	return k.Sign(k.Header(), Claims(method, url, token, nonce, at))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
