// Package packed writes the texts of providers, codes and refresh tokens, in fewer bytes than they
// have characters. It promises one form for each text, and to read nothing but what it writes.
// It does not compress: the length of a packed text says how many characters of which kind there
// are, and nothing about which.
package packed

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// Text is a text that is packed in CBOR. Most texts of providers are base64url or hex with a dot
// here and there. Such runs are written with six bits a character, which keeps a code of 1,500
// characters below the 2,000 at which some systems cut a URL off. In CBOR a packed text is a byte
// string, and a text string where that would not be shorter.
//
//	runs of the alphabet, and of other bytes, in turn, beginning with the alphabet's:
//	length, as an unsigned LEB128 number ‖ ⌈6·length / 8⌉ bytes, the unused bits zero
//	length ‖ the bytes themselves
//
// docs/sealed-values.md has examples.
type Text string

// MaxLength is the length of the longest run that is read, in characters.
const MaxLength = 4096

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// sixBits :: character of the alphabet → its place in it; any other → 64
var sixBits = func() (table [256]byte) {
	for c := range table {
		table[c] = byte(len(alphabet))
	}
	for i, c := range []byte(alphabet) {
		table[c] = byte(i)
	}
	return table
}()

// run is how many characters at the beginning are in the alphabet, or are not.
func run(s string, inAlphabet bool) (n int) {
	for n < len(s) && (int(sixBits[s[n]]) < len(alphabet)) == inAlphabet {
		n++
	}
	return n
}

func pack(s string) []byte {
	out := make([]byte, 0, len(s)+2)
	for len(s) > 0 {
		n := run(s, true)
		out = binary.AppendUvarint(out, uint64(n))
		bits, waiting := uint(0), 0
		for _, c := range []byte(s[:n]) {
			bits, waiting = bits<<6|uint(sixBits[c]), waiting+6
			if waiting >= 8 {
				waiting -= 8
				out = append(out, byte(bits>>waiting))
			}
		}
		if waiting > 0 {
			out = append(out, byte(bits<<(8-waiting)))
		}
		if s = s[n:]; s == "" {
			break
		}
		n = run(s, false)
		out = append(binary.AppendUvarint(out, uint64(n)), s[:n]...)
		s = s[n:]
	}
	return out
}

var errPacked = errors.New("packed: not what pack writes")

// unpack is the reverse of pack, for what pack writes and nothing else.
func unpack(b []byte) (string, error) {
	var out strings.Builder
	out.Grow(len(b)*8/6 + 1)
	rest := b
	for inAlphabet := true; len(rest) > 0; inAlphabet = !inAlphabet {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > MaxLength {
			return "", errPacked
		}
		rest = rest[size:]
		width := int(n)
		if inAlphabet {
			width = (int(n)*6 + 7) / 8
		}
		if width > len(rest) {
			return "", errPacked
		}
		if inAlphabet {
			for i := range int(n) {
				pair := uint(rest[i*6/8]) << 8
				if at := i*6/8 + 1; at < width {
					pair |= uint(rest[at])
				}
				out.WriteByte(alphabet[pair>>(10-i*6%8)&63])
			}
		} else {
			out.Write(rest[:width])
		}
		rest = rest[width:]
	}
	if s := out.String(); string(pack(s)) == string(b) { // one text has one form
		return s, nil
	}
	return "", errPacked
}

// MarshalCBOR implements cbor.Marshaler.
func (t Text) MarshalCBOR() ([]byte, error) {
	if b := pack(string(t)); len(b) < len(t) {
		return cbor.Marshal(b)
	}
	return cbor.Marshal(string(t))
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (t *Text) UnmarshalCBOR(data []byte) error {
	if len(data) > 0 && data[0]>>5 == 3 { // a text string: RFC 8949 §3.1
		return decoding.Unmarshal(data, (*string)(t))
	}
	var b []byte
	if err := decoding.Unmarshal(data, &b); err == nil {
		s, err := unpack(b)
		*t = Text(s)
		return err
	}
	return decoding.Unmarshal(data, (*string)(t))
}

// decoding takes what stands in a payload: neither indefinite lengths nor tags.
var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

var _ interface {
	cbor.Marshaler
	cbor.Unmarshaler
} = new(Text)
