package issuer

import (
	"net/url"
	"slices"
	"strings"
)

// maxResource is the longest resource parameter that is looked at, in characters.
const maxResource = 512

// matchResource maps the resource parameters of a request (RFC 8707 §2) to the resource identifier
// of a token: the public URL, or an MCP endpoint of the label mcpPaths. There are no others, so a
// stranger's text reaches neither the consent page nor a token. Nothing sent means the public URL.
//
// A token is for one resource: one that is named twice, in whatever spelling, counts once, and two
// different ones are refused. The host, or a path above the public URL, means the public URL: the
// token is for less than was asked, never for more.
func (t *tenant) matchResource(values []string) (string, bool) {
	found := ""
	for _, value := range values {
		resource, ok := t.resourceOf(value)
		if !ok || found != "" && resource != found {
			return "", false
		}
		found = resource
	}
	if found == "" {
		return t.PublicURL, true
	}
	return found, true
}

func (t *tenant) resourceOf(value string) (string, bool) {
	resource, ok := normalResource(value)
	if !ok {
		return "", false
	}
	if path, below := strings.CutPrefix(resource, t.PublicURL); below {
		return resource, path == "" || slices.Contains(t.MCPPaths, path)
	}
	return t.PublicURL, resource == t.origin || strings.HasPrefix(resource, t.origin+"/") && strings.HasPrefix(t.PublicURL, resource+"/")
}

// normalResource is a URL in the one spelling that is compared: scheme and host in small letters,
// without the scheme's own port, without a slash at the end, and without the query, which people
// type and which no resource of ours has.
func normalResource(value string) (string, bool) {
	u, err := url.Parse(value)
	if err != nil || len(value) > maxResource || u.Opaque != "" || u.User != nil || strings.Contains(value, "#") {
		return "", false
	}
	path := u.EscapedPath()
	// Nothing that a server could read as another path: no encoded bytes, no dot segments.
	if strings.ContainsAny(path, "%\\;") || strings.Contains(path, "//") || slices.ContainsFunc(strings.Split(path, "/"), isDotSegment) {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return scheme + "://" + host + strings.TrimSuffix(path, "/"), true
}

func isDotSegment(segment string) bool { return segment == "." || segment == ".." }

// narrowResource is RFC 8707 §2.2: a token request may name a resource within the granted one, and
// its access token is for no other. Only a grant for the whole tenant has anything within it.
func (t *tenant) narrowResource(form url.Values, granted string) (string, error) {
	asked := given(form["resource"])
	if len(asked) == 0 {
		return granted, nil
	}
	resource, ok := t.matchResource(asked)
	if !ok || resource != granted && granted != t.PublicURL {
		return "", badRequest("invalid_target", "resource is not within the one that was granted")
	}
	return resource, nil
}
