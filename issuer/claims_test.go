package issuer_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// An access token carries e-mail, name and groups only when the labels ask for them, and an address only when it is verified.
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

func TestMoreGroupsThanATokenCarries(t *testing.T) {
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

// Userinfo is asked once, and only for what labels need and the id_token lacks. Its sub must be the id_token's.
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
			if strings.Contains(c.cause, "https URL") { // refused at discovery: nobody is sent there
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

// At a refresh a provider may have replaced its refresh token before userinfo fails: the login must not be lost with the answer.
func TestUserInfoThatFailsAtARefresh(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.AllowedDomains = []string{"example.com"}
	})
	info := map[string]any{"sub": "person-1", "email": "ada@example.com", "email_verified": true}
	kind := issuertest.Behaviour{UserInfo: info, NoNewIDToken: true, KillOnReuse: true}
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

	info["email"] = "ada@example.org" // and the next refresh asks again, without waiting for another hour
	w.idp.Be(kind)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 400, "access_denied")

	// What was last known of a person does not stand for ever, but the login of somebody who comes back meanwhile is not lost.
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

	// Where the claims were never read there are no last known ones.
	info["email"] = "ada@example.com"
	tokens = a.login()
	w.relabel(func(t *labels) { t.IdentityClaims = []string{"name"} })
	w.idp.Be(broken)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 503, "temporarily_unavailable")
}

// A provider that sends no id_token at a refresh and has no userinfo endpoint has taken nothing back: what it last said stands.
func TestAProviderThatSaysNothingNew(t *testing.T) {
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
			w.idp.Be(issuertest.Behaviour{NoNewIDToken: true, KillOnReuse: true, Claims: func(m map[string]any) {
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
