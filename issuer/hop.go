package issuer

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const hopHeader = "X-Mcpb-Hop"

// tenant is the configuration of one protected MCP server, as its labels say (docs/hop.md).
type tenant struct {
	PublicURL      string   `json:"publicURL"`
	Resource       string   `json:"resource"`
	Audience       string   `json:"audience"`
	ProviderIssuer string   `json:"providerIssuer"`
	ClientID       string   `json:"clientID"`
	ClientSecret   string   `json:"clientSecret"`
	Scopes         []string `json:"scopes"`
	RequiredScopes []string `json:"requiredScopes"`
	MCPPaths       []string `json:"mcpPaths"`
	Exchange       string   `json:"exchange"`
	Generation     uint32   `json:"generation"`
	DisplayName    string   `json:"displayName"`
	Logo           string   `json:"logo"`

	AllowedEmails   []string `json:"allowedEmails"`
	AllowedDomains  []string `json:"allowedDomains"`
	AllowedGroups   []string `json:"allowedGroups"`
	AllowedSubjects []string `json:"allowedSubjects"`
	GroupsClaim     string   `json:"groupsClaim"`
	ScopeRules      []string `json:"scopeRules"`
	ScopesSupported []string `json:"scopesSupported"`
	IdentityClaims  []string `json:"identityClaims"`

	PrivateRedirectURIs []string `json:"privateRedirectURIs"`

	Refresh               string `json:"refresh"`
	UpstreamCheckInterval int64  `json:"upstreamCheckInterval"` // seconds

	id         sealing.TenantID
	origin     string // scheme and host of PublicURL
	secure     bool   // https
	rules      []scopeRule
	claimNeeds claimNeeds

	metadataDocuments [2]serverDocument // without and with a revocation endpoint
}

// openHop returns the tenant that the plugin speaks for. Opened headers are remembered: the plugin sends
// the same one for some seconds.
func (s *Issuer) openHop(value string) (*tenant, error) {
	now := s.Now()
	if t, ok := s.hops.get(value, now); ok {
		return t, nil
	}
	payload, err := s.Ring.OpenHop(value, now)
	if err != nil {
		return nil, err
	}
	t, err := parseTenant(payload)
	if err != nil {
		s.Log.Error("hop header refused", "cause", err)
		return nil, err
	}
	s.hops.put(value, t)
	s.announce(t)
	return t, nil
}

func parseTenant(payload []byte) (*tenant, error) {
	t := &tenant{}
	if err := decodeStrict(payload, t); err != nil {
		return nil, fmt.Errorf("tenant configuration: %w; are plugin and sidecar of the same version?", err)
	}
	u, err := url.Parse(t.PublicURL)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(t.PublicURL, "?#") || strings.HasSuffix(u.Path, "/") {
		return nil, errors.New("publicURL: not a plain URL without trailing slash")
	}
	t.secure = u.Scheme == "https"
	if !t.secure && !isLocalHTTP(u) {
		return nil, errors.New("publicURL: must be https (plain http only on localhost)")
	}
	if t.Resource == "" || t.Audience == "" || t.ProviderIssuer == "" || t.ClientID == "" {
		return nil, errors.New("resource, audience, providerIssuer and clientID must not be empty")
	}
	if t.rules, err = parseScopeRules(t.ScopeRules); err != nil {
		return nil, err
	}
	if len(strings.Join(t.Scopes, " "))+len(strings.Join(t.RequiredScopes, " ")) > maxScopes || len(strings.Join(t.scopes(), " ")) > maxScopes {
		return nil, fmt.Errorf("scopes and requiredScopes, and all scopes of scopeRules: together at most %d characters", maxScopes)
	}
	for _, claim := range t.IdentityClaims {
		if !slices.Contains([]string{"email", "name", "groups"}, claim) {
			return nil, errors.New("identityClaims: must be of email, name and groups")
		}
	}
	t.claimNeeds = t.needs()
	if t.Logo != "" && (!strings.HasPrefix(t.Logo, "data:image/") || len(t.Logo) > 3000) {
		return nil, errors.New("logo: must be a data URI of a picture")
	}
	if t.DisplayName = displayName(t.DisplayName); t.DisplayName == "" {
		t.DisplayName = t.Resource
	}
	if t.Exchange != "token" && t.Exchange != "callback" {
		return nil, errors.New("exchange: must be token or callback")
	}
	if !slices.Contains([]string{"auto", "upstream", "session"}, t.Refresh) || t.UpstreamCheckInterval < 0 || t.UpstreamCheckInterval > 24*60*60 {
		return nil, errors.New("refresh must be auto, upstream or session, and upstreamCheckInterval at most a day")
	}
	t.origin = u.Scheme + "://" + u.Host
	t.id = sealing.Tenant{
		PublicURL: t.PublicURL, Resource: t.Resource, Audience: t.Audience,
		UpstreamIssuer: t.ProviderIssuer, UpstreamClientID: t.ClientID, Generation: t.Generation,
	}.ID()
	return t, nil
}

