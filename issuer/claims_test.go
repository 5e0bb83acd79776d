package issuer_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// An access token carries e-mail, name and groups only when the labels ask for them, and an e-mail
// address only if it is verified.
func TestClaimsThatAccessTokensCarry(t *testing.T) {
	ada := func(more map[string]any) map[string]any {
		m := map[string]any{"email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace", "groups": []string{"acme", "acme:admins"}}
		maps.Copy(m, more)
		return m
	}
	for _, c := range []struct {
		name   string
		claims map[string]any
		asked  []string
		groups []string // that a rule names
		want   map[string]any
	}{
		{"nothing is asked for", ada(nil), nil, nil, map[string]any{}},
		{"a rule reads groups, the MCP server does not", ada(nil), nil, []string{"acme"}, map[string]any{}},
		{"all of it", ada(nil), []string{"email", "name", "groups"}, nil,
			map[string]any{"email": "ada@example.com", "name": "Ada Lovelace", "groups": []any{"acme", "acme:admins"}}},
		{"groups that a rule names stand first", ada(nil), []string{"groups"}, []string{"acme:admins"}, map[string]any{"groups": []any{"acme:admins", "acme"}}},
		{"an address that is not verified", ada(map[string]any{"email_verified": false}), []string{"email", "name"}, nil, map[string]any{"name": "Ada Lovelace"}},
		{"no name but a user name", ada(map[string]any{"name": "", "preferred_username": "ada"}), []string{"name"}, nil, map[string]any{"name": "ada"}},
		{"a name that would turn the line around", ada(map[string]any{"name": "Ada\u202e\r\n Lovelace\x00"}), []string{"name"}, nil, map[string]any{"name": "Ada Lovelace"}},
		{"a long name", ada(map[string]any{"name": strings.Repeat("ä", 500)}), []string{"name"}, nil, map[string]any{"name": strings.Repeat("ä", 64)}},
		{"claims of other types", map[string]any{"email": 7, "email_verified": true, "name": []string{"x"}, "groups": 7}, []string{"email", "name", "groups"}, nil, map[string]any{}},
		{"groups of several types", ada(map[string]any{"groups": []any{"a", 7, nil, "", []any{"nested"}, map[string]any{"z": 1, "b": 2}, "a"}}), []string{"groups"}, nil, map[string]any{"groups": []any{"a", "b", "z"}}},
		{"an object that says yes and no", ada(map[string]any{"groups": map[string]any{"admins": false, "owners": nil, "readers": true, "writers": map[string]any{}}}), []string{"groups"}, nil, map[string]any{"groups": []any{"readers", "writers"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.IdentityClaims, w.wiki.AllowedGroups = c.asked, c.groups
				w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { maps.Copy(m, c.claims) }})
			})
			a := w.register(w.wiki.PublicURL, nil)
			first := a.login()
			second := a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
			for _, r := range []reply{first, second} {
				claims := w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())
				got := map[string]any{}
				for _, name := range []string{"email", "name", "groups"} {
					if v, ok := claims[name]; ok {
						got[name] = v
					}
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("got %v, want %v", got, c.want)
				}
			}
		})
	}
}

