package doctor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// pkce is a code verifier and its challenge (RFC 7636 section 4).
func pkce() (verifier, challenge string) {
	verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(sum[:])
}

// scopeOf is what a client asks for.
func (d *doctor) scopeOf(p program) string {
	scope := ""
	for _, method := range []string{p.first, "POST"} {
		if c := d.challenges[method]; c != nil && scope == "" && p.name != "Gemini CLI" {
			scope = c.scope
		}
	}
	switch {
	case p.name == "Gemini CLI": // all that the server names
		scope = strings.Join(d.server.Scopes, " ")
	case scope == "" && d.resource != nil && len(d.resource.Scopes) > 0:
		scope = strings.Join(d.resource.Scopes, " ")
	case scope == "":
		scope = p.scope
	}
	if p.offline && slices.Contains(d.server.Scopes, "offline_access") && !slices.Contains(strings.Fields(scope), "offline_access") {
		scope = strings.TrimSpace(scope + " offline_access")
	}
	return scope
}

// request is a client's authorization request, to its redirect URI.
func (d *doctor) request(p program, r *registered, redirect, challenge string) url.Values {
	q := url.Values{"response_type": {"code"}, "client_id": {r.ClientID}, "redirect_uri": {redirect}, "state": {rand.Text()},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	if w := d.ways[p.name]; w != nil && w.resource != nil {
		q.Set("resource", w.resource.Resource)
	}
	if scope := d.scopeOf(p); scope != "" {
		q.Set("scope", scope)
		if p.prompt && slices.Contains(strings.Fields(scope), "offline_access") {
			q.Set("prompt", "consent")
		}
	}
	return q
}

// authorize sends a request as a browser does and stops at the first page.
func (d *doctor) authorize(ctx context.Context, q url.Values) *answer {
	u, err := d.checkTarget(d.server.Authorization)
	if err != nil {
		return &answer{err: err, header: http.Header{}}
	}
	sum := *u
	query := sum.Query() // RFC 6749 section 3.1: its own query stays
	for name, values := range q {
		query[name] = values
	}
	sum.RawQuery = query.Encode()
	return d.ask(ctx, "GET", sum.String(), http.Header{"Accept": {"text/html,application/xhtml+xml,*/*;q=0.8"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}, "")
}

// answered says what came back for a redirect URI: an error that the client is told, a code, or "".
func answered(a *answer, redirect string) (string, bool) {
	if a.err != nil || a.status/100 != 3 {
		return "", false
	}
	location := a.header.Get("Location")
	if !strings.HasPrefix(location, strings.SplitN(redirect, "?", 2)[0]) {
		return "", false
	}
	u, err := url.Parse(location)
	if err != nil {
		return "an answer that is not a URL", true
	}
	return strings.TrimSpace(u.Query().Get("error") + " " + u.Query().Get("error_description")), true
}

// answerIss looks whether an answer with a code has iss (RFC 9207).
func (d *doctor) answerIss(location string) {
	if u, err := url.Parse(location); err != nil || u.Query().Has("iss") || d.noIss {
		return
	}
	d.noIss = true
	f := report.Finding{Check: "iss", Expected: "iss in the answer with the code", Seen: "none", Fault: d.fault(report.Sidecar), Breaks: names(func(p program) bool { return p.wantsAnswerIss }),
		Remedy: "send iss, and promise it in the metadata (RFC 9207): these clients want it, promised or not"}
	if d.server.Iss { // section 2.4: a client must then refuse
		f.Expected, f.Breaks, f.Remedy = "iss in the answer with the code, as the metadata promises", []string{report.EveryClient}, "send iss, or do not promise it"
	}
	d.found(&f)
}

// authorization begins each client's login, with each of its redirect URIs, up to the first page.
func (d *doctor) authorization(ctx context.Context) {
	failed, hindered := map[string][]string{}, map[string][]string{}
	findings := map[string]report.Finding{}
	var worked int
	unasked := ""       // a redirect URI to which a code went without a page
	var one *registered // to try what must be refused
	var oneProgram program
	for _, p := range programs {
		r := d.registered[p.name]
		if r == nil {
			continue
		}
		redirects := p.redirects
		if d.ClientID != "" {
			redirects = r.RedirectURIs
			if d.RedirectURI == "" {
				d.note("authorization", "not tried: --client-id needs --redirect-uri", "", "")
				return
			}
		}
		var whys []string // of this client's redirect URIs that are not taken
		works := false
		for _, redirect := range redirects {
			// A client comes with what it has registered. Most take the port that they have
			// registered, and register again where it is not free.
			if !r.byDocument && d.ClientID == "" && !slices.Contains(r.RedirectURIs, redirect) && !(p.anyPort && matches(r.RedirectURIs, redirect)) {
				continue
			}
			_, challenge := pkce()
			a := d.authorize(ctx, d.request(p, r, redirect, challenge))
			if one == nil && a.err == nil && !r.byDocument {
				one, oneProgram = r, p
			}
			seen := a.String()
			told, back := answered(a, redirect)
			if back {
				seen = "the client is told: " + told
				if told == "" { // clients work with it, so it breaks none
					works = true
					unasked = withoutQuery(redirect)
					d.answerIss(a.header.Get("Location"))
					continue
				}
			}
			if a.err == nil && !back && (a.status == http.StatusOK || a.status/100 == 3) {
				works = true
				continue
			}
			f := d.explain(a)
			if code, _ := a.oauthError(); back || a.err == nil && a.status/100 == 4 && (a.status == http.StatusBadRequest || isHTML(a) || code != "") {
				f = report.Finding{Fault: d.fault(report.Sidecar), Remedy: "the authorization server does not take this client's request: its log says why", Page: d.page("docs/troubleshooting.md#the-login-fails")}
			}
			if d.leftOut(a) {
				f = byAllowedClients
			}
			f.Check, f.Expected, f.Seen = "authorization", "a page to sign in or to allow, for "+withoutQuery(redirect), seen
			// RFC 8252 section 7.3: a loopback address is taken with any port.
			if u, err := url.Parse(redirect); err == nil && isLoopback(u.Hostname()) && d.ClientID == "" && !r.byDocument && !slices.Contains(r.RedirectURIs, redirect) {
				f.Expected += ", which was registered with another port"
				f.Remedy = "let the authorization server take a loopback address with any port (RFC 8252 section 7.3): the registered one may not be free the next time"
			}
			if findings[seen].Check == "" {
				findings[seen] = f
			}
			if whys = append(whys, seen); d.ClientID != "" {
				break
			}
		}
		if works {
			worked++
		}
		for _, seen := range whys {
			names := failed
			if works {
				names = hindered
			}
			if !slices.Contains(names[seen], p.name) {
				names[seen] = append(names[seen], p.name)
			}
		}
		if d.ClientID != "" {
			one, oneProgram = r, p
			break // one client, one request
		}
	}
	for _, seen := range sortedKeys(findings) {
		f := findings[seen]
		f.Breaks, f.Hinders = breaks(failed[seen]), breaks(hindered[seen])
		if d.ClientID != "" {
			f.Breaks, f.Hinders = []string{report.EveryClient}, nil
		}
		d.found(&f)
	}
	switch {
	case unasked != "":
		d.found(&report.Finding{Check: "consent", Expected: "a page to sign in or to allow, for " + unasked, Seen: "the answer goes to the client at once, and nobody was asked", Fault: d.fault(report.Sidecar),
			Remedy: "let the authorization server ask the person: so anybody's program gets a token (a demonstration does this on purpose)"})
	case worked > 0:
		d.good("authorization", "a page for each redirect URI that was tried")
	}
	if one != nil {
		d.refusals(ctx, oneProgram, one)
	}
}

// matches compares as RFC 8252 section 7.3 wants it: a loopback address with any port.
func matches(all []string, redirect string) bool {
	plain := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" || !isLoopback(u.Hostname()) {
			return raw
		}
		u.Host = u.Hostname()
		return u.String()
	}
	return slices.ContainsFunc(all, func(one string) bool { return plain(one) == plain(redirect) })
}

