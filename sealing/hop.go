package sealing

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// The hop header is sealed by the plugin, which has the hop key and nothing else (docs/hop.md).
const (
	hopPrefix = "mbh1_"
	hopLife   = time.Minute
)

// HopKey is the key that the plugin shares with the sidecar: 32 bytes in standard base64, derived from the first
// master. Who holds it can ask for any tenant; it does not reveal the master.
func (r *Ring) HopKey() string {
	return base64.StdEncoding.EncodeToString(r.masters[0].hopKey())
}

// OpenHop returns the tenant configuration in a hop header. Every master's hop key opens, so the
// plugin may follow a new master later. Any failure is ErrNotOpened.
func (r *Ring) OpenHop(value string, now time.Time) ([]byte, error) {
	raw, header, issuedAt, err := decodePrefixed(hopPrefix, value)
	if err != nil {
		return nil, err
	}
	if HopExpired(issuedAt, now) {
		return nil, ErrNotOpened
	}
	for _, m := range r.masters {
		key := m.hopKey()
		if hopKeyID(key) != [3]byte(header[1:4]) {
			continue
		}
		payload, err := newGCM(key).Open(nil, nil, raw[headerSize:], append([]byte(labelHop), header...))
		if err != nil {
			return nil, ErrNotOpened
		}
		return payload, nil
	}
	return nil, ErrNotOpened
}

// HopIssuedAt reads when a hop header claims to have been made, without opening it.
func HopIssuedAt(value string) (time.Time, error) {
	_, _, at, err := decodePrefixed(hopPrefix, value)
	return at, err
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
