//go:build go1.21

package plugin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/plugin/stepup"
)

// tenant is the configuration of a middleware under one public URL, with everything that can be
// prepared once for it.
type tenant struct {
	publicURL string // issuer identifier, no trailing slash
	audience  string
	required  []string // scopes
	// parameter of each challenge, with the comma after it; empty when no scope is required
	scope    string
	metadata string // the beginning of resource_metadata: see metadataOf
	// endpoints with a document of their own: mcpPaths and, with namesRoot, "/"
	mcpPaths  []string
	namesRoot bool
	hop       *hopSealer
	sidecar   *sidecarState
	sight     *sight // nil: no token is verified by firstSight

	dpop   string // label
	origin string // of publicURL

	providerIssuer  string
	identityHeaders []identityHeader
	upstream        *upstreamToken // label; nil: off
	opener          *opener        // the last one; nil: none yet. knownLock guards it

	stepup *stepup.Rules // nil: any sign-in will do
	every  *stepup.Need  // of every request; nil with stepup
}

var (
	errHostSyntax  = errors.New("the host is not a name or an address with an optional port")
	errPlainHTTP   = errors.New("plain http is served only on localhost: use https, or set the label publicURL if TLS ends before this proxy")
	errMisdirected = errors.New("this host is not the one of the public URL")
)

// maxTenants bounds what a stranger who invents Host headers can fill, in each middleware.
const maxTenants = 32

// tenantOf finds the tenant that a request addresses. Traefik has removed or vouched for
// X-Forwarded-Proto and X-Forwarded-Host before a middleware sees them. It has not done so for
// Forwarded, which is therefore never read.
func (b *bouncer) tenantOf(req *http.Request) (*tenant, error) {
	host := hostOf(req)
	scheme := req.Header.Get("X-Forwarded-Proto")
	if scheme == "" && req.TLS != nil {
		scheme = "https"
	}
	where := scheme + "://" + host
	b.mu.RLock()
	t := b.tenants[where]
	b.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	return b.addTenant(where, schemeOf(scheme), host)
}

// hostOf returns the host that a client asked for.
func hostOf(req *http.Request) string {
	host := req.Header.Get("X-Forwarded-Host")
	if host == "" {
		host = req.Host
	}
	return host
}

// addTenant is the slow half of tenantOf: it reads and checks scheme and host.
func (b *bouncer) addTenant(where, scheme, host string) (*tenant, error) {
	first, _, _ := strings.Cut(host, ",")
	host, ok := canonicalHost(scheme, strings.TrimSpace(first))
	publicURL := b.settings.publicURL
	switch {
	case !ok || len(where) > 300: // where becomes a map key
		return nil, errHostSyntax
	case publicURL != "" && host != b.settings.host && host != b.settings.host+defaultPort(publicURL):
		return nil, errMisdirected
	case publicURL == "" && scheme != "https" && !isLoopback(host):
		return nil, errPlainHTTP
	case publicURL == "":
		publicURL = scheme + "://" + host + b.settings.prefix
	}
	if b.settings.leadsBack(publicURL) {
		return nil, errLeadsBack
	}
	if scheme == "https" && strings.HasPrefix(publicURL, "http:") {
		b.complainOfTLS(host)
	}
	// A host has many spellings, and the client chooses among them. They all share one tenant and
	// one hop header, and only the plain ones of a tenant that stays are remembered.
	t := b.tenantAt(publicURL)
	if plainScheme(where, scheme) && plainHost(where, scheme, host) {
		b.mu.Lock()
		if b.byPublicURL[publicURL] == t {
			b.tenants[where] = t
		}
		b.mu.Unlock()
	}
	return t, nil
}

// plainScheme says whether a request was said to come by http, https, ws or wss and nothing else.
func plainScheme(where, scheme string) bool {
	return strings.HasPrefix(where, scheme+"://") || strings.HasPrefix(where, strings.Replace(scheme, "http", "ws", 1)+"://")
}

// plainHost says whether a host was spelt as canonicalHost spells it, with the default port or
// without.
func plainHost(where, scheme, canonical string) bool {
	_, host, _ := strings.Cut(where, "://")
	return host == canonical || host == canonical+defaultPort(scheme)
}

// tenantAt returns the only tenant that this middleware has under a public URL.
func (b *bouncer) tenantAt(publicURL string) *tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.byPublicURL[publicURL]
	if t == nil {
		t = b.strangers[publicURL]
	}
	if t != nil {
		return t
	}
	t, stays := newTenant(b.settings, publicURL, b.name)
	if stays {
		b.byPublicURL[publicURL] = t
		return t
	}
	if b.strangers == nil {
		b.strangers = map[string]*tenant{}
	}
	for other := range b.strangers { // any one goes, and not all
		if len(b.strangers) < maxTenants {
			break
		}
		delete(b.strangers, other)
	}
	b.strangers[publicURL] = t
	return t
}

