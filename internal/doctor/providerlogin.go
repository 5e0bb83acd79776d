package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// ProviderLogin is a person with a browser, who logs in where they are asked to.
type ProviderLogin struct {
	// Visit shows an address to open, and what the login is for.
	Visit func(why, address string)
	// Paste reads the address at which the browser ended, where the redirect URI is not of this
	// computer.
	Paste func(context.Context) (string, error)
	// Confirm asks before logins may end that were not begun here; nil: they may not.
	Confirm  func(ctx context.Context, question string) bool
	Patience time.Duration // how long one login may take; default 5 minutes
}

// upstreamLogin is one login at the provider, as the sidecar would keep it.
type upstreamLogin struct {
	seed   sealing.LoginSeed
	code   string
	who    provider.Person // with the newest refresh token
	answer *provider.Answer
	id     [16]byte
	over   bool // its refresh token is worth nothing any more
}

// visitor takes a person through logins. What it sees of them becomes lines, and never a code or a
// token.
type visitor struct {
	*examination
	*ProviderLogin
	at     *callback // nil: the answers are pasted
	facts  provider.Facts
	logins []*upstreamLogin
	labels []string // that this provider needs, as NAME=VALUE

	rotates   bool // each refresh gives another refresh token
	oneForAll bool // a login ends the one before
	gone      bool // no login came of it, and the person is asked for no other one
}

const (
	accessPage   = "docs/access.md"
	claimsPage   = "docs/access.md#rules"
	grantsPage   = "docs/access.md#what-the-provider-grants"
	refreshLabel = "docs/replay.md#the-label-refresh"
)

// withLogin does what needs a person. It ends the logins that it began, where the provider can do
// that.
func (e *examination) withLogin(ctx context.Context) {
	v := &visitor{examination: e, ProviderLogin: e.Login, facts: e.p.Facts()}
	if v.Patience <= 0 {
		v.Patience = patience
	}
	if u, err := url.Parse(e.Client.RedirectURI); err == nil && u.Scheme == "http" && isLoopback(u.Hostname()) {
		if v.at, err = listenAt(e.Client.RedirectURI); err != nil {
			e.note("login", "not tried: "+err.Error(), "the redirect URI is of this computer, and another program listens there", "")
			return
		}
		defer v.at.Close()
		e.Client.RedirectURI = v.at.redirect // with the port
	} else if v.Paste == nil {
		e.note("login", "not tried: "+errNotHere.Error()+", or be pasted", "--redirect-uri http://127.0.0.1:PORT/PATH, registered for the client", "")
		return
	}
	first := v.first(ctx)
	if first == nil {
		return
	}
	v.claims(ctx, first)
	refreshed := v.refreshes(ctx, first)
	if refreshed && !first.who.Unexpiring {
		v.otherMethod(ctx, first)
	}
	v.twice(ctx, first)
	if refreshed && v.rotates {
		v.reuse(ctx)
	}
	if refreshed {
		v.revoked(ctx)
	}
	v.end(ctx)
	v.suggest()
}

//go:noinline
func (v *visitor) label(text string) {
	if !slices.Contains(v.labels, text) {
		v.labels = append(v.labels, text)
	}
}

// amiss is a fault that somebody has to act on, and that a login gets past.
//
//go:noinline
func (v *visitor) amiss(check, expected, seen string, fault report.Fault, remedy, page string) {
	v.found(&report.Finding{Check: check, Expected: expected, Seen: seen, Fault: fault, Remedy: remedy, Page: page})
}

