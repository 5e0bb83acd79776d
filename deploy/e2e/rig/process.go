package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// T is the part of testing.TB that the rig needs.
type T interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Failed() bool
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	TempDir() string
}

// Root returns the root of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
}

// Tool names a program that tools.sh has built.
func Tool(t T, name string) string {
	t.Helper()
	path := filepath.Join(Root(), "build", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("rig: %s is not built, run deploy/e2e/tools.sh: %v", name, err)
	}
	return path
}

// WaitFor polls until ready returns nil.
func WaitFor(t T, what string, ready func() error) {
	t.Helper()
	WaitWithin(t, 20*time.Second, what, ready)
}

// WaitWithin is WaitFor with a limit of its own.
func WaitWithin(t T, limit time.Duration, what string, ready func() error) {
	t.Helper()
	began := time.Now()
	for {
		err := ready()
		if err == nil {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("rig: %s: not within %s: %v", what, limit, err)
		}
		<-time.After(Pause(began))
	}
}

// Pause is how long who has waited since began waits before the next look: a tenth as long again,
// for each look takes processor time from what is looked for.
func Pause(began time.Time) time.Duration {
	return min(max(time.Since(began)/10, 3*time.Millisecond), 50*time.Millisecond)
}

// Ports for processes and restarted listeners. They lie below the range from which systems take the
// ports of outgoing connections, and none is given out twice: between two starts nobody else may
// get it.
const firstPort, lastPort = 20_000, 32_000

var (
	portsMu  sync.Mutex
	nextPort = firstPort + rand.IntN(lastPort-firstPort)
)

// FreePort finds a loopback port that is free now.
func FreePort(t T) int {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for range lastPort - firstPort {
		nextPort++
		if nextPort > lastPort {
			nextPort = firstPort
		}
		// No process may be started meanwhile: it would hold a copy of the listener, and with it
		// the port, until it becomes another program.
		syscall.ForkLock.RLock()
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err == nil {
			err = l.Close()
		}
		syscall.ForkLock.RUnlock()
		if err == nil {
			return nextPort
		}
	}
	t.Fatalf("rig: no free port from %d to %d", firstPort, lastPort)
	return 0
}

// Logs keeps what each process wrote, by process name, over restarts.
type Logs struct {
	mu    sync.Mutex
	names []string
	text  map[string]*bytes.Buffer
}

// Text returns everything that the named process wrote.
func (l *Logs) Text(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.text[name]; b != nil {
		return b.String()
	}
	return ""
}

// Names lists the processes that were started.
func (l *Logs) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.names...)
}

// Tail returns the end of what the named process wrote.
func (l *Logs) Tail(name string, lines int) string {
	all := strings.Split(strings.TrimRight(l.Text(name), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (l *Logs) writer(name string) logWriter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == nil {
		l.text = map[string]*bytes.Buffer{}
	}
	if l.text[name] == nil {
		l.text[name] = &bytes.Buffer{}
		l.names = append(l.names, name)
	}
	return logWriter{l, l.text[name]}
}

type logWriter struct {
	logs *Logs
	buf  *bytes.Buffer
}

func (w logWriter) Write(p []byte) (int, error) {
	w.logs.mu.Lock()
	defer w.logs.mu.Unlock()
	return w.buf.Write(p)
}

// Process is a running program. It ends with the test at the latest.
type Process struct {
	Name string

	cmd  *exec.Cmd
	done chan struct{}

	terminal io.Writer // of a program that StartOnTerminal has started
}

// Type types on the program's terminal.
func (p *Process) Type(t T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.terminal, text); err != nil {
		t.Fatalf("rig: %s: %v", p.Name, err)
	}
}

// StartProcess starts cmd and sends what it writes to logs.
func StartProcess(t T, logs *Logs, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	w := logs.writer(name)
	cmd.Stdout, cmd.Stderr = w, w
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("rig: %s: %v", name, err)
	}
	p := &Process{Name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited says whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Kill ends the process at once, as a crash or a lost machine would, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// stop halts the process, as a machine that swaps or a virtual one that moves does; resume lets it
// go on.
func (p *Process) stop()   { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *Process) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Terminate asks the process to end and waits until it is gone; it returns the exit code.
func (p *Process) Terminate(t T) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.Wait(t)
}

// Wait waits until the process has ended by itself and returns its exit code.
func (p *Process) Wait(t T) int {
	t.Helper()
	WaitWithin(t, time.Minute, p.Name+" to end", func() error { // some of them have a lot to do
		if !p.Exited() {
			return errors.New("still running")
		}
		return nil
	})
	return p.cmd.ProcessState.ExitCode()
}

// Say waits until the process has written something that matches, and returns its last group.
func (p *Process) Say(t T, logs *Logs, pattern *regexp.Regexp) string {
	t.Helper()
	var found []string
	p.waitFor(t, logs, func() error {
		if found = pattern.FindStringSubmatch(logs.Text(p.Name)); found == nil {
			return fmt.Errorf("has not written %s", pattern)
		}
		return nil
	})
	return found[len(found)-1]
}

// waitFor polls until ready returns nil, and gives up early when the process has ended.
func (p *Process) waitFor(t T, logs *Logs, ready func() error) {
	t.Helper()
	var ended error
	// some of them have 200 MB to load
	WaitWithin(t, time.Minute, p.Name+" to be ready", func() error {
		if p.Exited() {
			ended = fmt.Errorf("%s ended with %s:\n%s", p.Name, p.cmd.ProcessState, logs.Tail(p.Name, 20))
			return nil
		}
		return ready()
	})
	if ended != nil {
		t.Fatalf("rig: %v", ended)
	}
}
