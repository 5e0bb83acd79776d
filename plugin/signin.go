//go:build go1.21

package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
	"github.com/mcpbouncer/mcpbouncer/plugin/stepup"
)

// A call may need a sign-in of some kind or age (RFC 9470, label authenticationRules). The package
// stepup reads the rules. Here a token is judged by them, and the challenge is written that leads
// its client to a new sign-in.
//
// Requests to tenants without the label do not pass through this file.

// errSignIn is said to clients, as the errors of accesstoken.go are.
var errSignIn = errors.New("the person must sign in again, more recently or in another way")

// signIn is what a token says of how and when its person signed in at the provider.
type signIn struct {
	acr  string // empty: not said
	time int64  // Unix seconds
}

// parseAuthenticationRules returns the rules as the sidecar is told them. parameters are those of
// the label providerParameters.
func (s *settings) parseAuthenticationRules(c *labelTexts, parameters []string) ([]string, error) {
	text := c.AuthenticationRules
	if text != "" && isOnlySeparators(text) {
		return nil, errors.New("label authenticationRules: holds no rule: write one, or leave the label out")
	}
	list, err := parseList("authenticationRules", text, bySemicolons, stepup.Fault)
	if err != nil {
		return nil, err
	}
	rules, err := stepup.Parse(list)
	if err != nil {
		return nil, fmt.Errorf("label authenticationRules: %w", err)
	}
	if rules == nil {
		return nil, nil
	}
	for _, parameter := range parameters {
		name, _, _ := strings.Cut(parameter, "=")
		if name == "acr_values" || name == "max_age" {
			return nil, fmt.Errorf("label providerParameters: %s is said by authenticationRules, which check the answer too: remove it, or write *=%s:… there", name, name)
		}
	}
	if err := scopesOfOtherLabels(c, rules); err != nil {
		return nil, err
	}
	s.stepup = rules
	return list, nil
}

// scopesOfOtherLabels refuses rules for a scope that no other label names: no token has it and
// nothing needs it, so that the rule would guard nothing. Mostly it is the name of a tool.
func scopesOfOtherLabels(c *labelTexts, rules *stepup.Rules) error {
	named := strings.Fields(either(c.Scopes, "openid") + " " + c.RequiredScopes + " " + c.ScopesSupported)
	for _, label := range []string{c.ScopeRules, c.MethodScopes, c.ToolScopes, c.ResourceScopes, c.PromptScopes, c.WorkloadIssuers} {
		for _, rule := range strings.Split(label, ";") {
			named = append(named, strings.Fields(rule[strings.LastIndex(rule, "=")+1:])...)
		}
	}
	for _, scope := range rules.Scopes() {
		found := false
		for _, name := range named {
			found = found || name == scope
		}
		if !found {
			return fmt.Errorf("label authenticationRules: no other label names the scope %q, so that the rule guards nothing: for one tool write toolScopes: TOOL=SCOPE, and a rule for that SCOPE here", scope)
		}
	}
	return nil
}

// judgeSignIn judges a token whose signature was verified by what each request needs, and sees to
// it that it is remembered for no longer than its sign-in is young enough.
//
// The sidecar writes login_time beside auth_time where the label is set: the time of the login
// here, with which the deny document is compared. auth_time is that of the sign-in at the provider,
// which may be older. A machine's token has login_time alone: nobody has signed in, and no rule is
// meant.
func judgeSignIn(t *tenant, token *accessToken, at int64) error {
	var more struct {
		ACR       string  `json:"acr"`
		LoginTime float64 `json:"login_time"`
	}
	_, payload, _ := strings.Cut(token.signed, ".")
	text, err := strictBase64.DecodeString(payload)
	if err != nil || json.Unmarshal(text, &more) != nil {
		return errMalformed
	}
	signed := int64(token.claims.AuthTime)
	if more.LoginTime != 0 {
		token.claims.AuthTime = more.LoginTime
		if signed == 0 {
			return nil
		}
	}
	if t.every.Lacks(more.ACR, signed, at) != "" {
		return errSignIn
	}
	ends := t.every.Ends(signed)
	if ends != 0 && ends < token.identity.expires {
		token.identity.expires = ends
	}
	token.identity.signIn = &signIn{acr: more.ACR, time: signed}
	return nil
}

// signedInFor judges a message that the rules let through by the sign-in that its scopes need, and
// answers one that needs another (RFC 9470 §3). So a tool needs what its scope needs.
//
// Clients that know nothing of this refresh first. The sidecar then leaves out the scope whose
// sign-in is too old, so that the next answer is 403 insufficient_scope, which they know.
func signedInFor(r *mcp.Rules, rw http.ResponseWriter, req *http.Request, e *endpoint, id *identity, v *mcp.Verdict) bool {
	if len(v.Needed) == 0 {
		return true
	}
	need := e.tenant.stepup.Of(append(append([]string{}, e.tenant.required...), v.Needed...))
	if need.Lacks(id.signIn.acr, id.signIn.time, now().Unix()) == "" {
		return true
	}
	countCause(e.sidecar.figures, "sign_in")
	recordRefused(r, req.Header, id, v.Calls)
	scope := mcp.StepUp(r, e.tenant.required, v.Needed, id.scopes)
	answerChallenge(rw, req, http.StatusUnauthorized, challengeFor(id, insufficient(need)+`scope="`+scope+`", `+e.metadata), `{"error":"insufficient_user_authentication"}`)
	return false
}

// insufficient are the parameters of RFC 9470 §3, with a comma behind each.
func insufficient(need *stepup.Need) string {
	return `error="insufficient_user_authentication", error_description="` + errSignIn.Error() + `", ` + need.Challenge()
}

// faultOfToken are the parameters of a challenge that say what is wrong with a token, with a comma
// behind each.
func faultOfToken(e *endpoint, err error) string {
	if err != errSignIn {
		return `error="invalid_token", error_description="` + err.Error() + `", `
	}
	return insufficient(e.tenant.every)
}

// endOfChallenge is e.challenge or, for a token whose sign-in does not do, the same with the scopes
// that it has: clients ask for those of the challenge only, and would lose the others. The token
// was verified, so nobody else has chosen them.
func endOfChallenge(e *endpoint, req *http.Request, err error) string {
	if err != errSignIn {
		return e.challenge
	}
	var held struct {
		Scope string `json:"scope"`
	}
	parts := strings.Split(req.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return e.challenge
	}
	text, broken := strictBase64.DecodeString(parts[1])
	if broken != nil || json.Unmarshal(text, &held) != nil || held.Scope == "" || strings.Trim(held.Scope, scopeChars+" ") != "" {
		return e.challenge
	}
	return `scope="` + held.Scope + `", ` + e.metadata
}
