package issuer_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// newWorkloads returns a world and an issuer of workloads' tokens, for some of which it has rules.
func newWorkloads(t *testing.T, rules func(issuer string) []string, change func(*world)) (*world, *issuertest.Provider) {
	var ci *issuertest.Provider
	w := newWorld(t, nil, func(w *world) {
		ci = issuertest.NewProvider(t, &issuertest.Options{Now: w.clock.Now})
		// As GitHub's and Kubernetes' documents are: nobody logs in there.
		ci.Be(issuertest.Behaviour{Discovery: map[string]any{"authorization_endpoint": nil, "token_endpoint": nil, "userinfo_endpoint": nil}})
		w.wiki.WorkloadIssuers = rules(ci.Issuer)
		if change != nil {
			change(w)
		}
	})
	return w, ci
}

func oneRule(rule string) func(string) []string {
	return func(issuer string) []string { return []string{issuer + " " + rule} }
}

// workloadToken is a JWT of a machine: claims replace the usual ones.
func workloadToken(from *issuertest.Provider, claims map[string]any) string {
	whole := map[string]any{"client_id": nil, "jti": nil, "sub": "repo:acme/wiki:ref:refs/heads/main", "repository": "acme/wiki", "environment": "prod"}
	maps.Copy(whole, claims)
	return from.Assertion("https://mcp.localhost/wiki", "", whole, map[string]any{"typ": "JWT"})
}

// bring presents it, without any client.
func (w *world) bring(token string, more ...string) reply {
	form := with(url.Values{"grant_type": {jwtBearerGrant}, "assertion": {token}}, more...)
	return w.do(newRequest(w.t, "POST", w.wiki.PublicURL+"/oauth/token", formType, form.Encode()))
}

