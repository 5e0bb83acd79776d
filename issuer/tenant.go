package issuer

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// tenant is the configuration of one protected MCP server, as its labels say (docs/hop.md). The
// plugin leaves out a member at its default; one without a default must be there.
type tenant struct {
	PublicURL string `json:"publicURL"`
	Resource  string `json:"resource"`
	// Audience and DisplayName are Resource where they are left out.
	Audience       string   `json:"audience" default:"\"\""`
	ProviderIssuer string   `json:"providerIssuer"`
	ClientID       string   `json:"clientID"`
	ClientSecret   string   `json:"clientSecret" default:"\"\""`
	ClientAuth     string   `json:"clientAuth" default:"\"auto\""`
	Scopes         []string `json:"scopes" default:"[\"openid\"]"`
	RequiredScopes []string `json:"requiredScopes" default:"[]"`
	MCPPaths       []string `json:"mcpPaths" default:"[\"/mcp\",\"/sse\"]"`
	Exchange       string   `json:"exchange" default:"\"auto\""`
	Generation     uint32   `json:"generation" default:"0"`
	DisplayName    string   `json:"displayName" default:"\"\""`
	Logo           string   `json:"logo" default:"\"\""`

	AllowedEmails   []string `json:"allowedEmails" default:"[]"`
	AllowedDomains  []string `json:"allowedDomains" default:"[]"`
	AllowedGroups   []string `json:"allowedGroups" default:"[]"`
	AllowedSubjects []string `json:"allowedSubjects" default:"[]"`
	GroupsClaim     string   `json:"groupsClaim" default:"\"groups\""`
	ScopeRules      []string `json:"scopeRules" default:"[]"`
	ScopesSupported []string `json:"scopesSupported" default:"[]"`
	IdentityClaims  []string `json:"identityClaims" default:"[]"`

	PrivateRedirectURIs []string `json:"privateRedirectURIs" default:"[]"`
	// ProviderParameters are NAME=VALUE each.
	ProviderParameters []string `json:"providerParameters" default:"[]"`

	Refresh string `json:"refresh" default:"\"auto\""`
	// UpstreamCheckInterval is in seconds.
	UpstreamCheckInterval int64 `json:"upstreamCheckInterval" default:"3600"`

	id         sealing.TenantID
	origin     string // scheme and host of PublicURL
	secure     bool   // https
	rules      []scopeRule
	allScopes  []string // scopes()
	claimNeeds provider.Needs
	provider   provider.Client

	metadataDocuments [2]serverDocument // without and with a revocation endpoint
}

// complete checks a tenant that was decoded, and sets what follows from its labels. Its errors are
// a *refusal.
func (t *tenant) complete() error {
	u, err := url.Parse(t.PublicURL)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(t.PublicURL, "?#") || strings.HasSuffix(u.Path, "/") {
		return badValue("publicURL", "not a plain URL without trailing slash")
	}
	t.secure = u.Scheme == "https"
	if !t.secure && !weburl.IsLocalHTTP(u) {
		return badValue("publicURL", "must be https (plain http only on localhost)")
	}
	if t.rules, err = parseScopeRules(t.ScopeRules); err != nil {
		return badValue("scopeRules", err.Error())
	}
	if len(strings.Join(t.Scopes, " "))+len(strings.Join(t.RequiredScopes, " ")) > maxScopes || len(strings.Join(t.scopes(), " ")) > maxScopes {
		return badValue("scopes", fmt.Sprintf("with requiredScopes, and all scopes of scopeRules together, at most %d characters", maxScopes))
	}
	for _, claim := range t.IdentityClaims {
		if !slices.Contains([]string{"email", "name", "groups"}, claim) {
			return badValue("identityClaims", "must be of email, name and groups")
		}
	}
	t.allScopes = t.scopes()
	t.claimNeeds = t.needs(t.IdentityClaims)
	if t.Logo != "" && (!strings.HasPrefix(t.Logo, "data:image/") || len(t.Logo) > 3000) {
		return badValue("logo", "must be a data URI of a picture")
	}
	if t.DisplayName = names.Displayed(t.DisplayName); t.DisplayName == "" {
		t.DisplayName = t.Resource
	}
	if !slices.Contains([]string{"auto", "token", "callback"}, t.Exchange) {
		return badValue("exchange", "must be auto, token or callback")
	}
	if !slices.Contains([]string{"auto", "upstream", "session"}, t.Refresh) {
		return badValue("refresh", "must be auto, upstream or session")
	}
	if !slices.Contains([]string{"auto", "basic", "post", provider.PrivateKeyJWT}, t.ClientAuth) {
		return badValue("clientAuth", "must be auto, basic, post or private_key_jwt")
	}
	if t.ClientAuth == provider.PrivateKeyJWT && t.ClientSecret != "" {
		return badValue("clientSecret", "there is none with clientAuth=private_key_jwt")
	}
	if why := provider.ParametersFault(t.ProviderParameters); why != "" {
		return badValue("providerParameters", why)
	}
	if t.UpstreamCheckInterval < 0 || t.UpstreamCheckInterval > 24*60*60 {
		return badValue("upstreamCheckInterval", "must be from 0 to a day")
	}
	t.origin = u.Scheme + "://" + u.Host
	t.id = sealing.Tenant{
		PublicURL: t.PublicURL, Resource: t.Resource, Audience: t.Audience,
		UpstreamIssuer: t.ProviderIssuer, UpstreamClientID: t.ClientID, Generation: t.Generation,
	}.ID()
	t.provider = provider.Client{
		Issuer: t.ProviderIssuer, ID: t.ClientID, Secret: t.ClientSecret, Auth: t.ClientAuth, RedirectURI: t.callbackURL(),
		Scopes: t.Scopes, Parameters: t.ProviderParameters, Refresh: t.Refresh,
		Needs: t.claimNeeds, RuleNeeds: t.needs(nil),
		Tenant: t.id, Named: t.named(),
	}
	return nil
}

// named is what each log line about a tenant begins with. Two middlewares may give their resources
// one name, so the public URL stands beside it.
func (t *tenant) named() slog.Attr {
	return slog.Group("", "tenant", t.Resource, "issuer", t.PublicURL)
}

// resourceURL maps the path below the public URL to the resource identifier, as the user would type
// it.
func (t *tenant) resourceURL(path string) string { return t.PublicURL + path }
