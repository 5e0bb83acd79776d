package issuer_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// person is one file of testdata/claims: what a provider says of somebody, in the shape that its
// documentation gives. None of the files is a recording.
type person struct {
	Comment  string
	Issuer   string
	IDToken  map[string]any `json:"id_token"`
	UserInfo map[string]any
}

func readPerson(t testing.TB, name string) person {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "claims", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var p person
	if err := json.Unmarshal(b, &p); err != nil || p.Issuer == "" || p.IDToken["sub"] == nil {
		t.Fatalf("%s: %v, or without issuer or sub", name, err)
	}
	return p
}

// says returns the behaviour of a provider at which this person is signed in.
func (p person) says() issuertest.Behaviour {
	return issuertest.Behaviour{Claims: func(m map[string]any) { delete(m, "email"); maps.Copy(m, p.IDToken) }, UserInfo: p.UserInfo}
}

// visit builds a world whose provider knows this person.
func visit(t testing.TB, p person, labels func(*issuertest.Tenant)) *world {
	return newWorld(t, &issuertest.Options{Issuer: p.Issuer}, func(w *world) {
		labels(&w.wiki)
		w.idp.Be(p.says())
	})
}

type labels = issuertest.Tenant

// Each row is labels, claims and the result. refused is the label that the operator's log names;
// the client hears access_denied and no label.
func TestAccessRulesDecideWhoMayComeIn(t *testing.T) {
	const entraGroup = "0760b6cf-170e-4a14-91b3-4b78e0739963"
	for _, c := range []struct {
		name    string
		claims  string // file
		labels  labels
		refused string
	}{
		{"no rule admits everybody", "google-gmail", labels{}, ""},

		{"Google: an account of the Workspace", "google-workspace", labels{AllowedDomains: []string{"example.com"}}, ""},
		{"Google: the domain in other letters", "google-workspace", labels{AllowedDomains: []string{"EXAMPLE.com"}}, ""},
		{"Google: an account of another Workspace", "google-workspace", labels{AllowedDomains: []string{"example.org"}}, "allowedDomains"},
		{"Google: a consumer account with the company's address", "google-consumer-at-a-company", labels{AllowedDomains: []string{"example.com"}}, "allowedDomains"},
		{"Google: gmail.com is no Workspace", "google-gmail", labels{AllowedDomains: []string{"gmail.com"}}, "allowedDomains"},
		{"Google: one address of Gmail", "google-gmail", labels{AllowedEmails: []string{"ada.lovelace@gmail.com"}}, ""},
		{"Google: the address in other letters", "google-workspace", labels{AllowedEmails: []string{"ADA@EXAMPLE.COM"}}, ""},
		{"Google: another address", "google-gmail", labels{AllowedEmails: []string{"bob@gmail.com", "eve@gmail.com"}}, "allowedEmails"},
		{"Google: it sends no groups", "google-workspace", labels{AllowedGroups: []string{"admins"}}, "allowedGroups"},
		{"Google: the subject", "google-workspace", labels{AllowedSubjects: []string{"110169484474386276334"}}, ""},
		{"Google: another subject", "google-workspace", labels{AllowedSubjects: []string{"110169484474386276335"}}, "allowedSubjects"},

		{"all rules must hold: they do", "google-workspace", labels{AllowedDomains: []string{"example.com"}, AllowedEmails: []string{"ada@example.com"}}, ""},
		{"all rules must hold: the second does not", "google-workspace", labels{AllowedDomains: []string{"example.com"}, AllowedEmails: []string{"bob@example.com"}}, "allowedEmails"},
		{"all rules must hold: the domain does not", "dex", labels{AllowedGroups: []string{"acme"}, AllowedDomains: []string{"example.org"}}, "allowedDomains"},

		{"Entra: a group's object id", "entra", labels{AllowedGroups: []string{entraGroup}}, ""},
		{"Entra: another group's", "entra", labels{AllowedGroups: []string{"11111111-170e-4a14-91b3-4b78e0739963"}}, "allowedGroups"},
		{"Entra: an app role", "entra", labels{AllowedGroups: []string{"Wiki.Admin"}, GroupsClaim: "roles"}, ""},
		{"Entra: its e-mail address is nobody's word", "entra", labels{AllowedDomains: []string{"example.com"}}, "allowedDomains"},
		{"Entra: nor does the address itself count", "entra", labels{AllowedEmails: []string{"ada@example.com"}}, "allowedEmails"},
		{"Entra: with xms_edov the domain counts", "entra-domain-owner-verified", labels{AllowedDomains: []string{"example.com"}}, ""},
		{"Entra: too many groups are none", "entra-too-many-groups", labels{AllowedGroups: []string{entraGroup}}, "allowedGroups"},
		{"Entra: roles are there with too many groups", "entra-too-many-groups", labels{AllowedGroups: []string{"Wiki.Admin"}, GroupsClaim: "roles"}, ""},

		{"Keycloak: a realm role", "keycloak", labels{AllowedGroups: []string{"wiki-admin"}, GroupsClaim: "realm_access.roles"}, ""},
		{"Keycloak: a realm role in userinfo only", "keycloak-roles-in-userinfo", labels{AllowedGroups: []string{"wiki-admin"}, GroupsClaim: "realm_access.roles"}, ""},
		{"Keycloak: a role of a client with dots in its id", "keycloak", labels{AllowedGroups: []string{"editor"}, GroupsClaim: "resource_access.wiki.example.com.roles"}, ""},
		{"Keycloak: that client's role is none of the realm's", "keycloak", labels{AllowedGroups: []string{"editor"}, GroupsClaim: "realm_access.roles"}, "allowedGroups"},
		{"Keycloak: a group's path", "keycloak", labels{AllowedGroups: []string{"/eng/devs"}}, ""},
		{"Keycloak: a top group without its slash", "keycloak", labels{AllowedGroups: []string{"admins"}}, ""},
		{"Keycloak: a group below another is not the top one", "keycloak", labels{AllowedGroups: []string{"devs"}}, "allowedGroups"},
		{"Keycloak: groups are told apart by letter case", "keycloak", labels{AllowedGroups: []string{"Admins"}}, "allowedGroups"},
		{"Keycloak: a verified address", "keycloak", labels{AllowedDomains: []string{"example.com"}}, ""},
		{"Keycloak: an address that the person only wrote", "keycloak-unverified", labels{AllowedDomains: []string{"example.com"}}, "allowedDomains"},
		{"Keycloak: nor as an address", "keycloak-unverified", labels{AllowedEmails: []string{"ada@example.com"}}, "allowedEmails"},
		{"Keycloak: the path leads nowhere", "keycloak", labels{AllowedGroups: []string{"wiki-admin"}, GroupsClaim: "realm_access.roles.more"}, "allowedGroups"},

		{"Zitadel: a role, which is a key of an object in userinfo", "zitadel", labels{AllowedGroups: []string{"wiki-admin"}, GroupsClaim: "urn:zitadel:iam:org:project:roles"}, ""},
		{"Zitadel: another role", "zitadel", labels{AllowedGroups: []string{"owner"}, GroupsClaim: "urn:zitadel:iam:org:project:roles"}, "allowedGroups"},
		{"Zitadel: an organisation's id is no role", "zitadel", labels{AllowedGroups: []string{"167255531502796801"}, GroupsClaim: "urn:zitadel:iam:org:project:roles"}, "allowedGroups"},
		{"Zitadel: a verified address in userinfo", "zitadel", labels{AllowedDomains: []string{"example.com"}}, ""},

		{"Okta: a group in userinfo, with a blank", "okta", labels{AllowedGroups: []string{"Wiki Admins"}}, ""},
		{"Okta: a verified address in userinfo", "okta", labels{AllowedEmails: []string{"ada@example.com"}}, ""},

		{"authentik: a group", "authentik", labels{AllowedGroups: []string{"wiki"}}, ""},
		{"authentik: an address that the operator's mapping verifies", "authentik", labels{AllowedDomains: []string{"example.com"}}, ""},
		{"authentik: the default mapping verifies none", "authentik-default-mapping", labels{AllowedDomains: []string{"example.com"}}, "allowedDomains"},

		{"Dex: a team, with a colon", "dex", labels{AllowedGroups: []string{"acme:admins"}}, ""},
		{"Dex: another team", "dex", labels{AllowedGroups: []string{"acme:owners"}}, "allowedGroups"},

		{"Cognito: verified as a text", "cognito", labels{AllowedDomains: []string{"example.com"}}, ""},
		{"Cognito: groups under a name with a colon", "cognito", labels{AllowedGroups: []string{"admins"}, GroupsClaim: "cognito:groups"}, ""},
		{"Auth0: one group, as a text, under a URL", "namespaced", labels{AllowedGroups: []string{"admins"}, GroupsClaim: "https://wiki.example.com/groups"}, ""},

		{"scopeRules give what is required", "dex", labels{ScopeRules: []string{"group:acme:admins=wiki:write wiki:read"}, RequiredScopes: []string{"wiki:read"}}, ""},
		{"scopeRules give nothing of what is required", "dex", labels{ScopeRules: []string{"group:owners=wiki:write wiki:read"}, RequiredScopes: []string{"wiki:read"}}, "scopeRules"},
		{"scopeRules give a part of what is required", "dex", labels{ScopeRules: []string{"group:acme=wiki:read"}, RequiredScopes: []string{"wiki:read", "wiki:write"}}, "scopeRules"},
	} {
		for _, exchange := range []string{"token", "callback"} {
			t.Run(c.name+", exchange="+exchange, func(t *testing.T) {
				p := readPerson(t, c.claims)
				w := visit(t, p, func(tn *labels) {
					tn.RequiredScopes = nil
					for _, f := range reflect.VisibleFields(reflect.TypeFor[labels]()) {
						if v := reflect.ValueOf(c.labels).FieldByIndex(f.Index); !v.IsZero() {
							reflect.ValueOf(tn).Elem().FieldByIndex(f.Index).Set(v)
						}
					}
					tn.Exchange = exchange
				})
				a := w.register(w.wiki.PublicURL, nil)
				var told string
				switch browser := issuertest.NewBrowser(t, w.net); {
				case c.refused == "":
					r := a.token(a.redemption(a.codeIn(browser))).wants(t, 200, "")
					if sub := w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())["sub"]; sub != p.IDToken["sub"] {
						t.Errorf("sub %v, want %v", sub, p.IDToken["sub"])
					}
					return
				case exchange == "token": // the browser is gone: the client is told
					told = a.token(a.redemption(a.codeIn(browser))).wants(t, 400, "access_denied").Body
				default: // the person is told, and from there the client
					page := browser.Get(browser.Upstream(browser.Decide(browser.Get(a.authorizeURL()), "allow")))
					back, err := url.Parse(page.Link())
					if err != nil || page.Status != 403 || page.Next() != "" || !strings.Contains(page.Body, "This account may not come in") ||
						back.Query().Get("error") != "access_denied" || back.Query().Get("state") != a.state {
						t.Fatalf("status %d, link %q (%v): %s", page.Status, page.Link(), err, page.Body)
					}
					told = page.Body + page.Link()
				}
				health := newRequest(t, "GET", "/healthz", "", "")
				if counted := readReply(t, issuertest.Serve(w.replica(), health)).JSON["counters"].(map[string]any)["not_admitted"]; counted != 1.0 {
					t.Errorf("%v refusals are counted", counted)
				}
				if strings.Contains(told, "allowed") || strings.Contains(told, "scopeRules") || !strings.Contains(told, "this account is not admitted") && !strings.Contains(told, "This account is not admitted") {
					t.Errorf("the stranger was told %s", told)
				}
				if log := w.log.String(); !strings.Contains(log, `not admitted by the label `+c.refused+":") || strings.Contains(log, "ada@example.com") && !slices.Contains(c.labels.AllowedEmails, "ada@example.com") {
					t.Errorf("the log should name %s and no address: %s", c.refused, log)
				}
			})
		}
	}
}

