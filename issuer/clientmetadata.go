package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
)

// Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document-02): the client_id is
// an https URL, and the document there is the registration. Nothing is registered here, so nothing
// has to be kept.

const documentURIs = 50

// metadataDocument is what is read of a document. Members not listed are ignored.
type metadataDocument struct {
	ClientID      string          `json:"client_id"`
	ClientName    string          `json:"client_name"`
	RedirectURIs  []string        `json:"redirect_uris"`
	AuthMethod    string          `json:"token_endpoint_auth_method"`
	AuthMethods   []string        `json:"token_endpoint_auth_methods_supported"`
	JWKS          json.RawMessage `json:"jwks"`
	JWKSURI       string          `json:"jwks_uri"`
	ClientSecret  *string         `json:"client_secret"`
	SecretExpires *json.Number    `json:"client_secret_expires_at"`
	DPoPBound     json.RawMessage `json:"dpop_bound_access_tokens"` // of whatever type
}

// checkDocumentURL applies §3 of the draft to the raw text: url.Parse forgives what a string
// comparison would not.
func checkDocumentURL(raw string) (*url.URL, error) {
	// A letter beyond ASCII in a host looks like another one on the consent page; as punycode it
	// does not.
	if len(raw) > maxClientID || strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("#\\\"<>`{}|^", c) }) {
		return nil, errors.New("client_id: not a plain URL")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || !isDocumentURL(raw) || u.Host == "":
		return nil, errors.New("client_id: not an https URL")
	case u.User != nil:
		return nil, errors.New("client_id: must not contain user information")
	case u.Path == "" || u.Path == "/":
		return nil, errors.New("client_id: must have a path")
	case u.RawPath != "" || slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return nil, errors.New("client_id: must not contain dot segments or encoded characters")
	case !redirecturi.PlainHost(raw): // url.Parse would decode it
		return nil, errors.New("client_id: must name its host in plain ASCII letters, digits, dots and hyphens")
	case strings.ToLower(u.Host) != u.Host || u.Port() == "443" || len(u.Port()) > 1 && u.Port()[0] == '0':
		return nil, errors.New("client_id: must be written in its plain form")
	}
	return u, redirecturi.CheckAuthority(u)
}

// parseDocument applies §4 of the draft: the document must name itself, hold no secret, and
// register what we would register.
func parseDocument(clientID string, body []byte) (registration, error) {
	var doc metadataDocument
	if err := json.Unmarshal(body, &doc); err != nil {
		return registration{}, errors.New("the document is not one JSON object of client metadata")
	}
	if doc.ClientID != clientID { // by simple string comparison
		return registration{}, errors.New("the document's client_id is not its URL")
	}
	if doc.ClientSecret != nil || doc.SecretExpires != nil {
		return registration{}, errors.New("the document holds a client_secret")
	}
	if len(doc.RedirectURIs) > documentURIs {
		return registration{}, fmt.Errorf("redirect_uris: at most %d", documentURIs)
	}
	reg, _, err := newRegistration(ClientMetadata{RedirectURIs: doc.RedirectURIs, TokenEndpointAuthMethod: "none", ClientName: doc.ClientName, DPoPBound: string(doc.DPoPBound) == "true"}, nil, documentURIs)
	if err != nil {
		return registration{}, err
	}
	if reg.Name == "" {
		return registration{}, errors.New("the document has no client_name")
	}
	// §4.1: a secret in a public document is not a secret.
	if strings.HasPrefix(doc.AuthMethod, "client_secret_") {
		return registration{}, errNoSharedSecret
	}
	err = reg.takeAuthMethod(doc, clientID)
	return reg, err
}

