package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// inspect runs the command at a time, with a value on standard input.
func inspect(t *testing.T, now time.Time, in string, args ...string) (out string, status int) {
	t.Helper()
	var b strings.Builder
	err := runInspect(args, strings.NewReader(in), &b, now)
	if e, ok := errors.AsType[*exit](err); ok {
		return b.String() + e.why, e.status
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), 0
}

// labels are the flags of the bench's tenant, without the command.
func (b *bench) labels(more ...string) []string { return append(b.flags()[2:], more...) }

// sealedLogin is each value that one login makes.
type sealedLogin struct {
	client, machine, consent, cookie, flow, state, code, access, refresh, key, secret string
}

// login makes one login, and keeps all that is sealed on its way.
func (b *bench) login(t *testing.T) (v sealedLogin) {
	t.Helper()
	const verifier = "a-code-verifier-of-at-least-43-characters-xx"
	made := func(into any, args ...string) {
		t.Helper()
		var out strings.Builder
		if err := run(args, nil, &out); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out.String()), into); err != nil {
			t.Fatal(err)
		}
	}
	var info issuer.ClientInformation
	made(&info, b.flags("--redirect-uri", "https://app.example/callback", "--auth", "none", "--name", "App")...)
	v.client = info.ClientID
	made(&info, b.flags("--grant", "client_credentials", "--subject", "ci-bot")...)
	v.machine = info.ClientID
	var key issuer.KeyInformation
	made(&key, append([]string{"key", "create", "--subject", "ci-bot", "--expires", "90d"}, b.labels()...)...)
	v.key = key.Key
	var out strings.Builder
	if err := run([]string{"seal-secret", "--issuer", b.tenant.ProviderIssuer, "--client-id", b.tenant.ClientID}, strings.NewReader("provider-secret-of-the-operator"), &out); err != nil {
		t.Fatal(err)
	}
	v.secret = strings.TrimSpace(out.String())

	browser := issuertest.NewBrowser(t, b.net)
	page := browser.Get(b.tenant.PublicURL + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {v.client}, "redirect_uri": {"https://app.example/callback"}, "state": {"s"},
		"code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"}}.Encode())
	_, hidden, _ := page.Form()
	v.consent = hidden.Get("request")
	cookies := func(name string) string {
		u, _ := url.Parse(b.tenant.PublicURL)
		for _, c := range browser.Jar.Cookies(u) {
			if strings.Contains(c.Name, name) {
				return c.Value
			}
		}
		t.Fatalf("no cookie %s", name)
		return ""
	}
	v.cookie = cookies("mcpb-consent-")
	page = browser.Decide(page, "allow")
	v.flow = cookies("mcpb-flow-")
	upstream, err := url.Parse(page.Next())
	if err != nil {
		t.Fatal(err)
	}
	v.state = upstream.Query().Get("state")
	v.code = browser.Follow(page).Query().Get("code")
	form := url.Values{"grant_type": {"authorization_code"}, "code": {v.code}, "redirect_uri": {"https://app.example/callback"}, "code_verifier": {verifier}, "client_id": {v.client}}
	status, body := b.post(t, b.tenant.PublicURL+"/oauth/token", form, "", "")
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	v.access, v.refresh = body["access_token"].(string), body["refresh_token"].(string)
	return v
}

