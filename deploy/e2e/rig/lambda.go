package rig

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	"syscall"
	"time"
)

// Lambda is AWS Lambda with one function: the bootstrap of the real zip, in environments of its
// own, over the real Runtime API. It is unkind where AWS may be: no two requests in a row meet the
// same environment, every other one meets a new one, and between two requests an environment is
// frozen.
//
// It does what AWS does to requests and answers on their way: see events.go. It does not meter,
// sign in or scale.
type Lambda struct {
	Addr string

	t      T
	logs   *Logs
	dir    string
	env    []string
	verify func(*http.Request, []byte) error // AuthType AWS_IAM; nil: AuthType NONE

	mu         sync.Mutex
	launch     string // the program of cmd/launcher; empty: none
	shape      Shape
	twice      func(*http.Request) bool
	settle     bool
	all        []*Environment
	warm       []*Environment // frozen, longest unused first
	generation int            // of environments that may get another event: see retire
	last       *Environment
	served     int
}

// maxWarm is how many frozen environments are kept. Lambda ends them when it likes.
const maxWarm = 3

// StartLambda deploys the zip with these variables; more are files beside the program.
func StartLambda(t T, logs *Logs, env map[string]string, more map[string][]byte) *Lambda {
	t.Helper()
	l := &Lambda{t: t, logs: logs, dir: t.TempDir(), shape: FunctionURL}
	unzip(t, LambdaZip(t), l.dir)
	for name, content := range more {
		file := filepath.Join(l.dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o444)); err != nil {
			t.Fatalf("rig: lambda: %v", err)
		}
	}
	// What a function of the runtime provided.al2023 finds in its environment.
	env = maps.Clone(env)
	maps.Copy(env, map[string]string{
		"_HANDLER": "bootstrap", "LAMBDA_TASK_ROOT": l.dir, "AWS_LAMBDA_FUNCTION_NAME": "mcpbouncer", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1",
		"AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023", "AWS_ACCESS_KEY_ID": "ASIAFUNCTION", "AWS_SECRET_ACCESS_KEY": "of-the-function", "AWS_SESSION_TOKEN": sessionToken,
		"TZ": ":UTC", "LANG": "en_US.UTF-8", "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
	})
	if env["BOUNCER_LOG_LEVEL"] == "" {
		env["BOUNCER_LOG_LEVEL"] = "debug"
	}
	for name, value := range env {
		l.env = append(l.env, name+"="+value)
	}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.Addr = strings.TrimPrefix(server.URL, "http://")
	return l
}

// sessionToken is that of the function's role; the extension asks for it.
const sessionToken = "session-token-of-the-function"

// LambdaZip names the zip that tools.sh has built for this machine.
func LambdaZip(t T) string {
	t.Helper()
	return Tool(t, "lambda.zip")
}

// Bootstrap unpacks the zip and names its program.
func Bootstrap(t T) string {
	t.Helper()
	dir := t.TempDir()
	unzip(t, LambdaZip(t), dir)
	return filepath.Join(dir, "bootstrap")
}

// unzip keeps the modes: without its x a bootstrap does not start.
func unzip(t T, file, dir string) {
	t.Helper()
	archive, err := zip.OpenReader(file)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	defer archive.Close()
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatalf("rig: %s: %v", file, err)
		}
		content, err := io.ReadAll(r)
		if err == nil {
			err = writeProgram(filepath.Join(dir, filepath.Base(f.Name)), content, f.Mode())
		}
		if err != nil {
			t.Fatalf("rig: %s: %v", file, err)
		}
	}
}

// writeProgram lets no process be started meanwhile: it would hold a copy of the file that is being
// written, and the program could not be run ("text file busy").
func writeProgram(name string, content []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, content, mode)
}

