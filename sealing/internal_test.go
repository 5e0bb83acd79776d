package sealing

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestKindsListsEveryKind(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range Kinds {
		facts, ok := kinds[kind]
		if !ok || facts.purpose == "" || facts.period < 24*time.Hour || seen[facts.purpose] {
			t.Errorf("%c: %+v", kind, facts)
		}
		seen[facts.purpose] = true
	}
	if len(Kinds) != len(kinds) || slices.Contains(Kinds, 'h') {
		t.Errorf("%d kinds are listed, %d exist; h is the hop's", len(Kinds), len(kinds))
	}
}

// A key is derived for a value before the value is authenticated, so strangers choose which. It is
// cached only if the value opened, and they push no other out.
func TestCacheIsNotGrownByForgedValues(t *testing.T) {
	r, err := ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_790_000_000, 0)
	s := Schedule{Rotation: time.Hour, Overlap: 24 * time.Hour}
	forged, err := ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		v := forged.Seal(KindClient, TenantID{1}, "", nil, now.Add(time.Duration(i)*-365*24*time.Hour/4))
		if _, _, err := r.Open(KindClient, TenantID{1}, "other", v, now); err != ErrNotOpened {
			t.Fatalf("error %v, want ErrNotOpened", err)
		}
		if len(r.aeads.m) != 0 {
			t.Fatal("the key of a forged value is cached")
		}
		if i == 0 {
			continue
		}
		if _, _, err := forged.Open(KindClient, TenantID{1}, "", v, now); err != nil || len(forged.aeads.m) == 0 {
			t.Fatalf("the key of a good value is not cached: %v", err)
		}
	}
	for i := range cacheLimit + 500 {
		var tenant TenantID
		binary.BigEndian.PutUint32(tenant[:], uint32(i))
		r.Seal(KindClient, tenant, "", nil, now)
		if i%16 == 0 {
			r.VerificationKeys(tenant, s, now)
		}
		r.Pseudonym(tenant, "alice")
		if len(r.aeads.m) > cacheLimit || len(r.signers.m) > cacheLimit || len(r.macs.m) > cacheLimit {
			t.Fatalf("%d, %d and %d keys are cached, the limit is %d", len(r.aeads.m), len(r.signers.m), len(r.macs.m), cacheLimit)
		}
	}
}

// A long client_id leaves no memory behind at its tenant.
func TestKeyedMACKeepsNoLongMessage(t *testing.T) {
	r, err := ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{10, 3000, 10} {
		subject := strings.Repeat("a", size)
		if r.Pseudonym(TenantID{1}, subject) == r.Pseudonym(TenantID{1}, subject+"a") {
			t.Fatalf("two subjects of %d characters have one name", size)
		}
		for _, mac := range r.macs.m {
			if cap(mac.message) > 512 {
				t.Errorf("%d bytes are kept after a message of %d", cap(mac.message), size)
			}
		}
	}
}

// The keys that one tenant publishes must fit, or each JWKS request would derive all of them again.
func TestCacheHoldsOneJWKS(t *testing.T) {
	if maxMasters*maxPublished > cacheLimit {
		t.Errorf("%d keys of one tenant, room for %d", maxMasters*maxPublished, cacheLimit)
	}
}

// A full cache loses one entry: a stranger who forges headers must not make all keys be derived
// anew.
func TestCacheThatIsFullLosesOneKey(t *testing.T) {
	var c cache[int, int]
	for i := range cacheLimit + 10 {
		c.get(i, func() int { return i })
		if want := min(i+1, cacheLimit); len(c.m) != want {
			t.Fatalf("%d entries after %d, want %d", len(c.m), i+1, want)
		}
	}
	derived := 0
	for i := range cacheLimit {
		c.get(i, func() int { derived++; return i })
	}
	if derived == 0 || derived > cacheLimit/4 {
		t.Errorf("%d of %d were derived again", derived, cacheLimit)
	}
}
