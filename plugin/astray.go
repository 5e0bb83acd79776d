//go:build go1.21

package plugin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A request that is refused for its address may come from a stranger. It may also be the first sign
// that labels, router and other middlewares do not fit together, which the answer to the client
// does not say. The lines of the log for that are made here. They quote and cut what the request
// brought.

const maxShown = 100 // bytes of what a request brought

func shown(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return strconv.Quote(text)
}

// refuseForeign answers a request whose path is not the tenant's.
func (b *bouncer) refuseForeign(rw http.ResponseWriter, req *http.Request, t *tenant) {
	countCause(t.sidecar.figures, "not_found")
	came := "a request for " + shown(req.URL.Path) + " is answered 404: "
	stripped := req.Header.Get("X-Forwarded-Prefix")
	replaced := req.Header.Get("X-Replaced-Path")
	serves := t.publicURL + " and what is below it"
	switch {
	case stripped != "": // of the middlewares stripPrefix and stripPrefixRegex
		complain(b.name, "stripped", came+"something before this middleware has taken "+shown(stripped)+" from the path (stripPrefix): put this middleware first; it serves "+serves)
	case replaced != "": // of replacePath and replacePathRegex
		complain(b.name, "replaced", came+"something before this middleware has replaced the path "+shown(replaced)+" (replacePath): put this middleware first; it serves "+serves)
	case strings.HasPrefix(req.URL.Path, "/.well-known/"):
		complain(b.name, "document", came+"the documents that this middleware serves are those of "+t.publicURL+"; if it should be this one, make the path of publicURL, or pathPrefix, and the router's rule agree")
	default:
		complain(b.name, "path", came+"this middleware serves "+serves+": make the path of publicURL, or pathPrefix, and the router's rule agree")
	}
	answer(rw, req, http.StatusNotFound, `{"error":"not_found"}`)
}

// refuseMalformed answers a request whose path could be read in two ways.
func (b *bouncer) refuseMalformed(rw http.ResponseWriter, req *http.Request) {
	path := either(req.URL.RawPath, req.URL.Path)
	b.countAstray("path")
	complain(b.name, "plain path", "a request for "+shown(path)+" is answered 400: such a path can be read in more than one way (what is percent-encoded without need, double slashes, dot segments, semicolons, backslashes); the client, or what is before this middleware, must send it plain")
	answer(rw, req, http.StatusBadRequest, `{"error":"invalid_request","error_description":"the path is not in its plain form"}`)
}

// refuseHost answers a request whose scheme or host is not that of the tenant. host is what
// tenantOf has read.
func (b *bouncer) refuseHost(rw http.ResponseWriter, req *http.Request, host string, err error) {
	b.countAstray(causes[err.Error()])
	status := http.StatusBadRequest
	code := "invalid_request"
	cause := err.Error()
	line := fmt.Sprintf("a request for the host %s is answered 400: ", shown(host))
	if errors.Is(err, errLeadsBack) { // only the operator is told what is wrong
		complain(b.name, "loop", err.Error())
		answer(rw, req, http.StatusLoopDetected, `{"error":"loop_detected","error_description":"the authorization server has the address of this server"}`)
		return
	}
	switch {
	case errors.Is(err, errMisdirected): // RFC 9110 §15.5.20
		status = http.StatusMisdirectedRequest
		code = "misdirected_request"
		line = fmt.Sprintf("a request for the host %s is answered 421, as publicURL is %s: ", shown(host), b.settings.publicURL)
		if hostname(host) == hostname(b.settings.host) {
			cause = "port"
			line += "write publicURL with the port that clients use"
		} else {
			line += "make the host of publicURL, the router's rule, and what a proxy before Traefik sends as host agree"
		}
	case errors.Is(err, errPlainHTTP):
		line += "it came by plain http, which is served only on localhost; if TLS ends at a proxy before Traefik, set the label publicURL, and let Traefik trust the proxy's X-Forwarded-Proto (forwardedHeaders.trustedIPs of the entry point)"
	default:
		line += err.Error() + "; look at the client, or at what a proxy before Traefik sends as X-Forwarded-Host"
	}
	complain(b.name, cause, line)
	answer(rw, req, status, `{"error":"`+code+`","error_description":"`+err.Error()+`"}`)
}

// hostname returns a host without its port.
func hostname(host string) string {
	u, err := url.Parse("http://" + host)
	if err != nil {
		return host
	}
	return strings.ToLower(u.Hostname())
}

// refuseSize answers a request that has too many or too long headers.
func refuseSize(b *bouncer, rw http.ResponseWriter, req *http.Request) {
	b.countAstray("headers")
	dropNamed(req.Header)
	complain(b.name, "headers", fmt.Sprintf("a request is answered 431: it has more than %d headers, or more than %d bytes of cookies", maxHeaders, maxCookies))
	answer(rw, req, http.StatusRequestHeaderFieldsTooLarge, `{"error":"invalid_request","error_description":"the request has too many or too long headers"}`)
}

// refuseQuery answers a request to the sidecar whose query is too long.
func refuseQuery(b *bouncer, rw http.ResponseWriter, req *http.Request) {
	b.countAstray("query")
	complain(b.name, "query", fmt.Sprintf("a request for the sidecar is answered 414: its query has more than %d bytes or %d parameters", maxQuery, maxParameters))
	answer(rw, req, http.StatusRequestURITooLong, `{"error":"invalid_request","error_description":"the query is too long"}`)
}

// complainOfTLS logs a public URL that clients cannot use: it leads them to another scheme than the
// one by which they came.
func (b *bouncer) complainOfTLS(host string) {
	complain(b.name, "tls", "a request for "+shown(host)+" came by TLS, but publicURL is "+b.settings.publicURL+": clients are sent to addresses of plain http; write https in publicURL")
}

// complainOfTwo finds a second bouncer on the way of one request. The first one has taken the token
// and set X-Mcp-Sub, and dropForged has left the bare name of that.
func complainOfTwo(e *endpoint, req *http.Request) {
	if _, was := req.Header[subjectHeader]; was {
		complain(e.tenant.hop.name, "two", "a request is refused that has been through a bouncer already, as its header X-Mcp-Sub says: two are on one way (entry point, router, chain), and the first takes the token; leave one of them out. Unless there is only one: then a client has made the header up")
	}
}