// A test reads each file, and each provider has one.
func TestClaimsFilesAreAllUsed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "claims", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	self, err := os.ReadFile("access_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if !strings.Contains(string(self), `"`+name+`"`) {
			t.Errorf("%s is read by no test", f)
		}
	}
}

// Texts that look like an address but are not one, and addresses of another domain.
func TestAddressesThatAreJudged(t *testing.T) {
	for _, c := range []struct {
		name     string
		email    any
		verified any
		ok       bool
	}{
		{"plain", "ada@example.com", true, true},
		{"in capitals", "ADA@EXAMPLE.COM", true, true},
		{"verified, as a text", "ada@example.com", "true", true},
		{"not verified", "ada@example.com", false, false},
		{"not verified, as a text", "ada@example.com", "false", false},
		{"verified is missing", "ada@example.com", nil, false},
		{"verified is a number", "ada@example.com", 1, false},
		{"verified is a list", "ada@example.com", []string{"true"}, false},
		{"xms_edov is Entra's word only", "ada@example.com", "xms_edov", false},
		{"the domain inside another", "ada@example.com.evil.org", true, false},
		{"a domain below it", "ada@mail.example.com", true, false},
		{"the domain as the end of another", "ada@notexample.com", true, false},
		{"two @", "ada@evil.org@example.com", true, false},
		{"two @, the first in quotes", `"ada@evil.org"@example.com`, true, false},
		{"the domain before the @", "example.com@evil.org", true, false},
		{"nothing before the @", "@example.com", true, false},
		{"no @", "example.com", true, false},
		{"a dot behind", "ada@example.com.", true, false},
		{"a blank behind", "ada@example.com ", true, false},
		{"a line break", "ada@example.com\r\nX-Mcp-Groups: admins", true, false},
		{"a NUL", "ada\x00@example.com", true, false},
		{"the Kelvin sign for a k in the domain", "ada@\u212Aelvin.example", true, false},
		{"too long", strings.Repeat("a", 250) + "@example.com", true, false},
		{"a list", []string{"ada@example.com"}, true, false},
		{"empty", "", true, false},
	} {
		for _, place := range []string{"id_token", "userinfo"} {
			t.Run(c.name+", in "+place, func(t *testing.T) {
				w := newWorld(t, nil, func(w *world) {
					w.wiki.AllowedDomains = []string{"example.com", "kelvin.example"}
					said := map[string]any{"email": c.email, "email_verified": c.verified}
					if c.verified == nil {
						delete(said, "email_verified")
					}
					if c.verified == "xms_edov" {
						said = map[string]any{"email": c.email, "xms_edov": true}
					}
					be := issuertest.Behaviour{Claims: func(m map[string]any) {
						delete(m, "email")
						if place == "id_token" {
							maps.Copy(m, said)
						}
					}}
					if place == "userinfo" {
						be.UserInfo = map[string]any{"sub": "person-1"}
						maps.Copy(be.UserInfo, said)
					}
					w.idp.Be(be)
				})
				a := w.register(w.wiki.PublicURL, nil)
				got := a.token(a.redemption(a.code()))
				switch {
				case c.ok:
					got.wants(t, 200, "")
				default:
					got.wants(t, 400, "access_denied")
				}
			})
		}
	}
}

