package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// process is what one start of the sidecar took: bytes, milliseconds from exec to the first good
// answer of /healthz, and resident KB then.
type process struct{ size, ready, rss float64 }

// startsEach is how often the sidecar is started: starts scatter.
const startsEach = 25

// starts are the program, its start and its memory, without metrics and with them; of a base, which
// may not have them, always without.
func (b *bench) starts() {
	keys := rig.Keygen(b.t, &rig.Secrets{})
	for _, c := range []struct{ name, metrics string }{{"start/ready", ""}, {"start/ready, metrics on", "127.0.0.1:0"}} {
		if !b.wants(c.name) {
			continue
		}
		for n := range startsEach {
			for j := range b.sides {
				s := b.sides[(n+j)%len(b.sides)]
				env := []string{"BOUNCER_ENCRYPTION_KEY=" + keys.Encryption}
				if c.metrics != "" && s == b.sides[0] {
					env = append(env, "BOUNCER_METRICS_ADDR="+c.metrics)
				}
				p, err := startOnce(s.sidecar(b.t), env)
				if err != nil {
					b.t.Fatalf("%s: %v", c.name, err)
				}
				b.note(s, c.name, "ms", p.ready)
				b.note(s, c.name, "rss_mb", p.rss/1000)
				if n == 0 && c.metrics == "" {
					b.note(s, "start/program", "mb", p.size/1e6)
				}
			}
		}
	}
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
