package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// mistake is one slip of an operator, on a route of its own beside others that work.
type mistake struct {
	name    string // of the route, its middleware and its resource
	options map[string]string
	without string   // an option that is left out
	before  []string // middlewares in front
	rule    string   // of the router; default: the recommended one
	bare    bool     // the router has no middleware
	plugin  string   // the plugin's name in the middleware; default: the right one
	uses    string   // the middleware that the router names; default: its own

	url    string
	header http.Header
	token  bool // of tenant wiki

	status  int
	body    string // part of it
	traefik string // part of a line that names the middleware; "" when there is none
	itself  string // part of a line of Traefik's own
	sidecar string // part of a line; "" when there is none about this route
}

// What stands in which log, and what the client sees, for what operators do wrong: with real
// Traefik, real sidecars, and all of them at one time. docs/troubleshooting.md is this table for
// people.
func TestMistakesOfOperators(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	stranger := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(rw, "<h1>Welcome to nginx!</h1>")
	}))
	t.Cleanup(stranger.Close)
	otherKey := filepath.Join(t.TempDir(), "hop")
	if err := os.WriteFile(otherKey, []byte(rig.Keygen(t, w.Secrets).Hop), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	const host = "https://mcp.localhost"
	metadata := func(name string) string { return host + "/" + name + "/.well-known/oauth-authorization-server" }

	mistakes := []mistake{
		{name: "right", options: map[string]string{"publicURL": host + "/right"}, url: metadata("right"), status: 200,
			traefik: "answers and accepts the hop key", sidecar: host + "/right/oauth/callback"},
		{name: "no-hop-key", options: map[string]string{"hopKeyFile": otherKey + "-is-not-there"}, url: metadata("no-hop-key"), status: 503,
			body: "temporarily_unavailable", traefik: "label hopKeyFile: "},
		{name: "hop-key-of-another-master", options: map[string]string{"hopKeyFile": otherKey}, url: metadata("hop-key-of-another-master"), status: 503,
			body: "temporarily_unavailable", traefik: "its master secret is not that of this hop key", sidecar: "hop header refused"},
		{name: "sidecar-of-no-host", options: map[string]string{"sidecarURL": "http://bouncer.invalid:8080"}, url: metadata("sidecar-of-no-host"), status: 502,
			body: "temporarily_unavailable", traefik: "(label sidecarURL): dial tcp: lookup bouncer.invalid"},
		{name: "sidecar-is-down", options: map[string]string{"sidecarURL": "http://" + closed}, url: metadata("sidecar-is-down"), status: 502,
			body: "temporarily_unavailable", traefik: "connection refused"},
		{name: "sidecar-is-down-for-a-person", options: map[string]string{"sidecarURL": "http://" + closed}, url: host + "/sidecar-is-down-for-a-person/oauth/authorize", status: 502,
			body: "You cannot sign in at the moment", traefik: "connection refused"},
		{name: "something-else-is-there", options: map[string]string{"sidecarURL": stranger.URL}, url: metadata("something-else-is-there"), status: 502,
			body: "temporarily_unavailable", traefik: "is not the sidecar (200 text/html)"},
		{name: "secret-is-not-set", options: map[string]string{"publicURL": host + "/secret-is-not-set", "clientSecret": "env:NOBODYS_CLIENT_SECRET"}, url: metadata("secret-is-not-set"), status: 200,
			traefik: "answers and accepts the hop key", sidecar: "nobody can log in: there is no client secret for the provider"},
		{name: "provider-with-a-slash", options: map[string]string{"publicURL": host + "/provider-with-a-slash", "providerIssuer": w.Wiki.Provider.Issuer + "/"}, url: metadata("provider-with-a-slash"), status: 200,
			traefik: "answers and accepts the hop key", sidecar: "copy that into the label, to the last slash"},
		{name: "provider-of-another-path", options: map[string]string{"publicURL": host + "/provider-of-another-path", "providerIssuer": w.Wiki.Provider.Issuer + "/realms/acme"}, url: metadata("provider-of-another-path"), status: 200,
			traefik: "answers and accepts the hop key", sidecar: "the provider answers 404 text/"},
		{name: "provider-that-is-down", options: map[string]string{"publicURL": host + "/provider-that-is-down", "providerIssuer": "http://" + closed}, url: metadata("provider-that-is-down"), status: 200,
			traefik: "answers and accepts the hop key", sidecar: "connection refused"},
		{name: "provider-by-http", options: map[string]string{"providerIssuer": "http://sso.example"}, url: metadata("provider-by-http"), status: 503,
			body: "misconfigured", traefik: "label providerIssuer: plain http is accepted only for localhost"},
		{name: "public-http", options: map[string]string{"publicURL": "http://mcp.localhost/public-http"}, url: host + "/public-http/mcp", status: 401,
			traefik: "came by TLS, but publicURL is http://mcp.localhost/public-http"},
		{name: "public-http-of-a-real-host", options: map[string]string{"publicURL": "http://mcp.example.com/public-http-of-a-real-host"}, url: host + "/public-http-of-a-real-host/mcp", status: 503,
			body: "misconfigured", traefik: "label publicURL: plain http is accepted only for"},
		{name: "public-host", options: map[string]string{"publicURL": "https://mcp.example.com/public-host"}, url: host + "/public-host/mcp", status: 421,
			body: "misdirected_request", traefik: `a request for the host \"mcp.localhost\" is answered 421, as publicURL is https://mcp.example.com/public-host`},
		{name: "public-port", options: map[string]string{"publicURL": host + ":8443/public-port"}, url: host + "/public-port/mcp", status: 421,
			body: "misdirected_request", traefik: "write publicURL with the port that clients use"},
		{name: "public-path", options: map[string]string{"publicURL": host + "/public-paths"}, url: host + "/public-path/mcp", status: 404,
			body: "not_found", traefik: "serves https://mcp.localhost/public-paths and what is below it"},
		{name: "tls-before-traefik", rule: "Host(`mcp.example.com`)", url: w.Traefik.Web + "/tls-before-traefik/mcp", header: http.Header{"Host": {"mcp.example.com"}}, status: 400,
			body: "plain http is served only on localhost", traefik: "if TLS ends at a proxy before Traefik, set the label publicURL"},
		{name: "stripped", before: []string{"strip"}, url: host + "/stripped/mcp", status: 404,
			body: "not_found", traefik: `has taken \"/stripped\" from the path (stripPrefix): put this middleware first`},
		{name: "replaced", before: []string{"replace"}, url: host + "/replaced/mcp", status: 404,
			body: "not_found", traefik: `has replaced the path \"/replaced/mcp\" (replacePath): put this middleware first`},
		{name: "encoded", url: host + "/encoded/a;b/mcp", status: 400,
			body: "not in its plain form", traefik: `is answered 400: such a path can be read in more than one way`},
		{name: "two-bouncers", before: []string{"mcpb-wiki@docker"}, rule: "Host(`mcp.localhost`) && PathPrefix(`/wiki/two-bouncers`)", options: map[string]string{"resource": "wiki"},
			url: host + "/wiki/two-bouncers", token: true, status: 401,
			body: "unauthorized", traefik: "that has been through a bouncer already"},
		{name: "unknown-label", options: map[string]string{"requiredScope": "wiki:read"}, url: host + "/unknown-label/mcp", status: 503,
			body: "misconfigured", traefik: `unknown label \"requiredScope\"`},
		{name: "missing-label", without: "clientID", url: host + "/missing-label/mcp", status: 503,
			body: "misconfigured", traefik: "label clientID: required"},
		{name: "wrong-list", options: map[string]string{"toolScopes": "delete_page=wiki:write, *=wiki:read"}, url: host + "/wrong-list/mcp", status: 503,
			body: "misconfigured", traefik: "label toolScopes: "},
		// Two middlewares of one resource: the sidecar says so, as it could be a slip in publicURL
		// too.
		{name: "resource-twice", options: map[string]string{"resource": "right", "publicURL": host + "/resource-twice"}, url: metadata("resource-twice"), status: 200,
			traefik: "answers and accepts the hop key", sidecar: "another public URL for the same resource"},
		// What neither of the two programs can see: the request does not come to them.
		{name: "no-well-known", rule: "Host(`mcp.localhost`) && PathPrefix(`/no-well-known`)", url: host + "/.well-known/oauth-authorization-server/no-well-known", status: 404,
			body: "404 page not found", traefik: "answers; the first request will show"},
		// Traefik itself says so, and has no router then: no request passes.
		{name: "plugin-of-another-name", plugin: "mcpbounzer", url: host + "/plugin-of-another-name/mcp", status: 404,
			body: "404 page not found", itself: "unknown plugin type: mcpbounzer"},
		{name: "middleware-of-another-name", uses: "mcpb-middleware-of-no-name", url: host + "/middleware-of-another-name/mcp", status: 404,
			body: "404 page not found", itself: `middleware \"mcpb-middleware-of-no-name@file\" does not exist`},
		{name: "no-middleware", bare: true, url: host + "/no-middleware/anything", status: 200},
	}

	options := func(m mistake) map[string]string {
		o := map[string]string{
			"providerIssuer": w.Wiki.Provider.Issuer, "clientID": w.Wiki.Provider.ClientID, "clientSecret": "env:" + w.Wiki.Provider.SecretEnv,
			"resource": m.name, "scopes": w.Wiki.Scopes, "sidecarURL": w.Front.URL,
		}
		maps.Copy(o, m.options)
		delete(o, m.without)
		return o
	}
	routers := map[string]any{}
	middlewares := map[string]any{
		"strip":   map[string]any{"stripPrefix": map[string]any{"prefixes": []string{"/stripped"}}},
		"replace": map[string]any{"replacePath": map[string]any{"path": "/api"}},
	}
	for _, m := range mistakes {
		if m.rule == "" {
			m.rule = "Host(`mcp.localhost`) && " + rig.PathRule("/"+m.name)
		}
		router := map[string]any{"rule": m.rule, "entryPoints": []string{"web", "websecure"}, "service": "mcp", "priority": 1000}
		if !m.bare {
			router["middlewares"] = append(append([]string{}, m.before...), cmp.Or(m.uses, "mcpb-"+m.name))
			middlewares["mcpb-"+m.name] = map[string]any{"plugin": map[string]any{cmp.Or(m.plugin, "mcpbouncer"): options(m)}}
		}
		routers[m.name] = router
	}
	token := w.Wiki.Client().Tokens(w.Wiki.Browser()).Member("access_token")
	https := rig.NewOAuthClient(t, w.HTTP(), w.Wiki.PublicHTTPS())
	overTLS := https.Tokens(w.Wiki.Browser()).Member("access_token")
	if token == "" || overTLS == "" {
		t.Fatal("no tokens")
	}
	w.Traefik.SetFile(t, "mistakes.yaml", map[string]any{"http": map[string]any{
		"routers": routers, "middlewares": middlewares,
		"services": map[string]any{"mcp": map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": w.Wiki.MCP.URL}}}}},
	}})
	client := w.HTTP()
	ask := func(m mistake) (*rig.Answer, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url, nil)
		if err != nil {
			return nil, err
		}
		req.Host = m.header.Get("Host")
		if m.token {
			req.Header.Set("Authorization", "Bearer "+overTLS)
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return &rig.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
	}
	rig.WaitFor(t, "Traefik to read the file", func() error {
		answer, err := ask(mistakes[0])
		if err == nil && answer.Status != 200 {
			err = errors.New(answer.String())
		}
		return err
	})
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			answer, err := ask(m)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status != m.status || !strings.Contains(answer.Body, m.body) {
				t.Errorf("want %d %q, got %s", m.status, m.body, answer)
			}
			if strings.Contains(answer.Body, "nginx") {
				t.Error("the stranger's page went out under the MCP server's name")
			}
			naming := `middleware \"mcpb-` + m.name + `@file\": `
			if m.traefik != "" {
				rig.WaitFor(t, "Traefik's log", func() error { return inOneLine(w.Logs.Text("traefik"), naming, m.traefik) })
			} else if err := inOneLine(w.Logs.Text("traefik"), naming, ""); err == nil {
				t.Errorf("Traefik's log has a line of this middleware: change the table, and the page")
			}
			if m.itself != "" {
				rig.WaitFor(t, "Traefik's log", func() error { return inOneLine(w.Logs.Text("traefik"), m.itself, m.name) })
			}
			if m.sidecar != "" {
				// Some lines wait for the provider, whom no request waits for.
				rig.WaitFor(t, "a sidecar's log", func() (err error) {
					for _, r := range w.Replicas {
						// A header that does not open names nobody; all other lines name the
						// issuer.
						name := host + "/" + m.name
						if m.sidecar == "hop header refused" {
							name = "key id"
						}
						if err = inOneLine(w.Logs.Text(r.Name), m.sidecar, name); err == nil {
							return nil
						}
					}
					return err
				})
			}
		})
	}
	for _, name := range []string{"traefik", "sidecar-a", "sidecar-b"} {
		for _, found := range w.Secrets.In(w.Logs.Text(name)) {
			t.Errorf("%s logged a %s", name, found)
		}
	}
}

