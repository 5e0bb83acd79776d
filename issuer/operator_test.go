package issuer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
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

// After one request for the keys, which the plugin sends at load, the log says what the first
// person who signs in would otherwise find out.
func TestTenantIsAnnouncedWithWhatIsMissing(t *testing.T) {
	sealed := provider.SealSecret(newRing(t, masterOne), "https://another.example", "client", "s", issuertest.NewClock().Now())
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

func TestTenantIsAnnouncedWithChangedLabels(t *testing.T) {
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
		{"how the client proves itself", func(l *labels) { l.ClientAuth = "post" }, "label changed", map[string]any{"label": "clientAuth", "before": "auto", "now": "post"}},
		{"parameters for the provider", func(l *labels) { l.ProviderParameters = []string{"prompt=consent", "hd=example.com"} }, "label changed",
			map[string]any{"label": "providerParameters", "before": "", "now": "prompt=consent&hd=example.com"}},
		{"nothing", func(*labels) {}, "label changed", nil},
		{"a name for people", func(l *labels) { l.DisplayName = "Our wiki" }, "label changed", map[string]any{"label": "displayName", "now": "Our wiki"}},
		{"an access rule", func(l *labels) { l.AllowedEmails = []string{"anna@example.com", "ben@example.com"} }, "label changed",
			map[string]any{"label": "allowedEmails", "before": "", "now": "anna@example.com,ben@example.com"}},
		{"identity headers", func(l *labels) { l.IdentityClaims = []string{"email"} }, "label changed", map[string]any{"label": "identityHeaders", "now": "email"}},
		{"refresh", func(l *labels) { l.Refresh = "session" }, "label changed", map[string]any{"label": "refresh", "before": "auto", "now": "session"}},
		{"the check", func(l *labels) { l.UpstreamCheckInterval = 60 }, "label changed", map[string]any{"label": "upstreamCheckInterval", "now": "60"}},
		{"a secret's name", func(l *labels) { l.ClientSecret = "env:WIKI_CLIENT_SECRET" }, "label changed",
			map[string]any{"label": "clientSecret", "before": "(a secret, not shown)", "now": "env:WIKI_CLIENT_SECRET"}},
		{"a secret", func(l *labels) { l.ClientSecret = "a new one that nobody reads" }, "label changed",
			map[string]any{"label": "clientSecret", "before": "(a secret, not shown)", "now": "(a secret, not shown)"}},
		{"a picture", func(l *labels) { l.Logo = "data:image/png;base64," + strings.Repeat("A", 600) }, "label changed",
			map[string]any{"label": "logo", "now": "data:image/png;base64," + strings.Repeat("A", 478) + "… (622 bytes)"}},
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
			// Two settings that alternate, as on replicas of Traefik while a change is under way,
			// are logged once.
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
			if strings.Contains(w.log.String(), "that nobody reads") {
				t.Error("the log holds the secret")
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

// A change that is taken back and made again is a change, also where the sidecar runs for months.
func TestChangeOfALabelIsToldOnceADay(t *testing.T) {
	w := newWorld(t, nil, nil)
	old, changed := w.wiki, w.wiki
	changed.AllowedEmails = []string{"anna@example.com"}
	for _, want := range []int{2, 4} { // there and back
		for range 3 {
			for _, labels := range []issuertest.Tenant{old, changed} {
				r := httptest.NewRequest("GET", "/oauth/jwks.json", nil)
				r.Header.Set("X-Mcpb-Hop", issuertest.SealHop(w.hopKey, w.clock.Now(), labels.JSON()))
				issuertest.Serve(w.replica(), r)
			}
		}
		if lines := eventsOf(t, w.log.String(), "label.changed"); len(lines) != want {
			t.Errorf("%d lines, want %d: %v", len(lines), want, lines)
		}
		w.clock.Add(24 * time.Hour)
	}
}

// When Traefik loads other labels, the middleware of the old ones tells its last figures, and asks
// about streams that are open. The log must not end with labels that nobody has any more.
func TestReplacedMiddlewareIsNoChangeOfLabels(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.hop("/hop/figures", nil) // the first that is heard of a tenant tells of it, whatever it is
	if lines := eventsOf(t, w.log.String(), "access.announced"); len(lines) != 1 {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	old, changed := w.wiki, w.wiki
	changed.DisplayName = "Our wiki"
	hop := func(labels issuertest.Tenant) string {
		return issuertest.SealHop(w.hopKey, w.clock.Now(), labels.JSON())
	}
	as := func(header, method, path string) {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("X-Mcpb-Hop", header)
		issuertest.Serve(w.replica(), r)
	}
	as(hop(changed), "GET", "/oauth/jwks.json")
	late := hop(old)
	as(late, "POST", "/hop/figures")
	as(late, "GET", "/hop/deny")
	if lines := eventsOf(t, w.log.String(), "label.changed"); len(lines) != 1 || lines[0]["now"] != "Our wiki" {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	as(late, "GET", "/oauth/jwks.json") // labels that are taken back are a change
	if lines := eventsOf(t, w.log.String(), "label.changed"); len(lines) != 2 {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
}

// Two middlewares may use one name for their resources, so a line with that name alone could be
// about either.
func TestTenantIsNamedInEachLineByItsIssuer(t *testing.T) {
	// In the sources only the method named writes this member.
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") || file == "tenant.go" {
			continue
		}
		if found := regexp.MustCompile(`.*"tenant",.*`).Find(text); found != nil {
			t.Errorf("%s: use named: %s", file, found)
		}
	}
	// The same holds in a run.
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

// When a tenant is first seen, the log says what is wrong with the label providerIssuer or with the
// provider: what came, with status and content type, and what to do. People and clients hear that
// the provider cannot be reached only if nothing came.
func TestDiscoveryThatFailsNamesItsCause(t *testing.T) {
	type be = issuertest.Behaviour
	const unreachable, away, setUp = "The sign-in provider cannot be reached.", "The sign-in provider is not available.", "The sign-in provider cannot be used as it is set up here"
	doc := func(name string, v any) be { return be{Discovery: map[string]any{name: v}} }
	page := func(status int) be {
		return be{DiscoveryStatus: status, DiscoveryType: "text/html; charset=utf-8", DiscoveryBody: "<html>Welcome, secret-in-a-page"}
	}
	for _, c := range []struct {
		name   string
		label  func(issuer string) string
		be     be
		cause  string
		remedy string
		said   string
	}{
		{"a slash too few in the label", nil, doc("issuer", "ISSUER/"), `label providerIssuer is "ISSUER", and the provider calls itself "ISSUER/"`, "copy that into the label, to the last slash", setUp},
		{"a slash too many in the label", func(s string) string { return s + "/" }, be{}, `label providerIssuer is "ISSUER/", and the provider calls itself "ISSUER"`, "copy that into the label, to the last slash", setUp},
		{"the provider thinks that it is spoken to by https", nil, doc("issuer", "httpsISSUER"), `the provider calls itself "https://127`, "copy that into the label", setUp},
		{"an internal name of the provider", nil, doc("issuer", "https://sso.example.com/realms/acme"), `the provider calls itself "https://sso.example.com/realms/acme"`, "another name that it has inside your network does not do", setUp},
		{"a document for all directories", nil, doc("issuer", "https://login.microsoftonline.com/{tenantid}/v2.0"), `{tenantid}`, "name one directory in the label", setUp},
		{"a name that says much", nil, doc("issuer", "x\n"+strings.Repeat("y", 5000)), `the provider calls itself "x\nyyy`, "copy that into the label", setUp},
		{"JSON of something else", nil, be{DiscoveryBody: `{"status":"ok"}`, DiscoveryType: "application/json"}, `the provider calls itself ""`, `a document without "issuer" is no discovery document`, setUp},
		{"another path", nil, be{DiscoveryStatus: 404}, "the provider answers 404 without a content type at .well-known/openid-configuration below it", "its path is not that of the issuer, as /realms/NAME or /application/o/NAME/ is; a provider without OpenID Connect, such as GitHub Enterprise Server, has no such document and needs the label providerType", setUp},
		{"another path, with a page", nil, page(404), "the provider answers 404 text/html at", "its path is not that of the issuer", setUp},
		{"403", nil, page(403), "the provider answers 403 text/html at", "must let the sidecar have this document without a login", setUp},
		{"401", nil, be{DiscoveryStatus: 401}, "the provider answers 401", "must let the sidecar have this document without a login", setUp},
		{"400", nil, be{DiscoveryStatus: 400}, "the provider answers 400", "that is no answer of a discovery document", setUp},
		{"a redirect to another host", nil, be{DiscoveryRedirect: "https://sso.example.com/login?next=secret"}, "the provider answers 302", "it redirects to https://sso.example.com/login, and a redirect is followed only within", setUp},
		{"a redirect to another port", nil, be{DiscoveryRedirect: "http://127.0.0.1:9/.well-known/openid-configuration"}, "the provider answers 302", "it redirects to http://127.0.0.1:9/", setUp},
		{"a redirect to another scheme", nil, be{DiscoveryRedirect: "file:///etc/passwd"}, "the provider answers 302", "it redirects to file:///etc/passwd", setUp},
		{"a redirect with a password", nil, be{DiscoveryRedirect: "http://user:secret@HOST/elsewhere"}, "the provider answers 302", "a redirect is followed only within", setUp},
		{"a redirect without end", nil, be{DiscoveryRedirect: "/.well-known/openid-configuration"}, "the provider answers 302", "it redirects to", setUp},
		{"a redirect to a login page of the same host", nil, be{DiscoveryRedirect: "/authorize"}, "the provider answers 400 text/plain", "that is no answer of a discovery document", setUp},
		{"a page instead of the document", nil, page(200), "the provider answers 200 text/html", "that is a page, of a login or of another program", setUp},
		{"a page that says that it is JSON", nil, be{DiscoveryBody: "<html>", DiscoveryType: "application/json"}, "the provider answers 200 application/json", "that is a page", setUp},
		{"an empty document", nil, be{DiscoveryStatus: 200}, "the provider answers 200 without a content type", "the document is empty", setUp},
		{"half a document", nil, be{DiscoveryBody: `{"issuer":`, DiscoveryType: "application/json"}, "the provider answers 200 application/json", "that is not a whole discovery document", setUp},
		{"2 MB", nil, be{DiscoveryBytes: 2 << 20}, "the provider answers 200", "that is 1 MB or more", setUp},
		{"an endpoint by http", nil, doc("token_endpoint", "http://sso.example.com/token"), "token_endpoint is not an https URL in its document", "set the provider's own public URL", setUp},
		{"no token endpoint", nil, doc("token_endpoint", nil), "token_endpoint is not an https URL", "", setUp},
		{"a needed member of another type", nil, doc("token_endpoint", []string{"https://sso.example.com/token"}), "token_endpoint is not an https URL", "", setUp},
		{"502 of a proxy", nil, page(502), "the provider answers 502 text/html", "is out of order; the label providerIssuer need not be wrong", away},
		{"429", nil, be{DiscoveryStatus: 429}, "the provider answers 429", "is out of order", away},
		{"an answer that breaks off", nil, be{DiscoveryBreaks: true}, "the provider's answer 200 broke off after 10 bytes", "", away},
		{"nobody listens", func(string) string { return "http://127.0.0.1:9" }, be{}, "127.0.0.1:9: dial tcp 127.0.0.1:9: connect: connection refused", "", unreachable},
		{"TLS is spoken to what has none", func(s string) string { return "https" + strings.TrimPrefix(s, "http") }, be{}, "127.0.0.1", "what listens there speaks no TLS", unreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				if c.label != nil {
					w.wiki.ProviderIssuer = c.label(w.wiki.ProviderIssuer)
				}
			})
			host := strings.TrimPrefix(w.idp.Issuer, "http://")
			if name, ok := c.be.Discovery["issuer"].(string); ok {
				c.be.Discovery["issuer"] = strings.NewReplacer("httpsISSUER", "https://"+host, "ISSUER", w.idp.Issuer).Replace(name)
			}
			c.be.DiscoveryRedirect = strings.ReplaceAll(c.be.DiscoveryRedirect, "HOST", host)
			w.idp.Be(c.be)
			// The request for the keys, which the plugin makes at load.
			w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
			for _, line := range []struct{ message, field string }{{"discovery failed", "cause"}, {"who may come in", "its discovery document"}} {
				lines := linesOf(t, w.log.String(), line.message)
				if len(lines) != 1 || lines[0]["issuer"] != w.wiki.PublicURL || lines[0]["provider"] != w.wiki.ProviderIssuer {
					t.Fatalf("%s: %v", line.message, lines)
				}
				cause, _ := lines[0][line.field].(string)
				for _, want := range []string{c.cause, c.remedy} {
					if want = strings.ReplaceAll(want, "ISSUER", w.idp.Issuer); !strings.Contains(cause, want) {
						t.Errorf("%q is not in %q", want, cause)
					}
				}
				if len(cause) > 800 || strings.Contains(cause, "secret") || strings.Contains(cause, "unexpected answer") {
					t.Errorf("%d characters: %s", len(cause), cause)
				}
			}
			a := w.register(w.wiki.PublicURL, nil)
			b := issuertest.NewBrowser(t, w.net)
			if p := b.Decide(b.Get(a.authorizeURL()), "allow"); p.Status != 503 || !strings.Contains(p.Body, c.said) {
				t.Errorf("status %d, want %q: %s", p.Status, c.said, p.Body)
			}
		})
	}
}

// A private CA is the commonest reason why a provider of one's own cannot be reached.
func TestProviderOfAPrivateCAIsNamed(t *testing.T) {
	w := newWorld(t, &issuertest.Options{TLS: true}, func(w *world) {
		w.config = func(c *issuer.Config) { c.Transport = http.DefaultTransport }
	})
	w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
	lines := linesOf(t, w.log.String(), "discovery failed")
	if len(lines) != 1 || !strings.Contains(lines[0]["cause"].(string), "SSL_CERT_FILE") {
		t.Errorf("%v", lines)
	}
}

// Only a redirect of the discovery document is followed, and only within its origin. The issuer in
// the document must still equal the label.
func TestDiscoveryDocumentMayBeElsewhereInTheOrigin(t *testing.T) {
	for _, c := range []struct {
		name string
		be   issuertest.Behaviour
		ok   bool
	}{
		{"with a slash at its end only", issuertest.Behaviour{DiscoverySlash: true}, true},
		{"at another path", issuertest.Behaviour{DiscoveryRedirect: "/elsewhere"}, true},
		{"of another issuer", issuertest.Behaviour{DiscoveryRedirect: "/elsewhere", Discovery: map[string]any{"issuer": "https://evil.example"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.idp.Be(c.be)
			a := w.register(w.wiki.PublicURL, nil)
			if c.ok {
				a.login()
				return
			}
			b := issuertest.NewBrowser(t, w.net)
			if p := b.Decide(b.Get(a.authorizeURL()), "allow"); p.Status != 503 {
				t.Errorf("status %d", p.Status)
			}
		})
	}
}

// The first person who signs in finds the document that was read when the labels were loaded. On
// Lambda nothing runs between two requests, so nothing is read ahead, and the log says so.
func TestProviderIsAskedWhenTheTenantIsFirstSeen(t *testing.T) {
	for _, c := range []struct {
		lambda bool
		asked  int
		said   string
	}{{false, 1, "read"}, {true, 0, "is read at the first login"}} {
		w := newWorld(t, nil, func(w *world) {
			w.config = func(config *issuer.Config) { config.OnLambda = c.lambda }
		})
		for range 3 {
			w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
			w.clock.Add(time.Minute)
		}
		lines := linesOf(t, w.log.String(), "who may come in")
		if asked, _, _ := w.idp.Counts(); asked != c.asked || len(lines) != 1 || lines[0]["its discovery document"] != c.said {
			t.Errorf("on Lambda: %v; asked %d times: %v", c.lambda, asked, lines)
		}
		w.register(w.wiki.PublicURL, nil).login()
		if asked, _, _ := w.idp.Counts(); asked != 1 {
			t.Errorf("on Lambda: %v; asked %d times for a login", c.lambda, asked)
		}
	}
}

// No request waits for reading ahead. Strangers who invent hosts cannot start more than a few such
// reads.
func TestProviderIsAskedAheadAndNobodyWaits(t *testing.T) {
	var held []func()
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) { c.Background = func(f func()) { held = append(held, f) } }
	})
	for i := range 40 {
		tn := w.tenant(fmt.Sprintf("https://host-%d.localhost/wiki", i))
		w.serve(tn)
		w.get(tn.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
	}
	if len(held) != 16 {
		t.Errorf("%d wait", len(held))
	}
	for _, f := range held {
		f()
	}
	if asked, _, _ := w.idp.Counts(); asked != 1 || len(linesOf(t, w.log.String(), "who may come in")) != 40 {
		t.Errorf("asked %d times, %d lines", asked, len(linesOf(t, w.log.String(), "who may come in")))
	}
	tn := w.tenant("https://one-more.localhost/wiki")
	w.serve(tn)
	w.get(tn.PublicURL+"/oauth/jwks.json").wants(t, 200, "")
	if len(held) != 17 {
		t.Error("those that ended still count")
	}
}

func TestLogSaysWhenAnotherKeySigns(t *testing.T) {
	w := newWorld(t, nil, nil)
	ask := func() { w.get(w.wiki.PublicURL+"/oauth/jwks.json").wants(t, 200, "") }
	ask()
	if lines := linesOf(t, w.log.String(), "signing key changed"); len(lines) != 0 {
		t.Fatalf("before the first change: %v", lines)
	}
	shown := func() (epoch float64, next time.Time) {
		t.Helper()
		key, _ := w.direct("GET", "/healthz").JSON["signing_key"].(map[string]any)
		next, err := time.Parse(time.RFC3339, fmt.Sprint(key["next"]))
		if err != nil {
			t.Fatalf("%v: %v", key, err)
		}
		epoch, _ = key["epoch"].(float64)
		return epoch, next
	}
	before, next := shown()
	if left := next.Sub(w.clock.Now()); left <= 0 {
		t.Fatalf("the next key signed %v ago", -left)
	}
	w.clock.Add(next.Sub(w.clock.Now()) - time.Second)
	ask()
	if now, _ := shown(); now != before || len(linesOf(t, w.log.String(), "signing key changed")) != 0 {
		t.Fatalf("a second before: epoch %v, before %v", now, before)
	}
	w.clock.Add(time.Minute)
	ask()
	w.clock.Add(time.Minute)
	ask()
	now, after := shown()
	lines := linesOf(t, w.log.String(), "signing key changed")
	if now != before+1 || !after.After(next) || len(lines) != 1 || lines[0]["epoch"] != now || lines[0]["before"] != before || lines[0]["next key"] != after.Format(time.RFC3339) {
		t.Errorf("epoch %v after %v, next %v; %v", now, before, after, lines)
	}
}
