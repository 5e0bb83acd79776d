package provider

import (
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Each row is a text that a real provider sends, or that a hostile one could send.
func TestProviderWords(t *testing.T) {
	const code = "ory_ac_9fGxQ2l4v0e6Kq8.r3Zc-7Wn1"
	for _, c := range []struct{ name, text, want string }{
		{"Hydra", "Client authentication failed (e.g., unknown client). The OAuth 2.0 Client supports client authentication method 'client_secret_post', but method 'client_secret_basic' was requested.",
			"Client authentication failed (e.g., unknown client). The OAuth 2.0 Client supports client authentication method 'client_secret_post', but method 'client_secret_basic' was requested."},
		{"the name of a member, and an address", "token_endpoint_auth_signing_alg_values must hold it: https://sso.example.com/oauth2/token", "token_endpoint_auth_signing_alg_values must hold it: https://sso.example.com/oauth2/token"},
		{"Entra ID", "AADSTS7000215: Invalid client secret provided. Trace ID: 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "AADSTS7000215: Invalid client secret provided. Trace ID: 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"},
		{"the code", "the code " + code + " is spent", "the code … is spent"},
		{"half the code", "the code ory_ac_9fGxQ2l4v0e6Kq8 is spent", "the code … is spent"},
		{"another token", "token eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlMTIz is spent", "token ….….… is spent"},
		{"the secret, which is short", "hunter2 is wrong", "… is wrong"},
		{"an address", "user <ada@example.com> is not assigned", "user <…@…> is not assigned"},
		{"lines", "a\r\nlevel=ERROR msg=forged\x00\x1b[31m", "a??level=ERROR msg=forged??[31m"},
		{"not UTF-8", "a\xffb", "a?b"},
		{"blanks", "  \t ", "?"},
		{"nothing", "", ""},
		{"10 KB", strings.Repeat("ha ", 3500), strings.Repeat("ha ", 100) + "…"},
		{"1 MB", strings.Repeat("ha ", 350_000), strings.Repeat("ha ", 100) + "…"},
		{"1 MB of a token", strings.Repeat("ha8", 350_000), "…"},
		{"a token where the text is cut", strings.Repeat("x", 4790) + "1 ory_rt_8fGxQ2l4v0e6", "… …"},
	} {
		if got := providerWords(c.text, []string{code, "hunter2", ""}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A provider that repeats what it was sent may spell it in its own way.
func TestProviderWordsLeaveOutWhatWasSent(t *testing.T) {
	const secret = "ab.cd+e/f&g%h i"
	for _, basic := range []bool{true, false} {
		form := url.Values{"code": {"ory.ac/9f&G"}}
		if !basic {
			form.Set("client_secret", secret)
		}
		r, err := http.NewRequest("POST", "https://idp.example/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if basic {
			r.SetBasicAuth("bouncer", url.QueryEscape(secret))
		}
		for _, sent := range []string{secret, "ory.ac/9f&G"} {
			for _, spelt := range []string{sent, url.QueryEscape(sent), url.PathEscape(sent), html.EscapeString(sent), strings.ToUpper(sent), strings.ToLower(url.QueryEscape(sent))} {
				if got := providerWords("It was "+spelt+", SAYS "+spelt+".", sentSecrets(r)); got != "It was …, SAYS …." {
					t.Errorf("basic %v, %s: %s", basic, spelt, got)
				}
			}
		}
		if header := base64.StdEncoding.EncodeToString([]byte("bouncer:" + url.QueryEscape(secret))); basic {
			if got := providerWords("Basic "+header+" is wrong", sentSecrets(r)); got != "Basic … is wrong" {
				t.Error(got)
			}
		}
	}
}
