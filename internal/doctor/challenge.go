package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// challenge is what a client learns of a 401 (RFC 6750 section 3, RFC 9728 section 5.1).
type challenge struct {
	text     string
	bearer   bool // the first challenge is Bearer's: some clients read no other
	dpop     bool // it is DPoP's (RFC 9449 section 7.1)
	metadata string
	scope    string
}

var parameter = lazyregexp.Regexp{Text: `(?i)\b(resource_metadata|scope)=(?:"([^"]*)"|([^\s",]+))`}

func parseChallenge(values []string) *challenge {
	c := &challenge{text: strings.Join(values, ", ")}
	c.bearer = strings.EqualFold(strings.TrimSpace(c.text), "bearer") || len(c.text) > 6 && strings.EqualFold(c.text[:7], "bearer ")
	c.dpop = len(c.text) > 4 && strings.EqualFold(c.text[:5], "dpop ")
	for _, m := range parameter.Get().FindAllStringSubmatch(c.text, -1) {
		if value := m[2] + m[3]; strings.EqualFold(m[1], "scope") {
			c.scope = value
		} else if c.metadata == "" {
			c.metadata = value
		}
	}
	return c
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + protocol + `","capabilities":{},"clientInfo":{"name":"mcpbouncer-doctor","version":"1"}}}`
	listTools  = `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}`
)

func toMCP() http.Header {
	return http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {protocol}}
}

// guarded asks without a token, as clients begin.
func (d *doctor) guarded(ctx context.Context) {
	first := d.ask(ctx, "POST", d.mcp.String(), toMCP(), initialize)
	d.recognise(first)
	d.preview(ctx)
	switch {
	case first.err == nil && first.status == http.StatusOK:
		d.open(ctx, first)
		return
	case first.err == nil && first.status == http.StatusUnauthorized:
	default:
		f := d.explain(first)
		f.Check, f.Expected, f.Seen = "access without a token", "401 to POST", first.String()
		f.Breaks = []string{report.EveryClient}
		d.found(&f)
	}
	d.judgeChallenge("POST", first)
	for _, method := range []string{"GET", "HEAD"} {
		a := d.ask(ctx, method, d.mcp.String(), http.Header{"Accept": {"text/event-stream"}}, "")
		d.challenges[method] = parseChallenge(a.header.Values("WWW-Authenticate"))
		switch {
		case a.err == nil && a.status == http.StatusUnauthorized:
			d.good("access without a token by "+method, "401")
		case a.err == nil && a.status == http.StatusOK && !isHTML(a):
			d.found(&report.Finding{Check: "access without a token by " + method, Expected: "401", Seen: a.String(), Fault: d.fault(report.Traefik), Breaks: []string{report.EveryClient},
				Remedy: "this method reaches the server without a token: let one router with the middleware take all methods", Page: d.page("docs/routes.md")})
		case first.status == http.StatusUnauthorized:
			of := names(func(p program) bool { return p.first == method })
			if method == "GET" && (a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound) {
				of = nil // MCP lets a server have no stream
			}
			d.note("access without a token by "+method, a.String()+", not 401", "clients that begin with "+method+" do not see that a login is needed", "", of...)
		}
	}
}

func isHTML(a *answer) bool { return a.mediaType() == "text/html" }

// open is the worst finding there is, unless the server only answers the first message.
func (d *doctor) open(ctx context.Context, first *answer) {
	var reply struct {
		Result *struct {
			ServerInfo json.RawMessage `json:"serverInfo"`
		} `json:"result"`
	}
	if message := lastMessage(first); message == nil || json.Unmarshal(message, &reply) != nil || reply.Result == nil {
		d.found(&report.Finding{Check: "access without a token", Expected: "401 to POST", Seen: first.String() + ", which is not an MCP server's answer", Fault: d.fault(report.Traefik), Breaks: []string{report.EveryClient},
			Remedy: "another program answers here without a token: correct the URL, or the router's rule and its middlewares", Page: "docs/troubleshooting.md#404-421-or-400"})
		return
	}
	header := toMCP()
	if id := first.header.Get("Mcp-Session-Id"); id != "" {
		header.Set("Mcp-Session-Id", id)
	}
	tools := d.ask(ctx, "POST", d.mcp.String(), header, listTools)
	if tools.err == nil && tools.status == http.StatusUnauthorized {
		d.note("access without a token", "initialize is answered without a token, tools/list is not", "clients that look for the 401 to the first message begin no login", "")
		d.judgeChallenge("POST", tools)
		return
	}
	d.found(&report.Finding{Check: "access without a token", Expected: "401 to POST", Seen: "200: THE SERVER IS OPEN TO EVERYBODY", Fault: report.Traefik, Breaks: []string{report.EveryClient},
		Remedy: "name the middleware in the label `middlewares` of every router that leads to this server", Page: "docs/troubleshooting.md#404-421-or-400"})
}

