package issuer

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

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/names"

	"golang.org/x/oauth2"
)

// claims are what a provider said of a person, in an id_token or at its userinfo endpoint (OpenID
// Connect Core §5.1).
//
// The rule for all of them, because providers send them in other types than the specification's:
// what nobody needs is not looked at. What is needed, and can mean one thing only, is understood
// (email_verified: "TRUE"). What is needed and not understood counts as not said, and the refusal
// that follows names the claim and the type that came, never its value. A claim that is null is one
// that was not sent, so that userinfo is asked for it. A claim that restricts an id_token (azp,
// nbf) is needed when it was sent.
type claims map[string]any

// claimNeeds are the claims that the labels of a tenant use. No other is read, sealed or handed on.
type claimNeeds struct {
	Email, Name bool
	GroupsClaim string   // empty: groups decide nothing here
	Groups      []string // those that rules name
	AllGroups   bool     // the MCP server is told of all
}

// markSize is enough: of two needs with one mark, the second would be taken for read, and who has
// it be refused until the next check.
const markSize = 4

// marks are sealed beside what was read: a hash of each need, cut short.
func (n claimNeeds) marks() []byte {
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
	// sealed values must stay small: one mark for all, so that each change of them is another need
	if len(n.Groups) > maxGroups {
		mark(append([]string{"these groups", n.GroupsClaim}, n.Groups...)...)
		return all
	}
	for _, group := range n.Groups {
		mark("group", n.GroupsClaim, group)
	}
	return all
}

// within says whether all that is needed is among the marks of what was read. Labels that need less
// end no login.
func (n claimNeeds) within(read []byte) bool {
	had := slices.Collect(slices.Chunk(read, markSize))
	for need := range slices.Chunk(n.marks(), markSize) {
		if !slices.ContainsFunc(had, func(mark []byte) bool { return bytes.Equal(mark, need) }) {
			return false
		}
	}
	return true
}

// errRulesChanged is in the chain of rulesChanged.
var errRulesChanged = errors.New("the labels need what was not read at the login, and the provider cannot be asked for it")

// rulesChanged ends no login: the labels may change back.
func rulesChanged() *Error {
	return invalidGrant("this server needs to know more of the person than was read at this login; authorize again").because(errRulesChanged)
}

// needs reads the labels that are rules, and what the MCP server is told. It runs once for each
// tenant configuration.
func (t *tenant) needs(told []string) claimNeeds {
	n := claimNeeds{
		Email: len(t.AllowedEmails) > 0 || len(t.AllowedDomains) > 0 || slices.Contains(told, "email"),
		Name:  slices.Contains(told, "name"),
	}
	n.Groups, n.AllGroups = slices.Clone(t.AllowedGroups), slices.Contains(told, "groups")
	for _, rule := range t.rules {
		switch rule.kind {
		case "email", "domain":
			n.Email = true
		case "group":
			n.Groups = append(n.Groups, rule.name)
		}
	}
	if len(n.Groups) > 0 || n.AllGroups {
		n.GroupsClaim = t.GroupsClaim
	}
	slices.Sort(n.Groups)
	n.Groups = slices.Compact(n.Groups)
	return n
}

const (
	maxEmail      = 254  // RFC 5321 §4.5.3.1.3, less the angle brackets
	maxGroups     = 64   // that a token carries
	maxGroupBytes = 1024 // of all of them: they travel in every request to the MCP server
)

// learn makes an identity of what the provider said. Userinfo is asked once, and only for what the
// labels need and the id_token lacks.
func (s *Issuer) learn(ctx context.Context, t *tenant, up *upstream, token *oauth2.Token, said idToken) (identity, error) {
	if !t.claimNeeds.lacks(said.claims) || up.userinfoURL == "" {
		return s.identityOf(t, up, said.subject, said.claims), nil
	}
	more, err := s.userinfo(ctx, up, token, said.subject)
	if err != nil {
		return identity{}, err
	}
	return s.identityOf(t, up, said.subject, said.claims, more), nil
}

