package rig

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Enterprise is a company's identity provider, which decides what program may act for whom at which
// server. OpenID Connect is zitadel/oidc's. That library issues no identity assertions, so the
// exchange for one is the rig's (ID-JAG §4.3). It speaks https, as some programs demand.
type Enterprise struct {
	Issuer string
	CA     []byte // its certificate, PEM
	// of the program, here. At each server it has another.
	ClientID, ClientSecret string
	Subject                string // of the person

	library   *op.Provider
	store     *storage.Storage
	client    *http.Client
	redirects []string
	knows     map[string]string // audience → client_id there
	asked     []url.Values
}

const (
	enterpriseCallback = "http://127.0.0.1:33418/callback"
	idJAG              = "urn:ietf:params:oauth:token-type:id-jag"
	tokenExchange      = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// The library keeps the clients of all its providers in one map without a lock, so one lock is
// held while any of them is asked.
var enterprises sync.Mutex

// StartEnterprise starts it.
func StartEnterprise(t T) *Enterprise {
	t.Helper()
	e := &Enterprise{ClientID: "program-" + rand.Text(), ClientSecret: "idp-" + rand.Text(), Subject: "id1", knows: map[string]string{}}
	e.Redirects(enterpriseCallback)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		enterprises.Lock()
		defer enterprises.Unlock()
		e.serve(w, r)
	}))
	t.Cleanup(srv.Close)
	e.Issuer, e.client = srv.URL, srv.Client()
	e.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	// The store names its first user after the host of this URL.
	e.store = storage.NewStorage(storage.NewUserStore("http://localhost:0/"))
	var err error
	e.library, err = op.NewProvider(&op.Config{CryptoKey: sha256.Sum256([]byte(e.ClientSecret)), CodeMethodS256: true, AuthMethodPost: true}, e.store, op.StaticIssuer(e.Issuer))
	if err != nil {
		t.Fatalf("rig: enterprise: %v", err)
	}
	return e
}

// Redirects lets the program have its answers at this address too.
func (e *Enterprise) Redirects(uri string) {
	enterprises.Lock()
	defer enterprises.Unlock()
	e.redirects = append(e.redirects, uri)
	storage.RegisterClients(storage.WebClient(e.ClientID, e.ClientSecret, e.redirects...))
}

// Knows lets the program have assertions for a server, where it has this client_id.
func (e *Enterprise) Knows(audience, clientID string) {
	enterprises.Lock()
	defer enterprises.Unlock()
	e.knows[audience] = clientID
}

// Exchanges lists what was asked for by an exchange for an audience.
func (e *Enterprise) Exchanges(audience string) []url.Values {
	enterprises.Lock()
	defer enterprises.Unlock()
	var of []url.Values
	for _, form := range e.asked {
		if form.Get("audience") == audience {
			of = append(of, form)
		}
	}
	return of
}

// IDToken is the person's login to the program. It returns the id_token.
func (e *Enterprise) IDToken(t T, secrets *Secrets) string {
	t.Helper()
	verifier := NewVerifier()
	back, err := e.Browser(t).Visit(t.Context(), e.Issuer+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {e.ClientID}, "redirect_uri": {enterpriseCallback}, "scope": {"openid email profile"},
		"state": {rand.Text()}, "code_challenge": {oidc.NewSHACodeChallenge(verifier)}, "code_challenge_method": {"S256"},
	}.Encode(), enterpriseCallback)
	if err != nil {
		t.Fatalf("rig: enterprise: %v", err)
	}
	resp, err := e.client.PostForm(e.Issuer+"/oauth/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {enterpriseCallback}, "code_verifier": {verifier},
		"client_id": {e.ClientID}, "client_secret": {e.ClientSecret},
	})
	if err != nil {
		t.Fatalf("rig: enterprise: %v", err)
	}
	defer resp.Body.Close()
	var answer struct {
		IDToken string `json:"id_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.IDToken == "" {
		t.Fatalf("rig: enterprise: the login brought no id_token: %s, %v", resp.Status, err)
	}
	secrets.Add("id token", answer.IDToken)
	return answer.IDToken
}

// Browser returns a browser of the person's, in which nobody types a password.
func (e *Enterprise) Browser(t T) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("rig: enterprise: %v", err)
	}
	return &Browser{Client: &http.Client{Transport: e.client.Transport, Jar: jar}}
}

func (e *Enterprise) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/login/username":
		// The person is logged in on this machine already.
		id := r.FormValue("authRequestID")
		if err := e.store.CheckUsernamePassword("test-user@localhost", "verysecure", id); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, op.AuthCallbackURL(e.library)(op.ContextWithIssuer(r.Context(), e.Issuer), id), http.StatusFound)
	case r.Method == http.MethodPost && r.FormValue("grant_type") == tokenExchange:
		w.Header().Set("Content-Type", "application/json")
		answer, err := e.exchange(op.ContextWithIssuer(r.Context(), e.Issuer), r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			answer = map[string]any{"error": "invalid_request", "error_description": err.Error()}
		}
		_ = json.NewEncoder(w).Encode(answer)
	default:
		e.library.ServeHTTP(w, r)
	}
}

// exchange makes an identity assertion of an id_token.
func (e *Enterprise) exchange(ctx context.Context, r *http.Request) (map[string]any, error) {
	request, id, secret, err := op.ParseTokenExchangeRequest(r, e.library.Decoder())
	if err != nil {
		return nil, err
	}
	if id == "" {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if _, err := op.AuthorizeTokenExchangeClient(ctx, id, secret, e.library); err != nil {
		return nil, err
	}
	if request.RequestedTokenType != idJAG || request.SubjectTokenType != oidc.IDTokenType {
		return nil, fmt.Errorf("%s for %s is not what this provider exchanges", request.RequestedTokenType, request.SubjectTokenType)
	}
	person, err := op.VerifyIDTokenHint[*oidc.IDTokenClaims](ctx, request.SubjectToken, e.library.IDTokenHintVerifier(ctx))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(person.Audience, id) {
		return nil, errors.New("the id_token is another client's")
	}
	audience := strings.Join(request.Audience, " ")
	e.asked = append(e.asked, r.PostForm)
	client := e.knows[audience]
	if client == "" {
		return nil, fmt.Errorf("this program may not use %q", audience)
	}
	const life = 5 * time.Minute
	claims := map[string]any{
		"iss": e.Issuer, "sub": person.Subject, "aud": audience, "client_id": client, "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(life).Unix(), "email": "test-user@zitadel.ch", "email_verified": true,
	}
	if len(request.Resource) > 0 {
		claims["resource"] = strings.Join(request.Resource, " ")
	}
	if len(request.Scopes) > 0 {
		claims["scope"] = request.Scopes.String()
	}
	assertion, err := e.Sign(ctx, "oauth-id-jag+jwt", claims)
	return map[string]any{
		"issued_token_type": idJAG, "access_token": assertion, "token_type": "N_A", "expires_in": int(life.Seconds()),
	}, err
}

// Sign makes a JWT of a type by the provider's key.
func (e *Enterprise) Sign(ctx context.Context, typ string, claims map[string]any) (string, error) {
	key, err := e.store.SigningKey(ctx)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: key.SignatureAlgorithm(), Key: jose.JSONWebKey{Key: key.Key(), KeyID: key.ID()}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
