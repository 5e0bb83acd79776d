//go:build go1.21

package mcp

import (
	"net/http"
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