// newTenant also says whether the tenant stays: the operator has named its URL, or a token was good
// there.
func newTenant(s *settings, publicURL, name string) (*tenant, bool) {
	address := s.sidecar.String()
	t := &tenant{publicURL: publicURL, audience: s.audience, required: s.required, mcpPaths: s.mcpPaths}
	t.hop = &hopSealer{payload: encodePayload(quote(publicURL), s.told), sidecar: address, keyFile: s.hopKeyFile, signer: s.signer, name: name}
	t.dpop = s.dpop
	t.origin = strings.TrimSuffix(publicURL, s.prefix)
	t.providerIssuer = s.providerIssuer
	t.identityHeaders = s.identityHeaders
	if s.stepup != nil {
		t.stepup = s.stepup
		t.every = s.stepup.Of(s.required)
	}
	t.upstream = s.upstream
	origin := s.origin
	if s.publicURL == "" {
		origin = keysFrom(s, publicURL)
	}
	state, stays := sidecarStateFor(origin, stateID(s, origin), address, s.keysTTL, t.hop, s.publicURL != "")
	if t.dpop != proofsOff {
		prepareForProofs(state)
	}
	t.sidecar = state
	t.sight = newSight(t)

	scope := ""
	if len(t.required) > 0 {
		scope = `scope="` + strings.Join(t.required, " ") + `", `
	}
	t.scope = scope
	t.metadata = `resource_metadata="` + publicURL + `/.well-known/oauth-protected-resource`
	// Requests for a host without a path and with "/" look alike, so it is unknown which was typed.
	t.namesRoot = s.prefix != ""
	return t, stays
}

// metadataOf returns resource_metadata for a path below the prefix, and whether the path is an
// endpoint with a document of its own. Clients compare the resource with the URL as it was typed.
func (t *tenant) metadataOf(path string) (string, bool) {
	named := path == "/" && t.namesRoot
	for _, endpoint := range t.mcpPaths {
		named = named || path == endpoint || path == endpoint+"/"
	}
	if !named {
		path = ""
	}
	return t.metadata + path + `"`, named
}

// stateID identifies what tokens are verified for. It returns 32 bytes.
func stateID(s *settings, origin string) string {
	id := sha256.Sum256([]byte(origin + s.access))
	return string(id[:])
}

// keysFrom says whose keys and whose deny document a tenant uses: from what the sidecar derives
// keys (docs/sealed-values.md), where the sidecar is, and which secrets show it who asks. It
// returns 32 bytes.
func keysFrom(s *settings, publicURL string) string {
	text := fmt.Sprintf("%t%d%q%q%q%q%q%q%q", s.signer != nil, s.generation, s.sidecar.String(), s.hopKeyFile, publicURL, s.resource, s.audience, s.providerIssuer, s.clientID)
	origin := sha256.Sum256([]byte(text))
	return string(origin[:])
}

// aside are the members of the payload that say nothing about who may do what, or are part of
// keysFrom.
var aside = map[string]bool{
	"displayName": true, "logo": true, "mcpPaths": true, "privateRedirectURIs": true, "clientSecret": true,
	"clientAuth": true, "providerParameters": true,
	"scopesSupported": true, "exchange": true, "refresh": true, "upstreamCheckInterval": true,
	"rememberConsent": true,
}

// accessOf is the part of a tenant's configuration on which the outcome of a verification can
// depend. Tenants in which it and keysFrom are equal share verified tokens and keys. Where it
// changes, each token is judged anew. A label that is added later counts, unless somebody puts it
// into aside. It returns 32 bytes.
func accessOf(headers []identityHeader, upstream *upstreamToken, payload []hopMember) string {
	text := ""
	if len(headers) > 0 {
		text = namesOf(headers)
	}
	if upstream != nil {
		text += "\n" + upstream.header
	}
	for _, m := range payload {
		if m.value != m.standard && !aside[m.name] {
			text += m.name + m.value
		}
	}
	access := sha256.Sum256([]byte(text))
	return string(access[:])
}

// schemeOf reads X-Forwarded-Proto. Traefik says ws and wss there for the request of a WebSocket.
func schemeOf(forwarded string) string {
	first, _, _ := strings.Cut(forwarded, ",")
	scheme := strings.ToLower(strings.TrimSpace(first))
	if scheme == "https" || scheme == "wss" {
		return "https"
	}
	return "http"
}

// canonicalHost lowers the case and drops the default port of the scheme. It refuses everything but
// host[:port]: the result becomes part of URLs and of a quoted string in a header.
func canonicalHost(scheme, host string) (string, bool) {
	if host == "" || len(host) > 260 || strings.Trim(host, hostChars) != "" {
		return "", false
	}
	u, err := url.Parse(scheme + "://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || strings.HasSuffix(host, ":") {
		return "", false
	}
	return strings.TrimSuffix(strings.ToLower(host), defaultPort(scheme)), true
}

// defaultPort takes a scheme or a URL.
func defaultPort(url string) string {
	if strings.HasPrefix(url, "https") {
		return ":443"
	}
	return ":80"
}

// isLoopback says whether plain http may be spoken with a host, because it never leaves the machine
// (RFC 8252 §8.3, RFC 6761 §6.3).
func isLoopback(host string) bool {
	name := host
	if u, err := url.Parse("http://" + host); err == nil {
		name = u.Hostname()
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "127.0.0.1" || name == "::1"
}
