package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// Others read our documents as they read everybody's: the TypeScript SDK's schemas, for OpenID's
// document too, those of @atproto/oauth-types, which check RFC 8414 and RFC 9728 as such, and the
// Go SDK's readers.
func TestMetadataBeforeReferees(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"privateRedirectURIs": "myapp://login/callback", "dpop": "require"}})
	documents := map[string][]json.RawMessage{}
	judged := 0
	for _, tn := range w.Tenants() {
		c := tn.Client()
		root, path := strings.TrimSuffix(c.Public, "/"+tn.Name), "/"+tn.Name
		fetch := func(kind, address string, referees int) {
			answer := c.Do(http.MethodGet, address, nil, nil)
			if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%s: %s", address, answer)
			}
			documents[kind] = append(documents[kind], json.RawMessage(answer.Body))
			judged += referees
		}
		for _, name := range []string{"oauth-authorization-server", "openid-configuration"} {
			for _, address := range []string{root + "/.well-known/" + name + path, c.Public + "/.well-known/" + name, root + "/.well-known/" + name + path + "/mcp", c.Public + "/mcp/.well-known/" + name} {
				fetch("server", address, 3)
			}
		}
		for _, endpoint := range []string{"", "/mcp", "/mcp/"} {
			address := root + "/.well-known/oauth-protected-resource" + path + endpoint
			fetch("resource", address, 2)
			if _, err := oauthex.GetProtectedResourceMetadata(t.Context(), address, c.Public+endpoint, w.HTTP()); err != nil {
				t.Errorf("Go SDK, %s: %v", address, err)
			}
		}
		if _, err := oauthex.GetAuthServerMeta(t.Context(), root+"/.well-known/oauth-authorization-server"+path, c.Public, w.HTTP()); err != nil {
			t.Errorf("Go SDK, server metadata of %s: %v", tn.Name, err)
		}
		for _, method := range []string{"none", "client_secret_basic", "client_secret_post"} {
			answer := c.Register(map[string]any{"client_name": "Referee", "redirect_uris": []string{"http://127.0.0.1/"}, "token_endpoint_auth_method": method})
			if answer.Status != http.StatusCreated {
				t.Fatalf("registration: %s", answer)
			}
			documents["registration"] = append(documents["registration"], json.RawMessage(answer.Body))
			judged++
		}
	}
	argument, err := json.Marshal(documents)
	if err != nil {
		t.Fatal(err)
	}
	if code := rig.Node(t, w.Logs, "referee", "referee.mjs", string(argument)).Wait(t); code != 0 {
		t.Fatalf("referee.mjs ended with %d:\n%s", code, w.Logs.Text("referee"))
	}
	if said := strings.TrimSpace(w.Logs.Text("referee")); said != fmt.Sprintf("judged %d", judged) {
		t.Errorf("want nothing but %d judgements, got\n%s", judged, said)
	}
}

// Clients of MCP 2025-03-26 know the root and nothing else; those made with older versions of rmcp
// try the endpoint's own path first.
func TestMetadataWhereOlderClientsLook(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Root: "wiki"})
	for _, tn := range w.Tenants() {
		c := tn.Client()
		root := strings.TrimSuffix(c.Public, "/"+tn.Name)
		for address, issuer := range map[string]string{
			// the one that the operator chose
			root + "/.well-known/oauth-authorization-server":                     w.Wiki.PublicHTTP(),
			root + "/.well-known/oauth-authorization-server/" + tn.Name + "/mcp": c.Public,
			root + "/" + tn.Name + "/mcp/.well-known/oauth-authorization-server": c.Public,
			root + "/.well-known/oauth-authorization-server/" + tn.Name:          c.Public,
			root + "/" + tn.Name + "/.well-known/openid-configuration":           c.Public,
		} {
			answer := c.Do(http.MethodGet, address, nil, nil)
			if answer.Status != http.StatusOK || answer.Member("issuer") != issuer || answer.Member("token_endpoint") != issuer+"/oauth/token" {
				t.Errorf("%s: want the metadata of %s, got %s", address, issuer, answer)
			}
		}
		answer := c.Do(http.MethodGet, root+"/.well-known/oauth-protected-resource", nil, nil)
		if answer.Status != http.StatusOK || answer.Member("resource") != w.Wiki.PublicHTTP() || !strings.Contains(answer.Body, `"authorization_servers":["`+w.Wiki.PublicHTTP()+`"]`) {
			t.Errorf("want the resource that the operator chose, got %s", answer)
		}
	}
}
