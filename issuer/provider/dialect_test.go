package provider

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Each row: what status, error code and body of an answer, as x/oauth2 reads it, say about the
// presented code or token. The operator's log says what came, and nothing that the provider put
// into it.
func TestDialectOfAnErrorAnswer(t *testing.T) {
	d := &dialect{
		refuses: []words{{400, "", ""}, {409, "gone", "for good"}},
		unsure:  []words{{500, "invalid_request", ""}},
	}
	const json, html, form = "application/json", "text/html; charset=utf-8", "application/x-www-form-urlencoded"
	for _, c := range []struct {
		status      int
		kind, body  string
		want        meaning // of a provider of no known kind
		own         meaning // of d
		description string
	}{
		{400, json, `{"error":"invalid_grant"}`, refused, refused, "400 invalid_grant"},
		{500, json, `{"error":"invalid_grant"}`, refused, refused, "500 invalid_grant"},
		{200, json, `{"error":"invalid_grant"}`, refused, refused, "200 invalid_grant"},
		{400, form, "error=invalid_grant", refused, refused, "400 invalid_grant"},
		{403, json, `{"error":"invalid_code"}`, refused, refused, "403 invalid_code"},
		{400, json, `{"error":"invalid_grant","error_codes":[50196]}`, away, away, "400 invalid_grant, AADSTS50196"},
		{400, json, `{"error":"invalid_grant","error_codes":[50173]}`, refused, refused, "400 invalid_grant, AADSTS50173"},
		{401, json, `{"error":"token_expired"}`, refused, refused, "401 token_expired"},
		{500, json, `{"error":"token_expired"}`, away, away, "500 token_expired"},
		{400, json, `{"error":"access_denied"}`, refused, refused, "400 access_denied"},
		{400, json, `{"error":"invalid_request"}`, doubted, doubted, "400 invalid_request"},
		{500, json, `{"error":"invalid_request"}`, away, doubted, "500 invalid_request"},
		{400, json, `{"error":"no_idea"}`, doubted, doubted, "400 no_idea"},
		{200, json, `{"error":"no_idea"}`, doubted, doubted, "200 no_idea"},
		{400, json, `{"error":{"code":17}}`, doubted, doubted, "400 without an error code, in application/json"},
		{400, "application/problem+json", `{"title":"x"}`, doubted, doubted, "400 without an error code, in application/problem+json"},
		{400, "", "", doubted, refused, "400 without an error code, with an empty body"},
		{400, html, " \r\n", doubted, refused, "400 without an error code, with an empty body"},
		{409, json, `{"error":"gone","error_description":"for good"}`, unsaid, refused, "409 gone, saying \"for good\""},
		{409, json, `{"error":"gone","error_description":"until tomorrow"}`, unsaid, unsaid, "409 gone, saying \"until tomorrow\""},
		{400, html, "<html>", unsaid, unsaid, "400 without an error code, in text/html"},
		{400, "text/plain", "Bad Request", unsaid, unsaid, "400 without an error code, in text/plain"},
		{400, "x\r\ny", "secret", unsaid, unsaid, "400 without an error code, in no known type"},
		{401, json, `{"error":"invalid_client"}`, unsaid, unsaid, "401 invalid_client"},
		{400, json, `{"error":"invalid_client"}`, unsaid, unsaid, "400 invalid_client"},
		{200, json, `{"error":"incorrect_client_credentials"}`, unsaid, unsaid, "200 incorrect_client_credentials"},
		{400, json, `{"error":"unauthorized_client"}`, unsaid, unsaid, "400 unauthorized_client"},
		{400, json, `{"error":"unsupported_grant_type"}`, unsaid, unsaid, "400 unsupported_grant_type"},
		{400, json, `{"error":"invalid_scope"}`, unsaid, unsaid, "400 invalid_scope"},
		{401, "", "", unsaid, unsaid, "401 without an error code, with an empty body"},
		{403, json, `{"message":"Forbidden"}`, unsaid, unsaid, "403 without an error code, in application/json"},
		{404, html, "<html>", unsaid, unsaid, "404 without an error code, in text/html"},
		{302, html, "<html>", unsaid, unsaid, "302 without an error code, in text/html"},
		{413, "", "", unsaid, unsaid, "413 without an error code, with an empty body"},
		{408, "", "", away, away, "408 without an error code, with an empty body"},
		{425, "", "", away, away, "425 without an error code, with an empty body"},
		{429, html, "<html>", away, away, "429 without an error code, in text/html"},
		{503, html, "<html>", away, away, "503 without an error code, in text/html"},
		{400, json, `{"error":"temporarily_unavailable"}`, away, away, "400 temporarily_unavailable"},
		{400, json, `{"error":"<script>"}`, doubted, doubted, "400 an error code that is not one"},
	} {
		client := &http.Client{
			Transport: answering(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: c.status, Header: http.Header{"Content-Type": {c.kind}}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
			}),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		config := oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: "https://idp.example/token", AuthStyle: oauth2.AuthStyleInHeader}}
		_, err := config.TokenSource(oidc.ClientContext(t.Context(), client), &oauth2.Token{RefreshToken: "x"}).Token()
		var answer *oauth2.RetrieveError
		if !errors.As(err, &answer) {
			t.Errorf("%d %s: %v", c.status, c.body, err)
			continue
		}
		if got, own := meaningOf(answer, nil, nil), meaningOf(answer, d.refuses, d.unsure); got != c.want || own != c.own {
			t.Errorf("%d %s: %d and %d, want %d and %d", c.status, c.body, got, own, c.want, c.own)
		}
		if got, _, _ := strings.Cut(describe(answer).Error(), "; the client had proved itself"); got != "the provider answered "+c.description {
			t.Errorf("%d %s: described as %q", c.status, c.body, got)
		}
	}
}

