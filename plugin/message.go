//go:build go1.21

package plugin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// What an MCP client asks for stands in the body of its request, a JSON-RPC 2.0 message. The rules
// judge that body, because the server acts on it; headers that repeat it are compared with it,
// never believed. A text that two readers could read differently is refused: the other reader is a
// server in any language.

const (
	maxBatch   = 32  // messages
	maxMembers = 128 // of one object
	maxEchoed  = 64  // characters of an id that is sent back
)

// Codes of JSON-RPC 2.0 §5.1 and of MCP 2026-07-28.
const (
	codeParse          = -32700
	codeInvalid        = -32600
	codeUnknownMethod  = -32601
	codeInternal       = -32603
	codeHeaderMismatch = -32020
)

// of MCP: from it on, Mcp-Method and Mcp-Name repeat the body
const versionWithHeaders = "2026-07-28"

// verdict is what inspect finds in a message.
type verdict struct {
	needed  []string // scopes
	lists   bool     // it asks for tools/list
	code    int      // not 0: the message is refused with this JSON-RPC code
	status  int      // of HTTP, then
	message string
	id      string // of the refused request, as JSON
	// unknown is the method's name, where no rule can say whether it may pass.
	unknown string
	// subjects is how many a call named that has several.
	subjects int
}

func refused(code int, message string) *verdict {
	return &verdict{code: code, status: http.StatusBadRequest, message: message, id: "null"}
}

const versionMember = "io.modelcontextprotocol/protocolVersion" // of _meta

// deciding are the members that a decision depends on: their names in small letters, and as they
// are spelt.
var deciding = map[string]string{
	"jsonrpc": "jsonrpc", "id": "id", "method": "method", "params": "params", "result": "result", "error": "error",
	"name": "name", "uri": "uri", "arguments": "arguments", "_meta": "_meta", strings.ToLower(versionMember): versionMember,
	"taskid": "taskId", "ref": "ref", "type": "type", "notifications": "notifications", "resourcesubscriptions": "resourceSubscriptions",
}

// permit answers a request that the rules do not allow, and says whether it may go on, and whether
// it asks for tools/list. s is what a message that must be counted has of the budget.
func permit(r *rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, s *share) (ok, lists bool) {
	h := req.Header
	if req.Method != "POST" && !carriesMessage(req) {
		return true, false
	}
	types := h["Content-Type"]
	if (len(types) != 1 || types[0] != "application/json" || len(h["Content-Encoding"]) > 0) && !isPlainJSON(h) {
		refuseMessage(rw, req, http.StatusUnsupportedMediaType, refused(codeInvalid, "send application/json in UTF-8, not encoded"))
		return false, false
	}
	body, status := holdBody(req, maxMessage, s)
	if status != 0 {
		refuseBody(e, rw, req, status)
		return false, false
	}
	v := inspect(r, h, body)
	if v.code != 0 {
		refuseVerdict(e, rw, req, v)
		return false, false
	}
	if len(v.needed) > 0 && !hasScopes(id.scopes, v.needed) {
		refuseScopes(r, rw, req, e, id, v.needed)
		return false, false
	}
	return true, v.lists
}

func refuseVerdict(e *endpoint, rw http.ResponseWriter, req *http.Request, v *verdict) {
	if v.unknown != "" {
		complainOfMethod(e.tenant.hop.name, v.unknown)
	}
	refuseMessage(rw, req, v.status, v)
}

func refuseBody(e *endpoint, rw http.ResponseWriter, req *http.Request, status int) {
	if status == http.StatusRequestEntityTooLarge {
		refuseMessage(rw, req, status, refused(codeInvalid, "a message holds at most 1048576 bytes"))
		return
	}
	answerUnread(e.tenant.hop.name, rw, req, status)
}

func refuseScopes(r *rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, needed []string) {
	scope := stepUp(r, e.tenant.required, needed, id.scopes)
	answerChallenge(rw, req, http.StatusForbidden, `Bearer error="insufficient_scope", scope="`+scope+`", `+e.metadata, `{"error":"insufficient_scope"}`)
}

