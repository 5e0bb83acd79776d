package issuer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// This file is for the operator, who has the master secret and asks what a value is
// (docs/inspect.md). No request comes here.

// Fact is one thing that a value says.
type Fact struct {
	Name string `json:"name"`
	// Value has of a secret its length, and at most four characters.
	Value string `json:"value,omitempty"`
	// At is the value of a time.
	At time.Time `json:"time,omitzero"`
	// Meaning is for a person who does not know the name.
	Meaning string `json:"meaning,omitempty"`
}

// Beside is what is presented beside a sealed value, and what it is bound to.
type Beside struct {
	Tenant sealing.Tenant
	// ClientID is the client_id that a code or a refresh token was given to.
	ClientID string
	// Consent is the id in the browser's consent cookie.
	Consent string
	// State is the state of the request to the provider.
	State string
	// PrivateRedirectURIs are the label's.
	PrivateRedirectURIs []string
}

// Inspection is what a sealed value holds.
type Inspection struct {
	Facts []Fact
	// Ends is when it is over by what it holds or by the variables of c, without the life of its
	// kind; zero: never.
	Ends time.Time
	// Refused says why it is refused although it opens; empty if it is not.
	Refused string
}

// Inspect opens a sealed value however old it is, and says what it holds. The caller judges its
// age. c needs Ring and, for a refresh token, the lives. Nobody is asked over the network. The
// error is sealing.ErrNotOpened whatever is wrong.
func (c Config) Inspect(kind sealing.Kind, beside Beside, value string) (Inspection, error) {
	at, err := sealing.IssuedAt(kind, value)
	if err != nil {
		return Inspection{}, err
	}
	c.Now = func() time.Time { return at } // so that age is not a reason
	s, t := &Issuer{Config: c}, &tenant{PublicURL: beside.Tenant.PublicURL, PrivateRedirectURIs: beside.PrivateRedirectURIs, id: beside.Tenant.ID()}
	switch kind {
	case sealing.KindClient:
		return s.inspectClient(t, value)
	case sealing.KindConsent:
		var req authorizationRequest
		err := s.open(kind, t, beside.Consent, value, &req)
		return Inspection{Facts: req.facts()}, err
	case sealing.KindFlow:
		var login loginInProgress
		err := s.open(kind, t, beside.State, value, &login)
		return Inspection{Facts: login.facts()}, err
	case sealing.KindRemembered:
		var kept rememberedConsent
		err := s.open(kind, t, clientContext(sha256.Sum256([]byte(beside.ClientID))), value, &kept)
		return Inspection{Facts: kept.facts()}, err
	case sealing.KindCode:
		var code authorizationCode
		err := s.open(kind, t, clientContext(sha256.Sum256([]byte(beside.ClientID))), value, &code)
		return Inspection{Facts: code.facts()}, err
	case sealing.KindRefresh:
		return s.inspectRefresh(t, beside.ClientID, value)
	case sealing.KindSecret:
		secret, err := provider.OpenSecret(c.Ring, beside.Tenant.UpstreamIssuer, beside.Tenant.UpstreamClientID, value, at)
		return Inspection{Facts: []Fact{{Name: "client secret", Value: Masked(secret), Meaning: "of the client at the provider"}}}, err
	case sealing.KindBearer:
		var key bearerKey
		err := s.open(kind, t, "", value, &key)
		if err == nil && key.Subject == "" {
			err = sealing.ErrNotOpened
		}
		ends := time.Unix(key.Expires, 0)
		return Inspection{Ends: ends, Facts: []Fact{
			{Name: "key_id", Value: base64.RawURLEncoding.EncodeToString(key.ID[:]), Meaning: `its name in the log ("family"), in its access tokens ("sid") and in the deny document`},
			{Name: "subject", Value: key.Subject, Meaning: "sub of its access tokens"},
			{Name: "scope", Value: orNone(key.Scope)},
			{Name: "expires", At: ends},
		}}, err
	}
	return Inspection{}, sealing.ErrNotOpened
}

