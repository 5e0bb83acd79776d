//go:build go1.21

package mcp

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestCallsAreNamedInFull(t *testing.T) {
	r := NewRules(&Lists{Calls: true})
	if !r.NamesCalls() || NewRules(&Lists{}).NamesCalls() {
		t.Error("NamesCalls does not say what Lists.Calls said")
	}
	for _, c := range []struct{ body, want string }{
		{toolCall("search"), "tools/call search"},
		{`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["a:b","c:d"]}}}`, "subscriptions/listen a:b c:d"},
		{"[" + toolCall("a") + `,{"jsonrpc":"2.0","id":1,"result":{}}]`, "tools/call a,response"},
	} {
		v := Inspect(r, http.Header{}, []byte(c.body))
		if v.Code != 0 || v.Calls != c.want {
			t.Errorf("%s: %+v", c.body, *v)
		}
		if v := Inspect(NewRules(&Lists{}), http.Header{}, []byte(c.body)); v.Calls != "" {
			t.Errorf("%s: named without being asked: %q", c.body, v.Calls)
		}
	}
}

// A call with one subject is named without being judged where nothing is guarded. It must be what
// judging finds of it.
func TestCallsAreNamedAsIfTheyWereJudged(t *testing.T) {
	r := NewRules(&Lists{Calls: true})
	if r.guards {
		t.Fatal("there is no rule")
	}
	for name, m := range knownMethods {
		if m.subject == "" {
			continue
		}
		for _, subject := range []string{"search", "a b", "100%", "file:///a/../b", "a,b", strings.Repeat("x", 300), "é"} {
			c := &call{id: []byte("1"), method: name, subject: subject}
			short, whole := judgeNamed(r, http.Header{}, c, ""), judgeAndName(r, http.Header{}, c, "")
			if !reflect.DeepEqual(short, whole) {
				t.Errorf("%s %q: %+v, judged %+v", name, subject, short, whole)
			}
		}
		for _, header := range []string{"Mcp-Method", "Mcp-Name"} {
			c := &call{id: []byte("1"), method: name, subject: "search"}
			v := judgeNamed(r, http.Header{header: {"another"}}, c, "")
			if v.Code != codeHeaderMismatch {
				t.Errorf("%s with another %s: %+v", name, header, v)
			}
		}
	}
}
