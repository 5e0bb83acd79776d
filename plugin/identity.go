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

// identityNames are what the label identityHeaders may ask for, and the header that each has by itself.
var identityNames = map[string]string{
	"sub":       subjectHeader,
	"scopes":    scopesHeader,
	"email":     "X-Mcp-Email",
	"name":      "X-Mcp-Name",
	"groups":    "X-Mcp-Groups",
	"client_id": "X-Mcp-Client-Id",
	"issuer":    "X-Mcp-Issuer",
	"assertion": "X-Mcp-Assertion",
}

// identityHeader is one header that the label asks for.
type identityHeader struct {
	claim string // of identityNames
	name  string // canonical
}

// maxIdentityHeaders bounds what each request is searched for.
const (
	maxIdentityHeaders = 16
	maxHeaderName      = 64
)

// parseIdentityHeaders reads the label: claims separated by commas, each alone or as claim=Header-Name.
func parseIdentityHeaders(text string) ([]identityHeader, error) {
	headers := []identityHeader{}
	taken := map[string]bool{}
	for _, part := range elementsOf(text, byCommasOrSpaces) {
		claim, name, named := strings.Cut(part, "=")
		own := identityNames[claim]
		if own == "" {
			return nil, fmt.Errorf("label identityHeaders: %q is none of sub, scopes, email, name, groups, client_id, issuer and assertion; write CLAIM or CLAIM=Header-Name", claim)
		}
		if !named {
			name = own
		}
		if name == "" || len(name) > maxHeaderName || strings.Trim(name, alphanumeric+"-") != "" {
			return nil, fmt.Errorf("label identityHeaders: %q: a header's name is of letters, digits and hyphens, at most %d", part, maxHeaderName)
		}
		folded := foldHeader(name)
		// A standard name carries what it says, or two MCP servers with one label each would disagree about it.
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

// reservedHeaders have a meaning to a proxy, a server or a protocol. Whoever may name one of them in a label could redirect, cut or
// authenticate requests with a claim's value. A name that ends in "-" stands for all that begin so.
var reservedHeaders = []string{
	"accept", "accept-", "access-control-", "age", "allow", "authorization", "cache-control", "cf-", "connection", "content-", "cookie", "cookie2",
	"date", "dpop", "early-data", "etag", "expect", "forwarded", "from", "host", "http2-settings", "if-", "keep-alive", "last-event-id",
	"location", "max-forwards", "mcp-", "origin", "pragma", "prefer", "priority", "proxy-", "range", "referer", "sec-", "server", "set-cookie",
	"set-cookie2", "te", "trailer", "transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent", "vary", "via", "warning",
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

// namesOf is the label in its one spelling.
func namesOf(headers []identityHeader) string {
	text := ""
	for _, h := range headers {
		text += h.claim + "=" + h.name + ","
	}
	return text
}

// identityClaims are the members of the hop that say which claims access tokens must carry.
func identityClaims(headers []identityHeader) []string {
	wanted := []string{}
	for _, claim := range []string{"email", "name", "groups"} {
		if asksFor(headers, claim) {
			wanted = append(wanted, claim)
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

// identityValues are the headers that the label asks for, with what a token says. A claim that the token lacks makes no header.
// The assertion is another token, and comes with each request (assertion.go).
func identityValues(t *tenant, token *accessToken) []headerValue {
	values := []headerValue{}
	for _, h := range t.identityHeaders {
		value := ""
		switch h.claim {
		case "sub":
			value = token.identity.subject
		case "scopes":
			value = token.identity.scopes
		case "email":
			value = encodeValue(token.claims.Email)
		case "name":
			value = encodeValue(token.claims.Name)
		case "groups":
			value = encodeGroups(token.claims.Groups)
		case "client_id":
			value = encodeValue(token.claims.ClientID)
		case "issuer":
			value = encodeValue(t.providerIssuer)
		}
		if value != "" {
			values = append(values, headerValue{name: h.name, value: value})
		}
	}
	return values
}

// visible is US-ASCII 0x21 to 0x7e without "%": what a header carries as it is.
var visible = strings.NewReplacer(" ", "", "%", "").Replace(printable)

// encodeValue makes a claim fit for a header: percent-encoded UTF-8 (RFC 3986 §2.1) as soon as one character is not visible US-ASCII, so
// that no line break gets through. A "%" is encoded too, so that no two values look alike, and percent-decoding always gives the claim.
func encodeValue(value string) string {
	if strings.Trim(value, visible) != "" {
		return url.PathEscape(value)
	}
	return value
}

// encodeGroups joins names with commas, so a comma within one is encoded. PathEscape encodes commas.
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