// Replace puts another program in the place of the zip's. It is written as the zip's was: what a
// linker wrote lies in the page cache in smaller pieces, and starts later.
func (l *Lambda) Replace(t T, program string) {
	t.Helper()
	bootstrap := filepath.Join(l.dir, "bootstrap")
	content, err := os.ReadFile(program)
	if err == nil {
		err = errors.Join(os.Remove(bootstrap), writeProgram(bootstrap, content, 0o755))
	}
	if err != nil {
		t.Fatalf("rig: lambda: %v", err)
	}
}

// Launch has environments started by the program of cmd/launcher, so that Init and Usage begin with
// the exec and hold nothing of the rig.
func (l *Lambda) Launch(program string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.launch = program
}

// Deliver changes how requests come from now on.
func (l *Lambda) Deliver(shape Shape) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shape = shape
	l.retire() // their BOUNCER_LAMBDA_INVOKE_MODE may be another
}

// Twice chooses requests that are delivered to two environments, one after the other. The first
// answer is lost.
func (l *Lambda) Twice(choose func(*http.Request) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.twice = choose
}

// Settle ends the unkindness of the turns: from now on there is one environment as long as it
// suffices.
func (l *Lambda) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle = true
	l.retire()
}

// retire gives no event to the environments of today, nor to those of them that are busy just now.
// It needs l locked.
func (l *Lambda) retire() {
	l.warm = nil
	l.generation++
}

// Requests counts what was served.
func (l *Lambda) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served
}

