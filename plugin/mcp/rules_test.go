//go:build go1.21

package mcp

import (
	"net/http"
	"strings"
	"testing"
)

// The most specific rule counts, and the order of the rules does not.
func TestRulesAreFoundByNameAndByBeginning(t *testing.T) {
	for _, text := range []string{
		"delete_page=write; admin_*=admin; admin_who=who; admin_u*=user; *=read",
		"*=read; admin_u*=user; admin_who=who; admin_*=admin; delete_page=write",
	} {
		r := NewRules(&Lists{Tools: rules(text)})
		for _, c := range []struct{ tool, want string }{
			{"delete_page", "write"}, {"delete_pages", "read"}, {"admin_x", "admin"}, {"admin_", "admin"},
			{"admin_who", "who"}, {"admin_users", "user"}, {"x", "read"}, {"Admin_Who", "read who"},
		} {
			v := Inspect(r, http.Header{}, []byte(toolCall(c.tool)))
			if got := strings.Join(v.Needed, " "); v.Code != 0 || got != c.want {
				t.Errorf("%s: %s needs %q (%+v), want %q", text, c.tool, got, *v, c.want)
			}
		}
	}
	v := Inspect(NewRules(&Lists{}), http.Header{}, []byte(toolCall("x")))
	if len(v.Needed) > 0 || v.Code != 0 {
		t.Errorf("without a rule: %+v", *v)
	}
}

func TestStepUpAsksOnce(t *testing.T) {
	r := wikiRules()
	for _, c := range []struct{ required, needed, held, want string }{
		{"", "wiki:write", "", "wiki:write"},
		{"mcp", "wiki:write wiki:read wiki:write", "", "mcp wiki:write wiki:read"},
		{"mcp", "wiki:write", "other wiki:read mcp", "mcp wiki:write wiki:read"},
		{"mcp", "mcp", "wiki:rea", "mcp"},
	} {
		got := StepUp(r, strings.Fields(c.required), strings.Fields(c.needed), c.held)
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestHiddenTools(t *testing.T) {
	r := NewRules(&Lists{Tools: rules("delete_page=write; *=read")})
	list := func(tools string) string { return `{"id":1,"result":{"tools":[` + tools + `]}}` }
	const search, remove = `{"name":"search","d":"<&>"}`, `{"name":"delete_page"}`
	for _, c := range []struct{ name, text, want string }{
		{"one is hidden", list(remove + "," + search), list(search)},
		{"in a batch", "[" + list(remove) + `,{"id":2,"error":{}}]`, "[" + list("") + `,{"id":2,"error":{}}]`},
		{"no list", `{"id":1,"result":{"prompts":[]}}`, `{"id":1,"result":{"prompts":[]}}`},
		{"a list that was for everybody", `{"id":1,"result":{"cacheScope":"public","tools":[]}}`, `{"id":1,"result":{"cacheScope":"private","tools":[]}}`},
		{"a tool that is no object", list(`"delete_page"`), ""},
		{"no JSON", "delete_page", ""},
		{"half a batch", "[" + list(remove), ""},
	} {
		got, err := HideTools(r, []byte(c.text), func(needed []string) bool { return strings.Join(needed, " ") != "write" })
		if string(got) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %s %v", c.name, got, err)
		}
	}
	// A person who may not call any tool sees none.
	r = NewRules(&Lists{Methods: rules("tools/call=use")})
	got, err := HideTools(r, []byte(list(search)), func(needed []string) bool { return len(needed) == 0 })
	if string(got) != list("") || err != nil {
		t.Errorf("without the method's scope: %s %v", got, err)
	}
}
