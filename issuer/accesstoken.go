package issuer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/clientdoc"
	"github.com/mcpbouncer/mcpbouncer/issuer/internal/jsontext"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// accessTokenClaims are the claims of RFC 9068 §2.2. aud holds the tenant's audience, which the
// plugin checks, and the resource that was asked for.
type accessTokenClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  []string `json:"aud"`
	Expires   int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	ID        string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope"`
	Login     string   `json:"sid"` // the login, as the log names it
	// AuthTime is the time of the login, however often it was refreshed (RFC 9068 §2.2.1). Where
	// the label authenticationRules is set, it is that of the sign-in at the provider, if that
	// said when it was, and a machine has none.
	AuthTime int64 `json:"auth_time,omitempty"`
	// These are there where the label is set: how the person signed in, and the time of the login,
	// with which the deny document is compared.
	ACR       string `json:"acr,omitempty"`
	LoginTime int64  `json:"login_time,omitempty"`
	// Confirmation is the key that whoever presents the token must prove (RFC 9449 §6.1).
	Confirmation *confirmation `json:"cnf,omitempty"`

	// These are only what the tenant's identity headers ask for.
	Email  string   `json:"email,omitempty"`
	Name   string   `json:"name,omitempty"`
	Groups []string `json:"groups,omitempty"`

	// UpstreamToken is the provider's access token for the MCP server, sealed for the plugin that
	// asked (sealing.Hop), while the label upstreamToken is on. It is empty in a token of somebody
	// who did not log in at the provider: a machine, a workload, a bearer key, a person of an
	// identity assertion. So one without the claim is from before the label, and the plugin refuses
	// it.
	UpstreamToken *string `json:"upstream_token,omitempty"`
}

// written is what encoding/json makes of the claims, which takes five times as long. It stands in
// room, if that is large enough.
func (c accessTokenClaims) written(room []byte) []byte {
	o := jsontext.Object(room[:0]).String("iss", c.Issuer).String("sub", c.Subject).Strings("aud", c.Audience).
		Int("exp", c.Expires).Int("iat", c.IssuedAt).Int("nbf", c.NotBefore).String("jti", c.ID).
		String("client_id", c.ClientID).String("scope", c.Scope).String("sid", c.Login)
	if c.AuthTime != 0 {
		o = o.Int("auth_time", c.AuthTime)
	}
	if c.ACR != "" {
		o = o.String("acr", c.ACR)
	}
	if c.LoginTime != 0 {
		o = o.Int("login_time", c.LoginTime)
	}
	if c.Confirmation != nil {
		o = o.Object("cnf", jsontext.Object{}.String("jkt", c.Confirmation.Thumbprint))
	}
	if c.Email != "" {
		o = o.String("email", c.Email)
	}
	if c.Name != "" {
		o = o.String("name", c.Name)
	}
	if len(c.Groups) > 0 {
		o = o.Strings("groups", c.Groups)
	}
	if c.UpstreamToken != nil {
		o = o.String("upstream_token", *c.UpstreamToken)
	}
	return o.End()
}

type confirmation struct {
	Thumbprint string `json:"jkt"` // RFC 7638, SHA-256
}

type accessToken struct {
	text, id string
	life     time.Duration
}

// accessTokenType is the typ of RFC 9068 §2.1, so that no id_token passes for an access token.
const accessTokenType = "at+jwt"

