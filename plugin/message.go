//go:build go1.21

package plugin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// What an MCP client asks for stands in the body of its request, a JSON-RPC 2.0 message. The rules judge that body, because the server
// acts on it; headers that repeat it are compared with it, never believed. A text that two readers could read differently is refused: the
// other reader is a server in any language.

const (
	maxBatch   = 32  // messages
	maxMembers = 128 // of one object
	maxEchoed  = 64  // characters of an id that is sent back
)

// Codes of JSON-RPC 2.0 §5.1 and of MCP 2026-07-28.
const (
	codeParse          = -32700
	codeInvalid        = -32600
	codeHeaderMismatch = -32020
)

const versionWithHeaders = "2026-07-28" // of MCP: from it on, Mcp-Method and Mcp-Name repeat the body

// verdict is what inspect finds in a message.
type verdict struct {
	needed  []string // scopes
	lists   bool     // it asks for tools/list
	code    int      // not 0: the message is refused with this JSON-RPC code
	message string
	id      string // of the refused request, as JSON
}

func refused(code int, message string) *verdict {
	return &verdict{code: code, message: message, id: "null"}
}

// subjectOf says which member of params is the operation's subject, which Mcp-Name repeats.
var subjectOf = map[string]string{"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}

const versionMember = "io.modelcontextprotocol/protocolVersion" // of _meta

// deciding are the members that a decision depends on, in the letters that are compared.
var deciding = map[string]string{
	"jsonrpc": "jsonrpc", "id": "id", "method": "method", "params": "params", "result": "result", "error": "error",
	"name": "name", "uri": "uri", "arguments": "arguments", "_meta": "_meta", strings.ToLower(versionMember): versionMember,
}

// permit answers a request that the rules do not allow, and says whether it may go on.
func permit(r *rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) bool {
	// What passes through a WebSocket cannot be judged. Without the header the server answers as it would a plain request.
	delete(req.Header, "Upgrade")
	if !carriesMessage(req) {
		return true
	}
	if !isPlainJSON(req.Header) {
		refuseMessage(rw, req, http.StatusUnsupportedMediaType, refused(codeInvalid, "send application/json in UTF-8, not encoded"))
		return false
	}
	body, status := holdBody(req, maxMessage)
	switch {
	case status == http.StatusRequestEntityTooLarge:
		refuseMessage(rw, req, status, refused(codeInvalid, "a message holds at most 1048576 bytes"))
		return false
	case status != 0:
		answer(rw, status, unreadable)
		return false
	}
	v := inspect(r, req.Header, body)
	if v.code != 0 {
		refuseMessage(rw, req, http.StatusBadRequest, v)
		return false
	}
	if len(v.needed) > 0 && !hasScopes(id.scopes, v.needed) {
		scope := stepUp(r, e.tenant.required, v.needed, id.scopes)
		answerChallenge(rw, req, http.StatusForbidden, `Bearer error="insufficient_scope", scope="`+scope+`", `+e.metadata, `{"error":"insufficient_scope"}`)
		return false
	}
	return true
}

// carriesMessage says whether a request may hold a message. A server need not look at the method, so a GET with a body is looked into too.
func carriesMessage(req *http.Request) bool {
	m := req.Method
	return req.ContentLength != 0 || m != "GET" && m != "HEAD" && m != "DELETE" && m != "OPTIONS"
}

// isPlainJSON refuses what a server would decode before it reads JSON: a body that is harmless as UTF-8 can be another in UTF-7, which some
// servers decode when charset says so, or once it is inflated.
func isPlainJSON(h http.Header) bool {
	encoding := h["Content-Encoding"]
	if len(encoding) > 1 || len(encoding) == 1 && !strings.EqualFold(encoding[0], "identity") {
		return false
	}
	types := h["Content-Type"]
	if len(types) == 1 && types[0] == "application/json" {
		return true
	}
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
	if len(version) > 1 {
		return refused(codeHeaderMismatch, "MCP-Protocol-Version is there twice")
	}
	modern := ""
	if len(version) == 1 && version[0] >= versionWithHeaders {
		modern = version[0]
	}
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
			return v
		}
		all.needed = append(all.needed, v.needed...)
		all.lists = all.lists || v.lists
	}
	if n == 0 {
		return refused(codeInvalid, "the batch is empty")
	}
	return all
}

