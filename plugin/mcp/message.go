//go:build go1.21

// Package mcp judges what an MCP client asks for: it reads the body of one HTTP request as a
// JSON-RPC 2.0 message, and says which scopes the operation needs. It is written to be audited
// alone: it imports only the standard library, and has no clock, no network, no log and no state.
//
// The MCP server acts on the body, so the body is what is judged. Headers that repeat it
// (Mcp-Method, Mcp-Name, MCP-Protocol-Version) are compared with it and never believed.
//
// What Inspect promises of a message that it does not refuse:
//
//   - All bytes of the body were read as one JSON text in UTF-8, without a byte order mark. Only
//     white space stands around it.
//   - The message is an object, and so is each of params, params.ref, params.notifications and
//     params._meta on which the decision depends. No member of these objects stands twice, every
//     name is printable US-ASCII without escapes, and none differs in letter case alone from a name
//     that a decision depends on. So any two readers find the same members.
//   - The method and what it acts on (its subject) are strings without control characters, halves
//     of surrogate pairs or blanks at their ends; a URI that a rule could guard is in plain form.
//   - Each message of a batch was judged; the scopes are those of all of them together.
//   - A method that differs from a known one in letter case alone is refused. So is an unknown
//     method where the rules guard tools, resources or prompts, unless a rule names it.
//   - The headers agree with the body (MCP 2026-07-28, Server Validation).
//
// Limits: 32 messages in a batch, 128 members in an object, 256 subjects in a call or batch, and
// the depth of nesting of encoding/json (10,000). The caller bounds the size of the body, and makes
// sure that the server reads the same bytes: media type, charset and Content-Encoding are not known
// here.
//
// What is not judged: arguments of tools, anything else in params that no rule names, responses
// (the server asked for them), and notifications. The scopes themselves are compared by the caller.
//
// HideTools is the other direction: it takes from an answer to tools/list what the caller may not
// call. That hides; Inspect is what refuses.
package mcp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	maxBatch   = 32  // messages
	maxMembers = 128 // of one object
	maxEchoed  = 64  // bytes of an id that a refusal repeats, as JSON
)

// Codes of JSON-RPC 2.0 §5.1, and of MCP 2026-07-28.
const (
	codeParse          = -32700
	CodeInvalid        = -32600
	codeUnknownMethod  = -32601
	CodeInternal       = -32603
	codeHeaderMismatch = -32020
)

// VersionWithHeaders is the first version of MCP in which Mcp-Method and Mcp-Name repeat the body.
const VersionWithHeaders = "2026-07-28"

// Sets of characters, for strings.Trim(s, set) == "": in Yaegi one native call costs less than a
// loop over the bytes.
const (
	// US-ASCII 0x21 to 0x7e.
	visible = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" +
		"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	printable    = visible + " "
	controlChars = "" +
		"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f" +
		"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
)

// Verdict is what Inspect finds in the body of a request.
type Verdict struct {
	// Scopes that the operation needs besides those of every request. A scope may stand twice.
	Needed []string
	// The message, or one of its batch, asks for tools/list.
	Lists bool

	// Code is not 0 where the message is refused: an error code of JSON-RPC. Status is then the
	// HTTP status, Message a fixed text, and ID the id of the refused request as JSON ("null" if it
	// has none, or a long one).
	Code    int
	Status  int
	Message string
	ID      string
	// Unknown is the name of a method that was refused because no rule says whether it may pass. A
	// client has chosen it.
	Unknown string

	// Calls names what the message asks for, where Lists.Calls asks for that: see nameCall. It is
	// empty where a refused message could not be read so far.
	Calls string

	subjects int // how many a call named that has several
}

func refused(code int, message string) *Verdict {
	return &Verdict{Code: code, Status: http.StatusBadRequest, Message: message, ID: "null"}
}

const versionMember = "io.modelcontextprotocol/protocolVersion" // of _meta

// deciding are the members that a decision depends on: their names in small letters, and as they
// are spelt.
var deciding = map[string]string{
	"jsonrpc": "jsonrpc", "id": "id", "method": "method", "params": "params",
	"result": "result", "error": "error", "name": "name", "uri": "uri", "arguments": "arguments",
	"_meta": "_meta", strings.ToLower(versionMember): versionMember, "taskid": "taskId",
	"ref": "ref", "type": "type", "notifications": "notifications",
	"resourcesubscriptions": "resourceSubscriptions",
}

// Inspect reads the body of a request and says what it needs. headers are those of the request.
func Inspect(r *Rules, headers http.Header, body []byte) *Verdict {
	version := headers["Mcp-Protocol-Version"]
	modern := "" // the MCP version where headers repeat the body
	if len(version) > 0 && version[0] >= VersionWithHeaders {
		modern = version[0]
	}
	if len(version) > 1 {
		return refused(codeHeaderMismatch, "MCP-Protocol-Version is there twice")
	}
	c := plainCall(body)
	if c == nil {
		return inspectClosely(r, headers, body, modern)
	}
	if r.calls {
		return judgeNamed(r, headers, c, modern)
	}
	return judge(r, headers, c, modern)
}

