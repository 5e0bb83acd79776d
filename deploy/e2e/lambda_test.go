package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The whole login and a refresh, in each way in which requests can reach a function, also with
// tokens that are bound to a key. Every request meets another environment than the one before; half
// of them are new, and all are frozen in between.
func TestLoginOnLambda(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true, Alone: true, Labels: map[string]string{"dpop": "accept"}})
	for _, shape := range rig.Shapes {
		t.Run(shape.Name, func(t *testing.T) {
			w.Lambda.Deliver(shape)
			for _, tn := range w.Tenants() {
				callWhoami(t, tn, tn.PublicHTTP())
				loginAndRefresh(t, tn.Client(), tn.Browser())
				bound := tn.Client()
				bound.Prover = rig.NewProver("ES256")
				loginAndRefresh(t, bound, tn.Browser())
			}
			c := w.Wiki.Client()
			basicChallenge(t, c)
			if answer := c.Do(http.MethodGet, "http://"+w.Lambda.Addr+"/healthz", nil, nil); answer.Status != http.StatusOK || answer.Body != `{"status":"ok"}` {
				t.Errorf("health for strangers: %s", answer)
			}
		})
	}
	requests, environments := w.Lambda.Requests(), len(w.Lambda.Environments())
	t.Logf("%d requests met %d environments", requests, environments)
	if environments < requests/2 {
		t.Errorf("%d requests met %d environments, want one for every other request", requests, environments)
	}
	noSecretIn(t, w, "lambda")
}

// Every client of docs/clients.md, in every way that it knows.
func TestRealClientsOnLambda(t *testing.T) {
	t.Parallel()
	host := rig.StartDocumentHost(t)
	o := optionsForClients(host)
	o.Lambda, o.Alone = true, true
	w := rig.New(t, o)
	logInAllClients(t, w, host, clients)
	t.Logf("%d requests met %d environments", w.Lambda.Requests(), len(w.Lambda.Environments()))
	noSecretIn(t, w, "lambda")
}

// loginAndRefresh goes step by step, to the token that the refresh brought.
func loginAndRefresh(t *testing.T, c *rig.OAuthClient, b *rig.Browser) {
	t.Helper()
	tokens := c.Tokens(b)
	refreshed := c.Refresh(tokens.Member("refresh_token"))
	if refreshed.Status != http.StatusOK {
		t.Fatalf("refresh: %s", refreshed)
	}
	if answer := c.Get("/anything", refreshed.Member("access_token")); answer.Status != http.StatusOK {
		t.Errorf("with the refreshed token: %s", answer)
	}
}

// basicChallenge checks that a client which failed by Basic is challenged by Basic (RFC 6749 §5.2),
// whatever AWS calls the header on its way.
func basicChallenge(t *testing.T, c *rig.OAuthClient) {
	t.Helper()
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {"Basic bm9ib2R5OndpdGggYSBzZWNyZXQ="}}
	answer := c.Do(http.MethodPost, c.Meta.TokenEndpoint, h, []byte("grant_type=refresh_token&refresh_token=r"))
	if got := answer.Header.Get("WWW-Authenticate"); answer.Status != http.StatusUnauthorized || got != `Basic realm="token endpoint"` {
		t.Errorf("challenge %q: %s", got, answer)
	}
	if got := answer.Header.Get("X-Amzn-Remapped-WWW-Authenticate"); got != "" {
		t.Errorf("AWS's name for it came along: %q", got)
	}
}

// noSecretIn is TestLogsHoldNoSecret for one process.
func noSecretIn(t *testing.T, w *rig.World, name string) {
	t.Helper()
	if kinds := w.Secrets.Kinds(); kinds["hop header"] == 0 || kinds["code"] == 0 || kinds["refresh token"] == 0 {
		t.Errorf("collected only %v", kinds)
	}
	log := w.Logs.Text(name)
	if !strings.Contains(log, "serving invocations") {
		t.Errorf("log of %s: %.300s", name, log)
	}
	for _, found := range w.Secrets.In(log) {
		t.Errorf("%s: %s", name, found)
	}
}

// Requests that come at the same time meet as many environments, which know nothing of each other.
func TestParallelRequestsMeetManyEnvironments(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true, Alone: true})
	c := w.Wiki.Client()
	tokens := c.Tokens(w.Wiki.Browser())
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Member("refresh_token")}, "client_id": {c.ClientID}, "resource": {c.Resource}}
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	before, posts := len(w.Lambda.Environments()), len(w.Wiki.Provider.Posts("refresh_token"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			answer, err := c.Try(t.Context(), http.MethodPost, c.Meta.TokenEndpoint, h, []byte(form.Encode()))
			if err != nil || answer.Status != http.StatusOK {
				t.Errorf("%v, %v", answer, err)
				return
			}
			bearer := http.Header{"Authorization": {"Bearer " + answer.Member("access_token")}}
			if got, err := c.Try(t.Context(), http.MethodGet, c.Public+"/anything", bearer, nil); err != nil || got.Status != http.StatusOK {
				t.Errorf("with the refreshed token: %v, %v", got, err)
			}
		})
	}
	wg.Wait()
	// every other request may find one that is warm
	if n := len(w.Lambda.Environments()) - before; n < 4 {
		t.Errorf("8 requests at the same time started %d environments", n)
	}
	if n := len(w.Wiki.Provider.Posts("refresh_token")) - posts; n != 0 {
		t.Errorf("the provider was asked %d times within the hour", n)
	}
}