func (s *Issuer) inspectClient(t *tenant, value string) (i Inspection, err error) {
	c, err := s.openClient(context.Background(), t, value)
	if errors.Is(err, sealing.ErrNotOpened) {
		return Inspection{}, err
	}
	if err != nil { // it opens, and today's rules refuse it
		i.Refused = err.Error()
	}
	i.Facts = []Fact{{Name: "fingerprint", Value: sealing.Fingerprint(value), Meaning: `its name in the log ("client") and in the deny document`}}
	if c.machine() {
		i.Facts = append(i.Facts, Fact{Name: "machine", Value: c.Subject, Meaning: "sub of its access tokens; it comes in without a person"}, Fact{Name: "scope", Value: orNone(c.Scope)})
		if c.keys != nil {
			i.Facts = append(i.Facts, Fact{Name: "public keys", Value: fmt.Sprint(len(c.keys.Keys))})
		}
	}
	for _, uri := range c.RedirectURIs {
		i.Facts = append(i.Facts, Fact{Name: "redirect URI", Value: uri})
	}
	method := "unknown"
	if int(c.AuthMethod) < len(authMethods) {
		method = authMethods[c.AuthMethod]
	}
	i.Facts = append(i.Facts, Fact{Name: "authentication", Value: method, Meaning: "token_endpoint_auth_method"}, Fact{Name: "name", Value: orNone(c.Name), Meaning: "what people are shown"})
	if c.DPoPBound {
		i.Facts = append(i.Facts, Fact{Name: "DPoP", Value: "always", Meaning: "dpop_bound_access_tokens: it gets no token without a proof of a key"})
	}
	return i, nil
}

// inspectRefresh opens a refresh token as the token endpoint does for the client. A client's own
// document is not fetched: the login is bound to its URL alone.
func (s *Issuer) inspectRefresh(t *tenant, clientID, value string) (Inspection, error) {
	c := client{id: clientID}
	if !isDocumentURL(clientID) {
		// A client_id that does not open, as one of an older tenant, may still be the one that the
		// token is bound to.
		if known, err := s.openAtItsTime(t, clientID); err == nil {
			c = known
		}
	}
	c.binding = refreshContext(c)
	g, sealedAt, err := s.openGrant(t, c, value)
	if err != nil {
		return Inspection{}, err
	}
	over := time.Unix(g.Born, 0).Add(s.loginLife(g))
	idle := sealedAt.Add(s.RefreshIdleTTL)
	ends := over
	if idle.Before(ends) {
		ends = idle
	}
	facts := []Fact{
		{Name: "login", Value: g.loginID(), Meaning: `"family" in the log, "sid" in its access tokens`},
		{Name: "login began", At: time.Unix(g.Born, 0)},
		{Name: "login ends", At: over, Meaning: "however often it is refreshed"},
		{Name: "unused until", At: idle, Meaning: "refused from then on if nobody uses it"},
		{Name: "step", Value: fmt.Sprint(g.Step), Meaning: "refreshes since the login"},
		{Name: "scope", Value: orNone(g.Scope)},
		{Name: "resource", Value: g.Resource},
	}
	if g.KeyRequired {
		facts = append(facts, Fact{Name: "key required", Value: "yes", Meaning: "the client must refresh with private_key_jwt"})
	}
	facts = append(facts, boundTo(g.Thumbprint)...)
	if g.Client != nil {
		facts = append(facts, Fact{Name: "client", Value: base64.RawURLEncoding.EncodeToString(g.Client), Meaning: "fingerprint of the client_id that the login began with"})
	}
	facts = append(facts, Fact{Name: "pseudonym", Value: s.Ring.Pseudonym(t.id, g.Identity.Subject), Meaning: `"subject" in the log, while the first master stays the first`})
	return Inspection{Facts: append(facts, g.Identity.facts()...), Ends: ends}, nil
}

// openAtItsTime opens a client_id whenever it was sealed.
func (s *Issuer) openAtItsTime(t *tenant, clientID string) (client, error) {
	at, err := sealing.IssuedAt(sealing.KindClient, clientID)
	if err != nil {
		return client{}, err
	}
	c := s.Config
	c.Now = func() time.Time { return at }
	return (&Issuer{Config: c}).openClient(context.Background(), t, clientID)
}

