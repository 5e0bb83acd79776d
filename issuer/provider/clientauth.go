package provider

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// The operator's client proves itself at the provider's token endpoint, and where a refresh token
// is revoked.

// PrivateKeyJWT is the value of the label clientAuth for a client with a key instead of a secret
// (OpenID Connect Core §9, RFC 7523 §2.2).
const PrivateKeyJWT = "private_key_jwt"

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2

const (
	basicAuth  = "basic" // client_secret_basic (RFC 6749 §2.3.1)
	postAuth   = "post"  // client_secret_post
	publicAuth = "none"  // a public client only names itself
)

// clientAuth is the label clientAuth or, where it says auto, what this provider understands. Basic
// sends id and secret form-encoded, and half of all providers do not decode them. So an id or a
// secret that encoding changes goes into the body where that is offered, unless the provider is
// known to decode, and to refuse another method than the registered one.
func (p *Provider) clientAuth() string {
	offered := func(method string) bool { return slices.Contains(p.authMethods, method) }
	switch {
	case p.client.Auth != "auto":
		return p.client.Auth
	case p.secret == "":
		return publicAuth
	case len(p.authMethods) > 0 && !offered("client_secret_basic"),
		offered("client_secret_post") && !p.dialect.strictBasic && (url.QueryEscape(p.client.ID) != p.client.ID || url.QueryEscape(p.secret) != p.secret):
		return postAuth
	}
	return basicAuth
}

// clientAlgorithm is the only algorithm that the derived key is for.
const clientAlgorithm = jose.ES256

// KeyFault says why the client cannot prove itself by its key at this provider. The error is
// ErrConfiguration.
func (p *Provider) KeyFault() error {
	if p.client.Auth == PrivateKeyJWT && p.people != nil {
		return because(ErrConfiguration, errors.New("clientAuth=private_key_jwt is for OpenID providers: use a client secret at this one"))
	}
	if p.client.Auth == PrivateKeyJWT && len(p.authAlgorithms) > 0 && !slices.Contains(p.authAlgorithms, string(clientAlgorithm)) {
		return because(ErrConfiguration, fmt.Errorf("clientAuth=private_key_jwt: the provider takes assertions signed with %s, and the sidecar's key is for %s: use a client secret there",
			outgoing.PlainText(strings.Join(p.authAlgorithms, ", "), 100), clientAlgorithm))
	}
	return nil
}

// AuthNote says for the operator which method of the label clientAuth the provider does not list;
// empty if it lists it. Some providers take more than they list.
func (p *Provider) AuthNote() string {
	method := map[string]string{basicAuth: "client_secret_basic", postAuth: "client_secret_post", PrivateKeyJWT: PrivateKeyJWT}[p.client.Auth]
	if method == "" || len(p.authMethods) == 0 || slices.Contains(p.authMethods, method) {
		return ""
	}
	return fmt.Sprintf("; it does not list %s, which clientAuth=%s is, but %s", method, p.client.Auth, outgoing.PlainText(strings.Join(p.authMethods, ", "), 150))
}

// ClientKeysPath is where the keys stand that prove the client at the provider, below the public
// URL: in a document of their own, so that nobody takes them for keys of access tokens.
const ClientKeysPath = "/oauth/client-jwks.json"

// ClientKeys are the public keys that prove the client, of all masters: a provider knows a key
// before it signs.
func (all *Providers) ClientKeys(c *Client) jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{}
	for _, key := range all.Ring.ClientKeys(c.Issuer, c.ID) {
		jwk := clientKey(key)
		set.Keys = append(set.Keys, jwk.Public())
	}
	return set
}

// clientKey names a key by the first 16 characters of its RFC 7638 thumbprint.
func clientKey(key *ecdsa.PrivateKey) jose.JSONWebKey {
	jwk := jose.JSONWebKey{Key: key, Algorithm: string(clientAlgorithm), Use: "sig"}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(must(jwk.Thumbprint(crypto.SHA256)))[:16]
	return jwk
}

// An assertion is dated back. So the provider's clock may differ by half a minute, either way: some
// providers refuse what seems to be from the future. Its life is short of the 60 seconds after iat
// that Keycloak grants.
const (
	assertionLife = 55 * time.Second
	datedBack     = 25 * time.Second
)