func TestGroupsThatAreMoreThanATokenCarries(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("group-%03d", i))
	}
	named := slices.Clone(many)
	for i := range 100 {
		named = append(named, fmt.Sprintf("other-%03d", i))
	}
	long := strings.Repeat("x", 900)
	for _, c := range []struct {
		name   string
		all    []string
		named  []string
		tell   bool // the MCP server of all
		want   int
		log    string
		status int
	}{
		{"300, of which a rule names the last", many, []string{"group-299"}, true, 64, `"carried":64,"left out":236`, 200},
		{"300, and rules name 400", many, named, true, 64, `"carried":64,"left out":236`, 200},
		{"300, and the MCP server is told of none", many, []string{"group-299"}, false, 0, "", 200},
		{"300, none of them named", many, []string{"other"}, true, 0, `"carried":64,"left out":236`, 400},
		{"two long ones", []string{long, long + "y", "short"}, nil, true, 2, `"carried":2,"left out":1`, 200},
		{"one that is longer than all may be", []string{strings.Repeat("x", 2000), "short"}, []string{"short"}, true, 1, `"carried":1,"left out":1`, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.AllowedGroups = c.named
				if c.tell {
					w.wiki.IdentityClaims = []string{"groups"}
				}
				w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { m["groups"] = c.all }, RefreshLength: 2000})
			})
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code()))
			if got.Status != c.status {
				t.Fatalf("status %d: %s", got.Status, got.Body)
			}
			if !strings.Contains(w.log.String(), c.log) || c.log == "" && strings.Contains(w.log.String(), "more groups") {
				t.Errorf("the log should say %q: %s", c.log, w.log)
			}
			if c.status != 200 {
				return
			}
			groups, _ := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())["groups"].([]any)
			if len(groups) != c.want || c.want > 0 && len(c.named) > 0 && groups[0] != c.named[0] {
				t.Errorf("%d groups, the first %v", len(groups), groups[:min(1, len(groups))])
			}
			w.clock.Add(time.Hour)
			a.token(a.refreshment(got.text("refresh_token"))).wants(t, 200, "") // it still opens
			if w.idp.Refreshes() != 1 {
				t.Error("the provider's refresh token was not carried")
			}
		})
	}
}

// Userinfo is asked once, and only for what labels need and the id_token lacks. Its sub must be the
// id_token's.
func TestUserInfo(t *testing.T) {
	info := func(more map[string]any) map[string]any {
		m := map[string]any{"sub": "person-1", "email": "ada@example.com", "email_verified": true, "groups": []string{"admins"}}
		maps.Copy(m, more)
		return m
	}
	thin := func(m map[string]any) { delete(m, "email") }
	needsEmail := labels{AllowedDomains: []string{"example.com"}}
	for _, c := range []struct {
		name   string
		labels labels
		be     issuertest.Behaviour
		asked  int
		status int
		code   string
		cause  string
	}{
		{"no label needs a claim", labels{}, issuertest.Behaviour{Claims: thin, UserInfo: info(nil)}, 0, 200, "", ""},
		{"the id_token has all", needsEmail, issuertest.Behaviour{Claims: func(m map[string]any) { maps.Copy(m, info(nil)) }, UserInfo: info(nil)}, 0, 200, "", ""},
		{"the id_token lacks the address", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: info(nil)}, 1, 200, "", ""},
		{"the id_token lacks the word that it is verified", needsEmail, issuertest.Behaviour{UserInfo: info(nil)}, 1, 200, "", ""},
		{"the id_token says unverified: userinfo is not asked again", needsEmail,
			issuertest.Behaviour{Claims: func(m map[string]any) { m["email_verified"] = false }, UserInfo: info(nil)}, 0, 400, "access_denied", "allowedDomains"},
		{"an address of the one is not verified by the other", labels{AllowedEmails: []string{"person@example.com"}},
			issuertest.Behaviour{UserInfo: info(map[string]any{"email": "other@example.com"})}, 1, 400, "access_denied", "allowedEmails"},
		{"groups are only there", labels{AllowedGroups: []string{"admins"}}, issuertest.Behaviour{UserInfo: info(nil)}, 1, 200, "", ""},
		{"groups of the id_token stand", labels{AllowedGroups: []string{"admins"}},
			issuertest.Behaviour{Claims: func(m map[string]any) { m["groups"] = []string{"guests"} }, UserInfo: info(nil)}, 0, 400, "access_denied", "allowedGroups"},
		{"another person's", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: info(map[string]any{"sub": "person-2"})}, 1, 400, "access_denied", "userinfo: sub is not the one of the id_token"},
		{"nobody's", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: map[string]any{"email": "ada@example.com", "email_verified": true}}, 1, 400, "access_denied", "userinfo: sub"},
		{"it fails", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: info(nil), UserInfoStatus: 500}, 2, 503, "temporarily_unavailable", "userinfo: "},
		{"it refuses the token", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: info(nil), UserInfoStatus: 401}, 2, 503, "temporarily_unavailable", "userinfo: "},
		{"it redirects", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: info(nil), UserInfoStatus: 302}, 2, 503, "temporarily_unavailable", "userinfo: "},
		{"it sends 2 MB", needsEmail, issuertest.Behaviour{Claims: thin, UserInfo: info(map[string]any{"email": strings.Repeat("x", 2<<20)})}, 2, 503, "temporarily_unavailable", "userinfo: "},
		{"the provider has none", needsEmail, issuertest.Behaviour{Claims: thin}, 0, 400, "access_denied", "allowedDomains"},
		{"it is not https", needsEmail, issuertest.Behaviour{Claims: thin, Discovery: map[string]any{"userinfo_endpoint": "http://idp.example/userinfo"}}, 0, 503, "temporarily_unavailable", "userinfo_endpoint is not an https URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.AllowedDomains, w.wiki.AllowedEmails, w.wiki.AllowedGroups = c.labels.AllowedDomains, c.labels.AllowedEmails, c.labels.AllowedGroups
				w.idp.Be(c.be)
			})
			a := w.register(w.wiki.PublicURL, nil)
			// it is refused at discovery, so nobody is sent there
			if strings.Contains(c.cause, "https URL") {
				b := issuertest.NewBrowser(t, w.net)
				if p := b.Decide(b.Get(a.authorizeURL()), "allow"); p.Status != c.status {
					t.Errorf("status %d: %s", p.Status, p.Body)
				}
			} else {
				a.token(a.redemption(a.code())).wants(t, c.status, c.code)
			}
			if n := w.idp.UserInfos(); n != c.asked {
				t.Errorf("userinfo was asked %d times, want %d", n, c.asked)
			}
			if !strings.Contains(w.log.String(), c.cause) {
				t.Errorf("the log should say %q: %s", c.cause, w.log)
			}
		})
	}
}

