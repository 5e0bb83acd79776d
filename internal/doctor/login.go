package doctor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// tokens is what the token endpoint answers (RFC 6749 section 5.1).
type tokens struct {
	Access  string      `json:"access_token"`
	Type    string      `json:"token_type"`
	Expires json.Number `json:"expires_in"`
	Refresh string      `json:"refresh_token"`
	Scope   string      `json:"scope"`
}

// login is one login of a person, and what belongs to it.
type login struct {
	*registered
	redirect string
}

// withToken does what needs a token: of a login in the person's browser, or one that exists.
func (d *doctor) withToken(ctx context.Context) {
	if !d.trusted {
		d.note("login", "not tried: the certificate is not good, and a token would go to whoever is there", "--ca names the authority", "")
		return
	}
	if d.Token != "" && d.demandsProofs() {
		d.note("login", "not tried: the server takes a token only from whoever has its key (DPoP)", "leave --token out: doctor then logs in with a key of its own", d.page("docs/dpop.md"))
		return
	}
	if d.Token != "" {
		d.useToken(ctx, d.Token)
		return
	}
	if d.server == nil {
		d.note("login", "not tried: there is no authorization server's document", "", "")
		return
	}
	l, t := d.logIn(ctx)
	if t == nil {
		return
	}
	d.shape(t.Access, t)
	d.useToken(ctx, t.Access)
	t = d.refreshTwice(ctx, l, t)
	d.revoke(ctx, l, t)
}

func (d *doctor) loginFailed(step, seen string, f report.Finding) {
	f.Check, f.Seen, f.Breaks = "login: "+step, seen, []string{report.EveryClient}
	if f.Fault == "" {
		f.Fault = d.fault(report.Sidecar)
	}
	if f.Remedy == "" {
		f.Remedy, f.Page = "the authorization server's log says why", d.page("docs/troubleshooting.md#the-login-fails")
	}
	d.found(&f)
}

// logIn takes the person through the login. The answer comes to a listener of this computer, which
// ends with it.
func (d *doctor) logIn(ctx context.Context) (*login, *tokens) {
	at, err := listenAt(d.RedirectURI)
	if errors.Is(err, errNotHere) {
		d.note("login", "not tried: "+err.Error(), "--redirect-uri http://127.0.0.1:PORT/PATH, as the client was created for", "")
		return nil, nil
	} else if err != nil {
		d.note("login", "not tried: "+err.Error(), "", "")
		return nil, nil
	}
	defer at.Close()
	l := &login{redirect: at.redirect}
	if d.ClientID != "" {
		l.registered = &registered{ClientID: d.ClientID, ClientSecret: d.ClientSecret}
	} else if d.server.Registration == "" {
		d.note("login", "not tried: there is no registration", "give a client by --client-id", "")
		return nil, nil
	} else {
		body, _ := json.Marshal(map[string]any{"client_name": "mcpbouncer doctor", "redirect_uris": []string{l.redirect}, "grant_types": []string{"authorization_code", "refresh_token"},
			"response_types": []string{"code"}, "token_endpoint_auth_method": "none"})
		a := d.ask(ctx, "POST", d.server.Registration, http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}, string(body))
		if a.status == http.StatusTooManyRequests {
			d.note("login", "not tried: a rate limit (429) refuses a registration more", "wait until the limit is over, or add --no-register", d.page("docs/routes.md#a-rate-limit"))
			return nil, nil
		}
		r, err := readRegistration(a)
		if err != nil {
			d.loginFailed("registration", err.Error(), d.explain(a))
			return nil, nil
		}
		l.registered = r
	}
	verifier, challenge := pkce()
	p := program{first: "POST", offline: true}
	q := d.request(p, l.registered, l.redirect, challenge)
	if d.resource != nil {
		q.Set("resource", d.resource.Resource)
	}
	if d.Scope != "" {
		q.Set("scope", d.Scope)
	}
	state := rand.Text()
	q.Set("state", state)
	authorization, err := url.Parse(d.server.Authorization)
	if err != nil {
		return nil, nil
	}
	if _, err := d.checkTarget(d.server.Authorization); err != nil {
		d.note("login", "not tried: authorization_endpoint is "+err.Error(), "", "")
		return nil, nil
	}
	query := authorization.Query()
	for name, values := range q {
		query[name] = values
	}
	authorization.RawQuery = query.Encode()
	back := at.await(state)
	d.say("")
	d.Visit(authorization.String())
	d.say("waiting for the login in the browser")
	var answer url.Values
	select {
	case answer = <-back:
	case <-time.After(patience):
		d.note("login", fmt.Sprintf("nobody came back within %s", patience), "what the browser shows says more", "docs/troubleshooting.md#the-login-fails")
		return nil, nil
	case <-ctx.Done():
		return nil, nil
	}
	if code := answer.Get("error"); code != "" {
		f := report.Finding{Expected: "a code"}
		if code == "access_denied" && d.ours {
			f.Fault, f.Page = report.Label, "docs/access.md#who-is-refused-and-how"
			f.Remedy = "an access rule keeps this account out, or you pressed Deny: the sidecar's log has the cause in the line \"request refused\", or \"consent denied\""
		}
		d.loginFailed("answer", code+" "+answer.Get("error_description"), f)
		return nil, nil
	}
	// RFC 9207 section 2.4: the answer of another server than the one that was asked.
	if iss := answer.Get("iss"); iss != d.server.Issuer && (iss != "" || d.server.Iss) {
		d.loginFailed("iss", fmt.Sprintf("%q", iss), report.Finding{Expected: d.server.Issuer, Remedy: "send iss as the metadata's issuer says"})
		return nil, nil
	}
	d.answerIss("?" + answer.Encode())
	t, a := d.token(ctx, l, url.Values{"grant_type": {"authorization_code"}, "code": {answer.Get("code")}, "code_verifier": {verifier}, "redirect_uri": {l.redirect}})
	if t == nil {
		d.loginFailed("token", a.String(), report.Finding{Expected: "200 with an access token"})
		return nil, nil
	}
	d.good("login", "the person came back, and the code brought a token")
	return l, t
}

