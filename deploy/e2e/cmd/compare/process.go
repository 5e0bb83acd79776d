package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// processLimits are how many times as large the sidecar as a process may be: its stripped binary,
// the time from exec to the first good answer of /healthz, and its resident memory then.
var processLimits = []struct {
	row   string
	unit  string
	limit float64
	of    func(process) float64
}{
	{"binary", "bytes", 1.15, func(p process) float64 { return p.size }},
	{"start to ready", "ms", 1.1, func(p process) float64 { return p.ready }},
	{"idle memory (VmRSS)", "KB", 1.15, func(p process) float64 { return p.rss }},
}

// process is what one start of the sidecar took.
type process struct{ size, ready, rss float64 }

// starts is how often each side is started, in turn.
const starts = 25

// compareProcesses prints the rows of the sidecar as a process, without metrics and with them where
// the revision has them, and says how many are over their limit. Starts scatter in both directions,
// so the median counts here.
func compareProcesses(sides [2]revision, dir string) (over int, err error) {
	var binaries [2]string
	for i := range sides {
		binaries[i] = filepath.Join(dir, fmt.Sprint("sidecar", i))
		tags, err := tagsOfImage(sides[i].root)
		if err != nil {
			return 0, err
		}
		build := exec.Command("go", "build", "-trimpath", "-tags", tags, "-ldflags=-s -w", "-o", binaries[i], "./cmd/mcpbouncer")
		build.Dir, build.Env = sides[i].root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("cmd/mcpbouncer: %v: %s", err, out)
		}
	}
	keys, err := output(binaries[0], "keygen")
	if err != nil {
		return 0, err
	}
	master := keys[strings.Index(keys, "BOUNCER_ENCRYPTION_KEY="):]
	master, _, _ = strings.Cut(master, "\n")
	for _, c := range []struct{ name, metrics string }{{"", ""}, {", metrics on", "127.0.0.1:0"}} {
		var seen [2][]process
		for n := range starts {
			for turn := range 2 {
				i := (n + turn) % 2
				env := []string{master}
				if c.metrics != "" && i == 1 { // the base is without them
					env = append(env, "BOUNCER_METRICS_ADDR="+c.metrics)
				}
				p, err := startOnce(binaries[i], env)
				if err != nil {
					return 0, err
				}
				seen[i] = append(seen[i], p)
			}
		}
		for _, l := range processLimits {
			before, after := medianOf(seen[0], l.of), medianOf(seen[1], l.of)
			mark := ""
			if after/before > l.limit {
				mark = "  OVER"
				over++
			}
			fmt.Printf("%-8s %-48s %12.1f %12.1f %-5s %19.3f of %.2f%s\n", "process", l.row+c.name, before, after, l.unit,
				after/before, l.limit, mark)
		}
	}
	return over, nil
}

// tagsOfImage are the tags that a revision builds its image with: none, or one.
func tagsOfImage(root string) (string, error) {
	file, err := os.ReadFile(filepath.Join(root, "deploy", "compose", "Dockerfile"))
	if err != nil {
		return "", err
	}
	if found := regexp.MustCompile(`-tags (\S+) .*/cmd/mcpbouncer`).FindSubmatch(file); found != nil {
		return string(found[1]), nil
	}
	return "", nil
}

func medianOf(all []process, of func(process) float64) float64 {
	values := make([]float64, len(all))
	for i, p := range all {
		values[i] = of(p)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// startOnce starts the sidecar, waits for its health, reads its memory and ends it.
func startOnce(binary string, env []string) (p process, err error) {
	info, err := os.Stat(binary)
	if err != nil {
		return p, err
	}
	p.size = float64(info.Size())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return p, err
	}
	address := listener.Addr().String()
	listener.Close()
	cmd := exec.Command(binary, "serve")
	cmd.Env = append([]string{"BOUNCER_LISTEN_ADDR=" + address}, env...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return p, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for time.Since(began) < 10*time.Second {
		if resp, errGet := http.Get("http://" + address + "/healthz"); errGet == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				p.ready = float64(time.Since(began).Microseconds()) / 1000
				return p, p.readMemory(cmd.Process.Pid)
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	return p, fmt.Errorf("%s did not become ready in ten seconds", binary)
}

func (p *process) readMemory(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rest, &p.rss)
	return err
}
