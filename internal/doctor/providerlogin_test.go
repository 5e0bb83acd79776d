package doctor_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// personAt opens each address that doctor shows, as a person does who is signed in at the provider.
func personAt(t *testing.T, idp *issuertest.Provider) *doctor.ProviderLogin {
	client := &http.Client{Transport: idp.Transport}
	yes := func(context.Context, string) bool { return true }
	return &doctor.ProviderLogin{Patience: 5 * time.Second, Confirm: yes, Visit: func(_, address string) {
		resp, err := client.Get(address)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}}
}

// allClaims makes id_tokens that say everything of a person.
func allClaims(c map[string]any) {
	c["email_verified"], c["name"], c["groups"] = true, "Pat", []string{"admins"}
}

// kind is a provider of which nothing is to be said.
func kind() issuertest.Behaviour {
	return issuertest.Behaviour{
		Revocation: true, KillOnReuse: true, Leeway: time.Minute, Claims: allClaims, UserInfo: map[string]any{"sub": "*", "email": "person@example.com"},
		Discovery: map[string]any{"scopes_supported": []string{"openid", "email", "groups", "offline_access"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"}},
	}
}

// logInAt runs doctor with a login at a provider that behaves so.
func logInAt(t *testing.T, b issuertest.Behaviour, change func(*issuertest.Provider, *doctor.ProviderOptions)) (string, *report.Report, *issuertest.Provider) {
	t.Helper()
	idp := issuertest.NewProvider(t, nil)
	idp.Be(b)
	needs := provider.Needs{Email: true, GroupsClaim: "groups", Name: true}
	o := doctor.ProviderOptions{Timeout: 5 * time.Second, Login: personAt(t, idp), Client: provider.Client{
		Issuer: idp.Issuer, ID: idp.ClientID, Secret: idp.Secret, Auth: "auto", RedirectURI: "http://127.0.0.1/callback", Scopes: []string{"openid", "email"}, Refresh: "auto",
		Needs: needs, RuleNeeds: needs,
	}}
	if change != nil {
		change(idp, &o)
	}
	r := doctor.RunProvider(context.Background(), o)
	var text, asJSON strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&asJSON); err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(idp.Secrets(), idp.Secret) {
		if strings.Contains(text.String()+asJSON.String(), secret) {
			t.Errorf("the report holds %q:\n%s", secret, text.String())
		}
	}
	return text.String(), r, idp
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line) {
			t.Errorf("no line\n%s\nin\n%s", line, text)
		}
	}
}

func TestDoctorsLoginAtAGoodProviderFindsNothing(t *testing.T) {
	t.Parallel()
	text, r, _ := logInAt(t, kind(), nil)
	if r.Status() != report.StatusGood {
		t.Errorf("status %d:\n%s", r.Status(), text)
	}
	wantLines(t, text,
		"ok    token answer: seen access_token (string), expires_in (3600), id_token (string), refresh_token (string), token_type (string)",
		"ok    granted scopes: ", "ok    refresh token: seen 43 characters; 4096 are carried",
		`RS256, kid "provider-key", aud is a string, iss is the label's, nonce is the one sent, lives 1h0m0s`,
		"ok    login: seen the person came back", "ok    claims in the id_token: seen aud (string), email (string), email_verified (boolean)", "ok    claims at userinfo: seen email (string), sub (string)",
		"ok    claim sub: seen 8 characters", "ok    claim email: seen an address that the provider vouches for, in the id_token", "ok    claim groups: seen in the id_token: a list", "ok    claim name: ",
		"ok    refresh: seen the provider gives a new refresh token each time, and an id_token",
		"ok    client authentication: seen client_secret_basic is taken, and client_secret_post too",
		"ok    second login: seen the first one goes on", "ok    used code: seen refused; the first login goes on", "ok    wrong verifier: seen refused, and the code stays good for its owner",
		"ok    code twice at once: seen one of two is given tokens; the login goes on", "ok    lost answer: seen the sidecar asks again, and the login goes on",
		"ok    used refresh token: seen refused; the newest is over: thief and owner are out", "ok    other logins: seen another login of this person goes on",
		"ok    revoked login: seen the refresh token is refused", "ok    labels: seen nothing to set but")
	if strings.Contains(text, "person@example.com") || strings.Contains(text, "admins") {
		t.Errorf("the report says who logged in:\n%s", text)
	}
}