// Tokens of the shapes that issuers of workloads send come in by a rule, without a secret.
func TestWorkloadsComeInByTheirOwnTokens(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		claims     map[string]any
		header     map[string]any
	}{
		{"GitHub Actions", "repository=acme/wiki environment=prod => wiki:read", map[string]any{
			"sub": "repo:acme/wiki:environment:prod", "repository": "acme/wiki", "repository_id": "74", "repository_owner": "acme", "environment": "prod", "ref": "refs/heads/main",
			"workflow": "Deploy", "actor": "octocat", "event_name": "push", "job_workflow_ref": "acme/wiki/.github/workflows/deploy.yml@refs/heads/main", "jti": "example-id", "run_id": "12",
		}, nil},
		{"GitHub Actions, by subject", "sub=repo:acme/wiki:* => wiki:read", map[string]any{"sub": "repo:acme/wiki:ref:refs/heads/main"}, nil},
		{"Kubernetes", "sub=system:serviceaccount:ci:runner => wiki:read", map[string]any{
			"aud": []string{"https://mcp.localhost/wiki"}, "sub": "system:serviceaccount:ci:runner",
			"kubernetes.io": map[string]any{"namespace": "ci", "pod": map[string]any{"name": "runner-1", "uid": "u"}, "serviceaccount": map[string]any{"name": "runner", "uid": "u"}, "warnafter": 1790004607},
		}, map[string]any{"typ": nil}},
		{"Kubernetes, by namespace", "kubernetes.io.namespace=ci => wiki:read", map[string]any{"sub": "system:serviceaccount:ci:x", "kubernetes.io": map[string]any{"namespace": "ci"}}, map[string]any{"typ": nil}},
		{"Google Cloud", "sub=107517467455664443765 email_verified=true => wiki:read", map[string]any{
			"sub": "107517467455664443765", "azp": "107517467455664443765", "email": "ci@acme.iam.gserviceaccount.com", "email_verified": true}, nil},
		{"AWS", "sub=arn:aws:iam::123456789012:role/ci => wiki:read", map[string]any{
			"sub": "arn:aws:iam::123456789012:role/ci", "https://sts.amazonaws.com/": map[string]any{"aws_account": "123456789012", "org_id": "o-1"}}, nil},
		{"AWS, by account", "https://sts.amazonaws.com/.aws_account=123456789012 => wiki:read", map[string]any{
			"sub": "arn:aws:iam::123456789012:role/ci", "https://sts.amazonaws.com/": map[string]any{"aws_account": "123456789012"}}, nil},
		{"SPIFFE", "sub=spiffe://acme.example/ns/ci/* => wiki:read", map[string]any{"sub": "spiffe://acme.example/ns/ci/sa/runner", "aud": []string{"https://mcp.localhost/wiki"}, "iat": nil}, map[string]any{"typ": "JOSE"}},
		{"a list", "groups=deployers => wiki:read", map[string]any{"groups": []string{"all", "deployers"}}, nil},
		{"a number", "project_id=22 => wiki:read", map[string]any{"project_id": 22}, nil},
		{"a blank", "workflow=Deploy%20now => wiki:read", map[string]any{"workflow": "Deploy now"}, nil},
		{"an audience with a slash", "repository=acme/wiki => wiki:read", map[string]any{"aud": "https://mcp.localhost/wiki/", "repository": "acme/wiki"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, ci := newWorkloads(t, oneRule(c.rule), func(w *world) {
				// Rules about people say nothing about a machine.
				w.wiki.AllowedEmails, w.wiki.ScopeRules, w.wiki.IdentityClaims = []string{"a@b.example"}, []string{"group:x=other"}, []string{"email", "name", "groups"}
			})
			whole, header := map[string]any{"client_id": nil, "jti": nil, "sub": "somebody"}, map[string]any{"typ": "JWT"}
			maps.Copy(whole, c.claims)
			maps.Copy(header, c.header)
			token := ci.Assertion("https://mcp.localhost/wiki", "", whole, header)
			r := w.bring(token).wants(t, 200, "")
			claims := w.verifiedToken(w.wiki.PublicURL, r.text("access_token"), w.clock.Now())
			if claims["sub"] != ci.Issuer+"|"+whole["sub"].(string) || claims["client_id"] != "workload:"+ci.Issuer || claims["scope"] != "wiki:read" || claims["email"] != nil {
				t.Errorf("%v", claims)
			}
			if _, sent := r.JSON["refresh_token"]; sent {
				t.Errorf("a refresh token: %s", r.Body)
			}
			again := w.verifiedToken(w.wiki.PublicURL, w.bring(token).wants(t, 200, "").text("access_token"), w.clock.Now())
			if again["sid"] != claims["sid"] || again["jti"] == claims["jti"] {
				t.Errorf("the second time it is another login: %v, %v", claims, again)
			}
			line := eventsOf(t, w.log.String(), "machine.admitted")[0]
			if line["grant"] != "jwt-bearer" || strings.Contains(w.log.String(), claims["sub"].(string)) {
				t.Errorf("%v", line)
			}
		})
	}
}

