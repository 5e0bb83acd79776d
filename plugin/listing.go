//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"
)

// The label hideTools takes from the answer to tools/list what the caller may not call. Such an answer is one message and not a stream, also
// where it comes as an event stream, so it can be held until it is whole. No other answer is touched: a ResponseWriter that is wrapped in Yaegi
// loses Flusher, and with it every stream. Hiding spares the model a refusal; what refuses is permit.

const (
	maxListing      = 4 << 20 // bytes
	maxEvents       = 256
	listingDeadline = 30 * time.Second
)

// heldAnswer takes the MCP server's answer in place of the client.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
	long   bool // there was more than maxListing
}

func (a *heldAnswer) Header() http.Header { return a.header }

func (a *heldAnswer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 { // others announce an answer
		a.status = status
	}
}

// Write takes all that comes, and keeps no more than maxListing: an error would make the proxy panic.
func (a *heldAnswer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.body.Len()+len(p) > maxListing {
		a.long = true
		return len(p), nil
	}
	return a.body.Write(p)
}

// serveListing passes on a request for tools/list, and what is left of the answer.
func serveListing(b *bouncer, rw http.ResponseWriter, req *http.Request, scopes string) {
	req.Header["Accept-Encoding"] = []string{"identity"}
	held := &heldAnswer{header: http.Header{}}
	text, err := hold(b.next, held, req)
	if err == nil {
		text, err = hideTools(b.settings.rules, scopes, held)
	}
	if err != nil {
		complain(b.name, "hideTools", "label hideTools: the answer to tools/list is not passed on: "+err.Error())
		refuseMessage(rw, req, http.StatusBadGateway, refused(codeInternal, "the list of tools could not be read"))
		return
	}
	h := rw.Header()
	for name, values := range held.header {
		h[name] = values
	}
	delete(h, "Content-Length") // net/http counts anew
	rw.WriteHeader(held.status)
	_, _ = rw.Write(text)
}

// hold asks the MCP server. A proxy panics when an answer breaks off, so that net/http cuts the client's connection; nothing was sent yet, so
// there is a better answer here.
func hold(next http.Handler, held *heldAnswer, req *http.Request) (text []byte, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), listingDeadline)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("it broke off")
		}
	}()
	var writer http.ResponseWriter = held
	next.ServeHTTP(writer, req.WithContext(ctx))
	switch {
	case held.long:
		return nil, errors.New("it is longer than 4 MB")
	case ctx.Err() != nil:
		return nil, errors.New("it did not end within 30 seconds")
	}
	if held.status == 0 {
		held.status = http.StatusOK
	}
	return held.body.Bytes(), nil
}

// hideTools returns the body without the tools that these scopes do not allow. Answers that are no success are left as they are.
func hideTools(r *rules, scopes string, held *heldAnswer) ([]byte, error) {
	body := held.body.Bytes()
	if held.status != http.StatusOK || len(body) == 0 {
		return body, nil
	}
	encoding := held.header.Get("Content-Encoding")
	if encoding != "" && encoding != "identity" {
		return nil, errors.New("it is compressed, although that was not asked for")
	}
	kind, _, _ := mime.ParseMediaType(held.header.Get("Content-Type"))
	switch kind {
	case "application/json":
		return hideInJSON(r, scopes, body)
	case "text/event-stream":
		return hideInEvents(r, scopes, string(body))
	}
	return nil, errors.New("it is neither JSON nor an event stream")
}

// hideInEvents goes through an event stream (WHATWG HTML §9.2). Events without a list of tools stay as they are.
func hideInEvents(r *rules, scopes, stream string) ([]byte, error) {
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	events := strings.Split(stream, "\n\n")
	if len(events) > maxEvents {
		return nil, errors.New("it has more than 256 events")
	}
	for i, event := range events {
		data := ""
		others := ""
		for _, line := range strings.Split(event, "\n") {
			if strings.HasPrefix(line, "data:") {
				data += strings.TrimPrefix(line[len("data:"):], " ") + "\n"
			} else if line != "" {
				others += line + "\n"
			}
		}
		if !strings.Contains(data, "{") {
			continue
		}
		text, err := hideInJSON(r, scopes, []byte(data))
		if err != nil {
			return nil, err
		}
		if string(text) != data {
			events[i] = others + "data: " + string(text)
		}
	}
	return []byte(strings.Join(events, "\n\n")), nil
}

// hideInJSON goes through one message or a batch of them.
func hideInJSON(r *rules, scopes string, text []byte) ([]byte, error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 || trimmed[0] != '[' {
		return hideInMessage(r, scopes, text)
	}
	var batch []json.RawMessage
	if json.Unmarshal(text, &batch) != nil {
		return nil, errNoMessage
	}
	for i, message := range batch {
		shorter, err := hideInMessage(r, scopes, message)
		if err != nil {
			return nil, err
		}
		batch[i] = shorter
	}
	return encode(batch)
}

var errNoMessage = errors.New("it is not a JSON-RPC message")

func hideInMessage(r *rules, scopes string, text []byte) ([]byte, error) {
	var message map[string]json.RawMessage
	if json.Unmarshal(text, &message) != nil {
		return nil, errNoMessage
	}
	var result map[string]json.RawMessage
	var tools []json.RawMessage
	if json.Unmarshal(message["result"], &result) != nil || json.Unmarshal(result["tools"], &tools) != nil {
		return text, nil // another message: an error, a notification
	}
	kept := []json.RawMessage{}
	method := neededFor(r.methods, "tools/call")
	for _, tool := range tools {
		var named struct {
			Name string `json:"name"`
		}
		if json.Unmarshal(tool, &named) != nil {
			return nil, errNoMessage
		}
		if hasScopes(scopes, method) && hasScopes(scopes, neededFor(r.subjects["tools/call"], named.Name)) {
			kept = append(kept, tool)
		}
	}
	if result["cacheScope"] != nil { // MCP 2026-07-28: the list is not the same for everybody any more
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

// encode is json.Marshal without its escapes for HTML.
func encode(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