func TestDoctorsLoginNamesWhatAProviderDoesAmiss(t *testing.T) {
	t.Parallel()
	with := func(change func(*issuertest.Behaviour)) issuertest.Behaviour {
		b := kind()
		change(&b)
		return b
	}
	claim := func(name string, v any) issuertest.Behaviour {
		return with(func(b *issuertest.Behaviour) {
			b.Claims = func(c map[string]any) {
				allClaims(c)
				if c[name] = v; v == nil {
					delete(c, name)
				}
			}
		})
	}
	text := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		how    issuertest.Behaviour
		change func(*issuertest.Provider, *doctor.ProviderOptions)
		want   []string
	}{
		"registered for post": {with(func(b *issuertest.Behaviour) { b.AcceptOnly = "post" }), nil, []string{
			"WRONG client authentication: expected the client is taken by client_secret_basic; seen it is refused, and client_secret_post brings tokens; fault: label; breaks: every client; remedy: set the label clientAuth=post", "note  labels: seen for this provider: clientAuth=post", "ok    login: "}},
		"registered for basic": {with(func(b *issuertest.Behaviour) { b.AcceptOnly = "basic" }), nil, []string{"ok    client authentication: seen client_secret_basic is taken, and client_secret_post refused: leave clientAuth=auto"}},
		"wrong secret":         {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Secret = "wrong" }, []string{"WRONG login: expected a login that the sidecar can use; seen the provider answered 401 invalid_client", "fault: label"}},
		"error":                {with(func(b *issuertest.Behaviour) { b.AuthError = "access_denied" }), nil, []string{"WRONG authorization: expected the provider's sign-in page; seen the provider answered access_denied"}},
		"iss of another":       {with(func(b *issuertest.Behaviour) { b.Iss = text("https://id.example.com/") }), nil, []string{`WRONG iss: expected http://ISSUER; seen "https://id.example.com/"; fault: provider`}},
		"a code too long":      {with(func(b *issuertest.Behaviour) { b.CodeLength = 4097 }), nil, []string{"WRONG login: expected a code of at most 4096 characters; seen one of 4097; fault: provider"}},
		"a code of no worth":   {with(func(b *issuertest.Behaviour) { b.Status, b.Error, b.Echo = 400, "invalid_grant", true }), nil, []string{"WRONG login: expected a login that the sidecar can use; seen the provider answered 400 invalid_grant", "the provider gave this code a moment ago"}},
		"an outage":            {with(func(b *issuertest.Behaviour) { b.Status, b.Error = 503, "temporarily_unavailable" }), nil, []string{"WRONG login: expected a login that the sidecar can use; seen the provider answered 503", "the sidecar would answer 503"}},
		"no id_token":          {with(func(b *issuertest.Behaviour) { b.OmitIDToken = true }), nil, []string{"note  id_token: seen none; remedy: ask for the scope openid", "WRONG login: expected a login that the sidecar can use; seen the provider sent no id_token"}},
		"HS256":                {with(func(b *issuertest.Behaviour) { b.Alg = "HS256" }), nil, []string{"characters, HS256, ", "let the provider sign for this client by RS256 or ES256", "WRONG login: "}},
		"encrypted":            {with(func(b *issuertest.Behaviour) { b.Encrypted = true }), nil, []string{"note  id_token: seen encrypted (RSA-OAEP, A128GCM)", "turn the encryption of id_tokens off", "WRONG login: "}},
		"garbage":              {with(func(b *issuertest.Behaviour) { b.IDToken = "x.y.z" }), nil, []string{"note  id_token: seen not one that can be read", "WRONG login: "}},
		"another's nonce":      {claim("nonce", "of-another"), nil, []string{"nonce is another, or missing", "WRONG login: expected a login that the sidecar can use; seen nonce of the id_token is not the one sent"}},
		"another's aud":        {claim("aud", []string{"other"}), nil, []string{"aud is a list", "WRONG login: expected a login that the sidecar can use; seen id_token: aud does not name this client"}},
		"no kid":               {with(func(b *issuertest.Behaviour) { b.OmitKeyID = true }), nil, []string{"RS256, no kid,", "ok    login: "}},
		"somebody's key":       {with(func(b *issuertest.Behaviour) { b.WrongKey = true }), nil, []string{"WRONG login: expected a login that the sidecar can use; seen id_token: "}},
		"form encoded": {with(func(b *issuertest.Behaviour) {
			b.Body, b.BodyType = "access_token=upstream-access-x&token_type=bearer", "application/x-www-form-urlencoded"
		}), nil, []string{"note  token answer: seen no JSON", "WRONG login: "}},
		"scopes as a list": {with(func(b *issuertest.Behaviour) { b.Answer = map[string]any{"scope": []string{"openid", "email"}} }), nil, []string{"note  granted scopes: seen scope is a list, not a string: read as openid email"}},
		"a scope withheld": {with(func(b *issuertest.Behaviour) { b.Scope = text("openid") }), nil, []string{"note  granted scopes: seen openid; withheld: email", "labels: seen for this provider: scopeRules=… for email"}},
		"a scope not spoken of": {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) {
			o.Client.Scopes = append(o.Client.Scopes, "wiki:admin")
		}, []string{"note  granted scopes: seen the answer does not say: what the document lists counts as granted; withheld: wiki:admin"}},
		"no refresh token":             {with(func(b *issuertest.Behaviour) { b.Refresh = "none" }), nil, []string{"note  refresh token: seen none: logins live BOUNCER_SESSION_TTL", "providerParameters to prompt=consent", "labels: seen for this provider: providerParameters=prompt=consent"}},
		"no refresh token, not listed": {with(func(b *issuertest.Behaviour) { b.Refresh, b.Discovery = "none", nil }), nil, []string{"note  refresh token: seen none", "scopes=openid email offline_access"}},
		"no refresh token, upstream": {with(func(b *issuertest.Behaviour) { b.Refresh = "none" }), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Refresh = "upstream" },
			[]string{"WRONG login: expected a login that the sidecar can use; seen the label refresh=upstream wants a refresh token", "fault: label", "providerParameters=prompt=consent"}},
		"a long refresh token":          {with(func(b *issuertest.Behaviour) { b.RefreshLength = 4090 }), nil, []string{"note  refresh token: seen 4090 characters; ", "or set refresh=session (docs/limits.md)"}},
		"session":                       {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Refresh = "session" }, []string{"ok    refresh token: seen none is kept: refresh=session means session here", "ok    used code: seen refused; the first login: not seen without a refresh token"}},
		"the same refresh token":        {with(func(b *issuertest.Behaviour) { b.Refresh = "static" }), nil, []string{"ok    refresh: seen the provider gives the same refresh token again", "note  used refresh token: seen it is the newest too: a stolen one works", "BOUNCER_REPLAY_GUARD"}},
		"a refresh refused":             {with(func(b *issuertest.Behaviour) { b.RefreshStatus, b.RefreshError = 400, "unauthorized_client" }), nil, []string{"WRONG refresh: expected the provider takes the refresh token that it gave; seen the provider answered 400 unauthorized_client", "refresh=session"}},
		"no id_token at refresh":        {with(func(b *issuertest.Behaviour) { b.OmitNewIDToken = true }), nil, []string{"each time, and no id_token"}},
		"another's id_token at refresh": {with(func(b *issuertest.Behaviour) { b.SubOnRefresh = "person-2" }), nil, []string{"WRONG refresh: ", "sub of the refreshed id_token is another person's"}},
		"no email": {claim("email", nil), func(idp *issuertest.Provider, _ *doctor.ProviderOptions) {
			b := claim("email", nil)
			b.UserInfo = map[string]any{"sub": "*"}
			idp.Be(b)
		}, []string{"WRONG claim email: expected an address that the provider vouches for, since a rule looks at it; seen no claim email; fault: provider; breaks: every client; remedy: let the provider send email and email_verified"}},
		"no email, not asked for": {claim("email", nil), func(idp *issuertest.Provider, o *doctor.ProviderOptions) {
			b := claim("email", nil)
			b.UserInfo = map[string]any{"sub": "*"}
			idp.Be(b)
			o.Client.Scopes = []string{"openid"}
		}, []string{"seen no claim email; fault: label; breaks: every client; remedy: add the scope email to the label scopes", "scopes=openid email"}},
		"a refused client uses the code up": {with(func(b *issuertest.Behaviour) { b.AcceptOnly, b.BurnOnWrongClient = "post", true }), nil, []string{
			"WRONG client authentication: expected the client is taken by client_secret_basic; seen it is refused, and client_secret_post brings tokens", "clientAuth=post", "ok    login: "}},
		"nobody vouches":        {claim("email_verified", nil), nil, []string{"WRONG claim email: ", "seen an address in the id_token and at userinfo, and no email_verified: nobody vouches for it; fault: provider"}},
		"not verified":          {claim("email_verified", false), nil, []string{"WRONG claim email: ", "seen email_verified says no"}},
		"verified by a number":  {claim("email_verified", 1), nil, []string{"seen email_verified is a number that says neither yes nor no"}},
		"an address of no form": {claim("email", "person"), nil, []string{"seen email is a string that is no address"}},
		"at userinfo": {claim("email_verified", nil), func(idp *issuertest.Provider, _ *doctor.ProviderOptions) {
			b := claim("email_verified", nil)
			b.UserInfo = map[string]any{"sub": "*", "email": "person@example.com", "email_verified": "true"}
			idp.Be(b)
		}, []string{"ok    claim email: seen an address that the provider vouches for, in the id_token and at userinfo"}},
		"userinfo is away":        {with(func(b *issuertest.Behaviour) { b.UserInfoStatus = 403 }), nil, []string{"note  claims at userinfo: seen userinfo: the provider answered 403"}},
		"no groups":               {claim("groups", nil), nil, []string{"WRONG claim groups: expected names of groups, since a rule looks at them; seen no such claim for this person; fault: label; breaks: every client; remedy: add the scope groups to the label scopes", "scopes=openid email groups"}},
		"no groups, not listed":   {claim("groups", nil), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Needs.GroupsClaim = "teams" }, []string{"WRONG claim teams: ", "remedy: let the provider send it to this client"}},
		"groups elsewhere":        {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Needs.GroupsClaim = "roles" }, []string{"WRONG claim roles: ", "remedy: it sends groups: set the label groupsClaim=groups", "labels: seen for this provider: groupsClaim=groups"}},
		"groups in one string":    {claim("groups", "a,b"), nil, []string{"WRONG claim groups: ", "seen in the id_token: one string with commas in it, which is read as one name; fault: provider"}},
		"another's groups":        {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Needs.Groups = []string{"staff"} }, []string{"note  claim groups: seen in the id_token, and none of the groups that the rules name"}},
		"no name":                 {claim("name", nil), nil, []string{"note  claim name: seen neither name nor preferred_username"}},
		"revocation breaks":       {with(func(b *issuertest.Behaviour) { b.RevokeStatus = 503 }), nil, []string{"note  revoked login: seen the revocation endpoint: the provider answered 503"}},
		"revocation does nothing": {with(func(b *issuertest.Behaviour) { b.RevokeStatus = 200 }), nil, []string{"WRONG revoked login: expected a refresh token that is revoked is refused; seen the revocation endpoint answered 200, and the refresh token works on; fault: provider"}},
		"revoked in odd words":    {with(func(b *issuertest.Behaviour) { b.Refusal = "gone_away" }), nil, []string{"note  revoked login: seen the refresh token is refused in words that are not clear: the provider answered 400 gone_away"}},
		"nobody comes back": {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) {
			o.Login.Patience, o.Login.Visit = 50*time.Millisecond, func(_, _ string) {}
		}, []string{"note  login: seen nobody came back in time"}},
		"no way back": {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.RedirectURI = tenantsRedirectURI }, []string{"note  login: seen not tried: the answer has to come to this computer, or be pasted"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, r, idp := logInAt(t, c.how, c.change)
			wantLines(t, strings.ReplaceAll(text, strings.TrimPrefix(idp.Issuer, "http://"), "ISSUER"), c.want...)
			if want := strings.Contains(text, "WRONG "); want != (r.Status() == report.StatusFound) {
				t.Errorf("status %d:\n%s", r.Status(), text)
			}
		})
	}
}

