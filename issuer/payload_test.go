package issuer_test

import (
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Values that this master did seal, by a program with other rules or another version: they fail
// whole, they do not half open.
func TestAuthenticValuesOfAnotherProgram(t *testing.T) {
	w := newWorld(t, nil, nil)
	ring := newRing(t, masterOne)
	id := sealing.Tenant{
		PublicURL: w.wiki.PublicURL, Resource: w.wiki.Resource, Audience: w.wiki.Audience,
		UpstreamIssuer: w.wiki.ProviderIssuer, UpstreamClientID: w.wiki.ClientID, Generation: w.wiki.Generation,
	}.ID()
	const uris, method, name = 1, 2, 3
	type fields = map[int]any
	for _, c := range []struct {
		name    string
		payload any
		ok      bool
	}{
		{"a registration of today", fields{uris: []string{callback}, method: 0, name: "x"}, true},
		{"a redirect URI that is not allowed any more", fields{uris: []string{"javascript:alert(1)"}, method: 0}, false},
		{"one such URI beside a good one", fields{uris: []string{callback, "http://evil.example/"}, method: 0}, false},
		{"an authentication method that does not exist", fields{uris: []string{callback}, method: 3}, false},
		{"a field that does not exist yet", fields{uris: []string{callback}, method: 0, 99: "x"}, false},
		{"a field of another type", fields{uris: callback, method: 0}, false},
		{"no map", []string{callback}, false},
		{"nothing", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			payload, err := cbor.Marshal(c.payload)
			if err != nil {
				t.Fatal(err)
			}
			a := w.register(w.wiki.PublicURL, nil)
			a.id = ring.Seal(sealing.KindClient, id, "", payload, w.clock.Now())
			p := issuertest.NewBrowser(t, w.net).Get(a.authorizeURL())
			if c.ok {
				if p.Status != 200 {
					t.Fatalf("status %d: the test does not seal as the program does", p.Status)
				}
				a.login()
				return
			}
			if p.Status != 400 || p.Next() != "" {
				t.Errorf("authorize: status %d, leads to %q", p.Status, p.Next())
			}
			a.token(a.refreshment("x")).wants(t, 401, "invalid_client")
		})
	}
	t.Run("bytes behind a payload", func(t *testing.T) {
		w.t = t
		payload, err := cbor.Marshal(fields{uris: []string{callback}, method: 0})
		if err != nil {
			t.Fatal(err)
		}
		a := w.register(w.wiki.PublicURL, nil)
		a.id = ring.Seal(sealing.KindClient, id, "", append(payload, 0xf6), w.clock.Now())
		a.token(a.refreshment("x")).wants(t, 401, "invalid_client")
	})
}
