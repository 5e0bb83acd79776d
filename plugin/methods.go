//go:build go1.21

package plugin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// method says what the rules know of one method: which member of params names what it acts on (its
// subject), whose rules guard that, and whether the header Mcp-Name has to repeat it.
type method struct {
	// Member of params. Empty: the call acts on nothing that a label names.
	subject string
	// Label whose rules guard the subject: labelTools, labelResources, labelPrompts or labelNone.
	label int
	// From MCP 2026-07-28 on, Mcp-Name must be there. For other methods with a subject it need not
	// be, but must not differ.
	named bool
	// Finds the subjects where they do not stand in a member of their own; judged beside subject.
	several bool
}

// Labels that guard subjects: indexes into rules.tables.
const (
	labelNone      = iota
	labelTools     // toolScopes
	labelResources // resourceScopes
	labelPrompts   // promptScopes
	labels
)

// knownMethods are all that a client may ask for: MCP 2024-11-05 to 2026-07-28, and the
// extensions that are final, tasks (SEP-2663, with the two of MCP 2025-11-25) and skills
// (SEP-2640). What stands not here is judged by judgeUnknown. docs/tools.md shows the table.
//
// A task's results are those of the call that began it, and that call was judged. The server
// gives them to the one who began it (SEP-2663, Security Considerations); a taskId does not tell
// the tool.
var knownMethods = map[string]*method{
	"initialize":               &method{},
	"server/discover":          &method{},
	"ping":                     &method{},
	"logging/setLevel":         &method{},
	"tools/list":               &method{},
	"tools/call":               &method{subject: "name", label: labelTools, named: true},
	"prompts/list":             &method{},
	"prompts/get":              &method{subject: "name", label: labelPrompts, named: true},
	"resources/list":           &method{},
	"resources/templates/list": &method{},
	"resources/read":           &method{subject: "uri", label: labelResources, named: true},
	"resources/subscribe":      &method{subject: "uri", label: labelResources},
	"resources/unsubscribe":    &method{subject: "uri", label: labelResources},
	"resources/directory/read": &method{subject: "uri", label: labelResources},
	"skills/list":              &method{},
	"skills/get":               &method{subject: "uri", label: labelResources},
	"completion/complete":      &method{several: true},
	"subscriptions/listen":     &method{several: true},
	"tasks/list":               &method{},
	"tasks/get":                &method{subject: "taskId", named: true},
	"tasks/update":             &method{subject: "taskId", named: true},
	"tasks/cancel":             &method{subject: "taskId", named: true},
	"tasks/result":             &method{subject: "taskId"},
}

// foldedMethods holds their names as fold writes them, actsOnName those whose subject is a name.
var (
	foldedMethods = map[string]bool{}
	actsOnName    = map[string]bool{}
)

func init() {
	for name, m := range knownMethods {
		foldedMethods[fold(name)] = true
		if m.subject == "name" {
			actsOnName[name] = true
		}
	}
}

func actsOnURI(name string) bool {
	m := knownMethods[name]
	return m != nil && m.subject == "uri"
}

// isReadOnce says whether plainCall finds all that a call of this method is judged by.
func isReadOnce(name string) bool {
	m := knownMethods[name]
	if m == nil {
		return isNotification(name)
	}
	return !m.several
}

// fold writes what differs in letter case alone in one way. It joins at least what Unicode's
// simple folding joins (also U+017F with s, and U+212A with k), and what Java joins besides: the
// dotless i.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// isNotification says whether a method is one of the client's notifications, which act on nothing.
func isNotification(name string) bool { return strings.HasPrefix(name, "notifications/") }

// subject is one thing that a call acts on.
type subject struct {
	label int
	text  string
}

// maxSubjects bounds what one call, or one batch of calls, may name.
const maxSubjects = 256

// readSeveral fills in what params say of a call that has several subjects, or whose method is
// not known.
func readSeveral(c *call, text []byte) {
	c.meta = membersOf(text)["_meta"]
	if isNotification(c.method) {
		return
	}
	found, problem := subjectsOf(c.method, text)
	c.subjects = found
	c.problem = problem
}

// subjectsOf finds the subjects of the methods that have several, and of the methods that are not
// known. The problem says why they cannot be read; params are the text of the member.
func subjectsOf(name string, text []byte) (found []subject, problem string) {
	params := membersOf(text)
	if params == nil && len(text) > 0 && text[0] == '{' {
		return nil, "params has a member twice or oddly spelt"
	}
	switch name {
	case "completion/complete":
		return subjectsOfReference(membersOf(params["ref"]))
	case "subscriptions/listen":
		return subjectsOfFilter(params["notifications"])
	}
	// A later MCP, or an extension: a resource is called uri everywhere, tools and prompts name.
	found, ok := addSubject(found, labelResources, params["uri"])
	if ok && strings.HasPrefix(name, "tools/") {
		found, ok = addSubject(found, labelTools, params["name"])
	}
	if ok && strings.HasPrefix(name, "prompts/") {
		found, ok = addSubject(found, labelPrompts, params["name"])
	}
	if !ok {
		return nil, "params.uri or params.name is not a plain string"
	}
	return found, ""
}

