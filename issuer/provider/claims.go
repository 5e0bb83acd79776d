package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/oauth2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// claims are what a provider said of a person, in an id_token or at its userinfo endpoint (OpenID
// Connect Core §5.1).
//
// Providers send claims in other types than the specification's, so one rule holds for all of them:
//   - A claim that nobody needs is not looked at.
//   - A claim that is needed and can mean one thing only is understood (email_verified: "TRUE").
//   - A claim that is needed and not understood counts as not said. The refusal that follows names
//     the claim and the type that came, never its value.
//   - A claim that is null was not sent, so that userinfo is asked for it.
//   - A claim that restricts an id_token (azp, nbf) is needed when it was sent.
type claims map[string]any

// Person is what a provider said of somebody, and the token to ask it again with.
type Person struct {
	Subject      string
	RefreshToken string // empty: nobody can be asked again
	Unexpiring   bool   // RefreshToken is an access token that never expires, in place of one
	CheckedAt    int64  // Unix seconds of the provider's last word

	// What the labels need of the claims, and nothing else (Needs).
	Email        string // only one that the provider vouches for
	HostedDomain string // Google's hd
	Name         string
	Groups       []string
	// Needs are the marks of the needs that these were read for.
	Needs []byte

	// How and when the person signed in at the provider (OpenID Connect Core §2), for clients with
	// SignIn: acr, and auth_time in Unix seconds. Empty and 0: it did not say. A refresh changes
	// neither.
	ACR      string
	AuthTime int64

	// UnreadSince is in Unix seconds: since then the provider accepts the refresh token and what it
	// says of the person cannot be read. 0: it can be read.
	UnreadSince int64

	// Unsaid is the caller's: scopes that the provider did not say it granted. A refresh keeps it
	// until the provider says what it grants.
	Unsaid string

	// Upstream is what the MCP server gets; without UpstreamToken it is empty.
	Upstream AccessToken

	Said Said
}

// Said is what the provider has just said, for the words of a refusal. It is not kept.
type Said struct {
	Claims []string // the names of all claims, sorted; nil if nobody was asked
	Groups bool     // Needs.GroupsClaim was among them
	// Odd maps a claim to what came in it, where that is not understood.
	Odd map[string]string
	// Hints map a claim to what keeps this provider from saying it, or all of it.
	Hints map[string]string
	// Scope is the scope that was granted; nil if the provider did not say (RFC 6749 §5.1).
	Scope *string
	// UpstreamScope is the same of the access token for the MCP server.
	UpstreamScope *string
}

// size returns how many characters the claims of a person take, beside the refresh token.
func (who Person) size() int {
	return len(who.Email) + len(who.HostedDomain) + len(who.Name) + len(strings.Join(who.Groups, "---")) + len(who.Needs) + len(who.Unsaid) + len(who.ACR)
}

// Needs are the claims that the labels of a tenant use. No other is read, sealed or handed on.
type Needs struct {
	Email, Name bool
	GroupsClaim string   // empty: groups decide nothing here
	Groups      []string // those that rules name
	AllGroups   bool     // the MCP server is told of all
}

// markSize is in bytes. If two needs have one mark, the second counts as read; a person who has it
// is then refused until the provider is next asked.
const markSize = 4

var encoding = must(cbor.CoreDetEncOptions().EncMode())

// Marks are kept beside what was read: a hash of each need, cut short.
func (n Needs) Marks() []byte {
	var all []byte
	mark := func(need ...string) {
		sum := sha256.Sum256(must(encoding.Marshal(need)))
		all = append(all, sum[:markSize]...)
	}
	if n.Email {
		mark("email")
	}
	if n.Name {
		mark("name")
	}
	if n.AllGroups {
		mark("groups", n.GroupsClaim)
	}
	// The marks must stay small: many groups have one mark, so that each change of them is another
	// need.
	if len(n.Groups) > MaxGroups {
		mark(append([]string{"these groups", n.GroupsClaim}, n.Groups...)...)
		return all
	}
	for _, group := range n.Groups {
		mark("group", n.GroupsClaim, group)
	}
	return all
}