// authorize takes the person to a code. It has said why where there is none.
func (v *visitor) authorize(ctx context.Context, why string) *upstreamLogin {
	if v.gone {
		return nil
	}
	l := &upstreamLogin{seed: newSeed()}
	rand.Read(l.id[:]) // never fails
	ctx, cancel := context.WithTimeoutCause(ctx, v.Patience, errNobody)
	defer cancel()
	v.say("")
	address, state := v.p.AuthorizationURL(l.seed, provider.Wishes{}), l.seed.State()
	var back <-chan url.Values // nil: the answer is pasted
	if v.at != nil {
		back = v.at.await(state)
	}
	v.Visit(why, address)
	var answer url.Values
	var err error
	if back == nil {
		if address, err = v.Paste(ctx); err == nil {
			answer, err = pasted(address, state)
		}
	} else {
		v.say("waiting for the login in the browser: " + why)
		select {
		case answer = <-back:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	v.gone = err != nil || answer.Get("error") != ""
	switch {
	case err != nil && ctx.Err() != nil && context.Cause(ctx) != errNobody: // interrupted
		return nil
	case err != nil:
		v.note("login", err.Error(), "what the browser shows says more: the provider's own page, or an address that nobody registered", loginFails)
		return nil
	case answer.Get("error") != "" || v.p.CheckIss(answer) != nil:
		v.answered(answer, l.seed)
		return nil
	}
	if l.code = answer.Get("code"); l.code == "" || len(l.code) > provider.MaxValue {
		v.wrong("login", fmt.Sprintf("a code of at most %d characters", provider.MaxValue), fmt.Sprintf("one of %d", len(l.code)), report.Provider, "let the provider give shorter codes: ours carry them", loginFails)
		return nil
	}
	return l
}

var errNobody = errors.New("nobody came back in time")

// redeem is what the sidecar does with a code. What a provider gave is kept, whatever came of it:
// it is ended too.
func (v *visitor) redeem(ctx context.Context, l *upstreamLogin) error {
	v.say("the code at the token endpoint")
	err := l.redeem(ctx, v.p)
	if l.answer != nil {
		v.logins = append(v.logins, l)
	}
	return err
}

// redeem and refresh move a person, who is large: no copies of them are made.
//
//go:noinline
func (l *upstreamLogin) redeem(ctx context.Context, p *provider.Provider) (err error) {
	l.who, l.answer, err = p.Redeem(ctx, l.seed, l.code, nil)
	if err != nil && l.answer != nil {
		l.who.RefreshToken = l.answer.RefreshToken
	}
	return err
}

//go:noinline
func (l *upstreamLogin) refresh(ctx context.Context, p *provider.Provider) error {
	next, err := p.Refresh(ctx, l.id, l.who)
	if err == nil {
		l.who = next
	}
	return err
}

// first is the first login, whose answer is looked at. It has said why where there is none.
func (v *visitor) first(ctx context.Context) *upstreamLogin {
	l := v.authorize(ctx, "the first login")
	if l == nil {
		return nil
	}
	err := v.redeem(ctx, l)
	if errors.Is(err, provider.ErrOurFault) {
		err = v.byOtherMethod(ctx, l, err)
	}
	if l.answer != nil { // the token endpoint gave something
		v.tokenAnswer(l)
		if v.facts.OpenID {
			v.idToken(l)
		}
	}
	if err == nil {
		v.good("login", "the person came back, and the sidecar would begin a login")
		return l
	}
	fault, remedy := report.Provider, "every login is refused like this one: mend it at the provider"
	switch {
	case errors.Is(err, provider.ErrCode):
		remedy = "the provider gave this code a moment ago: see whether its token endpoint is of the same realm, and its machines share their codes"
	case errors.Is(err, provider.ErrOurFault):
		fault, remedy = report.Label, "check clientID and clientSecret, and the way in which the client is registered there (clientAuth)"
	case l.answer != nil && l.answer.RefreshToken == "" && v.p.RefreshMode() == "upstream":
		fault, remedy = report.Label, v.facts.NoRefreshToken
		v.noRefresh()
	case errors.Is(err, provider.ErrAway):
		remedy = "see the provider's log: the sidecar would answer 503"
	}
	v.wrong("login", "a login that the sidecar can use", err.Error(), fault, remedy, loginFails)
	v.gone = true
	v.end(ctx)
	v.suggest()
	return nil
}

// connectBy is the provider for a client that sends its secret so.
func (v *visitor) connectBy(ctx context.Context, method string) *provider.Provider {
	if method == "" {
		return nil
	}
	client := v.Client
	client.Auth = method
	p, err := v.all.Connect(ctx, &client)
	if err != nil {
		return nil
	}
	return p
}

// byOtherMethod redeems a code once more, with the client's secret where the provider may want it.
// A provider that refuses the client has not looked at the code, as a rule.
func (v *visitor) byOtherMethod(ctx context.Context, l *upstreamLogin, refusal error) error {
	method, before := v.other(), v.p
	p := v.connectBy(ctx, method)
	if p == nil {
		return refusal
	}
	v.p = p
	err := v.redeem(ctx, l)
	if errors.Is(err, provider.ErrCode) { // the refused client used it up
		if next := v.authorize(ctx, "once more, since the client was refused: now its secret is sent as client_secret_"+method); next != nil {
			*l = *next
			err = v.redeem(ctx, l)
		}
	}
	if l.answer == nil {
		v.p = before
		return refusal
	}
	v.wrong("client authentication", "the client is taken by client_secret_"+v.method(before), "it is refused, and client_secret_"+method+" brings tokens", report.Label, "set the label clientAuth="+method, "docs/configuration.md")
	v.label("clientAuth=" + method)
	v.Client.Auth = method
	return err
}

func (v *visitor) method(p *provider.Provider) string { return p.Facts().AuthMethod }

// other is the other way to send a secret; empty where none is sent.
func (v *visitor) other() string {
	switch v.method(v.p) {
	case "basic":
		return "post"
	case "post":
		return "basic"
	}
	return ""
}

//go:noinline
func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// withScope is the label scopes with one more.
func (v *visitor) withScope(scope string) string {
	return "scopes=" + strings.Join(v.Client.Scopes, " ") + " " + scope
}

// tokenAnswer says what the token endpoint answered, member by member (RFC 6749 section 5.1).
func (v *visitor) tokenAnswer(l *upstreamLogin) {
	const check = "token answer"
	members := v.members()
	if members == nil {
		v.note(check, "no JSON: the sidecar reads it all the same", "", "")
	} else {
		var all []string
		for _, name := range slices.Sorted(maps.Keys(members)) {
			all = append(all, outgoing.PlainText(name, 40)+" ("+kindOf(members[name])+")")
		}
		v.good(check, strings.Join(all, ", "))
	}
	v.scopeAnswer(l, members)
	switch length := len(l.answer.RefreshToken); {
	case v.p.RefreshMode() == "session":
		v.good("refresh token", "none is kept: refresh="+v.Client.Refresh+" means session here")
	case l.who.Unexpiring:
		v.good("refresh token", "none, and an access token that never expires: it is asked with at each check")
	case length == 0:
		v.note("refresh token", "none: logins live BOUNCER_SESSION_TTL, and who is removed there stays in so long", v.facts.NoRefreshToken+"; or set refresh=session", refreshLabel)
		v.noRefresh()
	case length > provider.MaxValue-maxPerson:
		v.note("refresh token", fmt.Sprintf("%d characters; with what is known of the person %d are carried, and without it logins live BOUNCER_SESSION_TTL", length, provider.MaxValue), "let the provider give shorter ones, or set refresh=session", "docs/limits.md")
		v.label("refresh=session")
	default:
		v.good("refresh token", fmt.Sprintf("%d characters; %d are carried with what is known of the person", length, provider.MaxValue))
	}
}

// maxPerson is what a person with an address, a name and some groups takes of what is carried.
const maxPerson = 512

// noRefresh suggests what gets a refresh token.
func (v *visitor) noRefresh() {
	if remedy := v.facts.NoRefreshToken; strings.Contains(remedy, "prompt=consent") {
		v.label("providerParameters=prompt=consent")
	} else if strings.Contains(remedy, "(offline_access)") {
		v.label(v.withScope("offline_access"))
	}
}

// members are those of the last answer of the token endpoint.
func (v *visitor) members() (all map[string]json.RawMessage) {
	_ = json.Unmarshal(v.wire.seen(v.facts.TokenEndpoint).body, &all)
	return all
}

// kindOf is the type of a JSON value. Of a number it shows the value, since none of a token answer
// is secret.
func kindOf(raw json.RawMessage) string {
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "null" || text == "":
		return "null"
	case text[0] == '"':
		return "string"
	case text[0] == '[':
		return "list"
	case text[0] == '{':
		return "object"
	case text == "true" || text == "false":
		return "boolean"
	}
	return outgoing.PlainText(text, 12)
}

// scopeAnswer compares what was granted with what was asked for.
func (v *visitor) scopeAnswer(l *upstreamLogin, members map[string]json.RawMessage) {
	const check = "granted scopes"
	seen, has := "the answer does not say: what the document lists counts as granted", v.p.Lists
	if !v.facts.OpenID {
		v.good(check, either(l.answer.Scope == nil, "the answer does not say", listed(strings.Fields(strings.ReplaceAll(scopeOf(l.answer), ",", " ")))))
		return
	}
	if l.answer.Scope != nil {
		granted := strings.Fields(*l.answer.Scope)
		seen, has = listed(granted), func(scope string) bool { return slices.Contains(granted, scope) }
		if kind := kindOf(members["scope"]); kind != "string" {
			v.note(check, "scope is a "+kind+", not a string: read as "+seen, "", grantsPage)
			return
		}
	} else if v.p.RefusesForeignScopes() {
		has = func(string) bool { return true }
	}
	var withheld []string
	for _, scope := range v.Client.Scopes {
		if scope != "openid" && scope != "offline_access" && !has(scope) {
			withheld = append(withheld, scope)
		}
	}
	if len(withheld) == 0 {
		v.good(check, seen)
		return
	}
	v.note(check, seen+"; withheld: "+listed(withheld), "let the client and the person have it there; or say by scopeRules who gets it, and take it out of the label scopes", grantsPage)
	v.label("scopeRules=… for " + listed(withheld))
}

func scopeOf(a *provider.Answer) string {
	if a.Scope == nil {
		return ""
	}
	return *a.Scope
}

// idToken shows what stands in the id_token. Whether it is accepted says the sidecar's own check.
func (v *visitor) idToken(l *upstreamLogin) {
	const check = "id_token"
	parts := strings.Split(l.answer.IDToken, ".")
	var header struct{ Alg, Kid, Enc string }
	var c struct {
		Issuer   string          `json:"iss"`
		Audience json.RawMessage `json:"aud"`
		Nonce    string          `json:"nonce"`
		Expires  float64         `json:"exp"`
		Issued   float64         `json:"iat"`
	}
	read := func(part string, into any) bool {
		text, err := base64.RawURLEncoding.DecodeString(part)
		return err == nil && json.Unmarshal(text, into) == nil
	}
	switch {
	case l.answer.IDToken == "":
		v.note(check, "none", "ask for the scope openid, and let the client there use OpenID Connect", loginFails)
		return
	case len(parts) == 5 && read(parts[0], &header):
		v.note(check, "encrypted ("+outgoing.PlainText(header.Alg+", "+header.Enc, 60)+"), which nobody here can read", "turn the encryption of id_tokens off for this client", loginFails)
		return
	case len(parts) != 3 || !read(parts[0], &header) || !read(parts[1], &c):
		v.note(check, "not one that can be read", "", loginFails)
		return
	}
	kid := "no kid"
	if header.Kid != "" {
		kid = fmt.Sprintf("kid %q", outgoing.PlainText(header.Kid, 40))
	}
	seen := fmt.Sprintf("%d characters, %s, %s, aud is a %s, iss is %s, nonce is %s", len(l.answer.IDToken), outgoing.PlainText(header.Alg, 12), kid, kindOf(c.Audience),
		either(c.Issuer == v.p.Issuer(), "the label's", fmt.Sprintf("%q", outgoing.PlainText(c.Issuer, 120))), either(c.Nonce == l.seed.Nonce(), "the one sent", "another, or missing"))
	if c.Expires > c.Issued && c.Issued > 0 {
		seen += fmt.Sprintf(", lives %s", time.Duration(c.Expires-c.Issued)*time.Second)
	}
	if strings.HasPrefix(header.Alg, "HS") || header.Alg == "none" {
		v.note(check, seen, "let the provider sign for this client by RS256 or ES256: a text that many know proves nothing", loginFails)
		return
	}
	v.good(check, seen)
}

// claims says which claims came, and whether those that rules need can be used.
func (v *visitor) claims(ctx context.Context, l *upstreamLogin) {
	v.say("userinfo")
	inToken, inUserinfo, err := v.p.Look(ctx, l.answer, l.who.Subject)
	if v.facts.OpenID {
		v.good("claims in the id_token", namesOf(inToken))
	}
	switch {
	case err != nil:
		v.note("claims at userinfo", err.Error(), "it is asked only for what rules need and the id_token lacks", claimsPage)
	case inUserinfo == nil:
		v.good("claims at userinfo", "the provider has no userinfo endpoint")
	default:
		v.good("claims at userinfo", namesOf(inUserinfo))
	}
	where := func(claim string) string {
		switch {
		case inToken[claim] != "" && inUserinfo[claim] != "":
			return "in the id_token and at userinfo"
		case inToken[claim] != "":
			return "in the id_token"
		case inUserinfo[claim] != "":
			return "at userinfo"
		}
		return ""
	}
	v.good("claim sub", fmt.Sprintf("%d characters", len(l.who.Subject)))
	needs, odd := v.Client.Needs, l.who.Said.Odd
	if needs.Email {
		v.email(l, where, odd)
	}
	if claim := needs.GroupsClaim; claim != "" {
		v.groups(l, claim, where, odd[claim], inToken, inUserinfo)
	}
	if needs.Name && l.who.Name == "" {
		v.note("claim name", "neither name nor preferred_username: the MCP server is told none", "add the scope profile to the label scopes, or a claim there", accessPage)
	} else if needs.Name {
		v.good("claim name", "there")
	}
}

// namesOf lists claims with their types, bounded.
func namesOf(types map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(types)) {
		_, kind, _ := strings.Cut(types[name], " ")
		all = append(all, outgoing.PlainText(name, 60)+" ("+kind+")")
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all[:min(len(all), 30)], ", ")
}

