//go:build go1.21

package mcp

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxCalls  = 4096 // bytes of Verdict.Calls
	maxCalled = 200  // bytes of one name in it, before it is encoded
)

// plainInCalls are the characters that nameCall leaves as they are: those that are visible, without
// the comma between calls and the sign of the encoding.
var plainInCalls = strings.NewReplacer(",", "", "%", "").Replace(visible)

// nameCall names a call: its method and, after a blank each, what it acts on (a tool, a prompt, the
// URI of a resource, a task). Arguments are never in it. A client has chosen all of it, so whatever
// is not visible US-ASCII is percent-encoded, and a longer name is cut and ends in "…".
func nameCall(c *call) string {
	text := c.method + c.subject
	if c.subject == "" || len(text) > maxCalled || strings.Trim(text, plainInCalls) != "" {
		return nameClosely(c)
	}
	return c.method + " " + c.subject
}

// nameClosely is nameCall for a call that is not named by two plain texts.
func nameClosely(c *call) string {
	names := []string{encodeCalled(c.method)}
	if c.subject != "" {
		names = append(names, encodeCalled(c.subject))
	}
	for _, s := range c.subjects {
		names = append(names, encodeCalled(s.text))
	}
	return strings.Join(names, " ")
}

func encodeCalled(name string) string {
	if len(name) > maxCalled {
		name = strings.ToValidUTF8(name[:maxCalled], "") + "…"
	}
	if strings.Trim(name, plainInCalls) == "" {
		return name
	}
	return url.PathEscape(name) // a comma too
}

// judgeNamed is judge for a call that is to be named. Nothing that could be a tool, a prompt or a
// resource may be left out of the record.
func judgeNamed(r *Rules, headers http.Header, c *call, modern string) *Verdict {
	if !r.guards && c.subject != "" && modern == "" && headers["Mcp-Method"] == nil && headers["Mcp-Name"] == nil {
		return &Verdict{Calls: nameCall(c)} // what judge would find of it
	}
	return judgeAndName(r, headers, c, modern)
}

func judgeAndName(r *Rules, headers http.Header, c *call, modern string) *Verdict {
	v := judge(r, headers, c, modern)
	v.Calls = nameCall(c)
	if len(v.Calls) > maxCalls {
		v = refusedCall(c, CodeInvalid, "the message names more than can be recorded")
		v.Calls = encodeCalled(c.method)
	} else if c.problem != "" && v.Code == 0 {
		v = refusedCall(c, CodeInvalid, c.problem)
		v.Calls = encodeCalled(c.method)
	}
	return v
}

// KindOf says by whose rules a message was refused that Inspect had read: "tool", "resource",
// "prompt", "method", or "batch".
func KindOf(body []byte) string {
	var m struct {
		Method string `json:"method"`
	}
	if json.Unmarshal(body, &m) != nil {
		return "batch"
	}
	known := knownMethods[m.Method]
	label := labelNone
	if known != nil {
		label = known.label
	}
	return []string{labelNone: "method", labelTools: "tool", labelResources: "resource", labelPrompts: "prompt"}[label]
}
