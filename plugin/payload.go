//go:build go1.21

package plugin

import (
	"encoding/json"
	"strconv"
)

// hopVersion is the version of the payload. A new member does not raise it: a side that does not
// know the member refuses where it is set. What must raise it stands in docs/hop.md.
const hopVersion = 1

// hopPayload is the tenant configuration that the sidecar is told. docs/hop.md lists its members.
type hopPayload struct {
	PublicURL      string
	Resource       string
	Audience       string
	ProviderIssuer string
	ClientID       string
	ClientSecret   string
	ClientAuth     string
	Scopes         []string
	RequiredScopes []string
	MCPPaths       []string
	Exchange       string
	Generation     int64
	DisplayName    string
	Logo           string

	AllowedEmails   []string
	AllowedDomains  []string
	AllowedGroups   []string
	AllowedSubjects []string
	GroupsClaim     string
	ScopeRules      []string
	ScopesSupported []string
	IdentityClaims  []string

	PrivateRedirectURIs []string
	ProviderParameters  []string // each NAME=VALUE

	Refresh string
	// UpstreamCheckInterval is in seconds.
	UpstreamCheckInterval int64
}

// hopMember is a member of the payload: its value and its default as JSON.
type hopMember struct {
	name  string
	value string
	// standard is what both sides take where the member is left out. Empty: it is always sent.
	standard string
}

// hopMembers is the table of the payload. The sidecar has the other half of it in issuer/hop.go;
// the vectors in testdata/hop hold both to one reading.
func hopMembers(p *hopPayload) []hopMember {
	return []hopMember{
		{"publicURL", quote(p.PublicURL), ""},
		{"resource", quote(p.Resource), ""},
		{"audience", quote(p.Audience), quote(p.Resource)},
		{"providerIssuer", quote(p.ProviderIssuer), ""},
		{"clientID", quote(p.ClientID), ""},
		{"clientSecret", quote(p.ClientSecret), `""`},
		{"clientAuth", quote(p.ClientAuth), `"auto"`},
		{"scopes", array(p.Scopes), `["openid"]`},
		{"requiredScopes", array(p.RequiredScopes), `[]`},
		{"mcpPaths", array(p.MCPPaths), `["/mcp","/sse"]`},
		{"exchange", quote(p.Exchange), `"auto"`},
		{"generation", strconv.FormatInt(p.Generation, 10), `0`},
		{"displayName", quote(p.DisplayName), quote(p.Resource)},
		{"logo", quote(p.Logo), `""`},
		{"allowedEmails", array(p.AllowedEmails), `[]`},
		{"allowedDomains", array(p.AllowedDomains), `[]`},
		{"allowedGroups", array(p.AllowedGroups), `[]`},
		{"allowedSubjects", array(p.AllowedSubjects), `[]`},
		{"groupsClaim", quote(p.GroupsClaim), `"groups"`},
		{"scopeRules", array(p.ScopeRules), `[]`},
		{"scopesSupported", array(p.ScopesSupported), `[]`},
		{"identityClaims", array(p.IdentityClaims), `[]`},
		{"privateRedirectURIs", array(p.PrivateRedirectURIs), `[]`},
		{"providerParameters", array(p.ProviderParameters), `[]`},
		{"refresh", quote(p.Refresh), `"auto"`},
		{"upstreamCheckInterval", strconv.FormatInt(p.UpstreamCheckInterval, 10), `3600`},
	}
}

// encodePayload writes the payload. A member at its default is left out, so that a sidecar which
// does not know the member yet serves every tenant that does not use it.
func encodePayload(p *hopPayload) []byte {
	text := `{"v":` + strconv.Itoa(hopVersion)
	for _, m := range hopMembers(p) {
		if m.value != m.standard {
			text += `,"` + m.name + `":` + m.value
		}
	}
	return []byte(text + "}")
}

// quote cannot fail: what is not UTF-8 is replaced.
func quote(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

// array is never null: the sidecar refuses that.
func array(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	encoded, _ := json.Marshal(list)
	return string(encoded)
}