// relabel changes the tenant's labels, as Traefik does without a restart of the sidecar.
func (w *world) relabel(change func(*labels)) {
	change(&w.wiki)
	w.net = &issuertest.Internet{}
	w.serve(w.wiki)
}

// A changed label takes effect at the next refresh, which judges by what the provider said last.
func TestRuleThatChangesTakesEffectAtTheNextRefresh(t *testing.T) {
	sessions := func(b *issuertest.Behaviour) { b.Refresh = "none" }
	many := []string{"first", "acme"}
	for i := range 64 {
		many = append(many, fmt.Sprint("group ", i))
	}
	for _, c := range []struct {
		name   string
		before labels
		after  func(*labels)
		be     func(*issuertest.Behaviour) // of the provider, after the login
		status int
		code   string
		asked  int // how often the provider was asked at this refresh
	}{
		{"the person is still named", labels{AllowedEmails: []string{"ada@example.com"}},
			func(t *labels) { t.AllowedEmails = []string{"bob@example.com", "ada@example.com"} }, nil, 200, "", 0},
		{"the person is named no more", labels{AllowedEmails: []string{"ada@example.com"}},
			func(t *labels) { t.AllowedEmails = []string{"bob@example.com"} }, nil, 400, "access_denied", 0},
		{"a subject is ruled out where no claim was needed", labels{},
			func(t *labels) { t.AllowedSubjects = []string{"somebody"} }, nil, 400, "access_denied", 0},
		{"a rule needs a claim that was not read: the provider is asked", labels{},
			func(t *labels) { t.AllowedDomains = []string{"example.com"} }, nil, 200, "", 1},
		{"the same, and the answer is no", labels{},
			func(t *labels) { t.AllowedDomains = []string{"example.org"} }, nil, 400, "access_denied", 1},
		{"another group is asked for", labels{AllowedGroups: []string{"acme:admins"}},
			func(t *labels) { t.AllowedGroups = []string{"acme"} }, nil, 200, "", 1},
		{"groups are in another claim now", labels{AllowedGroups: []string{"acme:admins"}},
			func(t *labels) { t.GroupsClaim = "roles" }, nil, 400, "access_denied", 1},
		{"a rule less", labels{AllowedGroups: []string{"acme:admins"}, AllowedDomains: []string{"example.com"}},
			func(t *labels) { t.AllowedGroups = nil }, nil, 200, "", 0},
		{"a group less", labels{AllowedGroups: []string{"acme", "acme:admins", "staff"}},
			func(t *labels) { t.AllowedGroups = []string{"acme:admins"} }, nil, 200, "", 0},
		{"a group less, and nobody can be asked", labels{AllowedGroups: []string{"acme", "staff"}},
			func(t *labels) { t.AllowedGroups = []string{"acme"} }, sessions, 200, "", 0},
		{"the person's group less, and nobody can be asked", labels{AllowedGroups: []string{"acme", "staff"}},
			func(t *labels) { t.AllowedGroups = []string{"staff"} }, sessions, 400, "access_denied", 0},
		{"no group any more, and nobody can be asked", labels{AllowedGroups: []string{"acme"}},
			func(t *labels) { t.AllowedGroups = nil }, sessions, 200, "", 0},
		{"a group more, and nobody can be asked", labels{AllowedGroups: []string{"acme"}},
			func(t *labels) { t.AllowedGroups = []string{"acme", "staff"} }, sessions, 400, "invalid_grant", 0},
		{"another group of so many that they count as one", labels{AllowedGroups: many},
			func(t *labels) { t.AllowedGroups = many[1:] }, nil, 200, "", 1},
		{"claims are not handed on any more, and nobody can be asked", labels{IdentityClaims: []string{"email", "name", "groups"}},
			func(t *labels) { t.IdentityClaims = nil }, sessions, 200, "", 0},
		{"a rule names a group where all were handed on, and nobody can be asked", labels{IdentityClaims: []string{"groups"}},
			func(t *labels) { t.IdentityClaims, t.AllowedGroups = nil, []string{"acme"} }, sessions, 400, "invalid_grant", 0},
		{"a rule needs a claim that was not read, and nobody can be asked", labels{},
			func(t *labels) { t.AllowedDomains = []string{"example.com"} }, sessions, 400, "invalid_grant", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := readPerson(t, "dex")
			w := visit(t, p, func(tn *labels) {
				tn.AllowedEmails, tn.AllowedGroups, tn.AllowedDomains = c.before.AllowedEmails, c.before.AllowedGroups, c.before.AllowedDomains
				tn.IdentityClaims = c.before.IdentityClaims
			})
			be := p.says()
			if c.be != nil {
				c.be(&be)
			}
			w.idp.Be(be)
			a := w.register(w.wiki.PublicURL, nil)
			tokens := a.login()
			posts := w.idp.Posts()
			w.relabel(c.after)
			a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, c.status, c.code)
			if n := w.idp.Posts() - posts; n != c.asked {
				t.Errorf("the provider was asked %d times, want %d", n, c.asked)
			}
		})
	}
}

