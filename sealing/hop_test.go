package sealing_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// sealHop is what docs/hop.md says the plugin does, with a nonce of the test's choice.
func sealHop(t testing.TB, key string, at time.Time, configuration []byte) string {
	t.Helper()
	k, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(k) != 32 {
		t.Fatalf("hop key of %d bytes: %v", len(k), err)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), k...))
	header := binary.BigEndian.AppendUint32(append([]byte{1}, id[:3]...), uint32(at.Unix()))
	nonce := []byte("twelve bytes")
	out := append(bytes.Clone(header), nonce...)
	return spell("mbh1_", gcm.Seal(out, nonce, configuration, append([]byte("mcpbouncer/v1/hop"), header...)))
}

func refusesHop(t *testing.T, r *sealing.Ring, value string, at time.Time) {
	t.Helper()
	if payload, err := r.OpenHop(value, at); err != sealing.ErrNotOpened || payload != nil {
		t.Errorf("%q: payload %q, error %v, want ErrNotOpened itself", value, payload, err)
	}
}

var configuration = []byte(`{"publicURL":"https://mcp.localhost/wiki"}`)

func TestHopOpensWhatAPluginSealed(t *testing.T) {
	old, promoted := ring(t, "old"), ring(t, "new", "old")
	for _, c := range []struct {
		name  string
		key   string
		ring  *sealing.Ring
		opens bool
	}{
		{"its own ring", old.HopKey(), old, true},
		{"another replica", ring(t, "old").HopKey(), old, true},
		{"a plugin that still has the old key", old.HopKey(), promoted, true},
		{"a plugin that has the new key", promoted.HopKey(), promoted, true},
		{"a plugin that has the new key, a replica that accepts it", promoted.HopKey(), ring(t, "old", "new"), true},
		{"a key of a master that was removed", old.HopKey(), ring(t, "new"), false},
		{"a key of somebody else", ring(t, "somebody else").HopKey(), promoted, false},
		{"the master itself as key", secret("old"), old, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := sealHop(t, c.key, now, configuration)
			if !c.opens {
				refusesHop(t, c.ring, v, now)
				return
			}
			got, err := c.ring.OpenHop(v, now)
			if err != nil || !bytes.Equal(got, configuration) {
				t.Errorf("configuration %q, error %v", got, err)
			}
		})
	}
}

func TestHopAges(t *testing.T) {
	r := ring(t, "one")
	v := sealHop(t, r.HopKey(), now, configuration)
	for _, c := range []struct {
		name  string
		age   time.Duration
		opens bool
	}{
		{"made now", 0, true},
		{"made a minute ago", time.Minute, true},
		{"made six minutes ago", 6 * time.Minute, true},
		{"made longer ago", 6*time.Minute + time.Nanosecond, false},
		{"made yesterday", day, false},
		{"made by a clock five minutes ahead", -5 * time.Minute, true},
		{"made further in the future", -5*time.Minute - time.Nanosecond, false},
		{"made tomorrow", -day, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.opens {
				if _, err := r.OpenHop(v, now.Add(c.age)); err != nil {
					t.Error(err)
				}
			} else {
				refusesHop(t, r, v, now.Add(c.age))
			}
			at, err := sealing.HopIssuedAt(v)
			if err != nil || !at.Equal(now) {
				t.Fatalf("issued at %v, error %v", at, err)
			}
			if sealing.HopExpired(at, now.Add(c.age)) == c.opens {
				t.Error("HopExpired and OpenHop disagree")
			}
		})
	}
}

func TestNoChangedHopOpens(t *testing.T) {
	r := ring(t, "one")
	for rest := range 3 {
		v := sealHop(t, r.HopKey(), now, configuration[:30+rest])
		if _, err := r.OpenHop(v, now); err != nil {
			t.Fatal(err)
		}
		b := raw(t, v)
		t.Run(fmt.Sprintf("%d bytes", len(b)), func(t *testing.T) {
			for i := range len(b) * 8 {
				flipped := bytes.Clone(b)
				flipped[i/8] ^= 1 << (i % 8)
				refusesHop(t, r, spell("mbh1_", flipped), now)
			}
			for i := range len(v) * 8 {
				flipped := []byte(v)
				flipped[i/8] ^= 1 << (i % 8)
				refusesHop(t, r, string(flipped), now)
			}
			for i := range b {
				refusesHop(t, r, spell("mbh1_", b[:i]), now)
				refusesHop(t, r, spell("mbh1_", b[i+1:]), now)
			}
			for i := range v {
				refusesHop(t, r, v[:i], now)
				refusesHop(t, r, v[i+1:], now)
			}
			for i := range len(v) + 1 {
				for _, c := range []string{"\r", "\n", "\r\n", "=", " ", "A", "\x00"} {
					refusesHop(t, r, v[:i]+c+v[i:], now)
				}
			}
			for _, kind := range sealing.Kinds {
				refusesHop(t, r, "mb"+string(rune(kind))+"1_"+v[5:], now)
			}
		})
	}
	t.Run("longer than 8,192 characters", func(t *testing.T) {
		if _, err := r.OpenHop(sealHop(t, r.HopKey(), now, make([]byte, longestPayload)), now); err != nil {
			t.Error("8,192 characters are refused")
		}
		refusesHop(t, r, sealHop(t, r.HopKey(), now, make([]byte, longestPayload+1)), now)
	})
}

func TestAHopIsNoValueAndAValueNoHop(t *testing.T) {
	r := ring(t, "one")
	hop := sealHop(t, r.HopKey(), now, configuration)
	for _, kind := range sealing.Kinds {
		refuses(t, r, kind, wiki, "", hop, now)
		refuses(t, r, kind, wiki, "", "mb"+string(rune(kind))+"1_"+hop[5:], now)
		v := r.Seal(kind, wiki, "", configuration, now)
		refusesHop(t, r, v, now)
		refusesHop(t, r, "mbh1_"+v[5:], now)
	}
}