// A provider is recognized by the addresses of its endpoints, below whatever prefix, and each by
// one row.
func TestDialectIsKnownByItsEndpoints(t *testing.T) {
	for _, base := range []string{"https://idp.example", "https://idp.example/below/it", "http://localhost:8080"} {
		for i := range dialects {
			d := &dialects[i]
			if d.issuer != "" {
				continue
			}
			doc := &document{issuer: base, userinfoURL: base + d.userinfo, keysURL: base + d.keys}
			doc.endpoint = oauth2.Endpoint{AuthURL: base + d.auth, TokenURL: base + d.token, DeviceAuthURL: base + d.device}
			if got := dialectOf(doc); got != d {
				t.Errorf("%s at %s is taken for %s", d.name, base, got.name)
			}
			doc.keysURL = "https://elsewhere.example" + d.keys
			if got := dialectOf(doc); got != plain {
				t.Errorf("%s with keys elsewhere is taken for %s", d.name, got.name)
			}
		}
	}
}

// Some providers are recognized by their issuer alone, which must match exactly or by its
// beginning.
func TestDialectIsKnownByItsIssuer(t *testing.T) {
	for _, c := range []struct{ issuer, name string }{
		{"https://accounts.google.com", "Google"},
		{"https://accounts.google.com/", plain.name},
		{"https://accounts.google.com.evil.example", plain.name},
		{"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc", "Amazon Cognito"},
		{"https://cognito-idp-fips.us-east-1.amazonaws.com/x", plain.name},
		{"https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0", "Entra ID"},
		{"https://login.microsoftonline.com", plain.name},
		{"https://login.microsoftonline.com.evil.example/x", plain.name},
	} {
		if got := dialectOf(&document{issuer: c.issuer, endpoint: oauth2.Endpoint{TokenURL: c.issuer + "/t"}}); got.name != c.name {
			t.Errorf("%s is taken for %s, want %s", c.issuer, got.name, c.name)
		}
		if HasHostedDomains(c.issuer) != (c.name == "Google") {
			t.Errorf("%s has hosted domains: %t", c.issuer, HasHostedDomains(c.issuer))
		}
	}
}