// Whatever is not exactly what a rule names, now and for this server, stays out, and the log says
// why.
func TestWorkloadsThatAreRefused(t *testing.T) {
	const rule = "repository=acme/wiki environment=prod => wiki:read"
	at := func(w *world, minutes int) int64 {
		return w.clock.Now().Add(time.Duration(minutes) * time.Minute).Unix()
	}
	claims := func(of map[string]any) func(*world, *issuertest.Provider) string {
		return func(_ *world, ci *issuertest.Provider) string { return workloadToken(ci, of) }
	}
	for _, c := range []struct {
		name  string
		make  func(*world, *issuertest.Provider) string
		code  string
		cause string
	}{
		{"another repository", claims(map[string]any{"repository": "evil/wiki"}), "access_denied", "no rule fits; of each, this claim does not: repository"},
		{"a repository that begins so", claims(map[string]any{"repository": "acme/wiki-fork"}), "access_denied", "this claim does not: repository"},
		{"another environment", claims(map[string]any{"environment": "test"}), "access_denied", "this claim does not: environment"},
		{"no environment", claims(map[string]any{"environment": nil}), "access_denied", "this claim does not: environment"},
		{"a claim of another type", claims(map[string]any{"repository": map[string]any{"acme/wiki": true}}), "access_denied", "repository"},
		{"of the provider", func(w *world, _ *issuertest.Provider) string { return workloadToken(w.idp, nil) }, "invalid_grant", "which no rule of the label workloadIssuers names"},
		{"for another server", claims(map[string]any{"aud": "https://mcp.localhost/world"}), "invalid_grant", "aud is not this server alone: ask the issuer for a token with the audience"},
		{"for two servers", claims(map[string]any{"aud": []string{"https://mcp.localhost/wiki", "https://mcp.localhost/world"}}), "invalid_grant", "aud is not this server alone"},
		{"expired", func(w *world, ci *issuertest.Provider) string {
			return workloadToken(ci, map[string]any{"iat": at(w, -9), "exp": at(w, -2)})
		}, "invalid_grant", "it expired 120 seconds ago"},
		{"for two days", func(w *world, ci *issuertest.Provider) string {
			return workloadToken(ci, map[string]any{"exp": at(w, 2*24*60)})
		}, "invalid_grant", "it lives longer than a day"},
		{"without exp", claims(map[string]any{"exp": nil}), "invalid_grant", "exp is missing"},
		{"from the future", func(w *world, ci *issuertest.Provider) string {
			return workloadToken(ci, map[string]any{"nbf": at(w, 7)})
		}, "invalid_grant", "from the future"},
		{"iat is a text", claims(map[string]any{"iat": "soon"}), "invalid_grant", "iat is a string"},
		{"with an algorithm that the issuer does not name", func(_ *world, ci *issuertest.Provider) string {
			ci.Be(issuertest.Behaviour{Discovery: map[string]any{"id_token_signing_alg_values_supported": []string{"ES256"}}})
			return workloadToken(ci, nil)
		}, "invalid_grant", "it is signed with RS256, which is not one of the algorithms"},
		{"a long subject", claims(map[string]any{"sub": strings.Repeat("x", 256)}), "invalid_grant", "sub is missing, or has more than 255 bytes"},
		{"bound to a key", claims(map[string]any{"cnf": map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}), "invalid_grant", "it is bound to a key (cnf)"},
		{"about nobody", claims(map[string]any{"sub": nil}), "invalid_grant", "sub is missing"},
		{"an access token", func(w *world, ci *issuertest.Provider) string {
			return ci.Assertion(w.wiki.PublicURL, "", map[string]any{"repository": "acme/wiki", "environment": "prod"}, map[string]any{"typ": "at+jwt"})
		}, "invalid_grant", "its typ is that of something else"},
		{"of a typ that is no text", func(w *world, ci *issuertest.Provider) string {
			return ci.Assertion(w.wiki.PublicURL, "", map[string]any{"repository": "acme/wiki", "environment": "prod"}, map[string]any{"typ": 5})
		}, "invalid_grant", "its typ is that of something else"},
		{"unsigned", func(*world, *issuertest.Provider) string {
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30."
		}, "invalid_grant", "it has no signature"},
		{"changed", func(_ *world, ci *issuertest.Provider) string {
			mine, theirs := strings.Split(workloadToken(ci, map[string]any{"repository": "evil/wiki"}), "."), strings.Split(workloadToken(ci, nil), ".")
			return mine[0] + "." + theirs[1] + "." + mine[2]
		}, "invalid_grant", "its signature does not fit"},
		{"garbage", func(*world, *issuertest.Provider) string { return "x" }, "invalid_grant", "malformed"},
		{"too long", func(*world, *issuertest.Provider) string { return strings.Repeat("x", 17<<10) }, "invalid_grant", "longer than 16384 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, ci := newWorkloads(t, oneRule(rule), nil)
			w.bring(c.make(w, ci)).wants(t, 400, c.code)
			if !strings.Contains(w.log.last(), c.cause) {
				t.Errorf("the log says %s, want %q", w.log.last(), c.cause)
			}
		})
	}
	w, ci := newWorkloads(t, func(string) []string { return nil }, nil)
	w.bring(workloadToken(ci, nil)).wants(t, 401, "invalid_client")
	if !strings.Contains(w.log.last(), "needs the label workloadIssuers") {
		t.Errorf("the log says %s", w.log.last())
	}
}

