package issuer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// linesOf returns the log's lines with a message, decoded.
func linesOf(t *testing.T, log, message string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if m["msg"] == message {
			found = append(found, m)
		}
	}
	return found
}

// One request for the keys, which is what the plugin sends at load, and the log says what would
// otherwise be found out by the first person who signs in.
func TestWhatIsMissingIsSaidWhenTheTenantIsFirstSeen(t *testing.T) {
	sealed := issuer.SealSecret(newRing(t, masterOne), "https://another.example", "client", "s", issuertest.NewClock().Now())
	for _, c := range []struct{ name, secret, variable, cause string }{
		{"a plain secret", "plain", "", ""},
		{"a variable that is there", "env:WIKI_CLIENT_SECRET", "s", ""},
		{"a variable that is missing or empty", "env:WIKI_CLIENT_SECRET", "", "WIKI_CLIENT_SECRET"},
		{"a variable of another kind", "env:WIKI_KEY", "s", "must end in CLIENT_SECRET"},
		{"a secret that was sealed for another provider", sealed, "", "was sealed for another provider, client or master secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.wiki.ClientSecret = c.secret
				w.config = func(config *issuer.Config) {
					config.Getenv = func(name string) string {
						if name == "WIKI_CLIENT_SECRET" || name == "WIKI_KEY" {
							return c.variable
						}
						return ""
					}
				}
			})
			for range 3 {
				w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
				w.clock.Add(time.Minute) // another hop header
			}
			lines := linesOf(t, w.log.String(), "nobody can log in: there is no client secret for the provider")
			if c.cause == "" {
				if len(lines) != 0 {
					t.Errorf("%v", lines)
				}
			} else if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["issuer"] != "https://mcp.localhost/wiki" || lines[0]["provider"] != w.idp.Issuer || !strings.Contains(lines[0]["cause"].(string), c.cause) {
				t.Errorf("%v", lines)
			}
			who := linesOf(t, w.log.String(), "who may come in")
			if len(who) != 1 || who[0]["redirect URI to register at the provider"] != "https://mcp.localhost/wiki/oauth/callback" || who[0]["client_id"] != w.idp.ClientID {
				t.Errorf("%v", who)
			}
			if text := w.log.String(); strings.Contains(text, "plain\"") || strings.Contains(text, "mbs1_") {
				t.Errorf("the log holds the secret: %s", text)
			}
		})
	}
}

func TestChangedLabelsAreSaid(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*labels)
		message string
		want    map[string]any
	}{
		{"publicURL", func(l *labels) { l.PublicURL = "https://other.localhost/wiki" }, "another public URL for the same resource: after a change of publicURL clients log in anew; two middlewares of one resource do not accept each other's tokens",
			map[string]any{"issuer": "https://other.localhost/wiki", "before": "https://mcp.localhost/wiki"}},
		{"provider", func(l *labels) { l.ProviderIssuer = "https://sso.example" }, "label changed", map[string]any{"label": "providerIssuer", "now": "https://sso.example"}},
		{"client", func(l *labels) { l.ClientID = "another" }, "label changed", map[string]any{"label": "clientID", "now": "another"}},
		{"scopes", func(l *labels) { l.Scopes = []string{"openid", "groups"} }, "label changed",
			map[string]any{"label": "scopes", "before": "openid email offline_access", "now": "openid groups"}},
		{"required scopes", func(l *labels) { l.RequiredScopes = []string{"mcp:read"} }, "label changed",
			map[string]any{"label": "requiredScopes", "before": "mcp:read mcp:write", "now": "mcp:read"}},
		{"nothing", func(*labels) {}, "label changed", nil},
		{"a name for people", func(l *labels) { l.DisplayName = "Our wiki" }, "label changed", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			before := w.wiki
			seen := func(tn issuertest.Tenant) {
				w.net = &issuertest.Internet{}
				w.serve(tn)
				w.get(tn.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
				w.clock.Add(time.Minute)
			}
			after := before
			c.change(&after)
			seen(before)
			seen(after)
			// Two that alternate, as replicas of Traefik do while a change is under way, are said
			// once.
			for range 3 {
				seen(before)
				seen(after)
			}
			lines := linesOf(t, w.log.String(), c.message)
			if c.want == nil {
				if len(lines) != 0 {
					t.Errorf("%v", lines)
				}
				return
			}
			if len(lines) != 2 { // there and back
				t.Fatalf("%d lines: %v", len(lines), lines)
			}
			for name, value := range c.want {
				if lines[0][name] != value {
					t.Errorf("%s: %v, want %v", name, lines[0][name], value)
				}
			}
		})
	}
}

