//go:build go1.21

package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// maxForwarded is the longest body that the sidecar takes, in bytes. maxMessage is the longest body
// that is held for the MCP server. A longer body, or one of unknown length, passes as a stream
// where no rule has to be judged.
const (
	maxForwarded = 64 << 10
	maxMessage   = 1 << 20
)

// maxUncounted is the longest body that is held without counting, in bytes: Traefik spends as much
// on any connection. maxHeld bounds what all longer messages together may hold. maxHeldForwarded
// bounds those for the sidecar, which strangers send.
const (
	maxUncounted     = 16 << 10
	maxHeld          = 64 << 20
	maxHeldForwarded = 16 << 20
)

// budget counts the bytes that requests hold.
type budget struct {
	sync.Mutex
	most int64
	held int64
}

var (
	messageBudget = &budget{most: maxHeld}
	forwardBudget = &budget{most: maxHeldForwarded}
	listingBudget = &budget{most: maxHeld} // answers to tools/list: see heldAnswer
)

// share is the part of a budget that one request has. Whoever makes a share gives it back at the
// end of the request.
type share struct {
	of    *budget
	bytes int64
}

// take sets the size of a share, in bytes. It returns false when the budget has too little left.
func take(s *share, bytes int64) bool {
	s.of.Lock()
	defer s.of.Unlock()
	if s.of.held-s.bytes+bytes > s.of.most {
		return false
	}
	s.of.held += bytes - s.bytes
	s.bytes = bytes
	return true
}

// giveBack ends a share.
func giveBack(s *share) { take(s, 0) }

// holdBody returns these in place of a status where the operator is told why. Both are answered
// with 503.
const (
	noRoom     = -1 // the budget is used up
	readBefore = -2 // nothing was left of the body
)

// holdBody reads the whole body before the request is forwarded. It returns the body, or the status
// to answer. s is nil for a body that is not counted.
//
// net/http closes the body of a request when its answer begins. A transport that is still looking
// for the end of the body then gives up the connection, and the answer is cut off. Traefik's own
// way to the MCP server has this fault (traefik/traefik#11767), and a tool call that is answered by
// a stream runs into it.
//
// A body that is shorter than announced is refused. A middleware before this one that sends a
// request twice (retry) hands on a body that was read the first time. Without the check, a tool
// call would become an empty message.
func holdBody(req *http.Request, limit int64, s *share) ([]byte, int) {
	n := req.ContentLength
	if n <= 0 || n > limit || s != nil || req.Body == nil {
		return holdCounted(req, limit, s)
	}
	body := make([]byte, n+1)
	got, err := io.ReadFull(req.Body, body)
	if int64(got) != n {
		return nil, misread(err)
	}
	body = body[:n]
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.Trailer = nil // trailers would follow a message that was judged without them
	return body, 0
}

