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
	"github.com/mcpbouncer/mcpbouncer/plugin/stepup"
)

// Config holds the labels of one middleware, as Traefik decodes them. No field has a type that its
// decoder can refuse: it would drop the router without asking New, and a wider router to the same
// server would answer unprotected. readLabels says what a value means. A label that is set to
// nothing counts as not set.
//
// The comments are the reference for operators: docs/configuration.md is generated from them
// (cmd/mcpbouncer/configuration_test.go says how). A comment that begins with # opens a group. The
// tag form says how a value is read (readLabels); without it, as one text.
type Config struct {
	// # Where the MCP server is
	//
	// Under which addresses clients reach the MCP server, and the names under which tokens know it.

	// Resource is the name of the MCP server, for example `wiki`. Required.
	Resource any `json:"resource"`

	// PublicURL is the URL under which clients reach the MCP server, for example
	// `https://mcp.localhost/wiki`. Set it: otherwise whoever can choose the Host header chooses
	// the issuer. Default: scheme and host of the request, and `pathPrefix`.
	PublicURL any `json:"publicURL"`

	// PathPrefix is the path of the MCP server, or `/` where the server has a host to itself. It
	// must agree with the router's rule, and with `publicURL` where that is set. Default: the path
	// of `publicURL`; without that, `/` and the value of `resource`.
	PathPrefix any `json:"pathPrefix"`

	// Audience is what an access token must name in its `aud` claim. Default: the value of
	// `resource`.
	Audience any `json:"audience"`

	// MCPPaths are the MCP endpoints, as paths below `pathPrefix`. Each has a protected-resource
	// document of its own (RFC 9728 section 3.1). Default: `/mcp,/sse`.
	MCPPaths any `json:"mcpPaths" form:"list by commas or spaces"`

	// WellKnown are documents of the MCP server below `/.well-known/` that anybody may read without
	// a token, such as `openai-apps-challenge`. Default: none.
	WellKnown any `json:"wellKnown" form:"list by commas or spaces"`

	// # The provider
	//
	// Where people log in, and how this server's client shows itself there. docs/recipes.md has
	// the labels for each provider.

	// ProviderIssuer is the issuer URL of the OpenID provider, exactly as the provider's discovery
	// document spells it; for a provider that is not OpenID Connect, its address, such as
	// `https://github.com`. Required.
	ProviderIssuer any `json:"providerIssuer"`

	// ProviderType is what the provider speaks: `oidc` (OpenID Connect), `github` (GitHub
	// Enterprise Server at `providerIssuer`; `https://github.com` needs no label) or `oauth2`
	// (OAuth 2.0 without OpenID Connect, at the three endpoints below). docs/providers.md explains
	// the last two. Default: `oidc`.
	ProviderType any `json:"providerType"`

	// AuthorizationEndpoint is where people log in at a provider with `providerType=oauth2`, which
	// needs it and the next three; no other has them. Default: none.
	AuthorizationEndpoint any `json:"authorizationEndpoint"`

	// TokenEndpoint is where that provider redeems codes. Default: none.
	TokenEndpoint any `json:"tokenEndpoint"`

	// UserinfoEndpoint is where that provider says, in JSON, whose access token it is asked with.
	// Default: none.
	UserinfoEndpoint any `json:"userinfoEndpoint"`

	// ClaimNames are what that provider calls the claims of a person: `sub=id, email=mail,
	// email_verified=verified, name=login`, each a name or a dotted path such as `data.id`. `sub`
	// must be there, and be an id that is never given to another person; the other three are called
	// so themselves where they are left out. Default: none.
	ClaimNames any `json:"claimNames" form:"list by commas or spaces"`

	// ClientID is the id of the client that you registered at the provider. Required.
	ClientID any `json:"clientID" form:"identifier"`

	// ClientSecret is the secret of that client: in plain text, as `env:NAME` (a variable of the
	// sidecar), or sealed. Traefik shows labels in its dashboard, so prefer the latter two:
	// docs/secrets.md. It excludes `clientAuth=private_key_jwt`. Required, unless `clientAuth` is
	// `private_key_jwt`.
	ClientSecret any `json:"clientSecret" form:"identifier"`

	// ClientAuth is how the client proves itself at the provider. `basic` and `post` send the
	// secret in a header or in the body. `private_key_jwt` signs with a key that follows from the
	// master secret, and excludes `clientSecret`. `auto` is `basic`; it is `post` where the
	// provider offers that and the id or the secret holds other characters than letters, digits
	// and `-._~`. Default: `auto`.
	ClientAuth any `json:"clientAuth"`

	// Scopes are what is asked of the provider at a login. Default: `openid`.
	Scopes any `json:"scopes" form:"list by spaces"`

	// ProviderParameters are added to the request to the provider's authorization endpoint:
	// `NAME=VALUE`, such as `prompt=consent`. A value stands as it is, not percent-encoded. `NAME=`
	// sends none where the sidecar would send one. At most 1,000 characters. Default: what asks
	// this provider for a refresh token.
	ProviderParameters any `json:"providerParameters" form:"list by semicolons or &"`

	// Exchange is when the provider's code is redeemed, and so the person judged: with the client's
	// token request (`token`) or at once (`callback`). With `callback` a refusal is a page, and
	// only a replay guard counts the uses of a code. `auto` is `callback` where somebody can be
	// refused and a replay guard answers, else `token`: docs/flow.md. Default: `auto`.
	Exchange any `json:"exchange"`

	// # Who may log in
	//
	// All rules that are set must hold. Without any, everybody who can log in at the provider may.
	// docs/access.md explains them.

	// AllowedEmails are e-mail addresses that may log in. Only verified ones count. Default: no
	// such rule.
	AllowedEmails any `json:"allowedEmails" form:"list by commas or spaces"`

	// AllowedDomains are domains whose people may log in: the domain of a verified e-mail address
	// or, for Google, of the Workspace account (`hd`). Default: no such rule.
	AllowedDomains any `json:"allowedDomains" form:"list by commas or spaces"`

	// AllowedGroups are groups whose members may log in. Default: no such rule.
	AllowedGroups any `json:"allowedGroups" form:"list by commas"`

	// AllowedSubjects are subjects, which are `sub` claims of the provider, that may log in.
	// Default: no such rule.
	AllowedSubjects any `json:"allowedSubjects" form:"list by commas or spaces"`

	// EnterpriseIssuers are issuers of identity assertions (ID-JAG) that are believed, such as
	// `https://idp.example.com`: who can log in there may come in through a client that proves
	// itself, without a consent page, where the rules above let them. docs/enterprise.md explains
	// it. Default: none.
	EnterpriseIssuers any `json:"enterpriseIssuers" form:"list by commas or spaces"`

	// WorkloadIssuers are machines that come in with a JWT of their own, such as jobs of a CI
	// system and service accounts: rules `ISSUER CLAIM=VALUE => SCOPES`, such as
	// `https://token.actions.githubusercontent.com repository=acme/wiki => wiki:read`. A rule may
	// have several claims, and all must fit. docs/access.md has a rule for each issuer. Default:
	// none.
	WorkloadIssuers any `json:"workloadIssuers" form:"list by semicolons"`

	// GroupsClaim is the claim that holds a person's groups: a name, or a dotted path such as
	// `realm_access.roles`. Default: `groups`.
	GroupsClaim any `json:"groupsClaim"`

	// # What they may do
	//
	// Which scopes a person gets, and which scopes a request needs. docs/access.md and
	// docs/tools.md explain the rules.

	// RequiredScopes are the scopes that every access token must have. `scopeRules` decide who gets
	// them, and whoever does not get all of them may not log in. Without `scopeRules` everybody
	// gets them. Default: none.
	RequiredScopes any `json:"requiredScopes" form:"list by spaces"`

	// ScopeRules are who gets which scopes: rules `WHO=SCOPES`, where WHO is `*`, `group:NAME`,
	// `domain:NAME`, `email:ADDRESS` or `sub:SUBJECT`. A person gets the scopes of all rules that
	// fit. Default: none, so everybody gets `requiredScopes` and what the provider granted of
	// `scopes`.
	ScopeRules any `json:"scopeRules" form:"list by semicolons"`

	// ScopesSupported are the scopes that the metadata advertises. Default: what `scopeRules`, or
	// `requiredScopes` and `scopes`, name.
	ScopesSupported any `json:"scopesSupported" form:"list by spaces"`

	// MethodScopes are the scopes that MCP methods need besides `requiredScopes`: rules
	// `METHOD=SCOPES`, such as `tools/call=wiki:use; resources/*=wiki:read`. Default: none.
	MethodScopes any `json:"methodScopes" form:"list by semicolons"`

	// ToolScopes are the scopes that calling a tool needs: rules `TOOL=SCOPES`, such as
	// `delete_page=wiki:write; admin_*=wiki:admin; *=wiki:read`. The most specific rule counts.
	// Default: none.
	ToolScopes any `json:"toolScopes" form:"list by semicolons"`

	// ResourceScopes are the scopes that reading a resource needs: rules `URI=SCOPES`, such as
	// `file:///public/*=wiki:read; *=wiki:admin`. Default: none.
	ResourceScopes any `json:"resourceScopes" form:"list by semicolons"`

	// PromptScopes are the scopes that a prompt needs: rules `PROMPT=SCOPES`. Default: none.
	PromptScopes any `json:"promptScopes" form:"list by semicolons"`

	// AuthenticationRules say how strongly and how recently people must have signed in at the
	// provider (RFC 9470): rules `SCOPE=acr_values:VALUE,VALUE max_age:SECONDS`, one or both behind
	// the `=`, such as `docs:write=acr_values:phr max_age:300`; with `*` as scope for every login.
	// The provider is asked for it, its answer is checked, and a call that needs more leads to a
	// new sign-in: docs/access.md. Default: none.
	AuthenticationRules any `json:"authenticationRules" form:"list by semicolons"`

	// HideTools is whether answers to `tools/list` lose the tools that the caller may not call. It
	// needs `toolScopes` or `methodScopes`. Default: `false`.
	HideTools any `json:"hideTools" form:"boolean"`

	// AuditCalls is whether the header `X-Mcp-Call` of each request names its MCP method and the
	// tool, prompt or resource, and never arguments. Traefik's access log can keep it:
	// docs/calls.md. Requests that cannot be read are refused then, and WebSockets are not opened.
	// Default: `false`.
	AuditCalls any `json:"auditCalls" form:"boolean"`

	// # How long a login lasts
	//
	// When the provider is asked again about a person, and how all logins of this MCP server end.
	// docs/replay.md explains refreshing.

	// Refresh is what a login lives on: `upstream` (the provider's refresh token; a login without
	// one is refused), `session` (nothing of the provider, for `BOUNCER_SESSION_TTL`) or `auto`
	// (`upstream` where the provider gives a refresh token, else `session`). Default: `auto`.
	Refresh any `json:"refresh"`

	// UpstreamCheckInterval is how old the provider's last word on a person may be when a token is
	// refreshed: a duration such as `15m`, at most 24 hours. `0` asks at every refresh. Default:
	// `1h`.
	UpstreamCheckInterval any `json:"upstreamCheckInterval"`

	// Generation is a whole number that is part of every key of this MCP server. Another number
	// invalidates all its tokens and registrations. Default: `0`.
	Generation any `json:"generation"`

	// # What people and clients see
	//
	// The consent page, and the redirect URIs that clients may register. docs/pages.md shows the
	// pages.

	// DisplayName is the name of the MCP server on the consent page, of at most 64 characters.
	// Default: the value of `resource`.
	DisplayName any `json:"displayName"`

	// Logo is the picture on the consent page: a data URI (`data:image/png;base64,…`) of at most
	// 3,000 characters, so that the page loads nothing. Default: none.
	Logo any `json:"logo"`

	// Registration is which clients may come: `open` (those that register themselves, those with a
	// client metadata document, and those that you made), `documents` (not those that register
	// themselves) or `created` (only those of `mcpbouncer client create`). Default: `open`.
	Registration any `json:"registration"`

	// AllowedClients are the only clients that may come, where it is set: the URL of a client
	// metadata document, `document:HOST` for all on a host, `redirect:HOST` for clients whose
	// redirect URIs are all on a host, or `client:FINGERPRINT` as the log names one. Machines and
	// bearer keys are not meant. docs/clients.md explains it. Default: all.
	AllowedClients any `json:"allowedClients" form:"list by commas or spaces"`

	// DPoP is whether clients prove with each request that they hold the key that their tokens are
	// bound to (RFC 9449), so that a copied token is worth nothing: `off`, `accept` (clients that
	// can do it are bound, the others get bearer tokens) or `require` (no others come in).
	// docs/dpop.md explains it. Default: `off`.
	DPoP any `json:"dpop" form:"word or off"`

	// RememberConsent is for how long a person may have their consent to an application remembered
	// by their browser, where they tick it: a duration such as `24h`, at most `720h` (30 days). It
	// is for applications with a metadata document and an https address. docs/pages.md says when
	// the page comes all the same. Default: `0`, the page comes at each login.
	RememberConsent any `json:"rememberConsent"`

	// PrivateRedirectURIs are redirect URIs of applications whose own scheme has no dot, such as
	// `myapp://login/callback`, and what lies below one. Clients that register may then use them;
	// clients with a metadata document may not: docs/clients.md. Default: none, besides those of
	// well-known clients.
	PrivateRedirectURIs any `json:"privateRedirectURIs" form:"list by commas or spaces"`

	// # What the MCP server gets
	//
	// What is added to requests to the MCP server, and to its answers. docs/identity.md explains
	// the headers.

	// IdentityHeaders are what the MCP server is told of the caller besides `X-Mcp-Sub` and
	// `X-Mcp-Scopes`: `email`, `name`, `groups`, `client_id`, `issuer` or `assertion`, each in a
	// header `X-Mcp-…`, or in one of your choice as `email=X-Forwarded-User`. `sub` and `scopes`
	// may have a second header. Default: none.
	IdentityHeaders any `json:"identityHeaders" form:"list by commas or spaces"`

	// UpstreamToken is whether the MCP server gets the person's access token of the provider, to
	// act there in the person's name: `header=NAME; scopes=SCOPES; exchange=AUDIENCE`, any of them.
	// The header is `X-Upstream-Access-Token` if none is named, the scopes are asked of the
	// provider besides `scopes`, and an audience has the token exchanged for one that is meant for
	// it (RFC 8693). docs/identity.md explains it. Default: none, so the provider's token goes
	// nowhere.
	UpstreamToken any `json:"upstreamToken" form:"list by semicolons"`

	// BackendAuthorization is the Authorization header that the MCP server gets: `env:NAME` (a
	// variable of Traefik) or `file:/path`. The name must end in `BACKEND_AUTHORIZATION`, for a
	// file also in small letters. It is read again every 20 seconds. Default: none, so the MCP
	// server gets no such header.
	BackendAuthorization any `json:"backendAuthorization"`

	// CORS is whether what the MCP server answers gets CORS headers, so that clients in browsers
	// can read it. Leave it out where the server sends CORS headers itself: no browser reads an
	// answer that has two of them. Default: `false`.
	CORS any `json:"cors" form:"boolean"`

	// # The sidecar
	//
	// Where Traefik reaches the sidecar, and the secret that the two share. Traefik needs the hop
	// key too: in its environment variable `BOUNCER_HOP_KEY`, or in the file that `hopKeyFile`
	// names.

	// SidecarURL is where Traefik reaches the sidecar, for example `http://bouncer:8080`. It may
	// have a path. Required.
	SidecarURL any `json:"sidecarURL"`

	// HopKeyFile is a file that holds the hop key, as base64 or as the line `BOUNCER_HOP_KEY=…`
	// that `mcpbouncer keygen` prints. It is read again every 20 seconds. It excludes Traefik's
	// variable `BOUNCER_HOP_KEY`, which is then not read. Default: none.
	HopKeyFile any `json:"hopKeyFile"`

	// SidecarAuth is a second lock before the sidecar, beside the hop key. With `sigv4` requests
	// are signed for a Lambda Function URL with AuthType AWS_IAM, with the AWS credentials of
	// Traefik's environment or container. Default: `none`.
	SidecarAuth any `json:"sidecarAuth"`

	// JWKSCacheTTLSeconds is for how many seconds the sidecar's signing keys are cached, 1 to
	// 3,600. While the sidecar is away, they are used for up to an hour. Default: `300` (seconds).
	JWKSCacheTTLSeconds any `json:"jwksCacheTTLSeconds"`

	// Extra receives the labels that do not exist, so that a misspelt requiredScope is refused and
	// not ignored.
	Extra map[string]any `json:"-" mapstructure:",remain"`
}

