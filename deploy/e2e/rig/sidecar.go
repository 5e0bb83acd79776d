package rig

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Keys are what `mcpbouncer keygen` prints.
type Keys struct {
	Encryption string // BOUNCER_ENCRYPTION_KEY
	Hop        string // BOUNCER_HOP_KEY
}

// Keygen runs `mcpbouncer keygen`.
func Keygen(t T, secrets *Secrets) Keys {
	t.Helper()
	out, err := exec.Command(Tool(t, "mcpbouncer"), "keygen").Output()
	if err != nil {
		t.Fatalf("rig: mcpbouncer keygen: %v", err)
	}
	var k Keys
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "BOUNCER_ENCRYPTION_KEY="); ok {
			k.Encryption = v
		}
		if v, ok := strings.CutPrefix(line, "BOUNCER_HOP_KEY="); ok {
			k.Hop = v
		}
	}
	if k.Encryption == "" || k.Hop == "" {
		t.Fatalf("rig: mcpbouncer keygen printed no BOUNCER_ENCRYPTION_KEY= and BOUNCER_HOP_KEY= lines: %q", out)
	}
	secrets.Add("master secret", k.Encryption)
	secrets.Add("hop key", k.Hop)
	return k
}

// Replica is one sidecar process. Its whole file system is the program and two files about names,
// and read-only, as in the container image: it can write nowhere.
type Replica struct {
	Name string
	Addr string

	t     T
	logs  *Logs
	env   map[string]string
	root  string
	more  map[string][]byte // files of the image beyond imageFiles
	clock string            // file that says how wrong its clock is; empty for a real clock

	mu   sync.Mutex
	proc *Process
	old  []*Process
}

// StartReplica starts a sidecar. more are files of its image, by path without a leading slash; one
// that is named mcpbouncer is the program.
func StartReplica(t T, logs *Logs, name string, env map[string]string, more map[string][]byte) *Replica {
	t.Helper()
	r := &Replica{
		Name: name, Addr: fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
		t: t, logs: logs, env: maps.Clone(env), root: imageRoot(t, "mcpbouncer", more), more: more,
	}
	r.Start(nil)
	return r
}

// StartClockReplica starts a sidecar whose clock the test sets, and whose BOUNCER_KEY_ROTATION_DAYS
// are minutes (../clock/build.sh). All else is the same program.
func StartClockReplica(t T, logs *Logs, name string, env map[string]string, more map[string][]byte) *Replica {
	t.Helper()
	more = maps.Clone(more)
	if more == nil {
		more = map[string][]byte{}
	}
	more[clockFile] = make([]byte, 8)
	r := &Replica{
		Name: name, Addr: fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
		t: t, logs: logs, env: maps.Clone(env), root: imageRoot(t, "mcpbouncer-clock", more), more: more,
	}
	r.clock = filepath.Join(r.root, clockFile)
	if err := os.Chmod(r.clock, 0o644); err != nil {
		t.Fatalf("rig: clock: %v", err)
	}
	r.Start(map[string]string{"RIG_CLOCK": clockFile})
	return r
}

const clockFile = "clock"

// SetClock makes the replica's clock wrong by so much, at once and over restarts. Timers are not
// clocks: they run on.
func (r *Replica) SetClock(wrong time.Duration) {
	r.t.Helper()
	f, err := os.OpenFile(r.clock, os.O_WRONLY, 0)
	if err == nil {
		// One write of an aligned word, which the process reads as one.
		_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(wrong/time.Second)), 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		r.t.Fatalf("rig: clock: %v", err)
	}
}

// PutFile changes a file of the image, as somebody does in a folder that a container has mounted
// read-only.
func (r *Replica) PutFile(path string, content []byte) {
	r.t.Helper()
	name := filepath.Join(r.root, path)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name+".new", content, 0o644)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		r.t.Fatalf("rig: %s: %v", path, err)
	}
}

// Process names the running process among all that this replica has been.
func (r *Replica) Process() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%s-%d", r.Name, len(r.old))
}