// inspectClosely reads a body that plainCall does not take.
func inspectClosely(r *Rules, headers http.Header, body []byte, modern string) *Verdict {
	var text bytes.Buffer
	if !utf8.Valid(body) || json.Compact(&text, body) != nil {
		return refused(codeParse, "the message is not JSON in UTF-8")
	}
	message := text.Bytes()
	if message[0] != '[' {
		return inspectMessage(r, headers, message, modern)
	}
	if modern != "" {
		return refused(CodeInvalid, "this MCP version has no batches")
	}
	return inspectBatch(r, headers, json.NewDecoder(&text))
}

// inspectBatch judges each message of a batch (JSON-RPC 2.0 §6): all must be allowed.
func inspectBatch(r *Rules, headers http.Header, batch *json.Decoder) *Verdict {
	_, _ = batch.Token() // the bracket
	all := &Verdict{}
	named := []string{}
	n := 0
	for batch.More() {
		var element json.RawMessage
		n++
		if n > maxBatch || batch.Decode(&element) != nil {
			return refused(CodeInvalid, "the batch is too long")
		}
		v := inspectMessage(r, headers, element, "")
		if v.Code != 0 {
			v.Status = http.StatusBadRequest // the others get no answer
			return v
		}
		all.subjects += v.subjects
		if all.subjects > maxSubjects {
			return refused(CodeInvalid, "the batch names too many resources")
		}
		all.Needed = append(all.Needed, v.Needed...)
		all.Lists = all.Lists || v.Lists
		if r.calls {
			named = append(named, v.Calls)
		}
	}
	if n == 0 {
		return refused(CodeInvalid, "the batch is empty")
	}
	all.Calls = strings.Join(named, ",")
	if len(all.Calls) > maxCalls {
		return refused(CodeInvalid, "the batch names more than can be recorded")
	}
	return all
}

// call is what a decision depends on of a request or a notification.
type call struct {
	id     []byte // JSON; nil: the message has none
	method string
	// The member of params that knownMethods names; empty where it is missing or not plain.
	subject string
	// Of a method that has several subjects, or is not known. problem says why they cannot be read.
	subjects []subject
	problem  string
	meta     []byte // params._meta
}

