package issuer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A Machine comes in without a person: by client_credentials (RFC 6749 §4.4) or with a bearer key.
// Only the operator makes one, with the master secret at hand, and says who it is and what it may
// do. So the rules about people (admit, scopeRules) do not apply to it.
type Machine struct {
	// Subject is the sub of its access tokens. Only the operator's choice keeps it apart from the
	// provider's subjects.
	Subject string
	Scope   string // all scopes that it can get
}

func (m *Machine) normalize() error {
	if m.Subject == "" || len(m.Subject) > 255 || strings.ContainsFunc(m.Subject, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("subject: give 1 to 255 printable ASCII characters without blanks")
	}
	m.Scope = strings.Join(distinct(strings.Fields(m.Scope)), " ")
	// The characters are those of RFC 6749 §3.3, without the separators of other lists, as in
	// labels: "a,b" would be one scope that no rule asks for.
	if len(m.Scope) > maxScopes || strings.ContainsAny(m.Scope, ",;") || strings.ContainsFunc(m.Scope, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return fmt.Errorf("scope: separate scopes by blanks, at most %d characters; they cannot hold commas, semicolons, quotes, backslashes or non-ASCII", maxScopes)
	}
	return nil
}

// machineAuthMethods are the methods that prove something.
var machineAuthMethods = []authMethod{authBasic, authPost, authPrivateKeyJWT}

// RegisterMachine seals a client of client_credentials into its client_id. keys is a JWK Set with
// its public keys, for private_key_jwt. The client_id carries it too: a document that can change
// must not decide who has the operator's word.
func RegisterMachine(ring *sealing.Ring, tenant sealing.TenantID, m Machine, name, method string, keys []byte, now time.Time) (ClientInformation, error) {
	if err := m.normalize(); err != nil {
		return ClientInformation{}, err
	}
	i := slices.Index(authMethods, method)
	if !slices.Contains(machineAuthMethods, authMethod(i)) {
		return ClientInformation{}, errors.New("auth: must be client_secret_basic, client_secret_post or private_key_jwt")
	}
	reg := registration{AuthMethod: authMethod(i), Name: names.Displayed(name), Subject: m.Subject, Scope: m.Scope}
	if (reg.AuthMethod == authPrivateKeyJWT) != (keys != nil) {
		return ClientInformation{}, errors.New("jwks: belongs to private_key_jwt, and private_key_jwt needs it")
	}
	if keys != nil {
		set, err := parseKeys(keys)
		if err != nil {
			return ClientInformation{}, err
		}
		for i, key := range set.Keys { // certificates are not looked at and would not fit
			set.Keys[i] = jose.JSONWebKey{Key: key.Key, KeyID: key.KeyID, Algorithm: key.Algorithm}
		}
		reg.Keys = must(json.Marshal(set))
	}
	id, secret, err := sealClient(ring, tenant, reg, now)
	if err != nil {
		return ClientInformation{}, err
	}
	if len(id) > maxClientID {
		return ClientInformation{}, fmt.Errorf("the client_id would be longer than %d characters: give one key, of Ed25519 or P-256, and fewer scopes", maxClientID)
	}
	info := ClientInformation{
		ClientID: id, ClientIDIssuedAt: now.Unix(), RedirectURIs: []string{}, TokenEndpointAuthMethod: method,
		GrantTypes: []string{"client_credentials"}, ResponseTypes: []string{}, ClientName: reg.Name, Scope: m.Scope,
	}
	if secret != "" {
		info.ClientSecret, info.ClientSecretExpiresAt = secret, new(int64)
	}
	return info, nil
}

// checkMachine completes a registration that names a subject, and refuses what RegisterMachine
// would not have made.
func (reg *registration) checkMachine() (err error) {
	if len(reg.RedirectURIs) > 0 || !slices.Contains(machineAuthMethods, reg.AuthMethod) || (reg.AuthMethod == authPrivateKeyJWT) != (reg.Keys != nil) {
		return sealing.ErrNotOpened
	}
	if reg.Keys != nil {
		reg.keys, err = parseKeys(reg.Keys)
	}
	return err
}

