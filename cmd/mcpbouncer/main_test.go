package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// TestMain makes the test binary the program when a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("MCPBOUNCER_IS_THE_PROGRAM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is a run of mcpbouncer with nothing but these variables.
func program(variables map[string]string, args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = []string{"MCPBOUNCER_IS_THE_PROGRAM=1"}
	for name, v := range variables {
		c.Env = append(c.Env, name+"="+v)
	}
	return c
}

func TestCommands(t *testing.T) {
	key := map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne}
	ring, err := sealing.ParseRing(keyOne)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		variables map[string]string
		args      string
		in        string
		out, err  string // exactly; err is a beginning
		status    int
	}{
		{"help", nil, "help", "", usage, "", 0},
		{"--help", nil, "--help", "", usage, "", 0},
		{"an unknown command", nil, "destroy", "", "", "mcpbouncer: unknown command \"destroy\"\nusage: mcpbouncer [command]", 1},
		{"the hop key of a master", key, "hop-key", "", "BOUNCER_HOP_KEY=" + ring.HopKey() + "\n", "", 0},
		{"the hop key of none", nil, "hop-key", "", "", "mcpbouncer: BOUNCER_ENCRYPTION_KEY is not set: make one with `mcpbouncer keygen`\n", 1},
		{"serve without a key", nil, "", "", "", "mcpbouncer: BOUNCER_ENCRYPTION_KEY is not set: make one with `mcpbouncer keygen`\n", 1},
		{"serve at no address", map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "here"}, "serve", "", "", "mcpbouncer: BOUNCER_LISTEN_ADDR=\"here\": listen tcp: address here: missing port in address; give a free address such as :8080\n", 1},
		{"a secret without a label", key, "seal-secret", "s", "", "mcpbouncer: seal-secret: --issuer and --client-id must be those of the labels\n", 1},
		{"a secret without a client", key, "seal-secret --issuer https://idp.example", "s", "", "mcpbouncer: seal-secret: --issuer and --client-id must be those of the labels\n", 1},
		{"no secret", key, "seal-secret --issuer https://idp.example --client-id c", " \n", "", "mcpbouncer: seal-secret: no secret on standard input\n", 1},
		{"a secret without a master", nil, "seal-secret --issuer https://idp.example --client-id c", "s", "", "mcpbouncer: BOUNCER_ENCRYPTION_KEY is not set", 1},
		{"a secret that is too long", key, "seal-secret --issuer https://idp.example --client-id c", strings.Repeat("s", 4097), "", "mcpbouncer: seal-secret: the secret is longer than 4096 bytes\n", 1},
		{"the health of nobody", map[string]string{"BOUNCER_LISTEN_ADDR": "127.0.0.1:1"}, "healthcheck", "", "", "mcpbouncer: healthcheck: no sidecar answers on BOUNCER_LISTEN_ADDR=\"127.0.0.1:1\": Get \"http://127.0.0.1:1/healthz\": dial tcp 127.0.0.1:1: connect: connection refused; run it where the sidecar runs, with its variables\n", 1},
		{"the health of no address", map[string]string{"BOUNCER_LISTEN_ADDR": "here"}, "healthcheck", "", "", "mcpbouncer: BOUNCER_LISTEN_ADDR=\"here\": address here: missing port in address; give the address that serve listens on, such as :8080\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := program(c.variables, strings.Fields(c.args)...)
			var out, errs bytes.Buffer
			p.Stdin, p.Stdout, p.Stderr = strings.NewReader(c.in), &out, &errs
			err := p.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if p.ProcessState.ExitCode() != c.status || out.String() != c.out || !strings.HasPrefix(errs.String(), c.err) || c.err == "" && errs.Len() > 0 {
				t.Errorf("status %d\nout %q\nerr %q", p.ProcessState.ExitCode(), out.String(), errs.String())
			}
		})
	}
}

func TestVersion(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"version"}, nil, &out); err != nil || strings.TrimSpace(out.String()) == "" {
		t.Errorf("%q, %v", out.String(), err)
	}
	defer func(was string) { release = was }(release)
	release = "v1.2.3"
	if out.Reset(); run([]string{"version"}, nil, &out) != nil || out.String() != "v1.2.3\n" {
		t.Errorf("%q", out.String())
	}
}

func TestKeygen(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		var out strings.Builder
		if err := run([]string{"keygen"}, nil, &out); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		if len(lines) != 3 || lines[2] != "" {
			t.Fatalf("%q", out.String())
		}
		key, okKey := strings.CutPrefix(lines[0], "BOUNCER_ENCRYPTION_KEY=")
		hop, okHop := strings.CutPrefix(lines[1], "BOUNCER_HOP_KEY=")
		ring, err := sealing.ParseRing(key)
		if err != nil || !okKey || !okHop || ring.HopKey() != hop || seen[key] {
			t.Errorf("%q: %v", out.String(), err)
		}
		seen[key] = true
	}
}

