//go:build go1.21

package plugin

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// refuse answers a request to a protected path that may not pass.
//
// A client that gets 401 drops its token and asks for a new one, so keys that cannot be fetched are
// not a 401.
func refuse(e *endpoint, rw http.ResponseWriter, req *http.Request, err error) {
	switch {
	case errors.Is(err, errKeysUnavailable):
		answerUnavailable(rw, req, http.StatusServiceUnavailable)
	case errors.Is(err, errNoToken):
		// RFC 6750 §3.1: no error code when there was no authentication information
		complainOfTwo(e, req)
		answerChallenge(rw, req, http.StatusUnauthorized, challengeWithoutToken(req, e), `{"error":"unauthorized"}`)
	case errors.Is(err, errRepeated):
		// RFC 6750 §3.1: more than one way to send a token is a malformed request
		answerChallenge(rw, req, http.StatusBadRequest, `Bearer error="invalid_request", error_description="`+err.Error()+`", `+e.challenge, `{"error":"invalid_request"}`)
	case errors.Is(err, errScope):
		answerChallenge(rw, req, http.StatusForbidden, `Bearer error="insufficient_scope", `+e.challenge, `{"error":"insufficient_scope"}`)
	default:
		complainOfTwo(e, req)
		answerChallenge(rw, req, http.StatusUnauthorized, `Bearer error="invalid_token", error_description="`+err.Error()+`", `+e.challenge, `{"error":"unauthorized"}`)
	}
}

// challengeWithoutToken is bare for HEAD, which MCP does not have: Qwen Code and older Gemini CLI
// begin a login with it, and those that find resource_metadata there forget the registration
// endpoint of a server below a path. RFC 9728 §5.1 does not demand the parameter, and every other
// method gets it.
func challengeWithoutToken(req *http.Request, e *endpoint) string {
	if req.Method == http.MethodHead {
		return "Bearer"
	}
	return "Bearer " + e.challenge
}

// answerChallenge assigns the map key, because Header().Set would send "Www-Authenticate" over
// HTTP/1.1. From HTTP/2 on every name is sent in small letters (RFC 9113 §8.2.1), so the key may be
// the one under which Traefik's access log and middlewares find the header: the canonical one of
// Go. CORS headers come only where a browser asks: a script must be able to read the challenge.
func answerChallenge(rw http.ResponseWriter, req *http.Request, status int, challenge, body string) {
	name := "WWW-Authenticate"
	if req.ProtoMajor >= 2 {
		name = "Www-Authenticate"
	}
	rw.Header()[name] = []string{challenge}
	answer(rw, req, status, body)
}

// exposedHeaders are what MCP clients in browsers read, besides what every script may.
const exposedHeaders = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After"

// shareWithScripts lets the scripts of any page read an answer: without a token there is nothing in
// it, and "*" never goes with cookies.
func shareWithScripts(rw http.ResponseWriter, req *http.Request) {
	if len(req.Header["Origin"]) > 0 {
		allowScripts(rw.Header())
	}
}

func allowScripts(h http.Header) {
	h["Access-Control-Allow-Origin"] = []string{"*"}
	h["Access-Control-Expose-Headers"] = []string{exposedHeaders}
}

// maxChallenge is how much of a server's own challenge the log shows, in bytes. What to do stands
// behind it, and must not be cut off.
const maxChallenge = 500

// complainOfOwnChallenge looks at the answer to a token that was not known: a server that wants a
// token itself gets none, and sends clients to its own metadata, which they often cannot reach. The
// challenge stays: to take it away a ResponseWriter of our own would stand before every answer. In
// Yaegi that is 90 allocations more on 240, and no stream is flushed any more.
//
// Of a server that was given a secret nothing is shown: servers cite what they refuse.
func complainOfOwnChallenge(b *bouncer, h http.Header, e *endpoint) {
	for _, challenge := range h["Www-Authenticate"] {
		if strings.Contains(challenge, e.metadata) { // a refusal of ours, over HTTP/2
			continue
		}
		if len(challenge) > maxChallenge {
			challenge = challenge[:maxChallenge] + "…"
		}
		why := " (WWW-Authenticate: " + challenge + "): it wants a token, and gets none from here. Turn its own authorization off, or give it what it wants by the label backendAuthorization"
		switch {
		case b.settings.backend != nil:
			why = ", which may cite a secret and is not shown: it does not take what the label backendAuthorization gives it"
		case asksFor(b.settings.identityHeaders, "assertion"):
			why = ", which may cite the assertion and is not shown: it does not take that, and its own log says why; or it wants a token, which only the label backendAuthorization gives it"
		}
		complain(b.name, "challenge", "the MCP server has answered a request that was let in with a challenge of its own"+why)
	}
}

// complainOfOwnCORS looks at an answer that has passed. Traefik's proxies add the MCP server's
// headers to those that are set, and of two allowed origins a browser takes none (Fetch, CORS
// check). Only a wrapped ResponseWriter could prevent it, and in Yaegi that costs the streams.
func complainOfOwnCORS(middleware string, h http.Header) {
	if len(h["Access-Control-Allow-Origin"]) > 1 {
		complain(middleware, "cors", "label cors: the MCP server sends Access-Control-Allow-Origin itself, and no browser takes two: leave the label out, or turn the server's CORS off")
	}
}

// refuseMessage answers in JSON-RPC. Clients of MCP 2026-07-28 take a 400 with any other body for
// that of an older server, and begin anew in its way. id is JSON; message needs no escapes.
func refuseMessage(rw http.ResponseWriter, req *http.Request, status int, code int, id, message string) {
	answer(rw, req, status, `{"jsonrpc":"2.0","id":`+id+`,"error":{"code":`+strconv.Itoa(code)+`,"message":"`+message+`"}}`)
}

// isPreflight recognises a CORS preflight. Browsers send it without credentials, so it must be
// answered without them; any other OPTIONS request needs a token like every method.
func isPreflight(h http.Header) bool {
	return len(h["Origin"]) == 1 && len(h["Access-Control-Request-Method"]) == 1
}

// allowedHeaders are what MCP clients in browsers send.
const allowedHeaders = "Authorization, Content-Type, Accept, Last-Event-ID, Mcp-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name"

// answerPreflight lets any origin ask: a request still needs its token, and "*" never sends cookies
// along.
func answerPreflight(rw http.ResponseWriter, asked http.Header) {
	allowed := []string{allowedHeaders}
	names := strings.Join(asked["Access-Control-Request-Headers"], ",")
	// no browser asks for so many; splitting them all would be a stranger's gain
	if len(names) > 1024 {
		names = ""
	}
	for _, name := range strings.Split(names, ",") {
		name = strings.TrimSpace(name)
		if name != "" && len(name) <= 64 && len(allowed) < 32 && strings.Trim(name, tokenChars) == "" {
			allowed = append(allowed, name)
		}
	}
	h := rw.Header()
	h["Access-Control-Allow-Origin"] = []string{"*"}
	h["Access-Control-Allow-Methods"] = []string{"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	h["Access-Control-Allow-Headers"] = []string{strings.Join(allowed, ", ")}
	h["Access-Control-Max-Age"] = []string{"7200"}
	rw.WriteHeader(http.StatusNoContent)
}
