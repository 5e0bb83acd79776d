package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// A run of everything that succeeds and much that fails, all logs at debug level; then whatever
// secret was configured or seen on the wire is looked for in what sidecar and Traefik have written.
// (The providers' logs are not ours.)
func TestLogsHoldNoSecret(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	for _, tn := range w.Tenants() {
		callWhoami(t, tn, tn.PublicHTTP())
		callWhoami(t, tn, tn.PublicHTTPS())
		everything(t, tn)
	}
	confidential(t, w.Wiki)
	wiki := w.Wiki.Client()
	tokens := wiki.Tokens(w.Wiki.Browser())

	// Answers of the provider that must not be quoted.
	leak := w.Secrets.New("access token", "upstream-")
	for _, fault := range []struct {
		status int
		body   string
	}{
		{http.StatusBadRequest, `{"error":"invalid_grant","error_description":"` + leak + `"}`},
		{http.StatusInternalServerError, `{"access_token":"` + leak + `"}`},
		{http.StatusOK, `{"access_token":"` + leak + `"}`},
		{http.StatusOK, `{"access_token":"` + leak + `","token_type":"Bearer","id_token":"` + leak + `.e30.` + leak + `"}`},
		{http.StatusOK, leak},
	} {
		f := wiki.Begin()
		code := wiki.Login(w.Wiki.Browser(), f)
		w.Wiki.Provider.Fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(fault.status)
			_, _ = w.Write([]byte(fault.body))
		}))
		wiki.Redeem(code, f)
		w.Wiki.Provider.Fault(nil)
	}
	// The sidecar is away, the ring is bad, the hop key is wrong.
	w.Front.Down()
	wiki.Redeem("mba1_nothing", wiki.Begin())
	wiki.Get("/anything", tokens.Member("access_token"))
	w.Front.Up()
	other := rig.Keygen(t, w.Secrets)
	for _, r := range w.Replicas {
		r.Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": other.Encryption + "," + w.Keys.Encryption})
	}
	wiki.Refresh(tokens.Member("refresh_token"))
	for _, r := range w.Replicas {
		r.Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": other.Encryption})
	}
	wiki.Refresh(tokens.Member("refresh_token"))

	kinds := w.Secrets.Kinds()
	for _, kind := range []string{
		"master secret", "hop key", "hop header", "client secret", "authorization header", "cookie",
		"code", "verifier", "access token", "refresh token", "id token",
	} {
		if kinds[kind] == 0 {
			t.Errorf("the run showed no %s, so looking for it proves nothing", kind)
		}
	}
	for _, name := range []string{"sidecar-a", "sidecar-b", "traefik"} {
		text := w.Logs.Text(name)
		if strings.Count(text, "\n") < 20 {
			t.Errorf("%s has logged hardly anything:\n%s", name, text)
		}
		for _, found := range w.Secrets.In(text) {
			t.Errorf("%s logged a %s", name, found)
		}
	}
	t.Logf("looked for %v", kinds)
}

// everything takes a tenant through what a client can do right and wrong.
func everything(t *testing.T, tn *rig.Tenant) {
	t.Helper()
	c := tn.Client()
	f := c.Begin()
	code := c.Login(tn.Browser(), f)
	c.Redeem(code, c.Begin())  // another verifier
	c.Redeem(flip(code), f)    // changed
	first := c.Redeem(code, f) // good
	c.Redeem(code, f)          // again
	refresh := first.Member("refresh_token")
	if refresh == "" {
		t.Fatalf("code at %s: %s", tn.Name, first)
	}
	second := c.Refresh(refresh)
	c.Refresh(flip(refresh))
	c.Refresh(first.Member("access_token"))
	c.Redeem(refresh, f)
	for _, token := range []string{first.Member("access_token"), second.Member("access_token"), flip(first.Member("access_token")), refresh, code} {
		c.Get("/anything", token)
		c.Get("/anything?access_token="+url.QueryEscape(token), "")
		c.Get("/oauth/token?code="+url.QueryEscape(token), token)
		c.Get("/oauth/callback?state=x&code="+url.QueryEscape(token), "")
		c.Get("/.well-known/oauth-authorization-server?token="+url.QueryEscape(token), token)
	}
	c.Token(url.Values{"grant_type": {"password"}, "client_secret": {refresh}, "code": {code}})
	c.Do(http.MethodPost, c.Meta.TokenEndpoint, http.Header{"Content-Type": {"application/json"}}, []byte(`{"code":"`+code+`"}`))
	c.Do(http.MethodPost, c.Meta.RegistrationEndpoint, http.Header{"Content-Type": {"application/json"}}, []byte(`{"client_secret":"`+refresh+`","redirect_uris":[]}`))

	denied := tn.Browser()
	denied.Decision = "deny"
	_, _ = denied.Visit(t.Context(), c.Begin().URL, c.Redirect)

	// The callback without its cookie, with somebody else's, and twice.
	b := tn.Browser()
	back, err := b.Visit(t.Context(), c.Begin().URL, c.Public+"/oauth/callback")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = tn.Browser().Load(t.Context(), back.String())
	_, _ = b.Visit(t.Context(), back.String(), c.Redirect)
	_, _ = b.Load(t.Context(), back.String())
}

// confidential registers a client with a secret and uses it rightly and wrongly, in both styles.
func confidential(t *testing.T, tn *rig.Tenant) {
	t.Helper()
	c := tn.Client()
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		answer := c.Register(map[string]any{
			"client_name": "Confidential", "redirect_uris": []string{c.Redirect}, "token_endpoint_auth_method": method,
			"grant_types": []string{"authorization_code", "refresh_token"},
		})
		own := *c
		own.ClientID = answer.Member("client_id")
		secret := answer.Member("client_secret")
		if answer.Status != http.StatusCreated || own.ClientID == "" || secret == "" {
			t.Fatalf("registration with %s: %s", method, answer)
		}
		f := own.Begin()
		code := own.Login(tn.Browser(), f)
		redeem := func(secret string) *rig.Answer {
			form := url.Values{
				"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {f.Verifier},
				"redirect_uri": {own.Redirect}, "resource": {own.Resource},
			}
			h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			if method == "client_secret_post" {
				form.Set("client_id", own.ClientID)
				form.Set("client_secret", secret)
			} else {
				r := http.Request{Header: h}
				r.SetBasicAuth(url.QueryEscape(own.ClientID), url.QueryEscape(secret))
			}
			return own.Do(http.MethodPost, own.Meta.TokenEndpoint, h, []byte(form.Encode()))
		}
		wantInvalidClient(t, method+" with a wrong secret", redeem(flip(secret)))
		wantInvalidClient(t, method+" without its secret", own.Redeem(code, f))
		if answer := redeem(secret); answer.Status != http.StatusOK {
			t.Errorf("%s: %s", method, answer)
		}
	}
}