// docs/runbooks/hop-key.md: whoever has the hop key and an account at the provider can give that
// account any rights, but not another person's name.
func TestHopKeyGivesNoOtherSubject(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.wiki.AllowedGroups, w.wiki.IdentityClaims = []string{"staff"}, []string{"groups"}
		w.wiki.ScopeRules = []string{"group:admins=mcp:read mcp:write wiki:admin", "group:staff=mcp:read mcp:write"}
	})
	w.idp.Be(issuertest.Behaviour{Claims: func(m map[string]any) { m["nickname"] = "admins" }})
	a := w.register(w.wiki.PublicURL, nil)
	a.token(a.redemption(a.code())).wants(t, 400, "access_denied")
	w.relabel(func(t *labels) {
		t.AllowedGroups, t.GroupsClaim, t.ScopeRules = nil, "nickname", []string{"*=mcp:read mcp:write wiki:admin"}
	})
	claims := w.verifiedToken(a.base, a.login().text("access_token"), w.clock.Now())
	if claims["sub"] != "person-1" || claims["scope"] != "mcp:read mcp:write wiki:admin" || !reflect.DeepEqual(claims["groups"], []any{"admins"}) {
		t.Errorf("sub %v, scope %v, groups %v", claims["sub"], claims["scope"], claims["groups"])
	}
}