// inspectMessage judges one message, whose text is compact.
func inspectMessage(r *Rules, headers http.Header, text []byte, modern string) *Verdict {
	members := membersOf(text)
	if members == nil {
		return refused(CodeInvalid, "the message is not an object, or has a member twice or oddly spelt")
	}
	if members["method"] == nil {
		if members["result"] == nil && members["error"] == nil {
			return refused(CodeInvalid, "the message is neither request, notification nor response")
		}
		v := &Verdict{} // the server asked for it
		if r.calls {
			v.Calls = "response"
		}
		return v
	}
	method, ok := plainString(members["method"])
	if !ok {
		return refused(CodeInvalid, "method is not a plain string")
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
	if r.calls {
		return judgeNamed(r, headers, c, modern)
	}
	return judge(r, headers, c, modern)
}

// judge says what a call needs. A call without an id is judged like one with an id, because some
// servers act on both.
func judge(r *Rules, headers http.Header, c *call, modern string) *Verdict {
	if c.subject == "" {
		return judgeOthers(r, headers, c, modern)
	}
	if modern != "" || len(headers["Mcp-Method"]) > 0 || len(headers["Mcp-Name"]) > 0 {
		problem := headerMismatch(headers, c, modern)
		if problem != "" {
			return refusedCall(c, codeHeaderMismatch, problem)
		}
	}
	v := &Verdict{}
	table := r.subjects[c.method]
	if table != nil {
		if table == r.resources {
			if !IsPlainURI(c.subject) {
				return refusedCall(c, CodeInvalid, "params.uri is not in its plain form")
			}
			v.Needed = neededForURI(table, c.subject)
		} else {
			v.Needed = neededFor(table, c.subject)
		}
	}
	if r.methods != nil {
		more := neededExactly(r.methods, c.method)
		if len(more) > 0 {
			v.Needed = append(append([]string{}, more...), v.Needed...)
		}
	}
	return v
}

func refusedCall(c *call, code int, message string) *Verdict {
	v := refused(code, message)
	if len(c.id) > 0 && len(c.id) <= maxEchoed {
		v.ID = string(c.id)
	}
	return v
}

// headerMismatch compares the headers of MCP 2026-07-28 with the body, also where a client of an
// older version sends them. It returns "" where they agree.
func headerMismatch(headers http.Header, c *call, modern string) string {
	named := modern
	if c.subject != "" && !knownMethods[c.method].named {
		named = "" // the header may be missing
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

// plainMessage is the form that clients send nearly always. plainCall reads it in one pass, so that
// rules cost little.
//
// encoding/json decodes a member whose name matches no field exactly ("Method") into the first
// field whose name differs in letter case alone. The fields called Odd come first and take all of
// those, so the other fields hold only members that are spelt exactly as here. An Odd field is a
// bool: a member of another type in it is a decoding error, and a bool there shows in the length.
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

// plainCall reads a message that has only the members of plainMessage, each at most once, without
// blanks between them and without escapes. For any other message it returns nil, and the message is
// then inspected closely.
//
// encoding/json keeps the last of two members of one name, and ignores unknown ones. Both are found
// by the length: the members that were decoded, written again, must be as long as the body.
//
// Each check stands alone, because "||" is a variable in Yaegi, and each variable costs.
func plainCall(body []byte) *call {
	text := trimRight(body, "\n")
	if !valid(text) {
		return nil
	}
	m := new(plainMessage)
	if unmarshal(text, m) != nil {
		return nil
	}
	p := m.Params
	if p == nil {
		return nil
	}
	if m.Version == "" {
		return nil
	}
	left := len(text) - roomOfRest - len(m.Version) - len(m.ID) - len(m.Method) - len(p.Name) - len(p.URI) - len(p.Arguments) - len(p.Meta)
	if m.ID != nil {
		left -= roomOfID
	}
	none := 0 // what is left then
	if p.Name != "" {
		left -= roomOfName
		none = -1 // there is no comma behind the last member
	}
	if p.URI != "" {
		left -= roomOfURI
		none = -1
	}
	if p.Arguments != nil {
		left -= roomOfArguments
		none = -1
	}
	if p.Meta != nil {
		left -= roomOfMeta
		none = -1
	}
	if left != none {
		return nil
	}
	subject := p.Name
	if !actsOnName[m.Method] {
		subject = otherSubject(m.Method, p.URI)
	}
	if trim(m.Method+subject, visible) != "" {
		return nil
	}
	return &call{id: m.ID, method: m.Method, subject: subject, meta: p.Meta}
}

// otherSubject is the subject of a call that does not act on a name. It is not visible where
// plainCall does not find everything that a call of the method is judged by.
func otherSubject(method, uri string) string {
	if !isReadOnce(method) {
		return " "
	}
	if actsOnURI(method) {
		return uri
	}
	return ""
}

// These functions have names without a package, since in Yaegi each selector is one more variable.
var (
	trim      = strings.Trim
	trimRight = bytes.TrimRight
	unmarshal = json.Unmarshal
	valid     = utf8.Valid
)

// The bytes that each member takes besides its value.
const (
	roomOfName      = len(`"name":"",`)
	roomOfURI       = len(`"uri":"",`)
	roomOfArguments = len(`"arguments":,`)
	roomOfMeta      = len(`"_meta":,`)
	roomOfID        = len(`"id":,`)
	roomOfRest      = len(`{"jsonrpc":"","method":"","params":{}}`)
	roomOfMember    = len(`"":,`) // of any other, besides its name too
)

// membersOf reads one level of an object whose text is compact. It returns nil for what it refuses.
//
// A member that stands twice is refused, because some readers take the first and others the last. A
// name that differs from a deciding one in letter case is refused, because Go's encoding/json and
// the Web defaults of .NET take "METHOD" for "method". A repeated name and an escape in a name both
// show in the length: a map holds each name once, and an escape is longer than its character.
func membersOf(text []byte) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if len(text) < 2 || text[0] != '{' || json.Unmarshal(text, &members) != nil || len(members) > maxMembers {
		return nil
	}
	length := 1
	for name, value := range members {
		length += len(name) + len(value) + roomOfMember
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

// plainString reads a JSON string, and says whether every server reads it alike.
func plainString(text []byte) (string, bool) {
	var s string
	if len(text) < 2 || text[0] != '"' || json.Unmarshal(text, &s) != nil {
		return "", false
	}
	return s, IsPlainName(s)
}

// IsPlainName says whether every server reads a name alike: no control characters, at which some
// servers stop reading, no half of a surrogate pair (decoded as U+FFFD), and no blanks at its ends.
func IsPlainName(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && !strings.ContainsAny(s, controlChars+"\ufffd")
}

// mirrors says whether a header repeats a value of the body. A client writes a value that a header
// cannot carry as =?base64?…?=. Where modern is not empty, the header must be there.
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

// sameVersion compares the version in _meta with that of the header. plainCall leaves _meta as it
// came, so its text is made compact first.
func sameVersion(meta []byte, version string) bool {
	var text bytes.Buffer
	if json.Compact(&text, meta) != nil {
		return false
	}
	said, ok := plainString(membersOf(text.Bytes())[versionMember])
	return ok && said == version
}
