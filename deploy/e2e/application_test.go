package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// application is a program on an MCP SDK that does what it is told: sdks/app and node/app.mjs say
// how.
type application struct {
	t       *testing.T
	logs    *rig.Logs
	process *rig.Process
	stdin   io.Writer
	read    int // of what it wrote
	// person opens URLs.
	person func(ctx context.Context, authorizationURL string) error

	opened []*url.URL
}

// sdkCommand starts an application on an SDK: a program of tools.sh, or a script of node with
// further arguments.
func sdkCommand(t *testing.T, env []string, program, argument string, args ...string) *exec.Cmd {
	t.Helper()
	if strings.HasSuffix(program, ".mjs") {
		return rig.NodeCommand(t, env, program, append([]string{argument}, args...)...)
	}
	cmd := exec.Command(rig.Tool(t, program), append([]string{argument}, args...)...)
	cmd.Env = env
	return cmd
}

func startApplication(t *testing.T, logs *rig.Logs, name string, cmd *exec.Cmd, person func(context.Context, string) error) *application {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &application{t: t, logs: logs, stdin: stdin, process: rig.StartProcess(t, logs, name, cmd), person: person}
}

// said is a line of an application's.
type said struct {
	Open   string
	Ready  *loginResult
	Called *struct{ Sub string }
	Failed string
	Done   string
	Tokens *keptTokens
}

// keptTokens are what an application keeps, as the token endpoint has answered.
type keptTokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Type    string `json:"token_type"`
}

// answer waits for the application's next line that is not a URL to open. It opens the URLs. An
// application that has ended says so by Failed.
func (a *application) answer() said {
	a.t.Helper()
	for {
		var line said
		rig.WaitWithin(a.t, time.Minute, a.process.Name+" to answer", func() error {
			ended := a.process.Exited()
			for {
				rest := a.logs.Text(a.process.Name)[a.read:]
				text, _, whole := strings.Cut(rest, "\n")
				if !whole {
					break
				}
				a.read += len(text) + 1
				line = said{}
				if strings.HasPrefix(text, `{"`) && json.Unmarshal([]byte(text), &line) == nil && line != (said{}) {
					return nil
				}
			}
			if ended {
				line = said{Failed: "it ended: " + a.logs.Tail(a.process.Name, 5)}
				return nil
			}
			return errors.New("nothing yet")
		})
		if line.Open == "" {
			return line
		}
		asked, err := url.Parse(line.Open)
		if err != nil {
			a.t.Fatal(err)
		}
		a.opened = append(a.opened, asked)
		if err := a.person(a.t.Context(), line.Open); err != nil {
			a.t.Logf("%s: the login: %v", a.process.Name, err)
			return said{Failed: "the login: " + err.Error()}
		}
	}
}

// tell gives a command and waits for its answer.
func (a *application) tell(command string) said {
	a.t.Helper()
	if _, err := fmt.Fprintln(a.stdin, command); err != nil {
		return said{Failed: err.Error()}
	}
	return a.answer()
}

// call calls the tool whoami, which must work.
func (a *application) call() (sub string) {
	a.t.Helper()
	answer := a.tell("call")
	if answer.Called == nil || answer.Called.Sub == "" {
		a.t.Fatalf("%s: whoami: %+v\n%s", a.process.Name, answer, a.logs.Tail(a.process.Name, 20))
	}
	return answer.Called.Sub
}

// logins says how the logins since the first one came to their client_id: empty where there were
// none.
func (a *application) logins(since int) string {
	switch {
	case len(a.opened) == since:
		return ""
	case a.opened[since].Query().Get("client_id") != a.opened[0].Query().Get("client_id"):
		return "registers and logs in anew"
	}
	return "logs in anew"
}

// personAt plays the person in front of an application at a tenant.
func personAt(tn *rig.Tenant) func(context.Context, string) error {
	return func(ctx context.Context, start string) error {
		asked, err := url.Parse(start)
		if err != nil {
			return err
		}
		browser := tn.Browser()
		back, err := browser.Visit(ctx, start, asked.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		_, err = browser.Load(ctx, back.String())
		return err
	}
}

// useSDK logs in with an application on an SDK, calls a tool, has the access token refused, which
// the SDK believes to be good, calls again, lets the token's time be over, and calls again.
func useSDK(program string, args ...string) func(*testing.T, *rig.Tenant, *rig.World, way) loginResult {
	return func(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
		t.Helper()
		a := loginBySDK(t, tn, w, nil, way, program, args...)
		got := *a.ready
		got.ask(a.opened[0].Query())
		got.Sub = a.call()
		refreshes := func() (n int) {
			for _, r := range tn.TokenRequests() {
				if r.Form.Get("grant_type") == "refresh_token" && r.Status/100 == 2 {
					n++
				}
			}
			return n
		}
		what := func(change string) string {
			t.Helper()
			opened, refreshed := len(a.opened), refreshes()
			if done := a.tell(change); done.Done == "" {
				t.Fatalf("%s: %s: %+v", a.process.Name, change, done)
			}
			answer := a.tell("call")
			logins := a.logins(opened)
			switch {
			case answer.Called == nil:
				return "fails, `" + lastPart(answer.Failed) + "`"
			case answer.Called.Sub != got.Sub:
				t.Errorf("%s, then %q called instead of %q", change, answer.Called.Sub, got.Sub)
			case logins != "":
				return logins
			case refreshes() == refreshed:
				return "goes on"
			}
			return "refreshes"
		}
		got.Aged = what("age")
		got.Refused = what("refuse")
		// A login in the middle of a session is not the first one.
		if again := what("age"); again != got.Aged {
			got.Refused += "; from then on, when the time is over: " + again
		}
		return got
	}
}

// lastPart returns the cause of an error that many have wrapped.
func lastPart(failed string) string {
	parts := strings.Split(failed, ": ")
	return parts[len(parts)-1]
}

// useMCPGo is useSDK with mcp-go. Its newest speaks 2026-07-28 wherever the server answers
// server/discover, and the Go SDK's server with sessions answers that and then refuses the
// revision.
func useMCPGo(t *testing.T, tn *rig.Tenant, w *rig.World, way way) loginResult {
	t.Helper()
	if tn == w.Wiki {
		way.Revision = "2025-11-25"
	}
	return useSDK("mcpgo")(t, tn, w, way)
}

// loggedIn is an application that has logged in.
type loggedIn struct {
	*application
	ready *loginResult
}

// loginBySDK starts an application and lets the tenant's user log in.
func loginBySDK(t *testing.T, tn *rig.Tenant, w *rig.World, env []string, way way, program string, args ...string) loggedIn {
	t.Helper()
	argument, err := json.Marshal(way)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Join(append([]string{program, tn.Name, way.name}, args...), " ")
	a := startApplication(t, w.Logs, name, sdkCommand(t, env, program, string(argument), args...), personAt(tn))
	ready := a.answer()
	if ready.Ready == nil || (len(a.opened) == 0) != (way.Grant != "") {
		t.Fatalf("%s: %+v\n%s", name, ready, w.Logs.Tail(name, 30))
	}
	return loggedIn{a, ready.Ready}
}
