package sealing_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

var (
	wiki  = sealing.Tenant{PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "wiki", UpstreamIssuer: "https://accounts.example", UpstreamClientID: "client"}.ID()
	world = sealing.Tenant{PublicURL: "https://mcp.localhost/world", Resource: "world", Audience: "world", UpstreamIssuer: "https://accounts.example", UpstreamClientID: "client"}.ID()

	now = time.Unix(1_790_000_000, 0)
)

const aContext = "https://client.example/metadata.json"

// secret returns a master secret that depends only on the name.
func secret(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func ring(t testing.TB, names ...string) *sealing.Ring {
	t.Helper()
	var secrets []string
	for _, name := range names {
		secrets = append(secrets, secret(name))
	}
	r, err := sealing.ParseRing(strings.Join(secrets, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// opens demands the payload and the second at which the value was sealed.
func opens(t *testing.T, r *sealing.Ring, kind sealing.Kind, tenant sealing.TenantID, context, value string, at time.Time, payload []byte, sealed time.Time) {
	t.Helper()
	got, issuedAt, err := r.Open(kind, tenant, context, value, at)
	if err != nil {
		t.Errorf("%q does not open: %v", value, err)
		return
	}
	if !bytes.Equal(got, payload) {
		t.Errorf("payload = %x, sealed was %x", got, payload)
	}
	if !issuedAt.Equal(sealed.Truncate(time.Second)) {
		t.Errorf("issued at %v, sealed at %v", issuedAt, sealed)
	}
}

// refuses demands that nothing but ErrNotOpened comes back: no payload, no time, no second error.
func refuses(t *testing.T, r *sealing.Ring, kind sealing.Kind, tenant sealing.TenantID, context, value string, at time.Time) {
	t.Helper()
	payload, issuedAt, err := r.Open(kind, tenant, context, value, at)
	if err != sealing.ErrNotOpened {
		t.Errorf("%q: error %v, want ErrNotOpened itself", value, err)
	}
	if payload != nil || !issuedAt.IsZero() {
		t.Errorf("%q: payload %x and time %v beside the error", value, payload, issuedAt)
	}
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	r := ring(t, "one")
	payloads := map[string][]byte{
		"nothing":             {},
		"one byte":            {0},
		"a registration":      []byte(`{"redirect_uris":["http://localhost/callback"]}`),
		"every byte value":    everyByte(),
		"the longest payload": bytes.Repeat([]byte{0xa5}, longestPayload),
	}
	for _, kind := range sealing.Kinds {
		for name, payload := range payloads {
			for _, context := range []string{"", aContext, strings.Repeat("c", 0xffff)} {
				t.Run(fmt.Sprintf("%c/%s/context of %d bytes", kind, name, len(context)), func(t *testing.T) {
					opens(t, r, kind, wiki, context, r.Seal(kind, wiki, context, payload, now), now, payload, now)
				})
			}
		}
	}
}

func TestSealingIsNeverTheSameTwice(t *testing.T) {
	r, seen := ring(t, "one"), map[string]bool{}
	for range 1000 {
		v := r.Seal(sealing.KindCode, wiki, aContext, []byte("payload"), now)
		if seen[v] {
			t.Fatalf("%s came twice", v)
		}
		seen[v] = true
	}
}

// longestPayload makes a value of exactly 8,192 characters.
const longestPayload = 6104

func TestSizeIsPrefixAndFourThirds(t *testing.T) {
	r := ring(t, "one")
	for _, c := range []struct {
		name            string
		payload, length int
	}{
		{"an empty payload costs 53 characters", 0, 53},
		{"one byte makes 37", 1, 55},
		{"two bytes make 38", 2, 56},
		{"three bytes make 39", 3, 57},
		{"a typical registration", 114, 205},
		{"a payload of 600 bytes", 600, 853},
		{"the longest payload fills the limit", longestPayload, 8192},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := r.Seal(sealing.KindClient, wiki, aContext, make([]byte, c.payload), now)
			if formula := 5 + (4*(36+c.payload)+2)/3; len(v) != c.length || formula != c.length {
				t.Errorf("%d characters, formula %d, want %d", len(v), formula, c.length)
			}
		})
	}
	t.Run("a longer payload is sealed but does not open", func(t *testing.T) {
		v := r.Seal(sealing.KindClient, wiki, "", make([]byte, longestPayload+1), now)
		refuses(t, r, sealing.KindClient, wiki, "", v, now)
	})
}

// changed lists every way in which one value can be spoilt or spelt differently.
// Lengths of 0, 1 and 2 modulo 3 differ in their last base64 group, so there is one value of each.
func changed(t *testing.T, r *sealing.Ring, each func(t *testing.T, v, original string)) {
	for rest := range 3 {
		payload := []byte("the payload of a code")[:18+rest]
		v := r.Seal(sealing.KindCode, wiki, aContext, payload, now)
		opens(t, r, sealing.KindCode, wiki, aContext, v, now, payload, now)
		t.Run(fmt.Sprintf("%d bytes", len(payload)+36), func(t *testing.T) { each(t, v, v) })
	}
}

func raw(t testing.TB, value string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(value[5:])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func spell(prefix string, raw []byte) string {
	return prefix + base64.RawURLEncoding.EncodeToString(raw)
}

func TestValueThatWasChangedDoesNotOpen(t *testing.T) {
	r := ring(t, "one")
	refused := func(t *testing.T, v string) {
		t.Helper()
		refuses(t, r, sealing.KindCode, wiki, aContext, v, now)
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

	for _, c := range []struct {
		name string
		test func(t *testing.T, v string, b []byte)
	}{
		{"any bit flipped", func(t *testing.T, v string, b []byte) {
			for i := range len(b) * 8 {
				flipped := bytes.Clone(b)
				flipped[i/8] ^= 1 << (i % 8)
				refused(t, spell("mba1_", flipped))
			}
		}},
		{"any bit of the text flipped, prefix included", func(t *testing.T, v string, b []byte) {
			for i := range len(v) * 8 {
				flipped := []byte(v)
				flipped[i/8] ^= 1 << (i % 8)
				refused(t, string(flipped))
			}
		}},
		{"any other suite", func(t *testing.T, v string, b []byte) {
			for suite := range 256 {
				if suite != 1 {
					refused(t, spell("mba1_", append([]byte{byte(suite)}, b[1:]...)))
				}
			}
		}},
		{"any other byte in any place", func(t *testing.T, v string, b []byte) {
			for i := range b {
				other := bytes.Clone(b)
				for range 255 {
					other[i]++
					refused(t, spell("mba1_", other))
				}
			}
		}},
		{"cut after any byte", func(t *testing.T, v string, b []byte) {
			for i := range b {
				refused(t, spell("mba1_", b[:i]))
			}
		}},
		{"cut before any byte", func(t *testing.T, v string, b []byte) {
			for i := range b {
				refused(t, spell("mba1_", b[i+1:]))
			}
		}},
		{"cut after any character", func(t *testing.T, v string, b []byte) {
			for i := range v {
				refused(t, v[:i])
			}
		}},
		{"cut before any character", func(t *testing.T, v string, b []byte) {
			for i := range v {
				refused(t, v[i+1:])
			}
		}},
		{"any byte left out", func(t *testing.T, v string, b []byte) {
			for i := range b {
				refused(t, spell("mba1_", append(bytes.Clone(b[:i]), b[i+1:]...)))
			}
		}},
		{"any byte doubled", func(t *testing.T, v string, b []byte) {
			for i := range b {
				refused(t, spell("mba1_", append(bytes.Clone(b[:i+1]), b[i:]...)))
			}
		}},
		{"up to 20 zero bytes more", func(t *testing.T, v string, b []byte) {
			for n := range 20 {
				refused(t, spell("mba1_", append(bytes.Clone(b), make([]byte, n+1)...)))
			}
		}},
		{"one byte more", func(t *testing.T, v string, b []byte) {
			for c := range 256 {
				refused(t, spell("mba1_", append(bytes.Clone(b), byte(c))))
			}
		}},
		{"one or two characters more", func(t *testing.T, v string, b []byte) {
			for c := range 256 {
				refused(t, v+string([]byte{byte(c)}))
				refused(t, v+string([]byte{'A', byte(c)}))
				refused(t, string([]byte{byte(c)})+v)
			}
		}},
		{"a character that decoders skip, anywhere", func(t *testing.T, v string, b []byte) {
			for i := range len(v) + 1 {
				for _, c := range []string{"\r", "\n", "\r\n", "\n\n\n\n", " ", "\t", "\x00", "\u200b", "=", ".", "%0A"} {
					refused(t, v[:i]+c+v[i:])
				}
			}
		}},
		{"padded", func(t *testing.T, v string, b []byte) {
			refused(t, "mba1_"+strings.TrimRight(base64.URLEncoding.EncodeToString(b), "=")+"=")
			refused(t, v+"==")
			refused(t, v+"===")
		}},
		{"any other last character", func(t *testing.T, v string, b []byte) {
			sameBytes := 0
			for _, c := range digits {
				if other := v[:len(v)-1] + string(c); other != v {
					refused(t, other)
					if bytes.Equal(raw(t, other), b) {
						sameBytes++
					}
				}
			}
			if want := []int{0, 15, 3}[len(b)%3]; sameBytes != want {
				t.Errorf("%d of them decode to the same bytes, want %d", sameBytes, want)
			}
		}},
		{"another prefix", func(t *testing.T, v string, b []byte) {
			for _, prefix := range []string{"", "mb", "mba", "mba1", "mba1-", "mba2_", "MBA1_", "mbA1_", " mba1_", "mba1_mba1_", "mbh1_", "mbb1_"} {
				refused(t, prefix+v[5:])
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed(t, r, func(t *testing.T, v, original string) { c.test(t, v, raw(t, original)) })
		})
	}
}

func TestValueHasOneSpelling(t *testing.T) {
	r := ring(t, "one")
	payload := everyByte()
	v := r.Seal(sealing.KindCode, wiki, aContext, payload, now)
	for !strings.Contains(v[5:], "-") || !strings.Contains(v[5:], "_") {
		v = r.Seal(sealing.KindCode, wiki, aContext, payload, now)
	}
	for _, c := range []struct {
		name  string
		spelt string
	}{
		{"standard alphabet", "mba1_" + base64.RawStdEncoding.EncodeToString(raw(t, v))},
		{"standard alphabet for one character only", "mba1_" + strings.Replace(v[5:], "-", "+", 1)},
		{"percent-encoded", "mba1_" + strings.Replace(v[5:], "-", "%2D", 1)},
		{"hexadecimal", fmt.Sprintf("mba1_%x", raw(t, v))},
		{"lines of 64 characters", "mba1_" + v[5:69] + "\n" + v[69:]},
	} {
		t.Run(c.name, func(t *testing.T) { refuses(t, r, sealing.KindCode, wiki, aContext, c.spelt, now) })
	}
}

func TestKindOpensAsNoOther(t *testing.T) {
	r := ring(t, "one")
	for _, sealed := range sealing.Kinds {
		v := r.Seal(sealed, wiki, aContext, []byte("payload"), now)
		for _, asked := range sealing.Kinds {
			t.Run(fmt.Sprintf("%c as %c", sealed, asked), func(t *testing.T) {
				relabelled := "mb" + string(rune(asked)) + "1_" + v[5:]
				if sealed == asked {
					opens(t, r, asked, wiki, aContext, relabelled, now, []byte("payload"), now)
					return
				}
				refuses(t, r, asked, wiki, aContext, v, now)
				refuses(t, r, asked, wiki, aContext, relabelled, now)
				refuses(t, r, sealed, wiki, aContext, relabelled, now)
			})
		}
	}
}

func TestTenantAndContextOpenNoOthers(t *testing.T) {
	r := ring(t, "one")
	oneBit := wiki
	oneBit[31] ^= 1
	for _, kind := range sealing.Kinds {
		v := r.Seal(kind, wiki, aContext, []byte("payload"), now)
		for _, c := range []struct {
			name    string
			tenant  sealing.TenantID
			context string
		}{
			{"another tenant", world, aContext},
			{"a tenant id with another last bit", oneBit, aContext},
			{"no tenant", sealing.TenantID{}, aContext},
			{"another context", wiki, "https://other.example/metadata.json"},
			{"no context", wiki, ""},
			{"a longer context", wiki, aContext + "\x00"},
			{"a shorter context", wiki, aContext[1:]},
			{"a context in capitals", wiki, strings.ToUpper(aContext)},
		} {
			t.Run(fmt.Sprintf("%c/%s", kind, c.name), func(t *testing.T) {
				refuses(t, r, kind, c.tenant, c.context, v, now)
			})
		}
	}
}

func TestAges(t *testing.T) {
	const year = 365 * 24 * time.Hour
	lives := map[sealing.Kind]time.Duration{
		sealing.KindConsent:    15 * time.Minute,
		sealing.KindFlow:       15 * time.Minute,
		sealing.KindRemembered: 30 * 24 * time.Hour,
		sealing.KindCode:       time.Minute,
	}
	r := ring(t, "one")
	for _, kind := range sealing.Kinds {
		// A period of the key ends within the life of some of these values. That must not matter.
		for _, sealed := range []time.Time{now, endOfDay(now).Add(-time.Second), endOfDay(now)} {
			v := r.Seal(kind, wiki, aContext, []byte("payload"), sealed)
			type row struct {
				name string
				age  time.Duration
				open bool
			}
			rows := []row{
				{"opens at once", 0, true},
				{"opens while the opener's clock is one skew behind", -sealing.Skew, true},
				{"is refused further in the future", -sealing.Skew - time.Nanosecond, false},
				{"is refused a year in the future", -year, false},
			}
			if life, limited := lives[kind]; limited {
				rows = append(rows,
					row{"opens at the end of its life", life, true},
					row{"opens until its life and the skew are over", life + sealing.Skew, true},
					row{"is refused later", life + sealing.Skew + time.Nanosecond, false},
					row{"is refused a year later", year, false})
			} else {
				rows = append(rows,
					row{"opens after a day", 24 * time.Hour, true},
					row{"opens after five years", 5 * year, true})
			}
			for _, c := range rows {
				t.Run(fmt.Sprintf("%c sealed at %s %s", kind, sealed.UTC().Format(time.TimeOnly), c.name), func(t *testing.T) {
					if c.open {
						opens(t, r, kind, wiki, aContext, v, sealed.Add(c.age), []byte("payload"), sealed)
					} else {
						refuses(t, r, kind, wiki, aContext, v, sealed.Add(c.age))
					}
				})
			}
		}
	}
}

func TestIssuedAtReadsTheClaim(t *testing.T) {
	r := ring(t, "one")
	v := r.Seal(sealing.KindRefresh, wiki, aContext, []byte("payload"), now.Add(999*time.Millisecond))
	for _, c := range []struct {
		name  string
		kind  sealing.Kind
		value string
		want  error
	}{
		{"of a value", sealing.KindRefresh, v, nil},
		{"of a forged value too: it is not authenticated", sealing.KindRefresh, v[:len(v)-8] + "AAAAAAAA", nil},
		{"not of another kind", sealing.KindCode, v, sealing.ErrNotOpened},
		{"not of a respelt value", sealing.KindRefresh, v + "\n", sealing.ErrNotOpened},
		{"not of nothing", sealing.KindRefresh, "", sealing.ErrNotOpened},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := sealing.IssuedAt(c.kind, c.value)
			if err != c.want {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err == nil && !at.Equal(now) || err != nil && !at.IsZero() {
				t.Errorf("issued at %v", at)
			}
		})
	}
}

func endOfDay(t time.Time) time.Time { return t.Truncate(24 * time.Hour).Add(24 * time.Hour) }

func everyByte() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// What stands in clear is read without a key, and of what is not a value nothing is read.
func TestReadValueSaysWhatStandsInClear(t *testing.T) {
	r, at := ring(t, "A"), time.Unix(1790000000, 0)
	for _, kind := range sealing.Kinds {
		value := r.Seal(kind, sealing.TenantID{1}, "context", []byte("payload"), at)
		got, master, issuedAt, err := sealing.ReadValue(value)
		if err != nil || got != kind || master != r.MasterIDs()[0] || !issuedAt.Equal(at) {
			t.Errorf("%c: %c %s %v %v", kind, got, master, issuedAt, err)
		}
		for _, bad := range []string{value[:len(value)/2] + "!" + value[len(value)/2+1:], "mbx" + value[3:], "mb" + string(rune(kind)) + "2_" + value[5:], value[:40], value[:3], "", value + "\n", strings.Repeat(value, 200)} {
			if _, _, _, err := sealing.ReadValue(bad); !errors.Is(err, sealing.ErrNotOpened) {
				t.Errorf("%c: %.60q: error %v", kind, bad, err)
			}
		}
	}
}