// Environments returns all environments that were ever started.
func (l *Lambda) Environments() []*Environment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *Lambda) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	shape, verify := l.shape, l.verify
	twice := l.twice != nil && l.twice(r)
	l.mu.Unlock()
	if verify != nil {
		if err := verify(r, body); err != nil {
			w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"Message":%q}`, err.Error())
			return
		}
	}
	event, err := shape.event(r, body)
	if err != nil {
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	answer := l.Invoke(event)
	if twice {
		answer = l.Invoke(event)
	}
	if err := shape.answer(w, answer); err != nil {
		l.logs.writer("lambda").Write(fmt.Appendf(nil, "rig: %s: %v\n", shape.Name, err))
		w.WriteHeader(http.StatusBadGateway)
	}
}

// Invoke gives an event to an environment that did not have the one before.
func (l *Lambda) Invoke(event []byte) Invocation {
	e := l.take()
	answer := e.Invoke(event)
	l.giveBack(e)
	return answer
}

func (l *Lambda) take() *Environment {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served++
	for i, e := range l.warm {
		if l.settle || l.served%2 == 0 && e != l.last {
			l.warm = slices.Delete(l.warm, i, i+1)
			l.last = e
			return e
		}
	}
	e := l.start()
	l.last = e
	return e
}

func (l *Lambda) giveBack(e *Environment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.generation != l.generation {
		e.End()
		return
	}
	l.warm = append(l.warm, e)
	if len(l.warm) > maxWarm {
		l.warm[0].End()
		l.warm = l.warm[1:]
	}
}

// Cold starts an environment and freezes it, outside of the turns.
func (l *Lambda) Cold() *Environment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start()
}

// start needs l locked.
func (l *Lambda) start() *Environment {
	e := &Environment{t: l.t, generation: l.generation, idle: make(chan time.Time, 1), events: make(chan []byte), answers: make(chan Invocation, 1)}
	api := httptest.NewServer(e)
	l.t.Cleanup(func() { api.CloseClientConnections(); api.Close() })
	command := []string{filepath.Join(l.dir, "bootstrap")}
	if l.launch != "" {
		command = append([]string{l.launch}, command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = l.dir
	cmd.Env = append(slices.Clone(l.env), "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"), "BOUNCER_LAMBDA_INVOKE_MODE="+l.shape.mode)
	began := time.Now()
	e.proc = StartProcess(l.t, l.logs, "lambda", cmd)
	l.all = append(l.all, e)
	select {
	case ready := <-e.idle:
		if l.launch != "" {
			began, e.launched = e.proc.launched(l.t)
		}
		e.Init = ready.Sub(began)
	case <-e.proc.done:
		l.t.Logf("rig: lambda: the environment ended before it asked for work:\n%s", l.logs.Tail("lambda", 5))
		return e
	}
	e.freeze()
	return e
}

// Invocation is what a function made of an event.
type Invocation struct {
	ContentType string
	Body        []byte
	Err         error // it ended, or said that it failed
}

// Environment is one process and the Runtime API that it talks to.
type Environment struct {
	Init time.Duration // from exec to its first call for work

	t          T
	generation int
	proc       *Process
	launched   Usage          // what its process had used before the exec
	idle       chan time.Time // it has asked for work
	events     chan []byte
	answers    chan Invocation
}

// Invoke thaws the environment, gives it an event, waits for the answer and freezes it again.
func (e *Environment) Invoke(event []byte) Invocation {
	e.Thaw()
	answer := e.Deliver(event)
	e.freeze()
	return answer
}

// Thaw lets the environment run until the end of the next Invoke.
func (e *Environment) Thaw() { e.proc.resume() }

// Deliver gives an event to an environment that runs.
func (e *Environment) Deliver(event []byte) (answer Invocation) {
	select {
	case e.events <- event:
	case <-e.proc.done:
		return Invocation{Err: errors.New("the environment has ended")}
	}
	select {
	case answer = <-e.answers:
	case <-e.proc.done:
		return Invocation{Err: errors.New("the environment ended during the invocation")}
	}
	select { // an invocation lasts until the next one is asked for
	case <-e.idle:
	case <-e.proc.done:
	}
	return answer
}

func (e *Environment) freeze() {
	e.proc.stop()
	WaitFor(e.t, "the environment to be frozen", func() error {
		if e.proc.Exited() {
			return nil
		}
		if state, err := e.proc.stat(0); err != nil || state != "T" {
			return fmt.Errorf("state %q: %v", state, err)
		}
		return nil
	})
}

// End ends the environment without a word, as Lambda does.
func (e *Environment) End() { e.proc.Kill() }

// Usage returns what the environment has used until now.
func (e *Environment) Usage() Usage {
	u := e.proc.Usage(e.t)
	u.CPU -= e.launched.CPU
	u.Faults -= e.launched.Faults
	return u
}

// ServeHTTP plays the Runtime API, as AWS describes it for custom runtimes.
func (e *Environment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const base = "/2018-06-01/runtime/"
	path, ok := strings.CutPrefix(r.URL.Path, base)
	switch {
	case ok && r.Method == http.MethodGet && path == "invocation/next":
		e.idle <- time.Now()
		select {
		case event := <-e.events:
			h := w.Header()
			h.Set("Lambda-Runtime-Aws-Request-Id", uuid())
			h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(15*time.Second).UnixMilli()))
			h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:mcpbouncer")
			h.Set("Lambda-Runtime-Trace-Id", "Root=1-68d01f52-4dea0086f9763ac0667b115a;Sampled=0")
			h.Set("Content-Type", "application/json")
			_, _ = w.Write(event)
		case <-r.Context().Done():
		}
	case ok && r.Method == http.MethodPost && strings.HasPrefix(path, "invocation/") && strings.HasSuffix(path, "/response"):
		body, err := io.ReadAll(r.Body)
		e.answers <- Invocation{ContentType: r.Header.Get("Content-Type"), Body: body, Err: err}
		w.WriteHeader(http.StatusAccepted)
	case ok && r.Method == http.MethodPost && strings.HasSuffix(path, "/error"):
		body, _ := io.ReadAll(r.Body)
		e.answers <- Invocation{Err: fmt.Errorf("the function failed: %s", body)}
		w.WriteHeader(http.StatusAccepted)
	default:
		http.NotFound(w, r)
	}
}

func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	x := hex.EncodeToString(b)
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

// decode refuses what the receiver of an answer would not know.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("answer %.200q: %w", body, err)
	}
	return nil
}