// A refresh whose answer was lost is repeated with the same refresh token, though the labels have
// changed since (docs/replay.md). The claims were read under the old labels, so the access token is
// a short one.
func TestLabelChangesWhileAnAnswerIsRepeated(t *testing.T) {
	for _, c := range []struct {
		name   string
		after  func(*labels)
		status int
		code   string
		life   float64
	}{
		{"no label", func(*labels) {}, 200, "", 3600},
		{"one that needs no other claim", func(t *labels) { t.AllowedSubjects = []string{"somebody"} }, 400, "access_denied", 0},
		{"groups are in another claim now", func(t *labels) { t.GroupsClaim = "roles" }, 200, "", 420},
		{"another group is asked for, which was not read", func(t *labels) { t.AllowedGroups = []string{"acme"} }, 400, "access_denied", 0},
	} {
		for _, guard := range []string{"none", "memory"} {
			t.Run(c.name+", guard "+guard, func(t *testing.T) {
				p := readPerson(t, "dex")
				w := newWorld(t, &issuertest.Options{Issuer: p.Issuer}, func(w *world) {
					w.guarded(guard)
					w.wiki.AllowedGroups, w.wiki.Refresh = []string{"acme:admins"}, "upstream"
					w.idp.Be(p.says())
				})
				a := w.register(w.wiki.PublicURL, nil)
				tokens := a.login()
				w.clock.Add(time.Hour)
				first := a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
				w.relabel(c.after)
				w.clock.Add(30 * time.Second)
				posts := w.idp.Posts()
				again := a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, c.status, c.code)
				// many providers take a token that comes twice for a sign of theft
				if n := w.idp.Posts() - posts; n != 0 {
					t.Errorf("the provider was asked %d times", n)
				}
				if c.code == "" && (again.JSON["expires_in"] != c.life || again.text("refresh_token") != first.text("refresh_token")) {
					t.Errorf("again: %s, first: %s", again.Body, first.Body)
				}
				if c.life == 420 { // the next refresh reads what today's labels need
					a.token(a.refreshment(first.text("refresh_token"))).wants(t, 400, "access_denied")
					if n := w.idp.Posts() - posts; n != 1 {
						t.Errorf("the provider was asked %d times", n)
					}
				}
			})
		}
	}
}

