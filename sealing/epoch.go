package sealing

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

// Schedule says which signing keys are in use at a time. An epoch is a number: Unix time divided by
// Rotation. It is computed for each request: a timer would stand still in a frozen process.
type Schedule struct {
	Rotation time.Duration // how long one key signs
	Overlap  time.Duration // how long it is published after its turn
}

// maxKeyCache is how long a verifier may keep a JWKS: a key must be published at least that long
// before it first signs.
const maxKeyCache = time.Hour

// maxPublished bounds the JWKS, for one master. The shortest rotation still has room for access
// tokens that live an hour.
const maxPublished = 144

// Check refuses a schedule under which a token could outlive its key (RFC 9068 §4 needs the key to
// verify).
func (s Schedule) Check(tokenLife time.Duration) error {
	switch {
	case s.Rotation < time.Minute:
		return errors.New("rotation must be at least one minute")
	case s.Overlap < tokenLife+Skew:
		return fmt.Errorf("overlap %v is shorter than access-token life + clock skew (%v): tokens would outlive their key", s.Overlap, tokenLife+Skew)
	// Published spans the three durations, and touches one epoch more at each end.
	case (s.Overlap+Skew+maxKeyCache)/s.Rotation > maxPublished-2:
		return fmt.Errorf("overlap %v is too long for rotation %v", s.Overlap, s.Rotation)
	}
	return nil
}

// Epoch returns the epoch whose key signs at t.
func (s Schedule) Epoch(t time.Time) uint32 {
	return uint32(t.Unix() / int64(s.Rotation/time.Second))
}

// NextKey returns when the key after that of t begins to sign, in UTC.
func (s Schedule) NextKey(t time.Time) time.Time {
	return time.Unix(int64(s.Epoch(t)+1)*int64(s.Rotation/time.Second), 0).UTC()
}

// Published is the range of epochs whose keys verify at t: the previous ones during the overlap,
// the current one, and at least the next one, so that no verifier meets a key before it was
// published.
func (s Schedule) Published(t time.Time) (first, last uint32) {
	first = s.Epoch(t.Add(-s.Overlap))
	last = max(s.Epoch(t)+1, s.Epoch(t.Add(Skew+maxKeyCache)))
	return first, last
}

type signerName struct {
	master   [3]byte
	tenant   TenantID
	rotation time.Duration
	epoch    uint32
}

// SigningKey is the key that signs for this tenant at t.
func (r *Ring) SigningKey(tenant TenantID, s Schedule, t time.Time) ed25519.PrivateKey {
	return r.signer(r.masters[0], tenant, s, s.Epoch(t))
}

// VerificationKeys are the public keys of all masters for the epochs published at t.
func (r *Ring) VerificationKeys(tenant TenantID, s Schedule, t time.Time) []ed25519.PublicKey {
	first, last := s.Published(t)
	var keys []ed25519.PublicKey
	for _, m := range r.masters {
		for e := first; e <= last; e++ {
			keys = append(keys, r.signer(m, tenant, s, e).Public().(ed25519.PublicKey))
		}
	}
	return keys
}

func (r *Ring) signer(m master, tenant TenantID, s Schedule, epoch uint32) ed25519.PrivateKey {
	return r.signers.get(signerName{m.id, tenant, s.Rotation, epoch}, func() ed25519.PrivateKey {
		return m.signingKey(tenant, s.Rotation, epoch)
	})
}
