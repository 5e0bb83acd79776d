package logins_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/logins"
	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// A real sidecar writes the log: of three logins one goes on, with a refresh whose answer is given
// twice, one is revoked and one is ended by a refresh token that comes again.
func TestLoginsAreThoseOfARealSidecar(t *testing.T) {
	clock := issuertest.NewClock()
	idp := issuertest.NewProvider(t, &issuertest.Options{Now: clock.Now})
	ring, err := sealing.ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	guard, err := replay.Open("memory", 14*24*time.Hour, 30*24*time.Hour, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	// The log has the time of the sidecar's clock, as outside a test.
	timed := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(clock.Now())
		}
		return a
	}
	s, err := issuer.New(issuer.Config{
		Ring: ring, Schedule: sealing.Schedule{Rotation: 24 * time.Hour, Overlap: 2 * time.Hour}, ReplayGuard: guard, RefreshIdleTTL: 14 * 24 * time.Hour,
		AccessTokenTTL: time.Hour, RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour, Now: clock.Now, Transport: idp.Transport,
		Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{ReplaceAttr: timed})), Background: func(f func()) { f() },
	})
	if err != nil {
		t.Fatal(err)
	}
	const base, callback = "https://mcp.localhost/wiki", "https://app.example/callback"
	net, handler := &issuertest.Internet{}, s.Handler()
	net.Handle(base, &issuertest.Front{HopKey: ring.HopKey(), Now: clock.Now, Replica: func() http.Handler { return handler }, Tenant: issuertest.Tenant{
		PublicURL: base, Resource: "wiki", Audience: "urn:wiki", ProviderIssuer: idp.Issuer, ClientID: idp.ClientID, ClientSecret: idp.Secret,
		Scopes: []string{"openid", "offline_access"}, MCPPaths: []string{"/mcp"}, Exchange: "token", GroupsClaim: "groups", Refresh: "auto", UpstreamCheckInterval: 36000,
	}})
	post := func(path, contentType, body string) (status int, answer map[string]any) {
		t.Helper()
		r, err := http.NewRequest("POST", base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		resp, err := net.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(text, &answer)
		return resp.StatusCode, answer
	}
	_, client := post("/oauth/register", "application/json", `{"redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"none","client_name":"Test App"}`)
	id, _ := client["client_id"].(string)
	form := func(path string, want int, values url.Values) map[string]any {
		t.Helper()
		values.Set("client_id", id)
		status, answer := post(path, "application/x-www-form-urlencoded", values.Encode())
		if status != want {
			t.Fatalf("status %d, want %d: %v", status, want, answer)
		}
		return answer
	}
	const verifier = "a-verifier-of-at-least-forty-three-characters-here"
	sum := sha256.Sum256([]byte(verifier))
	login := func() (sid, token string) {
		t.Helper()
		query := url.Values{"response_type": {"code"}, "client_id": {id}, "redirect_uri": {callback}, "code_challenge_method": {"S256"},
			"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
		back := issuertest.NewBrowser(t, net).Login(base + "/oauth/authorize?" + query.Encode())
		answer := form("/oauth/token", 200, url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "code_verifier": {verifier}})
		var claims struct {
			Login string `json:"sid"`
		}
		part, err := base64.RawURLEncoding.DecodeString(strings.Split(answer["access_token"].(string), ".")[1])
		if err != nil || json.Unmarshal(part, &claims) != nil {
			t.Fatal(answer, err)
		}
		return claims.Login, answer["refresh_token"].(string)
	}
	refresh := func(want int, token string) {
		t.Helper()
		form("/oauth/token", want, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	}
	living, one := login()
	clock.Add(10 * time.Minute)
	revoked, two := login()
	reused, three := login()
	refresh(200, one)
	refresh(200, one) // its answer is given again
	form("/oauth/revoke", 200, url.Values{"token": {two}})
	refresh(200, three)
	clock.Add(10 * time.Minute)
	refresh(400, three)
	refresh(400, two)

	list, err := logins.Read(clock.Now(), logins.Log{Text: strings.NewReader(log.String())})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*logins.Login{}
	for _, o := range list.Logins {
		got[o.ID] = o
	}
	if len(list.Logins) != 3 || got[living] == nil || got[revoked] == nil || got[reused] == nil {
		t.Fatalf("%d logins: %v", len(list.Logins), got)
	}
	if o := got[living]; o.State != logins.Living || o.Refreshes != 1 || o.Name != "Test App" || o.Tenant != "wiki" || !o.Since.Equal(issuertest.Start) ||
		!o.Refreshed.Equal(issuertest.Start.Add(10*time.Minute)) || !o.Ends.Equal(issuertest.Start.Add(30*24*time.Hour)) {
		t.Errorf("the one that goes on: %+v", o)
	}
	if o := got[revoked]; o.State != logins.Ended || o.Cause != "its client revoked it" {
		t.Errorf("the one that was revoked: %+v", o)
	}
	if o := got[reused]; o.State != logins.Ended || o.Cause != "a refresh token was presented again" {
		t.Errorf("the one that was ended: %+v", o)
	}
	// As long as nobody comes, the list says when each is over.
	for _, c := range []struct {
		after time.Duration
		state logins.State
	}{{14*24*time.Hour - 11*time.Minute, logins.Living}, {14 * 24 * time.Hour, logins.Expired}} {
		later, err := logins.Read(clock.Now().Add(c.after), logins.Log{Text: strings.NewReader(log.String())})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range later.Logins {
			if o.ID == living && o.State != c.state {
				t.Errorf("after %v it is %s", c.after, o.State)
			}
		}
	}
}