// Where the redirect URI is the tenant's, the person pastes the address at which the browser ends.
func TestDoctorTakesAPastedAnswer(t *testing.T) {
	t.Parallel()
	run := func(change func(string) string) string {
		text, _, _ := logInAt(t, kind(), func(idp *issuertest.Provider, o *doctor.ProviderOptions) {
			o.Client.RedirectURI = tenantsRedirectURI
			var ended string
			o.Login.Visit = func(_, address string) {
				client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
				resp, err := client.Get(address)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				ended = resp.Header.Get("Location")
			}
			o.Login.Paste = func(context.Context) (string, error) { return change(ended), nil }
		})
		return text
	}
	wantLines(t, run(func(s string) string { return " " + s + "#fragment\r" }), "ok    login: seen the person came back")
	wantLines(t, run(func(s string) string { return s + "&iss=https%3A%2F%2Fid.example.com" }), `WRONG iss: expected http://127.0.0.1`, `seen "https://id.example.com"; fault: provider`)
	wantLines(t, run(func(string) string { return "https://mcp.localhost/wiki" }), "note  login: seen that is not the address of an answer")
	wantLines(t, run(func(string) string { return tenantsRedirectURI + "?code=x&state=y" }), "note  login: seen that is the answer of another login")
}

// What comes twice: each line that the good provider does not have, at one that does so.
func TestDoctorsLoginNamesWhatComesTwice(t *testing.T) {
	t.Parallel()
	with := func(change func(*issuertest.Behaviour)) issuertest.Behaviour {
		b := kind()
		change(&b)
		return b
	}
	atLogin := func(number int, b issuertest.Behaviour) func(*issuertest.Provider, *doctor.ProviderOptions) {
		return func(idp *issuertest.Provider, o *doctor.ProviderOptions) {
			visit, n := o.Login.Visit, 0
			o.Login.Visit = func(why, address string) {
				visit(why, address)
				if n++; n == number {
					idp.Be(b)
				}
			}
		}
	}
	noLeeway := with(func(b *issuertest.Behaviour) { b.Leeway = 0 })
	for name, c := range map[string]struct {
		how    issuertest.Behaviour
		change func(*issuertest.Provider, *doctor.ProviderOptions)
		want   []string
	}{
		"one refresh token for all": {with(func(b *issuertest.Behaviour) { b.Dex = true }), func(_ *issuertest.Provider, o *doctor.ProviderOptions) { o.Client.Refresh = "upstream" },
			[]string{"WRONG second login: expected the first one goes on; seen it ends the first one: the provider answered 400 invalid_request", "fault: label; remedy: set refresh=session", "ok    lost answer: ", "labels: seen for this provider: refresh=session"}},
		"the second login fails": {kind(), atLogin(2, with(func(b *issuertest.Behaviour) { b.OmitIDToken = true })), []string{"WRONG second login: expected a login like the first; seen the provider sent no id_token; fault: provider"}},
		"a code again": {with(func(b *issuertest.Behaviour) { b.CodeReuse = "allowed" }), nil,
			[]string{"WRONG used code: expected a code that was used is refused; seen tokens again; the first login goes on; fault: provider", "WRONG code twice at once: expected one of two is given tokens; seen both are; fault: provider", "labels: seen for this provider: BOUNCER_REPLAY_GUARD"}},
		"a code again ends a login": {with(func(b *issuertest.Behaviour) { b.CodeReuseEnds = true }), nil,
			[]string{"note  used code: seen refused; the first login is over; remedy: a client that repeats its request", "note  code twice at once: seen one of two is given tokens; the login is over", "ok    other logins: "}},
		"a code refused as the client": {with(func(b *issuertest.Behaviour) { b.CodeReuse = "unauthorized_client" }), nil, []string{"note  used code: seen refused, in words that are not known for that: the provider answered 400 unauthorized_client", "; the first login goes on"}},
		"an outage at the code":        {kind(), atLogin(3, with(func(b *issuertest.Behaviour) { b.Status, b.Error = 503, "temporarily_unavailable" })), []string{"note  wrong verifier: seen not told apart: the provider answered 503"}},
		"both refused": {kind(), atLogin(3, with(func(b *issuertest.Behaviour) { b.Status, b.Error = 400, "invalid_grant" })),
			[]string{"ok    wrong verifier: seen refused, and the code is used up", "note  code twice at once: seen both are refused"}},
		"any verifier": {with(func(b *issuertest.Behaviour) { b.IgnoreProof = true }), nil, []string{"note  wrong verifier: seen the provider takes it: a code that is stolen", "ok    code twice at once: "}},
		"any verifier, though it lists S256": {with(func(b *issuertest.Behaviour) {
			b.IgnoreProof, b.Discovery["code_challenge_methods_supported"] = true, []string{"S256"}
		}), nil,
			[]string{"WRONG wrong verifier: expected the code is refused, since the provider lists S256; seen the provider takes it"}},
		"a wrong verifier uses up":        {with(func(b *issuertest.Behaviour) { b.BurnOnWrongProof = true }), nil, []string{"ok    wrong verifier: seen refused, and the code is used up", "ok    code twice at once: seen one of two"}},
		"no leeway":                       {noLeeway, nil, []string{"note  lost answer: seen the login is over: asked again, the provider answered 400 invalid_grant", "leeway, grace period, reuse interval", "ok    used refresh token: seen refused; the newest is over: thief and owner are out"}},
		"only the used one ends":          {with(func(b *issuertest.Behaviour) { b.KillOnReuse = false }), nil, []string{"ok    used refresh token: seen refused; the newest goes on"}},
		"only the used one ends, at once": {with(func(b *issuertest.Behaviour) { b.KillOnReuse, b.Leeway = false, 0 }), nil, []string{"note  lost answer: seen the login is over", "ok    used refresh token: seen refused; the newest goes on"}},
		"refresh tokens of one second":    {with(func(b *issuertest.Behaviour) { b.RefreshSeconds = true }), nil, []string{"ok    refresh: seen the provider gives a new refresh token each time", "ok    used refresh token: seen refused; the newest is over"}},
		"refused in odd words":            {with(func(b *issuertest.Behaviour) { b.Refusal = "gone_away" }), nil, []string{"used refresh token: seen refused in words that are not clear (the provider answered 400 gone_away"}},
		"old ones stay good":              {with(func(b *issuertest.Behaviour) { b.Refresh = "keeps" }), nil, []string{"note  used refresh token: seen taken; the newest goes on: a stolen one works", "BOUNCER_REPLAY_GUARD"}},
		"reuse ends all":                  {with(func(b *issuertest.Behaviour) { b.KillPerson, b.Leeway = true, 0 }), nil, []string{"note  other logins: seen another login of this person is over: one refresh token that comes twice", "BOUNCER_REPLAY_GUARD with one store for all replicas"}},
		"reuse ends all, and that is known": {with(func(b *issuertest.Behaviour) {
			b.KillPerson, b.Leeway, b.Endpoints = true, 0, issuertest.Manners["better-auth 1.7"].Endpoints
		}), nil,
			[]string{"note  lost answer: seen the login is over: the provider's answer was lost, and to ask it again would end all logins", "note  other logins: "}},
		"no permission": {kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) {
			o.Login.Confirm = func(context.Context, string) bool { return false }
		}, []string{"note  used refresh token: seen not tried", "ok    revoked login"}},
		"nothing to revoke with": {with(func(b *issuertest.Behaviour) { b.Revocation = false }), nil, []string{"note  logins left: seen "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, r, _ := logInAt(t, c.how, c.change)
			wantLines(t, text, c.want...)
			if want := strings.Contains(text, "WRONG "); want != (r.Status() == report.StatusFound) {
				t.Errorf("status %d:\n%s", r.Status(), text)
			}
		})
	}
}

