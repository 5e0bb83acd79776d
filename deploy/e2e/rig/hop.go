package rig

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const hopPrefix = "mbh1_"

// SealHop makes a hop header as docs/hop.md describes it, written a second time from that page only.
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

// TokenAt posts a form to the token endpoint of a replica whose clock is wrong by so much, in the plugin's place: the plugin's own clock is right,
// and its hop header would be too old. The tenant is the one of the last hop header that named public.
func (w *World) TokenAt(r *Replica, wrong time.Duration, public string, form url.Values) *Answer {
	w.t.Helper()
	var payload []byte
	for _, hop := range w.Front.Hops() {
		if opened, err := OpenHop(w.Keys.Hop, hop); err == nil && bytes.Contains(opened, []byte(`"`+public+`"`)) {
			payload = opened
		}
	}
	hop, err := SealHop(w.Keys.Hop, time.Now().Add(wrong), payload)
	if err != nil || payload == nil {
		w.t.Fatalf("rig: hop for %s: %v", public, err)
	}
	r.SetClock(wrong)
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+r.Addr+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatalf("rig: %v", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Mcpb-Hop", hop)
	resp, err := w.Secrets.Watch(frontTransport).RoundTrip(req)
	if err != nil {
		w.t.Fatalf("rig: %s: %v", r.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("rig: %s: %v", r.Name, err)
	}
	return &Answer{resp.StatusCode, resp.Header, string(body)}
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
