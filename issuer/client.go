package issuer

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// authMethod is a client's token_endpoint_auth_method, as a number in its sealed registration.
type authMethod uint8

const (
	authNone authMethod = iota
	authBasic
	authPost
)

// authMethods are the names of RFC 7591 §2, at the index of their number.
var authMethods = []string{"none", "client_secret_basic", "client_secret_post"}

// client is a registration that opened, with the client_id it was read from.
type client struct {
	registration
	id string
}

func (c client) hash() [sha256.Size]byte { return sha256.Sum256([]byte(c.id)) }

// openClient reads a client_id. The redirect URIs in it are checked again at every use: what today's rules refuse
// does not stay allowed because it was registered yesterday.
func (s *Issuer) openClient(t *tenant, id string) (client, error) {
	c := client{id: id}
	if len(id) > maxClientID {
		return c, sealing.ErrNotOpened
	}
	if err := s.open(sealing.KindClient, t, "", id, &c.registration); err != nil {
		return c, err
	}
	if int(c.AuthMethod) >= len(authMethods) || len(c.RedirectURIs) == 0 { // an empty payload decodes as well
		return c, sealing.ErrNotOpened
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri); err != nil {
			return c, err
		}
	}
	return c, nil
}

// authenticateClient is the only place where a client proves itself at the token endpoint (RFC 6749 §2.3), before
// anything is consumed. A confidential client may send its secret either way, in the header or the body: the
// proof is the same. A public client may send an empty secret, as Go's oauth2 package does.
func (s *Issuer) authenticateClient(r *http.Request, t *tenant, form url.Values) (client, error) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	user, password, basic := r.BasicAuth()
	refused := func(why string) *Error {
		return (&Error{Status: http.StatusUnauthorized, Code: "invalid_client", Description: why, basic: basic})
	}
	if basic {
		// RFC 6749 §2.3.1: both halves are form-encoded first. Ids and secrets of ours have no character
		// that encoding changes, so clients that forget it are understood too.
		var errUser, errPassword error
		user, errUser = url.QueryUnescape(user)
		password, errPassword = url.QueryUnescape(password)
		if errUser != nil || errPassword != nil || id != "" && id != user || secret != "" && secret != password {
			return client{}, refused("the Authorization header and the body name different clients")
		}
		id, secret = user, password
	}
	if id == "" {
		return client{}, refused("client_id is missing")
	}
	c, err := s.openClient(t, id)
	if err != nil {
		return client{}, refused("this client is not registered here; register again").because(err)
	}
	if c.AuthMethod == authNone {
		if secret != "" {
			return client{}, refused("this client has no secret")
		}
		return c, nil
	}
	want, err := s.Ring.ClientSecret(t.id, id)
	if err != nil {
		return client{}, refused("this client is not registered here; register again").because(err)
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(secret)) != 1 {
		return client{}, refused("client authentication failed").because(errors.New("wrong or missing client_secret of client " + sealing.Fingerprint(id)))
	}
	return c, nil
}
