package packed

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// texts are values from providers, or made-up ones of the same length.
var texts = map[string]string{
	"empty": "", "one character": "A", "one dot": ".", "Dex": "qjvzdqc4b4mcxcrxvsjj5fzrx", "Keycloak": "f2b3ad2e-8b54-4e3f-9c52-2cf4d9b8c6a1.91a8e4f6-0f0f-4c3e-8a2b-1c2d3e4f5a6b.4b7d9b0c-0b7a-4d0e-8d3a-5f6e7d8c9b0a",
	"Google's code": "4/0AVGzR1DJ0zr3nUv-XF3k1mQfhA7J9sH0bqf0", "Google's refresh token": "1//0gqf0HjK" + strings.Repeat("a-B_9", 18),
	"Entra ID's code": "1.AXEA" + strings.Repeat("AgABBAIAAAApTwJmzXqdR4BN2miheQMYAwDs_wUA9P-", 35), "Cognito's refresh token": "eyJjdHkiOiJKV1QiLCJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiUlNBLU9BRVAifQ." + strings.Repeat("dG9rZW4_", 210) + "." + strings.Repeat("x", 40),
	"standard base64": strings.Repeat("ab+/", 100) + "==", "no ASCII": strings.Repeat("é", 100), "alternating": strings.Repeat("a.", 200), "the longest": strings.Repeat("z", MaxLength), "zeros": strings.Repeat("\x00", 30),
}

func TestPackedTextComesBack(t *testing.T) {
	for name, text := range texts {
		if got, err := unpack(pack(text)); got != text || err != nil {
			t.Errorf("%s: %.40q, %v", name, got, err)
		}
		b, err := cbor.Marshal(Text(text))
		if err != nil {
			t.Fatal(err)
		}
		want, err := cbor.Marshal(text)
		if packed := pack(text); err == nil && len(packed) < len(text) {
			want, err = cbor.Marshal(packed)
		}
		if err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %.40x, and the library writes %.40x: %v", name, b, want, err)
		}
		var got Text
		if err := cbor.Unmarshal(b, &got); err != nil || string(got) != text {
			t.Errorf("%s in CBOR: %.40q, %v", name, got, err)
		}
		if utf8.ValidString(text) && len(b) > len(text)+3 {
			t.Errorf("%s: %d bytes for %d", name, len(b), len(text))
		}
	}
	for range 2000 { // random texts, for what nobody thought of
		n, err := rand.Int(rand.Reader, big.NewInt(200))
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, n.Int64())
		rand.Read(raw)
		for i := range raw { // mostly of the alphabet
			if raw[i] < 200 {
				raw[i] = alphabet[raw[i]%64]
			}
		}
		if got, err := unpack(pack(string(raw))); got != string(raw) || err != nil {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
}

// docs/sealed-values.md says how many bytes a text takes.
func TestPackedTextIsShorter(t *testing.T) {
	for name, most := range map[string]int{"Entra ID's code": 1145, "Cognito's refresh token": 1350, "Keycloak": 90, "the longest": 3080} {
		b, err := cbor.Marshal(Text(texts[name]))
		if err != nil || len(b) > most {
			t.Errorf("%s: %d bytes for %d characters, want at most %d: %v", name, len(b), len(texts[name]), most, err)
		}
	}
}

func TestPackedTextInAnotherFormIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"bits that are not used", []byte{1, 0x03}},
		{"a run that is cut off", []byte{4, 0, 0}},
		{"a length in a longer form", []byte{0x81, 0x00, 0x00}},
		{"a length without end", bytes.Repeat([]byte{0xff}, 12)},
		{"a length beyond all", []byte{0xff, 0xff, 0xff, 0x7f}},
		{"an empty run at the end", []byte{1, 0, 0}},
		{"a letter among the others", []byte{0, 1, 'a'}},
		{"two runs of the alphabet", []byte{1, 0, 0, 1, 0}},
	} {
		if got, err := unpack(c.b); err == nil {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestPackedTextInAnotherFormOfCBORIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing": {}, "null": {0xf6}, "a number": {0x05}, "a list": {0x80}, "a tag": {0xc0, 0x61, 'a'},
		"an indefinite length": {0x7f, 0x61, 'a', 0xff}, "a length in a longer form": {0x78, 1, 'a'}, "one in four bytes": {0x7a, 0, 0, 0, 1, 'a'}, "one in eight bytes": {0x7b, 0, 0, 0, 0, 0, 0, 0, 1, 'a'},
		"a text that is cut off": {0x62, 'a'}, "more than a text": {0x61, 'a', 'b'}, "no UTF-8": {0x61, 0xff}, "a byte string that is cut off": {0x43, 1, 0},
	} {
		var got Text
		if err := got.UnmarshalCBOR(b); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzPacked(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= MaxLength {
			if got, err := unpack(pack(string(b))); got != string(b) || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		if s, err := unpack(b); err == nil && !bytes.Equal(pack(s), b) {
			t.Errorf("%x and %x are one text", b, pack(s))
		}
	})
}