// machine says whether the client stands for a machine. Such a client gets client_credentials and
// nothing else, and no other client gets that.
func (c client) machine() bool { return c.Subject != "" }

// clientCredentials handles RFC 6749 §4.4. The client has proved itself; its subject and scopes are
// in its client_id.
func (s *Issuer) clientCredentials(ctx context.Context, t *tenant, c client, form url.Values) (tokenResponse, error) {
	resource, err := t.narrowResource(form, t.PublicURL)
	if err != nil {
		return tokenResponse{}, err
	}
	made, err := sealing.IssuedAt(sealing.KindClient, c.id)
	if err != nil {
		return tokenResponse{}, err
	}
	hash := c.hash()
	g := grant{
		Identity: identity{Subject: c.Subject, machine: true}, Scope: c.Scope, Resource: resource,
		// One login for the life of the client, which began when the operator made it: what ends
		// that login ends the client.
		Login: [16]byte(hash[:16]), Born: made.Unix(),
	}
	if err := s.loginDenied(ctx, t, g); err != nil {
		return tokenResponse{}, err
	}
	if err := t.givesScope(g, form.Get("scope")); err != nil {
		return tokenResponse{}, err
	}
	return s.issue(t, c, renewal{grant: g}, form.Get("scope"), "client_credentials")
}

// KeyInformation is what an operator is told of a new bearer key.
type KeyInformation struct {
	Key string `json:"key"`
	// KeyID names it in the log, in the sid of its access tokens, and in a deny document.
	KeyID     string `json:"key_id"`
	Subject   string `json:"subject"`
	Scope     string `json:"scope"`
	ExpiresAt int64  `json:"expires_at"`
}

// CreateKey makes a bearer key, for programs that can send a fixed header and nothing else.
func CreateKey(ring *sealing.Ring, tenant sealing.TenantID, m Machine, life time.Duration, now time.Time) (KeyInformation, error) {
	if err := m.normalize(); err != nil {
		return KeyInformation{}, err
	}
	key := bearerKey{ID: [16]byte(randomBytes(16)), Subject: m.Subject, Scope: m.Scope, Expires: now.Add(life).Unix()}
	return KeyInformation{
		Key:   ring.Seal(sealing.KindBearer, tenant, "", must(payloadEncoding.Marshal(key)), now),
		KeyID: base64.RawURLEncoding.EncodeToString(key.ID[:]), Subject: key.Subject, Scope: key.Scope, ExpiresAt: key.Expires,
	}, nil
}

// exchangeKey gives the plugin an access token for a bearer key that a client presented. The token
// ends with the key.
func (s *Issuer) exchangeKey(w http.ResponseWriter, r *http.Request, t *tenant) error {
	form, err := tokenForm(r)
	if err != nil {
		return err
	}
	if t.DPoP == dpopRequire {
		return invalidGrant("this server takes no bearer keys").because(errors.New("the label dpop is require, so nothing that works as a copy is taken: use a client of client_credentials that sends proofs, or set dpop to accept"))
	}
	payload, made, err := s.Ring.Open(sealing.KindBearer, t.id, "", form.Get("key"), s.Now())
	var key bearerKey
	if err != nil || payloadDecoding.Unmarshal(payload, &key) != nil || key.Subject == "" {
		return invalidGrant("the key is not one of this server").because(sealing.ErrNotOpened)
	}
	id := base64.RawURLEncoding.EncodeToString(key.ID[:])
	ends := time.Unix(key.Expires, 0)
	if !s.Now().Before(ends) {
		return invalidGrant("the key has expired").because(errors.New("key " + id))
	}
	g := grant{
		Identity: identity{Subject: key.Subject, machine: true}, Scope: key.Scope, Resource: t.PublicURL,
		Login: key.ID, Born: made.Unix(), ends: ends,
	}
	if err := s.keyDenied(r.Context(), id); err != nil {
		return err
	}
	if err := s.loginDenied(r.Context(), t, g); err != nil {
		return err
	}
	resp, err := s.issue(t, client{id: "key:" + id}, renewal{grant: g}, "", "key")
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, jsonType, resp.written())
	return nil
}