// Scopes of all rules that fit, and the client may ask for less.
func TestWorkloadsGetTheScopesOfAllTheirRules(t *testing.T) {
	w, ci := newWorkloads(t, func(issuer string) []string {
		return []string{issuer + " repository=acme/wiki => r", issuer + " environment=prod => w", issuer + " environment=test => admin"}
	}, nil)
	for _, c := range []struct{ asked, want string }{{"", "r w"}, {"w", "w"}, {"w admin", "w"}} {
		if r := w.bring(workloadToken(ci, nil), "scope", c.asked).wants(t, 200, ""); r.text("scope") != c.want {
			t.Errorf("asked for %q, got %q", c.asked, r.text("scope"))
		}
	}
	w.bring(workloadToken(ci, nil), "resource", "https://mcp.localhost/world").wants(t, 400, "invalid_target")
}

// A workload can be ended by its subject and by its login; an issuer that is away refuses nobody.
func TestWorkloadsEndByTheDenyDocument(t *testing.T) {
	f := denyFile{t.TempDir() + "/deny.json"}
	f.write(t, `{"v":1,"serial":1}`)
	w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), func(w *world) {
		w.config = func(c *issuer.Config) { c.Deny = must(deny.Open(f.name, nil)) }
	})
	token := func() string { return workloadToken(ci, nil) }
	sid := w.verifiedToken(w.wiki.PublicURL, w.bring(token()).wants(t, 200, "").text("access_token"), w.clock.Now())["sid"].(string)
	f.write(t, `{"v":1,"serial":2,"users":{"`+ci.Issuer+`|repo:acme/wiki:ref:refs/heads/main":""}}`)
	w.clock.Add(time.Hour)
	w.bring(token()).wants(t, 400, "invalid_grant")
	f.write(t, `{"v":1,"serial":3,"families":{"`+sid+`":""}}`)
	w.clock.Add(time.Hour)
	w.bring(token()).wants(t, 400, "invalid_grant")
	f.write(t, `{"v":1,"serial":4,"clients":{"`+sealing.Fingerprint("workload:"+ci.Issuer)+`":""}}`)
	w.clock.Add(time.Hour)
	w.bring(token()).wants(t, 401, "invalid_client")
	f.write(t, `{"v":1,"serial":5}`)
	w.clock.Add(time.Hour)
	w.bring(token()).wants(t, 200, "")
	ci.Be(issuertest.Behaviour{DiscoveryStatus: 503})
	w.restart = true
	if r := w.bring(token()); r.Status != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// An issuer without endpoints for logins is one for machines only: nobody logs in there, and the
// log says what its document lacks.
func TestWorkloadIssuersAreNoLoginProviders(t *testing.T) {
	w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), nil)
	w.bring(workloadToken(ci, nil)).wants(t, 200, "")
	w.relabel(func(l *labels) { l.ProviderIssuer = ci.Issuer })
	b := issuertest.NewBrowser(t, w.net)
	page := b.Decide(b.Get(w.register(w.wiki.PublicURL, nil).authorizeURL()), "allow")
	if page.Status != 503 || !strings.Contains(w.log.String(), "authorization_endpoint is not an https URL") {
		t.Errorf("%d %s", page.Status, w.log.last())
	}
}