func (s *Issuer) newAccessToken(t *tenant, c client, g grant, scope string) accessToken {
	now := s.Now()
	id := base64.RawURLEncoding.EncodeToString(randomBytes(16))
	audience := []string{t.Audience}
	if g.Resource != t.Audience {
		audience = append(audience, g.Resource)
	}
	expires := now.Add(s.AccessTokenTTL)
	if !g.ends.IsZero() && g.ends.Before(expires) {
		expires = g.ends
	}
	claims := accessTokenClaims{
		Issuer: t.PublicURL, Subject: g.Identity.Subject, Audience: audience,
		Expires: expires.Unix(), IssuedAt: now.Unix(), NotBefore: now.Unix(),
		ID: id, ClientID: c.id, Scope: scope, Login: g.loginID(), AuthTime: g.Born,
	}
	if t.stepup != nil {
		claims.LoginTime, claims.ACR = g.Born, g.Identity.ACR
		if g.Identity.machine {
			claims.AuthTime = 0
		} else if g.Identity.AuthTime != 0 {
			claims.AuthTime = g.Identity.AuthTime
		}
	}
	if c.thumbprint != "" {
		claims.Confirmation = &confirmation{c.thumbprint}
	}
	if slices.Contains(t.IdentityClaims, "email") {
		claims.Email = g.Identity.Email
	}
	if slices.Contains(t.IdentityClaims, "name") {
		claims.Name = g.Identity.Name
	}
	if slices.Contains(t.IdentityClaims, "groups") {
		claims.Groups = g.Identity.Groups
	}
	if t.upstream.On {
		sealed := ""
		if t.handsOn(g.Identity) {
			sealed = t.hop.SealUpstreamToken(t.PublicURL, id, string(*g.Identity.Upstream))
		}
		claims.UpstreamToken = &sealed
	}
	return accessToken{s.sign(t, accessTokenType, claims), id, expires.Sub(now)}
}

// handsOn says whether the MCP server gets an access token of the provider with the requests of
// somebody: with those of people who logged in there, where the label says so.
func (t *tenant) handsOn(who identity) bool { return t.upstream.On && !who.machine && who.issuer == "" }

// upstreamMargin is how much earlier our access token ends than the provider's inside, for clocks
// and the way to the provider.
const upstreamMargin = 30 * time.Second

// upstreamLeft is how long the provider's access token of somebody still works, where the provider
// has said so.
func (s *Issuer) upstreamLeft(who identity) time.Duration {
	return time.Unix(who.UpstreamEnds, 0).Sub(s.Now())
}

const otherThanAllowed = "this server acts at the sign-in provider in another way than was allowed at this login; authorize again"

// upstreamFault says why no access token can be made for somebody whose MCP server acts at the
// provider: never is one made without the provider's inside.
func (s *Issuer) upstreamFault(t *tenant, who identity) error {
	switch {
	case !t.handsOn(who):
		return nil
	case !bytes.Equal(who.UpstreamMark, t.provider.UpstreamToken.Mark()):
		// The person has not been told that the server may act for them, or has been told of other
		// scopes. It ends no login for good: the label may change back.
		return invalidGrant(otherThanAllowed).
			because(errors.New("the label upstreamToken is another than at the login"))
	case !who.person().Upstream.Expired(s.Now()):
		return nil
	case who.RefreshToken == "":
		return invalidGrant("the sign-in provider's access token, which this server needs, has expired; authorize again").
			because(errors.New("the login has no refresh token of the provider"))
	}
	return temporarilyUnavailable("the sign-in provider's access token, which this server needs, has expired, and no other can be had at the moment", errors.New("the provider was not asked, or gave no answer"))
}

// endWithUpstream ends an access token before the provider's inside.
func (s *Issuer) endWithUpstream(t *tenant, g *grant) error {
	if err := s.upstreamFault(t, g.Identity); err != nil || !t.handsOn(g.Identity) || g.Identity.UpstreamEnds == 0 {
		return err
	}
	left := s.upstreamLeft(g.Identity)
	if ends := s.Now().Add(left - min(upstreamMargin, left/2)); g.ends.IsZero() || ends.Before(g.ends) {
		g.ends = ends
	}
	return nil
}

// maxToken is how many characters of an access token the plugin reads, and of a sealed value this
// server.
const maxToken = 8 << 10

// upstreamTooLong refuses values of so many characters, which nobody would read, because the
// provider's tokens inside are too long. A new login says so by their name; one that goes on ends
// with invalid_grant, so that there is a new one.
func upstreamTooLong(who identity, grantType string, characters int) error {
	code := "access_denied"
	if grantType == "refresh_token" {
		code = "invalid_grant"
	}
	return badRequest(code, fmt.Sprintf("the sign-in provider's access token has %d characters, and its refresh token %d: too many to be carried with what else is known; tell whoever runs this server", len(*who.Upstream), len(who.RefreshToken))).
		because(fmt.Errorf("the label upstreamToken: %s (a value of %d characters, of at most %d)", provider.ShorterToken, characters, maxToken))
}

