package issuer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/scoperule"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/upstreamtoken"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/workloadrule"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/plugin/dpop"
	"github.com/mcpbouncer/mcpbouncer/plugin/stepup"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// tenant is the configuration of one protected MCP server, as its labels say. The plugin leaves out
// a member at its default; one without a default must be there.
//
// The fields with a tag json are the members of the hop payload, in its order. The table of
// docs/hop.md is written from their comments and tags, the kit's Tenant and the vector of all
// labels from that table (hopmembers_internal_test.go). So a member is declared here and, on the
// other side, in plugin/config.go; the vectors hold the two together. A text's default and example
// stand in the tags as they are, everything else as JSON.
type tenant struct {
	// PublicURL is the issuer identifier and base of all URLs of the tenant, without a trailing
	// slash.
	PublicURL string `json:"publicURL" example:"https://mcp.localhost/wiki"`

	// Resource is the label `resource`.
	Resource string `json:"resource" example:"wiki"`

	// Audience is the label `audience`. Left out, it is the resource.
	Audience string `json:"audience" default:"" example:"wiki-api"`

	// ProviderIssuer is the issuer URL of the provider.
	ProviderIssuer string `json:"providerIssuer" example:"https://accounts.google.com"`

	// ClientID is the id of our client at the provider.
	ClientID string `json:"clientID" example:"client.apps.googleusercontent.com"`

	// ClientSecret is the secret of our client: plain, `env:NAME` or sealed.
	ClientSecret string `json:"clientSecret" default:"" example:"env:GOOGLE_CLIENT_SECRET"`

	// ClientAuth is `auto`, `basic`, `post` or `private_key_jwt`. With the last, `clientSecret`
	// must be empty.
	ClientAuth string `json:"clientAuth" default:"auto" example:"post"`

	// UpstreamScopes are the scopes that are asked of the provider.
	UpstreamScopes []string `json:"scopes" default:"[\"openid\"]" example:"[\"openid\",\"email\"]"`

	// RequiredScopes are the scopes that every access token must have.
	RequiredScopes []string `json:"requiredScopes" default:"[]" example:"[\"mcp:read\",\"mcp:write\"]"`

	// MCPPaths are the endpoints with a protected-resource document of their own.
	MCPPaths []string `json:"mcpPaths" default:"[\"/mcp\",\"/sse\"]" example:"[\"/\"]"`

	// Exchange is `auto`, `token` or `callback`.
	Exchange string `json:"exchange" default:"auto" example:"callback"`

	// Generation is the label `generation`.
	Generation uint32 `json:"generation" default:"0" example:"7"`

	// DisplayName is the label `displayName`. Left out, it is the resource.
	DisplayName string `json:"displayName" default:"" example:"Das große Wiki"`

	// Logo is the label `logo`: a data URI.
	Logo string `json:"logo" default:"" example:"data:image/png;base64,iVBORw0KGgo="`

	// AllowedEmails are those of the label `allowedEmails`.
	AllowedEmails []string `json:"allowedEmails" default:"[]" example:"[\"anna@example.com\"]"`

	// AllowedDomains are those of the label `allowedDomains`.
	AllowedDomains []string `json:"allowedDomains" default:"[]" example:"[\"example.com\"]"`

	// AllowedGroups are those of the label `allowedGroups`.
	AllowedGroups []string `json:"allowedGroups" default:"[]" example:"[\"wiki editors\"]"`

	// AllowedSubjects are those of the label `allowedSubjects`.
	AllowedSubjects []string `json:"allowedSubjects" default:"[]" example:"[\"248289761001\"]"`

	// GroupsClaim is the label `groupsClaim`.
	GroupsClaim string `json:"groupsClaim" default:"groups" example:"realm_access.roles"`

	// ScopeRules are the rules of the label `scopeRules`, each `WHO=SCOPES` as docs/labels.md says.
	// One that is not makes the sidecar refuse the header.
	ScopeRules []string `json:"scopeRules" default:"[]" example:"[\"group:admins=mcp:write mcp:read\",\"*=mcp:read\"]"`

	// ScopesSupported are those of the label `scopesSupported`.
	ScopesSupported []string `json:"scopesSupported" default:"[]" example:"[\"mcp:read\"]"`

	// IdentityClaims are those of `email`, `name` and `groups` that access tokens carry, because
	// identity headers need them.
	IdentityClaims []string `json:"identityClaims" default:"[]" example:"[\"email\",\"groups\"]"`

	// PrivateRedirectURIs are those of the label `privateRedirectURIs`.
	PrivateRedirectURIs []string `json:"privateRedirectURIs" default:"[]" example:"[\"myapp://login/callback\"]"`

	// ProviderParameters are those of the label `providerParameters`, each `NAME=VALUE` as
	// docs/labels.md says. One that is not, or that the sidecar says itself, makes the sidecar
	// refuse the header.
	ProviderParameters []string `json:"providerParameters" default:"[]" example:"[\"prompt=consent\",\"acr_values=urn:mfa a\"]"`

	// Refresh is `auto`, `upstream` or `session`.
	Refresh string `json:"refresh" default:"auto" example:"session"`

	// UpstreamCheckInterval is the label `upstreamCheckInterval` in seconds, 0 to 86,400.
	UpstreamCheckInterval int64 `json:"upstreamCheckInterval" default:"3600" example:"0"`

	// EnterpriseIssuers are those of the label `enterpriseIssuers`.
	EnterpriseIssuers []string `json:"enterpriseIssuers" default:"[]" example:"[\"https://idp.example.com\"]"`

	// WorkloadIssuers are the rules of the label `workloadIssuers`, each `ISSUER CLAIM=VALUE … =>
	// SCOPES` as docs/access.md says. One that is not makes the sidecar refuse the header.
	WorkloadIssuers []string `json:"workloadIssuers" default:"[]" example:"[\"https://ci.example.com repository=acme/wiki =\\u003e wiki:read\"]"`

	// Registration is `open`, `documents` or `created`.
	Registration string `json:"registration" default:"open" example:"documents"`

	// AllowedClients are those of the label `allowedClients`.
	AllowedClients []string `json:"allowedClients" default:"[]" example:"[\"https://claude.ai/oauth/mcp-oauth-client-metadata\",\"redirect:chatgpt.com\"]"`

	// DPoP is `off`, `accept` or `require`.
	DPoP string `json:"dpop" default:"off" example:"accept"`

	// UpstreamToken is what the label `upstreamToken` asks of the provider: `scopes=SCOPES`, also
	// without any, and `exchange=AUDIENCE` where there is one. One that is not makes the sidecar
	// refuse the header.
	UpstreamToken []string `json:"upstreamToken" default:"[]" example:"[\"scopes=repo read:org\",\"exchange=https://api.example.com\"]"`

	// ProviderType is `oidc`, `github` or `oauth2`. `oidc` is `github` where providerIssuer is
	// `https://github.com`.
	ProviderType string `json:"providerType" default:"oidc" example:"oauth2"`

	// AuthorizationEndpoint is the label `authorizationEndpoint`. It and the next three belong to
	// `oauth2`.
	AuthorizationEndpoint string `json:"authorizationEndpoint" default:"" example:"https://discord.com/oauth2/authorize"`

	// TokenEndpoint is the label `tokenEndpoint`.
	TokenEndpoint string `json:"tokenEndpoint" default:"" example:"https://discord.com/api/oauth2/token"`

	// UserinfoEndpoint is the label `userinfoEndpoint`.
	UserinfoEndpoint string `json:"userinfoEndpoint" default:"" example:"https://discord.com/api/users/@me"`

	// ClaimNames are those of the label `claimNames`, each `NAME=CLAIM` as docs/labels.md says. One
	// that is not, or a list without `sub`, makes the sidecar refuse the header.
	ClaimNames []string `json:"claimNames" default:"[]" example:"[\"sub=id\",\"email_verified=verified\"]"`

	// AuthenticationRules are the rules of the label `authenticationRules`, as docs/access.md says.
	// One that is not makes the sidecar refuse the header.
	AuthenticationRules []string `json:"authenticationRules" default:"[]" example:"[\"docs:write=acr_values:phr max_age:300\"]"`

	// RememberConsent is the label `rememberConsent` in seconds, 0 to 2,592,000.
	RememberConsent int64 `json:"rememberConsent" default:"0" example:"86400"`

	sum        [sha256.Size]byte // of the payload: the same labels have the same sum
	id         sealing.TenantID
	origin     string // scheme and host of PublicURL
	secure     bool   // https
	rules      []scoperule.Rule
	workloads  []workloadrule.Rule
	upstream   upstreamtoken.Wanted // of UpstreamToken
	asRights   []string             // of the label scopes, which can be scopes of our tokens
	believed   []string             // issuers of enterpriseIssuers and workloadIssuers
	allScopes  []string             // grantable()
	claimNeeds provider.Needs
	provider   provider.Client
	traceID    string       // of the request, where it is traced
	nonces     *dpop.Nonces // of proofs; nil while the label dpop is off
	hop        *sealing.Hop // of the request, while the label upstreamToken is on; else nil

	stepup *stepup.Rules    // of AuthenticationRules; nil: none
	now    func() time.Time // for stepup

	prepared *prepared
}

