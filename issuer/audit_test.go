package issuer_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/audit"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// eventsOf returns the lines of the log with that event, without time.
func eventsOf(t testing.TB, log, event string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if event == "" && m["event"] != nil || event != "" && m["event"] == event {
			delete(m, "time")
			found = append(found, m)
		}
	}
	return found
}

// some stands for any value that is not empty.
type some struct{}

// newAuditedWorld has a guard, a deny document and a first client, and names subjects if it is told
// to.
func newAuditedWorld(t *testing.T, subjects bool) (*world, denyFile, *app) {
	f := denyFile{t.TempDir() + "/deny.json"}
	f.write(t, `{"v":1,"serial":1}`)
	w := newWorld(t, nil, func(w *world) {
		w.guarded("shared")
		guarded := w.config
		w.config = func(c *issuer.Config) {
			guarded(c)
			source, err := deny.Open(f.name, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Deny, c.LogSubjects = source, subjects
		}
	})
	return w, f, w.register(w.wiki.PublicURL, nil)
}

// Each event is made to happen, and its line has exactly these fields.
func TestAuditEventsHaveExactlyTheirFields(t *testing.T) {
	type fields = map[string]any
	where := fields{"tenant": "wiki", "issuer": "https://mcp.localhost/wiki"}
	who := fields{"client": some{}, "subject": some{}, "family": some{}}
	all := func(parts ...fields) fields {
		whole := fields{}
		for _, part := range parts {
			maps.Copy(whole, part)
		}
		return whole
	}
	token := fields{"jti": some{}, "scope": "mcp:read mcp:write email", "seconds": 3600.0, "expires": some{}}
	lasting := all(token, fields{"refresh_until": some{}, "ends": some{}})
	refused := all(where, fields{"endpoint": "/oauth/token", "remote": "192.0.2.7", "status": 400.0, "error": "invalid_grant", "description": some{}, "cause": some{}})
	refresh := func(a *app, token string) reply { return a.token(a.refreshment(token)) }
	proves := func(w *world, a *app) *app { // the same client, from now on with a key
		w.relabel(func(l *labels) { l.DPoP = "accept" })
		return a.by(newProver("ES256", w.clock.Now))
	}
	happened, optional := map[string]bool{}, map[string]bool{}
	for _, c := range []struct {
		event, level string
		make         func(t *testing.T, w *world, f denyFile, a *app)
		want         fields
	}{
		{"client.registered", "INFO", func(*testing.T, *world, denyFile, *app) {},
			all(where, fields{"client": some{}, "name": "Test App", "redirect_uris": []any{callback}, "auth": "none", "remote": "192.0.2.7"})},
		{"authorization.asked", "INFO", func(_ *testing.T, _ *world, _ denyFile, a *app) { a.page() },
			all(where, fields{"client": some{}, "request": some{}, "redirect_host": "app.example", "resource": "https://mcp.localhost/wiki", "scope": "mcp:read mcp:write email"})},
		{"authorization.asked", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) { w.publish(documentURL, nil).page() },
			all(where, fields{"client": sealing.Fingerprint(documentURL), "document": documentURL, "request": some{}, "redirect_host": some{}, "resource": some{}, "scope": some{}})},
		{"consent.given", "INFO", func(_ *testing.T, _ *world, _ denyFile, a *app) { a.code() },
			all(where, fields{"request": some{}, "redirect_uri": callback, "scope": "mcp:read mcp:write email", "remember": false, "remote": "192.0.2.7"})},
		{"consent.given", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) { w.remembersOnce() },
			all(where, fields{"request": some{}, "redirect_uri": callback, "scope": "mcp:read mcp:write email", "remember": true, "remote": "192.0.2.7"})},
		{"consent.remembered", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) {
			b, a := w.remembersOnce()
			b.Do(a.click())
		}, all(where, fields{"client": sealing.Fingerprint(documentURL), "document": documentURL, "request": some{}, "subject": some{}, "redirect_host": "app.example",
			"resource": "https://mcp.localhost/wiki", "scope": "mcp:read mcp:write email", "given": some{}, "remote": "192.0.2.7"})},
		{"authorization.asked", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) {
			b, a := w.remembersOnce()
			b.Get(a.authorizeURL())
		}, all(where, fields{"client": sealing.Fingerprint(documentURL), "document": documentURL, "request": some{}, "redirect_host": some{}, "resource": some{}, "scope": some{},
			"because": "the browser does not send Sec-Fetch-Mode"})},
		{"consent.denied", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			b := issuertest.NewBrowser(t, w.net)
			b.Decide(b.Get(a.authorizeURL()), "deny")
		}, all(where, fields{"request": some{}, "redirect_uri": callback, "remote": "192.0.2.7"})},
		{"provider.returned", "INFO", func(_ *testing.T, _ *world, _ denyFile, a *app) { a.code() }, all(where, fields{"request": some{}, "exchange": "token"})},
		{"provider.returned", "INFO", func(_ *testing.T, w *world, _ denyFile, a *app) {
			w.relabel(func(l *labels) { l.Exchange = "callback" })
			a.code()
		}, all(where, fields{"request": some{}, "exchange": "callback", "subject": some{}})},
		{"token.issued", "INFO", func(_ *testing.T, _ *world, _ denyFile, a *app) { a.login() },
			all(where, who, lasting, fields{"grant": "authorization_code", "request": some{}})},
		{"login.presented", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			w.figures(fmt.Sprintf(`{"v":1,"presented":[{"sid":"q83v","client_id":%q}]}`, a.id)).wants(t, 204, "")
		}, all(where, fields{"client": some{}, "family": "q83v"})},
		{"login.refreshed", "INFO", func(t *testing.T, _ *world, _ denyFile, a *app) {
			refresh(a, a.login().text("refresh_token")).wants(t, 200, "")
		},
			all(where, who, lasting, fields{"grant": "refresh_token"})},
		{"login.refreshed", "INFO", func(t *testing.T, _ *world, _ denyFile, a *app) {
			token := a.login().text("refresh_token")
			refresh(a, token).wants(t, 200, "")
			refresh(a, token).wants(t, 200, "") // the last line counts
		}, all(where, who, token, fields{"grant": "refresh_token", "ends": some{}, "repeated": true})},
		{"login.bridged", "WARN", func(t *testing.T, w *world, _ denyFile, a *app) {
			token := a.login().text("refresh_token")
			w.clock.Add(time.Hour)
			w.idp.Be(issuertest.Behaviour{RefreshStatus: 500, RefreshError: "x"})
			refresh(a, token).wants(t, 200, "")
			if lines := eventsOf(t, w.log.String(), "login.refreshed"); len(lines) != 1 || lines[0]["refresh_until"] != nil || lines[0]["seconds"] != 420.0 {
				t.Errorf("with the same refresh token: %v", lines)
			}
		}, all(where, fields{"subject": some{}, "family": some{}, "provider's last word": some{}, "cause": some{}})},
		{"login.ended", "WARN", func(t *testing.T, w *world, _ denyFile, a *app) {
			token := a.login().text("refresh_token")
			refresh(a, token).wants(t, 200, "")
			w.clock.Add(10 * time.Minute)
			refresh(a, token).wants(t, 400, "invalid_grant")
		}, all(where, who, fields{"because": "a refresh token was presented again", "generation": 1.0})},
		{"login.revoked", "WARN", func(t *testing.T, _ *world, _ denyFile, a *app) {
			a.revoke(url.Values{"token": {a.login().text("refresh_token")}}).wants(t, 200, "")
		}, all(where, who, fields{"because": "its client revoked it", "generation": 0.0})},
		{"revocation.ignored", "INFO", func(t *testing.T, _ *world, _ denyFile, a *app) {
			a.revoke(url.Values{"token": {"mbr1_x"}}).wants(t, 200, "")
		}, all(where, fields{"client": some{}})},
		{"machine.admitted", "INFO", func(t *testing.T, w *world, _ denyFile, _ *app) {
			w.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write email"}, "client_secret_basic", nil).token(clientCredentials).wants(t, 200, "")
		}, all(where, who, token, fields{"grant": "client_credentials"})},
		{"machine.admitted", "INFO", func(t *testing.T, w *world, _ denyFile, _ *app) {
			key, err := issuer.CreateKey(newRing(t, masterOne), w.id(w.wiki), issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write email"}, 24*time.Hour, w.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			w.hop("/hop/token", url.Values{"key": {key.Key}}).wants(t, 200, "")
		}, all(where, who, token, fields{"grant": "key"})},
		{"assertion.redeemed", "INFO", func(t *testing.T, w *world, _ denyFile, _ *app) {
			w.relabel(func(l *labels) { l.EnterpriseIssuers = []string{w.idp.Issuer} })
			a := w.register(w.wiki.PublicURL, confidential)
			a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
		}, all(where, who, token, fields{"grant": "jwt-bearer"})},
		{"person.refused", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			token := a.login().text("refresh_token")
			w.relabel(func(l *labels) { l.AllowedSubjects = []string{"nobody"} })
			refresh(a, token).wants(t, 400, "access_denied")
		}, all(refused, who, fields{"error": "access_denied"})},
		{"request.denied", "INFO", func(t *testing.T, w *world, f denyFile, a *app) {
			token := a.login().text("refresh_token")
			family := eventsOf(t, w.log.String(), "token.issued")[0]["family"]
			f.write(t, fmt.Sprintf(`{"v":1,"serial":2,"families":{%q:""}}`, family))
			w.clock.Add(time.Minute)
			refresh(a, token).wants(t, 400, "invalid_grant")
		}, all(refused, who)},
		{"login.refreshed", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			a = proves(w, a)
			refresh(a, a.login().text("refresh_token")).wants(t, 200, "")
		}, all(where, who, lasting, fields{"grant": "refresh_token", "jkt": some{}})},
		{"login.refreshed", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			w.relabel(func(l *labels) { l.UpstreamToken = []string{"scopes="} })
			refresh(a, a.login().text("refresh_token")).wants(t, 200, "")
		}, all(where, who, lasting, fields{"grant": "refresh_token", "seconds": 3570.0, "upstream_seconds": 3600.0})},
		{"proof.refused", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			proves(w, a)
			r := a.tokenRequest(a.refreshment("x"))
			r.Header.Set("DPoP", "x")
			w.do(r).wants(t, 400, "invalid_dpop_proof")
		}, all(refused, fields{"client": some{}, "error": "invalid_dpop_proof"})},
		{"binding.broken", "WARN", func(t *testing.T, w *world, _ denyFile, a *app) {
			refresh(a, proves(w, a).login().text("refresh_token")).wants(t, 400, "invalid_dpop_proof")
		}, all(refused, who, fields{"error": "invalid_dpop_proof"})},
		{"nonce.asked", "DEBUG", func(_ *testing.T, w *world, _ denyFile, a *app) { proves(w, a).login() },
			all(refused, fields{"client": some{}, "error": "use_dpop_nonce"})},
		{"request.refused", "INFO", func(t *testing.T, w *world, _ denyFile, a *app) {
			token := a.login().text("refresh_token")
			w.clock.Add(15 * 24 * time.Hour)
			refresh(a, token).wants(t, 400, "invalid_grant")
		}, func() fields { f := all(refused, who); delete(f, "cause"); return f }()},
		{"request.refused", "INFO", func(_ *testing.T, _ *world, _ denyFile, a *app) { a.page("redirect_uri", "https://evil.example/") },
			func() fields {
				f := all(refused, fields{"endpoint": "/oauth/authorize", "error": "invalid_redirect_uri", "client": some{}, "reference": some{}})
				delete(f, "cause")
				return f
			}()},
		{"request.refused", "ERROR", func(_ *testing.T, w *world, _ denyFile, a *app) {
			w.idp.Be(issuertest.Behaviour{Status: 400, Error: "invalid_client"})
			a.token(a.redemption(a.code()))
		}, all(refused, fields{"status": 500.0, "error": "server_error", "client": some{}})},
		{"hop.refused", "WARN", func(_ *testing.T, w *world, _ denyFile, _ *app) { w.direct("GET", "/oauth/jwks.json", "mbh1_x") },
			fields{"cause": some{}, "remote": some{}}},
		{"deny.read", "INFO", func(_ *testing.T, _ *world, _ denyFile, a *app) { a.page() }, fields{"serial": 1.0}},
		{"label.changed", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) {
			w.relabel(func(l *labels) { l.DisplayName = "Our wiki" })
			w.get(w.wiki.PublicURL + "/oauth/jwks.json")
		}, all(where, fields{"label": "displayName", "before": "wiki", "now": "Our wiki"})},
		{"resource.moved", "WARN", func(_ *testing.T, w *world, _ denyFile, _ *app) {
			w.relabel(func(l *labels) { l.PublicURL = "https://other.localhost/wiki" })
			w.get(w.wiki.PublicURL + "/oauth/jwks.json")
		}, fields{"tenant": "wiki", "issuer": "https://other.localhost/wiki", "before": "https://mcp.localhost/wiki"}},
		{"access.announced", "WARN", func(*testing.T, *world, denyFile, *app) {}, all(where, fields{"who": some{}, "client_id": some{},
			"redirect URI to register at the provider": "https://mcp.localhost/wiki/oauth/callback", "provider": some{}, "its discovery document": "read", "tenant_id": some{}})},
		{"access.announced", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) {
			w.relabel(func(l *labels) {
				l.ClientAuth, l.ClientSecret, l.AllowedSubjects = "private_key_jwt", "", []string{"person-1"}
			})
			w.get(w.wiki.PublicURL + "/oauth/jwks.json")
		}, all(where, fields{"who": some{}, "client_id": some{}, "JWKS URL to register at the provider": some{},
			"redirect URI to register at the provider": some{}, "provider": some{}, "its discovery document": some{}, "tenant_id": some{}})},
		{"key.changed", "INFO", func(_ *testing.T, w *world, _ denyFile, _ *app) {
			w.clock.Add(25 * time.Hour)
			w.get(w.wiki.PublicURL + "/oauth/jwks.json")
		}, fields{"epoch": some{}, "before": some{}, "next key": some{}}},
	} {
		for _, subjects := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/subjects=%v", c.event, subjects), func(t *testing.T) {
				w, f, a := newAuditedWorld(t, subjects)
				c.make(t, w, f, a)
				want := maps.Clone(c.want)
				if subjects && want["subject"] != nil {
					want["sub"] = some{}
				}
				declared := declaredEvent(t, c.event)
				want["event"], want["msg"], want["level"] = c.event, declared.Message, c.level
				lines := eventsOf(t, w.log.String(), c.event)
				if len(lines) == 0 {
					t.Fatalf("it did not happen: %s", w.log)
				}
				line := lines[len(lines)-1]
				for name, value := range line {
					if wanted, known := want[name]; !known || wanted != (some{}) && fmt.Sprint(wanted) != fmt.Sprint(value) || wanted == (some{}) && value == "" {
						t.Errorf("%s is %v, want %v", name, value, wanted)
					}
				}
				for name := range want {
					if _, there := line[name]; !there {
						t.Errorf("there is no %s", name)
					}
				}
				happened[c.event] = true
				for _, line := range eventsOf(t, w.log.String(), "") {
					for name := range line {
						optional[fmt.Sprint(line["event"], " ", name)] = true
					}
				}
			})
		}
	}
	for _, e := range audit.All() {
		if !happened[e.Name] {
			t.Errorf("%s was not made to happen", e.Name)
		}
	}
	// The fields of a refusal are the same in each of its events.
	for _, e := range []audit.Event{audit.AuthorizationAsked, audit.ProviderReturned, audit.LoginRefreshed, audit.AccessAnnounced, audit.RequestRefused} {
		for _, f := range e.Fields {
			if !optional[e.Name+" "+f.Name] && f.Name != "document" {
				t.Errorf("%s: no line has %s", e.Name, f.Name)
			}
		}
	}
}