// carriesMessage says whether a request may hold a message. A server need not look at the method,
// so a GET with a body is looked into too.
func carriesMessage(req *http.Request) bool {
	m := req.Method
	if m != "GET" && m != "HEAD" && m != "DELETE" && m != "OPTIONS" {
		return true
	}
	if req.ContentLength < 0 && req.Body != nil { // HTTP/3 does not say that there is no body
		first := make([]byte, 1)
		n, _ := io.ReadFull(req.Body, first)
		if n == 0 {
			req.Body = http.NoBody
			req.ContentLength = 0
			req.Trailer = nil // see holdBody
		} else {
			req.Body = io.NopCloser(io.MultiReader(bytes.NewReader(first), req.Body))
		}
	}
	return req.ContentLength != 0
}

// isPlainJSON refuses what a server would decode before it reads JSON: a body that is harmless as
// UTF-8 can be another in UTF-7, which some servers decode when charset says so, or once it is
// inflated.
func isPlainJSON(h http.Header) bool {
	encoding := h["Content-Encoding"]
	if len(encoding) > 1 || len(encoding) == 1 && !strings.EqualFold(encoding[0], "identity") {
		return false
	}
	types := h["Content-Type"]
	if len(types) != 1 {
		return false
	}
	kind, parameters, err := mime.ParseMediaType(types[0])
	if err != nil || kind != "application/json" {
		return false
	}
	charset, given := parameters["charset"]
	return !given || strings.EqualFold(charset, "utf-8")
}

// inspect reads a body and says what the message needs. headers are those of the request.
func inspect(r *rules, headers http.Header, body []byte) *verdict {
	version := headers["Mcp-Protocol-Version"]
	modern := "" // the MCP version where headers repeat the body
	if len(version) > 0 && version[0] >= versionWithHeaders {
		modern = version[0]
	}
	if len(version) > 1 {
		return refused(codeHeaderMismatch, "MCP-Protocol-Version is there twice")
	}
	c := plainCall(body)
	if c == nil {
		return inspectClosely(r, headers, body, modern)
	}
	return judge(r, headers, c, modern)
}

// inspectClosely is inspect for what plainCall does not take.
func inspectClosely(r *rules, headers http.Header, body []byte, modern string) *verdict {
	var text bytes.Buffer
	if !utf8.Valid(body) || json.Compact(&text, body) != nil {
		return refused(codeParse, "the message is not JSON in UTF-8")
	}
	message := text.Bytes()
	if message[0] != '[' {
		return inspectMessage(r, headers, message, modern)
	}
	if modern != "" {
		return refused(codeInvalid, "this MCP version has no batches")
	}
	return inspectBatch(r, headers, json.NewDecoder(&text))
}

// inspectBatch judges each message of a batch (JSON-RPC 2.0 §6): all must be allowed.
func inspectBatch(r *rules, headers http.Header, batch *json.Decoder) *verdict {
	_, _ = batch.Token() // the bracket
	all := &verdict{}
	n := 0
	for batch.More() {
		var element json.RawMessage
		n++
		if n > maxBatch || batch.Decode(&element) != nil {
			return refused(codeInvalid, "the batch is too long")
		}
		v := inspectMessage(r, headers, element, "")
		if v.code != 0 {
			v.status = http.StatusBadRequest // the others get no answer
			return v
		}
		all.subjects += v.subjects
		if all.subjects > maxSubjects {
			return refused(codeInvalid, "the batch names too many resources")
		}
		all.needed = append(all.needed, v.needed...)
		all.lists = all.lists || v.lists
	}
	if n == 0 {
		return refused(codeInvalid, "the batch is empty")
	}
	return all
}

// call is a request or a notification, as far as it decides.
type call struct {
	id       []byte // JSON; nil: none
	method   string
	subject  string    // the member that knownMethods names; empty: none that is plain
	subjects []subject // of a method that has several, or is not known
	problem  string    // why those cannot be read
	meta     []byte    // params._meta
}

