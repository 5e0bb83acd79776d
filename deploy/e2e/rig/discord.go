package rig

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Discord answers as https://discord.com/developers/docs/topics/oauth2 and
// https://discord.com/developers/docs/resources/user#user-object say, with the examples of those
// pages. What becomes of a used refresh token is not documented; here it is good for nothing.
type Discord struct {
	ClientID, ClientSecret string
	// Person is the user object: `id` is a snowflake, which is a text since it has more digits than
	// a number of JSON can hold everywhere.
	Person map[string]any

	mu     sync.Mutex        // guards what follows for one access
	codes  map[string]string // :: code → redirect_uri; a code is removed when it is used
	tokens map[string]string // :: token → "access" or "refresh"
}

// NewDiscord returns one with an application and a person.
func NewDiscord() *Discord {
	return &Discord{
		ClientID: "157730590492196864", ClientSecret: rand.Text(), codes: map[string]string{}, tokens: map[string]string{},
		Person: map[string]any{
			"id": "80351110224678912", "username": "nelly", "discriminator": "0", "global_name": "Nelly", "avatar": "8342729096ea3675442027381ff50dfe",
			"verified": true, "email": "nelly@example.com", "flags": 64, "accent_color": 16711680, "premium_type": 1, "public_flags": 64,
		},
	}
}

// Revoke ends all tokens: "any active access or refresh tokens associated with that authorization
// will be revoked".
func (d *Discord) Revoke() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tokens)
}

func (d *Discord) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "GET /oauth2/authorize":
		q := r.URL.Query()
		if q.Get("client_id") != d.ClientID || q.Get("response_type") != "code" || !slices.Contains(strings.Fields(q.Get("scope")), "identify") {
			http.Error(w, "Invalid OAuth2 request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!DOCTYPE html><title>Discord</title><form method="post" action="/oauth2/authorize?%s"><button>Authorize</button></form>`, html.EscapeString(q.Encode()))
	case "POST /oauth2/authorize":
		q := r.URL.Query()
		code := rand.Text()
		d.codes[code] = q.Get("redirect_uri")
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	case "POST /api/oauth2/token":
		d.token(w, r)
	case "GET /api/users/@me":
		if access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || d.tokens[access] != "access" {
			discordAnswer(w, http.StatusUnauthorized, map[string]any{"message": "401: Unauthorized", "code": 0})
			return
		}
		discordAnswer(w, http.StatusOK, d.Person)
	default:
		discordAnswer(w, http.StatusNotFound, map[string]any{"message": "404: Not Found", "code": 0})
	}
}

// token takes "either HTTP Basic authentication or client_id and client_secret supplied in the form
// data body".
func (d *Discord) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, name string) {
		discordAnswer(w, status, map[string]any{"error": name}) // RFC 6749 §5.2
	}
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if id != d.ClientID || secret != d.ClientSecret {
		refuse(http.StatusUnauthorized, "invalid_client")
		return
	}
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		redirect, ok := d.codes[r.PostFormValue("code")]
		delete(d.codes, r.PostFormValue("code"))
		if !ok || redirect != r.PostFormValue("redirect_uri") {
			refuse(http.StatusBadRequest, "invalid_grant")
			return
		}
	case "refresh_token":
		if d.tokens[r.PostFormValue("refresh_token")] != "refresh" {
			refuse(http.StatusBadRequest, "invalid_grant")
			return
		}
		delete(d.tokens, r.PostFormValue("refresh_token"))
	default:
		refuse(http.StatusBadRequest, "unsupported_grant_type")
		return
	}
	access, refresh := rand.Text(), rand.Text()
	d.tokens[access], d.tokens[refresh] = "access", "refresh"
	discordAnswer(w, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 604800, "refresh_token": refresh, "scope": "identify email"})
}

func discordAnswer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