// Who does not come back from a login is not waited for again, and what was begun is ended.
func TestDoctorsLoginWaitsOnceForWhoDoesNotComeBack(t *testing.T) {
	t.Parallel()
	logins := 0
	text, r, idp := logInAt(t, kind(), func(_ *issuertest.Provider, o *doctor.ProviderOptions) {
		visit := o.Login.Visit
		o.Login.Patience = 300 * time.Millisecond
		o.Login.Visit = func(why, address string) {
			if logins++; logins == 1 {
				visit(why, address)
			}
		}
	})
	wantLines(t, text, "note  login: seen nobody came back in time", "ok    used refresh token: ", "note  labels: seen not all was looked at; so far nothing to set but")
	if logins != 2 || r.Status() != report.StatusGood || idp.Living() != 0 {
		t.Errorf("%d logins, %d left, status %d:\n%s", logins, idp.Living(), r.Status(), text)
	}
}

// Without permission no refresh token is presented twice, and what was begun is ended at the
// provider. One that was refused is not presented again either: at some providers that would end
// all logins of the person.
func TestDoctorsLoginEndsWhatItBeganAndNoMore(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*issuertest.Behaviour){
		"good": func(*issuertest.Behaviour) {}, "a used code ends its login": func(b *issuertest.Behaviour) { b.CodeReuseEnds = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := kind()
			change(&b)
			asked := ""
			_, _, idp := logInAt(t, b, func(_ *issuertest.Provider, o *doctor.ProviderOptions) {
				o.Login.Confirm = func(_ context.Context, question string) bool { asked = question; return false }
			})
			if !strings.Contains(asked, "end all logins of this person at this client, also those of MCP programs") {
				t.Errorf("asked %q", asked)
			}
			seen := map[string]bool{}
			for _, token := range append(idp.RefreshTokens(), idp.Revoked()...) {
				// The one that was revoked is presented once more, to see that it is over.
				if seen[token] && token != idp.Revoked()[0] {
					t.Error("a refresh token came twice")
				}
				seen[token] = true
			}
			if n := idp.Living(); n != 0 || len(seen) < 4 {
				t.Errorf("%d logins are left, of %d refresh tokens", n, len(seen))
			}
		})
	}
}
