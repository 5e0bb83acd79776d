package rig

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"
)

const hopPrefix = "mbh1_"

// SealHop makes a hop header as docs/hop.md describes it, written a second time from that page
// only.
func SealHop(key string, issued time.Time, payload []byte) (string, error) {
	aead, id, err := hopCipher(key)
	if err != nil {
		return "", err
	}
	raw := append([]byte{1}, id[:]...)
	raw = binary.BigEndian.AppendUint32(raw, uint32(issued.Unix()))
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	aad := append([]byte("mcpbouncer/v1/hop"), raw...)
	raw = append(raw, nonce...)
	return hopPrefix + base64.RawURLEncoding.EncodeToString(aead.Seal(raw, nonce, payload, aad)), nil
}

// OpenHop gives the tenant configuration inside a hop header.
func OpenHop(key, header string) ([]byte, error) {
	aead, id, err := hopCipher(key)
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(header, hopPrefix)
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) < 8+aead.NonceSize() || raw[0] != 1 || [3]byte(raw[1:4]) != id {
		return nil, errors.New("rig: not a hop header of this key")
	}
	head, nonce, sealed := raw[:8], raw[8:8+aead.NonceSize()], raw[8+aead.NonceSize():]
	return aead.Open(nil, nonce, sealed, append([]byte("mcpbouncer/v1/hop"), head...))
}

// MarkAnswer marks an answer as that of a sidecar that has the hop key, as docs/hop.md describes
// it.
func MarkAnswer(key string, w http.ResponseWriter, r *http.Request) {
	raw, _ := base64.StdEncoding.DecodeString(key)
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte("mcpbouncer/v1/hop-mark" + r.Header.Get("X-Mcpb-Hop")))
	w.Header().Set("X-Mcpb-Sidecar", base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]))
}

func hopCipher(key string) (cipher.AEAD, [3]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil, [3]byte{}, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, [3]byte{}, err
	}
	aead, err := cipher.NewGCM(block)
	sum := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), raw...))
	return aead, [3]byte(sum[:3]), err
}
