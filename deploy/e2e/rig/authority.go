package rig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// AuthorityHopKey is the hop key of everybody who talks to an [Authority].
const AuthorityHopKey = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="

// Authority is a sidecar that only publishes keys, and the maker of tokens to them.
type Authority struct {
	URL string

	key    ed25519.PrivateKey
	denied atomic.Value // string
}

const authorityKeyID = "bench"

// StartAuthority starts it.
func StartAuthority(t T) *Authority {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatalf("rig: authority: %v", err)
	}
	a := &Authority{key: private}
	a.Deny(`{"v":1,"serial":0,"notBefore":0,"clients":[],"users":[],"families":[],"keys":[]}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		MarkAnswer(AuthorityHopKey, w, r)
		if r.URL.Path == "/hop/deny" {
			// As the sidecar answers: otherwise each token would be verified anew every 30 seconds.
			document := a.denied.Load().(string)
			tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(document)))
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = io.WriteString(w, document)
			return
		}
		if r.URL.Path != "/oauth/jwks.json" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
			"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": authorityKeyID,
			"x": base64.RawURLEncoding.EncodeToString(public),
		}}})
	}))
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// Deny sets the document of the deny list.
func (a *Authority) Deny(document string) { a.denied.Store(document) }

// Token returns an access token as RFC 9068 wants it, for an hour, of the tenant with this public
// URL, whose resource is "wiki"; each n gives another one.
func (a *Authority) Token(public, subject string, n int) string {
	now := time.Now()
	return a.TokenOf(public, subject, fmt.Sprintf("token-%d", n), now, now.Add(time.Hour))
}

// TokenOf returns one with an identifier and times of its own.
func (a *Authority) TokenOf(public, subject, id string, issued, expires time.Time) string {
	return a.sign(claims(public, subject, id, issued, expires))
}

// Bound returns a token like one of [Authority.Token], bound to the key with this thumbprint (RFC
// 9449 §6.1).
func (a *Authority) Bound(public, subject, thumbprint string) string {
	now := time.Now()
	c := claims(public, subject, "bound", now, now.Add(time.Hour))
	c["cnf"] = map[string]any{"jkt": thumbprint}
	return a.sign(c)
}

// Carrying returns a token like one of [Authority.Token] that carries an access token of the
// provider, sealed for whoever has [AuthorityHopKey].
func (a *Authority) Carrying(t T, public, subject string, n int, upstream string) string {
	t.Helper()
	now := time.Now()
	header, err := SealHop(AuthorityHopKey, now, []byte("{}"))
	if err != nil {
		t.Fatalf("rig: authority: %v", err)
	}
	hop, err := sealing.OpenHopWith(AuthorityHopKey, header, now)
	if err != nil {
		t.Fatalf("rig: authority: %v", err)
	}
	id := fmt.Sprintf("token-%016d", n) // as long as the sidecar's
	c := claims(public, subject, id, now, now.Add(time.Hour))
	c["upstream_token"] = hop.SealUpstreamToken(public, id, upstream)
	return a.sign(c)
}

func claims(public, subject, id string, issued, expires time.Time) map[string]any {
	return map[string]any{
		"iss": public, "sub": subject, "aud": []string{"wiki", public + "/mcp"},
		"exp": expires.Unix(), "iat": issued.Unix(), "nbf": issued.Unix(), "jti": id, "client_id": "bench", "scope": "openid email",
	}
}

func (a *Authority) sign(claims map[string]any) string {
	segment := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := segment(map[string]any{"alg": "EdDSA", "kid": authorityKeyID, "typ": "at+jwt"}) + "." + segment(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(a.key, []byte(signed)))
}
