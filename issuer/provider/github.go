package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// GitHub speaks OAuth 2.0 and no OpenID Connect, at github.com and as GitHub Enterprise Server. Two
// kinds of client can be registered there: an OAuth app, whose access tokens (gho_…) never expire
// and come without a refresh token, and a GitHub App, whose tokens (ghu_…) live for eight hours,
// with a refresh token (ghr_…) that is replaced at each use, unless that was turned off.
//
// What is said of it here is from https://docs.github.com: "Authorizing OAuth apps", "Refreshing
// user access tokens", "Troubleshooting OAuth app access token request errors", and the REST API's
// pages, each named where it is used.

const gitHubCom = "https://github.com"

// gitHub is one GitHub, by its address and that of its REST API.
type gitHub struct{ base, api string }

// gitHubAt returns the GitHub at an address. Where the API of GitHub Enterprise Server and of
// GitHub Enterprise Cloud is say https://docs.github.com/en/rest/using-the-rest-api and
// https://docs.github.com/en/enterprise-cloud@latest/admin/data-residency.
func gitHubAt(issuer string) (gitHub, error) {
	base := strings.TrimSuffix(issuer, "/")
	u, err := url.Parse(base)
	switch {
	case err != nil || !isSafeEndpoint(base) || u.RawQuery != "":
		return gitHub{}, &unusable{why: "providerIssuer must be the https address of GitHub"}
	case base == gitHubCom || strings.HasSuffix(u.Host, ".ghe.com"): // GitHub Enterprise Cloud
		return gitHub{base, u.Scheme + "://api." + u.Host}, nil
	}
	return gitHub{base, base + "/api/v3"}, nil
}

// gitHubDialect is GitHub's row of the table in dialect.go. It is found by the label, and not by
// what a document says.
var gitHubDialect = &dialect{
	name: "GitHub", loginHint: "login",
	hints: map[string]string{
		"email":  "GitHub says addresses to an OAuth app with the scope user:email, and to a GitHub App with the account permission Email addresses (read)",
		"groups": "GitHub says organisations and teams to an OAuth app with the scope read:org, and hides those whose owners restrict OAuth apps and have not approved this one, and those with a single sign-on that the person has not passed for it; to a GitHub App, those that have it installed with the permission Members (read)",
	},
	// It answers 200 with an error in the body.
	refusesCode: []words{{200, "bad_verification_code", ""}},
	// "The user must have a verified primary email."
	refusesPerson: []words{{200, "unverified_user_email", ""}},
}

// gitHubScopes are what is asked for where the label scopes is left out: what the labels need,
// which the person sees at GitHub.
func gitHubScopes(n Needs) []string {
	scopes := []string{"read:user"}
	if n.Email {
		scopes = append(scopes, "user:email")
	}
	if n.GroupsClaim != "" {
		scopes = append(scopes, "read:org")
	}
	return scopes
}

// who asks whose token it is. That the token was given to this client GitHub says itself: "OAuth
// apps and GitHub Apps can use this API method for checking OAuth token validity", for their own
// tokens, where they prove themselves:
// https://docs.github.com/en/rest/apps/oauth-applications#check-a-token
func (g gitHub) who(ctx context.Context, p *Provider, token *oauth2.Token) (idToken, error) {
	checked, refusal, err := g.check(ctx, p, token.AccessToken)
	if err != nil {
		return idToken{}, err
	}
	said, err := p.askTwice(ctx, token, func(ctx context.Context, token *oauth2.Token) (claims, error) {
		page, err := g.get(ctx, p, token, g.api+"/user")
		if err != nil {
			return nil, err
		}
		return readClaims(page.body)
	})
	switch {
	case err != nil:
		return idToken{}, err
	case refusal != nil:
		// The token is good, and GitHub does not say that it is this client's.
		return idToken{}, because(ErrOurFault, fmt.Errorf("GitHub lives and takes the access token, and does not tell this client whose it is (%v): compare the labels clientID and clientSecret with what it shows", refusal))
	}
	subject, err := checkedSubject(said["id"])
	if err != nil {
		return idToken{}, loginRefused(fmt.Errorf("id of /user: %w", err))
	}
	if owner, _ := checkedSubject(checked["id"]); owner != subject {
		return idToken{}, loginRefused(errors.New("/user names another person than the check of the access token"))
	}
	c := claims{"sub": subject}
	for claim, member := range map[string]string{"name": "name", "preferred_username": "login"} {
		if said[member] != nil {
			c[claim] = said[member]
		}
	}
	return idToken{subject: subject, claims: c}, nil
}

