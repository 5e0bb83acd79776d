package issuer

import (
	"slices"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
)

// vendorDocuments are facts of well-known clients' metadata documents, for when their hosts refuse
// a data centre's fetch and no copy was read before. They are used for nothing else, and claim no
// more than these redirect URIs.
var vendorDocuments = []struct {
	clientID     string
	name         string
	redirectURIs []string
	// All of them allow token_endpoint_auth_method none.
	seen, source string
}{
	{"https://claude.ai/oauth/claude-code-client-metadata", "Claude Code",
		[]string{"http://localhost/callback", "http://127.0.0.1/callback"}, "2026-06-02", "github.com/anthropics/claude-code/issues/64705"},
	{"https://claude.ai/oauth/mcp-oauth-client-metadata", "Claude",
		[]string{"https://claude.ai/api/mcp/auth_callback"}, "2026-09-19", "github.com/django-oauth/django-oauth-toolkit/issues/1855"},
	{"https://vscode.dev/oauth/client-metadata.json", "Visual Studio Code",
		[]string{"http://127.0.0.1:33418/", "https://vscode.dev/redirect"}, "2026-08-12", "github.com/stacklok/toolhive/issues/6290"},
	{"https://chatgpt.com/oauth/codex/client.json", "Codex",
		[]string{"http://127.0.0.1/callback", "http://localhost/callback"}, "2026-08-22", "github.com/openai/codex"},
	// Not those of single connectors, /oauth/ID/client.json: some of them demand a key.
	{"https://chatgpt.com/oauth/client.json", "ChatGPT",
		[]string{"https://chatgpt.com/connector_platform_oauth_redirect"}, "2026-08-26", "github.com/django-oauth/django-oauth-toolkit/issues/1845"},
	{"https://opencode.ai/oauth/opencode/client.json", "opencode",
		[]string{"http://127.0.0.1/callback", "http://localhost/callback"}, "2026-09-07", "github.com/anomalyco/opencode/pull/47737"},
}

// vendorRegistration is what is known of a client without its document.
func vendorRegistration(clientID string) (registration, bool) {
	for _, v := range vendorDocuments {
		if clientID == v.clientID {
			return registration{RedirectURIs: v.redirectURIs, Name: v.name, pinned: true}, true
		}
	}
	return registration{}, false
}

// vendorHosts are those of the documents above, and of their keys.
var vendorHosts = func() (hosts []string) {
	for _, v := range vendorDocuments {
		hosts = append(hosts, weburl.HostOf(v.clientID))
	}
	return hosts
}()

// reservedHost says whether a host of metadata documents has places of its own: it is a well-known
// vendor's, or the operator trusts it.
func (s *Issuer) reservedHost(host string) bool {
	return slices.Contains(vendorHosts, host) || slices.Contains(s.TrustedDocumentHosts, host) || slices.Contains(s.TrustedDocumentHosts, host+":443")
}
