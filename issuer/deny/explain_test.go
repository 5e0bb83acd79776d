package deny

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const explained = `{
  "v": 1,
  "serial": 7,
  "notBefore": {"*": "2026-01-01T00:00:00Z"},
  "families": {
    "AAAAAAAAAAAAAAAAAAAAAA": "",
    "BBBBBBBBBBBBBBBBBBBBBB": "2026-01-31T12:00:00Z"
  },
  "keys": {"mbb1_abcdefghijklmnop": ""}
}`

func TestExplainSaysWhatIsOver(t *testing.T) {
	e := Explain([]byte(explained), time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC))
	var got []string
	for _, entry := range e.Entries {
		got = append(got, fmt.Sprintf("%d %s %.4s over=%v ineffective=%v", entry.Line, entry.List, entry.Name, entry.Over, entry.Ineffective != ""))
	}
	want := []string{"4 notBefore * over=false ineffective=false", "6 families AAAA over=false ineffective=false", "7 families BBBB over=true ineffective=true", "9 keys mbb1 over=false ineffective=true"}
	if !slices.Equal(got, want) || len(e.Faults) != 0 || e.Serial != 7 {
		t.Errorf("%q\nwant %q, %v %d", got, want, e.Faults, e.Serial)
	}
}

// Each mistake is found, not the first alone, with the line that a person must look at.
func TestExplainNamesTheLineOfEachMistake(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"several", "{\n\"v\": 2,\n\"serial\": \"x\",\n\"hosts\": {},\n\"families\": {\n\"abc\": \"\",\n\"AAAAAAAAAAAAAAAAAAAAAA\": \"tomorrow\"\n},\n\"notBefore\": {\"wiki\": \"2026-01-01T00:00:00Z\"}\n}",
			`2 v must be 1; 3 serial must be a whole number; 4 unknown member "hosts"; 6 families: "abc" cannot be one; ` +
				`7 families: the time of "AAAAAAAAAAAAAAAAAAAAAA" is neither one such as 2027-01-31T12:00:00Z nor "", for ever; ` +
				`9 notBefore: "wiki" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"an entry twice", "{\"v\":1,\n\"keys\":{\"AAAAAAAAAAAAAAAAAAAAAA\":\"\",\n\"AAAAAAAAAAAAAAAAAAAAAA\":\"\"}}", `3 keys: "AAAAAAAAAAAAAAAAAAAAAA" is there twice`},
		{"a comma too many", "{\"v\":1,\n\"keys\":{},\n}", `3 not JSON: invalid character '}' looking for beginning of object key string`},
		{"a comma too many in a list", "{\"v\":1,\n\"keys\":{\n\"k\":\"\",\n}}", `4 not JSON: invalid character '}' looking for beginning of object key string`},
		{"cut off", "{\"v\":1,\n\"keys\":{", `2 not JSON: it ends too early`},
		{"a list of another type", "{\"v\":1,\n\"keys\":[\"k\"]\n}", `2 keys must be an object: {"ENTRY":"TIME"}`},
		{"no object", "\n[]", `2 not an object: the document is {"v":1,"serial":N,…}`},
		{"nothing", "", `1 not JSON: it ends too early`},
		{"no version", "{}", `0 v must be 1`},
		{"too large", "{" + strings.Repeat(" ", maxDocument), `0 larger than 1048576 bytes`},
		{"more behind it", "{\"v\":1}\n{}", `2 more stands behind the document`},
	} {
		var got []string
		for _, fault := range Explain([]byte(c.document), time.Now()).Faults {
			got = append(got, fmt.Sprint(fault.Line, " ", fault.Why))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, strings.Join(got, "; "), c.want)
		}
	}
}

// Explain and Parse agree about every text: an operator who is told that a document is good must
// not find that the sidecar refuses it.
func FuzzExplainAgreesWithParse(f *testing.F) {
	for _, text := range []string{explained, "", "null", "[]", `{"v":1}`, `{"v":1}{}`, `{"v":null}`, `{"v":1,"keys":null}`, `{"v":1,"keys":{"k":null}}`, `{"v":1,"notBefore":{"*":null}}`, `{"v":1,"notBefore":{"*":""}}`,
		`{"v":1,"serial":null}`, `{"v":1,"serial":1.0}`, `{"v":1.0}`, `{"v":1e0}`, `{"v":1,"clients":{"AAAAAAAAAAAAAAAA":1}}`, `{"v":1,"V":1}`, `{"v":1,"v":1}`, `{"v":1,"users":{"https://a|\ud800":""}}`, `{"v":1,"hosts":[{]}`,
		"{\"v\":1,\"keys\":{\"k\xff\":\"\"}}", `{"v":1,"keys":{"k":" 2020-01-01T00:00:00Z"}}`, `{"v":1,"families":{"A":{"a":1,"a":2}}}`, "\ufeff{\"v\":1}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse(data)
		e := Explain(data, time.Unix(1790000000, 0))
		if (err != nil) != (len(e.Faults) > 0) {
			t.Errorf("%q: Parse says %v, Explain %v", data, err, e.Faults)
		}
		for _, fault := range e.Faults {
			if lines := strings.Count(string(data), "\n") + 1; fault.Line < 0 || fault.Line > lines {
				t.Errorf("%q: line %d of %d", data, fault.Line, lines)
			}
		}
	})
}
