package provider

import (
	"errors"
	"net/url"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// config never lets x/oauth2 detect how the client proves itself: it would post a code or a refresh
// token a second time after an error, and a rotating provider takes the second time for theft.
func (p *Provider) config() *oauth2.Config {
	endpoint := p.endpoint
	// A public client, and one with a key, name themselves in the body.
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	if p.clientAuth() == basicAuth {
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{
		ClientID: p.client.ID, ClientSecret: p.secret, Endpoint: endpoint,
		RedirectURL: p.client.RedirectURI,
	}
}

// scopes are those that a login asks for. Those for the MCP server follow.
func (p *Provider) scopes() []string {
	scopes := p.client.AskedScopes()
	if p.client.UpstreamToken != nil {
		for _, scope := range p.client.UpstreamToken.Scopes {
			if !slices.Contains(scopes, scope) {
				scopes = append(slices.Clip(scopes), scope)
			}
		}
	}
	return scopes
}

// AuthorizationURL returns the URL at which the person signs in, with state, nonce (which is
// OpenID's) and PKCE from the seed (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core §3.1.2.1).
func (p *Provider) AuthorizationURL(seed sealing.LoginSeed, wish Wishes) string {
	config := p.config()
	scopes, options := p.offlineAccess()
	config.Scopes = scopes
	if p.people == nil {
		options = append(options, oidc.Nonce(seed.Nonce()))
	}
	return p.addParameters(config.AuthCodeURL(seed.State(), append(options, oauth2.S256ChallengeOption(seed.CodeVerifier()))...), wish)
}

// SignInHost returns the host where the provider asks for passwords. For some it is not the
// issuer's host.
func (p *Provider) SignInHost() string { return weburl.HostOf(p.endpoint.AuthURL) }

// Issuer is the provider's issuer identifier.
func (p *Provider) Issuer() string { return p.issuer }

// CheckIss checks the parameter iss of an authorization response (RFC 9207 §2.4): a provider that
// promises it must send it, and whatever was sent must be right.
func (p *Provider) CheckIss(query url.Values) error {
	iss, sent := query.Get("iss"), query.Has("iss")
	if sent && iss != p.issuer && (p.alias == "" || iss != p.alias) || !sent && p.sendsIss {
		return errors.New("iss of the authorization response is not " + p.issuer)
	}
	return nil
}
