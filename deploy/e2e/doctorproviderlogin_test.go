package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// doctorsPerson is a person at a provider, and the client that doctor is told of.
type doctorsPerson struct {
	browser  *rig.Browser
	issuer   string
	client   rig.Client
	scopes   string
	redirect string
}

// logsIn runs the command of docs/doctor.md that logs in at a provider, with this one's values in
// it, and opens each address that it shows.
func (p doctorsPerson) logsIn(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(rig.Tool(t, "mcpbouncer"), filepath.Join(dir, "mcpbouncer")); err != nil {
		t.Fatal(err)
	}
	command := strings.NewReplacer("https://id.example.com", p.issuer, "--client-id mcp ", "--client-id '"+p.client.ID+"' ", "groupsClaim=roles", "groupsClaim=groups",
		"http://127.0.0.1:33418/callback", p.redirect).Replace(doctorOnPage(t, "--provider", "--login"))
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exec "+command+" --scopes '"+p.scopes+"' "+more)
	cmd.Env = []string{"PATH=" + dir, "OIDC_CLIENT_SECRET=" + p.client.Secret}
	var out strings.Builder
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	secrets := []string{p.client.Secret}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "http") {
			continue
		}
		back, err := p.browser.Visit(t.Context(), lines.Text(), p.redirect)
		var page *rig.Page
		if errors.As(err, &page) && strings.HasPrefix(page.URL.String(), p.redirect) {
			secrets = append(secrets, page.URL.Query().Get("code"))
			continue // a script of the provider's page brought it there
		}
		if err != nil {
			t.Errorf("login %d: %v", len(secrets), err)
			_ = cmd.Process.Kill()
			break
		}
		secrets = append(secrets, back.Query().Get("code"))
		resp, err := http.Get(back.String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	_ = cmd.Wait() // the lines say whether something is wrong
	for _, secret := range secrets {
		if secret == "" || strings.Contains(out.String(), secret) {
			t.Errorf("the report holds a secret or a code, or there was none:\n%s", out.String())
		}
	}
	return out.String()
}

// cellsOfDoctor are cells of docs/providers.md, and the line of doctor's that says the same: the
// words of the line, and those with which the cell begins. A cell is to agree with one.
var cellsOfDoctor = map[string][][2]string{
	"login":    {{"characters, RS256, ", "works, RS256"}, {"characters, EdDSA, ", "works, EdDSA"}},
	"rotation": {{"ok    refresh: seen the provider gives a new refresh token each time, and an id_token", "a new one each time, id_token too"}, {"ok    refresh: seen the provider gives a new refresh token each time, and no id_token", "a new one each time, no id_token"}, {"ok    refresh: seen the provider gives the same refresh token again, and an id_token", "no new refresh token, id_token too"}},
	"a used refresh token again": {
		{"ok    used refresh token: seen refused; the newest is over", "thief: `invalid_grant`; owner: `invalid_grant`"}, {"ok    used refresh token: seen refused; the newest goes on", "thief: `invalid_grant`; owner: goes on"},
		{"note  used refresh token: seen taken; the newest goes on", "thief: goes on, with a warning; owner: goes on"}, {"note  used refresh token: seen it is the newest too", "thief: goes on, with a warning; owner: goes on"},
	},
	"its answer is lost": {
		{"ok    lost answer: seen the sidecar asks again, and the login goes on", "goes on, then goes on"}, {"note  lost answer: seen the login is over", "`invalid_grant`"}, {"note  used refresh token: seen it is the newest too", "goes on, then goes on"},
	},
	"a code twice":             {{"ok    used code: seen refused; the first login goes on", "`invalid_grant`; the first login: goes on"}, {"note  used code: seen refused; the first login is over", "`invalid_grant`; the first login: `invalid_grant`"}},
	"revocation by the client": {{"ok    revoked login: seen the refresh token is refused", "done, then `invalid_grant`"}, {"note  revocation: seen the provider cannot end one login", "`unsupported_token_type`, then goes on"}},
	"groups":                   {{"ok    claim groups: ", "`groups`, as "}, {"WRONG claim groups: expected names of groups, since a rule looks at them; seen no such claim", "none"}},
	"e-mail":                   {{"ok    claim email: ", "vouched for"}, {"and no email_verified: nobody vouches for it", "nobody vouches for it"}, {"since a rule looks at it; seen no claim email", "nobody vouches for it"}},
}

// providersCells returns the row of a provider on docs/providers.md, by column.
func providersCells(t *testing.T, name string) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(rig.Root(), "docs", "providers.md"))
	if err != nil {
		t.Fatal(err)
	}
	row, head := map[string]string{}, []string(nil)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		switch cells[0] {
		case "provider":
			head = cells
		case name:
			for i, cell := range cells {
				row[head[i]] = cell
			}
		}
	}
	if len(row) < 12 {
		t.Fatalf("%s has %d cells on the page", name, len(row))
	}
	return row
}

