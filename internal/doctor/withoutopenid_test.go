package doctor_test

import (
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest/github"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

var (
	actionOfForm = regexp.MustCompile(`action="([^"]+)"`)
	inputsOfForm = regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`)
)

// atGitHub signs in and authorizes the app, page by page, in one browser.
func atGitHub(t *testing.T, h *github.Hub) *doctor.ProviderLogin {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	return &doctor.ProviderLogin{Patience: 5 * time.Second, Visit: func(_, address string) {
		resp, err := browser.Get(address)
		for range 3 {
			if err != nil {
				t.Error(err)
				return
			}
			page, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			action := actionOfForm.FindStringSubmatch(string(page))
			if action == nil {
				return
			}
			form := url.Values{"login": {"octocat"}, "password": {h.Password}, "authorize": {"1"}}
			for _, input := range inputsOfForm.FindAllStringSubmatch(string(page), -1) {
				if input[1] != "login" {
					form.Set(input[1], html.UnescapeString(input[2]))
				}
			}
			resp, err = browser.PostForm(h.URL+html.UnescapeString(action[1]), form)
		}
	}}
}

// freeRedirectURI is of this computer, with a port that nobody uses.
func freeRedirectURI(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/callback"
}

func examineGitHub(t *testing.T, kind github.Kind, change func(*github.Hub, *doctor.ProviderOptions)) (string, *report.Report) {
	t.Helper()
	h := github.Start(t, &github.Options{Kind: kind, Callback: "http://127.0.0.1/callback", Installed: []string{"acme"}}, github.Octocat())
	needs := provider.Needs{Email: true, GroupsClaim: "groups", Groups: []string{"acme", "acme/admins"}, Name: true}
	o := doctor.ProviderOptions{Timeout: 5 * time.Second, Client: provider.Client{
		Issuer: h.URL, Type: "github", ID: h.ClientID, Secret: h.ClientSecret, Auth: "auto", RedirectURI: "http://127.0.0.1/callback", Refresh: "auto", Needs: needs, RuleNeeds: needs,
	}}
	if change != nil {
		change(h, &o)
	}
	r := doctor.RunProvider(t.Context(), o)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(h.Issued(), h.ClientSecret, "octocat@example.com") {
		if strings.Contains(text.String(), secret) {
			t.Errorf("the report holds %q:\n%s", secret, text.String())
		}
	}
	return text.String(), r
}

func TestDoctorFindsNothingWrongWithGitHub(t *testing.T) {
	text, r := examineGitHub(t, github.OAuthApp, nil)
	if r.Status() != report.StatusGood {
		t.Errorf("status %d:\n%s", r.Status(), text)
	}
	wantLines(t, text, "ok    discovery: seen GitHub has no discovery document: its endpoints are known", "ok    userinfo: seen a made-up access token is refused: 401 at http://localhost:", "ok    kind: seen GitHub",
		"ok    client authentication: seen the sidecar uses client_secret_post", "ok    PKCE: ", "ok    scopes: seen asked for: read:user user:email read:org", "ok    revocation: ",
		"ok    client secret: seen the provider takes client_id and secret, and refuses a made-up code: the provider answered 200 bad_verification_code")
	if strings.Contains(text, "keys") || strings.Contains(text, "id_token") {
		t.Errorf("it speaks of what GitHub has not:\n%s", text)
	}
}

func TestDoctorNamesWhatIsWrongAtGitHub(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*github.Hub, *doctor.ProviderOptions)
		want   string
	}{
		"secret": {func(_ *github.Hub, o *doctor.ProviderOptions) { o.Client.Secret = "wrong" },
			"WRONG client secret: expected a made-up code is refused, not the client; seen the provider answered 200 incorrect_client_credentials"},
		"client": {func(_ *github.Hub, o *doctor.ProviderOptions) { o.Client.ID = "nobody" }, "WRONG redirect URI"},
		"another server": {func(_ *github.Hub, o *doctor.ProviderOptions) {
			other := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(other.Close)
			o.Client.Issuer = other.URL
		}, "WRONG userinfo: expected a made-up access token is refused with 401; seen 404 at http://127.0.0.1"},
		"nobody there": {func(_ *github.Hub, o *doctor.ProviderOptions) { o.Client.Issuer = "http://127.0.0.1:1" }, "WRONG userinfo: "},
		"a limit": {func(h *github.Hub, _ *doctor.ProviderOptions) { h.Exceed(403, github.Primary, time.Hour) },
			"note  userinfo: seen 403 at"},
	} {
		t.Run(name, func(t *testing.T) {
			text, _ := examineGitHub(t, github.OAuthApp, c.change)
			wantLines(t, text, c.want)
		})
	}
}

func TestDoctorsLoginAtGitHub(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  github.Kind
		lines []string
	}{
		{github.OAuthApp, []string{"ok    token answer: seen access_token (string), scope (string), token_type (string)", "ok    granted scopes: seen read:user user:email read:org",
			"ok    refresh token: seen none, and an access token that never expires", "ok    refresh: seen the provider takes the access token still", "ok    revoked login: seen the refresh token is refused"}},
		{github.App, []string{"ok    refresh token: seen ", "ok    refresh: seen the provider gives a new refresh token each time", "ok    revoked login: seen the refresh token is refused"}},
	} {
		text, r := examineGitHub(t, c.kind, func(h *github.Hub, o *doctor.ProviderOptions) {
			o.Login, o.Client.RedirectURI = atGitHub(t, h), freeRedirectURI(t)
			h.Callback(o.Client.RedirectURI) // a GitHub App wants it to the last character
		})
		if r.Status() != report.StatusGood {
			t.Errorf("status %d:\n%s", r.Status(), text)
		}
		wantLines(t, text, append(c.lines, "ok    login: seen the person came back", "ok    claims at userinfo: seen email (string), email_verified (boolean), groups (list)",
			"ok    claim email: seen an address that the provider vouches for, at userinfo", "ok    claim groups: seen at userinfo: a list", "ok    claim name: ", "ok    wrong verifier: seen refused")...)
		if strings.Contains(text, "id_token") {
			t.Errorf("it speaks of what GitHub has not:\n%s", text)
		}
	}
}

// plainProvider speaks OAuth 2.0 and no more.
func plainProvider(t *testing.T, known bool) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/token":
			_, secret, _ := r.BasicAuth()
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"error": map[bool]string{true: "invalid_grant", false: "invalid_client"}[secret == "secret"]})
		case "/me":
			if !known {
				io.WriteString(w, "{}")
				return
			}
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestDoctorAtAnOAuthProvider(t *testing.T) {
	for _, c := range []struct {
		name  string
		good  bool
		lines []string
	}{
		{"well", true, []string{"ok    discovery: seen none: the endpoints are those of the labels", "ok    userinfo: seen a made-up access token is refused: 401", "note  PKCE: seen S256 is sent; nobody knows",
			"ok    scopes: seen asked for: identify", "note  revocation: ", "ok    client secret: seen the provider takes client_id and secret"}},
		{"everybody is let in", false, []string{"WRONG userinfo: expected a made-up access token is refused with 401; seen 200 at"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := plainProvider(t, c.good)
			r := doctor.RunProvider(t.Context(), doctor.ProviderOptions{Timeout: 5 * time.Second, Client: provider.Client{
				Issuer: at, Type: "oauth2", AuthorizationEndpoint: at + "/authorize", TokenEndpoint: at + "/token", UserinfoEndpoint: at + "/me?fields=id", ClaimNames: []string{"sub=id"},
				ID: "mcp", Secret: "secret", Auth: "auto", RedirectURI: tenantsRedirectURI, Scopes: []string{"identify"}, Refresh: "auto",
			}})
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			wantLines(t, text.String(), c.lines...)
			if good := r.Status() == report.StatusGood; good != c.good {
				t.Errorf("status %d:\n%s", r.Status(), text.String())
			}
		})
	}
}
