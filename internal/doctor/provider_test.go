package doctor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

const tenantsRedirectURI = "https://mcp.localhost/wiki/oauth/callback"

// strictAt answers authorization requests as most providers do: a page for its client and redirect
// URI, and an error page otherwise. The mock itself answers at any redirect URI.
type strictAt struct {
	*httptest.Server
	redirectURI string
	page        int
}

func newStrictAt(t *testing.T, clientID string) *strictAt {
	s := &strictAt{redirectURI: tenantsRedirectURI, page: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case q.Get("client_id") != clientID:
			http.Redirect(w, r, "/error?error=invalid_client", http.StatusFound)
		case q.Get("redirect_uri") != s.redirectURI:
			http.Error(w, "<script>alert('redirect_uri')</script>", http.StatusBadRequest)
		default:
			w.WriteHeader(s.page)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func examineProvider(t *testing.T, b issuertest.Behaviour, change func(*issuertest.Provider, *strictAt, *doctor.ProviderOptions)) (string, *report.Report, *issuertest.Provider) {
	t.Helper()
	idp := issuertest.NewProvider(t, nil)
	at := newStrictAt(t, idp.ClientID)
	if b.Discovery == nil {
		b.Discovery = map[string]any{}
	}
	for name, v := range map[string]any{"authorization_endpoint": at.URL + "/authorize", "code_challenge_methods_supported": []string{"S256"},
		"scopes_supported": []string{"openid", "email", "groups", "offline_access"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"}} {
		if _, set := b.Discovery[name]; !set {
			b.Discovery[name] = v
		}
	}
	b.Revocation = true
	idp.Be(b)
	o := doctor.ProviderOptions{Timeout: 5 * time.Second, Client: provider.Client{
		Issuer: idp.Issuer, ID: idp.ClientID, Secret: idp.Secret, Auth: "auto", RedirectURI: tenantsRedirectURI, Scopes: []string{"openid", "email"}, Refresh: "auto",
	}}
	if change != nil {
		change(idp, at, &o)
	}
	r := doctor.RunProvider(context.Background(), o)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), idp.Secret) || strings.Contains(text.String(), "<script>") {
		t.Errorf("the report holds the secret, or a page:\n%s", text.String())
	}
	return text.String(), r, idp
}

func TestDoctorFindsNothingWrongWithAGoodProvider(t *testing.T) {
	text, r, idp := examineProvider(t, issuertest.Behaviour{}, nil)
	if r.Status() != report.StatusGood {
		t.Errorf("status %d:\n%s", r.Status(), text)
	}
	for _, line := range []string{
		"ok    discovery: ", "note  kind: seen of no known kind", "ok    keys: seen 1 that verify signatures", "ok    PKCE: ", "ok    client authentication: seen the sidecar uses client_secret_basic",
		"ok    scopes: seen all that are asked for are listed", "ok    offline access: seen asked for", "ok    revocation: ", "ok    redirect URI: seen " + tenantsRedirectURI + " is registered: the sign-in page comes (200), and another is refused (400)",
		"ok    client secret: seen the provider takes client_id and secret, and refuses a made-up code: the provider answered 400 invalid_grant",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if discoveries, keys, _ := idp.Counts(); discoveries != 1 || keys != 1 || idp.Posts() != 2 {
		t.Errorf("%d discoveries, %d key fetches, %d posts: a production provider is asked as little as can be", discoveries, keys, idp.Posts())
	}
}

func TestDoctorNamesPlantedProviderFaults(t *testing.T) {
	type setUp = func(*issuertest.Provider, *strictAt, *doctor.ProviderOptions)
	document := func(name string, v any) issuertest.Behaviour {
		return issuertest.Behaviour{Discovery: map[string]any{name: v}}
	}
	elsewhere := "https://id.example.com/"
	for name, c := range map[string]struct {
		how    issuertest.Behaviour
		change setUp
		want   string // the beginning of a line
	}{
		"slash": {document("issuer", ""), func(idp *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) {
			idp.Be(document("issuer", idp.Issuer+"/"))
		}, `WRONG discovery: expected the provider's document, with the issuer of the label; seen discovery of http://ISSUER failed: label providerIssuer is "http://ISSUER", and the provider calls itself "http://ISSUER/": copy that into the label, to the last slash; fault: label`},
		"404":      {issuertest.Behaviour{DiscoveryStatus: 404}, nil, `WRONG discovery: expected the provider's document, with the issuer of the label; seen discovery of http://ISSUER failed: the provider answers 404`},
		"page":     {issuertest.Behaviour{DiscoveryBody: "<html>", DiscoveryType: "text/html"}, nil, `that is a page, of a login or of another program`},
		"redirect": {issuertest.Behaviour{DiscoveryRedirect: elsewhere}, nil, `it redirects to ` + elsewhere},
		"outage":   {issuertest.Behaviour{DiscoveryStatus: 502}, nil, `fault: provider; breaks: every client; remedy: the provider, or what stands in front of it, is out of order`},
		"no keys":  {issuertest.Behaviour{KeysStatus: 403}, nil, `WRONG keys: expected a JSON Web Key Set at jwks_uri; seen the provider's keys cannot be read: the provider answered 403; fault: provider`},
		"keys are a page": {issuertest.Behaviour{KeysBody: "<html>", KeysType: "text/html"}, nil,
			`WRONG keys: expected a JSON Web Key Set at jwks_uri; seen the provider's keys cannot be read: the provider answered 200 text/html: no JSON Web Key Set`},
		"only an odd key": {issuertest.Behaviour{KeysBody: `{"keys":[{"kty":"oct","kid":"shared","k":"c2VjcmV0"}]}`}, nil,
			`WRONG keys: expected a key of RSA, EC or Ed25519 for signatures; seen none among 1 that can be used; fault: provider`},
		"an odd key": {issuertest.Behaviour{OddKeys: []string{`{"kty":"EC","crv":"secp256k1","kid":"odd"}`}}, nil, `note  keys: seen the key "odd" (EC) is passed over: its crv is not one of those that are verified`},
		"wrong secret": {issuertest.Behaviour{}, func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) { o.Client.Secret = "wrong" },
			`WRONG client secret: expected a made-up code is refused, not the client; seen the provider answered 401 invalid_client; the client had proved itself by client_secret_basic`},
		"registered for post": {issuertest.Behaviour{AcceptOnly: "post"}, nil, `WRONG client secret: expected a made-up code is refused, not the client; seen the provider answered 401 invalid_client; the client had proved itself by client_secret_basic`},
		"any code is good":    {issuertest.Behaviour{Body: `{"access_token":"x","token_type":"Bearer"}`}, nil, `WRONG client secret: expected a made-up code is refused; seen the provider took it`},
		"an empty variable": {issuertest.Behaviour{}, func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) {
			o.Client.Secret = "env:WIKI_CLIENT_SECRET"
		}, `WRONG client authentication: expected a client that can prove itself; seen clientSecret: the variable WIKI_CLIENT_SECRET of the sidecar is not set or empty`},
		"token endpoint is down": {issuertest.Behaviour{Status: 503, Error: "temporarily_unavailable"}, nil, `WRONG client secret: expected an answer of the token endpoint; seen the provider answered 503`},
		"unknown words":          {issuertest.Behaviour{CodeRefusal: "bad_code"}, nil, `note  client secret: seen not told apart: the provider answered 400 bad_code`},
		"code before client":     {issuertest.Behaviour{Status: 400, Error: "invalid_grant"}, nil, `note  client secret: seen not told apart: a made-up code is refused in the same way from a client that nobody knows`},
		"redirect URI": {issuertest.Behaviour{}, func(_ *issuertest.Provider, at *strictAt, _ *doctor.ProviderOptions) { at.redirectURI += "/" },
			`WRONG redirect URI: expected the provider's sign-in page; seen 400, as for a redirect URI that nobody registered; fault: provider; breaks: every client; remedy: register the redirect URI ` + tenantsRedirectURI},
		"client id": {issuertest.Behaviour{}, func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) { o.Client.ID = "bouncr" },
			`WRONG redirect URI: expected the provider's sign-in page; seen 302 invalid_client, as for a client_id and a redirect URI that nobody registered; fault: label`},
		"the sign-in page breaks": {issuertest.Behaviour{}, func(_ *issuertest.Provider, at *strictAt, _ *doctor.ProviderOptions) { at.page = 500 },
			`WRONG redirect URI: expected the provider's sign-in page; seen 500; fault: provider`},
		"iss of another": {issuertest.Behaviour{Iss: &elsewhere, Discovery: map[string]any{"authorization_response_iss_parameter_supported": true}}, ownPages, `WRONG iss: expected http://ISSUER; seen "https://id.example.com/"; fault: provider`},
		"iss missing":    {document("authorization_response_iss_parameter_supported", true), ownPages, `WRONG iss: expected http://ISSUER; seen none, which its document promises`},
		"scope refused": {issuertest.Behaviour{AuthError: "invalid_scope", AuthErrorDescription: "client may not have email"}, ownPages,
			`WRONG authorization: expected the provider's sign-in page; seen the provider answered invalid_scope, saying "client may not have email"; fault: label; breaks: every client; remedy: let the client there have the scopes openid email`},
		"no S256":         {document("code_challenge_methods_supported", []string{"plain"}), nil, `note  PKCE: seen the document lists no S256, which is sent: plain`},
		"unlisted method": {document("token_endpoint_auth_methods_supported", []string{"client_secret_post"}), func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) { o.Client.Auth = "basic" }, `note  client authentication: seen it does not list client_secret_basic, which clientAuth=basic is, but client_secret_post`},
		"key's algorithm": {document("token_endpoint_auth_signing_alg_values_supported", []string{"RS256"}), func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) {
			o.Client.Auth = provider.PrivateKeyJWT
		}, `WRONG client authentication: expected a client that can prove itself; seen clientAuth=private_key_jwt: the provider takes assertions signed with RS256`},
		"a rule's scope": {issuertest.Behaviour{}, func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) {
			o.Client.Scopes, o.Client.RuleNeeds.Email = []string{"openid"}, true
		}, `WRONG claims: expected the scope email, since a rule looks at the address; seen the label scopes does not ask for it; fault: label`},
		"a scope of another provider": {issuertest.Behaviour{}, func(_ *issuertest.Provider, _ *strictAt, o *doctor.ProviderOptions) {
			o.Client.Scopes = append(o.Client.Scopes, "wiki:admin")
		}, `note  scopes: seen the provider does not list wiki:admin; it lists openid email groups offline_access`},
		"no offline_access": {document("scopes_supported", []string{"openid", "email"}), nil, `note  offline access: seen not asked for by name`},
	} {
		t.Run(name, func(t *testing.T) {
			text, r, idp := examineProvider(t, c.how, c.change)
			text = strings.ReplaceAll(text, strings.TrimPrefix(idp.Issuer, "http://"), "ISSUER")
			if !strings.Contains(text, c.want) {
				t.Errorf("no line\n%s\nin\n%s", c.want, text)
			}
			if want := strings.Contains(text, "WRONG "); want != (r.Status() == report.StatusFound) {
				t.Errorf("status %d:\n%s", r.Status(), text)
			}
		})
	}
}

