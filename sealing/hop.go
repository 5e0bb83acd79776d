package sealing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"
)

// The hop header is sealed by the plugin, which has the hop key and nothing else (docs/hop.md).
const (
	hopPrefix    = "mbh1_"
	reasonPrefix = "mbe1_"
	hopLife      = time.Minute
	hopMarkSize  = 16
)

// ErrHopClock is the error of a hop header that authenticates, but was made too long ago or in the
// future. Only whoever has the hop key gets that far, so it tells a stranger nothing.
var ErrHopClock = errors.New("sealing: the hop header was made too long ago, or in the future")

// Hop is a hop header that authenticated under a key of the ring.
type Hop struct {
	// Payload is the tenant configuration.
	Payload []byte
	// IssuedAt is when the plugin's clock said that it was made.
	IssuedAt time.Time

	value string
	key   []byte
}

// HopKey is the key that the plugin shares with the sidecar: 32 bytes in standard base64, derived
// from the first master. Whoever holds it can ask for any tenant; it does not reveal the master.
func (r *Ring) HopKey() string {
	return base64.StdEncoding.EncodeToString(r.masters[0].hop)
}

// HopKeyIDs are the public names of the ring's hop keys, 6 hexadecimal digits each, in the order of
// the masters.
func (r *Ring) HopKeyIDs() []string {
	var ids []string
	for _, m := range r.masters {
		ids = append(ids, hex.EncodeToString(m.hopID[:]))
	}
	return ids
}

// OpenHop opens a hop header. Every master's hop key opens, so the plugin may follow a new master
// later. A header that does not authenticate is ErrNotOpened, whatever the reason. One that does,
// but was made at another time than about now, is ErrHopClock, and is returned with it.
func (r *Ring) OpenHop(value string, now time.Time) (*Hop, error) {
	raw, header, issuedAt, err := decodePrefixed(hopPrefix, value)
	if err != nil {
		return nil, err
	}
	for _, m := range r.masters {
		if m.hopID == [3]byte(header[1:4]) {
			return openHop(m.hop, value, raw, header, issuedAt, now)
		}
	}
	return nil, ErrNotOpened
}

// OpenHopWith is OpenHop with one hop key, as HopKey writes it: for an operator who has Traefik's
// variable and not the master.
func OpenHopWith(hopKey, value string, now time.Time) (*Hop, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(hopKey)
	if err != nil || len(key) != 32 {
		return nil, ErrHopKey
	}
	raw, header, issuedAt, err := decodePrefixed(hopPrefix, value)
	if err != nil || hopKeyID(key) != [3]byte(header[1:4]) {
		return nil, ErrNotOpened
	}
	return openHop(key, value, raw, header, issuedAt, now)
}

// ErrHopKey is the error of a text that is not a hop key.
var ErrHopKey = errors.New("sealing: a hop key is 32 bytes in base64, as `mcpbouncer hop-key` prints it")

func openHop(key []byte, value string, raw, header []byte, issuedAt, now time.Time) (*Hop, error) {
	payload, err := newGCM(key).Open(raw[headerSize:headerSize], nil, raw[headerSize:], append([]byte(labelHop), header...))
	if err != nil {
		return nil, ErrNotOpened
	}
	hop := &Hop{Payload: payload, IssuedAt: issuedAt, value: value, key: key}
	if HopExpired(issuedAt, now) {
		return hop, ErrHopClock
	}
	return hop, nil
}

// Mark is what an answer to the request with this header bears, so that the plugin knows that a
// sidecar with its key gave it: 22 characters. It does not cover the answer: TLS must guard the
// network in between.
func (h *Hop) Mark() string {
	return base64.RawURLEncoding.EncodeToString(h.mac(labelHopMark)[:hopMarkSize])
}

// SealReason seals, for the plugin that made this header and for nobody else, why it is refused.
// Each header has a key of its own for it, so a reason cannot be presented as the answer to another
// header, and however many answers strangers cause, no key seals more than those to one header.
func (h *Hop) SealReason(reason string) string {
	sealed := newGCM(h.mac(labelHopReason)).Seal(nil, nil, []byte(reason), []byte(labelHopReason))
	return reasonPrefix + base64.RawURLEncoding.EncodeToString(sealed)
}

func (h *Hop) mac(label string) []byte {
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(label + h.value))
	return mac.Sum(nil)
}

// DPoPNonceKeys are the keys of the nonces that clients of a public URL put into their DPoP proofs
// (RFC 9449 §8), 32 bytes each: that of this header's hop key, which makes new ones, then those of
// the ring's other hop keys. Plugin and sidecar have no other secret in common, and a client
// remembers one nonce for both. A nonce of another public URL is worth nothing here.
func (r *Ring) DPoPNonceKeys(h *Hop, publicURL string) [][]byte {
	derive := func(hopKey []byte) []byte {
		mac := hmac.New(sha256.New, hopKey)
		mac.Write([]byte(labelDPoPNonce + publicURL))
		return mac.Sum(nil)
	}
	keys := [][]byte{derive(h.key)}
	for _, m := range r.masters {
		if !hmac.Equal(m.hop, h.key) {
			keys = append(keys, derive(m.hop))
		}
	}
	return keys
}

// ReadHop reads the id of the key under which a hop header claims to be sealed, 6 hexadecimal
// digits, and when it claims to have been made, without opening it: for the log, and for headers
// that were opened before.
func ReadHop(value string) (keyID string, issuedAt time.Time, err error) {
	_, header, at, err := decodePrefixed(hopPrefix, value)
	if err != nil {
		return "", time.Time{}, err
	}
	return hex.EncodeToString(header[1:4]), at, nil
}

// HopExpired says whether a hop header of this age is refused: it proves that the plugin spoke a
// moment ago, not once upon a time.
func HopExpired(issuedAt, now time.Time) bool {
	return issuedAt.After(now.Add(Skew)) || now.After(issuedAt.Add(hopLife+Skew))
}

func hopKeyID(key []byte) [3]byte {
	sum := sha256.Sum256(append([]byte(labelHopKeyID), key...))
	return [3]byte(sum[:3])
}