func TestStandingForgetsWhatItMust(t *testing.T) {
	now := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	var all standings
	one, other := &Client{Issuer: "https://idp.example", ID: "a"}, &Client{Issuer: "https://idp.example", ID: "b"}
	st := all.of(one, "secret", now)
	st.takesCode()
	if all.of(one, "secret", now) != st || all.of(one, "another", now) == st || all.of(other, "secret", now) == st || all.of(one, "another", now).hasAccepted() {
		t.Error("what is known of one secret is known of another")
	}
	for i := range firstsKept + 5 {
		st.doubts(fmt.Sprint("token ", i), now)
	}
	if n := st.first.Len(); n != firstsKept {
		t.Errorf("%d are kept", n)
	}
	st.takes("another token", now.Add(time.Minute))
	if !st.doubts("token 1", now.Add(2*time.Minute)) {
		t.Error("a doubt is forgotten at once")
	}
	if st.doubts("token that came late", now.Add(2*time.Minute)) {
		t.Error("what could not be kept is taken for known")
	}
	st.doubts("token", now.Add(2*forgetfulWindow+time.Minute))
	if n := st.first.Len(); n != 1 {
		t.Errorf("%d are kept for longer than they count", n)
	}
	st = all.of(other, "secret", now)
	since := func(token string, at time.Duration, want time.Duration) {
		t.Helper()
		if got := st.troubled(token, now.Add(at)); !got.Equal(now.Add(want)) {
			t.Errorf("trouble of %s at %v since %v, want %v", token, at, got.Sub(now), want)
		}
	}
	since("a", 0, 0)
	since("a", time.Hour, 0)
	since("b", time.Hour, 0)
	st.takes("b", now.Add(2*time.Hour))
	since("a", 3*time.Hour, 0) // others are accepted, and this one is not
	since("b", 4*time.Hour, 3*time.Hour)
	st.takes("a", now.Add(5*time.Hour))
	since("a", 6*time.Hour, 6*time.Hour)
	since("a", time.Hour, time.Hour) // the clock was set back
	st.understands()
	since("c", 7*time.Hour, 7*time.Hour)

	var login [16]byte
	for _, c := range []struct{ at, read, want time.Duration }{
		// it is remembered while it lasts
		{10, 9, 10}, {11, 9, 10}, {32, 9, 10}, {54, 9, 10}, {76, 9, 10},
		{77, 11, 77}, // another replica could read it meanwhile
		{300, 11, 300},
	} {
		if got := st.unreadSince(login, now.Add(c.read*time.Hour), now.Add(c.at*time.Hour)); !got.Equal(now.Add(c.want * time.Hour)) {
			t.Errorf("unread at %d since %v, want %d hours", c.at, got.Sub(now), c.want)
		}
	}
	st.reads(login)
	if got := st.unreadSince(login, now, now.Add(301*time.Hour)); !got.Equal(now.Add(301 * time.Hour)) {
		t.Errorf("unread since %v after it was read", got.Sub(now))
	}
}

// What one provider does in its own way is not believed of another.
func TestDialectOfGoogleIsGooglesOnly(t *testing.T) {
	for _, c := range []struct {
		issuer string
		google bool
	}{{"https://accounts.google.com", true}, {"https://accounts.google.com.evil.example", false}} {
		d := &document{issuer: c.issuer, revocationURL: c.issuer + "/revoke"}
		d.dialect = dialectOf(d)
		p := &Provider{document: d, client: &Client{Needs: Needs{Email: true}}}
		if who := p.personOf("1", claims{"hd": "example.com"}); who.HostedDomain == "example.com" != c.google {
			t.Errorf("%s: hosted domain %q", c.issuer, who.HostedDomain)
		}
		if p.RevokesOneLogin() == c.google {
			t.Errorf("%s: a revocation ends one login: %v", c.issuer, !c.google)
		}
	}
}

// Labels name the endpoints of a provider without OpenID Connect. Gitea is known by all three; one
// that has only some of them is not taken for it, and neither is one that has another provider's.
func TestDialectWithoutOpenIDConnect(t *testing.T) {
	const base = "https://gitea.example.com/git"
	for _, c := range []struct{ auth, token, userinfo, want string }{
		{base + "/login/oauth/authorize", base + "/login/oauth/access_token", base + "/login/oauth/userinfo", "Gitea"},
		{base + "/login/oauth/authorize", base + "/login/oauth/access_token", base + "/api/v1/user", plain.name},
		{base + "/login/oauth/authorize", base + "/login/oauth/access_token", "https://other.example.com/login/oauth/userinfo", plain.name},
		{base + "/auth", base + "/token", base + "/me", plain.name},
		{"https://accounts.google.com/o/oauth2/v2/auth", "https://oauth2.googleapis.com/token", "https://openidconnect.googleapis.com/v1/userinfo", plain.name},
	} {
		d, err := (&Client{
			Issuer: "https://accounts.google.com", Type: typeOAuth, ClaimNames: []string{"sub=id"},
			AuthorizationEndpoint: c.auth, TokenEndpoint: c.token, UserinfoEndpoint: c.userinfo,
		}).known()
		if err != nil || d.dialect.name != c.want {
			t.Errorf("%s: %v, %v, want %s", c.userinfo, d.dialect.name, err, c.want)
		}
	}
}
