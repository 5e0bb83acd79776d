package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

var (
	freezeFor = flag.Duration("freeze", 0, "how long TestFrozenFunctions stays frozen before each request that asks the provider, "+
		"which closes idle connections after half of it; 0: it closes them at once, and nobody waits")
	freezeLogins = flag.Int("logins", 3, "how many logins, refreshes and revocations TestFrozenFunctions makes in each way")
)

// Between two invocations a function is frozen, and the provider closes the connections that it
// had. Then comes the request that a login hangs on: clients send it once.
func TestFrozenFunctions(t *testing.T) {
	t.Parallel()
	for _, exchange := range []string{"token", "callback"} {
		for _, http2 := range []bool{false, true} {
			name := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2]
			t.Run("exchange="+exchange+", "+name, func(t *testing.T) {
				t.Parallel()
				frozenLogins(t, exchange, http2)
			})
		}
	}
}

// lane is one environment of a function, and the path of its tenant.
type lane struct {
	path        string
	payload     []byte
	environment *rig.Environment
	mu          sync.Mutex // held during an invocation
}

func frozenLogins(t *testing.T, exchange string, http2 bool) {
	lanes := make([]*lane, 1)
	if *freezeFor > 0 { // they are frozen most of the time
		lanes = make([]*lane, min(*freezeLogins, 50))
	}
	secrets, logs := &rig.Secrets{}, &rig.Logs{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the functions' log ends:\n%s", logs.Tail("lambda", 20))
		}
	})
	keys := rig.Keygen(t, secrets)
	var provider *rig.Provider
	byPath := map[string]*lane{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := rig.Hold(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		name, path, _ := strings.Cut(r.URL.Path[1:], "/")
		l := byPath[name]
		l.mu.Lock()
		defer l.mu.Unlock()
		hop, err := rig.SealHop(keys.Hop, time.Now(), l.payload)
		if err != nil {
			t.Error(err)
		}
		r.URL.Path = "/" + path
		r.Header.Set("X-Mcpb-Hop", hop)
		if *freezeFor == 0 {
			provider.CloseConnections()
		} else if path == "oauth/token" || path == "oauth/revoke" || path == "oauth/callback" && exchange == "callback" {
			<-time.After(*freezeFor) // the real thing: only in make nightly
		}
		if err := rig.FunctionURL.Answer(w, l.environment.Invoke(rig.FunctionURL.Event(t, r, body))); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(front.Close)
	public := strings.Replace(front.URL, "127.0.0.1", "localhost", 1)
	var redirects []string
	for i := range lanes {
		lanes[i] = &lane{path: fmt.Sprintf("lane%d", i)}
		byPath[lanes[i].path] = lanes[i]
		redirects = append(redirects, public+"/"+lanes[i].path+"/oauth/callback")
	}
	provider = rig.StartExampleOPOver(t, logs, secrets, redirects, rig.Connections{TLS: true, HTTP2: http2, Idle: *freezeFor / 2})
	function := rig.StartLambda(t, logs, map[string]string{
		"BOUNCER_ENCRYPTION_KEY": keys.Encryption, provider.SecretEnv: provider.ClientSecret, "SSL_CERT_FILE": "authority.pem",
	}, map[string][]byte{"authority.pem": provider.Certificate()})
	client := provider.Client()

	var wg sync.WaitGroup
	for i, l := range lanes {
		l.environment = function.Cold()
		l.payload = issuertest.Tenant{
			PublicURL: public + "/" + l.path, Resource: l.path, Audience: l.path, ProviderIssuer: provider.Issuer,
			ClientID: provider.ClientID, ClientSecret: "env:" + provider.SecretEnv, Scopes: []string{"openid", "offline_access"},
			MCPPaths: []string{"/mcp"}, Exchange: exchange,
		}.JSON()
		wg.Go(func() {
			c := rig.NewOAuthClient(t, client, public+"/"+l.path)
			for n := i; n < *freezeLogins; n += len(lanes) {
				loginRefreshRevoke(t, c, provider)
			}
		})
	}
	wg.Wait()
	codes, refreshes := len(provider.Posts("authorization_code")), len(provider.Posts("refresh_token"))
	if codes != *freezeLogins || refreshes != 2**freezeLogins {
		t.Errorf("%d codes and %d refreshes reached the provider for %d logins", codes, refreshes, *freezeLogins)
	}
	t.Logf("%d logins, refreshes and revocations in %d environments", *freezeLogins, len(lanes))
}

func loginRefreshRevoke(t *testing.T, c *rig.OAuthClient, p *rig.Provider) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Error(err)
		return
	}
	browser := &rig.Browser{Client: &http.Client{Transport: p.Client().Transport, Jar: jar}, Username: p.Username, Password: p.Password}
	flow := c.Begin()
	back, err := browser.Visit(t.Context(), flow.URL, c.Redirect)
	if err != nil || back.Query().Get("code") == "" {
		t.Errorf("login: %v, %v", back, err)
		return
	}
	tokens := c.Redeem(back.Query().Get("code"), flow)
	if tokens.Status != http.StatusOK {
		t.Errorf("code: %s", tokens)
		return
	}
	refreshed := c.Refresh(tokens.Member("refresh_token"))
	if refreshed.Status != http.StatusOK {
		t.Errorf("refresh: %s", refreshed)
		return
	}
	token := refreshed.Member("refresh_token")
	form := url.Values{"token": {token}, "client_id": {c.ClientID}}
	revoked := c.Do(http.MethodPost, c.Public+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	if revoked.Status != http.StatusOK {
		t.Errorf("revocation: %s", revoked)
	}
	if after := c.Refresh(token); after.Status != http.StatusBadRequest || after.Member("error") != "invalid_grant" {
		t.Errorf("a refresh after the revocation: %s", after)
	}
}
