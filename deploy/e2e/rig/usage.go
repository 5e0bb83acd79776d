package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Usage is what the running process has used, as Linux counts it.
type Usage struct {
	CPU time.Duration // of all its threads
	RSS int           // resident memory, bytes
}

// Usage reads /proc. It fails the benchmark where there is none.
func (r *Replica) Usage() Usage {
	r.t.Helper()
	dir := fmt.Sprintf("/proc/%d", r.proc.PID())
	threads, err := filepath.Glob(dir + "/task/*/schedstat")
	if err != nil || len(threads) == 0 {
		r.t.Fatalf("rig: usage: %d threads: %v", len(threads), err)
	}
	var u Usage
	for _, file := range threads { // Go ends a thread hardly ever, so nothing is lost between two readings
		text, err := os.ReadFile(file)
		var ns int64
		if err == nil {
			_, err = fmt.Sscan(string(text), &ns)
		}
		if err != nil {
			r.t.Fatalf("rig: usage: %v", err)
		}
		u.CPU += time.Duration(ns)
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		r.t.Fatalf("rig: usage: %v", err)
	}
	// Fields after the command name, which may hold spaces: rss is the 22nd.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if _, err := fmt.Sscan(fields[21], &u.RSS); err != nil {
		r.t.Fatalf("rig: usage: %v", err)
	}
	u.RSS *= os.Getpagesize()
	return u
}

// ReadyAfter kills the process, starts it again and tells how long it took from exec to the first answer.
func (r *Replica) ReadyAfter() time.Duration {
	r.t.Helper()
	r.Kill()
	start := time.Now()
	r.Start(nil)
	return time.Since(start)
}