// check asks whether GitHub gave the token to this client, and returns the person it was given for.
// refusal is GitHub's answer where it says no: that may be about the token, or about this client.
func (g gitHub) check(ctx context.Context, p *Provider, accessToken string) (person claims, refusal, err error) {
	body, err := g.aboutToken(ctx, p, http.MethodPost, accessToken, "userinfo")
	// A token that was made a moment ago may not be known everywhere yet.
	if err != nil && p.all.Wait(ctx, oncePause) == nil {
		body, err = g.aboutToken(ctx, p, http.MethodPost, accessToken, "userinfo")
	}
	var answer *strangeAnswer
	switch {
	case errors.As(err, &answer) && isRefusal(answer.status):
		return nil, answer, nil
	case err != nil:
		return nil, nil, unanswered(fmt.Errorf("check of the access token: %w", err))
	}
	said, err := readClaims(body)
	if err != nil {
		return nil, nil, unanswered(&strangeAnswer{http.StatusOK, "application/json", err.Error()})
	}
	app, _ := said["app"].(map[string]any)
	user, _ := said["user"].(map[string]any)
	if app["client_id"] != p.client.ID {
		return nil, nil, loginRefused(errors.New("GitHub gave the access token to another client than this one (label clientID)"))
	}
	return user, nil, nil
}

// isRefusal says whether a status is GitHub's word on a token or a client: one that it does not
// know, or does not like. 403 and 429 are those of a limit, too.
func isRefusal(status int) bool {
	return slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusUnprocessableEntity}, status)
}

// aboutToken sends a request about one token of this client, which proves itself by its secret.
func (g gitHub) aboutToken(ctx context.Context, p *Provider, method, accessToken, step string) ([]byte, error) {
	body := must(json.Marshal(map[string]string{"access_token": accessToken}))
	r, err := http.NewRequestWithContext(withStep(ctx, step), method, g.api+"/applications/"+url.PathEscape(p.client.ID)+"/token", bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("providerIssuer makes no URL")
	}
	// Not form-encoded: this is no endpoint of RFC 6749.
	r.SetBasicAuth(p.client.ID, p.secret)
	r.Header.Set("Content-Type", "application/json")
	page, err := g.do(p, r)
	return page.body, err
}

// revoke ends one token:
// https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token
func (g gitHub) revoke(ctx context.Context, p *Provider, accessToken string) error {
	_, err := g.aboutToken(ctx, p, http.MethodDelete, accessToken, "revoke")
	var answer *strangeAnswer
	if !errors.As(err, &answer) || !isRefusal(answer.status) {
		return err
	}
	// It may have ended before.
	_, dead := g.get(withStep(ctx, "revoke"), p, &oauth2.Token{AccessToken: accessToken, TokenType: "Bearer"}, g.api+"/user")
	if errors.As(dead, &answer) && answer.status == http.StatusUnauthorized {
		return nil
	}
	return err
}

// gitHubPage is an answer of the REST API.
type gitHubPage struct {
	body []byte
	next string // the page behind it; empty if it is the last
	sso  bool   // organisations are left out that want a single sign-on of their own
}

// get asks the REST API with a person's token.
func (g gitHub) get(ctx context.Context, p *Provider, token *oauth2.Token, address string) (gitHubPage, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return gitHubPage{}, errors.New("providerIssuer makes no URL")
	}
	if stepOf(ctx) != "revoke" {
		r = r.WithContext(withStep(ctx, "userinfo"))
	}
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	return g.do(p, r)
}

// errForbidden is in the chain where GitHub says that this token may not ask for something: no
// waiting mends that. Its other 403 is a limit's, which passes.
var errForbidden = errors.New("the token may not ask that")