// What doctor says of a provider is what the table says that came of it with the sidecar before it.
func TestDoctorsLoginAgreesWithWhatWasMeasured(t *testing.T) {
	t.Parallel()
	for _, whole := range wholeProviders {
		// make nightly has them all; doctor logs in by OpenID Connect.
		if !runsProvider(whole.name) || whole.name == giteaByOAuth {
			continue
		}
		t.Run(whole.name, func(t *testing.T) {
			t.Parallel()
			redirect := fmt.Sprintf("http://localhost:%d/wiki/oauth/callback", rig.FreePort(t))
			p := whole.start(t, &rig.Logs{}, redirect)
			person := doctorsPerson{p.Browser(rig.Users[0]), p.Issuer, p.Clients[rig.BasicClient], p.Scopes, redirect}
			text := person.logsIn(t, "--yes")
			row := providersCells(t, p.Name)
			for column, lines := range cellsOfDoctor {
				said := 0
				for _, line := range lines {
					if strings.Contains(text, line[0]) {
						said++
						if !strings.HasPrefix(row[column], line[1]) {
							t.Errorf("%q is %q on the page, and doctor says %q", column, row[column], line[0])
						}
					}
				}
				if said != 1 {
					t.Errorf("doctor says %d things of %q, which is %q on the page", said, column, row[column])
				}
			}
			// Two replicas at once are a refresh token that comes twice.
			if strings.Contains(text, " other logins: ") && strings.Contains(text, "note  other logins: ") != strings.HasSuffix(row["2 replicas at once"], "the person's other login: `invalid_grant`") {
				t.Errorf("2 replicas at once: %q", row["2 replicas at once"])
			}
			if t.Failed() {
				t.Log(text)
			}
			if post, ok := p.Clients[rig.PostClient]; ok {
				person.client = post
				text = person.logsIn(t, "")
				if strings.Contains(text, "remedy: set the label clientAuth=post") == (row["a client for `client_secret_post` alone"] == "works") || !strings.Contains(text, "note  used refresh token: seen not tried") && !strings.Contains(text, "it is the newest too") {
					t.Errorf("a client for client_secret_post alone: %s, and doctor says\n%s", row["a client for `client_secret_post` alone"], text)
				}
			}
		})
	}
}

// Of providers that are not in the table: each line was compared with the provider's source.
func TestDoctorsLoginAtRealProviders(t *testing.T) {
	t.Parallel()
	dex := func(t *testing.T, redirect string) *rig.Provider {
		return rig.StartDex(t, &rig.Logs{}, &rig.Secrets{}, []string{redirect}, nil)
	}
	for name, c := range map[string]struct {
		start func(t *testing.T, redirect string) *rig.Provider
		flags string
		lines []string
	}{
		"dex": {dex, "--yes", []string{
			"ok    token answer: seen access_token (string), expires_in (86399), id_token (string), token_type (string)", "ok    granted scopes: seen the answer does not say", "ok    refresh token: seen none is kept: refresh=auto means session here",
			"ok    claim email: seen an address that the provider vouches for, in the id_token and at userinfo", "WRONG claim groups: ", "remedy: add the scope groups to the label scopes",
			"ok    used code: seen refused; the first login: not seen without a refresh token", "ok    wrong verifier: seen refused, and the code stays good for its owner", "ok    code twice at once: seen one of two", "note  labels: seen for this provider: scopes=openid email groups;",
		}},
		"dex, asked for refresh tokens": {dex, "--refresh upstream --yes", []string{
			"WRONG second login: expected the first one goes on; seen it ends the first one: the provider answered 400 invalid_request", "remedy: set refresh=session", "refresh=session",
			"ok    used code: seen refused; the first login goes on", "ok    used refresh token: seen refused; the newest goes on", "note  logins left: ",
		}},
		"exampleop": {func(t *testing.T, redirect string) *rig.Provider {
			return rig.StartExampleOP(t, &rig.Logs{}, &rig.Secrets{}, []string{redirect})
		}, "--yes", []string{
			"note  client secret: seen not told apart", "ok    granted scopes: seen openid email offline_access", "ok    claim email: seen an address that the provider vouches for, at userinfo",
			"ok    client authentication: seen client_secret_basic is taken, and client_secret_post too", "ok    second login: seen the first one goes on", "ok    used code: seen refused; the first login goes on",
			"note  lost answer: seen the login is over: asked again, the provider answered 400 invalid_grant", "ok    used refresh token: seen refused; the newest goes on", "ok    other logins: ", "ok    revoked login: ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redirect := fmt.Sprintf("http://localhost:%d/callback", rig.FreePort(t))
			p := c.start(t, redirect)
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			browser := &rig.Browser{Client: &http.Client{Jar: jar}, Username: p.Username, Password: p.Password}
			text := doctorsPerson{browser, p.Issuer, rig.Client{ID: p.ClientID, Secret: p.ClientSecret}, "openid email", redirect}.logsIn(t, c.flags)
			for _, line := range c.lines {
				if !strings.Contains(text, line) {
					t.Errorf("no %q in\n%s", line, text)
				}
			}
		})
	}
}
