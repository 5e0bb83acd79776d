//go:build go1.21

package plugin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

// The hop header tells the sidecar which tenant it serves. docs/hop.md is its specification:
//
//	mbh1_ + base64url( suite 1 ‖ key id 3 ‖ issued-at 4 ‖ nonce 12 ‖ AES-256-GCM of hopPayload ‖ tag 16 )
const (
	hopHeader   = "X-Mcpb-Hop"
	hopVariable = "BOUNCER_HOP_KEY"
	hopReuse    = 20 // seconds for which one header is sent; the sidecar accepts it for minutes
)

// hopSealer makes the hop header of one tenant and keeps it for hopReuse seconds.
type hopSealer struct {
	payload []byte     // hopPayload as JSON
	keyFile string     // empty: the key is in the environment
	signer  *awsSigner // nil: what carries the header is not signed
	name    string     // of the middleware, for the log

	mu     sync.Mutex // held while a key file is read: requests that need the header need the key
	value  string
	err    error
	madeAt int64
}

// header returns the value of X-Mcpb-Hop at a time in Unix seconds. The key is read here and not in New, so that a new key
// in the file needs no restart. A failure is remembered for a second, so that strangers cannot make Traefik read files in a loop.
func (h *hopSealer) header(at int64) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	age := at - h.madeAt
	if h.value != "" && age >= 0 && age < hopReuse {
		return h.value, nil
	}
	if h.err != nil && age == 0 {
		return "", h.err
	}
	h.value = ""
	h.madeAt = at
	key, err := readHopKey(h.keyFile)
	h.err = err
	if err != nil {
		return "", err
	}
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		h.err = err
		return "", err
	}
	value, err := sealHop(key, at, nonce, h.payload)
	h.err = err
	h.value = value
	return value, err
}

// transport is the way to the sidecar, for every request with the header.
func (h *hopSealer) transport() http.RoundTripper {
	var way http.RoundTripper = sidecarTransport
	if h.signer != nil {
		way = h.signer
	}
	return way
}

// sealHop is the format itself: key 32 bytes, nonce 12 bytes and never the same twice under one key. A header is made at most
// every hopReuse seconds for each public URL, so random nonces stay far from their birthday bound.
func sealHop(key []byte, at int64, nonce, payload []byte) (string, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), key...))
	head := make([]byte, 8)
	head[0] = 1 // suite
	copy(head[1:4], id[:3])
	binary.BigEndian.PutUint32(head[4:], uint32(at))

	aad := append([]byte("mcpbouncer/v1/hop"), head...)
	sealed := aead.Seal(nil, nonce, payload, aad)
	blob := append(append(head, nonce...), sealed...)
	return "mbh1_" + base64.RawURLEncoding.EncodeToString(blob), nil
}

// readHopKey reads the key from the file or, without one, from the environment. Its errors name the place and the remedy.
func readHopKey(file string) ([]byte, error) {
	if file == "" {
		key, ok := parseHopKey(os.Getenv(hopVariable))
		if !ok {
			return nil, fmt.Errorf("the variable %s of Traefik holds no hop key (32 bytes in base64): set it to what `mcpbouncer keygen` prints, or set the label hopKeyFile", hopVariable)
		}
		return key, nil
	}
	text, err := readStart(file)
	if err != nil {
		return nil, fmt.Errorf("label hopKeyFile: %v: make the file readable for Traefik, or set the variable %s", err, hopVariable)
	}
	line := ""
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, hopVariable+"=") {
			line = l[len(hopVariable)+1:]
		}
	}
	key, ok := parseHopKey(either(line, text))
	if !ok {
		return nil, fmt.Errorf("label hopKeyFile: %q holds neither a hop key (32 bytes in base64) nor a line %s=…: write one with `mcpbouncer keygen`", file, hopVariable)
	}
	return key, nil
}

func readStart(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for ever
		return "", errors.New("not a regular file")
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(text), err
}

func parseHopKey(text string) ([]byte, bool) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	return key, err == nil && len(key) == 32
}

var errHopRefused = errors.New("the sidecar does not accept this hop key: give Traefik the " + hopVariable + " that `mcpbouncer keygen` prints for the sidecar's master secret, and compare the clocks")