// Nobody needs a client to bring a JWT here. However many somebody makes up, the issuer is asked
// for its keys now and then only; and a key that it has just changed is read soon.
func TestMadeUpWorkloadsDoNotDriveTheirIssuer(t *testing.T) {
	w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), nil)
	madeUp := func(kid any) string {
		now := w.clock.Now().Unix()
		return sign(t, jose.RS256, rsaKey(), map[string]any{"iss": ci.Issuer, "sub": "x", "aud": w.wiki.PublicURL, "exp": now + 60, "repository": "acme/wiki"}, map[string]any{"typ": "JWT", "kid": kid})
	}
	w.bring(madeUp("first")).wants(t, 400, "invalid_grant")
	_, before, _ := ci.Counts()
	for i := range 20 {
		if r := w.bring(madeUp(fmt.Sprint(i))); r.Status != 503 || r.Header.Get("Retry-After") == "" {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		w.bring(madeUp(nil)).wants(t, 400, "invalid_grant")
	}
	w.bring(workloadToken(ci, nil)).wants(t, 200, "")
	ci.RotateKeys()
	if r := w.bring(workloadToken(ci, nil)); r.Status != 503 {
		t.Errorf("a new key: %d %s", r.Status, r.Body)
	}
	if _, after, _ := ci.Counts(); after != before || before > 1 {
		t.Errorf("%d fetches, then %d", before, after-before)
	}
	w.clock.Add(10 * time.Second)
	w.bring(workloadToken(ci, nil)).wants(t, 200, "")

	ci.RotateKeys()
	ci.Be(issuertest.Behaviour{KeysStatus: 503})
	w.clock.Add(10 * time.Second)
	_, before, _ = ci.Counts()
	for range 20 {
		if r := w.bring(workloadToken(ci, nil)); r.Status != 503 {
			t.Errorf("no keys: %d %s", r.Status, r.Body)
		}
	}
	if _, after, _ := ci.Counts(); after-before > 3 {
		t.Errorf("%d fetches of keys that cannot be had", after-before)
	}
}

// A workload needs no client. One that it brings must be good: a client that was denied, or whose
// secret is wrong, is not passed over.
func TestWorkloadsBringNoFalseClient(t *testing.T) {
	f := denyFile{t.TempDir() + "/deny.json"}
	f.write(t, `{"v":1,"serial":1}`)
	w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), func(w *world) {
		w.config = func(c *issuer.Config) { c.Deny = must(deny.Open(f.name, nil)) }
	})
	a := w.register(w.wiki.PublicURL, confidential)
	w.bring(workloadToken(ci, nil), "client_id", "anything").wants(t, 200, "")
	a.redeem(workloadToken(ci, nil)).wants(t, 200, "")
	wrong := *a
	wrong.secret = "x"
	wrong.redeem(workloadToken(ci, nil)).wants(t, 401, "invalid_client")
	w.bring(workloadToken(ci, nil), "client_id", a.id, "client_secret", "x").wants(t, 401, "invalid_client")
	w.bring(workloadToken(ci, nil), "client_assertion", "x", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer").wants(t, 401, "invalid_client")
	f.write(t, `{"v":1,"serial":2,"clients":{"`+sealing.Fingerprint(a.id)+`":""}}`)
	w.clock.Add(time.Hour)
	a.redeem(workloadToken(ci, nil)).wants(t, 401, "invalid_client")
}

// Where the document of an issuer cannot be had, the log names the label that names the issuer.
func TestLogNamesTheLabelOfAnIssuer(t *testing.T) {
	for what, behaviour := range map[string]issuertest.Behaviour{
		"see the label %s:": {DiscoveryStatus: 403}, "label %s is": {Discovery: map[string]any{"issuer": "https://other.example"}}, "the label %s need not be wrong": {DiscoveryStatus: 502},
	} {
		w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), nil)
		ci.Be(behaviour)
		if r := w.bring(workloadToken(ci, nil)); r.Status != 503 || !strings.Contains(w.log.last(), fmt.Sprintf(what, "workloadIssuers")) {
			t.Errorf("%d, and the log says %s", r.Status, w.log.last())
		}
		w, ci = newWorkloads(t, oneRule("repository=acme/wiki => r"), nil)
		ci.Be(behaviour)
		w.relabel(func(l *labels) { l.EnterpriseIssuers = []string{ci.Issuer} })
		a := w.register(w.wiki.PublicURL, confidential)
		if r := a.redeem(ci.Assertion(a.base, a.id, nil, nil)); r.Status != 503 || !strings.Contains(w.log.last(), fmt.Sprintf(what, "enterpriseIssuers")) {
			t.Errorf("%d, and the log says %s", r.Status, w.log.last())
		}
	}
}

