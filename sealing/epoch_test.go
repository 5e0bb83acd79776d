package sealing_test

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const day = 24 * time.Hour

// keyCache is how long a verifier may keep a JWKS without meeting an unknown key.
const keyCache = time.Hour

var schedules = []struct {
	name      string
	tokenLife time.Duration
	schedule  sealing.Schedule
}{
	{"the default", time.Hour, sealing.Schedule{Rotation: 30 * day, Overlap: day}},
	{"a day, overlap longer than the rotation", day, sealing.Schedule{Rotation: day, Overlap: 25 * time.Hour}},
	{"an hour, the shortest overlap", time.Hour, sealing.Schedule{Rotation: time.Hour, Overlap: time.Hour + sealing.Skew}},
	{"seven minutes, which divide no hour", 10 * time.Minute, sealing.Schedule{Rotation: 7 * time.Minute, Overlap: 15 * time.Minute}},
	{"a minute, the shortest rotation", time.Hour, sealing.Schedule{Rotation: time.Minute, Overlap: 66 * time.Minute}},
	{"a rotation of odd milliseconds", time.Hour, sealing.Schedule{Rotation: 90*time.Minute + 500*time.Millisecond, Overlap: 66 * time.Minute}},
}

// eachMoment walks through three rotations: the edges of each, one second and one skew around
// them, and odd moments between.
func eachMoment(s sealing.Schedule, test func(time.Time)) {
	rotation := s.Rotation.Truncate(time.Second)
	first := time.Unix(int64(s.Epoch(now))*int64(rotation/time.Second), 0)
	for i := range 3 {
		turn := first.Add(time.Duration(i) * rotation)
		for _, d := range []time.Duration{-keyCache, -sealing.Skew, -time.Second, -time.Nanosecond, 0, time.Second, sealing.Skew, s.Overlap} {
			test(turn.Add(d))
		}
		for j := range 97 {
			test(turn.Add(rotation / 97 * time.Duration(j)))
		}
	}
}

func TestSchedulesNeverLeaveAVerifierWithoutTheKey(t *testing.T) {
	for _, c := range schedules {
		t.Run(c.name, func(t *testing.T) {
			s := c.schedule
			if err := s.Check(c.tokenLife); err != nil {
				t.Fatal(err)
			}
			has := func(promise string, epoch uint32, at time.Time) {
				t.Helper()
				if first, last := s.Published(at); epoch < first || last < epoch {
					t.Fatalf("%s: at %v epochs %d to %d are published, not %d", promise, at.UTC(), first, last, epoch)
				}
			}
			eachMoment(s, func(signed time.Time) {
				e := s.Epoch(signed)
				for _, d := range []time.Duration{-sealing.Skew, -time.Second, 0, time.Second, sealing.Skew} {
					has("a replica whose clock differs publishes the key that signs now", e, signed.Add(d))
				}
				for i := range 11 {
					d := (c.tokenLife + sealing.Skew) / 10 * time.Duration(i)
					has("the key of a token is published during life and skew", e, signed.Add(d))
				}
				// The fastest clock signs one skew early. A JWKS that was fetched one cache time
				// before must still have the key.
				for _, d := range []time.Duration{keyCache, keyCache / 2, time.Minute, 0} {
					has("a cached JWKS has the key that signs next", e, signed.Add(-sealing.Skew-d))
				}
			})
		})
	}
}

func TestNextKeyIsPublishedAndTheRangeOnlyMovesForward(t *testing.T) {
	for _, c := range schedules {
		t.Run(c.name, func(t *testing.T) {
			s := c.schedule
			first, last := s.Published(now)
			for i := range 500 {
				at := now.Add(s.Rotation / 101 * time.Duration(i))
				f, l := s.Published(at)
				if f < first || l < last {
					t.Fatalf("at %v epochs %d to %d follow %d to %d", at.UTC(), f, l, first, last)
				}
				if e := s.Epoch(at); f > e || l <= e {
					t.Fatalf("at %v epochs %d to %d are published in epoch %d", at.UTC(), f, l, e)
				}
				first, last = f, l
			}
		})
	}
}

func TestKeyIsWithdrawnAfterTheOverlap(t *testing.T) {
	for _, c := range schedules {
		t.Run(c.name, func(t *testing.T) {
			s := c.schedule
			rotation := s.Rotation.Truncate(time.Second)
			e := s.Epoch(now)
			end := time.Unix(int64(e+1)*int64(rotation/time.Second), 0)
			if first, _ := s.Published(end.Add(s.Overlap - time.Second)); first != e {
				t.Errorf("a second before the overlap ends, the first published epoch is %d, want %d", first, e)
			}
			if first, _ := s.Published(end.Add(s.Overlap)); first != e+1 {
				t.Errorf("when the overlap ends, the first published epoch is %d, want %d", first, e+1)
			}
		})
	}
}

