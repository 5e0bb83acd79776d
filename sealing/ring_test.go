package sealing_test

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

func TestParseRingRefuses(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	random, _ := base64.StdEncoding.DecodeString(secret("one"))
	const notKey = "not 32 bytes in base64; make one with `mcpbouncer keygen`"

	for _, c := range []struct {
		name, text, message string
	}{
		{"no text", "", "key 1 of 1: " + notKey},
		{"only a comma", ",", "key 1 of 2: " + notKey},
		{"a comma at the end", secret("one") + ",", "key 2 of 2: " + notKey},
		{"a comma at the start", "," + secret("one"), "key 1 of 2: " + notKey},
		{"31 bytes", b64(random[:31]), "key 1 of 1: " + notKey},
		{"33 bytes", b64(append(random[:32:32], 0)), "key 1 of 1: " + notKey},
		{"hexadecimal", hex.EncodeToString(random), "key 1 of 1: " + notKey},
		{"no padding", strings.TrimRight(secret("one"), "="), "key 1 of 1: " + notKey},
		{"the URL alphabet", base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xff\xfe", 16))), "key 1 of 1: " + notKey},
		{"unused bits that are not zero", strings.Replace(secret("one"), "=", "", 1)[:42] + "9=", "key 1 of 1: " + notKey},
		{"a passphrase", "correct horse battery staple 123", "key 1 of 1: " + notKey},
		{"an encoded passphrase", b64([]byte("correct horse battery staple 123")), "key 1 of 1: an encoded text, not random bytes"},
		{"the wrong one is the second", secret("one") + ",swordfish", "key 2 of 2: " + notKey},
		{"the same key twice", secret("one") + "," + secret("one"), "key 2 of 2: the same key stands earlier"},
		{"the same key twice, not side by side", secret("one") + "," + secret("two") + ", " + secret("one"), "key 3 of 3: the same key stands earlier"},
		{"six keys", strings.Join([]string{secret("1"), secret("2"), secret("3"), secret("4"), secret("5"), secret("6")}, ","), "6 keys given, at most 5"},
		{"semicolons", secret("one") + ";" + secret("two"), "key 1 of 1: " + notKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := sealing.ParseRing(c.text)
			if r != nil || err == nil || !strings.Contains(err.Error(), c.message) {
				t.Fatalf("ring %v, error %q, want %q", r, err, c.message)
			}
			for _, entry := range strings.Split(c.text, ",") {
				if len(entry) >= 6 && strings.Contains(err.Error(), entry[:6]) {
					t.Errorf("the message repeats the secret: %v", err)
				}
			}
		})
	}
}

func TestParseRingAccepts(t *testing.T) {
	five := []string{secret("1"), secret("2"), secret("3"), secret("4"), secret("5")}
	for _, c := range []struct {
		name, text string
		masters    int
	}{
		{"one key", five[0], 1},
		{"five keys", strings.Join(five, ","), 5},
		{"space around a key", " " + five[0] + " ,\t" + five[1], 2},
		{"the line break at the end of a file", five[0] + "," + five[1] + "\r\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := sealing.ParseRing(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(r.MasterIDs()); got != c.masters {
				t.Errorf("%d masters, want %d", got, c.masters)
			}
		})
	}
}

func TestMasterIDsNameTheRingInOrder(t *testing.T) {
	one, two := ring(t, "one").MasterIDs()[0], ring(t, "two").MasterIDs()[0]
	if one == two || len(one) != 6 || strings.Trim(one, "0123456789abcdef") != "" {
		t.Errorf("ids %q and %q", one, two)
	}
	if got := ring(t, "two", "one").MasterIDs(); !slices.Equal(got, []string{two, one}) {
		t.Errorf("ids %q of the ring of %q and %q", got, two, one)
	}
}

func TestRotationOfTheRing(t *testing.T) {
	old, accepting, promoted, done := ring(t, "old"), ring(t, "old", "new"), ring(t, "new", "old"), ring(t, "new")
	for _, c := range []struct {
		name           string
		sealer, opener *sealing.Ring
		opens          bool
	}{
		{"before", old, old, true},
		{"step one, a replica that has not heard of it seals", old, accepting, true},
		{"step one, a replica that has not heard of it opens", accepting, old, true},
		{"step two, a replica still at step one seals", accepting, promoted, true},
		{"step two, a replica still at step one opens", promoted, accepting, true},
		{"an old value after step two", old, promoted, true},
		{"a promoted value after the old master is removed", promoted, done, true},
		{"an old value after the old master is removed", old, done, false},
		{"one step instead of two: a replica that has not heard of it", promoted, old, false},
		{"a ring of somebody else", ring(t, "somebody else"), promoted, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range sealing.Kinds {
				v := c.sealer.Seal(kind, wiki, aContext, []byte("payload"), now)
				if c.opens {
					opens(t, c.opener, kind, wiki, aContext, v, now, []byte("payload"), now)
				} else {
					refuses(t, c.opener, kind, wiki, aContext, v, now)
				}
			}
		})
	}
}

