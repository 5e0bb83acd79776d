package e2e

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// OpenID Connect libraries ask for openid by themselves, and take a grant of openid for the promise
// of an id_token. They log in and refresh as OAuth clients do.
func TestOpenIDLibrariesLogIn(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"requiredScopes": "docs:read"}})
	for _, library := range []string{"oidc-client-ts", "openid-client"} {
		for _, tn := range w.Tenants() {
			t.Run(library+" at "+tn.Name, func(t *testing.T) {
				name := library + " at " + tn.Name
				id := tn.Client().Register(map[string]any{"client_name": library, "redirect_uris": []string{"http://127.0.0.1/callback"}, "token_endpoint_auth_method": "none"}).Member("client_id")
				argument, err := json.Marshal(map[string]string{"name": library, "issuer": tn.PublicHTTP(), "clientId": id, "scope": "openid docs:read"})
				if err != nil {
					t.Fatal(err)
				}
				process := rig.Node(t, w.Logs, name, "openid.mjs", string(argument))
				var start string
				if err := json.Unmarshal([]byte(process.Say(t, w.Logs, opened)), &start); err != nil {
					t.Fatal(err)
				}
				u, err := url.Parse(start)
				if err != nil {
					t.Fatal(err)
				}
				browser := tn.Browser()
				back, err := browser.Visit(t.Context(), start, u.Query().Get("redirect_uri"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := browser.Load(t.Context(), back.String()); err != nil {
					t.Fatal(err)
				}
				if code := process.Wait(t); code != 0 {
					t.Fatalf("it ended with %d:\n%s", code, w.Logs.Text(name))
				}
				var result struct{ Granted, Refreshed string }
				if err := json.Unmarshal([]byte(resulted.FindStringSubmatch(w.Logs.Text(name))[1]), &result); err != nil {
					t.Fatal(err)
				}
				if result.Granted != "docs:read" || result.Refreshed != "docs:read" {
					t.Errorf("granted %q, refreshed %q", result.Granted, result.Refreshed)
				}
			})
		}
	}
}
