package issuer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/jsontext"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// ClientMetadata is what is read of a registration request (RFC 7591 §2). Members not listed are
// ignored, as §2 demands.
type ClientMetadata struct {
	RedirectURIs            []string `json:"redirect_uris"`
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method"`
	ClientName              string   `json:"client_name"`
	// DPoPBound says that the client proves a key in all of its token requests (RFC 9449 §5.2).
	DPoPBound bool `json:"dpop_bound_access_tokens"`
}

// ClientInformation answers a registration (RFC 7591 §3.2.1) with what was registered, which may be
// less than was asked.
type ClientInformation struct {
	ClientID                string   `json:"client_id"`
	ClientIDIssuedAt        int64    `json:"client_id_issued_at"`
	ClientSecret            string   `json:"client_secret,omitempty"`
	ClientSecretExpiresAt   *int64   `json:"client_secret_expires_at,omitempty"` // 0: never
	RedirectURIs            []string `json:"redirect_uris"`
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method"`
	GrantTypes              []string `json:"grant_types"`
	ResponseTypes           []string `json:"response_types"`
	ClientName              string   `json:"client_name,omitempty"`
	Scope                   string   `json:"scope,omitempty"`
	DPoPBound               bool     `json:"dpop_bound_access_tokens,omitempty"`
}

func (c ClientInformation) written() []byte {
	o := make(jsontext.Object, 0, 768).String("client_id", c.ClientID).Int("client_id_issued_at", c.ClientIDIssuedAt)
	if c.ClientSecret != "" {
		o = o.String("client_secret", c.ClientSecret)
	}
	if c.ClientSecretExpiresAt != nil {
		o = o.Int("client_secret_expires_at", *c.ClientSecretExpiresAt)
	}
	o = o.Strings("redirect_uris", c.RedirectURIs).String("token_endpoint_auth_method", c.TokenEndpointAuthMethod).
		Strings("grant_types", c.GrantTypes).Strings("response_types", c.ResponseTypes)
	if c.ClientName != "" {
		o = o.String("client_name", c.ClientName)
	}
	if c.Scope != "" {
		o = o.String("scope", c.Scope)
	}
	if c.DPoPBound {
		o = o.Bool("dpop_bound_access_tokens", true)
	}
	return o.End()
}

// register seals a registration into its client_id. Nothing is stored, so nobody can fill anything
// up.
func (s *Issuer) register(w http.ResponseWriter, r *http.Request, t *tenant) error {
	if err := t.takesRegistrations(); err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRegistration)
	body, err := readBody(r)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	} else if err != nil {
		// The body was cut off, or has not the encoding that a function's event named: nothing of
		// ours is broken.
		return invalidRequest("the body is not complete").because(err)
	}
	metadata, err := readMetadata(body)
	if err != nil {
		return invalidClientMetadata("the body must be one JSON object of client metadata").because(errors.New("not JSON, a repeated member or a wrong type"))
	}
	if t.DPoP == dpopOff { // a member that means nothing here
		metadata.DPoPBound = false
	}
	info, reg, err := registerClient(s.Ring, t.id, t.PrivateRedirectURIs, metadata, false, s.Now())
	if err != nil {
		return err
	}
	if err := t.admitsClient(client{registration: reg, id: info.ClientID}); err != nil {
		return err
	}
	// Some clients ask later for the scopes of this answer (mcp-remote 0.1). So it has the scopes
	// that open the door, and no more.
	info.Scope = strings.Join(t.advertisedAtTheResource(), " ")
	s.recordAttrs(audit.ClientRegistered, about{tenant: t, client: info.ClientID}, slog.String("name", info.ClientName), slog.Any("redirect_uris", info.RedirectURIs[:min(len(info.RedirectURIs), maxRedirectURIs)]),
		slog.String("auth", info.TokenEndpointAuthMethod), slog.String("remote", remoteIP(r)))
	if s.Metrics != nil {
		s.Metrics.Stage(t.Resource, metrics.Product("", info.RedirectURIs, info.ClientName), metrics.Registered)
	}
	writeBody(w, http.StatusCreated, jsonType, info.written())
	return nil
}

// readMetadata is go-jose's decoder: exact member names, no repeated ones. The plain text that
// programs send is read without it.
func readMetadata(body []byte) (m ClientMetadata, err error) {
	var room [8]jsontext.Member
	members, plain := jsontext.Plain(room[:0], string(body))
	for _, member := range members {
		switch {
		case member.Name == "redirect_uris" && member.List != nil:
			m.RedirectURIs = member.List
		case member.Name == "token_endpoint_auth_method" && member.IsText:
			m.TokenEndpointAuthMethod = member.Text
		case member.Name == "client_name" && member.IsText:
			m.ClientName = member.Text
		case slices.Contains(metadataMembers, member.Name): // of another type, or a rare one
			plain = false
		}
	}
	if !plain {
		m = ClientMetadata{}
		err = json.Unmarshal(body, &m)
	}
	return m, err
}

