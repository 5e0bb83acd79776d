//go:build !linux

package rig

import "os/exec"

// StartOnTerminal is for Linux.
func StartOnTerminal(t T, _ *Logs, name string, _ *exec.Cmd) *Process {
	t.Helper()
	t.Fatalf("rig: %s: only Linux has terminals here", name)
	return nil
}
