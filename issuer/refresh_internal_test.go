package issuer

import (
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/redirecturi"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Refresh tokens were once bound to the client_id. Such tokens work until they end.
func TestRefreshTokensThatWereBoundToTheClientID(t *testing.T) {
	ring, err := sealing.ParseRing(strings.Repeat("A", 42) + "E=")
	if err != nil {
		t.Fatal(err)
	}
	s := &Issuer{Config: Config{Ring: ring, Now: func() time.Time { return time.Unix(1790000000, 0) }}}
	tn := &tenant{id: sealing.Tenant{PublicURL: "https://mcp.localhost/wiki"}.ID()}
	public := client{registration: registration{RedirectURIs: []string{"http://localhost/cb"}, Name: "A"}, id: "one"}
	again := public
	again.id = "two"
	secret := public
	secret.AuthMethod = authPost
	for _, c := range []*client{&public, &again, &secret} {
		c.binding = refreshContext(*c)
	}
	old := s.seal(sealing.KindRefresh, tn, clientContext(public.hash()), grant{Scope: "wiki:read"})
	for _, c := range []struct {
		name  string
		token string
		by    client
		opens bool
	}{
		{"an old one by its client_id", old, public, true},
		{"an old one by another client_id of the same program", old, again, false},
		{"a new one by its client_id", s.sealGrant(tn, public, grant{Scope: "wiki:read"}), public, true},
		{"a new one by another client_id of the same program", s.sealGrant(tn, public, grant{Scope: "wiki:read"}), again, true},
		{"an old one by one with a secret", s.sealGrant(tn, secret, grant{Scope: "wiki:read"}), secret, true},
	} {
		g, _, err := s.openGrant(tn, c.by, c.token)
		if (err == nil) != c.opens || c.opens && g.Scope != "wiki:read" {
			t.Errorf("%s: %v %v", c.name, g, err)
		}
	}
}

// The two functions must compare alike.
func TestRefreshTokensAreBoundToWhatRedirectURIsCompare(t *testing.T) {
	uris := []string{"http://localhost", "http://localhost/", "http://localhost:1", "http://localhost:65535/", "http://localhost/cb", "http://localhost:1/cb", "http://localhost/cb/",
		"http://localhost?a=b", "http://localhost:7/?a=b", "http://localhost/?a=b:1", "http://127.0.0.1:1/", "http://127.0.0.1", "http://[::1]", "http://[::1]:80/", "http://[::1]/cb",
		"https://app.example", "https://app.example/", "https://app.example:8443/", "com.example.app:/cb"}
	for _, a := range uris {
		for _, b := range uris {
			if one, other := redirecturi.Match([]string{a}, b), redirecturi.Compared(a) == redirecturi.Compared(b); one != other {
				t.Errorf("%s and %s: %t where a redirect URI is compared, %t in a refresh token", a, b, one, other)
			}
		}
	}
}
