package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/weburl"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A provider that is not OpenID Connect has no discovery document, no keys and no id_token. Who
// somebody is, it says to whoever asks with an access token. Of what protects an id_token (OpenID
// Connect Core §3.1.3.7), this takes the place:
//
//   - of the signature: the access token and the answers come from the provider itself, over TLS;
//   - of the nonce: state, which is bound to the browser's cookie, and PKCE (RFC 7636): a code that
//     was begun in another browser is refused at the callback, and one that was begun by another
//     request at the token endpoint;
//   - of the issuer: a redirect URI of each tenant's own (RFC 9700 §4.4.2);
//   - of the audience: the code is redeemed with the client's secret, and what comes of it was made
//     for this client. GitHub says that of a token in its own words, too (github.go).
//
// docs/threats.md says what nothing takes the place of.
type people interface {
	// who says whose access token it is, with the claims that came. Its errors are as those of
	// userinfo.
	who(ctx context.Context, p *Provider, token *oauth2.Token) (idToken, error)
	// more are claims that are asked for separately; nil if there are no such. It is asked what
	// labels need, and nothing else.
	more(ctx context.Context, p *Provider, token *oauth2.Token) (claims, error)
	// revoke ends an access token.
	revoke(ctx context.Context, p *Provider, accessToken string) error
}

// The values of the label providerType.
const (
	typeOpenID = "oidc"
	typeGitHub = "github"
	typeOAuth  = "oauth2"
)

// kind is the label providerType, and the one place that knows a provider by its issuer alone.
// Issuers of assertions and workloads are OpenID's: they have keys.
func (c *Client) kind() string {
	switch {
	case c.IssuerLabel != "" || c.Type != "" && c.Type != typeOpenID && c.Type != typeGitHub && c.Type != typeOAuth:
		return typeOpenID
	case (c.Type == "" || c.Type == typeOpenID) && strings.TrimSuffix(c.Issuer, "/") == gitHubCom:
		return typeGitHub
	case c.Type == "":
		return typeOpenID
	}
	return c.Type
}

// IsGitHub says whether the client's provider is GitHub.
func (c *Client) IsGitHub() bool { return c.kind() == typeGitHub }

// IsOpenID says whether the client's provider speaks OpenID Connect.
func (c *Client) IsOpenID() bool { return c.kind() == typeOpenID }

// AskedScopes are what a login asks for, without those for the MCP server: at an OpenID provider
// the label's and openid, without which there is no id_token. At another a label that is left out
// counts as openid, which means nothing there.
func (c *Client) AskedScopes() []string {
	if c.IsOpenID() {
		if !slices.Contains(c.Scopes, "openid") {
			return append([]string{"openid"}, c.Scopes...)
		}
		return c.Scopes
	}
	asked := slices.DeleteFunc(slices.Clone(c.Scopes), func(scope string) bool { return scope == "openid" && len(c.Scopes) == 1 })
	if len(asked) == 0 && c.IsGitHub() {
		return gitHubScopes(c.Needs)
	}
	return asked
}

// TypeFault says what is wrong with the labels that say what the provider speaks; two empty texts
// if nothing is. plugin/config.go refuses the same, but for what hangs on providerIssuer alone.
func (c *Client) TypeFault() (label, why string) {
	switch {
	case !slices.Contains([]string{"", typeOpenID, typeGitHub, typeOAuth}, c.Type):
		return "providerType", "must be oidc, github or oauth2"
	case c.kind() != typeOpenID && c.Auth == PrivateKeyJWT:
		return "clientAuth", "private_key_jwt is for OpenID providers: use a clientSecret"
	}
	for _, l := range [...]struct{ name, value string }{
		{"authorizationEndpoint", c.AuthorizationEndpoint}, {"tokenEndpoint", c.TokenEndpoint}, {"userinfoEndpoint", c.UserinfoEndpoint},
	} {
		switch {
		case c.Type != typeOAuth && l.value != "":
			return l.name, "belongs to providerType=oauth2"
		case c.Type == typeOAuth && !isSafeEndpoint(l.value):
			return l.name, "must be an https URL with providerType=oauth2"
		}
	}
	if c.Type != typeOAuth && len(c.ClaimNames) > 0 {
		return "claimNames", "belongs to providerType=oauth2"
	}
	var names []string
	for _, entry := range c.ClaimNames {
		name, path, _ := strings.Cut(entry, "=")
		if !slices.Contains([]string{"sub", "email", "email_verified", "name"}, name) || !claimName.Get().MatchString(path) || slices.Contains(names, name) {
			return "claimNames", "must be NAME=CLAIM each, once for each of sub, email, email_verified and name"
		}
		names = append(names, name)
	}
	if c.Type == typeOAuth && !slices.Contains(names, "sub") {
		return "claimNames", "must say what the provider calls a person's id: sub=CLAIM"
	}
	return "", ""
}

