package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// stack is deploy/compose in a folder of its own, as an operator has it, on the rig's parts:
// replicas of the sidecar, Traefik, MCP servers and providers. Commands run in the folder, with
// this repository's mcpbouncer; docker is this test program (TestMain), which hands what docker
// compose is asked to the stack.
type stack struct {
	t       *testing.T
	w       *rig.World
	dir     string
	bin     string // folder of the commands docker and mcpbouncer
	engine  *httptest.Server
	applied map[string]string // :: service → its part of the project when it was last started
	copying sync.Mutex        // guards the copies of ./deny: two commands of a pipe run at once
}

func newStack(t *testing.T) *stack {
	s := &stack{t: t, dir: t.TempDir(), bin: t.TempDir(), applied: map[string]string{}}
	compose, err := os.ReadFile(filepath.Join(rig.Root(), "deploy", "compose", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("compose.yaml", string(compose))
	s.engine = httptest.NewServer(s)
	t.Cleanup(s.engine.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"docker": self, "mcpbouncer": rig.Tool(t, "mcpbouncer")} {
		if err := os.Symlink(program, filepath.Join(s.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.w = rig.New(t, rig.Options{
		// the folder that compose.yaml mounts
		Static: composeStatic(t), Image: map[string][]byte{"deny/README": nil},
		Containers: func(w *rig.World) []rig.Container {
			google, zitadel := w.Wiki.Provider, w.World.Provider
			s.write(".env", fmt.Sprintf("BOUNCER_ENCRYPTION_KEY=%s\nBOUNCER_HOP_KEY=%s\n"+
				"WIKI_ISSUER=%s\nGOOGLE_CLIENT_ID=%s\nGOOGLE_CLIENT_SECRET=%s\nWIKI_EMAILS=%s\nWORLD_ISSUER=%s\nZITADEL_CLIENT_ID=%s\nZITADEL_CLIENT_SECRET=%s\n"+
				"WIKI_IMAGE=wiki\nWORLD_IMAGE=world\n",
				w.Keys.Encryption, w.Keys.Hop, google.Issuer, google.ClientID, google.ClientSecret, "admin@example.com second@example.com", zitadel.Issuer, zitadel.ClientID, zitadel.ClientSecret))
			s.w = w
			return composeContainers(t, w, s.project())
		},
	})
	for name := range s.project().Services {
		s.applied[name] = s.part(name)
	}
	return s
}

func (s *stack) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// variables returns those of .env.
func (s *stack) variables() map[string]string {
	s.t.Helper()
	env, err := dotenv.Read(filepath.Join(s.dir, ".env"))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range env {
		if strings.Contains(name, "KEY") || strings.Contains(name, "SECRET") {
			s.w.Secrets.Add(name, value)
		}
	}
	return env
}

func (s *stack) project() *types.Project {
	s.t.Helper()
	return loadComposeIn(s.t, s.dir, s.variables())
}

// part returns the part of the project from which a container is made. If it changes, compose makes
// the container anew.
func (s *stack) part(service string) string {
	part, err := json.Marshal(s.project().Services[service])
	if err != nil {
		s.t.Fatal(err)
	}
	return string(part)
}

// run runs a page's commands and returns what they printed. They stop at the first that fails.
func (s *stack) run(script string, variables map[string]string) (string, error) {
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + s.bin + ":/usr/bin:/bin", "RIG_DOCKER=" + s.engine.URL}
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	s.mount()
	return string(out), err
}

// mount does what the mount of ./deny does for a container: files in the folder are there.
func (s *stack) mount() {
	s.copying.Lock()
	defer s.copying.Unlock()
	files, err := filepath.Glob(filepath.Join(s.dir, "deny", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, r := range s.w.Replicas {
			r.PutFile("deny/"+filepath.Base(file), content)
		}
	}
}

// TestMain lets this program stand for docker in the commands of a page.
func TestMain(m *testing.M) {
	if engine := os.Getenv("RIG_DOCKER"); engine != "" && filepath.Base(os.Args[0]) == "docker" {
		os.Exit(askEngine(engine, os.Args[1:]))
	}
	os.Exit(m.Run())
}

func askEngine(engine string, args []string) int {
	asked, _ := json.Marshal(args)
	var body io.Reader = bytes.NewReader(append(asked, '\n'))
	if slices.Contains(args, "exec") {
		body = io.MultiReader(body, os.Stdin)
	}
	resp, err := http.Post(engine, "application/json", body)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docker:", err)
		return 1
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

// ServeHTTP does what docker compose does, as far as the pages use it.
func (s *stack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var args []string
	input := bufio.NewReader(r.Body)
	asked, _ := input.ReadBytes('\n')
	if err := json.Unmarshal(asked, &args); err != nil || len(args) < 2 || args[0] != "compose" {
		http.Error(w, fmt.Sprintf("not part of this engine: docker %q", args), http.StatusBadRequest)
		return
	}
	var flags, words []string
	for i := 1; i < len(args); i++ {
		switch {
		case len(words) > 1 && words[0] == "exec": // all behind the service is the command
			words = append(words, args[i])
		case args[i] == "-p": // the project's name
			i++
		case strings.HasPrefix(args[i], "-"):
			flags = append(flags, args[i])
		default:
			words = append(words, args[i])
		}
	}
	command, services := words[0], words[1:]
	if len(services) == 0 {
		services = slices.Sorted(maps.Keys(s.project().Services))
	}
	s.mount()
	switch command {
	case "up":
		for _, name := range services {
			if s.applied[name] != s.part(name) || slices.Contains(flags, "--force-recreate") {
				s.restart(name)
			}
		}
	case "restart": // without looking at what has changed
		for _, name := range services {
			if name == "bouncer" || name == "traefik" {
				s.restart(name)
			}
		}
	case "logs":
		s.logs(w, services, !slices.Contains(flags, "--no-log-prefix"))
	case "exec":
		if len(services) < 2 || services[0] != "bouncer" || services[1] != "/mcpbouncer" || !slices.Contains(flags, "-T") {
			http.Error(w, fmt.Sprintf("not part of this engine: exec %q %q", flags, services), http.StatusBadRequest)
			return
		}
		var out bytes.Buffer
		err := s.w.Replicas[0].Exec(input, &out, services[2:]...)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write(out.Bytes())
	default:
		http.Error(w, "not part of this engine: docker compose "+command, http.StatusBadRequest)
	}
}

// logs writes what the containers of services have logged, as docker compose logs does.
func (s *stack) logs(w io.Writer, services []string, prefixed bool) {
	for _, service := range services {
		names := []string{service}
		if service == "bouncer" {
			names = nil
			for _, r := range s.w.Replicas {
				names = append(names, r.Name)
			}
		}
		for i, name := range names {
			for line := range strings.Lines(s.w.Logs.Text(name)) {
				if prefixed {
					line = fmt.Sprintf("%s-%d  | %s", service, i+1, line)
				}
				_, _ = io.WriteString(w, line)
			}
		}
	}
}

// restart makes a service's container anew.
func (s *stack) restart(name string) {
	project := s.project()
	env := map[string]string{}
	for variable, value := range project.Services[name].Environment {
		if value != nil {
			env[variable] = *value
		}
	}
	switch name {
	case "bouncer":
		// In the image's folder, whatever that is outside.
		env["BOUNCER_DENY"] = strings.TrimPrefix(env["BOUNCER_DENY"], "/")
		for _, r := range s.w.Replicas {
			r.Restart(env)
		}
	case "traefik":
		s.w.Traefik.Restart(s.t, env["BOUNCER_HOP_KEY"])
		for _, tn := range s.w.Tenants() {
			rig.WaitFor(s.t, "Traefik to know "+tn.Name, func() error {
				resp, err := s.w.HTTP().Get(tn.PublicHTTPS() + "/anything")
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusUnauthorized {
					return fmt.Errorf("%s", resp.Status)
				}
				return nil
			})
		}
	default:
		for _, c := range composeContainers(s.t, s.w, project) {
			if c.Name == name {
				s.w.Docker.Run(c)
			}
		}
	}
	s.applied[name] = s.part(name)
}
