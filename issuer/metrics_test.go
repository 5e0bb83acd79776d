package issuer_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
)

// deploy/e2e reads what is written there by Prometheus' own parser.
var expositions = flag.String("expositions", "", "folder for the answers of GET /metrics that TestMetricsAllHappen met")

// scrape is GET /metrics.
func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	got := httptest.NewRecorder()
	m.Handler().ServeHTTP(got, httptest.NewRequest("GET", "/metrics", nil))
	if got.Code != http.StatusOK {
		t.Fatalf("GET /metrics: %d", got.Code)
	}
	return got.Body.String()
}

// measured is a world with all that is counted: a guard that can be broken, a deny document, a
// provider that can be cut off, and a first client.
type measured struct {
	*world
	*app
	t       *testing.T
	metrics *metrics.Metrics
	store   *issuer.FaultyStore
	deny    denyFile
	way     *cutWay
}

func newAllMeasured(t *testing.T) *measured {
	m := &measured{t: t, metrics: metrics.New(), deny: denyFile{t.TempDir() + "/deny.json"}}
	m.deny.write(t, `{"v":1,"serial":7}`)
	m.world = newWorld(t, nil, func(w *world) {
		guard, store := issuer.NewFaultyGuard(idle, w.clock.Now)
		m.store, m.way = store, &cutWay{next: w.idp.Transport, clock: w.clock}
		w.config = func(c *issuer.Config) {
			source, err := deny.Open(m.deny.name, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Metrics, c.ReplayGuard, c.RefreshIdleTTL, c.Deny, c.Transport = m.metrics, guard, idle, source, m.way
			c.Background = func(func()) {} // the provider is asked by logins alone
		}
	})
	m.app = m.register(m.wiki.PublicURL, nil)
	return m
}

// cutWay is the way to a provider that fails at some paths: with a status, or with an error after
// so long.
type cutWay struct {
	next   http.RoundTripper
	clock  *issuertest.Clock
	paths  string // where it fails, at their ends
	forms  string // and for forms that hold this
	status int
	err    error
	after  time.Duration
}

func (c *cutWay) RoundTrip(r *http.Request) (*http.Response, error) {
	if !slices.ContainsFunc(strings.Fields(c.paths), func(path string) bool { return strings.HasSuffix(r.URL.Path, path) }) {
		return c.next.RoundTrip(r)
	}
	if c.forms != "" {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		form, err := io.ReadAll(body)
		if err != nil || !strings.Contains(string(form), c.forms) {
			return c.next.RoundTrip(r)
		}
	}
	c.clock.Add(c.after)
	if c.err != nil {
		return nil, c.err
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func (m *measured) bad(form url.Values, status int, code string) {
	m.t.Helper()
	m.token(form).wants(m.t, status, code)
}

// later is a refresh for which the provider is asked.
func (m *measured) later(be issuertest.Behaviour) reply {
	token := m.login().text("refresh_token")
	m.clock.Add(time.Hour)
	m.idp.Be(be)
	return m.token(m.refreshment(token))
}

// Every metric is made to happen with each value of each label that its declaration lists, by
// requests to the handler. Nothing counts as a value that no list has.
func TestMetricsAllHappen(t *testing.T) {
	seen := map[string]bool{} // "metric", and "metric label=value"
	n := 0
	happens := func(name string, make func(m *measured)) {
		t.Run(name, func(t *testing.T) {
			m := newAllMeasured(t)
			make(m)
			text := scrape(t, m.metrics)
			if n++; *expositions != "" {
				if err := os.WriteFile(filepath.Join(*expositions, fmt.Sprintf("%03d.txt", n)), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for metric, label := range samples(text) {
				seen[metric] = true
				for label, value := range label {
					seen[metric+" "+label+"="+value] = true
				}
			}
		})
	}
	page := func(changes ...string) func(*measured) {
		return func(m *measured) { m.page(changes...) }
	}

	happens("each endpoint refuses", func(m *measured) {
		for _, endpoint := range metrics.Values("mcpbouncer_refusals_total", "endpoint") {
			m.direct("DELETE", endpoint, issuertest.SealHop(m.hopKey, m.clock.Now(), m.wiki.JSON()))
		}
		m.get(m.wiki.PublicURL + "/oauth/nothing")
	})
	for cause, make := range map[string]func(m *measured){
		"invalid_client": func(m *measured) { m.app.id = "mbc1_x"; m.bad(m.refreshment("x"), 401, "invalid_client") },
		"invalid_grant":  func(m *measured) { m.bad(m.refreshment("x"), 400, "invalid_grant") },
		"invalid_scope": func(m *measured) {
			m.relabel(func(l *labels) {
				l.ScopeRules, l.RequiredScopes = []string{"*=wiki:read", "group:admins=wiki:admin"}, []string{"wiki:read"}
			})
			m.bad(m.redemption(m.code("scope", "wiki:admin")), 400, "invalid_scope")
		},
		"invalid_target": func(m *measured) {
			m.bad(with(m.refreshment(m.login().text("refresh_token")), "resource", "https://elsewhere.example/"), 400, "invalid_target")
		},
		"invalid_redirect_uri": page("redirect_uri", "https://evil.example/"),
		"invalid_client_metadata": func(m *measured) {
			m.do(newRequest(m.t, "POST", m.base+"/oauth/register", "application/json", `{"redirect_uris":1}`)).wants(m.t, 400, "invalid_client_metadata")
		},
		"invalid_dpop_proof": func(m *measured) {
			m.relabel(func(l *labels) { l.DPoP = "require" })
			m.bad(m.refreshment("x"), 400, "invalid_dpop_proof")
		},
		"use_dpop_nonce": func(m *measured) {
			m.relabel(func(l *labels) { l.DPoP = "accept" })
			m.do(m.proving("ES256").tokenRequest(m.refreshment("x"))).wants(m.t, 400, "use_dpop_nonce")
		},
		"binding_broken": func(m *measured) {
			m.relabel(func(l *labels) { l.DPoP = "accept" })
			token := m.proving("ES256").login().text("refresh_token")
			m.by(nil).token(m.refreshment(token)).wants(m.t, 400, "invalid_dpop_proof")
		},
		"unauthorized_client":    func(m *measured) { m.bad(clientCredentials, 400, "unauthorized_client") },
		"unsupported_grant_type": func(m *measured) { m.bad(url.Values{"grant_type": {"password"}}, 400, "unsupported_grant_type") },
		"unsupported_token_type": func(m *measured) {
			m.revoke(url.Values{"token": {m.login().text("access_token")}}).wants(m.t, 400, "unsupported_token_type")
		},
		"unsupported_response_type":  page("response_type", "token"),
		"request_not_supported":      page("request", "x"),
		"request_uri_not_supported":  page("request_uri", "https://app.example/x"),
		"registration_not_supported": page("registration", "{}"),
		"consent_required":           page("prompt", "none"),
		"at the provider": func(m *measured) {
			for _, code := range []string{"access_denied", "server_error", "temporarily_unavailable"} {
				m.idp.Be(issuertest.Behaviour{AuthError: code})
				issuertest.NewBrowser(m.t, m.net).Login(m.authorizeURL())
			}
		},
		"denied": func(m *measured) {
			token := m.login().text("refresh_token")
			m.deny.write(m.t, fmt.Sprintf(`{"v":1,"serial":8,"notBefore":{"*":%q}}`, m.clock.Now().Add(time.Minute).Format(time.RFC3339)))
			m.clock.Add(time.Minute)
			m.bad(m.refreshment(token), 400, "invalid_grant")
		},
		"client_not_allowed": func(m *measured) {
			m.relabel(func(l *labels) { l.AllowedClients = []string{"https://elsewhere.example/client.json"} })
			m.page()
		},
		"not_admitted": func(m *measured) {
			token := m.login().text("refresh_token")
			m.relabel(func(l *labels) { l.AllowedSubjects = []string{"nobody"} })
			m.bad(m.refreshment(token), 400, "access_denied")
		},
		"scope_withheld": func(m *measured) {
			m.relabel(func(l *labels) { l.RequiredScopes, l.Scopes = []string{"wiki:read"}, []string{"openid", "wiki:read"} })
			m.idp.Be(issuertest.Behaviour{Scope: new("openid")})
			m.bad(m.redemption(m.code()), 400, "access_denied")
		},
		"unmet_authentication_requirements": func(m *measured) {
			m.relabel(func(l *labels) { l.AuthenticationRules = []string{"*=max_age:300"} })
			m.bad(m.redemption(m.code()), 400, "unmet_authentication_requirements")
		},
		"provider_away": func(m *measured) {
			code := m.code()
			*m.way = cutWay{next: m.way.next, clock: m.clock, paths: "/token", err: errors.New("connection refused")}
			m.bad(m.redemption(code), 503, "temporarily_unavailable")
		},
		"provider_set_up": func(m *measured) {
			m.idp.Be(issuertest.Behaviour{DiscoveryStatus: 404})
			b := issuertest.NewBrowser(m.t, m.net)
			b.Decide(b.Get(m.authorizeURL()), "allow")
		},
		"provider_refuses_us": func(m *measured) {
			code := m.code()
			m.idp.Be(issuertest.Behaviour{Status: 400, Error: "invalid_client"})
			m.bad(m.redemption(code), 500, "server_error")
		},
		"provider_answer": func(m *measured) {
			code := m.code()
			m.idp.Be(issuertest.Behaviour{WrongKey: true})
			m.bad(m.redemption(code), 400, "access_denied")
		},
		"provider_ended":      func(m *measured) { m.later(issuertest.Behaviour{Gone: true}).wants(m.t, 400, "invalid_grant") },
		"document_unreadable": func(m *measured) { m.docs.fail(documentURL); m.documentApp(documentURL).page() },
		"document_withdrawn":  func(m *measured) { m.docs.put(documentURL, 404, ""); m.documentApp(documentURL).page() },
	} {
		happens("refusal: "+cause, make)
	}

	for product, client := range map[string]struct{ name, redirect string }{
		"claude-code": {"Claude Code", ""}, "claude": {"Claude", ""}, "codex": {"Codex", ""}, "chatgpt": {"ChatGPT", ""}, "cline": {"Cline", ""},
		"vscode": {"Visual Studio Code", ""}, "cursor": {"", "cursor://anysphere.cursor-mcp/oauth/callback"}, "opencode": {"OpenCode", ""},
		"gemini-cli": {"Gemini CLI MCP Client", ""}, "mcp-remote": {"MCP CLI Proxy", ""}, "inspector": {"MCP Inspector", ""}, "raycast": {"Raycast", "raycast://oauth"},
		"other": {"A stranger", ""},
	} {
		happens("client: "+product, func(m *measured) {
			redirect := client.redirect
			if redirect == "" {
				redirect = callback
			}
			m.register(m.wiki.PublicURL, map[string]any{"client_name": client.name, "redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none"})
		})
	}
	happens("a machine, and a key", func(m *measured) {
		m.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read"}, "client_secret_basic", nil).token(clientCredentials).wants(m.t, 200, "")
		key, err := issuer.CreateKey(newRing(m.t, masterOne), m.world.id(m.wiki), issuer.Machine{Subject: "ci", Scope: "mcp:read"}, 24*time.Hour, m.clock.Now())
		if err != nil {
			m.t.Fatal(err)
		}
		m.hop("/hop/token", url.Values{"key": {key.Key}}).wants(m.t, 200, "")
	})

	happens("a workload", func(m *measured) {
		m.relabel(func(l *labels) { l.WorkloadIssuers = []string{m.idp.Issuer + " repository=acme/wiki => mcp:read"} })
		m.bring(workloadToken(m.idp, nil)).wants(m.t, 200, "")
	})

	happens("a login, its refreshes, and its end by reuse", func(m *measured) {
		code := m.code()
		token := m.token(m.redemption(code)).wants(m.t, 200, "").text("refresh_token")
		m.bad(m.redemption(code), 400, "invalid_grant")
		for range 2 {
			m.token(m.refreshment(token)).wants(m.t, 200, "")
		}
		m.clock.Add(10 * time.Minute)
		for range 2 {
			m.bad(m.refreshment(token), 400, "invalid_grant")
		}
	})
	happens("a login that its client ends", func(m *measured) {
		m.revoke(url.Values{"token": {m.login().text("refresh_token")}}).wants(m.t, 200, "")
	})
	happens("a login that the provider ends", func(m *measured) { m.later(issuertest.Behaviour{Gone: true}).wants(m.t, 400, "invalid_grant") })
	happens("a guard that is away", func(m *measured) {
		code := m.code()
		m.store.Fail(errors.New("away"), nil)
		m.token(m.redemption(code))
	})
	happens("a deny document that is broken", func(m *measured) {
		m.page()
		m.deny.write(m.t, "{")
		m.clock.Add(time.Minute)
		m.page()
	})

	for result, answer := range map[string]func(*http.Request) (*http.Response, error){
		"silent":     func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded },
		"unreadable": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") },
	} {
		happens("document: "+result, func(m *measured) { m.docs.handle(documentURL, answer); m.documentApp(documentURL).page() })
	}
	happens("document: read", func(m *measured) { m.publish(documentURL, nil).page() })
	happens("document: invalid", func(m *measured) { m.publish(documentURL, map[string]any{"client_id": "https://evil.example/"}).page() })

	happens("hop headers", func(m *measured) {
		now, good := m.clock.Now(), string(m.wiki.JSON())
		sealed := issuertest.SealHop(m.hopKey, now, []byte(good))
		for _, hop := range []string{
			"", "mbh1_x", sealed[:len(sealed)-8] + "AAAAAAAA", issuertest.SealHop(newRing(m.t, masterTwo).HopKey(), now, []byte(good)),
			issuertest.SealHop(m.hopKey, now.Add(-time.Hour), []byte(good)), issuertest.SealHop(m.hopKey, now, []byte(`{"v":2}`)),
			issuertest.SealHop(m.hopKey, now, []byte(strings.Replace(good, "{", `{"colour":"red",`, 1))), issuertest.SealHop(m.hopKey, now, []byte("null")),
		} {
			m.direct("GET", "/oauth/jwks.json", hop).wants(m.t, 403, "forbidden")
		}
	})
	happens("the plugin's figures", func(m *measured) {
		count := func(causes []string) string { return `{"` + strings.Join(causes, `":1,"`) + `":1}` }
		m.figures(fmt.Sprintf(`{"v":1,"refusals":%s,"failures":%s,"presented":[{"sid":"q83v","client_id":%q}]}`,
			count(metrics.RefusalCauses), count(metrics.FailureCauses), m.app.id)).wants(m.t, 204, "")
	})

	// Each step at the provider takes its time, and fails in each way.
	failures := map[string]cutWay{
		"refused": {status: 400}, "busy": {status: 429}, "server_error": {status: 503}, "unreachable": {err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}},
		"timeout": {err: context.DeadlineExceeded}, "canceled": {err: context.Canceled},
		"paused": {err: context.DeadlineExceeded, after: 8 * time.Second},
	}
	for _, step := range []struct {
		name, path string
		ask        func(m *measured, fail func())
	}{
		{"discovery", "/.well-known/openid-configuration", func(m *measured, fail func()) {
			fail()
			m.page()
			m.clock.Add(3 * time.Second) // a document is not asked for more often than that
			m.page()
		}},
		{"redeem", "/token", func(m *measured, fail func()) {
			codes := []string{m.code(), m.code()}
			fail()
			for _, code := range codes {
				m.token(m.redemption(code))
			}
		}},
		{"keys", "/keys", func(m *measured, fail func()) { code := m.code(); fail(); m.token(m.redemption(code)) }},
		{"userinfo", "/userinfo", func(m *measured, fail func()) {
			m.idp.Be(issuertest.Behaviour{Claims: func(c map[string]any) { delete(c, "email") }, UserInfo: map[string]any{"sub": "*", "email": "a@example.com", "email_verified": true}})
			m.relabel(func(l *labels) { l.AllowedEmails = []string{"a@example.com"} })
			code := m.code()
			fail()
			m.token(m.redemption(code))
		}},
		{"refresh", "/token", func(m *measured, fail func()) {
			token := m.login().text("refresh_token")
			m.clock.Add(59 * time.Minute)
			m.code() // so that the provider's document is not read now
			m.clock.Add(time.Minute)
			fail()
			for range 2 {
				m.token(m.refreshment(token))
			}
		}},
		{"exchange", "/token", func(m *measured, fail func()) {
			m.idp.Be(issuertest.Behaviour{Exchange: "urn:api"})
			m.relabel(func(l *labels) { l.UpstreamToken = []string{"scopes=", "exchange=urn:api"} })
			code := m.code()
			fail()
			for range 2 { // with what is kept of the first
				m.token(m.redemption(code))
			}
		}},
		{"revoke", "/revoke", func(m *measured, fail func()) {
			m.idp.Be(issuertest.Behaviour{Revocation: true})
			tokens := []string{m.login().text("refresh_token"), m.login().text("refresh_token")}
			fail()
			for _, token := range tokens {
				m.revoke(url.Values{"token": {token}})
			}
		}},
	} {
		happens("provider: "+step.name, func(m *measured) { step.ask(m, func() {}) })
		for cause, way := range failures {
			if cause == "paused" && step.name == "userinfo" {
				continue // the request before it, with which it comes, would have met the pause
			}
			happens("provider: "+step.name+" "+cause, func(m *measured) {
				way.paths, way.next, way.clock = step.path, m.way.next, m.clock
				if step.name == "exchange" {
					way.forms = "token-exchange"
				}
				if cause == "paused" && step.name == "redeem" {
					way.paths = everything // silence at a code alone is no silence
				}
				step.ask(m, func() { *m.way = way })
				want := fmt.Sprintf(`step=%q,cause=%q} `, step.name, cause)
				if text := scrape(m.t, m.metrics); !strings.Contains(text, want) {
					m.t.Errorf("lacks %s", want)
				}
			})
		}
	}

	if t.Failed() {
		return
	}
	for _, d := range metrics.Declarations {
		if !seen[d.Name] {
			t.Errorf("%s did not happen", d.Name)
		}
		for _, label := range d.Labels {
			for _, value := range label.Values {
				if !seen[d.Name+" "+label.Name+"="+value] {
					t.Errorf("%s did not happen with %s=%q", d.Name, label.Name, value)
				}
			}
			if label.Values != nil && !slices.Contains(label.Values, metrics.Other) && seen[d.Name+" "+label.Name+"="+metrics.Other] {
				t.Errorf("%s: something happened with a %s that its declaration does not list", d.Name, label.Name)
			}
		}
	}
}

var (
	sample      = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`)
	sampleLabel = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// samples yields the metrics of an exposition with their labels. A histogram has the name that it
// was declared with.
func samples(text string) func(func(string, map[string]string) bool) {
	return func(yield func(string, map[string]string) bool) {
		for _, line := range sample.FindAllStringSubmatch(text, -1) {
			labels := map[string]string{}
			for _, l := range sampleLabel.FindAllStringSubmatch(line[2], -1) {
				labels[l[1]] = l[2]
			}
			if !yield(strings.TrimSuffix(line[1], "_bucket"), labels) {
				return
			}
		}
	}
}

// A label of the operator's own names has each of them, however many servers there are.
func TestMetricsNameEachOfManyServers(t *testing.T) {
	w, scrape := newMeasuredWorld(t)
	configured := w.config
	w.config = func(c *issuer.Config) { configured(c); c.Background = func(func()) {} }
	for i := range 150 {
		tn := w.tenant(fmt.Sprintf("https://mcp.localhost/server%d", i))
		w.serve(tn)
		w.get(tn.PublicURL+"/oauth/nothing").wants(t, 404, "not_found")
	}
	text := scrape()
	if n := strings.Count(text, `mcpbouncer_refusals_total{tenant="server`); n != 150 {
		t.Errorf("%d servers have a name, want 150", n)
	}
}

// What docs/metrics.md says of `token` less `presented`: a machine counts once at each of its
// tokens and is presented once, and a login that two replicas are told of is presented twice.
func TestMetricsOfPresentedAgainstToken(t *testing.T) {
	var replicas []*metrics.Metrics
	w := newWorld(t, nil, func(w *world) {
		w.skews = []time.Duration{0, 0}
		w.config = func(c *issuer.Config) { c.Metrics = metrics.New(); replicas = append(replicas, c.Metrics) }
	})
	a := w.register(w.wiki.PublicURL, nil)
	machine := w.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read"}, "client_secret_basic", nil)
	a.login()
	for range 3 {
		machine.token(clientCredentials).wants(t, 200, "")
	}
	var told []string
	for _, event := range []string{"token.issued", "machine.admitted"} {
		for _, line := range eventsOf(t, w.log.String(), event) {
			told = append(told, fmt.Sprintf(`{"sid":%q,"client_id":%q}`, line["family"], map[string]string{"token.issued": a.id, "machine.admitted": machine.id}[event]))
		}
	}
	for range 2 * len(replicas) {
		w.figures(`{"v":1,"presented":[`+strings.Join(told, ",")+`]}`).wants(t, 204, "")
	}
	sum := map[string]int{}
	for _, m := range replicas {
		for _, line := range regexp.MustCompile(`client="([a-z]+)",stage="(token|presented)"\} (\d+)`).FindAllStringSubmatch(scrape(t, m), -1) {
			n, _ := strconv.Atoi(line[3])
			sum[line[1]+" "+line[2]] += n
		}
	}
	if want := map[string]int{"other token": 1, "other presented": 2, "machine token": 3, "machine presented": 2}; !maps.Equal(sum, want) {
		t.Errorf("%v, want %v", sum, want)
	}
}

// Each line is what one login, and what goes wrong with it, leaves behind.
func TestMetricsCountALoginAndItsRefusals(t *testing.T) {
	m := metrics.New()
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) { c.Metrics, c.Version = m, "1.2.3" }
	})
	a := w.register(w.wiki.PublicURL, map[string]any{"client_name": "Claude Code (wiki)", "redirect_uris": []string{"http://localhost:54545/callback"}, "token_endpoint_auth_method": "none"})
	first := a.login()
	a.token(a.refreshment(first.text("refresh_token"))).wants(t, 200, "")
	a.token(a.refreshment("nothing")).wants(t, 400, "invalid_grant")
	w.replica().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/oauth/jwks.json", nil))
	text := scrape(t, m)
	for _, want := range []string{
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="registered"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="authorized"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="consented"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="returned"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="token"} 1`,
		`mcpbouncer_logins_total{tenant="wiki",client="claude-code",stage="refreshed"} 1`,
		`mcpbouncer_refusals_total{tenant="wiki",endpoint="/oauth/token",cause="invalid_grant"} 1`,
		`mcpbouncer_hop_refusals_total{cause="missing"} 1`,
		`step="discovery"`, `step="redeem"`, `step="keys"`,
		`mcpbouncer_build_info{version="1.2.3"} 1`,
		"mcpbouncer_access_token_ttl_seconds ", "mcpbouncer_signing_key_epoch ", "mcpbouncer_signing_key_next_seconds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