func (v *visitor) email(l *upstreamLogin, where func(string) string, odd map[string]string) {
	const check, expected = "claim email", "an address that the provider vouches for, since a rule looks at it"
	remedy, fault := "let the provider send email_verified: true for addresses that it has verified; or use allowedSubjects or allowedGroups", report.Provider
	seen := ""
	switch {
	case l.who.Email != "":
		v.good(check, "an address that the provider vouches for, "+where("email"))
		return
	case where("email") == "" && !v.facts.OpenID:
		seen, remedy = "no claim email", cmp.Or(l.who.Said.Hints["email"], "say by the label claimNames what the provider calls it; or use allowedSubjects or allowedGroups")
	case where("email") == "" && !slices.Contains(v.Client.Scopes, "email"):
		seen, remedy, fault = "no claim email", "add the scope email to the label scopes", report.Label
		v.label(v.withScope("email"))
	case where("email") == "":
		seen, remedy = "no claim email", "let the provider send email and email_verified to this client; or use allowedSubjects or allowedGroups"
	case odd["email"] != "":
		seen = "email is " + odd["email"]
	case odd["email_verified"] != "":
		seen = "email_verified is " + odd["email_verified"]
	case where("email_verified") == "":
		seen = "an address " + where("email") + ", and no email_verified: nobody vouches for it"
	default:
		seen, remedy = "email_verified says no: this person's address is not verified there", "verify the address at the provider, or use allowedSubjects or allowedGroups"
	}
	v.wrong(check, expected, seen, fault, remedy, claimsPage)
}

