package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// An application on the TypeScript client 2.4 whose tokens are bound to a key logs in through real
// Traefik, calls a tool and refreshes, before and after sidecars and Traefik were restarted. Copies
// of what it keeps are worth nothing to whoever does not have the key, and a thief who tries spoils
// nothing.
func TestClientThatProvesItsKey(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"accept", "require"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := rig.New(t, rig.Options{Labels: map[string]string{"requiredScopes": "docs:read", "dpop": mode}, Stateless: []string{"world"}})
			var running []func()
			for tn, alg := range map[*rig.Tenant]string{w.Wiki: "ES256", w.World: "EdDSA"} {
				a := loginBySDK(t, tn, w, nil, way{name: alg, Server: tn.PublicHTTP() + "/mcp", Redirect: callbackPath, AuthMethod: "none", DPoP: alg}, "client-v2.mjs")
				use := func() {
					t.Helper()
					a.call()
					kept := a.tell("tokens").Tokens
					if kept == nil || kept.Type != "DPoP" || kept.Refresh == "" {
						t.Fatalf("%s: it keeps %+v", tn.Name, kept)
					}
					w.Secrets.Add("access token", kept.Access)
					w.Secrets.Add("refresh token", kept.Refresh)
					copiesAreRefused(t, tn, a.opened[0].Query().Get("client_id"), kept)
					if done := a.tell("refresh"); done.Done == "" {
						t.Fatalf("%s: the refresh: %+v", tn.Name, done)
					}
					a.call()
					// A token that is refused before its time is refreshed as well.
					if done := a.tell("refuse"); done.Done == "" {
						t.Fatalf("%s: %+v", tn.Name, done)
					}
					a.call()
					if len(a.opened) != 1 {
						t.Errorf("%s: the person was asked %d times", tn.Name, len(a.opened))
					}
				}
				use()
				running = append(running, use)
				for _, seen := range tn.MCP.Requests("/mcp") {
					if seen.Header.Get("DPoP") != "" || seen.Header.Get("Authorization") != "" {
						t.Errorf("%s: the MCP server saw %v", tn.Name, seen.Header)
					}
				}
			}
			for _, r := range w.Replicas {
				r.Restart(nil)
			}
			w.Traefik.Restart(t, w.Keys.Hop)
			for _, tn := range w.Tenants() {
				rig.WaitFor(t, "the routes", func() error { return expectChallenge(w, tn) })
			}
			for _, use := range running {
				use()
			}
			for _, found := range w.Secrets.In(w.Logs.Text("traefik") + w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b")) {
				t.Errorf("a log holds a %s", found)
			}
		})
	}
}

// A machine whose application gives the SDK a key comes in where keys must be proven, and one that
// gives none does not. A program of a company, and a workload, bring assertions with proofs too.
func TestProgramsThatShowNoPageProveTheirKey(t *testing.T) {
	t.Parallel()
	idp := rig.StartEnterprise(t)
	options := optionsForEnterprise(idp)
	options.Labels["dpop"] = "require"
	w := rig.New(t, options)
	for _, tn := range w.Tenants() {
		for _, name := range []string{machineSecret, machineKey, workloadWay, assertionWay} {
			by := newPagelessWay(t, w, tn, idp, nil, "Program", name)
			by.DPoP = "ES256"
			watchPageless(t, w, tn, idp, func(way way) loginResult {
				a := loginBySDK(t, tn, w, way.trust(t), way, "client-v2.mjs")
				got := *a.ready
				got.Sub = a.call()
				if kept := a.tell("tokens").Tokens; kept == nil || kept.Type != "DPoP" || kept.Refresh != "" {
					t.Errorf("%s by %s: it keeps %+v", tn.Name, name, kept)
				}
				return got
			}, by)
		}
		c := tn.Client()
		id, secret := tn.CreateMachine("ci-bot", "docs:read")
		answer := c.Do(http.MethodPost, c.Meta.TokenEndpoint, credentials{id, secret}.header(), []byte("grant_type=client_credentials"))
		wantOAuthError(t, tn.Name+": without a key", answer, "invalid_dpop_proof")
	}
}