// do sends a request to the REST API. An answer other than 200 and 204 is a *strangeAnswer.
func (g gitHub) do(p *Provider, r *http.Request) (gitHubPage, error) {
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	resp, err := p.all.httpClient(p.origin).Do(r)
	if err != nil {
		return gitHubPage{}, redact(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	if err != nil {
		return gitHubPage{}, outgoing.InBounds(r.URL.Host, err)
	}
	answer := &strangeAnswer{resp.StatusCode, mediaTypeOf(resp.Header), ""}
	var said struct{ Message string } // as each error of GitHub's has one
	json.Unmarshal(body, &said)
	switch {
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent:
		sso, _, _ := strings.Cut(resp.Header.Get("X-GitHub-SSO"), ";")
		return gitHubPage{body, g.nextPage(resp.Header), strings.TrimSpace(sso) == "partial-results"}, nil
	case resp.StatusCode == http.StatusForbidden && isLimited(resp.Header, said.Message):
		return gitHubPage{}, errLimited
	case said.Message != "" && (resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound):
		// Without a message it is a firewall's, or another server's: no word on what the token may.
		return gitHubPage{}, forbidden{answer}
	}
	return gitHubPage{}, answer
}

// errLimited passes by itself.
var errLimited = errors.New("the provider answered 403: a limit of its requests is reached")

type forbidden struct{ answer *strangeAnswer }

func (f forbidden) Error() string   { return f.answer.Error() }
func (f forbidden) Unwrap() []error { return []error{errForbidden, f.answer} }

// isLimited says whether a 403 is that of a limit, which passes by itself. The page is
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
func isLimited(h http.Header, message string) bool {
	return h.Get("Retry-After") != "" || h.Get("X-RateLimit-Remaining") == "0" || strings.Contains(strings.ToLower(message), "rate limit")
}

const (
	gitHubPageSize = "100" // the most that GitHub gives
	// gitHubPages bounds what one person can make the sidecar ask: a thousand organisations, or
	// teams.
	gitHubPages = 10
)

// nextPage is the address that the header Link calls next (RFC 8288):
// https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api. The person's
// token goes there, so it must be the same API's.
func (g gitHub) nextPage(h http.Header) string {
	for _, link := range strings.Split(h.Get("Link"), ",") {
		address, parameters, _ := strings.Cut(link, ">")
		address = strings.TrimPrefix(strings.TrimSpace(address), "<")
		if strings.Contains(parameters, `rel="next"`) && originOf(address) == originOf(g.api) {
			return address
		}
	}
	return ""
}

// more asks for what the labels need and /user does not say. An address is the person's primary
// one, and counts if GitHub has verified it; groups are organisations (acme) and teams
// (acme/admins). What the token may not ask for counts as not said.
func (g gitHub) more(ctx context.Context, p *Provider, token *oauth2.Token) (claims, error) {
	n, said := p.client.Needs, claims{}
	if n.Email {
		var all []struct {
			Email             string
			Primary, Verified bool
		}
		err := g.list(ctx, p, token, "/user/emails", &all, nil)
		if err != nil && !errors.Is(err, errForbidden) {
			return nil, err
		}
		for _, address := range all {
			if address.Primary {
				said["email"], said["email_verified"] = address.Email, address.Verified
			}
		}
	}
	if n.GroupsClaim == "" {
		return said, nil
	}
	orgs, teams := n.AllGroups, n.AllGroups
	for _, group := range n.Groups {
		isTeam := strings.Contains(strings.TrimPrefix(group, "/"), "/")
		orgs, teams = orgs || !isTeam, teams || isTeam
	}
	groups, told, partial := []any{}, false, false
	if orgs {
		var all []struct{ Login string }
		err := g.list(ctx, p, token, "/user/orgs", &all, &partial)
		if err != nil && !errors.Is(err, errForbidden) {
			return nil, err
		}
		told = told || err == nil
		for _, org := range all {
			groups = append(groups, org.Login)
		}
	}
	if teams {
		var all []struct {
			Slug         string
			Organization struct{ Login string }
		}
		err := g.list(ctx, p, token, "/user/teams", &all, &partial)
		if err != nil && !errors.Is(err, errForbidden) {
			return nil, err
		}
		told = told || err == nil
		for _, team := range all {
			// A team of no organisation would be read as the organisation of its name: rules pass
			// over a slash at the beginning.
			if team.Organization.Login != "" {
				groups = append(groups, team.Organization.Login+"/"+team.Slug)
			}
		}
	}
	if partial {
		p.all.Log.Warn("GitHub left out organisations of this person, because they want a single sign-on: the person must authorize the application for them at GitHub", p.client.Named, "provider", p.issuer)
	}
	if told {
		said[n.GroupsClaim] = groups
	}
	return said, nil
}

// list reads all pages of a list into all, which is a pointer to a slice. Where there are more
// pages than are read, the log says so, and the rest counts as not there.
func (g gitHub) list(ctx context.Context, p *Provider, token *oauth2.Token, path string, all any, partial *bool) error {
	elements := []json.RawMessage{}
	address := g.api + path + "?per_page=" + gitHubPageSize
	for pages := 0; address != ""; pages++ {
		if pages == gitHubPages {
			p.all.Log.Warn("GitHub lists more of this person than are read; what comes behind them counts as not there", p.client.Named, "provider", p.issuer, "list", path, "read", len(elements))
			break
		}
		page, err := g.get(ctx, p, token, address)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		var part []json.RawMessage
		if json.Unmarshal(page.body, &part) != nil {
			return fmt.Errorf("%s: %w", path, &strangeAnswer{http.StatusOK, "application/json", "it holds no list"})
		}
		elements, address = append(elements, part...), page.next
		if page.sso && partial != nil {
			*partial = true
		}
	}
	if json.Unmarshal(must(json.Marshal(elements)), all) != nil {
		return fmt.Errorf("%s: %w", path, &strangeAnswer{http.StatusOK, "application/json", "its members are of other types than GitHub's documentation says"})
	}
	return nil
}