// At a refresh a provider may have replaced its refresh token before userinfo fails. The login must
// not be lost with that answer.
func TestUserInfoThatFailsAtARefresh(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.AllowedDomains = []string{"example.com"}
	})
	info := map[string]any{"sub": "person-1", "email": "ada@example.com", "email_verified": true}
	kind := issuertest.Behaviour{UserInfo: info, OmitNewIDToken: true, KillOnReuse: true}
	w.idp.Be(kind)
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login()

	w.clock.Add(time.Hour)
	broken := kind
	broken.UserInfoStatus = 500
	w.idp.Be(broken)
	tokens = a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
	if !strings.Contains(w.log.String(), "the last known claims stand") {
		t.Error("the log does not say so")
	}

	// the next refresh asks again, without waiting for another hour
	info["email"] = "ada@example.org"
	w.idp.Be(kind)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 400, "access_denied")

	// The last known claims of a person are not used for ever, but a person who comes back
	// meanwhile keeps the login.
	info["email"] = "ada@example.com"
	tokens = a.login()
	w.clock.Add(24 * time.Hour)
	w.idp.Be(broken)
	for _, want := range []string{"short", "short", "short", "temporarily_unavailable"} {
		got := a.token(a.refreshment(tokens.text("refresh_token")))
		if outcome(got) != want {
			t.Errorf("%s, want %s", outcome(got), want)
		}
		tokens = got
		w.clock.Add(time.Hour)
	}
	w.idp.Be(kind)

	// If the claims were never read, there are no last known ones.
	info["email"] = "ada@example.com"
	tokens = a.login()
	w.relabel(func(t *labels) { t.IdentityClaims = []string{"name"} })
	w.idp.Be(broken)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 503, "temporarily_unavailable")
}