// labelTexts are a Config as text: one field for each label, in the same order. A label that is not
// set is empty. readLabels fills it.
type labelTexts struct {
	Resource              string
	PublicURL             string
	PathPrefix            string
	Audience              string
	MCPPaths              string
	WellKnown             string
	ProviderIssuer        string
	ProviderType          string
	AuthorizationEndpoint string
	TokenEndpoint         string
	UserinfoEndpoint      string
	ClaimNames            string
	ClientID              string
	ClientSecret          string
	ClientAuth            string
	Scopes                string
	ProviderParameters    string
	Exchange              string
	AllowedEmails         string
	AllowedDomains        string
	AllowedGroups         string
	AllowedSubjects       string
	EnterpriseIssuers     string
	WorkloadIssuers       string
	GroupsClaim           string
	RequiredScopes        string
	ScopeRules            string
	ScopesSupported       string
	MethodScopes          string
	ToolScopes            string
	ResourceScopes        string
	PromptScopes          string
	AuthenticationRules   string
	HideTools             string
	AuditCalls            string
	Refresh               string
	UpstreamCheckInterval string
	Generation            string
	DisplayName           string
	Logo                  string
	Registration          string
	AllowedClients        string
	DPoP                  string
	RememberConsent       string
	PrivateRedirectURIs   string
	IdentityHeaders       string
	UpstreamToken         string
	BackendAuthorization  string
	CORS                  string
	SidecarURL            string
	HopKeyFile            string
	SidecarAuth           string
	JWKSCacheTTLSeconds   string
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

	// What the sidecar is told, as encodeMembers writes it: without publicURL, which encodePayload
	// adds.
	told string
	// What of it the outcome of a verification depends on: accessOf. 32 bytes.
	access string
	// What keysFrom says of publicURL.
	origin string
	// The members of it that the plugin uses itself.
	resource, audience, providerIssuer, clientID string
	generation                                   int64
	required, mcpPaths                           []string

	inserted  []string // "/.well-known/NAME" + prefix, for the path-inserted forms
	wellKnown []string // "/.well-known/NAME", of the MCP server

	identityHeaders []identityHeader
	upstream        *upstreamToken // label upstreamToken; nil: off
	// names of both that the bouncer does not claim by itself; nil: none
	own     *ownHeaders
	rules   *mcp.Rules     // nil: no message is looked into
	stepup  *stepup.Rules  // label authenticationRules; nil: none
	hide    bool           // label hideTools
	backend *backendSecret // nil: the MCP server gets no Authorization header
	cors    bool           // label cors
	dpop    string         // label
	// rules, an assertion, backend or cors: a request takes the longer way
	special bool
}