func TestSealSecret(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyTwo + "," + keyOne})
	ring, err := sealing.ParseRing(keyTwo)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, in, want string }{
		{"a secret", "s3cret", "s3cret"}, {"with a line break, as echo ends it", "s3cret\n", "s3cret"}, {"with a blank inside", "a b", "a b"}, {"of 4,096 bytes", strings.Repeat("s", 4096), strings.Repeat("s", 4096)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if err := run([]string{"seal-secret", "--issuer", "https://idp.example", "--client-id", "c"}, strings.NewReader(c.in), &out); err != nil {
				t.Fatal(err)
			}
			value := strings.TrimSuffix(out.String(), "\n")
			got, err := provider.OpenSecret(ring, "https://idp.example", "c", value, time.Now())
			if err != nil || got != c.want || strings.Contains(value, c.want) {
				t.Errorf("%q became %q: %v", c.in, got, err)
			}
			if _, err := provider.OpenSecret(ring, "https://evil.example", "c", value, time.Now()); err != sealing.ErrNotOpened {
				t.Errorf("it opened for another provider: %v", err)
			}
		})
	}
}

// A container is healthy when the sidecar answers, not when something does.
func TestHealthOfSomethingElse(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		mark   string
		want   string // empty: healthy
	}{
		{"the sidecar", 200, "1", ""},
		{"another program", 200, "", "is not the sidecar (200 OK)"},
		{"another program that has no such page", 404, "", "is not the sidecar (404 Not Found)"},
		{"a sidecar that does not serve", 503, "1", "the sidecar answered 503 Service Unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.mark != "" {
					w.Header().Set("X-Mcpb-Sidecar", c.mark)
				}
				w.WriteHeader(c.status)
			}))
			defer server.Close()
			out, err := program(map[string]string{"BOUNCER_LISTEN_ADDR": strings.TrimPrefix(server.URL, "http://")}, "healthcheck").CombinedOutput()
			if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// The command asks the address itself. It does not use the proxy by which the sidecar reaches the
