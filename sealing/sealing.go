// Package sealing replaces the database.
//
// What other authorization servers store (client registrations, logins in progress, authorization
// codes, refresh tokens) MCPBouncer hands to the other side as sealed values: AES-256-GCM, under a
// key derived from one master secret for exactly one kind of value, one tenant and one period.
//
//	mb<kind>1_ + base64url( suite 1 ‖ master id 3 ‖ issued-at 4 ‖ nonce 12 ‖ ciphertext ‖ tag 16 )
//
// The caller names kind, tenant and context; nothing inside the value chooses them. A value opens
// as what it was sealed as, for whom it was sealed, or not at all, and every failure is the same
// error. docs/sealed-values.md specifies format and derivations with published vectors.
//
// Sealing does not make anything single-use: the same value opens as often as it is presented until
// it is too old. docs/replay.md says who tells the first use from the second.
package sealing

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

const (
	suite       = 1 // AES-256-GCM, HKDF-SHA-256, random 96-bit nonce
	headerSize  = 8
	nonceSize   = 12
	tagSize     = 16
	prefixSize  = len("mbX1_")
	minDecoded  = headerSize + nonceSize + tagSize
	maxValueLen = 8192 // characters; longer values are refused before they are decoded
)

// Skew is how far the clocks of two replicas may differ. A value from the future is accepted up to
// it, and a value lives that much longer.
const Skew = 5 * time.Minute

// ErrNotOpened is the one answer to a value that does not open, whatever the reason: a second
// error would tell an attacker how far a forgery got.
var ErrNotOpened = errors.New("sealing: value does not open")

// Seal encrypts payload as a value of this kind, tenant and context, issued now. Context binds the
// value to something that is presented beside it (for a code: the client_id); it may be empty.
// It does not check the length: a payload over 6,104 bytes makes a value that never opens.
func (r *Ring) Seal(kind Kind, tenant TenantID, context string, payload []byte, now time.Time) string {
	m := r.masters[0]
	out := make([]byte, headerSize, minDecoded+len(payload))
	out[0] = suite
	copy(out[1:4], m.id[:])
	binary.BigEndian.PutUint32(out[4:], uint32(now.Unix()))
	name := nameOf(m, kind, tenant, now)
	aead := r.aeads.get(name, func() cipher.AEAD { return m.aead(name) })
	out = aead.Seal(out, nil, payload, additionalData(out[:headerSize], kind, tenant, context))
	return encodePrefixed(prefix(kind), out)
}

// Open returns the payload of a value of exactly this kind, tenant and context, and when it was
// sealed. Any failure is ErrNotOpened. It does not check how often the value was opened before.
func (r *Ring) Open(kind Kind, tenant TenantID, context, value string, now time.Time) ([]byte, time.Time, error) {
	raw, header, issuedAt, err := decode(kind, value)
	if err != nil {
		return nil, time.Time{}, err
	}
	life := kinds[kind].life
	if issuedAt.After(now.Add(Skew)) || life > 0 && now.After(issuedAt.Add(life+Skew)) {
		return nil, time.Time{}, ErrNotOpened
	}
	// The master id selects the key: trying one key after the other would make decryption an
	// oracle.
	m, ok := r.byID(header)
	if !ok {
		return nil, time.Time{}, ErrNotOpened
	}
	name := nameOf(m, kind, tenant, issuedAt)
	aead, known := r.aeads.find(name)
	if !known {
		aead = m.aead(name)
	}
	// The plaintext goes where the ciphertext was: nobody reads that again.
	payload, err := aead.Open(raw[headerSize:headerSize], nil, raw[headerSize:], additionalData(header, kind, tenant, context))
	if err != nil {
		return nil, time.Time{}, ErrNotOpened
	}
	if !known { // not before: strangers choose which key a value names
		r.aeads.keep(name, aead)
	}
	return payload, issuedAt, nil
}

// IssuedAt reads when a value claims to have been sealed, without opening it. The claim is not
// authenticated: use it to order values, never to accept one.
func IssuedAt(kind Kind, value string) (time.Time, error) {
	_, _, at, err := decode(kind, value)
	return at, err
}

// ReadValue reads what every sealed value says in clear: its kind, the public name of the master
// that sealed it (MasterIDs), and when. Nothing of it is authenticated, and nothing is opened: it
// is for telling an operator why a value does not open. It fails with ErrNotOpened.
func ReadValue(value string) (kind Kind, masterID string, issuedAt time.Time, err error) {
	if len(value) < prefixSize {
		return 0, "", time.Time{}, ErrNotOpened
	}
	kind = Kind(value[2])
	if _, ok := kinds[kind]; !ok {
		return 0, "", time.Time{}, ErrNotOpened
	}
	_, header, at, err := decode(kind, value)
	if err != nil {
		return 0, "", time.Time{}, err
	}
	return kind, hex.EncodeToString(header[1:4]), at, nil
}

func prefix(kind Kind) string { return "mb" + string(rune(kind)) + "1_" }

// decode checks everything that needs no key and splits off the header.
func decode(kind Kind, value string) (raw, header []byte, issuedAt time.Time, err error) {
	return decodePrefixed(prefix(kind), value)
}

// strictBase64 refuses a last character with bits that mean nothing. Strict makes a new encoding at
// each call.
var strictBase64 = base64.RawURLEncoding.Strict()

func encodePrefixed(prefix string, raw []byte) string {
	text := make([]byte, 0, 512) // on the stack: most values are shorter
	return string(base64.RawURLEncoding.AppendEncode(append(text, prefix...), raw))
}

func decodePrefixed(prefix, value string) (raw, header []byte, issuedAt time.Time, err error) {
	if len(value) > maxValueLen || len(value) < prefixSize || value[:prefixSize] != prefix {
		return nil, nil, time.Time{}, ErrNotOpened
	}
	text := value[prefixSize:]
	raw, err = strictBase64.DecodeString(text)
	// Go's decoder skips CR and LF even in strict mode. One value must have one spelling, or
	// a list of denied values could be dodged by respelling.
	if err != nil || len(raw) < minDecoded || base64.RawURLEncoding.EncodedLen(len(raw)) != len(text) {
		return nil, nil, time.Time{}, ErrNotOpened
	}
	if raw[0] != suite {
		return nil, nil, time.Time{}, ErrNotOpened
	}
	return raw, raw[:headerSize], time.Unix(int64(binary.BigEndian.Uint32(raw[4:])), 0), nil
}

func additionalData(header []byte, kind Kind, tenant TenantID, context string) []byte {
	purpose := kinds[kind].purpose
	b := make([]byte, 0, len(labelSealAAD)+len(header)+len(purpose)+len(tenant)+len(context)+3*2)
	b = append(append(b, labelSealAAD...), header...)
	return lp(lp(lp(b, purpose), string(tenant[:])), context)
}

// aeadName is what an AES key is derived for.
type aeadName struct {
	master [3]byte
	kind   Kind
	tenant TenantID
	period uint32
}

func nameOf(m master, kind Kind, tenant TenantID, issuedAt time.Time) aeadName {
	facts, ok := kinds[kind]
	if !ok {
		panic("sealing: internal error: unknown kind")
	}
	return aeadName{m.id, kind, tenant, uint32(issuedAt.Unix() / int64(facts.period/time.Second))}
}

func (m master) aead(n aeadName) cipher.AEAD { return newGCM(m.sealingKey(n.kind, n.tenant, n.period)) }

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	return aead
}