func (req authorizationRequest) facts() []Fact {
	facts := []Fact{
		{Name: "client", Value: fmt.Sprintf("%x", req.Client[:]), Meaning: "SHA-256 of the client_id"},
		{Name: "redirect URI", Value: req.RedirectURI},
		{Name: "state", Value: Masked(req.State), Meaning: "of the client"},
		{Name: "code_challenge", Value: Masked(base64.RawURLEncoding.EncodeToString(req.Challenge[:]))},
		{Name: "scope", Value: orNone(req.Scope)},
		{Name: "resource", Value: req.Resource},
	}
	if req.KeyRequired {
		facts = append(facts, Fact{Name: "key required", Value: "yes", Meaning: "the client must prove itself with private_key_jwt"})
	}
	facts = append(facts, boundTo(req.Thumbprint)...)
	if req.Document != "" {
		facts = append(facts, Fact{Name: "document", Value: req.Document, Meaning: "the client_id; this consent may be remembered"})
	}
	facts = append(facts, told(req.Told)...)
	switch req.Consent {
	case consentToRemember:
		facts = append(facts, Fact{Name: "consent", Value: "to be remembered"})
	case consentRemembered:
		facts = append(facts, Fact{Name: "consent", Value: "remembered", Meaning: "the page was not shown"})
	}
	return facts
}

func (login loginInProgress) facts() []Fact {
	return append(login.authorizationRequest.facts(), Fact{Name: "seed", Value: "32 bytes", Meaning: "state, nonce and code verifier at the provider follow from it"})
}

func (kept rememberedConsent) facts() []Fact {
	facts := []Fact{
		{Name: "redirect URI", Value: kept.RedirectURI},
		{Name: "scope", Value: orNone(kept.Scope)},
		{Name: "resource", Value: kept.Resource},
		{Name: "sub", Value: kept.Subject, Meaning: "the person, as the provider names them: for nobody else does it stand for the consent page"},
		{Name: "given", At: time.Unix(kept.Given, 0), Meaning: "the label rememberConsent says for how long it counts"},
	}
	return append(facts, told(kept.UpstreamToken)...)
}

// told is the fact that the page said what the MCP server may do at the provider; none if it did
// not.
func told(mark string) []Fact {
	if mark == "" {
		return nil
	}
	return []Fact{{Name: "upstreamToken", Value: mark, Meaning: "a mark of what the page said because of the label"}}
}

func (code authorizationCode) facts() []Fact {
	facts := []Fact{
		{Name: "redirect URI", Value: code.RedirectURI},
		{Name: "code_challenge", Value: Masked(base64.RawURLEncoding.EncodeToString(code.Challenge[:]))},
		{Name: "scope", Value: orNone(code.Scope)},
		{Name: "resource", Value: code.Resource},
	}
	if code.KeyRequired {
		facts = append(facts, Fact{Name: "key required", Value: "yes", Meaning: "the client must redeem it with private_key_jwt"})
	}
	facts = append(append(facts, boundTo(code.Thumbprint)...), told(code.Told)...)
	if code.Identity == nil {
		return append(facts, Fact{Name: "provider's code", Value: Masked(string(code.UpstreamCode)), Meaning: "is redeemed together with this code"})
	}
	return append(append(facts, Fact{Name: "provider's code", Value: "redeemed by the callback"}), code.Identity.facts()...)
}

// boundTo is the fact that a value is bound to a key; none if it is not.
func boundTo(thumbprint []byte) []Fact {
	if thumbprint == nil {
		return nil
	}
	return []Fact{{Name: "jkt", Value: base64.RawURLEncoding.EncodeToString(thumbprint), Meaning: "thumbprint (RFC 7638) of the key that its client must prove with DPoP"}}
}