// With exchange=callback the person's claims are read before the code is made, and labels can
// change until the code is redeemed.
func TestLabelChangesBeforeACodeIsRedeemed(t *testing.T) {
	p := readPerson(t, "dex")
	w := visit(t, p, func(tn *labels) {
		tn.AllowedGroups, tn.Refresh, tn.Exchange = []string{"acme:admins"}, "upstream", "callback"
	})
	a := w.register(w.wiki.PublicURL, nil)
	code := a.code()
	w.relabel(func(t *labels) { t.GroupsClaim = "roles" })
	tokens := a.token(a.redemption(code)).wants(t, 200, "")
	if tokens.JSON["expires_in"] != 420.0 {
		t.Errorf("%s", tokens.Body)
	}
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 400, "access_denied")
}

// What the provider says at a later check counts from then on, in both directions.
func TestCheckSeesAChangedPerson(t *testing.T) {
	p := readPerson(t, "dex")
	w := visit(t, p, func(tn *labels) { tn.AllowedGroups, tn.IdentityClaims = []string{"acme:admins"}, []string{"groups"} })
	a := w.register(w.wiki.PublicURL, nil)
	tokens := a.login()
	groups := func(r reply) any { return w.verifiedToken(a.base, r.text("access_token"), w.clock.Now())["groups"] }
	if got := groups(tokens); !reflect.DeepEqual(got, []any{"acme:admins", "acme"}) {
		t.Errorf("groups %v", got)
	}

	p.IDToken["groups"] = []any{"acme:admins", "acme:new"}
	w.clock.Add(time.Hour)
	tokens = a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "")
	if got := groups(tokens); !reflect.DeepEqual(got, []any{"acme:admins", "acme:new"}) {
		t.Errorf("groups after the check %v", got)
	}

	p.IDToken["groups"] = []any{"acme"}
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 200, "") // no check is due
	w.clock.Add(time.Hour)
	a.token(a.refreshment(tokens.text("refresh_token"))).wants(t, 400, "access_denied")
}

