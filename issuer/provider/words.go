package provider

import (
	"cmp"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// A provider's own words about an error may stand in the operator's log, cleaned. Clients and
// people never hear them: they could hold anything.

// maxProviderWords is in characters.
const maxProviderWords = 300

// providerSaid is what a provider's token endpoint answered: status, error code and
// error_description (RFC 6749 §5.2). What the request held (a code, a refresh token, a secret) is
// taken out of it.
func providerSaid(answer *oauth2.RetrieveError) error {
	said := saidError(fmt.Sprint("the provider answered ", answer.Response.StatusCode), answer.ErrorCode, answer.ErrorDescription, sentSecrets(answer.Response.Request))
	if hint := authHint(answer); hint != "" {
		return errors.New(said.Error() + hint)
	}
	return said
}

// SaidAtCallback is what a provider answered by way of the browser (RFC 6749 §4.1.2.1), for the
// log. Anybody can have written it, as long as a header may be. Each piece of the code is looked
// for in the words, and 16 KB in 16 KB takes a quarter of a second. So words are cut before that,
// and what is longer than any code is not taken for one.
func SaidAtCallback(query url.Values) error {
	description, code := query.Get("error_description"), query.Get("code")
	if len(code) > MaxValue {
		code = ""
	}
	return saidError("the provider answered", query.Get("error"), description[:min(len(description), 4*maxProviderWords)], []string{query.Get("state"), code})
}

// saidError makes an error of these words. An answer may have no code, and a proxy's has no words.
func saidError(before, code, description string, secrets []string) error {
	text := before + " without an error code"
	if code != "" {
		text = before + " " + outgoing.SafeCode(code)
	}
	if words := providerWords(description, secrets); words != "" {
		text += fmt.Sprintf(", saying %q", words)
	}
	return errors.New(text)
}

// providerWords is a provider's text, bounded and on one line. It is without what could be a
// secret: what was sent to the provider, whole or in pieces, and whatever else looks like a token.
// It also holds no addresses of people.
func providerWords(text string, secrets []string) string {
	// In valid UTF-8 letters of another case have as many bytes.
	text = strings.ToValidUTF8(beginning(text, 16<<10), "?")
	for _, secret := range secrets {
		if secret != "" {
			text = withoutText(text, secret)
		}
	}
	for _, secret := range secrets { // its pieces come last: they would leave the rest of it
		for _, part := range strings.FieldsFunc(secret, func(r rune) bool { return !isTokenRune(r) }) {
			if len(part) >= 6 { // shorter ones are words
				text = withoutText(text, part)
			}
		}
	}
	text = beginning(text, 16*maxProviderWords)
	text = tokenLike.Get().ReplaceAllStringFunc(text, func(run string) string {
		if strings.ContainsAny(run, "0123456789") && !uuid.Get().MatchString(run) {
			return "…"
		}
		return run
	})
	text = emailLike.Get().ReplaceAllString(text, "…@…")
	return strings.TrimSpace(outgoing.PlainText(text, maxProviderWords))
}

var (
	// tokenLike is longer than any word of an explanation. Names of parameters may be as long, but
	// hold no digits.
	tokenLike = lazyregexp.Regexp{Text: `[A-Za-z0-9_~+=-]{16,}`}
	emailLike = lazyregexp.Regexp{Text: `[^\s@"'<>()]+@[^\s@"'<>()]+`}
	// uuid names a request in the logs of some providers, or an application.
	uuid = lazyregexp.Regexp{Text: `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`}
)

func isTokenRune(r rune) bool {
	return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_~+=-/", r))
}

// beginning returns at most so many bytes of a text, without the beginning of a possible token at
// the end. Each step with the text costs time for each byte, and anybody can write it into a
// callback.
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
// could repeat them.
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
	for _, name := range []string{"code", "refresh_token", "token", "subject_token", "code_verifier", "client_secret", "client_assertion"} {
		add(form.Get(name))
	}
	// the longest first
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return secrets
}

// maxForm is in bytes: more than any form that is sent here.
const maxForm = 64 << 10

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
	sent, _ := io.ReadAll(io.LimitReader(body, maxForm))
	form, _ := url.ParseQuery(string(sent))
	return form
}
