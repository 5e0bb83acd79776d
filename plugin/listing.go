//go:build go1.21

package plugin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// The label hideTools takes from the answer to tools/list the tools that the caller may not call. A
// JSON answer is held until it is whole. An event stream passes event by event, each at once:
// before its answer, a server may ask the client something on the same stream and wait for the
// reply. All other answers are untouched: a ResponseWriter that is wrapped in Yaegi loses Flusher,
// and with it every stream.
//
// Hiding only spares the model a refusal. permit is what refuses.

const (
	maxListing      = 4 << 20 // bytes of a JSON answer, or of one event
	listingDeadline = 30 * time.Second
)

// heldAnswer receives the answer of the MCP server in place of the client.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer // what was not passed on yet
	long   bool         // there was more than maxListing
	share  *share       // of listingBudget
	full   bool         // the budget had no more

	// The client's writer, and what hides tools from it. Events go there as they come.
	client http.ResponseWriter
	rules  *mcp.Rules
	scopes string
	events bool        // the answer is an event stream, and has begun for the client too
	timer  *time.Timer // for the beginning of the answer, or for all of it if it is JSON
	lost   error       // why an event was not passed on
}

func (a *heldAnswer) Header() http.Header { return a.header }

func (a *heldAnswer) WriteHeader(status int) {
	if a.status != 0 || status < 200 { // an interim answer is not passed on
		return
	}
	a.status = status
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.client != nil && status == http.StatusOK && kind == "text/event-stream" && isIdentity(a.header) {
		a.events = true
		a.timer.Stop()
		a.begin()
		a.flush()
	}
}

// begin sends status and headers to the client.
func (a *heldAnswer) begin() {
	h := a.client.Header()
	for name, values := range a.header {
		h[name] = values
	}
	delete(h, "Content-Length") // it changes
	a.client.WriteHeader(a.status)
}

// flush uses a ResponseController: only rw as it came from Traefik can flush.
func (a *heldAnswer) flush() { _ = http.NewResponseController(a.client).Flush() }

// Write accepts everything and keeps at most maxListing. An error would make the proxy panic.
func (a *heldAnswer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	size := a.body.Len() + len(p)
	a.long = a.long || size > maxListing
	a.full = a.full || size > maxUncounted && !take(a.share, int64(size))
	if a.long || a.full {
		a.body.Reset()
		a.timer.Reset(0) // nobody waits for an answer that is not passed on
		return len(p), nil
	}
	before := a.body.Len()
	_, _ = a.body.Write(p)
	if a.events && endsEvent(a.body.Bytes(), before) {
		a.passEvents(false)
	}
	return len(p), nil
}

// endsEvent says whether an event may end behind a position. It saves passEvents from reading all
// that is held for each piece of a long event.
func endsEvent(text []byte, from int) bool {
	from -= 3
	if from < 0 {
		from = 0
	}
	added := text[from:]
	return bytes.Contains(added, []byte("\n\n")) || bytes.Contains(added, []byte("\n\r")) || bytes.Contains(added, []byte("\r\r"))
}

// passEvents sends the events that are complete, and at the end the rest. An event ends with an
// empty line, and a line with CR, LF or both (WHATWG HTML §9.2.5). So a CR at the end of the text
// waits for the next piece.
func (a *heldAnswer) passEvents(end bool) {
	text := a.body.String()
	rest := ""
	if !end && strings.HasSuffix(text, "\r") {
		text = text[:len(text)-1]
		rest = "\r"
	}
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	events := strings.SplitAfter(text, "\n\n")
	if !end {
		rest = events[len(events)-1] + rest
		events = events[:len(events)-1]
	}
	a.body.Reset()
	_, _ = a.body.WriteString(rest)
	for _, event := range events {
		shorter, err := hideInEvent(a.rules, a.scopes, event)
		if err != nil {
			a.lost = err
			continue
		}
		_, _ = io.WriteString(a.client, shorter)
	}
	if len(events) > 0 {
		a.flush()
	}
}