// identityOf takes what the labels need from what the provider said; of two sources the first that
// says something counts.
func (s *Issuer) identityOf(t *tenant, up *upstream, subject string, sources ...claims) identity {
	who := identity{Subject: subject, Needs: t.claimNeeds.marks()}
	who.sent = []string{}
	for _, c := range sources {
		who.sent = slices.AppendSeq(who.sent, maps.Keys(c))
	}
	slices.Sort(who.sent)
	who.sent = slices.Compact(who.sent)
	unverified := false // a source has said so
	for _, c := range sources {
		if t.claimNeeds.Email && who.Email == "" && !unverified {
			verified := c.emailVerified(up.issuer)
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
		if t.claimNeeds.Email && who.HostedDomain == "" && up.issuer == googleIssuer {
			who.HostedDomain, _ = c["hd"].(string)
		}
		if t.claimNeeds.Name && who.Name == "" {
			who.Name = c.name()
		}
	}
	if path := t.claimNeeds.GroupsClaim; path != "" {
		var all []string
		for _, c := range sources {
			if found, ok := c.find(path); ok {
				all, who.groupsSent = groupNames(found), true
				if odd := oddGroups(found); odd != "" {
					who.isOdd(path, odd)
				}
				break
			}
			// Entra ID leaves groups out when there are too many, and names instead where they
			// could be asked for.
			if elsewhere, ok := c["_claim_names"].(map[string]any); ok && elsewhere[path] != nil {
				s.Log.Warn("the provider left out this person's groups, because they are too many: let it send only the groups of this application, or roles", t.named(), "provider", up.issuer, "subject", s.Ring.Pseudonym(t.id, who.Subject))
			}
		}
		var cut int
		if who.Groups, cut = t.claimNeeds.choose(all); cut > 0 {
			s.Log.Warn("more groups than a token can carry", t.named(), "subject", s.Ring.Pseudonym(t.id, who.Subject), "carried", len(who.Groups), "left out", cut)
		}
	}
	return who
}

// userinfo is OpenID Connect Core §5.3. Its sub must be the id_token's: otherwise the answer may be
// about another person (§5.3.2).
func (s *Issuer) userinfo(ctx context.Context, up *upstream, token *oauth2.Token, subject string) (claims, error) {
	c, err := s.askUserinfo(ctx, up, token)
	// Also where it was refused: some providers have several places, and not all know the access
	// token at once.
	if err != nil && s.Wait(ctx, oncePause) == nil {
		c, err = s.askUserinfo(ctx, up, token)
	}
	if err != nil {
		var answer *strangeAnswer
		if errors.As(err, &answer) && !answer.passes() {
			err = notUsed{err}
		}
		return nil, unanswered(fmt.Errorf("userinfo: %w", err))
	}
	said := c["sub"]
	// as it was written: two large ones must not become one
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

// askUserinfo reads one answer: a JSON object, or a signed JWT that holds one (§5.3.2).
func (s *Issuer) askUserinfo(ctx context.Context, up *upstream, token *oauth2.Token) (claims, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, up.userinfoURL, nil)
	if err != nil {
		return nil, errors.New("userinfo_endpoint is no URL")
	}
	token.SetAuthHeader(r)
	body, mediaType, err := s.fetched(r, up.issuer)
	if err != nil {
		return nil, err
	}
	strange := func(why string) error { return &strangeAnswer{http.StatusOK, mediaType, why} }
	if mediaType == "application/jwt" {
		signed, err := readSigned(string(body), signatureAlgorithms)
		if err != nil {
			return nil, strange(err.Error())
		}
		body, err = up.keys.verify(ctx, signed, false)
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

// isOdd keeps what came in a claim that is needed, the first time.
func (who *identity) isOdd(claim, came string) {
	if who.odd == nil {
		who.odd = map[string]string{}
	}
	if who.odd[claim] == "" {
		who.odd[claim] = came
	}
}

// lacks says whether userinfo could know more.
func (n claimNeeds) lacks(c claims) bool {
	_, sent := c.find(n.GroupsClaim)
	return n.Email && (c["email"] == nil || c["email_verified"] == nil) || n.Name && c.name() == "" || n.GroupsClaim != "" && !sent
}

// email is an address that can be judged: one @, with something on both sides and nothing that is
// invisible or could end a header line. An address with a second @, which is legal in quotes, is no
// address here: programs disagree about its domain.
func (c claims) email() string {
	address, _ := c["email"].(string)
	local, domain, _ := strings.Cut(address, "@")
	if local == "" || domain == "" || strings.Contains(domain, "@") || len(address) > maxEmail ||
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	return address
}

// emailVerified wants the provider's word for it: an address that the person only typed in says
// nothing about them. Some providers write the boolean as a text. Entra ID never sends
// email_verified; xms_edov is its word that the domain's owner stands behind the address.
func (c claims) emailVerified(issuer string) bool {
	verified, sent := c["email_verified"]
	if !sent && strings.HasPrefix(issuer, entraIssuer) {
		verified = c["xms_edov"]
		if verified == "1" || verified == json.Number("1") {
			return true
		}
	}
	return isYes(verified)
}

// isYes and isNo read a boolean, or the word for it in a string, in any letter case. A number is
// neither: nobody says what it means, and an address that nobody vouches for lets in whoever types
// it.
func isYes(v any) bool { text, _ := v.(string); return v == true || names.LowerASCII(text) == "true" }
func isNo(v any) bool  { text, _ := v.(string); return v == false || names.LowerASCII(text) == "false" }

const (
	googleIssuer  = "https://accounts.google.com"
	entraIssuer   = "https://login.microsoftonline.com/"
	cognitoIssuer = "https://cognito-idp."
)

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
// are the names (Zitadel's roles), but for those that say no.
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

// oddGroups says what came where it holds no names, or other ones than whoever sent it may mean. A
// string is never cut at its commas: names of directories have them ("cn=admins,ou=groups"), and
// who can choose the name of a group must not choose several.
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
func (n claimNeeds) choose(all []string) (chosen []string, cut int) {
	named := func(group string) bool {
		return slices.ContainsFunc(n.Groups, func(name string) bool { return sameGroup(name, group) })
	}
	size := 0
	for _, first := range []bool{true, false} {
		for _, group := range all {
			if group == "" || named(group) != first || !first && !n.AllGroups || slices.Contains(chosen, group) {
				continue
			}
			if len(chosen) == maxGroups || size+len(group) > maxGroupBytes {
				cut++
				continue
			}
			chosen, size = append(chosen, group), size+len(group)
		}
	}
	return chosen, cut
}

// sameGroup compares to the byte, except for one leading slash: Keycloak sends /admins for the
// group admins, and /eng/admins for another one.
func sameGroup(a, b string) bool {
	return strings.TrimPrefix(a, "/") == strings.TrimPrefix(b, "/")
}