// The guard table tells the first use from the second for environments that know nothing of each
// other, where the provider lets several through.
func TestGuardTableServesAllEnvironments(t *testing.T) {
	t.Parallel()
	store := rig.StartDynamoDB(t, &rig.Logs{})
	env := maps.Clone(store.Env)
	env["BOUNCER_REPLAY_GUARD"] = store.URL
	w := rig.New(t, rig.Options{Lambda: true, Alone: true, Sidecar: env})
	c := w.World.Client()
	f := c.Begin()
	code := c.Login(w.World.Browser(), f)
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {f.Verifier}, "client_id": {c.ClientID}, "redirect_uri": {c.Redirect}, "resource": {c.Resource}}
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			answer, err := c.Try(t.Context(), http.MethodPost, c.Meta.TokenEndpoint, h, []byte(form.Encode()))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[answer.Status]++
		})
	}
	wg.Wait()
	if statuses[http.StatusOK] != 1 || statuses[http.StatusBadRequest] != 5 {
		t.Errorf("statuses of 6 redemptions of one code: %v", statuses)
	}
	loginAndRefresh(t, c, w.World.Browser())
}

// Lambda may deliver a request to a second environment when the first one's answer is lost. All of
// a login bears that, except that a code whose redemption was lost is spent: the provider saw it.
func TestInvocationsThatAreDeliveredTwice(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true, Alone: true})
	redeems := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/oauth/token") }
	w.Lambda.Twice(func(r *http.Request) bool { return !redeems(r) })
	c := w.Wiki.Client()
	tokens := c.Tokens(w.Wiki.Browser())

	w.Lambda.Twice(redeems)
	if answer := c.Refresh(tokens.Member("refresh_token")); answer.Status != http.StatusOK {
		t.Errorf("refresh: %s", answer)
	}
	f := c.Begin()
	if answer := c.Redeem(c.Login(w.Wiki.Browser(), f), f); answer.Status != http.StatusBadRequest || answer.Member("error") != "invalid_grant" {
		t.Errorf("code: %s, want invalid_grant", answer)
	}
	w.Lambda.Twice(nil)
	loginAndRefresh(t, c, w.Wiki.Browser())
}

// The variables of the function name its secrets only. Nothing is read before the first request of
// an environment, and each secret once.
func TestLambdaReadsNamedSecretsAtTheFirstRequest(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true, Alone: true, Named: true})
	// At load the plugin asks for the keys of each tenant, in environments of their own.
	rig.WaitFor(t, "the plugin's own questions", func() error {
		if n := len(w.Extension.Asked()); n < len(w.Tenants()) {
			return fmt.Errorf("%d secrets were asked for", n)
		}
		return nil
	})
	before := len(w.Extension.Asked())
	e := w.Lambda.Cold()
	if asked := w.Extension.Asked()[before:]; len(asked) != 0 {
		t.Errorf("asked for %q before there was a request", asked)
	}
	e.End()
	w.Lambda.Settle()
	for _, tn := range w.Tenants() {
		loginAndRefresh(t, tn.Client(), tn.Browser())
		loginAndRefresh(t, tn.Client(), tn.Browser())
	}
	asked := w.Extension.Asked()[before:]
	slices.Sort(asked)
	if len(asked) != 3 || len(slices.Compact(asked)) != 3 {
		t.Errorf("asked for %q, want each of three secrets once", asked)
	}
	noSecretIn(t, w, "lambda")
}

// A signature is a second lock: the URL lets no unsigned request through. All that real clients
// send survives it, their own Authorization header too.
func TestLambdaBehindASignature(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true, Alone: true, Signed: true})
	for _, tn := range w.Tenants() {
		callWhoami(t, tn, tn.PublicHTTP())
		loginAndRefresh(t, tn.Client(), tn.Browser())
	}
	c := w.Wiki.Client()
	basicChallenge(t, c)

	// A confidential client authenticates by Basic.
	registered := c.Register(map[string]any{"redirect_uris": []string{c.Redirect}, "token_endpoint_auth_method": "client_secret_basic"})
	c.ClientID = registered.Member("client_id")
	f := c.Begin()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {c.Login(w.Wiki.Browser(), f)}, "code_verifier": {f.Verifier}, "redirect_uri": {c.Redirect}}
	basic := base64.StdEncoding.EncodeToString([]byte(c.ClientID + ":" + registered.Member("client_secret")))
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {"Basic " + basic}}
	if answer := c.Do(http.MethodPost, c.Meta.TokenEndpoint, h, []byte(form.Encode())); answer.Status != http.StatusOK {
		t.Errorf("a client with a secret: %s", answer)
	}
	// What is escaped twice, repeated or broken arrives as a request that is refused by the
	// sidecar, not as one with a wrong signature.
	for _, query := range []string{"?state=a%20b&state=c+d&x=%C3%BC~*'()", "?%zz=%", "?a;b", "?"} {
		if answer := c.Do(http.MethodGet, c.Public+"/oauth/authorize"+query, nil, nil); answer.Status != http.StatusBadRequest {
			t.Errorf("%s: %s", query, answer)
		}
	}
	// A request without a signature gets nothing, not even health.
	resp, err := http.Get("http://" + w.Lambda.Addr + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("unsigned: %s", resp.Status)
	}
	noSecretIn(t, w, "lambda")
	for _, found := range w.Secrets.In(w.Logs.Text("traefik")) {
		t.Errorf("traefik: %s", found)
	}
}

