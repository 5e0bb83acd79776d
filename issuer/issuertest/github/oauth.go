package github

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// code is what the callback gets. It expires after ten minutes (page authorizing).
type code struct {
	login     string
	scopes    []string
	redirect  string
	challenge string
	expires   time.Time
	used      bool
}

const codeLife = 10 * time.Minute

// token is an access token or a refresh token.
type token struct {
	login   string
	scopes  []string
	refresh bool
	pair    string // the access token that came with a refresh token
	made    time.Time
	expires time.Time // zero: never
	revoked bool
}

// The lives of page user-tokens.
const (
	accessLife  = 28800 * time.Second
	refreshLife = 15897600 * time.Second
	// mostTokens is for one person, app and list of scopes: the oldest one is revoked (page
	// authorizing). That at most ten are made in an hour stands there too, but not what the
	// eleventh gets.
	mostTokens = 10
)

const sessionCookie = "user_session"

// authorize is GET /login/oauth/authorize (page authorizing).
func (h *Hub) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != h.ClientID {
		http.NotFound(w, r)
		return
	}
	if !h.fits(q.Get("redirect_uri")) {
		h.back(w, r, h.callback, url.Values{
			"error": {"redirect_uri_mismatch"}, "error_description": {"The redirect_uri MUST match the registered callback URL for this application."}, "state": {q.Get("state")},
		})
		return
	}
	// Only S256 is accepted (page pkce); what another method gets is not documented.
	if q.Has("code_challenge") && q.Get("code_challenge_method") != "S256" {
		http.Error(w, "code_challenge_method must be S256", http.StatusBadRequest)
		return
	}
	login := h.signedIn(r)
	// The account picker appears with select_account (page authorizing).
	if login == "" || q.Get("prompt") == "select_account" && r.URL.Query().Get("picked") == "" {
		to := *r.URL
		q.Set("picked", "1")
		to.RawQuery = q.Encode()
		page(w, fmt.Sprintf(`<form method="post" action="/session"><input type="hidden" name="return_to" value="%s"><input name="login" value="%s"><input type="password" name="password"><button>Sign in</button></form>`,
			html.EscapeString(to.RequestURI()), html.EscapeString(q.Get("login"))))
		return
	}
	asked := normal(strings.Fields(q.Get("scope")))
	had, before := h.granted[login]
	if before && !slices.ContainsFunc(asked, func(s string) bool { return !slices.Contains(had, s) }) {
		// Where none is asked for, the token has those that were authorized (page authorizing).
		if len(asked) == 0 {
			asked = had
		}
		h.grant(w, r, login, asked, q)
		return
	}
	page(w, fmt.Sprintf(`<form method="post" action="/login/oauth/authorize?%s"><input type="hidden" name="authorize" value="1"><button>Authorize</button></form>`, html.EscapeString(q.Encode())))
}

