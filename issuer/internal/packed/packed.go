// Package packed writes the texts of providers, codes and refresh tokens, in fewer bytes than they
// have characters. It promises one form for each text, and to read nothing but what it writes.
// It does not compress: the length of a packed text says how many characters of which kind there
// are, and nothing about which.
package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

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

func pack(s string) []byte { return appendPacked(make([]byte, 0, len(s)+2), s) }

func appendPacked(out []byte, s string) []byte {
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
	// One text has one form. The room is on the stack, where most texts fit.
	room := make([]byte, 0, 256)
	if s := out.String(); bytes.Equal(appendPacked(room, s), b) {
		return s, nil
	}
	return "", errPacked
}

// The major types of the two kinds of string, as they stand in a head (RFC 8949 §3.1).
const byteString, textString = 2 << 5, 3 << 5

// MarshalCBOR implements cbor.Marshaler.
func (t Text) MarshalCBOR() ([]byte, error) {
	room := make([]byte, 0, longestHead+len(t)+2)
	if b := appendPacked(room[:longestHead], string(t))[longestHead:]; len(b) < len(t) {
		return append(appendHead(room, byteString, len(b)), b...), nil
	}
	return append(appendHead(room, textString, len(t)), t...), nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (t *Text) UnmarshalCBOR(data []byte) error {
	major, content, err := readString(data)
	if err != nil {
		return err
	}
	if major == byteString {
		s, err := unpack(content)
		*t = Text(s)
		return err
	}
	if !utf8.Valid(content) {
		return errPacked
	}
	*t = Text(content)
	return nil
}

// longestHead is how many bytes stand before the longest string: its type, and its length in four.
const longestHead = 5

// appendHead writes what stands before a string of n bytes (RFC 8949 §3).
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
}

// readString reads a string that is all of the data, with the head that appendHead writes.
func readString(data []byte) (major byte, content []byte, err error) {
	if len(data) > 0 {
		major = data[0] &^ 31
	}
	if major != byteString && major != textString {
		return 0, nil, errPacked
	}
	var room [longestHead]byte
	for size := 1; size <= min(longestHead, len(data)); size++ {
		if head := appendHead(room[:0], major, len(data)-size); len(head) == size && bytes.HasPrefix(data, head) {
			return major, data[size:], nil
		}
	}
	return 0, nil, errPacked
}

var _ interface {
	cbor.Marshaler
	cbor.Unmarshaler
} = new(Text)
