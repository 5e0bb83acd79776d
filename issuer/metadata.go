package issuer

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// documentRoutes are the documents that anybody may read.
func (s *Issuer) documentRoutes() []route {
	return []route{
		{"/.well-known/oauth-authorization-server", "GET", true, s.metadata},
		{"/.well-known/oauth-authorization-server/", "GET", true, s.metadata},
		{"/.well-known/openid-configuration", "GET", true, s.metadata},
		{"/.well-known/openid-configuration/", "GET", true, s.metadata},
		{"/.well-known/oauth-protected-resource", "GET", true, s.protectedResource},
		{"/.well-known/oauth-protected-resource/", "GET", true, s.protectedResource},
		{"/oauth/jwks.json", "GET", true, s.jwks},
		{provider.ClientKeysPath, "GET", true, s.clientKeys},
	}
}

// serverMetadata is the document of RFC 8414 §2, with the members that OpenID Connect Discovery §3
// requires: clients look under either name and get one document.
type serverMetadata struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	RegistrationEndpoint  string `json:"registration_endpoint,omitempty"`
	// RFC 7009
	RevocationEndpoint       string                    `json:"revocation_endpoint,omitempty"`
	RevocationAuthMethods    []string                  `json:"revocation_endpoint_auth_methods_supported,omitempty"`
	RevocationSigningAlgs    []jose.SignatureAlgorithm `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`
	JWKSURI                  string                    `json:"jwks_uri"`
	ScopesSupported          []string                  `json:"scopes_supported"`
	ResponseTypes            []string                  `json:"response_types_supported"`
	ResponseModes            []string                  `json:"response_modes_supported"`
	GrantTypes               []string                  `json:"grant_types_supported"`
	GrantProfiles            []string                  `json:"authorization_grant_profiles_supported,omitempty"`
	TokenEndpointAuthMethods []string                  `json:"token_endpoint_auth_methods_supported"`
	CodeChallengeMethods     []string                  `json:"code_challenge_methods_supported"`
	TokenEndpointSigningAlgs []jose.SignatureAlgorithm `json:"token_endpoint_auth_signing_alg_values_supported"`
	IssParameterSupported    bool                      `json:"authorization_response_iss_parameter_supported"`
	MetadataDocuments        bool                      `json:"client_id_metadata_document_supported"`
	SubjectTypes             []string                  `json:"subject_types_supported"`
	IDTokenSigningAlgs       []string                  `json:"id_token_signing_alg_values_supported"`
	// RFC 9449 §5.1
	DPoPSigningAlgs []string `json:"dpop_signing_alg_values_supported,omitempty"`
	// OpenID Connect Discovery §3; RFC 9470 §7
	ACRValues []string `json:"acr_values_supported,omitempty"`
	// Left out, it would mean true.
	RequestURI bool `json:"request_uri_parameter_supported"`
}

// prepared are texts that follow from a tenant's labels and from what stands in their names, each
// made once. They are the tenant's own and go with it and its hop header: none outlives a change of
// a label, and no other tenant gets one.
type prepared struct {
	mu sync.RWMutex // guards m for one access
	m  map[preparedName][]byte
}

type preparedName struct {
	what        string
	first, last uint32 // epochs of signing keys, where it holds what follows from them
}

// get returns a text that nobody may change.
func (p *prepared) get(name preparedName, make func() []byte) []byte {
	p.mu.RLock()
	text, ok := p.m[name]
	p.mu.RUnlock()
	if ok {
		return text
	}
	text = make()
	p.mu.Lock()
	defer p.mu.Unlock()
	forget.Put(&p.m, name, text, preparedKept)
	return text
}

// preparedKept is room for some twenty MCP endpoints. A tenant with more makes some texts again.
const preparedKept = 64