// Within says whether all that is needed is among the marks of what was read. Labels that need less
// than before end no login.
func (n Needs) Within(read []byte) bool {
	had := slices.Collect(slices.Chunk(read, markSize))
	for need := range slices.Chunk(n.Marks(), markSize) {
		if !slices.ContainsFunc(had, func(mark []byte) bool { return bytes.Equal(mark, need) }) {
			return false
		}
	}
	return true
}

const (
	maxEmail      = 254  // RFC 5321 §4.5.3.1.3, less the angle brackets
	maxGroupBytes = 1024 // of all groups: they travel in every request to the MCP server
)

// MaxGroups is how many groups of a person are carried.
const MaxGroups = 64

// learn makes a Person of what the provider said. Userinfo is asked once, and only for what the
// labels need and the id_token lacks.
func (p *Provider) learn(ctx context.Context, token *oauth2.Token, said idToken) (Person, error) {
	if !p.client.Needs.lacks(said.claims) || said.whole || p.userinfoURL == "" && p.people == nil {
		return p.personOf(said.subject, said.claims), nil
	}
	more, err := p.userinfo(ctx, token, said.subject)
	if err != nil {
		return Person{}, err
	}
	return p.personOf(said.subject, said.claims, more), nil
}

// personOf takes what the labels need from what the provider said. Of two sources the first that
// says something counts.
func (p *Provider) personOf(subject string, sources ...claims) Person {
	who := Person{Subject: subject, Needs: p.client.Needs.Marks()}
	who.Said.Claims, who.Said.Hints = []string{}, p.dialect.hints
	for _, c := range sources {
		who.Said.Claims = slices.AppendSeq(who.Said.Claims, maps.Keys(c))
	}
	slices.Sort(who.Said.Claims)
	who.Said.Claims = slices.Compact(who.Said.Claims)
	if p.client.SignIn {
		who.ACR, who.AuthTime = p.signIn(sources[0])
	}
	unverified := false // a source has said so
	for _, c := range sources {
		if p.client.Needs.Email && who.Email == "" && !unverified {
			verified := c.emailVerified(p.dialect.vouchesByEdov)
			unverified = isNo(c["email_verified"])
			if verified {
				who.Email = c.email()
			}
			if c["email"] != nil && c.email() == "" {
				who.isOdd("email", typeOf(c["email"])+" that is no address")
			}
			if v := c["email_verified"]; v != nil && !verified && !isNo(v) {
				who.isOdd("email_verified", typeOf(v)+" that says neither yes nor no")
			}
		}
		if p.client.Needs.Email && who.HostedDomain == "" && p.dialect.hostedDomain {
			who.HostedDomain, _ = c["hd"].(string)
		}
		if p.client.Needs.Name && who.Name == "" {
			who.Name = c.name()
		}
	}
	if path := p.client.Needs.GroupsClaim; path != "" {
		var all []string
		for _, c := range sources {
			if found, ok := c.find(path); ok {
				all, who.Said.Groups = groupNames(found), true
				if odd := oddGroups(found); odd != "" {
					who.isOdd(path, odd)
				}
				break
			}
			// Entra ID leaves groups out when there are too many, and names instead where they
			// could be asked for.
			if elsewhere, ok := c["_claim_names"].(map[string]any); ok && elsewhere[path] != nil {
				p.all.Log.Warn("the provider left out this person's groups, because they are too many: let it send only the groups of this application, or roles", p.client.Named, "provider", p.issuer, "subject", p.all.Ring.Pseudonym(p.client.Tenant, who.Subject))
			}
		}
		var cut int
		if who.Groups, cut = p.client.Needs.choose(all); cut > 0 {
			p.all.Log.Warn("more groups than a token can carry", p.client.Named, "subject", p.all.Ring.Pseudonym(p.client.Tenant, who.Subject), "carried", len(who.Groups), "left out", cut)
		}
	}
	return who
}

// signIn reads acr and auth_time of an id_token or an identity assertion. Userinfo has neither.
// What is no such value counts as not said, and so does a time in the future: a sign-in must not
// stay young for longer because a clock is wrong. Of a provider without id_tokens nothing counts:
// its members of these names may be anything.
func (p *Provider) signIn(c claims) (acr string, authTime int64) {
	if p.people != nil {
		return "", 0
	}
	if acr, _ = c["acr"].(string); len(acr) > maxACR || !printable(acr) {
		acr = ""
	}
	now := p.all.Now()
	if at, ok := seconds(c["auth_time"]); ok && at > 0 && at <= float64(now.Add(sealing.Skew).Unix()) {
		authTime = min(int64(at), now.Unix())
	}
	return acr, authTime
}

