//go:build go1.21

package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// labelNonce is the label under which the key of nonces follows from a hop key.
// docs/sealed-values.md lists it with the others.
const labelNonce = "mcpbouncer/v1/dpop-nonce"

const (
	// NonceLife is how long a nonce is taken, in seconds.
	NonceLife = 300
	// NonceAhead is how far ahead of the clock a nonce may be, in seconds. It is twice Apart,
	// because whoever has forgotten proofs makes its nonces Apart later.
	NonceAhead = 2 * Apart
	// Apart is how far the clocks of two machines that share nonces may be apart, in seconds.
	Apart = 30
)

const (
	timeSize    = 8
	macSize     = 16
	nonceLength = 32 // characters of timeSize + macSize bytes
)

// Nonces makes and reads the nonces of a public URL (RFC 9449 §8, §9):
//
//	base64url( Unix seconds 8 ‖ HMAC-SHA-256( key, Unix seconds 8 )[:16] )
//
// Whoever has the hop key has the same nonces: the plugin, and each replica of the sidecar. A
// client keeps one nonce for each server (§8, §9). Clients tell servers by their origin, and token
// endpoint and MCP server have one origin. A nonce is no secret: whoever has one can do nothing
// with it but make a proof.
type Nonces struct {
	keys [][]byte
}

// NewNonces returns the nonces under these keys (NonceKey). The first one makes new nonces; those
// of each key are taken.
func NewNonces(keys ...[]byte) *Nonces { return &Nonces{keys: keys} }

// NonceKey derives the key of nonces from a hop key. The sidecar derives it in package sealing,
// which keeps hop keys to itself.
func NonceKey(hopKey []byte, publicURL string) []byte { return macOf(hopKey, labelNonce+publicURL) }

// Make makes the nonce of a time in Unix seconds. All nonces of a second are the same.
func (n *Nonces) Make(at int64) string {
	blob := make([]byte, timeSize)
	binary.BigEndian.PutUint64(blob, uint64(at))
	return base64.RawURLEncoding.EncodeToString(append(blob, macOf(n.keys[0], string(blob))[:macSize]...))
}

// readNonce returns when a nonce was made, which may be so many seconds ahead.
func readNonce(n *Nonces, nonce string, at, ahead int64) (int64, error) {
	if len(nonce) != nonceLength {
		return 0, ErrNonce
	}
	blob, err := strictBase64.DecodeString(nonce)
	if err != nil || len(blob) != timeSize+macSize || !isOurs(n, blob) {
		return 0, ErrNonce
	}
	made := int64(binary.BigEndian.Uint64(blob))
	if at-made >= NonceLife {
		return 0, ErrNonceOld
	}
	if made-at > ahead {
		return 0, ErrNonceFuture
	}
	return made, nil
}

func isOurs(n *Nonces, blob []byte) bool {
	for _, key := range n.keys {
		if hmac.Equal(macOf(key, string(blob[:timeSize]))[:macSize], blob[timeSize:]) {
			return true
		}
	}
	return false
}

func macOf(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}
