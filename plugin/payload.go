//go:build go1.21

package plugin

import (
	"encoding/json"
	"strconv"
)

// hopVersion is the version of the payload. A new member does not raise it: a side that does not
// know the member refuses where it is set. What must raise it stands in docs/hop.md.
const hopVersion = 1

// hopMember is a member of the payload (docs/hop.md): its value and its default as JSON. The list
// of them is made where the labels are read, in parseTenant. The sidecar has the other half of it
// in the fields of its tenant; the vectors in testdata/hop hold both to one reading.
type hopMember struct {
	name  string
	value string
	// standard is what both sides take where the member is left out. Empty: it is always sent.
	standard string
}

// payloadFor is the tenant configuration that the sidecar is told.
func payloadFor(s *settings, publicURL string) []hopMember {
	return append([]hopMember{{"publicURL", quote(publicURL), ""}}, s.payload...)
}

// encodePayload writes the payload. A member at its default is left out, so that a sidecar which
// does not know the member yet serves every tenant that does not use it.
func encodePayload(members []hopMember) []byte {
	text := `{"v":` + strconv.Itoa(hopVersion)
	for _, m := range members {
		if m.value != m.standard {
			text += `,"` + m.name + `":` + m.value
		}
	}
	return []byte(text + "}")
}

// quote cannot fail: what is not UTF-8 is replaced.
func quote(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

// array is never null: the sidecar refuses that.
func array(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	encoded, _ := json.Marshal(list)
	return string(encoded)
}
