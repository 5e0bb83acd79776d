//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// dial is a function because Yaegi does not accept the method value dialer.DialContext for a field.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	return dialer.DialContext(ctx, network, address)
}

// maxQuery is the length of a whole header that the sidecar reads, in bytes. maxParameters bounds
// the parameters that are signed one by one (canonicalQuery), also for strangers.
const (
	maxQuery      = 32 << 10
	maxParameters = 100
)

const unavailable = `{"error":"temporarily_unavailable","error_description":"the authorization server cannot be reached"}`

// unavailablePage tells a person that the sidecar cannot be reached. It needs nothing else: all
// other pages come from the sidecar.
const unavailablePage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>You cannot sign in at the moment</title>
</head>
<body>
<main>
<h1>You cannot sign in at the moment</h1>
<p>What signs people in to this server does not answer.</p>
<p>Wait a minute, and reload this page. If it stays so, tell whoever runs the server: the log of its proxy says why.</p>
</main>
</body>
</html>
`

// forward passes a request to the sidecar, under the given path. Every failure is answered here:
// the MCP server never sees a request for an OAuth path.
func (b *bouncer) forward(rw http.ResponseWriter, req *http.Request, t *tenant, path string) {
	query := req.URL.RawQuery
	if len(query) > maxQuery || strings.Count(query, "&") > maxParameters {
		refuseQuery(b, rw, req)
		return
	}
	ticket, err := t.hop.header(now().Unix())
	if err != nil {
		countFailure(t.sidecar.figures, "hop_key")
		complain(b.name, "hop", err.Error())
		forwardUnavailable(rw, req, http.StatusServiceUnavailable)
		return
	}
	held := &share{of: forwardBudget}
	defer func() { giveBack(held) }()
	var counted *share // nil: not counted
	if req.ContentLength < 0 || req.ContentLength > maxUncounted {
		counted = held
	}
	if _, status := holdBody(req, maxForwarded, counted); status != 0 {
		answerUnread(b.name, rw, req, status)
		return
	}
	// No request to the sidecar is an upgrade, and ReverseProxy would blame an odd one on the
	// sidecar.
	delete(req.Header, "Upgrade")
	var way http.RoundTripper = finalAnswers{t.hop.transport()}
	proxy := &httputil.ReverseProxy{
		Transport:      way,
		Rewrite:        func(p *httputil.ProxyRequest) { b.rewrite(p, ticket.value, path) },
		ModifyResponse: func(resp *http.Response) error { return checkAnswer(t.hop, ticket, resp) },
		ErrorHandler:   func(rw http.ResponseWriter, req *http.Request, err error) { b.forwardFailed(rw, req, t, err) },
	}
	proxy.ServeHTTP(rw, req)
}

// finalAnswers is a transport that drops interim answers (RFC 9110 §15.2). ReverseProxy would pass
// them on before the mark of the sidecar has been looked for, which interim answers cannot bear.
type finalAnswers struct{ way http.RoundTripper }

// RoundTrip hides the trace through which ReverseProxy learns of interim answers. The request still
// ends with that of the client.
func (f finalAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(req.Context(), cancel)
	return f.way.RoundTrip(req.WithContext(ctx))
}

// rewrite makes the request to the sidecar. dropForged has deleted all spellings of the hop header
// and of ownAuthorization that a client sent. Only the hop header carries the public URL, so the
// sidecar is not shown the forwarded host.
func (b *bouncer) rewrite(p *httputil.ProxyRequest, hop, path string) {
	out := p.Out
	out.URL.Scheme = b.settings.sidecar.Scheme
	out.URL.Host = b.settings.sidecar.Host
	out.URL.Path = b.settings.sidecar.Path + path
	out.URL.RawPath = ""
	// The query stays as it came: the sidecar must see a repeated or broken parameter to refuse it.
	out.URL.RawQuery = p.In.URL.RawQuery
	out.Host = ""
	if v := p.In.Header["X-Forwarded-For"]; v != nil {
		out.Header["X-Forwarded-For"] = v
	}
	p.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Connection", "Upgrade", "Http2-Settings"} {
		delete(out.Header, name)
	}
	keepCookies(out.Header, true)
	joinTrace(p.In.Context(), out.Header)
	out.Header[hopHeader] = []string{hop}
}

func (b *bouncer) forwardFailed(rw http.ResponseWriter, req *http.Request, t *tenant, err error) {
	// otherwise the client went away, or is at fault
	if req.Context().Err() == nil && !errors.Is(err, errHeadersTooLarge) {
		countFailure(t.sidecar.figures, failureOf(err))
	}
	sidecar := b.settings.sidecar.String()
	cause, _, _ := strings.Cut(err.Error(), ":")
	switch {
	case errors.Is(err, errHeadersTooLarge): // a fault of the client
		answer(rw, req, http.StatusRequestHeaderFieldsTooLarge, `{"error":"invalid_request","error_description":"the request has too many or too long headers"}`)
	case errors.Is(err, errNotSidecar):
		complain(b.name, cause, err.Error())
		forwardUnavailable(rw, req, http.StatusBadGateway)
	case errors.Is(err, errHopRefused) || errors.Is(err, errSidecarFails) || errors.Is(err, errSignatureRefused) || errors.Is(err, errNoAWSCredentials):
		complain(b.name, cause, "sidecar "+sidecar+": "+err.Error())
		forwardUnavailable(rw, req, http.StatusServiceUnavailable)
	default:
		if req.Context().Err() == nil { // otherwise the client went away
			complain(b.name, "sidecar", "the sidecar "+sidecar+" cannot be reached (label sidecarURL): "+reason(err))
		}
		forwardUnavailable(rw, req, http.StatusBadGateway)
	}
}

// forwardUnavailable answers with a page at the paths that people open in a browser, and as clients
// expect it at all others.
func forwardUnavailable(rw http.ResponseWriter, req *http.Request, status int) {
	for _, path := range []string{"/oauth/authorize", "/oauth/consent", "/oauth/callback"} {
		if strings.HasSuffix(req.URL.Path, path) {
			h := rw.Header()
			h["Content-Security-Policy"] = []string{"default-src 'none'; frame-ancestors 'none'"}
			h["Retry-After"] = []string{strconv.Itoa(retryAfter)}
			answerAs(rw, status, "text/html; charset=utf-8", unavailablePage)
			return
		}
	}
	if req.Method == http.MethodOptions && isPreflight(req.Header) {
		answerPreflight(rw, req.Header) // a browser hides the next answer if the preflight failed
		return
	}
	answerUnavailable(rw, req, status)
}

func answerUnavailable(rw http.ResponseWriter, req *http.Request, status int) {
	rw.Header()["Retry-After"] = []string{strconv.Itoa(retryAfter)}
	answer(rw, req, status, unavailable)
}

// reason returns the text of an error without the local port, which would make each line of the log
// a new one.
func reason(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "->"); i >= 0 {
		text = text[i+2:]
	}
	return text
}