// groupClaims are where providers put groups, in the order in which they are suggested.
var groupClaims = [...]string{"groups", "roles", "cognito:groups", "groups_direct", "urn:zitadel:iam:org:project:roles"}

func (v *visitor) groups(l *upstreamLogin, claim string, where func(string) string, odd string, inToken, inUserinfo map[string]string) {
	check, expected := "claim "+claim, "names of groups, since a rule looks at them"
	switch {
	case !l.who.Said.Groups:
		remedy := cmp.Or(l.who.Said.Hints[claim], "let the provider send it to this client")
		other := ""
		for _, name := range groupClaims {
			if other == "" && where(name) != "" {
				other = name
			}
		}
		if v.p.Lists(claim) && !slices.Contains(v.Client.Scopes, claim) {
			remedy = "add the scope " + claim + " to the label scopes"
			v.label(v.withScope(claim))
		} else if other != "" {
			remedy = "it sends " + other + ": set the label groupsClaim=" + other
			v.label("groupsClaim=" + other)
		}
		v.wrong(check, expected, "no such claim for this person", report.Label, remedy, claimsPage)
	case odd != "":
		v.amiss(check, expected, where(claim)+": "+odd, report.Provider, "let the provider send a list of strings", claimsPage)
	case len(v.Client.Needs.Groups) > 0 && len(l.who.Groups) == 0:
		v.note(check, where(claim)+", and none of the groups that the rules name", "log in as a person who is in one; names are compared to the byte", claimsPage)
	default:
		v.good(check, where(claim)+": "+cmp.Or(inToken[claim], inUserinfo[claim]))
	}
}

