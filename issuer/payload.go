package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/packed"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The payloads of the sealed values are CBOR (RFC 8949) with integer keys. docs/sealed-values.md
// has a table for each, which a test compares with the tags here. A number is never given a second
// meaning; a new field gets a new number. A packed field is written also if it is empty.

// registration is the payload of a client_id (RFC 7591 §2).
type registration struct {
	RedirectURIs []string   `cbor:"1,keyasint"`
	AuthMethod   authMethod `cbor:"2,keyasint"`
	Name         string     `cbor:"3,keyasint,omitempty"`

	// A Machine alone has these, and no redirect URIs.
	Subject string `cbor:"4,keyasint,omitempty"`
	Scope   string `cbor:"5,keyasint,omitempty"`
	Keys    []byte `cbor:"6,keyasint,omitempty"` // JWK Set

	// Created says that the operator made the client, and nobody over the network.
	Created bool `cbor:"7,keyasint,omitempty"`

	// DPoPBound says that the client always proves a key (RFC 9449 §5.2): without a proof it gets
	// no token.
	DPoPBound bool `cbor:"8,keyasint,omitempty"`

	keys *jose.JSONWebKeySet // of private_key_jwt

	// A metadata document alone has these; they are never sealed.
	keysURL      string
	authOptional bool // may do without private_key_jwt
	pinned       bool // from vendorDocuments, because the document cannot be read
}

// authorizationRequest is the payload of a consent value: a request that passed every check.
type authorizationRequest struct {
	Client      [sha256.Size]byte `cbor:"1,keyasint"` // SHA-256 of the client_id
	RedirectURI string            `cbor:"2,keyasint"`
	State       string            `cbor:"3,keyasint,omitempty"`
	Challenge   [sha256.Size]byte `cbor:"4,keyasint"` // PKCE code_challenge (RFC 7636 §4.2)
	Scope       string            `cbor:"5,keyasint,omitempty"`
	Resource    string            `cbor:"6,keyasint"`
	// The client must prove itself with private_key_jwt.
	KeyRequired bool `cbor:"10,keyasint,omitempty"`
	// Thumbprint is dpop_jkt, decoded (RFC 9449 §10): the code is for whoever proves this key.
	Thumbprint []byte `cbor:"12,keyasint,omitempty"`

	// These are wishes of the client for the provider (OpenID Connect Core §3.1.2.1).
	LoginHint string `cbor:"13,keyasint,omitempty"`
	Prompt    string `cbor:"14,keyasint,omitempty"`
	UILocales string `cbor:"15,keyasint,omitempty"`
	MaxAge    *int64 `cbor:"16,keyasint,omitempty"` // seconds

	// Again is how often the person was refused and went for another account.
	Again uint8 `cbor:"17,keyasint,omitempty"`

	// Document is the client_id, where the person may have their consent remembered.
	Document string `cbor:"18,keyasint,omitempty"`
	// Consent says how the person came to allow this.
	Consent consentKind `cbor:"19,keyasint,omitempty"`
	// Told is the mark of what the page said because of the label upstreamToken.
	Told string `cbor:"20,keyasint,omitempty"`
}

// name is that of the request in the log. The client's challenge is another in each.
func (req authorizationRequest) name() string { return requestName(req.Challenge) }

func requestName(challenge [sha256.Size]byte) string {
	return sealing.Fingerprint(string(challenge[:]))
}

// loginInProgress is the payload of the cookie that carries a login while the person is at the
// provider.
type loginInProgress struct {
	authorizationRequest
	Seed sealing.LoginSeed `cbor:"7,keyasint"`
}

// consentKind says how a person came to allow a request.
type consentKind uint8

const (
	consentOnce       consentKind = iota // on the page
	consentToRemember                    // on the page, for this time and for others
	// consentRemembered means that nobody was asked. The callback gives nothing before it knows
	// that the person is the one who once allowed it.
	consentRemembered
)

// rememberedConsent is the payload of the cookie by which a browser goes past the consent page. Its
// context is the client's.
type rememberedConsent struct {
	RedirectURI string `cbor:"1,keyasint"`
	Scope       string `cbor:"2,keyasint,omitempty"`
	Resource    string `cbor:"3,keyasint"`
	Subject     string `cbor:"4,keyasint"` // who gave it
	Given       int64  `cbor:"5,keyasint"` // Unix seconds
	// UpstreamToken is Told.
	UpstreamToken string `cbor:"6,keyasint,omitempty"`
}