// Each value of a real login is explained with the master and the labels, and is not without, or
// with others, or when it was changed. No output has a secret, a whole value or the master.
func TestInspectOfALogin(t *testing.T) {
	b := newBench(t)
	v := b.login(t)
	secrets := append(b.provider.Secrets(), keyOne, v.client, v.machine, v.consent, v.cookie, v.flow, v.state, v.code, v.access, v.refresh, v.key, v.secret,
		"provider-secret-of-the-operator", "a-code-verifier-of-at-least-43-characters-xx", strings.Split(v.access, ".")[2])
	now := time.Now()
	see := func(t *testing.T, out string) {
		t.Helper()
		for _, secret := range secrets {
			if len(secret) > 8 && strings.Contains(out, secret[4:]) {
				t.Errorf("%q stands in\n%s", secret, out)
			}
		}
	}
	for _, c := range []struct {
		name, value string
		flags       []string
		life        time.Duration // 0: for ever
		want        []string
	}{
		{"a client", v.client, nil, 0, []string{"client registration", "https://app.example/callback", "name            App", "resource wiki"}},
		{"a machine", v.machine, nil, 0, []string{"machine         ci-bot"}},
		{"a consent", v.consent, []string{"--cookie", v.cookie}, 20 * time.Minute, []string{"waits for the person's answer", "https://app.example/callback"}},
		{"a login in progress", v.flow, []string{"--state", v.state}, 20 * time.Minute, []string{"login in progress", "32 bytes"}},
		{"a code", v.code, []string{"--client", v.client}, 6 * time.Minute, []string{"authorization code", "provider's code"}},
		{"a refresh token", v.refresh, []string{"--client", v.client}, 14 * 24 * time.Hour, []string{"refresh token", "person-1", "login began"}},
		{"a bearer key", v.key, nil, 90 * 24 * time.Hour, []string{"bearer key", "ci-bot"}},
		{"a secret", v.secret, nil, 0, []string{"sealed client secret", "31 characters, the first are prov"}},
		{"an access token", v.access, nil, time.Hour + time.Minute, []string{"access token (RFC 9068)", "person-1", "signature", "verified", "key of epoch "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := b.labels(c.flags...)
			out, status := inspect(t, now, c.value, flags...)
			see(t, out)
			if status != 0 || !strings.Contains(out, "nothing was found that refuses it") {
				t.Fatalf("status %d\n%s", status, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			if asArgument, status := inspect(t, now, "", append(flags, c.value)...); status != 0 || asArgument != out {
				t.Errorf("as an argument: status %d\n%s", status, asArgument)
			}
			if header, status := inspect(t, now, "Authorization: Bearer "+c.value+"\r\n", append(flags, "-")...); status != 0 || header != out {
				t.Errorf("as a header: status %d\n%s", status, header)
			}
			text, status := inspect(t, now, c.value, append(flags, "--json")...)
			see(t, text)
			var r explanation
			if err := json.Unmarshal([]byte(text), &r); err != nil || status != 0 || r.Verdict != good || len(r.Facts) == 0 {
				t.Errorf("status %d, %v: %s", status, err, text)
			}

			late, status := inspect(t, now.Add(c.life+time.Minute), c.value, flags...)
			see(t, late)
			if want := min(1, int(c.life)); status != want || (want == 1) != strings.Contains(late, "refused: ") {
				t.Errorf("later: status %d\n%s", status, late)
			}
			for name, change := range map[string][]string{
				"another server": {"--public-url", "https://mcp.localhost/world"}, "another client at the provider": {"--provider-client-id", "other"},
			} {
				other, status := inspect(t, now, c.value, append(flags, change...)...)
				see(t, other)
				if status == 0 && !(c.value == v.secret && change[0] == "--public-url") {
					t.Errorf("%s: %s", name, other)
				}
			}
			// the right label is found, and named
			older, status := inspect(t, now, c.value, append(flags, "--generation", "9")...)
			see(t, older)
			if c.value != v.secret && (status != exitRefused || !strings.Contains(older, "with --generation 3")) {
				t.Errorf("another generation: status %d\n%s", status, older)
			}
			for name, changed := range map[string]string{"cut": c.value[:len(c.value)-9], "changed": c.value[:len(c.value)-9] + "AAAAAAAAA"} {
				out, status := inspect(t, now, changed, flags...)
				see(t, out)
				if status == 0 {
					t.Errorf("%s: %s", name, out)
				}
			}
		})
		t.Run(c.name+" without what it is bound to", func(t *testing.T) {
			out, status := inspect(t, now, c.value, "--resource", "wiki")
			see(t, out)
			if token := c.value == v.access; !token && status != exitUnexplained || !strings.Contains(out, "--provider-issuer") {
				t.Errorf("status %d\n%s", status, out)
			}
			t.Setenv("BOUNCER_ENCRYPTION_KEY", keyTwo)
			out, status = inspect(t, now, c.value, b.labels(c.flags...)...)
			see(t, out)
			if status == 0 || strings.Contains(out, keyTwo[4:]) {
				t.Errorf("another master: status %d\n%s", status, out)
			}
			os.Unsetenv("BOUNCER_ENCRYPTION_KEY")
			out, status = inspect(t, now, c.value, b.labels(c.flags...)...)
			see(t, out)
			if token := c.value == v.access; token != (status == 0) || !strings.Contains(out, "set BOUNCER_ENCRYPTION_KEY") {
				t.Errorf("no master: status %d\n%s", status, out)
			}
		})
	}
}

// A token that is bound to a key is refused without it, which nobody sees by the token alone.
func TestInspectOfABoundToken(t *testing.T) {
	clean(t, nil)
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	now := time.Now()
	value := encode(`{"alg":"EdDSA","kid":"k","typ":"at+jwt"}`) + "." +
		encode(fmt.Sprintf(`{"iss":"https://mcp.localhost/wiki","sub":"person-1","aud":"wiki","client_id":"c","exp":%d,"iat":%[1]d,"cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}`, now.Unix())) + ".AA"
	out, status := inspect(t, now, "Authorization: DPoP "+value)
	for _, want := range []string{"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "whoever presents it must prove", "not checked: the proof of its key"} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("status %d, it does not say %q:\n%s", status, want, out)
		}
	}
}

// vectorsOf reads the files that the plugin's tests read: a header, a blank line, the value.
func vectorsOf(t *testing.T, folder string) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "plugin", "testdata", folder, "*.txt"))
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	all := map[string]map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, value, _ := strings.Cut(string(text), "\n\n")
		v := map[string]string{"value": strings.TrimSuffix(value, "\n")}
		for line := range strings.Lines(head) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			v[name] = value
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = v
	}
	return all
}

