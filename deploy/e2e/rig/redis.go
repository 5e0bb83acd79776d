package rig

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Redis is a real redis-server, as the shared replay guard has it.
type Redis struct {
	URL string // for BOUNCER_REPLAY_GUARD

	t    T
	logs *Logs
	port string
	args []string
	proc *Process
}

// StartRedis starts a server as docs/replay.md wants it, that keeps everything over restarts. args
// are further options.
func StartRedis(t T, logs *Logs, args ...string) *Redis {
	t.Helper()
	port := strconv.Itoa(FreePort(t))
	r := &Redis{URL: "redis://127.0.0.1:" + port, t: t, logs: logs, port: port}
	r.args = append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--maxmemory-policy", "noeviction",
		"--save", "", "--appendonly", "yes", "--appendfsync", "always",
	}, args...)
	r.Start()
	return r
}

// Start starts the server, with further options, and returns when it answers.
func (r *Redis) Start(args ...string) {
	r.t.Helper()
	r.proc = StartProcess(r.t, r.logs, "redis", exec.Command("redis-server", slices.Concat(r.args, args)...))
	r.proc.waitFor(r.t, r.logs, func() error {
		if out, err := r.cli("PING"); err != nil || out != "PONG" {
			return fmt.Errorf("redis: %q: %v", out, err)
		}
		return nil
	})
}

// Kill ends the server at once. What it had answered it still knows when it starts again.
func (r *Redis) Kill() { r.proc.Kill() }

// Empty makes the server forget everything, as one without persistence does over a restart.
func (r *Redis) Empty() { r.Do("FLUSHALL") }

// Stall keeps the server from answering anything until Wake. Its connections stay, and it takes new
// ones.
func (r *Redis) Stall() { r.proc.stop() }

// Wake ends Stall.
func (r *Redis) Wake() { r.proc.resume() }

// Fill leaves the server no memory: it refuses to write from now on, until Drain.
func (r *Redis) Fill() { r.Do("CONFIG", "SET", "maxmemory", "1") }

// Drain gives the memory back.
func (r *Redis) Drain() { r.Do("CONFIG", "SET", "maxmemory", "0") }

// Do gives a command and returns the answer, which must not be an error.
func (r *Redis) Do(command ...string) string {
	r.t.Helper()
	out, err := r.cli(command...)
	if err != nil {
		r.t.Fatalf("rig: redis %s: %v", strings.Join(command, " "), err)
	}
	return out
}

// Age lets so much time pass for everything that the server keeps: it has no clock that could be
// set.
func (r *Redis) Age(d time.Duration) {
	r.t.Helper()
	r.Do("EVAL", `for _, key in ipairs(redis.call("KEYS", "*")) do
		local left = redis.call("PTTL", key)
		if left >= 0 then redis.call("PEXPIRE", key, left - tonumber(ARGV[1])) end
	end`, "0", strconv.FormatInt(d.Milliseconds(), 10))
}

// Keys lists the keys that are there.
func (r *Redis) Keys() []string {
	r.t.Helper()
	return strings.Fields(r.Do("KEYS", "*"))
}

func (r *Redis) cli(command ...string) (string, error) {
	out, err := exec.Command("redis-cli", append([]string{"-e", "-p", r.port, "--raw"}, command...)...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return text, err
}
