package provider

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// The label providerParameters adds to the authorization request what a login does not need. The
// request travels through the person's browser, and the person can change it: a parameter asks for
// something and enforces nothing.

// ownParameters are set here, or would make the provider read another request. plugin/config.go
// refuses the same.
var ownParameters = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "redirect_uri", "state", "nonce", "scope", "response_type", "response_mode",
	"code_challenge", "code_challenge_method", "request", "request_uri", "registration", "id_token_hint", "dpop_jkt",
}

const maxParameters = 1000 // characters of all

// parameterName is made of the name-char of RFC 6749 appendix A.
var parameterName = lazyregexp.Regexp{Text: `^[A-Za-z0-9._-]+$`}

// ParametersFault says what is wrong with the label providerParameters; empty if nothing is.
func ParametersFault(parameters []string) string {
	var names []string
	for _, parameter := range parameters {
		name, value, ok := strings.Cut(parameter, "=")
		switch {
		case !ok || !parameterName.Get().MatchString(name):
			return "must be NAME=VALUE each"
		case slices.Contains(ownParameters, strings.ToLower(name)):
			return name + " is said by the sidecar itself"
		case strings.EqualFold(name, "prompt") && slices.Contains(strings.Fields(value), "none"):
			// nobody could sign in
			return "must not hold prompt=none"
		case slices.Contains(names, name):
			return name + " stands there twice"
		}
		names = append(names, name)
	}
	if len(strings.Join(parameters, "&")) > maxParameters {
		return "too long"
	}
	return ""
}

// Wishes are what one login asks of the provider beside the labels (OpenID Connect Core §3.1.2.1).
// The zero value asks for nothing.
type Wishes struct {
	LoginHint string
	// Prompt is of login and select_account. It stands beside what the label or the request for a
	// refresh token says.
	Prompt    string
	UILocales string
	ACRValues string // separated by spaces
	MaxAge    *int64 // seconds
}

// addParameters puts wishes and the label's parameters into the URL of an authorization request.
// The label's replace wishes and what asks for a refresh token where they have its name; one
// without a value removes it. So nobody but the operator decides what the label names.
func (p *Provider) addParameters(address string, wish Wishes) string {
	u, err := url.Parse(address)
	if err != nil || len(p.client.Parameters) == 0 && wish == (Wishes{}) {
		return address
	}
	query := u.Query()
	set := func(name, value string) {
		if query.Set(name, value); value == "" {
			query.Del(name)
		}
	}
	set(cmp.Or(p.dialect.loginHint, "login_hint"), wish.LoginHint)
	set("ui_locales", wish.UILocales)
	set("acr_values", wish.ACRValues)
	if wish.MaxAge != nil {
		set("max_age", strconv.FormatInt(*wish.MaxAge, 10))
	}
	for _, parameter := range p.client.Parameters {
		name, value, _ := strings.Cut(parameter, "=")
		set(name, value)
	}
	set("prompt", p.promptWith(query.Get("prompt"), wish.Prompt))
	u.RawQuery = query.Encode()
	return u.String()
}

// promptWith adds values to those of a prompt, as far as the provider takes them. The one that
// shows a sign-in page counts for more than the one that shows a consent page, where it takes one
// only.
func (p *Provider) promptWith(said, more string) string {
	var all []string
	for value := range strings.FieldsSeq(more) {
		if value == selectAccount && !p.knowsPrompt(value) {
			value = login
		}
		if p.knowsPrompt(value) {
			all = append(all, value)
		}
	}
	if p.dialect.onePrompt && len(all) > 0 {
		return all[0]
	}
	for value := range strings.FieldsSeq(said) {
		if !slices.Contains(all, value) {
			all = append(all, value)
		}
	}
	return strings.Join(slices.Compact(all), " ")
}

// The values of prompt by which another account can be chosen (OpenID Connect Core §3.1.2.1).
const (
	selectAccount = "select_account"
	login         = "login"
)

// OtherAccount is the prompt with which a person can sign in as somebody else; empty if the
// provider has none. Some providers pass over select_account, and send back whoever is signed in.
// So it is login from the second time on.
func (p *Provider) OtherAccount(times int) string {
	for _, value := range []string{selectAccount, login} {
		if p.knowsPrompt(value) && (value == login || times <= 1 || !p.knowsPrompt(login)) {
			return value
		}
	}
	return ""
}

// knowsPrompt says whether the provider takes this value of prompt. Few list the values that they
// know.
func (p *Provider) knowsPrompt(value string) bool {
	if value == selectAccount && p.dialect.noAccountList {
		return false
	}
	return len(p.promptsSupported) == 0 || slices.Contains(p.promptsSupported, value)
}

// noRefreshToken says what to do where the provider was asked for a refresh token and gave none.
func (p *Provider) noRefreshToken() string {
	const client = "let the client that is registered there have refresh tokens"
	address, err := url.Parse(p.AuthorizationURL(sealing.LoginSeed{}, Wishes{}))
	if err != nil || p.dialect.accessType {
		return client
	}
	asked := address.Query()
	switch {
	case !slices.Contains(strings.Fields(asked.Get("scope")), "offline_access"):
		return client + "; if it gives them for a scope only, which its discovery document does not list, add it to the label scopes (offline_access)"
	case !slices.Contains(strings.Fields(asked.Get("prompt")), "consent"):
		return "many providers ignore offline_access without their consent page (OpenID Connect Core §11): set the label providerParameters to prompt=consent; and " + client
	}
	return client + ", and offline_access"
}

// warnOfNoRefreshToken tells the operator, once for each tenant, that nobody is asked whether a
// person may still come in.
func (p *Provider) warnOfNoRefreshToken() {
	remedy := p.noRefreshToken()
	if p.all.said.First("no refresh token", p.client.RedirectURI, p.issuer, p.client.ID, remedy) {
		p.all.Log.Warn("asked for a refresh token and got none: logins live BOUNCER_SESSION_TTL, and so long does who is removed at the provider stay in",
			p.client.Named, "provider", p.issuer, "remedy", remedy+"; or set refresh to session, if that is what you want")
	}
}