// maxACR is how long a value of acr may be, in characters. It travels in each access token.
const maxACR = 128

func printable(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) < 0
}

// userinfo asks the userinfo endpoint (OpenID Connect Core §5.3). The sub that it names must be the
// id_token's: otherwise the answer may be about another person (§5.3.2).
func (p *Provider) userinfo(ctx context.Context, token *oauth2.Token, subject string) (claims, error) {
	if p.people != nil { // who it is has been asked before
		return p.askTwice(ctx, token, func(ctx context.Context, token *oauth2.Token) (claims, error) { return p.people.more(ctx, p, token) })
	}
	c, err := p.askTwice(ctx, token, p.askUserinfo)
	if err != nil {
		return nil, err
	}
	said := c["sub"]
	// The number stays as it was written: two large ones must not become the same.
	if number, ok := said.(json.Number); ok {
		said = number.String()
	}
	if said != subject {
		came := "none came"
		if c["sub"] != nil {
			came = typeOf(c["sub"]) + " came"
		}
		return nil, loginRefused(fmt.Errorf("userinfo: sub is not the one of the id_token (%s)", came))
	}
	return c, nil
}

// askTwice asks with an access token, and once more if that fails: a refusal too, since some
// providers have several machines, and not all of them know the access token at once.
func (p *Provider) askTwice(ctx context.Context, token *oauth2.Token, ask func(context.Context, *oauth2.Token) (claims, error)) (claims, error) {
	c, err := ask(ctx, token)
	if err != nil && p.all.Wait(ctx, oncePause) == nil {
		c, err = ask(ctx, token)
	}
	if err != nil {
		var answer *strangeAnswer
		if errors.As(err, &answer) && !answer.passes() {
			err = notUsed{err}
		}
		return nil, unanswered(fmt.Errorf("userinfo: %w", err))
	}
	return c, nil
}

// askUserinfo reads one answer: a JSON object, or a signed JWT that holds one (§5.3.2).
func (p *Provider) askUserinfo(ctx context.Context, token *oauth2.Token) (claims, error) {
	r, err := http.NewRequestWithContext(withStep(ctx, "userinfo"), http.MethodGet, p.userinfoURL, nil)
	if err != nil {
		return nil, errors.New("userinfo_endpoint is no URL")
	}
	token.SetAuthHeader(r)
	if p.people != nil {
		r.Header.Set("Accept", "application/json")
	}
	body, mediaType, err := p.all.fetched(r, p.origin)
	if err != nil {
		return nil, err
	}
	strange := func(why string) error { return &strangeAnswer{http.StatusOK, mediaType, why} }
	if mediaType == "application/jwt" && p.people == nil { // otherwise there are no keys
		signed, err := readSigned(string(body), signatureAlgorithms)
		if err != nil {
			return nil, strange(err.Error())
		}
		body, err = p.keys.verify(ctx, signed, false)
		switch {
		case errors.Is(err, errKeysUnread):
			return nil, err
		case err != nil:
			return nil, strange(err.Error())
		}
	}
	c, err := readClaims(body)
	if err != nil {
		return nil, strange(err.Error())
	}
	return c, nil
}

// isOdd keeps what came first in a claim that is needed and not understood.
func (who *Person) isOdd(claim, came string) {
	if who.Said.Odd == nil {
		who.Said.Odd = map[string]string{}
	}
	if who.Said.Odd[claim] == "" {
		who.Said.Odd[claim] = came
	}
}

// lacks says whether userinfo could know more than these claims.
func (n Needs) lacks(c claims) bool {
	_, sent := c.find(n.GroupsClaim)
	return n.Email && (c["email"] == nil || c["email_verified"] == nil) || n.Name && c.name() == "" || n.GroupsClaim != "" && !sent
}