// The values of the label dpop.
const (
	dpopOff     = "off"
	dpopAccept  = "accept"
	dpopRequire = "require"
)

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
	// What a scope of GitHub opens is at GitHub, and is granted by whoever logs in.
	if t.asRights = t.UpstreamScopes; (&provider.Client{Issuer: t.ProviderIssuer, Type: t.ProviderType}).IsGitHub() {
		t.asRights = nil
	}
	if t.rules, err = scoperule.Parse(t.ScopeRules); err != nil {
		return badValue("scopeRules", err.Error())
	}
	if len(strings.Join(t.UpstreamScopes, " "))+len(strings.Join(t.RequiredScopes, " ")) > maxScopes || len(strings.Join(t.grantable(), " ")) > maxScopes {
		return badValue("scopes", fmt.Sprintf("with requiredScopes, and all scopes of scopeRules together, at most %d characters", maxScopes))
	}
	for _, claim := range t.IdentityClaims {
		if !slices.Contains([]string{"email", "name", "groups"}, claim) {
			return badValue("identityClaims", "must be of email, name and groups")
		}
	}
	t.allScopes = t.grantable()
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
	if slices.ContainsFunc(t.EnterpriseIssuers, func(issuer string) bool { return !provider.IsAssertionIssuer(issuer) }) {
		return badValue("enterpriseIssuers", "must be https URLs")
	}
	if t.workloads, err = workloadrule.Parse(t.WorkloadIssuers); err != nil {
		return badValue("workloadIssuers", err.Error())
	}
	t.believed = slices.Clone(t.EnterpriseIssuers)
	for _, rule := range t.workloads {
		t.believed = append(t.believed, rule.Issuer)
	}
	slices.Sort(t.believed)
	t.believed = slices.Compact(t.believed)
	if !slices.Contains([]string{registrationOpen, registrationDocuments, registrationCreated}, t.Registration) {
		return badValue("registration", "must be open, documents or created")
	}
	if slices.ContainsFunc(t.AllowedClients, allowedClientFault) {
		return badValue("allowedClients", "must be https URLs, document:HOST, redirect:HOST or client:FINGERPRINT")
	}
	if !slices.Contains([]string{dpopOff, dpopAccept, dpopRequire}, t.DPoP) {
		return badValue("dpop", "must be off, accept or require")
	}
	if t.upstream, err = upstreamtoken.Parse(t.UpstreamToken); err != nil {
		return badValue("upstreamToken", err.Error())
	}
	if t.stepup, err = stepup.Parse(t.AuthenticationRules); err != nil {
		return badValue("authenticationRules", err.Error())
	}
	if t.RememberConsent < 0 || time.Duration(t.RememberConsent)*time.Second > sealing.KindRemembered.Life() {
		return badValue("rememberConsent", "must be from 0 to 30 days")
	}
	t.prepared = &prepared{}
	t.origin = u.Scheme + "://" + u.Host
	t.id = sealing.Tenant{
		PublicURL: t.PublicURL, Resource: t.Resource, Audience: t.Audience,
		UpstreamIssuer: t.ProviderIssuer, UpstreamClientID: t.ClientID, Generation: t.Generation,
	}.ID()
	t.provider = provider.Client{
		Issuer: t.ProviderIssuer, ID: t.ClientID, Secret: t.ClientSecret, Auth: t.ClientAuth, RedirectURI: t.callbackURL(),
		Scopes: t.UpstreamScopes, Parameters: t.ProviderParameters, Refresh: t.Refresh,
		Type: t.ProviderType, ClaimNames: t.ClaimNames,
		AuthorizationEndpoint: t.AuthorizationEndpoint, TokenEndpoint: t.TokenEndpoint, UserinfoEndpoint: t.UserinfoEndpoint,
		Needs: t.claimNeeds, RuleNeeds: t.needs(nil), SignIn: t.stepup != nil,
		Tenant: t.id, Named: t.named(),
	}
	if label, why := t.provider.TypeFault(); label != "" {
		return badValue(label, why)
	}
	if t.provider.IsGitHub() && t.GroupsClaim != "groups" {
		return badValue("groupsClaim", "GitHub has no such claim: its groups are organisations (acme) and teams (acme/admins)")
	}
	if t.upstream.On {
		t.provider.UpstreamToken = &provider.UpstreamToken{Scopes: t.upstream.Scopes, Audience: t.upstream.Exchange}
	}
	return nil
}