// The plugin's errors, in its own words.
func pluginErrors(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "plugin", "accesstoken.go"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(err[A-Z]\w+) += errors\.New\("(.*)"\)`).FindAllStringSubmatch(string(text), -1) {
		words[m[1]] = m[2]
	}
	return words
}

// What the plugin refuses is refused here, and for the same reason first.
func TestInspectAgreesWithThePluginAboutTokens(t *testing.T) {
	words := pluginErrors(t)
	for name, v := range vectorsOf(t, "tokens") {
		at, err := strconv.ParseInt(v["now"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			Keys []struct{ Kid, Kty, Use, X string }
		}
		if err := json.Unmarshal([]byte(v["jwks"]), &set); err != nil {
			t.Fatal(err)
		}
		find := func(kid string, _ time.Time) (ed25519.PublicKey, string, string) {
			for _, key := range set.Keys {
				if key.Kid == kid && key.Kty == "OKP" && key.Use == "sig" {
					x, _ := base64.RawURLEncoding.DecodeString(key.X)
					return x, "here", ""
				}
			}
			return nil, "unknown", ""
		}
		i := &inspection{tenantFlags: newTenantFlags("inspect"), now: time.Unix(at, 0)}
		i.tenant.PublicURL, i.tenant.Audience = v["iss"], v["audience"]
		r := &explanation{}
		parts := strings.Split(v["value"], ".")
		head, err := strictBase64.DecodeString(parts[0])
		if err != nil {
			if v["expect"] != "errMalformed" {
				t.Errorf("%s: no token, want %s", name, v["expect"])
			}
			continue
		}
		i.judge(r, v["value"], parts, head, find)
		r.finish()
		switch {
		// the sidecar signs with EdDSA alone, so that no key of RSA is found
		case strings.Contains(string(head), `"rs"`):
			if r.Verdict != refused {
				t.Errorf("%s: %+v", name, r)
			}
		case v["expect"] == "ok":
			if r.Verdict != good {
				t.Errorf("%s: refused: %q", name, r.Refused)
			}
		case words[v["expect"]] == "" || len(r.Refused) == 0 || !strings.HasPrefix(r.Refused[0], words[v["expect"]]):
			t.Errorf("%s: %q, want first %q", name, r.Refused, words[v["expect"]])
		}
	}
}

// What the sidecar refuses as a hop header is refused here; with the hop key alone as well.
func TestInspectAgreesWithTheSidecarAboutHopHeaders(t *testing.T) {
	served := 0
	for name, v := range vectorsOf(t, "hop") {
		at, err := strconv.ParseInt(v["now"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, variables := range []map[string]string{{"BOUNCER_ENCRYPTION_KEY": v["master"]}, {"BOUNCER_HOP_KEY": v["key"]}} {
			clean(t, variables)
			out, status := inspect(t, time.Unix(at, 0), "X-Mcpb-Hop: "+v["value"])
			if strings.HasPrefix(name, "respelled-line-break") || strings.HasPrefix(name, "respelled-blank") || name == "other-key" || strings.HasPrefix(name, "other-key-under") {
				// one line is asked for; and the file has the key that sealed it, or that did not
				continue
			}
			if (status == 0) != (v["expect"] == "ok") {
				t.Errorf("%s: status %d, want %s\n%s", name, status, v["expect"], out)
			}
			if status == 0 {
				served++
			}
			for _, secret := range []string{v["master"], v["key"], v["value"]} {
				if len(secret) > 8 && strings.Contains(out, secret[4:]) {
					t.Errorf("%s: %q stands in\n%s", name, secret, out)
				}
			}
		}
	}
	if served < 10 {
		t.Errorf("%d were served", served)
	}
}

// Whatever somebody feeds it, it ends with a status and says something, and neither control
// characters nor more than a screen or two.
func TestInspectOfOtherInput(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	folder := t.TempDir()
	file := filepath.Join(folder, "deny.json")
	if err := os.WriteFile(file, []byte("{\"v\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, in string
		args     []string
		want     string
		status   int
	}{
		{"nothing", "", nil, "inspect: nothing to explain", 2},
		{"blanks", " \n\t", nil, "inspect: nothing to explain", 2},
		{"several lines", "mbc1_a\nmbc1_b\n", nil, "inspect: 2 lines given: give one value at a time", 2},
		{"several values", "", []string{"a", "b"}, "inspect: 2 values given: give one at a time", 2},
		{"too much", strings.Repeat("a", maxInspected), nil, "inspect: the input has more than 1048576 bytes", 2},
		{"much without a dot", strings.Repeat("a", maxInspected-1), nil, "neither an access token, nor a sealed value", 2},
		{"many dots", "e30" + strings.Repeat(".", maxInspected-4), nil, "the access token is malformed: it has ", 1},
		{"a binary", "\x00\xff\x1b[2J\x07", nil, "7 bytes that are neither", 2},
		{"a kind that there is not", "mbx1_" + strings.Repeat("A", 60), nil, "it is damaged", 2},
		{"a value that is too long", "mbr1_" + strings.Repeat("A", 9000), nil, "it is damaged", 2},
		{"a reason", "mbe1_" + strings.Repeat("A", 60), nil, "Traefik's log says it in words", 2},
		{"an encrypted token", "eyJhbGciOiJkaXIifQ..a.b.c", nil, "not a token of MCPBouncer", 2},
		{"a client_secret", strings.Repeat("A", 43), nil, "perhaps a client_secret", 2},
		{"the name in a log", strings.Repeat("A", 16), nil, "look for it in the sidecar's log", 2},
		{"the id of a login", strings.Repeat("A", 22), nil, `as "family"`, 2},
		{"a document's URL", "https://claude.ai/oauth/mcp", nil, "client metadata document", 2},
		{"a file that there is not", "", []string{filepath.Join(folder, "other.json")}, "the name of a file", 2},
		{"a file", "", []string{file}, "deny document\n  serial  0\nnothing was found that refuses it\n", 0},
		{"a folder", "", []string{folder}, "inspect: read ", 2},
		{"an unknown flag", "", []string{"--tenant", "x"}, "inspect: flag provided but not defined: -tenant", 2},
		{"a claim that writes on the terminal", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"a\u001b[2Jb\u202ec\nd"}`)) + ".", nil, `"a\x1b[2Jb\u202ec\nd"`, 1},
		{"a claim that holds a token", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"x":"of mbr1_AAAAAAAAAAAAAAAA","eyJhbGciOiJFZERTQSJ9.eyJhIjoxfQ.c2ln":1}`)) + ".", nil, "of mbr1… (21 characters)", 1},
		{"a token of the provider's", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"upstream_token":"q83v`+strings.Repeat("A", 100)+`"}`)) + ".", nil, "104 characters, for the hop key abcdef", 1},
		{"no token of the provider's", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"upstream_token":""}`)) + ".", nil, "upstream_token  none", 1},
		{"dates of no calendar", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1e300,"iat":-1e300,"nbf":"x","auth_time":1e11}`)) + ".", []string{"--json"}, `"value": "1e300"`, 1},
		{"a date after the year 9999", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1e12,"iat":1}`)) + ".", []string{"--json"}, `"value": "1e12"`, 1},
		{"claims that are no object", "e30.W10.", nil, "its claims cannot be read", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, status := inspect(t, time.Unix(1790000000, 0), c.in, c.args...)
			if status != c.status || !strings.Contains(out, c.want) {
				t.Errorf("status %d, want %d, %q:\n%.2000s", status, c.status, c.want, out)
			}
			if len(out) > 4000 || strings.ContainsAny(out, "\x00\x1b\x07\u202e") || strings.Contains(out, "AAAAAAAAAAAAAAAA\"") || strings.Contains(out, "eyJhIjoxfQ") {
				t.Errorf("it wrote %q", out[:min(len(out), 4000)])
			}
		})
	}
	t.Setenv("BOUNCER_ENCRYPTION_KEY", "not a master, and secret")
	if out, status := inspect(t, time.Now(), "mbc1_a"); status != 2 || !strings.Contains(out, "BOUNCER_ENCRYPTION_KEY: ") || strings.Contains(out, "and secret") {
		t.Errorf("a bad master: status %d\n%s", status, out)
	}
}

// A person who put a secret into a deny document by mistake does not see it again.
func TestInspectOfDenyDocuments(t *testing.T) {
	clean(t, nil)
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	document := "{\n\"v\": 1, \"serial\": 7,\n\"notBefore\": {\"*\": \"2026-11-30T21:00:00Z\"},\n\"families\": {\"AAAAAAAAAAAAAAAAAAAAAA\": \"2026-12-01T00:12:00Z\", \"BBBBBBBBBBBBBBBBBBBBBA\": \"2026-11-01T00:00:00Z\"},\n\"keys\": {\"mbb1_sEcReTsEcReTsEcReT\": \"\"}}"
	out, status := inspect(t, now, document)
	const want = `deny document
  serial            7
  line 3, notBefore *  - logins that began before 2026-11-30T21:00:00Z (3h ago) are over
  line 4, families  AAAAAAAAAAAAAAAAAAAAAA  - until 2026-12-01T00:12:00Z (in 12m)
  line 4, families  BBBBBBBBBBBBBBBBBBBBBA  - over since 2026-11-01T00:00:00Z (30d ago)
