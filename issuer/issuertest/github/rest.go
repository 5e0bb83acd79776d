package github

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rest answers a request to the REST API. path is below /api/v3.
func (h *Hub) rest(w http.ResponseWriter, r *http.Request, path string) {
	header := w.Header()
	// page limits
	header.Set("x-ratelimit-limit", "5000")
	header.Set("x-ratelimit-remaining", "4999")
	header.Set("x-ratelimit-used", "1")
	header.Set("x-ratelimit-reset", strconv.FormatInt(h.time().Add(time.Hour).Unix(), 10))
	header.Set("x-ratelimit-resource", "core")
	// page trouble
	if r.Header.Get("User-Agent") == "" {
		message(w, http.StatusForbidden, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.")
		return
	}
	if h.limited != 0 {
		until := h.time().Add(h.limitUntil)
		if h.limitKind == Primary {
			header.Set("x-ratelimit-remaining", "0")
			header.Set("x-ratelimit-used", "5000")
			header.Set("x-ratelimit-reset", strconv.FormatInt(until.Unix(), 10))
			message(w, h.limited, "API rate limit exceeded for user ID 583231.")
			return
		}
		header.Set("retry-after", strconv.Itoa(int(h.limitUntil.Seconds())))
		message(w, h.limited, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
		return
	}
	if id, what, ok := ofApp(path); ok {
		h.app(w, r, id, what)
		return
	}
	t := h.bearer(r)
	if t == nil || t.refresh || t.revoked || !t.expires.IsZero() && !h.time().Before(t.expires) {
		// page user-tokens
		message(w, http.StatusUnauthorized, "Bad credentials")
		return
	}
	p := h.people[t.login]
	if p.suspended {
		// That a suspended person's tokens are good for nothing is documented, the answer is not.
		message(w, http.StatusForbidden, "Sorry. Your account was suspended.")
		return
	}
	if h.kind == OAuthApp {
		// page scopes
		header.Set("X-OAuth-Scopes", strings.Join(t.scopes, ", "))
	}
	if r.Method != http.MethodGet {
		message(w, http.StatusNotFound, "Not Found")
		return
	}
	switch path {
	case "/user":
		answerJSON(w, http.StatusOK, h.user(p, has(t.scopes, "user", "read:user")))
	case "/user/emails": // page emails
		if h.kind == OAuthApp && !has(t.scopes, "user:email") {
			message(w, http.StatusNotFound, "Not Found")
			return
		}
		paginated(h, w, r, p.Emails)
	case "/user/orgs": // page orgs
		if h.kind == OAuthApp && !has(t.scopes, "user", "read:org") {
			message(w, http.StatusForbidden, "You need at least read:org scope or user scope to list your organizations.")
			return
		}
		var orgs []map[string]any
		for _, name := range p.Orgs {
			// Only those are listed that the authorization allows to operate on (page orgs).
			if h.sees(name) {
				orgs = append(orgs, h.org(name))
			}
		}
		paginated(h, w, r, orgs)
	case "/user/teams": // page teams
		if h.kind == OAuthApp && !has(t.scopes, "user", "repo", "read:org") {
			message(w, http.StatusForbidden, "Resource not accessible by this token: it needs one of the scopes user, repo, read:org.")
			return
		}
		var teams []map[string]any
		for _, team := range p.Teams {
			if org, slug, _ := strings.Cut(team, "/"); h.sees(org) {
				teams = append(teams, h.team(org, slug))
			}
		}
		paginated(h, w, r, teams)
	default: // also with a slash at the end (page trouble)
		message(w, http.StatusNotFound, "Not Found")
	}
}

// sees says whether the app may see an organisation. The token of a GitHub App reaches what both
// the person and the app can (page user-tokens).
func (h *Hub) sees(org string) bool {
	if h.kind == OAuthApp {
		return !slices.Contains(h.closed, org)
	}
	return slices.Contains(h.installed, org)
}

func (h *Hub) bearer(r *http.Request) *token {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Either will do (page authenticating).
	if !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token") {
		return nil
	}
	return h.tokens[credential]
}

// user is the schema of page users. Its email is the one that the profile shows, and nothing says
// that it is verified.
func (h *Hub) user(p *account, private bool) map[string]any {
	m := map[string]any{
		"login": p.Login, "id": p.ID, "node_id": fmt.Sprintf("U_%d", p.ID), "avatar_url": h.URL + "/images/error/octocat_happy.gif", "gravatar_id": "",
		"url": h.api + "/users/" + p.Login, "html_url": h.URL + "/" + p.Login, "type": "User", "site_admin": false, "name": p.Name,
		"company": nil, "blog": "", "location": nil, "email": nil, "hireable": nil, "bio": nil, "twitter_username": nil,
		"public_repos": 2, "public_gists": 1, "followers": 20, "following": 0, "created_at": "2008-01-14T04:33:35Z", "updated_at": "2008-01-14T04:33:35Z",
	}
	if p.Public != "" {
		m["email"] = p.Public
	}
	if private {
		m["two_factor_authentication"], m["private_gists"], m["total_private_repos"] = true, 81, 100
	}
	return m
}

func (h *Hub) org(name string) map[string]any {
	return map[string]any{
		"login": name, "id": number(name), "node_id": "O_" + name, "url": h.api + "/orgs/" + name, "repos_url": h.api + "/orgs/" + name + "/repos",
		"events_url": h.api + "/orgs/" + name + "/events", "hooks_url": h.api + "/orgs/" + name + "/hooks", "issues_url": h.api + "/orgs/" + name + "/issues",
		"members_url": h.api + "/orgs/" + name + "/members{/member}", "public_members_url": h.api + "/orgs/" + name + "/public_members{/member}",
		"avatar_url": h.URL + "/images/error/octocat_happy.gif", "description": "A great organization",
	}
}

func (h *Hub) team(org, slug string) map[string]any {
	id := number(org + "/" + slug)
	url := fmt.Sprintf("%s/organizations/%d/team/%d", h.api, number(org), id)
	// The slug is made from the name, which is another (page teams).
	return map[string]any{
		"id": id, "node_id": fmt.Sprintf("T_%d", id), "url": url, "html_url": h.URL + "/orgs/" + org + "/teams/" + slug, "name": strings.ToUpper(slug[:1]) + slug[1:] + " of " + org, "slug": slug,
		"description": "A great team.", "privacy": "closed", "notification_setting": "notifications_enabled", "permission": "admin",
		"members_url": url + "/members{/member}", "repositories_url": url + "/repos", "parent": nil, "members_count": 3, "repos_count": 10,
		"created_at": "2017-07-14T16:53:42Z", "updated_at": "2017-08-17T12:37:15Z", "organization": h.org(org),
	}
}

func number(name string) uint32 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name))
	return sum.Sum32() >> 4
}

