package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// doctorOnPage returns the command of docs/doctor.md that has these flags.
func doctorOnPage(t *testing.T, flags ...string) string {
	t.Helper()
	for _, m := range doctorCommand.FindAllStringSubmatch(doctorPage(t), -1) {
		if !slices.ContainsFunc(flags, func(flag string) bool { return !strings.Contains(m[0], flag) }) {
			return m[0]
		}
	}
	t.Fatalf("no command with %v on the page", flags)
	return ""
}

// doctorOfProvider runs a command of docs/doctor.md with a provider's own values in it.
func doctorOfProvider(t *testing.T, replace ...string) (text string, failed bool) {
	t.Helper()
	command := doctorOnPage(t, "--provider", "--redirect-uri https://")
	dir := t.TempDir()
	if err := os.Symlink(rig.Tool(t, "mcpbouncer"), filepath.Join(dir, "mcpbouncer")); err != nil {
		t.Fatal(err)
	}
	secret := replace[len(replace)-1]
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.NewReplacer(replace[:len(replace)-1]...).Replace(command))
	cmd.Env = []string{"PATH=" + dir, "OIDC_CLIENT_SECRET=" + secret}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), secret) {
		t.Error("the report holds the secret")
	}
	return string(out), err != nil
}

// Each line was compared with what the provider does: its configuration in the rig, and its source.
func TestDoctorOnRealProviders(t *testing.T) {
	t.Parallel()
	const redirect = "http://localhost:4444/wiki/oauth/callback"
	type made struct{ issuer, id, secret string }
	plainly := func(p *rig.RealProvider) made {
		c := p.Clients[rig.BasicClient]
		return made{p.Issuer, c.ID, c.Secret}
	}
	for name, c := range map[string]struct {
		start func(t *testing.T, logs *rig.Logs) made
		right []string // lines where all is well
		wrong []string // lines with another redirect URI and another secret
	}{
		"dex": {func(t *testing.T, logs *rig.Logs) made {
			p := rig.StartDex(t, logs, &rig.Secrets{}, []string{redirect}, nil)
			return made{p.Issuer, p.ClientID, p.ClientSecret}
		}, []string{"note  kind: seen Dex: it keeps one refresh token", "ok    PKCE", "is registered: ", "ok    client secret"},
			[]string{"WRONG redirect URI", "WRONG client secret"}},
		// It looks at the code before the client, so the secret cannot be told.
		"exampleop": {func(t *testing.T, logs *rig.Logs) made {
			p := rig.StartExampleOP(t, logs, &rig.Secrets{}, []string{redirect})
			return made{p.Issuer, p.ClientID, p.ClientSecret}
		}, []string{"note  kind: seen of no known kind", "is registered: ", "note  client secret: seen not told apart"},
			[]string{"WRONG redirect URI", "note  client secret: seen not told apart"}},
		"oidc-provider": {func(t *testing.T, logs *rig.Logs) made { return plainly(rig.StartPlainOIDCProvider(t, logs, redirect)) },
			[]string{"ok    kind: seen oidc-provider", "is registered: ", "ok    client secret"},
			[]string{"WRONG redirect URI", "WRONG client secret"}},
		"hydra": {func(t *testing.T, logs *rig.Logs) made { return plainly(rig.StartHydra(t, logs, redirect)) },
			[]string{"ok    kind: seen Hydra", "is registered: ", "ok    client secret"},
			[]string{"WRONG redirect URI", "WRONG client secret"}},
		"better-auth": {func(t *testing.T, logs *rig.Logs) made { return plainly(rig.StartBetterAuth(t, logs, redirect)) },
			// It looks at the code first, too. The rig has no sign-in page for it.
			[]string{"note  kind: seen better-auth: a refresh token that comes twice ends all logins", "WRONG redirect URI: expected the provider's sign-in page; seen 404 at http", "note  client secret: seen not told apart"},
			[]string{"WRONG redirect URI", "note  client secret: seen not told apart"}},
	} {
		// make nightly has both, and BIG=1 the second
		if (name == "better-auth" || name == "hydra") && !runsProvider(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := c.start(t, &rig.Logs{})
			of := func(redirect, secret string) []string {
				return []string{"https://id.example.com", p.issuer, "--client-id mcp ", "--client-id '" + p.id + "' ", "https://mcp.example.com/wiki/oauth/callback", redirect, secret}
			}
			text, failed := doctorOfProvider(t, of(redirect, p.secret)...)
			if failed != (name == "better-auth") {
				t.Errorf("something is wrong, or nothing:\n%s", text)
			}
			for _, line := range c.right {
				if !strings.Contains(text, line) {
					t.Errorf("no %q in\n%s", line, text)
				}
			}
			text, failed = doctorOfProvider(t, of(redirect+"s", "another-secret")...)
			if !failed {
				t.Errorf("nothing is wrong:\n%s", text)
			}
			for _, line := range c.wrong {
				if !strings.Contains(text, line) {
					t.Errorf("no %q in\n%s", line, text)
				}
			}
		})
	}
}