// The log says once, in words, who can log in. It warns if everybody can, except where each cold
// start would repeat the warning.
func TestLogSaysWhoMayComeIn(t *testing.T) {
	const container, lambda = false, true
	for _, c := range []struct {
		name     string
		onLambda bool
		issuer   string
		labels   labels
		level    string
		words    string
	}{
		{"everybody", container, "https://accounts.google.com", labels{}, "WARN", "everybody who can log in at https://accounts.google.com; to say who may, set allowedEmails,"},
		{"everybody, on Lambda", lambda, "https://accounts.google.com", labels{}, "INFO", "everybody who can log in at https://accounts.google.com; to say who may, set allowedEmails,"},
		{"a Workspace", container, "https://accounts.google.com", labels{AllowedDomains: []string{"example.com", "example.org"}}, "INFO",
			"who can log in at https://accounts.google.com and has an account of one of the Google Workspaces example.com, example.org"},
		{"several rules", container, "https://dex.example.com/dex", labels{AllowedDomains: []string{"example.com"}, AllowedGroups: []string{"admins"}, AllowedEmails: []string{"a@example.com"}, AllowedSubjects: []string{"x"}}, "INFO",
			"and has one of the verified e-mail addresses a@example.com and has a verified e-mail address at one of example.com and is in one of the groups admins and is one of the subjects x"},
		{"scope rules and required scopes", container, "https://dex.example.com/dex", labels{ScopeRules: []string{"group:admins=wiki:read"}, RequiredScopes: []string{"wiki:read"}}, "INFO", "and gets from scopeRules wiki:read"},
		{"a required scope that the provider is asked for", container, "https://dex.example.com/dex", labels{Scopes: []string{"openid", "wiki:read"}, RequiredScopes: []string{"wiki:read"}}, "WARN",
			"everybody who can log in at https://dex.example.com/dex and is granted wiki:read there, which many providers grant to everybody; to say who may"},
		{"a required scope that nobody is asked for", container, "https://dex.example.com/dex", labels{RequiredScopes: []string{"wiki:read"}}, "WARN",
			"everybody who can log in at https://dex.example.com/dex; they all get wiki:read: to say who gets it, set scopeRules; to say who may"},
		{"scope rules that give everybody what is required", container, "https://dex.example.com/dex", labels{ScopeRules: []string{"*=wiki:read"}, RequiredScopes: []string{"wiki:read"}}, "WARN", "everybody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, &issuertest.Options{Issuer: c.issuer}, func(w *world) {
				c.labels.PublicURL, c.labels.Resource, c.labels.Audience = w.wiki.PublicURL, "wiki", "wiki"
				c.labels.ProviderIssuer, c.labels.ClientID, c.labels.ClientSecret, c.labels.Exchange = w.idp.Issuer, "bouncer", "s", "token"
				w.wiki = c.labels
				w.config = func(config *issuer.Config) { config.OnLambda = c.onLambda }
			})
			for range 3 {
				w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
				w.clock.Add(time.Minute) // another hop header
			}
			lines := 0
			for line := range strings.Lines(w.log.String()) {
				if strings.Contains(line, `"who may come in"`) {
					lines++
					if !strings.Contains(line, `"level":"`+c.level+`"`) || !strings.Contains(line, c.words) {
						t.Errorf("the log says %s", line)
					}
				}
			}
			if lines != 1 {
				t.Errorf("it is said %d times", lines)
			}
			w.relabel(func(t *labels) { t.AllowedSubjects = []string{"somebody new"} })
			w.get(w.wiki.PublicURL + "/oauth/jwks.json")
			if !strings.Contains(w.log.String(), "somebody new") {
				t.Error("changed rules are not announced")
			}
		})
	}
}