// Two middlewares may have one name for their resources: a line that says the name alone is about
// either of them.
func TestEachLineAboutATenantNamesItsIssuer(t *testing.T) {
	// In the sources nothing but named writes the member.
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") || file == "announce.go" {
			continue
		}
		if found := regexp.MustCompile(`.*"tenant",.*`).Find(text); found != nil {
			t.Errorf("%s: use named: %s", file, found)
		}
	}
	// And in a run.
	w := newWorld(t, nil, nil)
	a := w.register(w.wiki.PublicURL, nil)
	a.login()
	w.get(w.wiki.PublicURL + "/oauth/token")
	var messages []string
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["tenant"] != nil {
			messages = append(messages, m["msg"].(string))
			if m["tenant"] != "wiki" || m["issuer"] != w.wiki.PublicURL {
				t.Errorf("%s", line)
			}
		}
	}
	for _, want := range []string{"client registered", "consent asked", "login begins at the provider", "code issued", "token issued", "request refused", "who may come in"} {
		if !slices.Contains(messages, want) {
			t.Errorf("the run has not logged %q, but %q", want, messages)
		}
	}
}

// What no waiting mends is named in the log, with the label and what to write into it.
func TestADiscoveryThatFailsNamesItsCause(t *testing.T) {
	for _, c := range []struct {
		name   string
		label  string // after the issuer
		be     func(issuer string) issuertest.Behaviour
		causes []string
	}{
		{"a slash too few in the label", "", func(issuer string) issuertest.Behaviour {
			return issuertest.Behaviour{Discovery: map[string]any{"issuer": issuer + "/"}}
		}, []string{`label providerIssuer is "ISSUER"`, `the provider calls itself "ISSUER/": copy that into the label`}},
		{"a slash too many in the label", "/", func(string) issuertest.Behaviour { return issuertest.Behaviour{} },
			[]string{`label providerIssuer is "ISSUER/"`, `the provider calls itself "ISSUER": copy that into the label`}},
		{"another path", "", func(string) issuertest.Behaviour { return issuertest.Behaviour{DiscoveryStatus: 404} },
			[]string{"the provider answers 404 at .well-known/openid-configuration below it: see the label providerIssuer"}},
		{"a name that says much", "", func(issuer string) issuertest.Behaviour {
			return issuertest.Behaviour{Discovery: map[string]any{"issuer": "x\n" + strings.Repeat("y", 5000)}}
		}, []string{`the provider calls itself "x\nyyy`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.ProviderIssuer += c.label })
			w.idp.Be(c.be(w.idp.Issuer))
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			b.Decide(b.Get(a.authorizeURL()), "allow")
			lines := linesOf(t, w.log.String(), "discovery failed")
			if len(lines) == 0 || lines[0]["issuer"] != w.wiki.PublicURL {
				t.Fatalf("%v", lines)
			}
			cause, _ := lines[0]["cause"].(string)
			for _, want := range c.causes {
				if want = strings.ReplaceAll(want, "ISSUER", w.idp.Issuer); !strings.Contains(cause, want) {
					t.Errorf("%q is not in %q", want, cause)
				}
			}
			if len(cause) > 700 {
				t.Errorf("%d characters", len(cause))
			}
		})
	}
}