// expectChallenge wants that a request without a token is told where to log in.
func expectChallenge(w *rig.World, tn *rig.Tenant) error {
	resp, err := w.HTTP().Get(tn.PublicHTTP() + "/anything")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(strings.Join(resp.Header.Values("WWW-Authenticate"), ", "), "resource_metadata=") {
		return &unexpected{resp.Status, resp.Header}
	}
	return nil
}

type unexpected struct {
	status string
	header http.Header
}

func (u *unexpected) Error() string { return u.status + " " + u.header.Get("WWW-Authenticate") }

// copiesAreRefused plays a thief who has copies of a client's tokens, and not its key.
func copiesAreRefused(t *testing.T, tn *rig.Tenant, clientID string, kept *keptTokens) {
	t.Helper()
	plain, other := tn.Client(), tn.Client()
	plain.ClientID, other.ClientID = clientID, clientID
	other.Prover = rig.NewProver("ES256")
	for what, answer := range map[string]*rig.Answer{
		"as a Bearer token":      plain.Get("/anything", kept.Access),
		"without a proof":        plain.Do(http.MethodGet, plain.Public+"/anything", http.Header{"Authorization": {"DPoP " + kept.Access}}, nil),
		"with another's key":     other.Get("/anything", kept.Access),
		"with another's, as MCP": other.Do(http.MethodPost, plain.Public+"/mcp", other.Authorization(kept.Access), []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)),
	} {
		if answer.Status != http.StatusUnauthorized {
			t.Errorf("%s: an access token %s: %s", tn.Name, what, answer)
		}
	}
	wantOAuthError(t, tn.Name+": a refresh token without a proof", plain.Refresh(kept.Refresh), "invalid_dpop_proof")
	wantOAuthError(t, tn.Name+": a refresh token with another's key", other.Refresh(kept.Refresh), "invalid_grant")
}

// A copy of a whole request, token and proof, is worth nothing either: the proof is for that
// request, and counts once. It is checked against the address that the client used, at both entry
// points, whatever else it says.
func TestCopiedProofsAreRefused(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{Labels: map[string]string{"dpop": "accept"}})
	for _, tn := range w.Tenants() {
		for _, public := range []string{tn.PublicHTTP(), tn.PublicHTTPS()} {
			copiedProofsAreRefused(t, w, tn, public)
		}
		seesNoProofs(t, tn)
	}
}

// copiedProofsAreRefused plays a client at one public URL of a tenant, and a thief who has copies
// of its requests.
func copiedProofsAreRefused(t *testing.T, w *rig.World, tn *rig.Tenant, public string) {
	t.Helper()
	c := rig.NewOAuthClient(t, w.HTTP(), public)
	c.Prover = rig.NewProver("EdDSA")
	token := c.Tokens(tn.Browser()).Member("access_token")
	if answer := c.Get("/anything?a=b", token); answer.Status != http.StatusOK {
		t.Fatalf("%s: %s", public, answer)
	}
	here := public + "/anything"
	with := func(proof string) http.Header {
		h := c.Authorization(token)
		h.Set("DPoP", proof)
		return h
	}
	good := with(c.Prover.Proof(http.MethodGet, here, token))
	if answer := c.Do(http.MethodGet, here, good, nil); answer.Status != http.StatusOK {
		t.Errorf("%s: the request itself: %s", public, answer)
	}
	for what, h := range map[string]http.Header{
		"the same again":         good,
		"of another method":      with(c.Prover.Proof(http.MethodPost, here, token)),
		"of another path":        with(c.Prover.Proof(http.MethodGet, public+"/mcp", token)),
		"of another server":      with(c.Prover.Proof(http.MethodGet, "https://evil.example/anything", token)),
		"of another token":       with(c.Prover.Proof(http.MethodGet, here, token+"x")),
		"of a token request":     with(c.Prover.Proof(http.MethodPost, c.Meta.TokenEndpoint, "")),
		"of a forwarded address": forwarded(with(c.Prover.Proof(http.MethodGet, "https://evil.example/anything", token))),
	} {
		answer := c.Do(http.MethodGet, here, h, nil)
		if challenge := answer.Header.Get("WWW-Authenticate"); answer.Status != http.StatusUnauthorized || !strings.HasPrefix(challenge, `DPoP error="invalid_dpop_proof"`) {
			t.Errorf("%s: a proof %s: %s, %s", public, what, answer, challenge)
		}
	}
	if answer := c.Get("/anything", token); answer.Status != http.StatusOK {
		t.Errorf("%s: the owner afterwards: %s", public, answer)
	}
}