// A rule of the operator's names a claim by mistake, for which this provider cannot be asked. The
// provider refused nobody, so no login ends.
func TestRuleThatIsASlipEndsNoLoginAtASilentProvider(t *testing.T) {
	for _, guard := range []string{"none", "memory"} {
		t.Run("guard "+guard, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.guarded(guard)
				w.wiki.AllowedEmails = []string{"ada@example.com"}
			})
			w.idp.Be(issuertest.Behaviour{Refresh: "static", OmitNewIDToken: true, Claims: func(m map[string]any) {
				m["email"], m["email_verified"] = "ada@example.com", true
			}})
			a := w.register(w.wiki.PublicURL, nil)
			token := a.login().text("refresh_token")
			w.relabel(func(t *labels) { t.AllowedGroups = []string{"acme"} })
			a.token(a.refreshment(token)).wants(t, 400, "invalid_grant")
			w.clock.Add(2 * time.Minute)
			w.relabel(func(t *labels) { t.AllowedGroups = nil })
			a.token(a.refreshment(token)).wants(t, 200, "")
			counters := w.direct("GET", "/healthz").JSON["counters"].(map[string]any)
			if counters["families_refused"] != float64(0) { // docs/replay.md: "by the provider"
				t.Errorf("families_refused %v, and the provider refused nothing", counters["families_refused"])
			}
		})
	}
}