// A rule is about its own issuer: what another one says of its workloads opens nothing by it.
func TestWorkloadRulesAreOfOneIssuer(t *testing.T) {
	w, ci := newWorkloads(t, func(issuer string) []string { return []string{issuer + " repository=acme/wiki => r"} }, nil)
	w.relabel(func(l *labels) { l.WorkloadIssuers = append(l.WorkloadIssuers, w.idp.Issuer+" sub=x => w") })
	w.bring(workloadToken(w.idp, nil)).wants(t, 400, "access_denied")
	if r := w.bring(workloadToken(w.idp, map[string]any{"sub": "x"})).wants(t, 200, ""); r.text("scope") != "w" {
		t.Errorf("%s", r.Body)
	}
	if r := w.bring(workloadToken(ci, nil)).wants(t, 200, ""); r.text("scope") != "r" {
		t.Errorf("%s", r.Body)
	}
}

// At a tenant with both labels, typ says which way a JWT goes; and each workload is a login of its
// own, which can be ended alone.
func TestWorkloadsAndPeopleComeBesideEachOther(t *testing.T) {
	w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), nil)
	w.relabel(func(l *labels) { l.EnterpriseIssuers = []string{w.idp.Issuer, ci.Issuer} })
	a := w.register(w.wiki.PublicURL, confidential)
	a.redeem(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 200, "")
	w.bring(w.idp.Assertion(a.base, a.id, nil, nil)).wants(t, 401, "invalid_client")
	w.bring(ci.Assertion(a.base, a.id, map[string]any{"repository": "acme/wiki"}, nil)).wants(t, 401, "invalid_client")
	w.relabel(func(l *labels) {
		l.WorkloadIssuers = append(l.WorkloadIssuers, w.idp.Issuer+" repository=acme/wiki => r")
		l.EnterpriseIssuers = []string{ci.Issuer}
	})
	a.redeem(w.idp.Assertion(a.base, a.id, map[string]any{"repository": "acme/wiki"}, nil)).wants(t, 400, "invalid_grant")
	if !strings.Contains(w.log.last(), "which the label enterpriseIssuers does not name") {
		t.Errorf("an issuer of machines speaks of people: %s", w.log.last())
	}
	sid := func(subject string) any {
		token := w.bring(workloadToken(ci, map[string]any{"sub": subject})).wants(t, 200, "").text("access_token")
		return w.verifiedToken(w.wiki.PublicURL, token, w.clock.Now())["sid"]
	}
	if sid("one") == sid("two") {
		t.Error("two workloads are one login")
	}
}

// Whoever comes in without a login at the provider is named where the log says who may come in.
func TestLogSaysWhoElseMayComeIn(t *testing.T) {
	w, ci := newWorkloads(t, oneRule("repository=acme/wiki => r"), func(w *world) { w.wiki.EnterpriseIssuers = []string{"https://idp.example"} })
	w.bring(workloadToken(ci, nil)).wants(t, 200, "")
	waitFor(t, "who may come in", func() bool { return len(linesOf(t, w.log.String(), "who may come in")) == 1 })
	who, _ := linesOf(t, w.log.String(), "who may come in")[0]["who"].(string)
	for _, want := range []string{"; under the same rules whom https://idp.example asserts (enterpriseIssuers)", "; workloads: " + ci.Issuer + " repository=acme/wiki => r (workloadIssuers)"} {
		if !strings.Contains(who, want) {
			t.Errorf("the log says %q, and not %q", who, want)
		}
	}
}
