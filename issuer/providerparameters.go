package issuer

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// What is added to the authorization request at a provider, besides what a login needs. It travels
// through the person's browser, who can change it: it asks for something and enforces nothing.

// ownParameters are what is said to the provider here, or what would have it read something else.
// plugin/config.go refuses the same.
var ownParameters = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "redirect_uri", "state", "nonce", "scope", "response_type", "response_mode",
	"code_challenge", "code_challenge_method", "request", "request_uri", "registration", "id_token_hint", "dpop_jkt",
}

const maxParameters = 1000 // characters of all

// parameterName is RFC 6749 appendix A's name-char.
var parameterName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// parametersFault says what is wrong with the member providerParameters of a hop header.
func parametersFault(parameters []string) string {
	var names []string
	for _, parameter := range parameters {
		name, value, ok := strings.Cut(parameter, "=")
		switch {
		case !ok || !parameterName.MatchString(name):
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

// addParameters puts the label's parameters into the address of the authorization endpoint, in the
// place of what asks for a refresh token where they have its name. One without a value is taken
// out.
func (t *tenant) addParameters(address string) string {
	u, err := url.Parse(address)
	if err != nil || len(t.ProviderParameters) == 0 {
		return address
	}
	query := u.Query()
	for _, parameter := range t.ProviderParameters {
		name, value, _ := strings.Cut(parameter, "=")
		if query.Set(name, value); value == "" {
			query.Del(name)
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// knowsPrompt says whether the provider takes this value of prompt: few list those that they know.
func (u *upstream) knowsPrompt(value string) bool {
	return len(u.promptsSupported) == 0 || slices.Contains(u.promptsSupported, value)
}

// noRefreshToken says what to do where the provider was asked for a refresh token and gave none.
func (u *upstream) noRefreshToken(t *tenant) string {
	const client = "let the client that is registered there have refresh tokens"
	address, err := url.Parse(u.authorizationURL(t, [32]byte{}))
	if err != nil || u.issuer == googleIssuer {
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
func (s *Issuer) warnOfNoRefreshToken(t *tenant, u *upstream) {
	remedy := u.noRefreshToken(t)
	if s.announced.First("no refresh token", t.PublicURL, u.issuer, t.ClientID, remedy) {
		s.Log.Warn("asked for a refresh token and got none: logins live BOUNCER_SESSION_TTL, and so long does who is removed at the provider stay in",
			t.named(), "provider", u.issuer, "remedy", remedy+"; or set refresh to session, if that is what you want")
	}
}
