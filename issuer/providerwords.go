package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// What a provider said of an error, as it may stand in the operator's log. Clients and people never
// hear it: it could hold anything.

// maxProviderWords is in characters.
const maxProviderWords = 300

// providerSaid is what a provider's token endpoint answered: status, error code and
// error_description (RFC 6749 §5.2). What the request held, a code, a refresh token, a secret, is
// taken out of it.
func providerSaid(answer *oauth2.RetrieveError) error {
	said := saidError(fmt.Sprint("the provider answered ", answer.Response.StatusCode), answer.ErrorCode, answer.ErrorDescription, sentSecrets(answer.Response.Request))
	if hint := authHint(answer); hint != "" {
		return errors.New(said.Error() + hint)
	}
	return said
}

// saidAtCallback is what a provider answered by way of the browser (RFC 6749 §4.1.2.1). So anybody
// can have written it, as long as a header may be, and each piece of a code is looked for in the
// words: of 16 KB in 16 KB for a quarter of a second. Longer words are not shown, and no longer
// code is one.
func saidAtCallback(query url.Values) error {
	description, code := query.Get("error_description"), query.Get("code")
	if len(code) > maxUpstreamValue {
		code = ""
	}
	return saidError("the provider answered", query.Get("error"), description[:min(len(description), 4*maxProviderWords)], []string{query.Get("state"), code})
}

// saidError is an error of these words. An answer may have no code, and a proxy's has no words.
func saidError(before, code, description string, secrets []string) error {
	text := before + " without an error code"
	if code != "" {
		text = before + " " + safeCode(code)
	}
	if words := providerWords(description, secrets); words != "" {
		text += fmt.Sprintf(", saying %q", words)
	}
	return errors.New(text)
}

// providerWords is a provider's text, bounded, on one line, and without what could be a secret:
// what was sent to the provider, whole or in pieces, and whatever else looks like a token. Nor does
// it hold addresses of people.
func providerWords(text string, secrets []string) string {
	// letters of another case have as many bytes then
	text = strings.ToValidUTF8(beginning(text, 16<<10), "?")
	for _, secret := range secrets {
		if secret != "" {
			text = withoutText(text, secret)
		}
	}
	for _, secret := range secrets { // and its pieces, only now: they would leave the rest of it
		for _, part := range strings.FieldsFunc(secret, func(r rune) bool { return !isTokenRune(r) }) {
			if len(part) >= 6 { // shorter ones are words
				text = withoutText(text, part)
			}
		}
	}
	text = beginning(text, 16*maxProviderWords)
	text = tokenLike.ReplaceAllStringFunc(text, func(run string) string {
		if strings.ContainsAny(run, "0123456789") && !uuid.MatchString(run) {
			return "…"
		}
		return run
	})
	text = emailLike.ReplaceAllString(text, "…@…")
	return strings.TrimSpace(plainText(text, maxProviderWords))
}

var (
	// tokenLike is a run that no word of an explanation is: of parameter names there are longer
	// ones, but without digits.
	tokenLike = regexp.MustCompile(`[A-Za-z0-9_~+=-]{16,}`)
	emailLike = regexp.MustCompile(`[^\s@"'<>()]+@[^\s@"'<>()]+`)
	// uuid names a request in the logs of some providers, or an application.
	uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

func isTokenRune(r rune) bool {
	return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_~+=-/", r))
}

// beginning is so many bytes of a text at most, and not the beginning of what could be a token.
// What follows costs time for each byte, and whoever opens the callback may write them.
func beginning(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.TrimRightFunc(text[:most], isTokenRune) + "…"
}

// withoutText leaves a secret out of a text, in any letter case of ASCII.
func withoutText(text, secret string) string {
	var rest strings.Builder
	folded, secret := names.LowerASCII(text), names.LowerASCII(secret)
	for {
		before, after, found := strings.Cut(folded, secret)
		rest.WriteString(text[:len(before)])
		if !found {
			return rest.String()
		}
		rest.WriteString("…")
		folded, text = after, text[len(text)-len(after):]
	}
}

// sentSecrets are the values of a request that no log may hold, in each spelling in which a program
// that repeats them could write them.
func sentSecrets(r *http.Request) []string {
	if r == nil {
		return nil
	}
	var secrets []string
	add := func(value string) {
		secrets = append(secrets, value, url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value))
	}
	if _, secret, ok := r.BasicAuth(); ok {
		add(secret)
		plain, _ := url.QueryUnescape(secret)
		add(plain)
		add(strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
	}
	form := sentForm(r)
	for _, name := range []string{"code", "refresh_token", "token", "code_verifier", "client_secret", "client_assertion"} {
		add(form.Get(name))
	}
	// the longest first
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return secrets
}

// sentForm is the body of a request that was sent.
func sentForm(r *http.Request) url.Values {
	if r.GetBody == nil {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	defer body.Close()
	sent, _ := io.ReadAll(io.LimitReader(body, maxBody))
	form, _ := url.ParseQuery(string(sent))
	return form
}

// plainText is a stranger's text as it may stand in a log: on one line, in characters that can be
// seen, and not long.
func plainText(text string, most int) string { return outgoing.PlainText(text, most) }
