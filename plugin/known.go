//go:build go1.21

package plugin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// This file is the short way of a request, and says why it is fast. Nearly all requests of an MCP
// client differ from the one before only in headers that change nothing here. For them everything
// has been decided before, and shortWay looks the decision up.
//
// What is slow in Yaegi: each variable, each intermediate result (a field, an element, "||", "!",
// the outcome of a comparison that is not written into a variable) and each method or function of
// another package that a function names is an allocation at every call of it, whether or not the
// branch is taken. A call of an interpreted function is a new frame; a call of a native one goes
// through reflection, and costs as much as six variables. A loop over the headers of a request
// costs as much as five native calls. The memory of a frame grows in steps: 33, 38, 43, 49, 54, 59
// and 65 variables take 100 bytes more than one less.
//
// So shortWay is one closure, which finds what was prepared in captured variables. Rare branches
// stand in functions of their own. One native call looks at all headers: Header.WriteSubset leaves
// out the names that are known to change nothing (plain), and writes what is left. Of an ordinary
// request these are the lines of Authorization, X-Forwarded-Host and X-Forwarded-Proto. Any other
// header makes the text one that is not known. Then the request takes the long way (serve), where
// each header is judged by its name.
//
// A token that comes for the first time has a short way too: firstsight.go. What takes neither is
// served by serve, and costs several times as much. Where rules judge messages, the headers on
// which that depends are looked up with the others (messageHeaders), and the message is told by the
// text around its arguments: passJudged, mcp/sketch.go.
//
// How near that is to the least: a plugin of one closure that makes the same native calls, but
// takes no lock and checks nothing, took 107 µs of Traefik's time for a GET where this took 108,
// one that does nothing 94, and Traefik without a plugin 90 (medians of 41 rounds in turn). With a
// message of 1 KB it was 116 and 130: passMessage is a second function, so that a GET has fewer
// variables.
//
// The tables here only repeat what the long way has decided: a request that is not in them loses
// time, and nothing else.

// knownRequests are the requests of one middleware that were let through. knownLock guards them.
type knownRequests struct {
	plain  map[string]bool // names that change nothing, as clients spell them
	taught int             // of plain, by requests to this middleware; bounded by maxTaught
	// plain; for a middleware that judgesAlone another map, without messageHeaders
	left map[string]bool
	// by path, then by the SHA-256 of what WriteSubset leaves: no token stays in memory longer than
	// its request. Bounded by maxKnown, in all.
	byPath map[string]map[[32]byte]*knownRequest
	size   int // a request whose identity brings long headers along counts as several
	// by scopes and sketch of a message: what the rules let through; bounded by maxJudged, in all
	sketched  map[string]sketched
	judgedNow int
	// bytes that WriteSubset has left of the request that was learned last; or maxUsual
	usual int

	// by what WriteSubset leaves besides Authorization, with the path behind it: endpoints that
	// requests with plain headers address. No line begins as a path does. Bounded by maxEndpoints,
	// of which strangers, who may have invented host and path, can fill maxPassing.
	endpoints map[string]*endpoint
}

// knownRequest is a decision.
type knownRequest struct {
	endpoint *endpoint
	id       *identity
	subject  string // of id
	scopes   string
	expires  time.Duration // of id
	life     *lifetime     // of id
	more     bool          // id has more than subject and scopes
	layout   *mcp.Layout   // of messages with these headers; nil: not known, or never looked up
}

// lifetime is the time in which the verified tokens of a tenant are good without a look at keys and
// deny document: since 1970, as since(epoch) says it. It moves on with each fetch. When a key or
// the deny document changes, the tokens get a new one, and the old one is over for ever.
type lifetime struct {
	from, until time.Duration
	headers     map[string]*spelling // of tokens that were verified: see firstSight
}

// knownLock guards all knownRequests, lifetimes and tokenCaches. Nothing is called under it that
// waits.
var knownLock sync.RWMutex

// These have names without a package, since in Yaegi each selector is one more variable.
type buffer = bytes.Buffer