// refusals sends what must be refused: a redirect URI that nobody registered takes a code to
// whoever made the link, and a request without PKCE lets a stolen code be used.
func (d *doctor) refusals(ctx context.Context, p program, r *registered) {
	redirect := ""
	for _, one := range append([]string{d.RedirectURI}, p.redirects...) {
		if one != "" && (d.ClientID != "" || matches(r.RedirectURIs, one)) {
			redirect = one
			break
		}
	}
	_, challenge := pkce()
	const unknown = "https://attacker.invalid/callback"
	a := d.authorize(ctx, d.request(p, r, unknown, challenge))
	switch _, back := answered(a, unknown); {
	case back:
		d.found(&report.Finding{Check: "unknown redirect URI", Expected: "a refusal on a page", Seen: "the answer goes there: anybody's link can take a person's login", Fault: d.fault(report.Sidecar),
			Breaks: []string{report.EveryClient}, Remedy: "let the authorization server compare redirect_uri with what the client registered"})
	case a.err == nil && a.status/100 == 4:
		d.good("unknown redirect URI", "refused with "+a.String())
	default:
		d.note("unknown redirect URI", a.String()+": no refusal on the first page; it may come later", "", "")
	}
	q := d.request(p, r, redirect, challenge)
	q.Del("code_challenge")
	q.Del("code_challenge_method")
	a = d.authorize(ctx, q)
	if told, back := answered(a, redirect); back && told != "" || a.err == nil && a.status/100 == 4 {
		d.good("request without PKCE", "refused")
	} else {
		d.note("request without PKCE", a.String()+": not refused on the first page", "let the server demand code_challenge (OAuth 2.1 section 4.1.1)", "")
	}
	if d.resource == nil {
		return
	}
	q = d.request(p, r, redirect, challenge)
	q.Set("resource", "https://attacker.invalid/mcp")
	a = d.authorize(ctx, q)
	if told, back := answered(a, redirect); back && told != "" || a.err == nil && a.status/100 == 4 {
		d.good("request for another resource", "refused")
	} else {
		d.note("request for another resource", a.String()+": not refused on the first page", "a token for any resource may come of it (RFC 8707); --login shows its audience", "")
	}
}

// tokenEndpoint sends codes that nobody gave out: what it says of them is what clients act upon.
func (d *doctor) tokenEndpoint(ctx context.Context) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {"doctor"}, "code_verifier": {rand.Text() + rand.Text()}, "client_id": {"doctor"}, "redirect_uri": {"http://127.0.0.1/callback"}}
	a := d.ask(ctx, "POST", d.server.Token, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}, form.Encode())
	code, _ := a.oauthError()
	switch {
	case a.err == nil && (a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized) && code == "invalid_client":
		d.good("token endpoint", "refuses an unknown client with invalid_client")
	case a.err == nil && (a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized) && code != "":
		d.note("token endpoint", "refuses an unknown client with "+code+", not invalid_client", "clients whose registration is gone do not register again", "")
	default:
		f := d.explain(a)
		f.Check, f.Expected, f.Seen, f.Breaks = "token endpoint", "400 or 401 with a JSON error", a.String(), []string{report.EveryClient}
		d.found(&f)
	}
}