// A replica of another master behind the same address refuses its share of the requests. The line
// that names both keys stands in its own log, where the operator of that replica looks.
func TestReplicaOfAnotherMasterIsNamedInItsOwnLog(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{})
	w.Replicas[1].Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": rig.Keygen(t, w.Secrets).Encryption})
	statuses := map[int]bool{}
	for range 10 {
		resp, err := w.HTTP().Get(w.Wiki.PublicHTTP() + "/.well-known/oauth-authorization-server")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		statuses[resp.StatusCode] = true
	}
	if !maps.Equal(statuses, map[int]bool{200: true, 503: true}) {
		t.Errorf("statuses: %v", statuses)
	}
	rig.WaitFor(t, "the replica's log", func() error {
		return inOneLine(w.Logs.Text(w.Replicas[1].Name), "hop header refused", "key id")
	})
	rig.WaitFor(t, "Traefik's log", func() error {
		return inOneLine(w.Logs.Text("traefik"), `middleware \"mcpb-wiki@docker\": `, "its master secret is not that of this hop key")
	})
	if err := inOneLine(w.Logs.Text(w.Replicas[0].Name), "hop header refused"); err == nil {
		t.Error("the replica with the right master refuses too")
	}
}

// inOneLine looks for a line of a log that holds all parts. Traefik writes what a plugin logs as a
// message of its own.
func inOneLine(log string, parts ...string) error {
	for line := range strings.Lines(log) {
		all := true
		for _, part := range parts {
			plain := strings.ReplaceAll(part, `\"`, `"`)
			all = all && (strings.Contains(line, part) || strings.Contains(line, plain) || strings.Contains(line, quoted(part)))
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no line holds %q", parts)
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return strings.Trim(string(b), `"`)
}