// judgeChallenge reads the 401 to the first message.
func (d *doctor) judgeChallenge(method string, a *answer) {
	c := parseChallenge(a.header.Values("WWW-Authenticate"))
	d.challenges[method] = c
	if a.err != nil || a.status != http.StatusUnauthorized {
		return
	}
	d.good("access without a token", "401 to POST")
	pointing := names(func(p program) bool { return len(p.resource) > 0 && p.resource[0] == pointed })
	wrong := func(expected, seen, remedy string, fault report.Fault, of []string) {
		d.found(&report.Finding{Check: "challenge", Expected: expected, Seen: seen, Fault: fault, Breaks: of, Remedy: remedy, Page: d.page("docs/middlewares.md")})
	}
	switch metadata, err := url.Parse(c.metadata); {
	case c.text == "": // RFC 9110 section 15.5.2 wants one. Whom that breaks, the documents show.
		wrong("WWW-Authenticate with Bearer", "a 401 without it, so that clients are left to the well-known places",
			"something in front takes the header out, or answers 401 itself: see what stands before the MCP server's authorization", d.fault(report.Traefik), nil)
	case !c.bearer && !c.dpop:
		wrong("a challenge that begins with Bearer", c.text, "what stands in front (basicAuth, forwardAuth) answers first: take it off this route", d.fault(report.Traefik), nil)
	case c.metadata == "":
		d.note("challenge", c.text+", without resource_metadata", "clients then look at the well-known places", "")
	case err != nil || metadata.Host == "":
		wrong("resource_metadata with a whole URL", c.metadata, "the URL of the document, with scheme and host", d.fault(report.Label), breaks(pointing))
	case metadata.Scheme == "http" && d.mcp.Scheme == "https":
		wrong("resource_metadata by https", c.metadata, "write https in the label publicURL; without that label, let Traefik trust the proxy before it (forwardedHeaders.trustedIPs)", d.fault(report.Label), breaks(pointing))
	case origin(metadata) != origin(d.mcp):
		remedy := "let the 401 name the host of the URL that clients use"
		if d.ours {
			remedy += " (the label publicURL)"
		}
		d.found(&report.Finding{Check: "challenge", Expected: "resource_metadata on the server's own origin, " + origin(d.mcp), Seen: c.metadata, Fault: d.fault(report.Label), Page: d.page("docs/middlewares.md"),
			Breaks: names(func(p program) bool { return p.ownOrigin }), Hinders: names(func(p program) bool { return p.sameOrigin }), Remedy: remedy})
	case c.dpop:
		d.good("challenge", "DPoP with resource_metadata")
	default:
		d.good("challenge", "Bearer with resource_metadata")
	}
	others := slices.DeleteFunc(slices.Clone(a.header.Values("WWW-Authenticate")), func(value string) bool { return parseChallenge([]string{value}).dpop })
	if len(others) > 1 {
		d.note("challenge", fmt.Sprintf("%d challenges in one answer", len(a.header.Values("WWW-Authenticate"))), "some clients read the first one only", "")
	}
}

// preview finds out early whether the server is ours, as lines say more then.
func (d *doctor) preview(ctx context.Context) {
	r, err := d.readResource(ctx, wellKnown(d.mcp, nameResource, d.mcp.Path))
	if err != nil || len(r.Servers) == 0 {
		return
	}
	if u, err := url.Parse(r.Servers[0]); err == nil {
		if s, err := d.readServer(ctx, wellKnown(u, nameServer, strings.TrimSuffix(u.Path, "/"))); err == nil {
			d.ours = d.ours || s.isOurs()
		}
	}
}

// recognise says whether MCPBouncer answers: then more can be said.
func (d *doctor) recognise(a *answer) {
	code, description := a.oauthError()
	ours := map[string]bool{
		"misconfigured": true, "misdirected_request": true, "loop_detected": true,
		"not_found":               strings.TrimSpace(string(a.body)) == `{"error":"not_found"}`,
		"unauthorized":            strings.TrimSpace(string(a.body)) == `{"error":"unauthorized"}` && strings.Contains(a.header.Get("WWW-Authenticate"), "/.well-known/oauth-protected-resource"),
		"temporarily_unavailable": description == "the authorization server cannot be reached",
		"invalid_request":         strings.Contains(description, "plain http is served only on localhost"),
	}
	d.ours = d.ours || ours[code]
}

