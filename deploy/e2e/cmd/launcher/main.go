// launcher becomes the program that its arguments name. Directly before that it notes in the
// variable RIG_EXEC what the rig could not know: the time, and what its process had used until
// then, which Linux goes on counting. Starting a process takes a large test binary 1 to 2 ms on a
// slow machine; they would be counted as the program's.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// the thread that becomes the program is the one whose use is noted
func init() { runtime.LockOSThread() }

func main() {
	schedstat, err1 := os.ReadFile("/proc/thread-self/schedstat")
	stat, err2 := os.ReadFile("/proc/self/stat")
	if err1 != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, "launcher:", err1, err2)
		os.Exit(1)
	}
	cpu := strings.Fields(string(schedstat))[0]
	faults := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[7]
	env := append(os.Environ(), fmt.Sprintf("RIG_EXEC=%d %s %s", time.Now().UnixNano(), cpu, faults))
	fmt.Fprintln(os.Stderr, "launcher:", syscall.Exec(os.Args[1], os.Args[1:], env))
	os.Exit(1)
}
