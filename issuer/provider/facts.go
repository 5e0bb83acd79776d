package provider

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
)

// Facts are what a provider's document says and what is known of its kind: for an operator's tool,
// which says before a login what a login would meet. Nothing here decides a login.
type Facts struct {
	Kind          string   // its name in the table of dialects; empty: of no known kind
	OpenID        bool     // it has discovery, keys and id_tokens
	WhoEndpoint   string   // says whose access token it is asked with; empty: there is no such
	Asked         []string // scopes of the authorization request
	TokenEndpoint string
	Scopes        []string // scopes_supported; nil if it does not say
	AuthMethods   []string // of the token endpoint; nil if it does not say
	AuthMethod    string   // by which the client proves itself: as the label clientAuth, never auto
	VouchesByEdov bool     // xms_edov stands for email_verified
	// ReuseEndsAll: a refresh token that comes twice ends all logins of its person.
	ReuseEndsAll   bool
	AsksForRefresh bool   // the authorization request asks for a refresh token by name
	NoRefreshToken string // what to do where it gives none
}

// Facts need the secret: AuthMethod depends on it, so they are those of Connect.
func (p *Provider) Facts() Facts {
	scopes, options := p.offlineAccess()
	f := Facts{
		TokenEndpoint: p.endpoint.TokenURL, Scopes: p.scopesSupported, AuthMethods: p.authMethods, AuthMethod: p.clientAuth(),
		VouchesByEdov: p.dialect.vouchesByEdov, ReuseEndsAll: p.dialect.reuseEndsAll, AsksForRefresh: slices.Contains(scopes, "offline_access") || len(options) > 0,
		NoRefreshToken: p.noRefreshToken(), OpenID: p.people == nil, WhoEndpoint: p.userinfoURL, Asked: scopes,
	}
	if g, ok := p.people.(gitHub); ok {
		f.WhoEndpoint = g.api + "/user"
	}
	if !f.OpenID { // nothing is listed
		f.AuthMethods = nil
	}
	if p.dialect != plain {
		f.Kind = p.dialect.name
	}
	return f
}

// Key is one published key of a provider, as the sidecar reads it.
type Key struct {
	ID, Type, Algorithm string
	PassedOver          string // why it is; empty if it verifies signatures
	Meant               bool   // it was never meant for signatures
}

// Keys fetches the provider's key set. The error says why there is none.
func (p *Provider) Keys(ctx context.Context) ([]Key, error) {
	set, err := p.keys.refetch(ctx)
	if err != nil {
		return nil, err
	}
	var all []Key
	for _, k := range set.keys {
		all = append(all, Key{ID: k.kid, Algorithm: k.alg})
	}
	for _, odd := range set.odd {
		all = append(all, Key{ID: odd.kid, Type: odd.kty, PassedOver: odd.cause, Meant: odd.expected})
	}
	return all, nil
}

// Look says which claims came with a login in its id_token, which Redeem has verified, and which
// stand at userinfo: each with the type of what came in it, and no value. A claim of the client's
// Needs that is nested has its path. userinfo is nil if the provider has no such endpoint, or with
// an error: nothing was verified where Redeem failed.
func (p *Provider) Look(ctx context.Context, answer *Answer, subject string) (idToken, userinfo map[string]string, err error) {
	_, payload, _ := strings.Cut(answer.IDToken, ".")
	payload, _, _ = strings.Cut(payload, ".")
	text, _ := base64.RawURLEncoding.DecodeString(payload)
	said, _ := readClaims(text)
	idToken = p.typesOf(said)
	if p.people != nil {
		said, err := p.ask(ctx, answer.token(), subject)
		return nil, p.typesOf(said), err
	}
	if p.userinfoURL == "" {
		return idToken, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	more, err := p.userinfo(ctx, answer.token(), subject)
	if err != nil {
		return idToken, nil, err
	}
	return idToken, p.typesOf(more), nil
}

func (p *Provider) typesOf(c claims) map[string]string {
	types := map[string]string{}
	for name, v := range c {
		types[name] = typeOf(v)
	}
	if v, ok := c.find(p.client.Needs.GroupsClaim); ok {
		types[p.client.Needs.GroupsClaim] = typeOf(v)
	}
	return types
}