// signIn is the form of github.com/login, which is not documented.
func (h *Hub) signIn(w http.ResponseWriter, r *http.Request) {
	p := h.people[r.PostForm.Get("login")]
	if p == nil || p.suspended || r.PostForm.Get("password") != h.Password {
		http.Error(w, "Incorrect username or password.", http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: p.Login, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	to, err := url.Parse(r.PostForm.Get("return_to"))
	if err != nil || to.IsAbs() || to.Host != "" || to.Path != "/login/oauth/authorize" {
		http.Error(w, "return_to", http.StatusBadRequest)
		return
	}
	http.Redirect(w, r, to.RequestURI(), http.StatusFound)
}

func (h *Hub) signedIn(r *http.Request) string {
	if c, err := r.Cookie(sessionCookie); err == nil && h.people[c.Value] != nil && !h.people[c.Value].suspended {
		return c.Value
	}
	return ""
}

// decide is the page on which the person authorizes the app or cancels.
func (h *Hub) decide(w http.ResponseWriter, r *http.Request) {
	q, login := r.URL.Query(), h.signedIn(r)
	switch {
	case login == "" || q.Get("client_id") != h.ClientID || !h.fits(q.Get("redirect_uri")):
		http.Error(w, "no", http.StatusBadRequest)
	case h.denies: // page request-errors
		h.back(w, r, h.redirect(q), url.Values{
			"error": {"access_denied"}, "error_description": {"The user has denied your application access."},
			"error_uri": {"/apps/building-integrations/setting-up-and-registering-oauth-apps/troubleshooting-authorization-request-errors/#access-denied"}, "state": {q.Get("state")},
		})
	default:
		scopes := normal(strings.Fields(q.Get("scope")))
		if h.accepted != nil {
			scopes = h.accepted(scopes)
		}
		h.grant(w, r, login, scopes, q)
	}
}

// grant sends the person back with a code. There is no iss (RFC 9207).
func (h *Hub) grant(w http.ResponseWriter, r *http.Request, login string, scopes []string, q url.Values) {
	if h.kind != OAuthApp {
		scopes = nil // it has permissions instead
	}
	h.granted[login] = scopes
	c := h.issue("")[:20]
	h.codes[c] = &code{login, scopes, h.redirect(q), q.Get("code_challenge"), h.time().Add(codeLife), false}
	h.issued = append(h.issued, c)
	h.back(w, r, h.redirect(q), url.Values{"code": {c}, "state": {q.Get("state")}})
}

func (h *Hub) redirect(q url.Values) string {
	if to := q.Get("redirect_uri"); to != "" {
		return to
	}
	return h.callback
}

func (h *Hub) back(w http.ResponseWriter, r *http.Request, to string, more url.Values) {
	u, err := url.Parse(to)
	if err != nil {
		http.Error(w, "callback", http.StatusBadRequest)
		return
	}
	u.RawQuery = more.Encode()
	http.Redirect(w, r, u.String(), http.StatusFound)
}

// fits compares a redirect_uri with the callback URL. An OAuth app takes paths below it,
// subdomains, and another port on loopback (page authorizing); a GitHub App wants it exactly (page
// user-tokens).
func (h *Hub) fits(redirect string) bool {
	if redirect == "" || redirect == h.callback {
		return true
	}
	u, err := url.Parse(redirect)
	c, err2 := url.Parse(h.callback)
	if h.kind != OAuthApp || err != nil || err2 != nil || u.Scheme != c.Scheme {
		return false
	}
	below := u.Path == c.Path || strings.HasPrefix(u.Path, strings.TrimSuffix(c.Path, "/")+"/")
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
		return u.Hostname() == c.Hostname() && below
	}
	return u.Port() == c.Port() && below && (u.Hostname() == c.Hostname() || strings.HasSuffix(u.Hostname(), "."+c.Hostname()))
}

// implied are the scopes that another one includes (page scopes).
var implied = map[string][]string{
	"user": {"read:user", "user:email", "user:follow"}, "admin:org": {"write:org", "read:org"}, "write:org": {"read:org"},
	"repo": {"repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"},
}

// normal drops the scopes that another one includes (page scopes). What is no scope of GitHub's is
// dropped without a word, which is not documented.
func normal(scopes []string) []string {
	var out []string
	for _, s := range scopes {
		included := slices.ContainsFunc(scopes, func(other string) bool { return slices.Contains(implied[other], s) })
		if known := knownScopes[s]; known && !included && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

var knownScopes = map[string]bool{
	"user": true, "read:user": true, "user:email": true, "user:follow": true, "read:org": true, "write:org": true, "admin:org": true,
	"repo": true, "public_repo": true, "repo:status": true, "gist": true, "notifications": true, "workflow": true, "project": true, "read:project": true,
}

// has says whether a token's scopes include one of these.
func has(scopes []string, any ...string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool {
		return slices.Contains(any, s) || slices.ContainsFunc(implied[s], func(i string) bool { return slices.Contains(any, i) })
	})
}

// accessToken is POST /login/oauth/access_token, and its errors those of page token-errors. Client
// id and secret are parameters; a Basic header is not documented, and counts for nothing.
func (h *Hub) accessToken(w http.ResponseWriter, r *http.Request) {
	f := r.Form // "query parameters", and the body
	fail := func(name, description, anchor string) {
		// The page shows no status; GitHub's is 200 (page quoted), as it is documented for the
		// device flow (page user-tokens).
		h.tokenAnswer(w, r, [][2]any{{"error", name}, {"error_description", description}, {"error_uri", "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors/#" + anchor}})
	}
	if f.Get("client_id") != h.ClientID || f.Get("client_secret") != h.ClientSecret {
		fail("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.", "incorrect-client-credentials")
		return
	}
	if f.Get("grant_type") == "refresh_token" {
		old := h.tokens[f.Get("refresh_token")]
		if h.kind != App || old == nil || !old.refresh || !h.good(old) {
			// No page of GitHub's names this error (page quoted).
			fail("bad_refresh_token", "The refresh token passed is incorrect or expired.", "bad-verification-code")
			return
		}
		// Both the refresh token and the old access token end (page refreshing).
		old.revoked = true
		h.tokens[old.pair].revoked = true
		h.give(w, r, old.login, nil)
		return
	}
	c := h.codes[f.Get("code")]
	switch {
	case c == nil || c.used || h.time().After(c.expires):
		fail("bad_verification_code", "The code passed is incorrect or expired.", "bad-verification-code")
		return
	case f.Get("redirect_uri") != "" && f.Get("redirect_uri") != c.redirect:
		fail("redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL for this application.", "redirect-uri-mismatch2")
		return
	case c.challenge != "" && c.challenge != challenge(f.Get("code_verifier")):
		// Which error this gets is not documented.
		c.used = true
		fail("bad_verification_code", "The code passed is incorrect or expired.", "bad-verification-code")
		return
	}
	c.used = true
	if p := h.people[c.login]; !slices.ContainsFunc(p.Emails, func(e Email) bool { return e.Primary && e.Verified }) {
		fail("unverified_user_email", "The user must have a verified primary email.", "unverified_user_email")
		return
	}
	h.give(w, r, c.login, c.scopes)
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (h *Hub) good(t *token) bool {
	return !t.revoked && !h.people[t.login].suspended && (t.expires.IsZero() || h.time().Before(t.expires))
}

// give answers with a new token. The members are those of pages authorizing and user-tokens.
func (h *Hub) give(w http.ResponseWriter, r *http.Request, login string, scopes []string) {
	if h.kind == OAuthApp {
		access := h.issue("gho_")
		h.tokens[access] = &token{login: login, scopes: scopes, made: h.time()}
		h.revokeOldest(login, scopes)
		h.tokenAnswer(w, r, [][2]any{{"access_token", access}, {"scope", strings.Join(scopes, ",")}, {"token_type", "bearer"}})
		return
	}
	access := h.issue("ghu_")
	members := [][2]any{{"access_token", access}}
	t := &token{login: login, made: h.time()}
	h.tokens[access] = t
	if h.kind == App {
		t.expires = h.time().Add(accessLife)
		refresh := h.issue("ghr_")
		h.tokens[refresh] = &token{login: login, refresh: true, pair: access, made: h.time(), expires: h.time().Add(refreshLife)}
		members = append(members, [2]any{"expires_in", int(accessLife.Seconds())}, [2]any{"refresh_token", refresh}, [2]any{"refresh_token_expires_in", int(refreshLife.Seconds())})
	}
	h.tokenAnswer(w, r, append(members, [2]any{"scope", ""}, [2]any{"token_type", "bearer"}))
}

func (h *Hub) revokeOldest(login string, scopes []string) {
	var oldest *token
	n := 0
	for _, t := range h.tokens {
		if t.login == login && h.good(t) && slices.Equal(t.scopes, scopes) {
			n++
			if oldest == nil || t.made.Before(oldest.made) {
				oldest = t
			}
		}
	}
	if n > mostTokens {
		oldest.revoked = true
	}
}

// tokenAnswer is a form, or what the header Accept asks for: JSON or XML.
func (h *Hub) tokenAnswer(w http.ResponseWriter, r *http.Request, members [][2]any) {
	switch accept := r.Header.Get("Accept"); {
	case strings.Contains(accept, "application/json"):
		m := map[string]any{}
		for _, member := range members {
			m[member[0].(string)] = member[1]
		}
		answerJSON(w, http.StatusOK, m)
	case strings.Contains(accept, "application/xml"):
		w.Header().Set("Content-Type", "application/xml; charset=utf-8")
		fmt.Fprint(w, "<OAuth>")
		for _, member := range members {
			fmt.Fprintf(w, "<%s>%s</%s>", member[0], html.EscapeString(fmt.Sprint(member[1])), member[0])
		}
		fmt.Fprint(w, "</OAuth>")
	default:
		v := url.Values{}
		for _, member := range members {
			v.Set(member[0].(string), fmt.Sprint(member[1]))
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		fmt.Fprint(w, v.Encode())
	}
}

func page(w http.ResponseWriter, form string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html><title>GitHub %s</title>%s", rand.Text()[:4], form)
}
