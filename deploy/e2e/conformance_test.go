package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// The official conformance suite, @modelcontextprotocol/conformance, as node/package-lock.json pins
// it.
const conformance = "node_modules/@modelcontextprotocol/conformance/dist/index.js"

// check is one finding of the suite.
type check struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"errorMessage"`
}

// resultFolder is the kind of what is tested, a scenario and a time.
var resultFolder = regexp.MustCompile(`^(?:authorization-server-|server-)?(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// checksIn reads what the suite saved, by scenario.
func checksIn(t *testing.T, dir string) map[string][]check {
	t.Helper()
	all := map[string][]check{}
	files, err := filepath.Glob(filepath.Join(dir, "*", "checks.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		scenario := resultFolder.FindStringSubmatch(filepath.Base(filepath.Dir(file)))
		if scenario == nil {
			t.Fatalf("%s is named after no scenario", file)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var checks []check
		if err := json.Unmarshal(b, &checks); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[scenario[1]] = append(all[scenario[1]], checks...)
	}
	return all
}

// count counts the checks of all scenarios by status: "55 SUCCESS, 4 FAILURE".
func count(scenarios map[string][]check) map[string]int {
	n := map[string]int{}
	for _, checks := range scenarios {
		for _, c := range checks {
			n[c.Status]++
		}
	}
	return n
}

// Both scenarios of the suite for authorization servers, against both tenants, as a public client:
// the suite uses a secret only where the server takes no public ones.
func TestConformanceOfTheAuthorizationServer(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	for _, tn := range w.Tenants() {
		t.Run(tn.Name, func(t *testing.T) { authorizationScenarios(t, w, tn) })
	}
}

func authorizationScenarios(t *testing.T, w *rig.World, tn *rig.Tenant) {
	c := tn.Client()
	port := rig.FreePort(t)
	callback := fmt.Sprintf("http://127.0.0.1:%d/callback", port)
	registered := c.Register(map[string]any{
		"client_name": "Conformance", "redirect_uris": []string{callback}, "token_endpoint_auth_method": "none",
	})
	out, name := t.TempDir(), "conformance "+tn.Name
	process := rig.Node(t, w.Logs, name, conformance,
		"authorization", "--url", c.Meta.Issuer, "--client-id", registered.Member("client_id"), "--resource", c.Resource,
		"-p", fmt.Sprint(port), "-o", out)
	start := process.Say(t, w.Logs, regexp.MustCompile(`(`+regexp.QuoteMeta(c.Meta.AuthorizationEndpoint)+`\?\S+)`))
	browser := tn.Browser()
	back, err := browser.Visit(t.Context(), start, callback)
	if err != nil {
		t.Fatal(err)
	}
	// The suite says where to go before it listens there.
	rig.WaitFor(t, "the suite listens", func() error {
		conn, err := net.Dial("tcp", back.Host)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if _, err := browser.Load(t.Context(), back.String()); err != nil {
		t.Fatal(err)
	}
	if code := process.Wait(t); code != 0 {
		t.Errorf("the suite ended with %d", code)
	}
	// A scenario that was skipped ends with 0 as well: what passed is counted.
	scenarios := checksIn(t, out)
	want := map[string]int{"authorization-server-metadata-endpoint": 2, "authorization-code-grant": 1}
	got := map[string]int{}
	for scenario, checks := range scenarios {
		for _, check := range checks {
			if check.Status != "SUCCESS" {
				t.Errorf("%s: %+v", scenario, check)
			}
			got[scenario]++
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("checks by scenario %v, want %v", got, want)
	}
	if t.Failed() {
		t.Log(w.Logs.Text(name))
	}
}

// The suite's scenarios for clients that show no page, with the applications that
// TestClientsThatShowNoPage lets in here: what these put on the wire is what the suite wants there,
// so it is no custom of this project's. What a client does not pass is its own.
func TestConformanceOfClientsThatShowNoPage(t *testing.T) {
	t.Parallel()
	// The Go SDK takes the document of the suite's identity provider for one of a server without
	// PKCE, and goes no further.
	clientScenarios(t, map[string]map[string][]string{
		"client-v2.mjs": {
			"client-credentials-basic":         {"client-credentials-basic-auth"},
			"client-credentials-jwt":           {"client-credentials-jwt-verified"},
			"enterprise-managed-authorization": {"complete-flow-token-exchange", "complete-flow-jwt-bearer"},
			"wif-jwt-bearer":                   {"wif-assertion-verified"},
		},
		"gosdk": {"client-credentials-basic": {"client-credentials-basic-auth"}},
	})
}

// The same of clients whose tokens are bound to a key. The suite's server wants a nonce at each
// endpoint, as this one does, or none.
func TestConformanceOfAClientThatProvesItsKey(t *testing.T) {
	t.Parallel()
	each := []string{"sep-1932-client-token-request-proof", "sep-1932-client-dpop-auth-scheme", "sep-1932-client-fresh-proof"}
	clientScenarios(t, map[string]map[string][]string{"client-v2.mjs": {
		"dpop":       each,
		"dpop-nonce": append([]string{"sep-1932-client-as-nonce", "sep-1932-client-rs-nonce"}, each...),
	}})
}

// clientScenarios runs scenarios of the suite with clients, and wants that the checks which they
// are for succeed and that none fails or warns.
func clientScenarios(t *testing.T, want map[string]map[string][]string) {
	for program, scenarios := range want {
		for scenario, ids := range scenarios {
			t.Run(program+" "+scenario, func(t *testing.T) {
				t.Parallel()
				out, logs := t.TempDir(), &rig.Logs{}
				node := rig.Installed(t, "node/node_modules/node-linux-*/bin/node")
				client := rig.Installed(t, "node/conformance.mjs")
				command := []string{node, client, node, rig.Installed(t, "node/client-v2.mjs")}
				if program == "gosdk" {
					command = []string{node, client, rig.Tool(t, program)}
				}
				rig.Node(t, logs, "suite", conformance, "client", "--command", strings.Join(command, " "), "--scenario", "auth/"+scenario, "-o", out).Wait(t)
				all := checksIn(t, filepath.Join(out, "auth"))
				for _, id := range ids {
					if !slices.ContainsFunc(all[scenario], func(c check) bool { return c.ID == id && c.Status == "SUCCESS" }) {
						t.Errorf("%s did not pass", id)
					}
				}
				if n := count(all); n["FAILURE"]+n["WARNING"] > 0 || t.Failed() {
					t.Errorf("%v %+v\n%s", n, all, logs.Text("suite"))
				}
			})
		}
	}
}

// The suite's scenarios for MCP servers, against the Go SDK's everything-server with and without
// the bouncer in front: every check of every scenario must end in the same way, sessions, streams,
// refused headers and all. What the server itself does wrong is its own.
func TestConformanceOfAServerBehindTheBouncer(t *testing.T) {
	t.Parallel()
	// One server with sessions and one without; each run gets the server in the same state.
	direct := map[string]string{"wiki": startEverythingServer(t, false), "world": startEverythingServer(t, true)}
	guarded := map[string]string{"wiki": startEverythingServer(t, false), "world": startEverythingServer(t, true)}
	w := rig.New(t, rig.Options{Servers: guarded})
	shims := map[string]string{}
	for _, tn := range w.Tenants() {
		token := tn.Client().Tokens(tn.Browser()).Member("access_token")
		shims[tn.Name] = bearerShim(t, tn.PublicHTTP()+"/mcp", token)
	}
	for _, run := range []struct {
		name, tenant, revision string
		scenarios              int // counted, so that two runs that tested nothing are not equal
		passed, failed         int
		skipped                int // by the suite, for every server
	}{
		{"2025-11-25 with sessions", "wiki", "2025-11-25", 33, 82, 0, 0},
		{"2025-11-25 without sessions", "world", "2025-11-25", 33, 64, 4, 0},
		{"2026-07-28", "world", "2026-07-28", 50, 165, 30, 1},
	} {
		t.Run(run.name, func(t *testing.T) {
			want := serverScenarios(t, w, "directly "+run.name, "http://localhost:"+direct[run.tenant]+"/mcp", run.revision)
			got := serverScenarios(t, w, "bounced "+run.name, shims[run.tenant]+"/mcp", run.revision)
			if n := count(want); len(want) != run.scenarios || n["SUCCESS"] != run.passed || n["FAILURE"] != run.failed || n["SKIPPED"] != run.skipped {
				t.Errorf("without the bouncer %d scenarios, %v, want %+v", len(want), n, run)
			}
			names := slices.Sorted(maps.Keys(want))
			if others := slices.Sorted(maps.Keys(got)); !slices.Equal(names, others) {
				t.Errorf("scenarios with the bouncer\n%v, without\n%v", others, names)
			}
			for _, name := range names {
				if !reflect.DeepEqual(got[name], want[name]) {
					t.Errorf("%s\nwith the bouncer %+v\nwithout          %+v", name, got[name], want[name])
				}
			}
			t.Logf("%d scenarios, %v, the same with and without the bouncer", len(want), count(want))
		})
	}
}

func serverScenarios(t *testing.T, w *rig.World, name, server, revision string) map[string][]check {
	t.Helper()
	out := t.TempDir()
	process := rig.Node(t, w.Logs, name, conformance, "server", "--url", server, "--requirements", revision, "-o", out)
	process.Wait(t) // its status is 1 when the server fails in something
	return checksIn(t, out)
}

// startEverythingServer starts the conformance server of the Go SDK and returns its port.
func startEverythingServer(t *testing.T, stateless bool) string {
	t.Helper()
	port, logs := fmt.Sprint(rig.FreePort(t)), &rig.Logs{}
	process := rig.StartProcess(t, logs, "everything-server", exec.Command(rig.Tool(t, "everything-server"),
		"-http", "127.0.0.1:"+port, fmt.Sprintf("-stateless=%t", stateless)))
	rig.WaitFor(t, "everything-server to listen", func() error {
		if process.Exited() {
			t.Fatal(logs.Text("everything-server"))
		}
		resp, err := http.Get("http://127.0.0.1:" + port)
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return port
}

// bearerShim adds the token that the suite has no option for. It stands for the server's address:
// who names the shim in Host or Origin names the server.
func bearerShim(t *testing.T, server, token string) string {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	var self string
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // streams that the suite gives up
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path = to.Scheme, to.Host, to.Path
			r.Out.Host = r.In.Host
			if r.In.Host == self {
				r.Out.Host = to.Host
			}
			if origin := r.In.Header.Get("Origin"); strings.TrimPrefix(origin, "http://") == self {
				r.Out.Header.Set("Origin", "http://"+to.Host)
			}
			r.Out.Header.Set("Authorization", "Bearer "+token)
		},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Held in memory: net/http may close an incoming body under the proxy's hands while it
		// still looks for its end.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	self = strings.Replace(strings.TrimPrefix(srv.URL, "http://"), "127.0.0.1", "localhost", 1)
	return "http://" + self
}