var (
	sha256Sum     = sha256.Sum256
	splitN        = strings.SplitN
	trim          = strings.Trim
	hasPrefix     = bytes.HasPrefix
	unmarshal     = json.Unmarshal
	ed25519Verify = ed25519.Verify
	readFull      = io.ReadFull
	nopCloser     = io.NopCloser
	newReader     = bytes.NewReader
	indexOf       = bytes.Index
	newCipher     = aes.NewCipher
	newGCM        = cipher.NewGCM
	writeString   = io.WriteString
	addInt64      = atomic.AddInt64
	sameDigits    = mcp.SameDigits
)

// since is the clock of the short way: one native call, where now().Unix() is two. Tests set it.
var since = time.Since

// epoch holds no monotonic time, so since(epoch) is a reading of the wall clock.
var epoch = time.Unix(0, 0)

const (
	maxKnown = maxYoung
	// maxPlain leaves room below maxHeaders for what is never plain.
	maxPlain = 150
	// maxTaught leaves room in sharedPlain for the people of other middlewares.
	maxTaught = 30
	// maxUsual bounds what is set aside for the lines of a request before they are known, in bytes.
	maxUsual = 4096
	// maxKnownDate is the year 2242 in Unix seconds. Later dates do not fit a time.Duration.
	maxKnownDate = 1 << 33
)

// neverPlain are the headers on which the way of a request depends, besides those that a client
// may not send at all (forgeable, ownHeaders). They are spelt as net/http spells them, which is how
// the rest of the package looks for them.
var neverPlain = map[string]bool{
	// what is looked up
	"Authorization": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true,
	// isPreflight, passConnection, keepCookies
	"Access-Control-Request-Method": true, "Connection": true, "Upgrade": true, "Http2-Settings": true, "Cookie": true,
	// protectByProof
	proofHeader: true,
}

// usualHeaders are plain from the beginning, so that a request without a token may be known too.
// They are those of MCP's SDKs, of browsers and of Traefik.
var usualHeaders = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Baggage", "Cache-Control", "Content-Length", "Content-Type", "Dnt", "Last-Event-Id",
	"Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", "Mcp-Session-Id", "Origin", "Pragma", "Priority", "Referer", "Sec-Ch-Ua",
	"Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Gpc", "Traceparent", "Tracestate",
	"User-Agent", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip", "X-Request-Id",
}

// overwritten are plain too, since each way of a known request sets them anew, whatever a client
// says in them. Other spellings of them are not plain, so dropForged sees those.
var overwritten = []string{subjectHeader, scopesHeader}

// messageHeaders are the headers on which it depends how a message is judged. A middleware that
// judgesAlone tells its known requests apart by them too.
var messageHeaders = map[string]bool{"Content-Encoding": true, "Content-Type": true, "Mcp-Method": true, "Mcp-Name": true, "Mcp-Protocol-Version": true}

// sharedPlain are the plain names of all middlewares but those whose labels choose headers. What is
// plain to one is so to all, and a thousand maps that say the same take a processor's cache from
// one another. sharedLeft are those without messageHeaders. knownLock guards both.
var (
	sharedPlain = usualNames(nil)
	sharedLeft  = usualNames(messageHeaders)
)

func usualNames(without map[string]bool) map[string]bool {
	names := map[string]bool{}
	for _, name := range usualHeaders {
		if !without[name] {
			names[name] = true
		}
	}
	for _, name := range overwritten {
		names[name] = true
	}
	return names
}

// newKnownRequests makes the tables of a middleware. judges says that it judgesAlone.
func newKnownRequests(own *ownHeaders, judges bool) *knownRequests {
	k := &knownRequests{byPath: map[string]map[[32]byte]*knownRequest{}, endpoints: map[string]*endpoint{}}
	knownLock.Lock()
	defer knownLock.Unlock()
	if len(sharedPlain) >= maxPlain { // whoever has filled it does not do so for ever
		sharedPlain = usualNames(nil)
		sharedLeft = usualNames(messageHeaders)
	}
	k.plain = sharedPlain
	k.left = sharedLeft
	if own != nil {
		k.plain = usualNames(nil)
		k.left = usualNames(messageHeaders)
	}
	if !judges {
		k.left = k.plain
	}
	return k
}

