package sealing_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// FuzzOpenReseal checks that each sealed payload opens to the same payload, and does so again when
// it is sealed once more.
func FuzzOpenReseal(f *testing.F) {
	f.Add(byte(0), []byte(nil), "", []byte("wiki"), uint32(0))
	f.Add(byte(3), []byte("payload"), aContext, []byte("world"), uint32(now.Unix()))
	f.Add(byte(5), everyByte(), "\x00\xff", []byte{}, ^uint32(0))
	f.Add(byte(4), make([]byte, longestPayload), "c", []byte("t"), uint32(86399))
	r := ring(f, "new", "old")
	f.Fuzz(func(t *testing.T, k byte, payload []byte, context string, tenantName []byte, second uint32) {
		kind := sealing.Kinds[int(k)%len(sealing.Kinds)]
		payload = payload[:min(len(payload), longestPayload)]
		context = context[:min(len(context), 0xffff)]
		tenant, at := sealing.TenantID(sha256.Sum256(tenantName)), time.Unix(int64(second), 0)

		v := r.Seal(kind, tenant, context, payload, at)
		opens(t, r, kind, tenant, context, v, at, payload, at)
		got, _, _ := r.Open(kind, tenant, context, v, at)
		again := r.Seal(kind, tenant, context, got, at)
		opens(t, r, kind, tenant, context, again, at, payload, at)
		if len(again) != len(v) {
			t.Errorf("%d characters, sealed again %d", len(v), len(again))
		}
	})
}

// FuzzChangedNeverOpens checks that a text opens only if it equals, character by character, a value
// that was sealed. The input is one of the published values with a piece replaced, or any text at
// all.
func FuzzChangedNeverOpens(f *testing.F) {
	vectors, err := loadVectors(os.DirFS("testdata/vectors"))
	if err != nil {
		f.Fatal(err)
	}
	// Only valid vectors may be seeds. From a refused one the fuzzer could undo the fault, and the
	// result would rightly open.
	var sealed []vector
	known := map[string]bool{}
	for _, v := range vectors {
		if v.header["expect"] == "ok" {
			sealed = append(sealed, v)
			known[v.body] = true
		}
	}
	for i, v := range sealed {
		f.Add(byte(i), uint16(0), uint16(1<<15), v.body)
		f.Add(byte(i), uint16(0), uint16(5), "mbs1_")
		f.Add(byte(i), uint16(5+i), uint16(1), "A")
		f.Add(byte(i), uint16(40), uint16(i%4), "\r\n")
		f.Add(byte(i), uint16(1<<15), uint16(0), "=")
		f.Add(byte(i), uint16(30), uint16(1<<15), "")
	}
	f.Fuzz(func(t *testing.T, which byte, from, length uint16, piece string) {
		v := sealed[int(which)%len(sealed)]
		start := min(int(from), len(v.body))
		end := min(start+int(length), len(v.body))
		text := v.body[:start] + piece + v.body[end:]

		r, err := sealing.ParseRing(v.header["masters"])
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range sealing.Kinds {
			payload, _, err := r.Open(kind, v.tenant(t), string(v.hex(t, "context")), text, v.unix(t, "now"))
			switch {
			case err == nil && !known[text]:
				t.Errorf("%q was never sealed and opens as %c: %x", text, kind, payload)
			case err == nil && text == v.body && (kind != v.kind(t) || !bytes.Equal(payload, v.hex(t, "payload"))):
				t.Errorf("%q opens as %c: %x", text, kind, payload)
			case err != nil && (err != sealing.ErrNotOpened || payload != nil):
				t.Errorf("%q: payload %x, error %v", text, payload, err)
			case err != nil && text == v.body && kind == v.kind(t):
				t.Errorf("%q does not open", text)
			}
		}
		if payload, err := r.OpenHop(text, v.unix(t, "now")); err != sealing.ErrNotOpened || payload != nil {
			t.Errorf("%q opens as a hop", text)
		}
	})
}

// FuzzNoOtherKindTenantContext checks that a value opens only for the kind, tenant and context for
// which it was sealed, also when its prefix is rewritten to what the opener expects.
func FuzzNoOtherKindTenantContext(f *testing.F) {
	f.Add(byte(3), byte(4), []byte("wiki"), []byte("wiki"), "context", "context")
	f.Add(byte(3), byte(3), []byte("wiki"), []byte("world"), "context", "context")
	f.Add(byte(3), byte(3), []byte("wiki"), []byte("wiki"), "context", "contex")
	f.Add(byte(3), byte(3), []byte("wiki"), []byte("wiki"), "", "")
	f.Add(byte(0), byte(5), []byte{}, []byte{0}, "\x00", "")
	f.Add(byte(1), byte(2), []byte("a"), []byte("a"), "a", "a")
	r := ring(f, "new", "old")
	f.Fuzz(func(t *testing.T, k1, k2 byte, name1, name2 []byte, context1, context2 string) {
		sealed, asked := sealing.Kinds[int(k1)%len(sealing.Kinds)], sealing.Kinds[int(k2)%len(sealing.Kinds)]
		context1, context2 = context1[:min(len(context1), 0xffff)], context2[:min(len(context2), 0xffff)]
		// The names serve as the ids where they fit, so some ids differ in one bit.
		var tenant1, tenant2 sealing.TenantID
		copy(tenant1[:], name1)
		copy(tenant2[:], name2)

		v := r.Seal(sealed, tenant1, context1, []byte("payload"), now)
		relabelled := "mb" + string(rune(asked)) + "1_" + v[5:]
		if sealed == asked && tenant1 == tenant2 && context1 == context2 {
			opens(t, r, asked, tenant2, context2, relabelled, now, []byte("payload"), now)
			return
		}
		refuses(t, r, asked, tenant2, context2, v, now)
		refuses(t, r, asked, tenant2, context2, relabelled, now)
	})
}
