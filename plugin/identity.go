//go:build go1.21

package plugin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	subjectHeader = "X-Mcp-Sub"
	scopesHeader  = "X-Mcp-Scopes"
)

// visible are the characters that a header carries as they are: US-ASCII 0x21 to 0x7e without "%".
var visible = strings.NewReplacer(" ", "", "%", "").Replace(printable)

// identityClaim is one claim of which the MCP server can be told.
type identityClaim struct {
	claim  string // its name in the label identityHeaders
	header string // the standard header; no client can send it (forgeable)
	carry  bool   // an access token must carry it: the hop asks the sidecar for that

	// value is the value of the header, as it is sent, for a token that was verified. For "" no
	// header is sent.
	value func(t *tenant, c *claims, id *identity) string
}

// identityTable is the one list of these claims. The error texts of the label, the headers that are
// dropped from every request and the members of the hop are computed from it. So are the tests.
var identityTable = []identityClaim{
	{claim: "sub", header: subjectHeader, value: func(t *tenant, c *claims, id *identity) string { return id.subject }},
	{claim: "scopes", header: scopesHeader, value: func(t *tenant, c *claims, id *identity) string { return id.scopes }},
	{claim: "email", header: "X-Mcp-Email", carry: true, value: func(t *tenant, c *claims, id *identity) string { return encodeValue(c.Email) }},
	{claim: "name", header: "X-Mcp-Name", carry: true, value: func(t *tenant, c *claims, id *identity) string { return encodeValue(c.Name) }},
	{claim: "groups", header: "X-Mcp-Groups", carry: true, value: func(t *tenant, c *claims, id *identity) string { return encodeGroups(c.Groups) }},
	{claim: "client_id", header: "X-Mcp-Client-Id", value: func(t *tenant, c *claims, id *identity) string { return encodeValue(c.ClientID) }},
	{claim: "issuer", header: "X-Mcp-Issuer", value: func(t *tenant, c *claims, id *identity) string { return encodeValue(t.providerIssuer) }},
	// The assertion is another token, which is made for each request (backendassertion.go).
	{claim: "assertion", header: "X-Mcp-Assertion", value: func(t *tenant, c *claims, id *identity) string { return "" }},
}

// identityClaimOf returns the row of a claim, and whether there is one.
func identityClaimOf(claim string) (identityClaim, bool) {
	for _, row := range identityTable {
		if row.claim == claim {
			return row, true
		}
	}
	return identityClaim{}, false
}