// inspectMessage judges one message, whose text is compact.
func inspectMessage(r *rules, headers http.Header, text []byte, modern string) *verdict {
	members := membersOf(text)
	if members == nil {
		return refused(codeInvalid, "the message is not an object, or has a member twice or oddly spelt")
	}
	if members["method"] == nil {
		if members["result"] == nil && members["error"] == nil {
			return refused(codeInvalid, "the message is neither request, notification nor response")
		}
		return &verdict{} // a response: the server asked for it
	}
	method, ok := plainString(members["method"])
	if !ok {
		return refused(codeInvalid, "method is not a plain string")
	}
	c := &call{id: members["id"], method: method}
	m := knownMethods[method]
	if m == nil || m.several {
		readSeveral(c, members["params"])
	} else if modern != "" || m.subject != "" {
		params := membersOf(members["params"])
		subject, ok := plainString(params[m.subject])
		if ok {
			c.subject = subject
		}
		c.meta = params["_meta"]
	}
	return judge(r, headers, c, modern)
}

// judge says what a call needs. A server may act on tools/call without an id too, so requests and
// notifications are judged alike.
func judge(r *rules, headers http.Header, c *call, modern string) *verdict {
	if c.subject == "" {
		return judgeOthers(r, headers, c, modern)
	}
	if modern != "" || len(headers["Mcp-Method"]) > 0 || len(headers["Mcp-Name"]) > 0 {
		problem := headerMismatch(headers, c, modern)
		if problem != "" {
			return refusedCall(c, codeHeaderMismatch, problem)
		}
	}
	v := &verdict{}
	table := r.subjects[c.method]
	if table != nil {
		if table == r.resources {
			if !isPlainURI(c.subject) {
				return refusedCall(c, codeInvalid, "params.uri is not in its plain form")
			}
			v.needed = neededForURI(table, c.subject)
		} else {
			v.needed = neededFor(table, c.subject)
		}
	}
	if r.methods != nil {
		more := neededExactly(r.methods, c.method)
		if len(more) > 0 {
			v.needed = append(append([]string{}, more...), v.needed...)
		}
	}
	return v
}

func refusedCall(c *call, code int, message string) *verdict {
	v := refused(code, message)
	if len(c.id) > 0 && len(c.id) <= maxEchoed {
		v.id = string(c.id)
	}
	return v
}

// headerMismatch compares the headers of MCP 2026-07-28 with the body, also where an older version
// has them; empty: they agree.
func headerMismatch(headers http.Header, c *call, modern string) string {
	named := modern
	if c.subject != "" && !knownMethods[c.method].named {
		named = "" // it may be there
	}
	switch {
	case !mirrors(headers["Mcp-Method"], c.method, modern):
		return "the header Mcp-Method is missing or differs from the body"
	case c.subject != "" && !mirrors(headers["Mcp-Name"], c.subject, named):
		return "the header Mcp-Name is missing or differs from the body"
	case modern != "" && c.id != nil && !sameVersion(c.meta, modern):
		return "the header MCP-Protocol-Version differs from _meta of the body"
	}
	return ""
}

// plainMessage is what clients send all day. plainCall reads it in one pass, so that the rules cost
// little.
//
// encoding/json puts a member that is spelt like no field ("Method") into the first field that
// differs only in the case of letters. The fields that are called Odd come first, and so the others
// hold what is spelt as it is written here.
type plainMessage struct {
	OddVersion bool            `json:"JSONRPC"`
	OddID      bool            `json:"ID"`
	OddMethod  bool            `json:"METHOD"`
	OddParams  bool            `json:"PARAMS"`
	Version    string          `json:"jsonrpc"`
	ID         json.RawMessage `json:"id"`
	Method     string          `json:"method"`
	Params     *plainParams    `json:"params"`
}

type plainParams struct {
	OddName      bool            `json:"NAME"`
	OddURI       bool            `json:"URI"`
	OddArguments bool            `json:"ARGUMENTS"`
	OddMeta      bool            `json:"_META"`
	Name         string          `json:"name"`
	URI          string          `json:"uri"`
	Arguments    json.RawMessage `json:"arguments"`
	Meta         json.RawMessage `json:"_meta"`
}