// ownPages is for a mock whose own authorization endpoint answers: at once, with nobody asked.
func ownPages(idp *issuertest.Provider, at *strictAt, _ *doctor.ProviderOptions) {
	at.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own, err := http.NewRequestWithContext(r.Context(), http.MethodGet, idp.Issuer+r.URL.RequestURI(), nil)
		if err != nil {
			panic(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(own)
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		w.Header().Set("Location", resp.Header.Get("Location"))
		w.WriteHeader(resp.StatusCode)
	})
}

func TestDoctorNamesAProvidersPrivateAuthority(t *testing.T) {
	idp := issuertest.NewProvider(t, &issuertest.Options{TLS: true})
	o := doctor.ProviderOptions{Client: provider.Client{Issuer: idp.Issuer, ID: idp.ClientID, Secret: idp.Secret, Auth: "auto", Refresh: "auto"}}
	look := func(want string, status int) {
		t.Helper()
		r := doctor.RunProvider(t.Context(), o)
		var text strings.Builder
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), want) || r.Status() != status {
			t.Errorf("status %d, no %q in\n%s", r.Status(), want, text.String())
		}
	}
	look("fault: sidecar; breaks: every client; remedy: give the sidecar the authority's certificate in a file that SSL_CERT_FILE names", report.StatusFound)
	u, err := url.Parse(idp.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	o.CA = x509.NewCertPool()
	o.CA.AddCert(conn.ConnectionState().PeerCertificates[0])
	look("note  certificate: seen of an authority that this computer does not trust by itself", report.StatusGood)
}