// provider, and does not follow redirects.
func TestHealthIsThatOfTheAddress(t *testing.T) {
	healthy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Mcpb-Sidecar", "1")
	}))
	defer healthy.Close()
	redirect := httptest.NewServer(http.RedirectHandler(healthy.URL, http.StatusFound))
	defer redirect.Close()
	for _, c := range []struct {
		name      string
		variables map[string]string
		want      string
	}{
		{"a proxy answers for it", map[string]string{"BOUNCER_LISTEN_ADDR": "sidecar.invalid:8080", "HTTP_PROXY": healthy.URL}, "sidecar.invalid"},
		{"it leads elsewhere", map[string]string{"BOUNCER_LISTEN_ADDR": strings.TrimPrefix(redirect.URL, "http://")}, "is not the sidecar (302 Found)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := program(c.variables, "healthcheck").CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// healthPrinted is the whole health, as healthcheck prints it.
var healthPrinted = regexp.MustCompile(`^status    ok
version   \S+
masters   \S+
next key  \S+Z \(in \d+\.\d days; epoch \d+ signs now\)
since this process began:
(  [a-z_]+ +0
)+$`)

// The ballast makes the garbage collector wait, and gives way to GOGC.
func TestBallastMakesTheCollectorWait(t *testing.T) {
	t.Setenv("GOGC", "")
	next := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.NextGC
	}
	before := next()
	const blocks = 8
	var kept [blocks][]byte
	for i := range kept {
		kept[i] = newBallast()
	}
	if after := next(); after < before+blocks*ballastSize {
		t.Errorf("the next collection is at %d bytes and was at %d, want at least %d more", after, before, blocks*ballastSize)
	}
	runtime.KeepAlive(&kept)
	t.Setenv("GOGC", "100")
	if newBallast() != nil {
		t.Error("GOGC is overruled")
	}
}

// The test runs a sidecar from its first line to SIGTERM, while a request is under way.
func TestServe(t *testing.T) {
	ring, err := sealing.ParseRing(keyOne)
	if err != nil {
		t.Fatal(err)
	}
	provider := issuertest.NewProvider(t, nil)
	for _, stop := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(stop.String(), func(t *testing.T) {
			p := program(map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "127.0.0.1:0", "BOUNCER_DB_PATH": "/data/bouncer.db", "BOUNCER_LOG_LEVEL": "debug"})
			out, err := p.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			p.Stderr = &errs
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Process.Kill() })
			lines := bufio.NewReader(out)
			var log strings.Builder
			next := func(message string) map[string]any {
				t.Helper()
				line, err := lines.ReadString('\n')
				log.WriteString(line)
				var entry map[string]any
				if err != nil || json.Unmarshal([]byte(line), &entry) != nil || entry["msg"] != message {
					t.Fatalf("%q (%v), want %q; %s", line, err, message, errs.String())
				}
				return entry
			}
			next("BOUNCER_DB_PATH is set and ignored: no database is kept")
			addr := next("serving")["addr"].(string)

			for _, spelling := range []string{addr, strings.Replace(addr, "127.0.0.1", "", 1), strings.Replace(addr, "127.0.0.1", "0.0.0.0", 1)} {
				if out, err := program(map[string]string{"BOUNCER_LISTEN_ADDR": spelling}, "healthcheck").CombinedOutput(); err != nil || !healthPrinted.Match(out) {
					t.Errorf("healthcheck of %s: %v %s", spelling, err, out)
				}
				var sent struct {
					Status string
					Key    struct{ Next time.Time } `json:"signing_key"`
				}
				if out, err := program(map[string]string{"BOUNCER_LISTEN_ADDR": spelling}, "healthcheck", "--json").CombinedOutput(); err != nil || json.Unmarshal(out, &sent) != nil || sent.Status != "ok" || sent.Key.Next.IsZero() {
					t.Errorf("healthcheck --json of %s: %v %s", spelling, err, out)
				}
			}
			resp, err := http.Get("http://" + addr + "/oauth/token")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 403 {
				t.Errorf("status %d without a hop header", resp.StatusCode)
			}
			next("hop header refused")

			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// The 100 says that the endpoint has begun to read the body: the request is running.
			hop := issuertest.SealHop(ring.HopKey(), time.Now(), issuertest.Tenant{
				PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "wiki", ProviderIssuer: provider.Issuer, ClientID: "c",
				Scopes: []string{}, RequiredScopes: []string{}, MCPPaths: []string{}, Exchange: "token",
			}.JSON())
			const body = `{"redirect_uris":["https://app.example/cb"]}`
			fmt.Fprintf(conn, "POST /oauth/register HTTP/1.1\r\nHost: sidecar\r\nX-Mcpb-Hop: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", hop, len(body))
			answer := bufio.NewReader(conn)
			if line, err := answer.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
				t.Fatalf("%q, %v", line, err)
			}
			if asked := next("provider asked"); asked["path"] != "/.well-known/openid-configuration" || asked["answered"] != true {
				t.Errorf("%v", asked)
			}
			if who := next("who may come in"); who["its discovery document"] != "read" || who["redirect URI to register at the provider"] != "https://mcp.localhost/wiki/oauth/callback" {
				t.Errorf("%v", who)
			}
			p.Process.Signal(stop)
			next("stopping: running requests may finish")
			io.WriteString(conn, body)
			all, err := io.ReadAll(answer)
			if err != nil || !bytes.Contains(all, []byte("HTTP/1.1 201 Created")) {
				t.Errorf("the running request got %q, %v", all, err)
			}
			rest, _ := io.ReadAll(lines)
			if err := p.Wait(); err != nil || errs.Len() > 0 {
				t.Errorf("it ended with %v: %s", err, errs.String())
			}
			if text := log.String() + string(rest); strings.Contains(text, keyOne) {
				t.Error("the master secret is in the log")
			}
			if _, err := net.Dial("tcp", addr); err == nil {
				t.Error("it still listens")
			}
		})
	}
}

func TestServeOnAnAddressThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": l.Addr().String()})
	err = run(nil, nil, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "BOUNCER_LISTEN_ADDR=") || !strings.Contains(err.Error(), "address already in use; give a free address such as :8080") {
		t.Errorf("error %v", err)
	}
}

// Help is printed where it was asked for, and nothing else is done: no key is made, no server
// started.
func TestHelpOfEachCommand(t *testing.T) {
	clean(t, nil)
	for _, command := range []string{"serve", "keygen", "hop-key", "healthcheck", "version", "seal-secret", "client create", "key create", "inspect", "deny", "who",
		"doctor", "doctor --provider", "lint", "logins"} {
		for _, flag := range []string{"--help", "-h"} {
			var out strings.Builder
			err := run(append(strings.Fields(command), flag), strings.NewReader(""), &out)
			if err != nil || !strings.HasPrefix(out.String(), "usage: mcpbouncer ") || strings.Contains(out.String(), "BOUNCER_HOP_KEY=") {
				t.Errorf("%s %s: %v, %s", command, flag, err, out.String())
			}
			for line := range strings.Lines(out.String()) {
				if width := utf8.RuneCountInString(strings.ReplaceAll(line, "    \t", "        ")); width > 120 {
					t.Errorf("%s %s: %d columns, more than a terminal has: %s", command, flag, width, line)
				}
			}
		}
	}
}
