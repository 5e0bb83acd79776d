// Code generated from docs/hop.md by go test ./issuer -run TestHopMembers -update. DO NOT EDIT.

package issuertest

// Tenant is the payload of a hop header (docs/hop.md). The tag sent is on members whose zero value
// is not their default, so that it must be sent.
type Tenant struct {
	PublicURL             string   `json:"publicURL"`
	Resource              string   `json:"resource"`
	Audience              string   `json:"audience"`
	ProviderIssuer        string   `json:"providerIssuer"`
	ClientID              string   `json:"clientID"`
	ClientSecret          string   `json:"clientSecret"`
	ClientAuth            string   `json:"clientAuth"`
	Scopes                []string `json:"scopes" sent:"always"`
	RequiredScopes        []string `json:"requiredScopes"`
	MCPPaths              []string `json:"mcpPaths" sent:"always"`
	Exchange              string   `json:"exchange"`
	Generation            uint32   `json:"generation"`
	DisplayName           string   `json:"displayName"`
	Logo                  string   `json:"logo"`
	AllowedEmails         []string `json:"allowedEmails"`
	AllowedDomains        []string `json:"allowedDomains"`
	AllowedGroups         []string `json:"allowedGroups"`
	AllowedSubjects       []string `json:"allowedSubjects"`
	GroupsClaim           string   `json:"groupsClaim"`
	ScopeRules            []string `json:"scopeRules"`
	ScopesSupported       []string `json:"scopesSupported"`
	IdentityClaims        []string `json:"identityClaims"`
	PrivateRedirectURIs   []string `json:"privateRedirectURIs"`
	ProviderParameters    []string `json:"providerParameters"`
	Refresh               string   `json:"refresh"`
	UpstreamCheckInterval int64    `json:"upstreamCheckInterval" sent:"always"`
	EnterpriseIssuers     []string `json:"enterpriseIssuers"`
	WorkloadIssuers       []string `json:"workloadIssuers"`
	Registration          string   `json:"registration"`
	AllowedClients        []string `json:"allowedClients"`
	DPoP                  string   `json:"dpop"`
	UpstreamToken         []string `json:"upstreamToken"`
	ProviderType          string   `json:"providerType"`
	AuthorizationEndpoint string   `json:"authorizationEndpoint"`
	TokenEndpoint         string   `json:"tokenEndpoint"`
	UserinfoEndpoint      string   `json:"userinfoEndpoint"`
	ClaimNames            []string `json:"claimNames"`
	AuthenticationRules   []string `json:"authenticationRules"`
	RememberConsent       int64    `json:"rememberConsent"`
}