// shortWay returns the handler of a middleware: serve, and what serve would do for a request that
// is known.
//
// Two requests with the same path and the same lines have the same outcome: learn sees to it that
// only such are known. WriteSubset takes blanks off both ends of a value, which are no part of it
// (RFC 9110 §5.5), and leaves no line break in one, so no two sets of headers have the same lines.
//
// It is a variable because of memory. In Yaegi a function that is made keeps the variables of all
// functions that were running then, for as long as the middleware lives; but not of those that have
// called one in a variable of the package.
var shortWay func(b *bouncer) http.Handler

func init() {
	shortWay = func(b *bouncer) http.Handler {
		if b.more && !b.special {
			return shortWayWithHeaders(b)
		}
		next := b.next
		known := b.known
		left := known.left
		byPath := known.byPath
		special := b.special
		judges := b.judges
		return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			var yes bool
			h := req.Header
			lines := new(buffer)
			knownLock.RLock()
			lines.Grow(known.usual)
			h.WriteSubset(lines, left) // which cannot fail
			k := byPath[req.URL.Path][sha256Sum(lines.Bytes())]
			at := since(epoch)
			// In Yaegi "if" within "if" needs fewer variables than "&&". And each outcome of a
			// comparison would be one, but for those that are written into yes.
			yes = k != nil
			if yes {
				yes = at < k.expires
				if yes {
					yes = at < k.life.until
					if yes {
						yes = at >= k.life.from
						if yes {
							yes = req.URL.RawPath == "" // as in recallEndpoint
							if yes {
								knownLock.RUnlock()
								if special {
									if judges {
										passJudged(b, rw, req, k)
										return
									}
									passMore(b, rw, req, k)
									return
								}
								yes = req.ContentLength != 0
								if yes {
									passMessage(b, rw, req, k)
									return
								}
								// identify, for a request without cookies
								delete(h, "Authorization")
								h.Set(subjectHeader, k.subject)
								h.Set(scopesHeader, k.scopes)
								next.ServeHTTP(rw, req)
								return
							}
						}
					}
				}
			}
			if judges {
				serveUnjudged(b, rw, req, lines, at)
				return
			}
			serveUnknown(b, rw, req, lines, at)
		})
	}
}

// shortWayWithHeaders is shortWay where labels ask for more headers, and for nothing else
// (identityHeaders, upstreamToken): one line more. In shortWay that line would cost every tenant a
// tenth, and a call from there as much again as all the rest.
var shortWayWithHeaders func(b *bouncer) http.Handler

func init() {
	shortWayWithHeaders = func(b *bouncer) http.Handler {
		next := b.next
		known := b.known
		left := known.left
		byPath := known.byPath
		return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			var yes bool
			h := req.Header
			lines := new(buffer)
			knownLock.RLock()
			lines.Grow(known.usual)
			h.WriteSubset(lines, left) // which cannot fail
			k := byPath[req.URL.Path][sha256Sum(lines.Bytes())]
			at := since(epoch)
			// In Yaegi "if" within "if" needs fewer variables than "&&". And each outcome of a
			// comparison would be one, but for those that are written into yes.
			yes = k != nil
			if yes {
				yes = at < k.expires
				if yes {
					yes = at < k.life.until
					if yes {
						yes = at >= k.life.from
						if yes {
							yes = req.URL.RawPath == "" // as in recallEndpoint
							if yes {
								knownLock.RUnlock()
								for _, more := range k.id.more {
									h.Set(more.name, more.value)
								}
								yes = req.ContentLength != 0
								if yes {
									passMessage(b, rw, req, k)
									return
								}
								// identify, for a request without cookies
								delete(h, "Authorization")
								h.Set(subjectHeader, k.subject)
								h.Set(scopesHeader, k.scopes)
								next.ServeHTTP(rw, req)
								return
							}
						}
					}
				}
			}
			serveUnknown(b, rw, req, lines, at)
		})
	}
}