// Start starts the process with some variables changed, and returns when it is healthy.
func (r *Replica) Start(env map[string]string) {
	r.t.Helper()
	maps.Copy(r.env, env)
	cmd := r.command("serve")
	proc := StartProcess(r.t, r.logs, r.Name, cmd)
	r.mu.Lock()
	r.proc, r.old = proc, append(r.old, proc)
	r.mu.Unlock()
	r.proc.waitFor(r.t, r.logs, func() error { return expectStatus("http://"+r.Addr+"/healthz", http.StatusOK) })
}

func (r *Replica) command(args ...string) *exec.Cmd {
	cmd := inImage(r.t, r.root, args...)
	cmd.Env = []string{"BOUNCER_LISTEN_ADDR=" + r.Addr, "BOUNCER_LOG_LEVEL=debug"}
	for k, v := range r.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// Exec runs another command of the program in the image, with the variables of the replica, as
// docker exec does.
func (r *Replica) Exec(in io.Reader, out io.Writer, args ...string) error {
	r.t.Helper()
	cmd := r.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	return cmd.Run()
}

// Kill ends the process at once.
func (r *Replica) Kill() { r.proc.Kill() }

// Terminate asks the process to end and returns its exit code.
func (r *Replica) Terminate() int {
	r.t.Helper()
	return r.proc.Terminate(r.t)
}

// Restart kills the process and starts another with some variables changed. Nothing of the first
// survives.
func (r *Replica) Restart(env map[string]string) {
	r.t.Helper()
	r.Kill()
	r.Start(env)
}

// Replace kills the process and starts another program in its place, with the same variables.
func (r *Replica) Replace(program string) {
	r.t.Helper()
	r.Kill()
	r.put(program)
	r.Start(nil)
}

// Upgrade is Replace as a container engine does it: the process may finish what it has begun.
func (r *Replica) Upgrade(program string) {
	r.t.Helper()
	if status := r.Terminate(); status != 0 {
		r.t.Fatalf("rig: %s ended with status %d", r.Name, status)
	}
	r.put(program)
	r.Start(nil)
}

func (r *Replica) put(program string) {
	r.t.Helper()
	name := filepath.Join(r.root, "mcpbouncer")
	text, err := os.ReadFile(program)
	if err == nil {
		err = os.Chmod(r.root, 0o755)
	}
	if err == nil {
		err = os.Remove(name)
	}
	if err == nil {
		err = os.WriteFile(name, text, 0o555)
	}
	if err == nil {
		err = os.Chmod(r.root, 0o555)
	}
	if err != nil {
		r.t.Fatalf("rig: program: %v", err)
	}
}

// BuildSidecar builds the sidecar with some of its sources edited; files are relative to the
// repository. It returns the program's name.
func BuildSidecar(t T, edits map[string]func(text string) string) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, edit := range edits {
		original := filepath.Join(Root(), file)
		text, err := os.ReadFile(original)
		if err != nil {
			t.Fatalf("rig: %v", err)
		}
		edited := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(edited, []byte(edit(string(text))), 0o600); err != nil {
			t.Fatalf("rig: %v", err)
		}
		overlay.Replace[original] = edited
	}
	program := filepath.Join(dir, "mcpbouncer")
	cmd := exec.Command("go", "build", "-overlay", writeJSON(t, "overlay.json", overlay), "-ldflags=-s -w", "-o", program, "./cmd/mcpbouncer")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rig: the edited sidecar does not build: %v\n%s", err, out)
	}
	return program
}

// Starts counts the processes that this replica has been.
func (r *Replica) Starts() int { return len(r.old) }