// sign makes a JWT with the key of the tenant's current epoch (RFC 7515 §7.1, RFC 8037 §3.1). It is
// written out here because go-jose's way there costs half as much again as the signature. JWTs that
// others signed are never read like this.
func (s *Issuer) sign(t *tenant, typ string, claims accessTokenClaims) string {
	now := s.Now()
	key := s.Ring.SigningKey(t.id, s.Schedule, now)
	encoding := base64.RawURLEncoding
	header := t.prepared.get(preparedName{what: typ, first: s.Schedule.Epoch(now)}, func() []byte {
		kid := keyID(key.Public().(ed25519.PublicKey))
		return encoding.AppendEncode(nil, []byte(`{"alg":"EdDSA","kid":"`+kid+`","typ":"`+typ+`"}`))
	})
	// On the stack, where most tokens have room.
	payload := claims.written(make([]byte, 0, 768))
	token := make([]byte, 0, 1280)
	token = append(append(token, header...), '.')
	token = encoding.AppendEncode(token, payload)
	signature := ed25519.Sign(key, token)
	return string(encoding.AppendEncode(append(token, '.'), signature))
}

// keyID is the first 16 characters of the key's RFC 7638 thumbprint, in base64url: it names the key
// and says nothing about tenant or epoch. The members stand in the order that RFC 8037 §2 and RFC
// 7638 §3 demand.
func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:16]
}

// issue makes the answer and the operator's record of it: nothing but the log lists logins. asked
// may narrow the scope; empty means all.
func (s *Issuer) issue(t *tenant, c client, r renewal, asked, grantType string) (tokenResponse, error) {
	if err := s.admit(t, r.Identity); err != nil {
		return tokenResponse{}, err
	}
	// The claims may have been read under older labels: before a repeated answer, or between
	// callback and code.
	outdated := !r.Identity.machine && !t.claimNeeds.Within(r.Identity.Needs)
	if r.outcome.short() || outdated || r.Identity.UnreadSince != 0 {
		r.ends = s.Now().Add(shortLife)
	}
	if err := s.endWithUpstream(t, &r.grant); err != nil {
		return tokenResponse{}, err
	}
	scope := t.chosenScope(t.scopeOf(r.grant), asked)
	at := s.newAccessToken(t, c, r.grant, scope)
	if longest := max(len(at.text), len(r.token)); longest > maxToken && t.handsOn(r.Identity) {
		return tokenResponse{}, upstreamTooLong(r.Identity, grantType, longest)
	}
	s.recordToken(t, c, r, at, scope, grantType)
	if c.byDocument() {
		s.documents.Used(clientdoc.Document(c.id))
		s.documents.Used(clientdoc.Keys(c.keysURL))
	}
	stage := metrics.Token
	if grantType == "refresh_token" {
		stage = metrics.Refreshed
	}
	if s.Metrics != nil {
		s.Metrics.Stage(t.Resource, c.product(), stage)
	}
	kind := "Bearer"
	if c.thumbprint != "" {
		kind = "DPoP" // RFC 9449 §5
	}
	return tokenResponse{AccessToken: at.text, TokenType: kind, ExpiresIn: int64(at.life / time.Second), Scope: scope, RefreshToken: r.token}, nil
}

// recordToken says with each token what is needed to tell later who is logged in.
func (s *Issuer) recordToken(t *tenant, c client, r renewal, at accessToken, scope, grantType string) {
	now := s.Now()
	in := func(d time.Duration) time.Time { return now.Add(d).UTC().Truncate(time.Second) }
	facts := append(make([]slog.Attr, 0, 9), slog.String("grant", grantType), slog.String("jti", at.id), slog.String("scope", scope),
		slog.Int64("seconds", int64(at.life/time.Second)), slog.Time("expires", in(at.life)))
	event := audit.TokenIssued
	switch {
	case grantType == "jwt-bearer" && !r.Identity.machine:
		event = audit.AssertionRedeemed
	case r.token == "":
		event = audit.MachineAdmitted
	case grantType == "refresh_token":
		event = audit.LoginRefreshed
	}
	if r.token != "" {
		left := time.Unix(r.Born, 0).Add(s.loginLife(r.grant)).Sub(now)
		if r.outcome != unchangedShort && !r.repeated {
			facts = append(facts, slog.Time("refresh_until", in(min(left, s.RefreshIdleTTL))))
		}
		facts = append(facts, slog.Time("ends", in(left)))
	}
	if r.repeated {
		facts = append(facts, slog.Bool("repeated", true))
	}
	if c.thumbprint != "" {
		facts = append(facts, slog.String("jkt", c.thumbprint))
	}
	if t.handsOn(r.Identity) {
		left := int64(-1)
		if r.Identity.UpstreamEnds != 0 {
			left = r.Identity.UpstreamEnds - now.Unix()
		}
		facts = append(facts, slog.Int64("upstream_seconds", left))
	}
	s.recordAttrs(event, about{tenant: t, client: c.id, request: r.request, subject: r.Identity.Subject, login: r.loginID()}, facts...)
}