func (who identity) facts() []Fact {
	facts := []Fact{
		{Name: "sub", Value: who.Subject, Meaning: "the person, as the provider names them"},
		{Name: "provider's refresh token", Value: Masked(string(who.RefreshToken)), Meaning: "the provider is asked with it whether the person may still come in"},
		{Name: "checked", At: time.Unix(who.CheckedAt, 0), Meaning: "the provider's last word"},
	}
	if who.Unexpiring {
		facts[1].Name = "provider's access token"
	}
	if who.RefreshToken == "" {
		facts[1].Meaning = "the provider gave none, so no check ends this login"
	}
	for _, f := range []Fact{{Name: "email", Value: who.Email}, {Name: "hosted domain", Value: who.HostedDomain}, {Name: "name", Value: who.Name},
		{Name: "groups", Value: strings.Join(who.Groups, ", ")}, {Name: "acr", Value: who.ACR, Meaning: "how the person signed in at the provider"}, {Name: "unsaid scopes", Value: who.Unsaid, Meaning: "the provider did not say that it granted them; they end with the rules that give them"}} {
		if f.Value != "" {
			facts = append(facts, f)
		}
	}
	if who.Upstream != nil {
		until := "the provider does not say until when"
		if who.UpstreamEnds != 0 {
			until = "until " + time.Unix(who.UpstreamEnds, 0).UTC().Format(time.RFC3339)
		}
		facts = append(facts, Fact{Name: "provider's access token", Value: fmt.Sprintf("%d characters", len(*who.Upstream)), Meaning: "the MCP server acts at the provider with it, " + until})
	}
	if who.AuthTime != 0 {
		facts = append(facts, Fact{Name: "auth_time", At: time.Unix(who.AuthTime, 0), Meaning: "when the person signed in at the provider"})
	}
	if who.UnreadSince != 0 {
		facts = append(facts, Fact{Name: "claims unread since", At: time.Unix(who.UnreadSince, 0), Meaning: "the provider accepts its refresh token and gives no claims"})
	}
	return facts
}

// InspectHop says what the payload of a hop header holds, member by member, and why this version of
// the sidecar would refuse it; empty: it would not. The tenant is zero if it is refused.
func InspectHop(payload []byte) (facts []Fact, tenant sealing.Tenant, refused string) {
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) == nil {
		known := []string{"v"}
		for _, m := range hopMembers() {
			known = append(known, m.name)
		}
		for _, name := range known {
			if text, sent := members[name]; sent {
				facts = append(facts, Fact{Name: name, Value: hopValue(name, text)})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if !slices.Contains(known, name) { // of a later version: it may be a secret
				facts = append(facts, Fact{Name: name, Value: fmt.Sprintf("%d bytes", len(members[name])), Meaning: "not known to this version"})
			}
		}
	}
	t, err := parseTenant(payload)
	if err != nil {
		return facts, sealing.Tenant{}, err.Error()
	}
	return facts, sealing.Tenant{PublicURL: t.PublicURL, Resource: t.Resource, Audience: t.Audience, UpstreamIssuer: t.ProviderIssuer, UpstreamClientID: t.ClientID, Generation: t.Generation}, ""
}

func hopValue(name string, text json.RawMessage) string {
	var value string
	isText := json.Unmarshal(text, &value) == nil
	switch {
	case name == "clientSecret" && strings.HasPrefix(value, "env:"):
		return value // the name of a variable
	case name == "clientSecret" && isText:
		return Masked(value)
	case name == "clientSecret", name == "logo":
		return fmt.Sprintf("%d bytes", len(text))
	case isText:
		return value
	}
	var compact bytes.Buffer
	json.Compact(&compact, text) // it was decoded already
	return compact.String()
}

// FindKey finds the signing key that a kid names, among those of all masters that are published at
// a time: with the public name of its master and its epoch.
func FindKey(ring *sealing.Ring, tenant sealing.TenantID, schedule sealing.Schedule, at time.Time, kid string) (key ed25519.PublicKey, master string, epoch uint32, ok bool) {
	first, last := schedule.Published(at)
	for i, key := range ring.VerificationKeys(tenant, schedule, at) {
		if keyID(key) == kid {
			epochs := int(last-first) + 1 // master by master
			return key, ring.MasterIDs()[i/epochs], first + uint32(i%epochs), true
		}
	}
	return nil, "", 0, false
}

// Masked is what may be shown of a secret: its length, and four characters of a long one.
func Masked(secret string) string {
	n := utf8.RuneCountInString(secret)
	switch {
	case n == 0:
		return "none"
	case n < 24: // four of few characters are too many
		return fmt.Sprintf("%d characters", n)
	}
	return fmt.Sprintf("%d characters, the first are %s", n, url.QueryEscape(string([]rune(secret)[:4])))
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
