//go:build go1.21

package mcp

import (
	"encoding/json"
	"net/http"
	"strings"
)

// method is a row of the table of methods: which member of params names what a call acts on (its
// subject), whose rules guard that, and whether the header Mcp-Name must repeat it.
type method struct {
	// Member of params. Empty: the call acts on nothing that a rule can name.
	subject string
	// Whose rules guard the subject: labelTools, labelResources, labelPrompts or labelNone.
	label int
	// From MCP 2026-07-28 on, Mcp-Name must be there. For other methods with a subject the header
	// may be missing, but must not differ.
	named bool
	// The call has several subjects, which subjectsOf finds.
	several bool
}

// Labels that guard subjects: indexes into Rules.tables.
const (
	labelNone      = iota
	labelTools     // toolScopes
	labelResources // resourceScopes
	labelPrompts   // promptScopes
	labels
)

// knownMethods are all methods of a client: those of MCP 2024-11-05 to 2026-07-28, and of the
// extensions that are final, tasks (SEP-2663, with the two methods of MCP 2025-11-25) and skills
// (SEP-2640). judgeSeveral judges a method that is missing here. docs/tools.md shows the table.
//
// A task returns the result of the call that began it, and that call was judged. The server returns
// the result only to whoever began the task (SEP-2663, Security Considerations). A taskId does not
// tell the tool.
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

// foldedMethods holds the names of knownMethods as fold writes them. actsOnName holds those whose
// subject is the member name.
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

// IsKnownMethod says whether a method is one of MCP or of its final extensions.
func IsKnownMethod(name string) bool { return knownMethods[name] != nil }

func actsOnURI(name string) bool {
	m := knownMethods[name]
	return m != nil && m.subject == "uri"
}

// isReadOnce says whether plainCall finds everything that a call of this method is judged by.
func isReadOnce(name string) bool {
	m := knownMethods[name]
	if m == nil {
		return isNotification(name)
	}
	return !m.several
}

// fold writes all spellings that differ in letter case alone in one way. It joins at least what
// Unicode's simple folding joins (also U+017F with s, and U+212A with k), and what Java joins
// besides: the dotless i.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// isNotification says whether a method is a notification of the client. Those act on nothing.
func isNotification(name string) bool { return strings.HasPrefix(name, "notifications/") }

// subject is one thing that a call acts on.
type subject struct {
	label int
	text  string
}

// maxSubjects bounds the subjects of one call, and of all calls of a batch together: each is
// compared with each rule.
const maxSubjects = 256

// readSeveral reads the params of a call that has several subjects, or whose method is not known.
func readSeveral(c *call, text []byte) {
	c.meta = membersOf(text)["_meta"]
	if isNotification(c.method) {
		return
	}
	found, problem := subjectsOf(c.method, text)
	c.subjects = found
	c.problem = problem
}

// subjectsOf finds the subjects of a method that has several, or is not known. text is that of
// params. problem says why the subjects cannot be read.
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
	// A method of a later MCP, or of an extension. Resources are called uri everywhere in MCP, and
	// tools and prompts are called name.
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

// subjectsOfReference reads params.ref of completion/complete (MCP 2025-11-25, Completion). Servers
// differ in which member of it they look at, so each member that is there is judged.
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

// subjectsOfFilter reads params.notifications of subscriptions/listen, which replaces
// resources/subscribe from MCP 2026-07-28 on.
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

// addSubject appends a subject, if its member is there. plain is false where the member is not a
// plain string.
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

// judgeOthers judges a call without one subject: a call that lacks it, one that acts on nothing or
// on several things, and one whose method is not known.
func judgeOthers(r *Rules, headers http.Header, c *call, modern string) *Verdict {
	m := knownMethods[c.method]
	switch {
	case m != nil && m.subject != "":
		return refusedCall(c, CodeInvalid, "params."+m.subject+" is missing, there twice, or not a plain string")
	case m == nil && foldedMethods[fold(c.method)]: // to some servers it is the known method
		return refusedCall(c, CodeInvalid, "method is oddly spelt")
	}
	if modern != "" || len(headers["Mcp-Method"]) > 0 {
		problem := headerMismatch(headers, c, modern)
		if problem != "" {
			return refusedCall(c, codeHeaderMismatch, problem)
		}
	}
	v := &Verdict{}
	if isNotification(c.method) {
		return v
	}
	v.Needed = neededFor(r.methods, c.method)
	v.Lists = c.method == "tools/list"
	if m == nil || m.several {
		return judgeSeveral(r, c, v, m == nil, modern)
	}
	return v
}

// judgeSeveral judges the subjects that a call names, besides the scopes of its method (v.Needed).
//
// Where subjects are guarded, an unknown method is refused unless a rule for methods names it.
// Nobody can say which of its members names a tool, a resource or a prompt, and an update of the
// MCP server must not open what the rules shut. Where a rule names the method, each member that
// looks like a subject counts as one.
func judgeSeveral(r *Rules, c *call, v *Verdict, unknown bool, modern string) *Verdict {
	if r.tables[labelTools] == nil && r.tables[labelResources] == nil && r.tables[labelPrompts] == nil {
		return v
	}
	if unknown && !names(r.methods, c.method) {
		return refusedMethod(c, modern)
	}
	if c.problem != "" {
		return refusedCall(c, CodeInvalid, c.problem)
	}
	v.subjects = len(c.subjects)
	needed := append([]string{}, v.Needed...)
	for _, s := range c.subjects {
		table := r.tables[s.label]
		if table == nil {
			continue
		}
		if s.label != labelResources {
			needed = append(needed, neededFor(table, s.text)...)
			continue
		}
		if !IsPlainURI(s.text) {
			return refusedCall(c, CodeInvalid, "a URI is not in its plain form")
		}
		needed = append(needed, neededForURI(table, s.text)...)
	}
	v.Needed = needed
	return v
}

// refusedMethod refuses a method in the way of an MCP server that lacks it: with 404 from MCP
// 2026-07-28 on. Before, the status is 200, because some SDKs end their session on any other.
func refusedMethod(c *call, modern string) *Verdict {
	v := refusedCall(c, codeUnknownMethod, "the method is not known here, and is not let through")
	v.Unknown = c.method
	if modern != "" {
		v.Status = http.StatusNotFound
	} else if len(c.id) > 0 {
		v.Status = http.StatusOK
	}
	return v
}