// inspectMessage judges one message, whose text is compact. modern is the MCP version where headers repeat the body, else empty.
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
	v := inspectCall(r, headers, members, modern)
	if v.code != 0 && members["id"] != nil && len(members["id"]) <= maxEchoed {
		v.id = string(members["id"])
	}
	return v
}

// inspectCall judges a request or a notification. A server may act on tools/call without an id too, so both are judged alike.
func inspectCall(r *rules, headers http.Header, members map[string]json.RawMessage, modern string) *verdict {
	method, ok := plainString(members["method"])
	if !ok {
		return refused(codeInvalid, "method is not a plain string")
	}
	if !mirrors(headers["Mcp-Method"], method, modern != "") {
		return refused(codeHeaderMismatch, "the header Mcp-Method is missing or differs from the body")
	}
	v := &verdict{lists: method == "tools/list"}
	if !strings.HasPrefix(method, "notifications/") {
		v.needed = neededFor(r.methods, method)
	}
	member := subjectOf[method]
	if member == "" {
		if subjectOf[strings.ToLower(method)] != "" {
			return refused(codeInvalid, "method is oddly spelt")
		}
		if modern == "" {
			return v
		}
	}
	params := membersOf(members["params"])
	if modern != "" && members["id"] != nil && !sameVersion(params, modern) {
		return refused(codeHeaderMismatch, "the header MCP-Protocol-Version differs from _meta of the body")
	}
	if member == "" {
		return v
	}
	if params == nil {
		return refused(codeInvalid, "params is not an object, or has a member twice or oddly spelt")
	}
	subject, ok := plainString(params[member])
	if !ok {
		return refused(codeInvalid, "params."+member+" is not a plain string")
	}
	if !mirrors(headers["Mcp-Name"], subject, modern != "") {
		return refused(codeHeaderMismatch, "the header Mcp-Name is missing or differs from the body")
	}
	var more []string
	switch method {
	case "tools/call":
		more = neededFor(r.tools, subject)
	case "prompts/get":
		more = neededFor(r.prompts, subject)
	default:
		if r.resources != nil && !isPlainURI(subject) {
			return refused(codeInvalid, "params.uri is not in its plain form")
		}
		more = neededFor(r.resources, subject)
	}
	if len(more) > 0 {
		v.needed = append(append([]string{}, v.needed...), more...)
	}
	return v
}

// membersOf reads one level of an object, whose text is compact, or returns nil.
//
// A member that is there twice is refused, because some readers take the first and some the last, and so is a name in other letters than
// one that decides here: Go's encoding/json and the Web defaults of .NET take "METHOD" for "method". Both show in the length: a map holds
// each name once, and an escape is longer than what it stands for.
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

// plainString reads a string that every reader reads alike: no control characters, on which some servers stop reading, no half of a
// surrogate pair, no blanks around it.
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

// isPlainURI refuses the spellings by which a URI that begins like one resource means another.
func isPlainURI(uri string) bool {
	scheme, rest, found := strings.Cut(uri, ":")
	path, _, _ := strings.Cut(rest, "?")
	if strings.HasPrefix(rest, "//") {
		host, _, _ := strings.Cut(rest[2:], "/")
		scheme += host
	}
	if !found || scheme != strings.ToLower(scheme) || strings.Trim(uri, printable) != "" || strings.ContainsAny(uri, "\\ ") {
		return false
	}
	path = strings.ToLower(path) + "/"
	return !strings.Contains(path, "/../") && !strings.Contains(path, "/./") && !strings.Contains(path, "%2e") && !strings.Contains(path, "%2f") && !strings.Contains(path, "%5c")
}

// mirrors compares a header that repeats the body with the body. A client wraps what a header cannot carry as =?base64?…?=.
func mirrors(values []string, want string, required bool) bool {
	if len(values) == 0 {
		return !required
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

// sameVersion compares the version in _meta with the header's.
func sameVersion(params map[string]json.RawMessage, version string) bool {
	meta := membersOf(params["_meta"])
	said, ok := plainString(meta[versionMember])
	return ok && said == version
}