// refresh is what the sidecar does when a check of a login is due.
func (v *visitor) refresh(ctx context.Context, l *upstreamLogin) error {
	err := l.refresh(ctx, v.p)
	l.over = err != nil
	return err
}

// refreshes refreshes twice. It says whether that can be done.
func (v *visitor) refreshes(ctx context.Context, l *upstreamLogin) bool {
	const check = "refresh"
	if l.who.RefreshToken == "" {
		return false
	}
	for range 2 {
		v.nextSecond(ctx, l)
		before := l.who.RefreshToken
		if err := v.refresh(ctx, l); err != nil {
			v.wrong(check, "the provider takes the refresh token that it gave", err.Error(), report.Provider, "let the client there use the grant refresh_token; or set refresh=session, and nobody is asked", refreshLabel)
			v.label("refresh=session")
			return false
		}
		v.rotates = v.rotates || l.who.RefreshToken != before
	}
	seen := "the provider gives the same refresh token again"
	if v.rotates {
		seen = "the provider gives a new refresh token each time"
	}
	if l.who.Unexpiring {
		v.good(check, "the provider takes the access token still, which stands in the place of a refresh token")
		return true
	}
	if _, again := v.members()["id_token"]; !v.facts.OpenID {
		// There is none.
	} else if again {
		seen += ", and an id_token"
	} else {
		seen += ", and no id_token"
	}
	if l.who.UnreadSince != 0 {
		v.wrong(check, "claims that can be read again at a refresh", seen+"; what it says of the person cannot be read", report.Provider, "see the checks of the id_token and of userinfo: logins end two hours after such a refresh", loginFails)
		return true
	}
	v.good(check, seen)
	if !v.rotates {
		v.note("used refresh token", "it is the newest too: a stolen one works until the login ends, and nobody notices", "turn on rotation there, or set BOUNCER_REPLAY_GUARD", replayPage+"#by-provider")
		v.label("BOUNCER_REPLAY_GUARD")
	}
	return true
}