// decodeStrict wants every member exactly once, spelt exactly, and no other: what one side does not know of the other's
// configuration must not be ignored. go-jose's decoder refuses repeated members and compares names to the byte.
func decodeStrict(data []byte, t *tenant) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return errors.New("not a JSON object, or a repeated member")
	}
	for _, name := range hopMembers {
		if value, ok := members[name]; !ok || string(value) == "null" {
			return errors.New("member " + name + " is missing")
		}
	}
	if len(members) != len(hopMembers) {
		return errors.New("an unknown member")
	}
	if err := json.Unmarshal(data, t); err != nil {
		return errors.New("a member of another type")
	}
	return nil
}

// hopMembers are the JSON names of the tenant's exported fields.
var hopMembers = func() (names []string) {
	for f := range reflect.TypeFor[tenant]().Fields() {
		if name, ok := f.Tag.Lookup("json"); ok {
			names = append(names, name)
		}
	}
	return names
}()

// isLocalHTTP says whether u is plain http to this machine: the one place where a login may run without TLS,
// for development.
func isLocalHTTP(u *url.URL) bool {
	host := u.Hostname()
	return u.Scheme == "http" && (isLoopbackHost(host) || strings.HasSuffix(host, ".localhost"))
}

// isLoopbackHost knows three spellings and no more: 127.1, 2130706433 or localhost.evil.example are
// not among them (RFC 8252 §7.3).
func isLoopbackHost(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// resourceURL maps the path below the public URL to the resource identifier, as the user would type it.
func (t *tenant) resourceURL(path string) string { return t.PublicURL + path }

// ownAuthorization is a client's Authorization header, where AWS's signature of the plugin stands in its place (docs/hop.md).
const ownAuthorization = "X-Mcpb-Authorization"

// restoreAuthorization puts it back. A client that writes both itself says no more of itself than with one.
func restoreAuthorization(h http.Header) {
	if strings.HasPrefix(h.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		delete(h, "Authorization")
		if own := h[ownAuthorization]; own != nil {
			h["Authorization"] = own
		}
	}
}

// refuseHop answers whoever is not the plugin. It says nothing more: the sidecar may stand on a public address.
func refuseHop(w http.ResponseWriter) {
	w.Header().Set(hopHeader, "refused")
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, http.StatusForbidden, "application/json", []byte(`{"error":"forbidden"}`))
}

// hopCache maps a hop header to its tenant. Only headers that opened get in, so strangers cannot fill it.
type hopCache struct {
	mu sync.RWMutex // guards m for one map access
	m  map[string]*tenant
}

const hopCacheLimit = 256

func (c *hopCache) get(value string, now time.Time) (*tenant, bool) {
	c.mu.RLock()
	t, ok := c.m[value]
	c.mu.RUnlock()
	if !ok {
		return nil, false
	}
	at, err := sealing.HopIssuedAt(value)
	return t, err == nil && !sealing.HopExpired(at, now)
}

func (c *hopCache) put(value string, t *tenant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= hopCacheLimit {
		c.m = make(map[string]*tenant)
	}
	c.m[value] = t
}

// remoteIP is for the log only; nothing is decided by it.
func remoteIP(r *http.Request) string {
	if first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ","); first != "" {
		return strings.TrimSpace(first)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