// token asks the token endpoint. What it is sent is worth a login, so it has to be where the
// metadata is believed: by https, or on this computer.
func (d *doctor) token(ctx context.Context, l *login, form url.Values) (*tokens, *answer) {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	form.Set("client_id", l.ClientID)
	if l.ClientSecret != "" {
		if l.AuthMethod == "client_secret_post" || len(d.server.AuthMethods) > 0 && !slices.Contains(d.server.AuthMethods, "client_secret_basic") {
			form.Set("client_secret", l.ClientSecret)
		} else { // RFC 6749 section 2.3.1
			header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(l.ClientID)+":"+url.QueryEscape(l.ClientSecret))))
			form.Del("client_id")
		}
	}
	if d.resource != nil {
		form.Set("resource", d.resource.Resource)
	}
	a := d.ask(ctx, "POST", d.server.Token, header, form.Encode())
	t := &tokens{}
	if err := a.object(t); err != nil || t.Access == "" {
		return nil, a.secret()
	}
	return t, a
}

// secret is the answer without what may hold a token.
func (a *answer) secret() *answer {
	if a.status == http.StatusOK {
		a.body = nil
		a.err = errors.New("200 without an access_token that can be read")
	}
	return a
}

// shape says what the token is. Its signature is the MCP server's to check.
func (d *doctor) shape(token string, t *tokens) {
	kind := "Bearer"
	if d.demandsProofs() {
		kind = "DPoP"
	}
	if t != nil && !strings.EqualFold(t.Type, kind) {
		d.loginFailed("token_type", t.Type, report.Finding{Expected: kind})
	}
	if t != nil && t.Refresh == "" {
		d.note("token", "no refresh token: people log in whenever the access token ends", "", "docs/replay.md#the-label-refresh")
	}
	parts := strings.Split(token, ".")
	var c struct {
		Issuer   string          `json:"iss"`
		Audience json.RawMessage `json:"aud"`
		Expires  int64           `json:"exp"`
		Issued   int64           `json:"iat"`
		Scope    string          `json:"scope"`
	}
	raw, err := []byte(nil), errors.New("")
	if len(parts) == 3 {
		raw, err = base64.RawURLEncoding.DecodeString(parts[1])
	}
	if err != nil || json.Unmarshal(raw, &c) != nil {
		seen := "opaque"
		if t != nil {
			seen += ", for " + string(t.Expires) + " s, scope " + seenList(strings.Fields(t.Scope))
		}
		d.good("token", seen)
		return
	}
	var of []string
	if json.Unmarshal(c.Audience, &of) != nil {
		one := ""
		if json.Unmarshal(c.Audience, &one) == nil && one != "" {
			of = []string{one}
		}
	}
	resource := d.mcp.String()
	if d.resource != nil {
		resource = d.resource.Resource
	}
	mine := func(aud string) bool {
		return strings.TrimSuffix(aud, "/") == strings.TrimSuffix(resource, "/") || d.server != nil && aud == d.server.Issuer && d.ours
	}
	if !slices.ContainsFunc(of, mine) {
		d.note("token", "aud is "+seenList(of)+", which does not name "+resource, "another server may take the token as well (RFC 8707)", "")
	}
	life := time.Duration(c.Expires-c.Issued) * time.Second
	d.good("token", fmt.Sprintf("a JWT of %s for %s, lives %s, scope %s", c.Issuer, seenList(of), life, seenList(strings.Fields(c.Scope))))
}