// serveUnjudged is serveUnknown where lines are also those of messageHeaders. knownLock is held; it
// is given back.
func serveUnjudged(b *bouncer, rw http.ResponseWriter, req *http.Request, lines *bytes.Buffer, at time.Duration) {
	lines.Reset()
	_ = req.Header.WriteSubset(lines, b.known.plain)
	serveUnknown(b, rw, req, lines, at)
}

// passMore is pass for a request that is known, where labels ask for more.
func passMore(b *bouncer, rw http.ResponseWriter, req *http.Request, k *knownRequest) {
	n := req.ContentLength
	if n < 0 || n > maxUncounted {
		pass(b, rw, req, k.endpoint, k.id)
		return
	}
	passSpecially(b, rw, req, k.endpoint, k.id, nil)
}

// passMessage is pass for a request that is known and has a body.
func passMessage(b *bouncer, rw http.ResponseWriter, req *http.Request, k *knownRequest) {
	var yes bool
	n := req.ContentLength
	yes = n < 0
	if yes {
		passLong(b, rw, req, k)
		return
	}
	yes = n > maxUncounted
	if yes {
		passLong(b, rw, req, k)
		return
	}
	yes = req.Body == nil
	if yes {
		passLong(b, rw, req, k)
		return
	}
	// holdBody, for a body that is not counted
	body := make([]byte, n+1)
	var got int // with ":=" it would be made twice
	got, _ = readFull(req.Body, body)
	yes = int64(got) != n
	if yes {
		answerMisread(b, rw, req, got)
		return
	}
	req.Body = nopCloser(newReader(body[:n]))
	req.Trailer = nil
	h := req.Header
	delete(h, "Authorization")
	h.Set(subjectHeader, k.subject)
	h.Set(scopesHeader, k.scopes)
	b.next.ServeHTTP(rw, req)
}

// answerMisread answers a message of which too few or too many bytes could be read.
func answerMisread(b *bouncer, rw http.ResponseWriter, req *http.Request, got int) {
	answerUnread(b.name, rw, req, misreadAt(req, got))
}

// passLong is passMessage for a message that is counted.
func passLong(b *bouncer, rw http.ResponseWriter, req *http.Request, k *knownRequest) {
	n := req.ContentLength
	if n < 0 || n > maxMessage || req.Body == nil {
		pass(b, rw, req, k.endpoint, k.id)
		return
	}
	s := &share{of: messageBudget}
	defer func() { giveBack(s) }() // see passCounted
	body, status := readBody(req, maxMessage, s)
	if status != 0 {
		answerUnread(b.name, rw, req, status)
		return
	}
	req.Body = nopCloser(newReader(body))
	req.Trailer = nil
	h := req.Header
	delete(h, "Authorization")
	h.Set(subjectHeader, k.subject)
	h.Set(scopesHeader, k.scopes)
	b.next.ServeHTTP(rw, req)
}

// learn makes a request known whose token was remembered before, at an endpoint that was. It is
// called before the request is changed. It learns the names of headers too: a client sends the same
// ones again and again. Only those who have a token teach it any, and no more than maxTaught.
func learn(b *bouncer, req *http.Request, e *endpoint, id *identity) {
	h := req.Header
	if id.life == nil || id.expires > maxKnownDate || h["Cookie"] != nil {
		return
	}
	k := &knownRequest{endpoint: e, id: id, subject: id.subject, scopes: id.scopes, life: id.life, more: id.more != nil}
	k.expires = time.Duration(id.expires) * time.Second
	var lines bytes.Buffer
	knownLock.Lock()
	defer knownLock.Unlock()
	if !learnNames(b, h) {
		return
	}
	_ = h.WriteSubset(&lines, b.known.left)
	b.known.usual = lines.Len()
	if b.known.usual > maxUsual {
		b.known.usual = maxUsual
	}
	put(b.known, req.URL.Path, sha256.Sum256(lines.Bytes()), k)
}