// takeAuthMethod settles how the client proves itself. The list says what it can do; where there is
// one, the single member is only its preference (OpenID Connect RP Metadata Choices 1.0).
func (reg *registration) takeAuthMethod(doc metadataDocument, clientID string) error {
	methods := doc.AuthMethods
	if len(methods) == 0 {
		methods = []string{cmp.Or(doc.AuthMethod, "none")}
	}
	var noKey error // why no key of the client can be used
	if len(doc.JWKS) > 0 && string(doc.JWKS) != "null" {
		if reg.keys, noKey = parseKeys(doc.JWKS); noKey != nil && !errors.Is(noKey, errNoKey) {
			return noKey // of a client without need of a key too
		}
	}
	if noKey == nil || doc.JWKSURI != "" {
		noKey = reg.takeKeysURL(doc, clientID)
	}
	takesKey, takesNone := doc.AuthMethod == "private_key_jwt" || slices.Contains(methods, "private_key_jwt"), slices.Contains(methods, "none")
	switch {
	case takesKey && noKey == nil:
		// A client that may do without its key, and does, is still bound by PKCE; the token
		// endpoint takes either from it.
		reg.AuthMethod, reg.authOptional = authPrivateKeyJWT, takesNone
	case takesNone && doc.AuthMethod != "private_key_jwt":
	case takesKey:
		return noKey
	default:
		return errNoSharedSecret
	}
	return nil
}

var errNoSharedSecret = errors.New("token_endpoint_auth_method: a public document can only use none or private_key_jwt")

// takeKeysURL accepts keys at a URL on the client_id's own host: a document must not make us ask
// others.
func (reg *registration) takeKeysURL(doc metadataDocument, clientID string) error {
	if (reg.keys == nil) == (doc.JWKSURI == "") { // RFC 7591 §2: not both
		return errors.New("private_key_jwt needs either jwks or jwks_uri")
	}
	if reg.keys != nil {
		return nil
	}
	keys, err := checkDocumentURL(doc.JWKSURI)
	if err != nil || keys.Host != weburl.HostOf(clientID) {
		return errors.New("jwks_uri: must be an https URL on the host of the client_id")
	}
	reg.keysURL = doc.JWKSURI
	return nil
}

// documentClient returns the registration at a client_id that is a URL.
func (s *Issuer) documentClient(ctx context.Context, clientID string) (registration, error) {
	if !*s.MetadataDocuments {
		return registration{}, errors.New("this server reads no such documents; the application must register")
	}
	if _, err := checkDocumentURL(clientID); err != nil {
		return registration{}, err
	}
	body, err := s.documents.Fetch(ctx, clientdoc.Document(clientID), func(body []byte) error { _, err := parseDocument(clientID, body); return err })
	if err == nil {
		return parseDocument(clientID, body)
	}
	if reg, known := vendorRegistration(clientID); known && errors.Is(err, clientdoc.ErrUnreadable) {
		s.Log.Warn("client metadata document not available, what is known of this client serves instead", "url", clientID, "cause", err)
		return reg, nil
	}
	return registration{}, err
}

// vendorDocuments are facts from the metadata documents of well-known clients. They serve when the
// host of a document refuses a data centre's fetch and no copy was read before. They are used for
// nothing else, and allow no more than these redirect URIs.
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
	// The documents of single connectors, /oauth/ID/client.json, are left out: some of them demand
	// a key.
	{"https://chatgpt.com/oauth/client.json", "ChatGPT",
		[]string{"https://chatgpt.com/connector_platform_oauth_redirect"}, "2026-08-26", "github.com/django-oauth/django-oauth-toolkit/issues/1845"},
	{"https://opencode.ai/oauth/opencode/client.json", "opencode",
		[]string{"http://127.0.0.1/callback", "http://localhost/callback"}, "2026-09-07", "github.com/anomalyco/opencode/pull/47737"},
}

// vendorRegistration returns what is known of a client without its document.
func vendorRegistration(clientID string) (registration, bool) {
	for _, v := range vendorDocuments {
		if clientID == v.clientID {
			return registration{RedirectURIs: v.redirectURIs, Name: v.name, pinned: true}, true
		}
	}
	return registration{}, false
}

// reservedHost says whether fetches from a host have places of their own: the host is a well-known
// vendor's, or the operator trusts it.
func (s *Issuer) reservedHost(host string) bool {
	// a document's host is that of its keys, too
	for _, v := range vendorDocuments {
		if weburl.HostOf(v.clientID) == host {
			return true
		}
	}
	return slices.Contains(s.TrustedDocumentHosts, host) || slices.Contains(s.TrustedDocumentHosts, host+":443")
}
