package sealing

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// MaxUpstreamToken is how long a provider's access token may be that travels in one of ours, in
// characters. The longest leaves 200 bytes for other claims beside those that every token has: the
// plugin reads access tokens of 8,192 characters.
const MaxUpstreamToken = 4096

// hopKeyIDSize is the length of a hop key's public name, which stands before the ciphertext.
const hopKeyIDSize = 3

// SealUpstreamToken seals a provider's access token for the plugin that made this header, and for
// whoever else has its hop key. It travels in the access token of this jti at this public URL, and
// opens in no other. The client that carries it cannot read it.
//
// The key follows from the jti, which is random, so each key seals one value: the nonce may be
// zero. Seal no two tokens under one jti. It does not check the token: of 1 to MaxUpstreamToken
// characters of printable US-ASCII (RFC 6749 §A.12), or it never opens.
func (h *Hop) SealUpstreamToken(publicURL, jti, token string) string {
	id := hopKeyID(h.key)
	out := make([]byte, hopKeyIDSize, hopKeyIDSize+len(token)+tagSize)
	copy(out, id[:])
	out = upstreamTokenAEAD(h.key, publicURL, jti).Seal(out, make([]byte, nonceSize), []byte(token), []byte(labelUpstreamToken))
	return base64.RawURLEncoding.EncodeToString(out)
}

// OpenUpstreamToken is the reverse of SealUpstreamToken, with a hop key as HopKey writes it. Any
// failure but a text that is no hop key is ErrNotOpened. The plugin has its own.
func OpenUpstreamToken(hopKey, publicURL, jti, sealed string) (string, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(hopKey)
	if err != nil || len(key) != 32 {
		return "", ErrHopKey
	}
	raw, err := strictBase64.DecodeString(sealed)
	// One value has one spelling: see decodePrefixed.
	if err != nil || len(raw) <= hopKeyIDSize+tagSize || len(raw) > hopKeyIDSize+MaxUpstreamToken+tagSize || base64.RawURLEncoding.EncodedLen(len(raw)) != len(sealed) {
		return "", ErrNotOpened
	}
	if hopKeyID(key) != [hopKeyIDSize]byte(raw) {
		return "", ErrNotOpened
	}
	token, err := upstreamTokenAEAD(key, publicURL, jti).Open(nil, make([]byte, nonceSize), raw[hopKeyIDSize:], []byte(labelUpstreamToken))
	if err != nil || bytes.ContainsFunc(token, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", ErrNotOpened
	}
	return string(token), nil
}

func upstreamTokenAEAD(hopKey []byte, publicURL, jti string) cipher.AEAD {
	mac := hmac.New(sha256.New, hopKey)
	mac.Write(lp(lp([]byte(labelUpstreamToken), publicURL), jti))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	return aead
}