// claimName is what a claim may be called: also a URL, which a namespace is.
var claimName = lazyregexp.Regexp{Text: `^[A-Za-z0-9_.:/@#-]{1,100}$`}

const maxEndpoint = 300 // characters

// isSafeEndpoint also takes a query (RFC 6749 §3.1 and §3.2): some providers are told by it what to
// say.
func isSafeEndpoint(raw string) bool {
	bare, _, _ := strings.Cut(raw, "?")
	u, err := url.Parse(bare)
	return err == nil && u.Host != "" && u.User == nil && u.Opaque == "" && (u.Scheme == "https" || weburl.IsLocalHTTP(u)) &&
		len(raw) <= maxEndpoint && !strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' })
}

// known is the document of a provider that has none to discover: all of it follows from the labels.
// It is nil for an OpenID provider. The error is *unusable.
func (c *Client) known() (*document, error) {
	d := &document{issuer: c.Issuer, origin: c.Issuer}
	switch c.kind() {
	case typeOpenID:
		return nil, nil
	case typeGitHub:
		g, err := gitHubAt(c.Issuer)
		if err != nil {
			return nil, err
		}
		d.people, d.dialect, d.promptsSupported = g, gitHubDialect, []string{selectAccount}
		// Its documentation has no iss in answers; its metadata (RFC 8414) calls it so.
		d.alias = g.base + "/login/oauth"
		d.endpoint = oauth2.Endpoint{AuthURL: g.base + "/login/oauth/authorize", TokenURL: g.base + "/login/oauth/access_token"}
		// Its documentation has id and secret among the parameters, and no other way.
		d.authMethods = []string{"client_secret_post"}
	default:
		if label, why := c.TypeFault(); label != "" {
			return nil, &unusable{why: "label " + label + ": " + why}
		}
		d.people, d.userinfoURL = oauthPeople{}, c.UserinfoEndpoint
		d.endpoint = oauth2.Endpoint{AuthURL: c.AuthorizationEndpoint, TokenURL: c.TokenEndpoint}
		d.dialect = oauthDialectOf(d)
		d.origin = originOf(c.TokenEndpoint)
	}
	return d, nil
}

func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}

// secretFor is whom a sealed client secret must have been sealed for: the issuer, in whose document
// the token endpoint stands, or the token endpoint that a label names. Otherwise whoever may write
// labels could have somebody else's secret sent to an address of theirs, beside the right issuer.
func (c *Client) secretFor() string {
	if c.kind() == typeOAuth {
		return c.TokenEndpoint
	}
	return c.Issuer
}

// canAskAgain says whether an access token that came without a refresh token stands in its place:
// one that never expires can be asked with again, for as long as the provider honours it. One that
// expires would end the login when it does.
func (p *Provider) canAskAgain(token *oauth2.Token) bool {
	return p.people != nil && token.RefreshToken == "" && token.ExpiresIn == 0 && token.AccessToken != ""
}

// whoAgain says what the provider says of a person at a check, in the place of a refreshed
// id_token.
func (p *Provider) whoAgain(ctx context.Context, token *oauth2.Token, subject string) (idToken, error) {
	who, err := p.people.who(ctx, p, token)
	switch {
	case errors.Is(err, errNoSubject):
		// At the login there was one. Some say with 200 that they are out of order, which is no
		// word on a person.
		err = unanswered(notUsed{causeOf(err)})
	case err == nil && who.subject != subject:
		err = loginRefused(errors.New("the access token is another person's than the login"))
	}
	return who, err
}