// claimsForPeople returns the claims of the table as a part of a sentence.
func claimsForPeople() string {
	names := []string{}
	for _, row := range identityTable {
		names = append(names, row.claim)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// identityHeader is one header that the label asks for.
type identityHeader struct {
	claim string // of identityTable
	name  string // canonical
}

// maxIdentityHeaders bounds the names that each request is searched for.
const (
	maxIdentityHeaders = 16
	maxHeaderName      = 64
)

// parseIdentityHeaders reads the label: claims separated by commas, each alone or as
// claim=Header-Name.
func parseIdentityHeaders(text string) ([]identityHeader, error) {
	if text == "" {
		return nil, nil
	}
	return readIdentityHeaders(text)
}

func readIdentityHeaders(text string) ([]identityHeader, error) {
	headers := []identityHeader{}
	taken := map[string]bool{}
	for _, part := range elementsOf(text, byCommasOrSpaces) {
		claim, name, named := strings.Cut(part, "=")
		row, known := identityClaimOf(claim)
		if !known {
			return nil, fmt.Errorf("label identityHeaders: %q is none of %s; write CLAIM or CLAIM=Header-Name", claim, claimsForPeople())
		}
		own := row.header
		if !named {
			name = own
		}
		if name == "" || len(name) > maxHeaderName || strings.Trim(name, alphanumeric+"-") != "" {
			return nil, fmt.Errorf("label identityHeaders: %q: a header's name is of letters, digits and hyphens, at most %d", part, maxHeaderName)
		}
		folded := foldHeader(name)
		// A standard name always carries its own claim. Otherwise two MCP servers with one label
		// each could disagree about what it means.
		if folded != foldHeader(own) && (forgeable[folded] || isReservedHeader(folded)) {
			return nil, fmt.Errorf("label identityHeaders: %q: this header has another meaning; choose a name of your own, such as X-Forwarded-User", part)
		}
		if taken[folded] {
			return nil, fmt.Errorf("label identityHeaders: %q: two claims cannot share a header", part)
		}
		taken[folded] = true
		if folded == foldHeader(subjectHeader) || folded == foldHeader(scopesHeader) {
			continue // these two are always sent
		}
		headers = append(headers, identityHeader{claim: claim, name: http.CanonicalHeaderKey(name)})
	}
	if len(headers) > maxIdentityHeaders {
		return nil, fmt.Errorf("label identityHeaders: at most %d", maxIdentityHeaders)
	}
	return headers, nil
}

// reservedHeaders have a meaning to a proxy, a server or a protocol. Whoever could name one of them
// in a label could redirect, cut or authenticate requests by the value of a claim. All of
// usualHeaders are among them: a client's own pass. A name that ends in "-" stands for all names
// that begin with it.
var reservedHeaders = []string{
	"accept", "accept-", "access-control-", "age", "allow", "authorization", "baggage", "cache-control", "cf-", "connection", "content-", "cookie", "cookie2",
	"date", "dnt", "dpop", "early-data", "etag", "expect", "forwarded", "from", "host", "http2-settings", "if-", "keep-alive", "last-event-id",
	"location", "max-forwards", "mcp-", "origin", "pragma", "prefer", "priority", "proxy-", "range", "referer", "sec-", "server", "set-cookie",
	"set-cookie2", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent", "vary", "via", "warning",
	"www-authenticate", "x-amz-", "x-amzn-", "x-client-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-method", "x-forwarded-port",
	"x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-tls-", "x-forwarded-uri",
	"x-http-method", "x-http-method-override", "x-mcp-", "x-mcpb-", "x-method-override", "x-original-", "x-real-ip", "x-request-id",
	"x-rewrite-url",
}

func isReservedHeader(folded string) bool {
	for _, reserved := range reservedHeaders {
		if folded == reserved || strings.HasSuffix(reserved, "-") && strings.HasPrefix(folded, reserved) {
			return true
		}
	}
	return false
}

// namesOf writes the label in its one spelling.
func namesOf(headers []identityHeader) string {
	text := ""
	for _, h := range headers {
		text += h.claim + "=" + h.name + ","
	}
	return text
}

// identityClaims returns the claims that access tokens must carry, for the hop.
func identityClaims(headers []identityHeader) []string {
	wanted := []string{}
	for _, row := range identityTable {
		if row.carry && asksFor(headers, row.claim) {
			wanted = append(wanted, row.claim)
		}
	}
	return wanted
}

func asksFor(headers []identityHeader, claim string) bool {
	for _, h := range headers {
		if h.claim == claim {
			return true
		}
	}
	return false
}

// headerValue is a header as it is sent.
type headerValue struct{ name, value string }

// identifyMore gives an identity what the label identityHeaders asks for. A claim that the token
// lacks makes no header.
func identifyMore(t *tenant, c *claims, id *identity) {
	values := []headerValue{}
	for _, h := range t.identityHeaders {
		row, _ := identityClaimOf(h.claim) // parseIdentityHeaders has refused all others
		value := row.value(t, c, id)
		if value != "" {
			values = append(values, headerValue{name: h.name, value: value})
		}
	}
	id.more = values
	if asksFor(t.identityHeaders, "assertion") {
		id.assertion = &assertion{}
	}
}

// encodeValue makes a claim fit for a header: percent-encoded UTF-8 (RFC 3986 §2.1) if any
// character is not visible US-ASCII, so that no line break gets through. A "%" is encoded too. So
// no two values look alike, and percent-decoding always gives the claim.
func encodeValue(value string) string {
	if strings.Trim(value, visible) != "" {
		return url.PathEscape(value)
	}
	return value
}

// encodeGroups joins names by commas. A comma in a name is encoded by PathEscape.
func encodeGroups(groups []string) string {
	encoded := []string{}
	for _, group := range groups {
		if strings.Trim(group, visible) != "" || strings.Contains(group, ",") {
			group = url.PathEscape(group)
		}
		if group != "" {
			encoded = append(encoded, group)
		}
	}
	return strings.Join(encoded, ",")
}