func TestFirstMasterSeals(t *testing.T) {
	r := ring(t, "new", "old")
	for _, kind := range sealing.Kinds {
		v := r.Seal(kind, wiki, aContext, nil, now)
		if got := hex.EncodeToString(raw(t, v)[1:4]); got != r.MasterIDs()[0] {
			t.Errorf("%c names master %s, want %s", kind, got, r.MasterIDs()[0])
		}
	}
}

func TestClientSecret(t *testing.T) {
	before, after := ring(t, "old"), ring(t, "new", "old")
	id := before.Seal(sealing.KindClient, wiki, "", []byte("a registration"), now)
	original, err := before.ClientSecret(wiki, id)
	if err != nil {
		t.Fatal(err)
	}
	if len(original) != 43 || strings.Trim(original, urlAlphabet) != "" {
		t.Errorf("%q is not 43 base64url characters", original)
	}

	for _, c := range []struct {
		name   string
		ring   *sealing.Ring
		tenant sealing.TenantID
		id     string
		same   bool
	}{
		{"asked again", before, wiki, id, true},
		{"asked of another replica", ring(t, "old"), wiki, id, true},
		{"after the ring turned", after, wiki, id, true},
		{"of another tenant", before, world, id, false},
		{"of another client with the same registration", before, wiki, before.Seal(sealing.KindClient, wiki, "", []byte("a registration"), now), false},
		{"of a client registered after the ring turned", after, wiki, after.Seal(sealing.KindClient, wiki, "", []byte("a registration"), now), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.ring.ClientSecret(c.tenant, c.id)
			if err != nil {
				t.Fatal(err)
			}
			if (got == original) != c.same {
				t.Errorf("secret %q, the first was %q", got, original)
			}
		})
	}

	for _, c := range []struct {
		name string
		ring *sealing.Ring
		id   string
	}{
		{"a client of a master that was removed", ring(t, "new"), id},
		{"a client_id that is no registration", before, "https://client.example/metadata.json"},
		{"a value of another kind", before, before.Seal(sealing.KindCode, wiki, "", nil, now)},
		{"a client_id spelt differently", before, id + "\n"},
		{"no client_id", before, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := c.ring.ClientSecret(wiki, c.id); got != "" || err != sealing.ErrNotOpened {
				t.Errorf("secret %q, error %v, want ErrNotOpened", got, err)
			}
		})
	}
}

// Under -race this proves that a ring may be shared.
func TestRingServesManyAtOnce(t *testing.T) {
	r := ring(t, "new", "old")
	schedule := sealing.Schedule{Rotation: day, Overlap: day}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				tenant := wiki
				tenant[0] = byte(j % 50)
				at := now.AddDate(0, 0, (i+j)%7)
				v := r.Seal(sealing.KindFlow, tenant, aContext, []byte("payload"), at)
				opens(t, r, sealing.KindFlow, tenant, aContext, v, at, []byte("payload"), at)
				signer := r.SigningKey(tenant, schedule, at).Public()
				if !published(r.VerificationKeys(tenant, schedule, at), signer) {
					t.Error("the signing key is not published")
				}
			}
		})
	}
	wg.Wait()
}

// A replica that cached keys under too short a name would still open its own values, so a fresh
// ring opens them here.
func TestRingThatIsFreshOpensWhatABusyOneSealed(t *testing.T) {
	busy := ring(t, "new", "old")
	for range 2 {
		for _, kind := range sealing.Kinds {
			for _, tenant := range []sealing.TenantID{wiki, world} {
				for _, at := range []time.Time{now, now.Add(day), now.Add(40 * day)} {
					v := busy.Seal(kind, tenant, aContext, []byte("payload"), at)
					opens(t, ring(t, "old", "new"), kind, tenant, aContext, v, at, []byte("payload"), at)
				}
			}
		}
	}
}

const urlAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