// Containers and functions with one master secret behind one Traefik: the way from one to the
// other, and back, without a moment at which anybody is logged out.
func TestContainerAndLambdaSideBySide(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Lambda: true})
	for _, shape := range rig.Shapes {
		w.Lambda.Deliver(shape)
		for _, tn := range w.Tenants() {
			loginAndRefresh(t, tn.Client(), tn.Browser())
		}
	}
	// In one login no two steps in a row meet the same sidecar.
	c, from := w.Wiki.Client(), len(w.Front.Asked())
	c.Tokens(w.Wiki.Browser())
	steps := w.Front.Asked()[from:]
	on := map[string]int{}
	for _, step := range steps {
		name, _, _ := strings.Cut(step, " ")
		on[name]++
	}
	if on["lambda"] == 0 || on["sidecar-a"] == 0 || on["sidecar-b"] == 0 {
		t.Errorf("not everybody took part in the login: %q", steps)
	}
}

// The test checks what deploy/lambda/README.md says about the zip.
func TestZipIsReproducibleAndSmall(t *testing.T) {
	t.Parallel()
	again := filepath.Join(t.TempDir(), "again.zip")
	first, err := os.ReadFile(rig.LambdaZip(t))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "./deploy/lambda/zip", "-arch", goarch(t), "-o", again)
	cmd.Dir = rig.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	second, err := os.ReadFile(again)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two builds differ")
	}
	if limit := 4_100_000; len(first) > limit {
		t.Errorf("the zip has %d bytes, more than %d", len(first), limit)
	}
}

// What a cold start takes is mostly new pages and what packages make, and neither depends on what
// else the machine does: a table or a pattern that only an operator's tool needs shows here.
func TestFunctionStartsWithLittle(t *testing.T) {
	t.Parallel()
	const mostPages, mostBytes = 60, 65_000
	launcher := build(t, "launcher")
	least := func(program string) int {
		l := rig.StartLambda(t, &rig.Logs{}, lambdaKey(t), nil)
		if program != "" {
			l.Replace(t, program)
		}
		l.Launch(launcher)
		var pages []int
		for range 7 {
			e := l.Cold()
			pages = append(pages, e.Usage().Faults)
			e.End()
		}
		return slices.Min(pages)
	}
	nothing, ours := least(build(t, "nothing")), least("")
	t.Logf("new pages: %d, a function that does nothing %d", ours, nothing)
	if nothing <= 0 || ours <= 0 || ours-nothing > mostPages {
		t.Errorf("the start takes %d new pages more than nothing, and may take %d", ours-nothing, mostPages)
	}

	out := bootstrap(t, []string{"GODEBUG=inittrace=1", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"})
	sum, packages := 0, 0
	for _, found := range regexp.MustCompile(`(?m)^init \S+ @.*, (\d+) bytes, \d+ allocs$`).FindAllStringSubmatch(out, -1) {
		bytes, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		sum, packages = sum+bytes, packages+1
	}
	t.Logf("%d packages make %d bytes", packages, sum)
	if packages < 50 || sum > mostBytes {
		t.Errorf("%d packages make %d bytes when the program starts, and may make %d:\n%s", packages, sum, mostBytes, out)
	}
}

// Who looks for the operator's tools in the zip is told where they are.
func TestFunctionOnlyServes(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"lint", "doctor", "keygen", "inspect"} {
		if out := bootstrap(t, nil, command); !strings.Contains(out, "only serves") {
			t.Errorf("%s: %s", command, out)
		}
	}
	if out := bootstrap(t, nil, "version"); strings.Contains(out, "only serves") || strings.TrimSpace(out) == "" {
		t.Errorf("version: %q", out)
	}
}

// bootstrap runs the program of the zip until it ends, and returns all that it says.
func bootstrap(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(rig.Bootstrap(t), args...)
	cmd.Env = env
	out, _ := cmd.CombinedOutput() // most that it is asked for here is an error
	return string(out)
}

func goarch(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
