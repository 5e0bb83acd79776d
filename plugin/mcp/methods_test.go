//go:build go1.21

package mcp

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode"
)

// docs/tools.md shows this table; TestLabelsInThePagesAreTaken reads its labels.
func TestMethodsHaveASubjectOrNone(t *testing.T) {
	for name, m := range knownMethods {
		if m.label != labelNone && m.subject == "" || m.several && m.subject != "" || m.named && m.subject == "" {
			t.Errorf("%s: %+v", name, *m)
		}
		folded := strings.ToLower(m.subject)
		if m.subject != "" && deciding[folded] != m.subject {
			t.Errorf("%s: another spelling of %s is not refused", name, m.subject)
		}
		var call json.RawMessage
		if json.Unmarshal([]byte(`{"method":"`+name+`"}`), &call) != nil || !IsPlainName(name) || fold(name) == name && !foldedMethods[name] {
			t.Errorf("%s is not a plain name", name)
		}
	}
}

// fold joins whatever Unicode's simple folding joins.
func TestFoldJoinsWhatUnicodeJoins(t *testing.T) {
	orbits := 0
	for r := rune(0x20); r < 0x1e944; r++ {
		other := unicode.SimpleFold(r)
		if other == r {
			continue
		}
		orbits++
		if fold(string(r)) != fold(string(other)) {
			t.Errorf("%U and %U", r, other)
		}
	}
	if orbits < 2000 {
		t.Errorf("only %d letters differ in case", orbits)
	}
}

// Each subject is compared with each rule, so a batch may name no more of them than one call.
func TestBatchNamesAsManyResourcesAsOneCall(t *testing.T) {
	r := NewRules(&Lists{Resources: rules("*=openid")})
	for _, c := range []struct {
		name     string
		calls, n int // calls in the batch, URIs in each
		want     int // code
	}{
		{"as many as may be", 2, maxSubjects / 2, 0},
		{"more", 2, maxSubjects/2 + 1, CodeInvalid},
		{"many more", maxBatch, maxSubjects, CodeInvalid},
	} {
		uris := strings.TrimSuffix(strings.Repeat(`"file:///a",`, c.n), ",")
		one := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":[` + uris + `]}}}`
		v := Inspect(r, http.Header{}, []byte("["+strings.TrimSuffix(strings.Repeat(one+",", c.calls), ",")+"]"))
		if v.Code != c.want {
			t.Errorf("%s: %+v", c.name, *v)
		}
	}
}