// toldOfUpstream is a mark of what the label upstreamToken makes the consent page say (actsWith);
// empty while the label is off. Without an exchange what each login asks for is a part of it.
func (t *tenant) toldOfUpstream() string {
	if !t.upstream.On {
		return ""
	}
	told := slices.Clone(t.UpstreamToken)
	if t.upstream.Exchange == "" {
		told = append(told, t.provider.AskedScopes()...)
	}
	return sealing.Fingerprint(strings.Join(told, "\n"))
}

// wasTold refuses to go on with a login whose person was told something else of what the server may
// do at the provider than it may do now: the labels have changed on the way.
func (t *tenant) wasTold(told string) error {
	if t.upstream.On && told != t.toldOfUpstream() {
		return errors.New("the label upstreamToken, or scopes beside it, is another than the consent page spoke of")
	}
	return nil
}

// named returns the attribute with which each log line about a tenant begins. Two middlewares may
// give their resources one name, so the line has the public URL as well.
func (t *tenant) named() slog.Attr {
	facts := []slog.Attr{slog.String("tenant", t.Resource), slog.String("issuer", t.PublicURL)}
	if t.traceID != "" {
		facts = append(facts, slog.String("trace_id", t.traceID))
	}
	return slog.GroupAttrs("", facts...)
}

// tracedAs returns the tenant for one request, whose log lines name its trace.
func (t *tenant) tracedAs(id string) *tenant {
	if id == "" {
		return t
	}
	traced := *t
	traced.traceID = id
	traced.provider.Named = traced.named()
	return &traced
}

// withoutTexts returns the tenant without what is made for its answers: to be compared only.
func (t *tenant) withoutTexts() *tenant {
	bare := *t
	bare.prepared, bare.nonces, bare.hop, bare.now = nil, nil, nil, nil
	return &bare
}

// resourceURL maps the path below the public URL to the resource identifier, as the user would type
// it.
func (t *tenant) resourceURL(path string) string { return t.PublicURL + path }
