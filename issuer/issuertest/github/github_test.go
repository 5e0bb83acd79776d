package github

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const callback = "https://mcp.localhost/wiki/oauth/callback"

// signedIn is somebody's browser, and the app's server.
type signedIn struct {
	*testing.T
	h *Hub
	c *http.Client
}

func newSignedIn(t *testing.T, o *Options, people ...Person) *signedIn {
	t.Helper()
	if len(people) == 0 {
		people = []Person{Octocat()}
	}
	o.Callback = callback
	h := Start(t, o, people...)
	jar, _ := cookiejar.New(nil)
	return &signedIn{t, h, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var action = regexp.MustCompile(`action="([^"]+)"`)

// code authorizes the app and returns what the callback gets.
func (s *signedIn) code(more url.Values) url.Values {
	s.Helper()
	q := url.Values{"client_id": {s.h.ClientID}, "redirect_uri": {callback}, "state": {"xyz"}, "scope": {"read:user user:email read:org"}}
	for k, v := range more {
		q[k] = v
	}
	at := s.h.URL + "/login/oauth/authorize?" + q.Encode()
	var form url.Values
	for range 6 {
		var resp *http.Response
		var err error
		if form == nil {
			resp, err = s.c.Get(at)
		} else {
			resp, err = s.c.PostForm(at, form)
		}
		if err != nil {
			s.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		form = nil
		if to := resp.Header.Get("Location"); to != "" {
			if strings.HasPrefix(to, callback) {
				u, _ := url.Parse(to)
				return u.Query()
			}
			at = s.h.URL + to
			continue
		}
		m := action.FindStringSubmatch(string(body))
		if m == nil {
			s.Fatalf("%d %s", resp.StatusCode, body)
		}
		at = s.h.URL + strings.ReplaceAll(m[1], "&amp;", "&")
		form = url.Values{"login": {"octocat"}, "password": {s.h.Password}, "authorize": {"1"}}
		if i := strings.Index(string(body), `name="return_to" value="`); i >= 0 {
			to, _, _ := strings.Cut(string(body)[i+len(`name="return_to" value="`):], `"`)
			form.Set("return_to", strings.ReplaceAll(to, "&amp;", "&"))
		}
	}
	s.Fatal("no end")
	return nil
}

// post asks for tokens and returns the answer's members.
func (s *signedIn) post(f url.Values) map[string]any {
	s.Helper()
	form := url.Values{"client_id": {s.h.ClientID}, "client_secret": {s.h.ClientSecret}}
	for k, v := range f {
		form[k] = v
	}
	r, _ := http.NewRequest(http.MethodPost, s.h.URL+"/login/oauth/access_token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	resp, err := s.c.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	var m map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || resp.StatusCode != http.StatusOK {
		s.Fatalf("%d %v", resp.StatusCode, err)
	}
	return m
}

func (s *signedIn) get(path, token string) (*http.Response, string) {
	s.Helper()
	if !strings.HasPrefix(path, "http") {
		path = s.h.api + path
	}
	r, _ := http.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.c.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

func (s *signedIn) token() string {
	s.Helper()
	return s.post(url.Values{"code": {s.code(nil).Get("code")}})["access_token"].(string)
}

// The examples of the documentation are answered as it says.
func TestImitationOfGitHubGivesTokensAsDocumented(t *testing.T) {
	t.Parallel()
	s := newSignedIn(t, &Options{})
	back := s.code(url.Values{"code_challenge": {challenge("a verifier")}, "code_challenge_method": {"S256"}})
	if back.Get("state") != "xyz" || back.Has("iss") {
		t.Errorf("back with %v", back)
	}
	form := url.Values{"code": {back.Get("code")}, "code_verifier": {"a verifier"}, "client_id": {s.h.ClientID}, "client_secret": {s.h.ClientSecret}, "redirect_uri": {callback}}
	resp, err := s.c.PostForm(s.h.URL+"/login/oauth/access_token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if !regexp.MustCompile(`^access_token=gho_\w{36}&scope=read%3Auser%2Cuser%3Aemail%2Cread%3Aorg&token_type=bearer$`).Match(b) {
		t.Errorf("by default %s", b)
	}
	if again := s.post(form); again["error"] != "bad_verification_code" {
		t.Errorf("a code twice: %v", again)
	}
	if wide := normal([]string{"user", "gist", "user:email", "nonsense"}); !slices.Equal(wide, []string{"user", "gist"}) {
		t.Errorf("normalized: %v", wide)
	}
}

// The errors of the token endpoint come with the status 200.
func TestImitationOfGitHubRefusesTokensAsDocumented(t *testing.T) {
	t.Parallel()
	pkce := url.Values{"code_challenge": {challenge("a verifier")}, "code_challenge_method": {"S256"}}
	for _, c := range []struct {
		name string
		more url.Values
		late time.Duration
		want string
	}{
		{"in time", url.Values{"code_verifier": {"a verifier"}}, 9 * time.Minute, ""},
		{"after 10 minutes", url.Values{"code_verifier": {"a verifier"}}, 11 * time.Minute, "bad_verification_code"},
		{"no code_verifier", nil, 0, "bad_verification_code"},
		{"another code_verifier", url.Values{"code_verifier": {"another"}}, 0, "bad_verification_code"},
		{"an unknown code", url.Values{"code": {"x"}, "code_verifier": {"a verifier"}}, 0, "bad_verification_code"},
		{"a wrong secret", url.Values{"client_secret": {"x"}}, 0, "incorrect_client_credentials"},
		{"another redirect_uri", url.Values{"redirect_uri": {callback + "/x"}, "code_verifier": {"a verifier"}}, 0, "redirect_uri_mismatch"},
		{"an unknown refresh token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, 0, "bad_refresh_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSignedIn(t, &Options{Kind: App})
			form := url.Values{"code": {s.code(pkce).Get("code")}, "redirect_uri": {callback}}
			for k, v := range c.more {
				form[k] = v
			}
			s.h.Ahead(c.late)
			got, _ := s.post(form)["error"].(string)
			if got != c.want {
				t.Errorf("error %q, want %q", got, c.want)
			}
		})
	}
	unverified := Octocat()
	unverified.Emails[1].Verified = false
	s := newSignedIn(t, &Options{}, unverified)
	if got := s.post(url.Values{"code": {s.code(nil).Get("code")}})["error"]; got != "unverified_user_email" {
		t.Errorf("without a verified primary address: %v", got)
	}
}

// A refresh ends the refresh token and the access token before it.
func TestImitationOfGitHubRotatesAsDocumented(t *testing.T) {
	t.Parallel()
	s := newSignedIn(t, &Options{Kind: App})
	first := s.post(url.Values{"code": {s.code(nil).Get("code")}})
	if first["expires_in"] != 28800.0 || first["scope"] != "" || !strings.HasPrefix(first["access_token"].(string), "ghu_") {
		t.Errorf("%v", first)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first["refresh_token"].(string)}}
	second := s.post(refresh)
	if again := s.post(refresh); again["error"] != "bad_refresh_token" {
		t.Errorf("a refresh token twice: %v", again)
	}
	for token, want := range map[string]int{first["access_token"].(string): 401, second["access_token"].(string): 200, second["refresh_token"].(string): 401} {
		if resp, body := s.get("/user", token); resp.StatusCode != want {
			t.Errorf("%d %s, want %d", resp.StatusCode, body, want)
		}
	}
	s.h.Ahead(8*time.Hour + time.Minute)
	if resp, body := s.get("/user", second["access_token"].(string)); resp.StatusCode != 401 || !strings.Contains(body, "Bad credentials") {
		t.Errorf("after 8 hours: %d %s", resp.StatusCode, body)
	}
	if third := s.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {second["refresh_token"].(string)}}); third["access_token"] == nil {
		t.Errorf("after 8 hours: %v", third)
	}
}