// WroteNothing returns an error when the running process has written a byte to a file system, holds
// a file open for writing, or when something new lies in its image.
func (r *Replica) WroteNothing() error {
	err := fs.WalkDir(os.DirFS(r.root), ".", func(path string, d fs.DirEntry, err error) error {
		if _, mounted := r.more[path]; err == nil && !d.IsDir() && !mounted && !slices.Contains(imageFiles, path) {
			err = fmt.Errorf("%s appeared", path)
		}
		return err
	})
	if err != nil {
		return err
	}
	// The kernel's own count. Logs go to a pipe and are not in it.
	proc := fmt.Sprintf("/proc/%d", r.proc.PID())
	if io, err := os.ReadFile(proc + "/io"); err == nil && !strings.Contains(string(io), "\nwrite_bytes: 0\n") {
		return fmt.Errorf("%s wrote to storage:\n%s", r.Name, io)
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return nil // no procfs here
	}
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if !strings.HasPrefix(target, "/") || target == os.DevNull {
			continue
		}
		// Go's runtime keeps its cgroup limits open, for reading; flags is octal and ends in the
		// access mode.
		info, _ := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		_, flags, _ := strings.Cut(string(info), "flags:")
		flags, _, _ = strings.Cut(strings.TrimSpace(flags), "\n")
		if mode, err := strconv.ParseInt(flags, 8, 64); err != nil || mode&syscall.O_ACCMODE != syscall.O_RDONLY {
			return fmt.Errorf("%s holds %s open for writing", r.Name, target)
		}
	}
	return nil
}

// imageFiles is all that is in the image: the program, and what a container engine mounts so that
// names resolve.
var imageFiles = []string{"mcpbouncer", "etc/hosts", "etc/resolv.conf"}

func imageRoot(t T, tool string, more map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	program, err := os.ReadFile(Tool(t, tool))
	if other := more["mcpbouncer"]; other != nil {
		program = other
	}
	if err == nil {
		err = writeProgram(filepath.Join(root, "mcpbouncer"), program, 0o555)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(root, "etc"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc", "hosts"), []byte("127.0.0.1 localhost\n"), 0o444)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc", "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o444)
	}
	for path, content := range more {
		if path == "mcpbouncer" {
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, path), content, 0o444)
		}
	}
	for _, dir := range []string{"etc", "."} {
		if err == nil {
			err = os.Chmod(filepath.Join(root, dir), 0o555)
		}
	}
	if err != nil {
		t.Fatalf("rig: image: %v", err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(root, 0o755)
		_ = os.Chmod(filepath.Join(root, "etc"), 0o755)
	})
	return root
}

// enterImage makes the folder $0 the whole, read-only file system of "$@". It stays one process, so
// that a signal reaches the program itself.
const enterImage = `mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec chroot "$0" "$@"`

// confinement finds out once which of the two ways works on this machine.
var confinement = sync.OnceValue(func() []string {
	for _, flags := range [][]string{{"-m"}, {"-r", "-m"}} {
		args := append(slices.Clone(flags), "sh", "-c", enterImage)
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			return nil
		}
		// chroot then finds no program in the empty folder: 127 says that everything before it
		// worked.
		err = exec.Command("unshare", append(args, dir, "/none")...).Run()
		_ = os.Remove(dir)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 127 {
			return args
		}
	}
	return nil
})

// Confined says whether replicas run in a mount namespace whose only file system is the read-only
// image. Where the machine does not allow that, they run in the image's folder without write
// permission.
func Confined() bool { return confinement() != nil }

func inImage(t T, root string, args ...string) *exec.Cmd {
	t.Helper()
	if confined := confinement(); confined != nil {
		return exec.Command("unshare", append(append(slices.Clone(confined), root, "/mcpbouncer"), args...)...)
	}
	cmd := exec.Command(filepath.Join(root, "mcpbouncer"), args...)
	cmd.Dir = root
	return cmd
}

// Sidecar is where requests to one sidecar go: a replica, or a Lambda.
type Sidecar struct {
	Name, Addr string
	Process    func() string // names the process that answers; nil: nobody asks
}

// Front stands where a load balancer stands: each request goes to the next sidecar in turn.
type Front struct {
	URL string

	t        T
	secrets  *Secrets
	addr     string
	sidecars []Sidecar
	server   *http.Server

	// one request at a time while a hook is set: the hook may restart whatever it likes
	turn   sync.Mutex
	mu     sync.Mutex
	before func(n int, r *http.Request)
	only   string
	n      int
	out    string         // gets no request
	busy   map[string]int // requests under way, by sidecar
	hops   []string
	asked  []string
	tokens []TokenRequest
}

