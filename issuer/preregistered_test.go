package issuer_test

import (
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The output of `mcpbouncer client create` is all that a client needs, at its tenant and nowhere
// else.
func TestPreRegisteredClients(t *testing.T) {
	w := newWorld(t, nil, nil)
	world := w.tenant("https://mcp.localhost/world")
	w.serve(world)
	a := w.register(w.wiki.PublicURL, nil)
	ring := must(sealing.ParseRing(masterOne))
	for _, method := range []string{"none", "client_secret_basic", "client_secret_post"} {
		info, err := issuer.RegisterClient(ring, tenantID(w.wiki), nil, issuer.ClientMetadata{
			RedirectURIs: []string{callback}, TokenEndpointAuthMethod: method, ClientName: "Batch",
		}, w.clock.Now())
		if err != nil || (info.ClientSecret == "") != (method == "none") {
			t.Fatalf("%s: %v, secret of %d characters", method, err, len(info.ClientSecret))
		}
		b := *a
		b.id, b.secret, b.basic = info.ClientID, info.ClientSecret, method == "client_secret_basic"
		b.login()
		b.base = world.PublicURL
		b.token(b.refreshment("x")).wants(t, 401, "invalid_client")
	}
	if _, err := issuer.RegisterClient(ring, tenantID(w.wiki), nil, issuer.ClientMetadata{RedirectURIs: []string{"javascript:alert(1)"}}, w.clock.Now()); err == nil {
		t.Error("a client with a script for a redirect URI")
	}
}

// People paste a secret behind a flag. One random secret in 64 would begin like another flag.
func TestClientSecretNeverBeginsLikeAFlag(t *testing.T) {
	w := newWorld(t, nil, nil)
	ring := must(sealing.ParseRing(masterOne))
	for range 1000 {
		client := must(issuer.RegisterClient(ring, tenantID(w.wiki), nil, issuer.ClientMetadata{RedirectURIs: []string{callback}}, w.clock.Now()))
		machine := must(issuer.RegisterMachine(ring, tenantID(w.wiki), issuer.Machine{Subject: "batch", Scope: "mcp:read"}, "Batch", "client_secret_basic", nil, w.clock.Now()))
		for _, secret := range []string{client.ClientSecret, machine.ClientSecret} {
			if len(secret) != 43 || secret[0] == '-' {
				t.Fatalf("%q", secret)
			}
		}
	}
}

func tenantID(tn issuertest.Tenant) sealing.TenantID {
	return sealing.Tenant{PublicURL: tn.PublicURL, Resource: tn.Resource, Audience: tn.Audience, UpstreamIssuer: tn.ProviderIssuer,
		UpstreamClientID: tn.ClientID, Generation: uint32(tn.Generation)}.ID()
}