// metadata serves the same document below each MCP endpoint: clients older than RFC 9728 take the
// endpoint's URL for the issuer's, as rmcp 0.8 does. A client that compares the two has learnt the
// issuer from the resource's metadata, and does not ask there.
func (s *Issuer) metadata(w http.ResponseWriter, r *http.Request, t *tenant) error {
	if _, err := t.documentPath(r); err != nil {
		return err
	}
	name, revocable := "metadata", s.revocable(t)
	if revocable {
		name = "metadata with revocation"
	}
	document := t.prepared.get(preparedName{what: name}, func() []byte {
		m := serverMetadata{
			Issuer:                   t.PublicURL,
			AuthorizationEndpoint:    t.PublicURL + "/oauth/authorize",
			TokenEndpoint:            t.PublicURL + "/oauth/token",
			JWKSURI:                  t.PublicURL + "/oauth/jwks.json",
			ScopesSupported:          append(slices.Clone(t.advertised()), "offline_access"),
			ResponseTypes:            []string{"code"},
			ResponseModes:            []string{"query"},
			GrantTypes:               t.grantTypes(),
			GrantProfiles:            t.grantProfiles(),
			TokenEndpointAuthMethods: authMethods,
			CodeChallengeMethods:     []string{"S256"},
			TokenEndpointSigningAlgs: assertionAlgorithms,
			MetadataDocuments:        *s.MetadataDocuments && t.Registration != registrationCreated,
			IssParameterSupported:    true, // RFC 9207 §3: sent with every authorization response
			SubjectTypes:             []string{"public"},
			// OpenID Discovery requires the member, although no id_token is issued.
			IDTokenSigningAlgs: []string{"EdDSA"},
			DPoPSigningAlgs:    t.proofAlgorithms(),
		}
		if t.stepup != nil {
			m.ACRValues = t.stepup.ACRValues()
		}
		if t.Registration == registrationOpen {
			m.RegistrationEndpoint = t.PublicURL + "/oauth/register"
		}
		// An endpoint without effect would let a client believe that a login has ended.
		if revocable {
			m.RevocationEndpoint, m.RevocationAuthMethods = t.PublicURL+"/oauth/revoke", authMethods
			// RFC 8414 §2: a MUST beside private_key_jwt
			m.RevocationSigningAlgs = assertionAlgorithms
		}
		return must(json.Marshal(m))
	})
	writeDocument(w, document)
	return nil
}

// writeDocument answers with what anybody may read and keep for a while.
func writeDocument(w http.ResponseWriter, document []byte) {
	w.Header()["Cache-Control"] = cacheable
	writeBody(w, http.StatusOK, jsonType, document)
}

// resourceMetadata is the document of RFC 9728 §2.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	ResourceName         string   `json:"resource_name"`
	DPoPSigningAlgs      []string `json:"dpop_signing_alg_values_supported,omitempty"`
	DPoPRequired         bool     `json:"dpop_bound_access_tokens_required,omitempty"`
}

// protectedResource describes the MCP endpoint that the path names. Clients compare `resource` with
// the URL that the person typed, to the byte (RFC 9728 §3.3), so each endpoint has a document of
// its own.
func (s *Issuer) protectedResource(w http.ResponseWriter, r *http.Request, t *tenant) error {
	path, err := t.documentPath(r)
	if err != nil {
		return err
	}
	writeDocument(w, t.prepared.get(preparedName{what: "resource " + path}, func() []byte {
		return must(json.Marshal(resourceMetadata{
			Resource:             t.resourceURL(path),
			AuthorizationServers: []string{t.PublicURL},
			ScopesSupported:      t.advertisedAtTheResource(),
			BearerMethods:        []string{"header"},
			// For people; parseTenant has made it Resource where the label is not set.
			ResourceName:    t.DisplayName,
			DPoPSigningAlgs: t.proofAlgorithms(),
			DPoPRequired:    t.DPoP == dpopRequire,
		}))
	}))
	return nil
}

// documentPath returns what follows a well-known document's name: the path of an MCP endpoint, or
// nothing. A slash at the end stays: it is part of what was typed.
func (t *tenant) documentPath(r *http.Request) (string, error) {
	_, path := splitDocument(r.URL.Path)
	if path != "" && path != "/" && !slices.Contains(t.MCPPaths, strings.TrimSuffix(path, "/")) {
		return "", &Error{Status: http.StatusNotFound, Code: "not_found", Description: "no MCP endpoint has this path"}
	}
	return path, nil
}

// jwks publishes the verification keys of all masters and of every epoch whose tokens may be alive,
// and the next one, so that a verifier knows a key before it signs.
func (s *Issuer) jwks(w http.ResponseWriter, r *http.Request, t *tenant) error {
	now := s.Now()
	first, last := s.Schedule.Published(now)
	writeDocument(w, t.prepared.get(preparedName{"keys", first, last}, func() []byte {
		set := jose.JSONWebKeySet{}
		for _, key := range s.Ring.VerificationKeys(t.id, s.Schedule, now) {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: keyID(key), Algorithm: string(jose.EdDSA), Use: "sig"})
		}
		return must(json.Marshal(set))
	}))
	return nil
}

// clientKeys publishes the keys that prove the operator's client at the provider.
func (s *Issuer) clientKeys(w http.ResponseWriter, _ *http.Request, t *tenant) error {
	if t.ClientAuth != provider.PrivateKeyJWT {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Description: "this server has no key at its sign-in provider"}
	}
	writeDocument(w, must(json.Marshal(s.providers.ClientKeys(&t.provider))))
	return nil
}

func (t *tenant) clientJWKS() string { return t.PublicURL + provider.ClientKeysPath }