// The eleventh token for one person and list of scopes revokes the first.
func TestImitationOfGitHubKeepsTenTokens(t *testing.T) {
	t.Parallel()
	s := newSignedIn(t, &Options{})
	first := s.token()
	for i := range 10 {
		s.h.Ahead(time.Duration(i+1) * time.Minute)
		resp, _ := s.get("/user", first)
		if resp.StatusCode != 200 {
			t.Fatalf("it was revoked after %d more", i)
		}
		s.token()
	}
	if resp, _ := s.get("/user", first); resp.StatusCode != 401 {
		t.Errorf("the first of eleven: %d", resp.StatusCode)
	}
}

// Lists come in pages of 30, or as many as are asked for and 100 at most.
func TestImitationOfGitHubPaginatesAsDocumented(t *testing.T) {
	t.Parallel()
	p := Octocat()
	p.Teams = nil
	for i := range 201 {
		p.Teams = append(p.Teams, fmt.Sprintf("acme/team-%d", i))
	}
	s := newSignedIn(t, &Options{}, p)
	access := s.token()
	for size, want := range map[string]int{"": 7, "?per_page=100": 3, "?per_page=1000": 3} {
		pages, teams := 0, 0
		for next := "/user/teams" + size; next != ""; pages++ {
			resp, body := s.get(next, access)
			var list []map[string]any
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(body)
			}
			teams += len(list)
			m := regexp.MustCompile(`<([^>]+)>; rel="next"`).FindStringSubmatch(resp.Header.Get("Link"))
			if next = ""; m != nil {
				next = m[1]
			}
		}
		if pages != want || teams != 201 {
			t.Errorf("%q: %d teams on %d pages", size, teams, pages)
		}
	}
	if resp, _ := s.get("/user/emails", access); resp.Header.Get("Link") != "" {
		t.Error("one page has a Link")
	}
}