// maxPayload keeps the hop header below the sidecar's 8,192 characters, with 600 bytes left for the
// public URL.
const maxPayload = 5500

// maxMembers is maxPayload for settings.told.
var maxMembers = maxPayload - len(encodePayload(`""`, ""))

// maxScopes is in characters.
const maxScopes = 1024

// parseConfig turns labels into settings. An error names the label and says what to do, and holds
// no secret.
func parseConfig(config *Config) (*settings, error) {
	s, members, err := parseLabels(config)
	if err != nil {
		return nil, err
	}
	s.told = encodeMembers(members)
	if len(s.told) > maxMembers {
		return nil, fmt.Errorf("the labels together are longer than %d bytes: shorten scopes, mcpPaths or clientSecret", maxPayload)
	}
	s.access = accessOf(s.identityHeaders, s.upstream, members)
	s.origin = keysFrom(s, s.publicURL)
	return s, nil
}

// parseLabels also returns the members of the payload, of which most are at their defaults.
func parseLabels(config *Config) (*settings, []hopMember, error) {
	if config == nil {
		return nil, nil, errNoLabels
	}
	key := keyOfAlike(config)
	if known := recallAlike(key); known != nil {
		return parseAlike(config, known)
	}
	c, err := readLabels(config)
	if err != nil {
		return nil, nil, err
	}
	if err := checkRequired(c); err != nil {
		return nil, nil, err
	}
	s := &settings{hopKeyFile: c.HopKeyFile}
	if err := s.parseAddresses(c); err != nil {
		return nil, nil, err
	}
	members, err := s.parseTenant(c)
	if err != nil {
		return nil, nil, err
	}
	if err := s.parseOwn(c, members); err != nil {
		return nil, nil, err
	}
	backend, err := parseBackendAuthorization(c.BackendAuthorization)
	if err != nil {
		return nil, nil, err
	}
	s.backend = backend
	rules, err := parseRules(c)
	if err != nil {
		return nil, nil, err
	}
	s.rules = rules
	s.hide = c.HideTools == "true"
	s.cors = c.CORS == "true"
	s.special = rules != nil || backend != nil || s.cors || asksFor(s.identityHeaders, "assertion")
	ttl, err := strconv.ParseInt(either(c.JWKSCacheTTLSeconds, "300"), 10, 64)
	if err != nil || ttl < 1 || ttl > maxKeysTTL {
		return nil, nil, errors.New("label jwksCacheTTLSeconds: give a whole number of seconds from 1 to 3600")
	}
	s.keysTTL = ttl
	rememberAlike(key, c, s, members)
	return s, members, nil
}