// The claims are not bridged for ever either if the client presents a refresh token of before the
// fault again and again. A provider that does not rotate accepts that if no guard counts. A person
// who was taken out of a group could make userinfo fail, where it is rate-limited for each person,
// and would stay in.
func TestClaimsThatCannotBeReadAreNotBridgedForEver(t *testing.T) {
	for _, refresh := range []string{"static", "keeps"} {
		t.Run(refresh, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.AllowedGroups = []string{"staff"} })
			w.guarded("none")
			info := map[string]any{"sub": "person-1", "groups": []string{"staff"}}
			kind := issuertest.Behaviour{Refresh: refresh, OmitNewIDToken: true, UserInfo: info}
			w.idp.Be(kind)
			a := w.register(w.wiki.PublicURL, nil)
			old := a.login().text("refresh_token")
			w.clock.Add(time.Hour)
			second := a.token(a.refreshment(old)).wants(t, 200, "").text("refresh_token")
			broken := kind
			broken.UserInfoStatus = 429
			w.idp.Be(broken)
			for n, want := range []string{"short", "short", "short", "temporarily_unavailable", "temporarily_unavailable"} {
				w.clock.Add(time.Hour)
				if got := outcome(a.token(a.refreshment([]string{old, second}[n%2]))); got != want {
					t.Fatalf("refresh %d: %s, want %s", n, got, want)
				}
			}
			for range 3 { // nor after days
				w.clock.Add(23 * time.Hour)
				a.token(a.refreshment(old)).wants(t, 503, "temporarily_unavailable")
			}
			w.idp.Be(kind)
			a.token(a.refreshment(old)).wants(t, 200, "")
			w.idp.Be(broken)
			w.clock.Add(time.Hour)
			if got := outcome(a.token(a.refreshment(old))); got != "short" {
				t.Errorf("%s after all was well", got)
			}
		})
	}
}

// A provider that sends no id_token at a refresh and has no userinfo endpoint has taken nothing
// back: what it said last still counts.
func TestProviderThatSaysNothingNew(t *testing.T) {
	for _, c := range []struct {
		name   string
		after  func(*labels)
		status int
		code   string
	}{
		{"the labels are the same", func(*labels) {}, 200, ""},
		{"they need less", func(t *labels) { t.IdentityClaims = nil }, 200, ""},
		{"they rule the person out", func(t *labels) { t.AllowedEmails = []string{"bob@example.com"} }, 400, "access_denied"},
		{"they need what was not read at the login", func(t *labels) { t.AllowedGroups = []string{"acme"} }, 400, "invalid_grant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.AllowedEmails, w.wiki.IdentityClaims = []string{"ada@example.com"}, []string{"email", "name"}
			})
			w.idp.Be(issuertest.Behaviour{OmitNewIDToken: true, KillOnReuse: true, Claims: func(m map[string]any) {
				m["email"], m["email_verified"], m["name"], m["groups"] = "ada@example.com", true, "Ada", []string{"acme"}
			}})
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			w.relabel(c.after)
			for n := range 2 { // again, because the provider's new refresh token must be carried
				w.clock.Add(time.Hour)
				got := a.token(a.refreshment(token)).wants(t, c.status, c.code)
				if c.status != 200 {
					return
				}
				token = got.text("refresh_token")
				if w.idp.Refreshes() != n+1 {
					t.Errorf("the provider was asked %d times, want %d", w.idp.Refreshes(), n+1)
				}
				claims := w.verifiedToken(a.base, got.text("access_token"), w.clock.Now())
				if wanted := len(w.wiki.IdentityClaims) > 0; (claims["name"] == "Ada") != wanted || (claims["email"] == "ada@example.com") != wanted {
					t.Errorf("name %v, email %v", claims["name"], claims["email"])
				}
			}
		})
	}
}