// useToken speaks MCP with a token. The token goes to the MCP server's own address and nowhere
// else.
func (d *doctor) useToken(ctx context.Context, token string) {
	if d.Token != "" {
		d.shape(token, nil)
	}
	header := toMCP()
	header.Set("Authorization", "Bearer "+token)
	header.Set("Accept-Encoding", "gzip")
	call := func(method, body string) (*answer, json.RawMessage) {
		a := d.ask(ctx, "POST", d.mcp.String(), header, body)
		if a.header.Get("Content-Encoding") != "" {
			d.note("stream", "the answer to "+method+" is compressed ("+a.header.Get("Content-Encoding")+")", "leave text/event-stream out of what is compressed (compress.excludedContentTypes)", d.page("docs/middlewares.md"))
			header.Del("Accept-Encoding")
			a = d.ask(ctx, "POST", d.mcp.String(), header, body)
		}
		var m struct {
			Result json.RawMessage `json:"result"`
		}
		if a.err != nil || a.status != http.StatusOK || json.Unmarshal(lastMessage(a), &m) != nil || len(m.Result) == 0 {
			f := d.explain(a)
			switch c := parseChallenge(a.header.Values("WWW-Authenticate")); {
			case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
				f = report.Finding{Fault: d.fault(report.Sidecar), Remedy: "the challenge says why: " + report.Printable(c.text, 300), Page: d.page("docs/troubleshooting.md#good-tokens-get-401-or-403")}
			case a.err == nil && a.status == http.StatusOK:
				f = report.Finding{Fault: report.Server, Remedy: "the MCP server answers with an error: see its log"}
			}
			f.Check, f.Expected, f.Seen, f.Breaks = "MCP "+method, "200 with a result", a.String(), []string{report.EveryClient}
			d.found(&f)
			return a, nil
		}
		return a, m.Result
	}
	a, result := call("initialize", initialize)
	if result == nil {
		return
	}
	var about struct {
		Protocol string `json:"protocolVersion"`
		Server   struct {
			Name string `json:"name"`
		} `json:"serverInfo"`
	}
	_ = json.Unmarshal(result, &about)
	d.good("MCP initialize", fmt.Sprintf("%s speaks %s", report.Printable(about.Server.Name, 60), report.Printable(about.Protocol, 20)))
	if id := a.header.Get("Mcp-Session-Id"); id != "" {
		header.Set("Mcp-Session-Id", id)
	}
	d.ask(ctx, "POST", d.mcp.String(), header, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if _, result = call("tools/list", listTools); result != nil {
		var list struct {
			Tools []struct {
				Name string `json:"name"`
			} `json:"tools"`
		}
		_ = json.Unmarshal(result, &list)
		d.good("MCP tools/list", fmt.Sprintf("%d tools", len(list.Tools)))
	}
	if d.Call != "" {
		body, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": map[string]any{"name": d.Call, "arguments": map[string]any{}}})
		header.Set("Mcp-Name", d.Call)
		header.Set("Mcp-Method", "tools/call")
		if _, result = call("tools/call", string(body)); result != nil {
			d.good("MCP tools/call", d.Call+" answered")
		}
		header.Del("Mcp-Name")
		header.Del("Mcp-Method")
	}
	d.eventStream(ctx, header)
	if header.Get("Mcp-Session-Id") != "" {
		d.ask(ctx, "DELETE", d.mcp.String(), header, "")
	}
}

// eventStream opens the stream that servers send messages by themselves on. Its headers have to
// come at once: what buffers keeps them until the stream ends.
func (d *doctor) eventStream(ctx context.Context, header http.Header) {
	header = header.Clone()
	header.Set("Accept", "text/event-stream")
	header.Del("Content-Type")
	began := time.Now()
	patient := d.Timeout
	d.Timeout = min(patient, 4*time.Second)
	a := d.ask(ctx, "GET", d.mcp.String(), header, "")
	d.Timeout = patient
	switch {
	case a.err == nil && isStream(a) && a.ended:
		d.note("event stream", fmt.Sprintf("opens after %d ms, and is closed after %d ms", a.at.Sub(began).Milliseconds(), time.Since(began).Milliseconds()),
			"clients open it again and again: see whether the MCP server closes it, or a proxy's time limit", d.page("docs/middlewares.md"))
	case a.err == nil && isStream(a):
		d.good("event stream", fmt.Sprintf("opens after %d ms", a.at.Sub(began).Milliseconds()))
	case a.err == nil && (a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound):
		d.good("event stream", fmt.Sprintf("%d: this server has none, which MCP allows", a.status))
	case a.err != nil:
		d.found(&report.Finding{Check: "event stream", Expected: "headers at once", Seen: a.err.Error(), Fault: d.fault(report.Traefik), Breaks: []string{report.EveryClient},
			Remedy: "a middleware or proxy holds the answer back (buffering, compress): take it off this route", Page: d.page("docs/middlewares.md")})
	default:
		d.note("event stream", a.String(), "", "")
	}
}

// refreshTwice refreshes, once and again with what that brought. A refresh token is never shown
// twice: at a server that rotates them that would end the login.
func (d *doctor) refreshTwice(ctx context.Context, l *login, t *tokens) *tokens {
	if t.Refresh == "" {
		return t
	}
	for _, step := range []string{"refresh", "second refresh"} {
		next, a := d.token(ctx, l, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}})
		if next == nil {
			d.loginFailed(step, a.String(), report.Finding{Expected: "200 with an access token"})
			return t
		}
		if next.Refresh == "" {
			next.Refresh = t.Refresh // RFC 6749 section 6: the old one stays
		}
		t = next
		header := toMCP()
		header.Set("Authorization", "Bearer "+t.Access)
		if a := d.ask(ctx, "POST", d.mcp.String(), header, initialize); a.err != nil || a.status != http.StatusOK {
			d.loginFailed(step, "the new token: "+a.String(), report.Finding{Expected: "200"})
			return t
		}
		d.good("login: "+step, "the new access token opens the server")
	}
	return t
}