func declaredEvent(t testing.TB, name string) audit.Event {
	t.Helper()
	events := audit.All()
	i := slices.IndexFunc(events, func(e audit.Event) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("event %s is not declared", name)
	}
	return events[i]
}

// checkAudit holds each line of a test's log against the table: no field that it does not list, and
// each that it demands.
func checkAudit(t testing.TB, log string) {
	t.Helper()
	for _, line := range eventsOf(t, log, "") {
		e := declaredEvent(t, fmt.Sprint(line["event"]))
		for name := range line {
			if _, listed := e.Field(name); !listed && !slices.Contains([]string{"level", "msg", "event", "trace_id"}, name) {
				t.Errorf("%s has %s, which docs/audit.md does not list", e.Name, name)
			}
		}
		for _, f := range e.Fields {
			if _, there := line[f.Name]; !there && !f.Optional {
				t.Errorf("%s has no %s: %v", e.Name, f.Name, line)
			}
		}
		if level := fmt.Sprint(line["level"]); level != e.Level.String() && (e.Raised == 0 || level != e.Raised.String()) || line["msg"] != e.Message {
			t.Errorf("%s is logged as %v %v", e.Name, level, line["msg"])
		}
	}
}

// A request id joins the lines of one login: who was asked, what they said, and the login.
func TestAuditLinesOfALoginCanBeJoined(t *testing.T) {
	w, _, a := newAuditedWorld(t, false)
	a.login()
	ids := map[any]bool{}
	for _, event := range []string{"authorization.asked", "consent.given", "provider.returned", "token.issued"} {
		for _, line := range eventsOf(t, w.log.String(), event) {
			ids[line["request"]] = true
		}
	}
	if len(ids) != 1 {
		t.Errorf("ids %v", ids)
	}
}

func TestAuditNamesSubjectsOnlyWhereItIsTold(t *testing.T) {
	for _, subjects := range []bool{false, true} {
		w, _, a := newAuditedWorld(t, subjects)
		a.login()
		if named := strings.Contains(w.log.String(), `"sub":"person-1"`); named != subjects {
			t.Errorf("with %v: %v", subjects, named)
		}
	}
}