// paginated answers one page of a list: 30 of it or per_page, at most 100, and where the others are
// (page pagination).
func paginated[T any](h *Hub, w http.ResponseWriter, r *http.Request, all []T) {
	q := r.URL.Query()
	size, page := 30, 1
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && n > 0 {
		size = min(n, 100)
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 {
		page = n
	}
	last := max(1, (len(all)+size-1)/size)
	var links []string
	link := func(n int, rel string) {
		to := url.Values{}
		for k, v := range q {
			to[k] = v
		}
		to.Set("page", strconv.Itoa(n))
		base, _, _ := strings.Cut(r.URL.Path, "?")
		links = append(links, fmt.Sprintf(`<%s%s?%s>; rel="%s"`, h.api, strings.TrimPrefix(base, "/api/v3"), to.Encode(), rel))
	}
	if page > 1 {
		link(page-1, "prev")
	}
	if page < last {
		link(page+1, "next")
		link(last, "last")
	}
	if page > 1 {
		link(1, "first")
	}
	if len(links) > 0 { // none where all fit on one page
		w.Header().Set("Link", strings.Join(links, ", "))
	}
	from, to := min((page-1)*size, len(all)), min(page*size, len(all))
	list := all[from:to]
	if list == nil {
		list = []T{}
	}
	answerJSON(w, http.StatusOK, list)
}

// message is how the API refuses.
func message(w http.ResponseWriter, status int, text string) {
	answerJSON(w, status, map[string]any{"message": text, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}

// ofApp takes /applications/{client_id}/token and /applications/{client_id}/grant apart.
func ofApp(path string) (id, what string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/applications/")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// app answers what an app asks about its own tokens, by Basic authentication (page own-tokens).
func (h *Hub) app(w http.ResponseWriter, r *http.Request, id, what string) {
	user, secret, basic := r.BasicAuth()
	if !basic || id != h.ClientID || user != h.ClientID || secret != h.ClientSecret {
		message(w, http.StatusUnauthorized, "Bad credentials") // not documented
		return
	}
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&body); err != nil || body.AccessToken == "" {
		message(w, http.StatusUnprocessableEntity, "Validation Failed")
		return
	}
	t := h.tokens[body.AccessToken]
	if t == nil || t.refresh || !h.good(t) {
		message(w, http.StatusNotFound, "Not Found") // page own-tokens
		return
	}
	switch {
	case what == "token" && r.Method == http.MethodPost:
		var expires any
		if !t.expires.IsZero() {
			expires = t.expires.UTC().Format(time.RFC3339)
		}
		answerJSON(w, http.StatusOK, map[string]any{
			"id": 1, "url": h.api + "/authorizations/1", "scopes": append([]string{}, t.scopes...), "token": body.AccessToken,
			"token_last_eight": body.AccessToken[len(body.AccessToken)-8:], "hashed_token": fmt.Sprintf("%064x", number(body.AccessToken)),
			"app":  map[string]any{"url": h.URL, "name": "wiki", "client_id": h.ClientID},
			"note": nil, "note_url": nil, "fingerprint": nil, "created_at": t.made.UTC().Format(time.RFC3339), "updated_at": t.made.UTC().Format(time.RFC3339),
			"expires_at": expires, "user": h.user(h.people[t.login], false),
		})
	case what == "token" && r.Method == http.MethodDelete:
		t.revoked = true
		w.WriteHeader(http.StatusNoContent)
	case what == "grant" && r.Method == http.MethodDelete:
		// All tokens of the app for the person go with it (page own-tokens).
		for _, other := range h.tokens {
			if other.login == t.login {
				other.revoked = true
			}
		}
		delete(h.granted, t.login)
		w.WriteHeader(http.StatusNoContent)
	default:
		message(w, http.StatusNotFound, "Not Found")
	}
}
