package rig

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Usage is what the running process has used, as Linux counts it.
type Usage struct {
	CPU time.Duration // user and system, in steps of 10 ms
	RSS int           // resident memory, bytes
}

// Usage reads /proc. It fails the benchmark where there is none.
func (r *Replica) Usage() Usage {
	r.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.proc.PID()))
	if err != nil {
		r.t.Fatalf("rig: usage: %v", err)
	}
	// Fields after the command name, which may hold spaces: utime and stime are the 12th and 13th, rss the 22nd.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var utime, stime, rss int
	if _, err := fmt.Sscan(fields[11]+" "+fields[12]+" "+fields[21], &utime, &stime, &rss); err != nil {
		r.t.Fatalf("rig: usage: %v", err)
	}
	const tick = 10 * time.Millisecond // sysconf(_SC_CLK_TCK) is 100 on every Linux that Go supports
	return Usage{time.Duration(utime+stime) * tick, rss * os.Getpagesize()}
}

// ReadyAfter kills the process, starts it again and tells how long it took from exec to the first answer.
func (r *Replica) ReadyAfter() time.Duration {
	r.t.Helper()
	r.Kill()
	start := time.Now()
	r.Start(nil)
	return time.Since(start)
}
