//go:build go1.21

package mcp

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// laidOut are messages as clients lay them out, with marks where their texts differ.
var laidOut = []string{
	`{"jsonrpc":"2.0","id":ID,"method":"tools/call","params":{"name":"TOOL","arguments":ARGUMENTS}}`,
	`{"jsonrpc":"2.0","id":ID,"method":"tools/call","params":{"name":"TOOL","arguments":ARGUMENTS,"_meta":META}}`,
	`{"jsonrpc":"2.0","id":ID,"method":"tools/call","params":{"_meta":META,"name":"TOOL","arguments":ARGUMENTS}}`,
	`{"method":"tools/call","params":{"name":"TOOL","arguments":ARGUMENTS},"jsonrpc":"2.0","id":ID}`,
	`{"method":"tools/call","params":{"name":"TOOL","arguments":ARGUMENTS,"_meta":META},"jsonrpc":"2.0","id":ID}`,
	`{"jsonrpc":"2.0","method":"tools/call","id":ID,"params":{"arguments":ARGUMENTS,"name":"TOOL"}}` + "\n",
	`{"jsonrpc": "2.0", "id": ID, "method": "tools/call", "params": {"name": "TOOL", "arguments": ARGUMENTS}}`,
	`{"params":{"arguments":ARGUMENTS,"name":"TOOL"},"method":"tools/call"` + "\r\n" + `,"id":ID,"jsonrpc":"2.0"}`,
}

func layOut(form, id, arguments, meta, tool string) []byte {
	return []byte(strings.NewReplacer("ID", id, "ARGUMENTS", arguments, "META", meta, "TOOL", tool).Replace(form))
}

func usualMessage(form string) []byte {
	return layOut(form, "7", `{"page":"Main"}`, `{"progressToken":7}`, "search")
}

// A client's next message has the sketch of the one before, whatever its id and arguments.
func TestSketchesTellMessagesByTheTextAroundTheirArguments(t *testing.T) {
	for _, form := range laidOut {
		body := usualMessage(form)
		l, from, to := LayoutOf(body)
		if l == nil || from != 0 || to != 0 {
			t.Errorf("%s has no layout, or a subject at %d", body, from)
			continue
		}
		sketch := SameDigits.Replace(Sketch(l, body))
		for _, other := range [][]byte{
			layOut(form, "7", `{"page":"other","list":[{"arguments":1,"_meta":{}}],"text":"}}\u0022"}`, `{"progressToken":9}`, "search"),
			layOut(form, "2", ` [] `, `{"progressToken":3}`, "search"),
		} {
			if SameDigits.Replace(Sketch(l, other)) != sketch {
				t.Errorf("%s has another sketch than %s: %q", other, body, Sketch(l, other))
			}
		}
		for _, other := range [][]byte{
			layOut(form, "7", `{"page":"Main"}`, `{"progressToken":7}`, "searches"),
			layOut(form, "7", `{"page":"Main"}`, `{"progressToken":7}`, "Search"),
			layOut(form, "07", `{"page":"Main"}`, `{"progressToken":7}`, "search"),
			layOut(form, "7", `{"page":"Main"`, `{"progressToken":7}`, "search"),
			layOut(form, "7", `{"page":"`+"\xff"+`"}`, `{"progressToken":7}`, "search"),
			layOut(form, "7", `{},"name":"delete_page"`, `{"progressToken":7}`, "search"),
			layOut(form, "7", `{}},"params":{"name":"delete_page","arguments":{}`, `{"progressToken":7}`, "search"),
			append([]byte("_"), body...),
			append(append([]byte{}, body...), '_'),
			append(append([]byte{}, body...), '\n'),
			append(append([]byte{}, body...), body...),
		} {
			if SameDigits.Replace(Sketch(l, other)) == sketch {
				t.Errorf("%s has the sketch of %s", other, body)
			}
		}
	}
}

