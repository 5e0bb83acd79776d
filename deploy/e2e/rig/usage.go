package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Usage is what a running process has used, as Linux counts it.
type Usage struct {
	CPU time.Duration // of all its threads
	// pages that it had to ask the kernel for, without those that were read from disk
	Faults int
	RSS    int // resident memory, bytes
	Peak   int // the most that it ever was
}

// Usage of the replica's process.
func (r *Replica) Usage() Usage {
	r.t.Helper()
	return r.proc.Usage(r.t)
}

// Usage of Traefik's process.
func (tr *Traefik) Usage(t T) Usage {
	t.Helper()
	return tr.proc.Usage(t)
}

// Usage of the server's process.
func (r *Redis) Usage() Usage {
	r.t.Helper()
	return r.proc.Usage(r.t)
}

// Usage of the service's process.
func (d *DynamoDB) Usage() Usage {
	d.t.Helper()
	return d.proc.Usage(d.t)
}

// Usage of the provider's process.
func (p *Provider) Usage(t T) Usage {
	t.Helper()
	return p.proc.Usage(t)
}

// Usage reads /proc. It fails the benchmark where there is none.
func (p *Process) Usage(t T) Usage {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", p.PID())
	threads, err := filepath.Glob(dir + "/task/*/schedstat")
	if err != nil || len(threads) == 0 {
		t.Fatalf("rig: usage: %d threads: %v", len(threads), err)
	}
	var u Usage
	// Go ends a thread hardly ever, so nothing is lost between two readings
	for _, file := range threads {
		text, err := os.ReadFile(file)
		var ns int64
		if err == nil {
			_, err = fmt.Sscan(string(text), &ns)
		}
		if err != nil {
			t.Fatalf("rig: usage: %v", err)
		}
		u.CPU += time.Duration(ns)
	}
	for field, into := range map[int]*int{7: &u.Faults, 21: &u.RSS} {
		var text string
		if text, err = p.stat(field); err == nil {
			_, err = fmt.Sscan(text, into)
		}
		if err != nil {
			t.Fatalf("rig: usage: %v", err)
		}
	}
	status, errStatus := os.ReadFile(dir + "/status")
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	if _, errPeak := fmt.Sscan(peak, &u.Peak); errStatus != nil || errPeak != nil {
		t.Fatalf("rig: usage: %v, %v", errStatus, errPeak)
	}
	u.RSS *= os.Getpagesize()
	u.Peak *= 1024
	return u
}

// launched is what cmd/launcher noted directly before the exec: when it was, and what the process
// had used.
func (p *Process) launched(t T) (at time.Time, u Usage) {
	t.Helper()
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID()))
	_, note, _ := strings.Cut(string(env), "RIG_EXEC=")
	var ns int64
	if _, errNote := fmt.Sscan(note, &ns, (*int64)(&u.CPU), &u.Faults); err != nil || errNote != nil {
		t.Fatalf("rig: launched: %v, %v", err, errNote)
	}
	return time.Unix(0, ns), u
}

// stat is a field of /proc/PID/stat, counted from 0 after the command name, which may hold spaces:
// the state is 0, the faults are 7, the resident pages are 21.
func (p *Process) stat(field int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fields[field], nil
}

// ReadyAfter kills the process, starts it again and tells how long it took from exec to the first
// answer.
func (r *Replica) ReadyAfter() time.Duration {
	r.t.Helper()
	r.Kill()
	start := time.Now()
	r.Start(nil)
	return time.Since(start)
}
