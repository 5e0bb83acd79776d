package sealing

import (
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Ring is the list of master secrets: the first seals and signs, the others only open and verify.
// It is safe for concurrent use and holds no state that a restart would lose.
type Ring struct {
	masters []master

	// Recently derived keys: deriving one costs more than using it.
	aeads   cache[aeadName, cipher.AEAD]
	signers cache[signerName, ed25519.PrivateKey]
	macs    cache[macName, *keyedMAC]
}

type master struct {
	id  [3]byte
	prk []byte
	// hop and hopID are the hop key and its public name: whoever asks the sidecar is asked for
	// them.
	hop   []byte
	hopID [3]byte
}

// maxMasters bounds the JWKS: each master publishes its own keys.
const maxMasters = 5

// ParseRing reads `new,old,…`: master secrets of 32 bytes in standard base64, newest first. Errors
// say which entry is wrong and never repeat it.
func ParseRing(text string) (*Ring, error) {
	entries := strings.Split(text, ",")
	if len(entries) > maxMasters {
		return nil, fmt.Errorf("%d keys given, at most %d are allowed", len(entries), maxMasters)
	}
	r := &Ring{}
	for i, entry := range entries {
		secret, err := decodeMaster(strings.TrimSpace(entry))
		if err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(entries), err)
		}
		m, err := newMaster(secret)
		if err != nil {
			return nil, err
		}
		if _, dup := r.byID(append([]byte{suite}, m.id[:]...)); dup {
			return nil, fmt.Errorf("key %d of %d: the same key stands earlier in the list", i+1, len(entries))
		}
		r.masters = append(r.masters, m)
	}
	return r, nil
}

func decodeMaster(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(secret) != 32 {
		return nil, errors.New("not 32 bytes in base64; make one with `mcpbouncer keygen` or `openssl rand -base64 32`")
	}
	// 32 random bytes are all printable once in 10^14 times; an encoded passphrase always is.
	for _, c := range secret {
		if c < 0x20 || c > 0x7e {
			return secret, nil
		}
	}
	return nil, errors.New("an encoded text, not random bytes; make one with `mcpbouncer keygen` or `openssl rand -base64 32`")
}

func newMaster(secret []byte) (master, error) {
	prk, err := hkdf.Extract(sha256.New, secret, []byte(labelExtract))
	if err != nil {
		return master{}, err
	}
	m := master{prk: prk}
	copy(m.id[:], m.expand(lp(nil, labelMasterID), 3))
	m.hop = m.hopKey()
	m.hopID = hopKeyID(m.hop)
	return m, nil
}

// byID finds the master that a header names.
func (r *Ring) byID(header []byte) (master, bool) {
	for _, m := range r.masters {
		if m.id == [3]byte(header[1:4]) {
			return m, true
		}
	}
	return master{}, false
}

// MasterIDs are the public names of the ring's masters, 6 hexadecimal digits each, in order.
// Replicas that show different lists do not share their ring.
func (r *Ring) MasterIDs() []string {
	var ids []string
	for _, m := range r.masters {
		ids = append(ids, hex.EncodeToString(m.id[:]))
	}
	return ids
}

// cache keeps what was derived. It is bounded and forgets one when full: a forgotten entry
// costs one derivation, never correctness.
type cache[K comparable, V any] struct {
	mu sync.RWMutex // guards m for the length of one map access; derivation happens outside
	m  map[K]V
}

// cacheLimit is enough for a thousand tenants that are all in use, at about a KB for each key.
// Strangers who forge values fill none of it. Those who invent hosts do, where publicURL is not
// set: each host is a tenant.
const cacheLimit = 16_384

func (c *cache[K, V]) get(k K, derive func() V) V {
	v, ok := c.find(k)
	if !ok {
		v = derive()
		c.keep(k, v)
	}
	return v
}

func (c *cache[K, V]) find(k K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.m[k]
	return v, ok
}

func (c *cache[K, V]) keep(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[K]V)
	}
	for other := range c.m {
		if len(c.m) < cacheLimit {
			break
		}
		// any one: without all of them, the next requests would derive everything anew
		delete(c.m, other)
	}
	c.m[k] = v
}
