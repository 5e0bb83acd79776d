package issuer

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// packed is a text of a provider, a code or a refresh token, in a sealed value. Most of them are
// base64url or hex with a dot here and there; such runs are written with six bits a character,
// which is what keeps a code of 1,500 characters below the 2,000 that some systems cut a URL at. In
// CBOR it is a byte string then, and a text string where that would not be shorter.
//
//	runs of the alphabet, and of other bytes, in turn, beginning with the alphabet's:
//	length, as an unsigned LEB128 number ‖ ⌈6·length / 8⌉ bytes, the unused bits zero
//	length ‖ the bytes themselves
//
// It is no compression: its length says how many characters of which kind there are, and nothing
// about which.
type packed string

const packAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func pack(s string) []byte {
	out := make([]byte, 0, len(s))
	for len(s) > 0 {
		n := len(s) - len(strings.TrimLeft(s, packAlphabet))
		out = binary.AppendUvarint(out, uint64(n))
		bits, waiting := uint(0), 0
		for _, c := range []byte(s[:n]) {
			bits, waiting = bits<<6|uint(strings.IndexByte(packAlphabet, c)), waiting+6
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
		if n = strings.IndexAny(s, packAlphabet); n < 0 {
			n = len(s)
		}
		out = append(binary.AppendUvarint(out, uint64(n)), s[:n]...)
		s = s[n:]
	}
	return out
}

var errPacked = errors.New("packed: not what pack writes")

// unpack is the reverse of pack, for what pack writes and nothing else.
func unpack(b []byte) (string, error) {
	var out strings.Builder
	rest := b
	for inAlphabet := true; len(rest) > 0; inAlphabet = !inAlphabet {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > provider.MaxValue {
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
				out.WriteByte(packAlphabet[pair>>(10-i*6%8)&63])
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

// MarshalCBOR is for the codec.
func (p packed) MarshalCBOR() ([]byte, error) {
	if b := pack(string(p)); len(b) < len(p) {
		return encoding.Marshal(b)
	}
	return encoding.Marshal(string(p))
}

// UnmarshalCBOR is for the codec.
func (p *packed) UnmarshalCBOR(data []byte) error {
	var b []byte
	if err := decoding.Unmarshal(data, &b); err == nil {
		s, err := unpack(b)
		*p = packed(s)
		return err
	}
	return decoding.Unmarshal(data, (*string)(p))
}

var _ interface {
	cbor.Marshaler
	cbor.Unmarshaler
} = new(packed)
