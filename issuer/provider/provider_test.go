package provider_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const redirectURI = "https://mcp.localhost/wiki/oauth/callback"

// room is the package under test, with one provider and one client there.
type room struct {
	t      *testing.T
	clock  *issuertest.Clock
	idp    *issuertest.Provider
	log    bytes.Buffer
	all    *provider.Providers
	client *provider.Client
}

func newRoom(t *testing.T) *room {
	t.Helper()
	ring, err := sealing.ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	clock := issuertest.NewClock()
	r := &room{t: t, clock: clock, idp: issuertest.NewProvider(t, &issuertest.Options{Now: clock.Now})}
	r.all = &provider.Providers{
		Ring: ring, Transport: http.DefaultTransport, Now: clock.Now, Getenv: func(string) string { return "" },
		Wait: func(context.Context, time.Duration) error { return nil },
		Log:  slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	r.client = &provider.Client{
		Issuer: r.idp.Issuer, ID: r.idp.ClientID, Secret: r.idp.Secret, Auth: "auto", RedirectURI: redirectURI,
		Scopes: []string{"openid", "email", "offline_access"}, Refresh: "auto", Needs: provider.Needs{Email: true},
		Named: slog.String("tenant", "wiki"),
	}
	return r
}

func (r *room) connect() *provider.Provider {
	r.t.Helper()
	p, err := r.all.Connect(r.t.Context(), r.client)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// signIn goes the browser's way, and returns the code that the provider gives for the seed.
func (r *room) signIn(p *provider.Provider, seed sealing.LoginSeed) string {
	r.t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(p.AuthorizationURL(seed, provider.Wishes{}))
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Query().Get("state") != seed.State() || p.CheckIss(back.Query()) != nil {
		r.t.Fatalf("the provider sends the browser to %s: %v", back, err)
	}
	return back.Query().Get("code")
}

// The test takes one login from its beginning to its end, without a sidecar around it.
func TestProviderLogin(t *testing.T) {
	r := newRoom(t)
	r.idp.Be(issuertest.Behaviour{Revocation: true})
	if r.all.Known(r.client) != nil {
		t.Error("a provider is known that nobody has asked")
	}
	p, seed := r.connect(), sealing.LoginSeed{1}
	if r.all.Known(r.client) == nil || p.Issuer() != r.idp.Issuer {
		t.Errorf("the provider is %s", p.Issuer())
	}
	code := r.signIn(p, seed)
	who, answer, err := p.Redeem(t.Context(), seed, code, nil)
	if err != nil || who.Subject == "" || who.RefreshToken == "" || who.CheckedAt != r.clock.Now().Unix() || !slices.Contains(who.Said.Claims, "sub") {
		t.Fatalf("%+v, %v", who, err)
	}
	again, _, err := p.Redeem(t.Context(), seed, code, answer) // the kept answer replaces the code
	if err != nil || again.Subject != who.Subject || r.idp.PostsOf(code) != 1 {
		t.Errorf("with the kept answer: %+v, %v; the code was posted %d times", again, err, r.idp.PostsOf(code))
	}
	if _, _, err := p.Redeem(t.Context(), sealing.LoginSeed{2}, code, answer); !errors.Is(err, provider.ErrRefused) {
		t.Errorf("the answer of another login: %v", err)
	}
	r.clock.Add(time.Hour)
	next, err := r.connect().Refresh(t.Context(), [16]byte{1}, who)
	if err != nil || next.Subject != who.Subject || next.CheckedAt != r.clock.Now().Unix() || next.UnreadSince != 0 {
		t.Fatalf("%+v, %v", next, err)
	}
	if err := p.Revoke(t.Context(), next); err != nil || !slices.Contains(r.idp.Revoked(), next.RefreshToken) {
		t.Errorf("revoked %v, %v", r.idp.Revoked(), err)
	}
	if _, err := r.connect().Refresh(t.Context(), [16]byte{1}, next); !errors.Is(err, provider.ErrEnded) {
		t.Errorf("a refresh after the end: %v", err)
	}
}

// errors.Is tells the kinds of errors apart, and no error is of two kinds. The text has what the
// provider said, cleaned, and never what was sent to it.
func TestProviderErrorKinds(t *testing.T) {
	kinds := map[string]error{"away": provider.ErrAway, "ended": provider.ErrEnded, "refused": provider.ErrRefused, "our fault": provider.ErrOurFault}
	for _, c := range []struct {
		name    string
		is      issuertest.Behaviour
		client  func(*provider.Client)
		refresh bool // the fault comes with a refresh
		kind    string
		exactly error
	}{
		{name: "no discovery document", is: issuertest.Behaviour{DiscoveryStatus: 404}, kind: "away", exactly: provider.ErrSetUp},
		{name: "an outage of discovery", is: issuertest.Behaviour{DiscoveryStatus: 503}, kind: "away", exactly: provider.ErrUnavailable},
		{name: "a label that is no URL", client: func(c *provider.Client) { c.Issuer = "idp.example" }, kind: "away", exactly: provider.ErrSetUp},
		{name: "a variable that is not set", client: func(c *provider.Client) { c.Secret = "env:CLIENT_SECRET" }, kind: "our fault", exactly: provider.ErrConfiguration},
		{name: "a wrong secret", client: func(c *provider.Client) { c.Secret = "wrong" }, kind: "our fault", exactly: provider.ErrOurFault},
		{name: "a code that is worth nothing", is: issuertest.Behaviour{Status: 400, Error: "invalid_grant", Echo: true}, kind: "ended", exactly: provider.ErrCode},
		{name: "a busy token endpoint", is: issuertest.Behaviour{Status: 503}, kind: "away", exactly: provider.ErrUnavailable},
		{name: "a page in the place of an answer", is: issuertest.Behaviour{Status: 200, Body: "<html>", BodyType: "text/html"}, kind: "away", exactly: provider.ErrUnreadable},
		{name: "no id_token", is: issuertest.Behaviour{OmitIDToken: true}, kind: "refused", exactly: provider.ErrRefused},
		{name: "a key set that is away", is: issuertest.Behaviour{KeysStatus: 500}, kind: "away", exactly: provider.ErrUnreadable},
		{name: "a person who is gone", is: issuertest.Behaviour{Gone: true}, refresh: true, kind: "ended", exactly: provider.ErrEnded},
		{name: "another person", is: issuertest.Behaviour{SubOnRefresh: "person-2"}, refresh: true, kind: "refused", exactly: provider.ErrRefused},
		{name: "a refusal in words that nobody knows", is: issuertest.Behaviour{RefreshStatus: 400, Error: "no_idea"}, refresh: true, kind: "away", exactly: provider.ErrUnclear},
		{name: "an outage at a refresh", is: issuertest.Behaviour{RefreshStatus: 502}, refresh: true, kind: "away", exactly: provider.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, seed := newRoom(t), sealing.LoginSeed{1}
			if c.client != nil {
				c.client(r.client)
			}
			code := ""
			if !c.refresh {
				r.idp.Be(c.is)
			}
			p, err := r.all.Connect(t.Context(), r.client)
			if err == nil {
				var who provider.Person
				code = r.signIn(p, seed)
				who, _, err = p.Redeem(t.Context(), seed, code, nil)
				if c.refresh {
					if err != nil {
						t.Fatal(err)
					}
					r.idp.Be(c.is)
					code = who.RefreshToken
					_, err = p.Refresh(t.Context(), [16]byte{1}, who)
				}
			}
			if !errors.Is(err, c.exactly) {
				t.Errorf("%v is not %v", err, c.exactly)
			}
			for name, kind := range kinds {
				if errors.Is(err, kind) != (name == c.kind) {
					t.Errorf("%v is of the kind %q: %t", err, name, errors.Is(err, kind))
				}
			}
			for _, secret := range []string{code, seed.CodeVerifier(), r.idp.Secret, "<html>"} {
				if secret != "" && (strings.Contains(err.Error(), secret) || strings.Contains(r.log.String(), secret)) {
					t.Errorf("%q holds %q", err, secret)
				}
			}
		})
	}
}

// The caller hears without a request that a provider cannot revoke.
func TestRevocationThatWouldEndMore(t *testing.T) {
	r := newRoom(t)
	if p := r.connect(); p.RevokesOneLogin() || p.Revoke(t.Context(), provider.Person{RefreshToken: "x"}) != provider.ErrNotRevocable {
		t.Error("a provider without a revocation endpoint revokes")
	}
}

// A client that cannot prove itself as its labels say is not connected: whatever it presented would
// be refused.
func TestProviderThatTakesNoneOfOurKeysIsNotConnected(t *testing.T) {
	r := newRoom(t)
	r.idp.Be(issuertest.Behaviour{Discovery: map[string]any{"token_endpoint_auth_signing_alg_values_supported": []string{"RS256"}}})
	r.client.Auth, r.client.Secret = provider.PrivateKeyJWT, ""
	if _, err := r.all.Connect(t.Context(), r.client); !errors.Is(err, provider.ErrConfiguration) {
		t.Errorf("error %v", err)
	}
}

// A provider speaks in its own name only, whoever asks for its word.
func TestAssertionsInTheNameOfAnotherAreRefused(t *testing.T) {
	const audience = "https://mcp.localhost/wiki"
	r := newRoom(t)
	p := r.connect()
	another := map[string]any{"iss": "https://other.example"}
	if a, err := p.VerifyAssertion(t.Context(), r.idp.Assertion(audience, "c", another, nil), audience, ""); !errors.Is(err, provider.ErrAssertion) {
		t.Errorf("%+v %v", a, err)
	}
	if who, err := p.VerifyWorkload(t.Context(), r.idp.Assertion(audience, "c", another, map[string]any{"typ": nil}), audience, ""); !errors.Is(err, provider.ErrAssertion) {
		t.Errorf("%+v %v", who, err)
	}
}
