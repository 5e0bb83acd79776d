//go:build go1.21

package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errNoMessage = errors.New("it is not a JSON-RPC message")

// HideTools takes from an answer to tools/list, or from a batch of answers, the tools that may not
// be called. mayCall says whether the caller has scopes. Other messages are returned as they are; a
// text that cannot be read is an error, which can be logged.
func HideTools(r *Rules, text []byte, mayCall func(needed []string) bool) ([]byte, error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 || trimmed[0] != '[' {
		return hideInMessage(r, text, mayCall)
	}
	var batch []json.RawMessage
	if json.Unmarshal(text, &batch) != nil {
		return nil, errNoMessage
	}
	for i, message := range batch {
		shorter, err := hideInMessage(r, message, mayCall)
		if err != nil {
			return nil, err
		}
		batch[i] = shorter
	}
	return encode(batch)
}

func hideInMessage(r *Rules, text []byte, mayCall func(needed []string) bool) ([]byte, error) {
	var message map[string]json.RawMessage
	if json.Unmarshal(text, &message) != nil {
		return nil, errNoMessage
	}
	var result map[string]json.RawMessage
	var tools []json.RawMessage
	if json.Unmarshal(message["result"], &result) != nil || json.Unmarshal(result["tools"], &tools) != nil {
		return text, nil // not a list of tools: an error, a notification
	}
	kept := []json.RawMessage{}
	all := mayCall(neededFor(r.methods, "tools/call"))
	for _, tool := range tools {
		var named struct {
			Name string `json:"name"`
		}
		if json.Unmarshal(tool, &named) != nil {
			return nil, errNoMessage
		}
		if all && mayCall(neededFor(r.subjects["tools/call"], named.Name)) {
			kept = append(kept, tool)
		}
	}
	// MCP 2026-07-28: the shorter list must not be kept for others.
	if result["cacheScope"] != nil {
		result["cacheScope"] = json.RawMessage(`"private"`)
	}
	list, err := encode(kept)
	if err != nil {
		return nil, err
	}
	result["tools"] = list
	shorter, err := encode(result)
	if err != nil {
		return nil, err
	}
	message["result"] = shorter
	return encode(message)
}

// encode writes JSON without the escapes that json.Marshal makes for HTML.
func encode(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