// The rule for claims of unexpected types (provider/claims.go): a claim that is not needed never
// leads to a refusal. A claim that is needed counts if it is understood. If it is not understood
// the person is refused, and the log has its name and the type that came, not its value.
func TestClaimsAtOddPlaces(t *testing.T) {
	email, groups, none := labels{AllowedEmails: []string{"ada@example.com"}}, labels{AllowedGroups: []string{"admins"}}, labels{}
	type m = map[string]any
	verified := func(v any) m { return m{"email": "ada@example.com", "email_verified": v} }
	for _, c := range []struct {
		name   string
		labels labels
		idt    m // claims of the id_token; nil is null
		info   m // of userinfo beside sub; nil: there is no userinfo
		come   bool
		cause  string
		hidden string // not in the log
	}{
		{"email_verified true", email, verified(true), nil, true, "", ""},
		{"email_verified \"true\"", email, verified("true"), nil, true, "", ""},
		{"email_verified \"TRUE\"", email, verified("TRUE"), nil, true, "", ""},
		{"email_verified 1", email, verified(1), nil, false, "email_verified came as a number that says neither yes nor no", ""},
		{"email_verified \"1\"", email, verified("1"), nil, false, "email_verified came as a string that says neither yes nor no", ""},
		{"email_verified null", email, verified(nil), nil, false, "it sent one, and does not say that it is verified (email_verified)", "ada@"},
		{"email_verified null, and userinfo knows", email, verified(nil), verified(true), true, "", ""},
		{"email_verified false", email, verified(false), nil, false, "the provider vouches for no e-mail address", "came as"},
		{"email_verified \"FALSE\"", email, verified("FALSE"), nil, false, "the provider vouches for no e-mail address", "came as"},
		{"email_verified false, and userinfo, which is asked for groups, says true",
			labels{AllowedEmails: email.AllowedEmails, IdentityClaims: []string{"groups"}}, verified(false), verified(true), false, "the provider vouches for no e-mail address", ""},
		{"email_verified 0", email, verified(0), nil, false, "email_verified came as a number that says neither yes nor no", ""},
		{"email_verified \"yes\"", email, verified("yes"), nil, false, "email_verified came as a string that says neither yes nor no", `"yes"`},
		{"email_verified 2", email, verified(2), nil, false, "email_verified came as a number that says neither yes nor no", ""},
		{"email_verified 1.5", email, verified(1.5), nil, false, "email_verified came as a number that says neither yes nor no", "1.5"},
		{"email_verified a list", email, verified([]any{true}), nil, false, "email_verified came as a list that says neither yes nor no", ""},
		{"email_verified an object", email, verified(m{"verified": true}), nil, false, "email_verified came as an object that says neither yes nor no", ""},
		{"email a list", email, m{"email": []string{"ada@example.com"}, "email_verified": true}, nil, false, "email came as a list that is no address", "ada@"},
		{"email without an @", email, m{"email": "ada", "email_verified": true}, nil, false, "email came as a string that is no address", `"ada"`},
		{"email_verified null in userinfo, and a rule for groups only", groups, m{"email": nil}, m{"email_verified": nil, "groups": []string{"admins"}}, true, "", ""},
		{"email_verified odd in userinfo, and a rule for groups only", groups, m{}, m{"email_verified": []int{7}, "email": 7, "groups": []string{"admins"}}, true, "", ""},

		{"groups null", groups, m{"groups": nil}, nil, false, `no groups came; the provider sent no claim \"groups\"`, ""},
		{"groups null, and userinfo knows", groups, m{"groups": nil}, m{"groups": []string{"admins"}}, true, "", ""},
		{"groups one name", groups, m{"groups": "admins"}, nil, true, "", ""},
		{"groups a number", groups, m{"groups": 7}, nil, false, "groups came as a number", ""},
		{"groups a boolean", groups, m{"groups": true}, nil, false, "groups came as a boolean", ""},
		{"groups numbers", labels{AllowedGroups: []string{"7"}}, m{"groups": []int{7, 8}}, nil, false, "groups came as a list with a number in it, which is read as no name", ""},
		{"groups of several types, of which one fits", groups, m{"groups": []any{7, nil, "admins", true}}, nil, true, "", ""},
		{"groups with commas", groups, m{"groups": "users,admins"}, nil, false, "groups came as one string with commas in it, which is read as one name", "users,"},
		{"a name with commas", labels{AllowedGroups: []string{"cn=admins,ou=groups"}}, m{"groups": []string{"cn=admins,ou=groups"}}, nil, true, "", ""},
		{"groups objects", groups, m{"groups": []m{{"name": "admins"}}}, nil, false, "groups came as a list of objects, of which the names of the members are read", ""},
		{"groups an object", groups, m{"groups": m{"admins": m{"org": "x"}}}, nil, true, "", ""},
		{"groups an object that says no", groups, m{"groups": m{"admins": false}}, nil, false, "none of the groups is in the claim groups", "came as"},
		{"groups an object that says no in a string", groups, m{"groups": m{"admins": "False"}}, nil, false, "none of the groups is in the claim groups", "came as"},
		{"groups an object that says no in a number", groups, m{"groups": m{"admins": 0}}, nil, false, "none of the groups is in the claim groups", "came as"},
		{"groups objects that say no", groups, m{"groups": []m{{"admins": "false"}}}, nil, false, "groups came as a list of objects", ""},
		{"groups twice", groups, m{"groups": []string{"admins", "admins", "/admins"}}, nil, true, "", ""},
		{"groups with blanks", groups, m{"groups": []string{" admins", "admins "}}, nil, false, "none of the groups is in the claim groups", ""},
		{"an empty list of groups", groups, m{"groups": []string{}}, m{"groups": []string{"admins"}}, false, "none of the groups is in the claim groups", "came as"},

		{"a numeric sub in userinfo", email, m{"sub": "9007199254740993", "email": nil}, m{"sub": json.Number("9007199254740993"), "email": "ada@example.com", "email_verified": true}, true, "", ""},
		{"the next larger one, which is the same as a double", email, m{"sub": "9007199254740993", "email": nil}, m{"sub": json.Number("9007199254740992"), "email": "ada@example.com", "email_verified": true}, false, "userinfo: sub is not the one of the id_token (a number came)", "90071"},
		{"a null sub in userinfo", email, m{"email": nil}, m{"sub": nil, "email": "ada@example.com", "email_verified": true}, false, "userinfo: sub is not the one of the id_token (none came)", ""},
		{"a numeric sub in the id_token", none, m{"sub": 7}, nil, false, "sub is a number, not a string", ""},
		{"a list of subs in the id_token", none, m{"sub": []string{"person-1"}}, nil, false, "sub is a list, not a string", "person-1"},

		{"aud a list of one", none, m{"aud": []string{"bouncer"}}, nil, true, "", ""},
		{"aud a list of one, twice", none, m{"aud": []string{"bouncer", "bouncer"}}, nil, true, "", ""},
		{"aud a list with azp", none, m{"aud": []string{"other", "bouncer"}, "azp": "bouncer"}, nil, true, "", ""},
		{"aud a list without azp", none, m{"aud": []string{"other", "bouncer"}}, nil, false, "aud names 2 parties, and no azp says that it is for this client", `"other"`},
		{"aud a list with azp null", none, m{"aud": []string{"other", "bouncer"}, "azp": nil}, nil, false, "aud names 2 parties", ""},
		{"aud a list with another's azp", none, m{"aud": []string{"other", "bouncer"}, "azp": "other"}, nil, false, "azp names another client than this one", `"other"`},
		{"aud a list with a number in it", none, m{"aud": []any{"bouncer", 7}}, nil, false, "aud is a list with a number in it, not of strings", ""},
		{"aud an object", none, m{"aud": m{"bouncer": true}}, nil, false, "aud is an object, not a string", ""},
		{"aud null", none, m{"aud": nil}, nil, false, "aud does not name this client", ""},
		{"azp null", none, m{"azp": nil}, nil, true, "", ""},
		{"azp a list", none, m{"azp": []string{"bouncer"}}, nil, false, "azp is a list, not a string", ""},

		{"exp with a fraction", none, m{"exp": json.Number("2.0e9")}, nil, true, "", ""},
		{"exp and iat with decimals", none, m{"exp": json.Number("2000000000.25"), "iat": json.Number("1790000000.0")}, nil, true, "", ""},
		{"exp as a string", none, m{"exp": "2000000000"}, nil, true, "", ""},
		{"exp as a date", none, m{"exp": "2099-01-01T00:00:00Z"}, nil, false, "exp is a string, not a number of seconds", "2099-"},
		{"exp beyond all numbers", none, m{"exp": json.Number("1e999")}, nil, false, "exp is a number, not a number of seconds", ""},
		{"exp an object", none, m{"exp": m{}}, nil, false, "exp is an object, not a number of seconds", ""},
		{"exp null", none, m{"exp": nil}, nil, false, "exp is missing", ""},
		{"exp negative", none, m{"exp": -1}, nil, false, "seconds ago (exp)", ""},
		{"nbf null", none, m{"nbf": nil}, nil, true, "", ""},
		{"nbf a word", none, m{"nbf": "now"}, nil, false, "nbf is a string, not a number of seconds", ""},
		{"iat null", none, m{"iat": nil}, nil, true, "", "clock"},
		{"iat a date", none, m{"iat": "today"}, nil, true, "", "clock"},
		{"iss a list", none, m{"iss": []string{"x"}}, nil, false, "iss is a list, not a string", ""},
		{"nonce a number", none, m{"nonce": 7}, nil, false, "nonce of the id_token is not the one sent", ""},
		{"what nobody needs", none, m{"at_hash": 7, "acr": m{}, "amr": "pwd", "auth_time": "yesterday", "_claim_names": "x", "_claim_sources": 7, "name": 7, "email": m{}, "email_verified": "maybe", "groups": 7}, nil, true, "", ""},
		{"distributed claims whose source is missing", none, m{"_claim_names": m{"groups": "src1"}}, nil, true, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.AllowedEmails, w.wiki.AllowedGroups, w.wiki.IdentityClaims = c.labels.AllowedEmails, c.labels.AllowedGroups, c.labels.IdentityClaims
			})
			be := issuertest.Behaviour{Claims: func(all map[string]any) { maps.Copy(all, c.idt) }}
			if c.info != nil {
				be.UserInfo = m{"sub": "person-1"}
				maps.Copy(be.UserInfo, c.info)
			}
			w.idp.Be(be)
			a := w.register(w.wiki.PublicURL, nil)
			got := a.token(a.redemption(a.code()))
			if (got.Status == 200) != c.come || !c.come && got.text("error") != "access_denied" {
				t.Errorf("%d %s: %s", got.Status, got.Body, w.log)
			}
			if c.cause != "" && w.logged("request refused", c.cause) != 1 {
				t.Errorf("the log should say %q: %s", c.cause, w.log)
			}
			// the label
			log := strings.ReplaceAll(w.log.String(), "verified e-mail addresses ada@example.com", "")
			if c.hidden != "" && strings.Contains(log, c.hidden) {
				t.Errorf("the log says %q: %s", c.hidden, w.log)
			}
			if c.come { // and at a refresh, which asks the same question
				w.clock.Add(time.Hour)
				a.token(a.refreshment(got.text("refresh_token")))
				if w.logged("login ended") > 0 || w.logged("last known claims") > 0 && c.idt["exp"] == nil {
					t.Errorf("at a refresh: %s", w.log)
				}
			}
		})
	}
}
