package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// SDKs know nothing of RFC 9470. Each logs in, and calls a tool that then needs a sign-in of a
// kind: by a rule for every login, or by one for the tool's scope. oidc-provider signs people in by
// acr "phr" where it is asked to, and by nothing else that it could be asked for.
//
// The browser is opened once for what can be done. What cannot be done ends with an error, also
// after one login.
func TestSDKsStepUpTheSignIn(t *testing.T) {
	t.Parallel()
	plain := map[string]string{"requiredScopes": "wiki:read", "scopeRules": "*=wiki:read wiki:write", "toolScopes": "whoami=wiki:write; *=wiki:read"}
	easy := map[string]string{"requiredScopes": "wiki:read"}
	for _, c := range []struct {
		sdk, name, scope string
		labels           map[string]string
		first            int // how often the browser is opened until the first call works
	}{
		{"gosdk", "Go SDK", "*", easy, 0},
		{"client-v1.mjs", "TypeScript SDK 1", "*", easy, 0},
		{"client-v2.mjs", "TypeScript SDK 2", "*", easy, 0},
		{"gosdk", "Go SDK", "wiki:write", plain, 1},
		{"client-v2.mjs", "TypeScript SDK 2", "wiki:write", plain, 1},
	} {
		t.Run(c.name+", "+strings.ReplaceAll(c.scope, "*", "every login"), func(t *testing.T) {
			w := rig.New(t, rig.Options{OIDCProvider: true, Labels: c.labels, Stateless: []string{"world"}})
			tn := w.World
			argument, err := json.Marshal(way{Server: tn.PublicHTTP() + "/mcp", Redirect: callbackPath, AuthMethod: "none"})
			if err != nil {
				t.Fatal(err)
			}
			a := startApplication(t, w.Logs, c.sdk, sdkCommand(t, nil, c.sdk, string(argument)), personAt(tn))
			defer a.process.Kill()
			if answer := a.answer(); answer.Ready == nil {
				t.Fatalf("the login: %+v", answer)
			}
			need := func(acr string) {
				t.Helper()
				labels := map[string]string{"authenticationRules": c.scope + "=acr_values:" + acr}
				for name, value := range c.labels {
					labels[name] = value
				}
				w.Relabel(tn, rig.Options{OIDCProvider: true, Labels: labels, Stateless: []string{"world"}})
				rig.WaitFor(t, "the rule for "+acr, func() error {
					resp, err := w.HTTP().Get(tn.PublicHTTP() + "/.well-known/oauth-authorization-server")
					if err != nil {
						return err
					}
					defer resp.Body.Close()
					var document struct {
						Values []string `json:"acr_values_supported"`
					}
					if err := json.NewDecoder(resp.Body).Decode(&document); err != nil || fmt.Sprint(document.Values) != "["+acr+"]" {
						return fmt.Errorf("%v %v", document.Values, err)
					}
					return nil
				})
			}
			browsers := func(what string, want int, works bool) {
				t.Helper()
				before := len(a.opened)
				answer := a.tell("call")
				if len(a.opened)-before != want || (answer.Called != nil) != works {
					t.Errorf("%s: the browser was opened %d times, want %d; %+v", what, len(a.opened)-before, want, answer)
				}
			}
			browsers("without a rule", c.first, true)
			need("phr")
			browsers("a rule that can be met", 1, true)
			browsers("the same again", 0, true)
			need("never")
			browsers("a rule that cannot be met", 1, false)
			const cause = "and one of never is needed"
			if log := w.Logs.Text("sidecar-a") + w.Logs.Text("sidecar-b"); !strings.Contains(log, cause) {
				t.Errorf("no log of a sidecar says %q", cause)
			}
		})
	}
}