// learnNames says whether all headers of a request are plain, or are looked up. It learns new
// names. knownLock is held.
func learnNames(b *bouncer, h http.Header) bool {
	plain := b.known.plain
	all := true
	for name := range h {
		if plain[name] {
			leaveOut(b.known, name)
			continue
		}
		if neverPlain[name] {
			all = all && (name == "Authorization" || name == "X-Forwarded-Host" || name == "X-Forwarded-Proto")
			continue
		}
		folded := foldHeader(name)
		if forgeable[folded] || b.own != nil && b.own.folded[folded] || len(name) > maxHeaderName || len(plain) >= maxPlain || b.known.taught >= maxTaught {
			all = false
			continue
		}
		plain[name] = true
		leaveOut(b.known, name)
		b.known.taught++
	}
	return all
}

// leaveOut has shortWay leave out a plain name, unless messages are judged by it. knownLock is
// held.
func leaveOut(known *knownRequests, name string) {
	if !messageHeaders[name] {
		known.left[name] = true
	}
}

// put adds a decision to the tables; knownLock is held. When they are full they are emptied, and
// each request takes the long way once more.
func put(known *knownRequests, path string, hash [32]byte, k *knownRequest) {
	if known.size >= maxKnown {
		for other := range known.byPath {
			delete(known.byPath, other)
		}
		known.size = 0
	}
	byHash := known.byPath[path]
	if byHash == nil {
		byHash = map[[32]byte]*knownRequest{}
		known.byPath[path] = byHash
	}
	if byHash[hash] == nil {
		known.size += 1 + heldBy(k.id)/heldUnit
	}
	byHash[hash] = k
}

// serveUnknown is serve for a request that is not known, of which all headers may be plain. lines
// is what WriteSubset leaves of them, and at the time since 1970. knownLock is held; it is given
// back. A request with plain headers needs not be searched for headers that only the bouncer may
// set, and it has few of them.
func serveUnknown(b *bouncer, rw http.ResponseWriter, req *http.Request, lines *bytes.Buffer, at time.Duration) {
	var yes bool
	h := req.Header
	credentials := h["Authorization"]
	yes = credentials == nil
	if yes {
		serveAnonymous(b, rw, req, h, lines)
		return
	}
	text := lines.String()
	parts := splitN(text, ".", 3) // of a stranger: it may be nothing but dots
	yes = len(parts) != 3
	if yes {
		serveUnseen(b, rw, req, lines)
		return
	}
	last := parts[2]
	yes = len(last) < lastLength
	if yes {
		serveUnseen(b, rw, req, lines)
		return
	}
	yes = req.URL.RawPath != "" // as in recallEndpoint
	if yes {
		serveUnseen(b, rw, req, lines)
		return
	}
	e := b.known.endpoints[last[lastLength:]+req.URL.Path]
	yes = e == nil
	if yes {
		serveUnseen(b, rw, req, lines)
		return
	}
	id := firstSight(e.sight, credentials[0], text, parts, at)
	yes = id == nil
	if yes {
		serveLeft(b, rw, req, lines)
		return
	}
	yes = id == forged
	if yes {
		refuse(e, rw, req, errSignature)
		return
	}
	if e.kept {
		yes = req.ContentLength == 0
		if yes {
			yes = !b.more
			if yes { // as in shortWay
				delete(h, "Authorization")
				h.Set(subjectHeader, id.subject)
				h.Set(scopesHeader, id.scopes)
				b.next.ServeHTTP(rw, req)
				return
			}
		}
	}
	passFirst(b, rw, req, e, id)
}

// serveUnseen is serveUnknown for a request of which the lines are not those of an access token at
// a known endpoint, or at which firstSight needs not look. knownLock is held; it is given back.
func serveUnseen(b *bouncer, rw http.ResponseWriter, req *http.Request, lines *bytes.Buffer) {
	// Authorization is the first line, or what follows is not known.
	_, _ = lines.ReadString('\n')
	e := b.known.endpoints[lines.String()+req.URL.Path]
	knownLock.RUnlock()
	if e == nil || req.URL.RawPath != "" {
		serve(b, rw, req)
		return
	}
	servePlainly(b, rw, req, e)
}

