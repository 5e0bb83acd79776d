//go:build go1.21

package plugin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

// The hop header tells the sidecar which tenant it serves. docs/hop.md is its specification:
//
//	mbh1_ + base64url( suite 1 ‖ key id 3 ‖ issued-at 4 ‖ nonce 12
//	                   ‖ AES-256-GCM of hopPayload ‖ tag 16 )
const (
	hopHeader    = "X-Mcpb-Hop"
	markHeader   = "X-Mcpb-Sidecar" // of every answer of a sidecar
	reasonHeader = "X-Mcpb-Reason"  // why the sidecar refuses a hop header that authenticates
	hopVariable  = "BOUNCER_HOP_KEY"
	hopReuse     = 20 // seconds for which one header is sent; the sidecar accepts it for minutes
)

// hopTicket is one hop header, with what is needed to read the answer to it.
type hopTicket struct {
	value string
	// mark is the value of markHeader in an answer of the sidecar.
	mark string
	// key has 32 bytes.
	key []byte
	// madeAt is in Unix seconds.
	madeAt int64
}

// hopSealer makes the hop header of one tenant and keeps it for hopReuse seconds.
type hopSealer struct {
	payload []byte     // encodePayload
	sidecar string     // base URL, for the log
	keyFile string     // empty: the key is in the environment
	signer  *awsSigner // nil: requests with the header are not signed
	name    string     // of the middleware, for the log

	mu     sync.Mutex // held while a key file is read: all requests wait for the key
	ticket *hopTicket
	err    error
	madeAt int64
}

// header returns X-Mcpb-Hop at a time in Unix seconds. The key is read here and not in New, so that
// a new key in the file needs no restart. A failure is remembered for a second, so that strangers
// cannot make Traefik read files in a loop.
func (h *hopSealer) header(at int64) (*hopTicket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	age := at - h.madeAt
	if h.ticket != nil && age >= 0 && age < hopReuse {
		return h.ticket, nil
	}
	if h.err != nil && age == 0 {
		return nil, h.err
	}
	h.madeAt = at
	ticket, err := newTicket(h.keyFile, at, h.payload)
	h.ticket = ticket
	h.err = err
	return ticket, err
}

func newTicket(keyFile string, at int64, payload []byte) (*hopTicket, error) {
	key, err := readHopKey(keyFile)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	value, err := sealHop(key, at, nonce, payload)
	if err != nil {
		return nil, err
	}
	mark := base64.RawURLEncoding.EncodeToString(hmacSHA256(key, "mcpbouncer/v1/hop-mark"+value)[:16])
	return &hopTicket{value: value, mark: mark, key: key, madeAt: at}, nil
}

// transport is the way to the sidecar, for every request with the header.
func (h *hopSealer) transport() http.RoundTripper {
	var way http.RoundTripper = sidecarWay{}
	if h.signer != nil {
		way = h.signer
	}
	return way
}

// sealHop makes a header in the format above. key has 32 bytes; nonce has 12, and never repeats
// under one key. A header is made at most every hopReuse seconds for each public URL, so random
// nonces stay far from their birthday bound.
func sealHop(key []byte, at int64, nonce, payload []byte) (string, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	head := make([]byte, 8)
	head[0] = 1 // suite
	copy(head[1:4], nameOfKey(key))
	binary.BigEndian.PutUint32(head[4:], uint32(at))

	aad := append([]byte("mcpbouncer/v1/hop"), head...)
	sealed := aead.Seal(nil, nonce, payload, aad)
	blob := append(append(head, nonce...), sealed...)
	return "mbh1_" + base64.RawURLEncoding.EncodeToString(blob), nil
}

// readHopKey reads the key from a file or, without a file, from the environment. Its errors name
// the place and the remedy.
func readHopKey(file string) ([]byte, error) {
	if file == "" {
		key, ok := parseHopKey(variable(hopVariable))
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

// variable reads one of Traefik's variables, and nothing else does: one that is set to nothing or
// to blanks counts as not set, and line breaks around a value mean nothing.
func variable(name string) string { return strings.TrimSpace(os.Getenv(name)) }

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

// nameOfKey returns the public name of a hop key: 3 bytes.
func nameOfKey(key []byte) []byte {
	id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), key...))
	return id[:3]
}

// hopKeyID returns the name of a hop key as logs have it: 6 hexadecimal digits.
func hopKeyID(key []byte) string { return hex.EncodeToString(nameOfKey(key)) }

const maxReason = 600 // characters of a sealed reason

// openReason opens the reason for which the sidecar refuses a hop header. It is sealed under a key
// that is derived from the hop key and the header, so that nobody in between can make an operator
// rotate keys or doubt a label.
func openReason(ticket *hopTicket, sealed string) (string, bool) {
	if !strings.HasPrefix(sealed, "mbe1_") || len(sealed) > maxReason {
		return "", false
	}
	blob, err := strictBase64.DecodeString(sealed[len("mbe1_"):])
	if err != nil || len(blob) < 12+16 {
		return "", false
	}
	block, err := aes.NewCipher(hmacSHA256(ticket.key, "mcpbouncer/v1/hop-reason"+ticket.value))
	if err != nil {
		return "", false
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", false
	}
	reason, err := aead.Open(nil, blob[:12], blob[12:], []byte("mcpbouncer/v1/hop-reason"))
	return string(reason), err == nil
}

// explainRefusal says what the operator should do. reason is a reason of docs/hop.md; at is the
// time of Traefik in Unix seconds.
func explainRefusal(ticket *hopTicket, reason string, at int64) string {
	word, about, _ := strings.Cut(reason, " ")
	switch word {
	case "clock":
		age, err := strconv.ParseInt(about, 10, 64)
		if err == nil {
			return explainClock(age - (at - ticket.madeAt))
		}
	case "version":
		return fmt.Sprintf("it reads version %s of the hop and this plugin speaks %d: upgrade the sidecar first, then the plugin; the hop key is right", strconv.Quote(about), hopVersion)
	case "label":
		return "it does not know the label " + strconv.Quote(about) + ", which is set here: upgrade the sidecar first, or remove the label; the hop key is right"
	case "value":
		if about == "" {
			return "it cannot read what this plugin sends: its log says why; the hop key is right"
		}
		return "it does not take the value of " + strconv.Quote(about) + ": its log says why; the hop key is right"
	}
	return "for a reason that this plugin does not know (" + strconv.Quote(reason) + "): its log says more; the hop key is right"
}

// explainClock explains clocks that differ. ahead is the sidecar's time minus Traefik's, in
// seconds.
func explainClock(ahead int64) string {
	whose := "behind the sidecar's"
	if ahead < 0 {
		whose = "ahead of the sidecar's"
		ahead = -ahead
	}
	return fmt.Sprintf("the clock of Traefik is %d s %s: set both (NTP); the hop key is right", ahead, whose)
}