// subjectsOfReference reads params.ref of completion/complete (MCP 2025-11-25, Completion).
// Servers differ in which member they look at, so each that is there is judged.
func subjectsOfReference(ref map[string]json.RawMessage) (found []subject, problem string) {
	const odd = "params.ref is not a plain reference to a prompt or a resource"
	kind, _ := plainString(ref["type"])
	if kind != "ref/prompt" && kind != "ref/resource" {
		return nil, odd
	}
	if kind == "ref/prompt" && ref["name"] == nil || kind == "ref/resource" && ref["uri"] == nil {
		return nil, odd
	}
	found, plain := addSubject(found, labelPrompts, ref["name"])
	if plain {
		found, plain = addSubject(found, labelResources, ref["uri"])
	}
	if !plain {
		return nil, odd
	}
	return found, ""
}

// subjectsOfFilter reads params.notifications of subscriptions/listen (MCP 2026-07-28), which took
// the place of resources/subscribe.
func subjectsOfFilter(text []byte) (found []subject, problem string) {
	const odd = "params.notifications is not a plain filter"
	filter := membersOf(text)
	if filter == nil {
		return nil, odd
	}
	if filter["resourceSubscriptions"] == nil {
		return nil, ""
	}
	var uris []json.RawMessage
	err := json.Unmarshal(filter["resourceSubscriptions"], &uris)
	if err != nil || len(uris) > maxSubjects {
		return nil, odd
	}
	for _, uri := range uris {
		more, plain := addSubject(found, labelResources, uri)
		if !plain {
			return nil, odd
		}
		found = more
	}
	return found, ""
}

// addSubject appends a string, if it is there; plain is false for what is there and not a plain
// one.
func addSubject(found []subject, label int, text []byte) (all []subject, plain bool) {
	if len(text) == 0 {
		return found, true
	}
	s, plain := plainString(text)
	if !plain {
		return nil, false
	}
	return append(found, subject{label: label, text: s}), true
}

// judgeOthers is judge for a call without a subject of its own: one that lacks it, one that acts
// on nothing or on several things, and one whose method is not known.
func judgeOthers(r *rules, headers http.Header, c *call, modern string) *verdict {
	m := knownMethods[c.method]
	switch {
	case m != nil && m.subject != "":
		return refusedCall(c, codeInvalid, "params."+m.subject+" is missing, there twice, or not a plain string")
	case m == nil && foldedMethods[fold(c.method)]: // another method where letter case is ignored
		return refusedCall(c, codeInvalid, "method is oddly spelt")
	}
	if modern != "" || len(headers["Mcp-Method"]) > 0 {
		problem := headerMismatch(headers, c, modern)
		if problem != "" {
			return refusedCall(c, codeHeaderMismatch, problem)
		}
	}
	v := &verdict{}
	if isNotification(c.method) {
		return v
	}
	v.needed = neededFor(r.methods, c.method)
	v.lists = c.method == "tools/list"
	if m == nil || m.several {
		return judgeSeveral(r, c, v, m == nil, modern)
	}
	return v
}

// judgeSeveral judges the subjects that a call names beside its method's own scopes, v.needed.
//
// A method that is not known is refused where subjects are guarded, unless methodScopes names it:
// nobody can say which of its members names a tool, a resource or a prompt, and an update of the
// MCP server must not open what the labels shut. Where it is named, what looks like a subject
// counts.
func judgeSeveral(r *rules, c *call, v *verdict, unknown bool, modern string) *verdict {
	if r.tables[labelTools] == nil && r.tables[labelResources] == nil && r.tables[labelPrompts] == nil {
		return v
	}
	if unknown && !names(r.methods, c.method) {
		return refusedMethod(c, modern)
	}
	if c.problem != "" {
		return refusedCall(c, codeInvalid, c.problem)
	}
	v.subjects = len(c.subjects)
	needed := append([]string{}, v.needed...)
	for _, s := range c.subjects {
		table := r.tables[s.label]
		if table == nil {
			continue
		}
		if s.label != labelResources {
			needed = append(needed, neededFor(table, s.text)...)
			continue
		}
		if !isPlainURI(s.text) {
			return refusedCall(c, codeInvalid, "a URI is not in its plain form")
		}
		needed = append(needed, neededForURI(table, s.text)...)
	}
	v.needed = needed
	return v
}

// refusedMethod answers as an MCP server that lacks the method: with 404 from MCP 2026-07-28 on,
// and with 200 before, where some SDKs end their session on any other status.
func refusedMethod(c *call, modern string) *verdict {
	v := refusedCall(c, codeUnknownMethod, "the method is not known here, and is not let through")
	v.unknown = c.method
	if modern != "" {
		v.status = http.StatusNotFound
	} else if len(c.id) > 0 {
		v.status = http.StatusOK
	}
	return v
}

// complainOfMethod tells the operator how to let a method through.
func complainOfMethod(middleware, name string) {
	if len(name) > maxEchoed {
		name = name[:maxEchoed] + "…"
	}
	complain(middleware, "method", fmt.Sprintf("the method %q is not one of MCP that is known here, and is refused while toolScopes, resourceScopes or promptScopes guard something: "+
		"to let it through, name it in methodScopes with the scopes it needs", name))
}