// authorizationCode is the payload of a code. It holds the provider's code and what redeems it or,
// with exchange=callback, what the provider said when it was redeemed.
type authorizationCode struct {
	RedirectURI  string            `cbor:"2,keyasint"`
	Challenge    [sha256.Size]byte `cbor:"4,keyasint"`
	Scope        string            `cbor:"5,keyasint,omitempty"`
	Resource     string            `cbor:"6,keyasint"`
	Seed         sealing.LoginSeed `cbor:"7,keyasint"`
	UpstreamCode packed.Text       `cbor:"8,keyasint"`
	Identity     *identity         `cbor:"9,keyasint,omitempty"`
	// Mark is the guard's key of the provider's code, where that code is gone.
	Mark        []byte `cbor:"11,keyasint,omitempty"`
	KeyRequired bool   `cbor:"10,keyasint,omitempty"`
	Thumbprint  []byte `cbor:"12,keyasint,omitempty"`
	Told        string `cbor:"20,keyasint,omitempty"`
}

// identity is what the provider said of a person, and the token to ask it again with.
type identity struct {
	Subject      string      `cbor:"1,keyasint"`
	RefreshToken packed.Text `cbor:"2,keyasint"`
	CheckedAt    int64       `cbor:"3,keyasint"` // Unix seconds of the provider's last word

	// These claims are what the labels need, and nothing else (provider.Needs).
	Email        string   `cbor:"4,keyasint,omitempty"` // only one that the provider vouches for
	HostedDomain string   `cbor:"5,keyasint,omitempty"` // Google's hd
	Name         string   `cbor:"6,keyasint,omitempty"`
	Groups       []string `cbor:"7,keyasint,omitempty"`
	// Needs are marks of the needs for which these claims were read.
	Needs []byte `cbor:"8,keyasint,omitempty"`

	// UnreadSince is since when the provider accepts its refresh token and the claims cannot be
	// read, in Unix seconds; 0 if they can be read.
	UnreadSince int64 `cbor:"9,keyasint,omitempty"`

	// Unsaid are scopes, as RFC 6749 §3.3 writes them, that only a rule can give, because the
	// provider did not say that it granted them. When the rules go, nobody has them.
	Unsaid string `cbor:"10,keyasint,omitempty"`

	// Unexpiring says that RefreshToken is an access token that never expires: the provider gave no
	// refresh token, and is asked with this one.
	Unexpiring bool `cbor:"11,keyasint,omitempty"`

	// Upstream is the provider's access token that the MCP server gets, UpstreamEnds its end in
	// Unix seconds (0 if the provider does not say) and UpstreamMark a mark of what it is for.
	// Without the label upstreamToken there are none of them.
	Upstream     *packed.Text `cbor:"12,keyasint,omitempty"`
	UpstreamEnds int64        `cbor:"13,keyasint,omitempty"`
	UpstreamMark []byte       `cbor:"14,keyasint,omitempty"`

	// How and when the person signed in at the provider, where the label authenticationRules is
	// set: acr, and auth_time in Unix seconds; left out if the provider did not say.
	ACR      string `cbor:"15,keyasint,omitempty"`
	AuthTime int64  `cbor:"16,keyasint,omitempty"`

	machine bool   // a Machine, not a person: never sealed
	issuer  string // of the identity assertion; empty for a login at the provider: never sealed

	said provider.Said // never sealed
}

// identityOf says what is sealed of a person.
func identityOf(p provider.Person) identity {
	who := identity{
		Subject: p.Subject, RefreshToken: packed.Text(p.RefreshToken), Unexpiring: p.Unexpiring, CheckedAt: p.CheckedAt,
		Email: p.Email, HostedDomain: p.HostedDomain, Name: p.Name, Groups: p.Groups, Needs: p.Needs,
		UnreadSince: p.UnreadSince, Unsaid: p.Unsaid, ACR: p.ACR, AuthTime: p.AuthTime, said: p.Said,
	}
	if p.Upstream.Mark != nil {
		token := packed.Text(p.Upstream.Text) // here, so that others cost no memory
		who.Upstream, who.UpstreamEnds, who.UpstreamMark = &token, p.Upstream.Ends, p.Upstream.Mark
	}
	return who
}

// person is the reverse of identityOf.
func (who identity) person() provider.Person {
	p := provider.Person{
		Subject: who.Subject, RefreshToken: string(who.RefreshToken), Unexpiring: who.Unexpiring, CheckedAt: who.CheckedAt,
		Email: who.Email, HostedDomain: who.HostedDomain, Name: who.Name, Groups: who.Groups, Needs: who.Needs,
		UnreadSince: who.UnreadSince, Unsaid: who.Unsaid, ACR: who.ACR, AuthTime: who.AuthTime, Said: who.said,
	}
	if who.Upstream != nil {
		p.Upstream = provider.AccessToken{Text: string(*who.Upstream), Ends: who.UpstreamEnds, Mark: who.UpstreamMark}
	}
	return p
}

