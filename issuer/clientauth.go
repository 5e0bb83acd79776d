package issuer

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

// How the operator's client proves itself at the provider: at its token endpoint, and where a
// refresh token is revoked.

const (
	basicAuth  = "basic"           // client_secret_basic (RFC 6749 §2.3.1)
	postAuth   = "post"            // client_secret_post
	keyAuth    = "private_key_jwt" // OpenID Connect Core §9, RFC 7523 §2.2
	publicAuth = "none"            // a public client only names itself
)

// clientAuth is the label clientAuth or, where it says auto, what this provider understands. Basic
// sends id and secret form-encoded, which half of all providers do not decode: an id or a secret
// that encoding changes goes into the body where that is offered, unless the provider is known to
// decode, and to refuse another method than the registered one.
func (u *upstream) clientAuth(t *tenant, secret string) string {
	offered := func(method string) bool { return slices.Contains(u.authMethods, method) }
	switch {
	case t.ClientAuth != "auto":
		return t.ClientAuth
	case secret == "":
		return publicAuth
	case len(u.authMethods) > 0 && !offered("client_secret_basic"),
		offered("client_secret_post") && !u.dialect().strictBasic && (url.QueryEscape(t.ClientID) != t.ClientID || url.QueryEscape(secret) != secret):
		return postAuth
	}
	return basicAuth
}

// clientAlgorithm is the only one that the derived key is for.
const clientAlgorithm = jose.ES256

// keyFault says why the client cannot prove itself by its key at this provider.
func (u *upstream) keyFault(t *tenant) error {
	if t.ClientAuth == keyAuth && len(u.authAlgorithms) > 0 && !slices.Contains(u.authAlgorithms, string(clientAlgorithm)) {
		return fmt.Errorf("clientAuth=private_key_jwt: the provider takes assertions signed with %s, and the sidecar's key is for %s: use a client secret there",
			plainText(strings.Join(u.authAlgorithms, ", "), 100), clientAlgorithm)
	}
	return nil
}

// authNote says for the operator what the provider does not offer. Some offer more than they list.
func (u *upstream) authNote(t *tenant) string {
	method := map[string]string{basicAuth: "client_secret_basic", postAuth: "client_secret_post", keyAuth: keyAuth}[t.ClientAuth]
	if method == "" || len(u.authMethods) == 0 || slices.Contains(u.authMethods, method) {
		return ""
	}
	return fmt.Sprintf("; it does not list %s, which clientAuth=%s is, but %s", method, t.ClientAuth, plainText(strings.Join(u.authMethods, ", "), 150))
}

// clientJWKSPath is where the keys stand that prove the client at the provider: in a document of
// their own, so that nobody takes them for keys of access tokens.
const clientJWKSPath = "/oauth/client-jwks.json"

func (t *tenant) clientJWKS() string { return t.PublicURL + clientJWKSPath }

// clientKeys publishes them, of all masters: a provider knows a key before it signs.
func (s *Issuer) clientKeys(w http.ResponseWriter, _ *http.Request, t *tenant) error {
	if t.ClientAuth != keyAuth {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Description: "this server has no key at its sign-in provider"}
	}
	set := jose.JSONWebKeySet{}
	for _, key := range s.Ring.ClientKeys(t.ProviderIssuer, t.ClientID) {
		jwk := clientKey(key)
		set.Keys = append(set.Keys, jwk.Public())
	}
	w.Header().Set("Cache-Control", "public, max-age="+cacheableSeconds)
	writeJSON(w, http.StatusOK, set)
	return nil
}

// clientKey names a key by the first 16 characters of its RFC 7638 thumbprint.
func clientKey(key *ecdsa.PrivateKey) jose.JSONWebKey {
	jwk := jose.JSONWebKey{Key: key, Algorithm: string(clientAlgorithm), Use: "sig"}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(must(jwk.Thumbprint(crypto.SHA256)))[:16]
	return jwk
}

// An assertion is dated back, so that half a minute by which the provider's clock differs, either
// way, does no harm: some refuse what seems to be from the future. Its life is short of the 60
// seconds after iat that Keycloak grants.
const (
	assertionLife = 55 * time.Second
	datedBack     = 25 * time.Second
)

// clientAssertion is RFC 7523 §3 for this provider. Each has as many characters as any other, which
// asserting counts on. aud is one text, the issuer (Keycloak refuses a list of several, Zitadel and
// Auth0 want the issuer); Hydra takes the token endpoint's URL only.
func (s *Issuer) clientAssertion(t *tenant, u *upstream) string {
	at := s.Now().Add(-datedBack).Unix()
	claims := must(json.Marshal(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
		ID       string `json:"jti"`
	}{t.ClientID, t.ClientID, u.assertionAudience(), at, at + int64(assertionLife/time.Second), base64.RawURLEncoding.EncodeToString(random(16))}))
	key := clientKey(s.Ring.ClientKeys(t.ProviderIssuer, t.ClientID)[0])
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: clientAlgorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT")))
	return must(must(signer.Sign(claims)).CompactSerialize())
}

func (u *upstream) assertionAudience() string {
	if u.dialect().tokenIsAud {
		return u.endpoint.TokenURL
	}
	return u.issuer
}

// asserting is the http.RoundTripper that proves the client by its key. Each request has an
// assertion of its own, also one that is sent again: providers take each once.
type asserting struct {
	next      http.RoundTripper
	assertion func() string
	endpoints []string
}

// RoundTrip is http.RoundTripper's.
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

// clientFor is upstreamClient, for what the tenant's client proves itself at.
func (s *Issuer) clientFor(t *tenant, u *upstream) *http.Client {
	client := s.upstreamClient(u.issuer)
	if t.ClientAuth == keyAuth {
		client.Transport = asserting{client.Transport, func() string { return s.clientAssertion(t, u) }, []string{asSent(u.endpoint.TokenURL), asSent(u.revocationURL)}}
	}
	return client
}

// asSent is an address of a discovery document as a request has it: HTTPS:// becomes https://.
func asSent(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.String()
}

// prove adds what proves the client to a request that x/oauth2 does not send.
func (u *upstream) prove(r *http.Request, form url.Values, t *tenant, secret string) {
	switch u.clientAuth(t, secret) {
	case basicAuth:
		r.SetBasicAuth(url.QueryEscape(t.ClientID), url.QueryEscape(secret)) // RFC 6749 §2.3.1
	case postAuth:
		form.Set("client_id", t.ClientID)
		form.Set("client_secret", secret)
	default: // asserting adds the proof, where there is one
		form.Set("client_id", t.ClientID)
	}
	text := form.Encode()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
}

// authHint says how the client had proved itself, where the provider refuses it.
func authHint(answer *oauth2.RetrieveError) string {
	r := answer.Response.Request
	if r == nil || answer.ErrorCode != "invalid_client" && answer.ErrorCode != "unauthorized_client" {
		return ""
	}
	form := sentForm(r)
	_, _, basic := r.BasicAuth()
	switch {
	case basic:
		return "; the client had proved itself by client_secret_basic: if it is registered for another method, or the secret is right and holds other characters than letters, digits and -._~, see the label clientAuth"
	case form.Has("client_assertion"):
		return "; the client had proved itself by private_key_jwt (" + string(clientAlgorithm) + ", aud " + cmp.Or(plainText(audienceOf(form.Get("client_assertion")), 200), "unknown") + "): register the address of its keys there, PUBLIC-URL" + clientJWKSPath
	case form.Has("client_secret"):
		return "; the client had proved itself by client_secret_post: if it is registered for another method, see the label clientAuth"
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