// askWithToken asks about a person with the access token of their login, which never expires. When
// it is refused the login has ended: the person, or the provider, took the token back. Nothing
// moves at the provider, so any other failure says nothing.
func (p *Provider) askWithToken(ctx context.Context, known *standing, login [16]byte, last Person) (*oauth2.Token, idToken, error) {
	token := &oauth2.Token{AccessToken: last.RefreshToken, TokenType: "Bearer"}
	who, err := p.whoAgain(ctx, token, last.Subject)
	var answer *strangeAnswer
	switch {
	case err == nil:
		return token, who, nil
	case errors.As(err, &answer) && answer.status == http.StatusUnauthorized:
		return nil, idToken{}, because(ErrEnded, fmt.Errorf("it takes the access token of this login no more (%w)", causeOf(err)))
	case errors.Is(err, errUnusable):
		// As a suspended account, or an endpoint that is not there any more.
		since := known.unreadSince(login, time.Unix(last.CheckedAt, 0), p.all.Now())
		if p.all.Now().Sub(since) > StaleWindow {
			err = because(ErrNeverRead, causeOf(err))
		}
	}
	return nil, idToken{}, err
}

// ask says all that a provider without id_tokens says of a person, for an operator's tool.
func (p *Provider) ask(ctx context.Context, token *oauth2.Token, subject string) (claims, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	who, err := p.whoAgain(ctx, token, subject)
	if err != nil || who.whole {
		return who.claims, err
	}
	more, err := p.userinfo(ctx, token, subject)
	all := claims{}
	maps.Copy(all, who.claims)
	maps.Copy(all, more)
	return all, err
}

// granted is the scope that the provider's answer names; nil if it names none. Some of those that
// are not OpenID Connect write commas between scopes.
func (p *Provider) granted(token *oauth2.Token) *string {
	scope := grantedScope(token)
	if p.people != nil && scope != nil {
		words := strings.ReplaceAll(*scope, ",", " ")
		return &words
	}
	return scope
}

// whoLoggedIn says who the provider's answer to a code is about.
func (p *Provider) whoLoggedIn(ctx context.Context, seed sealing.LoginSeed, token *oauth2.Token) (idToken, error) {
	if p.people != nil {
		return p.people.who(ctx, p, token)
	}
	return p.verifyLogin(ctx, seed, token)
}

var errNoSubject = errors.New("it is empty or missing")

// checkedSubject reads a person's id: a text, or a whole number as it was written.
func checkedSubject(v any) (string, error) {
	subject, isText := v.(string)
	if number, ok := v.(json.Number); ok {
		subject, isText = number.String(), strings.Trim(number.String(), "0123456789") == ""
	}
	switch {
	case v == nil || isText && subject == "":
		return "", errNoSubject
	case !isText:
		return "", fmt.Errorf("it is %s, not a text or a whole number", typeOf(v))
	case len(subject) > 255: // as OpenID Connect Core §2
		return "", errors.New("it has more than 255 bytes")
	}
	return subject, nil
}

// askingJSON asks for JSON: some token endpoints write forms otherwise.
type askingJSON struct{ next http.RoundTripper }

func (a askingJSON) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	return a.next.RoundTrip(r)
}

// oauthPeople are those of a provider with providerType=oauth2. Its userinfo endpoint says all that
// there is in one answer, in words of its own.
type oauthPeople struct{}

func (oauthPeople) who(ctx context.Context, p *Provider, token *oauth2.Token) (idToken, error) {
	said, err := p.askTwice(ctx, token, p.askUserinfo)
	if err != nil {
		return idToken{}, err
	}
	c := p.client.renamed(said)
	subject, err := checkedSubject(c["sub"])
	if err != nil {
		return idToken{}, loginRefused(fmt.Errorf("userinfo: the person's id, which claimNames calls %q: %w", p.client.claimOf("sub"), err))
	}
	return idToken{subject: subject, claims: c, whole: true}, nil
}

func (oauthPeople) more(context.Context, *Provider, *oauth2.Token) (claims, error) { return nil, nil }

func (oauthPeople) revoke(context.Context, *Provider, string) error { return ErrNotRevocable }

// claimOf is what the provider calls one of the claims that are known here.
func (c *Client) claimOf(name string) string {
	for _, entry := range c.ClaimNames {
		if is, path, _ := strings.Cut(entry, "="); is == name {
			return path
		}
	}
	return name
}

// renamed gives claims the names that are known here. One that came under such a name, and that the
// label finds elsewhere, is not taken for it.
func (c *Client) renamed(said claims) claims {
	all := claims{}
	maps.Copy(all, said)
	for _, entry := range c.ClaimNames {
		name, path, _ := strings.Cut(entry, "=")
		delete(all, name)
		if v, ok := said.find(path); ok {
			all[name] = v
		}
	}
	return all
}