// checkRequired also leaves the label clientAuth in its one spelling.
func checkRequired(c *labelTexts) error {
	if c.ClientAuth != "auto" { // first: whether there must be a secret hangs on it
		if err := parseClientAuth(c); err != nil {
			return err
		}
	}
	// What begins with a character from ! to ~ is not blank, and nearly all do.
	const from, until = "!", "\x7f"
	if c.ProviderIssuer >= from && c.ClientID >= from && c.ClientSecret >= from && c.Resource >= from && c.SidecarURL >= from &&
		c.ProviderIssuer < until && c.ClientID < until && c.ClientSecret < until && c.Resource < until && c.SidecarURL < until {
		return nil
	}
	return missing(c)
}

// missing says which required label is not set, if one is not.
func missing(c *labelTexts) error {
	for _, l := range []struct{ name, value string }{
		{"providerIssuer", c.ProviderIssuer}, {"clientID", c.ClientID}, {"clientSecret", c.ClientSecret},
		{"resource", c.Resource}, {"sidecarURL", c.SidecarURL},
	} {
		if l.name == "clientSecret" && c.ClientAuth == "private_key_jwt" {
			continue
		}
		if strings.TrimSpace(l.value) == "" {
			return fmt.Errorf("label %s: required, set it", l.name)
		}
	}
	return nil
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

// parseAddresses reads the labels that say where provider and sidecar are.
func (s *settings) parseAddresses(c *labelTexts) error {
	if _, err := absoluteURL(c.ProviderIssuer); err != nil {
		return errors.New("label providerIssuer: give an http(s) URL without user, query and fragment, as \"issuer\" in the provider's discovery document")
	}
	if u, err := url.Parse(c.ProviderIssuer); err == nil && u.Scheme == "http" && !isLoopback(u.Host) {
		return errors.New("label providerIssuer: plain http is accepted only for localhost; use https")
	}
	if host := hostOfGitHub(c.ProviderIssuer); host != "" && strings.TrimSpace(c.ProviderType) != "oauth2" {
		return errors.New("label providerIssuer: " + host + " is no OpenID provider; for GitHub write https://github.com")
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
	return nil
}

// parsePublicURL reads the labels that say where the MCP server is.
func parsePublicURL(s *settings, c *labelTexts) error {
	const scheme = "https://"
	text := c.PublicURL
	// Nearly all are plain: a host in small letters and without a port, and a path of which
	// readPublicURL would change and refuse nothing.
	path := ""
	plain := c.PathPrefix == "" && len(text) > len(scheme) && len(text) <= maxPathPrefix && text[:len(scheme)] == scheme
	if plain {
		path = strings.TrimLeft(text[len(scheme):], smallHostChars)
		if path != "" {
			plain = path[0] == '/' && text[len(scheme)] != '/' && strings.Trim(path, dotlessChars) == "" && !strings.Contains(path+"/", "//")
		}
	}
	if plain {
		s.publicURL = text
		s.host = text[len(scheme) : len(text)-len(path)]
		s.prefix = path
	} else {
		if err := readPublicURL(s, c); err != nil {
			return err
		}
	}
	// A sidecar at the root of its host is below no prefix.
	if s.publicURL != "" && (s.sidecar.Path != "" || s.prefix == "") && s.leadsBack(s.publicURL) {
		return errLeadsBack
	}
	s.inserted = []string{insertedPaths[0] + s.prefix, insertedPaths[1] + s.prefix, insertedPaths[2] + s.prefix}
	return nil
}

// maxPathPrefix is in characters.
const maxPathPrefix = 200

// readPublicURL is parsePublicURL for what is not plain. It stands here so that parsePublicURL has
// few variables, as known.go explains.
func readPublicURL(s *settings, c *labelTexts) error {
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
	if prefix != "" && (!isPlainPath(prefix) || strings.HasPrefix(prefix+"/", "/.well-known/") || len(prefix) > maxPathPrefix) {
		return errors.New("label pathPrefix: give a path such as /wiki, of letters, digits and -._~ in segments, not below /.well-known; without the label it is / and the value of resource")
	}
	if s.publicURL != "" && prefix != s.prefix {
		return errors.New("label pathPrefix: differs from the path of publicURL; make them equal or leave pathPrefix out")
	}
	s.prefix = prefix
	return nil
}

var errLeadsBack = errors.New("label sidecarURL: this is an address of the MCP server itself, so that each request for the sidecar would come back as another one: give the address of the sidecar, for example http://bouncer:8080")

// leadsBack says whether requests to the sidecar would come back to this middleware under a public
// URL: same host, and a path at or below its own. The scheme does not count where both ports are
// the default: a proxy may end TLS for one of them.
func (s *settings) leadsBack(publicURL string) bool {
	if s.sidecar.Path != s.prefix && !strings.HasPrefix(s.sidecar.Path, s.prefix+"/") {
		return false
	}
	return s.isBehind(publicURL)
}

// isBehind says whether the sidecar has the host of a public URL.
func (s *settings) isBehind(publicURL string) bool {
	u, err := url.Parse(publicURL)
	return err == nil && hostAndPort(u) == hostAndPort(s.sidecar)
}

// hostAndPort returns the one spelling of a URL's host, without the port if it is the scheme's
// default.
func hostAndPort(u *url.URL) string {
	name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	port := ":" + u.Port()
	if port == ":" || port == defaultPort(u.Scheme) {
		port = ""
	}
	return name + port
}

// parseTenant reads the labels that the sidecar is told, in the hop header, as members of its
// payload.
func (s *settings) parseTenant(c *labelTexts) ([]hopMember, error) {
	generation, err := strconv.ParseInt(either(c.Generation, "0"), 10, 64)
	if err != nil || generation < 0 || generation > 1<<31-1 {
		return nil, errors.New("label generation: give a whole number from 0 to 2147483647")
	}
	exchange := either(c.Exchange, "auto")
	if exchange != "auto" && exchange != "token" && exchange != "callback" {
		return nil, errors.New("label exchange: give auto, token or callback")
	}
	names, err := parseProviderType(c)
	if err != nil {
		return nil, err
	}
	parameters, err := parseProviderParameters(c.ProviderParameters)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(c.GroupsClaim, ",;") || hasInvisible(strings.TrimSpace(c.GroupsClaim)) {
		return nil, errors.New("label groupsClaim: give one claim's name or dotted path, without commas and semicolons")
	}
	if c.Logo != "" && (!strings.HasPrefix(c.Logo, "data:image/") || len(c.Logo) > 3000 || strings.Trim(c.Logo, printable) != "") {
		return nil, errors.New("label logo: give a data URI of at most 3000 characters, such as data:image/png;base64,…")
	}
	scopes, err := parseList("scopes", either(c.Scopes, "openid"), bySpaces, scopeFault)
	if err != nil {
		return nil, err
	}
	required, err := parseList("requiredScopes", c.RequiredScopes, bySpaces, comparedScopeFault)
	if err != nil {
		return nil, err
	}
	if len(strings.Join(scopes, " "))+len(strings.Join(required, " ")) > maxScopes {
		return nil, fmt.Errorf("labels scopes and requiredScopes: together at most %d characters, since they travel in codes and tokens", maxScopes)
	}
	paths, err := parseList("mcpPaths", either(c.MCPPaths, "/mcp,/sse"), byCommasOrSpaces, pathFault)
	if err != nil {
		return nil, err
	}
	documents, err := parseList("wellKnown", c.WellKnown, byCommasOrSpaces, wellKnownFault)
	if err != nil {
		return nil, err
	}
	for _, name := range documents {
		s.wellKnown = append(s.wellKnown, "/.well-known/"+name)
	}
	access, err := parseAccess(c)
	if err != nil {
		return nil, err
	}
	headers, err := parseIdentityHeaders(c.IdentityHeaders)
	if err != nil {
		return nil, err
	}
	s.identityHeaders = headers
	upstream, err := parseUpstreamToken(c.UpstreamToken, headers)
	if err != nil {
		return nil, err
	}
	s.upstream = upstream
	s.own = newOwnHeaders(headers, upstream)
	supported, err := parseList("scopesSupported", c.ScopesSupported, bySpaces, supportedScopeFault)
	if err != nil {
		return nil, err
	}
	private, err := parsePrivateRedirectURIs(c.PrivateRedirectURIs)
	if err != nil {
		return nil, err
	}
	refresh := either(c.Refresh, "auto")
	if refresh != "auto" && refresh != "upstream" && refresh != "session" {
		return nil, errors.New("label refresh: give auto, upstream or session")
	}
	interval, err := time.ParseDuration(either(c.UpstreamCheckInterval, "1h"))
	if err != nil || interval < 0 || interval > 24*time.Hour {
		return nil, errors.New("label upstreamCheckInterval: give a duration from 0 to 24h, such as 15m")
	}
	enterprise, err := parseList("enterpriseIssuers", c.EnterpriseIssuers, byCommasOrSpaces, assertionIssuerFault)
	if err != nil {
		return nil, err
	}
	workloads, err := parseList("workloadIssuers", c.WorkloadIssuers, bySemicolons, workloadFault)
	if err != nil {
		return nil, err
	}
	registration := either(c.Registration, "open")
	if registration != "open" && registration != "documents" && registration != "created" {
		return nil, errors.New("label registration: give open, documents or created")
	}
	clients, err := parseList("allowedClients", c.AllowedClients, byCommasOrSpaces, allowedClientFault)
	if err != nil {
		return nil, err
	}
	s.dpop = either(c.DPoP, proofsOff)
	if s.dpop != proofsOff && s.dpop != proofsAccept && s.dpop != proofsRequire {
		return nil, errors.New("label dpop: give off, accept or require")
	}
	signIns, err := s.parseAuthenticationRules(c, parameters)
	if err != nil {
		return nil, err
	}
	remember, err := time.ParseDuration(either(c.RememberConsent, "0"))
	if err != nil || remember < 0 || remember > 30*24*time.Hour || remember%time.Second != 0 {
		return nil, errors.New("label rememberConsent: give a duration from 0 to 720h (30 days), such as 24h")
	}
	s.providerIssuer = c.ProviderIssuer
	s.generation = generation
	s.required = required
	s.mcpPaths = paths
	// In the order of docs/hop.md: the vectors hold the bytes. A label that is added comes last.
	// What has no value here gets it in parseOwn.
	return []hopMember{
		{"resource", "", ""},
		{"audience", "", ""},
		{"providerIssuer", quote(c.ProviderIssuer), ""},
		{"clientID", "", ""},
		{"clientSecret", "", ""},
		{"clientAuth", quote(c.ClientAuth), `"auto"`},
		{"scopes", array(scopes), `["openid"]`},
		{"requiredScopes", array(required), `[]`},
		{"mcpPaths", array(paths), `["/mcp","/sse"]`},
		{"exchange", quote(exchange), `"auto"`},
		{"generation", strconv.FormatInt(generation, 10), `0`},
		{"displayName", "", ""},
		{"logo", quote(c.Logo), `""`},
		{"allowedEmails", array(access.emails), `[]`},
		{"allowedDomains", array(access.domains), `[]`},
		{"allowedGroups", array(access.groups), `[]`},
		{"allowedSubjects", array(access.subjects), `[]`},
		{"groupsClaim", quote(either(strings.TrimSpace(c.GroupsClaim), "groups")), `"groups"`},
		{"scopeRules", array(access.scopeRules), `[]`},
		{"scopesSupported", array(supported), `[]`},
		{"identityClaims", array(identityClaims(headers)), `[]`},
		{"privateRedirectURIs", array(private), `[]`},
		{"providerParameters", array(parameters), `[]`},
		{"refresh", quote(refresh), `"auto"`},
		// in seconds
		{"upstreamCheckInterval", strconv.FormatInt(int64(interval/time.Second), 10), `3600`},
		{"enterpriseIssuers", array(enterprise), `[]`},
		{"workloadIssuers", array(workloads), `[]`},
		{"registration", quote(registration), `"open"`},
		{"allowedClients", array(clients), `[]`},
		{"dpop", quote(s.dpop), `"off"`},
		{"upstreamToken", array(upstream.told()), `[]`},
		{"providerType", quote(c.ProviderType), `"oidc"`},
		{"authorizationEndpoint", quote(c.AuthorizationEndpoint), `""`},
		{"tokenEndpoint", quote(c.TokenEndpoint), `""`},
		{"userinfoEndpoint", quote(c.UserinfoEndpoint), `""`},
		{"claimNames", array(names), `[]`},
		{"authenticationRules", array(signIns), `[]`},
		// in seconds
		{"rememberConsent", strconv.FormatInt(int64(remember/time.Second), 10), `0`},
	}, nil
}

// parseOwn reads ownLabels, after the others, and gives their members values.
func (s *settings) parseOwn(c *labelTexts, members []hopMember) error {
	if err := parsePublicURL(s, c); err != nil {
		return err
	}
	s.resource = c.Resource
	s.clientID = c.ClientID
	var own []hopMember
	// as nearly all
	if c.Audience == "" && c.DisplayName == "" && strings.Trim(c.Resource+c.ClientID+c.ClientSecret, unescaped) == "" {
		s.audience = c.Resource
		resource := `"` + c.Resource + `"`
		own = []hopMember{ // as readOwn would: each call costs in Yaegi
			{"resource", resource, ""},
			{"audience", resource, resource},
			{"clientID", `"` + c.ClientID + `"`, ""},
			{"clientSecret", `"` + c.ClientSecret + `"`, `""`},
			{"displayName", resource, resource},
		}
	} else {
		read, err := readOwn(s, c)
		if err != nil {
			return err
		}
		own = read
	}
	next := 0 // both are in one order
	for i := range members {
		if next < len(own) && members[i].name == own[next].name {
			members[i] = own[next]
			next++
		}
	}
	return nil
}

// readOwn is the second half of parseOwn for what is not plain. It returns the members in their
// order.
func readOwn(s *settings, c *labelTexts) ([]hopMember, error) {
	for _, l := range []struct{ name, value string }{
		{"resource", c.Resource}, {"audience", c.Audience}, {"clientID", c.ClientID}, {"clientSecret", c.ClientSecret},
	} {
		if strings.Trim(l.value, printable) != "" {
			return nil, fmt.Errorf("label %s: remove what is not printable ASCII", l.name)
		}
	}
	if len([]rune(c.DisplayName)) > 64 {
		return nil, errors.New("label displayName: at most 64 characters")
	}
	s.audience = either(c.Audience, c.Resource)
	resource := quote(c.Resource)
	return []hopMember{
		{"resource", resource, ""},
		{"audience", quote(s.audience), resource},
		{"clientID", quote(c.ClientID), ""},
		{"clientSecret", quote(c.ClientSecret), `""`},
		{"displayName", quote(either(c.DisplayName, c.Resource)), resource},
	}, nil
}

// parseProviderType leaves the label providerType in its one spelling, checks those that hang on
// it, and returns the label claimNames.
func parseProviderType(c *labelTexts) ([]string, error) {
	// as most tenants
	if c.ProviderType+c.ClaimNames+c.AuthorizationEndpoint+c.TokenEndpoint+c.UserinfoEndpoint+c.AuthenticationRules == "" && !strings.Contains(c.ProviderIssuer, "github.com") {
		c.ProviderType = "oidc"
		return nil, nil
	}
	return readProviderType(c)
}

func readProviderType(c *labelTexts) ([]string, error) {
	c.ProviderType = strings.TrimSpace(either(c.ProviderType, "oidc"))
	if c.ProviderType != "oidc" && c.ProviderType != "github" && c.ProviderType != "oauth2" {
		return nil, errors.New("label providerType: give oidc, github or oauth2")
	}
	// The sidecar knows this address by itself (issuer/provider/people.go, kind).
	kind := c.ProviderType
	if kind == "oidc" && strings.TrimSuffix(c.ProviderIssuer, "/") == "https://github.com" {
		kind = "github"
	}
	if kind != "oidc" && c.ClientAuth == "private_key_jwt" {
		return nil, errors.New("label clientAuth: private_key_jwt is for OpenID providers: with providerType=" + kind + " give a clientSecret")
	}
	if kind != "oidc" && c.AuthenticationRules != "" {
		return nil, errors.New("label authenticationRules: only OpenID providers say how and when a person signed in (acr, auth_time): remove the label")
	}
	if kind == "github" && strings.TrimSpace(c.GroupsClaim) != "" {
		return nil, errors.New("label groupsClaim: GitHub has no such claim, and its groups are organisations (acme) and teams (acme/admins): remove the label")
	}
	names, err := parseList("claimNames", c.ClaimNames, byCommasOrSpaces, claimNameFault)
	if err != nil {
		return nil, err
	}
	claims := strings.TrimSpace(c.ClaimNames)
	endpoints := []struct{ name, value string }{
		{"authorizationEndpoint", c.AuthorizationEndpoint}, {"tokenEndpoint", c.TokenEndpoint}, {"userinfoEndpoint", c.UserinfoEndpoint},
	}
	if c.ProviderType != "oauth2" {
		endpoints = append(endpoints, []struct{ name, value string }{{"claimNames", claims}}...)
		for _, l := range endpoints {
			if l.value != "" {
				return nil, errors.New("label " + l.name + ": belongs to providerType=oauth2: remove it, or set providerType")
			}
		}
		return names, nil
	}
	for _, l := range endpoints {
		if l.value == "" {
			return nil, errors.New("label " + l.name + ": required with providerType=oauth2, set it")
		}
		if why := endpointFault(l.value); why != "" {
			return nil, errors.New("label " + l.name + ": " + why)
		}
	}
	seen := map[string]bool{}
	for _, entry := range names {
		name, _, _ := strings.Cut(entry, "=")
		if seen[name] {
			return nil, errors.New("label claimNames: " + name + " stands there twice")
		}
		seen[name] = true
	}
	if !seen["sub"] {
		return nil, errors.New("label claimNames: say with providerType=oauth2 what the provider calls a person's id, for example sub=id; it must be one that is never given to another person, as names and addresses are")
	}
	return names, nil
}

// maxEndpoint is in characters.
const maxEndpoint = 300

// endpointFault says what is wrong with an endpoint. It may have a query (RFC 6749 sections 3.1 and
// 3.2), in which some providers are told what to say.
func endpointFault(text string) string {
	bare := text
	if i := strings.Index(text, "?"); i >= 0 {
		bare = text[:i]
	}
	u, err := absoluteURL(bare)
	if err != nil || strings.Contains(text, "#") || strings.Trim(text, printable) != "" || strings.Contains(text, " ") || len(text) > maxEndpoint {
		return "give an https URL of at most 300 characters, without user and fragment, as the provider's documentation has it"
	}
	if u.Scheme == "http" && !isLoopback(u.Host) {
		return "plain http is accepted only for localhost; use https"
	}
	return ""
}

// hostOfGitHub is the host of an address that can only be meant for GitHub and is spelt otherwise
// than the sidecar knows it; empty if it is none.
func hostOfGitHub(issuer string) string {
	if !strings.Contains(strings.ToLower(issuer), "github.com") || strings.TrimSuffix(issuer, "/") == "https://github.com" {
		return ""
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	if host == "github.com" || host == "www.github.com" || host == "api.github.com" {
		return host + u.Path
	}
	return ""
}

// claimChars are those of claims' names: also of URLs, which namespaces are.
const claimChars = alphanumeric + "_.:/@#-"

// claimNameFault says what is wrong with an entry of claimNames.
func claimNameFault(entry string) string {
	name, path, ok := strings.Cut(entry, "=")
	if !ok || path == "" || strings.Trim(path, claimChars) != "" || len(path) > 100 {
		return "write NAME=CLAIM, for example sub=id, with the provider's name of the claim, or a dotted path to it, of letters, digits and _.:/@#-"
	}
	if name != "sub" && name != "email" && name != "email_verified" && name != "name" {
		return "the names are sub, email, email_verified and name; groups are found by groupsClaim"
	}
	return ""
}

// accessLists say who may come in and who gets which scopes. The sidecar decides what the rules
// mean (issuer/access.go, issuer/scope.go).
type accessLists struct {
	emails, domains, groups, subjects []string
	scopeRules                        []string // each as it stands in the label
}

func parseAccess(c *labelTexts) (*accessLists, error) {
	for _, l := range []struct{ name, value string }{
		{"allowedEmails", c.AllowedEmails}, {"allowedDomains", c.AllowedDomains}, {"allowedGroups", c.AllowedGroups},
		{"allowedSubjects", c.AllowedSubjects}, {"scopeRules", c.ScopeRules}, {"allowedClients", c.AllowedClients},
	} {
		if l.value != "" && isOnlySeparators(l.value) {
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

// supportedScopeFault is for the scopes that the metadata advertises.
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

// assertionIssuerFault says what is wrong with an issuer of assertions.
func assertionIssuerFault(issuer string) string {
	u, err := absoluteURL(issuer)
	if err != nil || strings.ContainsAny(issuer, ";|{}") || len(issuer) > 200 || u.Scheme == "http" && !isLoopback(u.Host) {
		return "not an issuer: give https URLs of at most 200 characters without user, query and fragment, as \"issuer\" in the discovery document"
	}
	return ""
}

// allowedClientFault says what is wrong with an entry of allowedClients.
func allowedClientFault(entry string) string {
	colon := strings.Index(entry, ":")
	if colon < 0 {
		return "not a client: write the https URL of its metadata document, document:HOST, redirect:HOST or client:FINGERPRINT"
	}
	kind := entry[:colon]
	value := entry[colon+1:]
	switch kind {
	case "https":
		u, err := url.Parse(entry)
		if err != nil || u.Host == "" || u.User != nil || u.Path == "" || strings.ContainsAny(entry, "#;{}") {
			return "not the URL of a client metadata document"
		}
		return ""
	case "document":
		return hostFault(kind, value)
	case "redirect":
		return hostFault(kind, value)
	case "client":
		if len(value) != 16 || strings.Trim(value, alphanumeric+"-_") != "" {
			return "write client: and the 16 characters by which the sidecar's log names the client"
		}
		return ""
	}
	return "not a client: write the https URL of its metadata document, document:HOST, redirect:HOST or client:FINGERPRINT"
}

// hostFault refuses also what no redirect URI and no document has: other letters than ASCII's, a
// dot at the end, and at redirect: a port, which does not count there.
func hostFault(kind, value string) string {
	address := strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]")
	if strings.Trim(value, alphanumeric+"._-:[]") != "" || value == "" || strings.HasSuffix(value, ".") || kind == "redirect" && strings.Contains(value, ":") && !address {
		return "write " + kind + ": and a host, such as " + kind + ":claude.ai or " + kind + ":[::1], in ASCII, without scheme, path and *, and at redirect: without a port"
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
// read something else. issuer/provider/parameters.go refuses the same.
const ownParameters = " client_id client_secret client_assertion client_assertion_type redirect_uri state nonce scope response_type response_mode code_challenge code_challenge_method request request_uri registration id_token_hint dpop_jkt "

// maxProviderParameters keeps the address that a browser is sent to short. In characters.
const maxProviderParameters = 1000

// parseProviderParameters returns each as NAME=VALUE.
func parseProviderParameters(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	return readProviderParameters(text)
}

func readProviderParameters(text string) ([]string, error) {
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