// serveListing passes on a request for tools/list, and the answer without the hidden tools.
func serveListing(b *bouncer, rw http.ResponseWriter, req *http.Request, scopes string) {
	req.Header["Accept-Encoding"] = []string{"identity"}
	held := &heldAnswer{header: http.Header{}, client: rw, rules: b.settings.rules, scopes: scopes, share: &share{of: listingBudget}}
	defer func() { giveBack(held.share) }()
	err := hold(b.next, held, req)
	text := held.body.Bytes()
	if held.events {
		held.passEvents(true)
		if err == nil {
			err = held.lost
		}
	} else if err == nil {
		text, err = hideTools(b.settings.rules, scopes, held)
	}
	if err != nil && req.Context().Err() == nil { // otherwise the client went away
		complain(b.name, "hideTools", "label hideTools: the answer to tools/list is not passed on: "+err.Error())
	}
	switch {
	case held.events: // what could be passed on is with the client
	case err != nil:
		refuseMessage(rw, req, http.StatusBadGateway, mcp.CodeInternal, "null", "the list of tools could not be read")
	default:
		held.begin()
		_, _ = rw.Write(text)
	}
}

// hold asks the MCP server. When an answer breaks off, a proxy panics so that net/http cuts the
// connection of the client. Nothing of a JSON answer was sent yet, so it gets a better answer here.
// An event stream just ends.
func hold(next http.Handler, held *heldAnswer, req *http.Request) (err error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	held.timer = time.AfterFunc(listingDeadline, cancel)
	defer held.timer.Stop()
	defer func() {
		if r := recover(); r != nil {
			err = tooMuch(held)
			if err == nil {
				err = errors.New("it broke off")
			}
		}
	}()
	var writer http.ResponseWriter = held
	next.ServeHTTP(writer, req.WithContext(ctx))
	much := tooMuch(held)
	if much != nil {
		return much
	}
	if ctx.Err() != nil {
		return errors.New("it did not end within 30 seconds")
	}
	if held.status == 0 {
		held.status = http.StatusOK
	}
	return nil
}

// tooMuch says why an answer was not held to its end; nil if it was.
func tooMuch(held *heldAnswer) error {
	switch {
	case held.long:
		return errors.New("it is longer than 4 MB")
	case held.full:
		return errors.New("so many long ones are held that no more is; let fewer requests in at a time, by Traefik's middleware inFlightReq")
	}
	return nil
}

func isIdentity(h http.Header) bool {
	encoding := h.Get("Content-Encoding")
	return encoding == "" || encoding == "identity"
}

// hideTools returns the body without the tools that these scopes do not allow. Answers with another
// status than 200 are left as they are.
func hideTools(r *mcp.Rules, scopes string, held *heldAnswer) ([]byte, error) {
	body := held.body.Bytes()
	if held.status != http.StatusOK || len(body) == 0 {
		return body, nil
	}
	if !isIdentity(held.header) {
		return nil, errors.New("it is compressed, although that was not asked for")
	}
	kind, _, _ := mime.ParseMediaType(held.header.Get("Content-Type"))
	if kind != "application/json" {
		return nil, errors.New("it is neither JSON nor an event stream")
	}
	return hideInJSON(r, scopes, body)
}

// maxLines bounds the cost of one event: each of its lines is looked at.
const maxLines = 100000

// hideInEvent goes through one event, whose lines end with LF. An event without a list of tools is
// left as it is.
func hideInEvent(r *mcp.Rules, scopes, event string) (string, error) {
	if !strings.Contains(event, "{") {
		return event, nil
	}
	if strings.Count(event, "\n") > maxLines {
		return "", errors.New("an event has more than 100,000 lines")
	}
	values := []string{}
	others := []string{}
	for _, line := range strings.Split(event, "\n") {
		if strings.HasPrefix(line, "data:") {
			values = append(values, strings.TrimPrefix(line[len("data:"):], " "), "\n")
		} else if line != "" {
			others = append(others, line, "\n")
		}
	}
	data := strings.Join(values, "")
	if !strings.Contains(data, "{") {
		return event, nil
	}
	text, err := hideInJSON(r, scopes, []byte(data))
	if err != nil || string(text) == data {
		return event, err
	}
	return strings.Join(others, "") + "data: " + string(text) + "\n\n", nil
}

func hideInJSON(r *mcp.Rules, scopes string, text []byte) ([]byte, error) {
	return mcp.HideTools(r, text, func(needed []string) bool { return hasScopes(scopes, needed) })
}
