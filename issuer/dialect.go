package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/oauth2"
)

// What providers do each in their own way: how they are asked for a refresh token, and how they say that one is worth nothing any more.

// refreshMode is what becomes of the provider's refresh token: "upstream" wants one, "session" wants none, "auto" takes what comes.
func (u *upstream) refreshMode(t *tenant) string {
	// Dex keeps one refresh token for each person and client, and all MCP clients share ours: whoever logs in with a second one would end the first.
	if t.Refresh == "auto" && u.isDex() {
		return "session"
	}
	return t.Refresh
}

// isDex knows it by where its endpoints are.
func (u *upstream) isDex() bool {
	base := strings.TrimSuffix(u.issuer, "/")
	return u.endpoint.AuthURL == base+"/auth" && u.endpoint.TokenURL == base+"/token" && u.keysURL == base+"/keys" && u.endpoint.DeviceAuthURL == base+"/device/code"
}

// refusesForeignScopes says whether the provider ends a login that asks for a scope which it does
// not know or does not give to the client. Then its silence about scopes means that it granted all.
func (u *upstream) refusesForeignScopes() bool {
	return u.isDex() || strings.HasPrefix(u.issuer, cognitoIssuer)
}

// offlineAccess are the scopes and parameters of the authorization request that ask for a refresh token, or do not.
func (u *upstream) offlineAccess(t *tenant) (scopes []string, options []oauth2.AuthCodeOption) {
	const offline = "offline_access" // OpenID Connect Core §11
	scopes = slices.DeleteFunc(slices.Clone(t.upstreamScopes()), func(scope string) bool { return scope == offline })
	switch {
	case u.refreshMode(t) == "session":
	case u.issuer == googleIssuer: // it refuses the scope, and gives a refresh token with the first consent only
		options = []oauth2.AuthCodeOption{oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent")}
	case slices.Contains(u.scopesSupported, offline), slices.Contains(t.Scopes, offline):
		scopes = append(scopes, offline)
	}
	return scopes, options
}

// endings are error codes by which providers refuse a refresh token for good, with a status below 500; only the first is RFC 6749's.
var endings = []string{
	"invalid_grant", "invalid_token", "expired_token", "token_expired", "invalid_refresh_token", "bad_refresh_token",
	"interaction_required", "login_required", "consent_required", "account_selection_required", "access_denied", // Entra ID and others: somebody must sign in
}

// passing are error codes of an outage, whatever the status they come with.
var passing = []string{"temporarily_unavailable", "server_error", "slow_down"}

// passingEntra are Entra ID's numbers (AADSTS…) of refusals that pass by themselves, though their error code does not say so.
var passingEntra = []int{50196, 90025, 90033} // request loop, request budget, directory unavailable

// passes says whether an answer of a token endpoint is that of an outage: it says nothing about
// what was presented.
func passes(answer *oauth2.RetrieveError) bool {
	status := answer.Response.StatusCode
	if answer.ErrorCode == "invalid_grant" || answer.ErrorCode == "invalid_code" {
		return slices.ContainsFunc(entraCodes(answer), isPassingEntra)
	}
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || slices.Contains(passing, answer.ErrorCode) ||
		slices.ContainsFunc(entraCodes(answer), isPassingEntra)
}

func isPassingEntra(code int) bool { return slices.Contains(passingEntra, code) }

// entraCodes are the numbers in Entra ID's answers; others have none.
func entraCodes(answer *oauth2.RetrieveError) []int {
	var entra struct {
		Codes []int `json:"error_codes"`
	}
	json.Unmarshal(answer.Body, &entra)
	return entra.Codes
}

// refreshError maps a refused refresh at the provider. Of statuses from 500 on, only invalid_grant and invalid_code end the login, which
// upstreamTokenError has seen to, and Dex's invalid_request below. What ends no login is not the client's fault.
func (u *upstream) refreshError(err error, lastWordIsOld bool) *Error {
	e := upstreamTokenError(err, "the sign-in provider ended this login; authorize again")
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return e
	}
	cause := e.cause
	codes := entraCodes(answer)
	if len(codes) > 0 {
		cause = fmt.Errorf("%w, AADSTS%d", cause, codes[0])
	}
	status := answer.Response.StatusCode
	ended := invalidGrant("the sign-in provider ended this login; authorize again").because(cause)
	away := temporarilyUnavailable("the sign-in provider is not available", cause)
	switch {
	case slices.Contains(passing, answer.ErrorCode), slices.ContainsFunc(codes, isPassingEntra):
		return away
	case u.isDex() && answer.ErrorCode == "invalid_request" && status == http.StatusBadRequest:
		return ended // of a refresh token that has expired, was replaced, or used twice
	case u.isDex() && answer.ErrorCode == "invalid_request" && status == http.StatusInternalServerError && lastWordIsOld:
		return ended // of a person who is gone, but also of a directory that is away for a moment
	case status < http.StatusInternalServerError && slices.Contains(endings, answer.ErrorCode):
		return ended
	}
	e.cause = cause
	return e
}