// tokenResponse is the answer of RFC 6749 §5.1.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

func (a tokenResponse) written() []byte {
	o := make(jsontext.Object, 0, 192+len(a.AccessToken)+len(a.RefreshToken)+len(a.Scope)).
		String("access_token", a.AccessToken).String("token_type", a.TokenType).Int("expires_in", a.ExpiresIn)
	if a.RefreshToken != "" {
		o = o.String("refresh_token", a.RefreshToken)
	}
	return o.String("scope", a.Scope).End()
}

const (
	// backendAssertionType keeps an assertion from passing for an access token, and an access token
	// from passing for an assertion (RFC 8725 §3.11).
	backendAssertionType = "mcp-assertion+jwt"
	backendAssertionLife = 5 * time.Minute
)

// backendAssertion is for an MCP server that verifies who calls instead of trusting a header: it
// says what the access token says, signed for this server. The server never gets the access token
// itself, with which it could call in the person's name.
type backendAssertion struct {
	Assertion string `json:"assertion"`
	ExpiresIn int64  `json:"expires_in"`
}

// assertToBackend makes an assertion for the plugin from an access token of this tenant. The plugin
// has verified the token, but nothing here relies on that.
func (s *Issuer) assertToBackend(w http.ResponseWriter, r *http.Request, t *tenant) error {
	form, err := tokenForm(r)
	if err != nil {
		return err
	}
	claims, err := s.verifyAccessToken(t, form.Get("access_token"))
	if err != nil {
		return invalidGrant("the access token is not one of this server, or too old").because(err)
	}
	now := s.Now()
	expires := min(now.Add(backendAssertionLife).Unix(), claims.Expires)
	claims.Audience, claims.IssuedAt, claims.NotBefore, claims.Expires = []string{t.PublicURL}, now.Unix(), now.Unix(), expires
	claims.ID = base64.RawURLEncoding.EncodeToString(randomBytes(16))
	claims.Confirmation = nil  // the MCP server gets no proof, and must not ask for one
	claims.UpstreamToken = nil // which is for the plugin alone
	writeJSON(w, http.StatusOK, backendAssertion{s.sign(t, backendAssertionType, claims), expires - now.Unix()})
	return nil
}

// verifyAccessToken applies RFC 9068 §4 to our own tokens. It does not look into the deny document:
// the plugin does at each request.
func (s *Issuer) verifyAccessToken(t *tenant, text string) (claims accessTokenClaims, err error) {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(token.Headers) != 1 || token.Headers[0].ExtraHeaders[jose.HeaderType] != accessTokenType {
		return claims, errors.New("access_token: not a JWT of its type")
	}
	keys := s.Ring.VerificationKeys(t.id, s.Schedule, s.Now())
	i := slices.IndexFunc(keys, func(key ed25519.PublicKey) bool { return keyID(key) == token.Headers[0].KeyID })
	if i < 0 {
		return claims, errors.New("access_token: signed with no key of this server")
	}
	if err := token.Claims(keys[i], &claims); err != nil {
		return claims, errors.New("access_token: the signature is wrong")
	}
	if claims.Issuer != t.PublicURL || !slices.Contains(claims.Audience, t.Audience) || s.Now().Unix() >= claims.Expires {
		return claims, errors.New("access_token: of another server, or expired")
	}
	return claims, nil
}
