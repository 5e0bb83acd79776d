package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// withToken is a program that was given its token, and sends it with each request.
type withToken struct {
	token string
	to    http.RoundTripper
}

func (b withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.to.RoundTrip(r)
}

// whoami calls a tool by the Go SDK, and returns what the MCP server learned of the caller.
func whoami(t *testing.T, w *rig.World, tn *rig.Tenant, token string) (who rig.Identity) {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "job", Version: "1"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: tn.PublicHTTP() + "/mcp", HTTPClient: &http.Client{Transport: withToken{token, w.HTTP().Transport}},
		DisableStandaloneSSE: true, MaxRetries: -1,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(result.StructuredContent)
	if err == nil {
		err = json.Unmarshal(b, &who)
	}
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// A job of GitHub Actions and a service account of Kubernetes bring the tokens that they have
// already, get in through real Traefik without a client, and call a tool by the Go SDK. The MCP
// server learns issuer and subject. Tokens have the shapes that the two give out, and are signed by
// an issuer of the test's own.
func TestWorkloadsComeInThroughTraefik(t *testing.T) {
	t.Parallel()
	ci := rig.StartEnterprise(t)
	options := optionsForEnterprise(ci)
	options.Labels = map[string]string{"requiredScopes": "docs:read"}
	options.Labels["wiki/workloadIssuers"] = ci.Issuer + " repository=acme/wiki environment=prod%20west => docs:read"
	options.Labels["world/workloadIssuers"] = ci.Issuer + " kubernetes.io.namespace=ci sub=system:serviceaccount:ci:* => docs:read"
	w := rig.New(t, options)
	github := map[string]any{
		"sub": "repo:acme/wiki:environment:prod west", "repository": "acme/wiki", "repository_owner": "acme", "environment": "prod west",
		"ref": "refs/heads/main", "job_workflow_ref": "acme/wiki/.github/workflows/deploy.yml@refs/heads/main", "jti": "example-id",
	}
	kubernetes := map[string]any{
		"sub":           "system:serviceaccount:ci:runner",
		"kubernetes.io": map[string]any{"namespace": "ci", "pod": map[string]any{"name": "runner-1", "uid": "u"}, "serviceaccount": map[string]any{"name": "runner", "uid": "u"}},
	}
	bring := func(tn *rig.Tenant, public string, claims, other map[string]any) *rig.Answer {
		t.Helper()
		whole := map[string]any{"iss": ci.Issuer, "aud": public, "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()}
		maps.Copy(whole, claims)
		maps.Copy(whole, other)
		token, err := ci.Sign(t.Context(), "JWT", whole)
		if err != nil {
			t.Fatal(err)
		}
		w.Secrets.Add("workload's token", token)
		return tn.Client().Token(bearerForm(token))
	}
	for _, c := range []struct {
		tn     *rig.Tenant
		claims map[string]any
		sub    string
	}{
		// The blank has the whole of it encoded, as in every header of an identity.
		{w.Wiki, github, strings.ReplaceAll(ci.Issuer, "/", "%2F") + "%7Crepo:acme%2Fwiki:environment:prod%20west"},
		{w.World, kubernetes, ci.Issuer + "|system:serviceaccount:ci:runner"},
	} {
		answer := bring(c.tn, c.tn.PublicHTTP(), c.claims, nil)
		if answer.Status != http.StatusOK || answer.Member("scope") != "docs:read" || answer.Member("refresh_token") != "" {
			t.Fatalf("%s: %s", c.tn.Name, answer)
		}
		if who := whoami(t, w, c.tn, answer.Member("access_token")); who.Sub != c.sub || who.Scopes != "docs:read" || who.Authorization {
			t.Errorf("%s: the MCP server saw %+v, not %q", c.tn.Name, who, c.sub)
		}
	}
	for _, c := range []struct {
		what        string
		other       map[string]any
		error, says string
	}{
		{"another repository", map[string]any{"repository": "evil/wiki"}, "access_denied", "no rule fits"},
		{"a repository that begins so", map[string]any{"repository": "acme/wiki-fork"}, "access_denied", "no rule fits"},
		{"no environment", map[string]any{"environment": nil}, "access_denied", "no rule fits"},
		{"for the other server", map[string]any{"aud": w.World.PublicHTTP()}, "invalid_grant", "aud is not this server alone"},
	} {
		answer := bring(w.Wiki, w.Wiki.PublicHTTP(), github, c.other)
		if answer.Status != http.StatusBadRequest || answer.Member("error") != c.error || strings.Contains(answer.Body, c.says) {
			t.Errorf("%s: %s", c.what, answer)
		}
		if log := w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b"); !strings.Contains(log, c.says) {
			t.Errorf("%s: no log says %q", c.what, c.says)
		}
	}
	if answer := bring(w.World, w.World.PublicHTTP(), github, nil); answer.Member("error") != "access_denied" {
		t.Errorf("the job of GitHub at the other server: %s", answer)
	}
	for _, found := range w.Secrets.In(w.Logs.Text("traefik") + w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b")) {
		t.Errorf("a log holds a %s", found)
	}
}
