//go:build go1.21

package plugin

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// The package mcp judges messages. Here the body is read for it, and its verdict is answered.

// permit answers a request that the rules do not allow. It says whether the request may go on, and
// whether it asks for tools/list. s is the share of the budget of a message that is counted.
func permit(r *mcp.Rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, s *share) (ok, lists bool) {
	h := req.Header
	if req.Method != "POST" && !carriesMessage(req) {
		return true, false
	}
	types := h["Content-Type"]
	if (len(types) != 1 || types[0] != "application/json" || len(h["Content-Encoding"]) > 0) && !isPlainJSON(h) {
		refuseMedia(r, rw, req, e, id)
		return false, false
	}
	body, status := holdBody(req, maxMessage, s)
	if status != 0 {
		refuseBody(r, rw, req, e, id, status)
		return false, false
	}
	v := mcp.Inspect(r, h, body)
	if v.Code != 0 || v.Needed != nil && !hasScopes(id.scopes, v.Needed) {
		refuseVerdict(r, rw, req, e, id, v, body)
		return false, false
	}
	if id.signIn != nil && !signedInFor(r, rw, req, e, id, v) {
		return false, false
	}
	if v.Calls != "" {
		h[callHeader] = []string{v.Calls}
	}
	return true, v.Lists
}

// judged is the outcome of a message that the rules let through.
type judged struct {
	calls string // Verdict.Calls
	named bool   // it is not empty
}

// sketched are the messages whose sketches are the same but for digits. They differ in the text
// that stands in the sketch at from to to: the name of a tool with digits in it.
type sketched struct {
	from, to int
	judged   map[string]*judged // by that text
}

// maxJudged bounds what a middleware remembers of them, and maxSketch the name of one.
const (
	maxJudged = 1024
	maxSketch = 512 // bytes
)

// judgesAlone says that labels ask for nothing of a message but that rules judge it. A sign-in
// grows old: what was decided about it does not stand.
func judgesAlone(s *settings) bool {
	return s.rules != nil && (s.stepup == nil || !s.stepup.ForScopes()) && !s.hide && !s.cors && s.backend == nil && !asksFor(s.identityHeaders, "assertion")
}

// passJudged is passMore for a middleware that judgesAlone. A message is read as in permit, but
// what the rules say of its method and subject, with these scopes, is looked up: it has been
// decided before. Its headers are those with which the layout was learned (learnLayout), so they
// need not be looked at.
func passJudged(b *bouncer, rw http.ResponseWriter, req *http.Request, k *knownRequest) {
	var yes bool // see shortWay
	n := req.ContentLength
	yes = k.layout == nil
	if yes {
		passUnjudged(b, rw, req, k)
		return
	}
	yes = n <= 0
	if yes {
		passMore(b, rw, req, k)
		return
	}
	yes = n > maxUncounted
	if yes {
		passMore(b, rw, req, k)
		return
	}
	yes = req.Body == nil
	if yes {
		passMore(b, rw, req, k)
		return
	}
	body := make([]byte, n+1)
	var got int // with ":=" it would be made twice
	got, _ = readFull(req.Body, body)
	yes = int64(got) != n
	if yes {
		refuseMisread(b, rw, req, k, got)
		return
	}
	body = body[:n]
	req.Body = nopCloser(newReader(body))
	sketch := mcp.Sketch(k.layout, body)
	knownLock.RLock()
	s := b.known.sketched[k.scopes+"\n"+sameDigits.Replace(sketch)] // empty where nothing is known
	j := s.judged[sketch[s.from:s.to]]
	knownLock.RUnlock()
	yes = j == nil
	if yes {
		passUnjudged(b, rw, req, k)
		return
	}
	req.Trailer = nil
	h := req.Header
	if j.named {
		recordCalls(h, j)
	}
	// identify, for a request without cookies
	delete(h, "Authorization")
	h.Set(subjectHeader, k.subject)
	h.Set(scopesHeader, k.scopes)
	if k.more {
		identifyKnown(h, k)
	}
	b.next.ServeHTTP(rw, req)
}

// recordCalls and identifyKnown stand here so that passJudged has fewer variables.
func recordCalls(h http.Header, j *judged) { h[callHeader] = []string{j.calls} }

func identifyKnown(h http.Header, k *knownRequest) { identify(h, k.id) }

// refuseMisread is answerMisread for a message that rules would judge.
func refuseMisread(b *bouncer, rw http.ResponseWriter, req *http.Request, k *knownRequest, got int) {
	refuseBody(b.settings.rules, rw, req, k.endpoint, k.id, misreadAt(req, got))
}

// passUnjudged is passJudged for a message that is not known by its sketch.
func passUnjudged(b *bouncer, rw http.ResponseWriter, req *http.Request, k *knownRequest) {
	if isUsualMessage(req) {
		body, status := holdBody(req, maxMessage, nil)
		if status != 0 {
			refuseBody(b.settings.rules, rw, req, k.endpoint, k.id, status)
			return
		}
		learnLayout(b, req, k, body)
	}
	passMore(b, rw, req, k)
}

