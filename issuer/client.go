package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/forget"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// authMethod is a client's token_endpoint_auth_method, as a number in its sealed registration.
type authMethod uint8

const (
	authNone authMethod = iota
	authBasic
	authPost
	authPrivateKeyJWT // only clients with a metadata document, and machines
)

// authMethods are the names of RFC 7591 §2, at the index of their number.
var authMethods = []string{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"}

// client is a registration that opened, with the client_id it was read from.
type client struct {
	registration
	id     string
	proved bool // with private_key_jwt, in this request
	// thumbprint is that of the key which this request proves (proven); empty: none.
	thumbprint string

	// binding is what its refresh tokens are bound to (refreshContext). It is set where the client
	// has proved itself.
	binding string
	// context is what binding will be, where that was found before.
	context string
}

// byDocument says whether the client_id is the URL of a metadata document. Then the document's host
// is proven.
func (c client) byDocument() bool { return isDocumentURL(c.id) }

func isDocumentURL(clientID string) bool { return strings.HasPrefix(clientID, "https://") }

// documentRead says whether the document's host says now, or lets be kept, what is known of the
// client. Otherwise an old copy serves, or what is known here.
func (s *Issuer) documentRead(c client) bool {
	return c.byDocument() && !c.pinned && !s.documents.Stale(clientdoc.Document(c.id))
}

// keyRequired says whether the client must authenticate with its key. It is decided when consent is
// asked and stays so for this login, whatever the document says later.
func (c client) keyRequired() bool { return c.AuthMethod == authPrivateKeyJWT && !c.authOptional }

// public says whether the client has proved nothing in this request but that it knows its
// client_id.
func (c client) public() bool {
	return c.AuthMethod == authNone || c.AuthMethod == authPrivateKeyJWT && !c.proved
}

// product is the client's in the metrics.
func (c client) product() string {
	if c.machine() {
		return metrics.Product("machine:", nil, "")
	}
	return metrics.Product(c.id, c.RedirectURIs, c.Name)
}

func (c client) hash() [sha256.Size]byte { return sha256.Sum256([]byte(c.id)) }

// interchangeable says whether a registration with the same meaning stands for the same client.
// That is so for a public client that registered: nothing tells it from a second registration of
// itself, and programs register again when their loopback port changes. A secret, a key or a
// document's URL tells clients apart.
func (c client) interchangeable() bool {
	return c.AuthMethod == authNone && !c.byDocument() && !c.machine()
}

// meaning returns a hash of what an interchangeable client registered, the order of its redirect
// URIs and the ports of loopback ones aside (RFC 8252 §7.3).
func (c client) meaning() [sha256.Size]byte {
	uris := make([]string, 0, maxRedirectURIs)
	for _, uri := range c.RedirectURIs {
		uris = append(uris, redirecturi.Compared(uri))
	}
	slices.Sort(uris)
	return sha256.Sum256(must(payloadEncoding.Marshal(registration{RedirectURIs: slices.Compact(uris), AuthMethod: c.AuthMethod, Name: c.Name})))
}

// openClient reads a client_id. It checks the redirect URIs again at each use: what today's rules
// refuse does not stay allowed because it was registered yesterday.
func (s *Issuer) openClient(ctx context.Context, t *tenant, id string) (c client, err error) {
	c.id = id
	if isDocumentURL(id) { // no sealed value begins like that
		c.registration, err = s.documentClient(ctx, id)
		return c, err
	}
	if len(id) > maxClientID {
		return c, sealing.ErrNotOpened
	}
	name := nameOpened(t, id)
	if known, ok := s.opened.get(name); ok {
		return known, nil
	}
	if err := s.open(sealing.KindClient, t, "", id, &c.registration); err != nil {
		return c, err
	}
	if c.machine() {
		err := c.checkMachine()
		return c, err
	}
	// An empty payload decodes as well.
	if c.Keys != nil || c.AuthMethod >= authPrivateKeyJWT || len(c.RedirectURIs) == 0 {
		return c, sealing.ErrNotOpened
	}
	for _, uri := range c.RedirectURIs {
		if err := redirecturi.Check(uri, t.PrivateRedirectURIs); err != nil {
			return c, err
		}
	}
	c.context = refreshContext(c)
	s.opened.put(name, c)
	return c, nil
}

// openedClients are registrations that were opened and checked. Many people log in with the
// client_id of one hosted application, and nothing that it says changes while the labels stay. What
// is denied is asked at each use, and so is a secret. No document and no machine is among them.
type openedClients struct {
	mu sync.RWMutex // guards m for one access
	m  map[[sha256.Size]byte]client
}

// clientsKept bounds what strangers can fill with clients that they registered: half a megabyte.
const clientsKept = 512

// nameOpened names a client_id under all labels of a tenant, and not only under those that make its
// keys: privateRedirectURIs, too, decides what opens.
func nameOpened(t *tenant, id string) [sha256.Size]byte {
	b := make([]byte, 0, 512) // on the stack, where most ids have room
	return sha256.Sum256(append(append(b, t.sum[:]...), id...))
}

func (o *openedClients) get(name [sha256.Size]byte) (client, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	c, ok := o.m[name]
	return c, ok
}

func (o *openedClients) put(name [sha256.Size]byte, c client) {
	o.mu.Lock()
	defer o.mu.Unlock()
	forget.Put(&o.m, name, c, clientsKept)
}

// unknownClient tells a person why an application cannot be asked about.
func unknownClient(id string, err error) *Error {
	e := &Error{Status: http.StatusBadRequest, Code: "invalid_client", Description: "This application is not registered with this server."}
	switch {
	case errors.Is(err, clientdoc.ErrUnreadable): // nothing is wrong with the request
		e.Status, e.Code = http.StatusBadGateway, "temporarily_unavailable"
		e.Description = "The document in which this application describes itself cannot be read at the moment."
	case isDocumentURL(id):
		e.Code = "invalid_client_metadata"
		e.Description = "The document in which this application describes itself cannot be accepted: " + err.Error() + "."
	}
	return e.because(err)
}

// credentials are how a client names and proves itself at the token endpoint (RFC 6749 §2.3, RFC
// 7523 §2.2).
type credentials struct {
	id, secret, assertion string
	basic                 bool // the Authorization header was used
}

// presentedCredentials reads them, and refuses a request that names two clients.
func presentedCredentials(r *http.Request, form url.Values) (credentials, error) {
	p := credentials{id: form.Get("client_id"), secret: form.Get("client_secret"), assertion: form.Get("client_assertion")}
	if user, password, ok := r.BasicAuth(); ok {
		p.basic = true
		// RFC 6749 §2.3.1: both halves are form-encoded first. Our ids and secrets have no
		// character that encoding changes, so clients that forget the encoding are understood too.
		user, errUser := url.QueryUnescape(user)
		password, errPassword := url.QueryUnescape(password)
		if errUser != nil || errPassword != nil || p.id != "" && p.id != user || p.secret != "" && p.secret != password {
			return p, errors.New("the Authorization header and the body name different clients")
		}
		p.id, p.secret = user, password
	}
	if p.assertion == "" {
		return p, nil
	}
	if p.secret != "" || form.Get("client_assertion_type") != assertionType {
		return p, errors.New("client_assertion needs its client_assertion_type, and no secret beside it")
	}
	subject, err := assertedClient(p.assertion)
	if err != nil {
		return p, err
	}
	if p.id == "" {
		p.id = subject // RFC 7521 §4.2: client_id is unnecessary then
	}
	return p, nil
}

// bringsCredentials says whether a request proves a client, or tries to. A client_id proves none.
func bringsCredentials(r *http.Request, form url.Values) bool {
	p, err := presentedCredentials(r, form)
	return err != nil || p.secret != "" || p.assertion != ""
}

// authenticated wraps an endpoint where a client authenticates. The log names the client with each
// refusal there.
func (s *Issuer) authenticated(endpoint func(http.ResponseWriter, *http.Request, *tenant, client, url.Values) error) func(http.ResponseWriter, *http.Request, *tenant) error {
	return func(w http.ResponseWriter, r *http.Request, t *tenant) error {
		form, err := tokenForm(r)
		if err != nil {
			return err
		}
		c, err := s.authenticateClient(r, t, form)
		if err != nil {
			return err
		}
		if err = s.clientDenied(r.Context(), c.id); err == nil {
			err = t.admitsClient(c)
		}
		if err == nil {
			err = endpoint(w, r, t, c, form)
		}
		if err != nil {
			return ofClient(c.id, err)
		}
		return nil
	}
}

// authenticateClient is the only place where a client authenticates, before anything is used up. A
// confidential client may send its secret either way, in the header or the body: the proof is the
// same. A public client may send an empty secret, as Go's oauth2 package does.
func (s *Issuer) authenticateClient(r *http.Request, t *tenant, form url.Values) (client, error) {
	p, err := presentedCredentials(r, form)
	refused := func(why string, cause error) error {
		return ofClient(p.id, &Error{Status: http.StatusUnauthorized, Code: "invalid_client", Description: why, basic: p.basic, cause: cause})
	}
	if err != nil {
		return client{}, refused(err.Error(), nil)
	}
	if p.id == "" {
		var why error
		if form.Get("grant_type") == jwtBearerGrant {
			why = errors.New("a workload's token needs the label workloadIssuers, and an identity assertion a client that proves itself")
		}
		return client{}, refused("client_id is missing", why)
	}
	if err := t.admitsDocument(p.id); err != nil {
		return client{}, ofClient(p.id, err)
	}
	c, err := s.openClient(r.Context(), t, p.id)
	switch {
	case errors.Is(err, clientdoc.ErrUnreadable):
		return client{}, unreadableClient(p.id, err)
	case err != nil && isDocumentURL(p.id):
		return client{}, refused("the document at this client_id is not acceptable: "+err.Error(), err)
	case err != nil:
		return client{}, refused("this client is not registered here; register again", err)
	}
	switch {
	case p.assertion != "":
		if c.pinned { // its keys are in the document that cannot be read
			return client{}, unreadableClient(p.id, clientdoc.ErrUnreadable)
		}
		if c.AuthMethod != authPrivateKeyJWT {
			return client{}, refused("this client has no key", nil)
		}
		if err := s.verifyAssertion(r.Context(), t, c, p.assertion); errors.Is(err, clientdoc.ErrUnreadable) {
			return client{}, unreadableClient(p.id, err)
		} else if err != nil {
			return client{}, refused("client authentication failed", err)
		}
		c.proved = true
	case c.AuthMethod == authNone, c.AuthMethod == authPrivateKeyJWT && c.authOptional:
		if p.secret != "" {
			return client{}, refused("this client has no secret", nil)
		}
	case c.AuthMethod == authPrivateKeyJWT:
		return client{}, refused("this client must send a client_assertion", nil)
	default:
		want, err := s.Ring.ClientSecret(t.id, p.id)
		if err != nil || subtle.ConstantTimeCompare([]byte(want), []byte(p.secret)) != 1 {
			return client{}, refused("client authentication failed", errors.New("wrong or missing client_secret"))
		}
	}
	if c.binding = c.context; c.binding == "" {
		c.binding = refreshContext(c)
	}
	return c, nil
}

// unreadableClient answers when the way to a document fails. It is not invalid_client, at which
// SDKs would throw their registration and tokens away.
func unreadableClient(id string, cause error) error {
	return ofClient(id, temporarilyUnavailable("the document at this client_id, or its keys, cannot be read at the moment", cause))
}

// errKeyMissing refuses a client that comes without its key, for a login that needs it: the client
// must prove itself so, or has done so before.
var errKeyMissing = &Error{Status: http.StatusUnauthorized, Code: "invalid_client", Description: "this login needs the client's key: send a client_assertion"}