func TestScheduleCheck(t *testing.T) {
	for _, c := range []struct {
		name              string
		rotation, overlap time.Duration
		tokenLife         time.Duration
		message           string
	}{
		{"the default", 30 * day, day, time.Hour, ""},
		{"the shortest rotation with the default token life", time.Minute, 66 * time.Minute, time.Hour, ""},
		{"an overlap of exactly life and skew", day, time.Hour + sealing.Skew, time.Hour, ""},
		{"an overlap longer than the rotation", day, 25 * time.Hour, day, ""},
		{"an overlap one second short", day, time.Hour + sealing.Skew - time.Second, time.Hour, "overlap 1h4m59s is shorter than access-token life + clock skew (1h5m0s)"},
		{"no overlap", 30 * day, 0, time.Hour, "shorter than access-token life"},
		{"no rotation", 0, day, time.Hour, "rotation must be at least one minute"},
		{"a negative rotation", -day, day, time.Hour, "rotation must be at least one minute"},
		{"a rotation of 59 seconds", 59 * time.Second, day, time.Hour, "rotation must be at least one minute"},
		{"more keys than a JWKS should hold", time.Minute, day, time.Hour, "overlap 24h0m0s is too long for rotation 1m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := sealing.Schedule{Rotation: c.rotation, Overlap: c.overlap}.Check(c.tokenLife)
			if c.message == "" && err != nil || c.message != "" && (err == nil || !strings.Contains(err.Error(), c.message)) {
				t.Errorf("error %v, want %q", err, c.message)
			}
		})
	}
}

// docs/sealed-values.md has this bound: no schedule that Check accepts publishes more keys of one
// master.
func TestJWKSIsBounded(t *testing.T) {
	most := uint32(0)
	for _, rotation := range []time.Duration{time.Minute, 61 * time.Second, 119 * time.Second, 7 * time.Minute, time.Hour} {
		s := sealing.Schedule{Rotation: rotation, Overlap: sealing.Skew}
		for ; s.Check(0) == nil; s.Overlap += time.Minute - time.Second/2 {
			eachMoment(s, func(at time.Time) {
				first, last := s.Published(at)
				most = max(most, last-first+1)
			})
		}
	}
	if most > 144 || most < 140 {
		t.Errorf("up to %d keys are published, the documented bound is 144", most)
	}
}

func TestVerificationKeysAreThoseOfEveryMaster(t *testing.T) {
	s := sealing.Schedule{Rotation: day, Overlap: 2 * time.Hour}
	turn := now.Truncate(day)
	for _, c := range []struct {
		name             string
		signer, verifier *sealing.Ring
		found            bool
	}{
		{"the same ring", ring(t, "one"), ring(t, "one"), true},
		{"a replica that still signs with the old master", ring(t, "old", "new"), ring(t, "new", "old"), true},
		{"a replica that already signs with the new master", ring(t, "new", "old"), ring(t, "old", "new"), true},
		{"a master that was removed", ring(t, "old"), ring(t, "new"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, signed := range []time.Time{turn, turn.Add(-time.Second), turn.Add(time.Hour)} {
				for _, skew := range []time.Duration{-sealing.Skew, 0, sealing.Skew} {
					key := c.signer.SigningKey(wiki, s, signed)
					if published(c.verifier.VerificationKeys(wiki, s, signed.Add(skew)), key.Public()) != c.found {
						t.Errorf("signed at %v, JWKS of %v later: found = %v", signed, skew, !c.found)
					}
					if published(c.verifier.VerificationKeys(world, s, signed.Add(skew)), key.Public()) {
						t.Error("another tenant publishes the key")
					}
				}
			}
		})
	}
}

func TestSigningKeysAreAllDifferent(t *testing.T) {
	seen := map[string]string{} // :: key → where it came from
	later := sealing.Tenant{PublicURL: "https://mcp.localhost/wiki", Generation: 1}.ID()
	for _, master := range []string{"one", "two"} {
		r := ring(t, master)
		for _, tenant := range []sealing.TenantID{wiki, world, later, {}} {
			for _, rotation := range []time.Duration{time.Minute, time.Hour, day, 30 * day} {
				s := sealing.Schedule{Rotation: rotation, Overlap: day}
				for i := range 5 {
					name := fmt.Sprint(master, tenant, rotation, i)
					key := string(r.SigningKey(tenant, s, now.Add(time.Duration(i)*rotation)))
					if other, ok := seen[key]; ok {
						t.Errorf("%s and %s share a key", name, other)
					}
					seen[key] = name
				}
			}
		}
	}
	// Two schedules with the same epoch number must not share a key either.
	a := sealing.Schedule{Rotation: time.Minute, Overlap: day}
	b := sealing.Schedule{Rotation: time.Hour, Overlap: day}
	atA, atB := time.Unix(1000*60, 0), time.Unix(1000*3600, 0)
	if a.Epoch(atA) != b.Epoch(atB) {
		t.Fatal("the epochs should be equal here")
	}
	if r := ring(t, "one"); r.SigningKey(wiki, a, atA).Equal(r.SigningKey(wiki, b, atB)) {
		t.Error("another rotation, the same epoch number, the same key")
	}
}

func TestSigningKeyIsTheSameOnEveryReplica(t *testing.T) {
	s := sealing.Schedule{Rotation: day, Overlap: day}
	key := ring(t, "one").SigningKey(wiki, s, now)
	if !key.Equal(ring(t, "one").SigningKey(wiki, s, now.Truncate(day))) {
		t.Error("two replicas sign with different keys within one epoch")
	}
	if key.Equal(ring(t, "one").SigningKey(wiki, s, now.Truncate(day).Add(day))) {
		t.Error("the key did not change with the epoch")
	}
	public := key.Public().(ed25519.PublicKey)
	if !ed25519.Verify(public, []byte("token"), ed25519.Sign(key, []byte("token"))) {
		t.Error("the key does not sign")
	}
}

func published(keys []ed25519.PublicKey, key crypto.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return k.Equal(key) })
}