// What a token may not see is refused, and an app may ask and revoke.
func TestImitationOfGitHubKnowsScopesAndApps(t *testing.T) {
	t.Parallel()
	s := newSignedIn(t, &Options{Closed: []string{"acme"}})
	s.h.Edit(func([]string) []string { return nil })
	poor := s.token()
	for path, want := range map[string]int{"/user": 200, "/user/emails": 404, "/user/orgs": 403, "/user/teams": 403, "/user/": 404} {
		if resp, body := s.get(path, poor); resp.StatusCode != want {
			t.Errorf("%s without scopes: %d %s", path, resp.StatusCode, body)
		}
	}
	s.h.Edit(nil)
	s.h.RevokeGrant("octocat")
	access := s.token()
	if _, body := s.get("/user/orgs", access); body != "[]" {
		t.Errorf("an organisation that did not approve the app: %s", body)
	}
	ask := func(method, what string) int {
		r, _ := http.NewRequest(method, s.h.api+"/applications/"+s.h.ClientID+"/"+what, strings.NewReader(`{"access_token":"`+access+`"}`))
		r.SetBasicAuth(s.h.ClientID, s.h.ClientSecret)
		resp, err := s.c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	got := []int{ask(http.MethodPost, "token"), ask(http.MethodDelete, "token"), ask(http.MethodPost, "token")}
	if !slices.Equal(got, []int{200, 204, 404}) {
		t.Errorf("check, delete, check: %v", got)
	}
	if resp, _ := s.get("/user", access); resp.StatusCode != 401 {
		t.Errorf("a deleted token: %d", resp.StatusCode)
	}
	s.h.Exceed(403, Primary, time.Minute)
	if resp, _ := s.get("/user", s.token()); resp.StatusCode != 403 || resp.Header.Get("X-Ratelimit-Remaining") != "0" {
		t.Errorf("over the limit: %d %v", resp.StatusCode, resp.Header)
	}
}

// Comments cite pages by names that lead somewhere, and each page is cited.
func TestImitationOfGitHubCitesItsPages(t *testing.T) {
	cited := map[string]bool{}
	for _, file := range []string{"github.go", "oauth.go", "rest.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		unwrapped := regexp.MustCompile(`\n\s*// `).ReplaceAllString(string(text), " ")
		for _, m := range regexp.MustCompile(`(?:// |\()pages? ([a-z-]+)(?: and ([a-z-]+))?|of pages? ([a-z-]+)(?: and ([a-z-]+))?`).FindAllStringSubmatch(unwrapped, -1) {
			for _, name := range m[1:] {
				if name != "" && Pages[name] == "" {
					t.Errorf("%s cites a page %q", file, name)
				}
				cited[name] = true
			}
		}
	}
	for name := range Pages {
		if !cited[name] {
			t.Errorf("no comment cites page %s", name)
		}
	}
}
