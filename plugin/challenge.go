//go:build go1.21

package plugin

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// refuse answers a request to a protected path that is not let through.
//
// A client that gets 401 drops its token and asks for a new one. So the answer is not 401 when the
// signing keys cannot be fetched.
func refuse(e *endpoint, rw http.ResponseWriter, req *http.Request, err error) {
	countRefusal(e.sidecar.figures, err)
	dropSaid(req.Header)
	if e.proofs {
		refuseAsProver(e, rw, req, err)
		return
	}
	switch {
	case errors.Is(err, errKeysUnavailable):
		answerUnavailable(rw, req, http.StatusServiceUnavailable)
	case errors.Is(err, errNoToken):
		// RFC 6750 §3.1: no error code when there was no authentication information
		complainOfTwo(e, req)
		answerChallenge(rw, req, http.StatusUnauthorized, []string{challengeWithoutToken(req, e)}, unauthorized)
	case errors.Is(err, errRepeated):
		// RFC 6750 §3.1: more than one way to send a token is a malformed request
		answerChallenge(rw, req, http.StatusBadRequest, []string{`Bearer error="invalid_request", error_description="` + err.Error() + `", ` + e.challenge}, `{"error":"invalid_request"}`)
	case errors.Is(err, errScope):
		answerChallenge(rw, req, http.StatusForbidden, []string{`Bearer error="insufficient_scope", ` + e.challenge}, `{"error":"insufficient_scope"}`)
	default:
		complainOfTwo(e, req)
		complainOfProofs(e.tenant, err)
		answerChallenge(rw, req, http.StatusUnauthorized, []string{"Bearer " + faultOfToken(e, err) + endOfChallenge(e, req, err)}, unauthorized)
	}
}

const unauthorized = `{"error":"unauthorized"}`

// challengeWithoutToken has no parameters for HEAD, which MCP does not use. Qwen Code and older
// Gemini CLI begin a login with HEAD, and those that find resource_metadata there forget the
// registration endpoint of a server below a path. RFC 9728 §5.1 does not demand the parameter. All
// other methods get it.
func challengeWithoutToken(req *http.Request, e *endpoint) string {
	if req.Method == http.MethodHead {
		return "Bearer"
	}
	return "Bearer " + e.challenge
}

// answerChallenge sends challenges, each in a line of its own. Over HTTP/1.1 it assigns the map
// key, because Header().Set would send "Www-Authenticate". From HTTP/2 on all names are sent in
// small letters (RFC 9113 §8.2.1), so the key is the canonical one of Go, under which Traefik's
// access log and middlewares find the header. CORS headers are added only if a browser asks: a
// script must be able to read the challenge.
func answerChallenge(rw http.ResponseWriter, req *http.Request, status int, challenges []string, body string) {
	name := "WWW-Authenticate"
	if req.ProtoMajor >= 2 {
		name = "Www-Authenticate"
	}
	rw.Header()[name] = challenges
	answer(rw, req, status, body)
}

// exposedHeaders are the headers of an answer that MCP clients in browsers read, besides those that
// every script may read.
const exposedHeaders = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After, DPoP-Nonce"

// shareWithScripts lets the scripts of any page read an answer. Without a token the answer holds
// nothing, and "*" never goes together with cookies.
func shareWithScripts(rw http.ResponseWriter, req *http.Request) {
	if len(req.Header["Origin"]) > 0 {
		allowScripts(rw.Header())
	}
}

func allowScripts(h http.Header) {
	h["Access-Control-Allow-Origin"] = []string{"*"}
	h["Access-Control-Expose-Headers"] = []string{exposedHeaders}
}

// maxChallenge bounds the part of an MCP server's own challenge that the log shows, in bytes. The
// remedy stands behind it and must not be cut off.
const maxChallenge = 500

// complainOfOwnChallenge looks at the answer to the first request with a token. An MCP server that
// wants a token itself gets none, and sends clients to its own metadata, which they often cannot
// reach. The challenge is left in the answer. Removing it would need a ResponseWriter of our own
// before every answer. In Yaegi that costs 90 allocations besides 240, and no stream would be
// flushed any more.
//
// The challenge of a server that was given a secret is not shown: servers cite what they refuse.
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
		case b.settings.upstream != nil:
			why = ", which may cite the provider's token and is not shown: it does not take what the label upstreamToken gives it, and its own log says why; or it wants a token of its own, which only the label backendAuthorization gives it"
		case b.settings.backend != nil:
			why = ", which may cite a secret and is not shown: it does not take what the label backendAuthorization gives it"
		case asksFor(b.settings.identityHeaders, "assertion"):
			why = ", which may cite the assertion and is not shown: it does not take that, and its own log says why; or it wants a token, which only the label backendAuthorization gives it"
		}
		complain(b.name, "challenge", "the MCP server has answered a request that was let in with a challenge of its own"+why)
	}
}

// complainOfOwnCORS looks at an answer that has passed. Traefik's proxies add the MCP server's
// headers to those that are set, and a browser that finds two allowed origins takes neither (Fetch,
// CORS check). Only a wrapped ResponseWriter could prevent that, and in Yaegi it would cost the
// streams.
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
const allowedHeaders = "Authorization, DPoP, Content-Type, Accept, Last-Event-ID, Mcp-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name"

// answerPreflight allows requests from any origin. A request still needs its token, and browsers
// never send cookies to "*".
func answerPreflight(rw http.ResponseWriter, asked http.Header) {
	allowed := []string{allowedHeaders}
	names := strings.Join(asked["Access-Control-Request-Headers"], ",")
	// No browser asks for so many, and a stranger must not make Traefik split them all.
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