// revoke ends what was begun. The revocation endpoint gets the refresh token only where the token
// endpoint is, too.
func (d *doctor) revoke(ctx context.Context, l *login, t *tokens) {
	switch {
	case d.server.Revocation == "":
		d.note("login: revocation", "there is no revocation endpoint: this login ends by itself", "", "")
		return
	case !sameOrigin(d.server.Revocation, d.server.Token):
		d.note("login: revocation", "on another origin than the token endpoint, so no token is sent there", "", "")
		return
	}
	token, hint := t.Refresh, "refresh_token"
	if token == "" {
		token, hint = t.Access, "access_token"
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	form := url.Values{"token": {token}, "token_type_hint": {hint}, "client_id": {l.ClientID}}
	if l.ClientSecret != "" {
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(l.ClientID)+":"+url.QueryEscape(l.ClientSecret))))
		form.Del("client_id")
	}
	a := d.ask(ctx, "POST", d.server.Revocation, header, form.Encode())
	if a.err != nil || a.status != http.StatusOK {
		d.note("login: revocation", a.String()+", not 200: the login goes on until it ends by itself", "", "")
		return
	}
	if t.Refresh != "" {
		if next, _ := d.token(ctx, l, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}}); next != nil {
			d.note("login: revocation", "answered 200, and the refresh token works all the same", "several replicas need one replay guard that they share", d.page("docs/replay.md"))
			return
		}
	}
	d.good("login: revocation", "the login is over")
}