// nextSecond waits where refresh tokens are JWTs, whose times are whole seconds: two of one second
// would be the same.
func (v *visitor) nextSecond(ctx context.Context, l *upstreamLogin) {
	if strings.Count(l.who.RefreshToken, ".") == 2 {
		v.say("waiting a second: refresh tokens of one second may be the same")
		_ = v.all.Wait(ctx, time.Second)
	}
}

// otherMethod refreshes by the way of client authentication that the sidecar would not use.
func (v *visitor) otherMethod(ctx context.Context, l *upstreamLogin) {
	method := v.other()
	p := v.connectBy(ctx, method)
	if p == nil || l.over {
		return
	}
	seen := "client_secret_" + v.method(v.p) + " is taken, and client_secret_" + method
	switch err := l.refresh(ctx, p); {
	case err == nil:
		v.good("client authentication", seen+" too")
	case errors.Is(err, provider.ErrOurFault):
		v.good("client authentication", seen+" refused: leave clientAuth="+v.Client.Auth)
	default:
		v.note("client authentication", seen+" not told apart: "+err.Error(), "", "")
	}
}

// revoked ends a login at the provider, and asks whether it is over.
func (v *visitor) revoked(ctx context.Context) {
	const check = "revoked login"
	if !v.p.RevokesOneLogin() {
		return
	}
	l := v.living(ctx, nil, "another login, to revoke it")
	if l == nil {
		return
	}
	if err := v.p.Revoke(ctx, l.who); err != nil {
		v.note(check, "the revocation endpoint: "+err.Error(), "a sign-out ends nothing there: set BOUNCER_REPLAY_GUARD, with which a revoked login ends here", replayPage)
		v.label("BOUNCER_REPLAY_GUARD")
		return
	}
	switch err := v.refresh(ctx, l); {
	case err == nil:
		v.amiss(check, "a refresh token that is revoked is refused", "the revocation endpoint answered 200, and the refresh token works on", report.Provider, "set BOUNCER_REPLAY_GUARD, with which a revoked login ends here", replayPage)
		v.label("BOUNCER_REPLAY_GUARD")
	case errors.Is(err, provider.ErrEnded):
		v.good(check, "the refresh token is refused")
	default:
		v.note(check, "the refresh token is refused in words that are not clear: "+err.Error(), "the sidecar bridges two hours of that", replayPage)
	}
}

// suggest says which labels this provider needs, beside those that name it.
func (v *visitor) suggest() {
	seen := "for this provider: " + strings.Join(v.labels, "; ")
	if len(v.labels) == 0 {
		seen = "nothing to set but providerIssuer, clientID, clientSecret and who may come in"
	}
	switch {
	case v.gone:
		v.note("labels", "not all was looked at; so far "+seen, "", "")
	case len(v.labels) == 0:
		v.good("labels", seen)
	default:
		v.note("labels", seen, "see the lines above for each", "docs/configuration.md")
	}
}
