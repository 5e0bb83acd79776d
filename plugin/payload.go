//go:build go1.21

package plugin

import (
	"encoding/json"
	"strconv"
)

// hopVersion is the version of the payload. A new member does not raise it: a side that does not
// know the member refuses a payload in which it is set. docs/hop.md says what must raise it.
const hopVersion = 1

// hopMember is a member of the payload (docs/hop.md): its value and its default, as JSON. The list
// of members is made where the labels are read (parseTenant). The sidecar has the other half of it
// in the fields of its tenant; the vectors in testdata/hop keep both to one reading.
type hopMember struct {
	name  string
	value string
	// standard is the value that both sides assume where the member is left out. Empty: the member
	// is always sent.
	standard string
}

// encodePayload writes a tenant's configuration as the sidecar receives it: its public URL as JSON,
// and the other members as encodeMembers writes them.
func encodePayload(publicURL, told string) []byte {
	return []byte(`{"v":` + strconv.Itoa(hopVersion) + `,"publicURL":` + publicURL + told + "}")
}

// encodeMembers writes members, each behind a comma. A member at its default is left out, so that a
// sidecar that does not know the member yet can serve every tenant that does not use it.
func encodeMembers(members []hopMember) string {
	text := ""
	for _, m := range members {
		if m.value != m.standard {
			text += `,"` + m.name + `":` + m.value
		}
	}
	return text
}

// quote cannot fail: bytes that are not UTF-8 are replaced.
func quote(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

// array never returns null, which the sidecar refuses.
func array(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	encoded, _ := json.Marshal(list)
	return string(encoded)
}