// seesNoProofs wants that an MCP server was shown neither tokens nor proofs.
func seesNoProofs(t *testing.T, tn *rig.Tenant) {
	t.Helper()
	for _, seen := range tn.MCP.Requests("") {
		if seen.Header.Get("DPoP") != "" || seen.Header.Get("Authorization") != "" {
			t.Errorf("%s: the MCP server saw %v", tn.Name, seen.Header)
		}
	}
}

// forwarded adds what a client says of the address that it came by.
func forwarded(h http.Header) http.Header {
	h.Set("X-Forwarded-Host", "evil.example")
	h.Set("X-Forwarded-Proto", "https")
	h.Set("Forwarded", "host=evil.example;proto=https")
	return h
}

// withAKey is the row of the one client that can do it.
var withAKey = sdkOnBadDays{"TypeScript client 2.x, with a key", "client-v2.mjs", nil, true}

// What clients do where a key may be proven, and where it must be: those that cannot are told so
// by the token endpoint, and as many as before find the way there. docs/clients.md has the table;
// with -matrix every cell is measured, else those of a few SDKs.
func TestClientsWhereKeysAreProven(t *testing.T) {
	t.Parallel()
	table := newTable("clients.md", "client", "version")
	modes := []string{"accept", "require"}
	for _, mode := range modes {
		table.columns = append(table.columns, "`dpop: "+mode+"`")
	}
	sdks := append([]sdkOnBadDays{withAKey}, sdksOnBadDays...)
	t.Run("with", func(t *testing.T) {
		for i, mode := range modes {
			t.Run(mode, func(t *testing.T) {
				t.Parallel()
				w := rig.New(t, rig.Options{Labels: map[string]string{"requiredScopes": "docs:read", "dpop": mode}, Stateless: []string{"wiki", "world"}})
				for _, sdk := range sdks {
					if !*matrix && !sdk.sample {
						continue
					}
					by := way{AuthMethod: "none"}
					if sdk.name == withAKey.name {
						by.DPoP = "ES256"
					}
					version, got := tryToCall(t, w.Wiki, w, sdk, mode, by)
					t.Logf("%s, %s: %s", sdk.name, mode, got)
					table.set([]string{sdk.name, version}, table.columns[i], got)
				}
				if !*matrix {
					return
				}
				for _, program := range installed() {
					t.Run(program.name, func(t *testing.T) {
						version, got := tryProgram(t, w.World, w, program)
						t.Logf("%s", got)
						table.set([]string{program.name, version}, table.columns[i], got)
					})
				}
			})
		}
	})
	var rows []string
	for _, sdk := range sdks {
		rows = append(rows, sdk.name)
	}
	for _, program := range allPrograms {
		rows = append(rows, program.name)
	}
	table.compare(t, rows)
}

// tryProgram says how far somebody comes who logs in with a program and uses the server.
func tryProgram(t *testing.T, tn *rig.Tenant, w *rig.World, program program) (version, got string) {
	t.Helper()
	if program.fixedPort != nil {
		program.fixedPort.Lock()
		defer program.fixedPort.Unlock()
	}
	p := program.install(t, siteOf(t, tn, w), newWay(t, tn, nil, program.name, program.ways[0]))
	p.patience = howLong
	switch worked := p.login() && p.use(); {
	case worked:
		return p.got.Version, program.does
	case len(p.asked) == 0:
		return p.got.Version, "does not get to the login"
	}
	return p.got.Version, "gets to the login, and fails"
}