// serveLeft is serveUnseen for a request that firstSight leaves to the long way. What it has been
// told of the lines may not have been so.
func serveLeft(b *bouncer, rw http.ResponseWriter, req *http.Request, lines *bytes.Buffer) {
	knownLock.RLock()
	serveUnseen(b, rw, req, lines)
}

// passFirst is pass for the first request with a token, of which all headers are plain. Nobody is
// told of the MCP server's own challenges: a token takes the long way often enough.
func passFirst(b *bouncer, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity) {
	if !e.kept {
		keepEndpoint(b, req, e)
	}
	pass(b, rw, req, e, id)
}

// serveAnonymous is serveUnknown for a request without credentials. Where its headers are plain it
// is refuse. sent are the headers of the request.
func serveAnonymous(b *bouncer, rw http.ResponseWriter, req *http.Request, sent http.Header, lines *bytes.Buffer) {
	var yes bool // see shortWay
	e := b.known.endpoints[lines.String()+req.URL.Path]
	knownLock.RUnlock()
	yes = e == nil
	if yes {
		serve(b, rw, req)
		return
	}
	yes = req.URL.RawPath != ""
	if yes {
		serve(b, rw, req)
		return
	}
	yes = req.Method == "HEAD"
	if yes { // another challenge
		refuse(e, rw, req, errNoToken)
		return
	}
	if e.proofs { // or more
		refuse(e, rw, req, errNoToken)
		return
	}
	yes = sent[subjectHeader] != nil // of another bouncer: complainOfTwo
	if yes {
		refuse(e, rw, req, errNoToken)
		return
	}
	delete(sent, scopesHeader) // see dropSaid
	yes = addInt64(e.anonymous, 1) == 1
	if yes {
		armOf(e)
	}
	name := "WWW-Authenticate"
	yes = req.ProtoMajor >= 2
	if yes {
		name = "Www-Authenticate"
	}
	h := rw.Header()
	h[name] = []string{"Bearer " + e.challenge}
	yes = sent["Origin"] != nil
	if yes {
		shareWithScripts(rw, req)
	}
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	rw.WriteHeader(http.StatusUnauthorized)
	_, _ = writeString(rw, unauthorized)
}

// armOf stands here so that serveAnonymous has fewer variables.
func armOf(e *endpoint) { armFor(e.sidecar.figures) }

// learnEndpoint makes the endpoint of a request known to plainEndpoint, if its headers are plain.
// It learns no names: strangers send what they like.
func learnEndpoint(b *bouncer, req *http.Request, e *endpoint) {
	h := req.Header
	host := h.Get("X-Forwarded-Host")
	scheme := h.Get("X-Forwarded-Proto")
	path := req.URL.Path
	if req.URL.RawPath != "" || req.Method == "OPTIONS" || host == "" || scheme == "" || !strings.HasPrefix(path, "/") || len(host)+len(scheme)+len(path) > maxAddress {
		return
	}
	var lines bytes.Buffer
	knownLock.Lock()
	defer knownLock.Unlock()
	known := b.known
	_ = h.WriteSubset(&lines, known.plain)
	text := lines.String()
	if h["Authorization"] != nil {
		text = text[strings.Index(text, "\n")+1:]
	}
	// The key is not cut out of the lines: it would keep all of them in memory, and the token.
	key := "X-Forwarded-Host: " + host + "\r\nX-Forwarded-Proto: " + scheme + "\r\n"
	if text != key {
		return
	}
	if !e.kept && len(known.endpoints) >= maxPassing {
		return
	}
	if len(known.endpoints) >= maxEndpoints {
		for other := range known.endpoints {
			delete(known.endpoints, other)
		}
	}
	known.endpoints[key+path] = e
}

// settleLife moves a lifetime on. Times are Unix seconds; from is beyond until when a fetch is due.
// knownLock is held.
func settleLife(l *lifetime, from, until int64) {
	l.from = time.Duration(from) * time.Second
	l.until = time.Duration(until) * time.Second
}