// grant is the payload of a refresh token.
type grant struct {
	Identity identity `cbor:"1,keyasint"`
	Scope    string   `cbor:"2,keyasint,omitempty"`
	Resource string   `cbor:"3,keyasint"`
	Login    [16]byte `cbor:"4,keyasint"`
	// Born is the time of the login, in Unix seconds. Each later life is counted from it.
	Born int64 `cbor:"5,keyasint"`

	// A client that redeemed its code with a key must refresh with one: a stolen refresh token is
	// worth nothing then.
	KeyRequired bool `cbor:"6,keyasint,omitempty"`

	// Step is how many refreshes lie between the login and this token.
	Step uint32 `cbor:"7,keyasint,omitempty"`

	// Client is the raw fingerprint of the client_id that the login began with, where another
	// client_id of the same program may go on with it (refreshContext): whoever denies the first
	// client_id ends the login.
	Client []byte `cbor:"8,keyasint,omitempty"`

	// Thumbprint is SHA-256 of the key that a public client has proved (RFC 9449 §5): whoever
	// refreshes must prove it too.
	Thumbprint []byte `cbor:"9,keyasint,omitempty"`

	ends time.Time // of a bearer key: no token outlives it
}

// loginID returns the name of the login in logs and access tokens.
func (g grant) loginID() string { return base64.RawURLEncoding.EncodeToString(g.Login[:]) }

var (
	payloadEncoding = must(cbor.CoreDetEncOptions().EncMode())
	// The decoding is strict. Values are authentic, but a value of an older or newer program must
	// fail rather than open by half.
	payloadDecoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   4,
		MaxArrayElements:  provider.MaxGroups,
		MaxMapPairs:       24,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("issuer: internal error: " + err.Error())
	}
	return v
}

func (s *Issuer) seal(kind sealing.Kind, t *tenant, context string, payload any) string {
	return s.Ring.Seal(kind, t.id, context, must(payloadEncoding.Marshal(payload)), s.Now())
}

// open reads a sealed value into payload. It fails with sealing.ErrNotOpened whatever is wrong.
func (s *Issuer) open(kind sealing.Kind, t *tenant, context, value string, payload any) error {
	_, err := s.openDated(kind, t, context, value, payload)
	return err
}

// openDated is open, and says when the value was sealed.
func (s *Issuer) openDated(kind sealing.Kind, t *tenant, context, value string, payload any) (time.Time, error) {
	b, at, err := s.Ring.Open(kind, t.id, context, value, s.Now())
	if err != nil {
		return time.Time{}, err
	}
	if payloadDecoding.Unmarshal(b, payload) != nil {
		return time.Time{}, sealing.ErrNotOpened
	}
	return at, nil
}

// clientContext binds codes and refresh tokens to their client: for another client they do not
// open.
func clientContext(hash [sha256.Size]byte) string { return string(hash[:]) }

// bearerKey is the payload of a bearer key.
type bearerKey struct {
	ID      [16]byte `cbor:"1,keyasint"`
	Subject string   `cbor:"2,keyasint"`
	Scope   string   `cbor:"3,keyasint,omitempty"`
	Expires int64    `cbor:"4,keyasint"` // Unix seconds
}

func (s *Issuer) sealGrant(t *tenant, c client, g grant) string {
	return s.seal(sealing.KindRefresh, t, c.binding, g)
}

// openGrant reads a refresh token of a client, and says when it was sealed. Once all refresh tokens
// were bound to the client_id; such a token opens as well.
func (s *Issuer) openGrant(t *tenant, c client, token string) (g grant, sealedAt time.Time, err error) {
	sealedAt, err = s.openDated(sealing.KindRefresh, t, c.binding, token, &g)
	if err != nil && c.interchangeable() {
		g = grant{}
		sealedAt, err = s.openDated(sealing.KindRefresh, t, clientContext(c.hash()), token, &g)
	}
	return g, sealedAt, err
}

// refreshContext binds refresh tokens to their client: to the client_id, which stands for a secret
// or a document's URL, or to what a public client registered. For another client they do not open.
func refreshContext(c client) string {
	if c.interchangeable() {
		meaning := c.meaning()
		return "registration " + string(meaning[:])
	}
	return clientContext(c.hash())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: the program ends when the system has no randomness
	return b
}