// The digits of an id make no new sketch, so those of a name are told apart by where it stands.
func TestNamesWithDigitsAreToldApartByTheirPlace(t *testing.T) {
	for _, form := range laidOut {
		for _, tool := range []string{"v2", "2", "search_2_a"} {
			body := layOut(form, "7", "{}", "{}", tool)
			l, from, to := LayoutOf(body)
			if l == nil || Sketch(l, body)[from:to] != tool {
				t.Errorf("%s: the subject stands elsewhere than at %d to %d", body, from, to)
			}
		}
		for _, tool := range []string{`search\u0032`, "s e", ""} {
			if l, _, _ := LayoutOf(layOut(form, "7", "{}", "{}", tool)); l != nil {
				t.Errorf("%s has a layout for the tool %q", form, tool)
			}
		}
	}
	// Another text is there first, with which the message would still be a call of that tool.
	for _, body := range []string{`{"jsonrpc":"2.0","id":"v2","method":"tools/call","params":{"name":"v2","arguments":{}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"name":"v2"},"name":"v2","arguments":{}}}`} {
		if l, from, _ := LayoutOf([]byte(body)); l != nil {
			t.Errorf("%s: the subject stands at %d", body, from)
		}
	}
}

// Only a call with arguments among its params has a layout.
func TestMessagesWithoutArgumentsHaveNoLayout(t *testing.T) {
	for _, body := range []string{"", "{}", `{"arguments":1}`, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"arguments":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{`, `{"jsonrpc":"2.0","id":{"arguments":1},"method":"tools/call","params":{"name":"a"}}`,
		"[" + toolCall("a") + "]", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"arguments":{}}}`} {
		if l, _, _ := LayoutOf([]byte(body)); l != nil {
			t.Errorf("%s has a layout", body)
		}
	}
}

// Whatever stands in place of id, arguments, _meta and tool, and from whichever message the layout
// was learned: what has the sketch of a message that was judged has the same members at the same
// places, and is judged alike.
func FuzzSketch(f *testing.F) {
	r := NewRules(&Lists{Tools: rules("delete_page=wiki:write; admin_*=wiki:admin; v2=wiki:two; v*=wiki:read")})
	for n := range laidOut {
		f.Add(n, "7", "{}", "{}", "v3", string(usualMessage(laidOut[n])))
		f.Add(n, "7", `{"a":1}`, "{}", "search", string(usualMessage(laidOut[n])))
		f.Add(n, `1,"method":"tools/call","params":{"name":"search","arguments":{}},"x":{`, `{},"name":"delete_page","arguments":{}`, `{},"_meta":{}`, `search","name":"admin_x`, string(usualMessage(laidOut[1])))
		f.Add(n, "7", `{},"_meta":{}`, "{}", "search", string(usualMessage(laidOut[1])))
		f.Add(n, `"`, `"},"_meta":{"a":"`, `{}},"params":{}`, "delete_page", string(usualMessage(laidOut[3])))
	}
	f.Fuzz(func(t *testing.T, n int, id, arguments, meta, tool, learned string) {
		if n < 0 {
			n = -(n + 1)
		}
		form := laidOut[n%len(laidOut)]
		other := layOut(form, id, arguments, meta, tool)
		for _, usual := range []string{"search", "v2"} {
			body := layOut(form, "7", `{"page":"Main"}`, `{"progressToken":7}`, usual)
			mine, from, to := LayoutOf(body)
			judged := Sketch(mine, body)
			theirs, _, _ := LayoutOf(other)
			anybodys, _, _ := LayoutOf([]byte(learned))
			for _, l := range []*Layout{mine, theirs, anybodys} {
				if l == nil {
					continue
				}
				sketch := Sketch(l, other)
				if SameDigits.Replace(sketch) == SameDigits.Replace(judged) && sketch[from:to] == judged[from:to] {
					judgedAlike(t, r, form, body, other)
				}
			}
		}
	})
}

// judgedAlike compares two messages as readers do that see every member.
func judgedAlike(t *testing.T, r *Rules, form string, body, other []byte) {
	v := inspectClosely(r, http.Header{}, other, "")
	if want := inspectClosely(r, http.Header{}, body, ""); v.Code != 0 || !reflect.DeepEqual(v, want) {
		t.Fatalf("%s has the sketch of %s, but the verdict %+v", other, body, v)
	}
	names, values := membersInOrder(t, other)
	wanted, _ := membersInOrder(t, body)
	if !reflect.DeepEqual(names, wanted) {
		t.Fatalf("%s has the members %q", other, names)
	}
	for i, name := range names {
		if name == "params" {
			inner, _ := membersInOrder(t, []byte(values[i]))
			if len(inner) != strings.Count(form, "ARGUMENTS")+strings.Count(form, "META")+strings.Count(form, "TOOL") {
				t.Fatalf("%s has the params %q", other, inner)
			}
		}
	}
}
