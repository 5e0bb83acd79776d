//go:build go1.21

package plugin

import (
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// Config holds the labels of one middleware, as Traefik decodes them. No field has a type that its
// decoder can refuse: it would drop the router without asking New, and a wider router to the same
// server would answer unprotected. readLabels says what a value means. A label that is set to
// nothing counts as not set.
type Config struct {
	// ProviderIssuer is the issuer identifier of the upstream OpenID provider, exactly as its
	// discovery document spells it.
	ProviderIssuer any `json:"providerIssuer" required:"true" desc:"Issuer URL of the upstream OpenID provider, exactly as its discovery document spells it."`

	// ClientID is the client that the operator registered with the upstream provider.
	ClientID any `json:"clientID" required:"true" desc:"Client id from the upstream provider."`

	// ClientSecret belongs to ClientID. Traefik shows labels in its dashboard: prefer env:NAME or a
	// sealed text.
	ClientSecret any `json:"clientSecret" required:"true" desc:"Client secret from the upstream provider (none with clientAuth=private_key_jwt): plain, env:NAME (a variable of the sidecar) or sealed. Traefik shows labels in its dashboard, so prefer the latter two."`

	// ClientAuth is how ClientID proves itself at the provider.
	ClientAuth any `json:"clientAuth" default:"auto" desc:"How the client proves itself at the provider: basic or post (where its secret stands: in a header or in the body), private_key_jwt (a key that follows from the master secret, and no clientSecret), or auto (basic, but post where the provider offers it and the id or the secret holds other characters than letters, digits and -._~)."`

	// Resource names the MCP server. It is also the default of Audience and, with a leading slash,
	// of PathPrefix.
	Resource any `json:"resource" required:"true" desc:"Name of the MCP server, for example wiki. Default of audience and, with a leading slash, of pathPrefix."`

	// Scopes are asked of the upstream provider at login.
	Scopes any `json:"scopes" default:"openid" desc:"Scopes asked of the upstream provider, separated by spaces."`

	// ProviderParameters are added to the authorization request at the provider.
	ProviderParameters any `json:"providerParameters" default:"what asks this provider for a refresh token" desc:"Parameters for the provider's authorization endpoint: NAME=VALUE, separated by semicolons or &, such as prompt=consent; values as they are, not percent-encoded. NAME= sends none where one would be sent."`

	// SidecarURL is where Traefik reaches the sidecar. It may have a path.
	SidecarURL any `json:"sidecarURL" required:"true" desc:"Where Traefik reaches the sidecar, for example http://bouncer:8080."`

	// Audience must be in the aud claim of an access token.
	Audience any `json:"audience" default:"the value of resource" desc:"Audience that an access token must name in its aud claim."`

	// JWKSCacheTTLSeconds is how long the sidecar's keys are used before they are asked for again.
	JWKSCacheTTLSeconds any `json:"jwksCacheTTLSeconds" default:"300" desc:"Seconds for which the sidecar's signing keys are cached, 1 to 3600. While the sidecar is away, they are used for up to an hour."`

	// RequiredScopes must all be in the scope claim of an access token.
	RequiredScopes any `json:"requiredScopes" default:"none" desc:"Scopes that an access token must have, separated by spaces."`

	// PathPrefix is the path of the MCP server. "/" means that it has the host to itself.
	PathPrefix any `json:"pathPrefix" default:"the path of publicURL, else / and the value of resource" desc:"Path of the MCP server; / when it has a host to itself. Must agree with the router's rule."`

	// PublicURL is the base of all URLs of the tenant and its issuer identifier. Without it, scheme
	// and host are those of each request, which is safe only where the router's rule names the
	// host.
	PublicURL any `json:"publicURL" default:"scheme and host of the request, and pathPrefix" desc:"URL under which clients reach the MCP server, for example https://mcp.localhost/wiki. Set it: otherwise whoever can choose the Host header chooses the issuer."`

	// MCPPaths are the endpoints, below PathPrefix, that have a protected-resource document of
	// their own (RFC 9728 §3.1).
	MCPPaths any `json:"mcpPaths" default:"/mcp,/sse" desc:"MCP endpoints below pathPrefix, separated by commas or spaces; each has a protected-resource document of its own."`

	// WellKnown are documents of the MCP server's own that anybody may read (RFC 8615).
	WellKnown any `json:"wellKnown" default:"none" desc:"Documents of the MCP server below /.well-known/ that anybody may read without a token, separated by commas or spaces, such as openai-apps-challenge. Without the label none reaches it."`

	// Exchange says when the upstream authorization code is redeemed.
	Exchange any `json:"exchange" default:"auto" desc:"When the upstream code is redeemed, and so the person judged: token (with the client's token request), callback (at once: a refusal is a page; only a replay guard then counts the uses of a code), or auto (callback where an access rule, requiredScopes or refresh=upstream can refuse somebody and a replay guard answers, else token)."`

	// DisplayName is what people are shown for Resource.
	DisplayName any `json:"displayName" default:"the value of resource" desc:"Name of the MCP server on the consent page, at most 64 characters."`

	// Logo is shown on the consent page: a data URI, so that the page loads nothing.
	Logo any `json:"logo" default:"none" desc:"Picture on the consent page: a data URI of at most 3,000 characters (data:image/png;base64,…)."`

	// PrivateRedirectURIs allows what RFC 8252 §7.1 advises against: schemes without a dot.
	PrivateRedirectURIs any `json:"privateRedirectURIs" default:"none but those of well-known clients" desc:"Redirect URIs of applications whose own scheme has no dot, such as myapp://login/callback, separated by commas or spaces; what is below one is allowed too. Clients that register (not those with a metadata document) may then use them."`

	// AllowedEmails and the three after it say who may come in. All that are set must hold.
	AllowedEmails any `json:"allowedEmails" default:"none: no such rule" desc:"E-mail addresses that may log in, separated by commas or spaces. Only verified ones count."`

	// AllowedDomains are compared with what follows the last @ of a verified address.
	AllowedDomains any `json:"allowedDomains" default:"none: no such rule" desc:"Domains whose people may log in, separated by commas or spaces: that of a verified e-mail address or, for Google, of the Workspace account (hd)."`

	// AllowedGroups are compared with the claim that GroupsClaim names.
	AllowedGroups any `json:"allowedGroups" default:"none: no such rule" desc:"Groups whose members may log in, separated by commas."`

	// AllowedSubjects are compared with the sub claim.
	AllowedSubjects any `json:"allowedSubjects" default:"none: no such rule" desc:"Subjects (sub claims of the provider) that may log in, separated by commas or spaces."`

	// GroupsClaim is where the provider puts groups: a claim's name, or a dotted path into nested
	// claims.
	GroupsClaim any `json:"groupsClaim" default:"groups" desc:"Claim that holds a person's groups: a name, or a dotted path such as realm_access.roles."`

	// ScopeRules map people to MCP scopes.
	ScopeRules any `json:"scopeRules" default:"none: everybody gets requiredScopes and what the provider granted of scopes" desc:"Who gets which scopes: rules WHO=SCOPES, separated by semicolons. WHO is *, group:NAME, domain:NAME, email:ADDRESS or sub:SUBJECT. A person gets the scopes of all rules that fit."`

	// ScopesSupported are advertised in the metadata.
	ScopesSupported any `json:"scopesSupported" default:"what scopeRules or requiredScopes and scopes name" desc:"Scopes that the metadata advertises, separated by spaces."`

	// Refresh says what a refresh token of a client stands on.
	Refresh any `json:"refresh" default:"auto" desc:"What a login lives on: upstream (the provider's refresh token; a login without one is refused), session (nothing of the provider, for BOUNCER_SESSION_TTL) or auto (upstream where the provider gives a refresh token, else session)."`

	// UpstreamCheckInterval is how old the provider's last word on a person may be.
	UpstreamCheckInterval any `json:"upstreamCheckInterval" default:"1h" desc:"How old the provider's last word on a person may be when a token is refreshed, such as 15m; 0 asks every time, at most 24h."`

	// IdentityHeaders asks for more than X-Mcp-Sub and X-Mcp-Scopes.
	IdentityHeaders any `json:"identityHeaders" default:"none: X-Mcp-Sub and X-Mcp-Scopes" desc:"What else the MCP server is told, separated by commas: email, name, groups, client_id, issuer, assertion, each in a header X-Mcp-…, or in one of your choice as email=X-Forwarded-User; sub and scopes may have a second header."`

	// BackendAuthorization is the Authorization header that the MCP server is sent.
	BackendAuthorization any `json:"backendAuthorization" default:"none: the MCP server gets no Authorization header" desc:"Authorization header for the MCP server: env:NAME (a variable of Traefik) or file:/path. The name must end in BACKEND_AUTHORIZATION; small letters do for a file. Read again every 20 seconds."`

	// MethodScopes and the three after it say which scopes an operation needs, besides
	// RequiredScopes.
	MethodScopes any `json:"methodScopes" default:"none: no such rule" desc:"Scopes that MCP methods need besides requiredScopes: rules METHOD=SCOPES, separated by semicolons, such as tools/call=wiki:use; resources/*=wiki:read."`

	// ToolScopes are by params.name of tools/call.
	ToolScopes any `json:"toolScopes" default:"none: no such rule" desc:"Scopes that a call of a tool needs: rules TOOL=SCOPES, such as delete_page=wiki:write; admin_*=wiki:admin; *=wiki:read. The most specific rule counts."`

	// ResourceScopes are by params.uri of resources/read.
	ResourceScopes any `json:"resourceScopes" default:"none: no such rule" desc:"Scopes that reading a resource needs: rules URI=SCOPES, such as file:///public/*=wiki:read; *=wiki:admin."`

	// PromptScopes are by params.name of prompts/get.
	PromptScopes any `json:"promptScopes" default:"none: no such rule" desc:"Scopes that a prompt needs: rules PROMPT=SCOPES."`

	// HideTools takes from tools/list what the caller may not call.
	HideTools any `json:"hideTools" default:"false" desc:"true: answers to tools/list lose the tools that the caller may not call."`

	// CORS lets scripts of any page read what the MCP server answers.
	CORS any `json:"cors" default:"false" desc:"true: what the MCP server answers gets CORS headers, so that clients in browsers can read it. Only for a server that sends none itself: two of them, and no browser reads the answer."`

	// SidecarAuth is a second lock before the sidecar, beside the hop header.
	SidecarAuth any `json:"sidecarAuth" default:"none" desc:"sigv4: requests to the sidecar are signed for a Lambda Function URL with AuthType AWS_IAM, with the AWS credentials of Traefik's environment or container."`

	// HopKeyFile names a file with the hop key, as base64 or as a BOUNCER_HOP_KEY= line. Read again
	// every 20 seconds.
	HopKeyFile any `json:"hopKeyFile" default:"none: Traefik's environment variable BOUNCER_HOP_KEY" desc:"File that holds the hop key, as base64 or as a line BOUNCER_HOP_KEY=… of mcpbouncer keygen."`

	// Generation is part of every key of the tenant: another number invalidates all its tokens and
	// registrations.
	Generation any `json:"generation" default:"0" desc:"Number that is part of every key of this tenant: raise it to invalidate all its tokens and registrations."`

	// Extra receives the labels that do not exist, so that a misspelt requiredScope is refused and
	// not ignored.
	Extra map[string]any `json:"-" mapstructure:",remain"`
}

// CreateConfig returns the empty configuration that Traefik decodes the labels into. The defaults
// are applied later, because a label without a value would overwrite them here.
func CreateConfig() *Config { return &Config{} }

// settings is a Config after validation. It does not change afterwards.
type settings struct {
	publicURL string // canonical; empty: derived from each request
	host      string // host[:port] of publicURL
	// P: path of the public URL without trailing slash, so empty when the tenant owns the host
	prefix     string
	sidecar    *url.URL   // path without trailing slash
	signer     *awsSigner // nil: requests to the sidecar are not signed
	keysTTL    int64      // seconds
	hopKeyFile string
	payload    hopPayload // what the sidecar is told; publicURL is filled in by newTenant
	inserted   []string   // "/.well-known/NAME" + prefix, for the path-inserted forms
	wellKnown  []string   // "/.well-known/NAME", of the MCP server

	identityHeaders []identityHeader
	// names of theirs that the bouncer does not claim by itself; nil: none
	own     *ownHeaders
	rules   *mcp.Rules     // nil: no message is looked into
	hide    bool           // label hideTools
	backend *backendSecret // nil: the MCP server gets no Authorization header
	cors    bool           // label cors
	// rules, an assertion, backend or cors: a request takes the longer way
	special bool
}

// maxPayload keeps the hop header below the sidecar's 8,192 characters, with 600 bytes left for the
// public URL.
const maxPayload = 5500

// maxScopes is in characters.
const maxScopes = 1024

// parseConfig turns labels into settings. An error names the label and says what to do, and holds
// no secret.
func parseConfig(config *Config) (*settings, error) {
	if config == nil {
		return nil, errNoLabels
	}
	c, err := readLabels(config)
	if err != nil {
		return nil, err
	}
	if err := parseClientAuth(c); err != nil { // first: whether there must be a secret hangs on it
		return nil, err
	}
	for _, l := range []struct{ name, value string }{
		{"providerIssuer", c.ProviderIssuer}, {"clientID", c.ClientID}, {"clientSecret", c.ClientSecret},
		{"resource", c.Resource}, {"sidecarURL", c.SidecarURL},
	} {
		if l.name == "clientSecret" && c.ClientAuth == "private_key_jwt" {
			continue
		}
		if strings.TrimSpace(l.value) == "" {
			return nil, fmt.Errorf("label %s: required, set it", l.name)
		}
	}
	s := &settings{hopKeyFile: c.HopKeyFile}
	if err := s.parseAddresses(c); err != nil {
		return nil, err
	}
	if err := s.parseTenant(c); err != nil {
		return nil, err
	}
	backend, err := parseBackendAuthorization(c.BackendAuthorization)
	if err != nil {
		return nil, err
	}
	s.backend = backend
	rules, err := parseRules(c)
	if err != nil {
		return nil, err
	}
	s.rules = rules
	s.hide = c.HideTools == "true"
	s.cors = c.CORS == "true"
	s.special = rules != nil || backend != nil || s.cors || asksFor(s.identityHeaders, "assertion")
	ttl, err := strconv.ParseInt(either(c.JWKSCacheTTLSeconds, "300"), 10, 64)
	if err != nil || ttl < 1 || ttl > maxStale {
		return nil, errors.New("label jwksCacheTTLSeconds: give a whole number of seconds from 1 to 3600")
	}
	s.keysTTL = ttl
	for _, name := range insertedNames {
		s.inserted = append(s.inserted, "/.well-known/"+name+s.prefix)
	}
	return s, nil
}

// parseClientAuth leaves the label clientAuth in its one spelling.
func parseClientAuth(c *labelTexts) error {
	c.ClientAuth = strings.TrimSpace(either(c.ClientAuth, "auto"))
	if c.ClientAuth != "auto" && c.ClientAuth != "basic" && c.ClientAuth != "post" && c.ClientAuth != "private_key_jwt" {
		return errors.New("label clientAuth: give auto, basic, post or private_key_jwt")
	}
	if c.ClientAuth == "private_key_jwt" && c.ClientSecret != "" {
		return errors.New("label clientSecret: with clientAuth=private_key_jwt there is none: remove it")
	}
	return nil
}

// parseAddresses reads the labels that say where things are.
func (s *settings) parseAddresses(c *labelTexts) error {
	if _, err := absoluteURL(c.ProviderIssuer); err != nil {
		return errors.New("label providerIssuer: give an http(s) URL without user, query and fragment, as \"issuer\" in the provider's discovery document")
	}
	if u, err := url.Parse(c.ProviderIssuer); err == nil && u.Scheme == "http" && !isLoopback(u.Host) {
		return errors.New("label providerIssuer: plain http is accepted only for localhost; use https")
	}
	sidecar, err := absoluteURL(c.SidecarURL)
	if err != nil {
		return errors.New("label sidecarURL: give an http(s) URL without user, query and fragment, for example http://bouncer:8080")
	}
	sidecar.Path = strings.TrimRight(sidecar.Path, "/")
	sidecar.RawPath = ""
	s.sidecar = sidecar
	auth := either(c.SidecarAuth, "none")
	if auth != "none" && auth != "sigv4" {
		return errors.New("label sidecarAuth: give none or sigv4")
	}
	if auth == "sigv4" {
		s.signer, err = newAWSSigner(sidecar.Host)
		if err != nil {
			return err
		}
	}

	if c.PublicURL != "" {
		u, err := absoluteURL(c.PublicURL)
		if err != nil || u.RawPath != "" {
			return errors.New("label publicURL: give an https URL without user, query and fragment, for example https://mcp.example.com/wiki")
		}
		host, ok := canonicalHost(u.Scheme, u.Host)
		if !ok {
			return errors.New("label publicURL: the host is not a name or an address with an optional port")
		}
		if u.Scheme == "http" && !isLoopback(host) {
			return errors.New("label publicURL: plain http is accepted only for localhost, *.localhost, 127.0.0.1 and [::1]; use https")
		}
		s.host = host
		s.prefix = strings.TrimRight(u.Path, "/")
		s.publicURL = u.Scheme + "://" + host + s.prefix
	}
	prefix := either(c.PathPrefix, "/"+c.Resource)
	if c.PathPrefix == "" && c.PublicURL != "" {
		prefix = s.prefix
	}
	prefix = strings.TrimRight(prefix, "/")
	if prefix != "" && (!isPlainPath(prefix) || strings.HasPrefix(prefix+"/", "/.well-known/") || len(prefix) > 200) {
		return errors.New("label pathPrefix: give a path such as /wiki, of letters, digits and -._~ in segments, not below /.well-known; without the label it is / and the value of resource")
	}
	if s.publicURL != "" && prefix != s.prefix {
		return errors.New("label pathPrefix: differs from the path of publicURL; make them equal or leave pathPrefix out")
	}
	s.prefix = prefix
	if s.publicURL != "" && s.leadsBack(s.publicURL) {
		return errLeadsBack
	}
	return nil
}

var errLeadsBack = errors.New("label sidecarURL: this is an address of the MCP server itself, so that each request for the sidecar would come back as another one: give the address of the sidecar, for example http://bouncer:8080")

// leadsBack says whether requests to the sidecar would come back to this middleware under a public
// URL: same host, and a path at or below its own. The scheme does not count where both ports are
// the default: a proxy may end TLS for one of them.
func (s *settings) leadsBack(publicURL string) bool {
	u, err := url.Parse(publicURL)
	if err != nil || hostAndPort(u) != hostAndPort(s.sidecar) {
		return false
	}
	return s.sidecar.Path == u.Path || strings.HasPrefix(s.sidecar.Path, u.Path+"/")
}

// hostAndPort is the one spelling of a URL's host, without port where it is the scheme's.
func hostAndPort(u *url.URL) string {
	name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	port := ":" + u.Port()
	if port == ":" || port == defaultPort(u.Scheme) {
		port = ""
	}
	return name + port
}

// parseTenant reads the labels that the sidecar is told, in the hop header.
func (s *settings) parseTenant(c *labelTexts) error {
	generation, err := strconv.ParseInt(either(c.Generation, "0"), 10, 64)
	if err != nil || generation < 0 || generation > 1<<31-1 {
		return errors.New("label generation: give a whole number from 0 to 2147483647")
	}
	exchange := either(c.Exchange, "auto")
	if exchange != "auto" && exchange != "token" && exchange != "callback" {
		return errors.New("label exchange: give auto, token or callback")
	}
	for _, l := range []struct{ name, value string }{
		{"resource", c.Resource}, {"audience", c.Audience}, {"clientID", c.ClientID}, {"clientSecret", c.ClientSecret},
	} {
		if strings.Trim(l.value, printable) != "" {
			return fmt.Errorf("label %s: remove what is not printable ASCII", l.name)
		}
	}
	parameters, err := parseProviderParameters(c.ProviderParameters)
	if err != nil {
		return err
	}
	if strings.ContainsAny(c.GroupsClaim, ",;") || hasInvisible(strings.TrimSpace(c.GroupsClaim)) {
		return errors.New("label groupsClaim: give one claim's name or dotted path, without commas and semicolons")
	}
	if len([]rune(c.DisplayName)) > 64 {
		return errors.New("label displayName: at most 64 characters")
	}
	if c.Logo != "" && (!strings.HasPrefix(c.Logo, "data:image/") || len(c.Logo) > 3000 || strings.Trim(c.Logo, printable) != "") {
		return errors.New("label logo: give a data URI of at most 3000 characters, such as data:image/png;base64,…")
	}
	scopes, err := parseList("scopes", either(c.Scopes, "openid"), bySpaces, scopeFault)
	if err != nil {
		return err
	}
	required, err := parseList("requiredScopes", c.RequiredScopes, bySpaces, comparedScopeFault)
	if err != nil {
		return err
	}
	if len(strings.Join(scopes, " "))+len(strings.Join(required, " ")) > maxScopes {
		return fmt.Errorf("labels scopes and requiredScopes: together at most %d characters, since they travel in codes and tokens", maxScopes)
	}
	paths, err := parseList("mcpPaths", either(c.MCPPaths, "/mcp,/sse"), byCommasOrSpaces, pathFault)
	if err != nil {
		return err
	}
	names, err := parseList("wellKnown", c.WellKnown, byCommasOrSpaces, wellKnownFault)
	if err != nil {
		return err
	}
	for _, name := range names {
		s.wellKnown = append(s.wellKnown, "/.well-known/"+name)
	}
	access, err := parseAccess(c)
	if err != nil {
		return err
	}
	headers, err := parseIdentityHeaders(c.IdentityHeaders)
	if err != nil {
		return err
	}
	s.identityHeaders = headers
	s.own = newOwnHeaders(headers)
	supported, err := parseList("scopesSupported", c.ScopesSupported, bySpaces, supportedScopeFault)
	if err != nil {
		return err
	}
	private, err := parsePrivateRedirectURIs(c.PrivateRedirectURIs)
	if err != nil {
		return err
	}
	refresh := either(c.Refresh, "auto")
	if refresh != "auto" && refresh != "upstream" && refresh != "session" {
		return errors.New("label refresh: give auto, upstream or session")
	}
	interval, err := time.ParseDuration(either(c.UpstreamCheckInterval, "1h"))
	if err != nil || interval < 0 || interval > 24*time.Hour {
		return errors.New("label upstreamCheckInterval: give a duration from 0 to 24h, such as 15m")
	}
	s.payload = hopPayload{
		Resource:       c.Resource,
		Audience:       either(c.Audience, c.Resource),
		ProviderIssuer: c.ProviderIssuer,
		ClientID:       c.ClientID,
		ClientSecret:   c.ClientSecret,
		ClientAuth:     c.ClientAuth,
		Scopes:         scopes,
		RequiredScopes: required,
		MCPPaths:       paths,
		Exchange:       exchange,
		Generation:     generation,
		DisplayName:    either(c.DisplayName, c.Resource),
		Logo:           c.Logo,

		AllowedEmails:   access.emails,
		AllowedDomains:  access.domains,
		AllowedGroups:   access.groups,
		AllowedSubjects: access.subjects,
		GroupsClaim:     either(strings.TrimSpace(c.GroupsClaim), "groups"),
		ScopeRules:      access.scopeRules,
		ScopesSupported: supported,
		IdentityClaims:  identityClaims(headers),

		PrivateRedirectURIs: private,
		ProviderParameters:  parameters,

		Refresh:               refresh,
		UpstreamCheckInterval: int64(interval / time.Second),
	}
	if len(encodePayload(&s.payload)) > maxPayload {
		return fmt.Errorf("the labels together are longer than %d bytes: shorten scopes, mcpPaths or clientSecret", maxPayload)
	}
	return nil
}

// accessLists say who may come in and who gets which scopes. What the rules mean is the sidecar's
// to decide (issuer/access.go, issuer/scope.go).
type accessLists struct {
	emails, domains, groups, subjects []string
	scopeRules                        []string // each as it stands in the label
}

func parseAccess(c *labelTexts) (*accessLists, error) {
	for _, l := range []struct{ name, value string }{
		{"allowedEmails", c.AllowedEmails}, {"allowedDomains", c.AllowedDomains}, {"allowedGroups", c.AllowedGroups},
		{"allowedSubjects", c.AllowedSubjects}, {"scopeRules", c.ScopeRules},
	} {
		if isOnlySeparators(l.value) {
			return nil, fmt.Errorf("label %s: names nobody, and no rule would let everybody in: name somebody, or leave the label out", l.name)
		}
	}
	emails, err := parseList("allowedEmails", c.AllowedEmails, byCommasOrSpaces, emailFault)
	if err != nil {
		return nil, err
	}
	domains, err := parseList("allowedDomains", c.AllowedDomains, byCommasOrSpaces, domainFault)
	if err != nil {
		return nil, err
	}
	groups, err := parseList("allowedGroups", c.AllowedGroups, byCommas, func(name string) string { return groupFault(name, false) })
	if err != nil {
		return nil, err
	}
	subjects, err := parseList("allowedSubjects", c.AllowedSubjects, byCommasOrSpaces, func(name string) string { return subjectFault(name, false) })
	if err != nil {
		return nil, err
	}
	rules, err := parseNameRules("scopeRules", c.ScopeRules, whoFault)
	if err != nil {
		return nil, err
	}
	texts := []string{}
	for _, rule := range rules {
		texts = append(texts, rule.text)
	}
	return &accessLists{emails: emails, domains: domains, groups: groups, subjects: subjects, scopeRules: texts}, nil
}

// supportedScopeFault is for what the metadata advertises.
func supportedScopeFault(scope string) string {
	if scope == "offline_access" {
		return "no right at a server; the authorization server's metadata always lists it"
	}
	return comparedScopeFault(scope)
}

// pathFault says what is wrong with an endpoint below the prefix.
func pathFault(path string) string {
	if !isPlainPath(path) || strings.HasPrefix(path+"/", "/.well-known/") || strings.HasPrefix(path+"/", "/oauth/") {
		return "not a path below pathPrefix: write paths such as /mcp, separated by commas; not below /oauth or /.well-known"
	}
	return ""
}

// wellKnownFault says what is wrong with the name of a document that anybody may read. Clients log
// in by the bouncer's own, and whoever may answer for those sends them elsewhere.
func wellKnownFault(name string) string {
	small := strings.ToLower(name)
	switch {
	case !isPlainPath("/"+name) || len(name) > 100 || strings.HasPrefix(small, ".well-known"):
		return "not the name of a document: write names such as openai-apps-challenge, as they stand behind /.well-known/"
	case strings.HasPrefix(small, "oauth-") || strings.HasPrefix(small, "openid-") || strings.HasPrefix(small, "jwks"):
		return "the bouncer serves what begins so, and no server behind it"
	}
	return ""
}

// foreignSchemes belong to browsers, operating systems and everybody: no one application waits
// there, and some of them run what they are given.
const foreignSchemes = " http https javascript data vbscript file blob filesystem about view-source intent ws wss ftp mailto tel sms chrome edge resource jar shell search search-ms "

// parsePrivateRedirectURIs checks the form: SCHEME://HOST, SCHEME://HOST/PATH or SCHEME:/PATH. A
// scheme alone would allow every address that its application knows, and some do more than take a
// code.
func parsePrivateRedirectURIs(text string) ([]string, error) {
	return parseList("privateRedirectURIs", text, byCommasOrSpaces, privateURIFault)
}

func privateURIFault(uri string) string {
	scheme, rest, _ := strings.Cut(uri, ":")
	below := strings.TrimPrefix(rest, "/")
	below = strings.TrimPrefix(below, "/")
	path := "/" + below
	if scheme == "" || scheme[0] < 'a' || scheme[0] > 'z' || strings.Trim(scheme, schemeChars) != "" || !strings.HasPrefix(rest, "/") || strings.HasSuffix(uri, "/") || strings.Trim(path, pathChars+"%") != "" || isTricky(strings.ReplaceAll(path, "%", "")) {
		return "give addresses such as myapp://login/callback or myapp:/callback, with a scheme in small letters, and without query, fragment, port or slash at the end"
	}
	if strings.Contains(foreignSchemes, " "+scheme+" ") || strings.HasPrefix(scheme, "ms-") || strings.HasPrefix(scheme, "chrome-") || strings.HasPrefix(scheme, "moz-") {
		return "the scheme " + scheme + " is none of an application; https and http on a loopback address need no label"
	}
	return ""
}

// ownParameters are what the sidecar itself says to the provider, or what would have the provider
// read something else. issuer/providerparameters.go refuses the same.
const ownParameters = " client_id client_secret client_assertion client_assertion_type redirect_uri state nonce scope response_type response_mode code_challenge code_challenge_method request request_uri registration id_token_hint dpop_jkt "

// maxProviderParameters keeps the address that a browser is sent to short. In characters.
const maxProviderParameters = 1000

// parseProviderParameters returns each as NAME=VALUE.
func parseProviderParameters(text string) ([]string, error) {
	list, err := parseList("providerParameters", text, bySemicolonsOrAnd, parameterFault)
	if err != nil {
		return nil, err
	}
	parameters := []string{}
	seen := map[string]bool{}
	for _, parameter := range list {
		name, value, _ := strings.Cut(parameter, "=")
		name = strings.TrimSpace(name)
		if seen[name] {
			return nil, fmt.Errorf("label providerParameters: %s stands there twice", name)
		}
		seen[name] = true
		parameters = append(parameters, name+"="+strings.TrimSpace(value))
	}
	if len(strings.Join(parameters, "&")) > maxProviderParameters {
		return nil, fmt.Errorf("label providerParameters: at most %d characters", maxProviderParameters)
	}
	return parameters, nil
}

func unknownLabel(extra map[string]any) error {
	names := make([]string, 0, len(extra))
	for name := range extra {
		names = append(names, strconv.Quote(name))
	}
	sort.Strings(names)
	return fmt.Errorf("unknown label %s: remove it or correct its spelling (docs/configuration.md lists the labels)", strings.Join(names, ", "))
}

// absoluteURL parses an http or https URL that has a host and neither user, query nor fragment.
func absoluteURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errBadURL
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, errBadURL
	}
	if u.Host == "" || u.User != nil || u.Opaque != "" || strings.ContainsAny(text, "?#") {
		return nil, errBadURL
	}
	return u, nil
}

var errBadURL = errors.New("not an absolute http(s) URL")

func either(value, otherwise string) string {
	if strings.TrimSpace(value) == "" {
		return otherwise
	}
	return value
}