// explain says who is at fault for an answer that is not the one expected, and what to do. It knows
// the answers of the plugin and of Traefik; of others it says what it can.
func (d *doctor) explain(a *answer) report.Finding {
	d.recognise(a)
	code, description := a.oauthError()
	text := string(a.body)
	const page = "docs/troubleshooting.md#500-to-508"
	const paths = "docs/troubleshooting.md#404-421-or-400"
	say := func(fault report.Fault, remedy, page string) report.Finding {
		return report.Finding{Fault: fault, Remedy: remedy, Page: page}
	}
	switch {
	case errors.Is(a.err, errNoAnswer) && d.ours:
		return say(report.Sidecar, "the sidecar does not answer in time: see whether it hangs, what stands between it and Traefik, and its log", page)
	case a.err != nil:
		return say(d.fault(report.Traefik), "see whether the server runs, and what stands before it", "")
	case code == "misconfigured":
		return say(report.Label, "a label is misspelt, missing or of a wrong form: Traefik's log names it, and so does mcpbouncer lint", page)
	case code == "misdirected_request":
		return say(report.Label, "publicURL has another host or port than the one that clients use: make them agree", paths)
	case code == "loop_detected":
		return say(report.Label, "sidecarURL leads back to Traefik: give the sidecar's own address", page)
	case description == "the authorization server cannot be reached" && a.status == http.StatusBadGateway:
		return say(report.Sidecar, "the sidecar is down, or something else listens at sidecarURL: Traefik's log says which", page)
	case description == "the authorization server cannot be reached":
		return say(report.Sidecar, "the sidecar refuses Traefik: hop key of another master, clocks apart, or versions apart; Traefik's log says which", page)
	case strings.Contains(description, "plain http is served only on localhost"):
		return say(report.Label, "TLS ends before Traefik: set the label publicURL, and let Traefik trust the proxy's X-Forwarded-Proto (forwardedHeaders.trustedIPs)", paths)
	case d.ours && code == "not_found":
		return say(report.Label, "the path of publicURL is not that of the router's rule, or stripPrefix or replacePath stands before the bouncer: Traefik's log says which", paths)
	case a.status == http.StatusNotFound && strings.HasPrefix(text, "404 page not found"):
		return say(report.Traefik, "no router takes this path: its rule needs the whole of Host(…) && PathRegexp(`^(/\\.well-known/[a-z-]+)?"+strings.TrimSuffix(d.prefix(), "/")+"(/|$)`)", "docs/routes.md")
	case a.status == http.StatusTooManyRequests:
		return say(d.fault(report.Traefik), "a rate limit: put it in front of registration and nothing else", "docs/routes.md#a-rate-limit")
	case a.status == http.StatusForbidden:
		return say(d.fault(report.Traefik), "something in front refuses (ipAllowList, a firewall of web applications): let clients' addresses through", d.page("docs/middlewares.md"))
	case a.status/100 == 3:
		return say(d.fault(report.Traefik), "something in front redirects, to a login page (forwardAuth) or to another address (redirectRegex, a slash): take it off this route", d.page("docs/middlewares.md"))
	case a.status == http.StatusUnauthorized:
		return say(d.fault(report.Traefik), "documents must be readable without a token or a password: take basicAuth or forwardAuth off this route", d.page("docs/middlewares.md"))
	case a.status == http.StatusBadGateway || a.status == http.StatusGatewayTimeout || a.status == http.StatusServiceUnavailable:
		return say(d.fault(report.Traefik), "the proxy does not reach what is behind it: see whether that runs", "")
	case a.status == http.StatusOK:
		return say(d.fault(report.Traefik), "another program answers this path, and not the authorization server: the router's rule must take it, before others do", "docs/routes.md")
	case a.status >= 500:
		return say(d.fault(report.Sidecar), "the server's log says why", "")
	}
	return say(d.fault(report.Traefik), "the server, or what stands before it, does not serve this", "")
}

// prefix is the first segment of the path: the middleware's, as a rule.
func (d *doctor) prefix() string {
	path := d.mcp.Path
	if i := strings.LastIndex(strings.TrimSuffix(path, "/"), "/"); i > 0 {
		return path[:i]
	}
	return path
}

// lastMessage is the JSON-RPC message of an answer, of a stream the last one.
func lastMessage(a *answer) []byte {
	if !isStream(a) {
		return a.body
	}
	var last []byte
	for line := range strings.Lines(string(a.body)) {
		if data, ok := strings.CutPrefix(line, "data:"); ok && strings.Contains(data, "{") {
			last = []byte(strings.TrimSpace(data))
		}
	}
	return last
}
