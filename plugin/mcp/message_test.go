//go:build go1.21

package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// The tests of this package run compiled (go test) and interpreted (yaegi test), so they keep to
// the same Go as the package. Those of the package plugin send the same kinds of messages through
// the whole middleware.

// rules reads rules as the labels have them. They are good ones.
func rules(text string) []Rule {
	list := []Rule{}
	for _, rule := range strings.Split(text, "; ") {
		at := strings.LastIndex(rule, "=")
		list = append(list, Rule{Name: rule[:at], Scopes: strings.Fields(rule[at+1:])})
	}
	return list
}

// wikiRules are rules for every kind of operation.
func wikiRules() *Rules {
	return NewRules(&Lists{
		Methods:   rules("resources/*=wiki:read; prompts/get=wiki:prompts; admin/reset=wiki:admin"),
		Tools:     rules("delete_page=wiki:write; admin_*=wiki:admin; admin_who=wiki:read; *=wiki:read"),
		Resources: rules("file:///public/*=wiki:read; *=wiki:admin"),
		Prompts:   rules("review=wiki:write wiki:read"),
	})
}

func toolCall(tool string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"page":"Main"}}}`
}

func modernCall(tool, version string) string {
	return `{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"` + tool + `","_meta":{"io.modelcontextprotocol/protocolVersion":"` + version + `"}}}`
}

// These are messages that two readers could read differently. Each would be a call of delete_page
// or of an admin_ tool to some server.
func TestMessagesThatAreRefused(t *testing.T) {
	r := wikiRules()
	for _, c := range []struct {
		name string
		body string
		code int
	}{
		{"nothing", "", -32700},
		{"a blank", " ", -32700},
		{"no JSON", "method=tools/call", -32700},
		{"half a message", toolCall("delete_page")[:40], -32700},
		{"trailing data", toolCall("search") + toolCall("delete_page"), -32700},
		{"trailing data in a new line", toolCall("search") + "\n" + toolCall("delete_page"), -32700},
		{"a NUL behind it", toolCall("search") + "\x00", -32700},
		{"a byte order mark", "\ufeff" + toolCall("search"), -32700},
		{"UTF-16", "{\x00\"\x00m\x00\"\x00:\x001\x00}\x00", -32700},
		{"bytes that are not UTF-8 in the name", strings.Replace(toolCall("search"), "search", "del\xffete_page", 1), -32700},
		{"an overlong letter", strings.Replace(toolCall("search"), "search", "d\xc1\xa5lete_page", 1), -32700},
		{"half a surrogate pair as bytes", strings.Replace(toolCall("search"), "search", "delete_page\xed\xa0\x80", 1), -32700},
		{"comments", `{"id":1,/*"method":"ping"*/"method":"tools/call"}`, -32700},
		{"a trailing comma", `{"id":1,"method":"ping",}`, -32700},
		{"single quotes", `{'id':1,'method':'ping'}`, -32700},
		{"nested beyond reason", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), -32700},
		{"a string", `"tools/call"`, -32600},
		{"a number", `1`, -32600},
		{"null", `null`, -32600},
		{"an empty object", `{}`, -32600},
		{"an id alone", `{"jsonrpc":"2.0","id":1}`, -32600},
		{"an empty batch", `[]`, -32600},
		{"a batch within a batch", "[[" + toolCall("delete_page") + "]]", -32600},
		{"a batch with null", "[" + toolCall("search") + ",null]", -32600},
		{"a batch of 33", "[" + strings.Repeat(toolCall("search")+",", 32) + toolCall("search") + "]", -32600},
		{"method twice, the harmless last", `{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping","params":{"name":"delete_page"}}`, -32600},
		{"method twice, the harmless first", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"delete_page"}}`, -32600},
		{"method twice, the same", `{"method":"ping","id":1,"method":"ping"}`, -32600},
		{"params twice", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page"},"params":{"name":"search"}}`, -32600},
		{"name twice", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page","name":"search"}}`, -32600},
		{"any member twice", `{"jsonrpc":"2.0","id":1,"method":"tools/call","x":1,"x":1,"params":{"name":"search"}}`, -32600},
		{"method again, spelt with an escape", `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call","params":{"name":"delete_page"}}`, -32600},
		{"name again, spelt with an escape", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","n\u0061me":"delete_page"}}`, -32600},
		{"a member twice, and others that grow when they are written again", `{"a":1,"a":1,"` + "\u2028\u2029" + `":1,"id":1,"method":"ping"}`, -32600},
		{"METHOD beside method", `{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call","params":{"name":"delete_page"}}`, -32600},
		{"Method alone, which some servers take and others do not see", `{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"delete_page"}}`, -32600},
		{"METHOD alone, where params has a method", `{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","params":{"name":"delete_page","arguments":{"method":"ping"}}}`, -32600},
		{"METHOD that is true", `{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":true,"params":{}}`, -32600},
		{"jsonRPC", `{"jsonRPC":"2.0","id":1,"method":"ping","params":{}}`, -32600},
		{"Id", `{"jsonrpc":"2.0","Id":1,"method":"ping","params":{}}`, -32600},
		{"Params alone", `{"jsonrpc":"2.0","id":1,"method":"tools/call","Params":{"name":"delete_page"}}`, -32600},
		{"NAME alone", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"NAME":"delete_page"}}`, -32600},
		{"Uri alone", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"Uri":"file:///public/a"}}`, -32600},
		{"Arguments", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page","Arguments":{}}}`, -32600},
		{"_META", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page","_META":{}}}`, -32600},
		{"Params beside params", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"},"Params":{"name":"delete_page"}}`, -32600},
		{"paramſ, which Go folds to params", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search"},"paramſ":{"name":"delete_page"}}`, -32600},
		{"Name beside name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","Name":"delete_page"}}`, -32600},
		{"URI beside uri", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a","URI":"file:///secret"}}`, -32600},
		{"a member beyond ASCII", `{"jsonrpc":"2.0","id":1,"method":"ping","mëthod":"tools/call"}`, -32600},
		{"result beside Method", `{"id":1,"result":{},"mEthod":"tools/call","params":{"name":"delete_page"}}`, -32600},
		{"method null", `{"jsonrpc":"2.0","id":1,"method":null,"result":{}}`, -32600},
		{"method a list", `{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"delete_page"}}`, -32600},
		{"method empty", `{"jsonrpc":"2.0","id":1,"method":"","params":{"name":"delete_page"}}`, -32600},
		{"Tools/Call", `{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"delete_page"}}`, -32600},
		{"tools/call and a blank", `{"jsonrpc":"2.0","id":1,"method":"tools/call ","params":{"name":"delete_page"}}`, -32600},
		{"tools/call and a NUL", `{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000","params":{"name":"delete_page"}}`, -32600},
		{"no params", `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, -32600},
		{"params null", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}`, -32600},
		{"params by position", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["delete_page",{}]}`, -32600},
		{"no name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}`, -32600},
		{"name a number", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}`, -32600},
		{"name an object", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":{"name":"delete_page"}}}`, -32600},
		{"name with a NUL", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_page\u0000.txt"}}`, -32600},
		{"name with a blank before it", toolCall(" delete_page"), -32600},
		{"name with a wide blank behind it", toolCall("delete_page\u3000"), -32600},
		{"name with half a surrogate pair", toolCall(`delete_page\ud800`), -32600},
		{"a resource by a dot segment", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/../secret"}}`, -32600},
		{"a resource by an encoded dot segment", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/%2E%2e/secret"}}`, -32600},
		{"a resource by an encoded slash", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/..%2Fsecret"}}`, -32600},
		{"a resource by a backslash", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/..\\secret"}}`, -32600},
		{"a resource with a dot segment at its end", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/.."}}`, -32600},
		{"a resource with a scheme in capitals", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"FILE:///public/a"}}`, -32600},
		{"a resource with a host in capitals", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"https://Wiki.example/a"}}`, -32600},
		{"a resource beyond ASCII", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/ä"}}`, -32600},
		{"a resource by dot segments in the query, where a file has none", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/?/../../secret"}}`, -32600},
		{"a resource by encoded dot segments in the query", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/?%2F%2e.%5C..%2fsecret"}}`, -32600},
		{"a resource by dot segments behind a #", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/#/../../secret"}}`, -32600},
		{"a resource by a letter that need not be encoded", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///%73ecret/a"}}`, -32600},
		{"a resource by a tilde that need not be encoded", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///%7Eroot/a"}}`, -32600},
		{"a resource without a scheme", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"public"}}`, -32600},
		{"an object of 129 members", `{"id":1,"method":"ping"` + manyMembers(127) + `}`, -32600},
	} {
		v := *Inspect(r, http.Header{}, []byte(c.body))
		if v.Code != c.code || v.Status != http.StatusBadRequest || v.Message == "" || v.ID == "" {
			t.Errorf("%s: %+v, want %d", c.name, v, c.code)
		}
		if blank := *Inspect(r, http.Header{}, []byte(" "+c.body)); !reflect.DeepEqual(blank, v) {
			t.Errorf("%s: with a blank before it %+v", c.name, blank)
		}
	}
}

func manyMembers(n int) string {
	text := ""
	for i := 0; i < n; i++ {
		text += fmt.Sprintf(`,"m%d":1`, i)
	}
	return text
}

// An object that membersOf accepts has each member once, spelt as it is compared. The test uses a
// reader that sees every member.
func FuzzMembersOf(f *testing.F) {
	for _, text := range []string{`{"a":1}`, `{"a":1,"a":2}`, `{"A":1}`, `{"method":"x","params":{}}`, `{"\u0061":1}`, "{\"\u2028\":1,\"b\":[{}]}", `{"Id":1}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var compact bytes.Buffer
		if json.Compact(&compact, text) != nil {
			return // membersOf is given compact JSON only
		}
		members := membersOf(compact.Bytes())
		if members == nil {
			return
		}
		seen := map[string]bool{}
		reader := json.NewDecoder(bytes.NewReader(compact.Bytes()))
		_, _ = reader.Token()
		for reader.More() {
			name, _ := reader.Token()
			var value json.RawMessage
			if err := reader.Decode(&value); err != nil {
				t.Fatal(err)
			}
			folded := strings.ToLower(name.(string))
			if seen[folded] && deciding[folded] != "" || string(members[name.(string)]) != string(value) || !strings.Contains(compact.String(), `"`+name.(string)+`":`) {
				t.Errorf("%s: member %q", compact.String(), name)
			}
			seen[folded] = true
		}
	})
}

// Messages as SDKs write them are read in one pass. Other messages take longer, which no other test
// would show.
func TestMessagesThatAreReadOnce(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       bool
	}{
		{"a call", toolCall("search"), true},
		{"with _meta", modernCall("search", "2026-07-28"), true},
		{"in another order", `{"method":"tools/call","params":{"_meta":{"progressToken":1},"arguments":{"a": "\u0062"},"name":"search"},"jsonrpc":"2.0","id":"a"}`, true},
		{"a resource", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a%20b"}}`, true},
		{"params that are empty", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`, true},
		{"a notification", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}`, true},
		{"a line break at the end", toolCall("search") + "\n", true},
		{"a blank between members", strings.Replace(toolCall("search"), `,"id"`, `, "id"`, 1), false},
		{"an escape in a name", toolCall(`\u0073earch`), false},
		{"a member that is not known", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","task":{}}}`, false},
		{"no params", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, false},
	} {
		if got := plainCall([]byte(c.body)) != nil; got != c.want {
			t.Errorf("%s: read once: %t, want %t", c.name, got, c.want)
		}
	}
}

// inspectMessage accepts every message that plainCall accepts, with the same verdict. So the quick
// way lets nothing through that the thorough one would refuse. In both, each member stands once,
// spelt as it is compared: a reader that sees every member checks it.
func FuzzPlainCall(f *testing.F) {
	r := NewRules(&Lists{
		Methods:   rules("resources/*=wiki:read; admin/*=wiki:admin"),
		Tools:     rules("a=wiki:write; b*=wiki:admin; *=wiki:read"),
		Resources: rules("file:///public/*=wiki:read; *=wiki:admin"),
	})
	for _, text := range []string{toolCall("a"), modernCall("a", "2026-07-28"), `{"jsonrpc":"2.0","method":"ping","method":"pong","params":{}}`,
		`{"jsonrpc":"2.0","id":1,"METHOD":"a","params":{"NAME":"a","uri":"b"}}`, `{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"a"},"paramſ":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///public/a","_meta":{"a":[ 1 ]}}}`, `{"jsonrpc":"2.0","id":null,"method":"Tools/Call","params":{}}` + "\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := plainCall(text)
		if c == nil {
			return
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			t.Fatal(err)
		}
		for _, version := range []string{"", "2025-11-25", VersionWithHeaders} {
			for _, h := range []http.Header{{}, {"Mcp-Method": {"tools/call"}, "Mcp-Name": {"a"}}, {"Mcp-Method": {c.method}, "Mcp-Name": {c.subject}}} {
				quick := *judge(r, h, c, version)
				thorough := *inspectMessage(r, h, compact.Bytes(), version)
				if !reflect.DeepEqual(quick, thorough) {
					t.Errorf("%s, version %q, headers %v: %+v, but more thoroughly %+v", text, version, h, quick, thorough)
				}
			}
		}
		outer, values := membersInOrder(t, text)
		seen := map[string]string{}
		for i, name := range outer {
			if _, twice := seen[name]; twice || deciding[name] != name {
				t.Fatalf("%s: member %q", text, name)
			}
			seen[name] = values[i]
		}
		if seen["method"] != `"`+c.method+`"` {
			t.Errorf("%s: method %s", text, c.method)
		}
		inner, values := membersInOrder(t, []byte(seen["params"]))
		seen = map[string]string{}
		for i, name := range inner {
			if _, twice := seen[name]; twice || deciding[name] != name {
				t.Fatalf("%s: member %q", text, name)
			}
			seen[name] = values[i]
		}
		want := seen["name"]
		if c.method == "resources/read" {
			want = seen["uri"]
		}
		if want != `"`+c.subject+`"` && (want != "" || c.subject != "") {
			t.Errorf("%s: subject %s", text, c.subject)
		}
	})
}

func membersInOrder(t *testing.T, text []byte) (names, values []string) {
	reader := json.NewDecoder(bytes.NewReader(text))
	_, _ = reader.Token()
	for reader.More() {
		name, _ := reader.Token()
		var value json.RawMessage
		if err := reader.Decode(&value); err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		values = append(values, string(value))
	}
	return names, values
}

// A batch that asks for the tools among other things has an answer that holds the list, wherever
// the question stands.
func TestBatchThatAsksForTheToolsListsThem(t *testing.T) {
	const list, other = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	r := NewRules(&Lists{Tools: rules("*=read")})
	for body, want := range map[string]bool{
		list: true, other: false, "[" + list + "]": true, "[" + list + "," + other + "]": true,
		"[" + other + "," + list + "]": true, "[" + other + "]": false,
	} {
		if v := Inspect(r, http.Header{}, []byte(body)); v.Code != 0 || v.Lists != want {
			t.Errorf("%s: %+v, want Lists %t", body, v, want)
		}
	}
}