// isUsualMessage says whether a message may be looked up. Headers that repeat the body are compared
// by Inspect. The method does not matter: whatever has a body is judged (permit).
func isUsualMessage(req *http.Request) bool {
	h := req.Header
	types := h["Content-Type"]
	version := h["Mcp-Protocol-Version"]
	return req.ContentLength > 0 && req.ContentLength <= maxUncounted && req.Body != nil &&
		len(types) == 1 && types[0] == "application/json" && h["Content-Encoding"] == nil && h["Mcp-Method"] == nil && h["Mcp-Name"] == nil &&
		(version == nil || len(version) == 1 && version[0] < mcp.VersionWithHeaders)
}

// learnLayout makes a message known by its sketch, and its layout to requests with the same
// headers, if the rules let it through.
func learnLayout(b *bouncer, req *http.Request, k *knownRequest, body []byte) {
	layout, from, to := mcp.LayoutOf(body)
	if layout == nil {
		return
	}
	v := mcp.Inspect(b.settings.rules, req.Header, body)
	sketch := mcp.Sketch(layout, body)
	name := k.scopes + "\n" + sameDigits.Replace(sketch)
	if v.Code != 0 || !hasScopes(k.scopes, v.Needed) || len(name) > maxSketch {
		return
	}
	laidOutSo := k.layout != nil && mcp.Sketch(k.layout, body) == sketch
	var lines bytes.Buffer
	knownLock.Lock()
	defer knownLock.Unlock()
	known := b.known
	if known.sketched == nil || known.judgedNow >= maxJudged {
		known.sketched = map[string]sketched{}
		known.judgedNow = 0
	}
	s := known.sketched[name]
	if s.judged == nil || s.from != from || s.to != to {
		s = sketched{from: from, to: to, judged: map[string]*judged{}}
		known.sketched[name] = s
	}
	if s.judged[sketch[from:to]] == nil {
		known.judgedNow++
	}
	s.judged[sketch[from:to]] = &judged{calls: v.Calls, named: v.Calls != ""}
	if laidOutSo {
		return
	}
	_ = req.Header.WriteSubset(&lines, known.left)
	hash := sha256.Sum256(lines.Bytes())
	if known.byPath[req.URL.Path][hash] == k {
		// Another one: k may be in use already.
		known.byPath[req.URL.Path][hash] = &knownRequest{endpoint: k.endpoint, id: k.id, subject: k.subject, scopes: k.scopes, expires: k.expires, life: k.life, more: k.more, layout: layout}
	}
}

// callHeader names what a message asks for, where the label auditCalls asks for that. It goes to
// the MCP server with the identity, and Traefik's access log can keep it: Traefik logs a request's
// headers as middlewares have left them. The message decides, and never Mcp-Method and Mcp-Name,
// which clients send. What a client sends under this name is dropped (forgeable).
const callHeader = "X-Mcp-Call"

// recordRefused leaves who asked for what in a request that goes no further, for the access log.
func recordRefused(r *mcp.Rules, h http.Header, id *identity, calls string) {
	if !r.NamesCalls() {
		dropSaid(h)
		return
	}
	identify(h, id)
	h[callHeader] = []string{either(calls, "unreadable")}
}

func refuseMedia(r *mcp.Rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) {
	countCause(e.sidecar.figures, "media_type")
	recordRefused(r, req.Header, id, "")
	refuseMessage(rw, req, http.StatusUnsupportedMediaType, mcp.CodeInvalid, "null", "send application/json in UTF-8, not encoded")
}

func refuseVerdict(r *mcp.Rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, v *mcp.Verdict, body []byte) {
	if v.Code == 0 {
		refuseScopes(r, rw, req, e, id, v, body)
		return
	}
	countCause(e.sidecar.figures, "message")
	recordRefused(r, req.Header, id, v.Calls)
	if v.Unknown != "" {
		complainOfMethod(e.tenant.hop.name, v.Unknown)
	}
	refuseMessage(rw, req, v.Status, v.Code, v.ID, v.Message)
}

func refuseBody(r *mcp.Rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, status int) {
	countCause(e.sidecar.figures, "body")
	recordRefused(r, req.Header, id, "")
	if status == http.StatusRequestEntityTooLarge {
		refuseMessage(rw, req, status, mcp.CodeInvalid, "null", "a message holds at most 1048576 bytes")
		return
	}
	answerUnheld(e.tenant.hop.name, rw, req, status)
}

func refuseScopes(r *mcp.Rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, v *mcp.Verdict, body []byte) {
	countCause(e.sidecar.figures, "scope_"+mcp.KindOf(body))
	recordRefused(r, req.Header, id, v.Calls)
	scope := mcp.StepUp(r, e.tenant.required, v.Needed, id.scopes)
	answerChallenge(rw, req, http.StatusForbidden, challengeFor(id, `error="insufficient_scope", scope="`+scope+`", `+e.metadata), `{"error":"insufficient_scope"}`)
}

// carriesMessage says whether a request may hold a message. Some servers do not look at the method,
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

// isPlainJSON refuses a body that a server would decode before it reads JSON. A body that is
// harmless as UTF-8 can hold another message in UTF-7, which some servers decode when charset says
// so, or another message once it is inflated.
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

const maxMethodShown = 64 // bytes of a method's name that the log shows

// complainOfMethod tells the operator how to let a method through.
func complainOfMethod(middleware, name string) {
	if len(name) > maxMethodShown {
		name = name[:maxMethodShown] + "…"
	}
	complain(middleware, "method", fmt.Sprintf("the method %q is not one of MCP that is known here, and is refused while toolScopes, resourceScopes or promptScopes guard something: "+
		"to let it through, name it in methodScopes with the scopes it needs", name))
}