// holdCounted is holdBody for bodies that are counted, and for bodies of unknown length.
func holdCounted(req *http.Request, limit int64, s *share) ([]byte, int) {
	n := req.ContentLength
	if req.Body == nil {
		if n > 0 {
			return nil, misread(io.EOF)
		}
		return nil, 0
	}
	if n > limit {
		return nil, http.StatusRequestEntityTooLarge
	}
	if s != nil && n <= 0 && isLong(req) && !take(s, limit) { // until the length is known
		return nil, noRoom
	}
	body, status := readBody(req, limit, s)
	if status != 0 {
		return nil, status
	}
	if s != nil && n < 0 && len(body) == 0 && s.of == messageBudget {
		return nil, readBefore // no message is empty, and a request without one is not held
	}
	if s != nil && n <= 0 {
		size := int64(len(body))
		if size <= maxUncounted {
			size = 0
		}
		take(s, size) // less than before
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.ContentLength = int64(len(body))
	req.TransferEncoding = nil
	req.Trailer = nil
	return body, 0
}

// isLong reads the beginning of a body of unknown length, as much as need not be counted. It says
// whether there is more. Nothing is counted until then: see readBody.
func isLong(req *http.Request) bool {
	first := make([]byte, maxUncounted+1)
	n, _ := io.ReadFull(req.Body, first) // an error comes again when the rest is read
	req.Body = io.NopCloser(io.MultiReader(bytes.NewReader(first[:n]), req.Body))
	return n > maxUncounted
}

// readBody reads a body of at most limit bytes. A body of known length is never held twice. It is
// counted only when more of it has come than is free: a client that announces a long body and sends
// nothing must not use up the budget.
func readBody(req *http.Request, limit int64, s *share) ([]byte, int) {
	n := req.ContentLength
	if n <= 0 {
		body, err := io.ReadAll(io.LimitReader(req.Body, limit+1))
		if err != nil {
			return nil, http.StatusBadRequest
		}
		if int64(len(body)) > limit {
			return nil, http.StatusRequestEntityTooLarge
		}
		exact := make([]byte, len(body)) // ReadAll leaves a slice up to a quarter longer
		copy(exact, body)
		return exact, 0
	}
	first := n
	if first > maxUncounted {
		first = maxUncounted
	}
	body := make([]byte, first, first+1)
	got, err := io.ReadFull(req.Body, body)
	if int64(got) != first {
		return nil, misread(err)
	}
	whole := body
	if s != nil && n > first && !take(s, n) {
		return nil, noRoom
	}
	if n > first {
		whole = make([]byte, n, n+1)
		copy(whole, body)
		more, _ := io.ReadFull(req.Body, whole[first:])
		got += more
	}
	// Another byte would be a second message to a server that counts otherwise.
	extra, _ := io.ReadFull(req.Body, whole[n:n+1])
	if int64(got+extra) != n {
		return nil, misread(io.ErrUnexpectedEOF)
	}
	return whole, 0
}

// misread returns the status for a body that is shorter or longer than its request says. It is 503,
// because nothing was done, and because Traefik's retry stops at it. err is the reader's error at
// the first missing byte: it tells a client that went away from a body that was read before.
func misread(err error) int {
	if err == io.EOF || errors.Is(err, http.ErrBodyReadAfterClose) {
		return readBefore
	}
	return http.StatusServiceUnavailable
}

// misreadAt is misread for a body of which so many bytes were read, when the reader's error was not
// kept: in Yaegi that would cost each message. A body that was read before still says so.
func misreadAt(req *http.Request, got int) int {
	if got > 0 {
		return http.StatusServiceUnavailable
	}
	_, err := req.Body.Read(make([]byte, 1))
	return misread(err)
}

const unreadable = `{"error":"invalid_request","error_description":"the request body could not be read, or is too long"}`

// answerUnread answers a request whose body was not held. status is what holdBody returned.
func answerUnread(middleware string, rw http.ResponseWriter, req *http.Request, status int) {
	dropSaid(req.Header)
	answerUnheld(middleware, rw, req, status)
}

// answerUnheld is answerUnread for a request whose headers are left as they are.
func answerUnheld(middleware string, rw http.ResponseWriter, req *http.Request, status int) {
	switch status {
	case noRoom:
		complain(middleware, "budget", fmt.Sprintf("requests hold so many long messages (%d MB, or %d MB for the sidecar) that no more is held, and some are answered with 503: "+
			"let fewer in at a time, by Traefik's middleware inFlightReq", maxHeld>>20, maxHeldForwarded>>20))
	case readBefore:
		complain(middleware, "retry", "a request came whose body had been read before, and got 503: if the middleware retry stands before this one, put it behind (docs/middlewares.md)")
	case http.StatusServiceUnavailable: // the client has gone
	default:
		answer(rw, req, status, unreadable)
		return
	}
	rw.Header()["Retry-After"] = []string{"1"}
	answer(rw, req, http.StatusServiceUnavailable, `{"error":"temporarily_unavailable","error_description":"the request body could not be read or held; send it again"}`)
}

// holdOrStream holds a message of known length up to maxMessage, and lets all others pass as a
// stream. It answers a request whose body cannot be held.
func holdOrStream(middleware string, rw http.ResponseWriter, req *http.Request, s *share) bool {
	n := req.ContentLength
	if n < 0 || n > maxMessage {
		req.Trailer = nil // a server may take trailers for headers, also for identity headers
		return true
	}
	if n > 0 {
		_, status := holdBody(req, maxMessage, s)
		if status != 0 {
			answerUnread(middleware, rw, req, status)
			return false
		}
	}
	return true
}

// passCounted is pass for a message that is long or of unknown length.
func passCounted(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) {
	s := &share{of: messageBudget}
	// The share goes back also when the proxy panics, as it does when an answer breaks off.
	defer func() { giveBack(s) }()
	if b.special {
		passSpecially(b, rw, req, e, id, s)
		return
	}
	if !holdOrStream(b.name, rw, req, s) {
		return
	}
	identify(req.Header, id)
	b.next.ServeHTTP(rw, req)
}