var metadataMembers = []string{"redirect_uris", "token_endpoint_auth_method", "client_name", "dpop_bound_access_tokens"}

// RegisterClient seals client metadata into a client_id of the tenant and derives its secret, for
// an operator: the label registration tells such clients from those that register themselves.
// Nothing is kept: the same metadata registered twice makes two clients. private is the label
// privateRedirectURIs. Errors are *Error with a code of RFC 7591 §3.2.2.
func RegisterClient(ring *sealing.Ring, tenant sealing.TenantID, private []string, metadata ClientMetadata, now time.Time) (ClientInformation, error) {
	info, _, err := registerClient(ring, tenant, private, metadata, true, now)
	return info, err
}

func registerClient(ring *sealing.Ring, tenant sealing.TenantID, private []string, metadata ClientMetadata, created bool, now time.Time) (ClientInformation, registration, error) {
	reg, accepted, err := newRegistration(metadata, private, maxRedirectURIs)
	if err != nil {
		return ClientInformation{}, reg, err
	}
	reg.Created = created
	if len(reg.RedirectURIs) > maxRedirectURIs { // they travel in every URL
		return ClientInformation{}, reg, badRequest("invalid_redirect_uri", fmt.Sprintf("redirect_uris: at most %d, where ports of one loopback address count once", maxRedirectURIs))
	}
	id, secret, err := sealClient(ring, tenant, reg, now)
	if err != nil {
		return ClientInformation{}, reg, err
	}
	if len(id) > maxClientID {
		return ClientInformation{}, reg, invalidClientMetadata("redirect_uris: together too long")
	}
	info := ClientInformation{
		ClientID: id, ClientIDIssuedAt: now.Unix(),
		RedirectURIs: accepted, TokenEndpointAuthMethod: authMethods[reg.AuthMethod],
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		ClientName: reg.Name, DPoPBound: reg.DPoPBound,
	}
	if secret != "" {
		info.ClientSecret, info.ClientSecretExpiresAt = secret, new(int64)
	}
	return info, reg, nil
}

// sealClient makes a client_id of a registration, and derives the secret if the client has one. A
// secret that begins with "-" would look like a flag to programs. So another id is sealed then:
// each has another secret.
func sealClient(ring *sealing.Ring, tenant sealing.TenantID, reg registration, now time.Time) (id, secret string, err error) {
	payload := must(payloadEncoding.Marshal(reg))
	for {
		id = ring.Seal(sealing.KindClient, tenant, "", payload, now)
		if reg.AuthMethod == authNone || reg.AuthMethod == authPrivateKeyJWT {
			return id, "", nil
		}
		if secret, err = ring.ClientSecret(tenant, id); err != nil || secret[0] != '-' {
			return id, secret, err
		}
	}
}

func invalidClientMetadata(description string) *Error {
	return badRequest("invalid_client_metadata", description)
}

var errNoRedirectURI = errors.New("redirect_uris: at least one is needed")

// newRegistration keeps the redirect URIs that are acceptable; one must be. Real clients register
// several and use one, and dropping a bad one is as safe as refusing all. URIs that
// redirecturi.Match takes for one are kept once: clients register a dozen ports of one loopback
// URI, with and without a slash. accepted are all URIs that the client may use, as it wrote them.
// After most different URIs the rest is not looked at: each is compared with all others, and
// strangers may send hundreds.
func newRegistration(m ClientMetadata, private []string, most int) (reg registration, accepted []string, err error) {
	why := errNoRedirectURI
	for i, uri := range m.RedirectURIs {
		if len(reg.RedirectURIs) > most {
			break
		}
		if err := redirecturi.Check(uri, private); err != nil {
			why = fmt.Errorf("redirect_uris: number %d %w", i+1, err)
			continue
		}
		if !slices.Contains(accepted, uri) {
			accepted = append(accepted, uri)
		}
		if !redirecturi.Listed(reg.RedirectURIs, uri) {
			reg.RedirectURIs = append(reg.RedirectURIs, uri)
		}
	}
	if len(reg.RedirectURIs) == 0 {
		return reg, nil, badRequest("invalid_redirect_uri", why.Error())
	}
	registrable := authMethods[:authPrivateKeyJWT] // a key needs a metadata document
	switch i := slices.Index(registrable, m.TokenEndpointAuthMethod); {
	case i >= 0:
		reg.AuthMethod = authMethod(i)
	case m.TokenEndpointAuthMethod == "":
		reg.AuthMethod = authBasic // RFC 7591 §2: the default
	default:
		return reg, nil, invalidClientMetadata("token_endpoint_auth_method: must be one of " + strings.Join(registrable, ", "))
	}
	reg.Name, reg.DPoPBound = names.Displayed(m.ClientName), m.DPoPBound
	return reg, accepted, nil
}