// email is an address that can be judged: it has one @ with something on both sides, and nothing
// that is invisible or could end a header line. An address with a second @, which is legal in
// quotes, is not taken: programs disagree about its domain.
func (c claims) email() string {
	address, _ := c["email"].(string)
	local, domain, _ := strings.Cut(address, "@")
	if local == "" || domain == "" || strings.Contains(domain, "@") || len(address) > maxEmail ||
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	return address
}

// emailVerified says whether the provider vouches for the address: one that the person only typed
// in says nothing about them. Some providers write the boolean as a text. byEdov is for a provider
// that says it by xms_edov.
func (c claims) emailVerified(byEdov bool) bool {
	verified, sent := c["email_verified"]
	if !sent && byEdov {
		verified = c["xms_edov"]
		if verified == "1" || verified == json.Number("1") {
			return true
		}
	}
	return isYes(verified)
}

// isYes and isNo read a boolean, or the word for it in a string, in any letter case. A number is
// neither: nobody says what it means, and an address that nobody vouches for lets in anybody who
// types it.
func isYes(v any) bool { text, _ := v.(string); return v == true || names.LowerASCII(text) == "true" }
func isNo(v any) bool  { text, _ := v.(string); return v == false || names.LowerASCII(text) == "false" }

func (c claims) name() string {
	for _, claim := range []string{"name", "preferred_username"} {
		if text, _ := c[claim].(string); names.Displayed(text) != "" {
			return names.Displayed(text)
		}
	}
	return ""
}

// find looks a claim up by its name or by a dotted path into nested ones. Names with dots and
// colons are real (the URL of a namespace, Zitadel's urn:zitadel:iam:…, a Keycloak client's id), so
// at each level every split is tried, the whole first.
func (c claims) find(path string) (any, bool) {
	if v := c[path]; v != nil {
		return v, true
	}
	for i, r := range path {
		if r != '.' {
			continue
		}
		if child, ok := c[path[:i]].(map[string]any); ok {
			if v, ok := claims(child).find(path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// groupNames reads the shapes that providers send: a list of names, one name, or objects whose keys
// are the names (Zitadel's roles). Keys whose value says no are left out.
func groupNames(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		return slices.DeleteFunc(names, func(name string) bool { return v[name] == nil || isNo(v[name]) || v[name] == json.Number("0") })
	case []any:
		var names []string
		for _, entry := range v {
			if _, list := entry.([]any); !list {
				names = append(names, groupNames(entry)...)
			}
		}
		return names
	}
	return nil
}

// oddGroups says what came where it holds no names, or other names than the sender may mean. A
// string is never cut at its commas: names of directories have them ("cn=admins,ou=groups"), and
// somebody who can choose the name of one group must not choose several.
func oddGroups(v any) string {
	switch v := v.(type) {
	case string:
		if strings.Contains(v, ",") {
			return "one string with commas in it, which is read as one name"
		}
		return ""
	case []any:
		for _, entry := range v {
			switch entry.(type) {
			case string:
			case map[string]any:
				return "a list of objects, of which the names of the members are read"
			default:
				return "a list with " + typeOf(entry) + " in it, which is read as no name"
			}
		}
		return ""
	case map[string]any:
		return ""
	}
	return typeOf(v)
}

// choose returns the groups that a token carries and how many did not fit: first those that rules
// name, then, if the MCP server is told of all, the others.
func (n Needs) choose(all []string) (chosen []string, cut int) {
	named := func(group string) bool {
		return slices.ContainsFunc(n.Groups, func(name string) bool { return SameGroup(name, group) })
	}
	size := 0
	for _, first := range []bool{true, false} {
		for _, group := range all {
			if group == "" || named(group) != first || !first && !n.AllGroups || slices.Contains(chosen, group) {
				continue
			}
			if len(chosen) == MaxGroups || size+len(group) > maxGroupBytes {
				cut++
				continue
			}
			chosen, size = append(chosen, group), size+len(group)
		}
	}
	return chosen, cut
}

// SameGroup compares names of groups to the byte, except for one leading slash: Keycloak sends
// /admins for the group admins, and /eng/admins for another one.
func SameGroup(a, b string) bool {
	return strings.TrimPrefix(a, "/") == strings.TrimPrefix(b, "/")
}