// plainCall reads a message that has these members, each once, without blanks between them and
// without escapes; nil for any other, which is looked at more closely then.
//
// Of a member that is there twice encoding/json takes the last. But nothing can be there that was
// not decoded into one of the fields that count: the length of what they hold, written again, is
// the length of the body.
func plainCall(body []byte) *call {
	body = bytes.TrimRight(body, "\n")
	var m plainMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &m) != nil || m.Params == nil || m.Method == "" {
		return nil
	}
	p := m.Params
	inner := 0
	if p.Name != "" {
		inner += len(p.Name) + roomOfName
	}
	if p.URI != "" {
		inner += len(p.URI) + roomOfURI
	}
	if p.Arguments != nil {
		inner += len(p.Arguments) + roomOfArguments
	}
	if p.Meta != nil {
		inner += len(p.Meta) + roomOfMeta
	}
	if inner > 0 {
		inner-- // no comma behind the last
	}
	length := len(m.Version) + len(m.Method) + inner + roomOfRest
	if m.ID != nil {
		length += len(m.ID) + roomOfID
	}
	subject := p.Name
	if !actsOnName[m.Method] {
		if !isReadOnce(m.Method) {
			return nil
		}
		subject = ""
		if actsOnURI(m.Method) {
			subject = p.URI
		}
	}
	if length != len(body) || m.Version == "" || strings.Trim(m.Method+subject, visible+"%") != "" {
		return nil
	}
	return &call{id: m.ID, method: m.Method, subject: subject, meta: p.Meta}
}

// What the members take beside their values.
const (
	roomOfName      = len(`"name":"",`)
	roomOfURI       = len(`"uri":"",`)
	roomOfArguments = len(`"arguments":,`)
	roomOfMeta      = len(`"_meta":,`)
	roomOfID        = len(`"id":,`)
	roomOfRest      = len(`{"jsonrpc":"","method":"","params":{}}`)
)

// membersOf reads one level of an object, whose text is compact, or returns nil.
//
// A member that is there twice is refused, because some readers take the first and some the last,
// and so is a name in other letters than one that decides here: Go's encoding/json and the Web
// defaults of .NET take "METHOD" for "method". Both show in the length: a map holds each name once,
// and an escape is longer than what it stands for.
func membersOf(text []byte) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if len(text) < 2 || text[0] != '{' || json.Unmarshal(text, &members) != nil || len(members) > maxMembers {
		return nil
	}
	length := 1
	for name, value := range members {
		length += len(name) + len(value) + len(`"":,`)
		if deciding[name] == name {
			continue
		}
		exact := deciding[strings.ToLower(name)]
		if exact != "" && exact != name || strings.Trim(name, printable) != "" {
			return nil
		}
	}
	if len(members) > 0 && length != len(text) {
		return nil
	}
	return members
}

// plainString reads a string that every reader reads alike: no control characters, on which some
// servers stop reading, no half of a surrogate pair, no blanks around it.
func plainString(text []byte) (string, bool) {
	var s string
	if len(text) < 2 || text[0] != '"' || json.Unmarshal(text, &s) != nil {
		return "", false
	}
	return s, isPlainName(s)
}

func isPlainName(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && !strings.ContainsAny(s, controlChars+"\ufffd")
}

// mirrors compares a header that repeats the body with the body. A client wraps what a header
// cannot carry as =?base64?…?=. From MCP 2026-07-28 on (modern) it must be there.
func mirrors(values []string, want, modern string) bool {
	if len(values) == 0 {
		return modern == ""
	}
	value := values[0]
	encoded := strings.TrimPrefix(value, "=?base64?")
	if encoded != value && strings.HasSuffix(encoded, "?=") {
		decoded, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(encoded, "?="))
		if err != nil {
			return false
		}
		value = string(decoded)
	}
	return len(values) == 1 && value == want
}

// sameVersion compares the version in _meta with the header's. What is not compact here is written
// again first.
func sameVersion(meta []byte, version string) bool {
	var text bytes.Buffer
	if json.Compact(&text, meta) != nil {
		return false
	}
	said, ok := plainString(membersOf(text.Bytes())[versionMember])
	return ok && said == version
}