// TokenRequest is one request to a sidecar's token endpoint.
type TokenRequest struct {
	Header http.Header
	Form   url.Values
	Status int // of the answer
}

// StartFront starts the front.
func StartFront(t T, secrets *Secrets, sidecars ...Sidecar) *Front {
	f := &Front{t: t, secrets: secrets, addr: fmt.Sprintf("127.0.0.1:%d", FreePort(t)), sidecars: sidecars, busy: map[string]int{}}
	f.URL = "http://" + f.addr
	f.Up()
	t.Cleanup(f.Down)
	return f
}

// Up opens the front's listener.
func (f *Front) Up() {
	f.t.Helper()
	var l net.Listener
	WaitFor(f.t, "front", func() (err error) {
		l, err = net.Listen("tcp", f.addr)
		return err
	})
	f.server = &http.Server{Handler: f}
	go func() { _ = f.server.Serve(l) }()
}

// Down closes the listener and every connection: the sidecar cannot be reached.
func (f *Front) Down() { _ = f.server.Close() }

// Before sets a hook that runs before each request is passed on; n counts them. While it is set,
// requests pass one by one.
func (f *Front) Before(hook func(n int, r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = hook
}

// Only sends every request to the named sidecar from now on; "" ends that.
func (f *Front) Only(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.only = name
}

// Drain sends nothing to the named sidecar from now on, and returns when it has answered what it
// had. "" ends that.
func (f *Front) Drain(name string) {
	f.t.Helper()
	f.mu.Lock()
	f.out = name
	f.mu.Unlock()
	WaitFor(f.t, name+" to be drained", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := f.busy[name]; n > 0 {
			return fmt.Errorf("%d requests are under way", n)
		}
		return nil
	})
}

// Hops lists the hop headers that the plugin has sent.
func (f *Front) Hops() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.hops)
}

// Asked lists what was asked of the sidecars: "name METHOD path".
func (f *Front) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// ProcessHeader is added by the front to each answer: the process that gave it.
const ProcessHeader = "X-Rig-Process"

// A killed replica leaves dead connections behind, so none is kept.
var frontTransport = &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second}

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	n, before := f.n, f.before
	f.n++
	to := f.sidecars[n%len(f.sidecars)]
	if to.Name == f.out {
		to = f.sidecars[(n+1)%len(f.sidecars)]
	}
	for _, sidecar := range f.sidecars {
		if sidecar.Name == f.only {
			to = sidecar
		}
	}
	f.asked = append(f.asked, to.Name+" "+r.Method+" "+r.URL.Path)
	if hop := r.Header.Get("X-Mcpb-Hop"); hop != "" {
		f.hops = append(f.hops, hop)
	}
	f.busy[to.Name]++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.busy[to.Name]--
		f.mu.Unlock()
	}()
	f.secrets.addHeader(r.Header)
	if before != nil {
		f.turn.Lock()
		defer f.turn.Unlock()
		before(n, r)
	}
	body, err := Hold(r)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: to.Addr})
			p.Out.Host = p.In.Host
		},
		Transport: frontTransport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprintf(w, "front: %s: %v", to.Name, err)
		},
		ModifyResponse: func(resp *http.Response) error {
			f.secrets.addHeader(resp.Header)
			if r.URL.Path == "/oauth/token" {
				form, _ := url.ParseQuery(string(body))
				f.mu.Lock()
				f.tokens = append(f.tokens, TokenRequest{r.Header.Clone(), form, resp.StatusCode})
				f.mu.Unlock()
			}
			if to.Process != nil {
				resp.Header.Set(ProcessHeader, to.Process())
			}
			return nil
		},
	}).ServeHTTP(w, r)
}

// AskReplica sends a request straight to a replica, past Traefik and plugin, with the given hop
// header (none when empty).
func AskReplica(ctx context.Context, r *Replica, method, path, hop string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Addr+path, nil)
	if err != nil {
		return 0, "", err
	}
	if hop != "" {
		req.Header.Set("X-Mcpb-Hop", hop)
	}
	resp, err := frontTransport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