// clientAssertion makes an assertion for this provider (RFC 7523 §3). Each is as long as any other,
// and asserting counts on that. aud is one text, the issuer: Keycloak refuses a list of several,
// Zitadel and Auth0 want the issuer, and only Hydra wants the URL of its token endpoint.
func (p *Provider) clientAssertion() string {
	at := p.all.Now().Add(-datedBack).Unix()
	id := make([]byte, 16)
	rand.Read(id) // never fails
	claims := must(json.Marshal(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
		ID       string `json:"jti"`
	}{p.client.ID, p.client.ID, p.assertionAudience(), at, at + int64(assertionLife/time.Second), base64.RawURLEncoding.EncodeToString(id)}))
	key := clientKey(p.all.Ring.ClientKeys(p.client.Issuer, p.client.ID)[0])
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: clientAlgorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT")))
	return must(must(signer.Sign(claims)).CompactSerialize())
}

func (p *Provider) assertionAudience() string {
	if p.dialect.tokenIsAud {
		return p.endpoint.TokenURL
	}
	return p.issuer
}

// asserting is the http.RoundTripper that proves the client by its key. Each request has an
// assertion of its own, and so has one that is sent again: providers take each assertion once.
type asserting struct {
	next      http.RoundTripper
	assertion func() string
	endpoints []string
}

func (a asserting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || r.Body == nil || !slices.Contains(a.endpoints, r.URL.String()) {
		return a.next.RoundTrip(r)
	}
	form, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return nil, err
	}
	prove := func() []byte {
		proof := url.Values{"client_assertion_type": {assertionType}, "client_assertion": {a.assertion()}}
		return append(slices.Clip(form), "&"+proof.Encode()...)
	}
	first := prove()
	proved := r.Clone(r.Context())
	proved.Body, proved.ContentLength = io.NopCloser(bytes.NewReader(first)), int64(len(first))
	proved.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(prove())), nil }
	return a.next.RoundTrip(proved)
}

// provingClient is httpClient for the endpoints where the client must authenticate.
func (p *Provider) provingClient() *http.Client {
	client := p.all.httpClient(p.origin)
	if p.people != nil {
		client.Transport = askingJSON{client.Transport}
	}
	if p.client.Auth == PrivateKeyJWT {
		client.Transport = asserting{client.Transport, p.clientAssertion, []string{asSent(p.endpoint.TokenURL), asSent(p.revocationURL)}}
	}
	return client
}

// asSent returns a URL of a discovery document as a request has it: HTTPS:// becomes https://.
func asSent(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.String()
}

// prove adds what proves the client to a request that x/oauth2 does not send.
func (p *Provider) prove(r *http.Request, form url.Values) {
	switch p.clientAuth() {
	case basicAuth:
		r.SetBasicAuth(url.QueryEscape(p.client.ID), url.QueryEscape(p.secret)) // RFC 6749 §2.3.1
	case postAuth:
		form.Set("client_id", p.client.ID)
		form.Set("client_secret", p.secret)
	default: // asserting adds the proof, where there is one
		form.Set("client_id", p.client.ID)
	}
	text := form.Encode()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
}

// authHint says how the client had proved itself, where the provider refuses it.
func authHint(answer *oauth2.RetrieveError) string {
	r := answer.Response.Request
	if r == nil || !slices.Contains([]string{"invalid_client", "unauthorized_client", "incorrect_client_credentials"}, answer.ErrorCode) {
		return ""
	}
	form := sentForm(r)
	_, _, basic := r.BasicAuth()
	switch {
	case basic:
		return "; the client had proved itself by client_secret_basic: compare the labels clientSecret and clientID with what the provider shows; if both are right and the client is registered for another method, or the secret holds other characters than letters, digits and -._~, see the label clientAuth"
	case form.Has("client_assertion"):
		return "; the client had proved itself by private_key_jwt (" + string(clientAlgorithm) + ", aud " + cmp.Or(outgoing.PlainText(audienceOf(form.Get("client_assertion")), 200), "unknown") + "): register the address of its keys there, PUBLIC-URL" + ClientKeysPath
	case form.Has("client_secret"):
		return "; the client had proved itself by client_secret_post: compare the labels clientSecret and clientID with what the provider shows; if both are right and the client is registered for another method, see the label clientAuth"
	}
	return "; the client has no secret here: see the label clientSecret"
}

func audienceOf(assertion string) string {
	_, payload, _ := strings.Cut(assertion, ".")
	payload, _, _ = strings.Cut(payload, ".")
	text, _ := base64.RawURLEncoding.DecodeString(payload)
	var claims struct {
		Audience string `json:"aud"`
	}
	json.Unmarshal(text, &claims)
	return claims.Audience
}