`
	squeeze := func(s string) string { return regexp.MustCompile(` +`).ReplaceAllString(s, " ") }
	if status != 0 || !strings.HasPrefix(squeeze(out), squeeze(want)) || !strings.Contains(out, "mbb1… (23 characters)  - for ever; denies nothing: this is the key itself") || strings.Contains(out, "sEcReT") {
		t.Errorf("status %d\n%s", status, out)
	}
	out, status = inspect(t, now, "{\"v\": 1,\n\"families\": {\n\"mbr1_sEcReTsEcReTsEcReT\": \"\"},\n\"hosts\": {}}")
	if status != exitRefused || !strings.Contains(out, `refused: line 3: families: "mbr1… (23 characters)" cannot be one`) || !strings.Contains(out, `refused: line 4: unknown member "hosts"`) || strings.Contains(out, "sEcReT") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// The program itself ends with the status, and writes a verdict nowhere but on standard output.
func TestInspectStatus(t *testing.T) {
	for status, in := range map[int]string{0: `{"v":1}`, 1: `{"v":2}`, 2: "mbc1_a"} {
		p := program(nil, "inspect", "-")
		var out, errs bytes.Buffer
		p.Stdin, p.Stdout, p.Stderr = strings.NewReader(in), &out, &errs
		p.Run()
		if got := p.ProcessState.ExitCode(); got != status || out.Len() == 0 || errs.Len() != 0 {
			t.Errorf("%s: status %d, want %d: %s%s", in, got, status, out.String(), errs.String())
		}
	}
	p := program(nil, "inspect")
	var errs bytes.Buffer
	p.Stderr = &errs
	p.Run()
	if p.ProcessState.ExitCode() != 2 || errs.String() != "mcpbouncer: inspect: nothing to explain: give the value on standard input or as an argument\n" {
		t.Errorf("%v: %s", p.ProcessState, errs.String())
	}
}

// docs/inspect.md shows what the program writes; "…" stands for what differs each time.
func TestInspectExamplesOfThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "inspect.md"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	v := b.login(t)
	folder := t.TempDir()
	document := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if document == nil {
		t.Fatal("no deny document")
	}
	for name, value := range map[string]string{"token": v.access, "refresh": v.refresh, "key": v.key, "deny.json": string(document[1])} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	examples := regexp.MustCompile("(?s)```console\n\\$ mcpbouncer inspect ([^\n]*)\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(examples) < 4 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, example := range examples {
		command, file, read := strings.Cut(example[1], "< ")
		var args []string
		for _, word := range strings.Fields(command) {
			switch word {
			case "$LABELS":
				args = append(args, b.labels()...)
			case "$CLIENT_ID":
				args = append(args, v.client)
			case "deny.json":
				args = append(args, filepath.Join(folder, word))
			default:
				args = append(args, word)
			}
		}
		in := ""
		if read {
			text, err := os.ReadFile(filepath.Join(folder, file))
			if err != nil {
				t.Fatal(err)
			}
			in = string(text)
		}
		got, _ := inspect(t, time.Now(), in, args...)
		// a line by itself is several
		want := strings.ReplaceAll(regexp.QuoteMeta(example[2]), "\n…\n", "\n(?s:.+)\n")
		want = strings.ReplaceAll(want, "…", ".+")
		if !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%s\ngives\n%s\nthe page says\n%s", example[1], got, example[2])
		}
	}
}

// Whatever it is fed, it ends with one of its statuses and a text that a terminal can show, and
// JSON that can be read.
func FuzzInspect(f *testing.F) {
	for _, in := range []string{"", "{", "[]", `{"v":1}`, "mbc1_" + strings.Repeat("A", 60), "mbh1_" + strings.Repeat("A", 60), "e30.e30.", "e30.W10.AA", "Bearer e30.eyJleHAiOjFlMTJ9.", "a\nb", "\x1b[2J"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
		labels := []string{"--public-url", "https://mcp.localhost/wiki", "--resource", "wiki", "--provider-issuer", "https://idp.example", "--provider-client-id", "c", "--client", "x", "--cookie", "x", "--state", "x"}
		now := time.Unix(1790000000, 0)
		out, status := inspect(t, now, in, labels...)
		if status < 0 || status > 2 || out == "" || strings.ContainsFunc(out, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r == 0x202e }) {
			t.Errorf("status %d: %q", status, out)
		}
		text, same := inspect(t, now, in, append(labels, "--json")...)
		if strings.HasPrefix(text, "{") && !json.Valid([]byte(text)) || same != status {
			t.Errorf("status %d, want %d: %s", same, status, text)
		}
	})
}
