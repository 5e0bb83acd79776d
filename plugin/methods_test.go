//go:build go1.21

package plugin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// versionWithHeaders is the first version of MCP in which headers repeat the body.
const versionWithHeaders = "2026-07-28"

// request writes a request. params are JSON.
func request(method, params string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":` + params + `}`
}

// skilled is a middleware that guards a skill, a tool and a prompt, and nothing else.
func skilled(t testing.TB, methodScopes string) (http.Handler, *reader) {
	return ruled(t, func(c *Config) {
		c.MethodScopes = methodScopes
		c.ToolScopes = "delete_page=wiki:write"
		c.ResourceScopes = "skill://admin/*=wiki:admin"
		c.PromptScopes = "review=wiki:prompts"
	})
}

// Every method of MCP and its extensions that names a resource, a tool or a prompt is judged by
// the rule for it, in whichever member the name stands.
func TestMethodsThatNameASubjectAreGuarded(t *testing.T) {
	start(t)
	h, _ := skilled(t, "")
	const secret, open = "skill://admin/SKILL.md", "skill://public/SKILL.md"
	for _, c := range []struct {
		name, method, params string
		needed               string // the scope of the challenge; empty: it passes
	}{
		{"a resource is read", "resources/read", `{"uri":"` + secret + `"}`, "wiki:admin"},
		{"a resource is subscribed to", "resources/subscribe", `{"uri":"` + secret + `"}`, "wiki:admin"},
		{"a subscription ends", "resources/unsubscribe", `{"uri":"` + secret + `"}`, "wiki:admin"},
		{"a directory below the guarded one", "resources/directory/read", `{"uri":"skill://admin/a"}`, "wiki:admin"},
		{"the guarded directory, which has no slash at its end", "resources/directory/read", `{"uri":"skill://admin"}`, "wiki:admin"},
		{"the guarded directory with a slash", "resources/directory/read", `{"uri":"skill://admin/"}`, "wiki:admin"},
		{"another directory", "resources/directory/read", `{"uri":"skill://public"}`, ""},
		{"a directory of which the guarded one is a neighbour", "resources/directory/read", `{"uri":"skill://adm"}`, ""},
		{"a skill", "skills/get", `{"uri":"` + secret + `"}`, "wiki:admin"},
		{"another skill", "skills/get", `{"uri":"` + open + `"}`, ""},
		{"a skill beside a member that is not known", "skills/get", `{"version":1,"uri":"` + secret + `"}`, "wiki:admin"},
		{"the skills' list names none", "skills/list", `{"cursor":"` + secret + `"}`, ""},
		{"a completion for a prompt", "completion/complete", `{"ref":{"type":"ref/prompt","name":"review"},"argument":{"name":"a","value":"b"}}`, "wiki:prompts"},
		{"a completion for another prompt", "completion/complete", `{"ref":{"type":"ref/prompt","name":"other"},"argument":{"name":"a","value":"b"}}`, ""},
		{"a completion for a resource template", "completion/complete", `{"ref":{"type":"ref/resource","uri":"skill://admin/{file}"},"argument":{"name":"file","value":"b"}}`, "wiki:admin"},
		{"a completion for another template", "completion/complete", `{"ref":{"type":"ref/resource","uri":"skill://public/{file}"},"argument":{"name":"file","value":"b"}}`, ""},
		{"a completion that names both", "completion/complete", `{"ref":{"type":"ref/resource","uri":"skill://public/{file}","name":"review"},"argument":{}}`, "wiki:prompts"},
		{"notifications for a resource", "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["` + open + `","` + secret + `"]}}`, "wiki:admin"},
		{"notifications for another", "subscriptions/listen", `{"notifications":{"resourceSubscriptions":["` + open + `"]}}`, ""},
		{"notifications for lists", "subscriptions/listen", `{"notifications":{"toolsListChanged":true}}`, ""},
		{"a tool as a task", "tools/call", `{"name":"delete_page","task":{"ttl":60000}}`, "wiki:write"},
		{"the input that a tool had asked for", "tools/call", `{"name":"delete_page","requestState":"a","inputResponses":{}}`, "wiki:write"},
		{"a task that was begun by a call that was judged", "tasks/get", `{"taskId":"a"}`, ""},
	} {
		for _, blank := range []string{"", " "} { // read once, and read closely
			rec := post(h, "mcp", blank+request(c.method, c.params))
			want := http.StatusOK
			if c.needed != "" {
				want = http.StatusForbidden
			}
			if rec.Code != want {
				t.Errorf("%s: %d %s, want %d", c.name, rec.Code, rec.Body, want)
				continue
			}
			if c.needed != "" && !strings.Contains(challenges(rec)[0], `scope="mcp `+c.needed+`"`) {
				t.Errorf("%s: challenge %s, want %s", c.name, challenges(rec)[0], c.needed)
			}
			rec = post(h, strings.TrimSpace("mcp "+c.needed), blank+request(c.method, c.params))
			if rec.Code != http.StatusOK {
				t.Errorf("%s, with the scope: %d %s", c.name, rec.Code, rec.Body)
			}
		}
	}
}

func TestSubjectsThatCannotBeReadAreRefused(t *testing.T) {
	start(t)
	h, behind := skilled(t, "later/*=mcp; prompts/*=mcp")
	many := strings.Repeat(`"skill://public/a",`, 256) + `"skill://public/a"`
	for _, c := range []struct{ name, method, params string }{
		{"a subscription without a URI", "resources/subscribe", `{}`},
		{"a URI that is a list", "resources/directory/read", `{"uri":["skill://admin"]}`},
		{"a URI twice", "skills/get", `{"uri":"skill://public/a","uri":"skill://public/b"}`},
		{"Uri beside uri", "skills/get", `{"uri":"skill://public/a","Uri":"skill://public/b"}`},
		{"a URI with a dot segment", "skills/get", `{"uri":"skill://public/../a"}`},
		{"a completion without a reference", "completion/complete", `{"argument":{}}`},
		{"a reference of another type", "completion/complete", `{"ref":{"type":"ref/tool","name":"delete_page"}}`},
		{"a reference in capitals", "completion/complete", `{"ref":{"type":"Ref/Prompt","name":"review"}}`},
		{"a reference without a type", "completion/complete", `{"ref":{"name":"review"}}`},
		{"a reference to a prompt without a name", "completion/complete", `{"ref":{"type":"ref/prompt"}}`},
		{"a reference to a resource without a URI", "completion/complete", `{"ref":{"type":"ref/resource","name":"a"}}`},
		{"a name twice in a reference", "completion/complete", `{"ref":{"type":"ref/prompt","name":"review","name":"other"}}`},
		{"Ref beside ref", "completion/complete", `{"ref":{"type":"ref/prompt","name":"other"},"Ref":{"type":"ref/prompt","name":"review"}}`},
		{"a reference with a dot segment", "completion/complete", `{"ref":{"type":"ref/resource","uri":"skill://public/../{a}"}}`},
		{"a filter that is missing", "subscriptions/listen", `{}`},
		{"a filter that is a list", "subscriptions/listen", `{"notifications":["skill://admin/a"]}`},
		{"a filter with one URI and no list", "subscriptions/listen", `{"notifications":{"resourceSubscriptions":"skill://admin/a"}}`},
		{"a list that holds an object", "subscriptions/listen", `{"notifications":{"resourceSubscriptions":[{"uri":"skill://admin/a"}]}}`},
		{"a list in other letters", "subscriptions/listen", `{"notifications":{"ResourceSubscriptions":["skill://admin/a"]}}`},
		{"a list with a dot segment", "subscriptions/listen", `{"notifications":{"resourceSubscriptions":["skill://public/./a"]}}`},
		{"257 URIs", "subscriptions/listen", `{"notifications":{"resourceSubscriptions":[` + many + `]}}`},
		{"a task without its id", "tasks/get", `{}`},
		{"a task whose id is a number", "tasks/cancel", `{"taskId":7}`},
		{"a URI twice, to a method that methodScopes names", "later/read", `{"uri":"skill://public/a","uri":"skill://public/b"}`},
		{"a URI that is a number, to such a method", "later/read", `{"uri":1}`},
		{"a name that is a number, to a method of prompts", "prompts/describe", `{"name":1}`},
	} {
		rec := post(h, "mcp wiki:admin wiki:prompts wiki:write", request(c.method, c.params))
		if rec.Code != http.StatusBadRequest || !strings.HasPrefix(rec.Body.String(), `{"jsonrpc":"2.0","id":`) || !strings.Contains(rec.Body.String(), `"code":-32600`) {
			t.Errorf("%s: %d %s, want 400 and -32600", c.name, rec.Code, rec.Body)
		}
	}
	if behind.calls != 0 {
		t.Errorf("%d requests reached the MCP server", behind.calls)
	}
}

// A method that is not known here does not open what the labels shut.
func TestMethodsThatAreNotKnown(t *testing.T) {
	const notLet = `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,`
	for _, c := range []struct {
		name, methodScopes, scopes, body, version string
		want                                      int
		code                                      string // of JSON-RPC
	}{
		{"is refused as by a server that lacks it", "", "mcp", request("wiki/purge", `{}`), "", 200, notLet},
		{"and in the way of MCP 2026-07-28", "", "mcp", request("wiki/purge", `{}`), versionWithHeaders, 404, notLet},
		{"without an id it is refused as a request is", "", "mcp", `{"jsonrpc":"2.0","method":"wiki/purge"}`, "", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,`},
		{"in a batch", "", "mcp", "[" + request("ping", `{}`) + "," + request("wiki/purge", `{}`) + "]", "", 400, notLet},
		{"a rule for all methods does not name it", "*=mcp", "mcp", request("wiki/purge", `{}`), "", 200, notLet},
		{"a rule for another does not name it", "wiki/=mcp; wiki/purg=mcp", "mcp", request("wiki/purge", `{}`), "", 200, notLet},
		{"a rule for it does", "wiki/purge=wiki:admin", "mcp wiki:admin", request("wiki/purge", `{}`), "", 200, ""},
		{"with the rule's scopes", "wiki/purge=wiki:admin", "mcp", request("wiki/purge", `{}`), "", 403, ""},
		{"a rule for its beginning does", "wiki/*=mcp", "mcp", request("wiki/purge", `["by position"]`), "", 200, ""},
		{"its URI is judged all the same", "resources/*=mcp", "mcp", request("resources/purge", `{"uri":"skill://admin/a"}`), "", 403, ""},
		{"and passes with the scope", "resources/*=mcp", "mcp wiki:admin", request("resources/purge", `{"uri":"skill://admin/a"}`), "", 200, ""},
		{"the name of a tool too", "tools/*=mcp", "mcp", request("tools/describe", `{"name":"delete_page"}`), "", 403, ""},
		{"the name of a prompt too", "prompts/*=mcp", "mcp", request("prompts/describe", `{"name":"review"}`), "", 403, ""},
		{"a name elsewhere is nobody's", "wiki/*=mcp", "mcp", request("wiki/purge", `{"name":"delete_page"}`), "", 200, ""},
		{"a notification acts on nothing", "", "mcp", `{"jsonrpc":"2.0","method":"notifications/later","params":{"uri":"skill://admin/a"}}`, "", 200, ""},
		{"what is no notification to a server that counts letter case", "", "mcp", `{"jsonrpc":"2.0","id":7,"method":"Notifications/later"}`, "", 200, notLet},
	} {
		logged := start(t)
		h, behind := skilled(t, c.methodScopes)
		headers := []string{}
		if c.version != "" {
			headers = []string{"Mcp-Protocol-Version", c.version, "Mcp-Method", "wiki/purge"}
			c.body = strings.Replace(c.body, `"params":{}`, `"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"`+c.version+`"}}`, 1)
		}
		rec := post(h, c.scopes, c.body, headers...)
		passes := c.want == 200 && c.code == ""
		if rec.Code != c.want || !strings.HasPrefix(rec.Body.String(), c.code) || (behind.calls == 1) != passes {
			t.Errorf("%s: %d %s, %d calls", c.name, rec.Code, rec.Body, behind.calls)
		}
		if (c.code != "") != strings.Contains(logged.String(), "name it in methodScopes") {
			t.Errorf("%s: the log says %s", c.name, logged)
		}
	}
	// Where only methods have rules, no subject is guarded, and a method without a rule needs no
	// scope.
	start(t)
	h, behind := ruled(t, func(c *Config) {
		c.ToolScopes = ""
		c.ResourceScopes = ""
		c.PromptScopes = ""
	})
	if rec := post(h, "mcp", request("wiki/purge", `{"uri":1}`)); rec.Code != 200 || behind.calls != 1 {
		t.Errorf("with methodScopes alone: %d %s", rec.Code, rec.Body)
	}
}

// A client that invents methods causes one line in ten seconds, without control characters.
func TestMethodsThatAreInventedDoNotFillTheLog(t *testing.T) {
	logged := start(t)
	h, _ := skilled(t, "")
	for i := 0; i < 20; i++ {
		post(h, "mcp", request(fmt.Sprintf("a%d/%s", i, strings.Repeat("b", 500)), `{}`))
	}
	if n := strings.Count(logged.String(), "name it in methodScopes"); n != 1 || len(logged.String()) > 640 {
		t.Errorf("%d lines: %s", n, logged)
	}
}

// SEP-2663: Mcp-Name is the taskId. Where MCP asks for no header, a header that is sent must not
// differ.
func TestMcpNameOfTasksAndOthers(t *testing.T) {
	start(t)
	h, _ := skilled(t, "")
	meta := `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`
	for _, c := range []struct {
		name, method, params, header string
		want                         int
	}{
		{"a task", "tasks/get", `{"taskId":"a"`, "a", 200},
		{"another task", "tasks/get", `{"taskId":"b"`, "a", 400},
		{"no header", "tasks/get", `{"taskId":"a"`, "", 400},
		{"an update of another task", "tasks/update", `{"inputResponses":{},"taskId":"b"`, "a", 400},
		{"a cancellation of another task", "tasks/cancel", `{"taskId":"b"`, "a", 400},
		{"a result of another task", "tasks/result", `{"taskId":"b"`, "a", 400},
		{"a result has no header", "tasks/result", `{"taskId":"b"`, "", 200},
		{"a skill", "skills/get", `{"uri":"skill://public/a"`, "skill://public/a", 200},
		{"a skill has no header", "skills/get", `{"uri":"skill://public/a"`, "", 200},
		{"another skill", "skills/get", `{"uri":"skill://public/a"`, "skill://public/b", 400},
		{"another directory", "resources/directory/read", `{"uri":"skill://public/a"`, "skill://public/b", 400},
	} {
		headers := []string{"Mcp-Protocol-Version", versionWithHeaders, "Mcp-Method", c.method}
		if c.header != "" {
			headers = append(headers, "Mcp-Name", c.header)
		}
		rec := post(h, "mcp", request(c.method, c.params+meta), headers...)
		if rec.Code != c.want || c.want == 400 && !strings.Contains(rec.Body.String(), "-32020") {
			t.Errorf("%s: %d %s, want %d", c.name, rec.Code, rec.Body, c.want)
		}
	}
}

// A name in other letter case is the same name to some servers. Methods are refused then; tools,
// prompts and resources need the scopes of both names.
func TestSubjectsInOtherLetterCaseOpenNothing(t *testing.T) {
	start(t)
	h, behind := ruled(t, func(c *Config) {
		c.MethodScopes = "admin/reset=wiki:admin"
		c.ToolScopes = "delete_page=wiki:write; Get*=wiki:read; kill=wiki:admin"
		c.ResourceScopes = "file:///secret/*=wiki:admin"
		c.PromptScopes = "Status=wiki:write"
	})
	for _, method := range []string{"Tools/Call", "tool\u017f/call", "tools/ca\u017fl", "TOOLS/CALL", "\u017fkills/get", "S\u212aills/list", "ta\u017fk\u017f/get", "resources/DIRECTORY/read", "\u017fub\u017fcriptions/listen", "ini\u0131tialize"} {
		rec := post(h, "mcp", request(method, `{"name":"search","uri":"file:///a"}`))
		if rec.Code == 200 && !strings.Contains(rec.Body.String(), "-32601") || behind.calls != 0 {
			t.Errorf("%s: %d %s, %d calls", method, rec.Code, rec.Body, behind.calls)
		}
	}
	for _, c := range []struct{ method, params, needed string }{
		{"tools/call", `{"name":"Delete_Page"}`, "wiki:write"},
		{"tools/call", `{"name":"getpage"}`, "wiki:read"},
		{"tools/call", `{"name":"GETpage"}`, "wiki:read"},
		{"tools/call", `{"name":"\u212aill"}`, "wiki:admin"},
		{"tools/call", `{"name":"k\u0131ll"}`, "wiki:admin"},
		{"tools/call", `{"name":"search"}`, ""},
		{"tools/call", `{"name":"Search"}`, ""},
		{"prompts/get", `{"name":"\u017ftatus"}`, "wiki:write"},
		{"resources/read", `{"uri":"file:///Secret/a"}`, "wiki:admin"},
		{"resources/read", `{"uri":"file:///Public/a"}`, ""},
		{"admin/Reset", `{}`, "-32601"},
	} {
		rec := post(h, "mcp", request(c.method, c.params))
		right := rec.Code == 403 && strings.Contains(strings.Join(challenges(rec), ""), `scope="mcp `+c.needed+`"`)
		if c.needed == "" {
			right = rec.Code == 200 && !strings.Contains(rec.Body.String(), "error")
		} else if c.needed == "-32601" {
			right = strings.Contains(rec.Body.String(), c.needed)
		}
		if !right {
			t.Errorf("%s %s: %d %s %v, want %s", c.method, c.params, rec.Code, rec.Body, challenges(rec), c.needed)
		}
	}
}
