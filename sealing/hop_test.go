package sealing_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// sealHop seals as the plugin does (docs/hop.md), with a nonce of the test's choice.
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
	if hop, err := r.OpenHop(value, at); err != sealing.ErrNotOpened || hop != nil {
		t.Errorf("%q: %v, error %v, want ErrNotOpened itself", value, hop, err)
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
			if err != nil || !bytes.Equal(got.Payload, configuration) || !got.IssuedAt.Equal(now) {
				t.Errorf("%v, error %v", got, err)
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
			var want error
			if !c.opens {
				want = sealing.ErrHopClock
			}
			if hop, err := r.OpenHop(v, now.Add(c.age)); err != want || hop == nil || !hop.IssuedAt.Equal(now) {
				t.Errorf("%v, error %v, want %v", hop, err, want)
			}
			id, at, err := sealing.ReadHop(v)
			if err != nil || !at.Equal(now) || id != r.HopKeyIDs()[0] {
				t.Fatalf("key %s, issued at %v, error %v", id, at, err)
			}
			if sealing.HopExpired(at, now.Add(c.age)) == c.opens {
				t.Error("HopExpired and OpenHop disagree")
			}
		})
	}
}

func TestHopThatWasChangedDoesNotOpen(t *testing.T) {
	r := ring(t, "one")
	for rest := range 3 {
		v := sealHop(t, r.HopKey(), now, configuration[:30+rest])
		if _, err := r.OpenHop(v, now); err != nil {
			t.Fatal(err)
		}
		b := raw(t, v)
		t.Run(fmt.Sprintf("%d bytes", len(b)), func(t *testing.T) {
			changedHop := func(value string) {
				t.Helper()
				refusesHop(t, r, value, now)
				refusesHop(t, r, value, now.Add(day)) // its age tells a forger nothing either
			}
			for i := range len(b) * 8 {
				flipped := bytes.Clone(b)
				flipped[i/8] ^= 1 << (i % 8)
				changedHop(spell("mbh1_", flipped))
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

func TestHopHeaderIsNotASealedValue(t *testing.T) {
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

// openReason opens a reason as the plugin does (docs/hop.md).
func openReason(t *testing.T, key, hop, reason string) (string, bool) {
	t.Helper()
	k, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte("mcpbouncer/v1/hop-reason" + hop))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(reason, "mbe1_")
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(b) < 28 {
		return "", false
	}
	plain, err := gcm.Open(nil, b[:12], b[12:], []byte("mcpbouncer/v1/hop-reason"))
	return string(plain), err == nil
}

func TestReasonOfARefusalIsForTheHeaderThatWasSent(t *testing.T) {
	r := ring(t, "new", "old")
	key := ring(t, "old").HopKey() // of the plugin, which has not followed yet
	v := sealHop(t, key, now, configuration)
	other := sealHop(t, key, now.Add(time.Second), configuration)
	hop, err := r.OpenHop(v, now.Add(day))
	if err != sealing.ErrHopClock {
		t.Fatal(err)
	}
	sealed := hop.SealReason("clock 86400")
	if sealed == hop.SealReason("clock 86400") {
		t.Error("two reasons have one nonce")
	}
	for _, c := range []struct {
		name, key, hop string
		opens          bool
	}{
		{"the plugin that sent it", key, v, true},
		{"the answer to another header", key, other, false},
		{"another hop key of the ring", r.HopKey(), v, false},
		{"somebody else's", ring(t, "somebody else").HopKey(), v, false},
	} {
		if got, ok := openReason(t, c.key, c.hop, sealed); ok != c.opens || ok && got != "clock 86400" {
			t.Errorf("%s: %q, %v", c.name, got, ok)
		}
	}
	for i := range len(sealed) {
		changed := []byte(sealed)
		changed[i] ^= 1
		if _, ok := openReason(t, key, v, string(changed)); ok {
			t.Errorf("opens with character %d changed", i)
		}
	}
}

// While Traefik changes over to a new hop key, clients hold nonces of either: new ones are made
// under the plugin's key, whichever that is, and all are taken. No two public URLs share a key.
func TestDPoPNonceKeysAreThePluginsFirst(t *testing.T) {
	keysFor := func(plugin, publicURL string, masters ...string) [][]byte {
		r := ring(t, masters...)
		hop, err := r.OpenHop(sealHop(t, ring(t, plugin).HopKey(), now, configuration), now)
		if err != nil {
			t.Fatal(err)
		}
		return r.DPoPNonceKeys(hop, publicURL)
	}
	before, after := keysFor("old", "https://mcp.localhost/wiki", "new", "old"), keysFor("new", "https://mcp.localhost/wiki", "new", "old")
	if len(before) != 2 || len(after) != 2 || !bytes.Equal(before[0], after[1]) || !bytes.Equal(before[1], after[0]) || bytes.Equal(before[0], before[1]) {
		t.Errorf("keys %x before, %x after", before, after)
	}
	if alone := keysFor("old", "https://mcp.localhost/wiki", "old"); len(alone) != 1 || !bytes.Equal(alone[0], before[0]) {
		t.Errorf("a ring of the old master has %x", alone)
	}
	if other := keysFor("old", "https://mcp.localhost/wiki2", "old"); bytes.Equal(other[0], before[0]) {
		t.Error("two public URLs share a key")
	}
}

// The vectors of plugin/testdata have the mark of each header that authenticates.
func TestHopMarkVectors(t *testing.T) {
	files, err := filepath.Glob("../plugin/testdata/hop/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors")
	}
	marks := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, value, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), "\n\n")
		v := map[string]string{}
		for line := range strings.SplitSeq(head, "\n") {
			name, rest, _ := strings.Cut(line, ": ")
			v[name] = rest
		}
		r, err := sealing.ParseRing(v["master"])
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.ParseInt(v["now"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		hop, err := r.OpenHop(strings.ReplaceAll(value, `\r\n`, "\r\n"), time.Unix(seconds, 0))
		mark := "none"
		if hop != nil {
			mark = hop.Mark()
		}
		if mark != v["mark"] {
			t.Errorf("%s: mark %s, want %s (%v)", file, mark, v["mark"], err)
		}
		if (err == sealing.ErrHopClock) != strings.HasPrefix(v["reason"], "clock ") || (err == sealing.ErrNotOpened) != (v["reason"] == "key") {
			t.Errorf("%s: %v, reason %s", file, err, v["reason"])
		}
		marks[mark] = true
	}
	if len(marks) < 5 {
		t.Errorf("only %d marks", len(marks))
	}
}

// Whoever has Traefik's hop key alone opens the plugin's headers, and no others.
func TestOpenHopWithAHopKeyAlone(t *testing.T) {
	r, other, at := ring(t, "A"), ring(t, "B"), time.Unix(1790000000, 0)
	header := sealHop(t, r.HopKey(), at, []byte(`{"v":1}`))
	hop, err := sealing.OpenHopWith(r.HopKey(), header, at)
	if err != nil || string(hop.Payload) != `{"v":1}` || !hop.IssuedAt.Equal(at) {
		t.Fatalf("%+v %v", hop, err)
	}
	same, err := r.OpenHop(header, at)
	if err != nil || same.Mark() != hop.Mark() {
		t.Errorf("mark %s, want %s: %v", hop.Mark(), same.Mark(), err)
	}
	if hop, err := sealing.OpenHopWith(r.HopKey(), header, at.Add(time.Hour)); hop == nil || !errors.Is(err, sealing.ErrHopClock) {
		t.Errorf("an hour later: %v %v", hop, err)
	}
	for name, c := range map[string]struct {
		key, header string
		want        error
	}{
		"of another master": {other.HopKey(), header, sealing.ErrNotOpened}, "that was changed": {r.HopKey(), header[:len(header)-6] + "AAAAAA", sealing.ErrNotOpened},
		"a key that is none": {"secret", header, sealing.ErrHopKey}, "no header": {r.HopKey(), "", sealing.ErrNotOpened},
	} {
		if hop, err := sealing.OpenHopWith(c.key, c.header, at); hop != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v %v", name, hop, err)
		}
	}
}
