package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

func TestClientCreate(t *testing.T) {
	const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	t.Setenv("BOUNCER_ENCRYPTION_KEY", key)
	good := []string{"client", "create", "--public-url", "https://mcp.example/wiki/", "--resource", "wiki", "--provider-issuer", "https://idp.example",
		"--provider-client-id", "bouncer", "--name", "Batch", "--redirect-uri", "https://app.example/callback"}
	var out strings.Builder
	if err := run(good, nil, &out); err != nil {
		t.Fatal(err)
	}
	var info struct {
		ClientID     string   `json:"client_id"`
		ClientSecret string   `json:"client_secret"`
		RedirectURIs []string `json:"redirect_uris"`
	}
	if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
		t.Fatal(err)
	}
	ring, err := sealing.ParseRing(key)
	if err != nil {
		t.Fatal(err)
	}
	tenant := sealing.Tenant{PublicURL: "https://mcp.example/wiki", Resource: "wiki", Audience: "wiki", UpstreamIssuer: "https://idp.example", UpstreamClientID: "bouncer"}
	if secret, err := ring.ClientSecret(tenant.ID(), info.ClientID); err != nil || secret != info.ClientSecret || len(info.RedirectURIs) != 1 {
		t.Errorf("%s: the secret is not the one that the sidecar derives: %v", out.String(), err)
	}
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no command", []string{"client"}, "client create"},
		{"no tenant", good[:4], "must be what the labels say"},
		{"no redirect URI", good[:len(good)-2], "redirect_uris"},
		{"a bad redirect URI", append(append([]string{}, good...), "--redirect-uri"), "redirect-uri"},
		{"an unknown method", append(append([]string{}, good...), "--auth", "client_secret_jwt"), "token_endpoint_auth_method"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := run(c.args, nil, io.Discard); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
		})
	}
}
